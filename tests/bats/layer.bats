#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# usernsctl layer with a real root filesystem, and in a real container of its range. Formats, hostile archives
# one by one, kills and full disks are for the tests of internal/layer; images for layer-image.bats.

load helpers
load engines

# The image with what a Debian one seldom has: file capabilities, ACLs, holes, times with nanoseconds, odd owners.
setup_file() {
	needs setcap getcap setfacl getfacl bsdtar python3 || return 0
	local tar lib
	tar=$(engine_image debian) || unfit "the image debian can't be made" || return 0
	I=$BATS_FILE_TMPDIR/image
	mkdir "$I"
	tar -C "$I" -xpf "$tar"
	mkdir -p "$I/opt/tools"
	cp "$(command -v getcap)" "$(command -v getfacl)" "$I/opt/tools/"
	for lib in $(ldd "$(command -v getcap)" "$(command -v getfacl)" | awk '$2 == "=>" {print $3}' | sort -u); do
		cp -L "$lib" "$I/opt/tools/"
	done
	cp "$I/usr/bin/true" "$I/opt/capable"
	setcap cap_net_bind_service,cap_net_raw=ep "$I/opt/capable"
	chown 1000:33 "$I/opt/capable" # which takes capabilities away
	setcap cap_net_bind_service,cap_net_raw=ep "$I/opt/capable"
	echo shared >"$I/opt/shared"
	# Nobody's on this host: GNU tar writes names where there are any, for which nobody knows the number.
	setfacl -m u:4033:r,g:4034:rw "$I/opt/shared"
	mkdir "$I/opt/inherits"
	setfacl -d -m u:4035:rx "$I/opt/inherits"
	truncate -s 10M "$I/opt/holes"
	echo end >>"$I/opt/holes"
	ln "$I/opt/shared" "$I/opt/linked"
	setfattr -n user.note -v hello "$I/opt/shared"
	touch -d '2001-02-03 04:05:06.123456789' "$I/opt/shared"
	chmod 4755 "$I/opt/tools/getcap"
	(cd "$I" && tar --format=posix --sparse --acls --xattrs --xattrs-include='*' --numeric-owner -cf "$BATS_FILE_TMPDIR/image.tar" .)
}

setup() {
	engine_setup
	A=$BATS_FILE_TMPDIR/image.tar
	MAP=0:$START:$COUNT
}

layer() { "$CTL" layer "$@"; }

# wont STATUS PATTERN ARGS...: it ends so, says that, and leaves nothing in the test's directory.
wont() {
	local want=$1 pattern=$2 before
	shift 2
	before=$(there)
	try layer "$@"
	is "$want" "$status" "the status of: $*"
	has "$errput" "$pattern"
	is "$before" "$(there)" "what is there"
}

# there: the names in the test's directory, but for what try keeps there.
there() { find "$W" -mindepth 1 -maxdepth 1 ! -name .out ! -name .err | sort; }

@test "layer: unpack, then pack, is the identity, and every ID on disk is the range's" {
	must layer unpack --map "$MAP" --input "$A" "$W/tree"
	is "" "$output$errput"
	is "" "$(find "$W/tree" '(' -uid -"$START" -o -uid +$((START + COUNT - 1)) -o -gid -"$START" -o -gid +$((START + COUNT - 1)) ')')" "files with other IDs"
	is "$((START + 1000)):$((START + 33)) 755" "$(stat -c '%u:%g %a' "$W/tree/opt/capable")"
	is "$START:$START 4755" "$(stat -c '%u:%g %a' "$W/tree/opt/tools/getcap")"
	is "$W/tree/opt/capable cap_net_bind_service,cap_net_raw=ep [rootid=$START]" "$(getcap -n "$W/tree/opt/capable")"
	has "$(getfacl -np "$W/tree/opt/shared")" "^user:$((START + 4033)):r--$"
	has "$(getfacl -np "$W/tree/opt/shared")" "^group:$((START + 4034)):rw-$"
	has "$(getfacl -np "$W/tree/opt/inherits")" "^default:user:$((START + 4035)):r-x$"
	(($(stat -c %b "$W/tree/opt/holes") < 1000)) # of 512 bytes
	must layer pack --map "$MAP" --output "$W/again.tar" "$W/tree"
	must layer verify "$A" "$W/again.tar"
	is "" "$output"
	must layer verify --map "$MAP" "$A" "$W/tree"
	# What verify sees is not nothing.
	touch -h -d '2001-02-03 04:05:06.123456788' "$W/tree/opt/shared"
	setfacl -x "u:$((START + 4033))" "$W/tree/opt/shared"
	chown $((START + 1)) "$W/tree/usr"
	install -o "$START" -g "$START" /dev/null "$W/tree/more"
	try layer verify --map "$MAP" "$A" "$W/tree"
	is 3 "$status"
	has "$output" 'opt/shared: .*mtime'
	has "$output" 'opt/shared: .*posix_acl_access'
	has "$output" 'usr: UID: 0, and 1'
	has "$output" '^more: '
}

