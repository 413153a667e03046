#!/bin/bash
# time limit: 300 s
# nightly limit: 14400 s
#
# Processes of a daemon are killed at random moments, while readers compare every byte and an admin works
# with the site.  VMI_KILLS (30; 2000 with VMI_NIGHTLY) times, VMI_KILL_SEED (random).

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse nginx openssl setpriv jq fsverity
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"
. "$here/../lib/tiny.sh"
. "$here/../lib/verity.sh"
. "$here/../lib/day.sh"
oracle=$(dirname "${VMIMAGEFS_HOSTILE:-$here/../../.build/tests/lib/hostile}")/oracle
[ -x "$oracle" ] || skip_all 'tests/lib/oracle is not built'

kills=30
[ -z "${VMI_LONG:-}" ] || kills=200
[ -z "${VMI_NIGHTLY:-}" ] || kills=2000
kills=${VMI_KILLS:-$kills}
RANDOM=${VMI_KILL_SEED:=$RANDOM}
note "VMI_KILL_SEED=$VMI_KILL_SEED"
day_up
day_disk

# ---- readers ---------------------------------------------------------------------------------------------

# What a reader may be told while there is no daemon, or another version.
may_fail=ENOTCONN,ECONNABORTED,ENOENT,EIO,ENODEV,ESTALE,EKEYEXPIRED,EKEYREJECTED,EHOSTUNREACH,ETIMEDOUT,EAGAIN,EINTR,EMFILE,ENXIO

# As long as there is reading, and somebody who could say that it is enough.
read_for_ever() {
	local file=$1 mode=$2 status

	while [ -e "$SITE/reading" ] && kill -0 $$ 2>/dev/null; do
		"$oracle" --mode "$mode" --rounds 1 --errors "$may_fail" \
		    "$MNT/by-sha512/$(sha512sum <"$WWW/$file" | cut -d' ' -f1)" "$WWW/$file" >"$SITE/said.$BASHPID" 2>&1
		status=$?
		case $status in
		# 200, 203, 204: another byte, another size; SIGBUS is how a mapping is told of an error.
		200|204) echo "$file, $mode: $(<"$SITE/said.$BASHPID")" >>"$SITE/bytes" ;;
		0) echo . >>"$SITE/rounds" ;;
		*) sleep 0.05 ;;
		esac
	done
}

readers=()
start_readers() {
	local file mode

	: >"$SITE/bytes"
	: >"$SITE/rounds"
	touch "$SITE/reading"
	at_exit stop_readers
	for file in one one-2 big; do
		for mode in pread random direct; do
			read_for_ever "$file" "$mode" &
			readers+=($!)
		done
	done
}

stop_readers() {
	rm -f "$SITE/reading"
	wait "${readers[@]}" 2>/dev/null
}

# ---- an admin --------------------------------------------------------------------------------------------

# What somebody was told: the version of the list, whether "two" is selected.
acked_version=1 acked_two=yes version=1

# The next version of the list, one image with the one content or the other.
publish() {
	version=$((version + 1))
	tiny_list "$version" "one:$version:one$([ $((version % 2)) -eq 1 ] || echo -2)" two big
}

work() {
	case $((RANDOM % 5)) in
	0|1)	publish && ctl -q update && acked_version=$version ;;
	2)	ctl -q deselect two && acked_two=no || acked_two=unknown ;;
	3)	ctl -q select two && acked_two=yes || acked_two=unknown ;;
	4)	ctl -q expired --purge 0 ;;
	esac >/dev/null 2>&1
}

acknowledged_wrong() {
	local found two

	found=$(ctl --json subscriptions | jq -r '.subscriptions[] | select(.id == "tiny") | .version')
	[ "${found:-0}" -ge "$acked_version" ] || echo "the list has version '$found', and somebody was told $acked_version"
	two=$(ctl --json images | jq -r '.images[] | select(.id == "two") | if .selected then "yes" else "no" end')
	[ "$acked_two" = unknown ] || [ "$two" = "$acked_two" ] || echo "two is selected: '$two', and somebody was told $acked_two"
}

# ---- kills -----------------------------------------------------------------------------------------------

# Of all processes at once, or one of them.
kill_some() {
	local role pid

	case $((RANDOM % 4)) in
	0|1)	for pid in $(daemon_pids); do kill -KILL "$pid"; done ;;
	2)	role=worker ;;
	3)	role=supervisor ;;
	esac
	[ -z "${role:-}" ] || kill -KILL "$(daemon_pid "$role")"
}

start_again() {
	local begin=${EPOCHREALTIME/[.,]/} took

	# A worker that died is followed by another, where there is somebody to start it.
	if wait_for 2 eval 'daemon_pid supervisor && daemon_pid worker && cat "$MNT/status"'; then
		return 0
	fi
	wait_for "$VMI_PATIENCE" no_daemon_left || { echo "it neither goes on nor ends: $(daemon_pids | xargs)"; mount_kill; }
	begin=${EPOCHREALTIME/[.,]/}
	mount_up || { echo "no start: $(tail -n 2 "$LOG")"; return 1; }
	took=$((${EPOCHREALTIME/[.,]/} - begin))
	[ "$took" -le $((VMI_PATIENCE > 15 ? 50000000 : 5000000)) ] || echo "the start took $took us"
}

# Not before it has begun to work, and while it does.
kill_once() {
	local pid

	sleep "0.$((RANDOM % 3))$((RANDOM % 10))"
	{
		sleep "0.0$((RANDOM % 10))"
		kill_some
	} 2>/dev/null &
	pid=$!
	work
	wait "$pid"
	start_again
	acknowledged_wrong
}

mount_up || bail 'no mount'
ctl -q endorser add alice --from-cert "$PKI/alice.pem" && ctl -q subscribe "$WEB_URL/list" --endorser alice --select all ||
    bail 'no list'
day_reads one && day_reads big || bail 'no image'
start_readers
: >"$SITE/wrong"
n=0
while [ "$n" -lt "$kills" ]; do
	n=$((n + 1))
	kill_once >"$SITE/said"
	[ ! -s "$SITE/said" ] || { echo "kill $n:"; cat "$SITE/said"; } >>"$SITE/wrong"
done
stop_readers
note "$n kills, $(wc -l <"$SITE/rounds") files read without a fault in between"
check_is 'P02 whenever processes are killed, the site goes on, and nothing that was acknowledged is lost' '' "$(<"$SITE/wrong")"
check_is 'P02 no reader is given a wrong byte' '' "$(<"$SITE/bytes")"
check 'P02 readers read on' test "$(wc -l <"$SITE/rounds")" -ge 9
mount_down || mount_kill
check_is 'P02 handlers were told of everything, in order' '' "$(day_daemon_wrong; day_told_wrong all)"
check_is 'P02 the second check of the whole site finds nothing' '' "$(day_verify_wrong)"

plan_done
