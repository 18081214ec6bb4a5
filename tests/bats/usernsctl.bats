#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# root's tool for the book.

load helpers
load ctl

@test "usernsctl: no verb, unknown verbs, help, version" {
	refuses 2 'no verb: expected one of init, add, del, set, list, check, who, map, '
	hint "usernsctl --help"
	refuses 2 'verb "lists": unknown: did you mean list\?' lists
	refuses 2 'verb "frobnicate": unknown: expected one of init, add' frobnicate
	refuses 2 'flag provided but not defined: -frob' --frob
	must ctl --version
	has "$output" '^usernsctl version [^ ]+$'
	is "" "$errput"
	must ctl --help
	local verb
	for verb in init add del set list check leases gc; do
		has "$output" "^ +$verb  +[a-z]"
	done
	for verb in init add del set list check leases gc; do
		must ctl "$verb" --help
		has "$output" "usernsctl $verb"
		is "" "$errput"
	done
	is "" "$(find "$BOOK" 2>/dev/null)" "a book"
}

@test "usernsctl: odd arguments are named" {
	refuses 2 'add: OWNER is missing' add
	hint "usernsctl add --help"
	refuses 2 'add: "b": expected nothing behind OWNER' add a b
	refuses 2 'init: "a": expected no argument' init a
	refuses 2 'leases: "a": expected no argument' leases a
	refuses 2 'gc: "a": expected no argument' gc a
	refuses 2 'list: "b": expected nothing behind OWNER' list a b
	refuses 2 'check: "b": expected nothing behind FILE' check a b
	refuses 2 'check: FILE is empty' check ''
	local verb
	for verb in add del list set; do
		refuses 2 "$verb: owner: is empty" "$verb" ''
		refuses 2 "$verb: owner \"a:b\": holds ':'" "$verb" a:b
	done
	refuses 2 'init: owner: is empty' init --owner ''
	refuses 2 'flag --sise: unknown: did you mean --size\?' add a --sise 5
	refuses 2 'flag --zzzzzz: unknown$' list --zzzzzz
	refuses 2 'flag --size: given twice' add a --size 5 --size=5
	refuses 2 'flag --size: has no value' add a --size
	local bad
	for bad in -1 4294967295 4294967296 99999999999999999999 0x10 010 1e3 ' 1' '' five; do
		refuses 2 "add: --start: \"$bad\": expected a decimal number from 0 to 4294967294" add a --start "$bad"
		refuses 2 "set: --length: \"$bad\": expected a decimal number from 1" set a --length "$bad"
		refuses 2 "init: --containers: \"$bad\": expected a decimal number from 1" init --containers "$bad"
		refuses 2 "del: --start: \"$bad\"" del a --start "$bad"
	done
	refuses 2 '--length: "0": expected a decimal number from 1' add a --length 0
	refuses 2 '--size: "0"' add a --size 0
	refuses 2 '--containers: "0"' add a --containers 0
	refuses 2 '70000 containers of 65536 IDs: expected fewer than 4294967295' add a --containers 70000
	refuses 2 '--length and --containers: expected one of them' add a --length 65536 --containers 1
	refuses 2 '--length and --containers: expected one of them' set a --length 65536 --containers 1
	refuses 2 '--length 100: is less than the 65536 IDs of one container: expected more, or smaller containers: --size 100' add a --length 100
	refuses 2 '--size 5, and the flag size=6' add a --size 5 --flags size=6
	refuses 2 'flag "resrved": unknown: did you mean reserved\?' add a --flags resrved
	refuses 2 'flags: one of them is empty' set a --flags shared,
	refuses 2 'nothing to change: expected --length, --containers or --flags' set a
	refuses 2 '--all and --start: expected one of them' del a --all --start 5
	refuses 2 'reserved: expected a line that has room' init --flags reserved
	refuses 2 'user "a b": holds . .' add 'a b'
	refuses 2 'begins with .#' add '#a'
	refuses 2 'user "042": digits alone are a UID' add 042
	refuses 2 'holds 0, never grantable' add a --start 0 --length 5 --size 5
	refuses 2 'holds 65534, 65535, never grantable' add a --start 60000
	refuses 2 'holds 4294967295, never grantable|beyond 32 bits' add a --start 4294967290
	is "" "$(find "$BOOK" 2>/dev/null)" "a book"
}

