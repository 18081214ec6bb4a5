#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# Each flag of the book on each road that starts a process: create and start, run, exec, exec
# --process, restore, and `userns exec`. On each of them root inside tries to undo it
# (tests/cmd/undo), also with what engines give a privileged container. restore is refused,
# since CRIU makes what it restores; that CRIU itself runs isn't needed for that.

load helpers

EVERY_CAP=$("$RUNC" features | jq -c .linux.capabilities)

setup_roads() {
	WRITES=yes
	cp "$UR_HELPERS/undo" "$B/rootfs/bin/"
	# What runc spec gives, and the sets in which a capability could come back.
	update_config '.process.capabilities |= map_values($caps)' --argjson caps '["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SETUID", "CAP_SETGID"]'
}

# privileged: B asks for what engines give a privileged container, but for devices.
privileged() {
	update_config '.process.capabilities = {bounding: $caps, effective: $caps, permitted: $caps, inheritable: $caps, ambient: $caps} | .linux.maskedPaths = [] | .linux.readonlyPaths = []
		| .process.noNewPrivileges = false | (.mounts[] | select(.type == "sysfs")).options -= ["ro"]' --argjson caps "$EVERY_CAP"
}

# process_of COMMAND...: a file for exec --process that asks for all that there is.
process_of() {
	jq -n '{args: $ARGS.positional, cwd: "/", env: ["PATH=/bin"], user: {uid: 0, gid: 0, additionalGids: [0, 4]}, noNewPrivileges: false,
		capabilities: ({bounding: $caps, effective: $caps, permitted: $caps, inheritable: $caps, ambient: $caps})}' \
		--argjson caps "$EVERY_CAP" --args -- "$@" >"$W/process.json"
}

# each_cap: --cap for every capability there is.
each_cap() { jq -r '.[] | "--cap=" + .' <<<"$EVERY_CAP"; }

# roads CHECK COMMAND...: CHECK is called with the name of the road, after the command
# was run on it, which has to have succeeded.
roads() {
	local check=$1
	shift
	process "$@"
	must ours run -b "$B" "$CT"
	"$check" run || return
	must ours create -b "$B" "$CT"
	eventually is_status ours created
	ours delete -f "$CT"
	create_and_start || return
	"$check" create
	up ours
	must ours exec "$CT" "$@"
	"$check" exec || return
	# Whatever the bundle says by now, and all that runc's own flags can add.
	privileged
	update_config '.process.user.additionalGids = [0, 4]'
	# shellcheck disable=SC2046 # one word each
	exec_road "$check" "exec with flags" --no-new-privs=false --additional-gids 0 $(each_cap) "$CT" "$@"
	process_of "$@"
	exec_road "$check" "exec --process" --process "$W/process.json" "$CT"
	exec_road "$check" "exec --process, short" --no-new-privs=false -p "$W/process.json" "$CT"
	down ours
	process "$@"
}

# exec_road CHECK NAME ARGS...: one that may be refused as well, where EXEC_REFUSED is set.
exec_road() {
	local check=$1 name=$2
	shift 2
	try ours exec "$@"
	if [[ -n ${EXEC_REFUSED:-} ]]; then
		is 255 "$status" "$name: status"
		has "$errput" "$EXEC_REFUSED"
		return
	fi
	is 0 "$status" "$name: status"
	"$check" "$name"
}

# create_and_start: output is what the container's first process prints.
create_and_start() {
	ours create -b "$B" "$CT" >"$W/created" 2>"$W/created.err" </dev/null || {
		cat "$W/created.err"
		return 1
	}
	ours start "$CT"
	eventually is_status ours stopped
	output=$(<"$W/created")
	printf '= %s\n' "$output"
	ours delete "$CT"
}

# without_caps ROAD: none of the capabilities of DROPPED is in any set of the status that output has, and none can be had.
without_caps() {
	local set mask number
	for set in Inh Prm Eff Bnd Amb; do
		mask=$(awk -v set="Cap$set:" '$1 == set {print $2}' <<<"$output")
		[[ -n $mask ]]
		for number in $DROPPED; do
			is 0 "$(((16#$mask >> number) & 1))" "$1: capability $number in Cap$set $mask"
		done
	done
	for number in $DROPPED; do
		has "$output" "^capset $number: EPERM$"
		has "$output" "^ambient $number: EPERM$"
		has "$output" "^bounding $number: EPERM$"
	done
}

