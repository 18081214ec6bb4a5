#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# Hooks of every kind (runtime-spec config.md, "POSIX-platform Hooks"): that they
# run, when, with what on standard input, and that those which are called in the
# runtime's namespaces see the config.json that the container was made from.

load helpers

# A directory that root inside can reach too, which the bundle isn't.
HOOKS=/run/hooks

eval "$(declare -f setup | sed '1s/setup/load_setup/')"
setup() {
	load_setup
	mkdir -m 0711 "$HOOKS"
	mkdir -m 1777 "$HOOKS/log"
	cat >"$HOOKS/hook" <<-'EOS'
		#!/bin/busybox sh
		# hook KIND LOG: notes that it was called, its input, and the config.json.
		cat >"$2/$1.state.$$"
		echo "$1" >>"$2/order"
		bundle=$(sed -n 's/.*"bundle":"\([^"]*\)".*/\1/p' "$2/$1.state.$$")
		cat "$bundle/config.json" >"$2/$1.config" 2>/dev/null
		mv "$2/$1.state.$$" "$2/$1.state"
	EOS
	chmod 0755 "$HOOKS/hook"
	cp "$HOOKS/hook" "$B/rootfs/bin/hook"
	# startContainer is run inside, where its log is.
	WRITES=1
	mkdir -m 1777 "$B/rootfs/log"
	touch "$HOOKS/log/order"
	chmod 0666 "$HOOKS/log/order"
	ln -sf /usr/bin/busybox "$W/busybox"
	sed -i "1s,.*,#!$(command -v busybox) sh," "$HOOKS/hook"
	update_config '.hooks = ({prestart: 1, createRuntime: 1, createContainer: 1, startContainer: 1, poststart: 1, poststop: 1}
		| with_entries(.key as $kind | .value = [
			if $kind == "startContainer" then {path: "/bin/hook", args: ["hook", $kind, "/log"]}
			else {path: ($hooks + "/hook"), args: ["hook", $kind, ($hooks + "/log")]} end]))' --arg hooks "$HOOKS"
	snapshot >"$W/.before"
}

