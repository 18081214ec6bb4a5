#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# What `userns` does with its capabilities, system call by system call.

load helpers
load utility

@test "userns: one capability at a time is in force, in one thread, around one write" {
	command -v strace >/dev/null || skip "needs strace"
	# Root, who may trace it, doesn't take its capabilities away.
	must strace -f -o "$W/trace" setpriv --reuid ann --regid ann --init-groups "$U/bin/userns" exec -- true
	local main
	main=$(awk '/execve."[^"]*bin\/userns/ {print $1; exit}' "$W/trace")
	sed -n '/execve."[^"]*bin\/userns/,$p' "$W/trace" >"$W/calls"
	is "$main effective=1<<CAP_SETGID,$main effective=0,$main effective=1<<CAP_SETUID,$main effective=0" \
		"$(grep -aE 'capset\(.*permitted=1' "$W/calls" | awk '{print $1, $4}' | sed 's/[{,]//g' | head -n 4 | paste -sd,)"
	# What another thread would inherit, another program or somebody else could use.
	is "openat2,write" "$(awk -v main="$main" '$1 != main {next} /effective=1</ {raised = 1; next} /effective=0/ {raised = 0} raised' "$W/calls" |
		sed -E 's/^[0-9]+ +([a-z0-9_]+)\(.*/\1/' | grep -E '^(openat2|write|clone3?|v?fork|execve|sendto|sendmsg|connect|socket|kill|tgkill)$' | sort -u | paste -sd,)"
	# Then no thread has any.
	has "$(<"$W/calls")" "^$main +capset\(.*effective=0, permitted=0, inheritable=0"
}
