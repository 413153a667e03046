#!/bin/bash
# vmcatcher_cache: what comes into the cache and leaves it, what handlers are told, and when it fails.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse nginx openssl setpriv
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"
. "$here/../lib/lists.sh"
. "$here/../lib/vmcatcher.sh"

site_up
lists_up
image_file apple.img && image_file pear.img && image_file new.img || bail 'no images'
vmc endorser -C -e Alice -S "$(pki_dn alice)" -I "$(pki_issuer alice)" || bail 'no endorser'

# entry ID VERSION FILE
entry() {
	image_entry "$1" "The $1" "$2" "$3"
}

# taken VERSION ENTRY...: the next list, updated.
taken() {
	publish alice one.list one "$@" && vmc subscribe -U
}

cache() {
	local text status=0

	text=$(vmc cache "$@" 2>&1 </dev/null) || status=$?
	printf '%s: %s\n' "$status" "$text"
}

# What the handler was told since it was last asked.
told() {
	event_types "$handler.log"
	cp "$handler.log" "$handler.last"
	: >"$handler.log"
	: >"$handler.found"
}

sessions() {
	grep '^VMCATCHER_EVENT_UUID_SESSION=' "$handler.last" | sort -u | wc -l
}

object() {
	local hex

	hex=$(sha512sum <"$WWW/$1" | cut -d' ' -f1)
	printf '%s\n' "$SITE/cache/objects/${hex:0:2}/$hex"
}

available='AvailablePrefix AvailablePostfix' gone='ExpirePrefix ExpirePostfix'
publish alice one.list one 1 "$(entry apple 1 apple.img)" "$(entry pear 1 pear.img)" "$(entry spare 1 new.img)"
vmc subscribe -s "$WEB_URL/one.list" --imagelist-newimage-accept && vmc subscribe -U &&
    vmc image -a -u apple || bail 'no subscription'

# ---- what was asked for ------------------------------------------------------------------------------

cd "$SITE" || bail 'no site'
check_is 'directories that are missing are named, with exit 1' \
    "1: INFO:main:Defaulting actions as 'expire', and 'download'.
INFO:main:Defaulting cache-dir to 'cache.none'.
ERROR:main:Cache directory 'cache.none' does not exist.
ERROR:main:Download directory 'cache.none/partial' does not exist.
ERROR:main:Expired directory 'cache.none/expired' does not exist." \
    "$(cache -v -C cache.none | sed 's/^INFO:main:Defaulting partial.*/INFO:main:Defaulting cache-dir to '"'cache.none'"'./; /Defaulting expired-dir/d')"
check_like 'the three directories lie below the working directory by default' \
    "Defaulting cache-dir to 'cache'.*Defaulting partial-dir to 'cache/partial'.*Defaulting expired-dir to 'cache/expired'" \
    "$(cd / && cache -v)"
cache_dirs "$SITE/dirs"
handler=$SITE/handler
event_writer "$handler"
# The handler writes as who has called us, and reads as well.
sed -i "s|^exit 0|id -u >>$SITE/uids; umask >$SITE/umask; env >$SITE/env; vmcatcher_image -l >$SITE/states 2>\&1; exit 0|" "$handler"
check_like '-D alone expires, too' "Defaulting action 'expire', as 'download' is requested" "$(cache -v -D -C none)"
check_is 'VMCATCHER_CACHE_ACTION_EXPIRE=1 downloads nothing' '0: ' \
    "$(VMCATCHER_CACHE_ACTION_EXPIRE=1 cache; ls "$SITE/cache/objects"/*/* 2>/dev/null)"

# ---- the first image -----------------------------------------------------------------------------------

export VMCATCHER_CACHE_EVENT=$handler
check_is 'what is selected and available is downloaded' \
    "0: INFO:main:Defaulting actions as 'expire', and 'download'.
INFO:DownloadDir:Downloading 'apple'.
INFO:CacheMan:moved file apple" "$(cache -v)"
check_is 'the events of a run begin with ProcessPrefix and end with ProcessPostfix' \
    "ProcessPrefix $available ProcessPostfix" "$(told)"
