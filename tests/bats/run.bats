#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# run, from its start to its end, beside plain runc on the same bundle.

load helpers

@test "run: output and error output" {
	shell 'echo out; echo err >&2'
	same run -b "$B" "$CT"
	is "$p_errput" "$errput" "standard error"
	is out "$output"
}

@test "run: exit codes" {
	local code
	for code in 0 1 42 137 255; do
		shell "exit $code"
		same run -b "$B" "$CT"
		is "$code" "$status"
	done
}

@test "run: a command that isn't there, and one that isn't executable" {
	process nosuchprogram
	same run -b "$B" "$CT"
	same_errors
	process /etc/passwd
	same run -b "$B" "$CT"
	same_errors
}

@test "run: a process killed from outside" {
	local runtime want=
	process sleep 1000
	for runtime in plain ours; do
		spawn "$runtime" "$runtime" run -b "$B" "$CT"
		eventually is_status "$runtime" running
		must "$runtime" kill "$CT" KILL
		reap "$pid"
		is "${want:=$status}" "$status" "status, runc's first"
	done
}

@test "run: standard input" {
	STDIN=$W/in
	head -c 100000 /dev/urandom | base64 >"$STDIN"
	process cat
	same run -b "$B" "$CT"
	is "$(<"$STDIN")" "$output" "what went in"
}

@test "run: standard input closed, output closed" {
	shell 'ls -l /proc/self/fd | wc -l; cat; exit 3'
	try plain run -b "$B" "$CT" <&-
	is 3 "$status"
	local want=$output
	try ours run -b "$B" "$CT" <&-
	is 3 "$status"
	is "$want" "$output"
}

@test "run: environment, working directory, host name" {
	update_config '.process.env += ["SOME=thing", "EMPTY=", "SPACED=a b  c"] | .process.cwd = "/tmp" | .hostname = "thing"'
	shell 'env | sort; pwd; hostname'
	same run -b "$B" "$CT"
	has "$output" '^SPACED=a b  c$'
}

@test "run: nothing of ours in the container's environment" {
	process env
	same run -b "$B" "$CT"
}

@test "run: user and groups" {
	update_config '.process.user = {uid: 1000, gid: 1000, additionalGids: [10, 2000]}'
	shell 'id -u; id -g; id -G'
	same run -b "$B" "$CT"
	has "$output" '^1000 10 2000$'
}

@test "run: capabilities, limits, seccomp, umask" {
	update_config '.process.user.umask = 63
		| .linux.seccomp = {defaultAction: "SCMP_ACT_ALLOW", syscalls: [{names: ["mkdir", "mkdirat"], action: "SCMP_ACT_ERRNO", errnoRet: 28}]}'
	shell 'grep -E "^(Cap|NoNewPrivs|Seccomp)" /proc/self/status; ulimit -n; umask; mkdir /tmp/x; echo $?'
	same run -b "$B" "$CT"
	is "$p_errput" "$errput"
}

@test "run: the mounts inside are runc's" {
	# In a user namespace runc binds the device nodes, which it can't make.
	shell "cut -d' ' -f2 /proc/mounts | grep -vE '^/dev/(null|zero|full|tty|random|urandom|console)$'; ls /dev"
	same run -b "$B" "$CT"
}

@test "run: a read-only root filesystem stays so" {
	update_config '.root.readonly = true'
	shell 'touch /file; echo $?; mount -o remount,rw / 2>/dev/null; touch /file 2>/dev/null; echo $?'
	same run -b "$B" "$CT"
	is "$p_errput" "$errput"
}

@test "run: signals are passed on" {
	local runtime signal want_out want_status
	# Each signal ends the loop with a status of its own.
	for signal in INT TERM USR1 HUP QUIT; do
		shell "trap 'echo got $signal; exit 33' $signal; echo ready; while :; do sleep 0.05; done"
		want_out='' want_status=''
		for runtime in plain ours; do
			spawn "$runtime" "$runtime" run -b "$B" "$CT"
			eventually grep -q ready "$W/$runtime.out"
			kill -s "$signal" "$pid"
			reap "$pid"
			is "${want_status:=$status}" "$status" "status after $signal, runc's first"
			is "${want_out:=$(<"$W/$runtime.out")}" "$(<"$W/$runtime.out")" "output after $signal, runc's first"
		done
		is 33 "$status"
	done
}

