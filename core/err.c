#include "config.h"
#include "err.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "buf.h"

/* A sentence may quote foreign text: one line, printable, whatever it held. */
static void
store_text(struct err *err, const char *text)
{
	struct buf b = BUF_INIT;

	buf_add_escaped(&b, text, strlen(text));
	snprintf(err->text, sizeof(err->text), "%s", buf_str(&b));
	buf_release(&b);
}

static void __attribute__((format(printf, 4, 0)))
fill(struct err *err, int errnum, enum code code, const char *fmt, va_list ap)
{
	char text[ERR_TEXT_MAX];

	assert(errnum > 0);
	if (err == NULL)
		return;
	vsnprintf(text, sizeof(text), fmt, ap);
	err->rc = -errnum;
	err->code = code;
	store_text(err, text);
}

int
err_set(struct err *err, int errnum, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fill(err, errnum, CODE_NONE, fmt, ap);
	va_end(ap);
	return -errnum;
}

int
err_refuse(struct err *err, enum code code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fill(err, code_errno(code), code, fmt, ap);
	va_end(ap);
	return -code_errno(code);
}

int
err_prefix(struct err *err, const char *fmt, ...)
{
	struct buf joined = BUF_INIT;
	char subject[ERR_TEXT_MAX / 2];
	va_list ap;

	if (err == NULL)
		return 0;
	va_start(ap, fmt);
	vsnprintf(subject, sizeof(subject), fmt, ap);
	va_end(ap);
	buf_add_escaped(&joined, subject, strlen(subject));
	buf_puts(&joined, ": ");
	buf_puts(&joined, err->text);
	snprintf(err->text, sizeof(err->text), "%s", buf_str(&joined));
	buf_release(&joined);
	return err->rc;
}

void
err_clear(struct err *err)
{
	if (err == NULL)
		return;
	err->rc = 0;
	err->code = CODE_NONE;
	err->text[0] = '\0';
}
