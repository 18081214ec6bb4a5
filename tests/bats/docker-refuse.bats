#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# Whose a container is under dockerd, what of the host it may change, and what is
# refused or can't work, with the reason in docker's own error.

load helpers
load engines
load docker

setup_file() { docker_file busybox; }
teardown_file() { docker_down; }

setup() {
	docker_setup || return
	# A directory that every user can walk to, on the filesystem of dockerd's own.
	OPEN=/tmp/$UR_TAG-open
	rm -rf "$OPEN"
	mkdir "$OPEN"
	chmod 0755 "$OPEN"
	# Two users of the host, with a grant each; /etc is the sandbox's.
	id alice >/dev/null 2>&1 || useradd -M -u 33001 alice
	id bob >/dev/null 2>&1 || useradd -M -u 33002 bob
	mkdir -m 0755 "$OPEN/alice" "$OPEN/bob"
	chown alice:alice "$OPEN/alice"
	chown bob:bob "$OPEN/bob"
	book "dockroot:$START:$COUNT:" "alice:$((START + COUNT)):$COUNT:" "bob:$((START + 2 * COUNT)):$COUNT:"
}

teardown() {
	local ok=0
	docker_teardown || ok=1
	rm -rf "$OPEN"
	return "$ok"
}

# docker_refused PATTERN ARGS...: docker run under ours fails with the whole text
# of the refusal, as it is in the audit; the container hasn't run.
docker_refused() {
	local pattern=$1
	shift
	try docker run --name refused "$@"
	is 125 "$status" status
	is "" "$(grep -v '^[0-9a-f]\{64\}$' <<<"$output")" output
	has "$errput" "$pattern"
	audited '.decision == "refused"'
	local why
	why=$(tail -n 1 "$AUDIT" | jq -r '.error | gsub("\n"; "; ")')
	[[ $errput == *"$why"* ]] || is "$why" "$errput" "the whole reason"
	is "created" "$(docker inspect -f '{{.State.Status}}' refused)"
	[[ $(docker inspect -f '{{.State.Error}}' refused) == *"$why"* ]]
	docker rm refused >/dev/null
}

# in_range NAME OWNER'S-NUMBER: the container has the range of that line.
in_range() { maps_are "0:$((START + $2 * COUNT)):$COUNT" "$(pid_of "$1")"; }

# a_setuid_program RUNTIME ARGS...: a container whose root leaves a setuid program
# at /v/id; what UID a user of the host gets by it at FILE is in euid.
a_setuid_program() {
	local file=$1 runtime=$2
	shift 2
	try docker run --rm --runtime "$runtime" -v /usr/bin/id:/id:ro "$@" busybox sh -c 'cp /id /v/id; chown 0:0 /v/id; chmod 4755 /v/id; ls -ln /v'
	# By a shell, since setpriv itself still has all rights when it looks for a program.
	euid=$(setpriv --reuid bob --regid bob --clear-groups sh -c "$file -u" 2>&1) || true
	ls -ln "$file" 2>&1 || true
}

@test "docker refuse: the owner, by runtimeArgs and by default" {
	docker run -d --name default --runtime ours busybox sleep 1000
	docker run -d --name alices --runtime alice busybox sleep 1000
	docker run -d --name bobs --runtime bob busybox sleep 1000
	in_range default 0
	in_range alices 1
	in_range bobs 2
	# One image for all of them, and no file changed owner by it.
	local name
	for name in default alices bobs; do
		is 0:0 "$(docker exec "$name" stat -c %u:%g /bin/busybox)"
		must docker exec "$name" sh -c 'touch /f; chown 1000 /f'
		is 1000:0 "$(stat -c %u:%g "$(upper "$name")/f")"
		must docker restart -t 0 "$name"
	done
	in_range alices 1
	config 'default-owner = "bob"'
	docker rm -f bobs >/dev/null
	docker run -d --name other --runtime ours busybox sleep 1000
	in_range other 2
}

@test "docker refuse: the owner, by a rule on dockerd's state" {
	# runc's --root, which containerd gives for Docker's namespace.
	local root
	root=$(docker run --rm --runtime ours busybox true && tail -n 1 "$AUDIT" | jq -r .root)
	has "$root" '^/run/docker'
	printf '[[rule]]\nroot = "%s"\nowner = "bob"\n' "$root" >>"$CONF"
	docker run -d --name ruled --runtime ours busybox sleep 1000
	in_range ruled 2
	# runtimeArgs are stronger.
	docker run -d --name alices --runtime alice busybox sleep 1000
	in_range alices 1
}

