# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

# What the tests of Docker share. dockerd is started once for a file, with two
# runtimes: "plain", runc as it is, and "ours". What a test runs under both is
# compared; its containers are called plain and ours too.

# The command of Debian's package; another client may come earlier in PATH.
docker() { /usr/bin/docker "$@"; }

# docker_up [NAME [FILTER [ARGS...]]]: starts a dockerd of that name (docker) in
# a directory that only root may enter, and talks to it from now on. The jq filter
# changes its daemon.json; ARGS are dockerd's.
docker_up() {
	local name=${1:-docker} filter=${2:-.}
	D=$BATS_FILE_TMPDIR/$name
	mkdir -p "$D/client"
	chmod 0700 "$D"
	export D DOCKER_HOST=unix:///run/$name.sock DOCKER_CONFIG=$D/client DOCKER_BUILDKIT=0
	# The runtimes that some tests want beside the two: an owner by runtimeArgs.
	jq -n --arg d "$D" --arg name "$name" --arg plain "$RUNC" --arg ours "$OURS" --arg tag "$UR_TAG" '{
		"data-root": ($d + "/data"), "exec-root": ("/run/" + $name), pidfile: ("/run/" + $name + ".pid"),
		hosts: ["unix:///run/" + $name + ".sock"], "cgroup-parent": ("/" + $tag + "-" + $name),
		"storage-driver": "overlay2", "default-runtime": "plain",
		runtimes: ({plain: {path: $plain}, ours: {path: $ours}}
			+ ([("alice", "bob", "nobody", "stranger", "strict") | {(.): {path: $ours, runtimeArgs: ["--owner", .]}}] | add))
	} | '"$filter" >"$D/daemon.json"
	docker_again "$name" "${@:3}"
}

# docker_again [NAME [ARGS...]]: starts dockerd on what is there.
docker_again() {
	local name=${1:-docker}
	/usr/sbin/dockerd --config-file "$BATS_FILE_TMPDIR/$name/daemon.json" "${@:2}" \
		</dev/null >>"$BATS_FILE_TMPDIR/$name/log" 2>&1 3>&- &
	keep "$name" $!
	if ! patiently docker version; then
		tail -n 20 "$BATS_FILE_TMPDIR/$name/log"
		return 1
	fi
	[[ -z ${W:-} ]] || spare_kept
}

# default_runtime NAME: what `docker build` uses, which can't name one.
default_runtime() {
	set_daemon '."default-runtime" = "'"$1"'"'
	patiently eval '[[ $(docker info -f "{{.DefaultRuntime}}") == '"$1"' ]]'
}

# set_daemon FILTER: changes daemon.json, and has dockerd read it.
set_daemon() {
	jq "$1" "$D/daemon.json" >"$D/daemon.new"
	mv "$D/daemon.new" "$D/daemon.json"
	kill -HUP "$(kept docker)"
}

