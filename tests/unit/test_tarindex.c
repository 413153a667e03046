/*
 * test_tarindex.c - the members of an archive, from its headers.
 *
 * Archives are made here, byte by byte, and by GNU tar and Python's tarfile (bsdtar, where there is
 * one) from real files.  The reader below brings nothing but the blocks that are asked for, so that
 * a test sees it when bytes of a member are taken for a header.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/buf.h"
#include "core/cleanup.h"
#include "core/limits.h"
#include "core/tarindex.h"

enum { SIZE = 124, SUM = 148, TYPE = 156, MAGIC = 257, PREFIX = 345 };

/* ---- making archives ------------------------------------------------------------------------ */

static void
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
static unsigned char *
new_block(struct buf *tar)
{
	static const unsigned char zeros[TAR_BLOCK];

	buf_add(tar, zeros, TAR_BLOCK);
	return (unsigned char *)tar->data + tar->len - TAR_BLOCK;
}

static unsigned char *
add_header(struct buf *tar, const char *name, char type, long long size)
{
	unsigned char *block = new_block(tar);
	char octal[32];

	memcpy(block, name, strnlen(name, 100));
	memcpy(block + 100, "0000644", 7);
	snprintf(octal, sizeof(octal), "%011llo", (unsigned long long)size);
	memcpy(block + SIZE, octal, 12);
	block[TYPE] = (unsigned char)type;
	memcpy(block + MAGIC, "ustar\00000", 8);
	put_sum(block);
	return block;
}

static void
add_data(struct buf *tar, const char *data, size_t len)
{
	buf_add(tar, data, len);
	while (tar->len % TAR_BLOCK != 0)
		buf_putc(tar, '\0');
}

static void
add_file(struct buf *tar, const char *name, const char *text)
{
	add_header(tar, name, '0', (long long)strlen(text));
	add_data(tar, text, strlen(text));
}

static void
add_pax(struct buf *tar, char type, const char *records)
{
	add_header(tar, "./PaxHeaders/x", type, (long long)strlen(records));
	add_data(tar, records, strlen(records));
}

static void
add_end(struct buf *tar)
{
	new_block(tar);
	new_block(tar);
}

/* ---- reading them --------------------------------------------------------------------------- */

static int
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

/* Releases the archive. */
static void
assert_refused(struct buf *tar, const char *why)
{
	struct tarindex t;
	struct err err = { 0 };

	assert_int_equal(read_index(tar, &t, &err), -EPROTO);
	if (strstr(err.text, why) == NULL)
		fail_msg("'%s' is not said, but: %s", why, err.text);
	tarindex_release(&t);
	buf_release(tar);
}

/* names: of all members, each followed by a space. */
static void
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

static void
assert_member(const struct buf *tar, const struct tarindex *t, size_t i, const char *name,
	      const char *text)
{
	assert_true(i < t->n);
	assert_string_equal(t->members[i].name, name);
	assert_int_equal(t->members[i].size, strlen(text));
	assert_memory_equal(tar->data + t->members[i].off, text, strlen(text));
}

/* ---- good ones ------------------------------------------------------------------------------ */

static void
members_have_their_bytes(void **state)
{
	CLEANUP_BUF struct buf tar = BUF_INIT;
	struct tarindex t;
	struct err err = { 0 };

	(void)state;
	add_file(&tar, "b.ovf", "<Envelope/>");
	add_file(&tar, "c.mf", "");
	add_file(&tar, "a.vmdk", "disk of more than one block: "
		 "0123456789012345678901234567890123456789012345678901234567890123456789"
		 "0123456789012345678901234567890123456789012345678901234567890123456789"
		 "0123456789012345678901234567890123456789012345678901234567890123456789"
		 "0123456789012345678901234567890123456789012345678901234567890123456789"
		 "0123456789012345678901234567890123456789012345678901234567890123456789"
		 "0123456789012345678901234567890123456789012345678901234567890123456789"
		 "0123456789012345678901234567890123456789012345678901234567890123456789");
	add_file(&tar, "d", "x");
	add_end(&tar);
	assert_int_equal(read_index(&tar, &t, &err), 0);
	assert_int_equal(t.n, 4);
	assert_memory_equal(tar.data + t.members[0].off, "disk of more", 12);
	assert_int_equal(t.members[0].size, 519);
	assert_member(&tar, &t, 1, "b.ovf", "<Envelope/>");
	assert_member(&tar, &t, 2, "c.mf", "");
	assert_member(&tar, &t, 3, "d", "x");
	tarindex_release(&t);
}

