/*
 * test_handlers.c - which programs are event handlers, and the variables of an event.
 *
 * The variables expected are those that vmcatcher 0.6 gave its handler for the same event
 * (tests/data/vmcatcher-0.6/events.log).
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/cleanup.h"
#include "core/field.h"
#include "core/handlers.h"
#include "core/jsonw.h"
#include "core/limits.h"
#include "core/safename.h"

/* ---- the directory --------------------------------------------------------------------------- */

struct bed {
	char dir[64];
	struct conf conf;
	struct buf said;
};

static int
setup(void **state)
{
	struct bed *bed = calloc(1, sizeof(*bed));

	snprintf(bed->dir, sizeof(bed->dir), "/tmp/test_handlers.XXXXXX");
	if (mkdtemp(bed->dir) == NULL || chmod(bed->dir, 0755) != 0)
		return -1;
	bed->conf.event_dir = bed->dir;
	buf_init(&bed->said);
	*state = bed;
	return 0;
}

static int
teardown(void **state)
{
	struct bed *bed = *state;
	DIR *dir = opendir(bed->dir);
	struct dirent *d;

	while (dir != NULL && (d = readdir(dir)) != NULL)
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0 &&
		    unlinkat(dirfd(dir), d->d_name, 0) != 0)
			unlinkat(dirfd(dir), d->d_name, AT_REMOVEDIR);
	if (dir != NULL)
		closedir(dir);
	rmdir(bed->dir);
	buf_release(&bed->said);
	free(bed);
	return 0;
}

static void
put(const struct bed *bed, const char *name, mode_t mode)
{
	char path[384];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", bed->dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, mode), 0);
}

static void
keep(void *arg, const char *text)
{
	buf_puts(arg, text);
	buf_putc(arg, '\n');
}

/* The names with a space behind each. */
static void
lists(struct bed *bed, const char *wanted)
{
	CLEANUP_BUF struct buf names = BUF_INIT;
	struct handlers list;
	struct err err = { 0 };

	buf_clear(&bed->said);
	if (handlers_list(&bed->conf, getuid(), &list, keep, &bed->said, &err) != 0)
		fail_msg("%s", err.text);
	for (size_t i = 0; i < list.n; i++)
		buf_printf(&names, "%s ", list.names[i]);
	handlers_release(&list);
	assert_string_equal(buf_str(&names), wanted);
}

static void
said(const struct bed *bed, const char *part)
{
	if (strstr(buf_str(&bed->said), part) == NULL)
		fail_msg("'%s' does not say '%s'", buf_str(&bed->said), part);
}

static void
lists_programs_by_name(void **state)
{
	struct bed *bed = *state;

	lists(bed, "");
	put(bed, "50-second", 0755);
	put(bed, "10-first.sh", 0755);
	put(bed, "Third_one", 0700);
	lists(bed, "10-first.sh 50-second Third_one ");
	bed->conf.event_command = (char[]){ "true" };
	lists(bed, "10-first.sh 50-second Third_one event_command ");
	bed->conf.event_dir = NULL;
	lists(bed, "event_command ");
	if (access(CONF_DEFAULT_EVENT_DIR, F_OK) != 0) {
		bed->conf.event_dir = (char[]){ CONF_DEFAULT_EVENT_DIR };
		lists(bed, "event_command ");
	}
	assert_string_equal(buf_str(&bed->said), "");
}

/* Else what waits for its handlers would be dropped. */
static void
named_directory_has_to_be_there(void **state)
{
	struct bed *bed = *state;
	struct handlers list;
	struct err err = { 0 };

	bed->conf.event_dir = (char[]){ "/nonexistent/handlers.d" };
	assert_int_equal(handlers_list(&bed->conf, geteuid(), &list, NULL, NULL, &err), -ENOENT);
	assert_string_equal(err.text,
			    "event_dir '/nonexistent/handlers.d': No such file or directory");
}

static void
passes_over_what_is_left_over(void **state)
{
	static const char *const names[] = {
		".hidden", "one.bak", "one~", "one.dpkg-old", "one.dpkg-dist", "one.rpmsave",
		"with space", "semi;colon", "one.swp"
	};
	struct bed *bed = *state;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		put(bed, names[i], 0755);
	lists(bed, "");
	assert_string_equal(buf_str(&bed->said), "");
}

