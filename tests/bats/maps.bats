#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# Bundles that say which maps, or which namespace, they want.

load helpers

# map_config UIDS GIDS: extents as inner:outer:count, separated by commas; "-"
# leaves a side out.
map_config() {
	update_config '
		def extents: if . == "-" then null else split(",") | map(split(":") | map(tonumber) | {containerID: .[0], hostID: .[1], size: .[2]}) end;
		.linux.namespaces = ([.linux.namespaces[] | select(.type != "user")] + [{type: "user"}])
		| .linux.uidMappings = ($uids | extents) | .linux.gidMappings = ($gids | extents)
		| .linux |= with_entries(select(.value != null))' --arg uids "$1" --arg gids "${2:-$1}"
}

# userns UIDS GIDS [deny]: a namespace, bound at $W/ns, whose path no process
# holds. Its owner is root.
userns() {
	unshare --user sleep 1000 3>&- &
	local child=$!
	eventually runs sleep "$child"
	[[ -z ${3:-} ]] || echo "$3" >"/proc/$child/setgroups"
	tr :, ' \n' <<<"$1" >"/proc/$child/uid_map"
	tr :, ' \n' <<<"$2" >"/proc/$child/gid_map"
	touch "$W/ns"
	mount --bind "/proc/$child/ns/user" "$W/ns"
	kill -KILL "$child"
	wait "$child" || true
}

forget_userns() {
	umount "$W/ns"
}

by_path() {
	update_config '.linux.namespaces = ([.linux.namespaces[] | select(.type != "user")] + [{type: "user", path: $path}])' --arg path "$1"
}

@test "maps: the whole of the grant, its ends, several extents" {
	local map
	process cat /proc/self/uid_map
	# devpts has gid=5 from runc spec, which the smallest don't have.
	update_config '(.mounts[] | select(.type == "devpts")).options -= ["gid=5"]'
	for map in "0:$START:$COUNT" "0:$START:1" "0:$((START + COUNT - 1)):1" "0:$((START + 100)):1000,5000:$START:100"; do
		map_config "$map"
		must ours run -b "$B" "$CT"
		is "$map" "$(awk '{print $1":"$2":"$3}' <<<"$output" | paste -sd,)"
		audited '.decision == "granted" and .askedUIDs == .grantedUIDs and .rootfs == "as-is"'
	done
}

@test "maps: UIDs and GIDs that differ" {
	map_config "0:$START:1000" "0:$((START + 5000)):2000"
	up ours
	maps_are "0:$START:1000" "$init" "0:$((START + 5000)):2000"
	down ours
}

@test "maps: the owners on disk are as the bundle's maker made them" {
	map_config "0:$START:$COUNT"
	WRITES=1
	chown "$START:$START" "$B/rootfs/tmp"
	shell 'stat -c %u:%g /tmp /bin/busybox; touch /tmp/file'
	must ours run -b "$B" "$CT"
	is $'0:0\n65534:65534' "$output"
	is "$START:$START" "$(stat -c %u:%g "$B/rootfs/tmp/file")"
}

@test "maps: one ID beyond the grant, at either end, on either side" {
	local all="0:$START:$COUNT" map
	for map in "0:$((START - 1)):$COUNT" "0:$START:$((COUNT + 1))" "0:$START:10,10:$((START + COUNT)):1" "0:$((START - 1)):1,1:$START:10"; do
		map_config "$map" "$all"
		refused "uid extent .* isn't granted to dockroot, whose lines are $BOOK:1" run -b "$B" "$CT"
		map_config "$all" "$map"
		refused "gid extent .* isn't granted to dockroot, whose lines are $BOOK:1" run -b "$B" "$CT"
	done
}

@test "maps: host root, the overflow ID" {
	map_config "0:0:1" "0:$START:10"
	refused 'uid extent.* 0 can never be granted' run -b "$B" "$CT"
	map_config "0:0:4294967295"
	refused '0 can never be granted' run -b "$B" "$CT"
	map_config "0:$START:10" "0:$START:10,10:0:1"
	refused 'gid extent.* 0 can never be granted' run -b "$B" "$CT"
	map_config "0:65534:1"
	refused '65534 can never be granted' run -b "$B" "$CT"
}