@test "usernsctl: init writes a first book" {
	must ctl init
	has "$output" "^$BOOK:4: dockroot:[0-9]+:67108864:\$"
	is "" "$errput"
	is "$BOOK:4: $(lines)" "$output" "the line, and its place"
	is 3 "$(grep -c '^#' "$BOOK")" "lines of comment"
	is "644 0 0" "$(stat -c '%a %u %g' "$BOOK")"
	must ctl check
	must ctl list --json
	is "1 dockroot 1024 0" "$(field '"\(length) \(.[0].owner) \(.[0].containers) \(.[0].held)"')"
	# What it wrote starts containers.
	must ours run -b "$B" "$CT"

	refuses 1 "init: there is a book with 1 line already \\($BOOK:4\\): expected none" init
	hint "usernsctl add dockroot --length 67108864"
	rm "$BOOK"
	mkdir /etc/usernamespaces.d
	echo 'k8s:1900000000:65536:' >/etc/usernamespaces.d/k8s.conf
	refuses 1 'already \(/etc/usernamespaces.d/k8s.conf:1\)' init
	# A book without lines isn't one yet.
	echo '# ours' >/etc/usernamespaces.d/k8s.conf
	echo '# mine' >"$BOOK"
	must ctl init --owner engine --containers 2 --size 4096 --flags deny-setgroups --json
	is "engine 8192 deny-setgroups,size=4096 4096 2 $BOOK 2 $BOOK:2" \
		"$(field '"\(.owner) \(.length) \(.flags | join(",")) \(.size) \(.containers) \(.file) \(.line) \(.where)"')"
	is "$(printf '%s\n' '# mine' "engine:$(field .start):8192:deny-setgroups,size=4096")" "$(<"$BOOK")"
}

@test "usernsctl: add finds a place" {
	must ctl add alice
	has "$output" "^$BOOK:4: alice:[0-9]+:65536:\$"
	must ctl add bob --containers 3
	has "$output" "^$BOOK:5: bob:[0-9]+:196608:\$"
	must ctl add --size 4096 --containers=3 carol
	has "$output" "^$BOOK:6: carol:[0-9]+:12288:size=4096\$"
	must ctl add dave --length 100000 --flags no-new-privs,deny-setgroups --size 65536
	has "$output" "^$BOOK:7: dave:[0-9]+:100000:deny-setgroups,no-new-privs\$"
	must ctl add -- 1000
	must ctl add alice --json
	is "alice 65536 $BOOK:9 [] true" "$(field '"\(.owner) \(.length) \(.where) \(.flags) \(has("held") | not)"')"
	must ctl add 'domain\user' --length=50 --flags size=50
	has "$output" 'domain\\user:[0-9]+:50:size=50$'
	try ctl check
	is 0 "$status" "what check says"
	# Too large for the ranges that nobody else takes from, which is said.
	must ctl add huge --length 1000000000
	has "$errput" 'warning: \[.*can be taken'
	must ctl check
	refuses 1 'no 4000000000 IDs in a row are free on this host: expected at most [0-9]+' add more --length 4000000000
	hint "usernsctl list"
}

