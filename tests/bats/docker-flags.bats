#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# The flags that restrict, under Docker: what it sends for --privileged, for exec --privileged and for the
# host's namespaces. Each flag on each road is in flags-roads.bats.

load helpers
load engines
load docker

setup_file() { docker_file busybox; }
teardown_file() { docker_down; }
setup() { docker_setup; }
teardown() { docker_teardown; }

# docker_refuses PATTERN ARGS...: docker run is refused by that.
docker_refuses() {
	local pattern=$1
	shift
	try docker run --rm --runtime ours "$@"
	is 125 "$status" "status of: $*"
	has "$errput" "$pattern"
	audited '.decision == "refused"'
}

@test "docker flags: deny-privileged" {
	book "dockroot:$START:$COUNT:deny-privileged"
	docker_refuses 'usernamespaces:1: flag deny-privileged: .*CAP_SYS_ADMIN' --privileged busybox true
	docker_refuses 'flag deny-privileged: .*CAP_SYS_ADMIN' --cap-add SYS_ADMIN busybox true
	docker_refuses 'flag deny-privileged: .*CAP_SYS_ADMIN' --cap-add ALL --cap-drop AUDIT_READ busybox true
	docker_refuses 'flag deny-privileged: .*maskedPaths' --security-opt systempaths=unconfined busybox true
	docker run -d --name flagged --runtime ours --cap-add NET_ADMIN busybox sleep 1000
	must docker exec flagged id -u
	try docker exec --privileged flagged true
	is 126 "$status"
	has "$errput$output" 'flag deny-privileged, which the container was started with'
	docker rm -f flagged >/dev/null
}

@test "docker flags: deny-host-ns" {
	book "dockroot:$START:$COUNT:deny-host-ns"
	# dockerd has the host's network namespace bound to a path of its own.
	docker_refuses "usernamespaces:1: flag deny-host-ns: .*no network namespace, so the container would be in the host.s .--network host" --cgroupns private --network host busybox true
	local kind
	for kind in uts pid ipc; do
		docker_refuses "usernamespaces:1: flag deny-host-ns: linux.namespaces: no $kind namespace" --cgroupns private "--$kind" host busybox true
	done
	docker_refuses 'no cgroup namespace.*--cgroupns private' --cgroupns host busybox true
	must docker run --rm --runtime ours --cgroupns private busybox readlink /proc/self/ns/cgroup
	[[ $output != "$(readlink /proc/self/ns/cgroup)" ]]
	# Another container's network isn't the host's.
	docker run -d --name flagged --runtime ours --cgroupns private busybox sleep 1000
	must docker run --rm --runtime ours --cgroupns private --network container:flagged busybox true
	docker rm -f flagged >/dev/null
}

@test "docker flags: deny-devices" {
	book "dockroot:$START:$COUNT:deny-devices"
	docker_refuses 'usernamespaces:1: flag deny-devices: .*linux.devices' --device /dev/fuse busybox true
	docker_refuses 'usernamespaces:1: flag deny-devices: .*linux.resources.devices' --device-cgroup-rule 'c 10:229 rw' busybox true
	docker_refuses 'flag deny-devices: .*/dev/.* is a device' -v /dev:/hostdev busybox true
	must docker run --rm --runtime ours -v data:/data busybox sh -c 'echo x >/dev/null && head -c 1 /dev/urandom | wc -c'
	is 1 "$output"
}

@test "docker flags: deny-nested and drop-caps" {
	book "dockroot:$START:$COUNT:deny-nested,drop-caps=CAP_NET_RAW+CAP_SYS_CHROOT"
	docker run -d --name flagged --runtime ours -v "$UR_HELPERS:/helpers:ro" --cap-add ALL --security-opt seccomp=unconfined busybox sleep 1000
	maps_are "0:$START:$COUNT" "$(docker inspect -f '{{.State.Pid}}' flagged)"
	local how
	for how in "" --privileged; do
		# shellcheck disable=SC2086 # one word, or none
		must docker exec $how flagged /helpers/undo 13 18
		has "$output" '^user namespace after that: ENOSPC$'
		has "$output" '^bounding 13: EPERM$'
		has "$output" '^capset 18: EPERM$'
	done
	must docker exec flagged sh -c 'touch /x && chown 5:6 /x && stat -c %u:%g /x'
	is 5:6 "$output"
	docker restart -t 0 flagged >/dev/null
	must docker exec flagged /helpers/undo 13
	has "$output" '^user namespace: ENOSPC$'
	docker rm -f flagged >/dev/null
}
