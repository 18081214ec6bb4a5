#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# Who root inside is on what is bound in from the host, without an engine.

load helpers

# bind SOURCE DESTINATION [OPTION...]: one more mount of the bundle.
bind() {
	WRITES=yes # runc makes the mount points
	update_config '.mounts += [{type: "bind", source: $ARGS.positional[0], destination: $ARGS.positional[1], options: $ARGS.positional[2:]}]' \
		--args -- "$1" "$2" "${@:3}"
}

# engine: directories as Docker has them, with the bundle's root filesystem as
# an overlay of its own. D is its data root.
engine() {
	D=$W/docker
	mkdir -p "$D"/overlay2/one/{diff,work,merged} "$D"/volumes/v/_data "$D"/containers/x/mounts/shm
	cp -a "$B/rootfs" "$D/overlay2/base"
	mount -t overlay -o "lowerdir=$D/overlay2/base,upperdir=$D/overlay2/one/diff,workdir=$D/overlay2/one/work" overlay "$D/overlay2/one/merged"
	update_config '.root.path = $path' --arg path "$D/overlay2/one/merged"
}

no_engine() { umount "$D/overlay2/one/merged"; }

account() { getent passwd "$1" >/dev/null || useradd --uid "$2" --user-group --no-create-home --shell /bin/sh "$1"; }

owner_on_disk() { stat -c %u:%g "$1"; }

as() { jq -r --arg destination "$1" '.binds[] | select(.destination == $destination) | .as' <(tail -n 1 "$AUDIT"); }

@test "binds: an engine's own files are root's inside, and on disk as under plain runc" {
	engine
	mount -t tmpfs -o mode=1777 shm "$D/containers/x/mounts/shm"
	echo 127.0.0.1 >"$D/containers/x/hosts"
	bind "$D/volumes/v/_data" /v rbind
	bind "$D/containers/x/mounts/shm" /shm rbind nosuid noexec nodev
	bind "$D/containers/x/hosts" /etc/hosts rbind rprivate
	caps CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER
	shell 'stat -c "%n %u:%g %a" /v /shm /etc/hosts; echo x >>/etc/hosts; mkdir -p /v/d; echo x >/v/f; chown 5:7 /v/f; touch /shm/s; stat -c "%n %u:%g" /v/f /v/d /shm/s'
	same run -b "$B" "$CT"
	has "$output" '^/v/f 5:7$'
	is 5:7 "$(owner_on_disk "$D/volumes/v/_data/f")"
	is 0:0 "$(owner_on_disk "$D/volumes/v/_data/d")"
	is 0:0 "$(owner_on_disk "$D/containers/x/mounts/shm/s")"
	is root "$(as /v)"
	umount "$D/containers/x/mounts/shm"
	no_engine
}

@test "binds: what only lies where an engine's files do isn't shifted" {
	local open
	open=$(mktemp -d -p "$BATS_SUITE_TMPDIR/../..")
	chmod 0755 "$open"
	engine
	# A volume that is a bind of a directory of the host, of a tmpfs of the
	# host's, and an overlay.
	mkdir -p "$D"/volumes/{bound,host,lay,secret}/_data "$W/tmpfs" "$W/lower"
	mount --bind "$open" "$D/volumes/bound/_data"
	mount -t tmpfs -o mode=0755 tmpfs "$W/tmpfs"
	mount --bind "$W/tmpfs" "$D/volumes/host/_data"
	mount -t overlay -o "lowerdir=$W/lower:$B/rootfs" overlay "$D/volumes/lay/_data"
	bind "$D/volumes/bound/_data" /bound rbind
	bind "$D/volumes/host/_data" /host rbind
	bind "$D/volumes/lay/_data" /lay rbind
	bind "$D" /all rbind
	bind "$D/containers/x" /container rbind
	shell 'for i in bound host lay all container; do stat -c "%n %u" /$i; touch /$i/x 2>/dev/null && echo "wrote $i"; done; true'
	must ours run -b "$B" "$CT"
	is "$(printf '/%s 65534\n' bound host lay all container)" "$output"
	local destination
	for destination in /bound /host /lay /all /container; do is nobody "$(as $destination)"; done
	audited '[.binds[] | select(.destination == "/bound").why | test("another filesystem")] == [true]'
	umount "$D"/volumes/{bound,host,lay}/_data "$W/tmpfs"
	no_engine
	rm -r "$open"
}

