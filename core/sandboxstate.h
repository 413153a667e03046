/*
 * sandboxstate.h - what is in force in each process of a mount, as the kernel says.
 *
 * Each process asks the kernel about itself when its sandbox has closed (sandbox_enter() does it)
 * and writes the answers on a board.  The board of a daemon lies in memory that its processes
 * share; programs that live for moments tell by their answers, and who gets these writes for them.
 * A board is for showing: nothing is ever decided by what stands there.
 */
#ifndef VMI_SANDBOXSTATE_H
#define VMI_SANDBOXSTATE_H

#include <stdbool.h>
#include <stdint.h>
#include "buf.h"
#include "jsonw.h"
#include "sandbox.h"

/* Of fixed size: it travels between programs of one build. */
struct sandbox_state {
	int32_t pid;			/* 0: nothing is known */
	int32_t role;			/* enum sandbox_role */
	uint32_t uid;
	uint32_t missing;		/* SANDBOX_MISSING_* */
	uint64_t capabilities;		/* permitted, effective or inheritable */
	uint64_t bounding;
	uint32_t landlock_abi;		/* 0: none is in force */
	uint8_t landlock_files;		/* it has rules for files, */
	uint8_t landlock_net;		/* for TCP, */
	uint8_t landlock_scope;		/* for abstract sockets or signals */
	uint8_t seccomp;		/* mode: 0 none, 2 filter */
	uint8_t allow_list;		/* the filter is a list of permissions */
	uint8_t no_new_privs, dumpable, no_exec_gain;
	uint32_t reserved;
};

struct sandbox_board {
	struct sandbox_state states[SANDBOX_ROLES];
};

/* The board to use from now on, also by processes that are forked; without one it is our own. */
void sandbox_board_use(struct sandbox_board *board);

/* Writes one on the board; of nonsense nothing.  Any thread. */
void sandbox_board_note(const struct sandbox_state *state);

/* False: that one has not been seen yet.  Any thread. */
bool sandbox_board_get(enum sandbox_role role, struct sandbox_state *out);

/* Asks the kernel about this process.  Landlock is what sandbox_enter() found. */
void sandbox_look(enum sandbox_role role, struct sandbox_state *out);


/* "uid 65534, no capabilities, no new privileges, Landlock 7 (files, tcp), seccomp (allow-list)" */
void sandbox_state_describe(const struct sandbox_state *state, struct buf *out);

/* All of the board: lines "sandbox.ROLE: ...", and a member "sandbox", an array of objects. */
void sandbox_board_text(struct buf *out);
void sandbox_board_json(struct jsonw *w);

/* The state as one word of hexadecimal digits, and back: false for another form. */
void sandbox_state_pack(const struct sandbox_state *state, struct buf *out);
bool sandbox_state_unpack(const char *text, struct sandbox_state *out);

#endif
