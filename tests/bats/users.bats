#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# Callers who aren't host root, on the host and from user namespaces of their
# own. The users are made for the test, in the sandbox's /etc.

load helpers

eval "$(declare -f setup | sed '1s/setup/load_setup/')"
setup() {
	load_setup
	# Where a user reaches the programs, and has a directory of their own.
	U=/run/hooks/users
	mkdir -p "$U/bin"
	chmod 0755 /run/hooks "$U" "$U/bin"
	cp "$OURS" "$U/bin/userns-runtime"
	cp "$RUNC" "$U/bin/runc"
	useradd -M -l -d "$U/ann" -s /bin/bash ann
	useradd -M -l -d "$U/ben" -s /bin/bash ben
	install -d -o ann -g ann -m 0700 "$U/ann"
	install -d -o ben -g ben -m 0700 "$U/ben"
	ANN=$(id -u ann)
	# The host's configuration, which users have no word in.
	mkdir /etc/userns-runtime
	printf 'runtimes = ["%s"]\n[audit]\npath = "%s"\n' "$U/bin/runc" "$AUDIT" >/etc/userns-runtime/config.toml
	install -d -o ann -g ann "$U/ann/bundle"
	cp -a "$UR_TEMPLATE/." "$U/ann/bundle/"
	chown -R ann: "$U/ann/bundle"
	snapshot >"$W/.before"
}

# as USER COMMAND...
as() {
	local user=$1
	shift
	setpriv --reuid "$user" --regid "$user" --init-groups env HOME="$U/$user" USER=root LOGNAME=root "$@"
}

by_ann() { as ann "$U/bin/userns-runtime" "$@"; }

# fails PATTERN: the last command was refused in one line.
fails() {
	is 1 "$status"
	is "" "$output"
	is 1 "$(grep -c 'level=error' "$W/.err")" "errors on standard error"
	is "" "$(grep -v level=error "$W/.err")"
	has "$(grep level=error <<<"$errput")" "$1"
}

@test "users: without a grant, refused by name" {
	cd "$U/ann"
	try by_ann --root "$U/ann/r" run -b "$U/ann/bundle" c1
	fails "ann or $ANN: no line of the book grants anything"
	has "$errput" 'add one: usernsctl add ann"$'
	test ! -e "$U/ann/r"
}

@test "users: dockroot's grant isn't theirs, however they ask" {
	cd "$U/ann"
	local args
	for args in "--owner dockroot" "--owner ben" "--owner root" "--owner 0"; do
		# shellcheck disable=SC2086 # two words
		try by_ann $args --root "$U/ann/r" run -b "$U/ann/bundle" c1
		fails "only the host's root starts containers for others"
		has "$errput" "ann \(UID $ANN\)"
	done
	ln -s "$U/bin/userns-runtime" "$U/bin/userns-runtime-dockroot"
	try as ann "$U/bin/userns-runtime-dockroot" --root "$U/ann/r" run -b "$U/ann/bundle" c1
	fails "program name userns-runtime-dockroot asks for owner .*dockroot"
	jq '.annotations = {"io.userns-runtime.owner": "dockroot"}' "$UR_TEMPLATE/config.json" >"$U/ann/bundle/config.json"
	sed -i '1i annotations = ["owner"]' /etc/userns-runtime/config.toml
	try by_ann --root "$U/ann/r" run -b "$U/ann/bundle" c1
	fails "ann or $ANN: no line of the book"
	try by_ann --owner "$ANN" --root "$U/ann/r" run -b "$U/ann/bundle" c1
	fails "ann or $ANN: no line of the book"
}

@test "users: with a grant, told where their containers' files would be; rootless.bats has the rest" {
	book "ann:$START:$COUNT:"
	cd "$U/ann"
	try by_ann --root "$U/ann/r" run -b "$U/ann/bundle" c1
	fails "newuidmap and newgidmap of this project are in none of|private copy of the bundle: .*/run/user/$ANN"
}

@test "users: maps beyond their grant, and of others" {
	book "ann:$START:$COUNT:" "ben:$((START + COUNT)):$COUNT:"
	jq --argjson start "$((START + COUNT))" '.linux.namespaces += [{type: "user"}]
		| .linux.uidMappings = [{containerID: 0, hostID: $start, size: 10}] | .linux.gidMappings = .linux.uidMappings' \
		"$UR_TEMPLATE/config.json" >"$U/ann/bundle/config.json"
	cd "$U/ann"
	try by_ann --root "$U/ann/r" run -b "$U/ann/bundle" c1
	fails "belongs to ben \($BOOK:2\)"
}

