#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# usernsctl configure newuidmap: ours in the place of shadow's, and the programs that call
# newuidmap by its name. /usr and /var/lib, with what dpkg knows, are overlays here; the programs are installed
# as `make install` does.

load helpers
load idmap

OWN=/usr/libexec/userns-runtime
ASIDE=$OWN/shadow

setup_file() {
	local dir name
	command -v dpkg-divert newuidmap newgidmap >/dev/null || return 0
	for dir in usr var/lib; do
		mkdir -p "$BATS_FILE_TMPDIR/upper/$dir" "$BATS_FILE_TMPDIR/work/$dir"
		mount -t overlay -o "lowerdir=/$dir,upperdir=$BATS_FILE_TMPDIR/upper/$dir,workdir=$BATS_FILE_TMPDIR/work/$dir" overlay "/$dir"
	done
	mkdir -p "$OWN"
	rm -rf "$ASIDE"
	for name in newuidmap newgidmap; do cp "${USERNS:-$TREE/bin/userns}" "$OWN/$name"; done
	setcap cap_setuid=p "$OWN/newuidmap"
	setcap cap_setgid=p "$OWN/newgidmap"
}

eval "idmap_$(declare -f setup)"
eval "helpers_$(declare -f teardown)"

setup() {
	command -v dpkg-divert newuidmap newgidmap >/dev/null || skip "needs dpkg-divert, newuidmap and newgidmap"
	idmap_setup
	dpkg-divert --list | sort >"$W/diversions"
	programs >"$W/programs"
	RUN=$U/ann/run # the snapshots leave it out
	install -d -m 0700 -o ann -g ann "$RUN"
}

teardown() {
	"$CTL" configure newuidmap --undo >/dev/null 2>&1 || true
	[[ -z ${BATS_TEST_COMPLETED:-} ]] || as_before || return
	rm -rf "${U:?}/ann"
	helpers_teardown
}

programs() { find /usr/bin/new?idmap* "$OWN" -printf '%p %y %m %U:%G %s %l\n' | sort; }

as_before() {
	dpkg-divert --list | sort | diff "$W/diversions" - && programs | diff "$W/programs" -
}

diverted() { must "$CTL" configure newuidmap "$@"; }

# by_ann COMMAND...: with a home, and a runtime directory, and nothing else that could matter.
by_ann() { as ann env -i -C "$U/ann" HOME="$U/ann" USER=ann LOGNAME=ann PATH=/usr/sbin:/usr/bin:/sbin:/bin XDG_RUNTIME_DIR="$RUN" "$@"; }

@test "configure newuidmap: ours are in the place of shadow's, which nobody reaches; undo gives all of it back" {
	diverted --dry-run
	is "mkdir -m 0700 $ASIDE
dpkg-divert --local --rename --divert $ASIDE/newuidmap --add /usr/bin/newuidmap
ln -s $OWN/newuidmap /usr/bin/newuidmap
dpkg-divert --local --rename --divert $ASIDE/newgidmap --add /usr/bin/newgidmap
ln -s $OWN/newgidmap /usr/bin/newgidmap" "$output"
	as_before
	diverted
	has "$(dpkg-divert --list)" "^local diversion of /usr/bin/newuidmap to $ASIDE/newuidmap$"
	is "$OWN/newgidmap" "$(readlink /usr/bin/newgidmap)"
	is "4755 700" "$(stat -c %a "$ASIDE/newuidmap" "$ASIDE" | paste -sd' ')"
	# By a shell: setpriv has its capabilities until it execs.
	try as ann sh -c 'exec "$0"' "$ASIDE/newuidmap"
	is 126 "$status"
	diverted
	is "already: newuidmap and newgidmap go by the book" "$output"
	must "$CTL" configure newuidmap --json
	is "[]" "$output"
	# An upgrade of the package puts its new programs where nobody reaches them.
	local deb=$W/deb
	mkdir -p "$deb/DEBIAN" "$deb/usr/bin"
	printf 'Package: uidmap\nVersion: 99:1\nArchitecture: all\nMaintainer: T <t@example.org>\nDescription: t\n' >"$deb/DEBIAN/control"
	for name in newuidmap newgidmap; do
		echo newer >"$deb/usr/bin/$name"
		chmod 4755 "$deb/usr/bin/$name"
	done
	dpkg-deb --root-owner-group -Zgzip -b "$deb" "$W/uidmap.deb" >/dev/null
	cp -a "$ASIDE" "$W/aside"
	must dpkg --force-all -i "$W/uidmap.deb"
	is newer "$(<"$ASIDE/newuidmap")"
	is "$OWN/newuidmap" "$(readlink /usr/bin/newuidmap)"
	cp -a "$W/aside/." "$ASIDE/"
	# Lost capabilities are found, and given back.
	setcap -r "$OWN/newgidmap"
	try "$CTL" doctor
	has "$output" "^error: $OWN/newgidmap: has neither its file capability nor setuid"
	has "$output" "mend: setcap cap_setgid=p $OWN/newgidmap$"
	diverted
	is "gave $OWN/newgidmap the file capabilities cap_setgid=p" "$output"
	is "$OWN/newgidmap cap_setgid=p" "$(getcap "$OWN/newgidmap")"
	must "$CTL" configure newuidmap --undo --dry-run
	must "$CTL" configure newuidmap --undo
	is "gave back /usr/bin/newuidmap from $ASIDE/newuidmap
gave back /usr/bin/newgidmap from $ASIDE/newgidmap" "$output"
	as_before
	try "$CTL" configure newuidmap --undo
	is 1 "$status"
}

