/*
 * Disks as they could be after a power cut.
 *
 * Of the writes before the cut those before the last flush are on the disk, and any of the others
 * may be, whole or in part: a prefix of them, or any choice of their pieces of 4 KiB.  Every prefix
 * is tried, then random choices until the time is over.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/powercut.h"
#include "tests/lib/powerlog.h"

enum { SHOWN = 20, NO_LOOP = 77, GO_ON_EVERY = 4 };

static struct {
	struct powerlog log;
	size_t begin;			/* where MARK_BEGIN is */
	const char *dir;
	long n_cuts, violated[N_FACTS];
	size_t cut;			/* the one being looked at */
	const char *how;
} replay;

static const char *const fact_names[N_FACTS] = {
	"mount", "bytes", "kept", "tree", "lost", "goes-on",
};

void
powercut_violated(enum fact fact, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (replay.violated[fact]++ < SHOWN)
		printf("# %s: after %zu of %zu, %s: %s\n", fact_names[fact], replay.cut,
		       replay.log.n, replay.how, text);
}

static void __attribute__((noreturn))
die(const char *what)
{
	perror(what);
	exit(1);
}

/* ---- the log --------------------------------------------------------------------------------- */

static void
find_begin(void)
{
	for (size_t i = 0; i < replay.log.n; i++) {
		const struct power_record *head = &replay.log.entries[i].head;

		if (head->kind == POWER_MARK && head->off == MARK_BEGIN)
			replay.begin = i + 1;
	}
}

static unsigned int
marks_before(size_t cut)
{
	unsigned int marks = 0;

	for (size_t i = 0; i < cut; i++) {
		if (replay.log.entries[i].head.kind == POWER_MARK)
			marks |= 1u << replay.log.entries[i].head.off;
	}
	return marks;
}

/* ---- a disk ---------------------------------------------------------------------------------- */

/*
 * A loop device on fd, by a node of our own: /dev need not have one for each.  -1: there is
 * none.
 */
static int
attach(int fd, char path[512])
{
	struct loop_config config = { .fd = (uint32_t)fd };
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), loop = -1;

	config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
	for (int i = 0; control >= 0 && loop < 0 && i < 50; i++) {
		int number = ioctl(control, LOOP_CTL_GET_FREE);

		if (number < 0)
			break;
		snprintf(path, 512, "%s/loop", replay.dir);
		unlink(path);
		if (mknod(path, S_IFBLK | 0600, makedev(LOOP_MAJOR, (unsigned int)number)) != 0)
			break;
		loop = open(path, O_RDWR | O_CLOEXEC);
		if (loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &config) != 0) {
			close(loop);
			loop = -1;
			if (errno != EBUSY)
				break;
		}
	}
	if (control >= 0)
		close(control);
	return loop;
}

static int
write_disk(void)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/cut.img", replay.dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || pwrite(fd, replay.log.disk, replay.log.size, 0) != (ssize_t)replay.log.size)
		die(path);
	return fd;
}

static void
look_at_disk(size_t cut)
{
	char device[512], point[512], cache[520];
	int image = write_disk(), loop = attach(image, device);

	if (loop < 0) {
		perror("loop device");
		exit(NO_LOOP);
	}
	snprintf(point, sizeof(point), "%s/mnt", replay.dir);
	snprintf(cache, sizeof(cache), "%s/cache", point);
	if (mount(device, point, "ext4", MS_NOATIME, "errors=remount-ro") != 0) {
		powercut_violated(FACT_MOUNT, "%s", strerrordesc_np(errno));
	} else {
		powercut_check(cache, marks_before(cut), replay.n_cuts % GO_ON_EVERY == 0);
		if (umount(point) != 0)
			die("umount");
	}
	close(loop);
	close(image);
}

static void
try_cut(size_t cut, unsigned int one_in)
{
	char how[40];

	if (one_in == 0)
		snprintf(how, sizeof(how), "all of it");
	else
		snprintf(how, sizeof(how), "without one piece in %u", one_in);
	replay.cut = cut;
	replay.how = how;
	powerlog_make(&replay.log, cut, one_in);
	look_at_disk(cut);
	replay.n_cuts++;
}

/* ---- cuts ------------------------------------------------------------------------------------ */

static long long
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (long long)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void
try_cuts(long seconds)
{
	static const unsigned int one_in[] = { 2, 10, 1, 3 };
	const long long end = now_ms() + seconds * 1000LL;

	for (size_t cut = replay.begin; cut <= replay.log.n; cut++)
		try_cut(cut, 0);
	for (size_t i = 0; now_ms() < end; i++) {
		size_t n = replay.log.n - replay.begin + 1;

		try_cut(replay.begin + powerlog_roll(&replay.log) % n,
			one_in[i % (sizeof(one_in) / sizeof(one_in[0]))]);
	}
}

static size_t
count(enum power_kind kind)
{
	size_t n = 0;

	for (size_t i = replay.begin; i < replay.log.n; i++)
		n += replay.log.entries[i].head.kind == kind;
	return n;
}

int
powercut_replay(const char *base, const char *log, const char *dir, long seconds)
{
	const char *seed = getenv("VMI_POWERCUT_SEED");
	char point[512];

	powerlog_open(&replay.log, base, log);
	find_begin();
	replay.dir = dir;
	replay.log.random = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
	if (replay.begin == 0)
		die("nothing was recorded");
	/* What is mounted here goes with us.  In memory: each disk is written and synced whole. */
	if (unshare(CLONE_NEWNS) != 0 ||
	    mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("tmpfs", dir, "tmpfs", 0, "mode=700") != 0)
		die("unshare");
	snprintf(point, sizeof(point), "%s/mnt", dir);
	if (mkdir(point, 0700) != 0)
		die(point);
	printf("# VMI_POWERCUT_SEED=%llu: %zu writes, %zu flushes\n",
	       (unsigned long long)replay.log.random, count(POWER_WRITE), count(POWER_FLUSH));
	try_cuts(seconds);
	printf("cuts %ld\nwrites %zu\n", replay.n_cuts, count(POWER_WRITE));
	for (int i = 0; i < N_FACTS; i++)
		printf("%s %ld\n", fact_names[i], replay.violated[i]);
	powerlog_close(&replay.log);
	return 0;
}
