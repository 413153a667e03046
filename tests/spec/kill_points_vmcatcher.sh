#!/bin/bash
# time limit: 600 s
#
# Commands by vmcatcher's names are killed at each call that changes anything on disk; their event handlers
# are told of everything, in order and at least once (lib/kill.sh).

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root openssl jq setpriv sqlite3
. "$here/../lib/mount.sh"
. "$here/../lib/tiny.sh"
. "$here/../lib/olddb.sh"
. "$here/../lib/vmcatcher.sh"

tiny_up
. "$here/../lib/kill.sh"

# vmc_scenario NAME HOW COMMAND ARG...: of vmcatcher_COMMAND; $home: the site's configuration, if $CONF is not
vmc_scenario() {
	local name=$1 how=$2 program=$VMIMAGEFS_BUILD/vmcatcher_$3

	shift 3
	kill_scenario_of "$name" "$how" env VMIMAGEFS_CONFIG="${home:-$CONF}" \
	    VMCATCHER_RDBMS="sqlite:///${OLD:-$SITE/state/catalogue.db}" "$program" "$@"
}

# ---- endorsers, subscriptions, images ------------------------------------------------------------------

vmc_scenario begin atomic endorser -C -e Alice -S "$(pki_dn alice)" -I "$(pki_issuer alice)"
vmc_scenario subscribe atomic subscribe -s "file://$WWW/list" --imagelist-newimage-accept
vmc subscribe -U || bail 'no update'
vmc_scenario unlink atomic endorser -u -e Alice -s tiny
vmc_scenario link steps endorser -k -e Alice -s tiny
vmc_scenario add atomic image -a -u one
vmc_scenario remove atomic image -r -u one
vmc image -a -u one -u two || bail 'nothing is selected'

# ---- the cache, with an event handler --------------------------------------------------------------------

# handler: what it was told, one event a line: "TYPE ID UUID".
mkdir -m 755 "$SITE/told"
cat >"$SITE/handler" <<-EOT
	#!/bin/sh
	echo "\$VMCATCHER_EVENT_TYPE \${VMCATCHER_EVENT_DC_IDENTIFIER:--} \$VMCATCHER_EVENT_UUID" >>$SITE/told/log
EOT
chmod 755 "$SITE/handler"
cache_dirs "$SITE/dirs"
tiny_dirs+=(dirs told)
kill_roots+=(--root "$SITE/dirs")
export VMCATCHER_CACHE_EVENT=$SITE/handler
vmc cache >/dev/null 2>&1 || bail 'no cache'
rm -rf "${SITE:?}/dirs" "$SITE/told/log"
cache_dirs "$SITE/dirs"
for what in one two; do
	ctl -q evict $what
done
# From here on everything that happens is told: the handler is known.
ctl --json events | jq -r '.events[].uuid' | sort >"$SITE/earlier"

