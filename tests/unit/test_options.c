/*
 * test_options.c - the command line of vmimagefs, as admins and mount(8) write it.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "fs/options.h"

enum { ARGS_MAX = 12 };

/* Splits at '|', so that arguments may be empty. */
static int
parse(const char *line, struct options *o, struct err *err)
{
	char text[512], *rest = text, *argv[ARGS_MAX + 1];
	int argc = 0;

	snprintf(text, sizeof(text), "%s", line);
	while (argc < ARGS_MAX && (argv[argc] = strsep(&rest, "|")) != NULL)
		argc++;
	argv[argc] = NULL;
	return options_parse(argc, argv, o, err);
}

static void
accepted(const char *line, struct options *o)
{
	struct err err = { 0 };

	if (parse(line, o, &err) != 0)
		fail_msg("%s: %s", line, err.text);
}

static void
refused(const char *line, const char *part)
{
	struct options o;
	struct err err = { 0 };

	assert_int_equal(parse(line, &o, &err), -EINVAL);
	if (strstr(err.text, part) == NULL)
		fail_msg("'%s' does not say '%s'", err.text, part);
	options_release(&o);
}

static void
takes_operands(void **state)
{
	struct options o;

	(void)state;
	accepted("vmimagefs", &o);
	assert_null(o.mountpoint);
	assert_string_equal(o.source, "vmimages");
	options_release(&o);

	accepted("vmimagefs|/tmp", &o);
	assert_string_equal(o.mountpoint, "/tmp");
	assert_string_equal(o.source, "vmimages");
	options_release(&o);

	accepted("vmimagefs|images|/tmp|-f", &o);
	assert_string_equal(o.mountpoint, "/tmp");
	assert_string_equal(o.source, "images");
	assert_true(o.foreground);
	options_release(&o);

	accepted("vmimagefs|-o|fsname=shown|images|--|/no/such", &o);
	assert_string_equal(o.mountpoint, "/no/such");
	assert_string_equal(o.source, "shown");
	options_release(&o);
}

static void
relative_paths_become_absolute(void **state)
{
	struct options o;

	(void)state;
	assert_int_equal(chdir("/tmp"), 0);
	accepted("vmimagefs|no-such-dir|-o|config=no-such.conf", &o);
	assert_string_equal(o.mountpoint, "/tmp/no-such-dir");
	assert_string_equal(o.config, "/tmp/no-such.conf");
	options_release(&o);
}

static void
takes_letters(void **state)
{
	struct options o;

	(void)state;
	accepted("vmimagefs|-d|-n|-v|-s|/tmp", &o);
	assert_true(o.foreground);
	assert_true(o.debug);
	assert_true(o.verbose);
	assert_int_equal(o.max_threads, 1);
	options_release(&o);
	accepted("vmimagefs|-h|-o", &o);
	assert_true(o.help);
	options_release(&o);
	accepted("vmimagefs|--version", &o);
	assert_true(o.version);
	options_release(&o);
}

static void
takes_what_mount_passes(void **state)
{
	struct options o;

	(void)state;
	accepted("vmimagefs|SRC|/tmp|-o|ro,noexec,nosuid,nodev,allow_other,cache-dir=/srv/c", &o);
	assert_true(o.noexec);
	assert_false(o.foreground);
	assert_int_equal(o.n_settings, 1);
	assert_string_equal(o.settings[0].key, "cache_dir");
	assert_string_equal(o.settings[0].value, "/srv/c");
	options_release(&o);

	accepted("/sbin/mount.vmimagefs|SRC|/tmp|-v|-o|rw,exec,nosuid,nodev,_netdev,nofail,user,"
		 "x-systemd.automount,x-foo=1,comment=bar,relatime,group", &o);
	assert_false(o.noexec);
	assert_false(o.verbose);
	assert_int_equal(o.n_settings, 0);
	options_release(&o);
}

