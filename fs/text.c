/*
 * text.c - the text of every metadata file.
 *
 * The files that a signed list fills come from the field table; what is ours to say is written
 * here, one line a file.
 */
#include "config.h"
#include "fs/text.h"

#include <inttypes.h>
#include <string.h>
#include "core/safename.h"
#include "core/stamp.h"

static const char readme[] =
"This is a verified cache of virtual machine images: vmimagefs " PACKAGE_VERSION ".\n"
"\n"
"Nothing here can be written.  The first read of an image fetches it; no byte of an\n"
"image is given out before a digest that a trusted endorser signed covers it.\n"
"\n"
"  images/<id>/         every endorsed image: one file a value, `state`, `progress`,\n"
"                       and `image`, the link to the image's bytes once it is selected;\n"
"                       `ova/`, not always listed: the files in an OVA, in their place\n"
"  by-title/            the same by title\n"
"  cache/<id>           the images that are here, verified, and ready\n"
"  by-sha512/<digest>   the image files; the content under such a name never changes:\n"
"                       use these paths (`readlink -f`) as backing files\n"
"  subscriptions/       the image lists, as they were signed, and what they name\n"
"  endorsers/           who is trusted, and for which lists\n"
"  expired/             what was here and is no longer endorsed, and why\n"
"  status status.json metrics events      what is going on\n"
"  SHA512SUMS           for `cd` here and `sha512sum -c SHA512SUMS`\n"
"\n"
"An error is an answer: ETIMEDOUT no answer in time, EHOSTUNREACH unreachable, EBADMSG\n"
"wrong digest, EKEYEXPIRED expired, EKEYREJECTED no longer trusted, ENOSPC no room.\n"
"The sentence to it stands in images/<id>/error.\n"
"\n"
"Manual: vmimagefs(7) describes this tree, vmimagectl(1) the commands.\n";

static const char *const state_names[N_IMAGE_STATES] = {
	[IMAGE_AVAILABLE] = "available", [IMAGE_SELECTED] = "selected",
	[IMAGE_FETCHING] = "fetching", [IMAGE_VERIFIED] = "verified",
	[IMAGE_DEGRADED] = "degraded", [IMAGE_FAILED] = "failed",
	[IMAGE_EXPIRED] = "expired",
};

const char *
image_state_name(enum image_state s)
{
	return state_names[s];
}

/* One value and a newline; nothing for an empty one. */
static void
line(struct buf *out, const char *value)
{
	if (value == NULL || value[0] == '\0')
		return;
	buf_puts(out, value);
	buf_putc(out, '\n');
}

static void
line_stamp(struct buf *out, int64_t seconds)
{
	char text[STAMP_BYTES];

	if (seconds <= 0)
		return;
	stamp_format(seconds, text);
	line(out, text);
}

void
text_static(unsigned field, struct buf *out)
{
	if (field == ROOT_README)
		buf_puts(out, readme);
}

void
text_error(const char *sentence, struct buf *out)
{
	line(out, sentence);
}

void
text_progress(int64_t bytes, int64_t total, struct buf *out)
{
	/* Rounded down: 100 is said of nothing but the whole. */
	int64_t percent = total > 0 ? (int64_t)((__int128)bytes * 100 / total) : 0;

	buf_printf(out, "%" PRId64 " %" PRId64 " %" PRId64 "\n", bytes, total, percent);
}

void
text_pending(const struct tree_image *image, int64_t bytes, struct buf *out)
{
	const struct image_meta *m = tree_image_coming(image);

	if (m == NULL)
		return;

	buf_printf(out, "version: %s\n", m->value[FIELD_VERSION] ? m->value[FIELD_VERSION] : "");
	buf_printf(out, "sha512: %s\n", m->value[FIELD_SHA512] ? m->value[FIELD_SHA512] : "");
	buf_puts(out, "progress: ");
	text_progress(bytes, m->size, out);
}

/* What images and expired images have in common.  False: not such a field. */
static bool
text_meta(const struct image_meta *m, unsigned field, struct buf *out)
{
	if (field >= ENTRY_FIELD0 && field < ENTRY_FIELD_END) {
		line(out, m->value[field - ENTRY_FIELD0]);
		return true;
	}
	if (field >= IMAGE_STATE0 && field < IMAGE_STATE_END) {
		line(out, state_names[field - IMAGE_STATE0]);
		return true;
	}
	if (field == IMAGE_METADATA) {
		size_t len = m->json != NULL ? strlen(m->json) : 0;

		buf_add(out, m->json != NULL ? m->json : "", len);
		if (len > 0 && m->json[len - 1] != '\n')
			buf_putc(out, '\n');
		return true;
	}
	return false;
}