@test "docker refuse: nobody's container" {
	docker_refused 'stranger: no line of the book' --runtime stranger busybox true
	docker_refused 'stranger: no line of the book' --runtime stranger -d busybox true
	config 'default-owner = ""'
	docker_refused 'owner' --runtime ours busybox true
	config
	book "dockroot:$START:$COUNT:" "alice:$START:$COUNT:"
	docker_refused 'usernamespaces:[12]' --runtime ours busybox true
	echo 'a line that is none' >"$BOOK"
	docker_refused 'usernamespaces:1' --runtime ours busybox true
	book "dockroot:$START:$COUNT:"
	echo 'nonsense = 1' >>"$CONF"
	# Without a configuration there is no audit, but a reason.
	try docker run --rm --runtime ours busybox true
	is 125 "$status"
	has "$errput" "$CONF:[0-9]+: .*nonsense"
}

@test "docker refuse: flags that this build has not got" {
	book "dockroot:$START:$COUNT:deny-host-ns"
	docker_refused 'usernamespaces:1' --runtime ours --network host busybox true
	docker_refused 'usernamespaces:1' --runtime ours --uts host busybox true
}

@test "docker refuse: namespaces of a container of somebody else" {
	local kind
	docker run -d --name plains --runtime plain --ipc shareable busybox sleep 1000
	docker run -d --name ours --runtime ours --ipc shareable busybox sleep 1000
	for kind in ipc pid; do
		docker_refused "$kind: .*the host's user namespace" --runtime ours "--$kind" container:plains busybox true
	done
	for kind in network ipc pid; do
		docker_refused 'belongs to dockroot' --runtime alice "--$kind" container:ours busybox true
	done
	# Those that are of two owners can't be had at once.
	docker run -d --name alices --runtime alice --ipc shareable busybox sleep 1000
	docker_refused 'in one only' --runtime ours --network container:ours --ipc container:alices busybox true
	is_state ours running
	is_state alices running
	is_state plains running
}

@test "docker refuse: flags of the grant hold under Docker" {
	book "dockroot:$START:$COUNT:no-new-privs"
	docker run -d --name flagged --runtime ours busybox sleep 1000
	must docker exec flagged grep NoNewPrivs /proc/1/status
	has "$output" '1$'
	must docker exec flagged grep NoNewPrivs /proc/self/status
	has "$output" '1$'
	must docker exec --privileged flagged grep NoNewPrivs /proc/self/status
	has "$output" '1$'
	docker rm -f flagged >/dev/null
	book "dockroot:$START:$COUNT:deny-setgroups"
	must docker run --rm --runtime ours busybox cat /proc/self/setgroups
	is deny "$output"
}

@test "docker refuse: a user that the range hasn't got" {
	docker_refused '70000 .*\[0-65536\)' --runtime ours --user 70000 busybox true
	docker_refused '70001 .*\[0-65536\)' --runtime ours --user 0:70001 busybox true
	docker_refused '70002 .*\[0-65536\)' --runtime ours --group-add 70002 busybox true
	book "dockroot:$START:100:size=100"
	docker_refused '1000 .*\[0-100\)' --runtime ours --user user busybox true
	must docker run --rm --runtime ours --user 99 busybox id -u
	is 99 "$output"
}

@test "docker refuse: a user that the range hasn't got, by exec" {
	docker run -d --name ours --runtime ours busybox sleep 1000
	try docker exec -u 70000 ours id
	is 126 "$status"
	has "$output$errput" '70000.*\[0-65536\)'
	must docker exec -u 65535 ours id -u
}

@test "docker refuse: the owner's own directory is theirs" {
	echo from alice >"$OPEN/alice/file"
	mkdir "$OPEN/alice/sub"
	chown -R alice:alice "$OPEN/alice"
	chmod 0600 "$OPEN/alice/file"
	try docker run --rm --runtime alice -v "$OPEN/alice:/work" busybox sh -c 'cat /work/file && echo from inside >/work/new && mkdir /work/dir && stat -c "%n %u:%g" /work /work/* && chown 1000:1000 /work/dir'
	is 0 "$status"
	has "$output" 'from alice'
	has "$output" '/work/new 0:0'
	is "33001:33001" "$(stat -c %u:%g "$OPEN/alice/new")" "what root inside made"
	# Others inside are the range's own.
	is "$((START + COUNT + 1000))" "$(stat -c %u "$OPEN/alice/dir")"
	# It is alice who may change it outside, as her own.
	setpriv --reuid alice --regid alice --clear-groups sh -c "echo more >>$OPEN/alice/new && rm $OPEN/alice/new"
	# Something below it, and a single file.
	must docker run --rm --runtime alice -v "$OPEN/alice/sub:/work" -v "$OPEN/alice/file:/f" busybox sh -c 'touch /work/x; echo y >>/f'
	is "33001 33001" "$(stat -c %u "$OPEN/alice/sub/x" "$OPEN/alice/file" | paste -sd' ')"
	# Read-only is for good.
	try docker run --rm --runtime alice -v "$OPEN/alice:/work:ro" --cap-add SYS_ADMIN --security-opt seccomp=unconfined busybox \
		sh -c 'mount -o remount,bind,rw /work; touch /work/written'
	is 1 "$status"
	[[ ! -e $OPEN/alice/written ]]
	# A setuid program that root inside leaves there is alice's.
	a_setuid_program "$OPEN/alice/id" alice -v "$OPEN/alice:/v"
	is 33001 "$euid" "the UID that bob gets by it"
}

