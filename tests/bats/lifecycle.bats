#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# The life of a container, verb by verb, beside plain runc.

load helpers

@test "lifecycle: create, start, kill, delete, and the state after each" {
	local runtime states want=
	process sh -c 'trap "exit 9" TERM; while :; do sleep 0.05; done'
	for runtime in plain ours; do
		must "$runtime" create -b "$B" "$CT"
		states=$(status_of "$runtime")
		must "$runtime" start "$CT"
		states+=" $(status_of "$runtime")"
		must "$runtime" kill "$CT" TERM
		eventually is_status "$runtime" stopped
		states+=" $(status_of "$runtime")"
		must "$runtime" delete "$CT"
		try "$runtime" state "$CT"
		states+=" $status"
		is "${want:=$states}" "$states" "states, runc's first"
	done
	is "created running stopped 1" "$states"
}

@test "lifecycle: what state says" {
	update_config '.annotations = {"org.example": "x"}'
	local runtime want='' got
	for runtime in plain ours; do
		must "$runtime" create -b "$B" "$CT"
		must "$runtime" state "$CT"
		got=$(jq -S 'del(.pid, .created, .rootfs, .annotations["io.userns-runtime.record"])' <<<"$output")
		is "${want:=$got}" "$got" "state, runc's first"
		must "$runtime" delete -f "$CT"
	done
	is "$B" "$(jq -r .bundle <<<"$got")"
}

@test "lifecycle: detached, the container outlives its runtime" {
	up ours
	is running "$(status_of ours)"
	maps_are "0:$START:$COUNT" "$init"
	is 1 "$(ps -o ppid= "$init" | tr -d ' ')" "its parent"
	must ours kill "$CT" KILL
	eventually is_status ours stopped
	must ours delete "$CT"
}

@test "lifecycle: what a detached container writes" {
	local runtime want=
	shell 'echo out; echo err >&2'
	for runtime in plain ours; do
		spawn "$runtime" "$runtime" run -d -b "$B" "$CT"
		reap "$pid"
		is 0 "$status"
		eventually is_status "$runtime" stopped
		must "$runtime" delete "$CT"
		is "out err" "$(cat "$W/$runtime.out" "$W/$runtime.err" | paste -sd' ')"
	done
}

@test "lifecycle: exec's output, status, input, environment, directory, user" {
	up plain
	up ours
	STDIN=$W/in
	echo input >"$STDIN"
	same exec "$CT" sh -c 'cat; echo err >&2; exit 17'
	is 17 "$status"
	is "$p_errput" "$errput"
	same exec --cwd /tmp -e A=b -e C='d e' "$CT" sh -c 'pwd; env | sort'
	same exec --user 1000:1000 "$CT" id
	same exec -u 1000 -g 5 -g 6 "$CT" id -G
	same exec --cap CAP_SYS_ADMIN "$CT" grep Cap /proc/self/status
	same exec "$CT" -- echo dashes
	same exec "$CT" echo --not a -flag --no-new-privs=false
	down plain
	down ours
}

@test "lifecycle: exec --process" {
	up plain
	up ours
	echo '{"args": ["sh", "-c", "id; pwd; env; exit 3"], "cwd": "/tmp", "env": ["PATH=/bin", "X=y"], "user": {"uid": 5, "gid": 6, "additionalGids": [7, 8]}}' >"$W/process.json"
	same exec --process "$W/process.json" "$CT"
	is 3 "$status"
	same exec -p process.json "$CT"
	is 3 "$status"
	down plain
	down ours
}

@test "lifecycle: exec that fails" {
	up plain
	up ours
	same exec "$CT" nosuchprogram
	same_errors
	same exec --process "$W/missing.json" "$CT"
	same exec "$CT"
	same exec nobody true
	same_errors
	same exec --cwd /nowhere/at/all "$CT" pwd
	down plain
	down ours
}

@test "lifecycle: exec detached, and with a terminal" {
	up plain
	up ours
	local runtime want=
	for runtime in plain ours; do
		must "$runtime" exec -d --pid-file "$W/$runtime.pid" "$CT" sleep 1001
		# runc comes back before the program is there.
		eventually eval "[[ \$(tr '\0' ' ' </proc/$(<"$W/$runtime.pid")/cmdline) == 'sleep 1001 ' ]]"
		local -n cmd=${runtime}_cmd
		on_terminal "${cmd[@]}" exec -t "$CT" sh -c 'tty; exit 6'
		is 6 "$status"
		is "${want:=$output}" "$output"
	done
	maps_are "0:$START:$COUNT" "$(<"$W/ours.pid")"
	down plain
	down ours
}

@test "lifecycle: exec in a container that is created, paused, stopped" {
	requires freezer
	local runtime want='' got
	process sleep 1000
	for runtime in plain ours; do
		must "$runtime" create -b "$B" "$CT"
		try "$runtime" exec "$CT" echo in created
		got="$status $output"
		must "$runtime" start "$CT"
		must "$runtime" pause "$CT"
		try "$runtime" exec "$CT" true
		got+=" $status $(plainly <<<"$errput")"
		must "$runtime" resume "$CT"
		must "$runtime" kill "$CT" KILL
		eventually is_status "$runtime" stopped
		try "$runtime" exec "$CT" true
		got+=" $status $(plainly <<<"$errput")"
		must "$runtime" delete "$CT"
		is "${want:=$got}" "$got" "runc's first"
	done
}

