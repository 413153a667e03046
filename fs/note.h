/*
 * note.h - what worker and supervisor say to each other.
 *
 * Between the two runs a SOCK_SEQPACKET pair with fixed-size notes:
 *
 *   worker -> supervisor   READY (about to answer), FAILED (it cannot start; code and text)
 *                          BACKING_OPEN (digest, with the descriptor of the stored file): the
 *                          kernel shall be able to read it by itself; answered with BACKING_ID
 *                          BACKING_CLOSE (digest): no longer
 *   supervisor -> worker   STOP, RELOAD, DUMP_STATUS
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

enum { NOTE_MAGIC = 0x57724e32 };

enum note_kind {
	NOTE_READY = 1,
	NOTE_FAILED,
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
	int32_t rc;			/* FAILED, BACKING_ID */
	int32_t code;			/* FAILED */
	struct digest digest;		/* BACKING_* */
	char text[ERR_TEXT_MAX];	/* FAILED: the sentence */
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
