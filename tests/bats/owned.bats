#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# The flag owned: the user namespace of a container belongs to the granted user. What
# they do with it is in enter.bats.

load helpers

setup_file() {
	useradd -M -l -s /bin/bash ann
	useradd -M -l -s /bin/bash ben
}

eval "$(declare -f setup | sed '1s/setup/load_setup/')"
setup() {
	load_setup
	ANN=$(id -u ann)
	# Those of a process in a namespace that isn't root's take CAP_SYS_RESOURCE to set, which
	# root hasn't got on each machine.
	update_config 'del(.process.rlimits)'
	book "ann:$START:$COUNT:owned"
	ours_cmd=("$OURS" --owner ann --config "$CONF" --root "$W/ours")
	snapshot >"$W/.before"
}

as() {
	local user=$1
	shift
	setpriv --reuid "$user" --regid "$user" --init-groups "$@"
}

# owner_of PID: who owns the user namespace that it is in.
owner_of() { "$UR_HELPERS/nsowner" "$1"; }

record_dir() { echo "/run/userns-runtime/owned/$ANN"; }

@test "owned: the namespace belongs to the user, on create and run, with the maps of the grant" {
	up ours
	is "$ANN" "$(owner_of "$init")" owner
	maps_are "0:$START:$COUNT" "$init"
	is allow "$(<"/proc/$init/setgroups")"
	audited '.decision == "granted" and .owner == "ann" and .flags == "owned"'
	must ours exec "$CT" sh -c 'id -u; cat /proc/self/uid_map'
	has "$output" '^0$'
	down ours

	must ours create -b "$B" "$CT"
	init=$(ours state "$CT" | jq .pid)
	is "$ANN" "$(owner_of "$init")" owner
	down ours
	shell 'id -u; head -c 1 /dev/zero | wc -c; echo x > /dev/null && echo fine'
	must ours run -b "$B" "$CT"
	is $'0\n1\nfine' "$output"
}

@test "owned: without the flag it is root's, and where one of two lines has it too" {
	book "ann:$START:$COUNT:owned" "ann:$((START + COUNT)):$COUNT:"
	update_config --argjson s "$START" '.linux.namespaces += [{type: "user"}] |
		.linux.uidMappings = [{containerID: 0, hostID: ($s + 65500), size: 100}] | .linux.gidMappings = .linux.uidMappings'
	chown -R "$((START + 65500))" "$B/rootfs"
	WRITES=1
	up ours
	is 0 "$(owner_of "$init")" owner
	test ! -e "$(record_dir)"
	down ours
	update_config 'del(.linux.uidMappings, .linux.gidMappings)'
	chown -R 0 "$B/rootfs"
	book "ann:$START:$COUNT:"
	up ours
	is 0 "$(owner_of "$init")" owner
	down ours
}

@test "owned: with setgroups denied, and a number as the owner" {
	book "$ANN:$START:1000:deny-setgroups,owned,size=1000"
	up ours
	is "$ANN" "$(owner_of "$init")" owner
	is deny "$(<"/proc/$init/setgroups")"
	maps_are "0:$START:1000" "$init"
	down ours
}

@test "owned: a pod shares the user's namespace, and doesn't join one of root's" {
	up ours
	update_config --arg p "/proc/$init/ns/ipc" '(.linux.namespaces[] | select(.type == "ipc")).path = $p | .linux.cgroupsPath = "/\("'"$CT"'")-second"'
	must ours run -d -b "$B" "$CT-2"
	local second
	second=$(ours state "$CT-2" | jq .pid)
	is "$(readlink "/proc/$init/ns/user")" "$(readlink "/proc/$second/ns/user")"
	is 2 "$(find "$(record_dir)" -type f | wc -l)" records
	down ours "$CT-2"
	down ours
	book "ann:$START:$((8 * COUNT)):"
	update_config 'del(.linux.namespaces[].path)'
	up ours
	book "ann:$START:$((8 * COUNT)):owned"
	update_config --arg p "/proc/$init/ns/ipc" '(.linux.namespaces[] | select(.type == "ipc")).path = $p'
	try ours run -d -b "$B" "$CT-2"
	is 1 "$status"
	has "$errput" "$BOOK:1: flag owned: user namespace .* belongs to UID 0: expected one of ann \(UID $ANN\).*started anew"
	# And the other way round.
	down ours
	update_config 'del(.linux.namespaces[].path)'
	up ours
	book "ann:$START:$((8 * COUNT)):"
	update_config --arg p "/proc/$init/ns/ipc" '(.linux.namespaces[] | select(.type == "ipc")).path = $p'
	try ours run -d -b "$B" "$CT-2"
	is 1 "$status"
	has "$errput" "it belongs to UID $ANN, who has every capability in it: expected one that belongs to the caller \(UID 0\), or a grant of that user's with the flag owned"
	down ours
}

