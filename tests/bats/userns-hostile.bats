#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# `userns exec` against bad input, bad callers and bad luck.

load helpers
load utility

# refuses_map PATTERN EXTENT: as a map of UIDs and as one of GIDs.
refuses_map() {
	says 1 "uid.*$1" ann exec --uid-map "$2" --gid-map "0:$START:1" -- true
	says 1 "gid.*$1" ann exec --uid-map "0:$START:1" --gid-map "$2" -- true
}

@test "userns: numbers with signs, spaces, hexadecimal, overflow" {
	local s=$START
	refuses_map 'expected INNER:OUTER:COUNT' ''
	refuses_map 'expected INNER:OUTER:COUNT' "0:$s"
	refuses_map 'expected INNER:OUTER:COUNT' "0:$s:1:1"
	refuses_map 'expected INNER:OUTER:COUNT' "0 $s 1"
	refuses_map 'inner: .*"\+0": expected a decimal number' "+0:$s:1"
	refuses_map 'inner: .*"-1": expected a decimal number' "-1:$s:1"
	refuses_map 'outer: .*" ' "0: $s:1"
	refuses_map 'count: .*"1 "' "0:$s:1 "
	refuses_map 'outer: .*"0x70000000"' "0:0x70000000:1"
	refuses_map 'outer: .*"01"' "0:01:1"
	refuses_map 'count: .*"1e3"' "0:$s:1e3"
	refuses_map 'count: .*"１"' "0:$s:１"
	refuses_map 'at most 32 bits' "0:$s:4294967296"
	refuses_map 'at most 32 bits' "0:$s:18446744073709551617"
	refuses_map 'impossible range' "0:$s:0"
	refuses_map 'impossible range' "0:4294967295:1"
	refuses_map 'impossible range' "4294967295:$s:1"
	refuses_map 'impossible range' "1:$s:4294967295"
	refuses_map 'both map inner \[3-4\)' "0:$s:4,3:$((s + 100)):1"
	refuses_map "both map to outer \[$((s + 3))-$((s + 4))\)" "0:$s:4,10:$((s + 3)):1"
	says 1 'setuid: .*"-1"' ann exec -S -1 -- true
	says 1 'setgid: .*"0x5"' ann exec -G 0x5 -- true
	says 1 'setuid: .*4294967294' ann exec -S 4294967295 -- true
	says 1 'monotonic "9999999999999"|monotonic "1x"' ann exec -T --monotonic 1x -- true
	says 1 'map "everything": expected auto, root or keep-id' ann exec --map everything -- true
	says 1 'leave out --map' ann exec --map auto --uid-map "0:$s:1" --gid-map "0:$s:1" -- true
	says 1 'twice: choose one' ann exec -r -c -- true
	says 1 'no such verb: expected one of' ann nonsense
	says 1 'missing: expected one of' ann
}

# extents N: of one ID each, at 20000 and on.
extents() { seq 0 $(($1 - 1)) | awk '{print $1":"20000 + $1":1"}' | shuf --random-source=<(yes) | paste -sd,; }

@test "userns: maps in any order, with 340 extents, and no more" {
	book "ann:20000:1000:size=1000" "ann:$START:$COUNT:"
	must userns ann exec --uid-map "$(extents 340)" --gid-map "$(extents 340)" -- sh -c 'sort -n /proc/self/uid_map | awk "{print \$1, \$2, \$3}" | sha256sum; wc -l </proc/self/gid_map'
	is "$(seq 0 339 | awk '{print $1, 20000 + $1, 1}' | sha256sum) 340" "$(paste -sd' ' <<<"$output")"
	says 1 'uid-map: .*341 extents: the kernel takes 340' ann exec --uid-map "$(extents 341)" --gid-map "0:20000:1" -- true
	# It takes no more than a page of text either.
	local long
	long=$(seq 0 339 | awk -v s="$START" '{print $1":"s + $1":1"}' | paste -sd,)
	says 1 '340 extents are [0-9]+ bytes of text: the kernel takes 4095' ann exec --uid-map "$long" --gid-map "0:$START:1" -- true
	must userns ann exec --uid-map "1:$((START + 1)):9,0:$((START + 50)):1,500:$START:1" --gid-map "9:$START:1,0:$((START + 9)):1" -- cat /proc/self/uid_map
	is "1 $((START + 1)) 9,0 $((START + 50)) 1,500 $START 1" "$(awk '{$1 = $1; print}' <<<"$output" | paste -sd,)"
}

