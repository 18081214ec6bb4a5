#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# usernsctl configure --divert: userns-runtime in the place of the packages' runc, so that
# who calls runc by its name calls it. /usr and /var/lib, with what dpkg knows, are overlays here; the
# programs are installed as `make install` does.

load helpers
load engines
load docker
load containerd

P=/usr/sbin/runc
SECOND=/usr/sbin/runc.userns-runtime

setup_file() {
	local dir
	W=$BATS_FILE_TMPDIR
	needs dpkg-divert dpkg-deb /usr/sbin/dockerd /usr/bin/docker containerd ctr iptables ip || return 0
	[[ -f $P && ! -L $P ]] || unfit "no package has $P" || return 0
	for dir in usr var/lib; do
		mkdir -p "$W/upper/$dir" "$W/work/$dir"
		mount -t overlay -o "lowerdir=/$dir,upperdir=$W/upper/$dir,workdir=$W/work/$dir" overlay "/$dir"
	done
	mkdir -p /usr/libexec/userns-runtime
	cp "$OURS" "$CTL" /usr/bin/
	cp "$RUNC" /usr/libexec/userns-runtime/runc
	installed
	snapshot >"$W/.first"
	containerd_file
	# containerd has runc by its PATH, as on a host.
	mv "$CTRD/bin/runc" "$CTRD/runc"
	docker_file busybox
	is_fit || return 0
	echo '{}' >"$DOCKER_CONFIG/config.json"
}

# installed: the programs as they are for everybody.
installed() {
	OURS=/usr/bin/userns-runtime
	CTL=/usr/bin/usernsctl
	RUNC=/usr/libexec/userns-runtime/runc
}

teardown_file() {
	[[ ! -f $BATS_FILE_TMPDIR/docker.pids ]] || end docker
	[[ ! -f $BATS_FILE_TMPDIR/containerd.pids ]] || end containerd
}

snapshot() { tagged_snapshot; }

setup() {
	installed
	engine_setup
	containerd_words
	dpkg-divert --list | sort >"$W/diversions"
	find /usr/sbin/ /usr/bin/ /usr/local/ -name '*runc*' -printf '%p %y %m %U:%G %s %l\n' | sort >"$W/programs"
}

teardown() {
	if [[ -z ${BATS_TEST_COMPLETED:-} && -f $BATS_FILE_TMPDIR/docker.pids ]]; then
		docker_clean >/dev/null 2>&1 || true
		containerd_clean
		"$CTL" gc >/dev/null || true
		"$CTL" configure --divert --undo || true
	fi
	helpers_teardown || return
	as_before
}

as_before() {
	dpkg-divert --list | sort | diff "$W/diversions" - &&
		find /usr/sbin/ /usr/bin/ /usr/local/ -name '*runc*' -printf '%p %y %m %U:%G %s %l\n' | sort | diff "$W/programs" -
}

diverted() { must "$CTL" configure --divert "$@"; }

undiverted() { must "$CTL" configure --divert --undo "$@"; }

