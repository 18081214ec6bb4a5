#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# doctor, on a host that is sound, and on one that is broken in many ways, each of them
# really: files, mounts and modes, and a file bound over a setting of the kernel.
#
# /usr and /var/lib are a test's own. The programs are where `make install` puts them.

load helpers

eval "helpers_$(declare -f setup)"
eval "helpers_$(declare -f teardown)"
eval "helpers_$(declare -f snapshot)"

# snapshot: without bats' own clock of the test before, which may be ending.
snapshot() {
	# Not by a pipe: it looks for its own processes as this shell's children.
	helpers_snapshot >"$W/.snapshot"
	grep -vE '^ *\[sleep\] <defunct>$|/bats-exec-test ' "$W/.snapshot"
}

setup() {
	local dir flags=suid
	for dir in /usr /var/lib; do
		mkdir -p "$BATS_TEST_TMPDIR/layers$dir"/{upper,work}
		mount -t overlay -o "$flags,lowerdir=$dir,upperdir=$BATS_TEST_TMPDIR/layers$dir/upper,workdir=$BATS_TEST_TMPDIR/layers$dir/work" overlay "$dir"
		flags=nosuid # the second would show what its layer is mounted below as well, for all the gate knows
	done
	# What lies in an overlay can't be shifted.
	for dir in docker containerd containers; do
		mkdir -p "/var/lib/$dir"
		mount -t tmpfs -o mode=0755 tmpfs "/var/lib/$dir"
	done
	helpers_setup
	sound
}

teardown() {
	local ok=0 dir
	helpers_teardown || ok=1
	for dir in docker containerd containers; do umount --lazy "/var/lib/$dir"; done
	umount --lazy /var/lib
	umount --lazy /usr
	return "$ok"
}

# sound: a host as its administrator wants it. Docker, containerd and Podman start containers
# with the gate, which stands in the place of the distribution's runc too.
sound() {
	install -m 0755 "$OURS" "$CTL" /usr/bin/
	install -D -m 0755 "$RUNC" /usr/libexec/userns-runtime/runc
	divert_runc
	rm -f "$BOOK"
	/usr/bin/usernsctl init >/dev/null
	mkdir -p /etc/docker /etc/containerd /etc/containers
	rm -f /etc/containers/storage.conf
	install -m 0644 "$TREE/config/examples/engines/containers.conf" /etc/containers/containers.conf
	gate_docker
	gate_containerd
	mkdir -p /var/lib/docker/volumes /var/lib/docker/overlay2 /var/lib/containers/storage/overlay
	chmod 0710 /var/lib/docker
	chmod 0700 /var/lib/containers/storage
}

divert_runc() {
	local path
	for path in /usr/sbin/runc /usr/bin/runc /usr/local/bin/runc /usr/local/sbin/runc; do
		if [[ -e $path && $(readlink -f "$path") != /usr/bin/userns-runtime ]]; then
			mv "$(readlink -f "$path")" /usr/libexec/runc.distribution
		fi
	done
	ln -sfn /usr/bin/userns-runtime /usr/sbin/runc
}

gate_docker() {
	echo '{"runtimes": {"userns": {"path": "/usr/bin/userns-runtime"}}, "default-runtime": "userns"}' >/etc/docker/daemon.json
}

gate_containerd() {
	sed 's,/usr/bin/userns-runtime-kubernetes,/usr/bin/userns-runtime,' "$TREE/config/examples/engines/containerd.toml" >/etc/containerd/config.toml
}

# doctor: as an administrator calls it; found is its findings.
doctor() {
	try /usr/bin/usernsctl doctor --json "$@"
	found=$output
	is "" "$errput" "standard error"
	jq -e 'type == "array"' <<<"$found" >/dev/null
}

# silent: the host is sound.
silent() {
	try /usr/bin/usernsctl doctor
	is "" "$output" "what doctor says of a sound host"
	is 0 "$status" status
	is "" "$errput" "standard error"
	doctor
	is "[]" "$found" "as JSON"
	is 0 "$status" status
}

# finds SEVERITY SUBJECT MESSAGE: there is such a finding, and it has a mend: mend.
finds() {
	doctor
	is 3 "$status" status
	mend=$(jq -er --arg sev "$1" --arg subject "$2" --arg message "$3" \
		'[.[] | select(.severity == $sev and .subject == $subject and (.message | test($message)))][0].mend' <<<"$found") || {
		echo "no $1 of $2: $3"
		return 1
	}
	[[ -n $mend ]]
}

