#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# SIGKILL at every step of every verb, with several containers at once. What is
# judged, and how, is in tests/cmd/faults; `make soak` has 1,000 kills.

load helpers

@test "faults: whatever is killed, no two containers share an ID, and nothing is left" {
	local seed=${UR_SEED:-$RANDOM}
	echo "UR_SEED=$seed"
	# Each of four workers has two containers, and at times a third.
	room 16
	mkdir "$W/faults"
	try "$UR_HELPERS/faults" -seed "$seed" -kills "${UR_KILLS:-50}" -ours "$OURS" -runc "$RUNC" \
		-root "$W/faults" -bundle "$B" -config "$CONF" -cgroup "$CT"
	is 0 "$status" status
	[[ -z ${UR_KILLS:-} ]] || printf '%s\n' "$output" | sed 's/^/# /' >&3
}
