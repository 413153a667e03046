#!/bin/bash
# vmcatcher's event handlers: one of ours that does all that they do, and, from the directory that
# $VMCATCHER_HANDLERS names, theirs, unmodified: vmcatcher_eventHndl_ON, gpvmcupdate,
# gpvcmupdate.py and vmcatcher_eventHndlExpl.  $VMCATCHER_PYTHON: a Python 2 for them (python2).

here=$(cd "$(dirname "$0")" && pwd)
# Before lib/vmcatcher.sh forgets all such variables.
handlers_of_others=${VMCATCHER_HANDLERS:-}
python=${VMCATCHER_PYTHON:-python2}
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse nginx openssl setpriv jq qemu-img tar
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"
. "$here/../lib/lists.sh"
. "$here/../lib/vmcatcher.sh"
recorded=$here/../data/vmcatcher-0.6
getent passwd daemon >/dev/null || skip_all 'there is no user daemon for the handlers to run as'

disk_id=265a07dd-ba19-556e-981c-7a5d4d170896
ova_id=86b1c337-4317-56f3-ab64-f758ffc8de52

site_up event_user=daemon event_timeout=60s
HANDLERS=$SITE/handlers.d
OUT=$SITE/out
mkdir "$HANDLERS" "$OUT" "$SITE/bin"
chmod 777 "$OUT"
echo "event_dir = $HANDLERS" >>"$CONF"
lists_up
D=$SITE/state/vmcatcher		# handler_dir

# ---- an image and an OVA ------------------------------------------------------------------------

image_file disk.img 3000000
head -c 500000 /dev/urandom >"$SITE/disk.raw"
truncate -s 2M "$SITE/disk.raw"
mkdir "$SITE/ova"
qemu-img convert -f raw -O vmdk -o subformat=streamOptimized "$SITE/disk.raw" "$SITE/ova/vm-disk1.vmdk"
echo '<Envelope/>' >"$SITE/ova/vm.ovf"
tar -C "$SITE/ova" --format=ustar -cf "$WWW/vm.ova" vm.ovf vm-disk1.vmdk
chmod 644 "$WWW/vm.ova"
mpuri=ad:mpuri=https://appdb.example.org/store/vo/image/x:1/
disk=$(image_entry $disk_id 'Image disk' 1.0 disk.img hv:format=raw "$mpuri")
ova=$(image_entry $ova_id 'Image OVA' 1.0 vm.ova hv:format=OVA "$mpuri")
export PKI_LIST_VO=test.example.org
publish alice vo.list vo 1 "$disk" "$ova" || bail 'no list'

# ---- a handler of ours that does what theirs do -------------------------------------------------

