// SPDX-License-Identifier: Apache-2.0

package main

// completionScripts is, for each shell, what asks the installed program at each completion, so
// that it never differs from that. What is typed and what is answered are data to them:
// neither is ever evaluated.
var completionScripts = map[string]string{
	"bash": `# bash completion of usernsctl(8), by: usernsctl completion bash

_usernsctl() {
	local kind='' line
	COMPREPLY=()
	while IFS= read -r line; do
		if [[ -z $kind ]]; then
			kind=$line
		else
			COMPREPLY+=("${line%%$'\t'*}")
		fi
	done < <(command usernsctl completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null </dev/null)
	case $kind in
	files) compopt -o default 2>/dev/null ;;
	dirs) compopt -o dirnames 2>/dev/null ;;
	esac
	return 0
}

complete -F _usernsctl usernsctl
`,
	"zsh": `#compdef usernsctl
# zsh completion of usernsctl(8), by: usernsctl completion zsh

_usernsctl() {
	local -a answer items
	local line
	answer=("${(@f)$(command usernsctl completion words -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null </dev/null)}")
	case $answer[1] in
	files|dirs)
		# Of --flag=VALUE, the value.
		[[ $PREFIX != --*=* ]] || compset -P '*='
		if [[ $answer[1] == dirs ]]; then _files -/; else _files; fi
		;;
	words)
		for line in "${(@)answer[2,-1]}"; do
			items+=("${line%%$'\t'*}:${line#*$'\t'}")
		done
		((${#items})) && _describe usernsctl items
		;;
	esac
}

# As a file in fpath this is the body of the function; sourced, it has to be made known.
if [[ ${funcstack[1]} == _usernsctl ]]; then
	_usernsctl "$@"
else
	compdef _usernsctl usernsctl
fi
`,
	"fish": `# fish completion of usernsctl(8), by: usernsctl completion fish

function __usernsctl_words
	command --query usernsctl; or return
	set -l words (commandline --tokenize --cut-at-cursor --current-process) (commandline --cut-at-cursor --current-token)
	set -l answer (command usernsctl completion words -- $words[2..-1] 2>/dev/null </dev/null)
	switch "$answer[1]"
		case files dirs
			# Of --flag=VALUE, the value.
			set -l flag (string match --regex -- '^--[^=]*=' "$words[-1]")
			set -l value (string replace --regex -- '^--[^=]*=' '' "$words[-1]")
			set -l found
			if test "$answer[1]" = dirs
				set found (__fish_complete_directories "$value")
			else
				set found (__fish_complete_path "$value")
			end
			for one in $found
				printf '%s%s\n' "$flag" $one
			end
		case words
			printf '%s\n' $answer[2..-1]
	end
end

complete --command usernsctl --no-files --arguments '(__usernsctl_words)'
`,
}