@test "userns: closed descriptors 0 to 2, and open ones above" {
	local fds
	for fds in '<&-' '>&-' '2>&-' '<&- >&- 2>&-'; do
		must as ann bash -c "exec '$U/bin/userns' exec -- true $fds"
		must as ann bash -c "'$U/bin/userns' exec -- sh -c 'for fd in 0 1 2; do test -e /proc/self/fd/\$fd || exit 9; done' $fds"
	done
	echo secret >"$W/file"
	try as ann bash -c "exec 3<>'$U/ann/f' 9<>'$U/ann/f' 200<>'$U/ann/f'; exec '$U/bin/userns' exec -- ls /proc/self/fd"
	is "0 1 2 3" "$(paste -sd' ' <<<"$output")" # 3 is ls' own
	# An error has nowhere to be said, and is one all the same.
	try as ben bash -c "exec '$U/bin/userns' exec -- true 2>&-"
	is 1 "$status"
}

@test "userns: environment, argv[0] and limits set against it" {
	local hostile=("GODEBUG=inittrace=0,madvdontneed=1,gctrace=0" GOGC=1 GOMAXPROCS=1 GOMEMLIMIT=1 GOCOVERDIR="$U" PATH="$U/ann:/usr/bin"
		LD_PRELOAD=/nonexistent.so TZ=:/etc/shadow HOME=/nonexistent USER=root LOGNAME=root SUDO_UID=0 XDG_RUNTIME_DIR=/ USERNS=x)
	printf '#!/bin/sh\necho "not this one"\n' >"$U/ann/newuidmap"
	chmod 0755 "$U/ann/newuidmap"
	cp "$U/ann/newuidmap" "$U/ann/newgidmap"
	try as ann /usr/bin/env -i "${hostile[@]}" /usr/bin/env
	local want=$output
	must as ann /usr/bin/env -i "${hostile[@]}" "$U/bin/userns" exec -- /usr/bin/env
	is "$want" "$output" "the environment, as it was"
	# But for this one, which Go keeps from a program with capabilities.
	must as ann /usr/bin/env -i GOTRACEBACK=crash A=b "$U/bin/userns" exec -- /usr/bin/env
	is A=b "$output"
	must as ann /usr/bin/env -i "${hostile[@]}" "$U/bin/userns" exec -r -- id -u
	is 0 "$output"
	# The subject is who calls, whatever they say.
	says 1 "ben or $(id -u ben): no line" ben exec -- true
	try as ben /usr/bin/env USER=ann LOGNAME=ann SUDO_UID="$ANN" HOME="$U/ann" "$U/bin/userns" exec -- true
	is 1 "$status"
	has "$errput" "ben or $(id -u ben): no line"
	for name in "" / userns- -userns "a b"; do
		must as ann bash -c 'exec -a "$1" "$0" exec -- id -u' "$U/bin/userns" "$name"
		is 0 "$output"
	done
	# Limits: refused or done, and nothing in between.
	for limit in "-n 3" "-n 4" "-n 5"; do
		try as ann bash -c "ulimit $limit; exec '$U/bin/userns' exec -- id -u"
		[[ $status != 0 && -n $errput ]] || { is 0 "$status" && is 0 "$output"; }
	done
	must as ann bash -c "ulimit -n 3; ! '$U/bin/userns' exec -- true"
	for limit in 0 1 2; do
		for args in "exec -r -- true" "exec -- true" list; do
			# shellcheck disable=SC2086 # words
			try as ann timeout 20 prlimit --sigpending="$limit" "$U/bin/userns" $args
			is 1 "$status"
			has "$errput" "^userns: ${args%% *}: of $limit signals .*RLIMIT_SIGPENDING.* raise the limit: ulimit -i\$"
		done
	done
	# Maps are no files to the limit of their size.
	must as ann bash -c "(ulimit -Sn 64; ulimit -f 0; exec '$U/bin/userns' exec -- sh -c 'ulimit -Sn; ulimit -f') | cat"
	is "64 0" "$(paste -sd' ' <<<"$output")"
}

