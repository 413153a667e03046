#!/bin/bash
# time limit: 240 s
# nightly limit: 10800 s
#
# A whole site when the power goes: catalogue and cache lie on a disk whose writes are recorded while an
# admin subscribes, selects, updates, deselects and purges, and a daemon fetches, heals and tells an event
# handler.  Then disks as a cut could have left them are mounted, and the site is looked at: what somebody
# was told is done, is.  lib/recorder writes down what the disk was told, and when somebody was told
# that something is done (a mark); lib/powerdisk makes the disks.
#
# By default cuts are tried for VMI_POWERCUT_SECONDS (20), in an order that is spread over all of them;
# with VMI_NIGHTLY each prefix of the writes, and 200 random choices of what was not flushed.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/ownmounts.sh"
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse nginx openssl setpriv jq fsverity mkfs.ext4 losetup
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"
. "$here/../lib/tiny.sh"
. "$here/../lib/verity.sh"
. "$here/../lib/day.sh"
programs=$(dirname "${VMIMAGEFS_HOSTILE:-$here/../../.build/tests/lib/hostile}")
recorder=$programs/recorder powerdisk=$programs/powerdisk
[ -x "$recorder" ] && [ -x "$powerdisk" ] || skip_all 'tests/lib/recorder and powerdisk are not built'
[ -z "${VMI_SANITIZE:-}" ] || skip_all 'a sanitizer sees nothing new here, and takes its time'

day_up

# ---- what is recorded ------------------------------------------------------------------------------------

disk_up() {
	mount -o loop,noatime "$1" "$SITE/disk"
}

make_base() {
	truncate -s 24M "$SITE/base.img" &&
	    mkfs.ext4 -q -F -m 0 -J size=4 -E lazy_itable_init=0,lazy_journal_init=0 "$SITE/base.img" || return 1
	disk_up "$SITE/base.img" || skip_all 'there is no loop device'
	at_exit umount -l "$SITE/disk"
	day_disk && umount "$SITE/disk"
}

record_begin() {
	mkdir "$SITE/rec"
	cp "$SITE/base.img" "$SITE/live.img"
	"$recorder" "$SITE/live.img" "$SITE/writes" "$SITE/rec" &
	recorder_pid=$!
	at_exit umount -l "$SITE/rec"
	wait_for "$VMI_PATIENCE" test -e "$SITE/rec/disk" && disk_up "$SITE/rec/disk"
}

record_end() {
	umount "$SITE/disk" && umount "$SITE/rec" && wait "$recorder_pid"
}

# Somebody was told that this step is done.
mark() {
	n_marks=$1
	# shellcheck disable=SC2059 # an octal escape
	printf "\\$(printf %o "$1")" >"$SITE/rec/mark"
}

# A daemon is there from the beginning; it makes the catalogue.
live() {
	mount_up && day_live 1 mark && mount_down
}

# ---- one cut ---------------------------------------------------------------------------------------------

# look_at STEPS END: prints what is wrong with the disk that is mounted.
look_at() {
	rm -rf "$SITE/run"
	: >"$SITE/told"
	day_facts_wrong "$1" && day_told_wrong some "$2"
	day_daemon_wrong
	day_told_wrong all "$2"
	day_verify_wrong
}

# try_cut CUT ONE_IN SEED
try_cut() {
	local steps end wrong

	read -r steps end < <(awk -v cut="$1" '$1 > cut { exit } $2 == "M" { m = $3 } { end = $4 } END { print m + 0, end + 0 }' "$SITE/entries")
	"$powerdisk" make "$SITE/base.img" "$SITE/writes" "$SITE/memory/cut.img" "$@" || bail 'no disk'
	n_cuts=$((n_cuts + 1))
	if ! disk_up "$SITE/memory/cut.img" 2>"$SITE/mount.error"; then
		wrong="it cannot be mounted: $(<"$SITE/mount.error")"
	else
		wrong=$(look_at "$steps" "$end")
		umount "$SITE/disk" || { mount_kill; umount "$SITE/disk" || bail 'the disk stays mounted'; }
	fi
	[ -z "$wrong" ] || printf 'after %s, one piece in %s missing (seed %s):\n%s\n' "$1" "$2" "$3" "$wrong" >>"$SITE/wrong"
}

