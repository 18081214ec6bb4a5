#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# Unmodified images under Podman: the same `podman run` with runc and with ours.

load helpers
load engines
load containerd
load podman

setup_file() {
	W=$BATS_FILE_TMPDIR
	needs podman conmon iptables ip || return 0
	snapshot >"$W/.first"
	podman_file
	must pod_run plain --rm --uidmap "0:$START:1000" --gidmap "0:$START:1000" -- true
	must pod_run plain --rm -- true
	close_above
}

# close_above: with a map of IDs, Podman lets everybody pass all directories above
# the container's. That of bats isn't its own to open, for the tests of other files.
close_above() { chmod 0700 "$BATS_RUN_TMPDIR"; }

snapshot() { tagged_snapshot; }

setup() { engine_setup; }

teardown() {
	close_above
	[[ -n ${BATS_TEST_COMPLETED:-} ]] || podman_clean
	helpers_teardown
}

# shellcheck disable=SC2153 # of helpers.bash
TWO=$((START + 2 * COUNT))

# both COMMAND...: it runs for each runtime, with the name in runtime, and what it
# prints, got at the end, has to be the same.
both() {
	local runtime want
	for runtime in plain ours; do
		got=$("$@" 3>&-) || {
			printf '%s with %s failed:\n%s\n' "$1" "$runtime" "$got"
			return 1
		}
		[[ $runtime = ours ]] || want=$got
		printf '# %s\n%s\n' "$runtime" "$got"
		is "$want" "$got" "$1, runc's first"
	done
}

# tell COMMAND...: its output, error output and status.
tell() {
	try "$@" >/dev/null
	printf '%s\n' "$output" "$errput" "$status"
}

@test "podman: run gives what it gives with runc" {
	same_pod -- sh -c 'echo out; echo err >&2; exit 3'
	is "3 out err" "$status $output $errput"
	same_pod -- sh -c 'id; pwd; hostname; umask; grep -E "^(Cap|NoNewPrivs|Seccomp)" /proc/self/status; ulimit -n'
	same_pod -e A=b -e EMPTY= -w /tmp -- sh -c 'env | sort; pwd'
	same_pod -- sh -c 'ls -lnR /etc /home /root /tmp /var | grep -vE " (hosts|hostname|resolv.conf|mtab)$"; ls -l /dev | cut -c1-10; ls -R /dev'
	same_pod --cap-add SYS_TIME --cap-drop CHOWN --security-opt no-new-privileges -- sh -c 'grep -E "^(Cap|NoNewPrivs|Seccomp)" /proc/self/status; touch /tmp/x; chown 5:5 /tmp/x; echo $?'
	same_pod --memory 64m --cpu-shares 100 --pids-limit 50 -- true
	same_pod -- nosuchprogram
	is 127 "$status"
	same_pod --entrypoint '["sh", "-c"]' -- 'echo entry'
}

@test "podman: root inside is nobody on the host" {
	must pod_run ours --rm -- cat /proc/self/uid_map /proc/self/gid_map
	is "0 $START $COUNT" "$(awk '{$1 = $1; print}' <<<"$output" | uniq)"
	audited '.decision == "granted" and .owner == "dockroot"'
	pod_up ours
	maps_are "0:$START:$COUNT" "$init"
	must podman exec "$CT" cat /proc/self/uid_map
	has "$output" " $START "
	pod_down
}

@test "podman: users, and standard output reopened" {
	same_pod --user 1000:2000 -- sh -c 'id; touch /tmp/x; ls -n /tmp | cut -c1-40; grep ^Groups /proc/self/status'
	same_pod --user user --group-add 5000 -- id
	local user
	for user in 0 1000; do
		same_pod --user "$user" -- sh -c 'echo hi >/dev/stdout; echo ho >/dev/stderr; cat /root/x'
		is hi "$output"
	done
	echo in >"$W/in"
	STDIN=$W/in
	same_pod -i -- sh -c 'cat /dev/stdin'
	is in "$output"
	is 0:0 "$(stat -c %u:%g /dev/null)"
}

