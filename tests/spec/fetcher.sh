#!/bin/bash
# fetcher.sh - the fetcher program, run by hand against a scripted web server and against nginx.
#
# Needs VMIMAGEFS_FETCHER and VMIMAGEFS_HOSTILE, the programs; prints TAP.  Rows of the fault
# catalogue stand first in the names.  "Code" is the refusal code in the sentence on stderr,
# "begin" the line that --verbose prints when an acceptable body comes.
#
# Where time matters: --stall-timeout is 1 s and --connect-timeout 2 s throughout, so that whatever
# hangs is over within 4 s; a limit of 10 s leaves room for a busy machine.

set -u
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=/dev/null
. "$here/../lib/pki.sh"

fetcher=${VMIMAGEFS_FETCHER:-}
hostile=${VMIMAGEFS_HOSTILE:-}
if [ ! -x "$fetcher" ] || [ ! -x "$hostile" ]; then
	echo "1..0 # SKIP VMIMAGEFS_FETCHER and VMIMAGEFS_HOSTILE must name the programs"
	exit 0
fi

n=0
failed=0
pids=()
tmp=$(mktemp -d)
chmod 755 "$tmp"

finish() {
	[ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null
	wait 2>/dev/null
	rm -rf "$tmp"
}
trap finish EXIT

# ok NAME COMMAND...: one test; what was seen is shown when it fails.
ok() {
	local name=$1

	shift
	n=$((n + 1))
	if "$@"; then
		echo "ok $n - $name"
	else
		failed=$((failed + 1))
		echo "not ok $n - $name"
		echo "# status $status, code $code, $ms ms, $bytes bytes, expected: $*"
		sed 's/^/# /' "$tmp/err"
	fi
}

skip() {
	n=$((n + 1))
	echo "ok $n - $1 # SKIP $2"
}

# fetch URL [OPTION...]: sets status, code ("" if none), ms, bytes; the body is in $tmp/out.
status='' code='' ms='' bytes=''
fetch() {
	local url=$1 start

	shift
	start=$(date +%s%N)
	"$fetcher" -v --stall-timeout 1 --connect-timeout 2 "$@" "$url" >"$tmp/out" 2>"$tmp/err"
	status=$?
	ms=$((($(date +%s%N) - start) / 1000000))
	code=$(sed -n 's/^vmimagefs-fetcher: code \([0-9]*\):.*/\1/p' "$tmp/err")
	bytes=$(stat -c %s "$tmp/out")
}

# get MODE [OPTION...]: the image from the scripted server, its size being known.
get() {
	local mode=$1

	shift
	fetch "$http/$mode/image" --expect-size "$size" "$@"
}

same() { [ "$status" = 0 ] && cmp -s "$tmp/out" "$tmp/root/image"; }
refused() { [ "$code" = "$1" ] && [ "$status" = "$2" ]; }
refused_empty() { refused "$1" "$2" && [ "$bytes" = 0 ]; }
slow() { refused 44 5 && [ "$ms" -lt 10000 ]; }
says() { grep -q -- "$1" "$tmp/err"; }
logged() { grep -q -- "$1" "$tmp/log"; }
absent() { [ ! -e "$1" ]; }
not() { ! "$@"; }
stats() { "$fetcher" "$http/stats?$1" | cut -d' ' -f2-; }

# ---- servers ---------------------------------------------------------------------------------

mkdir "$tmp/root" "$tmp/elsewhere"
size=5000000
head -c $size /dev/urandom >"$tmp/root/image"
head -c 50000000 /dev/zero | gzip -9 >"$tmp/root/bomb.gz"
printf 'user:secret\n' >"$tmp/credentials"
chmod 600 "$tmp/credentials"

pki_init "$tmp/pki"
server_cert='purpose=serverAuth usage=critical,digitalSignature alt=DNS:localhost,IP:127.0.0.1'
# shellcheck disable=SC2086,SC2015
pki_ca ca && pki_ca stranger && pki_server good ca && pki_server other ca elsewhere.example.org &&
    pki_user late ca $server_cert from='-20 days' to='-10 days' &&
    pki_user revoked ca $server_cert && pki_server foreign stranger &&
    pki_revoke ca revoked && pki_crl ca && pki_trust "$tmp/trust" ca || {
	echo "Bail out! no test PKI"
	exit 1
}
key() { echo "--tls $PKI/$1.pem:$PKI/$1.key${2:-}"; }

: >"$tmp/ports"
# shellcheck disable=SC2046
"$hostile" --root "$tmp/root" --log "$tmp/log" $(key good) $(key good) $(key late) $(key other) \
    $(key foreign) $(key revoked) $(key good :old) $(key good :demand) >"$tmp/ports" &
pids+=($!)
until grep -q ready "$tmp/ports"; do
	kill -0 "${pids[0]}" 2>/dev/null || { echo "Bail out! the scripted server does not start"; exit 1; }
	sleep 0.05
done
port() { awk -v k="$1" -v i="${2:-1}" '$1 == k && ++n == i { print $2 }' "$tmp/ports"; }
http=http://127.0.0.1:$(port http)
https=https://127.0.0.1:$(port https 1)
https2=https://127.0.0.1:$(port https 2)
ca=(--tls-ca "$tmp/trust")

# ---- what should work --------------------------------------------------------------------------

get ok
ok "a body is written byte for byte" same
ok "size and validator are told before the body" says "^begin: first byte 0, size $size, validator \"v1\"$"
get noetag
ok "a server without validators will do" same
fetch "file://$tmp/root/image"
ok "file: a file is written byte for byte" same
fetch "$https/ok/image" --tls-ca "$PKI/ca.pem"
ok "TLS: a server of a CA in a file is accepted" same
fetch "$https/ok/image" "${ca[@]}"
ok "TLS: a server of a CA in a directory with CRLs is accepted" same
get chain:4
ok "T20 four redirects are followed" same

# ---- time --------------------------------------------------------------------------------------

fetch "http://127.0.0.1:$(port refused)/x"
ok "T01 a refused connection is code 44" slow
fetch "http://127.0.0.1:$(port full)/x"
ok "T02 a connection whose SYN is dropped is given up" slow
fetch "http://127.0.0.1:$(port silent)/x"
ok "T03 a server that accepts and never answers is given up" slow
get silent
ok "T03 a server that takes the request and never answers is given up" slow
get headerdrip:100
ok "T04 a header that drips is given up" slow
get slow:200
ok "T05 a body below the low-speed limit is given up" slow
get stall:99
ok "T06 a body that stalls is given up" slow
ok "T06 what came before the stall has been passed on" test "$bytes" -eq $((size * 99 / 100))
get rate:1000000 --total-timeout 1
ok "the time for all of it is kept" slow
get ok --limit-rate 5000000
ok "a limited rate is not taken for a stall" test "$status" = 0 -a "$ms" -gt 800

# The reader begins after 5 s, more than twice the stall timeout: the pipe is full all that time.
mkfifo "$tmp/never"
"$fetcher" --stall-timeout 2 "$http/ok/image" 2>"$tmp/err" |
    { read -r -t 5 _ <>"$tmp/never"; cat; } >"$tmp/out"
status=${PIPESTATUS[0]}
ok "a reader that takes its time is not held against the server" same
start=$SECONDS
"$fetcher" --stall-timeout 60 "$http/silent/image" 2>"$tmp/err" | true
ok "a reader that goes away ends a silent transfer" test $((SECONDS - start)) -lt 10
start=$SECONDS
"$fetcher" "$http/endless/image" 2>"$tmp/err" | head -c 1000 >/dev/null
ok "a reader that goes away ends an endless transfer" test $((SECONDS - start)) -lt 10

fetch http://nowhere.invalid/x
ok "T37 a name that does not resolve is code 44" slow
# A name server that never answers, in a mount namespace with another resolv.conf.
cat >"$tmp/dns.py" <<'EOT'
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 53))
print("ready", flush=True)
time.sleep(60)
EOT
resolves_slowly() {
	local dns

	echo "nameserver 127.0.0.1" >"$tmp/resolv.conf"
	mount --bind "$tmp/resolv.conf" /etc/resolv.conf || return 1
	coproc DNS { exec python3 "$tmp/dns.py"; }
	dns=$!
	read -r _ <&"${DNS[0]}" && fetch http://slow.example.org/x
	kill $dns
	slow && says "timed out"
}
if unshare -mn true 2>/dev/null && [ -e /etc/resolv.conf ] && command -v python3 >/dev/null; then
	export -f resolves_slowly fetch slow says refused
	export tmp fetcher
	ok "T37 a resolver that hangs is given up" \
	    env VMI_OWN_MOUNTS=yes unshare -mn bash -c '. "$0"; ip link set lo up 2>/dev/null; resolves_slowly 2>/dev/null' "$here/../lib/ownmounts.sh"
