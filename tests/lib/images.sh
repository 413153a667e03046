# images.sh - a site whose images come from the scripted web server (tests/lib/hostile).
#
# A bash library: source it after tap.sh, pki.sh and mount.sh.
#
#   images_up [KEY=VALUE...]   a site (site_up) with a PKI, an endorser, and a scripted server of its
#                              own.  Sets WWW, the directory it serves, and SERVER, its URL
#   image_add NAME MODE [SIZE] random bytes as $WWW/NAME (1 MiB) and an entry in the next list: the
#                              image NAME, served in the MODE (hostile --help)
#   image_add_at NAME URI [SIZE]   the same with an address of its own
#   image_add_as NAME OTHER MODE   the same with the bytes of OTHER
#                              image_keys[NAME] are more keys of its entry, KEY=VALUE words (pki_image);
#                              image_sha512[NAME] is another SHA-512 than its bytes', image_version[NAME]
#                              another version than 1.0
#   images_subscribe           signs the list of all images, subscribes to it, selects them
#   images_update              signs it anew as the next version; takes it
#
#   image NAME                 prints the path of the image in the mount
#   said_of NAME FILE          prints a file of images/NAME: state, error, progress
#   image_hex NAME             prints its SHA-512
#   object_of NAME             prints the path of its object in the store
#   server_down                stops the server
#   server_get TARGET          a request of our own: /stats, /release
#   server_port NAME [N]       the port of a name that the server prints: refused, silent, full
#   requests NAME              how many requests for the image came; sent NAME: how many of its bytes left
#   asked NAME                 of each request for it "range=FIRST[-LAST] if-range=ETAG", one a line
#   oracle ARG...              tests/lib/oracle; sets oracle_word: "right", or the last word that it
#                              said: an errno or what was wrong, or the signal that ended it
#   reads NAME [ARG...]        whether the oracle finds the image right, in all ways or as ARGs say
#   fails NAME ERRNO [ARG...]  whether it ends with that error
#   wait_in N MODE NAME        the oracle reads in the background: its pid is $reader, $SITE/started.N comes
#                              when it begins.  Each has a seed of its own, so that they wait for different
#                              pages
#
#   timed COMMAND...           runs it and sets took to the milliseconds that it needed
#   within MS COMMAND...       whether it succeeds, and so fast; a program, not a function, is ended after 10 s

hostile=${VMIMAGEFS_HOSTILE:-$tests_dir/../.build/tests/lib/hostile}
oracle_program=${VMIMAGEFS_ORACLE:-$(dirname "$hostile")/oracle}
[ -x "$hostile" ] && [ -x "$oracle_program" ] || skip_all 'tests/lib/hostile and oracle are not built'

images_server_stop() {
	kill "$1" 2>/dev/null && wait "$1" 2>/dev/null
	return 0
}

images_server_up() {
	"$hostile" --root "$WWW" --log "$SITE/requests" >"$SITE/ports" </dev/null &
	SERVER_PID=$!
	at_exit images_server_stop "$SERVER_PID"
	: >"$SITE/requests"
	wait_for 10 grep -qx ready "$SITE/ports" || bail 'the scripted server does not start'
	SERVER=http://127.0.0.1:$(server_port http)
}

images_up() {
	site_up "$@"
	WWW=$SITE/www
	mkdir "$WWW"
	image_names=() image_uris=() images_version=0
	declare -gA image_keys=() image_sha512=() image_version=() image_hexes=()
	images_server_up
	pki_init "$SITE/pki" && pki_ca root && pki_user alice root && pki_trust "$CERTS" root ||
	    bail 'no PKI'
}

image_add_at() {
	head -c "${3:-1048576}" /dev/urandom >"$WWW/$1"
	image_names+=("$1")
	image_uris+=("$2")
}

image_add() {
	image_add_at "$1" "$SERVER/$2/$1" "${3:-}"
}

image_add_as() {
	image_add "$1" "$3" 1
	cp "$WWW/$2" "$WWW/$1"
}

# Kept as long as the file is the same one.
image_hex_learn() {
	local file=$WWW/$1 key

	key=$1.$(stat -c %i.%s.%z "$file")
	[ -n "${image_hexes[$key]:-}" ] || image_hexes[$key]=$(sha512sum <"$file" | cut -d' ' -f1)
	image_hex_known=${image_hexes[$key]}
}