# only SEVERITY SUBJECT MESSAGE: there is no other finding.
only() {
	finds "$@"
	is 1 "$(jq length <<<"$found")" "findings"
}

# mended: the command that the finding named, typed by root, makes the host sound.
mended() {
	echo "# $mend"
	bash -euc "cd /; $mend" </dev/null
	silent
}

@test "doctor: a sound host, silence" {
	silent
	try /usr/bin/usernsctl doctor --verbose
	is 0 "$status" status
	has "$output" '^fine: kernel [0-9.]+.*: idmapped mounts'
	has "$output" '^fine: /usr/libexec/userns-runtime/runc: runc 1\.[2-9]'
	has "$output" '^fine: docker: starts containers with userns, /usr/bin/userns-runtime \(/etc/docker/daemon.json\)'
	is "" "$(grep -v '^fine: ' <<<"$output" || true)" "lines that aren't facts"
	doctor --verbose
	is '["fine"]' "$(jq -c '[.[].severity] | unique' <<<"$found")" severities
	is "$(wc -l <<<"$output")" "$(grep -c . <<<"$output")" "empty lines"
}

@test "doctor: changes nothing, and leaves nothing" {
	find /etc /usr/bin /usr/libexec /var/lib /var/log /run -xdev -printf '%p %y %m %U:%G %s %T@\n' 2>/dev/null | sort >"$W/all"
	doctor --verbose
	chmod 0711 /var/lib/docker
	doctor
	chmod 0710 /var/lib/docker
	find /etc /usr/bin /usr/libexec /var/lib /var/log /run -xdev -printf '%p %y %m %U:%G %s %T@\n' 2>/dev/null | sort >"$W/all2"
	diff "$W/all" "$W/all2"
}

@test "doctor: command lines that can't be meant" {
	try /usr/bin/usernsctl doctor --jsn
	is 2 "$status" status
	has "$errput" 'did you mean --json'
	try /usr/bin/usernsctl doctor docker
	is 2 "$status" status
	has "$errput" '"docker": expected no argument'
}

@test "doctor: no book" {
	rm "$BOOK"
	only error "$BOOK" "isn't there: nobody may have IDs"
	is "usernsctl init" "$mend" mend
	mended
}

@test "doctor: a book that is refused" {
	chmod 0666 "$BOOK"
	only error "$BOOK" 'mode 0666'
	mended
	echo 'nonsense' >>"$BOOK"
	only error "$BOOK" ":$(wc -l <"$BOOK"): .nonsense. has 0 colons"
	has "$mend" 'correct the line'
	sed -i '$d' "$BOOK"
	silent
}

@test "doctor: subuid collisions, one by one" {
	useradd -M carol
	local start
	start=$(awk -F: '/^dockroot/ {print $2}' "$BOOK")
	printf 'carol:%s:65536\n' $((start + 65536)) >>/etc/subuid
	printf 'carol:%s:65536\n' $((start + 131072)) >>/etc/subgid
	# One finding, since one mend is for both.
	only error "$BOOK:$(grep -n ^dockroot "$BOOK" | cut -d: -f1)" 'belongs to carol by /etc/subuid:[0-9]+: .*; .* belongs to carol by /etc/subgid:'
	has "$mend" '^usernsctl del dockroot --start [0-9]+ && usernsctl add dockroot --length [0-9]+$'
	mended
	userdel carol
	sed -i /^carol/d /etc/subuid /etc/subgid
}

@test "doctor: default-owner without a line" {
	mkdir -p /etc/userns-runtime
	echo "default-owner = 'fleet'" >/etc/userns-runtime/config.toml
	only error default-owner 'gives containers to fleet, who has no line'
	mended
}

@test "doctor: a configuration that is refused" {
	mkdir -p /etc/userns-runtime
	echo "shift = 'sideways'" >/etc/userns-runtime/config.toml
	only error /etc/userns-runtime/config.toml 'no container starts'
	rm /etc/userns-runtime/config.toml
	silent
	: >/etc/userns-runtime/config.toml
	chown 1234 /etc/userns-runtime/config.toml
	only error /etc/userns-runtime/config.toml 'UID 1234'
	mended
}

