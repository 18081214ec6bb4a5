#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# What an administrator asks of a host that runs: who, audit, inspect, plan.

load helpers
load ctl

eval "ctl_$(declare -f setup)"
setup() {
	ctl_setup
	book "dockroot:$START:$COUNT:"
}

# Accounts that only the sandbox has.
account() { echo "$1:x:$2:$2::/:/bin/sh" >>/etc/passwd; }

# found SEVERITY PATTERN: one finding of the last --json matches.
found() {
	is 1 "$(jq --arg s "$1" --arg p "$2" '[.[] | select(.severity == $s and (.message | test($p)))] | length' <<<"$output")" "findings of $1 that match $2 in $output"
}

# claim KIND FILTER: of the last who --json, one of that kind has it true.
claim() {
	jq -e --arg kind "$1" "any(.[]; .kind == \$kind and ($2))" <<<"$output" >/dev/null && return
	printf 'no %s has %s:\n%s\n' "$1" "$2" "$output"
	return 1
}

@test "who: an ID of a container, in words and as JSON, and what it is inside" {
	up ours
	must ctl who "$((START + 33))" --json
	claim container ".who == \"$CT\" and .owner == \"dockroot\" and .where == \"$W/ours\" and .innerUID == 33 and .innerGID == 33 and .user and .group and .pid == $init"
	claim line '.who == "dockroot" and .where == "/etc/usernamespaces:1" and .innerUID == null'
	is 2 "$(field length)" "of who has it"
	must ctl who "$((START + 33))"
	has "$output" "^container +$CT +user 33 inside, group 33 inside +dockroot +$init +$W/ours$"
	has "$output" '^line +dockroot +user, group +- +- +/etc/usernamespaces:1$'
	is "" "$errput" "standard error"
	down ours
	must ctl who "$((START + 33))" --json
	is line "$(field '.[].kind')" "of who has it, after the end"
}

@test "who: a container of maps for users alone, or with holes, has what is in them" {
	book "dockroot:$START:$((2 * COUNT)):"
	update_config '.linux.uidMappings = [{containerID: 0, hostID: $u, size: 10}, {containerID: 100, hostID: ($u + 50), size: 10}]
		| .linux.gidMappings = [{containerID: 0, hostID: ($u + 1000), size: 1000}] | .linux.namespaces += [{type: "user"}]' --argjson u "$START"
	chown -R "$START:$((START + 1000))" "$B/rootfs"
	WRITES=1
	up ours
	must ctl who "$((START + 55))" --json
	claim container '.innerUID == 105 and .innerGID == null and .user and (.group | not)'
	must ctl who "$((START + 1003))" --json
	claim container '.innerGID == 3 and .innerUID == null and (.user | not) and .group'
	must ctl who "$((START + 30))" --json
	is line "$(field '.[].kind')" "between the extents"
	must ctl inspect "$CT" --json
	is "0:$START:10,100:$((START + 50)):10 0:$((START + 1000)):1000" "$(field '.[0] | "\(.uids) \(.gids)"')" "maps"
	down ours
}

@test "who: what is nobody's, of no container, and what isn't an ID" {
	must ctl who 123456789
	is "123456789 is nobody's" "$output"
	must ctl who 123456789 --json
	is "[]" "$output"
	must ctl who 0 --json
	claim user '.who == "root" and .user and (.group | not)'
	claim group '.who == "root" and .group and (.user | not)'
	local word
	for word in root -1 1.5 4294967295 4294967296 99999999999999999999 ''; do
		refuses 2 '(flag .*: unknown|expected an ID of this host, a decimal number from 0 to 4294967294)' who "$word"
	done
	refuses 2 'who: ID is missing' who
	refuses 2 'who: "2": expected nothing behind ID' who 1 2
	rm "$BOOK"
	must ctl who 0
	has "$errput" 'warning: /etc/usernamespaces: there is no book'
	echo 'bad line' >"$BOOK"
	refuses 1 'who: .*usernamespaces:1' who 0
	hint "usernsctl check"
}

