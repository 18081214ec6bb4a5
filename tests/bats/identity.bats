#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# Who the container's processes and files are, inside and on the host.

load helpers

# host_ids PID FIELD: the numbers of a line of /proc/PID/status, as the host's.
host_ids() { awk -v field="$2:" '$1 == field {$1 = ""; print substr($0, 2)}' "/proc/$1/status"; }

@test "identity: root inside is the first ID of the range, and its map is the range" {
	shell 'cat /proc/self/uid_map /proc/self/gid_map; id -u'
	must ours run -b "$B" "$CT"
	is "0 $START $COUNT/0 $START $COUNT/0" "$(awk '{$1 = $1; print}' <<<"$output" | paste -sd/)"
	up ours
	is "$START $START $START $START" "$(host_ids "$init" Uid)"
	is "$START $START $START $START" "$(host_ids "$init" Gid)"
	must ours exec -d --user 1000:1001 --pid-file "$W/pid" "$CT" sleep 1001
	is $((START + 1000)) "$(host_ids "$(<"$W/pid")" Uid | cut -d' ' -f1)"
	is $((START + 1001)) "$(host_ids "$(<"$W/pid")" Gid | cut -d' ' -f1)"
	maps_are "0:$START:$COUNT" "$(<"$W/pid")"
	down ours
}

@test "identity: the namespace belongs to host root" {
	up ours
	# Only its owner, and root, may write to a file of a process of root inside.
	is 0 "$(python3 -c 'import fcntl, struct, sys
fd = open("/proc/%s/ns/user" % sys.argv[1])
print(struct.unpack("I", fcntl.ioctl(fd, 0xb704, struct.pack("I", 7)))[0])' "$init")"
	[[ $(readlink "/proc/$init/ns/user") != "$(readlink /proc/self/ns/user)" ]]
	down ours
}

