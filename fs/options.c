/*
 * Who calls us, and how (util-linux 2.38, fuse3 3.14):
 *
 *   an admin                 vmimagefs [-f] [-o LIST] [SOURCE] [MOUNTPOINT]
 *   mount -t vmimagefs       mount.vmimagefs SOURCE MOUNTPOINT [-sfnv] -o LIST
 *   mount -t fuse.vmimagefs  vmimagefs SOURCE MOUNTPOINT -o LIST        (by way of mount.fuse3)
 *
 * In LIST stand words of fstab that are not for us, a few of libfuse's, and any key of the
 * configuration, with '_' or '-'.  What is none of these is refused by its name: an option that is
 * silently ignored is a setting that an admin believes in.
 */
#include "config.h"
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cleanup.h"

enum { THREADS_MAX = 1024 };	/* what libfuse takes is unlimited; a mistyped number is not */

static const char command_line[] = "command line";

/*
 * Words for mount(8), systemd and the kernel.  We are always ro, nosuid, nodev,
 * allow_other, default_permissions.
 */
static const char *const ignored[] = {
	"defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "_netdev",
	"nofail", "ro", "rw", "dev", "nodev", "suid", "nosuid", "sync", "async", "dirsync",
	"atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime",
	"nostrictatime", "lazytime", "nolazytime", "mand", "nomand", "iversion", "noiversion",
	"silent", "loud", "bg", "fg", "allow_other", "default_permissions", NULL
};

static const char *const ignored_prefixes[] = { "x-", "X-", "comment=", "subtype=", NULL };

static bool
is_ignored(const char *word)
{
	for (size_t i = 0; ignored[i] != NULL; i++)
		if (strcmp(word, ignored[i]) == 0)
			return true;
	for (size_t i = 0; ignored_prefixes[i] != NULL; i++)
		if (strncmp(word, ignored_prefixes[i], strlen(ignored_prefixes[i])) == 0)
			return true;
	return false;
}

/* The daemon works in "/", so that what was relative to here must not stay so. */
static char *
absolute(const char *path)
{
	CLEANUP_FREE char *here = NULL;
	char *real = realpath(path, NULL);

	if (real != NULL)
		return real;
	if (path[0] == '/' || (here = getcwd(NULL, 0)) == NULL)
		return xstrdup(path);
	return xasprintf("%s/%s", here, path);
}

static void
replace(char **to, char *text)
{
	free(*to);
	*to = text;
}

/* '-' is as good as '_' in a key, but not in the list's name of tls_ca.LIST. */
static void
normalise_key(char *key)
{
	for (; *key != '\0' && *key != '.'; key++)
		if (*key == '-')
			*key = '_';
}

static void
add_setting(struct options *o, const char *key, const char *value)
{
	o->settings = xrealloc(o->settings, (o->n_settings + 1) * sizeof(*o->settings));
	o->settings[o->n_settings].key = xstrdup(key);
	o->settings[o->n_settings].value = xstrdup(value);
	o->n_settings++;
}

static int
take_max_threads(struct options *o, const char *value, struct err *err)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(value, &end, 10);
	if (value[0] < '0' || value[0] > '9' || *end != '\0' || errno != 0 || n < 1 ||
	    n > THREADS_MAX)
		return err_set(err, EINVAL, "option max_threads: '%s' is not a number from 1 to %d",
			       value, THREADS_MAX);
	o->max_threads = (unsigned)n;
	return 0;
}

/* A word with "=value". */
static int
take_pair(struct options *o, char *key, const char *value, bool sloppy, struct err *err)
{
	normalise_key(key);
	if (strcmp(key, "config") == 0) {
		if (*value == '\0')
			return err_set(err, EINVAL, "option 'config' names no file");
		replace(&o->config, absolute(value));
	} else if (strcmp(key, "fsname") == 0) {
		replace(&o->source, xstrdup(value));
	} else if (strcmp(key, "max_threads") == 0) {
		return take_max_threads(o, value, err);
	} else if (conf_has_key(key)) {
		add_setting(o, key, value);
	} else if (conf_is_later_key(key)) {
		return err_set(err, EINVAL, "option '%s' is not in this version", key);
	} else if (!sloppy) {
		return err_set(err, EINVAL, "unknown option '%s'", key);
	}
	return 0;
}

static int
take_word(struct options *o, char *word, bool sloppy, struct err *err)
{
	char *equals = strchr(word, '=');

	if (*word == '\0' || is_ignored(word))
		return 0;
	if (equals != NULL) {
		*equals = '\0';
		return take_pair(o, word, equals + 1, sloppy, err);
	}
	if (strcmp(word, "noexec") == 0) {
		o->noexec = true;
	} else if (strcmp(word, "exec") == 0) {
		o->noexec = false;
	} else if (strcmp(word, "debug") == 0) {
		o->debug = o->foreground = true;
	} else {
		normalise_key(word);
		if (conf_has_key(word))
			return err_set(err, EINVAL, "option '%s' needs a value: write %s=VALUE",
				       word, word);
		if (!sloppy)
			return err_set(err, EINVAL, "unknown option '%s'", word);
	}
	return 0;
}

