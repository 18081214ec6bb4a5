# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

# What the tests of `userns` share: load helpers first. Its callers are real users, made
# for the test in the sandbox's /etc:
#
#   ann   has a line of the book: the range of START
#   ben   has none
#   dora  has two
#   eve   has one by her number
#
# U is where they reach the programs, with a directory for each of them.

eval "helpers_$(declare -f setup)"
eval "helpers_$(declare -f teardown)"

setup() {
	helpers_setup
	users=(ann ben dora eve)
	U=/run/hooks/users
	mkdir -p "$U/bin"
	chmod 0755 /run/hooks "$U" "$U/bin"
	install_utility "$U/bin/userns"
	local user
	for user in "${users[@]}"; do
		useradd -M -l -d "$U/$user" -s /bin/bash "$user"
		install -d -o "$user" -g "$user" -m 0700 "$U/$user"
	done
	ANN=$(id -u ann)
	DORA=$((START + COUNT)) EVE=$((START + 4 * COUNT))
	book "ann:$START:$COUNT:" "dora:$DORA:1000:size=1000" "dora:$((DORA + COUNT)):2000:size=2000" "$(id -u eve):$EVE:$COUNT:"
	cd "$U" || return
	snapshot >"$W/.before"
}

teardown() {
	local user ok=0
	# First what they run: a user with a process can't be removed.
	helpers_teardown || ok=1
	for user in "${users[@]}"; do userdel "$user" >/dev/null 2>&1; done
	groupdel extra >/dev/null 2>&1
	return "$ok"
}

# as USER COMMAND...
as() {
	local user=$1
	shift
	setpriv --reuid "$user" --regid "$user" --init-groups env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME="$U/$user" LANG=C.UTF-8 "$@"
}

# userns USER ARGS...: what the user says to the utility.
userns() {
	local user=$1
	shift
	as "$user" "$U/bin/userns" "$@"
}

# says STATUS PATTERN USER ARGS...: the utility ends so, shows nothing, and says so in
# lines that begin with its name.
says() {
	ends "$1" "$2" userns "${@:3}"
	is "" "$(grep -v '^userns: ' "$W/.err")" "lines that don't begin with the program's name"
}

# background USER ARGS...: the utility, in the background. pid is its process, and
# child the one that it runs.
background() {
	local user=$1
	shift
	env --default-signal=INT,QUIT setpriv --reuid "$user" --regid "$user" --init-groups "$U/bin/userns" "$@" </dev/null >"$W/bg.out" 2>"$W/bg.err" 3>&- &
	pid=$!
	eventually runs_child
}

# runs_child: the child of pid has become another program.
runs_child() {
	child=$(pgrep -P "$pid")
	[[ -n $child && $(readlink "/proc/$pid/exe") == */userns && -n $(readlink "/proc/$child/exe") && $(readlink "/proc/$child/exe") != */userns ]]
}

# gone PID: it has ended, whether it was waited for or not.
gone() { is_state Z "$1" || [[ ! -e /proc/$1 ]]; }

# is_state LETTER PID
is_state() { grep -qs "^State:[[:space:]]$1" "/proc/$2/status"; }
