#include "config.h"
#include "output.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/io.h"
#include "core/utf8.h"

enum {
	DRAIN_BYTES = 64 << 10,
	PIECE_BYTES = 4096,	/* PIPE_BUF: a pipe that is ready takes as much without waiting */
};

void
output_init(struct output *o)
{
	memset(o, 0, sizeof(*o));
	buf_init(&o->text);
}

/* ---- foreign text ---------------------------------------------------------------------------- */

bool
output_is_utf8(const char *text)
{
	return utf8_is_valid(text);
}

/* How many bytes from here on can be shown as they are, without a second look. */
static size_t
ascii_run(const unsigned char *s)
{
	size_t n = 0;

	while (s[n] >= 0x20 && s[n] < 0x7F)
		n++;
	return n;
}

void
output_add_foreign(struct buf *b, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;

	for (;;) {
		size_t n = ascii_run(s);

		buf_add(b, s, n);
		s += n;
		if (*s == '\0')
			break;
		n = utf8_length(s);
		if (n == 0 || utf8_control(s, n) >= 0) {
			for (size_t i = 0; i < (n == 0 ? 1 : n); i++)
				buf_printf(b, "\\x%02x", s[i]);
		} else {
			buf_add(b, s, n);
		}
		s += n == 0 ? 1 : n;
	}
}

void
output_size(int64_t bytes, char out[OUTPUT_SIZE_BYTES])
{
	static const char units[] = "KMGTPE";
	double value = (double)bytes;
	size_t i;

	if (bytes < 1024) {
		snprintf(out, OUTPUT_SIZE_BYTES, "%" PRId64 " B", bytes);
		return;
	}
	value /= 1024;
	for (i = 0; value >= 1000 && i + 2 < sizeof(units); i++)
		value /= 1024;
	snprintf(out, OUTPUT_SIZE_BYTES, "%.1f %ciB", value, units[i]);
}

/* ---- standard output ------------------------------------------------------------------------- */

void
output_flush(struct output *o)
{
	int rc;

	if (o->text.len == 0)
		return;
	rc = o->write_error != 0 ? 0 : io_write_all(STDOUT_FILENO, o->text.data, o->text.len);
	if (rc != 0)
		o->write_error = -rc;
	buf_clear(&o->text);
	o->held = 0;
}

int
output_offer(struct buf *text, size_t *held)
{
	struct pollfd p = { .fd = STDOUT_FILENO, .events = POLLOUT };
	size_t done = 0;
	int rc = 0;

	if (text->len < DRAIN_BYTES || text->len < 2 * *held)
		return 0;
	while (rc == 0 && done < text->len && poll(&p, 1, 0) > 0) {
		size_t n = text->len - done < PIECE_BYTES ? text->len - done : PIECE_BYTES;

		rc = io_write_all(STDOUT_FILENO, text->data + done, n);
		done += n;
	}
	text->len -= done;
	memmove(text->data, text->data + done, text->len + 1);
	*held = text->len;
	return rc;
}

int
output_drain(struct output *o)
{
	if (o->write_error != 0)
		buf_clear(&o->text);
	else
		o->write_error = -output_offer(&o->text, &o->held);
	return -o->write_error;
}

/* A line is ours; what is foreign in it comes through %s and is made harmless here. */
static void __attribute__((format(printf, 2, 0)))
add_line(struct output *o, const char *fmt, va_list ap)
{
	char *line = NULL;

	if (vasprintf(&line, fmt, ap) < 0)
		out_of_memory();
	output_add_foreign(&o->text, line);
	buf_putc(&o->text, '\n');
	free(line);
	output_drain(o);
}

void
output_line(struct output *o, const char *fmt, ...)
{
	va_list ap;

	if (o->json)
		return;
	va_start(ap, fmt);
	add_line(o, fmt, ap);
	va_end(ap);
}

void
output_note(struct output *o, const char *fmt, ...)
{
	va_list ap;

	if (o->json || o->verbosity < 0)
		return;
	va_start(ap, fmt);
	add_line(o, fmt, ap);
	va_end(ap);
}

void
output_pair(struct output *o, const char *key, const char *value)
{
	output_line(o, "%s: %s", key, value);
}

struct jsonw *
output_json(struct output *o)
{
	if (!o->json)
		return NULL;
	if (!o->json_open) {
		jsonw_begin(&o->writer, &o->text, true);
		jsonw_open(&o->writer, NULL, '{');
		jsonw_integer(&o->writer, "schema", 1);
		o->json_open = true;
	}
	return &o->writer;
}

int
output_end(struct output *o)
{
	if (o->json_open) {
		jsonw_close(&o->writer, '}');
		buf_putc(&o->text, '\n');
		o->json_open = false;
	}
	output_flush(o);
	buf_release(&o->text);
	return -o->write_error;
}

/* ---- errors ---------------------------------------------------------------------------------- */