@test "layer: what the image meant is what a container of that range sees" {
	rm -rf "$B/rootfs"
	must layer unpack --map "$MAP" --input "$A" "$B/rootfs"
	WRITES=1
	update_config '.linux.namespaces += [{type: "user"}]
		| .linux.uidMappings = [{containerID: 0, hostID: $start, size: $count}] | .linux.gidMappings = .linux.uidMappings' \
		--argjson start "$START" --argjson count "$COUNT"
	process env LD_LIBRARY_PATH=/opt/tools sh -c '/opt/tools/getcap /opt/capable; /opt/tools/getfacl -np /opt/shared; stat -c "%u:%g %a" /opt/capable /opt/tools/getcap'
	must ours run -b "$B" "$CT"
	is "/opt/capable cap_net_bind_service,cap_net_raw=ep
# file: /opt/shared
# owner: 0
# group: 0
user::rw-
user:4033:r--
group::r--
group:4034:rw-
mask::rw-
other::r--

1000:33 755
0:0 4755" "$output"
	audited '.decision == "granted" and .rootfs == "as-is"'
}

@test "layer: shift to the host and back gives the bytes; GNU tar and bsdtar read what is written" {
	local kind
	layer shift --to-host --map "$MAP" <"$A" >"$W/host.tar"
	is "$((START + 1000))/$((START + 33))" "$(tar --numeric-owner -tvf "$W/host.tar" ./opt/capable | awk '{print $2}')"
	is "$((START + 1000)) $((START + 33))" "$(bsdtar --numeric-owner -tvf "$W/host.tar" ./opt/capable | awk '{print $3, $4}')"
	layer shift --to-container --map "$MAP" <"$W/host.tar" | cmp - "$A"
	for kind in gzip zstd; do
		$kind -1 -c <"$A" | layer shift --to-host --map "$MAP" | $kind -dc | cmp - "$W/host.tar"
	done
	# Numbers beyond what octal digits hold, in a format that has no room for them.
	(cd "$W" && mkdir tiny && touch tiny/x && tar --format=ustar --numeric-owner -cf tiny.tar tiny)
	layer shift --to-host --map 0:4000000000:65536 <"$W/tiny.tar" >"$W/big.tar"
	is 4000000000/4000000000 "$(tar --numeric-owner -tvf "$W/big.tar" tiny/x | awk '{print $2}')"
	layer shift --to-container --map 0:4000000000:65536 <"$W/big.tar" | cmp - "$W/tiny.tar"
	# What pack writes.
	must layer unpack --map "$MAP" --input "$A" "$W/tree"
	layer pack --map "$MAP" --compress zstd "$W/tree" >"$W/again.tar.zst"
	zstd -dc <"$W/again.tar.zst" >"$W/again.tar"
	tar -tf "$A" | sed 's,^\./,,' | sort >"$W/names"
	tar -tf "$W/again.tar" | sed 's,^\./,,' | sort | diff "$W/names" -
	bsdtar -tf "$W/again.tar" >/dev/null
	mkdir "$W/gnu"
	tar -C "$W/gnu" --acls --xattrs --xattrs-include='*' --numeric-owner -xpf "$W/again.tar"
	layer verify --map 0:0:65536 "$A" "$W/gnu"
}

