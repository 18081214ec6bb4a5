#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# What the flags of a line and the binds of a container promise, with each low-level runtime that was measured; and what root
# inside can do to whom one of them has enter.

load helpers
load lowlevel

# each_road COMMAND...: on run, exec and exec --process it ends well, and CHECK is called with its output.
each_road() {
	local check=$1
	shift
	process "$@"
	must ours run -b "$B" "$CT"
	"$check" run
	up ours
	must ours exec "$CT" "$@"
	"$check" exec
	jq '.process | .args = $ARGS.positional' <"$B/config.json" --args -- "$@" >"$W/process.json"
	must ours exec --process "$W/process.json" "$CT"
	"$check" "exec --process"
	down ours
}

# undoing: root inside has what it needs to undo things.
undoing() {
	WRITES=1
	cp "$UR_HELPERS/undo" "$B/rootfs/bin/"
	caps CAP_CHOWN CAP_KILL CAP_NET_RAW CAP_SETUID CAP_SETGID CAP_SETPCAP CAP_MKNOD
}

not_nested() {
	has "$output" '^user namespace: ENOSPC$'
	has "$output" '^user namespace after that: ENOSPC$'
	has "$output" "^parent's user namespace: EPERM$"
}

nested() {
	book "dockroot:$START:$COUNT:deny-nested"
	each_road not_nested undo
}

@test "lowlevel flags: deny-nested" {
	undoing
	each nested
}

dropped() {
	has "$output" '^CapBnd:.*0$'
	has "$output" '^capset 13: EPERM$'
	has "$output" '^ambient 13: EPERM$'
	has "$output" '^bounding 13: EPERM$'
	has "$output" '^bounding 0: EPERM$'
	has "$output" '^bounding 7: done$'
}

drop() {
	book "dockroot:$START:$COUNT:drop-caps=CAP_NET_RAW+CAP_CHOWN"
	each_road dropped sh -c 'grep CapBnd /proc/self/status; undo 13 0 7'
}

@test "lowlevel flags: drop-caps" {
	undoing
	each drop
}

