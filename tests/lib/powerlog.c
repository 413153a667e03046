/*
 * Disks as they could be after a power cut: of the writes before the cut those before the last
 * flush are there, and any of the others may be, whole or in part.
 */
#include "config.h"
#include "tests/lib/powerlog.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 4096 };

static void __attribute__((noreturn))
die(const char *what)
{
	perror(what);
	exit(1);
}

static void *
get(size_t size)
{
	void *p = calloc(1, size);

	if (p == NULL)
		die("calloc");
	return p;
}

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
	data = get(*size + 1);
	while (done < *size) {
		ssize_t n = read(fd, data + done, *size - done);

		if (n <= 0)
			die(path);
		done += (size_t)n;
	}
	close(fd);
	return data;
}

static void
find_entries(struct powerlog *l, size_t size)
{
	size_t off = 0;

	l->entries = get((size / sizeof(struct power_record) + 1) * sizeof(*l->entries));
	while (off + sizeof(struct power_record) <= size) {
		struct power_entry *e = &l->entries[l->n];

		memcpy(&e->head, l->raw + off, sizeof(e->head));
		e->data = l->raw + off + sizeof(e->head);
		off += sizeof(e->head) + e->head.len;
		if (off > size)
			break;
		l->n++;
	}
}

void
powerlog_open(struct powerlog *l, const char *base, const char *log)
{
	size_t size;

	memset(l, 0, sizeof(*l));
	l->base = read_whole(base, &l->size);
	l->disk = get(l->size);
	l->raw = read_whole(log, &size);
	find_entries(l, size);
}

void
powerlog_close(struct powerlog *l)
{
	free(l->base);
	free(l->disk);
	free(l->raw);
	free(l->entries);
	memset(l, 0, sizeof(*l));
}

uint64_t
powerlog_roll(struct powerlog *l)
{
	l->random = l->random * 6364136223846793005u + 1442695040888963407u;
	return l->random >> 33;
}

size_t
powerlog_at(const struct powerlog *l, size_t i)
{
	return (size_t)(l->entries[i].data - l->raw) - sizeof(struct power_record);
}

static size_t
last_flush(const struct powerlog *l, size_t cut)
{
	while (cut > 0 && l->entries[cut - 1].head.kind != POWER_FLUSH)
		cut--;
	return cut;
}

static void
put(struct powerlog *l, const struct power_entry *e, size_t from, size_t len)
{
	if (e->head.off + from + len <= l->size)
		memcpy(l->disk + e->head.off + from, e->data + from, len);
}

static void
put_some(struct powerlog *l, const struct power_entry *e, unsigned int one_in)
{
	for (size_t from = 0; from < e->head.len; from += PIECE) {
		size_t len = e->head.len - from < PIECE ? e->head.len - from : PIECE;

		if (powerlog_roll(l) % one_in != 0)
			put(l, e, from, len);
	}
}

void
powerlog_make(struct powerlog *l, size_t cut, unsigned int one_in)
{
	size_t flushed = last_flush(l, cut);

	memcpy(l->disk, l->base, l->size);
	for (size_t i = 0; i < cut; i++) {
		const struct power_entry *e = &l->entries[i];

		if (e->head.kind != POWER_WRITE)
			continue;
		if (i < flushed || one_in == 0)
			put(l, e, 0, e->head.len);
		else
			put_some(l, e, one_in);
	}
}
