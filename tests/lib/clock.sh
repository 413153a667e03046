# clock.sh - the wall clock of a site's programs is what a test says (tests/lib/clock.so).
#
# A bash library: source it after mount.sh.
#
#   clock_up               from now on all programs of the current site have a clock of their own, also
#                          those that are started with an environment of their own
#   clock_set SECONDS [MONOTONIC]     it differs from the real one by so much, at once; 0 at the beginning.
#                          MONOTONIC: by so much the monotonic one, as if that time had passed; a thread that
#                          waits for a moment of it goes on waiting

clock_so=$VMIMAGEFS_BUILD/tests/lib/clock.so
[ -e "$clock_so" ] || clock_so=$tests_dir/../.build/tests/lib/clock.so
clock_real=$VMIMAGEFS_LIBEXECDIR

clock_up() {
	local program

	[ -e "$clock_so" ] || skip_all 'tests/lib/clock.so is not built'
	[ -z "${VMI_SANITIZE:-}" ] || skip_all 'a sanitizer has to be the first that is preloaded'
	CLOCK_FILE=$SITE/clock
	printf '%-32s' 0 >"$CLOCK_FILE"
	mkdir "$SITE/bin"
	cp "$clock_so" "$SITE/bin/clock.so"
	for program in "$clock_real"/vmimage*; do
		[ -f "$program" ] && [ -x "$program" ] || continue
		printf '#!/bin/sh\nLD_PRELOAD=%s CLOCK_FILE=%s exec %s "$@"\n' "$SITE/bin/clock.so" \
		    "$CLOCK_FILE" "$program" >"$SITE/bin/${program##*/}"
		chmod 755 "$SITE/bin/${program##*/}"
	done
	chmod 755 "$SITE/bin" && chmod 644 "$CLOCK_FILE"
	export VMIMAGEFS_LIBEXECDIR=$SITE/bin
	VMI_WRAP="env LD_PRELOAD=$SITE/bin/clock.so CLOCK_FILE=$CLOCK_FILE"
}

# In place: it is mapped.
clock_set() {
	printf '%-32s' "$1${2:+ $2}" | dd of="$CLOCK_FILE" conv=notrunc status=none
}