@test "docker refuse: nobody else's directory is" {
	local dir runtime
	echo secret >"$OPEN/bob/file"
	chmod 0600 "$OPEN/bob/file"
	chown bob:bob "$OPEN/bob/file"
	mkdir -m 0755 "$OPEN/root"
	ln -s "$OPEN/bob" "$OPEN/alice/link"
	chown -h alice:alice "$OPEN/alice/link"
	# alice's container with bob's directory, and root's; by alice's own symlink; and
	# a container of nobody's account with alice's.
	for runtime in "alice $OPEN/bob" "alice $OPEN/root" "alice $OPEN/alice/link" "ours $OPEN/alice" "bob $OPEN/alice" "alice $OPEN"; do
		dir=${runtime#* } runtime=${runtime% *}
		listing "$OPEN" >"$W/before"
		try docker run --rm --runtime "$runtime" -v "$dir:/work" busybox sh -c 'stat -c %u:%g /work; cat /work/file; touch /work/x; chown 0 /work; chmod 0777 /work; mkdir /work/d; rm -r /work/*'
		is 65534:65534 "$(head -n 1 <<<"$output")" "the owner of $dir, seen by root inside of $runtime's"
		[[ $output != *secret* ]]
		is "$(<"$W/before")" "$(listing "$OPEN")" "all files, as before"
	done
}

@test "docker refuse: a grandchild of another user in the owner's directory" {
	# The bind is alice's; what lies in it isn't.
	mkdir "$OPEN/alice/bobs" "$OPEN/alice/roots"
	echo secret >"$OPEN/alice/bobs/file"
	chown -R bob:bob "$OPEN/alice/bobs"
	chmod 0700 "$OPEN/alice/bobs" "$OPEN/alice/roots"
	try docker run --rm --runtime alice -v "$OPEN/alice:/work" busybox sh -c 'stat -c %u:%g /work /work/bobs /work/roots; cat /work/bobs/file; touch /work/roots/x'
	is $'0:0\n65534:65534\n65534:65534' "$output"
	is "" "$(ls "$OPEN/alice/roots")"
}

@test "docker refuse: root inside leaves no setuid-root program on the host" {
	local v
	# By plain runc it does: the test means something.
	mkdir -m 0777 "$OPEN/v"
	docker volume create -o type=none -o o=bind -o device="$OPEN/v" bound >/dev/null
	a_setuid_program "$OPEN/v/id" plain -v bound:/v
	is 0 "$euid" "the UID that bob gets by plain runc's"
	rm "$OPEN/v/id"
	a_setuid_program "$OPEN/v/id" ours -v bound:/v
	[[ $euid != 0 ]]
	is "$START" "$euid" "the UID that bob gets: nobody's"
	rm "$OPEN/v/id"
	# A directory of root's, into which root inside can't write.
	chmod 0755 "$OPEN/v"
	a_setuid_program "$OPEN/v/id" ours -v bound:/v
	[[ ! -e $OPEN/v/id ]]
	a_setuid_program "$OPEN/v/id" ours -v "$OPEN/v:/v"
	[[ ! -e $OPEN/v/id ]]
	docker volume rm bound >/dev/null
	# A volume of Docker's own is below a directory that bob can't enter.
	a_setuid_program "$D/data/volumes/own/_data/id" ours -v own:/v
	is 0:4755 "$(stat -c %u:%a "$(volume own)/id")"
	has "$euid" 'Permission denied'
	docker volume rm own >/dev/null
	# Unless it is also somewhere else.
	docker volume create own >/dev/null
	mount --bind "$(volume own)" "$OPEN/v"
	a_setuid_program "$OPEN/v/id" ours -v own:/v
	[[ $euid != 0 ]]
	umount "$OPEN/v"
	docker volume rm own >/dev/null
	# One that shows a directory of the host that only root can enter isn't Docker's.
	mkdir -m 0700 "$W/private"
	docker volume create -o type=none -o o=bind -o device="$W/private" private >/dev/null
	a_setuid_program "$W/private/id" ours -v private:/v
	is "" "$(ls "$W/private")"
	docker volume rm private >/dev/null
}

@test "docker refuse: a volume that is an overlay" {
	mkdir "$W/lower" "$W/upper" "$W/work"
	echo secret >"$W/lower/file"
	chmod 0600 "$W/lower/file"
	docker volume create -o type=overlay -o device=overlay -o "o=lowerdir=$W/lower,upperdir=$W/upper,workdir=$W/work" stacked >/dev/null
	must docker run --rm --runtime plain -v stacked:/v busybox cat /v/file
	is secret "$output"
	try docker run --rm --runtime ours -v stacked:/v busybox sh -c 'cat /v/file; touch /v/x; rm /v/file; stat -c %u:%g /v/file'
	# Nobody there, or refused: never root.
	[[ $output != *secret* ]]
	is "" "$(ls "$W/upper")"
	docker volume rm stacked >/dev/null
}

@test "docker refuse: the host's root, and dockerd's own" {
	listing "$D/data/volumes" >"$W/before"
	# Under plain runc root inside has all of it.
	must docker run --rm --runtime plain -v /:/host:ro -v "$D/data:/data:ro" busybox sh -c 'cat /host/etc/shadow | wc -l; ls /data/overlay2 | wc -l'
	try docker run --rm --runtime ours -v /:/host -v "$D/data:/data" busybox sh -c 'cat /host/etc/shadow; ls /data; touch /host/x /data/x /host/etc/x; cat /host/root/.bashrc; stat -c %u /host/etc/passwd'
	is 65534 "$output"
	is 6 "$(grep -ciE "permission denied|can't open" <<<"$errput")" "refusals of the kernel's"
	is "$(<"$W/before")" "$(listing "$D/data/volumes")"
	# Its socket is a way around all of this.
	try docker run --rm --runtime ours -v /run/docker.sock:/s busybox sh -c 'printf "GET /version HTTP/1.0\r\n\r\n" | nc local:/s'
	[[ $output != *ApiVersion* ]]
	try docker run --rm --runtime ours -v "$D/data/volumes:/volumes" busybox ls /volumes
	is 1 "$status"
}

@test "docker refuse: an image of 125 layers" {
	python3 - "$W/image.tar" <<-'PYTHON'
		import hashlib, io, json, sys, tarfile
		def tar(members):
		    b = io.BytesIO()
		    with tarfile.open(fileobj=b, mode="w", format=tarfile.PAX_FORMAT) as t:
		        for name, data, uid in members:
		            i = tarfile.TarInfo(name); i.size = len(data); i.uid = uid; i.mode = 0o755
		            t.addfile(i, io.BytesIO(data))
		    return b.getvalue()
		layers = [tar([("bin/sh", open("/bin/busybox", "rb").read(), 0), ("same", b"0", 0)])]
		layers += [tar([("d/%d" % n, b"x", n), ("same", b"%d" % n, n)]) for n in range(1, 125)]
		config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]}, "rootfs": {
		    "type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(l).hexdigest() for l in layers]}}).encode()
		with tarfile.open(sys.argv[1], "w") as t:
		    def add(name, data):
		        i = tarfile.TarInfo(name); i.size = len(data); t.addfile(i, io.BytesIO(data))
		    for n, l in enumerate(layers): add("%d.tar" % n, l)
		    add("config.json", config)
		    add("manifest.json", json.dumps([{"Config": "config.json", "RepoTags": ["tall:latest"], "Layers": ["%d.tar" % n for n in range(125)]}]).encode())
	PYTHON
	docker load -q <"$W/image.tar"
	is 125 "$(docker inspect -f '{{len .RootFS.Layers}}' tall)"
	both -i tall /bin/sh -c 'read x'
	in_both /bin/sh -c 'cd /d; for f in $(echo *); do [ -O $f ] && echo own $f; done; read x </same; echo $x; echo new >/d/1; echo x >/d/new; set -- *; echo $#'
	has "$output" '^124$'
	did kill NAME
	same_upper
}

@test "docker refuse: the vfs driver, until rootfs-dirs names its directory" {
	(
		mkdir "$BATS_FILE_TMPDIR/vfs"
		docker_up vfs '."storage-driver" = "vfs" | .bridge = "docker0" | .iptables = false'
		docker import "$(engine_image busybox)" busybox >/dev/null
		docker_refused "/vfs/dir/.*rootfs-dirs" --runtime ours busybox true
		config "rootfs-dirs = [\"$D/data/vfs/dir\"]"
		both busybox sleep 1000
		in_both sh -c 'touch /f; chown 1000:1000 /f; rm /etc/group; stat -c "%n %u:%g" /f /bin /etc/passwd'
		local dir
		dir=$(docker inspect -f '{{.GraphDriver.Data}}' ours)
		dir=$(find "$D/data/vfs/dir" -mindepth 2 -maxdepth 2 -name f | head -n 1)
		is 1000:1000 "$(stat -c %u:%g "$dir")"
		unshifted "$D/data/vfs/dir"
		did restart -t 0 NAME
		in_both cat /etc/passwd
		same_diff
		docker rm -f plain ours
		docker_down vfs
		rm -rf "$D"
	)
}
