/*
 * held.h - open files of the mount that are read from a file of ours: the signed messages and
 * their payloads.
 *
 * One descriptor a node id, shared by all opens: a message that a new one has replaced on disk
 * is read to its end.  Any thread.
 */
#ifndef VMI_HELD_H
#define VMI_HELD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct held;

struct held *held_new(void);
void held_free(struct held *h);

bool held_again(struct held *h, uint64_t node);	/* one more open, if there is one */
void held_open(struct held *h, uint64_t node, int fd);	/* takes fd */
/* -1, or the descriptor, which nobody needs any more: the caller closes it, which may wait. */
int held_close(struct held *h, uint64_t node);

/*
 * Bytes read, or a negative errno value; -ENOENT if the node is not held.  Without at_disk from
 * memory alone, or -EAGAIN.  *unused: as held_close() returns it.
 */
ssize_t held_read(struct held *h, uint64_t node, bool at_disk, void *data, size_t size, off_t off,
		  int *unused);

#endif
