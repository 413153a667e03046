#!/bin/bash
# Private lists: where user, password and token go, and where they are never seen; and which way
# requests take.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse nginx openssl setpriv getfattr
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"
. "$here/../lib/lists.sh"

site_up update_interval=10s
lists_pki
hostile_up
printf 'harry:%s\ntoken-4711:%s\n' "$(openssl passwd -apr1 wand/er)" "$(openssl passwd -apr1 x-oauth-basic)" \
    >"$SITE/passwords"
chmod 644 "$SITE/passwords"
WEB_SERVER_CONF="location /private/ { auth_basic lists; auth_basic_user_file $SITE/passwords; }
    location /away/ { return 302 $HOSTILE_TLS/ok\$uri; } location /down/ { return 302 $HOSTILE/ok\$uri; }
    location /back/ { return 302 $HOSTILE_TLS/redirect/away.list?to=https://\$http_host/private/one.list; }"
web_up "$WWW" "$PKI/web.pem" "$PKI/web.key"
mkdir -m 755 "$WWW/private"
image_file apple.img && image_file wait.list
apple=$(image_entry apple Apple 1 apple.img)
PRIVATE_URL=${WEB_URL/https:\/\//https:\/\/harry:wand%2Fer@}
publish alice private/one.list one 1 "$apple"
publish alice private/two.list two 1
ctl -q endorser add alice --from-cert "$PKI/alice.pem"

secret='wand/er|wand%2Fer|token-4711|hunter2'
secret+="|$(printf 'harry:wand/er' | base64)|$(printf 'token-4711:x-oauth-basic' | base64)"

# shown_by COMMAND...: where it says a secret.
shown_by() {
	"$@" 2>&1 | grep -aE "$secret"
}

# ---- subscribing --------------------------------------------------------------------------------

check_like 'a private list needs its password' \
    '^5: .*HTTP status 401' "$(refusal subscribe "$WEB_URL/private/one.list")"
check_like 'a wrong password for a private list is refused' '^5: .*HTTP status 401' \
    "$(refusal subscribe "${PRIVATE_URL/wand/wind}/private/one.list")"
check_is 'A05 a password that was refused is not stored' '' "$(shown_by cat "$SITE"/state/*)"
said=$(refusal subscribe "$PRIVATE_URL/private/one.list" --select all)
check_like 'A05 user and password may stand in the URL, with a warning' \
    '^0: .*a secret in an argument can be seen' "$said"
check_is 'A05 user and password of a URL are not repeated' '' "$(grep -aE "$secret" <<<"$said")"
printf 'token-4711\n' >"$SITE/token"
chmod 600 "$SITE/token"
check 'a token may stand in a file that only root can read' \
    ctl subscribe "$WEB_URL/private/two.list" --credentials "$SITE/token"
check_like 'A05 subscribing to an address twice says what is there' \
    "^[1-7]: .*is subscribed already, as list 'one'" \
    "$(refusal subscribe "$PRIVATE_URL/private/one.list")"
check_like 'a password in both places is one too many' '^2: ' \
    "$(refusal subscribe "$PRIVATE_URL/private/three.list" --credentials "$SITE/token")"

# ---- where it is seen ---------------------------------------------------------------------------

publish alice private/one.list one 2 "$apple" && publish alice private/two.list two 2
mount_up || bail "no mount: $(tail -n 5 "$LOG")"
check 'the daemon updates private lists by itself' \
    wait_for 30 is_value '2|2' "$MNT"/subscriptions/{one,two}/version
ctl -q fetch apple && wait_for "$VMI_PATIENCE" test -e "$MNT/cache/apple"
check_is 'X08 the files that hold the password are closed to others' '600' \
    "$(stat -c %a "$SITE"/state/site.json "$SITE"/state/catalogue.db* | sort -u)"
check 'X08 site.json holds the password' grep -q wand/er "$SITE/state/site.json"
check_is 'X08 the password is nowhere else in the state directory' '' \
    "$(grep -raElE "$secret" "$SITE/state" "$SITE/run" "$SITE/cache" | grep -vE '/(site.json|catalogue.db(-wal|-shm)?)$')"
check_is 'X08 the password is not in the tree' \
    '' "$(shown_by find "$MNT" -type f -not -path '*/by-sha512/*' -exec cat {} +)"
check_is 'X08 the password is not in extended attributes' \
    '' "$(shown_by getfattr -R -d -m - "$MNT")"
check_is 'X08 the password is not in the log at debug' '' "$(shown_by cat "$LOG")"
for command in subscriptions 'subscriptions one' status events 'config show' 'update one' 'update --dry-run' images; do
	check_is "X08 the password is not in what is said by: $command" '' \
	    "$(shown_by ctl -v $command; shown_by ctl --json $command)"
done
check_like 'it is shown that there is a password' 'credentials: +stored' "$(ctl subscriptions one)"

# The command line and the environment of all processes of ours.
processes() {
	local pid

	for pid in "$1" $(daemon_pids) $(pgrep -f "vmimagefs-(fetcher|verifier)|$CONF"); do
		[ "$pid" = "$$" ] || cat "/proc/$pid/cmdline" "/proc/$pid/environ"
	done 2>/dev/null | tr '\0' '\n'
}
at_silent() {
	grep -q "/silent/$1.list" "$SITE/requests"
}
"$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" -q subscribe \
    "${HOSTILE_TLS/https:\/\//https:\/\/harry:wand%2Fer@}/silent/wait.list" </dev/null >>"$LOG" 2>&1 &
command=$!
check 'a command with a password in its arguments waits for the server' \
    wait_for "$VMI_PATIENCE" at_silent wait
check 'X08 the command that has the password is in the process list' \
    grep -qa silent "/proc/$command/cmdline"
check_is 'X08 the password is not in the process list' '' "$(shown_by processes $command)"
check_like 'X08 the server is given the password' \
    "authorization=Basic $(printf 'harry:wand/er' | base64)" \
    "$(grep /silent/wait.list "$SITE/requests")"
check "the command still waits for the server" kill $command
wait $command 2>/dev/null

# ---- to whom it is sent -------------------------------------------------------------------------

given() {
	grep -a 'authorization=Basic' "$SITE/requests" | grep -avc '/silent/'
}
to() {
	echo "${1/:\/\//:\/\/harry:hunter2@}"
}
check_like 'a password is not sent over http' \
    '^2: .*over https only' "$(refusal subscribe "$(to "$HOSTILE")/ok/two.list")"
check_like 'a password is not sent to a server whose certificate is not good' \
    'certificate problem.*5: $' \
    "$(sed '/^tls_ca/d' "$CONF" >"$SITE/other.conf"; chmod 644 "$SITE/other.conf"
    "$VMIMAGEFS_BUILD/vmimagectl" -c "$SITE/other.conf" subscribe "$(to "$HOSTILE_TLS")/ok/two.list" 2>&1; echo "$?: ")"
check_is 'the servers that must not have a password have seen none' 0 "$(given)"
publish alice away.list away 1 && publish alice down.list down 1
check 'a redirect to another server is followed' ctl subscribe "$(to "$WEB_URL")/away/away.list"
check_is 'a redirect to another server does not take the password along' '1 0' \
    "$(grep -ac 'GET /ok/away/away.list' "$SITE/requests") $(given)"
check_like 'a redirect of a request with a password to http is not followed' \
    '^5: .*redirect from https to http of a request with a password' \
    "$(refusal subscribe "$(to "$WEB_URL")/down/down.list")"
check_is 'a redirect that is refused asks for nothing there' \
    0 "$(grep -ac 'GET /ok/down/' "$SITE/requests")"
check_like 'a password that was left behind is not taken out again' '^5: .*HTTP status 401' \
    "$(refusal subscribe "$(to "$WEB_URL")/back/x")"
mount_down
ctl -q unsubscribe one && ctl -q unsubscribe two && ctl -q unsubscribe away
check_is 'the password of a list that is unsubscribed is forgotten' \
    '' "$(shown_by cat "$SITE"/state/{site.json,catalogue.db*})"

# ---- which way requests take --------------------------------------------------------------------

public=${HOSTILE/localhost/127.0.0.1}
publish alice plain.list plain 1 "$(IMAGE_URI=$public/ok/apple.img image_entry plain Plain 1 apple.img)"
for name in http https all HTTPS ALL; do
	export "${name}_proxy=http://127.0.0.1:9" "${name}_PROXY=http://127.0.0.1:9"
done
check 'T35 proxies in the environment are ignored' \
    ctl subscribe "$public/ok/plain.list" --select all
mount_up
check 'T35 the daemon ignores proxies in the environment' \
    cmp "$MNT/images/plain/image" "$WWW/apple.img"
mount_down
unset {http,https,all,HTTPS,ALL}_{proxy,PROXY}
WEB_SERVER_CONF='location / { proxy_pass http://$http_host$request_uri; }'
web_up "$WWW"
publish alice plain.list plain 2
echo "proxy = $WEB_URL" >>"$CONF"
check 'T35 a proxy that is configured is used' ctl update plain
check_is 'T35 the proxy that is configured has seen the request' \
    1 "$(web_requests '^GET /ok/plain.list 200 ')"
web_down
check_like 'T36 a proxy that is down is an error, not a way around it' \
    '^5: ' "$(refusal update plain)"

plan_done
