#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# What Docker reads and writes in a container's files from outside: cp, diff,
# commit, export, save, build. Nothing of a range may be seen there.

load helpers
load engines
load docker

setup_file() { docker_file busybox; }
teardown_file() { docker_down; }
setup() { docker_setup; }
teardown() { docker_teardown; }

# The same changes for each container: owners, whiteouts, an opaque directory,
# links, modes.
CHANGES='mkdir -p /d/e && echo x >/d/e/f && chown -R 1000:2000 /d && ln /d/e/f /d/g && ln -s g /d/h && rm /etc/group &&
	rm -r /home && mkdir /home && echo new >/home/file && chmod 4755 /d/g && chmod 1777 /home && mkfifo /d/fifo && echo root >>/etc/passwd &&
	chown 65535:65534 /home/file'

# an_archive NAME RUNTIME: two files, a directory and a link, of three owners.
an_archive() {
	rm -rf "$W/in"
	mkdir -p "$W/in/sub"
	echo one >"$W/in/one"
	echo two >"$W/in/sub/two"
	ln -s one "$W/in/link"
	chmod 4711 "$W/in/one"
	chown 1000:1000 "$W/in/sub"
	chown -h 7:8 "$W/in/link" "$W/in/sub/two"
}

@test "docker images: cp into a container before it starts, and out after it ended" {
	an_archive
	local runtime
	for runtime in plain ours; do
		docker create --name "$runtime" --runtime "$runtime" busybox sh -c 'cd /in && ls -lnR . | sed "s/ [A-Z][a-z][a-z] .*:[0-9][0-9] / /"; cat one; cp -a /in /out; chown 1234:4321 /out/one'
		docker cp -a "$W/in" "$runtime:/in"
		docker cp "$W/in/sub" "$runtime:/home/user/"
	done
	did start -a NAME
	has "$output" '^-rws--x--x +1 0 +0 '
	for runtime in plain ours; do
		mkdir "$W/$runtime.out"
		docker cp -a "$runtime:/out" "$W/$runtime.out/"
		docker cp "$runtime:/etc" "$W/$runtime.out/"
		docker cp -a "$runtime:/out" - >"$W/$runtime.tar"
	done
	is "$(listing "$W/plain.out/out")" "$(listing "$W/ours.out/out")" "what came out"
	is "$(tar_listing "$W/plain.tar")" "$(tar_listing "$W/ours.tar")" "what came out as a tar"
	has "$(tar_listing "$W/ours.tar")" 'out/one 0 .* 1234:4321'
	same_upper
}

@test "docker images: cp into a running container, seen from the next exec on" {
	an_archive
	both busybox sh -c 'while :; do ls /in /missed >/dev/null 2>&1; sleep 0.05; done'
	# Names that were looked up and missed, by name and by their directory.
	in_both sh -c 'ls -d /in /missed /tmp/new /etc/new 2>&1; true'
	local runtime
	for runtime in plain ours; do
		docker cp -a "$W/in" "$runtime:/in"
		docker cp "$W/in/one" "$runtime:/tmp/new"
		docker cp "$W/in/one" "$runtime:/missed"
		docker cp "$W/in/one" "$runtime:/home/user/one"
	done
	in_both sh -c 'cat /in/one /tmp/new /missed /home/user/one /in/sub/two; stat -c "%n %a %u:%g" /in /in/* /tmp/new /missed /home/user/one'
	# What came from outside is a file like others.
	in_both sh -c 'echo more >>/tmp/new; chown 5:6 /in/one; mv /in/sub /moved; rm /missed; mkdir /missed; ls /in /moved'
	# Again, over what was changed inside.
	for runtime in plain ours; do docker cp "$W/in/sub/two" "$runtime:/tmp/new"; done
	in_both cat /tmp/new
	is two "$output"
	docker kill plain ours
	same_upper
}

