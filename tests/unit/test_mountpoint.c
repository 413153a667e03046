/*
 * test_mountpoint.c - what is mounted cannot always be read: then nothing has gone.  And nobody
 * else's mount is taken for ours, nor does who asks a mount that is silent hold anything.
 *
 * The list of mounts, unmounting and the mount that is asked are played by this file.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/log.h"
#include "core/process.h"
#include "fs/mountpoint.h"

/* Nothing of that number is mounted there. */
static struct mountpoint gone = { .path = (char[]){ "/proc/self/fd" }, .device = "0:0",
				 .abort = -1 };

static struct rlimit before;

static struct {
	char mounts[256];		/* empty: those of now */
	int n_unmounts;
	char unmounted[64];
	pid_t asking;			/* of a mount that is silent */
	int n_asked;			/* whether its daemon is dead */
} world;

FILE *
fopen(const char *path, const char *mode)
{
	int fd;

	(void)mode;
	if (world.mounts[0] != '\0')
		return fmemopen(world.mounts, strlen(world.mounts), "r");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? NULL : fdopen(fd, "r");
}

int
umount2(const char *path, int flags)
{
	(void)flags;
	world.n_unmounts++;
	snprintf(world.unmounted, sizeof(world.unmounted), "%s", path);
	return 0;
}

int
statfs(const char *path, struct statfs *out)
{
	(void)path;
	(void)out;
	alarm(20);			/* should nobody end it */
	for (;;)
		pause();
}

/* It has not ended, however long one would wait. */
bool
process_wait(pid_t pid, int ms, int *status)
{
	(void)ms;
	(void)status;
	world.asking = pid;
	return false;
}

static int
begin(void **state)
{
	struct rlimit none = { .rlim_cur = 0 };

	(void)state;
	log_open("test", false, LOG_LVL_ERROR);
	if (getrlimit(RLIMIT_NOFILE, &before) != 0)
		return -1;
	none.rlim_max = before.rlim_max;
	return setrlimit(RLIMIT_NOFILE, &none);
}

static int
end(void **state)
{
	(void)state;
	return setrlimit(RLIMIT_NOFILE, &before);
}

static void
what_is_mounted_is_read(void **state)
{
	struct err err = { 0 };

	(void)state;
	assert_false(mountpoint_is_mounted(&gone));
	assert_int_equal(mountpoint_unmount(&gone, &err), 0);
}

static void
nothing_has_gone(void **state)
{
	(void)state;
	assert_true(mountpoint_is_mounted(&gone));
}

static void
nothing_is_unmounted(void **state)
{
	struct err err = { 0 };

	(void)state;
	assert_int_equal(mountpoint_unmount(&gone, &err), -EMFILE);
	assert_string_not_equal(err.text, "");
	mountpoint_cut(&gone);		/* returns, and says so */
}

/* ---- whose mount it is ----------------------------------------------------------------------- */

static void
mounted(const char *device, const char *type)
{
	snprintf(world.mounts, sizeof(world.mounts), "36 35 %s / /tmp ro - %s source ro\n", device,
		 type);
}

static int
forget(void **state)
{
	(void)state;
	memset(&world, 0, sizeof(world));
	return 0;
}

static void
next_one_with_our_number(void **state)
{
	struct mountpoint ours = { .path = (char[]){ "/tmp" }, .device = "0:53", .abort = -1 };
	struct err err = { 0 };

	(void)state;
	mounted("0:53", "fuse.vmimagefs");
	assert_true(mountpoint_is_mounted(&ours));
	assert_int_equal(mountpoint_unmount(&ours, &err), 0);
	assert_int_equal(world.n_unmounts, 1);
	/* One of another daemon. */
	assert_false(mountpoint_is_mounted(&ours));
	assert_int_equal(mountpoint_unmount(&ours, &err), 0);
	mountpoint_cut(&ours);
	assert_int_equal(world.n_unmounts, 1);
}

