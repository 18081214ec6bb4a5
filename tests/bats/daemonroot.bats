#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# A data root for each identity, with real dockerds. SIGKILL at every step, and what is refused, is for the
# tests of internal/daemonroot.

load helpers
load engines
load docker

setup_file() {
	needs /usr/sbin/dockerd /usr/bin/docker ip useradd groupadd setpriv || return 0
	engine_image busybox >/dev/null || unfit "the image busybox can't be made" || return 0
	mkdir -p "${ENGINE_CONF%/*}"
	W=
	# What a dockerd leaves of itself is there before the first test.
	daemon first "$BATS_FILE_TMPDIR/first/data" plain
	docker_down first
}

setup() {
	engine_setup
	book "alice:200000:131072:" "bob:400000:65536:" "dockroot:$START:$((4 * COUNT)):"
	R=$W/roots # a super-root
	cp -a /etc/passwd /etc/group /etc/shadow /etc/gshadow "$W/"
}

teardown() {
	local name
	for name in one two; do
		docker_down "$name"
	done
	for name in passwd group shadow gshadow; do
		cp -a "$W/$name" /etc/
		rm -f "/etc/$name-"
	done
	rm -rf /run/roots "$BOOK-"
	helpers_teardown
}

# The cgroup that dockerd's containers are below stays, as do directories that every dockerd has.
snapshot() {
	helpers_snapshot >"$W/.snapshot"
	grep -vE "^/run/(docker|containerd)[ /]|/$UR_TAG-[a-z]+\$" "$W/.snapshot"
}

# daemon NAME DATA-ROOT RUNTIME: starts a dockerd without a bridge, of which two can't share one.
daemon() {
	docker_up "$1" '."data-root" = "'"$2"'" | ."default-runtime" = "'"$3"'" | .bridge = "none" | .iptables = false' || return
}

