/*
 * test_conf.c - the configuration file: what it may say, and what is said when it is wrong.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/conf.h"

static char dir[] = "/tmp/test_conf.XXXXXX";
static char file[64], dropins[64];

static int
make_dir(void **state)
{
	(void)state;
	memcpy(dir, "/tmp/test_conf.XXXXXX", sizeof(dir));
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(file, sizeof(file), "%s/main.conf", dir);
	snprintf(dropins, sizeof(dropins), "%s/conf.d", dir);
	return mkdir(dropins, 0755);
}

static void
remove_in(const char *where, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", where, name);
	unlink(path);
}

static int
remove_dir(void **state)
{
	(void)state;
	remove_in(dropins, "10-a.conf");
	remove_in(dropins, "20-b.conf");
	remove_in(dropins, "README");
	rmdir(dropins);
	unlink(file);
	rmdir(file);
	return rmdir(dir);
}

static void
put(const char *where, const char *name, const char *text, size_t len)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", where, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static void
put_main(const char *text)
{
	put(dir, "main.conf", text, strlen(text));
}

/*
 * Loads the main file; it must be refused with the errno value, and the sentence must hold
 * a part.
 */
static void
refused(int errnum, const char *part)
{
	struct conf *conf;
	struct err err = { 0 };

	assert_int_equal(conf_load(file, &conf, &err), -errnum);
	assert_null(conf);
	if (strstr(err.text, part) == NULL)
		fail_msg("'%s' does not say '%s'", err.text, part);
}

static struct conf *
load(void)
{
	struct conf *conf;
	struct err err = { 0 };

	if (conf_load_from(file, false, dropins, &conf, &err) != 0)
		fail_msg("%s", err.text);
	return conf;
}

struct wanted {
	const char *key, *value, *origin;
	int n;
};

static void
compare(void *arg, const char *key, const char *value, const char *origin)
{
	struct wanted *w = arg;

	if (strcmp(key, w->key) != 0)
		return;
	w->n++;
	assert_string_equal(value, w->value);
	assert_string_equal(origin, w->origin);
}

static void
shows(const struct conf *conf, const char *key, const char *value, const char *origin)
{
	struct wanted w = { key, value, origin, 0 };

	conf_each(conf, compare, &w);
	assert_int_equal(w.n, 1);
}

static void
has_defaults(void **state)
{
	struct conf *conf = load();

	(void)state;
	assert_null(conf->file);
	assert_string_equal(conf->state_dir, "/var/lib/vmimagefs");
	assert_string_equal(conf->mountpoint, "/vmimages");
	assert_null(conf->tls_ca);
	assert_null(conf->file_prefix);
	assert_null(conf->proxy);
	assert_null(conf->group);
	assert_int_equal(conf->update_interval, 6 * 3600);
	assert_int_equal(conf->expire_interval, 60);
	assert_int_equal(conf->max_valid_time, 0);
	assert_int_equal(conf->crl_strict, 0);
	assert_int_equal(conf->select_new, SELECT_NONE);
	assert_int_equal(conf->expire_keep, KEEP_ALWAYS);
	assert_int_equal(conf->expired_open_deny, 0);
	assert_int_equal(conf->cache_min_free_percent, 5);
	assert_int_equal(conf->read_timeout, 3600);
	assert_int_equal(conf->block_timeout, 25);
	assert_int_equal(conf->fill, FILL_IDLE);
	assert_int_equal(conf->integrity, INTEGRITY_READ);
	assert_null(conf->attestation);
	assert_int_equal(conf->fetch_parallel, 4);
	assert_int_equal(conf->limit_rate, 0);
	assert_int_equal(conf->prefetch, PREFETCH_AUTO);
	assert_string_equal(conf->user, "vmimagefs");
	assert_int_equal(conf->log_to_stderr, 0);
	assert_int_equal(conf->log_level, LOG_LVL_INFO);
	shows(conf, "read_timeout", "1h", "default");
	shows(conf, "tls_ca", "system", "default");
	conf_free(conf);
}