@test "docker images: cp over files of the image, in a running container" {
	local runtime
	must docker run --name base busybox sh -c 'mkdir -p /opt/d/e /opt/f; echo old >/opt/d/file; echo old >/opt/d/e/deep; ln -s file /opt/d/link'
	docker commit base based
	docker rm base
	both based sleep 1000
	in_both sh -c 'cat /opt/d/file /opt/d/e/deep; ls -R /opt'
	echo new >"$W/new"
	for runtime in plain ours; do
		docker cp "$W/new" "$runtime:/opt/d/link"
		docker cp "$W/new" "$runtime:/opt/d/e/another"
		docker cp "$W/new" "$runtime:/opt/f"
	done
	in_both sh -c 'cat /opt/d/file /opt/d/e/deep /opt/d/e/another /opt/f/new; ls -R /opt'
	in_both sh -c 'echo more >>/opt/d/file; echo more >>/opt/f/new; rm /opt/d/e/deep; touch /opt/f/x; mv /opt/d/e/another /opt; cat /opt/d/file /opt/f/new; ls -R /opt'
	did kill NAME
	same_upper
}

@test "docker images: cp into a directory that something in the running container holds" {
	local runtime
	both -w /home/user busybox sleep 1000
	in_both ls /etc /home/user
	echo new >"$W/new"
	# Docker's own mounts hold /etc, process 1 holds its working directory.
	for runtime in plain ours; do
		docker cp "$W/new" "$runtime:/etc/new"
		docker cp "$W/new" "$runtime:/etc/group"
		docker cp "$W/new" "$runtime:/home/user/new"
	done
	in_both cat /etc/new /etc/group /home/user/new
	in_both sh -c 'touch /etc/mine; echo more >>/etc/passwd; mkdir /etc/d; rm /etc/group; touch /home/user/mine; ls /etc /home/user'
	same_upper
}

@test "docker images: cp out of a running container" {
	both busybox sh -c "$CHANGES; sleep 1000"
	patiently docker exec plain test -p /d/fifo
	patiently docker exec ours test -p /d/fifo
	local runtime
	for runtime in plain ours; do
		docker cp -a "$runtime:/home" - >"$W/$runtime.tar"
		docker cp -a "$runtime:/d" - >"$W/$runtime-d.tar"
		docker cp -L "$runtime:/d/h" "$W/$runtime.h"
	done
	is "$(tar_listing "$W/plain.tar")" "$(tar_listing "$W/ours.tar")"
	is "$(tar_listing "$W/plain-d.tar")" "$(tar_listing "$W/ours-d.tar")"
	cmp "$W/plain.h" "$W/ours.h"
	# Written a moment ago, and not yet on disk.
	for runtime in plain ours; do
		docker exec "$runtime" sh -c 'dd if=/dev/zero of=/big bs=1M count=5 2>/dev/null; echo end >>/big'
		docker cp "$runtime:/big" "$W/$runtime.big"
	done
	cmp "$W/plain.big" "$W/ours.big"
}

@test "docker images: diff, export, commit and save" {
	both busybox sh -c "$CHANGES; sleep 1000"
	patiently docker exec plain test -p /d/fifo
	patiently docker exec ours test -p /d/fifo
	in_both sh -c 'stat -c %u:%g /home/file'
	is 65535:65534 "$output"
	same_diff
	has "$output" 'D /etc/group'
	did kill NAME
	same_diff
	local runtime
	for runtime in plain ours; do
		docker export "$runtime" >"$W/$runtime.tar"
		# Comments and times are in the configuration, which isn't compared.
		docker commit "$runtime" "committed-$runtime"
		docker save "committed-$runtime" >"$W/$runtime-save.tar"
		mkdir "$W/$runtime-save"
		tar -C "$W/$runtime-save" -xf "$W/$runtime-save.tar"
		mv "$W/$runtime-save/$(jq -r '.[0].Layers[-1]' "$W/$runtime-save/manifest.json")" "$W/$runtime-layer.tar"
	done
	is "$(tar_listing "$W/plain.tar")" "$(tar_listing "$W/ours.tar")" export
	is "$(tar_listing "$W/plain-layer.tar")" "$(tar_listing "$W/ours-layer.tar")" "the saved layer"
	has "$(tar_listing "$W/ours-layer.tar")" 'home/file .* 65535:65534'
	has "$(tar_listing "$W/ours-layer.tar")" 'etc/.wh.group'
	same_upper
	# And back: the image that ours made, under plain, and the other way round.
	docker rm plain ours
	docker rmi committed-ours committed-plain
	docker load <"$W/ours-save.tar"
	docker load <"$W/plain-save.tar"
	for runtime in plain ours; do
		must docker run --rm --runtime "$runtime" --name "$runtime" "committed-$([[ $runtime = ours ]] && echo plain || echo ours)" \
			sh -c 'cd /; stat -c "%n %F %a %u:%g" d d/* home/* etc/*'
		cp "$W/.out" "$W/$runtime.seen"
	done
	diff "$W/plain.seen" "$W/ours.seen"
}

