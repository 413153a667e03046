#!/bin/bash
# With integrity = open an image is hashed once a mount, and from then on the kernel reads the stored
# file by itself (FUSE passthrough), as fast as any file.  Whoever cannot have that is served by the
# daemon, which checks every read.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl python3 fsverity
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/lists.sh"
. "$here/../lib/verity.sh"
. "$here/../lib/blocks.sh"

images_up stall_timeout=20s integrity=open fill=never block_timeout=20s
mib=1048576

image_add plain ok $((3 * mib + 4097))
image_add again ok $((2 * mib))
image_add open once-stall:50 $((2 * mib))
image_add trusted ok $((2 * mib))
image_add evicted ok
image_disk lazy ok 4
image_blocks lazy
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"

# passed NAME: its name leads to the node that passes through.  Told by what an open counts.
n_passing() {
	status_of passthrough_files_open
}
passing_is() {
	[ "$(n_passing)" = "$1" ]
}
images_passing() {
	[ "$(status_of passthrough_images)" -ge "$1" ]
}
passes() {
	local before fd

	before=$(n_passing)
	exec {fd}<"$(image "$1")" || return 1
	wait_for 3 passing_is $((before + 1)) && exec {fd}<&- && wait_for 5 passing_is "$before"
}
passes_not() {
	local before fd after

	before=$(n_passing)
	exec {fd}<"$(image "$1")" || return 1
	sleep 1.1		# the status is of a second ago at most
	after=$(n_passing)
	exec {fd}<&-
	[ "$before" = "$after" ]
}
passes_soon() {
	wait_for 10 passes "$1"
}
frozen() {
	local worker status

	worker=$(daemon_pid worker)
	kill -STOP "$worker"
	"$@"
	status=$?
	kill -CONT "$worker"
	return "$status"
}
forget_pages() {
	local file

	for file in "$(object_of "$1")" "$(readlink -f "$(image "$1")")"; do
		dd if="$file" iflag=nocache count=0 status=none
	done
}

if ! grep -q '^passthrough: yes' "$MNT/status"; then
	skip_all "this kernel or libfuse has none: $(status_of passthrough)"
fi

# ---- what has just been fetched -----------------------------------------------------------------

check 'a first read is right' reads plain --mode pread
check 'an image that was hashed while it came passes through from then on' passes_soon plain
check 'status counts it' images_passing 1
exec 7<"$(image plain)"
forget_pages plain
# Asks the kernel for bytes and for nothing else: perl and cat want to know more, which the daemon
# would have to tell.
whole() {
	timeout 20 python3 -c '
import os, sys
right = open(sys.argv[2], "rb").read()
fd, at = int(sys.argv[1]), 0
while at <= len(right):
    data = os.pread(fd, 65536, at)
    assert data == right[at:at + 65536], at
    at += len(data) or 65536
' "$1" "$2"
}
check 'it is read to its end while the daemon stands still' frozen whole 7 "$WWW/plain"
direct() {
	timeout 20 python3 -c '
import mmap, os, signal, sys
right = open(sys.argv[2], "rb").read()
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
room = mmap.mmap(-1, 131072)
os.kill(int(sys.argv[3]), signal.SIGSTOP)
try:
    for at in (1048576, 0, 65536):
        assert os.preadv(fd, [room], at) == 131072, at
        assert room[:] == right[at:at + 131072], at
finally:
    os.kill(int(sys.argv[3]), signal.SIGCONT)
' "$(image plain)" "$WWW/plain" "$(daemon_pid worker)"
}
check 'so it is with O_DIRECT' direct
hold mapped "$(image plain)" || not_ok 'it is mapped'
forget_pages plain
touched() {
	local at

	for at in 0 $((2 * mib)) $((3 * mib + 4096)); do
		[ "$(held mapped touch "$at")" = ok ] || return 1
	done
}
check 'and through a mapping' frozen touched
check_is 'which has the right bytes' same "$(held mapped same "$WWW/plain")"
let_go mapped
seeks() {
	python3 -c '
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
size = os.fstat(fd).st_size
assert os.lseek(fd, 4096, os.SEEK_HOLE) == size
assert os.lseek(fd, 4096, os.SEEK_DATA) == 4096
' "$1"
}
check 'F25 seeking still says that all of it is data' seeks "$(image plain)"
check_not 'I14 it cannot be written' \
    dd if=/dev/zero of="$(image plain)" bs=1 count=1 conv=notrunc status=none
