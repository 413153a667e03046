#!/bin/bash
# tools/handlers/opennebula: what it does with OpenNebula's images, told of one event after another.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
need awk sha512sum
. "$here/../lib/handlers.sh"

# Of each image but deleted ones: "id name state uid:gid rights", one a line.
images() {
	local dir

	for dir in "$TOP"/state/[0-9]*; do
		[ -d "$dir" ] || continue
		printf '%s %s %s %s:%s %s\n' "${dir##*/}" "$(sed 's/_EXPIRED_[0-9_-]*$/_EXPIRED/' "$dir/name")" \
		    "$(cat "$dir/state")" "$(cat "$dir/uid")" "$(cat "$dir/gid")" "$(cat "$dir/rights")"
	done
}

attribute() {
	cat "$TOP/state/$1/attributes/$2"
}

set_to() {
	printf '%s' "$3" >"$TOP/state/$1/$2"
}

fails_in() {
	printf '%s\n' "$@" >"$TOP/state/refuse"
}

handler_up opennebula

# ---- the first version --------------------------------------------------------------------------

version img 1
told 'other events are none of its business' 0 AvailablePrefix img
check_is '... and nothing is asked of OpenNebula' '' "$(cat "$TOP/state/log" 2>/dev/null)"
told 'AvailablePostfix creates an image' 0 AvailablePostfix img
check_is '... with its identifier as name' '0 img 1 0:0 600' "$(images)"
check_is '... from the very bytes' "${version_sha[1]}" "$(cat "$TOP/state/0/sum")"
check_is '... by the name that its content has in the mount' "$TOP/mnt/by-sha512/${version_sha[1]}" \
    "$(attribute 0 PATH)"
check_is '... with what the event says as attributes' 'img|Image img|1|raw|100000|AvailablePostfix' \
    "$(for name in DC_IDENTIFIER DC_TITLE HV_VERSION HV_FORMAT HV_SIZE TYPE; do
	    attribute 0 VMCATCHER_EVENT_$name; echo; done | paste -sd'|')"
check_is '... and its format' 'raw raw' "$(attribute 0 FORMAT) $(attribute 0 DRIVER)"
before=$(images)
: >"$TOP/state/log"
told 'an event that comes twice' 0 AvailablePostfix img
check_is '... changes nothing' "$before" "$(images)"
check_is '... and only looks' '[list] [--xml]|[show] [0] [--xml]' \
    "$(sed 's/ $//' "$TOP/state/log" | sort -u | paste -sd'|')"

# ---- a new version ------------------------------------------------------------------------------

set_to 0 uid 7
set_to 0 gid 8
set_to 0 rights 640
version img 2
available_ids img
told 'the old version expires because it is replaced' 0 ExpirePostfix img replaced
check_is '... and stays until its successor is there' '0 img 1 7:8 640' "$(images)"
for step in create show chown chmod rename update; do
	fails_in "$step"
	told "when oneimage $step fails, so does the handler" 1 AvailablePostfix img
	case $step in
	create | show | chown) check_is "... and the old image is as it was ($step)" '0 img 1 7:8 640' \
	    "$(images | sed -n 1p)" ;;
	esac
done
rm "$TOP/state/refuse"
told 'tried again it goes on where it was' 0 AvailablePostfix img
check_is 'the new image has the name, owner, group and rights of the old one, which is retired' \
    '0 img_EXPIRED 3 7:8 600|1 img 1 7:8 640' "$(images | paste -sd'|')"
check_is '... and the new bytes' "${version_sha[2]}" "$(cat "$TOP/state/1/sum")"
before=$(images)
told 'told once more' 0 AvailablePostfix img
check_is '... it changes nothing' "$before" "$(images)"
retell 1 ExpirePostfix img removed-from-list
check_is 'an old event that is replayed does not retire the new version' "$before" "$(images)"

# ---- READY --------------------------------------------------------------------------------------

version img 3
echo 3 >"$TOP/state/locked"
told 'it waits until the image is READY' 0 AvailablePostfix img
check_is '... and then retires the old one' '1 img_EXPIRED 3 7:8 600|2 img 1 7:8 640' \
    "$(images | sed 1d | paste -sd'|')"
version img 4
echo 1000 >"$TOP/state/locked"
EXTRA=(VMIMAGEFS_ONE_WAIT=1)
told 'one that is not READY in time is a failure' 1 AvailablePostfix img
check_is '... of which the old image knows nothing' '2 img 1 7:8 640' "$(images | sed -n 3p)"
echo 0 >"$TOP/state/3/shows"
told '... and the next try waits for the same image' 0 AvailablePostfix img
check_is '... which is there once' '2 img_EXPIRED 3 7:8 600|3 img 1 7:8 640' \
    "$(images | sed 1,2d | paste -sd'|')"
