/*
 * vmcatcher.h - vmimagectl called by the names of vmcatcher's commands.
 *
 * vmcatcher_options.c has the options of all four in tables and reads them as Python's optparse
 * does, vmcatcher.c prepares the process, logs as they do (LEVEL:logger:text on standard error)
 * and calls the command, vmcatcher_db.c chooses the catalogue.  Each command is one file.
 *
 * A command checks its options, opens the files of -o (vmc_outputs_open), then the catalogue
 * (vmc_open: here root becomes `user`), fills v->out, and returns vmcatcher's exit status.
 */
#ifndef VMI_VMCATCHER_H
#define VMI_VMCATCHER_H

#include <stdbool.h>
#include <stddef.h>
#include "core/buf.h"
#include "core/catalogue.h"
#include "core/jsonw.h"
#include "core/runner.h"
#include "ctl.h"
#include "vmcatcher_options.h"

#define VMC_VERSION "0.6.3"

enum vmc_format { VMC_LINES, VMC_JSON, VMC_MESSAGE, VMC_SMIME };
enum vmc_level {
	VMC_DEBUG = 10, VMC_INFO = 20, VMC_WARNING = 30, VMC_ERROR = 40, VMC_CRITICAL = 50
};

struct vmc_values {			/* of one option, in the order given */
	const char **at;
	size_t n;
};

struct vmc {
	const char *name;		/* vmcatcher_image, ... */
	struct vmc_options options;
	struct ctl ctl;			/* conf is set; the catalogue after vmc_open() */
	struct buf out;			/* standard output, not yet written */
	size_t held;			/* of it: see output_offer() */
	int write_error;		/* positive errno value of the first write that failed */
	enum vmc_format format;
	enum vmc_level level;
	char *cert_dir;			/* of -c or its variable, absolute; NULL: the store's */
	char *database;			/* VMCATCHER_RDBMS as handlers get it */
	struct runner *runner;		/* of -x, before the change of user; NULL without */
	char *import;			/* vmcatcher's database that is to be imported, NULL */
	char *home;			/* PATH.vmimagefs of the store, NULL: a site's */
	struct jsonw json;		/* begun by vmc_json() or vmc_info_open() */
	int json_depth;			/* where the layout of its text has come to */
	struct buf json_text;
	struct vmc_member { const char *key; char *json; } *members;	/* of vmc_info_begin() */
	size_t n_members;
	int *outputs;			/* descriptors of -o */
	size_t n_outputs;
};

/* Whether argv[0] is one of the four names. */
bool vmc_is_name(const char *argv0);
int vmc_main(int argc, char **argv);	/* the exit status */

/*
 * By the option's long name without dashes; what was not given counts as its variable says (a
 * switch is set by "1").  A value that is empty is none, as in vmcatcher.
 */
bool vmc_flag(const struct vmc *v, const char *option);
const char *vmc_value(const struct vmc *v, const char *option);	/* the last one, NULL */
struct vmc_values vmc_values(const struct vmc *v, const char *option);

void vmc_log(const struct vmc *v, enum vmc_level level, const char *logger, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Logs ERROR:logger:sentence; returns vmc_status(err). */
int vmc_fail(const struct vmc *v, const char *logger, const struct err *err);

/*
 * "No actions selected" or "More than one action selected." unless exactly one of the names (a
 * NULL-terminated table of long options) was given: then that name, else NULL and it was logged.
 */
const char *vmc_one_action(const struct vmc *v, const char *const *actions);

/*
 * vmcatcher_db.c: which configuration holds the store that -d, VMCATCHER_RDBMS or their absence
 * mean; makes the store where there is none.  Sets ctl.conf, database, import, home.
 */
int vmc_choose(struct vmc *v, struct err *err);

/* Opens the catalogue; imports a vmcatcher database first if that is what -d names. */
int vmc_open(struct vmc *v, unsigned flags, struct err *err);

/* vmcatcher's exit status for an error of ours: its own codes, 10 to 38, as they are. */
int vmc_status(const struct err *err);

int vmc_endorser(struct vmc *v);
int vmc_subscribe(struct vmc *v);
int vmc_image(struct vmc *v);
int vmc_cache(struct vmc *v);

/* ---- vmcatcher_out.c: what several commands print -------------------------------------------- */

/*
 * JSON as Python 2's json.dumps(sort_keys=True, indent=4) writes it: vmc_json() begins, the caller
 * writes one value (keys sorted), vmc_json_end() appends it to v->out without a newline.
 */
struct jsonw *vmc_json(struct vmc *v);
void vmc_json_end(struct vmc *v);

/*
 * Between the elements of a long answer, also of one in JSON: what there is so far is written if it
 * is much.  Not where vmc_output_take() is to come.  0, or the negative errno value of the write
 * that failed: nobody reads the rest.
 */
int vmc_drain(struct vmc *v);
void vmc_flush(struct vmc *v);		/* all of it */

/*
 * -i of one thing: in lines one block after another, in JSON one object with a member for each
 * block (in any order; vmc_info_end() sorts them).  vmc_info_open() begins such a member, an
 * object whose members the caller writes with sorted keys, vmc_info_close() ends it; for VMC_JSON
 * alone.
 */
void vmc_info_begin(struct vmc *v);
void vmc_put_subscription(struct vmc *v, const struct subscription_row *s);
/* Nothing for a subscription without a list. */
void vmc_put_imagelist(struct vmc *v, const struct subscription_row *s);
struct jsonw *vmc_info_open(struct vmc *v, const char *key);
void vmc_info_close(struct vmc *v);
void vmc_info_end(struct vmc *v);
/* The members of a subscription alone, in an object that is open. */
void vmc_subscription_members(struct jsonw *w, const struct subscription_row *s);

/* The stored list: the message as it came (VMC_SMIME) or what was signed in it (VMC_MESSAGE). */
int vmc_put_message(struct vmc *v, const struct subscription_row *s, enum vmc_format format,
		    struct err *err);

/*
 * -o: opens (and empties) the files for the first n selections, as the caller.  What was put to
 * v->out from there on goes to the file of selection i, if it has one; otherwise it stays in
 * v->out.
 */
int vmc_outputs_open(struct vmc *v, size_t n, struct err *err);
int vmc_output_take(struct vmc *v, size_t i, size_t from, struct err *err);

/* None, Browser, IGTF. */
const char *vmc_anchor_name(enum trust_anchor anchor);

/* One line "KEY=VALUE" with a foreign value. */
void vmc_put_line(struct vmc *v, const char *key, const char *value);

#endif