@test "who, check and audit name each collision: a subuid of another, an account in a range, a process that nobody gave it" {
	book "dockroot:$START:$((2 * COUNT)):" "alice:500000:$COUNT:"
	account alice 1500
	account intruder 500007
	echo "mallory:$((START + 70000)):10" >/etc/subuid
	: >/etc/subgid
	map_foreign "$((START + 100))" 5

	try ctl check --json
	is 3 "$status" "check"
	found error "^/etc/usernamespaces:1: .*belongs to mallory by /etc/subuid:1"
	found error "^/etc/usernamespaces:2: 500007 of alice is the host.s user intruder .*usermod -u NEW intruder"
	try ctl audit --json
	is 3 "$status" "audit"
	found error "^/etc/usernamespaces:1: .*belongs to mallory by /etc/subuid:1"
	found error "^/etc/usernamespaces:2: 500007 of alice is the host.s user intruder"
	found error "^process $foreign \\(sleep\\) in a user namespace that root made: has \\[$((START + 100))-$((START + 105))\\) of dockroot \\(/etc/usernamespaces:1\\), and no lease: .*ps -fp $foreign"
	found warning "^/etc/subuid:1: mallory has no account"
	try ctl audit
	is 3 "$status" "audit, in words"
	has "$output" '^[0-9]+ errors, [0-9]+ warnings$'

	must ctl who "$((START + 102))"
	has "$output" "^namespace .*$foreign \\(sleep\\).* user 2 inside +- +$foreign "
	has "$errput" "warning: error: process $foreign .* and no lease"
	must ctl who 500007
	has "$output" '^line +alice '
	has "$output" '^user +intruder '
	has "$errput" 'warning: error: /etc/usernamespaces:2: 500007 of alice is the host.s user intruder'
	must ctl who "$((START + 70003))"
	has "$output" '^subuid +mallory +user +- +- +/etc/subuid:1$'
	has "$errput" 'belongs to mallory by /etc/subuid:1'
	end_foreign
}

@test "audit: lines that can't be read are warnings" {
	echo 'ann:1:x' >/etc/subuid
	must ctl audit --json
	found warning '^/etc/subuid:1: .*is passed over'
}

@test "audit: a sound host has no findings, and exit code 0" {
	must ctl audit
	is "0 errors, 0 warnings" "$output"
	must ctl audit --json
	is "[]" "$output"
	up ours
	must ctl audit --json
	is "[]" "$output" "with a container"
	# One inside of it has a user namespace of its own.
	nsenter --target "$init" --user --setuid 0 --setgid 0 -- unshare --user sleep 1000 </dev/null >/dev/null 2>&1 3>&- &
	local inside=$!
	eventually eval '[[ $(<"/proc/$inside/comm") == sleep ]]'
	must ctl audit --json
	is "[]" "$output" "with a namespace inside of a container"
	kill -KILL "$inside"
	reap "$inside"
	down ours
}

@test "audit: a user's own namespace in their own line is theirs; in another's it isn't" {
	requires unprivileged-users
	account carol 1500
	book "dockroot:$START:$COUNT:" "carol:1879703552:$COUNT:"
	setpriv --reuid 1500 --regid 1500 --clear-groups unshare --user sleep 1000 </dev/null >/dev/null 2>&1 3>&- &
	foreign=$!
	eventually eval '[[ $(<"/proc/$foreign/comm") == sleep ]]'
	printf '0 1500 1\n1 1879703552 100\n' | dd status=none of="/proc/$foreign/uid_map"
	must ctl audit --json
	is "[]" "$output"
	must ctl who 1879703556 --json
	claim namespace ".innerUID == 5 and .pid == $foreign"
	book "dockroot:1879703552:$COUNT:"
	try ctl audit --json
	is 3 "$status" status
	found error "^process $foreign \\(sleep\\) in a user namespace that carol made: has \\[1879703552-1879703652\\) of dockroot"
	account dave 1879703602
	book "dockroot:$START:$COUNT:"
	try ctl audit --json
	is 3 "$status" status
	found error "^process $foreign .* may be user dave \\(/etc/passwd:[0-9]+\\), since 1879703602 is in its map"
	end_foreign
}

