#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# newuidmap and newgidmap, called by users made for the test, beside shadow's own.
# Every `differs` is a row of docs/newuidmap.md.

load helpers
load idmap

# NESTED: what a shell runs first in a user namespace, to have a process pid in one below it.
NESTED='unshare --user sleep 1000 </dev/null >/dev/null 2>&1 & pid=$!
	trap "kill $pid" EXIT
	until [[ $(</proc/$pid/comm) == sleep ]]; do sleep 0.01; done'

# --- beside shadow's

@test "newuidmap and newgidmap: the target, the number of arguments, the ranges, as shadow's" {
	local side none
	none=$(($(</proc/sys/kernel/pid_max) - 1))
	for side in u g; do
		does "1  allow" ann $side
		does "1  allow" ann $side ''
		does "1  allow" ann $side x 0 "$START" 1
		does "1  allow" ann $side -1 0 "$START" 1
		does "1  allow" ann $side 0 0 "$START" 1
		does "1  allow" ann $side "$none" 0 "$START" 1
		does "1  allow" ann $side 99999999999999999999 0 "$START" 1
		does "1  allow" ann $side 4294967297 0 "$START" 1
		does "1  allow" ann $side P 0
		does "1  allow" ann $side P 0 "$START"
		does "1  allow" ann $side P 0 "$START" 1 5
		does "1  allow" ann $side P 0 "$START" 1 5 6
		does "0 0 $START 1 allow" ann $side P 0 "$START" 1
		does "0 0 $START 65536 allow" ann $side P 0 "$START" 65536
		does "0 5 $START 10,20 $((START + 10)) 10 allow" ann $side P 5 "$START" 10 20 $((START + 10)) 10
		does "0 20 $((START + 10)) 10,5 $START 10 allow" ann $side P 20 $((START + 10)) 10 5 "$START" 10
		does "1  allow" ann $side P 0 "$START" 65537
		does "1  allow" ann $side P 0 $((START - 1)) 1
		does "1  allow" ann $side P 0 0 1
		does "1  allow" ann $side P 0 "$BEN" 1
		does "1  allow" ann $side P 0 "$START" 10 20 $((START + 65536)) 1
		does "1  allow" ben $side P 0 "$START" 1
	done
	# Nothing at all to map: shadow's newgidmap has denied setgroups before the kernel refuses it.
	does "1  allow" ann u P
	differs "1  deny" "1  allow" ann g P
}

@test "newuidmap and newgidmap: numbers, as shadow's but for those that have two readings" {
	local side
	for side in u g; do
		does "1  allow" ann $side P 0 "$START" 0
		does "1  allow" ann $side P 0 "$START" -1
		does "1  allow" ann $side P 0 "$START" 4294967296
		does "1  allow" ann $side P 0 "$START" 18446744073709551615
		does "1  allow" ann $side P 0 "$START" 18446744073709551617
		does "1  allow" ann $side P 4294967295 "$START" 1
		does "1  allow" ann $side P 4294967294 "$START" 2
		does "0 4294967294 $START 1 allow" ann $side P 4294967294 "$START" 1
		does "1  allow" ann $side P x "$START" 1
		does "1  allow" ann $side P '' "$START" 1
		does "1  allow" ann $side P 0: "$START" 1
		does "1  allow" ann $side P '0 ' "$START" 1
		does "1  allow" ann $side P $'0\n1' "$START" 1
		does "1  allow" ann $side P 0 "$START" 1.0
		does "1  allow" ann $side P 0 "$START" 1 0 $((START + 1)) 1
		does "1  allow" ann $side P 0 "$START" 1 1 "$START" 1
		differs "0 0 $START 1 allow" "1  allow" ann $side P ' 0' "$START" 1
		differs "0 0 $START 1 allow" "1  allow" ann $side P +0 "$START" 1
		differs "0 0 $START 1 allow" "1  allow" ann $side P -0 "$START" 1
		differs "0 16 $START 1 allow" "1  allow" ann $side P 0x10 "$START" 1
		differs "0 8 $START 1 allow" "1  allow" ann $side P 010 "$START" 1
	done
	# So is the number of the process.
	target ann
	must as ann /usr/bin/newuidmap " +$pid" 0 "$START" 1
	untarget
	target ann
	refuses "decimal digits" as ann "$u_ours" " +$pid" 0 "$START" 1
	is " allow" "$(shown u)"
	untarget
}