static void
says_what_it_passes_over(void **state)
{
	struct bed *bed = *state;
	char path[128];

	put(bed, "README", 0644);
	put(bed, "anybodys", 0777);
	put(bed, "event_command", 0755);
	snprintf(path, sizeof(path), "%s/directory", bed->dir);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/dangling", bed->dir);
	assert_int_equal(symlink("/nonexistent", path), 0);
	snprintf(path, sizeof(path), "%s/link", bed->dir);
	assert_int_equal(symlink("/bin/sh", path), 0);
	lists(bed, "link ");
	said(bed, "/README' is passed over: it is not executable\n");
	said(bed, "/anybodys' is passed over: everybody can write it\n");
	said(bed, "/directory' is passed over: it is no regular file\n");
	said(bed, "/dangling' is passed over: No such file");
	said(bed, "the key event_command has this name");
}

static void
runs_nobody_elses_programs(void **state)
{
	struct bed *bed = *state;
	char path[128];

	if (geteuid() != 0)
		skip();
	put(bed, "one", 0755);
	snprintf(path, sizeof(path), "%s/one", bed->dir);
	assert_int_equal(chown(path, 12345, 12345), 0);
	lists(bed, "");
	assert_non_null(strstr(buf_str(&bed->said), "belongs neither to root nor to event_user"));
	assert_int_equal(chown(path, 0, 12345), 0);
	assert_int_equal(chmod(path, 0775), 0);
	lists(bed, "");
	said(bed, "its group can write it, and it would be run as root");
}

static void
refuses_directories_of_others(void **state)
{
	static const struct {
		uid_t owner;
		mode_t mode;
		const char *why;
	} dirs[] = {
		{ 0, 0777, "is writable by everyone" },
		{ 0, 0775, "its group can write it" },
		{ 12345, 0755, "belongs neither to root nor to event_user" },
	};
	struct bed *bed = *state;

	if (geteuid() != 0)
		skip();
	put(bed, "one", 0755);
	for (size_t i = 0; i < 3; i++) {
		struct handlers list;
		struct err err = { 0 };

		assert_int_equal(chown(bed->dir, dirs[i].owner, 12345), 0);
		assert_int_equal(chmod(bed->dir, dirs[i].mode), 0);
		assert_int_equal(handlers_list(&bed->conf, 0, &list, NULL, NULL, &err), -EPERM);
		assert_non_null(strstr(err.text, dirs[i].why));
	}
}

static void
refuses_a_crowd(void **state)
{
	struct bed *bed = *state;
	struct handlers list;
	struct err err = { 0 };
	char name[16];

	for (int i = 0; i <= LIMIT_HANDLERS; i++) {
		snprintf(name, sizeof(name), "h%02d", i);
		put(bed, name, 0755);
	}
	assert_int_equal(handlers_list(&bed->conf, getuid(), &list, NULL, NULL, &err), -E2BIG);
}

static void
path_is_checked_again(void **state)
{
	struct bed *bed = *state;
	struct err err = { 0 };
	char *path, wanted[128];

	put(bed, "one", 0755);
	snprintf(wanted, sizeof(wanted), "%s/one", bed->dir);
	assert_int_equal(handlers_path(&bed->conf, getuid(), "one", &path, &err), 0);
	assert_string_equal(path, wanted);
	free(path);
	assert_int_equal(chmod(wanted, 0644), 0);
	assert_int_equal(handlers_path(&bed->conf, getuid(), "one", &path, &err), -EPERM);
	assert_null(path);
	assert_int_equal(handlers_path(&bed->conf, getuid(), "two", &path, &err), -ENOENT);
	assert_int_equal(handlers_path(&bed->conf, getuid(), "../one", &path, &err), -ENOENT);
	assert_int_equal(handlers_path(&bed->conf, getuid(), "", &path, &err), -ENOENT);
}

/* ---- variables ------------------------------------------------------------------------------- */