@test "layer: hostile archives end with the reason, and nothing is left" {
	python3 - "$W" <<-'END'
		import io, sys, tarfile
		def archive(name, *members):
		    with tarfile.open(sys.argv[1] + "/" + name, "w") as t:
		        for name, kind, link, data in members:
		            i = tarfile.TarInfo(name)
		            i.type, i.linkname, i.size = kind, link, len(data)
		            t.addfile(i, io.BytesIO(data))
		F, L, S = tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE
		archive("up.tar", ("ok", F, "", b"x"), ("../up", F, "", b"x"))
		archive("hard.tar", ("ok", F, "", b"x"), ("hard", L, "/etc/shadow", b""))
		archive("through.tar", ("out", S, "/", b""), ("out/tmp/ur-layer-escape", F, "", b"x"))
		archive("uid.tar", ("ok", F, "", b"x"))
	END
	head -c 3000 "$W/uid.tar" >"$W/short.tar"
	truncate -s 700 "$W/short.tar"
	head -c 100000 "$A" >"$W/cut.tar"
	wont 1 '"../up": climbs by "\.\." beyond the top' unpack --map "$MAP" --input "$W/up.tar" "$W/t"
	wont 1 '"hard": is a hard link to /etc/shadow, which isn.t there' unpack --map "$MAP" --input "$W/hard.tar" "$W/t"
	wont 1 'it is truncated' unpack --map "$MAP" --input "$W/short.tar" "$W/t"
	wont 1 'it is truncated' unpack --map "$MAP" --input "$W/cut.tar" "$W/t"
	wont 1 'UID 0: not in the map' unpack --map "1:$START:10" --input "$W/uid.tar" "$W/t"
	wont 1 'UID 0: not in the map' shift --to-host --map "1:$START:10" --input "$W/uid.tar" --output "$W/o"
	wont 2 '--map' unpack --input "$W/uid.tar" "$W/t"
	wont 2 'expected' shift --map "$MAP" --input "$W/uid.tar" --output "$W/o"
	must layer unpack --map "$MAP" --input "$W/through.tar" "$W/t"
	is x "$(cat "$W/t/tmp/ur-layer-escape")"
	[[ ! -e /tmp/ur-layer-escape ]]
	wont 1 "isn't empty" unpack --map "$MAP" --input "$A" "$W/t"
}

@test "layer: Ctrl-C leaves nothing, SIGKILL only what the next call removes" {
	local child
	mkfifo "$W/in"
	for signal in INT TERM KILL; do
		# A shell has what it starts in the background ignore SIGINT.
		env --default-signal=INT "$CTL" layer unpack --map "$MAP" "$W/t" <"$W/in" >"$W/log" 2>&1 3>&- &
		child=$!
		exec 9>"$W/in"
		head -c 3000000 "$A" >&9
		eventually eval '[[ -d $W/.t.unpack/tree/etc || -d $W/.t.unpack/tree/usr || -d $W/.t.unpack/tree/boot ]]'
		kill -"$signal" "$child"
		wait "$child" || true
		exec 9>&-
		[[ ! -e $W/t ]]
		[[ $signal == KILL || ! -e $W/.t.unpack ]]
	done
	[[ -d $W/.t.unpack/tree ]]
	must layer unpack --map "$MAP" --input "$A" "$W/t"
	[[ ! -e $W/.t.unpack ]]
	must layer verify --map "$MAP" "$A" "$W/t"
}

@test "layer: shift is for everybody, unpack and pack for root" {
	useradd --uid 3000 carol
	chmod 0755 "$W" "$BATS_FILE_TMPDIR" "$BATS_FILE_TMPDIR/.." "$BATS_FILE_TMPDIR/../.." "$BATS_FILE_TMPDIR/../../.."
	install -m 0755 "$CTL" "$W/usernsctl"
	setpriv --reuid carol --regid carol --clear-groups "$W/usernsctl" layer shift --to-host --map "$MAP" <"$A" | tar --numeric-owner -tvf - >/dev/null
	try setpriv --reuid carol --regid carol --clear-groups "$W/usernsctl" layer unpack --map "$MAP" "$W/t"
	is 1 "$status"
	has "$errput" 'layer unpack: needs root: you are UID 3000'
	chmod 0700 "$BATS_FILE_TMPDIR/../.." "$BATS_FILE_TMPDIR/../../.."
	userdel carol
	rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid-
}