@test "maps: overlapping, wrapping, empty extents" {
	map_config "0:$START:100,50:$((START + 1000)):100"
	refused 'uidMappings|gidMappings' run -b "$B" "$CT"
	map_config "0:$START:100,100:$((START + 50)):100"
	refused 'uidMappings|gidMappings' run -b "$B" "$CT"
	map_config "0:$START:0"
	refused 'uidMappings|gidMappings' run -b "$B" "$CT"
	map_config "0:4294967290:100"
	refused 'uidMappings|gidMappings' run -b "$B" "$CT"
	map_config "4294967290:$START:100"
	refused 'uidMappings|gidMappings' run -b "$B" "$CT"
}

@test "maps: numbers that aren't 32 bits" {
	map_config "0:$START:100"
	sed -i 's/"size": 100/"size": 4294967296/' "$B/config.json"
	refused "$B/config.json: .*size" run -b "$B" "$CT"
	sed -i 's/"size": 4294967296/"size": -1/' "$B/config.json"
	refused "$B/config.json: .*size" run -b "$B" "$CT"
	sed -i 's/"size": -1/"size": 1.5/' "$B/config.json"
	refused "$B/config.json: .*size" run -b "$B" "$CT"
}

@test "maps: only one side" {
	map_config "0:$START:$COUNT" -
	refused 'gid' run -b "$B" "$CT"
	map_config - "0:$START:$COUNT"
	refused 'uid' run -b "$B" "$CT"
	update_config '.linux.uidMappings = [] | .linux.gidMappings = [{containerID: 0, hostID: $start, size: 1}]' --argjson start "$START"
	refused 'uid' run -b "$B" "$CT"
}

@test "maps: without a user namespace, and a user namespace without maps" {
	map_config "0:$START:$COUNT"
	update_config '.linux.namespaces = [.linux.namespaces[] | select(.type != "user")]'
	refused 'no user namespace' run -b "$B" "$CT"
	# Asked for, but not which: the owner's range.
	map_config - -
	process cat /proc/self/uid_map
	must ours run -b "$B" "$CT"
	is "0 $START $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	update_config '.linux.uidMappings = [] | .linux.gidMappings = []'
	must ours run -b "$B" "$CT"
	is "0 $START $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
}

@test "maps: IDs of another owner, of a user, of a group" {
	book "dockroot:$START:$COUNT:" "other:$((START + 10)):1:"
	map_config "0:$START:10"
	must ours run -b "$B" "$CT"
	map_config "0:$START:11"
	refused "belongs to other \($BOOK:2\)" run -b "$B" "$CT"
	book "dockroot:$START:$COUNT:"
	echo "taken:x:$((START + 7)):$((START + 8))::/:/bin/false" >>/etc/passwd
	map_config "0:$START:10"
	refused "host's user taken" run -b "$B" "$CT"
	refused "host's group taken" run -b "$B" "$CT"
	map_config "0:$START:7"
	must ours run -b "$B" "$CT"
	sed -i '/^taken:/d' /etc/passwd
}

@test "maps: a namespace by path" {
	process cat /proc/self/uid_map
	userns "0:$START:1000" "0:$START:2000"
	by_path "$W/ns"
	must ours run -b "$B" "$CT"
	is "0 $START 1000" "$(awk '{$1 = $1; print}' <<<"$output")"
	# runc is given a process of ours, since at any other path it would join the
	# namespace in a child that can be traced from inside.
	audited 'any(.changes[]; .path[:2] == ["linux", "namespaces"] and (.after | strings | test("^/proc/[0-9]+/ns/user$")))'
	# Beside maps that say the same, and others.
	local named='.linux.uidMappings = [{containerID: 0, hostID: $start, size: $uids}] | .linux.gidMappings = [{containerID: 0, hostID: $start, size: 2000}]'
	update_config "$named" --argjson start "$START" --argjson uids 1000
	must ours run -b "$B" "$CT"
	update_config "$named" --argjson start "$START" --argjson uids 999
	refused 'leave one out' run -b "$B" "$CT"
	update_config 'del(.linux.uidMappings, .linux.gidMappings)'
	# The container is in that very namespace.
	local inode
	inode=$(stat -L -c %i "$W/ns")
	up ours
	is "user:[$inode]" "$(readlink "/proc/$init/ns/user")"
	down ours
	forget_userns
}