@test "newuidmap and newgidmap: 340 extents, 341, and more text than a page" {
	local side few=() many=() i
	for ((i = 0; i < 341; i++)); do
		many+=("$((2 * i))" "$((START + 2 * i))" 1)
	done
	for side in u g; do
		# The kernel takes 340 where their text is less than a page, which with numbers of ten digits
		# it isn't.
		same ann $side P "${many[@]}"
		has "$(<"$W/.ours")" "341 extents: the kernel takes 340"
		same ann $side P "${many[@]:0:1020}"
		has "$(<"$W/.ours")" "340 extents are [0-9]+ bytes of text: the kernel takes 4095"
		same ann $side P "${many[@]:0:600}"
	done
	# In a namespace of ann's, whose IDs are short, all 340 are taken. Root there is ann to ours, and
	# root to shadow's.
	for ((i = 0; i < 340; i++)); do few+=("$((2 * i))" "$((2 * i + 1))" 1); done
	echo "${few[*]}" >"$U/few"
	echo root:1:65536 >>/etc/subuid
	for side in u_shadow u_ours; do
		must as ann unshare --user --map-root-user --map-auto bash -c "$NESTED"'
			"$1" $pid $(<"$2") && wc -l </proc/$pid/uid_map' - "${!side}" "$U/few"
		is 340 "$output" "$side"
	done
}

@test "newuidmap and newgidmap: one's own IDs, and setgroups" {
	local gid
	gid=$(id -g ann)
	does "0 0 $ANN 1 allow" ann u P 0 "$ANN" 1
	does "0 7 $ANN 1 allow" ann u P 7 "$ANN" 1
	does "0 0 $BEN 1 allow" ben u P 0 "$BEN" 1
	does "1  allow" ann u P 0 "$ANN" 2
	does "1  allow" ann u P 0 "$ANN" 1 1 "$ANN" 1
	does "0 0 $ANN 1,1 $START 65536 allow" ann u P 0 "$ANN" 1 1 "$START" 65536
	# CVE-2018-7169: their own group only without setgroups.
	does "0 0 $gid 1 deny" ann g P 0 "$gid" 1
	does "0 0 $(id -g ben) 1 deny" ben g P 0 "$(id -g ben)" 1
	does "1  allow" ann g P 0 "$gid" 2
	does "0 0 $START 65536 allow" ann g P 0 "$START" 65536
	does "0 0 $gid 1,1 $START 65536 allow" ann g P 0 "$gid" 1 1 "$START" 65536
	# A line that holds it takes nothing away.
	book "ann:$gid:1:size=1" "ann:$START:$COUNT:" "cat:$CAT:1000:size=1000" "cat:$((CAT + 2000)):1000:deny-setgroups,size=1000" "$DAN:$DANS:1000:no-new-privs,size=1000"
	does "0 0 $gid 1 deny" ann g P 0 "$gid" 1
	does "0 0 $gid 1,1 $START 65536 allow" ann g P 0 "$gid" 1 1 "$START" 65536
	sed -i 1d "$BOOK"
	# Flags of the book, which shadow has none of.
	differs "0 0 $((CAT + 2000)) 5 allow" "0 0 $((CAT + 2000)) 5 deny" cat g P 0 $((CAT + 2000)) 5
	differs "0 0 $((CAT + 2000)) 5 allow" "0 0 $((CAT + 2000)) 5 deny" cat u P 0 $((CAT + 2000)) 5
	differs "0 0 $(id -g cat) 1,1 $((CAT + 2000)) 5 allow" "0 0 $(id -g cat) 1,1 $((CAT + 2000)) 5 deny" cat g P 0 "$(id -g cat)" 1 1 $((CAT + 2000)) 5
	does "0 0 $CAT 5 allow" cat g P 0 "$CAT" 5
	differs "0 0 $DANS 5 allow" "1  allow" dan u P 0 "$DANS" 5
	has "$(<"$W/.ours")" "/etc/usernamespaces:4: flag no-new-privs can't hold in a user namespace that belongs to $DAN"
	# Two lines that touch are one range.
	book "ann:$START:10:size=5" "ann:$((START + 10)):10:size=5"
	printf '%s\n' "ann:$START:10" "ann:$((START + 10)):10" | tee /etc/subuid >/etc/subgid
	does "0 0 $START 20 allow" ann u P 0 "$START" 20
}

