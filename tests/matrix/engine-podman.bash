# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

# Podman, called by root, for tests/matrix.

# shellcheck source=tests/bats/containerd.bash
source "$BATS/containerd.bash"
# shellcheck source=tests/bats/podman.bash
source "$BATS/podman.bash"

# podman ARGS...: what makes a container has its cgroup below the sandbox's.
podman() {
	local words=(timeout --foreground -k 5 60 /usr/bin/podman)
	case $1-${2:-} in
	run-* | create-*) "${words[@]}" "$1" --cgroup-parent "/$UR_TAG" "${@:2}" ;;
	pod-create) "${words[@]}" pod create --cgroup-parent "/$UR_TAG" "${@:3}" ;;
	*) "${words[@]}" "$@" ;;
	esac
}

snapshot() { tagged_snapshot; }

engine_start() {
	CT=first
	# It would take the configuration of the tests away.
	# shellcheck disable=SC2317
	first_book() { :; }
	# shellcheck disable=SC2317
	eval "usual_$(declare -f podman_conf)"
	podman_conf() {
		usual_podman_conf
		sed -i -e 's/^runtime = .*/runtime = "tested"/' -e "s,^plain = .*,tested = [\"$TESTED\"]," \
			-e 's/^runtime_supports_json = .*/runtime_supports_json = ["tested"]/' "$CONTAINERS_CONF"
	}
	# shellcheck disable=SC2317
	pod_run() { podman run --name first --rm --cgroup-parent "/$UR_TAG" "$POD_IMAGE" true; }
	podman_file || return
	podman tag "$POD_IMAGE" busybox
	podman network create --subnet 10.123.0.0/24 net >/dev/null
	podman run --rm --network net busybox true
}

engine_stop() {
	podman_clean
	podman_end
}

left() { snapshot; }

remains() {
	local id n=0
	podman ps -aq --no-trunc --sort created >"$W/.ids"
	while read -r id; do
		n=$((n + 1))
		podman inspect -f "$n "'{{.State.Status}} {{.State.ExitCode}} oom={{.State.OOMKilled}} restarts={{.RestartCount}}' "$id" | part state
	done <"$W/.ids"
	podman kill -a >/dev/null 2>&1 || true
	n=0
	while read -r id; do
		n=$((n + 1))
		podman diff "$id" 2>/dev/null | sort | sed "s/^/$n /" | part diff
		id=$(pod_upper "$id")
		[[ ! -d $id ]] || listing "$id" | sed "s/^/$n /" | part disk
	done <"$W/.ids"
	for id in $(podman volume ls -q | sort); do
		listing "$(podman volume inspect -f '{{.Mountpoint}}' "$id")" | sed "s/^/volume $id /" | part disk
	done
}

tidy() {
	local ids
	{
		podman pod rm -a -f -t 0
		# One that another's namespaces come from goes at the second call.
		podman rm -a -f -t 0 || podman rm -a -f -t 0
		podman volume rm -a -f
		mapfile -t ids < <(podman images -a --format '{{.Repository}}:{{.Tag}} {{.ID}}' | grep -vE '^localhost/busybox:latest ' | cut -d' ' -f2 | sort -u)
		((${#ids[@]} == 0)) || podman rmi -f "${ids[@]}"
		mapfile -t ids < <(podman secret ls -q)
		((${#ids[@]} == 0)) || podman secret rm "${ids[@]}"
	} >"$W/.tidy" 2>&1 || true
}
