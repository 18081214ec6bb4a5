# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

# What every file of tests loads. A test has
#
#   W      a directory of its own, which only root may enter
#   B      a bundle in it, not yet changed
#   CT     a container ID
#   START  the first ID of dockroot, who owns containers by default
#
# and calls `ours` and `plain`, which are userns-runtime and the runc behind it,
# each with a --root of its own. Where runc has an answer, it is what ours is
# compared with; no test holds a copy of it.

bats_require_minimum_version 1.5.0

START=1879048192
COUNT=65536
BOOK=/etc/usernamespaces
# Set by a test that means to change files in the bundle's root filesystem.
WRITES=

setup() {
	if [[ -z ${UR_SANDBOX:-} ]]; then
		echo "not in the sandbox: run bats without --jobs, and with setup_suite.bash beside the test" >&2
		return 1
	fi
	W=$BATS_TEST_TMPDIR
	B=$W/bundle
	CT=$UR_TAG-$BATS_TEST_NUMBER
	CONF=$W/config.toml
	AUDIT=$W/audit.jsonl
	LOG=$W/log.json
	STDIN=/dev/null
	WRITES=
	rm -rf /etc/usernamespaces /etc/usernamespaces.d /etc/userns-runtime
	book "dockroot:$START:$COUNT:"
	config
	setup_bundle "$B"
	for ROOT in plain ours; do mkdir "$W/$ROOT"; done
	ours_cmd=("$OURS" --config "$CONF" --root "$W/ours")
	plain_cmd=("$RUNC" --root "$W/plain")
	cd "$W" || return
	jobs -p >"$W/.jobs" # bats' own
	snapshot >"$W/.before"
}

# No test leaves anything, whether it passes or not; what a failed one left is
# cleaned up, for those after it.
teardown() {
	if [[ -z ${BATS_TEST_COMPLETED:-} || -n ${BATS_TEST_SKIPPED:-} ]]; then
		clean_up
		return
	fi
	local ok=0
	cd /
	invariants || ok=1
	clean_up
	return "$ok"
}

# --- the two runtimes

ours() { "${ours_cmd[@]}" "$@"; }
plain() { "${plain_cmd[@]}" "$@"; }

# try COMMAND...: runs it to its end, and tells. status, output and errput are
# what came out; STDIN is the file that goes in.
try() {
	status=0
	"$@" <"$STDIN" >"$W/.out" 2>"$W/.err" 3>&- || status=$?
	output=$(<"$W/.out")
	errput=$(<"$W/.err")
	printf '$ %s\n' "${*@Q}"
	printf '= %s\n' "$status"
	[[ -z $output ]] || printf '%s\n' "$output"
	[[ -z $errput ]] || printf '2> %s\n' "$errput"
}

# must COMMAND...: as try, and it has to succeed.
must() {
	try "$@"
	is 0 "$status" "the status of: $*"
}

# same ARGS...: both runtimes, called alike on the bundle, end with the same
# status and standard output. p_errput is runc's standard error.
same() {
	try plain "$@"
	local p_status=$status p_output=$output
	p_errput=$errput
	try ours "$@"
	is "$p_status" "$status" "status, runc's first"
	is "$p_output" "$output" "standard output, runc's first"
}

# same_errors: what runc and ours said last on standard error is the same, but
# for times, and the paths that differ because the roots do.
same_errors() {
	is "$(printf '%s\n' "$p_errput" | plainly)" "$(printf '%s\n' "$errput" | plainly)" "standard error, runc's first"
}

plainly() {
	sed -E -e 's/time="[^"]*"/time=T/' -e "s,$W/(plain|ours)\b,ROOT,g" \
		-e "s,(/run/userns-runtime/mnt|$B)/rootfs,ROOTFS,g" -e "s,$RUNC|$OURS,PROGRAM,g"
}

# by_script COMMAND...: it runs on a terminal of its own, and no shell waits for it there: that would be sent
# what is typed, too. script(1) starts one, which SHELL names, and not each does without (dash doesn't).
# That shell reads bash's quotes.
by_script() { SHELL=$BASH script -qec "exec ${*@Q}" /dev/null; }