@test "usernsctl: add --start is held against all that is known" {
	local at=$START file
	must ctl add alice --start "$at"
	mkdir /etc/usernamespaces.d
	echo "k8s:$((at + 65536)):65536:" >/etc/usernamespaces.d/k8s.conf
	echo "ctluser:x:$((at + 200000)):$((at + 200001))::/:/bin/false" >>/etc/passwd
	echo "ctlgroup:x:$((at + 200002)):" >>/etc/group
	echo "ctlother:$((at + 300000)):65536" >>/etc/subuid
	echo "ctlother:$((at + 400000)):65536" >>/etc/subgid
	map_foreign $((at + 500000)) 1
	refuses 1 "alice \\($BOOK:4\\)" add bob --start $((at + 65535))
	hint "usernsctl add bob --length 65536"
	has "$errput" "k8s \\(/etc/usernamespaces.d/k8s.conf:1\\)|/etc/usernamespaces.d/k8s.conf:1: "
	refuses 1 "$BOOK:4: .* is granted to alice already" add alice --start "$at"
	refuses 1 "$((at + 200000)) of bob is the host's user ctluser \\(/etc/passwd:[0-9]+\\)" add bob --start $((at + 200000)) --size 1
	refuses 1 "host's group ctluser \\(/etc/passwd:[0-9]+\\)" add bob --start $((at + 200001)) --size 1
	refuses 1 "host's group ctlgroup \\(/etc/group:[0-9]+\\)" add bob --start $((at + 200002)) --size 1
	refuses 1 "belongs to ctlother by /etc/subuid:[0-9]+" add bob --start $((at + 365535))
	refuses 1 "belongs to ctlother by /etc/subgid:[0-9]+" add bob --start $((at + 465535))
	refuses 1 "\\[$((at + 500000))-$((at + 500001))\\) is in use by process $foreign \\(sleep\\) in a user namespace" add bob --start $((at + 490000))
	# All of it at once, and each by its name.
	refuses 1 "ctluser" add bob --start "$at" --length 600000
	is 8 "$(grep -cE 'alice|k8s.conf|host.s user|host.s group|/etc/subuid|/etc/subgid|process' <<<"$errput")" "collisions"
	# The owner of a line in subuid may have it in the book as well.
	must ctl add ctlother --start $((at + 300000))
	end_foreign
	must ctl add bob --start $((at + 490000))
	is 3 "$(lines | wc -l)"
	for file in passwd group subuid subgid; do rm -f /etc/$file; done
	must ctl add carol --start $((at + 200000))
}

@test "usernsctl: add avoids what is there" {
	local first
	must ctl add probe
	first=$(lines | cut -d: -f2)
	must ctl del probe
	mkdir /etc/usernamespaces.d
	echo "k8s:$first:65536:" >/etc/usernamespaces.d/k8s.conf
	must ctl add a --json
	is $((first + 65536)) "$(field .start)" "behind the drop-in"
	must ctl del a
	map_foreign $((first + 65536)) 65536
	must ctl add a --json
	is $((first + 131072)) "$(field .start)" "behind the live namespace"
	must ctl del a
	echo "ctluser:x:$((first + 131072)):100::/:/bin/false" >>/etc/passwd
	must ctl add a --json
	is $((first + 131073)) "$(field .start)" "behind the account"
	must ctl del a
	echo "ctlother:$((first + 131073)):10" >>/etc/subuid
	echo "ctlother:$((first + 131083)):10" >>/etc/subgid
	must ctl add a --json
	is $((first + 131093)) "$(field .start)" "behind subuid and subgid"
	end_foreign
	must ctl add b --json
	is $((first + 65536)) "$(field .start)" "where the namespace was"
}

@test "usernsctl: reserved lines may lie over what is used" {
	echo "ctlother:$((START + 100)):65536" >>/etc/subuid
	map_foreign "$START" 10
	must ctl add storage --start "$START" --length 200000 --flags reserved
	has "$output" "storage:$START:200000:reserved\$"
	must ctl add more --start "$START" --length 5 --flags reserved
	refuses 1 "one of them is reserved" add bob --start "$START" --length 5 --size 5
	must ctl add bob --start $((START + 1000000))
	refuses 1 "and one of them is reserved" add storage --start $((START + 1000000)) --length 5 --flags reserved
	# A hole in one's own grant.
	must ctl add bob --start $((START + 1000000)) --length 5 --flags reserved
	has "$errput" 'warning: .*bob'
	must ctl del storage
	refuses 1 'in use by process' set more --flags size=5
	end_foreign
	must ctl set more --flags size=5
}

