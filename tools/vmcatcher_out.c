/*
 * vmcatcher_out.c - what vmcatcher's commands print: blocks of lines, and JSON as Python writes it.
 *
 * vmcatcher ran on Python 2, whose json.dumps(sort_keys=True, indent=4) leaves a blank after each
 * comma at the end of a line and writes everything outside ASCII as \uXXXX.  jsonw writes without
 * white space, and what it wrote is laid out here character by character, so that no size limit
 * of a parser stands between a long list and its reader.
 */
#include "config.h"
#include "vmcatcher.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/io.h"
#include "core/limits.h"
#include "core/stamp.h"
#include "core/utf8.h"

/* ---- JSON ------------------------------------------------------------------------------------ */

enum {
	JSON_INDENT_STEP = 4,
	DRAIN_BYTES = 64 << 10,
};

static void
add_line_end(struct buf *out, int depth)
{
	buf_printf(out, "\n%*s", depth * JSON_INDENT_STEP, "");
}

/* One character of a string; outside ASCII as \uXXXX, above the basic plane as two of them. */
static size_t
add_string_character(struct buf *out, const unsigned char *s)
{
	size_t len = utf8_length(s);
	unsigned c = s[0];

	if (len <= 1) {
		buf_putc(out, (char)c);
		return 1;
	}
	c &= len == 2 ? 0x1fU : len == 3 ? 0x0fU : 0x07U;
	for (size_t i = 1; i < len; i++)
		c = c << 6 | (s[i] & 0x3fU);
	if (c < 0x10000)
		buf_printf(out, "\\u%04x", c);
	else
		buf_printf(out, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
			   0xdc00 + ((c - 0x10000) & 0x3ff));
	return len;
}

/* From the opening quote to the closing one; returns the bytes read. */
static size_t
add_string(struct buf *out, const char *text)
{
	size_t i = 1;

	buf_putc(out, '"');
	while (text[i] != '"') {
		if (text[i] == '\\')
			buf_putc(out, text[i++]);
		i += add_string_character(out, (const unsigned char *)text + i);
	}
	buf_putc(out, '"');
	return i + 1;
}

/* A text may come in parts, cut behind an element; depth goes on from one to the next. */
static void
lay_out(struct buf *out, const char *json, int *depth)
{
	while (*json != '\0') {
		char c = *json;

		if (c == '"') {
			json += add_string(out, json);
			continue;
		}
		json++;
		if ((c == '{' || c == '[') && *json != '}' && *json != ']') {
			buf_putc(out, c);
			add_line_end(out, ++*depth);
		} else if (c == '{' || c == '[') {
			buf_putc(out, c);
			buf_putc(out, *json++);
		} else if (c == '}' || c == ']') {
			add_line_end(out, --*depth);
			buf_putc(out, c);
		} else if (c == ',') {
			buf_puts(out, ", ");
			add_line_end(out, *depth);
		} else if (c == ':') {
			buf_puts(out, ": ");
		} else {
			buf_putc(out, c);
		}
	}
}

struct jsonw *
vmc_json(struct vmc *v)
{
	buf_clear(&v->json_text);
	v->json_depth = 0;
	jsonw_begin(&v->json, &v->json_text, false);
	return &v->json;
}

void
vmc_json_end(struct vmc *v)
{
	lay_out(&v->out, buf_str(&v->json_text), &v->json_depth);
	buf_clear(&v->json_text);
}

/* ---- standard output ------------------------------------------------------------------------- */

void
vmc_flush(struct vmc *v)
{
	int rc;

	if (v->out.len == 0)
		return;
	rc = v->write_error != 0 ? 0 : io_write_all(STDOUT_FILENO, v->out.data, v->out.len);
	if (rc != 0)
		v->write_error = -rc;
	buf_clear(&v->out);
	v->held = 0;
}

int
vmc_drain(struct vmc *v)
{
	if (v->json_text.len >= DRAIN_BYTES)
		vmc_json_end(v);
	if (v->write_error == 0)
		v->write_error = -output_offer(&v->out, &v->held);
	return -v->write_error;
}

