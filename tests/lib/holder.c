/*
 * holder.c - holds a file open and mapped, as a running guest does, and tries it when told.
 *
 *   holder FILE       answers "open", or the name of the error, and ends there
 *
 * Then each line on standard input is answered by one line on standard output:
 *
 *     read OFFSET     a pread() of one page from the descriptor: "ok" or the name of the error
 *     page OFFSET ORIGINAL    one page, not from the page cache: "same", "differs" or the error
 *     touch OFFSET    one byte through the mapping: "ok" or "SIGBUS"
 *     pages           how many pages of the file are in memory
 *     same ORIGINAL   the whole file, read from the descriptor: "same", "differs" or the error
 *     open            a new open() of the path: "ok" or the name of the error
 *
 * The end of its input is its end.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096, PIECE = 64 << 10 };

struct held {
	const char *path;
	int fd;
	size_t size;
	volatile const unsigned char *map;
};

static sigjmp_buf bus;

static void __attribute__((noreturn))
on_bus(int sig)
{
	siglongjmp(bus, sig);
}

static const char *
word_of(bool good)
{
	return good ? "ok" : strerrorname_np(errno);
}

static const char *
try_read(const struct held *h, off_t off)
{
	char page[PAGE];

	return word_of(pread(h->fd, page, sizeof(page), off) >= 0);
}

/* The kernel forgets what nobody has touched through the mapping, so that the file is asked. */
static const char *
try_page(const struct held *h, const char *arg)
{
	char ours[PAGE], theirs[PAGE], *original;
	off_t off = (off_t)strtoll(arg, &original, 10);
	int fd = open(*original != '\0' ? original + 1 : "", O_RDONLY | O_CLOEXEC);
	const char *word = "differs";
	ssize_t n;

	if (fd < 0)
		return "no original";
	posix_fadvise(h->fd, 0, 0, POSIX_FADV_DONTNEED);
	n = pread(h->fd, ours, PAGE, off);
	if (n < 0)
		word = strerrorname_np(errno);
	else if (pread(fd, theirs, PAGE, off) == n && memcmp(ours, theirs, (size_t)n) == 0)
		word = "same";
	close(fd);
	return word;
}

static const char *
try_touch(const struct held *h, size_t off)
{
	if (off >= h->size)
		return "EINVAL";
	if (sigsetjmp(bus, 1) != 0)
		return "SIGBUS";
	(void)h->map[off];
	return "ok";
}

static const char *
try_open(const struct held *h)
{
	int fd = open(h->path, O_RDONLY | O_CLOEXEC);
	const char *word = word_of(fd >= 0);

	if (fd >= 0)
		close(fd);
	return word;
}

static long
count_pages(const struct held *h)
{
	size_t n = (h->size + PAGE - 1) / PAGE;
	unsigned char *here = calloc(n, 1);
	long count = -1;

	if (here != NULL && mincore((void *)(uintptr_t)h->map, h->size, here) == 0) {
		count = 0;
		for (size_t i = 0; i < n; i++)
			count += here[i] & 1;
	}
	free(here);
	return count;
}

static const char *
compare(const struct held *h, const char *original)
{
	static char ours[PIECE], theirs[PIECE];
	int fd = open(original, O_RDONLY | O_CLOEXEC);
	const char *word = "same";
	off_t off = 0;
	ssize_t n;

	if (fd < 0)
		return "no original";
	do {
		n = pread(h->fd, ours, PIECE, off);
		if (n < 0)
			word = strerrorname_np(errno);
		else if (pread(fd, theirs, PIECE, off) != n || memcmp(ours, theirs, (size_t)n) != 0)
			word = "differs";
		off += n;
	} while (n > 0 && strcmp(word, "same") == 0);
	close(fd);
	return word;
}

static void
serve(const struct held *h, const char *line)
{
	const char *arg = strchr(line, ' ');

	arg = arg != NULL ? arg + 1 : "";
	if (strncmp(line, "read ", 5) == 0)
		puts(try_read(h, (off_t)strtoll(arg, NULL, 10)));
	else if (strncmp(line, "page ", 5) == 0)
		puts(try_page(h, arg));
	else if (strncmp(line, "touch ", 6) == 0)
		puts(try_touch(h, (size_t)strtoull(arg, NULL, 10)));
	else if (strcmp(line, "pages") == 0)
		printf("%ld\n", count_pages(h));
	else if (strncmp(line, "same ", 5) == 0)
		puts(compare(h, arg));
	else if (strcmp(line, "open") == 0)
		puts(try_open(h));
	else
		puts("what?");
	fflush(stdout);
}

int
main(int argc, char **argv)
{
	struct held h = { .path = argc == 2 ? argv[1] : "", .fd = -1 };
	char line[PIECE];
	struct stat st;

	if (argc != 2) {
		fprintf(stderr, "usage: holder FILE\n");
		return 2;
	}
	signal(SIGBUS, on_bus);
	h.fd = open(h.path, O_RDONLY | O_CLOEXEC);
	if (h.fd < 0 || fstat(h.fd, &st) != 0 || st.st_size == 0) {
		puts(h.fd < 0 ? strerrorname_np(errno) : "empty");
		return 1;
	}
	h.size = (size_t)st.st_size;
	h.map = mmap(NULL, h.size, PROT_READ, MAP_SHARED, h.fd, 0);
	if (h.map == MAP_FAILED) {
		puts(strerrorname_np(errno));
		return 1;
	}
	puts("open");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		serve(&h, line);
	}
	return 0;
}
