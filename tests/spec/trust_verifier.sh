#!/bin/bash
# What the verifier says of messages, good and bad: rows S01-S34 and S39 of the fault catalogue that
# one message and one trust directory can show.
#
# Run with VMIMAGEFS_VERIFIER=path/of/vmimagefs-verifier.  Writes TAP.

set -u
here=$(cd "$(dirname "$0")" && pwd)
samples=$here/../data/samples
verifier=${VMIMAGEFS_VERIFIER:?name the verifier in VMIMAGEFS_VERIFIER}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
. "$here/../lib/pki.sh"

n=0
failed=0

# report RESULT TITLE
report() {
	n=$((n + 1))
	if [ "$1" = 0 ]; then
		echo "ok $n - $2"
	else
		failed=$((failed + 1))
		echo "not ok $n - $2"
		sed 's/^/# /' "$work/said" "$work/stderr" | cut -c1-300 | head -n 14
	fi
}

# The verdict on a message: $work/said, and $code (0 for accepted).  A crash is code "none".
verdict() {
	: >"$work/said"
	"$verifier" --show "${2:-$trust}" <"$1" >"$work/said" 2>"$work/stderr"
	case $(head -n 1 "$work/said") in
	'verdict: accepted') code=0 ;;
	'verdict: refused') code=$(sed -n 's/^code: //p' "$work/said" | head -n 1) ;;
	*) code=none ;;
	esac
}

said() {
	sed '/^$/q' "$work/said" | grep -Eq -- "$1"
}

# expect CODE PATTERN MESSAGE TITLE [TRUSTDIR]: PATTERN is found in the verdict's head.  A refusal
# must not show a byte of the text.
expect() {
	local result=0

	verdict "$3" "${5:-$trust}"
	[ "$code" = "$1" ] && said "$2" || result=1
	[ "$code" = 0 ] || [ -z "$(sed '1,/^$/d' "$work/said")" ] || result=1
	report $result "$4"
}

# as_expected CODE PATTERN MESSAGE [TRUSTDIR]: the same as a condition, for rows with several steps.
as_expected() {
	verdict "$3" "${4:-$trust}"
	[ "$code" = "$1" ] && said "$2"
}

# compose TEXT DER OUT: a clear-signed message from a text and a signature of any kind.
compose() {
	{
		printf 'MIME-Version: 1.0\nContent-Type: multipart/signed;'
		printf ' protocol="application/x-pkcs7-signature"; micalg="sha-256"; boundary="----B"\n\n'
		printf 'This is an S/MIME signed message\n\n------B\n'
		cat "$1"
		printf '\n------B\nContent-Type: application/x-pkcs7-signature; name="smime.p7s"\n'
		printf 'Content-Transfer-Encoding: base64\n\n'
		base64 "$2"
		printf '\n------B--\n\n'
	} >"$3"
}

# compose_opaque DER OUT [TYPE]
compose_opaque() {
	{
		printf 'MIME-Version: 1.0\nContent-Type: application/x-pkcs7-mime; smime-type=%s\n' \
		    "${3:-signed-data}"
		printf 'Content-Transfer-Encoding: base64\n\n'
		base64 "$1"
		printf '\n'
	} >"$2"
}

# fresh_trust DIR CA...: a trust directory of its own for rows that change one.
fresh_trust() {
	rm -rf "$1"
	pki_trust "$@"
}

# ---- the PKI ----------------------------------------------------------------------------------

trust=$work/trust
pki_init "$work/pki"
pki_ca root && pki_ca sub by=root && pki_user alice sub && pki_ca rogue && pki_user mallory rogue &&
    pki_trust "$trust" root sub || exit 1
root_hash=$(pki_hash root)
sub_hash=$(pki_hash sub)
pki_list "$work/list.json" 11111111-2222 1.0 "$(pki_dn alice)" "$(pki_issuer alice)" \
    "$(pki_image one One 1.0 https://localhost/one.img 5 abcd)"
pki_list "$work/other.json" 99999999-9999 1.0 "$(pki_dn alice)" "$(pki_issuer alice)"
text=$work/list.json
good=$work/good.list
pki_sign alice "$text" "$good" && pki_sign alice "$work/other.json" "$work/other.list" || exit 1
message=$work/message

expect 0 'subject: /DC=org/DC=example/OU=People/CN=alice$' "$good" \
    'a clear-signed list of a user of a trusted CA is accepted, and its signer named'

