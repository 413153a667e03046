/*
 * fuzz_replay.c - a harness without libFuzzer: every file of its corpus once, or the files named.
 *
 * The corpus of tests/unit/test_fuzz_NAME is tests/fuzz/corpus/NAME.  Writes TAP; the name of each
 * input stands before it is tried, so that the last one is the one that a crash is due to.
 */
#include "config.h"

#include <dirent.h>
#include <unistd.h>

#include "fuzz.h"
#include "fuzz_dir.h"

enum { SECONDS_AN_INPUT = 60 };	/* of a sanitized build on a loaded machine */

static void
replay(const char *path)
{
	CLEANUP_BUF struct buf input = BUF_INIT;

	printf("# %s\n", path);
	fflush(stdout);
	alarm(SECONDS_AN_INPUT);
	fuzz_get(path, &input);
	LLVMFuzzerTestOneInput((const uint8_t *)input.data, input.len);
	alarm(0);
}

static int
is_input(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

/* How many there were. */
static int
replay_dir(const char *dir)
{
	struct dirent **entries = NULL;
	int n = scandir(dir, &entries, is_input, alphasort);

	for (int i = 0; i < n; i++) {
		CLEANUP_FREE char *path = xasprintf("%s/%s", dir, entries[i]->d_name);

		replay(path);
		free(entries[i]);
	}
	free(entries);
	return n;
}

int
main(int argc, char **argv)
{
	const char *base = strrchr(argv[0], '/'), *name = base != NULL ? base + 1 : argv[0];
	CLEANUP_FREE char *dir = NULL;
	int n = argc - 1;

	/* libtool and automake may put something before it. */
	name = strstr(name, "test_fuzz_");
	if (n == 0 && name != NULL) {
		CLEANUP_FREE char *corpus = xasprintf("fuzz/corpus/%s",
						      name + strlen("test_fuzz_"));

		dir = fuzz_source(corpus);
		n = replay_dir(dir);
	}
	for (int i = 1; i < argc; i++)
		replay(argv[i]);
	LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
	printf("%sok 1 - %s\n1..1\n", n > 0 ? "" : "not ", fuzz_title());
	if (n <= 0)
		printf("# no inputs in %s\n", dir != NULL ? dir : "(none)");
	return n > 0 ? 0 : 1;
}
