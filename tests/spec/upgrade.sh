#!/bin/bash
# time limit: 240 s
# nightly limit: 3600 s
#
# A new program takes over from the one that runs, while the mount is read, and no reader sees it; one
# that cannot is not used, and the one before goes on.
#
# VMI_UPGRADE_ROUNDS (20; 100 with VMI_NIGHTLY) exchanges.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl fsverity jq python3 tar sqlite3 setpriv
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/load.sh"
. "$here/../lib/ova.sh"
. "$here/../lib/verity.sh"
. "$here/../lib/blocks.sh"

rounds=${VMI_UPGRADE_ROUNDS:-${VMI_NIGHTLY:+100}}
rounds=${rounds:-20}

# A daemon whose program can be replaced.
installed=$(mktemp -d) || bail 'mktemp failed'
at_exit rm -rf "$installed"
chmod 755 "$installed"
cp -P "$VMIMAGEFS_BUILD"/{vmimagefs,vmimagectl,vmimagefs-fetcher,vmimagefs-verifier} "$installed/" || bail 'no copy'
good=$VMIMAGEFS_BUILD/vmimagefs
VMIMAGEFS_BUILD=$installed
export VMIMAGEFS_LIBEXECDIR=$installed

# As a package manager does it.
install_as() {
	cp "$1" "$installed/new" && chmod 755 "$installed/new" && mv "$installed/new" "$installed/vmimagefs"
}

images_up stall_timeout=60s block_timeout=60s log_level=info
image_disk stored ok 8
image_disk blocks ok 8
image_blocks blocks
image_disk coming "rate:$((8 * 1048576 / (rounds + 4)))" 8
image_disk slow "rate:$((8 * 1048576 / (rounds + 4)))" 8
image_blocks slow
ova_add archive
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
ctl -q fetch stored blocks archive || bail 'cannot fetch'

once() {
	local said

	said=$("$oracle_program" --mode "$2" "$(image "$1")" "$WWW/$1" 2>&1 </dev/null) ||
	    echo "$1 $2: $? $said" >>"$SITE/wrong"
}