static void
all_three_kinds_of_header_are_read(void **state)
{
	struct buf tar = BUF_INIT;
	unsigned char *block;

	(void)state;
	add_file(&tar, "posix", "1");
	block = add_header(&tar, "gnu", '0', 0);
	memcpy(block + MAGIC, "ustar  \0", 8);
	/* GNU has times where POSIX has a prefix. */
	memcpy(block + PREFIX, "14637312345", 11);
	put_sum(block);
	block = add_header(&tar, "old", '\0', 0);
	memset(block + MAGIC, 0, 8);
	memset(block + PREFIX, 'x', 20);
	put_sum(block);
	add_end(&tar);
	assert_taken(&tar, "gnu old posix ");
}

static void
a_size_may_be_base_256(void **state)
{
	CLEANUP_BUF struct buf tar = BUF_INIT;
	struct tarindex t;
	struct err err = { 0 };
	unsigned char *block;

	(void)state;
	block = add_header(&tar, "a", '0', 0);
	memset(block + SIZE, 0, 12);
	block[SIZE] = 0x80;
	block[SIZE + 10] = 2;
	block[SIZE + 11] = 1;
	put_sum(block);
	for (int i = 0; i < 2; i++)
		new_block(&tar);
	assert_int_equal(read_index(&tar, &t, &err), 0);
	assert_int_equal(t.n, 1);
	assert_int_equal(t.members[0].size, 513);
	tarindex_release(&t);
}

/* Only its headers are ever read, so that the archive need not be there. */
static void
a_member_may_have_more_than_8_gib(void **state)
{
	CLEANUP_BUF struct buf tar = BUF_INIT;
	const int64_t size = (9LL << 30) + 5;
	struct tarindex t;
	struct err err = { 0 };
	unsigned char *block = add_header(&tar, "disk", '0', 0);

	(void)state;
	memset(block + SIZE, 0, 12);
	block[SIZE] = 0x80;
	for (int i = 0; i < 8; i++)
		block[SIZE + 4 + i] = (unsigned char)(size >> (56 - 8 * i));
	put_sum(block);
	tarindex_init(&t, 10LL << 30);
	assert_int_equal(tarindex_take(&t, block, &err), 0);
	assert_int_equal(tarindex_next(&t), 512 + (9LL << 30) + 512);
	assert_int_equal(t.members[0].size, size);
	tarindex_release(&t);
}

static void
directories_are_passed_over(void **state)
{
	struct buf tar = BUF_INIT;
	unsigned char *block;

	(void)state;
	add_header(&tar, "./", '5', 0);
	add_header(&tar, "sub/", '5', 0);
	add_header(&tar, "sub/sub", '5', 0);
	block = add_header(&tar, "old/", '\0', 0);
	memset(block + MAGIC, 0, 8);
	put_sum(block);
	add_file(&tar, "./a", "1");
	add_file(&tar, ".//b", "2");
	add_end(&tar);
	assert_taken(&tar, "a b ");
}

static void
pax_headers_that_change_nothing_are_passed_over(void **state)
{
	struct buf tar = BUF_INIT;

	(void)state;
	add_pax(&tar, 'g', "21 comment=of no use\n");
	add_pax(&tar, 'x', "26 mtime=1700000000.12345\n31 SCHILY.xattr.user.a=path=/b\n");
	add_file(&tar, "a", "1");
	add_header(&tar, "./PaxHeaders/x", 'x', 0);
	add_file(&tar, "b", "2");
	add_end(&tar);
	assert_taken(&tar, "a b ");
}

static void
the_zeros_at_the_end_may_be_missing(void **state)
{
	struct buf tar = BUF_INIT;

	(void)state;
	add_file(&tar, "a", "1");
	assert_taken(&tar, "a ");
	add_file(&tar, "a", "1");
	new_block(&tar);
	assert_taken(&tar, "a ");
	/* Not even padded. */
	add_header(&tar, "a", '0', 3);
	buf_puts(&tar, "abc");
	assert_taken(&tar, "a ");
}

