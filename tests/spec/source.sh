#!/bin/bash
# The sources are laid out as they are meant to be read: no line and no file is too long, and each
# thing has its folder.

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/lib/tap.sh
. "$here/../lib/tap.sh"
need git awk expand
top=$(cd "$here/../.." && pwd)
# What was built here, or lies around, is no fault: git knows what is ours.
[ -e "$top/.git" ] || skip_all 'this is no checkout of git: it does not tell what is a source'
# Git would refuse to look at a checkout that is another user's.
files=$(git -c safe.directory="$top" -C "$top" ls-files) ||
    bail 'git does not say which files there are'

# Those of them that have not been removed.
sources=()
while read -r file; do
	[ ! -f "$top/$file" ] || sources+=("$file")
done < <(grep -E '\.[ch]$' <<<"$files")
[ ${#sources[@]} -gt 0 ] || bail 'there are no sources'

# FILE:LINE and width of each that is wider than 100 columns.
wide_lines() {
	local file

	for file in "${sources[@]}"; do
		expand -t 8 "$top/$file" | awk -v file="$file" 'length > 100 { print file ":" NR, length }'
	done
}

long_files() {
	(cd "$top" && awk 'FNR == 701 { print FILENAME }' "${sources[@]}")
}

check_is 'no line of C is wider than 100 columns, with tabs of 8' '' "$(wide_lines)"
check_is 'no file of C is longer than 700 lines' '' "$(long_files)"
check_is 'at the top there are the parts of the program, its tests, build and texts, and nothing else' \
    'LICENSE Makefile.am README configure.ac core fs tests tools' \
    "$(cut -d/ -f1 <<<"$files" | grep -v '^\.' | LC_ALL=C sort -u | paste -sd' ')"
plan_done