check 'it is read in all ways' reads plain
exec 7<&-
check 'what is closed is counted no more' wait_for 5 passing_is 0

# ---- what was there before ----------------------------------------------------------------------

check 'another image is fetched' reads again --mode pread
check 'the daemon ends' mount_down
check 'the daemon starts' mount_up
exec 7<"$(image again)"
check 'the first open of an image is checked by the daemon, until it was hashed as a whole' \
    whole 7 "$WWW/again"
check 'after that new opens pass through' passes_soon again
check 'while the first one goes on' whole 7 "$WWW/again"
check 'both ways at once' reads again
exec 7<&-

# ---- complete while it is open --------------------------------------------------------------------

(timeout 60 cat "$(image open)" >"$SITE/early") &
early=$!
wait_for 10 test "$(status_of reads_parked)" -ge 1
exec 7<"$(image open)"
server_get '/release?always'
wait "$early"
check 'who waited for the image gets it' cmp "$SITE/early" "$WWW/open"
check 'new opens of it pass through' passes_soon open
check 'the one from before it was here goes on through the daemon' whole 7 "$WWW/open"
check 'all is right' reads open
exec 7<&-

exec 7<"$(image lazy)"
check 'an image is read block by block' part lazy 3
check 'and does not pass through' passes_not lazy
dd if="$(image lazy)" of=/dev/null bs=1M status=none
check 'until it is complete' passes_soon lazy
check 'the handle from before goes on' whole 7 "$WWW/lazy"
check 'new ones, too' reads lazy
exec 7<&-

# ---- what is withdrawn ------------------------------------------------------------------------------

check 'an image is fetched' reads evicted --mode pread
check 'it passes through' passes_soon evicted
check 'it is evicted' ctl -q evict evicted
check 'and fetched anew by the next reader' reads evicted --mode pread
check 'and passes through again' passes_soon evicted

check 'one more is fetched' reads trusted --mode pread
check 'and passes through' passes_soon trusted
path=$(readlink -f "$(image trusted)")
hold vm "$path" || not_ok 'it is held open'
exec 7<"$path"
ctl -q endorser unlink alice a-list || not_ok 'the endorser is unlinked'
check 'S37 a distrusted image is not opened any more' wait_for 10 opens_as EKEYREJECTED "$path"
check_is 'who has it open in the hands of the kernel reads on' same "$(held vm same "$WWW/trusted")"
check 'status names the image and how many have it open' wait_for 5 \
    grep -q "^held.$(image_hex trusted): .* 2 open files" "$MNT/status"
let_go vm
exec 7<&-
no_held() {
	! grep -q '^held' "$MNT/status"
}
check 'until the last one has closed it' wait_for 5 no_held
ctl -q endorser link alice a-list && ctl -q update || not_ok 'the endorser is linked again'
check 'an image that is trusted again is read' wait_for 10 reads trusted --mode pread
check 'and passes through' passes_soon trusted

# ---- asked to do otherwise ---------------------------------------------------------------------------

sed -i 's/^integrity.*/integrity = read/' "$CONF"
ctl -q reload || not_ok 'the configuration is read again'
check 'with integrity = read no new open passes through' wait_for 5 passes_not trusted
check 'and all is read' reads trusted
check_is 'which status says' 'no (integrity = read)' "$(status_of passthrough)"

# ---- what is known to be bad -------------------------------------------------------------------------

