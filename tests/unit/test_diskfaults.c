/*
 * A disk that fails under a transfer.
 *
 * Each test runs one transfer in a child process with the shim (tests/lib/shim.c) in front of the
 * C library, and looks at what is in the store afterwards; a second transfer, without faults,
 * shows that nothing has to be repaired by hand.  SHIM_SO names the shim; without it all is
 * skipped.
 *
 * The child is this program again: test_diskfaults receive DIR.  It exits with 0 when the image
 * was stored, else with the refusal code, or 1 if there is none.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <sys/eventfd.h>

#include "core/audit.h"
#include "core/intake.h"
#include "core/io.h"
#include "core/stored.h"
#include "tests/lib/storebed.h"

enum {
	IMAGE_LEN = 2 * 1024 * 1024 + 5,
	STORED = 0,
	FAILED = 1,
};

static unsigned char image[IMAGE_LEN];
static const char *program;

static void
make_image(struct digest *d)
{
	for (size_t i = 0; i < IMAGE_LEN; i++)
		image[i] = (unsigned char)((i * 2654435761u) >> 11);
	digest_of(image, IMAGE_LEN, d);
}

/* ---- the child --------------------------------------------------------------------------- */

static void *
send_main(void *arg)
{
	int fd = *(int *)arg;

	io_write_all(fd, image, IMAGE_LEN);
	close(fd);
	return NULL;
}

static int
run_intake(struct store *store, const struct digest *d, struct err *err)
{
	int notify = eventfd(0, EFD_CLOEXEC), fds[2], rc;
	struct intake *in;
	pthread_t sender;
	uint64_t n;

	rc = intake_new(&in, store, d, IMAGE_LEN, NULL, notify, err);
	if (rc != 0)
		return rc;
	if (pipe(fds) != 0 || pthread_create(&sender, NULL, send_main, &fds[1]) != 0)
		_exit(98);
	intake_feed(in, fds[0]);
	while (intake_state(in) == INTAKE_RUNNING || intake_state(in) == INTAKE_VERIFIED) {
		if (io_read_full(notify, &n, sizeof(n)) < 0)
			break;
	}
	rc = intake_state(in) == INTAKE_STORED ? 0 : intake_result(in, err);
	intake_free(in);
	pthread_join(sender, NULL);
	close(notify);
	return rc;
}

static int
receive_main(const char *dir)
{
	struct conf conf = { .cache_min_free_percent = -1 };
	struct err err = { 0 };
	struct store *store;
	struct digest d;
	int rc;

	signal(SIGPIPE, SIG_IGN);
	make_image(&d);
	conf.cache_dir = strdup(dir);
	rc = store_open(&conf, BED_ID, &store, &err);
	if (rc == 0) {
		rc = run_intake(store, &d, &err);
		store_close(store);
	}
	free(conf.cache_dir);
	if (rc == 0)
		return STORED;
	fprintf(stderr, "%s\n", err.text);
	return err.code != CODE_NONE ? (int)err.code : FAILED;
}

/* ---- the parent -------------------------------------------------------------------------- */

static int
setup(void **state)
{
	if (getenv("SHIM_SO") == NULL) {
		*state = NULL;
		return 0;
	}
	*state = bed_new();
	return 0;
}

static int
teardown(void **state)
{
	if (*state != NULL)
		bed_free(*state);
	return 0;
}

static void
need_shim(void **state)
{
	if (*state == NULL)
		skip();
}