/* A comma ends a word unless a backslash stands before it. */
static int
take_list(struct options *o, const char *list, bool sloppy, struct err *err)
{
	CLEANUP_FREE char *word = xmalloc(strlen(list) + 1);
	size_t len = 0;
	int rc;

	for (const char *p = list;; p++) {
		if (*p == '\\' && (p[1] == ',' || p[1] == '\\')) {
			word[len++] = *++p;
			continue;
		}
		if (*p != ',' && *p != '\0') {
			word[len++] = *p;
			continue;
		}
		word[len] = '\0';
		rc = take_word(o, word, sloppy, err);
		if (rc != 0 || *p == '\0')
			return rc;
		len = 0;
	}
}

static bool
is_helper(const char *argv0)
{
	const char *slash = strrchr(argv0, '/');

	return strncmp(slash != NULL ? slash + 1 : argv0, "mount.", 6) == 0;
}

/* One letter.  lists collects the -o arguments, because -s may come after them. */
static int
take_letter(struct options *o, int letter, const char *argument, bool helper, bool *sloppy,
	    struct buf *lists, struct err *err)
{
	switch (letter) {
	case 'h':
		o->help = true;
		return 0;
	case 'V':
		o->version = true;
		return 0;
	case 'f':
		*(helper ? &o->fake : &o->foreground) = true;
		return 0;
	case 'd':
		o->debug = o->foreground = true;
		return 0;
	case 's':
		if (helper)
			*sloppy = true;
		else
			o->max_threads = 1;
		return 0;
	case 'v':
		o->verbose = !helper;	/* mount -v wants to see what mount does */
		return 0;
	case 'n':			/* no /etc/mtab: there is none */
	case 't':			/* the type, as mount(8) knows it */
		return 0;
	case 'o':
		buf_printf(lists, "%s%s", lists->len > 0 ? "," : "", argument);
		return 0;
	default:
		return err_set(err, EINVAL, "internal: option letter %d", letter);
	}
}

static int
take_operands(struct options *o, char *const *operands, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++)
		if (operands[i][0] == '\0')
			return err_set(err, EINVAL, "an argument is empty: name a mount point");
	if (n > 2)
		return err_set(err, EINVAL, "'%s' is one argument too many: [SOURCE] MOUNTPOINT",
			       operands[2]);
	if (n > 0)
		replace(&o->mountpoint, absolute(operands[n - 1]));
	if (n == 2 && o->source == NULL)	/* fsname= says it more loudly */
		replace(&o->source, xstrdup(operands[0]));
	if (o->source == NULL)
		o->source = xstrdup("vmimages");
	return 0;
}

static const char *
refused_letter(char *const *argv, char text[3])
{
	if (optopt > 0 && optopt < 256) {
		text[0] = '-';
		text[1] = (char)optopt;
		text[2] = '\0';
		return text;
	}
	return argv[optind - 1];
}

int
options_parse(int argc, char *const *argv, struct options *o, struct err *err)
{
	static const struct option longs[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 }
	};
	CLEANUP_FREE char **operands = xcalloc((size_t)argc + 1, sizeof(*operands));
	CLEANUP_BUF struct buf lists = BUF_INIT;
	bool helper = argc > 0 && is_helper(argv[0]), sloppy = false;
	size_t n_operands = 0;
	char text[3];
	int letter, rc = 0;

	memset(o, 0, sizeof(*o));
	opterr = 0;
	optind = 0;		/* glibc: start anew */
	/* '-': operands come as letter 1, in their place, whatever POSIXLY_CORRECT says. */
	while (rc == 0 && (letter = getopt_long(argc, argv, "-:hVfdsvno:t:", longs, NULL)) != -1) {
		if (letter == 1)
			operands[n_operands++] = optarg;
		else if (letter == '?')
			rc = err_set(err, EINVAL, "unknown option '%s'",
				     refused_letter(argv, text));
		else if (letter == ':')
			rc = err_set(err, EINVAL, "option '%s' needs an argument",
				     refused_letter(argv, text));
		else
			rc = take_letter(o, letter, optarg, helper, &sloppy, &lists, err);
		if (o->help || o->version)
			return 0;
	}
	while (rc == 0 && optind < argc)	/* after "--" */
		operands[n_operands++] = argv[optind++];
	if (rc == 0)
		rc = take_list(o, buf_str(&lists), sloppy, err);
	if (rc == 0)
		rc = take_operands(o, operands, n_operands, err);
	return rc;
}

