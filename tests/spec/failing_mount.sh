#!/bin/bash
# time limit: 180 s
#
# A mount, with each of its calls failing while a page is read of an image that is not here yet: the reader
# gets the right bytes or an error, and the mount goes on, or is started again by itself.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl jq setpriv fsverity
. "$here/../lib/mount.sh"
. "$here/../lib/tiny.sh"
. "$here/../lib/verity.sh"
. "$here/../lib/sweep.sh"

tiny_up fill=never prefetch=never
sweep_up
sweep_share=1
export SHIM_SO VMIMAGEFS_BUILD VMI_PATIENCE SHIM_PROGRAM=vmimagefs

# A list with one image that comes block by block.
tiny_file lazy $((2 << 20))
root=$(verity_of "$WWW/lazy" "$WWW/lazy.fsv") && chmod 644 "$WWW/lazy.fsv" || bail 'no digest'
PKI_LIST_URI=file://$WWW/list pki_list "$SITE/list.json" tiny 1 "$(pki_dn alice)" "$(pki_issuer alice)" \
    "$(pki_image lazy lazy 1 "file://$WWW/lazy" $((2 << 20)) "$(sha512sum <"$WWW/lazy" | cut -d' ' -f1)" \
    "sl:checksum:fsverity-sha512=$root")" && pki_sign alice "$SITE/list.json" "$WWW/list" &&
    chmod 644 "$WWW/list" || bail 'no list'
tiny_subscribe

# swept_read TITLE FAULT...: the site afterwards is as after, or what a read that failed leaves.
swept_read() {
	local title=$1

	shift
	sweep_faults=("$@")
	sweep_options=(-b -m "$SITE/counts")
	swept "$title" "$here/../lib/sweep_read" "$SITE" "$SITE/counts"
}

swept_read 'P13 P15 a mount survives that there is no memory, thread or process, or is started again' \
    "${sweep_host[@]}"
swept_read 'B05 B06 a mount survives a disk that fails' "${sweep_files[@]}"
swept_read 'B34 a mount survives a database that fails' "${sweep_sqlite[@]}"
swept_read 'B08 nobody notices interrupted and short calls in a mount' "${sweep_quiet[@]}"

plan_done
