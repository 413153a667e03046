/*
 * vmimagectl - the admin's command: trust, lists, images, the cache.
 *
 * Everything about the command line is a table here: the options of each verb, and the verbs with
 * their synopsis, bounds and example.  Parsing, --help and the error messages come from it.  A
 * verb itself is a function in one of the cmd_*.c files and sees parsed options alone.
 *
 * Commands write the catalogue directly, so that they work from cron and without a daemon; a
 * running one is told afterwards (ctl.h).  Locale, proxies and library switches of the caller's
 * environment have no effect.
 *
 * Called by a name of vmcatcher's, it is that command (vmcatcher.c).
 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "argsecret.h"
#include "core/cleanup.h"
#include "core/digest.h"
#include "core/io.h"
#include "core/log.h"
#include "core/sandbox.h"
#include "ctl.h"
#include "vmcatcher.h"

enum {
	MAX_ARGUMENT = 4096,	/* longer than any name, URL or path that could be meant */
};

/* ---- the tables ------------------------------------------------------------------------------ */

struct option_spec {
	const char *name;
	const char *value;	/* what follows it, NULL for a switch */
	size_t offset;		/* in struct options: const char *, or bool for a switch */
	const char *help;
};

#define AT(member) offsetof(struct options, member)

static const struct option_spec no_options[] = { { 0 } };

static const struct option_spec endorser_add_options[] = {
	{ "--subject", "DN", AT(subject), "the certificate's subject, as /DC=org/CN=Name" },
	{ "--issuer", "DN", AT(issuer), "the name of the CA that issued it" },
	{ "--from-cert", "FILE", AT(from_cert), "take both from a PEM certificate" },
	{ "--allow-sha1", NULL, AT(allow_sha1), "accept this endorser's SHA-1 signatures" },
	{ "--any-purpose", NULL, AT(any_purpose), "accept a certificate that is not for e-mail" },
	{ "--blocks-only", NULL, AT(blocks_only),
	  "it may attest block digests of images, and nothing else" },
	{ 0 }
};

static const struct option_spec credential_options[] = {
	{ "--subject", "DN", AT(subject), "only this credential: its subject" },
	{ "--issuer", "DN", AT(issuer), "and its issuer" },
	{ 0 }
};

static const struct option_spec subscribe_options[] = {
	{ "--endorser", "NAME", AT(endorser),
	  "the registered endorser who must have signed the list" },
	{ "--auto-endorse", NULL, AT(auto_endorse),
	  "register the signer if nobody is (this time only)" },
	{ "--select", "all|none", AT(select), "select every image of the list, now and later" },
	{ "--credentials", "FILE", AT(credentials),
	  "user:password or a token; - reads standard input" },
	{ 0 }
};

static const struct option_spec update_options[] = {
	{ "--dry-run", NULL, AT(dry_run), "print what would change" },
	{ "--reset-version", NULL, AT(reset_version), "accept any version from the lists named" },
	{ "--news", NULL, AT(news), "do not repeat a refusal that the subscription shows already" },
	{ 0 }
};

static const struct option_spec images_options[] = {
	{ "--state", "STATE", AT(state), "available, selected, verified, degraded or failed" },
	{ "--list", "LIST", AT(list), "only the images of this list" },
	{ 0 }
};

static const struct option_spec all_options[] = {
	{ "--all", NULL, AT(all), "every image it applies to" },
	{ 0 }
};

static const struct option_spec verify_options[] = {
	{ "--deep", NULL, AT(deep), "also compare the catalogue with the signed messages" },
	{ "--fix", NULL, AT(fix), "quarantine what is bad and fetch it anew" },
	{ "--dry-run", NULL, AT(dry_run), "change nothing, whatever is found" },
	{ 0 }
};

static const struct option_spec expired_options[] = {
	{ "--purge", "AGE", AT(purge),
	  "remove the files of images expired at least that long (30d, 12h, 0)" },
	{ 0 }
};

static const struct option_spec expire_options[] = {
	{ "--recheck", NULL, AT(recheck),
	  "judge signatures only if the trust directory has changed" },
	{ 0 }
};

static const struct option_spec reload_options[] = {
	{ "--binary", NULL, AT(binary), "the program on disk takes over from the one that runs" },
	{ 0 }
};

static const struct option_spec events_options[] = {
	{ "--follow", NULL, AT(follow), "wait for further events" },
	{ 0 }
};

