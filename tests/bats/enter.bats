#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# `userns enter` and `userns list`, by users without privileges: of containers under a grant with
# the flag owned, by PID, by name; and what a container, or somebody else, can do about it.

load helpers

setup_file() {
	useradd -M -l -s /bin/bash ann
	useradd -M -l -s /bin/bash ben
	groupadd secret
	groupadd staff2
	usermod -G secret,staff2 ann
}

eval "$(declare -f setup | sed '1s/setup/load_setup/')"
setup() {
	load_setup
	U=/run/hooks/users
	mkdir -p "$U"
	chmod 0755 /run/hooks "$U"
	install_utility "$U/userns"
	USERNS=$U/userns
	install -d -o ann -m 0700 "$U/ann"
	install -d -o ben -m 0700 "$U/ben"
	ANN=$(id -u ann)
	book "ann:$START:$COUNT:owned"
	ours_cmd=("$OURS" --owner ann --config "$CONF" --root "$W/ours")
	update_config 'del(.process.rlimits)'
	snapshot >"$W/.before"
}

as() {
	local user=$1
	shift
	setpriv --reuid "$user" --regid "$user" --init-groups -- "$@"
}

enter() { as ann "$USERNS" enter "$@"; }

# denied PATTERN: the last command was refused, in lines of ours, and nothing ran.
denied() {
	is 1 "$status" status
	is "" "$output" "standard output"
	is "" "$(grep -v '^userns: ' "$W/.err")" "lines of others"
	has "$errput" "$1"
}

@test "enter: a container by its ID, as root inside, with its namespaces and nothing of the host" {
	up ours
	local probe='id -u; id -g; readlink /proc/self/ns/mnt; pwd; env | sort | cut -d= -f1 | paste -sd,; ls /proc/self/fd; echo $$'
	must enter "$CT" -- sh -c "$probe"
	is 0 "$(sed -n 1p <<<"$output")" UID
	is 0 "$(sed -n 2p <<<"$output")" GID
	is "$(readlink "/proc/$init/ns/mnt")" "$(sed -n 3p <<<"$output")"
	is / "$(sed -n 4p <<<"$output")"
	is "HOME,PATH,PWD,SHLVL" "$(sed -n 5p <<<"$output" | sed 's/,_$//; s/OLDPWD,//')" environment
	is $'0\n1\n2\n3' "$(sed -n '6,9p' <<<"$output")" "descriptors, with the one of ls"
	local ns
	for ns in user mnt pid net ipc uts cgroup; do
		must enter "$CT" readlink "/proc/self/ns/$ns"
		is "$(readlink "/proc/$init/ns/$ns")" "$output"
	done
	down ours
}

@test "enter: seen from the host it has the IDs of the range, and no groups" {
	up ours
	as ann "$USERNS" enter "$CT" -- sleep 1001 <"$STDIN" >/dev/null 2>&1 3>&- &
	local parent=$! pid
	inside() { pid=$(pgrep -f '^sleep 1001$'); }
	eventually inside
	inside
	is "$START $START $START $START" "$(awk '/^Uid:/ {print $2, $3, $4, $5}' "/proc/$pid/status")" UIDs
	is "$START $START $START $START" "$(awk '/^Gid:/ {print $2, $3, $4, $5}' "/proc/$pid/status")" GIDs
	is "" "$(awk '/^Groups:/ {$1 = ""; print $0}' "/proc/$pid/status" | tr -d ' ')" groups
	is "$(readlink "/proc/$init/ns/user")" "$(readlink "/proc/$pid/ns/user")"
	is "$init" "$(nsenter -t "$init" -p -m -- cat /proc/1/status | awk -v i="$init" '/^NSpid:/ {print i}')"
	# Who waits for it has given away what the file's capabilities are.
	is "0000000000000000 0000000000000000" "$(awk '/^Cap(Prm|Eff):/ {print $2}' "/proc/$(pgrep -f "^$USERNS enter")/status" | paste -sd' ')" capabilities
	# It ends with its parent, however that ends.
	kill -KILL "$(pgrep -f "^$USERNS enter")"
	gone() { ! pgrep -f '^sleep 1001$'; }
	eventually gone
	wait "$parent" || true
	down ours
}