@test "binds: a tmpfs of the engine's that holds more than a container's isn't shifted" {
	engine
	# As where logs are kept in memory.
	mount -t tmpfs -o mode=0755 tmpfs "$D/containers"
	mkdir -p "$D/containers/other" "$D"/volumes/{bound,own}/_data
	echo '{}' >"$D/containers/other/hostconfig.json"
	mount --bind "$D/containers" "$D/volumes/bound/_data"
	# One of the engine's for a container, as `docker volume create -o type=tmpfs` makes it.
	mount -t tmpfs -o mode=0755 tmpfs "$D/volumes/own/_data"
	bind "$D/volumes/bound/_data" /bound rbind
	bind "$D/volumes/own/_data" /own rbind
	shell 'echo bad 2>/dev/null >/bound/other/hostconfig.json; touch /own/x && stat -c %u /own/x'
	must ours run -b "$B" "$CT"
	is 0 "$output"
	is '{}' "$(<"$D/containers/other/hostconfig.json")"
	is nobody "$(as /bound)"
	umount "$D"/volumes/{bound,own}/_data "$D/containers"
	no_engine
}

@test "binds: a closed directory inside of a volume doesn't make a walkable engine's closed" {
	local open
	open=$(mktemp -d -p "$BATS_SUITE_TMPDIR/../..")
	chmod 0711 "$open"
	engine
	mount --bind "$D/volumes" "$open"
	chmod 0711 "$D/volumes" "$D/volumes/v"
	mkdir -p "$D/volumes/v/_data/a/b"
	chmod 0700 "$D/volumes/v/_data/a"
	bind "$D/volumes/v/_data/a/b" /b rbind
	process true
	must ours run -b "$B" "$CT"
	is nobody "$(as /b)"
	umount "$open"
	must ours run -b "$B" "$CT"
	is root "$(as /b)"
	rmdir "$open"
	no_engine
}

@test "binds: a link that root inside left in a volume leads to no other volume" {
	engine
	mkdir -p "$D/volumes/alice/_data" "$D/volumes/v/_data/real"
	ln -s ../../alice/_data "$D/volumes/v/_data/sub"
	ln -s real "$D/volumes/v/_data/own"
	bind "$D/volumes/v/_data/sub" /sub rbind
	bind "$D/volumes/v/_data/own" /own rbind
	shell 'touch /sub/x 2>/dev/null && echo wrote; touch /own/x'
	must ours run -b "$B" "$CT"
	is "" "$output"
	is nobody "$(as /sub)"
	is root "$(as /own)"
	# Behind a link to the engine's directory the other one's name comes up in the path, too.
	ln -s ../../.. "$D/volumes/v/_data/a"
	bind "$D/volumes/v/_data/a/volumes/alice/_data" /other rbind
	shell 'touch /other/x 2>/dev/null && echo wrote; true'
	must ours run -b "$B" "$CT"
	is "" "$output"
	is nobody "$(as /other)"
	no_engine
}

# Of a cache that two steps have at once, one may put a link where the other has a directory, after BuildKit has
# looked (CVE-2024-23651).
@test "binds: a link that a step of a build left in a cache leads to no other layer" {
	engine
	mkdir -p "$D"/overlay2/{cache/diff/real,other/diff} "$D/buildkit/executor"
	mv "$B" "$D/buildkit/executor/one"
	B=$D/buildkit/executor/one
	ln -s "$D" "$D/overlay2/cache/diff/a"
	bind "$D/overlay2/cache/diff/real" /cache rbind
	bind "$D/overlay2/cache/diff/a/overlay2/other/diff" /other rbind
	shell 'touch /other/x 2>/dev/null && echo wrote; touch /cache/x && stat -c %u /cache/x'
	must ours run -b "$B" "$CT"
	is 0 "$output"
	is root "$(as /cache)"
	is nobody "$(as /other)"
	no_engine
}

@test "binds: the stage isn't seen from inside, not even through /" {
	bind / /host rbind ro
	bind /run/userns-runtime /ur rbind
	mkdir -p /run/userns-runtime
	chmod 0711 /run/userns-runtime
	shell 'find /host/run/userns-runtime/mnt /ur/mnt -mindepth 1 ! -name rootfs 2>/dev/null; grep -c " /host/run/userns-runtime/mnt" /proc/mounts'
	try ours run -b "$B" "$CT" # the first makes the directories
	try ours run -b "$B" "$CT"
	is 0 "$output"
}

