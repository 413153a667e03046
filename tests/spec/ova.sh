#!/bin/bash
# An OVA is an archive: images/ID/ova shows the files in it.  They are the image's own bytes, verified
# like all others, fetched when they are read, and never copied.  What would be dangerous to unpack is
# not shown.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl fsverity qemu-img jq python3 getfattr tar
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/lists.sh"
. "$here/../lib/verity.sh"
. "$here/../lib/blocks.sh"

images_up fill=never stall_timeout=20s block_timeout=20s
mib=1048576
parts=$SITE/parts
mkdir "$parts"

# ---- archives ----------------------------------------------------------------------------------

# archive NAME MODE FORMAT TAR-OPTION... -- FILE...: an image that is a tar of files in parts/.  No two
# are the same image.
archive() {
	local name=$1 mode=$2 format=$3 options=()

	shift 3
	while [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	shift
	image_add "$name" "$mode" 1
	tar -C "$parts" --mtime=@$((1700000000 + ${#image_names[@]})) -cf "$WWW/$name" "${options[@]}" -- "$@" || bail "no archive '$name'"
	image_keys[$name]=hv:format=$format
}

# crafted NAME PROGRAM: an image that is what the Python program writes into the tarfile `t`.
crafted() {
	image_add "$1" ok 1
	python3 - "$WWW/$1" "$2" <<-'EOT' || bail "no archive '$1'"
		import io, sys, tarfile
		t = tarfile.open(sys.argv[1], 'w', format=tarfile.USTAR_FORMAT)
		def add(name, data=b'harmless\n', kind=tarfile.REGTYPE, link='', size=None):
		    m = tarfile.TarInfo(name)
		    m.type, m.linkname = kind, link
		    m.size = len(data) if size is None else size
		    t.addfile(m, io.BytesIO(data))
		add('vm.ovf', b'<Envelope/>\n')
		exec(sys.argv[2])
		t.close()
	EOT
	image_keys[$1]=hv:format=OVA
}

openssl enc -aes-128-ctr -nosalt -K 00112233445566778899aabbccddeeff -iv 0 </dev/zero 2>/dev/null |
    head -c $((3 * mib)) >"$parts/random"
truncate -s 8M "$parts/disk.raw"
dd if="$parts/random" of="$parts/disk.raw" bs=64k seek=9 conv=notrunc status=none
qemu-img convert -f raw -O vmdk -o subformat=streamOptimized "$parts/disk.raw" "$parts/vm-disk1.vmdk" &&
    qemu-img convert -f raw -O qcow2 "$parts/disk.raw" "$parts/disk2.qcow2" || bail 'qemu-img convert failed'
printf '<Envelope>\n  <File href="vm-disk1.vmdk"/>\n</Envelope>\n' >"$parts/vm.ovf"
(cd "$parts" && sha256sum --tag vm.ovf vm-disk1.vmdk >vm.mf)
: >"$parts/empty"
cp "$parts/vm.ovf" "$parts/a name with spaces.ovf"
ln -s vm.ovf "$parts/link"
mkdir "$parts/sub"
cp "$parts/vm.ovf" "$parts/sub/vm.ovf"
long=$(printf 'n%.0s' {1..120})
cp "$parts/vm.ovf" "$parts/$long"
truncate -s 1M "$parts/holes" && echo end >>"$parts/holes"
members=(disk.raw disk2.qcow2 empty vm-disk1.vmdk vm.mf vm.ovf)
disks=(vm.ovf vm.mf vm-disk1.vmdk empty disk2.qcow2 disk.raw)

archive whole ok OVA --format=ustar -- "${disks[@]}"
archive lazy ok ova --format=gnu -- "${disks[@]}"
archive old ok Ova --format=v7 -- vm.ovf vm-disk1.vmdk
archive word ok application/x-virtualbox-ova --format=posix -- ./vm.ovf ./vm-disk1.vmdk
archive spaces ok OVA --format=ustar -- 'a name with spaces.ovf'
archive gz ok ova.gz --format=ustar -- vm.ovf
archive other ok nova --format=ustar -- vm.ovf
archive raw ok raw --format=ustar -- vm.ovf
archive unselected ok OVA --format=ustar -- vm.ovf
archive waits silent OVA --format=ustar -- vm.ovf vm-disk1.vmdk
archive slow silent OVA --format=ustar -- vm.ovf vm-disk1.vmdk
archive gone status:404 OVA --format=ustar -- vm.ovf
archive replaced ok OVA --format=ustar -- disk.raw vm.ovf
archive becomes ok raw --format=ustar -- vm.ovf
archive distrusted ok OVA --format=ustar -- disk.raw
archive crowd ok OVA --format=ustar -- "${disks[@]}"
for name in lazy slow crowd; do
	case $name in
	slow)	image_blocks slow mode=ok ;;
	*)	image_blocks $name ;;
	esac
done

# What is in it, and what is to be said of it.
declare -A hostile_said=(
	[absolute]="absolute name, '/etc/cron.d/x'" [parent]="'..' in its name, '../x'"
	[inner]="'..' in its name" [symlink]='is a symbolic link' [hardlink]='is a hard link'
	[device]='is a device' [fifo]='is a fifo' [many]='more than 100 members'
	[twice]="two members 'x'" [beyond]='ends beyond the archive' [paxpath]="changes 'path'"
	[paxsize]="changes 'size'" [link]="'link' of the archive is a symbolic link"
	[subdir]="'sub/vm.ovf' of the archive lies in a directory" [longname]='a header for a long name'
	[sparse]='is a sparse file' [paxsparse]="changes 'GNU.sparse." [garbage]='no tar header at 0'
	[zeros]='no members' [cut]='ends beyond the archive'
)
crafted absolute "add('/etc/cron.d/x')"
crafted parent "add('../x')"
crafted inner "add('a/../../x')"
crafted symlink "add('x', b'', tarfile.SYMTYPE, '/etc/passwd')"
crafted hardlink "add('x', b'', tarfile.LNKTYPE, 'vm.ovf')"
crafted device "add('x', b'', tarfile.BLKTYPE)"
crafted fifo "add('x', b'', tarfile.FIFOTYPE)"
crafted many "for i in range(10000): add('m%d' % i)"
crafted twice "add('x'); add('x')"
crafted beyond "t.fileobj.write(tarfile.TarInfo.tobuf((lambda m: (setattr(m, 'size', 1 << 32), m)[1])(tarfile.TarInfo('x'))))"
crafted paxpath "t.format = tarfile.PAX_FORMAT; m = tarfile.TarInfo('x'); m.pax_headers = {'path': '../../etc/x'}; t.addfile(m)"
crafted paxsize "t.format = tarfile.PAX_FORMAT; m = tarfile.TarInfo('x'); m.pax_headers = {'size': '99'}; t.addfile(m)"
archive link ok OVA --format=ustar -- vm.ovf link
archive subdir ok OVA --format=ustar -- vm.ovf sub/vm.ovf
archive longname ok OVA --format=gnu -- vm.ovf "$long"
archive sparse ok OVA --format=gnu -S -- holes
archive paxsparse ok OVA --format=posix -S -- holes
image_add garbage ok 5000
image_add zeros ok 1 && truncate -s 0 "$WWW/zeros" && truncate -s 20480 "$WWW/zeros"
archive cut ok OVA --format=ustar -- vm.ovf disk2.qcow2 && truncate -s 100000 "$WWW/cut"
image_keys[garbage]=hv:format=OVA image_keys[zeros]=hv:format=OVA

images_subscribe
ctl -q deselect unselected
mount_up || bail "no mount: $(tail -n 3 "$LOG")"

dir() {
	printf '%s\n' "$MNT/images/$1/ova"
}
listed() {
	ls "$MNT/images/$1" | grep -qx ova
}
not_listed() {
	! listed "$1"
}
all_requests() {
	grep -c '^GET /[a-z0-9:]*/[a-z]* ' "$SITE/requests"
}

# ---- looking fetches nothing --------------------------------------------------------------------

before=$(all_requests)
check_not 'an archive that is not here is not listed' listed whole
check 'ls -lR of everything works' bash -c "ls -lR '$MNT' >/dev/null"
check 'find -L of everything works' bash -c "find -L '$MNT' -maxdepth 3 -size +1 >/dev/null"
check 'an archive that is not here is found by its name' test -d "$(dir whole)"
check_is 'and is a directory like others' 'directory 755 2' "$(stat -c '%F %a %h' "$(dir whole)")"
check_is 'none of that fetches anything' "$before" "$(all_requests)"
check_is 'of an image with another format there is none' '' \
    "$(ls -d "$(dir gz)" "$(dir other)" "$(dir raw)" "$(dir unselected)" 2>/dev/null)"

# ---- an archive that comes as a whole -----------------------------------------------------------

check_is 'who lists an archive has it fetched, and sees its members' "${members[*]}" \
    "$(ls "$(dir whole)" | paste -sd' ')"
check_is 'once' 1 "$(requests whole)"
check 'it is verified' wait_for "$VMI_PATIENCE" state_is whole verified
check 'an archive that is here is listed' listed whole
check_is 'and counts as a directory in its image' 3 "$(stat -c %h "$MNT/images/whole")"
for name in "${members[@]}"; do
	check "the member $name has its bytes" cmp "$(dir whole)/$name" "$parts/$name"
done
check_is 'a member is a file like an image' \
    "$(stat -Lc '%a %Y' "$(image whole)") 1 $(stat -c %s "$parts/disk.raw") $((8 * mib / 512))" \
    "$(stat -c '%a %Y %h %s %b' "$(dir whole)/disk.raw")"
check_is 'every member has an inode number of its own' 6 \
    "$(stat -c %i "$(dir whole)"/* | sort -u | grep -c .)"
check_is 'a member has the attributes of the archive' "$(image_hex whole) whole" \
    "$(getfattr --absolute-names --only-values -n user.vmimage.sha512 "$(dir whole)/vm.ovf") $(
	getfattr --absolute-names --only-values -n user.vmimage.id "$(dir whole)/vm.ovf")"
for name in disk.raw disk2.qcow2 vm-disk1.vmdk vm.mf; do
	check "the member $name is read in all ways" oracle "$(dir whole)/$name" "$parts/$name"
done
check_status 'a name that the archive has not is not there' 1 test -e "$(dir whole)/none"
check_not 'a member cannot be written' bash -c ": >>'$(dir whole)/vm.ovf'"
seeks() {
	python3 - "$1" <<-'EOT'
		import os, sys
		fd = os.open(sys.argv[1], os.O_RDONLY)
		size = os.fstat(fd).st_size
		for at in (0, 1, size // 2, size - 1):
		    assert os.lseek(fd, at, os.SEEK_DATA) == at, at
		    assert os.lseek(fd, at, os.SEEK_HOLE) == size, at
		try:
		    os.lseek(fd, size, os.SEEK_DATA)
		    sys.exit("lseek behind the end succeeds")
		except OSError as e:
		    assert e.errno == 6, e
		assert os.pread(fd, 4096, size - 1) == os.pread(fd, 1, size - 1)
		assert os.pread(fd, 4096, size) == b''
		assert os.pread(fd, 4096, size + (1 << 40)) == b''
	EOT
}
check 'all of a member is data, up to its end' seeks "$(dir whole)/disk2.qcow2"

# ---- what handlers and hypervisors do -----------------------------------------------------------

check_is 'qemu-img info knows the disk in its place' "vmdk $((8 * mib))" \
    "$(qemu-img info --output=json "$(dir whole)/vm-disk1.vmdk" | jq -r '[.format, .["virtual-size"]] | join(" ")')"
converts() {
	rm -f "$SITE/out"
	qemu-img convert -T "$1" -f "$2" -O raw "$3" "$SITE/out" && cmp "$SITE/out" "$parts/disk.raw"
}
for cache in none writeback; do
	check "qemu-img convert with cache=$cache makes a disk of it" converts $cache vmdk "$(dir whole)/vm-disk1.vmdk"
	check "qemu-img convert with cache=$cache reads the qcow2" converts $cache qcow2 "$(dir whole)/disk2.qcow2"
done
check 'qemu-img check finds nothing wrong' qemu-img check -q "$(dir whole)/disk2.qcow2"
check 'the manifest in the archive agrees with its members' \
    bash -c "cd '$(dir whole)' && sha256sum --quiet -c vm.mf"
unpacked() {
	mkdir "$SITE/unpacked" && tar -C "$SITE/unpacked" -xf "$(image whole)" && diff -r "$SITE/unpacked" "$(dir whole)"
}
check 'tar unpacks the same' unpacked

# ---- other forms --------------------------------------------------------------------------------

for name in old word; do
	check_is "an archive of another form is shown ($name)" 'vm-disk1.vmdk vm.ovf' "$(ls "$(dir $name)" | paste -sd' ')"
	check "with its bytes ($name)" cmp "$(dir $name)/vm-disk1.vmdk" "$parts/vm-disk1.vmdk"
done
check 'a member can be opened by its name, with no look at the archive before' \
    cmp "$(dir spaces)/a_name_with_spaces.ovf" "$parts/vm.ovf"
check_is 'a name with spaces has none here' a_name_with_spaces.ovf "$(ls "$(dir spaces)")"

# ---- block by block -----------------------------------------------------------------------------

# The granules in which the headers of an archive lie.
header_granules() {
	python3 - "$1" <<-'EOT'
		import sys, tarfile
		t = tarfile.open(sys.argv[1])
		at = [m.offset for m in t.getmembers()]
		last = t.getmembers()[-1]
		end = last.offset_data + (last.size + 511) // 512 * 512
		print(len({p // 262144 for p in at + [end, end + 512]}))
	EOT
}
headers=$(header_granules "$WWW/lazy")
size=$(stat -c %s "$WWW/lazy")
tail=$((size % granule))
n_granules() {
	echo $((($(sent lazy) + granule - 1) / granule))
}
check_not 'an archive with block digests is not listed either' listed lazy
check_is 'it is, when who asks for it sees its members' "${members[*]}" "$(ls "$(dir lazy)" | paste -sd' ')"
check_is 'for that the granules of its headers are fetched, and no other' "$headers" "$(n_granules)"
check 'from then on it is listed' wait_for 5 listed lazy
check_is 'it is still not fetched' selected "$(said_of lazy state)"
before=$(sent lazy)
check 'ls -lR of everything works now' bash -c "ls -lR '$MNT' >/dev/null"
check 'a size in it is known' [ "$(stat -c %s "$(dir lazy)/disk.raw")" -eq $((8 * mib)) ]
check_is 'that fetches nothing' "$before" "$(sent lazy)"
page() {
	oracle --mode direct --from "$2" --length 4096 "$(dir lazy)/$1" "$parts/$1" || { echo "$oracle_said"; return 1; }
}
check 'a page in the middle of a disk in it is read' page disk.raw $((5 * mib))
check 'for it at most two granules are fetched' [ $(($(sent lazy) - before)) -le $((2 * granule)) ]
check 'and one at least' [ $(($(sent lazy) - before)) -ge $granule ]
before=$(sent lazy)
check 'the page is read again' page disk.raw $((5 * mib))
check_is 'for nothing' "$before" "$(sent lazy)"
check_is 'qemu-img info knows a disk of which a part is here' "qcow2 $((8 * mib))" \
    "$(qemu-img info --output=json "$(dir lazy)/disk2.qcow2" | jq -r '[.format, .["virtual-size"]] | join(" ")')"
check 'most of the archive is not here' [ "$(sent lazy)" -lt $((size / 2)) ]
check 'a disk in it is converted' converts none vmdk "$(dir lazy)/vm-disk1.vmdk"
for name in "${members[@]}"; do
	check "the member $name of an archive that came in parts is right" cmp "$(dir lazy)/$name" "$parts/$name"
done
check_is 'no byte of it is sent twice' "$size" "$(sent lazy)"
check 'all of it is here' wait_for "$VMI_PATIENCE" state_is lazy verified
check 'it stays listed' listed lazy

# A byte in the middle of a disk in it goes bad in the stored file.
damaged() {
	local at

	at=$(python3 -c 'import sys, tarfile; print(tarfile.open(sys.argv[1]).getmember("disk.raw").offset_data)' \
	    "$WWW/lazy") && flip_byte "$(object_of lazy)" $((at + 2 * mib + 5))
}
damaged || bail 'no byte can be changed'
check 'damage in a member is found and healed' oracle --mode direct "$(dir lazy)/disk.raw" "$parts/disk.raw"
check 'in the stored file, too' cmp "$(object_of lazy)" "$WWW/lazy"
check 'and told of' wait_for "$VMI_PATIENCE" has_event lazy CorruptHealed

# ---- many readers of several members ------------------------------------------------------------

pids=()
for i in {1..12}; do
	name=${members[i % 6]}
	[ "$name" != empty ] || name=vm.mf
	oracle --rounds 2 --seed "$i" "$(dir crowd)/$name" "$parts/$name" >"$SITE/crowd.$i" 2>&1 &
	pids+=($!)
done
bad=0
for pid in "${pids[@]}"; do
	wait "$pid" || bad=$((bad + 1))
done
check_is 'C01 many readers of several members, from the first moment on, get their bytes' 0 "$bad"
check_is 'C01 no byte is sent twice' "$(stat -c %s "$WWW/crowd")" "$(sent crowd)"

# ---- waiting ------------------------------------------------------------------------------------

cat "$(dir waits)/vm.ovf" >"$SITE/cat.out" 2>&1 &
cat_pid=$!
check 'who asks for an archive waits' wait_for "$VMI_PATIENCE" requests_are waits 1
ls "$(dir waits)" >"$SITE/ls.out" 2>&1 &
ls_pid=$!
cat "$(dir waits)/vm-disk1.vmdk" >"$SITE/killed.out" 2>&1 &
killed_pid=$!
sleep 0.5		# they wait where nothing tells of it
check 'the image says meanwhile what it does' timeout 5 grep -qx fetching "$MNT/images/waits/state"
check 'its directory is listed meanwhile' timeout 5 ls "$MNT/images/waits"
kill -TERM "$killed_pid"
gone() {
	! kill -0 "$1" 2>/dev/null
}
check 'who waits beside another one can be killed' wait_for 5 gone "$killed_pid"
timeout -s INT 1 ls "$(dir waits)" >/dev/null 2>&1
check_is 'who waits can be interrupted' 124 $?
check 'the others wait on' kill -0 "$ls_pid" "$cat_pid"
server_get '/release?always'
wait "$ls_pid" "$cat_pid"
check_is 'and see the members when they come' 'vm-disk1.vmdk vm.ovf' "$(paste -sd' ' "$SITE/ls.out")"
check 'or read them' cmp "$SITE/cat.out" "$parts/vm.ovf"
server_get /release

configure block_timeout 2s
late() {
	timed ls "$(dir slow)" && return 1
	[ "$took" -ge 1500 ] && [ "$took" -lt 10000 ] || { echo "$took ms"; return 1; }
}
check_like 'who waits for too long is told so' 'Connection timed out' "$(late 2>&1)"
check_not 'what is not known is not listed' listed slow
configure block_timeout 20s
server_get '/release?always'
check_is 'the next one sees the members' 'vm-disk1.vmdk vm.ovf' "$(ls "$(dir slow)" | paste -sd' ')"
server_get /release
check_not 'an archive that cannot be had is an error' ls "$(dir gone)"
check_not 'and not a file that tells of one' test -e "$(dir gone)/error"

# ---- what is not shown --------------------------------------------------------------------------

for name in $(printf '%s\n' "${!hostile_said[@]}" | sort); do
	check_is "of a dangerous archive one file is shown ($name)" error "$(ls -A "$(dir "$name")")"
	check_like "it says why ($name)" "${hostile_said[$name]}" "$(cat "$(dir "$name")/error")"
	check_is "its size is what is read ($name)" "$(stat -c %s "$(dir "$name")/error")" \
	    "$(wc -c <"$(dir "$name")/error")"
	check_not "nothing else is found in it ($name)" test -e "$(dir "$name")/vm.ovf"
	check "the image itself can be read ($name)" cmp "$(image "$name")" "$WWW/$name"
done
check_is 'no name leads out of the mount' '' "$(find "$MNT"/images/*/ova -mindepth 1 ! -type f 2>/dev/null)"

# ---- another mount ------------------------------------------------------------------------------

inodes() {
	stat -c '%i %n' "$(dir whole)" "$(dir whole)"/* "$(dir parent)/error"
}
before=$(inodes)
check 'the daemon ends' mount_down
check 'the daemon starts' mount_up
check 'a member is opened at once by its name' cmp "$(dir whole)/vm.mf" "$parts/vm.mf"
check_is 'inode numbers stay the same over a remount' "$before" "$(inodes)"

# ---- another version ----------------------------------------------------------------------------

hold disk "$(dir replaced)/disk.raw" || bail 'no member can be held open'
check_not 'a name is missing' test -e "$(dir replaced)/vm.mf"
check_not 'an image that is no archive has no directory' test -e "$(dir becomes)"
cp "$parts/disk.raw" "$SITE/old"
head -c 200000 /dev/urandom | dd of="$parts/disk.raw" bs=64k seek=3 conv=notrunc status=none
tar -C "$parts" --format=ustar -cf "$WWW/replaced" disk.raw vm.mf
image_version[replaced]=2.0 image_version[becomes]=2.0
tar -C "$parts" --format=ustar -cf "$WWW/becomes" vm.ovf vm.mf
image_keys[becomes]=hv:format=OVA
check 'another version is fetched' images_update
ctl -q fetch replaced becomes >/dev/null 2>&1
members_are() {
	[ "$(ls "$(dir "$1")" 2>/dev/null | paste -sd' ')" = "$2" ]
}
check 'the new one has its members' wait_for "$VMI_PATIENCE" members_are replaced 'disk.raw vm.mf'
check 'a name that was missing is there' cmp "$(dir replaced)/vm.mf" "$parts/vm.mf"
check_not 'a name that was there is missing' test -e "$(dir replaced)/vm.ovf"
check 'L24 a member of the new one has the new bytes' cmp "$(dir replaced)/disk.raw" "$parts/disk.raw"
check_is 'L24 who has a member of the old one open goes on with the old bytes' same "$(held disk "same $SITE/old")"
check_is 'also with those that are not in memory' same "$(held disk "page $((7 * mib)) $SITE/old")"
check 'an image that is an archive now has its directory' wait_for "$VMI_PATIENCE" members_are becomes 'vm.mf vm.ovf'

# ---- distrust -----------------------------------------------------------------------------------

hold trusted "$(dir distrusted)/disk.raw" || bail 'no member of another can be held open'
check_is 'a member of another is read' same "$(held trusted "same $SITE/old")"
ctl -q endorser remove alice
check 'who has a member open of what is distrusted is cut off' \
    wait_for "$VMI_PATIENCE" hold_is trusted ESTALE "same $SITE/old"
check 'its bytes are no longer in memory' hold_is trusted ESTALE 'read 0'
check_not 'it cannot be opened anew' opens_as open "$(dir distrusted)/disk.raw"
check_is 'nothing waits' 0 "$(status_of reads_parked)"
mount_down || not_ok 'the daemon ends'
plan_done
