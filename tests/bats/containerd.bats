#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# Unmodified images under containerd: the same `ctr run` with runc and with ours.

load helpers
load engines
load containerd

setup_file() {
	W=$BATS_FILE_TMPDIR
	needs containerd ctr || return 0
	snapshot >"$W/.first"
	containerd_file
}

teardown_file() { [[ ! -f $BATS_FILE_TMPDIR/containerd.pids ]] || end containerd; }

snapshot() { tagged_snapshot; }

setup() {
	engine_setup
	containerd_words
}

teardown() {
	[[ -n ${BATS_TEST_COMPLETED:-} ]] || containerd_clean
	helpers_teardown
}

# shellcheck disable=SC2153 # of helpers.bash
TWO=$((START + 2 * COUNT))

@test "containerd: run gives what it gives with runc" {
	same_ctr -- sh -c 'echo out; echo err >&2; exit 3'
	is "3 out err" "$status $output $errput"
	same_ctr -- sh -c 'id; pwd; env | sort; hostname; umask; cat /proc/self/status | grep -E "^(Cap|NoNewPrivs|Seccomp)"'
	same_ctr --env A=b --env EMPTY= --cwd /tmp -- sh -c 'env | sort; pwd'
	same_ctr -- ls -lnR /etc /home /root /tmp /var
	# In a user namespace runc binds the device nodes, which it can't make.
	same_ctr -- sh -c 'ls -lR /dev | cut -c1-10; ls -R /dev; for f in null zero full random urandom tty; do test -r /dev/$f && test -w /dev/$f; echo $?; done'
	same_ctr --cap-add CAP_SYS_TIME --cap-drop CAP_CHOWN --seccomp --allow-new-privs -- sh -c 'grep -E "^(Cap|NoNewPrivs|Seccomp)" /proc/self/status; touch /tmp/x; chown 5:5 /tmp/x; echo $?'
	same_ctr --memory-limit 67108864 --cpu-shares 100 --pid-file "$W/pid" -- true
	same_ctr -- cat /proc/self/cgroup
}

@test "containerd: root inside is nobody on the host, and its own inside" {
	told '[0-9]$' ours --rm -- cat /proc/self/uid_map /proc/self/gid_map
	is "0 $START $COUNT" "$(awk '{$1 = $1; print}' <<<"$output" | uniq)"
	audited '.decision == "granted" and .owner == "dockroot"'
	ctr_up ours
	maps_are "0:$START:$COUNT" "$init"
	is "$START" "$(stat -c %u "/proc/$init")"
	ctr_down
}

# of_user USER: from here on CTR_IMAGE is one that runs as that user, which is for
# the image to say.
of_user() {
	oci_image "$(engine_image busybox)" "$W/user.tar" "user:$1" 0 "$1"
	"${CTR[@]}" image import "$W/user.tar" >/dev/null
	rm "$W/user.tar"
	CTR_IMAGE=user:$1
}

@test "containerd: users of the image, by number and by name" {
	local user
	for user in 1000-2000 1000 user 65534; do
		of_user "$user"
		same_ctr -- sh -c 'id; touch /tmp/x; ls -ln /tmp/x | cut -c1-24; grep ^Groups /proc/self/status; cat /root/x; echo x >/home/user/x; echo $?'
	done
	of_user nosuchuser
	try ctr_run ours --rm -- id
	is 1 "$status"
	has "$errput" 'no users found'
}

@test "containerd: standard output and input, reopened by their names" {
	local user
	for user in 0 1000; do
		of_user "$user"
		same_ctr -- sh -c 'echo hi >/dev/stdout; echo ho >/dev/stderr; echo he >/proc/self/fd/1; ls -lnL /proc/self/fd/1 | cut -c1-10'
		is hi "$(head -n 1 <<<"$output")"
	done
	head -c 100000 /dev/urandom | base64 >"$W/in"
	STDIN=$W/in
	# By length: ctr is known to lose the end of a file.
	same_ctr -- sh -c "head -c $(stat -c %s "$W/in") | md5sum"
	same_ctr -- sh -c "head -c $(stat -c %s "$W/in") /dev/stdin | md5sum"
}

