/*
 * imageuri.c - which addresses a signed list may give for an image.
 *
 *	scheme://authority/path?query#fragment		authority = host[:port]
 *
 * An endorser vouches for images, not for where this host may be sent: the checks here keep a
 * list from reading local files, from reaching the metadata service of a cloud, and from handing
 * a shell or a terminal anything of interest, should an address ever meet one.
 *
 * A host can be written in many ways.  Numbers are read with inet_aton(), because what fetches the
 * image reads 0xA9FEA9FE and 169.254.43518 as addresses too; percent signs in hosts are refused,
 * because it would decode them.
 */
#include "config.h"
#include "imageuri.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "limits.h"

enum { HOST_MAX = 255, PORT_MAX = 65535 };

/* A part of the URI. */
struct span {
	const char *at;
	size_t len;
};

static bool
has_scheme(const char *uri, const char *scheme)
{
	return strncasecmp(uri, scheme, strlen(scheme)) == 0;
}

/* RFC 3986 section 2, without the apostrophe: a shell would take it for a quote. */
static bool
is_uri_byte(char c)
{
	static const char others[] = "-._~:/?#[]@!$&()*+,;=%";

	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       memchr(others, c, sizeof(others) - 1) != NULL;
}

/* The part between "//" and the path; len 0 if the URI has none. */
static struct span
authority_of(const char *uri)
{
	const char *slashes = strstr(uri, "://");
	struct span authority = { uri, 0 };

	if (slashes == NULL)
		return authority;
	authority.at = slashes + 3;
	authority.len = strcspn(authority.at, "/?#");
	return authority;
}

static bool
span_holds(struct span s, char c)
{
	return memchr(s.at, c, s.len) != NULL;
}

void
imageuri_strip_userinfo(char *uri)
{
	struct span authority = authority_of(uri);
	const char *at = memrchr(authority.at, '@', authority.len);

	if (at != NULL)
		memmove(uri + (authority.at - uri), at + 1, strlen(at + 1) + 1);
}

/* ---- link-local addresses -------------------------------------------------------------- */

static bool
is_link_local4(const unsigned char a[4])
{
	return a[0] == 169 && a[1] == 254;
}

static bool
is_link_local6(const struct in6_addr *address)
{
	static const unsigned char nat64[12] = { 0x00, 0x64, 0xff, 0x9b };
	const unsigned char *a = address->s6_addr;
	bool carries4 = IN6_IS_ADDR_V4MAPPED(address) || IN6_IS_ADDR_V4COMPAT(address)
		|| memcmp(a, nat64, sizeof(nat64)) == 0;

	return IN6_IS_ADDR_LINKLOCAL(address) || (carries4 && is_link_local4(a + 12));
}

bool
imageuri_address_is_link_local(const struct sockaddr *address)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	switch (address->sa_family) {
	case AF_INET:
		memcpy(&in, address, sizeof(in));
		return is_link_local4((const unsigned char *)&in.sin_addr);
	case AF_INET6:
		memcpy(&in6, address, sizeof(in6));
		return is_link_local6(&in6.sin6_addr);
	}
	return false;
}

/* ---- the host ---------------------------------------------------------------------------- */

static int
check_host6(const char *key, struct span host, struct err *err)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr address;

	if (host.len >= sizeof(text))
		return err_refuse(err, CODE_EXPIRED, "'%s' has a malformed IPv6 host", key);
	memcpy(text, host.at, host.len);
	text[host.len] = '\0';
	/* A zone index makes sense for link-local addresses only, and is refused with them. */
	if (inet_pton(AF_INET6, text, &address) != 1)
		return err_refuse(err, CODE_EXPIRED, "'%s' has a malformed IPv6 host", key);
	if (is_link_local6(&address))
		return err_refuse(err, CODE_EXPIRED, "'%s' has a link-local host", key);
	return 0;
}

static int
check_host(const char *key, struct span host, struct err *err)
{
	char text[HOST_MAX + 1];
	struct in_addr address;

	if (host.len == 0 || host.len > HOST_MAX)
		return err_refuse(err, CODE_EXPIRED, "'%s' has no usable host", key);
	for (size_t i = 0; i < host.len; i++)
		if (!isalnum((unsigned char)host.at[i]) && strchr("-._", host.at[i]) == NULL)
			return err_refuse(err, CODE_EXPIRED, "'%s' has a malformed host", key);
	memcpy(text, host.at, host.len);
	if (text[host.len - 1] == '.')
		host.len--;
	text[host.len] = '\0';
	if (inet_aton(text, &address) != 0
	    && is_link_local4((const unsigned char *)&address))
		return err_refuse(err, CODE_EXPIRED, "'%s' has a link-local host", key);
	return 0;
}

