#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# What a review of exclusive ranges has found: each was a way to get one range twice, or
# to keep others from theirs.

load helpers

LEASES=/run/userns-runtime/leases

eval "$(declare -f setup | sed '1s/setup/load_setup/')"
setup() {
	rm -rf /run/userns-runtime
	load_setup
	process sleep 1000
	room 2
}

# launch ROOT ID [ARGS...]: a container of that ID that sleeps, in a cgroup of its own; init
# is its process.
launch() {
	local root=$1 id=$2
	shift 2
	update_config '.linux.cgroupsPath = $path' --arg path "/$UR_TAG-$(basename "$root")-$id"
	must "$OURS" "${owner[@]}" --config "$CONF" --root "$root" run -d --pid-file "$W/pid" -b "$B" "$@" "$id"
	init=$(<"$W/pid")
}
owner=()

first() { awk '{print $2}' "/proc/$1/uid_map"; }

@test "leases, attacked: a process that leaves its place to a child, again and again" {
	local i
	mkdir -p /run/hooks
	printf '%s\n' '#!/bin/sh' '[ -e /run/hooks/stop ] || exec sh -c "sh /run/hooks/hop &"' >/run/hooks/hop
	chmod 0755 /run/hooks /run/hooks/hop
	launch "$W/ours" "$CT-a"
	nsenter --target "$init" --user --setuid 0 --setgid 0 -- /run/hooks/hop </dev/null >"$W/o" 2>&1 3>&-
	must ours delete -f "$CT-a"
	# Whichever it is by now, it is seen, or it can't be told; both hold the range, however
	# often somebody asks.
	for ((i = 0; i < 300; i++)); do "$CTL" gc >/dev/null; done
	is process "$("$CTL" leases --json | jq -r '.[].state')"
	touch /run/hooks/stop
	eventually eval '"$CTL" gc >/dev/null && [[ -z $("$CTL" leases --json | jq -r ".[].state") ]]'
	rm -rf /run/hooks
}

@test "leases, attacked: an engine in a PID namespace of its own makes the lost directory again" {
	local a
	launch "$W/ours" "$CT"
	a=$(first "$init")
	rm -rf /run/userns-runtime
	# It sees nothing of the first one, so with the same owner its range may be the same. What it
	# makes, for another owner, isn't believed from outside to be all there is.
	book "dockroot:$START:$COUNT:" "dockroot:$((START + COUNT)):$COUNT:" "bob:$((START + 2 * COUNT)):$COUNT:"
	mkdir "$W/inner"
	update_config '.linux.cgroupsPath = $path' --arg path "/$UR_TAG-inner"
	must unshare --pid --fork --kill-child --mount-proc "$OURS" --owner bob --config "$CONF" --root "$W/inner" create -b "$B" "$CT-x"
	launch "$W/second" "$CT"
	[[ $(first "$init") != "$a" ]]
	must "$OURS" --config "$CONF" --root "$W/second" delete -f "$CT"
	down ours
	"$RUNC" --root "$W/inner" delete -f "$CT-x" || true
	# From here it can't be told what lived in there, unlike from the host's own.
	is process "$("$CTL" leases --json | jq -r '.[].state')"
	rm -rf "$W/inner" "$W/second" "$LEASES"
}

@test "leases, attacked: a range that the book had given to another meanwhile" {
	local a
	book "dockroot:$START:$COUNT:"
	launch "$W/ours" "$CT-a"
	a=$(first "$init")
	book "dockroot:$((START + COUNT)):$COUNT:"
	rm -rf /run/userns-runtime
	launch "$W/ours" "$CT-b"
	book "dockroot:$((START + COUNT)):$COUNT:" "bob:$START:$COUNT:"
	update_config '.linux.cgroupsPath = $path' --arg path "/$UR_TAG-c"
	try "$OURS" --owner bob --config "$CONF" --root "$W/ours" run -d -b "$B" "$CT-c"
	is 1 "$status"
	has "$errput" "1 hold IDs there: process [0-9]+, in user namespace"
	is "$START" "$a"
	must ours delete -f "$CT-a"
	owner=(--owner bob)
	launch "$W/ours" "$CT-c"
	is "$START" "$(first "$init")"
	must ours delete -f "$CT-b"
	must ours delete -f "$CT-c"
}

@test "leases, attacked: what a killed one left half made is in nobody's way" {
	local inode
	launch "$W/ours" "$CT-a"
	inode=$(stat -L -c %i "/proc/$init/ns/user")
	rm -rf "$LEASES"
	mkdir -m 0700 "$LEASES"
	# As it was left once: an entry with nothing in it, of what was found alive.
	(umask 077 && : >"$LEASES/$(first "$init")-$COUNT.alive-$inode" && : >"$LEASES/new")
	launch "$W/ours" "$CT-b"
	is 2 "$("$CTL" leases --json | jq length)"
	must ours delete -f "$CT-a"
	must ours delete -f "$CT-b"
	"$CTL" gc
	is "" "$(find "$LEASES" -type f)"
	# What isn't an entry, but is named like one, is in the way of nobody who doesn't want
	# its IDs, and named to those who do.
	mkdir "$LEASES/5-1.x"
	launch "$W/ours" "$CT-a"
	must ours delete -f "$CT-a"
	rmdir "$LEASES/5-1.x"
	mkdir "$LEASES/$START-$((2 * COUNT)).x"
	refused "$LEASES/$START-$((2 * COUNT)).x: it isn't a file: remove it" run -b "$B" "$CT-b"
	rmdir "$LEASES/$START-$((2 * COUNT)).x"
}

@test "leases, attacked: exec after the directory was deleted" {
	launch "$W/ours" "$CT"
	rm -rf /run/userns-runtime
	must ours exec "$CT" id -u
	is 0 "$output"
	down ours
}

@test "leases, attacked: names that aren't UTF-8" {
	refused '--root .*expected UTF-8' --root "$W/"$'\xff\xfe' run -b "$B" "$CT"
}