@test "userns: what takes the capabilities of its file away is said, and what needs none works" {
	local program=$U/plain/userns mount=$U/nosuid
	mkdir "$U/plain" "$mount"
	cp "$USERNS" "$program"
	try as ann "$program" exec -- true
	is 1 "$status"
	has "$errput" "its file has no capabilities: have root run: setcap cap_set.id=p $program"
	# As the kernel would, it takes nothing but one's own.
	must as ann "$program" exec -r -- id -u
	is 0 "$output"
	must as ann "$program" exec -c -- id -u
	is "$ANN" "$output"
	try as ann "$program" exec --map keep-id -- true
	is 1 "$status"
	try as ann setpriv --no-new-privs "$U/bin/userns" exec -- true
	is 1 "$status"
	has "$errput" "no_new_privs"
	must as ann setpriv --no-new-privs "$U/bin/userns" exec -r -- id -u
	mount -t tmpfs -o nosuid tmpfs "$mount"
	install_utility "$mount/userns"
	try as ann "$mount/userns" exec -- true
	is 1 "$status"
	has "$errput" "mount with the option nosuid"
	try setpriv --reuid ann --regid ann --init-groups --bounding-set=-setuid,-setgid "$U/bin/userns" exec -- true
	is 1 "$status"
	has "$errput" "bounding set"
	umount "$mount"
	# One of the two isn't enough; more are too many to be lent.
	setcap cap_setuid=p "$program"
	try as ann "$program" exec -- true
	is 1 "$status"
	has "$errput" "cap_setgid"
	try setpriv --ruid ann --euid ben --regid ann --init-groups "$U/bin/userns" exec -r -- true
	is 1 "$status"
	has "$errput" "^userns: it is called with the real IDs $ANN:$ANN and the effective ones $(id -u ben):$ANN, as by a setuid program: call it as one user"
	# Set on the file or not: whose it is must not be lent.
	chmod u+s "$program"
	try as ann "$program" exec -r -- true
	is 1 "$status"
	has "$errput" "installed setuid or setgid.*chmod u-s,g-s"
	chmod u-s "$program"
	chgrp 1 "$program"
	chmod g+s "$program"
	try as ann "$program" exec -r -- true
	is 1 "$status"
	has "$errput" "installed setuid or setgid"
}

