#!/bin/bash
# vmimagectl by the names of vmcatcher's commands: options, stores, columns, keys, exit statuses.
#
# Everything runs as a user who is not root, in a directory of his own, as sites have it.  What is printed
# is compared with tests/data/golden, byte for byte but for addresses and times; `VMI_GOLDEN=write` writes
# those files anew.  The names, numbers and order of what vmcatcher 0.6.3 printed in a session that was
# recorded (tests/data/vmcatcher-0.6/session.txt) are compared with the record itself.

set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/mount.sh"
. "$here/../lib/vmcatcher.sh"
. "$here/../lib/pki.sh"
. "$here/../lib/web.sh"
need root openssl sha512sum jq setpriv

GOLDEN=$here/../data/golden
RECORD=$here/../data/vmcatcher-0.6
A=265a07dd-ba19-556e-981c-7a5d4d170896
B=86b1c337-4317-56f3-ab64-f758ffc8de52
LIST=63175437-7d59-4851-b333-c96cb6545a86

# ---- helpers ---------------------------------------------------------------------------------------

BASE=$(mktemp -d)
at_exit rm -rf --one-file-system "$BASE"
chmod 755 "$BASE"
WWW=$BASE/www
mkdir -m 755 "$WWW" "$BASE/no-site"
pki_init "$BASE/pki" && pki_ca grid 'dn=/DC=org/DC=example/CN=Test Grid CA' &&
    pki_user signer grid 'dn=/DC=org/DC=example/OU=People/CN=Test endorser' &&
    pki_trust "$BASE/certificates" grid || bail 'no PKI'
SIGNER=(-S "$(pki_dn signer)" -I "$(pki_issuer signer)")

# A working directory with three directories of a cache; what runs there runs as nobody.
new_home() {
	HOME_DIR=$(mktemp -d "$BASE/home.XXXXXX") || bail 'mktemp failed'
	mkdir -p "$HOME_DIR/cache/partial" "$HOME_DIR/cache/expired"
	chown -R nobody:nogroup "$HOME_DIR"
	chmod 755 "$HOME_DIR"
}

# An account's own command: as UID COMMAND...
as() {
	local uid=$1

	shift
	# shellcheck disable=SC2086 # a list of words
	(cd "$HOME_DIR" && exec setpriv --reuid="$uid" --regid=nogroup --clear-groups \
	    env VMIMAGEFS_CONFIG="$BASE/no-site.conf" VMCATCHER_DIR_CERT="$BASE/certificates" \
	    VMCATCHER_CACHE_DIR_CACHE=cache VMCATCHER_CACHE_DIR_DOWNLOAD=cache/partial \
	    VMCATCHER_CACHE_DIR_EXPIRE=cache/expired "$@")
}

# bare NAME ARG...: vmcatcher_NAME without a database
bare() {
	local program=$VMIMAGEFS_BUILD/vmcatcher_$1

	shift
	# shellcheck disable=SC2086 # a list of words
	as nobody ${VMI_WRAP:-} "$program" "$@"
}

