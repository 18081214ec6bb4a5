# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

# What the tests of engines share, beside helpers.bash: images, waiting, and
# listings of what is on disk. A file that says `load engines` runs in a network
# namespace of its own (setup_suite.bash looks for that line), since engines make
# bridges and rules of iptables.
#
# Such a file starts its engine in setup_file and keeps its process by `keep`.
# Engines call the runtime by themselves, so the configuration is the one that
# they all read, CONF in /etc; what a test means by `config` is this file.

ENGINE_CONF=/etc/userns-runtime/config.toml
ENGINE_IMAGES=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/userns-runtime/images
# The upper limit of waiting for an engine; a machine may be slow.
ENGINE_PATIENCE=30

# --- around each test

# Those of helpers.bash, which a file of engine tests replaces by its own.
if declare -F snapshot >/dev/null; then
	eval "helpers_$(declare -f setup)"
	eval "helpers_$(declare -f teardown)"
	eval "helpers_$(declare -f snapshot)"
fi

# engine_setup: setup of helpers.bash, with the configuration in /etc.
engine_setup() {
	helpers_setup || return
	is_fit || skip "$(<"$BATS_FILE_TMPDIR/unfit")"
	CONF=$ENGINE_CONF
	mkdir -p "${CONF%/*}"
	config
	spare_kept
}

# keep NAME PID...: a process that is there for the whole file, which the
# clean-up after a failed test leaves alone, with its children.
keep() {
	local name=$1
	shift
	printf '%s\n' "$@" >"$BATS_FILE_TMPDIR/$name.pids"
}

kept() { cat "$BATS_FILE_TMPDIR/$1.pids"; }