# Who made an entry is noted with its inode, and a site that is put back has others.  A note that is to come
# next is of a new file, which has its name already or is still being made; then the one before is of no file.
tiny_loaded() {
	local note entry was made

	for note in "$SITE"/dirs/{,partial/,expired/}.vmimagefs/*; do
		[ -L "$note" ] || continue
		made=$(compgen -G "${note%/*}/~new.*" | head -n 1)
		entry=${note/.vmimagefs\/}
		if [[ $note = *\~next ]]; then
			entry=${made:-${entry%\~next}}
		elif [ -L "$note~next" ] && [ -z "$made" ]; then
			continue
		fi
		[ -e "$entry" ] || [ -L "$entry" ] || continue
		was=$(readlink "$note")
		ln -sfn "${was%%:*}:$(printf %x "$(stat -c %i "$entry")"):${was#*:*:}" "$note"
		chown -h nobody:nogroup "$note"
	done
}

# Each event that is not of a session was told, nothing else was, and in the order of each image.
events_told() {
	local id

	ctl --json events | jq -r '.events[] | select(.type | startswith("Process") | not) | "\(.identifier) \(.uuid)"' |
	    grep -vFf "$SITE/earlier" >"$SITE/events"
	awk '$1 !~ /^Process/ && !seen[$3]++ { print $2, $3 }' "$SITE/told/log" >"$SITE/told.once"
	for id in one two; do
		diff <(grep "^$id " "$SITE/events") <(grep "^$id " "$SITE/told.once") >"$SITE/told.wrong" ||
		    echo "of $id was told: $(<"$SITE/told.wrong")"
	done
	[ "$(wc -l <"$SITE/events")" = "$(wc -l <"$SITE/told.once")" ] || echo 'something else was told'
}

# What event handlers find.
entries_right() {
	local pair

	for pair; do
		cmp "$SITE/dirs/${pair%%=*}" "$WWW/${pair#*=}" 2>&1
	done
	jq -e . "$SITE/dirs/cache.index" >/dev/null || echo 'cache.index is no JSON'
}

check_handlers() {
	events_told
	entries_right "$@"
}

vmc_scenario download steps cache
kill_also download check_handlers one=one two=two
tiny_file one-2
tiny_list 2 one:2:one-2 two
vmc_scenario update atomic subscribe -U
vmc_scenario replace steps cache
kill_also replace check_handlers one=one-2 two=two
vmc image -r -u two
vmc_scenario expire steps cache -E
kill_also expire check_handlers one=one-2
printf 'rot' | dd of="$(tiny_object one-2)" bs=1 seek=4711 conv=notrunc status=none
vmc_scenario sha512 steps cache -s
kill_accept sha512 '^quarantine/'
kill_ignore sha512 'select(.events == null)'
tiny_load replace
vmc_scenario unsubscribe atomic subscribe -D -u tiny
tiny_load replace
vmc_scenario delete atomic endorser -D -e Alice
unset VMCATCHER_CACHE_EVENT

# ---- taking over -----------------------------------------------------------------------------------------

tiny_load begin
tiny_list 1 one two three
mkdir -m 755 "$SITE/old"
olddb_new "$SITE/old/vmcatcher.db"
olddb_endorser alice "$(pki_dn alice)" "$(pki_issuer alice)"
olddb_list tiny "file://$WWW/list" "$WWW/list"
olddb_link alice tiny
olddb_image tiny one 1
olddb_image tiny two 0
mkdir -m 755 "$SITE/old/cache"
cp "$WWW/one" "$SITE/old/cache/one"
rm -rf "$SITE/state" "$SITE/cache" "$SITE/run"
tiny_dirs=(state cache run www/list)
kill_scenario import steps import-vmcatcher "$SITE/old/vmcatcher.db" --cache "$SITE/old/cache"
# A file that was taken in and not noted gives way to the same one.
kill_accept import '^quarantine/'

tiny_dirs+=(old)
kill_roots+=(--root "$SITE/old")
home=$CONF
OLD=$SITE/old/vmcatcher.db
adopted_end() {
	CONF=$OLD.vmimagefs/vmimagefs.conf MNT=$OLD.vmimagefs/mnt mount_kill
}
at_exit adopted_end
CONF=$OLD.vmimagefs/vmimagefs.conf vmc_scenario adopt steps image -l
kill_refuses adopt 'no such configuration file'
CONF=$home

# ---- all of them -----------------------------------------------------------------------------------------

# A new site is begun in the same way by vmimagectl (kill_points).
kill_known begin
kill_new_every=2
kill_run begin 'P01 vmcatcher_endorser -C registers an endorser or does not'
kill_run subscribe 'P01 vmcatcher_subscribe -s subscribes or does not'
kill_run unlink 'P01 vmcatcher_endorser -u unlinks or does not'
kill_run link 'P01 vmcatcher_endorser -k links or does not'
kill_run add 'P01 vmcatcher_image -a selects or does not'
kill_run remove 'P01 vmcatcher_image -r deselects or does not'
export VMCATCHER_CACHE_EVENT=$SITE/handler
kill_run download 'P01 vmcatcher_cache downloads, and its handler is told of all of it in order'
kill_run update 'P01 vmcatcher_subscribe -U takes a new list or does not'
kill_run replace 'P01 vmcatcher_cache replaces an image, and its handler is told in order'
kill_run expire 'P01 vmcatcher_cache -E expires, and its handler is told in order'
kill_run sha512 'P01 vmcatcher_cache -s finds a damaged image, whenever it is interrupted'
unset VMCATCHER_CACHE_EVENT
kill_run unsubscribe 'P01 vmcatcher_subscribe -D ends a subscription or does not'
kill_run delete 'P01 vmcatcher_endorser -D deletes an endorser or does not'
kill_run import 'P01 A13 the import of a vmcatcher site is finished by the next one'
# As the import, in other directories.
kill_new_every=6
kill_run adopt 'P01 A13 taking over an old database is finished by the next command'
kill_total

plan_done
