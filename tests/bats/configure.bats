#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# usernsctl configure with real engines: what they run by default afterwards, and
# that undo gives back the very bytes. What their files may be like is for the
# tests of internal/engines.

load helpers
load engines
load docker
load containerd
load podman

setup_file() {
	W=$BATS_FILE_TMPDIR
	needs /usr/sbin/dockerd /usr/bin/docker containerd ctr podman conmon iptables ip || return 0
	snapshot >"$W/.first"
	# The first, so that dockerd takes it, and not one of its own, each time that it starts.
	containerd_file
	docker_file busybox
	is_fit || return 0
	echo '{}' >"$DOCKER_CONFIG/config.json" # Podman reads it too
	podman_file
}

teardown_file() {
	[[ ! -f $BATS_FILE_TMPDIR/containerd.pids ]] || end containerd
	[[ ! -f $BATS_FILE_TMPDIR/docker.pids ]] || end docker
}

# dockerd makes its sockets anew when it starts.
snapshot() {
	tagged_snapshot >"$W/.tagged"
	grep -vE '^/run/docker/libnetwork/[0-9a-f]+.sock s' "$W/.tagged"
}

setup() {
	engine_setup
	containerd_words
	jq 'del(."default-runtime")' "$D/daemon.json" >"$W/daemon.json"
	cat "$W/daemon.json" >"$D/daemon.json"
}

teardown() {
	if [[ -z ${BATS_TEST_COMPLETED:-} && -f $BATS_FILE_TMPDIR/docker.pids ]]; then
		docker_clean >/dev/null 2>&1 || true
		containerd_clean
		podman_clean
		rm -rf /var/lib/userns-runtime/configure
	fi
	helpers_teardown || return
	is "" "$(ls -A /var/lib/userns-runtime/configure 2>/dev/null)" "states left"
}

configure() { "$CTL" configure "$@"; }

# says PATTERN ARGS...: configure succeeds, with that on standard output.
says() {
	local pattern=$1
	shift
	must configure "$@"
	has "$output" "$pattern"
}

# wont STATUS PATTERN ARGS...: configure ends so, with that on standard error, and changes nothing
# in /etc.
wont() {
	etc >"$W/etc-before"
	ends "$1" "$2" configure "${@:3}"
	etc | diff "$W/etc-before" -
}

# etc: all of /etc that configure could change, and the programs' directory.
etc() {
	find /etc/docker /etc/containerd /etc/containers /etc/crio "$D/daemon.json"* "${OURS%/*}" -printf '%p %y %m %U:%G %s %l ' -exec sh -c 'test -f "$1" && sha256sum <"$1" || echo' - {} ';' 2>/dev/null | sort
}

# docker_default NAME: dockerd has it as the default runtime.
docker_default() { [[ $(docker info -f '{{.DefaultRuntime}}') == "$1" ]]; }

# daemon_json TEXT: in /etc, of a dockerd that doesn't run.
daemon_json() {
	mkdir -p /etc/docker
	printf '%b' "$1" >/etc/docker/daemon.json
}