@test "enter: without groups too where setgroups is denied, and without file capabilities if it may" {
	book "ann:$START:$COUNT:owned,deny-setgroups"
	up ours
	must enter "$CT" cat /proc/self/status
	has "$output" '^Groups:[[:space:]]*$'
	setcap -r "$USERNS"
	try enter "$CT" true
	denied "your supplementary groups would come along, since setgroups is denied inside: .* runs without cap_setgid: its file has no capabilities: have root run: setcap cap_setgid=p"
	# Who has none has none to lose.
	must setpriv --reuid ann --regid ann --clear-groups "$USERNS" enter "$CT" true
	down ours
	book "ann:$START:$COUNT:owned"
	up ours
	must enter "$CT" cat /proc/self/status
	has "$output" '^Groups:[[:space:]]*$'
	down ours
}

@test "enter: by PID, and by the beginning of an ID; exit codes and signals are the program's" {
	up ours
	must enter "$init" id -u
	is 0 "$output"
	must enter "pid:$init" true
	must enter "id:$CT" true
	must enter "${CT%-*}" true
	try enter "$CT" sh -c 'exit 7'
	is 7 "$status"
	try enter "$CT" sh -c 'kill -TERM $$'
	is 143 "$status"
	try enter "$CT" /no/such
	is 127 "$status"
	has "$errput" '^userns: enter: /no/such: can.t be executed: no such file'
	try enter "$CT" /etc/passwd
	is 126 "$status"
	must enter -S 1000 -G 1000 -w /tmp "$CT" -- sh -c 'id -u; id -g; pwd; grep CapEff /proc/self/status'
	is "$(printf '1000\n1000\n/tmp\nCapEff:\t0000000000000000')" "$output"
	try enter -S 65536 "$CT" true
	denied "--setuid 65536: the namespace has no such UID: it has UIDs 0:$START:65536"
	must env SECRET=x FOO=bar setpriv --reuid ann --regid ann --init-groups "$USERNS" enter -e FOO -e BAZ=1 "$CT" env
	is "BAZ=1 FOO=bar" "$(grep -E 'FOO|BAZ|SECRET' <<<"$output" | sort | paste -sd' ')"
	# Signals reach it.
	as ann "$USERNS" enter "$CT" -- sh -c 'trap "exit 9" TERM; echo ready; while :; do sleep 0.1; done' <"$STDIN" >"$W/heard" 2>&1 3>&- &
	local job=$!
	eventually grep -q ready "$W/heard"
	kill -TERM "$(pgrep -f "^$USERNS enter")"
	status=0
	wait "$job" || status=$?
	is 9 "$status"
	down ours
}

@test "enter: list shows grants, containers and namespaces; others see their own only" {
	up ours
	must as ann "$USERNS" list --json
	is "$(jq -nc --arg b "$BOOK:1" --arg m "$START:$COUNT" --arg ct "$CT" --arg r "$W/ours" --argjson pid "$init" \
		'[{kind: "grant", name: $b, uids: $m, flags: "owned"}, {kind: "container", name: $ct, uids: "0:\($m)", flags: null, pid: $pid, root: $r}]' |
		jq -c '[.[] | [.kind, .name, .uids, .flags, .pid, .root]]')" \
		"$(jq -c '[.[] | [.kind, .name, .uids, .flags, .pid, .root]]' <<<"$output")"
	must as ann "$USERNS" list
	has "$output" "^container +$CT +0:$START:65536 +0:$START:65536 +- +$init +$W/ours"
	must as ben "$USERNS" list --json
	is '[]' "$output"
	must as ben "$USERNS" list
	is '' "$output"
	# One that isn't running is there, and says so; one that is deleted isn't.
	kill -KILL "$init"
	stopped() { is_status ours stopped; }
	eventually stopped
	must as ann "$USERNS" list --json
	is "no process runs in it: start it first" "$(jq -r '.[1].error' <<<"$output")"
	try enter "$CT" true
	denied "container $CT: no process runs in it"
	down ours
	must as ann "$USERNS" list --json
	is 1 "$(jq length <<<"$output")"
	# A namespace of their own making.
	as ann unshare --user --map-root-user sleep 1002 </dev/null >/dev/null 2>&1 3>&- &
	local job=$! pid
	own() { pid=$(pgrep -f '^sleep 1002$') && [[ $(readlink "/proc/$pid/ns/user") != "$(readlink /proc/self/ns/user)" ]]; }
	eventually own
	own
	must as ann "$USERNS" list --json
	is "[\"namespace\",$pid,\"0:$ANN:1\"]" "$(jq -c '.[1] | [.kind, .pid, .uids]' <<<"$output")"
	kill "$pid"
	wait "$job" || true
}

