#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# The flags of the book, and that nothing a bundle or a caller does weakens them.
# deny-setgroups has its tests in identity.bats.

load helpers

NNP='grep ^NoNewPrivs /proc/self/status'

# process_file: a --process file that says noNewPrivileges is false.
process_file() {
	jq -n '{args: ["sh", "-c", $ARGS.positional[0]], cwd: "/", env: ["PATH=/bin"], user: {uid: 0, gid: 0}, noNewPrivileges: false}' \
		--args -- "$NNP" >"$W/process.json"
}

# always_set: every way to start a process in CT has no_new_privs.
always_set() {
	local args
	process_file
	for args in "" "--no-new-privs" "--no-new-privs=false" "--no-new-privs=0"; do
		# shellcheck disable=SC2086 # no argument, or one
		must ours exec $args "$CT" sh -c "$NNP"
		has "$output" '1$'
	done
	must ours exec --process "$W/process.json" "$CT"
	has "$output" '1$'
	must ours exec --no-new-privs=false -p "$W/process.json" "$CT"
	has "$output" '1$'
	is false "$(jq .noNewPrivileges "$W/process.json")" "the caller's file, as before"
}

@test "flags: no-new-privs, on init" {
	update_config '.process.noNewPrivileges = false'
	shell "$NNP"
	must ours run -b "$B" "$CT"
	has "$output" '0$'
	book "dockroot:$START:$COUNT:no-new-privs"
	must ours run -b "$B" "$CT"
	has "$output" '1$'
	update_config 'del(.process.noNewPrivileges)'
	must ours run -b "$B" "$CT"
	has "$output" '1$'
}

@test "flags: no-new-privs, on exec in all forms" {
	book "dockroot:$START:$COUNT:no-new-privs"
	update_config '.process.noNewPrivileges = false'
	up ours
	always_set
	down ours
}

@test "flags: no-new-privs, after config.json was edited under the container" {
	book "dockroot:$START:$COUNT:no-new-privs"
	up ours
	update_config '.process.noNewPrivileges = false | .process.user.additionalGids = [4, 27] | .annotations = {"io.userns-runtime.record": "{}"}'
	always_set
	rm "$B/config.json"
	bundle_sum >"$W/.bundle"
	process_file
	must ours exec --process "$W/process.json" "$CT"
	has "$output" '1$'
	down ours
}

@test "flags: after the book was changed, exec still has the recorded ones" {
	book "dockroot:$START:$COUNT:no-new-privs"
	up ours
	book "dockroot:$START:$COUNT:"
	always_set
	down ours
	# And the other way round.
	update_config '.process.noNewPrivileges = false'
	up ours
	book "dockroot:$START:$COUNT:no-new-privs"
	must ours exec "$CT" sh -c "$NNP"
	has "$output" '0$'
	down ours
}

@test "flags: without no-new-privs, exec is runc's" {
	update_config '.process.noNewPrivileges = false'
	process_file
	up plain
	up ours
	local args
	for args in "" --no-new-privs --no-new-privs=false; do
		# shellcheck disable=SC2086 # no argument, or one
		same exec $args "$CT" sh -c "$NNP"
	done
	same exec --process "$W/process.json" "$CT"
	down plain
	down ours
}

@test "flags: deny-setgroups of exec, after config.json was edited" {
	book "dockroot:$START:$COUNT:deny-setgroups"
	up ours
	update_config '.process.user.additionalGids = [4, 27]'
	must ours exec "$CT" id -G
	is 0 "$output"
	must ours exec "$CT" cat /proc/self/setgroups
	is deny "$output"
	down ours
}

@test "flags: size" {
	process cat /proc/self/uid_map
	# devpts has gid=5 from runc spec, which the smallest don't have.
	update_config '(.mounts[] | select(.type == "devpts")).options -= ["gid=5"]'
	local size
	for size in 1 1000 65536; do
		book "dockroot:$START:$size:size=$size"
		must ours run -b "$B" "$CT"
		is "0 $START $size" "$(awk '{$1 = $1; print}' <<<"$output")"
	done
	update_config '(.mounts[] | select(.type == "devpts")).options += ["gid=5"]'
	book "dockroot:$START:5:size=5"
	refused '/dev/pts: .*5 isn.t an ID of the container' run -b "$B" "$CT"
	book "dockroot:$START:6:size=6"
	must ours run -b "$B" "$CT"
	book "dockroot:$START:200000:size=200000"
	must ours run -b "$B" "$CT"
	is "0 $START 200000" "$(awk '{$1 = $1; print}' <<<"$output")"
}

@test "flags: size larger than the line" {
	book "dockroot:$START:1000:"
	refused "$BOOK:1: has 1000 IDs, fewer than the 65536" run -b "$B" "$CT"
	book "dockroot:$START:1000:size=1001"
	refused "$BOOK:1: has 1000 IDs, fewer than the 1001" run -b "$B" "$CT"
}

@test "flags: reserved" {
	book "dockroot:$START:$COUNT:reserved"
	refused 'dockroot.*only reserves' run -b "$B" "$CT"
	# Somebody's reservation inside of another's line.
	book "dockroot:$START:$COUNT:" "other:$((START + 5)):1:reserved"
	refused "reserved by other \($BOOK:2\)" run -b "$B" "$CT"
	# The next line that isn't reserved is taken.
	book "dockroot:$START:$COUNT:reserved" "dockroot:$((START + COUNT)):$COUNT:"
	process cat /proc/self/uid_map
	must ours run -b "$B" "$CT"
	has "$output" " $((START + COUNT)) "
}

@test "flags: shared" {
	book "dockroot:$START:$COUNT:shared"
	up ours
	maps_are "0:$START:$COUNT" "$init"
	update_config 'del(.linux.cgroupsPath)'
	must ours run -d --pid-file "$W/pid" -b "$B" "$CT-2"
	maps_are "0:$START:$COUNT" "$(<"$W/pid")"
	down ours "$CT-2"
	down ours
}

@test "flags: two lines of one owner, the first gives the range" {
	book "dockroot:$START:$COUNT:" "dockroot:$((START + COUNT)):$COUNT:no-new-privs,deny-setgroups"
	update_config '.process.noNewPrivileges = false'
	shell "cat /proc/self/uid_map /proc/self/setgroups; $NNP"
	must ours run -b "$B" "$CT"
	has "$output" " $START "
	has "$output" allow
	has "$output" '0$'
}

@test "flags: of every line that a map touches apply together" {
	book "dockroot:$START:$COUNT:no-new-privs" "dockroot:$((START + COUNT)):$COUNT:deny-setgroups"
	update_config '.process.noNewPrivileges = false | .linux.namespaces += [{type: "user"}]
		| .linux.uidMappings = [{containerID: 0, hostID: $start, size: 131072}] | .linux.gidMappings = .linux.uidMappings' --argjson start "$START"
	shell "cat /proc/self/setgroups; $NNP"
	must ours run -b "$B" "$CT"
	has "$output" deny
	has "$output" '1$'
	audited '.flags == "deny-setgroups,no-new-privs" and (.lines | length) == 2'
}

@test "flags: one that nobody knows refuses the book" {
	book "# a comment" "dockroot:$START:$COUNT:no-new-priv"
	refused "$BOOK:2: flag \"no-new-priv\": unknown: did you mean no-new-privs" run -b "$B" "$CT"
	book "dockroot:$START:$COUNT:" "other:$((START + COUNT)):$COUNT:nonsense"
	refused "$BOOK:2: flag \"nonsense\": unknown" run -b "$B" "$CT"
}
