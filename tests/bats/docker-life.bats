#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# The life of a container under dockerd, from its second process to its end,
# also when the client, the shim, the runtime or dockerd itself dies.

load helpers
load engines
load docker

setup_file() { docker_file busybox; }
teardown_file() { docker_down; }
setup() { docker_setup; }
teardown() { docker_teardown; }

# shim_of NAME: the process above the container's.
shim_of() { awk '/^PPid:/ {print $2}' "/proc/$(pid_of "$1")/status"; }

# dying: a runtime for dockerd that is ours, but killed so many seconds after it
# began to create as $W/die-after says, if that is there, with all that it started.
dying() {
	cat >"$W/dying" <<-SH
		#!/bin/bash
		case " \$* " in
		*" create "*) [[ ! -f $W/die-after ]] || exec timeout -s KILL "\$(<$W/die-after)" "$OURS" "\$@" ;;
		esac
		exec "$OURS" "\$@"
	SH
	chmod +x "$W/dying"
	set_daemon '.runtimes.dying = {path: "'"$W/dying"'"}'
	patiently eval 'docker info -f "{{.Runtimes}}" | grep -q dying'
}

immortal() {
	set_daemon 'del(.runtimes.dying)'
	patiently eval '! docker info -f "{{.Runtimes}}" | grep -q dying'
}

@test "docker life: exec" {
	both busybox sleep 1000
	did exec NAME sh -c 'echo out; echo err >&2; id'
	alike exec NAME sh -c 'exit 42'
	is 42 "$status"
	did exec -u 1000 NAME sh -c 'id; touch /tmp/by-user; ls -ln /tmp/by-user | cut -c 1-40'
	did exec -u user:extra -w /tmp -e A=b NAME sh -c 'id; pwd; echo $A'
	# Without all capabilities itself, a host can't give them under plain runc.
	if docker exec --privileged plain true; then
		did exec --privileged NAME grep Cap /proc/self/status
	fi
	must docker exec --privileged ours grep CapEff /proc/self/status
	has "$output" 'CapEff:.0+[1-9a-f]+f{8}$'
	STDIN=$W/in
	head -c 300000 /dev/urandom | base64 >"$STDIN"
	did exec -i NAME sha256sum
	STDIN=/dev/null
	alike exec NAME nosuchprogram
	alike exec -w /nowhere NAME true
	alike exec -u nosuchuser NAME true
	did exec -d NAME sh -c 'echo detached >/tmp/detached'
	patiently docker exec ours cat /tmp/detached
	in_both sh -c 'sleep 0.2; cat /tmp/detached; stat -c %u:%g /tmp/detached'
	in_both sh -c 'ps -o user,comm'
	# All of it in the container's range.
	docker exec -d -u 1000 ours sleep 1234
	eventually eval 'ps -eo uid=,args= | grep -q "^ *$((START + 1000)) sleep [1]234"'
}

@test "docker life: exec opens /dev/stdout and /dev/stderr again" {
	local user say='echo hi >/dev/stdout; echo ho >/dev/stderr'
	both busybox sleep 1000
	for user in 0 1000; do
		did exec -u "$user" NAME sh -c "$say"
		is hi "$output"
		is ho "$errput"
	done
	# Those of process 1 are its own: they are in the logs.
	in_both sh -c 'echo from exec >/proc/1/fd/1'
	did logs NAME
	is 'from exec' "$output"
}

@test "docker life: exec on a terminal" {
	local runtime user want
	both busybox sleep 1000
	for user in 0 1000; do
		want=
		for runtime in plain ours; do
			# Its number depends on when the terminal of the call before is gone.
			on_terminal /usr/bin/docker exec -it -u "$user" "$runtime" sh -c 'test -t 0 && tty | tr -d 0-9; id -u; echo hi >/dev/tty; ls -ln $(tty) | cut -c 1-30; exit 4'
			is 4 "$status"
			has "$output" hi
			has "$output" /dev/pts/
			is "${want:=$output}" "$output" "output, runc's first"
		done
	done
}

@test "docker life: restarted 20 times" {
	local i mounts
	both busybox sh -c 'echo start >>/starts; trap "exit 0" TERM; while :; do sleep 0.05; done'
	in_both sh -c 'mkdir /dir && echo kept >/dir/file && chown -R 1000:1000 /dir && rm /etc/group && touch /tmp/x'
	mounts=$(wc -l </proc/self/mountinfo)
	docker_disk >"$W/disk"
	for i in {1..20}; do
		docker restart -t 1 ours >/dev/null
	done
	docker restart -t 1 plain >/dev/null
	shifted ours
	patiently docker exec ours sh -c '[ $(wc -l </starts) = 21 ]'
	is 21 "$(docker exec ours wc -l /starts | cut -d' ' -f1)" starts
	alike exec NAME sh -c 'cat /dir/file; stat -c "%n %u:%g" /dir /dir/file /tmp/x; ls /etc'
	# A container that was started again is one more mount no more.
	is "$mounts" "$(wc -l </proc/self/mountinfo)" "mounts on the host"
	docker_disk | diff "$W/disk" -
	docker stop -t 1 ours plain
	docker cp ours:/starts "$W/starts"
	docker cp "$W/starts" plain:/starts
	same_upper
}

