/*
 * fscheck_same.c - the same system calls on a file of the mount and on a local one with the same
 * bytes: results, errors and bytes must not differ.
 */
#include "config.h"

#include "tests/lib/fscheck.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { PAGE = 4096, PIECE = 64 << 10 };

struct pair {
	int fd[2];		/* of the mount, local */
	const char *path[2];
	off_t size;
	char *bytes[2];		/* size + 2 pages each, aligned */
};

/* What a call gave, to be compared. */
struct outcome {
	long long result;
	int error;
};

static struct outcome
outcome(long long result)
{
	return (struct outcome){ result, result < 0 ? errno : 0 };
}

static void
compare(const char *what, long long at, struct outcome ours, struct outcome local)
{
	if (ours.result != local.result || ours.error != local.error)
		fscheck_wrong("%s %lld: %lld %s, local %lld %s", what, at, ours.result,
			      ours.error != 0 ? strerrorname_np(ours.error) : "", local.result,
			      local.error != 0 ? strerrorname_np(local.error) : "");
}

static void
compare_bytes(const struct pair *p, const char *what, long long at, long long n)
{
	if (n > 0 && memcmp(p->bytes[0], p->bytes[1], (size_t)n) != 0)
		fscheck_wrong("%s %lld: other bytes", what, at);
}

static void
read_both(const struct pair *p, size_t n, off_t at)
{
	struct outcome ours, local;

	ours = outcome(pread(p->fd[0], p->bytes[0], n, at));
	local = outcome(pread(p->fd[1], p->bytes[1], n, at));
	compare("pread", at, ours, local);
	compare_bytes(p, "pread", at, ours.result);
}

static void
same_read(const struct pair *p)
{
	const off_t offsets[] = {
		0, 1, PAGE - 1, PAGE, p->size - PAGE, p->size - 1, p->size, p->size + 1,
		p->size + PAGE, INT64_C(1) << 31, INT64_C(1) << 32, INT64_C(1) << 62,
		INT64_MAX - 1, INT64_MAX, -1,
	};
	const size_t lengths[] = { 0, 1, 7, PAGE, PIECE };

	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++)
		for (size_t k = 0; k < sizeof(lengths) / sizeof(lengths[0]); k++)
			read_both(p, lengths[k], offsets[i]);
	read_both(p, (size_t)p->size + PAGE, 0);
	for (off_t at = 3; at < 3 * PAGE; at += 7)
		read_both(p, 7, at);
	for (off_t at = p->size - 64; at < p->size + 2; at++)
		read_both(p, 1, at);
	for (int i = 0; i < 2; i++)
		lseek(p->fd[i], 0, SEEK_SET);
	/* More than a system call takes: it is cut at the end of the file. */
	compare("read", 0, outcome(read(p->fd[0], p->bytes[0], (size_t)p->size + PAGE)),
		outcome(read(p->fd[1], p->bytes[1], (size_t)p->size + PAGE)));
	compare("read", p->size, outcome(read(p->fd[0], p->bytes[0], PAGE)),
		outcome(read(p->fd[1], p->bytes[1], PAGE)));
}

/* A buffer of 2 GiB that takes no memory until something is written to it. */
static void
same_huge(const struct pair *p)
{
	size_t huge = (size_t)2 << 30;
	char *room = mmap(NULL, huge, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (room == MAP_FAILED)
		return;
	compare("pread of 2 GiB", 0, outcome(pread(p->fd[0], room, huge, 0)),
		outcome(pread(p->fd[1], p->bytes[1], (size_t)p->size + PAGE, 0)));
	if (memcmp(room, p->bytes[1], (size_t)p->size) != 0)
		fscheck_wrong("pread of 2 GiB: other bytes");
	munmap(room, huge);
}

/* Which alignment a file system wants is its own affair: right bytes or EINVAL. */
static void
same_direct(const struct pair *p)
{
	const struct { off_t at; size_t n, shift; } tries[] = {
		{ 0, PAGE, 0 }, { PAGE, PIECE, 0 }, { 1, PAGE, 0 }, { 0, 100, 0 },
		{ 0, PAGE, 1 }, { 511, 513, 3 }, { p->size / PAGE * PAGE, PAGE, 0 },
		{ p->size, PAGE, 0 }, { 512, 512, 512 },
	};
	int fd = open(p->path[0], O_RDONLY | O_DIRECT | O_CLOEXEC);

	if (fd < 0) {
		fscheck_wrong("open(O_DIRECT): %s", strerrorname_np(errno));
		return;
	}
	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		char *to = p->bytes[0] + tries[i].shift;
		ssize_t n = pread(fd, to, tries[i].n, tries[i].at);
		ssize_t local = pread(p->fd[1], p->bytes[1], tries[i].n, tries[i].at);

		if (n < 0 && errno == EINVAL && i > 1)
			continue;
		if (n != local || (n > 0 && memcmp(to, p->bytes[1], (size_t)n) != 0))
			fscheck_wrong("O_DIRECT %zu bytes at %lld: %zd, local %zd", tries[i].n,
				      (long long)tries[i].at, n, local);
	}
	close(fd);
}