@test "audit and inspect: a container whose line has changed keeps what it has, and is named" {
	up ours
	must ctl inspect "$CT"
	has "$output" "^container: $CT$"
	has "$output" "^lines, when it was created: /etc/usernamespaces:1$"
	is "" "$(grep 'says otherwise' <<<"$output")" "what differs"
	book "dockroot:$START:$COUNT:no-new-privs"
	must ctl audit --json
	found warning "^container $CT of $W/ours.*: it has the flags none, and the book says no-new-privs: it keeps what it has"
	must ctl inspect "$CT" --json
	is '["it has the flags none, and the book says no-new-privs"]' "$(jq -c '.[0].differs' <<<"$output")"
	book "dockroot:500000:$COUNT:"
	must ctl audit --json
	found warning "isn't granted to dockroot any more"
	book "alice:$START:$COUNT:"
	try ctl audit --json
	is 3 "$status" "another has the line"
	found error "has \\[$START-$((START + COUNT))\\) of owner dockroot, which belongs to alice \\(/etc/usernamespaces:1\\) by now"
	down ours
}

@test "audit: a process that outlives its container, and what was found alive" {
	up ours
	nsenter --target "$init" --user --setuid 0 --setgid 0 -- sleep 1000 </dev/null >/dev/null 2>&1 3>&- &
	local left=$!
	eventually eval '[[ $(readlink /proc/$left/ns/user) == "$(readlink /proc/$init/ns/user)" ]]'
	down ours
	must ctl audit --json
	found warning "^container $CT of .*: has ended, and a process has IDs of \\[$START-$((START + COUNT))\\) still.* ps -fp $left"
	kill -KILL "$left"
	reap "$left"
	must ctl audit --json
	is "[]" "$output"
}

@test "audit: a container that was started past the gate in a granted range" {
	book "dockroot:$START:$((2 * COUNT)):"
	up ours
	local ours_init=$init
	# Plain runc asks nobody. Root inside must be able to walk to its root filesystem.
	B=/run/past
	setup_bundle "$B"
	chmod 0711 "$B"
	chown -R "$START:$START" "$B/rootfs"
	update_config '.linux.uidMappings = [{containerID: 0, hostID: $u, size: 65536}] | .linux.gidMappings = .linux.uidMappings
		| .linux.namespaces += [{type: "user"}] | .linux.cgroupsPath = $path | .process.args = ["sleep", "1000"]' \
		--argjson u "$(awk '{print $2}' "/proc/$ours_init/uid_map")" --arg path "/$CT-past"
	must plain run -d -b "$B" "$CT"
	local past
	past=$(plain state "$CT" | jq .pid)
	try ctl audit --json
	is 3 "$status" status
	found error "^process $past .* and no lease"
	found error "^process $past .* which container $CT of $W/ours.* holds: end one of them"
	down plain
	down ours
	rm -rf "$B"
}

