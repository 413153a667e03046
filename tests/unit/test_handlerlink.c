/*
 * Names for event handlers without a mount: hard links, copies, empty files, what is ours and
 * what is not; and the text of cache.index.
 */
#include "config.h"
#include "handlerbed.h"

#include "core/handlerindex.h"
#include "core/handlerlink.h"

/* ---- without a mount ------------------------------------------------------------------------- */

static void
hard_link(void **state)
{
	struct bed *b = *state;
	char *object = make_object(b, 'a'), *name = path_of(b, "cache/a");
	char *old = path_of(b, "expired/a" EXPIRED_AT), *second;
	struct stat st;

	b->config.mountpoint = NULL;
	publish_two(b);
	sync_dirs(b);
	assert_true(is_same_file(name, object));
	assert_int_equal(stat(name, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0444);
	assert_int_equal(st.st_size, 1000 + 'a');

	second = make_object(b, 'c');
	replace_a(b);
	sync_dirs(b);
	assert_true(is_same_file(name, second));
	assert_true(is_same_file(old, object));
	select_image(b->f, "a", false);
	sync_dirs(b);
	assert_name(b, "cache/a", "-");
	assert_int_equal(stat(second, &st), 0);		/* the object stays */
	free(object);
	free(second);
	free(name);
	free(old);
}

static void
missing_object(void **state)
{
	struct bed *b = *state;
	char *object = make_object(b, 'b');

	b->config.mountpoint = NULL;
	publish_two(b);
	store_content(b->f, 'b');
	open_dirs(b);
	assert_int_equal(handlerdir_sync(b->h, b->f->c, &b->err), -ENOENT);
	assert_name(b, "cache/a", "-");
	assert_name(b, "cache/b", "file");
	publish(b->f, b->sub, "2", NO_ENTRIES);
	OK(handlerdir_sync(b->h, b->f->c, &b->err));
	assert_name(b, "expired/a" EXPIRED_AT, "empty 0444");
	assert_name(b, "expired/b" EXPIRED_AT, "file");
	free(object);
}

static void
fetched_again(void **state)
{
	struct bed *b = *state;
	char *object = make_object(b, 'a'), *name = path_of(b, "cache/a");
	char *aside = xasprintf("%s.aside", object), *again;

	b->config.mountpoint = NULL;
	publish_two(b);
	sync_dirs(b);
	assert_int_equal(rename(object, aside), 0);
	again = make_object(b, 'a');
	open_dirs(b);
	sync_dirs(b);
	assert_true(is_same_file(name, again));
	free(object);
	free(again);
	free(aside);
	free(name);
}

/* Somebody who can exchange what is being made would have us give something else away. */
static void
notes_of_others(void **state)
{
	struct bed *b = *state;
	char *notes = path_of(b, "cache/.vmimagefs");

	open_dirs(b);
	handlerdir_close(b->h);
	b->h = NULL;
	assert_int_equal(chmod(notes, 0775), 0);
	assert_int_equal(handlerdir_open(&b->h, &b->config, &b->err), -EPERM);
	assert_non_null(strstr(b->err.text, "can be written by others"));
	assert_null(b->h);
	free(notes);
}

/* As a crash between the steps leaves it. */
static void
half_noted(void **state)
{
	struct bed *b = *state;
	char *object = make_object(b, 'a'), *second = make_object(b, 'c');
	char *note = path_of(b, "cache/.vmimagefs/a");
	char *next = path_of(b, "cache/.vmimagefs/a~next");
	char *name = path_of(b, "cache/a"), text[256];

	b->config.mountpoint = NULL;
	publish_two(b);
	sync_dirs(b);
	assert_int_equal(rename(note, next), 0);
	replace_a(b);
	sync_dirs(b);
	assert_true(is_same_file(name, second));
	assert_int_equal(unlink(note), 0);	/* lost: but it is the object itself */
	open_dirs(b);
	sync_dirs(b);
	OK(handlerdir_sync(b->h, b->f->c, &b->err));
	assert_true(readlink(note, text, sizeof(text)) > DIGEST_HEX);	/* noted again */
	free(object);
	free(second);
	free(note);
	free(next);
	free(name);
}

/* ---- handlerlink alone ----------------------------------------------------------------------- */

static const char BYTES[] = "the bytes of an image";
enum { N_BYTES = sizeof(BYTES) - 1 };

static char *
make_real_object(struct bed *b, struct digest *d, const char *bytes)
{
	char hex[DIGEST_HEX + 1];
	char *path;
	int fd;

	digest_of(BYTES, N_BYTES, d);
	digest_hex(d, hex);
	path = xasprintf("%s/objects", b->f->conf.cache_dir);
	mkdir(path, 0750);
	free(path);
	path = xasprintf("%s/objects/%.2s", b->f->conf.cache_dir, hex);
	mkdir(path, 0750);
	free(path);
	path = xasprintf("%s/objects/%.2s/%s", b->f->conf.cache_dir, hex, hex);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, N_BYTES), N_BYTES);
	close(fd);
	return path;
}

