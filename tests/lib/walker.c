/*
 * walker.c - walks through a mount whose lists are refreshed all the time, and looks for mixtures.
 *
 *   walker [--seconds S] [--seed N] --sets PREFIX,PREFIX...:COUNT --always NAME,NAME... MNT
 *
 * The lists are made so that each version can be told from every other:
 *
 *   - whatever has a text of the version's says it as vNNNv, so that a file of metadata in which
 *     two of them differ shows two versions;
 *   - each version has COUNT images whose names begin with one of the PREFIXes, and none of the
 *     other PREFIXes, so that one answer for MNT/images that has more or fewer, or two prefixes, is
 *     a mixture; the images NAME are always there.
 *
 * A listing in pieces goes on in the tree of the moment, also when it only asks whether there is
 * more; whatever was there throughout must be in it exactly once.  One answer shows one tree: of
 * every other listing that has room for all entries only the first answer is looked at.
 *
 * Directories are read through a buffer of a few entries, files in pieces of a few bytes, and there
 * is a pause between two of them, so that most are read while a refresh takes place.  A file must
 * be as long as it says.  What has gone before it is opened (ENOENT, ESTALE) is no fault.
 *
 * Prints "listings N files N versions N"; ends with 1 and a sentence at the first fault.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	ENTRIES_BYTES = 512,		/* a few entries */
	LISTING_BYTES = 128 << 10,	/* all of them */
	NAMES_MAX = 16384,
	PIECE_MAX = 700,
	FILE_MAX = 1 << 20,
	PAUSE_MAX_US = 3000,
	SETS_MAX = 8,
};

struct names {
	char *name[NAMES_MAX];
	size_t n;
};

static struct {
	const char *mnt;
	uint64_t random;
	char *set[SETS_MAX];
	size_t n_sets, set_size;
	char *always[SETS_MAX];
	size_t n_always;
	uint64_t n_listings, n_files, n_versions;
	long last_version;
} walk = { .random = 1 };

static void __attribute__((noreturn, format(printf, 1, 2)))
fault(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	exit(1);
}

/* xorshift64* */
static uint64_t
draw(uint64_t below)
{
	walk.random ^= walk.random >> 12;
	walk.random ^= walk.random << 25;
	walk.random ^= walk.random >> 27;
	return (walk.random * UINT64_C(0x2545f4914f6cdd1d) >> 20) % below;
}

static void
pause_a_little(void)
{
	struct timespec ts = { 0, (long)draw(PAUSE_MAX_US) * 1000 };

	if (draw(4) == 0)
		nanosleep(&ts, NULL);
}

static bool
has_gone(int errnum)
{
	return errnum == ENOENT || errnum == ESTALE;
}

/* Caller frees. */
static char *
join(const char *dir, const char *name)
{
	char *path = NULL;

	if (asprintf(&path, "%s/%s", dir, name) < 0)
		fault("walker: no memory");
	return path;
}

/* ---- listings ------------------------------------------------------------------------------ */

static void
names_clear(struct names *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->name[i]);
	l->n = 0;
}

static void
names_add(struct names *l, const char *dir, const char *name)
{
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return;
	for (size_t i = 0; i < l->n; i++)
		if (strcmp(l->name[i], name) == 0)
			fault("'%s' has '%s' twice", dir, name);
	if (l->n == NAMES_MAX)
		fault("'%s' has more than %d entries", dir, NAMES_MAX);
	l->name[l->n++] = strdup(name);
}

/* bytes at a time.  False: it has gone. */
static bool
list(const char *dir, size_t bytes, struct names *l)
{
	static _Alignas(struct dirent64) char buffer[LISTING_BYTES];
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long n;

	if (fd < 0) {
		if (!has_gone(errno))
			fault("'%s' cannot be opened: %s", dir, strerrorname_np(errno));
		return false;
	}
	while ((n = syscall(SYS_getdents64, fd, buffer, bytes)) > 0) {
		for (long at = 0; at < n;) {
			const struct dirent64 *e = (const struct dirent64 *)(buffer + at);

			names_add(l, dir, e->d_name);
			at += e->d_reclen;
		}
		if (bytes == LISTING_BYTES) {
			n = 0;
			break;
		}
		pause_a_little();
	}
	if (n < 0 && !has_gone(errno))
		fault("'%s' cannot be listed: %s", dir, strerrorname_np(errno));
	close(fd);
	walk.n_listings++;
	return n == 0;
}

static void
check_always(const struct names *l)
{
	for (size_t i = 0; i < walk.n_always; i++) {
		size_t n = 0;

		for (size_t j = 0; j < l->n; j++)
			n += strcmp(l->name[j], walk.always[i]) == 0;
		if (n == 0)
			fault("a listing lacks '%s', which is always there", walk.always[i]);
	}
}

static size_t
count_set(const struct names *l, const char *prefix)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++)
		n += strncmp(l->name[i], prefix, strlen(prefix)) == 0;
	return n;
}

/* All of one set and nothing of the others. */
static void
check_sets(const struct names *l)
{
	size_t n_whole = 0;

	for (size_t i = 0; i < walk.n_sets; i++) {
		size_t n = count_set(l, walk.set[i]);

		if (n != 0 && n != walk.set_size)
			fault("a listing has %zu of %zu '%s'", n, walk.set_size, walk.set[i]);
		n_whole += n != 0;
	}
	if (walk.n_sets > 0 && n_whole != 1)
		fault("a listing has images of %zu versions of the list", n_whole);
}

