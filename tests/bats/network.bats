#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# Namespaces that are there before the container: an engine's network, another
# container's, the host's own.

load helpers

# netns: a network namespace as CNI makes one, on the host's account, at NETNS.
netns() {
	NETNS=$W/netns
	touch "$NETNS"
	unshare --net="$NETNS" sh -c 'ip link set lo up; ip link add veth7 type veth peer name veth8'
}

no_netns() { umount "$NETNS"; }

in_netns() { nsenter --net="$NETNS" "$@"; }

# namespace TYPE PATH: the bundle joins the namespace at the path.
namespace() {
	update_config '.linux.namespaces = [.linux.namespaces[] | select(.type != $type)] + [{type: $type, path: $path}]' --arg type "$1" --arg path "$2"
}

own() {
	update_config '.linux.namespaces = [.linux.namespaces[] | select(.type != $type)] + [{type: $type}]' --arg type "$1"
}

@test "network: an engine's namespace: /sys shows its interfaces, and can't be written" {
	netns
	namespace network "$NETNS"
	caps CAP_SYS_ADMIN CAP_DAC_OVERRIDE CAP_NET_ADMIN
	shell 'ls /sys/class/net; ls /sys | head -n 3; stat -f -c %T /sys; touch /sys/x 2>/dev/null; echo $?'
	same run -b "$B" "$CT"
	has "$output" '^veth7$'
	shell 'mount -o remount,rw /sys 2>/dev/null && echo remounted; echo 1 >/sys/class/net/lo/mtu && echo wrote; true'
	must ours run -b "$B" "$CT"
	is "" "$output"
	# One that is asked for writable is read-only all the same.
	update_config '(.mounts[] | select(.type == "sysfs")).options = ["nosuid", "noexec", "nodev", "rw"]'
	shell 'grep " /sys " /proc/mounts | grep -cw ro'
	must ours run -b "$B" "$CT"
	is 1 "$output"
	no_netns
}

@test "network: sysctls of an engine's namespace are set there, and nowhere else" {
	netns
	namespace network "$NETNS"
	local before
	before=$(cat /proc/sys/net/ipv4/{ip_forward,ip_unprivileged_port_start,ping_group_range})
	update_config '.linux.sysctl = {"net.ipv4.ip_forward": "1", "net.ipv4.ping_group_range": "0 2147483647", "net.ipv4.conf.all.forwarding": "1"}'
	shell 'cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/lo/forwarding'
	same run -b "$B" "$CT"
	is "$START	$((START + COUNT - 1))" "$(in_netns cat /proc/sys/net/ipv4/ping_group_range)"
	is "$before" "$(cat /proc/sys/net/ipv4/{ip_forward,ip_unprivileged_port_start,ping_group_range})" "the host's"
	# One that there isn't, and one that the kernel refuses.
	update_config '.linux.sysctl = {"net.ipv4.nothing": "1"}'
	refused 'linux.sysctl: net.ipv4.nothing' run -b "$B" "$CT"
	update_config '.linux.sysctl = {"net.ipv4.ip_forward": "many"}'
	refused 'linux.sysctl: net.ipv4.ip_forward = "many"' run -b "$B" "$CT"
	no_netns
}

@test "network: root inside binds a low port, and what somebody has set stays" {
	netns
	namespace network "$NETNS"
	caps CAP_NET_BIND_SERVICE
	process true
	must ours run -b "$B" "$CT"
	is 0 "$(in_netns cat /proc/sys/net/ipv4/ip_unprivileged_port_start)"
	in_netns sh -c 'echo 80 >/proc/sys/net/ipv4/ip_unprivileged_port_start; echo 5 5 >/proc/sys/net/ipv4/ping_group_range'
	must ours run -b "$B" "$CT"
	is 80 "$(in_netns cat /proc/sys/net/ipv4/ip_unprivileged_port_start)"
	is $'5\t5' "$(in_netns cat /proc/sys/net/ipv4/ping_group_range)"
	update_config '.linux.sysctl = {"net.ipv4.ip_unprivileged_port_start": "1000"}'
	must ours run -b "$B" "$CT"
	is 1000 "$(in_netns cat /proc/sys/net/ipv4/ip_unprivileged_port_start)"
	no_netns
}

