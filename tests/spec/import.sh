#!/bin/bash
# Taking over from vmcatcher: its database becomes rows, the files of its cache become verified images, and
# neither is changed.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse nginx openssl setpriv sqlite3 jq
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"
. "$here/../lib/lists.sh"
. "$here/../lib/olddb.sh"
. "$here/../lib/vmcatcher.sh"
good=$olddb_data/vmcatcher.db

# json FILTER ARG...: what the verb says as JSON, filtered.
json() {
	local filter=$1

	shift
	ctl --json import-vmcatcher "$@" 2>/dev/null </dev/null | jq -r "$filter"
}

# ---- a database that vmcatcher itself wrote -----------------------------------------------------

# Its CRL and its list are good for weeks only: what comes after them is judged as of today.
list=63175437-7d59-4851-b333-c96cb6545a86
first=265a07dd-ba19-556e-981c-7a5d4d170896
second=86b1c337-4317-56f3-ab64-f758ffc8de52
site_up prefetch=never
cp -R "$olddb_data" "$SITE/old" && cp -R "$olddb_data/certificates/." "$CERTS"
chmod -R a+rX "$SITE/old" "$CERTS"
before=$(olddb_dump "$SITE/old")
said=$(refusal import-vmcatcher "$SITE/old/vmcatcher.db")
check_like 'A13 the subscription of a database of vmcatcher 0.6.3 is taken over' \
    "list '$list' .*: subscribed, 2 images known, 2 selected" "$said"
check_is 'A13 its endorser is taken over by name and credential' \
    'Test Endorser|/DC=org/DC=example/OU=People/CN=Test endorser|/DC=org/DC=example/CN=Test Grid CA' \
    "$(ctl --json endorser list | jq -r '.endorsers[]|.name+"|"+.credentials[].subject+"|"+.credentials[].issuer')"
check_is 'A13 its endorser is linked' "$list" \
    "$(ctl --json endorser show 'Test Endorser' | jq -r '.endorsers[].subscriptions[]')"
check_is 'A13 its selections are kept, whatever its list is worth today' "$first $second" \
    "$(jq -r '[.. | .selected? // empty | arrays | .[]] | sort | join(" ")' "$SITE/state/site.json")"
state=$(ctl --json subscriptions "$list" | jq -r '.subscriptions[]|.state+" "+(.code|tostring)')
now=$(date +%s) from=$(date -d 2026-11-21T20:00:00Z +%s) to=$(date -d 2026-12-19T19:50:00Z +%s)
if [ "$now" -ge "$from" ] && [ "$now" -lt "$to" ]; then
	check_is 'A13 its list is verified, and accepted' 'ok 0' "$state"
	check_is 'A13 the images of its list are endorsed and selected' "$first" \
	    "$(ctl --json images | jq -r '.images[]|select(.selected)|.id')"
elif [ "$now" -lt "$from" ] || [ "$now" -ge $((to + 3600)) ]; then
	check_like 'A13 its list is refused for what has lapsed since, or is not yet' '^new (50|34|33|11)$' "$state"
	check_is 'A13 no image is endorsed by a list that is not accepted' '' \
	    "$(ctl --json images | jq -r '.images[].id')"
fi
check_is 'A13 nothing of the source is changed, and no file is made beside it' \
    "$before" "$(olddb_dump "$SITE/old")"

# ---- one with everything in it ------------------------------------------------------------------

site_up prefetch=never
lists_up
pki_user mallory root && pki_user zoe root
# Names in ASCII alone would not show what becomes of the others.
name='Zoë Größe & Söhne'
for image in apple pear plum cherry grape fig; do
	image_file $image.img
done
image_file quince.img 3000000
entry() {
	image_entry "$1" "Image ${1^}" 1 "$1.img"
}
publish zoe one.list one 1 "$(entry apple)" "$(entry pear)" "$(entry plum)" "$(entry cherry)" "$(entry grape)" \
    "$(entry quince)"
publish mallory evil.list evil 1 "$(entry fig)"
publish alice four.list four 1 "$(image_entry melon Melon 1 fig.img)" "$(image_entry lemon Lemon 1 fig.img)"
printf 'no list at all\n' >"$SITE/garbage"