# ---- cuts ------------------------------------------------------------------------------------------------

# "CUT ONE_IN SEED" a line.  Just before a flush most is open: there all of it, or some of it, is lost.
cuts_of_flushes() {
	awk -v seed="$seed" 'BEGIN { split("0 2 10 3", one_in, " ") }
	    $2 == "F" { print $1 - 1, one_in[n++ % 4 + 1], seed + n }' "$SITE/entries"
}

# Every so manieth first, then those between: whenever it ends, it was spread over all.
spread() {
	awk '{ line[NR] = $0 } END {
		for (step = 1; step < NR; step *= 2) { }
		for (; step >= 1; step = int(step / 2))
			for (i = step; i <= NR; i += step)
				if (!done[i]++)
					print line[i]
	}'
}

all_cuts() {
	awk '$2 != "M" { print $1, 0, 0 }' "$SITE/entries"
	cuts_of_flushes
	awk -v seed="$seed" '$2 == "W" { w[n++] = $1 } END { srand(seed)
		for (i = 0; i < 200; i++) print w[int(rand() * n)], 2 + int(rand() * 9), seed + 1000 + i }' "$SITE/entries"
}

seconds=${VMI_POWERCUT_SECONDS:-20}
[ -z "${VMI_LONG:-}" ] || seconds=${VMI_POWERCUT_SECONDS:-200}
[ -z "${VMI_NIGHTLY:-}" ] || seconds=${VMI_POWERCUT_SECONDS:-9000}
seed=${VMI_POWERCUT_SEED:-$RANDOM}
n_cuts=0 n_marks=0
: >"$SITE/wrong"
make_base || bail 'no disk to begin with'
record_begin || bail 'nothing can be recorded'
live >"$SITE/lived" 2>&1 || bail "the day ends after step $n_marks: $(tail -n 5 "$SITE/lived" "$LOG")"
record_end || bail 'the record does not end'
cp "$SITE/told" "$SITE/told.before"
# After a boot a disk can have another number: that of now is taken.
truncate -s 1M "$SITE/taken" && taken=$(losetup -f --show "$SITE/taken") || bail 'no second loop device'
at_exit losetup -d "$taken"
# From now on nothing is fetched but by a check that mends.
sed -i 's/^prefetch = .*/prefetch = never/' "$CONF" && echo 'fill = never' >>"$CONF"
"$powerdisk" list "$SITE/base.img" "$SITE/writes" >"$SITE/entries"
mkdir "$SITE/memory" && mount -t tmpfs -o size=64m tmpfs "$SITE/memory" || bail 'no memory for disks'
at_exit umount -l "$SITE/memory"
n_flushes=$(awk '$2 == "F"' "$SITE/entries" | wc -l)
note "VMI_POWERCUT_SEED=$seed: $(wc -l <"$SITE/entries") entries, $n_flushes flushes, $n_marks steps"
check_is 'a day of a site is recorded' "$day_steps" "$(awk '$2 == "M"' "$SITE/entries" | wc -l)"

end=$((SECONDS + seconds))
while read -r cut one_in with; do
	[ "$SECONDS" -lt "$end" ] || break
	try_cut "$cut" "$one_in" "$with"
done < <(if [ -n "${VMI_NIGHTLY:-}" ]; then all_cuts; else cuts_of_flushes; fi | spread)
note "$n_cuts cuts tried"
check 'disks of power cuts are tried' test "$n_cuts" -ge 5
check_is 'P03 B26 after a power cut the site starts, and what was said to be done is done' '' "$(<"$SITE/wrong")"

plan_done