static struct outcome
map_both(const struct pair *p, int i, int prot, int flags, char **map)
{
	*map = mmap(NULL, (size_t)p->size, prot, flags, p->fd[i], 0);
	return *map == MAP_FAILED ? outcome(-1) : outcome(0);
}

static void
same_map(const struct pair *p)
{
	static const struct { const char *name; int prot, flags; } ways[] = {
		{ "PROT_READ, MAP_SHARED", PROT_READ, MAP_SHARED },
		{ "PROT_READ, MAP_PRIVATE", PROT_READ, MAP_PRIVATE },
		{ "PROT_READ, MAP_SHARED|MAP_POPULATE", PROT_READ, MAP_SHARED | MAP_POPULATE },
		{ "PROT_WRITE, MAP_PRIVATE", PROT_READ | PROT_WRITE, MAP_PRIVATE },
		{ "PROT_WRITE, MAP_SHARED", PROT_READ | PROT_WRITE, MAP_SHARED },
	};

	for (size_t w = 0; w < sizeof(ways) / sizeof(ways[0]); w++) {
		struct outcome ours, local;
		char *map[2];

		ours = map_both(p, 0, ways[w].prot, ways[w].flags, &map[0]);
		local = map_both(p, 1, ways[w].prot, ways[w].flags, &map[1]);
		compare(ways[w].name, 0, ours, local);
		if (ours.result < 0 || local.result < 0)
			continue;
		if (memcmp(map[0], map[1], (size_t)p->size) != 0)
			fscheck_wrong("%s: other bytes", ways[w].name);
		/* What was written to a private mapping is gone, and never was in the file. */
		if ((ways[w].prot & PROT_WRITE) != 0)
			map[0][0] = (char)~map[0][0];
		compare("msync", 0, outcome(msync(map[0], (size_t)p->size, MS_SYNC)),
			outcome(msync(map[1], (size_t)p->size, MS_SYNC)));
		compare("madvise", 0, outcome(madvise(map[0], (size_t)p->size, MADV_DONTNEED)),
			outcome(madvise(map[1], (size_t)p->size, MADV_DONTNEED)));
		if (memcmp(map[0], map[1], (size_t)p->size) != 0)
			fscheck_wrong("%s after madvise: other bytes", ways[w].name);
		munmap(map[0], (size_t)p->size);
		munmap(map[1], (size_t)p->size);
	}
}

/* ---- moving bytes ---------------------------------------------------------------------- */

static void
take_pipe(const struct pair *p, const char *what, int fd, ssize_t n, off_t at)
{
	ssize_t got = 0, part = 1;

	while (got < n && part > 0) {
		part = read(fd, p->bytes[0] + got, (size_t)(n - got));
		got += part > 0 ? part : 0;
	}
	if (n < 0)
		fscheck_wrong("%s: %s", what, strerrorname_np(errno));
	else if (got != n || pread(p->fd[1], p->bytes[1], (size_t)n, at) != n)
		fscheck_wrong("%s: %zd bytes, not %zd", what, got, n);
	else
		compare_bytes(p, what, at, n);
}