static const char *const image[N_FIELDS] = {
	[FIELD_ID] = "265a07dd-ba19-556e-981c-7a5d4d170896",
	[FIELD_TITLE] = "Image smalla.img", [FIELD_DESCRIPTION] = "Test image smalla.img",
	[FIELD_VERSION] = "1.0", [FIELD_COMMENTS] = "No comment", [FIELD_OS] = "Linux",
	[FIELD_OSVERSION] = "Debian 12", [FIELD_ARCH] = "x86_64",
	[FIELD_HYPERVISOR] = "QEMU,KVM", [FIELD_FORMAT] = "raw", [FIELD_SIZE] = "67108864",
	[FIELD_SHA512] = "f6b0feb047de82f3522ca060684edd974a0595d6daa75844b089dde25e095e8250aae6c1"
			 "3d252ecb1c19b5f0991b961ae81f9e353eb56a4dc8acc4c02b7b22e1",
	[FIELD_URI] = "http://127.0.0.1:18480/img/smalla.img", [FIELD_VO] = "test.example.org",
	[FIELD_MPURI] = "https://appdb.example.org/store/vo/image/x:1/",
};

static void
write_record(struct buf *out, const char *type, const char *const *values)
{
	struct jsonw w;

	jsonw_begin(&w, out, false);
	jsonw_open(&w, NULL, '{');
	jsonw_string(&w, "uuid", "11111111-2222-3333-4444-555555555555");
	jsonw_string(&w, "session", "d238fa40-e5e5-11f1-9874-02fc00000001");
	jsonw_string(&w, "type", type);
	if (values != NULL) {
		jsonw_string(&w, "subscription", "63175437-7d59-4851-b333-c96cb6545a86");
		jsonw_string(&w, "filename", values[FIELD_ID]);
		jsonw_string(&w, "reason", "");
	}
	for (int i = 0; values != NULL && i < N_FIELDS; i++) {
		const char *value = values[i] != NULL ? values[i] : "";

		if (i == FIELD_SIZE)
			jsonw_integer(&w, field_table[i].column, strtoll(value, NULL, 10));
		else
			jsonw_string(&w, field_table[i].column, value);
	}
	jsonw_close(&w, '}');
}

static const struct event_setting setting = {
	.cache = "/c", .download = "/c/partial/", .expire = "/c/expired",
	.rdbms = "sqlite:////x.db",
};

/* The variables, one a line. */
static void
variables(const char *type, const char *const *values, const struct event_setting *s,
	  struct buf *lines)
{
	CLEANUP_BUF struct buf record = BUF_INIT;
	struct err err = { 0 };

	buf_init(lines);
	write_record(&record, type, values);
	if (event_variables(buf_str(&record), s, lines, &err) != 0)
		fail_msg("%s", err.text);
	for (size_t i = 0; i < lines->len; i++)
		if (lines->data[i] == '\0')
			lines->data[i] = '\n';
}

static bool
has_line(const struct buf *lines, const char *line)
{
	size_t len = strlen(line);

	for (const char *at = buf_str(lines); (at = strstr(at, line)) != NULL; at++)
		if ((at == lines->data || at[-1] == '\n') && at[len] == '\n')
			return true;
	return false;
}

/* Reads the first record of a type; returns how many variables it has. */
static int
compare_with_recorded(const char *type, const struct buf *lines)
{
	CLEANUP_FREE char *path = xasprintf("%s/tests/data/vmcatcher-0.6/events.log",
					    getenv("srcdir") != NULL ? getenv("srcdir") : ".");
	CLEANUP_FILE FILE *f = fopen(path, "r");
	char line[1024], head[64];
	bool inside = false;
	int n = 0;

	assert_non_null(f);
	snprintf(head, sizeof(head), "=== %s\n", type);
	while (fgets(line, sizeof(line), f) != NULL) {
		if (line[0] == '=' && inside)
			break;
		if (line[0] == '=') {
			inside = strcmp(line, head) == 0;
			continue;
		}
		if (!inside || line[0] == '\n')
			continue;
		line[strcspn(line, "\n")] = '\0';
		if (!has_line(lines, line))
			fail_msg("%s: no line '%s' in\n%s", type, line, buf_str(lines));
		n++;
	}
	return n;
}