static void
assert_bytes(const char *path, const char *expected)
{
	struct buf text = BUF_INIT;

	assert_int_equal(io_read_file(AT_FDCWD, path, 4096, &text), 0);
	assert_string_equal(buf_str(&text), expected);
	buf_release(&text);
}

/* Names in dir for the objects of the bed's store. */
static struct handlerlink *
open_links(struct bed *b, const char *dir, bool adopt)
{
	struct handlerlink_config config = {
		.cache_dir = b->f->conf.cache_dir, .path = dir, .adopt = adopt,
	};
	struct handlerlink *l = NULL;

	OK(handlerlink_open(&l, &config, &b->err));
	return l;
}

/* The same in the bed's own directory, with the object that BYTES are. */
static struct handlerlink *
open_with_object(struct bed *b, struct digest *d)
{
	free(make_real_object(b, d, BYTES));
	return open_links(b, b->cache, false);
}

static bool
nothing_wanted(void *arg, const char *name)
{
	(void)arg;
	(void)name;
	return false;
}

/* The store lies in /tmp; a directory in another file system is needed. */
static char *
other_filesystem(struct bed *b)
{
	char *dir = xstrdup("/dev/shm/vmi-handlerdir-XXXXXX");
	struct stat here, there;

	if (mkdtemp(dir) == NULL || stat(b->top, &here) != 0 || stat(dir, &there) != 0 ||
	    here.st_dev == there.st_dev) {
		rmdir(dir);
		free(dir);
		return NULL;
	}
	return dir;
}

static void
copied(void **state)
{
	struct bed *b = *state;
	char *dir = other_filesystem(b), *object, *name, *notes;
	struct handlerlink *l;
	struct stat first, second;
	struct digest d, shown;

	if (dir == NULL)
		skip();
	object = make_real_object(b, &d, BYTES);
	name = xasprintf("%s/image", dir);
	notes = xasprintf("%s/.vmimagefs", dir);
	l = open_links(b, dir, false);
	OK(handlerlink_image(l, "image", &d, N_BYTES, &b->err));
	assert_bytes(name, BYTES);
	assert_int_equal(stat(name, &first), 0);
	assert_int_equal(first.st_mode & 07777, 0444);
	OK(handlerlink_image(l, "image", &d, N_BYTES, &b->err));
	assert_int_equal(stat(name, &second), 0);
	assert_int_equal(first.st_ino, second.st_ino);	/* not copied again */
	assert_int_equal(handlerlink_look(l, "image", &shown), HANDLERLINK_IMAGE);
	assert_true(digest_equal(&shown, &d));
	OK(handlerlink_sweep(l, nothing_wanted, NULL, &b->err));
	assert_int_equal(lstat(name, &first), -1);

	free(make_real_object(b, &d, "THE BYTES OF AN IMAGE"));
	assert_int_equal(handlerlink_image(l, "image", &d, N_BYTES, &b->err), -EBADMSG);
	assert_int_equal(lstat(name, &first), -1);
	handlerlink_close(l);
	assert_int_equal(rmdir(notes), 0);		/* nothing is left in it */
	assert_int_equal(rmdir(dir), 0);
	free(object);
	free(name);
	free(notes);
	free(dir);
}