@test "configure docker: docker run gets the book's range, and undo gives back the bytes" {
	chmod 0640 "$D/daemon.json"
	cp -p "$D/daemon.json" "$W/was"
	must docker create --name old busybox cat /proc/self/uid_map
	kill -HUP "$(kept docker)"
	says "^\+    \"userns\": \{" docker --file "$D/daemon.json" --dry-run
	cmp "$W/was" "$D/daemon.json"
	says "^changed $D/daemon.json\$" docker --file "$D/daemon.json"
	has "$output" "^takes effect by: kill -HUP $(kept docker)\$"
	has "$errput" "^usernsctl: warning: configure: 1 container was made for another runtime, .*: $(docker inspect -f '{{.Id}}' old | cut -c 1-12)\$"
	is "$(jq -S '.runtimes.userns = {path: $path} | ."default-runtime" = "userns"' --arg path "$OURS" "$W/was")" "$(jq -S . "$D/daemon.json")" "daemon.json"
	is "640 0:0" "$(stat -c '%a %u:%g' "$D/daemon.json")"
	kill -HUP "$(kept docker)"
	patiently docker_default userns
	must docker run -d --name default busybox sleep 1000
	shifted default
	# One that was there before is by its own, so it is said.
	must docker start -a old
	is "0 0 4294967295" "$(awk '{$1 = $1; print}' <<<"$output")"
	must docker rm old
	# With a container that needs it, nothing is taken away.
	wont 1 "^usernsctl: configure: 1 container can't be stopped and removed without the runtime: end what is alive first:\$" docker --file "$D/daemon.json" --undo
	has "$errput" "^usernsctl: container [0-9a-f]{64} of /run/docker/runtime-[a-z]+/moby\$"
	# Nor where the leases were lost.
	mv /run/userns-runtime/leases /run/userns-runtime/leases-away
	wont 1 "^usernsctl: process $(docker inspect -f '{{.State.Pid}}' default) in a user namespace, whose lease was lost\$" docker --file "$D/daemon.json" --undo
	mv /run/userns-runtime/leases-away /run/userns-runtime/leases
	must docker rm -f default
	says "^already: " docker --file "$D/daemon.json"
	must docker create --name stopped busybox true
	says "^restored $D/daemon.json\$" docker --file "$D/daemon.json" --undo
	local undone=$output said=$errput
	has "$errput" "can't be started without it.*: $(docker inspect -f '{{.Id}}' stopped | cut -c 1-12)\$"
	must docker rm stopped
	cmp "$W/was" "$D/daemon.json"
	is "640 0:0" "$(stat -c '%a %u:%g' "$D/daemon.json")"
	has "$said" "process $(kept docker) \\(dockerd\\): start it anew, and let nobody reload it before"
	is "client daemon.json data log" "$(find "$D" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort | paste -sd' ')" "files beside it"
	# A reload keeps the default that isn't in the file any more, or ends dockerd.
	has "$undone" "^takes effect by: restart dockerd, process $(kept docker) \("
	end docker
	docker_again docker
	docker_default runc
}

@test "configure docker --owner: of somebody who has a line, and another time of another" {
	book "dockroot:$START:$COUNT:" "alice:$((START + COUNT)):$COUNT:"
	cp -p "$D/daemon.json" "$W/was"
	wont 1 "^usernsctl: configure: owner alicia \\(--owner\\): no line of the book grants anything, so that no container would start: did you mean alice\\?" docker --owner alicia --file "$D/daemon.json"
	has "$errput" "^usernsctl: try: usernsctl add alicia$"
	says . docker --owner alice --file "$D/daemon.json"
	kill -HUP "$(kept docker)"
	patiently docker_default userns
	must docker run --rm busybox cat /proc/self/uid_map
	is "0 $((START + COUNT)) $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	must docker run -d --name live busybox sleep 1000
	says . docker --file "$D/daemon.json"
	kill -HUP "$(kept docker)"
	sleep 1
	must docker run --rm busybox cat /proc/self/uid_map
	is "0 $START $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	# Which those that alice has don't feel.
	must docker exec live true
	must docker stop -t 0 live
	must docker start live
	must docker exec live true
	must docker rm -f live
	# A name that a shell would take for something else.
	# shellcheck disable=SC1003 # a backslash is meant
	local name='DOM\a;$(id)*'
	printf '%s:%s:%s:\n' dockroot "$START" "$COUNT" "$name" "$((START + COUNT))" "$COUNT" >"$BOOK"
	says . docker --owner "$name" --file "$D/daemon.json"
	kill -HUP "$(kept docker)"
	sleep 1
	must docker run --rm busybox cat /proc/self/uid_map
	is "0 $((START + COUNT)) $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	says . docker --undo --file "$D/daemon.json"
	cmp "$W/was" "$D/daemon.json"
}

