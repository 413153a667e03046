/*
 * test_imageuri.c - which addresses a list may give for an image.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <cmocka.h>

#include "core/buf.h"
#include "core/imageuri.h"
#include "core/limits.h"

static void
assert_accepted(const char *const *uris, size_t n, const char *prefix)
{
	for (size_t i = 0; i < n; i++) {
		struct err err;

		if (imageuri_check("hv:uri", uris[i], prefix, &err) != 0)
			fail_msg("'%s': %s", uris[i], err.text);
	}
}

static void
assert_refused(const char *const *uris, size_t n, const char *prefix)
{
	for (size_t i = 0; i < n; i++) {
		struct err err;

		if (imageuri_check("hv:uri", uris[i], prefix, &err) == 0)
			fail_msg("'%s' was accepted", uris[i]);
		assert_int_equal(err.code, CODE_EXPIRED);
		assert_null(strstr(err.text, "secret"));
	}
}

#define ACCEPT(prefix, ...) do { \
	static const char *const listed[] = { __VA_ARGS__ }; \
	assert_accepted(listed, sizeof(listed) / sizeof(listed[0]), prefix); \
} while (0)

#define REFUSE(prefix, ...) do { \
	static const char *const listed[] = { __VA_ARGS__ }; \
	assert_refused(listed, sizeof(listed) / sizeof(listed[0]), prefix); \
} while (0)

static void
http_and_https(void **state)
{
	(void)state;
	ACCEPT(NULL, "http://example.org/image.img", "https://example.org", "HTTPS://Example.ORG/",
	       "https://appdb.somewhere.net/images/base/CERNVM/3.3.0/CERNVM-3.3.0-40GB.ova",
	       "http://example.org:8080/a;b/c@d?e=f&g=%20#h", "http://example.org:/x",
	       "http://[2001:db8::1]:80/x", "http://192.0.2.1/x", "http://xn--bcher-kva.example/");
}

static void
other_schemes(void **state)
{
	(void)state;
	REFUSE("/srv", "", "image.img", "/srv/image.img", "//example.org/x", "ftp://example.org/x",
	       "gopher://example.org/x", "data:text/plain,x", "javascript:x", "http:/example.org/x",
	       "http:example.org", "smb://example.org/x", "scp://example.org/x", "dict://x/",
	       "xhttp://example.org/", "file:/srv/x", "http");
}

static void
bytes_that_need_escaping(void **state)
{
	(void)state;
	REFUSE(NULL, "http://example.org/a b", " http://example.org/", "http://example.org/ ",
	       "http://example.org/'x'", "http://example.org/\"x\"", "http://example.org/`id`",
	       "http://example.org/;touch /tmp/x", "http://example.org/;touch${IFS}/tmp/x",
	       "http://example.org/\n", "http://example.org/x\r\nHost: y",
	       "http://example.org/\x01",
	       "http://example.org/\x7F", "http://example.org/\xC3\xA9", "http://example.org\\x",
	       "http://example.org/<x>", "http://example.org/a|b", "http://example.org/a^b");
}

static void
long_hosts(void **state)
{
	char uri[400] = "http://";
	const char *uris[] = { uri };

	(void)state;
	memset(uri + 7, 'a', 300);
	assert_refused(uris, 1, NULL);
	REFUSE(NULL, "http://[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]/x");
}

static void
too_long(void **state)
{
	char uri[LIMIT_URI_BYTES + 2] = "http://example.org/";
	size_t len = strlen(uri);
	struct err err;

	(void)state;
	memset(uri + len, 'x', sizeof(uri) - len - 1);
	uri[LIMIT_URI_BYTES + 1] = '\0';
	assert_int_not_equal(imageuri_check("hv:uri", uri, NULL, &err), 0);
	assert_int_equal(err.code, CODE_EXPIRED);
	uri[LIMIT_URI_BYTES] = '\0';
	assert_int_equal(imageuri_check("hv:uri", uri, NULL, &err), 0);
}

static void
credentials(void **state)
{
	(void)state;
	REFUSE("/srv", "http://user:secret@example.org/x", "https://secret@example.org/x",
	       "http://@example.org/x", "http://example.org@secret/x",
	       "file://secret@localhost/srv/x",
	       "http://a@b@example.org/", "http://user:secret@[::1]/x");
}

static void
hosts(void **state)
{
	(void)state;
	REFUSE(NULL, "http://", "http:///x", "http://:80/x", "http://?x", "http://exa%6dple.org/",
	       "http://example.org:65536/", "http://example.org:8o/", "http://[::1/", "http://[]/",
	       "http://[::1]x/", "http://[v1.x]/", "http://[127.0.0.1]/", "http://a,b/",
	       "http://[::1]:x");
}

static void
link_local_hosts(void **state)
{
	(void)state;
	REFUSE(NULL, "http://169.254.169.254/latest/meta-data/", "http://169.254.0.1:80/",
	       "http://169.254.169.254./", "http://0xa9fea9fe/", "http://2852039166/",
	       "http://0251.0376.0251.0376/", "http://169.254.43518/", "http://169.16689662/",
	       "http://[fe80::1]/", "http://[febf::1]/", "http://[fe80::1%25eth0]/",
	       "http://[fe80::1%eth0]/", "http://[::ffff:169.254.169.254]/",
	       "http://[::ffff:a9fe:a9fe]/", "http://[::169.254.169.254]/",
	       "http://[64:ff9b::169.254.169.254]/", "http://[::ffff:169.254.0.0]/x");
	ACCEPT(NULL, "http://127.0.0.1:8080/x", "http://[::1]:8080/x", "http://10.0.0.1/",
	       "http://192.168.1.1/", "http://169.253.1.1/", "http://169.255.1.1/",
	       "http://[::ffff:10.0.0.1]/", "http://[64:ff9b::192.0.2.1]/", "http://[fec0::1]/",
	       "http://[fd00::1]/", "http://localhost/");
}

static void
local_files(void **state)
{
	(void)state;
	ACCEPT("/srv/images", "file:///srv/images/a.img", "file://localhost/srv/images/a/b.img",
	       "FILE:///srv/images/..hidden/x..", "file:///srv/images/a/.b");
	ACCEPT("/srv/images/", "file:///srv/images/a.img");
	ACCEPT("/", "file:///etc/hostname");
	REFUSE(NULL, "file:///srv/images/a.img", "file:///etc/shadow");
	REFUSE("/srv/images", "file:///etc/shadow", "file:///srv/images", "file:///srv/images/",
	       "file:///srv/images2/a.img", "file:///srv/images/../secret", "file:///srv/images/..",
	       "file:///srv/images/a/../../x", "file:///srv/images/%2e%2e/x",
	       "file://host/srv/images/x", "file://localhosT2/srv/images/x",
	       "file://localh0st/srv/images/x",
	       "file:///srv/images/x?y", "file:///srv/images/x#y", "file:////srv/images/x",
	       "file:///srv/./images/x", "file://");
}

static void
resolved_addresses(void **state)
{
	static const struct {
		const char *text;
		bool expected;
	} cases[] = {
		{ "169.254.169.254", true }, { "169.253.255.255", false }, { "127.0.0.1", false },
		{ "fe80::1", true }, { "::ffff:169.254.1.1", true }, { "::1", false },
		{ "2001:db8::1", false }, { "::ffff:10.0.0.1", false },
	};
	const struct sockaddr local = { .sa_family = AF_UNIX };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sockaddr_in in = { .sin_family = AF_INET };
		struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
		const void *address = &in;

		if (inet_pton(AF_INET, cases[i].text, &in.sin_addr) != 1) {
			assert_int_equal(inet_pton(AF_INET6, cases[i].text, &in6.sin6_addr), 1);
			address = &in6;
		}
		assert_int_equal(imageuri_address_is_link_local(address), cases[i].expected);
	}
	assert_false(imageuri_address_is_link_local(&local));
}

static void
userinfo_is_stripped(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{ "https://TOKEN:x-oauth-basic@example.org/list", "https://example.org/list" },
		{ "https://example.org/a@b", "https://example.org/a@b" },
		{ "https://a@b@example.org", "https://example.org" },
		{ "https://example.org?u=a@b", "https://example.org?u=a@b" },
		{ "not a uri @", "not a uri @" }, { "", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *uri = xstrdup(cases[i].in);

		imageuri_strip_userinfo(uri);
		assert_string_equal(uri, cases[i].out);
		free(uri);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		{ "L26 images come from http and https", http_and_https, NULL, NULL, NULL },
		{ "L26 any other scheme is refused", other_schemes, NULL, NULL, NULL },
		{ "L26 spaces, quotes, control bytes and what RFC 3986 excludes are refused",
		  bytes_that_need_escaping, NULL, NULL, NULL },
		{ "L26 a host that is too long for a name or an address is refused", long_hosts,
		  NULL, NULL, NULL },
		{ "L26 an address of more than 2048 bytes is refused", too_long,
		  NULL, NULL, NULL },
		{ "L26 an address with credentials is refused and they are not shown", credentials,
		  NULL, NULL, NULL },
		{ "L26 a malformed host or port is refused", hosts, NULL, NULL, NULL },
		{ "X21 link-local hosts are refused however they are written, private ones are not",
		  link_local_hosts, NULL, NULL, NULL },
		{ "X21 a name that resolves to a link-local address is recognised",
		  resolved_addresses, NULL, NULL, NULL },
		{ "L26 local files are refused unless they lie under file_prefix", local_files,
		  NULL, NULL, NULL },
		{ "credentials are taken out of an address that is shown", userinfo_is_stripped,
		  NULL, NULL, NULL },
	};

	return cmocka_run_group_tests_name("imageuri", tests, NULL, NULL);
}
