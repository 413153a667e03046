#!/bin/bash
# The manual agrees with the programs: verbs, options, keys, defaults, names, codes, in both
# directions.  What there is comes from the programs themselves and from the tables in their
# sources; what is said comes from the mdoc pages, where each thing has an item of its own.

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/lib/tap.sh
. "$here/../lib/tap.sh"
need mandoc awk
top=$(cd "$here/../.." && pwd)
build=${VMIMAGEFS_BUILD:-$top/.build}
[ -x "$build/vmimagectl" ] || bail "there is no vmimagectl in $build"
unset VMIMAGEFS_CONFIG
work=$(mktemp -d) || bail 'mktemp failed'
at_exit rm -rf "$work"

ctl_page=$top/tools/vmimagectl.1
conf_page=$top/core/vmimagefs.conf.5
tree_page=$top/fs/vmimagefs.7
daemon_page=$top/fs/vmimagefs.8
pages=$(find "$top/core" "$top/fs" "$top/tools" -maxdepth 1 -name '*.[1578]' | sort)

# agree TITLE WANTED FOUND: two lists, in any order.  What only one of them has is shown.
agree() {
	local wanted found

	wanted=$(sort -u <<<"$2")
	found=$(sort -u <<<"$3")
	if [ -z "$2" ]; then
		not_ok "$1" 'the programs and sources gave no list'
	elif [ "$wanted" = "$found" ]; then
		ok "$1"
	else
		not_ok "$1" 'there, and not in the manual:' "$(comm -23 <(echo "$wanted") <(echo "$found"))" \
		    'in the manual, and not there:' "$(comm -13 <(echo "$wanted") <(echo "$found"))"
	fi
}

# ---- form ----------------------------------------------------------------------------------------

# That other packages' pages are not installed here says nothing of ours.
lint() {
	mandoc -T lint -W style "$1" 2>&1 | grep -vE 'referenced manual not found|outdated mandoc.db'
}

check_is 'there is a page for each program, the configuration and the tree' \
    'core/vmimagefs.conf.5 fs/vmimagefs.7 fs/vmimagefs.8 tools/vmcatcher.1 tools/vmimagectl.1 tools/vmimagefs-fetcher.8 tools/vmimagefs-verifier.8' \
    "$(paste -sd' ' <<<"${pages//$top\//}")"
for page in $pages; do
	check_is "${page##*/} is clean mdoc" '' "$(lint "$page")"
done
# A page of ours that another one refers to must be there.
check_is 'references between the pages lead somewhere' '' "$(
	for page in $pages; do
		grep -hoE '^\.Xr vmimage[a-z.-]* [0-9]' "$page"
	done | sort -u | while read -r _ name section; do
		grep -q "/$name\.$section\$" <<<"$pages" || echo "$name($section)"
	done)"

# ---- vmimagectl ----------------------------------------------------------------------------------

# Lines "  VERB [VERB]  what it does" of the help.
verbs=$("$build/vmimagectl" --help | sed -nE 's/^  ([a-z][a-z-]*( [a-z][a-z-]*)?)  +.*/\1/p')

# "verb --option"; what is before the first verb has the verb "".
help_options() {
	local verb

	"$build/vmimagectl" --help | grep -oE '^  -[^ ].*' | sed 's/   *[a-z].*//' |
	    grep -oE -- '-[a-zA-Z-]+' | sed 's/^/ /'
	while read -r verb; do
		# shellcheck disable=SC2086 # two words
		"$build/vmimagectl" $verb --help | sed -nE "s/^  (--?[a-zA-Z0-9-]+).*/$verb \1/p"
	done <<<"$verbs"
}

# Items of the page: ".It Cm verb Ar ..." begins a verb, ".It Fl -option" belongs to it.  A section
# without verbs in its items ends it.
page_verbs() {
	sed -nE 's/^\.It Cm ([a-z][a-z -]*[a-z])( (Ar|Fl|Op) .*)?$/\1/p' "$ctl_page"
}