@test "usernsctl: a change makes no new error, and old ones keep nobody from mending" {
	book "a:$START:65536:" "b:$START:65536:" "c:$((START + 65536)):131072:"
	try ctl check
	is 3 "$status"
	must ctl add d --start $((START + 1000000))
	refuses 1 "belongs to a|belongs to c" set a --length 65537
	refuses 1 "fewer than the 65537 of one container" set a --flags size=65537
	refuses 1 "belongs to c" add e --start $((START + 65536))
	must ctl set b --length 5 --flags size=5
	must ctl del b
	must ctl check
}

@test "usernsctl: set" {
	book "# above" "alice:$START:65536:" "" "bob:$((START + 131072)):65536:no-new-privs"
	must ctl set alice --length 131072
	is "$(printf '%s\n' "$BOOK:2: was alice:$START:65536:" "$BOOK:2: now alice:$START:131072:")" "$output"
	refuses 1 "belongs to alice" set alice --length 131073
	refuses 1 "belongs to alice" set alice --containers 3
	hint "usernsctl add alice --length 65536"
	must ctl set alice --flags deny-setgroups,no-new-privs
	must ctl set alice --containers 1
	must ctl set alice --flags size=1024 --containers 10
	is "$(printf '%s\n' "# above" "alice:$START:10240:size=1024" "" "bob:$((START + 131072)):65536:no-new-privs")" "$(<"$BOOK")"
	must ctl set bob --flags '' --json
	is "[] $BOOK:4 no-new-privs" "$(field '"\(.flags) \(.where) \(.before.flags | join(","))"')"
	must ctl set bob --flags ''
	is "$BOOK:4: unchanged bob:$((START + 131072)):65536:" "$output"
	refuses 1 'fewer than the 65536 of one container' set alice --flags ''
	refuses 1 'fewer than the 65536 of one container' set bob --length 1000
	refuses 2 '70000 containers of 65536 IDs' set bob --containers 70000
	refuses 2 'never grantable|beyond 32 bits' set bob --length 4294967294
	refuses 1 'owner "alicf": has no line: did you mean alice\?' set alicf --flags ''
	hint "usernsctl set alice"
	# Several lines.
	must ctl add bob --start $((START + 1000000))
	refuses 1 'bob: has 2 lines: expected --start' set bob --length 5
	has "$errput" "$BOOK:4: bob:$((START + 131072)):65536:\$"
	has "$errput" "$BOOK:5: bob:$((START + 1000000)):65536:\$"
	must ctl set bob --start $((START + 1000000)) --flags shared
	refuses 1 'bob: has no line that begins at 5' set bob --start 5 --flags shared
	# A drop-in is another's to edit.
	mkdir /etc/usernamespaces.d
	echo "k8s:$((START + 3000000)):65536:" >/etc/usernamespaces.d/k8s.conf
	refuses 1 '/etc/usernamespaces.d/k8s.conf:1: .*edit that file' set k8s --flags shared
}

