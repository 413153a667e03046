/*
 * powerlog.h - what a disk was told: a file of records, each a header and, for writes, its bytes.
 *
 * Written by recorder, read by powercut.  In the order in which the disk was told, so that whatever
 * stands before a flush was on the disk when the flush was answered.
 */
#ifndef VMI_POWERLOG_H
#define VMI_POWERLOG_H

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

#endif
