/*
 * powerlog.h - what a disk was told: a file of records, each a header and, for writes, its bytes.
 *
 * Written by recorder, read by powercut and powerdisk.  In the order in which the disk was told, so
 * that whatever stands before a flush was on the disk when the flush was answered.
 */
#ifndef VMI_POWERLOG_H
#define VMI_POWERLOG_H

#include <stddef.h>
#include <stdint.h>

enum power_kind {
	POWER_WRITE = 'W',
	POWER_FLUSH = 'F',
	POWER_MARK = 'M',		/* off is its number: somebody was told that it is done */
};

struct power_record {
	uint32_t kind, len;
	uint64_t off;
};

struct power_entry {
	struct power_record head;
	const unsigned char *data;	/* of a write */
};

/* A log, the disk as it was before, and one that is made of both. */
struct powerlog {
	struct power_entry *entries;
	size_t n;
	unsigned char *base, *disk;
	size_t size;			/* of the disk */
	unsigned char *raw;
	uint64_t random;
};

/* Ends the program if it cannot. */
void powerlog_open(struct powerlog *l, const char *base, const char *log);
void powerlog_close(struct powerlog *l);

uint64_t powerlog_roll(struct powerlog *l);

/* Where the entry begins in the file. */
size_t powerlog_at(const struct powerlog *l, size_t i);

/*
 * l->disk as it could be after the first cut entries.  Of what was not flushed one in so many
 * pieces of 4 KiB is missing; 0: none.
 */
void powerlog_make(struct powerlog *l, size_t cut, unsigned int one_in);

#endif