# mend FILTER MESSAGE: what FILTER adds to the bundle is refused by name, on each road, and
# foreseen by plan. The audit log has it.
mend() {
	cp "$B/config.json" "$W/good.json"
	update_config "$1"
	refused "$BOOK:1: flag owned: $2" run -b "$B" "$CT"
	audited '.decision == "refused" and (.error | test("flag owned"))'
	refused "$BOOK:1: flag owned: $2" create -b "$B" "$CT"
	try "$CTL" plan --owner ann --bundle "$B" --root "$W/ours" --config "$CONF"
	is 3 "$status"
	has "$output$errput" "$2"
	cat "$W/good.json" >"$B/config.json"
}

@test "owned: programs of the host, devices, and device nodes that are bound in are refused by name" {
	local kind
	for kind in prestart createRuntime createContainer poststart poststop; do
		mend ".hooks.$kind = [{path: \"/bin/true\"}]" "hooks.$kind\[0\]: /bin/true is a program of the host.*ann can stop.*leave it out"
	done
	mend '.linux.devices = [{path: "/dev/sdx", type: "b", major: 8, minor: 0}]' 'linux.devices: /dev/sdx: ann could open devices from outside'
	mend '.linux.devices = [{path: "/dev/null", type: "c", major: 1, minor: 1}]' 'linux.devices: /dev/null: ann could'
	# As of --privileged: not every one is named.
	mend '.linux.devices = [range(20) | {path: "/dev/x\(.)", type: "b", major: 8, minor: .}]' 'linux.devices: /dev/x0, .* /dev/x7 and 12 more: ann could'
	mend '.linux.seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent"}' 'linux.seccomp.listenerPath: /run/agent leads to a program of the host.*leave it out'
	mend '.linux.netDevices = {"eth7": {}}' 'linux.netDevices: eth7 is an interface of the host, over which ann would have every capability.*leave it out'
	cp "$B/config.json" "$W/good.json"
	update_config '.mounts += [{destination: "/x", source: "/dev/kmsg", type: "bind", options: ["bind"]}]'
	refused "mounts\[[0-9]+\]: /x: $BOOK:1: flag owned: /dev/kmsg is a device, which ann could open" run -b "$B" "$CT"
	cat "$W/good.json" >"$B/config.json"
	# Those of the container are its own.
	update_config '.hooks.startContainer = [{path: "/bin/true"}]'
	must ours run -b "$B" "$CT"
}

@test "owned: no device of a directory that is bound in can be opened" {
	mkdir "$W/nodes"
	mknod -m 0666 "$W/nodes/zero" c 1 5
	chmod 0711 "$W"
	update_config --arg s "$W/nodes" '.mounts += [{destination: "/tmp", source: $s, type: "bind", options: ["bind"]}]'
	shell 'head -c 1 /tmp/zero 2>&1 >/dev/null; mount -o remount,bind,dev /tmp 2>&1; head -c 1 /tmp/zero | wc -c'
	caps CAP_SYS_ADMIN
	must ours run -b "$B" "$CT"
	has "$output" "zero.*(Permission denied|can't open)"
	has "$output" '^0$'
	chmod 0700 "$W"
}

@test "owned: restricting flags are refused, by create and by check" {
	book "ann:$START:$COUNT:owned,no-new-privs"
	refused "$BOOK:1: flag owned: ann owns the user namespace, and undoes no-new-privs there: take one of them from the line" run -b "$B" "$CT"
	try "$CTL" check
	is 3 "$status"
	has "$output$errput" "flag owned: ann owns .*undoes no-new-privs"
	# Both lines of a map.
	book "ann:$START:$COUNT:owned" "ann:$((START + COUNT)):$COUNT:owned,no-new-privs"
	update_config --argjson s "$START" '.linux.namespaces += [{type: "user"}] |
		.linux.uidMappings = [{containerID: 0, hostID: ($s + 65500), size: 100}] | .linux.gidMappings = .linux.uidMappings'
	refused "flag owned: ann owns the user namespace, and undoes no-new-privs" run -b "$B" "$CT"
}

@test "owned: an owner without an account, or who is root, is refused" {
	ours_cmd=("$OURS" --owner nobody-knows --config "$CONF" --root "$W/ours")
	book "nobody-knows:$START:$COUNT:owned"
	refused "$BOOK:1: flag owned: nobody-knows has no account on this host" run -b "$B" "$CT"
	try "$CTL" check
	is 3 "$status"
	has "$output$errput" "nobody-knows has no account on this host to own"
	ours_cmd=("$OURS" --owner root --config "$CONF" --root "$W/ours")
	book "root:$START:$COUNT:owned"
	refused "flag owned: root has no account on this host that a user namespace could belong to" run -b "$B" "$CT"
}

