/*
 * oldstate.h - the stores that released versions left, in tests/data/state-1, -2 ...
 */
#ifndef VMI_TEST_OLDSTATE_H
#define VMI_TEST_OLDSTATE_H

#include <sys/wait.h>
#include "core/cleanup.h"
#include "sitefixture.h"

/* Closes the catalogue and fills its state_dir with the named one; skips without sqlite3. */
static inline void
old_state(struct fixture *f, const char *name)
{
	const char *srcdir = getenv("srcdir");
	CLEANUP_FREE char *top = realpath(srcdir != NULL ? srcdir : ".", NULL);
	CLEANUP_FREE char *from = xasprintf("%s/tests/data/%s", top, name);
	CLEANUP_FREE char *script = xasprintf(
		"set -e; cd '%s'; rm -rf ./*; mkdir messages; umask 077;"
		"command -v sqlite3 >/dev/null || exit 77;"
		"sqlite3 catalogue.db <'%s/catalogue.sql'; cp '%s/site.json' .;"
		"for m in '%s'/*.json; do"
		" [ \"${m##*/}\" != site.json ] || continue;"
		" n=messages/$(sha512sum <\"$m\" | cut -c1-128);"
		" cp \"$m\" $n.smime; cp \"$m\" $n.json; done",
		f->conf.state_dir, from, from, from);
	pid_t child;
	int status;

	catalogue_close(f->c);
	f->c = NULL;
	child = fork();
	if (child == 0) {
		execl("/bin/sh", "sh", "-c", script, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
}

#endif
