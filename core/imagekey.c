#include "config.h"
#include "imagekey.h"

#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "imageuri.h"
#include "limits.h"

static const char verity_key[] = "sl:checksum:fsverity-sha512";
static const char verity_uri_key[] = "hv:fsverity:uri";

/* C0 controls, DEL, and the C1 controls as UTF-8 writes them. */
static bool
has_control_character(const char *text)
{
	for (const unsigned char *s = (const unsigned char *)text; *s != '\0'; s++)
		if (*s < 0x20 || *s == 0x7F || (s[0] == 0xC2 && s[1] >= 0x80 && s[1] < 0xA0))
			return true;
	return false;
}

int
imagekey_identifier(const char *identifier, struct err *err)
{
	if (*identifier == '\0')
		return err_refuse(err, CODE_IDENTIFIER, "'dc:identifier' is empty");
	if (strlen(identifier) > LIMIT_IDENTIFIER_BYTES)
		return err_refuse(err, CODE_IDENTIFIER, "'dc:identifier' is longer than %d bytes",
				  LIMIT_IDENTIFIER_BYTES);
	if (has_control_character(identifier))
		return err_refuse(err, CODE_IDENTIFIER,
				  "'dc:identifier' contains control characters");
	return 0;
}

static bool
parse_decimal(const char *text, int64_t *value)
{
	int64_t n = 0;

	if (*text < '1' || *text > '9')
		return false;
	for (; *text >= '0' && *text <= '9'; text++) {
		n = n * 10 + (*text - '0');
		if (n > LIMIT_IMAGE_BYTES)
			return false;
	}
	*value = n;
	return *text == '\0';
}

int
imagekey_size(const struct json *value, int64_t *size, struct err *err)
{
	const char *text = json_as_string(value);
	bool ok = text != NULL ? parse_decimal(text, size) : json_as_integer(value, size);

	if (!ok || *size < 1 || *size > LIMIT_IMAGE_BYTES)
		return err_refuse(err, CODE_EXPIRED,
				  "'hv:size' is not a whole number of bytes from 1 to %lld",
				  LIMIT_IMAGE_BYTES);
	return 0;
}

int
imagekey_sha512(const char *text, struct digest *out, struct err *err)
{
	if (!digest_parse(text, out))
		return err_refuse(err, CODE_EXPIRED,
				  "'sl:checksum:sha512' is not %d hexadecimal digits", DIGEST_HEX);
	return 0;
}

static int
check_verity(const struct json *value, struct digest *out, struct err *err)
{
	const char *text = json_as_string(value);

	if (text == NULL)
		return err_refuse(err, CODE_EXPIRED, "'%s' is not a string", verity_key);
	/* One value, one spelling: what compares it as text must not find two. */
	if (strspn(text, "0123456789abcdef") != DIGEST_HEX || !digest_parse(text, out))
		return err_refuse(err, CODE_EXPIRED,
				  "'%s' is not %d hexadecimal digits in lower case", verity_key,
				  DIGEST_HEX);
	return 0;
}

static int
check_verity_uri(const struct json *value, const char *file_prefix, struct err *err)
{
	const char *text = json_as_string(value);

	if (text == NULL)
		return err_refuse(err, CODE_EXPIRED, "'%s' is not a string", verity_uri_key);
	return imageuri_check(verity_uri_key, text, file_prefix, err);
}

int
imagekey_verity(const struct json *object, const char *file_prefix, bool *has_verity,
		struct digest *verity, char **uri, struct err *err)
{
	const struct json *digest = json_get(object, verity_key);
	const struct json *address = json_get(object, verity_uri_key);
	struct digest found = { { 0 } };
	int rc = 0;

	if (digest != NULL)
		rc = check_verity(digest, &found, err);
	if (rc == 0 && address != NULL)
		rc = check_verity_uri(address, file_prefix, err);
	if (rc != 0)
		return rc;
	*has_verity = digest != NULL;
	*verity = found;
	*uri = xstrdup(digest != NULL && address != NULL ? json_as_string(address) : "");
	return 0;
}
