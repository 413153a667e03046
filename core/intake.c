/*
 * One image on its way in.
 *
 * The receiver, a thread of this file, reads the pipe and writes the partial file; the threads of
 * hasher.c run SHA-512 and the Merkle tree over the buffers that the receiver is writing.  The
 * receiver alone moves the state on, except that intake_feed() starts it.
 *
 *   IDLE      no pipe; offset < size
 *   RUNNING   a pipe is being read, or the bytes of an earlier run are being hashed again
 *   VERIFIED  offset == size, the digests are the signed ones, the block file is made; the
 *             receiver is in store_commit()
 *   STORED    the object has its name; the partial is gone
 *   FAILED    why.rc < 0; the partial is gone or in quarantine, or whole, and for want of room or
 *             descriptors not yet an object: the next try hashes it again, and fetches nothing
 *
 *   intake_new -> RUNNING (earlier bytes) or IDLE
 *   IDLE -> RUNNING by intake_feed
 *   RUNNING -> IDLE (pipe ended early) | VERIFIED | FAILED
 *   VERIFIED -> STORED | FAILED (the disk failed while the object was made durable)
 *
 * Three of the rules are worth a word.  First, after the last signed byte the receiver waits for
 * the end of the pipe, because one byte more is a refusal and not something to overlook.  Second, a
 * digest that is wrong after a transfer in several parts accuses nobody: the parts may be of
 * different files, or the earlier one may have been damaged on our own disk.  Such a partial is
 * dropped, not kept as evidence, and intake_resumed() tells whoever counts tries.  Third, a signed
 * root that is not the root of the tree is another matter: the SHA-512 has shown that these are the
 * signed bytes, in however many parts they came, so what was signed contradicts itself.
 */
#include "config.h"
#include "intake.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "buf.h"
#include "cleanup.h"
#include "hasher.h"
#include "io.h"
#include "thread.h"

enum {
	PIPE_BYTES = 1 << 20,		/* the most an unprivileged process may ask for */
	FLUSH_BYTES = 8 << 20,		/* written out in steps: the last fdatasync is short */
	SLOW_MS = 100,			/* a buffer waits no longer to be filled: progress shows */
};

struct intake {
	/* fixed after intake_new() */
	struct store *store;
	struct digest expected;
	int64_t size;
	int64_t earlier;		/* bytes of an earlier run */
	int notify_fd;
	int wake_fd;			/* eventfd: ends the receiver's poll */
	int file_fd;			/* the partial, read and write */
	int read_fd;			/* the same file, read-only, until the block file has it */
	bool has_root;
	struct digest root;		/* the signed fs-verity digest */
	struct hasher *hasher;
	pthread_t thread;

	int64_t flushed;		/* receiver only: written out up to here */

	pthread_mutex_t lock;		/* protects what follows */
	pthread_cond_t changed;		/* pipe_fd or stop */
	enum intake_state state;
	int64_t offset;			/* bytes received and written */
	bool resumed;			/* some of them came from an earlier run or pipe */
	bool restart;			/* empty the partial before the next pipe is read */
	bool stop;
	int pipe_fd;			/* given by intake_feed(), not yet taken by the receiver */
	struct blockfile *verified;
	struct err why;
};

enum outcome {
	ENDED,				/* end of the pipe */
	STOPPED,			/* intake_free() */
	BROKEN,				/* FAILED is set */
};

static void
check_invariants(const struct intake *in)
{
	assert(in->offset >= 0 && in->offset <= in->size);
	switch (in->state) {
	case INTAKE_IDLE:
		assert(in->pipe_fd < 0 && in->offset < in->size);
		break;
	case INTAKE_RUNNING:
		break;
	case INTAKE_VERIFIED:
	case INTAKE_STORED:
		assert(in->pipe_fd < 0 && in->offset == in->size && !in->restart);
		assert(in->verified != NULL);
		break;
	case INTAKE_FAILED:
		assert(in->pipe_fd < 0 && in->why.rc < 0);
		break;
	}
}

