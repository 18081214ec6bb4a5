#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# usernsctl layer shift --image: images that engines have saved are shifted, and engines
# take them.

load helpers
load engines
load docker

setup_file() {
	docker_file busybox || return
	is_fit || return 0
	needs podman skopeo umoci zstd ctr || return 0
	# Two images, of which one stands on the other, and which have a layer in common.
	mkdir "$BATS_FILE_TMPDIR/context"
	cat >"$BATS_FILE_TMPDIR/context/Dockerfile" <<-'DOCKER'
		FROM busybox
		RUN mkdir -p /d/e && echo x >/d/e/f && chown -R 1000:2000 /d && ln /d/e/f /d/g && ln -s g /d/h && chmod 4755 /d/e/f && mkfifo /d/fifo
		ENV a="<b>&"
		RUN rm /etc/group && rm -r /home && mkdir /home && chown 65535:33 /home
		CMD ["sh"]
	DOCKER
	docker build -t one:1 "$BATS_FILE_TMPDIR/context"
	printf '%s\n' 'FROM one:1' 'RUN echo y >/y' >"$BATS_FILE_TMPDIR/context/Dockerfile"
	docker build -t two:1 "$BATS_FILE_TMPDIR/context"
	docker tag two:1 example.com/two:latest
	docker save one:1 >"$BATS_FILE_TMPDIR/one.tar"
	docker save one:1 two:1 example.com/two:latest >"$BATS_FILE_TMPDIR/both.tar"
	ID=$(docker inspect -f '{{.Id}}' one:1)
	OTHER=$(docker inspect -f '{{.Id}}' two:1)
	export ID OTHER
	docker rmi one:1 two:1 example.com/two:latest
}

teardown_file() { docker_down; }
setup() {
	docker_setup || return
	IN=$BATS_FILE_TMPDIR/one.tar
	MAP=0:$START:$COUNT
}
teardown() { docker_teardown; }

shift_to() {
	local way=$1
	shift
	try "$CTL" layer shift --image "--to-$way" --map "$MAP" "$@"
}

# shifts WAY IN OUT: archives, and it has to succeed.
shifts() {
	shift_to "$1" --input "$2" --output "$3"
	is 0 "$status" "the status of layer shift"
	is "" "$output$errput" "what it said"
}

# owners LISTING: of root's, of 1000:2000, and of 65535:33, plus what is their first ID.
owners() {
	is "/bin/busybox $(($1)):$(($1)) 755
/d $(($1 + 1000)):$(($1 + 2000)) 755
/d/e/f $(($1 + 1000)):$(($1 + 2000)) 4755
/d/g $(($1 + 1000)):$(($1 + 2000)) 4755
/d/h $(($1)):$(($1)) 777
/d/fifo $(($1)):$(($1)) 644
/home $(($1 + 65535)):$(($1 + 33)) 755" "$2" "owners"
}

FILES=(bin/busybox d d/e/f d/g d/h d/fifo home)

# in_docker IMAGE: as plain runc shows them to root of the host.
in_docker() { docker run --rm --runtime plain "$1" stat -c '%n %u:%g %a' "${FILES[@]/#//}"; }

# on_disk DIR: a root filesystem's.
on_disk() { (cd "$1" && stat -c '/%n %u:%g %a' "${FILES[@]}"); }

@test "layer image: docker save, shifted, loaded, and shifted back" {
	shifts host "$IN" "$W/shifted.tar"
	must docker load -i "$W/shifted.tar"
	owners "$START" "$(in_docker one:1)"
	must docker run --rm --runtime plain one:1 sh -c 'test ! -e /etc/group && test "$a" = "<b>&" && test /d/g -ef /d/e/f'
	[[ $(docker inspect -f '{{.Id}}' one:1) != "$ID" ]]
	# What Docker saves of it is what was loaded, legacy IDs and all.
	docker save one:1 >"$W/saved.tar"
	is "$(members "$W/shifted.tar")" "$(members "$W/saved.tar")" "what Docker saves again"
	# Back: the very bytes, and the image's own ID.
	shifts container "$W/shifted.tar" "$W/back.tar"
	cmp "$IN" "$W/back.tar"
	docker rmi one:1
	shifts container "$W/saved.tar" "$W/back-saved.tar"
	must docker load -i "$W/back-saved.tar"
	is "$ID" "$(docker inspect -f '{{.Id}}' one:1)" "the image's ID"
	owners 0 "$(in_docker one:1)"
}

