# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

# containerd by its client ctr. A test has CTR, the words that call ctr in the
# namespace NS, and CTR_IMAGE, busybox there. The cgroups of a containerd namespace
# lie below one of its name, so the names are the tag of the tests.

CTR_SOCK=/run/containerd/containerd.sock
CTR_IMAGE=busybox:latest

# containerd_file: in setup_file. Starts containerd, with the image in NS and in
# the other namespace, and one container run in each, since what containerd keeps
# from then on (directories, a cgroup for the namespace) isn't what tests look for.
containerd_file() {
	CTRD=$BATS_FILE_TMPDIR/containerd
	NS=$UR_TAG
	export CTRD NS
	mkdir -m 0700 "$CTRD"
	first_book
	containerd_words
	containerd_start
	oci_image "$(engine_image busybox)" "$CTRD/image.tar" "$CTR_IMAGE"
	local namespace
	for namespace in "$NS" "$NS-other"; do
		ctr -a "$CTR_SOCK" -n "$namespace" image import "$CTRD/image.tar" >/dev/null
		ctr -a "$CTR_SOCK" -n "$namespace" run --rm --runc-binary "$RUNC" "$CTR_IMAGE" "$UR_TAG-first" true
		ctr -a "$CTR_SOCK" -n "$namespace" run --rm --runc-binary "$OURS" "$CTR_IMAGE" "$UR_TAG-first" true
	done
}

# tagged_snapshot: as snapshot of helpers.bash, with the cgroups of containers: they
# are below those that an engine has for all of them, which stay. So do the FIFOs
# of a ctr that went before its process did, what Docker had a network namespace
# bound to, what Podman made of its directory for maps, and bats' own clock.
tagged_snapshot() {
	# Not in a pipe: it knows this very shell from the rest.
	helpers_snapshot >"$W/.snapshot"
	grep -vE "^/sys/fs/cgroup/[^/]+/$UR_TAG(-[a-z]+)?\$|^/run/containerd/fifo|^/run/[a-z]+/netns/[0-9a-f]{12} f| ${POD:-/none}/graph/overlay |bats-exec-test|^ *sleep ${BATS_TEST_TIMEOUT:-0}\$" "$W/.snapshot"
	find /sys/fs/cgroup -type d -path "*/$UR_TAG*/*" ! -name conmon 2>/dev/null || true
}

# remove_cgroups: engines make more below those with the tag.
remove_cgroups() {
	find /sys/fs/cgroup -depth -type d -path "*/$UR_TAG*" -exec rmdir {} + 2>/dev/null
	return 0
}

# first_book: what setup gives every test, for the containers of setup_file.
first_book() {
	rm -rf "$BOOK" "$BOOK.d" "${ENGINE_CONF%/*}"
	mkdir -p "${ENGINE_CONF%/*}"
	CONF=$ENGINE_CONF AUDIT=$BATS_FILE_TMPDIR/audit.jsonl
	book "dockroot:$START:$COUNT:"
	config
}

containerd_start() {
	cat >"$CTRD/config.toml" <<-TOML
		version = 2
		root = "$CTRD/root"
		state = "/run/containerd"
		disabled_plugins = ["io.containerd.grpc.v1.cri"]
		[grpc]
		address = "$CTR_SOCK"
	TOML
	# With a map, ctr forgets which runtime it was told, and containerd's shim takes
	# the first runc of its PATH.
	mkdir -p "$CTRD/bin"
	ln -sf "$RUNC" "$CTRD/bin/runc"
	PATH=$CTRD/bin:$PATH containerd -c "$CTRD/config.toml" </dev/null >>"$CTRD/log" 2>&1 3>&- &
	keep containerd $!
	patiently "${CTR[@]}" version
}

# containerd_words: sets CTR; ctr may wait for ever for a task that is gone.
containerd_words() {
	CTR=(timeout --foreground -s KILL 60 ctr -a "$CTR_SOCK" -n "$NS")
}

# containerd_clean: removes the containers that a failed test left.
containerd_clean() {
	local id namespace
	[[ -f $BATS_FILE_TMPDIR/containerd.pids ]] || return 0
	for namespace in "$NS" "$NS-other"; do
		for id in $(ctr -a "$CTR_SOCK" -n "$namespace" container ls -q 2>/dev/null); do
			ctr -a "$CTR_SOCK" -n "$namespace" task rm -f "$id"
			ctr -a "$CTR_SOCK" -n "$namespace" container rm "$id"
		done
	done >/dev/null 2>&1
	return 0
}

# binary RUNTIME: the program of plain, ours, or of the path given.
binary() {
	case $1 in
	plain) echo "$RUNC" ;;
	ours) echo "$OURS" ;;
	*) echo "$1" ;;
	esac
}

# ctr_run RUNTIME FLAG... -- COMMAND...: container CT by that runtime.
ctr_run() {
	local flags=(--runc-binary "$(binary "$1")")
	shift
	while [[ $1 != -- ]]; do
		flags+=("$1")
		shift
	done
	shift
	"${CTR[@]}" run "${flags[@]}" "$CTR_IMAGE" "$CT" "$@"
}