@test "enter: somebody else's, the host's, root's, one's own, and what isn't there are refused" {
	up ours
	try as ben "$USERNS" enter "$init" true
	denied "process $init: not the caller's"
	try as ben "$USERNS" enter "$CT" true
	denied "there is no pin, container or process of that name that is yours"
	try as ben "$USERNS" enter "id:$CT" true
	denied "there is no pin"
	# Root may look into it, and owns it no more than others.
	try "$USERNS" enter "$init" true
	denied "process $init: not the caller's: its user namespace belongs to UID $ANN"
	try enter 1 true
	denied "process 1: not the caller's"
	try enter "$$" true
	denied "process $$: not the caller's"
	sleep 1003 3>&- &
	local root_sleep=$!
	try enter "$root_sleep" true
	denied "not the caller's"
	kill "$root_sleep"
	as ann sleep 1004 3>&- &
	local own
	own_up() { own=$(pgrep -f '^sleep 1004$'); }
	eventually own_up
	own_up
	try enter "$own" true
	denied "it is in the caller's own user namespace: there is nothing to be entered"
	kill "$own"
	try enter 4194305 true
	denied "process 4194305: there is none"
	local bad
	for bad in 0 -1 +1 01 ' 1' 99999999999999999999 0x1 ../1 /proc/1 '' pin: id:; do
		try enter -- "$bad" true
		denied '(there is no pin, container or process of that name|name "": expected)'
	done
	try enter pid:x true
	denied 'expected the number of a process, such as pid:1234'
	try enter
	denied 'what is to be entered is missing'
	down ours
	# Without the flag it is root's.
	book "ann:$START:$COUNT:"
	up ours
	try enter "$init" true
	denied "process $init: not the caller's"
	try enter "$CT" true
	denied "containers are only under a grant with the flag owned"
	down ours
}

@test "enter: a namespace nested in one's own is refused, whoever made it" {
	up ours
	as ann "$USERNS" enter "$CT" -- busybox unshare -U sleep 1005 <"$STDIN" >/dev/null 2>"$W/nested.err" 3>&- &
	local job=$! nested
	nested_up() { nested=$(pgrep -f '^sleep 1005$') && [[ $(readlink "/proc/$nested/ns/user") != "$(readlink "/proc/$init/ns/user")" ]]; }
	eventually nested_up
	nested_up
	try enter "$nested" true
	denied "its user namespace doesn't lie directly in the caller's own: ask from the one in between"
	kill "$nested"
	wait "$job" || true
	down ours
}

@test "enter: a name that could be two things is refused" {
	local second=$CT
	# A container whose ID is a number.
	CT=4242
	up ours
	try enter 4242 true
	denied '"4242": it is pid:4242, and id:4242 \(of .*\): say which one'
	must enter id:4242 id -u
	is 0 "$output"
	down ours
	CT=$second
}

