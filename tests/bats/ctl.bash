# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

# What the tests of usernsctl share: load helpers first.

eval "helpers_$(declare -f setup)"
eval "helpers_$(declare -f teardown)"

# A test begins without a book, and has the accounts of the machine.
setup() {
	helpers_setup
	rm -f "$BOOK" "$BOOK-"
	mkdir "$W/etc"
	local file
	for file in passwd group subuid subgid; do
		[[ ! -e /etc/$file ]] || cp -a "/etc/$file" "$W/etc/"
	done
}

teardown() {
	local file
	mount -o remount,rw /etc
	for file in passwd group subuid subgid; do
		rm -f "/etc/$file"
		[[ ! -e $W/etc/$file ]] || cp -a "$W/etc/$file" /etc/
	done
	helpers_teardown
}

ctl() { "$CTL" "$@"; }

# refuses STATUS PATTERN ARGS...: the utility ends so, says so in lines of its own, shows
# nothing on standard output, and the book is as it was.
refuses() {
	local want=$1 pattern=$2 before
	shift 2
	before=$(cat "$BOOK" /etc/usernamespaces.d/* 2>/dev/null || true)
	try ctl "$@"
	is "$want" "$status" "the status of: $*"
	is "" "$output" "standard output"
	has "$errput" "$pattern"
	is "" "$(grep -v '^usernsctl: ' "$W/.err")" "lines that don't begin with the program's name"
	is "$before" "$(cat "$BOOK" /etc/usernamespaces.d/* 2>/dev/null || true)" "the book, as before"
	is "" "$(find /etc -maxdepth 1 -name 'usernamespaces.*' ! -name usernamespaces.d)" "files left beside the book"
}

# hint TEXT: the last line of standard error is the command to try.
hint() { is "usernsctl: try: $1" "$(tail -n 1 <<<"$errput")" "the hint"; }

# lines: those of the book's own file.
lines() { grep -v '^#' "$BOOK" || true; }

# field FILTER: of what was shown as JSON.
field() { jq -r "$1" <<<"$output"; }

# map_foreign START COUNT: a process in a user namespace that maps these IDs, which no
# runtime has made. foreign is the process.
map_foreign() {
	unshare --user sleep 1000 </dev/null >/dev/null 2>&1 3>&- &
	foreign=$!
	eventually eval '[[ $(<"/proc/$foreign/comm") == sleep ]]'
	echo "0 $1 $2" >"/proc/$foreign/uid_map"
}

end_foreign() {
	kill -KILL "$foreign"
	reap "$foreign"
}
