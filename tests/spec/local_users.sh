#!/bin/bash
# Users of the same host: links that they plant first, what they do to the control socket, and what they
# can see of the passwords of private lists.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse nginx openssl setpriv sqlite3 jq getfattr python3
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"
. "$here/../lib/lists.sh"
. "$here/../lib/olddb.sh"
. "$here/../lib/vmcatcher.sh"

# The site's user is nobody; this one has nothing to do with it.
stranger() {
	setpriv --reuid=daemon --regid=daemon --clear-groups "$@"
}

# ---- links that were there first ----------------------------------------------------------------

site_up prefetch=never
lists_pki
web_up "$WWW"
victim=$SITE/victim
mkdir -m 700 "$victim" && echo precious >"$victim/file"
sum() {
	olddb_dump "$victim"
}
before=$(sum)
# What anybody may write to, without the kernel's own protection for such directories.
open=$SITE/open
mkdir "$open" && chmod 777 "$open"
for key in run_dir state_dir cache_dir handler_dir; do
	sed "/^$key = /d; /^log = /d" "$CONF" >"$SITE/planted.conf"
	printf '%s = %s\nlog = stderr\n' $key "$open/$key" >>"$SITE/planted.conf"
	for kind in full empty; do
		rm -rf "$open/$key" && mkdir -p "$SITE/$kind"
		[ $kind = full ] && target=$victim || target=$SITE/empty
		stranger ln -s "$target" "$open/$key"
		check_like "X04 a link that another user has put at $key is not followed, to a directory that is $kind" \
		    "$key: .*cannot be opened|$key .* is a link that belongs to uid" \
		    "$("$VMIMAGEFS_BUILD/vmimagefs" -o "config=$SITE/planted.conf" "$MNT" 2>&1)"
		check_like "X04 nor by a command: $key, $kind" "$key: .*cannot be opened|$key .* is a link that belongs to uid" \
		    "$("$VMIMAGEFS_BUILD/vmimagectl" -c "$SITE/planted.conf" endorser add a --from-cert "$PKI/alice.pem" 2>&1)"
	done
	rm -f "$open/$key" && stranger mkdir -m 700 "$open/$key"
	check_not "X04 a directory of another user at $key is not taken" \
	    "$VMIMAGEFS_BUILD/vmimagectl" -c "$SITE/planted.conf" endorser add a --from-cert "$PKI/alice.pem"
	check_is "X04 and stays his: $key" 'daemon 700' "$(stat -c '%U %a' "$open/$key")"
	rmdir "$open/$key"
done
check_is 'X04 the directories that the links led to are as they were' "$before root" "$(sum) $(stat -c %U "$SITE/empty")"
rm -rf "$SITE/state" "$SITE/cache" "$SITE/run"

# A store that vmcatcher's commands are to make where anybody may write.
named() {
	VMCATCHER_RDBMS=sqlite:///$open/db VMCATCHER_DIR_CERT=$CERTS "$VMIMAGEFS_BUILD/vmcatcher_$1" "${@:2}"
}
stranger ln -s "$victim" "$open/db.vmimagefs"
check_not 'X04 a link at the place of a store that is to be made is not followed' named endorser -l
rm -f "$open/db.vmimagefs"
stranger mkdir -m 755 "$open/db.vmimagefs"
stranger sh -c "printf 'user = root\nstate_dir = %s/state\ncache_dir = %s/cache\nrun_dir = %s/run\nlog = stderr\n' \
    '$victim' '$victim' '$victim' >'$open/db.vmimagefs/vmimagefs.conf'"
stranger ln -s "$open/db.vmimagefs/state/catalogue.db" "$open/db"
check_not 'X04 the configuration of a store that another user has made gives root nothing to do' \
    named endorser -C -e mallory -S /CN=m -I /CN=ca
stranger ln -sf "$victim/file" "$open/link"
check_like 'X04 a link to a file is no database' 'rc=[1-9]' \
    "$(VMCATCHER_RDBMS=sqlite:///$open/link "$VMIMAGEFS_BUILD/vmcatcher_image" -l 2>&1; echo "rc=$?")"
check_is 'X04 what they led to is as it was' "$before" "$(sum)"
rm -rf "$open"

