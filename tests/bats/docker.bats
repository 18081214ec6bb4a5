#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# dockerd with userns-runtime beside runc, and the same docker commands under
# both: how a container starts, and what it is like inside. Its life is in
# docker-life.bats, files in docker-files.bats, refusals in docker-refuse.bats.

load helpers
load engines
load docker

setup_file() { docker_file busybox; }
teardown_file() { docker_down; }
setup() { docker_setup; }
teardown() { docker_teardown; }

@test "docker: root inside is nobody outside, by --runtime" {
	both busybox sleep 1000
	local pid
	pid=$(pid_of ours)
	is "$START $START $START $START" "$(awk '/^Uid:/ {print $2, $3, $4, $5}' "/proc/$pid/status")" "UIDs on the host"
	in_both id
	has "$output" '^uid=0\(root\) gid=0\(root\)'
	is "0 $START $COUNT" "$(docker exec ours cat /proc/self/uid_map | awk '{$1 = $1; print}')"
	is 0 "$(docker exec plain cat /proc/self/uid_map | awk '{print $2}')"
}

@test "docker: as the default runtime" {
	default_runtime ours
	must docker run -d --name default busybox sleep 1000
	shifted default
	must docker rm -f default
	try docker run --rm busybox sh -c 'id -u; exit 9'
	is 9 "$status"
	is 0 "$output"
	default_runtime plain
}

@test "docker: output, error output, standard input and exit codes" {
	same_docker busybox sh -c 'echo out; echo err >&2; exit 3'
	is out "$output"
	is err "$errput"
	is 3 "$status"
	STDIN=$W/in
	head -c 300000 /dev/urandom | base64 >"$STDIN"
	ran -i busybox sh -c 'sha256sum; wc -c </dev/null'
	STDIN=/dev/null
	same_docker busybox sh -c 'kill -KILL $$'
	same_docker busybox nosuchprogram
	is 127 "$status"
	has "$errput" nosuchprogram
	same_docker busybox /etc/passwd
	is 126 "$status"
}

@test "docker: environment, working directory, entry point, names" {
	ran -e A=1 -e B --hostname box --add-host other:10.9.8.7 --dns 192.0.2.1 --dns-search example.org \
		busybox sh -c 'env | sort; hostname; cat /etc/hosts | grep -v box; cat /etc/resolv.conf'
	ran -w /new/dir busybox sh -c 'pwd; ls -ldn /new /new/dir | cut -c 1-30; touch file'
	ran --entrypoint /bin/echo busybox entered
	same_docker -w /etc/passwd busybox true
}

@test "docker: --domainname" {
	ran --hostname box --domainname example.org busybox sh -c 'hostname -f; cat /proc/sys/kernel/domainname; grep box /etc/hosts | cut -f 2'
}

@test "docker: --user in every form" {
	local user
	for user in 1000 user:root 12345:23456 user:extra; do
		ran --user "$user" busybox sh -c 'id; touch /tmp/file; ls -ln /tmp/file | cut -c 1-40; touch /file; cat /proc/self/setgroups | wc -c'
	done
	ran --user 1000 --group-add 2000 --group-add 3000 busybox id
	same_docker --user nosuchuser busybox id
}

@test "docker: /dev/stdout and /dev/stderr can be opened again, and are in the logs" {
	local say='echo hi >/dev/stdout; echo ho >/dev/stderr; echo hey >>/proc/self/fd/1; ls -l /dev/stdout | sed "s/ [A-Z][a-z][a-z] .*:[0-9][0-9] / /"'
	ran busybox sh -c "$say"
	is 0 "$status"
	has "$output" '^hi$'
	has "$errput" '^ho$'
	ran --user 1000 busybox sh -c "$say"
	has "$output" '^hi$'
	pair busybox sh -c "$say"
	did wait NAME
	did logs NAME
	has "$output" '^hi$'
	has "$errput" '^ho$'
	docker rm plain ours
	# With a terminal, which is a device of the container's own devpts.
	local user
	for user in 0 1000; do
		pair -t --user "$user" busybox sh -c "echo hi >/dev/stdout; tty; ls -ln /dev/pts/0 /dev/console | cut -c 1-40"
		did wait NAME
		did logs NAME
		has "$output" '^hi'
		docker rm plain ours
	done
}

@test "docker: on a terminal" {
	local runtime want=
	for runtime in plain ours; do
		on_terminal /usr/bin/docker run --rm -it --runtime "$runtime" busybox sh -c 'test -t 0 && test -t 1 && tty; stty -a | grep -o "[-]*echo\b"; exit 5'
		is 5 "$status"
		has "$output" /dev/pts/0
		is "${want:=$output}" "$output" "output, runc's first"
	done
}

