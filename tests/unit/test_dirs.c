/*
 * test_dirs.c - the directories of a site, the lock of its daemon, and users of this host by name.
 *
 * Whoever runs this is root or any other user; what needs root is skipped without it.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/account.h"
#include "core/cleanup.h"
#include "core/dirs.h"
#include "tests/lib/removetree.h"

enum { STRANGER = 4242, LOCK_SECONDS = 1 };

struct site {
	char dir[32];
	struct conf conf;
	struct err err;
};

static int
site_setup(void **state)
{
	struct site *s = xcalloc(1, sizeof(*s));

	snprintf(s->dir, sizeof(s->dir), "/tmp/vmi-dirs-XXXXXX");
	if (mkdtemp(s->dir) == NULL)
		return -1;
	s->conf.run_dir = xasprintf("%s/a/b/run", s->dir);
	s->conf.state_dir = xasprintf("%s/state", s->dir);
	s->conf.cache_dir = xasprintf("%s/cache", s->dir);
	*state = s;
	return 0;
}

static int
site_teardown(void **state)
{
	struct site *s = *state;

	remove_tree(s->dir);
	free(s->conf.run_dir);
	free(s->conf.state_dir);
	free(s->conf.cache_dir);
	free(s);
	return 0;
}

static int
make(struct site *s)
{
	err_clear(&s->err);
	return dirs_make(&s->conf, getuid(), getgid(), &s->err);
}

static void
assert_mode(const char *path, mode_t mode)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, mode);
	assert_int_equal(st.st_uid, getuid());
}

static void
need_root(void)
{
	if (geteuid() != 0)
		skip();
}

/* ---- directories ----------------------------------------------------------------------------- */

static void
made_and_kept(void **state)
{
	struct site *s = *state;

	assert_int_equal(make(s), 0);
	assert_mode(s->conf.run_dir, 0755);
	assert_mode(s->conf.state_dir, 0711);
	assert_mode(s->conf.cache_dir, 0750);
	/* What an admin has made stricter stays so. */
	assert_int_equal(chmod(s->conf.state_dir, 0700), 0);
	assert_int_equal(make(s), 0);
	assert_mode(s->conf.state_dir, 0700);
}

static void
writable_by_all(void **state)
{
	struct site *s = *state;

	assert_int_equal(make(s), 0);
	assert_int_equal(chmod(s->conf.cache_dir, 0777), 0);
	assert_int_equal(make(s), -EPERM);
	assert_non_null(strstr(s->err.text, "writable by everyone"));
}

static void
no_directory(void **state)
{
	struct site *s = *state;
	CLEANUP_FREE char *above = xasprintf("%s/a", s->dir);

	assert_int_equal(close(open(above, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)), 0);
	assert_int_equal(make(s), -ENOTDIR);
	assert_non_null(strstr(s->err.text, "cannot be made"));
	assert_int_equal(unlink(above), 0);
	assert_int_equal(close(open(s->conf.state_dir, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)), 0);
	assert_int_equal(make(s), -ENOTDIR);
	assert_non_null(strstr(s->err.text, "state_dir"));
	/* A name that is too long for any file system. */
	free(s->conf.run_dir);
	s->conf.run_dir = xasprintf("%s/%0300d", s->dir, 1);
	assert_int_equal(make(s), -ENAMETOOLONG);
}

static void
link_is_followed(void **state)
{
	struct site *s = *state;
	CLEANUP_FREE char *other = xasprintf("%s/other", s->dir);

	assert_int_equal(mkdir(other, 0700), 0);
	assert_int_equal(symlink(other, s->conf.cache_dir), 0);
	assert_int_equal(make(s), 0);
	need_root();
	/* Not one that somebody else has put there. */
	assert_int_equal(lchown(s->conf.cache_dir, STRANGER, STRANGER), 0);
	assert_int_equal(make(s), -EPERM);
	assert_non_null(strstr(s->err.text, "is a link"));
}

