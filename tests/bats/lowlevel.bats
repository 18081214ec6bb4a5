#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# The low-level runtimes that were measured: our own runc, Debian's runc 1.1.5, and crun. What works,
# works with each of them; what one can't do is refused by name.

load helpers
load lowlevel

@test "lowlevel: all are here that the other tests are about" {
	all_three
}

run_alike() {
	shell 'id; cat /proc/self/uid_map /proc/self/setgroups; echo err >&2; touch /tmp/x; stat -c %u:%g /tmp/x; rm /tmp/x; exit 7'
	try plain run -b "$B" "$CT"
	is 7 "$status" "plain"
	local p=$output e=$errput
	try ours run -b "$B" "$CT"
	is 7 "$status" status
	is "$(sed '2s/.*/MAP/' <<<"$p")" "$(sed '2s/.*/MAP/' <<<"$output")" "output, plain first"
	has "$output" "^ +0 +$START +$COUNT$"
	is "$e" "$errput" "standard error"
	audited '.runtime | startswith($ENV.LOW)'
}

@test "lowlevel: run, with its output and exit code" {
	WRITES=1
	local low
	setup_version
	for low in $(lows); do
		with "$low"
		LOW=$low run_alike
	done
}

life() {
	update_config '.linux.cgroupsPath = $path | .process.args = ["sleep", "1000"] | .process.env += ["A=b"]' --arg path "/$CT-ours"
	must ours create --pid-file "$W/pid" -b "$B" "$CT"
	is created "$(status_of ours)" "status"
	maps_are "0:$START:$COUNT" "$(<"$W/pid")"
	# The range is nobody else's, for all that the leases know. crun's container has the lock yet.
	has "$("$CTL" leases --json | jq -r '.[].state')" '^(container|starting)$'
	must ours start "$CT"
	eventually eval '[[ $("$CTL" leases --json | jq -r ".[].state") == container ]]'
	must ours exec "$CT" ls /proc/1/fd
	is "0 1 2" "$(xargs <<<"$output")" "what is open in the container's first process"
	is running "$(status_of ours)" "status"
	must ours exec "$CT" sh -c 'id -u; echo "$A"; cat /proc/self/uid_map'
	is "0 b 0 $START $COUNT" "$(xargs <<<"$output")" "exec"
	try ours exec "$CT" sh -c 'exit 5'
	is 5 "$status" "the exit code of exec"
	must ours exec --user 5:6 --cwd /tmp --env X=y "$CT" /bin/sh -c 'id -u; id -g; pwd; echo $X'
	is "5 6 /tmp y" "$(xargs <<<"$output")" "exec with flags"
	jq '.process | .args = ["sh", "-c", "id -u; cat /proc/self/uid_map; ls /proc/self/fd | wc -l"] | .user = {uid: 3, gid: 4}' <"$B/config.json" >"$W/process.json"
	must ours exec --process "$W/process.json" "$CT"
	is "3 0 $START $COUNT 4" "$(xargs <<<"$output")" "exec --process"
	# Beyond its IDs.
	try ours exec --user 70000 "$CT" true
	is 255 "$status" "exec beyond its IDs"
	must "$CTL" inspect --json "$CT"
	is dockroot "$(jq -r '.[0].owner // .owner' <<<"$output")" "inspect"
	must ours kill "$CT" KILL
	eventually is_status ours stopped
	must ours delete "$CT"
	is 0 "$("$CTL" leases --json | jq length)" "leases"
}

@test "lowlevel: create, start, state, exec, exec --process, kill, delete" { each life; }

