#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# The short cut of the compatibility matrix (tests/matrix), and that the matrix can fail.

load helpers

MATRIX=$BATS_TEST_DIRNAME/../matrix

# Each engine's worlds take some seconds to start, and more on a machine that is busy.
setup_file() { export BATS_TEST_TIMEOUT=600; }

# The engines make a sandbox each, in which the book of this one isn't seen.
short() {
	try "$MATRIX/run" --short --engine "$1"
	is 0 "$status" "status of the matrix"
	has "$output" "^$1: [1-9][0-9]* of [1-9][0-9]* the same under ours as under runc"
}

@test "matrix: Docker, the short cut" { short docker; }
@test "matrix: containerd, the short cut" { short containerd; }
@test "matrix: Podman, the short cut" { short podman; }

@test "matrix: every option of the engines is in a case, or left out for a reason" {
	must "$MATRIX/options"
	cp -r "$MATRIX" "$W/matrix"
	sed -i '/--mac-address/d' "$W/matrix/docker.cases"
	try "$W/matrix/options"
	is 1 "$status"
	has "$errput" '^options: docker run --mac-address is in no case of docker.cases'
	# A reason for an option that a case has, or that there isn't.
	cp "$MATRIX/docker.cases" "$W/matrix"
	echo 'docker run --init: no reason' >>"$W/matrix/excluded"
	echo 'podman exec --nosuch: no reason' >>"$W/matrix/excluded"
	try "$W/matrix/options"
	is 1 "$status"
	has "$errput" '^options: docker run --init is excluded, but a case has it'
	has "$errput" '^options: podman exec has no --nosuch'
}

# judge NAME: verdict on transcripts that runc and ours left in $W/results.
judge() {
	(
		TREE=$BATS_TEST_DIRNAME/../..
		COMPATIBILITY=$W/compatibility.md
		# shellcheck source=tests/matrix/compare.bash
		source "$MATRIX/compare.bash"
		verdict "$W/results" docker "$1" ours
	)
}

# transcript RUNTIME NAME LINE...
transcript() {
	mkdir -p "$W/results/docker-$1"
	printf '%s\n' "${@:3}" >"$W/results/docker-$1/$2"
}

@test "matrix: what differs has to be explained, and what is explained has to differ" {
	printf '%s\n' '| case | userns-runtime | userns-remap | sysbox |' '|--|--|--|--|' \
		'| `docker/known` `docker/more-*` | policy: so it is | the same | refused |' \
		'| `docker/theirs` | the same | refused | refused |' >"$W/compatibility.md"
	transcript plain alike '$ docker run' 'out| 1'
	transcript ours alike '$ docker run' 'out| 1'
	must judge alike
	has "$output" '^same +docker/alike$'

	for name in other known more-of-it theirs; do
		transcript plain "$name" '$ docker run' 'disk| file 0:0'
		transcript ours "$name" '$ docker run' 'disk| file 65534:65534'
	done
	for name in other theirs; do
		try judge "$name"
		is 1 "$status"
		has "$output" "^UNEXPLAINED +docker/$name"
		has "$output" '^ +-disk\| file 0:0$'
	done
	for name in known more-of-it; do
		must judge "$name"
		has "$output" "^differs +docker/$name: policy: so it is\$"
	done
	transcript ours known '$ docker run' 'disk| file 0:0'
	try judge known
	is 1 "$status"
	has "$output" '^NO MORE +docker/known'

	# What fails under runc is a case of nothing, and so is what nobody ran.
	for runtime in plain ours; do transcript "$runtime" broken '$ docker run' 'err| no such option' '= 125'; done
	try judge broken
	is 1 "$status"
	has "$output" '^BROKEN +docker/broken'
	try judge missing
	is 1 "$status"
	has "$output" '^NOT RUN +docker/missing'
}

@test "matrix: what is wrong in a file of cases is said by its line" {
	# shellcheck source=tests/matrix/cases.bash
	source "$MATRIX/cases.bash"
	printf '%s\n' '# no case' 'first short' $'\tdocker run \\' $'\t\tbusybox' 'second without=diff,disk' $'\ttrue' >"$W/cases"
	must check_cases "$W/cases"
	is "first second" "$(case_names "$W/cases" | paste -sd' ')"
	is first "$(case_names "$W/cases" short)"
	is "docker run busybox" "$(case_lines "$W/cases" first)"
	printf '%s\n' $'\ttrue' 'first' 'First' 'first fast' $'\ttrue' 'nothing' 'first without=owners' >"$W/cases"
	try check_cases "$W/cases"
	is 1 "$status"
	is "1 3 4 4 4 7 7 7 7" "$(cut -d: -f2 <<<"$errput" | sort -n | paste -sd' ')" "lines with a complaint"
}