/* As if the note was written of another disk, or of another file (0: of the same). */
static void
rewrite_note(const char *path, unsigned long long devices_on, ino_t other)
{
	char text[256], *changed;
	ssize_t len = readlink(path, text, sizeof(text) - 1);
	unsigned long long device, inode;
	int at;

	assert_true(len > 0);
	text[len] = '\0';
	assert_int_equal(sscanf(text, "%llx:%llx:%n", &device, &inode, &at), 2);
	changed = xasprintf("%llx:%llx:%s", device + devices_on, other != 0 ? other : inode,
			    text + at);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink(changed, path), 0);
	free(changed);
}

static void
renumber(struct bed *b, const char *note)
{
	char *path = path_of(b, note);

	rewrite_note(path, 0x700, 0);
	free(path);
}

static void
renumbered(void **state)
{
	struct bed *b = *state;
	struct digest d, shown;
	struct handlerlink *l = open_with_object(b, &d);

	OK(handlerlink_image(l, "image", &d, N_BYTES, &b->err));
	OK(handlerlink_empty(l, "empty", &b->err));
	OK(handlerlink_empty(l, "goes", &b->err));
	renumber(b, "cache/.vmimagefs/image");
	renumber(b, "cache/.vmimagefs/empty");
	renumber(b, "cache/.vmimagefs/goes");
	assert_int_equal(handlerlink_look(l, "image", &shown), HANDLERLINK_IMAGE);
	assert_true(digest_equal(&shown, &d));
	assert_int_equal(handlerlink_look(l, "empty", &shown), HANDLERLINK_EMPTY);
	OK(handlerlink_image(l, "empty", &d, N_BYTES, &b->err));
	assert_name(b, "cache/empty", "file");
	OK(handlerlink_empty(l, "image", &b->err));
	assert_name(b, "cache/image", "empty 0444");
	OK(handlerlink_drop(l, "goes", &b->err));
	assert_name(b, "cache/goes", "-");
	handlerlink_close(l);
}

static void
adopted(void **state)
{
	struct bed *b = *state;
	struct handlerlink *l;
	struct digest d;
	char *object = make_real_object(b, &d, BYTES), *name = path_of(b, "cache/image");

	write_file(b, "cache/image", BYTES, N_BYTES);
	write_file(b, "cache/other", "the bytes of an Image", N_BYTES);
	l = open_links(b, b->cache, false);
	assert_int_equal(handlerlink_image(l, "image", &d, N_BYTES, &b->err), -EEXIST);
	handlerlink_close(l);
	l = open_links(b, b->cache, true);
	OK(handlerlink_image(l, "image", &d, N_BYTES, &b->err));
	assert_true(is_same_file(name, object));
	assert_int_equal(handlerlink_image(l, "other", &d, N_BYTES, &b->err), -EEXIST);
	assert_int_equal(handlerlink_empty(l, "other", &b->err), -EEXIST);
	OK(handlerlink_drop(l, "other", &b->err));
	assert_name(b, "cache/other", "file");
	handlerlink_close(l);
	free(object);
	free(name);
}

/* A handler took our name and put a file of its own in its place. */
static void
taken_over(void **state)
{
	struct bed *b = *state;
	struct digest d;
	struct handlerlink *l = open_with_object(b, &d);
	char *name = path_of(b, "cache/image");

	OK(handlerlink_image(l, "image", &d, N_BYTES, &b->err));
	assert_int_equal(unlink(name), 0);
	write_file(b, "cache/image", "mine", 4);
	OK(handlerlink_drop(l, "image", &b->err));
	assert_bytes(name, "mine");
	handlerlink_close(l);
	free(name);
}

/* The file system gives the number of a file that went to the next one. */
static void
emptied_and_filled(void **state)
{
	struct bed *b = *state;
	struct digest d;
	struct handlerlink *l = open_with_object(b, &d);
	char *name = path_of(b, "cache/image");

	OK(handlerlink_empty(l, "image", &b->err));
	assert_int_equal(unlink(name), 0);
	write_file(b, "cache/image", "mine", 4);
	assert_int_equal(handlerlink_look(l, "image", &d), HANDLERLINK_FOREIGN);
	OK(handlerlink_drop(l, "image", &b->err));
	assert_bytes(name, "mine");
	handlerlink_close(l);
	free(name);
}

/* Somebody removes what has the name and makes a file of its own, which gets its number. */
static void
make_own(const char *name, const char *note)
{
	struct stat st;
	int fd;

	assert_int_equal(unlink(name), 0);
	fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "THE BYTES OF AN IMAGE", N_BYTES), N_BYTES);
	assert_int_equal(fstat(fd, &st), 0);
	close(fd);
	rewrite_note(note, 0, st.st_ino);
}