@test "newuidmap and newgidmap: whose process it is" {
	local side pid mine
	for side in u g; do
		# Someone else's.
		target ben
		mine=$pid
		does "1  allow" ann $side "$mine" 0 "$START" 1
		# Root's, init, and none in a namespace of its own.
		does "1  allow" ann $side 1 0 "$START" 1
		pid=$mine untarget
		setpriv --reuid ann --regid ann --init-groups sleep 1000 3>&- &
		mine=$!
		does "1  allow" ann $side "$mine" 0 "$START" 1
		pid=$mine untarget
		# Already mapped, by either program.
		target ann
		mine=$pid
		must as ann "$LIB/new${side}idmap" "$mine" 0 "$START" 5
		does "1  allow" ann $side "$mine" 0 "$START" 5
		has "$(<"$W/.ours")" "${side}id_map: mapped already, once and for all"
		pid=$mine
		has "$(shown $side)" "^0 $START 5 allow$"
		untarget
		# As another group than the account's.
		groupadd -f others
		usermod -aG others ann
		setpriv --reuid ann --regid others --init-groups unshare --user sleep 1000 </dev/null >/dev/null 2>&1 3>&- &
		mine=$!
		until [[ $(</proc/$mine/comm) == sleep ]]; do sleep 0.002; done
		does "1  allow" ann $side "$mine" 0 "$START" 1
		try setpriv --reuid ann --regid others --init-groups "/usr/bin/new${side}idmap" "$mine" 0 "$START" 1
		is 1 "$status"
		refuses "the real group of ann is" setpriv --reuid ann --regid others --init-groups "$LIB/new${side}idmap" "$mine" 0 "$START" 1
		pid=$mine
		is " allow" "$(shown $side)"
		untarget
	done
}

@test "newuidmap and newgidmap: fd:N, a directory of /proc or a pidfd" {
	local pid side
	for side in u g; do
		target ann
		refuses 'descriptor 9: .*bad file descriptor' as ann "$LIB/new${side}idmap" fd:9 0 "$START" 1
		refuses 'decimal digits' as ann "$LIB/new${side}idmap" fd: 0 "$START" 1
		refuses 'decimal digits' as ann "$LIB/new${side}idmap" fd:-1 0 "$START" 1
		refuses 'decimal digits' as ann "$LIB/new${side}idmap" fd:x 0 "$START" 1
		refuses "isn't the directory of a process" as ann bash -c 'exec 9</proc; exec "$@"' - "$LIB/new${side}idmap" fd:9 0 "$START" 1
		refuses "isn't the directory of process" as ann bash -c 'exec 9</proc/'"$pid/task/$pid"'; exec "$@"' - "$LIB/new${side}idmap" fd:9 0 "$START" 1
		refuses "neither the directory of a process" as ann bash -c 'exec 9</tmp; exec "$@"' - "$LIB/new${side}idmap" fd:9 0 "$START" 1
		is " allow" "$(shown $side)"
		must as ann bash -c 'exec 9</proc/'"$pid"'; exec "$@"' - "$LIB/new${side}idmap" fd:9 0 "$START" 1
		is "0 $START 1 allow" "$(shown $side)"
		untarget
		target ann
		STDIN=/proc/$pid must as ann "$LIB/new${side}idmap" fd:0 0 "$START" 1
		is "0 $START 1 allow" "$(shown $side)"
		untarget
		target ann
		must as ann /usr/bin/python3 -c 'import os, sys
pidfd = os.pidfd_open(int(sys.argv[1]))
os.set_inheritable(pidfd, True)
os.execv(sys.argv[2], [sys.argv[2], f"fd:{pidfd}"] + sys.argv[3:])' "$pid" "$LIB/new${side}idmap" 0 "$START" 7
		is "0 $START 7 allow" "$(shown $side)"
		untarget
	done
}

# --- attacks