# fact NAME COMMAND... notes whether the command succeeded.
cat >"$SITE/handler" <<EOT
#!/bin/bash
OUT=$OUT
EOT
cat >>"$SITE/handler" <<'EOT'
exec 2>>"$OUT/stderr"
fact() {
	local name=$1
	shift
	if "$@"; then echo "$VMCATCHER_EVENT_TYPE $name"; else echo "$VMCATCHER_EVENT_TYPE NOT $name"; fi >>"$OUT/facts.$id"
}
id=$VMCATCHER_EVENT_DC_IDENTIFIER
{
	printf '=== %s\n' "$VMCATCHER_EVENT_TYPE"
	env | grep '^VMCATCHER_' | LC_ALL=C sort
} >>"$OUT/events.log"
title_of() {
	[ "$(jq -r --arg id "$id" '.[$id]["dc:title"]' "$VMCATCHER_CACHE_DIR_CACHE/cache.index")" = "$VMCATCHER_EVENT_DC_TITLE" ]
}
right() {
	[ "$(sha512sum <"$1" | cut -d' ' -f1)" = "$VMCATCHER_EVENT_SL_CHECKSUM_SHA512" ]
}
size_is() {
	[ "$(stat -L -c %s "$1")" = "$VMCATCHER_EVENT_HV_SIZE" ]
}
state_3() {
	vmcatcher_image -l | grep "$id" | awk '$2 ~ 3 {print $1}' | grep -qx "$id"
}
convert() {
	local dir=$VMCATCHER_CACHE_DIR_CACHE/templates/$id

	rm -rf "$dir" && mkdir -p "$dir" && tar -xf "$VMCATCHER_CACHE_DIR_CACHE/$id" -C "$dir" &&
	    qemu-img convert -O raw "$dir"/*disk1.vmdk "$dir/disk.raw" && cp "$dir/disk.raw" "$OUT/converted"
}
template() {
	echo "PATH=$VMCATCHER_CACHE_DIR_CACHE$id" >"$VMCATCHER_CACHE_DIR_CACHE/templates/$id.new" &&
	    mv "$VMCATCHER_CACHE_DIR_CACHE/templates/$id.new" "$VMCATCHER_CACHE_DIR_CACHE/templates/$id.one"
}
case $VMCATCHER_EVENT_TYPE in
AvailablePrefix)
	fact partial test -f "$VMCATCHER_CACHE_DIR_DOWNLOAD/$VMCATCHER_EVENT_FILENAME"
	;;
AvailablePostfix)
	fact isfile test -f "$VMCATCHER_CACHE_DIR_CACHE/$id"
	fact glued test -f "${VMCATCHER_CACHE_DIR_CACHE}${id}"
	fact size size_is "$VMCATCHER_CACHE_DIR_CACHE/$id"
	fact bytes right "${VMCATCHER_CACHE_DIR_CACHE}${id}"
	fact templates mkdir -p "$VMCATCHER_CACHE_DIR_CACHE/templates/"
	fact template template
	fact title title_of
	fact listed state_3
	[ "$VMCATCHER_EVENT_HV_FORMAT" != OVA ] || fact converted convert
	;;
ExpirePrefix)
	fact cached test -f "$VMCATCHER_CACHE_DIR_CACHE/$VMCATCHER_EVENT_FILENAME"
	;;
ExpirePostfix)
	fact expired test -f "$VMCATCHER_CACHE_DIR_EXPIRE/$VMCATCHER_EVENT_FILENAME"
	fact expired-bytes right "$VMCATCHER_CACHE_DIR_EXPIRE/$VMCATCHER_EVENT_FILENAME"
	if state_3; then listed=NOT; fi
	fact "${listed-}unlisted" test -z "${listed-}"
	;;
esac
exit 0
EOT
chmod 755 "$SITE/handler"
mv "$SITE/handler" "$HANDLERS/ours"

facts() {
	sort -u "$OUT/facts.$1" 2>/dev/null | paste -sd'|'
}

facts_are() {
	[ "$(facts "$1")" = "$2" ]
}

types_of() {
	grep -c "^=== $1$" "$OUT/events.log"
}

ctl -q endorser add alice --from-cert "$PKI/alice.pem" && ctl -q subscribe "$WEB_URL/vo.list" ||
    bail 'no subscription'
mount_up || bail "no mount: $(tail -n 5 "$LOG")"
check_is 'the directories of handlers are made, templates/ for them to write to' \
    "755 nobody|755 nobody|755 nobody|2775 nobody daemon" \
    "$(stat -c '%a %U' "$D" "$D/cache" "$D/expired" | paste -sd'|')|$(stat -c '%a %U %G' "$D/cache/templates")"
ctl -q select --all
available='AvailablePostfix bytes|AvailablePostfix glued|AvailablePostfix isfile|AvailablePostfix listed|AvailablePostfix size|AvailablePostfix template|AvailablePostfix templates|AvailablePostfix title|AvailablePrefix partial'
check 'a handler finds an image as vmcatcher had it, its title in cache.index, and vmcatcher_image' \
    wait_for "$((VMI_PATIENCE * 2))" facts_are $disk_id "$available" || note "$(facts $disk_id)" "$(cat "$OUT/stderr")"
check 'it unpacks an OVA into templates/ and converts its disk' \
    wait_for "$((VMI_PATIENCE * 2))" facts_are $ova_id \
    "AvailablePostfix bytes|AvailablePostfix converted|${available#AvailablePostfix bytes|}" ||
    note "$(facts $ova_id)" "$(cat "$OUT/stderr")"
check '... to the very disk' cmp "$OUT/converted" "$SITE/disk.raw"
check_is 'an entry is a link into the mount' "$MNT/by-sha512/$(sha512sum <"$WWW/disk.img" | cut -d' ' -f1)" \
    "$(readlink "$D/cache/$disk_id")"
check_is '... and cache.index is made as vmcatcher made it' \
    "$(jq -c '.[] | del(.message, .DownLoadTrys) | with_entries(select(.key | startswith("hv:image.") | not)) | keys' \
	"$recorded/cache.index")" \
    "$(jq -c --arg id $disk_id '.[$id] | with_entries(select(.key | startswith("hv:image.") | not)) | keys' "$D/cache/cache.index")"
check_not 'nothing stays in partial/' test -e "$D/partial/$disk_id"

# ---- the image leaves its list ------------------------------------------------------------------

publish alice vo.list vo 2 "$ova"
ctl -q update
check 'a handler that is told of the expiry finds the file in expired/, and the image in no state 3' \
    wait_for "$((VMI_PATIENCE * 2))" facts_are $disk_id \
    "$available|ExpirePostfix expired|ExpirePostfix expired-bytes|ExpirePostfix unlisted|ExpirePrefix cached" ||
    note "$(facts $disk_id)" "$(cat "$OUT/stderr")"
expired=$(sed -n "s/^VMCATCHER_EVENT_FILENAME=\($disk_id\..*\)/\1/p" "$OUT/events.log" | head -n 1)
check_is '... under the name that vmcatcher would give it' "$MNT/by-sha512/$(sha512sum <"$WWW/disk.img" | cut -d' ' -f1)" \
    "$(readlink "$D/expired/$expired")"
check_is '... which expired/cache.index has, too' "$expired" "$(jq -r 'keys[]' "$D/expired/cache.index")"
check_not '... and not in cache/ any more' test -L "$D/cache/$disk_id"
check 'what handlers keep in templates/ stays' test -f "$D/cache/templates/$disk_id.one"

# ---- the variables, name by name ----------------------------------------------------------------

# names_of LOG TYPE: the variables of the first event of this type.
names_of() {
	awk -v type="$2" '
		/^=== / { if (on) exit; on = $2 == type; next }
		on && /^VMCATCHER_EVENT_/ { sub(/=.*/, ""); print }' "$1" | LC_ALL=C sort | paste -sd' '
}

