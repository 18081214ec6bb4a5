#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# shift = "chown": root filesystems whose owners the kernel can't shift, on filesystems that
# this machine has: ramfs, an overlay's inside, FUSE.

load helpers
load chown

# hard: files that a change of owners could do harm to.
hard() {
	local r=$B/rootfs
	cp "$r/bin/busybox" "$r/bin/suid"
	chmod 4755 "$r/bin/suid"
	cp "$r/bin/busybox" "$r/bin/sgid"
	chown 1000:8 "$r/bin/sgid"
	chmod 2755 "$r/bin/sgid"
	ln "$r/bin/suid" "$r/tmp/suid2"
	ln -s /etc/passwd "$r/tmp/link"
	ln -s nowhere "$r/tmp/dangling"
	mkfifo "$r/tmp/fifo"
	mknod "$r/tmp/null" c 1 3
	truncate -s 1G "$r/tmp/sparse"
	mkdir -p "$r/tmp/deep/a/b/c"
	chmod 3770 "$r/tmp/deep"
	touch "$r/tmp/other" "$r/tmp/$(printf 'new\nline \xff')"
	chown 1000:1000 "$r/tmp/deep/a/b"
	chown 4000000:4000000 "$r/tmp/other"
	chmod 0 "$r/tmp/other"
	owners >"$W/.owners"
}

@test "chown: without it a filesystem that can't be idmapped is refused, and told how" {
	rootfs_on ramfs
	config
	refused "root filesystem: $B/rootfs: on ramfs: owners on it can't be shifted.*move it to ext4.*shift = 'chown'" run -b "$B" "$CT"
	restored
}

@test "chown: run, on each filesystem" {
	local kind
	for kind in ramfs overlay bindfs; do
		[[ $kind != bindfs ]] || requires bindfs
		echo "# $kind"
		rootfs_on "$kind"
		hard
		caps CAP_CHOWN CAP_FOWNER CAP_FSETID CAP_DAC_OVERRIDE
		shell 'id -u; stat -c "%n %u:%g %a" /bin/suid /bin/sgid /tmp/deep/a/b /tmp/null /etc; stat -c %u /tmp/other; touch /new; chown 7:8 /new; cp /bin/busybox /made; chmod 6755 /made'
		if [[ $kind == bindfs ]]; then
			# It numbers files by their names, so a hard link may lead anywhere.
			refused "suid2? has 2 names, 1 of them here" run -b "$B" "$CT"
			rm "$B/rootfs/tmp/suid2"
		fi
		must plain run -b "$B" "$CT"
		local want=$output
		rm "$B"/rootfs/{new,made}
		owners >"$W/.owners"
		must ours run -b "$B" "$CT"
		is "${want/4000000/65534}" "$output" "as under runc, but for an owner outside of the map"
		audited '.rootfs == "chown"'
		is "7:8 644" "$(stat -c '%u:%g %a' "$B/rootfs/new")" "what was made inside"
		is "0:0 6755" "$(stat -c '%u:%g %a' "$B/rootfs/made")" "a setuid program that was made inside"
		rm "$B"/rootfs/{new,made}
		touch -d "$(awk '$1 == "." {print "@" $5}' "$W/.owners")" "$B/rootfs"
		restored
		umount "$B/rootfs"
		[[ $kind != overlay ]] || umount "$W/merged"
		[[ -z ${FUSE:-} ]] || eventually eval '! kill -0 $FUSE'
		rm -rf "$W"/{tree,lower,upper,work,merged} "$B/rootfs"
		cp -a "$UR_TEMPLATE/rootfs" "$B/rootfs"
	done
}

