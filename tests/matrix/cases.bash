# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

# Reads files of cases. One looks like this:
#
#	volume-shared [short] [without=diff] [needs=cgroup1]
#		docker run -d --name a -v v:/v busybox sleep 1000
#		docker run -v v:/v busybox ls -ln /v
#
# The line that isn't indented has the name; `short` has it run in `make test` too,
# `without=` leaves parts of what is compared out (world has the list), and `needs=` says what the host
# has to have (lacks, below); where it hasn't, the case is named as left out. The indented lines
# are commands of bash, one each unless it ends in a backslash.

# case_names FILE [short]
case_names() { sed -nE "/^[a-z0-9]/ { ${2:+/ short( |\$)/!d;} s/ .*//; p }" "$1"; }

# case_head FILE NAME: its first line.
case_head() { grep -E "^$2( |\$)" "$1"; }

# case_lines FILE NAME: its commands, one each line.
case_lines() {
	awk -v name="$2" '
		/^[a-z0-9]/ { on = ($1 == name); next }
		on && /^\t/ {
			sub(/^\t+/, "")
			if (sub(/\\$/, "")) { printf "%s", $0; next }
			print
		}' "$1"
}

# check_cases FILE: what can be wrong in one.
check_cases() {
	awk -v file="$1" '
		function bad(what) { print file ":" FNR ": " what; failed = 1 }
		/^(#.*)?$/ { next }
		/^[a-z0-9]/ {
			if ($1 !~ /^[a-z0-9][a-z0-9-]*$/) bad("expected a name of small letters, digits and dashes, not " $1)
			if (name != "" && !lines) bad("the case " name " has no command")
			if (seen[$1]++) bad("a second case " $1)
			for (i = 2; i <= NF; i++)
				if ($i != "short" && $i != "needs=cgroup1" && $i !~ /^without=(out|err|state|diff|disk|files|host|content)(,(out|err|state|diff|disk|files|host|content))*$/)
					bad("expected short, needs=cgroup1 or without=out,err,state,diff,disk,files,host,content, not " $i)
			name = $1; lines = 0; next
		}
		/^\t/ { if (name == "") bad("a command of no case"); lines++; next }
		{ bad("expected a name, or a tab and a command") }
		END {
			if (name != "" && !lines) bad("the case " name " has no command")
			exit failed
		}' "$1" >&2
}

# lacks FILE NAME: why this host can't have the case, where it can't.
lacks() {
	case $(case_head "$1" "$2") in
	*needs=cgroup1*) [[ ! -d /sys/fs/cgroup/memory ]] && echo "it reads files of cgroup v1, which this host hasn't" ;;
	*) return 1 ;;
	esac
}
