# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

# containerd, by its client ctr, for tests/matrix.

# shellcheck source=tests/bats/containerd.bash
source "$BATS/containerd.bash"

# ctr ARGS...: with the namespace, and the runtime for what starts a container.
ctr() {
	local words=(timeout --foreground -k 5 60 /usr/bin/ctr -a "$CTR_SOCK" -n "$NS")
	case $1-${2:-} in
	run-*) "${words[@]}" run --runc-binary "$TESTED" "${@:2}" ;;
	*) "${words[@]}" "$@" ;;
	esac
}

snapshot() { tagged_snapshot; }

engine_start() {
	CTRD=$BATS_FILE_TMPDIR/containerd NS=$UR_TAG
	mkdir -m 0700 "$CTRD"
	CTR=(ctr)
	containerd_start || return
	oci_image "$(engine_image busybox)" "$CTRD/image.tar" "$CTR_IMAGE"
	oci_image "$(engine_image busybox)" "$CTRD/layers.tar" layers:latest 12
	oci_image "$(engine_image busybox)" "$CTRD/user.tar" user:latest 0 1000-1000
	local image
	for image in image layers user; do ctr image import "$CTRD/$image.tar" >/dev/null || return; done
	ctr run --rm "$CTR_IMAGE" first true
	# What ip-netns leaves.
	ip netns add first
	ip netns del first
	snapshots >"$W/.disk"
}

engine_stop() { end containerd; }

left() { snapshot; }

snapshots() { ctr snapshot ls | awk 'NR > 1 && $3 != "Committed" {print $1}' | sort; }

remains() {
	local id
	for id in $(ctr container ls -q | sort); do
		echo "$id $(task_status "$id")" | part state
		ctr task kill -s KILL "$id" >/dev/null 2>&1 && patiently says STOPPED task_status "$id"
		[[ -z $(upper_of "$id") ]] || listing "$(upper_of "$id")" | sed "s/^/$id /" | part disk
	done
}

tidy() {
	local id
	for id in $(ctr container ls -q); do
		ctr task rm -f "$id" || true
		ctr container rm "$id"
	done >"$W/.tidy" 2>&1
	if ! eventually same_snapshots >/dev/null; then
		grep '^[<>]' "$W/.disk-diff" | part host
		snapshots >"$W/.disk"
	fi
}

same_snapshots() {
	snapshots >"$W/.disk-after"
	diff "$W/.disk" "$W/.disk-after" >"$W/.disk-diff"
}