@test "chown: create, start, exec, delete; the owners are the container's in between" {
	rootfs_on ramfs
	hard
	update_config '.linux.cgroupsPath = $path | .process.args = ["sleep", "1000"]' --arg path "/$CT-ours"
	must ours create -b "$B" "$CT"
	is "$START:$START 4755" "$(stat -c '%u:%g %a' "$B/rootfs/bin/suid")" "while it is there"
	is "$((START + 1000)):$((START + 8)) 2755" "$(stat -c '%u:%g %a' "$B/rootfs/bin/sgid")" "while it is there"
	is "$START" "$(stat -c %u "$B/rootfs/tmp/link")" "a symbolic link, not what it points to"
	is 0 "$(stat -c %u /etc/passwd)" "what a symbolic link points to"
	is 4000000 "$(stat -c %u "$B/rootfs/tmp/other")" "an owner outside of the map"
	is 0 "$(stat -c %b "$B/rootfs/tmp/sparse")" "blocks of a sparse file"
	must ours start "$CT"
	must ours exec "$CT" stat -c %u:%a /bin/suid /tmp/suid2
	is $'0:4755\n0:4755' "$output" "inside"
	# Nobody else takes it, or a part of it.
	cp -a "$B" "$W/other"
	rm -rf "$W/other/rootfs"
	mkdir "$W/other/rootfs"
	mount --bind "$B/rootfs" "$W/other/rootfs"
	room 2
	for root in "$B/rootfs" "$B/rootfs/tmp" "$W/other/rootfs"; do
		jq --arg root "$root" '.root.path = $root' <"$B/config.json" >"$W/other/config.json"
		config 'shift = "chown"' "rootfs-dirs = [\"$B\"]"
		try ours run -b "$W/other" other
		is 1 "$status" status
		has "$errput" "root filesystem: $B/rootfs: its owners on disk are those of container ..?$CT.*until that is deleted"
	done
	umount "$W/other/rootfs"
	must "$CTL" gc
	is 1 "$(find "$JOURNALS" -mindepth 1 -maxdepth 1 | wc -l)" "journals of what lives"
	must ours delete -f "$CT"
	restored
	process true
	must ours run -b "$B" "$CT-2"
}

@test "chown: what can't be undone is refused before anything is changed" {
	rootfs_on ramfs
	hard
	ln "$B/rootfs/bin/suid" "$B/rootfs/tmp/elsewhere"
	mkdir "$B/rootfs/root/in"
	mv "$B/rootfs/bin" "$B/rootfs/tmp/elsewhere" "$B/rootfs/root/in/" 2>/dev/null
	owners >"$W/.owners"
	update_config '.root.path = "rootfs/root/in"'
	refused "(bin/suid|elsewhere) has 3 names, 2 of them here: its owner would change elsewhere too" run -b "$B" "$CT"
	restored
	update_config '.root.path = "rootfs"'
	local id
	for id in "$START:0" "0:$START" "$((START + COUNT - 1)):0"; do
		chown -h "$id" "$B/rootfs/tmp/dangling"
		owners >"$W/.owners"
		refused "tmp/dangling: .ID is [0-9]+, one of the container's own IDs on the host" run -b "$B" "$CT"
		restored
	done
	chown -h 0:0 "$B/rootfs/tmp/dangling"
	owners >"$W/.owners"
	mount -o remount,bind,ro "$B/rootfs"
	refused "it is mounted read-only" run -b "$B" "$CT"
	mount -o remount,bind,rw "$B/rootfs"
	restored
	# Inside and outside are the same IDs for some.
	book "dockroot:100000:200000:size=200000"
	refused "are IDs both inside and outside" run -b "$B" "$CT"
	restored
}

@test "chown: an engine's overlay is refused, since its layers are others' too" {
	mkdir -p "$W"/engine/{ram,l/diff,l/work}
	mount -t ramfs ramfs "$W/engine/ram"
	mkdir "$W/engine/ram/diff"
	cp -a "$B/rootfs/." "$W/engine/ram/diff"
	mount -t overlay -o "lowerdir=$W/engine/ram/diff,upperdir=$W/engine/l/diff,workdir=$W/engine/l/work" overlay "$B/rootfs"
	WRITES=1
	config 'shift = "chown"'
	refused "owners on it can't be shifted.*shift = 'chown' doesn't change an overlay: its layers are other containers' too" run -b "$B" "$CT"
	umount "$B/rootfs" "$W/engine/ram"
}

@test "chown: so is one of FUSE" {
	[[ -c /dev/fuse ]] && command -v fuse-overlayfs >/dev/null || skip "needs /dev/fuse and fuse-overlayfs"
	mkdir -p "$W"/{lower,upper,work}
	cp -a "$B/rootfs/." "$W/lower"
	fuse-overlayfs -f -o "lowerdir=$W/lower,upperdir=$W/upper,workdir=$W/work" "$B/rootfs" </dev/null >/dev/null 2>&1 3>&- &
	FUSE=$!
	disown
	eventually mountpoint -q "$B/rootfs"
	WRITES=1
	config 'shift = "chown"'
	refused "on fuse: owners on it can't be shifted.*shift = 'chown' doesn't change an overlay" run -b "$B" "$CT"
	is "" "$(ls -A "$W/upper")" "the upper layer"
}

