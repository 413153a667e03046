#!/bin/bash
# Every way in which the scripted web server can go wrong, each seen by a reader that goes through the page
# cache and by one that goes around it (O_DIRECT), at the same time.  A table; a mode of the server
# (tests/lib/hostile --help) without a line in it is a failure.
#
# Both readers must see the same: all bytes, or none and the errno.  What else becomes of it (resumed where,
# how often, what is kept) is in transport.sh and blocks_hostile.sh.
# time limit: 120 s

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/blocks.sh"

images_up fetch_parallel=64 connect_timeout=2s stall_timeout=2s
# Bounds are ten times what should be needed.
patient_ms=30000

# ---- servers -----------------------------------------------------------------------------------

# Certificates: 1 good, 2 late, 3 of another name, 4 of a stranger, 5 revoked, 6 TLS 1.1, 7 wants ours.
cert='purpose=serverAuth usage=critical,digitalSignature alt=DNS:localhost,IP:127.0.0.1'
# shellcheck disable=SC2086
pki_ca stranger && pki_server good root && pki_user late root $cert from='-20 days' to='-10 days' &&
    pki_server other root elsewhere.example.org && pki_server foreign stranger &&
    pki_user gone root $cert && pki_revoke root gone && pki_crl root &&
    pki_trust "$SITE/tls" root || bail 'no certificates'
echo "tls_ca = $SITE/tls" >>"$CONF"
tls=()
for name in good late other foreign gone good:old good:demand; do
	tls+=(--tls "$PKI/${name%:*}.pem:$PKI/${name%:*}.key${name#"${name%:*}"}")
done
"$hostile" --root "$WWW" --log "$SITE/requests" "${tls[@]}" >"$SITE/tls.ports" </dev/null &
at_exit images_server_stop $!
wait_for 10 grep -qx ready "$SITE/tls.ports" || bail 'the server with TLS does not start'

https_port() {
	awk -v nth="$1" '$1 == "https" && ++n == nth { print $2 }' "$SITE/tls.ports"
}

# One that serves a single request at a time has nobody else to serve.
another_server

# ---- the table ---------------------------------------------------------------------------------

# ROW MODE WORD [CODE]; WORD is "right" or an errno, CODE stands in the log.  The modes of ranges are asked
# for a range because their first response ends in the middle (half-).  Where a second try is right, a
# reader may come before it or after it.
table='
T01 @refused        EHOSTUNREACH 44
T02 @full           ETIMEDOUT 44
T03 @silent         ETIMEDOUT 44
T03 silent          ETIMEDOUT 44
T04 headerdrip:200  ETIMEDOUT 44
T05 slow:300        ETIMEDOUT 44
T06 stall:99        ETIMEDOUT 44
T06 stallonce       right
T06 stallat:600000  ETIMEDOUT 44
T06 stallatonce:600000 right
T07 close           EHOSTUNREACH 44
T08 cut:60          EHOSTUNREACH
T08 cutwhole:60     EHOSTUNREACH
T08 cutonce         right
T08 cutat:600000    EHOSTUNREACH
T08 cutatonce:600000 right
T09 cutnolen:60     EHOSTUNREACH
T09 once-cutnolen:60 right
T10 cutchunked:60   EHOSTUNREACH
T10 once-cutchunked:60 right
T11 more            EBADMSG 41
T12 less            EBADMSG 41
T13 endless         EBADMSG 43
T14 headerflood     EOVERFLOW 46
T15 continue        EOVERFLOW 46
T16 garbage         EBADMSG 45
T17 twolengths      EBADMSG 45
T18 neglength       EBADMSG 45
T19 hugelength      EBADMSG 45
T20 loop            EHOSTUNREACH 10
T20 chain:4         right
T20 chain:5         EHOSTUNREACH 10
T21 redirect?to=file:///etc/hostname EHOSTUNREACH 10
T22 redirect?to=ftp://127.0.0.1:9/x  EHOSTUNREACH 10
T22 redirect?to=scp://127.0.0.1:9/x  EHOSTUNREACH 10
T23 redirect?to=%OTHER%/ok/NAME      right
T23 auth            EHOSTUNREACH 10
T24 status:204      EHOSTUNREACH 10
T24 status:304      EHOSTUNREACH 10
T24 status:401      EHOSTUNREACH 10
T24 status:403      EHOSTUNREACH 10
T24 status:404      EHOSTUNREACH 10
T24 status:410      EHOSTUNREACH 10
T24 status:416      EBADMSG 45
T24 status:429?retry=1000000000 EHOSTUNREACH 10
T24 status:500      EHOSTUNREACH 10
T24 status:503      EHOSTUNREACH 10
T24 refuseat:600000 EHOSTUNREACH 10
T24 busy:1          EHOSTUNREACH|right 10
T25 portal          EBADMSG 41
T26 half-norange    right
T27 half-wrongrange right
T27 half-othertotal EBADMSG 41
T27 half-nototal    right
T27 half-norangehead right
T27 half-multipart  right
T28 half-shortrange right
T28 half-rangeless  right
T28 half-rangemore  right
T28 half-rangeendless EBADMSG|right 43
T29 newetag         right
T29 half-weaketag   right
T29 half-noetag     right
T29 half-badifrange right
T29 half-etags      right
T29 half-lyingrange right
T30 gzip            right
T30 tegzip          EBADMSG 45
T30 half-rangegzip  right
T31 flip:first      EBADMSG 42
T31 flip:middle     EBADMSG 42
T31 flip:last       EBADMSG 42
T31 flipat:600000   EBADMSG 42
T31 fliponce:middle EBADMSG|right 42
T31 flipatonce:600000 EBADMSG|right 42
T31 minus           EHOSTUNREACH
T31 plus            EBADMSG 43
T31 zeros           EBADMSG 42
T31 swap            EBADMSG 42
T33 @https:2        EHOSTUNREACH 44
T33 @https:3        EHOSTUNREACH 44
T33 @https:4        EHOSTUNREACH 44
T33 @https:5        EHOSTUNREACH 44
T33 @https:6        EHOSTUNREACH 44
T33 @https:1        right
T34 @silent-tls     ETIMEDOUT 44
T34 @https:7        EHOSTUNREACH 44
T37 @nowhere        EHOSTUNREACH 44
T38 drops:20        right
T38 every:20000     EHOSTUNREACH
T38 rate:4000000    right
T41 @slots:1        right
T41 wait:500        right
T42 ok              right
'

