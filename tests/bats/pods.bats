#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# A pod as containerd's CRI plugin makes it: a sandbox whose network namespace was
# made beforehand on the host's account, and containers that join the network, ipc
# and uts namespaces of its process. Bundles, layers and files lie where containerd
# has them, below a directory that only root may enter.

# shellcheck disable=SC2317 # functions are called by both_pods
load helpers

# What runc is given for a container without privileges.
CRI_CAPS=(CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID CAP_SETUID
	CAP_SETFCAP CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE)

teardown() {
	local ok=0
	unmount_all
	if [[ -z ${BATS_TEST_COMPLETED:-} ]]; then
		clean_up
		return
	fi
	invariants || ok=1
	clean_up
	return "$ok"
}

# unmount_all: what the engine would unmount, the last first.
unmount_all() {
	local mount
	while read -r mount; do
		umount -l "$mount"
	done < <(awk -v w="$W/" 'index($5, w) == 1 {print $5}' /proc/self/mountinfo | tac)
}

# network_namespace NAME: as CNI makes one, with an interface of the pod's own.
network_namespace() {
	NETNS=$W/netns-$1
	touch "$NETNS"
	unshare --net="$NETNS" true
	nsenter --net="$NETNS" sh -c 'ip link set lo up
		ip link add eth0 type veth peer name other && ip addr add 10.99.0.2/24 dev eth0 && ip link set eth0 up'
}

# bundle NAME FILTER [jq's arguments...]: the bundle of that container, in BUNDLE.
bundle() {
	local name=$1 filter=$2 snapshots=$W/root/io.containerd.snapshotter.v1.overlayfs/snapshots
	local snapshot=$snapshots/$name
	shift 2
	BUNDLE=$W/state/io.containerd.runtime.v2.task/k8s.io/$name
	mkdir -p "$snapshot"/{fs,work} "$BUNDLE/rootfs"
	[[ -d $snapshots/1 ]] || { mkdir "$snapshots/1" && cp -a "$UR_TEMPLATE/rootfs" "$snapshots/1/fs"; }
	mount -t overlay -o "index=off,workdir=$snapshot/work,upperdir=$snapshot/fs,lowerdir=$snapshots/1/fs" overlay "$BUNDLE/rootfs"
	jq --arg cgroup "/$name" '
		.process.capabilities |= map_values($ARGS.positional) | .process.noNewPrivileges = false
		| .process.env += ["KUBERNETES_PORT=tcp://10.0.0.1:443"]
		| .linux.cgroupsPath = $cgroup
		| .linux.resources = {devices: .linux.resources.devices, cpu: {shares: 102}}
		| .mounts += [{destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: ["nosuid", "noexec", "nodev", "relatime", "ro"]}]
		' "$UR_TEMPLATE/config.json" --args -- "${CRI_CAPS[@]}" | jq "$filter" "$@" >"$BUNDLE/config.json"
}

# The mounts that a pod's containers have of its sandbox.
POD_MOUNTS='def bind($to; $from; $ro): {destination: $to, type: "bind", source: $from, options: ["rbind", "rprivate", $ro]};
	.mounts |= map(select(.destination != "/dev/shm"))'

# sandbox RUNTIME NAME [FILTER]: the sandbox NAME with a new network namespace, whose
# process is pause then.
sandbox() {
	local runtime=$1 name=$2
	SANDBOX=$W/root/io.containerd.grpc.v1.cri/sandboxes/$name
	SHM=$W/state/io.containerd.grpc.v1.cri/sandboxes/$name/shm
	mkdir -p "$SANDBOX" "$SHM"
	mount -t tmpfs -o nosuid,nodev,noexec,mode=1777,size=65536k shm "$SHM"
	echo pod >"$SANDBOX/hostname"
	printf '127.0.0.1 localhost\n10.99.0.2 pod\n' >"$SANDBOX/hosts"
	echo 'nameserver 10.0.0.10' >"$SANDBOX/resolv.conf"
	network_namespace "$name"
	bundle "$name" "$POD_MOUNTS"'
		| .process.args = ["sleep", "1000"] | .hostname = "pod" | .root.readonly = true
		| .linux.namespaces |= map(if .type == "network" then .path = $net else . end)
		| .linux.sysctl = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647", "net.core.somaxconn": "99"}
		| .mounts += [bind("/dev/shm"; $shm; "ro"), bind("/etc/resolv.conf"; $dir + "/resolv.conf"; "ro")]
		| .annotations = {"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": $name}
		'"${3:+| $3}" --arg net "$NETNS" --arg shm "$SHM" --arg dir "$SANDBOX" --arg name "$name"
	must "$runtime" create -b "$BUNDLE" "$name"
	must "$runtime" start "$name"
	pause=$("$runtime" state "$name" | jq .pid)
}