static void
nothing_is_read_after_the_end(void **state)
{
	struct buf tar = BUF_INIT;

	(void)state;
	add_file(&tar, "a", "1");
	add_end(&tar);
	add_header(&tar, "/etc/passwd", '2', 0);
	assert_taken(&tar, "a ");
}

static void
a_name_may_fill_its_field(void **state)
{
	struct buf tar = BUF_INIT;
	char name[102];

	(void)state;
	memset(name, 'n', 100);
	name[100] = '\0';
	add_file(&tar, name, "1");
	add_end(&tar);
	name[100] = ' ';
	name[101] = '\0';
	assert_taken(&tar, name);
}

static void
odd_names_are_made_safe(void **state)
{
	static const struct {
		const char *name, *shown;
	} cases[] = {
		{ "my disk.vmdk", "my_disk.vmdk " }, { ".hidden", "_hidden " },
		{ "-rf", "_rf " }, { "a\033[2Jb", "a_2Jb " }, { "..a", "_.a " }, { "...", "_.. " },
		{ "C:\\boot.ini", "C_boot.ini " }, { "d\xC3\xA9.vmdk", "d_.vmdk " },
		{ "two\nlines", "two_lines " }, { "~", "_ " },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf tar = BUF_INIT;

		add_file(&tar, cases[i].name, "1");
		add_end(&tar);
		assert_taken(&tar, cases[i].shown);
	}
}

static void
names_stay_apart_when_they_are_made_safe(void **state)
{
	CLEANUP_BUF struct buf tar = BUF_INIT;
	struct tarindex t;
	struct err err = { 0 };

	(void)state;
	add_file(&tar, "a b", "1");
	add_file(&tar, "a_b", "2");
	add_file(&tar, "a\tb", "3");
	add_file(&tar, "error", "4");
	add_file(&tar, "a b~", "5");
	add_end(&tar);
	assert_int_equal(read_index(&tar, &t, &err), 0);
	assert_int_equal(t.n, 5);
	assert_member(&tar, &t, 0, "a_b", "2");
	assert_member(&tar, &t, 1, "a_b_", "5");
	for (size_t i = 2; i < 4; i++) {
		assert_memory_equal(t.members[i].name, "a_b~", 4);
		assert_int_equal(strlen(t.members[i].name), 12);
	}
	assert_string_not_equal(t.members[2].name, t.members[3].name);
	assert_memory_equal(t.members[4].name, "error", 5);
	assert_int_not_equal(t.members[4].name[5], '\0');
	tarindex_release(&t);
}

/* ---- bad ones ------------------------------------------------------------------------------- */

static void
dangerous_names_refuse_the_archive(void **state)
{
	static const struct {
		const char *name;
		char type;
		const char *why;
	} cases[] = {
		{ "/etc/passwd", '0', "absolute name, '/etc/passwd'" },
		{ "//x", '0', "absolute name" },
		{ "/", '5', "absolute name" },
		{ "../x", '0', "'..' in its name, '../x'" },
		{ "a/../../x", '0', "'..' in its name" },
		{ "..", '0', "'..' in its name" },
		{ "../", '5', "'..' in its name" },
		{ "./../x", '0', "'..' in its name" },
		{ "a/..", '5', "'..' in its name" },
		{ "sub/x", '0', "'sub/x' of the archive lies in a directory" },
		{ "./sub/x", '0', "lies in a directory" },
		{ "", '0', "without a name" },
		{ ".", '0', "without a name" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf tar = BUF_INIT;

		add_file(&tar, "good", "1");
		add_header(&tar, cases[i].name, cases[i].type, 0);
		add_end(&tar);
		assert_refused(&tar, cases[i].why);
	}
}

static void
a_prefix_counts_as_part_of_the_name(void **state)
{
	static const struct {
		const char *prefix, *why;
	} cases[] = {
		{ "/etc", "absolute name, '/etc/x'" }, { "..", "'..' in its name, '../x'" },
		{ "sub", "'sub/x' of the archive lies in a directory" },
	};
	struct buf tar = BUF_INIT;
	unsigned char *block;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		block = add_header(&tar, "x", '0', 0);
		memcpy(block + PREFIX, cases[i].prefix, strlen(cases[i].prefix));
		put_sum(block);
		assert_refused(&tar, cases[i].why);
	}
	block = add_header(&tar, "x", '0', 0);
	memset(block + PREFIX, 'p', 155);
	put_sum(block);
	assert_refused(&tar, "lies in a directory");
}