@test "network: the host's: its /sys, none of its sysctls" {
	local before
	update_config '.linux.namespaces = [.linux.namespaces[] | select(.type != "network")]'
	before=$(cat /proc/sys/net/ipv4/{ip_unprivileged_port_start,ping_group_range})
	shell 'ls /sys/class/net; grep " /sys " /proc/mounts | grep -cw ro'
	same run -b "$B" "$CT"
	# By its path it is the host's too, and its sysctls are refused as runc does.
	namespace network "/proc/$$/ns/net"
	same run -b "$B" "$CT"
	is "$before" "$(cat /proc/sys/net/ipv4/{ip_unprivileged_port_start,ping_group_range})"
	# Also for a caller who is in another one.
	namespace network "/proc/1/ns/net"
	try unshare --net -- "${ours_cmd[@]}" run -b "$B" "$CT"
	is 0 "$status"
	is "$before" "$(cat /proc/sys/net/ipv4/{ip_unprivileged_port_start,ping_group_range})"
	update_config '.linux.sysctl = {"net.ipv4.ip_forward": "1"}'
	same run -b "$B" "$CT"
	is 1 "$status"
	is "$before" "$(cat /proc/sys/net/ipv4/{ip_unprivileged_port_start,ping_group_range})"
}

@test "network: a range of groups for ping that is longer than the container's" {
	local value
	for value in "0 2147483647" "0 5" "7 7"; do
		update_config '.linux.sysctl = {"net.ipv4.ping_group_range": $value}' --arg value "$value"
		process cat /proc/sys/net/ipv4/ping_group_range
		must ours run -b "$B" "$CT"
		is "$(tr -d '\n' <<<"${value/2147483647/65535}")" "$(tr '\t' ' ' <<<"$output")"
	done
}

@test "network: joining another container's namespaces is joining its user namespace" {
	local kind users
	update_config '.linux.namespaces += [{type: "cgroup"}]'
	up ours
	users=$(readlink "/proc/$init/ns/user")
	cp -a "$B" "$W/second"
	for kind in network ipc pid uts; do
		B=$W/second
		namespace "$kind" "/proc/$init/ns/${kind/network/net}"
		[[ $kind != uts ]] || update_config 'del(.hostname)'
		[[ $kind != pid ]] || own uts
		update_config '.linux.cgroupsPath = $path' --arg path "/$CT-second"
		shell 'readlink /proc/self/ns/user; cat /proc/self/uid_map; ls /sys/class/net; stat -c %u /bin/busybox'
		must ours run -b "$B" "$CT-b"
		is "$users" "$(head -n 1 <<<"$output")" "by $kind"
		has "$output" '^0$'
		audited '.decision == "granted" and .rootfs == "idmap"'
		rm -r "$B"
		cp -a "$W/bundle" "$B"
	done
	B=$W/bundle
	rm "$W/.bundle"
	down ours
}