# Inside, where only the site's user could have put them.
image_file apple.img
hex=$(sha512sum <"$WWW/apple.img" | cut -d' ' -f1)
publish alice one.list one 1 "$(image_entry apple Apple 1 apple.img)"
ctl -q endorser add alice --from-cert "$PKI/alice.pem"
check 'a list is subscribed to' ctl subscribe "$WEB_URL/one.list" --endorser alice --select all
echo theirs >"$SITE/file" && chown nobody "$SITE/file"
ln -s "$SITE/file" "$SITE/cache/partial/$hex"
ln -s "$SITE/file" "$SITE/run/control"
ln -s "$SITE/file" "$SITE/state/site.json.new"
mkdir -p "$SITE/state/vmcatcher/cache"
chown -h nobody:nogroup "$SITE/cache/partial/$hex" "$SITE/run/control" "$SITE/state/site.json.new"
mount_up || bail 'no mount'
check 'X04 an image whose partial file was a link is fetched all the same' ctl -q fetch apple
check 'X04 and has the signed bytes' cmp "$MNT/images/apple/image" "$WWW/apple.img"
check_like 'X04 a link where site.json is to be written is refused, and told' '^1: .*site.json. cannot be written' \
    "$(refusal deselect apple)"
rm "$SITE/state/site.json.new"
check 'X04 a command reaches the daemon whose socket was a link' ctl -q select apple
check_is 'X04 the file that the links led to is as it was' theirs "$(<"$SITE/file")"

# ---- the control socket -------------------------------------------------------------------------

check_is 'X05 the control socket is for its owner and group alone' 'nobody nogroup 660' \
    "$(stat -c '%U %G %a' "$SITE/run/control")"
cat >"$SITE/control.py" <<'EOT'
import socket, sys, time

path, what = sys.argv[1:3]

def connect(wait=10):
    end = time.monotonic() + wait
    while True:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.settimeout(wait)
        try:
            s.connect(path)
            return s
        except BlockingIOError:         # the backlog is full
            s.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.001)

def ended(s):
    try:
        while s.recv(65536):
            pass
    except ConnectionResetError:
        pass

if what == 'other':
    try:
        connect()
        print('connected')
    except PermissionError:
        print('refused')
elif what == 'many':
    for n in range(int(sys.argv[3])):
        connect().close()
    print('done')
elif what == 'hold':
    held = []
    for n in range(int(sys.argv[3])):
        held.append(connect())
        if n % 2:
            try:
                held[-1].send(b'stat')
            except OSError:
                pass
    print('held', flush=True)
    sys.stdin.read()
elif what == 'long':
    s, sent = connect(), 0
    try:
        while sent < 1 << 30:
            sent += s.send(b'x' * 65536)
    except OSError:
        pass
    print('cut' if sent < 1 << 24 else 'taken')
elif what == 'garbage':
    for line in (b'\0' * 100 + b'\n', b'\n', b' \n', b'fetch\n', b'fetch ' + b'z' * 128 + b'\n', b'\xff\xfe\n',
                 b'evict ../../etc/passwd\n', b'purge -1\n', b'heal %n%n%n%s\n', b'status\nstatus\n' * 50,
                 b'x' * 4096 + b'\n'):
        s = connect()
        try:
            s.sendall(line)
        except OSError:
            pass
        ended(s)
    print('done')
EOT
chmod 644 "$SITE/control.py"
socket() {
	timeout 60 python3 "$SITE/control.py" "$SITE/run/control" "$@"
}
pid=$(daemon_pid worker)
descriptors() {
	find "/proc/$pid/fd" -mindepth 1 | wc -l
}
memory() {
	sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$pid/status"
}
fds=$(descriptors) kib=$(memory)
check_is 'X05 another user cannot connect' refused \
    "$(stranger timeout 10 python3 "$SITE/control.py" "$SITE/run/control" other)"
check_is 'X05 ten thousand connections are taken, one after the other' 'done' "$(socket many 10000)"
check 'X05 then a command is served' ctl -q status
check_is 'X05 a line of 1 GB is cut off early' cut "$(socket long)"
check_is 'X05 garbage is answered, each time' 'done' "$(socket garbage)"
coproc HOLDER { socket hold 500; }
at_exit kill "$HOLDER_PID"
read -r -t 30 said <&"${HOLDER[0]}"
check_is 'X05 five hundred connections that stay, half of them with half a line, can be made' held "$said"
check 'X05 beside them a command is served' timeout 10 "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" -q status
check 'X05 beside them a file is read' timeout 10 cmp "$MNT/images/apple/image" "$WWW/apple.img"
check_like 'X05 no more than 64 of them are kept' '^ok' \
    "$([ $(($(descriptors) - fds)) -le 66 ] && echo ok || echo "$fds, then $(descriptors)")"