@test "containerd: read-only root filesystem" {
	same_ctr --read-only -- sh -c 'touch /x; echo $?; mount -o remount,rw /; touch /x; echo $?; touch /dev/shm/x; echo $?'
}

@test "containerd: mounts of the container's own" {
	same_ctr --mount type=tmpfs,src=tmpfs,dst=/t,options=size=1m:mode=1777 -- sh -c 'touch /t/x; ls -ln /t | cut -c1-40; grep -o " /t tmpfs .*size=[^, ]*" /proc/mounts'
	# runc masks a file by the /dev/null of the container, which is the host's here.
	same_ctr -- sh -c "cut -d' ' -f2,3 /proc/mounts | grep -vE '^/dev/(null|zero|full|tty|random|urandom|console) ' | sed 's/ devtmpfs$/ tmpfs/'"
}

@test "containerd: host paths, bound in every way" {
	local mounts=() way touch runtime
	mkdir -p "$W/dir/sub" "$W/over"
	echo file >"$W/file"
	echo below >"$W/dir/sub/x"
	chmod -R a+rX "$W"
	mkfifo -m 0644 "$W/fifo"
	mount -t tmpfs tmpfs "$W/dir/sub"
	echo mounted >"$W/dir/sub/y"
	for way in dir:rbind:rw dir:rbind:ro dir:bind:ro dir:rbind:rw:rslave dir:rbind:ro:nosuid:nodev:noexec file:bind:ro file:bind:rw fifo:bind; do
		# Root inside may do there what anybody may: with runc it is the host's.
		touch=true
		[[ $way != *:ro* ]] || touch='touch /m/x /m; echo $?'
		mounts=(--mount "type=bind,src=$W/${way%%:*},dst=/m,options=${way#*:}")
		same_ctr "${mounts[@]}" -- sh -c 'find /m | sort; ls -l /m | cut -c1-10; test -p /m || cat /m /m/sub/* 2>&1; grep " /m" /proc/mounts | cut -d" " -f2,3; mount -o remount,rw /m; mount -t tmpfs tmpfs /m; '"$touch"
		told '^[0-9]+$' ours --rm "${mounts[@]}" -- sh -c 'touch /m/new 2>/dev/null || touch /m 2>/dev/null; echo $?; stat -c %u /m'
		is "1 65534" "${output//$'\n'/ }" "a write, and the owner seen: $way"
	done
	umount "$W/dir/sub"
	is "file" "$(<"$W/file")"
	same_ctr --mount "type=bind,src=/dev/null,dst=/m,options=bind" -- sh -c 'echo x >/m; echo $?; ls -l /m | cut -c1'
	for runtime in plain ours; do
		try ctr_run "$runtime" --rm --mount "type=bind,src=$W/nowhere,dst=/m,options=bind" -- true
		is 1 "$status"
		has "$errput" "open $W/nowhere: no such file or directory"
	done
}

@test "containerd: a host path that anybody may write is written by a range's ID" {
	mkdir -m 1777 "$W/open"
	chmod 0711 "$W"
	told '^[0-9]+$' ours --rm --mount "type=bind,src=$W/open,dst=/m,options=rbind:rw" -- sh -c 'echo x >/m/x; ls -n /m/x | cut -d" " -f5'
	is "$START:$START" "$(stat -c %u:%g "$W/open/x")"
	audited '.changes | length > 0'
}

@test "containerd: the host's network" {
	same_ctr --net-host -- sh -c 'ls /sys/class/net /sys/fs/cgroup; cat /sys/class/net/lo/mtu /proc/net/dev | sed "s/ *[0-9].*//"; cat /proc/sys/net/ipv4/ip_forward; readlink /proc/self/ns/net'
	is "$(readlink /proc/self/ns/net)" "$(tail -n 1 <<<"$output")"
	same_ctr --net-host -- sh -c 'mount -o remount,rw /sys; echo 1 >/sys/class/net/lo/mtu; echo $?'
	same_ctr --net-host -- cat /etc/hosts /etc/resolv.conf
}

