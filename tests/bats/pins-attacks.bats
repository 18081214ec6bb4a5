#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# Pins, by those who would have a part in another's: by a name, by a process that was there before.

load helpers
load ctl
load pins

# renamed FROM TO: the account has another name, and a new one has that.
renamed() {
	usermod -l "$2" "$1"
	groupmod -n "$2" "$1"
	useradd -M -l -d /nonexistent -s /bin/sh "$1"
}

@test "pins: a name that another account has by now gives it nothing of the old one's" {
	must ctl pin ann
	must ctl pin ann/dev
	sleeper ann nsenter --user="$DEFAULT" --setuid 0 --setgid 0 sleep 1000
	local in=$pid
	renamed ann eve
	must ctl pin --list --json
	is 'refused refused' "$(field '[.[].state] | join(" ")')"
	has "$(field '.[0].problem')" "belongs to UID $ANN, who has every capability in it"
	# Whoever was ann is root of those, and would be of all that is in a new one.
	fails 1 "are held by pin ann/(default|dev); it belongs to UID $ANN, who was ann once: usernsctl unpin ann/" pin ann/new
	owner ann
	try ours run -b "$B" "$CT"
	is 1 "$status"
	has "$errput" 'room for 1 containers, and [12] hold IDs there: pin ann/'
	# When the leases were lost, too.
	rm -rf /run/userns-runtime
	fails 1 "it belongs to UID $ANN, who was ann once" pin ann/new
	unpin ann/dev
	# Before the old one is taken away.
	local before
	before=$(ns ann/default)
	fails 1 "are held by process $in, in user namespace $before, which UID $ANN made: end it: ps -fp $in" pin ann
	is "$before" "$(ns ann/default)"
	end "$in"
	must ctl pin ann
	must "$UR_HELPERS/nsowner" "$DEFAULT"
	is "$(id -u ann)" "$output"
	whole ann/default
	process true
	must ours run -b "$B" "$CT"
	unpin ann
	none
}

@test "pins: whoever has the IDs without a lease keeps them from others, and not from themselves" {
	mkdir -m 0755 /run/hooks
	install_utility /run/hooks/userns
	must ctl pin ann # from here on there are leases, which don't tell of her process
	unpin ann
	setpriv --reuid ann --regid ann --init-groups /run/hooks/userns exec --map auto -- unshare --user sleep 1000 </dev/null >/dev/null 2>&1 3>&- &
	local one=$!
	eventually eval '[[ $(ps --ppid $one -o comm=) == sleep || $(<"/proc/$one/comm") == sleep ]]'
	# Hers, and what she has made in it.
	must ctl pin ann
	unpin ann
	book "ben:$MINE:$COUNT:"
	fails 1 "pin ben/default: IDs .* are held by process [0-9]+, in user namespace [0-9]+, which UID ($ANN|$MINE) made: end it: ps -fp " pin ben
	is '[]' "$(pinned)"
	kill -TERM "$one"
	reap "$one"
	must ctl pin ben
	unpin ben
	# Root's, of no container that there is a lease of.
	map_foreign "$MINE" 5
	fails 1 "held by process $foreign, .*, which UID 0 made" pin ben
	end_foreign
	rm -r /run/hooks
	must ctl pin ben
	unpin ben
	none
}

# Of the containers of a pin's owner, and what they make inside of them, all is the owner's.
@test "pins: beside a container in which there is another user namespace" {
	owner ann
	shell 'busybox unshare -U sleep 1000 & exec sleep 1000'
	update_config '.linux.cgroupsPath = $path' --arg path "/$CT-1"
	must ours run -d -b "$B" "$CT-1"
	eventually eval '[[ $(lsns -t user -n -o NS | wc -l) == 3 ]]'
	must ctl pin ann
	whole ann/default
	unpin ann
	book "ben:$MINE:$COUNT:"
	fails 1 'are held by (container|process)' pin ben
	must ours delete -f "$CT-1"
	must ctl pin ben
	unpin ben
	none
}

# What is mounted at an owner's directory belongs elsewhere, to whomever.
@test "pins: a directory that is mounted over an owner's keeps its owner and mode" {
	mkdir -m 0777 /run/hooks
	chmod 0777 /run/hooks
	chown ann /run/hooks
	mkdir "$PINS/ann"
	mount --bind /run/hooks "$PINS/ann"
	fails 1 "pin ann/default: $PINS/ann: another directory is mounted there, .*: umount $PINS/ann" pin ann
	fails 1 "another directory is mounted there" unpin ann
	is "777 $ANN" "$(stat -c '%a %u' /run/hooks)"
	is "" "$(ls -A /run/hooks)"
	umount "$PINS/ann"
	rmdir /run/hooks
	must ctl pin ann
	whole ann/default
	unpin ann
	none
}

# A directory whose name isn't one of an account's any more, but a number.
@test "pins: digits are a UID, whatever somebody's login name is" {
	echo "$ANN:x:1777:1777::/:/bin/sh" >>/etc/passwd
	book "$ANN:$MINE:$COUNT:"
	must ctl pin "$ANN"
	must "$UR_HELPERS/nsowner" "$PINS/ann/default"
	is "$ANN" "$output"
	must ctl unpin "$ANN"
	fails 1 "no line of the book grants anything" pin 1777
	sed -i "/^$ANN:/d" /etc/passwd
	# What lies at a number is called by it.
	mkdir "$PINS/$ANN"
	touch "$PINS/$ANN/default"
	must ctl pin --list --json
	is refused "$(field '.[].state')"
	has "$(field '.[].problem')" "no account has that name, and it is the number of ann: .*usernsctl unpin $ANN/default"
	must ctl unpin "$ANN/default"
	is "$ANN/default: unpinned" "$output"
	is "" "$errput"
	# By the number is the account's own, as ever.
	must ctl pin "$ANN"
	whole ann/default
	must ctl unpin "$ANN"
	none
}

# A mount of that number needn't be of the namespace that the entry was made for.
@test "pins: a number that the kernel gives again doesn't hold the IDs of the one before" {
	local i before other=$W/other
	touch "$other"
	book "ann:$MINE:$COUNT:" "ben:$((MINE + COUNT)):$COUNT:"
	for i in {1..20}; do
		must ctl pin ann
		before=$(ns ann/default)
		umount "$DEFAULT" # by hand
		sleeper ann unshare --user sleep 1000
		mount --bind "/proc/$pid/ns/user" "$other"
		end "$pid"
		[[ $(stat -c %i "$other") != "$before" ]] || break
		umount "$other"
	done
	[[ $(stat -c %i "$other") == "$before" ]] || skip "the kernel gave no number again"
	book "ben:$MINE:$COUNT:"
	must ctl pin ben
	unpin ben
	umount "$other"
	try ctl unpin ann
	none
}