@test "podman: the files that it puts in: hosts, hostname, resolv.conf, shm, .containerenv" {
	same_pod --dns 10.1.1.1 --add-host some:10.2.2.2 -- sh -c '
		grep some /etc/hosts; cat /etc/hostname /etc/resolv.conf; cat /run/.containerenv | grep -vE "^(id|imageid)="
		ls -ln /etc/hosts /etc/hostname /etc/resolv.conf /run/.containerenv | cut -c1-24
		echo more >>/etc/hosts && tail -n 1 /etc/hosts; echo x >/dev/shm/x && ls -ln /dev/shm | cut -c1-24; stat -c %a:%u:%g /dev/shm
		grep -E " /(etc/|dev/shm|dev/mqueue|sys|run)" /proc/mounts | cut -d" " -f2,4 | cut -d, -f1 | sort'
	same_pod --shm-size 2m -- sh -c 'df /dev/shm | tail -n 1'
}

@test "podman: bridge, no and the host's network" {
	local words='ls /sys/class/net; cat /sys/class/net/lo/mtu; ip -o addr | cut -d" " -f2 | cut -d@ -f1'
	same_pod --network bridge -- sh -c "$words; touch /sys/x"
	has "$output" '^eth0$'
	same_pod --network bridge --sysctl net.core.somaxconn=77 --sysctl net.ipv4.ping_group_range='0 5' --sysctl kernel.msgmax=9000 -- sh -c 'cat /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/ping_group_range /proc/sys/kernel/msgmax'
	# busybox' ping knows raw sockets only, which are the host's to give there.
	pod_up ours --network bridge
	must nsenter --net --user -t "$init" perl -e 'socket(S, 2, 2, 1) or die "$!\n"'
	must podman exec "$CT" cat /proc/sys/net/ipv4/ping_group_range
	is "0 $((COUNT - 1))" "${output/$'\t'/ }"
	pod_down
	same_pod --network none -- sh -c "$words"
	same_pod --network host -- sh -c "ls /sys/class/net /sys/fs/cgroup; readlink /proc/self/ns/net; cat /proc/net/route | wc -l; cat /sys/class/net/lo/mtu; touch /sys/x"
	has "$output" "$(readlink /proc/self/ns/net | tr '[]' ..)"
}

@test "podman: a port below 1024, published to the host" {
	serve() {
		pod_up "$runtime" -p 127.0.0.1:8080:80 >/dev/null
		podman exec -d "$CT" sh -c 'mkdir /www; echo served >/www/index.html; exec httpd -p 80 -h /www' >/dev/null
		patiently busybox wget -q -O "$W/got" http://127.0.0.1:8080/
		cat "$W/got"
		pod_down >/dev/null
	}
	both serve
}

@test "podman: named and anonymous volumes" {
	volumes() {
		pod_run "$runtime" --rm -v "$runtime-v:/v" -v /anonymous -- sh -c 'echo x >/v/x; chown 1000:2000 /v/x; chmod 4755 /v/x; mkdir /v/d; touch /anonymous/y; ls -ln /v /anonymous | cut -c1-24; stat -c %u:%g:%a /v /anonymous'
		pod_run "$runtime" --rm -v "$runtime-v:/v:ro" --user 1000 -- sh -c 'exec 2>&1; cat /v/x; touch /v/z; touch /v/x; echo $?' 2>&1
		pod_run "$runtime" --rm -v "$runtime-v:/etc" -- sh -c 'ls /etc; cat /etc/x'
		pod_run "$runtime" --rm -v "$runtime-copy:/etc" -- sh -c 'ls -ln /etc/passwd | cut -c1-24; rm /etc/passwd' # copied from the image
		local volume
		for volume in "$runtime-v" "$runtime-copy"; do
			listing "$(podman volume inspect --format '{{.Mountpoint}}' "$volume")" | sed "s/$runtime/RUNTIME/"
			unshifted "$(podman volume inspect --format '{{.Mountpoint}}' "$volume")"
		done
		podman volume rm "$runtime-v" "$runtime-copy" >/dev/null
		podman volume ls -q
	}
	both volumes
}

@test "podman: volumes that are overlays are refused by name, and leave the host path as it was" {
	local options
	mkdir -m 0755 "$W/dir"
	echo x >"$W/dir/x"
	for options in "-v $W/dir:/d:O" "--mount type=image,source=$POD_IMAGE,destination=/d"; do
		# shellcheck disable=SC2086 # words
		must pod_run plain --rm $options -- ls /d
		# shellcheck disable=SC2086 # words
		try pod_run ours --rm $options -- ls /d
		is 126 "$status"
		has "$errput" 'mounts\[[0-9]+\]: /d: an overlay, .*bind a directory instead'
	done
	is x "$(ls "$W/dir")"
}

