/*
 * test_job.c - fetching one object, with the real fetcher, from files below file_prefix.
 *
 * What servers do to a transfer is in spec tests; here it is what a job makes of it: which source
 * comes next, what counts as a failed try, what the catalogue and the store hold in the end.
 * VMIMAGEFS_LIBEXECDIR names the directory of the fetcher; without it everything is skipped.
 */
#include "config.h"

#include <poll.h>
#include <sqlite3.h>
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

static int
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
static void
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

static int
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

static int
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
static void
put(struct bed *b, const char *name, const char *data, size_t len)
{
	CLEANUP_FREE char *path = xasprintf("%s/%s", b->conf->file_prefix, name);
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, data, len), 0);
}

static void
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
static void
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

static void
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

static void
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

static void
run(struct bed *b)
{
	start(b);
	finish(b);
}

static void
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
static void
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
static void
leave_partial(struct bed *b, const char *data, size_t len)
{
	int64_t have;
	int fd;

	assert_int_equal(store_partial_open(b->store, &b->digest, SIZE, &fd, &have, &b->f->err), 0);
	assert_int_equal(io_pwrite_all(fd, data, len, 0), 0);
	assert_int_equal(store_partial_note(b->store, &b->digest, fd, (int64_t)len), 0);
	close(fd);
}

static void
skip_without_fetcher(void)
{
	if (getenv("VMIMAGEFS_LIBEXECDIR") == NULL)
		skip();
}

/* ---- success --------------------------------------------------------------------------------- */

static void
fetches_verifies_stores(void **state)
{
	struct bed *b = *state;
	bool active;
	int64_t bytes;

	skip_without_fetcher();
	put(b, "a.img", bytes_signed, SIZE);
	list_files(b, FILES("a.img"));
	run(b);
	assert_stored(b);
	job_progress(b->job, &active, &bytes);
	assert_false(active);
	assert_image(b->f, "image-0", "live selected 1");
}

static void
answers_before_it_is_durable(void **state)
{
	struct bed *b = *state;
	bool seen = false;

	skip_without_fetcher();
	put(b, "a.img", bytes_signed, SIZE);
	list_files(b, FILES("a.img"));
	start(b);
	for (long long end = io_monotonic_ms() + PATIENCE_MS;
	     b->job->state != JOB_DONE && io_monotonic_ms() < end;) {
		job_step(b->job, &b->env);
		/* Readers get their bytes here, once the digest is right. */
		if (b->job->state == JOB_STORING && !seen) {
			struct blockfile *f = intake_blockfile(b->job->intake);
			struct readbuf buf = { 0 };
			const void *got;
			int64_t g;

			assert_non_null(f);
			assert_int_equal(blockfile_read(f, &buf, SIZE - 16, 16, &got, &g), 0);
			assert_memory_equal(got, bytes_signed + SIZE - 16, 16);
			readbuf_release(&buf);
			blockfile_unref(f);
			seen = true;
		}
	}
	assert_true(seen);
	assert_stored(b);
}

static void
takes_the_signed_tree(void **state)
{
	struct bed *b = *state;

	skip_without_fetcher();
	b->has_root = true;
	b->root = b->tree;
	put(b, "a.img", bytes_signed, SIZE);
	list_files(b, FILES("a.img"));
	run(b);
	assert_true(b->job->has_root);
	assert_stored(b);
}

static void
takes_the_source_that_works(void **state)
{
	struct bed *b = *state;

	skip_without_fetcher();
	put(b, "b.img", bytes_signed, SIZE);
	list_files(b, FILES("none.img", "b.img", "nor-this.img"));
	run(b);
	assert_stored(b);
}

static void
goes_on_where_it_stopped(void **state)
{
	struct bed *b = *state;

	skip_without_fetcher();
	/* If the first half were read again, the digest would be wrong. */
	bytes_signed[0] ^= 1;
	put(b, "a.img", bytes_signed, SIZE);
	bytes_signed[0] ^= 1;
	list_files(b, FILES("a.img"));
	leave_partial(b, bytes_signed, SIZE / 2);
	run(b);
	assert_stored(b);
}

static void
await_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
}

/*
 * The bytes of a request are lost on their way, and its fetcher has ended; its pipe has not as long
 * as the descriptor that is returned is open.
 */
static int
lose_bytes(struct job *job, const struct job_env *env)
{
	CLEANUP_FREE char *path = NULL;
	static char lost[SIZE];
	int hold;

	while (job->fetch == NULL)
		job_step(job, env);
	path = xasprintf("/proc/self/fd/%d", job->pipe_rd);
	hold = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(hold >= 0);
	assert_int_equal(io_read_full(job->pipe_rd, lost, SIZE), SIZE);
	while (!job->ended) {
		await_readable(job_fd(job));
		job_step(job, env);
	}
	assert_int_equal(intake_state(job->intake), INTAKE_RUNNING);
	return hold;
}