@test "configure docker: a dockerd whose flags say otherwise is named" {
	local pid
	pid=$(kept docker)
	wont 1 "^usernsctl: configure: /etc/docker/daemon.json: no dockerd that runs reads it: process $pid \\(dockerd\\) reads $D/daemon.json: usernsctl configure docker --file " docker
	end docker
	jq 'del(.runtimes)' "$D/daemon.json" >"$W/new"
	cat "$W/new" >"$D/daemon.json"
	docker_again docker --default-runtime plain --add-runtime "plain=$RUNC"
	wont 1 "^usernsctl: configure: process $(kept docker) \\(dockerd\\): was started with --default-runtime \"plain\": with that in $D/daemon.json as well it doesn't start" docker --file "$D/daemon.json"
	# So it is.
	end docker
	jq '."default-runtime" = "runc"' "$W/new" >"$D/daemon.json"
	try timeout 20 /usr/sbin/dockerd --config-file "$D/daemon.json" --default-runtime plain
	is 1 "$status"
	has "$errput" "specified both as a flag and in the configuration file: default-runtime"
	# Other runtimes may come by flags.
	cat "$W/new" >"$D/daemon.json"
	docker_again docker --add-runtime "plain=$RUNC"
	says . docker --file "$D/daemon.json"
	end docker
	docker_again docker --add-runtime "plain=$RUNC"
	docker_default userns
	must docker run --rm busybox cat /proc/self/uid_map
	is "0 $START $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	must docker run --rm --runtime plain busybox true
	end docker
	says . docker --file "$D/daemon.json" --undo
	jq . "$W/daemon.json" >"$D/daemon.json"
	docker_again docker
}

@test "configure docker: a file of somebody's is edited or refused, and never lost" {
	end docker
	daemon_json '{\n\t"log-driver": "local",\n\t"x-unknown": [1, 2.50, "\\u00e9"],\n\t"runtimes": { "nvidia": { "path": "/n" } }\n}'
	cp /etc/docker/daemon.json "$W/was"
	says "^changed /etc/docker/daemon.json" docker
	has "$output" "^takes effect when docker is started"
	is "$(printf '{\n\t"log-driver": "local",\n\t"x-unknown": [1, 2.50, "\\u00e9"],\n\t"runtimes": { "nvidia": { "path": "/n" }, "userns": {"path": "%s"} },\n\t"default-runtime": "userns"\n}' "$OURS")" "$(cat /etc/docker/daemon.json)"
	# Another hand.
	sed -i 's/"local"/"journald\x1b[2J"/' /etc/docker/daemon.json
	wont 1 "^usernsctl: /etc/docker/daemon.json|was changed by others since" docker --undo
	has "$errput" '^usernsctl: \+	"log-driver": "journald\\x1b\[2J",'
	is "" "$(grep $'\x1b' <<<"$errput")" "escape sequences"
	cp "/var/lib/userns-runtime/configure/docker/$(jq -r .after /var/lib/userns-runtime/configure/docker/state.json)" /etc/docker/daemon.json
	says "^restored" docker --undo
	cmp "$W/was" /etc/docker/daemon.json
	daemon_json '{\n  "a": 1,\n}\n'
	wont 1 "^usernsctl: configure: /etc/docker/daemon.json:3:1: found '}': expected the name of a member" docker
	daemon_json '{"default-runtime": "nvidia"}'
	wont 1 "daemon.json:1:2: default-runtime is \"nvidia\", which somebody chose: .* docker run --runtime nvidia" docker
	rm -r /etc/docker
	says "^made /etc/docker/daemon.json" docker
	is "644 755" "$(stat -c %a /etc/docker/daemon.json /etc/docker | paste -sd' ')"
	says "^removed /etc/docker$" docker --undo
	[[ ! -e /etc/docker ]]
	docker_again docker
}

