# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

# Compares the transcripts of two runtimes, and what differs with what the documentation says of it.

COMPATIBILITY=${COMPATIBILITY:-$TREE/docs/compatibility.md}

# explanations RUNTIME: lines of a pattern, a tab and the reason, for what the documentation
# says differs. Its tables have rows that begin with names of cases; then come the columns of
# ours, of remap, and of what isn't measured. "The same" in a column is no difference.
explanations() {
	local column=3
	[[ $1 == ours ]] || column=4
	awk -F '|' -v column=$column '
		/^\| *`(docker|containerd|podman)\// {
			text = $column
			gsub(/^ +| +$/, "", text)
			if (tolower(text) ~ /^the same/) next
			n = split($2, part, "`")
			for (i = 2; i <= n; i += 2) print part[i] "\t" text
		}' "$COMPATIBILITY"
}

# explained CASE RUNTIME: the reason, where there is one.
explained() {
	local pattern reason
	while IFS=$'\t' read -r pattern reason; do
		# shellcheck disable=SC2053 # a pattern
		if [[ $1 == $pattern ]]; then
			echo "$reason"
			return
		fi
	done < <(explanations "$2")
	return 1
}

# judged FILE RUNTIME: what of a transcript is compared. Docker's remap is a copy of every
# image for another root, so who owns what on disk isn't.
judged() {
	if [[ $2 == remap ]]; then grep -v '^disk| ' "$1"; else cat "$1"; fi
}

# verdict DIR ENGINE CASE RUNTIME: one line, and the difference if nobody explains it. It
# fails where the matrix has to.
verdict() {
	local dir=$1 name=$2/$3 reason='' plain=$1/$2-plain/$3 other=$1/$2-$4/$3
	reason=$(explained "$name" "$4") || true
	if [[ ! -f $plain || ! -f $other ]]; then
		printf 'NOT RUN      %s\n' "$name"
		return 1
	fi
	if grep -qE '^(= [0-9]+|harness\| .*)$' "$plain"; then
		# Two that fail alike for want of something would be a case of nothing.
		printf 'BROKEN       %s: a command fails under plain runc\n' "$name"
		sed 's/^/    /' "$plain"
		return 1
	fi
	if diff -U 2 <(judged "$plain" "$4") <(judged "$other" "$4") >"$dir/.diff"; then
		if [[ -n $reason ]]; then
			printf 'NO MORE      %s: the same, and docs/compatibility.md says: %s\n' "$name" "$reason"
			return 1
		fi
		printf 'same         %s\n' "$name"
	elif [[ -n $reason ]]; then
		printf 'differs      %s: %s\n' "$name" "$reason"
	else
		printf 'UNEXPLAINED  %s: runc (-) and %s (+)\n' "$name" "$4"
		tail -n +3 "$dir/.diff" | sed 's/^/    /'
		return 1
	fi
}

# compare ENGINE RUNTIME CASE...: of the transcripts in $results: the table of all cases, and the sum.
compare() {
	local engine=$1 runtime=$2 name bad=0 line
	: "${results:?}"
	shift 2
	for name; do
		verdict "$results" "$engine" "$name" "$runtime" >"$results/.line" || bad=$((bad + 1))
		tee -a "$results/.table-$engine-$runtime" <"$results/.line"
	done
	line=$(grep -c '^same ' "$results/.table-$engine-$runtime" || true)
	printf '%s: %s of %s the same under %s as under runc, %s explained, %s to be mended\n\n' "$engine" "$line" "$#" "$runtime" \
		"$(grep -c '^differs ' "$results/.table-$engine-$runtime" || true)" "$bad"
	if [[ $runtime == ours ]] && ! gated "$results/$engine-ours" "$#"; then
		bad=$((bad + 1))
	fi
	((bad == 0))
}

# gated DIR N: the cases went through the gate. Nearly every one starts a container or more.
gated() {
	local n=0
	[[ ! -f $1/.audit ]] || n=$(wc -l <"$1/.audit")
	((n >= $2 / 2)) && return
	echo "matrix: $n lines of audit for $2 cases: they went past the gate"
	return 1
}

# stale_rows ENGINE...: explanations of cases that there aren't.
stale_rows() {
	local runtime pattern engine found status=0
	for runtime in ours remap; do
		while IFS=$'\t' read -r pattern _; do
			engine=${pattern%%/*} found=''
			[[ " $* " == *" $engine "* ]] || continue
			for name in $(case_names "./$engine.cases"); do
				# shellcheck disable=SC2053 # a pattern
				[[ $engine/$name != $pattern ]] || found=1
			done
			if [[ -z $found ]]; then
				echo "docs/compatibility.md explains $pattern, which is no case of tests/matrix/$engine.cases"
				status=1
			fi
		done < <(explanations "$runtime")
	done
	return "$status"
}

# host_state DIR: what a matrix could leave on the host: processes and mounts that have to
# do with its directory, cgroups, accounts, and the book.
host_state() {
	echo '# processes'
	grep -lsF "$1" /proc/[0-9]*/mountinfo | sed 's,/mountinfo,,' | while read -r dir; do tr '\0' ' ' <"$dir/cmdline"; done
	echo '# cgroups'
	# Others' tests have theirs, with another tag.
	if [[ -d $1/tags ]]; then
		find /sys/fs/cgroup -type d -name 'urt-*' 2>/dev/null | grep -F -f <(cat "$1"/tags/*) || true
	fi
	echo '# accounts'
	sha256sum /etc/passwd /etc/group /etc/subuid /etc/subgid /etc/usernamespaces 2>/dev/null || true
	echo '# interfaces'
	ls /sys/class/net
}