static void
reads_values(void **state)
{
	struct conf *conf;
	char origin[80];

	(void)state;
	put_main(
		"# a comment\n\n  state_dir =  //srv///state/./x/ # and another\r\n"
		"update_interval=off\nexpire_keep = 30d\ncache_min_free = 20G\nlimit_rate = 1500K\n"
		"select_new = all\ncrl_strict = yes\nexpired_open = deny\nread_timeout = 0\n"
		"proxy = http://me:secret@proxy:3128\ntls_ca = /etc/ca#1.pem\nlog_level = debug\n"
		"tls_ca.76fdee70-8119-5d33-bb24-4a4dc8ee5aac = /etc/igtf\ntls_ca.other = system");
	conf = load();
	assert_string_equal(conf->file, file);
	assert_string_equal(conf->state_dir, "/srv/state/x");
	assert_int_equal(conf->update_interval, 0);
	assert_int_equal(conf->expire_keep, KEEP_AGE);
	assert_int_equal(conf->expire_keep_age, 30 * 86400);
	assert_int_equal(conf->cache_min_free_percent, -1);
	assert_true(conf->cache_min_free == 20LL << 30);
	assert_int_equal(conf->limit_rate, 1500 << 10);
	assert_int_equal(conf->select_new, SELECT_ALL);
	assert_int_equal(conf->crl_strict, 1);
	assert_int_equal(conf->expired_open_deny, 1);
	assert_int_equal(conf->read_timeout, 0);
	assert_int_equal(conf->log_level, LOG_LVL_DEBUG);
	assert_string_equal(conf_tls_ca(conf, "76fdee70-8119-5d33-bb24-4a4dc8ee5aac"), "/etc/igtf");
	assert_string_equal(conf_tls_ca(conf, "unnamed"), "/etc/ca#1.pem");
	assert_null(conf_tls_ca(conf, "other"));
	snprintf(origin, sizeof(origin), "%s:5", file);
	shows(conf, "expire_keep", "30d", origin);
	conf_free(conf);
}

static void
hides_the_proxys_password(void **state)
{
	struct conf *conf;
	char origin[80];

	(void)state;
	put_main("proxy = http://me:secret@proxy:3128\n");
	conf = load();
	assert_string_equal(conf->proxy, "http://me:secret@proxy:3128");
	snprintf(origin, sizeof(origin), "%s:1", file);
	shows(conf, "proxy", "http://***@proxy:3128", origin);
	conf_free(conf);
}

static void
dropins_override_in_order(void **state)
{
	struct conf *conf;
	char origin[80];

	(void)state;
	put_main("fetch_parallel = 1\nuser = one\n");
	put(dropins, "20-b.conf", "fetch_parallel = 3\n", 19);
	put(dropins, "10-a.conf", "fetch_parallel = 2\nuser = two\n", 30);
	put(dropins, "README", "not = read\n", 11);
	conf = load();
	assert_int_equal(conf->fetch_parallel, 3);
	assert_string_equal(conf->user, "two");
	snprintf(origin, sizeof(origin), "%s/10-a.conf:2", dropins);
	shows(conf, "user", "two", origin);
	conf_free(conf);
}

static void
command_line_overrides(void **state)
{
	struct conf *conf;
	struct err err;

	(void)state;
	put_main("cache_dir = /a\n");
	conf = load();
	assert_int_equal(conf_set(conf, "cache_dir", "/b", "command line", &err), 0);
	assert_int_equal(conf_set(conf, "cache_dir", "/c", "command line", &err), 0);
	shows(conf, "cache_dir", "/c", "command line");
	assert_int_equal(conf_set(conf, "cache_dir", "relative", "command line", &err), -EINVAL);
	shows(conf, "cache_dir", "/c", "command line");
	conf_free(conf);
}

static void
refuses_missing_file(void **state)
{
	(void)state;
	refused(ENOENT, "no such configuration file");
}

static void
refuses_directory(void **state)
{
	(void)state;
	assert_int_equal(mkdir(file, 0755), 0);
	refused(EISDIR, "is a directory");
}

static void
refuses_huge_file(void **state)
{
	int fd;

	(void)state;
	fd = open(file, O_WRONLY | O_CREAT, 0644);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 1LL << 30), 0);
	close(fd);
	refused(EFBIG, "larger than");
}

static void
refuses_fifo(void **state)
{
	(void)state;
	assert_int_equal(mkfifo(file, 0644), 0);
	refused(EINVAL, "not a regular file");
}

static void
refuses_binary_file(void **state)
{
	(void)state;
	put(dir, "main.conf", "user = a\n\0\1\2", 12);
	refused(EINVAL, "not a text file");
	put(dir, "main.conf", "user = a\n\x7f" "ELF\x02\x01", 15);
	refused(EINVAL, "main.conf:2");
}

static void
refuses_world_writable_file(void **state)
{
	(void)state;
	put_main("user = a\n");
	assert_int_equal(chmod(file, 0646), 0);
	refused(EPERM, "chmod o-w");
}