sessions_over() {
	[ "$(types_of ProcessPostfix)" -ge 3 ]
}

wait_for "$VMI_PATIENCE" sessions_over
for type in ProcessPrefix AvailablePrefix AvailablePostfix ExpirePrefix ExpirePostfix ProcessPostfix; do
	check_is "$type has the variables that vmcatcher 0.6 set, and VMCATCHER_EVENT_UUID" \
	    "$(names_of "$recorded/events.log" $type)" \
	    "$(names_of "$OUT/events.log" $type | sed 's/ VMCATCHER_EVENT_UUID / /; s/ VMCATCHER_EVENT_UUID$//')"
	check_like '... which is there' 'VMCATCHER_EVENT_UUID( |$)' "$(names_of "$OUT/events.log" $type)"
done

# ---- our handler for OpenNebula, with the real mount --------------------------------------------

# For the next mount.
setting() {
	sed -i "/^$1 = /d" "$CONF"
	printf '%s = %s\n' "$1" "$2" >>"$CONF"
}

# Images of the stub that are not retired: identifier, and SHA-512 of what was registered.
registered() {
	local dir

	for dir in "$OUT"/one/[0-9]*; do
		[ -d "$dir" ] && [ ! -e "$dir/attributes/VMIMAGEFS_RETIRED" ] &&
		    [ "$(cat "$dir/state")" = 1 ] && echo "$(cat "$dir/name") $(cat "$dir/sum")"
	done | sort | paste -sd'|'
}

registered_is() {
	[ "$(registered)" = "$1" ]
}

sum_of() {
	sha512sum <"$1" | cut -d' ' -f1
}

mount_down
rm "$HANDLERS/ours"
printf '#!/bin/sh\nexit 0\n' >"$HANDLERS/none" && chmod 755 "$HANDLERS/none"
mkdir "$OUT/one"
ln -s "$here/../lib/oneimage" "$SITE/bin/oneimage"
# The disk of an OVA is read where the mount shows it: nothing is to be unpacked.
printf '#!/bin/sh\nexit 1\n' >"$SITE/bin/tar" && chmod 755 "$SITE/bin/tar"
path=$SITE/bin:$VMIMAGEFS_BUILD:/usr/sbin:/usr/bin:/sbin:/bin
setting event_user root
setting event_env "PATH=$path STUB_ONE=$OUT/one VMIMAGEFS_ONE_POLL=0"
setting event_command "$(cd "$here/../../tools/handlers" && pwd)/opennebula"
publish alice vo.list vo 3 "$disk" "$ova"
ctl -q update
mount_up || bail "no mount: $(tail -n 5 "$LOG")"
check 'a new handler is told of what is there: images are registered, the disk of an OVA from the mount' \
    wait_for "$((VMI_PATIENCE * 2))" registered_is \
    "$disk_id $(sum_of "$WWW/disk.img")|$ova_id $(sum_of "$SITE/disk.raw")" || note "$(registered)"
image_file disk2.img 2000000
publish alice vo.list vo 4 \
    "$(image_entry $disk_id 'Image disk' 2.0 disk2.img hv:format=raw "$mpuri")" "$ova"
ctl -q update
check '... a new version replaces the old one' wait_for "$((VMI_PATIENCE * 2))" registered_is \
    "$disk_id $(sum_of "$WWW/disk2.img")|$ova_id $(sum_of "$SITE/disk.raw")" || note "$(registered)"
ctl -q deselect $ova_id
check '... and one that is deselected is retired' wait_for "$((VMI_PATIENCE * 2))" registered_is \
    "$disk_id $(sum_of "$WWW/disk2.img")" || note "$(registered)"
