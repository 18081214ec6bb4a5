#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# Bad input. Each is refused in the one way that `refused` knows: status 1, one
# line, one object in --log, nothing made, the bundle as before.

load helpers

# --- the book

@test "refuse: no book" {
	rm "$BOOK"
	refused "there is no book.*: usernsctl init$" run -b "$B" "$CT"
	refused "there is no book" create -b "$B" "$CT"
}

@test "refuse: an empty book, a book of comments, no line for the owner" {
	: >"$BOOK"
	refused "dockroot: no line of the book grants anything: add one: usernsctl add dockroot$" run -b "$B" "$CT"
	book "# nothing" "" "  # here"
	refused "dockroot: no line of the book grants anything" run -b "$B" "$CT"
	book "someone:$START:$COUNT:"
	refused "dockroot: no line of the book grants anything" run -b "$B" "$CT"
}

@test "refuse: the command in the error mends it" {
	usernsctl() { "$CTL" "$@"; }
	: >"$BOOK"
	refused 'add one: ' run -b "$B" "$CT"
	eval "${errput##*add one: }"
	must ours run -b "$B" "$CT"
	rm "$BOOK"*
	refused 'write a first line: ' run -b "$B" "$CT"
	eval "${errput##*write a first line: }"
	must ours run -b "$B" "$CT"
	local size
	for size in 100 "$COUNT"; do
		book "dockroot:$START:1000:size=1000"
		update_config '.linux.namespaces |= map(select(.type != "user")) + [{type: "user"}]
			| .linux.uidMappings = [{containerID: 0, hostID: $start, size: 1000}, {containerID: 1000, hostID: ($start + 100000), size: $count}]
			| .linux.gidMappings = .linux.uidMappings' --argjson start "$START" --argjson count "$size"
		refused 'grant the others too: ' run -b "$B" "$CT"
		eval "$(sed -n 's/.*grant the others too: //p' <<<"$errput")"
		must ours run -b "$B" "$CT"
		is 2 "$(wc -l <"$BOOK")" "lines of the book"
	done
}

@test "refuse: malformed lines, by number" {
	local line
	for line in "dockroot" "dockroot:$START:$COUNT" "dockroot:$START:$COUNT::" ":$START:$COUNT:" "dockroot::$COUNT:" \
		"dockroot:$START::" "dockroot:$START:0:" "dockroot:-1:$COUNT:" "dockroot:0x70000000:$COUNT:" "dockroot: $START:$COUNT:" \
		"dockroot:0:$COUNT:" "dockroot:1000:$COUNT:" "dockroot:65535:1:" "dockroot:4294967295:1:" "dockroot:4294967290:100:" \
		"dockroot:$START:99999999999999999999:" "dock root:$START:$COUNT:" "dockroot:$START:$COUNT:,," "dockroot:$START:$COUNT:shared,shared" \
		"dockroot:$START:$COUNT:size=0" "dockroot:$START:$COUNT:size" "dockroot:$START:$COUNT:shared=1" $'dockroot:1879048192:65536:\r'; do
		book "# first" "$line" "ok:$((START + COUNT)):$COUNT:"
		refused "$BOOK:2: " run -b "$B" "$CT"
	done
	printf 'dockroot:%s:%s:\n\0\n' "$START" "$COUNT" >"$BOOK"
	refused "$BOOK:2: .*NUL" run -b "$B" "$CT"
	printf 'dockroot:%s:%s:\n\377\n' "$START" "$COUNT" >"$BOOK"
	refused "$BOOK:2: .*UTF-8" run -b "$B" "$CT"
}

@test "refuse: every bad line at once" {
	book "dockroot" "also bad" "dockroot:$START:$COUNT:nonsense"
	refused "$BOOK:1: .*$BOOK:2: .*$BOOK:3: " run -b "$B" "$CT"
}

@test "refuse: a book that others could have written" {
	chmod 0664 "$BOOK"
	refused "$BOOK: has mode 0664.*chmod go-w $BOOK" run -b "$B" "$CT"
	chmod 0666 "$BOOK"
	refused "$BOOK: has mode 0666" run -b "$B" "$CT"
	chmod 0644 "$BOOK"
	chown 1234 "$BOOK"
	refused "$BOOK: is owned by UID 1234.*chown root: $BOOK" run -b "$B" "$CT"
	chown 0 "$BOOK"
	mv "$BOOK" "$W/book"
	ln -s "$W/book" "$BOOK"
	refused "$BOOK: is a symbolic link" run -b "$B" "$CT"
	rm "$BOOK"
	mkdir "$BOOK"
	refused "$BOOK: is a directory" run -b "$B" "$CT"
	rmdir "$BOOK"
	mkfifo "$BOOK"
	refused "$BOOK: is a FIFO" run -b "$B" "$CT"
}

