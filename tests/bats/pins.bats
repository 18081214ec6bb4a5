#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# Pins: user namespaces that are kept by a mount, for their owners to enter.

load helpers
load ctl
load pins

@test "pins: made, entered by the owner, by nobody else, and taken away" {
	is '[]' "$(ctl pin --list --json)"
	must ctl pin ann
	is "ann/default: pinned: $DEFAULT" "$output"
	whole ann/default
	must as ann nsenter --user="$DEFAULT" cat /proc/self/uid_map /proc/self/gid_map
	is $'0 '"$MINE $COUNT"$'\n0 '"$MINE $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	must inside ann ann/default id
	is "uid=0(root) gid=0(root) groups=0(root)" "${output%%,*}"
	must inside ann ann/default cat /proc/self/setgroups
	is allow "$output"
	must "$UR_HELPERS/nsowner" "$DEFAULT"
	is "$ANN" "$output"
	try inside ben ann/default true
	has "$errput" 'Operation not permitted'
	is 1 "$status"

	# Once more changes nothing.
	local before
	before=$(ns ann/default)
	must ctl pin "$ANN/default"
	is "ann/default: is pinned already: $DEFAULT" "$output"
	is "$before" "$(ns ann/default)"
	must ctl pin ann/dev
	whole ann/default
	whole ann/dev
	[[ $(ns ann/default) != "$(ns ann/dev)" ]]

	unpin ann
	is "ann/default: unpinned" "$output"
	is "" "$errput"
	whole ann/dev
	unpin ann/dev
	none
	fails 1 'unpin: ann/dev: there is no such pin' unpin ann/dev
}

@test "pins: what is refused, and nothing is made" {
	fails 1 'carl has no account in /etc/passwd' pin carl
	book "orchestrator:$MINE:$COUNT:"
	fails 1 'orchestrator has no account in /etc/passwd' pin orchestrator
	book "ben:$((MINE + COUNT)):$COUNT:"
	fails 1 "ann or $ANN: no line of the book grants anything: add one: usernsctl add ann" pin ann
	book "ann:$MINE:$COUNT:reserved"
	fails 1 'no line of the book grants anything .*only reserves' pin ann
	book "ann:$MINE:$COUNT:no-new-privs,deny-setgroups"
	fails 1 "$BOOK:1: flags no-new-privs can't hold in a user namespace that belongs to ann" pin ann
	book "ann:$MINE:$COUNT:" "ben:$((MINE + 5)):1:"
	fails 1 "belongs to ben" pin ann
	book "ann:$MINE:$COUNT:"
	echo "taken:x:$((MINE + 7)):$((MINE + 8))::/:/bin/false" >>/etc/passwd
	fails 1 "host's user taken" pin ann
	restore_etc
	useradd -M -l -d /nonexistent ann
	local name
	for name in ann/ ann/. ann/.. ann/a/b 'ann/a b' $'ann/a\nb' ann/a:b "ann/$(printf 'x%.0s' {1..256})" /x ann/../x; do
		fails 1 "expected at most 255 bytes|has no account" pin "$name"
	done
	fails 2 'OWNER.* is missing' pin
	fails 2 'expected one of them' pin --all --list
	fails 2 'expected no argument beside' pin --all ann
	fails 2 'expected it beside --list' pin --json ann
	fails 2 'expected it beside --all or --list' pin --config x ann
	fails 2 'OWNER.* is missing' unpin
	rm "$BOOK"
	fails 1 'there is no book' pin ann
	must ctl pin --list --json
	is '[]' "$output"
	none
	useradd -M -l -d /nonexistent ben
	try as ben "$CTL" pin ben
	is 1 "$status"
	has "$errput" 'needs root: you are UID'
}