@test "enter: two containers of one user namespace aren't taken for each other" {
	up ours
	local first=$init second
	update_config --arg p "/proc/$init/ns/ipc" '(.linux.namespaces[] | select(.type == "ipc")).path = $p | .linux.cgroupsPath += "-2"'
	must ours run -d -b "$B" "$CT-2"
	second=$(ours state "$CT-2" | jq .pid)
	must enter "$CT-2" readlink /proc/self/ns/pid
	is "$(readlink "/proc/$second/ns/pid")" "$output"
	must enter "id:$CT" readlink /proc/self/ns/pid
	is "$(readlink "/proc/$first/ns/pid")" "$output"
	down ours "$CT-2"
	down ours
}

@test "enter: a network namespace of the host's account is left out, or refused by name" {
	ip netns add n1 2>/dev/null || skip "no ip netns here"
	update_config '(.linux.namespaces[] | select(.type == "network")).path = "/run/netns/n1"'
	up ours
	try enter "$CT" true
	denied "its net namespace belongs to another user namespace than the process is in, which isn't entered: leave it out: --without net"
	must enter --without net "$CT" readlink /proc/self/ns/net
	is "$(readlink /proc/self/ns/net)" "$output"
	try enter --without user "$CT" true
	denied '--without "user": expected cgroup, ipc, uts, net, pid, mnt, time'
	down ours
	ip netns del n1
	rmdir /run/netns 2>/dev/null || umount /run/netns && rmdir /run/netns
}

# --- what a container does about it

@test "enter: a container that looks into whoever enters it sees nothing of the host's" {
	local i snoop
	WRITES=1
	install -m 0755 "$UR_HELPERS/snoop" "$B/rootfs/bin/snoop"
	update_config 'del(.linux.seccomp)'
	caps CAP_SYS_PTRACE CAP_DAC_READ_SEARCH CAP_DAC_OVERRIDE CAP_SYS_ADMIN CAP_KILL
	up ours
	ours exec "$CT" snoop >"$W/snooped" 2>&1 </dev/null 3>&- &
	snoop=$!
	eventually grep -q ready "$W/snooped"
	for i in {1..15}; do
		must as ann timeout -s KILL 10 env SECRET=of-ann "$USERNS" enter "$CT" true
	done
	is "" "$(grep -E 'of-ann|/run/hooks|userns' "$W/snooped")" "what is the caller's"
	grep -q 'traced /bin/busybox' "$W/snooped" # what they run there it can
	# It takes over who doesn't take care.
	seen() {
		as ann timeout -s KILL 5 \
			nsenter --target "$init" --user --mount --pid --preserve-credentials -- sleep 0.2 </dev/null
		grep -q 'traced .*/nsenter$' "$W/snooped"
	}
	eventually seen
	kill -KILL "$(pgrep -x snoop)"
	wait "$snoop" || true
	down ours
}

@test "enter: a host where processes that change their credentials can be traced is refused" {
	local was
	was=$(</proc/sys/fs/suid_dumpable)
	up ours
	echo 1 >/proc/sys/fs/suid_dumpable 2>/dev/null || skip "fs.suid_dumpable can't be written here"
	try enter "$CT" true
	echo "$was" >/proc/sys/fs/suid_dumpable
	denied 'fs.suid_dumpable is 1, .*sysctl -w fs.suid_dumpable=0'
	down ours
}

@test "enter: a container that stops, or kills, who enters it holds nobody up" {
	# All that appears in there is stopped at once, or killed.
	update_config 'del(.linux.seccomp)'
	caps CAP_KILL
	local signal job
	for signal in STOP KILL; do
		up ours
		ours exec "$CT" sh -c 'while :; do for p in /proc/[0-9]*; do p=${p#/proc/}; [ "$p" -le 1 ] || [ "$p" = $$ ] || kill -'"$signal"' "$p"; done; done' <"$STDIN" >/dev/null 2>&1 3>&- &
		job=$!
		local i
		for i in {1..4}; do
			try as ann timeout -s TERM -k 3 2 "$USERNS" enter "$CT" sleep 1
			# Stopped too it ends with userns, who was told to.
			[[ $status != 137 || $signal == KILL ]] || return
		done
		gone() { ! pgrep -x userns && ! pgrep -f '^sleep 1$'; }
		down ours
		wait "$job" || true
		eventually gone
	done
}