@test "containerd: a detached task: exec, ps, metrics, pause, kill, rm" {
	local runtime want='' got
	for runtime in plain ours; do
		ctr_up "$runtime"
		got=
		for command in 'id; pwd; env | sort; cat /proc/self/cgroup' 'echo out; echo err >&2; exit 7' 'echo x >/dev/stdout' 'touch /made; ls -ln /made | cut -c1-40' 'grep -E "^(Cap|NoNew|Groups)" /proc/self/status'; do
			try "${CTR[@]}" task exec --exec-id "e$RANDOM" "$CT" sh -c "$command"
			got+="$status $output $errput"$'\n'
		done
		try "${CTR[@]}" task exec --exec-id u --user 1000:1000 --cwd /tmp "$CT" sh -c 'id; pwd; echo x >/dev/stderr'
		got+="$status $output $errput"$'\n'
		must "${CTR[@]}" task exec --exec-id d -d "$CT" sleep 1001
		got+="$("${CTR[@]}" task ps "$CT" | wc -l) processes"$'\n'
		must "${CTR[@]}" task metrics --format json "$CT"
		got+="$(jq -c '[paths(type == "number") | map(tostring) | join(".")] | length > 5' <<<"$output")"$'\n'
		must "${CTR[@]}" task pause "$CT"
		got+="$(task_status)"$'\n'
		must "${CTR[@]}" task resume "$CT"
		got+="$(task_status)"$'\n'
		must "${CTR[@]}" task kill -s KILL "$CT"
		patiently is_task STOPPED
		try "${CTR[@]}" task rm "$CT"
		got+="rm: $status ${errput#*level=}"$'\n'
		must "${CTR[@]}" container rm "$CT"
		is "${want:=$got}" "$got" "runc's first"
	done
}

@test "containerd: a terminal, of run and of exec" {
	local runtime want='' got
	for runtime in plain ours; do
		on_terminal "${CTR[@]}" run --rm -t --runc-binary "$(binary "$runtime")" "$CTR_IMAGE" "$CT" sh -c 'tty; test -t 0 && test -t 2; echo $?; echo x >/dev/tty; exit 5'
		got="$status $output"$'\n'
		ctr_up "$runtime"
		on_terminal "${CTR[@]}" task exec --exec-id t -t "$CT" sh -c 'tty; id -u; echo x >/dev/tty; echo y >/dev/stdout; exit 6'
		got+="$status $output"$'\n'
		on_terminal "${CTR[@]}" task exec --exec-id u -t --user 1000 "$CT" sh -c 'tty; id -u; echo x >/dev/tty; echo y >/dev/stdout'
		got+="$status $output"$'\n'
		ctr_down
		# ctr says so of a process that ends while it starts.
		got=$(sed -E '/resize pty/d; s/\r//; s,(pts/)[0-9]+,\1N,' <<<"$got")
		is "${want:=$got}" "$got" "runc's first"
	done
	has "$got" /dev/pts/
}

@test "containerd: a container's task, started again and again" {
	local runtime want='' got i
	for runtime in plain ours; do
		must ctr_run "$runtime" -d --log-uri "file://$W/$runtime.log" -- sh -c 'echo $(($(cat /count 2>/dev/null || echo 0) + 1)) >/count; ls -n /count | cut -c1-20; cat /count'
		for i in 1 2 3 4 5; do
			patiently is_task STOPPED
			must "${CTR[@]}" task rm "$CT"
			must "${CTR[@]}" task start -d --log-uri "file://$W/$runtime.log" "$CT"
		done
		patiently is_task STOPPED
		is 6 "$(<"$(upper_of)/count")"
		got=$(listing "$(upper_of)")
		unshifted "$(upper_of)"
		is work "$(ls -A "$(upper_of)/../work")" "in the work directory"
		ctr_down
		is "${want:=$got}" "$got" "on disk, runc's first"
	done
}