static void
only_files_and_directories_are_taken(void **state)
{
	static const struct {
		char type;
		const char *why;
	} cases[] = {
		{ '1', "'x' of the archive is a hard link" }, { '2', "is a symbolic link" },
		{ '3', "is a device" }, { '4', "is a device" }, { '6', "is a fifo" },
		{ '7', "is a contiguous file" }, { 'S', "is a sparse file" },
		{ 'L', "is a header for a long name" }, { 'K', "is a header for a long name" },
		{ 'D', "of a type" }, { 'M', "of a type" }, { 'V', "of a type" },
		{ 'N', "of a type" }, { 'X', "of a type" }, { 'I', "of a type" },
		{ '8', "of a type" }, { '\xff', "of a type" }, { ' ', "of a type" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf tar = BUF_INIT;

		add_file(&tar, "good", "1");
		add_header(&tar, "x", cases[i].type, 0);
		add_end(&tar);
		assert_refused(&tar, cases[i].why);
	}
}

static void
pax_headers_that_change_a_member_refuse_the_archive(void **state)
{
	static const struct {
		const char *records, *why;
	} cases[] = {
		{ "20 path=/etc/passwd\n", "changes 'path'" },
		{ "9 path=a\n", "changes 'path'" },
		{ "14 linkpath=b\n", "changes 'linkpath'" },
		{ "9 size=9\n", "changes 'size'" },
		{ "22 GNU.sparse.major=1\n", "changes 'GNU.sparse.major'" },
		{ "28 GNU.sparse.realsize=1000\n", "changes 'GNU.sparse.realsize'" },
		{ "21 SUN.holesdata= 1 \n", "changes 'SUN.holesdata'" },
		{ "12 mtime=12\n9 path=a\n", "changes 'path'" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (int global = 0; global < 2; global++) {
			struct buf tar = BUF_INIT;

			add_pax(&tar, global ? 'g' : 'x', cases[i].records);
			add_file(&tar, "good", "1");
			add_end(&tar);
			assert_refused(&tar, cases[i].why);
		}
}

static void
malformed_pax_headers_refuse_the_archive(void **state)
{
	static const char *const cases[] = {
		"x", "\n", "8 path=a\n", "11 path=a\n", "0 path=a\n", "10path=a\n", "10 =aaaaa\n",
		"10 patha1\n", " 9 path=a\n", "99999999999999999999 path=a\n", "-9 path=a\n",
		"3 \n", "10 path=a", "4 =\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf tar = BUF_INIT;

		add_pax(&tar, 'x', cases[i]);
		add_file(&tar, "good", "1");
		add_end(&tar);
		assert_refused(&tar, "malformed");
	}
}

/* 64 records of 10 bytes lie over the boundary of two blocks; the bad one is the last. */
static void
a_pax_header_may_be_longer_than_a_block(void **state)
{
	CLEANUP_BUF struct buf records = BUF_INIT;
	struct buf tar = BUF_INIT;

	(void)state;
	for (int i = 0; i < 64; i++)
		buf_puts(&records, "9 atim=1\n");
	add_pax(&tar, 'x', buf_str(&records));
	add_file(&tar, "a", "1");
	add_end(&tar);
	assert_taken(&tar, "a ");
	buf_puts(&records, "9 path=a\n");
	add_pax(&tar, 'x', buf_str(&records));
	add_file(&tar, "a", "1");
	add_end(&tar);
	assert_refused(&tar, "changes 'path'");
}

static void
a_size_beyond_the_end_refuses_the_archive(void **state)
{
	struct buf tar = BUF_INIT;
	unsigned char *block;

	(void)state;
	add_header(&tar, "x", '0', 1025);
	new_block(&tar);
	new_block(&tar);
	assert_refused(&tar, "ends beyond the archive's 1536 bytes");
	add_header(&tar, "x", '0', 077777777777);
	assert_refused(&tar, "ends beyond");
	block = add_header(&tar, "x", '0', 0);
	memset(block + SIZE, 0xff, 12);
	block[SIZE] = 0x80;
	put_sum(block);
	assert_refused(&tar, "no valid size");
	block = add_header(&tar, "x", '0', 0);
	memset(block + SIZE, 0, 12);
	block[SIZE] = 0x80;
	memset(block + SIZE + 4, 0xff, 8);
	block[SIZE + 4] = 0x7f;
	put_sum(block);
	assert_refused(&tar, "9223372036854775807 bytes at 512, ends beyond");
	add_header(&tar, "x", 'x', 513);
	new_block(&tar);
	assert_refused(&tar, "pax header ends beyond");
}

static void
a_size_that_is_no_number_refuses_the_archive(void **state)
{
	static const char *const cases[] = {
		"           ", "0000000008 ", "-0000000001", "1 2        x", "0x10", "1e3", "+1",
	};
	struct buf tar = BUF_INIT;
	unsigned char *block;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		block = add_header(&tar, "x", '0', 0);
		memset(block + SIZE, 0, 12);
		memcpy(block + SIZE, cases[i], strlen(cases[i]));
		put_sum(block);
		new_block(&tar);
		if (i == 3) {		/* what follows the number is nobody's business */
			assert_taken(&tar, "x ");
			continue;
		}
		assert_refused(&tar, "no valid size");
	}
	block = add_header(&tar, "x", '0', 0);
	memset(block + SIZE, 0xff, 12);
	put_sum(block);
	assert_refused(&tar, "no valid size");
}

static void
a_wrong_sum_refuses_the_archive(void **state)
{
	struct buf tar = BUF_INIT;

	(void)state;
	add_file(&tar, "a", "1");
	add_header(&tar, "b", '0', 0)[0] = 'c';
	add_end(&tar);
	assert_refused(&tar, "no tar header at 1024");
}

static void
another_magic_refuses_the_archive(void **state)
{
	static const char *const cases[] = { "ustar\00001", "USTAR\00000", "ustar 00", "xxxxxxxx" };
	struct buf tar = BUF_INIT;
	unsigned char *block;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		block = add_header(&tar, "a", '0', 0);
		memcpy(block + MAGIC, cases[i], 8);
		put_sum(block);
		assert_refused(&tar, "no tar header at 0");
	}
}

static void
what_is_no_tar_is_refused(void **state)
{
	struct buf tar = BUF_INIT;

	(void)state;
	add_data(&tar, "QFI\xfb, a disk and no archive", 27);
	assert_refused(&tar, "no tar header at 0");
	assert_refused(&tar, "no members");
	buf_puts(&tar, "short");
	assert_refused(&tar, "no members");
	for (int i = 0; i < 20; i++)
		new_block(&tar);
	assert_refused(&tar, "no members");
}

static void
a_header_after_zeros_refuses_the_archive(void **state)
{
	struct buf tar = BUF_INIT;

	(void)state;
	add_file(&tar, "a", "1");
	new_block(&tar);
	add_file(&tar, "b", "1");
	add_end(&tar);
	assert_refused(&tar, "follows the end");
}

static void
two_members_of_one_name_refuse_the_archive(void **state)
{
	struct buf tar = BUF_INIT;

	(void)state;
	add_file(&tar, "a", "1");
	add_file(&tar, "a", "2");
	add_end(&tar);
	assert_refused(&tar, "two members 'a'");
	add_file(&tar, "a", "1");
	add_file(&tar, "./a", "2");
	add_end(&tar);
	assert_refused(&tar, "two members 'a'");
}

static void
a_directory_with_a_size_refuses_the_archive(void **state)
{
	struct buf tar = BUF_INIT;

	(void)state;
	add_header(&tar, "a/", '5', 512);
	add_file(&tar, "hidden", "1");
	add_end(&tar);
	assert_refused(&tar, "has a size");
}

static void
members_and_headers_are_bounded(void **state)
{
	struct buf tar = BUF_INIT;
	char name[16];

	(void)state;
	for (int i = 0; i <= LIMIT_TAR_MEMBERS; i++) {
		snprintf(name, sizeof(name), "%d", i);
		add_file(&tar, name, "");
	}
	add_end(&tar);
	assert_refused(&tar, "more than 100 members");
	for (int i = 0; i < 10000; i++)
		add_header(&tar, "d", '5', 0);
	add_end(&tar);
	assert_refused(&tar, "more than 1000 blocks");
}

static void
every_cut_and_every_changed_byte_is_survived(void **state)
{
	struct buf tar = BUF_INIT;
	struct tarindex t;
	struct err err = { 0 };
	size_t whole;

	(void)state;
	add_pax(&tar, 'x', "12 mtime=12\n");
	add_file(&tar, "a b", "1");
	add_file(&tar, "c", "2");
	add_end(&tar);
	whole = tar.len;
	for (tar.len = 0; tar.len <= whole; tar.len++) {
		read_index(&tar, &t, &err);
		tarindex_release(&t);
	}
	tar.len = whole;
	for (size_t i = 0; i < whole; i++)
		for (int bit = 0; bit < 8; bit++) {
			tar.data[i] = (char)(tar.data[i] ^ 1 << bit);
			if (i < SUM || (i >= SUM + 8 && i < TAR_BLOCK))
				assert_int_equal(read_index(&tar, &t, &err), -EPROTO);
			else
				read_index(&tar, &t, &err);
			tarindex_release(&t);
			tar.data[i] = (char)(tar.data[i] ^ 1 << bit);
		}
	buf_release(&tar);
}

/* ---- what programs write -------------------------------------------------------------------- */

static char dir[32];

static void
run(const char *program, const char *const argv[])
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		union { const char *const *c; char *const *w; } args = { argv };

		if (chdir(dir) == 0)
			execvp(program, args.w);
		_exit(127);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		skip();
	assert_int_equal(status, 0);
}

