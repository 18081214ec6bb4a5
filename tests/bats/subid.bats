#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# import-subid and export-subid, with shadow's own tools and rootless Podman as judges.

load helpers

load ctl

ETC_FILES+=(shadow gshadow nsswitch.conf)

# A test begins without a book and without entries, and with the users ann and ben.
setup() {
	helpers_setup
	rm -f "$BOOK" "$BOOK-"
	save_etc
	# Where a user reaches the program, and has a directory of their own.
	U=/run/hooks/users
	mkdir -p "$U/bin"
	chmod 0755 /run/hooks "$U" "$U/bin"
	install -m 0755 "$CTL" "$U/bin/usernsctl"
	useradd -M -l -d "$U/ann" -s /bin/bash ann
	useradd -M -l -d "$U/ben" -s /bin/bash ben
	install -d -o ann -g ann -m 0700 "$U/ann" "$U/ann/run"
	ANN=$(id -u ann)
	BEN=$(id -u ben)
	rm -f /etc/sub?id /etc/sub?id-
	install -m 0644 /dev/null /etc/subuid
	install -m 0644 /dev/null /etc/subgid
}

teardown() {
	restore_etc
	rm -rf "$U" /etc/*.lock
	helpers_teardown
}

# as USER COMMAND...
as() {
	local user=$1
	shift
	cd "$U" || return # the test's own directory is root's alone
	setpriv --reuid "$user" --regid "$user" --init-groups env -u XDG_RUNTIME_DIR HOME="$U/$user" USER="$user" LOGNAME="$user" "$@"
}

both() { cat /etc/subuid /etc/subgid; }

# sub LINE...: the lines of both files.
sub() {
	printf '%s\n' "$@" >/etc/subuid
	printf '%s\n' "$@" >/etc/subgid
}

# refuses STATUS PATTERN ARGS...: it fails so, and the book and the files are as they were.
refuses() {
	local before
	before=$(both 2>/dev/null; cat "$BOOK" 2>/dev/null || true)
	fails "$@"
	is "$before" "$(both 2>/dev/null; cat "$BOOK" 2>/dev/null || true)" "the book and the files, as before"
	alone
}

# alone: nothing is left beside the files.
alone() {
	is "" "$(find /etc -maxdepth 1 '(' -name '*sub?id*' ! -name 'sub?id' ! -name 'sub?id-' -o -name 'usernamespaces.*' ! -name usernamespaces.d ')')" \
		"files left beside others"
}

# entries FILE: without comments.
entries() { grep -v '^#' "$1" || true; }

# of USER [-g]: what shadow says that they have, as START:COUNT.
of() { getsubids "${@:2}" "$1" | awk '{print $3":"$4}' | paste -sd,; }

@test "subid: odd arguments are named" {
	book "ann:$START:$COUNT:"
	refuses 2 'export-subid: owner: is empty' export-subid ''
	refuses 2 'import-subid: owner "a:b": holds' import-subid a:b
	refuses 2 'flag --dryrun: unknown: did you mean --dry-run\?' export-subid --dryrun
	refuses 2 'flag --owner: given twice' export-subid --owner a --owner b
	refuses 2 'import-subid: --flags: flag "resrved": unknown' import-subid --flags resrved
	refuses 1 'export-subid: owner "anm": has no line: did you mean ann\?' export-subid anm
	is "usernsctl: try: usernsctl export-subid ann" "$(tail -n 1 <<<"$errput")"
	refuses 1 'import-subid: owner "ann": has no entry in /etc/subuid' import-subid ann
	rm "$BOOK"
	refuses 1 'export-subid: book: .*there is no book' export-subid
}

@test "subid: for root alone, but for a dry run" {
	book "ann:$START:$COUNT:"
	try as ann "$U/bin/usernsctl" export-subid
	is 1 "$status"
	has "$errput" "^usernsctl: export-subid: needs root: you are UID $ANN$"
	has "$errput" '^usernsctl: try: sudo usernsctl export-subid$'
	try as ann "$U/bin/usernsctl" import-subid --dry-run
	is 1 "$status"
	has "$errput" 'import-subid: needs root'
	must as ann "$U/bin/usernsctl" export-subid --dry-run
	has "$output" "^added  ann    $START  $COUNT  /etc/subuid$"
	is "" "$(both)" "the files"
}

@test "subid: getsubids, newuidmap and the kernel agree with the book" {
	book "ann:$START:1000:size=1000" "$ANN:$((START + 70000)):1000:shared,size=1000" "$BEN:$((START + 200000)):$COUNT:"
	must ctl export-subid
	is "$START:1000,$((START + 70000)):1000" "$(of ann)"
	is "$START:1000,$((START + 70000)):1000" "$(of ann -g)"
	is "$((START + 200000)):$COUNT" "$(of ben)"
	is "0:  ann $START 1000" "$(getsubids ann | sed -n 1p | sed 's/: /:  /')"
	must ctl check
	# A real user maps them all, and not one more.
	as ann unshare --user sleep 1000 </dev/null >/dev/null 2>&1 3>&- &
	local job=$! pid
	eventually eval "pid=\$(pgrep -u ann -x sleep) && [[ \$(readlink /proc/\$pid/ns/user) != \$(readlink /proc/self/ns/user) ]]"
	pid=$(pgrep -u ann -x sleep)
	try as ann newuidmap "$pid" 0 "$ANN" 1 1 "$START" 1001
	is 1 "$status"
	try as ann newuidmap "$pid" 0 "$ANN" 1 1 "$((START + 200000))" 1
	is 1 "$status"
	must as ann newuidmap "$pid" 0 "$ANN" 1 1 "$START" 1000 1001 "$((START + 70000))" 1000
	must as ann newgidmap "$pid" 0 "$(id -g ann)" 1 1 "$START" 1000 1001 "$((START + 70000))" 1000
	maps_are "0:$ANN:1,1:$START:1000,1001:$((START + 70000)):1000" "$pid" "0:$(id -g ann):1,1:$START:1000,1001:$((START + 70000)):1000"
	# They stay with what is alive, and that is said.
	must ctl export-subid ben --undo
	is "" "$errput"
	must ctl set ann --start "$START" --length 2000
	must ctl export-subid
	is "" "$errput"
	must ctl export-subid ann --undo --dry-run
	has "$errput" "^usernsctl: warning: owner ann: process $pid is in a user namespace that has .$START-$((START + 1000))., .$((START + 70000))-$((START + 71000))., and keeps that until it ends: of Podman, as ann: podman system migrate$"
	kill -KILL "$pid"
	reap "$job"
	must ctl export-subid --undo
	is "" "$errput"
	is "" "$(both)" "the files"
	is "" "$(of ann)"
}

@test "subid: rootless Podman agrees with the book" {
	command -v podman >/dev/null || skip "podman isn't installed"
	book "ann:$START:$COUNT:"
	must ctl export-subid
	local pause=$U/ann/run/libpod/tmp/pause.pid
	try as ann env XDG_RUNTIME_DIR="$U/ann/run" podman --log-level error unshare cat /proc/self/uid_map /proc/self/gid_map
	# Podman keeps a process in the namespace.
	[[ ! -e $pause ]] || kill -KILL "$(<"$pause")"
	is 0 "$status"
	is "0:$ANN:1 1:$START:$COUNT 0:$(id -g ann):1 1:$START:$COUNT" "$(awk '{print $1":"$2":"$3}' <<<"$output" | paste -sd' ')" "Podman's maps"
}

@test "subid: what others wrote stays byte for byte, owner and mode too" {
	book "ann:$START:$COUNT:" "ben:$((START + COUNT)):$COUNT:"
	printf 'x:1000000:10\n\n# a comment\r\nmal:formed\n\t\n\033[31mred:1:\n\377\n:::\nlast:2000000:5' >/etc/subuid
	printf 'one line without an end' >/etc/subgid
	chmod 0640 /etc/subuid
	chown root:adm /etc/subuid
	setfattr -n user.kept -v yes /etc/subgid
	cp -a /etc/subuid /etc/subgid "$W/"
	must ctl export-subid
	is "$(LC_ALL=C sort "$W/subuid")" "$(LC_ALL=C grep -av -e "^# usernsctl" -e ":$COUNT$" /etc/subuid | LC_ALL=C sort)" "the lines of others"
	is "640 root adm" "$(stat -c '%a %U %G' /etc/subuid)"
	is "one line without an end" "$(tail -n 1 /etc/subgid)" "the last line"
	cp /etc/subuid "$W/exported"
	must ctl export-subid
	has "$output" '^kept   ann '
	cmp /etc/subuid "$W/exported"
	must ctl export-subid --undo
	has "$output" '^removed  ben '
	cmp /etc/subuid "$W/subuid"
	cmp /etc/subgid "$W/subgid"
	has "$(getfattr -d /etc/subgid 2>/dev/null)" 'user.kept="yes"'
	must ctl export-subid --undo --json
	is "[]" "$output"
	alone
	# What isn't there is made, readable to all.
	rm /etc/sub?id /etc/sub?id-
	must ctl export-subid
	is "644 644" "$(stat -c %a /etc/subuid /etc/subgid | paste -sd' ')"
}

@test "subid: one owner, dry run, JSON" {
	book "ann:$START:$COUNT:" "ben:$((START + COUNT)):$COUNT:"
	must ctl export-subid --dry-run
	is "" "$(both)" "the files after a dry run"
	must ctl export-subid "$BEN"
	is "ben:$((START + COUNT)):$COUNT" "$(entries /etc/subuid)"
	must ctl export-subid --owner ann --json
	is "[\"added\",\"ann\",$START,$COUNT,\"/etc/subuid\"]" "$(jq -c '.[0] | [.state, .owner, .start, .count, .file]' <<<"$output")"
	is 2 "$(jq length <<<"$output")"
	is 2 "$(entries /etc/subuid | wc -l)"
	must ctl del ann
	must ctl export-subid ann
	is "removed removed" "$(awk 'NR > 1 {print $1}' <<<"$output" | paste -sd' ')" "ann's entries"
	is "ben:$((START + COUNT)):$COUNT" "$(entries /etc/subuid)"
	must ctl export-subid ben --undo
	is "" "$(both)"
	# A book that can't be read keeps nobody from taking back.
	must ctl export-subid
	echo nonsense >>"$BOOK"
	refuses 1 'export-subid: book: .*nonsense' export-subid
	must ctl export-subid --undo
	is "" "$(both)"
}

@test "subid: what isn't exported is named" {
	book "ghost:$START:$COUNT:" "ann:$((START + COUNT)):$COUNT:deny-setgroups" "ann:$((START + 2 * COUNT)):$COUNT:no-new-privs,shared" \
		"4000000:$((START + 3 * COUNT)):$COUNT:" "ben:$((START + 4 * COUNT)):$COUNT:" "ben:$((START + 4 * COUNT)):1:reserved"
	must ctl export-subid
	is "ben:$((START + 4 * COUNT + 1)):$((COUNT - 1))" "$(entries /etc/subuid)"
	has "$errput" "^usernsctl: warning: $BOOK:1: owner ghost: has no account in /etc/passwd"
	has "$errput" "^usernsctl: warning: $BOOK:2: ann:.* has the flag deny-setgroups, which newuidmap and newgidmap don't enforce"
	has "$errput" "^usernsctl: warning: $BOOK:3: ann:.* has the flag no-new-privs, which"
	has "$errput" "^usernsctl: warning: $BOOK:4: owner 4000000: has no account"
	is 4 "$(wc -l <"$W/.err")" "warnings"
	refuses 1 'export-subid: .*deny-setgroups, which newuidmap' export-subid ann
	refuses 1 'export-subid: .*owner ghost: has no account' export-subid ghost
	# By name it is all or nothing.
	must ctl export-subid --undo
	refuses 1 'export-subid: .*owner ghost: has no account' export-subid ben ghost
	book "ben:$START:$COUNT:reserved"
	refuses 1 'export-subid: owner ben: has no line that grants anything' export-subid ben
	# A line that gets such a flag loses its entry.
	book "ben:$START:$COUNT:"
	must ctl export-subid
	book "ben:$START:$COUNT:deny-setgroups"
	must ctl export-subid ben
	is "" "$(both)"
	# An entry of others gets around the flag.
	sub "$BEN:$START:10"
	must ctl export-subid
	has "$errput" "warning: /etc/subgid:1: gives .* to $BEN without the flag deny-setgroups of $BOOK:1"
	# Where shadow asks another source, entries are of no use.
	echo 'subid: sss' >>/etc/nsswitch.conf
	must ctl export-subid
	has "$errput" 'warning: /etc/nsswitch.conf: subid: sss: shadow.s tools ask sss'
	# All are passed over: nothing to do.
	book "ghost:$START:$COUNT:"
	must ctl export-subid --json
	is "[]" "$output"
}

@test "subid: entries that the book doesn't give any more are said" {
	book "ann:$START:$COUNT:" "ben:$((START + COUNT)):$((2 * COUNT)):"
	must ctl export-subid
	must ctl check
	is "0 errors, 0 warnings" "$output"
	local gives="/etc/sub[ug]id:[0-9]+: gives .$START-$((START + COUNT)). to ann, as was exported, and the book doesn't by now: usernsctl export-subid ann\$"
	# One that is longer by now loses nobody anything.
	must ctl set ben --length "$((3 * COUNT))"
	is "" "$errput"
	must ctl set ann --flags deny-setgroups
	has "$errput" "^usernsctl: warning: $gives"
	is 2 "$(wc -l <"$W/.err")" "warnings"
	must ctl check
	has "$output" "^warning: $gives"
	must ctl check --json
	is "[\"/etc/subuid:2\",$START,$COUNT]" "$(jq -c '.[0] | [.where, .range.start, .range.count]' <<<"$output")"
	must ctl audit
	has "$output" "^warning: $gives"
	has "$output" '^0 errors, 2 warnings$'
	must ctl export-subid ann
	must ctl audit
	is "0 errors, 0 warnings" "$output"
	must ctl set ann --flags ''
	must ctl export-subid
	must ctl del ann
	has "$errput" "^usernsctl: warning: $gives"
	must ctl add ann --start "$START" --length "$COUNT" --flags no-new-privs
	has "$errput" "^usernsctl: warning: $gives"
	must ctl del ann
	# What usermod has cut is known still.
	usermod --del-subuids "$((START + 10))-$((START + 19))" ann
	must ctl audit
	has "$output" "^warning: /etc/subuid:.* gives .$((START + 20))-$((START + COUNT)). to ann, as was exported"
	must ctl export-subid
	is "" "$(of ann)$(of ann -g)"
	# A hole in what ben has by an entry.
	must ctl add ben --start "$((START + COUNT + 7))" --length 5 --flags reserved
	has "$errput" "gives .$((START + COUNT + 7))-$((START + COUNT + 12)). to ben, as was exported"
	must ctl export-subid --undo
	# What others wrote gets around a flag.
	must ctl set ben --start "$((START + COUNT))" --flags deny-setgroups
	is "" "$errput"
	echo "$BEN:0$(printf %o "$((START + 2 * COUNT))"):10" >/etc/subgid
	must ctl audit
	has "$output" "^warning: /etc/subgid:1: gives .* to $BEN without the flag deny-setgroups of $BOOK:[0-9]+: remove the entry, or the flag$"
}

@test "subid: owners whose IDs root's containers get" {
	mkdir -p /etc/userns-runtime
	local config=/etc/userns-runtime/config.toml
	[[ ! -e $config ]] || mv "$config" "$W/config.toml"
	printf 'default-owner = "ann"\n[[rule]]\nroot = "/run/docker"\nowner = "%s"\n' "$BEN" >"$config"
	useradd -M -l carl
	tee /etc/subuid /etc/subgid </dev/null
	book "ann:$START:$COUNT:" "ben:$((START + COUNT)):$COUNT:" "carl:$((START + 2 * COUNT)):$COUNT:"
	must ctl export-subid
	is "carl:$((START + 2 * COUNT)):$COUNT" "$(entries /etc/subuid)"
	has "$errput" "^usernsctl: warning: $BOOK:1: owner ann: root's containers get these IDs, by default-owner of $config, .*: usernsctl export-subid ann$"
	has "$errput" "^usernsctl: warning: $BOOK:2: owner ben: root's containers get these IDs, by \[\[rule\]\] of $config for /run/docker, .*: usernsctl export-subid ben$"
	is 2 "$(wc -l <"$W/.err")" "warnings"
	# By name they are, and then stay.
	must ctl export-subid "$ANN"
	has "$errput" "warning: $BOOK:1: owner ann: root's containers get the same IDs, by default-owner of $config: ann can signal"
	is 1 "$(wc -l <"$W/.err")" "warnings"
	must ctl set ann --length "$((COUNT - 1))" --flags size=1000
	must ctl export-subid
	is "carl:$((START + 2 * COUNT)):$COUNT ann:$START:$((COUNT - 1))" "$(entries /etc/subuid | paste -sd' ')"
	has "$errput" "warning: $BOOK:1: owner ann: root's containers get the same IDs"
	# A configuration that can't be read.
	echo nonsense >"$config"
	refuses 1 "export-subid: whom root's containers belong to isn't known: $config:1: " export-subid
	must ctl export-subid --undo
	rm "$config"
	[[ ! -e $W/config.toml ]] || mv "$W/config.toml" "$config"
}

@test "subid: root's containers in what is exported are named" {
	book "ann:$START:$((2 * COUNT)):" "ben:$((START + 2 * COUNT)):$COUNT:"
	update_config '.linux.cgroupsPath = $path | .process.args = ["sleep", "1000"]' --arg path "/$CT-ours"
	must "$OURS" --owner ann --config "$CONF" --root "$W/ours" run -d -b "$B" "$CT"
	local verb
	for verb in "--dry-run" "" "ann"; do
		# shellcheck disable=SC2086 # none is none
		must ctl export-subid $verb
		has "$errput" "^usernsctl: warning: owner ann: has by the entries the IDs of what root started, and can signal its processes: container $CT of $W/ours: give root's containers another owner$"
		is 1 "$(wc -l <"$W/.err")" "warnings"
	done
	must ctl export-subid ben
	is "" "$errput"
	must as ann "$U/bin/usernsctl" export-subid --dry-run
	is "" "$errput"
	must ctl export-subid --undo
	is "" "$errput"
	down ours
}

@test "subid: another name of a UID isn't exported" {
	useradd -M -l -o -u "$ANN" ann2
	tee /etc/subuid /etc/subgid </dev/null
	book "ann2:$START:$COUNT:" "ben:$((START + COUNT)):$COUNT:"
	must ctl export-subid
	has "$errput" "^usernsctl: warning: $BOOK:1: owner ann2: is another name of UID $ANN \(ann\), to whom newuidmap would give the IDs"
	is "ben:$((START + COUNT)):$COUNT" "$(entries /etc/subuid)"
	refuses 1 "export-subid: $BOOK:1: owner ann2: is another name" export-subid ann2
	userdel -f ann2 2>/dev/null || sed -i '/^ann2:/d' /etc/passwd
}

@test "subid: IDs of others are refused, with the place" {
	book "ann:$START:$COUNT:"
	printf '# one\nben:%s:1\n' "$((START + 5))" >/etc/subgid
	refuses 1 "export-subid: $BOOK:1: .* of ann belongs to ben by /etc/subgid:2" export-subid
	refuses 1 "belongs to ben by /etc/subgid:2" export-subid --dry-run
	# Octal to shadow, decimal to others: both are in the way.
	printf 'ben:0%o:10\n' "$START" >/etc/subgid
	refuses 1 "belongs to ben by /etc/subgid:1" export-subid
	# What strtoul(3) makes of a sign, and of a fourth field.
	local line
	for line in "+$START:10" "$START:+10" "-$(printf %u "-$START"):10" "$START:10:x"; do
		echo "ben:$line" >/etc/subgid
		is "$START:10" "$(of ben -g)" "$line, to shadow"
		refuses 1 "belongs to ben by /etc/subgid:1" export-subid
		try ctl check
		is 3 "$status"
		has "$output" "^warning: /etc/subgid:1: .*programs make different things of it: \\[$START-"
		has "$output" "^error: $BOOK:1: .* of ann belongs to ben by /etc/subgid:1"
	done
	: >/etc/subgid
	useradd -M -l -u "$((START + 9))" inside
	refuses 1 "$((START + 9)) of ann is the host's user inside" export-subid
	userdel inside
	book "ann:$START:$COUNT:" "ghost:$((START + 10)):$COUNT:"
	refuses 1 "belongs to ann .* too" export-subid
	book "ann:$START:$COUNT:"
	# The own entry, by UID, is no other's.
	sub "$ANN:$START:10"
	must ctl export-subid
	has "$output" "^present  ann +$START +10 +/etc/subuid:1$"
	is "$ANN:$START:10 ann:$((START + 10)):$((COUNT - 10))" "$(entries /etc/subuid | paste -sd' ')"
	must ctl check
	must ctl add ann
	must ctl export-subid
	must ctl check
}

@test "subid: files that aren't what they seem are refused" {
	book "ann:$START:$COUNT:"
	local verb
	for verb in export-subid import-subid; do
		printf 'ann:5:5\nb\0:1:1\n' >/etc/subgid
		refuses 1 '/etc/subgid:2: holds a NUL byte' "$verb"
		: >/etc/subgid
		chmod 0666 /etc/subuid
		refuses 1 '/etc/subuid: has mode 0666, writable by others' "$verb"
		chmod 0644 /etc/subuid
		mv /etc/subuid /etc/real
		ln -s real /etc/subuid
		refuses 1 '/etc/subuid: is a symbolic link' "$verb"
		rm /etc/subuid
		mkfifo /etc/subuid
		try timeout 20 "$CTL" "$verb"
		is 1 "$status"
		has "$errput" '/etc/subuid: '
		try timeout 20 "$CTL" check
		is 1 "$status"
		has "$errput" "check: .*/etc/subuid: isn't a regular file"
		rm /etc/subuid
		mv /etc/real /etc/subuid
	done
	ln -s /dev/null /etc/subuid.lock
	try ctl export-subid
	is 1 "$status"
	has "$errput" '/etc/subuid.lock: is a symbolic link'
	rm /etc/subuid.lock
	mount -o remount,ro /etc
	refuses 1 'export-subid: .*read-only file system' export-subid
	mount -o remount,rw /etc
	is "" "$(both)"
}