flags() {
	book "dockroot:$START:$COUNT:deny-setgroups,no-new-privs"
	shell 'cat /proc/self/setgroups; grep -E "^(Groups|NoNewPrivs)" /proc/self/status'
	# The groups of root outside must not come along.
	try setpriv --groups 0,4,27 "${ours_cmd[@]}" run -b "$B" "$CT"
	is 0 "$status" status
	is "deny Groups: NoNewPrivs: 1" "$(xargs <<<"$output")" "of run"
	update_config '.linux.cgroupsPath = $path | .process.args = ["sleep", "1000"]' --arg path "/$CT-ours"
	must ours run -d -b "$B" "$CT"
	must setpriv --groups 0,4,27 "${ours_cmd[@]}" exec "$CT" grep -E '^(Groups|NoNewPrivs)' /proc/self/status
	is "Groups: NoNewPrivs: 1" "$(xargs <<<"$output")" "of exec"
	jq '.process | .args = ["grep", "-E", "^(Groups|NoNewPrivs)", "/proc/self/status"] | .noNewPrivileges = false | .user.additionalGids = [5]' <"$B/config.json" >"$W/process.json"
	must setpriv --groups 0,4,27 "${ours_cmd[@]}" exec -p "$W/process.json" "$CT"
	is "Groups: NoNewPrivs: 1" "$(xargs <<<"$output")" "of exec --process"
	down ours
}

@test "lowlevel: deny-setgroups and no-new-privs, on run, exec and exec --process" { each flags; }

groups() {
	book "dockroot:$START:$COUNT:"
	shell 'grep ^Groups /proc/self/status'
	must setpriv --groups 0,4,27 "${ours_cmd[@]}" run -b "$B" "$CT"
	is "Groups:" "$(xargs <<<"$output")" "the host's groups stay outside"
	update_config '.process.user.additionalGids = [5, 7]'
	must setpriv --groups 0,4,27 "${ours_cmd[@]}" run -b "$B" "$CT"
	is "Groups: 5 7" "$(xargs <<<"$output")" "those of the bundle"
	update_config 'del(.process.user.additionalGids)'
}

@test "lowlevel: groups" { each groups; }

binds() {
	useradd -u 4321 -M alice 2>/dev/null || true
	install -d -o alice -g alice -m 0755 "$W/alice"
	install -d -m 0755 "$W/host"
	book "alice:$START:$COUNT:"
	# Who the owner is as root inside; read-only can't be undone from inside.
	caps CAP_SYS_ADMIN CAP_DAC_OVERRIDE CAP_CHOWN
	if [[ ${plain_cmd[0]} == "$CRUN" ]]; then
		try "${ours_cmd[0]}" --owner alice "${ours_cmd[@]:1}" run -b "$B" "$CT"
		is 1 "$status" status
		has "$errput" "process.capabilities: CAP_SYS_ADMIN: with crun, root inside could make read-only binds writable by it"
		caps CAP_DAC_OVERRIDE CAP_CHOWN
	fi
	update_config '.mounts += [{destination: "/a", type: "bind", source: ($w + "/alice"), options: ["rbind", "rw"]},
		{destination: "/h", type: "bind", source: ($w + "/host"), options: ["rbind", "ro"]}]' --arg w "$W"
	shell 'stat -c %u /a /h; touch /a/new; mount -o remount,rw,bind /h 2>/dev/null && echo UNLOCKED; touch /h/x 2>/dev/null && echo WRITTEN; true'
	mkdir -p "$B/rootfs/a" "$B/rootfs/h"
	must "${ours_cmd[0]}" --owner alice "${ours_cmd[@]:1}" run -b "$B" "$CT"
	is "0 65534" "$(xargs <<<"$output")" "owners inside"
	is 4321 "$(stat -c %u "$W/alice/new")" "outside"
	rm "$W/alice/new"
	update_config 'del(.mounts[-1], .mounts[-1])'
}

@test "lowlevel: binds: an account's own files, and what is locked" {
	WRITES=1
	each binds
}