@test "audit --paths: files left with a range's IDs, not those of who is alive" {
	mkdir -p "$W/vol/sub"
	touch "$W/vol/mine" "$W/vol/left" "$W/vol/sub/"{a,b}
	ln -s /etc/passwd "$W/vol/link"
	chown -h "$((START + 33)):0" "$W/vol/left"
	chown -h "0:$((START + 5))" "$W/vol/link"
	chown "$((START + COUNT))" "$W/vol/sub/a"
	try ctl audit --paths "$W/vol"
	is 3 "$status" status
	has "$output" "^error: $W/vol/left: belongs to UID $((START + 33)), GID 0 of dockroot \\(/etc/usernamespaces:1\\), which no container has now: the next container"
	has "$output" "^error: $W/vol/link: belongs to UID 0, GID $((START + 5)) of dockroot"
	is 2 "$(grep -c '^error' <<<"$output")" findings
	up ours
	must ctl audit --paths "$W/vol" --json
	is "[]" "$output" "while a container has the IDs"
	down ours
	cp "$BOOK" "$W/book"
	book "dockroot:$START:$COUNT:shared"
	must ctl audit --paths "$W/vol" --json
	is "[]" "$output" "of a shared line"
	account alice 1500
	book "alice:$START:$COUNT:"
	must ctl audit --paths "$W/vol" --json
	# What root's engines start for an account is no file of the account's.
	mkdir -p /etc/userns-runtime
	echo 'default-owner = "alice"' >/etc/userns-runtime/config.toml
	try ctl audit --paths "$W/vol" --json
	is 3 "$status" "of the default-owner"
	rm -r /etc/userns-runtime
	must ctl audit --paths "$W/vol" --json
	is 2 "$(jq 'map(select(.severity == "warning" and (.message | test("keeps it in a namespace of their own")))) | length' <<<"$output")" "warnings of an account's line"
	mv "$W/book" "$BOOK"
	for i in {1..30}; do touch "$W/vol/more$i"; done
	chown "$START" "$W/vol/more"*
	try ctl audit --paths "$W/vol"
	has "$output" "^error: $W/vol: 12 more files belong to IDs of dockroot .*: usernsctl audit --paths $W/vol --json names up to 10000$"
	is 21 "$(grep -c '^error' <<<"$output")" "findings that are shown"
	try ctl audit --paths "$W/vol" --json
	is 32 "$(field length)" findings
	mkdir "$W/vol/mnt"
	mount -t tmpfs tmpfs "$W/vol/mnt"
	touch "$W/vol/mnt/x"
	chown "$START" "$W/vol/mnt/x"
	try ctl audit --paths "$W/vol" --json
	is 32 "$(field length)" "without another filesystem"
	has "$errput" "warning: audit: $W/vol/mnt: something is mounted there"
	umount "$W/vol/mnt"
	# What others name so that it would move the cursor, or look like ours, and what is too deep for a path.
	rm -rf "$W/vol"
	mkdir "$W/vol"
	(
		cd "$W/vol"
		touch $'left\nusernsctl: try: x\033[2J'
		chown "$START" left*
		for _ in {1..30}; do mkdir "$(printf '%0200d' 0)" && cd "./$(printf '%0200d' 0)"; done
		touch deep
		chown "$START" deep
	)
	try ctl audit --paths "$W/vol"
	is 3 "$status" status
	is 2 "$(grep -c '^error: .*belongs to UID' <<<"$output")" findings
	is "" "$(grep -v '^error: .*belongs to\|^2 errors' <<<"$output")" "lines of other names"
	is "" "$errput" "standard error"
	local odd=$'mnt\nusernsctl: try: x\033[2J'
	mkdir "$W/vol/$odd"
	mount -t tmpfs tmpfs "$W/vol/$odd"
	try ctl audit --paths "$W/vol"
	is 1 "$(wc -l <<<"$errput")" "lines of standard error"
	is "" "$(tr -d '[:print:][:space:]' <<<"$errput")" "odd bytes"
	umount "$W/vol/$odd"
	is "" "$(tr -d '[:print:][:space:]' <<<"$output")" "odd bytes"
	rm -rf "$W/vol"
	mkdir "$W/vol"
	touch "$W/vol/left"
	refuses 1 "audit: --paths: .*nowhere: no such file" audit --paths "$W/nowhere"
	refuses 1 "audit: --paths: .*left: it isn't a directory" audit --paths "$W/vol/left"
	refuses 2 "audit: --paths: is empty" audit --paths ''
}