@test "usernsctl: del" {
	book "# above" "alice:$START:65536:" "bob:$((START + 65536)):65536:" "bob:$((START + 131072)):65536:" "carol:$((START + 196608)):65536:"
	must ctl del alice
	is "$BOOK:2: removed alice:$START:65536:" "$output"
	refuses 1 'owner "alice": has no line$' del alice
	hint "usernsctl list"
	refuses 1 'owner "carl": has no line: did you mean carol\?' del carl
	hint "usernsctl del carol"
	refuses 1 'bob: has 2 lines: expected --start' del bob
	hint "usernsctl del bob --start $((START + 65536))"
	refuses 1 'bob: has no line that begins at 77' del bob --start 77
	must ctl del bob --start $((START + 131072)) --json
	is "bob $((START + 131072)) $BOOK:3" "$(field '"\(.owner) \(.start) \(.where)"')"
	must ctl add bob --start $((START + 131072))
	must ctl del --all bob --json
	is "2 bob bob" "$(field '"\(length) \(.[0].owner) \(.[1].owner)"')"
	is "$(printf '%s\n' "# above" "carol:$((START + 196608)):65536:")" "$(<"$BOOK")"
	book "a:$START:65536:" "a:$START:65536:size=5"
	refuses 1 "a: has 2 lines that begin at $START" del a --start "$START"
	must ctl del a --all
	is "" "$(<"$BOOK")"
	mkdir /etc/usernamespaces.d
	echo "k8s:$START:65536:" >/etc/usernamespaces.d/k8s.conf
	must ctl add k8s --start $((START + 65536))
	refuses 1 '/etc/usernamespaces.d/k8s.conf:1: .*edit that file' del k8s --all
	must ctl del k8s --start $((START + 65536))
}

@test "usernsctl: what containers hold" {
	book "dockroot:$START:$COUNT:"
	must ctl leases
	is "OWNER  RANGE  CONTAINER  ROOT  STATE  PID" "$output"
	must ctl leases --json
	is "[]" "$output"
	must ctl gc
	is "0 leases removed, 0 still held" "$output"
	must ctl gc --json
	is "[]" "$output"

	up ours
	must ctl leases
	is 2 "$(wc -l <<<"$output")"
	has "$output" "^dockroot +\\[$START-$((START + COUNT))\\) +$CT +$W/ours +container +$init\$"
	must ctl leases --json
	is "dockroot $START $COUNT $CT $W/ours container $init" \
		"$(field '.[0] | "\(.owner) \(.ranges[0].start) \(.ranges[0].count) \(.container) \(.root) \(.state) \(.pid)"')"
	must ctl set dockroot --containers 2
	must ctl list
	has "$output" "^OWNER +START +LENGTH +CONTAINERS +HELD +FLAGS +WHERE\$"
	has "$output" "^dockroot +$START +$((2 * COUNT)) +2 +1 +- +$BOOK:1\$"

	refuses 1 "dockroot:$START:$((2 * COUNT)):\": has 1 holder of its IDs" del dockroot
	has "$errput" "\\[$START-$((START + COUNT))\\): container $CT of $W/ours"
	has "$errput" 'with --force they keep their IDs until they end'
	hint "usernsctl del dockroot --force"
	refuses 1 "has 1 holder" del dockroot --all
	hint "usernsctl del dockroot --force --all"
	refuses 1 "has 1 holder" set dockroot --flags reserved
	# Only what goes away is looked at.
	must ctl set dockroot --length $((COUNT + 5))
	must ctl set dockroot --containers 2
	refuses 1 "container $CT of" set dockroot --length $((COUNT - 1)) --flags size=5
	hint "usernsctl set dockroot --force --length $((COUNT - 1)) --flags 'size=5'"
	must ctl set dockroot --flags deny-setgroups
	must ctl set dockroot --flags ''
	must ctl gc
	is "0 leases removed, 1 still held" "$output"

	# By force: it goes on, and its IDs are nobody else's.
	must ctl del dockroot --force
	must ours exec "$CT" true
	refuses 1 "is in use by container $CT of $W/ours" add other --start "$START"
	must ctl add other --start $((START + COUNT))
	must ctl list
	has "$output" '^other .* 0 +- '
	down ours
	must ctl add again --start "$START"
}

@test "usernsctl: leases that a directory's loss has hidden count all the same" {
	book "dockroot:$START:$COUNT:"
	up ours
	mv /run/userns-runtime/leases "$W/leases"
	refuses 1 "process $init \\(sleep\\) in a user namespace" del dockroot
	must ctl leases --json
	is "[]" "$output"
	is "" "$(find /run/userns-runtime/leases 2>/dev/null)" "a directory"
	mv "$W/leases" /run/userns-runtime/leases
	down ours
}

