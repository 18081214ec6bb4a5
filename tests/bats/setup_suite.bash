# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

# The suite runs as root with real namespaces, users and a book in /etc. So that
# a test can do its worst and the machine is as it was, even after SIGKILL, each
# file of tests runs in a sandbox (sandbox.sh). bats starts a file by the command
# bats-exec-file, which this function stands before.
#
# Tests of engines, which load engines.bash, have a network of their own too.
#
# Under nohup(1) SIGHUP is ignored, in containers as well, where no shell can trap it then.
bats-exec-file() {
	local arg net=() dir
	for arg; do
		if [[ $arg == *.bats ]] && grep -q '^load engines$' "$arg"; then
			net=(--net)
		fi
	done
	# bats names its files by the number of the process, which in the sandboxes is the same.
	dir=$(mktemp -d "$BATS_RUN_TMPDIR/XXXX")
	UR_NET=${net[*]} BATS_RUN_TMPDIR=$dir env --default-signal=HUP unshare --mount --pid "${net[@]}" --fork --kill-child --propagation slave -- \
		"$UR_BATS_DIR/sandbox.sh" "$BATS_LIBEXEC/bats-exec-file" "$@"
}
# With --jobs it is parallel(1) that calls it, by a shell of its own.
export -f bats-exec-file
export PARALLEL_SHELL=$BASH

setup_suite() {
	UR_BATS_DIR=$(cd "$(dirname "$BATS_TEST_FILENAME")" && pwd)
	TREE=$(cd "$UR_BATS_DIR/../.." && pwd)
	export UR_BATS_DIR TREE
	export OURS=${OURS:-$TREE/bin/userns-runtime} CTL=${CTL:-$TREE/bin/usernsctl} USERNS=${USERNS:-$TREE/bin/userns} RUNC=${RUNC:-$TREE/bin/runc}

	local program
	for program in "$OURS" "$CTL" "$USERNS" "$RUNC"; do
		if [[ ! -x $program ]]; then
			echo "$program isn't there: run \`make build\` first"
			return 1
		fi
	done
	for program in jq busybox unshare setpriv script useradd go; do
		if ! command -v "$program" >/dev/null; then
			echo "$program isn't installed: see CONTRIBUTING.md for the packages that the tests need"
			return 1
		fi
	done
	if ((EUID != 0)); then
		echo "the suite has to run as root: sudo bats tests/bats"
		return 1
	fi

	# Each takes a second or two; one that hangs has failed.
	export BATS_TEST_TIMEOUT=${BATS_TEST_TIMEOUT:-90}

	# What every test copies: a bundle that runc spec wrote, on busybox.
	UR_TEMPLATE=$BATS_SUITE_TMPDIR/bundle
	UR_HELPERS=$BATS_SUITE_TMPDIR/bin
	export UR_TEMPLATE UR_HELPERS
	make_template
	mkdir "$UR_HELPERS"
	(cd "$TREE" && CGO_ENABLED=0 go build -o "$UR_HELPERS/" ./tests/cmd/...)
	make_images
}

# make_images: those of the engines, which are kept for other days, so that no
# test spends its time on it. Where one can't be had, its tests say so.
make_images() {
	(
		# shellcheck source=tests/bats/engines.bash
		source "$UR_BATS_DIR/engines.bash"
		engine_image busybox
		engine_image debian
	) >/dev/null || true
}

make_template() {
	local rootfs=$UR_TEMPLATE/rootfs applet
	# All that runc makes itself when it isn't there, so that a bundle is the
	# same after a run as before.
	mkdir -p "$rootfs"/{bin,dev,etc,proc,root,run,sys,tmp,usr,var}
	chmod 1777 "$rootfs/tmp"
	cp "$(command -v busybox)" "$rootfs/bin/busybox"
	# What tests call; a bundle is copied for each of them.
	for applet in awk basename cat chmod chown cut echo env false find grep head hostname id kill ln ls \
		mkdir mount mv paste printf ps pwd readlink rm sed setsid sh sleep sort stat stty su tail test \
		touch tr true tty umount wc; do
		ln -s busybox "$rootfs/bin/$applet"
	done
	printf '%s\n' root:x:0:0:root:/root:/bin/sh user:x:1000:1000::/:/bin/sh >"$rootfs/etc/passwd"
	printf '%s\n' root:x:0: user:x:1000: >"$rootfs/etc/group"
	(cd "$UR_TEMPLATE" && "$RUNC" spec)
	jq '.process.terminal = false | .process.args = ["true"] | .root.readonly = false' \
		"$UR_TEMPLATE/config.json" >"$UR_TEMPLATE/new.json"
	mv "$UR_TEMPLATE/new.json" "$UR_TEMPLATE/config.json"
	chmod 0644 "$UR_TEMPLATE/config.json"
}
