/*
 * jobbed.h - a site whose images are files, and the engine's part in the run of one job, played for
 * unit tests.  Include it once in a program.
 */
#ifndef VMI_JOBBED_H
#define VMI_JOBBED_H

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include "tests/unit/sitefixture.h"

#include "core/catalogue_impl.h"
#include "core/cleanup.h"
#include "core/io.h"
#include "core/job.h"
#include "core/log.h"

enum {
	SIZE = 1 << 20,
	PATIENCE_MS = 30000,	/* for what takes milliseconds */
};

struct bed {
	struct fixture *f;
	struct conf *conf;
	struct store *store;
	struct starter *starter;
	struct job_env env;
	struct job_counters counters;
	int64_t sub;
	struct digest digest, tree;	/* of the signed image */
	bool has_root;
	struct digest root;		/* in the list */
	struct job *job;
};

static char bytes_signed[SIZE];

/* ---- a site whose images are files ----------------------------------------------------------- */

static inline int
load_conf(struct bed *b)
{
	CLEANUP_FREE char *www = xasprintf("%s/www", b->f->dir);
	CLEANUP_FREE char *path = xasprintf("%s/conf", b->f->dir);
	CLEANUP_FILE FILE *out = fopen(path, "we");

	/* The fetcher may be somebody else. */
	if (out == NULL || mkdir(www, 0755) != 0 || chmod(b->f->dir, 0755) != 0)
		return -1;
	fprintf(out, "file_prefix = %s\ncache_min_free = 0%%\n", www);
	fprintf(out, "user = nobody\ncache_dir = %s\nstate_dir = %s\n", b->f->conf.cache_dir,
		b->f->conf.state_dir);
	fflush(out);
	return conf_load(path, &b->conf, &b->f->err);
}

/* The fs-verity digest of the image, by hand. */
static inline void
make_tree(struct bed *b)
{
	struct verity_builder *builder;
	struct verity_shape shape;

	if (!verity_shape_init(&shape, SIZE) || verity_builder_new(&builder, SIZE) != 0)
		abort();
	for (int64_t g = 0; g < shape.n_granules; g++) {
		struct digest d;

		verity_granule(&shape, bytes_signed + g * VERITY_GRANULE,
			       verity_granule_size(&shape, g), NULL, &d);
		verity_builder_set(builder, g, &d);
	}
	verity_builder_end(builder, &b->tree);
	verity_builder_free(builder);
}

static inline int
setup(void **state)
{
	struct bed *b = xcalloc(1, sizeof(*b));

	log_set_level(LOG_LVL_ERROR);
	b->f = fixture_new();
	*state = b;
	if (getenv("VMIMAGEFS_LIBEXECDIR") == NULL)
		return 0;
	if (load_conf(b) != 0 || starter_new(&b->starter, b->conf, &b->f->err) != 0 ||
	    store_init(b->conf, catalogue_store_id(b->f->c), false, &b->f->err) != 0 ||
	    store_open(b->conf, catalogue_store_id(b->f->c), &b->store, &b->f->err) != 0 ||
	    store_lock(b->store, &b->f->err) != 0) {
		print_error("%s\n", b->f->err.text);
		return -1;
	}
	b->sub = subscribe(b->f, LIST, SELECT_ALL);
	b->env = (struct job_env){
		.conf = b->conf, .catalogue = b->f->c, .store = b->store, .starter = b->starter,
		.notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.counters = &b->counters,
	};
	for (size_t i = 0; i < SIZE; i++)
		bytes_signed[i] = (char)(i * 2654435761u >> 19);
	digest_of(bytes_signed, SIZE, &b->digest);
	make_tree(b);
	return 0;
}

static inline int
teardown(void **state)
{
	struct bed *b = *state;

	job_free(b->job);
	store_close(b->store);
	if (b->starter != NULL) {
		starter_free(b->starter);
		close(b->env.notify_fd);
	}
	conf_free(b->conf);
	fixture_free(b->f);
	free(b);
	return 0;
}

/* A file below file_prefix. */
static inline void
put(struct bed *b, const char *name, const char *data, size_t len)
{
	CLEANUP_FREE char *path = xasprintf("%s/%s", b->conf->file_prefix, name);
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, data, len), 0);
}

static inline void
add_image(struct bed *b, struct buf *text, int i, const char *file, const char *hex)
{
	char verity[DIGEST_HEX + 64] = "", root[DIGEST_HEX + 1];

	if (b->has_root) {
		digest_hex(&b->root, root);
		snprintf(verity, sizeof(verity), "\"sl:checksum:fsverity-sha512\":\"%s\",", root);
	}
	buf_printf(text,
		   "%s{\"hv:image\":{\"dc:identifier\":\"image-%d\",\"dc:title\":\"Image %d\","
		   "\"dc:description\":\"d\",\"hv:version\":\"1\",\"sl:comments\":\"\","
		   "\"sl:os\":\"Linux\",\"sl:osversion\":\"12\",\"sl:arch\":\"x86_64\","
		   "\"hv:hypervisor\":\"kvm\",\"hv:size\":%d,\"sl:checksum:sha512\":\"%s\","
		   "%s\"hv:uri\":\"file://%s/%s\"}}",
		   i > 0 ? "," : "", i, i, SIZE, hex, verity, b->conf->file_prefix, file);
}

