/*
 * X16: what a web server says (tools/fetcher_header.h), and what the fetcher, which read it, says
 * to us (core/fetch.h).
 *
 *	0..2	1 byte offset, 1 byte length asked for (in 64 KiB), 1 byte flags, the lines of a
 *		header
 *	3	2 bytes as above, then answers of a fetcher that was taken over: 1 byte flags (1:
 *		another magic number, 2: cut), kind 1, offset, total and bytes 8 each, rc, code,
 *		status and retry 2 each, two lengths of 1 byte, ETag and sentence
 *
 * An accepted header names bytes that were asked for and no others.  fetch.c is compiled in here,
 * because a struct fetch comes only with a process.
 */
#include "config.h"

#include <unistd.h>

#include "core/fetch.c"
#include "fuzz.h"
#include "tools/fetcher_header.h"

enum { UNIT = 64 << 10, SIGNED_SIZE = 100 * UNIT };

const char *
fuzz_title(void)
{
	return "X16 a response is accepted only if it brings the bytes that were asked for";
}

static void
check_body(const struct header *h, const struct fetch_request *req, const struct header_body *b)
{
	FUZZ_CHECK(h->status == 200 || h->status == 206);
	FUZZ_CHECK(b->first == 0 || b->first == req->offset);
	FUZZ_CHECK(b->end == -1 || b->end >= b->first);
	FUZZ_CHECK(b->total == -1 || b->end <= b->total);
	FUZZ_CHECK(b->end <= req->max_bytes && b->total <= req->max_bytes);
	FUZZ_CHECK(req->expected_size < 0 || b->total == -1 || b->total == req->expected_size);
	if (req->length > 0) {
		FUZZ_CHECK(h->status == 206 && b->first == req->offset);
		FUZZ_CHECK(b->end > b->first && b->end <= req->offset + req->length);
	}
	if (h->status == 200)
		FUZZ_CHECK(b->first == 0 && req->length == 0);
}

static void
check_header(struct fuzz_input *in)
{
	struct fetch_request req;
	struct header h;
	struct header_body body;
	struct err err = { 0 };
	unsigned flags;
	int rc = 0;

	fetch_request_init(&req, NULL);
	req.offset = (int64_t)fuzz_take_byte(in) * UNIT;
	req.length = (int64_t)fuzz_take_byte(in) * UNIT;
	flags = fuzz_take_byte(in);
	req.expected_size = (flags & 1) != 0 ? SIGNED_SIZE : -1;
	req.max_bytes = (flags & 2) != 0 ? SIGNED_SIZE : LIMIT_MESSAGE_BYTES;
	if ((flags & 4) != 0)
		snprintf(req.etag, sizeof(req.etag), "\"abc\"");
	header_init(&h, 1795255200);
	while (in->len > 0 && rc == 0) {
		const uint8_t *end = memchr(in->data, '\n', in->len);
		size_t len = end != NULL ? (size_t)(end - in->data) + 1 : in->len;
		CLEANUP_FREE char *line = fuzz_copy(in->data, len, 0);

		rc = header_line(&h, line, len, &err);
		in->data += len;
		in->len -= len;
	}
	FUZZ_CHECK(rc == 0 || err.code == CODE_LIMIT || err.code == CODE_RANGE);
	FUZZ_CHECK(h.retry_after >= 0 && h.retry_after <= HEADER_RETRY_AFTER_MAX);
	FUZZ_CHECK(strlen(h.location) <= LIMIT_URI_BYTES && strlen(h.etag) < FETCH_ETAG_MAX);
	FUZZ_CHECK(!header_is_redirect(&h) || h.location[0] != '\0');
	if (rc != 0 || !h.complete)
		return;
	if (header_judge(&h, &req, &body, &err) == 0)
		check_body(&h, &req, &body);
	else
		FUZZ_CHECK(err.code != CODE_NONE && err.text[0] != '\0');
}

static void
check_answer(const struct fetch_answer *a, const struct fetch *f)
{
	FUZZ_CHECK(a->kind == FETCH_BEGIN || a->kind == FETCH_END);
	FUZZ_CHECK(strnlen(a->text, sizeof(a->text)) < sizeof(a->text));
	FUZZ_CHECK(strnlen(a->etag, sizeof(a->etag)) < sizeof(a->etag));
	FUZZ_CHECK(a->bytes >= 0);
	if (a->kind == FETCH_BEGIN)
		FUZZ_CHECK((a->offset == 0 || a->offset == f->offset) && a->total >= -1);
	else
		FUZZ_CHECK(a->rc <= 0 && (a->rc == 0) == (a->code == CODE_NONE));
}

static void
take_text(struct fuzz_input *in, size_t len, char *out, size_t size)
{
	if (len > in->len)
		len = in->len;
	if (len > size)
		len = size;
	memcpy(out, in->data, len);
	in->data += len;
	in->len -= len;
}

/* Field by field, so that the corpus outlives a change of the struct.  Returns its length. */
static size_t
take_answer(struct fuzz_input *in, struct fetch_answer *a)
{
	unsigned flags = fuzz_take_byte(in);
	size_t etag_len, text_len;

	memset(a, 0, sizeof(*a));
	a->magic = FETCH_ANSWER_MAGIC ^ (flags & 1);
	a->kind = (int32_t)fuzz_take_byte(in);
	a->offset = (int64_t)fuzz_take_number(in, 8);
	a->total = (int64_t)fuzz_take_number(in, 8);
	a->bytes = (int64_t)fuzz_take_number(in, 8);
	a->rc = (int16_t)fuzz_take_number(in, 2);
	a->code = (int16_t)fuzz_take_number(in, 2);
	a->http_status = (int16_t)fuzz_take_number(in, 2);
	a->retry_after = (int16_t)fuzz_take_number(in, 2);
	etag_len = fuzz_take_byte(in);
	text_len = fuzz_take_byte(in);
	take_text(in, etag_len, a->etag, sizeof(a->etag));
	take_text(in, 4 * text_len, a->text, sizeof(a->text));
	return (flags & 2) != 0 ? sizeof(*a) - 1 - etag_len : sizeof(*a);
}

/* Whatever it sends, one BEGIN and one END at most are believed. */
static void
check_answers(struct fuzz_input *in)
{
	struct fetch_answer answer;
	struct err err = { 0 };
	struct fetch *f = NULL;
	int theirs = -1, n_begin = 0, n_end = 0;

	if (new_fetch(&f, &theirs, &err) != 0)
		abort();
	f->state = FETCH_ASKED;
	f->offset = (int64_t)fuzz_take_byte(in) * UNIT;
	f->length = (int64_t)fuzz_take_byte(in) * UNIT;
	f->expected_size = -1;
	while (in->len > 0 && n_begin + n_end < 4) {
		size_t len = take_answer(in, &answer);

		if (send(theirs, &answer, len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			break;
		if (fetch_take(f, &answer, &err) != 1)
			break;
		check_answer(&answer, f);
		n_begin += answer.kind == FETCH_BEGIN;
		n_end += answer.kind == FETCH_END;
	}
	FUZZ_CHECK(n_begin <= 1 && n_end <= 1);
	close(theirs);
	fetch_free(f);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };

	if (fuzz_take_byte(&in) == 3)
		check_answers(&in);
	else
		check_header(&in);
	return 0;
}