@test "flags on every road: drop-caps" {
	setup_roads
	DROPPED="13 0 21" # NET_RAW, CHOWN, SYS_ADMIN
	book "dockroot:$START:$COUNT:drop-caps=CAP_NET_RAW+CAP_CHOWN+CAP_SYS_ADMIN"
	roads without_caps sh -c 'cat /proc/self/status; undo 13 0 21'
	audited '.verb == "exec" and (.changes | map(.path | join(".")) | contains(["capabilities.bounding", "capabilities.ambient"]))'
	# The others stay.
	up ours
	must ours exec "$CT" grep CapEff /proc/self/status
	is "$((1 << 5 | 1 << 6 | 1 << 7))" "$((16#$(awk '{print $2}' <<<"$output") & (1 << 5 | 1 << 6 | 1 << 7)))"
	down ours
	privileged
	roads without_caps sh -c 'cat /proc/self/status; undo 13 0 21'
}

# runc gives a process without any all that its user namespace has.
@test "flags on every road: drop-caps, of a bundle that names none" {
	setup_roads
	update_config 'del(.process.capabilities)'
	process grep CapEff /proc/self/status
	must ours run -b "$B" "$CT"
	has "$output" '1ffffffffff$'
	DROPPED="13 21"
	book "dockroot:$START:$COUNT:drop-caps=CAP_NET_RAW+CAP_SYS_ADMIN"
	roads without_caps sh -c 'cat /proc/self/status; undo 13 21'
	update_config 'del(.process.capabilities)'
	process grep CapEff /proc/self/status
	must ours run -b "$B" "$CT"
	has "$output" '1ffffdfdfff$'
}

@test "flags on every road: drop-caps, and a user that isn't root" {
	setup_roads
	update_config '.process.user = {uid: 1000, gid: 1000}'
	DROPPED="13 7"
	book "dockroot:$START:$COUNT:drop-caps=CAP_NET_RAW+CAP_SETUID"
	roads without_caps sh -c 'cat /proc/self/status; undo 13 7'
}

@test "flags on every road: deny-privileged" {
	setup_roads
	cp -a "$B/config.json" "$W/plain.json"
	book "dockroot:$START:$COUNT:deny-privileged"
	# One that isn't goes on, on all roads but those that ask for more.
	EXEC_REFUSED='flag deny-privileged, which the container was started with: refused: .*CAP_SYS_ADMIN'
	roads unprivileged sh -c 'undo 21'
	# exec obeys what the container was started with.
	cat "$W/plain.json" >"$B/config.json"
	up ours
	book "dockroot:$START:$COUNT:"
	exec_road unprivileged "exec --cap" --cap CAP_SYS_ADMIN "$CT" true
	update_config '.process.capabilities |= map_values(["CAP_SYS_ADMIN"])'
	exec_road unprivileged "exec of an edited bundle" "$CT" true
	down ours
}

# unprivileged ROAD
unprivileged() {
	has "$output" '^mask off: EPERM$'
	has "$output" '^mount: EPERM$'
	has "$output" '^capset 21: EPERM$'
}

@test "flags on every road: deny-privileged refuses what --privileged gives, all of it and each part" {
	setup_roads
	book "other:$((START + COUNT)):$COUNT:" "dockroot:$START:$COUNT:deny-privileged"
	cp -a "$B/config.json" "$W/plain.json"
	local filter
	for filter in \
		'.process.capabilities.bounding += ["CAP_SYS_ADMIN"]' '.process.capabilities.ambient += ["CAP_SYS_ADMIN"]' 'del(.process.capabilities)' \
		'.linux.maskedPaths = []' 'del(.linux.maskedPaths)' '.linux.maskedPaths -= ["/proc/kcore"]' '.linux.readonlyPaths = []' \
		'.linux.maskedPaths = ["/link/../proc/acpi"] + .linux.maskedPaths' '(.mounts[] | select(.type == "sysfs")).options += ["rrw"]' \
		'(.mounts[] | select(.type == "sysfs")).options += ["rw"]' '.mounts += [{destination: "/tmp", type: "proc", source: "proc"}]'; do
		cat "$W/plain.json" >"$B/config.json"
		update_config "$filter"
		refused "$BOOK:2: flag deny-privileged: refused: (process|linux|mounts)" run -b "$B" "$CT"
		refused "$BOOK:2: flag deny-privileged: refused: (process|linux|mounts)" create -b "$B" "$CT"
	done
	cat "$W/plain.json" >"$B/config.json"
	privileged
	refused 'capabilities.bounding: CAP_SYS_ADMIN.*linux.maskedPaths.*linux.readonlyPaths.*/sys: sysfs' run -b "$B" "$CT"
	audited '.decision == "refused"'
	# What is dropped anyway doesn't count.
	cat "$W/plain.json" >"$B/config.json"
	update_config '.process.capabilities.bounding += ["CAP_SYS_ADMIN"]'
	book "dockroot:$START:$COUNT:deny-privileged,drop-caps=CAP_SYS_ADMIN"
	must ours run -b "$B" "$CT"
}

