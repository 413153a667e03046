/*
 * listing.c - the names that directories of one row have.
 *
 * An entry's place in its table is its cookie in listings: new entries go to the end.
 */
#include "config.h"
#include "fs/listing.h"

#include "core/field.h"
#include "fs/node.h"

static const struct listing root_table[] = {
	{ "README", ROOT_README, S_IFREG },
	{ "status", ROOT_STATUS, S_IFREG },
	{ "status.json", ROOT_STATUS_JSON, S_IFREG },
	{ "metrics", ROOT_METRICS, S_IFREG },
	{ "events", ROOT_EVENTS, S_IFREG },
	{ "SHA512SUMS", ROOT_SHA512SUMS, S_IFREG },
	{ "by-sha512", DIR_BY_SHA512, S_IFDIR },
	{ "cache", DIR_CACHE, S_IFDIR },
	{ "images", DIR_IMAGES, S_IFDIR },
	{ "by-title", DIR_BY_TITLE, S_IFDIR },
	{ "subscriptions", DIR_SUBSCRIPTIONS, S_IFDIR },
	{ "endorsers", DIR_ENDORSERS, S_IFDIR },
	{ "expired", DIR_EXPIRED, S_IFDIR },
};

static const struct listing image_table[] = {
	{ "state", IMAGE_STATE0, S_IFREG },
	{ "pending", IMAGE_PENDING, S_IFREG },
	{ "progress", IMAGE_PROGRESS, S_IFREG },
	{ "error", IMAGE_ERROR, S_IFREG },
	{ "selected", IMAGE_IS_SELECTED, S_IFREG },
	{ "image", IMAGE_FILE, S_IFLNK },
	{ "subscription", IMAGE_SUBSCRIPTION, S_IFLNK },
	{ "environment", IMAGE_ENVIRONMENT, S_IFREG },
	{ "metadata.json", IMAGE_METADATA, S_IFREG },
	{ "ova", IMAGE_OVA, S_IFDIR },
};

static const struct listing expired_table[] = {
	{ "state", IMAGE_STATE0, S_IFREG },
	{ "reason", IMAGE_REASON, S_IFREG },
	{ "expired_at", IMAGE_EXPIRED_AT, S_IFREG },
	{ "replaced_by", IMAGE_REPLACED_BY, S_IFREG },
	{ "image", IMAGE_FILE, S_IFLNK },
	{ "environment", IMAGE_ENVIRONMENT, S_IFREG },
	{ "metadata.json", IMAGE_METADATA, S_IFREG },
	{ "progress", IMAGE_PROGRESS, S_IFREG },
	{ "error", IMAGE_ERROR, S_IFREG },
	{ "selected", IMAGE_IS_SELECTED, S_IFREG },
	{ "subscription", IMAGE_SUBSCRIPTION, S_IFLNK },
};

static const struct listing sub_table[] = {
	{ "id", SUB_ID, S_IFREG },
	{ "title", SUB_TITLE, S_IFREG },
	{ "description", SUB_DESCRIPTION, S_IFREG },
	{ "uri", SUB_URI, S_IFREG },
	{ "created", SUB_CREATED, S_IFREG },
	{ "expires", SUB_EXPIRES, S_IFREG },
	{ "updated", SUB_UPDATED, S_IFREG },
	{ "version", SUB_VERSION, S_IFREG },
	{ "state", SUB_STATE, S_IFREG },
	{ "error", SUB_ERROR, S_IFREG },
	{ "endorser", SUB_ENDORSER, S_IFLNK },
	{ "list.smime", SUB_LIST_SMIME, S_IFREG },
	{ "list.json", SUB_LIST_JSON, S_IFREG },
	{ "images", SUB_IMAGES, S_IFDIR },
	{ "refused", SUB_REFUSED, S_IFDIR },
};

static const struct listing refused_table[] = {
	{ "id", REFUSED_ID, S_IFREG },
	{ "code", REFUSED_CODE, S_IFREG },
	{ "error", REFUSED_ERROR, S_IFREG },
};

static const struct listing endorser_table[] = {
	{ "subject", ENDORSER_SUBJECT, S_IFREG },
	{ "issuer", ENDORSER_ISSUER, S_IFREG },
	{ "subscriptions", ENDORSER_SUBS, S_IFDIR },
};

#define N_OF(table) (sizeof(table) / sizeof((table)[0]))

static int
from_table(const struct listing *table, size_t n, size_t i, struct listing *out)
{
	if (i >= n)
		return -1;
	*out = table[i];
	return 1;
}

/* The files of the field table, then a table's. */
static int
from_fields(const struct listing *table, size_t n, size_t i, struct listing *out)
{
	if (i >= N_FIELDS)
		return from_table(table, n, i - N_FIELDS, out);
	if (field_table[i].file == NULL)
		return 0;
	*out = (struct listing){ field_table[i].file, ENTRY_FIELD0 + (unsigned)i, S_IFREG };
	return 1;
}

int
listing_root(size_t i, struct listing *out)
{
	return from_table(root_table, N_OF(root_table), i, out);
}

int
listing_image(size_t i, struct listing *out)
{
	return from_fields(image_table, N_OF(image_table), i, out);
}

int
listing_expired(size_t i, struct listing *out)
{
	return from_fields(expired_table, N_OF(expired_table), i, out);
}

int
listing_sub(size_t i, struct listing *out)
{
	return from_table(sub_table, N_OF(sub_table), i, out);
}

int
listing_refused(size_t i, struct listing *out)
{
	return from_table(refused_table, N_OF(refused_table), i, out);
}

int
listing_endorser(size_t i, struct listing *out)
{
	return from_table(endorser_table, N_OF(endorser_table), i, out);
}