@test "refuse: unsafe or malformed drop-ins; others are left alone" {
	mkdir /etc/usernamespaces.d
	echo "nonsense" >/etc/usernamespaces.d/10-bad.conf
	refused "/etc/usernamespaces.d/10-bad.conf:1: " run -b "$B" "$CT"
	mv /etc/usernamespaces.d/10-bad.conf /etc/usernamespaces.d/10-bad.conf.disabled
	must ours run -b "$B" "$CT"
	echo "other:$((START + COUNT)):$COUNT:" >/etc/usernamespaces.d/20.conf
	must ours run -b "$B" "$CT"
	chmod 0646 /etc/usernamespaces.d/20.conf
	refused "/etc/usernamespaces.d/20.conf: has mode 0646" run -b "$B" "$CT"
	chmod 0644 /etc/usernamespaces.d/20.conf
	chmod 0777 /etc/usernamespaces.d
	refused "/etc/usernamespaces.d: has mode 0777" run -b "$B" "$CT"
	chmod 0755 /etc/usernamespaces.d
	rm "$BOOK"
	echo "dockroot:$START:$COUNT:" >/etc/usernamespaces.d/30.conf
	must ours run -b "$B" "$CT"
	audited '.lines == ["/etc/usernamespaces.d/30.conf:1"]'
}

@test "refuse: a range that is somebody else's too" {
	book "dockroot:$START:$COUNT:" "other:$((START + COUNT - 1)):$COUNT:"
	refused "belongs to other \($BOOK:2\)" run -b "$B" "$CT"
}

@test "refuse: an account of the host in the range" {
	echo "taken:x:$((START + 1000)):100::/:/bin/false" >>/etc/passwd
	refused "host's user taken \(/etc/passwd:[0-9]+\)" run -b "$B" "$CT"
	sed -i '/^taken:/d' /etc/passwd
	echo "taken:x:$((START + 1000)):" >>/etc/group
	refused "host's group taken \(/etc/group:[0-9]+\)" run -b "$B" "$CT"
	sed -i '/^taken:/d' /etc/group
}

# --- the bundle

@test "refuse: no bundle, no config.json" {
	B=$W/nowhere
	refused 'nowhere: no such file' run -b "$W/nowhere" "$CT"
	mkdir "$W/empty"
	B=$W/empty
	refused "$W/empty/config.json: no such file" run -b "$W/empty" "$CT"
	touch "$W/file"
	refused 'not a directory' run -b "$W/file" "$CT"
}

@test "refuse: a config.json that isn't a specification" {
	local config=$B/config.json good
	good=$(<"$config")
	: >"$config"
	refused "$config: it is empty" run -b "$B" "$CT"
	printf '%s' "${good:0:1000}" >"$config"
	refused "$config: .*unexpected EOF" run -b "$B" "$CT"
	printf '%s}' "$good" >"$config"
	refused "$config: " run -b "$B" "$CT"
	printf '%s %s' "$good" "$good" >"$config"
	refused "$config: .*something follows" run -b "$B" "$CT"
	echo '[]' >"$config"
	refused "$config: expected a JSON object" run -b "$B" "$CT"
	echo 'null' >"$config"
	refused "$config: expected a JSON object" run -b "$B" "$CT"
	echo '{}' >"$config"
	refused "$config: .*linux: it is missing" run -b "$B" "$CT"
	echo '{"linux": "no"}' >"$config"
	refused "$config: it isn't an OCI runtime specification" run -b "$B" "$CT"
	printf '\xef\xbb\xbf%s' "$good" >"$config"
	refused "$config: " run -b "$B" "$CT"
	printf '%s' "$good" | sed 's/runc/\xff\xfe/' >"$config"
	refused "$config: it isn't UTF-8" run -b "$B" "$CT"
	head -c 500000 /dev/zero | tr '\0' '[' >"$config"
	refused "$config: .*inside of each other" run -b "$B" "$CT"
}

@test "refuse: a config.json that is a directory, a FIFO, a device" {
	rm "$B/config.json"
	mkdir "$B/config.json"
	refused "config.json: .*regular file|config.json: is a directory" run -b "$B" "$CT"
	rmdir "$B/config.json"
	mkfifo "$B/config.json"
	refused "config.json: it isn't a regular file" run -b "$B" "$CT"
	rm "$B/config.json"
	ln -s /dev/zero "$B/config.json"
	refused "config.json: it is a symbolic link" run -b "$B" "$CT"
	rm "$B/config.json"
	mknod "$B/config.json" c 1 5
	refused "config.json: it isn't a regular file" run -b "$B" "$CT"
}

