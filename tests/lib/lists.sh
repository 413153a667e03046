# lists.sh - endorsers, lists and images on a web server, for tests of what becomes of them.
#
# A bash library: source it after tap.sh, pki.sh, mount.sh and web.sh, and call lists_up after
# site_up.
#
#   lists_up                  makes a CA, the endorsers alice and bob, a web server over TLS that
#                             serves $WWW, and tells the site of all that.  Sets WWW, PKI, WEB_URL
#   lists_pki                 all that without the web server
#   image_file NAME [SIZE]    makes $WWW/NAME of random bytes, 100000 of them
#   image_entry ID TITLE VERSION NAME [KEY=VALUE...]
#                             prints the entry of $WWW/NAME for a list; IMAGE_URI is its address
#   publish USER LIST ID VERSION [ENTRY...]
#                             signs a list with the identifier ID as $WWW/LIST.  PKI_LIST_CREATED,
#                             PKI_LIST_EXPIRES, PKI_LIST_URI as in pki.sh; LIST_DN and LIST_CA are
#                             other names than the certificate's
#   sign_as USER LIST         signs $SITE/LIST.json, which publish has left there, again as $WWW/LIST
#   hostile_up                the scripted server (tests/lib/hostile) serves $WWW, too, at $HOSTILE, and
#                             with the web server's certificate at $HOSTILE_TLS.  It logs into $SITE/requests
#   configure KEY VALUE       changes the site's configuration, and lets the daemon read it anew
#   utc WHEN                  a date as lists write it: utc '+5 seconds'
#   value FILE...             the files of the tree, one line each, joined by '|'
#   is_value TEXT FILE...     whether they say that, for wait_for
#   expired_of ID [REASON]    prints the directories in expired/ of an image, latest last
#   refusal ARG...            runs ctl and prints "exit status: message", to be matched
#   lasting SECONDS COMMAND   whether the command succeeds each time in all of that time

hostile_program=${VMIMAGEFS_HOSTILE:-$tests_dir/../.build/tests/lib/hostile}
holder_program=$(dirname "$hostile_program")/holder
[ -x "$hostile_program" ] && [ -x "$holder_program" ] || skip_all 'tests/lib/hostile and holder are not built'

lists_pki() {
	WWW=$SITE/www
	mkdir -m 755 "$WWW"
	pki_init "$SITE/pki" && pki_ca root && pki_user alice root && pki_user bob root &&
	    pki_server web root && pki_trust "$CERTS" root || bail 'no PKI'
	echo "tls_ca = $PKI/root.pem" >>"$CONF"
}

lists_up() {
	lists_pki
	web_up "$WWW" "$PKI/web.pem" "$PKI/web.key"
}

image_file() {
	head -c "${2:-100000}" /dev/urandom >"$WWW/$1" && chmod 644 "$WWW/$1"
}

image_entry() {
	local id=$1 title=$2 version=$3 name=$4

	shift 4
	pki_image "$id" "$title" "$version" "${IMAGE_URI:-$WEB_URL/$name}" "$(stat -c %s "$WWW/$name")" \
	    "$(sha512sum <"$WWW/$name" | cut -d' ' -f1)" "$@"
}

# By rename, so that nobody fetches half a list.
sign_as() {
	pki_sign "$1" "$SITE/${2##*/}.json" "$SITE/list.new" && chmod 644 "$SITE/list.new" &&
	    mv "$SITE/list.new" "$WWW/$2"
}

publish() {
	local user=$1 list=$2 id=$3 version=$4

	shift 4
	PKI_LIST_URI=${PKI_LIST_URI:-$WEB_URL/$list} pki_list "$SITE/${list##*/}.json" "$id" "$version" \
	    "${LIST_DN:-$(pki_dn "$user")}" "${LIST_CA:-$(pki_issuer "$user")}" "$@" && sign_as "$user" "$list"
}

hostile_stop() {
	kill "$1" 2>/dev/null && wait "$1" 2>/dev/null
	return 0
}

hostile_up() {
	"$hostile_program" --root "$WWW" --log "$SITE/requests" --tls "$PKI/web.pem:$PKI/web.key" \
	    >"$SITE/ports" </dev/null 2>&1 &
	at_exit hostile_stop $!
	wait_for 10 grep -qx ready "$SITE/ports" || bail "the scripted server does not start: $(cat "$SITE/ports")"
	HOSTILE=http://localhost:$(sed -n 's/^http //p' "$SITE/ports")
	HOSTILE_TLS=https://localhost:$(sed -n 's/^https* //p' "$SITE/ports" | sed -n 2p)
}

configure() {
	sed -i "/^$1 = /d" "$CONF"
	printf '%s = %s\n' "$1" "$2" >>"$CONF"
	ctl -q reload
}

utc() {
	date -u -d "$1" +%Y-%m-%dT%H:%M:%SZ
}

value() {
	cat "$@" 2>/dev/null | paste -sd'|'
}

is_value() {
	local wanted=$1

	shift
	[ "$(value "$@")" = "$wanted" ]
}

expired_of() {
	local dir

	for dir in "$MNT/expired/$1".*; do
		[ -d "$dir" ] || continue
		[ $# -eq 1 ] || is_value "$2" "$dir/reason" || continue
		echo "$dir"
	done
}

has_expired() {
	[ -n "$(expired_of "$@")" ]
}

refusal() {
	local said status=0

	said=$(ctl "$@" 2>&1 </dev/null) || status=$?
	printf '%s: %s\n' "$status" "$said"
}

lasting() {
	local end=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))

	shift
	while [ "${EPOCHREALTIME/[.,]/}" -lt "$end" ]; do
		"$@" >/dev/null 2>&1 || return 1
	done
}

# ---- files held open ---------------------------------------------------------------------------
#
#   hold NAME PATH            tests/lib/holder opens and maps PATH; 1 if it cannot
#   held NAME COMMAND...      one command to it; prints its answer
#   hold_is NAME ANSWER COMMAND...    for wait_for
#   let_go NAME
#   opens PATH                prints what an open() of it gives: "open", or the name of the error
#   opens_as WORD PATH        for wait_for

declare -A hold_in hold_out hold_pid

hold_answer() {
	local answer=

	read -r -t "$VMI_PATIENCE" -u "${hold_out[$1]}" answer || answer='no answer'
	echo "$answer"
}

hold() {
	local in=$SITE/hold.$1.in out=$SITE/hold.$1.out

	mkfifo "$in" "$out" || return 1
	"$holder_program" "$2" <"$in" >"$out" 2>&1 &
	hold_pid[$1]=$!
	exec {hold_in[$1]}>"$in" {hold_out[$1]}<"$out"
	rm "$in" "$out"
	at_exit let_go "$1"
	[ "$(hold_answer "$1")" = open ]
}

opens() {
	"$holder_program" "$1" </dev/null
}

opens_as() {
	[ "$(opens "$2")" = "$1" ]
}

held() {
	local name=$1

	shift
	(echo "$*" >&"${hold_in[$name]}") 2>/dev/null
	hold_answer "$name"
}

hold_is() {
	local name=$1 wanted=$2

	shift 2
	[ "$(held "$name" "$@")" = "$wanted" ]
}

let_go() {
	[ -n "${hold_pid[$1]:-}" ] || return 0
	exec {hold_in[$1]}>&- {hold_out[$1]}<&-
	kill -KILL "${hold_pid[$1]}" 2>/dev/null
	wait "${hold_pid[$1]}" 2>/dev/null
	hold_pid[$1]=
}