EXTRA=()
rm "$TOP/state/locked"
version img 5
touch "$TOP/state/broken"
told 'an image that ends in ERROR is a failure' 1 AvailablePostfix img
check_is '... and is deleted' '3 img 1 7:8 640' "$(images | sed 1,3d)"
rm "$TOP/state/broken"
rm "$TOP/cache/img"
told 'a file that is not there is a failure' 1 AvailablePostfix img
ln -s "$TOP/mnt/by-sha512/${version_sha[5]}" "$TOP/cache/img"
set_to 3 state 2
told 'an image in use is replaced, too' 0 AvailablePostfix img
check_is '... its owner alone can go on using it' '3 img_EXPIRED 2 7:8 600|4 img 1 7:8 640' \
    "$(images | sed 1,3d | paste -sd'|')"

# ---- expiry -------------------------------------------------------------------------------------

available_ids
# In the very second in which the one before was.
cat >"$TOP/bin/date" <<EOT
#!/bin/sh
[ "\$2" != +%Y-%m-%d_%H-%M-%S ] || exec echo '$(sed 's/.*_EXPIRED_//' "$TOP/state/3/name")'
exec $(command -v date) "\$@"
EOT
chmod 755 "$TOP/bin/date"
told 'an image that has left its list is retired' 0 ExpirePostfix img removed-from-list
rm "$TOP/bin/date"
check_is '... by a name of its own' "$(cat "$TOP/state/3/name")_4" "$(cat "$TOP/state/4/name")"
check_is '... renamed, for nobody, disabled' '4 img_EXPIRED 3 7:8 600' "$(images | sed 1,4d)"
before=$(images)
told 'told twice' 0 ExpirePostfix img removed-from-list
check_is '... it changes nothing' "$before" "$(images)"
told 'the same version can come back' 0 AvailablePostfix img
check_is '... as a new image' '5 img 1 0:0 600' "$(images | sed 1,5d)"
VERSION=5.1 version img 6
available_ids img
tell ExpirePostfix img replaced
fails_in create
tell AvailablePostfix img
rm "$TOP/state/refuse"
available_ids
told 'a version whose successor never came is retired with it' 0 ExpirePostfix img revoked
check_is '... so that none is left' '5 img_EXPIRED 3 0:0 600' "$(images | sed 1,5d)"

# The same bytes under another version.
rm -rf "$TOP"/state/[0-9]*
version img 7
tell AvailablePostfix img
version_of[7]=7.1
told 'the same bytes under another version' 0 AvailablePostfix img
check_is '... are described anew' '0 img 1 0:0 600|7.1' "$(images)|$(attribute 0 VMCATCHER_EVENT_HV_VERSION)"

# ---- vmcatcher itself, which gives no reason ----------------------------------------------------

EXTRA=(VMCATCHER_EVENT_UUID=)
available_ids img
told 'run by vmcatcher 0.6 it asks vmcatcher_image' 0 ExpirePostfix img
check_is '... whether the image is available still' '0 img 1 0:0 600' "$(images)"
available_ids other
told '... or has expired (as the old manual spells it, too)' 0 ExpirePosfix img
check_is '... and retires it then' '0 img_EXPIRED 3 0:0 600' "$(images)"
EXTRA=()

# ---- odd text -----------------------------------------------------------------------------------

TITLE=$'"; rm -rf /\n$(touch '"$TOP"$'/pwned)`touch '"$TOP"$'/pwned`\\"\x01 ]]><IMAGE><ID>0</ID> \u00e9' \
    version odd 8
DESCRIPTION=$'NAME = "x"\nPATH = "/etc/passwd"'
told 'X01 whatever a list says, it is text in the template' 0 AvailablePostfix odd
check_is '... in one line, without what ends a string' \
    "'; rm -rf / \$(touch $TOP/pwned)\`touch $TOP/pwned\`/'  ]] ><IMAGE><ID>0</ID> é" \
    "$(attribute 1 VMCATCHER_EVENT_DC_TITLE)"
