#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# The flags that restrict, under Podman and under ctr: what they send by default starts, pods too, and what they
# send for --privileged is refused. Each flag on each road is in flags-roads.bats.

load helpers
load engines
load containerd
load podman

setup_file() {
	W=$BATS_FILE_TMPDIR
	needs podman conmon iptables ip containerd ctr || return 0
	snapshot >"$W/.first"
	podman_file
	containerd_file
}

teardown_file() {
	[[ ! -f $BATS_FILE_TMPDIR/containerd.pids ]] || end containerd
}

snapshot() { tagged_snapshot; }

setup() {
	engine_setup
	containerd_words
	chmod 0700 "$BATS_RUN_TMPDIR"
}

teardown() {
	[[ -n ${BATS_TEST_COMPLETED:-} ]] || {
		podman_clean
		containerd_clean
	}
	helpers_teardown
}

FLAGS=deny-setgroups,no-new-privs,deny-nested,deny-privileged,deny-devices,drop-caps=CAP_SYS_CHROOT

@test "podman and ctr: what they send by default starts under the flags" {
	book "dockroot:$START:$COUNT:$FLAGS"
	must pod_run ours --rm -v "$UR_HELPERS:/helpers:ro" -- /helpers/undo 18
	has "$output" '^user namespace after that: ENOSPC$'
	has "$output" '^bounding 18: EPERM$'
	told . ours --rm --mount "type=bind,src=$UR_HELPERS,dst=/helpers,options=rbind:ro" -- /helpers/undo 18
	has "$output" '^user namespace after that: ENOSPC$'
	has "$output" '^bounding 18: EPERM$'
	# The host's cgroup namespace, which both take on cgroup v1.
	book "dockroot:$START:$COUNT:$FLAGS,deny-host-ns"
	must pod_run ours --rm --cgroupns private -- true
	try pod_run ours --rm --network host --cgroupns private -- true
	has "$errput" 'flag deny-host-ns: linux.namespaces: no network namespace'
}

@test "podman and ctr: --privileged, devices and exec --privileged are refused" {
	book "dockroot:$START:$((2 * COUNT)):deny-privileged"
	try pod_run ours --rm --privileged -- true
	has "$errput" 'flag deny-privileged: .*CAP_SYS_ADMIN'
	try pod_run ours --rm --security-opt unmask=ALL -- true
	has "$errput" 'flag deny-privileged: .*maskedPaths'
	try ctr_run ours --rm --privileged -- true
	has "$errput" 'flag deny-privileged: .*CAP_SYS_ADMIN'
	pod_up ours
	must podman exec "$CT" true
	try podman exec --privileged "$CT" true
	[[ $status != 0 ]]
	has "$errput" 'flag deny-privileged, which the container was started with'
	pod_down
	book "dockroot:$START:$COUNT:deny-devices"
	try pod_run ours --rm --device /dev/fuse -- true
	has "$errput" 'flag deny-devices: .*linux'
}

@test "podman and ctr: two containers in the namespaces of one, under deny-nested" {
	book "dockroot:$START:$COUNT:deny-nested"
	pod_up ours
	must podman run --runtime ours --rm --cgroup-parent "/$UR_TAG" --ipc "container:$CT" --pid "container:$CT" --network "container:$CT" \
		-v "$UR_HELPERS:/helpers:ro" "$POD_IMAGE" /helpers/undo
	has "$output" '^user namespace after that: ENOSPC$'
	pod_down
}
