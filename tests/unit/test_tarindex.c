/*
 * test_tarindex.c - the members of an archive, from its headers.
 *
 * Archives are made by tarbed.h, and by GNU tar and Python's tarfile (bsdtar, where there is one)
 * from real files.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/buf.h"
#include "core/cleanup.h"
#include "core/tarindex.h"
#include "tests/unit/tarbed.h"

/* ---- good ones ----------------------------------------------------------------------------- */

static void
assert_member(const struct buf *tar, const struct tarindex *t, size_t i, const char *name,
	      const char *text)
{
	assert_true(i < t->n);
	assert_string_equal(t->members[i].name, name);
	assert_int_equal(t->members[i].size, strlen(text));
	assert_memory_equal(tar->data + t->members[i].off, text, strlen(text));
}

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

/* ---- what programs write ------------------------------------------------------------------- */

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
		"--format=ustar", "--format=gnu", "--format=v7", "--format=oldgnu",
		"--format=posix",
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
		{ "what GNU tar writes is read", gnu_tar_is_read, make_files, remove_files, NULL },
		{ "what Python's tarfile writes is read", python_tarfile_is_read, make_files,
		  remove_files, NULL },
		{ "what bsdtar writes is read", bsdtar_is_read, make_files, remove_files, NULL },
	};

	return cmocka_run_group_tests_name("tarindex", tests, NULL, NULL);
}
