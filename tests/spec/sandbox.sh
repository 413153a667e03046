#!/bin/bash
# sandbox.sh - what the running processes of a mount can still do, tried from inside with gdb.
#
# A debugger makes the process itself call open(), connect() and execve(), so that what answers is
# the sandbox it really has and not the one that a test program gave itself.  A refused call has
# EPERM (seccomp) or EACCES (Landlock); calls that must work are tried as well, because a process
# in which nothing works proves nothing.
#
# The worker is that of a mount.  Fetcher and verifier live for moments only; here they are held up:
# the fetcher by a pipe that nobody empties, the verifier by a message that does not end.

# shellcheck disable=SC2016,SC2119,SC2317 # the '$' are gdb's; functions with optional arguments

set -u
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/lib/tap.sh
. "$here/../lib/tap.sh"
need root fuse gdb setpriv
[ "$(uname -m)" = x86_64 ] || skip_all 'knows the registers of x86_64 alone'
# shellcheck source=tests/lib/mount.sh
. "$here/../lib/mount.sh"

site_up

# System calls by number, for this architecture alone.
declare -A call=(
	[open]=2 [mmap]=9 [getpid]=39 [socket]=41 [connect]=42 [listen]=50 [vfork]=58 [execve]=59
	[kill]=62 [mkdir]=83 [rmdir]=84 [ptrace]=101 [mount]=165
)
registers=(rdi rsi rdx r10 r8 r9)

