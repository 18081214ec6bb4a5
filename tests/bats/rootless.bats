#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# Containers that users without privileges start: in their own IDs, by runc's rootless mode and our
# newuidmap.

load helpers

setup_file() {
	useradd -M -l -s /bin/bash ann
	useradd -M -l -s /bin/bash ben
	# Where newuidmap is looked for, for this sandbox alone.
	mkdir /run/sandbox/libexec /run/sandbox/libexec.work
	mount -t overlay -o lowerdir=/usr/libexec,upperdir=/run/sandbox/libexec,workdir=/run/sandbox/libexec.work overlay /usr/libexec
	mkdir -m 0755 /usr/libexec/userns-runtime
	local name
	for name in newuidmap newgidmap; do
		cp "$USERNS" "/usr/libexec/userns-runtime/$name"
	done
	setcap cap_setuid=p /usr/libexec/userns-runtime/newuidmap
	setcap cap_setgid=p /usr/libexec/userns-runtime/newgidmap
}

eval "$(declare -f setup | sed '1s/setup/load_setup/')"
setup() {
	load_setup
	requires unprivileged-users
	U=/run/hooks/users
	mkdir -p "$U/bin"
	chmod 0755 /run/hooks "$U" "$U/bin"
	cp "$OURS" "$U/bin/userns-runtime"
	cp "$RUNC" "$U/bin/runc"
	ANN=$(id -u ann)
	BEN=$(id -u ben)
	mkdir -p /run/user
	local user
	for user in ann ben; do
		install -d -o "$user" -g "$user" -m 0700 "$U/$user" "/run/user/$(id -u "$user")"
		cp -a "$UR_TEMPLATE" "$U/$user/bundle"
		chown -hR "$user:" "$U/$user/bundle"
	done
	mkdir /etc/userns-runtime
	printf 'runtimes = ["%s"]\n[audit]\npath = "%s"\n' "$U/bin/runc" "$AUDIT" >/etc/userns-runtime/config.toml
	book "ann:$START:$COUNT:"
	B=$U/ann/bundle
	ours_cmd=("$U/bin/userns-runtime" --root "$U/ann/r")
	cd "$U/ann" || return
	snapshot >"$W/.before"
}

eval "$(declare -f teardown | sed '1s/teardown/load_teardown/')"
teardown() {
	rm -rf /run/user
	B=$W/bundle
	rm -f "$W/.bundle"
	sed -i '\,^/run/user,d' "$W/.before"
	load_teardown
}

as() {
	local user=$1
	shift
	setpriv --reuid "$user" --regid "$user" --init-groups env XDG_RUNTIME_DIR="/run/user/$(id -u "$user")" "$@"
}

by_ann() { as ann "${ours_cmd[@]}" "$@"; }

edit() { jq "$@" "$UR_TEMPLATE/config.json" | as ann tee "$B/config.json" >/dev/null; }

fails() {
	is 1 "$status"
	is "" "$output"
	has "$errput" "level=error"
	has "$errput" "$1"
	is "" "$(copies)"
}

copies() { find "/run/user/$ANN/userns-runtime/bundles" -mindepth 1 2>/dev/null || true; }

@test "rootless: run, in the caller's own IDs: root inside is the caller, the rest the grant" {
	edit '.process.args = ["sh", "-c", "id -u; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; touch /new"]'
	local before
	before=$(sha256sum "$B/config.json")
	must by_ann run -b "$B" c1
	is "0
0 $ANN 1
1 $START 65535
0 $(id -g ann) 1
1 $START 65535
allow" "$(awk '{$1 = $1; print}' <<<"$output")"
	is "$ANN" "$(stat -c %u "$B/rootfs/new")" "the owner of what root inside made"
	is "$before" "$(sha256sum "$B/config.json")" "the bundle's own config.json"
	# The copy goes with the next one.
	must by_ann run -b "$B" c2
	is 1 "$(find "/run/user/$ANN/userns-runtime/bundles" -mindepth 1 -maxdepth 1 | wc -l)" "copies"
	is 700 "$(stat -c %a "/run/user/$ANN/userns-runtime/bundles")"
}

@test "rootless: create, start, exec, state, kill, delete" {
	edit '.process.args = ["sleep", "1000"] | .root.path = "rootfs"'
	must by_ann create -b bundle c1
	is created "$(by_ann state c1 | jq -r .status)"
	must by_ann start c1
	local pid
	pid=$(by_ann state c1 | jq .pid)
	maps_are "0:$ANN:1,1:$START:65535" "$pid" "0:$(id -g ann):1,1:$START:65535"
	is "$ANN" "$("$UR_HELPERS/nsowner" "$pid")" "owner"
	must by_ann exec c1 sh -c 'id -u; echo fine >/dev/null'
	is 0 "$output"
	must by_ann exec --user 5:5 c1 id -u
	is 5 "$output"
	try by_ann exec c1 sh -c 'exit 9'
	is 9 "$status"
	jq -n '{args: ["id", "-u"], cwd: "/", env: ["PATH=/bin"], user: {uid: 7, gid: 7}}' >"$U/ann/process.json"
	must by_ann exec -p process.json c1
	is 7 "$output"
	try by_ann exec --user 70000 c1 true
	has "$errput" '70000'
	((status != 0)) || return
	try by_ann run -b bundle c1
	is 1 "$status"
	has "$errput" 'container with given ID already exists'
	is 1 "$(find "/run/user/$ANN/userns-runtime/bundles" -mindepth 1 -maxdepth 1 | wc -l)" "copies"
	must by_ann delete -f c1
	is "" "$(copies)" "copies"
}