static void
refuses_unknown_key(void **state)
{
	(void)state;
	put_main("user = a\n\nuzer = b\n");
	refused(EINVAL, "main.conf:3: unknown key 'uzer'");
}

static void
refuses_repeated_key(void **state)
{
	(void)state;
	put_main("user = a\ngroup = g\nuser = b\n");
	refused(EINVAL, "main.conf:3: key 'user' stands here twice: first in line 1");
	put_main("tls_ca.x = /a\ntls_ca.x = /b\n");
	refused(EINVAL, "stands here twice");
}

static void
refuses_later_keys(void **state)
{
	static const char *const lines[] = {
		"mirror = x\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		put_main(lines[i]);
		refused(EINVAL, "is not in this version");
	}
}

static void
refuses_bad_values(void **state)
{
	static const struct { const char *line, *part; } cases[] = {
		{ "state_dir = var/lib\n", "absolute path" },
		{ "state_dir = /var/../etc\n", "'..'" },
		{ "state_dir = /\n", "directory of its own" },
		{ "state_dir =\n", "has no value" },
		{ "state_dir\n", "not 'key = value'" },
		{ "= x\n", "not 'key = value'" },
		{ "update_interval = 6 hours\n", "span of time" },
		{ "update_interval = 1s\n", "out of range: 10s to 366d" },
		{ "expire_interval = off\n", "span of time" },
		{ "expire_keep = sometimes\n", "'always', 'never'" },
		{ "cache_min_free = 100%\n", "percentage" },
		{ "cache_min_free = -1\n", "not a size" },
		{ "cache_min_free = 99999999999T\n", "not a size" },
		{ "fetch_parallel = 0\n", "from 1 to 64" },
		{ "fetch_parallel = 65\n", "from 1 to 64" },
		{ "fetch_parallel = 4x\n", "from 1 to 64" },
		{ "crl_strict = maybe\n", "not one of no or yes" },
		{ "prefetch = x\n", "not one of auto, never or always" },
		{ "proxy = proxy:3128\n", "http://HOST:PORT" },
		{ "user = root;reboot\n", "name of an account" },
		{ "log_level = loud\n", "not one of error, warning, info or debug" },
		{ "tls_ca. = /x\n", "no list" },
		{ "attestation. = https://x/\n", "no list" },
		{ "attestation = x\n", "http://HOST/PATH" },
		{ "attestation.list = ftp://x/y\n", "http://HOST/PATH" },
		{ "attestation = file://x/y\n", "http://HOST/PATH" },
		{ "attestation = https://me:secret@x/y\n", "holds credentials" },
		{ "block_timeout = 0\n", "out of range: 1s to 366d" },
		{ "fill = always\n", "not one of idle, never or now" },
		{ "integrity = never\n", "not one of read or open" },
		{ "run_dir = /01234567890123456789012345678901234567890123456789012345678901234"
		  "5678901234567890123456789012345678901234567890123456789\n",
		  "room for a socket" },
		{ "mountpoint = /var/lib/vmimagefs/mnt\n", "lies below state_dir" },
		{ "mountpoint = /var\n", "the mount would hide it" },
		{ "cache_dir = /var/lib/vmimagefs/cache\n", "one below the other" },
		{ "event_timeout = 0\n", "out of range: 1s to 1d" },
		{ "event_env = A-B=1\n", "'A-B=1' is neither NAME nor NAME=VALUE" },
		{ "event_env = HOME 1X=2\n", "'1X=2' is neither NAME nor NAME=VALUE" },
		{ "event_env = =x\n", "neither NAME nor NAME=VALUE" },
		{ "event_dir = handlers.d\n", "not an absolute path" },
		{ "event_user = a b\n", "name of an account" },
		{ "handler_dir = /var/lib/vmimagefs\n",
		  "state_dir '/var/lib/vmimagefs' lies below handler_dir" },
		{ "handler_dir = /var/cache/vmimagefs/x\n", "lies below '/var/cache/vmimagefs'" },
		{ "handler_dir = /vmimages/x\n", "the mount would hide it" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		put_main(cases[i].line);
		refused(EINVAL, cases[i].part);
	}
}

static void
attestation_of_one_list(void **state)
{
	struct conf *conf;

	(void)state;
	put_main("attestation = https://example.org/blocks\nattestation.a = file:///srv/a\n"
		 "attestation.b = none\nfill = now\nintegrity = open\nblock_timeout = 1m\n");
	conf = load();
	assert_string_equal(conf_attestation(conf, "a"), "file:///srv/a");
	assert_null(conf_attestation(conf, "b"));
	assert_string_equal(conf_attestation(conf, "other"), "https://example.org/blocks");
	assert_true(conf_has_key("attestation.a"));
	assert_false(conf_is_later_key("attestation.a"));
	assert_int_equal(conf->fill, FILL_NOW);
	assert_int_equal(conf->integrity, INTEGRITY_OPEN);
	assert_int_equal(conf->block_timeout, 60);
	conf_free(conf);
	put_main("attestation.a = https://example.org/a\n");
	conf = load();
	assert_null(conf_attestation(conf, "other"));
	shows(conf, "attestation", "none", "default");
	conf_free(conf);
}

static void
reads_event_keys(void **state)
{
	struct conf *conf;

	(void)state;
	put_main("event_command = /usr/bin/on --event \"$VMCATCHER_EVENT_TYPE\"\n"
		 "event_env = ONE_AUTH LANG=C.UTF-8\nevent_user = oneadmin\n"
		 "event_timeout = 30m\nevent_dir = none\nhandler_group = cloud\n");
	conf = load();
	assert_string_equal(conf->event_command, "/usr/bin/on --event \"$VMCATCHER_EVENT_TYPE\"");
	assert_string_equal(conf->event_env, "ONE_AUTH LANG=C.UTF-8");
	assert_string_equal(conf->event_user, "oneadmin");
	assert_string_equal(conf->handler_group, "cloud");
	assert_int_equal(conf->event_timeout, 1800);
	assert_null(conf->event_dir);
	conf_free(conf);
	unlink(file);
	conf = load();
	assert_null(conf->event_command);
	assert_null(conf->event_user);
	assert_int_equal(conf->event_timeout, 600);
	assert_string_equal(conf->event_dir, CONF_DEFAULT_EVENT_DIR);
	conf_free(conf);
}

static void
one_file_has_no_common_handlers(void **state)
{
	struct conf *conf;
	struct err err = { 0 };

	(void)state;
	put_main("state_dir = /srv/store/state\n");
	assert_int_equal(conf_load(file, &conf, &err), 0);
	assert_null(conf->event_dir);
	conf_free(conf);
	put_main("event_dir = /srv/store/handlers\n");
	assert_int_equal(conf_load(file, &conf, &err), 0);
	assert_string_equal(conf->event_dir, "/srv/store/handlers");
	conf_free(conf);
}

static void
handler_dir_follows_state_dir(void **state)
{
	struct conf *conf;
	struct err err = { 0 };

	(void)state;
	conf = load();
	assert_string_equal(conf->handler_dir, "/var/lib/vmimagefs/vmcatcher");
	assert_int_equal(conf_set(conf, "state_dir", "/srv/state", "test", &err), 0);
	assert_string_equal(conf->handler_dir, "/srv/state/vmcatcher");
	assert_int_equal(conf_set(conf, "handler_dir", "/srv/handlers", "test", &err), 0);
	assert_int_equal(conf_set(conf, "state_dir", "/srv/other", "test", &err), 0);
	assert_string_equal(conf->handler_dir, "/srv/handlers");
	conf_free(conf);
}

static void
reads_again_what_it_read(void **state)
{
	struct conf *before, *after;
	struct err err = { 0 };

	(void)state;
	put_main("event_command = one\nevent_timeout = 5s\n");
	before = load();
	assert_int_equal(conf_set(before, "event_timeout", "7s", "command line", &err), 0);
	put_main("event_command = two\nevent_timeout = 9s\n");
	put(dropins, "10-a.conf", "event_user = nobody\n", 20);
	assert_int_equal(conf_load_again(before, &after, &err), 0);
	assert_string_equal(after->event_command, "two");
	assert_string_equal(after->event_user, "nobody");
	assert_int_equal(after->event_timeout, 7);
	shows(after, "event_timeout", "7s", "command line");
	conf_free(after);
	put_main("event_command\n");
	assert_int_equal(conf_load_again(before, &after, &err), -EINVAL);
	assert_null(after);
	conf_free(before);
}

static void
names_the_useradd_line(void **state)
{
	struct conf *conf = load();
	struct err err;
	uid_t uid;
	gid_t gid;

	(void)state;
	assert_int_equal(conf_set(conf, "user", "no-such-user-here", "test", &err), 0);
	assert_int_equal(conf_ids(conf, &uid, &gid, &err), -ENOENT);
	assert_non_null(strstr(err.text, "useradd --system"));
	assert_int_equal(conf_set(conf, "user", "root", "test", &err), 0);
	assert_int_equal(conf_ids(conf, &uid, &gid, &err), -EPERM);
	assert_int_equal(conf_set(conf, "user", "nobody", "test", &err), 0);
	assert_int_equal(conf_ids(conf, &uid, &gid, &err), 0);
	assert_int_not_equal(uid, 0);
	assert_int_equal(conf_set(conf, "group", "no-such-group-here", "test", &err), 0);
	assert_int_equal(conf_ids(conf, &uid, &gid, &err), -ENOENT);
	assert_non_null(strstr(err.text, "groupadd"));
	conf_free(conf);
}

static void
expect_same(void *arg, const char *key, const char *value, const char *origin)
{
	struct conf *copy = arg;
	struct err err;

	(void)origin;
	if (conf_set(copy, key, value, "copy", &err) != 0)
		fail_msg("%s = %s: %s", key, value, err.text);
}

static void
shown_values_can_be_read_back(void **state)
{
	struct conf *conf, *copy;

	(void)state;
	put_main("expire_keep = 90m\ncache_min_free = 1536M\nupdate_interval = 100s\nread_timeout "
		 "= 0\nattestation = http://a/b\nattestation.x = none\nfill = never\n");
	conf = load();
	unlink(file);
	copy = load();
	conf_each(conf, expect_same, copy);
	assert_int_equal(copy->expire_keep_age, 5400);
	assert_int_equal(copy->cache_min_free, 1536 << 20);
	assert_int_equal(copy->update_interval, 100);
	assert_int_equal(copy->read_timeout, 0);
	assert_null(copy->group);
	assert_string_equal(copy->attestation, "http://a/b");
	assert_null(conf_attestation(copy, "x"));
	assert_int_equal(copy->fill, FILL_NEVER);
	conf_free(conf);
	conf_free(copy);
}

static void
knows_the_names_of_levels(void **state)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };
	static const char *const others[] = { "Error", "err", "" };
	char line[32];

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct conf *conf;

		snprintf(line, sizeof(line), "log_level = %s\n", names[i]);
		put_main(line);
		conf = load();
		assert_int_equal(conf->log_level, i);
		conf_free(conf);
	}
	for (int i = 0; i < 3; i++) {
		snprintf(line, sizeof(line), "log_level = %s\n", others[i]);
		put_main(line);
		refused(EINVAL, "log_level");
	}
}

