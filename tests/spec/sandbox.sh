#!/bin/bash
# time limit: 240 s
# sandbox.sh - what the running processes of a mount can still do, tried from inside with gdb.
#
# A debugger makes the process itself call open(), connect() and execve(), so that what answers is
# the sandbox it really has and not the one that a test program gave itself.  A refused call has
# EPERM (seccomp) or EACCES (Landlock, file modes); calls that must work are tried as well, because
# a process in which nothing works proves nothing.
#
# Supervisor, starter, runner and worker are those of a mount.  The others live for moments only and
# are held up: fetcher and updater by a server that does not go on, the verifier by a message that
# does not end.

# shellcheck disable=SC2016,SC2119,SC2317 # the '$' are gdb's; functions with optional arguments

set -u
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/lib/tap.sh
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse gdb setpriv openssl curl jq pgrep python3
[ "$(uname -m)" = x86_64 ] || skip_all 'knows the registers of x86_64 alone'
# shellcheck source=tests/lib/mount.sh
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
# Here it is looked at what refusals are, one after the other.
unset VMIMAGEFS_TEST_FILTER
sanitized=${VMI_SANITIZE:-}

# ---- calls from inside -------------------------------------------------------------------------

# System calls by number, for this architecture alone.
declare -A call=(
	[read]=0 [open]=2 [mmap]=9 [mprotect]=10 [getpid]=39 [socket]=41 [connect]=42 [bind]=49
	[listen]=50 [vfork]=58 [execve]=59 [kill]=62 [rename]=82 [mkdir]=83 [rmdir]=84 [unlink]=87
	[ptrace]=101 [setuid]=105 [chroot]=161 [mount]=165 [umount2]=166 [init_module]=175 [mknod]=133
	[keyctl]=250 [unshare]=272 [perf_event_open]=298 [process_vm_readv]=310 [bpf]=321
	[userfaultfd]=323 [io_uring_setup]=425 [prctl]=157
)
registers=(rdi rsi rdx r10 r8 r9)
tries=()		# of the next run: PATTERN, TITLE, and the gdb commands of one call each