@test "run: killed itself, it leaves the container as runc does" {
	local runtime want=
	process sleep 1000
	for runtime in plain ours; do
		spawn "$runtime" "$runtime" run -b "$B" "$CT"
		eventually is_status "$runtime" running
		kill -KILL "$pid"
		reap "$pid"
		is 137 "$status"
		is "${want:=$(status_of "$runtime")}" "$(status_of "$runtime")" "state, runc's first"
		down "$runtime"
	done
}

@test "run: with a terminal" {
	update_config '.process.terminal = true'
	shell 'test -t 0 && test -t 1 && test -t 2 && tty; stty size; stty -a | grep -o "[-]*echo\b"; exit 5'
	on_terminal "${plain_cmd[@]}" run -b "$B" "$CT"
	local want=$output want_status=$status
	on_terminal "${ours_cmd[@]}" run -b "$B" "$CT"
	is "$want" "$output" "output, runc's first"
	is "$want_status" "$status"
	is 5 "$status"
	has "$output" /dev/
}

@test "run: with a terminal's size" {
	update_config '.process.terminal = true | .process.consoleSize = {height: 33, width: 111}'
	process stty size
	on_terminal sh -c "stty rows 33 cols 111; ${plain_cmd[*]} run -b $B $CT"
	local want=$output
	on_terminal sh -c "stty rows 33 cols 111; ${ours_cmd[*]} run -b $B $CT"
	is "$want" "$output" "output, runc's first"
	has "$output" '33 111'
}

@test "run: a terminal is refused as runc refuses it" {
	update_config '.process.terminal = true'
	same run -d -b "$B" "$CT"
	same_errors
	is 1 "$status"
}

@test "run: --keep" {
	shell 'exit 7'
	same run --keep -b "$B" "$CT"
	is 7 "$status"
	is "$(status_of plain)" "$(status_of ours)"
	same run -b "$B" "$CT" # it is there already
	same_errors
	same delete "$CT"
}

@test "run: --no-subreaper" {
	shell '(sleep 0.1; echo late) & echo early; wait; exit 4'
	same run --no-subreaper -b "$B" "$CT"
	is 4 "$status"
}

@test "run: --no-pivot" {
	shell 'ls /'
	same run --no-pivot -b "$B" "$CT"
}

@test "run: --no-new-keyring, --debug, --systemd-cgroup=false, --rootless=auto" {
	shell 'echo fine'
	same --systemd-cgroup=false --rootless=auto run --no-new-keyring -b "$B" "$CT"
	is fine "$output"
	try ours --debug run -b "$B" "$CT"
	is fine "$output"
	has "$errput" 'level=debug'
}

@test "run: nothing is logged on success" {
	must ours --log "$LOG" --log-format json run -b "$B" "$CT"
	is "" "$(cat "$LOG")"
	is "" "$errput"
}

@test "run: a bundle's own state directory isn't needed beforehand" {
	rmdir "$W/ours" "$W/plain"
	same run -b "$B" "$CT"
	is 0 "$status"
}

@test "run: many at once" {
	local i pids=()
	room 6
	shell 'sleep 0.2; cat /proc/self/uid_map'
	for i in 1 2 3 4 5 6; do
		spawn "many$i" ours run -b "$B" "$CT-$i"
		pids+=("$pid")
	done
	for i in 1 2 3 4 5 6; do
		reap "${pids[i - 1]}"
		is 0 "$status"
		awk '{print $2, $3}' "$W/many$i.out" >>"$W/ranges"
	done
	is "$(for i in 0 1 2 3 4 5; do echo "$((START + i * COUNT)) $COUNT"; done)" "$(sort "$W/ranges")"
}