@test "doctor: user namespaces switched off, or few" {
	local setting=/proc/sys/user/max_user_namespaces
	echo 0 >"$W/none"
	echo 12 >"$W/few"
	mount --bind "$W/none" "$setting"
	only error user.max_user_namespaces 'is 0: no container starts'
	has "$mend" '^sysctl -w user.max_user_namespaces=[1-9][0-9]{3,} && echo .* >>/etc/sysctl.d/99-userns-runtime.conf$'
	echo 'user.max_user_namespaces = 0' >/etc/sysctl.d/10-hardening.conf
	only error user.max_user_namespaces 'is 0 \(/etc/sysctl.d/10-hardening.conf:1\)'
	has "$mend" 'and write so in /etc/sysctl.d/10-hardening.conf:1$'
	rm /etc/sysctl.d/10-hardening.conf
	umount "$setting"
	mount --bind "$W/few" "$setting"
	only warning user.max_user_namespaces 'is 12: at most so many'
	umount "$setting"
	silent
}

@test "doctor: the kernel makes no more user namespaces" {
	# In a user namespace of its own, where the setting is only that one's: doctor says where
	# it runs, and what it meets there.
	try unshare --user --map-root-user --mount bash -c \
		'echo 0 >/proc/sys/user/max_user_namespaces; exec /usr/bin/usernsctl doctor --json'
	is 3 "$status" status
	found=$output
	jq -e 'any(.[]; .subject == "/proc/self/uid_map" and (.message | test("inside of a user namespace")))' <<<"$found"
	jq -e 'any(.[]; .subject == "user.max_user_namespaces" and .severity == "error")' <<<"$found"
}

@test "doctor: no runc but the distribution's, which is old" {
	has "$(/usr/libexec/runc.distribution --version)" '^runc version 1\.[01]\.' || skip "the distribution's runc isn't one before 1.2"
	rm -r /usr/libexec/userns-runtime
	rm /usr/sbin/runc
	mv /usr/libexec/runc.distribution /usr/sbin/runc
	# What is found first depends on whether /usr/bin has a link to it.
	doctor
	is 3 "$status" status
	jq -e 'any(.[]; .severity == "warning" and (.message | test("is runc 1.1.*some things are refused: restore")) and (.mend | test("make install")))' <<<"$found"
	jq -e 'any(.[]; .severity == "warning" and (.message | test("stands beside the gate")) and (.mend | test("configure --divert")))' <<<"$found"
	is 2 "$(jq length <<<"$found")" findings
	install -D -m 0755 "$RUNC" /usr/libexec/userns-runtime/runc
	only warning /usr/sbin/runc 'runc 1.1.* stands beside the gate \(containers go through /usr/libexec/userns-runtime/runc\)'
	is "usernsctl configure --divert" "$mend" mend
	divert_runc
	silent
}

@test "doctor: no runc at all, or one that others can change" {
	chmod 0777 /usr/libexec/userns-runtime/runc
	only error "low-level runtime" 'mode is 0777'
	mended
	chmod 0777 /usr/libexec/userns-runtime
	only error /usr/libexec/userns-runtime/runc 'others than root'
	mended
	chown 1234 /usr/libexec/userns-runtime/runc
	only error "low-level runtime" 'UID 1234'
	mended
	# What others can change isn't run, not even to ask for its version.
	printf '#!/bin/sh\ntouch %s/ran\n' "$W" >/usr/libexec/userns-runtime/runc
	chmod 0777 /usr/libexec/userns-runtime
	doctor
	[[ ! -e $W/ran ]]
}

@test "doctor: userns-runtime is missing, setuid, another's" {
	chmod 4755 /usr/bin/userns-runtime
	only error /usr/bin/userns-runtime 'is setuid'
	mended
	chown 1234 /usr/bin/userns-runtime
	only error /usr/bin/userns-runtime 'UID 1234'
	mended
	mv /usr/bin/userns-runtime "$W/"
	finds error /usr/bin/userns-runtime "isn't there"
	is 1 "$(jq length <<<"$found")" findings
	install -m 0755 "$OURS" /usr/bin/
	silent
	printf '#!/bin/sh\necho userns-runtime version 0.0.1\n' >/usr/bin/userns-runtime
	only warning /usr/bin/userns-runtime 'is version 0.0.1, and usernsctl is'
	# One that hangs is given up, and ends with doctor.
	printf '#!/bin/sh\nsleep 1000\n' >/usr/bin/userns-runtime
	only unknown /usr/bin/userns-runtime 'no answer in ten seconds'
}