@test "users: another's bundle is refused" {
	book "ann:$START:$COUNT:"
	chown -R ben: "$U/ann/bundle"
	try by_ann --root "$U/ann/r" run -b "$U/ann/bundle" c1
	fails "UID $(id -u ben) owns it"
}

@test "users: a configuration of their own doesn't move the audit" {
	# The audit file is where they may write, so that there is something to see.
	AUDIT=$U/audit/audit.jsonl
	install -d -m 0777 "$U/audit"
	printf 'runtimes = ["%s"]\n[audit]\npath = "%s"\n' "$U/bin/runc" "$AUDIT" >/etc/userns-runtime/config.toml
	install -m 0644 /dev/null "$U/own.toml"
	printf 'runtimes = ["%s"]\n[audit]\npath = "%s"\n' "$U/bin/runc" "$U/ann/mine.jsonl" >"$U/own.toml"
	try by_ann --config "$U/own.toml" --root "$U/ann/r" run -b "$U/ann/bundle" c1
	fails "no line of the book"
	test ! -e "$U/ann/mine.jsonl"
	audited ".subject == \"ann\" and .uid == $ANN and .decision == \"refused\" and .owner == \"ann\""
	# Nor can they write one themselves.
	cp "$U/own.toml" "$U/ann/own.toml"
	chown ann: "$U/ann/own.toml"
	try by_ann --config "$U/ann/own.toml" --root "$U/ann/r" run -b "$U/ann/bundle" c1
	is 1 "$status"
	has "$errput" "own.toml.*root"
}

# inside COMMAND: as ann, as root of a user namespace with her subordinate IDs.
inside() {
	as ann unshare --user --map-root-user --map-auto --mount -- bash -c "$1"
}

@test "users: from a user namespace, the subject is the host's user" {
	requires unprivileged-users map-auto
	sed -i '/^ann:/d' /etc/subuid /etc/subgid
	echo "ann:$START:$COUNT" | tee -a /etc/subuid >>/etc/subgid
	local run="$U/bin/userns-runtime --root $U/ann/r run -b $U/ann/bundle c1"
	try inside "id -u; $run"
	is 1 "$status"
	is 0 "$output" "the UID there"
	has "$errput" "ann or $ANN: no line of the book"
	try inside "$U/bin/userns-runtime --owner dockroot --root $U/ann/r run -b $U/ann/bundle c1"
	is 1 "$status"
	has "$errput" "ann \(UID $ANN\) asks: only the host's root"
	# Deeper, where the map says 0 again.
	try inside "unshare --user --map-root-user $run"
	is 1 "$status"
	has "$errput" "who is asking: "
	# Where the caller isn't mapped at all.
	try as ann unshare --user bash -c "$run"
	is 1 "$status"
	has "$errput" "who is asking: .*isn't mapped"
}

@test "users: from a user namespace, a bundle with maps of their grant runs" {
	requires unprivileged-users map-auto
	sed -i '/^ann:/d' /etc/subuid /etc/subgid
	echo "ann:$START:$COUNT" | tee -a /etc/subuid >>/etc/subgid
	book "ann:$START:$COUNT:"
	# Inner 0 of the container is 1 of ann's namespace, which is START outside.
	install -d -m 0700 -o ann -g ann "/run/user/$ANN"
	jq '.linux.namespaces = [.linux.namespaces[] | select(.type != "network")] + [{type: "user"}, {type: "network"}]
		| .linux.uidMappings = [{containerID: 0, hostID: 1, size: 1000}] | .linux.gidMappings = .linux.uidMappings
		| .mounts = [.mounts[] | select(.type != "cgroup")]
		| .process.args = ["sh", "-c", "cat /proc/self/uid_map; echo it ran"]' "$UR_TEMPLATE/config.json" >"$U/config.json"
	chmod 0644 "$U/config.json"
	chmod -R o+rX "$UR_TEMPLATE"
	cp -a "$UR_TEMPLATE/rootfs" "$U/rootfs"
	# The skeleton is root's to make.
	book "ann:$START:$COUNT:" "dockroot:$((START + COUNT)):$COUNT:"
	must ours run -b "$B" "$CT"
	try inside "set -e
		mount -t tmpfs -o mode=0711 tmpfs $U/ann
		mkdir -m 0711 $U/ann/b
		cp -r $U/rootfs $U/config.json $U/ann/b/
		exec $U/bin/userns-runtime --root $U/ann/r run -b $U/ann/b c1"
	is 0 "$status"
	has "$output" '^it ran$'
	is "0 1 1000" "$(head -n 1 <<<"$output" | awk '{$1 = $1; print}')"
	# What the host's root mounts and makes for its own containers they have as the host has it.
	jq '.linux.namespaces = [.linux.namespaces[] | select(.type != "pid")] | .linux.devices = [{path: "/dev/kmsg", type: "c", major: 1, minor: 11}]
		| .linux.resources.devices += [{allow: true, type: "c", major: 1, minor: 11, access: "rwm"}]
		| .process.args = ["sh", "-c", "cat /proc/1/comm; stat -c %t,%T:%u /dev/kmsg; cat /proc/1/environ 2>/dev/null || echo closed"]' "$U/config.json" >"$U/config.new"
	cat "$U/config.new" >"$U/config.json"
	try inside "set -e
		mount -t tmpfs -o mode=0711 tmpfs $U/ann
		mkdir -m 0711 $U/ann/b
		cp -r $U/rootfs $U/config.json $U/ann/b/
		exec $U/bin/userns-runtime --root $U/ann/r run -b $U/ann/b c1"
	is 0 "$status"
	is "$(cat /proc/1/comm)
1,b:65534
closed" "$output"
	rm -rf /run/user
}