@test "enter: a container that ends at that very moment is said to have" {
	command -v strace >/dev/null || skip "strace isn't installed"
	up ours
	# A third of a second for each namespace, all of which are held by then.
	setpriv --reuid ann --regid ann --clear-groups -- strace -o /dev/null -f -e trace=setns -e inject=setns:delay_enter=300000 \
		"$USERNS" enter "$CT" true <"$STDIN" >/dev/null 2>"$W/.err" 3>&- &
	local job=$!
	on_its_way() { pgrep -P "$(pgrep -P "$job" -x userns)"; }
	eventually on_its_way
	kill -KILL "$init"
	reap "$job"
	is 1 "$status"
	has "$(<"$W/.err")" '^userns: enter: clone: .*: the first process of its PID namespace has ended'
	down ours
}

@test "enter: whoever was stopped on the way in ends with userns" {
	command -v strace >/dev/null || skip "strace isn't installed"
	up ours
	local call tracer parent pid
	local ann=(setpriv --reuid ann --regid ann --clear-groups --)
	# Somebody in the container may do so at any moment from the first on.
	for call in setns setsid chdir setresgid; do
		"${ann[@]}" strace -o /dev/null -f -e trace="$call" -e inject="$call":signal=STOP "$USERNS" enter "$CT" sleep 1012 <"$STDIN" >/dev/null 2>&1 3>&- &
		tracer=$!
		stopped() {
			parent=$(pgrep -P "$tracer" -x userns) && pid=$(ps -o pid=,stat= --ppid "$parent" | awk '$2 ~ /^[Tt]/ {print $1}') && [[ -n $pid ]]
		}
		eventually stopped
		stopped
		# Whoever has entered isn't traced any more, and stays as it is.
		kill -KILL "$tracer"
		reap "$tracer"
		eventually grep -q 'State:.T (stopped)' "/proc/$pid/status"
		kill -TERM "$parent"
		ended() { [[ ! -e /proc/$pid || $(ps -o stat= -p "$pid") == Z* ]]; }
		eventually ended || { kill -KILL "$pid"; return 1; }
	done
	down ours
}

@test "enter: a program that stops itself, without a terminal, doesn't stop who has entered" {
	up ours
	local parent pid
	as ann "$USERNS" enter "$CT" -- sh -c 'kill -STOP $$; exec sleep 1011' <"$STDIN" >/dev/null 2>&1 3>&- &
	local job=$!
	stopped() {
		parent=$(pgrep -f "^$USERNS enter") && pid=$(pgrep -P "$parent") && [[ $(ps -o stat= -p "$pid") == T* ]]
	}
	eventually stopped
	stopped
	# It is told of that a little later, if at all.
	sleep 0.3
	has "$(ps -o stat= -p "$parent")" '^S'
	kill -TERM "$parent"
	reap "$job"
	is 143 "$status"
	eventually eval '! kill -0 "$pid"'
	down ours
}

@test "enter: a container that traces the program, and keeps its end to itself, holds nobody up" {
	WRITES=1
	install -m 0755 "$UR_HELPERS/snoop" "$B/rootfs/bin/snoop"
	update_config 'del(.linux.seccomp)'
	caps CAP_SYS_PTRACE
	up ours
	ours exec "$CT" snoop sleep >"$W/snooped" 2>&1 </dev/null 3>&- &
	local snoop=$!
	eventually grep -q ready "$W/snooped"
	try as ann timeout -s KILL 20 "$USERNS" enter "$CT" sleep 2
	grep -q 'traced sleep' "$W/snooped"
	denied 'enter: the program has ended, and whoever traces it keeps its exit code'
	kill -KILL "$(pgrep -x snoop)"
	wait "$snoop" || true
	down ours
}