page_options() {
	awk '/^\.S[hs] / { verb = "" }
	    /^\.It Cm / {
		verb = $3
		for (i = 4; i <= NF && $i != "Ar" && $i != "Fl" && $i != "Op"; i++)
			verb = verb " " $i
	    }
	    /^\.It Fl / {
		for (i = 3; i <= NF && $i != "Ar" && $i != "Cm"; i++)
			if ($i != "," && $i != "Fl")
				print verb " -" $i
	    }' "$ctl_page"
}

agree 'every verb of vmimagectl is in its page, and no other' "$verbs" "$(page_verbs)"
agree 'every option of each verb is in the page, and no other' "$(help_options)" "$(page_options)"
# Whatever --help offers is accepted: an option that the parser does not know ends with 2 and its name.
check_is 'every verb has a help with a synopsis and an example' '' "$(
	while read -r verb; do
		# shellcheck disable=SC2086 # two words
		"$build/vmimagectl" $verb --help >"$work/help" || echo "$verb: status $?"
		grep -qF "[-q|-v] $verb" "$work/help" || echo "$verb: no synopsis"
		grep -q '^example: vmimagectl ' "$work/help" || echo "$verb: no example"
	done <<<"$verbs")"

agree 'every refusal code has its line' \
    "$(sed -nE 's/^[[:space:]]CODE_[A-Z_]+ = ([1-9][0-9]*).*/\1/p' "$top/core/code.h")" \
    "$(sed -n '/^\.Ss Refusal codes/,/^\.Sh/p' "$ctl_page" | sed -nE 's/^\.It ([0-9]+)$/\1/p')"
agree 'every exit status has its line' \
    "$(sed -nE 's/^[[:space:]]EXIT_[A-Z_]+ = ([0-9]+),/\1/p' "$top/core/code.h")" \
    "$(sed -n '/^\.Sh EXIT STATUS/,/^\.Sh EX/p' "$ctl_page" | sed -nE 's/^\.It ([0-9]+)$/\1/p')"

# ---- the names of vmcatcher's commands -------------------------------------------------------------

vmcatcher_page=$top/tools/vmcatcher.1
mkdir "$work/names"
for name in cache endorser image subscribe; do
	ln -s "$build/vmimagectl" "$work/names/vmcatcher_$name"
done

# "COMMAND -l --list"; an option that all four have stands once in the page, before the commands.
vmcatcher_help() {
	for name in cache endorser image subscribe; do
		"$work/names/vmcatcher_$name" --help |
		    sed -nE "s/^  (-([A-Za-z])( [A-Z0-9_]+)?, )?--([a-z0-9_-]+).*/\2 \4/p" |
		    grep -vE ' (cert-dir|database|format|help|log-config|log-sql-info|quiet|verbose|version)$' |
		    sed "s/^/$name /"
	done
}

vmcatcher_items() {
	awk '/^\.S[hs] / { name = $2; sub(/^vmcatcher_/, "", name) }
	    /^\.It Fl / && name != "DESCRIPTION" && name != "Where" {
		letter = ""
		for (i = 3; i <= NF && $i != "Ar"; i++)
			if ($i ~ /^-/)
				print name, letter, substr($i, 2)
			else if ($i != "," && $i != "Fl")
				letter = $i
	    }' "$vmcatcher_page" | tr -s ' '
}

agree 'every option of each of vmcatcher'\''s commands is in their page, and no other' \
    "$(vmcatcher_help | tr -s ' ')" "$(vmcatcher_items)"
agree 'so is every variable that stands for one' \
    "$(grep -oE '"VMCATCHER_[A-Z_]+"' "$top/tools/vmcatcher_options.c" | tr -d '"')" \
    "$(sed -n '/^\.Sh ENVIRONMENT/,/^\.Sh FILES/p' "$vmcatcher_page" | grep '^\.It Ev' | grep -oE 'VMCATCHER_[A-Z_]+')"
