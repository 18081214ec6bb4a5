#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# shift = "chown" on a bad day: what it goes by is lost, or somebody in the container, or beside
# it, does what they can against it.

load helpers
load chown

# sleeper: the bundle's container, created and started.
sleeper() {
	update_config '.linux.cgroupsPath = $path | .process.args = ["sleep", "1000"]' --arg path "/$CT-ours"
	must ours create -b "$B" "$CT"
	must ours start "$CT"
}

# lives: the owners on disk are the container's.
lives() { is "$START" "$(stat -c %u "$B/rootfs/bin" "$B/rootfs/etc/passwd" | sort -u)" "owners of a container that lives"; }

@test "chown attacks: leases that are lost while it lives give nobody its files" {
	rootfs_on ramfs
	sleeper
	rm -r /run/userns-runtime/leases
	must "$CTL" gc
	lives
	# The next start makes them again from what is alive, which has no name.
	room 2
	must ours run -b "$UR_TEMPLATE" "$CT-next"
	lives
	must "$CTL" gc
	lives
	must ours exec "$CT" touch /tmp/x
	rm "$B/rootfs/tmp/x"
	touch -d "$(awk '$1 == "./tmp" {print "@" $5}' "$W/.owners")" "$B/rootfs/tmp"
	must ours delete -f "$CT"
	restored
}

@test "chown attacks: a filesystem that isn't there isn't taken for another that got its number" {
	local device n
	rootfs_on overlay
	sleeper
	device=$(mountpoint -d "$W/merged")
	must "$RUNC" --root "$W/ours" delete -f "$CT"
	umount "$B/rootfs" "$W/merged"
	for ((n = 0; n < 50; n++)); do
		mkdir "$W/other$n"
		mount -t tmpfs tmpfs "$W/other$n"
		[[ $(mountpoint -d "$W/other$n") != "$device" ]] || break
	done
	is "$device" "$(mountpoint -d "$W/other$n")" "the number of another filesystem"
	try "$CTL" gc
	is 1 "$status" status
	has "$errput" "which has ended, and it isn't where it was: mount its filesystem"
	umount "$W"/other*
	rmdir "$W"/other*
	mount -t overlay -o "lowerdir=$W/lower,upperdir=$W/upper,workdir=$W/work" overlay "$W/merged"
	mount --bind "$W/merged/rootfs" "$B/rootfs"
	must "$CTL" gc
	restored
}

@test "chown attacks: an engine in a mount namespace of its own that was started again" {
	rootfs_on ramfs
	update_config '.linux.cgroupsPath = $path | .process.args = ["sleep", "1000"]' --arg path "/$CT-ours"
	must unshare -m --propagation unchanged "${ours_cmd[@]}" create -b "$B" "$CT"
	must ours start "$CT"
	lives
	must "$CTL" gc
	lives
	must ours delete -f "$CT"
	restored
}

@test "chown attacks: a filesystem that keeps no owners is told from somebody who writes to it" {
	requires bindfs
	mv "$B/rootfs" "$W/tree"
	mkdir "$B/rootfs"
	bindfs -f -o suid,dev --chown-ignore "$W/tree" "$B/rootfs" </dev/null >/dev/null 2>&1 3>&- &
	FUSE=$!
	disown
	eventually mountpoint -q "$B/rootfs"
	WRITES=1
	config 'shift = "chown"'
	owners >"$W/.owners"
	refused "owners that were changed are others again: either its filesystem keeps none" run -b "$B" "$CT"
	restored
}

@test "chown attacks: descriptors that the engine passes on, and systemd's" {
	rootfs_on ramfs
	shell 'cat <&3; ls /proc/self/fd | wc -l'
	echo passed >"$W/passed"
	try bash -c 'exec 3<"$1"; shift; exec "$@"' - "$W/passed" "${ours_cmd[@]}" run --preserve-fds 1 -b "$B" "$CT"
	is 0 "$status" status
	is $'passed\n5' "$output" "what is open inside"
	restored
	refuse() { LISTEN_FDS=1 refused "LISTEN_FDS: the sockets that systemd passes on are for the very process" run -b "$B" "$CT"; }
	refuse
	restored
}

@test "chown attacks: nobody waits for somebody else's files to be changed back" {
	rootfs_on ramfs
	sleeper
	must "$RUNC" --root "$W/ours" delete -f "$CT"
	# As one does who is at it, for as long as that may take.
	flock "$(echo "$JOURNALS"/*)" sleep 1000 3>&- &
	local holder=$!
	eventually eval '! flock -n "$(echo "$JOURNALS"/*)" true'
	room 2
	jq '.process.args = ["cat", "/proc/self/uid_map"]' <"$UR_TEMPLATE/config.json" >"$W/map.json"
	cp -a "$UR_TEMPLATE" "$W/other"
	cat "$W/map.json" >"$W/other/config.json"
	must timeout 20 "${ours_cmd[@]}" run -b "$W/other" "$CT-next"
	has "$output" "^ +0 +$((START + COUNT)) +$COUNT$"
	try timeout 20 "${ours_cmd[@]}" delete -f "$CT-next"
	((status != 124))
	# Its own is waited for, and so are the very IDs.
	try timeout 2 "${ours_cmd[@]}" run -b "$B" "$CT"
	is 124 "$status" "its own container"
	kill -KILL "$(pgrep -P "$holder")" "$holder"
	wait "$holder" || true
	must "$CTL" gc
	restored
}

@test "chown attacks: what is mounted in it is left alone" {
	rootfs_on ramfs
	mkdir "$W/host"
	echo x >"$W/host/file"
	mkdir "$B/rootfs/tmp/host" "$B/rootfs/tmp/ram"
	mount --bind "$W/host" "$B/rootfs/tmp/host"
	# Of the same filesystem, too.
	mount --bind "$B/rootfs/etc" "$B/rootfs/tmp/ram"
	owners >"$W/.owners"
	sleeper
	lives
	is "0 0" "$(stat -c %u "$W/host/file" "$W/host" | xargs)" "owners of what is bound in"
	must ours delete -f "$CT"
	is "0 0" "$(stat -c %u "$W/host/file" "$W/host" | xargs)" "owners of what is bound in"
	restored
	umount "$B/rootfs/tmp/host" "$B/rootfs/tmp/ram"
}

@test "chown attacks: an engine that ends takes the gate and the low-level runtime with it; a gate that is killed, no container" {
	rootfs_on ramfs
	process sleep 1000
	bash -c 'setpriv --pdeathsig KILL "$@" & wait' - "${ours_cmd[@]}" run -b "$B" "$CT" </dev/null >/dev/null 2>&1 3>&- &
	local engine=$!
	disown
	eventually is_status ours running
	pgrep -f "$W/ours run" >/dev/null
	kill -KILL "$engine"
	eventually eval '! pgrep -f "$W/ours run"'
	is running "$(status_of ours)" "the container, as under runc"
	must "$CTL" gc
	lives
	must ours delete -f "$CT"
	restored
}
