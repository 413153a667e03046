# pki.sh - a test PKI: CAs, users, CRLs, trust directories as fetch-crl leaves them, signed lists.
#
# A bash library: source it, then call its functions.  Everything lies below the directory given
# to pki_init; nothing is kept elsewhere.  NAME is a short word that names the files:
# $PKI/NAME.pem (certificate), $PKI/NAME.key, and for a CA $PKI/NAME.crl and $PKI/NAME.ca/.  Each
# function returns 0, or prints the end of $PKI/log and returns 1.  Options are KEY=VALUE words in
# any order.  A TIME is anything that `date -d` understands ("-10 days", "2030-01-01").
#
#   pki_init DIR                  makes DIR and sets PKI to it
#   pki_ca NAME [dn=DN] [by=CA] [key=KIND] [from=TIME] [to=TIME] [md=DIGEST] [basic=VALUE] [usage=VALUE]
#                                 a root, or with by= a sub-CA; with an empty CRL of 30 days.
#                                 dn: /DC=org/DC=example/CN=NAME; basic (basicConstraints): critical,CA:TRUE;
#                                 usage (keyUsage): critical,keyCertSign,cRLSign
#   pki_user NAME CA [dn=DN] [key=KIND] [from=TIME] [to=TIME] [md=DIGEST] [usage=VALUE] [purpose=VALUE]
#                                 an end entity.  dn: /DC=org/DC=example/OU=People/CN=NAME;
#                                 usage: critical,digitalSignature; purpose (extendedKeyUsage):
#                                 emailProtection; "none" leaves the extension out
#   pki_proxy NAME USER           an RFC 3820 proxy certificate made with USER's key
#   pki_revoke CA NAME            marks NAME's certificate revoked; pki_crl makes it known
#   pki_crl CA [from=TIME] [to=TIME] [out=FILE] [as=NAME] [md=DIGEST]
#                                 a CRL of all that is revoked (default -1 hour to +30 days) into
#                                 $PKI/CA.crl.  as=NAME: forged, in the name of CA with NAME's key
#   pki_trust DIR CA...           installs each CA in the trust directory: CA.pem, <hash>.0 -> CA.pem,
#                                 <hash>.r0, CA.signing_policy and CA.namespaces that allow
#                                 /DC=org/DC=example/ and links to them by hash
#   pki_trust_crl DIR CA [N]      installs $PKI/CA.crl anew (as <hash>.rN, default 0), by rename as
#                                 fetch-crl does
#   pki_signing_policy DIR CA GLOB...     replaces the CA's .signing_policy
#   pki_namespaces DIR CA EXPRESSION...   replaces the CA's .namespaces
#   pki_sign USER IN OUT [FORM [ARG...]]  signs the text IN as OUT.  FORM: lf (default), crlf (every line),
#                                 mixed (CRLF text in LF MIME lines, as vmcaster writes), opaque.
#                                 ARGs go to `openssl cms -sign`
#   pki_dn NAME, pki_issuer NAME  print subject and issuer as lists spell them: /DC=org/...
#   pki_hash NAME                 prints the eight hexadecimal digits of NAME's subject
#   pki_list OUT ID VERSION DN CA [IMAGE...]   writes an unsigned image list (JSON).  Each IMAGE is a
#                                 hv:image object as text.  Valid from one minute ago to +30 days, or
#                                 PKI_LIST_CREATED and PKI_LIST_EXPIRES (2026-11-21T10:00:00Z);
#                                 hv:uri is PKI_LIST_URI, ad:vo is PKI_LIST_VO
#   pki_image ID TITLE VERSION URI SIZE SHA512 [KEY=VALUE...]   prints a hv:image object for pki_list;
#                                 further keys ("hv:format=qcow2") are added as strings
#   pki_server NAME CA [HOST]     a TLS server's key and certificate for HOST (default: localhost and
#                                 127.0.0.1)
#   KINDs of keys: ec (P-256, default), p384, rsa2048, rsa3072, rsa1024, rsa512, ed25519

pki_fail() {
	printf '# pki: %s\n' "$1" >&2
	tail -n 5 "$PKI/log" 2>/dev/null | sed 's/^/# /' >&2
	return 1
}

# Runs quietly; what it says is in $PKI/log.
pki_quiet() {
	"$@" >>"$PKI/log" 2>&1 </dev/null
}

