# mount.sh - a site of its own for a test: configuration, directories, daemon, commands.
#
# A bash library: source it after tap.sh.  A site lies in a new directory below $TMPDIR and belongs
# to nobody:nogroup; nothing else on the host is touched, and all of it is gone when the test ends.
#
#   site_up [KEY=VALUE...]    makes a site and makes it the current one.  KEYs are those of
#                             vmimagefs.conf(5), over the short intervals below.  Sets
#                             SITE the directory; everything below is in it
#                             CONF its configuration file     MNT its mount point
#                             CERTS its trust directory       LOG what its daemon says
#   site_use DIR              makes an earlier site the current one again
#   mount_up [ARG...]         starts the daemon; returns when the mount is usable.  ARGs go to vmimagefs
#   mount_down                ends it as an admin would (TERM); 1 if something is left
#   mount_kill                ends it as a crash would: all of it
#   worker_kill [SIGNAL]      ends its worker alone as a crash would; returns when the next one serves
#   worker_wait PID           returns when a worker other than this one serves
#   worker_is KEY             prints a line of run_dir/worker: state, worker, restarts, last_cause ...
#   ctl ARG...                vmimagectl on the site
#   daemon_pid ROLE           prints the pid: supervisor, keeper, starter, runner, worker; for fetcher,
#                             verifier and keeper all of them, one a line.  1 if there is none
#   is_mounted                whether there is a mount on $MNT
#   is_gone PID               whether that process has ended
#   image_state ID            prints the state file of an image
#   state_is ID STATE         for wait_for
#
# The programs are those of $VMIMAGEFS_BUILD (default: .build of the tree).  $VMI_WRAP, a list of
# words, is put in front of them: "valgrind --quiet".

tests_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VMIMAGEFS_BUILD=${VMIMAGEFS_BUILD:-$tests_dir/../.build}
# How long a start or an end may take; instrumented programs are slow.
VMI_PATIENCE=${VMI_PATIENCE:-15}

# The daemon's user must be able to execute the programs; a tree below /root is closed to it.
programs_reachable() {
	setpriv --reuid=nobody --regid=nogroup --clear-groups \
	    test -x "$1/vmimagefs-fetcher" -a -x "$1/vmimagectl"
}

programs_find() {
	local copy program

	VMIMAGEFS_BUILD=$(cd "$VMIMAGEFS_BUILD" && pwd) || bail 'there is no build directory'
	[ -x "$VMIMAGEFS_BUILD/vmimagefs" ] || bail "there is no vmimagefs in $VMIMAGEFS_BUILD"
	if ! programs_reachable "$VMIMAGEFS_BUILD"; then
		copy=$(mktemp -d) || bail 'mktemp failed'
		at_exit rm -rf "$copy"
		chmod 755 "$copy"
		for program in vmimagefs vmimagectl vmimagefs-fetcher vmimagefs-verifier; do
			cp "$VMIMAGEFS_BUILD/$program" "$copy/" || bail "cannot copy $program"
		done
		for program in cache endorser image subscribe; do
			ln -s vmimagectl "$copy/vmcatcher_$program" || bail "cannot link vmcatcher_$program"
		done
		VMIMAGEFS_BUILD=$copy
	fi
	export VMIMAGEFS_LIBEXECDIR=$VMIMAGEFS_BUILD
}

# What the caller's environment says must not matter.
unset VMIMAGEFS_CONFIG
programs_find

site_use() {
	SITE=$1
	CONF=$SITE/vmimagefs.conf
	MNT=$SITE/mnt
	CERTS=$SITE/certificates
	LOG=$SITE/log
}