#define ROW(title, fn) { title, fn, make_dir, remove_dir, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		ROW("without a file every key has its default", has_defaults),
		ROW("values, comments and origins are read", reads_values),
		ROW("the proxy's password is not shown", hides_the_proxys_password),
		ROW("drop-ins override the main file in the order of their names",
		    dropins_override_in_order),
		ROW("the command line overrides files, and a wrong value changes nothing",
		    command_line_overrides),
		ROW("A11 a named file that is missing is refused", refuses_missing_file),
		ROW("A11 a directory is refused", refuses_directory),
		ROW("A11 a file of 1 GB is refused without being read", refuses_huge_file),
		ROW("A11 a FIFO is refused without waiting", refuses_fifo),
		ROW("A11 a binary file is refused", refuses_binary_file),
		ROW("A11 a file that everyone may write is refused", refuses_world_writable_file),
		ROW("A11 an unknown key is refused with file and line", refuses_unknown_key),
		ROW("A11 a key that stands twice in a file is refused", refuses_repeated_key),
		ROW("A11 keys of later features are refused as not in this version",
		    refuses_later_keys),
		ROW("A11 each ill-formed value is refused with what was expected",
		    refuses_bad_values),
		ROW("log_level is error, warning, info or debug", knows_the_names_of_levels),
		ROW("signed block digests are looked for at an address for all lists or for one",
		    attestation_of_one_list),
		ROW("keys of event handlers are read and have their defaults", reads_event_keys),
		ROW("a site in one named file does not run the handlers of /etc",
		    one_file_has_no_common_handlers),
		ROW("handler_dir lies in state_dir unless it is set",
		    handler_dir_follows_state_dir),
		ROW("what was read can be read again, and the command line goes on to override it",
		    reads_again_what_it_read),
		ROW("a missing user is named with the command that makes it",
		    names_the_useradd_line),
		ROW("what config show prints can be read back", shown_values_can_be_read_back),
	};

	return cmocka_run_group_tests_name("conf", tests, NULL, NULL);
}