@test "subid: useradd, usermod and userdel keep what was exported" {
	book "ann:$START:$COUNT:" "ben:$((START + COUNT)):$COUNT:"
	printf '# theirs\nmalformed\n' >/etc/subuid
	must ctl export-subid
	# useradd sorts the file, and moves comments behind the entries.
	useradd -M carl
	usermod --add-subuids 5000000-5000099 --add-subgids 5000000-5000099 ann
	must ctl export-subid
	is "kept" "$(awk 'NR > 1 {print $1}' <<<"$output" | sort -u)"
	is "5000000:100,$START:$COUNT" "$(of ann | tr , '\n' | sort -n | paste -sd,)"
	# What usermod takes away of an entry comes back, as the book says.
	usermod --del-subuids "$((START + 10))-$((START + 19))" ann
	must ctl export-subid --dry-run
	must ctl export-subid
	has "$output" "^removed +ann +$START +10 +/etc/subuid$"
	has "$output" "^removed +ann +$((START + 20)) +$((COUNT - 20)) +/etc/subuid$"
	has "$output" "^added +ann +$START +$COUNT +/etc/subuid$"
	is "5000000:100,$START:$COUNT" "$(of ann | tr , '\n' | sort -n | paste -sd,)"
	# What it leaves is taken back as well, and only that.
	usermod --del-subuids "$((START + 10))-$((START + 19))" ann
	must ctl export-subid ann --undo
	is "5000000:100" "$(of ann)"
	must ctl export-subid
	# userdel takes all of a user's.
	userdel ben
	must ctl export-subid
	has "$errput" 'owner ben: has no account'
	is "" "$(grep ben /etc/subuid /etc/subgid)" "what is left of ben"
	must ctl export-subid --undo
	is "" "$(grep usernsctl /etc/subuid /etc/subgid)" "comments left"
	has "$(both)" '^# theirs$'
	has "$(both)" '^malformed$'
	has "$(both)" '^carl:'
	has "$(both)" '^ann:5000000:100$'
}