check_is 'they are one session' 1 "$(sessions)"
check 'the cache has the image' cmp "$SITE/dirs/apple" "$WWW/apple.img"
check_is 'without a daemon it is a hard link' "$(stat -c %i "$(object apple.img)")" "$(stat -c %i "$SITE/dirs/apple")"
check_is 'the handler runs as who called vmcatcher_cache' 0 "$(sort -u "$SITE/uids")"
check_is 'with the umask of who called it' "$(umask)" "$(cat "$SITE/umask")"
check_is 'it is told the directories, which end in a slash, and the database' \
    "VMCATCHER_CACHE_DIR_CACHE=$SITE/dirs/ VMCATCHER_CACHE_DIR_DOWNLOAD=$SITE/dirs/partial/ VMCATCHER_CACHE_DIR_EXPIRE=$SITE/dirs/expired/ VMCATCHER_RDBMS=sqlite:///$SITE/state/catalogue.db" \
    "$(grep -E '^VMCATCHER_(CACHE_DIR|RDBMS)' "$SITE/env" | LC_ALL=C sort | paste -sd' ')"
check_like 'it can ask vmcatcher_image' 'apple	3	one' "$(<"$SITE/states")"
ctl -q evict apple
check_is 'what was lost is downloaded again' "0: INFO:main:Defaulting actions as 'expire', and 'download'.
INFO:DownloadDir:Downloading 'apple'.
INFO:CacheMan:moved file apple" "$(cache -v)"
told >/dev/null
check_is 'a run with nothing to do tells of nothing' '0:  ProcessPrefix ProcessPostfix' "$(cache) $(told)"

# ---- another version --------------------------------------------------------------------------------------

taken 2 "$(entry apple 2 new.img)" "$(entry pear 1 pear.img)"
check 'before the new version is here the old one is' cmp "$SITE/dirs/apple" "$WWW/apple.img"
mv "$WWW/new.img" "$WWW/aside"
said=$(cache)
check_like 'a download that fails is an error: exit 1' \
    "^1: .*ERROR:CacheMan:Failed to download file 'apple'.*ERROR:main:Failed to download new images" "$said"
check 'and the old version stays' cmp "$SITE/dirs/apple" "$WWW/apple.img"
check_is 'and nobody is told that it goes' 'ProcessPrefix ProcessPostfix' "$(told)"
mv "$WWW/aside" "$WWW/new.img"
check_is 'the old version leaves when the new one is here, in this order' \
    "0:  ProcessPrefix $gone $available ProcessPostfix" "$(cache) $(told)"
check_is 'the events of both carry their own versions' '1 1 2 2' \
    "$(sed -n 's/^VMCATCHER_EVENT_HV_VERSION=//p' "$handler.last" | paste -sd' ')"
check 'the cache has the new version' cmp "$SITE/dirs/apple" "$WWW/new.img"
check 'the old one is in expired' cmp "$(echo "$SITE"/dirs/expired/apple.*)" "$WWW/apple.img"

# ---- wrong bytes ------------------------------------------------------------------------------------------

cp "$WWW/pear.img" "$SITE/pear.good"
sed -i '1s/./X/' "$WWW/pear.img"
vmc image -a -u pear
check_like 'an image with other bytes than were signed is an error: exit 1' \
    "^1: .*ERROR:(DownloadDir:Downloaded image 'pear' has unexpected sha512|DownloadDir:Image 'pear' is incorrect size)" "$(cache)"
check_not 'it is not in the cache' test -e "$SITE/dirs/pear"
gives_up() {
	[[ $(cache) == *"Image 'pear' has failed to download '5' times, giving up until new image list."* ]]
}
check 'after five times it is given up' wait_for 60 gives_up
requests=$(web_requests '^GET /pear.img')
check_is 'it is not asked for any more, but still is an error' "1 $requests" \
    "$(cache | head -c 1) $(web_requests '^GET /pear.img')"
cp "$SITE/pear.good" "$WWW/pear.img"
taken 3 "$(entry apple 2 new.img)" "$(entry pear 1 pear.img)"
told >/dev/null
check_is 'with a new list it is tried again' "0:  ProcessPrefix $available ProcessPostfix" "$(cache) $(told)"

# ---- what has gone bad ------------------------------------------------------------------------------------

printf X | dd of="$(object pear.img)" conv=notrunc status=none
check_is 'a run without --sha512 looks at no bytes' '0: ' "$(cache)"
told >/dev/null
said=$(cache -s -D)
check_like '--sha512 finds what has gone bad' \
    "^0: ERROR:CacheMan:Image 'pear' sha512 incorrect.*ERROR:CacheMan:Image 'pear' was corrupted deleting" "$said"
check_like '--sha512 tells handlers of it' 'ProcessPrefix .*CorruptFound.* ProcessPostfix' "$(told)"
check 'the image is fetched again' cmp "$SITE/dirs/pear" "$WWW/pear.img"
check_is 'the bad bytes are kept for inspection' 1 "$(find "$SITE/cache/quarantine" -type f | wc -l)"
check_is '--sha512 of what is good says nothing' '0: ' "$(cache -s)"