kill "$HOLDER_PID" 2>/dev/null
wait "$HOLDER_PID" 2>/dev/null
released() {
	[ "$(descriptors)" -le $((fds + 2)) ]
}
check 'X05 none is kept when they are gone' wait_for "$VMI_PATIENCE" released
if [ -z "${VMI_SANITIZE:-}" ]; then
	check_like 'X05 none of it has cost memory' '^ok' \
	    "$([ $(($(memory) - kib)) -le 16384 ] && echo ok || echo "$kib KiB, then $(memory)")"
fi
check 'X05 the daemon lives' is_mounted
mount_down

# ---- passwords ----------------------------------------------------------------------------------

# A list that wants a password, imported, mounted, and told of to an event handler; while a request hangs.
site_up log_level=debug prefetch=auto
lists_pki
hostile_up
printf 'harry:%s\n' "$(openssl passwd -apr1 open+sesame)" >"$SITE/passwords" && chmod 644 "$SITE/passwords"
WEB_SERVER_CONF="location /private/ { auth_basic lists; auth_basic_user_file $SITE/passwords; }"
web_up "$WWW" "$PKI/web.pem" "$PKI/web.key"
mkdir -m 755 "$WWW/private"
image_file apple.img && image_file slow.list && image_file other.list
# Keys that look like variables: none of them is one.
publish alice private/one.list one 1 "$(image_entry apple 'Apple $(id)' 1 apple.img LD_PRELOAD=/tmp/evil.so \
    PATH=/tmp/evil IFS=x BASH_ENV=/tmp/evil VMCATCHER_EVENT_EVIL=evil 'hv:LD_PRELOAD=evil' ENV=/tmp/evil)"
olddb_new "$SITE/old.db"
olddb_endorser alice "$(pki_dn alice)" "$(pki_issuer alice)"
olddb_list one "$WEB_URL/private/one.list" "$WWW/private/one.list" userName=harry password=open+sesame
olddb_list slow "${HOSTILE_TLS/https:\/\//https:\/\/token-0815:x%2Doauth-secret@}/silent/slow.list" ''
olddb_link alice one
olddb_link alice slow
olddb_image one apple 1
cat >"$SITE/handler" <<EOT
#!/bin/sh
exec >>$SITE/handled 2>&1
env
cat
cat /proc/\$PPID/cmdline /proc/\$PPID/environ | tr '\\0' '\\n'
EOT
chmod 755 "$SITE/handler"
: >"$SITE/handled" && chmod 666 "$SITE/handled"
echo "event_command = $SITE/handler" >>"$CONF"
secret='open.{1,3}sesame|token-0815|oauth-secret'
for text in harry:open+sesame token-0815:x-oauth-secret; do
	secret+="|$(printf %s "$text" | base64)"
done
shown() {
	"$@" 2>&1 </dev/null | grep -aE "$secret"
}
said=$(ctl -v import-vmcatcher "$SITE/old.db" 2>&1; ctl --json -v import-vmcatcher "$SITE/old.db" 2>&1)
check_is 'X08 the import says no password' '' "$(grep -aE "$secret" <<<"$said")"
mount_up || bail 'no mount'
check 'X08 the image is verified' wait_for "$VMI_PATIENCE" state_is apple verified
told() {
	grep -q '^VMCATCHER_EVENT_TYPE=AvailablePostfix$' "$SITE/handled"
}
check 'X08 the handler is told of it' wait_for "$VMI_PATIENCE" told
check 'X08 the password is used: the list can be had again' ctl -q update one
ctl -q update slow &
command=$!
asked() {
	[ "$(grep -c '/silent/slow.list' "$SITE/requests")" -gt 0 ]
}
check 'X08 a request with a password is under way' wait_for "$VMI_PATIENCE" asked
processes() {
	local pid

	for pid in /proc/[0-9]*; do
		case $(tr '\0' ' ' <"$pid/cmdline") in
		*vmimage*) cat "$pid/cmdline" "$pid/environ" "$pid/comm" | tr '\0' '\n' ;;
		esac
	done 2>/dev/null
}
check_like 'X08 the fetcher is among the processes that are looked at' 'vmimagefs-fetcher' "$(processes)"
check_is 'X08 no process shows a password in its arguments or environment' '' "$(shown processes)"
kill $command 2>/dev/null
wait $command 2>/dev/null
check_is 'X08 the log at level debug has none' '' "$(grep -aE "$secret" "$LOG")"
check_is 'X08 nor what the handler was given' '' "$(grep -aE "$secret" "$SITE/handled")"
for words in status 'status --json' subscriptions 'subscriptions one' '--json subscriptions' '--json events' events \
    '--json images' 'config show' 'show apple' 'expired'; do
	# shellcheck disable=SC2086
	check_is "X08 nor vmimagectl $words" '' "$(shown ctl $words)"