@test "doctor: SIGKILL leaves nothing behind" {
	printf '#!/bin/sh\nexec sleep 1000\n' >/usr/bin/userns-runtime
	/usr/bin/usernsctl doctor </dev/null >"$W/out" 2>&1 3>&- &
	local pid=$!
	eventually eval '[[ -n $(ps --ppid '"$pid"' -o pid=) ]]'
	kill -KILL "$pid"
	reap "$pid"
	is "" "$(<"$W/out")" "what it says of half a look"
	# That no process is left is looked at in the end.
}

@test "doctor: newuidmap and newgidmap without their privilege" {
	chmod u-s /usr/bin/newuidmap
	only warning /usr/bin/newuidmap 'neither its file capability nor setuid'
	mended
	cp /usr/bin/newgidmap /usr/libexec/userns-runtime/
	chmod 0755 /usr/libexec/userns-runtime/newgidmap
	only error /usr/libexec/userns-runtime/newgidmap 'neither its file capability'
	mended
	is "/usr/libexec/userns-runtime/newgidmap cap_setgid=p" "$(getcap /usr/libexec/userns-runtime/newgidmap)" "as getcap shows it"
	chmod 4755 /usr/libexec/userns-runtime/newgidmap
	only error /usr/libexec/userns-runtime/newgidmap 'is setuid'
	mended
	mount -o remount,nosuid /usr
	finds warning /usr/bin/newuidmap 'mounted nosuid'
	finds error /usr/libexec/userns-runtime/newgidmap 'mounted nosuid'
	mended
}

@test "doctor: a store that can't be shifted" {
	mkdir "$W/d" "$W/d/lower" "$W/d/upper" "$W/d/work"
	mount -t overlay -o "lowerdir=$W/d/lower,upperdir=$W/d/upper,workdir=$W/d/work" overlay /var/lib/containerd
	only error containerd 'its files, in /var/lib/containerd, can.t be shifted.* on overlay'
	has "$mend" '^put it on ext4, xfs, btrfs or tmpfs: write root = "DIRECTORY" in /etc/containerd/config.toml$'
	# As it says.
	mkdir -m 0711 /run/other # a tmpfs
	sed -i 's,^version = 2$,&\nroot = "/run/other",' /etc/containerd/config.toml
	silent
	umount /var/lib/containerd
	rmdir /run/other
	gate_containerd
	mount -t ramfs ramfs /var/lib/containers/storage
	chmod 0700 /var/lib/containers/storage
	only error podman "can't be shifted"
	umount /var/lib/containers/storage
	silent
}

@test "doctor: a store whose server is gone" {
	requires bindfs
	mkdir "$W/behind"
	bindfs -f -o nonempty "$W/behind" /var/lib/docker </dev/null >/dev/null 2>&1 3>&- &
	local server=$! before code
	eventually eval 'findmnt -t fuse.bindfs,fuse /var/lib/docker >/dev/null'
	kill -STOP "$server"
	before=$SECONDS
	try timeout -s KILL 60 /usr/bin/usernsctl doctor
	code=$status
	kill -CONT "$server"
	umount --lazy /var/lib/docker
	reap "$server"
	is 3 "$code" "the status of doctor"
	((SECONDS - before < 40)) || is "half a minute at most" "$((SECONDS - before)) seconds"
	has "$output" '^unknown: /var/lib/docker: no answer within 15s, so it wasn.t looked at$'
	is 1 "$(grep -c '^[a-z]*: ' <<<"$output")" "findings"
}

@test "doctor: a storage driver without overlays" {
	jq '."storage-driver" = "vfs"' /etc/docker/daemon.json >"$W/daemon"
	cat "$W/daemon" >/etc/docker/daemon.json
	only error docker 'keeps images with vfs'
	has "$mend" "rootfs-dirs = \['/var/lib/docker/vfs/dir'\]"
	mkdir -p /etc/userns-runtime
	echo "rootfs-dirs = ['/var/lib/docker/vfs/dir']" >/etc/userns-runtime/config.toml
	silent
	rm -r /etc/userns-runtime
	gate_docker
	printf '[storage]\ndriver = "overlay"\n[storage.options.overlay]\nmount_program = "/usr/bin/fuse-overlayfs"\n' >/etc/containers/storage.conf
	only error podman 'keeps images with fuse-overlayfs'
}

