/*
 * note.h - what worker and supervisor say to each other.
 *
 * Between the two runs a SOCK_SEQPACKET pair with fixed-size notes:
 *
 *   worker -> supervisor   LOADED (it could be executed, and knows its configuration; its version)
 *                          PREPARED (store and catalogue are open; it wants the connection)
 *                          READY (it answers), FAILED (it cannot start; code and text)
 *                          BACKING_OPEN (digest, with the descriptor of the stored file): the
 *                          kernel shall be able to read it by itself; answered with BACKING_ID.
 *                          Without a descriptor: only if it is known already
 *                          BACKING_CLOSE (digest): no longer
 *                          EXCHANGE: a command wants the program on disk to take its place
 *                          HANDOVER (with a descriptor): what the next worker gets with GO
 *   supervisor -> worker   GO (as HISTORY; with the descriptor of a handover, or none), after
 *                          LOADED
 *                          CONNECTION (with /dev/fuse), after PREPARED
 *                          HISTORY (rc: how many workers were started again; text: why the last one
 *                          was, or what came of an exchange)
 *                          RETIRE: another worker waits to go on: end without answering what waits
 *                          STOP, RELOAD, DUMP_STATUS
 *                          BACKING_ID (digest; rc: the kernel's number, or a negative errno value)
 *
 * End of file on the socket means STOP.
 */
#ifndef VMI_NOTE_H
#define VMI_NOTE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "core/digest.h"
#include "core/err.h"

enum { NOTE_MAGIC = 0x57724e33 };

enum note_kind {
	NOTE_LOADED = 1,
	NOTE_PREPARED,
	NOTE_READY,
	NOTE_FAILED,
	NOTE_EXCHANGE,
	NOTE_HANDOVER,
	NOTE_GO,
	NOTE_CONNECTION,
	NOTE_HISTORY,
	NOTE_RETIRE,
	NOTE_STOP,
	NOTE_RELOAD,
	NOTE_DUMP_STATUS,
	NOTE_BACKING_OPEN,
	NOTE_BACKING_CLOSE,
	NOTE_BACKING_ID,
};

struct note {
	uint32_t magic;
	int32_t kind;			/* enum note_kind */
	int32_t rc;			/* FAILED, BACKING_ID, HISTORY */
	int32_t code;			/* FAILED */
	struct digest digest;		/* BACKING_* */
	char text[ERR_TEXT_MAX];	/* FAILED, HISTORY: a sentence; LOADED: the version */
};

/* All zeros but the kind. */
void note_init(struct note *note, enum note_kind kind);

/* 0 or a negative errno value.  fd (-1: none) goes with it; borrowed.  wait: for room. */
int note_send(int socket, const struct note *note, int fd, bool wait);

/*
 * 1: a note; 0: the other end has closed; -EPROTO: a packet of another form, which is dropped;
 * other negative errno values.  *fd is what came with it, the caller's, or -1.
 */
int note_receive(int socket, struct note *note, int *fd, bool wait);

#endif