@test "configure newuidmap: refusals, and who is left out" {
	try "$CTL" configure newuidmap --owner ann
	is 2 "$status"
	try "$CTL" configure newuidmap --divert
	is 2 "$status"
	echo "ben:$((START + 9 * COUNT)):10" >>/etc/subuid
	must "$CTL" configure newuidmap --dry-run
	has "$errput" "ben in /etc/subuid, and no line of the book"
	has "$errput" "usernsctl add ben"
	rm "$BOOK"
	try "$CTL" configure newuidmap
	is 1 "$status"
	has "$errput" "there is no book"
	book "ann:$START:$COUNT:"
	chmod 0777 "$OWN/newuidmap"
	try "$CTL" configure newuidmap
	is 1 "$status"
	has "$errput" "$OWN/newuidmap: has mode 0777"
	chmod 0755 "$OWN/newuidmap"
	try as ann "$CTL" configure newuidmap
	is 1 "$status"
	# What can't be told is said before anything is done.
	rm /etc/subuid
	mkdir /etc/subuid
	try "$CTL" configure newuidmap
	is 1 "$status"
	has "$errput" "/etc/subuid: isn't a regular file"
	rmdir /etc/subuid
	as_before
}

@test "configure newuidmap: unshare --map-auto follows the book, and not /etc/subuid" {
	requires unprivileged-users map-auto
	diverted
	must by_ann unshare --map-auto --map-root-user cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups
	is "0 $ANN 1
1 $START 65535
0 $(id -g ann) 1
1 $START 65535
allow" "$(awk '{$1 = $1; print}' <<<"$output")"
	# What /etc/subuid gives beyond the book isn't had, whoever wrote it there.
	sed -i "s/^ann:.*/ann:$((START + 9 * COUNT)):65536/" /etc/subuid
	try by_ann unshare --map-auto --map-root-user true
	((status != 0))
	has "$errput" "newuidmap: uid extent .*: outer \[$((START + 9 * COUNT))-.*isn't granted to ann"
	sed -i /^ann:/d /etc/subuid
	must "$CTL" export-subid
	must by_ann unshare --map-auto --map-root-user true
	# Shadow's would give a line with deny-setgroups without the flag, so it has no entry; ours hold it.
	sed -i /^cat:/d /etc/subuid /etc/subgid
	book "cat:$((CAT + 2000)):1000:deny-setgroups,size=1000" "$DAN:$DANS:1000:no-new-privs,size=1000"
	must "$CTL" export-subid
	has "$output" "added +cat +$((CAT + 2000)) +1000 +/etc/subgid"
	has "$errput" "has the flag no-new-privs, which newuidmap and newgidmap don't enforce"
	must as cat unshare --map-auto cat /proc/self/gid_map /proc/self/setgroups
	is "0 $((CAT + 2000)) 1000
deny" "$(awk '{$1 = $1; print}' <<<"$output")"
	# So shadow's don't come back while it has one.
	local dry
	for dry in "" --dry-run; do
		try "$CTL" configure newuidmap --undo $dry
		is 1 "$status"
		has "$errput" "configure: cat: IDs were exported of lines with a flag that shadow's newuidmap and newgidmap don't hold"
		has "$errput" "try: usernsctl export-subid --undo cat$"
		is "$OWN/newuidmap" "$(readlink /usr/bin/newuidmap)"
	done
	must "$CTL" export-subid --undo cat
	# What others wrote is theirs to remove.
	echo "cat:$((CAT + 2000)):1000" >>/etc/subgid
	must "$CTL" configure newuidmap --undo
	has "$errput" "/etc/subgid:[0-9]+: gives .* to cat without the flag deny-setgroups of $BOOK:1: remove the entry, or the flag"
	must "$CTL" export-subid
	has "$errput" "has the flag deny-setgroups, which newuidmap and newgidmap don't enforce"
	# A book that nobody can read keeps nobody's newuidmap away.
	sed -i /^cat:/d /etc/subgid
	diverted
	echo nonsense >>"$BOOK"
	must "$CTL" configure newuidmap --undo
	has "$errput" "isn't known: .*$BOOK:3"
}