@test "usernsctl: gc removes what a killed runtime has left" {
	book "dockroot:$START:$COUNT:"
	up ours
	# Behind the back of everybody, as an engine that was killed half-way.
	kill -KILL "$init"
	must "$RUNC" --root "$W/ours" delete -f "$CT"
	must ctl list --json
	is 0 "$(field '.[0].held')"
	must ctl gc
	is "$(printf '%s\n' "removed [$START-$((START + COUNT))): container $CT of $W/ours" "1 lease removed, 0 still held")" "$output"
	up ours
	kill -KILL "$init"
	must "$RUNC" --root "$W/ours" delete -f "$CT"
	must ctl gc --json
	is "1 $START ended" "$(field '"\(length) \(.[0].ranges[0].start) \(.[0].state)"')"
	must ctl gc --json
	is "[]" "$output"
}

@test "usernsctl: list" {
	try ctl list
	is 0 "$status"
	has "$errput" 'there is no book'
	is "OWNER  START  LENGTH  CONTAINERS  HELD  FLAGS  WHERE" "$output"
	try ctl list --json
	is "[]" "$output"
	book "alice:$START:131072:" "" "alice:$((START + 131072)):100:size=30" "r:$((START + 200000)):65536:reserved"
	mkdir /etc/usernamespaces.d
	echo "s:$((START + 300000)):65536:shared" >/etc/usernamespaces.d/s.conf
	must ctl list
	is "$(printf '%s\n' OWNER alice alice r s)" "$(awk '{print $1}' <<<"$output")"
	has "$output" "^alice +$START +131072 +2 +0 +- +$BOOK:1\$"
	has "$output" "^alice +$((START + 131072)) +100 +3 +0 +size=30 +$BOOK:3\$"
	has "$output" "^r .* 0 +0 +reserved +$BOOK:4\$"
	has "$output" "^s .* any +0 +shared +/etc/usernamespaces.d/s.conf:1\$"
	must ctl list alice --json
	is "2 30 3 3" "$(field '"\(length) \(.[1].size) \(.[1].containers) \(.[1].line)"')"
	must ctl list s --json
	is "null" "$(field '.[0].containers')"
	refuses 1 'owner "alyce": has no line: did you mean alice\?' list alyce
	hint "usernsctl list alice"
	echo bad >>"$BOOK"
	refuses 1 "$BOOK:5: \"bad\" has 0 colons" list
	hint "usernsctl check"
}

@test "usernsctl: check" {
	try ctl check
	is 3 "$status"
	has "$output" '^error: .*there is no book'
	book "alice:$START:65536:"
	must ctl check
	is "0 errors, 0 warnings" "$output"
	must ctl check --json
	is "[]" "$output"
	# Warnings alone.
	book "alice:$START:131072:" "alice:$START:65536:"
	echo "nonsense" >>/etc/subuid
	must ctl check
	has "$output" "^warning: $BOOK:2: .* is granted to alice by $BOOK:1 already"
	has "$output" '^warning: /etc/subuid:[0-9]+: "nonsense": is passed over'
	has "$output" '^0 errors, 2 warnings$'
	must ctl check --json
	is "2 warning $BOOK:2 $BOOK:1 $START 65536" "$(field '"\(length) \(.[0].severity) \(.[0].where) \(.[0].other) \(.[0].range.start) \(.[0].range.count)"')"
	# Errors.
	book "alice:$START:65536:" "bob:$((START + 65535)):65536:"
	try ctl check
	is 3 "$status"
	has "$output" "^error: $BOOK:2: .* of bob belongs to alice \\($BOOK:1\\) too"
	has "$output" '^1 error, 1 warning$'
	is "" "$errput"
	try ctl check --json
	is 3 "$status"
	is error "$(field '.[0].severity')"
	# A book that can't be read: all that is wrong with it.
	book "alice:5" "bob:0:1:" "carol:70000:65536:bogus"
	try ctl check
	is 3 "$status"
	is 4 "$(wc -l <<<"$output")"
	has "$output" "^error: $BOOK:1: .* colons?"
	has "$output" "^error: $BOOK:3: flag \"bogus\""
	has "$output" '^3 errors, 0 warnings$'
	try ctl check --json
	is 3 "$status"
	is "3 $BOOK:2" "$(field '"\(length) \(.[1].where)"')"
	book "alice:$START:65536:"
	chmod 666 "$BOOK"
	try ctl check
	is 3 "$status"
	has "$output" 'writable by others'
	rm "$BOOK"
}

