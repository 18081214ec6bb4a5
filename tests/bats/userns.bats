#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# `userns exec` and `userns explain`, called by users without privileges.

load helpers
load utility

map_of() { awk '{print $1":"$2":"$3}' "/proc/$1/${2:-uid}_map" | paste -sd,; }

@test "userns: the whole of the first line from inner 0, and the namespace is the caller's" {
	requires unprivileged-users
	must userns ann exec --map auto -- id -u
	is 0 "$output"
	background ann exec -- sleep 1000
	is "0:$START:$COUNT" "$(map_of "$child")" "UIDs seen from the host"
	is "0:$START:$COUNT" "$(map_of "$child" gid)" "GIDs seen from the host"
	is allow "$(<"/proc/$child/setgroups")"
	is "$ANN" "$("$UR_HELPERS/nsowner" "/proc/$child/ns/user")" "owner of the namespace"
	is "$START $START $START $START" "$(awk '/^Uid:/ {print $2, $3, $4, $5}' "/proc/$child/status")"
	# The parent has nothing left of what it had.
	is "0000000000000000 0000000000000000" "$(awk '/^Cap(Prm|Eff):/ {print $2}' "/proc/$pid/status" | paste -sd' ')"
	# Somebody else gets no way in.
	try as ben nsenter --user="/proc/$child/ns/user" true
	is 1 "$status"
	try as ben kill -KILL "$child"
	is 1 "$status"
	# The owner does: the namespace is hers.
	must as ann nsenter --user="/proc/$child/ns/user" --preserve-credentials true
	kill -TERM "$pid"
	reap "$pid"
	is 143 "$status"
	eventually gone "$child"
}

@test "userns: one ID beyond the grant is refused, with the line that decides" {
	local n=$((COUNT + 1))
	says 1 "^userns: exec: uid extent 0:$START:$n: outer \[$((START + COUNT))-$((START + n))\) belongs to dora \($BOOK:2\)" \
		ann exec --uid-map "0:$START:$n" --gid-map "0:$START:$COUNT" -- true
	says 1 "^userns: exec: gid extent 0:$START:$n: outer \[$((START + COUNT))-$((START + n))\) belongs to dora \($BOOK:2\)" \
		ann exec --uid-map "0:$START:$COUNT" --gid-map "0:$START:$n" -- true
	says 1 "outer \[$((START - 1))-$START\) isn't granted to ann, whose lines are $BOOK:1 .*usernsctl add ann --start $((START - 1)) --length 1" \
		ann exec --uid-map "0:$((START - 1)):2" --gid-map "0:$START:1" -- true
	says 1 "outer 0 can never be granted" ann exec --uid-map "0:0:1" --gid-map "0:$START:1" -- true
	# Others' accounts, and others' lines.
	says 1 "isn't granted to ann|is the host's user ben" ann exec --uid-map "0:$(id -u ben):1" --gid-map "0:$START:1" -- true
	says 1 "belongs to $(id -u eve) \($BOOK:4\)" ann exec --uid-map "0:$EVE:1" --gid-map "0:$START:1" -- true
}

@test "userns: without a line, with two, and with one by number" {
	says 1 "ben or $(id -u ben): no line of the book grants anything: add one: usernsctl add ben" ben exec -- true
	says 1 "no line of the book" ben exec --uid-map "0:$START:1" --gid-map "0:$START:1" -- true
	must userns dora exec -- cat /proc/self/uid_map
	is "0 $DORA 1000" "$(awk '{$1 = $1; print}' <<<"$output")" "her first line"
	# Extents of both lines, in any order, by several options or by commas.
	must userns dora exec --uid-map "1000:$((DORA + COUNT)):2000" --uid-map "0:$DORA:1000" \
		--gid-map "0:$DORA:1000,1000:$((DORA + COUNT)):2000" -- cat /proc/self/uid_map /proc/self/gid_map
	is "1000 $((DORA + COUNT)) 2000,0 $DORA 1000,0 $DORA 1000,1000 $((DORA + COUNT)) 2000" "$(awk '{$1 = $1; print}' <<<"$output" | paste -sd,)"
	says 1 "outer \[$((DORA + 1000))-$((DORA + COUNT))\) isn't granted to dora, whose lines are $BOOK:2 .*, $BOOK:3 " \
		dora exec --uid-map "0:$DORA:$((COUNT + 1))" --gid-map "0:$DORA:1" -- true
	must userns eve exec -- sh -c 'echo $(id -u) $(cat /proc/self/uid_map)'
	is "0 0 $EVE $COUNT" "$output"
}