pki_init() {
	PKI=$1
	mkdir -p "$PKI" || return 1
	: >"$PKI/log"
	# openssl must not see the configuration of whoever runs the tests.
	cat >"$PKI/req.cnf" <<-'EOT'
		[req]
		distinguished_name = dn
		[dn]
	EOT
	export OPENSSL_CONF="$PKI/req.cnf"
}

pki_time() {
	date -u -d "$1" +%Y%m%d%H%M%SZ
}

pki_key() {
	case $2 in
	ec)	pki_quiet openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" ;;
	p384)	pki_quiet openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out "$1" ;;
	rsa*)	pki_quiet openssl genpkey -algorithm RSA -pkeyopt "rsa_keygen_bits:${2#rsa}" -out "$1" ;;
	ed25519) pki_quiet openssl genpkey -algorithm ed25519 -out "$1" ;;
	*)	pki_fail "unknown kind of key '$2'" ;;
	esac
}

# The database of a CA, for `openssl ca`.
pki_ca_files() {
	local dir=$PKI/$1.ca

	mkdir -p "$dir" && : >"$dir/index.txt" || return 1
	printf '1000\n' >"$dir/serial"
	printf '01\n' >"$dir/crlnumber"
	cat >"$dir/ca.cnf" <<-EOT
		[ca]
		default_ca = me
		[me]
		database = $dir/index.txt
		serial = $dir/serial
		crlnumber = $dir/crlnumber
		new_certs_dir = $dir
		unique_subject = no
		default_md = sha256
		default_days = 365
		policy = any
		crl_extensions = crl
		[any]
		commonName = optional
		[crl]
		authorityKeyIdentifier = keyid:always
	EOT
}

# Options of a function into the variables dn, by, key, from, to, md, basic, usage, purpose, out, as.
pki_options() {
	local word

	for word in "$@"; do
		case $word in
		dn=*|by=*|key=*|from=*|to=*|md=*|basic=*|usage=*|purpose=*|out=*|as=*|alt=*)
			printf -v "${word%%=*}" '%s' "${word#*=}" ;;
		*)	pki_fail "unknown option '$word'"; return 1 ;;
		esac
	done
}

# pki_issue NAME CA DN EXTFILE FROM TO DIGEST [ARG...]: a certificate for NAME's key.
pki_issue() {
	local name=$1 ca=$2 dn=$3 ext=$4 from=$5 to=$6 md=$7

	shift 7
	pki_quiet openssl req -new -utf8 -key "$PKI/$name.key" -subj "$dn" -out "$PKI/$name.csr" &&
	    pki_quiet openssl ca -batch -preserveDN -utf8 -notext -config "$PKI/$ca.ca/ca.cnf" -md "$md" \
		-startdate "$(pki_time "$from")" -enddate "$(pki_time "$to")" -extfile "$ext" \
		-in "$PKI/$name.csr" -out "$PKI/$name.pem" "$@" ||
	    pki_fail "cannot issue the certificate of '$name'"
}

pki_ca() {
	local name=$1 dn="/DC=org/DC=example/CN=$1" by='' key=ec from='-1 day' to='+3650 days' md=sha256
	local basic=critical,CA:TRUE usage=critical,keyCertSign,cRLSign purpose='' out='' as='' alt=''

	shift
	pki_options "$@" && pki_key "$PKI/$name.key" "$key" && pki_ca_files "$name" || return 1
	{
		[ "$basic" = none ] || echo "basicConstraints = $basic"
		[ "$usage" = none ] || echo "keyUsage = $usage"
		echo 'subjectKeyIdentifier = hash'
		[ -z "$by" ] || echo 'authorityKeyIdentifier = keyid'
	} >"$PKI/$name.ext"
	if [ -z "$by" ]; then
		pki_issue "$name" "$name" "$dn" "$PKI/$name.ext" "$from" "$to" "$md" -selfsign \
		    -keyfile "$PKI/$name.key" || return 1
	else
		pki_issue "$name" "$by" "$dn" "$PKI/$name.ext" "$from" "$to" "$md" -cert "$PKI/$by.pem" \
		    -keyfile "$PKI/$by.key" || return 1
	fi
	pki_crl "$name"
}