agree 'and every exit status of vmcatcher'\''s, 10 to 39, that there is' \
    "$(sed -nE 's/^[[:space:]]CODE_[A-Z_]+ = ([1-3][0-9]),.*/\1/p' "$top/core/code.h")" \
    "$(sed -n '/^\.Sh EXIT STATUS/,/^\.Sh EX/p' "$vmcatcher_page" | grep '^\.It [1-3][0-9]' | grep -oE '[0-9]+')"

# ---- the configuration ---------------------------------------------------------------------------

# Where one file is named event_dir is none by default: a site of its own, with handlers of its own.
echo 'event_dir = /etc/vmimagefs/handlers.d' >"$work/empty.conf"
config_show() {
	"$build/vmimagectl" -c "$1" config show | sed 's/    # .*//'
}

# ".It Ic key = ..." and, later, "The default is" with the value in the next line.
page_keys() {
	awk '/^\.It Ic / { key = $3 == "tls_ca" && $4 == "." ? "tls_ca.LIST" : $3 }
	    /^The default is$/ { getline; sub(/^\.Ql /, ""); sub(/ \.$/, ""); print key " = " $0 }' "$conf_page"
}

agree 'every key of the configuration is in its page with its default, and no other' \
    "$(config_show "$work/empty.conf")" "$(page_keys)"
printf 'tls_ca.a-list = /etc\n' >"$work/list.conf"
check_like 'tls_ca.LIST, which has no default, is a key as well' 'tls_ca\.a-list = /etc' \
    "$(config_show "$work/list.conf")"
check 'tls_ca.LIST has an item' grep -qx '\.It Ic tls_ca \. Ns Ar LIST = Ar path' "$conf_page"
sed -E 's/^#([a-z_]+ = )/\1/' "$top/tools/vmimagefs.conf.example" >"$work/example.conf"
chmod 644 "$work/example.conf"
agree 'the example of a configuration shows every key with its default' \
    "$(config_show "$work/empty.conf")" "$(grep -E '^[a-z_.]+ = ' "$work/example.conf")"
check 'the example of a configuration can be read' \
    "$build/vmimagectl" -c "$top/tools/vmimagefs.conf.example" config show
check_is 'with all its lines in force nothing changes' "$(config_show "$work/empty.conf")" \
    "$(config_show "$work/example.conf")"

# ---- the daemon and its helpers ------------------------------------------------------------------

# One option a line, as "-f", "--help" or "config=".
daemon_help() {
	"$build/vmimagefs" --help | sed -nE -e 's/^  (-.*[^ ])   +.*/\1/p' \
	    -e 's/^      ([a-z_]+)(=[A-Z]+)?  +.*/\1/p' | tr -d ',' | tr ' ' '\n' | grep -vE '^(OPTION.*|)$'
	# The one of them that stands without a line of its own.
	echo -o
}

daemon_page() {
	awk '/^\.Sh / { here = $2 == "DESCRIPTION" }
	    /^\.Ss / { here = 0 }
	    here && /^\.It Fl / {
		for (i = 3; i <= NF && $i != "Ar"; i++)
			if ($i != "," && $i != "Fl")
				print "-" $i
	    }
	    here && /^\.It Cm / { print $3 }' "$daemon_page"
}

agree 'every option of vmimagefs is in its page, and no other' "$(daemon_help)" "$(daemon_page)"

helper_options() {
	sed -nE 's/^  (-[a-zA-Z, -]*[a-z]).*/\1/p' <<<"$1" | grep -oE -- '--?[a-zA-Z-]+'
}

helper_page() {
	awk '/^\.It Fl / {
		for (i = 3; i <= NF && $i != "Ar"; i++)
			if ($i != "," && $i != "Fl")
				print "-" $i
	    }' "$1"
}

for helper in fetcher verifier; do
	agree "every option of vmimagefs-$helper is in its page, and no other" \
	    "$(helper_options "$("$build/vmimagefs-$helper" --help)")" \
	    "$(helper_page "$top/tools/vmimagefs-$helper.8")"