@test "lifecycle: ps" {
	up plain
	up ours
	local runtime want=
	for runtime in plain ours; do
		must "$runtime" exec -d "$CT" sleep 1001
		must "$runtime" ps --format json "$CT"
		is 2 "$(jq length <<<"$output")"
		must "$runtime" ps "$CT" -eo pid,args
		output=$(awk '{$1 = ""; print}' <<<"$output")
		is "${want:=$output}" "$output" "runc's first"
	done
	down plain
	down ours
}

@test "lifecycle: pause and resume" {
	requires freezer
	up plain
	up ours
	same pause "$CT"
	is paused "$(status_of ours)"
	is paused "$(status_of plain)"
	same pause "$CT"
	same resume "$CT"
	is running "$(status_of ours)"
	same resume "$CT"
	down plain
	down ours
}

@test "lifecycle: update" {
	up plain
	up ours
	local runtime want='' got
	for runtime in plain ours; do
		must "$runtime" update --pids-limit 77 --cpu-share 512 "$CT"
		init=$("$runtime" state "$CT" | jq .pid)
		got=
		while IFS=: read -r _ controllers path; do
			case $controllers in
			pids) got+=" $(cat "/sys/fs/cgroup/pids$path/pids.max")" ;;
			cpu) got+=" $(cat "/sys/fs/cgroup/cpu$path/cpu.shares")" ;;
			esac
		done <"/proc/$init/cgroup"
		is "${want:=$got}" "$got"
	done
	down plain
	down ours
}

@test "lifecycle: events --stats" {
	up plain
	up ours
	local runtime want='' got
	for runtime in plain ours; do
		must "$runtime" events --stats "$CT"
		got=$(jq -c '[paths | map(select(type == "string"))] | unique' <<<"$output")
		is "${want:=$got}" "$got" "members, runc's first"
	done
	down plain
	down ours
}

@test "lifecycle: list" {
	up plain
	up ours
	same list -q
	is "$CT" "$output"
	must ours list --format json
	is "$CT running $B" "$(jq -r '.[] | "\(.id) \(.status) \(.bundle)"' <<<"$output")"
	down plain
	down ours
	same list -q
	is "" "$output"
}

@test "lifecycle: delete refuses what runs, -f doesn't" {
	up plain
	up ours
	same delete "$CT"
	is 1 "$status"
	is running "$(status_of ours)"
	same delete -f "$CT"
	same delete "$CT"
	same delete -f "$CT"
	same delete --force "$CT"
}

@test "lifecycle: delete leaves nothing" {
	up ours
	must ours exec -d "$CT" sleep 1001
	must ours delete -f "$CT"
	is "" "$(ls -A "$W/ours")"
	eventually test ! -e "/proc/$init"
	is "" "$(find /sys/fs/cgroup -name "$CT")"
	is "" "$(find /run/userns-runtime -type f)"
	# The rest is looked at after every test.
}

@test "lifecycle: the same ID again" {
	up plain
	up ours
	same create -b "$B" "$CT"
	same_errors
	same run -b "$B" "$CT"
	is running "$(status_of ours)"
	down plain
	down ours
	up ours
	down ours
}

@test "lifecycle: the same ID under two roots" {
	room 2
	up ours
	update_config 'del(.linux.cgroupsPath)'
	must ours --root "$W/other" run -d -b "$B" --pid-file "$W/other.pid" "$CT-2"
	local second
	second=$(<"$W/other.pid")
	[[ $(readlink "/proc/$init/ns/user") != "$(readlink "/proc/$second/ns/user")" ]]
	must ours --root "$W/other" delete -f "$CT-2"
	is running "$(status_of ours)"
	down ours
}

@test "lifecycle: IDs that runc doesn't take" {
	local id
	for id in a/b .. . 'a b' a:b "$(printf 'a\nb')"; do
		same run -b "$B" "$id"
		is 1 "$status"
	done
}

@test "lifecycle: start what isn't created, twice" {
	up plain
	up ours
	same start "$CT"
	same start nobody
	same kill nobody
	down plain
	down ours
}

@test "lifecycle: a created container is deleted without being started" {
	local runtime
	for runtime in plain ours; do
		must "$runtime" create -b "$B" "$CT"
		init=$("$runtime" state "$CT" | jq .pid)
		must "$runtime" delete -f "$CT"
		eventually test ! -e "/proc/$init"
	done
}

@test "lifecycle: exec, kill and delete work without a book" {
	up ours
	rm "$BOOK"
	must ours exec "$CT" true
	book "this is not a book"
	must ours exec "$CT" true
	must ours kill "$CT" KILL
	eventually is_status ours stopped
	must ours delete "$CT"
}

@test "lifecycle: exec refuses a container that plain runc started" {
	up plain
	try "$OURS" --config "$CONF" --root "$W/plain" exec "$CT" true
	((status != 0))
	has "$errput" "has no record.*started past this runtime"
	down plain
}

@test "lifecycle: exec in a container without a record takes the book's flags" {
	book "dockroot:$START:$COUNT:no-new-privs"
	# As plain runc would be given it by an engine that knows the range.
	update_config '.linux.namespaces += [{type: "user"}]
		| .linux.uidMappings = [{containerID: 0, hostID: $start, size: 65536}]
		| .linux.gidMappings = .linux.uidMappings
		| .process.noNewPrivileges = false' --argjson start "$START"
	WRITES=1
	chmod 0755 "$W" "$W/.." "$W/../.." "$W/../../.."
	process sleep 1000
	must plain run -d -b "$B" "$CT"
	try "$OURS" --config "$CONF" --root "$W/plain" exec "$CT" grep NoNewPrivs /proc/self/status
	is 0 "$status"
	has "$output" 'NoNewPrivs:.*1'
	down plain
	chmod 0700 "$W/../.." "$W/../../.."
}