@test "pins: deny-setgroups, two lines, an owner by number" {
	book "ann:$MINE:1000:deny-setgroups" "ann:$((MINE + 5000)):1000:no-new-privs" "$BEN:$((MINE + COUNT)):$COUNT:size=4096"
	must ctl pin ann
	must ctl pin ben/x
	# nsenter(1) of Debian 12 calls setgroups(2) otherwise.
	must as ann nsenter --preserve-credentials --user="$DEFAULT" cat /proc/self/setgroups /proc/self/uid_map
	is $'deny\n0 '"$MINE 1000" "$(awk '{$1 = $1; print}' <<<"$output")"
	must as ben nsenter --user="$PINS/ben/x" cat /proc/self/uid_map
	is "0 $((MINE + COUNT)) $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	must ctl pin --list --json
	is 'deny allow' "$(field '[.[].setgroups] | join(" ")')"
	is "$ANN $BEN" "$(field '[.[].uid | tostring] | join(" ")')"
	is 'false false' "$(field '[.[].configured | tostring] | join(" ")')"
	unpin ann
	unpin "$BEN/x"
	none
}

@test "pins: all of the configuration's, and one that fails keeps none of the others" {
	printf '[[pin]]\nowner = "%s"\nname = "%s"\n' ann default carl x "$BEN" dev >>"$CONF"
	fails 1 'carl has no account' pin --all --config "$CONF"
	has "$errput" 'pin: 2 of 3 pins are in place'
	whole ann/default
	whole ben/dev
	local before
	before="$(ns ann/default) $(ns ben/dev)"
	fails 1 'carl has no account' pin --all --config "$CONF"
	is "$before" "$(ns ann/default) $(ns ben/dev)"
	must ctl pin --list --json --config "$CONF"
	is 'ann/default pinned true;ben/dev pinned true;carl/x refused true' "$(field '[.[] | "\(.owner)/\(.name) \(.state) \(.configured)"] | join(";")')"
	unpin ben/dev
	must ctl pin --list --config "$CONF"
	has "$output" '^ben/dev +- +missing +yes'
	has "$errput" "$PINS/ben/dev: there is nothing"
	unpin ann
	echo '[[pin]]' >>"$CONF"
	fails 1 'pin: name is missing' pin --all --config "$CONF"
	fails 1 'no such file' pin --all --config "$W/nowhere"
	config
	must ctl pin --all --config "$CONF"
	none
}

@test "pins: after a reboot the same ranges, and a file written before is owned right" {
	printf '[[pin]]\nowner = "%s"\nname = "default"\n' ann ben >>"$CONF"
	must ctl pin --all --config "$CONF"
	install -d -m 1777 /run/sandbox/files
	chmod 0711 /run/sandbox
	must inside ann ann/default touch /run/sandbox/files/before
	must as ann nsenter --user="$DEFAULT" --setuid 33 --setgid 33 touch /run/sandbox/files/www
	local ranges
	ranges=$(pinned | jq -c '[.[] | [.container, .ranges]]')
	wipe
	must ctl pin --all --config "$CONF"
	whole ann/default
	whole ben/default
	is "$ranges" "$(pinned | jq -c '[.[] | [.container, .ranges]]')" "ranges after the boot"
	must inside ann ann/default stat -c '%u:%g %n' /run/sandbox/files/before /run/sandbox/files/www
	is $'0:0 /run/sandbox/files/before\n33:33 /run/sandbox/files/www' "$output"
	must inside ann ann/default rm /run/sandbox/files/before
	try inside ben ben/default rm /run/sandbox/files/www
	is 1 "$status"
	rm -r /run/sandbox/files
	chmod 0700 /run/sandbox
	unpin ann
	unpin ben
	none
}

# A boot whose /run isn't empty: files are left, and leases of another boot.
@test "pins: what a boot leaves in a /run that is kept" {
	must ctl pin ann
	umount "$DEFAULT"
	ln -sfn 'some-other-boot 1' /run/userns-runtime/leases/boot
	must ctl pin --list --json
	is refused "$(field '.[0].state')"
	has "$(field '.[0].problem')" 'empty file: the namespace was unmounted, or was there before the last boot'
	must ctl pin ann
	whole ann/default
	unpin ann
	none
}

