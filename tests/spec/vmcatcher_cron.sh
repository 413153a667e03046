#!/bin/bash
# vmcatcher's commands as a site runs them: a recorded session of vmcatcher 0.6, and a cron script.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse nginx openssl setpriv
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"
. "$here/../lib/lists.sh"
. "$here/../lib/vmcatcher.sh"
recorded=$here/../data/vmcatcher-0.6

list_id=63175437-7d59-4851-b333-c96cb6545a86
a_id=265a07dd-ba19-556e-981c-7a5d4d170896
b_id=86b1c337-4317-56f3-ab64-f758ffc8de52
dn='/DC=org/DC=example/OU=People/CN=Test endorser'
ca='/DC=org/DC=example/CN=Test Grid CA'

# ---- the publisher of the session ------------------------------------------------------------------

publisher_up() {
	WWW=$SITE/www
	mkdir -m 755 "$WWW" "$WWW/img"
	pki_init "$SITE/pki" && pki_ca grid dn="$ca" && pki_user endorser grid dn="$dn" || bail 'no PKI'
	image_file img/smalla.img && image_file img/smallb.img
	web_up "$WWW"
}

# flow_image ID NAME: the entry of an image, as in the session.
flow_image() {
	cat <<-EOT2
		{"hv:image": {
		  "dc:identifier": "$1", "dc:title": "Image $2", "dc:description": "Test image $2",
		  "hv:version": "1.0", "hv:uri": "$WEB_URL/img/$2", "hv:size": $(stat -c %s "$WWW/img/$2"),
		  "sl:checksum:sha512": "$(sha512sum <"$WWW/img/$2" | cut -d' ' -f1)",
		  "hv:format": "raw", "hv:hypervisor": "QEMU,KVM", "sl:arch": "x86_64", "sl:os": "Linux",
		  "sl:osversion": "Debian 12", "sl:comments": "No comment",
		  "ad:mpuri": "https://appdb.example.org/store/vo/image/x:1/"}}
	EOT2
}

# flow_list VERSION [ENTRY...]
flow_list() {
	local version=$1

	shift
	PKI_LIST_URI=$WEB_URL/flow.list PKI_LIST_VO=test.example.org PKI_LIST_CREATED=$(utc "${created:--1 hour}") \
	    pki_list "$SITE/flow.json" "$list_id" "$version" "$dn" "$ca" "$@" &&
	    pki_sign endorser "$SITE/flow.json" "$WWW/flow.new" && chmod 644 "$WWW/flow.new" &&
	    mv "$WWW/flow.new" "$WWW/flow.list" || bail 'no list'
}

# ---- the session -----------------------------------------------------------------------------------

# What was done without being recorded, before the Nth command.
before_command() {
	case $1 in
	1)	flow_list 1.0 "$a" "$b" ;;
	2)	vmc endorser -C -e 'Test Endorser' -S "$dn" -I "$ca" ;;
	8)	vmc image -a -u "$a_id" && vmc image -a -u "$b_id" ;;
	10)	created='-30 minutes' flow_list 1.1 "$a" ;;
	13)	created='-20 minutes' flow_list 1.0 "$a" "$b" ;;
	esac
}

# The recorded commands and what they printed; not the listings of directories between them.
recorded_session() {
	awk '/^\$ / { on = 1 } on { print } /^  \[rc=/ { on = 0 }' "$recorded/session.txt"
}

