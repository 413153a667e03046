/*
 * X14: the text of a verified list (core/imagelist.h), and whether it may become the current one
 * (core/listjudge.h).
 *
 *	0, 1	8 bytes: now; a payload.  1: file:// is allowed below a directory
 *	2	two payloads, each after 2 bytes of length: the second comes after the first
 *
 * What is accepted holds the promises of the headers; a list that was judged newer than another is
 * never older by version or by date (I5).
 */
#include "config.h"

#include "core/cleanup.h"
#include "core/imageuri.h"
#include "core/limits.h"
#include "core/listjudge.h"
#include "core/listversion.h"
#include "core/safename.h"
#include "fuzz.h"

static const char prefix[] = "/srv/images";

const char *
fuzz_title(void)
{
	return "X14 a list is accepted only within the limits, and never goes back";
}

static bool
has_control(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			return true;
	return false;
}

static void
check_image(const struct imagelist_image *i, const char *file_prefix)
{
	char name[SAFENAME_MAX + 32];
	size_t len;

	if (i->refused) {
		FUZZ_CHECK(i->code != CODE_NONE && i->error != NULL && i->error[0] != '\0');
		return;
	}
	len = strlen(i->identifier);
	FUZZ_CHECK(len > 0 && len <= LIMIT_IDENTIFIER_BYTES && !has_control(i->identifier));
	for (int f = 0; f < N_FIELDS; f++)
		FUZZ_CHECK(i->meta.value[f] != NULL);
	FUZZ_CHECK(strcmp(i->meta.value[FIELD_ID], i->identifier) == 0);
	FUZZ_CHECK(i->meta.size > 0 && i->meta.size <= LIMIT_IMAGE_BYTES);
	FUZZ_CHECK(imageuri_check("hv:uri", i->meta.value[FIELD_URI], file_prefix, NULL) == 0);
	FUZZ_CHECK(i->meta.json != NULL && i->meta.verity_uri != NULL);
	FUZZ_CHECK(i->meta.verity_uri[0] == '\0' ||
		   imageuri_check("u", i->meta.verity_uri, file_prefix, NULL) == 0);
	safename_identifier(i->identifier, name);
	FUZZ_CHECK(strchr(name, '/') == NULL && name[0] != '.' && name[0] != '\0');
}

static void
check_list(const struct imagelist *l, const char *file_prefix)
{
	FUZZ_CHECK(l->identifier != NULL && l->identifier[0] != '\0' &&
		   strlen(l->identifier) <= LIMIT_IDENTIFIER_BYTES && !has_control(l->identifier));
	FUZZ_CHECK(l->title != NULL && l->description != NULL && l->source != NULL);
	FUZZ_CHECK(l->version != NULL && l->uri != NULL && l->vo != NULL);
	FUZZ_CHECK(l->dn != NULL && l->ca != NULL);
	FUZZ_CHECK(l->n_images <= LIMIT_IMAGES_PER_LIST);
	for (size_t i = 0; i < l->n_images; i++) {
		check_image(&l->images[i], file_prefix);
		for (size_t k = 0; k < i && !l->images[i].refused && i < 64; k++)
			FUZZ_CHECK(l->images[k].refused ||
				   strcmp(l->images[k].identifier, l->images[i].identifier) != 0);
	}
}

/* NULL if it is refused.  The caller imagelist_free()s it. */
static struct imagelist *
parse(const void *data, size_t len, const char *file_prefix)
{
	CLEANUP_FREE char *payload = fuzz_copy(data, len, 0);
	struct imagelist *list = NULL;
	struct err err = { 0 };

	if (imagelist_parse(payload, len, file_prefix, &list, &err) != 0) {
		FUZZ_CHECK(list == NULL && err.code != CODE_NONE && err.text[0] != '\0');
		return NULL;
	}
	check_list(list, file_prefix);
	return list;
}

/* As catalogue_apply_list() would leave the row. */
static struct subscription_row
row_of(const struct imagelist *l, const struct digest *message)
{
	struct subscription_row row = { .list_id = l->identifier, .version = l->version,
		.created = l->created, .expires = l->expires, .message = *message,
		.has_message = true, .state = SUB_OK, .url = l->uri };

	return row;
}

static void
check_judgement(const struct imagelist *old, const struct imagelist *new, int64_t now)
{
	static const struct conf conf;
	struct digest first, second;
	struct subscription_row row;
	struct err err = { 0 }, warning = { 0 };
	int rc;

	digest_of("1", 1, &first);
	digest_of("2", 1, &second);
	row = row_of(old, &first);
	rc = list_judge(&row, new, &second, &conf, now, &warning, &err);
	if (rc < 0) {
		FUZZ_CHECK(err.code != CODE_NONE);
		return;
	}
	FUZZ_CHECK(rc != JUDGE_SAME);
	FUZZ_CHECK(strcmp(old->identifier, new->identifier) == 0);
	FUZZ_CHECK(new->created <= now && new->expires > now && new->expires > new->created);
	FUZZ_CHECK(old->version[0] == '\0' ||
		   (new->created >= old->created &&
		    listversion_compare(new->version, old->version) >= 0));
	FUZZ_CHECK((rc == JUDGE_ACCEPT_WITH_WARNING) == (warning.text[0] != '\0'));
	/* The very bytes that we have are nothing new, whatever they say. */
	rc = list_judge(&row, new, &first, &conf, now, NULL, &err);
	FUZZ_CHECK(rc == JUDGE_SAME);
}

static void
judge_one(struct fuzz_input *in, const char *file_prefix)
{
	int64_t now = (int64_t)(fuzz_take_number(in, 8) & INT64_MAX);
	struct imagelist *list = parse(in->data, in->len, file_prefix);

	if (list != NULL)
		check_judgement(list, list, now);
	imagelist_free(list);
}

static void
judge_two(struct fuzz_input *in)
{
	struct imagelist *lists[2] = { NULL, NULL };

	for (int i = 0; i < 2; i++) {
		size_t len = fuzz_take_number(in, 2);

		if (len > in->len)
			len = in->len;
		lists[i] = parse(in->data, len, NULL);
		in->data += len;
		in->len -= len;
	}
	if (lists[0] != NULL && lists[1] != NULL)
		check_judgement(lists[0], lists[1], lists[1]->created);
	imagelist_free(lists[0]);
	imagelist_free(lists[1]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };

	switch (fuzz_take_byte(&in)) {
	case 1:
		judge_one(&in, prefix);
		break;
	case 2:
		judge_two(&in);
		break;
	default:
		judge_one(&in, NULL);
		break;
	}
	return 0;
}