else
	skip "T37 a resolver that hangs is given up" "needs mount and network namespaces and python3"
fi

# ---- cuts --------------------------------------------------------------------------------------

get close
ok "T07 a connection closed before the header is code 44" refused_empty 44 5
get cut
ok "T08 a body cut short of its Content-Length is code 44" refused 44 5
ok "T08 what came has been passed on" test "$bytes" -eq $((size / 2))
get cutnolen
ok "T09 a body cut short without a length is seen by its size" refused 44 5
get cutchunked
ok "T10 a chunk cut short is code 44" refused 44 5

# resume MODE: goes on where the last response stopped, as the daemon does; at most 60 times.
resume() {
	local at=0 tries=0

	: >"$tmp/all"
	while [ $at -lt $size ] && [ $tries -lt 60 ]; do
		get "$1" --offset $at --etag '"v1"'
		[ "$status" = 0 ] || [ "$code" = 44 ] || return 1
		cat "$tmp/out" >>"$tmp/all"
		at=$((at + bytes))
		tries=$((tries + 1))
	done
	cmp -s "$tmp/all" "$tmp/root/image"
}
ok "T08 a transfer is resumed where it was cut" resume cutonce:30
ok "T06 a transfer is resumed where it stalled" resume stallonce:30
ok "T38 twenty disconnects are survived" resume drops:20
ok "T38 the bytes sent are at most 1.2 times the file" test "$(stats /drops:20/image | cut -d' ' -f2)" -le $((size * 6 / 5))
ok "T28 shorter ranges than asked are accepted for what they prove" resume shortrange