/* ---- -i -------------------------------------------------------------------------------------- */

void
vmc_info_begin(struct vmc *v)
{
	for (size_t i = 0; i < v->n_members; i++)
		free(v->members[i].json);
	free(v->members);
	v->members = NULL;
	v->n_members = 0;
}

struct jsonw *
vmc_info_open(struct vmc *v, const char *key)
{
	v->members = xrealloc(v->members, (v->n_members + 1) * sizeof(*v->members));
	v->members[v->n_members++] = (struct vmc_member){ .key = key };
	jsonw_open(vmc_json(v), NULL, '{');
	return &v->json;
}

void
vmc_info_close(struct vmc *v)
{
	jsonw_close(&v->json, '}');
	v->members[v->n_members - 1].json = buf_steal(&v->json_text, NULL);
}

static int
compare_members(const void *a, const void *b)
{
	const struct vmc_member *one = a, *other = b;

	return strcmp(one->key, other->key);
}

void
vmc_info_end(struct vmc *v)
{
	struct jsonw *w;

	if (v->format != VMC_JSON)
		return;
	qsort(v->members, v->n_members, sizeof(*v->members), compare_members);
	w = vmc_json(v);
	jsonw_open(w, NULL, '{');
	for (size_t i = 0; i < v->n_members; i++)
		jsonw_raw(w, v->members[i].key, v->members[i].json);
	jsonw_close(w, '}');
	vmc_json_end(v);
	vmc_info_begin(v);
}

void
vmc_put_line(struct vmc *v, const char *key, const char *value)
{
	buf_printf(&v->out, "%s=", key);
	output_add_foreign(&v->out, value != NULL ? value : "");
	buf_putc(&v->out, '\n');
}

/* ---- subscriptions and lists ----------------------------------------------------------------- */

/* A token is a user name, too: neither is shown, only that it is there. */
#define HIDDEN "********"

const char *
vmc_anchor_name(enum trust_anchor anchor)
{
	switch (anchor) {
	case ANCHOR_NONE:
		return "None";
	case ANCHOR_BROWSER:
		return "Browser";
	case ANCHOR_IGTF:
		return "IGTF";
	}
	return "None";
}

/* Bit 0: new images are accepted, bit 1: and subscribed to. */
static int
update_mode(const struct subscription_row *s)
{
	return s->refuse_new ? 0 : s->select_new == SELECT_ALL ? 3 : 1;
}

void
vmc_subscription_members(struct jsonw *w, const struct subscription_row *s)
{
	jsonw_boolean(w, "authorised", s->state != SUB_DISTRUSTED);
	jsonw_string(w, "description", s->description);
	jsonw_string(w, "identifier", s->list_id);
	jsonw_integer(w, "updateMode", update_mode(s));
	if (s->updated != 0)
		jsonw_stamp(w, "updated", s->updated);
	else
		jsonw_boolean(w, "updated", false);
	jsonw_string(w, "uri", s->url);
	if (s->password != NULL)
		jsonw_string(w, "uri.password", HIDDEN);
	jsonw_string(w, "uri.trustAnchor", vmc_anchor_name(s->trust_anchor));
	if (s->username != NULL)
		jsonw_string(w, "uri.username", HIDDEN);
}

static void
put_stamp(struct vmc *v, const char *key, int64_t seconds)
{
	char text[STAMP_BYTES];

	stamp_format(seconds, text);
	vmc_put_line(v, key, text);
}

