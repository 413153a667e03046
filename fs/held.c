/*
 * held.c - descriptors behind open files of the mount.
 */
#include "config.h"
#include "fs/held.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include "core/buf.h"
#include "core/cleanup.h"
#include "core/io.h"
#include "fs/idmap.h"

struct file {
	int fd;
	uint64_t users;		/* opens, and reads under way */
};

struct held {
	pthread_mutex_t lock;	/* protects files and their users */
	struct idmap files;	/* node id -> struct file */
};

struct held *
held_new(void)
{
	struct held *h = xcalloc(1, sizeof(*h));

	pthread_mutex_init(&h->lock, NULL);
	idmap_init(&h->files);
	return h;
}

static void
file_free(struct file *f)
{
	close_keep_errno(f->fd);
	free(f);
}

void
held_free(struct held *h)
{
	if (h == NULL)
		return;
	for (size_t i = 0; i < h->files.n_slots; i++)
		if (h->files.slots[i].key != 0)
			file_free(h->files.slots[i].value);
	idmap_release(&h->files);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

static struct file *
use(struct held *h, uint64_t node)
{
	struct file *f;

	pthread_mutex_lock(&h->lock);
	f = idmap_get(&h->files, node);
	if (f != NULL)
		f->users++;
	pthread_mutex_unlock(&h->lock);
	return f;
}

bool
held_again(struct held *h, uint64_t node)
{
	return use(h, node) != NULL;
}

void
held_open(struct held *h, uint64_t node, int fd)
{
	struct file *f;

	pthread_mutex_lock(&h->lock);
	f = idmap_get(&h->files, node);
	if (f == NULL) {
		f = xcalloc(1, sizeof(*f));
		f->fd = steal_fd(&fd);
		idmap_set(&h->files, node, f);
	}
	f->users++;
	pthread_mutex_unlock(&h->lock);
	close_keep_errno(fd);
}

int
held_close(struct held *h, uint64_t node)
{
	struct file *f;
	int unused = -1;

	pthread_mutex_lock(&h->lock);
	f = idmap_get(&h->files, node);
	if (f != NULL && --f->users == 0) {
		unused = steal_fd(&f->fd);
		file_free(idmap_remove(&h->files, node));
	}
	pthread_mutex_unlock(&h->lock);
	return unused;
}

ssize_t
held_read(struct held *h, uint64_t node, bool at_disk, void *data, size_t size, off_t off,
	  int *unused)
{
	struct file *f = use(h, node);
	ssize_t n;

	*unused = -1;
	if (f == NULL)
		return -ENOENT;
	n = at_disk ? io_pread_full(f->fd, data, size, off) :
		      io_pread_cached(f->fd, data, size, off);
	*unused = held_close(h, node);
	return n;
}