@test "usernsctl: check FILE, before it is installed" {
	book "alice:$START:65536:"
	echo "k8s:$((START + 65536)):65536:" >"$W/k8s.conf"
	must ctl check "$W/k8s.conf"
	is "0 errors, 0 warnings" "$output"
	echo "k8s:$START:1:size=1" >>"$W/k8s.conf"
	try ctl check "$W/k8s.conf"
	is 3 "$status"
	has "$output" "^error: $W/k8s.conf:2: .* belongs to alice \\($BOOK:1\\) too"
	echo "bad" >"$W/k8s.conf"
	try ctl check "$W/k8s.conf" --json
	is 3 "$status"
	is "$W/k8s.conf:1" "$(field '.[0].where')"
	echo "k8s:$START:65536:" >"$W/k8s.conf"
	STDIN=$W/k8s.conf
	try ctl check /dev/stdin
	is 3 "$status"
	has "$output" '^error: /dev/stdin:1: .* belongs to alice'
	refuses 1 "check: open $W/nothing: no such file" check "$W/nothing"
	refuses 1 "check: read $W: is a directory" check "$W"
	refuses 2 'is part of the book already' check "$BOOK"
	# Where there is no book yet it would be the first file of one.
	rm "$BOOK"
	must ctl check "$W/k8s.conf"
}

@test "usernsctl: what isn't root's" {
	requires unprivileged-users
	book "dockroot:$START:$COUNT:"
	local as=(setpriv --reuid 12345 --regid 12345 --clear-groups)
	up ours
	# Copied, since others than root can't walk to a tree everywhere.
	cp "$CTL" /run/usernsctl
	try "${as[@]}" /run/usernsctl list
	is 0 "$status"
	has "$output" "^dockroot .* 1 +\\? +- +$BOOK:1\$"
	try "${as[@]}" /run/usernsctl list --json
	is "false" "$(field '.[0] | has("held")')"
	try "${as[@]}" /run/usernsctl check
	is 0 "$status"
	local args
	for args in "init --owner x" "add x" "del x" "set x --flags shared" leases gc; do
		# shellcheck disable=SC2086 # several words
		try "${as[@]}" /run/usernsctl $args
		is 1 "$status"
		is "" "$output"
		has "$errput" "^usernsctl: ${args%% *}: needs root: you are UID 12345\$"
		hint "sudo usernsctl $args"
	done
	chmod 600 "$BOOK"
	try "${as[@]}" /run/usernsctl list
	is 1 "$status"
	has "$errput" 'permission denied'
	rm /run/usernsctl
	down ours
}

@test "usernsctl: a disk that is full, read-only, or not to be changed" {
	book "alice:$START:65536:"
	try eval 'ctl list >/dev/full'
	is 1 "$status"
	has "$errput" 'standard output: .*no space left'
	must mount -o remount,ro /etc
	refuses 1 'add: .*read-only file system' add bob
	hint "findmnt -T $BOOK"
	refuses 1 'read-only file system' del alice
	refuses 1 'read-only file system' set alice --flags shared
	must ctl list
	must ctl check
	must mount -o remount,rw /etc
	must ctl add bob
	chmod 666 "$BOOK"
	refuses 1 'add: .*writable by others than its owner' add carol
	hint "usernsctl check"
	rm "$BOOK"
	ln -s /etc/passwd "$BOOK"
	refuses 1 'symbolic link' add carol
	rm "$BOOK"
	mkfifo "$BOOK"
	try timeout 20 "$CTL" add carol
	is 1 "$status"
	rm "$BOOK"
}