static void
write_file(const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
	assert_int_equal(fclose(f), 0);
}

/* Reads the archive that a program has made of three files; removes it. */
static void
assert_three_members(void)
{
	CLEANUP_BUF struct buf tar = BUF_INIT;
	struct tarindex t;
	struct err err = { 0 };
	char path[128], bytes[4096];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/x.ova", dir);
	f = fopen(path, "r");
	assert_non_null(f);
	while ((n = fread(bytes, 1, sizeof(bytes), f)) > 0)
		buf_add(&tar, bytes, n);
	fclose(f);
	unlink(path);
	if (read_index(&tar, &t, &err) != 0)
		fail_msg("refused: %s", err.text);
	assert_int_equal(t.n, 3);
	assert_member(&tar, &t, 0, "disk1.vmdk", "KDMV and so on");
	assert_member(&tar, &t, 1, "vm.mf", "");
	assert_member(&tar, &t, 2, "vm.ovf", "<Envelope/>\n");
	tarindex_release(&t);
}

static int
make_files(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/test_tarindex.XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	write_file("disk1.vmdk", "KDMV and so on");
	write_file("vm.mf", "");
	write_file("vm.ovf", "<Envelope/>\n");
	return 0;
}

static int
remove_files(void **state)
{
	static const char *const names[] = { "/disk1.vmdk", "/vm.mf", "/vm.ovf", "" };
	char path[128];

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s%s", dir, names[i]);
		remove(path);
	}
	return 0;
}