texts() {
	while at_work; do
		cat "$MNT"/status "$MNT"/status.json "$MNT"/metrics "$MNT"/events "$MNT"/SHA512SUMS \
		    "$MNT"/images/*/{title,state,progress,metadata.json} >/dev/null 2>>"$SITE/wrong"
	done
}

begin_load() {
	local i modes=(pread direct mmap random spots directspots whole odd)

	load_begin
	for ((i = 0; i < 58; i++)); do
		reader "$([ $((i / 8 % 2)) -eq 0 ] && echo stored || echo blocks)" $i --mode "${modes[i % 8]}" &
		load+=($!)
	done
	for i in pread direct; do
		once coming $i & load+=($!)
		once slow $i & load+=($!)
	done
	texts & load+=($!)
	texts & load+=($!)
}

exchanges() {
	local i before

	for ((i = 0; i < rounds; i++)); do
		before=$(daemon_pid worker)
		install_as "$good"
		if [ $((i % 2)) -eq 0 ]; then
			kill -USR2 "$(daemon_pid supervisor)"
		else
			ctl -q reload --binary || { echo "round $i"; return 1; }
		fi
		worker_wait "$before" || { echo "round $i: $(<"$SITE/run/worker")"; return 1; }
	done
}

begin_load
check "P18 the worker is exchanged $rounds times under 64 readers" exchanges
check 'P18 no reader sees an error or a wrong byte' end_load
check_is 'P18 nothing was started for a crash' 0 "$(status_of worker_restarts)"
check_is 'P18 the supervisor counts them' "$rounds done" "$(worker_is exchanges) $(worker_is exchange)"
none_open() {
	[ "$(status_of files_open)" -eq 0 ]
}
# The fill of what was read in part goes on at its server's pace.
check 'P18 in the end no file is counted as open' wait_for $((VMI_PATIENCE + rounds + 4)) none_open
check 'P18 what was being fetched is whole' eval 'reads coming --mode pread && reads slow --mode pread'

ova_is_exchanged() {
	local before

	before=$(daemon_pid worker)
	kill -USR2 "$(daemon_pid supervisor)"
	worker_wait "$before" && ova_reads_on 8
}
exec 8<"$(ova_member archive)"
check 'P07 P18 a file in an OVA that is open is read on by another program' ova_is_exchanged
exec 8<&-
check 'P18 when it is closed that is known' wait_for "$VMI_PATIENCE" none_open

# ---- programs that cannot ------------------------------------------------------------------------------

# refused TITLE: the program that stands there now is not used.
refused() {
	local before

	before=$(daemon_pid worker)
	! ctl reload --binary >"$SITE/said" 2>&1 || { echo 'it says that it was exchanged'; return 1; }
	grep -q 'the one before goes on' "$SITE/said" || { cat "$SITE/said"; return 1; }
	reads stored --mode direct && [ "$(worker_is state)" = serving ] || return 1
	[ "${1:-same}" = other ] || [ "$(daemon_pid worker)" = "$before" ]
}
printf 'no program\n' >"$SITE/bad" && install_as "$SITE/bad"
check 'P18 a file that is no program is not used, and the worker does not even notice' refused
install_as /bin/false
check 'P18 nor one that ends at once' refused
install_as /bin/cat
check 'P18 nor one that is another one' refused
rm "$installed/vmimagefs"
check 'P18 nor one that is not there' refused

# It is given up; what readers had to wait for is the one before.
hangs_unnoticed() {
	local status=0

	install_as "$(dirname "$oracle_program")/hanger"
	exec 7<"$(image stored)"
	load_begin
	reader stored 1 --mode direct & load+=($!)
	reader blocks 2 --mode direct & load+=($!)
	refused other || status=$?
	end_load || status=$?
	cmp "$WWW/stored" - <&7 || status=$?
	exec 7<&-
	return $status
}
check 'P18 a program that begins, and hangs when it has the store, is given up before any reader is' \
    hangs_unnoticed

# Which has a new version once a second.
says_so() {
	status_of worker_last_end | grep -q 'could not take over'
}
check 'P18 the status says so' wait_for "$VMI_PATIENCE" says_so
sleep 0.6
check 'P18 a worker that is killed then is followed by the program that works' worker_kill
check 'P18 it serves' reads blocks --mode direct

# The catalogue says that a newer program has written it.
version=$(sqlite3 "$SITE/state/catalogue.db" 'pragma user_version')
install_as "$good"
schema_is() {
	setpriv --reuid=nobody --regid=nogroup --clear-groups sqlite3 "$SITE/state/catalogue.db" \
	    "pragma user_version = $1; update note set value = '$1' where key = 'schema'" >/dev/null
}
downgrade() {
	local sum status=0

	mount_down && schema_is $((version + 1)) || return 1
	sum=$(sha512sum <"$SITE/state/catalogue.db")
	mount_up || status=$?
	[ $status -eq 5 ] || { echo "status $status"; return 1; }
	tail -n 3 "$LOG" | grep -q 'code 55.*newer version' || { tail -n 3 "$LOG"; return 1; }
	[ "$(sha512sum <"$SITE/state/catalogue.db")" = "$sum" ] || { echo 'it was changed'; return 1; }
	# What the first process had begun ends a moment after it.
	wait_for "$VMI_PATIENCE" no_daemon_left && ! is_mounted || { echo 'something is left'; return 1; }
	schema_is "$version"
	mount_up && reads stored --mode direct
}
check 'P19 a program that is older than the state refuses it, and changes nothing' downgrade

# ---- between two workers -------------------------------------------------------------------------------

# It has died more than once, so that the next one is not started at once.
dies() {
	local worker

	[ "$(worker_is state)" != waiting ] || return 0
	worker=$(worker_is worker)
	[ "${worker:-0}" -gt 0 ] && kill -KILL "$worker"
	return 1
}
between_two() {
	wait_for "$VMI_PATIENCE" dies || { echo 'it dies, and is there'; return 1; }
	ctl -q reload --binary || return 1
	[ "$(worker_is state) $(worker_is exchanges) $(worker_is exchange)" = 'serving 1 done' ]
}
check 'P18 who asks for an exchange while there is no worker gets it when there is one' between_two

# ---- two exchanges at a time ---------------------------------------------------------------------------

is_trying() {
	[ "$(worker_is state)" = exchanging ]
}

# The linker of the program that is tried waits for a library that is a pipe, and then does without.
second_is_answered() {
	local first status=0

	mount_down && LD_PRELOAD=$SITE/pipe.so mount_up && mkfifo -m 666 "$SITE/pipe.so" || return 1
	ctl -q reload --binary & first=$!
	wait_for "$VMI_PATIENCE" is_trying || return 1
	timeout "$VMI_PATIENCE" "$installed/vmimagectl" -c "$CONF" reload --binary >"$SITE/said" 2>&1 ||
	    status=$?
	exec 8>"$SITE/pipe.so" && rm "$SITE/pipe.so" && exec 8>&-
	wait $first || { echo 'the first was not done'; return 1; }
	[ $status -eq 5 ] && grep -q 'try again.*code 55' "$SITE/said" && return 0
	echo "status $status: $(<"$SITE/said")"
	return 1
}
check 'P18 who asks for an exchange while another is under way is told to try again' second_is_answered
check 'P18 and that one is the only one' [ "$(worker_is exchanges) $(worker_is exchange)" = '1 done' ]
check 'P04 TERM ends it' mount_down
plan_done