# ---- sizes -------------------------------------------------------------------------------------

get more
ok "T11 an announced size above the signed one is refused before the body" refused_empty 41 4
get less
ok "T12 an announced size below the signed one is refused before the body" refused_empty 41 4
get portal
ok "T25 a captive portal's page has the wrong size" refused_empty 41 4
get plus
ok "T31 one byte more than signed is refused" refused 43 4
get minus
ok "T31 one byte less than signed is a cut" refused 44 5
fetch "$http/ok/image" --max-bytes 4999999
ok "an announced size above the limit is refused before the body" refused_empty 43 4

# With 400 MB of address space; a sanitizer needs more than that by itself.
bounded() {
	if ldd "$fetcher" | grep -q 'lib[at]san'; then
		get "$@"
	else
		ulimit -Sv 400000
		get "$@"
		ulimit -Sv "$(ulimit -Hv)"
	fi
}
bounded endless
ok "T13 an endless body is stopped" refused 43 4
ok "T13 one byte above the signed size is passed on as the proof, and no more" test "$bytes" -eq $((size + 1))
bounded headerflood
ok "T14 a header flood is stopped" refused_empty 46 4
bounded continue
ok "T15 endless interim responses are stopped" refused_empty 46 4
get garbage
ok "T16 HTTP/0.9 is refused" refused_empty 45 4
get twolengths
ok "T17 two different lengths are refused" refused_empty 45 4
get neglength
ok "T18 a negative length is refused" refused_empty 45 4
get hugelength
ok "T19 a length of 23 digits is refused" refused_empty 45 4

# ---- redirects and statuses ----------------------------------------------------------------------

get loop
ok "T20 a redirect loop ends after four" refused_empty 10 5
ok "T20 a redirect loop costs five requests" test "$(stats /loop/image | cut -d' ' -f1)" -eq 5
get chain:5
ok "T20 the fifth redirect is refused" refused_empty 10 5

# refused_redirect URL: without a word to the network, a file or another program.
refused_redirect() {
	fetch "$http/redirect/image?to=$1"
	refused_empty 10 5 && says "neither http nor https" || return 1
	command -v strace >/dev/null || return 0
	strace -f -o "$tmp/trace" -e trace=openat,connect,execve "$fetcher" "$http/redirect/image?to=$1" \
	    >/dev/null 2>&1
	! grep -q -e hostname -e 'sin_port=htons(9)' "$tmp/trace"
}
ok "T21 a redirect to file: is refused, nothing is opened" refused_redirect file:///etc/hostname
for scheme in ftp scp smb dict gopher ldap; do
	ok "T22 a redirect to $scheme: is refused, nothing is asked" refused_redirect $scheme://127.0.0.1:9/x