old=$SITE/vmcatcher
mkdir -p "$old/cache/expired" "$old/cache/partial" "$old/cache/cherry.d"
olddb_new "$old/vmcatcher.db"
olddb_endorser "$name" "$(pki_dn alice)" "$(pki_issuer alice)" "$(pki_dn zoe)" "$(pki_issuer zoe)"
olddb_endorser bob "$(pki_dn bob)" "$(pki_issuer bob)"
olddb_endorser mallory "$(pki_dn mallory)" "$(pki_issuer mallory)"
olddb_list one "$WEB_URL/one.list" "$WWW/one.list" userName=harry password=opensesame trustAnchor=2
olddb_list two "https://token-4711:x-oauth-basic@localhost:1/two.list" ''
olddb_list evil "$WEB_URL/evil.list" "$WWW/evil.list"
olddb_list four "$WEB_URL/four.list" "$WWW/four.list" updateMode=3
olddb_list five "$WEB_URL/five.list" "$SITE/garbage"
for id in one two four five; do
	olddb_link "$name" $id
done
olddb_link bob evil
for image in apple cherry grape quince link; do
	olddb_image one $image 1
done
olddb_image one pear 0
olddb_image two orange 1
olddb_image evil fig 1
olddb_image four melon 0
cp "$WWW"/{apple,pear,fig,quince}.img "$old/cache/"
for image in apple pear fig quince; do
	mv "$old/cache/$image.img" "$old/cache/$image"
done
head -c 100000 /dev/urandom >"$old/cache/cherry"
head -c 99999 "$WWW/grape.img" >"$old/cache/grape"
cp "$WWW/plum.img" "$old/cache/expired/plum.2026-11-21_19-57-49"
# An index that was cut while it was written.
printf '{\n    "apple": {\n        "dc:title": "Im' >"$old/cache/cache.index"
chmod -R go-rwx "$old"
secrets='opensesame|token-4711|x-oauth-basic'
before=$(olddb_dump "$old")
said=$(refusal -v import-vmcatcher "$old/vmcatcher.db" --cache "$old/cache")
check_is 'A13 all credentials of an endorser are taken over, its name as it stands' \
    "$(printf '%s\n' "$(pki_dn alice)" "$(pki_dn zoe)" | sort)" \
    "$(ctl --json endorser show "$name" | jq -r '.endorsers[].credentials[].subject' | sort)"
check_is 'A13 links are taken over' 'five four one two' \
    "$(ctl --json endorser show "$name" | jq -r '[.endorsers[].subscriptions[]] | sort | join(" ")')"
check_like 'A13 a list that is good is accepted' \
    "list 'one' [^:]*://[^:]*:[0-9]*/one.list\): subscribed, 6 images known, 5 selected, its list is accepted" "$said"
check_like 'A13 a list that nobody may sign comes as new, and is told' \
    "list 'evil': the stored list is not accepted: .*code 13" "$said"
check_like 'A13 a list that is none comes as new, and is told' \
    "list 'five': the stored list is not accepted: .*code 11" "$said"
check_like 'A13 a subscription without a list comes as new' "list 'two': no list is stored" "$said"
check_is 'A13 it is said of each subscription what it is' 'evil new 13,five new 11,four ok 0,one ok 0,two new 0' \
    "$(ctl --json subscriptions | jq -r '[.subscriptions[]|.id+" "+.state+" "+(.code|tostring)]|sort|join(",")')"
check_is 'A13 selections are those of the database' 'apple cherry grape quince' \
    "$(ctl --json images | jq -r '[.images[]|select(.selected and .subscription == "one")|.id]|sort|join(" ")')"
check_is 'A13 an image that was known and not subscribed stays so, whatever the policy' 'melon' \
    "$(ctl --json images | jq -r '.images[]|select(.subscription == "four" and (.selected|not))|.id')"
check_is 'A13 with the policy to subscribe, an image that was not known is selected' 'lemon' \
    "$(ctl --json images | jq -r '.images[]|select(.subscription == "four" and .selected)|.id')"
check_is 'X08 no credential is in the output' '' "$(grep -aE "$secrets" <<<"$said")"
check_is 'X08 nor in its JSON form' '' \
    "$(ctl --json import-vmcatcher "$old/vmcatcher.db" 2>&1 | grep -aE "$secrets")"
check_is 'A13 credentials of columns and of addresses are kept' 'harry opensesame,token-4711 x-oauth-basic' \
    "$(sqlite3 -separator ' ' "$SITE/state/catalogue.db" \
    'SELECT username, password FROM subscription WHERE username IS NOT NULL ORDER BY list_id' | paste -sd,)"
check_is 'A13 an address is kept without them' 'https://localhost:1/two.list' \
    "$(ctl --json subscriptions two | jq -r '.subscriptions[].url')"

# ---- its files ----------------------------------------------------------------------------------