@test "maps: a namespace by path that isn't granted" {
	userns "0:$START:$((COUNT + 1))" "0:$START:1"
	by_path "$W/ns"
	refused "isn't granted to dockroot" run -b "$B" "$CT"
	forget_userns
	userns "0:0:1" "0:$START:1"
	refused "0 can never be granted" run -b "$B" "$CT"
	forget_userns
	by_path /proc/self/ns/user
	refused "can never be granted|the caller's own" run -b "$B" "$CT"
	by_path /proc/1/ns/user
	refused "can never be granted|the caller's own" run -b "$B" "$CT"
}

@test "maps: a namespace by path, and deny-setgroups" {
	book "dockroot:$START:$COUNT:deny-setgroups"
	userns "0:$START:1000" "0:$START:1000"
	by_path "$W/ns"
	refused "$BOOK:1: flag deny-setgroups: .* allows setgroups" run -b "$B" "$CT"
	forget_userns
	userns "0:$START:1000" "0:$START:1000" deny
	process cat /proc/self/setgroups
	ours_cmd=(setpriv "--groups=0,4,27" --regid 0 "${ours_cmd[@]}")
	must ours run -b "$B" "$CT"
	is deny "$output"
	up ours
	is "" "$(awk '/^Groups:/ {print $2}' "/proc/$init/status")"
	down ours
	forget_userns
}

@test "maps: a path that isn't a user namespace" {
	local path
	mkfifo "$W/fifo"
	for path in "$W/nowhere" "$W" "$B/config.json" /proc/self/ns/net "$W/fifo" /dev/null; do
		by_path "$path"
		refused 'linux.namespaces: user: path' run -b "$B" "$CT"
	done
	by_path relative/ns
	refused 'expected an absolute path' run -b "$B" "$CT"
}

@test "maps: a namespace by path that isn't mapped, or belongs to a user" {
	unshare --user sleep 1000 3>&- &
	local child=$!
	eventually runs sleep "$child"
	by_path "/proc/$child/ns/user"
	refused 'no maps yet' run -b "$B" "$CT"
	kill -KILL "$child"
	wait "$child" || true
	requires unprivileged-users
	setpriv --reuid 12345 --regid 12345 --clear-groups unshare --user sleep 1000 3>&- &
	child=$!
	eventually runs sleep "$child"
	echo "0 $START 1000" >"/proc/$child/uid_map"
	echo "0 $START 1000" >"/proc/$child/gid_map"
	by_path "/proc/$child/ns/user"
	refused 'belongs to UID 12345' run -b "$B" "$CT"
	kill -KILL "$child"
	wait "$child" || true
}

@test "maps: mounts that ask for shifted owners" {
	local option
	for option in idmap ridmap; do
		update_config '.mounts += [{destination: "/mnt", source: "/tmp", type: "bind", options: ["bind", $option]}]' --arg option "$option"
		refused "mounts\[[0-9]+\]: /mnt: option \"$option\"" run -b "$B" "$CT"
		update_config 'del(.mounts[-1])'
	done
	update_config '.mounts += [{destination: "/mnt", source: "/tmp", type: "bind", options: ["bind"],
		uidMappings: [{containerID: 0, hostID: 0, size: 1}], gidMappings: [{containerID: 0, hostID: 0, size: 1}]}]'
	refused 'mounts\[[0-9]+\]: /mnt: uidMappings' run -b "$B" "$CT"
}

@test "maps: two user namespaces, and a mount namespace by path" {
	map_config "0:$START:$COUNT"
	update_config '.linux.namespaces += [{type: "user"}]'
	refused '"user" is there twice' run -b "$B" "$CT"
	map_config "0:$START:$COUNT"
	update_config '(.linux.namespaces[] | select(.type == "mount")).path = "/proc/1/ns/mnt"'
	refused 'joining the mount namespace /proc/1/ns/mnt' run -b "$B" "$CT"
}
