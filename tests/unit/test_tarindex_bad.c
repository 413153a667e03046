/*
 * test_tarindex_bad.c - archives whose members are not to be had: each is refused with the
 * reason, and none is read beyond its end.
 */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "core/buf.h"
#include "core/cleanup.h"
#include "core/limits.h"
#include "core/tarindex.h"
#include "tests/unit/tarbed.h"

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

int
main(void)
{
	const struct CMUnitTest tests[] = {
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
	};

	return cmocka_run_group_tests_name("tarindex_bad", tests, NULL, NULL);
}