@test "podman: secrets, volumes of another container, :U, and what systemd would need" {
	room 2
	others() {
		echo secret | podman secret create s - >/dev/null
		pod_run "$runtime" --rm --secret s -- sh -c 'cat /run/secrets/s; ls -n /run/secrets | cut -c1-24'
		podman secret rm s >/dev/null
		pod_run "$runtime" --rm -v "$runtime-v:/v:U" --user 1000 -- sh -c 'echo y >/v/y; ls -n /v | cut -c1-24'
		pod_up "$runtime" -v "$runtime-v:/v" >/dev/null
		podman --runtime "$runtime" run --rm --name "$CT-2" --cgroup-parent "/$UR_TAG" --volumes-from "$CT" "$POD_IMAGE" sh -c 'cat /v/y; echo z >/v/z; ls -n /v | cut -c1-24'
		podman exec "$CT" cat /v/z
		pod_down >/dev/null
		podman volume rm "$runtime-v" >/dev/null
		pod_run "$runtime" --rm --systemd=always -- sh -c 'exec 2>&1; touch /run/x /run/lock/x /tmp/x /var/log/journal/x; echo $?; test -f /sys/fs/cgroup/systemd/tasks; echo $?; ls /sys/fs/cgroup' 2>&1
		pod_run "$runtime" --rm -v /sys/fs/cgroup:/c:ro -- sh -c 'ls /sys/fs/cgroup /c' 2>&1
	}
	both others
}

@test "podman: host paths, tmpfs, read-only" {
	mkdir -p "$W/dir"
	echo x >"$W/dir/x"
	mkdir -m 1777 "$W/open"
	chmod 0711 "$W"
	same_pod -v "$W/dir:/d:ro" -- sh -c 'cat /d/x; touch /d/y; mount -o remount,rw /d; echo $?'
	must pod_run ours --rm -v "$W/dir:/d" -v "$W/open:/o" -- sh -c 'touch /d/y 2>/dev/null; echo $?; stat -c %u /d; touch /o/y; stat -c %u /o/y'
	is "1 65534 0" "${output//$'\n'/ }"
	is "$START" "$(stat -c %u "$W/open/y")"
	same_pod --tmpfs /t:size=1m,mode=1777 -- sh -c 'touch /t/x; ls -ln /t | cut -c1-24; df /t | tail -n 1'
	same_pod --read-only -- sh -c 'touch /x; echo $?; for d in /tmp /run /var/tmp /dev/shm; do touch $d/x; echo $?; done'
	same_pod --mount type=tmpfs,destination=/t,tmpfs-mode=0700 --user 1000 -- sh -c 'touch /t/x; echo $?; stat -c %a:%u /t'
}

@test "podman: the owner's own directory" {
	useradd -u 4242 -m alice -d "$W/alice"
	useradd -u 4243 -m bob -d "$W/bob"
	chmod 0711 "$W"
	chmod 0700 "$W/alice" "$W/bob"
	book "alice:$TWO:$COUNT:" "dockroot:$START:$COUNT:"
	must pod_run alice --rm -v "$W/alice:/work" -- sh -c 'echo x >/work/x; mkdir /work/d; chown 7:7 /work/d; ls -n /work | cut -c1-24; cat /proc/self/uid_map'
	has "$output" " $TWO "
	is 4242:4242 "$(stat -c %u:%g "$W/alice/x")"
	is "$((TWO + 7))" "$(stat -c %u "$W/alice/d")"
	try pod_run alice --rm -v "$W/bob:/work" -- sh -c 'stat -c %u /work; ls /work; touch /work/x'
	is "1 65534" "$status $output"
	is "" "$(ls "$W/bob/x" 2>/dev/null)"
	try pod_run ours --rm -v "$W/alice:/work" -- sh -c 'cat /work/x'
	is 1 "$status" "dockroot's container reads what is alice's"
}