static const struct option_spec attest_options[] = {
	{ "--sign", "KEY", AT(sign), "sign images that are verified here with this private key" },
	{ "--cert", "CERT", AT(cert), "its certificate" },
	{ "--chain", "FILE", AT(chain), "further certificates that go into the message" },
	{ "--base-url", "URL", AT(base_url), "where the sidecars will be found" },
	{ "--out", "DIR", AT(out), "write message and sidecars there, not here" },
	{ 0 }
};

static const struct option_spec import_options[] = {
	{ "--cache", "DIR", AT(cache),
	  "adopt the files of its cache directory, after hashing them" },
	{ 0 }
};

static const struct option_spec digest_options[] = {
	{ "-o", "SIDECAR", AT(output), "write the Merkle tree there instead of FILE.fsv" },
	{ "--no-sidecar", NULL, AT(no_sidecar), "do not write the tree" },
	{ 0 }
};

static const struct option_spec init_cache_options[] = {
	{ "--force", NULL, AT(force), "also over the marker of another catalogue" },
	{ 0 }
};

enum { ANY = 1 << 20 };

struct verb {
	const char *name;	/* one or two words */
	const char *synopsis;	/* what follows the name */
	const char *summary;
	const struct option_spec *options;
	size_t min_args, max_args;
	verb_fn run;
	const char *example;
	bool alone;		/* needs no configuration: ctl->conf is NULL */
};