static void
another_kind_with_our_number(void **state)
{
	struct mountpoint ours = { .path = (char[]){ "/tmp" }, .device = "0:53", .abort = -1 };
	struct err err = { 0 };

	(void)state;
	mounted("0:53", "tmpfs");
	assert_false(mountpoint_is_mounted(&ours));
	assert_int_equal(mountpoint_unmount(&ours, &err), 0);
	mountpoint_cut(&ours);
	assert_int_equal(world.n_unmounts, 0);
}

/* ---- one that has another path --------------------------------------------------------------- */

static void
set_out(struct mountpoint *m)
{
	*m = (struct mountpoint){ .path = strdup("/tmp/p/m"), .device = "0:53", .id = 36,
				  .read_ahead = -1, .abort = -1 };
	assert_non_null(m->path);
}

static void
moved_one_is_unmounted_where_it_is(void **state)
{
	struct err err = { 0 };
	struct mountpoint m;

	(void)state;
	set_out(&m);
	snprintf(world.mounts, sizeof(world.mounts),
		 "36 35 0:53 / /tmp/q/m ro - fuse.vmimagefs source ro\n"
		 "40 35 0:60 / /tmp/p/m rw - tmpfs none rw\n");
	assert_true(mountpoint_is_mounted(&m));
	assert_int_equal(world.n_unmounts, 0);
	assert_int_equal(mountpoint_unmount(&m, &err), 0);
	assert_int_equal(world.n_unmounts, 1);
	assert_string_equal(world.unmounted, "/tmp/q/m");
	assert_string_equal(m.path, "/tmp/q/m");	/* the next one, too */
	assert_false(mountpoint_is_mounted(&m));
	mountpoint_release(&m);
}

static void
what_lies_over_it_stays(void **state)
{
	struct err err = { 0 };
	struct mountpoint m;

	(void)state;
	set_out(&m);
	snprintf(world.mounts, sizeof(world.mounts),
		 "36 35 0:53 / /tmp/q/m ro - fuse.vmimagefs source ro\n"
		 "40 36 0:60 / /tmp/q/m rw - tmpfs none rw\n");
	assert_true(mountpoint_is_mounted(&m));
	mountpoint_cut(&m);
	assert_int_equal(mountpoint_unmount(&m, &err), -EBUSY);
	assert_non_null(strstr(err.text, "umount /tmp/q/m"));
	assert_int_equal(world.n_unmounts, 0);
	mountpoint_release(&m);
}

static void
copy_is_not_ours(void **state)
{
	struct err err = { 0 };
	struct mountpoint m;

	(void)state;
	set_out(&m);
	snprintf(world.mounts, sizeof(world.mounts),
		 "41 35 0:53 /by-sha512 /srv ro - fuse.vmimagefs source ro\n"
		 "36 35 0:60 / /tmp/other ro - fuse.vmimagefs source ro\n");
	assert_false(mountpoint_is_mounted(&m));
	assert_int_equal(mountpoint_unmount(&m, &err), 0);
	assert_int_equal(world.n_unmounts, 0);
	mountpoint_release(&m);
}

/* ---- one that is silent ---------------------------------------------------------------------- */

static void
end_asking(void)
{
	assert_true(world.asking > 0);
	kill(world.asking, SIGKILL);
	assert_int_equal(waitpid(world.asking, NULL, 0), world.asking);
}

static void
who_asks_holds_nothing(void **state)
{
	struct err err = { 0 };
	struct pollfd reader;
	int ends[2], output;

	(void)state;
	mounted("0:53", "fuse.vmimagefs");
	assert_int_equal(pipe(ends), 0);
	output = dup(STDIN_FILENO);	/* as if the log went there */
	assert_int_equal(dup2(ends[1], STDIN_FILENO), STDIN_FILENO);
	assert_int_equal(mountpoint_refuse_living("/tmp", &err), -EBUSY);
	assert_int_equal(dup2(output, STDIN_FILENO), STDIN_FILENO);
	close(ends[1]);
	close(output);
	reader = (struct pollfd){ .fd = ends[0], .events = POLLIN };
	assert_int_equal(poll(&reader, 1, 5000), 1);
	assert_true((reader.revents & POLLHUP) != 0);
	assert_int_equal(waitpid(world.asking, NULL, WNOHANG), 0);	/* and is still there */
	close(ends[0]);
	end_asking();
}