# on_terminal COMMAND...: as try, on a terminal of its own. script(1) also
# shows the end of its own input, sooner or later; and lines end as the terminal was when they
# came through: raw, or not yet, or not any more.
on_terminal() {
	try by_script "$@"
	output=$(sed 's/\^[@D]//g; s/[\x08]//g; s/\r*$//' <<<"$output" | grep -v '^[[:space:]]*$' || true)
}

# spawn NAME RUNTIME ARGS...: starts ours or plain in the background. pid is the
# process; its output is in $W/NAME.out and .err. A shell starts what it puts in
# the background with SIGINT ignored, which env takes back.
spawn() {
	local name=$1 runtime=$2
	shift 2
	local -n cmd=${runtime}_cmd
	# What the one before it has said isn't taken for its own.
	: | tee "$W/$name.out" >"$W/$name.err"
	env --default-signal=INT,QUIT "${cmd[@]}" "$@" <"$STDIN" >"$W/$name.out" 2>"$W/$name.err" 3>&- &
	pid=$!
	printf '$ %s & # %s\n' "${*@Q}" "$pid"
}

# reap PID: waits for what was spawned; status is how it ended.
reap() {
	status=0
	wait "$1" || status=$?
	printf '= %s (%s)\n' "$status" "$1"
}

# eventually COMMAND...: it has to succeed within five seconds.
eventually() {
	local until=$((SECONDS + 5))
	while ((SECONDS <= until)); do
		"$@" >/dev/null 2>&1 && return
		sleep 0.05
	done
	echo "after 5 s still false: $*"
	return 1
}

# runs NAME PID: the process has become that program, and so done what the one before it was to do.
runs() { [[ $(<"/proc/$2/comm") == "$1" ]]; }

# ends STATUS PATTERN COMMAND...: it fails so, with that on standard error, and shows nothing on
# standard output.
ends() {
	local want=$1 pattern=$2
	shift 2
	try "$@"
	is "$want" "$status" "the status of: $*"
	is "" "$output" "standard output"
	has "$errput" "$pattern"
}

# install_utility PATH: `userns`, as make install does.
install_utility() {
	cp "$USERNS" "$1"
	setcap cap_setuid,cap_setgid=p "$1"
}

# --- the bundle

setup_bundle() { cp -a "$UR_TEMPLATE" "$1"; }

# update_config FILTER [jq's arguments...]: edits the config.json of B, in place,
# so that its mode stays.
update_config() {
	local filter=$1
	shift
	jq "$filter" "$@" <"$B/config.json" >"$W/.config.json"
	cat "$W/.config.json" >"$B/config.json"
	bundle_sum >"$W/.bundle"
}

# process COMMAND...: what the container runs.
process() { update_config '.process.args = $ARGS.positional' --args -- "$@"; }

shell() { process sh -c "$1"; }

# caps NAME...: what the container's processes have; runc spec gives little.
caps() {
	update_config '.process.capabilities |= map_values($ARGS.positional)' --args -- "$@"
}

# bundle_sum: everything about B: content and time of config.json, owners, modes,
# sizes of the rest. What a test has its container write doesn't count.
bundle_sum() {
	[[ -f $B/config.json ]] && sha256sum <"$B/config.json"
	if [[ -n $WRITES ]]; then
		find "$B" -path "$B/rootfs" -prune -o -printf '%p %y %m %U:%G %s %l %T@\n'
	else
		find "$B" -printf '%p %y %m %U:%G %s %l %T@\n'
	fi | sort
}

# --- the book and the configuration

# book LINE...: is the whole of it.
book() {
	rm -rf "$BOOK"
	printf '%s\n' "$@" >"$BOOK"
}

# room N: the book has place for N containers of dockroot, and no more. The first of them
# gets START: lines are filled in their order.
room() { book "dockroot:$START:$COUNT:" "dockroot:$((START + COUNT)):$((($1 - 1) * COUNT)):"; }

# config [LINE...]: replaces the configuration by the usual one with these lines
# before its tables. RUNTIMES and AUDIT_MODE may be set.
config() {
	{
		printf 'runtimes = [%s]\n' "${RUNTIMES:-\"$RUNC\"}"
		printf '%s\n' "$@"
		printf '[audit]\npath = "%s"\nmode = "%s"\n' "$AUDIT" "${AUDIT_MODE:-warn}"
	} >"$CONF"
}