void
vmc_put_subscription(struct vmc *v, const struct subscription_row *s)
{
	if (v->format == VMC_JSON) {
		vmc_subscription_members(vmc_info_open(v, "Subscription"), s);
		vmc_info_close(v);
		return;
	}
	vmc_put_line(v, "imagelist.dc:identifier", s->list_id);
	vmc_put_line(v, "subscription.dc:identifier", s->list_id);
	vmc_put_line(v, "subscription.dc:description", s->description);
	vmc_put_line(v, "subscription.sl:authorised",
		     s->state != SUB_DISTRUSTED ? "True" : "False");
	vmc_put_line(v, "subscription.hv:uri", s->url);
	vmc_put_line(v, "subscription.hv:uri.trustAnchor", vmc_anchor_name(s->trust_anchor));
	if (s->username != NULL)
		vmc_put_line(v, "subscription.hv:uri.username", HIDDEN);
	if (s->password != NULL)
		vmc_put_line(v, "subscription.hv:uri.password", HIDDEN);
	if (s->updated != 0)
		put_stamp(v, "subscription.dc:date:updated", s->updated);
	else
		vmc_put_line(v, "subscription.dc:date:updated", "False");
	buf_printf(&v->out, "subscription.updateMode=%d\n", update_mode(s));
}

/* When the list came: its message was stored then and is never written again. */
static int64_t
imported_at(const struct vmc *v, const struct subscription_row *s)
{
	CLEANUP_FD int fd = message_open(v->ctl.conf, &s->message, false, NULL);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 ? st.st_mtim.tv_sec : s->updated;
}

void
vmc_put_imagelist(struct vmc *v, const struct subscription_row *s)
{
	struct jsonw *w;

	if (!s->has_message)
		return;
	if (v->format == VMC_JSON) {
		w = vmc_info_open(v, "ImageListInstance");
		jsonw_stamp(w, "created", s->created);
		jsonw_stamp(w, "expires", s->expires);
		jsonw_stamp(w, "imported", imported_at(v, s));
		vmc_info_close(v);
		return;
	}
	if (s->state == SUB_EXPIRED)
		put_stamp(v, "imagelist.vmcatcher.dc:date:expired", s->expires);
	vmc_put_line(v, "imagelist.expired", s->state == SUB_EXPIRED ? "True" : "False");
	put_stamp(v, "imagelist.dc:date:imported", imported_at(v, s));
	put_stamp(v, "imagelist.dc:date:created", s->created);
	put_stamp(v, "imagelist.dc:date:expires", s->expires);
}

int
vmc_put_message(struct vmc *v, const struct subscription_row *s, enum vmc_format format,
		struct err *err)
{
	CLEANUP_FD int fd = -1;
	int rc;

	if (!s->has_message)
		return err_set(err, ENOENT, "subscription '%s' has no list yet", s->list_id);
	fd = message_open(v->ctl.conf, &s->message, format == VMC_MESSAGE, err);
	if (fd < 0)
		return fd;
	rc = io_read_to_end(fd, LIMIT_MESSAGE_BYTES, &v->out);
	return rc == 0 ? 0 : err_set(err, -rc, "the list of subscription '%s' cannot be read: %s",
				     s->list_id, strerrordesc_np(-rc));
}

/* ---- -o -------------------------------------------------------------------------------------- */

int
vmc_outputs_open(struct vmc *v, size_t n, struct err *err)
{
	struct vmc_values files = vmc_values(v, "output");
	mode_t ours = umask(v->ctl.umask);
	int rc = 0;

	v->outputs = xcalloc(files.n + 1, sizeof(*v->outputs));
	while (rc == 0 && v->n_outputs < n && v->n_outputs < files.n) {
		const char *file = files.at[v->n_outputs];
		int fd = io_openat(AT_FDCWD, file,
				   O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);

		if (fd < 0)
			rc = err_set(err, errno, "'%s' cannot be written: %s", file,
				     strerrordesc_np(errno));
		else
			v->outputs[v->n_outputs++] = fd;
	}
	umask(ours);
	return rc;
}

int
vmc_output_take(struct vmc *v, size_t i, size_t from, struct err *err)
{
	int rc;

	if (i >= v->n_outputs || v->out.len <= from)
		return 0;
	rc = io_write_all(v->outputs[i], v->out.data + from, v->out.len - from);
	v->out.len = from;
	v->out.data[from] = '\0';
	return rc == 0 ? 0 : err_set(err, -rc, "'%s' cannot be written: %s",
				     vmc_values(v, "output").at[i], strerrordesc_np(-rc));
}