check_is '... and no attribute of its own' "NAME = 'x' PATH = '/etc/passwd'" "$(attribute 1 DESCRIPTION)"
check_not '... and no command' test -e "$TOP/pwned"
told 'an image is found whatever others say in their attributes' 0 AvailablePostfix odd
check_is '... and made once' '0 img_EXPIRED 3 0:0 600|1 odd 1 0:0 600' "$(images | paste -sd'|')"
unset DESCRIPTION
version 'an "odd" id' 9
ln -sf "$TOP/mnt/by-sha512/${version_sha[9]}" "$TOP/cache/an_odd_id~12345678"
EXTRA=('VMCATCHER_EVENT_FILENAME=an_odd_id~12345678')
told 'an identifier may be any text' 0 AvailablePostfix 'an "odd" id'
told '... and is found again' 0 AvailablePostfix 'an "odd" id'
check_is '... as what it was called' "2 an 'odd' id 1 0:0 600" "$(images | sed 1,2d)"
EXTRA=()
EXTRA=(VMCATCHER_EVENT_SL_CHECKSUM_SHA512=abc)
told 'an event without a digest is refused' 1 AvailablePostfix img
EXTRA=()

# ---- formats ------------------------------------------------------------------------------------

rm -rf "$TOP"/state/[0-9]*
version fmt 10 raw.gz
told 'a compressed image is left to OpenNebula' 0 AvailablePostfix fmt
check_is '... which unpacks it' raw "$(attribute 0 FORMAT)"
version fmt 11 cpio.bz2
told 'a format that cannot be registered is refused' 2 AvailablePostfix fmt
check_is '... and the old image stays' '0 fmt 1 0:0 600' "$(images)"

if ! command -v qemu-img >/dev/null; then
	skip 'images of OVA and qcow2' 'there is no qemu-img'
	plan_done
fi

head -c 300000 /dev/urandom >"$TOP/disk.raw"
truncate -s 1M "$TOP/disk.raw"
qemu-img convert -q -f raw -O qcow2 "$TOP/disk.raw" "$TOP/disk.qcow2"
FILE=$TOP/disk.qcow2 version fmt 12 QCOW2
told 'a qcow2 image is registered as it is' 0 AvailablePostfix fmt
check_is '... as qcow2' "qcow2 ${version_sha[12]}" "$(attribute 1 FORMAT) $(cat "$TOP/state/1/sum")"
qemu-img create -q -f qcow2 -b /etc/passwd -F raw "$TOP/bad.qcow2"
FILE=$TOP/bad.qcow2 version fmt 13 qcow2
told 'one that refers to another file is refused' 1 AvailablePostfix fmt

mkdir "$TOP/ova" && qemu-img convert -q -f raw -O vmdk -o subformat=streamOptimized "$TOP/disk.raw" \
    "$TOP/ova/vm-disk1.vmdk"
echo '<Envelope/>' >"$TOP/ova/vm.ovf"
tar -C "$TOP/ova" --format=ustar -cf "$TOP/vm.ova" vm.ovf vm-disk1.vmdk
raw_sum=$(sha512sum <"$TOP/disk.raw" | cut -d' ' -f1)
FILE=$TOP/vm.ova version fmt 14 OVA
told 'the disk of an OVA is unpacked and converted' 0 AvailablePostfix fmt
check_is '... to raw' "raw $raw_sum" "$(attribute 2 FORMAT) $(cat "$TOP/state/2/sum")"
check_is '... and nothing stays behind' '' "$(find "$TOP/cache/templates" "$TOP/tmp" -mindepth 1)"
FILE=$TOP/vm.ova version fmt 15 ova
cp -r "$TOP/ova" "$TOP/mnt/images/fmt/ova"
: >"$TOP/mnt/by-sha512/${version_sha[15]}"
version_of[15]=15
EXTRA=(VMIMAGEFS_ONE_OVA=qcow2)
rm -rf "$TOP"/state/[0-9]*
told 'where the mount shows its members, the disk is used there' 0 AvailablePostfix fmt
check_is '... and converted to what is asked for' 'qcow2 0 fmt 1 0:0 600' "$(attribute 0 FORMAT) $(images)"
EXTRA=()
rm -rf "$TOP/mnt/images/fmt/ova/"* "$TOP"/state/[0-9]*
echo 'two members of one name' >"$TOP/mnt/images/fmt/ova/error"
told 'an OVA that the mount refuses is refused' 1 AvailablePostfix fmt
check_like '... for the same reason' 'two members of one name' "$said"
rm -r "$TOP/mnt/images/fmt/ova"
printf '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\nRW 1 FLAT "/etc/passwd" 0\n' \
    >"$TOP/ova/vm-disk1.vmdk"
tar -C "$TOP/ova" --format=ustar -cf "$TOP/vm.ova" vm.ovf vm-disk1.vmdk
FILE=$TOP/vm.ova version fmt 16 ova
told 'a disk that is made of other files of the host is refused' 1 AvailablePostfix fmt
check_is '... and no image is made of it' '' "$(images)"

plan_done