@test "rootless: exit codes, standard input, and paths relative to the bundle" {
	as ann mkdir "$B/data"
	as ann sh -c 'echo in-the-bundle >"$1/data/file"' - "$B"
	edit '.process.args = ["sh", "-c", "cat; cat /tmp/file; exit 5"] | .mounts += [{destination: "/tmp", type: "bind", source: "data", options: ["rbind", "ro"]}]'
	echo typed >"$W/stdin"
	chmod 0644 "$W/stdin"
	STDIN=$W/stdin
	try by_ann run -b bundle --pid-file pid c1
	is 5 "$status"
	is $'typed\nin-the-bundle' "$output"
	test -s "$U/ann/pid"
	is ann "$(stat -c %U "$U/ann/pid")"
}

@test "rootless: the host's network" {
	edit 'del(.linux.namespaces[] | select(.type == "network")) | .process.args = ["sh", "-c", "readlink /proc/self/ns/net; ls /sys/class/net | head -n 1"]'
	must by_ann run -b bundle c1
	is "$(readlink /proc/self/ns/net)" "$(head -n 1 <<<"$output")"
	# By its path it is left out.
	edit '(.linux.namespaces[] | select(.type == "network")).path = "/proc/self/ns/net" | .process.args = ["readlink", "/proc/self/ns/net"]'
	must by_ann run -b bundle c1
	is "$(readlink /proc/self/ns/net)" "$output"
}

@test "rootless: the flags of the book hold, or refuse by name" {
	book "ann:$START:1000:size=1000,deny-setgroups"
	edit '.process.args = ["sh", "-c", "cat /proc/self/uid_map /proc/self/setgroups"]'
	must by_ann run -b bundle c1
	is "$(printf '0 %s 1\n1 %s 999\ndeny' "$ANN" "$START")" "$(awk '{$1 = $1; print}' <<<"$output")"
	rm -rf "/run/user/$ANN/userns-runtime"
	book "ann:$START:$COUNT:no-new-privs"
	try by_ann run -b bundle c1
	fails "$BOOK:1: flag no-new-privs can't hold in a user namespace that belongs to ann.*have root start the container"
	book "ann:$START:$COUNT:reserved"
	try by_ann run -b bundle c1
	fails "only reserves"
	book "ann:$START:$COUNT:owned"
	must by_ann run -b bundle c1
	rm -rf "/run/user/$ANN/userns-runtime"
	book "ann:$START:100:"
	try by_ann run -b bundle c1
	fails "$BOOK:1"
}

@test "rootless: maps of the bundle's are judged, by us and by newuidmap" {
	book "ann:$START:$COUNT:" "ben:$((START + COUNT)):$COUNT:"
	edit --argjson s "$START" --argjson u "$ANN" --argjson g "$(id -g ann)" '.linux.namespaces += [{type: "user"}] | .process.args = ["cat", "/proc/self/uid_map"] |
		.linux.uidMappings = [{containerID: 0, hostID: $u, size: 1}, {containerID: 1, hostID: ($s + 5), size: 10}] |
		.linux.gidMappings = [{containerID: 0, hostID: $g, size: 1}, {containerID: 1, hostID: ($s + 5), size: 10}] |
		(.mounts[] | select(.type == "devpts")).options -= ["gid=5"] | .mounts[1].options -= []'
	must by_ann run -b bundle c1
	is "$(printf '0 %s 1\n1 %s 10' "$ANN" "$((START + 5))")" "$(awk '{$1 = $1; print}' <<<"$output")"
	rm -rf "/run/user/$ANN/userns-runtime"
	jq --argjson s "$((START + COUNT))" '.linux.uidMappings[1].hostID = $s' "$B/config.json" >"$W/config"
	as ann tee "$B/config.json" <"$W/config" >/dev/null
	try by_ann run -b bundle c1
	fails "belongs to ben \($BOOK:2\)"
	# runc itself, with our newuidmap, says the same.
	try as ann env PATH="/usr/libexec/userns-runtime:$PATH" "$U/bin/runc" --root "$U/ann/r" run -b bundle c1
	((status != 0)) || return
	rm -rf "$U/ann/r/c1"
}