done

fetch "$https/redirect/image?to=$https2/ok/image" "${ca[@]}" --credentials "$tmp/credentials"
ok "T23 a redirect to another port is followed" same
ok "T23 the first server gets the password" logged "GET /redirect/image tls=1.*authorization=Basic"
ok "T23 the other one does not" logged "GET /ok/image tls=1.*:$(port https 2) .*authorization=-$"
fetch "$https/auth/image" "${ca[@]}" --credentials "$tmp/credentials"
ok "a password opens what it was registered for" same
fetch "$https/redirect/image?to=/auth/image" "${ca[@]}" --credentials "$tmp/credentials"
ok "a password goes along a redirect on the same server" same
back=$https2/redirect/image%3fto=$https/auth/image
fetch "$https/redirect/image?to=$back" "${ca[@]}" --credentials "$tmp/credentials"
ok "a password is not taken out again when redirects come back" says "status 401"
fetch "$https/redirect/image?to=$http/ok/down/image" "${ca[@]}" --credentials "$tmp/credentials"
ok "a redirect from https to http is refused with a password" refused_empty 10 5
ok "and the http server is not asked" not logged "GET /ok/down"
fetch "$https/redirect/image?to=$http/ok/image" "${ca[@]}"
ok "a redirect from https to http is followed without one" same
fetch "$http/auth/plain/image" --credentials "$tmp/credentials"
ok "a password is never sent over plain http" refused_empty 10 5
ok "and the server is not asked" not logged "GET /auth/plain"
fetch "https://user:secret@127.0.0.1:$(port https)/ok/image"
ok "X08 a password in an argument is refused by hand" test "$status" = 2

for s in 204 304 401 403 404 410 429 500 503; do
	get "status:$s"
	ok "T24 status $s is code 10" refused_empty 10 5
	ok "T24 status $s is named" says "status $s"
done
get status:416
ok "T24 status 416 is code 45" refused_empty 45 4

# ---- ranges and codings --------------------------------------------------------------------------

tail_same() { [ "$status" = 0 ] && tail -c +$(($1 + 1)) "$tmp/root/image" | cmp -s - "$tmp/out"; }
get ok --offset 1000 --etag '"v1"'
ok "a range is what was asked for" tail_same 1000
get norange --offset 1000 --etag '"v1"'
ok "T26 a 200 to a range request starts again at byte 0" same
ok "T26 and says so before the body" says "^begin: first byte 0"
get wrongrange --offset 1000 --etag '"v1"'
ok "T27 a range of other bytes is refused" refused_empty 45 4
part_same() { [ "$status" = 0 ] && tail -c +$(($1 + 1)) "$tmp/root/image" | head -c "$2" | cmp -s - "$tmp/out"; }
get ok --offset 1000 --length 5000
ok "a part is what was asked for" part_same 1000 5000
get ok --offset 0 --length 1
ok "a part may be the first byte" part_same 0 1
get ok --offset $((size - 10)) --length 100
ok "T28 of a part that goes over the end of the file what is there comes" part_same $((size - 10)) 10
get shortrange --offset 1000 --length 5000
ok "T28 a shorter part is accepted for what it proves" part_same 1000 2500
get norange --offset 1000 --length 5000
ok "T26 a 200 to a request for a part is refused" refused_empty 45 4
get wrongrange --offset 1000 --length 5000
ok "T27 a part of other bytes is refused" refused_empty 45 4
get norangehead --offset 1000 --length 5000
ok "T27 a part that does not say which is refused" refused_empty 45 4
get multipart --offset 1000 --length 5000
ok "T27 several parts in one body are refused" refused_empty 45 4
get nototal --offset 1000 --length 5000
ok "T27 a part of a file that does not tell its size is refused" refused_empty 45 4
get othertotal --offset 1000 --length 5000
ok "T11 a part of a file of another size is refused" refused_empty 41 4
get rangeless --offset 1000 --length 5000
ok "T28 a part whose lengths disagree is refused" refused_empty 45 4
get rangemore --offset 1000 --length 5000
ok "T13 a part whose body is longer is refused" refused_empty 45 4
get rangegzip --offset 1000 --length 5000
ok "T30 a part with an unasked Content-Encoding is never decoded" part_same 1000 5000
fetch "file://$tmp/root/image" --expect-size "$size" --offset 1000 --length 5000
ok "file: a part is what was asked for" part_same 1000 5000
fetch "file://$tmp/root/image" --expect-size "$size" --offset "$size" --length 1
ok "file: no part begins at the end" refused_empty 45 4
get ok --offset 1000 --etag '"old"'
ok "T29 a file that has changed starts again at byte 0" same
get badifrange --offset 1000 --etag '"v1"'
ok "T29 a range of another version is refused" refused_empty 45 4
get weaketag --offset 1000 --etag '"v1"'
ok "T29 a weak validator proves nothing" same
fetch "$http/gzip/bomb.gz"
ok "T30 an unasked Content-Encoding is never decoded" cmp -s "$tmp/out" "$tmp/root/bomb.gz"
fetch "$http/tegzip/bomb.gz"
ok "T30 an unasked Transfer-Encoding is refused" refused_empty 45 4