@test "chown: plan says so, and changes nothing" {
	rootfs_on ramfs
	must "$CTL" plan --bundle "$B" --config "$CONF" --json
	is chown "$(jq -r .rootfs <<<"$output")" "plan"
	restored
	ln "$B/rootfs/bin/busybox" "$B/rootfs/tmp/second"
	mkdir "$B/rootfs/root/in"
	mv "$B/rootfs/tmp/second" "$B/rootfs/root/in"
	update_config '.root.path = "rootfs/root/in"'
	try "$CTL" plan --bundle "$B" --config "$CONF" --json
	has "$output$errput" "second has 2 names, 1 of them here"
	rm -r "$B/rootfs/root/in"
}

@test "chown: what can be idmapped is never changed" {
	config 'shift = "chown"'
	process stat -c '%u:%g' /bin
	must ours run -b "$B" "$CT"
	is 0:0 "$output" inside
	audited '.rootfs == "idmap"'
}

@test "chown: file capabilities and ACLs" {
	rootfs_on overlay
	hard
	cp "$B/rootfs/bin/busybox" "$B/rootfs/bin/capped"
	setcap cap_net_raw,cap_chown=ep "$B/rootfs/bin/capped"
	setfacl -m u:1000:rw,g:8:r,u:5000000:r "$B/rootfs/bin/suid"
	setfacl -m d:u:1000:rwx "$B/rootfs/tmp/deep"
	owners >"$W/.owners"
	update_config '.linux.cgroupsPath = $path | .process.args = ["sleep", "1000"]' --arg path "/$CT-ours"
	must ours create -b "$B" "$CT"
	has "$(getcap -n "$B/rootfs/bin/capped")" "cap_chown,cap_net_raw=ep \[rootid=$START\]"
	has "$(getfacl -n "$B/rootfs/bin/suid" 2>/dev/null)" "^user:$((START + 1000)):rw-"
	has "$(getfacl -n "$B/rootfs/bin/suid" 2>/dev/null)" "^group:$((START + 8)):r--"
	has "$(getfacl -n "$B/rootfs/bin/suid" 2>/dev/null)" "^user:5000000:r--"
	has "$(getfacl -n "$B/rootfs/tmp/deep" 2>/dev/null)" "^default:user:$((START + 1000)):rwx"
	is 4775 "$(stat -c %a "$B/rootfs/bin/suid")" "with an ACL"
	must ours delete -f "$CT"
	restored
}

# few: a tree with one file of each kind, since every step takes its time.
few() {
	local r=$B/rootfs
	find "$r/bin" -type l ! -name sleep ! -name true -delete
	rm -r "${r:?}"/{root,run,usr,var}
	cp "$r/bin/busybox" "$r/bin/suid"
	setcap cap_net_raw=ep "$r/bin/busybox"
	setfacl -m u:1000:rx "$r/bin/suid"
	chown 1000:8 "$r/bin/suid"
	chmod 6755 "$r/bin/suid"
	ln "$r/bin/suid" "$r/tmp/suid2"
	owners >"$W/.owners"
}

@test "chown: killed at each step of create" {
	local n
	rootfs_on overlay
	few
	update_config '.linux.cgroupsPath = $path | .process.args = ["sleep", "1000"]' --arg path "/$CT-ours"
	for ((n = 1; ; n++)); do
		try "$UR_HELPERS/killat" -own "$n" "${ours_cmd[@]}" create -b "$B" "$CT"
		((status != 3)) || break
		is 0 "$status" "killed at $n"
		if ((n % 2)); then
			ours delete -f "$CT" >/dev/null 2>&1 || true
			must "$CTL" gc
		else
			# The next start does it, of whatever container.
			ours delete -f "$CT" >/dev/null 2>&1 || true
			must ours run -b "$UR_TEMPLATE" "$CT-next"
		fi
		restored
	done
	((n > 60))
	echo "create: $n"
	must ours delete -f "$CT"
	restored
}