# not_nested ROAD
not_nested() {
	has "$output" '^user namespace: ENOSPC$'
	has "$output" '^user namespace after that: ENOSPC$'
	has "$output" '^user namespace with others: ENOSPC$'
	has "$output" "^parent's user namespace: EPERM$"
	is "0 $START $COUNT" "$(awk 'NF == 3 && $1 == 0 {$1 = $1; print; exit}' <<<"$output")" "$1: uid_map"
}

@test "flags on every road: deny-nested" {
	setup_roads
	book "dockroot:$START:$COUNT:deny-nested"
	roads not_nested sh -c 'cat /proc/self/uid_map; undo'
	# And a root that may write to the sysctl, which gains nothing by it.
	privileged
	process sh -c 'cat /proc/self/uid_map; undo'
	must ours run -b "$B" "$CT"
	has "$output" '^sysctl: done$'
	has "$output" "^sysctl of the parent's: done$"
	not_nested run
	roads not_nested sh -c 'cat /proc/self/uid_map; undo'
}

@test "flags on every road: deny-nested, what is seen of both namespaces" {
	setup_roads
	book "dockroot:$START:$COUNT:deny-nested,deny-setgroups"
	up ours
	maps_are "0:$START:$COUNT" "$init"
	is deny "$(<"/proc/$init/setgroups")"
	is 0 "$("$UR_HELPERS/nsowner" "/proc/$init/ns/user")" "who owns it"
	is "$START $CT" "$("$CTL" leases --json | jq -r '.[] | "\(.ranges[0].start) \(.container)"')"
	"$CTL" audit --json | tee "$W/audit"
	is "[]" "$(jq -c . "$W/audit")"
	must ours exec "$CT" sh -c 'echo 1 >/tmp/of-root; touch /tmp/x; chown 5:6 /tmp/x; stat -c %u:%g /tmp/x'
	is 5:6 "$output"
	down ours
}

@test "flags on every road: deny-nested, namespaces by path" {
	setup_roads
	book "dockroot:$START:$COUNT:deny-nested"
	up ours
	# A second one in the namespaces of the first, as a pod has it.
	cp -a "$B" "$W/second"
	jq '.linux.cgroupsPath = $cgroup | .process.args = ["sh", "-c", "cat /proc/self/uid_map; undo"]
		| .linux.namespaces |= map(if .type == "network" or .type == "ipc" then .path = "/proc/\($pid)/ns/" + {network: "net", ipc: "ipc"}[.type] else . end)' \
		--arg cgroup "/$CT-second" --arg pid "$init" "$B/config.json" >"$W/second/config.json"
	must ours run -b "$W/second" "$CT-2"
	not_nested "namespaces of another"
	jq '.linux.namespaces |= (map(del(.path)) + [{type: "user", path: $path}])' --arg path "/proc/$init/ns/user" "$W/second/config.json" >"$W/third.json"
	# Whoever brings a namespace by its path has made the owners fit it.
	cp "$W/third.json" "$W/second/config.json"
	chown -hR "$START:$START" "$W/second/rootfs"
	must ours run -b "$W/second" "$CT-2"
	not_nested "the namespace by its path"
	down ours
	# One that allows nested ones can't be mended any more.
	book "dockroot:$START:$COUNT:"
	up ours
	jq '.linux.namespaces |= map(if .type == "user" then .path = $path else . end)' --arg path "/proc/$init/ns/user" "$W/third.json" >"$W/second/config.json"
	book "dockroot:$START:$COUNT:deny-nested"
	try ours run -b "$W/second" "$CT-2"
	is 1 "$status"
	has "$errput" "$BOOK:1: flag deny-nested: user namespace .*: others can be made in it"
	down ours
}

