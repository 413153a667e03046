#!/bin/bash
# time limit: 240 s
# What a user of the same host, or the environment that the daemon is started in, can try with a mount
# that everybody may read.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl setpriv python3
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"

# The site's user is nobody; this one has nothing to do with it.
stranger() {
	setpriv --reuid=daemon --regid=daemon --clear-groups "$@"
}

images_up read_timeout=600s stall_timeout=600s
image_add apple ok
image_add pear ok 65536
image_add stalled stall:50 4194304
# A program, as an image.
image_add tool ok 1
cp "$(readlink -f /bin/true)" "$WWW/tool"
images_subscribe

# ---- an environment made by somebody else --------------------------------------------------------

# Each of these would stop the programs from working, or write a file, if one of them was obeyed.
evil=$SITE/evil
mkdir -m 777 "$evil"
cat >"$evil/openssl.cnf" <<'EOT'
openssl_conf = main
[main]
providers = providers
[providers]
default = none
[none]
activate = 0
EOT
cp "$evil/openssl.cnf" "$evil/.curlrc" && echo 'machine 127.0.0.1 login a password b' >"$evil/.netrc"
surrounded=(env "OPENSSL_CONF=$evil/openssl.cnf" "OPENSSL_MODULES=$evil" "SSL_CERT_DIR=$evil" "SSL_CERT_FILE=$evil/none"
	"SSLKEYLOGFILE=$evil/keys" "CURL_HOME=$evil" "HOME=$evil" "XDG_CONFIG_HOME=$evil" "SQLITE_TMPDIR=$evil/tmp"
	"TMPDIR=$evil/tmp" "LD_PRELOAD=$evil/none.so" "LD_LIBRARY_PATH=$evil" "http_proxy=http://127.0.0.1:1"
	"https_proxy=http://127.0.0.1:1" "all_proxy=http://127.0.0.1:1" "ALL_PROXY=http://127.0.0.1:1"
	"LOCPATH=$evil" "TZ=:$evil/zone" "MALLOC_TRACE=$evil/malloc" "RES_OPTIONS=nonsense" "PATH=$evil")
mount_surrounded() {
	"${surrounded[@]}" "$VMIMAGEFS_BUILD/vmimagefs" -o "config=$CONF" </dev/null >>"$LOG" 2>&1
}
check 'X20 a daemon starts in a foreign environment' mount_surrounded
check 'X20 and fetches, verifies and shows what it should' reads apple
check 'X20 so does a command' "${surrounded[@]}" "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" -q update
check_is 'X20 none of them wrote what was asked for there' '.curlrc .netrc openssl.cnf' \
    "$(find "$evil" -mindepth 1 -printf '%f\n' | sort | paste -sd' ')"
check_is 'X20 requests carry no name and password of that home' '' "$(grep -v 'authorization=-$' "$SITE/requests")"
check 'a daemon in such an environment ends in order' mount_down

# ---- mount options ---------------------------------------------------------------------------------

mount_up || bail "no mount: $(tail -n 3 "$LOG")"
mount_options() {
	findmnt -n -o VFS-OPTIONS "$MNT" | tr ',' '\n' | grep -xE 'ro|rw|nosuid|suid|nodev|dev|noexec|exec' | paste -sd' '
}
check_is 'X24 the mount is read-only, without set-uid programs and devices' 'ro nosuid nodev' "$(mount_options)"
check_not 'X24 a user does not mount it anew with them' stranger mount -i -o remount,rw,suid,dev,exec "$MNT"
check_not 'X24 nor by its name' stranger mount -i -o remount,suid "$MNT"
check_not 'X24 nor in a name space of his own' \
    stranger unshare -Urm mount -o remount,bind,suid,dev,rw "$MNT" "$MNT"
if command -v fusermount3 >/dev/null; then
	check_not 'X24 nor by fusermount3' stranger fusermount3 -o remount,suid,dev "$MNT"
	check_not 'X24 a user does not unmount it' stranger fusermount3 -u "$MNT"