# tampered PATTERN COMMAND...: after the command the pin is refused wherever it is used, and mended.
tampered() {
	local pattern=$1
	shift
	must ctl pin ann
	echo "# $*"
	"$@"
	must ctl pin --list --json
	is refused "$(field '.[] | select(.owner == "ann").state')"
	has "$(field '.[] | select(.owner == "ann").problem')" "$pattern"
	has "$(field '.[] | select(.owner == "ann").problem')" "$DEFAULT"
	try ctl audit --json
	is 3 "$status" "audit"
	has "$(field '.[] | select(.severity == "error").message')" "$pattern"
	must ctl pin ann
	is "ann/default: pinned: $DEFAULT" "$output"
	whole ann/default
}

@test "pins: tampered ones are refused by name, and made anew" {
	sleeper root unshare --user sleep 1000
	local foreign=$pid
	instead() {
		umount "$DEFAULT"
		mount --bind "$1" "$DEFAULT"
	}
	link() {
		umount "$DEFAULT"
		rm "$DEFAULT"
		ln -s "$1" "$DEFAULT"
	}
	tampered 'empty file' umount "$DEFAULT"
	tampered "belongs to UID 0, .*expected one that belongs to ann" instead "/proc/$foreign/ns/user"
	tampered 'namespace of another kind' instead /proc/self/ns/net
	tampered "isn't a namespace" instead /etc/hostname
	tampered 'it is a symbolic link' link "/proc/$foreign/ns/user"
	tampered 'mode 0777, writable by others' chmod 0777 "$PINS/ann"
	tampered 'mode 1777, writable by others' chmod 1777 "$PINS"
	tampered "owned by UID $ANN" chown ann "$PINS/ann"
	tampered 'has mode 0770' chmod 0770 "$PINS/ann"
	end "$foreign"
	# The directory of the owner is a link, with another's pin behind it.
	must ctl pin ben
	must ctl unpin ann
	ln -s "$PINS/ben" "$PINS/ann"
	must ctl pin ann
	whole ann/default
	whole ben/default
	unpin ann
	unpin ben
	none
}

@test "pins: another's namespace, other IDs and other rules than the book has" {
	other() {
		must ctl pin ben
		umount "$DEFAULT"
		mount --bind "$PINS/ben/default" "$DEFAULT"
	}
	tampered "belongs to UID $BEN" other
	unpin ben
	moved() { book "ann:$((MINE + 2 * COUNT)):$COUNT:"; }
	tampered "it maps UIDs 0:$MINE:$COUNT .*expected 0:$((MINE + 2 * COUNT)):$COUNT, as the book has it" moved
	denied() { book "ann:$((MINE + 2 * COUNT)):$COUNT:deny-setgroups"; }
	tampered 'it allows setgroups: expected one that denies it' denied
	allowed() { book "ann:$((MINE + 2 * COUNT)):$COUNT:"; }
	tampered 'it denies setgroups: expected one that allows it' allowed
	twice() { mount --bind /etc/hostname "$DEFAULT"; }
	tampered "isn't a namespace" twice
	# A line that can't be pinned any more leaves it where it is, refused.
	book "ann:$((MINE + 2 * COUNT)):$COUNT:no-new-privs"
	fails 1 "flags no-new-privs can't hold" pin ann
	is nsfs "$(stat -f -c %T "$DEFAULT")"
	book "ann:$((MINE + 2 * COUNT)):$COUNT:"
	# In a directory's place is one that isn't empty.
	unpin ann
	mkdir -p "$DEFAULT/x"
	fails 1 "$DEFAULT: it is a directory with something in it" pin ann
	rmdir "$DEFAULT/x"
	must ctl pin ann
	whole ann/default
	unpin ann
	none
}

