/*
 * digest.h - SHA-512 (FIPS 180-4) and its 128-digit hexadecimal form.
 */
#ifndef VMI_DIGEST_H
#define VMI_DIGEST_H

#include <stdbool.h>
#include <stddef.h>

enum { DIGEST_BYTES = 64, DIGEST_HEX = 128 };

struct digest {
	unsigned char bytes[DIGEST_BYTES];
};

/*
 * To be called before anything else has used OpenSSL: its memory is xmalloc()'s, because a
 * signature or certificate that there is no memory to check would look like a bad one.
 */
void digest_setup(void);

bool digest_equal(const struct digest *a, const struct digest *b);
void digest_hex(const struct digest *d, char hex[DIGEST_HEX + 1]);	/* lower case */

/* Exactly 128 hexadecimal digits, either case; false otherwise. */
bool digest_parse(const char *hex, struct digest *d);

void digest_of(const void *data, size_t len, struct digest *d);

/* A running hash.  Used by one thread at a time.  digest_state_new() dies if there is no memory. */
struct digest_state;
struct digest_state *digest_state_new(void);
void digest_state_free(struct digest_state *s);
void digest_state_reset(struct digest_state *s);
void digest_state_add(struct digest_state *s, const void *data, size_t len);
void digest_state_end(struct digest_state *s, struct digest *d);	/* reset before reuse */

#endif