# ---- messages -----------------------------------------------------------------------------------

expect 11 'not signed' "$text" 'S01 an unsigned list is refused'

pki_sign alice "$text" "$message" opaque
verdict "$good"; tail -n +12 "$work/said" >"$work/clear.txt"
as_expected 0 accepted "$message" && tail -n +12 "$work/said" | cmp -s - "$work/clear.txt"
report $? 'S02 an opaque S/MIME message is accepted and has the same text'
openssl cms -sign -nodetach -in "$text" -signer "$PKI/alice.pem" -inkey "$PKI/alice.key" \
    -outform DER -out "$work/der" && openssl cms -sign -nodetach -in "$text" -signer "$PKI/alice.pem" \
    -inkey "$PKI/alice.key" -outform PEM -out "$work/pem"
as_expected 11 'not S/MIME' "$work/der" && as_expected 11 'not S/MIME' "$work/pem"
report $? 'S02 DER and PEM messages are refused'

result=0
for where in '1,/hv:imagelist/s/hv:imagelist/hv:imagelisT/' 's/Test list/Test lisT/' \
    's/"sl:comments": "none"/"sl:comments": "nonE"/' 's/a test list",/a test list", /' \
    's/"hv:images": \[$/"hv:images": [ /'; do
	sed "$where" "$good" >"$message"
	cmp -s "$good" "$message" && result=1
	as_expected 11 'changed after it was signed' "$message" || result=1
	grep -q hv: "$work/said" && result=1
done
report $result 'S03 a text changed at its beginning, middle or end, or by a blank, is refused and not shown'

size=$(stat -c %s "$good")
start=$(grep -abo 'smime.p7s' "$good" | head -n 1 | cut -d: -f1)
result=0
for i in 0 1 2 3 4 5 6 7 8 9; do
	head -c $((start + 40 + (size - start - 120) * i / 10)) "$good" >"$message"
	as_expected 11 . "$message" || result=1
done
report $result 'S04 a signature cut at ten points is refused'
sed 's/^MII/@!!/' "$good" >"$message"
expect 11 'cut or damaged' "$message" 'S04 a signature that is not base64 is refused'
{ sed '/pkcs7-signature; name/,$d' "$good"; sed -n '/pkcs7-signature; name/,$p' "$work/other.list"; } |
    sed "s/^------[0-9A-F]*/------B/; s/boundary=\"[^\"]*\"/boundary=\"----B\"/" >"$message"
expect 11 'changed after it was signed' "$message" "S04 another list's signature is refused"

openssl crl2pkcs7 -nocrl -certfile "$PKI/alice.pem" -outform DER -out "$work/certs.der"
compose "$text" "$work/certs.der" "$message"
compose_opaque "$work/certs.der" "$work/message2" certs-only
as_expected 11 'nobody signed' "$message" && as_expected 11 'nobody signed' "$work/message2"
report $? 'S05 certificates without a signature are refused'

pki_sign alice "$text" "$message" lf -nocerts
expect 11 "certificate is not in the message" "$message" \
    "S06 a message without the signer's certificate is refused with that reason"

pki_user bob sub
pki_sign alice "$text" "$message" lf -signer "$PKI/bob.pem" -inkey "$PKI/bob.key"
expect 11 '2 signatures' "$message" 'a message with two signers is refused'

# ---- certificates -------------------------------------------------------------------------------

pki_sign mallory "$text" "$message"
expect 11 "CA '/DC=org/DC=example/CN=rogue'.* is not in the trust directory" "$message" \
    'S07 a signer of a CA that is not in the trust directory is refused, naming the issuer'

pki_user old sub from='-10 days' to='-1 day' && pki_sign old "$text" "$message" lf
expect 11 "expired: it is valid from $(date -u -d '-10 days' +%Y-%m-%d).* to $(date -u -d '-1 day' +%Y-%m-%d)" \
    "$message" 'S08 an expired certificate is refused with its dates'
pki_user young sub from='+1 day' to='+10 days' && pki_sign young "$text" "$message"
expect 11 "not yet valid: it is valid from $(date -u -d '+1 day' +%Y-%m-%d)" "$message" \
    'S09 a certificate that is not yet valid is refused with its dates'

