#!/bin/bash
# time limit: 240 s
#
# A line that loses a fifth of what is sent, and one of 1 Mbit/s: lists and images come, within their
# deadlines.  All of it in a network name space of its own.

if [ -z "${BAD_LINE:-}" ]; then
	BAD_LINE=inside exec unshare --net "$BASH" "$0" "$@" 2>/dev/null || echo '1..0 # SKIP no network name space can be made'
	exit 0
fi
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root openssl jq setpriv ip nft tc
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"

ip link set lo up && ip link set lo mtu 1500 || skip_all 'no loopback device'
images_up connect_timeout=30s stall_timeout=60s
image_add drop ok 60000
image_add slow ok 200000
image_add cut ok 60000

lose() {
	nft -f - <<-'EOT' 2>/dev/null
		table inet line {
			chain in {
				type filter hook input priority 0;
				tcp dport != 0 numgen random mod 100 < 20 drop
			}
		}
	EOT
}

if lose; then
	images_subscribe
	check_is 'T39 a list comes over a line that loses a fifth of its packets' 3 \
	    "$(ctl --json images | jq '.images | length')"
	check 'T39 an image does' ctl -q fetch drop
	check 'T39 with every byte right' cmp "$(object_of drop)" "$WWW/drop"
	nft delete table inet line
else
	skip 'T39 a line that loses a fifth of its packets' 'nft cannot drop packets here'
	images_subscribe
fi

if tc qdisc add dev lo root tbf rate 1mbit burst 16kb latency 500ms 2>/dev/null; then
	begun=$SECONDS
	check 'T39 an image comes over a line of 1 Mbit/s' ctl -q fetch slow
	check 'T39 with every byte right, too' cmp "$(object_of slow)" "$WWW/slow"
	# 1.6 Mbit: had it come sooner, the line would not have been slow.
	check 'T39 the line was that slow' [ $((SECONDS - begun)) -ge 1 ]
	tc qdisc del dev lo root
else
	skip 'T39 a line of 1 Mbit/s' 'tc has no tbf here'
fi
check 'T39 the line is good again' ctl -q fetch cut

plan_done