# The kernel holds the processes in a namespace below another one to the limit of its maker.
@test "flags on every road: deny-nested, as many processes as without" {
	setup_roads
	local flag limit
	limit=$(ulimit -Hu)
	[[ $limit != unlimited ]] || limit=100000
	update_config '.process.rlimits = [{type: "RLIMIT_NPROC", soft: $n, hard: $n}]' --argjson n "$limit"
	process sh -c 'i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i + 1)); done; echo $i'
	few() (
		ulimit -Su 30
		ours "$@"
	)
	for flag in "" deny-nested; do
		book "dockroot:$START:$COUNT:$flag"
		must few run -b "$B" "$CT"
		is 60 "$output" "with the flag: $flag"
	done
}

@test "flags on every road: deny-nested, a lease that was lost is found again" {
	setup_roads
	book "dockroot:$START:$((2 * COUNT)):deny-nested"
	up ours
	rm -rf /run/userns-runtime/leases
	shell 'cat /proc/self/uid_map'
	update_config '.linux.cgroupsPath = $path' --arg path "/$CT-second"
	must ours run -b "$B" "$CT-2"
	[[ $(awk '{print $2}' <<<"$output") != $(awk '{print $2}' "/proc/$init/uid_map") ]]
	is "$(awk '{print $2}' "/proc/$init/uid_map")" "$("$CTL" leases --json | jq '.[].ranges[0].start')" "leases"
	down ours
}

@test "flags on every road: deny-nested, maps that the bundle asks for" {
	setup_roads
	book "dockroot:$START:$COUNT:deny-nested"
	update_config '.linux.namespaces += [{type: "user"}] | .linux.uidMappings = [{containerID: 0, hostID: $start, size: 1000}, {containerID: 70000, hostID: ($start + 2000), size: 10}]
		| .linux.gidMappings = .linux.uidMappings | (.mounts[] | select(.type == "devpts")).options -= ["gid=5"]' --argjson start "$START"
	chown -hR "$START:$START" "$B/rootfs"
	process sh -c 'cat /proc/self/uid_map; undo'
	must ours run -b "$B" "$CT"
	has "$output" '^user namespace: ENOSPC$'
	is "0 $START 1000 70000 $((START + 2000)) 10" "$(awk 'NF == 3 && $1 ~ /^[0-9]+$/ {$1 = $1; print}' <<<"$output" | paste -sd' ')"
}

# apart ROAD: none of the namespaces that output has the numbers of is this shell's.
apart() {
	local kind
	for kind in net pid ipc uts cgroup; do
		has "$output" "^$kind:\[[0-9]+\]$"
		[[ $output != *"$(readlink "/proc/self/ns/$kind")"* ]] || {
			echo "$1: $kind is the host's"
			return 1
		}
	done
}

# own_namespaces: runc spec leaves that of cgroups out on cgroup v1.
own_namespaces() { update_config '.linux.namespaces |= (map(select(.type != "cgroup")) + [{type: "cgroup"}])'; }

@test "flags on every road: deny-host-ns" {
	setup_roads
	own_namespaces
	book "dockroot:$START:$COUNT:deny-host-ns"
	roads apart sh -c 'for f in net pid ipc uts cgroup; do readlink /proc/self/ns/$f; done'
	privileged
	roads apart sh -c 'for f in net pid ipc uts cgroup; do readlink /proc/self/ns/$f; done'
}