# vm NAME ARG...: with one
vm() {
	local name=$1

	shift
	VMCATCHER_RDBMS=${DATABASE:-sqlite:///vmcatcher.db} bare "$name" "$@"
}

# Both outputs, and the exit status in the record's words.
said() {
	local status=0

	"$@" 2>&1 </dev/null || status=$?
	printf '\n  [rc=%d]\n' "$status"
}

only_out() {
	"$@" 2>/dev/null </dev/null
}

# What differs from run to run.
normal() {
	sed -E -e "s,$WEB_URL,http://127.0.0.1:18480,g; s,$BASE,/base,g; s,/base/home\.[A-Za-z0-9]+,/home,g" \
	    -e 's,[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z,TIME,g'
}

# golden TITLE NAME COMMAND...: what it prints on standard output is the file
golden() {
	local title=$1 name=$2 found

	shift 2
	only_out "$@" | normal >"$BASE/found"
	if [ "${VMI_GOLDEN:-}" = write ]; then
		mkdir -p "$GOLDEN" && cp "$BASE/found" "$GOLDEN/$name"
	fi
	found=$(diff "$GOLDEN/$name" "$BASE/found" 2>&1) && ok "$title" || not_ok "$title" "$found"
}

# entry ID FILE VERSION
entry() {
	pki_image "$1" "Image $2" "$3" "$WEB_URL/$2" "$(stat -c %s "$WWW/$2")" \
	    "$(sha512sum <"$WWW/$2" | cut -d' ' -f1)"
}

# publish VERSION ENTRY...
publish() {
	local version=$1

	shift
	PKI_LIST_URI=$WEB_URL/flow.list pki_list "$BASE/flow.json" "$LIST" "$version" "$(pki_dn signer)" \
	    "$(pki_issuer signer)" "$@" && pki_sign signer "$BASE/flow.json" "$WWW/flow.list" &&
	    chmod 644 "$WWW/flow.list" || bail 'no list'
}

printf 'aaaa%.0s' {1..25000} >"$WWW/a.img"
printf 'bbbb%.0s' {1..25000} >"$WWW/b.img"
chmod 644 "$WWW"/*.img
printf 'state_dir = %s/state\nrun_dir = %s/run\ncache_dir = %s/cache\nmountpoint = %s/mnt\nuser = nobody\nlog = stderr\n' \
    "$BASE/no-site" "$BASE/no-site" "$BASE/no-site" "$BASE/no-site" >"$BASE/no-site.conf"
web_up "$WWW"
new_home

# ---- options ---------------------------------------------------------------------------------------

names=(endorser subscribe image cache)
for name in "${names[@]}"; do
	check_is "vmcatcher_$name tells vmcatcher's version" "vmcatcher_$name 0.6.3" "$(bare $name --version)"
	golden "vmcatcher_$name --help prints its options" "$name-help" bare $name --help
	check_is "A01 an option that vmcatcher_$name does not have is refused as Python's optparse does" \
	    "Usage: vmcatcher_$name [options]

vmcatcher_$name: error: no such option: --x

  [rc=2]" "$(said bare $name --x)"
done
check_like 'a long option may be cut short' 'No endorsers selected' "$(said bare endorser --creat)"
check_like 'but not so that two are meant' 'error: ambiguous option: --li \(--link, --links, --list\?\).*rc=2' \
    "$(said bare endorser --li | paste -sd' ')"
check_like 'a whole name is never ambiguous' 'No endorsers selected' "$(said bare endorser --link)"
check_like 'letters may stand together, the last with its value' "Action 'info'|does not match" \
    "$(said bare image -d sqlite:///letters.db -viunix | paste -sd' ')"
check_like 'A01 an option without its value is refused' 'error: -d option requires an argument.*rc=2' \
    "$(said bare image -l -d | paste -sd' ')"
check_like 'A01 a switch takes no value' 'error: --list option does not take a value.*rc=2' \
    "$(said bare image --list=yes | paste -sd' ')"
check_like 'A01 an argument that is not UTF-8 is refused' 'error: argument 2 is not UTF-8.*rc=2' \
    "$(said bare image -u $'\xff' | paste -sd' ')"
check_like 'A01 an argument of 100,000 bytes is refused' 'error: argument 2 is longer.*rc=2' \
    "$(said bare image -u "$(printf 'x%.0s' {1..100000})" | paste -sd' ')"
check_is 'no action is an error' 'ERROR:main:No actions selected

  [rc=1]' "$(said bare image)"
check_is 'two are' 'ERROR:main:More than one action selected.

  [rc=1]' "$(said bare image -l -a)"
check_is 'an action that needs a selection says so' "ERROR:main:Action 'add' requires an image to be selected.

  [rc=1]" "$(said bare image -a)"
check_like 'A07 selecting in two ways is an error' '^ERROR:main:Conflicting selectors.* .rc=1' \
    "$(said bare image -i -u x -s y | paste -sd' ')"
check_like 'a format that does not exist is an error' "^ERROR:main:Invalid format 'xml' .*rc=1" \
    "$(said bare image -l -f xml | paste -sd' ')"
check_like 'also from the environment' "^ERROR:main:Invalid format 'xml' .*rc=1" \
    "$(VMCATCHER_OUTPUT_FORMAT=xml said bare image -l | paste -sd' ')"
check_like 'a log configuration must exist' "^ERROR:main:Logfile configuration file '/nonexistent' was not found.*rc=1" \
    "$(said bare image -l --log-config /nonexistent | paste -sd' ')"
check_like 'and that it is not used is said' '^WARNING:main:.*passwd.* is not used' \
    "$(VMCATCHER_LOG_CONF=/etc/passwd said bare image -l -L x -d sqlite:///log.db | paste -sd' ')"
check_not 'nothing was made on the way' test -e "$BASE/no-site/state"

# ---- A12: which store -------------------------------------------------------------------------------

check_like 'A12 without a database the store of the site is meant, and said' \
    "^INFO:main:Defaulting DB connection to 'sqlite:///$BASE/no-site/state/catalogue.db'" \
    "$(mkdir -p "$BASE/no-site" && chown nobody "$BASE/no-site"; said bare image -v -l)"
check_status 'A12 a path that does not exist becomes a store' 0 bare endorser -d sqlite:///rel.db -l
check_is 'A12 relative to the working directory, with a link to its catalogue' \
    "$HOME_DIR/rel.db.vmimagefs/state/catalogue.db" "$(readlink -f "$HOME_DIR/rel.db")"
check_is 'A12 of the caller, passable, with a catalogue that is his alone' 'nobody 755 600' \
    "$(stat -c '%U %a' "$HOME_DIR/rel.db.vmimagefs") $(stat -Lc %a "$HOME_DIR/rel.db")"
bare endorser -d sqlite:///rel.db -C -e one "${SIGNER[@]}"
check_like 'A12 four slashes are an absolute path' "^'one'" "$(bare endorser -d "sqlite:///$HOME_DIR/rel.db" -l)"
bare endorser -d sqlite:///../"${HOME_DIR##*/}"/cache/../up.db -C -e one "${SIGNER[@]}"
check_like 'A12 a path with .. is the file that it leads to' "^'one'" "$(bare endorser -d sqlite:///up.db -l)"
check_like 'A12 VMCATCHER_RDBMS is the same as -d' "^'one'" "$(DATABASE=sqlite:///rel.db vm endorser -l)"
check_is 'A12 which overrides it' '' "$(DATABASE=sqlite:///rel.db vm endorser -d sqlite:///other.db -l)"
check_like 'A12 the catalogue itself may be named' "^'one'" \
    "$(bare endorser -d "sqlite:///$HOME_DIR/rel.db.vmimagefs/state/catalogue.db" -l)"
