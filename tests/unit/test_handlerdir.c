/*
 * The directories of event handlers: what stands in them for which rows, and what a handler that is
 * told of an event finds.
 */
#include "config.h"
#include "handlerbed.h"

/* ---- the mount ------------------------------------------------------------------------------- */

static void
cached(void **state)
{
	struct bed *b = *state;

	publish_two(b);
	sync_dirs(b);
	assert_name(b, "cache/a", "link a");
	assert_name(b, "cache/b", "-");
	assert_index(b, "cache/cache.index", "a", "dc:title", "Title of a");
	assert_index(b, "cache/cache.index", "b", "dc:title", NULL);
	store_content(b->f, 'b');
	sync_dirs(b);
	assert_name(b, "cache/b", "link b");
	assert_index(b, "cache/cache.index", "b", "dc:title", "Title of b");
	select_image(b->f, "a", false);
	sync_dirs(b);
	assert_name(b, "cache/a", "-");
	assert_index(b, "cache/cache.index", "a", "dc:title", NULL);
}

static void
replaced(void **state)
{
	struct bed *b = *state;

	publish_two(b);
	sync_dirs(b);
	replace_a(b);
	sync_dirs(b);
	assert_name(b, "cache/a", "link c");
	assert_name(b, "expired/a" EXPIRED_AT, "link a");
	assert_index(b, "cache/cache.index", "a", "hv:version", "2");
	assert_index(b, "expired/cache.index", "a" EXPIRED_AT, "hv:version", "1");
	assert_index(b, "expired/cache.index", "a" EXPIRED_AT, "filename", "a" EXPIRED_AT);
	assert_index(b, "expired/cache.index", "a" EXPIRED_AT, "uuid", "a");
}

static void
distrusted(void **state)
{
	struct bed *b = *state;
	struct digest d = content('a');

	publish_two(b);
	store_content(b->f, 'b');
	sync_dirs(b);
	replace_a(b);
	OK(catalogue_object_evicted(b->f->c, &d, &b->err));
	OK(catalogue_distrust(b->f->c, b->sub, REASON_REVOKED, "revoked", NOW, &b->err));
	sync_dirs(b);
	assert_name(b, "cache/a", "-");
	assert_name(b, "cache/b", "-");
	assert_name(b, "expired/a" EXPIRED_AT, "empty 0444");	/* purged */
	assert_name(b, "expired/a" EXPIRED_AT "~2", "empty 0444");
	assert_name(b, "expired/b" EXPIRED_AT, "empty 0444");
}

static void
unchanged(void **state)
{
	struct bed *b = *state;

	publish_two(b);
	sync_dirs(b);
	remove_name(b, "cache/a");
	remove_name(b, "cache/cache.index");
	sync_dirs(b);
	assert_name(b, "cache/a", "-");		/* nothing was looked at */
	assert_name(b, "cache/cache.index", "-");
	assert_int_equal(handlerdir_wait(b->h), -1);
	open_dirs(b);
	sync_dirs(b);
	assert_name(b, "cache/a", "link a");
	assert_index(b, "cache/cache.index", "a", "uuid", "a");
}

static void
left_over(void **state)
{
	struct bed *b = *state;
	char *link = path_of(b, "cache/gone"), *dangling = path_of(b, "partial/a"), *target;

	publish_two(b);
	target = xasprintf(MOUNT "/by-sha512/%0128d", 0);
	assert_int_equal(symlink(target, link), 0);
	assert_int_equal(symlink(target, dangling), 0);
	free(target);
	sync_dirs(b);
	assert_name(b, "cache/gone", "-");
	assert_name(b, "partial/a", "-");
	assert_name(b, "cache/a", "link a");
	free(link);
	free(dangling);
}

/* An index that is lost, cut or wrong, and a file that no index names. */
static void
lost_index(void **state)
{
	struct bed *b = *state;

	publish_two(b);
	sync_dirs(b);
	write_file(b, "cache/cache.index", "{\"a\":", 5);
	write_file(b, "cache/somebody.img", "bytes", 5);
	open_dirs(b);
	sync_dirs(b);
	assert_name(b, "cache/a", "link a");
	assert_name(b, "cache/somebody.img", "file");
	assert_index(b, "cache/cache.index", "a", "uuid", "a");
}