static const struct verb verbs[] = {
	{ "endorser add", "NAME --subject DN --issuer DN | NAME --from-cert FILE",
	  "register an endorser, or a further credential of one", endorser_add_options, 1, 1,
	  cmd_endorser_add, "endorser add alice --from-cert alice.pem" },
	{ "endorser list", "", "registered endorsers, one credential a line", no_options, 0, 0,
	  cmd_endorser_list, "endorser list" },
	{ "endorser show", "NAME", "one endorser, its credentials and its lists", no_options, 1, 1,
	  cmd_endorser_show, "endorser show alice" },
	{ "endorser remove", "NAME [--subject DN --issuer DN]",
	  "trust an endorser, or one credential, no longer", credential_options, 1, 1,
	  cmd_endorser_remove, "endorser remove alice" },
	{ "endorser link", "NAME LIST", "allow an endorser to sign a subscribed list", no_options,
	  2, 2, cmd_endorser_link, "endorser link alice 8a3e" },
	{ "endorser unlink", "NAME LIST", "an endorser may sign that list no longer", no_options, 2,
	  2, cmd_endorser_unlink, "endorser unlink alice 8a3e" },
	{ "subscribe",
	  "URL [--endorser NAME] [--auto-endorse] [--select all|none]"
	  " [--credentials FILE|-]",
	  "subscribe to an image list and import it", subscribe_options, 1, 1, cmd_subscribe,
	  "subscribe https://lists.example.org/vo/image.list --endorser alice" },
	{ "unsubscribe", "LIST",
	  "end a subscription; its images leave, their files stay until purged", no_options, 1, 1,
	  cmd_unsubscribe, "unsubscribe 8a3e" },
	{ "subscriptions", "[LIST]", "subscribed lists, or one of them in full", no_options, 0, 1,
	  cmd_subscriptions, "subscriptions" },
	{ "update", "[LIST...] [--dry-run] [--reset-version] [--news]",
	  "fetch lists and apply what is new",
	  update_options, 0, ANY, cmd_update, "update --dry-run" },
	{ "images", "[--state STATE] [--list LIST]", "endorsed images", images_options, 0, 0,
	  cmd_images, "images --state verified" },
	{ "show", "IMAGE", "everything the signed list says of an image", no_options, 1, 1,
	  cmd_show, "show 'Debian 12'" },
	{ "select", "IMAGE... | --all", "have these images in the mount", all_options, 0, ANY,
	  cmd_select, "select 'Debian 12'" },
	{ "deselect", "IMAGE... | --all", "have these images in the mount no longer", all_options,
	  0, ANY, cmd_deselect, "deselect 'Debian 12'" },
	{ "pin", "IMAGE... | --all", "never evict the stored version of these images", all_options,
	  0, ANY, cmd_pin, "pin 'Debian 12'" },
	{ "unpin", "IMAGE... | --all", "these images may be evicted again", all_options, 0, ANY,
	  cmd_unpin, "unpin 'Debian 12'" },
	{ "path", "IMAGE", "the file name of a selected image in the mount", no_options, 1, 1,
	  cmd_path, "path 'Debian 12'" },
	{ "fetch", "IMAGE... | --all", "fetch and verify selected images now", all_options, 0, ANY,
	  cmd_fetch, "fetch --all" },
	{ "verify", "[IMAGE...] [--deep] [--fix] [--dry-run]", "hash stored images again",
	  verify_options, 0, ANY, cmd_verify, "verify --deep --fix" },
	{ "get", "IMAGE DEST", "copy a verified image out of the cache", no_options, 2, 2, cmd_get,
	  "get 'Debian 12' /srv/images/debian.qcow2" },
	{ "evict", "IMAGE", "drop the stored file of an image; reading fetches it again",
	  no_options, 1, 1, cmd_evict, "evict 'Debian 12'" },
	{ "expired", "[--purge AGE]", "images that are no longer endorsed", expired_options, 0, 0,
	  cmd_expired, "expired --purge 30d" },
	{ "expire", "[--recheck]", "apply expiry dates and revocations now, without network",
	  expire_options, 0, 0, cmd_expire, "expire" },
	{ "attest",
	  "FILE | --sign KEY --cert CERT [--chain FILE] [--base-url URL] [--out DIR] IMAGE...",
	  "take in signed block digests, or sign those of verified images", attest_options, 1, ANY,
	  cmd_attest, "attest --sign site.key --cert site.pem 'Debian 12'" },
	{ "digest", "FILE [-o SIDECAR | --no-sidecar]",
	  "the digests of an image for its list, and its tree for lazy reads", digest_options, 1, 1,
	  cmd_digest, "digest debian.qcow2", true },
	{ "import-vmcatcher", "DB [--cache DIR]",
	  "take over endorsers, subscriptions and selections of a vmcatcher 0.6 database",
	  import_options, 1, 1, cmd_import_vmcatcher,
	  "import-vmcatcher /var/lib/vmcatcher/vmcatcher.db --cache /var/lib/vmcatcher/cache" },
	{ "status", "", "counters, last update, use of the cache", no_options, 0, 0, cmd_status,
	  "status" },
	{ "events", "[--follow]", "what happened to images, oldest first, and who was told",
	  events_options, 0, 0, cmd_events, "events --follow" },
	{ "replay", "EVENT...", "deliver events to their handlers again", no_options, 1, ANY,
	  cmd_replay, "replay 17" },
	{ "config show", "", "every setting, and where it was set", no_options, 0, 0,
	  cmd_config_show, "config show" },
	{ "config check", "", "whether the settings can work on this host", no_options, 0, 0,
	  cmd_config_check, "config check" },
	{ "config init-cache", "[--force]", "mark cache_dir as belonging to this catalogue",
	  init_cache_options, 0, 0, cmd_config_init_cache, "config init-cache" },
	{ "reload", "[--binary]", "make the daemon read its configuration, or its program, again",
	  reload_options, 0, 0,
	  cmd_reload, "reload" },
};

enum { N_VERBS = sizeof(verbs) / sizeof(verbs[0]) };

static const char *const later_verbs[] = {
	"check", "export", "list", "sign",
};

/* ---- help ------------------------------------------------------------------------------------ */

static const char global_usage[] =
	"usage: vmimagectl [-c FILE] [--json] [-q|-v] VERB ...\n";

static const char global_help[] =
	"  -c FILE        another configuration file\n"
	"  --json         one JSON object instead of lines\n"
	"  -q, --quiet    say only what went wrong\n"
	"  -v, --verbose  say more\n"
	"  -h, --help     this text, or after a verb that verb's\n"
	"  -V, --version  the version\n";

static void
help_verb(struct output *o, const struct verb *v)
{
	const struct option_spec *s;

	buf_printf(&o->text, "usage: vmimagectl [-c FILE] [--json] [-q|-v] %s%s%s\n%s\n", v->name,
		   *v->synopsis != '\0' ? " " : "", v->synopsis, v->summary);
	for (s = v->options; s->name != NULL; s++) {
		char left[64];

		snprintf(left, sizeof(left), "%s%s%s", s->name, s->value != NULL ? " " : "",
			 s->value != NULL ? s->value : "");
		buf_printf(&o->text, "  %-20s %s\n", left, s->help);
	}
	buf_printf(&o->text, "example: vmimagectl %s\n", v->example);
}