@test "binds: a volume that others can walk to isn't shifted, so no setuid program of root's is left there" {
	requires unprivileged-users
	local open
	open=$(mktemp -d -p "$BATS_SUITE_TMPDIR/../..")
	chmod 0755 "$open"
	engine
	# The engine's volumes seen at a place that anybody may enter.
	mount --bind "$D/volumes" "$open"
	chmod 0777 "$D/volumes/v/_data" # or root inside couldn't even try
	chmod 0755 "$D/volumes" "$D/volumes/v"
	bind "$D/volumes/v/_data" /v rbind
	caps CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID
	shell 'cp /bin/busybox /v/su; chown 0:0 /v/su; chmod 4755 /v/su; ls -ln /v'
	must ours run -b "$B" "$CT"
	is nobody "$(as /v)"
	audited '[.binds[] | select(.destination == "/v").why | test("others than root can reach it")] == [true]'
	# What is there is START's, whoever runs it.
	is "$START" "$(stat -c %u "$D/volumes/v/_data/su")"
	account victim 54323
	try setpriv --reuid 54323 --regid 54323 --clear-groups "$open/v/_data/su" id -u
	[[ $output != 0 ]]
	umount "$open"
	no_engine
	rmdir "$open"
}

@test "binds: on what the owner's account owns, root inside is that account" {
	account alice 54321
	account bob 54322
	book "alice:$START:$COUNT:"
	mkdir -m 0755 "$W"/{alice,bob,roots}
	install -d -m 0777 -o alice -g alice "$W/alice/shared"
	chown alice:alice "$W/alice"
	chown bob:bob "$W/bob"
	touch "$W/alice/of-root"
	bind "$W/alice" /alice rbind
	bind "$W/bob" /bob rbind
	bind "$W/roots" /roots rbind
	caps CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_SETUID CAP_SETGID
	shell 'stat -c "%n %u:%g" /alice /alice/of-root /bob /roots
		touch /alice/by-root; su user -c "touch /alice/shared/by-user"; stat -c "%n %u:%g" /alice/by-root /alice/shared/by-user
		for i in /bob/x /roots/x; do touch $i 2>/dev/null && echo "wrote $i"; done
		echo x >>/alice/of-root || echo "not of-root"; chown 0:0 /alice/of-root 2>/dev/null || echo "not chown"'
	try "$OURS" --owner alice --config "$CONF" --root "$W/ours" run -b "$B" "$CT"
	is 0 "$status"
	is '/alice 0:0
/alice/of-root 65534:65534
/bob 65534:65534
/roots 65534:65534
/alice/by-root 0:0
/alice/shared/by-user 1000:1000
not of-root
not chown' "$output"
	is 54321:54321 "$(owner_on_disk "$W/alice/by-root")"
	is "$((START + 1000)):$((START + 1000))" "$(owner_on_disk "$W/alice/shared/by-user")"
	is alice "$(as /alice)"
	is nobody "$(as /bob)"
	# By the owner's number it is the same; under another owner it is nobody's.
	book "54321:$START:$COUNT:" "dockroot:$((START + COUNT)):$COUNT:"
	process stat -c %u /alice
	try "$OURS" --owner 54321 --config "$CONF" --root "$W/ours" run -b "$B" "$CT"
	is 0 "$output"
	must ours run -b "$B" "$CT"
	is 65534 "$output"
}

@test "binds: files of the account on what can't be shifted" {
	account alice 54321
	book "alice:$START:$COUNT:"
	mkdir "$W/ram"
	mount -t ramfs ramfs "$W/ram"
	chown alice "$W/ram"
	bind "$W/ram" /ram rbind
	process stat -c %u /ram
	ours_cmd=("$OURS" --owner alice --config "$CONF" --root "$W/ours")
	refused "mounts\[[0-9]+\]: /ram: $W/ram: on ramfs: owners on it can't be shifted.*bind-fallback = 'plain'" run -b "$B" "$CT"
	config 'bind-fallback = "plain"'
	must ours run -b "$B" "$CT"
	is 65534 "$output"
	audited '[.binds[] | select(.destination == "/ram") | .as, (.why | test("on ramfs"))] == ["nobody", true]'
	umount "$W/ram"
}

