#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# Ends that nobody planned.

load helpers

@test "kill: the engine's death ends us, as it ends runc" {
	local runtime engine shim want='' got
	process sleep 1000
	for runtime in plain ours; do
		local -n cmd=${runtime}_cmd
		"$UR_HELPERS/deathparent" "$W/$runtime.shim" "${cmd[@]}" run -b "$B" "$CT" </dev/null >"$W/o" 2>&1 3>&- &
		engine=$!
		eventually is_status "$runtime" running
		shim=$(<"$W/$runtime.shim")
		# By now it is runc, and the same process.
		is "$RUNC" "$(readlink "/proc/$shim/exe")" || has "$(readlink "/proc/$shim/exe")" memfd
		kill -KILL "$engine"
		reap "$engine"
		eventually test ! -e "/proc/$shim"
		got=$(status_of "$runtime")
		is "${want:=$got}" "$got" "the container's state, runc's first"
		must "$runtime" delete -f "$CT"
	done
}

@test "kill: an engine that dies during create" {
	# Slow enough in its own part to be met there: the hook is runc's.
	local runtime engine shim
	process sleep 1000
	update_config '.hooks = {createRuntime: [{path: "/bin/sleep", args: ["sleep", "3"]}]}'
	for runtime in plain ours; do
		local -n cmd=${runtime}_cmd
		"$UR_HELPERS/deathparent" "$W/$runtime.shim" "${cmd[@]}" create -b "$B" "$CT" </dev/null >"$W/o" 2>&1 3>&- &
		engine=$!
		eventually test -s "$W/$runtime.shim"
		shim=$(<"$W/$runtime.shim")
		sleep 0.15
		kill -KILL "$engine"
		reap "$engine"
		eventually test ! -e "/proc/$shim"
		plain_root_clean "$runtime"
	done
}

# plain_root_clean RUNTIME: takes away what runc itself leaves of a container
# whose making was ended.
plain_root_clean() {
	"$1" delete -f "$CT" >/dev/null 2>&1 || true
	local pid
	for pid in $(ps -eo pid=,args= | awk '$2 ~ /(^|\/)runc$/ && $3 == "init" || $2 == "sleep" && $3 == "3" {print $1}'); do
		kill -KILL "$pid" 2>/dev/null || true
	done
	"$1" delete -f "$CT" >/dev/null 2>&1 || true
	# Without a state.json, runc knows nothing of the cgroup and the directory.
	rm -rf "${W:?}/$1/$CT"
	find /sys/fs/cgroup -depth -type d -name "$CT" -exec rmdir {} + 2>/dev/null || true
}

@test "kill: SIGKILL at random moments of create" {
	local seed=${UR_SEED:-$RANDOM} i pause met ours_met=0
	echo "UR_SEED=$seed"
	RANDOM=$seed
	process sleep 1000
	for ((i = 0; i < 40; i++)); do
		# Every other one early: our own part is the shorter.
		pause=$((RANDOM % (i % 2 ? 40000 : 12000))) # microseconds
		met=$("$UR_HELPERS/killafter" "$pause" "${ours_cmd[@]}" create -b "$B" "$CT" </dev/null 2>&1 3>&-)
		echo "after $pause us: $met"
		[[ $met == "$OURS" ]] && ours_met=$((ours_met + 1))
		is "" "$(find /run/userns-runtime -mindepth 1 ! -type l ! -path /run/userns-runtime/mnt ! -path /run/userns-runtime/mnt/rootfs ! -path /run/userns-runtime/runtimes ! -path "/run/userns-runtime/leases*")" \
			"below /run/userns-runtime, after $pause us"
		is "" "$(grep -F -e /run/userns-runtime -e "$B" /proc/self/mountinfo)" "mounts, after $pause us"
		plain_root_clean ours
	done
	echo "met in our own part: $ours_met of 40"
	((ours_met > 0))
	# No process of ours is left, nor one that was parked in a namespace.
	eventually eval '! ps -eo args= | grep -qE "[u]serns-runtime|[r]unc init"'
	# And the same ID starts as ever.
	must ours delete -f "$CT"
	up ours
	maps_are "0:$START:$COUNT" "$init"
	down ours
}

@test "kill: signals in our own part end us, and nothing is left" {
	local signal i
	for signal in TERM INT HUP; do
		for i in 1 2 3; do
			env --default-signal=INT,QUIT "${ours_cmd[@]}" create -b "$B" "$CT" </dev/null >"$W/o" 2>&1 3>&- &
			pid=$!
			sleep "0.00$i"
			kill -s "$signal" "$pid" 2>/dev/null || true
			wait "$pid" 2>/dev/null || true
			plain_root_clean ours
		done
	done
}