@test "configure --divert: what calls runc by its name calls userns-runtime, and dpkg knows; undo gives all of it back" {
	local sum
	sum=$(sha256sum <$P)
	diverted --dry-run
	is "dpkg-divert --local --rename --divert $SECOND --add $P
ln -s $OURS $P" "$output"
	as_before
	# Whoever calls may have another dpkg in mind; what is installed here has one.
	DPKG_ADMINDIR=/nowhere DPKG_ROOT=/nowhere DPKG_FORCE=nothing diverted
	is "diverted $P to $SECOND
made $P, a link to $OURS" "$output"
	has "$(dpkg-divert --list)" "^local diversion of $P to $SECOND$"
	is "$OURS" "$(readlink $P)"
	is "$sum" "$(sha256sum <$SECOND)"
	# By its name: runc --version is ours, and then that of the runc behind it.
	must runc --version
	has "$output" '^userns-runtime version '
	is "$("$RUNC" --version)" "$(tail -n +2 <<<"$output")"
	must docker run --rm --runtime runc busybox cat /proc/self/uid_map
	is "0 $START $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	must "${CTR[@]}" run --rm "$CTR_IMAGE" "$CT" cat /proc/self/uid_map
	is "0 $START $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	# BuildKit, which asks no engine's configuration.
	mkdir "$W/build"
	printf 'FROM busybox\nRUN cat /proc/self/uid_map >/map\n' >"$W/build/Dockerfile"
	must env DOCKER_BUILDKIT=1 /usr/bin/docker build --no-cache --progress plain -t built "$W/build"
	must docker run --rm --runtime plain built cat /map
	is "0 $START $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	must docker rmi built
	# A secret is the step's own.
	echo hush >"$W/build/secret"
	printf '%s\n' 'FROM busybox' 'RUN --mount=type=secret,id=s cat /run/secrets/s >/seen; stat -c %u:%g:%a /run/secrets/s >>/seen' \
		'RUN --mount=type=secret,id=s,uid=5,gid=6,mode=0440 stat -c %u:%g:%a /run/secrets/s >>/seen' >"$W/build/Dockerfile"
	must env DOCKER_BUILDKIT=1 /usr/bin/docker build --no-cache --progress plain --secret "id=s,src=$W/build/secret" -t built "$W/build"
	must docker run --rm --runtime plain built cat /seen
	is "hush 0:0:400 5:6:440" "$(xargs <<<"$output")" "the secret"
	must docker rmi built
	must docker builder prune -af
	find /sys/fs/cgroup -depth -type d -path "*/$UR_TAG-docker/buildkit*" -exec rmdir {} +
	rmdir /run/runc
	must docker run -d --name held --runtime runc busybox sleep 1000
	shifted held
	try "$CTL" configure --divert --undo
	is 1 "$status"
	has "$errput" "^usernsctl: container [0-9a-f]{64} of /run/docker/runtime-runc/moby"
	must docker exec held id -u
	must docker rm -f held
	diverted
	is "already: userns-runtime is in the place of runc" "$output"
	undiverted --dry-run
	undiverted
	is "gave back $P from $SECOND" "$output"
	as_before
	is "$sum" "$(sha256sum <$P)"
	must docker run --rm --runtime runc busybox cat /proc/self/uid_map
	is "0 0 4294967295" "$(awk '{$1 = $1; print}' <<<"$output")"
}

@test "configure --divert: containers that runc started before go on, and those that it holds end as ever" {
	must docker run -d --name before --runtime runc busybox sleep 1000
	local args
	for args in "" --dry-run; do
		# shellcheck disable=SC2086 # nothing, where it is empty
		try "$CTL" configure --divert $args
		is 1 "$status"
		has "$errput" "^usernsctl: configure: 1 container started by runc itself: with --divert there is no exec in them any more, .*: --cut-exec: $(docker inspect -f '{{.Id}}' before)\$"
		as_before
	done
	must docker exec before true
	diverted --cut-exec
	# With what is done already, nothing is refused.
	diverted
	has "$output" "^already: "
	has "$errput" "^usernsctl: warning: configure: 1 container started before by runc itself: no exec in them .*: $(docker inspect -f '{{.Id}}' before)\$"
	# exec goes by the record of a container, and this one's root is the host's.
	try docker exec before true
	is 126 "$status"
	has "$errput$output" "has no record, .* it was started past this runtime"
	must docker pause before
	must docker unpause before
	must docker top before
	must docker stop -t 1 before
	must docker rm before
	undiverted
	must docker run --rm --runtime runc busybox true
}