# members ARCHIVE: what is in it, without times, and by name.
members() {
	python3 - "$1" <<-'PYTHON' | sort
		import hashlib, sys, tarfile

		with tarfile.open(sys.argv[1]) as t:
		    for m in t:
		        data = hashlib.sha256(t.extractfile(m).read()).hexdigest() if m.isreg() else ""
		        print(m.name, m.type.decode(), oct(m.mode), m.uid, m.gid, m.size, m.linkname, data)
	PYTHON
}

@test "layer image: several images of one archive, by pipes" {
	# What can't be read twice.
	"$CTL" layer shift --image --to-host --map "$MAP" < <(cat "$BATS_FILE_TMPDIR/both.tar") | cat >"$W/shifted.tar"
	must docker load -i "$W/shifted.tar"
	has "$output" 'Loaded image: one:1'
	is "$(docker inspect -f '{{.Id}}' two:1)" "$(docker inspect -f '{{.Id}}' example.com/two:latest)"
	owners "$START" "$(in_docker two:1)"
	is "$START" "$(docker run --rm --runtime plain two:1 stat -c %u /y)"
	is "$(docker inspect -f '{{json .RootFS.Layers}}' one:1 | jq -c .)" \
		"$(docker inspect -f '{{json .RootFS.Layers}}' two:1 | jq -c '.[:-1]')" "the layers that both have"
	is "$(docker inspect -f '{{.Id}}' one:1)" "$(docker inspect -f '{{.Parent}}' two:1)" "whom it stands on"
	must docker rmi two:1 example.com/two:latest one:1
	"$CTL" layer shift --image --to-container --map "$MAP" <"$W/shifted.tar" | cmp - "$BATS_FILE_TMPDIR/both.tar"
	# Compressed as a whole, as docker load takes it too.
	gzip -1 <"$IN" | "$CTL" layer shift --image --to-host --map "$MAP" >"$W/packed"
	shifts host "$IN" "$W/unpacked"
	gzip -dc <"$W/packed" | cmp - "$W/unpacked"
	zstd -q1 <"$IN" | "$CTL" layer shift --image --to-host --map "$MAP" | zstd -qdc | cmp - "$W/unpacked"
}

# config_of REF: the digest of the image's configuration, which is its ID.
config_of() { skopeo inspect --config --raw "$1" | sha256sum | cut -d' ' -f1; }

@test "layer image: OCI layouts, by skopeo and umoci, gzip and zstd" {
	local kind id
	for kind in gzip zstd; do
		rm -rf "$W"/{in,out,back,bundle}
		must skopeo copy -q --dest-compress-format "$kind" "docker-archive:$IN" "oci:$W/in:v1"
		has "$(skopeo inspect --raw "oci:$W/in:v1" | jq -r '.layers[].mediaType')" "tar.$kind"
		umoci tag --image "$W/in:v1" again
		id=$(config_of "oci:$W/in:v1")
		shifts host "$W/in" "$W/out"
		# Both tags are there, of one image, each blob once, and skopeo reads it whole.
		is "$(cd "$W/in" && find . -type f | wc -l)" "$(cd "$W/out" && find . -type f | wc -l)" "files"
		is "$(config_of "oci:$W/out:v1")" "$(config_of "oci:$W/out:again")"
		must skopeo copy -q "oci:$W/out:v1" "dir:$W/dir-$kind"
		# Back, as an archive this time.
		tar -C "$W/out" -cf "$W/out.tar" .
		shifts container "$W/out.tar" "$W/back.tar"
		is "$id" "$(config_of "oci-archive:$W/back.tar:v1")" "the image's ID, shifted back"
		# umoci of Debian reads no zstd.
		[[ $kind = gzip ]] || continue
		must umoci unpack --image "$W/out:v1" "$W/bundle"
		owners "$START" "$(on_disk "$W/bundle/rootfs")"
		must umoci gc --layout "$W/out"
		is "$(cd "$W/in" && find . -type f | wc -l)" "$(cd "$W/out" && find . -type f | wc -l)" "files, without what nothing names"
	done
}