@test "refuse: a config.json of 100 MiB" {
	truncate -s 100M "$B/config.json"
	refused 'config.json: it is larger than [0-9]+ MiB' run -b "$B" "$CT"
	# Whatever is in it.
	head -c 17000000 /dev/zero | tr '\0' ' ' >"$B/config.json"
	cat "$UR_TEMPLATE/config.json" >>"$B/config.json"
	refused 'config.json: it is larger than [0-9]+ MiB' run -b "$B" "$CT"
}

@test "refuse: a config.json that two readers could understand differently" {
	local config=$B/config.json
	sed -i '0,/"root": {/s//"root": {"path": "elsewhere"}, "root": {/' "$config"
	refused "$config: .*member \"root\" is there twice" run -b "$B" "$CT"
	cp "$UR_TEMPLATE/config.json" "$config"
	update_config '.Linux = {namespaces: []}'
	refused "$config: .*more than one way" run -b "$B" "$CT"
	cp "$UR_TEMPLATE/config.json" "$config"
	update_config '.linux.Namespaces = [{type: "mount"}]'
	refused "$config" run -b "$B" "$CT"
	cp "$UR_TEMPLATE/config.json" "$config"
	update_config '.Root = {path: "/"}'
	refused "$config" run -b "$B" "$CT"
	cp "$UR_TEMPLATE/config.json" "$config"
	update_config '.process.NoNewPrivileges = false'
	book "dockroot:$START:$COUNT:no-new-privs"
	update_config 'del(.process.noNewPrivileges)'
	# There once, in other letters: refused, or read as it is and the flag holds.
	process grep NoNewPrivs /proc/self/status
	try ours run -b "$B" "$CT"
	((status != 0)) || has "$output" '1$'
}

@test "refuse: no mount namespace, no root, no linux" {
	update_config 'del(.linux.namespaces[] | select(.type == "mount"))'
	refused 'no mount namespace.*add' run -b "$B" "$CT"
	update_config '.linux.namespaces = []'
	refused 'no mount namespace.*add' run -b "$B" "$CT"
	update_config 'del(.linux.namespaces)'
	refused 'no mount namespace.*add' run -b "$B" "$CT"
	cp "$UR_TEMPLATE/config.json" "$B/config.json"
	update_config 'del(.root)'
	refused 'root: it is missing' run -b "$B" "$CT"
	cp "$UR_TEMPLATE/config.json" "$B/config.json"
	update_config 'del(.linux)'
	refused 'linux: it is missing' run -b "$B" "$CT"
}

@test "refuse: a bundle that brings our record" {
	update_config '.annotations = {"io.userns-runtime.record": "{}"}'
	refused "io.userns-runtime.record.*this runtime's own" run -b "$B" "$CT"
}

@test "refuse: annotations that runc would read as others, or give to CRIU" {
	update_config '.annotations = {"a=b": "c"}'
	refused 'annotations: "a=b"' run -b "$B" "$CT"
	update_config '.annotations = {"bundle": "/"}'
	refused 'annotations: "bundle"' run -b "$B" "$CT"
	update_config '.annotations = {"org.criu.config": "/etc/criu.conf"}'
	refused 'annotations: "org.criu.config"' run -b "$B" "$CT"
	# Those whose names only differ in letters are data.
	update_config '.annotations = {"a": "1", "A": "2"}'
	must ours run -b "$B" "$CT"
}

@test "refuse: a bundle that others could change" {
	chmod 0664 "$B/config.json"
	refused "config.json: its mode is 0664.*chmod go-w" run -b "$B" "$CT"
	chmod 0644 "$B/config.json"
	chmod 0775 "$B"
	refused "$B: its mode is 0775.*chmod go-w" run -b "$B" "$CT"
	chmod 1777 "$B"
	refused "$B: its mode is 1777" run -b "$B" "$CT"
	chmod 0755 "$B"
	chown 1234 "$B/config.json"
	refused "config.json: UID 1234 owns it.*chown root" run -b "$B" "$CT"
	chown 0 "$B/config.json"
	chown 1234 "$B"
	refused "$B: UID 1234 owns it" run -b "$B" "$CT"
	chown 0 "$B"
	bundle_sum >"$W/.bundle"
	must ours run -b "$B" "$CT"
}