@test "configure containerd: its CRI has the runtime, with what kubelet needs of runc, and comments stay" {
	book "dockroot:$START:$COUNT:" "kubernetes:$((START + COUNT)):$COUNT:"
	cat >"$W/config.toml" <<-'TOML'
		# Kubelet's.
		version = 2
		[plugins."io.containerd.grpc.v1.cri"]
		  sandbox_image = "mine/pause:1" # pinned
		  [plugins."io.containerd.grpc.v1.cri".containerd]
		    default_runtime_name = "runc" # stock
		  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
		    runtime_type = "io.containerd.runc.v2"
		    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
		      SystemdCgroup = true
	TOML
	cp "$W/config.toml" "$W/was"
	containerd -c "$W/config.toml" config dump >"$W/dump-before"
	local args=(containerd --owner kubernetes --file "$W/config.toml")
	says "^made ${OURS}-kubernetes, a link to userns-runtime$" "${args[@]}"
	grep -q '^# Kubelet' "$W/config.toml"
	grep -q '^    default_runtime_name = "userns" # stock' "$W/config.toml"
	# As containerd reads it: a copy of runc's table but for the program, and the rest as it was.
	containerd -c "$W/config.toml" config dump >"$W/dump"
	diff "$W/dump-before" "$W/dump" >"$W/dump-diff" || true
	is "" "$(grep '^<' "$W/dump-diff" | grep -v 'default_runtime_name = "runc"')" "what has gone"
	has "$(<"$W/dump-diff")" '^> +default_runtime_name = "userns"'
	has "$(<"$W/dump-diff")" "^> +BinaryName = \"$OURS-kubernetes\""
	has "$(<"$W/dump-diff")" '^> +SystemdCgroup = true'
	# And as its CRI takes it, which says so when it starts.
	printf 'root = "%s/cri-root"\nstate = "/run/cri-state"\n[grpc]\naddress = "/run/cri.sock"\n' "$W" >"$W/import.toml"
	{
		echo "imports = [\"$W/config.toml\"]"
		sed -n 's/^version/version/p' "$W/config.toml"
		cat "$W/import.toml"
	} >"$W/main.toml"
	timeout -s KILL 10 containerd -c "$W/main.toml" >"$W/cri-log" 2>&1 3>&- || true
	has "$(<"$W/cri-log")" "Start cri plugin with config .*DefaultRuntimeName:userns "
	has "$(<"$W/cri-log")" "userns:{Type:io.containerd.runc.v2 .*BinaryName:$OURS-kubernetes .*SystemdCgroup:true"
	rm -rf /run/cri-state /run/cri.sock /run/cri.sock.ttrpc
	# ctr, which has no CRI, is told the same program.
	told '[0-9]$' "$OURS-kubernetes" --rm -- cat /proc/self/uid_map
	is "0 $((START + COUNT)) $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	says "^already" "${args[@]}"
	# Another engine that names the link too has it from then on.
	says "^made /etc/crio/crio.conf.d/50-userns-runtime.conf" crio --owner kubernetes
	says "^restored $W/config.toml" containerd --undo --file "$W/config.toml"
	cmp "$W/was" "$W/config.toml"
	is userns-runtime "$(readlink "$OURS-kubernetes")"
	says "^removed $OURS-kubernetes" crio --undo
	[[ ! -e /etc/crio && ! -L $OURS-kubernetes ]]
}