@test "podman: exec, logs, top, stats, pause, update, kill" {
	life() {
		pod_run "$runtime" -d -- sh -c 'echo one; echo two >/dev/stdout; echo three >&2; exec sleep 1000' >/dev/null
		patiently grep -q sleep "/proc/$(pod_of "$CT" .State.Pid)/cmdline"
		podman logs "$CT" 2>&1
		tell podman exec "$CT" sh -c 'id; pwd; env | sort; echo x >/dev/stdout; echo err >&2; exit 7'
		tell podman exec --user 1000:1000 -w /tmp -e A=b "$CT" sh -c 'id; pwd; echo $A; echo x >/dev/stderr'
		tell podman exec --privileged "$CT" sh -c 'exit 3'
		tell podman exec "$CT" nosuchprogram | sed "s/$runtime: //"
		podman top "$CT" user,args | awk '{print $1, $2}'
		podman stats --no-stream --format '{{.PIDs}}' "$CT"
		podman pause "$CT" >/dev/null && pod_status
		podman unpause "$CT" >/dev/null && pod_status
		podman update --cpu-shares 111 --memory 77m "$CT" >/dev/null
		cat "/sys/fs/cgroup/cpu/$UR_TAG/libpod-$(pod_of "$CT" .Id)/cpu.shares"
		podman kill -s KILL "$CT" >/dev/null
		podman wait "$CT"
		pod_status
		podman rm "$CT" >/dev/null
	}
	both life
}

@test "podman: a terminal, of run and of exec" {
	its_terminal() {
		on_terminal podman --runtime "$runtime" run --rm -it --name "$CT" --cgroup-parent "/$UR_TAG" "$POD_IMAGE" sh -c 'tty; test -t 0 && test -t 2; echo $?; echo x >/dev/tty; sleep 0.2; exit 5' >/dev/null
		echo "$status $output"
		pod_up "$runtime" >/dev/null
		on_terminal podman exec -it "$CT" sh -c 'tty; echo x >/dev/tty; echo y >/dev/stdout; exit 6' >/dev/null
		echo "$status $output"
		on_terminal podman exec -it --user 1000 "$CT" sh -c 'id -u; tty; echo x >/dev/tty; echo y >/dev/stdout' >/dev/null
		echo "$status $output"
		pod_down >/dev/null
	}
	both its_terminal
	has "$got" /dev/pts/
}

@test "podman: restarted 20 times" {
	restarts() {
		local i count=20
		[[ $runtime = ours ]] || count=2 # what it leaves is the same each time
		pod_run "$runtime" -d -v "$runtime-v:/v" -- sh -c 'n=$(($(cat /count 2>/dev/null || echo 0) + 1)); echo $n >/count; echo $n >/v/count; exec sleep 1000' >/dev/null
		for ((i = 0; i < count; i++)); do
			patiently grep -q sleep "/proc/$(pod_of "$CT" .State.Pid)/cmdline"
			podman restart -t 0 "$CT" >/dev/null || return
		done
		patiently grep -q sleep "/proc/$(pod_of "$CT" .State.Pid)/cmdline"
		is "$((count + 1)) $((count + 1))" "$(podman exec "$CT" cat /count /v/count | paste -sd' ')" || return
		podman exec "$CT" sh -c 'ls -n /count /v | cut -c1-24; rm /count /v/count'
		listing "$(pod_upper)"
		find "$(pod_upper)/.." -mindepth 1 -maxdepth 1 ! -name merged ! -name userns-runtime-work -printf '%f\n' | sort
		pod_down >/dev/null
		podman volume rm "$runtime-v" >/dev/null
	}
	both restarts
}

@test "podman: diff, commit, cp, export" {
	files() {
		local id
		pod_run "$runtime" --network none -d -- sh -c 'mkdir /a; echo x >/a/x; chown 1000:2000 /a/x; rm /bin/vi; mv /home /house; chmod 4755 /a/x; exec sleep 1000' >/dev/null
		patiently grep -q sleep "/proc/$(pod_of "$CT" .State.Pid)/cmdline"
		podman diff "$CT" | sort
		podman cp "$CT:/a" "$W/out-$runtime"
		listing "$W/out-$runtime" | sed "s/-$runtime//"
		unshifted "$W/out-$runtime"
		unshifted "$(pod_upper)"
		listing "$(pod_upper)" | grep -vE '^(\.|etc|run|dev|proc|sys)'
		podman export "$CT" -o "$W/$runtime.tar"
		tar_listing "$W/$runtime.tar" | grep -vE '^(etc/(hosts|hostname|resolv.conf|mtab)|run/)'
		podman stop -t 0 "$CT" >/dev/null
		echo in >"$W/in"
		podman cp "$W/in" "$CT:/a/in"
		podman cp "$CT:/a/x" - | tar -tvf - --numeric-owner | cut -c1-24
		podman commit -q "$CT" "$runtime-made" >/dev/null
		podman --runtime "$runtime" run --rm --name "$CT-2" --cgroup-parent "/$UR_TAG" "$runtime-made" sh -c 'ls -ln /a / | grep -vE " (proc|sys)$" | cut -c1-24; cat /a/in'
		pod_down >/dev/null
		podman rmi -f "$runtime-made" >/dev/null
	}
	both files
}

