#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# restore, which is judged by the maps in CRIU's images. Where CRIU itself works
# a container is dumped and restored; the refusals are tried with images made by
# hand (tests/cmd/criuimages).

load helpers

images() { "$UR_HELPERS/criuimages" "$W/images" "$1" "${2:-$1}" "${3:-10}"; }

restore() { refused "$1" restore --image-path "$W/images" -b "$B" "$CT"; }

@test "restore: a dumped container comes back in its range" {
	requires criu
	up ours
	must ours checkpoint --image-path "$W/images" "$CT"
	must ours restore -d --image-path "$W/images" -b "$B" "$CT"
	maps_are "0:$START:$COUNT" "$(ours state "$CT" | jq .pid)"
	down ours
}

@test "restore: maps that aren't granted" {
	images "0:$START:$((COUNT + 1))"
	restore "isn't granted to dockroot"
	images "0:$((START - 1)):10"
	restore "isn't granted to dockroot"
	images "0:$START:10" "0:5:10"
	restore "gid extent"
	images "0:0:1" "0:$START:10"
	restore "0 can never be granted"
	images "0:$START:100,50:$((START + 200)):100"
	restore "images of the checkpoint"
}

@test "restore: flags that CRIU would undo" {
	images "0:$START:$COUNT"
	book "dockroot:$START:$COUNT:no-new-privs"
	restore "$BOOK:1: flags no-new-privs can't be enforced on restore"
	book "dockroot:$START:$COUNT:deny-setgroups"
	restore "$BOOK:1: flags deny-setgroups can't be enforced on restore"
}

@test "restore: images of a container outside of a user namespace" {
	mkdir -m 0700 "$W/images"
	restore '0 user namespaces are dumped'
	images "0:$START:$COUNT"
	rm "$W/images/userns-10.img"
	restore '0 user namespaces are dumped'
	images "0:$START:$COUNT" "0:$START:$COUNT" 4
	restore 'user namespace 4'
	images "0:$START:$COUNT"
	rm "$W/images/ids-1.img"
	restore 'ids-1.img: no such file'
	images "0:$START:$COUNT"
	rm "$W/images/pstree.img"
	restore 'pstree.img: no such file'
	images "0:$START:$COUNT"
	rm "$W/images/inventory.img"
	restore 'inventory.img: no such file'
	images "0:$START:$COUNT"
	cp "$W/images/userns-10.img" "$W/images/userns-11.img"
	restore '2 user namespaces are dumped'
}

@test "restore: images that are cut off, garbage, or not there" {
	images "0:$START:$COUNT"
	truncate -s -1 "$W/images/userns-10.img"
	restore 'userns-10.img'
	echo garbage >"$W/images/userns-10.img"
	restore 'userns-10.img'
	: >"$W/images/userns-10.img"
	restore 'userns-10.img'
	images "0:$START:$COUNT"
	truncate -s 5 "$W/images/ids-1.img"
	restore 'ids-1.img'
	rm -r "$W/images"
	restore 'images of the checkpoint: .*no such file'
}

@test "restore: images that others could have written" {
	images "0:$START:$COUNT"
	chmod 0770 "$W/images"
	restore 'others could have written it'
	chmod 0700 "$W/images"
	chmod 0666 "$W/images/ids-1.img"
	restore 'others could have written it'
	chmod 0600 "$W/images/ids-1.img"
	chown 1234 "$W/images/userns-10.img"
	restore 'others could have written it'
}

@test "restore: the default directory of images, and a relative one" {
	images "0:5:1"
	mv "$W/images" "$W/checkpoint"
	cd "$W"
	refused "extent 0:5:1" restore -b "$B" "$CT"
	refused "extent 0:5:1" restore --image-path ./checkpoint --bundle=bundle "$CT"
}

@test "restore: a namespace by path, and the rules of create" {
	images "0:$START:$COUNT"
	update_config '.linux.namespaces += [{type: "user", path: "/proc/1/ns/user"}]'
	restore 'remove the path'
	cp "$UR_TEMPLATE/config.json" "$B/config.json"
	# The host's, and another container's.
	by_path() {
		update_config '.linux.namespaces = [.linux.namespaces[] | select(.type != $kind)] + [{type: $kind, path: ("/proc/" + $pid + "/ns/" + $file)}]' \
			--arg kind "$1" --arg pid "$2" --arg file "${1/network/net}"
	}
	local init kind
	unshare --ipc --pid --uts --fork --kill-child sleep 1000 </dev/null >/dev/null 2>&1 3>&- &
	eventually pgrep -P $! sleep
	init=$(pgrep -P $!)
	for kind in ipc pid uts; do
		by_path "$kind" "$init"
		restore "linux.namespaces: $kind: path: /proc/$init/ns/$kind: it belongs to the host"
		cp "$UR_TEMPLATE/config.json" "$B/config.json"
	done
	kill -KILL "$init"
	process sleep 1000
	book "dockroot:$START:$((2 * COUNT)):"
	must ours run -d -b "$B" "$CT-other"
	init=$(ours state "$CT-other" | jq .pid)
	for kind in network ipc pid uts; do
		cp "$UR_TEMPLATE/config.json" "$B/config.json"
		by_path "$kind" "$init"
		images "0:$((START + COUNT)):$COUNT"
		ends 1 "linux.namespaces: path: /proc/$init/ns/${kind/network/net}: it is another container's" ours restore --image-path "$W/images" -b "$B" "$CT"
	done
	must ours delete -f "$CT-other"
	cp "$UR_TEMPLATE/config.json" "$B/config.json"
	rm "$BOOK"
	restore 'there is no book'
}

@test "restore: what is permitted is handed to runc, with the range" {
	printf '#!/bin/sh\n[ "$1" = --version ] && echo runc version 1.5.2 && exit\nfor a in "$@"; do echo "<$a>"; done\nstat -c %%u:%%g /run/userns-runtime/mnt/rootfs\n' >"$W/echo"
	chmod 0755 "$W/echo"
	RUNTIMES="\"$W/echo\"" config
	images "0:$START:$COUNT"
	must ours restore --image-path "$W/images" -b "$B" -d "$CT"
	has "$output" '^<restore>$'
	has "$output" "^<--image-path=/proc/self/fd/[0-9]+>\$"
	has "$output" "^$START:$START\$"
	audited '.verb == "restore" and .decision == "granted" and .rootfs == "idmap"'
}
