#!/bin/bash
# Corners of the decision whom to trust that no usual tool leads into: messages of other kinds than signed
# ones, encodings that are allowed and rare, trust directories as hands leave them, CRLs that prove nothing.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need openssl xxd python3
verifier=${VMIMAGEFS_VERIFIER:-$here/../../.build/vmimagefs-verifier}
[ -x "$verifier" ] || skip_all 'vmimagefs-verifier is not built'
work=$(mktemp -d) || bail 'mktemp failed'
at_exit rm -rf "$work"

pki_init "$work/pki"
pki_ca root key=rsa2048 && pki_ca sub by=root key=rsa2048 && pki_user alice sub && pki_trust "$work/trust" root sub ||
    bail 'no PKI'
pki_list "$work/list.json" 11111111-2222 1.0 "$(pki_dn alice)" "$(pki_issuer alice)"
text=$work/list.json
pki_sign alice "$text" "$work/good.list" || bail 'no list'
sub_hash=$(pki_hash sub) root_hash=$(pki_hash root)

# says CODE PATTERN MESSAGE [TRUSTDIR]: the verdict has that code (0: accepted; unknown: there is none) and,
# in its head, that text.
says() {
	local code

	"$verifier" --show "${4:-$work/trust}" <"$3" >"$work/said" 2>"$work/stderr"
	case $(head -n 1 "$work/said") in
	'verdict: accepted')	code=0 ;;
	'verdict: none')	code=unknown ;;
	'verdict: refused')	code=$(sed -n 's/^code: //p' "$work/said" | head -n 1) ;;
	*)			code=none ;;
	esac
	[ "$code" = "$1" ] && sed '/^$/q' "$work/said" | grep -Eq -- "$2" && return
	echo "code $code instead of $1"
	sed '/^$/q' "$work/said" | head -n 12
	tail -n 3 "$work/stderr"
	return 1
}

# opaque DER: an S/MIME message around a CMS message of any kind, in $work/message.
opaque() {
	{
		printf 'MIME-Version: 1.0\nContent-Type: application/x-pkcs7-mime; smime-type=signed-data\n'
		printf 'Content-Transfer-Encoding: base64\n\n'
		base64 "$1"
		printf '\n'
	} >"$work/message"
}

bytes() {
	xxd -r -p >"$work/der"
}

# fresh: another trust directory to change.
fresh() {
	rm -rf "$work/t"
	pki_trust "$work/t" root sub
}

# ---- messages of other kinds -----------------------------------------------------------------------

openssl cms -digest_create -in "$text" -outform DER -out "$work/der"
opaque "$work/der"
check 'S01 a message that is digested and not signed is refused, naming its kind' \
    says 11 'not signed: its CMS type' "$work/message"
openssl cms -EncryptedData_encrypt -aes128 -secretkey 000102030405060708090a0b0c0d0e0f -in "$text" \
    -outform DER -out "$work/der"
opaque "$work/der"
check 'S30 a message encrypted with a shared key is refused' says 11 'encrypted lists' "$work/message"
pki_user crypt sub key=rsa2048 usage=critical,digitalSignature,keyEncipherment
openssl cms -encrypt -aes-256-gcm -in "$text" -outform DER -out "$work/der" "$PKI/crypt.pem"
opaque "$work/der"
check 'S30 so is one that is encrypted and authenticated' says 11 'encrypted lists' "$work/message"
bytes <<<'300f06092a864886f70d010704a0020500'
opaque "$work/der"
check 'S30 and one of the kind signed-and-enveloped' says 11 'encrypted lists|cut or damaged|not a CMS' "$work/message"
openssl cms -sign -nodetach -econtent_type 1.2.3.4 -in "$text" -signer "$PKI/alice.pem" \
    -inkey "$PKI/alice.key" -outform DER -out "$work/der"
opaque "$work/der"
check 'S01 what is signed must be plain data' says 11 'not plain data' "$work/message"
for start in ' {"hv:imagelist": {}}' $'\n\t[1]' $'\r\n{'; do
	printf '%s' "$start" >"$work/message"
	check 'S01 JSON behind blanks is told to be unsigned' says 11 'plain JSON' "$work/message"
done
for start in '' ' ' $'\037' 'x' $'  \n '; do
	printf '%s' "$start" >"$work/message"
	check 'S33 a message of a few bytes is refused' says 11 . "$work/message"