@test "inspect: the beginning of an ID, two engines with one ID, what isn't there, a name that moves the cursor" {
	must ours create -b "$B" "$CT"
	must ctl inspect "${CT:0:4}" --json
	is "$CT" "$(field '.[].container')" container
	is "dockroot container 0:$START:$COUNT" "$(field '.[0] | "\(.owner) \(.state) \(.uids)"')"
	has "$(field '.[0].runtime')" "^$RUNC \\(runc "
	refuses 1 "inspect: container ${CT}x: holds no IDs: did you mean $CT" inspect "${CT}x"
	hint "usernsctl inspect $CT"
	refuses 1 "inspect: container nonesuch: holds no IDs: expected one" inspect nonesuch
	hint "usernsctl leases"
	refuses 1 'holds no IDs' inspect "$CT" --root /nowhere
	ln -s "$W/ours" "$W/link"
	local root
	for root in "$W/ours" "$W/ours/" "$W/link" ours; do
		must ctl inspect "$CT" --root "$root" --json
		is "$W/ours" "$(field '.[].root')" "--root $root"
	done
	refuses 2 'ID is empty' inspect ''
	refuses 2 'ID is missing' inspect
	down ours
	refuses 1 "holds no IDs" inspect "$CT"
	refuses 1 'inspect: container .x1b.2J: holds no IDs: expected one' inspect $'\033[2J'
}

# files: all that a plan could leave something in, but what the test itself writes.
files() { find "$W" /run /etc /var/log -mindepth 1 ! -path '/run/sandbox*' ! -path "$W/.*" -printf '%p %y %s %T@ %C@\n' 2>/dev/null | sort; }