# Podman writes as the host's root in the container's mounts, where that is nobody:
# a limit that docs/engines.md names, with the two ways that work.
@test "podman: cp into a running container fails, into a stopped one and by exec it doesn't" {
	pod_up ours --network none >/dev/null
	echo in >"$W/in"
	try podman cp "$W/in" "$CT:/tmp/in"
	is 125 "$status"
	has "$errput" 'value too large for defined data type'
	podman exec -i "$CT" sh -c 'cat >/tmp/by-exec' <"$W/in"
	must podman exec "$CT" cat /tmp/by-exec
	is in "$output"
	must podman stop -t 0 "$CT"
	must podman cp "$W/in" "$CT:/tmp/in"
	must podman start "$CT"
	must podman exec "$CT" sh -c 'cat /tmp/in; stat -c %u:%g /tmp/in'
	is $'in\n0:0' "$output"
	unshifted "$(pod_upper)"
	pod_down >/dev/null
}

@test "podman: build" {
	printf '%s\n' "FROM $POD_IMAGE" 'RUN id >/made; mkdir /d; chown 1000:2000 /d; chmod 4711 /made; cat /proc/self/uid_map >/map' \
		'RUN rm /bin/vi; echo more >>/etc/group' 'USER 1000' 'RUN id >/tmp/user' >"$W/Containerfile"
	build() {
		local program=$RUNC
		[[ $runtime = plain ]] || program=$OURS
		podman build -q --ulimit nofile=1000:1000 --ulimit nproc=1000:1000 --isolation oci --runtime "$program" --cgroup-parent "/$UR_TAG/build" -t "built-$runtime" -f "$W/Containerfile" "$W" >/dev/null || return
		podman --runtime "$runtime" run --rm --user 0 --name "$CT" --cgroup-parent "/$UR_TAG" "built-$runtime" sh -c 'exec 2>&1; cat /made /tmp/user /etc/group; ls -ln / /tmp /made | grep -vE "total|map$| (proc|sys)$" | cut -c1-24; ls /bin/vi' 2>&1
		podman --runtime "$runtime" run --rm --user 0 --name "$CT" --cgroup-parent "/$UR_TAG" "built-$runtime" cat /map >"$W/map-$runtime"
		podman rmi -f "built-$runtime" >/dev/null
	}
	both build
	has "$(<"$W/map-ours")" " $START "
}

@test "podman: --init and health checks" {
	same_pod --init -- sh -c 'ps | sed "s/^ *[0-9]* *//" | head -n 2; readlink /proc/1/exe'
	health() {
		pod_up "$runtime" --health-cmd 'test ! -e /sick' --health-interval disable --health-retries 1 >/dev/null
		tell podman healthcheck run "$CT"
		podman exec "$CT" touch /sick
		tell podman healthcheck run "$CT"
		pod_of "$CT" .State.Health.Status
		pod_down >/dev/null
	}
	both health
}