pki_user carol sub && pki_revoke sub carol && pki_crl sub && pki_sign carol "$text" "$work/carol.list"
t=$work/t
fresh_trust "$t" root sub
as_expected 11 "CN=carol' is revoked" "$work/carol.list" "$t" && said '^revoked: yes'
report $? 'S10 a revoked signer is refused, and said to be revoked'
expect 0 'revoked: no' "$good" 'S10 a revocation concerns its certificate alone' "$t"

# ---- CRLs -----------------------------------------------------------------------------------------

fresh_trust "$t" root sub && rm "$t/$sub_hash.r0"
as_expected 50 "CN=sub' in the trust directory: there is no file '$sub_hash.r0'" "$good" "$t" &&
    fresh_trust "$t" root sub && rm "$t/$root_hash.r0" &&
    as_expected 50 "CN=root' in the trust directory: there is no file '$root_hash.r0'" "$good" "$t"
report $? 'S11 a missing CRL of the issuing CA or of the root refuses the list, naming the file'

fresh_trust "$t" root sub && pki_crl sub from='-10 days' to='-1 day' && pki_trust_crl "$t" sub
expect 50 "CN=sub' expired on $(date -u -d '-1 day' +%Y-%m-%d)" "$good" \
    'S12 an expired CRL refuses the list, with its date' "$t"
as_expected 11 'revoked' "$work/carol.list" "$t" && said '^revoked: yes'
report $? 'S12 an expired CRL still revokes what it lists'
pki_crl sub from='+1 day' to='+10 days' && pki_trust_crl "$t" sub
expect 50 "CN=sub' is not valid before $(date -u -d '+1 day' +%Y-%m-%d)" "$good" \
    'S13 a CRL of the future refuses the list, with its date' "$t"

pki_crl sub && cp "$PKI/sub.crl" "$work/sub.good.crl"
fresh_trust "$t" root sub && pki_revoke sub alice && pki_crl sub as=rogue && pki_trust_crl "$t" sub
as_expected 50 "'$sub_hash.r0': it is not signed by that CA" "$good" "$t" && said '^revoked: no'
report $? 'S14 a forged CRL is no CRL, and cannot revoke'
as_expected 50 'not signed by that CA' "$work/carol.list" "$t"
report $? 'S14 a forged CRL cannot clear: nothing is accepted beside it'
cp "$work/sub.good.crl" "$t/$sub_hash.r1"
as_expected 0 accepted "$good" "$t" && as_expected 11 revoked "$work/carol.list" "$t"
report $? 'S14 a genuine CRL counts beside a forged one (.r0 and .r1)'
# alice is revoked only in the forged one; take it back for the rows that follow.
sed -i '/CN=alice$/s/^R\t\([^\t]*\)\t[^\t]*\t/V\t\1\t\t/' "$PKI/sub.ca/index.txt" && pki_crl sub

pki_ca rsa key=rsa2048 && pki_user ruth rsa key=rsa2048 && pki_sign ruth "$text" "$work/ruth.list" &&
    pki_crl rsa md=md5 && fresh_trust "$t" rsa
expect 50 'broken digest' "$work/ruth.list" 'S14 a CRL signed with MD5 is no CRL' "$t"
pki_crl rsa && pki_trust "$trust" rsa

pki_ca sub2 by=root && pki_user dave sub2 && pki_sign dave "$text" "$work/dave.list" &&
    pki_revoke root sub2 && pki_crl root && fresh_trust "$t" root sub2
as_expected 11 "CN=sub2' is revoked" "$work/dave.list" "$t" && said '^revoked: yes'
report $? 'S15 a revoked intermediate CA refuses its users'

# ---- chains ---------------------------------------------------------------------------------------

pki_sign alice "$text" "$message" lf -certfile "$PKI/sub.pem"
fresh_trust "$t" root
expect 11 "CN=sub'.*copy inside the message does not count.*install" "$message" \
    'S16 an intermediate CA that only the message brings does not count; installing it is suggested' "$t"

pki_ca notca by=root basic=critical,CA:FALSE && pki_user erin notca && pki_sign erin "$text" "$message" &&
    fresh_trust "$t" root notca
expect 11 'CN=notca. is refused: invalid CA' "$message" 'S17 an issuer that is not marked as a CA is refused' "$t"

pki_ca short basic=critical,CA:TRUE,pathlen:0 && pki_ca below by=short && pki_user frank below &&
    pki_sign frank "$text" "$message" && fresh_trust "$t" short below
expect 11 'path length' "$message" 'S18 a chain longer than pathLen is refused' "$t"

