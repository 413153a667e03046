/*
 * site.json, the messages beside it, and opening the catalogue.
 */
#include "config.h"
#include "sitefixture.h"

#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>
#include "core/catalogue_impl.h"
#include "core/cleanup.h"
#include "core/io.h"
#include "core/site.h"

static void
read_state_file(struct fixture *f, const char *name, struct buf *out)
{
	CLEANUP_FD int dir = open(f->conf.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(io_read_file(dir, name, 1 << 24, out), 0);
}

static void
remove_state_file(struct fixture *f, const char *name)
{
	CLEANUP_FREE char *path = xasprintf("%s/%s", f->conf.state_dir, name);

	assert_int_equal(unlink(path), 0);
}

static mode_t
mode_of(struct fixture *f, const char *name)
{
	CLEANUP_FREE char *path = xasprintf("%s/%s", f->conf.state_dir, name);
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_mode & 07777;
}

static struct site *
read_site(struct fixture *f)
{
	CLEANUP_FD int dir = open(f->conf.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct site *site;

	if (site_read(dir, &site, NULL, &f->err) != 0)
		fail_msg("%s", f->err.text);
	return site;
}

static void
decisions(void **state)
{
	struct fixture *f = *state;
	struct subscription_row row = { .list_id = xstrdup("secret"),
					.url = xstrdup("https://example.org/secret"),
					.username = xstrdup("token"),
					.password = xstrdup("hunter2"),
					.select_new = SELECT_ALL };
	int64_t sub = subscribe(f, LIST, SELECT_NONE);
	struct site *site;

	publish(f, sub, "3", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	select_image(f, "b", true);
	assert_int_equal(catalogue_subscription_add(f->c, &row, &f->err), 0);
	subscription_row_release(&row);
	site = read_site(f);
	assert_string_equal(site->store_id, catalogue_store_id(f->c));
	assert_int_equal(site->n_endorsers, 1);
	assert_string_equal(site->endorsers[0].credentials[0].subject, ALICE);
	assert_int_equal(site->n_subscriptions, 2);
	assert_string_equal(site->subscriptions[0].version, "3");
	assert_true(site->subscriptions[0].has_message);
	assert_int_equal(site->subscriptions[0].selected.n, 1);
	assert_string_equal(site->subscriptions[0].selected.text[0], "b");
	assert_string_equal(site->subscriptions[0].endorsers.text[0], "alice");
	assert_string_equal(site->subscriptions[1].password, "hunter2");
	assert_int_equal(site->subscriptions[1].select_new, SELECT_ALL);
	site_free(site);
	assert_int_equal(mode_of(f, "site.json"), 0600);
	assert_int_equal(mode_of(f, "catalogue.db"), 0600);
}

static void
no_secret_in_events(void **state)
{
	struct fixture *f = *state;
	struct subscription_row row = { .list_id = xstrdup(LIST),
					.url = xstrdup("https://example.org/x"),
					.username = xstrdup("token"),
					.password = xstrdup("hunter2"),
					.select_new = SELECT_ALL };
	struct buf b = BUF_INIT;

	assert_int_equal(catalogue_endorser_add(f->c, "alice", ALICE, CA, false, false, &f->err),
			 0);
	assert_int_equal(catalogue_subscription_add(f->c, &row, &f->err), 0);
	assert_int_equal(catalogue_link(f->c, "alice", row.id, &f->err), 0);
	publish(f, row.id, "1", ENTRIES(IMG("a", "1", 'a')));
	store_content(f, 'a');
	subscription_row_release(&row);
	catalogue_close(f->c);
	f->c = NULL;
	fixture_reopen(f, 0);
	assert_events(f, 0, "[AvailablePrefix a, AvailablePostfix a]");
	read_state_file(f, "site.json", &b);
	assert_non_null(strstr(b.data, "hunter2"));
	buf_release(&b);
}

static void
interrupted_write(void **state)
{
	struct fixture *f = *state;
	struct buf before = BUF_INIT, after = BUF_INIT;
	CLEANUP_FD int dir = open(f->conf.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	/* The file as it was before the last decision: what a crash after the commit leaves. */
	read_state_file(f, "site.json", &before);
	subscribe(f, LIST, SELECT_NONE);
	assert_int_equal(io_replace_file(dir, "site.json", 0600, before.data, before.len), 0);
	fixture_reopen(f, 0);
	read_state_file(f, "site.json", &after);
	assert_non_null(strstr(after.data, LIST));
	buf_release(&before);
	buf_release(&after);
}

static void
damaged_site_json(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FD int dir = open(f->conf.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct site *site;
	struct buf b = BUF_INIT;

	subscribe(f, LIST, SELECT_NONE);
	read_state_file(f, "site.json", &b);
	b.data[20] ^= 1;
	assert_int_equal(io_replace_file(dir, "site.json", 0600, b.data, b.len), 0);
	assert_int_equal(site_read(dir, &site, NULL, &f->err), -EIO);
	assert_int_equal(f->err.code, CODE_CORRUPT);
	fixture_reopen(f, CATALOGUE_CHECK);
	site = read_site(f);
	assert_int_equal(site->n_subscriptions, 1);
	site_free(site);
	buf_release(&b);
}

static void
rolled_back(void **state)
{
	struct fixture *f = *state;
	struct buf before = BUF_INIT, after = BUF_INIT;

	read_state_file(f, "site.json", &before);
	assert_int_equal(catalogue_begin(f->c, &f->err), 0);
	subscribe(f, LIST, SELECT_NONE);
	catalogue_rollback(f->c);
	read_state_file(f, "site.json", &after);
	assert_string_equal(before.data, after.data);
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_int_equal(f->said.len, 0);
	buf_release(&before);
	buf_release(&after);
}

static void
stored_verbatim(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_NONE);
	struct subscription_row row;
	struct buf text = BUF_INIT, stored = BUF_INIT;

	list_text(&text, LIST, "1", NOW - 5, (int64_t)NOW + 86400, ENTRIES(IMG("a", "1", 'a')));
	assert_int_equal(apply_text(f, sub, &text, NOW), 0);
	assert_int_equal(catalogue_subscription_by_id(f->c, sub, &row, &f->err), 0);
	for (int payload = 0; payload < 2; payload++) {
		CLEANUP_FD int fd = message_open(&f->conf, &row.message, payload != 0, &f->err);

		assert_true(fd >= 0);
		buf_clear(&stored);
		assert_int_equal(io_read_to_end(fd, 1 << 20, &stored), 0);
		assert_int_equal(stored.len, text.len);
		assert_memory_equal(stored.data, text.data, text.len);
	}
	subscription_row_release(&row);
	buf_release(&text);
	buf_release(&stored);
}

static int
count_messages(struct fixture *f)
{
	CLEANUP_FREE char *path = xasprintf("%s/messages", f->conf.state_dir);
	int n = 0;
	DIR *dir = opendir(path);
	struct dirent *e;

	while ((e = readdir(dir)) != NULL)
		n += e->d_name[0] != '.';
	closedir(dir);
	return n;
}

static void
superseded(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_NONE);
	CLEANUP_FREE char *foreign = xasprintf("%s/messages/notes.txt", f->conf.state_dir);

	close(open(foreign, O_CREAT | O_WRONLY, 0600));
	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	publish(f, sub, "2", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	assert_int_equal(count_messages(f), 5);
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_int_equal(count_messages(f), 3);
	assert_int_equal(f->said.len, 0);
}

static void
superseded_by_refresh(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_NONE);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	publish(f, sub, "2", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	assert_int_equal(count_messages(f), 4);
	assert_int_equal(catalogue_message_sweep(f->c, &f->err), 0);
	assert_int_equal(count_messages(f), 2);
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_image(f, "b", "live unselected 1");
	assert_int_equal(f->said.len, 0);
}

static void
being_written(void **state)
{
	struct fixture *f = *state, other = *f;
	int64_t sub = subscribe(f, LIST, SELECT_NONE);
	struct digest d = content('d');

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	assert_int_equal(fixture_open(&other, 0), 0);
	assert_int_equal(catalogue_begin(other.c, &f->err), 0);
	/* Nobody is waited for where there is nothing to do. */
	f->c->wait_ms = 50;
	assert_int_equal(catalogue_message_sweep(f->c, &f->err), 0);
	assert_int_equal(message_write(other.c, &d, "m", 1, "p", 1, &f->err), 0);
	assert_int_not_equal(catalogue_message_sweep(f->c, &f->err), 0);
	assert_int_equal(f->err.code, CODE_BUSY);
	assert_int_equal(count_messages(f), 4);
	catalogue_rollback(other.c);
	catalogue_close(other.c);
	assert_int_equal(catalogue_message_sweep(f->c, &f->err), 0);
	assert_int_equal(count_messages(f), 2);
}

static void
not_there(void **state)
{
	struct fixture *f = *state;

	catalogue_close(f->c);
	f->c = NULL;
	remove_state_file(f, "catalogue.db");
	remove_state_file(f, "site.json");
	assert_int_equal(fixture_open(f, 0), -ENOENT);
	assert_non_null(strstr(f->err.text, "vmimagectl endorser add"));
	assert_int_equal(fixture_open(f, CATALOGUE_CREATE), 0);
}

static void
lost_with_marker(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FREE char *marker = xasprintf("%s/.vmimagefs-store", f->conf.cache_dir);

	catalogue_close(f->c);
	f->c = NULL;
	remove_state_file(f, "catalogue.db");
	remove_state_file(f, "site.json");
	close(open(marker, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(fixture_open(f, CATALOGUE_CREATE | CATALOGUE_CHECK), -EIO);
	assert_int_equal(f->err.code, CODE_CORRUPT);
	assert_non_null(strstr(f->err.text, "restore"));
}

static void
in_use(void **state)
{
	struct fixture *f = *state;

	/* Another holder of the catalogue keeps it from being rebuilt under its feet. */
	struct fixture other = *f;

	remove_state_file(f, "catalogue.db");
	assert_int_equal(fixture_open(&other, CATALOGUE_CHECK), -EBUSY);
	assert_int_equal(other.err.code, CODE_BUSY);
	f->said = other.said;
}

static void
other_writer(void **state)
{
	struct fixture *f = *state;
	struct fixture other = *f;
	int64_t before = catalogue_data_version(f->c);

	assert_int_equal(fixture_open(&other, 0), 0);
	subscribe(&other, LIST, SELECT_NONE);
	catalogue_close(other.c);
	assert_int_not_equal(catalogue_data_version(f->c), before);
}

/* A plain SIGKILL in a transaction; tests/spec kills at each system call. */
static void
killed(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);
	pid_t child = fork();
	int status;

	if (child == 0) {
		struct fixture other = *f;

		/* A connection of its own: SQLite's may not be carried over a fork. */
		if (fixture_open(&other, 0) != 0)
			_exit(1);
		publish(&other, sub, "1", ENTRIES(IMG("a", "1", 'a')));
		catalogue_begin(other.c, NULL);
		catalogue_note_set(other.c, "unfinished", "yes", NULL);
		raise(SIGKILL);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_image(f, "a", "live selected 1");
	assert_null(catalogue_note_get(f->c, "unfinished"));
	assert_int_equal(f->said.len, 0);
}

#define T(title, fn) { title, fn, fixture_setup, fixture_teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T("site.json holds every decision, readable by its owner alone", decisions),
		T("a password is in site.json and in no event", no_secret_in_events),
		T("site.json is completed after a crash that came before it was written",
		  interrupted_write),
		T("a damaged site.json is put aside and written anew from the catalogue",
		  damaged_site_json),
		T("a decision that was rolled back is not in site.json", rolled_back),
		T("message and payload are stored byte for byte", stored_verbatim),
		T("superseded messages go at the next check, foreign files stay", superseded),
		T("superseded messages go after a refresh", superseded_by_refresh),
		T("a message that another process is about to name stays", being_written),
		T("without a catalogue the message says how to begin", not_there),
		T("B19 a lost catalogue without site.json is not taken for a new site",
		  lost_with_marker),
		T("a catalogue in use is not rebuilt", in_use),
		T("another process's commit is noticed", other_writer),
		T("an acknowledged list survives SIGKILL", killed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