check_is 'A12 its configuration is beside it, and serves vmimagectl' one \
    "$(as nobody "$VMIMAGEFS_BUILD/vmimagectl" -c "$HOME_DIR/rel.db.vmimagefs/vmimagefs.conf" --json endorser list |
    jq -r '.endorsers[].name')"
rm "$HOME_DIR/rel.db"
check_like 'A12 a link that was lost is made anew' "^'one'" "$(bare endorser -d sqlite:///rel.db -l)"
refused=$(said bare image -l -d mysql://me:secret@host/vmcatcher | paste -sd' ')
check_like 'A12 another kind of database is refused' '^ERROR:main:.*only sqlite:.*rc=1' "$refused"
check_not 'A12 without repeating its password' grep -q secret <<<"$refused"
for url in sqlite:// sqlite:///:memory: sqlite:///cache/ 'sqlite:///x?timeout=5' sqlite:///cache \
    sqlite:///nowhere/x.db vmcatcher.db sqlite:///. 'sqlite:///x #y.db' $'sqlite:///x\ny.db'; do
	check_like "A12 ${url@Q} is refused" '^ERROR:main:.*rc=1' "$(said bare image -l -d "$url" | paste -sd' ')"
done
as nobody sh -c 'echo text >some.db'
check_like 'A12 a file that is no database is refused' 'neither a database of vmcatcher.*rc=1' \
    "$(said bare image -l -d sqlite:///some.db | paste -sd' ')"
check_is 'A12 and stays as it was' text "$(cat "$HOME_DIR/some.db")"
check_not 'A12 with nothing beside it' test -e "$HOME_DIR/some.db.vmimagefs"
check_like 'A12 a path that leaves no room for a socket is refused' 'longer than.*rc=1' \
    "$(said bare image -l -d "sqlite:///$(printf 'd%.0s' {1..90}).db" | paste -sd' ')"
root_made=$(cd "$HOME_DIR" && VMIMAGEFS_CONFIG=$BASE/no-site.conf "$VMIMAGEFS_BUILD/vmcatcher_endorser" \
    -d sqlite:///root.db -C -e two "${SIGNER[@]}" 2>&1; stat -c %U root.db.vmimagefs root.db.vmimagefs/state)
check_is 'A12 root makes a store for the owner of the directory' $'nobody\nnobody' "$root_made"
mkdir "$HOME_DIR/shared" && chown root "$HOME_DIR/shared" && chmod 1777 "$HOME_DIR/shared"
as nobody mkdir "$HOME_DIR/shared/x.db.vmimagefs"
check_like 'X04 root does not take a directory of somebody else for the store it makes' \
    'belongs to somebody else.*rc=1' "$(said as 0 "$VMIMAGEFS_BUILD/vmcatcher_image" -l -d sqlite:///shared/x.db | paste -sd' ')"
as nobody ln -s /etc/shadow "$HOME_DIR/shared/x.db.vmimagefs/vmimagefs.conf"
cp "$HOME_DIR/some.db" "$HOME_DIR/shared/x.db"
check_like 'X04 nor repeats a line of a file that only root can read' \
    'no file of the owner of its directory.*rc=1' "$(said as 0 "$VMIMAGEFS_BUILD/vmcatcher_image" -l -d sqlite:///shared/x.db | paste -sd' ')"

as nobody sh -c "cat >old.db <'$RECORD/vmcatcher.db'"
before=$(sha512sum "$HOME_DIR/old.db")
check_like 'A12 a database of vmcatcher 0.6 is imported, and a line says so' \
    "^WARNING:main:.*'$HOME_DIR/old.db' of vmcatcher was imported into '$HOME_DIR/old.db.vmimagefs'" \
    "$(said bare endorser -l -d sqlite:///old.db | grep imported)"
check_is 'A12 what it holds is there' "'Test Endorser'	'$LIST'	'True'" "$(only_out bare endorser -K -d sqlite:///old.db)"
check_is 'A12 once' '' "$(bare endorser -K -d sqlite:///old.db 2>&1 >/dev/null)"
check_is 'A12 its images are known, wanted ones, too' "$A $B" \
    "$(only_out bare image -l -d sqlite:///old.db | awk '$2 % 2 { print $1 }' | paste -sd' ')"
bare endorser -D -e 'Test Endorser' -d sqlite:///old.db
check_is 'A12 what was changed since is not imported again' '' "$(only_out bare endorser -l -d sqlite:///old.db)"
check_is 'A12 it is never written' "$before" "$(sha512sum "$HOME_DIR/old.db")"

# ---- the recorded session ---------------------------------------------------------------------------

# step N COMMAND...: what it says is the N-th step of the record (its own commands are named there).
# Images are fetched in no certain order, there and here.
step() {
	local n=$1 order=cat wanted title

	[ "$3" != cache ] || order=sort
	shift
	title=$(grep '^\$ ' "$RECORD/session.txt" | sed -n "${n}s/^\\$ //p")
	wanted=$(awk -v n="$n" '/^\$ / { at++; next } at == n && /^(expired|partial|cache)|^[0-9a-f-]* [0-9]+$|^===|^events/ { exit }
	    at == n' "$RECORD/session.txt")
	check_is "step $n of the recorded session is the same: $title" "$($order <<<"$wanted")" \
	    "$(said "$@" | grep -v '^$' | normal | $order)"
}

new_home
publish 1.0 "$(entry $A a.img 1.0)" "$(entry $B b.img 1.0)"
step 1 vm subscribe -s "$WEB_URL/flow.list"
check_status 'an endorser is created' 0 vm endorser -C -e 'Test Endorser' "${SIGNER[@]}"
step 2 vm endorser -l
step 3 vm subscribe -v -s "$WEB_URL/flow.list"
step 4 vm subscribe -l
step 5 vm image -l
golden 'an image that is only known has no list' image-info-known.lines vm image -i -u $A
step 6 vm subscribe -v -U
step 7 vm image -l
check_is 'A07 adding images by their uuid says nothing' '
  [rc=0]' "$(said vm image -a -u $A -u $B)"
step 8 vm image -l
step 9 vm cache -v -x 'cat >/dev/null'

golden 'endorsers, as lines' endorser-list.lines vm endorser -l
golden 'endorsers, as json' endorser-list.json vm endorser -l -f json
golden 'links, as lines' endorser-links.lines vm endorser -K
golden 'links, as json' endorser-links.json vm endorser -K -f json
golden 'an endorser, as lines' endorser-info.lines vm endorser -i -e 'Test Endorser'
golden 'an endorser, as json' endorser-info.json vm endorser -i -e 'Test Endorser' -f json
golden 'images, as lines' image-list.lines vm image -l
golden 'images, as json' image-list.json vm image -l -f json
golden 'an image, as lines, with its architecture' image-info.lines vm image -i -u $A
golden 'an image, as json' image-info.json vm image -i -u $A -f json
golden 'two images, as lines' image-info-two.lines vm image -i -u $A -u $B
for name in endorser-list.json endorser-links.json endorser-info.json image-list.json image-info.json; do
	check "$name is JSON" jq -e . "$GOLDEN/$name"
done
check_is 'JSON is written as Python 2 wrote it: a blank after each comma' 0 \
    "$(grep -cE ',$' "$GOLDEN/image-info.json")"
vm image -i -u $A -f SMIME >"$BASE/smime"
check 'A14 the format SMIME is the message byte for byte' cmp "$WWW/flow.list" "$BASE/smime"
vm image -i -u $A -f message >"$BASE/message"
check 'A14 the format message is what was signed, with the line ends that were signed' \
    cmp <(sed 's/$/\r/' "$BASE/flow.json") "$BASE/message"
check_is 'message and SMIME list as lines do' "$(vm image -l)" "$(vm image -l -f SMIME)"

vm image -i -u $A -u $B -o info.a
check_is '-o takes the first image, standard output the second' "$A $B" \
    "$(sed -n 's/^imagedef.dc:identifier=//p' "$HOME_DIR/info.a") $(vm image -i -u $A -u $B -o info.a |
    sed -n 's/^imagedef.dc:identifier=//p')"
check_is 'a file of -o is made by the umask of the caller' 666 \
    "$(umask 0; vm image -i -u $A -o open.a; stat -c %a "$HOME_DIR/open.a")"
check_status 'a file that cannot be written is an error' 1 vm image -i -u $A -o /nonexistent/file

publish 1.1 "$(entry $A a.img 1.1)"
step 10 vm subscribe -v -U
step 11 vm image -l
step 12 vm cache -v -x 'cat >/dev/null'
publish 1.0 "$(entry $A a.img 1.1)"
step 13 vm subscribe -v -U
check_like 'an image that has left its list is shown as far as it is known' \
    "^WARNING:vmcatcher_image.controler:Image '$B' has expired. .*imagedef.cache=1 .*rc=0" \
    "$(said vm image -i -u $B | paste -sd' ')"

# ---- A07: images by uuid and by sha512 ---------------------------------------------------------------

state_of() {
	vm image -l | awk -v id="$1" '$1 == id { print $2 }'
}

publish 1.2 "$(entry $A a.img 1.2)" "$(entry $B a.img 1.2)"
vm subscribe -U
same=$(sha512sum <"$WWW/a.img" | cut -d' ' -f1)
check_status 'A07 removing by uuid' 0 vm image -r -u $A
check_is 'A07 leaves the image available and not wanted' 2 "$(state_of $A)"
check_status 'A07 adding by sha512' 0 vm image -a -s "$same"
check_is 'A07 adds every image that has it' '3 3' "$(state_of $A) $(state_of $B)"
check_status 'A07 removing by sha512' 0 vm image -r -s "$same"
check_is 'A07 removes every image that has it' '2 2' "$(state_of $A) $(state_of $B)"
for what in '-u 00000000-0000-4000-8000-000000000000' "-u ${A:0:8}" '-u Image' "-s ${same:0:64}0000" '-s x'; do
	# shellcheck disable=SC2086 # two words
	check_is "A07 adding what is not there ($what) says nothing" '
  [rc=0]' "$(said vm image -a $what)"
done
check_is 'A07 and changes nothing' '2 2' "$(state_of $A) $(state_of $B)"
check_is 'A07 the information on it is a warning' \
    "WARNING:vmcatcher_image.controler:Selections 'x' does not match any known images.

  [rc=0]" "$(said vm image -i -u x)"
check_is 'A07 of the images with one sha512 all are shown' "$A $B" \
    "$(vm image -i -s "$same" | sed -n 's/^imagedef.dc:identifier=//p' | paste -sd' ')"

title=$'Zo\u00eb \U1F40E \e[2J'
publish 1.3 "$(entry $A a.img 1.3 | jq --arg title "$title" '.["hv:image"]["dc:title"] = $title')" \
    "$(entry $B a.img 1.3)"
check_status 'a list with text outside ASCII is taken' 0 vm subscribe -U
check_is 'which lines show as it is, but for what a terminal would obey' $'Zo\u00eb \U1F40E \\x1b[2J' \
    "$(vm image -i -u $A | sed -n 's/^image.dc:title=//p')"
check_like 'and JSON as Python does' '"title": "Zo\\u00eb \\ud83d\\udc0e \\u001b\[2J", $' \
    "$(vm image -i -u $A -f json | grep title)"
check_is 'without a loss' "$title" "$(vm image -i -u $A -f json | jq -r .ImageInstance.title)"

# ---- endorsers ---------------------------------------------------------------------------------------

check_is 'a credential that is there already cannot be added' \
    "ERROR:db_controler:Database integrity error while adding '$(pki_dn signer)' credentials to  'Other'. [rc=12]" \
    "$(said vm endorser -C -e Other "${SIGNER[@]}" | grep -v 'registered already' | grep . | paste -sd' ' | tr -s ' ' |
    sed 's/to '\''/to  '\''/')"
check_not 'and leaves no endorser behind' grep -q Other <(vm endorser -l)
check_status 'one issuer serves many subjects' 0 vm endorser -C -e many -n /CN=a --dn /CN=b -S /CN=ignored -I /CN=ca
check_is 'all of them are there' "'many'	'/CN=a'	'/CN=ca'
'many'	'/CN=b'	'/CN=ca'" "$(vm endorser -l | grep many)"
check_like 'of two issuers each belongs to one subject' 'Unsure how to add.*rc=12' \
    "$(said vm endorser -C -e odd -n /CN=1 -n /CN=2 -n /CN=3 -I /CN=x -I /CN=y | paste -sd' ')"
check_like 'an issuer without a subject is refused' 'Cant add issuer credentials.*rc=12' \
    "$(said vm endorser -C -e odd -n /CN=1 -I /CN=x -I /CN=y | paste -sd' ')"
check_like 'what is to be created needs a name' '^ERROR:main:No endorsers selected..*rc=1' \
    "$(said vm endorser -C "${SIGNER[@]}" | paste -sd' ')"
check_like 'a subject' '^ERROR:main:No subjects selected..*rc=1' "$(said vm endorser -C -e x -I /CN=ca | paste -sd' ')"
check_like 'an issuer' '^ERROR:main:No issuers selected..*rc=1' "$(said vm endorser -C -e x -n /CN=a | paste -sd' ')"
check_like 'only one can be created at a time' 'More than one endorser cannot be created.*rc=1' \
    "$(said vm endorser -C -e x -e y -n /CN=z -I /CN=ca | paste -sd' ')"
check_is 'deleting one that is not there is a warning' \
    "WARNING:db_controler:Failed to find endorser 'nobody'.

  [rc=0]" "$(said vm endorser -D -e nobody)"
check_is 'so is linking one' 'WARNING:db_controler:endorser not available.

  [rc=0]' "$(said vm endorser -k -e nobody -s $LIST)"
check_is 'linking to no subscription' 'WARNING:db_controler:subscription not available.

  [rc=0]' "$(said vm endorser -k -e many -s "${LIST:0:8}")"
check_is 'linking twice' 'WARNING:db_controler:endorser and subscription already linked.

  [rc=0]' "$(said vm endorser -k -e 'Test Endorser' -s $LIST)"
check_is 'unlinking what is not linked' 'WARNING:db_controler:endorser and subscription are not linked.

  [rc=0]' "$(said vm endorser -u -e many -s $LIST)"
check_is 'and asking for one' "WARNING:db_controler:endorser 'nobody' not found

  [rc=0]" "$(said vm endorser -i -e nobody)"
check_is 'links go pairwise' "'Test Endorser' 'many'" "$(vm endorser -k -e many -s $LIST -e 'Test Endorser' -s $LIST 2>/dev/null
    vm endorser -K | cut -f1 | paste -sd' ')"
vm image -a -u $A
vm endorser -u -e 'Test Endorser' -s $LIST
check_is 'images whose signer may no longer sign are not available' '1 0' "$(state_of $A) $(state_of $B)"
vm endorser -k -e 'Test Endorser' -s $LIST
check_is 'they are when he may again, without the network' '3 2' "$(state_of $A) $(state_of $B)"

# ---- X08: what others see ----------------------------------------------------------------------------

# The command waits in the opening of a pipe that nobody reads.
waits_hidden() {
	local pid

	for pid in $(grep -lzxsF -e "$HOME_DIR/pipe" /proc/[0-9]*/cmdline | cut -d/ -f3); do
		[ "$(cat "/proc/$pid/comm")" = vmcatcher_image ] && grep -qzF 'xxx@host' "/proc/$pid/cmdline" &&
		    ! grep -qzF topsecret "/proc/$pid/cmdline" && return 0
	done
	return 1
}

as nobody mkfifo "$HOME_DIR/pipe"
vm image -i -u https://me:topsecret@host/list -o "$HOME_DIR/pipe" >"$BASE/piped" 2>&1 &
check 'X08 a password in an argument cannot be seen in the process list' wait_for 5 waits_hidden
cat "$HOME_DIR/pipe" >/dev/null
wait $!
check_is 'X08 nor in what is said of it' \
    "WARNING:vmcatcher_image.controler:Selections 'https://***@host/list' does not match any known images." \
    "$(cat "$BASE/piped")"

# ---- A19: locales, outputs ---------------------------------------------------------------------------

for locale in C tr_TR.UTF-8 ja_JP.eucJP; do
	words=(env "LC_ALL=$locale" "LANG=$locale" "VMCATCHER_RDBMS=sqlite:///vmcatcher.db")
	words+=("$VMIMAGEFS_BUILD/vmcatcher_image")
	check_is "A19 in the locale $locale the words are the same" "$(vm image -l; vm image --help)" \
	    "$(as nobody "${words[@]}" -l; as nobody "${words[@]}" --help)"
	check_status "A19 in the locale $locale letters keep their case: --INFO is no option" 2 \
	    as nobody "${words[@]}" --INFO
	check_like "A19 in the locale $locale smime is not SMIME" "Invalid format 'smime'" \
	    "$(said as nobody "${words[@]}" -l -f smime)"
done
for name in "${names[@]}"; do
	check "A19 vmcatcher_$name --help with standard output closed does not crash" \
	    sh -c '"$1" --help >&-; test $? -lt 126' - "$VMIMAGEFS_BUILD/vmcatcher_$name"
	check_status "A09 A19 vmcatcher_$name --help says that it could not be written" 1 \
	    sh -c '"$1" --help >/dev/full' - "$VMIMAGEFS_BUILD/vmcatcher_$name"
done
check_status 'A09 a list that cannot be written is an error' 1 \
    as nobody sh -c 'VMCATCHER_RDBMS=sqlite:///vmcatcher.db exec "$1" -l >/dev/full' - "$VMIMAGEFS_BUILD/vmcatcher_image"
check_is '-q -q says nothing, and fails' '
  [rc=1]' "$(said vm image -q -q -l -f nonsense)"

# ---- mounted, and asked by a stranger ---------------------------------------------------------------

mounted() {
	local wanted

	# A site for mount.sh: the store that the commands have made, mounted elsewhere than it says.
	SITE=$BASE CONF=$HOME_DIR/vmcatcher.db.vmimagefs/vmimagefs.conf MNT=$BASE/mnt LOG=$BASE/log
	mkdir "$MNT"
	at_exit mount_kill
	printf 'update_interval = off\nexpire_interval = 1s\nlog = stderr\n' >>"$CONF"
	if ! mount_up "$MNT"; then
		not_ok 'the store that -d has made is mounted by its own configuration' "$(tail -5 "$LOG")"
		return
	fi
	ok 'the store that -d has made is mounted by its own configuration'
	check_is 'mounted, the commands say the same' '3 2' "$(state_of $A) $(state_of $B)"
	check_status 'mounted, they change it' 0 vm image -a -u $B
	check 'and it shows at once' wait_for 5 grep -qx yes "$MNT/images/$B/selected"
	wanted=$(vm image -l | sort)
	check_is 'whoever may not open the catalogue is answered from the mount' "$wanted" \
	    "$(as daemon env VMCATCHER_RDBMS=sqlite:///vmcatcher.db "$VMIMAGEFS_BUILD/vmcatcher_image" -l | sort)"
	check_is 'the OpenNebula handler finds its image so' $A \
	    "$(as daemon env VMCATCHER_RDBMS=sqlite:///vmcatcher.db "$VMIMAGEFS_BUILD/vmcatcher_image" -l |
	    grep $A | awk '$2 ~ 3 {print $1}')"
	check_status 'he may change nothing' 1 \
	    as daemon env VMCATCHER_RDBMS=sqlite:///vmcatcher.db "$VMIMAGEFS_BUILD/vmcatcher_image" -r -u $A
	check 'the mount ends' mount_down
	check_like 'without a mount he is told both' 'nothing is mounted at.*rc=1' \
	    "$(said as daemon env VMCATCHER_RDBMS=sqlite:///vmcatcher.db "$VMIMAGEFS_BUILD/vmcatcher_image" -l | paste -sd' ')"
}

if [ -e /dev/fuse ]; then
	mounted
else
	skip 'the store that -d has made is mounted by its own configuration' 'no /dev/fuse'
fi

if command -v sqlite3 >/dev/null; then
	new_home
	vm endorser -C -e alice "${SIGNER[@]}"
	sqlite3 "$HOME_DIR/vmcatcher.db" 'ALTER TABLE endorser RENAME TO gone'
	check_like 'a catalogue whose tables are gone ends a command with status 15' 'no such table.*\(code 15\).*rc=15' \
	    "$(said vm endorser -l | paste -sd' ')"
else
	skip 'a catalogue whose tables are gone ends a command with status 15' 'no sqlite3'
fi

plan_done
