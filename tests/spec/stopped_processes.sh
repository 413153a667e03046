#!/bin/bash
# What a daemon does when one of the processes beside its worker is stopped, as by a disk that does not
# answer: the mount goes all the same when it is told to end, and the next daemon begins.
# time limit: 300 s

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl setpriv python3
. "$here/../lib/mount.sh"
. "$here/../lib/tiny.sh"

tiny_up event_command=/bin/true event_user=nobody
tiny_subscribe
stopped=()

# What an earlier daemon has left belongs to nobody.
is_alone() {
	[ "$(find_supervisor | wc -l)" -eq 1 ]
}

stop_some() {
	mapfile -t stopped < <(daemon_pid "$1")
	[ ${#stopped[@]} -gt 0 ] && at_exit kill -KILL "${stopped[@]}" && kill -STOP "${stopped[@]}"
}

ends() {
	local supervisor

	supervisor=$(daemon_pid supervisor)
	kill -TERM "$supervisor"
	wait_for 10 eval '! is_mounted' || { echo 'it is still mounted'; return 1; }
	wait_for 30 is_gone "$supervisor" || { echo 'it does not end'; return 1; }
}

# More notes than the socket of a runner that does not read has room for.
reloads() {
	python3 - "$SITE/run/control" <<-'EOT'
		import socket, sys
		for n in range(180):
		    s = socket.socket(socket.AF_UNIX)
		    s.settimeout(20)
		    s.connect(sys.argv[1])
		    s.sendall(b"reload\n")
		    if not s.recv(1000):
		        sys.exit(1)
		    s.close()
	EOT
}

fills() {
	: >"$LOG"
	reloads && grep -q 'the process of event handlers does not answer' "$LOG"
}

for role in starter runner keeper; do
	mount_up || bail "no mount: $(tail -n 3 "$LOG")"
	stop_some $role || bail "there is no $role"
	[ $role != runner ] || check 'a runner that is stopped is told so much that its socket is full' fills
	check "P04 the daemon ends while its $role is stopped, and its mount before" ends
	check 'the next one begins' mount_up
	kill -CONT "${stopped[@]}" 2>/dev/null
	check 'what was stopped ends when it goes on' wait_for 20 is_alone
	mount_down || not_ok 'and ends'
done

# ---- a mount that nobody answers --------------------------------------------------------------------

# Somebody keeps the connection of a daemon all of whose processes were killed: as a thread of it does that
# waits in the kernel.
keep_connection() {
	python3 - "$1" >"$SITE/kept" 2>&1 <<-'EOT' &
		import ctypes, os, sys, time
		pid = int(sys.argv[1])
		fds = "/proc/%d/fd" % pid
		fuse = [int(f) for f in os.listdir(fds) if os.readlink(fds + "/" + f) == "/dev/fuse"]
		kept = ctypes.CDLL(None).syscall(438, os.pidfd_open(pid), fuse[0], 0)
		print("kept" if kept >= 0 else "not kept", flush=True)
		time.sleep(60)
	EOT
	echo $! >"$SITE/keeper"
	wait_for "$VMI_PATIENCE" grep -qx kept "$SITE/kept"
}

all_killed() {
	local pids

	mount_up && keep_connection "$(daemon_pid worker)" || return 1
	mapfile -t pids < <(daemon_pids)
	kill -STOP "${pids[@]}"
	kill -KILL "${pids[@]}"
	wait_for "$VMI_PATIENCE" no_daemon_left
}

# What tests leave behind must not outlive them.
is_cut() {
	local waiting

	all_killed || return 1
	ls -l "$MNT/images" >/dev/null 2>&1 &
	waiting=$!
	mount_kill
	wait_for "$VMI_PATIENCE" is_gone $waiting && kill "$(<"$SITE/keeper")" && ! is_mounted
}
check 'P10 who waits in a mount that nobody answers goes on when it is unmounted by force' is_cut

# Not because the connection was given up meanwhile.
begins_beside_it() {
	mount_up && kill -0 "$(<"$SITE/keeper")"
}

all_killed >"$SITE/said" 2>&1 </dev/null || bail "no connection stays: $(<"$SITE/said")"
ls -l "$MNT/images" >/dev/null 2>&1 &
waiting=$!
check 'P10 the next one does not wait for it' begins_beside_it
check 'and who has waited goes on' wait_for "$VMI_PATIENCE" is_gone $waiting
kill -KILL "$(<"$SITE/keeper")"
mount_down || not_ok 'and ends'

# ---- before the mount was tried ----------------------------------------------------------------------

# A child asks the mount for its statfs, which begins late here: when its worker cannot answer any more.
asks_in_vain() {
	local pid

	for pid in $(cat "/proc/$1/task/$1/children"); do
		grep -qx request_wait_answer "/proc/$pid/wchan" && return 0
	done
	return 1
}

begin_late() {
	: >"$LOG"
	strace -f -qq -o "$SITE/calls" -e trace=statfs -e inject=statfs:delay_enter=3000000 \
	    "$VMIMAGEFS_BUILD/vmimagefs" -f -o "config=$CONF" >>"$LOG" 2>&1 </dev/null &
	wait_for 60 eval '[ "$(worker_is state)" = serving ]' && kill -STOP "$(worker_is worker)" &&
	    wait_for 60 asks_in_vain "$(worker_is supervisor)"
}

dies_early() {
	local reader supervisor

	supervisor=$(worker_is supervisor)
	ls "$MNT/" >/dev/null 2>&1 & reader=$!
	kill -KILL "$(worker_is worker)"
	wait_for 8 is_gone "$supervisor" && wait_for 8 is_gone $reader
}

if strace -f -qq -o /dev/null -e inject=statfs:delay_enter=1 true 2>/dev/null; then
	check 'a worker is stopped before the mount was tried' begin_late
	check 'when it dies the daemon ends, and who waits in the mount is told so' dies_early
	check 'the next one begins' mount_up
	mount_down || not_ok 'and ends'
else
	skip 'a worker dies before the mount was tried' 'strace cannot hold up calls here'
fi

plan_done