@test "doctor: volumes that users of the host can reach" {
	chmod 0711 /var/lib/docker
	only error /var/lib/docker/volumes 'by /var/lib/docker/volumes'
	is "chmod 0710 /var/lib/docker" "$mend" mend
	mended
	# Closed, but with a list that lets somebody in.
	if setfacl -m u:1234:x /var/lib/docker 2>/dev/null; then
		only error /var/lib/docker/volumes 'setuid program'
		setfacl -b /var/lib/docker
		chmod 0710 /var/lib/docker
		silent
	fi
	# Another way to the same files.
	mkdir /run/shown
	mount --bind /var/lib/docker/volumes /run/shown
	only error /var/lib/docker/volumes 'by /run/shown'
	has "$mend" 'umount .*/run/shown'
	mount -o remount,bind,nosuid /run/shown
	silent
	umount /run/shown
	rmdir /run/shown
}

@test "doctor: engines that walk past the gate" {
	rm /etc/docker/daemon.json
	silent # since /usr/sbin/runc is the gate
	rm /usr/sbin/runc
	cp /usr/libexec/runc.distribution /usr/sbin/runc
	finds warning docker 'starts containers with runc, /usr/sbin/runc, and not'
	is "usernsctl configure docker" "$mend" mend
	finds warning /usr/sbin/runc 'stands beside the gate'
	is "usernsctl configure --divert" "$mend" mend
	is 2 "$(jq length <<<"$found")" findings
	divert_runc
	gate_docker
	sed -i 's,"/usr/bin/userns-runtime","/usr/bin/crun",' /etc/containerd/config.toml
	only warning containerd 'starts containers with userns, /usr/bin/crun \(/etc/containerd/config.toml\)'
	# What configure itself would say.
	has "$mend" '^mend this first: /etc/containerd/config.toml:14: the runtime userns is there already.*: take it out first.*; then usernsctl configure containerd$'
	gate_containerd
	mkdir -p /etc/containers/containers.conf.d
	printf '[engine]\nruntime = "crun"\n' >/etc/containers/containers.conf.d/zz.conf
	only warning podman 'starts containers with crun, /usr/bin/crun \(/etc/containers/containers.conf.d/zz.conf\)'
	has "$mend" '^mend this first: .*/etc/containers/containers.conf.d/zz.conf.*; then usernsctl configure podman$'
	rm -r /etc/containers/containers.conf.d
	silent
	jq '.runtimes.fast = {path: "/usr/bin/crun"}' /etc/docker/daemon.json >"$W/daemon"
	cat "$W/daemon" >/etc/docker/daemon.json
	only warning docker 'its runtime fast is /usr/bin/crun'
	gate_docker
	jq '."userns-remap" = "default"' /etc/docker/daemon.json >"$W/daemon"
	cat "$W/daemon" >/etc/docker/daemon.json
	only error docker 'userns-remap is default'
	has "$mend" '"userns-remap" out of /etc/docker/daemon.json'
	gate_docker
	silent
}

@test "doctor: settings of engines that can't be read" {
	echo '{,}' >/etc/docker/daemon.json
	only error docker '/etc/docker/daemon.json: invalid character'
	printf 'version = 2\n[plugins\n' >/etc/containerd/config.toml
	finds error containerd '/etc/containerd/config.toml:2:'
	is 2 "$(jq length <<<"$found")" findings
	# A FIFO isn't waited for, and a directory isn't read.
	rm /etc/docker/daemon.json /etc/containerd/config.toml
	mkfifo /etc/docker/daemon.json
	mkdir /etc/containerd/config.toml
	finds error docker 'is not a regular file'
	finds error containerd 'is not a regular file'
	rm -r /etc/docker/daemon.json /etc/containerd/config.toml
	# A link, as tools that manage hosts make it.
	gate_docker
	mv /etc/docker/daemon.json /etc/docker/managed.json
	ln -s managed.json /etc/docker/daemon.json
	gate_containerd
	silent
	rm /etc/docker/daemon.json
}