mib=1048576
# place MODE NAME: the address of the image.
place() {
	local path=$1 query=

	case $1 in
	@refused|@full|@silent) echo "http://127.0.0.1:$(server_port "${1#@}")/$2" ;;
	@silent-tls) echo "https://127.0.0.1:$(server_port silent)/$2" ;;
	@https:*) echo "https://127.0.0.1:$(https_port "${1#@https:}")/ok/$2" ;;
	@nowhere) echo "http://nowhere.invalid/$2" ;;
	@slots*) echo "$ANOTHER/${1#@}/$2" ;;
	*)	[[ $path != *\?* ]] || query="?${path#*\?}"
		query=${query//%OTHER%/http://localhost:$(server_port http)}
		echo "$SERVER/${path%%\?*}/$2${query//NAME/$2}" ;;
	esac
}

rows=() modes=() words=() codes=() names=()
while read -r row mode word code; do
	[ -n "$row" ] || continue
	name=i${#rows[@]}
	rows+=("$row") modes+=("$mode") words+=("$word") codes+=("$code") names+=("$name")
	size=$mib
	case $mode in
	swap)	size=$((2 * mib)) ;;
	drops*)	size=$((8 * mib)) ;;
	esac
	image_add_at "$name" "$(place "$mode" "$name")" $size
done <<<"$table"
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"

# Every word of the server's own list that begins with a slash and is no prefix.
absent=
for mode in $("$hostile" --help | sed -n 's|^  /\([a-z]*\) .*|\1|p'); do
	grep -qE "^T[0-9]+ @?(once-|half-)?${mode}[:? ]" <<<"$table" || absent+=" $mode"
done
check_is 'T01-T38 every mode of the hostile server is in the table' '' "$absent"

# ---- everything at once ------------------------------------------------------------------------

read_one() {
	timed oracle --mode "$2" "$(image "$1")" "$WWW/$1"
	printf '%s %s\n' "$oracle_word" "$took" >"$SITE/read.$1.$2"
}

for name in "${names[@]}"; do
	for way in pread direct; do
		read_one "$name" $way &
		readers+=($!)
	done
done
wait "${readers[@]}"

# saw NAME WORD CODE: so both ended, in time, with that code in the log.
saw() {
	local way word ms status=0

	for way in pread direct; do
		read -r word ms <"$SITE/read.$1.$way"
		[[ $word =~ ^($2)$ ]] && [ "$ms" -lt $patient_ms ] ||
		    { echo "$way: '$word' instead of '$2', after $ms ms"; status=1; }
	done
	[ -z "$3" ] || grep -q "code $3: $(image_hex "$1"):" "$LOG" ||
	    { echo "no code $3 in the log: $(grep -oE "code [0-9]+: $(image_hex "$1"):.*" "$LOG" | tail -n 1)"; status=1; }
	return $status
}

for i in "${!rows[@]}"; do
	check "${rows[i]} ${modes[i]}: readers through the page cache and around it see ${words[i]/|/ or }${codes[i]:+, code ${codes[i]}}" \
	    saw "${names[i]}" "${words[i]}" "${codes[i]}"
done

# ---- what is left of it ------------------------------------------------------------------------

check 'no wrong byte is kept' ctl verify --deep
check 'nobody waits any more' wait_for "$VMI_PATIENCE" grep -qx 'reads_parked: 0' "$MNT/status"
check 'the daemon ends' mount_down
plan_done
