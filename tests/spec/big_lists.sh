#!/bin/bash
# time limit: 240 s
#
# Lists as large as they may be, and larger; and two images that share an address.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl jq setpriv
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"

n_images=20000
images_up prefetch=never

# ---- one address, two images ----------------------------------------------------------------------------

image_add good ok
image_add_at twin "$SERVER/ok/good"
images_subscribe
check 'L32 of two images with one address the one whose digest is right is fetched' ctl -q fetch good
status=0
said=$(ctl -q fetch twin 2>&1) || status=$?
check_like 'L32 the other is refused with code 42' '4: .*code 42' "$status: $said"
check_is 'L32 each has its own state' 'verified failed' \
    "$(ctl --json images | jq -r '[.images[] | select(.id == "good" or .id == "twin")] | sort_by(.id) | map(.state) | join(" ")')"
check 'L32 the good one stays good' ctl -q verify good

# ---- 20,000 images, and the two ----------------------------------------------------------------------------------

# As many bytes as a message may have, nearly: the longer the descriptions.
big_list() {
	awk -v n=$n_images -v dn="$(pki_dn alice)" -v ca="$(pki_issuer alice)" -v uri="$SERVER/ok/x" \
	    -v created="$(date -u -d '-1 minute' +%Y-%m-%dT%H:%M:%SZ)" \
	    -v expires="$(date -u -d '+30 days' +%Y-%m-%dT%H:%M:%SZ)" 'BEGIN {
		printf "{\"hv:imagelist\":{\"dc:date:created\":\"%s\",\"dc:date:expires\":\"%s\"," \
		    "\"dc:identifier\":\"big\",\"dc:title\":\"Big\",\"dc:description\":\"many\",\"dc:source\":\"x\"," \
		    "\"hv:version\":\"1\",\"hv:uri\":\"%s\",\"ad:vo\":\"vo\",\"hv:endorser\":{\"hv:x509\":{" \
		    "\"dc:creator\":\"Alice\",\"hv:ca\":\"%s\",\"hv:dn\":\"%s\",\"hv:email\":\"a@example.org\"}}," \
		    "\"hv:images\":[", created, expires, uri, ca, dn
		fill = sprintf("%160s", ""); gsub(/ /, "d", fill)
		for (i = 0; i < n; i++)
			printf "%s{\"hv:image\":{\"dc:identifier\":\"id-%06d\",\"dc:title\":\"Image %d\"," \
			    "\"dc:description\":\"%s\",\"hv:version\":\"1\",\"hv:uri\":\"%s%d\",\"hv:size\":%d," \
			    "\"sl:checksum:sha512\":\"%0128x\",\"hv:hypervisor\":\"kvm\",\"sl:arch\":\"x86_64\"," \
			    "\"sl:os\":\"Linux\",\"sl:osversion\":\"1\",\"sl:comments\":\"\"}}", \
			    i ? "," : "", i, i, fill, uri, i, 1000 + i, i + 1
		print "]}}"
	}'
}
big_list >"$SITE/big.json"
pki_sign alice "$SITE/big.json" "$WWW/big" || bail 'cannot sign'
size=$(stat -c %s "$WWW/big")
note "the list has $size bytes"

# seconds COMMAND...: sets took, in milliseconds.
seconds() {
	local begun=${EPOCHREALTIME/[.,]/} status=0

	"$@" || status=$?
	took=$(((${EPOCHREALTIME/[.,]/} - begun) / 1000))
	return $status
}
# On a quiet machine a tenth of it.
slack=10

seconds tap_run /usr/bin/env time -f %M -o "$SITE/rss" "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" -q subscribe \
    "$SERVER/ok/big" --endorser alice --select none
check_is 'L20 a list of 20,000 images is imported' "0 $((n_images + 2))" "$tap_status$tap_said $(ctl --json images | jq '.images | length')"
note "it took $took ms, $(tail -n 1 "$SITE/rss") KiB"
check 'L20 within 10 s' [ "$took" -le $((10000 * slack)) ]
check 'L20 with at most 256 MiB of memory' [ "$(tail -n 1 "$SITE/rss")" -le $((256 * 1024)) ]
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
count() {
	find "$MNT/images" -mindepth 1 -maxdepth 1 | wc -l
}
seconds count >"$SITE/count"
check_is 'L20 a directory of 20,000 images is listed' $((n_images + 2)) "$(<"$SITE/count")"
note "it took $took ms"
check 'L20 within 1 s' [ "$took" -le $((1000 * slack)) ]
check 'L20 a name among them is found' [ "$(cat "$MNT/images/id-019999/title")" = 'Image 19999' ]
rss=$(awk '/^VmHWM/ { print $2 }' "/proc/$(daemon_pid worker)/status")
note "the worker has had $rss KiB at most"
check 'L20 the daemon has at most 256 MiB of memory' [ "$rss" -le $((256 * 1024)) ]
mount_down
ctl -q unsubscribe big

# ---- 1,000,000 images ---------------------------------------------------------------------------------

# 900 MB that take no room: nobody comes to read them.
truncate -s 900M "$WWW/huge"
refused_list() {
	local status=0 said

	said=$(ctl -q subscribe "$SERVER/$1" --endorser alice 2>&1) || status=$?
	printf '%s: %s\n' "$status" "$said"
}
check_like 'L21 a message of 900 MB is refused with code 46' '4: .*code 46' "$(refused_list ok/huge)"
check 'L21 before much of it came' [ "$(sent huge)" -le $((32 * 1048576)) ]
truncate -s 900M "$WWW/unsaid"
check_like 'L21 so is one that does not say how long it is' '4: .*code 46' "$(refused_list endless/unsaid)"
sent=$(sent unsaid)
note "$sent bytes were sent"
check 'L21 after 16 MiB and one byte' [ "$sent" -ge $((16777216 + 1)) ]
# What lies in the sockets between was not asked for.
check 'L21 and not much more' [ "$sent" -le $((32 * 1048576)) ]

plan_done
