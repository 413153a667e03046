# tiny.sh - a site of tiny images and lists that are files: no server, everything within milliseconds.
#
# A bash library: source it after tap.sh, mount.sh and pki.sh.
#
#   tiny_up [KEY=VALUE...]    a site (site_up) with a PKI and the signer alice, who is not registered yet.
#                             Sets WWW: a directory with lists and images.  $WWW/list is the list
#                             `tiny`, version 1: the images one (version 1), two and three
#   tiny_list VERSION ENTRY...    signs another version of it as $WWW/list.  An ENTRY is
#                             NAME[:VERSION[:FILE]]; FILE is one in $WWW, by default NAME
#                             tiny_base is the URL of $WWW (file://), and tiny_keys[NAME] further keys of
#                             an entry
#   tiny_file NAME [SIZE]     $WWW/NAME of random bytes, 20000 of them
#   tiny_subscribe            registers alice, subscribes to the list, selects its images
#   tiny_object FILE          prints the path of the object with the bytes of $WWW/FILE
#   tiny_save NAME            keeps the directories and the list as they are now; no daemon may run.
#                             tiny_dirs names them, below $SITE; a test may add to it
#   tiny_load NAME            puts them back; then calls tiny_loaded, if the test has it
#   tiny_view                 prints all that commands tell of trust, lists, images, history and
#                             events, but no moment of time: equal views, equal sites.  A site
#                             without a catalogue looks like an empty one; "failed: STATUS", quoted, else

tiny_dirs=(state cache run www/list)
declare -A tiny_keys=()

tiny_file() {
	head -c "${2:-20000}" /dev/urandom >"$WWW/$1" && chmod 644 "$WWW/$1"
}

tiny_up() {
	site_up "$@"
	WWW=$SITE/www
	mkdir "$WWW"
	echo "file_prefix = $WWW" >>"$CONF"
	pki_init "$SITE/pki" && pki_ca root && pki_user alice root && pki_trust "$CERTS" root ||
	    bail 'no PKI'
	tiny_file one
	tiny_file two 4096
	tiny_file three 1
	tiny_list 1 one two three
}

tiny_list() {
	local version=$1 word name file rest base images=()

	shift
	base=${tiny_base:-file://$WWW}
	for word in "$@"; do
		IFS=: read -r name rest file <<<"$word"
		file=$WWW/${file:-$name}
		# shellcheck disable=SC2086 # a list of words
		images+=("$(pki_image "$name" "The image $name" "${rest:-1}" "$base/${file##*/}" \
		    "$(stat -c %s "$file")" "$(sha512sum <"$file" | cut -d' ' -f1)" ${tiny_keys[$name]:-})")
	done
	PKI_LIST_URI=$base/list pki_list "$SITE/list.json" tiny "$version" "$(pki_dn alice)" \
	    "$(pki_issuer alice)" "${images[@]}" && pki_sign alice "$SITE/list.json" "$SITE/list.new" &&
	    chmod 644 "$SITE/list.new" && mv "$SITE/list.new" "$WWW/list" || bail 'no list'
}

tiny_subscribe() {
	ctl -q endorser add alice --from-cert "$PKI/alice.pem" &&
	    ctl -q subscribe "file://$WWW/list" --endorser alice --select all ||
	    bail 'the list is not accepted'
}

tiny_object() {
	local hex

	hex=$(sha512sum <"$WWW/$1" | cut -d' ' -f1)
	printf '%s\n' "$SITE/cache/objects/${hex:0:2}/$hex"
}

# All at once: files that have two names keep them.
tiny_save() {
	local what there=()

	rm -rf "$SITE/kept.$1"
	mkdir "$SITE/kept.$1" || bail 'cannot keep the site'
	for what in "${tiny_dirs[@]}"; do
		[ ! -e "$SITE/$what" ] || there+=("./$what")
	done
	[ ${#there[@]} -eq 0 ] || (cd "$SITE" && cp -a --parents "${there[@]}" "kept.$1/") ||
	    bail 'cannot keep the site'
}

tiny_load() {
	local what there=()

	for what in "${tiny_dirs[@]}"; do
		there+=("${SITE:?}/$what")
	done
	rm -rf "${there[@]}"
	cp -a "$SITE/kept.$1/." "$SITE/" || bail 'cannot load the site'
	! declare -F tiny_loaded >/dev/null || tiny_loaded
}

tiny_moments='del(.. | .updated?, .tried?, .time?, .uuid?, .session?, .expired_at?, .created?, .expires?)
    | del(.expired[]?.name, .events[]?.filename)'

tiny_view() {
	local status=0

	ctl --json endorser list >"$SITE/view" 2>/dev/null || status=$?
	case $status in
	0)	{
			ctl --json subscriptions && ctl --json images && ctl --json expired && ctl --json events
		} >>"$SITE/view" 2>/dev/null || { echo "\"failed: $?\""; return 0; }
		jq -cS "$tiny_moments" "$SITE/view" ;;
	3)	printf '%s\n' '{"endorsers":[],"schema":1}' '{"schema":1,"subscriptions":[]}' \
		    '{"images":[],"schema":1}' '{"expired":[],"schema":1}' '{"events":[],"schema":1}' ;;
	*)	echo "\"failed: $status\"" ;;
	esac
}
