/*
 * note.c - notes over a socket, with a descriptor at times (unix(7), SCM_RIGHTS).
 */
#include "config.h"
#include "fs/note.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "core/cleanup.h"

/* Room for one descriptor, aligned as the kernel wants it. */
union passed {
	struct cmsghdr header;
	char room[CMSG_SPACE(sizeof(int))];
};

void
note_init(struct note *note, enum note_kind kind)
{
	memset(note, 0, sizeof(*note));
	note->magic = NOTE_MAGIC;
	note->kind = (int32_t)kind;
}

int
note_send(int socket, const struct note *note, int fd, bool wait)
{
	struct note copy = *note;
	struct iovec part = { .iov_base = &copy, .iov_len = sizeof(copy) };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	union passed passed;
	struct cmsghdr *header;

	if (fd >= 0) {
		memset(&passed, 0, sizeof(passed));
		message.msg_control = passed.room;
		message.msg_controllen = sizeof(passed.room);
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	}
	if (sendmsg(socket, &message, MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT)) < 0)
		return -errno;
	return 0;
}

int
note_receive(int socket, struct note *note, int *fd, bool wait)
{
	struct iovec part = { .iov_base = note, .iov_len = sizeof(*note) };
	union passed passed;
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = passed.room,
				  .msg_controllen = sizeof(passed.room) };
	const struct cmsghdr *header;
	ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));

	*fd = -1;
	if (n < 0)
		return -errno;
	header = CMSG_FIRSTHDR(&message);
	if (header != NULL && header->cmsg_level == SOL_SOCKET &&
	    header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof(*fd)))
		memcpy(fd, CMSG_DATA(header), sizeof(*fd));
	if (n == 0)
		return 0;
	if (n == (ssize_t)sizeof(*note) && note->magic == NOTE_MAGIC &&
	    (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0)
		return 1;
	close_keep_errno(steal_fd(fd));
	return -EPROTO;
}
