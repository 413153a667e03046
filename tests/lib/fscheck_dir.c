/*
 * fscheck_dir.c - listings: in small pieces, from any place, while they change.
 */
#include "config.h"

#include "tests/lib/fscheck.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct entry64 {		/* as getdents64(2) says */
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

struct names {
	char **name;
	size_t n, cap;
};

static void
names_add(struct names *names, const char *name)
{
	if (names->n == names->cap) {
		names->cap = names->cap == 0 ? 1024 : names->cap * 2;
		names->name = realloc(names->name, names->cap * sizeof(*names->name));
	}
	if (names->name == NULL || (names->name[names->n++] = strdup(name)) == NULL)
		abort();
}

static void
names_clear(struct names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->name[i]);
	names->n = 0;
}

static void
names_release(struct names *names)
{
	names_clear(names);
	free(names->name);
}

static int
by_text(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

static bool
list(const char *path, size_t size, bool print, struct names *names)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char *room = malloc(size);
	long n = -1;

	while (fd >= 0 && room != NULL && (n = syscall(SYS_getdents64, fd, room, size)) > 0)
		for (long at = 0; at < n;) {
			const struct entry64 *e = (const void *)(room + at);

			names_add(names, e->name);
			if (print)
				printf("%llu %d %s\n", (unsigned long long)e->ino, e->type,
				       e->name);
			at += e->reclen;
		}
	if (n < 0)
		fscheck_wrong("%s: %s", path, strerrorname_np(errno));
	free(room);
	if (fd >= 0)
		close(fd);
	return n == 0;
}

int
fscheck_list(char **args)
{
	struct names names = { NULL, 0, 0 };

	list(args[0], strtoul(args[1], NULL, 10), true, &names);
	names_release(&names);
	return fscheck_has_failed();
}

static void
check_place(DIR *dir, long place, const char *wanted)
{
	const struct dirent *e;

	seekdir(dir, place);
	e = readdir(dir);
	if (e == NULL || strcmp(e->d_name, wanted) != 0)
		fscheck_wrong("at the place of '%s' is '%s'", wanted,
			      e != NULL ? e->d_name : "the end");
}

int
fscheck_places(char **args)
{
	DIR *dir = opendir(args[0]);
	struct names names = { NULL, 0, 0 };
	const struct dirent *e;
	long *place = NULL, before;

	if (dir == NULL) {
		fscheck_wrong("%s: %s", args[0], strerrorname_np(errno));
		return 1;
	}
	for (before = telldir(dir); (e = readdir(dir)) != NULL; before = telldir(dir)) {
		names_add(&names, e->d_name);
		place = realloc(place, names.n * sizeof(*place));
		if (place == NULL)
			abort();
		place[names.n - 1] = before;
	}
	/* Backwards, and every 37th from the front. */
	for (size_t i = names.n; i-- > 0;)
		check_place(dir, place[i], names.name[i]);
	for (size_t i = 0; i < names.n; i += 37)
		check_place(dir, place[i], names.name[i]);
	rewinddir(dir);
	for (size_t i = 0; i < names.n; i++)
		if ((e = readdir(dir)) == NULL || strcmp(e->d_name, names.name[i]) != 0) {
			fscheck_wrong("after rewinddir, entry %zu is not '%s'", i, names.name[i]);
			break;
		}
	printf("%zu\n", names.n);
	closedir(dir);
	names_release(&names);
	free(place);
	return fscheck_has_failed();
}

static void
read_lines(const char *path, struct names *names)
{
	FILE *in = fopen(path, "r");
	char *line = NULL;
	size_t cap = 0;

	if (in == NULL) {
		fscheck_wrong("%s: %s", path, strerrorname_np(errno));
		return;
	}
	while (getline(&line, &cap, in) > 0) {
		line[strcspn(line, "\n")] = '\0';
		names_add(names, line);
	}
	fclose(in);
	free(line);
}

static void
check_listing(struct names *found, const struct names *stable)
{
	qsort(found->name, found->n, sizeof(*found->name), by_text);
	for (size_t i = 1; i < found->n; i++)
		if (strcmp(found->name[i - 1], found->name[i]) == 0)
			fscheck_wrong("twice: %s", found->name[i]);
	for (size_t i = 0; i < stable->n; i++)
		if (bsearch(&stable->name[i], found->name, found->n, sizeof(*found->name),
			    by_text) == NULL)
			fscheck_wrong("missing: %s", stable->name[i]);
}

int
fscheck_lists(char **args)
{
	struct names found = { NULL, 0, 0 }, stable = { NULL, 0, 0 };
	long long end = fscheck_now_ms() + strtoll(args[3], NULL, 10) * 1000;
	size_t size = strtoul(args[1], NULL, 10);
	int rounds = 0;

	read_lines(args[2], &stable);
	while (!fscheck_has_failed() && fscheck_now_ms() < end &&
	       list(args[0], size, false, &found)) {
		check_listing(&found, &stable);
		names_clear(&found);
		rounds++;
	}
	printf("%d\n", rounds);
	names_release(&found);
	names_release(&stable);
	return fscheck_has_failed();
}
