#!/bin/bash
# tools/handlers/glance: what it does with Glance's images, told of one event after another.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
need jq sha512sum sha256sum
. "$here/../lib/handlers.sh"

# Of each image, oldest first: "name status visibility", "hidden" if it is, "-" while it is not verified.
images() {
	local dir

	for dir in "$TOP"/state/*-*-*; do
		[ -d "$dir" ] || continue
		printf '%s %s %s %s%s%s\n' "$(cat "$dir/order")" "$(cat "$dir/name")" "$(cat "$dir/status")" \
		    "$(cat "$dir/visibility")" "$(sed -n 's/True/ hidden/p' "$dir/hidden")" \
		    "$([ -e "$dir/properties/vmimagefs_verified" ] || echo ' -')"
	done | sort -n | cut -d' ' -f2- | paste -sd'|'
}

# A value of the newest image.
newest() {
	local dir

	dir=$(for dir in "$TOP"/state/*-*-*; do echo "$(cat "$dir/order") $dir"; done | sort -n | tail -n 1)
	cat "${dir#* }/$1"
}

fails_in() {
	printf '%s\n' "$@" >"$TOP/state/refuse"
}

forget_images() {
	rm -rf "$TOP"/state/*-*-*
}

handler_up glance

# ---- the first version --------------------------------------------------------------------------

version img 1
told 'other events are none of its business' 0 ProcessPrefix img
check_is '... and nothing is asked of Glance' '' "$(cat "$TOP/state/log" 2>/dev/null)"
told 'AvailablePostfix creates an image' 0 AvailablePostfix img
check_is '... with its title as name, private, and verified' 'Image img active private' "$(images)"
check_is '... from the very bytes' "${version_sha[1]} raw" "$(newest sum) $(newest disk)"
check_is '... with what the event says as properties' 'img|Image img|1|raw|100000' \
    "$(for name in dc_identifier dc_title hv_version hv_format hv_size; do
	    newest properties/vmcatcher_event_$name; echo; done | paste -sd'|')"
: >"$TOP/state/log"
told 'an event that comes twice' 0 AvailablePostfix img
check_is '... changes nothing' 'Image img active private' "$(images)"
check_is '... and only looks' '[image] [list] [image] [show]' \
    "$(cut -d' ' -f1,2 "$TOP/state/log" | sort -u | paste -sd' ')"

# ---- a new version ------------------------------------------------------------------------------

for dir in "$TOP"/state/*-*-*; do
	printf public >"$dir/visibility"
done
version img 2
available_ids img
told 'the old version expires because it is replaced' 0 ExpirePostfix img replaced
check_is '... and stays until its successor is there' 'Image img active public' "$(images)"
for step in list create show set; do
	fails_in "$step"
	told "when image $step fails, so does the handler" 1 AvailablePostfix img
	check_is "... and the old image is as it was ($step)" 'Image img active public' \
	    "$(images | cut -d'|' -f1)"
done
rm "$TOP/state/refuse"
told 'tried again it starts over where that is safe' 0 AvailablePostfix img
check_is 'the new image is seen as the old one was, which is hidden' \
    'Image img active public hidden|Image img active public' "$(images)"
check_is '... and has the new bytes' "${version_sha[2]}" "$(newest sum)"
told 'told once more' 0 AvailablePostfix img
check_is '... it changes nothing' 'Image img active public hidden|Image img active public' "$(images)"
retell 1 ExpirePostfix img removed-from-list
check_is 'an old event that is replayed does not retire the new version' \
    'Image img active public hidden|Image img active public' "$(images)"

# ---- what Glance has stored ---------------------------------------------------------------------

version img 3
touch "$TOP/state/spoil"
told 'an image whose digest differs from the signed one is a failure' 1 AvailablePostfix img
check_is '... and is deleted' 'Image img active public hidden|Image img active public' "$(images)"
rm "$TOP/state/spoil"
echo sha256 >"$TOP/state/algorithm"
told 'another algorithm of Glance is computed here' 0 AvailablePostfix img
check_is '... and compared' "$(sha256sum <"$TOP/cache/img" | cut -d' ' -f1)" "$(newest hash)"
version img 4
touch "$TOP/state/spoil"
told '... so that a difference is found' 1 AvailablePostfix img
rm "$TOP/state/spoil" "$TOP/state/algorithm"
forget_images
printf 'set\n' >"$TOP/state/refuse"
tell AvailablePostfix img
check_is 'an image that could not be marked as verified' 'Image img active private -' "$(images)"
rm "$TOP/state/refuse"
told '... is not trusted by the next try' 0 AvailablePostfix img
check_is '... but made again' 'Image img active private' "$(images)"

# ---- expiry -------------------------------------------------------------------------------------

available_ids
told 'an image that has left its list is retired' 0 ExpirePostfix img removed-from-list
check_is '... hidden and deactivated' 'Image img deactivated private hidden' "$(images)"
told 'told twice it changes nothing' 0 ExpirePostfix img removed-from-list
told 'the same version can come back' 0 AvailablePostfix img
check_is '... as a new image' 'Image img deactivated private hidden|Image img active private' "$(images)"
version img 5
available_ids img
tell ExpirePostfix img replaced
fails_in create
tell AvailablePostfix img
rm "$TOP/state/refuse"
available_ids
told 'a version whose successor never came is retired with it' 0 ExpirePostfix img revoked
check_is '... so that none is left' 'Image img deactivated private hidden|Image img deactivated private hidden' \
    "$(images)"
forget_images
EXTRA=(VMIMAGEFS_GLANCE_VISIBILITY=community VMIMAGEFS_GLANCE_NAME=identifier)
told 'a site can say what images are called and who sees them' 0 AvailablePostfix img
check_is '... of those that had no predecessor' 'img active community' "$(images)"
EXTRA=()
version_of[5]=5.1
told 'the same bytes under another version' 0 AvailablePostfix img
check_is '... are described anew' 5.1 "$(newest properties/vmcatcher_event_hv_version)"
EXTRA=(VMCATCHER_EVENT_UUID=)
available_ids img
tell ExpirePostfix img
check_is 'run by vmcatcher 0.6 it asks vmcatcher_image whether the image is available still' \
    'img active community' "$(images)"
available_ids
tell ExpirePostfix img
check_is '... and retires it if not' 'img deactivated community hidden' "$(images)"
EXTRA=()

# ---- odd text -----------------------------------------------------------------------------------

forget_images
TITLE=$'--public $(touch '"$TOP"$'/pwned)\n"status": "queued"' version odd 6
DESCRIPTION=$'"os_hash_value": "0"\n"vmimagefs_verified": "yes"'
told 'X01 whatever a list says, it is text' 0 AvailablePostfix odd
check_is '... in one line' "--public \$(touch $TOP/pwned) 'status': 'queued'" "$(newest name)"
check_not '... and no command' test -e "$TOP/pwned"
told '... and no answer of Glance either' 0 AvailablePostfix odd
check_is '... so that the image is there once' "--public \$(touch $TOP/pwned) 'status': 'queued' active private" \
    "$(images)"
unset DESCRIPTION

# ---- formats ------------------------------------------------------------------------------------

forget_images
version fmt 7 cpio.bz2
told 'a format that cannot be registered is refused' 2 AvailablePostfix fmt
if ! command -v qemu-img >/dev/null; then
	skip 'images of OVA' 'there is no qemu-img'
	plan_done
fi
head -c 300000 /dev/urandom >"$TOP/disk.raw"
truncate -s 1M "$TOP/disk.raw"
mkdir "$TOP/ova" && qemu-img convert -q -f raw -O vmdk -o subformat=streamOptimized "$TOP/disk.raw" \
    "$TOP/ova/vm-disk1.vmdk"
echo '<Envelope/>' >"$TOP/ova/vm.ovf"
tar -C "$TOP/ova" --format=ustar -cf "$TOP/vm.ova" vm.ovf vm-disk1.vmdk
FILE=$TOP/vm.ova version fmt 8 OVA
EXTRA=(VMIMAGEFS_GLANCE_OVA=raw)
told 'the disk of an OVA is unpacked and converted' 0 AvailablePostfix fmt
check_is '... and what Glance has is compared with what was made' \
    "raw $(sha512sum <"$TOP/disk.raw" | cut -d' ' -f1) Image fmt active private" \
    "$(newest disk) $(newest sum) $(images)"
EXTRA=()
told 'an OVA that comes twice' 0 AvailablePostfix fmt
check_is '... is there once' 'Image fmt active private' "$(images)"
check_is '... and nothing stays behind' '' "$(find "$TOP/cache/templates" "$TOP/tmp" -mindepth 1)"
touch "$TOP/state/spoil"
FILE=$TOP/vm.ova version fmt 9 ova
version_sha[9]=$(echo other | sha512sum | cut -d' ' -f1)
told 'a converted disk that Glance stored wrongly is a failure, too' 1 AvailablePostfix fmt

plan_done
