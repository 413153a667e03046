#include "config.h"
#include "sidecar.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "core/audit.h"
#include "core/io.h"
#include "core/verity.h"
#include "progress.h"

struct writing {
	struct sidecar *s;
	const struct newfile *out;
	struct verity_shape shape;
	struct progress bar;
	atomic_int rc;			/* of the first write that failed */
};

/* Any thread. */
static void
write_level0(void *arg, int64_t g, const unsigned char block[VERITY_BLOCK])
{
	struct writing *w = arg;
	int ok = 0, rc;

	rc = io_pwrite_all(w->out->fd, block, VERITY_BLOCK, w->shape.offset[0] + g * VERITY_BLOCK);
	if (rc != 0)
		atomic_compare_exchange_strong(&w->rc, &ok, rc);
}

static int
show(void *arg, int64_t done)
{
	struct writing *w = arg;

	progress_update(&w->bar, done, w->s->size);
	return atomic_load(&w->rc);
}

static int
write_prefix(const struct writing *w, const struct audit *audit)
{
	const void *prefix;
	size_t len;

	prefix = verity_builder_prefix(audit->builder, &len);
	return io_pwrite_all(w->out->fd, prefix, len, 0);
}

int
sidecar_write(struct sidecar *s, struct newfile *out, struct err *err)
{
	struct writing w = { .s = s, .out = out };
	struct audit audit = { .fd = s->fd, .size = s->size, .whole = true, .progress = show,
			       .level0 = out != NULL ? write_level0 : NULL, .arg = &w };
	int rc, wrote;

	if (!verity_shape_init(&w.shape, s->size))
		return err_set(err, EFBIG, "the image has more bytes than an image may have");
	progress_begin(&w.bar, s->label, s->silent);
	rc = audit_run(&audit, err);
	progress_end(&w.bar);
	wrote = atomic_load(&w.rc);
	if (rc == 0 && wrote == 0 && out != NULL)
		wrote = write_prefix(&w, &audit);
	verity_builder_free(audit.builder);
	if (wrote != 0)
		return err_set(err, -wrote, "cannot write '%s': %s", out->name,
			       strerrordesc_np(-wrote));
	s->sha512 = audit.sha512;
	s->verity = audit.verity;
	return rc;
}
