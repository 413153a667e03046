/*
 * The store on real files: marker, lock, and objects that somebody changed.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <sys/sysmacros.h>

#include "tests/lib/storebed.h"

/* ---- marker and lock --------------------------------------------------------------------- */

static void
missing_marker(void **state)
{
	struct bed *b = *state;

	assert_int_equal(store_open(&b->conf, BED_ID, &b->store, &b->err), -EIO);
	assert_int_equal(b->err.code, CODE_CORRUPT);
	assert_non_null(strstr(b->err.text, "cache marker missing"));
	assert_null(b->store);
	/* Nothing was made in what may be a mount point. */
	assert_int_equal(bed_count(b, "."), 0);
}

static void
other_marker(void **state)
{
	struct bed *b = *state;
	const char *other = "11111111-2222-3333-4444-555555555555";

	assert_int_equal(store_init(&b->conf, other, false, &b->err), 0);
	assert_int_equal(store_open(&b->conf, BED_ID, &b->store, &b->err), -EIO);
	assert_non_null(strstr(b->err.text, other));
	assert_int_equal(store_init(&b->conf, BED_ID, false, &b->err), -EEXIST);
	assert_int_equal(store_open(&b->conf, other, &b->store, &b->err), 0);
}

static void
forced_marker(void **state)
{
	struct bed *b = *state;
	struct store *second = NULL;

	bed_open(b);
	assert_int_equal(store_init(&b->conf, "another", true, &b->err), -EBUSY);
	assert_int_equal(b->err.code, CODE_BUSY);
	store_close(b->store);
	b->store = NULL;
	assert_int_equal(store_init(&b->conf, "another", true, &b->err), 0);
	assert_int_equal(store_open(&b->conf, "another", &second, &b->err), 0);
	store_close(second);
}

static void
init_again(void **state)
{
	struct bed *b = *state;
	struct digest d;
	int64_t blocks;

	bed_add_object(b, BED_TEXT, &d);
	assert_int_equal(store_init(&b->conf, BED_ID, false, &b->err), 0);
	assert_true(store_object_stat(b->store, &d, BED_TEXT_LEN, &blocks));
	assert_int_equal(store_object_look(b->store, &d, BED_TEXT_LEN), 1);
}

static void
one_owner(void **state)
{
	struct bed *b = *state;
	struct store *second;

	assert_int_equal(store_open(&b->conf, BED_ID, &second, &b->err), 0);
	assert_int_equal(store_lock(second, &b->err), -EBUSY);
	assert_int_equal(b->err.code, CODE_BUSY);
	store_close(b->store);
	b->store = NULL;
	assert_int_equal(store_lock(second, &b->err), 0);
	store_close(second);
}

static int
give_away(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return lchown(path, 65534, 65534);
}

/* As `user`: root may write to anything. */
static int
open_for_healing(struct bed *b, const struct digest *d)
{
	struct stat st;
	int fd;

	if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0)
		return 1;
	fd = store_object_open_rw(b->store, d, BED_TEXT_LEN, NULL);
	if (fd < 0 || fstat(fd, &st) != 0 || (st.st_mode & 07777) != 0444)
		return 2;
	return pwrite(fd, BED_TEXT, 1, 0) == 1 ? 0 : 3;
}