@test "userns: a caller in a user namespace: their maps translate" {
	# Inner 0 is ann, 1 and on her line; setgroups is denied, and stays so.
	local inside=(userns ann exec -r --map auto --setgroups deny -- "$U/bin/userns")
	must "${inside[@]}" exec --uid-map 0:1:1000 --gid-map 0:1:1000 -- sh -c 'cat /proc/self/uid_map /proc/self/setgroups; id -u'
	is "0 1 1000,deny,0" "$(awk '{$1 = $1; print}' <<<"$output" | paste -sd,)"
	try "${inside[@]}" explain --uid-map 0:1:1000 --gid-map 0:1:1000
	has "$output" "on the host: UIDs 0:$START:1000"
	has "$output" "setgroups: +denied in the user namespace that you are in"
	must "${inside[@]}" exec -- sh -c 'cat /proc/self/uid_map'
	is "0 1 $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	must "${inside[@]}" exec -r -- sh -c 'cat /proc/self/uid_map'
	is "0 0 1" "$(awk '{$1 = $1; print}' <<<"$output")"
	try "${inside[@]}" exec --uid-map "0:1:$((COUNT + 1))" --gid-map 0:1:1 -- true
	is 1 "$status"
	has "$errput" "isn't mapped in the namespace it is counted in"
	# The same numbers are somebody else's outside: the book is asked about those.
	book "ann:$START:10:size=10"
	must as ann setpriv --reuid ann true
	try as ann unshare -r "$U/bin/userns" exec --uid-map "0:$START:1" --gid-map "0:$START:1" -- true
	is 1 "$status"
	# Where the caller is nobody of the host's, there is no grant.
	book "ann:$START:$COUNT:"
	try userns ann exec -- "$U/bin/userns" exec --uid-map 0:1:1 --gid-map 0:1:1 -- true
	is 1 "$status"
	has "$errput" "$START"
	# Deeper down a map shows less than the host.
	try userns ann exec -r -- "$U/bin/userns" exec -r -- "$U/bin/userns" exec --map auto -- true
	is 1 "$status"
	has "$errput" "whose root isn't the host's"
}

@test "userns: a caller in a PID namespace, whose /proc is the one outside" {
	# There the child's number is another process': here that of the caller's own shell.
	must as ann unshare -Urpf bash -c '"$0" exec -r -- cat /proc/self/uid_map; exit $?' "$U/bin/userns"
	is "0 0 1" "$(awk '{$1 = $1; print}' <<<"$output")"
	must as ann unshare -Urpf "$U/bin/userns" exec -rT --monotonic 1000 -- cat /proc/self/timens_offsets
	has "$output" 'monotonic +1000 '
}

@test "userns: a caller with a book, accounts and a /proc of their own making" {
	# In a user and mount namespace of hers ann is root, and shows the program what she likes. But what
	# it may do is what she may there.
	cp "$USERNS" "$U/bin/newuidmap"
	setcap cap_setuid=p "$U/bin/newuidmap"
	cat >"$U/fake" <<-'END'
		set -e
		mount -t tmpfs tmpfs /mnt
		echo "root:$1:65536:" >/mnt/book
		echo root:x:0:0::/:/bin/sh >/mnt/accounts
		printf '%10u %10u %10u\n' 0 0 4294967295 >/mnt/map
		mkdir /mnt/sys
		mount --bind /mnt/book /etc/usernamespaces
		mount --bind /mnt/accounts /etc/passwd
		mount --bind /mnt/accounts /etc/group
		unshare --user setpriv --pdeathsig KILL sleep 1000 >/dev/null 2>&1 &
		until [[ $(</proc/$!/comm) == sleep ]]; do sleep 0.01; done
		for file in uid_map gid_map; do mount --bind /mnt/map /proc/$$/$file; done
		mount --bind /mnt/sys /proc/sys
		shift
		exec "${@/#P/$!}"
	END
	local fake=(as ann unshare -rm bash "$U/fake" "$DORA")
	must "${fake[@]}" cat /proc/self/uid_map "$BOOK"
	has "$output" '4294967295'
	must "${fake[@]}" "$U/bin/userns" explain
	has "$output" "^UIDs: +0:$DORA:65536"
	has "$output" "^allowed by: $BOOK:1"
	try "${fake[@]}" "$U/bin/userns" exec -- cat /proc/self/uid_map
	is "1 " "$status $output"
	has "$errput" "gid_map: operation not permitted"
	try "${fake[@]}" "$U/bin/newuidmap" P 0 "$DORA" 1
	is 1 "$status"
	has "$errput" "uid_map: operation not permitted"
	# What isn't a proc filesystem isn't taken for one.
	try as ann unshare -rm bash -c 'mount -t tmpfs tmpfs /proc; mkdir -p /proc/self; echo 0 0 4294967295 | tee /proc/self/uid_map >/proc/self/gid_map; exec "$@"' - "$U/bin/newuidmap" 1 0 0 1
	is 1 "$status"
	has "$errput" "not the kernel's /proc"
}