@test "chown: killed at each step of delete" {
	local n
	rootfs_on overlay
	few
	update_config '.linux.cgroupsPath = $path | .process.args = ["sleep", "1000"]' --arg path "/$CT-ours"
	for ((n = 1; ; n++)); do
		must ours create -b "$B" "$CT"
		try "$UR_HELPERS/killat" -own "$n" "${ours_cmd[@]}" delete -f "$CT"
		((status != 3)) || break
		is 0 "$status" "killed at $n"
		((n % 2)) || eventually "$CTL" gc
		ours delete -f "$CT" >/dev/null 2>&1 || true
		eventually eval '"$CTL" gc >/dev/null && [[ -z $(ls -A "$JOURNALS") ]]'
		restored
	done
	((n > 30))
	restored
}

@test "chown: a full disk, and a file that can't be changed: all is undone" {
	# Of an overlay a file is copied for its new owner.
	mv "$B/rootfs" "$W/tree"
	mkdir -p "$B/rootfs" "$W/small" "$W/merged"
	mount -t tmpfs -o size=3M tmpfs "$W/small"
	mkdir "$W"/small/{upper,work} "$W/lower"
	mv "$W/tree" "$W/lower/rootfs"
	cp "$W/lower/rootfs/bin/busybox" "$W/lower/rootfs/tmp/second"
	mount -t overlay -o "lowerdir=$W/lower,upperdir=$W/small/upper,workdir=$W/small/work" overlay "$W/merged"
	mount --bind "$W/merged/rootfs" "$B/rootfs"
	WRITES=1
	config 'shift = "chown"'
	owners >"$W/.owners"
	refused "root filesystem: $B/rootfs: its owners couldn't be changed on disk \(shift = 'chown'\): .*: no space left on device: make room there" run -b "$B" "$CT"
	restored
	umount "$B/rootfs" "$W/merged"
	# Nor is there room for the journal: 4 KiB of one file are all there is.
	rm -rf "$JOURNALS"
	mount -t tmpfs -o size=4k tmpfs "${JOURNALS%/*}"
	head -c 4096 /dev/zero >"${JOURNALS%/*}/full"
	mount -t overlay -o "lowerdir=$W/lower,upperdir=$W/small/upper,workdir=$W/small/work" overlay "$W/merged"
	mount --bind "$W/merged/rootfs" "$B/rootfs"
	refused "no space left on device: make room on $JOURNALS" run -b "$B" "$CT"
	umount "${JOURNALS%/*}"
	restored
	umount "$B/rootfs" "$W/merged" "$W/small"
	# Immutable, below FUSE that has no such thing.
	mv "$W/lower/rootfs" "$W/tree"
	touch "$W/tree/etc/fixed"
	chattr +i "$W/tree/etc/fixed"
	bindfs -f -o suid,dev "$W/tree" "$B/rootfs" </dev/null >/dev/null 2>&1 3>&- &
	FUSE=$!
	disown
	eventually mountpoint -q "$B/rootfs"
	owners >"$W/.owners"
	refused "etc/fixed: fchownat: operation not permitted: it may be immutable, see .lsattr -d." run -b "$B" "$CT"
	restored
	chattr -i "$W/tree/etc/fixed"
}

