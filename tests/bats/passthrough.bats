#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# What isn't ours to judge is runc's, word for word.

load helpers

@test "pass: features, spec, list, help" {
	same features
	jq -e .ociVersionMin <<<"$output" >/dev/null
	same list
	same list --format json
	mkdir "$W/spec" "$W/spec2"
	must plain spec -b "$W/spec"
	must ours spec -b "$W/spec2"
	is "$(<"$W/spec/config.json")" "$(<"$W/spec2/config.json")"
	same spec -b "$W/spec" # it is there already
	same_errors
	is 1 "$status"
}

@test "pass: --help, of all and of each verb" {
	same --help
	same help
	same -h
	same
	local verb
	for verb in create run exec delete restore start state kill spec list ps pause resume update events checkpoint features; do
		same "$verb" --help
		same "$verb" -h
		has "$output" "$verb"
	done
}

@test "pass: --help of a gated verb takes nothing and records nothing" {
	rm "$BOOK"
	same create --help
	same run -b "$B" --help
	test ! -e "$AUDIT"
}

@test "pass: --version is ours, then runc's" {
	local want
	want=$("$RUNC" --version)
	must ours --version
	has "$(head -n 1 <<<"$output")" '^userns-runtime version '
	is "$want" "$(tail -n +2 <<<"$output")"
	must "$OURS" --config "$CONF" -v
	is "$want" "$(tail -n +2 <<<"$output")"
}

@test "pass: what runc doesn't know" {
	local args
	for args in "--nonsense" "nonsense" "state" "state --nonsense x" "kill" "kill x NOSUCHSIGNAL" "start a b" "state nobody" \
		"delete" "delete nobody" "pause nobody" "ps nobody" "update nobody" "events nobody" "list --format xml"; do
		echo "# $args"
		# shellcheck disable=SC2086 # words
		try plain $args
		local want=$status
		# shellcheck disable=SC2086 # words
		try ours $args
		((want != 0)) || [[ $args == nonsense ]]
		[[ $args == nonsense ]] || is "$want" "$status" "status, runc's first"
		((status != 0))
	done
	same state nobody
	same_errors
	same delete nobody
	same_errors
}

@test "pass: verbs that start nothing work without a book, owner or audit" {
	rm "$BOOK"
	AUDIT=$W/nowhere/at/all AUDIT_MODE=require config 'default-owner = ""'
	same list
	same features
	same delete -f nobody
	is 0 "$status"
	try ours state nobody
	is 1 "$status"
	has "$errput" 'does not exist'
}

@test "pass: --log of a verb passed on is runc's" {
	try plain --log "$W/plain.log" --log-format json state nobody
	local want=$status
	try ours --log "$W/ours.log" --log-format json state nobody
	is "$want" "$status"
	is "$(jq -c 'del(.time)' "$W/plain.log")" "$(jq -c 'del(.time)' "$W/ours.log")"
}

@test "pass: arguments go byte for byte" {
	# A low-level runtime that says what it was called with.
	printf '#!/bin/sh\n[ "$1" = --version ] && echo runc version 1.5.2 && exit\nfor a in "$@"; do echo "<$a>"; done\n' >"$W/echo"
	chmod 0755 "$W/echo"
	RUNTIMES="\"$W/echo\"" config
	must "$OURS" --config "$CONF" --root=x --debug state -- 'a b' '' $'new\nline' --bundle=
	is "$(printf '<%s>\n' --root=x --debug state -- 'a b' '' $'new\nline' --bundle=)" "$output"
	must "$OURS" --owner dockroot --config "$CONF" kill id 9 --all
	is "$(printf '<%s>\n' kill id 9 --all)" "$output"
}

@test "pass: what is gated goes in one canonical form" {
	printf '#!/bin/sh\n[ "$1" = --version ] && echo runc version 1.5.2 && exit\nfor a in "$@"; do echo "<$a>"; done; pwd\n' >"$W/echo"
	chmod 0755 "$W/echo"
	RUNTIMES="\"$W/echo\"" config
	cd "$W"
	must "$OURS" --config "$CONF" --root ours -log log create -pid-file p "$CT" -b bundle
	is "$(printf '<%s>\n' "--log=$W/log" "--root=$W/ours" create "--pid-file=$W/p" -- "$CT"; echo "$B")" "$output"
	rm -f log
}

@test "pass: the environment and the program's name reach runc" {
	printf '#!/bin/sh\n[ "$1" = --version ] && echo runc version 1.5.2 && exit\necho "$0"; env | grep -v -e ^_ -e ^PWD -e ^SHLVL -e ^OLDPWD | sort\n' >"$W/echo"
	chmod 0755 "$W/echo"
	RUNTIMES="\"$W/echo\"" config
	must env -i A=b PATH=/bin "$OURS" --config "$CONF" state x
	is "$W/echo"$'\nA=b\nPATH=/bin' "$output"
}
