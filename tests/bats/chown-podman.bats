#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

# shift = "chown" under an engine: Podman with the storage driver vfs, which gives each container a
# directory of its own, on a filesystem that can't be idmapped.

load helpers
load engines
load containerd
load podman

setup_file() {
	W=$BATS_FILE_TMPDIR
	needs podman conmon iptables ip || return 0
	podman_file
	mkdir "$POD/ram"
	mount -t ramfs -o mode=0700 ramfs "$POD/ram"
	printf '[storage]\ndriver = "vfs"\ngraphroot = "%s"\nrunroot = "/run/containers/vfs"\n' "$POD/ram" >"$CONTAINERS_STORAGE_CONF"
	sed -i "s,volume_path = .*,volume_path = \"$POD/ram/volumes\"," "$CONTAINERS_CONF"
	podman import -q -c 'CMD ["sh"]' -c 'ENV PATH=/bin:/sbin:/usr/bin:/usr/sbin' "$(engine_image busybox)" "$POD_IMAGE" >/dev/null
	must pod_run plain --rm -- true
	close_above
}

close_above() { chmod 0700 "$BATS_RUN_TMPDIR"; }

snapshot() { tagged_snapshot; }

setup() {
	engine_setup
	mkdir -p /etc/userns-runtime
	{
		printf 'runtimes = ["%s"]\nshift = "chown"\nrootfs-dirs = ["%s"]\n' "$RUNC" "$POD/ram/vfs/dir"
		printf '[audit]\npath = "%s"\n' "$AUDIT"
	} >/etc/userns-runtime/config.toml
}

teardown() {
	close_above
	[[ -n ${BATS_TEST_COMPLETED:-} ]] || podman_clean
	helpers_teardown
}

# owners: of all files of the container's directory.
owners() { (cd "$1" && find . -printf '%p %y %m %U:%G %l\n' | sort); }

@test "chown podman: run gives what it gives with runc" {
	same_pod -- sh -c 'id; stat -c "%n %u:%g %a" /bin /etc /etc/passwd; touch /new; ls -ln /new | cut -c1-30; exit 3'
	audited '.rootfs == "chown"'
	same_pod --user 1000:1000 -- sh -c 'id; touch /new'
	is "" "$(ls -A /var/lib/userns-runtime/chown)" "journals"
}

@test "chown podman: stop, start, exec, commit, rm; the image's owners are back on disk" {
	local dir runtime want
	for runtime in plain ours; do
		pod_up "$runtime"
		must podman exec "$CT" sh -c 'mkdir /data; echo x >/data/f; chown 1000:8 /data/f; cp /bin/busybox /data/suid; chmod 4755 /data/suid'
		dir=$(podman mount "$CT")
		if [[ $runtime == ours ]]; then
			is "$((START + 1000)):$((START + 8))" "$(stat -c %u:%g "$dir/data/f")" "while it runs"
			is "$START 4755" "$(stat -c '%u %a' "$dir/data/suid")" "while it runs"
		fi
		must podman stop -t 0 "$CT"
		owners "$dir" >"$W/$runtime.owners"
		must podman commit -q "$CT" "localhost/$runtime"
		must podman start "$CT"
		must podman exec "$CT" stat -c '%n %u:%g %a' /data/f /data/suid
		printf '%s\n' "$output" >"$W/$runtime.inside"
		must podman run --runtime plain --rm "localhost/$runtime" stat -c '%n %u:%g %a' /data/f /data/suid
		is "$(<"$W/$runtime.inside")" "$output" "in a container of the image that was committed"
		must podman umount "$CT"
		pod_down
	done
	diff "$W/plain.owners" "$W/ours.owners"
	diff "$W/plain.inside" "$W/ours.inside"
	is "" "$(ls -A /var/lib/userns-runtime/chown)" "journals"
	must podman rmi -f localhost/plain localhost/ours
}