@test "newuidmap and newgidmap: a process that becomes setuid root, and one that goes to another namespace" {
	local pid side
	for side in u g; do
		target ann
		refuses "it runs as UID $ANN|isn't theirs|not the caller's" as ben "$LIB/new${side}idmap" "$pid" 0 "$BEN" 1
		untarget
		# It is in a namespace below the one of ann's.
		must bash -c 'setpriv --reuid ann --regid ann --init-groups unshare --user --map-root-user bash -c "unshare --user sleep 1000 & echo \$!; wait" >"$1" 2>/dev/null </dev/null & echo $!' - "$W/below"
		eventually test -s "$W/below"
		pid=$(<"$W/below")
		eventually grep -qx sleep "/proc/$pid/comm"
		refuses "doesn't lie directly in the caller's own" as ann "$LIB/new${side}idmap" "$pid" 0 "$START" 1
		is " deny" "$(shown $side)"
		kill -KILL "$pid"
	done
	# Nor is it lent to a caller who is two users at once: which of them asks?
	for side in u g; do
		target ann
		refuses "^new${side}idmap: it is called with the real IDs $ANN:$ANN and the effective ones $BEN:$ANN" \
			setpriv --ruid ann --euid ben --regid ann --init-groups "$LIB/new${side}idmap" "$pid" 0 "$START" 1
		refuses "^new${side}idmap: it is called with the real IDs $ANN:$ANN and the effective ones $ANN:$BEN" \
			setpriv --reuid ann --rgid ann --egid ben --init-groups "$LIB/new${side}idmap" "$pid" 0 "$START" 1
		is " allow" "$(shown $side)"
		untarget
	done
	# sudo, su and the like run as root: their directory in /proc is root's.
	install -m 4755 /usr/bin/sleep "$U/setuid"
	setpriv --reuid ann --regid ann --init-groups "$U/setuid" 1000 3>&- &
	pid=$!
	eventually grep -q setuid "/proc/$pid/comm"
	refuses "not the caller's" as ann "$LIB/newuidmap" "$pid" 0 "$START" 1
	untarget
}

@test "newuidmap and newgidmap: the environment, argv[0], descriptors and limits are the caller's to set, to no avail" {
	local side pid n
	for side in u g; do
		target ann
		# What goes wrong, goes wrong without a map.
		refuses "$START.*isn't granted|belongs to" as ann env -i PATH=/nowhere GODEBUG=x509sha1=1,asyncpreemptoff=1 GOGC=1 GOTRACEBACK=crash \
			LD_PRELOAD=/nowhere.so HOME=/nowhere "$LIB/new${side}idmap" "$pid" 0 "$START" 65537
		is " allow" "$(shown $side)"
		for n in 0 1 2 3; do
			try as ann prlimit --nofile="$n:$n" "$LIB/new${side}idmap" "$pid" 0 "$START" 1
			((status)) || break
			is " allow" "$(shown $side)" "after a failure with $n descriptors"
		done
		try as ann bash -c 'exec <&- >&- 2>&-; exec "$@"' - "$LIB/new${side}idmap" "$pid" 0 "$START" 99999
		is 1 "$status"
		is " allow" "$(shown $side)"
		# As without the limits.
		must as ann bash -c 'exec <&- >&- 2>&-; exec "$@"' - "$LIB/new${side}idmap" "$pid" 0 "$START" 1
		is "0 $START 1 allow" "$(shown $side)"
		untarget
	done
	target ann
	# By another name it is userns, which has no such verb; without one too.
	for n in '' x userns /bin/newuidmap.; do
		try as ann bash -c 'exec -a "$0" "$@"' "$n" "$u_ours" "$pid" 0 "$START" 1
		is 1 "$status"
	done
	try as ann /usr/bin/python3 -c 'import ctypes, sys
ctypes.CDLL(None).execve(sys.argv[1].encode(), (ctypes.c_char_p * 1)(None), (ctypes.c_char_p * 1)(None))' "$u_ours"
	is 1 "$status"
	is " allow" "$(shown u)"
	untarget
}