@test "podman: a pod shares its namespaces, and its user namespace" {
	pods() {
		podman --runtime "$runtime" pod create --name "$CT" --cgroup-parent "/$UR_TAG" --hostname thing \
			--infra-image "$POD_IMAGE" --infra-command 'sleep 1000' -p 127.0.0.1:8081:80 >/dev/null || return
		podman --runtime "$runtime" run -d --pod "$CT" --name "$CT-web" "$POD_IMAGE" sh -c 'mkdir /www; hostname >/www/index.html; exec httpd -f -p 80 -h /www' >/dev/null || return
		podman --runtime "$runtime" run --rm --pod "$CT" --name "$CT-client" "$POD_IMAGE" sh -c 'exec 2>/dev/null
			until wget -q -O - http://127.0.0.1/; do sleep 0.1; done; ls /sys/class/net; hostname; touch /dev/shm/x; id' 2>&1
		patiently busybox wget -q -O - http://127.0.0.1:8081/
		busybox wget -q -O - http://127.0.0.1:8081/
		podman exec "$CT-web" sh -c 'ls /dev/shm; cat /etc/hostname'
		readlink "/proc/$(pod_of "$CT-web" .State.Pid)/ns/user" >"$W/web-$runtime"
		readlink "/proc/$(pod_of "$(podman pod inspect --format '{{.InfraContainerID}}' "$CT")" .State.Pid)/ns/user" >"$W/infra-$runtime"
		podman restart -t 0 "$CT-web" >/dev/null
		patiently busybox wget -q -O - http://127.0.0.1:8081/
		busybox wget -q -O - http://127.0.0.1:8081/
		podman pod stop -t 0 "$CT" >/dev/null && podman pod start "$CT" >/dev/null
		patiently busybox wget -q -O - http://127.0.0.1:8081/
		busybox wget -q -O - http://127.0.0.1:8081/
		podman pod rm -f -t 0 "$CT" >/dev/null
		podman ps -aq
		remove_cgroups # Podman leaves two of a pod's
	}
	both pods
	is "$(<"$W/infra-ours")" "$(<"$W/web-ours")" "the user namespace of both"
	[[ $(<"$W/web-ours") != "$(readlink /proc/self/ns/user)" ]]
}

@test "podman: another container's namespaces" {
	joined() {
		pod_up "$runtime" >/dev/null
		podman --runtime "$runtime" run --rm --name "$CT-2" --network "container:$CT" --ipc "container:$CT" --cgroup-parent "/$UR_TAG" "$POD_IMAGE" sh -c 'exec 2>&1; ls /sys/class/net; id; touch /dev/shm/x; ls -ln /dev/shm | cut -c1-24' 2>&1
		podman --runtime "$runtime" run --rm --name "$CT-2" --pid "container:$CT" --cgroup-parent "/$UR_TAG" "$POD_IMAGE" sh -c 'exec 2>&1; ps | grep -c "^ *1 .*sleep 1000"; ls -l /proc/1/exe | cut -c1-10' 2>&1
		podman exec "$CT" ls /dev/shm
		pod_down >/dev/null
	}
	both joined
}

@test "podman: --userns=auto, --uidmap: judged, and run or refused" {
	local want flags script='cat /proc/self/uid_map /proc/self/gid_map; id; ls -ln /etc/passwd /home | cut -c1-24; touch /x; ls -n /x | cut -c1-24; echo x >/v/x; ls -n /v | cut -c1-24'
	for flags in '--userns=auto' '--userns=auto:size=4096' "--uidmap=0:$((START + 100)):5000 --gidmap=0:$((START + 100)):5000"; do
		# shellcheck disable=SC2086 # one word or two
		same_pod $flags -v /v -- sh -c "$script"
		has "$output" " +18790[0-9]+ +[0-9]+"
		is 0 "$status"
	done
	# Beside the range, and the host's own.
	for flags in "--uidmap=0:$((START + 60000)):6000 --gidmap=0:$((START + 60000)):6000" '--uidmap=0:100000:1000 --gidmap=0:100000:1000' '--uidmap=0:0:1000 --gidmap=0:0:1000'; do
		# shellcheck disable=SC2086 # two words
		must pod_run plain --rm $flags -- true
		# shellcheck disable=SC2086 # two words
		try pod_run ours --rm $flags -- true
		is 126 "$status"
		want=$(tail -n 1 "$AUDIT" | jq -r '.error | gsub("\n"; "; ")')
		# A line of the audit is cut where it gets too long.
		[[ $errput == *"${want%...}"* ]] || is "$want" "$errput"
		audited '.decision == "refused" and .askedUIDs != null'
	done
}

@test "podman: a refusal is shown whole" {
	book "somebody:$START:$COUNT:"
	try pod_run ours --rm -- true
	is 126 "$status"
	is "" "$output"
	local want
	want=$(tail -n 1 "$AUDIT" | jq -r .error)
	has "$want" 'dockroot: no line'
	[[ $errput == *"$want"* ]] || is "$want" "$errput"
	is "" "$(podman ps -aq)"
	book "dockroot:$START:$COUNT:"
	must pod_run ours --rm -- true
	# So is one of exec's.
	pod_up ours
	try podman exec --user 70000 "$CT" true
	[[ $status != 0 ]]
	has "$errput" 70000
	pod_down
}

