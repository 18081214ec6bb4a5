#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# Exclusive ranges, by what the host's /proc says of all that lives, and each way to be
# fooled into giving one range twice.

load helpers

LEASES=/run/userns-runtime/leases
GO=/run/hooks/go

# Each test begins as after a boot, whatever the one before it has come to.
eval "$(declare -f setup | sed '1s/setup/load_setup/')"
setup() {
	! mountpoint -q /run/userns-runtime || umount /run/userns-runtime
	rm -rf /run/userns-runtime
	load_setup
}

# places N [FLAGS]: one line of dockroot with room for N containers.
places() { book "dockroot:$START:$(($1 * COUNT)):${2:-}"; }

# launch ID [ARGS...]: a container of that ID that sleeps; init is its process.
launch() {
	local id=$1
	shift
	must ours run -d --pid-file "$W/$id.pid" -b "$B" "$@" "$id"
	init=$(<"$W/$id.pid")
}

# first PID: the first ID that the process' namespace has.
first() { awk '{print $2}' "/proc/$1/uid_map"; }

# held: START COUNT NAMESPACE of all that lives in other user namespaces than this one.
held() {
	local own ns dir
	own=$(readlink /proc/self/ns/user)
	find /proc/[0-9]*/ns/user -maxdepth 0 -printf '%l %h\n' 2>/dev/null | sort -u -k1,1 | while read -r ns dir; do
		[[ $ns == "$own" ]] || awk -v ns="$ns" '{print $2, $3, ns}' "${dir%/ns}/uid_map" "${dir%/ns}/gid_map" 2>/dev/null || true
	done
}

# apart N: N namespaces live, and no two have an ID in common.
apart() {
	local all
	all=$(held | sort -n)
	is "$1" "$(awk '{print $3}' <<<"$all" | sort -u | wc -l)" "namespaces that live"
	is "" "$(awk '$1 < end && $3 != last {print last, $0} $1 + $2 > end {end = $1 + $2; last = $3}' <<<"$all")" "IDs of two"
}

# entries: one line for each, CONTAINER STATE.
entries() { "$CTL" leases --json | jq -r '.[] | "\(.container) \(.state)"' | sort; }

# no_files: not one regular file is left there, without gc.
no_files() { is "" "$(find "$LEASES" -type f)" "files of leases"; }

# refused_beside PATTERN ARGS...: as refused, where other containers have state.
refused_beside() {
	local pattern=$1 before
	shift
	before=$(state_and_entries)
	rm -f "$LOG"
	try timeout 20 "${ours_cmd[@]}" --log "$LOG" --log-format json "$@"
	is 1 "$status" status
	is "" "$output" "standard output"
	has "$errput" "$pattern"
	is 1 "$(wc -l <"$W/.err")" "lines on standard error"
	is "$errput" "$(jq -r .msg "$LOG")" "standard error, and msg in --log"
	is "$before" "$(state_and_entries)" "state and leases"
}

state_and_entries() { find "$W/ours" "$LEASES" -mindepth 1 -maxdepth 1 ! -name index ! -name boot | sort; }

# by_maps MAP: the bundle asks for it, as inner:outer:count.
by_maps() {
	update_config '.linux.namespaces = ([.linux.namespaces[] | select(.type != "user")] + [{type: "user"}])
		| .linux.uidMappings = [$map | split(":") | map(tonumber) | {containerID: .[0], hostID: .[1], size: .[2]}]
		| .linux.gidMappings = .linux.uidMappings' --arg map "$1"
}

without_maps() {
	update_config '.linux.namespaces |= map(select(.type != "user")) | del(.linux.uidMappings, .linux.gidMappings)'
}

# waits: the bundle's create waits for GO, after runc has made the state.
waits() {
	mkdir -p /run/hooks
	rm -f "$GO"
	update_config '.hooks = {createRuntime: [{path: "/bin/sh", args: ["sh", "-c", "touch \($go).here; until test -e \($go); do sleep 0.05; done"]}]}' --arg go "$GO"
}

# creating ID: its create is in progress, in the hook; pid is the process.
creating() {
	rm -f "$GO" "$GO.here"
	spawn "$1" ours create -b "$B" "$1"
	eventually test -e "$GO.here"
}