@test "userns: the caller's own IDs: alone, beside the grant, and as they are" {
	must userns ben exec --map root -- sh -c 'echo $(id -u) $(id -g) $(cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups)'
	local b
	b=$(id -u ben)
	is "0 0 0 $b 1 0 $(id -g ben) 1 deny" "$output"
	must userns ann exec -r --map auto -- sh -c 'echo $(id -u) $(cat /proc/self/setgroups); sort -n /proc/self/uid_map'
	is "0 allow,0 $ANN 1,1 $START $COUNT" "$(awk '{$1 = $1; print}' <<<"$output" | paste -sd,)"
	# As Podman's keep-id: who I am, and my line around it.
	must userns ann exec --map keep-id -- sh -c 'echo $(id -u) $(id -g) $(cat /proc/self/setgroups); sort -n /proc/self/uid_map'
	is "$ANN $(id -g ann) allow,0 $START $ANN,$ANN $ANN 1,$((ANN + 1)) $((START + ANN)) $((COUNT - ANN))" "$(awk '{$1 = $1; print}' <<<"$output" | paste -sd,)"
	# A line that ends before.
	book "dora:$DORA:100:size=100"
	local d
	d=$(id -u dora)
	must userns dora exec --map keep-id -- sort -n /proc/self/uid_map
	is "0 $DORA 100,$d $d 1" "$(awk '{$1 = $1; print}' <<<"$output" | paste -sd,)"
	# The other user's own is nobody's to take.
	says 1 "isn't granted to dora|is the host's user ann" dora exec --uid-map "0:$ANN:1" --gid-map "0:$(id -g dora):1" -- true
}

@test "userns: the caller's own group alone only where setgroups is denied" {
	local own
	own=$(id -g ann)
	says 1 "gid extent 0:$own:1: outer $own is the caller's own group, which without a group of their lines can be mapped only where setgroups is denied \(CVE-2018-7169\)" \
		ann exec --setgroups allow --uid-map "0:$START:1" --gid-map "0:$own:1" -- true
	says 1 "CVE-2018-7169" ann exec -r --setgroups allow -- true
	must userns ann exec --uid-map "0:$START:1" --gid-map "0:$own:1" -- cat /proc/self/setgroups
	is deny "$output"
	must userns ann exec --uid-map "0:$ANN:1,1:$START:5" --gid-map "0:$own:1,1:$START:5" -- cat /proc/self/setgroups
	is allow "$output"
	must userns ann exec --setgroups deny -- cat /proc/self/setgroups
	is deny "$output"
	# By a line too, which may have been written for the sake of the UIDs.
	book "ann:$own:1:size=1" "ann:$START:$COUNT:"
	must userns ann exec -- cat /proc/self/setgroups
	is deny "$output"
	must userns ann exec --uid-map "0:$START:1" --gid-map "0:$own:1" -- cat /proc/self/setgroups
	is deny "$output"
	says 1 "CVE-2018-7169" ann exec --setgroups allow -- true
}

# What denying setgroups is for: a file that is closed to its group, and open to all others.
@test "userns: a file that is closed to a group: who may leave the group, and who can't" {
	local closed=/run/hooks/closed way
	groupadd extra
	usermod -aG extra ann
	usermod -aG extra ben
	echo secret >"$closed"
	chgrp extra "$closed"
	chmod 0705 "$closed"
	local leave='setpriv --clear-groups cat "$0" || cat "$0"'
	for way in "-r" "-c" "--map root"; do
		# shellcheck disable=SC2086 # words
		try userns ben exec $way -- sh -c "$leave" "$closed"
		is 1 "$status" "ben $way"
		is "" "$output"
	done
	# Who has a line without deny-setgroups may, whether her own group is mapped or not.
	must userns ann exec --map keep-id -G 0 -- cat "$closed"
	is secret "$output"
	must userns ann exec --uid-map "0:$ANN:1" --gid-map "0:$START:1" -- cat "$closed"
	is secret "$output"
	# With deny-setgroups she may not, whatever she maps.
	book "ann:$START:$COUNT:deny-setgroups"
	for way in "-r" "-c" "--map auto" "--map keep-id" "-r --map auto" "--uid-map 0:$ANN:1 --gid-map 0:$START:1" "--uid-map 0:$START:1 --gid-map 0:$START:1"; do
		# shellcheck disable=SC2086 # words
		try userns ann exec $way -- sh -c "$leave" "$closed"
		is 1 "$status" "ann $way"
		is "" "$output"
	done
}

