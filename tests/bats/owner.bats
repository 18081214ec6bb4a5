#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# Whose range a container of host root's takes.

load helpers

ONE=$((START + COUNT))
TWO=$((START + 2 * COUNT))

setup_book() {
	book "dockroot:$START:$COUNT:" "one:$ONE:$COUNT:" "two:$TWO:$COUNT:"
	process cat /proc/self/uid_map
}

# owned NAME BY START: the last container was NAME's, and why.
owned() {
	is "0 $3 $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	is "$1" "$(tail -n 1 "$AUDIT" | jq -r .owner)"
	has "$(tail -n 1 "$AUDIT" | jq -r .ownerBy)" "^$2"
	is root "$(tail -n 1 "$AUDIT" | jq -r .subject)"
}

@test "owner: default-owner" {
	setup_book
	must ours run -b "$B" "$CT"
	owned dockroot default-owner "$START"
	config 'default-owner = "one"'
	must ours run -b "$B" "$CT"
	owned one default-owner "$ONE"
	config 'default-owner = ""'
	refused 'nobody owns this container: give --owner NAME' run -b "$B" "$CT"
}

@test "owner: --owner" {
	setup_book
	local words
	for words in "--owner one" "--owner=one" "-owner one" "-owner=one"; do
		# shellcheck disable=SC2086 # one word or two
		try "$OURS" $words --config "$CONF" --root "$W/ours" run -b "$B" "$CT"
		owned one --owner "$ONE"
		# shellcheck disable=SC2086 # one word or two
		try "$OURS" --config "$CONF" $words --root "$W/ours" run -b "$B" "$CT"
		owned one --owner "$ONE"
	done
	try "$OURS" --owner one --owner two --config "$CONF" --root "$W/ours" run -b "$B" "$CT"
	is 1 "$status"
	has "$errput" 'given twice'
	try "$OURS" --config "$CONF" --owner nobody --root "$W/ours" run -b "$B" "$CT"
	is 1 "$status"
	has "$errput" 'nobody or [0-9]+: no line'
}

@test "owner: the program's name" {
	setup_book
	ln -s "$OURS" "$W/userns-runtime-one"
	try "$W/userns-runtime-one" --config "$CONF" --root "$W/ours" run -b "$B" "$CT"
	owned one 'program name userns-runtime-one' "$ONE"
	try "$W/userns-runtime-one" --owner two --config "$CONF" --root "$W/ours" run -b "$B" "$CT"
	owned two --owner "$TWO"
	ln -s "$OURS" "$W/userns-runtime-nobody"
	try "$W/userns-runtime-nobody" --config "$CONF" --root "$W/ours" run -b "$B" "$CT"
	is 1 "$status"
	has "$errput" 'nobody or [0-9]+: no line'
}

@test "owner: a [[rule]] for the engine's root, the nearest" {
	setup_book
	config
	cat >>"$CONF" <<-EOF
		[[rule]]
		root = "$W"
		owner = "two"
		[[rule]]
		root = "$W/ours"
		owner = "one"
	EOF
	must ours run -b "$B" "$CT"
	owned one '\[\[rule\]\]' "$ONE"
	try "$OURS" --config "$CONF" --root "$W/other" run -b "$B" "$CT"
	owned two '\[\[rule\]\]' "$TWO"
	try "$OURS" --config "$CONF" --root "$W/ours/deeper" run -b "$B" "$CT"
	owned one '\[\[rule\]\]' "$ONE"
	cd "$W/ours"
	try "$OURS" --config "$CONF" --root . run -b "$B" "$CT"
	owned one '\[\[rule\]\]' "$ONE"
	cd "$W"
	ln -s "$OURS" "$W/userns-runtime-dockroot"
	try "$W/userns-runtime-dockroot" --config "$CONF" --root "$W/ours" run -b "$B" "$CT"
	owned dockroot 'program name' "$START"
	rmdir "$W/ours/deeper" 2>/dev/null || true
}

@test "owner: the annotation, where it is allowed" {
	setup_book
	update_config '.annotations = {"io.userns-runtime.owner": "one"}'
	must ours run -b "$B" "$CT"
	owned dockroot default-owner "$START"
	config 'annotations = ["owner"]'
	must ours run -b "$B" "$CT"
	owned one 'annotation io.userns-runtime.owner' "$ONE"
	try "$OURS" --owner two --config "$CONF" --root "$W/ours" run -b "$B" "$CT"
	owned two --owner "$TWO"
	printf '[[rule]]\nroot = "%s"\nowner = "two"\n' "$W/ours" >>"$CONF"
	must ours run -b "$B" "$CT"
	owned two '\[\[rule\]\]' "$TWO"
	config 'annotations = ["owner"]'
	update_config '.annotations["io.userns-runtime.owner"] = ""'
	refused 'no line|empty|owner' run -b "$B" "$CT"
}

@test "owner: nothing in the environment or the bundle's process decides" {
	setup_book
	update_config '.process.env += ["USERNS_OWNER=one"]'
	USERNS_RUNTIME_OWNER=one USERNS_OWNER=one OWNER=one SUDO_USER=one USER=one LOGNAME=one must ours run -b "$B" "$CT"
	owned dockroot default-owner "$START"
}

@test "owner: a user by name or by number, in the book and on the command line" {
	local uid=54321
	echo "byname:x:$uid:$uid::/:/bin/false" >>/etc/passwd
	process cat /proc/self/uid_map
	local line owner
	for line in byname "$uid"; do
		book "$line:$ONE:$COUNT:"
		for owner in byname "$uid"; do
			try "$OURS" --owner "$owner" --config "$CONF" --root "$W/ours" run -b "$B" "$CT"
			owned "$owner" --owner "$ONE"
		done
	done
	sed -i '/^byname:/d' /etc/passwd
}

@test "owner: exec and delete need none" {
	setup_book
	try "$OURS" --owner one --config "$CONF" --root "$W/ours" run -d -b "$B" "$CT"
	down ours
	up ours
	config 'default-owner = ""'
	must ours exec "$CT" true
	audited '.owner == "dockroot" and .ownerBy == "record"'
	down ours
}
