#!/bin/bash
# hardening.sh - the programs as they were built: what compiler and linker were to do against those who
# find a fault in them.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
need readelf
VMIMAGEFS_BUILD=${VMIMAGEFS_BUILD:-$here/../../.build}
[ -z "${VMI_SANITIZE:-}" ] || skip_all 'a build with sanitizers is for finding faults'
flags=$(sed -n "s/^VMI_CFLAGS='\(.*\)'\$/\1/p" "$VMIMAGEFS_BUILD/config.log" 2>/dev/null)

# has PROGRAM PATTERN READELF-OPTION...
has() {
	readelf -W "${@:3}" "$1" | grep -qE "$2"
}
has_not() {
	! has "$@"
}

# is_built_with FLAG: whether the compiler of this build knows it.
is_built_with() {
	[[ " $flags " = *" $1 "* ]]
}

for program in vmimagefs vmimagectl vmimagefs-fetcher vmimagefs-verifier; do
	file=$VMIMAGEFS_BUILD/$program
	[ -x "$file" ] || bail "there is no $program"
	check "$program may lie anywhere in memory" has "$file" 'FLAGS_1.*PIE' -d
	check "$program resolves all names at its start" has "$file" 'BIND_NOW|FLAGS_1.*NOW' -d
	check "$program cannot write into its tables then" has "$file" GNU_RELRO -l
	check "$program has a stack that is no code" has "$file" 'GNU_STACK.* RW ' -l
	check "$program has no memory that can be written and executed" has_not "$file" 'LOAD.* RWE ' -l
	check "$program finds its libraries where the system has them" has_not "$file" 'RPATH|RUNPATH|TEXTREL' -d
	check "$program sees that its stack is overwritten" has "$file" '__stack_chk_fail' --dyn-syms
	if is_built_with -D_FORTIFY_SOURCE=3; then
		check "$program has the C library look at sizes" has "$file" '__[a-z]+_chk' --dyn-syms
	else
		skip "$program has the C library look at sizes" 'not optimized'
	fi
done
# What a compiler may lack is told by the summary of configure; these all have.
for flag in -fstack-protector-strong -fPIE; do
	check "all of it is compiled with $flag" is_built_with "$flag"
done
plan_done
