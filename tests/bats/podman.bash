# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

# Podman, which has no daemon: its configuration, an image, and the words that
# call it. Its containers' monitors (conmon) outlive the call, and its cgroups
# are below one with the tag of the tests.

POD_IMAGE=localhost/busybox

# podman_file: in setup_file. The first containers make what Podman keeps from
# then on: its database, a directory of network namespaces, chains of iptables.
podman_file() {
	POD=$BATS_FILE_TMPDIR/podman
	export POD CONTAINERS_CONF=$POD/containers.conf CONTAINERS_STORAGE_CONF=$POD/storage.conf
	mkdir -m 0700 "$POD"
	first_book
	# Where Podman keeps a cache whatever its configuration says.
	mkdir "$BATS_FILE_TMPDIR/lib" "$BATS_FILE_TMPDIR/lib-work"
	mount -t overlay -o "lowerdir=/var/lib,upperdir=$BATS_FILE_TMPDIR/lib,workdir=$BATS_FILE_TMPDIR/lib-work" overlay /var/lib
	podman_conf
	cat >"$CONTAINERS_STORAGE_CONF" <<-TOML
		[storage]
		driver = "overlay"
		graphroot = "$POD/graph"
		runroot = "/run/containers/storage"
	TOML
	mkdir -p /etc/containers
	echo '{"default": [{"type": "insecureAcceptAnything"}]}' >/etc/containers/policy.json
	printf 'containers:%s\n' "$START:$COUNT" | tee /etc/subuid >/etc/subgid
	podman import -q -c 'CMD ["sh"]' -c 'ENV PATH=/bin:/sbin:/usr/bin:/usr/sbin' "$(engine_image busybox)" "$POD_IMAGE" >/dev/null
	STDIN=/dev/null
	must pod_run plain --rm -- true
	must pod_run ours --rm -- true
}

# podman_conf: the runtimes of the tests. A machine without CAP_SYS_RESOURCE can't
# raise limits, so none is asked for. runtime_supports_json has Podman read a
# runtime's --log for the reason of a failure.
podman_conf() {
	mkdir -p "$POD/bin"
	ln -sf "$OURS" "$POD/bin/userns-runtime-alice"
	cat >"$CONTAINERS_CONF" <<-TOML
		[containers]
		default_ulimits = ["nofile=1000:1000", "nproc=1000:1000"]
		init_path = "$(command -v tini-static || command -v docker-init || true)"
		[network]
		network_backend = "netavark"
		network_config_dir = "$POD/networks"
		[engine]
		cgroup_manager = "cgroupfs"
		events_logger = "file"
		tmp_dir = "/run/libpod"
		volume_path = "$POD/graph/volumes"
		runtime = "ours"
		runtime_supports_json = ["plain", "ours", "alice"]
		[engine.runtimes]
		plain = ["$RUNC"]
		ours = ["$OURS"]
		alice = ["$POD/bin/userns-runtime-alice"]
	TOML
}

# pod_run RUNTIME FLAG... -- COMMAND...: container CT by that runtime.
pod_run() {
	local runtime=$1 flags=()
	shift
	while [[ $1 != -- ]]; do
		flags+=("$1")
		shift
	done
	shift
	podman --runtime "$runtime" run --name "$CT" --hostname thing --cgroup-parent "/$UR_TAG" "${flags[@]}" "$POD_IMAGE" "$@"
}

# same_pod FLAG... -- COMMAND...: `podman run` gives the same status, output and
# error output with both.
same_pod() {
	try pod_run plain --rm "$@"
	local p_status=$status p_output=$output
	p_errput=$errput
	try pod_run ours --rm "$@"
	is "$p_status" "$status" "status, runc's first"
	is "$p_output" "$output" "standard output, runc's first"
	# Podman says which runtime it was.
	is "${p_errput/plain: /}" "${errput/ours: /}" "standard error, runc's first"
}

# pod_up RUNTIME [FLAG...]: CT that sleeps, detached; init is its process.
pod_up() {
	local runtime=$1
	shift
	must pod_run "$runtime" -d "$@" -- sleep 1000
	init=$(pod_of "$CT" .State.Pid)
}

# pod_of CONTAINER PATH: a value of `podman inspect`.
pod_of() { podman inspect --format "{{$2}}" "$1"; }

pod_down() { must podman rm -f -t 0 "${1:-$CT}"; }

pod_status() { pod_of "${1:-$CT}" .State.Status; }

is_pod() { [[ $(pod_status "${2:-$CT}") == "$1" ]]; }

pod_upper() { pod_of "${1:-$CT}" .GraphDriver.Data.UpperDir; }

# podman_end: what stays mounted when there are no containers.
podman_end() {
	local mount
	for mount in /run/netns "$POD/graph/overlay" /var/lib; do
		! mountpoint -q "$mount" || umount "$mount"
	done
	rm -rf /run/libpod /run/containers /run/runc /run/netns
}

# podman_clean: removes what a failed test left.
podman_clean() {
	{
		podman pod rm -a -f -t 0
		podman rm -a -f -t 0
		podman volume prune -f
	} >/dev/null 2>&1
	remove_cgroups
	return 0
}