# ---- TLS -----------------------------------------------------------------------------------------

tls() { fetch "https://127.0.0.1:$(port https "$1")/ok/image" "${ca[@]}"; }
tls 3
ok "T33 an expired certificate is refused" refused_empty 44 5
ok "T33 and the reason is told" says expired
tls 4
ok "T33 a certificate of another name is refused" refused_empty 44 5
tls 5
ok "T33 a certificate of an unknown CA is refused" refused_empty 44 5
tls 6
ok "T33 a revoked certificate is refused" refused_empty 44 5
ok "T33 and the reason is told" says revoked
tls 7
ok "T33 TLS 1.1 is refused" refused_empty 44 5
fetch "$https/ok/image"
ok "T33 a CA that only --tls-ca names is unknown without it" refused_empty 44 5
fetch "https://127.0.0.1:$(port silent)/x"
ok "T34 a handshake that stalls is given up" slow
tls 8
ok "T34 a server that demands a client certificate is code 44" refused_empty 44 5
rm "$tmp/trust/$(pki_hash ca).r0"
tls 1
ok "a CA directory without a CRL is accepted for transport" same

# ---- environment, addresses, files -----------------------------------------------------------------

export http_proxy=http://127.0.0.1:9/ https_proxy=http://127.0.0.1:9/ all_proxy=http://127.0.0.1:9/
export HTTP_PROXY=$http_proxy HTTPS_PROXY=$http_proxy ALL_PROXY=$http_proxy
get ok
ok "T35 a proxy in the environment is ignored" same
fetch "$https/ok/image" "${ca[@]}"
ok "T35 also for https" same
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
no_proxy='*' NO_PROXY='*' get ok --proxy "http://127.0.0.1:$(port refused)"
ok "T36 a configured proxy is used, whatever the environment says; a dead one is code 44" slow
mkdir "$tmp/home"
printf 'machine 127.0.0.1 login user password secret\n' >"$tmp/home/.netrc"
chmod 600 "$tmp/home/.netrc"
SSLKEYLOGFILE=$tmp/keys HOME=$tmp/home CURL_HOME=$tmp/home fetch "$https/auth/image" "${ca[@]}"
ok "X20 netrc is not read" says "status 401"
ok "X20 session keys are not logged" absent "$tmp/keys"

for address in 169.254.169.254 '[fe80::1]' '[::ffff:169.254.169.254]' '[64:ff9b::a9fe:a9fe]' 2852039166; do
	fetch "http://$address/latest/meta-data"
	ok "X21 the link-local address $address is refused" says link-local
	fetch "$http/redirect/image?to=http://$address/"
	ok "X21 also as a redirect" says link-local
done

