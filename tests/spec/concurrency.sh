#!/bin/bash
# Many readers at once: one download for all of them, and none depends on another.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"

images_up stall_timeout=60s
mib=1048576
image_add shared silent $((2 * mib + 5))
image_add joined silent
image_add stalled stall:50
others='b c d e f g h'
for name in $others; do
	image_add "$name" ok
done
image_add heir stall:50
image_add orphan stall:50
image_add crash stall:50
image_add again drops:20 $((8 * mib))
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"

# reader N NAME WAY: what it saw goes into a file.  --start makes one before the first read.
reader() {
	oracle --mode "$3" --start "$SITE/started.$1" "$(image "$2")" "$WWW/$2"
	echo "$oracle_word" >"$SITE/read.$1"
}

# readers PREFIX COUNT NAME: that many in the background, in all the ways there are.
readers() {
	local i ways=(pread direct mmap odd random backward whole)

	pids=()
	for ((i = 1; i <= $2; i++)); do
		reader "$1-$i" "$3" "${ways[i % ${#ways[@]}]}" &
		pids+=($!)
	done
	wait_for "$VMI_PATIENCE" started "$1" "$2"
}

started() {
	[ "$(find "$SITE" -maxdepth 1 -name "started.$1-*" | wc -l)" -ge "$2" ]
}

saw() {
	cat "$SITE"/read."$1"-* | sort | uniq -c | sed 's/^ *//'
}

parked() {
	[ "$(sed -n 's/^reads_parked: //p' "$MNT/status")" -ge "$1" ]
}

# ---- one download ------------------------------------------------------------------------------

readers one 64 shared || not_ok '64 readers begin'
wait_for 10 parked 9 || not_ok 'they wait'
ctl -q fetch shared &
fetch=$!
server_get '/release?always'
wait "${pids[@]}"
check_is 'C01 sixty-four processes that read an image first get every byte' '64 right' "$(saw one)"
check_is 'C01 they cause exactly one download' 1 "$(requests shared)"
check 'C01 no byte of it is sent twice' [ "$(sent shared)" -eq "$(stat -c %s "$WWW/shared")" ]
wait "$fetch"
check_is 'C01 a fetch by hand meanwhile joins it' 0 $?
readers two 16 shared
wait "${pids[@]}"
check_is 'C01 readers that come later are served from the store' '16 right' "$(saw two)"
check_is 'C01 without another download' 1 "$(requests shared)"
server_get /release

# ---- one source stalls -------------------------------------------------------------------------

reader stalled stalled pread &
stalled=$!
wait_for 10 state_is stalled fetching
for name in $others; do
	reader "other-$name" "$name" pread &
	pids+=($!)
done
pids=("${pids[@]: -7}")
wait "${pids[@]}"
check_is 'C03 other images are fetched while one source stalls' '7 right' "$(saw other)"
check 'C03 whose reader still waits' kill -0 "$stalled"

# ---- readers that go ---------------------------------------------------------------------------

# Only the oracle itself: the shell around it stays to say what came of it.
kill_oracle() {
	local pid

	for pid in $(pgrep -f "[-]-start $SITE/started.$1 "); do
		kill -KILL "$pid"
	done
}

progress_is() {
	[ "$(said_of "$1" progress)" = "$2" ]
}
half="$((mib / 2)) $mib 50"

reader first heir pread &
first=$!
wait_for 10 progress_is heir "$half"
reader second heir direct &
second=$!
wait_for 10 started second 0
wait_for 10 [ -e "$SITE/started.second" ]
kill_oracle first
wait "$first"
check_is 'C04 the first reader is killed in the middle of the download' KILL "$(cat "$SITE/read.first")"
reader only orphan direct &
only=$!
wait_for 10 progress_is orphan "$half"
kill_oracle only
wait "$only"
server_get /release
wait "$second" "$stalled"
check_is 'C04 a second one gets every byte' right "$(cat "$SITE/read.second")"
check_is 'C04 from the same download' 1 "$(requests heir)"
check_is 'C03 and when the source goes on, its reader gets every byte' right "$(cat "$SITE/read.stalled")"
check 'C05 a download whose readers have all gone is completed' wait_for 10 state_is orphan verified
check_is 'C05 nothing of it is fetched twice' "1 $mib" "$(requests orphan) $(sent orphan)"
check 'C05 and later readers have it' reads orphan

# ---- while the network is bad ------------------------------------------------------------------

readers bad 32 again
wait "${pids[@]}"
check_is 'C01 readers see nothing of twenty disconnects' '32 right' "$(saw bad)"
check_is 'C01 each part is fetched once for all of them' "21 $((8 * mib))" \
    "$(requests again) $(sent again)"

reader crash crash pread &
crash=$!
wait_for 10 progress_is crash "$half"
for pid in $(daemon_pid fetcher); do
	kill -KILL "$pid"
done
asked_twice() {
	[ "$(requests crash)" -eq 2 ]
}
check 'a fetcher that dies is replaced' wait_for 10 asked_twice
server_get /release
wait "$crash"
check_is 'and the reader does not notice' right "$(cat "$SITE/read.crash")"
check 'nor is a byte fetched twice' [ "$(sent crash)" -eq $mib ]

no_fetchers() {
	! daemon_pid fetcher
}
check 'when all is there no fetcher is left' wait_for 10 no_fetchers
plan_done