done
: >"$work/empty"
openssl cms -sign -in "$work/empty" -signer "$PKI/alice.pem" -inkey "$PKI/alice.key" -out "$work/message"
check 'an empty text that is signed is an empty text' says 0 accepted "$work/message"

# ---- encodings --------------------------------------------------------------------------------------

openssl cms -sign -nodetach -stream -in "$text" -signer "$PKI/alice.pem" -inkey "$PKI/alice.key" \
    -outform DER -out "$work/indefinite"
check 'the message has parts of indefinite length' [ "$(head -c 2 "$work/indefinite" | xxd -p)" = 3080 ]
opaque "$work/indefinite"
check 'S02 an encoding with parts of indefinite length is accepted' says 0 'CN=alice' "$work/message"
head -c -3 "$work/indefinite" >"$work/der"
opaque "$work/der"
check 'S04 one whose end is missing is refused' says 11 . "$work/message"
head -c -1 "$work/indefinite" >"$work/der"
opaque "$work/der"
check 'S04 or is cut in the last byte of it' says 11 . "$work/message"
{ head -c -2 "$work/indefinite"; printf '\0\1'; } >"$work/der"
opaque "$work/der"
check 'S04 or ends in something else' says 11 . "$work/message"

# A certificate that says it is alice's, with the number of hers; her own comes along and is found for it.
pki_user mallory sub
openssl x509 -req -in "$PKI/mallory.csr" -CA "$PKI/sub.pem" -CAkey "$PKI/sub.key" -days 3 \
    -set_serial "0x$(openssl x509 -noout -serial -in "$PKI/alice.pem" | cut -d= -f2)" \
    -out "$work/forged.pem" 2>"$work/stderr"
openssl cms -sign -in "$text" -signer "$work/forged.pem" -inkey "$PKI/mallory.key" -nocerts \
    -certfile "$PKI/alice.pem" -out "$work/message"
check 'S04 a signature that another key made is refused, whatever certificate comes with it' \
    says 11 'not made with the key of the certificate' "$work/message"

for i in {1..16}; do
	openssl x509 -req -in "$PKI/mallory.csr" -CA "$PKI/sub.pem" -CAkey "$PKI/sub.key" -days 3 \
	    -set_serial $((1000 + i)) 2>"$work/stderr" >"$work/more.pem"
	[ "$i" = 16 ] || cat "$work/more.pem" >>"$work/fifteen.pem"
	cat "$work/more.pem" >>"$work/sixteen.pem"
done
pki_sign alice "$text" "$work/message" lf -certfile "$work/fifteen.pem"
check 'S34 a message may hold sixteen certificates' says 0 accepted "$work/message"
pki_sign alice "$text" "$work/message" lf -certfile "$work/sixteen.pem"
check 'S34 and no more' says 46 'more than 16 certificates' "$work/message"

dn=/DC=org/DC=example
for i in {1..18}; do
	dn+=/OU=unit$i
done
pki_user many sub "dn=$dn/CN=many" && pki_sign many "$text" "$work/message"
check 'S34 the limit of certificates does not count the parts of a name' says 0 'OU=unit18/CN=many' "$work/message"

# ---- names ------------------------------------------------------------------------------------------

openssl req -new -x509 -key "$PKI/alice.key" -subj / -days 3 -addext 'subjectAltName=critical,email:a@example.org' \
    -addext 'keyUsage=critical,digitalSignature' -out "$work/nameless.pem" 2>"$work/stderr"
openssl cms -sign -in "$text" -signer "$work/nameless.pem" -inkey "$PKI/alice.key" -out "$work/message"
check 'S05 a signer without a name is refused' says 11 'empty or oversized name|self-signed|not in the trust' "$work/message"

openssl req -new -key "$PKI/alice.key" -subj /CN=named -out "$work/named.csr" 2>"$work/stderr"
openssl x509 -req -in "$work/named.csr" -CA "$work/nameless.pem" -CAkey "$PKI/alice.key" -set_serial 7 -days 3 \
    -out "$work/named.pem" 2>"$work/stderr"
openssl cms -sign -in "$text" -signer "$work/named.pem" -inkey "$PKI/alice.key" -out "$work/message"
check 'S07 a signer of a CA without a name is refused' says 11 'empty or oversized name' "$work/message"

# ---- trust directories ------------------------------------------------------------------------------

fresh
for ca in root sub; do
	openssl x509 -in "$PKI/$ca.pem" -outform DER -out "$work/t/$(pki_hash $ca).0.new"
	openssl crl -in "$PKI/$ca.crl" -outform DER -out "$work/t/$(pki_hash $ca).r0.new"
	for file in 0 r0; do
		mv "$work/t/$(pki_hash $ca).$file.new" "$work/t/$(pki_hash $ca).$file"
	done