static void
of_somebody_else(void **state)
{
	struct site *s = *state;
	CLEANUP_FREE char *file = xasprintf("%s/file", s->conf.cache_dir);
	CLEANUP_FREE char *found = xasprintf("%s/lost+found", s->conf.cache_dir);
	struct stat st;

	need_root();
	assert_int_equal(mkdir(s->conf.cache_dir, 0700), 0);
	assert_int_equal(mkdir(found, 0700), 0);
	/* A new file system is taken. */
	assert_int_equal(dirs_make(&s->conf, STRANGER, STRANGER, &s->err), 0);
	assert_int_equal(stat(s->conf.cache_dir, &st), 0);
	assert_int_equal(st.st_uid, STRANGER);
	assert_int_equal(st.st_mode & 07777, 0750);
	/* Nobody's contents are. */
	assert_int_equal(dirs_make(&s->conf, STRANGER + 1, STRANGER, &s->err), -EPERM);
	assert_non_null(strstr(s->err.text, "chown -R"));
	assert_int_equal(chown(s->conf.cache_dir, 0, 0), 0);
	assert_int_equal(close(open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)), 0);
	assert_int_equal(dirs_make(&s->conf, STRANGER, STRANGER, &s->err), -EPERM);
}

/* In a child that is another user: neither owner nor mode of what is not his can be changed. */
static void
without_permission(void **state)
{
	struct site *s = *state;
	int status;
	pid_t child;

	need_root();
	assert_int_equal(chmod(s->dir, 0755), 0);
	child = fork();
	if (child == 0) {
		struct err err = { 0 };

		if (setresuid(STRANGER, STRANGER, STRANGER) != 0)
			_exit(1);
		_exit(dirs_make(&s->conf, STRANGER, STRANGER, &err) == -EACCES ? 0 : 2);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	/* Everything is there but for a directory that root must give away. */
	assert_int_equal(make(s), 0);
	assert_int_equal(chmod(s->conf.run_dir, 0700), 0);
	child = fork();
	if (child == 0) {
		struct err err = { 0 };

		if (setresuid(STRANGER, STRANGER, STRANGER) != 0)
			_exit(1);
		_exit(dirs_make(&s->conf, STRANGER, STRANGER, &err) < 0 && err.text[0] ? 0 : 2);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* ---- the lock -------------------------------------------------------------------------------- */

static int
lock(struct site *s, unsigned seconds, int *fd)
{
	err_clear(&s->err);
	return dirs_lock(&s->conf, getuid(), getgid(), seconds, fd, &s->err);
}

static void
only_one_has_the_lock(void **state)
{
	struct site *s = *state;
	int first, second;

	assert_int_equal(make(s), 0);
	assert_int_equal(lock(s, 0, &first), 0);
	assert_true(lock(s, 0, &second) < 0);
	assert_int_equal(s->err.code, CODE_BUSY);
	assert_int_equal(second, -1);
	assert_true(lock(s, LOCK_SECONDS, &second) < 0);
	assert_int_equal(s->err.code, CODE_BUSY);
	close(first);
	assert_int_equal(lock(s, LOCK_SECONDS, &second), 0);
	close(second);
}

/* It is ending just now: the lock is free within the time. */
static void
lock_is_waited_for(void **state)
{
	struct site *s = *state;
	int ready[2], fd;
	pid_t child;
	char byte;

	assert_int_equal(make(s), 0);
	assert_int_equal(pipe(ready), 0);
	child = fork();
	if (child == 0) {
		int held;

		if (lock(s, 0, &held) != 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		usleep(100000);
		_exit(0);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(lock(s, 30, &fd), 0);
	close(fd);
	waitpid(child, NULL, 0);
	close(ready[0]);
	close(ready[1]);
}

static void
planted_lock(void **state)
{
	struct site *s = *state;
	CLEANUP_FREE char *path = xasprintf("%s/lock", s->conf.run_dir);
	int fd;

	assert_int_equal(make(s), 0);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	assert_int_equal(lock(s, 0, &fd), -ELOOP);
	assert_int_equal(fd, -1);
	assert_non_null(strstr(s->err.text, "cannot be opened"));
}

/* A process that looks after the site, and a child of it that has all its descriptors. */
static void
look_after(struct site *s, int ready, int until)
{
	char byte;
	int fd;

	if (dirs_supervise(&s->conf, getuid(), getgid(), &fd, &s->err) != 0)
		_exit(1);
	if (fork() == 0) {
		if (read(until, &byte, 1) < 0 || write(ready, "x", 1) != 1)
			_exit(1);
		_exit(0);
	}
	if (write(ready, "x", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

static void
supervisor_is_known(void **state)
{
	struct site *s = *state;
	int ready[2], until[2];
	pid_t child;
	char byte;

	assert_int_equal(make(s), 0);
	assert_true(dirs_is_supervised(&s->conf));	/* nobody knows */
	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(until), 0);
	child = fork();
	if (child == 0) {
		close(until[1]);
		look_after(s, ready[1], until[0]);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_true(dirs_is_supervised(&s->conf));
	kill(child, SIGKILL);
	waitid(P_PID, (id_t)child, NULL, WEXITED | WNOWAIT);
	assert_false(dirs_is_supervised(&s->conf));	/* also while nobody has waited for it */
	assert_int_equal(waitpid(child, NULL, 0), child);
	close(until[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);	/* its child has lived so long */
	close(until[0]);
	close(ready[0]);
	close(ready[1]);
}

/* ---- users ----------------------------------------------------------------------------------- */

static void
users_by_name(void **state)
{
	struct err err = { 0 };
	struct account a;

	(void)state;
	assert_int_equal(account_find("root", &a, &err), 0);
	assert_int_equal(a.uid, 0);
	assert_string_equal(a.name, "root");
	assert_non_null(a.home);
	account_release(&a);
	assert_int_equal(account_find("nobody-has-this-name", &a, &err), -ENOENT);
	assert_non_null(strstr(err.text, "does not exist"));
	assert_null(a.name);
}

static int
become(const char *name, uid_t as)
{
	struct err err = { 0 };
	struct account a;
	int status = -1;
	pid_t child;

	assert_int_equal(account_find(name, &a, &err), 0);
	child = fork();
	if (child == 0) {
		if (as != 0 && setresuid(as, as, as) != 0)
			_exit(255);
		if (account_become(&a, &err) != 0)
			_exit(err.rc == -EPERM ? 1 : 2);
		_exit(getuid() == a.uid && geteuid() == a.uid && getgid() == a.gid ? 0 : 3);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	account_release(&a);
	return WEXITSTATUS(status);
}

static void
becoming_one(void **state)
{
	struct err err = { 0 };
	struct account me;

	(void)state;
	need_root();
	assert_int_equal(account_find("root", &me, &err), 0);
	assert_int_equal(account_become(&me, &err), 0);
	account_release(&me);
	assert_int_equal(become("nobody", 0), 0);
	assert_int_equal(become("nobody", STRANGER), 1);
}

#define T(title, fn) { title, fn, site_setup, site_teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T("missing directories are made, and those that are there keep their modes",
		  made_and_kept),
		T("a directory that everybody can write to is refused", writable_by_all),
		T("a file is no directory, and the message names the key", no_directory),
		T("X04 a link of the admin is followed, one of somebody else is not",
		  link_is_followed),
		T("B31 a directory of somebody else is taken only if it is empty",
		  of_somebody_else),
		T("A08 without permission the message says what cannot be made",
		  without_permission),
		T("P09 one daemon has the lock, another is refused with 55", only_one_has_the_lock),
		T("P09 one that is just ending is waited for", lock_is_waited_for),
		T("P10 whether a supervisor lives is known, whoever inherits from it",
		  supervisor_is_known),
		T("X04 a lock that is a link is not followed", planted_lock),
		T("users are found by name", users_by_name),
		T("only root becomes another user, with all that belongs to it", becoming_one),
	};

	return cmocka_run_group_tests_name("dirs", tests, NULL, NULL);
}
