#!/bin/bash
# time limit: 180 s
#
# As failing_calls.sh: the commands that are needed more seldom, and those of vmcatcher.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root openssl jq setpriv sqlite3
. "$here/../lib/mount.sh"
. "$here/../lib/tiny.sh"
. "$here/../lib/vmcatcher.sh"
. "$here/../lib/olddb.sh"
. "$here/../lib/sweep.sh"

tiny_up
sweep_up
sweep_faults=("${sweep_files[@]}" "${sweep_quiet[@]}" "${sweep_host[@]}" "${sweep_sqlite[@]}")

swept_ctl() {
	local name=$1 title=$2

	shift 2
	[[ -z ${VMI_SWEEP_ONLY:-} || " $VMI_SWEEP_ONLY " == *" $name "* ]] || return 0
	swept "P13 B08 B34 $title" vmimagectl -c "$CONF" -q "$@"
}

swept_vmc() {
	local name=$1 title=$2

	shift 2
	[[ -z ${VMI_SWEEP_ONLY:-} || " $VMI_SWEEP_ONLY " == *" $name "* ]] || return 0
	export VMIMAGEFS_CONFIG=$CONF VMCATCHER_RDBMS=sqlite:///$SITE/state/catalogue.db
	swept "P13 B08 B34 $title" "$@"
	unset VMIMAGEFS_CONFIG VMCATCHER_RDBMS
}

# ---- vmcatcher's names ----------------------------------------------------------------------------

swept_vmc vmc_endorser 'vmcatcher_endorser registers or does not' vmcatcher_endorser -C -e alice \
    -S "$(pki_dn alice)" -I "$(pki_issuer alice)"
vmc endorser -C -e alice -S "$(pki_dn alice)" -I "$(pki_issuer alice)" || bail 'no endorser'
# The subscription, then its list.
sweep_options=(-w)
swept_vmc vmc_subscribe 'vmcatcher_subscribe subscribes or does not' vmcatcher_subscribe -s "file://$WWW/list" \
    --imagelist-newimage-accept
sweep_options=()
vmc subscribe -s "file://$WWW/list" --imagelist-newimage-accept || bail 'no subscription'
swept_vmc vmc_update 'vmcatcher_subscribe -U takes a list or does not' vmcatcher_subscribe -U
vmc subscribe -U || bail 'no update'
swept_vmc vmc_image 'vmcatcher_image selects or does not' vmcatcher_image -a -u one
vmc image -a -u one || bail 'no image'
cache_dirs "$SITE/vmcatcher"
# Every image is a step, and so is what is put into the directories.
sweep_options=(-w)
swept_vmc vmc_cache 'vmcatcher_cache fetches, or does so the next time' vmcatcher_cache
sweep_options=()
vmc cache || bail 'no cache'

# ---- vmimagectl -------------------------------------------------------------------------------------

ctl -q endorser link alice tiny 2>/dev/null
swept_ctl pin 'an image is pinned or not' pin one
swept_ctl init 'a cache is given to this catalogue or not' config init-cache --force
swept_ctl digest 'a sidecar is written or not' digest "$WWW/one" -o "$SITE/sidecar"
tiny_save good

object=$(tiny_object one)
printf 'x' | dd of="$object" bs=1 seek=5000 conv=notrunc status=none
# The bytes, then the row; and what could not be read is in quarantine as a whole.  In the end no row says
# that anything is bad, and whoever was told that it was is told that it is not.
ask() {
	sqlite3 "$SITE/state/catalogue.db" "$1"
}
harm() {
	ask "SELECT (SELECT max(degraded + corrupt) FROM object) || ' ' || group_concat(type, ' ')
	    FROM (SELECT type FROM event WHERE type LIKE 'Corrupt%' OR type = 'AvailablePostfix' ORDER BY id)"
}
{
	declare -p SITE
	declare -f ask harm
	echo '[[ $(harm) =~ ^0\ .*CorruptFound.*(Healed|Postfix)$ ]]'
} >"$SITE/no-harm"
all_is_well=$sweep_check
sweep_check="bash '$SITE/no-harm' && $sweep_check"
sweep_options=(-w -x -e 1)
swept_ctl fix 'what was found bad is mended, if not now, then the next time' verify --fix one
sweep_options=()
sweep_check=$all_is_well

# As one of those runs left it.
ctl -q verify --fix one
before=$(harm)
ask "UPDATE object SET corrupt = 1, degraded = 1, code = 60, error = 'a test' WHERE state = 'verified'"
check 'A16 B34 what was mended when no row could say so is good to the next look' ctl -q verify --fix one
check_is 'A16 B34 and its row says so, and an event' "0 ${before#* } CorruptHealed" "$(harm)"
check_is 'A16 B34 once' "0 0 ${before#* } CorruptHealed" "$(ctl -q verify --fix one >&2; echo "$?") $(harm)"
tiny_load good

pki_revoke root alice && pki_crl root && pki_trust_crl "$CERTS" root || bail 'no CRL'
# A verifier that cannot work says nothing of the list.
tiny_save revoked
printf '%s ' "LD_PRELOAD=$SHIM_SO" SHIM_FAIL=read:1+:EIO SHIM_PROGRAM=vmimagefs-verifier "SHIM_SKIP=$CERTS" SHIM_COUNT= >"$SITE/faults"
check_status 'P13 S10 a verifier that cannot read the message is no verdict' 5 ctl -q expire --recheck
: >"$SITE/faults"
check 'P13 S10 and is asked again, though the CRLs are those of then' ctl -q expire --recheck
check_like 'P13 S10 so that a revoked signer is found' '^tiny +distrusted' "$(ctl subscriptions)"
tiny_load revoked
swept_ctl revoked 'a list whose signer is revoked is withdrawn, or found anew' expire

# ---- taking over a site of vmcatcher's ----------------------------------------------------------------

tiny_up
sweep_up
olddb_new "$SITE/old.db"
olddb_endorser alice "$(pki_dn alice)" "$(pki_issuer alice)"
olddb_list tiny "file://$WWW/list" "$WWW/list"
olddb_link alice tiny
olddb_image tiny one 1
chmod 644 "$SITE/old.db"
sweep_options=(-w)
swept_ctl import 'a site of vmcatcher is taken over, or the rest of it the next time' import-vmcatcher "$SITE/old.db"

plan_done