# --- judgements

# is WANT GOT WHAT
is() {
	[[ $1 == "$2" ]] && return
	printf 'not the same: %s\n--- want\n%s\n--- got\n%s\n' "${3:-}" "$1" "$2"
	return 1
}

# has TEXT PATTERN: the text has a match of the extended regular expression.
has() {
	grep -qE -- "$2" <<<"$1" && return
	printf 'no match of %s in:\n%s\n' "$2" "$1"
	return 1
}

# maps_are MAP PID [GIDS]: the maps of the process, as inner:outer:count[,...].
maps_are() {
	is "$1" "$(awk '{print $1":"$2":"$3}' "/proc/$2/uid_map" | paste -sd,)" "UIDs of process $2"
	is "${3:-$1}" "$(awk '{print $1":"$2":"$3}' "/proc/$2/gid_map" | paste -sd,)" "GIDs of process $2"
}

# refused PATTERN ARGS...: ours refuses as an engine expects it: status 1,
# nothing on standard output, one line that matches on standard error, and
# exactly one object with level error and the same text in --log. Nothing is
# made, which teardown looks at.
refused() {
	local pattern=$1
	shift
	bundle_sum >"$W/.bundle"
	rm -f "$LOG"
	# With a limit, since a refusal may have to do with a FIFO.
	try timeout 20 "${ours_cmd[@]}" --log "$LOG" --log-format json "$@"
	is 1 "$status" status
	is "" "$output" "standard output"
	has "$errput" "$pattern"
	is 1 "$(wc -l <"$W/.err")" "lines on standard error"
	is 1 "$(jq -s length "$LOG")" "objects in --log"
	is 1 "$(wc -l <"$LOG")" "lines in --log"
	is error "$(jq -r .level "$LOG")" "level in --log"
	is "$errput" "$(jq -r .msg "$LOG")" "standard error, and msg in --log"
	jq -e '.time | test("^[0-9]{4}-[0-9]{2}-[0-9]{2}T")' "$LOG" >/dev/null
	is "" "$(ls -A "$W/ours")" "state"
	is "$(<"$W/.bundle")" "$(bundle_sum)" "the bundle, as before"
}

# audited FILTER: the last line of the audit file has it true.
audited() {
	tail -n 1 "$AUDIT" | jq -e "$1" >/dev/null && return
	echo "not true of the last audit line: $1"
	tail -n 1 "$AUDIT" | jq .
	return 1
}

# --- containers

# up RUNTIME [ARGS...]: a container CT that sleeps. init is its process. Both
# runtimes may have one at once, so each has a cgroup of its own.
up() {
	local runtime=$1
	shift
	update_config '.linux.cgroupsPath = $path | .process.args = ["sleep", "1000"]' --arg path "/$CT-$runtime"
	must "$runtime" run -d "$@" -b "$B" "$CT"
	init=$("$runtime" state "$CT" | jq .pid)
}

down() { must "$1" delete -f "${2:-$CT}"; }

status_of() { "$1" state "${2:-$CT}" | jq -r .status; }

is_status() { [[ $(status_of "$1" "${3:-$CT}") == "$2" ]]; }

# --- what has to be as before

