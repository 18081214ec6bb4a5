#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# What is the host's, and a container may ask for: devices, --privileged, the host's
# namespaces. What root inside does with it is what plain runc's can, or nothing outside.

load helpers
load engines
load docker

setup_file() { docker_file busybox; }
teardown_file() { docker_down; }
setup() { docker_setup; }
teardown() { docker_teardown; }

nodes='stat -c "%n %F %a %t,%T %u:%g"'

# a_node NAME KIND MAJOR MINOR MODE OWNER: a device node of the host, at W/NAME.
a_node() {
	mknod -m "$5" "$W/$1" "$2" "$3" "$4"
	chown "$6" "$W/$1"
}

@test "docker rows: --device, with the owner, mode and access that it has" {
	a_node zero c 1 5 0640 7:8
	a_node full c 1 7 0666 0:0
	local before
	before=$(stat -c '%a %u:%g' "$W/zero" "$W/full" /dev/full)
	ran --device "$W/zero" busybox sh -c "$nodes $W/zero; head -c 3 $W/zero | wc -c; echo x >$W/zero"
	ran --device "$W/zero:/dev/deep/down" busybox sh -c "$nodes /dev/deep /dev/deep/down; head -c 3 /dev/deep/down | wc -c"
	has "$output" '/dev/deep/down character special file 640 1,5 7:8'
	# The group may read, and nobody else.
	ran --user 9:8 --device "$W/zero:/dev/z" busybox sh -c 'echo x >/dev/z; head -c 3 /dev/z | wc -c'
	ran --user 9:9 --device "$W/zero:/dev/z" busybox sh -c 'echo x >/dev/z; head -c 3 /dev/z | wc -c'
	has "$errput" 'ermission denied'
	# Another device under the name of one that every container has.
	ran --device "$W/zero:/dev/full" busybox sh -c "$nodes /dev/full; head -c 3 /dev/full | wc -c; echo x >/dev/full"
	# The access that was asked for is the device cgroup's.
	a_node tty c 4 0 0666 0:0
	ran --device "$W/tty:/dev/t:m" busybox sh -c 'cat /dev/t; echo x >/dev/t; true'
	is 2 "$(grep -c 'Operation not permitted' <<<"$errput")"
	is "$before" "$(stat -c '%a %u:%g' "$W/zero" "$W/full" /dev/full)" "the host's nodes"
	both --device "$W/zero:/dev/z" busybox sleep 1000
	in_both sh -c "$nodes /dev/z; chown 5:6 /dev/z; chmod 0600 /dev/z; $nodes /dev/z; true"
	did restart -t 0 NAME
	in_both sh -c "$nodes /dev/z"
	is "$before" "$(stat -c '%a %u:%g' "$W/zero" "$W/full" /dev/full)" "the host's nodes"
	same_diff
}

@test "docker rows: --device beside the host's own /dev" {
	a_node zero c 1 5 0666 0:0
	# runc makes no devices there: one that the host hasn't got isn't there.
	ran -v /dev:/dev --device "$W/zero:/dev/$UR_TAG" busybox sh -c "ls /dev/$UR_TAG; ls /dev | wc -l"
	[[ ! -e /dev/$UR_TAG ]]
	# One that it has is root's inside.
	ran -v /dev:/dev --device /dev/loop-control busybox sh -c 'stat -c "%n %t,%T %u" /dev/loop-control'
}

@test "docker rows: a device that belongs to nobody of the container's" {
	a_node zero c 1 5 0600 70000:0
	must docker run --rm --runtime plain --device "$W/zero:/dev/z" busybox stat -c %u /dev/z
	is 70000 "$output"
	try docker run --rm --runtime ours --device "$W/zero:/dev/z" busybox true
	is 125 "$status"
	has "$errput" 'linux.devices\[0\]: /dev/z: uid: 70000 .*\[0-65536\)'
	audited '.decision == "refused"'
}