static void
asks_when_all_is_taken_in(void **state)
{
	struct bed *b = *state;
	uint64_t count;

	skip_without_fetcher();
	put(b, "a.img", bytes_signed, SIZE);
	put(b, "b.img", bytes_signed, SIZE);
	list_files(b, FILES("a.img", "b.img"));
	start(b);
	close(lose_bytes(b->job, &b->env));
	while (intake_state(b->job->intake) == INTAKE_RUNNING) {
		await_readable(b->env.notify_fd);
		assert_int_equal(read(b->env.notify_fd, &count, sizeof(count)), sizeof(count));
	}
	assert_int_equal(intake_offset(b->job->intake), 0);
	job_step(b->job, &b->env);
	assert_int_equal(b->job->state, JOB_RECEIVING);
	assert_non_null(b->job->fetch);
	assert_false(b->job->ended);
	finish(b);
	assert_stored(b);
	assert_int_equal(b->counters.failed_tries, 0);
}

/* Two parts that do not belong together accuse nobody: all of it once more. */
static void
starts_again_after_a_bad_part(void **state)
{
	struct bed *b = *state;

	skip_without_fetcher();
	put(b, "a.img", bytes_signed, SIZE);
	list_files(b, FILES("a.img"));
	leave_partial(b, bytes_signed + 1, SIZE / 2);
	run(b);
	assert_int_equal(b->job->state, JOB_QUEUED);
	assert_int_equal(b->counters.failed_tries, 0);
	run(b);
	assert_stored(b);
}

