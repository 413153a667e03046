/*
 * vmcatcher_options.h - the options of vmcatcher's four commands, read as Python's optparse reads
 * them.
 *
 * --opt=value, --opt value, -ovalue, -o value, several switches in one word, unique beginnings of
 * long names; arguments without a dash are passed over, "--" ends the options.  An option that
 * was not given has the value of its variable, if it has one and that is set and not empty.
 */
#ifndef VMI_VMCATCHER_OPTIONS_H
#define VMI_VMCATCHER_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include "core/buf.h"

struct vmc_option {
	char letter;		/* '\0': none */
	const char *name;	/* without dashes; NULL ends a table */
	const char *metavar;	/* of its value; NULL: a switch */
	const char *help;
	const char *variable;	/* of the environment; a switch is set by "1" */
	bool secret;		/* its value is overwritten in argv */
};

/* What was given; one for each option of the command, in the order of its table. */
struct vmc_given {
	const struct vmc_option *option;
	const char **at;	/* values in the order given; of a switch the word itself */
	size_t n;
	char *variable;		/* the variable's value, NULL; owned */
};

struct vmc_options {
	const char *command;
	struct vmc_given *given;
	size_t n;
};

enum vmc_parsed { VMC_PARSED, VMC_ASKED_HELP, VMC_ASKED_VERSION, VMC_WRONG };

/*
 * Reads options and variables of a command.  VMC_WRONG: *why says it as optparse does (caller
 * frees). Values of secret options are copied and overwritten in argv.
 */
enum vmc_parsed vmc_options_parse(struct vmc_options *o, const char *command, int argc, char **argv,
				  char **why);
void vmc_options_release(struct vmc_options *o);

/* NULL if the command has no such option. */
const struct vmc_given *vmc_options_find(const struct vmc_options *o, const char *name);

void vmc_options_help(const char *command, struct buf *out);

#endif