pki_user() {
	local name=$1 ca=$2 dn="/DC=org/DC=example/OU=People/CN=$1" key=ec from='-1 day' to='+365 days'
	local md=sha256 basic=critical,CA:FALSE usage=critical,digitalSignature purpose=emailProtection
	local by='' out='' as='' alt=''

	shift 2
	pki_options "$@" && pki_key "$PKI/$name.key" "$key" || return 1
	{
		echo "basicConstraints = $basic"
		[ "$usage" = none ] || echo "keyUsage = $usage"
		[ "$purpose" = none ] || echo "extendedKeyUsage = $purpose"
		[ -z "$alt" ] || echo "subjectAltName = $alt"
		echo 'subjectKeyIdentifier = hash'
		echo 'authorityKeyIdentifier = keyid'
	} >"$PKI/$name.ext"
	pki_issue "$name" "$ca" "$dn" "$PKI/$name.ext" "$from" "$to" "$md" -cert "$PKI/$ca.pem" \
	    -keyfile "$PKI/$ca.key"
}

pki_server() {
	local alt=DNS:localhost,IP:127.0.0.1

	[ -z "${3:-}" ] || alt=DNS:$3
	pki_user "$1" "$2" dn="/DC=org/DC=example/CN=${3:-localhost}" purpose=serverAuth \
	    usage=critical,digitalSignature,keyAgreement "alt=$alt"
}

pki_proxy() {
	local name=$1 user=$2

	cat >"$PKI/$name.ext" <<-'EOT'
		keyUsage = critical,digitalSignature
		proxyCertInfo = critical,language:id-ppl-inheritAll
	EOT
	pki_key "$PKI/$name.key" ec &&
	    pki_quiet openssl req -new -utf8 -key "$PKI/$name.key" -subj "$(pki_dn "$user")/CN=12345" \
		-out "$PKI/$name.csr" &&
	    pki_quiet openssl x509 -req -sha256 -in "$PKI/$name.csr" -CA "$PKI/$user.pem" \
		-CAkey "$PKI/$user.key" -set_serial 12345 -days 1 -extfile "$PKI/$name.ext" \
		-out "$PKI/$name.pem" ||
	    pki_fail "cannot make the proxy '$name'"
}

pki_revoke() {
	pki_quiet openssl ca -config "$PKI/$1.ca/ca.cnf" -cert "$PKI/$1.pem" -keyfile "$PKI/$1.key" \
	    -revoke "$PKI/$2.pem" || pki_fail "cannot revoke '$2'"
}

pki_crl() {
	local ca=$1 from='-1 hour' to='+30 days' out="$PKI/$1.crl" as='' md=sha256
	local dn='' by='' key='' basic='' usage='' purpose='' alt='' cert

	shift
	pki_options "$@" || return 1
	cert=$PKI/$ca.pem
	if [ -n "$as" ]; then
		# The issuer's name with another key: a certificate of that name that nobody trusts.
		cert=$PKI/$ca.forged.pem
		pki_quiet openssl req -x509 -new -utf8 -key "$PKI/$as.key" -subj "$(pki_dn "$ca")" \
		    -addext subjectKeyIdentifier=hash -days 30 -out "$cert" || { pki_fail "cannot forge '$ca'"; return 1; }
	fi
	pki_quiet openssl ca -gencrl -config "$PKI/$ca.ca/ca.cnf" -md "$md" -cert "$cert" \
	    -keyfile "$PKI/${as:-$ca}.key" -crl_lastupdate "$(pki_time "$from")" \
	    -crl_nextupdate "$(pki_time "$to")" -out "$out" || pki_fail "cannot make the CRL of '$ca'"
}

pki_hash() {
	openssl x509 -noout -subject_hash -in "$PKI/$1.pem"
}

pki_dn() {
	openssl x509 -noout -subject -nameopt compat -in "$PKI/$1.pem" | sed 's/^subject=//'
}

pki_issuer() {
	openssl x509 -noout -issuer -nameopt compat -in "$PKI/$1.pem" | sed 's/^issuer=//'
}

pki_trust_crl() {
	local name

	name=$1/$(pki_hash "$2").r${3:-0} || return 1
	cp "$PKI/$2.crl" "$name.new" && mv -f "$name.new" "$name"
}