void
options_release(struct options *o)
{
	for (size_t i = 0; i < o->n_settings; i++) {
		free(o->settings[i].key);
		free(o->settings[i].value);
	}
	free(o->settings);
	free(o->config);
	free(o->source);
	free(o->mountpoint);
	memset(o, 0, sizeof(*o));
}

/* What the letters mean in terms of the configuration. */
static int
set_letters(const struct options *o, struct conf *conf, struct err *err)
{
	int rc = 0;

	if (o->foreground)
		rc = conf_set(conf, "log", "stderr", command_line, err);
	if (rc == 0 && (o->debug || o->verbose))
		rc = conf_set(conf, "log_level", "debug", command_line, err);
	if (rc == 0 && o->mountpoint != NULL)
		rc = conf_set(conf, "mountpoint", o->mountpoint, command_line, err);
	return rc;
}

int
options_load_conf(const struct options *o, struct conf **out, struct err *err)
{
	struct conf *conf;
	int rc;

	*out = NULL;
	rc = conf_load(o->config, &conf, err);
	if (rc != 0)
		return rc;
	for (size_t i = 0; i < o->n_settings && rc == 0; i++) {
		rc = conf_set(conf, o->settings[i].key, o->settings[i].value, command_line, err);
		if (rc != 0)
			err_prefix(err, "option");
	}
	if (rc == 0)
		rc = set_letters(o, conf, err);
	if (rc == 0)
		rc = conf_check(conf, err);
	if (rc != 0)
		goto out;
	*out = conf;
	conf = NULL;
out:
	conf_free(conf);
	return rc;
}

/* ---- a copy --------------------------------------------------------------------------------- */

/* Names that no key has. */
static const char saved_file[] = "@file", saved_dropins[] = "@dropins";

static void
save_line(struct buf *out, const char *key, const char *value)
{
	if (value != NULL)
		buf_printf(out, "%s=%s\n", key, value);
}

static void
save_key(void *arg, const char *key, const char *value, const char *origin)
{
	if (strcmp(origin, "default") != 0)
		save_line(arg, key, value);
}

/* The directory of handlers has two defaults. */
void
options_save_conf(const struct conf *conf, struct buf *out)
{
	save_line(out, saved_file, conf->file);
	save_line(out, saved_dropins, conf->dropins);
	save_line(out, "event_dir", conf->event_dir);
	conf_each(conf, save_key, out);
}

static int
load_line(struct conf *conf, const char *key, const char *value, struct err *err)
{
	if (strcmp(key, saved_file) == 0)
		replace(&conf->file, xstrdup(value));
	else if (strcmp(key, saved_dropins) == 0)
		replace(&conf->dropins, xstrdup(value));
	else
		return conf_set(conf, key, value, "start of the daemon", err);
	return 0;
}

int
options_load_saved(char *text, struct conf **out, struct err *err)
{
	struct conf *conf = NULL;
	char *line;
	int rc = conf_load_from("", false, NULL, &conf, err);	/* the defaults */

	*out = NULL;
	while (rc == 0 && (line = strsep(&text, "\n")) != NULL) {
		char *value = strchr(line, '=');

		if (value == NULL)
			continue;
		*value = '\0';
		rc = load_line(conf, line, value + 1, err);
	}
	if (rc == 0)
		*out = steal_ptr(&conf);
	conf_free(conf);
	return rc;
}

void
options_print_help(FILE *to)
{
	fputs("usage: vmimagefs [options] [SOURCE] [MOUNTPOINT]\n"
	      "\n"
	      "Mounts the verified cache of virtual machine images, read-only.  Returns when the\n"
	      "mount is usable.  MOUNTPOINT is that of the configuration unless given; SOURCE is\n"
	      "any text, shown by df.\n"
	      "\n"
	      "  -f                 stay in the foreground, log to stderr\n"
	      "  -d, -o debug       as -f, and print every request\n"
	      "  -v                 log_level=debug\n"
	      "  -s                 one thread answers requests\n"
	      "  -h, --help         this text\n"
	      "  -V, --version      versions of vmimagefs, libfuse and the kernel's protocol\n"
	      "  -o OPTION[,...]\n"
	      "      config=FILE    instead of " CONF_DEFAULT_FILE " and its drop-ins\n"
	      "      KEY=VALUE      any key of vmimagefs.conf(5), with '_' or '-'\n"
	      "      fsname=TEXT    as SOURCE\n"
	      "      max_threads=N  threads that answer requests\n"
	      "      noexec         programs on the mount cannot be executed\n"
	      "\n"
	      "As mount.vmimagefs it takes what mount(8) passes: -n, -v, -s (pass over unknown\n"
	      "options), -f (check, but mount nothing) and the words of fstab.\n"
	      "TERM and INT unmount and end, HUP reloads the configuration, USR1 writes the\n"
	      "status to the log, USR2 has the program on disk go on in the place of this one.\n",
	      to);
}
