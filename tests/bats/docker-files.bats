#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# What a Debian system does with its files under dockerd, beside plain runc: what
# it says, and what is on disk then, byte for byte.

load helpers
load engines
load docker

setup_file() { docker_file debian busybox; }
teardown_file() { docker_down; }
setup() { docker_setup; }
teardown() { docker_teardown; }

# inside COMMANDS: both containers run them as root, with the same end and output;
# what they wrote is the same on disk.
inside() {
	in_both bash -ec "$1"
	same_upper
}

@test "docker files: adduser, passwd and su" {
	both debian sleep 1000
	# The shadow file has the day in it, and a salt.
	in_both bash -ec 'adduser --disabled-password --gecos "" eve && addgroup staffers && adduser eve staffers && id eve
		stat -c "%n %a %U:%G" /home/eve /home/eve/.bashrc /etc/shadow /etc/passwd'
	in_both bash -ec 'su - eve -c "id; pwd; touch mine; umask; stat -c %U:%G mine" && su user -c "id; touch /tmp/by-user" && su -s /bin/sh nobody -c id'
	in_both bash -ec 'useradd -u 54321 -m frank && chage -d 2020-01-01 frank && chage -d 2020-01-01 eve && usermod -p "*" frank && stat -c %u:%g /home/frank && ls /var/mail'
	in_both bash -c 'su user -c "cat /etc/shadow; touch /etc/x; kill -9 1; chown 0 /tmp/by-user; id" 2>&1; true'
	has "$output" 'Permission denied'
	inside 'userdel -r eve; deluser frank; find / -xdev -nouser -o -xdev -nogroup | sort'
}

@test "docker files: dpkg -i, -r and a diversion" {
	local p=$W/package runtime
	mkdir -p "$p/DEBIAN" "$p/usr/bin" "$p/etc" "$p/var/lib/thing" "$p/usr/share/thing/a/b"
	printf 'Package: thing\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: a thing\n' >"$p/DEBIAN/control"
	echo /etc/thing.conf >"$p/DEBIAN/conffiles"
	cat >"$p/DEBIAN/postinst" <<-'SH'
		#!/bin/sh
		set -e
		chown user:games /var/lib/thing
		chmod 2775 /var/lib/thing
		setcap cap_net_raw+ep /usr/bin/thing
		dpkg-statoverride --update --add root mail 4750 /usr/bin/other || true
	SH
	chmod 0755 "$p/DEBIAN/postinst"
	echo setting >"$p/etc/thing.conf"
	cp /bin/true "$p/usr/bin/thing"
	cp /bin/false "$p/usr/bin/other"
	chmod 4755 "$p/usr/bin/other"
	ln "$p/usr/bin/thing" "$p/usr/bin/thing2"
	echo deep >"$p/usr/share/thing/a/b/c"
	chown -R 0:0 "$p"
	chown 1000:8 "$p/usr/share/thing/a/b/c"
	dpkg-deb -b "$p" "$W/thing.deb" >/dev/null
	both debian sleep 1000
	for runtime in plain ours; do docker cp "$W/thing.deb" "$runtime:/tmp/"; done
	in_both bash -c 'dpkg -i /tmp/thing.deb 2>&1; stat -c "%n %a %U:%G %h" /usr/bin/thing* /usr/bin/other /var/lib/thing /usr/share/thing/a/b/c; getcap /usr/bin/thing; dpkg -V thing'
	has "$output" 'thing cap_net_raw=ep'
	in_both bash -c 'dpkg-divert --rename --divert /usr/bin/real-id --add /usr/bin/id && ls /usr/bin/*id && dpkg -r thing 2>&1 && dpkg -l thing | tail -n 1; ls -d /usr/share/thing /etc/thing.conf 2>&1; true'
	# dpkg's log has times.
	in_both bash -c 'rm -f /var/log/dpkg.log /var/log/alternatives.log'
	same_upper
}

