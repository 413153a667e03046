/*
 * tarbed.h - archives that are made byte by byte, and their index, for unit tests.
 *
 * The reader brings nothing but the blocks that are asked for, so that a test sees it when bytes
 * of a member are taken for a header.
 */
#ifndef VMI_TARBED_H
#define VMI_TARBED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/buf.h"
#include "core/cleanup.h"
#include "core/tarindex.h"

enum { SIZE = 124, SUM = 148, TYPE = 156, MAGIC = 257, PREFIX = 345 };

/* ---- making archives ----------------------------------------------------------------------- */

static inline void
put_sum(unsigned char *block)
{
	unsigned sum = 0;
	char octal[16];

	memset(block + SUM, ' ', 8);
	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += block[i];
	snprintf(octal, sizeof(octal), "%06o", sum);
	memcpy(block + SUM, octal, 7);
}

/* Room for a header at the end of the archive. */
static inline unsigned char *
new_block(struct buf *tar)
{
	static const unsigned char zeros[TAR_BLOCK];

	buf_add(tar, zeros, TAR_BLOCK);
	return (unsigned char *)tar->data + tar->len - TAR_BLOCK;
}

static inline unsigned char *
add_header(struct buf *tar, const char *name, char type, long long size)
{
	unsigned char *block = new_block(tar);
	char octal[32];

	for (size_t i = 0; i < 100 && name[i] != 0; i++)
		block[i] = (unsigned char)name[i];
	memcpy(block + 100, "0000644", 7);
	snprintf(octal, sizeof(octal), "%011llo", (unsigned long long)size);
	memcpy(block + SIZE, octal, 12);
	block[TYPE] = (unsigned char)type;
	memcpy(block + MAGIC, "ustar\00000", 8);
	put_sum(block);
	return block;
}

static inline void
add_data(struct buf *tar, const char *data, size_t len)
{
	buf_add(tar, data, len);
	while (tar->len % TAR_BLOCK != 0)
		buf_putc(tar, '\0');
}

static inline void
add_file(struct buf *tar, const char *name, const char *text)
{
	add_header(tar, name, '0', (long long)strlen(text));
	add_data(tar, text, strlen(text));
}

static inline void
add_pax(struct buf *tar, char type, const char *records)
{
	add_header(tar, "./PaxHeaders/x", type, (long long)strlen(records));
	add_data(tar, records, strlen(records));
}

static inline void
add_end(struct buf *tar)
{
	new_block(tar);
	new_block(tar);
}

/* ---- reading them -------------------------------------------------------------------------- */

static inline int
read_index(const struct buf *tar, struct tarindex *t, struct err *err)
{
	int64_t at;
	int rc = 0;

	tarindex_init(t, (int64_t)tar->len);
	while (rc == 0 && (at = tarindex_next(t)) >= 0) {
		assert_true(at % TAR_BLOCK == 0);
		assert_true((size_t)at + TAR_BLOCK <= tar->len);
		rc = tarindex_take(t, (const unsigned char *)tar->data + at, err);
	}
	return rc == 0 ? tarindex_end(t, err) : rc;
}

/* names: of all members, each followed by a space. */
static inline void
assert_taken(struct buf *tar, const char *names)
{
	CLEANUP_BUF struct buf found = BUF_INIT;
	struct tarindex t;
	struct err err = { 0 };

	if (read_index(tar, &t, &err) != 0)
		fail_msg("refused: %s", err.text);
	for (size_t i = 0; i < t.n; i++)
		buf_printf(&found, "%s ", t.members[i].name);
	assert_string_equal(buf_str(&found), names);
	tarindex_release(&t);
	buf_release(tar);
}

#endif