@test "identity: files written inside keep their inner IDs on disk" {
	WRITES=1
	caps CAP_CHOWN CAP_FOWNER CAP_FSETID
	shell 'touch /root/r; mkdir /root/d; ln -s x /root/l; touch /tmp/u; chown 1000:1001 /tmp/u
		touch /tmp/s; chown 5:6 /tmp/s; chmod 6755 /tmp/s; stat -c "%n %u:%g %a" /root/r /root/d /root/l /tmp/u /tmp/s'
	must plain run -b "$B" "$CT"
	local want=$output
	rm -r "$B"/rootfs/root/* "$B"/rootfs/tmp/*
	must ours run -b "$B" "$CT"
	is "$want" "$output" "runc's first"
	local path
	for path in root/r root/d root/l; do is 0:0 "$(stat -c %u:%g "$B/rootfs/$path")"; done
	is 1000:1001 "$(stat -c %u:%g "$B/rootfs/tmp/u")"
	is 5:6:6755 "$(stat -c %u:%g:%a "$B/rootfs/tmp/s")"
	is "" "$(find "$B" -uid +65535)"
}

@test "identity: files in the image are seen with the owners that they have" {
	WRITES=1
	touch "$B/rootfs/owned"
	chown 1234:4321 "$B/rootfs/owned"
	shell 'stat -c %u:%g /owned /bin/busybox /'
	same run -b "$B" "$CT"
	has "$output" '^1234:4321$'
}

@test "identity: a file of an ID beyond the range is nobody's inside, and stays" {
	WRITES=1
	touch "$B/rootfs/far"
	chown 100000:100000 "$B/rootfs/far"
	caps CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE
	shell 'stat -c %u:%g /far; chown 0:0 /far 2>/dev/null || echo refused'
	must ours run -b "$B" "$CT"
	is $'65534:65534\nrefused' "$output"
	is 100000:100000 "$(stat -c %u:%g "$B/rootfs/far")"
}

@test "identity: root inside has no right over the host's files" {
	echo secret >"$W/secret"
	chmod 0600 "$W/secret"
	update_config '.mounts += [{destination: "/mnt", source: $w, type: "bind", options: ["bind"]}]' --arg w "$W/secret"
	WRITES=1
	touch "$B/rootfs/mnt"
	caps CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_SYS_ADMIN
	shell 'cat /mnt; echo $?; chown 0:0 /mnt; echo $?; chmod 0777 /mnt; echo $?'
	must ours run -b "$B" "$CT"
	is $'1\n1\n1' "$output"
	is 600:0:0 "$(stat -c %a:%u:%g "$W/secret")"
}

@test "identity: setgroups is allowed unless the line denies it" {
	process cat /proc/self/setgroups
	must ours run -b "$B" "$CT"
	is allow "$output"
	book "dockroot:$START:$COUNT:deny-setgroups"
	must ours run -b "$B" "$CT"
	is deny "$output"
	shell 'cat /proc/self/setgroups; echo allow >/proc/self/setgroups; cat /proc/self/setgroups'
	must ours run -b "$B" "$CT"
	is $'deny\ndeny' "$output"
	# What can't be done there then, and can otherwise.
	caps CAP_SETUID CAP_SETGID
	process su user -c 'id -u'
	try ours run -b "$B" "$CT"
	((status != 0))
	book "dockroot:$START:$COUNT:"
	same run -b "$B" "$CT"
	is 1000 "$output"
}

@test "identity: additionalGids are there without deny-setgroups" {
	update_config '.process.user.additionalGids = [10, 20]'
	ours_cmd=(setpriv "--groups=0,4,27" --regid 0 "${ours_cmd[@]}")
	up ours
	is "$((START + 10)) $((START + 20))" "$(host_ids "$init" Groups)"
	must ours exec -d -g 30 --pid-file "$W/pid" "$CT" sleep 1001
	has "$(host_ids "$(<"$W/pid")" Groups)" "$((START + 30))"
	is "" "$(grep -wE '4|27' <<<"$(host_ids "$(<"$W/pid")" Groups)")" "groups of the caller"
	down ours
}

@test "identity: with deny-setgroups, no group of the caller comes along" {
	book "dockroot:$START:$COUNT:deny-setgroups"
	update_config '.process.user.additionalGids = [10, 20]'
	ours_cmd=(setpriv "--groups=0,4,27" --regid 0 "${ours_cmd[@]}")
	process sleep 1000
	# By create and start, by run, and by exec in both forms.
	must ours create --pid-file "$W/pid" -b "$B" "$CT"
	must ours start "$CT"
	is "" "$(host_ids "$(<"$W/pid")" Groups)"
	must ours exec -d --pid-file "$W/pid" "$CT" sleep 1001
	is "" "$(host_ids "$(<"$W/pid")" Groups)"
	must ours exec -d -g 10 -g 11 --pid-file "$W/pid" "$CT" sleep 1001
	is "" "$(host_ids "$(<"$W/pid")" Groups)"
	echo '{"args": ["sleep", "1001"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0, "additionalGids": [4, 27]}}' >"$W/process.json"
	must ours exec -d --process "$W/process.json" --pid-file "$W/pid" "$CT"
	is "" "$(host_ids "$(<"$W/pid")" Groups)"
	down ours
	up ours
	is "" "$(host_ids "$init" Groups)"
	down ours
}

@test "identity: a user, and groups, outside of the container are refused" {
	update_config '.process.user = {uid: 70000, gid: 0}'
	refused 'process.user.uid: 70000' run -b "$B" "$CT"
	update_config '.process.user = {uid: 0, gid: 65536}'
	refused 'process.user.gid: 65536' run -b "$B" "$CT"
	update_config '.process.user = {uid: 0, gid: 0, additionalGids: [1, 65536]}'
	refused 'additionalGids\[1\]: 65536' run -b "$B" "$CT"
	update_config '.process.user = {uid: 65535, gid: 65535, additionalGids: [65535]}'
	must ours run -b "$B" "$CT"
}

@test "identity: setuid programs inside still work" {
	update_config '.process.user = {uid: 1000, gid: 1000} | .process.noNewPrivileges = false'
	WRITES=1
	cp "$B/rootfs/bin/busybox" "$B/rootfs/bin/suid"
	chmod 4755 "$B/rootfs/bin/suid"
	printf '%s\n' '[SUID]' 'id = ssx root.root' >"$B/rootfs/etc/busybox.conf"
	ln -sf suid "$B/rootfs/bin/id"
	shell 'grep ^Uid /proc/self/status | cut -f3; id -u; /bin/suid id'
	same run -b "$B" "$CT"
}
