/*
 * The names of the figures of a status, in one table.
 *
 * The file `status`, status.json, metrics and `vmimagectl status` are made of it, so that they
 * cannot differ.
 */
#include "config.h"
#include "engine.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "jsonw.h"
#include "stamp.h"

#define AT(member) offsetof(struct engine_status, member)

static const struct {
	const char *name;
	enum figure_form form;
	size_t offset;			/* of an int64_t */
	const char *help;
} figures[] = {
	{ "started", FIGURE_STAMP, AT(started), "When the daemon started" },
	{ "last_update", FIGURE_STAMP, AT(last_update), "When image lists were last refreshed" },
	{ "next_update", FIGURE_STAMP, AT(next_update),
	  "When image lists will be refreshed next" },
	{ "endorsers", FIGURE_NUMBER, AT(rows.endorsers), "Registered endorsers" },
	{ "subscriptions", FIGURE_NUMBER, AT(rows.subscriptions), "Subscribed image lists" },
	{ "images", FIGURE_NUMBER, AT(rows.images), "Endorsed images" },
	{ "images_selected", FIGURE_NUMBER, AT(rows.selected), "Selected images" },
	{ "images_verified", FIGURE_NUMBER, AT(rows.verified),
	  "Selected images that are stored and verified" },
	{ "images_partial", FIGURE_NUMBER, AT(rows.partial),
	  "Selected images that are read block by block and are not complete" },
	{ "images_degraded", FIGURE_NUMBER, AT(rows.degraded),
	  "Stored images with damaged blocks that could not be fetched anew" },
	{ "images_failed", FIGURE_NUMBER, AT(rows.failed),
	  "Selected images that could not be fetched" },
	{ "images_expired", FIGURE_NUMBER, AT(rows.expired), "Entries of expired/" },
	{ "images_fetching", FIGURE_NUMBER, AT(n_fetching), "Images that are being fetched" },
	{ "images_queued", FIGURE_NUMBER, AT(n_queued), "Images that wait to be fetched" },
	{ "fetched_images", FIGURE_COUNTER, AT(fetched_images), "Images fetched and verified" },
	{ "fetched_bytes", FIGURE_COUNTER, AT(fetched_bytes), "Bytes received of images" },
	{ "failed_tries", FIGURE_COUNTER, AT(failed_tries),
	  "Tries to fetch an image that failed" },
	{ "reused_bytes", FIGURE_COUNTER, AT(reused_bytes),
	  "Bytes of new versions that were taken from older ones" },
	{ "corrupt_granules", FIGURE_COUNTER, AT(corrupt_granules),
	  "Blocks of stored images that were found damaged" },
	{ "healed_granules", FIGURE_COUNTER, AT(healed_granules),
	  "Damaged blocks that were fetched anew" },
	{ "events_waiting", FIGURE_NUMBER, AT(events_waiting),
	  "Events that an event handler is still to be told of" },
	{ "events_failed", FIGURE_NUMBER, AT(events_failed),
	  "Events that an event handler did not take" },
	{ "images_pinned", FIGURE_NUMBER, AT(pinned),
	  "Images whose stored version is never evicted" },
	{ "cache_size_bytes", FIGURE_NUMBER, AT(usage.limit),
	  "What the cache may take (cache_size), 0 if that is unlimited" },
	{ "cache_used_bytes", FIGURE_NUMBER, AT(cache_used), "What it takes, all that follows" },
	{ "cache_objects", FIGURE_NUMBER, AT(usage.n_objects), "Stored image files" },
	{ "cache_bytes", FIGURE_NUMBER, AT(usage.objects), "Bytes of stored image files" },
	{ "cache_expired_bytes", FIGURE_NUMBER, AT(expired_bytes),
	  "Those of them that only expired images name" },
	{ "cache_promised_bytes", FIGURE_NUMBER, AT(usage.promised),
	  "Bytes that images being fetched will still take" },
	{ "cache_partial_bytes", FIGURE_NUMBER, AT(usage.partial),
	  "Bytes of partly received images" },
	{ "cache_quarantine_bytes", FIGURE_NUMBER, AT(usage.quarantine),
	  "Bytes kept because they failed verification" },
	{ "cache_lost_found_bytes", FIGURE_NUMBER, AT(usage.lost_found),
	  "Bytes in lost+found of the cache" },
	{ "evicted_images", FIGURE_COUNTER, AT(evicted_images),
	  "Images that left the cache to make room" },
	{ "evicted_bytes", FIGURE_COUNTER, AT(evicted_bytes), "Bytes that left it for that" },
	{ "room_refusals", FIGURE_COUNTER, AT(room_refusals),
	  "Times that an image was not fetched for want of room" },
	{ "last_room_refusal", FIGURE_STAMP, AT(last_room_refusal), "When that was last" },
	{ "filesystem_bytes", FIGURE_NUMBER, AT(usage.fs_total),
	  "Size of the file system of the cache" },
	{ "filesystem_free_bytes", FIGURE_NUMBER, AT(usage.fs_free),
	  "Free bytes of the file system of the cache" },
	{ "memory_bytes", FIGURE_NUMBER, AT(memory),
	  "Memory that the worker has asked for and not given back" },
};

void
engine_status_each(const struct engine_status *s,
		   void (*fn)(void *arg, const struct engine_figure *f), void *arg)
{
	for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
		struct engine_figure f = { .name = figures[i].name, .help = figures[i].help,
					   .form = figures[i].form };

		memcpy(&f.value, (const char *)s + figures[i].offset, sizeof(f.value));
		fn(arg, &f);
	}
}

void
engine_figure_json(void *jsonw, const struct engine_figure *f)
{
	if (f->form == FIGURE_STAMP)
		jsonw_stamp(jsonw, f->name, f->value);
	else
		jsonw_integer(jsonw, f->name, f->value);
}

void
engine_figure_text(void *out, const struct engine_figure *f)
{
	char stamp[STAMP_BYTES] = "never";

	if (f->form != FIGURE_STAMP) {
		buf_printf(out, "%s: %" PRId64 "\n", f->name, f->value);
		return;
	}
	if (f->value > 0)
		stamp_format(f->value, stamp);
	buf_printf(out, "%s: %s\n", f->name, stamp);
}