@test "containerd: what is on disk is what runc leaves" {
	local runtime snapshotter want got
	for snapshotter in overlayfs native; do
		want=
		for runtime in plain ours; do
			must ctr_run "$runtime" -d --null-io --snapshotter "$snapshotter" -- sh -c '
				mkdir -p /a/b; echo x >/a/b/x; chown 1000:2000 /a/b/x; chmod 4755 /a/b/x; ln /a/b/x /a/y; ln -s y /a/z
				mv /home /house; rm -rf /var; mkdir /var; echo root >>/etc/passwd; chown 7 /etc; mkfifo /a/fifo; rm /bin/vi
				chgrp 65534 /etc/group; mknod /a/dev c 1 3 2>/dev/null; ls -lnR /a /house /etc /var >/a/list'
			patiently is_task STOPPED
			must "${CTR[@]}" task rm "$CT"
			local dir
			dir=$(upper_of)
			if [[ $snapshotter = native ]]; then
				dir=$("${CTR[@]}" snapshot --snapshotter native mounts /nowhere "$CT" | grep -o "$CTRD/[^ ]*" | head -n 1)
			fi
			test -f "$dir/a/list"
			# Only root of the host may make device nodes on a filesystem.
			got=$(listing "$dir" | grep -v '^a/dev ' | sed -E '/^a(\/list)? /s/ [0-9]+ [0-9a-f]{16}.*//')
			got+=$'\n'$(grep -v ' dev$' "$dir/a/list" | sed -E 's/[A-Z][a-z]+ +[0-9]+ [0-9:]+ //; s/^total .*//')
			unshifted "$dir"
			must "${CTR[@]}" container rm "$CT"
			is "${want:=$got}" "$got" "$snapshotter, runc's first"
		done
	done
}

@test "containerd: images of 128 and of 200 layers" {
	local count
	for count in 127 199; do
		oci_image "$(engine_image busybox)" "$W/many.tar" "many:$count" "$count"
		"${CTR[@]}" image import "$W/many.tar" >/dev/null
		rm "$W/many.tar"
		CTR_IMAGE=many:$count
		same_ctr -- sh -c 'cd /layers; ls -ln | sed "s/[A-Z][a-z][a-z] .*://"; cat same $(ls | sort -n | head -n 3); ls | wc -l; rm -r /layers && ls -d /layers; mkdir /layers; ls -A /layers; mv /etc /etd; ls /etd'
		has "$output" "^of $count$"
		must "${CTR[@]}" image rm "$CTR_IMAGE"
	done
}

@test "containerd: a map in the spec is judged" {
	local map script='cat /proc/self/uid_map /proc/self/gid_map; ls -n / /etc | awk "{print \$1, \$3, \$4, \$9}"; touch /x; stat -c %u:%g /x'
	for map in "0:$START:$COUNT" "0:$((START + 1000)):2000" "0:$((START + COUNT)):10"; do
		book "dockroot:$START:$COUNT:" "other:$((START + COUNT)):$COUNT:"
		# ctr has such a root filesystem made by chown.
		told '^[0-9]+:[0-9]+$' plain --rm --uidmap "$map" --gidmap "$map" -- sh -c "$script"
		local want=$output
		has "$want" " $(cut -d: -f2 <<<"$map") "
		ln -sf "$OURS" "$CTRD/bin/runc"
		if [[ $map == 0:$((START + COUNT)):* ]]; then
			try ctr_run ours --rm --uidmap "$map" --gidmap "$map" -- sh -c "$script"
		else
			told '^[0-9]+:[0-9]+$' ours --rm --uidmap "$map" --gidmap "$map" -- sh -c "$script"
		fi
		ln -sf "$RUNC" "$CTRD/bin/runc"
		audited ".askedUIDs != null"
		if [[ $map == 0:$((START + COUNT)):* ]]; then
			is 1 "$status"
			has "$errput" "$((START + COUNT))"
			has "$errput" "dockroot"
		else
			is "$want" "$output" "runc's first"
		fi
	done
}