@test "owned: restore is refused: CRIU makes the namespace" {
	"$UR_HELPERS/criuimages" "$W/images" "0:$START:$COUNT" "0:$START:$COUNT" 10
	refused "$BOOK:1: flag owned: on restore CRIU makes the namespace, which belongs to root: start the container anew" restore --image-path "$W/images" -b "$B" "$CT"
}

@test "owned: a host where processes that change their credentials can be traced is refused" {
	local was
	was=$(</proc/sys/fs/suid_dumpable)
	echo 1 >/proc/sys/fs/suid_dumpable 2>/dev/null || skip "fs.suid_dumpable can't be written here"
	try ours run -b "$B" "$CT"
	echo "$was" >/proc/sys/fs/suid_dumpable
	is 1 "$status"
	has "$errput" 'fs.suid_dumpable is 1, .*sysctl -w fs.suid_dumpable=0'
}

@test "owned: the user reads what they may know of the container, and nobody else does" {
	up ours
	local dir file
	dir=$(record_dir)
	must as ann ls "$dir"
	file=$dir/$output
	must as ann jq -c '[.id, .root, .uidMap, .userNS]' "$file"
	is "[\"$CT\",\"$W/ours\",\"0 $START $COUNT\\n\",$(stat -Lc %i "/proc/$init/ns/user")]" "$output"
	is '["cgroup","gidMap","id","root","uidMap","userNS","version"]' "$(jq -c keys "$file")" "all that it has"
	for try in "ls $dir" "cat $file" "ls /run/userns-runtime/owned"; do
		# shellcheck disable=SC2086 # words
		try as ben $try
		((status != 0)) || return
	done
	for try in "touch $dir/x" "rm -f $file" "chmod 666 $file" "mv $dir $dir.x"; do
		# shellcheck disable=SC2086 # words
		try as ann $try
		((status != 0)) || return
	done
	down ours
	test ! -e "$file"
}

@test "owned: nothing is left of a container that didn't start" {
	update_config '.process.args = ["/no/such/program"]'
	try ours run -b "$B" "$CT"
	((status != 0)) || return
	"$CTL" gc >/dev/null
	is "" "$(find /run/userns-runtime/owned -type f 2>/dev/null)" records
	# Refused after the namespace was there.
	update_config '.process.args = ["true"] | .process.user.uid = 70000'
	refused 'process.user' run -b "$B" "$CT"
	is "" "$(find /run/userns-runtime/owned -type f 2>/dev/null)" records
}

@test "owned: exec refuses a record that promises what can't hold" {
	up ours
	must ours exec "$CT" true
	local state=$W/ours/$CT/state.json
	sed -i 's/\\"flags\\":\\"owned\\"/\\"flags\\":\\"no-new-privs,owned\\"/' "$state"
	grep -q 'no-new-privs,owned' "$state"
	try ours exec "$CT" true
	is 255 "$status"
	has "$errput" 'it says owned and no-new-privs, which the owner of a user namespace undoes: start the container anew'
	down ours
}

# The user has every capability in the namespace while the container is started: they can
# stop and kill what is in it, and see that it doesn't help them to more.
@test "owned: while it is started the user can't trace, look into or be what enters as root" {
	cat >"$W/race.sh" <<-'EOF'
		# Looks into every process that isn't theirs and that they could see, all the time.
		while :; do
			for p in /proc/[0-9]*; do
				[[ $(stat -c %u "$p" 2>/dev/null) == "$UID" ]] && continue
				[[ $p == /proc/1 ]] && continue
				if root=$(readlink "$p/root" 2>/dev/null); then
					uid=$(awk '/^Uid:/ {print $2}' "$p/status" 2>/dev/null)
					echo "$p ${uid:--} $(tr '\0' ' ' <"$p/cmdline" 2>/dev/null) $root"
				fi
			done
		done
	EOF
	install -m 0755 "$W/race.sh" /run/hooks.sh
	setsid setpriv --reuid ann --regid ann --init-groups bash /run/hooks.sh >"$W/seen" 2>/dev/null 3>&- &
	local racer=$! i
	shell 'sleep 0.3'
	for i in 1 2 3 4 5 6; do
		must ours run -b "$B" "$CT"
	done
	kill -KILL -- "-$racer"
	wait "$racer" || true
	rm /run/hooks.sh
	# Only what is a container's process by then.
	test -s "$W/seen"
	is "" "$(awk -v low="$START" '$2 != "-" && ($2 < low || $2 >= low + 8 * 65536)' "$W/seen" | head)" "processes with other IDs that could be looked into"
}