finish() {
	touch "$GO"
	reap "$1"
	is 0 "$status" "the create that waited"
	rm -rf /run/hooks
}

@test "leases: a hundred at once, a few again while the others live, and no file left" {
	local i id pids=() starts=() had
	places 128
	process sleep 1000
	for ((i = 0; i < 100; i++)); do
		"${ours_cmd[@]}" run -d --pid-file "$W/$CT-$i.pid" -b "$B" "$CT-$i" </dev/null >"$W/$CT-$i.out" 2>&1 3>&- &
		pids+=($!)
	done
	for i in "${!pids[@]}"; do
		wait "${pids[i]}" || { cat "$W/$CT-$i.out" && false; }
	done
	apart 100
	for ((i = 0; i < 100; i++)); do
		starts[i]=$(first "$(<"$W/$CT-$i.pid")")
		maps_are "0:${starts[i]}:$COUNT" "$(<"$W/$CT-$i.pid")"
	done
	is "" "$(printf '%s\n' "${starts[@]}" | awk -v start="$START" -v count="$COUNT" '$1 < start || $1 >= start + 128 * count || ($1 - start) % count')" "beside the places"
	is "100 container" "$(entries | awk '{print $2}' | uniq -c | awk '{$1 = $1; print}')"
	# Nothing that could have been in its way has gone.
	for i in 3 50 99; do
		had=${starts[i]}
		must ours delete -f "$CT-$i"
		launch "$CT-$i"
		is "$had" "$(first "$init")" "the range of $i, before and again"
	done
	apart 100
	for ((i = 0; i < 100; i++)); do
		"${ours_cmd[@]}" delete -f "$CT-$i" </dev/null >"$W/$CT-$i.out" 2>&1 3>&- &
		pids[i]=$!
	done
	for i in "${!pids[@]}"; do
		wait "${pids[i]}" || { cat "$W/$CT-$i.out" && false; }
	done
	no_files
}

@test "leases: the first choice comes back while it is free" {
	local i had again=()
	places 32
	process cat /proc/self/uid_map
	# In the foreground, they leave entries that have ended.
	for ((i = 0; i < 8; i++)); do
		must ours run -b "$B" "$CT-$i"
		again[i]=$(awk '{print $2}' <<<"$output")
	done
	for ((i = 7; i >= 0; i--)); do
		must ours run -b "$B" "$CT-$i"
		is "${again[i]}" "$(awk '{print $2}' <<<"$output")" "the range of $i, in another order"
	done
	# As by a reboot.
	rm -rf /run/userns-runtime
	must ours run -b "$B" "$CT-5"
	is "${again[5]}" "$(awk '{print $2}' <<<"$output")" "the range of 5, after a reboot"
	# Together, each has it unless another one has.
	process sleep 1000
	for ((i = 7; i >= 0; i--)); do
		launch "$CT-$i"
		had=$(first "$init")
		[[ $had == "${again[i]}" ]] || has "$(held)" "^${again[i]} "
	done
	apart 8
	for ((i = 0; i < 8; i++)); do down ours "$CT-$i"; done
}

@test "leases: a create in progress holds its range" {
	local creator
	places 2
	process sleep 1000
	waits
	creating "$CT-a"
	creator=$pid
	update_config 'del(.hooks)'
	launch "$CT-b"
	apart 2
	refused_beside "2 hold IDs there: .*container $CT-[ab] of dockroot \($W/ours\)" create -b "$B" "$CT-c"
	places 1
	refused_beside "holds? IDs there: .*container $CT-a of dockroot|container $CT-b of dockroot" create -b "$B" "$CT-c"
	finish "$creator"
	apart 2
	down ours "$CT-a"
	down ours "$CT-b"
	no_files
	# With one place alone it is the very one.
	waits
	creating "$CT-a"
	creator=$pid
	update_config 'del(.hooks)'
	refused_beside "room for 1 containers, and 1 hold IDs there: container $CT-a of dockroot \($W/ours\)" create -b "$B" "$CT-c"
	finish "$creator"
	down ours "$CT-a"
	no_files
}

