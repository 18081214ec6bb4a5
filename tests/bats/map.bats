#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# usernsctl map: the picture of who has which IDs.

load helpers

load ctl

# The accounts are the test's own, and the machine's again afterwards.
setup() {
	helpers_setup
	unset COLUMNS NO_COLOR LC_ALL LC_CTYPE LANG
	save_etc
	mkdir "$W/out"
	printf 'root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\n' >/etc/passwd
	printf 'root:x:0:\nalice:x:1000:\n' >/etc/group
	echo 'alice:100000:65536' >/etc/subuid
	cp /etc/subuid /etc/subgid
}

# refuses STATUS PATTERN ARGS...: it fails so, and leaves what is in $W/out alone.
refuses() {
	local before
	before=$(find "$W/out" -printf '%p %y %m %s %T@ %l\n' | sort)
	fails "$@"
	is "$before" "$(find "$W/out" -printf '%p %y %m %s %T@ %l\n' | sort)" "the directory, as before"
}

# longest: how many columns the longest line has.
longest() { LC_ALL=C.UTF-8 wc -L <<<"$output"; }

# is_svg FILE: a document that ends where it should, and of which the XML is in order as far as can
# be told without a parser.
is_svg() {
	has "$(head -n 1 "$1")" '^<svg xmlns="http://www.w3.org/2000/svg" '
	is "</svg>" "$(tail -n 1 "$1")" "the last line of $1"
}

@test "map: what it shows of an empty host, without a book" {
	rm -f "$BOOK"
	must ctl map
	has "$errput" '^usernsctl: warning: /etc/usernamespaces: there is no book'
	has "$output" '^All 4294967295 host IDs:$'
	has "$output" '^The book grants nothing\.$'
	has "$output" '^s \[100000-165536\) alice \(/etc/subuid:1, /etc/subgid:1\)$'
	has "$output" '^Room: the next line of 65536 IDs fits at 200000\.$'
	must ctl map --json
	is "user group user group subuid subgid" "$(field '[.[] | select(.kind != "allocator" and .kind != "namespace") | .kind] | join(" ")')"
	must ctl map --svg -
	has "$output" '</svg>$'
	truncate -s 0 /etc/passwd /etc/group /etc/subuid /etc/subgid
	must ctl map --json
	is "" "$(field '.[] | select(.kind != "allocator" and .kind != "namespace")')"
	must ctl map
	is "" "$(find "$BOOK" 2>/dev/null)" "a book"
}

@test "map: a container is held, and so is what a process has that no lease answers for" {
	book "dockroot:$START:$((4 * COUNT)):" "shop:1900000000:65536:"
	up ours
	map_foreign 1900000000 1000
	echo "0 1900000000 1000" >"/proc/$foreign/gid_map"
	local first
	first=$(awk '{print $2}' "/proc/$init/uid_map")
	must ctl map --json
	is "$COUNT 1" "$(field '.[] | select(.kind == "line" and .owner == "dockroot") | "\(.held) \(.holders)"')"
	is "1000 1" "$(field '.[] | select(.kind == "line" and .owner == "shop") | "\(.held) \(.holders)"')"
	is "$first $COUNT dockroot container $CT of $W/ours" "$(field '.[] | select(.kind == "container") | "\(.start) \(.count) \(.owner) \(.where)"' | sed 's/, process [0-9]*$//')"
	is "1900000000 1000 process $foreign (sleep) in a user namespace" "$(field '.[] | select(.kind == "namespace" and .start == 1900000000) | "\(.start) \(.count) \(.where)"')"
	must ctl map
	has "$output" "^A dockroot  +$((4 * COUNT)) +25% +$COUNT +$((3 * COUNT)) +1 +1"
	has "$output" '^B shop +65536 +1% +1000 +64536 +1 +1'
	has "$output" "^n \\[1900000000-1900001000\\) process $foreign \\(sleep\\) in a user namespace\$"
	has "$output" "^$((COUNT + 1000)) of these are held, [0-9]+ are free: 1 container, and "
	must ctl map --svg -
	has "$output" "<title>dockroot: \\[$START-$((START + 4 * COUNT))\\), $((4 * COUNT)) IDs, $COUNT held by 1 \\(/etc/usernamespaces:1\\)</title>"
	end_foreign
	down ours
	must ctl map --json
	is 0 "$(field '.[] | select(.kind == "line" and .owner == "dockroot") | .held')"
	is "" "$(field '.[] | select(.kind == "container")')" leases
}