@test "userns: flags of a line: deny-setgroups holds, what can't hold is refused, size says nothing" {
	book "ann:$START:$COUNT:deny-setgroups,shared,size=7"
	must userns ann exec -- sh -c 'cat /proc/self/setgroups; wc -l </proc/self/uid_map; awk "{print \$3}" /proc/self/uid_map'
	is "deny 1 $COUNT" "$(paste -sd' ' <<<"$output")"
	says 1 "setgroups allow: it is denied by the flag deny-setgroups of $BOOK:1" ann exec --setgroups allow -- true
	says 1 "setgid 5: it gives up your supplementary groups, and setgroups is denied by the flag deny-setgroups of $BOOK:1" ann exec -G 5 -- true
	book "ann:$START:$COUNT:no-new-privs"
	says 1 "$BOOK:1: flag no-new-privs can't hold" ann exec -- true
	book "ann:$START:$COUNT:reserved"
	says 1 "ann or $ANN: no line of the book grants anything \($BOOK:1 only reserves\)" ann exec -- true
	# One's own ID needs no line, and no book that can be read.
	for line in "ann:$START:$COUNT:no-new-privs" "nonsense"; do
		book "$line"
		must userns ann exec -r -- id -u
		is 0 "$output"
	done
	says 1 "$BOOK:1: " ann exec -- true
	rm "$BOOK"
	must userns ann exec -r -- id -u
}

@test "userns: the host's groups come along only where they can't be given up" {
	groupadd -r extra
	usermod -a -G extra ann
	background ann exec -- sleep 1000
	is "" "$(awk '/^Groups:/ {$1 = ""; print $0 + 0 ? $0 : ""}' "/proc/$child/status")" "groups seen from the host"
	kill "$pid"
	reap "$pid"
	background ann exec -r -- sleep 1000
	has "$(grep ^Groups: "/proc/$child/status")" "\b$(getent group extra | cut -d: -f3)\b"
	kill "$pid"
	reap "$pid"
}

@test "userns: who the program is run as" {
	must userns ann exec -S 7 -G 8 -- id
	is "uid=7($(getent passwd 7 | cut -d: -f1)) gid=8($(getent group 8 | cut -d: -f1)) groups=8($(getent group 8 | cut -d: -f1))" "$output"
	must userns ann exec -S 7 -- grep CapEff /proc/self/status
	is $'CapEff:\t0000000000000000' "$output"
	must userns ann exec -S 7 --keep-caps -- grep CapEff /proc/self/status
	has "$output" '[1-9a-f]'
	says 1 "setuid $COUNT: the map 0:$START:$COUNT has no such inner UID" ann exec -S "$COUNT" -- true
	says 1 "the map 5:$START:1 has neither inner UID 0 nor your own: say by --setuid" ann exec --uid-map "5:$START:1" --gid-map "0:$START:1" -- true
	must userns ann exec --uid-map "5:$START:1" --gid-map "6:$START:1" -S 5 -G 6 -- sh -c 'echo $(id -u) $(id -g)'
	is "5 6" "$output"
	says 1 "uid-map and --gid-map go together" ann exec --uid-map "0:$START:1" -- true
}

# alike ARGS...: unshare(1) and userns exec do the same, as a user without a grant.
alike() {
	try as ben unshare "$@"
	local u_status=$status u_output=$output
	try userns ben exec "$@"
	is "$u_status" "$status" "status of unshare and of userns exec: $*"
	is "$u_output" "$output" "standard output of unshare and of userns exec: $*"
}