@test "flags on every road: deny-host-ns refuses each, left out or by its path" {
	setup_roads
	own_namespaces
	cp -a "$B/config.json" "$W/plain.json"
	book "other:$((START + COUNT)):$COUNT:" "dockroot:$START:$COUNT:deny-host-ns"
	local kind
	for kind in network pid ipc uts cgroup; do
		cat "$W/plain.json" >"$B/config.json"
		update_config '.linux.namespaces |= map(select(.type != $kind)) | .mounts |= map(select(.type | IN("proc", "mqueue") | not)) | del(.hostname)' --arg kind "$kind"
		refused "$BOOK:2: flag deny-host-ns: linux.namespaces: no $kind namespace" run -b "$B" "$CT"
		refused "$BOOK:2: flag deny-host-ns: linux.namespaces: no $kind namespace" create -b "$B" "$CT"
	done
	for kind in network pid ipc uts cgroup; do
		cat "$W/plain.json" >"$B/config.json"
		update_config '(.linux.namespaces[] | select(.type == $kind)).path = "/proc/1/ns/" + $file | .mounts |= map(select(.type | IN("proc", "mqueue") | not)) | del(.hostname)' \
			--arg kind "$kind" --arg file "${kind/network/net}"
		refused "$BOOK:2: flag deny-host-ns: linux.namespaces: no $kind namespace" run -b "$B" "$CT"
	done
	# The host's, for a caller who is in another one.
	cat "$W/plain.json" >"$B/config.json"
	update_config '(.linux.namespaces[] | select(.type == "network")).path = "/proc/1/ns/net"'
	try unshare --net -- "${ours_cmd[@]}" run -b "$B" "$CT"
	is 1 "$status"
	has "$errput" "$BOOK:2: flag deny-host-ns: linux.namespaces\[1\]: /proc/1/ns/net: it is the host's"
	# One that an engine has made for it is nobody else's.
	cat "$W/plain.json" >"$B/config.json"
	touch "$W/net"
	unshare --net="$W/net" true
	update_config '(.linux.namespaces[] | select(.type == "network")).path = $path' --arg path "$W/net"
	must ours run -b "$B" "$CT"
	umount "$W/net"
}

# no_devices ROAD
no_devices() {
	has "$output" '^open devices: (EACCES|ENOENT|EPERM)$'
	has "$output" '^mknod: EPERM$'
}

# bound PATH [OPTION...]: PATH of the host on /bound.
bound() {
	update_config '.mounts += [{type: "bind", source: $ARGS.positional[0], destination: "/bound", options: $ARGS.positional[1:]}]' --args -- "$@"
}

@test "flags on every road: deny-devices" {
	setup_roads
	# Whoever may open it by its mode.
	mkdir -p "$W/host/below"
	chmod 0755 "$W" "$W/host" "$W/host/below"
	mknod -m 0666 "$W/host/below/fuse" c 10 229
	mknod -m 0666 "$W/host/below/zero" c 1 5
	bound "$W/host" rbind rw
	update_config '.process.env += ["NODES=/bound/below"]'
	process undo
	# Without the flag, zero is.
	must ours run -b "$B" "$CT"
	has "$output" '^open devices: done$'
	book "dockroot:$START:$COUNT:deny-devices"
	roads no_devices env NODES=/bound/below undo
	privileged
	roads no_devices env NODES=/bound/below undo
	# Those that every container has are there.
	process sh -c 'for f in null zero full random urandom tty; do test -r /dev/$f || echo $f; done; echo x >/dev/null; head -c 1 /dev/zero | wc -c'
	must ours run -b "$B" "$CT"
	is 1 "$output"
}

@test "flags on every road: deny-devices refuses what brings some" {
	setup_roads
	cp -a "$B/config.json" "$W/plain.json"
	book "other:$((START + COUNT)):$COUNT:" "dockroot:$START:$COUNT:deny-devices"
	mkdir "$W/nodes"
	mknod "$W/nodes/fuse" c 10 229
	mknod "$W/nodes/disk" b 8 0
	local filter
	for filter in '.linux.devices = [{path: "/dev/fuse", type: "c", major: 10, minor: 229}]' \
		'.linux.resources.devices += [{allow: true, access: "rwm"}]' '.linux.resources.devices += [{allow: true, type: "c", major: 10, minor: 229, access: "r"}]' \
		'.linux.netDevices = {lo: {}}'; do
		cat "$W/plain.json" >"$B/config.json"
		update_config "$filter"
		refused "$BOOK:2: flag deny-devices: refused: linux\." run -b "$B" "$CT"
		refused "$BOOK:2: flag deny-devices: refused: linux\." create -b "$B" "$CT"
	done
	local path
	for path in "$W/nodes/fuse" "$W/nodes/disk" "$W/nodes" /dev; do
		cat "$W/plain.json" >"$B/config.json"
		bound "$path" rbind
		refused "mounts\[[0-9]+\]: /bound: $BOOK:2: flag deny-devices: $path.* is a device of the host's" run -b "$B" "$CT"
	done
	# What every container has may be bound as well.
	cat "$W/plain.json" >"$B/config.json"
	touch "$B/rootfs/bound"
	bound /dev/null rbind
	process sh -c 'echo x >/bound && echo fine'
	must ours run -b "$B" "$CT"
	is fine "$output"
}