@test "containerd: a refusal is shown whole" {
	book "somebody:$START:$COUNT:"
	try ctr_run ours --rm -- true
	is 1 "$status"
	is "" "$output"
	local want
	want=$(tail -n 1 "$AUDIT" | jq -r .error)
	has "$want" 'dockroot: no line'
	[[ $errput == *"$want"* ]] || is "$want" "$errput"
	no_task
	is "" "$(init_of "$CT")"
	# Nor may it be in the way of the next one.
	book "dockroot:$START:$COUNT:"
	must ctr_run ours --rm -- true
}

@test "containerd: refused by name: a user that the range doesn't hold" {
	of_user 70000
	must ctr_run plain --rm -- true
	try ctr_run ours --rm -- true
	is 1 "$status"
	has "$errput" '70000'
}

@test "containerd: --privileged and devices" {
	CTR_IMAGE=busybox:latest
	told '^0$' ours --rm --privileged -- sh -c 'grep CapEff /proc/self/status; mkdir /m; mount -t tmpfs t /m && echo mounted; stat -c %u /dev/kmsg /dev/null'
	has "$output" 'CapEff:.0+[1-9a-f]+f{6}$'
	is $'mounted\n65534\n0' "$(tail -n 3 <<<"$output")"
	audited '.confined | length == 2'
	local runtime want=
	for runtime in plain ours; do
		told '^/dev/null' "$runtime" --rm --device /dev/loop-control --device /dev/null -- stat -c '%n %F %a %u:%g' /dev/loop-control /dev/null
		is "${want:=$output}" "$output" "runc's first"
	done
}