@test "podman: refused by name: users without an ID" {
	must pod_run plain --rm --user=70000 -- true
	try pod_run ours --rm --user=70000 -- true
	is 126 "$status"
	has "$errput" 70000
	is "$(podman ps -aq)" ""
}

@test "podman: devices, --privileged, the host's pid and ipc" {
	mknod -m 0640 "$W/zero" c 1 5
	chown 7:8 "$W/zero"
	same_pod --device="$W/zero:/dev/z" -- sh -c 'stat -c "%n %F %a %u:%g" /dev/z; head -c 3 /dev/z | wc -c'
	is 0 "$status"
	same_pod --pid=host -- sh -c 'cat /proc/1/comm; readlink /proc/self/ns/pid; ls -d /proc/1'
	is 0 "$status"
	same_pod --ipc=host -- sh -c 'readlink /proc/self/ns/ipc; stat -c "%n %a" /dev/mqueue /dev/shm; touch /dev/mqueue/q; rm /dev/mqueue/q'
	is 0 "$status"
	must pod_run ours --rm --privileged -- sh -c 'grep CapEff /proc/self/status; mkdir /m; mount -t tmpfs t /m && echo mounted; find /dev -type b | while read -r f; do head -c 1 $f 2>&1; done | grep -v "Permission denied$"; stat -c %u /dev/kmsg /dev/null'
	is $'mounted\n65534\n0' "$(tail -n 3 <<<"$output")"
	audited '.confined | length == 2'
}

@test "podman: device nodes of an image can't be opened, nor their copies in a volume" {
	local flags volume
	mkdir -p "$W/image/dv"
	mknod -m 0666 "$W/image/dv/z" c 1 5
	cp "$(engine_image busybox)" "$W/tar"
	tar -C "$W/image" --append -f "$W/tar" ./dv
	podman import -q "$W/tar" localhost/nodes >/dev/null
	for flags in --privileged '--privileged --userns=auto' --userns=auto; do
		for volume in '' '-v nodes:/dv:dev'; do # Podman's own have nodev unless told otherwise
			# shellcheck disable=SC2086 # words
			POD_IMAGE=localhost/nodes must pod_run plain --rm $flags $volume -- sh -c 'stat -c %F,%a /dv/z; head -c 3 /dv/z | wc -c'
			is $'character special file,666\n3' "$output"
			# shellcheck disable=SC2086 # words
			POD_IMAGE=localhost/nodes try pod_run ours --rm $flags $volume -- sh -c 'stat -c %F,%a /dv/z; head -c 3 /dv/z'
			is 1 "$status"
			is character\ special\ file,666 "$output"
			has "$errput" 'z: Permission denied'
			podman volume rm -f nodes >/dev/null
		done
	done
	podman rmi localhost/nodes >/dev/null
}