static void
assert_stays(struct bed *b, struct handlerlink *l, const char *name)
{
	struct digest d;

	digest_of(BYTES, N_BYTES, &d);
	assert_int_equal(handlerlink_image(l, "image", &d, N_BYTES, &b->err), -EEXIST);
	assert_int_equal(handlerlink_empty(l, "image", &b->err), -EEXIST);
	OK(handlerlink_drop(l, "image", &b->err));
	assert_bytes(name, "THE BYTES OF AN IMAGE");
}

static void
linked_and_exchanged(void **state)
{
	struct bed *b = *state;
	struct digest d;
	struct handlerlink *l = open_with_object(b, &d);
	char *name = path_of(b, "cache/image"), *note = path_of(b, "cache/.vmimagefs/image");

	OK(handlerlink_image(l, "image", &d, N_BYTES, &b->err));
	make_own(name, note);
	assert_stays(b, l, name);
	handlerlink_close(l);
	free(name);
	free(note);
}

static void
copied_and_exchanged(void **state)
{
	struct bed *b = *state;
	char *dir = other_filesystem(b), *name, *note;
	struct handlerlink *l;
	struct digest d;

	if (dir == NULL)
		skip();
	free(make_real_object(b, &d, BYTES));
	name = xasprintf("%s/image", dir);
	note = xasprintf("%s/.vmimagefs/image", dir);
	l = open_links(b, dir, false);
	OK(handlerlink_image(l, "image", &d, N_BYTES, &b->err));
	make_own(name, note);
	assert_stays(b, l, name);
	handlerlink_close(l);
	assert_int_equal(remove_tree(dir), 0);
	free(name);
	free(note);
	free(dir);
}

static void
replace(struct bed *b, const char *from, const char *to, mode_t mode)
{
	char *path = path_of(b, from);

	assert_int_equal(chmod(path, mode), 0);
	assert_int_equal(rename(path, to), 0);
	free(path);
}

/* A site that was copied: names and notes are the same, inodes are not. */
static void
restored(void **state)
{
	struct bed *b = *state;
	struct digest d;
	struct handlerlink *l = open_with_object(b, &d);
	char *name = path_of(b, "cache/empty"), *used = path_of(b, "cache/used");

	OK(handlerlink_empty(l, "empty", &b->err));
	OK(handlerlink_empty(l, "used", &b->err));
	write_file(b, "cache/copy", "", 0);
	write_file(b, "cache/other", "x", 1);
	replace(b, "cache/copy", name, 0444);
	assert_int_equal(handlerlink_look(l, "empty", &d), HANDLERLINK_EMPTY);
	OK(handlerlink_drop(l, "empty", &b->err));
	assert_name(b, "cache/empty", "-");
	/* Somebody else's: it can be written, or has bytes. */
	replace(b, "cache/other", used, 0444);
	assert_int_equal(handlerlink_look(l, "used", &d), HANDLERLINK_FOREIGN);
	write_file(b, "cache/other", "", 0);
	replace(b, "cache/other", used, 0644);
	assert_int_equal(handlerlink_look(l, "used", &d), HANDLERLINK_FOREIGN);
	handlerlink_close(l);
	free(name);
	free(used);
}

/* ---- the index, compared with vmcatcher's own ------------------------------------------------ */

static char *
sample(const char *name)
{
	const char *top = getenv("srcdir");
	char *path = xasprintf("%s/tests/data/vmcatcher-0.6/%s", top != NULL ? top : ".", name);
	struct buf text = BUF_INIT;

	if (io_read_file(AT_FDCWD, path, 1 << 20, &text) != 0)
		fail_msg("no %s", path);
	free(path);
	return buf_steal(&text, NULL);
}

/* Without the members that we leave out. */
static void
less(struct buf *out, const char *text)
{
	bool inside = false;

	while (*text != '\0') {
		const char *end = strchr(text, '\n');
		size_t len = end != NULL ? (size_t)(end - text) + 1 : strlen(text);

		if (strncmp(text, "        \"DownLoadTrys\"", 22) == 0)
			inside = true;
		else if (!inside && strncmp(text, "        \"message\"", 17) != 0)
			buf_add(out, text, len);
		if (strncmp(text, "        }, ", 11) == 0)
			inside = false;
		text += len;
	}
}