replay() {
	local n=0 line words

	while read -r line; do
		n=$((n + 1))
		before_command "$n" >&2
		printf '$ %s\n' "$line"
		line=${line//http:\/\/127.0.0.1:18480/$WEB_URL}
		line=${line//\/site\//$SITE/}
		read -ra words <<<"$line"
		vmc_said "${words[0]#vmcatcher_}" "${words[@]:1}" | sed 's/^\[rc=/  [rc=/'
	done < <(recorded_session | sed -n 's/^\$ //p') | sed "s|$WEB_URL|http://127.0.0.1:18480|g"
}

# What differs from run to run: numbers of the session, our extra variable, bytes, times.
comparable() {
	sed -E 's|http://[a-z0-9.]*:[0-9]+/|URL/|; s/(HV_SIZE=).*/\1SIZE/; s/(SHA512=).*/\1SHA512/
	    s/(FILENAME=.*\.)[0-9]{4}(-[0-9]{2}){2}_[0-9]{2}(-[0-9]{2}){2}$/\1TIME/
	    /^VMCATCHER_EVENT_UUID=/d' "$1" |
	    awk '/^VMCATCHER_EVENT_UUID_SESSION=/ { if (!($0 in seen)) seen[$0] = ++n; print "SESSION " seen[$0]; next } { print }'
}

session_site() {
	site_up fetch_parallel=1
	pki_trust "$CERTS" grid
	cache_dirs "$SITE/cachedir"
	export VMCATCHER_DIR_CERT=$CERTS
	event_writer "$SITE/ev.sh"
}

# Names and sizes; an index has none that could be compared.
listing() {
	(cd "$SITE/cachedir" && find . -name templates -prune -o -name '.?*' -prune -o ! -type d -printf '%P\n') |
	    sed -E 's/[0-9]{4}(-[0-9]{2}){2}_[0-9]{2}(-[0-9]{2}){2}$/TIME/' | LC_ALL=C sort | paste -sd' '
}

site_up
publisher_up
a=$(flow_image "$a_id" smalla.img)
b=$(flow_image "$b_id" smallb.img)
publisher=$SITE
for kind in 'without a daemon' 'beside a daemon'; do
	session_site
	[ "$kind" = 'without a daemon' ] || { ctl -q expire; mount_up || bail "no mount: $(tail -n 3 "$LOG")"; }
	check_is "the recorded session has the same output $kind" \
	    '' "$(diff <(recorded_session) <(replay 2>"$SITE/hooks") 2>&1)"
	check_is "what was not recorded succeeds $kind" '' "$(<"$SITE/hooks")"
	check_is "the handlers of the session get the same variables in the same order $kind" \
	    '' "$(diff <(comparable "$recorded/events.log") <(comparable "$SITE/ev.sh.log") 2>&1)"
	check_is "each event has a uuid of its own $kind" \
	    "$(grep -c '^===' "$SITE/ev.sh.log")" \
	    "$(grep '^VMCATCHER_EVENT_UUID=' "$SITE/ev.sh.log" | sort -u | wc -l)"
	check_is "the directories hold the same names $kind" \
	    "$a_id cache.index expired/$b_id.TIME expired/cache.index partial/cache.index" "$(listing)"
	check "the file in the cache is the image $kind" cmp "$SITE/cachedir/$a_id" "$WWW/img/smalla.img"
	check "an expired file can still be read $kind" \
	    cmp "$(echo "$SITE/cachedir/expired/$b_id".*)" "$WWW/img/smallb.img"
	check_is "handlers find the file where vmcatcher had it $kind" \
	    'AvailablePrefix download AvailablePostfix cache AvailablePrefix download AvailablePostfix cache ExpirePrefix cache ExpirePostfix expire' \
	    "$(awk '$1 " " $2 != "AvailablePrefix cache" { print $1, $2 }' "$SITE/ev.sh.found" | paste -sd' ')"
done

# ---- a cron script ---------------------------------------------------------------------------------

# What sites of the EGI federation ran every few hours, with a database that is not there yet.
cron_script() {
	cat <<-EOT2
		#!/bin/bash
		export PATH="$VMIMAGEFS_BUILD:\$PATH" VMIMAGEFS_LIBEXECDIR="$VMIMAGEFS_BUILD"
		export VMCATCHER_RDBMS="sqlite:///$home/vmcatcher.db"
		export VMCATCHER_CACHE_DIR_CACHE="$home/cache"
		export VMCATCHER_CACHE_DIR_DOWNLOAD="$home/cache/partial"
		export VMCATCHER_CACHE_DIR_EXPIRE="$home/cache/expired"
		export VMCATCHER_CACHE_EVENT="$home/handler"
		export VMCATCHER_DIR_CERT="$CERTS"
		vmcatcher_subscribe -U
		for a in \$(vmcatcher_image -l | awk '{if (\$2==2) print \$1}'); do
			vmcatcher_image -a -u \$a
		done
		vmcatcher_cache -v -v
	EOT2
}

as_user() {
	setpriv --reuid="$user" --regid="$group" --clear-groups \
	    env -i PATH="$VMIMAGEFS_BUILD:$PATH" VMIMAGEFS_LIBEXECDIR="$VMIMAGEFS_BUILD" \
	    VMCATCHER_RDBMS="sqlite:///$home/vmcatcher.db" VMCATCHER_DIR_CERT="$CERTS" "$@"
}

# As root would be `user` of the site, where that makes no difference to the owner of a directory.
cron_home() {
	home=$SITE/$1 user=$2 group=$3
	mkdir -p "$home/cache/partial" "$home/cache/expired"
	event_writer "$home/handler"
	chown -R nobody:nogroup "$home"
	cron_script >"$home/cron"
	chmod 755 "$home/cron"
	flow_list 1.0 "$a"
	as_user vmcatcher_endorser -C -e 'Test Endorser' -S "$dn" -I "$ca" &&
	    as_user vmcatcher_subscribe -s "$WEB_URL/flow.list" --imagelist-newimage-accept ||
	    bail 'no subscription'
	echo 'cache_min_free = 0%' >>"$home/vmcatcher.db.vmimagefs/vmimagefs.conf"
}

cron() {
	cron_status=0
	cron_said=$(as_user "$home/cron" 2>&1) || cron_status=$?
}

types() {
	event_types "$home/handler.log"
	: >"$home/handler.log"
}

check_cron() {
	local available='ProcessPrefix AvailablePrefix AvailablePostfix ProcessPostfix'

	cron
	check_is "the cron script takes what is available $1" "0 $available" "$cron_status $(types)"
	check_like "the cron script says what it does $1" 'INFO:CacheMan:moved file' "$cron_said"
	check "the image is in the cache that the script names $1" cmp "$home/cache/$a_id" "$WWW/img/smalla.img"
	cron
	check_is "the cron script does nothing the second time $1" '0 ProcessPrefix ProcessPostfix' "$cron_status $(types)"
	created='-50 minutes' flow_list 1.1 "$b"
	cron
	check_is "the cron script takes what is new and lets go what has left the list $1" \
	    '0 ProcessPrefix ExpirePrefix ExpirePostfix AvailablePrefix AvailablePostfix ProcessPostfix' \
	    "$cron_status $(types)"
	check_is "vmcatcher_image -l shows what is there and what has left $1" \
	    "$a_id 1|$b_id 3" "$(as_user vmcatcher_image -l | awk '{ print $1, $2 }' | LC_ALL=C sort | paste -sd'|')"
}

site_use "$publisher"
pki_trust "$CERTS" grid
cron_home plain nobody nogroup
check_cron 'as an ordinary user'
check_is 'all of the store lies beside the database and belongs to its user' '' \
    "$(find "$home" ! -user nobody ! -name cron)"
cron_home root root root
check_cron 'as root'
check_is 'what root makes belongs to the owner of the directory of the database' '' \
    "$(find "$home" ! -user nobody ! -name '*.log' ! -name '*.found' ! -name cron)"
cron_home mounted nobody nogroup
CONF=$home/vmcatcher.db.vmimagefs/vmimagefs.conf MNT=$home/vmcatcher.db.vmimagefs/mnt
printf 'log = stderr\nread_timeout = 60s\n' >>"$CONF"
at_exit eval "CONF=$CONF MNT=$MNT; mount_kill"
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
check_cron 'beside a daemon'
check_like 'what the cache holds leads into the mount' "^$MNT/by-sha512/" "$(readlink "$home/cache/$b_id")"
check 'the daemon ends' mount_down

plan_done
