/*
 * reqbed.h - libfuse's requests without libfuse, for unit tests of what answers them.
 *
 * A request has the locks that libfuse's has, taken in the same order, so that the sanitizers see
 * a wrong order; it counts its answers, of which each request must get exactly one.  The test sets
 * reqbed_userdata.  Include it once in a program.
 */
#ifndef VMI_REQBED_H
#define VMI_REQBED_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <fuse_lowlevel.h>

enum { REQBED_PATIENCE_S = 20 };	/* for what takes milliseconds */

struct fuse_req {
	pthread_mutex_t lock;		/* held while func is called */
	atomic_int n_answers;
	int errnum;			/* the answer; 0: data */
	size_t len;
	char data[64];			/* its first bytes */
	bool interrupted;
	fuse_interrupt_func_t func;
	void *func_data;
};

static pthread_mutex_t session = PTHREAD_MUTEX_INITIALIZER;	/* as se->lock */
static pthread_mutex_t answers = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t answered = PTHREAD_COND_INITIALIZER;
static void *reqbed_userdata;

static inline void
req_init(struct fuse_req *req)
{
	memset(req, 0, sizeof(*req));
	pthread_mutex_init(&req->lock, NULL);
}

static inline int
take_answer(fuse_req_t req, int errnum, const char *data, size_t len)
{
	pthread_mutex_lock(&session);
	req->func = NULL;
	pthread_mutex_unlock(&session);
	pthread_mutex_lock(&answers);
	req->errnum = errnum;
	req->len = len;
	if (len > 0)
		memcpy(req->data, data, len < sizeof(req->data) ? len : sizeof(req->data));
	atomic_fetch_add(&req->n_answers, 1);
	pthread_cond_broadcast(&answered);
	pthread_mutex_unlock(&answers);
	return 0;
}

int
fuse_reply_err(fuse_req_t req, int errnum)
{
	return take_answer(req, errnum, NULL, 0);
}

int
fuse_reply_buf(fuse_req_t req, const char *data, size_t len)
{
	return take_answer(req, 0, data, len);
}

void *
fuse_req_userdata(fuse_req_t req)
{
	(void)req;
	return reqbed_userdata;
}

void
fuse_req_interrupt_func(fuse_req_t req, fuse_interrupt_func_t func, void *data)
{
	bool interrupted;

	pthread_mutex_lock(&req->lock);
	pthread_mutex_lock(&session);
	req->func = func;
	req->func_data = data;
	interrupted = req->interrupted;
	pthread_mutex_unlock(&session);
	if (interrupted && func != NULL)
		func(req, data);
	pthread_mutex_unlock(&req->lock);
}

int
fuse_req_interrupted(fuse_req_t req)
{
	int interrupted;

	pthread_mutex_lock(&session);
	interrupted = req->interrupted;
	pthread_mutex_unlock(&session);
	return interrupted;
}

/* What libfuse does when the kernel tells of an interrupt. */
static inline void
interrupt(struct fuse_req *req)
{
	fuse_interrupt_func_t func;
	void *data;

	pthread_mutex_lock(&req->lock);
	pthread_mutex_lock(&session);
	req->interrupted = true;
	func = req->func;
	data = req->func_data;
	pthread_mutex_unlock(&session);
	if (func != NULL)
		func(req, data);
	pthread_mutex_unlock(&req->lock);
}

static inline bool
has_answer(struct fuse_req *req)
{
	return atomic_load(&req->n_answers) > 0;
}

static inline void
wait_for_answer(struct fuse_req *req)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += REQBED_PATIENCE_S;
	pthread_mutex_lock(&answers);
	while (!has_answer(req))
		if (pthread_cond_timedwait(&answered, &answers, &until) != 0)
			break;
	pthread_mutex_unlock(&answers);
}

static inline void
assert_errno(struct fuse_req *req, int errnum)
{
	assert_int_equal(atomic_load(&req->n_answers), 1);
	assert_int_equal(req->errnum, errnum);
}

static inline void
assert_bytes(struct fuse_req *req, const char *wanted)
{
	assert_errno(req, 0);
	assert_int_equal(req->len, strlen(wanted));
	assert_memory_equal(req->data, wanted, req->len);
}

#endif
