#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# Where a bundle can be, and how it can be named. That it is the same after as
# before, its root filesystem included, is looked at after every test.

load helpers

@test "bundle: every spelling of --bundle" {
	shell 'cat /proc/self/uid_map'
	local want
	must ours run --bundle "$B" "$CT"
	want=$output
	local words
	for words in "-b|$B|$CT" "-b=$B|$CT" "--bundle=$B|$CT" "-bundle|$B|$CT" "-bundle=$B|$CT" "--b|$B|$CT" \
		"$CT|-b|$B" "$CT|--bundle=$B" "--bundle|$B|--no-pivot|--|$CT" "--bundle|/nowhere|--bundle|$B|$CT" \
		"--keep=false|-b|$B|$CT"; do
		IFS='|' read -ra words <<<"$words"
		try plain run "${words[@]}"
		is 0 "$status"
		must ours run "${words[@]}"
		is "$want" "$output"
	done
}

@test "bundle: two spellings at once are refused as runc refuses them" {
	try plain run -b "$B" --bundle "$B" "$CT"
	is 1 "$status"
	refused 'one spelling' run -b "$B" --bundle "$B" "$CT"
}

@test "bundle: the working directory" {
	shell 'echo here'
	cd "$B"
	same run "$CT"
	is here "$output"
	same run -b . "$CT"
	is here "$output"
	same run --bundle= "$CT"
}

@test "bundle: relative, with dots, with a slash at the end" {
	shell 'echo here'
	local path
	for path in bundle ./bundle bundle/ bundle/. ./bundle/../bundle "bundle//" "../$(basename "$W")/bundle"; do
		same run -b "$path" "$CT"
		is here "$output"
	done
}

@test "bundle: through symbolic links" {
	shell 'echo here'
	ln -s bundle link
	ln -s "$W" up
	ln -s link link2
	local path
	for path in link link/ up/bundle "$W/up/link2" link/../bundle; do
		same run -b "$path" "$CT"
		is here "$output"
	done
}

@test "bundle: what state calls it" {
	ln -s bundle link
	local runtime want='' got
	for runtime in plain ours; do
		must "$runtime" create -b link "$CT"
		got=$("$runtime" state "$CT" | jq -r .bundle)
		must "$runtime" delete -f "$CT"
		is "${want:=$got}" "$got" "runc's first"
	done
}

@test "bundle: odd names" {
	local name runtime
	shell 'echo here'
	for name in 'with space' '-dash' 'ünï' 'colon:comma,' $'new\nline' 'back\slash' '*' '%s' 'é'; do
		mv "$B" "$W/$name"
		B=$W/$name
		bundle_sum >"$W/.bundle"
		same run --bundle="$B" "$CT"
		is here "$output"
		same run --bundle="./$name" "$CT"
		is here "$output"
	done
}

@test "bundle: a deep one" {
	local deep=$W i
	for i in {1..20}; do deep+=/directory-number-$i; done
	mkdir -p "$deep"
	mv "$B" "$deep/"
	B=$deep/bundle
	shell 'echo here'
	same run -b "$B" "$CT"
	is here "$output"
}

@test "bundle: where the root filesystem is" {
	shell 'echo here; ls /'
	config "rootfs-dirs = [\"$W\"]"
	local path
	mv "$B/rootfs" "$W/elsewhere"
	mkdir -p "$B/sub"
	ln -s ../elsewhere "$B/link"
	for path in ../elsewhere "$W/elsewhere" ./sub/../../elsewhere "$W/elsewhere/"; do
		update_config '.root.path = $path' --arg path "$path"
		same run -b "$B" "$CT"
		is 0 "$status"
		has "$output" '^here$'
	done
}

@test "bundle: a root filesystem by a symbolic link" {
	shell 'echo here; stat -c %u:%g /'
	mv "$B/rootfs" "$W/elsewhere"
	ln -s ../elsewhere "$B/rootfs"
	bundle_sum >"$W/.bundle"
	try plain run -b "$B" "$CT"
	is 1 "$status"
	refused 'symbolic link' run -b "$B" "$CT"
}

