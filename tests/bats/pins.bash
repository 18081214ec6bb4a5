# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

# What tests of pins share: load helpers and ctl first. The users are made for the test, in the
# sandbox's /etc; what they do they do as themselves.

PINS=/run/userns
UNIT=$TREE/dist/systemd/userns-pins.service

eval "ctl_$(declare -f setup)"
eval "ctl_$(declare -f teardown)"

setup() {
	ctl_setup
	useradd -M -l -d /nonexistent -s /bin/sh ann
	useradd -M -l -d /nonexistent -s /bin/sh ben
	ANN=$(id -u ann)
	BEN=$(id -u ben)
	MINE=$((START + 10 * COUNT))
	book "dockroot:$START:$COUNT:" "ann:$MINE:$COUNT:" "ben:$((MINE + COUNT)):$COUNT:"
	DEFAULT=$PINS/ann/default
	[[ -d $PINS ]] || mkdir -m 0755 "$PINS" # as the snippet for tmpfiles.d does at boot
	snapshot >"$W/.before"
}

teardown() {
	[[ -n ${BATS_TEST_COMPLETED:-} && -z ${BATS_TEST_SKIPPED:-} ]] || wipe
	ctl_teardown
}

# wipe: as after a boot: the mounts are gone, and /run is empty.
wipe() {
	local place
	while read -r place; do umount -l "$place"; done < <(awk '{print $5}' /proc/self/mountinfo | grep "^$PINS/" | tac)
	rm -rf "$PINS" /run/userns-runtime/leases /run/userns-runtime/pins.lock
	mkdir -m 0755 "$PINS"
}

# as USER COMMAND...
as() {
	local user=$1
	shift
	setpriv --reuid "$user" --regid "$user" --init-groups "$@"
}

# inside USER PIN COMMAND...: in the pinned namespace, with the IDs of its root.
inside() {
	local user=$1 pin=$2
	shift 2
	as "$user" nsenter --user="$PINS/$pin" --setuid 0 --setgid 0 -- "$@"
}

# pinned: what is held by pins, as JSON.
pinned() { ctl leases --json | jq '[.[] | select(.root == "/run/userns")]'; }

# ns PIN: the number of the namespace.
ns() { stat -c %i "$PINS/$1"; }

# whole PIN: it is in place, held, and nothing is to be done.
whole() {
	is nsfs "$(stat -f -c %T "$PINS/$1")" "$PINS/$1"
	is 1 "$(awk -v at="$PINS/$1" '$5 == at' /proc/self/mountinfo | wc -l)" "mounts at $PINS/$1"
	is '["pinned"]' "$(pinned | jq -c --arg id "$1" --argjson ns "$(ns "$1")" '[.[] | select(.container == $id and .userNS == $ns) | .state]')" "leases of $1"
	is "755 0 0" "$(stat -c '%a %u %g' "$PINS")"
	is "755 0 0" "$(stat -c '%a %u %g' "$(dirname "$PINS/$1")")"
	is '' "$(ctl pin --list --json | jq -r --arg pin "$1" '.[] | select(.owner + "/" + .name == $pin) | .problem')"
}

# none: no pin is there, and none holds anything.
none() {
	is "" "$(find "$PINS" -mindepth 1)" "in $PINS"
	is "" "$(awk '{print $5}' /proc/self/mountinfo | grep "^$PINS/" || true)" "mounts"
	is '[]' "$(pinned)" "leases"
	is '[]' "$(ctl pin --list --json)" "the list"
}

# owner NAME: whose containers are started from here on.
owner() { ours_cmd=("$OURS" --owner "$1" --config "$CONF" --root "$W/ours"); }

# sleeper USER COMMAND...: which becomes a sleep, as the user, in the background. It is pid.
sleeper() {
	local user=$1
	shift
	setpriv --reuid "$user" --regid "$user" --init-groups "$@" </dev/null >/dev/null 2>&1 3>&- &
	pid=$!
	eventually eval '[[ $(<"/proc/$pid/comm") == sleep ]]'
}

end() {
	kill -KILL "$1"
	reap "$1"
}

unpin() { must ctl unpin "$1"; }
