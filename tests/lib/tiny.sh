# tiny.sh - a site of tiny images and lists that are files: no server, everything within milliseconds.
#
# A bash library: source it after tap.sh, mount.sh and pki.sh.
#
#   tiny_up [KEY=VALUE...]    a site (site_up) with a PKI and the signer alice, who is not registered yet.
#                             Sets WWW: a directory with lists and images.  $WWW/list is the list
#                             `tiny`, version 1: the images one (version 1), two and three
#   tiny_list VERSION ENTRY...    signs another version of it as $WWW/list.  An ENTRY is
#                             NAME[:VERSION[:FILE]]; FILE is one in $WWW, by default NAME
#   tiny_file NAME [SIZE]     $WWW/NAME of random bytes, 20000 of them
#   tiny_subscribe            registers alice, subscribes to the list, selects its images
#   tiny_object FILE          prints the path of the object with the bytes of $WWW/FILE
#   tiny_save NAME            keeps the directories and the list as they are now; no daemon may run
#   tiny_load NAME            puts them back
#   tiny_view                 prints all that commands tell of trust, lists, images, history and
#                             events, but no moment of time: equal views, equal sites.  A site
#                             without a catalogue looks like an empty one; "failed: STATUS", quoted, else

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
	local version=$1 word name file rest images=()

	shift
	for word in "$@"; do
		IFS=: read -r name rest file <<<"$word"
		file=$WWW/${file:-$name}
		images+=("$(pki_image "$name" "The image $name" "${rest:-1}" "file://$file" \
		    "$(stat -c %s "$file")" "$(sha512sum <"$file" | cut -d' ' -f1)")")
	done
	PKI_LIST_URI=file://$WWW/list pki_list "$SITE/list.json" tiny "$version" "$(pki_dn alice)" \
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

tiny_save() {
	local what

	for what in state cache run www/list; do
		rm -rf "$SITE/$what.$1"
		[ ! -e "$SITE/$what" ] || cp -a "$SITE/$what" "$SITE/$what.$1" || bail 'cannot keep the site'
	done
}

tiny_load() {
	local what

	for what in state cache run www/list; do
		rm -rf "${SITE:?}/$what"
		[ ! -e "$SITE/$what.$1" ] || cp -a "$SITE/$what.$1" "$SITE/$what" || bail 'cannot load the site'
	done
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