image_hex() {
	image_hex_learn "$1"
	printf '%s\n' "$image_hex_known"
}

images_sign() {
	local i name entries=()

	# In a file: a subshell, such as that of check, forgets what it counted.
	[ ! -e "$SITE/list.version" ] || images_version=$(<"$SITE/list.version")
	images_version=$((images_version + 1))
	echo "$images_version" >"$SITE/list.version"
	for i in "${!image_names[@]}"; do
		name=${image_names[i]}
		image_hex_learn "$name"
		# shellcheck disable=SC2086 # words
		entries+=("$(pki_image "$name" "The $name image" "${image_version[$name]:-1.0}" "${image_uris[i]}" \
		    "$(stat -c %s "$WWW/$name")" "${image_sha512[$name]:-$image_hex_known}" ${image_keys[$name]:-})")
	done
	pki_list "$SITE/list.json" a-list "$images_version" "$(pki_dn alice)" "$(pki_issuer alice)" \
	    "${entries[@]}" && pki_sign alice "$SITE/list.json" "$WWW/list.new" &&
	    mv "$WWW/list.new" "$WWW/list" || bail 'no list'
}

images_subscribe() {
	images_sign
	ctl -q endorser add alice --from-cert "$PKI/alice.pem" &&
	    ctl -q subscribe "$SERVER/ok/list" --endorser alice --select all ||
	    bail 'the list is not accepted'
}

images_update() {
	images_sign
	ctl -q update
}

image() {
	printf '%s\n' "$MNT/images/$1/image"
}

said_of() {
	cat "$MNT/images/$1/$2"
}

object_of() {
	local hex

	hex=$(image_hex "$1")
	printf '%s\n' "$SITE/cache/objects/${hex:0:2}/$hex"
}

server_down() {
	images_server_stop "$SERVER_PID"
}

server_port() {
	awk -v name="$1" -v nth="${2:-1}" '$1 == name && ++n == nth { print $2 }' "$SITE/ports"
}

server_get() {
	curl -s -m 10 "$SERVER$1"
}

requests() {
	grep -c "^GET [^ ]*/$1 " "$SITE/requests"
}

asked() {
	grep "^GET [^ ]*/$1 " "$SITE/requests" | grep -o 'range=[^ ]* if-range=[^ ]*'
}

sent() {
	server_get /stats | awk -v end="/$1" \
	    'substr($1, length($1) - length(end) + 1) == end { n += $3 } END { print n + 0 }'
}

oracle() {
	oracle_status=0
	oracle_said=$("$oracle_program" "$@" 2>&1 </dev/null) || oracle_status=$?
	oracle_word=${oracle_said##*[ $'\n']}
	if [ "$oracle_status" -eq 0 ]; then
		oracle_word=right
	elif [ -z "$oracle_said" ]; then
		oracle_word=$(kill -l "$oracle_status")
	fi
	return "$oracle_status"
}

reads() {
	local name=$1

	shift
	oracle "$@" "$(image "$name")" "$WWW/$name" || { echo "$oracle_said"; return 1; }
}

fails() {
	local name=$1 errno=$2

	shift 2
	oracle --mode pread "$@" "$(image "$name")" "$WWW/$name"
	[ "$oracle_word" = "$errno" ] || { echo "not $errno: ${oracle_said:-all bytes were read}"; return 1; }
}

# Milliseconds of the monotonic clock.
now_ms() {
	local up

	read -r up _ </proc/uptime
	printf '%s\n' "$((10#${up/./} * 10))"
}

timed() {
	local from status=0

	from=$(now_ms)
	"$@" || status=$?
	took=$(($(now_ms) - from))
	return "$status"
}

within() {
	local limit=$1 ended=(timeout -k 1 10)

	shift
	[ "$(type -t "$1")" = file ] || ended=()
	timed "${ended[@]}" "$@" >"$SITE/said" 2>&1 || { cat "$SITE/said"; echo "after $took ms"; return 1; }
	[ "$took" -le "$limit" ] || { echo "$took ms"; return 1; }
}

# A shell has its background processes ignore INT.
seed=0
wait_in() {
	seed=$((seed + 1))
	env --default-signal=INT,QUIT "$oracle_program" --mode "$2" --seed $seed \
	    --start "$SITE/started.$1" "$(image "$3")" "$WWW/$3" >"$SITE/said.$1" 2>&1 </dev/null &
	reader=$!
}
