#!/bin/bash
# The modules that several threads use, in their unit tests under helgrind: no lock is taken in two orders
# and nothing is shared without one, but for what lib/helgrind.supp names with its reason.
# VMI_LONG: all of them.
# time limit: 240 s
# long limit: 1800 s
# nightly limit: 1800 s

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
need valgrind
build=${VMIMAGEFS_BUILD:-$here/../../.build}
build=$(cd "$build" && pwd) || bail 'there is no build directory'
[ -z "${VMI_SANITIZE:-}" ] || skip_all 'a sanitizer has threads of its own'
top=$(cd "$here/../.." && pwd)
log=$(mktemp) || bail 'mktemp failed'
at_exit rm -f "$log"

programs='blockcache passthrough log'
[ -z "${VMI_LONG:-}" ] || programs+=' blob blockfile intake lazy ova passes control'

# One that is built with counters of another compiler may be unreadable for valgrind.
readable() {
	valgrind --tool=none "$build/tests/unit/test_blockcache" >"$log" 2>&1 || ! grep -q 'debuginfo' "$log"
}
readable || skip_all 'valgrind cannot read this build'

under_helgrind() {
	env -C "$build" srcdir="$top" valgrind --quiet --tool=helgrind --error-exitcode=99 --history-level=approx \
	    --suppressions="$top/tests/lib/helgrind.supp" "$build/tests/unit/test_$1" >"$log" 2>&1 && return
	grep -aE '^==|FAILED' "$log" | head -n 30
	return 1
}

for program in $programs; do
	if [ ! -x "$build/tests/unit/test_$program" ]; then
		not_ok "C16 helgrind has nothing to say of $program" "test_$program is not built"
		continue
	fi
	check "C16 helgrind has nothing to say of $program" under_helgrind "$program"
done
plan_done