@test "containerd: SIGKILL of the client leaves the task, and of the shim ends it" {
	local runtime want='' got shim
	for runtime in plain ours; do
		ctr -a "$CTR_SOCK" -n "$NS" run --runc-binary "$(binary "$runtime")" "$CTR_IMAGE" "$CT" sleep 1000 </dev/null >"$W/o" 2>&1 3>&- &
		pid=$!
		patiently is_task RUNNING
		kill -KILL "$pid"
		reap "$pid"
		got="client: $status $(task_status)"$'\n'
		try "${CTR[@]}" task exec --exec-id after "$CT" id -u
		got+="exec: $status $output"$'\n'
		init=$(init_of "$CT")
		shim=$(awk '{print $4}' "/proc/$init/stat")
		has "$(tr '\0' ' ' <"/proc/$shim/cmdline")" containerd-shim
		kill -KILL "$shim"
		patiently test ! -e "/proc/$init"
		patiently no_running
		got+="shim: $(task_status)"$'\n'
		try "${CTR[@]}" task rm -f "$CT"
		must "${CTR[@]}" container rm "$CT"
		is "${want:=$got}" "$got" "runc's first"
	done
	# Those killed were to remove these.
	rm -rf /run/containerd/fifo/* /run/containerd/s/*
}

no_running() { ! is_task RUNNING; }

@test "containerd: started anew under a running task" {
	local runtime want='' got
	for runtime in plain ours; do
		ctr_up "$runtime"
		end containerd
		containerd_start
		spare_kept
		is "$init" "$(init_of "$CT")"
		try "${CTR[@]}" task exec --exec-id e "$CT" sh -c 'id -u; echo x >/dev/stdout; touch /x; stat -c %u /x'
		got="$status $output $errput"
		unshifted "$(upper_of)"
		ctr_down
		is "${want:=$got}" "$got" "runc's first"
	done
}

@test "containerd: a command that isn't there, and a directory that isn't" {
	local runtime
	for runtime in plain ours; do
		try ctr_run "$runtime" --rm -- nosuchprogram
		is 1 "$status"
		has "$errput" 'exec: "nosuchprogram": executable file not found in \$PATH'
	done
	same_ctr --cwd /no/such -- pwd
}

@test "containerd: the owner by the program's name and by a rule for the namespace" {
	book "dockroot:$START:$COUNT:" "alice:$((START + COUNT)):$COUNT:" "bob:$TWO:$COUNT:"
	ln -s "$OURS" "$W/userns-runtime-alice"
	told '[0-9]$' "$W/userns-runtime-alice" --rm -- cat /proc/self/uid_map
	is "0 $((START + COUNT)) $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	config '[[rule]]' "root = \"/run/containerd/runc/$NS-other\"" 'owner = "bob"'
	told '[0-9]$' ours --rm -- cat /proc/self/uid_map
	is "0 $START $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	NS+=-other
	containerd_words
	told '[0-9]$' ours --rm -- cat /proc/self/uid_map
	is "0 $TWO $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	audited '.owner == "bob"'
}

@test "containerd: an annotation chooses the owner only where the configuration allows it" {
	book "dockroot:$START:$COUNT:" "alice:$((START + COUNT)):$COUNT:"
	told '[0-9]$' ours --rm --annotation io.userns-runtime.owner=alice -- cat /proc/self/uid_map
	is "0 $START $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	config 'annotations = ["owner"]'
	told '[0-9]$' ours --rm --annotation io.userns-runtime.owner=alice -- cat /proc/self/uid_map
	is "0 $((START + COUNT)) $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
}

@test "containerd: a directory as root filesystem, by --rootfs" {
	cp -a "$UR_TEMPLATE/rootfs" "$W/rootfs"
	config "rootfs-dirs = [\"$W\"]"
	must "${CTR[@]}" run --rm --runc-binary "$RUNC" --rootfs "$W/rootfs" "$CT" /bin/sh -c '/bin/ls -ln /bin /etc | /bin/cut -c1-24; /bin/touch /x; /bin/stat -c %u:%g /x /tmp; /bin/id'
	local want=$output
	must "${CTR[@]}" run --rm --runc-binary "$OURS" --rootfs "$W/rootfs" "$CT" /bin/sh -c '/bin/ls -ln /bin /etc | /bin/cut -c1-24; /bin/touch /x; /bin/stat -c %u:%g /x /tmp; /bin/id'
	is "$want" "$output" "runc's first"
	unshifted "$W/rootfs"
	config
	try "${CTR[@]}" run --rm --runc-binary "$OURS" --rootfs "$W/rootfs" "$CT" /bin/true
	is 1 "$status"
	has "$errput" rootfs-dirs
}

as_ann() { setpriv --reuid ann --regid ann --init-groups -- "$@"; }

@test "containerd: under the flag owned its user enters the container, and ctr's commands work as before" {
	useradd -M -l -s /bin/bash ann
	install -d -m 0755 /run/hooks
	install_utility /run/hooks/userns
	snapshot >"$W/.before"
	book "dockroot:$START:$COUNT:" "ann:$TWO:$COUNT:owned"
	config 'default-owner = "ann"'
	limitless "$W/limitless"
	ctr_up "$W/limitless"
	is "$(id -u ann)" "$("$UR_HELPERS/nsowner" "$init")" owner
	must as_ann /run/hooks/userns enter "$CT" sh -c 'id -u; readlink /proc/self/ns/mnt; echo of-ann >/made'
	is "0 $(readlink "/proc/$init/ns/mnt")" "$(paste -sd' ' <<<"$output")"
	must "${CTR[@]}" task exec --exec-id e "$CT" cat /made
	is of-ann "$output"
	must "${CTR[@]}" task pause "$CT"
	must "${CTR[@]}" task resume "$CT"
	must "${CTR[@]}" task kill -s KILL "$CT"
	eventually is_task STOPPED
	try as_ann /run/hooks/userns enter "$CT" true
	is 1 "$status"
	has "$errput" 'no process runs in it: start it first'
	ctr_down
	is "" "$(find /run/userns-runtime/owned -type f)" "what ann may know"
	userdel ann
}

@test "containerd: nothing is left when it has ended" {
	end containerd
	is "" "$(pgrep containerd || true)" "containerd and its shims"
	rm -rf /run/containerd
	find /sys/fs/cgroup -depth -type d -path "*$UR_TAG*" -exec rmdir {} +
	snapshot >"$W/.before"
	diff <(machine "$BATS_FILE_TMPDIR/.first") <(machine "$W/.before")
}

# machine FILE: a snapshot without its processes: around setup_file bats has others.
machine() { sed '/^# processes$/,/^# interfaces$/d' "$1"; }
