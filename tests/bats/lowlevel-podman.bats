#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# An engine, with runc 1.1 and crun behind the gate.

load helpers
load engines
load containerd
load podman

OLD=/usr/sbin/runc
CRUN=/usr/bin/crun

setup_file() {
	W=$BATS_FILE_TMPDIR
	needs podman conmon iptables ip || return 0
	# crun doesn't run beside a cgroup2 on hosts with the old cgroups: neither by itself.
	if [[ -d /sys/fs/cgroup/unified ]]; then
		umount -l /sys/fs/cgroup/unified 2>/dev/null || true
		mount -t tmpfs tmpfs /sys/fs/cgroup/unified
	fi
	"$CRUN" --version >/dev/null 2>&1 || true
	podman_file
	close_above
}

close_above() { chmod 0700 "$BATS_RUN_TMPDIR"; }

snapshot() { tagged_snapshot; }

setup() { engine_setup; }

# with LOW: as the low-level runtime.
with() {
	mkdir -p /etc/userns-runtime
	printf 'runtimes = ["%s"]\n[audit]\npath = "%s"\n' "$1" "$AUDIT" >/etc/userns-runtime/config.toml
}

teardown() {
	close_above
	[[ -n ${BATS_TEST_COMPLETED:-} ]] || podman_clean
	[[ $(stat -f -c %T /sys/fs/cgroup/unified) != tmpfs ]] || rm -rf "/sys/fs/cgroup/unified/"*"$UR_TAG"*
	helpers_teardown
}

@test "lowlevel podman: crun: run, exec, stop, start, rm, on Podman's own network" {
	[[ -x $CRUN ]] || skip "needs crun"
	with "$CRUN"
	same_pod -- sh -c 'id; echo err >&2; cat /proc/self/setgroups; touch /tmp/x; ls -ln /tmp/x | cut -c1-24; exit 3'
	audited '.runtime | test("crun 1")'
	pod_up ours
	maps_are "0:$START:$COUNT" "$init"
	must podman exec "$CT" sh -c 'id -u; ip -o addr show eth0 | grep -c inet; cat /proc/self/uid_map'
	is "0 2 0 $START $COUNT" "$(xargs <<<"$output")" "exec"
	must podman exec --user 1000:1000 "$CT" id -u
	is 1000 "$output" "exec --user"
	must podman stop -t 0 "$CT"
	must podman start "$CT"
	must podman exec "$CT" true
	pod_down
	# What it can't be given is refused by name.
	try pod_run ours --rm --privileged -- true
	((status != 0))
	has "$errput" "with crun|this build hands no device"
	try pod_run ours --rm --cap-add SYS_ADMIN -- true
	has "$errput" "process.capabilities: CAP_SYS_ADMIN: with crun"
	try pod_run ours --rm --annotation run.oci.keep_original_groups=1 -- true
	has "$errput" "annotations: run.oci.keep_original_groups: crun does by it what nobody judged"
}

@test "lowlevel podman: runc 1.1: without a network of Podman's; with one it is refused by name" {
	[[ $("$OLD" --version 2>/dev/null | head -n 1) =~ ^runc\ version\ 1\.1\. ]] || skip "needs /usr/sbin/runc 1.1"
	with "$OLD"
	same_pod --network none -- sh -c 'id; echo err >&2; touch /tmp/x; ls -ln /tmp/x | cut -c1-24; exit 3'
	audited '.runtime | test("runc 1.1")'
	pod_up ours --network none
	maps_are "0:$START:$COUNT" "$init"
	must podman exec "$CT" cat /proc/self/uid_map
	is "0 $START $COUNT" "$(xargs <<<"$output")" "exec"
	pod_down
	try pod_run ours --rm -- true
	((status != 0))
	has "$errput" "linux.namespaces: network: path: runc 1.1.* enters the user namespace first"
}