# mine ROAD: what root inside has made on the bind mount is root's on disk, and other IDs are their own.
mine() { is "root 0:0 5:7" "$(tail -n 1 <<<"$output") $(stat -c %u:%g "$W/aside/root" "$W/aside/other" | paste -sd' ')" "$1"; }

@test "flags on every road: idmap-binds" {
	setup_roads
	caps CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER
	mkdir "$W/aside" # W is 0700
	bound "$W/aside" rbind rw
	local work='touch /bound/root /bound/other 2>/dev/null; chown 5:7 /bound/other 2>/dev/null; stat -c %U /bound'
	as_is() { jq -r '.binds[] | select(.destination == "/bound") | .as + ": " + .why' <(tail -n 1 "$AUDIT"); }
	# Neither the path nor the flag alone does it.
	book "dockroot:$START:$COUNT:idmap-binds"
	process sh -c "$work"
	must ours run -b "$B" "$CT"
	is nobody "$(tail -n 1 <<<"$output" | sed 's/65534\|UNKNOWN/nobody/')"
	has "$(as_is)" 'nobody: .*name it in a \[\[bind\]\]'
	printf '%s\n' '[[bind]]' "path = '$W/aside'" 'owner = "dockroot"' >>"$CONF"
	book "dockroot:$START:$COUNT:"
	must ours run -b "$B" "$CT"
	has "$(as_is)" "nobody: .*\[\[bind\]\] $W/aside of the configuration: the grant of dockroot \($BOOK:1\) hasn't the flag idmap-binds"
	is "" "$(ls "$W/aside")"
	book "dockroot:$START:$COUNT:idmap-binds"
	roads mine sh -c "$work"
	must ours run -b "$B" "$CT"
	has "$(as_is)" '^root: '
	# Another's containers have nothing of it.
	book "dockroot:$START:$COUNT:idmap-binds" "other:$((START + COUNT)):$COUNT:idmap-binds"
	must "$OURS" --owner other --config "$CONF" --root "$W/ours" run -b "$B" "$CT"
	has "$(as_is)" '^nobody: '
}

@test "flags on every road: idmap-binds, a path that others can reach, or that leads elsewhere" {
	setup_roads
	local open
	open=$(realpath "$(mktemp -d -p "$BATS_SUITE_TMPDIR/../..")")
	chmod 0755 "$open"
	mkdir "$W/aside" "$W/asides"
	ln -s "$W/asides" "$W/aside/link"
	book "dockroot:$START:$COUNT:idmap-binds"
	printf '%s\n' '[[bind]]' "path = '$W/aside'" 'owner = "dockroot"' '[[bind]]' "path = '$open'" 'owner = "dockroot"' >>"$CONF"
	cp -a "$B/config.json" "$W/plain.json"
	local path
	for path in "$open" "$W/asides" "$W/aside/link"; do
		cat "$W/plain.json" >"$B/config.json"
		bound "$path" rbind rw
		must ours run -b "$B" "$CT"
		is nobody "$(jq -r '.binds[0].as' <(tail -n 1 "$AUDIT"))" "$path"
	done
	# What is mounted there is another filesystem's.
	mkdir "$W/aside/mounted"
	mount -t tmpfs tmpfs "$W/aside/mounted"
	cat "$W/plain.json" >"$B/config.json"
	bound "$open" rbind rw
	must ours run -b "$B" "$CT"
	has "$(jq -r '.binds[0].why' <(tail -n 1 "$AUDIT"))" 'others than root can reach it'
	umount "$W/aside/mounted"
	rmdir "$open"
}