check_like 'A13 the file of a selected image is adopted' "image 'apple': file adopted" "$said"
check_like 'A13 a file with other bytes is left, and told' \
    "image 'cherry': file left where it is: its SHA-512 is not the signed one" "$said"
check_like 'A13 a file of another size is left, and told' \
    "image 'grape': file left where it is: it has 99999 bytes, the signed size is 100000" "$said"
check_like 'A13 a file whose list was not accepted is left, and told' \
    "image 'fig': file left where it is: no list that is accepted here names it" "$said"
check_is 'A13 what is not selected is not looked at' '' "$(grep -E 'pear|plum' <<<"$said")"
check_like 'A13 that something was left is the exit status' '^1: ' "$said"
check_is 'A13 nothing of database and cache is changed, an index that was cut deletes nothing' \
    "$before" "$(olddb_dump "$old")"
check_is 'A13 nothing but what is verified is kept of it' "2 0" \
    "$(find "$SITE/cache/objects" -type f ! -name '*.fsv' | wc -l) $(find "$SITE/cache/partial" -type f | wc -l)"
mount_up || bail 'no mount'
check_is 'A13 an adopted image is verified in the mount' verified "$(image_state apple)"
check 'A13 and has the signed bytes' cmp "$MNT/images/apple/image" "$WWW/apple.img"
check 'A13 so has a larger one, of many granules' cmp "$MNT/images/quince/image" "$WWW/quince.img"
check_is 'A13 without any request to a server' 0 "$(web_requests .)"
check_like 'A13 an image that a policy refuses is shown as refused' '^32' \
    "$(value "$MNT/subscriptions/one/refused/plum/code")"
check_is 'A13 an image of a list that was never updated is not there' '' "$(ls -d "$MNT/images/orange" 2>/dev/null)"

# ---- again --------------------------------------------------------------------------------------

rows() {
	# The daemon's own note comes when it comes.
	sqlite3 "$SITE/state/catalogue.db" .dump | grep -v trust-fingerprint
	cat "$SITE/state/site.json"
}
before=$(rows)
said=$(refusal import-vmcatcher "$old/vmcatcher.db")
check_like 'A13 beside a daemon the database is read again, and nothing new is told' 'nothing was changed' "$said"
check_is 'A13 a second import changes nothing' '' "$(diff <(echo "$before") <(rows))"
check_like 'A13 files are not adopted while a daemon owns the cache' '^5: .*in use|^5: .*another' \
    "$(refusal import-vmcatcher "$old/vmcatcher.db" --cache "$old/cache")"
mount_down
check_is 'A13 a second import with files copies none again' 'known apple,known quince' \
    "$(json '[.files[]|select(.outcome != "left")|.outcome+" "+.id]|sort|join(",")' "$old/vmcatcher.db" --cache "$old/cache")"
ctl -q deselect apple && ctl -q endorser unlink "$name" four && ctl -q unsubscribe two &&
    ctl -q endorser remove bob
check_like 'A13 what was removed here since is left so' \
    "list 'two' was imported before and has been removed here" "$(refusal import-vmcatcher "$old/vmcatcher.db")"
check_is 'A13 what an admin has changed here since is not undone' 'false five,one mallory' \
    "$(ctl --json show apple | jq -r ".images[].selected") $(
    ctl --json endorser show "$name" | jq -r '[.endorsers[].subscriptions[]]|sort|join(",")') $(
    ctl --json endorser list | jq -r --arg n "$name" '[.endorsers[].name]|map(select(. != $n))|join(",")')"
olddb_sql "UPDATE ImageDefinition SET cache = 1 WHERE identifier = 'pear'"
olddb_image one plum 1
check_is 'A13 what was selected there since comes too' 'one 1 2' \
    "$(json '.subscriptions[]|select(.selected > 0)|.id+" "+(.images|tostring)+" "+(.selected|tostring)' "$old/vmcatcher.db")"
check_is 'A13 and is selected here' 'cherry grape pear quince' \
    "$(ctl --json images | jq -r '[.images[]|select(.selected and .subscription == "one" and .id != "plum")|.id]|sort|join(" ")')"
publish zoe one.list one 2 "$(entry apple)" "$(entry pear)" "$(entry plum)"
olddb_sql "UPDATE imageListInstance SET data = readfile('$WWW/one.list') WHERE id = 1"
check_is 'A13 a newer list that is stored there since is accepted' 'true' \
    "$(json '.subscriptions[]|select(.id == "one").accepted' "$old/vmcatcher.db")"
