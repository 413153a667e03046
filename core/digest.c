#include "config.h"
#include "digest.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "buf.h"
#include "hex.h"

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

bool
digest_parse(const char *hex, struct digest *d)
{
	if (strnlen(hex, DIGEST_HEX + 1) != DIGEST_HEX)
		return false;
	for (size_t i = 0; i < DIGEST_BYTES; i++) {
		int byte = hex_byte(hex + 2 * i);

		if (byte < 0)
			return false;
		d->bytes[i] = (unsigned char)byte;
	}
	return true;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void *
crypto_malloc(size_t size, const char *file, int line)
{
	(void)file;
	(void)line;
	return xmalloc(size);
}

static void *
crypto_realloc(void *p, size_t size, const char *file, int line)
{
	(void)file;
	(void)line;
	return xrealloc(p, size);
}

static void
crypto_free(void *p, const char *file, int line)
{
	(void)file;
	(void)line;
	free(p);
}

void
digest_setup(void)
{
	CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free);
}

struct digest_state *
digest_state_new(void)
{
	struct digest_state *s = xcalloc(1, sizeof(*s));

	s->ctx = EVP_MD_CTX_new();
	if (s->ctx == NULL)
		out_of_memory();
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

/*
 * SHA-512 is built into every OpenSSL: failing here means memory is gone or the library is broken.
 */
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

/* ---- one call -------------------------------------------------------------------------------- */

/*
 * Looking SHA-512 up takes locks of the library, which all threads would wait for when they hash
 * 4 KiB at a time: each thread keeps a context of its own that has it.
 */
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t context_key;

static void
free_context(void *state)
{
	digest_state_free(state);
}

static void
make_key(void)
{
	if (pthread_key_create(&context_key, free_context) != 0)
		abort();
}

static struct digest_state *
thread_context(void)
{
	struct digest_state *s;

	pthread_once(&key_once, make_key);
	s = pthread_getspecific(context_key);
	if (s == NULL) {
		s = digest_state_new();
		if (pthread_setspecific(context_key, s) != 0)
			abort();
	} else if (EVP_DigestInit_ex(s->ctx, NULL, NULL) != 1) {
		abort();
	}
	return s;
}

void
digest_of(const void *data, size_t len, struct digest *d)
{
	struct digest_state *s = thread_context();

	digest_state_add(s, data, len);
	digest_state_end(s, d);
}