@test "configure newuidmap: shadow's that somebody has open, or another name of, gives nothing any more" {
	requires unprivileged-users
	# A file of the overlay's own, as it is where no overlay is.
	local name
	for name in newuidmap newgidmap; do touch "/usr/bin/$name"; done
	ln /usr/bin/newuidmap /usr/bin/kept
	local sum
	sum=$(sha256sum /usr/bin/new?idmap)
	cat >"$U/ann/later" <<-'SH'
		exec 8</usr/bin/newuidmap 9</usr/bin/newgidmap
		echo >ready
		until [ -e go ]; do sleep 0.05; done
		unshare --user sleep 1000 &
		until [ "$(cat /proc/$!/comm)" = sleep ]; do sleep 0.05; done
		for way in /proc/self/fd/8 /proc/self/fd/9 /usr/bin/kept; do "$way" $! 0 "$1" 10 && echo "$way"; done
		kill $!
	SH
	setpriv --reuid ann --regid ann --init-groups env -i -C "$U/ann" PATH=/usr/bin:/bin sh later "$START" <"$STDIN" >"$W/later.out" 2>"$W/later.err" 3>&- &
	pid=$!
	eventually test -e "$U/ann/ready"
	diverted
	touch "$U/ann/go"
	reap "$pid"
	is "" "$(<"$W/later.out")" "what maps yet: $(<"$W/later.err")"
	is 3 "$(grep -c 'Operation not permitted' "$W/later.err")" "$(<"$W/later.err")"
	is 4755 "$(stat -c %a "$ASIDE/newuidmap")"
	must "$CTL" configure newuidmap --undo
	is "$sum" "$(sha256sum /usr/bin/new?idmap)"
	target ann
	must as ann /usr/bin/newuidmap "$pid" 0 "$START" 10
	untarget
	rm /usr/bin/kept
}

# image: a busybox for ann, as a tar archive at IMAGE.
image() {
	IMAGE=$U/ann/busybox.tar
	tar -C "$UR_TEMPLATE/rootfs" --owner 0 --group 0 -cf "$IMAGE" .
	chown ann: "$IMAGE"
}

# containers_conf: Debian's Podman and Buildah as a user without a systemd of their own has them.
containers_conf() {
	local dir=$U/ann/.config/containers
	install -d -o ann -g ann "$U/ann/.config" "$dir"
	printf '[storage]\ndriver = "%s"\n' "$1" >"$dir/storage.conf"
	printf '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n[containers]\nnetns = "none"\ndefault_ulimits = []\n' >"$dir/containers.conf"
	echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$dir/policy.json"
}

@test "configure newuidmap: rootless podman runs inside the book's range, and not outside it" {
	requires unprivileged-users
	[[ -x /usr/bin/podman && -x /usr/sbin/runc ]] || skip "needs podman and runc"
	diverted
	containers_conf vfs
	image
	must by_ann podman import -q -c 'CMD ["sh"]' "$IMAGE" localhost/busybox
	must by_ann podman --runtime /usr/sbin/runc run --rm localhost/busybox sh -c 'cat /proc/self/uid_map; id -u; touch /f && chown 7:7 /f && stat -c %u:%g /f'
	is "0 $ANN 1
1 $START 65536
0
7:7" "$(awk '{$1 = $1; print}' <<<"$output")"
	# What su, sshd and apt do, works inside, but where the line denies it.
	must by_ann podman --runtime /usr/sbin/runc run --rm localhost/busybox sh -c 'echo nobody:x:7:7::/:/bin/sh >/etc/passwd; su nobody -c id'
	has "$output" "^uid=7"
	# As it was stored, the file belongs to an ID of the line.
	must by_ann podman --runtime /usr/sbin/runc run --name kept localhost/busybox sh -c 'touch /f && chown 7:7 /f'
	must by_ann podman unshare sh -c 'stat -c %u "$(podman mount kept)/f"; readlink /proc/self/ns/user'
	is 7 "$(head -n 1 <<<"$output")"
	is "$((START + 6))" "$(stat -c %u "$(find "$U/ann/.local/share/containers/storage/vfs" -name f -user "$((START + 6))" | head -n 1)")"
	must by_ann podman rm kept
	book "ann:$START:$COUNT:deny-setgroups"
	must by_ann podman system migrate
	must by_ann podman --runtime /usr/sbin/runc run --rm localhost/busybox cat /proc/self/setgroups
	is deny "$output"
	must by_ann podman system migrate
	outside
	try by_ann podman --runtime /usr/sbin/runc run --rm localhost/busybox true
	((status != 0))
	has "$errput" "newuidmap: uid extent 1:$START:65536: outer .*: ann or $ANN: no line of the book grants anything"
	# With shadow's back, what was stored before is there, by the same IDs.
	must "$CTL" configure newuidmap --undo
	must by_ann podman --runtime /usr/sbin/runc run --rm localhost/busybox cat /proc/self/uid_map
	is "0 $ANN 1
1 $START 65536" "$(awk '{$1 = $1; print}' <<<"$output")"
	must by_ann podman system migrate
}

