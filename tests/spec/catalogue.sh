#!/bin/bash
# A catalogue, a stored message or a site.json that is damaged, lost, locked away or too new: the
# site comes back by itself or says how to bring it back, and trusts nobody whom it did not trust.
#
# VMI_LONG flips 1,000 bytes instead of 60; VMI_SEED repeats a run.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl jq setpriv sqlite3 od
. "$here/../lib/mount.sh"
. "$here/../lib/tiny.sh"

# ---- a site with some history ----------------------------------------------------------------------

# one is verified, two selected, three neither; bob's list is distrusted, its image stored.
tiny_up
pki_user bob root || bail 'no PKI'
tiny_file bobs
PKI_LIST_URI=file://$WWW/other pki_list "$SITE/list.json" other 1 "$(pki_dn bob)" "$(pki_issuer bob)" \
    "$(pki_image bobs 'The image bobs' 1 "file://$WWW/bobs" 20000 "$(sha512sum <"$WWW/bobs" | cut -d' ' -f1)")" &&
    pki_sign bob "$SITE/list.json" "$WWW/other" && chmod 644 "$WWW/other" || bail 'no list'
tiny_subscribe
ctl -q deselect three
ctl -q endorser add bob --from-cert "$PKI/bob.pem"
ctl -q subscribe "file://$WWW/other" --endorser bob --select all
ctl -q fetch one bobs || bail 'nothing can be fetched'
ctl -q endorser unlink bob other
tiny_save whole
tiny_view >"$SITE/reference"
db=$SITE/state/catalogue.db

as_user() {
	setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"
}

# Every stored byte is where it was.
objects_untouched() {
	cmp "$(tiny_object one)" "$WWW/one" && cmp "$(tiny_object bobs)" "$WWW/bobs"
}

# After a rebuild nothing names what had expired: then its file is in lost+found.
objects_kept() {
	local bobs

	bobs=$(tiny_object bobs)
	[ -e "$bobs" ] || bobs=$(echo "$SITE"/cache/lost+found/*-"${bobs##*/}")
	cmp "$(tiny_object one)" "$WWW/one" && cmp "$bobs" "$WWW/bobs"
}

# What the trees of two mounts have in common after a rebuild: all but history.
shown() {
	(cd "$MNT" && ls -1 images cache subscriptions endorsers && cat images/*/state images/*/version)
}

logged() {
	grep -q "$1" "$LOG"
}

mounts_again() {
	: >"$LOG"
	mount_up && is_mounted
}

# The first line that a refused start says, after its exit status.
refused_start() {
	local status=0 said

	: >"$LOG"
	said=$(timeout 60 "$VMIMAGEFS_BUILD/vmimagefs" -o "config=$CONF" 2>&1 </dev/null) || status=$?
	[ "$status" -ne 0 ] || mount_kill
	printf '%s: %s\n' "$status" "$said"
}

mounts_again || bail 'no mount'
wait_for 10 state_is one verified
shown_whole=$(shown)
mount_down

# ---- single bytes ---------------------------------------------------------------------------------

flip() {
	local file=$1 offset=$2 byte

	byte=$(od -An -tu1 -j "$offset" -N1 "$file")
	# shellcheck disable=SC2059 # the byte is the format
	printf "\\x$(printf %02x $((byte ^ (1 << $3))))" |
	    dd of="$file" bs=1 seek="$offset" conv=notrunc status=none
}

