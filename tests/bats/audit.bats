#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# One line for every decision.

load helpers

lines() { [[ -f $AUDIT ]] && wc -l <"$AUDIT" || echo 0; }

@test "audit: run, create and exec, granted" {
	must ours run -b "$B" "$CT"
	is 1 "$(lines)"
	audited '.decision == "granted" and .verb == "run" and .subject == "root" and .uid == 0
		and .owner == "dockroot" and .ownerBy == "default-owner" and (has("error") | not)'
	audited "(.time | test(\"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z\$\")) and .id == \"$CT\" and .root == \"$W/ours\" and .bundle == \"$B\""
	audited ".grantedUIDs == \"0:$START:$COUNT\" and .grantedGIDs == .grantedUIDs and (has(\"askedUIDs\") | not)"
	audited ".lines == [\"$BOOK:1\"] and .rootfs == \"idmap\" and (.runtime | startswith(\"$RUNC (runc \"))"
	audited '[.changes[].path | join(".")] | contains(["linux.namespaces.-", "root.path"])'
	must ours create -b "$B" "$CT"
	is 2 "$(lines)"
	audited '.verb == "create" and .decision == "granted"'
	must ours start "$CT"
	is 2 "$(lines)"
	must ours delete -f "$CT"
	up ours
	is 3 "$(lines)"
	must ours exec "$CT" true
	is 4 "$(lines)"
	audited '.verb == "exec" and .decision == "granted" and .owner == "dockroot" and .ownerBy == "record"'
	ours state "$CT" >/dev/null
	ours list >/dev/null
	ours ps "$CT" >/dev/null
	is 4 "$(lines)"
	down ours
	is 4 "$(lines)"
}

@test "audit: flags, and the lines that gave them" {
	book "# first" "dockroot:$START:$COUNT:no-new-privs,deny-setgroups"
	update_config '.process.noNewPrivileges = false | .process.user.additionalGids = [5]'
	must ours run -b "$B" "$CT"
	audited ".flags == \"deny-setgroups,no-new-privs\" and .lines == [\"$BOOK:2\"]"
	audited '[.changes[] | select(.why | startswith("flag")) | .path | join(".")] | sort == ["process.noNewPrivileges", "process.user.additionalGids"]'
}

@test "audit: refusals" {
	refused 'nowhere' run -b "$W/nowhere" "$CT"
	is 1 "$(lines)"
	audited '.decision == "refused" and (.error | test("nowhere")) and .verb == "run"'
	rm "$BOOK"
	refused 'there is no book' create -b "$B" "$CT"
	is 2 "$(lines)"
	audited ".decision == \"refused\" and .verb == \"create\" and .owner == \"dockroot\" and .bundle == \"$B\" and (.error | test(\"book\"))"
	book "dockroot:$START:$COUNT:"
	update_config '.linux.namespaces += [{type: "user"}] | .linux.uidMappings = [{containerID: 0, hostID: 1, size: 1}] | .linux.gidMappings = .linux.uidMappings'
	refused 'granted' run -b "$B" "$CT"
	is 3 "$(lines)"
	audited '.askedUIDs == "0:1:1" and .askedGIDs == "0:1:1" and (has("grantedUIDs") | not)'
	try ours exec nobody true
	is 4 "$(lines)"
	audited '.verb == "exec" and .decision == "refused" and .id == "nobody"'
}

@test "audit: the file and its directory are made, with modes of their own" {
	AUDIT=$W/new/audit.jsonl
	config
	must ours run -b "$B" "$CT"
	is 750 "$(stat -c %a "$W/new")"
	is 640 "$(stat -c %a "$AUDIT")"
	mv "$AUDIT" "$AUDIT.1"
	must ours run -b "$B" "$CT"
	is 1 "$(lines)"
}

@test "audit: the default place" {
	printf 'runtimes = ["%s"]\n' "$RUNC" >"$CONF"
	must ours run -b "$B" "$CT"
	is 1 "$(jq -s length /var/log/userns-runtime/audit.jsonl)"
	rm -r /var/log/userns-runtime
}

@test "audit: warn only warns, and not in --log" {
	local path
	mkdir "$W/dir"
	ln -s "$W/dir/file" "$W/link"
	mkfifo "$W/fifo"
	for path in "$W/nowhere/at/all" "$W/dir" "$W/link" "$W/fifo"; do
		AUDIT=$path config
		shell 'echo it ran'
		try timeout 20 "${ours_cmd[@]}" --log "$LOG" --log-format json run -b "$B" "$CT"
		is 0 "$status"
		is "it ran" "$output"
		has "$errput" "warning: .*isn't recorded.*$path"
		is 1 "$(wc -l <"$W/.err")"
		is "" "$(cat "$LOG")"
	done
}

@test "audit: require refuses what can't be recorded" {
	AUDIT=$W/nowhere/at/all AUDIT_MODE=require config
	refused "can't be recorded.*audit.mode.*$W/nowhere/at/all" run -b "$B" "$CT"
	refused "can't be recorded" create -b "$B" "$CT"
	AUDIT_MODE=require config
	up ours
	AUDIT=$W/nowhere/at/all AUDIT_MODE=require config
	try ours exec "$CT" true
	((status != 0))
	has "$errput" "can't be recorded"
	down ours
	AUDIT_MODE=require config
	process true
	must ours run -b "$B" "$CT"
}

@test "audit: many at once write whole lines" {
	local i pids=()
	room 8
	for i in 1 2 3 4 5 6 7 8; do
		spawn "a$i" ours run -b "$B" "$CT-$i"
		pids+=("$pid")
	done
	for i in "${pids[@]}"; do
		reap "$i"
		is 0 "$status"
	done
	is 8 "$(lines)"
	is 8 "$(jq -s 'map(.id) | unique | length' "$AUDIT")"
}

@test "audit: odd names are one line" {
	local dir=$W/$'new\nline"quote'
	mv "$B" "$dir"
	B=$dir
	bundle_sum >"$W/.bundle"
	must ours run -b "$B" "$CT"
	is 1 "$(lines)"
	is "$B" "$(jq -r .bundle "$AUDIT")"
}
