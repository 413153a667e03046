#!/bin/bash
# What a daemon does when one of the processes beside its worker is stopped, as by a disk that does not
# answer: the mount goes all the same when it is told to end, and the next daemon begins.  And what it
# does when a worker was killed and cannot end, because it waits in the kernel for its own readers.
# time limit: 300 s

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/ownmounts.sh"
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl setpriv python3
. "$here/../lib/mount.sh"
. "$here/../lib/tiny.sh"

# As in a container; process.sh and takeover.sh have it.
[ -z "${VMI_OWN_MOUNTS:-}" ] || umount -l /sys/fs/fuse/connections 2>/dev/null

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

# ---- a mount that is only slow ------------------------------------------------------------------------

# Started in a container with the same directories: pids of the daemon mean nothing there.
is_left_alone() {
	local status=0 worker

	mount_up && worker=$(daemon_pid worker) || return 1
	kill -STOP "$worker"
	stat "$MNT/nothing" 2>"$SITE/asked" >/dev/null </dev/null &
	asking=($!)
	timeout -k 5 60 unshare --pid --fork --kill-child --mount-proc \
	    "$VMIMAGEFS_BUILD/vmimagefs" -o "config=$CONF" >"$SITE/said" 2>&1 </dev/null || status=$?
	kill -CONT "$worker"
	wait "${asking[@]}"
	[ $status -eq 5 ] && grep -q 'No such file' "$SITE/asked" || { cat "$SITE/said" "$SITE/asked"; return 1; }
}

if unshare --pid --fork --kill-child --mount-proc true 2>/dev/null; then
	check 'P09 P10 one that is silent is not cut by a start in another pid namespace while its supervisor lives' \
	    is_left_alone
	mount_down || not_ok 'and ends'
else
	skip 'P09 P10 a mount is left alone by a start in another pid namespace' 'no namespaces'
fi

# ---- a worker that waits for its own readers -----------------------------------------------------------

# A thread of the worker tells the kernel that names have gone, and waits for the lock of a directory
# that a reader holds, who waits for an answer of the worker.
tells() {
	grep -qs fuse_reverse_inval "/proc/$1"/task/*/stack
}

# $1: a version of the list, in which an image comes or goes; $2: a library more.  Sets asking, the
# readers, and worker, which is killed then.
killed_while_it_waits() {
	local dir

	if [ $(($1 % 2)) -eq 0 ]; then tiny_list "$1" one two; else tiny_list "$1" one two three; fi
	VMI_WRAP="env HOLD_FLAG=$SITE/state/hold LD_PRELOAD=$libraries/holdreply.so${2:+:$libraries/$2}" \
	    mount_up || return 1
	ls "$MNT" "$MNT/images" "$MNT"/images/* >/dev/null
	worker=$(daemon_pid worker) && asking=()
	rm -f "$SITE"/asked.* && touch "$SITE/state/hold"
	for dir in . by-title images images/one images/two by-sha512 cache; do
		stat "$MNT/$dir/nothing" 2>"$SITE/asked.${dir//\//.}" >/dev/null </dev/null &
		asking+=($!)
	done
	wait_for "$VMI_PATIENCE" all_ask || { echo 'they do not ask'; return 1; }
	ctl -q update >/dev/null 2>&1 </dev/null &
	wait_for "$VMI_PATIENCE" tells "$worker" || { echo 'it waits for nobody'; return 1; }
	kill -KILL "$worker"
	rm -f "$SITE/state/hold"
}

all_ask() {
	local pid

	for pid in "${asking[@]}"; do
		grep -qx request_wait_answer "/proc/$pid/wchan" || return 1
	done
}

# $3: what they are told.
goes_on() {
	killed_while_it_waits "$1" "$2" || return 1
	wait_for 10 another_serves "$worker" || { cat "$SITE/run/worker"; return 1; }
	wait "${asking[@]}"
	[ "$(grep -lE "$3" "$SITE"/asked.* | wc -l)" -eq ${#asking[@]} ] || { cat "$SITE"/asked.*; return 1; }
}

ends_soon() {
	local pid supervisor

	killed_while_it_waits "$1" "$2" || return 1
	supervisor=$(worker_is supervisor)
	eval "$3"
	for pid in "$supervisor" "${asking[@]}"; do
		wait_for 10 is_gone "$pid" || { echo "$pid is still there"; return 1; }
	done
}

libraries=$VMIMAGEFS_BUILD/tests/lib
[ -e "$libraries/holdreply.so" ] || libraries=$tests_dir/../.build/tests/lib
if [ -n "${VMI_SANITIZE:-}" ] || [ ! -e "$libraries/holdreply.so" ] || ! grep -q . /proc/self/stack 2>/dev/null; then
	skip 'P07 a worker that waits for its own readers is killed' 'needs a preloaded library and /proc/PID/stack'
else
	told='No such file'
	[ "$(printf '%s\n' 6.9 "$(uname -r)" | sort -V | head -n 1)" = 6.9 ] || told='not connected|abort'
	check 'P07 a worker that waits for its own readers is killed: another goes on, and they do not see it' \
	    goes_on 2 '' "$told"
	mount_down || not_ok 'and ends'
	check 'P07 where the kernel cannot send again they get an error' \
	    goes_on 3 noresend.so 'not connected|abort'
	mount_down || not_ok 'and ends'
	# shellcheck disable=SC2016 # not here
	check 'P04 told to end just then the daemon does, and who waits with it' \
	    ends_soon 4 '' 'kill -TERM "$supervisor"'
	# shellcheck disable=SC2016 # not here
	check 'P11 so it does when it is unmounted just then, and only detached' \
	    ends_soon 5 noresend.so 'umount -i -c -l "$MNT"'
	check 'the next one begins' mount_up
	mount_down || not_ok 'and ends'
fi

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