static void
gnu_tar_is_read(void **state)
{
	static const char *const formats[] = {
		"--format=ustar", "--format=gnu", "--format=v7", "--format=oldgnu", "--format=posix",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		const char *const files[] = { "tar", formats[i], "-cf", "x.ova", "vm.ovf", "vm.mf",
					      "disk1.vmdk", NULL };
		const char *const all[] = { "tar", formats[i], "--exclude=./x.ova", "-cf", "x.ova",
					    ".", NULL };

		run("tar", files);
		assert_three_members();
		run("tar", all);
		assert_three_members();
	}
}

static void
python_tarfile_is_read(void **state)
{
	static const char *const formats[] = { "USTAR_FORMAT", "GNU_FORMAT", "PAX_FORMAT" };
	static const char program[] =
		"import sys, tarfile\n"
		"with tarfile.open('x.ova', 'w', format=getattr(tarfile, sys.argv[1])) as t:\n"
		"    for name in ('vm.ovf', 'disk1.vmdk', 'vm.mf'):\n"
		"        t.add(name)\n";

	(void)state;
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		const char *const argv[] = { "python3", "-c", program, formats[i], NULL };

		run("python3", argv);
		assert_three_members();
	}
}

static void
bsdtar_is_read(void **state)
{
	static const char *const formats[] = { "ustar", "gnutar", "v7", "pax" };

	(void)state;
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		const char *const argv[] = { "bsdtar", "--format", formats[i], "-cf", "x.ova",
					     "vm.ovf", "vm.mf", "disk1.vmdk", NULL };

		run("bsdtar", argv);
		assert_three_members();
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		{ "members have their bytes",
		  members_have_their_bytes, NULL, NULL, NULL },
		{ "all three kinds of header are read",
		  all_three_kinds_of_header_are_read, NULL, NULL, NULL },
		{ "a size may be base 256",
		  a_size_may_be_base_256, NULL, NULL, NULL },
		{ "a member may have more than 8 GiB",
		  a_member_may_have_more_than_8_gib, NULL, NULL, NULL },
		{ "directories are passed over",
		  directories_are_passed_over, NULL, NULL, NULL },
		{ "pax headers that change nothing are passed over",
		  pax_headers_that_change_nothing_are_passed_over, NULL, NULL, NULL },
		{ "the zeros at the end may be missing",
		  the_zeros_at_the_end_may_be_missing, NULL, NULL, NULL },
		{ "nothing is read after the end",
		  nothing_is_read_after_the_end, NULL, NULL, NULL },
		{ "a name may fill its field",
		  a_name_may_fill_its_field, NULL, NULL, NULL },
		{ "odd names are made safe",
		  odd_names_are_made_safe, NULL, NULL, NULL },
		{ "names stay apart when they are made safe",
		  names_stay_apart_when_they_are_made_safe, NULL, NULL, NULL },
		{ "dangerous names refuse the archive",
		  dangerous_names_refuse_the_archive, NULL, NULL, NULL },
		{ "a prefix counts as part of the name",
		  a_prefix_counts_as_part_of_the_name, NULL, NULL, NULL },
		{ "only files and directories are taken",
		  only_files_and_directories_are_taken, NULL, NULL, NULL },
		{ "pax headers that change a member refuse the archive",
		  pax_headers_that_change_a_member_refuse_the_archive, NULL, NULL, NULL },
		{ "malformed pax headers refuse the archive",
		  malformed_pax_headers_refuse_the_archive, NULL, NULL, NULL },
		{ "a pax header may be longer than a block",
		  a_pax_header_may_be_longer_than_a_block, NULL, NULL, NULL },
		{ "a size beyond the end refuses the archive",
		  a_size_beyond_the_end_refuses_the_archive, NULL, NULL, NULL },
		{ "a size that is no number refuses the archive",
		  a_size_that_is_no_number_refuses_the_archive, NULL, NULL, NULL },
		{ "a wrong sum refuses the archive",
		  a_wrong_sum_refuses_the_archive, NULL, NULL, NULL },
		{ "another magic refuses the archive",
		  another_magic_refuses_the_archive, NULL, NULL, NULL },
		{ "what is no tar is refused",
		  what_is_no_tar_is_refused, NULL, NULL, NULL },
		{ "a header after zeros refuses the archive",
		  a_header_after_zeros_refuses_the_archive, NULL, NULL, NULL },
		{ "two members of one name refuse the archive",
		  two_members_of_one_name_refuse_the_archive, NULL, NULL, NULL },
		{ "a directory with a size refuses the archive",
		  a_directory_with_a_size_refuses_the_archive, NULL, NULL, NULL },
		{ "members and headers are bounded",
		  members_and_headers_are_bounded, NULL, NULL, NULL },
		{ "every cut and every changed byte is survived",
		  every_cut_and_every_changed_byte_is_survived, NULL, NULL, NULL },
		{ "what GNU tar writes is read", gnu_tar_is_read, make_files, remove_files, NULL },
		{ "what Python's tarfile writes is read", python_tarfile_is_read, make_files, remove_files, NULL },
		{ "what bsdtar writes is read", bsdtar_is_read, make_files, remove_files, NULL },
	};

	return cmocka_run_group_tests_name("tarindex", tests, NULL, NULL);
}
