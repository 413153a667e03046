#include "config.h"
#include "candidate.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "catalogue.h"
#include "cleanup.h"
#include "fetch.h"
#include "io.h"
#include "limits.h"
#include "listjudge.h"
#include "verify.h"

void
candidate_init(struct candidate *c)
{
	memset(c, 0, sizeof(*c));
	buf_init(&c->message);
	verdict_init(&c->verdict);
}

void
candidate_release(struct candidate *c)
{
	buf_release(&c->message);
	verdict_release(&c->verdict);
	imagelist_free(c->list);
	c->list = NULL;
}

static int
copy_part(char *to, size_t size, const char *from, const char *what, struct err *err)
{
	if (from == NULL)
		return 0;
	if (strlen(from) >= size)
		return err_refuse(err, CODE_LIMIT, "%s is longer than %zu bytes", what, size - 1);
	memcpy(to, from, strlen(from) + 1);
	return 0;
}

/* The request holds a password: it is wiped by whoever declared it. */
static int
fill_request(struct fetch_request *req, const char *url, const char *username,
	     const char *password, const char *tls_ca, struct err *err)
{
	int rc;

	req->max_bytes = LIMIT_MESSAGE_BYTES;
	req->expected_size = -1;
	req->total_timeout = LIMIT_LIST_SECONDS;
	/* file_prefix bounds what a list may point at; this URL is an admin's own word. */
	req->file_prefix[0] = '\0';
	rc = copy_part(req->url, sizeof(req->url), url, "the URL", err);
	if (rc == 0)
		rc = copy_part(req->username, sizeof(req->username), username, "the user name",
			       err);
	if (rc == 0)
		rc = copy_part(req->password, sizeof(req->password), password, "the password", err);
	if (rc == 0)
		rc = copy_part(req->tls_ca, sizeof(req->tls_ca), tls_ca, "the path of tls_ca", err);
	return rc;
}

int
candidate_fetch(struct candidate *c, const struct conf *conf, struct starter *starter,
		const char *url, const char *username, const char *password, const char *tls_ca,
		struct err *err)
{
	struct fetch_request req;
	struct err why = { 0 };
	int rc;

	fetch_request_init(&req, conf);
	rc = fill_request(&req, url, username, password, tls_ca, err);
	if (rc == 0) {
		rc = fetch_to_buf(starter, &req, &c->message, &why);
		/* For an image "too much" contradicts a signed size; for a list it is our limit. */
		if (rc != 0 && why.code == CODE_TOO_MUCH)
			rc = err_refuse(err, CODE_LIMIT, "the message is larger than %d bytes",
					LIMIT_MESSAGE_BYTES);
		else if (rc != 0 && why.code == CODE_NONE)
			rc = err_refuse(err, CODE_DOWNLOAD, "%s", why.text);
		else if (rc != 0 && err != NULL)
			*err = why;
	}
	explicit_bzero(&req, sizeof(req));
	if (rc != 0)
		return rc;
	digest_of(c->message.data, c->message.len, &c->digest);
	return 0;
}

int
candidate_load(struct candidate *c, const struct conf *conf, const struct digest *digest,
	       struct err *err)
{
	CLEANUP_FD int fd = -1;
	char hex[DIGEST_HEX + 1];
	int rc;

	digest_hex(digest, hex);
	fd = message_open(conf, digest, false, err);
	if (fd == -ENOENT)
		return err_refuse(err, CODE_CORRUPT, "stored message %.16s... is missing", hex);
	if (fd < 0)
		return fd;
	rc = io_read_to_end(fd, LIMIT_MESSAGE_BYTES, &c->message);
	if (rc != 0 && rc != -EFBIG)
		return err_set(err, -rc, "cannot read stored message %.16s...: %s", hex,
			       strerrordesc_np(-rc));
	digest_of(c->message.data, c->message.len, &c->digest);
	if (rc == -EFBIG || !digest_equal(&c->digest, digest))
		return err_refuse(err, CODE_CORRUPT, "stored message %.16s... has other bytes",
				  hex);
	return 0;
}

/*
 * What has no code says nothing of the message: the verifier could not read it, or confine itself.
 */
static void
forget_trouble(struct verdict *v)
{
	if (v->code != CODE_NONE)
		return;
	verdict_release(v);
	verdict_init(v);
}

int
candidate_verify(struct candidate *c, struct starter *starter, struct err *err)
{
	int rc;

	rc = verify_message(starter, c->message.data, c->message.len, &c->verdict, err);
	if (rc != 0)
		return rc;
	rc = c->verdict.rc;
	if (rc != 0) {
		err_set(err, -rc, "%s", c->verdict.text);
		if (err != NULL)
			err->code = c->verdict.code;
		forget_trouble(&c->verdict);
	}
	return rc;
}

int
candidate_examine(struct candidate *c, const struct conf *conf, struct starter *starter,
		  struct err *err)
{
	int rc;

	rc = candidate_verify(c, starter, err);
	if (rc != 0)
		return rc;
	rc = imagelist_parse(c->verdict.payload.data, c->verdict.payload.len, conf->file_prefix,
			     &c->list, err);
	if (rc != 0)
		return rc;
	return list_judge_names(c->list, &c->verdict, err);
}