pki_signing_policy() {
	local dir=$1 ca=$2 globs='' glob

	shift 2
	for glob in "$@"; do
		globs="$globs${globs:+ }\"$glob\""
	done
	cat >"$dir/$ca.signing_policy" <<-EOT
		access_id_CA   X509    '$(pki_dn "$ca")'
		pos_rights     globus  CA:sign
		cond_subjects  globus  '$globs'
	EOT
	ln -sf "$ca.signing_policy" "$dir/$(pki_hash "$ca").signing_policy"
}

pki_namespaces() {
	local dir=$1 ca=$2 expression

	shift 2
	for expression in "$@"; do
		printf 'TO Issuer "%s" \\\n  PERMIT Subject "%s"\n' "$(pki_dn "$ca")" "$expression"
	done >"$dir/$ca.namespaces"
	ln -sf "$ca.namespaces" "$dir/$(pki_hash "$ca").namespaces"
}

pki_trust() {
	local dir=$1 ca hash

	shift
	mkdir -p "$dir" || return 1
	for ca in "$@"; do
		hash=$(pki_hash "$ca") || return 1
		cp "$PKI/$ca.pem" "$dir/$ca.pem" && ln -sf "$ca.pem" "$dir/$hash.0" &&
		    pki_trust_crl "$dir" "$ca" || return 1
		pki_signing_policy "$dir" "$ca" '/DC=org/DC=example/*'
		pki_namespaces "$dir" "$ca" '/DC=org/DC=example/.*'
	done
}

pki_sign() {
	local user=$1 in=$2 out=$3 form=${4:-lf} plain=$3.plain

	shift $(($# < 4 ? $# : 4))
	case $form in
	lf|crlf|mixed) ;;
	opaque)	set -- -nodetach "$@" ;;
	*)	pki_fail "unknown form '$form'"; return 1 ;;
	esac
	pki_quiet openssl cms -sign -in "$in" -signer "$PKI/$user.pem" -inkey "$PKI/$user.key" \
	    -out "$plain" "$@" || { pki_fail "cannot sign '$in'"; return 1; }
	# What is signed has CRLF ends in every form; openssl writes them into the text as in "mixed".
	case $form in
	lf)	tr -d '\r' <"$plain" >"$out" ;;
	crlf)	sed 's/\r*$/\r/' "$plain" >"$out" ;;
	*)	cp "$plain" "$out" ;;
	esac && rm -f "$plain"
}

pki_image() {
	local word

	cat <<-EOT
		{"hv:image": {
		  "dc:identifier": "$1", "dc:title": "$2", "dc:description": "test image $2",
		  "hv:version": "$3", "hv:uri": "$4", "hv:size": $5, "sl:checksum:sha512": "$6",
	EOT
	shift 6
	for word in "$@"; do
		printf '  "%s": "%s",\n' "${word%%=*}" "${word#*=}"
	done
	cat <<-'EOT'
		  "hv:hypervisor": "kvm", "sl:arch": "x86_64", "sl:os": "Linux", "sl:osversion": "1",
		  "sl:comments": "none"}}
	EOT
}

pki_list() {
	local out=$1 id=$2 version=$3 dn=$4 ca=$5 image comma=''

	shift 5
	{
		cat <<-EOT
			{"hv:imagelist": {
			  "dc:date:created": "${PKI_LIST_CREATED:-$(date -u -d '-1 minute' +%Y-%m-%dT%H:%M:%SZ)}",
			  "dc:date:expires": "${PKI_LIST_EXPIRES:-$(date -u -d '+30 days' +%Y-%m-%dT%H:%M:%SZ)}",
			  "dc:identifier": "$id", "dc:description": "a test list", "dc:title": "Test list $id",
			  "dc:source": "tests", "hv:version": "$version",
			  "hv:uri": "${PKI_LIST_URI:-https://localhost/$id.list}",
			  "ad:vo": "${PKI_LIST_VO:-vo.example.org}",
			  "hv:endorser": {"hv:x509": {
			    "dc:creator": "Test endorser", "hv:email": "endorser@example.org",
			    "hv:dn": "$dn", "hv:ca": "$ca"}},
			  "hv:images": [
		EOT
		for image in "$@"; do
			printf '%s%s\n' "$comma" "$image"
			comma=,
		done
		printf ']}}\n'
	} >"$out"
}
