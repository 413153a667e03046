#!/bin/bash
# What is given up on the way out of a failure is given back: as failing_calls.sh, with valgrind looking at
# what is left when the command ends.  Minutes: with VMI_LONG only, because each run takes seconds.
# time limit: 60 s
# long limit: 3600 s
# nightly limit: 14400 s

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
[ -n "${VMI_LONG:-}${VMI_NIGHTLY:-}" ] || skip_all 'it takes minutes: tests/run --long'
. "$here/../lib/pki.sh"
need root openssl jq setpriv valgrind
. "$here/../lib/mount.sh"
. "$here/../lib/tiny.sh"
. "$here/../lib/sweep.sh"

# One of each call and errno by day, three by night.
if [ -n "${VMI_NIGHTLY:-}" ]; then points=3; else points=1; fi
VMI_SWEEP_POINTS=${VMI_SWEEP_POINTS:-$points}
# What takes a second takes one of valgrind's minutes where others work.
VMI_PATIENCE=$((VMI_PATIENCE < 300 ? 300 : VMI_PATIENCE))
tiny_up
sweep_up
sweep_faults=(open:EIO:EMFILE read:EIO pread:EIO write:EIO:ENOSPC pwrite:ENOSPC:EIO fsync:EIO fdatasync:ENOSPC
    rename:EIO mkdir:ENOSPC fork:EAGAIN thread:EAGAIN "${sweep_sqlite[@]}")
sweep_wrap=(valgrind --quiet --leak-check=full --errors-for-leak-kinds=definite --error-exitcode=99)

swept_ctl() {
	local name=$1 title=$2

	shift 2
	[[ -z ${VMI_SWEEP_ONLY:-} || " $VMI_SWEEP_ONLY " == *" $name "* ]] || return 0
	swept "P13 $title" vmimagectl -c "$CONF" -q "$@"
}

tiny_subscribe
ctl -q deselect one
swept_ctl select 'a command that fails leaks nothing' select one
ctl -q select one
tiny_file one-2
tiny_file four 5000
tiny_list 2 one:2:one-2 two four
swept_ctl update 'nor does one that takes a list' update
ctl -q update
swept_ctl fetch 'nor one that fetches' fetch one
plan_done