@test "map: conflicts are shown, and are no failure" {
	book "a:1900000000:65536:" "b:1900065535:65536:"
	must ctl map
	has "$output" '^Conflicts: 1 error, '
	has "$output" '^! /etc/usernamespaces:2: \[1900065535-1900065536\) of b belongs to a'
	must ctl map --json
	is "1900065535 1 error" "$(field '.[] | select(.kind == "conflict" and .severity == "error") | "\(.start) \(.count) \(.severity)"')"
	must ctl map --svg -
	has "$output" '<rect class="error"'
	has "$output" '<title>error: /etc/usernamespaces:2: '
}

@test "map: a book that can't be read is named, and so is what is wrong with it" {
	book "a:1:2:" "nonsense"
	refuses 1 '/etc/usernamespaces:2: ' map
	hint "usernsctl check"
	refuses 1 '/etc/usernamespaces:2: ' map --json
	refuses 1 '/etc/usernamespaces:2: ' map --svg "$W/out/map.svg"
	book "a:1900000000:65536:"
	chmod 0666 "$BOOK"
	refuses 1 'usernsctl: map: book: /etc/usernamespaces: ' map
}

@test "map: odd arguments are named" {
	refuses 2 'map: "x": expected no argument' map x
	refuses 2 'map: --svg and --json: are two forms of one picture' map --json --svg "$W/out/x"
	hint "usernsctl map --help"
	refuses 2 'map: --svg: is empty' map --svg ''
	refuses 2 'flag --svg: has no value' map --svg
	refuses 2 'flag --jsn: unknown: did you mean --json\?' map --jsn
	must ctl map --help
	has "$output" 'usernsctl map'
}