@test "leases: an empty directory of a killed create holds nothing" {
	places 1
	process sleep 1000
	waits
	creating "$CT-a"
	# runc, its init, and the hook.
	kill -KILL "$pid"
	reap "$pid"
	touch "$GO"
	pkill_init
	# What runc leaves if it is killed before it has written any state.
	rm -f "$W/ours/$CT-a/state.json"
	test -d "$W/ours/$CT-a"
	update_config 'del(.hooks)'
	launch "$CT-b"
	maps_are "0:$START:$COUNT" "$init"
	down ours "$CT-b"
	rm -rf "$W/ours/$CT-a" /run/hooks
	remove_cgroups
}

# pkill_init ends what waits for a runc that is gone: all processes of this sandbox in another user
# namespace.
pkill_init() {
	local own ns dir
	own=$(readlink /proc/self/ns/user)
	find /proc/[0-9]*/ns/user -maxdepth 0 -printf '%l %h\n' 2>/dev/null | while read -r ns dir; do
		dir=${dir%/ns}
		[[ $ns == "$own" ]] || kill -KILL "${dir#/proc/}" 2>/dev/null || true
	done
	eventually eval '[[ -z $(held) ]]'
}

@test "leases: a range is held while anybody lives in it who joined it" {
	places 2
	process sleep 1000
	launch "$CT-a"
	local range
	range=$(first "$init")
	update_config '.linux.namespaces |= map(if .type == "network" then .path = $path else . end)' --arg path "/proc/$init/ns/net"
	launch "$CT-b"
	is "$range" "$(first "$init")" "the range of the one who joined"
	update_config '.linux.namespaces |= map(if .type == "network" then del(.path) else . end)'
	down ours "$CT-a"
	launch "$CT-c"
	apart 2
	refused_beside "container $CT-b of dockroot" create -b "$B" "$CT-d"
	is "$CT-b container
$CT-c container" "$(entries)"
	down ours "$CT-b"
	launch "$CT-d"
	is "$range" "$(first "$init")" "the range that is free now"
	apart 2
	down ours "$CT-c"
	down ours "$CT-d"
	no_files
}

@test "leases: a process that entered the namespace and outlived the container holds the range" {
	local enter entered
	places 1
	process sleep 1000
	for enter in "sleep 1000" "unshare --user sleep 1000" "setpriv --reuid 70 --regid 70 --clear-groups sleep 1000"; do
		launch "$CT-a"
		# shellcheck disable=SC2086 # words
		nsenter --target "$init" --user --setuid 0 --setgid 0 -- $enter </dev/null >/dev/null 2>&1 3>&- &
		entered=$!
		eventually eval "[[ \$(readlink /proc/$entered/exe) == *sleep ]]"
		down ours "$CT-a"
		refused_beside "container $CT-a of dockroot .*which has ended, but process $entered has" create -b "$B" "$CT-b"
		is "$CT-a process" "$(entries)"
		must "$CTL" gc
		refused_beside "process $entered" create -b "$B" "$CT-b"
		# The same container, too.
		refused_beside "process $entered" create -b "$B" "$CT-a"
		kill -KILL "$entered"
		reap "$entered"
		launch "$CT-b"
		maps_are "0:$START:$COUNT" "$init"
		down ours "$CT-b"
		no_files
	done
}

@test "leases: sizes of several kinds lie beside each other" {
	local size n=0
	config 'annotations = ["size"]'
	places 16 size=1000
	# devpts has gid=5 from runc spec, which the smallest don't have.
	update_config '(.mounts[] | select(.type == "devpts")).options -= ["gid=5"]'
	process sleep 1000
	for size in 1000 65536 1 70000 1000 100 50000; do
		update_config '.annotations = {"io.userns-runtime.size": $size}' --arg size "$size"
		launch "$CT-$n"
		is "$size" "$(awk '{print $3}' "/proc/$init/uid_map")" "how many IDs"
		n=$((n + 1))
		apart "$n"
	done
	while ((n-- > 0)); do down ours "$CT-$n"; done
	no_files
}

