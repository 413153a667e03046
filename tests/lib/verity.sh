# verity.sh - fs-verity digests and sidecars as publishers make them, by the tool of the distribution.
#
# A bash library: source it after tap.sh.
#
#   verity_of FILE [SIDECAR]  prints the digest of FILE, 128 hexadecimal digits, and writes the sidecar
#   verity_prefix SIZE        prints how many bytes of the sidecar of a file of that size stand before
#                             its last level
#   verity_total SIZE         prints how long the sidecar is

granule=262144

verity_of() {
	fsverity digest --hash-alg=sha512 --block-size=4096 --compact ${2:+--out-merkle-tree="$2"} "$1"
}

# Of a file of one block there is no tree.
verity_total() {
	local n=$((($1 + 4095) / 4096)) total=0

	while [ "$n" -gt 1 ]; do
		n=$(((n + 63) / 64))
		total=$((total + n))
	done
	printf '%s\n' "$((total * 4096))"
}

verity_prefix() {
	local total

	total=$(verity_total "$1")
	printf '%s\n' "$((total > 0 ? total - ($1 + granule - 1) / granule * 4096 : 0))"
}
