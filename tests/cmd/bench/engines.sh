#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs one image under Docker with the gate, under Docker with plain runc, and
# under Podman with a new range for each container, by turns, and prints how
# many milliseconds each whole call took. It is called in a sandbox, by bench.
# usage: engines.sh DIRECTORY TREE GATE RUNC ROUNDS
set -euo pipefail

dir=$1 tree=$2 gate=$3 runc=$4 rounds=$5
install -d -m 0700 "$dir"
ip link set lo up
mkdir -p /etc/userns-runtime /etc/containers
echo 'dockroot:1879048192:65536:' >/etc/usernamespaces
printf 'runtimes = ["%s"]\n' "$runc" >/etc/userns-runtime/config.toml
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >/etc/containers/policy.json
echo 'containers:500000000:655360000' | tee /etc/subuid >/etc/subgid
cat >"$dir/daemon.json" <<END
{"runtimes": {"ours": {"path": "$gate"}, "plain": {"path": "$runc"}}}
END
cat >"$dir/containers.conf" <<END
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "plain"
[engine.runtimes]
plain = ["$runc"]
END
cat >"$dir/storage.conf" <<END
[storage]
driver = "overlay"
graphroot = "$dir/graph"
runroot = "/run/bench-podman"
END

export DOCKER_HOST=unix:///run/bench-docker.sock CONTAINERS_CONF=$dir/containers.conf CONTAINERS_STORAGE_CONF=$dir/storage.conf
docker=/usr/bin/docker
[[ -x $docker ]] || docker=docker
dockerd --config-file "$dir/daemon.json" --data-root "$dir/docker" --exec-root /run/bench-docker --pidfile /run/bench-docker.pid \
	-H "$DOCKER_HOST" >"$dir/dockerd.log" 2>&1 &
daemon=$!
clean_up() {
	kill "$daemon" 2>/dev/null || true
	wait "$daemon" || true
	umount -R "$dir/graph/overlay" 2>/dev/null || true
}
trap clean_up EXIT
for _ in $(seq 100); do
	"$docker" version >/dev/null 2>&1 && break
	sleep 0.1
done

mkdir -p "$tree"/{bin,dev,proc,sys,etc,tmp}
cp "$(command -v busybox)" "$tree/bin/true"
tar -C "$tree" -c . | "$docker" import - image >/dev/null
"$docker" save image >"$dir/image.tar"
rm -rf "$tree"
podman load -q -i "$dir/image.tar" >/dev/null
rm "$dir/image.tar"

# timed NAME COMMAND...
timed() {
	local name=$1 from to
	shift
	from=$(date +%s%N)
	"$@" >/dev/null
	to=$(date +%s%N)
	awk -v name="$name" -v ns=$((to - from)) 'BEGIN { printf "%s %.3f\n", name, ns / 1e6 }'
}

limits=(--ulimit nofile=1000:1000 --ulimit nproc=1000:1000)
for ((i = 0; i < rounds; i++)); do
	for k in 0 1 2; do
		case $(((i + k) % 3)) in
		0) timed ours "$docker" run --rm --runtime ours image true ;;
		1) timed plain "$docker" run --rm --runtime plain image true ;;
		# Without the network, so that its time isn't in it.
		2) timed podman podman run --rm --network none --userns=auto "${limits[@]}" image true ;;
		esac
	done
done