@test "leases: maps that a bundle brings are held" {
	local range other
	places 2
	process sleep 1000
	launch "$CT-a"
	range=$(first "$init")
	other=$((START + COUNT - (range - START)))
	for map in "0:$range:$COUNT" "0:$range:1" "0:$((range + COUNT - 1)):1" "0:$((range + 100)):50000"; do
		by_maps "$map"
		update_config '(.mounts[] | select(.type == "devpts")).options -= ["gid=5"]'
		refused_beside "held by container $CT-a of dockroot \($W/ours\).*$BOOK:1" create -b "$B" "$CT-b"
	done
	by_maps "0:$((other + 5)):1000"
	launch "$CT-b"
	apart 2
	without_maps
	# 1000 IDs of it are enough: no other place is left.
	refused_beside "container $CT-b of dockroot" create -b "$B" "$CT-c"
	down ours "$CT-a"
	launch "$CT-c"
	is "$range" "$(first "$init")" "the range that is free now"
	apart 2
	down ours "$CT-b"
	down ours "$CT-c"
	no_files
}

@test "leases: the directory deleted under running containers" {
	local range creator what
	places 3
	process sleep 1000
	for what in /run/userns-runtime "$LEASES" "$LEASES/*" "$LEASES/boot" "$LEASES/index" "$LEASES/*-$COUNT.*"; do
		launch "$CT-a"
		range=$(first "$init")
		# shellcheck disable=SC2086 # a pattern
		rm -rf $what
		launch "$CT-b"
		launch "$CT-c"
		apart 3
		refused_beside "room for 3 containers, and 3 hold IDs there" create -b "$B" "$CT-d"
		# exec goes on, and so does delete.
		rm -rf /run/userns-runtime
		must ours exec "$CT-a" true
		down ours "$CT-a"
		launch "$CT-d"
		is "$range" "$(first "$init")" "the range that is free now"
		apart 3
		down ours "$CT-b"
		down ours "$CT-c"
		down ours "$CT-d"
	done
}

@test "leases: the directory deleted while a container is created" {
	local creator what
	places 1
	process sleep 1000
	for what in "$LEASES" /run/userns-runtime; do
		waits
		creating "$CT-a"
		creator=$pid
		update_config 'del(.hooks)'
		rm -rf "$what"
		try ours create -b "$B" "$CT-b"
		is 1 "$status"
		has "$errput" "1 hold IDs there: (container $CT-a of dockroot|process)"
		apart 1
		# A second time, when what was found alive has an entry.
		refused_beside "1 hold IDs there" create -b "$B" "$CT-b"
		if [[ $what == "$LEASES" ]]; then
			finish "$creator"
			refused_beside "1 hold IDs there: container $CT-a of dockroot" create -b "$B" "$CT-b"
			down ours "$CT-a"
		else
			# What was mounted below it for the container has gone with it.
			touch "$GO"
			reap "$creator"
			is 1 "$status"
			has "$(<"$W/$CT-a.err")" 'runc create failed: .*no such file or directory'
			rm -rf /run/hooks
		fi
		launch "$CT-b"
		maps_are "0:$START:$COUNT" "$init"
		down ours "$CT-b"
		no_files
	done
}

@test "leases: the flag shared" {
	places 4
	process sleep 1000
	launch "$CT-x"
	local range
	range=$(first "$init")
	places 4 shared
	# One from before stays alone, if it has the range that all share.
	if ((range == START)); then
		refused_beside "held by container $CT-x" create -b "$B" "$CT-a"
	fi
	by_maps "0:$range:10"
	update_config '(.mounts[] | select(.type == "devpts")).options -= ["gid=5"]'
	refused_beside "held by container $CT-x" create -b "$B" "$CT-a"
	down ours "$CT-x"
	without_maps
	launch "$CT-a"
	maps_are "0:$START:$COUNT" "$init"
	launch "$CT-b"
	maps_are "0:$START:$COUNT" "$init"
	by_maps "0:$((START + 10)):100"
	launch "$CT-c"
	maps_are "0:$((START + 10)):100" "$init"
	without_maps
	# Exclusive again, it takes none of theirs.
	places 1
	refused_beside "container $CT-[abc] of dockroot" create -b "$B" "$CT-d"
	places 2
	launch "$CT-d"
	maps_are "0:$((START + COUNT)):$COUNT" "$init"
	local id
	for id in a b c d; do down ours "$CT-$id"; done
	no_files
}

