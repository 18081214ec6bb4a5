# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

# The words that cases call beside the engine's own, and those of tests/bats/engines.bash.

# in_lines WORDS: lists in one line come in no order; here they come sorted, one each line.
in_lines() { tr -s ' ' '\n' | sort; }

# typed TEXT COMMAND...: runs it on a terminal, on which the text is typed. What a terminal
# shows has other ends of lines.
typed() {
	local text=$1
	shift
	{ sleep 1.5; printf '%s' "$text"; sleep 1.5; } | script -qec "exec $*" /dev/null | tr -d '\r' | sed 's/\x1b\[[0-9;?]*[a-zA-Z]//g'
}

# fails COMMAND...: it has to, and its status is compared. A command that fails otherwise, under
# plain runc, is a mistake in the case.
fails() {
	local status=0
	"$@" || status=$?
	echo "status $status"
	((status != 0))
}

# soon COMMAND...: waits until it succeeds, and says nothing unless it doesn't.
soon() { patiently "$@"; }

# says TEXT COMMAND...: its output has the text.
says() { [[ $("${@:2}" 2>&1) == *"$1"* ]]; }

# a_disk: a block device of this machine, for limits of it.
a_disk() {
	local device
	for device in /dev/vda /dev/sda /dev/nvme0n1 /dev/loop0; do
		[[ ! -b $device ]] || break
	done
	echo "$device"
}

# saved: what the layers of an image on standard input hold, in the form of `docker save`.
saved() {
	python3 -c '
import io, json, sys, tarfile
t = tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read()))
layers = json.load(t.extractfile("manifest.json"))[0]["Layers"]
for n, name in enumerate(layers[1:]):
    for m in sorted(tarfile.open(fileobj=t.extractfile(name)), key=lambda m: m.name):
        x = {k: v for k, v in m.pax_headers.items() if not k.endswith("time")}
        print(n, m.name, m.type.decode(), "%04o" % m.mode, "%d:%d" % (m.uid, m.gid), m.size, m.linkname, sorted(x.items()))'
}