# container NAME COMMAND [FILTER]: BUNDLE is of a container of the sandbox made last.
container() {
	bundle "$1" "$POD_MOUNTS"'
		| .process.args = ["sh", "-c", "exec 2>&1; " + $command] | .hostname = null | del(.hostname)
		| .linux.namespaces |= map(if .type == "network" then .path = $ns + "net" elif .type == "ipc" or .type == "uts" then .path = $ns + .type else . end)
		| .mounts += [bind("/etc/hosts"; $dir + "/hosts"; "rw"), bind("/etc/hostname"; $dir + "/hostname"; "rw"),
			bind("/etc/resolv.conf"; $dir + "/resolv.conf"; "rw"), bind("/dev/shm"; $shm; "rw")]
		| .annotations = {"io.kubernetes.cri.container-type": "container"}
		'"${3:+| $3}" --arg ns "/proc/$pause/ns/" --arg dir "$SANDBOX" --arg shm "$SHM" --arg command "$2"
}

# both_pods COMMAND: it prints the same with each runtime, which is in runtime. It
# is a function that makes pods by that name.
both_pods() {
	local runtime want='' got
	for runtime in plain ours; do
		"$@" >"$W/got-$runtime" 2>&1 3>&- || {
			cat "$W/got-$runtime"
			return 1
		}
		# The program run, its status and the times are those of `try`.
		got=$(<"$W/got-$runtime")
		got=${got//$W\/$runtime/ROOT}
		is "${want:=$got}" "$got" "$1, runc's first"
	done
}

run_in() { "$runtime" run -b "$BUNDLE" "$1" </dev/null 2>&1; }

@test "pods: containers share the sandbox's network, ipc, host name and files" {
	pod() {
		sandbox "$runtime" "$CT-s" >/dev/null
		container "$CT-a" 'ls /sys/class/net; cat /sys/class/net/lo/mtu; hostname; id; id -G; cat /etc/hostname /etc/hosts /etc/resolv.conf
			cat /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/ip_unprivileged_port_start
			echo more >>/etc/hosts; echo x >/dev/shm/x; ls -n /dev/shm | cut -c1-24; touch /sys/x; touch /made; stat -c %u:%g /made /etc/hosts /dev/shm'
		run_in "$CT-a"
		container "$CT-b" 'tail -n 1 /etc/hosts; cat /dev/shm/x; ls /made; rm /dev/shm/x; ls -n / /bin/busybox | grep -vE " (proc|sys)$" | cut -c1-24'
		run_in "$CT-b"
		"$runtime" exec "$CT-s" sh -c 'exec 2>&1; cat /etc/resolv.conf; ls -A /dev/shm; touch /x; touch /dev/shm/y; hostname; ls /sys/class/net'
		"$runtime" delete -f "$CT-s"
		find "$W/root/io.containerd.snapshotter.v1.overlayfs/snapshots/$CT-a/fs" "$SANDBOX" -printf '%P %U:%G %m\n' | sort
		undo_pod
	}
	both_pods pod
	has "$(<"$W/got-ours")" '^eth0$'
}

# undo_pod: for the next runtime, on the same names.
undo_pod() {
	unmount_all
	rm -rf "$W/root" "$W/state"
}

@test "pods: localhost and port 80, between two containers" {
	pod() {
		sandbox "$runtime" "$CT-s" >/dev/null
		container "$CT-web" 'mkdir /www; echo served >/www/index.html; exec /bin/busybox httpd -f -p 80 -h /www'
		"$runtime" run -d -b "$BUNDLE" "$CT-web" </dev/null >/dev/null 2>&1
		container "$CT-a" 'until /bin/busybox wget -q -O - http://127.0.0.1/; do sleep 0.1; done; /bin/busybox wget -q -O - http://10.99.0.2:80/'
		run_in "$CT-a"
		# The container ends; the sandbox stays, and takes the next one.
		"$runtime" kill "$CT-web" KILL
		eventually is_status "$runtime" stopped "$CT-web"
		"$runtime" delete "$CT-web"
		"$runtime" state "$CT-s" | jq -r .status
		container "$CT-next" '/bin/busybox wget -q -O - http://127.0.0.1/ || hostname'
		run_in "$CT-next"
		"$runtime" exec "$CT-s" ls /sys/class/net
		"$runtime" delete -f "$CT-s"
		undo_pod
	}
	both_pods pod
	has "$(<"$W/got-ours")" '^served$'
}

@test "pods: one user namespace for all of it, and the host's for its network" {
	sandbox ours "$CT-s"
	maps_are "0:$START:$COUNT" "$pause"
	is "$(readlink "$NETNS" || true)$(stat -Lc %i "$NETNS")" "$(stat -Lc %i "/proc/$pause/ns/net")" "the network namespace"
	container "$CT-a" 'exec sleep 1000'
	must ours run -d -b "$BUNDLE" "$CT-a"
	init=$(ours state "$CT-a" | jq .pid)
	maps_are "0:$START:$COUNT" "$init"
	local kind
	for kind in user net ipc uts; do
		is "$(readlink "/proc/$pause/ns/$kind")" "$(readlink "/proc/$init/ns/$kind")" "$kind"
	done
	for kind in mnt pid; do
		[[ $(readlink "/proc/$pause/ns/$kind") != "$(readlink "/proc/$init/ns/$kind")" ]]
	done
	# Groups of the container may ping, with no more of the host's than theirs.
	is "$START	$((START + COUNT - 1))" "$(nsenter --net="$NETNS" cat /proc/sys/net/ipv4/ping_group_range)"
	must nsenter --net --user -t "$init" perl -e 'socket(S, 2, 2, 1) or die "$!\n"'
	# Root inside has no power over it.
	try ours exec "$CT-a" /bin/busybox ip link set eth0 down
	[[ $status != 0 ]]
	try ours exec "$CT-a" sh -c 'echo 5 >/proc/sys/net/core/somaxconn; mount -o remount,rw /sys'
	[[ $status != 0 ]]
	is 99 "$(nsenter --net="$NETNS" cat /proc/sys/net/core/somaxconn)"
	down ours "$CT-a"
	down ours "$CT-s"
}

@test "pods: a process namespace shared as well" {
	pod() {
		sandbox "$runtime" "$CT-s" >/dev/null
		container "$CT-a" 'ps | grep -c "^ *1 .*sleep 1000"; readlink /proc/1/exe; ls -l /proc/1/root/bin/busybox | cut -c1-10; kill -0 1; echo $?' \
			'.linux.namespaces |= map(if .type == "pid" then .path = $ns + "pid" else . end)'
		run_in "$CT-a"
		"$runtime" delete -f "$CT-s"
		undo_pod
	}
	both_pods pod
}

@test "pods: a user of the container's own, groups, an empty directory, a read-only root" {
	pod() {
		sandbox "$runtime" "$CT-s" >/dev/null
		local volume=$W/root/io.containerd.grpc.v1.cri/containers/$CT-a/volumes/0123
		mkdir -p "$volume"
		container "$CT-a" 'id -u; id -G; touch /x; touch /v/x; echo $?; ls -n /v | cut -c1-24; echo x >/dev/stdout; ls -n /dev/shm' \
			'.process.user = {uid: 1000, gid: 1000, additionalGids: [2000, 3000]} | .root.readonly = true
			| .mounts += [bind("/v"; $dir + "/../../containers/'"$CT-a"'/volumes/0123"; "rw")]'
		chown 1000:3000 "$volume"
		run_in "$CT-a"
		find "$volume" -printf '%P %U:%G %m\n'
		"$runtime" delete -f "$CT-s"
		undo_pod
	}
	both_pods pod
	has "$(<"$W/got-ours")" '^x 1000:1000 '
}

@test "pods: the host's network" {
	pod() {
		sandbox "$runtime" "$CT-s" '.linux.namespaces |= map(select(.type != "network" and .type != "uts")) | del(.linux.sysctl, .hostname)' >/dev/null
		container "$CT-a" 'hostname; ls /sys/class/net; touch /sys/x; id -u' \
			'.linux.namespaces |= map(select(.type != "uts") | if .type == "network" then del(.path) | select(false) else . end)'
		run_in "$CT-a"
		"$runtime" delete -f "$CT-s"
		undo_pod
	}
	both_pods pod
}

@test "pods: a container that outlives its sandbox's process" {
	pod() {
		sandbox "$runtime" "$CT-s" >/dev/null
		container "$CT-a" 'exec sleep 1000'
		"$runtime" run -d -b "$BUNDLE" "$CT-a" </dev/null >/dev/null 2>&1
		kill -KILL "$pause"
		eventually is_status "$runtime" stopped "$CT-s"
		"$runtime" exec "$CT-a" sh -c 'hostname; ls /sys/class/net; id -u'
		"$runtime" delete "$CT-s"
		"$runtime" exec "$CT-a" sh -c 'hostname; echo x >/dev/shm/y; cat /dev/shm/y'
		"$runtime" delete -f "$CT-a"
		undo_pod
	}
	both_pods pod
}

# not_started PATTERN NAME: ours refuses it, and says why in one line.
not_started() {
	rm -f "$LOG"
	try "${ours_cmd[@]}" --log "$LOG" --log-format json create -b "$BUNDLE" "$2"
	is 1 "$status"
	is 1 "$(wc -l <"$W/.err")"
	has "$errput" "$1"
	is "$errput" "$(jq -r .msg "$LOG")"
	test ! -e "$W/ours/$2"
}

@test "pods: namespaces of two containers, mixed, are refused by name" {
	local one
	room 2
	sandbox ours "$CT-one"
	one=$pause
	sandbox ours "$CT-two"
	container "$CT-a" true '.linux.namespaces |= map(if .type == "ipc" then .path = "/proc/'"$one"'/ns/ipc" else . end)'
	not_started "another user namespace" "$CT-a"
	# One of the host's that the engine isn't in.
	touch "$W/ipc"
	unshare --ipc="$W/ipc" true
	container "$CT-b" true '.linux.namespaces |= map(if .type == "ipc" then .path = "'"$W/ipc"'" else . end)'
	not_started "ipc.*/ipc.*host's user namespace" "$CT-b"
	umount "$W/ipc"
	# One that isn't a namespace, and one of another kind.
	container "$CT-c" true '.linux.namespaces |= map(if .type == "ipc" then .path = "/etc/passwd" else . end)'
	not_started "ipc.*/etc/passwd" "$CT-c"
	container "$CT-d" true '.linux.namespaces |= map(if .type == "ipc" then .path = $ns + "uts" else . end)'
	not_started 'ipc' "$CT-d"
	down ours "$CT-one"
	down ours "$CT-two"
}

@test "pods: joining is judged by the book of that moment" {
	sandbox ours "$CT-s"
	book "dockroot:$((START + COUNT)):$COUNT:"
	container "$CT-a" true
	not_started "$START" "$CT-a"
	book "dockroot:$START:$COUNT:"
	must ours run -b "$BUNDLE" "$CT-a"
	down ours "$CT-s"
}