@test "newuidmap and newgidmap: without their capabilities, why, and what needs none" {
	local pid side gid
	gid=$(id -g ann)
	for side in u g; do
		target ann
		refuses "no_new_privs" as ann setpriv --no-new-privs "$LIB/new${side}idmap" "$pid" 0 "$START" 1
		is " allow" "$(shown $side)"
		cp "$USERNS" "$U/new${side}idmap"
		refuses "its file has no capabilities: have root run: setcap cap_set${side}id=p $U/new${side}idmap" as ann "$U/new${side}idmap" "$pid" 0 "$START" 1
		mount -t tmpfs -o nosuid,mode=0755 tmpfs "$U/ann"
		cp "$USERNS" "$U/ann/new${side}idmap"
		setcap "cap_set${side}id=p" "$U/ann/new${side}idmap"
		refuses "nosuid" as ann "$U/ann/new${side}idmap" "$pid" 0 "$START" 1
		umount "$U/ann"
		try setpriv --bounding-set "-set${side}id" --reuid ann --regid ann --init-groups "$LIB/new${side}idmap" "$pid" 0 "$START" 1
		((status != 0))
		is " allow" "$(shown $side)"
		# The capability of the other one.
		setcap "cap_sys_nice=p" "$U/new${side}idmap"
		refuses "has other capabilities" as ann "$U/new${side}idmap" "$pid" 0 "$START" 1
		# setuid root, as shadow's is: not with this one.
		chmod 4755 "$U/new${side}idmap"
		refuses "^new${side}idmap: new${side}idmap is installed setuid .*chmod u-s,g-s.*setcap cap_set${side}id=p" as ann "$U/new${side}idmap" "$pid" 0 "$START" 1
		is " allow" "$(shown $side)"
		cp "$USERNS" "$U/new${side}idmap"
		chmod 0755 "$U/new${side}idmap"
		setcap -r "$U/new${side}idmap" 2>/dev/null || true
		if [[ $side == u ]]; then
			must as ann "$U/newuidmap" "$pid" 0 "$ANN" 1
			is "0 $ANN 1 allow" "$(shown u)"
		else
			must as ann "$U/newgidmap" "$pid" 0 "$gid" 1
			is "0 $gid 1 deny" "$(shown g)"
		fi
		untarget
	done
}

# logged N: what the Nth line of the host's log says.
logged() { sed -n "$1s/^[^{]*//p" "$W/log.txt" | jq -r '[.decision, .verb, .subject, .uids, .gids, .lines[0], .error[:20], .target[:9]] | map(values) | join(" ")'; }

@test "newuidmap and newgidmap: each call is told to the host's log, whatever its caller does" {
	local dev=$W/dev logger pid
	mkdir "$dev"
	mount -t tmpfs -o mode=0755 tmpfs "$dev"
	cp -a /dev/null /dev/zero /dev/urandom /dev/tty "$dev/"
	mount --bind "$dev" /dev
	"$UR_HELPERS/datagrams" /dev/log >"$W/log.txt" 2>&1 3>&- &
	logger=$!
	eventually test -S /dev/log
	target ann
	must as ann "$u_ours" "$pid" 0 "$START" 5
	must as ann "$g_ours" "$pid" 0 "$START" 5
	refuses "mapped already" as ann "$g_ours" "$pid" 0 "$START" 5
	refuses "not the caller's" as ben "$u_ours" "$pid" 0 "$START" 5
	# It is told before the map is there: who calls it could end it right after. So it is told of a
	# map, too, that the kernel doesn't take then.
	untarget
	target ann
	cp "$USERNS" "$U/newuidmap"
	refuses "has no capabilities" as ann "$U/newuidmap" "$pid" 0 "$START" 5
	untarget
	# No argument is so long that the log would have no room for it.
	refuses "expected the number of a process" as ann "$u_ours" "$(head -c 100000 /dev/zero | tr '\0' '\001')" 0 "$START" 5
	eventually eval '(($(wc -l <"$W/log.txt") >= 8))'
	kill -KILL "$logger"
	reap "$logger"
	umount /dev
	umount "$dev"
	sed 's/^[^{]*//' "$W/log.txt" | cut -c -300
	is 8 "$(wc -l <"$W/log.txt")"
	is "granted newuidmap ann 0:$START:5 $BOOK:1" "$(logged 1 | cut -d' ' -f1-5)"
	is "granted newgidmap ann 0:$START:5 $BOOK:1" "$(logged 2 | cut -d' ' -f1-5)"
	has "$(logged 3)" "^granted newgidmap ann"
	has "$(logged 4)" "^refused newgidmap ann 0:$START:5 $BOOK:1 process"
	has "$(logged 5)" "^refused newuidmap ben"
	has "$(logged 6)" "^granted newuidmap ann 0:$START:5"
	has "$(logged 7)" "^refused newuidmap ann 0:$START:5"
	has "$(logged 8)" "^refused newuidmap ann"
}