@test "binds: read-only stays so, also for root inside with CAP_SYS_ADMIN" {
	local options
	mkdir -m 0777 "$W/host"
	for options in "rbind ro" "bind ro" "ro rbind" "rbind rro" "rbind rro rw" "rbind rw ro" "rbind ro rrw"; do
		# shellcheck disable=SC2086 # words
		bind "$W/host" /ro $options
		caps CAP_SYS_ADMIN CAP_DAC_OVERRIDE
		shell 'mount -o remount,rw,bind /ro 2>/dev/null && echo remounted; mount -o remount,bind /ro 2>/dev/null; touch /ro/x 2>/dev/null && echo wrote; true'
		try ours run -b "$B" "$CT"
		is "" "$output" "with $options"
		# runc won't take away what is locked, so two that contradict each other may fail.
		[[ $options == *rw* ]] || is 0 "$status" "with $options"
		update_config 'del(.mounts[] | select(.destination == "/ro"))'
	done
	# Nor are other flags taken away.
	bind "$W/host" /flags rbind nosuid nodev noexec
	shell 'mount -o remount,bind,suid,dev,exec /flags 2>/dev/null && echo remounted; grep -c " /flags [^ ]* [^ ]*nosuid,nodev,noexec" /proc/mounts'
	must ours run -b "$B" "$CT"
	is 1 "$output"
	update_config 'del(.mounts[] | select(.destination == "/flags"))'
	# One that is both is what comes last, as runc has it.
	bind "$W/host" /rw rbind ro rw
	shell 'test -w /rw && echo writable'
	same run -b "$B" "$CT"
	is writable "$output"
}

@test "binds: flags of what is bound, and those that are asked for" {
	mkdir "$W/host"
	mount -t tmpfs -o nosuid,nodev,noexec,noatime,mode=1777 tmpfs "$W/host"
	bind "$W/host" /flags rbind ro
	bind "$W/host" /more rbind nosuid nodev
	# Under plain runc the first has only what was asked for; in a user namespace
	# the kernel lets nobody take a flag away.
	shell "grep -E ' /(flags|more) ' /proc/mounts | cut -d' ' -f2,4 | sed 's/,inode64.*//; s/,mode.*//'"
	must ours run -b "$B" "$CT"
	is '/flags ro,nosuid,nodev,noexec,noatime
/more rw,nosuid,nodev,noexec,noatime' "$output"
	umount "$W/host"
}

@test "binds: files, sockets, and what isn't there" {
	echo text >"$W/file"
	python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$W/socket"
	bind "$W/file" /file bind ro
	bind "$W/socket" /socket bind ro
	bind "../file" /relative bind ro
	shell 'cat /file /relative; test -S /socket && echo socket; stat -c "%a %s" /file'
	same run -b "$B" "$CT"
	has "$output" '^socket$'
	bind "$W/nowhere" /nowhere rbind ro
	same run -b "$B" "$CT"
	is 1 "$status"
	rm "$W/.bundle"
}

@test "binds: mounts below come along, or don't, and new ones appear" {
	mkdir -p "$W/host/sub"
	mount -t tmpfs tmpfs "$W/host/sub"
	touch "$W/host/sub/there"
	bind "$W/host" /with rbind ro rslave
	bind "$W/host" /without bind ro
	shell 'ls /with/sub /without/sub'
	same run -b "$B" "$CT"
	has "$output" '^there$'
	up ours
	mkdir "$W/host/later"
	mount -t tmpfs tmpfs "$W/host/later"
	touch "$W/host/later/new"
	must ours exec "$CT" ls /with/later
	is new "$output"
	down ours
	umount "$W/host/sub" "$W/host/later"
}

@test "binds: a bundle that an engine gave to root inside is covered" {
	update_config '.linux.namespaces += [{type: "user"}]
		| .linux.uidMappings = [{containerID: 0, hostID: $start, size: $count}] | .linux.gidMappings = .linux.uidMappings' \
		--argjson start "$START" --argjson count "$COUNT"
	chown -R "$START:$START" "$B/rootfs"
	chown "$START:$START" "$B" "$B/config.json"
	ln -s config.json "$B/link"
	mkdir "$B/dir"
	bundle_sum >"$W/.bundle"
	# Plain runc can't walk to the root filesystem as root inside.
	shell 'id -u; cat /proc/self/uid_map'
	must ours run -b "$B" "$CT"
	has "$output" '^0$'
	has "$output" "$START"
	process sleep 1000
	must ours run -d --pid-file "$W/pid" -b "$B" "$CT"
	test -s "$W/pid"
	must ours exec "$CT" id -u
	is 0 "$output"
	down ours
	refused 'root inside owns it, so a file that runc makes there' run --pid-file "$B/pid" -b "$B" "$CT"
	chown 12345 "$B"
	refused "UID 12345 owns it" run -b "$B" "$CT"
}

@test "binds: nothing staged leaks into the container" {
	engine
	bind "$D/volumes/v/_data" /v rbind
	process grep -c userns-runtime /proc/self/mountinfo
	try ours run -b "$B" "$CT"
	# The overlay names its layers as they were when it was made; nothing is there.
	is 1 "$output"
	shell 'ls -d /run/userns-runtime; ls /proc/self/fd | wc -l'
	same run -b "$B" "$CT"
	no_engine
}
