/*
 * vmcatcher_options.c - tables and parser of vmcatcher's options.
 *
 * optparse decides word by word: what begins with "--" is a long option or the unique beginning
 * of one, what begins with "-" is a row of letters of which the last may have a value in the same
 * word or the next.  Its sentences about what is wrong are kept, because wrappers have matched on
 * them.
 */
#include "config.h"
#include "vmcatcher_options.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"

/* ---- the tables ------------------------------------------------------------------------------ */

#define COMMON_FIRST \
	{ .name = "version", .help = "show program's version number and exit" }, \
	{ .letter = 'h', .name = "help", .help = "show this help message and exit" }
#define DATABASE \
	{ .letter = 'd', .name = "database", .metavar = "DATABASE", \
	  .help = "Database Initiation string", .variable = "VMCATCHER_RDBMS" }
#define FORMAT \
	{ .letter = 'f', .name = "format", .metavar = "FORMAT", \
	  .help = "Sets the output format: lines, json, message or SMIME", \
	  .variable = "VMCATCHER_OUTPUT_FORMAT" }
#define CERT_DIR \
	{ .letter = 'c', .name = "cert-dir", .metavar = "INPUTDIR", \
	  .help = "Certificate directory.", .variable = "VMCATCHER_DIR_CERT" }
/* Of the commands that vmcatcher gave no such option, but that ours need the directory for, too. */
#define CERT_DIR_UNLETTERED \
	{ .name = "cert-dir", .metavar = "INPUTDIR", .help = "Certificate directory.", \
	  .variable = "VMCATCHER_DIR_CERT" }
#define OUTPUT \
	{ .letter = 'o', .name = "output", .metavar = "OUTPUTFILE", .help = "Export File." }
#define COMMON_LAST \
	{ .letter = 'v', .name = "verbose", \
	  .help = "Change global log level, increasing log output." }, \
	{ .letter = 'q', .name = "quiet", \
	  .help = "Change global log level, decreasing log output." }, \
	{ .name = "log-config", .metavar = "LOGFILE", \
	  .help = "Logfile configuration file; it must exist and is not used.", \
	  .variable = "VMCATCHER_LOG_CONF" }, \
	{ .name = "log-sql-info", .help = "Ignored." }, \
	{ .name = NULL }

static const struct vmc_option endorser_options[] = {
	COMMON_FIRST,
	{ .letter = 'l', .name = "list", .help = "List endorsers." },
	DATABASE,
	{ .letter = 's', .name = "subscription_uuid", .metavar = "UUID",
	  .help = "Select subscription by uuid." },
	{ .letter = 'e', .name = "endorser_uuid", .metavar = "UUID",
	  .help = "Select endorser by uuid." },
	{ .letter = 'C', .name = "create", .help = "Create an endorser." },
	{ .letter = 'n', .name = "dn", .metavar = "DN",
	  .help = "Endorser's certificate distinguished name." },
	{ .letter = 'I', .name = "issuer", .metavar = "ISSUER",
	  .help = "Endorser's certificate issuer's distinguished name." },
	{ .letter = 'D', .name = "delete", .help = "Delete an endorser." },
	{ .letter = 'K', .name = "links", .help = "List endorser subscription links." },
	{ .letter = 'k', .name = "link", .help = "Add endorser to subscription." },
	{ .letter = 'u', .name = "unlink", .help = "Remove endorser from subscription." },
	{ .letter = 'i', .name = "info", .help = "Information on endorser." },
	FORMAT,
	{ .letter = 'S', .name = "subject", .metavar = "DN", .help = "The same as --dn." },
	CERT_DIR_UNLETTERED,
	COMMON_LAST
};

