#!/bin/bash
# time limit: 90 s
#
# Commands and images that are read block by block: with a daemon and without one, with the network
# gone and back, while the image is here in part.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl fsverity jq
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/verity.sh"
. "$here/../lib/blocks.sh"
. "$here/../lib/vmcatcher.sh"

mib=1048576
size=$((4 * mib))

state_is() {
	[ "$(said_of "$1" state)" = "$2" ]
}
partials() {
	find "$SITE/cache/partial" -type f | wc -l
}
no_partial_of() {
	[ -z "$(find "$SITE/cache/partial" -name "$(image_hex "$1")*")" ]
}

images_up fill=never stall_timeout=2s
for name in alone part got evicted open deselected filled; do
	image_disk $name ok 4
done
image_disk cut "stallat:$((2 * mib))" 4
image_disk stuck "stallat:$((2 * mib))" 4
image_disk filling "stallat:$((2 * mib))" 4
image_disk liar ok 2
another=$(head -c 100 /dev/urandom | sha512sum | cut -d' ' -f1)
for name in alone part got evicted open deselected filled cut stuck filling; do
	image_blocks $name
done
image_blocks liar "sha512=$another"
images_subscribe

# ---- without a daemon ------------------------------------------------------------------------------

check 'without a daemon fetch fetches all of an image' ctl -q fetch alone
check_is 'block by block' 0 "$(asked alone | grep -c 'range=-1 ')"
check_is 'no byte twice' $size "$(sent alone)"
check 'it is in the store' cmp "$(object_of alone)" "$WWW/alone"
check_is 'nothing is left beside it' 0 "$(partials)"
check 'verify finds nothing wrong' ctl -q verify alone
check_status 'a fetch that the network stops ends with 5' 5 ctl -q fetch cut
check 'what came of it is kept' [ -e "$(blocks_of cut)" ]
n=$(sent cut)
server_get '/release?always'
check 'when the network is back it goes on' ctl -q fetch cut
check 'from where it was' [ "$(sent cut)" -lt $((n + size)) ]
check 'and is whole' cmp "$(object_of cut)" "$WWW/cut"
check_status 'I2 an image whose two digests disagree ends it with 4' 4 ctl -q fetch liar
check_is 'I2 and code 40' 40 "$(ctl --json fetch liar 2>/dev/null | jq -r '.images[0].code')"
check 'I2 its bytes are kept aside' \
    [ -n "$(find "$SITE/cache/quarantine" -name "$another*")" ]
check 'I2 and nowhere else' [ ! -e "$SITE/cache/objects/${another:0:2}/$another" ]
server_get /release

# ---- with a daemon ---------------------------------------------------------------------------------

mount_up || bail "no mount: $(tail -n 3 "$LOG")"
check 'what was fetched without a daemon is read' reads alone
check_is 'no image is here in part' 0 "$(status_of images_partial)"
check 'a granule is read' part part 3
one_is_partial() {
	[ "$(status_of images_partial)" = 1 ]
}
check 'one image is here in part' wait_for 5 one_is_partial
check_is 'commands say so too' 1 "$(ctl --json status | jq -r .images_partial)"
check_is 'its state is that it is selected' selected "$(said_of part state)"
one_granule_is_here() {
	[ "$(said_of part progress | cut -d' ' -f1,2)" = "$granule $size" ]
}
check 'its progress is a granule' wait_for 5 one_granule_is_here
check 'get copies all of an image that is here in part' ctl -q get part "$SITE/copy"
check 'with every byte' cmp "$SITE/copy" "$WWW/part"
check_is 'and none was fetched twice' $size "$(sent part)"
check 'get copies one that is not here' ctl -q get got "$SITE/copy2"
check 'with every byte' cmp "$SITE/copy2" "$WWW/got"

part stuck 0 >/dev/null
check_status 'a fetch that the network stops ends with 5 here, too' 5 ctl -q fetch stuck
check 'what was there before can still be read' part stuck 0
check 'and is not called failed' state_is stuck selected
server_get '/release?always'
check 'when the network is back fetch fetches the rest' ctl -q fetch stuck
check 'which is verified' state_is stuck verified
check 'every byte of it is right' reads stuck --mode pread
server_get /release

# ---- eviction --------------------------------------------------------------------------------------

part evicted 1 >/dev/null
check 'there is a part of it' [ -e "$(blocks_of evicted)" ]
check 'an image that is here in part can be evicted' ctl -q evict evicted
check 'all of it goes' no_partial_of evicted
check 'it is read anew after that' part evicted 1
check_is 'from the network' $((2 * granule)) "$(sent evicted)"
exec 8<"$(image open)"
part open 2 >/dev/null
check_status 'one that is open is not' 5 ctl -q evict open
check 'its reader goes on' part open 9
exec 8<&-
check 'when it is closed it is' wait_for 10 ctl -q evict open
part deselected 5 >/dev/null
check 'one that is deselected' ctl -q deselect deselected
check 'goes, too' wait_for 10 no_partial_of deselected

# ---- a daemon that ends ------------------------------------------------------------------------------

sed -i 's/^fill = .*/fill = now/' "$CONF"
ctl -q reload
part filled 0 >/dev/null
check 'fill = now counts from the reload on' wait_for "$VMI_PATIENCE" state_is filled verified
part filling 0 >/dev/null
half_is_here() {
	[ "$(sent filling)" -ge $((2 * mib)) ]
}
check 'P04 an image is being filled' wait_for "$VMI_PATIENCE" half_is_here
check 'P04 the daemon ends at once' mount_down
n=$(sent filling)
server_get '/release?always'
check 'P04 it is started again' mount_up
check 'P04 and goes on, without a reader' wait_for 20 state_is filling verified
check 'P04 no more is fetched than what was missing, and what was on its way' \
    [ "$(($(sent filling) - n))" -le $((2 * mib + mib / 2)) ]
check 'every byte of it is right' reads filling --mode pread

# ---- vmcatcher_cache ---------------------------------------------------------------------------------

sed -i 's/^fill = .*/fill = never/' "$CONF"
ctl -q deselect liar && ctl -q reload && ctl -q evict open || bail 'no reload'
cache_dirs "$SITE/vmcatcher"
check 'an image that fill = never leaves alone is read in part' part open 3
check_is 'and is not whole' selected "$(said_of open state)"
VMI_WRAP="timeout -k 5 $VMI_PATIENCE ${VMI_WRAP:-}" \
    check 'vmcatcher_cache -D has all of it fetched all the same' vmc cache -D </dev/null
check_is 'and it is verified' verified "$(said_of open state)"
check 'verify finds nothing wrong' ctl -q verify --deep
check 'nothing is left of what was here in part but what is read' no_partial_of filling
mount_down || not_ok 'the daemon ends'

plan_done