@test "leases: a full grant says what mends it, and that does" {
	local id command
	places 2
	process sleep 1000
	launch "$CT-a"
	launch "$CT-b"
	refused_beside "grant of dockroot \($BOOK:1\): no 65536 IDs in a row are left: there is room for 2 containers, and 2 hold IDs there: container $CT-[ab] .*, container $CT-[ab] " \
		create -b "$B" "$CT-c"
	command=$(sed -n 's/.*widen it: `\([^`]*\)`.*/\1/p' <<<"$errput")
	has "$command" '^usernsctl set dockroot '
	# shellcheck disable=SC2086 # words
	must "$CTL" ${command#usernsctl }
	launch "$CT-c"
	launch "$CT-d"
	apart 4
	# Whatever becomes of the book, they keep what they have, and hold it.
	book "other:$START:$((8 * COUNT)):" "dockroot:$((START + 8 * COUNT)):$COUNT:"
	must ours exec "$CT-a" true
	launch "$CT-e"
	maps_are "0:$((START + 8 * COUNT)):$COUNT" "$init"
	apart 5
	for id in 0 1 2 3; do must "$OURS" --owner other "${ours_cmd[@]:1}" run -d -b "$B" "$CT-o$id"; done
	apart 9
	for id in a b c d e o0 o1 o2 o3; do down ours "$CT-$id"; done
	no_files
}

@test "leases: annotations" {
	local range value
	config 'annotations = ["stable-name", "size"]'
	places 16
	process cat /proc/self/uid_map
	update_config '.annotations = {"io.userns-runtime.stable-name": "web"}'
	must ours run -b "$B" "$CT-a"
	range=$output
	must ours run -b "$B" "$CT-b"
	is "$range" "$output" "the range of one name"
	# Not allowed, they are ignored.
	update_config '.annotations = {"io.userns-runtime.size": "10", "io.userns-runtime.stable-name": "web"}'
	config
	must ours run -b "$B" "$CT-c"
	is "$COUNT" "$(awk '{print $3}' <<<"$output")" "how many IDs"
	config 'annotations = ["size"]'
	for value in 0 -1 x 4294967296 "" " 5" 1e3; do
		update_config '.annotations = {"io.userns-runtime.size": $value}' --arg value "$value"
		refused "annotation io.userns-runtime.size: \"$value\"" run -b "$B" "$CT-c"
	done
	update_config '.annotations = {"io.userns-runtime.size": "10000000"}'
	refused "has $((16 * COUNT)) IDs, fewer than the 10000000" run -b "$B" "$CT-c"
}

@test "leases: lines that are too short, and holes" {
	local id
	process sleep 1000
	book "dockroot:$START:100:" "dockroot:$((START + COUNT)):$COUNT:"
	launch "$CT-a"
	maps_are "0:$((START + COUNT)):$COUNT" "$init"
	down ours "$CT-a"
	# The second place has a reserved ID, the third an account of the host, the fifth a group.
	places 6
	echo "all:$((START + COUNT + 7)):1:reserved" >>"$BOOK"
	echo "taken:x:$((START + 2 * COUNT + 7)):0::/:/bin/false" >>/etc/passwd
	echo "taken:x:$((START + 4 * COUNT)):" >>/etc/group
	for id in a b c; do launch "$CT-$id"; done
	apart 3
	is "$START $((START + 3 * COUNT)) $((START + 5 * COUNT))" "$(held | awk '{print $1}' | sort -nu | paste -sd' ')" "the places that are whole"
	refused_beside "3 hold IDs there" create -b "$B" "$CT-d"
	for id in a b c; do down ours "$CT-$id"; done
	sed -i '/^taken:/d' /etc/passwd /etc/group
	no_files
}

@test "leases: /run that is full, or read-only" {
	places 8
	process sleep 1000
	mkdir -m 0711 /run/userns-runtime
	mount -t tmpfs -o nr_inodes=12,mode=0711 tmpfs /run/userns-runtime
	local n=0
	while ours run -d -b "$B" "$CT-$n" </dev/null >"$W/o" 2>&1; do
		n=$((n + 1))
		((n < 8))
	done
	cat "$W/o"
	has "$(<"$W/o")" 'lease: .*no space left on device.*df -i'
	((n > 0))
	apart "$n"
	test ! -e "$W/ours/$CT-$n"
	is "$n" "$(entries | wc -l)" "entries"
	# What runs can be ended, and that makes room.
	down ours "$CT-0"
	launch "$CT-0"
	apart "$n"
	mount -o remount,ro /run/userns-runtime
	try ours create -b "$B" "$CT-x"
	is 1 "$status"
	has "$errput" 'lease: .*read-only file system'
	while ((n-- > 0)); do down ours "$CT-$n"; done
	mount -o remount,rw /run/userns-runtime
	must "$CTL" gc
	no_files
	umount /run/userns-runtime
}

@test "leases: entries cut off, of another boot, or made by nobody" {
	local entry
	places 2
	process sleep 1000
	launch "$CT-a"
	entry=$(echo "$LEASES"/*-*)
	: >"$entry"
	launch "$CT-b"
	apart 2
	refused_beside "2 hold IDs there" create -b "$B" "$CT-c"
	down ours "$CT-a"
	down ours "$CT-b"
	must "$CTL" gc
	no_files
	# Of another boot nothing is alive; what is, has an entry again.
	launch "$CT-a"
	ln -sfn 00000000-0000-4000-8000-000000000000 "$LEASES/boot"
	launch "$CT-b"
	apart 2
	refused_beside "2 hold IDs there" create -b "$B" "$CT-c"
	down ours "$CT-a"
	down ours "$CT-b"
	must "$CTL" gc
	no_files
	# A name that is no file.
	places 1
	mkfifo "$LEASES/$START-$COUNT.x"
	refused_beside "$LEASES/$START-$COUNT.x: it isn't a file: remove it" create -b "$B" "$CT-c"
	rm "$LEASES/$START-$COUNT.x"
}

@test "leases: an engine in another mount namespace, whose /run is another" {
	places 3
	process sleep 1000
	launch "$CT-a"
	unshare --mount --propagation private sh -ec 'mount -t tmpfs -o mode=0711 tmpfs "$1"; echo ready; exec sleep 1000' sh /run/userns-runtime >"$W/there" 3>&- &
	local there=$! id
	eventually test -s "$W/there"
	for id in b c; do
		must nsenter --mount --wd="$W" --target "$there" -- "${ours_cmd[@]}" run -d -b "$B" "$CT-$id"
		apart "$([[ $id == b ]] && echo 2 || echo 3)"
	done
	# There is one directory on a host: that of its first process.
	is "$CT-a container
$CT-b container
$CT-c container" "$(entries)"
	must nsenter --mount --target "$there" -- find /run/userns-runtime -name '*leases*'
	is "" "$output" "leases in the other /run"
	try nsenter --mount --wd="$W" --target "$there" -- "${ours_cmd[@]}" run -d -b "$B" "$CT-d"
	is 1 "$status"
	has "$errput" "3 hold IDs there"
	for id in b c; do must nsenter --mount --wd="$W" --target "$there" -- "${ours_cmd[@]}" delete -f "$CT-$id"; done
	is "$CT-a container" "$(entries)"
	kill -KILL "$there"
	reap "$there"
	down ours "$CT-a"
	no_files
}

@test "leases: who is who, and a second one of a name" {
	local runtime
	places 3
	process sleep 1000
	for runtime in plain ours; do
		update_config '.linux.cgroupsPath = $path' --arg path "/$CT-$runtime"
		must "$runtime" run -d -b "$B" "$CT"
	done
	init=$(ours state "$CT" | jq .pid)
	same create -b "$B" "$CT"
	# In other words, but of the same class.
	has "$p_errput" 'container with given ID already exists'
	has "$errput" 'container with given ID already exists'
	same run -b "$B" "$CT"
	update_config 'del(.linux.cgroupsPath)'
	is "$CT container" "$(entries)"
	down plain
	# A link to the root is the same one.
	ln -s ours "$W/link"
	refused_beside "container with given ID already exists" --root "$W/link" create -b "$B" "$CT"
	# Another root is another one. A cgroup by the ID's name would be the same.
	mkdir "$W/two"
	update_config '.linux.cgroupsPath = $path' --arg path "/$CT-two"
	must "$OURS" --config "$CONF" --root "$W/two" run -d -b "$B" "$CT"
	apart 2
	is "$CT container
$CT container" "$(entries)"
	must "$OURS" --config "$CONF" --root "$W/two" delete -f "$CT"
	is "$CT container" "$(entries)"
	must "$OURS" --config "$CONF" --root "$W/link" delete -f "$CT"
	no_files
}

@test "leases: delete works on a bad day" {
	places 3
	process sleep 1000
	local bad
	for bad in "chmod 0777 $LEASES" "rm -rf $LEASES; echo >$LEASES" "rm -rf $LEASES; ln -s nowhere $LEASES" "chown 1 $LEASES" "rm $LEASES/index; mkdir $LEASES/index" "rm -rf /run/userns-runtime; echo >/run/userns-runtime"; do
		echo "# $bad"
		launch "$CT"
		eval "$bad"
		must ours delete -f "$CT"
		is "" "$(held)" "what lives"
		rm -rf /run/userns-runtime
	done
}

@test "leases: a delete that is killed between runc's end and ours" {
	places 1
	process sleep 1000
	launch "$CT-a"
	cat >"$W/runc" <<-EOS
		#!/bin/sh
		$RUNC "\$@" || exit
		case " \$* " in *" delete "*) kill -KILL \$PPID ;; esac
	EOS
	chmod 0755 "$W/runc"
	RUNTIMES="\"$W/runc\"" config
	try ours delete -f "$CT-a"
	is 137 "$status"
	config
	# Nothing is held, and what is left is in nobody's way.
	is "" "$(entries)"
	is 1 "$(find "$LEASES" -name '*-*' | wc -l)" "entries that have ended"
	launch "$CT-b"
	maps_are "0:$START:$COUNT" "$init"
	is "$CT-b container" "$(entries)"
	down ours "$CT-b"
	no_files
}

@test "leases: what isn't started leaves nothing" {
	places 2
	process true
	must ours run -b "$B" "$CT"
	must "$CTL" gc
	no_files
	ours_cmd=("$OURS" --owner nobody-here "${ours_cmd[@]:1}")
	refused 'no line of the book' run -b "$B" "$CT"
	no_files
	ours_cmd=("$OURS" "${ours_cmd[@]:3}")
	try ours create --no-such-flag -b "$B" "$CT"
	[[ $status != 0 ]]
	no_files
	update_config '.linux.namespaces |= map(select(.type != "mount"))'
	refused 'mount namespace' run -b "$B" "$CT"
	no_files
	update_config '.linux.namespaces += [{type: "mount"}] | .process.user.uid = 70000'
	refused '70000' run -b "$B" "$CT"
	no_files
	update_config '.process.user.uid = 0 | .root.path = "nowhere"'
	refused 'nowhere' run -b "$B" "$CT"
	no_files
	# By runc, after it was called: the entry has ended.
	update_config '.root.path = "rootfs" | .process.args = ["/no/such/command"]'
	try ours run -b "$B" "$CT"
	[[ $status != 0 ]]
	try ours create -b "$B" "$CT"
	[[ $status != 0 ]]
	is "" "$(entries)"
	is 1 "$(find "$LEASES" -name '*-*' | wc -l)" "entries that have ended"
	must "$CTL" gc
	no_files
	# A process that can't be started changes nothing.
	process sleep 1000
	launch "$CT"
	local before
	before=$(entries && ls -A "$LEASES")
	try ours exec "$CT" /no/such/command
	[[ $status != 0 ]]
	try ours exec "$CT-none" true
	[[ $status != 0 ]]
	is "$before" "$(entries && ls -A "$LEASES")"
	down ours
	no_files
}

@test "leases: users may not read, list or lock them" {
	process sleep 1000
	launch "$CT"
	local entry user=(setpriv --reuid 12345 --regid 12345 --clear-groups)
	entry=$(echo "$LEASES"/*-*)
	is "711 0:0" "$(stat -c '%a %u:%g' /run/userns-runtime)"
	is "700 0:0" "$(stat -c '%a %u:%g' "$LEASES")"
	is "600 0:0" "$(stat -c '%a %u:%g' "$entry")"
	local command
	for command in "ls $LEASES" "cat $entry" "flock -n $LEASES true" "flock -n $entry true" "stat $entry" "rm -rf $LEASES" "touch $LEASES/x" "ls /run/userns-runtime"; do
		# shellcheck disable=SC2086 # words
		try "${user[@]}" $command
		[[ $status != 0 ]]
		has "$errput" 'ermission denied'
	done
	# Nor from inside.
	try ours exec "$CT" ls "$LEASES"
	[[ $status != 0 ]]
	is "$CT container" "$(entries)"
	down ours
	no_files
}
