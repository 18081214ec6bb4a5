# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

# The image of real services, beside those of tests/bats/engines.bash, which makes
# it once and keeps it: what Debian's packages need of a container (users of their own,
# sockets, shared memory, setuid programs, a toolchain) is what no test thinks of.

engine_recipe_services() {
	umask 022
	debootstrap --variant=minbase \
		--include=adduser,passwd,procps,iproute2,nginx-light,postgresql,redis-server,openssh-server,openssh-client,cron,gcc,libc6-dev,make,python3,sudo,curl \
		bookworm "$1" "${UR_MIRROR:-http://deb.debian.org/debian}"
	# PostgreSQL goes without its compiler of queries, which is half of the image.
	rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/usr/share/{doc,man,locale,info,zoneinfo} \
		"$1"/usr/lib/x86_64-linux-gnu/libLLVM* "$1"/usr/lib/postgresql/*/lib/{llvmjit.so,bitcode} \
		"$1"/var/log/* "$1"/debootstrap "$1"/proc/* "$1"/sys/* "${1:?}"/dev/*
	mkdir -p "$1"/var/log/{nginx,redis,postgresql} "$1/run/sshd"
	chroot "$1" chown www-data:adm /var/log/nginx
	chroot "$1" chown redis:adm /var/log/redis
	chroot "$1" chown root:postgres /var/log/postgresql
	chmod 1775 "$1/var/log/postgresql"
	: >"$1/etc/resolv.conf"
	useradd --root "$1" --create-home --shell /bin/bash user
	echo 'user ALL=(ALL) NOPASSWD: ALL' >"$1/etc/sudoers.d/user"
	chmod 0440 "$1/etc/sudoers.d/user"
}