static int
count_events(const struct buf *lines)
{
	int n = 0;

	for (const char *at = buf_str(lines); (at = strstr(at, "VMCATCHER_EVENT_")) != NULL; at++)
		n++;
	return n;
}

static void
variables_are_vmcatchers(void **state)
{
	static const char *const types[] = { "AvailablePrefix", "AvailablePostfix" };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		CLEANUP_BUF struct buf lines = BUF_INIT;
		int n;

		variables(types[i], image, &setting, &lines);
		n = compare_with_recorded(types[i], &lines);
		assert_int_equal(n, 19);
		/* And ours: the uuid of the event. */
		assert_int_equal(count_events(&lines), n + 1);
		assert_true(has_line(&lines, "VMCATCHER_EVENT_UUID="
					     "11111111-2222-3333-4444-555555555555"));
		assert_true(has_line(&lines, "VMCATCHER_RDBMS=sqlite:////x.db"));
		assert_true(has_line(&lines, "VMCATCHER_CACHE_DIR_CACHE=/c/"));
		assert_true(has_line(&lines, "VMCATCHER_CACHE_DIR_DOWNLOAD=/c/partial/"));
		assert_true(has_line(&lines, "VMCATCHER_CACHE_DIR_EXPIRE=/c/expired/"));
	}
}

static void
process_events_have_no_image(void **state)
{
	CLEANUP_BUF struct buf lines = BUF_INIT;
	struct event_setting run = setting;

	(void)state;
	run.session = "of-the-run";
	variables("ProcessPrefix", NULL, &run, &lines);
	assert_true(has_line(&lines, "VMCATCHER_EVENT_TYPE=ProcessPrefix"));
	assert_true(has_line(&lines, "VMCATCHER_EVENT_UUID_SESSION=of-the-run"));
	assert_int_equal(count_events(&lines), 3);
	assert_true(has_line(&lines, "VMCATCHER_CACHE_DIR_CACHE=/c/"));
}

static void
new_image_has_its_entry_alone(void **state)
{
	CLEANUP_BUF struct buf lines = BUF_INIT;

	(void)state;
	variables("SubscriptionImageNew", image, &setting, &lines);
	assert_true(has_line(&lines, "VMCATCHER_EVENT_DC_TITLE=Image smalla.img"));
	assert_true(has_line(&lines, "VMCATCHER_RDBMS=sqlite:////x.db"));
	for (size_t i = 0; i < 5; i++) {
		static const char *const absent[] = {
			"VMCATCHER_CACHE_DIR", "FILENAME", "IL_DC_IDENTIFIER", "_VO=", "HV_FORMAT"
		};

		assert_null(strstr(buf_str(&lines), absent[i]));
	}
}

static void
empty_fields_have_no_variable(void **state)
{
	CLEANUP_BUF struct buf lines = BUF_INIT;
	const char *some[N_FIELDS];

	(void)state;
	memcpy(some, image, sizeof(some));
	some[FIELD_COMMENTS] = some[FIELD_VO] = some[FIELD_FORMAT] = some[FIELD_MPURI] = "";
	variables("ExpirePostfix", some, &setting, &lines);
	assert_null(strstr(buf_str(&lines), "SL_COMMENTS"));
	assert_null(strstr(buf_str(&lines), "EVENT_VO"));
	assert_null(strstr(buf_str(&lines), "HV_FORMAT"));
	assert_null(strstr(buf_str(&lines), "AD_MPURI"));
}

static void
values_are_byte_for_byte(void **state)
{
	static const char nasty[] = "$(touch /tmp/p) `id` ; ' \" \\ () { :;}; %n%s "
				    "\xc3\xa9 \x1b[2J";
	CLEANUP_BUF struct buf lines = BUF_INIT;
	const char *some[N_FIELDS];
	char line[256];

	(void)state;
	memcpy(some, image, sizeof(some));
	some[FIELD_TITLE] = nasty;
	variables("AvailablePostfix", some, &setting, &lines);
	snprintf(line, sizeof(line), "VMCATCHER_EVENT_DC_TITLE=%s", nasty);
	assert_true(has_line(&lines, line));
}

