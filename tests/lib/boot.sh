# boot.sh - a PC (qemu, without the help of the processor) that boots from a disk image.
#
# A bash library: source it after tap.sh and mount.sh.
#
#   boot_disk KIND            tests/lib/bootdisk makes the disk, or finds it: sets BOOT_DISK, its path, and
#                             BOOT_SUM, what the guest has to read; 1, with boot_reason, where it cannot be made
#   boot_right FILE [CACHE]   boots from an overlay whose backing file is FILE, with qemu's cache=CACHE
#                             (writeback).  1, and it says why, if the guest does not come up, or has
#                             not read what it has to
#   boot_seconds              prints the time until the guest was up
#   boot_touches FILE         boots from FILE and prints how many bytes qemu has read of it: in pages of
#                             4 KiB, each counted once, and in granules of 256 KiB: "PAGES GRANULES"
#
# The guest gives its word when it is up (tests/lib/bootdisk).  BOOT_PATIENCE is how many seconds it
# has for that, 300.  The overlay lies in $SITE.

boot_disk() {
	local status=0

	boot_reason=
	command -v qemu-system-x86_64 >/dev/null || boot_reason="needs the command 'qemu-system-x86_64'"
	[ -z "$boot_reason" ] || return 1
	BOOT_DISK=$("$tests_dir/lib/bootdisk" "$1" 2>"$SITE/bootdisk.said") || status=$?
	boot_reason=$(tail -n 1 "$SITE/bootdisk.said")
	[ "$status" -eq 0 ] || return 1
	BOOT_SUM=$(<"${BOOT_DISK%.raw}.sum")
}

boot_end() {
	[ -z "${boot_pid:-}" ] || kill -KILL "$boot_pid" 2>/dev/null
	boot_pid=
}
at_exit boot_end

# Reads what the guest says until it is up, and then until the machine is off.
boot_listen() {
	local from=$1 end=$((SECONDS + ${BOOT_PATIENCE:-300})) line

	while [ "$SECONDS" -lt "$end" ] && IFS= read -r -t $((end - SECONDS)) -u "$boot_out" line; do
		line=${line%$'\r'}
		case $line in
		*BOOT-OK*)
			echo $((${EPOCHREALTIME/[.,]/} - from)) >"$SITE/booted"
			boot_sum=${line##*sum=} ;;
		esac
		[ -z "$line" ] || boot_said=$line
	done
}

boot() {
	local overlay=$SITE/overlay.qcow2

	boot_sum='' boot_said='nothing'
	rm -f "$overlay" "$SITE/booted"
	qemu-img create -q -f qcow2 -F raw -b "$1" "$overlay" || return 1
	# It goes with the shell that listens to it, whatever ends that.
	exec {boot_out}< <(exec setpriv --pdeathsig KILL qemu-system-x86_64 -machine pc,accel=tcg -m 512 \
	    -display none -monitor none -nic none -no-reboot -serial stdio -drive "file=$overlay,if=virtio,format=qcow2,cache=${2:-writeback}" \
	    "${boot_options[@]}" </dev/null 2>&1)
	boot_pid=$!
	boot_listen "${EPOCHREALTIME/[.,]/}"
	exec {boot_out}<&-
	boot_end
	rm -f "$overlay"
	[ -n "$boot_sum" ]
}

boot_options=()

boot_seconds() {
	awk '{ printf "%.2f", $1 / 1e6 }' "$SITE/booted"
}

boot_right() {
	boot "$@" || { echo "the guest does not come up; it said: $boot_said"; return 1; }
	[ "$boot_sum" = "$BOOT_SUM" ] || { echo "the guest read '$boot_sum', not '$BOOT_SUM'"; return 1; }
}

# qemu's own record: of the nodes that it opened, the one that is the file, and what was read of that.
boot_touches() {
	local log=$SITE/touched status=0

	boot_options=(-trace bdrv_open_common -trace bdrv_co_preadv_part -D "$log")
	boot "$1" || status=1
	boot_options=()
	[ "$status" -eq 0 ] || return 1
	awk -v name="\"$1\"" '
	    $1 == "bdrv_open_common" && $5 == name && $NF == "\"file\"" { node = $3 }
	    $1 == "bdrv_co_preadv_part" && $3 == node && $7 > 0 {
		for (b = int($5 / 4096); b <= int(($5 + $7 - 1) / 4096); b++) {
			pages[b] = 1
			granules[int(b / 64)] = 1
		}
	    }
	    END {
		for (b in pages)
			n_pages++
		for (b in granules)
			n_granules++
		print n_pages * 4096, n_granules * 262144
	    }' "$log"
	rm -f "$log"
}
