/*
 * test_field.c - the field table, and the variables of events.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/field.h"
#include "core/safename.h"

static void
table_is_indexed_by_id(void **state)
{
	int n_required = 0;

	(void)state;
	for (int i = 0; i < N_FIELDS; i++) {
		assert_int_equal(field_table[i].id, i);
		assert_non_null(field_table[i].column);
		n_required += field_table[i].required ? 1 : 0;
		for (int k = 0; k < i; k++)
			assert_string_not_equal(field_table[i].column, field_table[k].column);
		if (field_table[i].file != NULL)
			assert_true(safename_is_safe(field_table[i].file));
	}
	assert_int_equal(n_required, 12);
}

static void
fill(struct image_meta *m)
{
	memset(m, 0, sizeof(*m));
	for (int i = 0; i < N_FIELDS; i++)
		m->value[i] = xasprintf("value of %s", field_table[i].column);
	m->json = xstrdup("{}");
	m->size = 7;
	m->created = 1;
	m->expires = 2;
}

static void
released_values_are_empty(void **state)
{
	struct image_meta m;

	(void)state;
	fill(&m);
	image_meta_release(&m);
	assert_null(m.value[FIELD_ID]);
	assert_null(m.value[FIELD_MPURI]);
	assert_null(m.json);
	assert_int_equal(m.size, 0);
	image_meta_release(&m);
}

static void
variables_are_vmcatchers(void **state)
{
	static const char *const names[] = {
		"DC_DESCRIPTION", "DC_IDENTIFIER", "DC_TITLE", "HV_HYPERVISOR", "HV_SIZE",
		"HV_URI", "HV_VERSION", "HV_FORMAT", "SL_ARCH", "SL_CHECKSUM_SHA512",
		"SL_COMMENTS", "SL_OS", "SL_OSVERSION", "AD_MPURI", "IL_DC_IDENTIFIER",
		"FILENAME", "VO",
	};
	struct buf out = BUF_INIT;
	struct image_meta m;
	size_t lines = 0;

	(void)state;
	fill(&m);
	image_meta_environment(&m, "list", "file", &out);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char *start = xasprintf("VMCATCHER_EVENT_%s='", names[i]);

		if (strstr(buf_str(&out), start) == NULL)
			fail_msg("%s is missing", names[i]);
		free(start);
	}
	for (size_t i = 0; i < out.len; i++)
		lines += out.data[i] == '\n' ? 1 : 0;
	assert_int_equal(lines, sizeof(names) / sizeof(names[0]));
	buf_release(&out);
	image_meta_release(&m);
}

static void
empty_values_have_no_variable(void **state)
{
	struct image_meta m = { .size = 0 };
	struct buf out = BUF_INIT;

	(void)state;
	m.value[FIELD_ID] = xstrdup("id");
	m.value[FIELD_TITLE] = xstrdup("");
	image_meta_environment(&m, NULL, NULL, &out);
	assert_string_equal(buf_str(&out), "VMCATCHER_EVENT_DC_IDENTIFIER='id'\n");
	buf_release(&out);
	image_meta_release(&m);
}

/* Runs a real shell on the file; what it found in the title's variable goes to path.out. */
static void
shell_prints_title(const char *path)
{
	static const char script[] =
		". \"$1\" && printf %s \"$VMCATCHER_EVENT_DC_TITLE\" >\"$1.out\"";
	pid_t pid = fork();
	int status;

	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", script, "sh", path, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void
a_shell_reads_values_back(void **state)
{
	static const char title[] =
		"it's \"quoted\" `id` $(id) $HOME \\ \n second line '' ' ; exit 7 # \xC3\xA9";
	struct image_meta m = { .size = 0 };
	struct buf out = BUF_INIT;
	char got[sizeof(title) + 16] = "";
	char path[] = "/tmp/test_field.XXXXXX";
	char *printed = NULL;
	int fd = mkstemp(path);
	FILE *f;

	(void)state;
	assert_true(fd >= 0);
	m.value[FIELD_TITLE] = xstrdup(title);
	image_meta_environment(&m, NULL, NULL, &out);
	assert_int_equal(write(fd, out.data, out.len), out.len);
	close(fd);
	shell_prints_title(path);
	printed = xasprintf("%s.out", path);
	f = fopen(printed, "r");
	assert_non_null(f);
	assert_int_equal(fread(got, 1, sizeof(got) - 1, f), sizeof(title) - 1);
	fclose(f);
	assert_string_equal(got, title);
	unlink(printed);
	unlink(path);
	free(printed);
	buf_release(&out);
	image_meta_release(&m);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		{ "a field stands at its number, with a column and a file of its own",
		  table_is_indexed_by_id, NULL, NULL, NULL },
		{ "an image's metadata that were released are empty", released_values_are_empty,
		  NULL, NULL, NULL },
		{ "an event carries the variables that vmcatcher's events carry",
		  variables_are_vmcatchers, NULL, NULL, NULL },
		{ "an empty field has no variable", empty_values_have_no_variable,
		  NULL, NULL, NULL },
		{ "a shell reads every value back byte for byte and runs none of it",
		  a_shell_reads_values_back, NULL, NULL, NULL },
	};

	return cmocka_run_group_tests_name("field", tests, NULL, NULL);
}