# ---- leaving ----------------------------------------------------------------------------------------------

told >/dev/null
vmc image -r -u pear
check_is 'what is not selected any more leaves at the next run' "0: INFO:CacheMan:Expired image 'pear' ProcessPrefix $gone ProcessPostfix" \
    "$(cache -v -E) $(told)"
check_not 'it is not in the cache any more' test -e "$SITE/dirs/pear"
cp "$WWW/pear.img" "$SITE/dirs/pear"
chown nobody "$SITE/dirs/pear"
ctl -q evict pear 2>/dev/null || ctl -q expired --purge 0
vmc image -a -u pear
requests=$(web_requests '^GET /pear.img')
check_is 'a file that vmcatcher 0.6 has left is taken instead of downloaded' \
    "0:  ProcessPrefix $available ProcessPostfix $requests" "$(cache) $(told) $(web_requests '^GET /pear.img')"
check_is 'and gives way to the name of the object' "$(stat -c %i "$(object pear.img)")" "$(stat -c %i "$SITE/dirs/pear")"
vmc image -r -u pear
cache >/dev/null
mv "$SITE/dirs/cache.index" "$SITE/index.lost"
echo keep >"$SITE/dirs/templates.txt"
check_is 'an index that was lost removes nothing' "0:  apple cache.index templates.txt" \
    "$(cache) $(cd "$SITE/dirs" && find . -type f -printf '%P\n' -o -type l -printf '%P\n' | grep -v / | LC_ALL=C sort | grep -v '^\.' | paste -sd' ')"
told >/dev/null
PKI_LIST_EXPIRES=$(utc '+3 seconds') taken 4 "$(entry apple 2 new.img)"
has_left() {
	cache >/dev/null && ! [ -e "$SITE/dirs/apple" ]
}
check 'L22 K01 an image leaves when its list is past its date' wait_for 10 has_left
check_like 'L22 handlers are told of it' "$gone" "$(told)"
check_is 'L22 the reason is in the store' list-expired \
    "$(ctl --json expired | grep -o 'list-expired' | sort -u)"

# ---- beside a daemon --------------------------------------------------------------------------------------

mount_up || bail "no mount: $(tail -n 3 "$LOG")"
taken 5 "$(entry apple 2 new.img)" "$(entry pear 1 pear.img)"
vmc image -a -u pear
check_is 'L25 a new list brings them back, beside a daemon, too' \
    "0:  ProcessPrefix $available $available ProcessPostfix" "$(cache) $(told)"
check_like 'beside a daemon names lead into the mount' "^$MNT/by-sha512/" "$(readlink "$SITE/dirs/apple")"
check 'what they lead to is the image' cmp "$SITE/dirs/apple" "$WWW/new.img"
vmc image -r -u pear
check_is 'what a daemon was told of is delivered in the next run' "0:  ProcessPrefix $gone ProcessPostfix" "$(cache) $(told)"
printf X | dd of="$(object new.img)" conv=notrunc status=none
check_like '--sha512 beside a daemon finds what has gone bad' "^0: ERROR:CacheMan:Image 'apple' sha512 incorrect" "$(cache -s -D)"
check 'and what it finds is mended' wait_for "$VMI_PATIENCE" cmp "$SITE/dirs/apple" "$WWW/new.img"
check 'the daemon ends' mount_down

# ---- handlers ---------------------------------------------------------------------------------------------

told >/dev/null
printf '#!/bin/sh\necho "out of order"; exit 7\n' >"$SITE/broken"
chmod 755 "$SITE/broken"
check_like 'a handler that fails is told of, and is no failure of the run' \
    "^0: .*ERROR:Events:Event 'ProcessPrefix' executed '$SITE/broken' with exit code '7'\..*INFO:Events:output=out of order" \
    "$(cache -v -x "$SITE/broken")"
check_is 'another handler than the last is told of what is there already' \
    "ProcessPrefix $available ProcessPostfix" \
    "$(cp "$handler" "$SITE/second"; : >"$SITE/second.log"; cache -x "$SITE/second" >/dev/null; event_types "$SITE/second.log")"
printf '#!/bin/sh\nenv | grep -c "^LD_PRELOAD\\|^IFS\\|^BASH_ENV" >>%s/bad; echo "$OURS" >>%s/ours\n' "$SITE" "$SITE" >"$SITE/third"
chmod 755 "$SITE/third"
(export OURS=kept BASH_ENV=/dev/null; cache -x "$SITE/third" >/dev/null)
check_is 'a handler has the environment of the caller, less what changes how programs run' \
    '0 kept' "$(sort -u "$SITE/bad") $(sort -u "$SITE/ours")"

plan_done