@test "network: namespaces that don't fit together are refused by name" {
	up ours
	local first=$init
	room 2
	cp -a "$B" "$W/second"
	cp "$B/config.json" "$W/config.json"
	B=$W/second
	process sleep 1000
	update_config '.linux.cgroupsPath = $path' --arg path "/$CT-second"
	must ours run -d --pid-file "$W/pid" -b "$B" "$CT-b"
	local other
	other=$(<"$W/pid")
	cp -a "$W/second" "$W/third"
	B=$W/third
	namespace network "/proc/$first/ns/net"
	namespace ipc "/proc/$other/ns/ipc"
	W_ours=$(ls "$W/ours")
	try "${ours_cmd[@]}" run -b "$B" "$CT-c"
	is 1 "$status"
	has "$errput" 'linux.namespaces: ipc: path: .*it belongs to another user namespace than /proc/[0-9]+/ns/net'
	# One of the host's, which the caller isn't in.
	own network
	touch "$W/ipc"
	unshare --ipc="$W/ipc" true
	namespace ipc "$W/ipc"
	try "${ours_cmd[@]}" run -b "$B" "$CT-c"
	is 1 "$status"
	has "$errput" "linux.namespaces: ipc: path: .*it belongs to the host's user namespace"
	umount "$W/ipc"
	# Maps of its own beside another container's network.
	own ipc
	namespace network "/proc/$first/ns/net"
	update_config '.linux.namespaces += [{type: "user"}]
		| .linux.uidMappings = [{containerID: 0, hostID: $start, size: 1000}] | .linux.gidMappings = .linux.uidMappings' --argjson start "$START"
	try "${ours_cmd[@]}" run -b "$B" "$CT-c"
	is 1 "$status"
	has "$errput" 'linux.uidMappings, linux.gidMappings: .*leave the maps out'
	is "$W_ours" "$(ls "$W/ours")" "state"
	# Of another owner, who hasn't the range.
	update_config 'del(.linux.uidMappings, .linux.gidMappings) | .linux.namespaces = [.linux.namespaces[] | select(.type != "user")]'
	book "dockroot:$START:$COUNT:" "other:$((START + COUNT)):$COUNT:"
	try "$OURS" --owner other --config "$CONF" --root "$W/ours" run -b "$B" "$CT-c"
	is 1 "$status"
	has "$errput" "isn't granted to other|lies in .*dockroot"
	rm "$W/.bundle"
	down ours "$CT-b"
	down ours
}

@test "network: what root inside has made a user namespace of its own for is nobody else's" {
	room 2
	caps CAP_SYS_ADMIN CAP_SETUID CAP_SETGID CAP_SETFCAP
	cp -a "$B" "$W/second"
	process /bin/busybox unshare -U -r -i -n sleep 1000
	update_config '.linux.cgroupsPath = $path' --arg path "/$CT-ours"
	must ours run -d -b "$B" "$CT"
	init=$(ours state "$CT" | jq .pid)
	eventually grep -qE "^ +0 +$START +1$" "/proc/$init/uid_map"
	B=$W/second
	local kind
	for kind in ipc network; do
		update_config '.linux.namespaces = [.linux.namespaces[] | select(.path == null)]'
		namespace "$kind" "/proc/$init/ns/${kind/network/net}"
		try ours run -b "$B" "$CT-b"
		is 1 "$status"
		has "$errput" "user namespace of /proc/$init/ns/[a-z]+: it belongs to UID $START, who has every capability in it"
		own "$kind"
	done
	namespace user "/proc/$init/ns/user"
	try ours run -b "$B" "$CT-b"
	is 1 "$status"
	has "$errput" "user namespace /proc/$init/ns/user: it belongs to UID $START"
	rm "$W/.bundle"
	down ours
}

@test "network: pid and ipc of the host are seen, with the options that were asked for" {
	update_config '.linux.namespaces = [.linux.namespaces[] | select(.type != "pid" and .type != "ipc")]'
	shell 'cat /proc/1/comm; readlink /proc/self/ns/ipc /proc/self/ns/pid; ls -d /proc/[0-9]* | wc -l | grep -c "[0-9][0-9]*"; stat -f -c %T /dev/mqueue'
	same run -b "$B" "$CT"
	# Who may see whose processes is the filesystem's.
	update_config '(.mounts[] | select(.type == "proc")).options = ["nosuid", "hidepid=2"]'
	shell 'ls -d /proc/1 /proc/self 2>/dev/null; grep " /proc " /proc/mounts | grep -o nosuid'
	must ours run -b "$B" "$CT"
	is $'/proc/self\nnosuid' "$output"
	# Not what is counted as the host counts, nor what would be left out.
	update_config '(.mounts[] | select(.type == "proc")).options += ["gid=5"]'
	refused '/proc: option "gid=5"' run -b "$B" "$CT"
}

