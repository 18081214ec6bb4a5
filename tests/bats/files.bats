#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# What a runtime is handed beside the bundle: files to write, sockets, and
# descriptors.

load helpers

# The descriptors of the process that reads them, and what they lead to; pipes
# and the like have numbers that differ.
LIST_FDS='for f in /proc/self/fd/*; do echo "${f##*/} $(readlink $f)"; done | sed "s/:\[.*//"'

# descriptors PID: the numbers of those that it has.
descriptors() { find "/proc/$1/fd" -mindepth 1 -printf '%f\n' | sort -n | paste -sd' '; }

# activated COMMAND...: as systemd starts it, with one socket.
activated() {
	bash -c 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"' - "$@"
}

@test "files: --pid-file, absolute and relative" {
	local runtime path want=
	process sleep 1000
	mkdir "$W/cwd"
	cd "$W/cwd"
	for path in "$W/pid" pid ./pid; do
		for runtime in plain ours; do
			must "$runtime" create --pid-file "$path" -b "$B" "$CT"
			is "$("$runtime" state "$CT" | jq .pid)" "$(<"$path")"
			is "${want:=$(stat -c %a:%s "$path" | cut -d: -f1)}" "$(stat -c %a "$path")" "mode, runc's first"
			rm "$path"
			must "$runtime" delete -f "$CT"
			must "$runtime" run -d --pid-file="$path" -b "$B" "$CT"
			is "$("$runtime" state "$CT" | jq .pid)" "$(<"$path")"
			must "$runtime" exec -d --pid-file "$path.exec" "$CT" sleep 1001
			eventually grep -qz '^1001$' "/proc/$(<"$path.exec")/cmdline" # runc comes back before the program is there
			rm "$path" "$path.exec"
			must "$runtime" delete -f "$CT"
		done
	done
}

@test "files: a --pid-file that can't be written" {
	same run --pid-file "$W/nowhere/pid" -b "$B" "$CT"
	is 1 "$status"
	same_errors
}

@test "files: --console-socket" {
	update_config '.process.terminal = true'
	shell 'stty -opost 2>/dev/null; tty; test -t 2 && echo terminal'
	local runtime want='' got
	for runtime in plain ours; do
		"$UR_HELPERS/recvtty" "$W/tty" >"$W/$runtime.tty" 3>&- &
		pid=$!
		eventually test -S "$W/tty"
		must "$runtime" run -d --console-socket "$W/tty" -b "$B" "$CT"
		reap "$pid"
		is 0 "$status"
		eventually is_status "$runtime" stopped
		must "$runtime" delete "$CT"
		got=$(<"$W/$runtime.tty")
		is "${want:=$got}" "$got" "runc's first"
		has "$got" terminal
	done
}

@test "files: --console-socket of create, relative" {
	update_config '.process.terminal = true'
	shell 'echo over the socket'
	local runtime where want='' got
	mkdir "$W/cwd"
	for where in "$W/cwd" "$B"; do
		want=
		for runtime in plain ours; do
			cd "$where"
			"$UR_HELPERS/recvtty" tty >"$W/$runtime.tty" 3>&- &
			pid=$!
			eventually test -S tty
			cd "$W/cwd"
			try "$runtime" create --console-socket tty -b "$B" "$CT"
			got=$status
			if ((status == 0)); then
				must "$runtime" start "$CT"
				reap "$pid"
				must "$runtime" delete -f "$CT"
				got+=$(<"$W/$runtime.tty")
			else
				kill "$pid"
				reap "$pid"
				rm -f "$where/tty"
			fi
			is "${want:=$got}" "$got" "runc's first"
		done
	done
	rm -f "$B/tty"
	bundle_sum >"$W/.bundle" # the socket changed the directory's time
}

@test "files: --console-socket of exec" {
	up plain
	up ours
	local runtime want='' got
	for runtime in plain ours; do
		"$UR_HELPERS/recvtty" "$W/tty" >"$W/$runtime.tty" 3>&- &
		pid=$!
		eventually test -S "$W/tty"
		must "$runtime" exec -d -t --console-socket "$W/tty" "$CT" sh -c 'tty; echo done'
		reap "$pid"
		got=$(<"$W/$runtime.tty")
		is "${want:=$got}" "$got" "runc's first"
		has "$got" 'done'
	done
	down plain
	down ours
}

@test "files: --preserve-fds" {
	echo three >"$W/three"
	echo four >"$W/four"
	shell "cat <&3; cat <&4; $LIST_FDS"
	local runtime want='' got
	for runtime in plain ours; do
		got=$("$runtime" run --preserve-fds 2 -b "$B" "$CT" 3<"$W/three" 4<"$W/four" 5<"$W/four" </dev/null)
		echo "$got"
		has "$got" '^three$'
		has "$got" '^four$'
		is "${want:=$got}" "$got" "runc's first"
	done
}

@test "files: --preserve-fds of create" {
	echo three >"$W/three"
	shell "cat <&3; $LIST_FDS"
	local runtime want='' got
	for runtime in plain ours; do
		"$runtime" create --preserve-fds=1 -b "$B" "$CT" 3<"$W/three" </dev/null >"$W/$runtime.out"
		must "$runtime" start "$CT"
		eventually is_status "$runtime" stopped
		must "$runtime" delete "$CT"
		got=$(<"$W/$runtime.out")
		has "$got" '^three$'
		is "${want:=$got}" "$got" "runc's first"
	done
}

