#!/bin/bash
# Event handlers of a daemon: what they are given, in which order, what becomes of those that fail, hang or
# flood, and that an event is delivered whatever ends the daemon.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse nginx openssl setpriv jq
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"
. "$here/../lib/lists.sh"

site_up event_timeout=2s
HANDLERS=$SITE/handlers
OUT=$SITE/out
mkdir "$HANDLERS" "$OUT"
chmod 777 "$OUT"
echo "event_dir = $HANDLERS" >>"$CONF"
lists_up
for name in apple pear plum fig; do
	image_file $name.img
done
# It may have any text but what JSON forbids.
nasty='a $(touch OUT/p) `touch OUT/p` ; touch OUT/p #'"'"' \" \\ () { :;}; %n%s \u001b[2J\nvmimagefs: error: forged'
nasty=${nasty//OUT/$OUT}
apple=$(image_entry apple "$nasty" 1 apple.img hv:format=raw LD_PRELOAD=/x.so PATH=/x IFS=x VMCATCHER_EVENT_TYPE=x)
pear=$(image_entry pear Pear 1 pear.img)
plum=$(image_entry plum Plum 1 plum.img)
fig=$(image_entry fig Fig 1 fig.img)
publish alice one.list one 1 "$apple" "$pear" "$plum" "$fig"

# handler NAME SCRIPT: a handler that does as the script says.  By rename: it may be running.
handler() {
	printf '#!/bin/sh\nOUT=%s\n%s\n' "$OUT" "$2" >"$SITE/handler.new"
	chmod 755 "$SITE/handler.new"
	mv "$SITE/handler.new" "$HANDLERS/$1"
}

# What the handler "record" was told of an image, or of everything; in one line.
told() {
	sed -n "s/ [^ ]*\$//; ${1:+/ $1\$/}p" "$OUT/told" 2>/dev/null | paste -sd'|'
}

told_is() {
	[ "$(told "$1")" = "$2" ]
}

told_ends_in() {
	[[ $(told "$1") = *"$2" ]]
}

# state_of ID TYPE: state of the last event of this type of an image, tries, and what was wrong.
state_of() {
	ctl --json events | jq -r --arg id "$1" --arg type "$2" \
	    '[.events[] | select((.identifier // "") == $id and .type == $type)] | last | "\(.state) \(.tries) \(.error)"'
}

state_like() {
	[[ $(state_of "$1" "$2") =~ $3 ]]
}

uuid_of() {
	ctl --json events | jq -r --arg id "$1" --arg type "$2" \
	    '[.events[] | select((.identifier // "") == $id and .type == $type)] | last | .uuid'
}

all_delivered() {
	[ -z "$(ctl --json events | jq -r '.events[] | select(.state == "waiting") | .uuid')" ]
}

logged() {
	grep -qE "$1" "$LOG"
}

# ---- what a handler is given --------------------------------------------------------------------

handler record 'echo "$VMCATCHER_EVENT_TYPE $VMCATCHER_EVENT_DC_IDENTIFIER $VMCATCHER_EVENT_UUID" >>$OUT/told
env | tr "\n" "\t" >$OUT/env.$VMCATCHER_EVENT_UUID
cat >$OUT/json.$VMCATCHER_EVENT_UUID'
handler probe '[ $VMCATCHER_EVENT_TYPE = AvailablePostfix ] || exit 0
grep -E "^(Uid|SigBlk|SigIgn|CapPrm|CapEff|NoNewPrivs|Seccomp):" /proc/self/status >$OUT/status
ls /proc/self/fd >$OUT/fds
cp "$VMCATCHER_CACHE_DIR_CACHE/$VMCATCHER_EVENT_FILENAME" $OUT/copy.$VMCATCHER_EVENT_DC_IDENTIFIER
cat '"$MNT"'/images/$VMCATCHER_EVENT_DC_IDENTIFIER/state >$OUT/seen.$VMCATCHER_EVENT_DC_IDENTIFIER'
printf 'event_command = echo "$VMCATCHER_EVENT_DC_TITLE" >>%s/titles; echo "$VMCATCHER_EVENT_DC_TITLE"\n' "$OUT" >>"$CONF"

ctl -q endorser add alice --from-cert "$PKI/alice.pem" && ctl -q subscribe "$WEB_URL/one.list" ||
    bail 'no subscription'
mount_up || bail "no mount: $(tail -n 5 "$LOG")"
ctl -q select apple
whole='ProcessPrefix |AvailablePrefix apple|AvailablePostfix apple|ProcessPostfix '
check 'with handlers an image is fetched when it is selected, and announced in order' \
    wait_for "$VMI_PATIENCE" told_is '' "$whole"
wait_for "$VMI_PATIENCE" all_delivered
uuid=$(uuid_of apple AvailablePostfix)
env=$OUT/env.$uuid

# env_of NAME: its value in that environment.
env_of() {
	tr '\t' '\n' <"$env" | sed -n "s/^$1=//p"
}

check_is 'events of one change are one session' 1 \
    "$(cat "$OUT"/env.* | tr '\t' '\n' | grep -a ^VMCATCHER_EVENT_UUID_SESSION= | sort -u | wc -l)"
check_is 'a handler reads the whole record from its standard input' "AvailablePostfix apple one $uuid" \
    "$(jq -r '"\(.type) \(.identifier) \(.subscription) \(.uuid)"' "$OUT/json.$uuid")"
check_is 'directories end in a slash, and the catalogue is named as vmcatcher names one' \
    "$SITE/state/vmcatcher/cache/|$SITE/state/vmcatcher/partial/|$SITE/state/vmcatcher/expired/|sqlite:///$SITE/state/catalogue.db" \
    "$(env_of VMCATCHER_CACHE_DIR_CACHE)|$(env_of VMCATCHER_CACHE_DIR_DOWNLOAD)|$(env_of VMCATCHER_CACHE_DIR_EXPIRE)|$(env_of VMCATCHER_RDBMS)"
check_like 'X02 keys of a list that look like variables are none' \
    "^$VMIMAGEFS_BUILD:/usr/local/sbin:[^x]*\|\|\|AvailablePostfix\$" \
    "$(env_of PATH)|$(env_of LD_PRELOAD)|$(env_of IFS)|$(env_of VMCATCHER_EVENT_TYPE)"
check_is 'X02 a handler has nothing of the environment that the daemon was started with' '' \
    "$(tr '\t' '\n' <"$env" | grep -aE '^(OPENSSL_CONF|TMPDIR|VMI_PATIENCE|PKI)=')"
# The last one is the directory that ls itself has open.
check_is 'C18 a handler has descriptors 0, 1 and 2' '0 1 2 3' "$(paste -sd' ' "$OUT/fds")"
check_is 'C18 a handler has no capabilities, no sandbox and default signals' \
    "$(id -u nobody) 0000000000000000 0000000000000000 0000000000000000 0000000000000000 0 0" \
    "$(awk '{ print $2 }' "$OUT/status" | paste -sd' ')"
check 'C13 a handler can read the image that it is told of' cmp "$OUT/copy.apple" "$WWW/apple.img"
check_is 'what a handler is told of can be seen in the mount' verified "$(cat "$OUT/seen.apple")"

check_not 'X01 nothing that a list says is executed' test -e "$OUT/p"
check 'X01 a value arrives as it is' cmp -s <(jq -r '.title' "$OUT/json.$uuid") \
    <(grep -av '^$' "$OUT/titles" | head -n 2)
check_is 'X03 what a handler writes cannot forge a line of the log' 0 "$(grep -c '^vmimagefs: error: forged' "$LOG")"
check 'X03 it is in the log, escaped' logged "debug: event handler 'event_command': vmimagefs: error: forged"
check 'X03 and so is a sequence for terminals' logged "event handler 'event_command': a .*\\\\x1B\\[2J"

# ---- commands in handlers -----------------------------------------------------------------------

handler command '[ "$VMCATCHER_EVENT_TYPE $VMCATCHER_EVENT_DC_IDENTIFIER" = "AvailablePostfix pear" ] || exit 0
vmimagectl -q select plum && vmimagectl path pear >$OUT/path && vmcatcher_image -l >$OUT/list'
ctl -q reload
ctl -q select pear
check 'C14 a handler can select an image, which is then announced, too' \
    wait_for "$VMI_PATIENCE" told_is plum 'AvailablePrefix plum|AvailablePostfix plum'
wait_for "$VMI_PATIENCE" all_delivered
check_is 'C14 commands in a handler mean the store of their daemon' "$(ctl path pear)" "$(cat "$OUT/path")"
check_like 'vmcatcher_image -l is there for handlers' $'(^|\n)pear\t3\tone' "$(cat "$OUT/list")"
rm "$HANDLERS/command"
ctl -q reload

# ---- a new version ------------------------------------------------------------------------------

image_file pear2.img
pear2=$(image_entry pear Pear 2 pear2.img)
publish alice one.list one 2 "$apple" "$pear2" "$plum" "$fig" && ctl -q update one
check 'the old version is told to leave before the new one is announced' \
    wait_for "$VMI_PATIENCE" told_ends_in pear \
    '|ExpirePrefix pear|ExpirePostfix pear|AvailablePrefix pear|AvailablePostfix pear'
wait_for "$VMI_PATIENCE" all_delivered
check 'C13 the handler finds the new version' cmp "$OUT/copy.pear" "$WWW/pear2.img"

# ---- handlers that misbehave --------------------------------------------------------------------

is_plum='[ "$VMCATCHER_EVENT_TYPE $VMCATCHER_EVENT_DC_IDENTIFIER" = "ExpirePrefix plum" ] || exit 0'
handler p-exit "[ \"\$VMCATCHER_EVENT_TYPE \$VMCATCHER_EVENT_DC_IDENTIFIER\" = 'ExpirePrefix apple' ] || exit 0
echo \"\$VMCATCHER_EVENT_UUID\" >>\$OUT/tried; [ -e \$OUT/works ] || { echo 'it is down' >&2; exit 1; }"
handler p-ignore "$is_plum
trap '' TERM; sleep 600 & echo \$! >\$OUT/ignore.child; echo \$\$ >\$OUT/ignore.self; while :; do sleep 1; done"
handler p-child "$is_plum
sleep 600 & echo \$! >\$OUT/child"
handler p-big "$is_plum
head -c 1000000000 /dev/zero | tr '\\0' x; exit 4"
handler p-close "$is_plum
exec <&- >&- 2>&-; exit 5"
handler p-plain 'exit 0' && chmod 644 "$HANDLERS/p-plain"
printf '#!/nonexistent/interpreter\n' >"$HANDLERS/p-lost" && chmod 755 "$HANDLERS/p-lost"
sed -i '/^event_command/d' "$CONF"
echo 'event_command = /nonexistent/handler' >>"$CONF"
check_like 'config check says which handlers cannot be run' \
    "warning: event_command: '/nonexistent/handler': No such file.*warning: event_dir: event handler '$HANDLERS/p-plain' is passed over: it is not executable" \
    "$(ctl config check)"
ctl -q reload
check 'P20 a handler that is not executable is passed over' \
    wait_for "$VMI_PATIENCE" logged "p-plain' is passed over: it is not executable"
ctl -q deselect plum apple
reads() {
	cmp "$MNT/cache/pear" "$WWW/pear2.img" && cat "$MNT/status" "$MNT/events" >/dev/null && ctl -q show pear >/dev/null
}
wait_for "$VMI_PATIENCE" test -s "$OUT/ignore.self"
check 'P20 the mount and commands go on while a handler hangs' lasting 1 reads
check 'P20 another handler is told meanwhile' \
    wait_for "$VMI_PATIENCE" told_ends_in plum '|ExpirePrefix plum|ExpirePostfix plum'
failed() {
	logged "event handler '$1' failed, [A-Za-z]* of '$2': $3; try 1 of 24, the next in 10 s"
}
check 'P20 a handler that exits 1 has failed, and its event is kept' wait_for "$VMI_PATIENCE" \
    failed p-exit apple 'exit status 1: it is down'
check 'P20 a handler that is missing has failed' \
    failed event_command plum 'exit status 127: .*not found'
check 'P20 a handler that cannot be executed has failed' \
    failed p-lost '[a-z]*' 'exit status 127: .*No such file or directory'
check 'P20 a handler that closes its descriptors has failed by its status' failed p-close plum 'exit status 5'
check 'P20 a handler that floods the log is cut' wait_for "$VMI_PATIENCE" logged \
    "event handler 'p-big' failed, ExpirePrefix of 'plum': (exit status 4|did not end within event_timeout): x{160};"
check_is 'P20 the log stays small' 1 "$(($(stat -c %s "$LOG") < 2000000))"
gone() {
	! kill -0 "$(cat "$1")" 2>/dev/null
}
check 'P20 what a handler left behind is ended when the time of the handler is over' \
    wait_for "$VMI_PATIENCE" gone "$OUT/child"
check 'P20 a handler that ignores TERM is killed' wait_for "$VMI_PATIENCE" \
    failed p-ignore plum 'did not end within event_timeout'
check 'P20 and its group with it' eval 'gone "$OUT/ignore.self" && gone "$OUT/ignore.child"'

# ---- tried again --------------------------------------------------------------------------------

rm "$HANDLERS"/p-{ignore,child,big,close,plain,lost}
sed -i '/^event_command/d' "$CONF"
ctl -q reload
check 'what waits for handlers that are gone is dropped' wait_for "$VMI_PATIENCE" \
    state_like plum ExpirePrefix '^delivered'
check 'an event that one of its handlers did not take waits' state_like apple ExpirePrefix \
    '^waiting [0-9]+ exit status 1: it is down'
check_like 'events shows what is wrong' "ExpirePrefix +apple +one +[0-9]+ +waiting +\\([0-9]+ tries: exit status 1: it is down\\)" \
    "$(ctl events)"
# By itself: killing the shell of a function would leave the command behind.
# shellcheck disable=SC2086 # a list of words
${VMI_WRAP:-} "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" --json events --follow >"$SITE/follow" 2>&1 &
follower=$!
at_exit kill $follower
ctl -q select fig
check 'other images do not wait for it' wait_for "$VMI_PATIENCE" state_like fig AvailablePostfix '^delivered'
check 'later events of the same image wait for it' state_like apple ExpirePostfix '^waiting 0'
check 'events --follow goes on' wait_for "$VMI_PATIENCE" grep -q '"type":"AvailablePostfix".*"fig"' "$SITE/follow"
check_is 'each line of it is an object with the state of its delivery' \
    "$(wc -l <"$SITE/follow")" "$(jq -c 'select(.state and .number and (.tries >= 0))' "$SITE/follow" | wc -l)"
check_like 'status counts what waits' 'events_waiting: [1-9]' "$(ctl status)"
touch "$OUT/works"
# The first further try comes 10 seconds after the failure; a slow machine may need the next ones.
check 'a failed event is delivered again by itself, with the same id' \
    wait_for 90 state_like apple ExpirePostfix '^delivered'
check_is 'a failed event keeps its id' "1 1" \
    "$(sort -u "$OUT/tried" | wc -l) $(grep -c "^ExpirePrefix apple " "$OUT/told")"

# ---- replay -------------------------------------------------------------------------------------

uuid=$(uuid_of fig AvailablePostfix)
check 'an event can be delivered again' ctl replay "${uuid:0:13}"
twice() {
	[ "$(grep -c " $uuid\$" "$OUT/told")" = 2 ]
}
check 'replay: its handlers see the same id again' wait_for "$VMI_PATIENCE" twice
check_status 'replay: an event that there is none of' 3 ctl replay 99999999
wait_for "$VMI_PATIENCE" all_delivered

# ---- the end of the daemon ----------------------------------------------------------------------

handler hold 'echo "$VMCATCHER_EVENT_TYPE $VMCATCHER_EVENT_DC_IDENTIFIER $VMCATCHER_EVENT_UUID" >>$OUT/held
echo $$ >$OUT/hold.self; trap "touch $OUT/asked; exit 1" TERM
while [ ! -e $OUT/go ]; do sleep 0.1; done'
configure event_timeout 60s
wait_for "$VMI_PATIENCE" logged 'configuration reloaded'
# The new handler is told of what is there already; let that go by.
touch "$OUT/go"
check 'a new handler is told of the images that are there' wait_for "$VMI_PATIENCE" \
    eval '[ "$(grep -c "^AvailablePostfix" "$OUT/held")" = 2 ]'
wait_for "$VMI_PATIENCE" all_delivered
rm "$OUT/go" "$OUT/held" "$OUT/hold.self"
ctl -q deselect fig
wait_for "$VMI_PATIENCE" test -s "$OUT/hold.self"
check 'P21 the daemon is killed while a handler runs' mount_kill
check 'P21 its handlers do not outlive it' wait_for "$VMI_PATIENCE" gone "$OUT/hold.self"
ctl -q select apple
check 'P21 with no daemon events wait' state_like '' ProcessPrefix '^waiting'
touch "$OUT/go"
mount_up || bail "no mount: $(tail -n 5 "$LOG")"
check 'P21 after the restart the events are delivered' wait_for "$VMI_PATIENCE" \
    eval 'grep -q "^ExpirePostfix fig" "$OUT/held" && all_delivered'
check_is 'P21 the one that was being delivered comes again, with the same id' 2 \
    "$(grep -c "$(head -n 1 "$OUT/held")" "$OUT/held")"
check 'P21 and what was selected without a daemon is announced' \
    wait_for "$VMI_PATIENCE" told_ends_in apple '|AvailablePrefix apple|AvailablePostfix apple'
wait_for "$VMI_PATIENCE" all_delivered
rm -f "$OUT"/go "$OUT"/hold.self "$OUT"/asked
ctl -q deselect apple
wait_for "$VMI_PATIENCE" test -s "$OUT/hold.self"
check 'the daemon ends although a handler runs' mount_down
check 'the handler is asked to end' test -e "$OUT/asked"
check 'and is gone' gone "$OUT/hold.self"
check_like 'what was ended so has not failed' '^waiting 0 ' "$(state_of '' ProcessPrefix)"

# ---- another user -------------------------------------------------------------------------------

rm "$HANDLERS"/*
handler who 'echo "$(id -un) $(id -Gn) $USER $(sed -n "s/^CapBnd:[^0-9a-f]*//p" /proc/self/status)" >>$OUT/who'
echo 'event_user = daemon' >>"$CONF"
mount_up || bail "no mount: $(tail -n 5 "$LOG")"
check 'a handler runs as event_user, with all its groups' wait_for "$VMI_PATIENCE" \
    grep -q "^daemon $(id -Gn daemon) daemon " "$OUT/who"
check_is 'and may use sudo, which needs the capabilities that programs of root get' \
    "$(sed -n 's/^CapBnd:[^0-9a-f]*//p' /proc/self/status)" "$(awk '{ print $NF }' "$OUT/who" | sort -u)"
check 'the daemon ends' mount_down
plan_done