# logs: what the hooks left since the last call, as one text.
logs() {
	local f
	echo "order: $(paste -sd' ' "$HOOKS/log/order")"
	: >"$HOOKS/log/order"
	for f in "$HOOKS"/log/*.state "$B"/rootfs/log/*.state; do
		[[ -f $f ]] || continue
		echo "$(basename "$f"): $(jq -cS 'del(.pid, .annotations["io.userns-runtime.record"]) | if .annotations == {} then del(.annotations) else . end' "$f")"
		rm "$f"
	done
}

@test "hooks: all kinds of run, in order, with the same input as under runc" {
	local runtime want='' got
	shell 'cat /log/order'
	for runtime in plain ours; do
		must "$runtime" run -b "$B" "$CT"
		is startContainer "$output"
		got=$(logs)
		rm -f "$B"/rootfs/log/*
		is "${want:=$got}" "$got" "runc's first"
	done
	has "$got" 'order: prestart createRuntime createContainer poststart poststop'
	rm -f "$HOOKS"/log/*.config
}

@test "hooks: all kinds of create, start and delete" {
	local runtime want='' got
	for runtime in plain ours; do
		must "$runtime" create -b "$B" "$CT"
		got="create $(logs)"
		must "$runtime" start "$CT"
		eventually is_status "$runtime" stopped
		got+=" start $(logs)"
		rm -f "$B"/rootfs/log/*
		must "$runtime" delete "$CT"
		got+=" delete $(logs)"
		is "${want:=$got}" "$got" "runc's first"
	done
	has "$got" 'delete order: poststop'
}

@test "hooks: those before the start see the config.json that runc was given" {
	update_config '.["x-nobody-knows"] = {"big": 12345678901234567890123, "text": "\u003c"} | .annotations = {"a": "b"}'
	must ours run -b "$B" "$CT"
	local kind
	for kind in prestart createRuntime; do
		is user "$(jq -r '.linux.namespaces[] | select(.path) | .type' "$HOOKS/log/$kind.config")"
		has "$(jq -r .root.path "$HOOKS/log/$kind.config")" '^/run/userns-runtime/mnt/rootfs$'
		jq -e '.annotations.a == "b" and .annotations["io.userns-runtime.record"] != null' "$HOOKS/log/$kind.config"
		# What we don't know is there byte for byte.
		is "$(grep -A3 x-nobody "$B/config.json")" "$(grep -A3 x-nobody "$HOOKS/log/$kind.config")"
	done
	# And those on the host see what is on disk.
	rm -f "$HOOKS"/log/* "$B"/rootfs/log/*
	touch "$HOOKS/log/order"
	chmod 0666 "$HOOKS/log/order"
	must ours create -b "$B" "$CT"
	must ours start "$CT"
	eventually is_status ours stopped
	must ours delete "$CT"
	is "$(<"$B/config.json")" "$(<"$HOOKS/log/poststop.config")"
}

@test "hooks: the runtime's are host root, the container's are nobody" {
	cat >"$HOOKS/hook" <<-EOS
		#!$(command -v busybox) sh
		cat >/dev/null
		echo "\$1 \$(grep ^Uid /proc/self/status | cut -f2) \$(readlink /proc/self/ns/user)" >>"\$2/order"
		awk '{print \$2}' /proc/self/uid_map >"\$2/\$1.map"
	EOS
	cp "$HOOKS/hook" "$B/rootfs/bin/hook"
	sed -i '1s,.*,#!/bin/busybox sh,' "$B/rootfs/bin/hook"
	must ours run -b "$B" "$CT"
	local kind host
	host=$(readlink /proc/self/ns/user)
	for kind in prestart createRuntime poststart poststop; do
		has "$(<"$HOOKS/log/order")" "^$kind 0 ${host//[[\]]/.}$"
		is 0 "$(<"$HOOKS/log/$kind.map" tr -d ' ')"
	done
	is "$START" "$(<"$HOOKS/log/createContainer.map" tr -d ' ')"
	is "$START" "$(<"$B/rootfs/log/startContainer.map" tr -d ' ')"
}

@test "hooks: environment and timeout" {
	cat >"$HOOKS/hook" <<-EOS
		#!$(command -v busybox) sh
		env | grep -v ^PWD | sort >>"$HOOKS/log/order"
		if [ "\$1" = slow ]; then exec sleep 10; fi
	EOS
	local runtime want='' got
	for runtime in plain ours; do
		update_config '.hooks = {createRuntime: [{path: $path, args: ["hook"], env: ["A=b", "C=d e"]}]}' --arg path "$HOOKS/hook"
		must "$runtime" run -b "$B" "$CT"
		got=$(<"$HOOKS/log/order")
		: >"$HOOKS/log/order"
		update_config '.hooks = {createRuntime: [{path: $path, args: ["hook", "slow"], timeout: 1}]}' --arg path "$HOOKS/hook"
		try "$runtime" run -b "$B" "$CT"
		got+=" $status $(plainly <<<"$errput")"
		: >"$HOOKS/log/order"
		is "${want:=$got}" "$got" "runc's first"
	done
}

@test "hooks: one that fails, of each kind" {
	local kind path
	printf '#!%s sh\ncat >/dev/null; echo says why >&2; exit 23\n' "$(command -v busybox)" >"$HOOKS/failing"
	chmod 0755 "$HOOKS/failing"
	printf '#!/bin/busybox sh\ncat >/dev/null; echo says why >&2; exit 23\n' >"$B/rootfs/bin/failing"
	chmod 0755 "$B/rootfs/bin/failing"
	for kind in prestart createRuntime createContainer startContainer poststart poststop; do
		path=$HOOKS/failing
		[[ $kind == startContainer ]] && path=/bin/failing
		update_config '.hooks = {($kind): [{path: $path}]}' --arg kind "$kind" --arg path "$path"
		echo "# $kind"
		same run -b "$B" "$CT"
		same_errors
		# What a failed run leaves is plain runc's business; it must be the same.
		is "$(ls -A "$W/plain")" "$(ls -A "$W/ours")" "state, runc's first"
		plain delete -f "$CT"
		ours delete -f "$CT"
	done
}

@test "hooks: one that isn't there" {
	update_config '.hooks = {createRuntime: [{path: "/nowhere/hook"}]}'
	same run -b "$B" "$CT"
	same_errors
	is 1 "$status"
}