# no_more_trust VIEW: every endorser, link, selection and live image is one of the reference.
no_more_trust() {
	jq -n -e --slurpfile new "$1" --slurpfile old "$SITE/reference" '
	    def all(k): map(.[k]? // empty) | add // [];
	    def trust: {name, credentials: (.credentials | sort), subscriptions: (.subscriptions | sort),
	        allow_sha1, any_purpose};
	    def image: {id, sha512, size, version, subscription, uri, selected};
	    (($new | all("endorsers") | map(trust)) - ($old | all("endorsers") | map(trust)) == []) and
	    (($new | all("images") | map(image)) - ($old | all("images") | map(image)) == [])' >/dev/null
}

good_view() {
	tiny_view >"$SITE/now"
	grep -q '^"failed' "$SITE/now" && echo "$(<"$SITE/now")"
	no_more_trust "$SITE/now" || echo "trust was gained: $(<"$SITE/now")"
}

# One flipped byte; prints what is wrong.
try_flip() {
	local offset=$1 bit=$2 status=0

	tiny_load whole
	flip "$db" "$offset" "$bit"
	ctl verify --deep >"$SITE/said" 2>&1 || status=$?
	objects_untouched >/dev/null 2>&1 || echo 'an object is gone'
	if [ "$status" -eq 0 ]; then
		good_view
		if grep -q rebuilt "$SITE/said"; then
			n_rebuilt=$((n_rebuilt + 1))
		fi
	elif [ "$status" -eq 1 ] && grep -q 'bytes are right, but the tree' "$SITE/said"; then
		# What stands in a row for a tree was derived from the bytes, and can be again.
		n_mended=$((n_mended + 1))
		ctl -q verify --fix >/dev/null 2>&1
		ctl verify --deep >"$SITE/said" 2>&1 || echo "not mended: $(<"$SITE/said")"
		objects_untouched >/dev/null 2>&1 || echo 'an object is gone then'
		good_view
	elif [ "$status" -eq 1 ] && grep -q 'code 53' "$SITE/said"; then
		n_refused=$((n_refused + 1))
	else
		echo "status $status: $(<"$SITE/said")"
	fi
}

flip_bytes() {
	local n=60 i offset bit size

	[ -z "${VMI_LONG:-}" ] || n=1000
	RANDOM=${VMI_SEED:=$((RANDOM))}
	size=$(stat -c %s "$db")
	n_rebuilt=0 n_refused=0 n_mended=0
	: >"$SITE/wrong"
	for ((i = 0; i < n; i++)); do
		offset=$(((RANDOM << 15 | RANDOM) % size))
		bit=$((RANDOM % 8))
		try_flip "$offset" "$bit" >"$SITE/one" 2>&1
		[ ! -s "$SITE/one" ] || { echo "byte $offset, bit $bit:"; cat "$SITE/one"; } >>"$SITE/wrong"
	done
	echo "$n single bits flipped (VMI_SEED=$VMI_SEED): $n_rebuilt rebuilt, $n_refused refused, $n_mended mended" >"$SITE/flips"
	cat "$SITE/wrong"
	[ ! -s "$SITE/wrong" ]
}

# The bytes that matter most are few: these are hit for certain.
flip_in_row() {
	local text=$1 offset

	tiny_load whole
	offset=$(LC_ALL=C grep -abo -m1 -- "$text" "$db" | head -n 1 | cut -d: -f1)
	[ -n "$offset" ] || { echo "'$text' is not in the catalogue"; return 1; }
	try_flip $((offset + ${#text} - 1)) 0
}

check 'B17 after any flipped bit the catalogue is good, rebuilt, mended or refused, and trusts nobody more' \
    flip_bytes
note "$(<"$SITE/flips")"
check_is 'B17 a credential that has changed is not believed' '' "$(flip_in_row 'OU=People/CN=bob')"
check_is 'B17 a digest that has changed is not believed' '' \
    "$(flip_in_row "$(sha512sum <"$WWW/two" | cut -d' ' -f1)")"
tree_is_mended() {
	local tree offset

	tiny_load whole
	tree=$(ctl --json digest --no-sidecar "$WWW/one" | jq -r .fsverity_sha512)
	# A row has the bytes themselves, any bytes: they are looked for as digits, two for each.
	offset=$(od -An -v -tx1 "$db" | tr -d ' \n' | grep -abo -m1 -- "$tree" | head -n 1 | cut -d: -f1)
	[ -n "$offset" ] || { echo "'$tree' is not in the catalogue"; return 1; }
	n_mended=0
	try_flip $((offset / 2 + 40)) 0
	[ $n_mended -eq 1 ] || echo 'it is not found'
}
check_is 'B17 the digest of a tree that has changed is found, and mended' '' "$(tree_is_mended)"
tiny_load whole
flip "$db" "$(LC_ALL=C grep -abo -m1 'OU=People/CN=bob' "$db" | head -n 1 | cut -d: -f1)" 1
check_like 'B17 a command that would write a changed credential into site.json is refused' \
    '^1: .*damaged.*code 53' "$(status=0; said=$(ctl select three 2>&1) || status=$?; echo "$status: $said")"

# ---- the whole file --------------------------------------------------------------------------------

comes_back() {
	local status=0

	mounts_again || { tail -n 5 "$LOG"; return 1; }
	wait_for "$VMI_PATIENCE" state_is one verified
	shown >"$SITE/shown"
	logged rebuilt && diff <(echo "$shown_whole") "$SITE/shown" &&
	    cmp "$MNT/images/one/image" "$WWW/one" && objects_kept || status=1
	mount_down && return $status
}

tiny_load whole
: >"$db"
check 'B18 an empty catalogue is rebuilt at the next start' comes_back
tiny_load whole
rm -f "$db"*
check 'B19 a missing catalogue is rebuilt at the next start' comes_back
tiny_load whole
echo 'this is a catalogue' >"$db"
check_status 'B20 commands say that the catalogue is damaged' 1 ctl images
check 'B20 text in its place is rebuilt at the next start' comes_back
check 'B20 what was there is kept beside' \
    grep -qx 'this is a catalogue' "$SITE"/state/catalogue.db.damaged-*

rebuild_at_once() {
	local i pids=() failed=0

	tiny_load whole
	echo 'this is a catalogue' >"$db"
	for i in 1 2 3 4 5 6; do
		ctl verify --deep >"$SITE/said.$i" 2>&1 &
		pids+=($!)
	done
	for i in "${pids[@]}"; do
		wait "$i" || failed=1
	done
	cat "$SITE"/said.*
	[ "$failed" -eq 0 ] && [ "$(cat "$SITE"/said.* | grep -c 'is rebuilt')" -eq 1 ] &&
	    [ "$(find "$SITE/state" -name 'catalogue.db.damaged-*' | wc -l)" -eq 1 ]
}
check 'B20 of many processes that find it damaged one rebuilds it, and all go on' rebuild_at_once

begin_at_once() {
	local i pids=() failed=0

	rm -rf "${SITE:?}/state" "${SITE:?}/cache" "${SITE:?}/run"
	mount_up &
	pids+=($!)
	for i in 1 2 3 4 5 6 7 8; do
		ctl -q endorser add "e$i" --subject "/CN=$i" --issuer /CN=ca >"$SITE/said.$i" 2>&1 &
		pids+=($!)
	done
	for i in "${pids[@]}"; do
		wait "$i" || failed=1
	done
	cat "$SITE"/said.*
	[ "$failed" -eq 0 ] && [ "$(ctl endorser list | wc -l)" -eq 8 ]
}
check 'B19 a daemon and many commands may begin a new site at the same time' begin_at_once
check 'B19 and the mount shows what they did' wait_for "$VMI_PATIENCE" \
    sh -c "[ \$(ls $MNT/endorsers | wc -l) -eq 8 ]"
mount_down

tiny_load whole
as_user sqlite3 "$db" "PRAGMA user_version = 99; UPDATE note SET value = '99' WHERE key = 'schema'" ||
    bail 'sqlite3 failed'
sum_before=$(sha512sum <"$db")
check_like 'B21 a catalogue of a newer version is refused' '^5: .*newer version' "$(refused_start)"
check_is 'B21 and left as it is' "$sum_before" "$(sha512sum <"$db")"
check_status 'B21 commands refuse it, too' 5 ctl images

tiny_load whole
chmod 0000 "$db"
check_like 'B22 a catalogue that cannot be opened is named, with the mode it needs' \
    '^7: .*catalogue.db.*0600' "$(refused_start)"
check 'B22 nothing was touched' objects_untouched
chmod 0600 "$db"
check_is 'B22 with its mode back the site is as it was' "$(<"$SITE/reference")" "$(tiny_view)"

tiny_load whole
rm -f "$db"
mkdir "$db"
chown nobody:nogroup "$db"
check_like 'B23 a directory in its place is refused, with what to do' '^1: .*no regular file: move it away' \
    "$(refused_start)"
check 'B23 nothing was touched' objects_untouched
rmdir "$db"
check 'B23 once it is gone, the catalogue is rebuilt' comes_back

tiny_load whole
rm -f "$db"* "$SITE/state/site.json"
check_like 'B19 without catalogue and site.json nothing is begun anew' '^1: .*restore catalogue.db or site.json' \
    "$(refused_start)"
check 'B19 nothing was touched' objects_untouched
tiny_load whole
flip "$SITE/state/site.json" 30 2
check 'B17 a damaged site.json is written anew from a good catalogue' ctl -q verify --deep
check_is 'B17 and the site is as it was' "$(<"$SITE/reference")" "$(tiny_view)"

# ---- stored messages -------------------------------------------------------------------------------

tiny_load whole
message=$(grep -l 'The image two' "$SITE"/state/messages/*.smime)
flip "$message" 700 3
check 'B24 a damaged message does not stop the mount' mounts_again
check_is 'B24 its images are not shown as valid' '' "$(ls "$MNT/images")"
check_like 'B24 its subscription says why' 'damaged' "$(cat "$MNT/subscriptions/tiny/error")"
check_not 'B24 and nothing of it can be read' test -e "$MNT/cache/one"
check 'B24 the file stays' objects_untouched
check 'B24 the next update brings the list back' ctl -q update tiny tiny
check 'B24 and the image, without fetching it' wait_for "$VMI_PATIENCE" cmp "$MNT/cache/one" "$WWW/one"
check_is 'B24 selections are as before' "$shown_whole" "$(shown)"
mount_down

tiny_load whole
chown root:root "$SITE"/state/messages/* && chmod 600 "$SITE"/state/messages/*
check_like 'B24 messages that root has put back are not taken for damaged' \
    'cannot be read: Permission denied: give it to the owner' "$(refused_start)"
chown nobody:nogroup "$SITE"/state/messages/*
check 'B24 given to their owner they stand' mounts_again
check_is 'B24 and the images are there, without an update' "$shown_whole" "$(shown)"
chown root:root "$SITE"/state/messages/*
exec 9<"$MNT/images/one/image"
: >"$LOG"
check 'B24 a worker that follows another goes on without them' ctl -q reload --binary
check 'B24 with the files that are open' cmp <(head -c 5000 "$WWW/one") <(head -c 5000 <&9)
check 'B24 which is said' logged 'cannot be read: Permission denied.*it is checked at the next start'
exec 9<&-
chown nobody:nogroup "$SITE"/state/messages/*
mount_down

# ---- the cache is not there -------------------------------------------------------------------------

tiny_load whole
mv "$SITE/cache" "$SITE/elsewhere"
install -d -o nobody -g nogroup -m 0750 "$SITE/cache"
check_like 'B26 a cache without its marker is refused' '^1: .*cache marker missing.*mounted' "$(refused_start)"
check_is 'B26 nothing is made in what may be a mount point' '' "$(ls -A "$SITE/cache")"
check_status 'B26 fetch refuses it, too' 1 ctl fetch two
check_status 'B26 expired --purge, too' 1 ctl expired --purge 0
rmdir "$SITE/cache" && mv "$SITE/elsewhere" "$SITE/cache"
check_is 'B26 no image expired, no event was sent' "$(<"$SITE/reference")" "$(tiny_view)"
check 'B26 no file was removed' objects_untouched
check 'B26 with the cache back the mount is as before' mounts_again
check_is 'B26 and shows what it showed' "$shown_whole" "$(shown)"
mount_down

# ---- the catalogue is gone, and no list can be verified ---------------------------------------------

tiny_load whole
rm "$db"*
mkdir "$SITE/away"
mv "$CERTS"/*.r0 "$SITE/away/"
check 'B24 a catalogue that is lost while no CRL is there is rebuilt' mounts_again
check_is 'B24 no list is believed then' '' "$(ls "$MNT/images")"
check 'B24 and its images stay where they are' cmp "$(tiny_object one)" "$WWW/one"
mv "$SITE/away"/* "$CERTS/"
mv "$WWW/one" "$SITE/one"
ctl -q update tiny
check 'B24 when the list is there again they are taken over without being fetched' \
    wait_for "$VMI_PATIENCE" cmp "$MNT/cache/one" "$SITE/one"
mv "$SITE/one" "$WWW/one"
mount_down

# ---- file_prefix was another ------------------------------------------------------------------------

tiny_load whole
tiny_view >"$SITE/before"
sed -i "s|^file_prefix = .*|file_prefix = $SITE/other|" "$CONF"
: >"$LOG"
check 'images accepted below another file_prefix are no damage of the catalogue' mounts_again
check 'nothing is rebuilt for it' eval '! logged "catalogue is rebuilt"'
check_is 'and nothing is forgotten' "$(<"$SITE/before")" "$(tiny_view)"
check 'nor moved aside' objects_untouched
mount_down
sed -i "s|^file_prefix = .*|file_prefix = $WWW|" "$CONF"

tiny_load whole
sed -i '/^file_prefix/d' "$CONF"
tiny_list 2 one two three
ctl -q update tiny
check_is 'L26 without file_prefix local images are refused' 3 \
    "$(sqlite3 "$db" "SELECT count(*) FROM refused")"
echo "file_prefix = $WWW" >>"$CONF"
check_like 'L26 when it is set the next update takes them, be the list the same' ' 3 added' "$(ctl update tiny)"
check_is 'L26 once' "list 'tiny': nothing new" "$(ctl update tiny)"

# ---- a large file that no row knows -----------------------------------------------------------------

# Hashing it would take minutes: nobody waits for the end.
tiny_load whole
huge=$(printf 'ab%.0s' {1..64})
images=("$(pki_image huge 'The image huge' 1 "file://$WWW/huge" $((64 << 30)) "$huge")")
for name in one two three; do
	images+=("$(pki_image "$name" "The image $name" 1 "file://$WWW/$name" "$(stat -c %s "$WWW/$name")" \
	    "$(sha512sum <"$WWW/$name" | cut -d' ' -f1)")")
done
PKI_LIST_URI=file://$WWW/list pki_list "$SITE/list.json" tiny 2 "$(pki_dn alice)" "$(pki_issuer alice)" \
    "${images[@]}" && pki_sign alice "$SITE/list.json" "$WWW/list" && ctl -q update tiny || bail 'no list'
install -d -o nobody -g nogroup "$SITE/cache/objects/ab"
install -o nobody -g nogroup -m 0640 /dev/null "$SITE/cache/objects/ab/$huge"
truncate -s 64G "$SITE/cache/objects/ab/$huge"
command=(timeout 10 "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF")
check 'beside a large file that has to be hashed a daemon starts' mounts_again
check 'meanwhile it answers' "${command[@]}" status
check 'and fetches another image' timeout 10 cmp "$MNT/images/two/image" "$WWW/two"
# It is read before it is durable.
wait_for "$VMI_PATIENCE" grep -qx verified "$MNT/images/two/state" || bail 'it is not stored'
check 'and carries out commands' "${command[@]}" evict two
timeout 2 cat "$MNT/images/huge/image" >"$SITE/said" 2>&1
check_is 'who reads that file waits for it' '124 0' "$? $(stat -c %s "$SITE/said")"
check 'and it is not fetched beside it' eval '! logged "$huge"'
ctl -q endorser unlink alice tiny
check 'I3 what is not trusted any more leaves the tree' \
    wait_for "$VMI_PATIENCE" eval '[ -z "$(ls "$MNT/images")" ]'
check 'P04 the daemon stops before it is hashed' mount_down
rm -f "$SITE/cache/objects/ab/$huge"

# ---- what does not belong there ---------------------------------------------------------------------

strange() {
	echo stray >"$SITE/cache/note.txt"
	echo stray >"$SITE/cache/objects/stray"
	head -c 100 /dev/urandom >"$SITE/cache/partial/$(printf '%0128d' 7)"
	mkdir "$SITE/cache/objects/dir"
	echo stray >"$SITE/cache/objects/dir/in-it"
	chown -R nobody:nogroup "$SITE/cache/objects/dir"
}

tiny_load whole
strange
check 'I11 a cache with strange files is mounted' mounts_again
aside() {
	[ "$(find "$SITE/cache/lost+found" -type f | wc -l)" -eq 4 ]
}
check 'I11 they are moved to lost+found, none is deleted' wait_for "$VMI_PATIENCE" aside
check 'I11 what is ours stays' objects_untouched
mount_down

plan_done