server_down
flip_byte "$(object_of trusted)" $((mib + 7))
forget_pages trusted
check 'a block that went bad, and cannot be fetched, is EIO' fails trusted EIO --mode direct
check 'the image is degraded' wait_for 5 state_is trusted degraded
sed -i 's/^integrity.*/integrity = open/' "$CONF"
ctl -q reload || not_ok 'the configuration is read again'
check 'I16 with integrity = open again it does not pass through' passes_not trusted
check 'I16 nor later' passes_not trusted
check 'I16 its bad block is EIO to all who open it' fails trusted EIO --mode direct
server_again() {
	"$hostile" --root "$WWW" --log "$SITE/requests" --port "${SERVER##*:}" >"$SITE/ports" </dev/null &
	SERVER_PID=$!
	at_exit images_server_stop "$SERVER_PID"
	wait_for 10 grep -qx ready "$SITE/ports"
}
server_again || bail 'the scripted server does not start again'
healed() {
	reads trusted --mode direct
}
check 'with the network back it is healed' wait_for 20 healed
check 'and passes through, hashed anew' passes_soon trusted

sed -i 's/^integrity.*/integrity = read/' "$CONF"
ctl -q reload && wait_for 5 passes_not trusted || not_ok 'with integrity = read it does not'
cp -p "$(object_of trusted)" "$SITE/cache/impostor"
flip_byte "$SITE/cache/impostor" $((mib + 7))
mv "$SITE/cache/impostor" "$(object_of trusted)"
sed -i 's/^integrity.*/integrity = open/' "$CONF"
ctl -q reload || not_ok 'the configuration is read again'
check 'X27 another file behind the name is hashed before it passes through' passes_soon trusted
check 'X27 and healed' reads trusted --mode direct
mount_down || not_ok 'the daemon ends'

# ---- what the supervisor did not hear of -------------------------------------------------------------

each() {
	local name

	for name in plain again trusted; do
		"$@" "$name" || { echo "$name"; return 1; }
	done
}
lose() {
	flip_byte "$(object_of "$1")" $((mib + 7)) && ctl -q evict "$1"
}
reads_anew() {
	forget_pages "$1"
	reads "$1" --mode pread,direct
}
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
check 'what passed through before does so again' each passes_soon
supervisor=$(daemon_pid supervisor) worker=$(daemon_pid worker)
at_exit kill -CONT "$supervisor"
kill -STOP "$supervisor"
check 'files go while the supervisor does not listen' each lose
kill -KILL "$worker"
wait_for "$VMI_PATIENCE" is_gone "$worker" || not_ok 'the worker ends'
kill -CONT "$supervisor"
check 'another worker serves' worker_wait "$worker"
check 'they are fetched again' ctl -q fetch --all
check 'and pass through' each passes_soon
check 'I1 from the files that they have now' each reads_anew
mount_down || not_ok 'the daemon ends'

# ---- where it cannot be had ------------------------------------------------------------------------

sed -i 's/^integrity.*/integrity = open/' "$CONF"
shim=$(dirname "$hostile")/shim.so
if [ -n "${VMI_SANITIZE:-}" ] || [ ! -e "$shim" ]; then
	skip 'without the capability images are served by the daemon' 'shim.so and sanitizers do not go together'
else
	LD_PRELOAD=$shim SHIM_FAIL=backing:*:EPERM mount_up || bail "no mount: $(tail -n 3 "$LOG")"
	check 'without the capability images are served by the daemon' reads trusted
	said_no() {
		grep -q '^passthrough: no (.*CAP_SYS_ADMIN' "$MNT/status"
	}
	check 'status says why' wait_for 10 said_no
	check 'no open passes through' passes_not trusted
	check 'all is right' reads trusted
	check_is 'the log says it once' 1 "$(grep -c 'passthrough: no (.*CAP_SYS_ADMIN' "$LOG")"
	check 'the daemon ends' mount_down
fi

plan_done