/* Runs a transfer with up to three settings for the shim, all of them about the cache directory. */
static int
receive(struct bed *b, const char *one, const char *two, const char *three)
{
	char preload[600], path[128], log[128], options[256];
	const char *argv[] = { program, "receive", b->cache, NULL };
	const char *env[9] = { preload, path, log, options };
	int status = -1, n = 4;
	posix_spawn_file_actions_t quiet;
	pid_t pid;

	snprintf(preload, sizeof(preload), "LD_PRELOAD=%s", getenv("SHIM_SO"));
	snprintf(path, sizeof(path), "SHIM_PATH=%s", b->cache);
	snprintf(log, sizeof(log), "SHIM_LOG=%s/log", b->dir);
	snprintf(options, sizeof(options), "ASAN_OPTIONS=verify_asan_link_order=0");
	env[n++] = one;
	if (one != NULL)
		env[n++] = two;
	if (one != NULL && two != NULL)
		env[n++] = three;
	posix_spawn_file_actions_init(&quiet);
	posix_spawn_file_actions_addopen(&quiet, 2, "/dev/null", O_WRONLY, 0);
	assert_int_equal(posix_spawn(&pid, program, &quiet, NULL, (char *const *)(uintptr_t)argv,
				     (char *const *)(uintptr_t)env), 0);
	posix_spawn_file_actions_destroy(&quiet);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* Did the shim do anything since the last time? */
static bool
struck(struct bed *b)
{
	char log[128];
	struct stat st;
	bool any;

	snprintf(log, sizeof(log), "%s/log", b->dir);
	any = stat(log, &st) == 0 && st.st_size > 0;
	unlink(log);
	return any;
}

/* The tree that belongs to the image. */
static void
expect_tree(struct bed *b, const struct digest *d, int object)
{
	struct audit audit = { .fd = object, .size = IMAGE_LEN };
	struct blockfile *f = NULL;

	assert_int_equal(audit_run(&audit, &b->err), 0);
	verity_builder_free(audit.builder);
	assert_int_equal(stored_open(b->store, d, IMAGE_LEN, &audit.verity, &f, &b->err), 0);
	blockfile_unref(f);
}

/* An object is whole, with its tree, or absent. */
static bool
has_object(struct bed *b)
{
	static unsigned char got[IMAGE_LEN];
	struct digest d;
	int fd;

	make_image(&d);
	fd = store_object_open(b->store, &d, IMAGE_LEN, &b->err);
	if (fd == -ENOENT)
		return false;
	assert_true(fd >= 0);
	assert_int_equal(io_pread_full(fd, got, IMAGE_LEN, 0), IMAGE_LEN);
	assert_memory_equal(got, image, IMAGE_LEN);
	expect_tree(b, &d, fd);
	close(fd);
	return true;
}

static void
expect_clean_failure(struct bed *b, int got, int wanted)
{
	assert_int_equal(got, wanted);
	assert_true(struck(b));
	assert_false(has_object(b));
	assert_int_equal(bed_count(b, "partial"), 0);
	assert_int_equal(receive(b, NULL, NULL, NULL), STORED);
	assert_true(has_object(b));
}

static void
quota_at_once(void **state)
{
	need_shim(state);
	expect_clean_failure(*state, receive(*state, "SHIM_FAIL=fallocate:1:EDQUOT", NULL, NULL),
			     CODE_FULL);
}

static void
quota_later(void **state)
{
	need_shim(state);
	expect_clean_failure(*state,
		receive(*state, "SHIM_FAIL=fallocate:*:EOPNOTSUPP,pwrite:3:EDQUOT", NULL, NULL),
		CODE_FULL);
}

static void
write_error(void **state)
{
	need_shim(state);
	expect_clean_failure(*state, receive(*state, "SHIM_FAIL=pwrite:4:EIO", NULL, NULL), FAILED);
}

static void
data_sync_error(void **state)
{
	need_shim(state);
	expect_clean_failure(*state, receive(*state, "SHIM_FAIL=fdatasync:1:EIO", NULL, NULL),
			     FAILED);
}

static void
directory_sync_error(void **state)
{
	char rule[64];
	int n;

	need_shim(state);
	for (n = 1; n < 10; n++) {
		snprintf(rule, sizeof(rule), "SHIM_FAIL=fsync:%d:EIO", n);
		if (receive(*state, rule, NULL, NULL) == STORED)
			break;
		assert_true(struck(*state));
		assert_false(has_object(*state));
	}
	assert_true(n >= 3 && n < 10);		/* objects/ab and partial/ at least */
	assert_true(has_object(*state));
}

static void
short_and_interrupted(void **state)
{
	need_shim(state);
	assert_int_equal(receive(*state, "SHIM_SHORT=read,write,pread,pwrite",
				 "SHIM_EINTR=open,read,write,pread,pwrite,fsync,"
				 "fdatasync,fallocate",
				 NULL), STORED);
	assert_true(struck(*state));
	assert_true(has_object(*state));
}

static void
short_pipe(void **state)
{
	need_shim(state);
	assert_int_equal(receive(*state, "SHIM_SHORT=read", "SHIM_EINTR=read", "SHIM_PATH=pipe:"),
			 STORED);
	assert_true(has_object(*state));
}

static void
no_rename_flags(void **state)
{
	need_shim(state);
	assert_int_equal(receive(*state, "SHIM_FAIL=rename2:*:EINVAL", NULL, NULL), STORED);
	assert_true(struck(*state));
	assert_true(has_object(*state));
	assert_int_equal(bed_count(*state, "partial"), 0);
}

static void
no_openat2(void **state)
{
	need_shim(state);
	assert_int_equal(receive(*state, "SHIM_FAIL=open:3:ENOSYS", NULL, NULL), STORED);
	assert_true(has_object(*state));
}

static void
every_call(void **state)
{
	static const char *const calls[] = {
		"open", "read", "pwrite", "fsync", "fdatasync", "rename", "fallocate",
	};
	struct bed *b = *state;
	char rule[64];

	need_shim(state);
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		struct digest d;
		bool any = true;

		for (int n = 1; any; n++) {
			int rc;

			snprintf(rule, sizeof(rule), "SHIM_FAIL=%s:%d:EIO", calls[i], n);
			rc = receive(*state, rule, NULL, NULL);
			any = struck(*state);
			if (rc == STORED)
				assert_true(has_object(*state));
			else
				assert_true(any && !has_object(*state));
			make_image(&d);
			assert_int_equal(store_object_remove(b->store, &d, NULL), 0);
		}
		assert_int_equal(receive(*state, NULL, NULL, NULL), STORED);
		assert_int_equal(store_object_remove(b->store, &d, NULL), 0);
	}
}

#define FAULT_TEST(title, fn) \
	{ .name = title, .test_func = fn, .setup_func = setup, .teardown_func = teardown }

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		FAULT_TEST("B04 a quota that is used up is a full disk, seen before the first byte",
			    quota_at_once),
		FAULT_TEST("B04 a quota that runs out in the middle is a full disk",
			    quota_later),
		FAULT_TEST("B05 after a write error nothing of the transfer is used again",
			    write_error),
		FAULT_TEST("B06 after a failed fdatasync there is neither object nor partial file",
			    data_sync_error),
		FAULT_TEST("B06 after a failed fsync of a directory there is no object",
			    directory_sync_error),
		FAULT_TEST("B08 short counts and interruptions change nothing",
			    short_and_interrupted),
		FAULT_TEST("B08 short reads from the pipe change nothing", short_pipe),
		FAULT_TEST("B27 a file system without RENAME_NOREPLACE will do",
			    no_rename_flags),
		FAULT_TEST("a kernel without openat2 will do", no_openat2),
		FAULT_TEST("an error at any call leaves a whole object or none", every_call),
	};

	if (argc == 3 && strcmp(argv[1], "receive") == 0)
		return receive_main(argv[2]);
	program = "/proc/self/exe";
	return cmocka_run_group_tests_name("disk faults", tests, NULL, NULL);
}