# pod_load FORM FILE: name is what Podman calls it then. It loads archives alone.
pod_load() {
	local file=$2
	if [[ $1 = oci-dir ]]; then
		file=$2.archive
		must skopeo copy -q "oci:$2" "oci-archive:$file:localhost/one:1"
	fi
	must "${pod[@]}" load -q -i "$file"
	name=${output#*: }
}

@test "layer image: podman save, in both of its forms" {
	local form id name pod=(env -u DOCKER_CONFIG podman --root "$W/pod" --runroot "$W/run" --storage-driver vfs --log-level error)
	mkdir -p /etc/containers
	echo '{"default": [{"type": "insecureAcceptAnything"}]}' >/etc/containers/policy.json
	must "${pod[@]}" load -q -i "$IN"
	for form in docker-archive oci-archive oci-dir; do
		must "${pod[@]}" save -q --format "$form" -o "$W/$form" localhost/one:1
		# Podman makes another configuration of it, for a layout.
		id=$(config_of "${form/oci-dir/oci}:$W/$form")
		shifts host "$W/$form" "$W/$form.shifted"
		must "${pod[@]}" rmi -f one:1
		pod_load "$form" "$W/$form.shifted"
		must "${pod[@]}" image mount "$name"
		owners "$START" "$(on_disk "$output")"
		must "${pod[@]}" rmi -f "$name"
		shifts container "$W/$form.shifted" "$W/$form.back"
		pod_load "$form" "$W/$form.back"
		is "$id" "$("${pod[@]}" image inspect --format '{{.Id}}' "$name")" "the image's ID, after $form"
		must "${pod[@]}" tag "$name" localhost/one:1
	done
	# Layers there are plain, and so the archive comes back as it was.
	cmp "$W/docker-archive" "$W/docker-archive.back"
	rm -rf "$W/pod" "$W/run" /run/libpod /run/containers
}

@test "layer image: what containerd exports, a layout with manifest.json beside it" {
	# dockerd's own, which has a namespace for everybody.
	local ctr=(ctr --address "/run/docker/containerd/containerd.sock" --namespace "$UR_TAG") image=docker.io/library/one:1
	must "${ctr[@]}" image import --no-unpack "$IN"
	must "${ctr[@]}" image export "$W/exported" "$image"
	has "$(tar -tf "$W/exported")" '^manifest.json$'
	must "${ctr[@]}" image rm --sync "$image"
	shifts host "$W/exported" "$W/shifted"
	# Both find what is there, Docker by manifest.json.
	must "${ctr[@]}" image import --no-unpack "$W/shifted"
	must "${ctr[@]}" image check
	has "$output" "^$image .*complete"
	must "${ctr[@]}" image rm --sync "$image"
	must docker load -i "$W/shifted"
	owners "$START" "$(in_docker one:1)"
	shifts container "$W/shifted" "$W/back"
	cmp "$W/exported" "$W/back"
}

# refuses_image PATTERN ARGS...: layer shift --image fails so, and leaves nothing.
refuses_image() {
	local pattern=$1 before
	before=$(beside)
	shift
	shift_to host "$@"
	is 1 "$status" status
	is "" "$output" "standard output"
	has "$errput" "^usernsctl: layer shift: $pattern"
	is "$before" "$(beside)" "what is there"
}

# beside: what a test has in its directory, without what is kept of the last command.
beside() { find "$W" -maxdepth 2 ! -path "$W/.out" ! -path "$W/.err" | sort; }

@test "layer image: bad ones are refused, by name" {
	local size
	size=$(stat -c %s "$IN")
	head -c $((size / 2)) "$IN" >"$W/half"
	refuses_image "$W/half: .*truncated" --input "$W/half" --output "$W/out"
	mkdir "$W/x"
	tar -C "$W/x" -xf "$IN"
	echo more >>"$W/x/${ID#sha256:}.json"
	tar -C "$W/x" -cf "$W/changed" .
	refuses_image "$W/changed: [0-9a-f]{64}.json: its digest is sha256:" --input "$W/changed" --output "$W/out"
	rm -r "$W/x"/*/layer.tar
	tar -C "$W/x" -cf "$W/less" .
	refuses_image "$W/less: " --input "$W/less" --output "$W/out"
	MAP=0:$START:2000 refuses_image "$IN: .*/layer.tar: .*GID 2000: not in the map" --input "$IN" --output "$W/out"
	hint_has "--squash"
	refuses_image "/etc: has neither oci-layout nor manifest.json|/etc: " --input /etc --output "$W/out"
	echo mine >"$W/mine"
	must skopeo copy -q "docker-archive:$IN" "oci:$W/in:v1"
	refuses_image "$W/in: $W/mine: is there already" --input "$W/in" --output "$W/mine"
	is mine "$(<"$W/mine")"
	shift_to host --input "$W/in"
	is 2 "$status" status
	has "$errput" "is a directory: expected --output"
}

hint_has() { has "$(tail -n 1 <<<"$errput")" "usernsctl: try: .*$1"; }

@test "layer image: no room, and signals, leave nothing" {
	mkdir "$W/small"
	mount -t tmpfs -o size=1m tmpfs "$W/small"
	refuses_image "$IN: .*no space left on device" --input "$IN" --output "$W/small/out"
	umount "$W/small"
	# Large enough to be seen at work.
	head -c 60M /dev/urandom >"$W/noise"
	tar -C "$W" -cf "$W/noise.tar" noise
	umoci init --layout "$W/in"
	umoci new --image "$W/in:v1"
	must umoci raw add-layer --image "$W/in:v1" "$W/noise.tar"
	tar -C "$W/in" -cf "$W/in.tar" .
	rm "$W/noise" "$W/noise.tar"
	local signal pid n
	for signal in INT TERM HUP KILL; do
		env --default-signal=INT "$CTL" layer shift --image --to-host --map "$MAP" --input "$W/in" --output "$W/out" 2>"$W/said" 3>&- &
		pid=$!
		eventually test -e "$W/.out.unpack/tree"
		sleep 0.1
		kill -s "$signal" "$pid"
		reap "$pid"
		is $((128 + $(kill -l "$signal"))) "$status" "status after SIG$signal"
		[[ ! -e $W/out ]]
		is "" "$(<"$W/said")" "what it said"
		[[ $signal = KILL ]] || is "" "$(find "$W" -maxdepth 1 -name '.out.*')" "left by SIG$signal"
	done
	# What the killed one left goes with the next.
	is "$W/.out.unpack" "$(find "$W" -maxdepth 1 -name '.out.*')"
	shifts host "$W/in" "$W/out"
	is "" "$(find "$W" -maxdepth 1 -name '.out.*')"
	# By a pipe nothing has a name at all.
	mkdir "$W/temp"
	for signal in INT KILL; do
		TMPDIR=$W/temp env --default-signal=INT "$CTL" layer shift --image --to-host --map "$MAP" <"$W/in.tar" >"$W/piped" 3>&- &
		pid=$!
		eventually eval '[[ -n $(find "/proc/'$pid'/fd" -lname "$W/temp/*" 2>/dev/null) ]]'
		is "" "$(ls -A "$W/temp")" "temporary files"
		kill -s "$signal" "$pid"
		reap "$pid"
		is "" "$(ls -A "$W/temp")" "temporary files after SIG$signal"
	done
}