@test "configure containerd: the file whose section counts is changed, since a drop-in would take the rest away" {
	mkdir "$W/conf.d"
	printf 'version = 2\nimports = ["%s/conf.d/*.toml"]\n' "$W" >"$W/config.toml"
	printf 'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = "mine/pause:1"\n' >"$W/conf.d/10.toml"
	says "^changed $W/conf.d/10.toml" containerd --file "$W/config.toml"
	containerd -c "$W/config.toml" config dump >"$W/dump"
	has "$(<"$W/dump")" 'sandbox_image = "mine/pause:1"'
	has "$(<"$W/dump")" 'default_runtime_name = "userns"'
	says . containerd --file "$W/config.toml" --undo
	rm "$W/conf.d/10.toml"
	says "^made $W/conf.d/50-userns-runtime.toml" containerd --file "$W/config.toml"
	containerd -c "$W/config.toml" config dump >"$W/dump"
	has "$(<"$W/dump")" 'default_runtime_name = "userns"'
	has "$(<"$W/dump")" "BinaryName = \"$OURS\""
	# Its own runtime is there as before, for pods that name it.
	containerd -c <(head -n 1 "$W/config.toml") config dump >"$W/dump-before"
	diff "$W/dump-before" "$W/dump" >"$W/dump-diff" || true
	is "" "$(grep '^<' "$W/dump-diff" | grep -vE 'default_runtime_name = "runc"|^< imports|^< +(CriuImagePath|CriuPath|CriuWorkPath|IoGid|IoUid|NoNewKeyring|NoPivotRoot|Root|ShimCgroup|SystemdCgroup|BinaryName) = (""|0|false)')" "what has gone"
	says "^removed $W/conf.d/50-userns-runtime.toml" containerd --file "$W/config.toml" --undo
	printf 'root = "/x"\n' >"$W/config.toml"
	wont 1 "config.toml:1: has no version, and so is of version 1: .*: containerd --config $W/config.toml config migrate$" containerd --file "$W/config.toml"
}

@test "configure podman: podman run gets the book's range, and undo takes the drop-in away" {
	grep -vE '^(runtime|runtime_supports_json|plain|ours|alice) = |runtimes' "$CONTAINERS_CONF" >/etc/containers/containers.conf
	book "dockroot:$START:$COUNT:" "alice:$((START + COUNT)):$COUNT:"
	find /etc/containers | sort >"$W/etc"
	pod() { env -u CONTAINERS_CONF podman run --name "$CT" --cgroup-parent "/$UR_TAG" "$@" 3>&-; }
	must env -u CONTAINERS_CONF podman create --name old "$POD_IMAGE" true
	says "^made /etc/containers/containers.conf.d/50-userns-runtime.conf" podman
	has "$errput" "users' own Podman reads the file too"
	# What exists stays with what it has: the command that is named shows it.
	local shows
	shows=$(sed -n 's/.*: make them anew: \(podman .*\) shows it$/\1/p' <<<"$errput")
	must env -u CONTAINERS_CONF sh -c "$shows"
	has "$output" "^(runc|crun) old\$"
	must env -u CONTAINERS_CONF podman rm old
	must pod --rm "$POD_IMAGE" cat /proc/self/uid_map
	is "0 $START $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	# runtime_supports_json: a refusal is shown.
	try pod --rm --user 70000 "$POD_IMAGE" true
	has "$errput" "process.user.*70000"
	must pod -d "$POD_IMAGE" sleep 1000
	wont 1 "container [0-9a-f]{64} of /run/runc" podman --undo
	must env -u CONTAINERS_CONF podman rm -f -t 0 "$CT"
	says "^made $OURS-alice" podman --owner alice
	must pod --rm "$POD_IMAGE" cat /proc/self/uid_map
	is "0 $((START + COUNT)) $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	printf '[engine]\nruntime = "kata"\n' >/etc/containers/containers.conf.d/90.conf
	wont 1 "/etc/containers/containers.conf.d/90.conf:2: runtime is \"kata\", and is read after 50-userns-runtime.conf, so that it wins" podman
	rm /etc/containers/containers.conf.d/90.conf
	says "^removed $OURS-alice" podman --undo
	find /etc/containers | sort | diff "$W/etc" -
	rm /etc/containers/containers.conf
}