void
output_warn(const struct output *o, const char *fmt, ...)
{
	CLEANUP_BUF struct buf line = BUF_INIT;
	char *text = NULL;
	va_list ap;

	if (o->verbosity < 0)
		return;
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		out_of_memory();
	va_end(ap);
	buf_puts(&line, o->lead != NULL ? o->lead : "vmimagectl: ");
	output_add_foreign(&line, text);
	buf_putc(&line, '\n');
	free(text);
	/* Standard error is the last resort: nobody can be told that it is closed. */
	(void)io_write_all(STDERR_FILENO, line.data, line.len);
}

int
output_status(const struct err *err)
{
	if (err->code != CODE_NONE)
		return code_exit(err->code);
	switch (-err->rc) {
	case ENOENT:
		return EXIT_UNKNOWN;
	case EINVAL:
	case ENOTUNIQ:
		return EXIT_USAGE;
	case ENOTCONN:
		return EXIT_NO_DAEMON;
	case EACCES:
	case EPERM:
	case EROFS:
		return EXIT_PERMISSION;
	case ENOSPC:
	case EDQUOT:
		return EXIT_NO_SPACE;
	case ETIMEDOUT:
	case EHOSTUNREACH:
	case EREMOTEIO:
	case EBUSY:
	case EAGAIN:
		return EXIT_TEMPORARY;
	case EKEYREJECTED:
	case EKEYEXPIRED:
	case EKEYREVOKED:
	case EBADMSG:
	case EPROTO:
	case ESTALE:
		return EXIT_REFUSED;
	default:
		return EXIT_SOME_FAILED;
	}
}

/* What to do, for refusals whose cure is always the same. */
static const struct {
	enum code code;
	const char *hint;
} hints[] = {
	{ CODE_DOWNLOAD,
	  "check the address and that its server is up; what was there before stands" },
	{ CODE_SIGNATURE,
	  "ask the list's publisher; 'vmimagectl config show' names the cert_dir that must"
	  " hold the signer's CA" },
	{ CODE_DN,
	  "only the publisher can correct it: hv:dn and hv:ca must be the names of the signing"
	  " certificate" },
	{ CODE_NOT_LINKED,
	  "if you trust this signer: 'vmimagectl endorser add NAME --subject DN --issuer"
	  " DN', then 'vmimagectl endorser link NAME LIST'" },
	{ CODE_NO_ANCHORS, "install CA certificates, CRLs and policy files in cert_dir" },
	{ CODE_DATABASE, "run 'vmimagectl verify --deep'" },
	{ CODE_SAME_VERSION, "ask the publisher to raise hv:version" },
	{ CODE_LOWER_VERSION,
	  "an old list is being replayed, or the publisher began anew: then 'vmimagectl"
	  " update LIST --reset-version'" },
	{ CODE_LIST_ID, "if the new list is wanted: unsubscribe, and subscribe again" },
	{ CODE_FUTURE, "compare the clocks of this host and of the publisher" },
	{ CODE_EXPIRED, "ask the publisher for a list that is in date" },
	{ CODE_DIGEST, "ask the publisher; the bytes are kept in quarantine" },
	{ CODE_SLOW, "try again later" },
	{ CODE_WEAK,
	  "ask the publisher to sign with SHA-256; an endorser registered with --allow-sha1 may"
	  " sign with SHA-1" },
	{ CODE_CRL, "run fetch-crl; every CA of the chain needs a CRL that is in date" },
	{ CODE_NAMESPACE,
	  "the CA's .signing_policy and .namespaces files in cert_dir must permit the"
	  " subject" },
	{ CODE_FULL,
	  "'vmimagectl status' says what takes the room, 'vmimagectl expired --purge 0' frees what"
	  " has expired" },
	{ CODE_CORRUPT, "run 'vmimagectl verify --deep --fix'" },
	{ CODE_BUSY, "try again when the other process is done" },
};

static const char *
find_hint(const struct err *err)
{
	for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++)
		if (hints[i].code == err->code)
			return hints[i].hint;
	switch (output_status(err)) {
	case EXIT_NO_DAEMON:
		return "start it with 'vmimagefs MOUNTPOINT'";
	case EXIT_PERMISSION:
		return "run it as root";
	case EXIT_NO_SPACE:
		return "make room on that file system";
	default:
		return NULL;
	}
}

int
output_error(struct output *o, const struct err *err, const char *hint)
{
	CLEANUP_BUF struct buf line = BUF_INIT;

	if (hint == NULL)
		hint = find_hint(err);
	buf_puts(&line, err->text);
	if (hint != NULL)
		buf_printf(&line, "; %s", hint);
	if (o->json && !o->json_open) {
		struct jsonw *w = output_json(o);

		jsonw_open(w, "error", '{');
		jsonw_integer(w, "code", (int64_t)err->code);
		jsonw_string(w, "message", buf_str(&line));
		jsonw_close(w, '}');
	} else {
		struct output loud = { .verbosity = 0, .lead = o->lead };

		if (err->code != CODE_NONE)
			output_warn(&loud, "%s (code %d)", buf_str(&line), (int)err->code);
		else
			output_warn(&loud, "%s", buf_str(&line));
	}
	return output_status(err);
}
