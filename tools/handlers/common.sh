# common.sh - what the event handlers have in common.  Sourced by them; POSIX sh.
#
# A handler is told of an event by variables (VMCATCHER_*), whose values are text from a signed
# list: any text.  They are never part of a command line that a shell reads, and go through
# clean() before they go anywhere else.
#
# shellcheck shell=sh

PATH=$PATH:/usr/bin:/bin
umask 022

# What vmcatcher tells of an image; and UUID, which is ours.
# shellcheck disable=SC2034 # used by those who source this
event_names='TYPE UUID DC_DESCRIPTION DC_IDENTIFIER DC_TITLE HV_HYPERVISOR HV_SIZE HV_URI HV_VERSION
	HV_FORMAT SL_ARCH SL_CHECKSUM_SHA512 SL_COMMENTS SL_OS SL_OSVERSION AD_MPURI IL_DC_IDENTIFIER
	FILENAME VO'

say() {
	printf '%s\n' "${0##*/}: $*" >&2
}

fail() {
	say "$@"
	exit 1
}

# The value of VMCATCHER_EVENT_$1, one of the names above.
event() {
	eval "printf '%s' \"\${VMCATCHER_EVENT_$1-}\""
}

# One line without quotes, backslashes and control characters, and without what ends a CDATA
# section: the text can stand between double quotes in a template, and in XML, whatever reads
# them.
clean() {
	# shellcheck disable=SC1003 # a quote for a quote, a slash for a backslash
	printf '%s' "$1" | LC_ALL=C tr '\001-\037\177' ' ' | tr '"\\' "'/" | sed 's/]]>/]] >/g'
}

# Whether the text consists of bytes that mean nothing to anybody.
is_plain() {
	case $1 in
	'' | *[!A-Za-z0-9._+~/:@-]*) return 1 ;;
	esac
}

need_command() {
	for command; do
		command -v "$command" >/dev/null 2>&1 || fail "there is no command '$command' on PATH ($PATH)"
	done
}

is_hex128() {
	[ ${#1} -eq 128 ] || return 1
	case $1 in
	*[!0-9a-f]*) return 1 ;;
	esac
}

# ---- the event ----------------------------------------------------------------------------------

# Sets type, identifier, sha512, format; the rest is event NAME.
read_event() {
	type=${VMCATCHER_EVENT_TYPE-}
	case $type in
	AvailablePostfix | ExpirePostfix | ExpirePosfix) ;;
	*) exit 0 ;;
	esac
	identifier=$(clean "${VMCATCHER_EVENT_DC_IDENTIFIER-}")
	sha512=${VMCATCHER_EVENT_SL_CHECKSUM_SHA512-}
	format=$(printf '%s' "${VMCATCHER_EVENT_HV_FORMAT-}" | tr '[:upper:]' '[:lower:]')
	[ -n "$identifier" ] || fail 'VMCATCHER_EVENT_DC_IDENTIFIER is empty'
	is_hex128 "$sha512" || fail 'VMCATCHER_EVENT_SL_CHECKSUM_SHA512 is no SHA-512'
	# The record on standard input says why; vmcatcher itself (no UUID) gives none.
	reason=
	if [ "$type" != AvailablePostfix ] && [ -n "${VMCATCHER_EVENT_UUID-}" ]; then
		reason=$(sed -n '1s/^{[^{]*"reason":"\([a-z-]*\)".*/\1/p')
	fi
}

# Whether the image is subscribed and available now: then another version has come, or is about to.
is_available() {
	vmcatcher_image -l 2>/dev/null |
	    awk -F '\t' '$1 == ENVIRON["VMCATCHER_EVENT_DC_IDENTIFIER"] && $2 == 3 { found = 1 }
		END { exit !found }'
}

# Whether the version that expires is to stay until its successor is there.
waits_for_successor() {
	case $reason in
	replaced) return 0 ;;
	'') is_available ;;
	*) return 1 ;;
	esac
}

# ---- the file -----------------------------------------------------------------------------------

