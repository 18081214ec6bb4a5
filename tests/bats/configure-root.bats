#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# usernsctl configure docker --root: dockerd's data in a root of its own, and its containers in the ranges of
# whom that root belongs to. The roots themselves are for daemonroot.bats, the edit of daemon.json for
# configure.bats and the tests of internal/engines.

load helpers
load engines
load docker

setup_file() {
	needs /usr/sbin/dockerd /usr/bin/docker ip useradd groupadd || return 0
	engine_image busybox >/dev/null || unfit "the image busybox can't be made" || return 0
	mkdir -p "${ENGINE_CONF%/*}"
	W=
	# What a dockerd leaves of itself is there before the first test.
	daemon
	docker_down
}

setup() {
	engine_setup
	book "amelia:200000:131072:" "dockroot:$START:$((4 * COUNT)):"
	R=$W/roots # a super-root
	file=$BATS_FILE_TMPDIR/docker/daemon.json
	jq 'del(."data-root", ."default-runtime")' "$file" >"$W/daemon.json"
	cp "$W/daemon.json" "$file"
	cp -a /etc/passwd /etc/group /etc/shadow /etc/gshadow "$W/"
}

teardown() {
	local name
	docker_down
	for name in passwd group shadow gshadow; do
		cp -a "$W/$name" /etc/
		rm -f "/etc/$name-"
	done
	rm -rf /var/lib/userns-runtime/configure "$BOOK-" "${OURS%/*}"/userns-runtime-{amelia,dockroot}
	helpers_teardown
}

snapshot() {
	helpers_snapshot >"$W/.snapshot"
	grep -vE "^/run/(docker|containerd)[ /]|/$UR_TAG-[a-z]+\$" "$W/.snapshot"
}

daemon() { docker_up docker '."default-runtime" = "plain" | .bridge = "none" | .iptables = false'; }

configure() { "$CTL" configure docker --file "$file" "$@"; }

# wont STATUS PATTERN ARGS...: configure ends so, and neither the file nor the roots have changed.
wont() {
	ends "$1" "$2" configure "${@:3}"
	cmp "$W/daemon.json" "$file"
	[[ ! -e $R ]]
}