@test "docker images: classic build, with ours as the default runtime" {
	local runtime context=$W/context
	mkdir -p "$context/sub"
	echo added >"$context/file"
	echo deep >"$context/sub/deep"
	chmod 4755 "$context/file"
	touch -d '2020-01-01' "$context" "$context"/* "$context/sub/deep"
	cat >"$context/Dockerfile" <<-'DOCKER'
		FROM busybox
		ARG who=nobody
		ENV A=b
		COPY file /added
		COPY --chown=1000:2000 sub /sub
		ADD file /home/
		RUN id && echo $A $who >/ran && chown 33:44 /ran && rm /etc/group && mv /sub /moved
		RUN mkdir -p /v && echo in volume >/v/file && chown -R 1000:1000 /v
		USER 1000
		RUN id && touch /tmp/by-user && ls -ln /tmp/by-user /added | cut -c 1-40
		USER 0
		WORKDIR /w/x
		RUN touch here && ln -s here there && ln here also && chmod 2755 .
		VOLUME /v
		FROM busybox
		COPY --from=0 /moved /w /ran /
		COPY --from=0 --chown=5:6 /added /added2
		RUN ls -lnR /x /ran /deep | sed 's/ [A-Z][a-z][a-z] .*:[0-9][0-9] / /'
	DOCKER
	for runtime in plain ours; do
		default_runtime "$runtime"
		must docker build --no-cache --build-arg "who=somebody" -t "built-$runtime" "$context"
		grep -vE '^ ---> |^Removing|^Successfully' "$W/.out" | sed 's/built-[a-z]*/built/' >"$W/$runtime.said"
		docker save "built-$runtime" >"$W/$runtime-save.tar"
		mkdir "$W/$runtime-save"
		tar -C "$W/$runtime-save" -xf "$W/$runtime-save.tar"
		for layer in $(jq -r '.[0].Layers[]' "$W/$runtime-save/manifest.json"); do
			echo "== layer"
			tar_listing "$W/$runtime-save/$layer"
		done >"$W/$runtime.layers"
	done
	default_runtime plain
	diff "$W/plain.said" "$W/ours.said"
	diff "$W/plain.layers" "$W/ours.layers"
	has "$(<"$W/ours.said")" 'uid=1000'
	# Each RUN went through the gate.
	is 5 "$(audit_lines)" "lines of the audit"
}

@test "docker images: a build step that fails, and one that is refused" {
	printf 'FROM busybox\nRUN echo before; exit 7\n' >"$W/Dockerfile"
	default_runtime ours
	try docker build - <"$W/Dockerfile"
	STDIN=$W/Dockerfile
	try docker build -
	is 7 "$status"
	book "dockroot:$START:100:size=100"
	printf 'FROM busybox\nUSER 5000\nRUN true\n' >"$W/Dockerfile"
	try docker build -
	is 1 "$status"
	has "$errput" '5000'
	STDIN=/dev/null
	default_runtime plain
}

@test "docker images: an image made by import is what was exported" {
	pair busybox sh -c "$CHANGES"
	did wait NAME
	is 0 "$output"
	docker export ours | docker import - imported
	docker run --rm --runtime ours imported sh -c 'cd /; find d home etc | sort | xargs stat -c "%n %F %a %u:%g"' >"$W/ours.seen"
	docker run --rm --runtime plain imported sh -c 'cd /; find d home etc | sort | xargs stat -c "%n %F %a %u:%g"' >"$W/plain.seen"
	diff "$W/plain.seen" "$W/ours.seen"
	grep -q 'home/file regular file 644 65535:65534' "$W/ours.seen"
}
