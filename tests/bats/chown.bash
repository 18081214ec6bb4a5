# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

# What the tests of shift = "chown" share.

JOURNALS=/var/lib/userns-runtime/chown

# rootfs_on KIND: the bundle's root filesystem is moved to one that can't be idmapped.
rootfs_on() {
	mv "$B/rootfs" "$W/tree"
	mkdir "$B/rootfs"
	case $1 in
	ramfs)
		mount -t ramfs ramfs "$B/rootfs"
		cp -a "$W/tree/." "$B/rootfs"
		;;
	overlay)
		mkdir -p "$W"/{lower,upper,work,merged}
		mkdir "$W/lower/rootfs"
		cp -a "$W/tree/." "$W/lower/rootfs"
		mount -t overlay -o "lowerdir=$W/lower,upperdir=$W/upper,workdir=$W/work" overlay "$W/merged"
		mount --bind "$W/merged/rootfs" "$B/rootfs"
		;;
	bindfs)
		bindfs -f -o suid,dev "$W/tree" "$B/rootfs" </dev/null >/dev/null 2>&1 3>&- &
		FUSE=$!
		disown
		eventually mountpoint -q "$B/rootfs"
		;;
	esac
	chmod 0755 "$B/rootfs"
	WRITES=1
	config 'shift = "chown"'
	owners >"$W/.owners"
	bundle_sum >"$W/.bundle"
}

eval "$(declare -f teardown | sed '1s/teardown/common_teardown/')"

teardown() {
	[[ ! -e $W/tree/etc/fixed ]] || chattr -i "$W/tree/etc/fixed"
	umount "$B/rootfs" 2>/dev/null || umount -l "$B/rootfs" 2>/dev/null || true
	umount "$W/merged" 2>/dev/null || true
	[[ -z ${FUSE:-} ]] || eventually eval '! kill -0 $FUSE'
	jobs -p >"$W/.jobs"
	# The root filesystem was unmounted above.
	rm -f "$W/.bundle"
	sed -i "\,$W/,d" "$W/.before"
	local ok=0
	common_teardown || ok=1
	# A test that failed may have left some; one that didn't has looked.
	[[ -n ${BATS_TEST_COMPLETED:-} && -z ${BATS_TEST_SKIPPED:-} ]] || rm -rf "$JOURNALS"
	return "$ok"
}

# owners: of all files, with what a change of the owner takes away.
owners() {
	(
		cd "$B/rootfs" || exit
		# How many names a directory of an overlay has depends on where it is.
		find . -type d -printf '%p %y %m %U:%G %T@\n' -o -printf '%p %y %m %U:%G %s %T@ %n %l\n' | sort
		getfattr -R -h -d -m 'security.capability|posix_acl|user' -e hex . 2>/dev/null
	)
}

restored() {
	owners >"$W/.now"
	diff "$W/.owners" "$W/.now"
	is "" "$(ls -A "$JOURNALS" 2>/dev/null)" "journals"
}
