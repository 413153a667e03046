/*
 * field.c - the field table, and the metadata of one image.
 *
 * A new field is one line here.  The order is that of enum field_id.
 */
#include "config.h"
#include "field.h"

#include <stdlib.h>
#include <string.h>

#define EVENT "VMCATCHER_EVENT_"

const struct field field_table[N_FIELDS] = {
	{ FIELD_ID, "dc:identifier", "identifier", EVENT "DC_IDENTIFIER", "id",
	  FIELD_TEXT, true },
	{ FIELD_TITLE, "dc:title", "title", EVENT "DC_TITLE", "title", FIELD_TEXT, true },
	{ FIELD_DESCRIPTION, "dc:description", "description", EVENT "DC_DESCRIPTION",
	  "description", FIELD_TEXT, true },
	{ FIELD_VERSION, "hv:version", "version", EVENT "HV_VERSION", "version",
	  FIELD_TEXT, true },
	{ FIELD_COMMENTS, "sl:comments", "comments", EVENT "SL_COMMENTS", "comments",
	  FIELD_TEXT, true },
	{ FIELD_OS, "sl:os", "os", EVENT "SL_OS", "os", FIELD_TEXT, true },
	{ FIELD_OSVERSION, "sl:osversion", "osversion", EVENT "SL_OSVERSION", "osversion",
	  FIELD_TEXT, true },
	{ FIELD_ARCH, "sl:arch", "arch", EVENT "SL_ARCH", "arch", FIELD_TEXT, true },
	{ FIELD_HYPERVISOR, "hv:hypervisor", "hypervisor", EVENT "HV_HYPERVISOR", "hypervisor",
	  FIELD_TEXT, true },
	{ FIELD_FORMAT, "hv:format", "format", EVENT "HV_FORMAT", "format", FIELD_TEXT, false },
	{ FIELD_SIZE, "hv:size", "size", EVENT "HV_SIZE", "size", FIELD_BYTES, true },
	{ FIELD_SHA512, "sl:checksum:sha512", "sha512", EVENT "SL_CHECKSUM_SHA512", "sha512",
	  FIELD_DIGEST, true },
	{ FIELD_URI, "hv:uri", "uri", EVENT "HV_URI", "uri", FIELD_IMAGE_URI, true },
	{ FIELD_GROUP, "ad:group", "group_name", NULL, "group", FIELD_TEXT, false },
	{ FIELD_VO, NULL, "vo", EVENT "VO", "vo", FIELD_TEXT, false },
	{ FIELD_CREATED, "dc:date:created", "created", NULL, "created", FIELD_DATE, false },
	{ FIELD_EXPIRES, "dc:date:expires", "expires", NULL, "expires", FIELD_DATE, false },
	{ FIELD_MPURI, "ad:mpuri", "mpuri", EVENT "AD_MPURI", NULL, FIELD_TEXT, false },
};

void
image_meta_release(struct image_meta *m)
{
	for (int i = 0; i < N_FIELDS; i++)
		free(m->value[i]);
	free(m->json);
	free(m->verity_uri);
	memset(m, 0, sizeof(*m));
}

/* One line NAME='value' that any shell reads back as the value, byte for byte. */
static void
add_variable(struct buf *out, const char *name, const char *value)
{
	if (name == NULL || value == NULL || *value == '\0')
		return;
	buf_puts(out, name);
	buf_puts(out, "='");
	for (; *value != '\0'; value++) {
		if (*value == '\'')
			buf_puts(out, "'\\''");
		else
			buf_putc(out, *value);
	}
	buf_puts(out, "'\n");
}

void
image_meta_environment(const struct image_meta *m, const char *list_id, const char *filename,
		       struct buf *out)
{
	for (int i = 0; i < N_FIELDS; i++)
		add_variable(out, field_table[i].variable, m->value[i]);
	add_variable(out, EVENT "IL_DC_IDENTIFIER", list_id);
	add_variable(out, EVENT "FILENAME", filename);
}