void
text_image(const struct tree_image *image, unsigned field, struct buf *out)
{
	const struct image_meta *shown = tree_image_shown(image);
	const struct image_row *row = &image->row;

	if (text_meta(shown, field, out))
		return;
	switch (field) {
	case IMAGE_PROGRESS:
		text_progress(0, shown->size, out);
		break;
	case IMAGE_PROGRESS_FULL:
		text_progress(shown->size, shown->size, out);
		break;
	case IMAGE_PENDING:
		text_pending(image, 0, out);
		break;
	case IMAGE_IS_SELECTED:
		line(out, row->selected ? "yes" : "no");
		break;
	case IMAGE_ENVIRONMENT:
		image_meta_environment(shown, row->list_id, row->name, out);
		break;
	case IMAGE_FILE:
		link_to_object("../../", &shown->sha512, out);
		break;
	default:
		break;		/* IMAGE_ERROR: empty */
	}
}

void
text_expired(const struct tree_expired *expired, unsigned field, struct buf *out)
{
	const struct expired_row *row = &expired->row;
	char name[SAFENAME_MAX + 32];

	if (text_meta(&row->meta, field, out))
		return;
	switch (field) {
	case IMAGE_ENVIRONMENT:
		image_meta_environment(&row->meta, row->list_id, row->name, out);
		break;
	case IMAGE_PROGRESS:
		text_progress(row->purged ? 0 : row->meta.size, row->meta.size, out);
		break;
	case IMAGE_ERROR:
		text_error(row->error, out);
		break;
	case IMAGE_IS_SELECTED:
		line(out, row->selected ? "yes" : "no");
		break;
	case IMAGE_SUBSCRIPTION:
		/* Also when the list has gone: the link says whose image it was. */
		safename_identifier(row->list_id, name);
		buf_printf(out, "../../subscriptions/%s", name);
		break;
	case IMAGE_REASON:
		line(out, reason_name(row->reason));
		break;
	case IMAGE_EXPIRED_AT:
		line_stamp(out, row->expired_at);
		break;
	case IMAGE_REPLACED_BY:
		line(out, row->replaced_by);
		break;
	case IMAGE_FILE:
		link_to_object("../../", &row->meta.sha512, out);
		break;
	default:
		break;
	}
}

void
text_sub(const struct tree_sub *sub, unsigned field, struct buf *out)
{
	const struct subscription_row *row = &sub->row;

	switch (field) {
	case SUB_ID:
		line(out, row->list_id);
		break;
	case SUB_TITLE:
		line(out, row->title);
		break;
	case SUB_DESCRIPTION:
		line(out, row->description);
		break;
	case SUB_URI:
		line(out, row->uri);
		break;
	case SUB_CREATED:
		line_stamp(out, row->created);
		break;
	case SUB_EXPIRES:
		line_stamp(out, row->expires);
		break;
	case SUB_UPDATED:
		line_stamp(out, row->updated);
		break;
	case SUB_VERSION:
		line(out, row->version);
		break;
	case SUB_STATE:
		line(out, subscription_state_name(row->state));
		break;
	case SUB_ERROR:
		line(out, row->error);
		break;
	default:
		break;
	}
}

void
text_refused(const struct tree_refused *refused, unsigned field, struct buf *out)
{
	switch (field) {
	case REFUSED_ID:
		line(out, refused->identifier);
		break;
	case REFUSED_CODE:
		buf_printf(out, "%d\n", (int)refused->code);
		break;
	case REFUSED_ERROR:
		line(out, refused->error);
		break;
	default:
		break;
	}
}

/* An endorser may have several credentials: one a line, in the same order in both files. */
void
text_endorser(const struct tree_endorser *endorser, unsigned field, struct buf *out)
{
	const struct endorser_row *row = &endorser->row;

	for (size_t i = 0; i < row->n_credentials; i++)
		line(out, field == ENDORSER_SUBJECT ? row->credentials[i].subject :
						      row->credentials[i].issuer);
}

void
link_to_object(const char *up, const struct digest *d, struct buf *out)
{
	char hex[DIGEST_HEX + 1];

	digest_hex(d, hex);
	buf_printf(out, "%sby-sha512/%s", up, hex);
}