@test "userns: exit codes and signals" {
	local code
	for code in 0 1 2 126 127 255; do
		try userns ann exec -- sh -c "exit $code"
		is "$code" "$status"
	done
	local signal
	for signal in HUP INT QUIT KILL TERM USR1 SEGV ABRT PIPE; do
		try as ann bash -c "'$U/bin/userns' exec -- sh -c 'kill -$signal \$\$'; exit \$?"
		is $((128 + $(kill -l "$signal"))) "$status" "ended by $signal"
	done
	is "" "$(find "$U" /tmp -maxdepth 2 -name 'core*' -newer "$W/.before")" "core files"
	# What this one gets, the program gets.
	for signal in HUP INT QUIT TERM USR1 USR2 ALRM; do
		background ann exec -- sh -c "trap 'echo $signal; exit 33' $signal; echo ready; while :; do sleep 0.02; done"
		eventually grep -q ready "$W/bg.out"
		kill -"$signal" "$pid"
		reap "$pid"
		is 33 "$status"
		is "ready $signal" "$(paste -sd' ' "$W/bg.out")"
	done
	# However early.
	local i
	for i in {1..30}; do
		try as ann "$U/bin/userns" exec -r -- sh -c "trap 'exit 33' TERM; kill -TERM \$PPID; while :; do sleep 0.02; done"
		is 33 "$status"
	done
	# And what was ignored stays so.
	try as ann bash -c "trap '' HUP INT; '$U/bin/userns' exec -- grep SigIgn /proc/self/status"
	is 3 "$((0x$(awk '{print $2}' <<<"$output") & 3))"
	# Those two only: see BUGS of userns(1).
	try as ann env --default-signal bash -c "trap '' QUIT PIPE TERM USR1 CHLD; '$U/bin/userns' exec -- grep SigIgn /proc/self/status"
	is 0 "$((0x$(awk '{print $2}' <<<"$output") & 0x15204))"
	try as ann env --default-signal "$U/bin/userns" exec -- grep -E 'SigBlk|SigIgn' /proc/self/status
	is "$(as ann env --default-signal grep -E 'SigBlk|SigIgn' /proc/self/status)" "$output"
}

@test "userns: stops and goes on with the program" {
	background ann exec -- sh -c 'kill -STOP $$; echo on; exit 5'
	eventually is_state T "$pid"
	kill -CONT "$pid"
	reap "$pid"
	is 5 "$status"
	is on "$(<"$W/bg.out")"
}

@test "userns: on a terminal: its signals come once, and job control works" {
	STDIN=$W/.in
	mkfifo "$STDIN.fifo"
	printf 'trap "echo interrupted; exit 6" INT; echo ready; while :; do sleep 0.05; done\n' >"$U/loop"
	{
		eventually grep -q ready "$W/.out"
		printf '\003'
		sleep 1
	} >"$STDIN.fifo" 3>&- &
	local typist=$!
	STDIN=$STDIN.fifo try by_script setpriv --reuid ann --regid ann --init-groups "$U/bin/userns" exec -- sh "$U/loop"
	is 6 "$status"
	is 1 "$(grep -c interrupted <<<"$output")"
	reap "$typist"
	# A shell that puts it in the background, and back.
	printf '%s\n' "set -m" "'$U/bin/userns' exec -- sh -c 'kill -TSTP \$\$; echo again; exit 3'" 'echo stopped $?' 'fg >/dev/null' 'echo ended $?' >"$U/jobs"
	STDIN=/dev/null try by_script setpriv --reuid ann --regid ann --init-groups bash --norc "$U/jobs"
	is "stopped 147 again ended 3" "$(tr -d '\r' <<<"$output" | grep -E '^(stopped|again|ended)' | paste -sd' ')"
}