int
ctl_usage(struct ctl *ctl, const char *verb, const char *fmt, ...)
{
	CLEANUP_FREE char *why = NULL, *hint = NULL;
	const char *synopsis = "VERB ...";
	struct err err = { 0 };
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&why, fmt, ap) < 0)
		out_of_memory();
	va_end(ap);
	for (size_t i = 0; i < N_VERBS; i++)
		if (strcmp(verbs[i].name, verb) == 0)
			synopsis = verbs[i].synopsis;
	err_set(&err, EINVAL, "%s%s%s", verb, *verb != '\0' ? ": " : "", why);
	hint = xasprintf("usage: vmimagectl %s%s%s (--help says more)", verb,
			 *verb != '\0' && *synopsis != '\0' ? " " : "", synopsis);
	output_error(&ctl->out, &err, hint);
	return EXIT_USAGE;
}

static bool
begins_with_word(const char *name, const char *word)
{
	size_t len = strlen(word);

	return strncmp(name, word, len) == 0 && (name[len] == ' ' || name[len] == '\0');
}

/* All verbs, or those whose first word is word. */
static void
help_verbs(struct output *o, const char *word)
{
	buf_puts(&o->text, global_usage);
	if (word == NULL)
		buf_puts(&o->text, global_help);
	for (size_t i = 0; i < N_VERBS; i++)
		if (word == NULL || begins_with_word(verbs[i].name, word))
			buf_printf(&o->text, "  %-18s %s\n", verbs[i].name, verbs[i].summary);
	buf_puts(&o->text,
		 "IMAGE is an identifier, a unique prefix of one (4 or more), a title, or a"
		 " SHA-512;\nLIST an identifier, a prefix, or a URL.  Manual: vmimagectl(1)\n");
}

/* ---- parsing --------------------------------------------------------------------------------- */

struct command {
	const struct verb *verb;
	struct options options;
	char **args;		/* the positional ones; borrows argv's strings */
	size_t n_args;
	bool help, version;
};

static const struct option_spec *
find_option(const struct verb *v, const char *name, size_t len)
{
	const struct option_spec *s;

	for (s = v->options; s->name != NULL; s++)
		if (strlen(s->name) == len && strncmp(s->name, name, len) == 0)
			return s;
	return NULL;
}

/* One option of the verb at argv[*i]. */
static int
parse_option(struct ctl *ctl, struct command *cmd, int argc, char **argv, int *i)
{
	const struct verb *v = cmd->verb;
	const char *arg = argv[*i], *equals = strchr(arg, '=');
	size_t len = equals != NULL ? (size_t)(equals - arg) : strlen(arg);
	const struct option_spec *s = find_option(v, arg, len);
	char *at;

	if (s == NULL)
		return ctl_usage(ctl, v->name, "unknown option '%.*s'", (int)len, arg);
	at = (char *)&cmd->options + s->offset;
	if (s->value == NULL) {
		if (equals != NULL)
			return ctl_usage(ctl, v->name, "option '%s' takes no value", s->name);
		*(bool *)at = true;
		return EXIT_DONE;
	}
	if (equals == NULL && *i + 1 >= argc)
		return ctl_usage(ctl, v->name, "option '%s' needs %s", s->name, s->value);
	*(const char **)at = equals != NULL ? equals + 1 : argv[++*i];
	if (**(const char **)at == '\0')
		return ctl_usage(ctl, v->name, "option '%s' has an empty value", s->name);
	return EXIT_DONE;
}

/* 1 if argv[*i] is a global option (then taken), 0 if not, negative if it is one and wrong. */
static int
parse_global(struct ctl *ctl, struct command *cmd, int argc, char **argv, int *i)
{
	const char *arg = argv[*i];

	if (strcmp(arg, "-c") == 0) {
		if (*i + 1 >= argc)
			return -1;
		ctl->config_file = argv[++*i];
	} else if (strcmp(arg, "--json") == 0) {
		ctl->out.json = true;
	} else if (strcmp(arg, "-q") == 0 || strcmp(arg, "--quiet") == 0) {
		ctl->out.verbosity = -1;
	} else if (strcmp(arg, "-v") == 0 || strcmp(arg, "--verbose") == 0) {
		ctl->out.verbosity = 1;
	} else if (strcmp(arg, "-h") == 0 || strcmp(arg, "--help") == 0) {
		cmd->help = true;
	} else if (strcmp(arg, "-V") == 0 || strcmp(arg, "--version") == 0) {
		cmd->version = true;
	} else {
		return 0;
	}
	return 1;
}

