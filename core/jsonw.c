/*
 * jsonw.c - JSON out, in document order.
 *
 * The writer keeps no stack: whether a comma is due is known from the last call, and the caller
 * says which bracket it closes.  What it writes is always UTF-8 and safe to show on a terminal.
 */
#include "config.h"
#include "jsonw.h"

#include <inttypes.h>
#include <stddef.h>

#include "stamp.h"
#include "utf8.h"

/* The rest of \n, \t and their like, '\0' if the character has no such form. */
static char
short_escape(int c)
{
	switch (c) {
	case '"':
	case '\\':
		return (char)c;
	case '\n':
		return 'n';
	case '\t':
		return 't';
	case '\r':
		return 'r';
	case '\b':
		return 'b';
	case '\f':
		return 'f';
	}
	return '\0';
}

/* How many bytes from here on are written as they are: ASCII, most of what there is. */
static size_t
plain_run(const unsigned char *s)
{
	size_t n = 0;

	while (s[n] >= 0x20 && s[n] < 0x7F && s[n] != '"' && s[n] != '\\')
		n++;
	return n;
}

/*
 * RFC 8259 wants the C0 controls, the quote and the backslash escaped.  DEL and the C1 controls
 * are escaped as well, since the text may be shown on a terminal.
 */
static void
add_quoted(struct buf *out, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;

	buf_putc(out, '"');
	for (;;) {
		size_t len = plain_run(s);

		buf_add(out, s, len);
		s += len;
		if (*s == '\0')
			break;
		len = utf8_length(s);
		if (len == 0)
			buf_puts(out, "\xEF\xBF\xBD");
		else if (len == 1 && short_escape(*s) != '\0')
			buf_printf(out, "\\%c", short_escape(*s));
		else if (utf8_control(s, len) >= 0)
			buf_printf(out, "\\u%04x", (unsigned)utf8_control(s, len));
		else
			buf_add(out, s, len);
		s += len != 0 ? len : 1;
	}
	buf_putc(out, '"');
}

static void
new_line(struct jsonw *w)
{
	if (!w->pretty)
		return;
	buf_putc(w->out, '\n');
	for (int i = 0; i < w->depth; i++)
		buf_add(w->out, "  ", 2);
}

static void
begin_value(struct jsonw *w, const char *key)
{
	if (w->depth > 0) {
		if (!w->first)
			buf_putc(w->out, ',');
		new_line(w);
	}
	w->first = false;
	if (key == NULL)
		return;
	add_quoted(w->out, key);
	buf_puts(w->out, w->pretty ? ": " : ":");
}

void
jsonw_begin(struct jsonw *w, struct buf *out, bool pretty)
{
	*w = (struct jsonw){ .out = out, .pretty = pretty, .first = true };
}

void
jsonw_open(struct jsonw *w, const char *key, char bracket)
{
	begin_value(w, key);
	buf_putc(w->out, bracket);
	w->depth++;
	w->first = true;
}

void
jsonw_close(struct jsonw *w, char bracket)
{
	w->depth--;
	if (!w->first)
		new_line(w);
	buf_putc(w->out, bracket);
	w->first = false;
}

void
jsonw_string(struct jsonw *w, const char *key, const char *value)
{
	begin_value(w, key);
	if (value != NULL)
		add_quoted(w->out, value);
	else
		buf_puts(w->out, "null");
}

void
jsonw_integer(struct jsonw *w, const char *key, int64_t value)
{
	begin_value(w, key);
	buf_printf(w->out, "%" PRId64, value);
}

void
jsonw_boolean(struct jsonw *w, const char *key, bool value)
{
	jsonw_raw(w, key, value ? "true" : "false");
}

void
jsonw_stamp(struct jsonw *w, const char *key, int64_t seconds)
{
	char text[STAMP_BYTES];

	stamp_format(seconds, text);
	jsonw_string(w, key, seconds != 0 ? text : NULL);
}

void
jsonw_raw(struct jsonw *w, const char *key, const char *json)
{
	begin_value(w, key);
	buf_puts(w->out, json);
}
