# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2046,SC2153,SC2119,SC2016 # IDs are one word each; the rest is of world, and of jq

# dockerd for tests/matrix: how it starts, what a case leaves, and how that is removed.

# shellcheck source=tests/bats/docker.bash
source "$BATS/docker.bash"

# What only its user calls has a limit, since a hanging client hangs all.
docker() { timeout --foreground -k 5 "${LIMIT:-60}" /usr/bin/docker "$@"; }

# The data root is below directories that a remapped root can pass; it is itself
# closed by dockerd.
engine_start() {
	local filter='."data-root" = "/mnt/data" | ."default-runtime" = "tested" | .runtimes.tested = {path: $ENV.TESTED} | ."log-level" = "error"' image
	if [[ $RUNTIME == remap ]]; then
		filter+=' | ."userns-remap" = "default"'
	fi
	docker_up docker "$filter" || return
	for image in $MATRIX_IMAGES; do
		docker import -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' "$(engine_image "$image")" "$image" >/dev/null || return
	done
	# What dockerd makes once, and leaves.
	docker run --rm busybox true
	docker run --rm --network host busybox true || true
	DATA=$(docker info -f '{{.DockerRootDir}}')
	disk >"$W/.disk"
	cp "$DATA/image/overlay2/repositories.json" "$W/.images"
}

engine_stop() { docker_down; }

disk() {
	find "$DATA/overlay2" "$DATA/containers" "$DATA/volumes" "$DATA/image/overlay2/layerdb/mounts" \
		-mindepth 1 -maxdepth 2 ! -path '*/l/*' ! -name committed | sort
}

# Not by a pipe: snapshot knows this shell from the rest by its number.
left() {
	snapshot >"$W/.left"
	grep -v ' /mnt/data/overlay2/.* overlay ' "$W/.left"
}

# remains: what is there after the commands: containers, what they changed, who owns it, volumes.
# What the disk says takes no time, each call of docker some.
remains() {
	local upper lower id n=0 ids
	mapfile -t ids < <(none "$DATA/containers" || docker ps -aq --no-trunc | tac)
	if ((${#ids[@]})); then
		docker inspect -f '{{.GraphDriver.Data.UpperDir}} {{.GraphDriver.Data.LowerDir}} {{.State.Status}} {{.State.ExitCode}} oom={{.State.OOMKilled}} {{.State.Error}} restarts={{.RestartCount}}' "${ids[@]}" >"$W/.containers"
		cut -d' ' -f3- "$W/.containers" | nl -w 1 -s ' ' | part state
		# An upper layer that nobody writes.
		! grep -qE '^[^ ]* [^ ]* (running|paused|restarting) ' "$W/.containers" || docker kill "${ids[@]}" >/dev/null 2>&1 || true
	fi
	for id in "${ids[@]}"; do
		n=$((n + 1))
		docker diff "$id" | sort | sed "s/^/$n /" | part diff
		read -r upper lower _ < <(sed -n "${n}p" "$W/.containers")
		listing "$upper" "${lower%%:*}" | sed "s/^/$n /" | part disk
	done
	none "$DATA/volumes" -type d && return
	docker volume inspect -f '{{.Name}} {{.Mountpoint}}' $(docker volume ls -q | sort) | while read -r id upper; do
		listing "$upper" | sed "s/^/volume $id /" | part disk
	done
}

# tidy: no container, volume, image or network is left, nor anything in the data root.
tidy() {
	local ids
	{
		none "$DATA/containers" || docker rm -fv $(docker ps -aq)
		none "$DATA/volumes" -type d || docker volume rm $(docker volume ls -q)
		if ! cmp -s "$DATA/image/overlay2/repositories.json" "$W/.images" || ! same_disk; then
			mapfile -t ids < <(docker images -a --format '{{.Repository}}:{{.Tag}} {{.ID}}' | grep -vE '^(busybox|debian|services):latest ' | cut -d' ' -f2)
			((${#ids[@]} == 0)) || docker rmi -f "${ids[@]}"
		fi
		! grep -q 'docker network create' <(case_lines "$HERE/docker.cases" "$1") || docker network prune -f
	} >"$W/.tidy" 2>&1 || true
	if ! eventually same_disk >/dev/null; then
		grep '^[<>]' "$W/.disk-diff" | part host
		cat "$W/.tidy" >&2
		disk >"$W/.disk"
	fi
}

same_disk() {
	disk >"$W/.disk-after"
	diff "$W/.disk" "$W/.disk-after" >"$W/.disk-diff"
}
