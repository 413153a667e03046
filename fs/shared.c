#include "config.h"
#include "fs/shared.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/sandboxstate.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

static int
make_file(size_t size)
{
	static const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	CLEANUP_FD int fd = memfd_create("vmimagefs", flags | MFD_NOEXEC_SEAL);

	if (fd < 0 && errno == EINVAL)	/* before Linux 6.3 */
		fd = memfd_create("vmimagefs", flags);
	/* A worker that cut it would have the supervisor run into the hole. */
	if (fd < 0 || ftruncate(fd, (off_t)size) != 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
		return -errno;
	return steal_fd(&fd);
}

static int
map(int fd, struct shared **out)
{
	void *at = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	*out = at == MAP_FAILED ? NULL : at;
	return *out != NULL ? 0 : -errno;
}

int
shared_new(int *fd, struct shared **out, struct err *err)
{
	int made = make_file(sizeof(struct shared));
	int rc = made < 0 ? made : map(made, out);

	if (rc != 0) {
		close_keep_errno(made);
		return err_set(err, -rc, "no shared memory for the worker: %s",
			       strerrordesc_np(-rc));
	}
	(*out)->magic = SHARED_MAGIC;
	(*out)->protocol = WORKER_PROTOCOL;
	*fd = made;
	return 0;
}

int
shared_map(int fd, struct shared **out, struct err *err)
{
	struct stat st;
	int rc;

	*out = NULL;
	if (fstat(fd, &st) != 0 || st.st_size != (off_t)sizeof(struct shared))
		return err_set(err, EPROTO, "the shared memory has another size");
	rc = map(fd, out);
	if (rc != 0)
		return err_set(err, -rc, "the shared memory cannot be mapped: %s",
			       strerrordesc_np(-rc));
	if ((*out)->magic == SHARED_MAGIC && (*out)->protocol == WORKER_PROTOCOL)
		return 0;
	shared_unmap(*out);
	*out = NULL;
	return err_set(err, EPROTO, "the shared memory is not of this version");
}

void
shared_unmap(struct shared *s)
{
	if (s != NULL)
		munmap(s, sizeof(*s));
}

void
shared_board_use(int fd)
{
	struct sandbox_board *board;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0 || st.st_size != (off_t)sizeof(*board))
		return;
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (board != MAP_FAILED)
		sandbox_board_use(board);
}

int
shared_board_new(void)
{
	int fd = make_file(sizeof(struct sandbox_board));

	shared_board_use(fd);
	return fd < 0 ? -1 : fd;
}

void
shared_reset(struct shared *s)
{
	s->init_len = s->reply_len = 0;
	s->shown = 0;
	s->n_active = s->n_untold = 0;
	/* Slots that were never used have no memory yet, and are to have none. */
	for (size_t i = 0; i < SHARED_HANDLES; i++)
		if (s->handles[i].opens != 0)
			s->handles[i].opens = 0;
	for (size_t i = 0; i < SHARED_REQUESTS; i++)
		s->requests[i].unique = 0;
	for (size_t i = 0; i < SHARED_BACKED; i++)
		if (s->backed[i].used != 0)
			s->backed[i].used = 0;
}
