/*
 * buf.h - a byte string that grows.
 *
 * Memory that cannot be had ends the process: these are small allocations.  The bytes are
 * always followed by a NUL that is not counted in len, so that data can be used as a C string
 * when it holds no NUL itself.
 */
#ifndef VMI_BUF_H
#define VMI_BUF_H

#include <stddef.h>
#include <stdio.h>

struct buf {
	char *data;		/* never NULL after buf_init() or BUF_INIT's first append */
	size_t len;		/* bytes */
	size_t cap;
};

#define BUF_INIT { NULL, 0, 0 }

void buf_init(struct buf *b);
void buf_release(struct buf *b);
void buf_clear(struct buf *b);			/* keeps the memory */
void buf_add(struct buf *b, const void *data, size_t len);
void buf_puts(struct buf *b, const char *text);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_reserve(struct buf *b, size_t more);
const char *buf_str(const struct buf *b);	/* "" when empty; borrows until the next change */
/* Caller frees; the buf is empty after; len may be NULL. */
char *buf_steal(struct buf *b, size_t *len);

/*
 * Appends text with every byte outside printable ASCII written as \xNN: one line, safe on a
 * terminal.
 */
void buf_add_escaped(struct buf *b, const char *text, size_t len);

/*
 * malloc family that dies on failure: out_of_memory() says so, and ends the process with
 * EXIT_TEMPORARY.
 */
void out_of_memory(void) __attribute__((noreturn));
void *xmalloc(size_t size);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);			/* NULL gives NULL */
char *xstrndup(const char *s, size_t len);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