# What an owner could lead elsewhere by a link, may be led to what only root can reach.
@test "flags on every road: idmap-binds, a path in the hands of its owner" {
	setup_roads
	caps CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER
	id alice >/dev/null 2>&1 || useradd -M -l -s /bin/sh alice
	local place=/run/hooks
	install -d -m 0755 "$place"
	install -d -m 0700 "$place/closed" "$place/closed/roots"
	echo secret >"$place/closed/roots/secret"
	chmod 0600 "$place/closed/roots/secret"
	install -d -o alice -g alice -m 0755 "$place/alice"
	install -d -o 12345 -g 12345 -m 0755 "$place/sticky/own"
	chmod 1777 "$place/sticky"
	book "alice:$START:$COUNT:idmap-binds"
	as_alice() { setpriv --reuid alice --regid alice --clear-groups "$@"; }
	# on PATH: what root inside is on the bind mount of a listed path, and why.
	on() {
		config
		printf '%s\n' '[[bind]]' "path = '$1'" 'owner = "alice"' >>"$CONF"
		cp "$W/plain.json" "$B/config.json"
		bound "$1" rbind rw
		process sh -c 'cat /bound/secret 2>/dev/null; echo . >/bound/planted'
		try "$OURS" --owner alice --config "$CONF" --root "$W/ours" run -b "$B" "$CT"
		is "" "$output" "the secret"
		[[ ! -e $place/closed/roots/planted ]]
		output=$(jq -r '.binds[] | select(.destination == "/bound") | .as + ": " + .why' <(tail -n 1 "$AUDIT"))
	}
	cp -a "$B/config.json" "$W/plain.json"
	as_alice ln -s "$place/closed/roots" "$place/alice/link"
	on "$place/alice/link"
	has "$output" "^nobody: not shifted as \[\[bind\]\] $place/alice/link of the configuration: by a symbolic link it leads to $place/closed/roots"
	ln -s "$place/closed/roots" "$place/link"
	on "$place/link/"
	has "$output" "^nobody: .*by a symbolic link it leads to $place/closed/roots"
	# Nor where a link could be by the next look.
	install -d -m 0700 "$place/alice/closed" "$place/alice/closed/roots"
	on "$place/alice/closed/roots"
	has "$output" "^nobody: .*UID [0-9]+ owns $place/alice, and could put something else"
	on "$place/sticky/own"
	has "$output" "^nobody: .*UID 12345 owns $place/sticky/own, and could put something else"
	chmod 0777 "$place/sticky"
	chown 0:0 "$place/sticky/own"
	on "$place/sticky/own"
	has "$output" "^nobody: .*$place/sticky has mode 0777"
	userdel alice
}

RESTRICTING="deny-setgroups no-new-privs deny-nested deny-privileged deny-host-ns deny-devices drop-caps=CAP_KILL"

# That CRIU works isn't needed: the images are made by hand, and it is never called.
@test "flags on every road: restore is refused under each that restricts" {
	local flag
	"$UR_HELPERS/criuimages" "$W/images" "0:$START:$COUNT" "0:$START:$COUNT" 10
	for flag in $RESTRICTING; do
		book "dockroot:$START:$COUNT:shared,$flag"
		refused "$BOOK:1: flags $flag can't be enforced on restore" restore --image-path "$W/images" -b "$B" "$CT"
	done
	# Also where the image's namespace touches one line that has it, of two.
	"$UR_HELPERS/criuimages" "$W/images" "0:$START:$((2 * COUNT))" "0:$START:$((2 * COUNT))" 10
	book "dockroot:$START:$COUNT:" "dockroot:$((START + COUNT)):$COUNT:deny-nested"
	refused "$BOOK:2: flags deny-nested can't be enforced on restore" restore --image-path "$W/images" -b "$B" "$CT"
}

@test "flags on every road: userns exec is refused under each that its owner would undo" {
	local flag bin=/run/hooks/bin
	mkdir -p "$bin"
	chmod 0755 /run/hooks "$bin"
	own_namespaces
	cp -a "$B" /run/hooks/bundle
	echo "runtimes = ['$RUNC']" >/run/hooks/config.toml
	cp "$TREE/bin/userns" "$bin/userns"
	setcap cap_setuid,cap_setgid=p "$bin/userns"
	id flagged >/dev/null 2>&1 || useradd -M -l -s /bin/sh flagged
	as_flagged() { setpriv --reuid flagged --regid flagged --init-groups env -i PATH=/usr/bin:/bin "$@"; }
	for flag in $RESTRICTING; do
		book "flagged:$START:$COUNT:$flag"
		try as_flagged "$bin/userns" exec -- true
		if [[ $flag = deny-setgroups ]]; then
			is 0 "$status" "$flag, which holds"
			continue
		fi
		is 1 "$status" "$flag"
		has "$errput" "$BOOK:1: flag $flag can't hold"
		# Nor does the runtime hold it for them.
		try as_flagged "$OURS" --config /run/hooks/config.toml --root /run/hooks/root run -b /run/hooks/bundle "$CT"
		is 1 "$status" "$flag, without root"
		has "$errput" "$BOOK:1: flag $flag can't hold"
	done
	book "flagged:$START:$COUNT:idmap-binds"
	must as_flagged "$bin/userns" exec -- true
	# And none beside owned, by which a container's namespace is theirs.
	for flag in $RESTRICTING; do
		[[ $flag != deny-setgroups ]] || continue
		book "flagged:$START:$COUNT:owned,$flag"
		try "$OURS" --owner flagged --config "$CONF" --root "$W/ours" run -b "$B" "$CT"
		is 1 "$status" "owned,$flag"
		has "$errput" "$BOOK:1: flag owned: .*$flag"
	done
	userdel flagged
}