@test "enter: a name of the container's leads to nothing that the caller has open" {
	local fd
	WRITES=1
	mkdir "$B/rootfs/ways"
	for fd in {3..40}; do
		ln -s "/proc/self/fd/$fd" "$B/rootfs/ways/$fd"
		ln -s "/proc/self/fd/$fd" "$B/rootfs/bin/way$fd"
	done
	cp /bin/true "$U/true"
	up ours
	# Those of the caller's too, one of them a program.
	for fd in {3..40}; do
		try bash -c 'exec 27</etc 28<"$1"; shift; exec "$@"' - "$U/true" \
			setpriv --reuid ann --regid ann --init-groups -- "$USERNS" enter -w "/ways/$fd" "$CT" -- ls -a . ..
		denied "chdir\(/ways/$fd\): (no such file or directory|not a directory)"
		try bash -c 'exec 27</etc 28<"$1"; shift; exec "$@"' - "$U/true" \
			setpriv --reuid ann --regid ann --init-groups -- "$USERNS" enter "$CT" -- "way$fd"
		((status == 126 || status == 127)) || return
	done
	down ours
}

@test "enter: keys of the caller's session stay outside" {
	WRITES=1
	install -m 0755 "$UR_HELPERS/sessionkey" "$B/rootfs/bin/sessionkey"
	install -m 0755 "$UR_HELPERS/sessionkey" "$U/sessionkey"
	try as ann "$U/sessionkey" put of-ann "$U/sessionkey" get
	[[ $status == 0 && $output == of-ann ]] || skip "no keyrings here: $errput"
	up ours
	try as ann "$U/sessionkey" put of-ann "$USERNS" enter "$CT" -- sessionkey get
	is 1 "$status"
	is "" "$output"
	has "$errput" 'KEYCTL_READ.*permission denied'
	down ours
}

@test "enter: a terminal of its own: TIOCSTI, /dev/tty and the settings of the caller's are out of reach" {
	WRITES=1
	install -m 0755 "$UR_HELPERS/tiocsti" "$B/rootfs/bin/tiocsti"
	up ours
	cat >"$U/session" <<-EOF
		stty rows 33 cols 77
		before=\$(stty -g)
		echo "outer \$(stat -Lc %t:%T /proc/self/fd/0)"
		setpriv --reuid ann --regid ann --init-groups -- $USERNS enter $CT -- sh -c '
			test -t 0 && test -t 1 && test -t 2 && echo terminals
			echo "inner \$(stat -Lc %t:%T /proc/self/fd/0)"
			echo "size \$(stty size)"
			tiocsti "typed-by-the-container
		"
			exit 5'
		echo "status \$?"
		[[ \$before == "\$(stty -g)" ]] && echo same-settings
		read -r -t 1 line
		echo "read <\$line>"
	EOF
	chmod 0755 "$U/session"
	on_terminal bash "$U/session"
	has "$output" '^terminals'
	has "$output" '^size 33 77'
	has "$output" '^status 5'
	has "$output" '^same-settings'
	has "$output" '^read <>'
	local outer inner
	outer=$(tr -d '\r' <<<"$output" | awk '/^outer/ {print $2}')
	inner=$(tr -d '\r' <<<"$output" | awk '/^inner/ {print $2}')
	[[ -n $outer && -n $inner && $outer != "$inner" ]] || return
	down ours
	# On the terminal itself it would have been typed, if this kernel lets anybody.
	printf '%s typed; read -r -t 1 line; echo "read <$line>"\n' "$UR_HELPERS/tiocsti" >"$U/session"
	on_terminal bash "$U/session"
	echo "of the caller's own, for comparison: $(grep read <<<"$output")"
}

# at_terminal: a shell with job control of ann's on a terminal, which does what standard input says.
at_terminal() {
	command -v python3 >/dev/null || skip "python3 isn't installed"
	STDIN=$W/steps
	cat >"$STDIN"
	must as ann env PS1='ann> ' python3 "$UR_BATS_DIR/terminal.py" bash --norc --noprofile --noediting -i
	STDIN=/dev/null
}