/* A list whose images, one a file, all have the same content. */
static inline void
list_files(struct bed *b, const char *const *files)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	char hex[DIGEST_HEX + 1];
	struct subscription_row row;
	struct imagelist *list = NULL;
	struct verdict v;
	int rc;

	digest_hex(&b->digest, hex);
	list_text(&text, LIST, "1", NOW - 1000, (int64_t)NOW + 100LL * 365 * 86400, NO_ENTRIES);
	text.len -= strlen("]}}");
	for (int i = 0; files[i] != NULL; i++)
		add_image(b, &text, i, files[i], hex);
	buf_puts(&text, "]}}");
	verdict_init(&v);
	site_verify(b->f, text.data, text.len, &v, NULL);
	rc = catalogue_subscription_by_id(b->f->c, b->sub, &row, &b->f->err);
	if (rc == 0)
		rc = imagelist_parse(text.data, text.len, b->conf->file_prefix, &list, &b->f->err);
	if (rc == 0)
		rc = catalogue_apply_list(b->f->c, &row, list, &v, text.data, text.len, NOW,
					  &b->f->result, &b->f->err);
	if (rc != 0)
		fail_msg("%s", b->f->err.text);
	imagelist_free(list);
	verdict_release(&v);
	subscription_row_release(&row);
}

#define FILES(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* ---- running a job as the engine does -------------------------------------------------------- */

static inline void
start(struct bed *b)
{
	struct object_row row;

	if (catalogue_object_get(b->f->c, &b->digest, &row, &b->f->err) != 0)
		fail_msg("%s", b->f->err.text);
	if (b->job == NULL)
		b->job = job_new(&row);
	object_row_release(&row);
	job_start(b->job, &b->env);
}

static inline void
finish(struct bed *b)
{
	long long deadline = io_monotonic_ms() + PATIENCE_MS;
	struct job *job = b->job;
	uint64_t count;

	while (job->state == JOB_RECEIVING || job->state == JOB_STORING) {
		struct pollfd fds[2] = {
			{ .fd = b->env.notify_fd, .events = POLLIN },
			{ .fd = job_fd(job), .events = POLLIN },
		};

		if (job_step(job, &b->env))
			continue;
		if (io_monotonic_ms() > deadline)
			fail_msg("the job does not end");
		poll(fds, 2, 1000);
		if (fds[0].revents != 0 && read(b->env.notify_fd, &count, sizeof(count)) < 0)
			fail_msg("eventfd: %s", strerror(errno));
	}
}

static inline void
run(struct bed *b)
{
	start(b);
	finish(b);
}

static inline void
assert_stored(struct bed *b)
{
	int fd = store_object_open(b->store, &b->digest, SIZE, &b->f->err);
	struct object_row row;
	static char got[SIZE];

	if (b->job->state != JOB_DONE)
		fail_msg("%s", b->job->result.text);
	assert_true(fd >= 0);
	assert_int_equal(io_read_full(fd, got, SIZE), SIZE);
	assert_memory_equal(got, bytes_signed, SIZE);
	close(fd);
	assert_int_equal(catalogue_object_get(b->f->c, &b->digest, &row, &b->f->err), 0);
	assert_int_equal(row.state, OBJECT_VERIFIED);
	assert_true(row.has_tree);
	assert_memory_equal(&row.tree, &b->tree, sizeof(row.tree));
	assert_int_equal(row.tries, 0);
	assert_string_equal(row.error, "");
	object_row_release(&row);
	assert_int_equal(b->counters.fetched_bytes, SIZE);
}

/* It rests with that code, and so many tries count. */
static inline void
assert_failed(struct bed *b, enum code code, int tries)
{
	struct object_row row;

	assert_int_equal(b->job->state, JOB_BACKOFF);
	assert_false(job_is_active(b->job));
	if (b->job->result.code != code)
		fail_msg("code %d: %s", b->job->result.code, b->job->result.text);
	assert_int_equal(b->job->tries, tries);
	assert_int_equal(catalogue_object_get(b->f->c, &b->digest, &row, &b->f->err), 0);
	assert_int_equal(row.state, OBJECT_FAILED);
	assert_int_equal(row.tries, tries);
	assert_int_equal(row.code, code);
	assert_string_equal(row.error, b->job->result.text);
	object_row_release(&row);
	assert_int_equal(b->counters.fetched_bytes, 0);
	assert_int_equal(store_object_open(b->store, &b->digest, SIZE, NULL), -ENOENT);
}

/* What an earlier run left. */
static inline void
leave_partial(struct bed *b, const char *data, size_t len)
{
	int64_t have;
	int fd;

	assert_int_equal(store_partial_open(b->store, &b->digest, SIZE, &fd, &have, &b->f->err), 0);
	assert_int_equal(io_pwrite_all(fd, data, len, 0), 0);
	assert_int_equal(store_partial_note(b->store, &b->digest, fd, (int64_t)len), 0);
	close(fd);
}

static inline void
skip_without_fetcher(void)
{
	if (getenv("VMIMAGEFS_LIBEXECDIR") == NULL)
		skip();
}

#endif