@test "configure --divert: an upgrade of the package goes beside it" {
	diverted
	mkdir -p "$W/deb/DEBIAN" "$W/deb/usr/sbin" "$W/deb/usr/bin"
	[[ ! -L /usr/bin/runc ]] || ln -s ../sbin/runc "$W/deb/usr/bin/runc"
	printf '#!/bin/sh\necho runc version 1.1.99\n' >"$W/deb/usr/sbin/runc"
	chmod 0755 "$W/deb/usr/sbin/runc" "$W/deb" "$W/deb/DEBIAN"
	cp -p $SECOND "$W/runc"
	printf 'Package: runc\nVersion: 99:1\nArchitecture: amd64\nMaintainer: x <x@example.org>\nDescription: x\n' >"$W/deb/DEBIAN/control"
	must dpkg-deb -Zgzip -b "$W/deb" "$W/runc.deb"
	must dpkg --force-all --log=/dev/null -i "$W/runc.deb"
	is "$OURS" "$(readlink $P)"
	is "runc version 1.1.99" "$($SECOND)"
	undiverted
	is "runc version 1.1.99" "$($P)"
	[[ ! -e $SECOND ]]
	dpkg-divert --list | sort | diff "$W/diversions" -
	cp -p "$W/runc" "$P.new"
	mv "$P.new" $P
	rm -rf /run/needrestart # which Debian's hook of dpkg has made
}

@test "configure --divert: refused without another runc, and where it would be lost" {
	RUNTIMES='"/usr/sbin/runc"' config
	try "$CTL" configure --divert
	is 1 "$status"
	has "$errput" "^usernsctl: configure: low-level runtime: /usr/sbin/runc: is what will be userns-runtime itself: install runc 1.2 or later at /usr/libexec/userns-runtime/runc"
	as_before
	RUNTIMES='"/usr/bin/runc"' config # a link to it
	try "$CTL" configure --divert
	is 1 "$status"
	config
	book "bob:$START:$COUNT:"
	try "$CTL" configure --divert
	is 1 "$status"
	has "$errput" "owner dockroot \\(default-owner of .*\\): no line of the book grants anything"
	book "dockroot:$START:$COUNT:"
	as_before
	# Another runc comes first in the PATH of engines.
	mkdir -p /usr/local/sbin
	cp "$RUNC" /usr/local/sbin/runc
	diverted
	has "$errput" "^usernsctl: warning: configure: /usr/local/sbin/runc: is another runc, which isn.t diverted: what finds it by PATH walks past userns-runtime"
	rm /usr/local/sbin/runc
	# Or of one that runs.
	mv "$CTRD/runc" "$CTRD/bin/runc"
	diverted
	has "$errput" "$CTRD/bin/runc: is another runc"
	mv "$CTRD/bin/runc" "$CTRD/runc"
	# Somebody has put a runc over the link.
	cp "$RUNC" "$P.new"
	mv "$P.new" $P
	try "$CTL" configure --divert --undo
	is 1 "$status"
	has "$errput" "^usernsctl: configure: $P: isn't the link to $OURS that this program made, and $SECOND is there too: move the one away"
	mv $P $P.old
	undiverted
	rm $P.old
}

@test "configure --divert: with an engine, both or none; and a kill at any moment" {
	local n
	mkdir -p /etc/crio/crio.conf.d
	printf '[crio.runtime]\ndefault_runtime = "kata"\n' >/etc/crio/crio.conf.d/90.conf
	try "$CTL" configure crio --divert
	is 1 "$status"
	as_before
	rm -r /etc/crio
	must "$CTL" configure crio --divert
	has "$output" "^made /etc/crio/crio.conf.d/50-userns-runtime.conf"
	has "$output" "^diverted $P"
	must "$CTL" configure crio --undo --divert
	[[ ! -e /etc/crio ]]
	as_before
	for n in $(seq 1 40); do
		if ((n % 2)); then
			timeout -s KILL "0.0$((n + 10))" "$CTL" configure --divert >/dev/null 2>&1 || true
		else
			timeout -s KILL "0.0$((n + 10))" "$CTL" configure --divert --undo >/dev/null 2>&1 || true
		fi
		# A runc is there at any moment.
		[[ -x $P ]]
	done
	diverted
	is "$OURS" "$(readlink $P)"
	undiverted
}