by=root
cas=root
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
	pki_ca "c$i" by=$by
	by=c$i
	cas="$cas c$i"
done
# shellcheck disable=SC2086
fresh_trust "$t" $cas
pki_user deep c11 && pki_user deeper c12 && pki_sign deep "$text" "$work/deep" &&
    pki_sign deeper "$text" "$work/deeper"
as_expected 0 accepted "$work/deep" "$t" && as_expected 11 'more than 12|too long' "$work/deeper" "$t"
report $? 'S18 a chain of twelve CAs is accepted, one of thirteen refused'

# ---- policy files -----------------------------------------------------------------------------------

fresh_trust "$t" root sub && pki_signing_policy "$t" sub '/DC=org/DC=other/*' '/C=NL/*'
expect 51 "sub.signing_policy' lets CA .*CN=sub' sign" "$good" \
    'S19 a subject outside cond_subjects is refused, naming file and rule' "$t"
fresh_trust "$t" root sub && pki_signing_policy "$t" root '/DC=org/DC=other/*'
expect 51 "CN=sub' is outside" "$good" "S19 an intermediate CA is held to the root's policy" "$t"

# Each defect makes the CA unusable and leaves the other one alone.
pki_ca fine && pki_user grace fine && pki_sign grace "$text" "$work/grace.list"
policy=$t/sub.signing_policy
head="access_id_CA X509 '/DC=org/DC=example/CN=sub'"
rights='pos_rights globus CA:sign'
defect() {
	as_expected 51 "$sub_hash.signing_policy|sub.signing_policy" "$good" "$t" && as_expected 0 accepted "$work/grace.list" "$t"
	report $? "S20 a .signing_policy $1 makes its CA unusable, and only that one"
	fresh_trust "$t" root sub fine
}
fresh_trust "$t" root sub fine
: >"$policy"; defect 'that is empty'
rm "$policy" "$t/$sub_hash.signing_policy"; mkdir "$t/$sub_hash.signing_policy"; defect 'that is a directory'
truncate -s 10M "$policy"; defect 'of 10 MB'
printf '%s\n%s\ncond_subjects globus '"'"'"/DC=org/*"\n' "$head" "$rights" >"$policy"; defect 'with unbalanced quotes'
printf '%s\n%s\ncond_subjects globus '"'"'"/DC=org/*'"'"'\n' "$head" "$rights" >"$policy"; defect 'with unbalanced inner quotes'
printf '%s\n%s\ncond_subjects globus "/DC=org/(.*"\n' "$head" "$rights" >"$policy"; defect 'with "(.*", which is no wildcard,'
printf '%s\n%s\ncond_subjects globus "/DC=org/["\n' "$head" "$rights" >"$policy"; defect 'with "[", which is no wildcard,'
printf '%s\n%s\ncond_subjects globus "/DC=...........*"\n' "$head" "$rights" >"$policy"; defect 'with ".", which is no wildcard,'
printf '%s\n%s\ncond_subjects globus "/DC=org/*"\n\0' "$head" "$rights" >"$policy"; defect 'with a NUL byte'
printf '%s\ncond_subjects globus "/DC=org/*"\n' "$head" >"$policy"; defect 'without CA:sign'
printf '%s\n%s\ncond_subjects globus "/DC=org/*"' "$head" "$rights" >"$policy"
expect 0 accepted "$good" 'S20 a .signing_policy without a newline at its end is read' "$t"
printf '%s\n%s\ncond_subjects globus "/DC=org/DC=examp?e/OU=*/CN=al?ce"\n' "$head" "$rights" >"$policy"
expect 0 accepted "$good" 'S20 "*" and "?" are wildcards' "$t"
fresh_trust "$t" root sub fine && rm "$t"/*.signing_policy "$t"/*.namespaces
as_expected 51 'no .signing_policy or .namespaces file speaks of' "$good" "$t"
report $? 'S20 a CA without any policy file is unusable'
fresh_trust "$t" root sub && rm "$t"/*.signing_policy
expect 0 accepted "$good" 'S20 .namespaces files alone are enough' "$t"

fresh_trust "$t" root sub && pki_namespaces "$t" sub '/DC=org/DC=other/.*'
as_expected 51 'sub.namespaces|'"$sub_hash.namespaces" "$good" "$t" && fresh_trust "$t" root sub &&
    pki_signing_policy "$t" sub '/DC=org/DC=other/*' && as_expected 51 signing_policy "$good" "$t"
report $? 'S21 .namespaces and .signing_policy must both allow the subject'

pki_user host sub dn='/DC=org/DC=example/CN=host\/x.example.org' && pki_sign host "$text" "$message" &&
    fresh_trust "$t" root sub && pki_signing_policy "$t" sub '/DC=org/DC=example/CN=host/*'
expect 0 'CN=host' "$message" "a '/' inside a value matches a policy that spells it plainly" "$t"
pki_user odd sub dn='/DC=org\/DC=example/CN=odd' && pki_sign odd "$text" "$message" &&
    fresh_trust "$t" root sub
expect 51 'outside' "$message" "a '/' inside a value does not make a name look like one of another namespace" "$t"

# ---- proxies, strength, purpose ---------------------------------------------------------------------

pki_proxy proxy alice && pki_sign proxy "$text" "$message" lf -certfile "$PKI/alice.pem"
expect 11 'proxy certificate' "$message" 'S25 a proxy certificate is refused'
export OPENSSL_ALLOW_PROXY_CERTS=1
expect 11 'proxy certificate' "$message" 'S25 a proxy certificate is refused also with OPENSSL_ALLOW_PROXY_CERTS=1'
unset OPENSSL_ALLOW_PROXY_CERTS

pki_sign ruth "$text" "$message" lf -md md5
expect 49 'digest MD5' "$message" 'S26 an MD5 message digest is refused'
pki_sign alice "$text" "$message" lf -md sha1
expect 0 'weak digest: yes.*--allow-sha1' "$message" 'S26 a SHA-1 message digest is reported, for the endorser to allow'
result=0
for md in sha384 sha512; do
	pki_sign alice "$text" "$message" lf -md $md || result=1
	as_expected 0 'weak digest: no' "$message" || result=1
done
report $result 'S26 SHA-384 and SHA-512 message digests are accepted'
pki_user weak rsa md=md5 && pki_sign weak "$text" "$message"
expect 49 'too weak' "$message" 'S26 a certificate signed with MD5 is refused'
pki_user weak sub md=sha1 && pki_sign weak "$text" "$message"
expect 49 'too weak' "$message" 'S26 a certificate signed with SHA-1 is refused'
for bits in 512 1024; do
	pki_user weak sub key=rsa$bits && pki_sign weak "$text" "$message"
	expect 49 "RSA key of $bits bits" "$message" "S26 an RSA key of $bits bits is refused"
done
pki_user strong sub key=rsa2048 && pki_sign strong "$text" "$message"
expect 0 accepted "$message" 'S26 an RSA key of 2048 bits is accepted'
pki_sign strong "$text" "$message" lf -keyopt rsa_padding_mode:pss
expect 0 accepted "$message" 'S26 an RSA-PSS signature is accepted'

pki_sign alice "$text" "$message" lf -noattr
expect 49 'no signed attributes' "$message" 'S27 a signature without signed attributes is refused'
openssl cms -sign -in "$text" -signer "$PKI/alice.pem" -inkey "$PKI/alice.key" -outform DER \
    -out "$work/der"
# The signing time's object identifier becomes that of message-digest.
LC_ALL=C sed -i 's/\x2a\x86\x48\x86\xf7\x0d\x01\x09\x05/\x2a\x86\x48\x86\xf7\x0d\x01\x09\x04/' "$work/der"
compose "$text" "$work/der" "$message"
expect 49 'exactly once' "$message" 'S27 a second message-digest attribute is refused'

pki_user server sub purpose=serverAuth,clientAuth && pki_sign server "$text" "$message"
expect 0 'other purpose: yes.*--any-purpose' "$message" \
    'S28 a host certificate is reported, for the endorser to allow'
pki_user cipher sub usage=critical,keyEncipherment && pki_sign cipher "$text" "$message"
expect 11 'neither digitalSignature nor nonRepudiation' "$message" \
    'S29 a certificate whose keyUsage forbids signatures is refused'
pki_user bare sub usage=none purpose=none && pki_sign bare "$text" "$message"
expect 0 'other purpose: no' "$message" 'S29 a certificate without keyUsage and purpose is accepted'

# ---- odd envelopes --------------------------------------------------------------------------------------

pki_user crypt sub key=rsa2048 usage=critical,digitalSignature,keyEncipherment
openssl cms -encrypt -aes256 -in "$text" -out "$message" "$PKI/crypt.pem"
expect 11 'encrypted lists are not supported' "$message" 'S30 an encrypted message is refused'

{ sed '/^This is an S/s/.*/{"hv:imagelist": {"hostile": 1}}/' "$good"; echo '{"hv:imagelist": {"hostile": 2}}'; } >"$message"
as_expected 0 accepted "$message" && ! grep -q hostile "$work/said" && grep -q 11111111-2222 "$work/said"
report $? 'S31 text before the first and after the last boundary is never shown'