# snapshot: the machine, as far as a runtime could leave something there.
snapshot() {
	echo "# mounts"
	awk '{$1 = $2 = ""; print}' /proc/self/mountinfo | sed 's/shared:[0-9]*//; s/master:[0-9]*//' | sort
	echo "# /run"
	find /run '(' -path /run/sandbox -o -path /run/hooks ')' -prune -o -printf '%p %y %m %U\n' | sort |
		grep -vE '^/run/userns-runtime( d 711 0|/owned d 711 0|/mnt d 711 0|/mnt/rootfs d 711 0|/runtimes d 711 0|/runtimes/[0-9a-f.-]+ l 777 0|/pins\.lock f 600 0|/leases d 700 0|/leases/boot l 777 0)$'
	echo "# cgroups"
	# Others come and go meanwhile.
	find /sys/fs/cgroup -type d -name "*$UR_TAG*" 2>/dev/null || true
	echo "# processes"
	# Without this shell, its copies (bats makes some that are no children of it), and the programs of
	# this very line, which may be ending, as bats' own watchdog of the test before may be.
	ps -eo pid=,ppid=,args= | awk -v self=$$ '
		{pid = $1; parent = $2; $1 = $2 = ""; of[pid] = parent; args[pid] = $0}
		END {
			for (pid in of)
				if (args[pid] != args[self] && !(of[pid] == self && args[pid] ~ /^ *([[]|(ps|awk|grep|sort) )|^ *sort$/))
					print args[pid]
		}' | grep -vE "[ /]bats-exec-test |^ *sleep ${BATS_TEST_TIMEOUT:-90}\$" | sort
	echo "# interfaces"
	ls /sys/class/net
}

# What runs in the foreground, or is killed, leaves an entry that has ended, for the
# next one to take away.
unchanged() {
	"$CTL" gc >/dev/null || return
	snapshot >"$W/.after"
	diff "$W/.before" "$W/.after" >"$W/.diff"
}

invariants() {
	if ! eventually unchanged; then
		echo "the machine isn't as it was (<), but so (>):"
		cat "$W/.diff"
		return 1
	fi
	is "" "$(find "$W/ours" "$W/plain" -mindepth 1)" "state left" || return
	if [[ -f $W/.bundle && -d $B ]]; then
		is "$(<"$W/.bundle")" "$(bundle_sum)" "the bundle, as before" || return
	fi
}

# clean_up ends what a failed test left. All processes of the PID namespace that
# aren't above this one are the test's.
clean_up() {
	local runtime id pid up=" $$ $BASHPID " at=$$
	cd /
	for runtime in ours plain; do
		for id in "$W/$runtime"/*/; do
			[[ -d $id ]] && "$RUNC" --root "$W/$runtime" delete -f "$(basename "$id")" >/dev/null 2>&1
		done
	done
	while ((at > 1)); do
		at=$(awk '/^PPid:/ {print $2}' "/proc/$at/status")
		up+="$at "
	done
	# Nor are bats' own: they ended the test if they saw each other go.
	while read -r pid; do
		up+="$pid $(ps --ppid "$pid" -o pid= | tr -d ' ') "
	done <"$W/.jobs"
	for pid in $(ps -eo pid=); do
		[[ $up == *" $pid "* ]] || kill -KILL "$pid" 2>/dev/null
	done
	remove_cgroups
	rm -rf /run/hooks
	"$CTL" gc >/dev/null || true
	return 0
}

# remove_cgroups: those of the tests, once what was in them has ended.
remove_cgroups() {
	eventually eval 'find /sys/fs/cgroup -depth -type d -name "*$UR_TAG*" -exec rmdir {} +' >/dev/null
}

# requires WORD...: skips the test, saying why, where this machine can't have
# it. A word that isn't known is an error in the test.
requires() {
	local word
	for word in "$@"; do
		case $word in
		root) ((EUID == 0)) || skip "needs root" ;;
		unprivileged-users)
			setpriv --reuid 12345 --regid 12345 --clear-groups unshare --user true 2>/dev/null ||
				skip "this kernel gives user namespaces to root only"
			;;
		map-auto)
			unshare --help | grep -q -e --map-auto || skip "unshare has no --map-auto (util-linux 2.38)"
			;;
		criu)
			# It hangs at times, on a kernel that it can't handle.
			local said
			said=$(timeout -k 1 10 criu check 2>&1) || skip "criu check: $(tail -n 1 <<<"${said:-it hangs}")"
			;;
		fuse)
			[[ -c /dev/fuse ]] && { command -v fuse-overlayfs || command -v bindfs; } >/dev/null ||
				skip "needs /dev/fuse and fuse-overlayfs or bindfs"
			;;
		bindfs)
			[[ -c /dev/fuse ]] && command -v bindfs >/dev/null || skip "needs /dev/fuse and bindfs"
			;;
		freezer) [[ -d /sys/fs/cgroup/freezer || -f /sys/fs/cgroup/cgroup.controllers ]] || skip "no freezer cgroup" ;;
		*)
			echo "requires: unknown word: $word"
			return 1
			;;
		esac
	done
}