@test "bundle: a root filesystem outside of the bundle, where nobody set it aside" {
	mv "$B/rootfs" "$W/elsewhere"
	local path
	for path in "$W/elsewhere" ../elsewhere; do
		update_config '.root.path = $path' --arg path "$path"
		refused "$W/elsewhere: it isn't set aside for root filesystems" run -b "$B" "$CT"
		refused "isn't set aside" create -b "$B" "$CT"
	done
	for path in / /etc /root . ..; do
		update_config '.root.path = $path' --arg path "$path"
		refused "isn't set aside" run -b "$B" "$CT"
	done
	# The directory itself isn't one that lies below it, nor is a namesake.
	update_config '.root.path = $path' --arg path "$W/elsewhere"
	config "rootfs-dirs = [\"$W/elsewhere\", \"$W/else\"]"
	refused "isn't set aside" run -b "$B" "$CT"
	config "rootfs-dirs = [\"$W\"]"
	must ours run -b "$B" "$CT"
}

@test "bundle: a root filesystem that isn't there, or a file" {
	update_config '.root.path = "nowhere"'
	try plain run -b "$B" "$CT"
	is 1 "$status"
	refused 'nowhere' run -b "$B" "$CT"
	update_config '.root.path = "config.json"'
	try plain run -b "$B" "$CT"
	is 1 "$status"
	refused 'directory' run -b "$B" "$CT"
}

@test "bundle: config.json keeps its bytes, its mode, its time" {
	shell 'echo here'
	local mode
	printf '\n\t \n' >>"$B/config.json"
	for mode in 0644 0600 0444 0400; do
		chmod "$mode" "$B/config.json"
		bundle_sum >"$W/.bundle"
		same run -b "$B" "$CT"
		is here "$output"
		is "$(<"$W/.bundle")" "$(bundle_sum)"
	done
}

@test "bundle: config.json through a symbolic link is refused" {
	shell 'echo here'
	mv "$B/config.json" "$W/real.json"
	chmod 0644 "$W/real.json"
	ln -s ../real.json "$B/config.json"
	try plain run -b "$B" "$CT"
	is here "$output"
	refused 'config.json: it is a symbolic link' run -b "$B" "$CT"
}

@test "bundle: on tmpfs" {
	mkdir "$W/tmpfs"
	mount -t tmpfs tmpfs "$W/tmpfs"
	shell 'echo here; stat -c %u:%g /bin/busybox'
	mv "$B" "$W/tmpfs/"
	B=$W/tmpfs/bundle
	rm "$W/.bundle"
	try plain run -b "$B" "$CT"
	local want=$output
	try ours run -b "$B" "$CT"
	mv "$B" "$W/"
	B=$W/bundle
	umount "$W/tmpfs"
	is "$want" "$output"
	has "$output" '^0:0$'
}

@test "bundle: on FUSE is refused" {
	requires bindfs
	mkdir "$W/fuse"
	bindfs "$B" "$W/fuse"
	B=$W/fuse
	refused 'it is on FUSE' run -b "$W/fuse" "$CT"
	B=$W/bundle
	umount "$W/fuse"
	bundle_sum >"$W/.bundle"
}

@test "bundle: read-only" {
	mkdir "$W/ro"
	mount --bind "$B" "$W/ro"
	mount -o remount,bind,ro "$W/ro"
	shell 'echo here'
	try plain run -b "$W/ro" "$CT"
	local want=$output
	try ours run -b "$W/ro" "$CT"
	umount "$W/ro"
	is "$want" "$output"
	is here "$output"
}

@test "bundle: two containers from one, at once" {
	room 2
	shell 'cat /proc/self/uid_map; sleep 0.3'
	local one two
	spawn one ours run -b "$B" "$CT-1"
	one=$pid
	spawn two ours run -b "$B" "$CT-2"
	two=$pid
	reap "$one"
	is 0 "$status"
	reap "$two"
	is 0 "$status"
	is "$START"$'\n'"$((START + COUNT))" "$(awk '{print $2}' "$W/one.out" "$W/two.out" | sort)"
}
