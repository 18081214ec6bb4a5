#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# Completion of usernsctl in real shells: bash, zsh, fish.

load helpers
load ctl

setup() {
	helpers_setup
	save_etc
	rm -f /etc/subuid /etc/subgid
	install -m 0644 /dev/null /etc/subuid
	install -m 0644 /dev/null /etc/subgid
	# The scripts call it by its name, and the shells are the user's own without their files.
	mkdir "$W/bin" "$W/home" "$W/files"
	ln -s "$CTL" "$W/bin/usernsctl"
	export PATH=$W/bin:$PATH HOME=$W/home
	unset ZDOTDIR XDG_CONFIG_HOME XDG_DATA_HOME
	touch "$W/files/drop in.conf" "$W/files/other"
	cd "$W/files" || return
}

# A book with names that are commands to a shell, if they are ever evaluated.
evil_book() {
	book "alice:$START:$COUNT:" "albert@site:$((START + COUNT)):$COUNT:" "al\$(touch\${IFS}$W/ran):$((START + 2 * COUNT)):$COUNT:" \
		"al\`touch\${IFS}$W/ran\`:$((START + 3 * COUNT)):$COUNT:" "al;touch\${IFS}$W/ran:$((START + 4 * COUNT)):$COUNT:" \
		"al'x:$((START + 5 * COUNT)):$COUNT:" "al*:$((START + 6 * COUNT)):$COUNT:" "-al:$((START + 7 * COUNT)):$COUNT:" "älf:$((START + 8 * COUNT)):$COUNT:"
	must ctl check
}

# in_bash WORD...: what the function offers for the last of the words.
in_bash() {
	printf '%s\n' 'source <(usernsctl completion bash)' 'COMP_WORDS=("$@")' 'COMP_CWORD=$(($# - 1))' \
		'eval "$(complete -p usernsctl | sed "s/complete -F \(.*\) usernsctl/\1/")" 2>/dev/null' 'printf "%s\n" "${COMPREPLY[@]}"' >"$W/bash.sh"
	try bash --norc --noprofile "$W/bash.sh" usernsctl "$@"
	is 0 "$status"
	is "" "$errput" "standard error"
	offered=$(paste -sd' ' <<<"$output")
}

# in_fish TEXT: what is offered behind the text.
in_fish() {
	try fish --no-config -c 'usernsctl completion fish | source; complete -C "$argv[1]"' -- "usernsctl $1"
	is 0 "$status"
	is "" "$errput" "standard error"
	offered=$(cut -f1 <<<"$output" | paste -sd' ')
}