mount_down
rm "$SITE/bin/tar" "$SITE/bin/oneimage"
setting event_env none
ctl -q select $ova_id

# ---- handlers of others -------------------------------------------------------------------------

# theirs NAME: prints its path.  If it cannot be run here the reason is told as a skipped test.
theirs() {
	their_path=
	[ -n "$handlers_of_others" ] || { skip "$1 runs unmodified" 'VMCATCHER_HANDLERS names no directory'; return 1; }
	their_path=$(find "$handlers_of_others" -name "$1" -type f | head -n 1)
	[ -n "$their_path" ] || { skip "$1 runs unmodified" "there is none in $handlers_of_others"; return 1; }
	case $(head -n 1 "$their_path") in
	*python*)
		"$python" --version >/dev/null 2>&1 || { skip "$1 runs unmodified" 'there is no Python 2'; return 1; }
		;;
	esac
}

# glancepush's directories, which its handlers have in their text.  Those of the host are left alone.
glancepush_made=
glancepush_up() {
	local dir

	[ -z "$glancepush_made" ] || return 0
	for dir in /etc/gpvmcmapping /etc/glancepush /var/spool/glancepush /var/run/glancepush; do
		[ ! -e "$dir" ] || return 1
	done
	glancepush_made=yes
	at_exit rm -rf /etc/gpvmcmapping /etc/glancepush /var/spool/glancepush /var/run/glancepush
	mkdir -p /etc/glancepush/{meta,test,transform} /var/{spool,run}/glancepush
}

# Mounts with this handler, which is told that the images come anew: they are here, selecting suffices.
run_handler() {
	setting event_command "$1"
	shift
	mount_up && ctl -q deselect "$@" && ctl -q select "$@"
}

if theirs vmcatcher_eventHndlExpl; then
	run_handler "$python $their_path --output_file=$OUT/expl" $disk_id $ova_id
	check 'vmcatcher_eventHndlExpl runs unmodified' \
	    wait_for "$VMI_PATIENCE" eval 'grep -q AvailablePostfix "$OUT/expl" && grep -q $ova_id "$OUT/expl"'
	mount_down
fi
if theirs gpvmcupdate; then
	if ! glancepush_up; then
		skip 'gpvmcupdate runs unmodified' 'this host has a glancepush of its own'
	else
		printf 'declare -A vmcmapping\nvmcmapping["Image disk"]="disk"\nvmcmapping["Image OVA"]="ova"\n' \
		    >/etc/gpvmcmapping
		run_handler "bash $their_path" $disk_id $ova_id
		check 'gpvmcupdate runs unmodified' \
		    wait_for "$VMI_PATIENCE" grep -qx "file=$D/cache/$disk_id" /var/spool/glancepush/disk
		check '... and what it spools is the image' \
		    cmp "$(sed -n 's/^file=//p' /var/spool/glancepush/disk)" "$WWW/disk2.img"
		mount_down
	fi
fi
if theirs gpvcmupdate.py; then
	if ! glancepush_up; then
		skip 'gpvcmupdate.py runs unmodified' 'this host has a glancepush of its own'
	else
		# Of an OVA it unpacks into /tmp, and takes every disk that lies there for its own.
		ctl -q deselect $ova_id
		run_handler "$python $their_path" $disk_id
		check 'gpvcmupdate.py runs unmodified' \
		    wait_for "$VMI_PATIENCE" grep -qx "file=$D/cache//$disk_id" /var/spool/glancepush/Image_disk
		check '... and what it spools is the image' \
		    cmp "$(sed -n 's/^file=//p' /var/spool/glancepush/Image_disk)" "$WWW/disk2.img"
		check '... with its metadata' wait_for "$VMI_PATIENCE" grep -q disk_format /etc/glancepush/meta/Image_disk
		mount_down
		ctl -q select $ova_id
	fi
fi
if theirs vmcatcher_eventHndl_ON; then
	cat >"$SITE/bin/oneimage" <<-EOT
		#!/bin/sh
		echo "\$*" >>$OUT/oneimage
		case \$1 in
		list) echo '<IMAGE_POOL></IMAGE_POOL>' ;;
		create) cat "\$4" >>$OUT/oneimage; echo 'ID: 0' ;;
		esac
	EOT
	chmod 755 "$SITE/bin/oneimage"
	setting event_env "PATH=$path"
	run_handler "$python $their_path" $disk_id $ova_id
	check 'vmcatcher_eventHndl_ON runs unmodified' \
	    wait_for "$((VMI_PATIENCE * 2))" eval "grep -q '^create -d default' $OUT/oneimage && [ -f $D/cache/templates/$ova_id.one ]"
	check_like '... and gives OpenNebula the disk of an OVA' "$ova_id" "$(cat "$OUT/oneimage" 2>/dev/null)"
	mount_down
fi

plan_done