# cut_short A B: one is the other without its end. ctr goes when the container has ended, at times before it
# has passed on the last that was written, with whatever runtime.
cut_short() { [[ $1 != "$2" && ($1 == "$2"* || $2 == "$1"*) ]]; }

# same_ctr FLAG... -- COMMAND...: `ctr run` gives the same status, output and
# error output with both.
same_ctr() {
	local n p_status p_output
	for n in 1 2 3; do
		try ctr_run plain --rm "$@"
		p_status=$status p_output=$output p_errput=$errput
		try ctr_run ours --rm "$@"
		cut_short "$p_output" "$output" || cut_short "$p_errput" "$errput" || break
		echo "# ctr has lost an end, time $n"
	done
	is "$p_status" "$status" "status, runc's first"
	is "$p_output" "$output" "standard output, runc's first"
	is "$p_errput" "$errput" "standard error, runc's first"
}

# told PATTERN RUNTIME FLAG... -- COMMAND...: it has to succeed, and to say at its end what the pattern matches.
told() {
	local pattern=$1 n
	shift
	for n in 1 2 3; do
		must ctr_run "$@"
		! grep -qE -- "$pattern" <<<"$output" || return 0
		echo "# ctr has lost an end, time $n"
	done
	has "$output" "$pattern"
}

# ctr_up RUNTIME [FLAG...]: CT that sleeps, detached; init is its process.
ctr_up() {
	local runtime=$1
	shift
	must ctr_run "$runtime" -d --null-io "$@" -- sleep 1000
	init=$(init_of "$CT")
}

init_of() { "${CTR[@]}" task ls | awk -v id="$1" '$1 == id {print $2}'; }

ctr_down() {
	try "${CTR[@]}" task rm -f "${1:-$CT}"
	must "${CTR[@]}" container rm "${1:-$CT}"
}

task_status() { "${CTR[@]}" task ls | awk -v id="${1:-$CT}" '$1 == id {print $3}'; }

is_task() { [[ $(task_status "${2:-$CT}") == "$1" ]]; }

no_task() { [[ -z $(task_status "${1:-$CT}") ]]; }

# upper_of [ID]: the directory on disk that has what the container wrote.
upper_of() {
	"${CTR[@]}" snapshot mounts /nowhere "${1:-$CT}" | grep -o 'upperdir=[^, ]*' | cut -d= -f2
}

# oci_image TAR FILE NAME [LAYERS [USER]]: an OCI layout of the root filesystem TAR.
# With LAYERS, so many more layers lie on it: each has a file of its own, another
# version of /layers/same, and every other removes the file of the layer three
# below. USER is whom it runs as; UID-GID stands for UID:GID.
oci_image() {
	python3 - "$@" <<-'PYTHON'
		import hashlib, io, json, sys, tarfile

		root, out, name = sys.argv[1:4]
		layers = [open(root, "rb").read()]

		def layer(n):
		    b = io.BytesIO()
		    with tarfile.open(fileobj=b, mode="w") as t:
		        def add(path, data):
		            i = tarfile.TarInfo(path)
		            i.size, i.mode, i.uid, i.gid = len(data), 0o640, n % 5, n % 7
		            t.addfile(i, io.BytesIO(data))
		        add("layers/%d" % n, b"%d\n" % n)
		        add("layers/same", b"of %d\n" % n)
		        if n > 3 and n % 2:
		            add("layers/.wh.%d" % (n - 3), b"")
		    return b.getvalue()

		layers += [layer(n) for n in range(1, int((sys.argv[4:] or ["0"])[0]) + 1)]
		blobs = {}

		def blob(data):
		    digest = hashlib.sha256(data).hexdigest()
		    blobs[digest] = data
		    return {"digest": "sha256:" + digest, "size": len(data)}

		v1 = "application/vnd.oci.image."
		config = blob(json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"], "User": "".join(sys.argv[5:]).replace("-", ":"), "Env": ["PATH=/bin:/sbin:/usr/bin:/usr/sbin"]},
		    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(l).hexdigest() for l in layers]}}).encode())
		manifest = blob(json.dumps({"schemaVersion": 2, "mediaType": v1 + "manifest.v1+json",
		    "config": {"mediaType": v1 + "config.v1+json", **config},
		    "layers": [{"mediaType": v1 + "layer.v1.tar", **blob(l)} for l in layers]}).encode())
		index = {"schemaVersion": 2, "manifests": [{"mediaType": v1 + "manifest.v1+json", **manifest,
		    "annotations": {"io.containerd.image.name": name}, "platform": {"architecture": "amd64", "os": "linux"}}]}
		with tarfile.open(out, "w") as t:
		    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(index).encode()}
		    files.update({"blobs/sha256/" + k: v for k, v in blobs.items()})
		    for path, data in files.items():
		        i = tarfile.TarInfo(path)
		        i.size = len(data)
		        t.addfile(i, io.BytesIO(data))
	PYTHON
}
