#!/bin/bash
# time limit: 180 s
#
# A host that gives little: few descriptors, no processes, no large files, little memory.  What cannot be done
# is said, nothing is lost, and it works as soon as there is more.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl jq setpriv prlimit
. "$here/../lib/mount.sh"
. "$here/../lib/tiny.sh"
[ -z "${VMI_SANITIZE:-}" ] || skip_all 'sanitizers need more than these limits give'

tiny_up prefetch=never
tiny_subscribe
tiny_save fresh
fresh=$(tiny_view)
ctl -q fetch one
fetched=$(tiny_view)

# What a failed try leaves of itself does not count.
less_tries() {
	jq -cS 'del(.. | .error?, .code?, .state?)' <<<"$1"
}

# Who runs it: root's processes are not counted.
as=()

# limited LIMIT ARG...: a command from the same beginning; it is done, or it says why it is not, as we do.
limited() {
	local limit=$1 status=0 view

	shift
	tiny_load fresh
	said=$("${as[@]}" prlimit "$limit" "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" -q "$@" 2>&1 </dev/null) || status=$?
	[ $status -lt 126 ] || { echo "$limit: status $status: $said"; return 1; }
	view=$(tiny_view)
	if [ $status -eq 0 ]; then
		[ "$view" = "$fetched" ] || { echo "$limit: status 0, and it is not done"; return 1; }
	else
		[ -n "$said" ] || { echo "$limit: status $status, and it does not say why"; return 1; }
		[ "$(less_tries "$view")" = "$(less_tries "$fresh")" ] || { echo "$limit: something else is there"; return 1; }
	fi
	ctl -q fetch one && [ "$(tiny_view)" = "$fetched" ] || { echo "$limit: afterwards it does not work"; return 1; }
	printf '%s' "${said:+$said
}"
}

each_limit() {
	local limit

	for limit in "$@"; do
		limited "$limit" fetch one || return 1
	done
}

check 'P12 a fetch with few descriptors is done, or says what it lacks' \
    each_limit --nofile={6,8,10,12,14,16,18,20,24,28,32}
check 'P12 32 descriptors are enough for a command' limited --nofile=32 fetch one
check_is 'P12 which has nothing to complain of' '' "$tap_said"
check 'P12 a file that may not become so large is an error, not the end' \
    each_limit --fsize={0,1000,4096,10000,19999}
check 'P12 little memory is an error that is said' each_limit --as={30,40,60,80,100,200}000000
as=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
check 'P12 P15 without processes a command says so' limited --nproc=0 fetch one
check_like 'P15 in words' 'process|could not be started|[Rr]esource temporarily' "$tap_said"

# ---- the daemon ----------------------------------------------------------------------------------

# mount_limited LIMIT: it serves, or its end says why; without the limit it serves in any case.
mount_limited() {
	local limit=$1 status=0

	tiny_load fresh
	: >"$LOG"
	prlimit "$limit" "$VMIMAGEFS_BUILD/vmimagefs" -o "config=$CONF" </dev/null >>"$LOG" 2>&1 || status=$?
	if [ $status -eq 0 ]; then
		timeout 30 cmp "$MNT/images/one/image" "$WWW/one" >"$SITE/said" 2>&1
		case $? in
		0)	;;
		124)	echo "$limit: a reader waits for ever"; return 1 ;;
		*)	grep -q . "$SITE/said" && ! grep -q differ "$SITE/said" || { echo "$limit: $(<"$SITE/said")"; return 1; } ;;
		esac
		timeout 10 ls -l "$MNT/images" >"$SITE/said" 2>&1 ||
		    grep -qE 'Too many open files|Cannot allocate|Input/output' "$SITE/said" ||
		    { echo "$limit: ls: $(<"$SITE/said")"; return 1; }
	else
		grep -qiE 'error|cannot|no process|no thread|too many|memory|resource' "$LOG" ||
		    { echo "$limit: status $status: $(tail -n 3 "$LOG")"; return 1; }
	fi
	mount_down || { mount_kill; echo "$limit: it does not end"; return 1; }
	mount_up && timeout 30 cmp "$MNT/images/one/image" "$WWW/one" && mount_down
}

check 'P12 a daemon with 24 descriptors serves, or says what it lacks' mount_limited --nofile=24
check 'P12 a daemon with 32 descriptors serves, or says what it lacks' mount_limited --nofile=32
check 'P12 a daemon that may write no large files goes on' mount_limited --fsize=10000
check 'P12 a daemon with 200 MB of addresses serves, or says what it lacks' mount_limited --as=200000000
check 'P12 P15 a daemon without processes says so' mount_limited --nproc=0

plan_done