check_is 'A13 and what it names and the database knows is there' 'apple pear plum' \
    "$(ctl --json images | jq -r '[.images[]|select(.subscription == "one")|.id]|sort|join(" ")')"
publish zoe one.list one 1 "$(entry fig)"
olddb_sql "UPDATE imageListInstance SET data = readfile('$WWW/one.list') WHERE id = 1"
check_is 'A13 an older one than ours is not' 'false 2' \
    "$(json '.subscriptions[]|select(.id == "one").accepted' "$old/vmcatcher.db") $(
    ctl --json subscriptions one | jq -r '.subscriptions[].version')"

# ---- in use, no room, cut short -----------------------------------------------------------------

# hold SQL: another program has done that to the database and has not gone on.
coproc SQLITE { sqlite3 "$OLDDB" 2>&1; }
at_exit kill "$SQLITE_PID"
hold() {
	printf '%s\n.print done\n' "$1" >&"${SQLITE[1]}"
	read -r -t 10 _ <&"${SQLITE[0]}"
}
hold "BEGIN IMMEDIATE; UPDATE endorser SET identifier = 'nobody yet';"
before=$(olddb_dump "$old")
check_like 'A13 a database with an open transaction is read as it was before' 'nothing was changed' \
    "$(refusal import-vmcatcher "$old/vmcatcher.db")"
check_is 'A13 and is not touched' "$before" "$(olddb_dump "$old")"
hold 'ROLLBACK; BEGIN EXCLUSIVE;'
check_like 'A13 one that is being written is waited for, then told of' \
    '^5: .*is being written by another program' "$(refusal import-vmcatcher "$old/vmcatcher.db")"
hold 'ROLLBACK;'

site_up prefetch=never cache_min_free=99%
lists_up
publish alice one.list one 1 "$(IMAGE_URI=$WEB_URL/x image_file big.img 60000000; image_entry big Big 1 big.img)"
old=$SITE/vmcatcher
mkdir -p "$old/cache"
olddb_new "$old/vmcatcher.db"
olddb_endorser alice "$(pki_dn alice)" "$(pki_issuer alice)"
olddb_list one "$WEB_URL/one.list" "$WWW/one.list"
olddb_link alice one
olddb_image one big 1
cp "$WWW/big.img" "$old/cache/big"
check_like 'A13 a file is never copied into room that is to be kept free' \
    "^1: .*image 'big': file left where it is: no room" \
    "$(refusal import-vmcatcher "$old/vmcatcher.db" --cache "$old" | tr '\n' ' ')"
check_is 'A13 nothing is left of it' '' "$(find "$SITE/cache" -type f -size +0 ! -name '.vmimagefs-store')"
sed -i 's/^cache_min_free = .*/cache_min_free = 0%/' "$CONF"
# Without a shell between, and with the signal that background jobs ignore.
env --default-signal=INT "$VMIMAGEFS_BUILD/vmimagectl" -q -c "$CONF" import-vmcatcher "$old/vmcatcher.db" \
    --cache "$old" </dev/null >/dev/null 2>&1 &
command=$!
copying() {
	[ "$(cat "$SITE"/cache/partial/* 2>/dev/null | head -c 1 | wc -c)" -eq 1 ] || ! kill -0 $command
}
wait_for "$VMI_PATIENCE" copying
kill -INT $command
wait $command
check_like 'A10 an import that is interrupted leaves the image selected, not verified, or all of it done' \
    '^(selected|verified)$' "$(ctl --json images | jq -r '.images[].state')"
check 'A10 and no process that keeps the cache' wait_for 5 ctl -q verify
check_like 'A10 the next one does the rest' 'adopted|known' \
    "$(json '.files[].outcome' "$old/vmcatcher.db" --cache "$old/cache")"
check_is 'A10 and the image is verified' verified "$(ctl --json images | jq -r '.images[].state')"
check_status 'A09 output that cannot be written is an error' 1 \
    sh -c '"$0" -c "$1" import-vmcatcher "$2" >/dev/full' "$VMIMAGEFS_BUILD/vmimagectl" "$CONF" "$old/vmcatcher.db"

# ---- through the names of vmcatcher's commands --------------------------------------------------