@test "docker rows: --device-cgroup-rule" {
	local rules=/sys/fs/cgroup/devices/devices.list
	[[ -d /sys/fs/cgroup/devices ]] || skip "no device cgroup to look at (version 1)"
	ran --device-cgroup-rule 'c 4:* rw' --device-cgroup-rule 'b 7:1 r' busybox sort "$rules"
	has "$output" '^c 4:\* rw'
	# A node is made by the host's root alone, in whatever cgroup: so it is bound in.
	a_node zero c 1 5 0666 0:0
	try docker run --rm --runtime ours --device-cgroup-rule 'c 1:5 rwm' busybox mknod /z c 1 5
	is 1 "$status"
	ran --device-cgroup-rule 'c 1:5 rwm' -v "$W/zero:/z" busybox sh -c 'head -c 3 /z | wc -c'
	is 3 "$output"
}

@test "docker rows: --privileged is privileged inside, and nobody outside" {
	local inside node names
	must docker run --rm --runtime ours --privileged busybox sh -c 'grep CapEff /proc/self/status
		mkdir /m && mount -t tmpfs t /m && mount -t proc p /m && umount /m && echo mounted
		echo 1 >/proc/sys/net/ipv4/ip_forward && hostname other && hostname
		ip link add link lo name v0 type macvlan 2>/dev/null; ip link set lo mtu 1400 && cat /sys/class/net/lo/mtu'
	has "$output" 'CapEff:.0+[1-9a-f]+f{8}$'
	is $'mounted\nother\n1400' "$(tail -n 3 <<<"$output")"
	# The sentences of what isn't to be had.
	audited '.confined | length == 2 and (.[0] | test("CAP_SYS_MODULE")) and (.[1] | test("^devices: .*nobody"))'
	# All devices of the host are there, as they are on it: root inside is nobody.
	names=$(find /dev -xdev '(' -type c -o -type b ')' ! -name console ! -name ptmx ! -path '/dev/pts/*' | sort)
	must docker run --rm --runtime ours --privileged busybox sh -c "cd /; stat -c '%n %u' $(tr '\n' ' ' <<<"$names"); find /dev -type b | while read -r f; do head -c 1 \$f 2>&1; done | grep -v 'Permission denied\$'; true"
	inside=$(sed -E 's/ 65534$/ host/; s/ 0$/ own/' <<<"$output")
	for node in $names; do
		case $node in
		/dev/null | /dev/zero | /dev/full | /dev/random | /dev/urandom | /dev/tty) echo "$node own" ;;
		*) echo "$node host" ;;
		esac
	done >"$W/want"
	is "$(<"$W/want")" "$inside"
	# What only the host's root may write.
	must docker run --rm --runtime ours --privileged busybox sh -c 'for f in /proc/sys/kernel/panic /proc/sys/vm/drop_caches /proc/sysrq-trigger /proc/irq/default_smp_affinity /sys/kernel/uevent_helper /sys/power/state /sys/module/kernel/parameters/panic; do
		[ ! -e $f ] || ! (echo 1 >$f) 2>/dev/null || echo wrote $f; done; for d in /sys/fs/cgroup/*; do ! mkdir $d/more 2>/dev/null || echo made $d/more; done; date -s 2001-01-01 >/dev/null 2>&1; [ "$(date +%Y)" != 2001 ] || echo set the clock; ! mknod /n b 8 0 2>/dev/null || echo made a disk'
	is "" "$output"
}

@test "docker rows: --privileged: what root inside can write of /proc, /sys and cgroups is its namespaces'" {
	# Opened for writing, and nothing written.
	local writable='exec 2>/dev/null; find /sys /proc/sys /proc/irq /proc/bus /proc/fs -type f | while read -r f; do true 3>>"$f" && echo "$f"; done' how users
	local own='^(/sys/devices/virtual/net|/proc/sys/net|/proc/sys/user|/proc/sys/fs/mqueue)/|^/proc/sys/kernel/(auto_msgmni|msg[a-z_]+|pid_max|sem|sem_next_id|shm[a-z_]+)$'
	users=$(setpriv --reuid 12345 --regid 12345 --clear-groups busybox sh -c "$writable" | sort || true)
	for how in '--cgroupns host' '--cgroupns private' '--cgroupns host --pid host --ipc host --uts host --network host'; do
		# shellcheck disable=SC2086 # words
		try docker run --rm --runtime ours --privileged $how busybox sh -c "$writable"
		has "$output" '^/proc/sys/user/max_user_namespaces$'
		is "$users" "$(grep -vE "$own" <<<"$output" | sort || true)" "beside its own, what a user of the host can"
	done
	# All namespaces are the host's, and none of them is root's inside.
	is "$users" "$(grep -v '^/proc/sys/user/' <<<"$output" | sort || true)" "with the host's namespaces"
	# Nor can it mount what has more, nor a cgroup that it could change.
	for how in host private; do
		must docker run --rm --runtime ours --privileged --cgroupns "$how" busybox sh -c 'exec 2>/dev/null; mkdir /m
			for f in debugfs tracefs securityfs bpf configfs pstore efivarfs devtmpfs ext4; do mount -t $f x /m && echo mounted $f; done
			for c in memory devices pids freezer; do
				mount -t cgroup -o $c x /m || continue
				for f in release_agent notify_on_release cgroup.procs tasks devices.allow devices.deny memory.limit_in_bytes; do true 3>>/m/$f && echo $c $f; done
				mkdir /m/more && echo made $c
				mount -o remount,release_agent=/x /m && echo agent
				umount /m
			done; true'
		is "" "$(grep -v '^/m/.*: nonexistent' <<<"$output" || true)"
	done
}

@test "docker rows: --privileged of plain runc, where the host can" {
	docker run --rm --runtime plain --privileged busybox true 2>/dev/null || skip "this host hasn't all capabilities itself"
	ran --privileged busybox sh -c 'grep Cap /proc/self/status; find /dev | sort; awk "{print \$2, \$3, substr(\$4, 1, 2)}" /proc/mounts | grep -v "^/dev/" | sort'
}

@test "docker rows: --pid host: the host's processes are seen, and that is all" {
	ran --pid host busybox sh -c 'ls -d /proc/1; cat /proc/1/comm; cat /proc/self/comm; readlink /proc/self/ns/pid; awk "\$5 ~ \"^/proc\" {print \$5, substr(\$6, 1, 2)}" /proc/self/mountinfo | sort
		cat /proc/sys/kernel/pid_max; for f in /proc/kcore /proc/sysrq-trigger; do [ ! -e $f ] || wc -c <$f; done; echo 200 >/proc/self/oom_score_adj; cat /proc/self/oom_score_adj'
	sleep 1000 &
	local pid=$!
	must docker run --rm --runtime ours --pid host --cap-add ALL --security-opt seccomp=unconfined --security-opt systempaths=unconfined busybox sh -c "
		cat /proc/$pid/comm
		for f in environ maps mem stack auxv io; do ! cat /proc/$pid/\$f >/dev/null 2>&1 || echo read \$f; done
		for f in root cwd exe fd/0 ns/mnt ns/user; do ! readlink /proc/$pid/\$f 2>/dev/null || echo followed \$f; done
		for f in oom_score_adj mem clear_refs coredump_filter comm; do ! (echo 1 >/proc/$pid/\$f) 2>/dev/null || echo wrote \$f; done
		for f in kernel/panic vm/drop_caches kernel/core_pattern; do ! (echo 1 >/proc/sys/\$f) 2>/dev/null || echo wrote \$f; done
		kill -TERM $pid 2>&1; mount -o remount,hidepid=0 /proc 2>/dev/null && echo remounted; nsenter -t $pid -m true 2>/dev/null && echo entered; true"
	is "sleep
sh: can't kill pid $pid: Operation not permitted" "$output"
	kill -0 "$pid"
	kill "$pid"
	# Its own processes end with it, though there is no PID namespace that would end them.
	both --pid host busybox sh -c 'sleep 1001 & sleep 1000'
	in_both sh -c 'ps | grep -c "[s]leep 1001"'
	did rm -f NAME
	eventually eval '! pgrep -f "sleep 1001"'
}

@test "docker rows: --pid host: another container's processes and files are that container's" {
	local pid
	room 2
	must docker run -d --name ours --runtime ours --pid host -v secret:/s busybox sh -c 'echo secret >/s/f; exec sleep 1000'
	pid=$(pid_of ours)
	patiently test -s "$(volume secret)/f"
	must docker run --rm --runtime ours --privileged --pid host busybox sh -c "
		for f in root/s/f environ maps mem auxv fd/0 map_files; do ! cat /proc/$pid/\$f >/dev/null 2>&1 || echo read \$f; done
		for f in oom_score_adj mem comm; do ! (echo 1 >/proc/$pid/\$f) 2>/dev/null || echo wrote \$f; done
		for n in U m n p i u; do ! nsenter -t $pid -\$n true 2>/dev/null || echo entered \$n; done
		! renice -n 5 -p $pid 2>/dev/null || echo reniced; ! kill -0 $pid 2>/dev/null || echo signalled; readlink /proc/$pid/ns/user; cat /proc/$pid/comm"
	is sleep "$output"
	must docker rm -f ours
	docker volume rm secret >/dev/null
}

@test "docker rows: --ipc host" {
	is_same_ipc() { readlink "/proc/$(pid_of "$1")/ns/ipc"; }
	ran --ipc host busybox sh -c 'readlink /proc/self/ns/ipc; stat -c "%n %a" /dev/shm /dev/mqueue; awk "\$5 ~ \"^/dev/mqueue\" {print \$5, substr(\$6, 1, 2), \$(NF-2)}" /proc/self/mountinfo; cat /proc/sys/kernel/shmmni; touch /dev/mqueue/q; ls /dev/mqueue; rm /dev/mqueue/q; echo x >/dev/shm/f && cat /dev/shm/f && rm /dev/shm/f'
	# What belongs to somebody of the host is theirs.
	ipcmk -Q -p 0600 >"$W/queue"
	local queue=/dev/shm/$UR_TAG
	echo secret >"$queue"
	chmod 0600 "$queue"
	must docker run --rm --runtime ours --ipc host --cap-add ALL busybox sh -c "cat $queue 2>/dev/null; rm -f $queue 2>/dev/null; echo 1 >/proc/sys/kernel/shmmni; ipcrm -q $(grep -oE '[0-9]+$' "$W/queue") 2>&1; true" 2>"$W/err"
	[[ $output != *secret* ]]
	is secret "$(<"$queue")"
	has "$(ipcs -q)" ' 600 '
	rm "$queue"
	ipcrm -q "$(grep -oE '[0-9]+$' "$W/queue")"
}

@test "docker rows: all namespaces of the host at once, and --init" {
	ran --pid host --ipc host --uts host --network host --cgroupns host busybox sh -c 'for n in pid ipc uts net cgroup; do readlink /proc/self/ns/$n; done; ls /sys/class/net; hostname other 2>/dev/null; echo $?; hostname'
	ran --pid host --ipc host --init --device /dev/full:/dev/f busybox sh -c 'cat /proc/$PPID/comm; stat -c %t,%T /dev/f'
}

@test "docker rows: three services on a network, and volumes shared by two ranges" {
	room 6
	local runtime want='' name
	for runtime in plain ours; do
		docker network create stack >/dev/null
		docker volume create data >/dev/null
		must docker run -d --name store --runtime "$runtime" --network stack -v data:/data busybox \
			sh -c 'chown 1000:1000 /data; while :; do (cat /data/count 2>/dev/null || echo none) | nc -l -p 80; done'
		must docker run -d --name worker --runtime "$runtime" --network stack --volumes-from store --user 1000 busybox \
			sh -c 'echo 42 >/data/count; ls -ln /data/count | cut -c 1-30; sleep 1000'
		must docker run -d --name front --runtime "$runtime" --network stack -p 127.0.0.1:8080:80 busybox \
			sh -c 'while :; do nc store 80 </dev/null >/tmp/answer && nc -l -p 80 </tmp/answer; done'
		for name in store front; do
			patiently docker exec "$name" sh -c 'netstat -ltn | grep -q ":80 "'
		done
		patiently docker exec worker test -s /data/count
		try docker exec worker nc store 80
		try docker exec front sh -c 'stat -c "%u" /tmp; nslookup worker 2>/dev/null | grep -c "^Address"; hostname | wc -c'
		output+=$(docker exec worker sh -c 'nc store 80; stat -c "%u:%g %a" /data /data/count'; docker exec store stat -c '%u:%g' /data /data/count; docker logs worker)
		is "${want:=$output}" "$output" "runc's first"
		has "$output" 42
		if [[ $runtime == ours ]]; then
			is 3 "$(for name in store worker front; do awk '{print $2}' "/proc/$(pid_of "$name")/uid_map"; done | sort -u | wc -l)" "ranges"
		fi
		is 1000:1000 "$(stat -c %u:%g "$(volume data)/count")"
		must docker rm -f store worker front
		docker volume rm data >/dev/null
		docker network rm stack >/dev/null
	done
}