fi
check_not 'X24 a user does not detach it' stranger umount -l "$MNT"
check_is 'X24 and the options stay' 'ro nosuid nodev' "$(mount_options)"

# ---- programs --------------------------------------------------------------------------------------

check 'the image of a program is fetched' reads tool --mode pread
tool=$(image tool)
check_like 'F34 a file of the mount is no program, device or set-uid' '^regular file 644 0 0$' \
    "$(stat -L -c '%F %a %u %g' "$tool")"
check_status 'F34 it is not executed' 126 bash -c '"$1"' - "$tool"
loader=$(readelf -l "$WWW/tool" | sed -n 's/.*interpreter: \(.*\)]/\1/p')
check 'F34 a mount without noexec lets a loader read it as one' "$loader" "$tool"
mount_down || bail 'the daemon does not end'
mount_up -o noexec || bail 'no mount with noexec'
check_is 'F34 with noexec the mount says so' 'ro nosuid nodev noexec' "$(mount_options)"
check_status 'F34 and then no loader runs it' 127 "$loader" "$tool"

# ---- other ways to look at a file ------------------------------------------------------------------

cat >"$SITE/look.py" <<'EOT'
import ctypes, errno, fcntl, os, select, struct, sys

path = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
fd = os.open(path, os.O_RDONLY)

def code(fn, *args):
    try:
        fn(*args)
        return "ok"
    except OSError as e:
        return errno.errorcode[e.errno]

p = select.poll()
p.register(fd, select.POLLIN)
print("poll", "ready" if p.poll(5000) else "not ready")
print("select", "ready" if select.select([fd], [], [], 5)[0] else "not ready")
e = select.epoll()
try:
    e.register(fd, select.EPOLLIN)
    print("epoll", "ready" if e.poll(5) else "not ready")
except OSError as x:
    print("epoll", errno.errorcode[x.errno])
i = libc.inotify_init()
print("inotify", "ok" if libc.inotify_add_watch(i, path.encode(), 0xfff) >= 0 else "no")
print("fiemap", code(fcntl.ioctl, fd, 0xc020660b, bytearray(struct.pack("=QQLLLL", 0, 2**63 - 1, 0, 0, 8, 0) + bytes(56 * 8))))
print("getflags", code(fcntl.ioctl, fd, 0x80086601, bytearray(8)))
print("setflags", code(fcntl.ioctl, fd, 0x40086602, bytearray(8)))
print("unknown", code(fcntl.ioctl, fd, 0x12345678, bytearray(8)))
f = libc.fanotify_init(0, 0)
if f >= 0:
    print("fanotify", "ok" if libc.fanotify_mark(f, 1, ctypes.c_uint64(0x20), -100, path.encode()) == 0
          else errno.errorcode[ctypes.get_errno()])
EOT
look() {
	timeout 20 python3 "$SITE/look.py" "$(image "$1")" 2>&1 | paste -sd' '
}
wanted='^poll ready select ready epoll (ready|EPERM) inotify ok fiemap (ok|ENOTTY|ENOTSUP) getflags (ok|ENOTTY|ENOTSUP) '
wanted+='setflags (ENOTTY|EROFS|EPERM|EACCES|EBADF|ENOTSUP) unknown (ENOTTY|EINVAL|ENOSYS)( fanotify (ok|ENODEV|EINVAL|ENOSYS))?$'
check_like 'F38 poll, epoll, inotify, fanotify, FIEMAP and flags of a file have an answer' "$wanted" "$(look apple)"
check_like 'F38 and of one that is still to come, at once' "$wanted" "$(look stalled)"
check 'F38 the file is read as before' reads apple --mode pread

# ---- a link to an object ---------------------------------------------------------------------------