static void
heal_without_write_bit(void **state)
{
	struct bed *b = *state;
	struct digest d;
	char path[512];
	int status;
	pid_t pid;

	if (geteuid() != 0)
		skip();
	bed_add_object(b, BED_TEXT, &d);
	bed_object_path(b, path, &d);
	assert_int_equal(chmod(path, 0444), 0);
	assert_int_equal(nftw(b->dir, give_away, 16, FTW_PHYS), 0);
	pid = fork();
	if (pid == 0)
		_exit(open_for_healing(b, &d));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void
owner_over_fork(void **state)
{
	struct bed *b = *state;
	struct store *second;
	int hold[2], status;
	char c;
	pid_t pid;

	assert_int_equal(pipe2(hold, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(hold[1]);
		_exit(read(hold[0], &c, 1) == 0 ? 0 : 1);
	}
	store_close(b->store);
	b->store = NULL;
	assert_int_equal(store_open(&b->conf, BED_ID, &second, &b->err), 0);
	assert_int_equal(store_lock(second, &b->err), -EBUSY);
	close(hold[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(store_lock(second, &b->err), 0);
	store_close(second);
	close(hold[0]);
}

static void
replaced_marker(void **state)
{
	struct bed *b = *state;
	struct store *second;

	assert_int_equal(store_open(&b->conf, BED_ID, &second, &b->err), 0);
	store_close(b->store);
	b->store = NULL;
	assert_int_equal(store_init(&b->conf, "another", true, &b->err), 0);
	assert_int_equal(store_lock(second, &b->err), -EBUSY);
	assert_non_null(strstr(b->err.text, "start again"));
	store_close(second);
}

static void
foreign_lost_found(void **state)
{
	struct bed *b = *state;
	char path[512];

	if (geteuid() != 0)
		skip();
	bed_path(b, path, "lost+found");
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(chown(b->cache, 12345, 12345), 0);
	assert_int_equal(chmod(b->dir, 0755), 0);
	assert_int_equal(seteuid(12345), 0);
	bed_open(b);
	bed_path(b, path, "lost+found.vmimagefs");
	assert_true(bed_exists(path));
	assert_int_equal(seteuid(0), 0);
}

/* ---- objects ----------------------------------------------------------------------------- */

static void
object_comes_back(void **state)
{
	struct bed *b = *state;
	char path[512], got[BED_TEXT_LEN + 1];
	struct digest d;
	struct stat st;
	int64_t blocks;
	int fd;

	bed_add_object(b, BED_TEXT, &d);
	fd = store_object_open(b->store, &d, BED_TEXT_LEN, &b->err);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, got, sizeof(got), 0), BED_TEXT_LEN);
	assert_memory_equal(got, BED_TEXT, BED_TEXT_LEN);
	assert_int_equal(write(fd, "x", 1), -1);
	close(fd);
	assert_true(store_object_stat(b->store, &d, BED_TEXT_LEN, &blocks));
	assert_true(blocks > 0);
	bed_object_path(b, path, &d);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(bed_count(b, "partial"), 0);
}

static void
expect_corrupt(struct bed *b, const struct digest *d)
{
	int64_t blocks;

	assert_int_equal(store_object_open(b->store, d, BED_TEXT_LEN, &b->err), -EBADMSG);
	assert_int_equal(b->err.code, CODE_CORRUPT);
	assert_false(store_object_stat(b->store, d, BED_TEXT_LEN, &blocks));
	assert_int_equal(store_object_look(b->store, d, BED_TEXT_LEN), 0);
}

static void
object_truncated(void **state)
{
	struct bed *b = *state;
	char path[512];
	struct digest d;

	bed_add_object(b, BED_TEXT, &d);
	bed_object_path(b, path, &d);
	assert_int_equal(truncate(path, BED_TEXT_LEN - 1), 0);
	expect_corrupt(b, &d);
}

static void
object_extended(void **state)
{
	struct bed *b = *state;
	char path[512];
	struct digest d;

	bed_add_object(b, BED_TEXT, &d);
	bed_object_path(b, path, &d);
	assert_int_equal(truncate(path, BED_TEXT_LEN + 1), 0);
	expect_corrupt(b, &d);
	assert_int_equal(store_quarantine_object(b->store, &d, &b->err), 0);
	assert_int_equal(bed_count(b, "quarantine"), 1);
}

static void
object_deleted(void **state)
{
	struct bed *b = *state;
	char path[512];
	struct digest d;
	int64_t blocks;

	bed_add_object(b, BED_TEXT, &d);
	bed_object_path(b, path, &d);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(store_object_open(b->store, &d, BED_TEXT_LEN, &b->err), -ENOENT);
	assert_false(store_object_stat(b->store, &d, BED_TEXT_LEN, &blocks));
	assert_int_equal(store_object_remove(b->store, &d, &b->err), 0);
	assert_int_equal(store_quarantine_object(b->store, &d, &b->err), 0);
}

/* An object gives way to something else; it is seen, moved aside whole, and can be had again. */
static void
expect_replaceable(struct bed *b, int (*make)(const char *path))
{
	char path[512];
	struct digest d;
	int64_t blocks;

	bed_add_object(b, BED_TEXT, &d);
	bed_object_path(b, path, &d);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(make(path), 0);
	expect_corrupt(b, &d);
	assert_int_equal(store_quarantine_object(b->store, &d, &b->err), 0);
	assert_false(bed_exists(path));
	assert_int_equal(bed_count(b, "lost+found"), 1);
	bed_add_object(b, BED_TEXT, &d);
	assert_true(store_object_stat(b->store, &d, BED_TEXT_LEN, &blocks));
}

static int
make_directory(const char *path)
{
	char inner[600];

	if (mkdir(path, 0750) != 0)
		return -1;
	snprintf(inner, sizeof(inner), "%s/kept", path);
	bed_write(inner, "x", 1);
	return 0;
}

static int
make_fifo(const char *path)
{
	return mkfifo(path, 0640);
}

static int
make_device(const char *path)
{
	return mknod(path, S_IFCHR | 0640, makedev(1, 5));	/* /dev/zero */
}

static int
make_link(const char *path)
{
	return symlink("/etc/passwd", path);
}

static void
object_is_directory(void **state)
{
	expect_replaceable(*state, make_directory);
}

static void
object_is_fifo(void **state)
{
	expect_replaceable(*state, make_fifo);
}

static void
object_is_device(void **state)
{
	if (geteuid() != 0)
		skip();
	expect_replaceable(*state, make_device);
}

static void
object_is_link(void **state)
{
	expect_replaceable(*state, make_link);
}

static void
shard_is_link(void **state)
{
	struct bed *b = *state;
	char path[512], away[512];
	struct digest d;
	int64_t blocks;

	bed_add_object(b, BED_TEXT, &d);
	bed_object_path(b, path, &d);
	strrchr(path, '/')[0] = '\0';
	snprintf(away, sizeof(away), "%s/away", b->dir);
	assert_int_equal(rename(path, away), 0);
	assert_int_equal(symlink(away, path), 0);
	expect_corrupt(b, &d);
	bed_add_object(b, BED_TEXT, &d);
	assert_true(store_object_stat(b->store, &d, BED_TEXT_LEN, &blocks));
	assert_int_equal(bed_count(b, "lost+found"), 1);
}

static void
object_of_another_user(void **state)
{
	struct bed *b = *state;
	char path[512];
	struct digest d;

	if (geteuid() != 0)
		skip();
	bed_add_object(b, BED_TEXT, &d);
	bed_object_path(b, path, &d);
	assert_int_equal(chown(path, 12345, 12345), 0);
	assert_int_equal(store_object_open(b->store, &d, BED_TEXT_LEN, &b->err), -EACCES);
	assert_non_null(strstr(b->err.text, "12345"));
}

static void
object_of_root_alone(void **state)
{
	struct bed *b = *state;
	char path[512];
	struct digest d;
	int rc;

	if (geteuid() != 0)
		skip();
	bed_add_object(b, BED_TEXT, &d);
	bed_object_path(b, path, &d);
	assert_int_equal(chmod(path, 0600), 0);
	bed_path(b, path, "objects");
	assert_int_equal(chmod(b->dir, 0755) | chmod(b->cache, 0755) | chmod(path, 0755), 0);
	bed_object_path(b, path, &d);
	strrchr(path, '/')[0] = '\0';
	assert_int_equal(chmod(path, 0755), 0);
	assert_int_equal(seteuid(12345), 0);
	rc = store_object_open(b->store, &d, BED_TEXT_LEN, &b->err);
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(rc, -EACCES);
	assert_non_null(strstr(b->err.text, "owner 0, mode 0600"));
}

static void
object_removed(void **state)
{
	struct bed *b = *state;
	struct digest d;
	int fd;

	bed_add_object(b, BED_TEXT, &d);
	fd = store_object_open(b->store, &d, BED_TEXT_LEN, &b->err);
	assert_int_equal(store_object_remove(b->store, &d, &b->err), 0);
	assert_int_equal(store_object_open(b->store, &d, BED_TEXT_LEN, &b->err), -ENOENT);
	assert_int_equal(lseek(fd, 0, SEEK_END), BED_TEXT_LEN);
	close(fd);
}

static void
tree_goes_with_object(void **state)
{
	struct bed *b = *state;
	char path[512], shard[16];
	struct digest d;

	bed_add_object(b, BED_TEXT, &d);
	bed_side_path(b, path, &d, false, ".fsv");
	assert_true(bed_exists(path));
	snprintf(shard, sizeof(shard), "objects/%02x", d.bytes[0]);
	assert_int_equal(store_object_remove(b->store, &d, &b->err), 0);
	assert_int_equal(bed_count(b, shard), 0);
	bed_add_object(b, BED_TEXT, &d);
	assert_int_equal(store_quarantine_object(b->store, &d, &b->err), 0);
	assert_int_equal(bed_count(b, shard), 0);
	/* Also one whose object is gone already. */
	bed_write(path, "x", 1);
	assert_int_equal(store_object_remove(b->store, &d, &b->err), 0);
	assert_int_equal(bed_count(b, shard), 0);
}

static void
object_for_healing(void **state)
{
	struct bed *b = *state;
	char path[512], got[BED_TEXT_LEN];
	struct digest d;
	int fd;

	bed_add_object(b, BED_TEXT, &d);
	bed_object_path(b, path, &d);
	bed_flip(path, 3, 1);
	fd = store_object_open_rw(b->store, &d, BED_TEXT_LEN, &b->err);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, BED_TEXT, BED_TEXT_LEN, 0), BED_TEXT_LEN);
	assert_int_equal(pread(fd, got, BED_TEXT_LEN, 0), BED_TEXT_LEN);
	assert_memory_equal(got, BED_TEXT, BED_TEXT_LEN);
	close(fd);
	assert_int_equal(truncate(path, 2), 0);
	assert_int_equal(store_object_open_rw(b->store, &d, BED_TEXT_LEN, &b->err), -EBADMSG);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST("B26 a cache directory without its marker is refused and left alone",
			 missing_marker, bed_setup_bare),
		BED_TEST("the cache of another catalogue is refused",
			 other_marker, bed_setup_bare),
		BED_TEST("force takes a cache over, but never one that is in use",
			 forced_marker, bed_setup_bare),
		BED_TEST("making a store that is there already changes nothing",
			 init_again, bed_setup),
		BED_TEST("one process owns a store", one_owner, bed_setup),
		BED_TEST("the lock survives in a forked child", owner_over_fork, bed_setup),
		BED_TEST("an object that handlers see by a hard link can be healed all the same",
			 heal_without_write_bit, bed_setup),
		BED_TEST("the lock of a replaced marker is worth nothing",
			 replaced_marker, bed_setup),
		BED_TEST("a file system's own lost+found is left to it",
			 foreign_lost_found, bed_setup_bare),
		BED_TEST("an object comes back as it was stored, read-only",
			 object_comes_back, bed_setup),
		BED_TEST("B10 a truncated object is corrupt", object_truncated, bed_setup),
		BED_TEST("B11 an extended object is corrupt", object_extended, bed_setup),
		BED_TEST("B12 a deleted object is absent", object_deleted, bed_setup),
		BED_TEST("B13 a directory in place of an object is moved aside whole",
			 object_is_directory, bed_setup),
		BED_TEST("B13 a FIFO in place of an object does not block",
			 object_is_fifo, bed_setup),
		BED_TEST("B13 a device in place of an object is not opened",
			 object_is_device, bed_setup),
		BED_TEST("B13 a link in place of an object is not followed",
			 object_is_link, bed_setup),
		BED_TEST("B13 a link in place of a directory of objects is not followed",
			 shard_is_link, bed_setup),
		BED_TEST("B31 an object that another user owns is refused with its owner",
			 object_of_another_user, bed_setup),
		BED_TEST("B31 an object that only root may read is refused with what to do",
			 object_of_root_alone, bed_setup),
		BED_TEST("a removed object stays readable where it is open",
			 object_removed, bed_setup),
		BED_TEST("a tree goes with its object", tree_goes_with_object, bed_setup),
		BED_TEST("an object can be opened for healing, under the same conditions",
			 object_for_healing, bed_setup),
	};

	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