verdict "$good"; cp "$work/said" "$work/said.lf"
result=0
for form in lf crlf mixed; do
	pki_sign alice "$text" "$message" $form
	as_expected 0 accepted "$message" && cmp -s "$work/said" "$work/said.lf" || result=1
done
report $result 'S32 LF, CRLF and mixed line ends give the same text'

gzip -c "$good" >"$message"
expect 11 'gzip' "$message" 'S33 a compressed message is refused'
iconv -t UTF-16 "$good" >"$message"
expect 11 . "$message" 'S33 a message in UTF-16 is refused'
{ printf '\357\273\277'; cat "$good"; } >"$message"
verdict "$message"
[ "$code" = 0 ] || [ "$code" = 11 ]
report $? 'S33 a byte order mark is survived'
{ printf 'From: someone@example.org\nSubject: a list\n'; cat "$good"; } >"$message"
expect 0 accepted "$message" 'S33 mail headers before the MIME headers are accepted'
: >"$message"
expect 11 empty "$message" 'S33 an empty message is refused'

pki_sign alice "$text" "$message" lf -text
as_expected 0 accepted "$message" && sed '1,/^$/d' "$work/said" | head -n 1 | grep -q '^Content-Type: text/plain'
report $? 'a text signed with its own MIME header is shown with that header, as it was signed'

