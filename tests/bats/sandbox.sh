#!/bin/bash
# SPDX-License-Identifier: Apache-2.0

# sandbox.sh COMMAND...: runs it where nothing it does reaches the machine. It is
# process 1 of a PID namespace, in a mount namespace of its own:
#
#   /etc      an overlay: the book, the configuration and the users of a test
#   /run      empty, as after a boot
#   /srv      the directory of bats, and nothing else, where it is bats that runs the command
#   /var/log  empty
#   /var/lib/userns-runtime  empty
#   /proc     of the new PID namespace; all processes in it end with this one
#   /sys      of the new network namespace, where UR_NET says that there is one
#
# Mounts are shared, as systemd has them on most hosts, so a mount that isn't
# kept private shows up in the mount table that the tests look at.
set -e

mount --make-rshared /
# Made shared, it is one more peer group below the host's: nothing goes out.
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -m 0700 /run/sandbox
mkdir /run/sandbox/upper /run/sandbox/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/sandbox/upper,workdir=/run/sandbox/work overlay /etc
mount -t tmpfs -o mode=0755 tmpfs /var/log
# Where owners that were changed on disk are remembered.
mkdir -p /var/lib/userns-runtime
mount -t tmpfs -o mode=0755 tmpfs /var/lib/userns-runtime
mount -t proc proc /proc
rm -rf /etc/usernamespaces /etc/usernamespaces.d /etc/userns-runtime
if [[ -n ${UR_NET:-} ]]; then
	ip link set lo up
	# A sysfs shows the interfaces of the namespace it was mounted in. The cgroups
	# below are taken along; were the copy shared, they would go with the first.
	mkdir /run/sandbox/cgroup
	mount --rbind /sys/fs/cgroup /run/sandbox/cgroup
	mount --make-rprivate /run/sandbox/cgroup
	umount --recursive --lazy /sys
	mount -t sysfs sysfs /sys
	mount --rbind /run/sandbox/cgroup /sys/fs/cgroup
	umount --recursive --lazy /run/sandbox/cgroup
	mount --make-rshared /sys
fi
umask 022

# No file's tests open a directory for others that is above those of another file: chown.bats does, and Podman.
# A sandbox of the matrix, which may be in one of bats, has its own elsewhere.
if [[ -n ${BATS_RUN_TMPDIR:-} && $BATS_RUN_TMPDIR != /srv/bats ]]; then
	mount -t tmpfs -o mode=0700 tmpfs /srv
	mkdir -m 0700 /srv/bats
	mount --bind "$BATS_RUN_TMPDIR" /srv/bats
	mount --make-private /srv/bats # what is mounted in it isn't at its old place too
	mount --make-shared /srv/bats
	export BATS_RUN_TMPDIR=/srv/bats
fi

# Containers are known by it in the host's cgroups, where others may run some.
UR_TAG=urt-$(od -An -N4 -tx4 /dev/urandom | tr -d ' ')
export UR_TAG UR_SANDBOX=1
unset XDG_RUNTIME_DIR NOTIFY_SOCKET LISTEN_FDS LISTEN_PID

# Not exec: process 1 has to reap what containers leave to it.
status=0
"$@" || status=$?

# A namespace ends with its processes, a cgroup doesn't; nor do those that an
# engine made below it.
if (($$ == 1)); then
	kill -KILL -1 2>/dev/null || true # where none is left, it says so
fi
sleep 0.1
find /sys/fs/cgroup -depth -type d -path "*$UR_TAG*" -exec rmdir {} + 2>/dev/null || true
exit "$status"