/* It is removed with all below it by handlers that unpack an OVA there. */
static void
identifier_leads_nowhere_else(void **state)
{
	static const char *const odd[] = { "../../x", "..", "/etc", ".x", "-rf" };
	const char *some[N_FIELDS];

	(void)state;
	memcpy(some, image, sizeof(some));
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		CLEANUP_BUF struct buf lines = BUF_INIT;
		char name[SAFENAME_MAX + 32], line[256];

		some[FIELD_ID] = odd[i];
		variables("AvailablePostfix", some, &setting, &lines);
		safename_identifier(odd[i], name);
		assert_true(safename_is_safe(name) || strchr(name, '~') != NULL);
		snprintf(line, sizeof(line), "VMCATCHER_EVENT_DC_IDENTIFIER=%s", name);
		assert_true(has_line(&lines, line));
	}
	{
		CLEANUP_BUF struct buf lines = BUF_INIT;

		some[FIELD_ID] = "an odd one, but harmless";
		variables("AvailablePostfix", some, &setting, &lines);
		assert_true(has_line(&lines, "VMCATCHER_EVENT_DC_IDENTIFIER="
					     "an odd one, but harmless"));
	}
}

static void
long_values_pass(void **state)
{
	CLEANUP_BUF struct buf lines = BUF_INIT, text = BUF_INIT;
	const char *some[N_FIELDS];

	(void)state;
	/* Written as JSON each of them takes six bytes. */
	for (int i = 0; i < LIMIT_JSON_STRING / 2; i++)
		buf_puts(&text, "\xc2\x80");
	memcpy(some, image, sizeof(some));
	some[FIELD_DESCRIPTION] = buf_str(&text);
	variables("AvailablePostfix", some, &setting, &lines);
	assert_non_null(strstr(buf_str(&lines), buf_str(&text)));
}

static void
refuses_what_is_no_event(void **state)
{
	CLEANUP_BUF struct buf out = BUF_INIT;
	struct err err = { 0 };

	(void)state;
	assert_true(event_variables("{", &setting, &out, &err) < 0);
	assert_true(event_variables("{\"uuid\":\"x\"}", &setting, &out, &err) < 0);
	assert_true(event_variables("[]", &setting, &out, &err) < 0);
}

#define DIR_ROW(title, fn) { title, fn, setup, teardown, NULL }
#define ROW(title, fn) { title, fn, NULL, NULL, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		DIR_ROW("the handlers are event_command and the programs in event_dir, by name",
			lists_programs_by_name),
		DIR_ROW("an event_dir that is missing is not an empty one",
			named_directory_has_to_be_there),
		DIR_ROW("what editors and packages leave in event_dir is no handler",
			passes_over_what_is_left_over),
		DIR_ROW("P20 a file in event_dir that cannot be run is passed over, and why",
			says_what_it_passes_over),
		DIR_ROW("programs of other users, or that others could exchange, are not run",
			runs_nobody_elses_programs),
		DIR_ROW("a directory of handlers that others could change is not used",
			refuses_directories_of_others),
		DIR_ROW("more handlers than the limit are refused", refuses_a_crowd),
		DIR_ROW("a handler is looked at again before it is run", path_is_checked_again),
		ROW("the variables of an image's event are those of vmcatcher, and a unique id",
		    variables_are_vmcatchers),
		ROW("events of a run have no image", process_events_have_no_image),
		ROW("SubscriptionImageNew has what the list's entry says alone",
		    new_image_has_its_entry_alone),
		ROW("an empty field has no variable", empty_fields_have_no_variable),
		ROW("X01 what a list says arrives byte for byte", values_are_byte_for_byte),
		ROW("X01 an identifier that could lead out of a directory is told by its safe name",
		    identifier_leads_nowhere_else),
		ROW("a value of control characters is not too long for its own record",
		    long_values_pass),
		ROW("a record that is none is refused", refuses_what_is_no_event),
	};

	return cmocka_run_group_tests_name("handlers", tests, NULL, NULL);
}