@test "configure --root: dockerd has its data in the root, and its containers the owner's ranges" {
	jq '."default-runtime" = "runc"' "$file" >"$W/daemon.json"
	cp "$W/daemon.json" "$file"
	must configure --root amelia --data "$R" --dry-run
	has "$output" "^chown 200000:200000 $R/200000.200000$"
	has "$output" "^\+ .*\"data-root\": \"$R/200000.200000/docker\""
	cmp "$W/daemon.json" "$file"
	[[ ! -e $R ]]
	must configure --root amelia --data "$R"
	has "$output" "^gave $R/200000.200000 to 200000:200000$"
	has "$output" "^changed $file$"
	is "700 200000:200000" "$(stat -c '%a %u:%g' "$R/200000.200000")"
	is "$(jq -S --arg root "$R/200000.200000/docker" --arg path "${OURS%/*}/userns-runtime-amelia" '."data-root" = $root | ."default-runtime" = "userns" | .runtimes.userns = {path: $path}' "$W/daemon.json")" \
		"$(jq -S . "$file")" "daemon.json"
	must configure --root amelia --data "$R"
	is "already: dockerd's data-root in $file is $R/200000.200000/docker" "$output"
	must configure --root amelia --data "$R" --json
	is "[]" "$output"

	docker_again
	is "$R/200000.200000/docker" "$(docker info -f '{{.DockerRootDir}}')"
	must docker import "$(engine_image busybox)" busybox
	must docker run -d --network none --name one busybox sleep 1000
	local first
	first=$(awk '{print $2}' "/proc/$(pid_of one)/uid_map")
	((first >= 200000 && first < 331072))
	# The file as it is now, for wont.
	cp "$W/daemon.json" "$W/was"
	try configure --undo
	is 1 "$status"
	has "$errput" "1 container can't be stopped and removed without the runtime"
	must docker rm -f one
	must configure --undo --dry-run
	has "$errput" "^usernsctl: warning: configure: .*can't be started without it|^$"
	must configure --undo
	cmp "$W/was" "$file"
	# A reload doesn't read data-root, whatever the default runtime is.
	has "$output" "^takes effect by: restart dockerd, process $(kept docker) \(not by a reload, which doesn't read data-root"
	# What is in the root stays, for another day.
	[[ -d $R/200000.200000/docker/overlay2 ]]
}

@test "configure --root 0:0: the data root alone, after a migration" {
	mkdir -p "$R/containers" "$R/image"
	chmod 0710 "$R"
	jq --arg r "$R" '."data-root" = $r' "$W/daemon.json" >"$file"
	cp "$file" "$W/daemon.json"
	try configure --root 0:0 --data "$R"
	is 1 "$status"
	has "$errput" "$R: has data that isn't in a root: containers, image: .*usernsctl daemon-root migrate --data $R"
	cmp "$W/daemon.json" "$file"
	must "$CTL" daemon-root migrate --data "$R"
	must configure --root 0:0 --data "$R"
	is "$(jq -S --arg r "$R/0.0/docker" '."data-root" = $r' "$W/daemon.json")" "$(jq -S . "$file")" "daemon.json"
	# From there to an owner's, and all of it back.
	must configure --root dockroot --data "$R"
	is "$R/$START.$START/docker userns" "$(jq -r '"\(."data-root") \(."default-runtime")"' "$file")"
	must configure --undo
	cmp "$W/daemon.json" "$file"
	rm -rf "$R"
}

@test "configure --root default makes the owner too" {
	book "amelia:200000:131072:"
	must configure --root default --data "$R" --dry-run --json
	local foreseen=$output
	has "$(jq -r '.[].action' <<<"$output" | paste -sd' ')" "^groupadd useradd add mkdir mkdir mkdir owner .*change$"
	run -2 getent passwd dockroot
	cmp "$W/daemon.json" "$file"
	must configure --root default --data "$R" --json
	is "$(jq -S 'map(del(.diff))' <<<"$foreseen")" "$(jq -S 'map(del(.diff))' <<<"$output")" "the steps, as foreseen"
	local first
	first=$(awk -F: '$1 == "dockroot" {print $2}' "$BOOK")
	is "$R/$first.$first/docker" "$(jq -r '."data-root"' "$file")"
	is "userns-runtime-dockroot" "$(basename "$(jq -r .runtimes.userns.path "$file")")"
	must configure --undo
	rm -rf "$R"
}

@test "configure --root: what is refused" {
	wont 2 "configure: --root: conflicts with --owner" --root amelia --owner amelia --data "$R"
	wont 2 "configure: --root: has no meaning with --undo" --root amelia --undo
	wont 2 "configure: --data: is where --root has its roots" --data "$R"
	wont 2 "configure: --data: \"roots\": expected the absolute path" --root amelia --data roots
	wont 2 "configure: --root: root \"a:b:c\": has more than one ':'" --root a:b:c --data "$R"
	wont 1 "configure: root carol: .*no line of the book grants anything" --root carol --data "$R"
	try "$CTL" configure podman --root amelia
	is 2 "$status"
	has "$errput" "configure: --root: is dockerd's: expected configure docker"
	jq '."userns-remap" = "default"' "$W/daemon.json" >"$file"
	cp "$file" "$W/daemon.json"
	wont 1 "$file:[0-9]+:[0-9]+: userns-remap: .*a mapping that --root would contradict" --root amelia --data "$R"
	jq 'del(."userns-remap") | ."data-root" = "/srv/docker"' "$W/daemon.json" >"$file"
	cp "$file" "$W/daemon.json"
	wont 1 "data-root is \"/srv/docker\", which isn't \"$R\" or a root below it" --root amelia --data "$R"
}
