# vmcatcher.sh - vmcatcher's commands on a site, and an event handler that writes down what it is told.
#
# A bash library: source it after mount.sh.
#
#   vmc NAME ARG...           vmcatcher_NAME on the site, by VMCATCHER_RDBMS
#   vmc_said NAME ARG...      the same; prints both outputs and then "[rc=N]"
#   cache_dirs DIR            makes the three directories of vmcatcher_cache below DIR and has
#                             VMCATCHER_CACHE_DIR_* name them
#   event_writer FILE         makes the handler FILE: it appends "=== TYPE" and its VMCATCHER_EVENT_*
#                             variables, sorted, to FILE.log, and the directories it found the image in
#                             to FILE.found
#   event_types LOG           the types in such a log, joined by blanks

vmcatcher_names=(vmcatcher_cache vmcatcher_endorser vmcatcher_image vmcatcher_subscribe)

# A build directory that was copied for its reachability holds programs alone.
for vmc_name in "${vmcatcher_names[@]}"; do
	[ -e "$VMIMAGEFS_BUILD/$vmc_name" ] || ln -s vmimagectl "$VMIMAGEFS_BUILD/$vmc_name" ||
	    bail "there is no $vmc_name"
done

# What the caller's environment says must not matter.
unset "${!VMCATCHER_@}"

vmc() {
	local name=vmcatcher_$1

	shift
	# shellcheck disable=SC2086 # a list of words
	VMIMAGEFS_CONFIG=$CONF VMCATCHER_RDBMS=sqlite:///$SITE/state/catalogue.db \
	    ${VMI_WRAP:-} "$VMIMAGEFS_BUILD/$name" "$@"
}

vmc_said() {
	local status=0

	vmc "$@" 2>&1 </dev/null || status=$?
	echo "[rc=$status]"
}

cache_dirs() {
	mkdir -p "$1" "$1/partial" "$1/expired" && chown nobody:nogroup "$1" "$1/partial" "$1/expired"
	export VMCATCHER_CACHE_DIR_CACHE=$1 VMCATCHER_CACHE_DIR_DOWNLOAD=$1/partial
	export VMCATCHER_CACHE_DIR_EXPIRE=$1/expired
}

event_writer() {
	cat >"$1" <<-'EOT'
		#!/bin/sh
		{
			printf '=== %s\n' "$VMCATCHER_EVENT_TYPE"
			env | grep '^VMCATCHER_EVENT_' | LC_ALL=C sort
		} >>"$0.log"
		for dir in cache download expire; do
			case $dir in
			cache)		path=$VMCATCHER_CACHE_DIR_CACHE ;;
			download)	path=$VMCATCHER_CACHE_DIR_DOWNLOAD ;;
			expire)		path=$VMCATCHER_CACHE_DIR_EXPIRE ;;
			esac
			[ -n "$VMCATCHER_EVENT_FILENAME" ] && [ -f "$path$VMCATCHER_EVENT_FILENAME" ] &&
			    printf '%s %s %s\n' "$VMCATCHER_EVENT_TYPE" "$dir" "$(wc -c <"$path$VMCATCHER_EVENT_FILENAME")"
		done >>"$0.found"
		exit 0
	EOT
	chmod 755 "$1"
	: >"$1.log"
	: >"$1.found"
}

event_types() {
	sed -n 's/^=== //p' "$1" | paste -sd' '
}
