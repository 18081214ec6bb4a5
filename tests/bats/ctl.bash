# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

# What the tests of usernsctl share: load helpers first.

eval "helpers_$(declare -f setup)"
eval "helpers_$(declare -f teardown)"

# What a test may change in /etc, beside the book.
ETC_FILES=(passwd group subuid subgid)

save_etc() {
	local file
	mkdir "$W/etc"
	for file in "${ETC_FILES[@]}"; do
		[[ ! -e /etc/$file ]] || cp -a "/etc/$file" "$W/etc/"
	done
}

restore_etc() {
	local file
	mount -o remount,rw /etc
	for file in "${ETC_FILES[@]}"; do
		rm -rf /etc/"${file:?}" /etc/"${file:?}-"
		[[ ! -e $W/etc/$file ]] || cp -a "$W/etc/$file" /etc/
	done
}

# A test begins without a book, and has the accounts of the machine.
setup() {
	helpers_setup
	rm -f "$BOOK" "$BOOK-"
	save_etc
}

teardown() {
	restore_etc
	helpers_teardown
}

ctl() { "$CTL" "$@"; }

# fails STATUS PATTERN ARGS...: the utility ends so, says so in lines of its own, and shows
# nothing on standard output.
fails() {
	ends "$1" "$2" ctl "${@:3}"
	is "" "$(grep -v '^usernsctl: ' "$W/.err")" "lines that don't begin with the program's name"
}

# refuses STATUS PATTERN ARGS...: it fails so, and the book is as it was.
refuses() {
	local before
	before=$(cat "$BOOK" /etc/usernamespaces.d/* 2>/dev/null || true)
	fails "$@"
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
