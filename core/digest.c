#include "config.h"
#include "digest.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "buf.h"

struct digest_state {
	EVP_MD_CTX *ctx;
};

bool
digest_equal(const struct digest *a, const struct digest *b)
{
	return memcmp(a->bytes, b->bytes, DIGEST_BYTES) == 0;
}

void
digest_hex(const struct digest *d, char hex[DIGEST_HEX + 1])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < DIGEST_BYTES; i++) {
		hex[2 * i] = digits[d->bytes[i] >> 4];
		hex[2 * i + 1] = digits[d->bytes[i] & 15];
	}
	hex[DIGEST_HEX] = '\0';
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool
digest_parse(const char *hex, struct digest *d)
{
	if (strnlen(hex, DIGEST_HEX + 1) != DIGEST_HEX)
		return false;
	for (size_t i = 0; i < DIGEST_BYTES; i++) {
		int high = hex_value(hex[2 * i]), low = hex_value(hex[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		d->bytes[i] = (unsigned char)(high << 4 | low);
	}
	return true;
}

struct digest_state *
digest_state_new(void)
{
	struct digest_state *s = xcalloc(1, sizeof(*s));

	s->ctx = EVP_MD_CTX_new();
	if (s->ctx == NULL)
		abort();
	digest_state_reset(s);
	return s;
}

void
digest_state_free(struct digest_state *s)
{
	if (s == NULL)
		return;
	EVP_MD_CTX_free(s->ctx);
	free(s);
}

/* SHA-512 is built into every OpenSSL: failing here means memory is gone or the library is broken. */
void
digest_state_reset(struct digest_state *s)
{
	if (EVP_DigestInit_ex(s->ctx, EVP_sha512(), NULL) != 1)
		abort();
}

void
digest_state_add(struct digest_state *s, const void *data, size_t len)
{
	if (EVP_DigestUpdate(s->ctx, data, len) != 1)
		abort();
}

void
digest_state_end(struct digest_state *s, struct digest *d)
{
	unsigned int n = 0;

	if (EVP_DigestFinal_ex(s->ctx, d->bytes, &n) != 1 || n != DIGEST_BYTES)
		abort();
}

void
digest_of(const void *data, size_t len, struct digest *d)
{
	struct digest_state *s = digest_state_new();

	digest_state_add(s, data, len);
	digest_state_end(s, d);
	digest_state_free(s);
}