static void
foreign(void **state)
{
	struct bed *b = *state;
	char *templates = path_of(b, "cache/templates"), *link = path_of(b, "cache/mine");

	publish_two(b);
	store_content(b->f, 'b');
	assert_int_equal(mkdir(templates, 0775), 0);
	write_file(b, "cache/templates/a.one", "NAME", 4);
	write_file(b, "cache/a", "not ours", 8);
	assert_int_equal(symlink("/elsewhere/by-sha512/short", link), 0);
	open_dirs(b);
	assert_int_equal(handlerdir_sync(b->h, b->f->c, &b->err), -EEXIST);
	assert_non_null(strstr(b->err.text, "cache/a"));
	assert_name(b, "cache/a", "file");
	assert_name(b, "cache/b", "link b");
	assert_name(b, "cache/mine", "link to /elsewhere/by-sha512/short");
	assert_name(b, "cache/templates/a.one", "file");
	remove_name(b, "cache/a");
	open_dirs(b);
	sync_dirs(b);
	assert_name(b, "cache/a", "link a");
	free(templates);
	free(link);
}

static void
reserved(void **state)
{
	struct bed *b = *state;

	publish(b->f, b->sub, "1", ENTRIES(IMG("cache.index", "1", 'a'), IMG("templates", "1", 'b'),
					   IMG("c", "1", 'c')));
	store_content(b->f, 'a');
	store_content(b->f, 'b');
	store_content(b->f, 'c');
	open_dirs(b);
	assert_int_equal(handlerdir_sync(b->h, b->f->c, &b->err), -EEXIST);
	assert_name(b, "cache/c", "link c");
	assert_name(b, "cache/templates", "-");
	assert_index(b, "cache/cache.index", "c", "uuid", "c");
}

static void
three_dirs(void **state)
{
	struct bed *b = *state;

	b->config.partial = b->cache;
	assert_int_equal(handlerdir_open(&b->h, &b->config, &b->err), -EINVAL);
	b->config.partial = "/nonexistent/partial";
	assert_int_equal(handlerdir_open(&b->h, &b->config, &b->err), -ENOENT);
}

static void
remounted(void **state)
{
	struct bed *b = *state;
	char *object = make_object(b, 'a'), *name = path_of(b, "cache/a");

	publish_two(b);
	sync_dirs(b);
	b->config.mountpoint = NULL;
	open_dirs(b);
	sync_dirs(b);
	assert_true(is_same_file(name, object));
	b->config.mountpoint = MOUNT;
	open_dirs(b);
	sync_dirs(b);
	assert_name(b, "cache/a", "link a");
	assert_name(b, "cache/.vmimagefs/a", "-");	/* the note on the file */
	free(object);
	free(name);
}

/* ---- events ---------------------------------------------------------------------------------- */

struct pick {
	const char *type, *version;
	struct event_row out;
	bool found;
};

static int
pick_one(void *arg, const struct event_row *r)
{
	struct pick *p = arg;
	char *version = xasprintf("\"version\":\"%s\"", p->version);

	if (!p->found && strcmp(r->type, p->type) == 0 && strstr(r->json, version) != NULL) {
		p->out.uuid = xstrdup(r->uuid);
		p->out.type = xstrdup(r->type);
		p->out.json = xstrdup(r->json);
		p->found = true;
	}
	free(version);
	return 0;
}

/* The first event of this type and version of an image. */
static struct event_row
event_of(struct bed *b, const char *type, const char *version)
{
	struct pick p = { .type = type, .version = version };

	OK(catalogue_event_each(b->f->c, 0, 1000, pick_one, &p, &b->err));
	if (!p.found)
		fail_msg("no %s of version %s", type, version);
	return p.out;
}

static int
prepare(struct bed *b, const struct event_row *e)
{
	b->err.text[0] = '\0';
	return handlerdir_prepare(b->h, b->f->c, e, &b->err);
}

static void
available(void **state)
{
	struct bed *b = *state;
	struct event_row prefix, postfix;

	publish_two(b);
	prefix = event_of(b, "AvailablePrefix", "1");
	postfix = event_of(b, "AvailablePostfix", "1");
	open_dirs(b);
	OK(prepare(b, &prefix));
	assert_name(b, "partial/a", "link a");
	OK(prepare(b, &prefix));		/* a second handler */
	handlerdir_done(b->h, &prefix);
	assert_name(b, "partial/a", "link a");
	handlerdir_done(b->h, &prefix);
	assert_name(b, "partial/a", "-");
	remove_name(b, "cache/a");
	OK(prepare(b, &postfix));
	assert_name(b, "cache/a", "link a");
	handlerdir_done(b->h, &postfix);
	assert_name(b, "cache/a", "link a");
	event_row_release(&prefix);
	event_row_release(&postfix);
}