@test "docker files: chown, chmod, and everything about owners" {
	both debian sleep 1000
	inside 'cd /root; for id in 0 1 1000 54321 65534 65535; do touch f$id; chown $id:$id f$id; mkdir d$id; chown $id d$id; ln -s f$id l$id; chown -h $id:$id l$id; done
		chown -R user:mail /usr/share/base-files /etc/default; chmod -R g+ws /usr/share/base-files; chmod 6755 /bin/ls; chmod 1777 d1
		chown user /bin/ls; stat -c "%n %a %u:%g" /bin/ls * ; chgrp 42 /etc/passwd; chmod 0 /etc/hostname /etc/issue; cat /etc/issue | wc -l'
}

@test "docker files: rename of directories, whiteouts, opaque directories" {
	both debian sleep 1000
	inside 'mv /usr/share/perl5 /usr/share/perl6 && ls /usr/share/perl6 | wc -l && mv /etc/apt /etc/tpa && mv /etc/tpa /etc/apt && mv /etc/skel /tmp/ && mv /tmp/skel /srv/
		rm -r /usr/share/base-files && mkdir /usr/share/base-files && touch /usr/share/base-files/only && ls -A /usr/share/base-files
		rm /etc/issue && ln -s issue.net /etc/issue && rm /bin/dir; rmdir /home/user/nothing 2>&1 || true
		mkdir /etc/issue.d; rmdir /etc/issue.d; mv /usr/bin/tac /usr/bin/tac2; mv -n /usr/bin/tac2 /usr/bin/wc; mv /usr/bin/head /usr/bin/tail; ls /opt /srv /srv/skel -A'
	# Those were made by the kernel, for whom it is a matter of the layers' owners.
	find "$(upper ours)" -type c | grep -q .
	getfattr -hRd -m 'trusted.overlay.(opaque|redirect)' "$(upper ours)" 2>/dev/null | grep -q overlay
	did restart -t 0 NAME
	inside 'ls /usr/share/perl6 | wc -l; ls -A /usr/share/base-files /srv/skel; readlink /etc/issue; ls /usr/share/perl5 2>&1 || true'
}