static void
take_member(void *arg, const char *key, const struct json *value)
{
	static const char prefix[] = "hv:image.";
	struct jsonw *w = arg;
	int64_t number;

	if (strncmp(key, prefix, strlen(prefix)) != 0)
		return;
	key += strlen(prefix);
	if (json_as_integer(value, &number))
		jsonw_integer(w, key, number);
	else
		jsonw_string(w, key, json_as_string(value));
}

static void
meta_from(struct image_meta *m, const struct json *entry)
{
	struct buf json = BUF_INIT;
	struct jsonw w;

	memset(m, 0, sizeof(*m));
	for (int i = 0; i < N_FIELDS; i++) {
		const char *key = field_table[i].list_key;

		if (key != NULL && json_as_string(json_get(entry, key)) != NULL)
			m->value[i] = xstrdup(json_as_string(json_get(entry, key)));
	}
	assert_true(json_as_integer(json_get(entry, "hv:size"), &m->size));
	m->value[FIELD_SIZE] = xasprintf("%lld", (long long)m->size);
	m->value[FIELD_VO] = xstrdup(json_as_string(json_get(entry, "hv:imagelist.ad:vo")));
	jsonw_begin(&w, &json, true);
	jsonw_open(&w, NULL, '{');
	json_each(entry, take_member, &w);
	jsonw_close(&w, '}');
	m->json = buf_steal(&json, NULL);
}

static void
compare_index(struct bed *b, const char *name, const char *key, bool with_hash)
{
	char *text = sample(name);
	struct buf expected = BUF_INIT, written = BUF_INIT;
	struct handlerindex_text t;
	const struct json *entry;
	struct digest message;
	struct image_meta m;
	struct json *doc;

	OK(json_parse(text, strlen(text), &doc, &b->err));
	entry = json_get(doc, key);
	meta_from(&m, entry);
	assert_true(digest_parse(json_as_string(json_get(entry, "msgHash")), &message));
	handlerindex_text_init(&t, &m, key,
			       json_as_string(json_get(entry, "hv:imagelist.dc:identifier")));
	handlerindex_begin(&written);
	handlerindex_add(&written, key, &t, with_hash ? &message : NULL);
	handlerindex_end(&written);
	less(&expected, text);
	assert_string_equal(buf_str(&written), buf_str(&expected));
	handlerindex_text_release(&t);
	image_meta_release(&m);
	json_free(doc);
	buf_release(&expected);
	buf_release(&written);
	free(text);
}

static void
index_text(void **state)
{
	struct bed *b = *state;
	struct buf empty = BUF_INIT;

	compare_index(b, "cache.index", "265a07dd-ba19-556e-981c-7a5d4d170896", true);
	compare_index(b, "expired-cache.index",
		      "86b1c337-4317-56f3-ab64-f758ffc8de52.2026-11-21_19-57-49", true);
	handlerindex_begin(&empty);
	handlerindex_end(&empty);
	assert_string_equal(buf_str(&empty), "{}");
	buf_release(&empty);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		T("without a mount names are hard links of mode 0444", hard_link),
		T("an object that is missing hides one image alone", missing_object),
		T("an object that was fetched again is linked again", fetched_again),
		T("a crash between file and note leaves nothing that is not ours", half_noted),
		T("X04 a directory of notes that others can write is not used", notes_of_others),
		T("on another file system the image is copied once, and hashed", copied),
		T("names stay ours when the disk has another number after a boot", renumbered),
		T("a file of vmcatcher gives way only if its bytes are the image's", adopted),
		T("a file that a handler put in the place of ours is not ours", taken_over),
		T("nor is one that has bytes, where ours was empty", emptied_and_filled),
		T("nor is one of somebody else that has the number of our link",
		  linked_and_exchanged),
		T("or of our copy, and its size", copied_and_exchanged),
		T("in a copy of a site empty files are still ours", restored),
		T("cache.index is vmcatcher's byte for byte, less the message", index_text),
	};

	return cmocka_run_group_tests_name("handlerlink", tests, NULL, NULL);
}