docker_down() {
	local name=${1:-docker}
	[[ -f $BATS_FILE_TMPDIR/$name.pids ]] || return 0
	end "$name"
	umount -q "/run/$name/netns"/* || true
	rm -rf "/run/$name" "/run/$name.sock"
}

# docker_file IMAGE...: what setup_file does: dockerd with these images, and what
# it makes once and leaves, made by one container of each runtime.
docker_file() {
	needs /usr/sbin/dockerd /usr/bin/docker iptables ip || return 0
	local image runtime
	for image; do
		engine_image "$image" >/dev/null || unfit "the image $image can't be made" || return 0
	done
	rm -rf /etc/usernamespaces /etc/userns-runtime
	mkdir -p "${ENGINE_CONF%/*}"
	printf 'runtimes = ["%s"]\n' "$RUNC" >"$ENGINE_CONF"
	echo "dockroot:$START:$COUNT:" >"$BOOK"
	docker_up docker || return
	for image; do
		docker import "$(engine_image "$image")" "$image" || return
	done
	for runtime in plain ours; do
		docker run --rm --runtime "$runtime" "$1" true || return
	done
	docker run --rm --runtime plain --network host "$1" true
}

# snapshot as in helpers.bash, and the cgroups of containers, which are below
# dockerd's. What a network namespace was bound to is removed by dockerd within a
# minute, and its socket gets a new name when it starts again.
snapshot() {
	# Not by a pipe: it looks for its own processes as this shell's children.
	helpers_snapshot >"$W/.snapshot"
	grep -vE "^/run/[a-z]+/(netns/[0-9a-f]{12} f|libnetwork/[0-9a-f]+.sock s)|/$UR_TAG-[a-z]+\$" "$W/.snapshot"
	# Others' may go while it looks.
	find /sys/fs/cgroup -type d -path "*/$UR_TAG-*/*" 2>/dev/null || true
}

docker_setup() {
	engine_setup || return
	docker_disk >"$W/.disk-before"
	cp "$D/data/image/overlay2/repositories.json" "$W/.images"
}

# No container, volume, image, network or layer of a test stays, nor a directory
# below a layer that isn't Docker's.
docker_teardown() {
	local ok=0
	is_fit || {
		helpers_teardown
		return
	}
	docker_clean >"$W/.clean" 2>&1 || true
	if [[ -n ${BATS_TEST_COMPLETED:-} && -z ${BATS_TEST_SKIPPED:-} ]] && ! eventually docker_same_disk; then
		echo "on disk it isn't as it was (<), but so (>):"
		cat "$W/.disk-diff" "$W/.clean"
		ok=1
	fi
	helpers_teardown || ok=1
	return "$ok"
}

# docker_clean: what is on disk says what there is to clean, faster than docker.
docker_clean() {
	local ids
	# One word each.
	# shellcheck disable=SC2046
	[[ -z $(ls "$D/data/containers") ]] || docker rm -fv $(docker ps -aq)
	# shellcheck disable=SC2046
	[[ -z $(find "$D/data/volumes" -mindepth 1 -type d) ]] || docker volume rm $(docker volume ls -q)
	if ! cmp -s "$W/.images" "$D/data/image/overlay2/repositories.json" || ! docker_same_disk; then
		ids=$(docker images -a --format '{{.Repository}}:{{.Tag}} {{.ID}}' | grep -vE '^(busybox|debian):latest ' | cut -d' ' -f2)
		# shellcheck disable=SC2086
		[[ -z $ids ]] || docker rmi -f $ids
		docker network prune -f
	fi
}

# docker_disk: the layers, their directories, and the rest that goes with them.
# Docker marks a layer as committed when it is first used.
docker_disk() {
	find "$D/data/overlay2" "$D/data/containers" "$D/data/volumes" "$D/data/image/overlay2/layerdb/mounts" \
		-mindepth 1 -maxdepth 2 ! -path '*/l/*' ! -name committed | sort
}

docker_same_disk() {
	docker_disk >"$W/.disk-after"
	diff "$W/.disk-before" "$W/.disk-after" >"$W/.disk-diff"
}

# --- under both

# same_docker ARGS...: docker run --rm, under both runtimes, ends with the same
# status, output and error output. What is of one container alone isn't compared:
# IDs, and the name of the runtime.
same_docker() {
	local lines
	try docker run --rm --runtime plain "$@"
	local p_status=$status p_output=$output
	p_errput=$errput
	lines=$(audit_lines)
	try docker run --rm --runtime ours "$@"
	is "$p_status" "$status" "status, runc's first"
	is "$(anyone <<<"$p_output")" "$(anyone <<<"$output")" "standard output, runc's first"
	is "$(anyone <<<"$p_errput")" "$(anyone <<<"$errput")" "error output, runc's first"
	# It went through the gate, unless Docker refused it by itself.
	((status == 125)) || is $((lines + 1)) "$(audit_lines)" "lines of the audit"
}

# ran ARGS...: same_docker, of what has to succeed.
ran() {
	same_docker "$@"
	is 0 "$status" status
}

audit_lines() { if [[ -f $AUDIT ]]; then wc -l <"$AUDIT"; else echo 0; fi; }

# The client says at times that it waited in vain for what didn't start.
anyone() { sed -E -e '/error waiting for container: context canceled/d' -e 's/[0-9a-f]{64}/ID/g' -e 's/\b[0-9a-f]{12}\b/ID/g' -e 's/runtime-(plain|ours)/runtime/g'; }

# both ARGS...: starts two containers alike, which stay. The one of ours is in
# the range.
both() {
	pair "$@"
	shifted ours
}

# pair ARGS...: both, of containers that may have ended by now.
pair() {
	local runtime lines
	lines=$(audit_lines)
	for runtime in plain ours; do
		must docker run -d --name "$runtime" --hostname box --runtime "$runtime" "$@"
	done
	is $((lines + 1)) "$(audit_lines)" "lines of the audit"
}

# shifted NAME: the container's root is nobody on the host.
shifted() { maps_are "0:$START:$COUNT" "$(pid_of "$1")"; }

pid_of() { docker inspect -f '{{.State.Pid}}' "$1"; }
state_of() { docker inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}}' "$1"; }
is_state() { [[ $(docker inspect -f '{{.State.Status}}' "$1") == "$2" ]]; }

# alike VERB ARGS...: the same docker command on both, NAME being replaced by the
# container's.
alike() {
	try docker "${@//NAME/plain}"
	local p_status=$status p_output=$output
	p_errput=$errput
	try docker "${@//NAME/ours}"
	is "$p_status" "$status" "status, runc's first"
	is "$(nameless plain "$p_output")" "$(nameless ours "$output")" "standard output, runc's first"
	is "$(nameless plain "$p_errput")" "$(nameless ours "$errput")" "error output, runc's first"
}

nameless() { anyone <<<"$2" | sed "s/\b$1\b/NAME/g"; }

# did ARGS...: alike, of what has to succeed.
did() {
	alike "$@"
	is 0 "$status" status
}

# in_both COMMAND...: docker exec in both, which has to succeed.
in_both() { did exec NAME "$@"; }

upper() { docker inspect -f '{{.GraphDriver.Data.UpperDir}}' "$1"; }

upper_listing() { listing "$(upper "$1")" "$(docker inspect -f '{{.GraphDriver.Data.LowerDir}}' "$1" | cut -d: -f1)"; }

# same_upper: what both wrote is the same on disk, and has no ID of a range.
same_upper() {
	sync
	diff <(upper_listing plain) <(upper_listing ours) || {
		echo "the upper directory isn't runc's (<)"
		return 1
	}
	unshifted "$(upper ours)"
}

# same_diff: docker diff, which has no order, is the same for both.
same_diff() {
	try docker diff plain
	local want
	want=$(sort <<<"$output")
	try docker diff ours
	is "$want" "$(sort <<<"$output")" "docker diff, runc's first"
}

# volume NAME: its directory.
volume() { docker volume inspect -f '{{.Mountpoint}}' "$1"; }