@test "lowlevel flags: drop-caps gives none, where a bundle names none" {
	local low had
	setup_version
	update_config 'del(.process.capabilities)'
	process grep CapEff /proc/self/status
	for low in $(lows); do
		with "$low"
		book "dockroot:$START:$COUNT:"
		if [[ $low == "$CRUN" ]]; then
			# All that there are, so this one is refused unless the flag takes it.
			refused "CAP_SYS_ADMIN: with crun" run -b "$B" "$CT"
			had=$(((1 << ($(</proc/sys/kernel/cap_last_cap) + 1)) - 1))
		else
			must ours run -b "$B" "$CT"
			had=$((16#${output##*[[:space:]]}))
		fi
		book "dockroot:$START:$COUNT:drop-caps=CAP_SYS_ADMIN"
		must ours run -b "$B" "$CT"
		is "$((had & ~(1 << 21)))" "$((16#${output##*[[:space:]]}))" "what it has under the flag"
		# Nor does a process to be exec'd that names none: it has those of the container.
		up ours
		must ours exec "$CT" grep CapEff /proc/self/status
		is "$((had & ~(1 << 21)))" "$((16#${output##*[[:space:]]}))" "what exec has"
		jq '.process | .args = ["grep", "CapEff", "/proc/self/status"]' <"$B/config.json" >"$W/process.json"
		must ours exec --process "$W/process.json" "$CT"
		is "$((had & ~(1 << 21)))" "$((16#${output##*[[:space:]]}))" "what exec --process has"
		down ours
		process grep CapEff /proc/self/status
	done
}

no_devices() {
	has "$output" '^open devices: EACCES$'
	has "$output" '^mknod: EPERM$'
}

devices() {
	book "dockroot:$START:$COUNT:deny-devices"
	each_road no_devices env NODES=/bound/below undo
}

@test "lowlevel flags: deny-devices, and nodes of a directory that is bound in" {
	undoing
	mkdir -p "$W/host/below"
	chmod 0755 "$W" "$W/host" "$W/host/below"
	mknod -m 0666 "$W/host/below/fuse" c 10 229
	mknod -m 0666 "$W/host/below/zero" c 1 5
	mkdir -p "$B/rootfs/bound"
	update_config '.mounts += [{destination: "/bound", type: "bind", source: $from, options: ["rbind", "rw"]}]' --arg from "$W/host"
	each devices
}

unprivileged() {
	has "$output" '^mask off: EPERM$'
	has "$output" '^mount: EPERM$'
	has "$output" '^remount /sys: EPERM$'
}

privileged() {
	book "dockroot:$START:$COUNT:deny-privileged"
	each_road unprivileged undo
	up ours
	try ours exec --cap CAP_SYS_ADMIN "$CT" true
	is 255 "$status" "exec --cap"
	has "$errput" "flag deny-privileged, which the container was started with"
	down ours
}

@test "lowlevel flags: deny-privileged" {
	undoing
	each privileged
}

apart() { is 5 "$(sort -u <<<"$output" | grep -vxcF "$HOSTS")" "$1: namespaces of its own"; }

hosts() {
	local f
	book "dockroot:$START:$COUNT:deny-host-ns"
	HOSTS=$(for f in net pid ipc uts cgroup; do readlink "/proc/self/ns/$f"; done)
	each_road apart sh -c 'for f in net pid ipc uts cgroup; do readlink /proc/self/ns/$f; done'
	local kind
	for kind in network pid ipc uts; do
		cp "$B/config.json" "$W/kept.json"
		update_config '.linux.namespaces |= map(select(.type != $kind))' --arg kind "$kind"
		refused "flag deny-host-ns" run -b "$B" "$CT"
		cat "$W/kept.json" >"$B/config.json"
	done
	bundle_sum >"$W/.bundle"
}

@test "lowlevel flags: deny-host-ns" {
	update_config '.linux.namespaces |= (map(select(.type != "cgroup")) + [{type: "cgroup"}])'
	each hosts
}

# snoops COMMAND...: what a container that may trace gets of whoever enters it by the command, many times.
snoops() {
	caps CAP_SYS_PTRACE CAP_DAC_READ_SEARCH CAP_DAC_OVERRIDE CAP_KILL
	up ours
	local i snoop
	ours exec "$CT" snoop >"$W/snooped" 2>&1 </dev/null 3>&- &
	snoop=$!
	eventually grep -q ready "$W/snooped"
	for i in {1..15}; do "$@"; done
	cat "$W/snooped"
	# What runs there it can. What is ending has no program any more, nor anything else.
	grep -q 'traced /bin/busybox' "$W/snooped"
	is "" "$(grep ' traced ' "$W/snooped" | grep -vE ' traced (/bin/|.*no such file)')" "who was traced"
	is "" "$(grep -E "crun|runc|memfd|$W" "$W/snooped")" "what was seen"
	kill -KILL "$(pgrep -x snoop)"
	wait "$snoop" || true
	down ours
}

true_by_exec() { must timeout -s KILL 10 "${ours_cmd[@]}" exec "$CT" true; }

@test "lowlevel flags: root inside that may trace can't trace who enters by exec" {
	WRITES=1
	install -m 0755 "$UR_HELPERS/snoop" "$B/rootfs/bin/snoop"
	update_config 'del(.linux.seccomp)'
	each snoops true_by_exec
}

true_beside() {
	jq --argjson pid "$init" '.linux.namespaces |= map(if .type == "pid" then .path = "/proc/\($pid)/ns/pid" else . end)
		| .process.args = ["true"] | .linux.cgroupsPath = $path' --arg path "/$CT-beside" <"$B/config.json" >"$W/beside/config.json"
	must timeout -s KILL 10 "${ours_cmd[@]}" run -b "$W/beside" "$CT-beside"
}

@test "lowlevel flags: nor who joins its namespaces from another container" {
	WRITES=1
	install -m 0755 "$UR_HELPERS/snoop" "$B/rootfs/bin/snoop"
	update_config 'del(.linux.seccomp)'
	cp -a "$UR_TEMPLATE" "$W/beside"
	local low
	setup_version
	for low in $(lows); do
		[[ $low != "$CRUN" ]] || continue # it is refused: lowlevel.bats
		with "$low"
		snoops true_beside
	done
}