@test "enter: on a terminal Ctrl-C, Ctrl-Z, jobs, the size and the exit code are the program's" {
	up ours
	local reads="until pgrep -U $START -x cat; do sleep 0.1; done"
	at_terminal <<-EOF
		expect ann>
		size 33 77
		type $USERNS enter $CT
		raw
		expect / #
		type stty size
		expect 33 77
		size 20 50
		type until stty size | grep "20 50"; do sleep 0.1; done
		expect \n20 50
		type cat
		do $reads
		type hello
		expect hello\r\nhello
		press \x03
		expect \^C[^/]*/
		type echo status \$((\$? + 0))
		expect status 130
		type cat
		do $reads
		press \x1a
		expect Stopped
		type jobs; fg
		expect Stopped +cat\r\ncat
		type again
		expect again\r\nagain
		press \x03
		expect \^C[^/]*/
		type echo still \$((1 + 1))
		expect still 2
		type exit 42
		expect ann>
		type echo status \$?; stty -a
		expect status 42
		expect [^-]isig icanon
		expect ann>
		type $USERNS enter $CT sleep 1007
		do until pgrep -f '^sleep 1007'; do sleep 0.1; done
		raw
		press \x03
		expect ann>
		type echo status \$?
		expect status 130
		type exit
	EOF
	down ours
}

@test "enter: when it was stopped it has the terminal as before, and the size that it is then" {
	up ours
	local reads="until pgrep -U $START -x cat; do sleep 0.1; done"
	at_terminal <<-EOF
		expect ann>
		size 33 77
		type $USERNS enter $CT
		raw
		expect / #
		type kill -STOP \$\$
		expect Stopped
		type stty -a; echo outside \$((1 + 1))
		expect [^-]isig icanon
		expect outside 2
		size 21 51
		type fg
		expect fg\r\n.*enter $CT
		raw
		type until stty size | grep "21 51"; do sleep 0.1; done
		expect \n21 51
		do pkill -TSTP -x userns
		expect Stopped
		type bg
		do until ps -o stat= -C userns | grep T; do sleep 0.1; done
		type fg
		expect fg\r\n.*enter $CT
		raw
		type echo inside \$((1 + 2))
		absent 1 . 2.*\n.*1 . 2
		type echo inside \$((1 + 2))
		expect inside 3
		type cat
		do $reads
		press \x03
		expect \^C[^/]*/
		type echo status \$?
		expect status 130
		do pkill -STOP -x userns
		expect Stopped
		type fg
		expect fg\r\n.*enter $CT
		raw
		type cat
		do $reads
		press \x03
		expect \^C[^/]*/
		type echo status \$?
		expect status 130
		type exit 9
		expect ann>
		type stty -a; exit
		expect [^-]isig icanon
	EOF
	down ours
}

@test "enter: a terminal that is closed is closed inside too" {
	up ours
	# Or a program that goes on without would wait for ever for what is typed.
	at_terminal <<-EOF
		expect ann>
		type $USERNS enter $CT -- sh -c 'trap "" HUP; cat; echo "cat ended" >&2; sleep 1; exit 3' 2>$U/ann/log
		raw
		do until pgrep -U $START -x cat; do sleep 0.1; done
		close
	EOF
	eventually grep -q 'cat ended' "$U/ann/log"
	gone() { ! pgrep -x userns && ! pgrep -U "$START" -x sh; }
	eventually gone
	down ours
}

@test "enter: a terminal that takes nothing any more keeps nobody from ending userns" {
	command -v python3 >/dev/null || skip "python3 isn't installed"
	up ours
	cat >"$U/stuck" <<-EOF
		import os, pty, subprocess, sys, time
		shows, terminal = pty.openpty()
		child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal)
		time.sleep(1)
		child.terminate()
		try:
		    print(child.wait(20))
		except subprocess.TimeoutExpired:
		    child.kill()
		    child.wait()
		    print("it goes on")
	EOF
	try as ann env python3 "$U/stuck" "$USERNS" enter "$CT" sh -c 'while :; do echo yes; done'
	is -15 "$output"
	down ours
}

