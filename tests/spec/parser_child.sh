#!/bin/bash
# The process that reads what nobody has authenticated yet may end in any way: the list is refused with
# a reason, and what there was stays.
#
# Here the verifier is a script that goes wrong as the file "how" says.  Everything else is real.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"

images_up
image_add apple ok
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
reads apple || bail "$oracle_said"

libexec=$SITE/libexec
mkdir "$libexec"
for program in vmimagefs-fetcher vmimagectl; do
	ln -s "$VMIMAGEFS_BUILD/$program" "$libexec/$program"
done
cat >"$libexec/vmimagefs-verifier" <<EOT
#!/bin/sh
echo \$\$ >>'$SITE/pids'
cat >/dev/null
. '$SITE/how'
EOT
chmod 755 "$libexec/vmimagefs-verifier"
: >"$SITE/pids" && chmod 666 "$SITE/pids"

with_bad_verifier() {
	VMIMAGEFS_LIBEXECDIR=$libexec ctl update 2>&1 </dev/null
}

# goes_wrong ROWS HOW PATTERN SCRIPT: what an update says of a new list then, and what is left.
goes_wrong() {
	local said status=0 pid

	images_sign
	printf '%s\n' "$4" >"$SITE/how"
	said=$("${run_update[@]}") || status=$?
	check_is "$1 a verifier that $2: the list is refused" 4 "$status"
	check_like "$1 $2: with code 46 and the reason" "$3.*[(]code 46[)]" "$said"
	check_is "$1 $2: the list that was there is still shown, as failed" 'failed 1' \
	    "$(cat "$MNT"/subscriptions/*/state | head -n 1) $(cat "$MNT"/subscriptions/*/version | head -n 1)"
	check "$1 $2: and so are images" reads apple --mode pread
	pid=$(tail -n 1 "$SITE/pids")
	check_not "$1 $2: no process is left" test -d "/proc/$pid"
}
run_update=(with_bad_verifier)

goes_wrong P16 'crashes' 'signal 11' 'kill -SEGV $$'
goes_wrong P16 'ends at once without a word' 'gave no verdict' 'exit 0'
goes_wrong P16 'fails without a word' 'status 3 ' 'exit 3'
goes_wrong P16 'floods its pipe' 'said more than a verdict' 'exec cat /dev/zero'
goes_wrong P16 'says something else' 'no sense|no verdict' 'head -c 4000 /dev/urandom'
goes_wrong P16 'stops in the middle' 'no verdict|cut after' 'head -c 10 /dev/zero'
goes_wrong P14 'is killed for want of memory' 'signal 9' 'kill -KILL $$'
goes_wrong P17 'is killed for a forbidden call' 'signal 31' 'kill -SYS $$'

# Twenty of its seconds in one of ours.
faketime=$(find /usr/lib -name libfaketime.so.1 2>/dev/null | head -n 1)
in_a_hurry() {
	VMIMAGEFS_LIBEXECDIR=$libexec LD_PRELOAD=$faketime FAKETIME='+0 x20' ctl update 2>&1 </dev/null
}
if [ -z "${VMI_SANITIZE:-}" ] && [ -n "$faketime" ]; then
	run_update=(in_a_hurry)
	goes_wrong P16 'hangs' 'stopped after 60 seconds' 'exec sleep 1000'
else
	skip 'P16 a verifier that hangs: the list is refused' 'needs libfaketime, and no sanitizer'
fi

check 'P16 with a verifier that works the list is taken after all' ctl -q update
check 'P16 and is shown' wait_for 10 sh -c "grep -qx '$images_version' '$MNT'/subscriptions/*/version"
check 'the daemon ends in order after all that' mount_down
plan_done