# Sets image: the file of the event.  Its name in the mount is that of its content for ever,
# whatever happens to the image.
find_image() {
	image=${VMCATCHER_CACHE_DIR_CACHE-}/${VMCATCHER_EVENT_FILENAME-$identifier}
	[ -f "$image" ] || fail "there is no file '$image'"
	image=$(readlink -f "$image") || fail "the way to '$image' cannot be followed"
	is_plain "$image" || fail "'$image' has odd characters in its path"
}

# Sets work: a directory of this run, removed at the end.
make_work() {
	work=$(mktemp -d "${1:-${TMPDIR:-/tmp}}/vmimagefs.XXXXXX") ||
	    fail "no directory can be made in '${1:-${TMPDIR:-/tmp}}'"
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM
	chmod 755 "$work"
}

# A disk must be all in one file: whoever opens it would follow its way to any other.
is_self_contained() {
	info=$(qemu-img info -f "$2" --output=json "$1") || return 1
	case $info in
	*'"backing-filename"'* | *'"full-backing-filename"'* | *'"data-file"'*) return 1 ;;
	esac
	[ "$2" = vmdk ] || return 0
	case $info in
	*'"create-type": "streamOptimized"'* | *'"create-type": "monolithicSparse"'*) return 0 ;;
	esac
	return 1
}

# Sets disk: the one disk in a directory, the first if the names say which one that is.
choose_disk() {
	disk=
	n_disks=0
	for member in "$1"/*.vmdk "$1"/*.vdi "$1"/*.qcow2 "$1"/*.qcow "$1"/*.raw "$1"/*.img; do
		if [ ! -f "$member" ] || [ -L "$member" ]; then
			continue
		fi
		n_disks=$((n_disks + 1))
		case $member in
		*disk1.*) disk=$member n_disks=1 && break ;;
		*) disk=$member ;;
		esac
	done
	[ "$n_disks" -eq 1 ] || fail "the OVA holds $n_disks disks: one, or one named *disk1.*, is needed"
}

# Whether the mount shows the members of this very version.
ova_in_mount() {
	case $image in
	*/by-sha512/"$sha512") members=${image%/by-sha512/*}/images/${VMCATCHER_EVENT_FILENAME-}/ova ;;
	*) return 1 ;;
	esac
	[ "$(cat "${members%/ova}/sha512" 2>/dev/null)" = "$sha512" ] && [ -d "$members" ]
}

# $1: what is wanted, raw or qcow2.  Makes image a disk of that format, and format its name.
unpack_ova() {
	need_command qemu-img
	if ova_in_mount; then
		[ ! -f "$members/error" ] || fail "the OVA is refused: $(cat "$members/error")"
		choose_disk "$members"
	else
		mkdir "$work/ova" || exit 1
		tar -xf "$image" -C "$work/ova" --no-same-owner --no-same-permissions ||
		    fail 'the OVA cannot be unpacked'
		choose_disk "$work/ova"
	fi
	case $disk in
	*.vmdk) from=vmdk ;;
	*.vdi) from=vdi ;;
	*.qcow2) from=qcow2 ;;
	*.qcow) from=qcow ;;
	*) from=raw ;;
	esac
	is_self_contained "$disk" "$from" || fail "the disk in the OVA refers to other files, or is no $from"
	qemu-img convert -f "$from" -O "$1" "$disk" "$work/disk.$1" || fail 'qemu-img convert failed'
	chmod 644 "$work/disk.$1"
	rm -rf "$work/ova"
	image=$work/disk.$1
	format=$1
}

# Makes image something that can be registered as it is.  $1: the format for the disk of an OVA;
# the rest: the formats that are taken as they are.
prepare_image() {
	ova_format=$1
	shift
	case $format in
	ova | tar) unpack_ova "$ova_format" && return ;;
	img | '') format=raw ;;
	esac
	for known; do
		[ "$format" = "$known" ] && break
	done
	[ "$format" = "$known" ] || {
		say "images of the format '$(clean "$format")' cannot be registered (but: $* ova)"
		exit 2
	}
	if [ "$format" = qcow2 ] && command -v qemu-img >/dev/null 2>&1; then
		is_self_contained "$image" qcow2 || fail 'the image refers to other files, or is no qcow2'
	fi
}