object=$(object_of pear)
check 'an image is fetched' reads pear --mode pread
# Its bytes are answered a moment before it has its name.
wait_for "$VMI_PATIENCE" test -e "$object" || bail 'there is no object'
mkdir -m 777 "$SITE/open"
check_not 'X25 a user does not reach an object to link it' stranger ln "$object" "$SITE/open/link"
# As where links to files of others are allowed, and the way is open.
ln "$object" "$SITE/open/link"
check_not 'X25 a link to an object is not read by its maker' stranger cat "$SITE/open/link"
check_not 'X25 nor written' stranger sh -c ": >>'$SITE/open/link'"
check_not 'X25 nor cut' stranger truncate -s 0 "$SITE/open/link"
check_not 'X25 nor given another mode' stranger chmod 666 "$SITE/open/link"
# And if somebody could all the same.
printf 'X' | dd of="$SITE/open/link" bs=1 seek=5000 conv=notrunc status=none
check 'X25 bytes that were changed through a link are not given out' reads pear --mode direct
rm -f "$SITE/open/link"

# ---- many handles ----------------------------------------------------------------------------------

many=20000 readers=16
[ -z "${VMI_LONG:-}" ] || many=100000 readers=500
cat >"$SITE/many.py" <<'EOT'
import os, sys, time

path, n, ready = sys.argv[1], int(sys.argv[2]), sys.argv[3]
fds = []
try:
    while len(fds) < n:
        fds.append(os.open(path, os.O_RDONLY))
except OSError as e:
    print(e)
print(len(fds), flush=True)
open(ready, "w").write(f"{len(fds)}\n")
time.sleep(600)
EOT
worker_fds() {
	find "/proc/$(daemon_pid worker)/fd" -mindepth 1 | wc -l
}
before=$(worker_fds)
chmod 777 "$SITE/open"
# Not by a function, so that the number of the process is his own.
as_stranger=(setpriv --reuid=daemon --regid=daemon --clear-groups)
# One that others than root may run, too.
python=$(PATH=/usr/bin:/bin command -v python3) || bail 'no python3 of the system'
ulimit -Sn "$(ulimit -Hn)"
most=$(ulimit -n)
[[ $most =~ ^[0-9]+$ ]] && [ "$most" -lt $((many + 100)) ] || most=$((many + 100))
each=$((most - 100)) n_hoarders=0
for ((i = 0; i < many; i += each)); do
	n=$((many - i < each ? many - i : each))
	"${as_stranger[@]}" "$python" "$SITE/many.py" "$(readlink -f "$(image apple)")" $n \
	    "$SITE/open/ready.$i" >>"$SITE/many.log" 2>&1 &
	at_exit kill $!
	hoarders+=($!)
	n_hoarders=$((n_hoarders + 1))
done
# They end by themselves, too, when there is nothing left to read.
cat >"$SITE/reader" <<'EOT'
#!/bin/sh
until=$(($(date +%s) + 120))
while [ "$(date +%s)" -lt $until ] && cat "$1" >/dev/null 2>&1; do
	:
done
EOT
chmod 755 "$SITE/reader"
all_open() {
	[ "$(cat "$SITE/open"/ready.* | awk '{ n += $1 } END { print n }')" -eq $many ]
}
check "X06 a user opens $many handles in $n_hoarders processes" wait_for $((VMI_PATIENCE * 2)) all_open
after=$(worker_fds)
check "X06 for the daemon that is $((after - before)) descriptors more" test $((after - before)) -lt 100
for ((i = 0; i < readers; i++)); do
	"${as_stranger[@]}" "$SITE/reader" "$(image apple)" 2>/dev/null &
	at_exit kill $!
	hoarders+=($!)
done
served() {
	local took

	timed timeout 60 "$@" >/dev/null || return 1
	[ "$took" -lt 20000 ] || { echo "$took ms"; return 1; }
}
check "X06 while $readers of his processes read, root gets a listing" served ls -lR "$MNT/images"
check 'X06 and reads an image' served cat "$(image pear)"
check 'X06 and has the status' served cat "$MNT/status"
kill "${hoarders[@]}" 2>/dev/null
wait "${hoarders[@]}" 2>/dev/null
check 'X06 afterwards all of it is given back' wait_for "$VMI_PATIENCE" sh -c "grep -qx 'files_open: 0' '$MNT/status'"
server_get /release
check 'the daemon ends in order after all that' mount_down
plan_done