@test "docker: what the container sees of itself" {
	# Of mounts: where, of what kind, and whether they can be written. Device nodes
	# are mounts in a user namespace, where nobody can make one, also where they
	# mask a file.
	ran busybox sh -c 'awk "{print \$5, substr(\$6, 1, 2), \$0}" /proc/self/mountinfo | sed "s/ - / /; s/^\([^ ]* [^ ]*\) .* \([a-z0-9]*\) [^ ]* [^ ]*\$/\1 \2/" |
		grep -vE "^/dev/(full|null|random|tty|urandom|zero) " | sed "s,^\(/proc/[a-z_]* ..\) .*tmpfs,\1 mask," | sort'
	# But for /proc and /sys, where much is of the host's root. In a network namespace
	# of its own, it may look at all of it.
	ran busybox sh -c 'stat -c "%n %F %a %u:%g" / /* /etc/* | grep -vE "^/(proc|sys) "; ls /sys /proc/sys /sys/fs/cgroup /sys/fs/cgroup/memory
		grep -E "^(Cap|NoNewPrivs|Seccomp:|Groups)" /proc/self/status; ulimit -a; cat /proc/self/oom_score_adj; umask
		ls /sys/class/net; cat /proc/net/dev | wc -l; cat /sys/class/net/lo/mtu; ip link show lo
		for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/uevent_helper /proc/kcore /proc/timer_list; do
			cat $f 2>&1 | wc -c; (echo x >$f) 2>&1 | cut -d: -f2-; done'
}

@test "docker: devices belong to root inside" {
	# But for the group of mqueue: runc makes the IPC namespace while its group is
	# still the host's, so it is nobody's in each of its user namespaces.
	ran busybox sh -c 'cd /dev; stat -c "%n %F %a %t,%T %u:%g" * pts/* | sed "/^mqueue/s/:.*//" | sort; ls -l fd stdin stdout stderr | sed "s/.* [a-z]* ->/->/"'
}

@test "docker: devices work, and /dev/null stays the host's" {
	local before
	before=$(stat -c '%a %u:%g %t,%T' /dev/null /dev/zero /dev/tty)
	ran busybox sh -c 'echo x >/dev/null; head -c 4 /dev/zero | od -An -tx1; head -c 16 /dev/urandom | wc -c; echo x >/dev/full; cat </dev/null; dd if=/dev/random bs=8 count=1 2>/dev/null | wc -c'
	ran --user 1000 busybox sh -c 'echo x >/dev/null && head -c 4 /dev/zero | wc -c'
	# Standard input, output and error output are /dev/null.
	pair --user 1000 busybox sh -c 'readlink /proc/self/fd/0; cat </dev/stdin; sleep 0.1'
	did wait NAME
	is "$before" "$(stat -c '%a %u:%g %t,%T' /dev/null /dev/zero /dev/tty)" "the host's devices"
}

@test "docker: capabilities, no-new-privileges, limits, sysctls" {
	ran --cap-drop ALL --cap-add CHOWN busybox sh -c 'grep Cap /proc/self/status; touch /f && chown 5 /f && stat -c %u /f'
	ran --cap-add SYS_ADMIN --cap-add NET_ADMIN busybox sh -c 'grep Cap /proc/self/status; ip link add dummy type dummy 2>/dev/null; ip link set lo down; ip link show lo | head -n 1'
	ran --security-opt no-new-privileges busybox grep NoNewPrivs /proc/self/status
	ran --ulimit nofile=100:200 --ulimit core=0 --sysctl net.ipv4.ip_unprivileged_port_start=99 --sysctl kernel.msgmax=7777 --sysctl net.core.somaxconn=77 \
		busybox sh -c 'ulimit -n; ulimit -Hn; ulimit -c; cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax /proc/sys/net/core/somaxconn'
	ran --sysctl 'net.ipv4.ping_group_range=0 2147483647' busybox true
	ran -m 64m --cpu-shares 99 --pids-limit 55 busybox sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/cpu/cpu.shares'
}