# typed SHELL TEXT LINE...: an interactive shell has LINE after TEXT was typed: \t in it is the
# key. All of them are typed at once, each on a terminal of its own, since what it takes is waiting.
typed() {
	cat >"$W/typed.py" <<'P'
import os, pty, select, sys, time
shell, text, start = sys.argv[1], sys.argv[2].encode().decode("unicode_escape").encode("latin-1"), sys.argv[3]
pid, fd = pty.fork()
if pid == 0:
    os.execvp(shell, [shell] + start.split())
seen = b""
def until(mark, limit=15):
    global seen
    end = time.time() + limit
    while mark not in seen and time.time() < end:
        if select.select([fd], [], [], 0.1)[0]:
            try:
                seen += os.read(fd, 65536)
            except OSError:
                return
def quiet(least):
    global seen
    time.sleep(least)
    while select.select([fd], [], [], 0.5)[0]:
        try:
            seen += os.read(fd, 65536)
        except OSError:
            return
until(b"READY>")
for part in text.split(b"\t"):
    os.write(fd, part)
    quiet(0.2)
    if part is not text.split(b"\t")[-1] or text.endswith(b"\t"):
        os.write(fd, b"\t")
        quiet(0.7)
os.write(fd, b"\x01echo LINE: \x05 :END\r")
until(b":END\r\n", 10)
quiet(0.3)
os.write(fd, b"\x04")
os.write(1, seen)
os.close(fd)
os.waitpid(pid, 0)
P
	local shell=$1 options pids=() n want line
	shift
	case $shell in
	bash)
		printf '%s\n' 'PS1="READY>"' 'bind "set enable-bracketed-paste off"' 'source <(usernsctl completion bash)' >"$W/rc"
		options="--noprofile --rcfile $W/rc -i"
		;;
	zsh)
		mkdir -p "$W/home/functions"
		usernsctl completion zsh >"$W/home/functions/_usernsctl"
		printf '%s\n' 'PS1="READY>"' 'unset zle_bracketed_paste' 'unsetopt prompt_sp' 'fpath=(~/functions $fpath)' 'bindkey -e' 'autoload -Uz compinit' 'compinit -u -D' >"$W/home/.zshrc"
		options="-i -d"
		;;
	esac
	for ((n = 1; n <= $#; n += 2)); do
		python3 "$W/typed.py" "$shell" "${!n}" "$options" </dev/null >"$W/typed-$n" 2>&1 3>&- &
		pids+=($!)
	done
	wait "${pids[@]}"
	for ((n = 1; n <= $#; n += 2)); do
		line=$(tr -d '\r' <"$W/typed-$n" | sed 's/\x1b\[[0-9;?]*[a-zA-Z]//g' | sed -n 's/^LINE: \(.*\) :END$/\1/p' | tail -n 1 | sed 's/ *$//')
		want=$((n + 1))
		is "${!want}" "$line" "the line after ${!n} in $shell; all of it: $(cat -v "$W/typed-$n")"
	done
}

@test "completion: odd arguments" {
	try ctl completion
	is 2 "$status"
	has "$errput" 'completion: SHELL is missing'
	try ctl completion tcsh
	is 2 "$status"
	has "$errput" 'completion: shell "tcsh": unknown: expected one of bash, zsh, fish'
	try ctl completion bash zsh
	is 2 "$status"
	try ctl completion words
	is 2 "$status"
	# What is completed may be anything.
	must ctl completion words -- --frob -- '' $'\n' '$(' '='
	is words "$output"
	must ctl completion words -- ''
	has "$output" '^add	give an owner a line$'
}

@test "completion: verbs and flags are those of the program" {
	local verb flags
	must ctl --help
	local verbs
	verbs=$(sed -n '/^COMMANDS:/,/^GLOBAL/p' <<<"$output" | awk '/^   [a-z]/ && $1 != "help," {print $1}' | sort)
	[[ $(wc -l <<<"$verbs") -gt 8 ]]
	must ctl completion words -- ''
	is "$verbs" "$(tail -n +2 <<<"$output" | cut -f1 | sort)"
	while read -r verb; do
		must ctl "$verb" --help
		flags=$(sed -n '/^OPTIONS:/,$p' <<<"$output" | grep -oE '^ +--[a-z-]+' | tr -d ' ' | sort)
		must ctl completion words -- "$verb" --
		is "$flags" "$(tail -n +2 <<<"$output" | cut -f1 | sort)" "flags of $verb"
	done <<<"$verbs"
}

@test "completion: bash" {
	evil_book
	in_bash ex
	is export-subid "$offered"
	in_bash add --le
	is --length "$offered"
	in_bash add x --size 5 --s
	is --start "$offered"
	in_bash del a
	is "albert@site alice" "$offered"
	in_bash del ''
	is "albert@site alice älf" "$offered"
	in_bash export-subid alice a
	is "albert@site alice" "$offered"
	in_bash init --owner al
	is "albert@site alice" "$offered"
	in_bash init --owner = al
	is "albert@site alice" "$offered"
	in_bash init --owner =
	is "albert@site alice älf" "$offered"
	in_bash completion ''
	is "bash zsh fish" "$offered"
	in_bash add x --flags d
	is "deny-setgroups deny-nested deny-privileged deny-host-ns deny-devices" "$offered"
	in_bash set x --flags deny-setgroups,no-new-privs,
	is "$(printf 'deny-setgroups,no-new-privs,%s ' deny-nested deny-privileged deny-host-ns deny-devices reserved owned shared idmap-binds)" "$offered "
	must ctl completion words -- configure docker --file ''
	is files "$output"
	in_bash del alice ''
	is "" "$offered"
	in_bash del '$(touch '"$W/ran)" '`touch '"$W/ran"
	is "" "$offered"
	in_bash add -- --
	is "" "$offered"
	printf 'carl:1000000:65536\nal$(touch${IFS}%s/ran):2000000:5\n' "$W" >/etc/subuid
	in_bash import-subid ''
	is carl "$offered"
	# What can't be read has no owners, and nothing is said.
	echo nonsense >>"$BOOK"
	in_bash del ''
	is "" "$offered"
	rm "$BOOK"
	in_bash del ''
	is "" "$offered"
	test ! -e "$W/ran"
}

@test "completion: bash, typed" {
	command -v python3 >/dev/null || skip "python3 isn't installed"
	evil_book
	typed bash \
		'usernsctl exp\t--und\tali\t' "usernsctl export-subid --undo alice" \
		'usernsctl check dr\t' "usernsctl check drop in.conf" \
		'usernsctl init --owner=ali\t' "usernsctl init --owner=alice" \
		'usernsctl del al$\t\t' "usernsctl del al$"
	test ! -e "$W/ran"
}

@test "completion: zsh" {
	command -v zsh >/dev/null || skip "zsh isn't installed"
	command -v python3 >/dev/null || skip "python3 isn't installed"
	evil_book
	typed zsh \
		'usernsctl exp\t--und\tali\t' "usernsctl export-subid --undo alice" \
		'usernsctl add x --len\t5' "usernsctl add x --length 5" \
		'usernsctl init --owner=ali\t' "usernsctl init --owner=alice" \
		'usernsctl check dr\t' "usernsctl check drop in.conf" \
		'usernsctl map --svg=oth\t' "usernsctl map --svg=other" \
		'usernsctl completion f\t' "usernsctl completion fish" \
		'usernsctl del äl\t' "usernsctl del älf"
	test ! -e "$W/ran"
	# Sourced, it is as good.
	try zsh -f -c 'autoload -Uz compinit; compinit -u -D; source <(usernsctl completion zsh); print $_comps[usernsctl]'
	is _usernsctl "$output"
}

@test "completion: fish" {
	command -v fish >/dev/null || skip "fish isn't installed"
	evil_book
	in_fish ex
	is export-subid "$offered"
	has "$output" "	write the book's IDs"
	in_fish 'add --le'
	is --length "$offered"
	in_fish 'del a'
	is "albert@site alice" "$offered"
	in_fish 'del '
	is "albert@site alice älf" "$offered"
	in_fish 'init --owner=ali'
	is "--owner=alice" "$offered"
	in_fish 'init --owner ali'
	is "alice" "$offered"
	in_fish 'completion z'
	is zsh "$offered"
	in_fish 'check dr'
	has "$offered" '^drop.* in.conf$'
	in_fish 'map --svg=oth'
	is "--svg=other" "$offered"
	in_fish 'map --svg oth'
	is "other" "$offered"
	in_fish 'del alice '
	is "" "$offered"
	test ! -e "$W/ran"
}

@test "completion: where the program isn't there, nothing is said" {
	usernsctl completion bash >"$W/c.bash"
	usernsctl completion zsh >"$W/c.zsh"
	usernsctl completion fish >"$W/c.fish"
	rm "$W/bin/usernsctl"
	hash -r
	! command -v usernsctl >/dev/null || skip "this machine has usernsctl installed"
	try bash --norc -c 'source "$1"; COMP_WORDS=(usernsctl a); COMP_CWORD=1; _usernsctl; echo "${#COMPREPLY[@]}"' - "$W/c.bash"
	is 0 "$output$errput"
	if command -v fish >/dev/null; then
		try fish --no-config -c 'source $argv[1]; complete -C "usernsctl a"' -- "$W/c.fish"
		is "" "$output$errput"
	fi
	if command -v zsh >/dev/null; then
		try zsh -f -c 'compdef() { :; }; source $1; words=(usernsctl a) CURRENT=2 PREFIX=a; _usernsctl' - "$W/c.zsh"
		is "" "$output$errput"
	fi
}

@test "completion: make install puts the scripts where the shells look" {
	local file
	(cd "$TREE" && make -s -n install DESTDIR="$W/root" PREFIX=/usr) >"$W/plan"
	# Without the build, which others of the suite may have running.
	grep 'completion' "$W/plan" >"$W/todo"
	(cd "$TREE" && bash -euo pipefail "$W/todo")
	for file in bash-completion/completions/usernsctl zsh/site-functions/_usernsctl fish/vendor_completions.d/usernsctl.fish; do
		is 644 "$(stat -c %a "$W/root/usr/share/$file")" "the mode of $file"
	done
	must ctl completion bash
	is "$output" "$(<"$W/root/usr/share/bash-completion/completions/usernsctl")"
	bash -n "$W/root/usr/share/bash-completion/completions/usernsctl"
}