done

# ---- the tree ------------------------------------------------------------------------------------

# listing TABLE: the names in a table of fs/listing.c.
listing() {
	sed -n "/ $1\\[\\] = {/,/^};/p" "$top/fs/listing.c" | sed -nE 's/^[[:space:]]\{ "([^"]+)", .*/\1/p'
}

# Files that the field table gives to images: the fifth string of an entry, which may go over lines.
field_files() {
	sed -n '/^const struct field field_table/,/^};/p' "$top/core/field.c" | tr -d '\n\t' |
	    grep -oE '\{ *FIELD_[A-Z0-9_]+, *[^}]*\}' |
	    sed -E 's/EVENT "/"/' | awk -F, '{ gsub(/[ "]/, "", $5); if ($5 != "NULL") print $5 }'
}

# names_in SECTION: the names in its items.
names_in() {
	awk -v section=".Ss $1" '/^\.S[sh] / { here = $0 == section }
	    here && /^\.It Pa / { for (i = 3; i <= NF; i++) if ($i != "," && $i != "Pa") print $i }' "$tree_page"
}

agree 'every name of the root of the tree is in vmimagefs(7), and no other' \
    "$(listing root_table)" "$(names_in 'The root')"
agree 'every name of images/ID' "$(field_files; listing image_table)" "$(names_in images/ID)"
agree 'every name of subscriptions/LIST' "$(listing sub_table)" "$(names_in subscriptions/LIST)"
agree 'every name of a refused entry' "$(listing refused_table)" \
    "$(names_in subscriptions/LIST/refused/ENTRY)"
agree 'every name of endorsers/NAME' "$(listing endorser_table)" "$(names_in endorsers/NAME)"
agree 'every name that expired/ID.TIME has beside those of the list' "$(listing expired_table)" \
    "$(names_in expired/ID.TIME)"
agree 'every extended attribute' \
    "$(sed -nE 's/^[[:space:]]\{ PREFIX "([a-z0-9]+)".*/user.vmimage.\1/p' "$top/fs/xattr.c")" \
    "$(names_in 'Extended attributes')"

# literals_in SECTION: the words that its items explain.
literals_in() {
	awk -v section=".Ss $1" '/^\.S[sh] / { here = $0 == section }
	    here && /^\.It Li / { for (i = 3; i <= NF; i++) if ($i != ",") print $i }' "$tree_page"
}

# strings FILE PATTERN: the strings between a line that matches and the next "};".
strings() {
	sed -n "/$2/,/^};/p" "$top/$1" | grep -oE '"[^"]+"' | tr -d '"'
}

agree 'every state of an image' "$(strings fs/text.c ' state_names\[N_')" "$(literals_in States)"
agree 'every reason of an expiry' "$(strings core/cat_expired.c ' reason_words\[N_')" "$(literals_in Expiry)"
agree 'every state of a subscription' \
    "$(grep -h ' subscription_words\[' "$top/core/cat_subscription.c" | grep -oE '"[^"]+"' | tr -d '"')" \
    "$(awk '/^\.Ss / { here = $2 == "subscriptions/LIST" }
	/^\.It / { item = $3 }
	here && item == "state" && /^\.Li / { for (i = 2; i <= NF; i++) if ($i ~ /[a-z]/) print $i }' "$tree_page")"

# ---- service files -------------------------------------------------------------------------------

if command -v systemd-analyze >/dev/null; then
	# They name programs without a directory; here these are not installed.
	mkdir "$work/units"
	for unit in vmimagefs.service vmimagefs-update.service vmimagefs-update.timer; do
		sed "s,^ExecStart=,&$build/," "$top/tools/$unit" >"$work/units/$unit"
	done
	check 'systemd understands the units' systemd-analyze verify --man=no "$work"/units/*
else
	skip 'systemd understands the units' 'systemd-analyze is not installed'
fi

plan_done
