#!/bin/bash
# `vmimagectl digest`: what a publisher puts into a list, and the sidecar, against the fsverity tool.
# time limit: 300 s

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/lib/tap.sh
. "$here/../lib/tap.sh"
need fsverity jq openssl sha512sum
top=$(cd "$here/../.." && pwd)
build=${VMIMAGEFS_BUILD:-$top/.build}
ctl=$build/vmimagectl
[ -x "$ctl" ] || bail "there is no vmimagectl in $build"
unset VMIMAGEFS_CONFIG
work=$(mktemp -d) || bail 'mktemp failed'
at_exit rm -rf "$work"
cd "$work" || bail 'no directory'

# tool FILE: the digest that the fsverity tool prints, its tree in FILE.tool.
tool() {
	fsverity digest --compact --hash-alg=sha512 --block-size=4096 --out-merkle-tree="$1.tool" "$1"
}

# The same bytes for each size, and no two granules alike.
bytes() {
	head -c "$1" /dev/zero | openssl enc -aes-128-ctr -K 00 -iv 00 -nosalt 2>/dev/null
}

# members: the output of digest as an object.
members() {
	jq -cS '{ size: ."hv:size", sha512: ."sl:checksum:sha512", verity: ."sl:checksum:fsverity-sha512" }' <<<"{$1}"
}

# wanted FILE SHA512
wanted() {
	jq -cnS --argjson size "$(stat -c %s "$1")" --arg sha512 "$2" --arg verity "$(tool "$1")" \
	    '{ size: $size, sha512: $sha512, verity: $verity }'
}

sha512() {
	sha512sum <"$1" | cut -d' ' -f1
}

# ---- the same as the tool ------------------------------------------------------------------------

for size in 0 1 4095 4096 4097 262143 262144 262145 16777217; do
	bytes "$size" >"f$size"
	said=$("$ctl" -q digest "f$size" 2>&1)
	check_is "the digests of a file of $size bytes are those of the fsverity tool" \
	    "$(wanted "f$size" "$(sha512 "f$size")")" "$(members "$said")"
	check "its sidecar of $(stat -c %s "f$size.tool") bytes is, too" cmp "f$size.tool" "f$size.fsv"
done

# A sparse file of more than 2^32 bytes, with bytes in its corners.  Its SHA-512 is OpenSSL's, written
# down, because each pass over it costs many seconds.
large=$((5 << 30))
large_sha512=e0d962772cb9a1944a1474c990de17d44dfbfa1027d69a83bd92418d965c7dc9368ec3ebfd3d2773d987296d2bf7c30284ed60b0e5bb9815beedc98811e42d7f
truncate -s $((large + 1)) large
for at in 0 $(((1 << 31) - 1)) $((1 << 32)) "$large"; do
	printf X | dd of=large bs=1 seek="$at" conv=notrunc status=none
done
said=$("$ctl" -q digest large -o large.tree 2>&1)
check_is 'B32 a sparse file of 5 GiB and 1 byte has the digests of the fsverity tool' \
    "$(wanted large "$large_sha512")" "$(members "$said")"
check 'B32 and its sidecar' cmp large.tool large.tree

# ---- the command ---------------------------------------------------------------------------------

file=f262145
check_is 'with --json it is one object' \
    "$(jq -cnS --argjson size 262145 --arg sha512 "$(sha512 $file)" --arg verity "$(tool $file)" \
	'{ schema: 1, file: "f262145", size: $size, sha512: $sha512, fsverity_sha512: $verity,
	sidecar: "f262145.fsv" }')" "$("$ctl" --json digest $file | jq -cS .)"
rm -f $file.fsv
check '--no-sidecar writes no tree' "$ctl" digest $file --no-sidecar
check '... indeed' test ! -e $file.fsv
mkdir trees
check '-o with a directory puts the sidecar there' "$ctl" digest $file -o trees
check '... under the name of the image' cmp trees/$file.fsv $file.tool
echo old >$file.fsv
check 'a sidecar that is there is replaced' "$ctl" digest $file
check '... by the right one' cmp $file.fsv $file.tool
(umask 077 && "$ctl" digest $file >/dev/null)
check_is 'the mode of the sidecar is that of the umask' 600 "$(stat -c %a $file.fsv)"
ln -s $file link
check 'a link leads to the image' "$ctl" digest link -o link.fsv
check '... whose tree it is' cmp link.fsv $file.tool
check_like 'on no terminal, progress is a line every ten per cent' 'f16777217: 100 %' \
    "$("$ctl" digest f16777217 2>&1 >/dev/null)"
check_is 'with -q there is no progress' '' "$("$ctl" -q digest f16777217 2>&1 >/dev/null)"
printf 'nonsense = here\n' >broken.conf
check 'no configuration is needed, not even a right one' "$ctl" -c broken.conf digest $file
if [ "$(id -u)" -eq 0 ]; then
	mkdir open && cp $file open && chmod 711 . && chown 65534 open open/$file
	check 'somebody who is not the daemon'"'"'s user may use it' \
	    setpriv --reuid=65534 --regid=65534 --clear-groups "$ctl" digest open/$file
	check_is '... and owns the sidecar' 65534 "$(stat -c %u open/$file.fsv)"
fi

# ---- what goes wrong -----------------------------------------------------------------------------

check_status 'a file that is not there is an error' 3 "$ctl" digest none
check_not 'a directory is no image' "$ctl" digest trees
mkfifo fifo
check_not 'a FIFO is no image, and nobody waits for it' timeout 5 "$ctl" digest fifo
cp $file copy
check_status 'the tree is not written over the image' 2 "$ctl" digest copy -o copy
ln copy alias
check_status '... by no other name either' 2 "$ctl" digest copy -o alias
check '... which is as it was' cmp copy $file
check_status '-o and --no-sidecar exclude each other' 2 "$ctl" digest $file -o x --no-sidecar
check_status 'one image at a time' 2 "$ctl" digest $file copy
check_not 'a sidecar that cannot be made is an error' "$ctl" digest $file -o none/x.fsv
(ulimit -f 4; "$ctl" -q digest f16777217 -o limited.fsv >/dev/null 2>said)
check_is 'a sidecar that cannot be written is an error' 'File too large' \
    "$(grep -o 'File too large' said)"
check 'and leaves no half of it' test ! -e limited.fsv
check_is 'nothing is left beside' '' "$(find . -name '.vmimagectl*')"
check_status 'output that cannot be written is an error' 1 "$BASH" -c "'$ctl' digest $file >/dev/full"

plan_done