@test "subid: exports and usermod at once lose nothing" {
	local i pids=()
	{
		for i in {0..9}; do echo "ann:$((START + i * COUNT)):$COUNT:"; done
	} >"$BOOK"
	for i in {1..8}; do
		"$CTL" export-subid >"$W/out.$i" 2>&1 3>&- &
		pids+=($!)
		# shadow's own gives up where ours waits: once more, then.
		(until usermod --add-subuids "$((5000000 + i * 100))-$((5000049 + i * 100))" --add-subgids "$((5000000 + i * 100))-$((5000049 + i * 100))" ben; do :; done) \
			>"$W/mod.$i" 2>&1 3>&- &
		pids+=($!)
	done
	local pid
	for pid in "${pids[@]}"; do wait "$pid"; done
	cat "$W"/out.* "$W"/mod.*
	is "" "$(cat "$W"/mod.*)" "what usermod said"
	is "" "$(grep -h '^usernsctl:' "$W"/out.* || true)" "what failed"
	local file
	for file in /etc/subuid /etc/subgid; do
		is "ann:$START:$((10 * COUNT))" "$(grep '^ann' "$file")" "ann's entries in $file"
		is 8 "$(grep -c '^ben:' "$file")" "ben's entries in $file"
	done
	alone
}

@test "subid: it waits for a program that holds the accounts" {
	book "ann:$START:$COUNT:"
	printf '#!/bin/sh\necho >%q/there\nsleep 2\n' "$W" >"$W/editor"
	chmod +x "$W/editor"
	EDITOR=$W/editor vipw >/dev/null 2>&1 3>&- &
	local vipw=$!
	eventually test -e "$W/there"
	local before=$EPOCHREALTIME
	must ctl export-subid
	(((${EPOCHREALTIME/./} - ${before/./}) > 500000)) || is "a second or two" "${before} to $EPOCHREALTIME" "the time it waited"
	reap "$vipw"
	is 0 "$status"
	has "$(entries /etc/subuid)" '^ann:'
}