static const struct verb *
find_verb(const char *first, const char *second, int *n_words)
{
	for (size_t i = 0; i < N_VERBS; i++) {
		const char *space = strchr(verbs[i].name, ' ');

		*n_words = space != NULL ? 2 : 1;
		if (space == NULL && strcmp(verbs[i].name, first) == 0)
			return &verbs[i];
		if (space != NULL && begins_with_word(verbs[i].name, first) && second != NULL &&
		    strcmp(space + 1, second) == 0)
			return &verbs[i];
	}
	return NULL;
}

static bool
is_group(const char *word)
{
	for (size_t i = 0; i < N_VERBS; i++)
		if (strchr(verbs[i].name, ' ') != NULL && begins_with_word(verbs[i].name, word))
			return true;
	return false;
}

static int
unknown_verb(struct ctl *ctl, const char *first, const char *second)
{
	for (size_t i = 0; i < sizeof(later_verbs) / sizeof(later_verbs[0]); i++)
		if (strcmp(later_verbs[i], first) == 0)
			return ctl_usage(ctl, "", "'%s' is not in this version", first);
	if (is_group(first) && second == NULL)
		return ctl_usage(ctl, first, "one of its verbs is needed");
	if (is_group(first))
		return ctl_usage(ctl, first, "unknown verb '%s'", second);
	return ctl_usage(ctl, "", "unknown verb '%s'", first);
}

static int
check_arguments(struct ctl *ctl, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (argv[i][0] == '\0')
			return ctl_usage(ctl, "", "argument %d is empty", i);
		if (strlen(argv[i]) > MAX_ARGUMENT)
			return ctl_usage(ctl, "", "argument %d is longer than %d bytes", i,
					 MAX_ARGUMENT);
		if (!output_is_utf8(argv[i]))
			return ctl_usage(ctl, "", "argument %d is not UTF-8", i);
	}
	return EXIT_DONE;
}

/*
 * Everything after the verb: its options, global ones, and arguments, in any order; "--" ends
 * options.
 */
static int
parse_rest(struct ctl *ctl, struct command *cmd, int argc, char **argv, int i)
{
	const struct verb *v = cmd->verb;
	bool only_args = false;
	int rc;

	for (; i < argc; i++) {
		if (only_args || argv[i][0] != '-' || argv[i][1] == '\0') {
			cmd->args[cmd->n_args++] = argv[i];
			continue;
		}
		if (strcmp(argv[i], "--") == 0) {
			only_args = true;
			continue;
		}
		rc = parse_global(ctl, cmd, argc, argv, &i);
		if (rc < 0)
			return ctl_usage(ctl, v->name, "option '-c' needs a file");
		if (rc == 0 && parse_option(ctl, cmd, argc, argv, &i) != EXIT_DONE)
			return EXIT_USAGE;
	}
	if (cmd->help)
		return EXIT_DONE;
	if (cmd->n_args < v->min_args)
		return ctl_usage(ctl, v->name, "too few arguments: %s", v->synopsis);
	if (cmd->n_args > v->max_args)
		return ctl_usage(ctl, v->name, "too many arguments: '%s'", cmd->args[v->max_args]);
	return EXIT_DONE;
}

static int
parse(struct ctl *ctl, struct command *cmd, int argc, char **argv)
{
	int i, rc, n_words;

	rc = check_arguments(ctl, argc, argv);
	if (rc != EXIT_DONE)
		return rc;
	for (i = 1; i < argc && argv[i][0] == '-'; i++) {
		rc = parse_global(ctl, cmd, argc, argv, &i);
		if (rc < 0)
			return ctl_usage(ctl, "", "option '-c' needs a file");
		if (rc == 0)
			return ctl_usage(ctl, "", "unknown option '%s'", argv[i]);
	}
	if (cmd->help || cmd->version)
		return EXIT_DONE;
	if (i >= argc)
		return ctl_usage(ctl, "", "no verb given");
	cmd->verb = find_verb(argv[i], i + 1 < argc ? argv[i + 1] : NULL, &n_words);
	if (cmd->verb == NULL) {
		/* "endorser --help": its verbs. */
		cmd->help = is_group(argv[i]) && i + 1 < argc &&
			    (strcmp(argv[i + 1], "--help") == 0 || strcmp(argv[i + 1], "-h") == 0);
		if (!cmd->help)
			return unknown_verb(ctl, argv[i], i + 1 < argc ? argv[i + 1] : NULL);
		cmd->args[cmd->n_args++] = argv[i];
		return EXIT_DONE;
	}
	return parse_rest(ctl, cmd, argc, argv, i + n_words);
}