@test "pins: they hold their range against others, and not against their owner" {
	book "ann:$MINE:$((2 * COUNT)):" "ben:$((MINE + 2 * COUNT)):$COUNT:"
	must ctl pin ann
	owner ann
	# Of ann's own containers as many have room as without it.
	local n
	for n in 1 2; do
		update_config '.process.args = ["sleep", "1000"] | .linux.cgroupsPath = $path' --arg path "/$CT-$n"
		must ours run -d -b "$B" "$CT-$n"
	done
	must ctl list ann --json
	is 2 "$(field '.[0].held')"
	owner "$ANN"
	try ours run -b "$B" "$CT-3"
	is 1 "$status"
	has "$errput" 'there is room for 2 containers, and 2 hold IDs there'
	for n in 1 2; do must ours delete -f "$CT-$n"; done
	# By now the line is ben's.
	book "ben:$MINE:$COUNT:"
	process true
	owner ben
	try ours run -b "$B" "$CT"
	is 1 "$status"
	has "$errput" 'room for 1 containers, and 1 hold IDs there: pin ann/default'
	fails 1 'pin ben/default: IDs .* are held by pin ann/default' pin ben
	update_config '.linux.uidMappings = [{containerID: 0, hostID: $start, size: 10}] | .linux.gidMappings = .linux.uidMappings' --argjson start "$MINE"
	try ours run -b "$B" "$CT"
	has "$errput" 'are held by pin ann/default'
	try ctl audit --json
	has "$(field '.[].message')" "pin ann/default: has .* of owner ann, which belongs to ben"
	book "ann:$MINE:$COUNT:"
	refuses 1 'is held by|pin ann/default' del ann
	unpin ann
	none
}

@test "pins: who has an ID, the picture, and the leases" {
	must ctl pin ann
	must ctl who "$((MINE + 7))" --json
	is "ann/default $DEFAULT ann 7 7" "$(field '.[] | select(.kind == "pin") | "\(.who) \(.where) \(.owner) \(.innerUID) \(.innerGID)"')"
	must ctl leases
	has "$output" "^ann +\[$MINE-$((MINE + COUNT))\) +ann/default +/run/userns +pinned"
	must ctl map --json
	is "$MINE $COUNT ann" "$(field '.[] | select(.kind == "pin") | "\(.start) \(.count) \(.owner)"')"
	must ctl map
	has "$output" '1 pin, beside'
	has "$output" '^pins +.*k'
	must ctl inspect ann/default --json
	is "0:$MINE:$COUNT pinned ann" "$(field '.[] | "\(.uids) \(.state) \(.owner)"')"
	fails 1 'container ann: holds no IDs' inspect ann
	must ctl audit
	must ctl gc
	# An engine can be undone: no container is in it.
	must ctl configure podman
	must ctl configure podman --undo
	rm -rf /etc/containers/containers.conf.d /var/lib/userns-runtime/configure
	# What ann makes of her own IDs beside it is her business.
	mkdir -m 0755 /run/hooks
	install_utility /run/hooks/userns
	setpriv --reuid ann --regid ann --init-groups /run/hooks/userns exec --map auto -- sleep 1000 </dev/null >/dev/null 2>&1 3>&- &
	local one=$!
	eventually eval '[[ $(ps --ppid $one -o comm=) == sleep || $(<"/proc/$one/comm") == sleep ]]'
	must ctl audit --json
	is '[]' "$(jq -c '[.[] | select(.severity == "error")]' <<<"$output")"
	must ctl pin ann/dev
	unpin ann/dev
	kill -TERM "$one"
	reap "$one"
	rm -r /run/hooks
	whole ann/default
	unpin ann
	none
}