@test "network: namespaces of the host by path are as if they were left out" {
	local kind kinds="pid ipc uts cgroup net time"
	update_config 'del(.hostname)'
	for kind in $kinds; do
		update_config '.linux.namespaces = [.linux.namespaces[] | select(.type != $kind)] + [{type: $kind, path: ("/proc/self/ns/" + $file)}]' \
			--arg kind "${kind/net/network}" --arg file "$kind"
	done
	shell "for f in $kinds; do readlink /proc/self/ns/\$f; done"'; cat /proc/1/comm; stat -f -c %T /dev/mqueue /sys; ls /sys/class/net; cat /proc/self/uid_map | wc -l'
	same run -b "$B" "$CT"
	for kind in $kinds; do has "$output" "$(readlink "/proc/self/ns/$kind" | sed 's/[][]/\\&/g')"; done
	is 6 "$(tail -n 1 "$AUDIT" | jq '[.changes[] | select(.why | test("left in it"))] | length')" "what the audit says"
	# Whoever names a kind twice is refused by runc, too.
	update_config '.linux.namespaces += [{type: "uts", path: "/proc/self/ns/uts"}]'
	refused 'linux.namespaces\[7\]: type "uts" is there twice' run -b "$B" "$CT"
	update_config 'del(.linux.namespaces[-1].path)'
	refused 'linux.namespaces\[7\]: type "uts" is there twice' run -b "$B" "$CT"
	# The path last, which is left out.
	cp "$UR_TEMPLATE/config.json" "$B/config.json"
	update_config '.linux.namespaces += [{type: "uts", path: "/proc/self/ns/uts"}]'
	refused "linux.namespaces\[$(jq '.linux.namespaces | length - 1' <"$B/config.json")\]: type .uts. is there twice" run -b "$B" "$CT"
}

@test "network: what the host's own proc hides stays hidden" {
	update_config '.linux.namespaces = [.linux.namespaces[] | select(.type != "pid")]'
	shell 'ls -d /proc/1 /proc/self 2>/dev/null; grep " /proc " /proc/mounts | grep -o "hidepid=[a-z]*"'
	hidden() { must unshare --mount sh -c 'mount -t proc -o hidepid=2 proc /proc && exec "$@"' sh "${ours_cmd[@]}" run -b "$B" "$CT"; }
	hidden
	is $'/proc/self\nhidepid=invisible' "$output"
	# Who asks for less has as much, and who asks for more has more.
	update_config '(.mounts[] | select(.type == "proc")).options = ["nosuid", "hidepid=0"]'
	hidden
	is $'/proc/self\nhidepid=invisible' "$output"
	update_config '(.mounts[] | select(.type == "proc")).options = ["nosuid", "hidepid=4"]'
	hidden
	is $'/proc/self\nhidepid=ptraceable' "$output"
}

@test "network: a pod: a host's network, and the ipc of its first container" {
	netns
	namespace network "$NETNS"
	up ours
	cp -a "$B" "$W/second"
	B=$W/second
	namespace ipc "/proc/$init/ns/ipc"
	update_config '.linux.cgroupsPath = $path' --arg path "/$CT-second"
	shell 'readlink /proc/self/ns/ipc; readlink /proc/self/ns/user; ls /sys/class/net'
	must ours run -b "$B" "$CT-b"
	is "$(readlink "/proc/$init/ns/ipc" "/proc/$init/ns/user")" "$(head -n 2 <<<"$output")"
	has "$output" '^veth7$'
	rm "$W/.bundle"
	down ours
	no_netns
}

@test "network: a path that leads to something else" {
	mkfifo "$W/fifo"
	namespace network "$W/fifo"
	refused 'linux.namespaces: network: path: ' run -b "$B" "$CT"
	namespace network "relative"
	refused 'linux.namespaces: network: path: "relative": expected an absolute path' run -b "$B" "$CT"
	namespace network "$W/nowhere"
	refused 'linux.namespaces: network: path: .*no such file' run -b "$B" "$CT"
}