/* The lock must be held. */
static void
set_state(struct intake *in, enum intake_state state)
{
	const uint64_t one = 1;
	ssize_t n;

	in->state = state;
	check_invariants(in);
	/* It fails only when 2^64 changes wait to be read, and then it is readable all the same. */
	n = write(in->notify_fd, &one, sizeof(one));
	(void)n;
}

static void
enter_state(struct intake *in, enum intake_state state)
{
	pthread_mutex_lock(&in->lock);
	set_state(in, state);
	pthread_mutex_unlock(&in->lock);
}

static void
fail(struct intake *in, const struct err *why)
{
	pthread_mutex_lock(&in->lock);
	in->why = *why;
	set_state(in, INTAKE_FAILED);
	pthread_mutex_unlock(&in->lock);
}

static enum outcome
drop_and_fail(struct intake *in, const struct err *why)
{
	store_partial_drop(in->store, &in->expected);
	fail(in, why);
	return BROKEN;
}

static bool
is_stopped(struct intake *in)
{
	bool stop;

	pthread_mutex_lock(&in->lock);
	stop = in->stop;
	pthread_mutex_unlock(&in->lock);
	return stop;
}

/* ---- the end ----------------------------------------------------------------------------- */

static void
mismatch(struct intake *in, const struct digest *actual)
{
	char got[DIGEST_HEX + 1], want[DIGEST_HEX + 1];
	struct err why, aside;

	digest_hex(actual, got);
	digest_hex(&in->expected, want);
	err_refuse(&why, CODE_DIGEST, "the SHA-512 of the %lld bytes received is '%s', "
		   "the signed one is '%s'%s", (long long)in->size, got, want,
		   in->resumed ? " (received in several parts)" : "");
	if (in->resumed || store_quarantine_partial(in->store, &in->expected, &aside) != 0)
		store_partial_drop(in->store, &in->expected);
	fail(in, &why);
}

static void
other_root(struct intake *in, const struct digest *verity)
{
	char got[DIGEST_HEX + 1], want[DIGEST_HEX + 1];
	struct err why, aside;

	digest_hex(verity, got);
	digest_hex(&in->root, want);
	err_refuse(&why, CODE_BLOCK_DIGEST,
		   "the bytes have the signed SHA-512, but their fs-verity "
		   "digest is '%s', the signed one is '%s'", got, want);
	if (store_quarantine_partial(in->store, &in->expected, &aside) != 0)
		store_partial_drop(in->store, &in->expected);
	fail(in, &why);
}

/* The bytes and the tree that was built of them, for readers and for the store. */
static int
make_blockfile(struct intake *in, const struct digest *verity, struct err *why)
{
	const struct vtree_id id = { .image = in->expected, .size = in->size, .verity = *verity };
	struct vtree *tree;
	size_t len;
	const void *prefix = hasher_prefix(in->hasher, &len);
	int rc = vtree_new(&tree, &id, prefix, len, why);

	if (rc == 0)
		in->verified = blockfile_complete(steal_fd(&in->read_fd), tree);
	return rc;
}

/* All bytes are here. */
static void
finish(struct intake *in)
{
	struct digest whole, verity;
	struct err why;

	hasher_end(in->hasher, &whole, &verity);
	if (!digest_equal(&whole, &in->expected)) {
		mismatch(in, &whole);
		return;
	}
	if (in->has_root && !digest_equal(&verity, &in->root)) {
		other_root(in, &verity);
		return;
	}
	if (make_blockfile(in, &verity, &why) != 0) {
		drop_and_fail(in, &why);
		return;
	}
	/* Readers are answered now; they need not wait for the disk. */
	enter_state(in, INTAKE_VERIFIED);
	if (store_commit(in->store, &in->expected, in->file_fd, blockfile_tree(in->verified),
			 &why) != 0)
		fail(in, &why);
	else
		enter_state(in, INTAKE_STORED);
}

/* ---- one pipe ---------------------------------------------------------------------------- */

/* 1: readable or ended; 0: timeout; -ECANCELED: intake_free(). */
static int
wait_readable(struct intake *in, int pipe, int timeout_ms)
{
	struct pollfd fds[2] = {
		{ .fd = pipe, .events = POLLIN },
		{ .fd = in->wake_fd, .events = POLLIN },
	};
	int n;

	do
		n = poll(fds, 2, timeout_ms);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (fds[1].revents != 0)
		return -ECANCELED;
	return n > 0 ? 1 : 0;
}

