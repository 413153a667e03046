/*
 * X18: a configuration file (core/conf.h).  What is accepted is written by `config show` as it is
 * accepted again.
 */
#include "config.h"

#include <errno.h>

#include "core/conf.h"
#include "fuzz.h"
#include "fuzz_dir.h"

const char *
fuzz_title(void)
{
	return "X18 a configuration file is refused with its line, or can be written again";
}


static void
write_key(void *arg, const char *key, const char *value, const char *origin)
{
	struct buf *text = arg;

	FUZZ_CHECK(key != NULL && origin != NULL);
	/* What was not set has no value that could be written, and a password is not shown. */
	if (value == NULL || value[0] == '\0' || strcmp(origin, "default") == 0 ||
	    strncmp(key, "proxy", 5) == 0)
		return;
	buf_printf(text, "%s = %s\n", key, value);
}

static int
load(const char *path, const void *data, size_t len, struct conf **out, struct err *err)
{
	fuzz_put(path, data, len);
	return conf_load_from(path, true, NULL, out, err);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char *path;
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct conf *conf = NULL, *again = NULL;
	struct err err = { 0 };

	if (path == NULL)
		path = fuzz_path("fuzz.conf");
	buf_puts(&text, "");
	if (load(path, data, size, &conf, &err) != 0) {
		FUZZ_CHECK(conf == NULL && err.text[0] != '\0');
		return 0;
	}
	conf_each(conf, write_key, &text);
	if (load(path, text.data, text.len, &again, &err) != 0) {
		fprintf(stderr, "%s\n%s", err.text, text.data);
		abort();
	}
	FUZZ_CHECK(conf->read_timeout == again->read_timeout &&
		   conf->update_interval == again->update_interval &&
		   conf->cache_min_free == again->cache_min_free &&
		   strcmp(conf->cache_dir, again->cache_dir) == 0 &&
		   strcmp(conf->mountpoint, again->mountpoint) == 0);
	conf_free(again);
	conf_free(conf);
	return 0;
}