static void
move_by_pipes(const struct pair *p)
{
	int a[2], b[2];
	off_t at = PAGE + 17;
	loff_t from = at;
	ssize_t n;

	if (pipe2(a, O_CLOEXEC) != 0 || pipe2(b, O_CLOEXEC) != 0)
		return;
	n = splice(p->fd[0], &from, a[1], NULL, 3 * PAGE, 0);
	if (n > 0 && tee(a[0], b[1], (size_t)n, 0) != n)
		fscheck_wrong("tee: %s", strerrorname_np(errno));
	take_pipe(p, "splice", a[0], n, at);
	take_pipe(p, "tee", b[0], n, at);
	from = at;
	take_pipe(p, "sendfile to a pipe", a[0], sendfile(a[1], p->fd[0], &from, 3 * PAGE), at);
	for (int i = 0; i < 2; i++) {
		close(a[i]);
		close(b[i]);
	}
}

/* The nth way to let the kernel copy a part of the file. */
static ssize_t
copy_step(int n, int from, loff_t *at, int to, size_t size)
{
	return n == 0 ? sendfile(to, from, at, size) :
			copy_file_range(from, at, to, NULL, size, 0);
}

static void
move_to_file(const struct pair *p)
{
	static const char *const names[] = { "sendfile", "copy_file_range" };

	for (int i = 0; i < 2; i++) {
		FILE *out = tmpfile();
		off_t left = p->size;
		loff_t at = 0;
		ssize_t n = 1;

		while (out != NULL && left > 0 &&
		       (n = copy_step(i, p->fd[0], &at, fileno(out), (size_t)left)) > 0)
			left -= n;
		/* Two file systems: the caller then copies by itself. */
		if (n < 0 && (i == 0 || (errno != EXDEV && errno != EOPNOTSUPP && errno != EINVAL)))
			fscheck_wrong("%s: %s", names[i], strerrorname_np(errno));
		if (out != NULL && left == 0 &&
		    pread(fileno(out), p->bytes[0], (size_t)p->size, 0) == p->size &&
		    pread(p->fd[1], p->bytes[1], (size_t)p->size, 0) == p->size)
			compare_bytes(p, names[i], 0, p->size);
		else if (n >= 0)
			fscheck_wrong("%s: %lld bytes are missing", names[i], (long long)left);
		if (out != NULL)
			fclose(out);
	}
}

/* What would have to wait may be refused; what is given must be right. */
static void
move_without_waiting(const struct pair *p)
{
	for (off_t at = 0; at < p->size; at += PIECE) {
		struct iovec parts[2] = { { p->bytes[0], 100 }, { p->bytes[0] + 100, PAGE } };
		ssize_t n = preadv2(p->fd[0], parts, 2, at, RWF_NOWAIT);
		ssize_t local = pread(p->fd[1], p->bytes[1], PAGE + 100, at);

		if (n < 0 && errno != EAGAIN && errno != EOPNOTSUPP)
			fscheck_wrong("preadv2(RWF_NOWAIT) at %lld: %s", (long long)at,
				      strerrorname_np(errno));
		else if (n > local)
			fscheck_wrong("preadv2(RWF_NOWAIT) at %lld: too many bytes", (long long)at);
		else
			compare_bytes(p, "preadv2(RWF_NOWAIT)", at, n);
	}
}

static void
same_move(const struct pair *p)
{
	move_by_pipes(p);
	move_to_file(p);
	move_without_waiting(p);
}

/* ---- seek, locks, attributes ------------------------------------------------------------ */

static void
same_seek(const struct pair *p)
{
	const off_t offsets[] = {
		0, 1, PAGE, p->size / 2, p->size - 1, p->size, p->size + 1, -1,
	};
	static const struct { const char *name; int whence; } ways[] = {
		{ "SEEK_DATA", SEEK_DATA }, { "SEEK_HOLE", SEEK_HOLE }, { "SEEK_SET", SEEK_SET },
		{ "SEEK_END", SEEK_END },
	};

	for (size_t w = 0; w < sizeof(ways) / sizeof(ways[0]); w++)
		for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++)
			compare(ways[w].name, offsets[i],
				outcome(lseek(p->fd[0], offsets[i], ways[w].whence)),
				outcome(lseek(p->fd[1], offsets[i], ways[w].whence)));
}

