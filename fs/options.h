/*
 * options.h - the command line of vmimagefs, and of mount.vmimagefs as mount(8) calls it.
 */
#ifndef VMI_OPTIONS_H
#define VMI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include "core/buf.h"
#include "core/conf.h"
#include "core/err.h"

struct options {
	char *config;			/* absolute; NULL: the default places */
	char *source;			/* what df and findmnt show; never NULL after parsing */
	char *mountpoint;		/* absolute; NULL: that of the configuration */
	bool help, version;		/* asked for; nothing else was looked at */
	bool foreground;		/* -f, or -d */
	bool debug;			/* -d */
	bool verbose;			/* -v */
	bool fake;			/* -f of a mount helper: check everything, mount nothing */
	bool noexec;
	unsigned max_threads;		/* 0: not given */
	struct option_setting {
		char *key, *value;
	} *settings;			/* configuration keys, in their order */
	size_t n_settings;
};

/*
 * Reads the arguments.  argv[0] beginning with "mount." is the mode of a mount helper: other
 * letters, and -s passes over unknown options.  -EINVAL with the option's name otherwise.  out
 * is to be released in every case.
 */
int options_parse(int argc, char *const *argv, struct options *out, struct err *err);
void options_release(struct options *o);

/* The configuration with the command line on top.  Caller conf_free()s. */
int options_load_conf(const struct options *o, struct conf **out, struct err *err);

/*
 * A configuration as text, for another process of ours that may not be able to read what it was
 * read from, or finds it broken; and back.
 */
void options_save_conf(const struct conf *conf, struct buf *out);
int options_load_saved(char *text, struct conf **out, struct err *err);

void options_print_help(FILE *to);

#endif