@test "userns: on a terminal: what Ctrl-Z has stopped goes on with one fg" {
	command -v python3 >/dev/null || skip "python3 isn't installed"
	local i
	STDIN=$W/steps
	{
		printf '%s\n' 'expect ann>' "type $U/bin/userns exec -- sleep 1000" "do until pgrep -u $START -x sleep; do sleep 0.1; done"
		# It was the second one in half of all cases: which of the two the terminal stops first is chance.
		for i in {1..12}; do
			printf '%s\n' 'press \x1a' 'expect Stopped' 'expect ann>' 'type fg' 'expect fg\r\n.*sleep 1000' 'absent Stopped'
		done
		printf '%s\n' 'press \x03' 'expect ann>' 'type echo status $?' 'expect status 130' 'type exit'
	} >"$STDIN"
	must as ann env PS1='ann> ' python3 "$UR_BATS_DIR/terminal.py" bash --norc --noprofile --noediting -i
}

@test "userns: the program is never left behind" {
	local args i
	for args in "" "-r" "--map keep-id" "-S 7" "-pf" "-rpf --mount-proc" "-p" "--keep-caps -S 7"; do
		# shellcheck disable=SC2086 # words
		background ann exec $args -- sleep 1000
		kill -KILL "$pid"
		reap "$pid"
		is 137 "$status"
		eventually gone "$child"
	done
	# At whatever moment.
	for i in {1..40}; do
		setpriv --reuid ann --regid ann --init-groups "$U/bin/userns" exec -pf --mount-proc -- sleep 7777 >/dev/null 2>&1 3>&- &
		pid=$!
		sleep "0.00$((i % 10))"
		kill -KILL "$pid" 2>/dev/null || true
		reap "$pid"
	done
	eventually eval '! pgrep -u ann,'"$START"
	# Unless the caller wants it softer.
	background ann exec --kill-child=USR1 -- sh -c 'trap "echo soft; exit" USR1; echo ready; while :; do sleep 0.02; done'
	eventually grep -q ready "$W/bg.out"
	kill -KILL "$pid"
	reap "$pid"
	eventually gone "$child"
	has "$(<"$W/bg.out")" soft
}

@test "userns: nobody without its capabilities gets at the process" {
	background ann exec -- sleep 1000
	# It has the caller's UID, and nothing of it is the caller's to see or to change.
	try as ann cat "/proc/$pid/environ"
	is 1 "$status"
	try as ann ls "/proc/$pid/fd"
	[[ $status != 0 ]]
	try as ann bash -c ": >/proc/$pid/mem"
	is 1 "$status"
	try as ann nsenter --target "$pid" --user true
	is 1 "$status"
	kill "$pid"
	reap "$pid"
}

@test "userns: nor while it has them, at whatever moment" {
	cp "$UR_HELPERS/peek" "$U/bin/peek"
	local i peeks=()
	for i in 1 2; do
		setpriv --reuid ann --regid ann --init-groups "$U/bin/peek" userns >"$W/peek$i" 2>&1 3>&- &
		peeks+=($!)
	done
	for i in {1..150}; do must userns ann exec -- true; done
	kill -TERM "${peeks[@]}"
	for i in "${peeks[@]}"; do reap "$i"; done
	is "" "$(grep -v ^seen "$W"/peek? || true)" "what they got at"
	# They have seen it, or this shows nothing.
	cat "$W"/peek?
	awk '{n += $2} END {exit n < 10}' "$W"/peek?
}

