#!/bin/bash
# Long directories: read in small pieces, from any place, and while the list behind them changes.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse nginx openssl setpriv
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"
. "$here/../lib/lists.sh"
fscheck=$(dirname "$hostile_program")/fscheck
[ -x "$fscheck" ] || skip_all 'tests/lib/fscheck is not built'

n_images=10000

site_up
lists_up

# numbered VERSION: a list of n_images images.  In an odd version each tenth is missing, and as many
# others are there; the ninth of ten has a title of its own in each.
numbered() {
	local dn ca

	dn=$(pki_dn alice) ca=$(pki_issuer alice)
	pki_list "$SITE/image.list.json" a-list "$1" "$dn" "$ca" '@@' &&
	    awk -v n="$n_images" -v version="$1" -v uri="$WEB_URL/disk" '
		function image(id, title) {
			if (n_done++)
				printf ",\n"
			printf "{\"hv:image\": {\"dc:identifier\": \"%s\", \"dc:title\": \"%s\", \"dc:description\": \"\", \"hv:version\": \"1\", \"hv:uri\": \"%s\", \"hv:size\": %d, \"sl:checksum:sha512\": \"%0128x\", \"hv:hypervisor\": \"kvm\", \"sl:arch\": \"x86_64\", \"sl:os\": \"Linux\", \"sl:osversion\": \"1\", \"sl:comments\": \"\"}}", id, title, uri, 1000 + n_done, n_done
		}
		/@@/ {
			sub(/@@.*/, ""); printf "%s", $0
			for (i = 1; i <= n; i++)
				if (i % 10 == 9)
					image("image-" i, "Title " i " of " version)
				else if (i % 10 == 0 && version % 2)
					image("other-" i, "Other " i)
				else
					image("image-" i, "Title " i)
			next
		}
		{ print }' "$SITE/image.list.json" >"$SITE/image.list.new" &&
	    mv "$SITE/image.list.new" "$SITE/image.list.json" && sign_as alice image.list
}
numbered 2 || bail 'no list'
ctl -q endorser add alice --from-cert "$PKI/alice.pem" &&
    ctl -q subscribe "$WEB_URL/image.list" --endorser alice || bail 'the list is not accepted'
mount_up || bail "not mounted: $(tail -n 5 "$LOG")"

# ---- a listing --------------------------------------------------------------------------------

names() {
	"$fscheck" list "$1" "$2" | cut -d' ' -f3 | sort
}
{ printf '%s\n' . ..; seq -f 'image-%.0f' $n_images; } | sort >"$SITE/wanted"
names "$MNT/images" 1024 >"$SITE/found"
check 'F31 10,000 names are told once each, 1 KiB at a time' cmp "$SITE/wanted" "$SITE/found"
names "$MNT/images" 1048576 >"$SITE/found"
check 'F31 and 1 MiB at a time' cmp "$SITE/wanted" "$SITE/found"
check_is 'F31 a listing is known at every place of it: telldir, seekdir, rewinddir' \
    $((n_images + 2)) "$("$fscheck" places "$MNT/images" 2>&1)"
check_is 'F31 so are those of links' $((n_images + 2)) "$("$fscheck" places "$MNT/by-title" 2>&1)"
check_is 'F31 and those of a subscription' $((n_images + 2)) \
    "$("$fscheck" places "$MNT/subscriptions/a-list/images" 2>&1)"
check_is 'F32 inode and type of each entry are those of the file' '' \
    "$("$fscheck" list "$MNT/images" 4096 | awk '$3 !~ /^\./ { print $1, $2, $3 }' | sort >"$SITE/told"
	find "$MNT/images" -mindepth 1 -maxdepth 1 -printf '%i 4 %f\n' | sort | diff "$SITE/told" - | head -n 3)"
check_is 'F32 no two images have one inode' "$n_images" \
    "$(find "$MNT/images" -mindepth 1 -maxdepth 1 -printf '%i\n' | sort -u | wc -l)"
check_is 'F32 a directory has a link for each directory in it' $((n_images + 2)) \
    "$(stat -c %h "$MNT/images")"
asked=$(web_requests .)
check_is 'F27 ls -lR of 10,000 images shows their 10,000 links and fetches nothing' "$n_images $asked" \
    "$(ls -lR "$MNT/by-title" | grep -c ' -> ../images/') $(web_requests .)"

# ---- while it changes ---------------------------------------------------------------------------

seq -f 'image-%.0f' $n_images | grep -v '0$' >"$SITE/stable"
seq -f 'Title_%.0f' $n_images | grep -v '[09]$' >"$SITE/stable.titles"
change_lists() {
	local version=3

	while [ -e "$SITE/go-on" ]; do
		numbered $version && ctl -q update || return 1
		version=$((version + 1))
	done
	echo $version >"$SITE/versions"
}
: >"$SITE/go-on"
change_lists &
changer=$!
"$fscheck" lists "$MNT/images" 1024 "$SITE/stable" 8 >"$SITE/said.1" 2>&1 &
by_pieces=$!
"$fscheck" lists "$MNT/by-title" 65536 "$SITE/stable.titles" 8 >"$SITE/said.2" 2>&1 &
by_title=$!
"$fscheck" lists "$MNT/subscriptions/a-list/images" 2048 "$SITE/stable" 8 >"$SITE/said.3" 2>&1 &
by_sub=$!
wait $by_pieces
check_is "F31 what stays is told exactly once in a list that changes ($(tail -n 1 "$SITE/said.1") listings)" 0 $?
wait $by_title
check_is "F31 also by title ($(tail -n 1 "$SITE/said.2") listings)" 0 $?
wait $by_sub
check_is "F31 also in a subscription ($(tail -n 1 "$SITE/said.3") listings)" 0 $?
rm "$SITE/go-on"
wait $changer
check_is 'F31 the list changed meanwhile' 0 $?
check_like 'F31 more than once' '^([4-9]|[1-9][0-9]+)$' "$(cat "$SITE/versions")"

# ---- what 10,000 names were before is forgotten at once ------------------------------------------

remembered() {
	(cd "$MNT/images" && ls -d "$@" 2>/dev/null | paste -sd' ')
}
numbered 1000
ctl -q update
find "$MNT/images" "$MNT/by-title" >/dev/null
check_is 'F36 names that are there, and names that are not' 'image-20 image-9990' \
    "$(remembered image-20 other-20 image-9990 other-9990)"
numbered 1001
ctl -q update
check_is 'F36 when update returns they are the others' 'other-20 other-9990' \
    "$(remembered image-20 other-20 image-9990 other-9990)"
present() {
	seq -f 'image-%.0f' $n_images | grep -v '0$'
	seq -f 'other-%.0f' 10 10 $n_images
	printf '%s\n' . ..
}
present | sort >"$SITE/wanted"
names "$MNT/images" 4096 >"$SITE/found"
check 'F31 a listing is the new one, too' cmp "$SITE/wanted" "$SITE/found"

plan_done