@test "configure: what can't be is refused before anything is done" {
	rm "$BOOK"
	wont 1 "^usernsctl: configure: .*$BOOK: " crio
	has "$errput" "^usernsctl: try: usernsctl init$"
	printf 'bad\n' >"$BOOK"
	wont 1 "$BOOK:1: " crio
	book "bob:$START:$COUNT:"
	wont 1 "owner dockroot \\(default-owner of /etc/userns-runtime/config.toml\\): no line of the book grants anything" crio
	printf '[[rule]]\nroot = "/run/userns-crio"\nowner = "bobx"\n' >>"$CONF"
	wont 1 "owner bobx \(\[\[rule\]\] of $CONF for /run/userns-crio\): no line .*: did you mean bob\?" crio
	sed -i 's/bobx/bob/' "$CONF"
	says . crio
	says . crio --undo
	config 'default-owner = ""'
	wont 1 "$CONF has no default-owner, and no \[\[rule\]\] for /run/userns-crio, so nobody would own the containers" crio
	wont 1 "$CONF has no default-owner, and no \[\[rule\]\], so nobody would own what is started by the name runc" --divert
	book "dockroot:$START:$COUNT:"
	printf 'x = 1\n' >"$CONF"
	wont 1 "$CONF:1: " crio
	printf 'runtimes = ["/nowhere"]\n' >"$CONF"
	wont 1 "low-level runtime: there is none: looked for /nowhere" crio
	config
	# The program, and the directories above it.
	cp "$CTL" "$W/usernsctl"
	chmod 0755 "$W"
	local CTL=$W/usernsctl
	wont 1 "^usernsctl: configure: $W/userns-runtime: isn't there: it has to lie beside $W/usernsctl: make install" crio
	cp "$OURS" "$W/userns-runtime"
	chmod 0644 "$W/userns-runtime"
	wont 1 "$W/userns-runtime: isn't a program" crio
	chmod 0775 "$W/userns-runtime"
	wont 1 "$W/userns-runtime: has mode 0775, so others than root could change what engines run as root: chmod go-w $W/userns-runtime" crio
	chmod 0755 "$W/userns-runtime"
	chmod 0777 "$W"
	wont 1 "$W: has mode 0777" crio
	chmod 0755 "$W"
	chown 12345 "$W/userns-runtime"
	wont 1 "$W/userns-runtime: is owned by UID 12345.*: chown root: $W/userns-runtime" crio
	chown 0 "$W/userns-runtime"
	says . crio
	# Undo needs neither the program nor the book.
	mv "$W/userns-runtime" "$W/away"
	printf 'bad\n' >"$BOOK"
	says "^removed /etc/crio$" crio --undo
	mv "$W/away" "$W/userns-runtime"
	book "dockroot:$START:$COUNT:"
	says . crio
	has "$(cat /etc/crio/crio.conf.d/50-userns-runtime.conf)" "runtime_path = \"$W/userns-runtime\""
	says . crio --undo
	rm "$W/userns-runtime"
}