@test "newuidmap and newgidmap: setgroups can't be had back by the order of the two" {
	local pid
	target cat
	# The group of a line without the flag first, the user of one with it then: too late to deny.
	must as cat "$LIB/newgidmap" "$pid" 0 "$CAT" 5
	refuses "its GIDs are mapped already, with setgroups allowed" as cat "$LIB/newuidmap" "$pid" 0 $((CAT + 2000)) 5
	is " allow" "$(shown u)"
	untarget
	target cat
	must as cat "$LIB/newuidmap" "$pid" 0 $((CAT + 2000)) 5
	must as cat "$LIB/newgidmap" "$pid" 0 "$CAT" 5
	is "0 $CAT 5 deny" "$(shown g)"
	untarget
	# Denied by the process itself stays denied.
	setpriv --reuid ann --regid ann --init-groups unshare --user --setgroups deny sleep 1000 </dev/null >/dev/null 2>&1 3>&- &
	pid=$!
	until [[ $(</proc/$pid/comm) == sleep ]]; do sleep 0.002; done
	must as ann "$LIB/newgidmap" "$pid" 0 "$START" 5
	is "0 $START 5 deny" "$(shown g)"
	untarget
}

@test "newuidmap and newgidmap: from a user namespace, whose maps translate" {
	# In it ann is 0, and her line begins at 1.
	must as ann unshare --user --map-root-user --map-auto bash -c "$NESTED"'
		"$1" $pid 0 1 100 && "$2" $pid 0 1 100 && cat /proc/$pid/uid_map /proc/$pid/gid_map' - "$u_ours" "$g_ours"
	is "0 1 100
0 1 100" "$(awk '{$1 = $1; print}' <<<"$output")"
	# Her own line as the host counts it isn't mapped there.
	refuses "uid map: .*outer $START isn't mapped in the namespace" as ann unshare --user --map-root-user --map-auto bash -c "$NESTED"'
		"$1" $pid 0 "$2" 1' - "$u_ours" "$START"
	# What the book doesn't grant isn't had by way of a namespace: here /etc/subuid gives more.
	echo "ann:$((START + 2 * COUNT)):1000" >>/etc/subuid
	sed -i "/^ann:$START:/d" /etc/subuid
	refuses "uid extent 0:$((START + 2 * COUNT)):1: .*isn't granted to ann" as ann unshare --user --map-root-user --map-users "$((START + 2 * COUNT)),1,1000" bash -c "$NESTED"'
		"$1" $pid 0 1 1' - "$u_ours"
}

@test "newuidmap and newgidmap: a number that is given again between the two looks" {
	local old pid fd
	# The sandbox is a PID namespace of its own.
	target ann
	old=$pid
	exec {fd}<"/proc/$old"
	untarget
	for _ in {1..50}; do
		echo $((old - 1)) >/proc/sys/kernel/ns_last_pid
		target ann
		[[ $pid == "$old" ]] && break
		untarget
	done
	is "$old" "$pid" "the number that was to be given again"
	# Held by its directory, as a caller can hold it, it isn't the one with the number.
	refuses "descriptor $fd:" setpriv --reuid ann --regid ann --init-groups "$LIB/newuidmap" "fd:$fd" 0 "$START" 1
	is " allow" "$(shown u)"
	exec {fd}<&-
	untarget
}

@test "newuidmap and newgidmap: a book that can't be trusted, and none" {
	local pid
	target ann
	chmod 0666 "$BOOK"
	refuses "book: $BOOK: has mode 0666" as ann "$LIB/newuidmap" "$pid" 0 "$START" 1
	chmod 0644 "$BOOK"
	chown ann "$BOOK"
	refuses "book: $BOOK: is owned by UID $ANN" as ann "$LIB/newuidmap" "$pid" 0 "$START" 1
	rm "$BOOK"
	refuses "there is no book" as ann "$LIB/newuidmap" "$pid" 0 "$START" 1
	book "ann:$START:$COUNT:" "nonsense"
	refuses "$BOOK:2" as ann "$LIB/newuidmap" "$pid" 0 "$START" 1
	is " allow" "$(shown u)"
	# Whose name can't be found out isn't taken for somebody without one.
	chmod 0600 /etc/passwd
	refuses "who is asking: the name of UID $ANN: .*permission denied" as ann "$LIB/newuidmap" "$pid" 0 "$ANN" 1
	chmod 0644 /etc/passwd
	is " allow" "$(shown u)"
	# It is in nobody's way to what is theirs.
	must as ann "$LIB/newuidmap" "$pid" 0 "$ANN" 1
	untarget
}