static void
sql(struct bed *b, const char *text)
{
	if (sqlite3_exec(b->f->c->db, text, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s", sqlite3_errmsg(b->f->c->db));
}

/* As long as this is there no row of a stored object can be written. */
static void
refuse_rows(struct bed *b)
{
	sql(b, "CREATE TEMP TRIGGER refuse BEFORE UPDATE ON object WHEN new.state = 'verified'"
	       " BEGIN SELECT raise(ABORT, 'disk is full'); END");
}

static void
accept_rows(struct bed *b)
{
	sql(b, "DROP TRIGGER refuse");
}

/* Until nothing more happens by itself. */
static void
step_to_rest(struct bed *b)
{
	long long end = io_monotonic_ms() + PATIENCE_MS;

	while (job_is_active(b->job) && b->job->n_failed == 0 && io_monotonic_ms() < end)
		job_step(b->job, &b->env);
}

static void
writes_the_row_later(void **state)
{
	struct bed *b = *state;
	struct store_usage usage;

	skip_without_fetcher();
	put(b, "a.img", bytes_signed, SIZE);
	list_files(b, FILES("a.img"));
	assert_int_equal(store_admit(b->store, &b->digest, SIZE, NULL, &b->f->err), 0);
	refuse_rows(b);
	start(b);
	step_to_rest(b);
	assert_int_equal(b->job->state, JOB_STORING);
	assert_in_range(b->job->retry_at - io_monotonic_ms(), 0, 2000);
	assert_int_equal(b->counters.failed_tries, 0);
	assert_int_equal(store_usage(b->store, &usage, &b->f->err), 0);
	assert_int_equal(usage.promised, 0);
	assert_false(job_step(b->job, &b->env));
	/* It cannot come a second time. */
	put(b, "a.img", "", 0);
	accept_rows(b);
	finish(b);
	assert_stored(b);
	assert_int_equal(store_usage(b->store, &usage, &b->f->err), 0);
	assert_int_equal(usage.quarantine, 0);
}

static void
tells_a_command_at_once(void **state)
{
	struct bed *b = *state;

	skip_without_fetcher();
	put(b, "a.img", bytes_signed, SIZE);
	list_files(b, FILES("a.img"));
	refuse_rows(b);
	start(b);
	b->job->waiting = true;
	step_to_rest(b);
	assert_int_equal(b->job->state, JOB_BACKOFF);
	assert_true(b->job->gave_up);
	assert_non_null(strstr(b->job->result.text, "disk is full"));
	assert_int_equal(close(store_object_open(b->store, &b->digest, SIZE, &b->f->err)), 0);
}

/* ---- failure --------------------------------------------------------------------------------- */

static void
counts_wrong_bytes(void **state)
{
	struct bed *b = *state;

	skip_without_fetcher();
	bytes_signed[SIZE / 2] ^= 1;
	put(b, "a.img", bytes_signed, SIZE);
	bytes_signed[SIZE / 2] ^= 1;
	list_files(b, FILES("a.img"));
	run(b);
	assert_failed(b, CODE_DIGEST, 1);
	assert_int_equal(b->counters.failed_tries, 1);
	assert_false(b->job->gave_up);
	assert_in_range(b->job->retry_at - b->job->failed_at, 1000, 2000);
}

/* The same bytes would come from any source, and at any time. */
static void
gives_up_what_contradicts_itself(void **state)
{
	struct bed *b = *state;
	struct store_usage usage;
	char hex[DIGEST_HEX + 1];

	skip_without_fetcher();
	b->has_root = true;
	digest_of("another image", 13, &b->root);
	put(b, "a.img", bytes_signed, SIZE);
	put(b, "b.img", bytes_signed, SIZE);
	list_files(b, FILES("a.img", "b.img"));
	run(b);
	assert_failed(b, CODE_BLOCK_DIGEST, LIMIT_TRIES);
	assert_true(b->job->gave_up);
	assert_int_equal(b->job->result.rc, -EBADMSG);
	assert_int_equal(b->counters.failed_tries, 1);
	digest_hex(&b->root, hex);
	assert_non_null(strstr(b->job->result.text, hex));
	assert_int_equal(store_usage(b->store, &usage, &b->f->err), 0);
	assert_true(usage.quarantine >= SIZE);
}

static void
counts_wrong_sizes(void **state)
{
	struct bed *b = *state;

	skip_without_fetcher();
	put(b, "a.img", bytes_signed, SIZE - 1);
	list_files(b, FILES("a.img"));
	run(b);
	assert_failed(b, CODE_SIZE, 1);
	put(b, "a.img", bytes_signed, SIZE);
	job_requeue(b->job);
	run(b);
	assert_stored(b);
}

static void
gives_up_after_five(void **state)
{
	struct bed *b = *state;

	skip_without_fetcher();
	put(b, "a.img", bytes_signed, SIZE - 1);
	list_files(b, FILES("a.img"));
	for (int try = 1; try <= LIMIT_TRIES; try++) {
		run(b);
		assert_failed(b, CODE_SIZE, try);
		assert_int_equal(b->job->gave_up, try == LIMIT_TRIES);
		job_requeue(b->job);
	}
}

/* What the network does is nobody's fault, but the waits grow. */
static void
does_not_count_the_network(void **state)
{
	struct bed *b = *state;

	skip_without_fetcher();
	list_files(b, FILES("none.img"));
	for (int try = 1; try <= LIMIT_TRIES + 1; try++) {
		long long wait;

		run(b);
		assert_failed(b, CODE_DOWNLOAD, 0);
		assert_false(b->job->gave_up);
		wait = b->job->retry_at - b->job->failed_at;
		assert_in_range(wait, 1000 << (try - 1), 2000 << (try - 1));
		job_requeue(b->job);
	}
	put(b, "none.img", bytes_signed, SIZE);
	run(b);
	assert_stored(b);
}

static void
needs_a_source(void **state)
{
	struct bed *b = *state;

	skip_without_fetcher();
	put(b, "a.img", bytes_signed, SIZE);
	list_files(b, FILES("a.img"));
	/* The admin has taken file_prefix out of the configuration since. */
	free(b->conf->file_prefix);
	b->conf->file_prefix = NULL;
	run(b);
	assert_failed(b, CODE_NONE, 0);
	assert_non_null(strstr(b->job->result.text, "file_prefix"));
}

static void
can_be_dropped_at_any_moment(void **state)
{
	struct bed *b = *state;
	struct store_usage usage;

	skip_without_fetcher();
	put(b, "a.img", bytes_signed, SIZE);
	list_files(b, FILES("a.img"));
	for (int steps = 0; steps < 12; steps++) {
		start(b);
		for (int i = 0; i < steps && job_is_active(b->job); i++)
			job_step(b->job, &b->env);
		job_free(b->job);
		b->job = NULL;
	}
	b->counters.fetched_bytes = 0;	/* some were done */
	assert_int_equal(store_usage(b->store, &usage, &b->f->err), 0);
	assert_int_equal(usage.quarantine, 0);
	start(b);
	finish(b);
	assert_stored(b);
}

#define TEST(title, fn) \
	{ .name = title, .test_func = fn, .setup_func = setup, .teardown_func = teardown }

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("an image is fetched, verified and stored", fetches_verifies_stores),
		TEST("readers get verified bytes before they are durable",
		     answers_before_it_is_durable),
		TEST("an image whose tree is the signed one is stored", takes_the_signed_tree),
		TEST("B34 an object whose row cannot be written is not fetched again, its row is"
		     " written later", writes_the_row_later),
		TEST("B34 a command is told at once that the row could not be written",
		     tells_a_command_at_once),
		TEST("T32 a source that fails is followed by the next one",
		     takes_the_source_that_works),
		TEST("T08 a transfer goes on where an earlier run stopped",
		     goes_on_where_it_stopped),
		TEST("T08 what was cut is asked for again at once, however late its last bytes are"
		     " taken in", asks_when_all_is_taken_in),
		TEST("B25 a partial of another image costs a restart, not a try",
		     starts_again_after_a_bad_part),
		TEST("T31 wrong bytes are a failed try", counts_wrong_bytes),
		TEST("T40 an image whose digests contradict each other is given up at once (40)",
		     gives_up_what_contradicts_itself),
		TEST("T12 a wrong size is a failed try, and a later right one is taken",
		     counts_wrong_sizes),
		TEST("T31 after five failed tries of a list version a job gives up",
		     gives_up_after_five),
		TEST("T01 a source that is away uses up no tries, it makes the waits longer",
		     does_not_count_the_network),
		TEST("L26 without file_prefix a file:// image has no source", needs_a_source),
		TEST("L23 a job can be dropped at any moment, and begun again",
		     can_be_dropped_at_any_moment),
	};

	return cmocka_run_group_tests_name("job", tests, NULL, NULL);
}