@test "configure: what is misused, who may, and what isn't there" {
	wont 2 "ENGINE is missing: expected one of docker, containerd, podman, crio, newuidmap, or --divert" --undo
	wont 2 "engine \"dokcer\": unknown: did you mean docker\\?" dokcer
	wont 2 "engine \"kubernetes\": unknown: expected one of" kubernetes
	wont 2 "\"podman\": expected nothing behind ENGINE" docker podman
	wont 2 "--owner: has no meaning with --undo" crio --undo --owner x
	wont 2 "owner \"a:b\": holds ':'" crio --owner a:b
	wont 2 "owner: is empty" crio --owner ''
	wont 2 "--file: \"x\": expected an absolute path" crio --file x
	wont 2 "--file: is an engine's: expected ENGINE" --divert --file /x
	wont 2 "--owner: is an engine's: .* default-owner" --divert --owner x
	wont 2 "--cut-exec: has a meaning with --divert alone" crio --cut-exec
	wont 2 "--cut-exec: has a meaning with --divert alone" --divert --undo --cut-exec
	wont 2 "flag --dryrun: unknown: did you mean --dry-run\\?" crio --dryrun
	wont 1 "/etc/crio/crio.conf.d/50-userns-runtime.conf: nothing was written by this program, so there is nothing to undo" crio --undo
	has "$errput" "^usernsctl: try: usernsctl configure --help"
	# What a killed one has left, a copy of somebody's file, goes with it.
	mkdir -p /var/lib/userns-runtime/configure/crio
	touch /var/lib/userns-runtime/configure/crio/copy.new
	wont 1 "nothing was written by this program, so there is nothing to undo" crio --undo --dry-run
	[[ -e /var/lib/userns-runtime/configure/crio ]]
	wont 1 "nothing was written by this program, so there is nothing to undo" crio --undo
	[[ ! -e /var/lib/userns-runtime/configure/crio ]]
	wont 1 "runc: nothing was written by this program" --divert --undo
	must setpriv --reuid 65534 --regid 65534 --clear-groups sh -c '! "$@" 2>&1' - "$CTL" configure crio
	has "$output" "^usernsctl: configure: needs root: you are UID 65534$"
	has "$output" "^usernsctl: try: sudo usernsctl configure crio$"
	must configure crio --json
	is '[["mkdir","/etc/crio"],["mkdir","/etc/crio/crio.conf.d"],["create","/etc/crio/crio.conf.d/50-userns-runtime.conf"]]' "$(jq -c 'map([.action, .file])' <<<"$output")"
	must configure crio --json
	is "[]" "$output"
	must configure crio --undo --dry-run
	has "$output" "^-default_runtime = \"userns\""
	must configure crio --undo --json
	is remove "$(jq -r '.[0].action' <<<"$output")"
}

@test "configure: a read-only /etc, two at once, and a kill at any moment" {
	mkdir -p /etc/docker
	printf '{\n\t"a": 1\n}' >"$W/was"
	end docker
	cp "$W/was" /etc/docker/daemon.json
	ls -A /etc/docker >"$W/ls"
	mount --bind /etc/docker /etc/docker
	mount -o remount,bind,ro /etc/docker
	wont 1 "/etc/docker/.*: read-only file system" docker
	umount /etc/docker
	is "" "$(ls -A /var/lib/userns-runtime/configure)" "states left"
	local n pids=() pid
	for n in 1 2 3 4 5 6; do
		configure docker >"$W/out-$n" 2>&1 3>&- &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do
		wait "$pid"
	done
	is "1 5" "$(cat "$W"/out-* | grep -c ^changed) $(cat "$W"/out-* | grep -c ^already)" "how many did it, and how many found it done"
	cp /etc/docker/daemon.json "$W/done"
	pids=()
	for n in 1 2 3 4 5 6; do
		configure docker --undo >"$W/out-$n" 2>&1 3>&- &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do
		wait "$pid" || true # there was nothing left to undo
	done
	cmp "$W/was" /etc/docker/daemon.json
	is 1 "$(cat "$W"/out-* | grep -c ^restored)" "how many took it back"
	# Old or new, whenever it ends; and the next one finishes.
	for n in $(seq 1 60); do
		if ((n % 2)); then
			timeout -s KILL "0.0$((n % 20 + 10))" "$CTL" configure docker >/dev/null 2>&1 || true
		else
			timeout -s KILL "0.0$((n % 20 + 10))" "$CTL" configure docker --undo >/dev/null 2>&1 || true
		fi
		cmp -s "$W/was" /etc/docker/daemon.json || cmp "$W/done" /etc/docker/daemon.json
	done
	says . docker
	cmp "$W/done" /etc/docker/daemon.json
	says . docker --undo
	cmp "$W/was" /etc/docker/daemon.json
	is "$(<"$W/ls")" "$(ls -A /etc/docker)" "files beside it"
	rm -r /etc/docker
	docker_again docker
}