@test "enter: without a terminal there is none to be had" {
	up ours
	cat >"$U/session" <<-EOF
		setpriv --reuid ann --regid ann --init-groups -- $USERNS enter $CT -- sh -c 'cat /dev/tty' </dev/null >$U/out 2>&1
		echo "status \$?"
	EOF
	on_terminal bash "$U/session"
	has "$output" '^status 1'
	has "$(<"$U/out")" "/dev/tty.*(No such device or address|can't open)"
	down ours
}

@test "enter: only standard output is a terminal: the new one is for it alone" {
	up ours
	cat >"$U/session" <<-EOF
		echo piped | setpriv --reuid ann --regid ann --init-groups -- $USERNS enter $CT -- sh -c 'test -t 0 || echo no-0; test -t 1 && echo one; cat; sleep 1000 & echo last'
	EOF
	on_terminal bash "$U/session"
	is "no-0 one piped last" "$(tr -d '\r' <<<"$output" | paste -sd' ')"
	down ours
}

@test "enter: closed descriptors, few of them, a hostile environment and no name are nobody's gain" {
	up ours
	local i
	for i in 0 1 2; do
		try bash -c 'eval "exec $1"; shift; exec "$@"' - "$i>&-" setpriv --reuid ann --regid ann --init-groups -- "$USERNS" enter "$CT" ls /proc/self/fd
		((status == 0 || i == 1)) || return
		[[ $output != *4* ]] || return
	done
	must as ann env GODEBUG=inittrace=1,madvdontneed=1 GOTRACEBACK=crash PATH="$U/ann" LD_PRELOAD=/x HOME=/x "$USERNS" enter "$CT" sh -c 'echo "$PATH$LD_PRELOAD$GODEBUG$HOME"'
	is "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin/root" "$output"
	try bash -c 'ulimit -n 3; exec "$@"' - setpriv --reuid ann --regid ann --init-groups -- "$USERNS" enter "$CT" true
	((status != 0)) || return
	try bash -c 'exec -a "" "$@"' - "$USERNS" enter "$init" true
	denied "not the caller's"
	# A limit of the caller's is the program's.
	must bash -c 'ulimit -n 77; exec "$@"' - setpriv --reuid ann --regid ann --init-groups -- "$USERNS" enter "$CT" sh -c 'ulimit -n'
	is 77 "$output"
	down ours
}

@test "enter: from a namespace of their own, with no_new_privs, and traced" {
	up ours
	# It isn't directly below that one.
	try as ann unshare --user --map-root-user "$USERNS" enter "$init" true
	denied "not the caller's"
	must setpriv --reuid ann --regid ann --clear-groups --no-new-privs -- "$USERNS" enter "$CT" id -u
	is 0 "$output"
	# What is traced has no more than the tracer.
	command -v strace >/dev/null && must as ann strace -o /dev/null -f "$USERNS" enter "$CT" cat /proc/self/status && has "$output" '^Groups:[[:space:]]*$'
	down ours
}

@test "enter: who enters what is told to the host's log" {
	up ours
	local dev=$W/dev
	mkdir "$dev"
	mount -t tmpfs -o mode=0755 tmpfs "$dev"
	cp -a /dev/null /dev/zero /dev/urandom /dev/tty "$dev/"
	mount --bind "$dev" /dev
	"$UR_HELPERS/datagrams" /dev/log >"$W/log.txt" 2>&1 3>&- &
	local logger=$!
	eventually test -S /dev/log
	must enter "$CT" true
	try as ben "$USERNS" enter "$init" true
	eventually eval '(($(wc -l <"$W/log.txt") == 2))'
	kill -KILL "$logger"
	reap "$logger"
	umount /dev
	umount "$dev"
	is "granted enter ann $ANN $CT" "$(sed -n '1s/^[^{]*//p' "$W/log.txt" | jq -r '"\(.decision) \(.verb) \(.subject) \(.uid) \(.target)"')"
	is "refused enter ben $init" "$(sed -n '2s/^[^{]*//p' "$W/log.txt" | jq -r '"\(.decision) \(.verb) \(.subject) \(.target)"')"
	down ours
}