/* ---- files --------------------------------------------------------------------------------- */

static ssize_t
read_slowly(int fd, char *text, size_t room)
{
	size_t len = 0;
	ssize_t n;

	do {
		size_t piece = 1 + (size_t)draw(PIECE_MAX);

		n = read(fd, text + len, piece < room - len ? piece : room - len);
		if (n > 0)
			len += (size_t)n;
		pause_a_little();
	} while (n > 0 && len < room);
	return n < 0 ? -errno : (ssize_t)len;
}

/* "... v12v ... v12v ...": all must be the same. */
static void
check_versions(const char *path, const char *text)
{
	long first = -1;

	for (const char *at = strchr(text, 'v'); at != NULL; at = strchr(at + 1, 'v')) {
		char *end;
		long version = strtol(at + 1, &end, 10);

		if (end == at + 1 || *end != 'v' || at[1] < '0' || at[1] > '9')
			continue;
		if (first >= 0 && version != first)
			fault("'%s' shows the versions %ld and %ld", path, first, version);
		first = version;
	}
	if (first >= 0 && first != walk.last_version)
		walk.n_versions++;
	if (first >= 0)
		walk.last_version = first;
}

static void
look_at_file(const char *path)
{
	static char text[FILE_MAX + 1];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat before, after;
	ssize_t len;

	if (fd < 0) {
		if (!has_gone(errno) && errno != ELOOP && errno != EACCES)
			fault("'%s' cannot be opened: %s", path, strerrorname_np(errno));
		return;
	}
	if (fstat(fd, &before) != 0)
		fault("'%s' has no size: %s", path, strerrorname_np(errno));
	if (S_ISREG(before.st_mode) && before.st_size < FILE_MAX) {
		len = read_slowly(fd, text, FILE_MAX);
		if (len < 0)
			fault("'%s' cannot be read: %s", path, strerrorname_np((int)-len));
		if (fstat(fd, &after) == 0 && after.st_size != len && before.st_size != len)
			fault("'%s' has %lld bytes and says %lld", path, (long long)len,
			      (long long)after.st_size);
		text[len] = '\0';
		check_versions(path, text);
		walk.n_files++;
	}
	close(fd);
}

/* ---- walking ------------------------------------------------------------------------------- */

static bool
is_directory(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Everything of one directory but images themselves. */
static void
look_at_all(const char *dir)
{
	struct names l = { .n = 0 };

	if (list(dir, ENTRIES_BYTES, &l))
		for (size_t i = 0; i < l.n; i++) {
			char *path = join(dir, l.name[i]);

			if (strcmp(l.name[i], "image") != 0 && !is_directory(path))
				look_at_file(path);
			free(path);
		}
	names_clear(&l);
}

static void
look_at_images(void)
{
	struct names l = { .n = 0 };
	char *dir = join(walk.mnt, "images"), *path;
	bool at_once = draw(2) == 0;

	if (list(dir, at_once ? LISTING_BYTES : ENTRIES_BYTES, &l)) {
		check_always(&l);
		if (at_once)
			check_sets(&l);
		for (int i = 0; i < 4 && l.n > 0; i++) {
			path = join(dir, l.name[draw(l.n)]);
			look_at_all(path);
			free(path);
		}
	}
	names_clear(&l);
	free(dir);
}

/* All directories; files now and then. */
static void
look_around(const char *dir, int depth)
{
	struct names l = { .n = 0 };

	if (depth < 5 && list(dir, ENTRIES_BYTES, &l))
		for (size_t i = 0; i < l.n; i++) {
			char *path = join(dir, l.name[i]);

			if (is_directory(path))
				look_around(path, depth + 1);
			free(path);
		}
	names_clear(&l);
}

/* How many words there are in "word,word". */
static size_t
take_words(char *text, char *words[SETS_MAX])
{
	size_t n = 0;
	char *word;

	while (n < SETS_MAX && (word = strsep(&text, ",")) != NULL)
		words[n++] = word;
	return n;
}

static void
take_sets(char *text)
{
	char *colon = strrchr(text, ':');

	if (colon == NULL)
		fault("--sets PREFIX,PREFIX...:COUNT");
	walk.set_size = strtoul(colon + 1, NULL, 10);
	*colon = '\0';
	walk.n_sets = take_words(text, walk.set);
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seconds", required_argument, NULL, 's' },
		{ "seed", required_argument, NULL, 'n' },
		{ "sets", required_argument, NULL, 'e' },
		{ "always", required_argument, NULL, 'a' },
		{ NULL, 0, NULL, 0 },
	};
	long seconds = 1;
	struct timespec now, end;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case 's': seconds = strtol(optarg, NULL, 10); break;
		case 'n': walk.random = strtoull(optarg, NULL, 10) * 2654435761u + 1; break;
		case 'e': take_sets(optarg); break;
		case 'a': walk.n_always = take_words(optarg, walk.always); break;
		default: return 2;
		}
	if (optind + 1 != argc)
		fault("walker: no mount point");
	walk.mnt = argv[optind];
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += seconds;
	do {
		look_at_images();
		if (draw(8) == 0)
			look_around(walk.mnt, 0);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec < end.tv_sec);
	printf("listings %" PRIu64 " files %" PRIu64 " versions %" PRIu64 "\n", walk.n_listings,
	       walk.n_files, walk.n_versions);
	return 0;
}