@test "refuse: a config.json that is mounted there" {
	cp "$B/config.json" "$W/other.json"
	mount --bind "$W/other.json" "$B/config.json"
	refused "config.json: another file is mounted there" run -b "$B" "$CT"
	umount "$B/config.json"
	bundle_sum >"$W/.bundle"
	must ours run -b "$B" "$CT"
}

@test "refuse: not after a first call with a narrow umask" {
	rm -rf /run/userns-runtime
	(umask 0777 && "${ours_cmd[@]}" run -b "$B" "$CT" <"$STDIN")
	must ours run -b "$B" "$CT"
	is "711 711 711" "$(stat -c %a /run/userns-runtime /run/userns-runtime/mnt /run/userns-runtime/mnt/rootfs | paste -sd " ")"
}

@test "refuse: directories in /run that are somebody else's" {
	chown 1234 /run/userns-runtime
	refused "/run/userns-runtime: UID 1234 owns it.*install -d -m 0711" run -b "$B" "$CT"
	chown 0 /run/userns-runtime
	bundle_sum >"$W/.bundle"
	must ours run -b "$B" "$CT"
}

# --- the root filesystem

@test "refuse: a root filesystem on ramfs" {
	config "rootfs-dirs = [\"$W\"]"
	mkdir "$W/ram"
	mount -t ramfs ramfs "$W/ram"
	cp -a "$B/rootfs" "$W/ram/"
	update_config '.root.path = $path' --arg path "$W/ram/rootfs"
	refused 'on ramfs: owners on it can.t be shifted' run -b "$B" "$CT"
	umount "$W/ram"
}

@test "refuse: a root filesystem on a FUSE that can't be idmapped" {
	requires fuse
	config "rootfs-dirs = [\"$W\"]"
	mkdir "$W/fuse"
	if command -v bindfs >/dev/null; then
		bindfs "$B/rootfs" "$W/fuse"
	else
		fuse-overlayfs -o "lowerdir=$B/rootfs" "$W/fuse"
	fi
	update_config '.root.path = $path' --arg path "$W/fuse"
	refused 'on fuse: owners on it can.t be shifted' run -b "$B" "$CT"
	umount "$W/fuse"
}

@test "refuse: an exposed root filesystem, unless the configuration allows it" {
	local open
	open=$(mktemp -d -p "$BATS_SUITE_TMPDIR/../..")
	chmod 0755 "$open"
	mv "$B" "$open/"
	B=$open/bundle
	refused 'others than root can reach it.*exposed-rootfs' run -b "$B" "$CT"
	# A second way in counts as well.
	mkdir -m 0700 "$open/closed"
	mv "$B" "$open/closed/"
	B=$open/closed/bundle
	must ours run -b "$B" "$CT"
	mkdir "$open/window"
	mount --bind "$B" "$open/window"
	refused 'others than root can reach it' run -b "$B" "$CT"
	umount "$open/window"
	# And so does one to a part of it.
	mount --bind "$B/rootfs/bin" "$open/window"
	refused 'others than root can reach it' run -b "$B" "$CT"
	umount "$open/window"
	chmod 0711 "$open/closed"
	refused 'others than root can reach it' run -b "$B" "$CT"
	config 'exposed-rootfs = "allow"'
	must ours run -b "$B" "$CT"
	rm -rf "$open"
}

# --- the low-level runtime

@test "refuse: no low-level runtime, or one that isn't a program" {
	RUNTIMES='"/nowhere/runc", "/nor/here"' config
	refused 'there is none: looked for /nowhere/runc, /nor/here' run -b "$B" "$CT"
	mkdir "$W/dir"
	RUNTIMES="\"$W/dir\"" config
	refused "$W/dir: it isn't a program" run -b "$B" "$CT"
	touch "$W/plainfile"
	RUNTIMES="\"$W/plainfile\"" config
	refused "it isn't a program" run -b "$B" "$CT"
	printf '#!/bin/sh\nexit 1\n' >"$W/script"
	chmod 0777 "$W/script"
	RUNTIMES="\"$W/script\"" config
	refused "its mode is 0777.*chmod go-w" run -b "$B" "$CT"
	chmod 0755 "$W/script"
	refused "$W/script --version" run -b "$B" "$CT"
	printf '#!/bin/sh\necho something else\n' >"$W/script"
	refused "isn't the version of a low-level runtime" run -b "$B" "$CT"
}

