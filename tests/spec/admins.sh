#!/bin/bash
# A hundred thousand images in a catalogue, and two admins at one site.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl sqlite3 jq
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"

# ---- a long catalogue ------------------------------------------------------------------------------------

n_images=100000
images_up
image_add first ok 1000
images_sign
ctl -q endorser add alice --from-cert "$PKI/alice.pem" &&
    ctl -q subscribe "$SERVER/ok/list" --endorser alice || bail 'the list is not accepted'
# As many as all lists together may name, each with a title and a digest of its own.
sqlite3 "$SITE/state/catalogue.db" "
	BEGIN;
	WITH RECURSIVE n(i) AS (VALUES (2) UNION ALL SELECT i + 1 FROM n WHERE i < $n_images)
	INSERT INTO meta SELECT 1000000 + i, 'image-' || i, 'Image ' || i, description, version, comments, os,
	    osversion, arch, hypervisor, format, size, '', uri, group_name, vo, created, expires, mpuri, bytes,
	    randomblob(64), created_at, expires_at, json, randomblob(64), verity, verity_uri
	    FROM n, meta WHERE identifier = 'first';
	UPDATE meta SET sha512 = lower(hex(digest)) WHERE id > 1000000;
	INSERT INTO image (ino, subscription, identifier, name, live, selected, announced, generation,
	    expires, meta, sha512)
	SELECT m.id, i.subscription, m.identifier, m.identifier, i.live, i.selected, i.announced, i.generation,
	    i.expires, m.id, m.digest FROM meta m, image i WHERE i.identifier = 'first' AND m.id > 1000000;
	INSERT INTO object (ino, digest, size, mtime, state)
	SELECT 1000000 + id, digest, bytes, 0, 'missing' FROM meta WHERE id > 1000000;
	COMMIT;" >"$SITE/said" 2>&1 || bail "no long catalogue: $(<"$SITE/said")"

vmcatcher() {
	VMIMAGEFS_CONFIG=$CONF "$VMIMAGEFS_BUILD/vmcatcher_$1" "${@:2}"
}

# with_cpu SECONDS COMMAND...: of processor, whatever else the machine does.  2 s are promised where it does
# nothing else.
with_cpu() {
	local TIMEFORMAT='%U %S' used

	used=$({ time "${@:2}" >"$SITE/shown" 2>/dev/null; } 2>&1) || return 1
	echo "$used" >"$SITE/used ${*:2}"
	awk -v most="$1" '{ exit !($1 + $2 < most) }' <<<"$used" || { echo "$used s"; return 1; }
}

# small COMMAND...: in 32 MiB, program, libraries and all.
small() {
	command time -f %M -o "$SITE/most" "$@" >/dev/null || return 1
	[ "$(<"$SITE/most")" -lt 32768 ] || { echo "$(<"$SITE/most") KiB"; return 1; }
}

# stops WORD COMMAND...: whose reader goes away after the first line, which has the word in it; in a third
# of the processor that with_cpu() saw all lines take.
stops() {
	local TIMEFORMAT='%U %S' used all

	all=$(<"$SITE/used ${*:2}") || return 1
	used=$({ time { "${@:2}" 2>"$SITE/said"; echo $? >"$SITE/status"; } | head -n 1 >"$SITE/shown"; } 2>&1)
	grep -q "$1" "$SITE/shown" || { cat "$SITE/shown" "$SITE/said"; return 1; }
	[ "$(<"$SITE/status")" -ne 0 ] && grep -q 'Broken pipe' "$SITE/said" || { cat "$SITE/said"; return 1; }
	awk -v all="$all" '{ split(all, a); exit !(3 * ($1 + $2) < a[1] + a[2]) }' <<<"$used" ||
	    { echo "$used s of $all s"; return 1; }
}

ctl_program=("$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF")
names() {
	grep -cE '(^|[[:space:]"])(first|image-[0-9]+)([[:space:]"]|$)' "$SITE/shown"
}
check 'A15 a hundred thousand images are listed in time' with_cpu 20 ctl images
check_is 'A15 none of them is missing' "$n_images" "$(names)"
check 'A15 as JSON, too' with_cpu 20 ctl --json images
check_is 'A15 which is whole' "$n_images" "$(jq '.images | length' "$SITE/shown")"
check 'A15 by the name of vmcatcher, too' with_cpu 20 vmcatcher image -l
check_is 'A15 where none is missing either' "$n_images" "$(names)"
check 'A15 and in its JSON' with_cpu 20 vmcatcher image -l -f json
check_is 'A15 which is whole, too' "$n_images" "$(jq length "$SITE/shown")"
for what in image-77777 'Image 77777' image-7777; do
	check "A15 '$what' is shown in time" with_cpu 2 ctl show "$what"
	check_like 'A15 with what its list says' 'title: Image 7777' "$(<"$SITE/shown")"
done
if [ -n "${VMI_SANITIZE:-}${VMI_WRAP:-}" ] || ! command -v time >/dev/null; then
	skip 'A15 in little memory' 'needs the command time, and programs as they are'
else
	check 'A15 in little memory' small "${ctl_program[@]}" images
	check 'A15 also as JSON' small "${ctl_program[@]}" --json images
	check 'A15 and by the name of vmcatcher' small env VMIMAGEFS_CONFIG="$CONF" \
	    "$VMIMAGEFS_BUILD/vmcatcher_image" -l -f json
fi
check 'A15 when nobody reads on, the list ends' stops first ctl images
check 'A15 also as JSON' stops '{' ctl --json images
check 'A15 and by the name of vmcatcher' stops first vmcatcher image -l

# ---- two admins --------------------------------------------------------------------------------------------

images_up
image_add one ok
image_add two ok
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
reads one --mode pread || bail "$oracle_said"
rounds=8
[ -z "${VMI_LONG:-}" ] || rounds=200

# against "COMMAND" "OPPOSITE": both at the same time, again and again; both succeed.
against() {
	local i pid status_1 status_2

	for ((i = 0; i < rounds; i++)); do
		# shellcheck disable=SC2086 # words
		ctl -q $1 >"$SITE/said.1" 2>&1 </dev/null &
		pid=$!
		status_1=0 status_2=0
		# shellcheck disable=SC2086 # words
		ctl -q $2 >"$SITE/said.2" 2>&1 </dev/null || status_2=$?
		wait "$pid" || status_1=$?
		[ "$status_1$status_2" = 00 ] || { cat "$SITE/said.1" "$SITE/said.2"; return 1; }
	done
}
selected() {
	[ "$(cat "$MNT/images/two/selected")" = yes ]
}
check 'A18 select and deselect at the same time both end well' against 'select two' 'deselect two'
check 'A18 and afterwards one admin has his way' ctl -q select two
check 'A18 which the mount shows' wait_for 10 selected
check 'A18 two who pin and unpin' against 'pin one' 'unpin one'
check 'A18 two who update' against 'update' 'update'
check 'A18 one who updates and one who applies expiry' against 'update' 'expire'
check 'A18 and an image is read' wait_for 10 reads one --mode pread
check_is 'A18 the catalogue is whole' ok "$(sqlite3 "$SITE/state/catalogue.db" 'PRAGMA integrity_check')"
check_is 'A18 and consistent' '' "$(sqlite3 "$SITE/state/catalogue.db" 'PRAGMA foreign_key_check')"
plan_done
