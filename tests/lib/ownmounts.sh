# ownmounts.sh - the test runs in a mount name space of its own: nobody beside it has copies of what it mounts.
#
# A bash library: source it before all others; it executes the test once more.  A copy in another name space
# holds a file system that was unmounted here: a loop device would go on with the file it had, and a daemon
# would not learn of the end of its mount.  So what a test beside us has mounted is given back first.
#
#   leave_mounts           in a new mount name space: gives it back (what tests mount is in $TMPDIR)

leave_mounts() {
	local point

	while read -r point; do
		umount -l "$point" 2>/dev/null
	done < <(awk -v ours="${TMPDIR:-/tmp}/vmimagefs-" 'index($5, ours) == 1 { print $5 }' /proc/self/mountinfo | sort -r)
}

if [ -z "${VMI_OWN_MOUNTS:-}" ] && [ "$(id -u)" -eq 0 ] && unshare --mount true 2>/dev/null; then
	VMI_OWN_MOUNTS=yes exec unshare --mount --propagation private "$BASH" "$0" "$@"
fi
[ -z "${VMI_OWN_MOUNTS:-}" ] || leave_mounts