site_up() {
	local dir word

	dir=$(mktemp -d "${TMPDIR:-/tmp}/vmimagefs-test.XXXXXX") || bail 'mktemp failed'
	at_exit site_end "$dir"
	before_plan site_check_log "$dir"
	chmod 755 "$dir"
	site_use "$dir"
	mkdir "$MNT" "$CERTS"
	: >"$LOG"
	declare -A settings=(
		[state_dir]=$SITE/state [cache_dir]=$SITE/cache [run_dir]=$SITE/run [cert_dir]=$CERTS
		[mountpoint]=$MNT [user]=nobody [group]=nogroup [log]=stderr [log_level]=debug
		[update_interval]=off [expire_interval]=1s [cache_min_free]=0% [prefetch]=auto
		[connect_timeout]=3s [stall_timeout]=5s [read_timeout]=60s
	)
	for word in "$@"; do
		settings[${word%%=*}]=${word#*=}
	done
	for word in "${!settings[@]}"; do
		printf '%s = %s\n' "$word" "${settings[$word]}"
	done | sort >"$CONF"
}

site_end() {
	site_use "$1"
	mount_kill
	rm -rf --one-file-system "$1"
}

# A report of a sanitizer or of valgrind is a failure wherever it came up.
site_check_log() {
	local report

	report=$(grep -E 'Sanitizer|runtime error:|^==[0-9]+== .*(Invalid |ninitialised|Syscall param|overlap|definitely lost)' \
	    "$1/log")
	[ -z "$report" ] || not_ok 'the daemon runs clean' "$report"
}

# All processes of the daemon have the option that names our configuration file in common.
daemon_pids() {
	# In this form grep does not find itself.
	grep -lzxsF "--regexp=config=$CONF" /proc/[0-9]*/cmdline | cut -d/ -f3
}

parent_of() {
	sed -n 's/^PPid:[[:space:]]*//p' "/proc/$1/status" 2>/dev/null
}

# The one whose parent is no process of the daemon.  A process without a parent is gone already: it
# was a child that was about to execute another program.
find_supervisor() {
	local pids pid parent

	pids=$(daemon_pids)
	for pid in $pids; do
		parent=$(parent_of "$pid")
		[ -z "$parent" ] || grep -qxF "$parent" <<<"$pids" || echo "$pid"
	done
}

find_by_name() {
	local pid

	for pid in $(daemon_pids); do
		if grep -qxE "$1" "/proc/$pid/comm" 2>/dev/null; then
			echo "$pid"
		fi
	done
}

# Names in comm are cut at 15 bytes.
find_started() {
	local starter pid

	starter=$(find_by_name vmi-starter)
	for pid in $(<"/proc/$starter/task/$starter/children"); do
		if grep -qxF "$1" "/proc/$pid/comm"; then
			echo "$pid"
		fi
	done 2>/dev/null
}

daemon_pid() {
	local found=

	case $1 in
	supervisor)	found=$(find_supervisor) ;;
	keeper)		found=$(find_by_name vmi-keeper) ;;
	starter)	found=$(find_by_name vmi-starter) ;;
	runner)		found=$(find_by_name vmi-runner) ;;
	worker)		found=$(find_by_name '(vmi-)?worker') ;;
	fetcher)	found=$(find_started vmimagefs-fetch) ;;
	verifier)	found=$(find_started vmimagefs-verif) ;;
	esac
	[ -n "$found" ] && printf '%s\n' "$found"
}

is_mounted() {
	mountpoint -q "$MNT"
}

# Its pid stays ours until it has been waited for: a zombie is gone.
is_gone() {
	! grep -q '^State:[[:space:]]*[RSDTt]' "/proc/$1/status" 2>/dev/null
}

no_daemon_left() {
	[ -z "$(daemon_pids)" ]
}

# Not with $(): the daemon keeps the other end of its output for its whole life.
mount_up() {
	# shellcheck disable=SC2086 # a list of words
	${VMI_WRAP:-} "$VMIMAGEFS_BUILD/vmimagefs" -o "config=$CONF" "$@" </dev/null >>"$LOG" 2>&1
}

mount_down() {
	local supervisor

	supervisor=$(daemon_pid supervisor) && kill -TERM "$supervisor"
	wait_for "$VMI_PATIENCE" no_daemon_left && ! is_mounted
}

# Only processes that carry the name of our own configuration file.  The supervisor first: it would
# have the others started again.
daemon_strike() {
	local pid

	for pid in $(find_supervisor) $(daemon_pids); do
		kill -KILL "$pid" 2>/dev/null
	done
}

# Again, because one may just have been started.
daemon_kill() {
	local round

	for ((round = 0; round < 20; round++)); do
		daemon_strike
		! wait_for 1 no_daemon_left || return 0
	done
}

# Nobody in the mount is asked: umount(8) would wait for him.
mount_cut() {
	timeout -k 5 10 umount -i -c -f "$MNT" 2>/dev/null
}

# A thread of a worker may wait in the kernel for the worker's own readers: it ends, and with it all
# that the worker holds, when the connection is cut.
mount_kill() {
	daemon_strike
	mount_cut
	daemon_kill
	while is_mounted || [ "$(stat "$MNT" 2>&1 >/dev/null | grep -c 'not connected')" -gt 0 ]; do
		mount_cut || umount -i -c -l "$MNT" 2>/dev/null || break
	done
	return 0
}

worker_is() {
	sed -n "s/^$1: //p" "$SITE/run/worker" 2>/dev/null
}

another_serves() {
	local pid

	pid=$(worker_is worker)
	[ "$(worker_is state)" = serving ] && [ "$pid" != "$1" ] && kill -0 "$pid" 2>/dev/null
}

worker_wait() {
	wait_for "$VMI_PATIENCE" another_serves "$1"
}

worker_kill() {
	local pid

	pid=$(daemon_pid worker) || return 1
	kill "-${1:-KILL}" "$pid"
	worker_wait "$pid"
}

ctl() {
	# shellcheck disable=SC2086 # a list of words
	${VMI_WRAP:-} "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" "$@"
}

image_state() {
	cat "$MNT/images/$1/state"
}

state_is() {
	[ "$(image_state "$1" 2>/dev/null)" = "$2" ]
}