@test "rootless: what takes root is refused by name" {
	edit '.linux.namespaces += [{type: "user", path: "/proc/self/ns/user"}]'
	try by_ann run -b bundle c1
	fails 'linux.namespaces: user'
	touch "$U/net"
	unshare --net="$U/net" true
	edit '(.linux.namespaces[] | select(.type == "network")).path = $path' --arg path "$U/net"
	try by_ann run -b bundle c1
	umount "$U/net"
	fails 'linux.namespaces: path: a container that is started without root joins no namespace'
	edit .
	mkdir -m 0755 "$U/images"
	try by_ann restore --image-path "$U/images" -b bundle c1
	is 1 "$status"
	rm -rf "/run/user/$ANN"
	try by_ann run -b bundle c1
	fails "/run/user/$ANN: no such file.*install -d -o $ANN -m 0700 /run/user/$ANN"
	install -d -o ben -m 0755 "/run/user/$ANN"
	try by_ann run -b bundle c1
	fails "/run/user/$ANN: UID $BEN owns it"
	rm -rf "/run/user/$ANN"
	ln -s "/run/user/$BEN" "/run/user/$ANN"
	try by_ann run -b bundle c1
	fails "expected a directory of UID $ANN's"
}

@test "rootless: the low-level runtime is asked for its version once" {
	mv "$U/bin/runc" "$U/bin/real"
	printf '#!/bin/sh\necho "$*" >>"%s"\nexec "%s" "$@"\n' "$U/ann/asked" "$U/bin/real" >"$U/bin/runc"
	chmod 0755 "$U/bin/runc"
	local i
	asked() { grep -c -- '^--version$' "$U/ann/asked" || true; }
	edit '.process.args = ["true"]'
	must by_ann run -b "$B" c1 # before it there is no place to keep it
	for i in 1 2 3; do
		must by_ann list
		must by_ann run -b "$B" c1
	done
	is 2 "$(asked)"
	# What somebody else could have written there isn't taken.
	chmod 0777 "/run/user/$ANN"
	must by_ann list
	is 3 "$(asked)"
	chmod 0700 "/run/user/$ANN"
	# Nor does root look there: what root has asked, all have.
	must as ann ln -sfn "crun version 1.0" "$(find "/run/user/$ANN/userns-runtime/runtimes" -type l)"
	must "$U/bin/userns-runtime" --root "$W/ours" list
	is 4 "$(asked)"
	must by_ann list
	is 4 "$(asked)"
	rm -rf /run/userns-runtime/runtimes
}

@test "rootless: without our newuidmap nothing goes by /etc/subuid instead" {
	mv /usr/libexec/userns-runtime /usr/libexec/away
	echo "ann:$START:65536" >/etc/subuid
	try by_ann run -b bundle c1
	mv /usr/libexec/away /usr/libexec/userns-runtime
	: >/etc/subuid
	fails "newuidmap and newgidmap of this project are in none of /usr/libexec/userns-runtime"
}

@test "rootless: without a line there is nothing, and others' can't be had" {
	try as ben "$U/bin/userns-runtime" --root "$U/ben/r" run -b "$U/ben/bundle" c1
	is 1 "$status"
	has "$errput" "ben or $BEN: no line of the book grants anything"
	try as ben "$U/bin/userns-runtime" --owner ann --root "$U/ben/r" run -b "$U/ben/bundle" c1
	is 1 "$status"
	has "$errput" "only the host's root starts containers for others"
}

@test "rootless: a failed start leaves no copy, and a killed one is swept" {
	edit '.process.args = ["/no/such"]'
	try by_ann run -b bundle c1
	((status != 0)) || return
	edit '.process.user.uid = 70000'
	try by_ann run -b bundle c1
	has "$errput" '70000'
	edit '.process.args = ["sleep", "1000"]'
	by_ann run -b bundle c3 <"$STDIN" >/dev/null 2>&1 3>&- &
	local job=$!
	running() { [[ $(by_ann state c3 | jq -r .status) == running ]]; }
	eventually running
	# Not while it runs.
	edit '.process.args = ["true"]'
	must by_ann run -b bundle c4
	running
	must by_ann delete -f c3
	wait "$job" || true
	must by_ann run -b bundle c5
	is 1 "$(find "/run/user/$ANN/userns-runtime/bundles" -mindepth 1 -maxdepth 1 | wc -l)" "copies"
}

@test "rootless: devices, and the host's pid and ipc: what they give to the caller" {
	local ask='.linux.devices = [{path: "/dev/kmsg", type: "c", major: 1, minor: 11}] | .linux.namespaces = [.linux.namespaces[] | select(.type != "pid")]
		| .process.args = ["sh", "-c", "stat -c %t,%T /dev/kmsg; cat /proc/1/comm; readlink /proc/self/ns/pid; cat /proc/1/environ 2>/dev/null; (echo x >/dev/kmsg) 2>/dev/null || echo not written"]'
	edit "$ask"
	must by_ann run -b "$B" c1
	is "1,b
$(cat /proc/1/comm)
$(readlink /proc/self/ns/pid)
not written" "$output"
	# There has to be one for the caller to bind.
	edit "$ask"' | .linux.namespaces = [.linux.namespaces[] | select(.type != "ipc")]'
	if [[ -d /dev/mqueue ]]; then
		must by_ann run -b "$B" c2
	else
		try by_ann run -b "$B" c2
		is 1 "$status"
		has "$errput" 'mounts\[4\]: /dev/mqueue: the host has no /dev/mqueue'
	fi
}