@test "docker: --tmpfs, --shm-size, --read-only, --init" {
	ran --tmpfs /t --tmpfs /u:size=1m,mode=0700,uid=1000,gid=1000 --shm-size 2m busybox sh -c 'stat -c "%n %a %u:%g" /t /u; touch /t/f; stat -c %u:%g /t/f; df -k /u | tail -n 1 | awk "{print \$2}"; dd if=/dev/zero of=/u/f bs=1M count=2 2>&1 | grep -c "No space"
		df -k /dev/shm | tail -n 1 | awk "{print \$2}"; stat -c "%a %u:%g" /dev/shm; echo x >/dev/shm/f; stat -c %u:%g /dev/shm/f'
	ran --read-only --tmpfs /run busybox sh -c 'touch /file; touch /run/file && echo fine; mount -o remount,rw / ; echo $?; touch /etc/hosts /dev/shm/x; true'
	same_docker --read-only --cap-add SYS_ADMIN busybox sh -c 'mount -o remount,rw /etc/resolv.conf 2>/dev/null; echo x 2>/dev/null >/etc/resolv.conf; touch /etc/f'
	ran --init busybox sh -c 'cat /proc/1/comm; ls -ln /sbin/docker-init | cut -c 1-10; (sleep 0.1 &) ; sleep 0.3; ps -o stat | grep -c Z; true'
	is 0 "$(docker ps -aq | wc -l)"
}

@test "docker: files that the engine keeps for a container" {
	# They are Docker's own, and root inside writes them as under runc.
	both busybox sleep 1000
	in_both sh -c 'stat -c "%n %a %u:%g" /etc/hosts /etc/hostname /etc/resolv.conf /dev/shm'
	in_both sh -c 'echo 10.1.2.3 added >>/etc/hosts && tail -n 1 /etc/hosts; echo new >/etc/hostname; echo x >/dev/shm/x; cat /etc/hostname'
	in_both sh -c 'chown 1000:1000 /etc/resolv.conf; chmod 0600 /etc/resolv.conf; ls -ln /etc/resolv.conf | cut -c 1-30'
	local id
	id=$(docker inspect -f '{{.Id}}' ours)
	unshifted "$D/data/containers/$id"
	is "0:0 0644 1000:1000 0600" "$(stat -c '%u:%g %04a' "$D/data/containers/$id/hosts" "$D/data/containers/$id/resolv.conf" | paste -sd' ')"
	# They come back after a restart.
	did restart -t 0 NAME
	in_both sh -c 'stat -c "%n %a %u:%g" /etc/hosts /etc/hostname /etc/resolv.conf'
}

@test "docker: networks" {
	local server='echo GET | nc -l -p 80 >/dev/null; echo hello | nc -l -p 80'
	ran --network none busybox sh -c 'ls /sys/class/net; ip addr show lo | grep inet'
	ran --network host busybox sh -c 'ls /sys/class/net; ls /sys /sys/fs/cgroup | sort; touch /sys/x; ip addr show lo | grep inet; mount -o remount,rw /sys; true'
	same_docker --network host --cap-add NET_ADMIN busybox true
	# A name server, an address, a low port, and one of the host's.
	docker network create net >/dev/null
	local runtime want=
	room 2
	for runtime in plain ours; do
		must docker run -d --name "$runtime" --runtime "$runtime" --network net --network-alias server -p 127.0.0.1:8080:80 busybox \
			sh -c 'while :; do echo "hello $(id -u)" | nc -l -p 80; done'
		patiently docker exec "$runtime" sh -c 'netstat -ltn | grep -q ":80 "'
		try docker run --rm --runtime "$runtime" --network net busybox sh -c 'nc server 80 </dev/null'
		is "${want:=$output}" "$output" "what the other container gets, runc's first"
		is 'hello 0' "$output"
		patiently docker exec "$runtime" sh -c 'netstat -ltn | grep -q ":80 "'
		is "$want" "$(timeout 5 busybox nc 127.0.0.1 8080 </dev/null)" "what the host gets"
		must docker rm -f "$runtime"
	done
	docker network rm net >/dev/null
	ran busybox sh -c 'ping -c 1 -W 2 127.0.0.1 | grep -c "1 packets received"'
	ran --user 1000 busybox sh -c '(nc -l -p 80 & sleep 0.2; kill $!) 2>&1'
}

@test "docker: a network, IPC or PID namespace of another container" {
	local kind
	both busybox sh -c 'while :; do echo hello | nc -l -p 80; done'
	for kind in network ipc pid; do
		# Docker lets nobody join an IPC namespace that wasn't made to be shared.
		[[ $kind != ipc ]] || { docker rm -f plain ours; both --ipc shareable busybox sleep 1000; }
		alike run --rm --runtime NAME "--$kind" container:NAME busybox sh -c 'id -u; ps | grep -c "[s]leep 1000"; ls /sys/class/net; cat /proc/self/uid_map | wc -l; stat -c %u:%g /dev/shm; hostname | wc -c'
		is 0 "$status"
		must docker run -d --name joined --runtime ours "--$kind" container:ours busybox sleep 1001
		shifted joined
		is "$(readlink "/proc/$(pid_of ours)/ns/user")" "$(readlink "/proc/$(pid_of joined)/ns/user")" "the user namespace"
		docker rm -f joined
		is_state ours running
		did exec NAME id
	done
}