static void
late_event(void **state)
{
	struct bed *b = *state;
	struct event_row first, second;

	publish_two(b);
	first = event_of(b, "AvailablePostfix", "1");
	replace_a(b);
	second = event_of(b, "AvailablePostfix", "2");
	sync_dirs(b);
	assert_name(b, "cache/a", "link c");
	OK(prepare(b, &first));
	assert_name(b, "cache/a", "link a");
	assert_int_equal(prepare(b, &second), -EBUSY);
	publish(b->f, b->sub, "3", ENTRIES(IMG("a", "2", 'c', .title = "Another"),
					   IMG("b", "1", 'b')));
	sync_dirs(b);
	assert_name(b, "cache/a", "link a");	/* as long as the handler runs */
	handlerdir_done(b->h, &first);
	assert_name(b, "cache/a", "link c");
	OK(prepare(b, &second));
	handlerdir_done(b->h, &second);
	assert_name(b, "cache/a", "link c");
	event_row_release(&first);
	event_row_release(&second);
}

static void
gone_meanwhile(void **state)
{
	struct bed *b = *state;
	struct event_row e;

	publish_two(b);
	e = event_of(b, "AvailablePostfix", "1");
	open_dirs(b);
	OK(prepare(b, &e));
	select_image(b->f, "a", false);
	sync_dirs(b);
	assert_name(b, "cache/a", "link a");
	handlerdir_done(b->h, &e);
	assert_name(b, "cache/a", "-");
	OK(prepare(b, &e));			/* replayed: withdrawn, but still to be had */
	assert_name(b, "cache/a", "link a");
	handlerdir_close(b->h);
	b->h = NULL;
	assert_name(b, "cache/a", "-");
	event_row_release(&e);
}

static void
not_given_out(void **state)
{
	struct bed *b = *state;
	struct event_row prefix, postfix, expire;

	publish_two(b);
	OK(catalogue_distrust(b->f->c, b->sub, REASON_REVOKED, "revoked", NOW, &b->err));
	prefix = event_of(b, "AvailablePrefix", "1");
	postfix = event_of(b, "AvailablePostfix", "1");
	expire = event_of(b, "ExpirePostfix", "1");
	open_dirs(b);
	assert_int_equal(prepare(b, &prefix), -ESTALE);
	assert_int_equal(prepare(b, &postfix), -ESTALE);
	assert_name(b, "partial/a", "-");
	assert_name(b, "cache/a", "-");
	OK(prepare(b, &expire));
	assert_name(b, "expired/a" EXPIRED_AT, "empty 0444");
	handlerdir_done(b->h, &expire);
	assert_name(b, "expired/a" EXPIRED_AT, "empty 0444");
	event_row_release(&prefix);
	event_row_release(&postfix);
	event_row_release(&expire);
}

static void
expiring(void **state)
{
	struct bed *b = *state;
	struct event_row prefix, postfix;

	publish_two(b);
	sync_dirs(b);
	publish(b->f, b->sub, "2", ENTRIES(IMG("b", "1", 'b')));
	prefix = event_of(b, "ExpirePrefix", "1");
	postfix = event_of(b, "ExpirePostfix", "1");
	OK(prepare(b, &prefix));
	assert_name(b, "cache/a", "link a");
	handlerdir_done(b->h, &prefix);
	assert_name(b, "cache/a", "-");
	OK(prepare(b, &postfix));
	assert_name(b, "expired/a" EXPIRED_AT, "link a");
	handlerdir_done(b->h, &postfix);
	assert_name(b, "expired/a" EXPIRED_AT, "link a");
	event_row_release(&prefix);
	event_row_release(&postfix);
}

/* One handler is behind: it is told that version 1 goes while another is told of version 2. */
static void
two_handlers(void **state)
{
	struct bed *b = *state;
	struct event_row old, new;

	publish_two(b);
	replace_a(b);
	old = event_of(b, "ExpirePrefix", "1");
	new = event_of(b, "AvailablePostfix", "2");
	open_dirs(b);
	OK(prepare(b, &new));
	OK(prepare(b, &old));
	assert_name(b, "cache/a", "link c");
	handlerdir_done(b->h, &old);
	assert_name(b, "cache/a", "link c");
	handlerdir_done(b->h, &new);
	assert_name(b, "cache/a", "link c");
	event_row_release(&old);
	event_row_release(&new);
}

static void
other_events(void **state)
{
	struct bed *b = *state;
	struct event_row process = { .type = (char[]){ "ProcessPrefix" },
				     .json = (char[]){ "{}" } };
	struct event_row odd = { .type = (char[]){ "AvailablePostfix" }, .uuid = (char[]){ "u" } };

	publish_two(b);
	open_dirs(b);
	OK(prepare(b, &process));
	assert_name(b, "cache/a", "link a");
	handlerdir_done(b->h, &process);
	odd.json = (char[]){ "{\"filename\":\"../a\",\"sha512\":\"x\",\"size\":1}" };
	assert_int_equal(prepare(b, &odd), -EINVAL);
	odd.json = (char[]){ "no json" };
	assert_int_equal(prepare(b, &odd), -EINVAL);
	handlerdir_done(b->h, &odd);
}