# outside: ann's line goes away; /etc/subuid still has it.
outside() { book "ben:$((START + 5 * COUNT)):$COUNT:"; }

@test "configure newuidmap: buildah unshare and a build follow the book" {
	requires unprivileged-users
	[[ -x /usr/bin/buildah && -x /usr/sbin/runc ]] || skip "needs buildah and runc"
	diverted
	containers_conf vfs
	image
	must by_ann buildah unshare cat /proc/self/uid_map
	is "0 $ANN 1
1 $START 65536" "$(awk '{$1 = $1; print}' <<<"$output")"
	must by_ann mkdir build
	printf 'FROM scratch\nADD busybox.tar /\nRUN touch /f && chown 7:7 /f\nRUN stat -c %%u /f >/owner\n' >"$U/ann/build/Dockerfile"
	cp "$IMAGE" "$U/ann/build/"
	must by_ann buildah bud -q --runtime /usr/sbin/runc --network none --isolation oci -t localhost/built build
	must by_ann buildah unshare sh -c 'c=$(buildah from localhost/built); cat "$(buildah mount "$c")/owner"; buildah rm "$c" >/dev/null'
	is 7 "$output"
	outside
	# It goes on with what needs nobody, and says so.
	must by_ann buildah unshare cat /proc/self/uid_map
	is "0 $ANN 1" "$(awk '{$1 = $1; print}' <<<"$output")"
	has "$errput" "newuidmap: uid extent 1:$START:65536: outer .*: ann or $ANN: no line of the book grants anything"
}

@test "configure newuidmap: rootlesskit follows the book" {
	requires unprivileged-users
	command -v rootlesskit >/dev/null || skip "needs rootlesskit"
	diverted
	must by_ann rootlesskit --net host cat /proc/self/uid_map /proc/self/gid_map
	is "0 $ANN 1
1 $START 65536
0 $(id -g ann) 1
1 $START 65536" "$(awk '{$1 = $1; print}' <<<"$output")"
	outside
	try by_ann rootlesskit --net host true
	((status != 0))
	has "$errput" "newuidmap.* no line of the book grants anything"
}

@test "configure newuidmap: bubblewrap, which leaves the maps to newuidmap, follows the book" {
	requires unprivileged-users
	command -v bwrap >/dev/null || skip "needs bwrap"
	diverted
	# By itself it maps one ID. With --userns-block-fd it waits for whoever maps more.
	cat >"$U/ann/wrapped" <<-'SH'
		mkfifo info block
		bwrap --unshare-user --ro-bind / / --proc /proc --dev /dev --userns-block-fd 8 --info-fd 9 \
			cat /proc/self/uid_map /proc/self/gid_map 8<>block 9>info &
		pid=$(sed -n 's/.*"child-pid": \([0-9]*\).*/\1/p' info)
		newuidmap "$pid" 0 "$(id -u)" 1 1 "$1" 100 && newgidmap "$pid" 0 "$(id -g)" 1 1 "$1" 100
		status=$?
		echo >block &
		wait %1
		exit "$status"
	SH
	must by_ann timeout 20 bash "$U/ann/wrapped" "$START"
	is "0 $ANN 1
1 $START 100
0 $(id -g ann) 1
1 $START 100" "$(awk '{$1 = $1; print}' <<<"$output")"
	rm "$U/ann/info" "$U/ann/block"
	outside
	try by_ann timeout 20 bash "$U/ann/wrapped" "$START"
	((status != 0))
	has "$errput" "newuidmap: uid extent 1:$START:100: .*no line of the book grants anything"
}