# The process waits in the kernel, so that a syscall instruction lies just before its program
# counter.  It is executed with other registers for each try, and in the end as it was.  (A function
# call by gdb would restore the vector registers too, which old versions cannot on new processors.)
add_try() {
	local pattern=$1 title=$2 name=$3 i=0 argument place commands=''

	shift 3
	for argument in "$@"; do
		if [[ $argument = @* ]]; then
			argument=${argument#@}
			place="\$rsp - 2048 + $((i * 256))"
			commands+="set {char[$((${#argument} + 1))]}($place) = \"$argument\""$'\n'
			argument=$place
		fi
		commands+="set \$${registers[i]} = $argument"$'\n'
		i=$((i + 1))
	done
	commands+="set \$rax = ${call[$name]}"$'\n''set $rip = $saved_rip - 2'$'\n''stepi'$'\n'
	commands+='printf "answer %ld\n", $rax'$'\n'
	for argument in "${registers[@]}"; do
		commands+="set \$$argument = \$saved_$argument"$'\n'
	done
	tries+=("$pattern" "$title" "$commands")
}

# An argument is a number or "@TEXT".
refused() { add_try '^-(1|13)$' "$@"; }		# TITLE CALL ARGUMENT...: EPERM or EACCES
works() { add_try '^[0-9]+$' "$@"; }
answers() { add_try "^-$1\$" "${@:2}"; }	# ERRNO TITLE CALL ARGUMENT...: it is not the sandbox

# Runs what was added in the process, all in one go.
run_tries() {
	local pid=$1 i argument found script=$SITE/tries.gdb

	{
		echo 'set scheduler-locking on'
		for argument in "${registers[@]}" rip; do
			echo "set \$saved_$argument = \$$argument"
		done
		printf '%s\n' 'set $saved_rax = $orig_rax' 'set $orig_rax = -1'
		for ((i = 2; i < ${#tries[@]}; i += 3)); do
			printf '%s' "${tries[i]}"
		done
		printf '%s\n' 'set $rax = $saved_rax' 'set $rip = $saved_rip - 2'
	} >"$script"
	mapfile -t found < <(gdb --nx --batch -p "$pid" -x "$script" 2>&1 | sed -n 's/^answer //p')
	for ((i = 0; i < ${#tries[@]}; i += 3)); do
		check_like "${tries[i + 1]}" "${tries[i]}" "${found[i / 3]:-no answer}"
	done
	tries=()
}

# The test can be made only where a debugger may attach.
probe_gdb() {
	local dir

	dir=$(mktemp -d) && at_exit rm -rf "$dir" && mkfifo "$dir/silence" || return 1
	# What it takes for bytes that it has read is the answer of another call.
	cat <>"$dir/silence" >/dev/null &
	at_exit kill $!
	printf '%s\n' 'set $rax = 39' 'set $orig_rax = -1' 'set $rip = $rip - 2' stepi 'printf "answer %ld\n", $rax' \
	    >"$dir/script"
	[ "$(gdb --nx --batch -p $! -x "$dir/script" 2>&1 | sed -n 's/^answer //p')" = $! ]
}
probe_gdb || skip_all 'gdb cannot attach to processes here'

status_of() {
	sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status"
}

# unprivileged WHO PID USER CAPABILITIES
unprivileged() {
	local uid

	uid=$(id -u "$3")
	check_is "I17 $1 runs as its user" "$uid	$uid	$uid	$uid" "$(status_of "$2" Uid)"
	check_is "I17 $1 has no more capabilities than it needs" "$4 $4 $none $none" \
	    "$(status_of "$2" CapEff) $(status_of "$2" CapPrm) $(status_of "$2" CapInh) $(status_of "$2" CapAmb)"
}

# confined WHO PID
confined() {
	check_is "I17 $1 can gain nothing by exec and has a filter of calls" "1 2 $none" \
	    "$(status_of "$2" NoNewPrivs) $(status_of "$2" Seccomp) $(status_of "$2" CapBnd)"
	check_is "I17 $1 belongs to no other group" '' "$(status_of "$2" Groups | tr -d ' ')"
}

# hidden WHO PID USER: nobody else of its user looks into it, and it leaves no core.
hidden() {
	check_like "X09 $1 leaves no core file" '^0 +0 ' \
	    "$(sed -n 's/^Max core file size *//p' "/proc/$2/limits")"
	if [ -n "$sanitized" ]; then
		skip "X09 $1 keeps its memory from other processes of its user" 'sanitizers look into it'
		return
	fi
	check_not "X09 $1 keeps its memory from other processes of its user" \
	    setpriv --reuid="$3" --regid=nogroup --clear-groups head -c 1 "/proc/$2/environ"
	check_not "X09 $1 cannot be traced by them" \
	    setpriv --reuid="$3" --regid=nogroup --clear-groups sh -c "gdb --nx --batch -p $2 2>&1 | grep -q '^0x'"
}

# fds_are WHO PID PATTERN: of what it has open, all matches the pattern.
fds_are() {
	check_is "I17 $1 has nothing open that it does not need" '' \
	    "$(readlink "/proc/$2/fd"/* | grep -vE "^($3|$LOG|/dev/null|$(readlink -f /dev/fd/0)|socket:.*|pipe:.*)\$")"
}

none=0000000000000000
executes=(execve @/bin/true 0 0)
mounts=(mount @x @/mnt @tmpfs 0 0)

# powerless WHO: what nobody may.  FOREIGN is a process of somebody else with the same user.
powerless() {
	refused "X10 $1 mounts nothing" "${mounts[@]}"
	refused "X10 $1 traces nothing" ptrace 16 "$foreign" 0 0
	refused "X10 $1 reads the memory of no process" process_vm_readv "$foreign" 0 0 0 0 0
	refused "X10 $1 has no name space of its own" unshare 0x10000000
	refused "X10 $1 loads nothing into the kernel" bpf 0 0 0
	refused "X10 $1 has no keys" keyctl 0 0 0 0 0
	refused "X10 $1 watches no processor" perf_event_open 0 0 -1 -1 0
	refused "X10 $1 has no other way for calls" io_uring_setup 1 0
	refused "X10 $1 becomes nobody else" setuid 0
}

# ---- a site --------------------------------------------------------------------------------------

# Handlers belong to another user here, who may kill none of the others.
images_up event_user=daemon event_command=/bin/true connect_timeout=60s stall_timeout=600s read_timeout=600s
image_add ready ok 65536
image_add stalled stall:50 4194304
images_subscribe
# Where everybody may write, so that it is not the file modes that refuse.
mkdir -m 777 "$SITE/open"
echo anything >"$SITE/open/theirs" && chmod 666 "$SITE/open/theirs"
writes=(open "@$SITE/open/made" 0101 0600)
setpriv --reuid=nobody --regid=nogroup --clear-groups sleep 1000 &
foreign=$!
at_exit kill $foreign

mount_up || bail "no mount: $(tail -n 3 "$LOG")"
check 'an image is fetched and read' reads ready --mode pread
supervisor=$(daemon_pid supervisor)
starter=$(daemon_pid starter)
worker=$(daemon_pid worker)
runner=$(find_by_name vmi-runner)
log_of_start=$(<"$LOG")

# ---- supervisor ----------------------------------------------------------------------------------

unprivileged 'the supervisor' "$supervisor" nobody 0000000000200000
confined 'the supervisor' "$supervisor"
hidden 'the supervisor' "$supervisor" nobody
works 'the supervisor reads where things are mounted' open @/proc/self/mountinfo 0
answers 2 'the supervisor unmounts' umount2 @/no/such/place 8
answers 2 'the supervisor mounts anew what gives nobody anything' mount @x @/no/such/place @tmpfs 7 0
powerless 'the supervisor'
refused 'X10 the supervisor mounts nothing with setuid programs' mount @x @/no/such/place @tmpfs 5 0
refused 'X10 the supervisor mounts nothing elsewhere again' mount @/ @/mnt 0 0x1007 0
refused 'X10 the supervisor does not open /etc/shadow' open @/etc/shadow 0
refused 'X10 the supervisor opens no socket' socket 2 1 0
refused 'X10 the supervisor connects to nothing' connect 0 0 0
refused 'X10 the supervisor executes nothing' "${executes[@]}"
refused 'X10 the supervisor kills no process of root' kill $$ 0
refused 'X10 the supervisor makes no directory' mkdir "@$SITE/open/dir" 0700
refused 'X10 the supervisor makes no memory executable' mmap 0 4096 7 0x22 -1 0
run_tries "$supervisor"

# ---- starter -------------------------------------------------------------------------------------

unprivileged 'the starter' "$starter" nobody $none
confined 'the starter' "$starter"
hidden 'the starter' "$starter" nobody
fds_are 'the starter' "$starter" 'anon_inode:.signalfd.'
works 'the starter reads what everybody may' open @/etc/passwd 0
works 'the starter leaves sockets to fetchers' socket 2 1 0
powerless 'the starter'
refused 'X10 the starter does not open /etc/shadow' open @/etc/shadow 0
refused 'X10 the starter listens nowhere' listen 0 1
refused 'X10 the starter kills no process of root' kill $$ 0
run_tries "$starter"

# ---- runner --------------------------------------------------------------------------------------

# Its children are the site's own programs: it has no more than another process of its user.
unprivileged 'the runner' "$runner" daemon $none
check_is 'I17 the runner leaves no sandbox on handlers' '0 0' \
    "$(status_of "$runner" NoNewPrivs) $(status_of "$runner" Seccomp)"
fds_are 'the runner' "$runner" 'anon_inode:.signalfd.'
if [ -z "$sanitized" ]; then
	check_not 'X09 the runner keeps its memory from other processes of its user' \
	    setpriv --reuid=daemon --regid=daemon --clear-groups head -c 1 "/proc/$runner/environ"
fi
works 'the runner reads what everybody may' open @/etc/passwd 0
refused 'X10 the runner does not open /etc/shadow' open @/etc/shadow 0
refused 'X10 the runner does not open the catalogue' open "@$SITE/state/catalogue.db" 0
refused 'X10 the runner does not write into the store' open "@$SITE/cache/made" 0101 0600
refused 'X10 the runner traces nothing of the daemon' ptrace 16 "$worker" 0 0
refused 'X10 the runner kills nothing of the daemon' kill "$worker" 0
refused 'X10 the runner mounts nothing' "${mounts[@]}"
refused 'X10 the runner becomes nobody else' setuid 0
run_tries "$runner"

# ---- worker --------------------------------------------------------------------------------------

unprivileged 'the worker' "$worker" nobody $none
confined 'the worker' "$worker"
hidden 'the worker' "$worker" nobody
works 'the worker opens its state' open "@$SITE/state" 0
works 'the worker makes a directory in the cache' mkdir "@$SITE/cache/tried" 0700
works 'the worker removes it' rmdir "@$SITE/cache/tried"
powerless 'the worker'
refused 'X10 the worker does not open /etc/shadow' open @/etc/shadow 0
refused 'X10 the worker does not open what everybody may read' open @/etc/passwd 0
refused 'X10 the worker does not look at other processes' open @/proc/1/status 0
refused 'X10 the worker makes no file elsewhere' "${writes[@]}"
refused 'X10 the worker changes no file elsewhere' open "@$SITE/open/theirs" 1
refused 'X10 the worker removes no file elsewhere' unlink "@$SITE/open/theirs"
refused 'X10 the worker does not write its configuration' open "@$CONF" 1
refused 'X10 the worker opens no socket' socket 2 1 0
refused 'X10 the worker opens no socket to a process of this host' socket 1 1 0
refused 'X10 the worker connects to nothing' connect 0 0 0
refused 'X10 the worker executes nothing' "${executes[@]}"
refused 'X10 the worker makes no process' vfork
refused 'X10 the worker kills nobody' kill "$foreign" 0
refused 'X10 the worker unmounts nothing' umount2 "@$MNT" 2
if [ -z "$sanitized" ]; then
	refused 'X10 the worker makes no memory executable' mmap 0 4096 7 0x22 -1 0
fi
run_tries "$worker"

# ---- fetcher -------------------------------------------------------------------------------------

"$oracle_program" --mode pread "$(image stalled)" "$WWW/stalled" >/dev/null 2>&1 </dev/null &
at_exit kill $!
is_confined() {
	[ "$(status_of "$1" Seccomp)" = 2 ] && [ "$(status_of "$1" Seccomp_filters)" -ge "$2" ]
}
fetcher_is_busy() {
	fetcher=$(daemon_pid fetcher | head -n 1)
	[ -n "$fetcher" ] && is_confined "$fetcher" 2 && [ "$(requests stalled)" -gt 0 ]
}
if wait_for "$VMI_PATIENCE" fetcher_is_busy; then
	unprivileged 'the fetcher' "$fetcher" nobody $none
	confined 'the fetcher' "$fetcher"
	hidden 'the fetcher' "$fetcher" nobody
	fds_are 'the fetcher' "$fetcher" 'anon_inode:.event(poll|fd).'
	works 'the fetcher opens a socket' socket 2 1 0
	works 'the fetcher reads the list of name servers' open @/etc/hosts 0
	powerless 'the fetcher'
	refused 'X10 the fetcher opens no packet socket' socket 17 3 0
	refused 'X10 the fetcher does not listen' listen 0 1
	refused 'X10 the fetcher does not open /etc/shadow' open @/etc/shadow 0
	refused 'X10 the fetcher does not open the catalogue' open "@$SITE/state/catalogue.db" 0
	refused 'X10 the fetcher does not open an image' open "@$(object_of ready)" 0
	refused 'X10 the fetcher writes no file' "${writes[@]}"
	refused 'X10 the fetcher changes no file' open "@$SITE/open/theirs" 1
	refused 'X10 the fetcher executes nothing' "${executes[@]}"
	refused 'X10 the fetcher makes no process' vfork
	refused 'X10 the fetcher kills nobody' kill "$foreign" 0
	[ -n "$sanitized" ] ||
	    refused 'X10 the fetcher makes no memory executable' mmap 0 4096 7 0x22 -1 0
	run_tries "$fetcher"
else
	not_ok 'a fetcher enters its sandbox' "$(tail -n 3 "$LOG")"
fi

# ---- verifier ------------------------------------------------------------------------------------

as_nobody() {
	exec setpriv --reuid=nobody --regid=nogroup --clear-groups --inh-caps=-all \
	    --bounding-set=-all "$@"
}

# start_verifier [NAME=VALUE...]: one that waits for the rest of its message.
mkfifo "$SITE/message"
exec 8<>"$SITE/message"
start_verifier() {
	(as_nobody env "$@" "$VMIMAGEFS_BUILD/vmimagefs-verifier" "$CERTS" <&8 2>>"$LOG" 8>&- | cat >/dev/null) &
	at_exit kill $!
	wait_for "$VMI_PATIENCE" verifier_waits
}
verifier_waits() {
	verifier=$(pgrep -n -f "^$VMIMAGEFS_BUILD/vmimagefs-verifier $CERTS\$") && is_confined "$verifier" 2
}

if start_verifier; then
	unprivileged 'the verifier' "$verifier" nobody $none
	confined 'the verifier' "$verifier"
	hidden 'the verifier' "$verifier" nobody
	fds_are 'the verifier' "$verifier" "$SITE/message"
	check_is 'I17 the verifier has no descriptor but those three' '0 1 2' \
	    "$(ls "/proc/$verifier/fd" | paste -sd' ')"
	works 'the verifier has memory' mmap 0 4096 3 0x22 -1 0
	powerless 'the verifier'
	refused 'X11 the verifier does not open /etc/shadow' open @/etc/shadow 0
	refused 'X11 the verifier does not open what everybody may read' open @/etc/passwd 0
	refused 'X11 the verifier does not open its trust directory any more' open "@$CERTS" 0
	refused 'X11 the verifier writes no file' "${writes[@]}"
	refused 'X11 the verifier opens no socket' socket 2 1 0
	refused 'X11 the verifier connects to nothing' connect 0 0 0
	refused 'X11 the verifier executes nothing' "${executes[@]}"
	refused 'X11 the verifier makes no process' vfork
	refused 'X11 the verifier kills nobody' kill "$foreign" 0
	[ -n "$sanitized" ] ||
	    refused 'X11 the verifier makes no memory executable' mmap 0 4096 5 0x22 -1 0
	run_tries "$verifier"
	kill "$verifier"
else
	not_ok 'the verifier enters its sandbox before the message' "$(tail -n 3 "$LOG")"
fi

# Of a test build alone; the others know nothing of the variable.
if grep -aq VMIMAGEFS_TEST_FILTER "$VMIMAGEFS_BUILD/vmimagefs-verifier"; then
	start_verifier VMIMAGEFS_TEST_FILTER=kill
	add_try '^no answer$' 'P17 in a test build a forbidden call ends the process' socket 2 1 0
	run_tries "$verifier"
	check_not 'P17 and it is gone' test -e "/proc/$verifier/fd/0"
fi

# ---- updater -------------------------------------------------------------------------------------

# While the server stands still.  Then the list is a new one, which is verified.
images_sign
kill -STOP "$SERVER_PID"
at_exit kill -CONT "$SERVER_PID"
ctl update >"$SITE/update.log" 2>&1 </dev/null &
updating=$!
at_exit kill $updating
find_updater() {
	local pid

	updater=
	for pid in $(pgrep -f "^$VMIMAGEFS_BUILD/vmimagectl -c $CONF update\$"); do
		[ "$(<"/proc/$pid/comm")" != vmimagectl ] || updater=$pid
	done
	[ -n "$updater" ] && is_confined "$updater" 2
}
if wait_for "$VMI_PATIENCE" find_updater; then
	unprivileged 'the updater' "$updater" nobody $none
	confined 'the updater' "$updater"
	hidden 'the updater' "$updater" nobody
	works 'the updater opens its state' open "@$SITE/state" 0
	works 'the updater opens a socket to the daemon' socket 1 1 0
	powerless 'the updater'
	refused 'X10 the updater does not open /etc/shadow' open @/etc/shadow 0
	refused 'X10 the updater does not open what everybody may read' open @/etc/passwd 0
	refused 'X10 the updater makes no file elsewhere' "${writes[@]}"
	refused 'X10 the updater opens no socket to the network' socket 2 1 0
	refused 'X10 the updater executes nothing' "${executes[@]}"
	refused 'X10 the updater makes no process' vfork
	refused 'X10 the updater kills nobody' kill "$foreign" 0
	run_tries "$updater"
else
	not_ok 'an updater enters its sandbox' "$(tail -n 3 "$SITE/update.log")"
fi
kill -CONT "$SERVER_PID"
status=0
wait $updating || status=$?
check_is 'after all that an update ends well' 0 "$status"

# ---- what is said of it --------------------------------------------------------------------------

# The kernel's words: what status says of a process that lives must be them.
said() {
	ctl --json status | jq -r --arg process "$1" '.sandbox[] | select(.process == $process) |
	    "\(.pid) \(.uid) \(.capabilities) \(.no_new_privs) \(.seccomp) \(.landlock > 0)"'
}
# as_the_kernel PROCESS PID SECCOMP LANDLOCK
as_the_kernel() {
	local nnp=false

	[ "$(status_of "$2" NoNewPrivs)" = 0 ] || nnp=true
	check_is "I17 status says of the $1 what the kernel says" \
	    "$2 $(status_of "$2" Uid | cut -f1) $(status_of "$2" CapPrm) $nnp $3 $4" "$(said "$1")"
}
as_the_kernel supervisor "$supervisor" permissions true
as_the_kernel starter "$starter" refusals false
as_the_kernel runner "$runner" none false
as_the_kernel worker "$worker" permissions true
check_like 'I17 status tells of the fetcher by itself' \
    "^[0-9]+ $(id -u nobody) $none true permissions true\$" "$(said fetcher)"
check_like 'I17 of the verifier' "^[0-9]+ $(id -u nobody) $none true permissions true\$" "$(said verifier)"
check_like 'I17 and of the updater' "^[0-9]+ $(id -u nobody) $none true permissions true\$" "$(said updater)"
check_is 'I17 the file status of the mount says the same' "$(ctl status | grep '^sandbox\.')" \
    "$(grep '^sandbox\.' "$MNT/status")"
check_is 'I17 so does status.json' "$(ctl --json status | jq -c .sandbox)" "$(jq -c .sandbox "$MNT/status.json")"
check_is 'I17 of this kernel nothing is missing' '' \
    "$(printf '%s\n' "$log_of_start" | grep -iE 'no (Landlock|seccomp)|not filtered')"
wrong_confined() {
	printf 'confined %s\n' "$(printf '%096d' 0)" | timeout 5 python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
s.sendall(sys.stdin.buffer.read()); print(s.recv(999).decode())' "$SITE/run/control"
}
check_like 'X05 nobody tells it of another process' '^err ' "$(wrong_confined)"

check 'the mount still answers after all that' ls "$MNT"
check 'the daemon ends in order after all that' mount_down
plan_done