@test "subid: export is killed at random moments" {
	local seed=${UR_SEED:-$RANDOM} i met killed=0 half=0 uids gids
	echo "UR_SEED=$seed"
	RANDOM=$seed
	useradd -M -l carl
	sub "carl:5000000:10"
	cp /etc/subuid "$W/old"
	book "ann:$START:$COUNT:"
	must ctl export-subid
	cp /etc/subuid "$W/new"
	for ((i = 0; i < 80; i++)); do
		if ((i % 2)); then
			met=$("$UR_HELPERS/killafter" $((RANDOM % 10000)) "$CTL" export-subid </dev/null 2>&1 3>&-)
		else
			met=$("$UR_HELPERS/killafter" $((RANDOM % 10000)) "$CTL" export-subid --undo </dev/null 2>&1 3>&-)
		fi
		[[ ${met##*$'\n'} == "$CTL" ]] && killed=$((killed + 1))
		uids=$(<"/etc/subuid")
		gids=$(<"/etc/subgid")
		[[ $uids == "$(<"$W/old")" ]] || is "$(<"$W/new")" "$uids" "/etc/subuid, old or new"
		[[ $gids == "$(<"$W/old")" ]] || is "$(<"$W/new")" "$gids" "/etc/subgid, old or new"
		[[ $uids == "$gids" ]] || half=$((half + 1))
		# shadow's tools take over what is left.
		((i % 8)) || usermod --add-subuids 5000000-5000009 carl
	done
	echo "met alive: $killed of 80, between the two: $half"
	((killed > 0))
	usermod --add-subuids 5000000-5000009 --add-subgids 5000000-5000009 carl
	# As after one that was killed between the two.
	cat "$W/old" >/etc/subuid
	cat "$W/new" >/etc/subgid
	must ctl export-subid
	is "added kept" "$(awk 'NR > 1 {print $1}' <<<"$output" | paste -sd' ')"
	cmp /etc/subuid "$W/new"
	cmp /etc/subgid "$W/new"
	must ctl export-subid --undo
	cmp /etc/subuid "$W/old"
	alone
}

@test "subid: import makes lines of what both files give" {
	sub "# a comment" "ann:100000:$COUNT" "$BEN:200000:$COUNT"
	must ctl import-subid --dry-run
	has "$output" "^added  ann +100000 +$COUNT +/etc/subuid:2 +-$"
	is "" "$(find "$BOOK" 2>/dev/null)" "a book after a dry run"
	must ctl import-subid
	is "" "$errput"
	is "ann:100000:$COUNT: ben:200000:$COUNT:" "$(lines | paste -sd' ')"
	has "$output" "^added  ben +200000 +$COUNT +/etc/subuid:3 +$BOOK:5$"
	cp "$BOOK" "$W/book"
	must ctl import-subid --json
	cmp "$BOOK" "$W/book"
	is "present present" "$(jq -r '.[].state' <<<"$output" | paste -sd' ')"
	is "/etc/subuid:3 $BOOK:5" "$(jq -r '.[1] | .from + " " + .where' <<<"$output")"
	must ctl check
	# Then export changes nothing, down to the files' identity.
	local before
	before=$(both; stat -c '%i %y' /etc/subuid /etc/subgid)
	must ctl export-subid
	is present "$(awk 'NR > 1 {print $1}' <<<"$output" | sort -u)"
	is "$before" "$(both; stat -c '%i %y' /etc/subuid /etc/subgid)" "the files after an export"
	must ctl export-subid --undo
	is "$before" "$(both; stat -c '%i %y' /etc/subuid /etc/subgid)" "the files after an undo"
	must ctl add ann
}

@test "subid: import names what it leaves out" {
	{
		printf 'ann:100000:%s\n' "$COUNT"
		printf 'nobodys:300000:%s\n' "$COUNT"
		printf 'bad line \033[31m\n'
		printf 'ben:0600000:%s\n' "$COUNT"
		printf 'ben:500000:1000\n'
		printf 'ben:%s:5\n' "$ANN"
	} >/etc/subuid
	{
		printf 'ann:100000:%s\n' "$((COUNT + 10))"
		printf 'nobodys:300000:%s\n' "$COUNT"
		printf 'ben:500000:1000\n'
		printf 'ben:%s:5\n' "$ANN"
		printf 'ann:500999:1\n'
	} >/etc/subgid
	must ctl import-subid
	is "ann:100000:$COUNT:" "$(lines)"
	has "$errput" '^usernsctl: warning: /etc/subuid:3: "bad line \\x1b\[31m": is passed over'
	has "$errput" '^usernsctl: warning: /etc/subuid:4: "ben:0600000:65536": is passed over: expected USER:START:COUNT'
	has "$errput" '^usernsctl: warning: /etc/subuid:2: .* of nobodys: has no account in /etc/passwd: name it to import it all the same: usernsctl import-subid nobodys'
	has "$errput" '^usernsctl: warning: /etc/subuid:5: .* of ben: has 1000 IDs, fewer than the 65536 of one container: for smaller ones: usernsctl import-subid ben --flags .size=1000.$'
	has "$errput" '^usernsctl: warning: /etc/subgid:1: .165536-165546. of ann: /etc/subuid doesn.t give them'
	# By name it is all of it or nothing.
	refuses 1 'import-subid: /etc/subuid:5: .500000-501000. of ben: has 1000 IDs' import-subid ben
	refuses 1 'import-subid: /etc/subuid:5: .*500999-501000. of ben belongs to ann by /etc/subgid:5' import-subid ben --flags size=5
	has "$errput" "import-subid: /etc/subuid:6: .*$ANN of ben is the host's user ann"
	printf 'ben:5500000:10\n' | tee -a /etc/subgid >>/etc/subuid
	refuses 1 'import-subid: /etc/subuid:6: ' import-subid ben --flags size=5
	must ctl import-subid nobodys
	has "$(lines)" "^nobodys:300000:$COUNT:$"
	# Only in one of the files.
	echo "zoe:700000:$COUNT" >>/etc/subuid
	refuses 1 'import-subid: /etc/subuid:8: .* of zoe: /etc/subgid doesn.t give them' import-subid zoe
	refuses 1 'import-subid: owner "zou": has no entry in /etc/subuid: did you mean zoe\?' import-subid zou
}

@test "subid: import with flags, and beside what the book has" {
	sub "ann:100000:$COUNT" "ben:200000:1000" "ann:150000:20000" "ben:300000:$COUNT"
	book "$ANN:100000:50000:size=50000" "ben:300000:10:reserved" "greg:310000:$COUNT:"
	# An own line by UID is the same owner's; an entry that overlaps the one before counts once.
	must ctl import-subid ann --flags size=1000,no-new-privs
	is "ann:150000:15536:no-new-privs,size=1000 ann:165536:4464:no-new-privs,size=1000" "$(lines | tail -n +4 | paste -sd' ')"
	has "$errput" "warning: --flags no-new-privs: newuidmap and newgidmap don't enforce that"
	has "$errput" "warning: $BOOK:1: .*is there already, and keeps its flags: to give it others: usernsctl set $ANN --start 100000 --flags"
	must ctl import-subid --flags size=1000
	has "$(lines)" '^ben:200000:1000:size=1000$'
	has "$errput" "warning: /etc/subuid:4: .300000-300010. of ben: is reserved by $BOOK:2"
	has "$errput" "warning: /etc/subuid:4: .* of ben: .*belongs to .*greg"
	# Only kept clear of.
	book "x:$START:$COUNT:"
	must ctl import-subid ben --flags reserved
	is "ben:200000:1000:reserved ben:300000:$COUNT:reserved" "$(lines | tail -n +2 | paste -sd' ')"
	must ctl import-subid ben --flags reserved
	is 3 "$(lines | wc -l)"
}

@test "subid: import while the IDs are alive" {
	sub "ann:100000:$COUNT" "ben:200000:$COUNT"
	# ann's own namespace is no reason against it.
	as ann unshare --user sleep 1000 </dev/null >/dev/null 2>&1 3>&- &
	local job=$! pid foreign
	eventually eval "pid=\$(pgrep -u ann -x sleep) && [[ \$(readlink /proc/\$pid/ns/user) != \$(readlink /proc/self/ns/user) ]]"
	pid=$(pgrep -u ann -x sleep)
	must as ann newuidmap "$pid" 0 100000 "$COUNT"
	# root's over ben's IDs is.
	unshare --user sleep 1000 </dev/null >/dev/null 2>&1 3>&- &
	foreign=$!
	eventually runs sleep "$foreign"
	echo "0 200000 10" >"/proc/$foreign/uid_map"
	must ctl import-subid
	is "ann:100000:$COUNT:" "$(lines)"
	has "$errput" "warning: /etc/subuid:2: .* of ben: .200000-200010. is in use by process $foreign in a user namespace that isn't of ben"
	kill -KILL "$pid" "$foreign"
	reap "$job"
	reap "$foreign"
	must ctl import-subid ben
	is 2 "$(lines | wc -l)"
}

@test "subid: many entries that collide are left out, and soon" {
	local i before
	for i in {1..4000}; do
		echo "u$i:x:$((100000 + i)):100::/:/bin/sh" >&5
		echo "u$i:$((1000000 + i * COUNT)):$((COUNT + 1))"
	done 5>>/etc/passwd >/etc/subuid
	echo "ann:600000:$COUNT" >>/etc/subuid
	cp /etc/subuid /etc/subgid
	before=$SECONDS
	must ctl import-subid >/dev/null
	((SECONDS - before < 30)) || is "seconds" "$((SECONDS - before)) seconds" "the time it took"
	is "ann:600000:$COUNT:" "$(lines)"
	is 4000 "$(grep -c '^usernsctl: warning: .* of u[0-9]* belongs to u' "$W/.err")" "warnings of entries that collide"
	# Only rows without a reason against them are left.
	for i in {1..20000}; do echo "ben:$((300000000 + i * 16)):8"; done >/etc/subuid
	cp /etc/subuid /etc/subgid
	before=$SECONDS
	must ctl import-subid --flags size=8 >/dev/null
	((SECONDS - before < 60)) || is "seconds" "$((SECONDS - before)) seconds" "the time it took"
	is 20001 "$(lines | wc -l)"
}

@test "subid: what engines take by themselves becomes no grant" {
	sub "root:1000000:1000000000" "containers:1100000000:$COUNT" "ann:100000:$COUNT"
	must ctl import-subid
	is "ann:100000:$COUNT:" "$(lines)"
	has "$errput" "warning: /etc/subuid:1: .* of root: engines of root's take them for containers of their own, and ask nobody: to have them kept clear of: usernsctl import-subid root --flags reserved$"
	refuses 1 "import-subid: /etc/subuid:2: .* of containers: engines of root's" import-subid containers
	must ctl import-subid root containers --flags reserved
	is "root:1000000:1000000000:reserved" "$(lines | sed -n 2p)"
}

@test "subid: import while a container of root's has the IDs" {
	book "ann:$START:$COUNT:"
	update_config '.linux.cgroupsPath = $path | .process.args = ["sleep", "1000"]' --arg path "/$CT-ours"
	must "$OURS" --owner ann --config "$CONF" --root "$W/ours" run -d -b "$B" "$CT"
	must ctl del ann --force
	sub "ann:$START:$COUNT"
	must ctl import-subid
	is "" "$(lines)"
	has "$errput" "warning: /etc/subuid:1: .* of ann: .$START-$((START + COUNT)). is in use by container $CT of $W/ours"
	down ours
	must ctl import-subid ann
	is "ann:$START:$COUNT:" "$(lines)"
}

@test "subid: imports at once make each line once" {
	local i pids=()
	for i in {1..20}; do echo "u$i:$((1000000 + i * COUNT)):$COUNT"; done >/etc/subuid
	cp /etc/subuid /etc/subgid
	for i in {1..8}; do
		# shellcheck disable=SC2046 # names without spaces
		"$CTL" import-subid $(seq -f u%g 20) >"$W/out.$i" 2>&1 3>&- &
		pids+=($!)
	done
	local pid
	for pid in "${pids[@]}"; do wait "$pid"; done
	is "" "$(grep -h '^usernsctl:' "$W"/out.* || true)" "what failed"
	is 20 "$(lines | wc -l)"
	is "$(cut -d: -f1 /etc/subuid)" "$(lines | cut -d: -f1)"
}
