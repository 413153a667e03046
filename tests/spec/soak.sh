#!/bin/bash
# A site under load for a long time: ten refreshes a second, each with another version of the list, while 64
# oracles read images in all ways and 8 walkers go through directories and metadata (tests/lib/walker).  No
# wrong byte, no mixture of two versions, and afterwards every process is as small as before.
#
# 20 s as a rule, ten minutes with VMI_NIGHTLY; VMI_SOAK_SECONDS is another time and VMI_SOAK_RATE another
# number of refreshes a second: VMI_SOAK_SECONDS=86400 VMI_SOAK_RATE=1 is the form of a day.
# time limit: 240 s
# nightly limit: 90000 s
# alone: yes

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl fsverity jq
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/verity.sh"
. "$here/../lib/blocks.sh"

seconds=20 rate=10 n_readers=64 n_walkers=8 warm=6
[ -z "${VMI_NIGHTLY:-}" ] || seconds=600 warm=60
seconds=${VMI_SOAK_SECONDS:-$seconds} rate=${VMI_SOAK_RATE:-$rate}
walker_program=$(dirname "$hostile")/walker
[ -x "$walker_program" ] || skip_all 'tests/lib/walker is not built'

# ---- a list of many versions ---------------------------------------------------------------------

# What is withdrawn is purged soon, though not before a busy machine has made the next version: a history
# that grows is no leak, but cannot be told from one.
keep=20
images_up fill=now stall_timeout=30s read_timeout=300s expire_keep=${keep}s
for name in steady lazy stream turns; do
	image_disk $name ok 4
done
image_blocks steady
image_blocks lazy
mib=1048576
cp "$WWW/turns" "$WWW/turns.1"
head -c $((4 * mib)) /dev/urandom >"$WWW/turns.2"
for i in 1 2; do
	turn_hex[i]=$(image_hex turns.$i)
	turn_verity[i]=$(verity_of "$WWW/turns.$i" "$WWW/turns.$i.fsv")
done

# entry NAME FILE SHA512 [KEY=VALUE...]: whatever shows a version says it as v@V@v.
entry() {
	local name=$1 file=$2 hex=$3

	shift 3
	pki_image "$name" "The v@V@v of $name" "v@V@v" "$SERVER/ok/$file" "$(stat -c %s "$WWW/$file")" \
	    "$hex" "ad:mpuri=https://example.org/v@V@v/" "x:note=v@V@v" "$@"
}

n_set=8
# template N: odd and even versions have other sets of images, and turns has other bytes.
template() {
	local i set=odd entries=()

	[ "$1" -eq 1 ] || set=even
	for name in steady lazy stream; do
		# shellcheck disable=SC2086 # words
		entries+=("$(entry $name $name "$(image_hex $name)" ${image_keys[$name]:-})")
	done
	entries+=("$(entry turns turns.$1 "${turn_hex[$1]}" "sl:checksum:fsverity-sha512=${turn_verity[$1]}")")
	for ((i = 0; i < n_set; i++)); do
		entries+=("$(entry $set-$i turns.$1 "${turn_hex[$1]}")")
	done
	pki_list "$SITE/template.$1" a-list @V@ "$(pki_dn alice)" "$(pki_issuer alice)" "${entries[@]}"
}
# Neither is older than the other.
PKI_LIST_CREATED=$(date -u -d '-1 minute' +%Y-%m-%dT%H:%M:%SZ)
template 1
template 2

version=0
publish() {
	version=$((version + 1))
	sed "s/@V@/$version/g" "$SITE/template.$((2 - version % 2))" >"$SITE/list.json" &&
	    openssl cms -sign -in "$SITE/list.json" -signer "$PKI/alice.pem" -inkey "$PKI/alice.key" \
	        -out "$WWW/list.new" 2>>"$SITE/openssl.said" && mv "$WWW/list.new" "$WWW/list"
}