static void
helper_mode_has_its_own_letters(void **state)
{
	struct options o;

	(void)state;
	accepted("mount.vmimagefs|S|/tmp|-o|bogus,wrong=1|-sfnv|-t|vmimagefs", &o);
	assert_true(o.fake);
	assert_false(o.foreground);
	assert_int_equal(o.max_threads, 0);
	options_release(&o);
	refused("mount.vmimagefs|S|/tmp|-o|bogus", "unknown option 'bogus'");
}

static void
refuses_by_name(void **state)
{
	(void)state;
	refused("vmimagefs|-q", "unknown option '-q'");
	refused("vmimagefs|--wrong", "unknown option '--wrong'");
	refused("vmimagefs|-o", "'-o' needs an argument");
	refused("vmimagefs|-o|foo", "unknown option 'foo'");
	refused("vmimagefs|-o|uid=5", "unknown option 'uid'");
	refused("vmimagefs|-o|ro,hide-xattrs=1", "unknown option 'hide_xattrs'");
	refused("vmimagefs|-o|mirror=x", "option 'mirror' is not in this version");
	refused("vmimagefs|-o|crl_strict", "option 'crl_strict' needs a value");
	refused("vmimagefs|-o|max_threads=0", "not a number from 1 to");
	refused("vmimagefs|-o|max_threads=1x", "not a number from 1 to");
	refused("vmimagefs|-o|config=", "names no file");
	refused("vmimagefs|", "an argument is empty");
	refused("vmimagefs|a|/b|c", "'c' is one argument too many");
	refused("vmimagefs|-o|\x01\xff", "\\x01\\xFF");
}

static void
escaped_commas_stay(void **state)
{
	struct options o;

	(void)state;
	accepted("vmimagefs|-o|fsname=a\\,b\\\\c,,tls-ca.my-list=/x", &o);
	assert_string_equal(o.source, "a,b\\c");
	assert_string_equal(o.settings[0].key, "tls_ca.my-list");
	options_release(&o);
}

static void
settings_reach_the_configuration(void **state)
{
	char name[] = "/tmp/test_options.XXXXXX", line[128];
	struct conf *conf;
	struct options o;
	struct err err;
	int fd = mkstemp(name);

	(void)state;
	assert_true(fd >= 0);
	assert_true(dprintf(fd, "cache_dir = /from/file\nlog = syslog\n") > 0);
	close(fd);
	snprintf(line, sizeof(line), "vmimagefs|/tmp|-f|-o|config=%s,cache_dir=/from/line", name);
	accepted(line, &o);
	assert_int_equal(options_load_conf(&o, &conf, &err), 0);
	assert_string_equal(conf->cache_dir, "/from/line");
	assert_string_equal(conf->mountpoint, "/tmp");
	assert_int_equal(conf->log_to_stderr, 1);
	conf_free(conf);
	options_release(&o);

	snprintf(line, sizeof(line), "vmimagefs|-o|config=%s,read_timeout=soon", name);
	accepted(line, &o);
	assert_int_equal(options_load_conf(&o, &conf, &err), -EINVAL);
	assert_null(conf);
	assert_non_null(strstr(err.text, "option: read_timeout: 'soon'"));
	options_release(&o);
	unlink(name);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		{ "source and mount point may be left out", takes_operands, NULL, NULL, NULL },
		{ "relative paths are made absolute before the daemon changes to /",
		  relative_paths_become_absolute, NULL, NULL, NULL },
		{ "letters mean what libfuse's mean", takes_letters, NULL, NULL, NULL },
		{ "words of fstab that are not for us are passed over",
		  takes_what_mount_passes, NULL, NULL, NULL },
		{ "a mount helper has mount(8)'s letters",
		  helper_mode_has_its_own_letters, NULL, NULL, NULL },
		{ "A01 what is not known is refused by its name",
		  refuses_by_name, NULL, NULL, NULL },
		{ "a backslash keeps a comma in a value", escaped_commas_stay, NULL, NULL, NULL },
		{ "options override the configuration file",
		  settings_reach_the_configuration, NULL, NULL, NULL },
	};

	return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