@test "userns: options of unshare, with its results" {
	local ids='id; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups'
	alike -r sh -c "$ids"
	alike -U -r -- sh -c "$ids"
	alike --user --map-root-user -- sh -c "$ids"
	alike -c sh -c "$ids"
	alike --map-current-user sh -c "$ids"
	alike -c --keep-caps grep ^Cap /proc/self/status
	alike -c grep ^Cap /proc/self/status
	alike -r grep ^Cap /proc/self/status
	alike -r --setgroups=allow true
	alike -r --setgroups maybe true
	alike -rn cat /proc/net/dev
	alike -ru sh -c 'hostname inside; hostname'
	alike --uts -r sh -c 'hostname inside; hostname'
	alike -ri sh -c 'ipcmk -Q >/dev/null; ipcs -q | grep -c 0x'
	alike -rC cat /proc/self/cgroup
	alike -rT cat /proc/self/timens_offsets
	alike -rT --monotonic 1000000 --boottime -5 cat /proc/self/timens_offsets
	alike -r --time --boottime=86400 -f sh -c 'awk "{print \$1 > 86400}" /proc/uptime; cat /proc/self/timens_offsets'
	alike -r --monotonic 5 true
	alike -rm sh -c 'mount -t tmpfs none /mnt && touch /mnt/x && ls /mnt'
	alike -Urmpf --mount-proc sh -c 'echo $$; ls -d /proc/[0-9]*'
	alike -Urmpf --mount-proc=/proc ps -e -o pid=,args=
	alike -rpf sh -c 'echo $$'
	alike -rp sh -c 'sh -c "echo \$\$"'
	alike -rm --mount-proc=/nonexistent true
	alike -r --mount-proc true
	local how
	for how in private slave shared unchanged nonsense; do
		alike -rm --propagation "$how" sh -c 'sed -n "s/.* - .*//; s/^\([^ ]* \)\{6\}//p" /proc/self/mountinfo; findmnt -n -o PROPAGATION / /proc'
	done
	alike -r -w /usr pwd
	alike -r --wd=/nonexistent pwd
	alike -r -R "$U" -w /bin /nonexistent
	alike -rm -R / --mount-proc -pf sh -c 'pwd; echo $$'
	alike -r -S 0 id -u
	alike -r -S 5 true
	alike -r -G 0 true
	alike -r --kill-child=TERM true
	alike -r --kill-child=NONSENSE true
	alike -rf sh -c 'exit 9'
	alike -rfx true
	alike --nonsense true
	alike -r nosuchprogram
	alike -r /etc/passwd
	alike -r /nonexistent/program
	alike -r sh -c 'kill -TERM $$'
	# (unshare gives 1 for SIGKILL, which it tries to catch.)
	alike -rf sh -c 'kill -ABRT $$'
	alike -rf sh -c 'kill -SEGV $$'
	# Options end where the program begins.
	alike -r echo -f -r --wd
	alike -r -- echo -- -f
}

@test "userns: the program is found as execvp does, and gets the caller's environment" {
	local dir=$U/ben/bin
	install -d -o ben -g ben -m 0755 "$dir" "$dir/none"
	chmod 0711 "$U/ben"
	printf 'echo "no interpreter: $0 $*"\n' >"$dir/plain"
	printf '#!/bin/sh\necho "it: $*"\n' >"$dir/tool"
	printf '#!/bin/sh\n' >"$dir/closed"
	chmod 0755 "$dir/plain" "$dir/tool"
	chmod 0644 "$dir/closed"
	local path
	for path in "$dir:/usr/bin" "/nonexistent:$dir/none:$dir" "$dir/tool:$dir" ""; do
		local program
		for program in plain tool closed nosuch; do
			try as ben PATH="$path" /usr/bin/unshare -r "$program" a "b c"
			local u_status=$status u_output=$output
			try as ben PATH="$path" "$U/bin/userns" exec -r "$program" a "b c"
			is "$u_status" "$status" "the status of $program by $path"
			is "$u_output" "$output" "the output of $program by $path"
		done
	done
	# An empty directory of PATH is the working directory.
	cd "$dir"
	must as ben PATH=/usr/bin: "$U/bin/userns" exec -r tool x
	is "it: x" "$output"
	cd "$U"
	# With none, a shell, and with none of those, sh.
	must as ben SHELL="$dir/tool" "$U/bin/userns" exec -r
	is "it: " "$output"
	STDIN=$W/.in
	echo 'echo $0' >"$STDIN"
	must userns ben exec -r
	is -sh "$output"
	must userns ben exec -r -- env
	is "$(as ben env | sort)" "$(sort <<<"$output")" "the environment"
}
