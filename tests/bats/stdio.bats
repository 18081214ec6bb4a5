#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# Who owns what is on descriptors 0 to 2, inside and on the host.

load helpers

@test "stdio: pipes can be opened anew, by root inside and by a user" {
	local user runtime
	for user in 0 1000; do
		update_config '.process.user.uid = $uid' --argjson uid "$user"
		shell 'echo out >/dev/stdout; echo err >/dev/stderr; cat /dev/stdin; ls -lnL /proc/self/fd/1 | awk "{print \$3}"'
		for runtime in plain ours; do
			local -n cmd=${runtime}_cmd
			status=0
			echo in | { "${cmd[@]}" run -b "$B" "$CT"; echo "status $?"; } 2> >(cat >"$W/$runtime.err") | cat >"$W/$runtime.out" || status=$?
			eventually grep -q err "$W/$runtime.err"
		done
		is "$(<"$W/plain.out")" "$(<"$W/ours.out")" "output of user $user, runc's first"
		has "$(<"$W/ours.out")" '^out$'
	done
}

@test "stdio: pipes of an exec, too" {
	up ours
	is out "$("${ours_cmd[@]}" exec "$CT" sh -c 'echo out >/dev/stdout' | cat)"
	is out "$("${ours_cmd[@]}" exec --user 1000:1000 "$CT" sh -c 'echo out >/dev/stdout' | cat)"
	down ours
}

@test "stdio: sockets, as an engine may give" {
	shell 'cat; echo out'
	python3 - "${ours_cmd[@]}" run -b "$B" "$CT" >"$W/got" <<-'EOF2'
		import socket, subprocess, sys
		a, b = socket.socketpair()
		p = subprocess.Popen(sys.argv[1:], stdin=b, stdout=b)
		b.close()
		a.sendall(b"in\n")
		a.shutdown(socket.SHUT_WR)
		said = b""
		while True:
		    part = a.recv(4096)
		    if not part:
		        break
		    said += part
		sys.stdout.write(said.decode())
		sys.exit(p.wait())
	EOF2
	is $'in\nout' "$(<"$W/got")"
}

@test "stdio: what has a name on the host stays as it is" {
	local before
	touch "$W/file"
	mkfifo "$W/fifo"
	before=$(stat -c '%n %u:%g %a %t:%T' /dev/null "$W/file" "$W/fifo" /dev/zero)
	sleep 1000 <>"$W/fifo" &
	local holder=$!
	process sh -c 'echo out; echo err >&2'
	"${ours_cmd[@]}" run -b "$B" "$CT" </dev/null >"$W/fifo" 2>"$W/file"
	"${ours_cmd[@]}" run -b "$B" "$CT" <"$W/file" >/dev/null 2>/dev/null
	"${ours_cmd[@]}" run -b "$B" "$CT" </dev/zero >"$W/fifo" 2>"$W/fifo"
	up ours
	"${ours_cmd[@]}" exec "$CT" true </dev/null >"$W/fifo" 2>"$W/file"
	down ours
	is "$before" "$(stat -c '%n %u:%g %a %t:%T' /dev/null "$W/file" "$W/fifo" /dev/zero)"
	kill "$holder"
	wait "$holder" || true
}

@test "stdio: a pipe that isn't the caller's, and closed descriptors" {
	process true
	must ours run -b "$B" "$CT" # with what try gives
	"${ours_cmd[@]}" run -b "$B" "$CT" <&- >&- 2>&-
	# Somebody else's: nobody gives away what isn't theirs.
	python3 - "${ours_cmd[@]}" run -b "$B" "$CT" <<-'EOF2'
		import os, subprocess, sys
		r, w = os.pipe()
		os.fchown(r, 12345, 12345)
		code = subprocess.call(sys.argv[1:], stdout=w)
		st = os.fstat(w)
		sys.exit(code or (st.st_uid, st.st_gid) != (12345, 12345))
	EOF2
}

@test "stdio: a refusal gives nothing away" {
	update_config '.process.user.uid = 70000'
	python3 - "${ours_cmd[@]}" run -b "$B" "$CT" <<-'EOF2'
		import os, subprocess, sys
		r, w = os.pipe()
		code = subprocess.call(sys.argv[1:], stdout=w, stderr=subprocess.DEVNULL)
		sys.exit(code != 1 or os.fstat(w).st_uid != 0)
	EOF2
}