done
for words in 'subscribe -l' 'subscribe -i -u one' 'subscribe -i -u one -f json' 'subscribe -U -v -v' 'image -i -u apple' \
    'endorser -K' 'image -l -f json'; do
	# shellcheck disable=SC2086
	check_is "X08 nor vmcatcher_$words" '' "$(shown vmc $words)"
done
everything() {
	getfattr -d -R -m - "$MNT"
	find "$MNT" -type f ! -path '*/ova/*' -size -1000k -exec cat {} +
}
check_is 'X08 nor any file or attribute in the mount' '' "$(shown everything)"
check_is 'X08 nor what is made for handlers' '' "$(grep -raE "$secret" "$SITE/state/vmcatcher" "$SITE/run" 2>/dev/null)"
check_is 'X08 only what the site'"'"'s user alone may read has it' 'catalogue.db 600,site.json 600' \
    "$(grep -rlaE "$secret" "$SITE/state" | grep -v -e '-wal$' -e '-shm$' | xargs stat -c '%n %a' | sed 's,.*/,,' | sort | paste -sd,)"

# ---- names that look like variables -------------------------------------------------------------

check_is 'X02 no key of a list becomes a variable of a handler' '' \
    "$(grep -E '^(LD_|IFS=|BASH_ENV=|ENV=|VMCATCHER_EVENT_EVIL|hv:)' "$SITE/handled")"
check_is 'X02 nor changes one' '' "$(grep '^PATH=' "$SITE/handled" | grep -e /tmp/evil)"
check_is 'X02 the ones that there are are fixed' '' "$(grep -oE '^VMCATCHER_[A-Z0-9_]+' "$SITE/handled" | sort -u |
    grep -vxE 'VMCATCHER_(RDBMS|CACHE_DIR_(CACHE|DOWNLOAD|EXPIRE)|EVENT_(TYPE|UUID|UUID_SESSION|UUID_EVENT|FILENAME|REASON|VO|IL_DC_IDENTIFIER|AD_MPURI|DC_(TITLE|DESCRIPTION|IDENTIFIER)|HV_(HYPERVISOR|SIZE|URI|VERSION|FORMAT)|SL_(ARCH|CHECKSUM_SHA512|COMMENTS|OS|OSVERSION|OSNAME)))')"
mount_down

# ---- commands by vmcatcher's names --------------------------------------------------------------

for name in endorser image subscribe; do
	check_like "A08 vmcatcher_$name as another user says which directory, and what it needs" \
	    "$SITE/state.*mode 0.*rc=[1-9]" "$(VMIMAGEFS_CONFIG=$CONF stranger "$VMIMAGEFS_BUILD/vmcatcher_$name" -l 2>&1 |
	    tr '\n' ' '; echo "rc=${PIPESTATUS[0]}")"
	check_not "A09 vmcatcher_$name -l onto a full disk is an error" sh -c \
	    'VMIMAGEFS_CONFIG=$1 exec "$0" -l >/dev/full' "$VMIMAGEFS_BUILD/vmcatcher_$name" "$CONF"
	printf 'colour = red\n' >"$SITE/bad.conf"
	check_like "A11 vmcatcher_$name names the line of a configuration that is wrong" 'bad.conf:1: .*colour.*rc=[1-9]' \
	    "$(VMIMAGEFS_CONFIG=$SITE/bad.conf "$VMIMAGEFS_BUILD/vmcatcher_$name" -l 2>&1 | tr '\n' ' '
	    echo "rc=${PIPESTATUS[0]}")"
done
before=$(ctl --json subscriptions | jq -cS 'del(.. | .tried?)')
VMIMAGEFS_CONFIG=$CONF VMCATCHER_RDBMS=sqlite:///$SITE/state/catalogue.db env --default-signal=INT \
    "$VMIMAGEFS_BUILD/vmcatcher_subscribe" -s "$HOSTILE_TLS/silent/other.list" >"$SITE/said" 2>&1 </dev/null &
command=$!
asked_other() {
	grep -q '/silent/other.list' "$SITE/requests"
}
check 'A10 vmcatcher_subscribe waits for a server' wait_for "$VMI_PATIENCE" asked_other
kill -INT $command
wait $command
check_like 'A10 Ctrl-C ends it' '^(1|130)$' $?
check_is 'A10 and nothing has changed' "$before" "$(ctl --json subscriptions | jq -cS 'del(.. | .tried?)')"

plan_done