/* rest is what follows the host: nothing, or a colon and a port that may be empty. */
static bool
is_port(struct span rest)
{
	long port = 0;

	if (rest.len == 0)
		return true;
	if (rest.at[0] != ':')
		return false;
	for (size_t i = 1; i < rest.len; i++) {
		if (!isdigit((unsigned char)rest.at[i]))
			return false;
		port = port * 10 + (rest.at[i] - '0');
		if (port > PORT_MAX)
			return false;
	}
	return true;
}

static int
check_authority(const char *key, struct span authority, struct err *err)
{
	struct span host = authority, rest = { NULL, 0 };
	const char *end;
	bool bracketed = authority.len > 0 && authority.at[0] == '[';

	end = memchr(authority.at, bracketed ? ']' : ':', authority.len);
	if (bracketed) {
		if (end == NULL)
			return err_refuse(err, CODE_EXPIRED, "'%s' has a malformed IPv6 host", key);
		host.at++;
		host.len = (size_t)(end - host.at);
		end++;
	} else if (end != NULL) {
		host.len = (size_t)(end - host.at);
	}
	if (end != NULL) {
		rest.at = end;
		rest.len = authority.len - (size_t)(end - authority.at);
	}
	if (!is_port(rest))
		return err_refuse(err, CODE_EXPIRED, "'%s' has a malformed port", key);
	return bracketed ? check_host6(key, host, err) : check_host(key, host, err);
}

/* ---- file -------------------------------------------------------------------------------- */

static bool
has_parent_segment(const char *path)
{
	for (const char *p = path; (p = strstr(p, "/..")) != NULL; p += 3)
		if (p[3] == '/' || p[3] == '\0')
			return true;
	return false;
}

/* Below, not the directory itself; both as written. */
static bool
lies_below(const char *path, const char *prefix)
{
	size_t len = strlen(prefix);

	while (len > 0 && prefix[len - 1] == '/')
		len--;
	return strncmp(path, prefix, len) == 0 && path[len] == '/' && path[len + 1] != '\0';
}

static int
check_file(const char *key, const char *uri, struct span authority, const char *file_prefix,
	   struct err *err)
{
	const char *path = authority.at + authority.len;
	bool local = authority.len == 0
		|| (authority.len == 9 && strncasecmp(authority.at, "localhost", 9) == 0);

	if (file_prefix == NULL)
		return err_refuse(err, CODE_EXPIRED, "'%s' is a local file and no "
				  "file_prefix is configured", key);
	if (!local)
		return err_refuse(err, CODE_EXPIRED, "'%s' names a file on another host", key);
	/* What an escape or a query means in a file name, readers disagree about. */
	if (strpbrk(uri, "%?#") != NULL)
		return err_refuse(err, CODE_EXPIRED,
				  "'%s' is a file name with '%%', '?' or '#'", key);
	if (has_parent_segment(path) || !lies_below(path, file_prefix))
		return err_refuse(err, CODE_EXPIRED, "'%s' is a file outside '%s'", key,
				  file_prefix);
	return 0;
}

int
imageuri_check(const char *key, const char *uri, const char *file_prefix, struct err *err)
{
	struct span authority;
	size_t len = strnlen(uri, LIMIT_URI_BYTES + 1);

	if (len > LIMIT_URI_BYTES)
		return err_refuse(err, CODE_EXPIRED, "'%s' is longer than %d bytes", key,
				  LIMIT_URI_BYTES);
	for (size_t i = 0; i < len; i++)
		if (!is_uri_byte(uri[i]))
			return err_refuse(err, CODE_EXPIRED,
					  "'%s' has the byte 0x%02x, which no URI may have "
					  "unescaped", key, (unsigned char)uri[i]);
	if (!has_scheme(uri, "http://") && !has_scheme(uri, "https://")
	    && !has_scheme(uri, "file://"))
		return err_refuse(err, CODE_EXPIRED, "'%s' is not of http, https or file", key);
	authority = authority_of(uri);
	if (span_holds(authority, '@'))
		return err_refuse(err, CODE_EXPIRED, "'%s' carries credentials", key);
	if (has_scheme(uri, "file://"))
		return check_file(key, uri, authority, file_prefix, err);
	return check_authority(key, authority, err);
}