@test "docker files: hard links, also to files of the image" {
	both debian sleep 1000
	inside 'cd /root; echo x >a; ln a b; ln b c; rm a; chown 5 c; ln /bin/cat /root/cat; echo "#" >>/root/cat; cmp /root/cat /bin/cat && stat -c "%h %u" /bin/cat c
		ln /bin/ls /bin/ls2; rm /bin/ls2; ln -P /etc/os-release /root/os; ln /etc/passwd /etc/passwd.link; useradd -M linked 2>&1; rm /etc/passwd.link; usermod -p x linked; chage -d 2020-01-01 linked
		cp -al /usr/share/perl5 /root/perl5 && stat -c %h /root/perl5/* | sort | uniq -c; su user -c "ln /root/c /tmp/hard" 2>&1 | grep -c Permission'
}

@test "docker files: file capabilities, access lists and other attributes" {
	both debian sleep 1000
	inside 'cd /root; cp /bin/cat c1; setcap cap_net_raw,cap_chown+ep c1; getcap c1; setcap cap_sys_admin+eip /usr/bin/tail; getcap /usr/bin/tail; setcap -r /usr/bin/tail
		cp -a c1 c2; cp --preserve=all c1 c3; getcap c2 c3; cp c1 c4; getcap c4; chown 7 c2; getcap c2
		touch f; setfacl -m u:user:rw,g:mail:r,u:65535:x f; getfacl -n f; mkdir d; setfacl -d -m u:1000:rwx,g:54321:rx d; touch d/f; mkdir d/d; getfacl -nR d
		setfacl -m u:user:r /etc/shadow; su user -c "head -c 4 /etc/shadow"; setfacl -b f; cp -a d e; getfacl -n e/f
		setfattr -n user.colour -v blue f; setfattr -n user.x -v y d; getfattr -d -m - f d; setfattr -n trusted.x -v y f 2>&1 || true'
	# Given by the container's root, it holds in its own namespace only.
	in_both bash -ec 'cp /usr/bin/stat /usr/local/bin/stat2; setcap cap_dac_override+ep /usr/local/bin/stat2; chmod 0700 /root; su user -c "stat2 -c %n /root/f"'
	is /root/f "$output"
	same_upper
	has "$(getfattr -e hex -n security.capability "$(upper ours)/root/c1")" 'security.capability=0x01000002'
}

@test "docker files: setuid and setgid programs" {
	both debian sleep 1000
	inside 'cp /usr/bin/id /usr/local/bin/id-root; chmod 4755 /usr/local/bin/id-root; cp /usr/bin/id /usr/local/bin/id-mail; chgrp mail /usr/local/bin/id-mail; chmod 2755 /usr/local/bin/id-mail
		cp /usr/bin/id /usr/local/bin/id-user; chown user /usr/local/bin/id-user; chmod 4755 /usr/local/bin/id-user
		su user -c "id-root; id-mail"; id-user; su nobody -s /bin/sh -c "id-user; id-root"
		su user -c "passwd -S user | cut -c 1-4; mount 2>&1 | head -c 0; newgrp user </dev/null; touch /tmp/u; chmod 4755 /tmp/u; stat -c %a /tmp/u"'
	has "$output" 'uid=1000\(user\) gid=1000\(user\) euid=0\(root\)'
	did exec -u 1000 NAME id-root
	did exec -u 1000 --privileged=false NAME bash -c 'id-mail; cp /usr/local/bin/id-root /tmp/mine; chmod 4755 /tmp/mine; /tmp/mine'
}

@test "docker files: sockets, FIFOs, devices, locks and mappings" {
	both debian sleep 1000
	inside 'cd /root; perl -MSocket -e "socket(S, PF_UNIX, SOCK_STREAM, 0) or die; bind(S, pack_sockaddr_un(q(/root/sock))) or die \$!; listen(S, 5) or die;
			if (!fork) { socket(C, PF_UNIX, SOCK_STREAM, 0); connect(C, pack_sockaddr_un(q(/root/sock))) or die \$!; syswrite(C, qq(over the socket\n)); exit }
			accept(A, S) or die; print scalar <A>; wait"; stat -c "%F %a %u" sock; chown user sock
		mkfifo fifo; (echo through the fifo >fifo &); cat fifo; chown 33:33 fifo
		exec 9>lock; flock -n 9; flock -n lock true || echo held; exec 9>&-; flock -n lock echo free; flock -x /etc/passwd echo of the image
		mapped new text; strings -n 3 new 2>/dev/null || tr -d "\\0" <new; echo; cp /usr/share/base-files/motd m; mapped /usr/share/base-files/motd changed; tr -d "\\0" </usr/share/base-files/motd; echo
		truncate -s 10M sparse; echo end >>sparse; fallocate -l 1M full; stat -c "%n %s" sparse full; dd if=/dev/urandom bs=1M count=4 2>/dev/null | tee r1 >r2; cmp r1 r2; rm r1 r2'
	has "$output" 'over the socket'
	has "$output" '^held$'
	has "$output" 'through the fifo'
}

@test "docker files: what root of a user namespace can't do, as it can't anywhere" {
	both debian sleep 1000
	# Device nodes.
	try docker exec ours mknod /root/null c 1 3
	is 1 "$status"
	has "$errput" 'Operation not permitted'
	is "" "$(find "$(upper ours)" -type c -o -type b)"
	# Writing to a setuid program of another user and leaving it one: the kernel
	# asks for CAP_FSETID on the host (should_remove_suid). Under plain runc it stays.
	docker exec ours bash -ec 'cp /usr/bin/id /root/id-user; chown user /root/id-user; chmod 4755 /root/id-user; echo x >>/root/id-user'
	is 755 "$(docker exec ours stat -c %a /root/id-user)"
	# An ID that the range doesn't have.
	try docker exec ours chown 65536 /root/id-user
	is 1 "$status"
	has "$errput" 'Invalid argument'
}

@test "docker files: a big rm -rf, and a big tree written" {
	both debian sleep 1000
	inside 'cp -a /usr /usr2 && rm -rf /usr2/share && find /usr2 | wc -l && rm -rf /usr2 /var/lib/dpkg/info /usr/share /usr/lib/python* /etc/apt && ls /usr && find /usr /var | wc -l
		mkdir -p /many && cd /many && for i in {1..30}; do mkdir $i; touch $i/{1..50}; done; chown -R user /many; find /many | wc -l; rm -rf /many/1?; find /many | wc -l'
}

@test "docker files: named and anonymous volumes, shared by two containers" {
	local v
	room 2 # so what they share, they share across ranges
	for v in plain ours; do docker volume create "data-$v" >/dev/null; done
	# What the image has there goes into a new volume, with its owners.
	alike run -d --name NAME --hostname box --runtime NAME -v data-NAME:/etc/skel -v /home/user -v data-NAME:/again:ro debian sleep 1000
	is 0 "$status"
	shifted ours
	in_both bash -ec 'cd /etc/skel; ls -A; touch by-root; mkdir d; chown user:mail d; su user -c "touch d/by-user"; setfacl -m u:user:r by-root; cp /bin/cat cat; chmod 4755 cat; setcap cap_net_raw+ep cat; mkfifo fifo
		stat -c "%n %a %U:%G" * d/*; touch /home/user/x; stat -c "%a %U:%G" /home/user /home/user/x; ls /again | wc -l; touch /again/x 2>&1 || true'
	is "$(listing "$(volume data-plain)")" "$(listing "$(volume data-ours)")" "the volume on disk, runc's first"
	unshifted "$(volume data-ours)"
	is "0:0 1000:8 1000:1000" "$(cd "$(volume data-ours)" && stat -c %u:%g by-root d d/by-user | paste -sd' ')"
	# The other one sees it, in its turn, and so do those of --volumes-from.
	alike run --rm --runtime NAME -v data-NAME:/v busybox sh -c 'cd /v; stat -c "%n %a %u:%g" * d/*; echo more >>d/by-user; chown 7:7 by-root; mv d moved; cat moved/by-user'
	is 0 "$status"
	in_both stat -c '%n %u:%g' /etc/skel/by-root /etc/skel/moved /again/moved
	did run --rm --runtime NAME --volumes-from NAME busybox sh -c 'stat -c "%n %u:%g" /etc/skel/* /home/user/x; echo y >/home/user/y; id'
	in_both cat /home/user/y
	# One made under the other runtime.
	must docker run --rm --runtime ours -v data-plain:/v busybox sh -c 'cat /v/moved/by-user; echo last >/v/last; stat -c %u:%g /v/last /v/by-root'
	is $'more\n0:0\n7:7' "$output"
	unshifted "$(volume data-plain)"
	did rm -fv NAME
	docker volume rm data-plain data-ours
}

@test "docker files: volumes with drivers' options, and copies from the image" {
	docker volume create -o type=tmpfs -o device=tmpfs -o o=size=1m,uid=1000,mode=0750 ram >/dev/null
	ran -v ram:/v busybox sh -c 'stat -c "%a %u:%g" /v; df -k /v | tail -n 1 | awk "{print \$2}"; touch /v/f && stat -c %u:%g /v/f; chown 33 /v/f && stat -c %u:%g /v/f; su user -c "touch /v/g" && stat -c %u:%g /v/g'
	docker volume rm ram
	ran --mount type=volume,dst=/etc busybox sh -c 'stat -c "%n %u:%g" /etc/passwd /etc; touch /etc/new && stat -c %u:%g /etc/new'
	ran --mount type=volume,src=ro,dst=/v,readonly busybox sh -c 'touch /v/x; ls /v; mount -o remount,rw /v; true'
	ran --mount type=tmpfs,dst=/t,tmpfs-mode=0711,tmpfs-size=1m busybox sh -c 'stat -c "%a %u:%g" /t; echo x >/t/x; stat -c %u:%g /t/x'
	same_docker --cap-add SYS_ADMIN --mount type=volume,src=ro,dst=/v,readonly busybox sh -c 'touch /v/x'
	# Read-only is for good, whatever capabilities root inside has.
	try docker run --rm --runtime ours --cap-add SYS_ADMIN --security-opt seccomp=unconfined --mount type=volume,src=ro,dst=/v,readonly busybox \
		sh -c 'mount -o remount,rw,bind /v; mount -o remount,rw /v; touch /v/x && echo written'
	[[ $output != *written* ]]
	is "" "$(ls "$(volume ro)")"
	docker volume rm ro
}