@test "refuse: the first that is there is taken, not the next" {
	RUNTIMES="\"/nowhere/runc\", \"$RUNC\"" config
	must ours run -b "$B" "$CT"
	audited '.runtime | startswith($ENV.RUNC)'
}

@test "refuse: a low-level runtime that isn't runc, or isn't root's" {
	local said
	for said in "youki version 0.3" "crun version 1.7.2" "crun version 0.17"; do
		printf '#!/bin/sh\necho %s\n' "$said" >"$W/other"
		chmod 0755 "$W/other"
		RUNTIMES="\"$W/other\"" config
		refused "$W/other is ${said/ version/}.*runc 1.2 or later" run -b "$B" "$CT"
	done
	cp "$RUNC" "$W/runc"
	RUNTIMES="\"$W/runc\"" config
	must ours run -b "$B" "$CT"
	chown 1234 "$W/runc"
	refused "$W/runc: UID 1234 owns it.*chown root" run -b "$B" "$CT"
}

@test "refuse: a runc that is too old" {
	printf '#!/bin/sh\necho runc version 1.0.3\n' >"$W/runc"
	chmod 0755 "$W/runc"
	RUNTIMES="\"$W/runc\"" config
	refused "$W/runc is runc 1\.0\.3: .*runc 1.2 or later is needed" run -b "$B" "$CT"
	refused 'runc 1.2 or later is needed' create -b "$B" "$CT"
}

@test "refuse: ourselves as the low-level runtime, by path, link, copy" {
	RUNTIMES="\"$OURS\"" config
	refused 'userns-runtime itself' run -b "$B" "$CT"
	ln -s "$OURS" "$W/runc"
	RUNTIMES="\"$W/runc\"" config
	refused 'userns-runtime itself' run -b "$B" "$CT"
	rm "$W/runc"
	cp "$OURS" "$W/runc"
	refused 'userns-runtime itself' run -b "$B" "$CT"
	printf '#!/bin/sh\nexec %s "$@"\n' "$OURS" >"$W/script"
	chmod 0755 "$W/script"
	RUNTIMES="\"$W/script\"" config
	refused 'userns-runtime itself' run -b "$B" "$CT"
}

# --- the configuration, the command line

@test "refuse: an unsafe or malformed configuration" {
	echo 'unknown-key = 1' >"$CONF"
	refused "$CONF" run -b "$B" "$CT"
	echo 'runtimes = "no"' >"$CONF"
	refused "$CONF" run -b "$B" "$CT"
	echo 'this is not TOML' >"$CONF"
	refused "$CONF" run -b "$B" "$CT"
	config
	chmod 0666 "$CONF"
	refused "$CONF.*chmod go-w" run -b "$B" "$CT"
	chmod 0644 "$CONF"
	chown 1234 "$CONF"
	refused "$CONF.*chown root" run -b "$B" "$CT"
	rm "$CONF"
	refused "$CONF" run -b "$B" "$CT"
	mkfifo "$CONF"
	refused "$CONF" run -b "$B" "$CT"
}

@test "refuse: command lines" {
	refused 'unknown flag' run --nonsense -b "$B" "$CT"
	refused 'container ID' run -b "$B"
	refused 'one container ID' run -b "$B" "$CT" more
	refused 'expected a value' run "$CT" --bundle
	refused 'before all' run --owner dockroot -b "$B" "$CT"
	refused 'empty container ID' run -b "$B" ""
	refused 'unknown command' nonsense
	refused 'unknown command' init
}

@test "refuse: --log-format that isn't one, a --log that can't be written" {
	try ours --log-format xml run -b "$B" "$CT"
	is 1 "$status"
	has "$errput" 'log-format'
	is 1 "$(wc -l <"$W/.err")"
	try ours --log "$W/nowhere/log" --log-format json run -b "$B" "$CT"
	is 1 "$status"
	has "$errput" "$W/nowhere/log"
	is 1 "$(wc -l <"$W/.err")"
}

@test "refuse: in text, without --log, and appended to a log" {
	rm "$BOOK"
	try ours run -b "$B" "$CT"
	is 1 "$status"
	has "$errput" '^time=".*" level=error msg="book: '
	is 1 "$(wc -l <"$W/.err")"
	try ours --log-format json run -b "$B" "$CT"
	is error "$(jq -r .level <<<"$errput")"
	echo "a line before" >"$W/log"
	try ours --log "$W/log" run -b "$B" "$CT"
	is "a line before" "$(head -n 1 "$W/log")"
	has "$(tail -n 1 "$W/log")" '^time=".*" level=error msg="book: '
	is 2 "$(wc -l <"$W/log")"
}
