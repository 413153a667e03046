# sweep.sh - commands on a tiny site, with the Nth of their system calls failing, for every N.
#
# A bash library: source it after tap.sh, mount.sh, pki.sh and tiny.sh.  See lib/sweep.c for what must
# hold after each run.
#
#   sweep_up                  to be called when the site is up: fetchers and verifiers are watched, too
#   swept TITLE PROGRAM ARG...    what PROGRAM does to the site that lies there now; PROGRAM is a path,
#                             or a name in the build directory.  One result.  The site stays as it is now
#   sweep_faults              an array of CALL:ERRNO: those that are tried
#   sweep_options             an array of further options
#   sweep_wrap                an array of words in front of the program
#
# By default one N of each second call (sweep_share) is tried, with one errno, other ones in each scenario.  With
# VMI_SWEEP_POINTS so many of each call; with VMI_LONG four with every errno; with VMI_NIGHTLY all of them, of
# malloc those that differ in their call stack; with VMI_SWEEP_ALL all of that, too (a day for each file).

sweep_program=$VMIMAGEFS_BUILD/tests/lib/sweep
[ -x "$sweep_program" ] || sweep_program=${SHIM_SO:+$(dirname "$SHIM_SO")/sweep}
SHIM_SO=${SHIM_SO:-$(dirname "$sweep_program")/shim.so}
sweep_n=0
sweep_share=2
sweep_options=()
sweep_wrap=()

# Those of files: a disk that fails, is full, or is used up.
sweep_files=(open:EIO:EMFILE read:EIO pread:EIO write:EIO:ENOSPC:EDQUOT pwrite:ENOSPC:EIO:EDQUOT
    fsync:EIO:ENOSPC fdatasync:ENOSPC:EIO rename:EIO:ENOSPC unlink:EIO ftruncate:EIO
    fallocate:ENOSPC:EDQUOT mkdir:ENOSPC:EIO link:EIO:ENOSPC)
# Those that nobody may notice.
sweep_quiet=(open:EINTR read:EINTR:short pread:short:EINTR write:short:EINTR pwrite:EINTR:short fsync:EINTR
    fdatasync:EINTR ftruncate:EINTR fallocate:EINTR)
sweep_host=(malloc:ENOMEM fork:EAGAIN thread:EAGAIN)
sweep_sqlite=(xopen:SQLITE_IOERR xread:SQLITE_IOERR xwrite:SQLITE_FULL:SQLITE_IOERR xtruncate:SQLITE_IOERR
    xsync:SQLITE_IOERR xsize:SQLITE_IOERR xlock:SQLITE_IOERR:SQLITE_BUSY xdelete:SQLITE_IOERR
    xaccess:SQLITE_IOERR xshmmap:SQLITE_IOERR:SQLITE_NOMEM xshmlock:SQLITE_IOERR:SQLITE_BUSY)

# Programs that are started with an environment of their own find their faults in a file.
sweep_up() {
	local program

	[ -e "$SHIM_SO" ] && [ -x "$sweep_program" ] || skip_all 'needs shim.so and sweep'
	[ -z "${VMI_SANITIZE:-}${VMI_WRAP:-}" ] || skip_all 'shim.so and sanitizers do not go together here'
	mkdir "$SITE/libexec" || bail 'no directory'
	for program in vmimagefs-fetcher vmimagefs-verifier; do
		printf '#!/bin/sh\nset -a\n. %q\nexec %q "$@"\n' "$SITE/faults" "$VMIMAGEFS_BUILD/$program" \
		    >"$SITE/libexec/$program"
	done
	chmod 755 "$SITE/libexec" "$SITE/libexec"/*
	for program in vmimagectl vmimagefs vmcatcher_{cache,endorser,image,subscribe}; do
		ln -s "$VMIMAGEFS_BUILD/$program" "$SITE/libexec/$program"
	done
	: >"$SITE/faults"
	# What the shim itself asks of the kernel is not on a sandbox's list.
	unset VMIMAGEFS_TEST_FILTER
	export VMIMAGEFS_LIBEXECDIR=$SITE/libexec
	export SHIM_PROGRAM=vmimagectl,vmimagefs-fetcher,vmimagefs-verifier,vmcatcher_cache,vmcatcher_endorser
	SHIM_PROGRAM+=,vmcatcher_image,vmcatcher_subscribe
	sweep_check="'$VMIMAGEFS_BUILD/vmimagectl' -c '$CONF' -q verify --deep"
}

# CALL:ERRNO:ERRNO... -> CALL:ERRNO,...; all, or one by turns, of a part of the CALLs by turns.
sweep_chosen() {
	local word call errnos n=$sweep_n share=$sweep_share

	[ -z "${VMI_LONG:-}${VMI_NIGHTLY:-}${VMI_SWEEP_POINTS:-}" ] || share=1
	for word in "${sweep_faults[@]}"; do
		n=$((n + 1))
		[ $((n % share)) -eq 0 ] || continue
		IFS=: read -ra errnos <<<"$word"
		call=${errnos[0]}
		errnos=("${errnos[@]:1}")
		[ -n "${VMI_LONG:-}${VMI_NIGHTLY:-}" ] || errnos=("${errnos[sweep_n / share % ${#errnos[@]}]}")
		printf "$call:%s," "${errnos[@]}"
	done
}

sweep_points() {
	if [ -n "${VMI_LONG:-}" ]; then echo "${VMI_SWEEP_POINTS:-4}"; else echo "${VMI_SWEEP_POINTS:-1}"; fi
}

swept() {
	local title=$1 program=$2 faults how=() status=0 said

	shift 2
	[[ $program == /* ]] || program=$VMIMAGEFS_BUILD/$program
	faults=$(sweep_chosen)
	sweep_n=$((sweep_n + 1))
	[ -n "${VMI_NIGHTLY:-}" ] && [ -z "${VMI_SWEEP_POINTS:-}" ] || how=(-n "$(sweep_points)" -o "$sweep_n")
	[ -z "${VMI_SWEEP_ALL:-}" ] || how=(-a)
	said=$("$sweep_program" "${how[@]}" "${sweep_options[@]}" -t "$VMI_PATIENCE" -k "$sweep_check" -s "$SITE" \
	    -S "$SHIM_SO" -f "${faults%,}" -- "${sweep_wrap[@]}" "$program" "$@" 2>&1) || status=$?
	note "${program##*/} $*: $(tail -n 1 <<<"$said" | sed 's/^# //')"
	[ -z "${SWEEP_VERBOSE:-}" ] || printf '%s\n' "$said"
	if [ $status -eq 0 ]; then
		ok "$title"
	else
		not_ok "$title" "$(grep -v ' 0 wrong$' <<<"$said" | sed 's/^# //')"
	fi
}