@test "doctor: a dockerd that runs, with files of its own" {
	command -v dockerd >/dev/null || skip "dockerd isn't installed"
	# Nothing of the network: the sandbox has the machine's.
	jq -n --arg w "$W" --arg runc "$RUNC" '{
		"data-root": ($w + "/data"), "exec-root": "/run/doctor", pidfile: "/run/doctor.pid", hosts: ["unix:///run/doctor.sock"],
		bridge: "none", iptables: false, "ip-forward": false, "ip-masq": false, "storage-driver": "overlay2",
		"default-runtime": "plain", runtimes: {plain: {path: $runc}}}' >"$W/daemon.json"
	/usr/sbin/dockerd --config-file "$W/daemon.json" </dev/null >"$W/log" 2>&1 3>&- &
	local pid=$! ok=0
	{
		eventually test -S /run/doctor.sock && eventually test -d "$W/data/volumes" &&
			finds warning docker "starts containers with plain, $RUNC \\($W/daemon.json\\)" &&
			has "$mend" "^mend this first: $W/daemon.json:.*, which somebody chose: take the line out first, .*; then usernsctl configure docker --file $W/daemon.json\$"
	} || ok=1
	# By the kernel's rules its volumes are closed, as dockerd makes them.
	is 1 "$(jq length <<<"$found")" findings || ok=1
	# What somebody else calls so isn't Docker.
	mkfifo "$W/never"
	setpriv --reuid 12345 --clear-groups --regid 12345 bash -c 'exec -a dockerd bash -c "read" x --default-runtime=evil' <>"$W/never" 3>&- &
	local other=$!
	eventually grep -qz evil "/proc/$other/cmdline" || ok=1
	doctor
	[[ $found != *evil* ]] || ok=1
	kill "$other"
	reap "$other"
	kill "$pid"
	reap "$pid"
	rm -rf /run/docker /run/doctor /run/doctor.sock /run/doctor.pid
	((ok == 0))
}

@test "doctor: names that would write to the terminal" {
	jq -n '{"default-runtime": "\u001b[2J\u001b]0;x\u0007", runtimes: {"\u001b[2J\u001b]0;x\u0007": {path: "/usr/bin/\u009bcrun\n    mend: rm -rf /"}}}' >/etc/docker/daemon.json
	try /usr/bin/usernsctl doctor
	is 3 "$status" status
	is "" "$(LC_ALL=C tr -d '\n\40-\176' <<<"$output")" "bytes that aren't printable"
	is 1 "$(grep -c '^    mend: ' <<<"$output")" mends
	has "$output" '\\x1b\[2J'
	doctor
	jq -e 'any(.[]; .message | contains("\u001b[2J"))' <<<"$found" >/dev/null
	# In a mend, too.
	jq -n '{"default-runtime": "u", runtimes: {u: {path: "/usr/bin/userns-runtime", runtimeArgs: ["--owner", "a\u001b[2J\u009b"]}}}' >/etc/docker/daemon.json
	try /usr/bin/usernsctl doctor
	is 3 "$status" status
	is "" "$(LC_ALL=C tr -d '\n\40-\176' <<<"$output")" "bytes that aren't printable"
	has "$output" '^    mend: usernsctl add .*\\x1b\[2J'
	gate_docker
}

@test "doctor: an audit that can't be written" {
	mkdir -p /etc/userns-runtime
	printf '[audit]\npath = "/var/log/a/b/audit.jsonl"\nmode = "require"\n' >/etc/userns-runtime/config.toml
	only error /var/log/a/b/audit.jsonl 'no container starts'
	is "install -d -m 0750 /var/log/a/b" "$mend" mend
	mended
	mount -t tmpfs tmpfs /var/log/a/b
	mount -o remount,ro /var/log/a/b
	only error /var/log/a/b/audit.jsonl 'read-only'
	mended
	ln -s /dev/null /var/log/a/b/audit.jsonl
	only error /var/log/a/b/audit.jsonl 'symbolic link'
	mended
	: >/var/log/a/b/audit.jsonl
	if chattr +i /var/log/a/b/audit.jsonl 2>/dev/null; then
		only error /var/log/a/b/audit.jsonl 'not even by root'
		mended
	fi
	rm /var/log/a/b/audit.jsonl*
	umount /var/log/a/b
	mount -t tmpfs -o size=64k tmpfs /var/log/a/b
	head -c 65536 /dev/zero >/var/log/a/b/full
	only error /var/log/a/b/audit.jsonl 'full'
	umount /var/log/a/b
	rm -r /var/log/a
}

