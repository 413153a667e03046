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

enum { PIECE = 4096, SHOWN = 20, NO_LOOP = 77, GO_ON_EVERY = 4 };

struct entry {
	struct power_record head;
	const unsigned char *data;
};

static struct {
	unsigned char *base, *disk;	/* the disk before, and the one that is made */
	size_t size;
	unsigned char *log;
	struct entry *entries;
	size_t n, begin;		/* begin: where MARK_BEGIN is */
	const char *dir;
	uint64_t random;
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
		printf("# %s: after %zu of %zu, %s: %s\n", fact_names[fact], replay.cut, replay.n,
		       replay.how, text);
}

static uint64_t
roll(void)
{
	replay.random = replay.random * 6364136223846793005u + 1442695040888963407u;
	return replay.random >> 33;
}

static void __attribute__((noreturn))
die(const char *what)
{
	perror(what);
	exit(1);
}

/* ---- the log --------------------------------------------------------------------------------- */

static unsigned char *
read_whole(const char *path, size_t *size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	unsigned char *data;
	struct stat st;
	size_t done = 0;

	if (fd < 0 || fstat(fd, &st) != 0)
		die(path);
	*size = (size_t)st.st_size;
	data = malloc(*size + 1);
	while (data != NULL && done < *size) {
		ssize_t n = read(fd, data + done, *size - done);

		if (n <= 0)
			die(path);
		done += (size_t)n;
	}
	close(fd);
	if (data == NULL)
		die("malloc");
	return data;
}

static void
read_log(const char *path)
{
	size_t size, off = 0;

	replay.log = read_whole(path, &size);
	replay.entries = calloc(size / sizeof(struct power_record) + 1, sizeof(struct entry));
	if (replay.entries == NULL)
		die("calloc");
	while (off + sizeof(struct power_record) <= size) {
		struct entry *e = &replay.entries[replay.n++];

		memcpy(&e->head, replay.log + off, sizeof(e->head));
		e->data = replay.log + off + sizeof(e->head);
		off += sizeof(e->head) + e->head.len;
		if (e->head.kind == POWER_MARK && e->head.off == MARK_BEGIN)
			replay.begin = replay.n;
	}
}

static unsigned int
marks_before(size_t cut)
{
	unsigned int marks = 0;

	for (size_t i = 0; i < cut; i++) {
		if (replay.entries[i].head.kind == POWER_MARK)
			marks |= 1u << replay.entries[i].head.off;
	}
	return marks;
}

static size_t
last_flush(size_t cut)
{
	while (cut > 0 && replay.entries[cut - 1].head.kind != POWER_FLUSH)
		cut--;
	return cut;
}

/* ---- a disk ---------------------------------------------------------------------------------- */

static void
put(const struct entry *e, size_t from, size_t len)
{
	if (e->head.off + from + len <= replay.size)
		memcpy(replay.disk + e->head.off + from, e->data + from, len);
}

/* One in so many pieces of what was not flushed is missing; 0: none. */
static void
make_disk(size_t cut, unsigned int one_in)
{
	size_t flushed = last_flush(cut);

	memcpy(replay.disk, replay.base, replay.size);
	for (size_t i = 0; i < cut; i++) {
		const struct entry *e = &replay.entries[i];

		if (e->head.kind != POWER_WRITE)
			continue;
		if (i < flushed || one_in == 0) {
			put(e, 0, e->head.len);
			continue;
		}
		for (size_t from = 0; from < e->head.len; from += PIECE) {
			size_t len = e->head.len - from < PIECE ? e->head.len - from : PIECE;

			if (roll() % one_in != 0)
				put(e, from, len);
		}
	}
}

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
	if (fd < 0 || pwrite(fd, replay.disk, replay.size, 0) != (ssize_t)replay.size)
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
	make_disk(cut, one_in);
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

	for (size_t cut = replay.begin; cut <= replay.n; cut++)
		try_cut(cut, 0);
	for (size_t i = 0; now_ms() < end; i++)
		try_cut(replay.begin + roll() % (replay.n - replay.begin + 1),
			one_in[i % (sizeof(one_in) / sizeof(one_in[0]))]);
}

static size_t
count(enum power_kind kind)
{
	size_t n = 0;

	for (size_t i = replay.begin; i < replay.n; i++)
		n += replay.entries[i].head.kind == kind;
	return n;
}

int
powercut_replay(const char *base, const char *log, const char *dir, long seconds)
{
	const char *seed = getenv("VMI_POWERCUT_SEED");
	size_t size;
	char point[512];

	replay.base = read_whole(base, &size);
	replay.size = size;
	replay.disk = malloc(size);
	read_log(log);
	replay.dir = dir;
	replay.random = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
	if (replay.disk == NULL || replay.begin == 0)
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
	       (unsigned long long)replay.random, count(POWER_WRITE), count(POWER_FLUSH));
	try_cuts(seconds);
	printf("cuts %ld\nwrites %zu\n", replay.n_cuts, count(POWER_WRITE));
	for (int i = 0; i < N_FACTS; i++)
		printf("%s %ld\n", fact_names[i], replay.violated[i]);
	free(replay.base);
	free(replay.disk);
	free(replay.log);
	free(replay.entries);
	return 0;
}