@test "pins: unmounted by hand, or without leases, they heal" {
	must ctl pin ann
	umount "$DEFAULT"
	# The IDs are free as soon as somebody wants them.
	book "ben:$MINE:$COUNT:"
	must ctl pin ben
	whole ben/default
	unpin ben
	book "ann:$MINE:$COUNT:" "ben:$((MINE + COUNT)):$COUNT:"
	must ctl pin ann
	# All leases are lost: what is mounted is found.
	rm -rf /run/userns-runtime
	book "ben:$MINE:$COUNT:"
	fails 1 'are held by pin ann/default' pin ben
	book "ann:$MINE:$COUNT:"
	must ctl pin ann
	is "ann/default: is pinned already: $DEFAULT" "$output"
	whole ann/default
	# One is.
	rm /run/userns-runtime/leases/*.pin-*
	must ctl pin ann
	whole ann/default
	unpin ann
	none
}

@test "pins: whoever is in one that was taken away keeps the IDs from others" {
	must ctl pin ann
	sleeper ann nsenter --user="$DEFAULT" --setuid 0 --setgid 0 sleep 1000
	local in=$pid
	must ctl who "$MINE" --json
	is "$in" "$(field '.[] | select(.kind == "pin").pid')"
	try ctl audit --json
	is 0 "$(field '[.[] | select(.severity == "error")] | length')"
	unpin ann
	has "$errput" "process $in has its user namespace"
	book "ben:$MINE:$COUNT:"
	fails 1 "are held by pin ann/default.* process $in" pin ben
	# Its owner gets a new one beside it.
	book "ann:$MINE:$COUNT:"
	must ctl pin ann
	whole ann/default
	unpin ann
	has "$errput" "process $in has its user namespace"
	end "$in"
	book "ben:$MINE:$COUNT:"
	must ctl pin ben
	unpin ben
	none
}

# Nothing ends a namespace that somebody has open, and the owner could enter it at any time.
@test "pins: whoever has one open that was taken away keeps the IDs from others" {
	must ctl pin ann
	sleeper ann sh -c "exec 9<$DEFAULT && exec sleep 1000"
	local holder=$pid
	unpin ann
	has "$errput" "process $holder has its user namespace open or mounted elsewhere, and could enter it"
	must ctl pin --list --json
	is left "$(field '.[0].state')"
	book "ben:$MINE:$COUNT:"
	fails 1 "are held by pin ann/default, .*process $holder" pin ben
	end "$holder"
	# In a mount namespace of ann's own, which is a copy, it goes with the host's.
	book "ann:$MINE:$COUNT:"
	must ctl pin ann
	sleeper ann unshare --user --map-root-user --mount sleep 1000
	holder=$pid
	has "$(<"/proc/$holder/mountinfo")" " $DEFAULT "
	unpin ann
	is "" "$errput"
	is "" "$(grep " $DEFAULT" "/proc/$holder/mountinfo" || true)" "the copy"
	end "$holder"
	none
}

@test "pins: through the gate, by a bundle's path" {
	owner ann
	chown -R "$MINE:$MINE" "$B/rootfs"
	update_config '.linux.namespaces = ([.linux.namespaces[] | select(.type != "user")] + [{type: "user", path: $path}])' --arg path "$DEFAULT"
	update_config 'del(.process.rlimits)' # see owned.bats
	process sh -c 'id -u; cat /proc/self/uid_map'
	refused 'linux.namespaces: user: path: .*no such file' run -b "$B" "$CT"
	must ctl pin ann
	bundle_sum >"$W/.bundle"
	# Who owns the namespace owns the container.
	refused "belongs to UID $ANN, who has every capability in it.*flag owned" run -b "$B" "$CT"
	book "ann:$MINE:$COUNT:owned"
	must ours run -b "$B" "$CT"
	is $'0\n'"0 $MINE $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	audited ".owner == \"ann\" and .decision == \"granted\""
	# Flags apply, and another's aren't ben's to use.
	book "ann:$MINE:$COUNT:owned,deny-setgroups"
	refused 'flag deny-setgroups: the namespace .* allows setgroups' run -b "$B" "$CT"
	book "ann:$MINE:$COUNT:owned" "ben:$((MINE + COUNT)):$COUNT:owned"
	owner ben
	refused "isn't granted to ben" run -b "$B" "$CT"
	owner ann
	# Two at once are in one namespace.
	update_config '.process.args = ["sleep", "1000"] | .linux.cgroupsPath = $path' --arg path "/$CT-1"
	must ours run -d -b "$B" "$CT-1"
	update_config '.linux.cgroupsPath = $path' --arg path "/$CT-2"
	must ours run -d -b "$B" "$CT-2"
	is 3 "$(ctl leases --json | jq --argjson ns "$(ns ann/default)" '[.[] | select(.userNS == $ns)] | length')"
	must ours delete -f "$CT-1"
	must ours delete -f "$CT-2"
	whole ann/default
	# Not mounted any more: an empty file is no namespace.
	umount "$DEFAULT"
	bundle_sum >"$W/.bundle"
	refused 'linux.namespaces: user: path: .*namespace' run -b "$B" "$CT"
	unpin ann
	none
}

# What a shell of the host's hands to nobody: the pins' owner gets what the pin is, and no more.
@test "pins: entered by userns enter" {
	mkdir -m 0755 /run/hooks
	install_utility /run/hooks/userns
	groupadd secret
	usermod -aG secret ann
	book "ann:$MINE:$COUNT:deny-setgroups" "ben:$((MINE + COUNT)):$COUNT:"
	must ctl pin ann
	must ctl pin ann/dev
	local name
	for name in default pin:default ann/default pin:dev; do
		must as ann /run/hooks/userns enter "$name" -- sh -c 'id -u; cat /proc/self/uid_map'
		is $'0\n'"0 $MINE $COUNT" "$(awk '{$1 = $1; print}' <<<"$output")"
	done
	try as ben /run/hooks/userns enter default -- true
	is 1 "$status"
	has "$errput" 'there is no pin'
	try as ben /run/hooks/userns enter pin:ann/default -- true
	is 1 "$status"
	must as ann /run/hooks/userns list
	has "$output" 'default'
	# What was done to it is said, by name, and nothing runs.
	chmod 0777 "$PINS/ann"
	try as ann /run/hooks/userns enter default -- touch "$W/ran"
	is 1 "$status"
	has "$errput" "$DEFAULT: .*mode 0777, writable by others.*have root run \`usernsctl pin ann/default\`"
	must ctl pin ann
	umount "$DEFAULT"
	try as ann /run/hooks/userns enter default -- touch "$W/ran"
	is 1 "$status"
	has "$errput" "$DEFAULT: it is an empty file"
	must ctl pin ann
	book "ann:$((MINE + 2 * COUNT)):$COUNT:"
	try as ann /run/hooks/userns enter default -- touch "$W/ran"
	is 1 "$status"
	has "$errput" "$DEFAULT: it maps UIDs .*as the book has it"
	is "" "$(find "$W" -name ran)"
	unpin ann
	unpin ann/dev
	rm -r /run/hooks
	none
}

@test "pins: of an account that is gone" {
	must ctl pin ann
	userdel ann
	must ctl pin --list --json
	is "refused null" "$(field '.[] | "\(.state) \(.uid)"')"
	has "$(field '.[].problem')" 'has no account'
	fails 1 'has no account' pin ann
	unpin ann
	none
}

# What others may hold is no lock of ours, and what they may make isn't where pins are.
@test "pins: users can't keep root from making them" {
	must ctl pin ann
	local dir
	for dir in "$PINS" "$PINS/ann" /run/userns-runtime; do
		try as ben touch "$dir/x"
		is 1 "$status" "$dir"
		try as ann mkdir "$dir/x"
		is 1 "$status" "$dir"
	done
	try as ann umount "$DEFAULT"
	[[ $status != 0 ]]
	try as ann cat /run/userns-runtime/pins.lock
	is 1 "$status"
	sleeper ben sh -c "exec 8<$PINS 9<$DEFAULT && flock 8 && flock 9 && exec sleep 1000"
	local one=$pid
	sleeper ann sh -c "exec 9<$PINS/ann && flock 9 && exec sleep 1000"
	must timeout 10 "$CTL" pin ann/dev
	end "$one"
	end "$pid"
	unpin ann
	unpin ann/dev
	none
}

# sound: as whole, as far as it can be told at once.
sound() {
	is "1 $DEFAULT" "$(awk -v at="$DEFAULT" '$5 == at {n++} END {print n+0, at}' /proc/self/mountinfo)"
	# The kernel takes the namespace of the one who was killed away a little later.
	eventually only_pinned || is "ann/default pinned $(ns ann/default)" "$(leased)"
}

leased() { ctl leases --json | jq -r '.[] | "\(.container) \(.state) \(.userNS)"'; }

only_pinned() { ctl gc >/dev/null && [[ $(leased) == "ann/default pinned $(ns ann/default)" ]]; }

@test "pins: killed at each step of pin and unpin, one more run makes it whole" {
	local n
	for ((n = 1; ; n++)); do
		try "$UR_HELPERS/killat" "$n" "$CTL" pin ann
		[[ $status == 0 ]] || break
		must ctl pin ann
		sound
		unpin ann
		is "" "$(find "$PINS" -mindepth 1)" "in $PINS"
	done
	is 3 "$status"
	((n > 20))
	for ((n = 1; ; n++)); do
		must ctl pin ann
		try "$UR_HELPERS/killat" "$n" "$CTL" unpin ann
		[[ $status == 0 ]] || break
		if ((n % 2)); then
			try ctl unpin ann
			is "" "$(find "$PINS" -mindepth 1)" "in $PINS"
			eventually eval 'ctl gc && [[ -z $(leased) ]]'
		else
			must ctl pin ann
			sound
		fi
	done
	is 3 "$status"
	((n > 8))
	none
}

@test "pins: many at once make each one once" {
	local i pids=()
	for i in 1 2 3 4 5 6; do
		ctl pin ann >"$W/out.$i" 2>"$W/err.$i" 3>&- &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i"; done
	is 1 "$(cat "$W"/out.* | grep -c ': pinned: ')"
	is 5 "$(cat "$W"/out.* | grep -c ': is pinned already: ')"
	whole ann/default
	unpin ann
	none
}

@test "pins: the unit and the snippet that are installed" {
	is 1 "$(grep -c '^d /run/userns  *0755 root root' "$TREE/dist/tmpfiles.d/userns-runtime.conf")"
	make -s -C "$TREE" -n install PREFIX=/opt/u >"$W/install"
	has "$(<"$W/install")" "/opt/u/lib/systemd/system/userns-pins.service"
	has "$(<"$W/install")" "/opt/u/lib/tmpfiles.d/userns-runtime.conf"
	# What it does with the privileges that the unit leaves it.
	local caps
	caps=$(sed -n 's/^CapabilityBoundingSet=//p' "$UNIT" | sed 's/CAP_\([A-Z_]*\)/+\L\1/g; s/ /,/g')
	mkdir -p /etc/userns-runtime
	printf '[[pin]]\nowner = "ann"\nname = "default"\n' >/etc/userns-runtime/config.toml
	must setpriv --bounding-set "-all,$caps" --no-new-privs "$CTL" pin --all
	whole ann/default
	unpin ann
	rm /etc/userns-runtime/config.toml
	command -v systemd-analyze >/dev/null || skip "systemd-analyze isn't installed (Debian's package systemd): the unit isn't verified"
	sed "s,^ExecStart=/usr/bin/usernsctl,ExecStart=$CTL," "$UNIT" >"$W/userns-pins.service"
	must systemd-analyze verify --man=no "$W/userns-pins.service"
	rm -rf /run/systemd
	is "" "$errput$output"
	if command -v systemd-tmpfiles >/dev/null; then
		rmdir "$PINS"
		must systemd-tmpfiles --create "$TREE/dist/tmpfiles.d/userns-runtime.conf"
		is "755 0 0" "$(stat -c '%a %u %g' "$PINS")"
	fi
}
