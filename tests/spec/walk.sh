#!/bin/bash
# Whoever looks at the mount without reading an image fetches nothing: a stranger's find, du or
# updatedb does not fill the cache.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse nginx openssl setpriv getfattr
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"
. "$here/../lib/lists.sh"

site_up
lists_up
entries=()
for n in {1..8}; do
	image_file "disk$n.img" $((200000 + n))
	entries+=("$(image_entry "disk-$n" "Disk $n" 1.0 "disk$n.img")")
done
publish alice image.list a-list 1 "${entries[@]}" || bail 'no list'
ctl -q endorser add alice --from-cert "$PKI/alice.pem" &&
    ctl -q subscribe "$WEB_URL/image.list" --endorser alice --select all || bail 'no list'
ctl -q deselect disk-8
mount_up || bail "not mounted: $(tail -n 5 "$LOG")"
ctl -q fetch disk-1 || bail 'not fetched'
asked=$(web_requests .)


# looked TITLE COMMAND...: it works, and nobody asks the web server for anything.
looked() {
	local title=$1

	shift
	check "F27 $title works" timeout 60 bash -c "$*"
	check_is "F27 $title asks for nothing" "$asked" "$(web_requests .)"
}

export MNT
looked 'ls -lR' 'ls -lR "$MNT" >/dev/null'
looked 'ls -laL of the image files' 'ls -laL "$MNT"/images/*/ "$MNT"/by-sha512 >/dev/null'
looked 'find -size' '[ "$(find "$MNT" -size +1 -name "????????????????????*" -type f | wc -l)" -eq 7 ]'
looked 'find -L' 'find -L "$MNT" -maxdepth 3 -printf "%s %b\n" >/dev/null'
looked 'du' 'du -a "$MNT" >/dev/null && du --apparent-size -s "$MNT" >/dev/null'
looked 'stat' 'find "$MNT" -exec stat {} + >/dev/null'
looked 'test -s' 'for i in "$MNT"/by-sha512/*; do test -s "$i" && test -r "$i" || exit 1; done'
looked 'df' 'df "$MNT" && df -i "$MNT"'
looked 'readlink -f' 'readlink -f "$MNT"/images/*/image "$MNT"/cache/* >/dev/null'
looked 'getfattr' 'getfattr -d --absolute-names "$MNT"/by-sha512/* >/dev/null'
looked 'reading all texts' 'find "$MNT" -path "*/by-sha512" -prune -o -type f -exec cat {} + | wc -c'
looked 'grep -r' 'grep -r "Disk 3" "$MNT"/images >/dev/null'
looked 'opening an image and closing it' 'for i in "$MNT"/by-sha512/*; do : <"$i" || exit 1; done'
looked 'an indexer' 'find "$MNT" -printf "%i %y %m %s %T@ %p\n" | sort >/dev/null'
looked 'an archive of names' 'tar -cf /dev/null -C "$MNT" --exclude=by-sha512 .'
looked 'reading everything in cache/' 'cat "$MNT"/cache/* >/dev/null'
looked 'a glob of cache/ and sha512sum -c' 'cd "$MNT" && sha512sum --quiet -c SHA512SUMS'

# ---- sizes are known before ------------------------------------------------------------------

sizes() {
	find "$MNT/by-sha512" -type f -printf '%s\n' | sort
}
check_is 'F32 the size of an image is known before it is fetched' "$(seq 200001 200007)" "$(sizes)"
check_is 'F27 no image has fewer blocks than bytes, fetched or not' '' \
    "$(find "$MNT/by-sha512" -type f -printf '%b %s %p\n' | awk '$1 * 512 < $2')"
check_is 'F27 du knows what the images would take' 7 \
    "$(du -a "$MNT/by-sha512" | awk '$1 >= 195 && $1 < 300' | grep -c .)"
check_is 'F27 nothing was fetched' 'selected' \
    "$(cat "$MNT"/images/disk-[2-7]/state | sort -u)"
check 'F27 and the next read fetches' cmp "$MNT/images/disk-2/image" "$WWW/disk2.img"
check_is 'F27 once' 1 "$(web_requests '^GET /disk2')"

plan_done
