#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# Docker, containerd and Podman at once on one book.

load helpers
load engines
load docker
load containerd
load podman

setup_file() {
	W=$BATS_FILE_TMPDIR
	needs /usr/sbin/dockerd /usr/bin/docker containerd ctr podman conmon iptables ip || return 0
	snapshot >"$W/.first"
	docker_file busybox
	is_fit || return 0
	echo '{}' >"$DOCKER_CONFIG/config.json" # Podman reads it too
	containerd_file
	podman_file
}

teardown_file() {
	[[ ! -f $BATS_FILE_TMPDIR/containerd.pids ]] || end containerd
	[[ ! -f $BATS_FILE_TMPDIR/docker.pids ]] || end docker
}

snapshot() { tagged_snapshot; }

setup() {
	engine_setup
	containerd_words
}

teardown() {
	if [[ -z ${BATS_TEST_COMPLETED:-} && -f $BATS_FILE_TMPDIR/docker.pids ]]; then
		docker_clean >/dev/null 2>&1 || true
		containerd_clean
		podman_clean
	fi
	helpers_teardown
}

# shellcheck disable=SC2153 # of helpers.bash
ONE=$((START + COUNT))
TWO=$((START + 2 * COUNT))
THIRD=$((START + 3 * COUNT))

# What one owner has room for here.
PLACES=12

# apart FILE...: these have each the uid_map of a container: all of whole places of dockroot's
# lines, and no two the same.
apart() {
	local starts
	starts=$(awk '{print $2}' "$@" | sort -n)
	is "$#" "$(wc -l <<<"$starts")" "maps of one line"
	is "" "$(uniq -d <<<"$starts")" "ranges that two containers have"
	is "" "$(awk -v start="$START" -v count="$COUNT" -v places="$PLACES" \
		'($2 - start) % count || $2 < start || $2 >= start + places * count || $3 != count' "$@")" "ranges that aren't places of the book"
}

# hold FILE PID: the map of a running container, for apart.
hold() { cat "/proc/$2/uid_map" >"$1"; }

docker_init() { docker inspect -f '{{.State.Pid}}' "$1"; }

# mark ENGINE [ID]: has the container write whose it is, and tells whose it was.
mark() {
	local engine=$1 id=${2:-$CT} words
	words=(sh -c "cat /whose 2>/dev/null; echo $engine >/whose; id -u; stat -c %u /whose")
	case $engine in
	docker) docker exec "$id" "${words[@]}" ;;
	containerd) "${CTR[@]}" task exec --exec-id "e$RANDOM" "$id" "${words[@]}" ;;
	podman) podman exec "$id" "${words[@]}" ;;
	bare) ours exec "$id" "${words[@]}" ;;
	esac
}

# remove ENGINE [ID]
remove() {
	local id=${2:-$CT}
	case $1 in
	docker) must docker rm -f "$id" ;;
	containerd) ctr_down "$id" ;;
	podman) pod_down "$id" ;;
	bare) down ours "$id" ;;
	esac
}

