# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

# What tests of newuidmap and newgidmap share: load helpers first. Users, made for
# the test, with entries of /etc/subuid and /etc/subgid like their lines:
#
#   ann   a line
#   ben   none
#   cat   two lines, the second with deny-setgroups
#   dan   one by number, with no-new-privs, which no namespace of theirs can hold
#
# u_ours, g_ours, u_shadow and g_shadow are the programs.

eval "helpers_$(declare -f setup)"

setup() {
	helpers_setup
	U=/run/hooks/users
	LIB=$U/libexec
	mkdir -p "$LIB"
	chmod 0755 /run/hooks "$U" "$LIB"
	cp "$USERNS" "$LIB/newuidmap"
	cp "$USERNS" "$LIB/newgidmap"
	setcap cap_setuid=p "$LIB/newuidmap"
	setcap cap_setgid=p "$LIB/newgidmap"
	u_ours=$LIB/newuidmap g_ours=$LIB/newgidmap
	u_shadow=/usr/bin/newuidmap g_shadow=/usr/bin/newgidmap
	local user
	for user in ann ben cat dan; do
		id "$user" >/dev/null 2>&1 || useradd -M -l -d "$U/$user" -s /bin/bash "$user"
		install -d -o "$user" -g "$user" -m 0700 "$U/$user"
	done
	ANN=$(id -u ann)
	BEN=$(id -u ben)
	DAN=$(id -u dan)
	CAT=$((START + COUNT)) # the first ID of cat's lines, which are apart
	DANS=$((START + 3 * COUNT))
	book "ann:$START:$COUNT:" "cat:$CAT:1000:size=1000" "cat:$((CAT + 2000)):1000:deny-setgroups,size=1000" "$DAN:$DANS:1000:no-new-privs,size=1000"
	printf '%s\n' "ann:$START:$COUNT" "cat:$CAT:1000" "cat:$((CAT + 2000)):1000" "$DAN:$DANS:1000" | tee /etc/subuid >/etc/subgid
	snapshot >"$W/.before"
}

# as USER COMMAND...
as() {
	local user=$1
	shift
	setpriv --reuid "$user" --regid "$user" --init-groups "$@"
}

# target USER [COMMAND...]: a process of theirs in a new user namespace. pid is its number.
target() {
	local user=$1
	shift
	setpriv --reuid "$user" --regid "$user" --init-groups "$@" unshare --user sleep 1000 </dev/null >/dev/null 2>&1 3>&- &
	pid=$!
	until [[ $(<"/proc/$pid/comm") == sleep ]]; do sleep 0.002; done
}

# untarget: ends it.
untarget() {
	kill -KILL "$pid"
	wait "$pid" 2>/dev/null || true
}

# shown SIDE: the map of the process, and its setgroups.
shown() { echo "$(tr -s ' ' <"/proc/$pid/${1}id_map" | sed 's/^ //' | paste -sd,) $(<"/proc/$pid/setgroups")"; }

# outcome WHICH USER SIDE ARGS...: the status of the program, and what it did to a new process, whose
# number stands for P in ARGS. What it said is in $W/.WHICH.
outcome() {
	local which=$1 user=$2 side=$3 cmd pid status=0
	shift 3
	target "$user"
	cmd=${side}_$which
	as "$user" "${!cmd}" "${@/#P/$pid}" </dev/null >"$W/.$which" 2>&1 3>&- || status=$?
	echo "$status $(shown "$side")"
	untarget
}

# same USER SIDE ARGS...: shadow's program and ours do the same, and end with the same status.
same() {
	is "$(outcome shadow "$@")" "$(outcome ours "$@")" "of $*: shadow's first: $(<"$W/.shadow"); ours: $(<"$W/.ours")"
}

# does OUTCOME USER SIDE ARGS...: as same, and this is what both do.
does() {
	local want=$1
	shift
	same "$@"
	is "$want" "$(outcome ours "$@")" "of $*: $(<"$W/.ours")"
}

# differs SHADOWS OURS USER SIDE ARGS...: what each of the two does. docs/newuidmap.md says why.
differs() {
	local shadows=$1 ours=$2
	shift 2
	is "$shadows" "$(outcome shadow "$@")" "shadow's, of $*: $(<"$W/.shadow")"
	is "$ours" "$(outcome ours "$@")" "ours, of $*: $(<"$W/.ours")"
}

# calls WHAT...: one of ours, of which output, errput and status are told by try. It says nothing
# on standard output, and when it fails why, by its name.
refuses() {
	local pattern=$1
	shift
	try "$@"
	is 1 "$status" "status of $*"
	is "" "$output" "standard output"
	has "$errput" "$pattern"
}