/* ---- making the directories ------------------------------------------------------------------ */

static void
assert_made(struct bed *b, const char *name, unsigned mode)
{
	char *path = path_of(b, name);
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	assert_int_equal(st.st_mode & 07777, mode);
	assert_int_equal(st.st_uid, geteuid());
	free(path);
}

static void
made(void **state)
{
	struct bed *b = *state;

	free(b->top);
	b->top = b->f->conf.handler_dir = xasprintf("%s/vmcatcher/deep", b->f->conf.state_dir);
	OK(handlerdir_make(&b->f->conf, geteuid(), getegid(), &b->err));
	assert_made(b, "", 0755);
	assert_made(b, "cache", 0755);
	assert_made(b, "cache/templates", 02775);
	assert_made(b, "partial", 0755);
	assert_made(b, "expired", 0755);
	OK(handlerdir_make(&b->f->conf, geteuid(), getegid(), &b->err));
	b->f->conf.handler_group = (char[]){ "no such group" };
	assert_int_equal(handlerdir_make(&b->f->conf, geteuid(), getegid(), &b->err), -EINVAL);
	b->f->conf.handler_group = NULL;
}

static void
made_through_link(void **state)
{
	struct bed *b = *state;
	char *link = xasprintf("%s/vmcatcher", b->f->conf.state_dir);
	char *elsewhere = xasprintf("%s/elsewhere", b->f->dir), *inside;
	struct stat st;

	assert_int_equal(mkdir(elsewhere, 0755), 0);
	assert_int_equal(symlink(elsewhere, link), 0);
	b->f->conf.handler_dir = link;
	assert_true(handlerdir_make(&b->f->conf, geteuid(), getegid(), &b->err) < 0);
	b->f->conf.handler_dir = inside = xasprintf("%s/handlers", link);
	assert_true(handlerdir_make(&b->f->conf, geteuid(), getegid(), &b->err) < 0);
	free(inside);
	inside = xasprintf("%s/cache", elsewhere);
	assert_int_equal(lstat(inside, &st), -1);
	free(inside);
	free(link);
	free(elsewhere);
}

static void
made_for_another(void **state)
{
	struct bed *b = *state;
	char *templates = path_of(b, "cache/templates");
	struct stat st;

	if (geteuid() != 0)
		skip();
	/* root's and with contents; then one that is empty is taken, the full one refused */
	assert_int_equal(handlerdir_make(&b->f->conf, 4242, 4243, &b->err), -EPERM);
	assert_int_equal(rmdir(b->cache), 0);
	assert_int_equal(rmdir(b->partial), 0);
	assert_int_equal(rmdir(b->expired), 0);
	OK(handlerdir_make(&b->f->conf, 4242, 4243, &b->err));
	assert_int_equal(lstat(b->cache, &st), 0);
	assert_int_equal(st.st_uid, 4242);
	assert_int_equal(st.st_gid, 4243);
	assert_int_equal(lstat(templates, &st), 0);
	assert_int_equal(st.st_uid, 4242);
	assert_int_equal(st.st_mode & 07777, 02775);
	free(templates);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		T("cache/ has a link into the mount for what is selected, fetched and verified",
		  cached),
		T("a new version takes the place of the old one, which stands in expired/",
		  replaced),
		T("what is distrusted or purged is an empty file in expired/", distrusted),
		T("without a change of rows nothing is looked at", unchanged),
		T("what an earlier run left is taken away", left_over),
		T("an index that is lost or cut deletes nothing", lost_index),
		T("what handlers keep in the directories is never touched", foreign),
		T("an image cannot have the name of the index or of templates/", reserved),
		T("cached, partial and expired images need three directories that exist",
		  three_dirs),
		T("links into the mount replace files when the store is mounted, and the reverse",
		  remounted),
		T("AvailablePrefix finds partial/<id>, AvailablePostfix cache/<id>", available),
		T("an event that comes late finds its own version, and nobody else a wrong one",
		  late_event),
		T("a name stays while a handler is told of it, and then follows the rows",
		  gone_meanwhile),
		T("what may not be given out any more is not announced", not_given_out),
		T("ExpirePrefix finds cache/<id>, ExpirePostfix expired/<id>.<time>", expiring),
		T("two handlers may be told of two versions of one image", two_handlers),
		T("other events need no file, and no record can name one elsewhere", other_events),
		T("the directories are made with templates/ for the handlers' group", made),
		T("no link on the way to handler_dir is followed below state_dir",
		  made_through_link),
		T("root makes them for the user and takes nothing that is somebody's",
		  made_for_another),
	};

	return cmocka_run_group_tests_name("handlerdir", tests, NULL, NULL);
}