done
check 'S39 CAs and CRLs in DER are read' says 0 accepted "$work/good.list" "$work/t"
fresh
cp "$PKI/sub.pem" "$work/t/$sub_hash.1"
check 'S39 a CA that is there twice is the same CA' says 0 accepted "$work/good.list" "$work/t"
fresh
cat "$PKI/root.pem" "$PKI/sub.pem" >"$work/both"
rm "$work/t/$sub_hash.0" && cp "$work/both" "$work/t/$sub_hash.0"
check 'S39 of a file with several CAs the one of that name counts' says 0 accepted "$work/good.list" "$work/t"
fresh
rm "$work/t/$sub_hash.0" && : >"$work/t/$sub_hash.0"
check 'S07 an empty file is no CA' says 11 'not in the trust directory|CN=sub' "$work/good.list" "$work/t"

fresh
openssl x509 -in "$PKI/sub.pem" -outform DER | xxd -p | tr -d '\n' |
    sed 's/2a864886f70d010101/2a864886f70d01017e/' | xxd -r -p >"$work/t/$sub_hash.1"
check 'S39 a CA whose key is of an unknown kind does not disturb the other of its name' \
    says 0 accepted "$work/good.list" "$work/t"
rm "$work/t/$sub_hash.0" && mv "$work/t/$sub_hash.1" "$work/t/$sub_hash.0"
check_not 'S07 and proves nothing itself' says 0 accepted "$work/good.list" "$work/t"

# ---- CRLs -------------------------------------------------------------------------------------------

fresh
cp "$PKI/root.crl" "$work/t/$sub_hash.r0"
check 'S14 a CRL of another CA is none of this one' says 50 'another CA' "$work/good.list" "$work/t"

# crl_with OID: the CRL of sub, which says that it is signed with another algorithm.
crl_with() {
	openssl crl -in "$PKI/sub.crl" -outform DER | xxd -p | tr -d '\n' |
	    sed "s/2a864886f70d01010b/$1/g" | xxd -r -p >"$work/crl"
	cp "$work/crl" "$work/t/$sub_hash.r0"
}
fresh
for oid in 2a864886f70d010104:MD5 2a864886f70d010103:MD4 2a864886f70d010102:MD2 2a864886f70d01017f:nobody; do
	crl_with "${oid%:*}"
	check "S14 a CRL that is signed with an algorithm of ${oid#*:} is no CRL" \
	    says 50 'broken digest' "$work/good.list" "$work/t"
done

# crl_of NAME EXTENSIONS: a CRL of sub with them, of all that is revoked.
crl_of() {
	printf '[more]\n%s\n' "$2" >"$work/more"
	cat "$PKI/sub.ca/ca.cnf" "$work/more" >"$work/crl.cnf"
	openssl ca -config "$work/crl.cnf" -gencrl -crldays 30 -crlexts more -cert "$PKI/sub.pem" \
	    -keyfile "$PKI/sub.key" -out "$work/$1" 2>"$work/stderr"
}
pki_user carol sub && pki_sign carol "$text" "$work/carol.list"
pki_crl sub && cp "$PKI/sub.crl" "$work/before.crl"
pki_revoke sub carol && pki_crl sub && cp "$PKI/sub.crl" "$work/after.crl"
fresh
check 'S10 a certificate that a CRL lists is revoked' says 11 'revoked' "$work/carol.list" "$work/t"
cp "$work/before.crl" "$work/t/$sub_hash.r1"
check 'S10 an older CRL beside it does not clear it' says 11 'revoked' "$work/carol.list" "$work/t"
cp "$work/after.crl" "$work/t/$sub_hash.r2"
check 'S10 nor does the same once more' says 11 'revoked' "$work/carol.list" "$work/t"
sed -i '/CN=carol$/s/^R\t\([^\t]*\)\t[^\t]*\t/V\t\1\t\t/' "$PKI/sub.ca/index.txt"
pki_crl sub from='+0 min'
fresh
cp "$work/after.crl" "$work/t/$sub_hash.r1"
check 'S10 a newer CRL that lacks it clears it' says 0 accepted "$work/carol.list" "$work/t"
# These speak of some certificates only, so that silence clears nobody.
if crl_of delta.crl '2.5.29.27=critical,DER:02:01:01'; then
	fresh
	cp "$work/after.crl" "$work/t/$sub_hash.r0"
	cp "$work/delta.crl" "$work/t/$sub_hash.r1"
	check 'S10 a delta CRL that lacks it does not clear it' says 11 revoked "$work/carol.list" "$work/t"