echo outside >"$tmp/elsewhere/image"
ln -s "$tmp/elsewhere" "$tmp/root/away"
ln -s image "$tmp/root/link"
mkfifo "$tmp/root/fifo"
prefix=(--file-prefix "$tmp/root")
fetch "file://$tmp/root/image" "${prefix[@]}"
ok "file: a file below the prefix is served" same
fetch "file://$tmp/elsewhere/image" "${prefix[@]}"
ok "file: a file elsewhere is refused" refused_empty 10 5
fetch "file://$tmp/root/../elsewhere/image" "${prefix[@]}"
ok "file: .. does not lead out of the prefix" refused_empty 10 5
fetch "file://$tmp/root/%2e%2e/elsewhere/image" "${prefix[@]}"
ok "file: nor does an encoded .." refused_empty 10 5
fetch "file://$tmp/root/away/image" "${prefix[@]}"
ok "file: a link does not lead out of the prefix" refused_empty 10 5
fetch "file://$tmp/rootless/image" "${prefix[@]}"
ok "file: a name that begins like the prefix is not below it" refused_empty 10 5
fetch "file://$tmp/root/link"
ok "file: a link is not followed" refused_empty 10 5
fetch "file://$tmp/root/fifo"
ok "file: a FIFO is refused and does not block" refused_empty 10 5
fetch "file://$tmp/root/image" --expect-size 5
ok "file: another size is refused" refused_empty 41 4
fetch "file://otherhost/etc/hostname"
ok "file: another machine's file is refused" refused_empty 10 5
fetch "file://$tmp/root/image" --offset 1000
ok "file: a range is served" tail_same 1000

# ---- usage ---------------------------------------------------------------------------------------

"$fetcher" --help >"$tmp/out" 2>"$tmp/err"
ok "--help prints the options" grep -q -- --tls-ca "$tmp/out"
"$fetcher" </dev/null >/dev/null 2>"$tmp/err" 3<&-
ok "without URL and socket it says what it wants" test $? = 2
fetch "$http/ok/image" --offset x
ok "a malformed number is a usage error" test "$status" = 2
fetch ftp://127.0.0.1/x
ok "an address of another scheme is a usage error" test "$status" = 2

# ---- nginx ---------------------------------------------------------------------------------------

if ! command -v nginx >/dev/null; then
	skip "nginx: whole file, range, resume, changed file" "nginx is not installed"
else
	# A free port: one that the scripted server's kernel gave out and that is closed again.
	free=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])' 2>/dev/null ||
	    echo $((20000 + RANDOM % 20000)))
	mkdir "$tmp/nginx"
	cat >"$tmp/nginx.conf" <<-EOT
		daemon off; master_process off; pid $tmp/nginx/pid; error_log $tmp/nginx/error.log;
		events { }
		http {
			access_log off; client_body_temp_path $tmp/nginx/a; proxy_temp_path $tmp/nginx/b;
			fastcgi_temp_path $tmp/nginx/c; uwsgi_temp_path $tmp/nginx/d; scgi_temp_path $tmp/nginx/e;
			sendfile on;
			server {
				listen 127.0.0.1:$free ssl;
				ssl_certificate $PKI/good.pem; ssl_certificate_key $PKI/good.key;
				root $tmp/root;
			}
		}
	EOT
	nginx -c "$tmp/nginx.conf" -e "$tmp/nginx/error.log" 2>/dev/null &
	pids+=($!)
	for _ in $(seq 100); do
		(: <>"/dev/tcp/127.0.0.1/$free") 2>/dev/null && break
		sleep 0.05
	done
	nginx=https://127.0.0.1:$free
	fetch "$nginx/image" "${ca[@]}" --expect-size $size
	ok "nginx: a body is written byte for byte" same
	etag=$(sed -n 's/^begin:.*validator //p' "$tmp/err")
	fetch "$nginx/image" "${ca[@]}" --expect-size $size --offset 4000000 --etag "$etag"
	ok "nginx: a transfer is resumed by Range and If-Range" tail_same 4000000
	fetch "$nginx/image" "${ca[@]}" --expect-size $size --offset $size
	ok "nginx: a range behind the end is code 45" refused_empty 45 4
	head -c $size /dev/urandom >"$tmp/root/image.new"
	touch -d '2001-01-01' "$tmp/root/image.new"
	mv "$tmp/root/image.new" "$tmp/root/image"
	fetch "$nginx/image" "${ca[@]}" --expect-size $size --offset 4000000 --etag "$etag"
	ok "T29 nginx: a file that has changed starts again at byte 0" same
	fetch "$nginx/nothing" "${ca[@]}"
	ok "nginx: a missing file is code 10" refused_empty 10 5
fi

echo "1..$n"
[ $failed -eq 0 ]