/*
 * Fills what is left of a granule: up to room bytes, fewer at the end of the pipe or when the
 * sender is slow.  *ended: there are no more.
 */
static ssize_t
read_chunk(struct intake *in, int pipe, unsigned char *data, size_t room, bool *ended)
{
	size_t got = 0;
	int rc;

	*ended = false;
	while (got < room) {
		ssize_t n = read(pipe, data + got, room - got);

		if (n > 0) {
			got += (size_t)n;
			continue;
		}
		if (n == 0) {
			*ended = true;
			break;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return -errno;
		rc = wait_readable(in, pipe, got > 0 ? SLOW_MS : -1);
		if (rc < 0)
			return rc;
		if (rc == 0)
			break;
	}
	return (ssize_t)got;
}

/* Starts the write-out of what lies behind us; what goes wrong there is told by fdatasync(). */
static void
flush_behind(struct intake *in, int64_t offset)
{
	if (offset - in->flushed < FLUSH_BYTES)
		return;
	sync_file_range(in->file_fd, in->flushed, offset - in->flushed, SYNC_FILE_RANGE_WRITE);
	in->flushed = offset;
}

static int
write_chunk(struct intake *in, const void *data, size_t len, int64_t offset, struct err *why)
{
	int rc = io_pwrite_all(in->file_fd, data, len, (off_t)offset);

	if (rc == -ENOSPC || rc == -EDQUOT) {
		errno = -rc;
		return err_refuse(why, CODE_FULL, "cannot write at byte %lld: %m",
				  (long long)offset);
	}
	if (rc != 0) {
		errno = -rc;
		return err_set(why, errno, "cannot write at byte %lld: %m", (long long)offset);
	}
	flush_behind(in, offset + (int64_t)len);
	pthread_mutex_lock(&in->lock);
	in->offset = offset + (int64_t)len;
	pthread_mutex_unlock(&in->lock);
	return 0;
}

/* All signed bytes are here: nothing but the end of the pipe may follow. */
static enum outcome
expect_end(struct intake *in, int pipe)
{
	struct err why;
	unsigned char more;
	bool ended;
	ssize_t n = read_chunk(in, pipe, &more, 1, &ended);

	if (n == -ECANCELED)
		return STOPPED;
	if (n <= 0)
		return ENDED;
	err_refuse(&why, CODE_TOO_MUCH, "more than the %lld bytes of the signed size",
		   (long long)in->size);
	return drop_and_fail(in, &why);
}

/*
 * Our own trouble: to end here would be the server's, who sent too little.  What has come is kept.
 */
static enum outcome
unreadable(struct intake *in, int rc)
{
	struct err why;

	errno = -rc;
	err_set(&why, errno, "cannot read what the fetcher sends: %m");
	fail(in, &why);
	return BROKEN;
}

/* Reads the pipe to its end. */
static enum outcome
receive(struct intake *in, int pipe, int64_t offset)
{
	struct err why;
	bool ended = false;

	while (!ended) {
		size_t room;
		unsigned char *data = hasher_buffer(in->hasher, &room);
		ssize_t n;

		if (data == NULL)
			return expect_end(in, pipe);
		n = read_chunk(in, pipe, data, room, &ended);
		if (n == -ECANCELED)
			return STOPPED;
		if (n < 0)
			return unreadable(in, (int)n);
		if (n == 0)
			continue;
		hasher_push(in->hasher, (size_t)n);
		if (write_chunk(in, data, (size_t)n, offset, &why) != 0)
			return drop_and_fail(in, &why);
		offset += n;
	}
	return ENDED;
}

/* Empties the partial if intake_restart() asked for it; then reads the pipe. */
static enum outcome
receive_from(struct intake *in, int pipe)
{
	int64_t offset;
	struct err why;
	bool restart;

	pthread_mutex_lock(&in->lock);
	offset = in->offset;
	restart = in->restart;
	in->restart = false;
	in->resumed = offset > 0;
	pthread_mutex_unlock(&in->lock);
	if (restart) {
		hasher_reset(in->hasher);
		in->flushed = 0;
		if (store_partial_reset(in->store, &in->expected, in->file_fd, in->size, &why) != 0)
			return drop_and_fail(in, &why);
	}
	return receive(in, pipe, offset);
}

/* ---- the bytes of an earlier run --------------------------------------------------------- */

/*
 * Hashes them again: what a crash left on the disk is worth what its digest says.  Bytes that
 * cannot be read are given up.
 */
static enum outcome
rehash(struct intake *in)
{
	int64_t offset = 0;

	while (offset < in->earlier) {
		int64_t left = in->earlier - offset;
		size_t len;
		unsigned char *data = hasher_buffer(in->hasher, &len);

		if ((int64_t)len > left)
			len = (size_t)left;
		if (is_stopped(in))
			return STOPPED;
		if (io_pread_full(in->file_fd, data, len, (off_t)offset) != (ssize_t)len) {
			pthread_mutex_lock(&in->lock);
			in->offset = 0;
			in->resumed = false;
			in->restart = true;
			pthread_mutex_unlock(&in->lock);
			return ENDED;
		}
		hasher_push(in->hasher, len);
		offset += (int64_t)len;
	}
	in->flushed = in->earlier;
	return ENDED;
}

/* ---- the receiver ------------------------------------------------------------------------ */

/* After a pipe or the earlier bytes: done, or wait for more. */
static void
conclude(struct intake *in)
{
	bool complete;

	pthread_mutex_lock(&in->lock);
	complete = in->offset == in->size && !in->restart;
	if (!complete)
		set_state(in, INTAKE_IDLE);
	pthread_mutex_unlock(&in->lock);
	if (complete)
		finish(in);
}

/* The next pipe, or -1 when it is time to stop. */
static int
wait_for_pipe(struct intake *in)
{
	int fd;

	pthread_mutex_lock(&in->lock);
	while (in->pipe_fd < 0 && !in->stop)
		pthread_cond_wait(&in->changed, &in->lock);
	fd = in->stop ? -1 : steal_fd(&in->pipe_fd);
	pthread_mutex_unlock(&in->lock);
	return fd;
}

static void *
receiver_main(void *arg)
{
	struct intake *in = arg;
	enum outcome outcome = ENDED;
	int pipe;

	prctl(PR_SET_NAME, "intake-read");
	if (in->earlier > 0) {
		outcome = rehash(in);
		if (outcome == ENDED)
			conclude(in);
	}
	while (outcome == ENDED && (pipe = wait_for_pipe(in)) >= 0) {
		outcome = receive_from(in, pipe);
		close(pipe);
		if (outcome == ENDED)
			conclude(in);
	}
	return NULL;
}

/* ---- public ------------------------------------------------------------------------------ */

static void
release(struct intake *in)
{
	hasher_free(in->hasher);
	blockfile_unref(in->verified);
	close_keep_errno(in->pipe_fd);
	close_keep_errno(in->read_fd);
	close_keep_errno(in->file_fd);
	close_keep_errno(in->wake_fd);
	pthread_cond_destroy(&in->changed);
	pthread_mutex_destroy(&in->lock);
	free(in);
}

static int
set_up(struct intake *in, struct err *err)
{
	int rc;

	in->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (in->wake_fd < 0)
		return err_set(err, errno, "cannot make an eventfd: %m");
	rc = store_partial_open(in->store, &in->expected, in->size, &in->file_fd, &in->earlier,
				err);
	if (rc != 0)
		return rc;
	in->read_fd = store_partial_reopen(in->store, &in->expected, in->file_fd, err);
	if (in->read_fd < 0)
		return in->read_fd;
	rc = hasher_new(&in->hasher, in->size, err);
	if (rc != 0)
		return rc;
	in->offset = in->earlier;
	in->resumed = in->earlier > 0;
	in->state = in->earlier > 0 ? INTAKE_RUNNING : INTAKE_IDLE;
	rc = thread_start(&in->thread, receiver_main, in);
	if (rc != 0) {
		errno = -rc;
		return err_set(err, errno, "cannot start a thread: %m");
	}
	return 0;
}

int
intake_new(struct intake **out, struct store *store, const struct digest *expected, int64_t size,
	   const struct digest *root, int notify_fd, struct err *err)
{
	struct intake *in;
	int rc;

	*out = NULL;
	if (size <= 0)
		return err_refuse(err, CODE_SIZE, "an image of %lld bytes", (long long)size);
	in = xcalloc(1, sizeof(*in));
	in->store = store;
	in->expected = *expected;
	in->size = size;
	in->has_root = root != NULL;
	if (root != NULL)
		in->root = *root;
	in->notify_fd = notify_fd;
	in->wake_fd = in->file_fd = in->read_fd = in->pipe_fd = -1;
	pthread_mutex_init(&in->lock, NULL);
	pthread_cond_init(&in->changed, NULL);
	rc = set_up(in, err);
	if (rc != 0) {
		release(in);
		return rc;
	}
	*out = in;
	return 0;
}

enum intake_state
intake_state(struct intake *in)
{
	enum intake_state state;

	pthread_mutex_lock(&in->lock);
	check_invariants(in);
	state = in->state;
	pthread_mutex_unlock(&in->lock);
	return state;
}

int64_t
intake_offset(struct intake *in)
{
	int64_t offset;

	pthread_mutex_lock(&in->lock);
	offset = in->offset;
	pthread_mutex_unlock(&in->lock);
	return offset;
}

bool
intake_resumed(struct intake *in)
{
	bool resumed;

	pthread_mutex_lock(&in->lock);
	resumed = in->resumed;
	pthread_mutex_unlock(&in->lock);
	return resumed;
}

void
intake_restart(struct intake *in)
{
	pthread_mutex_lock(&in->lock);
	assert(in->state == INTAKE_IDLE);
	in->offset = 0;
	in->resumed = false;
	in->restart = true;
	pthread_mutex_unlock(&in->lock);
}

void
intake_feed(struct intake *in, int pipe_rd)
{
	int flags = fcntl(pipe_rd, F_GETFL);

	/* These make it faster and easier to interrupt; a file is read all the same. */
	(void)fcntl(pipe_rd, F_SETPIPE_SZ, PIPE_BYTES);
	(void)fcntl(pipe_rd, F_SETFL, flags | O_NONBLOCK);
	pthread_mutex_lock(&in->lock);
	assert(in->state == INTAKE_IDLE && in->pipe_fd < 0);
	in->pipe_fd = pipe_rd;
	set_state(in, INTAKE_RUNNING);
	pthread_cond_signal(&in->changed);
	pthread_mutex_unlock(&in->lock);
}

struct blockfile *
intake_blockfile(struct intake *in)
{
	switch (intake_state(in)) {
	case INTAKE_VERIFIED:
	case INTAKE_STORED:
		/* Made before the state, and for good: no lock is needed. */
		return blockfile_ref(in->verified);
	case INTAKE_IDLE:
	case INTAKE_RUNNING:
	case INTAKE_FAILED:
		break;
	}
	return NULL;
}

int
intake_result(struct intake *in, struct err *err)
{
	int rc = 0;

	pthread_mutex_lock(&in->lock);
	if (in->state == INTAKE_FAILED) {
		rc = in->why.rc;
		if (err != NULL)
			*err = in->why;
	}
	pthread_mutex_unlock(&in->lock);
	return rc;
}

void
intake_free(struct intake *in)
{
	const uint64_t one = 1;
	ssize_t n;

	if (in == NULL)
		return;
	pthread_mutex_lock(&in->lock);
	in->stop = true;
	pthread_cond_signal(&in->changed);
	pthread_mutex_unlock(&in->lock);
	n = write(in->wake_fd, &one, sizeof(one));
	(void)n;
	pthread_join(in->thread, NULL);
	/* Nothing to resume from: the room need not stay reserved. */
	if (in->offset == 0 && in->state != INTAKE_FAILED)
		store_partial_drop(in->store, &in->expected);
	release(in);
}
