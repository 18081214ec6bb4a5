#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# dockerd with a grant that has the flag owned: its user enters the container by themself, and
# Docker's own commands go on as before.

load helpers
load engines
load docker

setup_file() {
	useradd -M -l -s /bin/bash ann
	docker_file busybox
}
teardown_file() { docker_down; }

setup() {
	docker_setup
	U=/run/hooks/users
	install -d -m 0755 /run/hooks "$U"
	USERNS_ANN=$U/userns
	install_utility "$USERNS_ANN"
	book "dockroot:$START:$COUNT:" "ann:$((START + COUNT)):$COUNT:owned"
	config 'default-owner = "ann"'
	snapshot >"$W/.before"
}
teardown() { docker_teardown; }

as_ann() { setpriv --reuid ann --regid ann --init-groups -- "$@"; }

enter() { as_ann "$USERNS_ANN" enter "$@"; }

# Docker has a hook in every network but this one.
run_owned() { docker run --runtime ours --network host "$@"; }

@test "docker: owned: the user enters their container, and Docker's commands work as before" {
	must run_owned -d --name web busybox sleep 1000
	local id pid
	id=$(docker inspect -f '{{.Id}}' web)
	pid=$(pid_of web)
	is "$(id -u ann)" "$("$UR_HELPERS/nsowner" "$pid")" owner
	maps_are "0:$((START + COUNT)):$COUNT" "$pid"
	must as_ann "$USERNS_ANN" list --json
	is "[\"$id\",$pid]" "$(jq -c '.[] | select(.kind == "container") | [.name, .pid]' <<<"$output")"
	must enter "${id:0:12}" sh -c 'id -u; readlink /proc/self/ns/mnt; echo of-ann >/made; cat /proc/self/uid_map'
	is "0 $(readlink "/proc/$pid/ns/mnt")" "$(head -n 2 <<<"$output" | paste -sd' ')"
	# While they are in there.
	as_ann "$USERNS_ANN" enter "$id" sleep 1001 <"$STDIN" >/dev/null 2>&1 3>&- &
	local job=$!
	eventually pgrep -f '^sleep 1001$'
	must docker exec web cat /made
	is of-ann "$output"
	must docker exec web sh -c 'id -u; exit 0'
	is 0 "$output"
	must docker cp web:/made "$W/made"
	is of-ann "$(<"$W/made")"
	must docker diff web
	has "$output" '^A /made$'
	must docker top web
	has "$output" 'sleep 1000'
	must docker pause web
	must docker unpause web
	must docker restart -t 0 web
	wait "$job" || true
	must enter "$id" cat /made
	must docker stop -t 0 web
	try enter "$id" true
	is 1 "$status"
	has "$errput" "there is no pin, container or process of that name that is yours"
	must docker rm web
	is "" "$(find /run/userns-runtime/owned -type f)" "what ann may know"
}

@test "docker: owned: Docker's hook, devices and volumes are refused by name, in Docker's words" {
	try docker run --runtime ours --rm busybox true
	is 125 "$status"
	has "$errput" "$BOOK:2: flag owned: hooks.prestart\[0\]: .* leave it out \(Docker has one in every network but host's: use --network host\)"
	try run_owned --rm --device /dev/null:/dev/other busybox true
	is 125 "$status"
	has "$errput" "$BOOK:2: flag owned: linux.devices"
	docker volume create vol >/dev/null
	try run_owned --rm -v vol:/v busybox true
	is 125 "$status"
	has "$errput" "flag owned: .* is a volume of the engine, on which ann would be root"
	try run_owned --rm --privileged busybox true
	is 125 "$status"
	has "$errput" "flag owned: linux.devices"
}
