# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

# The low-level runtimes that were measured: our own runc, Debian's runc 1.1.5, and crun.

OLD=/usr/sbin/runc
CRUN=/usr/bin/crun

setup_file() {
	# crun doesn't run beside a cgroup2 on hosts with the old cgroups: neither by itself.
	if [[ -d /sys/fs/cgroup/unified ]]; then
		umount -l /sys/fs/cgroup/unified 2>/dev/null || true
		# What crun makes there all the same stays in the sandbox.
		mount -t tmpfs tmpfs /sys/fs/cgroup/unified
	fi
	# crun makes a directory of its own whenever it is called.
	"$CRUN" --version >/dev/null 2>&1 || true
}

eval "$(declare -f teardown | sed '1s/teardown/common_teardown/')"

teardown() {
	[[ $(stat -f -c %T /sys/fs/cgroup/unified) != tmpfs ]] || rm -rf "/sys/fs/cgroup/unified/"*"$UR_TAG"*
	common_teardown
}

# lows: those that this machine has. Our own is there in any case.
lows() {
	echo "$RUNC"
	[[ $("$OLD" --version 2>/dev/null | head -n 1) =~ ^runc\ version\ 1\.1\. ]] && echo "$OLD"
	[[ $("$CRUN" --version 2>/dev/null | head -n 1) =~ ^crun\ version\ 1\. ]] && echo "$CRUN"
	true
}

# both: skips, unless there are all of them.
all_three() { (($(lows | wc -l) == 3)) || skip "needs /usr/sbin/runc 1.1 and /usr/bin/crun 1.8"; }

# with LOW [LINE...]: as the low-level runtime, and as what plain calls.
with() {
	local low=$1
	shift
	echo "# $low"
	RUNTIMES="\"$low\"" config "$@"
	plain_cmd=("$low" --root "$W/plain")
}

# crun 1.8 doesn't know later versions of the specification.
setup_version() { update_config '.ociVersion = "1.0.2"'; }

each() {
	local low
	setup_version
	for low in $(lows); do
		with "$low"
		"$@"
	done
}