@test "map: it fits the window, and 80 columns where there is none" {
	book "dockroot:$START:67108864:" "with-a-rather-long-name-for-an-owner:1946157056:65536:no-new-privs" "b:200000:65536:reserved"
	must ctl map
	is 80 "$(longest)" "the longest line"
	is "" "$(LC_ALL=C grep -n '[^ -~]' "$W/.out")" "what isn't ASCII"
	must env COLUMNS=133 "$CTL" map
	is 133 "$(longest)"
	must env COLUMNS=20 LC_ALL=C.UTF-8 "$CTL" map
	is 20 "$(longest)"
	must env COLUMNS=1 "$CTL" map
	is 20 "$(longest)"
	must env COLUMNS=99999999999999999999 "$CTL" map
	is 80 "$(longest)"
	local width
	for width in 20 47 120; do
		# script's own terminal has no size; the window is what stty says.
		on_terminal sh -c "stty cols $width; COLUMNS=200 TERM=xterm LC_ALL=C.UTF-8 '$CTL' map"
		output=${output//$'\r'/}
		has "$output" $'\x1b\\[36m'
		output=$(sed 's/\x1b\[[0-9;]*m//g' "$W/.out" | tr -d '\r\b' | grep -v '^^D$')
		is "$width" "$(longest)" "the longest line in $width columns"
		is "" "$(LC_ALL=C grep $'\x1b' <<<"$output")" "other sequences"
	done
	on_terminal sh -c "stty cols 80; NO_COLOR=1 TERM=xterm '$CTL' map"
	is "" "$(LC_ALL=C grep $'\x1b' <<<"$output")" "colours"
	on_terminal sh -c "stty cols 80; TERM=dumb '$CTL' map"
	is "" "$(LC_ALL=C grep $'\x1b' <<<"$output")" "colours"
	on_terminal sh -c "stty cols 80; TERM=xterm '$CTL' map | cat"
	is "" "$(LC_ALL=C grep $'\x1b' <<<"$output")" "colours in a pipe"
}

@test "map: names that a terminal or a browser would obey are only names" {
	book '<script>alert(1)</script>:1900000000:65536:' 'a&"b:1900065536:65536:'
	printf 'evil\x1b]0;title\x07:x:1900000005:1900000005::/:/bin/sh\n' >>/etc/passwd
	printf 'x\x1b[2J<b>:300000:65536\n' >>/etc/subuid
	must env LC_ALL=C.UTF-8 "$CTL" map
	is "" "$(LC_ALL=C tr -d '\n' <"$W/.out" | LC_ALL=C tr -dc '\000-\037\177')" "control characters"
	has "$output" '^s \[300000-365536\) x\\x1b\[2J<b> \(/etc/subuid:2\)$'
	must ctl map --svg "$W/out/map.svg"
	is_svg "$W/out/map.svg"
	is "" "$(LC_ALL=C tr -d '\n' <"$W/out/map.svg" | LC_ALL=C tr -dc '\000-\037\177')" "control characters"
	is "" "$(grep -n '<script\|<b>' "$W/out/map.svg")" "names as elements"
	has "$(<"$W/out/map.svg")" '&lt;script&gt;alert\(1\)&lt;/script&gt;'
	must ctl map --json
	is 'x\x1b[2J<b>' "$(field '.[] | select(.start == 300000) | .owner' | sed 's/\x1b/\\x1b/')"
}

@test "map: without root, what can't be seen is unknown and not free" {
	requires unprivileged-users
	# Copied, since others than root can't walk to a tree everywhere.
	cp "$CTL" /run/usernsctl
	book "dockroot:$START:$((4 * COUNT)):"
	chmod 0644 "$BOOK"
	up ours
	local as=(setpriv --reuid 12345 --regid 12345 --clear-groups)
	must "${as[@]}" /run/usernsctl map
	has "$output" "^A dockroot  +$((4 * COUNT)) +\\? +\\? +\\? +\\? +1"
	has "$output" "Leases are root's to read: what is held is unknown\\."
	is "" "$(grep -E 'are free|- free' <<<"$output")" "what is said to be free"
	must "${as[@]}" /run/usernsctl map --json
	is "null null" "$(field '.[] | select(.kind == "line") | "\(.held) \(.holders)"')"
	# The container's process can be seen all the same.
	local first
	first=$(awk '{print $2}' "/proc/$init/uid_map")
	is "$first $COUNT" "$(field ".[] | select(.kind == \"namespace\" and .start == $first) | \"\\(.start) \\(.count)\"")"
	must "${as[@]}" /run/usernsctl map --svg -
	has "$output" 'not known to be held'
	try "${as[@]}" /run/usernsctl map --svg "$W/out/map.svg"
	is 1 "$status" status
	has "$errput" 'permission denied'
	# Where processes of others are hidden (proc(5)), they are unknown too.
	local hide
	for hide in 1 2; do
		must unshare --mount sh -c "mount -t proc -o hidepid=$hide proc /proc && exec ${as[*]} /run/usernsctl map"
		has "$output" "what is held is unknown\.\$"
		has "$output" "live user namespaces are unknown\.\$"
	done
	rm /run/usernsctl
	down ours
}

@test "map: the file is written whole, or not at all" {
	book "dockroot:$START:$COUNT:"
	cd "$W/out"
	must ctl map --svg map.svg
	is "" "$output$errput" "what is said"
	is "644 0:0" "$(stat -c '%a %u:%g' map.svg)" "mode and owner"
	is_svg map.svg
	must ctl map --svg -
	is "$(<map.svg)" "$output" "on standard output, and in the file"
	cp map.svg "$W/first"
	must ctl map --svg map.svg
	cmp map.svg "$W/first"
	chmod 0600 map.svg
	book "dockroot:$START:$COUNT:" "b:1900000000:65536:"
	must ctl map --svg "$W/out/map.svg"
	is 600 "$(stat -c %a map.svg)" "the mode that it had"
	is 1 "$(cmp -s map.svg "$W/first" || echo $?)" "whether it is another one"
	(umask 077 && must ctl map --svg private.svg)
	is 600 "$(stat -c %a private.svg)" "a mode by the umask"
	is $'map.svg\nprivate.svg' "$(ls -A)" "files"
	mkdir dir
	mkfifo fifo
	ln -s /dev/null null
	refuses 1 'map: dir: is not a regular file' map --svg dir
	refuses 1 'map: fifo: is not a regular file' map --svg fifo
	refuses 1 'map: /dev/null: is not a regular file' map --svg null
	refuses 1 'map: dir/: is the name of a directory' map --svg dir/
	refuses 1 'no such file or directory' map --svg none/map.svg
	# A link of one's own leads to a file, and stays. Another's could lead anywhere.
	ln -s map.svg mine
	must ctl map --svg mine
	is map.svg "$(readlink mine)" "the link"
	echo secret >victim
	ln -s victim trap
	chown -h 12345 trap
	refuses 1 'map: trap: is a symbolic link of UID 12345 to "victim", and not yours' map --svg trap
	is secret "$(<victim)"
	cd /
}

@test "map: no room, and nothing to be written, leave what was there" {
	book "dockroot:$START:$COUNT:"
	mkdir "$W/full"
	mount -t tmpfs -o size=16k tmpfs "$W/full"
	echo old >"$W/full/map.svg"
	try ctl map --svg "$W/full/map.svg"
	is 1 "$status" status
	has "$errput" 'no space left on device'
	is old "$(<"$W/full/map.svg")" "the file before"
	is map.svg "$(ls -A "$W/full")" files
	mount -o remount,ro "$W/full"
	try ctl map --svg "$W/full/map.svg"
	is 1 "$status" status
	has "$errput" 'read-only file system'
	umount "$W/full"
	mount -o remount,ro /etc
	must ctl map
	mount -o remount,rw /etc
	try sh -c "'$CTL' map >/dev/full"
	is 1 "$status" "the status of a full standard output"
	has "$errput" 'standard output: .*no space left'
	rmdir "$W/full"
}

@test "map: killed at any moment, it leaves the old or the new, and the next one clears up" {
	book "dockroot:$START:$COUNT:"
	must ctl map --svg "$W/out/map.svg"
	cp "$W/out/map.svg" "$W/old"
	local i size
	for i in {1..40}; do
		book "dockroot:$START:$COUNT:" "b$i:1900000000:65536:"
		"$CTL" map --svg "$W/out/map.svg" 3>&- &
		local pid=$!
		sleep "0.0$((i % 40 / 10))$((i % 10))"
		kill -KILL "$pid" 2>/dev/null || true
		reap "$pid" >/dev/null 2>&1
		is_svg "$W/out/map.svg"
		is "" "$(find "$W/out" -mindepth 1 ! -name map.svg ! -name .map.svg.usernsctl)" "other files"
	done
	must ctl map --svg "$W/out/map.svg"
	is map.svg "$(ls -A "$W/out")" "files"
	size=$(stat -c %s "$W/out/map.svg")
	((size > 5000))
	# Many at once: each waits for the one before.
	local pids=()
	for i in {1..8}; do
		"$CTL" map --svg "$W/out/map.svg" 3>&- &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do
		reap "$pid"
		is 0 "$status" "the status of one of many"
	done
	is map.svg "$(ls -A "$W/out")" "files"
	is_svg "$W/out/map.svg"
}

@test "map: 20,000 lines fit, in a moment" {
	awk 'BEGIN { for (i = 0; i < 20000; i++) printf "tenant%d:%d:65536:\n", i % 4000, 200000 + i * 65536 }' >"$BOOK"
	local began=$SECONDS
	must ctl map >/dev/null
	((SECONDS - began < 10))
	is 80 "$(longest)"
	has "$output" '^  and 3980 more owners with 19900 lines, 1304166400 IDs: usernsctl list$'
	(($(wc -l <"$W/.out") < 80))
	must ctl map --svg "$W/out/map.svg"
	(($(stat -c %s "$W/out/map.svg") < 2000000))
	is_svg "$W/out/map.svg"
}
