/*
 * fuzz.h - what the fuzz harnesses share.
 *
 * A harness fuzz_NAME.c hands bytes from strangers to the modules that read them in the real
 * programs, and aborts where what they make of them breaks a promise.  `make fuzz` builds it with
 * libFuzzer (fuzz_run starts it); the ordinary build links it with fuzz_replay.c into
 * tests/unit/test_fuzz_NAME, which gives it every file of corpus/NAME.
 *
 * The first byte of an input often says which of several readers it is for (fuzz_take_byte()).
 */
#ifndef VMI_FUZZ_H
#define VMI_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One input; always returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Its rows of the fault catalogue and what it shows. */
const char *fuzz_title(void);

/* A promise that holds for every input. */
#define FUZZ_CHECK(promise) \
	do { \
		if (!(promise)) \
			fuzz_broken(__FILE__, __LINE__, #promise); \
	} while (0)

static inline void __attribute__((noreturn))
fuzz_broken(const char *file, int line, const char *promise)
{
	fprintf(stderr, "%s:%d: broken: %s\n", file, line, promise);
	abort();
}

/* What is left of an input. */
struct fuzz_input {
	const uint8_t *data;
	size_t len;
};

static inline unsigned
fuzz_take_byte(struct fuzz_input *in)
{
	unsigned byte = 0;

	if (in->len > 0) {
		byte = in->data[0];
		in->data++;
		in->len--;
	}
	return byte;
}

/* Up to eight bytes, little-endian. */
static inline uint64_t
fuzz_take_number(struct fuzz_input *in, int n_bytes)
{
	uint64_t value = 0;

	for (int i = 0; i < n_bytes; i++)
		value |= (uint64_t)fuzz_take_byte(in) << (8 * i);
	return value;
}

/* In memory of exactly its size, so that a sanitizer sees a byte read too far; caller frees. */
static inline char *
fuzz_copy(const void *data, size_t len, size_t room)
{
	char *copy = malloc(len + room > 0 ? len + room : 1);

	if (copy == NULL)
		abort();
	if (len > 0)
		memcpy(copy, data, len);
	memset(copy + len, 0, room);
	return copy;
}

/* The bytes before the next end of line, or all that is left, as a string.  Caller frees. */
static inline char *
fuzz_take_line(struct fuzz_input *in)
{
	const uint8_t *end = in->len > 0 ? memchr(in->data, '\n', in->len) : NULL;
	size_t len = end != NULL ? (size_t)(end - in->data) : in->len;
	char *line = fuzz_copy(in->data, len, 1);

	in->data += len + (end != NULL ? 1 : 0);
	in->len -= len + (end != NULL ? 1 : 0);
	return line;
}

/* All that is left, as a string (up to its first NUL, for who reads it).  Caller frees. */
static inline char *
fuzz_take_text(struct fuzz_input *in)
{
	char *text = fuzz_copy(in->data, in->len, 1);

	in->data += in->len;
	in->len = 0;
	return text;
}

#endif