@test "usernsctl: a storm of editors" {
	book "# kept" "first:$START:65536:"
	local i pids=()
	for ((i = 0; i < 50; i++)); do
		(
			# A third of them leaves its line; the others take it away, or have two.
			"$CTL" add "u$i" >>"$W/out.$i" 2>&1 3>&- || exit 0
			echo "u$i" >"$W/added.$i"
			case $((i % 3)) in
			0) "$CTL" del "u$i" >>"$W/out.$i" 2>&1 3>&- && rm "$W/added.$i" ;;
			1) "$CTL" add "u$i" >>"$W/out.$i" 2>&1 3>&- && echo "u$i" >>"$W/added.$i" ;;
			esac
		) 3>&- &
		pids+=($!)
	done
	wait "${pids[@]}"
	cat "$W"/out.*
	is "" "$(grep -h '^usernsctl:' "$W"/out.* || true)" "what failed"
	is "$({ echo first && cat "$W"/added.*; } | sort)" "$(lines | cut -d: -f1 | sort)" "owners in the book"
	is 51 "$(lines | wc -l)" "lines"
	has "$(head -n 1 "$BOOK")" '^# kept$'
	try ctl check
	is 0 "$status" "what check says"
	is "" "$(find /etc -maxdepth 1 -name 'usernamespaces.*')" "files left beside the book"
}

@test "usernsctl: add is killed at random moments" {
	local seed=${UR_SEED:-$RANDOM} i before met killed=0
	echo "UR_SEED=$seed"
	RANDOM=$seed
	book "first:$START:65536:"
	for ((i = 0; i < 60; i++)); do
		before=$(<"$BOOK")
		met=$("$UR_HELPERS/killafter" $((RANDOM % 25000)) "$CTL" add "u$i" --start $((START + 65536 * (i + 1))) </dev/null 2>&1 3>&-)
		[[ ${met##*$'\n'} == "$CTL" ]] && killed=$((killed + 1))
		# Whole, with the line or without it.
		[[ $(<"$BOOK") == "$before" ]] || is "$(printf '%s\n' "$before" "u$i:$((START + 65536 * (i + 1))):65536:")" "$(<"$BOOK")"
	done
	echo "met alive: $killed of 60"
	((killed > 0))
	must ctl check
	must ctl add last
	is "" "$(find /etc -maxdepth 1 -name 'usernamespaces.*')" "files left beside the book"
}

@test "usernsctl: software that is installed" {
	must ctl add probe
	local first
	first=$(lines | cut -d: -f2)
	[[ ! -e /etc/systemd/system/kubelet.service ]] || skip "this machine has a kubelet"
	((first < 7274496)) || skip "this machine has software that takes [65536-7274496)"
	must ctl check
	mkdir -p /etc/systemd/system
	echo '[Service]' >/etc/systemd/system/kubelet.service
	try ctl check
	is 3 "$status"
	has "$output" "^error: $BOOK:4: .* of probe can be taken for pods by kubelet, which is installed"
	refuses 1 'kubelet, which is installed' add bob --start 1000000
	must ctl add bob --json
	(($(field .start) >= 7274496))
	# A line that was there before keeps nobody from changing it.
	must ctl set probe --flags no-new-privs
	must ctl del probe
	must ctl check
	rm /etc/systemd/system/kubelet.service
}

@test "usernsctl: the environment decides nothing" {
	book "alice:$START:65536:"
	local before
	before=$(lines)
	must env -i HOME="$W" XDG_CONFIG_HOME="$W" USERNAMESPACES="$W/other" TMPDIR="$W" USER=bob "$CTL" list
	has "$output" "^alice .* $BOOK:1\$"
	must env -i "$CTL" add bob
	is "$before" "$(lines | head -n 1)"
	has "$output" "^$BOOK:2: bob:"
}