# What nobody judges is the low-level runtime's all the same.
limits() {
	update_config '.linux.resources += {pids: {limit: 7}, memory: {limit: 67108864}}
		| .linux.seccomp = {defaultAction: "SCMP_ACT_ALLOW", syscalls: [{names: ["mkdir", "mkdirat"], action: "SCMP_ACT_ERRNO"}]}'
	up plain
	up ours
	same exec "$CT" sh -c 'grep Seccomp: /proc/self/status; mkdir /tmp/new 2>&1; true'
	has "$output" "^Seccomp:.*2"
	has "$output" "Operation not permitted"
	local controller file
	for controller in pids/pids.max memory/memory.limit_in_bytes; do
		file=/sys/fs/cgroup/${controller%/*}/$CT-ours/${controller#*/}
		[[ -e $file ]] || file=/sys/fs/cgroup/$CT-ours/${controller#*/}
		[[ -e $file ]] || file=${file%/*}/memory.max
		has "7 67108864" "\\b$(<"$file")\\b"
	done
	down plain
	down ours
	update_config 'del(.linux.seccomp, .linux.resources.pids, .linux.resources.memory)'
}

@test "lowlevel: limits and the seccomp filter of the bundle" { each limits; }

hooks() {
	cat >"$W/hook" <<-EOF
		#!/bin/sh
		jq -r '"\$1 " + .id + " " + .status' >>"$W/hooks" 2>&1
	EOF
	chmod 0755 "$W/hook"
	rm -f "$W/hooks"
	local kinds='["prestart", "createRuntime", "poststart", "poststop"]'
	update_config '.hooks = ($kinds | map({key: ., value: [{path: $hook, args: ["hook", .]}]}) | from_entries)' --arg hook "$W/hook" --argjson kinds "$kinds"
	process true
	try plain run -b "$B" "$CT"
	is 0 "$status" plain
	local want
	want=$(<"$W/hooks")
	rm "$W/hooks"
	must ours run -b "$B" "$CT"
	is "$want" "$(<"$W/hooks")" "what hooks were told, plain first"
	is 4 "$(wc -l <"$W/hooks")" "hooks"
	update_config 'del(.hooks)'
}

@test "lowlevel: hooks" { each hooks; }

its_terminal() {
	update_config '.process.terminal = true'
	process tty
	on_terminal "${plain_cmd[@]}" run -b "$B" "$CT"
	has "$output" "/dev/pts/0"
	on_terminal "${ours_cmd[@]}" run -b "$B" "$CT"
	is 0 "$status" status
	has "$output" "/dev/pts/0" # crun writes an empty line of its log to a terminal, at times
	update_config '.process.terminal = false'
}

@test "lowlevel: a terminal" { each its_terminal; }

record() {
	update_config '.linux.cgroupsPath = $path | .process.args = ["sleep", "1000"] | .annotations = {"x.y": "z"}' --arg path "/$CT-ours"
	must ours run -d -b "$B" "$CT"
	must ours state "$CT"
	is "z dockroot" "$(jq -r '.annotations | ."x.y" + " " + (."io.userns-runtime.record" | fromjson | .owner)' <<<"$output")" "annotations"
	down ours
	update_config 'del(.annotations)'
}

@test "lowlevel: annotations, and the record" { each record; }

# A namespace that others are in.
joined() {
	update_config '.linux.cgroupsPath = $path | .process.args = ["sleep", "1000"]' --arg path "/$CT-ours"
	must ours run -d -b "$B" "$CT"
	init=$(ours state "$CT" | jq .pid)
	cp -a "$UR_TEMPLATE" "$W/joiner"
	jq --argjson pid "$init" '.ociVersion = "1.0.2" | .process.args = ["sh", "-c", "readlink /proc/self/ns/ipc; readlink /proc/self/ns/user"]
		| .linux.namespaces |= map(if .type == "ipc" then .path = "/proc/\($pid)/ns/ipc" else . end)' <"$UR_TEMPLATE/config.json" >"$W/joiner/config.json"
	if [[ $1 == works ]]; then
		must ours run -b "$W/joiner" "$CT-j"
		is "$(readlink "/proc/$init/ns/ipc" "/proc/$init/ns/user")" "$output" "namespaces"
		# By its path, too.
		jq --argjson pid "$init" '.linux.namespaces |= map(select(.type != "ipc")) + [{type: "ipc"}, {type: "user", path: "/proc/\($pid)/ns/user"}]' <"$W/joiner/config.json" >"$W/user.json"
		cat "$W/user.json" >"$W/joiner/config.json"
		must ours run -b "$W/joiner" "$CT-j"
		is "$(readlink "/proc/$init/ns/user")" "$(sed -n 2p <<<"$output")" "user namespace"
	else
		try ours run -b "$W/joiner" "$CT-j"
		is 1 "$status" status
		has "$errput" "crun 1.* enters a user namespace in a process that can be traced meanwhile.*runc 1.2 or later"
	fi
	rm -r "$W/joiner"
	down ours
}

@test "lowlevel: a user namespace that others are in: joined, or refused by name" {
	local low
	setup_version
	for low in $(lows); do
		with "$low"
		case $low in
		"$CRUN") joined refused ;;
		*) joined works ;;
		esac
	done
}

@test "lowlevel: the flags owned and shared: with runc 1.1 as with ours; crun refuses" {
	useradd -u 4321 -M alice 2>/dev/null || true
	local low
	setup_version
	for low in $(lows); do
		with "$low"
		process true
		update_config 'del(.process.rlimits)'
		book "alice:$START:$COUNT:shared"
		try "${ours_cmd[0]}" --owner alice "${ours_cmd[@]:1}" run -b "$B" "$CT"
		if [[ $low == "$CRUN" ]]; then has "$errput" "can be traced meanwhile"; else is 0 "$status" "shared"; fi
		book "alice:$START:$COUNT:owned"
		try "${ours_cmd[0]}" --owner alice "${ours_cmd[@]:1}" run -b "$B" "$CT"
		if [[ $low == "$CRUN" ]]; then
			is 1 "$status" status
			has "$errput" "can be traced meanwhile"
		else
			is 0 "$status" status
		fi
	done
}

engines_network() {
	local ns=$W/netns
	touch "$ns"
	unshare --net="$ns" true
	update_config '.linux.namespaces |= map(if .type == "network" then .path = $ns else . end) | .process.args = ["ls", "/sys/class/net"]' --arg ns "$ns"
	try ours run -b "$B" "$CT"
	umount "$ns"
	rm "$ns"
	update_config '.linux.namespaces |= map(if .type == "network" then del(.path) else . end)'
	if [[ ${plain_cmd[0]} == "$OLD" ]]; then
		is 1 "$status" status
		has "$errput" "linux.namespaces: network: path: runc 1.1.* enters the user namespace first.*runc 1.2 or later"
		return
	fi
	is 0 "$status" status
	is lo "$output" "interfaces"
}

@test "lowlevel: a network namespace that an engine has made" { each engines_network; }

# The host's, as Docker has it for --network host.
hosts_network() {
	update_config '.linux.namespaces |= map(if .type == "network" then .path = "/proc/self/ns/net" else . end) | .process.args = ["ls", "/sys/class/net"]'
	same run -b "$B" "$CT"
	is 0 "$status" status
}

@test "lowlevel: the engine's own network namespace, by its path" { each hosts_network; }

@test "lowlevel: crun: what it would do that nobody judged is refused by name" {
	all_three
	setup_version
	with "$CRUN"
	local a
	for a in run.oci.keep_original_groups run.oci.handler module.wasm.image/variant run.oci.hooks.stdout; do
		update_config '.annotations = {($a): "1"}' --arg a "$a"
		refused "annotations: $a: crun does by it what nobody judged" run -b "$B" "$CT"
	done
	update_config 'del(.annotations)'
	refused 'run: --keep: crun has no such flag' run --keep -b "$B" "$CT"
	refused 'restore: it wasn.t measured' restore -b "$B" --image-path "$W" "$CT"
	up ours
	for a in --additional-gids=5 --ignore-paused --cgroup=x; do
		try ours exec "$a" "$CT" true
		is 255 "$status" "$a"
		has "$errput" "exec: ${a%=*}: crun has no such flag"
	done
	# What isn't judged goes on, but only verbs that start nothing, whatever the words before them look like to crun.
	must ours pause "$CT"
	must ours resume "$CT"
	must ours ps "$CT"
	must ours list -q
	is "$CT" "$output" list
	try ours events "$CT"
	is 1 "$status" events
	has "$errput" "crun hasn't got it"
	down ours
	# Its own state has another place by default.
	update_config '.linux.cgroupsPath = $path' --arg path "/$CT-ours"
	must "$OURS" --config "$CONF" run -d -b "$B" "$CT"
	is "" "$(find /run/crun -mindepth 1)" "/run/crun"
	must "$OURS" --config "$CONF" exec "$CT" true
	must "$OURS" --config "$CONF" delete -f "$CT"
	rmdir /run/runc
}

@test "lowlevel: crun gets what was judged, whatever its own parser makes of it" {
	all_three
	setup_version
	with "$CRUN"
	# Go takes a member's name in any case; crun doesn't.
	process sh -c 'grep NoNewPrivs /proc/self/status; echo $HOSTNAME; ls /proc/self/ns/user'
	update_config 'with_entries(if .key == "process" or .key == "mounts" then .key |= ascii_upcase else . end)
		| .PROCESS |= with_entries(if .key == "noNewPrivileges" then .key |= ascii_upcase else . end)'
	try plain run -b "$B" "$CT"
	((status != 0))
	must ours run -b "$B" "$CT"
	has "$output" "NoNewPrivs:.*1"
	is 1 "$(jq '.PROCESS | has("NONEWPRIVILEGES")' <"$B/config.json" | grep -c true)" "the bundle"
	# On both roads of exec a capability that undoes what was set is refused.
	cp "$UR_TEMPLATE/config.json" "$B/config.json"
	setup_version
	up ours
	try ours exec --cap CAP_SYS_ADMIN "$CT" true
	has "$errput" "--cap: CAP_SYS_ADMIN: with crun"
	try ours exec --cap sys_admin "$CT" true
	has "$errput" "expected a name as in capabilities"
	must ours exec --cap CAP_CHOWN "$CT" true
	jq '.process | .args = ["true"] | .capabilities.bounding += ["CAP_SYS_ADMIN"]' <"$B/config.json" >"$W/process.json"
	try ours exec -p "$W/process.json" "$CT"
	has "$errput" "--process: capabilities: CAP_SYS_ADMIN: with crun"
	# Without any it has those of the container, which were judged.
	jq 'del(.capabilities) | .args = ["grep", "^Cap", "/proc/self/status"]' <"$W/process.json" >"$W/caps.json"
	must ours exec "$CT" grep ^Cap /proc/self/status
	local caps=$output
	must ours exec -p "$W/caps.json" "$CT"
	is "$caps" "$output" "capabilities"
	down ours
}

@test "lowlevel: runc 1.1: restore is refused by name" {
	all_three
	with "$OLD"
	refused 'restore: it wasn.t measured.*runc 1.2 or later' restore -b "$B" --image-path "$W" "$CT"
}

@test "lowlevel: doctor says what one of them can't do" {
	all_three
	cp "$OURS" "$W/userns-runtime"
	local low
	for low in "$OLD" "$CRUN"; do
		mkdir -p /etc/userns-runtime
		printf 'runtimes = ["%s"]\n' "$low" >/etc/userns-runtime/config.toml
		try "$CTL" doctor --json
		jq -e --arg low "$low" 'any(.[]; .severity == "warning" and .subject == $low and (.message | test("restore")) and (.mend | test("runc 1.2")))' <<<"$output"
	done
	rm -r /etc/userns-runtime
}