@test "chown: what can't be undone keeps its IDs, and says what mends it" {
	rootfs_on overlay
	update_config '.linux.cgroupsPath = $path | .process.args = ["sleep", "1000"]' --arg path "/$CT-ours"
	must ours create -b "$B" "$CT"
	# As after a reboot, before the filesystem is mounted.
	must "$RUNC" --root "$W/ours" delete -f "$CT"
	local j
	j=$(echo "$JOURNALS"/*)
	sed -i 's/"boot":"[^"]*"/"boot":"another"/' "$j/journal.json"
	umount "$B/rootfs" "$W/merged"
	try "$CTL" gc
	is 1 "$status" status
	has "$errput" "root filesystem: $B/rootfs: its owners on disk are those of container \"$CT\", which has ended, and it isn't where it was: mount its filesystem and run .usernsctl gc.; or if it is gone for good: .rm -r $j."
	# Its range isn't given to another one.
	book "dockroot:$START:$COUNT:"
	try ours run -b "$UR_TEMPLATE" "$CT-b"
	is 1 "$status" status
	room 2
	jq '.process.args = ["cat", "/proc/self/uid_map"]' <"$UR_TEMPLATE/config.json" >"$W/map.json"
	cp -a "$UR_TEMPLATE" "$W/b2"
	cp "$W/map.json" "$W/b2/config.json"
	must ours run -b "$W/b2" "$CT-c"
	has "$output" "^ +0 +$((START + COUNT)) +$COUNT$"
	# Explicit maps of it are refused.
	jq --argjson start "$START" '.linux.namespaces += [{type: "user"}] | .linux.uidMappings = [{containerID: 0, hostID: $start, size: 10}] | .linux.gidMappings = .linux.uidMappings' <"$UR_TEMPLATE/config.json" >"$W/b2/config.json"
	try ours run -b "$W/b2" "$CT-d"
	is 1 "$status" status
	has "$errput" "its owners on disk are those of container ..?$CT.*, which has ended"
	mount -t overlay -o "lowerdir=$W/lower,upperdir=$W/upper,workdir=$W/work" overlay "$W/merged"
	mount --bind "$W/merged/rootfs" "$B/rootfs"
	# Others must not reach what is about to be root's again.
	chmod 0711 "$W" "$B" "$BATS_RUN_TMPDIR"
	local up=$W closed=()
	while [[ $up != / ]]; do
		up=$(dirname "$up")
		[[ $(stat -c %a "$up") == *[1357] ]] || { closed+=("$up:$(stat -c %a "$up")"); chmod o+x "$up"; }
	done
	try "$CTL" gc
	is 1 "$status" status
	has "$errput" "can't be changed back while others than root can reach it"
	chmod 0700 "$W"
	for up in "${closed[@]}"; do chmod "${up##*:}" "${up%:*}"; done
	must "$CTL" gc
	has "$output" "changed the owners back of $B/rootfs"
	restored
	book "dockroot:$START:$COUNT:"
	must ours run -b "$UR_TEMPLATE" "$CT-e"
}

@test "chown: a progress bar on a terminal, and nowhere else" {
	rootfs_on ramfs
	mkdir "$B/rootfs/tmp/many"
	(cd "$B/rootfs/tmp/many" && seq 1500 | xargs touch)
	owners >"$W/.owners"
	process true
	must ours run -b "$B" "$CT"
	is "" "$output$errput" output
	try by_script "${ours_cmd[@]}" run -b "$B" "$CT"
	is 0 "$status" status
	has "$output" "changing owners: 1024 of [0-9]+ files \([0-9]+%\)"
	has "$output" "changing owners back: 1024 of [0-9]+ files"
	restored
}

@test "chown: signals and the exit code of run, as under runc" {
	rootfs_on ramfs
	shell 'exit 7'
	same run -b "$B" "$CT"
	restored
	process no-such-program
	same run -b "$B" "$CT"
	restored
	shell 'trap "echo got; exit 9" USR1; while :; do sleep 0.05; done'
	spawn it ours run -b "$B" "$CT"
	eventually is_status ours running
	sleep 0.3
	kill -USR1 "$pid"
	reap "$pid"
	is 9 "$status" status
	is got "$(<"$W/it.out")" output
	restored
}

@test "chown: two at once on one root filesystem: one of them gets it" {
	rootfs_on ramfs
	book "dockroot:$START:$COUNT:" "dockroot:$((START + COUNT)):$((3 * COUNT)):"
	cp -a "$UR_TEMPLATE" "$W/other"
	update_config '.linux.cgroupsPath = $path | .process.args = ["sleep", "1000"]' --arg path "/$CT-a"
	jq --arg root "$B/rootfs" --arg path "/$CT-b" '.root.path = $root | .linux.cgroupsPath = $path' <"$B/config.json" >"$W/other/config.json"
	config 'shift = "chown"' "rootfs-dirs = [\"$B\"]"
	local n a b ended
	for n in 1 2 3; do
		spawn a ours create -b "$B" "$CT-a"
		a=$pid
		spawn b ours create -b "$W/other" "$CT-b"
		b=$pid
		reap "$a"
		ended=$status
		reap "$b"
		is 1 "$((ended + status))" "one of them"
		has "$(cat "$W/a.err" "$W/b.err")" "its owners on disk are those of container"
		is 1 "$(stat -c %u "$B/rootfs/bin" "$B/rootfs/etc/passwd" "$B/rootfs" | sort -u | wc -l)" "owners"
		ours delete -f "$CT-a" 2>/dev/null || true
		ours delete -f "$CT-b" 2>/dev/null || true
		restored
	done
}