static const struct vmc_option subscribe_options[] = {
	COMMON_FIRST,
	{ .letter = 'l', .name = "list", .help = "List subscriptions." },
	DATABASE,
	{ .letter = 's', .name = "subscribe", .metavar = "INPUTURL",
	  .help = "Subscribe to the image list at this URL." },
	{ .letter = 'e', .name = "auto-endorse",
	  .help = "Register the signer of the list subscribed to." },
	CERT_DIR,
	{ .letter = 'U', .name = "update", .help = "Update image metadata." },
	{ .name = "imagelist-newimage-accept",
	  .help = "Images that are new in a list become known." },
	{ .name = "imagelist-newimage-subscribe",
	  .help = "Images that are new in a list are subscribed to." },
	{ .name = "imagelist-newimage-refuse",
	  .help = "Images that are new in a list are refused (default)." },
	{ .name = "image-list", .help = "List accepted images of a subscription." },
	{ .name = "image-accept", .metavar = "UUID",
	  .help = "Accept an image in a subscription." },
	{ .name = "image-refuse", .metavar = "UUID",
	  .help = "Refuse an image in a subscription." },
	{ .name = "uri-trustanchor-set", .metavar = "ANCHOR",
	  .help = "none, browser or igtf: how the list's server is known." },
	{ .name = "uri-username-set", .metavar = "USERNAME", .secret = true,
	  .help = "User name for the list's server." },
	{ .name = "uri-username-clear", .help = "Forget the user name." },
	{ .name = "uri-password-set", .metavar = "PASSWORD", .secret = true,
	  .help = "Password for the list's server." },
	{ .name = "uri-password-clear", .help = "Forget the password." },
	{ .letter = 'u', .name = "uuid", .metavar = "UUID", .help = "Select subscription." },
	{ .letter = 'r', .name = "uri", .metavar = "URL", .help = "Select subscription." },
	FORMAT,
	{ .letter = 'D', .name = "delete", .help = "Delete subscription." },
	{ .letter = 'i', .name = "info", .help = "Information on subscription." },
	OUTPUT,
	{ .letter = 'x', .name = "execute", .metavar = "EVENT",
	  .help = "Event application to launch.", .variable = "VMCATCHER_SUB_EVENT" },
	COMMON_LAST
};

static const struct vmc_option image_options[] = {
	COMMON_FIRST,
	{ .letter = 'l', .name = "list", .help = "List all images." },
	DATABASE,
	CERT_DIR,
	{ .letter = 'a', .name = "add", .help = "Add image to cache." },
	{ .letter = 'r', .name = "remove", .help = "Remove image from cache." },
	{ .letter = 's', .name = "sha512", .metavar = "SHA512",
	  .help = "Select images by sha512." },
	{ .letter = 'u', .name = "uuid", .metavar = "UUID", .help = "Select images by uuid." },
	{ .letter = 'i', .name = "info", .help = "Info on selected images." },
	FORMAT,
	OUTPUT,
	{ .letter = 'L', .name = "logfile", .metavar = "LOGFILE", .help = "Ignored." },
	COMMON_LAST
};

static const struct vmc_option cache_options[] = {
	COMMON_FIRST,
	DATABASE,
	{ .letter = 'x', .name = "execute", .metavar = "EVENT",
	  .help = "Event application to launch.", .variable = "VMCATCHER_CACHE_EVENT" },
	{ .letter = 'C', .name = "cache-dir", .metavar = "DIR_CACHE",
	  .help = "Set the cache directory.", .variable = "VMCATCHER_CACHE_DIR_CACHE" },
	{ .letter = 'p', .name = "partial-dir", .metavar = "DIR_PARTIAL",
	  .help = "Set the cache download directory.",
	  .variable = "VMCATCHER_CACHE_DIR_DOWNLOAD" },
	{ .letter = 'e', .name = "expired-dir", .metavar = "DIR_EXPIRE",
	  .help = "Set the cache expired directory.", .variable = "VMCATCHER_CACHE_DIR_EXPIRE" },
	{ .letter = 'D', .name = "download",
	  .help = "Download subscribed images to cache directory.",
	  .variable = "VMCATCHER_CACHE_ACTION_DOWNLOAD" },
	{ .letter = 's', .name = "sha512", .help = "Check cache directory images Sha512.",
	  .variable = "VMCATCHER_CACHE_ACTION_CHECK" },
	{ .letter = 'E', .name = "expire",
	  .help = "Remove expired images from cache directory.",
	  .variable = "VMCATCHER_CACHE_ACTION_EXPIRE" },
	CERT_DIR_UNLETTERED,
	COMMON_LAST
};

static const struct {
	const char *command;
	const struct vmc_option *options;
} tables[] = {
	{ "vmcatcher_endorser", endorser_options },
	{ "vmcatcher_subscribe", subscribe_options },
	{ "vmcatcher_image", image_options },
	{ "vmcatcher_cache", cache_options },
};