# quiet ROAD: groups stay as they are, and nothing is gained by a program.
quiet() {
	has "$output" '^setgroups: EPERM$'
	has "$output" '^no-new-privs off: EINVAL$'
	has "$output" '^NoNewPrivs:.1$'
	has "$output" '^Groups:[[:space:]]*$'
}

@test "flags on every road: deny-setgroups and no-new-privs" {
	setup_roads
	book "dockroot:$START:$COUNT:deny-setgroups,no-new-privs"
	update_config '.process.noNewPrivileges = false | .process.user.additionalGids = [4, 27]'
	roads quiet sh -c 'grep -E "^(NoNewPrivs|Groups)" /proc/self/status; undo'
	privileged
	roads quiet sh -c 'grep -E "^(NoNewPrivs|Groups)" /proc/self/status; undo'
}

@test "flags on every road: all of them at once" {
	setup_roads
	own_namespaces
	DROPPED="13 21"
	everything() { without_caps "$1" && not_nested "$1" && quiet "$1" && no_devices "$1" && apart "$1"; }
	book "dockroot:$START:$COUNT:deny-setgroups,no-new-privs,deny-nested,deny-privileged,deny-host-ns,deny-devices,drop-caps=CAP_NET_RAW+CAP_SYS_ADMIN"
	roads everything sh -c 'cat /proc/self/uid_map /proc/self/status; for f in net pid ipc uts cgroup; do readlink /proc/self/ns/$f; done; undo 13 21'
	audited '.flags == "deny-setgroups,no-new-privs,deny-nested,deny-privileged,deny-host-ns,deny-devices,drop-caps=CAP_NET_RAW+CAP_SYS_ADMIN"'
}

# Where capabilities count, what runc's exec makes of the bundle and of its flags is made by us.
@test "flags on every road: exec under drop-caps is otherwise runc's" {
	setup_roads
	book "dockroot:$START:$COUNT:drop-caps=CAP_WAKE_ALARM"
	update_config '.process.env += ["A=bundle"] | .process.cwd = "/tmp" | .process.user.additionalGids = [7] | .process.noNewPrivileges = false'
	up plain
	up ours
	local show='id; pwd; env | sort; grep -E "^(Cap|NoNewPrivs|Groups)" /proc/self/status; cat /proc/self/oom_score_adj; tty; exit 3'
	same exec "$CT" sh -c "$show"
	same exec -e A=call -e B=c --cwd /var "$CT" sh -c "$show"
	same exec --user 1000 "$CT" sh -c "$show"
	same exec --user 1000:5 --additional-gids 9 --additional-gids 11 "$CT" sh -c "$show"
	same exec --cap CAP_SYS_CHROOT --cap CAP_KILL "$CT" sh -c "$show"
	same exec --no-new-privs "$CT" sh -c "$show"
	same exec --cwd relative "$CT" true
	same exec --cwd /missing "$CT" true
	same exec --user nobody "$CT" true
	same exec --user 0:nobody "$CT" true
	same exec --additional-gids=-1 "$CT" true
	same exec "$CT"
	same exec "$CT" nothing-there
	on_terminal "${plain_cmd[@]}" exec -t "$CT" sh -c 'tty; stty size; exit 4'
	local want="$status $output"
	on_terminal "${ours_cmd[@]}" exec -t "$CT" sh -c 'tty; stty size; exit 4'
	is "$want" "$status $output" "on a terminal"
	has "$output" /dev/pts/
	update_config 'del(.process)'
	same exec "$CT" true
	rm "$B/config.json"
	try plain exec "$CT" true
	is 255 "$status"
	try ours exec "$CT" true
	is 255 "$status"
	rm "$W/.bundle"
	down plain
	down ours
}