@test "docker life: stop, kill, wait and start again" {
	both busybox sh -c 'trap "echo got TERM; exit 3" TERM; trap "echo got HUP" HUP; echo ready; while :; do sleep 0.05; done'
	patiently eval 'docker logs plain | grep -q ready && docker logs ours | grep -q ready'
	did kill -s HUP NAME
	patiently eval 'docker logs plain | grep -q HUP && docker logs ours | grep -q HUP'
	did stop -t 5 NAME
	did wait NAME
	is 3 "$output"
	is "$(state_of plain)" "$(state_of ours)" "state, runc's first"
	did start NAME
	shifted ours
	did kill NAME
	did wait NAME
	is 137 "$output"
	alike kill NAME
	did logs NAME
	is "$(state_of plain)" "$(state_of ours)" "state, runc's first"
	did rm NAME
}

@test "docker life: attached, and a signal sent by the client" {
	local runtime want=
	for runtime in plain ours; do
		/usr/bin/docker run --rm --name "$runtime" --runtime "$runtime" busybox \
			sh -c 'trap "echo got TERM; exit 6" TERM; echo ready; while :; do sleep 0.05; done' >"$W/$runtime.out" 2>&1 </dev/null 3>&- &
		pid=$!
		patiently grep -q ready "$W/$runtime.out"
		kill -TERM "$pid"
		reap "$pid"
		is "${want:=$status $(<"$W/$runtime.out")}" "$status $(<"$W/$runtime.out")" "runc's first"
	done
	is $'6 ready\ngot TERM' "$want"
}

@test "docker life: pause, unpause, top, stats, update, rename, port, inspect" {
	both busybox sleep 1000
	did pause NAME
	is "$(state_of plain)" "$(state_of ours)"
	is paused "$(docker inspect -f '{{.State.Status}}' ours)"
	alike exec NAME true
	did unpause NAME
	did exec NAME echo back
	is 'sleep 1000' "$(docker top ours -eo pid,args | awk 'NR > 1 {print $2, $3}')"
	# As on the host: the UID there.
	is "$START" "$(docker top ours -eo pid,uid,args | awk '/sleep/ {print $2}')"
	try docker stats --no-stream --format '{{.Name}} {{.PIDs}}' ours plain
	is 0 "$status"
	is $'ours 1\nplain 1' "$(sort <<<"$output")"
	did update --memory 50m --memory-swap 50m --cpu-shares 123 --pids-limit 44 NAME
	did exec NAME sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/cpu/cpu.shares'
	is 44 "$(sed -n 2p <<<"$output")"
	did update --restart no NAME
	did rename NAME NAME-2
	did rename NAME-2 NAME
	did port NAME
	did inspect -f '{{.State.Running}} {{.Config.Cmd}} {{.HostConfig.UsernsMode}}' NAME
}

@test "docker life: out of memory, and too many processes" {
	local n
	# dockerd learns of the killing by an event, which may come after the end; then
	# it says of plain runc, too, that memory wasn't the reason.
	for n in 1 2 3 4 5; do
		pair -m 8m --memory-swap 8m busybox sh -c 'x=x; while :; do x=$x$x; done'
		did wait NAME
		is 137 "$output"
		[[ $(state_of plain) != "$(state_of ours)" ]] || break
		docker rm plain ours
	done
	is "$(state_of plain)" "$(state_of ours)" "state, runc's first"
	docker rm plain ours
	ran --pids-limit 5 busybox sh -c '(for i in 1 2 3 4 5 6 7 8; do sleep 0.3 & done; wait) 2>/dev/null || echo no more'
}

@test "docker life: --restart on-failure" {
	pair --restart on-failure:2 busybox sh -c 'echo again; exit 5'
	patiently eval '[[ $(docker inspect -f "{{.RestartCount}} {{.State.Status}}" ours plain | sort -u) == "2 exited" ]]'
	did logs NAME
	is $'again\nagain\nagain' "$output"
	is "$(state_of plain)" "$(state_of ours)"
}

@test "docker life: health checks" {
	both --health-cmd 'test -f /healthy && id -u' --health-interval 0.3s --health-retries 2 --health-timeout 5s busybox sleep 1000
	patiently eval '[[ $(docker inspect -f "{{.State.Health.Status}}" ours plain | sort -u) == unhealthy ]]'
	in_both touch /healthy
	patiently eval '[[ $(docker inspect -f "{{.State.Health.Status}}" ours plain | sort -u) == healthy ]]'
	is 0 "$(docker inspect ours | jq -r '.[0].State.Health.Log[-1].Output')"
	# A bad book stops nobody who runs already.
	echo nonsense >"$BOOK"
	in_both rm /healthy
	patiently eval '[[ $(docker inspect -f "{{.State.Health.Status}}" ours plain | sort -u) == unhealthy ]]'
	in_both touch /healthy
	patiently eval '[[ $(docker inspect -f "{{.State.Health.Status}}" ours plain | sort -u) == healthy ]]'
	did stop -t 0 NAME
}