@test "files: --preserve-fds of exec, in both forms" {
	book "dockroot:$START:$COUNT:no-new-privs"
	up plain
	up ours
	echo three >"$W/three"
	jq -n '{args: ["sh", "-c", $ARGS.positional[0]], cwd: "/", env: ["PATH=/bin"], user: {uid: 0, gid: 0}}' \
		--args -- "cat <&3; $LIST_FDS" >"$W/process.json"
	local runtime want='' want2='' got
	for runtime in plain ours; do
		got=$("$runtime" exec --preserve-fds 1 "$CT" sh -c "cat <&3; $LIST_FDS" 3<"$W/three" 4<"$W/three" </dev/null)
		has "$got" '^three$'
		is "${want:=$got}" "$got" "runc's first"
		got=$("$runtime" exec --preserve-fds 1 -p "$W/process.json" "$CT" 3<"$W/three" 4<"$W/three" </dev/null)
		has "$got" '^three$'
		is "${want2:=$got}" "$got" "runc's first"
	done
	down plain
	down ours
}

@test "files: LISTEN_FDS" {
	echo three >"$W/three"
	shell "env | grep ^LISTEN; cat <&3; $LIST_FDS"
	local runtime want='' got
	for runtime in plain ours; do
		local -n cmd=${runtime}_cmd
		got=$(activated "${cmd[@]}" run -b "$B" "$CT" 3<"$W/three" 4<"$W/three" </dev/null)
		has "$got" '^three$'
		has "$got" '^LISTEN_FDS=1$'
		is "${want:=$got}" "$got" "runc's first"
	done
}

@test "files: LISTEN_FDS of exec --process" {
	book "dockroot:$START:$COUNT:no-new-privs"
	up plain
	up ours
	echo three >"$W/three"
	jq -n '{args: ["sh", "-c", $ARGS.positional[0]], cwd: "/", env: ["PATH=/bin"], user: {uid: 0, gid: 0}}' \
		--args -- "cat <&3; $LIST_FDS" >"$W/process.json"
	local runtime want='' got
	for runtime in plain ours; do
		local -n cmd=${runtime}_cmd
		got=$(activated "${cmd[@]}" exec -p "$W/process.json" "$CT" 3<"$W/three" </dev/null)
		is "${want:=$got}" "$got" "runc's first"
	done
	down plain
	down ours
}

@test "files: more preserved descriptors than there are" {
	shell "$LIST_FDS"
	same run --preserve-fds 5 -b "$B" "$CT"
	try plain run --preserve-fds nonsense -b "$B" "$CT"
	is 1 "$status"
	refused preserve-fds run --preserve-fds nonsense -b "$B" "$CT"
}

@test "files: descriptors inside, counted" {
	shell "$LIST_FDS"
	local runtime want='' got
	for runtime in plain ours; do
		# Some that leak into the runtime; none may reach the container.
		got=$("$runtime" run -b "$B" "$CT" 5<"$B/config.json" 7</etc/passwd 9</proc/1/ns/user </dev/null)
		is "${want:=$got}" "$got" "run, runc's first"
	done
	is 1 "$(grep -c '^3 ' <<<"$got")" "the shell's own descriptor, and no more than it"
	is 4 "$(wc -l <<<"$got")"
}

@test "files: descriptors of init and of an exec'd process, seen from the host" {
	local runtime want='' got
	process sleep 1000
	for runtime in plain ours; do
		"$runtime" create -b "$B" "$CT" 5<"$B/config.json" 7</etc/passwd </dev/null >"$W/o" 2>&1
		must "$runtime" start "$CT"
		init=$("$runtime" state "$CT" | jq .pid)
		eventually grep -q sleep "/proc/$init/cmdline"
		got="init $(descriptors "$init")"
		"$runtime" exec -d --pid-file "$W/pid" "$CT" sleep 1001 5<"$B/config.json" </dev/null >"$W/o" 2>&1
		eventually grep -q sleep "/proc/$(<"$W/pid")/cmdline"
		got+=" exec $(descriptors "$(<"$W/pid")")"
		must "$runtime" delete -f "$CT"
		is "${want:=$got}" "$got" "runc's first"
	done
	is "init 0 1 2 exec 0 1 2" "$got"
}

@test "files: relative --log and --root" {
	rmdir "$W/ours" "$W/plain"
	shell 'exit 3'
	try "$OURS" --config "$CONF" --log log --log-format json --root ours run --keep -b bundle "$CT"
	is 3 "$status"
	test -d "$W/ours/$CT"
	test -f "$W/log"
	must "$OURS" --config "$CONF" --root ours delete "$CT"
	# With the failure of runc's own in it, from where the call was made.
	process nosuchprogram
	rm log
	try "$OURS" --config "$CONF" --log log --log-format json --root ours run -b bundle "$CT"
	is 1 "$status"
	has "$(jq -r .msg log)" nosuchprogram
	mkdir -p plain
}

@test "files: inherited limits, nice value and umask" {
	shell 'ulimit -c; ulimit -s; umask; cut -d" " -f19 /proc/self/stat'
	local want
	want=$(umask 027; ulimit -c 0; ulimit -s 4096; nice -n 5 "${plain_cmd[@]}" run -b "$B" "$CT" </dev/null)
	is "$want" "$(umask 027; ulimit -c 0; ulimit -s 4096; nice -n 5 "${ours_cmd[@]}" run -b "$B" "$CT" </dev/null)"
}