# as NAME: talks to that dockerd from now on.
as() { export DOCKER_HOST=unix:///run/$1.sock; }

load_busybox() { must docker import "$(engine_image busybox)" busybox; }

root() { "$CTL" daemon-root "$@"; }

# fails STATUS PATTERN ARGS...
fails() { ends "$1" "$2" root "${@:3}"; }

# looks WANT PATH: its mode and owner.
looks() { is "$1" "$(stat -c '%a %u:%g' "$2")" "$2"; }

# in_range START COUNT NAME: the container's root is one of these IDs.
in_range() {
	local first
	first=$(awk '{print $2}' "/proc/$(pid_of "$3")/uid_map")
	((first >= $1 && first < $1 + $2)) || {
		echo "the root of $3 is $first, not one of $2 from $1"
		return 1
	}
}

# manifest: every name below R with its type, mode, owner, and for files size, time and content.
manifest() {
	(cd "$R" && find . ! -name .daemon-root '(' -type f -printf '%p %m %U:%G %s %T@ ' -exec sha256sum {} ';' -o -printf '%p %y %m %U:%G %l\n' ')' | sort)
}

@test "daemon-root: whose a root is, by every spelling" {
	local row spec want
	useradd --uid 3000 --user-group alice
	useradd --uid 3001 --gid nogroup bob
	groupadd --gid 3005 staff2
	for row in "alice 200000.200000" "alice:alice 200000.200000" "alice:200007 200000.200007" "bob:nogroup 400000.400000" "200000 200000.200000" \
		"200001:300000 200001.300000" "0:0 0.0" "0 0.0" "dockroot $START.$START"; do
		read -r spec want <<<"$row"
		must root prepare --root "$spec" --data "$R" --dry-run --json
		is "$R/$want" "$(jq -r '.[1].path' <<<"$output")" "$spec"
		must root prepare -r "$spec" --data "$R" --dry-run
		has "$output" "^dockerd's data-root: $R/$want/docker$"
	done
	[[ ! -e $R ]]
	fails 1 'root carol: .*carol: no line of the book grants anything: add one: usernsctl add carol' prepare --root carol --data "$R"
	fails 1 "did you mean alice" prepare --root alicf --data "$R"
	fails 1 "group staff2 isn't alice's own: expected alice, or an ID of .200000-331072." prepare --root alice:staff2 --data "$R"
	fails 1 "group 400000 isn't alice's own" prepare --root alice:400000 --data "$R"
	fails 1 "group bob isn't bob's own: expected nogroup, or an ID of" prepare --root bob:bob --data "$R"
	fails 1 "UID 5 lies in no line of the book" prepare --root 5 --data "$R"
	fails 1 "UID 3000 lies in no line of the book: .* it is the host's alice: for the lines of that owner say alice" prepare --root 3000 --data "$R"
	fails 1 "GID 400000 lies in no line of alice" prepare --root 200000:400000 --data "$R"
	fails 2 "root of the host isn't mapped" prepare --root root --data "$R"
	fails 2 "more than one ':'" prepare --root a:b:c --data "$R"
	fails 2 "flag --owner: unknown" prepare --root alice --owner bob --data "$R"
	fails 2 "--root: is missing" prepare --data "$R"
	fails 2 "expected the absolute path" prepare --root alice --data roots
	fails 2 "expected one of prepare, status, migrate, restore" mend
	[[ ! -e $R ]]
}

@test "daemon-root: default makes what is missing of dockroot" {
	local line
	book "alice:200000:131072:"
	must root prepare --root default --data "$R" --dry-run
	has "$output" "^groupadd --system dockroot$"
	has "$output" "^useradd --system --gid dockroot .* --shell /usr/sbin/nologin .*dockroot$"
	has "$output" "^usernsctl add dockroot --containers 1024$"
	nothing_made
	must root prepare --root default --data "$R" --dry-run --json
	line=$(jq -c 'map(select(.path != "/etc/usernamespaces" and .path != "dockroot"))' <<<"$output")
	must root prepare --root default --data "$R" --json
	is "$line" "$(jq -c 'map(select(.path != "/etc/usernamespaces" and .path != "dockroot"))' <<<"$output")" "the steps, as foreseen"
	is "groupadd useradd add mkdir mkdir mkdir owner" "$(jq -r '[.[].action] | join(" ")' <<<"$output")"
	is "/nonexistent:/usr/sbin/nologin" "$(getent passwd dockroot | cut -d: -f6,7)"
	(($(id -u dockroot) < 1000))
	is dockroot "$(id -gn dockroot)"
	is "" "$(grep dockroot /etc/subuid /etc/subgid)" "ranges of subuid"
	line=$(grep ^dockroot: "$BOOK")
	is 1 "$(wc -l <<<"$line")" "lines of dockroot"
	line=$(cut -d: -f2 <<<"$line")
	looks "700 $line:$line" "$R/$line.$line"
	must root prepare --root default --data "$R" --json
	is "[]" "$output"
	# Of the two, what is missing.
	userdel dockroot 2>/dev/null || true
	groupadd --system dockroot 2>/dev/null || true
	must root prepare --root default --data "$R"
	has "$output" "^did: useradd"
	is dockroot "$(id -gn dockroot)"
	usermod -g nogroup dockroot
	groupdel dockroot
	must root prepare --root default --data "$R"
	is "did: groupadd --system dockroot" "$(head -n 1 <<<"$output")"
	is nogroup "$(id -gn dockroot)" "the group that somebody gave it"
}

# nothing_made: no account, line or directory.
nothing_made() {
	! getent passwd dockroot
	! getent group dockroot
	is "" "$(grep ^dockroot "$BOOK")" "lines"
	[[ ! -e $R ]]
}

@test "daemon-root: a host process with the root of one can't get into another" {
	R=/run/roots # which everybody can reach
	must root prepare --root alice --data "$R"
	must root prepare --root bob --data "$R"
	must root prepare --root 0:0 --data "$R"
	looks "755 0:0" "$R"
	looks "700 200000:200000" "$R/200000.200000"
	looks "710 0:0" "$R/200000.200000/docker"
	looks "700 400000:400000" "$R/400000.400000"
	looks "700 0:0" "$R/0.0"
	touch "$R/400000.400000/file"
	chmod 0666 "$R/400000.400000/file"
	local alice=(setpriv --reuid 200000 --regid 200000 --clear-groups --inh-caps=-all --bounding-set=-all)
	must "${alice[@]}" ls "$R"
	must "${alice[@]}" ls "$R/200000.200000"
	local dir
	for dir in 400000.400000 0.0; do
		try "${alice[@]}" ls "$R/$dir"
		has "$errput" "Permission denied"
		try "${alice[@]}" ls "$R/$dir/docker"
		has "$errput" "Permission denied"
	done
	try "${alice[@]}" cat "$R/400000.400000/file"
	has "$errput" "Permission denied"
	try "${alice[@]}" ls "$R/200000.200000/docker"
	has "$errput" "Permission denied"
	try "${alice[@]}" mkdir "$R/x"
	has "$errput" "Permission denied"
}

@test "daemon-root: status finds what isn't as it should be, and prepare mends it" {
	must root status --data "$R" --json
	is "[]" "$output"
	must root prepare --root alice --data "$R"
	must root prepare --root bob --data "$R"
	must root status --data "$R" --json
	is "super-root root root" "$(jq -r '[.[].kind] | join(" ")' <<<"$output")"
	is "alice 200000:200000 0700" "$(jq -r '.[1] | "\(.owner) \(.identity) \(.mode)"' <<<"$output")"
	chmod 0710 "$R"
	chmod 0755 "$R/200000.200000"
	chown 0:0 "$R/400000.400000"
	try root status --data "$R" --json
	is 3 "$status" status
	is "1 1 1" "$(jq -r '[.[].drift | length] | join(" ")' <<<"$output")"
	is "usernsctl daemon-root prepare --root 200000:200000 --data $R" "$(jq -r '.[1].drift[0].mend' <<<"$output")"
	jq -r '.[].drift[].mend' <<<"$output" >"$W/mend"
	PATH=${CTL%/*}:$PATH bash -e "$W/mend"
	must root status --data "$R"
	# What no command mends is said.
	mkdir "$R/image" "$R/200000.200000/more"
	book "alice:200000:131072:"
	mkdir -p /etc/docker
	echo '{"data-root": "'"$R"'/"}' >/etc/docker/daemon.json
	try root status --data "$R"
	rm /etc/docker/daemon.json
	is 3 "$status" status
	has "$output" "$R: has data that isn't in a root: image"
	has "$output" "mend: usernsctl daemon-root migrate --data $R"
	has "$output" "/etc/docker/daemon.json: the data root of the next dockerd is $R/: expected one of a root, such as $R/200000.200000/docker"
	has "$output" "mend: usernsctl configure docker --root 200000:200000 --data $R$"
	has "$output" "200000.200000: has more: expected docker alone"
	has "$output" "^root .?400000:400000.?: UID 400000 lies in no line of the book"
}

@test "daemon-root: dockerd on a prepared root imports, runs, commits and saves" {
	must root prepare --root alice --data "$R"
	daemon one "$R/200000.200000/docker" alice
	load_busybox
	must docker run --name first busybox sh -c 'id -u; echo made >/made; ls -ld / | cut -d" " -f5-7'
	has "$output" "^0$"
	must docker run -d --name second busybox sleep 1000
	in_range 200000 131072 second
	must docker exec second touch /x
	must docker commit first made
	must docker run --rm made cat /made
	is made "$output"
	must docker save -o "$W/made.tar" made
	is "" "$(tar --numeric-owner -tvf "$W/made.tar" | awk '$2 !~ /^0\/0$/')" "what isn't root's in the image"
	unshifted "$R/200000.200000/docker"
	# dockerd has taken over what is its own, and nothing else.
	looks "700 200000:200000" "$R/200000.200000"
	must root status --data "$R" --json
	is "$(kept one)" "$(jq '.[1].daemons[0]' <<<"$output")" "the dockerd that uses it"
	must docker rm -f first second
}

@test "daemon-root: containers start after migrate, and after restore, with logs and volumes" {
	local before
	mkdir -p "$R/mine"
	echo theirs >"$R/mine/file"
	daemon one "$R" ours
	load_busybox
	must docker volume create -d local -o type=none -o o=bind -o device="$R/mine" bound
	must docker run -d --name lives --log-driver json-file --restart no -v named:/v -v "$R/mine:/m:ro" --mount type=bind,src="$R/mine",dst=/n,ro -v bound:/b busybox \
		sh -c 'echo started; cat /v/file 2>/dev/null; echo kept >/v/file; exec sleep 1000'
	must docker run --name stopped --ipc shareable -v named:/v busybox sh -c 'echo ran; cat /v/file /dev/null'
	fails 1 "$R is the data root of dockerd, process $(kept one): stop it" migrate --data "$R"
	fails 1 "$R is the data root of dockerd" migrate --data "$R" --dry-run
	must docker stop -t 0 lives
	docker_down one
	before=$(manifest)
	try root migrate --data "$R" --root alice --dry-run --json
	is 0 "$status" status
	is "$before" "$(manifest)" "after a dry run"
	cp "$W/.out" "$W/dry"
	must root migrate --data "$R" --root alice --json
	has "$errput" "warning: .*/mine: isn't a name that dockerd gives"
	is "$(<"$W/dry")" "$output" "the steps, as foreseen"
	looks "755 0:0" "$R"
	looks "700 0:0" "$R/0.0"
	is $'.daemon-root\n0.0\n200000.200000' "$(ls -A "$R")"

	daemon one "$R/0.0/docker" ours
	starts_as_before 2
	fails 1 "$R/0.0/docker is the data root of dockerd, process $(kept one)" restore --data "$R"
	must docker stop -t 0 lives
	docker_down one
	must root restore --data "$R"
	[[ ! -e $R/0.0 && ! -e $R/200000.200000 && ! -e $R/.daemon-root ]]
	daemon one "$R" ours
	starts_as_before 3
	must docker rm -fv lives stopped
	docker_down one
}

# starts_as_before N: both containers start for the Nth time.
starts_as_before() {
	local n=$1 lines
	must docker logs lives
	is $((2 * n - 3)) "$(wc -l <<<"$output")" "lines of the log, from before"
	must docker start lives stopped
	patiently is_state stopped exited
	must docker exec lives cat /v/file /m/file /n/file /b/file
	is $'kept\ntheirs\ntheirs\ntheirs' "$output"
	patiently eval '[[ $(docker logs lives | wc -l) == '$((2 * n - 1))' ]]'
	must docker logs stopped
	lines=$(grep -c '^ran$' <<<"$output")
	is "$n" "$lines" "lines of the other log"
	must docker inspect lives stopped
	is "" "$(jq -r '.. | strings' <<<"$output" | grep "^$R/" | grep -v -e "^$(docker info -f '{{.DockerRootDir}}')/")" "paths that lead elsewhere"
	in_range "$START" $((4 * COUNT)) lives
}

@test "daemon-root: a container that lives without its dockerd is in the way" {
	daemon one "$R" plain
	load_busybox
	must docker run -d --name lives busybox sleep 1000
	local pid
	pid=$(pid_of lives)
	# As live-restore leaves it.
	end one KILL
	fails 1 "$R/.* (is mounted|mounted on it|works in|has open)" migrate --data "$R"
	has "$errput" "$R: what is to be moved is in use"
	kill -KILL "$pid"
	docker_again one
	must docker rm -f lives
}

@test "daemon-root: two dockerds side by side, each with its owner" {
	must root prepare --root alice --data "$R"
	must root prepare --root bob --data "$R"
	daemon one "$R/200000.200000/docker" alice
	daemon two "$R/400000.400000/docker" bob
	local name
	for name in one two; do
		as "$name"
		load_busybox
		must docker run -d --name "c-$name" -v data:/v busybox sh -c "echo $name >/v/whose; exec sleep 1000"
	done
	as one
	in_range 200000 131072 c-one
	is one "$(docker exec c-one cat /v/whose)"
	is c-one "$(docker ps --format '{{.Names}}')"
	as two
	in_range 400000 65536 c-two
	is two "$(docker exec c-two cat /v/whose)"
	is c-two "$(docker ps --format '{{.Names}}')"
	must root status --data "$R" --json
	is "alice $(kept one) bob $(kept two)" "$(jq -r '[.[1:][] | "\(.owner) \(.daemons[0])"] | join(" ")' <<<"$output")"
	# A third root is made and used meanwhile, and theirs can't be taken from them.
	must root prepare --root 0:0 --data "$R"
	touch "$R/0.0/docker/engine-id"
	fails 1 "has data .*: expected none in any root but 0.0" restore --data "$R"
	docker rm -fv c-two
	as one
	docker rm -fv c-one
}