@test "several: three engines and one owner, one after the other gone" {
	local engine left=(docker containerd podman)
	room "$PLACES"
	must docker run -d --name "$CT" --runtime ours busybox sleep 1000
	hold "$W/docker" "$(docker_init "$CT")"
	ctr_up ours
	hold "$W/containerd" "$init"
	pod_up ours
	hold "$W/podman" "$init"
	apart "$W/docker" "$W/containerd" "$W/podman"
	for engine in "${left[@]}"; do
		is $'0\n0' "$(mark "$engine")"
	done
	while ((${#left[@]})); do
		for engine in "${left[@]}"; do
			is "$engine"$'\n0\n0' "$(mark "$engine")"
		done
		remove "${left[0]}"
		left=("${left[@]:1}")
	done
}

@test "several: one ID in all of them, and in a runtime without an engine" {
	local id engine
	room "$PLACES"
	must docker run -d --runtime ours busybox sleep 1000
	id=$output
	CT=$id
	ctr_up ours
	WRITES=yes
	hold "$W/containerd" "$init"
	update_config '.linux.cgroupsPath = $path | .process.args = ["sleep", "1000"]' --arg path "/$UR_TAG/bare-$id"
	must ours run -d --pid-file "$W/bare.pid" -b "$B" "$id"
	hold "$W/bare" "$(<"$W/bare.pid")"
	hold "$W/docker" "$(docker_init "$id")"
	apart "$W/docker" "$W/containerd" "$W/bare"
	for engine in docker containerd bare; do
		is $'0\n0' "$(mark "$engine")"
	done
	for engine in docker containerd bare; do
		is "$engine"$'\n0\n0' "$(mark "$engine")"
	done
	# Each is deleted by its own, whatever the others have of the name.
	remove containerd
	is $'bare\n0\n0' "$(mark bare)"
	is $'docker\n0\n0' "$(mark docker)"
	must docker restart -t 0 "$id"
	is $'docker\n0\n0' "$(mark docker)"
	is $'bare\n0\n0' "$(mark bare)"
	remove docker
	is $'bare\n0\n0' "$(mark bare)"
	remove bare
	# Podman's, in containerd and bare.
	must pod_run ours -d -- sleep 1000
	id=$(pod_of "$CT" .Id)
	CT=$id
	ctr_up ours
	must ours run -d -b "$B" "$id"
	for engine in podman containerd; do
		is $'0\n0' "$(mark "$engine")"
	done
	is $'bare\n0\n0' "$(mark bare)"
	must podman restart -t 0 "$id"
	is $'podman\n0\n0' "$(mark podman)"
	remove podman
	is $'containerd\n0\n0' "$(mark containerd)"
	is $'bare\n0\n0' "$(mark bare)"
	remove bare
	remove containerd
}

@test "several: owners by runtimeArgs, by the program's name, by a rule" {
	# Several lines of an owner are filled one after the other.
	local five=$((START + 5 * COUNT)) six=$((START + 6 * COUNT))
	book "dockroot:$START:$COUNT:" "alice:$ONE:$COUNT:" "bob:$TWO:$COUNT:" "bob:$THIRD:$((2 * COUNT)):size=$((2 * COUNT))" \
		"alice:$five:$COUNT:" "bob:$six:$COUNT:"
	config '[[rule]]' 'root = "/run/runc"' 'owner = "bob"' '[[rule]]' "root = \"/run/containerd/runc/$NS-other\"" 'owner = "alice"'
	must docker run -d --name "$CT" --runtime alice busybox sleep 1000
	maps_are "0:$ONE:$COUNT" "$(docker_init "$CT")"
	must docker run -d --name "$CT-default" --runtime ours busybox sleep 1000
	maps_are "0:$START:$COUNT" "$(docker_init "$CT-default")"
	ln -s "$OURS" "$W/userns-runtime-bob"
	ctr_up "$W/userns-runtime-bob"
	maps_are "0:$TWO:$COUNT" "$init"
	pod_up ours # by the rule for Podman's directory
	maps_are "0:$THIRD:$((2 * COUNT))" "$init"
	local engine
	for engine in docker containerd podman; do
		is $'0\n0' "$(mark "$engine")"
	done
	# The one that a name says isn't overruled by a rule.
	CTR=(ctr -a "$CTR_SOCK" -n "$NS-other")
	told '[0-9]$' "$W/userns-runtime-bob" --rm -- cat /proc/self/uid_map
	has "$output" " $six "
	told '[0-9]$' ours --rm -- cat /proc/self/uid_map
	has "$output" " $five "
	containerd_words
	unshifted "$(upper_of)"
	unshifted "$(pod_upper)"
	unshifted "$(docker inspect -f '{{.GraphDriver.Data.UpperDir}}' "$CT")"
	# What is running is as it was started, whatever the book says now.
	book "nobody-else:$START:$((3 * COUNT)):"
	for engine in docker containerd podman; do
		is "$engine"$'\n0\n0' "$(mark "$engine")"
		remove "$engine"
	done
	must docker rm -f "$CT-default"
}

@test "several: started and removed at the same time" {
	local i pids=() pid
	room "$PLACES"
	for i in 1 2 3; do
		docker run --rm --name "$CT-$i" --runtime ours busybox cat /proc/self/uid_map >"$W/docker$i" 2>&1 3>&- &
		pids+=($!)
		(CT=$CT-$i && ctr_run ours --rm -- cat /proc/self/uid_map) >"$W/containerd$i" 2>&1 3>&- &
		pids+=($!)
		(CT=$CT-$i && pod_run ours --rm -- cat /proc/self/uid_map) >"$W/podman$i" 2>&1 3>&- &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do reap "$pid"; done
	# They may have come one after the other, and so have the same.
	for i in "$W"/{docker,containerd,podman}{1,2,3}; do apart "$i"; done
}

@test "several: many of three engines at once on one grant have ranges of their own" {
	local i engine maps=()
	room "$PLACES"
	for i in 1 2 3 4; do
		(docker run -d --name "$CT-$i" --runtime ours busybox sleep 1000 && hold "$W/docker$i" "$(docker_init "$CT-$i")") >"$W/o-d$i" 2>&1 3>&- &
		(CT=$CT-$i && ctr_up ours && hold "$W/containerd$i" "$init") >"$W/o-c$i" 2>&1 3>&- &
		(CT=$CT-$i && pod_up ours && hold "$W/podman$i" "$init") >"$W/o-p$i" 2>&1 3>&- &
	done
	wait_all
	tail -n 3 "$W"/o-*
	for i in 1 2 3 4; do
		for engine in docker containerd podman; do maps+=("$W/$engine$i"); done
	done
	apart "${maps[@]}"
	# All places are held. A thirteenth is refused, by each engine, and holds nothing.
	try docker run --rm --runtime ours busybox true
	is 125 "$status"
	has "$errput" "room for .* containers.* hold IDs there.*usernsctl set dockroot"
	try "${CTR[@]}" run --rm --runc-binary "$OURS" "$CTR_IMAGE" "$CT-13" true
	is 1 "$status"
	CT=$CT-13 try pod_run ours --rm -- true
	((status))
	# A range is free with its container, whoever had it, for whoever comes.
	is "0 0" "$(mark docker "$CT-2" | paste -sd' ')"
	must docker rm -f "$CT-2"
	must "${CTR[@]}" run --rm --runc-binary "$OURS" "$CTR_IMAGE" "$CT-13" cat /proc/self/uid_map
	is "$(awk '{$1 = $1; print}' "$W/docker2")" "$(awk '{$1 = $1; print}' <<<"$output")"
	for i in 1 2 3 4; do
		[[ $i == 2 ]] || must docker rm -f "$CT-$i"
		ctr_down "$CT-$i"
		pod_down "$CT-$i"
	done
	is "" "$(find /run/userns-runtime/leases -type f)" "leases, with all of them deleted"
}

# wait_all: for what the test has put into the background.
wait_all() {
	local job
	for job in $(jobs -p); do
		grep -qx "$job" "$W/.jobs" || wait "$job" || true
	done
}

# example FILE: a shipped file, with the path of the built program.
example() { sed "s,/usr/bin/userns-runtime,$OURS,g" "$TREE/config/examples/engines/$1"; }

@test "several: the shipped example for Docker" {
	book "dockroot:$START:$COUNT:" "alice:$ONE:$COUNT:"
	local was=$DOCKER_HOST
	docker_up examples ". * $(example daemon.json)" --bridge docker0 --iptables=false
	docker import "$(engine_image busybox)" busybox >/dev/null
	must docker run --rm busybox cat /proc/self/uid_map
	is "0 $START $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	must docker run --rm --runtime userns busybox cat /proc/self/uid_map
	is "0 $START $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	must docker run --rm --runtime userns-alice busybox cat /proc/self/uid_map
	is "0 $ONE $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	docker_down examples
	# It has taken the containerd that was there, and left it an empty directory.
	rmdir /run/containerd/io.containerd.runtime.v2.task/moby
	umount -q "$BATS_FILE_TMPDIR/examples/data" || true
	export DOCKER_HOST=$was
	find /sys/fs/cgroup -depth -type d -path "*/$UR_TAG-examples*" -exec rmdir {} +
}

@test "several: the shipped example for containerd" {
	book "kubernetes:$TWO:$COUNT:"
	example containerd.toml >"$W/containerd.toml"
	# The CRI plugin is asked what it made of it.
	must containerd --config "$W/containerd.toml" config dump
	has "$output" "BinaryName = \"$OURS-kubernetes\""
	has "$output" 'default_runtime_name = "userns"'
	ln -s "$OURS" "$W/userns-runtime-kubernetes"
	must "${CTR[@]}" run --rm --runc-binary "$W/userns-runtime-kubernetes" "$CTR_IMAGE" "$CT" cat /proc/self/uid_map
	is "0 $TWO $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
}

@test "several: the shipped example for Podman" {
	book "dockroot:$START:$COUNT:"
	# What this machine needs beside it.
	example containers.conf | sed '/^\[engine\]$/a cgroup_manager = "cgroupfs"\nevents_logger = "file"' >"$W/containers.conf"
	CONTAINERS_CONF=$W/containers.conf try podman run --rm --network none --cgroup-parent "/$UR_TAG" --ulimit nofile=1000:1000 --ulimit nproc=1000:1000 \
		"$POD_IMAGE" cat /proc/self/uid_map
	is 0 "$status"
	is "0 $START $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	# Refused, it shows the whole reason.
	book "somebody:$START:$COUNT:"
	CONTAINERS_CONF=$W/containers.conf try podman run --rm --network none --ulimit nofile=1000:1000 --ulimit nproc=1000:1000 "$POD_IMAGE" true
	has "$errput" "grant: dockroot: no line of the book grants anything: add one: usernsctl add dockroot"
}

@test "several: nothing is left when they have ended" {
	end docker
	end containerd
	local name
	# dockerd doesn't wait for its containerd.
	for name in containerd dockerd conmon; do eventually eval '! pgrep "$name"'; done
	umount /run/docker/netns/*
	podman_end
	ip link del docker0
	rm -rf /run/containerd /run/docker /run/docker.* /run/xtables.lock
	remove_cgroups
	snapshot >"$W/.before"
	diff <(machine "$BATS_FILE_TMPDIR/.first") <(machine "$W/.before")
}

# machine FILE: a snapshot without its processes: around setup_file bats has others.
machine() { sed '/^# processes$/,/^# interfaces$/d' "$1"; }