# spare_kept: clean_up reads this file for what isn't the test's.
spare_kept() {
	cat "$BATS_FILE_TMPDIR"/*.pids >>"$W/.jobs" 2>/dev/null || true
}

# end NAME [SIGNAL]: ends what was kept, and waits for it.
end() {
	local pid
	for pid in $(kept "$1"); do
		kill -s "${2:-TERM}" "$pid" 2>/dev/null || true
		patiently ended "$pid" || kill -KILL "$pid" 2>/dev/null || true
	done
	rm -f "$BATS_FILE_TMPDIR/$1.pids"
}

# A zombie has ended, whoever is to reap it.
ended() { ! grep -q '^State:[[:space:]][^Z]' "/proc/$1/status"; }

# patiently COMMAND...: as eventually, for what an engine does.
patiently() {
	local until=$((SECONDS + ENGINE_PATIENCE))
	while ((SECONDS <= until)); do
		"$@" >/dev/null 2>&1 && return
		sleep 0.05
	done
	echo "after $ENGINE_PATIENCE s still false: $*"
	return 1
}

# unfit WHY: in setup_file, where bats knows no skip: every test of the file is
# skipped for that reason, by engine_setup. Call it as `unfit WHY || return 0`.
unfit() {
	echo "$1" >"$BATS_FILE_TMPDIR/unfit"
	return 1
}

is_fit() { [[ ! -f $BATS_FILE_TMPDIR/unfit ]]; }

# needs PROGRAM...: unfit where an engine isn't installed. `needs ... || return 0`.
needs() {
	local program
	for program; do
		command -v "$program" >/dev/null || unfit "$program isn't installed" || return
	done
}

# --- images

# engine_image busybox|debian: the path of a tar of that root filesystem. It is
# made once and kept in the cache, under a name that changes with its recipe.
# busybox is the static program and its applets; debian is a minimal bookworm
# with what the tests call, and /usr/local/bin/mapped, which writes a file
# through a shared mapping.
engine_image() {
	local name=$1 tar new status=0
	tar=$ENGINE_IMAGES/$name-$(declare -f "engine_recipe_$name" | sha256sum | cut -c1-12).tar
	if [[ ! -f $tar ]]; then
		mkdir -p "$ENGINE_IMAGES"
		new=$(mktemp -d "$ENGINE_IMAGES/new.XXXXXX") || return
		chmod 0711 "$new"
		# In namespaces of its own, so that an interrupted debootstrap leaves no
		# mount. set -e is lost where somebody looks at the status; hence a bash.
		(
			eval "recipe=\$(declare -f engine_recipe_$name)"
			unshare --mount --pid --fork --kill-child bash -c "
				set -e
				mount -t proc proc /proc
				$recipe
				engine_recipe_$name '$new/root'" >"$new/log" 2>&1
		) && tar -C "$new/root" --numeric-owner --xattrs --acls --sort=name -cf "$new/tar" . &&
			mv "$new/tar" "$tar" || status=$?
		if ((status)); then
			tail -n 20 "$new/log" >&2
			echo "the image $name can't be made" >&2
		fi
		rm -rf "$new"
	fi
	((status == 0)) && echo "$tar"
}

engine_recipe_busybox() {
	umask 022
	mkdir -p "$1"/{bin,dev,etc,home/user,proc,root,run,sys,tmp,usr/bin,usr/sbin,sbin,var}
	chmod 1777 "$1/tmp"
	chmod 0700 "$1/root"
	cp "$(command -v busybox)" "$1/bin/busybox"
	chroot "$1" /bin/busybox --install -s
	printf '%s\n' root:x:0:0:root:/root:/bin/sh user:x:1000:1000::/home/user:/bin/sh >"$1/etc/passwd"
	printf '%s\n' root:x:0: user:x:1000: extra:x:2000:user >"$1/etc/group"
	chown 1000:1000 "$1/home/user"
}

engine_recipe_debian() {
	umask 022
	debootstrap --variant=minbase --include=adduser,libcap2-bin,acl,attr,util-linux,perl-base,login,passwd \
		bookworm "$1" "${UR_MIRROR:-http://deb.debian.org/debian}"
	rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/usr/share/{doc,man,locale,info,zoneinfo} \
		"$1"/var/log/* "$1"/debootstrap "$1"/proc/* "$1"/sys/*
	: >"$1/etc/resolv.conf"
	useradd --root "$1" --create-home --shell /bin/bash user
	cat >"$1/mapped.c" <<-'C'
		#include <fcntl.h>
		#include <string.h>
		#include <sys/mman.h>
		#include <unistd.h>

		int main(int argc, char **argv)
		{
			int fd = open(argv[1], O_RDWR | O_CREAT, 0644);
			char *p;

			if (argc != 3 || fd < 0 || ftruncate(fd, 65536))
				return 1;
			p = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
			if (p == MAP_FAILED)
				return 2;
			strcpy(p + 40000, argv[2]);
			return msync(p, 65536, MS_SYNC) || munmap(p, 65536);
		}
	C
	gcc -static -O2 -o "$1/usr/local/bin/mapped" "$1/mapped.c"
	rm "$1/mapped.c"
}

# --- what is on disk

# listing DIR [BELOW]: everything of each file below DIR but times, inode numbers,
# and the sizes that filesystems give directories: type, mode, owners, size or
# device numbers, symlink, content, which names are one file, all xattrs. Whiteouts
# are links to one that the kernel keeps in its work directory for a while, so they
# aren't counted.
#
# BELOW is the directory of lower layers that belong to one container only (Docker's
# -init layer). trusted.overlay.origin of what was copied up from there names an
# inode of it, which two containers can't have in common; only its length is shown.
listing() {
	python3 - "$@" <<-'PYTHON'
		import hashlib, os, stat, sys

		top = os.fsencode(sys.argv[1])
		below = os.fsencode(sys.argv[2]) if len(sys.argv) > 2 else None
		first = {}

		def show(path, name):
		    s = os.lstat(path)
		    kind = {stat.S_IFDIR: "dir", stat.S_IFREG: "file", stat.S_IFLNK: "link", stat.S_IFCHR: "char",
		            stat.S_IFBLK: "block", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "sock"}[stat.S_IFMT(s.st_mode)]
		    out = [os.fsdecode(name), kind, "%04o" % stat.S_IMODE(s.st_mode), "%d:%d" % (s.st_uid, s.st_gid)]
		    if kind == "file":
		        with open(path, "rb") as f:
		            out += [str(s.st_size), hashlib.sha256(f.read()).hexdigest()[:16]]
		    if kind == "link":
		        out.append("-> " + os.fsdecode(os.readlink(path)))
		    if kind in ("char", "block"):
		        out.append("%d,%d" % (os.major(s.st_rdev), os.minor(s.st_rdev)))
		    if kind != "dir" and not (kind == "char" and s.st_rdev == 0) and s.st_nlink > 1:
		        out.append("%d names, first %s" % (s.st_nlink, os.fsdecode(first.setdefault(s.st_ino, name))))
		    for x in sorted(os.listxattr(path, follow_symlinks=False)):
		        value = os.getxattr(path, x, follow_symlinks=False).hex()
		        if x == "trusted.overlay.uuid":
		            value = "random"
		        if x == "trusted.overlay.origin" and below and os.path.lexists(os.path.join(below, name)):
		            value = "%d bytes" % (len(value) // 2)
		        out.append(x + "=" + value)
		    print(" ".join(out))

		show(top, b".")
		for at, dirs, files in os.walk(top):
		    dirs.sort()
		    for n in sorted(dirs + files):
		        path = os.path.join(at, n)
		        show(path, os.path.relpath(path, top))
	PYTHON
}

# tar_listing FILE: the members of a tar, with all but their times.
tar_listing() {
	python3 - "$1" <<-'PYTHON'
		import hashlib, sys, tarfile

		with tarfile.open(sys.argv[1]) as t:
		    for m in t:
		        data = hashlib.sha256(t.extractfile(m).read()).hexdigest()[:16] if m.isreg() else ""
		        x = {k: v for k, v in m.pax_headers.items() if not k.endswith("time")}
		        print(m.name, m.type.decode(), "%04o" % m.mode, "%d:%d" % (m.uid, m.gid), m.uname, m.gname,
		              m.size, m.linkname, m.devmajor, m.devminor, data, sorted(x.items()))
	PYTHON
}

# unshifted DIR: nothing below belongs to an ID of a range, by owner or group,
# nor by an access list.
unshifted() {
	is "" "$(find "$1" '(' -uid +65535 -o -gid +65535 ')' -printf '%p %U:%G\n' | head)" "of a range's IDs below $1" &&
		is "" "$(getfacl -R -n -p -s "$1" 2>/dev/null | grep -E '^(default:)?(user|group):[0-9]{6,}:' | head)" "access lists below $1"
}

# limitless PATH: makes PATH a runtime that is ours, but that on a machine whose root hasn't got
# CAP_SYS_RESOURCE the engine's limits of processes are taken out before it: nobody else
# than the owner of a user namespace could set them there.
limitless() {
	cat >"$1" <<-EOF
		#!/bin/bash
		caps=0x\$(awk '/^CapEff/ {print \$2}' /proc/self/status)
		for word; do
			case \$before in
			--bundle) file=\$word/config.json what=.process.rlimits ;;
			--process) file=\$word what=.rlimits ;;
			esac
			before=\$word
		done
		if [[ -n \$file ]] && ! ((caps >> 24 & 1)); then
			without=\$(jq -c "del(\$what)" "\$file") && printf '%s' "\$without" >"\$file"
		fi
		exec "$OURS" "\$@"
	EOF
	chmod 0755 "$1"
}