static const struct vmc_option *
table_of(const char *command)
{
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		if (strcmp(tables[i].command, command) == 0)
			return tables[i].options;
	abort();	/* whoever asks has found the name before */
}

/* ---- parsing --------------------------------------------------------------------------------- */

struct parser {
	struct vmc_options *o;
	char **argv;
	int argc, i;		/* argv[i] is looked at */
	char **why;
};

static enum vmc_parsed
add_value(struct vmc_given *g, const char *value)
{
	g->at = xrealloc(g->at, (g->n + 1) * sizeof(*g->at));
	g->at[g->n++] = value;
	if (strcmp(g->option->name, "help") == 0)
		return VMC_ASKED_HELP;
	return strcmp(g->option->name, "version") == 0 ? VMC_ASKED_VERSION : VMC_PARSED;
}

/*
 * Takes what follows: in the same word (inside not NULL) or as the next one.  The copy of a secret
 * lives as long as the process; what others can see of it is overwritten.
 */
static enum vmc_parsed
take_value(struct parser *p, struct vmc_given *g, char *inside, const char *shown)
{
	char *value = inside;

	if (value == NULL && p->i + 1 >= p->argc) {
		*p->why = xasprintf("%s option requires an argument", shown);
		return VMC_WRONG;
	}
	if (value == NULL)
		value = p->argv[++p->i];
	if (g->option->secret) {
		char *copy = xstrdup(value);

		memset(value, 'x', strlen(value));
		value = copy;
	}
	return add_value(g, value);
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static char *
refuse_beginning(const char *name, size_t len, const char **candidates, size_t n)
{
	CLEANUP_BUF struct buf text = BUF_INIT;

	if (n == 0)
		return xasprintf("no such option: --%.*s", (int)len, name);
	qsort(candidates, n, sizeof(*candidates), compare_names);
	for (size_t i = 0; i < n; i++)
		buf_printf(&text, "%s--%s", i > 0 ? ", " : "", candidates[i]);
	return xasprintf("ambiguous option: --%.*s (%s?)", (int)len, name, buf_str(&text));
}

/* The option with this long name, or the only one that begins so. */
static struct vmc_given *
find_long(struct parser *p, const char *name, size_t len)
{
	CLEANUP_FREE const char **candidates = xcalloc(p->o->n, sizeof(*candidates));
	struct vmc_given *found = NULL;
	size_t n = 0;

	for (size_t i = 0; i < p->o->n; i++) {
		struct vmc_given *g = &p->o->given[i];

		if (strncmp(g->option->name, name, len) != 0)
			continue;
		if (g->option->name[len] == '\0')
			return g;
		candidates[n++] = g->option->name;
		found = g;
	}
	if (n != 1)
		*p->why = refuse_beginning(name, len, candidates, n);
	return n == 1 ? found : NULL;
}

static enum vmc_parsed
parse_long(struct parser *p)
{
	char *word = p->argv[p->i] + 2, *equals = strchr(word, '=');
	size_t len = equals != NULL ? (size_t)(equals - word) : strlen(word);
	struct vmc_given *g = find_long(p, word, len);
	CLEANUP_FREE char *shown = NULL;

	if (g == NULL)
		return VMC_WRONG;
	shown = xasprintf("--%s", g->option->name);
	if (g->option->metavar != NULL)
		return take_value(p, g, equals != NULL ? equals + 1 : NULL, shown);
	if (equals != NULL) {
		*p->why = xasprintf("%s option does not take a value", shown);
		return VMC_WRONG;
	}
	return add_value(g, word);
}

static struct vmc_given *
find_letter(struct parser *p, char letter)
{
	for (size_t i = 0; i < p->o->n; i++)
		if (p->o->given[i].option->letter == letter)
			return &p->o->given[i];
	*p->why = xasprintf("no such option: -%c", letter);
	return NULL;
}

static enum vmc_parsed
parse_letters(struct parser *p)
{
	enum vmc_parsed parsed = VMC_PARSED;

	for (char *c = p->argv[p->i] + 1; parsed == VMC_PARSED && *c != '\0'; c++) {
		const char shown[] = { '-', *c, '\0' };
		struct vmc_given *g = find_letter(p, *c);

		if (g == NULL)
			return VMC_WRONG;
		if (g->option->metavar != NULL)
			return take_value(p, g, c[1] != '\0' ? c + 1 : NULL, shown);
		parsed = add_value(g, c);
	}
	return parsed;
}

static void
init(struct vmc_options *o, const char *command)
{
	const struct vmc_option *table = table_of(command);
	size_t n = 0;

	while (table[n].name != NULL)
		n++;
	*o = (struct vmc_options){ .command = command, .n = n };
	o->given = xcalloc(n, sizeof(*o->given));
	for (size_t i = 0; i < n; i++) {
		const char *variable = table[i].variable;

		o->given[i].option = &table[i];
		if (variable != NULL)
			o->given[i].variable = xstrdup(secure_getenv(variable));
	}
}

enum vmc_parsed
vmc_options_parse(struct vmc_options *o, const char *command, int argc, char **argv, char **why)
{
	struct parser p = { .o = o, .argc = argc, .argv = argv, .i = 1, .why = why };
	enum vmc_parsed parsed = VMC_PARSED;

	*why = NULL;
	init(o, command);
	for (; parsed == VMC_PARSED && p.i < argc; p.i++) {
		const char *word = argv[p.i];

		if (word[0] != '-' || word[1] == '\0')
			continue;
		if (strcmp(word, "--") == 0)
			break;
		parsed = word[1] == '-' ? parse_long(&p) : parse_letters(&p);
	}
	return parsed;
}

static void
forget_secret(const char *copy)
{
	char *text = (char *)(uintptr_t)copy;

	explicit_bzero(text, strlen(text));
	free(text);
}

void
vmc_options_release(struct vmc_options *o)
{
	for (size_t i = 0; i < o->n; i++) {
		struct vmc_given *g = &o->given[i];

		/* The values of others are argv's. */
		for (size_t k = 0; g->option->secret && k < g->n; k++)
			forget_secret(g->at[k]);
		free(g->at);
		free(g->variable);
	}
	free(o->given);
	memset(o, 0, sizeof(*o));
}

const struct vmc_given *
vmc_options_find(const struct vmc_options *o, const char *name)
{
	for (size_t i = 0; i < o->n; i++)
		if (strcmp(o->given[i].option->name, name) == 0)
			return &o->given[i];
	return NULL;
}

/* ---- help ------------------------------------------------------------------------------------ */

enum { HELP_COLUMN = 24, HELP_WIDTH = 54 };	/* as optparse has them on 80 columns */

/* The words of text in lines of at most HELP_WIDTH, each but the first indented. */
static void
add_wrapped(struct buf *out, const char *text)
{
	size_t column = 0;

	while (*text != '\0') {
		size_t len = strcspn(text, " ");

		if (column > 0 && column + 1 + len > HELP_WIDTH) {
			buf_printf(out, "\n%*s", HELP_COLUMN, "");
			column = 0;
		} else if (column > 0) {
			buf_putc(out, ' ');
			column++;
		}
		buf_add(out, text, len);
		column += len;
		text += len;
		text += strspn(text, " ");
	}
	buf_putc(out, '\n');
}

static void
help_option(struct buf *out, const struct vmc_option *option)
{
	CLEANUP_BUF struct buf left = BUF_INIT;

	buf_puts(&left, "  ");
	if (option->letter != '\0' && option->metavar != NULL)
		buf_printf(&left, "-%c %s, ", option->letter, option->metavar);
	else if (option->letter != '\0')
		buf_printf(&left, "-%c, ", option->letter);
	buf_printf(&left, "--%s%s%s", option->name, option->metavar != NULL ? "=" : "",
		   option->metavar != NULL ? option->metavar : "");
	buf_puts(out, buf_str(&left));
	if (left.len + 2 > HELP_COLUMN)
		buf_printf(out, "\n%*s", HELP_COLUMN, "");
	else
		buf_printf(out, "%*s", (int)(HELP_COLUMN - left.len), "");
	add_wrapped(out, option->help);
}

void
vmc_options_help(const char *command, struct buf *out)
{
	const struct vmc_option *table = table_of(command);

	buf_printf(out, "Usage: %s [options]\n\nOptions:\n", command);
	for (size_t i = 0; table[i].name != NULL; i++)
		help_option(out, &table[i]);
}
