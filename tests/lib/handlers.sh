# handlers.sh - runs one of our event handlers by hand, as vmimagefs would, in directories of its
# own.
#
# A bash library: source it after tap.sh.
#
#   handler_up NAME           makes $TOP with cache/ and its like, a mount that is made of plain
#                             directories ($TOP/mnt), and the handler tools/handlers/NAME
#   version ID N [FORMAT]     version N of the image ID: 100,000 random bytes (or $FILE) in the mount, and
#                             cache/ID shows it; TITLE, VERSION are its title and version
#   tell TYPE ID [REASON]     runs the handler, told of that event of the version that was made last.
#                             said and status are what came of it
#   retell N                  the same for the version N of the last image
#   told TITLE STATUS ARG...  tells, and it is ok if the handler ends with that status
#   available_ids ID...       what the stub vmcatcher_image -l says is in state 3
#
# shellcheck shell=bash

handlers_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../tools/handlers" && pwd)
handlers_lib=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Debian's sh.  Any other will do as well.
handler_shell=$(command -v dash || echo sh)

handler_up() {
	TOP=$(mktemp -d "${TMPDIR:-/tmp}/vmimagefs-handler.XXXXXX") || bail 'mktemp failed'
	at_exit rm -rf "$TOP"
	mkdir -p "$TOP"/{cache/templates,partial,expired,mnt/by-sha512,mnt/images,bin,state,tmp}
	handler=$handlers_dir/$1
	ln -s "$handlers_lib/oneimage" "$handlers_lib/openstack" "$TOP/bin/"
	cat >"$TOP/bin/vmcatcher_image" <<-EOT
		#!/bin/sh
		[ "\$*" = -l ] && cat "$TOP/available"
	EOT
	chmod 755 "$TOP/bin/vmcatcher_image"
	: >"$TOP/available"
	declare -gA version_sha=() version_of=() version_format=() version_title=()
}

version() {
	local id=$1 n=$2

	version_format[$n]=${3-raw}
	version_title[$n]=${TITLE-Image $id}
	version_of[$n]=${VERSION-$n}
	if [ -n "${FILE:-}" ]; then
		cp "$FILE" "$TOP/new"
	else
		head -c 100000 /dev/urandom >"$TOP/new"
	fi
	version_sha[$n]=$(sha512sum <"$TOP/new" | cut -d' ' -f1)
	mv "$TOP/new" "$TOP/mnt/by-sha512/${version_sha[$n]}"
	mkdir -p "$TOP/mnt/images/$id"
	echo "${version_sha[$n]}" >"$TOP/mnt/images/$id/sha512"
	ln -sfn "$TOP/mnt/by-sha512/${version_sha[$n]}" "$TOP/cache/$id"
	current=$n
}

available_ids() {
	local id

	for id; do
		printf '%s\t3\tlist\n' "$id"
	done >"$TOP/available"
}

# The variables of events are those of vmcatcher.  EXTRA: further ones.
tell() {
	local type=$1 id=$2 reason=${3-} n=$current filename=$2

	[ "$type" != ExpirePostfix ] || filename=$2.2026-11-21_10-00-00
	status=0
	said=$(printf '{"uuid":"u","session":"s","time":"2026-11-21T10:00:00Z","type":"%s","subscription":"l",%s}\n' \
	    "$type" "\"filename\":\"$filename\",\"reason\":\"$reason\",\"identifier\":\"$id\"" |
	    env -i PATH="$TOP/bin:$PATH" TMPDIR="$TOP/tmp" STUB_ONE="$TOP/state" STUB_GLANCE="$TOP/state" \
	    VMIMAGEFS_ONE_POLL=0 VMCATCHER_RDBMS=sqlite:////nowhere \
	    VMCATCHER_CACHE_DIR_CACHE="$TOP/cache/" VMCATCHER_CACHE_DIR_DOWNLOAD="$TOP/partial/" \
	    VMCATCHER_CACHE_DIR_EXPIRE="$TOP/expired/" VMCATCHER_EVENT_UUID_SESSION=s \
	    VMCATCHER_EVENT_UUID=u VMCATCHER_EVENT_TYPE="$type" VMCATCHER_EVENT_FILENAME="$filename" \
	    VMCATCHER_EVENT_DC_IDENTIFIER="$id" VMCATCHER_EVENT_DC_TITLE="${version_title[$n]}" \
	    VMCATCHER_EVENT_DC_DESCRIPTION="${DESCRIPTION-An image}" VMCATCHER_EVENT_HV_SIZE=100000 \
	    VMCATCHER_EVENT_HV_VERSION="${version_of[$n]}" VMCATCHER_EVENT_HV_FORMAT="${version_format[$n]}" \
	    VMCATCHER_EVENT_SL_CHECKSUM_SHA512="${version_sha[$n]}" \
	    VMCATCHER_EVENT_IL_DC_IDENTIFIER=l "${EXTRA[@]}" "$handler_shell" "$handler" 2>&1) || status=$?
}
EXTRA=()

told() {
	local title=$1 wanted=$2

	shift 2
	tell "$@"
	if [ "$status" = "$wanted" ]; then
		ok "$title"
	else
		not_ok "$title" "exit status $status" "$said"
	fi
}

retell() {
	current=$1
	shift
	tell "$@"
}