@test "users: from a user namespace, a bundle without maps gets their range" {
	requires unprivileged-users map-auto
	sed -i '/^ann:/d' /etc/subuid /etc/subgid
	echo "ann:$START:$COUNT" | tee -a /etc/subuid >>/etc/subgid
	book "ann:$START:2000:size=2000" "dockroot:$((START + COUNT)):$COUNT:"
	jq '.mounts = [.mounts[] | select(.type != "cgroup")]
		| .process.args = ["sh", "-c", "cat /proc/self/uid_map; stat -c %u:%g /bin/busybox; touch /file; stat -c %u:%g /file"]' \
		"$UR_TEMPLATE/config.json" >"$U/config.json"
	chmod 0644 "$U/config.json"
	cp -a "$UR_TEMPLATE/rootfs" "$U/rootfs"
	must ours run -b "$B" "$CT"
	try inside "$U/bin/userns-runtime --root $U/ann/r run -b $U/ann/bundle c1"
	is 1 "$status"
	has "$errput" "/run/user/$ANN/userns-runtime: no such .*expected a directory /run/user/$ANN that the caller may write to"
	install -d -m 0700 -o ann -g ann "/run/user/$ANN"
	try inside "set -e
		mount -t tmpfs -o mode=0711 tmpfs $U/ann
		mkdir -m 0700 $U/ann/b
		cp -r $U/rootfs $U/config.json $U/ann/b/
		$U/bin/userns-runtime --root $U/ann/r run -b $U/ann/b c1
		stat -c %u:%g $U/ann/b/rootfs/file"
	is 0 "$status"
	is $'0 1 2000\n0:0\n0:0\n0:0' "$(awk '{$1 = $1; print}' <<<"$output")"
	# Run in the foreground, it has left an entry, which is theirs.
	is "$ANN" "$(stat -c %u "/run/user/$ANN/userns-runtime/leases/$START-2000."*)"
	rm -rf /run/user
}

@test "users: from a user namespace, beyond the grant is refused" {
	requires unprivileged-users map-auto
	sed -i '/^ann:/d' /etc/subuid /etc/subgid
	echo "ann:$START:$COUNT" | tee -a /etc/subuid >>/etc/subgid
	book "ann:$START:1000:size=1000"
	jq '.linux.namespaces += [{type: "user"}]
		| .linux.uidMappings = [{containerID: 0, hostID: 1, size: 1001}] | .linux.gidMappings = .linux.uidMappings' \
		"$UR_TEMPLATE/config.json" >"$U/ann/bundle/config.json"
	try inside "$U/bin/userns-runtime --root $U/ann/r run -b $U/ann/bundle c1"
	is 1 "$status"
	has "$errput" "outer \[$((START + 1000))-$((START + 1001))\) isn't granted to ann"
}

@test "users: no-new-privs can't hold in a namespace of theirs" {
	requires unprivileged-users map-auto
	book "ann:$START:$COUNT:no-new-privs"
	try by_ann --root "$U/ann/r" run -b "$U/ann/bundle" c1
	fails "$BOOK:1: flag no-new-privs can't hold"
}

teardown() {
	userdel ann >/dev/null 2>&1
	userdel ben >/dev/null 2>&1
	local ok=0
	if [[ -n ${BATS_TEST_COMPLETED:-} && -z ${BATS_TEST_SKIPPED:-} ]]; then
		cd /
		invariants || ok=1
	fi
	clean_up
	return "$ok"
}