@test "docker life: rm -f of a running, a paused and a created container" {
	both busybox sleep 1000
	did rm -f NAME
	both busybox sleep 1000
	did pause NAME
	did rm -f NAME
	alike create --name NAME --runtime NAME busybox sleep 1000
	did rm -f NAME
	both busybox sh -c 'sleep 1001 & sleep 1002 & sleep 1003'
	did rm -f NAME
	eventually eval '! ps -eo args= | grep -E "^sleep 100[0-9]$"'
}

@test "docker life: the client killed" {
	local runtime want=
	for runtime in plain ours; do
		/usr/bin/docker run --name "$runtime" --runtime "$runtime" busybox sh -c 'echo ready; sleep 1000' >"$W/$runtime.out" 2>&1 </dev/null 3>&- &
		pid=$!
		patiently grep -q ready "$W/$runtime.out"
		kill -KILL "$pid"
		reap "$pid"
		is "${want:=$(state_of "$runtime")}" "$(state_of "$runtime")" "state, runc's first"
		must docker exec "$runtime" echo alive
	done
	shifted ours
	did rm -f NAME
}

@test "docker life: process 1 killed from outside" {
	both busybox sh -c 'sleep 1001 & sleep 1002'
	local runtime
	for runtime in plain ours; do kill -KILL "$(pid_of "$runtime")"; done
	did wait NAME
	is 137 "$output"
	is "$(state_of plain)" "$(state_of ours)" "state, runc's first"
	did start NAME
	in_both true
	shifted ours
}

@test "docker life: the shim killed" {
	local runtime
	both busybox sleep 1000
	for runtime in plain ours; do kill -KILL "$(shim_of "$runtime")"; done
	patiently is_state plain exited
	patiently is_state ours exited
	is "$(state_of plain)" "$(state_of ours)" "state, runc's first"
	did start NAME
	in_both echo again
	shifted ours
	did rm -f NAME
	eventually eval '! ps -eo args= | grep -E "^sleep 1000$"'
}

@test "docker life: the runtime killed while it creates" {
	local after ns
	dying
	ls /run/docker/netns >"$W/netns" 2>/dev/null || true
	# Early and late, and wherever it is then.
	for after in 0.002 0.01 0.02 0.03 0.05 0.08 0.12; do
		echo "$after" >"$W/die-after"
		try docker run --name dies --runtime dying busybox true
		docker rm -f dies >/dev/null
	done
	# The same container starts again, and nothing is left, which teardown looks at.
	echo 0.02 >"$W/die-after"
	try docker run --name dies --runtime dying busybox echo in the end
	rm "$W/die-after"
	must docker start -a dies
	is 'in the end' "$output"
	docker rm dies
	immortal
	# A runc that was killed leaves its cgroups, and dockerd, now and then, the network of a start
	# that failed, which it clears away when it is started.
	find /sys/fs/cgroup -depth -type d -path "*/$UR_TAG-docker/*" -exec rmdir {} +
	for ns in /run/docker/netns/*; do
		grep -qxF "${ns##*/}" "$W/netns" || ! mountpoint -q "$ns" || umount "$ns"
	done
}

@test "docker life: dockerd stopped and started again, containers living on" {
	local pid_plain pid_ours signal
	set_daemon '."live-restore" = true'
	patiently eval '[[ $(docker info -f "{{.LiveRestoreEnabled}}") == true ]]'
	both busybox sh -c 'while :; do echo tick; sleep 0.2; done'
	pid_plain=$(pid_of plain) pid_ours=$(pid_of ours)
	# Once as it should be, and once not.
	for signal in TERM KILL; do
		end docker "$signal"
		rm -f /run/docker.pid
		kill -0 "$pid_plain" "$pid_ours"
		docker_again
		is "$pid_plain $pid_ours" "$(pid_of plain) $(pid_of ours)" "the containers' processes"
		did exec NAME sh -c 'id -u; echo into; touch /file-$$'
		try docker logs --tail 1 ours
		is tick "$output"
		did inspect -f '{{.State.Status}} {{.RestartCount}}' NAME
	done
	shifted ours
	did restart -t 0 NAME
	in_both echo again
	did rm -f NAME
	set_daemon '."live-restore" = false'
	patiently eval '[[ $(docker info -f "{{.LiveRestoreEnabled}}") == false ]]'
}

@test "docker life: dockerd stopped and started again, containers with it" {
	room 2
	both --restart always --stop-timeout 1 busybox sh -c 'echo start >>/starts; sleep 1000'
	docker run -d --name gone --stop-timeout 1 --runtime ours busybox sleep 1000
	end docker
	docker_again
	patiently is_state ours running
	patiently is_state plain running
	patiently docker exec ours grep -c start /starts
	in_both sh -c 'wc -l </starts'
	shifted ours
	is "$(docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' gone)" 'exited 137'
	must docker start gone
	maps_are "0:$((START + COUNT)):$COUNT" "$(pid_of gone)"
}
