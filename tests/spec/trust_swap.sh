#!/bin/bash
# time limit: 180 s
#
# The trust directory is replaced, again and again, while signatures are judged: each judgement is that of the
# one directory or of the other, never of some files of both.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root openssl jq setpriv
. "$here/../lib/mount.sh"
. "$here/../lib/tiny.sh"

tiny_up
tiny_subscribe

# Two sets, of which only one trusts alice, for a different reason in each file: the other one has another
# CA, revokes her, and its policies do not allow her name.  So any mixture is refused for another reason.
good=$SITE/good bad=$SITE/bad
cp -a "$CERTS" "$good"
pki_ca other
pki_revoke root alice && pki_crl root out="$PKI/root.crl.2" && cp "$PKI/root.crl.2" "$PKI/root.crl" || bail 'no CRL'
pki_trust "$bad" root other || bail 'no second set'
pki_signing_policy "$bad" root '/DC=org/DC=elsewhere/*'
pki_namespaces "$bad" root '/DC=org/DC=elsewhere/.*'
# More files, so that reading takes its time.
for ((i = 0; i < 40; i++)); do
	for set in "$good" "$bad"; do
		cp "$PKI/other.pem" "$set/$(printf '%08x' $((0xa0000000 + i))).0"
	done
done
chmod -R a+rX "$good" "$bad"

judge() {
	"$VMIMAGEFS_BUILD/vmimagefs-verifier" --show "$1" <"$WWW/list" 2>&1 | sed -n '1,/^$/p' | grep -v '^{' | cksum
}
of_good=$(judge "$good") of_bad=$(judge "$bad")
check 'the two sets judge differently' [ "$of_good" != "$of_bad" ]

rm -rf "$CERTS"
ln -s "$good" "$CERTS"
swap() {
	local next=$bad

	while [ ! -e "$SITE/enough" ]; do
		ln -s "$next" "$SITE/next" && mv -T "$SITE/next" "$CERTS"
		[ "$next" = "$bad" ] && next=$good || next=$bad
	done
}

judge_all() {
	local n=${VMI_LONG:+1000} i n_good=0 n_bad=0 found

	for ((i = 0; i < ${n:-150}; i++)); do
		found=$(judge "$CERTS")
		case $found in
		"$of_good")	n_good=$((n_good + 1)) ;;
		"$of_bad")	n_bad=$((n_bad + 1)) ;;
		*)	"$VMIMAGEFS_BUILD/vmimagefs-verifier" --show "$CERTS" <"$WWW/list" | head -n 5
			echo "judgement $i is neither the one nor the other"
			return 1 ;;
		esac
	done
	echo "$n_good and $n_bad"
	# Otherwise nothing was replaced while we looked.
	[ $n_good -gt 0 ] && [ $n_bad -gt 0 ]
}

swap &
swapper=$!
at_exit kill "$swapper"
check 'S40 a trust directory that is replaced meanwhile is judged by as one or the other, never as a mixture' judge_all
note "judged by the one and by the other: $(tail -n 1 <<<"$tap_said")"

# The same in refreshes: a list is accepted, or refused because its signer is revoked.
refresh_all() {
	local n=${VMI_LONG:+100} i state

	for ((i = 0; i < ${n:-15}; i++)); do
		ctl -q expire >"$SITE/said" 2>&1 || { cat "$SITE/said"; return 1; }
		state=$(ctl --json subscriptions | jq -r '.subscriptions[0] | "\(.state) \(.code)"')
		case $state in
		'ok 0'|'distrusted 11')	;;
		*)	echo "the list is '$state'"; return 1 ;;
		esac
	done
}
check 'S40 so are lists that are judged anew' refresh_all
: >"$SITE/enough"
wait "$swapper"
ln -s "$good" "$SITE/next" && mv -T "$SITE/next" "$CERTS"
check 'S40 in the end what is there counts' ctl -q expire
check_is 'S40 and the list is trusted' ok "$(ctl --json subscriptions | jq -r '.subscriptions[0].state')"

plan_done