# As the user whose database it is: his wrappers go on naming it, and find what it held.
mine=$SITE/mine
mkdir "$mine" && cp "$old/vmcatcher.db" "$mine/" && chown -R nobody:nogroup "$mine"
before=$(olddb_dump "$mine/vmcatcher.db")
named() {
	VMCATCHER_RDBMS=sqlite:///$mine/vmcatcher.db VMCATCHER_DIR_CERT=$CERTS \
	    setpriv --reuid=nobody --regid=nogroup --clear-groups "$VMIMAGEFS_BUILD/vmcatcher_$1" "${@:2}" 2>"$SITE/err"
}
check_is 'A13 the first command that names an old database shows what it held' "big	3	one" "$(named image -l)"
check_like 'A13 and says where it is now' "'$mine/vmcatcher.db' of vmcatcher was imported into '$mine/vmcatcher.db.vmimagefs'" \
    "$(<"$SITE/err")"
check_is 'A13 its endorser has the same name and credential' \
    "'alice'	'$(pki_dn alice)'	'$(pki_issuer alice)'" "$(named endorser -l)"
check_is 'A13 the second command does not say it again' '' "$(<"$SITE/err")"
named image -r -u big
check_is 'A13 what is changed by these commands stays changed' "big	2	one" "$(named image -l)"
check_is 'A13 the old database is never written' "$before" "$(olddb_dump "$mine/vmcatcher.db")"
check_is 'A13 nor does anything lie beside it but the store' 'vmcatcher.db vmcatcher.db.vmimagefs ' \
    "$(ls "$mine" | tr '\n' ' ')"
head -c 30000 "$good" >"$mine/cut.db"
check_like 'A13 a database that is damaged is not taken for one that is to be made' 'is cut off.*status 15 *$' \
    "$(VMCATCHER_RDBMS=sqlite:///$mine/cut.db "$VMIMAGEFS_BUILD/vmcatcher_image" -l 2>&1 | tr '\n' ' '
    echo "status ${PIPESTATUS[0]}")"

# ---- what cannot be imported --------------------------------------------------------------------

site_up
bad=$SITE/bad
mkdir -m 755 "$bad"
head -c 30000 "$good" >"$bad/cut.db"
{ head -c 8192 "$good"; head -c 20480 /dev/urandom; tail -c +28673 "$good"; } >"$bad/garbage.db"
printf 'endorser,subject\n' >"$bad/text"
sqlite3 "$bad/other.db" 'CREATE TABLE endorser (id); CREATE TABLE subscription (id); INSERT INTO endorser VALUES (1)'
cp "$good" "$bad/newer.db" && sqlite3 "$bad/newer.db" 'ALTER TABLE ImageDefinition RENAME COLUMN cache TO cached'
cp "$good" "$bad/private.db" && chmod 600 "$bad/private.db"
cp "$good" "$bad/hot.db" && printf '\331\325\005\371 \241c\327rest' >"$bad/hot.db-journal"
cp "$good" "$bad/wal.db" && printf 'frames' >"$bad/wal.db-wal"
chmod a+r "$bad"/{cut,garbage,other,newer,hot,wal}.db "$bad/text"
before=$(olddb_dump "$bad")
while read -r file wanted; do
	check_like "A13 what cannot be imported is said in a sentence: $file" "$wanted" \
	    "$(refusal import-vmcatcher "$bad/$file")"
done <<'EOT'
cut.db ^1: .*/cut.db' is cut off: .*nothing was imported
garbage.db ^1: .*/garbage.db' is damaged: .*nothing was imported
text ^2: .*/text' is no SQLite database
other.db ^2: .*another program than vmcatcher
newer.db ^2: .*another version of vmcatcher than 0.6: its table 'ImageDefinition' has no column 'cache'
missing.db ^3: .*No such file
. ^2: .*is no file
hot.db ^5: .*was interrupted half-way
wal.db ^5: .*not in it but in
EOT
as_nobody() {
	setpriv --reuid=nobody --regid=nogroup --clear-groups "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" "$@" 2>&1
	echo "status $?"
}
check_like 'A08 a database that the caller may not read is said' 'private.db.: Permission denied.*status 7' \
    "$(as_nobody import-vmcatcher "$bad/private.db" | tr '\n' ' ')"
check_like 'A08 so is a cache directory' "cannot open the cache directory '$bad/none'.*status 3" \
    "$(as_nobody import-vmcatcher "$olddb_data/vmcatcher.db" --cache "$bad/none" | tr '\n' ' ')"
check_is 'A13 none of them is changed' "$before" "$(olddb_dump "$bad")"
check_is 'A13 nothing was made for them' '' "$(ls "$SITE/state" 2>/dev/null)"
check_status 'A11 import-vmcatcher without a database is wrong use' 2 ctl import-vmcatcher
check_status 'A11 an option that it does not have, too' 2 ctl import-vmcatcher "$good" --catch x

plan_done