# ---- limits ---------------------------------------------------------------------------------------------

limited() {
	local before=${EPOCHREALTIME/./} took

	expect 46 "$1" "$2" "$3"
	took=$(((${EPOCHREALTIME/./} - before) / 1000))
	[ $took -lt 2000 ] || echo "# took $took ms where 2000 are allowed"
}
{ cat "$good"; head -c $((16777216 + 1 - $(stat -c %s "$good"))) /dev/zero | tr '\0' '\n'; } >"$message"
limited 'larger than' "$message" 'S34 a message of 16 MiB and one byte is refused'
certificate=$(<"$PKI/alice.pem")
for ((i = 0; i < 10000; i++)); do echo "$certificate"; done >"$work/many.pem"
openssl crl2pkcs7 -nocrl -certfile "$work/many.pem" -outform DER -out "$work/many.der"
compose "$text" "$work/many.der" "$message"
limited 'more than 16 certificates' "$message" 'S34 ten thousand certificates are refused before they are decoded'
{ for ((i = 0; i < 10000; i++)); do printf '\x30\x80'; done; head -c 20000 /dev/zero; } >"$work/nested.der"
compose "$text" "$work/nested.der" "$message"
limited 'levels deep' "$message" 'S34 ASN.1 nested ten thousand deep is refused'
# A certificate with alice's name and serial number and a modulus of 16384 bits.
modulus=F$(head -c 2047 /dev/urandom | od -An -v -tx1 | tr -d ' \n')1
cat >"$work/big.cnf" <<EOT
asn1=SEQUENCE:key
[key]
algorithm=SEQUENCE:rsa
bits=BITWRAP,SEQUENCE:numbers
[rsa]
oid=OID:rsaEncryption
parameter=NULL
[numbers]
modulus=INTEGER:0x$modulus
exponent=INTEGER:65537
EOT
openssl asn1parse -genconf "$work/big.cnf" -noout -out "$work/big.der" &&
    openssl pkey -pubin -inform DER -in "$work/big.der" -out "$work/big.pub" &&
    openssl x509 -req -in "$PKI/alice.csr" -CA "$PKI/sub.pem" -CAkey "$PKI/sub.key" -days 30 \
	-set_serial "0x$(openssl x509 -noout -serial -in "$PKI/alice.pem" | cut -d= -f2)" \
	-force_pubkey "$work/big.pub" -out "$work/big.pem" 2>/dev/null
