#!/bin/bash
# Other builds of the whole, each with its tests: ThreadSanitizer through all that happens at once (C01 to
# C12), AddressSanitizer and UBSan through everything, coverage.  Hours: with VMI_NIGHTLY only.  Each keeps its
# logs in its own build directory.  VMI_BUILDS names some of them: "thread address coverage".
# time limit: 60 s
# nightly limit: 43200 s
# alone: yes

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
[ -n "${VMI_NIGHTLY:-}${VMI_BUILDS:-}" ] || skip_all 'it takes hours: tests/run --nightly'
[ -z "${VMI_SANITIZE:-}" ] || skip_all 'this is another build'
need root fuse
top=$(cd "$here/../.." && pwd)
log=$(mktemp) || bail 'mktemp failed'
at_exit rm -f "$log"

builds=${VMI_BUILDS:-thread address coverage}
# What C01 to C12 are tested by, and the units that have threads.
threaded='concurrency waiting_readers races cycles two_daemons many_images blocks_first_read blocks_withdrawn'
threaded+=' blocks_hostile cache_limit soak blob blockcache blockfile intake lazy passes passthrough'

# run ARG...: all tests of another build.  It is a day's run, not a night's.
run() {
	env -u VMI_NIGHTLY -u VMI_LONG -u VMI_PATIENCE -u VMI_BUILDS \
	    "$top/tests/run" --no-install --jobs=1 "$@" >"$log" 2>&1 && return
	grep -E '^(FAIL|failed:)|not ok' "$log" | head -n 30
	tail -n 1 "$log"
	return 1
}

said() {
	note "$(tail -n 1 "$log")"
}

for build in $builds; do
	case $build in
	thread)
		# shellcheck disable=SC2086 # words
		check 'C15 ThreadSanitizer sees no race while C01 to C12 take place' run --sanitize=thread $threaded ;;
	address)
		check 'AddressSanitizer and UBSan see nothing in any test' run --sanitize=address ;;
	coverage)
		check 'the tests reach as much of the program as is aimed at' run --coverage
		sed -n 's/^core: /core: /p; s/^\(ok\|not ok\) [0-9]* - they/they/p' "$log" | while read -r line; do note "$line"; done ;;
	*)	bail "there is no build '$build'" ;;
	esac
	said
done
plan_done
