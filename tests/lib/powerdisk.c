/*
 * powerdisk.c - what a recorded disk was told (see recorder), and disks as a power cut would have
 * left them.
 *
 *   powerdisk list BASE LOG
 *       a line for each entry: its number, W, F or M, what number a mark has (0: no mark), and
 *       where it ends in LOG
 *   powerdisk make BASE LOG OUT CUT ONE_IN SEED
 *       OUT: the disk BASE after the first CUT entries; of those behind the last flush one piece
 *       in ONE_IN is missing, by the random numbers of SEED; 0: none is
 */
#include "config.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/powerlog.h"

static int
list(const struct powerlog *l)
{
	for (size_t i = 0; i < l->n; i++) {
		const struct power_record *head = &l->entries[i].head;
		bool is_mark = head->kind == POWER_MARK;

		printf("%zu %c %llu %zu\n", i + 1, (int)head->kind,
		       is_mark ? (unsigned long long)head->off : 0,
		       powerlog_at(l, i) + sizeof(*head) + head->len);
	}
	return fflush(stdout) == 0 ? 0 : 1;
}

static int
make(struct powerlog *l, const char *out, size_t cut, unsigned int one_in)
{
	int fd = open(out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	powerlog_make(l, cut <= l->n ? cut : l->n, one_in);
	if (fd < 0 || pwrite(fd, l->disk, l->size, 0) != (ssize_t)l->size || close(fd) != 0) {
		perror(out);
		return 1;
	}
	return 0;
}

static unsigned long long
number(const char *text)
{
	return strtoull(text, NULL, 10);
}

int
main(int argc, char **argv)
{
	bool listing = argc == 4 && strcmp(argv[1], "list") == 0;
	bool making = argc == 8 && strcmp(argv[1], "make") == 0;
	struct powerlog l;
	int rc;

	if (!listing && !making) {
		fputs("usage: powerdisk list BASE LOG | make BASE LOG OUT CUT ONE_IN SEED\n",
		      stderr);
		return 2;
	}
	powerlog_open(&l, argv[2], argv[3]);
	if (making)
		l.random = number(argv[7]);
	rc = listing ? list(&l) : make(&l, argv[4], number(argv[5]), (unsigned int)number(argv[6]));
	powerlog_close(&l);
	return rc;
}