@test "doctor: who isn't root sees what wasn't looked at" {
	try setpriv --reuid 12345 --regid 12345 --clear-groups /usr/bin/usernsctl doctor --json
	is 3 "$status" status
	is "" "$errput" "standard error"
	is '["unknown"]' "$(jq -c '[.[].severity] | unique' <<<"$output")" severities
	is '["sudo usernsctl doctor"]' "$(jq -c '[.[].mend] | unique' <<<"$output")" mends
	jq -e 'any(.[]; .subject == "/var/lib/docker")' <<<"$output"
	# What they can't read isn't fine either.
	chmod 0600 /etc/docker/daemon.json "$BOOK"
	try setpriv --reuid 12345 --regid 12345 --clear-groups /usr/bin/usernsctl doctor --json --verbose
	is 3 "$status" status
	jq -e 'any(.[]; .severity == "unknown" and .subject == "docker" and (.message | test("daemon.json: permission denied")))' <<<"$output"
	jq -e --arg book "$BOOK" 'any(.[]; .severity == "unknown" and .subject == $book)' <<<"$output"
	jq -e 'all(.[]; .severity != "fine" or .subject != "docker")' <<<"$output"
}

@test "doctor: ten ways at once, each named and mended" {
	rm "$BOOK"                                              # 1
	mkdir -p /etc/userns-runtime
	echo 'x = 1' >/etc/userns-runtime/config.toml           # 2
	chown 1234 /etc/userns-runtime/config.toml
	chmod 4755 /usr/bin/userns-runtime                      # 3
	rm -r /usr/libexec/userns-runtime                       # 4: no runc of ours; and 5: the other beside
	rm /usr/sbin/runc
	mv /usr/libexec/runc.distribution /usr/sbin/runc
	chmod u-s /usr/bin/newuidmap                            # 6
	chmod 0755 /var/lib/docker                              # 7
	mount -t ramfs ramfs /var/lib/containerd                # 8
	rm /etc/docker/daemon.json                              # 9
	: >/etc/containers/containers.conf                      # 10
	echo 0 >"$W/none"
	mount --bind "$W/none" /proc/sys/user/max_user_namespaces # 11
	ln -s /dev/null /var/log/userns-runtime                 # 12
	doctor
	is 3 "$status" status
	is "" "$(jq -r '.[] | select(.mend == "") | .subject' <<<"$found")" "findings without a mend"
	local want
	for want in "$BOOK" /etc/userns-runtime/config.toml /usr/bin/userns-runtime /usr/sbin/runc /usr/bin/newuidmap \
		/var/lib/docker/volumes containerd docker podman user.max_user_namespaces /var/log/userns-runtime/audit.jsonl; do
		jq -e --arg want "$want" 'any(.[]; .subject == $want)' <<<"$found" >/dev/null || {
			echo "$want isn't named"
			return 1
		}
	done

	# What is a command is typed, until nothing is left but what it can't do here.
	local all
	all=$(jq -r '.[].mend' <<<"$found")
	while read -r mend; do
		case $mend in
		"usernsctl init" | chmod* | chown* | mv*)
			echo "# $mend"
			bash -euc "cd /; $mend"
			;;
		esac
	done <<<"$all"
	finds error /etc/userns-runtime/config.toml 'x|unknown'
	rm /etc/userns-runtime/config.toml
	umount /proc/sys/user/max_user_namespaces /var/lib/containerd
	rm -f /var/log/userns-runtime
	gate_docker
	install -m 0644 "$TREE/config/examples/engines/containers.conf" /etc/containers/containers.conf
	install -D -m 0755 "$RUNC" /usr/libexec/userns-runtime/runc
	divert_runc
	silent
}
@test "doctor: what configure is named for, configure mends" {
	rm -f /etc/docker/daemon.json /etc/containerd/config.toml /usr/sbin/runc
	: >/etc/containers/containers.conf
	cp /usr/libexec/runc.distribution /usr/sbin/runc
	local engine
	for engine in docker containerd podman; do
		finds warning "$engine" 'and not with userns-runtime'
		is "usernsctl configure $engine" "$mend" mend
		bash -euc "$mend"
	done
	only warning /usr/sbin/runc 'stands beside the gate'
	is "usernsctl configure --divert" "$mend" mend
	bash -euc "$mend"
	silent
	# And back again: each is found anew.
	/usr/bin/usernsctl configure --divert --undo
	for engine in podman containerd docker; do
		/usr/bin/usernsctl configure "$engine" --undo
		finds warning "$engine" 'and not with userns-runtime'
	done
}