@test "owned: a volume of the engine is refused, its own files are root's inside, and the user's are the user's" {
	WRITES=1
	local d=$W/docker
	mkdir -p "$d"/overlay2/one/{diff,work,merged} "$d"/volumes/v/_data "$d"/containers/x /run/hooks/ann
	cp -a "$B/rootfs" "$d/overlay2/base"
	mount -t overlay -o "lowerdir=$d/overlay2/base,upperdir=$d/overlay2/one/diff,workdir=$d/overlay2/one/work" overlay "$d/overlay2/one/merged"
	update_config '.root.path = $path' --arg path "$d/overlay2/one/merged"
	cp "$B/config.json" "$W/good.json"
	update_config '.mounts += [{type: "bind", source: $s, destination: "/v", options: ["rbind"]}]' --arg s "$d/volumes/v/_data"
	refused "mounts\[[0-9]+\]: /v: $BOOK:1: flag owned: $d/volumes/v/_data is a volume of the engine, on which ann would be root.*bind a directory that ann owns" run -b "$B" "$CT"
	cat "$W/good.json" >"$B/config.json"
	echo 127.0.0.1 >"$d/containers/x/hosts"
	chown ann: /run/hooks/ann
	update_config '.mounts += [{type: "bind", source: $s, destination: "/etc/hosts", options: ["rbind"]}, {type: "bind", source: "/run/hooks/ann", destination: "/mine", options: ["rbind"]}]' \
		--arg s "$d/containers/x/hosts"
	caps CAP_DAC_OVERRIDE
	shell 'echo more >>/etc/hosts; touch /mine/file; stat -c %u /mine/file'
	must ours run -b "$B" "$CT"
	is 0 "$output"
	is ann "$(stat -c %U /run/hooks/ann/file)"
	is more "$(tail -n 1 "$d/containers/x/hosts")"
	umount "$d/overlay2/one/merged"
}

# entering: ann has the utility, as U/userns.
entering() {
	U=/run/hooks/users
	install -d -m 0755 /run/hooks "$U"
	install_utility "$U/userns"
}

@test "owned: a container that isn't started yet can't be entered: what runs there is root's" {
	entering
	update_config '.process.args = ["sleep", "1000"]'
	must ours create -b "$B" "$CT"
	init=$(ours state "$CT" | jq .pid)
	is "$ANN" "$(owner_of "$init")" owner
	local what
	for what in "$CT" "$init"; do
		try as ann "$U/userns" enter "$what" true
		is 1 "$status"
		has "$errput" "container $CT: no process runs in it: start it first|process $init: not the caller's"
	done
	for what in root cwd exe fd/0 ns/mnt ns/user; do
		try as ann readlink "/proc/$init/$what"
		is 1 "$status" "$what"
	done
	try as ann cat "/proc/$init/environ" "/proc/$init/maps"
	is "" "$output"
	must ours start "$CT"
	must as ann "$U/userns" enter "$CT" id -u
	is 0 "$output"
	down ours
}

@test "owned: a root directory of the user's making that never answers holds up no verb of ours" {
	WRITES=1
	entering
	mknod -m 0666 "$U/fuse" c 10 229
	: <>"$U/fuse" || skip "no FUSE here"
	install -m 0755 "$UR_HELPERS/deadroot" "$U/deadroot"
	local d=$W/docker verb
	mkdir -p "$d"/overlay2/one/{diff,work,merged}
	cp -a "$B/rootfs" "$d/overlay2/base"
	mount -t overlay -o "lowerdir=$d/overlay2/base,upperdir=$d/overlay2/one/diff,workdir=$d/overlay2/one/work" overlay "$d/overlay2/one/merged"
	update_config '.root.path = $path' --arg path "$d/overlay2/one/merged"
	up ours
	# The device is to be opened in the container's user namespace, and isn't on its mounts.
	as ann "$U/userns" enter --without mnt,pid "$CT" "$U/deadroot" "$U/fuse" "/proc/$init/ns/mnt" <"$STDIN" >"$W/dead" 2>&1 3>&- &
	local job=$!
	eventually grep -q . "$W/dead"
	[[ $(<"$W/dead") == mounted ]] || skip "$(<"$W/dead")"
	grep -q ' / / .* - fuse dead ' "/proc/$init/mountinfo"
	for verb in state ps pause resume; do
		must timeout -s KILL 10 "${ours_cmd[@]}" "$verb" "$CT"
	done
	must timeout -s KILL 10 "${ours_cmd[@]}" kill "$CT" KILL
	must timeout -s KILL 10 "${ours_cmd[@]}" delete -f "$CT"
	kill -KILL "$(pgrep -f "^$U/userns enter")"
	wait "$job" || true
	umount "$d/overlay2/one/merged"
}