publish || bail "no list: $(tail -n 2 "$SITE/openssl.said")"
ctl -q endorser add alice --from-cert "$PKI/alice.pem" &&
    ctl -q subscribe "$SERVER/ok/list" --endorser alice --select all || bail 'the list is not accepted'
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
for name in steady lazy stream turns; do
	cp "$WWW/$name" "$SITE/$name.was" 2>/dev/null
	cmp "$(image $name)" "$WWW/$name" || bail "$name is not read"
done
# Whoever has found the way to a version goes on reading it.
pin=$(readlink -f "$(image turns)")

# ---- what a process takes ------------------------------------------------------------------------

# One line for each process of the daemon: NAME DESCRIPTORS THREADS RSS, without those that come and go.
figures() {
	local pid name

	for pid in $(daemon_pids); do
		name=$(cat "/proc/$pid/comm" 2>/dev/null) || continue
		case $name in vmimagefs-fetch|vmimagefs-verif|vmi-updater) continue ;; esac
		printf '%s %s %s %s\n' "$name" "$(ls "/proc/$pid/fd" 2>/dev/null | wc -l)" \
		    "$(ls "/proc/$pid/task" 2>/dev/null | wc -l)" \
		    "$(sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/$pid/status" 2>/dev/null)"
	done | sort
}

# Names, descriptors and threads.
shape() {
	figures | cut -d' ' -f1-3
}

shape_is() {
	[ "$(shape)" = "$1" ]
}

rss() {
	figures | awk '{ n += $4 } END { print n }'
}

# What the worker has asked for and not given back, in kB.
asked() {
	echo $(($(ctl status | sed -n 's/^memory_bytes: //p') / 1024))
}

# Every version that was withdrawn is purged; of these a thousand are remembered.
history_settled() {
	[ "$(ctl --json expired | jq '[.expired[] | select(.purged | not)] | length')" -eq 0 ]
}

# Until nothing is fetched, and the figures have stayed the same for a second.
settled() {
	local was now=none i

	for ((i = 0; i < 40; i++)); do
		was=$now now=$(shape)
		[ "$now" != "$was" ] || return 0
		sleep 1
	done
	return 1
}

# ---- the load ------------------------------------------------------------------------------------

# load SECONDS WORD: what the readers saw is in read.WORD-*, the walkers in walked.WORD-*.
load() {
	local s=$1 i

	waiters "$2"
	for ((i = 0; i < n_readers; i++)); do
		case $((i % 4)) in
		0)	waiter $i steady --mode spots,directspots --seconds "$s" --seed $i ;;
		1)	waiter $i lazy --mode all --seconds "$s" --seed $i ;;
		2)	waiter $i stream --mode random,direct,mmap --seconds "$s" --seed $i ;;
		3)	(
				oracle --mode spots,directspots --seconds "$s" --seed $i "$pin" "$WWW/turns.1"
				echo "$oracle_word" >"$SITE/read.$waiters_prefix-$i"
			) &
			waiters_pids+=($!) ;;
		esac
	done
	for ((i = 0; i < n_walkers; i++)); do
		"$walker_program" --seconds "$s" --seed $((i + 1)) --sets odd-,even-:$n_set --always lazy,steady,stream,turns "$MNT" \
		    >"$SITE/walked.$2-$i" 2>&1 &
		walkers+=($!)
	done
	refresh_for "$s"
	wait "${walkers[@]}"
	walkers=()
	waited
}

# A refresh every 1/rate seconds, or as often as the machine makes.  Samples the size once a second.
refresh_for() {
	local end=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000)) next=${EPOCHREALTIME/[.,]/} now sampled=0

	while now=${EPOCHREALTIME/[.,]/}; [ "$now" -lt "$end" ]; do
		if [ "$now" -lt "$next" ]; then
			sleep "0.$(printf %06d $((next - now > 900000 ? 900000 : next - now)))"
			continue
		fi
		next=$((next + 1000000 / rate))
		[ "$next" -gt "$now" ] || next=$now
		publish && ctl -q update >"$SITE/update.said" 2>&1 ||
		    echo "version $version: $(tail -n 1 "$SITE/update.said")" >>"$SITE/update.failed"
		refreshes=$((refreshes + 1))
		if [ $((now / 1000000 - sampled)) -ge 10 ]; then
			sampled=$((now / 1000000))
			echo "$sampled $(rss)" >>"$SITE/sizes"
		fi
	done
}