else
	skip 'S10 a delta CRL that lacks it does not clear it' 'openssl makes none'
fi
if crl_of part.crl $'issuingDistributionPoint=critical,@idp\n[idp]\nonlyCA=TRUE'; then
	fresh
	cp "$work/after.crl" "$work/t/$sub_hash.r0"
	cp "$work/part.crl" "$work/t/$sub_hash.r1"
	check 'S10 nor does a CRL of CAs alone' says 11 revoked "$work/carol.list" "$work/t"
else
	skip 'S10 nor does a CRL of CAs alone' 'openssl makes none'
fi
# A regular file whose first byte cannot be read (EIO), as one on a bad disk.
fresh
ln -s /proc/self/mem "$work/t/$sub_hash.r5"
check 'S14 a CRL that cannot be read may revoke anybody: there is no verdict' \
    says unknown "$sub_hash.r5.*cannot be read at the moment: Input/output error" "$work/good.list" "$work/t"
cp "$work/after.crl" "$work/t/$sub_hash.r0"
check 'S10 who is revoked by another one is refused' says 11 revoked "$work/carol.list" "$work/t"
for kind in 7 signing_policy namespaces; do
	fresh
	ln -sf /proc/self/mem "$work/t/$sub_hash.$kind"
	check "S39 nor is there one where .$kind cannot be read" \
	    says unknown "$sub_hash.$kind.*at the moment" "$work/good.list" "$work/t"
done

# forever CRL OUT: the same without its nextUpdate, signed anew.
forever() {
	python3 - "$1" "$work/tbs" <<-'EOT' && openssl dgst -sha256 -sign "$PKI/sub.key" -out "$work/signature" "$work/tbs" &&
		import sys
		def item(data, at):
		    n, head = data[at + 1], 2
		    if n & 0x80:
		        head += n & 0x7f
		        n = int.from_bytes(data[at + 2:at + head], 'big')
		    return at + head, at + head + n
		def wrap(tag, body):
		    n = len(body)
		    size = bytes([n]) if n < 128 else bytes([0x82]) + n.to_bytes(2, 'big')
		    return bytes([tag]) + size + body
		crl = open(sys.argv[1], 'rb').read()
		tbs, end = item(crl, item(crl, 0)[0])
		parts, at = [], tbs
		while at < end:
		    _, after = item(crl, at)
		    parts.append(crl[at:after])
		    at = after
		# version, signature, issuer, thisUpdate, nextUpdate
		assert parts[4][0] == 0x17 or parts[4][0] == 0x18
		del parts[4]
		open(sys.argv[2], 'wb').write(wrap(0x30, b''.join(parts)))
	EOT
	python3 - "$work/tbs" "$work/signature" "$2" <<-'EOT'
		import sys
		tbs, signature = (open(name, 'rb').read() for name in sys.argv[1:3])
		algorithm = bytes.fromhex('300d06092a864886f70d01010b0500')
		bits = b'\3\x82' + (len(signature) + 1).to_bytes(2, 'big') + b'\0' + signature
		body = tbs + algorithm + bits
		open(sys.argv[3], 'wb').write(b'\x30\x82' + len(body).to_bytes(2, 'big') + body)
	EOT
}
fresh
openssl crl -in "$PKI/sub.crl" -outform DER -out "$work/dated.crl"
check 'a CRL without an end is made' forever "$work/dated.crl" "$work/t/$sub_hash.r0"
check 'S12 a CRL that does not say when it ends is not in date for ever' says 50 . "$work/good.list" "$work/t"
openssl crl -in "$work/after.crl" -outform DER -out "$work/dated.crl"
forever "$work/dated.crl" "$work/t/$sub_hash.r0"
check 'S12 but whom it lists is revoked' says 11 revoked "$work/carol.list" "$work/t"
cp "$work/before.crl" "$work/t/$sub_hash.r1"
check 'S12 also beside an older CRL that is in date and lacks it' says 11 revoked "$work/carol.list" "$work/t"
cp "$work/delta.crl" "$work/t/$sub_hash.r2"
check 'S12 or a newer one of some certificates alone' says 11 revoked "$work/carol.list" "$work/t"
plan_done