@test "userns: each decision is told to the host's log, which can be missing or full" {
	local dev=$W/dev
	mkdir "$dev"
	mount -t tmpfs -o mode=0755 tmpfs "$dev"
	cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty "$dev/"
	mount --bind "$dev" /dev
	must userns ann exec -- true
	"$UR_HELPERS/datagrams" /dev/log >"$W/log.txt" 2>&1 3>&- &
	local logger=$!
	eventually test -S /dev/log
	must userns ann exec -- true
	says 1 "no line" ben exec -- true
	must userns ben exec -r -- true
	must userns ann explain
	eventually eval '(($(wc -l <"$W/log.txt") == 3))'
	has "$(sed -n 1p "$W/log.txt")" '^<85>[A-Z][a-z]{2} [ 0-9]{2} [0-9:]{8} userns\[[0-9]+\]: \{"decision":"granted","verb":"exec","subject":"ann","uid":'"$ANN"
	is "0:$START:$COUNT $BOOK:1" "$(sed -n '1s/^[^{]*//p' "$W/log.txt" | jq -r '"\(.uids) \(.lines[0])"')"
	is "refused ben true" "$(sed -n '2s/^[^{]*//p' "$W/log.txt" | jq -r '"\(.decision) \(.subject) \(.error | contains("no line of the book"))"')"
	has "$(sed -n 2p "$W/log.txt")" '^<84>'
	is "granted ben 0:$(id -u ben):1" "$(sed -n '3s/^[^{]*//p' "$W/log.txt" | jq -r '"\(.decision) \(.subject) \(.uids)"')"
	# What the book grants and the kernel doesn't take, is told as both.
	cp "$USERNS" "$U/bare"
	try as ann "$U/bare" exec -- true
	is 1 "$status"
	eventually eval '(($(wc -l <"$W/log.txt") == 5))'
	is "granted ann 0:$START:$COUNT false refused ann 0:$START:$COUNT true" "$(sed -n '4,5s/^[^{]*//p' "$W/log.txt" |
		jq -r '"\(.decision) \(.subject) \(.gids) \(.error // "" | contains("operation not permitted"))"' | paste -sd' ')"
	# One that nobody reads holds nobody up.
	kill -STOP "$logger"
	local i
	for i in {1..30}; do must timeout 10 setpriv --reuid ben --regid ben --init-groups "$U/bin/userns" exec -r -- true; done
	kill -KILL "$logger"
	reap "$logger"
	must userns ann exec -- true
	umount /dev
	umount "$dev"
}

@test "userns: explain shows what decides, and makes nothing" {
	must userns ann explain exec -Urmpf
	is "you:        ann (UID $ANN, GID $(id -g ann))" "$(head -n 1 <<<"$output")"
	has "$output" "^allowed: +these IDs are your own"
	has "$output" "^setgroups:  denied since your own group is mapped"
	must userns ann explain --map keep-id
	has "$output" "^allowed by: $BOOK:1, which grants \[$START-$((START + COUNT))\)\$"
	has "$output" "^setgroups:  allowed"
	has "$output" "^runs as:    UID $ANN, GID $(id -g ann) inside"
	try userns ben explain
	is 1 "$status"
	is "" "$errput"
	has "$output" "^refused: .*no line of the book"
	has "$output" "^ask root:   usernsctl add ben\$"
	try userns ann explain --uid-map "0:$((START - 5)):10" --gid-map "0:$((START - 5)):10"
	is 1 "$status"
	is "ask root:   usernsctl add ann --start $((START - 5)) --length 5 --size 5" "$(tail -n 1 <<<"$output")"
	cp "$USERNS" "$U/bin/bare"
	try as ann "$U/bin/bare" explain
	is 1 "$status"
	has "$output" "^ask root:   setcap cap_setuid.*=p $U/bin/bare"
	must as ann "$U/bin/bare" explain -r
	must userns ann explain --help
	must userns ann --help
	must userns ann exec --help
	must userns ann --version
	has "$output" '^userns version '
	try as ann bash -c "'$U/bin/userns' explain >/dev/full"
	is 1 "$status"
	has "$errput" "standard output: .*no space"
}