# planned [ARGS...]: what plan says of B is what create then does: the audit line of it.
planned() {
	local before
	# What the version of runc is kept in is made by a start, and not by a plan.
	rm -rf /run/userns-runtime/runtimes
	before=$(files)
	must ctl plan --bundle "$B" --config "$CONF" --root "$W/ours" --id "$CT" "$@" --json
	local plan=$output
	is "" "$(diff <(echo "$before") <(files))" "files that have changed"
	must ours create -b "$B" "$CT"
	local filter='{owner, ownerBy, root, id, bundle, uids: (.uids // .grantedUIDs), gids: (.gids // .grantedGIDs), lines, flags: (.flags // ""), rootfs, runtime,
		changes: [.changes[] | select(.path != ["annotations"]) | {path, before, after, why}], binds: [(.binds // [])[] | {destination, source, as: .as, why}],
		confined: (.confined // [])}'
	local want got
	want=$(tail -n 1 "$AUDIT" | jq -S "$filter")
	got=$(jq -S "$filter" <<<"$plan")
	has "$want" '"owner": "dockroot"'
	is "$want" "$got" "the plan, the audit line first"
	is granted "$(jq -r .decision <<<"$plan")" decision
	down ours
}

@test "plan: what it says is what create then does, and it touches nothing" {
	planned
	mkdir -p "$W/host"
	update_config '.mounts += [{destination: "/host", type: "bind", source: $source, options: ["rbind", "ro"]}]' --arg source "$W/host"
	planned
	# One device that is asked for, one as all are, and a capability that is the host's.
	update_config '.linux.devices = [{path: "/dev/z", type: "c", major: 1, minor: 5}, {path: "/dev/kmsg", type: "c", major: 1, minor: 11}]
		| .linux.resources.devices += [{allow: true, type: "c", major: 1, minor: 5, access: "rwm"}]
		| .process.capabilities.bounding += ["CAP_SYS_TIME"] | .linux.namespaces = [.linux.namespaces[] | select(.type != "pid")]'
	planned
	has "$(tail -n 2 "$AUDIT" | jq -c '.confined | select(.)')" '"CAP_SYS_TIME: .*"devices: .* /dev/kmsg: '
	must ctl plan --bundle "$B" --config "$CONF"
	has "$output" '^had in name only:$'
	book "dockroot:$START:$((4 * COUNT)):no-new-privs,deny-setgroups,size=4096"
	planned
	CT=$UR_TAG-other planned
	book "dockroot:$START:$((4 * COUNT)):shared"
	planned
	up ours
	update_config '.linux.cgroupsPath = $path' --arg path "/$CT-second"
	CT=$CT-2 planned
	down ours
}

@test "plan: in words, with the changes as a diff" {
	must ctl plan --bundle "$B" --config "$CONF"
	has "$output" '^decision: granted$'
	has "$output" '^owner: dockroot$'
	has "$output" "^UIDs: 0:$START:$COUNT \\(inner:outer:count, chosen by what is held now\\)$"
	has "$output" '^lines: /etc/usernamespaces:1$'
	has "$output" '^root filesystem: idmap$'
	has "$output" '^@@ root.path @@ '
	has "$output" '^- "rootfs"$'
	has "$output" '^\+ "/run/userns-runtime/mnt/rootfs"$'
	must ctl plan --bundle "$B" --config "$CONF" --owner dockroot
	has "$output" '^by: --owner$'
	is "" "$(grep refused <<<"$output")" "a refusal"
}

@test "plan: a layered root filesystem, and one that can't be" {
	mkdir -p "$W/engine/top/"{diff,work,merged}
	cp -a "$B/rootfs" "$W/engine/base"
	(cd "$W/engine" && mount -t overlay -o lowerdir=base,upperdir=top/diff,workdir=top/work overlay top/merged)
	update_config '.root.path = $path' --arg path "$W/engine/top/merged"
	must ctl plan --bundle "$B" --config "$CONF" --json
	is "granted overlay" "$(field '"\(.decision) \(.rootfs)"')"
	is "" "$(ls -d "$W/engine/top/userns-runtime-work" 2>/dev/null)" "a work directory"
	umount "$W/engine/top/merged"
	# Owners on the lower layer can't be shifted.
	mkdir "$W/engine/ram"
	mount -t ramfs ramfs "$W/engine/ram"
	cp -a "$B/rootfs" "$W/engine/ram/base"
	(cd "$W/engine" && mount -t overlay -o lowerdir=ram/base,upperdir=top/diff,workdir=top/work overlay top/merged)
	try ctl plan --bundle "$B" --config "$CONF" --json
	is 3 "$status" status
	local why
	why=$(field .error)
	refused "owners on it can't be shifted" create -b "$B" "$CT"
	is "$errput" "$why" "the plan's refusal, create's first"
	umount "$W/engine/top/merged"
	umount "$W/engine/ram"
	# The same of a bind that would be the owner's own.
	account alice 1500
	book "alice:$START:$COUNT:"
	mkdir "$W/ram"
	mount -t ramfs ramfs "$W/ram"
	chown 1500 "$W/ram"
	setup_bundle "$W/b"
	B=$W/b update_config '.mounts += [{destination: "/w", type: "bind", source: $source, options: ["rbind"]}]' --arg source "$W/ram"
	try ctl plan --bundle "$W/b" --config "$CONF" --owner alice --json
	is 3 "$status" status
	has "$(field .error)" "mounts.[0-9]+.: /w: .*owners on it can't be shifted.*bind-fallback"
	config "bind-fallback = 'plain'"
	must ctl plan --bundle "$W/b" --config "$CONF" --owner alice --json
	is "nobody" "$(jq -r '.binds[-1].as' <<<"$output")"
	config
	umount "$W/ram"
	book "dockroot:$START:$COUNT:"
	update_config '.root.path = "/usr/share"'
	try ctl plan --bundle "$B" --config "$CONF" --json
	is 3 "$status" status
	has "$(field .error)" "/usr/share: it isn't set aside for root filesystems"
}

@test "plan: a refusal is shown, with what was known by then; exit code 3" {
	try ctl plan --bundle "$B" --config "$CONF" --owner nobody-here --json
	is 3 "$status" status
	is "refused nobody-here --owner" "$(field '"\(.decision) \(.owner) \(.ownerBy)"')"
	has "$(field .error)" "nobody-here"
	try ctl plan --bundle "$B" --config "$CONF" --owner nobody-here
	is 3 "$status" status
	has "$output" '^decision: refused$'
	has "$output" '^  .*nobody-here'
	is "" "$errput" "standard error"
	update_config '.process.user.uid = 70000'
	try ctl plan --bundle "$B" --config "$CONF"
	is 3 "$status" status
	has "$output" 'process.user.uid: 70000'
	setup_bundle "$W/other"
	update_config '.process.user.uid = 0'
	up ours
	try ctl plan --bundle "$W/other" --config "$CONF" --json
	is 3 "$status" "no room"
	has "$(field .error)" "no 65536 IDs in a row are left.*$CT"
	down ours
	# One that would lie over a live container, by maps or by its ID.
	room 2
	up ours
	B=$W/other update_config '.linux.namespaces += [{type: "user"}] | .linux.uidMappings = [{containerID: 0, hostID: $start, size: 10}] | .linux.gidMappings = .linux.uidMappings' \
		--argjson start "$(awk '{print $2}' "/proc/$init/uid_map")"
	try ctl plan --bundle "$W/other" --config "$CONF" --json
	is 3 "$status" "over a live container"
	has "$(field .error)" "are held by container $CT of dockroot"
	try ctl plan --bundle "$B" --config "$CONF" --root "$W/ours" --id "$CT" --json
	is 3 "$status" "there is one"
	has "$(field .error)" "container with given ID already exists"
	down ours
	# The decision can't be recorded.
	AUDIT_MODE=require AUDIT=/nowhere/x/audit.jsonl config
	try ctl plan --bundle "$B" --config "$CONF" --json
	is 3 "$status" "no audit log"
	local why
	why=$(field .error)
	has "$why" "this decision can't be recorded"
	refused "this decision can't be recorded, and the configuration requires it" create -b "$B" "$CT"
	config
	refuses 1 'plan: container ID "a b": expected letters' plan --bundle "$B" --id 'a b'
	refuses 2 'plan: --bundle: is missing' plan
	refuses 1 'plan: bundle: stat .*config.json: no such file' plan --bundle "$W/ours"
	refuses 1 'plan: bundle: .*nowhere' plan --bundle "$W/nowhere"
	refuses 2 'plan: "x": expected no argument' plan x --bundle "$B"
	refuses 2 'plan: owner: is empty' plan --bundle "$B" --owner ''
}

@test "as somebody else than root: each says so, before it looks" {
	local words
	for words in "who 0" "audit" "inspect x" "plan --bundle $B"; do
		# shellcheck disable=SC2086
		try setpriv --reuid 65534 --regid 65534 --clear-groups "$CTL" $words
		is 1 "$status" "status of $words"
		is "" "$output" "standard output of $words"
		has "$errput" "^usernsctl: ${words%% *}: needs root: you are UID 65534$"
		has "$errput" "^usernsctl: try: sudo usernsctl $words$"
	done
}

@test "tables fit the terminal: the longest cells are shortened, and never a heading" {
	local id width
	id=$(printf 'c%.0s' {1..100})
	must ours create -b "$B" "$id"
	for width in 200 100 76; do
		on_terminal bash -c "stty cols $width; $CTL leases"
		has "$output" '^OWNER +RANGE +CONTAINER +ROOT +STATE +PID'
		(($(tr -d '\r' <<<"$output" | LC_ALL=C.UTF-8 wc -L) <= width))
	done
	must ctl leases
	has "$output" "$id"
	down ours "$id"
}