# inside PID CALL ARGUMENT...: the process makes the call; prints what the kernel answers, negative
# for an errno value.  An argument is a number or "@TEXT".
#
# The process waits in the kernel, so that a syscall instruction lies just before its program
# counter.  It is executed once more with other registers, and then as it was.  (A function call
# by gdb would restore the vector registers too, which old versions cannot on new processors.)
inside() {
	local pid=$1 name=$2 i=0 argument place commands=(-ex 'set scheduler-locking on')

	shift 2
	for argument in "${registers[@]}" rip; do
		commands+=(-ex "set \$saved_$argument = \$$argument")
	done
	commands+=(-ex "set \$saved_rax = \$orig_rax" -ex 'set $orig_rax = -1')
	for argument in "$@"; do
		if [[ $argument = @* ]]; then
			argument=${argument#@}
			place="\$rsp - 2048 + $((i * 256))"
			commands+=(-ex "set {char[$((${#argument} + 1))]}($place) = \"$argument\"")
			argument=$place
		fi
		commands+=(-ex "set \$${registers[i]} = $argument")
		i=$((i + 1))
	done
	commands+=(-ex "set \$rax = ${call[$name]}" -ex 'set $rip = $rip - 2' -ex stepi
		   -ex 'printf "answer %ld\n", $rax')
	for argument in "${registers[@]}" rax rip; do
		commands+=(-ex "set \$$argument = \$saved_$argument")
	done
	commands+=(-ex 'set $rip = $rip - 2')
	gdb --nx --batch -p "$pid" "${commands[@]}" 2>&1 | sed -n 's/^answer //p'
}

# refused TITLE PID CALL ARGUMENT...: it fails, and with EPERM or EACCES.
refused() {
	local title=$1

	shift
	check_like "$title" '^-(1|13)$' "$(inside "$@")"
}

# works TITLE PID CALL ARGUMENT...
works() {
	local title=$1

	shift
	check_like "$title" '^[0-9]+$' "$(inside "$@")"
}

status_of() {
	sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status"
}

# unprivileged WHO PID CAPABILITIES
unprivileged() {
	local uid

	uid=$(id -u nobody)
	check_is "I17 $1 runs as the user" \
	    "$uid	$uid	$uid	$uid" "$(status_of "$2" Uid)"
	check_is "I17 $1 has no more capabilities than it needs" "$3 $3 0000000000000000" \
	    "$(status_of "$2" CapEff) $(status_of "$2" CapPrm) $(status_of "$2" CapBnd)"
	check_is "I17 $1 belongs to no other group" '' "$(status_of "$2" Groups | tr -d ' ')"
}

# confined WHO PID
confined() {
	check_is "I17 $1 can gain nothing by exec and has a filter of calls" '1 2' \
	    "$(status_of "$2" NoNewPrivs) $(status_of "$2" Seccomp)"
}

executes=(execve @/bin/true 0 0)
mounts=(mount @x @/mnt @tmpfs 0 0)
# Where everybody may write, so that it is not the file modes that refuse.
mkdir -m 777 "$SITE/open"
writes=(open "@$SITE/open/made" 0101 0600)
none=0000000000000000

# The test can be made only where a debugger may attach.
probe_gdb() {
	mkfifo "$SITE/silence"
	cat <>"$SITE/silence" &
	at_exit kill $!
	[ "$(inside $! getpid)" = $! ]
}
probe_gdb || skip_all 'gdb cannot attach to processes here'

# ---- a mount ----------------------------------------------------------------------------------

mount_up || bail "no mount: $(tail -n 3 "$LOG")"
supervisor=$(daemon_pid supervisor)
starter=$(daemon_pid starter)
worker=$(daemon_pid worker)

unprivileged 'the supervisor' "$supervisor" 0000000000200000
confined 'the supervisor' "$supervisor"
refused 'the supervisor opens no socket' "$supervisor" socket 2 1 0
refused 'the supervisor executes nothing' "$supervisor" "${executes[@]}"
refused 'the supervisor mounts nothing' "$supervisor" "${mounts[@]}"

unprivileged 'the starter' "$starter" $none
check_is 'the starter leaves no filter on what it starts' '0 0' \
    "$(status_of "$starter" NoNewPrivs) $(status_of "$starter" Seccomp)"
check_is 'the starter has no descriptor of the store or of the kernel' '' \
    "$(readlink "/proc/$starter/fd"/* | grep -E "/dev/fuse|$SITE/(state|cache|run)")"

unprivileged 'the worker' "$worker" $none
confined 'the worker' "$worker"
works 'the worker opens its state' "$worker" open "@$SITE/state" 0
works 'the worker makes a directory in the cache' "$worker" mkdir "@$SITE/cache/tried" 0700
works 'the worker removes it' "$worker" rmdir "@$SITE/cache/tried"
refused 'the worker does not open /etc/shadow' "$worker" open @/etc/shadow 0
refused 'the worker does not open what everybody may read' "$worker" open @/etc/passwd 0
refused 'the worker makes no file elsewhere' "$worker" "${writes[@]}"
refused 'the worker opens no socket' "$worker" socket 2 1 0
refused 'the worker connects to nothing' "$worker" connect 0 0 0
refused 'the worker executes nothing' "$worker" "${executes[@]}"
refused 'the worker makes no process' "$worker" vfork
refused 'the worker traces nothing' "$worker" ptrace 16 1 0 0
refused 'the worker mounts nothing' "$worker" "${mounts[@]}"
check 'the mount still answers after all that' ls "$MNT"
check 'the daemon ends in order after all that' mount_down

# ---- a fetcher --------------------------------------------------------------------------------

as_nobody() {
	exec setpriv --reuid=nobody --regid=nogroup --clear-groups --inh-caps=-all \
	    --bounding-set=-all "$@"
}

# Blocks when the pipe is full: by then it is in its sandbox.
mkfifo "$SITE/body" "$SITE/message"
exec 7<>"$SITE/body" 8<>"$SITE/message"
truncate -s 1M "$SITE/file"
chmod 666 "$SITE/file"
(as_nobody "$VMIMAGEFS_BUILD/vmimagefs-fetcher" "file://$SITE/file" >&7 2>>"$LOG" 7>&- 8>&-) &
fetcher=$!
at_exit kill $fetcher

is_confined() {
	[ "$(status_of "$1" Seccomp)" = 2 ]
}

if wait_for "$VMI_PATIENCE" is_confined $fetcher; then
	unprivileged 'the fetcher' $fetcher $none
	confined 'the fetcher' $fetcher
	works 'the fetcher opens a socket' $fetcher socket 2 1 0
	refused 'the fetcher opens no packet socket' $fetcher socket 17 3 0
	refused 'the fetcher does not listen' $fetcher listen 0 1
	refused 'the fetcher does not open /etc/shadow' $fetcher open @/etc/shadow 0
	refused 'the fetcher does not open the catalogue' $fetcher open "@$SITE/state/catalogue.db" 0
	refused 'the fetcher writes no file' $fetcher "${writes[@]}"
	refused 'the fetcher does not write what it reads' $fetcher open "@$SITE/file" 2
	refused 'the fetcher executes nothing' $fetcher "${executes[@]}"
	refused 'the fetcher makes no process' $fetcher vfork
else
	not_ok 'the fetcher enters its sandbox before the first byte' "$(tail -n 3 "$LOG")"
fi

# ---- a verifier -------------------------------------------------------------------------------

(as_nobody "$VMIMAGEFS_BUILD/vmimagefs-verifier" "$CERTS" <&8 >/dev/null 2>>"$LOG" 7>&- 8>&-) &
verifier=$!
at_exit kill $verifier
echo 'MIME-Version: 1.0' >&8

if wait_for "$VMI_PATIENCE" is_confined $verifier; then
	unprivileged 'the verifier' $verifier $none
	confined 'the verifier' $verifier
	works 'the verifier has memory' $verifier mmap 0 4096 3 0x22 -1 0
	refused 'the verifier does not open /etc/shadow' $verifier open @/etc/shadow 0
	refused 'the verifier does not open its trust directory any more' $verifier open "@$CERTS" 0
	refused 'the verifier opens no socket' $verifier socket 2 1 0
	refused 'the verifier connects to nothing' $verifier connect 0 0 0
	refused 'the verifier executes nothing' $verifier "${executes[@]}"
	refused 'the verifier makes no process' $verifier vfork
	refused 'the verifier makes no memory executable' $verifier mmap 0 4096 5 0x22 -1 0
	refused 'the verifier kills nobody' $verifier kill 1 0
else
	not_ok 'the verifier enters its sandbox before the message' "$(tail -n 3 "$LOG")"
fi
plan_done
