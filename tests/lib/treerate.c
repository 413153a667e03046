/*
 * treerate stat|cat SECONDS DIR - how many small files of a tree can be looked at in a second.
 *
 * Takes the names of all regular files below DIR, goes over all of them once, and then over and
 * over for so many seconds: stat() of each, or open, read to the end and close.  Prints the rate
 * and the number of files.  No link is followed.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char **names;
static size_t n_names;

static int
add_name(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)ftw;
	if (type != FTW_F || !S_ISREG(st->st_mode))
		return 0;
	names = realloc(names, (n_names + 1) * sizeof(*names));
	if (names == NULL || (names[n_names] = strdup(path)) == NULL)
		return -1;
	n_names++;
	return 0;
}

static bool
stat_one(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0;
}

static bool
cat_one(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char data[65536];
	ssize_t n;

	if (fd < 0)
		return false;
	while ((n = read(fd, data, sizeof(data))) > 0)
		;
	close(fd);
	return n == 0;
}

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Files that went away in between, as in a living tree, are passed over. */
static bool
over_all(bool (*one)(const char *path))
{
	for (size_t i = 0; i < n_names; i++) {
		if (!one(names[i]) && errno != ENOENT) {
			fprintf(stderr, "treerate: %s: %s\n", names[i], strerror(errno));
			return false;
		}
	}
	return true;
}

int
main(int argc, char **argv)
{
	bool (*one)(const char *path) = NULL;
	double seconds, from, rounds = 0;

	if (argc == 4 && strcmp(argv[1], "stat") == 0)
		one = stat_one;
	if (argc == 4 && strcmp(argv[1], "cat") == 0)
		one = cat_one;
	seconds = argc == 4 ? strtod(argv[2], NULL) : 0;
	if (one == NULL || seconds <= 0) {
		fprintf(stderr, "usage: treerate stat|cat SECONDS DIR\n");
		return 2;
	}
	if (nftw(argv[3], add_name, 16, FTW_PHYS) != 0 || n_names == 0) {
		fprintf(stderr, "treerate: nothing to look at in '%s'\n", argv[3]);
		return 1;
	}
	if (!over_all(one))
		return 1;
	from = now();
	do {
		if (!over_all(one))
			return 1;
		rounds++;
	} while (now() - from < seconds);
	printf("%.0f %zu\n", rounds * (double)n_names / (now() - from), n_names);
	return 0;
}