: >"$SITE/update.failed"
refreshes=0 walkers=()
load $warm warm
check_is 'C06 readers and walkers begin' "$n_readers right" "$waiters_saw"
settled || not_ok 'the daemon comes to rest'
if [ "$seconds" -ge 120 ]; then
	# Of the version of those who have found the way to it.
	[ $((version % 2)) -eq 1 ] || { publish && ctl -q update; }
	wait_for $((keep + VMI_PATIENCE)) history_settled || not_ok 'all is purged'
fi
begun=$(shape) size=$(rss) asked=$(asked)
rm -f "$SITE/sizes"

refreshes=0
load "$seconds" soak
check_is "C06 $n_readers readers see no wrong byte and no error while lists are refreshed for $seconds s" \
    "$n_readers right" "$waiters_saw"
walked=$(grep -hv '^listings' "$SITE"/walked.*)
check_is 'C06 no listing and no file of metadata is a mixture of two versions of the list' '' "$walked"
read -r n_listings n_files n_versions < <(awk '/^listings/ { l += $2; f += $4; v += $6 } END { print l, f, v }' \
    "$SITE"/walked.soak-*)
note "$refreshes refreshes in $seconds s; $n_listings listings, $n_files files of $n_versions versions were looked at"
check 'C06 the walkers saw many versions' [ "$n_versions" -ge $((seconds / 4)) ]
check_is 'C06 every refresh is taken' '' "$(head -n 5 "$SITE/update.failed")"
check 'C06 there was more than one a second' [ "$refreshes" -ge "$((seconds < refreshes ? seconds : seconds * rate / 10))" ]
check 'C06 in the end the latest version is shown' \
    grep -q "v${version}v" "$MNT/images/steady/metadata.json"

# ---- afterwards ----------------------------------------------------------------------------------

settled
check "C06 P23 every process has its descriptors and threads back to what they were" \
    wait_for "$VMI_PATIENCE" shape_is "$begun"
[ "$(shape)" = "$begun" ] || diff <(echo "$begun") <(shape) | sed 's/^/#   /'
now=$(rss)
if [ -n "${VMI_SANITIZE:-}${VMI_WRAP:-}" ]; then
	skip 'P23 the daemon has not grown' 'a sanitizer keeps what was freed'
else
	check 'status says how much memory the worker has asked for' [ "$asked" -gt 100 ]
	# A leak of a few kB at each refresh shows in ten minutes.
	if [ "$seconds" -ge 120 ]; then
		wait_for $((keep + VMI_PATIENCE)) history_settled || not_ok 'all is purged in the end'
		now_asked=$(asked)
		check "P23 the worker has given back what it asked for ($asked kB, then $now_asked kB)" \
		    [ "$now_asked" -le $((asked + 3072)) ]
	fi
	# All processes together.  What 64 readers at once leave in the allocator's arenas differs by as much.
	check "P23 the daemon has not grown ($size kB, then $now kB)" [ "$now" -le $((size + 24576)) ]
	if [ "$seconds" -ge 14400 ]; then
		# Least squares over the second half: kB a second.
		slope=$(awk '{ t[NR] = $1; v[NR] = $2 } END {
			for (i = int(NR / 2) + 1; i <= NR; i++) { n++; x += t[i]; y += v[i] }
			for (i = int(NR / 2) + 1; i <= NR; i++) {
				a += (t[i] - x / n) * (v[i] - y / n); b += (t[i] - x / n) ^ 2 }
			printf "%d", b > 0 ? a / b * 3600 : 0 }' "$SITE/sizes")
		check "P23 it grows by less than 1 MiB an hour ($slope kB)" [ "$slope" -lt 1024 ]
	fi
fi
check 'nobody waits any more' wait_for "$VMI_PATIENCE" parked -eq 0
check 'verify finds nothing wrong' ctl verify
check 'the daemon ends' mount_down
plan_done