@test "podman: SIGKILL of the client, of its monitor, of init" {
	kills() {
		podman --runtime "$runtime" run --name "$CT" --cgroup-parent "/$UR_TAG" "$POD_IMAGE" sleep 1000 </dev/null >"$W/o" 2>&1 3>&- &
		pid=$!
		patiently is_pod running
		kill -KILL "$pid"
		reap "$pid" >/dev/null 2>&1
		echo "client: $status $(pod_status)"
		podman exec "$CT" id -u
		kill -KILL "$(pod_of "$CT" .State.Pid)"
		patiently is_pod exited
		echo "init: $(pod_status) $(pod_of "$CT" .State.ExitCode)"
		podman start "$CT" >/dev/null
		init=$(pod_of "$CT" .State.Pid)
		kill -KILL "$(pod_of "$CT" .State.ConmonPid)"
		echo "monitor: $(pod_status)"
		podman exec "$CT" id -u
		podman rm -f -t 0 "$CT" 2>&1 | sed "s/$init/PID/g"
		podman ps -aq
		test -e "/proc/$init" || echo gone
		# Without its monitor nobody calls the runtime: Podman leaves it to others.
		local left
		for left in /run/runc/*/; do
			"$(binary "$runtime")" --root /run/runc delete -f "$(basename "$left")"
		done
		ls /run/runc
	}
	both kills
}

@test "podman: the owner by the program's name, a flag, an annotation and a rule" {
	local one=$((START + COUNT)) words
	book "dockroot:$START:$COUNT:" "alice:$one:$COUNT:" "bob:$TWO:$COUNT:"
	must pod_run alice --rm -- cat /proc/self/uid_map
	is "0 $one $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	try podman --runtime ours --runtime-flag owner=bob run --rm --name "$CT" --cgroup-parent "/$UR_TAG" "$POD_IMAGE" cat /proc/self/uid_map
	is "0 $TWO $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	must pod_run ours --rm --annotation io.userns-runtime.owner=alice -- cat /proc/self/uid_map
	is "0 $START $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	config 'annotations = ["owner"]'
	must pod_run ours --rm --annotation io.userns-runtime.owner=alice -- cat /proc/self/uid_map
	is "0 $one $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	config '[[rule]]' 'root = "/run/runc"' 'owner = "bob"'
	must pod_run ours --rm -- cat /proc/self/uid_map
	is "0 $TWO $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
}

@test "podman: an image of 128 layers, which is its limit" {
	oci_image "$(engine_image busybox)" "$W/many.tar" localhost/many:latest 127
	must podman load -q -i "$W/many.tar"
	POD_IMAGE=localhost/many
	same_pod --network none -- sh -c 'cd /layers; ls -ln | cut -c1-24; cat same $(ls | sort -n | head -n 3); ls | wc -l; rm -r /layers && ls -d /layers; mkdir /layers; ls -A /layers'
	has "$output" '^of 127$'
	must podman rmi -f "$POD_IMAGE"
}

# install_userns: where ann, made for the test, finds it.
install_userns() {
	useradd -M -l -s /bin/bash ann
	install -d -m 0755 /run/hooks
	install_utility /run/hooks/userns
}

as_ann() { setpriv --reuid ann --regid ann --init-groups -- "$@"; }

@test "podman: under the flag owned its user enters the container, and Podman's commands work as before" {
	install_userns
	snapshot >"$W/.before"
	book "dockroot:$START:$COUNT:" "ann:$TWO:$COUNT:owned"
	config 'default-owner = "ann"'
	limitless "$W/limitless"
	pod_up "$W/limitless"
	local id
	id=$(pod_of "$CT" .Id)
	is "$(id -u ann)" "$("$UR_HELPERS/nsowner" "$init")" owner
	# Podman has made the network on the host's account.
	try as_ann /run/hooks/userns enter "$id" true
	is 1 "$status"
	has "$errput" 'its net namespace belongs to another user namespace.*leave it out: --without net'
	must as_ann /run/hooks/userns enter --without net "${id:0:12}" sh -c 'id -u; readlink /proc/self/ns/mnt; echo of-ann >/made'
	is "0 $(readlink "/proc/$init/ns/mnt")" "$(paste -sd' ' <<<"$output")"
	must podman exec "$CT" cat /made
	is of-ann "$output"
	must podman cp "$CT:/made" "$W/made"
	is of-ann "$(<"$W/made")"
	must podman diff "$CT"
	has "$output" '^A /made$'
	must podman restart -t 0 "$CT"
	must as_ann /run/hooks/userns enter --without net "$id" cat /made
	must podman stop -t 0 "$CT"
	try as_ann /run/hooks/userns enter "$id" true
	is 1 "$status"
	pod_down
	is "" "$(find /run/userns-runtime/owned -type f)" "what ann may know"
	userdel ann
}

@test "podman: --pidfile where BuildKit has its bundles makes no layer a cache" {
	local d=$W/docker
	mkdir -p "$d/overlay2/other/diff" "$d/buildkit/executor/x"
	must pod_run ours --rm --pidfile "$d/buildkit/executor/x/pid" -v "$d/overlay2/other/diff:/other" -- sh -c 'touch /other/x 2>/dev/null && echo wrote; true'
	is "" "$output"
	rm -r "$d"
}

@test "podman: --pidfile, and the files that Podman puts in" {
	same_pod --pidfile "$W/pid" -- sh -c 'stat -c "%n %u" /etc/hosts /etc/resolv.conf /etc/hostname /run/.containerenv /dev/shm; echo "10.0.0.1 more" >>/etc/hosts; tail -n 1 /etc/hosts'
	rm -f "$W/pid"
}

@test "podman: nothing is left" {
	podman rmi -a -f >/dev/null
	podman_end
	remove_cgroups
	snapshot >"$W/.before"
	diff <(machine "$BATS_FILE_TMPDIR/.first") <(machine "$W/.before")
}

# machine FILE: a snapshot without its processes: around setup_file bats has others.
machine() { sed '/^# processes$/,/^# interfaces$/d' "$1"; }