/* At first it is; arg: for how often it is asked. */
static bool
is_dead(const void *arg)
{
	return ++world.n_asked <= *(const int *)arg;
}

static void
dead_one_is_cut(void **state)
{
	const int always = 9;

	(void)state;
	mounted("0:53", "fuse.vmimagefs");
	mountpoint_cut_dead("/tmp", is_dead, &always);
	assert_int_equal(world.n_unmounts, 1);
	/* That one, and not whatever is mounted there next. */
	assert_int_equal(strncmp(world.unmounted, "/proc/self/fd/", 14), 0);
	end_asking();
}

static void
one_that_begins_is_not(void **state)
{
	const int once = 1;

	(void)state;
	mounted("0:53", "fuse.vmimagefs");
	mountpoint_cut_dead("/tmp", is_dead, &once);
	assert_int_equal(world.n_unmounts, 0);
	end_asking();
}

/* While it is asked another file system is mounted over it. */
static bool
is_covered_now(const void *arg)
{
	(void)arg;
	snprintf(world.mounts, sizeof(world.mounts), "%s",
		 "36 35 0:53 / /tmp ro - fuse.vmimagefs source ro\n40 36 0:60 / /tmp rw - tmpfs"
		 " none rw\n");
	return true;
}

static void
what_lies_over_it_is_not(void **state)
{
	(void)state;
	mounted("0:53", "fuse.vmimagefs");
	mountpoint_cut_dead("/tmp", is_covered_now, NULL);
	assert_int_equal(world.n_unmounts, 0);
	end_asking();
}

static void
one_that_lives_is_not_asked(void **state)
{
	const int never = 0;

	(void)state;
	mounted("0:53", "fuse.vmimagefs");
	mountpoint_cut_dead("/tmp", is_dead, &never);
	assert_int_equal(world.n_unmounts, 0);
	assert_int_equal(world.asking, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		{ "what is not mounted has gone", what_is_mounted_is_read, NULL, NULL, NULL },
		{ "a mount is not taken for gone because no file can be opened", nothing_has_gone,
		  begin, end, NULL },
		{ "nothing is unmounted then, and that is said", nothing_is_unmounted, begin, end,
		  NULL },
		{ "what was unmounted is not unmounted again, whoever has its number",
		  next_one_with_our_number, forget, NULL, NULL },
		{ "a mount of another kind is not ours, whatever its number",
		  another_kind_with_our_number, forget, NULL, NULL },
		{ "P10 a mount that has another path by now is unmounted there",
		  moved_one_is_unmounted_where_it_is, forget, NULL, NULL },
		{ "P10 not what lies over it there", what_lies_over_it_stays, forget, NULL, NULL },
		{ "P10 a copy of it, or another one with its number, is not ours", copy_is_not_ours,
		  forget, NULL, NULL },
		{ "P10 who asks a mount that is silent holds nothing meanwhile",
		  who_asks_holds_nothing, forget, NULL, NULL },
		{ "P10 a mount that is silent and whose daemon is dead is cut", dead_one_is_cut,
		  forget, NULL, NULL },
		{ "P10 not one whose daemon began while it was asked", one_that_begins_is_not,
		  forget, NULL, NULL },
		{ "P10 nor what was mounted over it meanwhile", what_lies_over_it_is_not, forget,
		  NULL, NULL },
		{ "P10 one whose daemon lives is not asked", one_that_lives_is_not_asked, forget,
		  NULL, NULL },
	};

	return cmocka_run_group_tests_name("mountpoint", tests, NULL, NULL);
}