/* The nth call of a story about two descriptors of one file. */
static long long
lock_step(const char *path, int fd, int n)
{
	static int second = -1;
	struct flock whole = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
	struct flock part = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10,
			      .l_len = 10 };

	switch (n) {
	case 0:
		second = open(path, O_RDONLY | O_CLOEXEC);
		return second < 0 ? -1 : 0;
	case 1:
		return flock(fd, LOCK_EX | LOCK_NB);
	case 2:
		return flock(second, LOCK_SH | LOCK_NB);
	case 3:
		return flock(fd, LOCK_SH);
	case 4:
		return flock(second, LOCK_SH | LOCK_NB);
	case 5:
		return flock(fd, LOCK_UN) + flock(second, LOCK_UN);
	case 6:
		return fcntl(fd, F_SETLK, &whole);
	case 7:
		return fcntl(fd, F_SETLK, &part);
	case 8:
		return fcntl(fd, F_OFD_SETLK, &whole);
	case 9:
		return fcntl(second, F_OFD_SETLK, &whole);
	case 10:
		return fcntl(second, F_OFD_GETLK, &part) == 0 ? part.l_type : -1;
	case 11:
		whole.l_type = F_UNLCK;
		return fcntl(fd, F_OFD_SETLK, &whole) + fcntl(second, F_OFD_SETLK, &whole);
	case 12:
		return fcntl(fd, F_SETLEASE, F_RDLCK);
	case 13:
		return fcntl(fd, F_GETLEASE);
	case 14:
		return fcntl(fd, F_SETLEASE, F_UNLCK);
	case 15:
		return fcntl(fd, F_SETLEASE, F_WRLCK);
	default:
		close(second);
		return 0;
	}
}

static void
same_lock(const struct pair *p)
{
	enum { N_STEPS = 17 };
	struct outcome ours[N_STEPS];

	for (int n = 0; n < N_STEPS; n++)
		ours[n] = outcome(lock_step(p->path[0], p->fd[0], n));
	for (int n = 0; n < N_STEPS; n++)
		compare("lock, step", n, ours[n], outcome(lock_step(p->path[1], p->fd[1], n)));
}

static void
same_xattr(const struct pair *p)
{
	static const char *const names[] = {
		"user.vmimage.none", "user.none", "trusted.none", "security.none", "",
	};
	char value[64];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		compare(names[i], 0, outcome(getxattr(p->path[0], names[i], value, 0)),
			outcome(getxattr(p->path[1], names[i], value, 0)));
		compare(names[i], 64, outcome(fgetxattr(p->fd[0], names[i], value, 64)),
			outcome(fgetxattr(p->fd[1], names[i], value, 64)));
	}
}

static const struct group {
	const char *name;
	void (*run)(const struct pair *p);
} groups[] = {
	{ "read", same_read }, { "huge", same_huge }, { "direct", same_direct },
	{ "map", same_map }, { "move", same_move }, { "seek", same_seek }, { "lock", same_lock },
	{ "xattr", same_xattr },
};

static void
open_pair(struct pair *p)
{
	struct stat st[2] = { 0 };

	for (int i = 0; i < 2; i++) {
		p->fd[i] = open(p->path[i], O_RDONLY | O_CLOEXEC);
		if (p->fd[i] < 0 || fstat(p->fd[i], &st[i]) != 0)
			fscheck_wrong("%s: %s", p->path[i], strerrorname_np(errno));
		p->bytes[i] = aligned_alloc(PAGE, ((size_t)st[i].st_size / PAGE + 20) * PAGE);
		if (p->bytes[i] == NULL)
			abort();
	}
	p->size = st[1].st_size;
	if (st[0].st_size != st[1].st_size)
		fscheck_wrong("size %lld, local %lld", (long long)st[0].st_size,
			      (long long)p->size);
}

int
fscheck_same(char **args)
{
	struct pair p = { .path = { args[1], args[2] } };
	const struct group *group = NULL;

	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
		if (strcmp(groups[i].name, args[0]) == 0)
			group = &groups[i];
	open_pair(&p);
	if (group == NULL)
		fscheck_wrong("no group '%s'", args[0]);
	else if (!fscheck_has_failed())
		group->run(&p);
	for (int i = 0; i < 2; i++) {
		free(p.bytes[i]);
		close(p.fd[i]);
	}
	return fscheck_has_failed();
}
