# blocks.sh - images whose lists sign block digests, and how much of them was fetched.
#
# A bash library: source it after images.sh and verity.sh.
#
#   image_disk NAME MODE MIB  an image (image_add) of that many MiB; quick
#   image_blocks NAME [KEY=VALUE...]
#                             its entry names its fs-verity digest, and $WWW/NAME.fsv, the sidecar, is
#                             written.  KEYs:
#                               of=FILE       the digest and the sidecar are those of this file
#                               digest=TEXT   the digest is this
#                               sidecar=KIND  no: there is none; short, long; or the file that is one
#                               mode=MODE     it is served in that mode (hostile --help); uri=URI: elsewhere
#                               sha512=HEX    the SHA-512 in the entry is this
#   blocks_of NAME            prints the path of its file while it is being filled
#   sidecar_of NAME           prints how many bytes of its sidecar were sent
#   part NAME FIRST [N] [ARG...]      reads the granules from FIRST on, N of them, 1 (oracle)
#   spot NAME OFFSET [ARG...] reads the page at that byte with O_DIRECT
#   spot_fails NAME OFFSET ERRNO
#   n_requests NAME, bytes_of NAME    for wait_for: requests_are NAME N, sent_is NAME N
#   status_of KEY             a number of the mount's status file
#   parked TEST...            for wait_for: parked -ge 3
#   events_of NAME            prints the types of the image's events, oldest first, on one line
#   has_event NAME TYPE       for wait_for
#   another_server            one more scripted server of the same files and log; sets ANOTHER, its URL
#   asked_whole NAME          whether it was asked for without a range
#   flip_byte FILE OFFSET     one bit of it is not what it was
#   waiters PREFIX            begins a group of readers in the background; then
#   waiter WORD NAME ARG...   one of them; its word goes to $SITE/read.PREFIX-WORD
#   waited                    waits for the group; sets waiters_saw: "N WORD" of what they saw, with commas

image_disk() {
	image_add "$1" "$2" 1
	openssl enc -aes-128-ctr -nosalt -K "$(openssl rand -hex 16)" -iv 0 </dev/zero 2>/dev/null |
	    head -c "$(($3 * 1048576))" >"$WWW/$1"
}

image_blocks() {
	local name=$1 of=$WWW/$1 sidecar=yes word digest=

	shift
	for word in "$@"; do
		case $word in
		of=*)	of=${word#*=} ;;
		digest=*) digest=${word#*=} ;;
		sidecar=*) sidecar=${word#*=} ;;
		mode=*)	image_keys[$name]+=" hv:fsverity:uri=$SERVER/${word#*=}/$name.fsv" ;;
		uri=*)	image_keys[$name]+=" hv:fsverity:uri=${word#*=}" ;;
		sha512=*) image_sha512[$name]=${word#*=} ;;
		*)	bail "image_blocks: '$word'" ;;
		esac
	done
	word=$(verity_of "$of" "$WWW/$name.fsv") || bail "no digest of $of"
	image_keys[$name]+=" sl:checksum:fsverity-sha512=${digest:-$word}"
	case $sidecar in
	yes)	;;
	no)	rm "$WWW/$name.fsv" ;;
	short)	truncate -s -4096 "$WWW/$name.fsv" ;;
	long)	truncate -s +4096 "$WWW/$name.fsv" ;;
	*)	cp "$sidecar" "$WWW/$name.fsv" ;;
	esac
}

blocks_of() {
	printf '%s.blocks\n' "$SITE/cache/partial/$(image_hex "$1")"
}

sidecar_of() {
	sent "$1.fsv"
}

part() {
	local name=$1 first=$2 n=${3:-1}

	shift $(($# < 3 ? $# : 3))
	reads "$name" --mode direct --from $((first * granule)) --length $((n * granule)) "$@"
}

spot() {
	local name=$1 offset=$2

	shift 2
	reads "$name" --mode direct --from "$offset" --length 4096 "$@"
}

spot_fails() {
	oracle --mode direct --from "$2" --length 4096 "$(image "$1")" "$WWW/$1"
	[ "$oracle_word" = "$3" ] || { echo "not $3: ${oracle_said:-the bytes were read}"; return 1; }
}

requests_are() {
	[ "$(requests "$1")" -eq "$2" ]
}

sent_is() {
	[ "$(sent "$1")" -eq "$2" ]
}

status_of() {
	sed -n "s/^$1: //p" "$MNT/status"
}

parked() {
	test "$(status_of reads_parked)" "$@"
}

events_of() {
	ctl events | awk -v id="$1" '$3 == id { printf "%s%s", n++ ? " " : "", $2 }'
}

has_event() {
	[[ " $(events_of "$1") " == *" $2 "* ]]
}

another_server() {
	local ports

	ports=$(mktemp "$SITE/ports.XXXXXX")
	"$hostile" --root "$WWW" --log "$SITE/requests" >"$ports" </dev/null &
	at_exit images_server_stop $!
	wait_for 10 grep -qx ready "$ports" || bail 'the scripted server does not start'
	ANOTHER=http://127.0.0.1:$(sed -n 's/^http //p' "$ports")
}

asked_whole() {
	asked "$1" | grep -qx 'range=-1 if-range=-'
}

flip_byte() {
	local byte

	byte=$(od -An -tu1 -j"$2" -N1 "$1") || return 1
	# shellcheck disable=SC2059 # an octal escape
	printf "\\$(printf %o $((byte ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

waiters() {
	waiters_prefix=$1 waiters_pids=()
	rm -f "$SITE/read.$1-"* "$SITE/started.$1-"*
}

waiter() {
	local file=$SITE/read.$waiters_prefix-$1 name=$2 start=$SITE/started.$waiters_prefix-$1

	shift 2
	(
		oracle --start "$start" "$@" "$(image "$name")" "$WWW/$name"
		echo "$oracle_word" >"$file"
	) &
	waiters_pids+=($!)
}

waiters_begun() {
	[ "$(find "$SITE" -maxdepth 1 -name "started.$waiters_prefix-*" | wc -l)" -ge ${#waiters_pids[@]} ]
}

waited() {
	wait "${waiters_pids[@]}"
	waiters_saw=$(cat "$SITE/read.$waiters_prefix-"* | sort | uniq -c | sed 's/^ *//' | paste -sd,)
}
