#!/bin/bash
# A thousand images (a hundred without VMI_NIGHTLY) are read at once, and no more are fetched at a time than
# the configuration says.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/relay.sh"

n_images=100
[ -z "${VMI_NIGHTLY:-}" ] || n_images=1000

images_up fetch_parallel=4 connect_timeout=20s stall_timeout=60s read_timeout=600s
relay_up "$(server_port http)"
for ((i = 0; i < n_images; i++)); do
	image_add_at "image-$i" "$RELAY/wait:20/image-$i" $((20000 + i))
done
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"

# read_one NAME: once page by page around the cache, once through it.
read_one() {
	local way=pread

	[ $((${1#image-} % 2)) -eq 0 ] || way=direct
	oracle --mode $way "$(image "$1")" "$WWW/$1"
	echo "$oracle_word" >"$SITE/read.$1"
}

for name in "${image_names[@]}"; do
	read_one "$name" &
	readers+=($!)
done
check 'C17 while all images are fetched at once others look at directories' ls "$MNT/images/image-0"
wait "${readers[@]}"
check_is "C17 $n_images images that are read at once are all read right" "$n_images right" \
    "$(cat "$SITE"/read.* | sort | uniq -c | sed 's/^ *//')"
check_is 'C17 there were never more than four connections' 4 "$(relay_count most)"
check_is 'C17 each image was asked for once' "$n_images" "$(grep -c '^GET [^ ]*/image-' "$SITE/requests")"

verified() {
	[ "$(cat "$MNT"/images/*/state | sort | uniq -c | sed 's/^ *//')" = "$n_images verified" ]
}
check 'C17 all are verified' wait_for "$VMI_PATIENCE" verified
no_fetchers() {
	! daemon_pid fetcher
}
check 'C17 no fetcher is left' wait_for "$VMI_PATIENCE" no_fetchers
check 'C17 nobody waits any more' grep -qx 'reads_parked: 0' "$MNT/status"
check 'C17 no connection is left open' wait_for "$VMI_PATIENCE" test "$(relay_count open)" -eq 0
mount_down || not_ok 'the daemon ends'
plan_done
