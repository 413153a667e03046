#!/bin/bash
# Nothing in the mount can be changed, by root or by anybody: every call that could is refused, and
# afterwards the tree, its bytes and what the store holds are what they were.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse nginx openssl setpriv getfattr
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"
. "$here/../lib/lists.sh"
fscheck=$(dirname "${VMIMAGEFS_HOSTILE:-$VMIMAGEFS_BUILD/tests/lib/hostile}")/fscheck
[ -x "$fscheck" ] || skip_all 'tests/lib/fscheck is not built'

site_up
lists_up
image_file disk.img 300003
publish alice image.list a-list 1 "$(image_entry a-disk 'A disk' 1.0 disk.img)" || bail 'no list'
ctl -q endorser add alice --from-cert "$PKI/alice.pem" &&
    ctl -q subscribe "$WEB_URL/image.list" --endorser alice --select all || bail 'no list'
mount_up || bail "not mounted: $(tail -n 5 "$LOG")"
ctl -q fetch --all || bail 'not fetched'

# All users must be able to execute it, wherever the build is.
install -m 755 "$fscheck" "$SITE/fscheck"
disk=$(readlink -f "$MNT/images/a-disk/image")

# What the tree says of itself: names, types, modes, owners, sizes, times, targets, attributes, bytes.
tree_state() {
	(cd "$MNT" && find . -printf '%p %y %m %U %G %s %T@ %l %n\n' | grep -vE '^\./(status|metrics)' &&
	    find images subscriptions endorsers by-sha512 -type f -exec sha512sum {} + &&
	    getfattr -d --absolute-names "$disk") | sort
}

store_state() {
	(cd "$SITE/cache" && find . -printf '%p %y %m %U %s %T@\n' && find objects -type f -exec sha512sum {} +) | sort
}

# What the kernel answers before a file system is asked is its own affair: EBADF of a descriptor
# that is open for reading, ENOTTY of an ioctl that there is not, EISDIR of a directory.
expected='
open(O_WRONLY) EROFS
open(O_RDWR) EROFS
open(O_TRUNC) EROFS
open(O_APPEND) EROFS
open(O_TMPFILE) EROFS EOPNOTSUPP
open(O_DIRECTORY|O_RDWR) EISDIR
open(O_CREAT) EROFS
write EBADF
pwrite EBADF
ftruncate EINVAL EBADF
fallocate EBADF
fallocate(PUNCH_HOLE) EBADF
copy_file_range EBADF
FICLONE EBADF EXDEV EOPNOTSUPP EROFS
FS_IOC_SETFLAGS ENOTTY EPERM EROFS
FS_IOC_FSSETXATTR ENOTTY EPERM EROFS
fchmod EROFS
fchown EROFS
futimens EROFS
fsetxattr EROFS
fremovexattr EROFS
truncate EROFS
unlink EROFS
mkdir EROFS
rmdir EROFS
rename EROFS
rename(NOREPLACE) EROFS
rename(EXCHANGE) EROFS
link EROFS
symlink EROFS
mknod(FIFO) EROFS
mknod(device) EROFS EPERM
chmod EROFS
chown EROFS
lchown EROFS
utimensat EROFS
setxattr EROFS
removexattr EROFS'

# refused WHO PREFIX...: one result a call; PREFIX runs as WHO.
refused() {
	local who=$1 said call result wanted

	shift
	said=$("$@" "$SITE/fscheck" mutate "$disk" "$MNT/images" a-disk "$MNT/by-title/A_disk" 2>&1)
	while read -r call wanted; do
		[ -n "$call" ] || continue
		result=$(awk -v call="$call" '$1 == call { print $2 }' <<<"$said")
		if [[ " $wanted " == *" $result "* ]]; then
			ok "F01-F20 $call is refused to $who"
		else
			not_ok "F01-F20 $call is refused to $who" "wanted one of: $wanted" "found: ${result:-$said}"
		fi
	done <<<"$expected"
}

tree_state >"$SITE/tree.before"
store_state >"$SITE/store.before"
refused root env
refused 'uid 65534' setpriv --reuid=65534 --regid=65534 --clear-groups
tree_state >"$SITE/tree.after"
store_state >"$SITE/store.after"
check 'F01-F20 what was refused has changed nothing in the tree' cmp "$SITE/tree.before" "$SITE/tree.after"
check 'F01-F20 nor in the store' cmp "$SITE/store.before" "$SITE/store.after"
check 'F01-F20 nor the bytes of the image' cmp "$disk" "$WWW/disk.img"

# The tools with which a user would try it.
check_like 'F01 dd says why it cannot write' 'Read-only file system' \
    "$(dd if=/dev/zero of="$disk" bs=512 count=1 conv=notrunc 2>&1)"
check_like 'F01 rm says why it cannot remove' 'Read-only file system' "$(rm -f "$MNT/cache/a-disk" 2>&1)"
check_like 'F01 cp says why it cannot make' 'Read-only file system' "$(cp /etc/hostname "$MNT/" 2>&1)"
check 'F01 touch cannot make a file in any directory' \
    bash -c "for d in \$(find '$MNT' -type d); do touch \"\$d/new\" 2>/dev/null && exit 1; done; true"
check_is 'F01 the mount says that it is read-only, without set-uid programs and devices' 'nodev nosuid ro' \
    "$(findmnt -no OPTIONS "$MNT" | tr , '\n' | grep -xE 'ro|nosuid|nodev' | sort | paste -sd' ')"

# The kernel lets root take away its own refusal; then ours remains.
check 'the mount can be made writable by root' mount -i -o remount,rw "$MNT"
refused 'root who has made the mount writable' env
store_state >"$SITE/store.after"
check 'F01-F20 nor does that change the store' cmp "$SITE/store.before" "$SITE/store.after"
check 'F01-F20 or the bytes of the image' cmp "$disk" "$WWW/disk.img"

plan_done
