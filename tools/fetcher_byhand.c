/*
 * fetcher_byhand.c - the command line: a table of options, each a field of a request.
 */
#include "config.h"

#include "fetcher_byhand.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "fetcher_transfer.h"

enum { OPT_NUMBER, OPT_TEXT };

#define FIELD(member) \
	offsetof(struct fetch_request, member), sizeof(((struct fetch_request *)NULL)->member)

static const struct by_hand_option {
	const char *name;
	int type;
	size_t offset, size;
	const char *argument, *help;
} by_hand_options[] = {
	{ "offset", OPT_NUMBER, FIELD(offset), "N", "ask for the bytes from N on" },
	{ "length", OPT_NUMBER, FIELD(length), "N", "ask for so many bytes and no more" },
	{ "etag", OPT_TEXT, FIELD(etag), "\"V\"", "validator of the bytes before the offset" },
	{ "max-bytes", OPT_NUMBER, FIELD(max_bytes), "N", "refuse a file of more than N bytes" },
	{ "expect-size", OPT_NUMBER, FIELD(expected_size), "N", "refuse a file of any other size" },
	{ "connect-timeout", OPT_NUMBER, FIELD(connect_timeout), "S",
	  "seconds for name, connection and handshake (15)" },
	{ "stall-timeout", OPT_NUMBER, FIELD(stall_timeout), "S", "seconds without progress (30)" },
	{ "total-timeout", OPT_NUMBER, FIELD(total_timeout), "S",
	  "seconds for all of it (0: none)" },
	{ "limit-rate", OPT_NUMBER, FIELD(limit_rate), "N", "bytes a second (0: no limit)" },
	{ "tls-ca", OPT_TEXT, FIELD(tls_ca), "PATH",
	  "file or directory of CAs instead of the system's" },
	{ "proxy", OPT_TEXT, FIELD(proxy), "URL", "proxy; the environment is never asked" },
	{ "file-prefix", OPT_TEXT, FIELD(file_prefix), "DIR",
	  "refuse file: addresses that lie elsewhere" },
};

enum { N_BY_HAND = sizeof(by_hand_options) / sizeof(by_hand_options[0]) };
enum { OPT_FIRST = 256, OPT_CREDENTIALS = OPT_FIRST + N_BY_HAND };

static void
print_help(void)
{
	printf("usage: vmimagefs-fetcher [options] URL\n"
	       "Writes the body of URL (http, https, file) to standard output.\n"
	       "Without URL it serves requests on descriptor 3, as vmimagefs starts it.\n\n");
	for (size_t i = 0; i < N_BY_HAND; i++)
		printf("  --%s %-*s %s\n", by_hand_options[i].name,
		       (int)(20 - strlen(by_hand_options[i].name)), by_hand_options[i].argument,
		       by_hand_options[i].help);
	printf("  --credentials FILE    user:password in the first line of FILE; - is stdin\n"
	       "  -v, --verbose         tell on standard error what begins\n"
	       "  -V, --version\n"
	       "  -h, --help\n\n"
	       "Exit status: 0 done, 2 usage, 4 refused, 5 temporary (network, time), 1 other.\n");
}

static int
set_option(struct fetch_request *req, const struct by_hand_option *o, const char *text)
{
	char *field = (char *)req + o->offset;
	char *end = NULL;
	long long value;

	if (o->type == OPT_TEXT) {
		if (strlen(text) >= o->size)
			return -1;
		memcpy(field, text, strlen(text) + 1);
		return 0;
	}
	errno = 0;
	value = strtoll(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value < 0)
		return -1;
	memcpy(field, &(int64_t){ value }, sizeof(int64_t));
	return 0;
}

static int
read_credentials(struct fetch_request *req, const char *path)
{
	CLEANUP_FILE FILE *f = strcmp(path, "-") == 0 ? fdopen(dup(0), "r") : fopen(path, "re");
	char line[2 * FETCH_SECRET_MAX];
	char *colon;
	int rc = -1;

	if (f == NULL || fgets(line, sizeof(line), f) == NULL)
		return -1;
	line[strcspn(line, "\r\n")] = '\0';
	colon = strchr(line, ':');
	if (colon != NULL && colon - line < FETCH_SECRET_MAX &&
	    strlen(colon + 1) < FETCH_SECRET_MAX) {
		*colon = '\0';
		memcpy(req->username, line, strlen(line) + 1);
		memcpy(req->password, colon + 1, strlen(colon + 1) + 1);
		rc = 0;
	}
	explicit_bzero(line, sizeof(line));
	return rc;
}

/* The URL goes through the same door as a subscriber's; a secret does not belong into argv. */
static int
set_url(struct fetch_request *req, const char *url)
{
	CLEANUP_FREE char *clean = NULL;
	CLEANUP_FREE char *user = NULL;
	CLEANUP_FREE char *password = NULL;
	struct err err = { 0 };

	if (fetch_split_url(url, &clean, &user, &password, &err) != 0) {
		fprintf(stderr, "vmimagefs-fetcher: %s\n", err.text);
		return -1;
	}
	if (user != NULL) {
		fprintf(stderr, "vmimagefs-fetcher: others can read an argument: "
			"give user and password with --credentials\n");
		return -1;
	}
	memcpy(req->url, clean, strlen(clean) + 1);
	return 0;
}

static int
set_any(struct byhand *b, int o)
{
	int rc = 0;

	if (o == 'v')
		b->verbose = true;
	else if (o == OPT_CREDENTIALS)
		rc = read_credentials(&b->req, optarg);
	else
		rc = set_option(&b->req, &by_hand_options[o - OPT_FIRST], optarg);
	if (rc != 0)
		fprintf(stderr, "vmimagefs-fetcher: cannot use '%s'\n", optarg);
	return rc;
}

int
byhand_parse(struct byhand *b, int argc, char **argv)
{
	struct option options[N_BY_HAND + 5] = { 0 };
	int o, rc = 0;

	b->verbose = false;
	fetch_request_init(&b->req, NULL);

	for (int i = 0; i < N_BY_HAND; i++)
		options[i] = (struct option){ by_hand_options[i].name, required_argument, NULL,
					      OPT_FIRST + i };
	options[N_BY_HAND] = (struct option){ "credentials", required_argument, NULL,
					      OPT_CREDENTIALS };
	options[N_BY_HAND + 1] = (struct option){ "verbose", no_argument, NULL, 'v' };
	options[N_BY_HAND + 2] = (struct option){ "version", no_argument, NULL, 'V' };
	options[N_BY_HAND + 3] = (struct option){ "help", no_argument, NULL, 'h' };
	while (rc == 0 && (o = getopt_long(argc, argv, "vVh", options, NULL)) != -1) {
		if (o == 'h') {
			print_help();
			return 1;
		}
		if (o == 'V') {
			printf("vmimagefs-fetcher %s (%s)\n", PACKAGE_VERSION, http_library());
			return 1;
		}
		rc = o == '?' ? -1 : set_any(b, o);
	}
	if (rc == 0 && optind != argc - 1) {
		fprintf(stderr, "vmimagefs-fetcher: one URL, please; see --help\n");
		rc = -1;
	}
	return rc == 0 ? set_url(&b->req, argv[optind]) : rc;
}