pki_sign alice "$text" "$message" lf -nocerts -certfile "$work/big.pem"
limited '16[0-9]* bits' "$message" 'S34 an RSA key of 16384 bits is refused'

# ---- trust directories --------------------------------------------------------------------------------------

rm -rf "$t" && mkdir "$t"
as_expected 14 "holds no CA" "$good" "$t" && as_expected 14 'cannot be read' "$good" "$t/none"
report $? 'S39 an empty or missing trust directory is said to be that'
fresh_trust "$t" root sub
ln -s /nonexistent "$t/0badc0de.0"
ln -s /dev/zero "$t/0badc0de.1"
mkfifo "$t/0badc0de.r0"
ln -s /dev/zero "$t/0badc0de.signing_policy"
ln -s loop.namespaces "$t/loop.namespaces"
printf 'no certificate' >"$t/0badc0de.2"
expect 0 accepted "$good" 'S39 dangling links, a FIFO, /dev/zero and junk in the trust directory are passed over' "$t"
fresh_trust "$t" root sub && rm "$t/$sub_hash.0" && mkfifo "$t/$sub_hash.0"
expect 11 "file '$sub_hash.0' of the trust directory: not a regular file" "$good" \
    'S39 a file that cannot be used is named where it is needed' "$t"

fresh_trust "$t" root sub
for ca in root sub; do
	old=$(openssl x509 -noout -subject_hash_old -in "$PKI/$ca.pem")
	for file in "$t/$(pki_hash $ca)".*; do
		mv "$file" "$t/$old.${file##*.}"
	done
done
expect 0 accepted "$good" 'a trust directory with the hash names of old OpenSSL is read' "$t"

fresh_trust "$t" root sub
certificate=$(<"$PKI/root.pem")
crl=$(<"$PKI/root.crl")
for ((i = 0; i < 5000; i++)); do
	printf -v hash '%08x' $i
	echo "$certificate" >"$t/$hash.0"
	echo "$crl" >"$t/$hash.r0"
	printf "access_id_CA X509 '/CN=%s'\npos_rights globus CA:sign\ncond_subjects globus '\"/CN=%s/*\"'\n" \
	    "$hash" "$hash" >"$t/$hash.signing_policy"
done
before=${EPOCHREALTIME/./}
expect 0 accepted "$good" 'S39 a trust directory of 5,000 CAs is read' "$t"
echo "# 5,000 CAs: $(((${EPOCHREALTIME/./} - before) / 1000)) ms (2000 are allowed)"

# ---- real samples -------------------------------------------------------------------------------------------

result=0
for i in 01 02; do
	as_expected 50 "CRL" "$samples/appdb/imagelist$i.signed" "$samples/appdb" || result=1
	said 'subject: /C=AU/ST=Some-State/O=Internet Widgits Pty Ltd$' || result=1
done
report $result 'the sample lists of the AppDB are refused for want of a CRL, and their signer is named'
as_expected 11 . "$samples/appdb/imagelist_invalid.signed" "$samples/appdb"
report $? 'the invalid sample list of the AppDB is refused'
# The CRL of this sample lapses on 2026-12-21 and the certificate a year after it was made.
verdict "$samples/vmcaster/vmcaster-signed.list" "$samples/vmcaster/certificates"
{ [ "$code" = 0 ] && said 'weak digest: yes'; } || { [ "$code" = 50 ] && said 'CRL .* expired'; } ||
    { [ "$code" = 11 ] && said 'expired'; }
result=$?
said 'subject: /DC=org/DC=example/OU=People/CN=Test endorser$' || result=1
report $result 'the list of the real vmcaster is read; its SHA-1 signature is reported'

# ---- the wire -------------------------------------------------------------------------------------------------

"$verifier" "$trust" <"$good" >"$work/wire" && [ "$(od -An -tx4 -N4 "$work/wire" | tr -d ' ')" = 56644332 ] &&
    [ "$(od -An -td4 -j4 -N4 "$work/wire" | tr -d ' ')" = 0 ] && tail -c 4 "$work/wire" | grep -q '}}'
report $? 'the verdict on the wire begins with its magic number and ends with the text'
"$verifier" "$trust" <"$text" >"$work/wire"
[ "$(od -An -td4 -j8 -N4 "$work/wire" | tr -d ' ')" = 11 ] && ! grep -q hv:imagelist "$work/wire"
report $? 'a refusal on the wire carries its code and no text'

echo "1..$n"
[ $failed = 0 ]