/* ---- running --------------------------------------------------------------------------------- */

static int
load_configuration(struct ctl *ctl)
{
	struct err err = { 0 };

	if (conf_load(ctl->config_file, &ctl->conf, &err) != 0) {
		int status = output_error(&ctl->out, &err, "correct the configuration; see"
					  " vmimagefs.conf(5)");

		return status == EXIT_PERMISSION ? status : EXIT_USAGE;
	}
	log_open("vmimagectl", !ctl->conf->log_to_stderr, ctl->conf->log_level);
	/* What a command has done it says itself, on the same terminal. */
	if (ctl->conf->log_to_stderr && ctl->out.verbosity < 1 &&
	    ctl->conf->log_level > LOG_LVL_WARNING)
		log_set_level(LOG_LVL_WARNING);
	return EXIT_DONE;
}

static int
run(struct ctl *ctl, const struct command *cmd)
{
	int status;

	if (cmd->version) {
		buf_puts(&ctl->out.text, "vmimagectl " PACKAGE_VERSION "\n");
		return EXIT_DONE;
	}
	if (cmd->help && cmd->verb != NULL) {
		help_verb(&ctl->out, cmd->verb);
		return EXIT_DONE;
	}
	if (cmd->help) {
		help_verbs(&ctl->out, cmd->n_args > 0 ? cmd->args[0] : NULL);
		return EXIT_DONE;
	}
	status = cmd->verb->alone ? EXIT_DONE : load_configuration(ctl);
	if (status != EXIT_DONE)
		return status;
	status = cmd->verb->run(ctl, &cmd->options, cmd->args, cmd->n_args);
	ctl_close(ctl);
	return status;
}

static void
prepare_process(struct ctl *ctl)
{
	static const char *const keep[] = {
		"VMIMAGEFS_CONFIG", "VMIMAGEFS_LIBEXECDIR",
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
		"ASAN_OPTIONS", "LSAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS",
#endif
		NULL
	};

	static const struct rlimit no_core = { 0, 0 };

	io_fill_std_fds();
	sandbox_clean_environment(keep);
	/* The passwords of private lists pass through here. */
	setrlimit(RLIMIT_CORE, &no_core);
	/* A reader that goes away is an error to report, not a reason to die half-way. */
	signal(SIGPIPE, SIG_IGN);
	/* So is a file that would become larger than RLIMIT_FSIZE. */
	signal(SIGXFSZ, SIG_IGN);
	/* Who ignores it hears of no child that ends; a caller that did passes that on. */
	signal(SIGCHLD, SIG_DFL);
	ctl->umask = umask(0027);
}

int
main(int argc, char **argv)
{
	struct command cmd = { 0 };
	struct ctl ctl = { 0 };
	bool secret;
	int status, rc;

	digest_setup();
	if (vmc_is_name(argv[0]))
		return vmc_main(argc, argv);
	secret = argsecret_hide(argc, argv);
	prepare_process(&ctl);
	output_init(&ctl.out);
	cmd.args = xcalloc((size_t)argc + 1, sizeof(*cmd.args));
	status = parse(&ctl, &cmd, argc, argv);
	if (status == EXIT_DONE && secret)
		output_warn(&ctl.out,
			    "a secret in an argument can be seen by others: use --credentials");
	if (status == EXIT_DONE)
		status = run(&ctl, &cmd);
	free(cmd.args);
	rc = output_end(&ctl.out);
	if (rc != 0) {
		/* Also with -q: it is what went wrong. */
		ctl.out.verbosity = 0;
		output_warn(&ctl.out, "cannot write the output: %s; what was to be changed has been"
			    " changed", strerrordesc_np(-rc));
		if (status == EXIT_DONE)
			status = EXIT_SOME_FAILED;
	}
	return status;
}
