/*
 * X18: the control socket (core/control.h), from both sides, and the command lines.
 *
 *	0	what a client sends to the daemon: its bytes in pieces
 *	1	what a daemon answers to a client
 *	2	a command line of vmimagefs, an argument a line
 *	3	the same of mount.vmimagefs
 *	4	the same of a vmcatcher command, which the next byte names
 *	5	what a worker that was taken over sends to the supervisor (fs/note.h): 1 byte flags
 *		(1: another magic number, 2: cut), kind 4, rc 4, code 4, the sentence
 *
 * The daemon's side is the engine with its catalogue and store, but without its loop: nothing is
 * fetched.  control.c is compiled in here, because control_call() wants a socket in a directory.
 */
#include "config.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/control.c"
#include "core/engine_impl.h"
#include "core/store.h"
#include "fs/note.h"
#include "fs/options.h"
#include "fuzz.h"
#include "fuzz_site.h"
#include "tools/vmcatcher_options.h"

const char *
fuzz_title(void)
{
	return "X18 no request, answer or command line crashes who reads it";
}

/* ---- the daemon ------------------------------------------------------------------------------ */

static struct engine *engine;

static void
setup_engine(void)
{
	struct engine_config config = { .event_uid = geteuid(), .stop_fd = -1 };
	struct conf *conf = fuzz_conf();
	struct err err = { 0 };

	log_open("fuzz", true, LOG_LVL_ERROR);
	config.conf = conf;
	fuzz_must(catalogue_open(&config.catalogue, conf, CATALOGUE_CREATE, NULL, &err), &err);
	fuzz_furnish(config.catalogue);
	fuzz_must(store_init(conf, catalogue_store_id(config.catalogue), true, &err), &err);
	fuzz_must(store_open(conf, catalogue_store_id(config.catalogue), &config.store, &err),
		  &err);
	fuzz_must(store_lock(config.store, &err), &err);
	config.control_socket = control_listen(conf, geteuid(), getegid(), &err);
	fuzz_must(config.control_socket < 0 ? config.control_socket : 0, &err);
	fuzz_must(engine_new(&engine, &config, &err), &err);
}

/* The client's end of a connection that the engine has taken. */
static int
connect_client(void)
{
	int dir = open(engine->config.conf->run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = connect_in(dir);

	close(dir);
	if (fd < 0)
		abort();
	control_accept(engine);
	return fd;
}

/* Whole lines, the last one "ok" or "err", or nothing at all. */
static void
check_answer(int fd)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	char block[16384];
	const char *last;
	ssize_t n;

	while ((n = recv(fd, block, sizeof(block), MSG_DONTWAIT)) > 0)
		buf_add(&text, block, (size_t)n);
	if (text.len == 0)
		return;
	FUZZ_CHECK(text.data[text.len - 1] == '\n');
	text.data[--text.len] = '\0';
	last = strrchr(text.data, '\n');
	last = last != NULL ? last + 1 : text.data;
	FUZZ_CHECK(strcmp(last, "ok") == 0 || strncmp(last, "ok ", 3) == 0 ||
		   strncmp(last, "err ", 4) == 0);
}

static void
check_requests(struct fuzz_input *in)
{
	size_t piece = 1 + 16 * (size_t)fuzz_take_byte(in);
	int fd;

	if (engine == NULL)
		setup_engine();
	fd = connect_client();
	while (in->len > 0 && engine->clients != NULL && !engine->clients->closing) {
		size_t n = in->len < piece ? in->len : piece;

		if (send(fd, in->data, n, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)n)
			break;
		in->data += n;
		in->len -= n;
		control_readable(engine, engine->clients);
		FUZZ_CHECK(engine->clients->in.len <= LIMIT_CONTROL_LINE + 1024);
		control_settle(engine);
	}
	check_answer(fd);
	close(fd);
	control_drop_all(engine);
}

/* ---- a client -------------------------------------------------------------------------------- */

static int
count_line(void *arg, const char *text)
{
	*(size_t *)arg += strlen(text) + 1;
	return 0;
}

static void
check_client(const uint8_t *data, size_t len)
{
	size_t seen = 0;
	CLEANUP_BUF struct buf ok = BUF_INIT;
	struct answer answer = { .line = count_line, .arg = &seen, .ok_text = &ok };
	struct err err = { 0 };
	char nowhere[] = "/nonexistent";
	const struct conf nobody = { .run_dir = nowhere };
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
		abort();
	if (len > 100000)
		len = 100000;		/* what a socket takes at once */
	if (len > 0 && send(pair[1], data, len, MSG_NOSIGNAL) != (ssize_t)len)
		abort();
	close(pair[1]);
	if (read_answer(&nobody, pair[0], &answer, 1000, &err) == 0)
		FUZZ_CHECK(answer.done && seen + ok.len <= len);
	else
		FUZZ_CHECK(!answer.done && err.rc < 0 && err.text[0] != '\0');
	close(pair[0]);
}

/* ---- the supervisor -------------------------------------------------------------------------- */

static void
check_note(struct fuzz_input *in)
{
	unsigned flags = fuzz_take_byte(in);
	struct note sent, got;
	int pair[2], fd = -1, rc;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
		abort();
	memset(&sent, 0, sizeof(sent));
	sent.magic = NOTE_MAGIC ^ (flags & 1);
	sent.kind = (int32_t)fuzz_take_number(in, 4);
	sent.rc = (int32_t)fuzz_take_number(in, 4);
	sent.code = (int32_t)fuzz_take_number(in, 4);
	if (in->len > 0)
		memcpy(sent.text, in->data,
		       in->len < sizeof(sent.text) ? in->len : sizeof(sent.text));
	if (send(pair[1], &sent, sizeof(sent) - ((flags & 2) != 0), MSG_NOSIGNAL) < 0)
		abort();
	rc = note_receive(pair[0], &got, &fd, false);
	FUZZ_CHECK((rc == 1 && flags % 4 == 0) || rc == -EPROTO);
	if (rc == 1)
		FUZZ_CHECK(memcmp(&got, &sent, sizeof(got)) == 0);
	FUZZ_CHECK(fd == -1);
	close(pair[0]);
	close(pair[1]);
}

/* ---- command lines --------------------------------------------------------------------------- */

enum { ARGS_MAX = 32 };

/* Arguments, one a line; the caller frees them. */
static int
take_arguments(struct fuzz_input *in, const char *name, char *argv[ARGS_MAX + 1])
{
	int argc = 0;

	argv[argc++] = xstrdup(name);
	while (in->len > 0 && argc < ARGS_MAX)
		argv[argc++] = fuzz_take_line(in);
	argv[argc] = NULL;
	return argc;
}

static void
free_arguments(char *argv[])
{
	for (; *argv != NULL; argv++)
		free(*argv);
}

static void
check_options(struct fuzz_input *in, const char *name)
{
	char *argv[ARGS_MAX + 1], *given[ARGS_MAX + 1];
	int argc = take_arguments(in, name, argv);
	struct err err = { 0 };
	struct options o;

	/* getopt() changes the order. */
	memcpy(given, argv, sizeof(given));
	if (options_parse(argc, argv, &o, &err) == 0)
		FUZZ_CHECK(o.help || o.version || o.source != NULL);
	else
		FUZZ_CHECK(err.rc == -EINVAL && err.text[0] != '\0');
	options_release(&o);
	free_arguments(given);
}

static void
check_vmcatcher(struct fuzz_input *in)
{
	static const char *const commands[] = {
		"vmcatcher_cache", "vmcatcher_endorser", "vmcatcher_image", "vmcatcher_subscribe",
	};
	const char *command = commands[fuzz_take_byte(in) % 4];
	char *argv[ARGS_MAX + 1];
	int argc = take_arguments(in, command, argv);
	struct vmc_options o;
	char *why = NULL;

	switch (vmc_options_parse(&o, command, argc, argv, &why)) {
	case VMC_WRONG:
		FUZZ_CHECK(why != NULL && why[0] != '\0');
		break;
	case VMC_PARSED:
		for (size_t i = 0; i < o.n; i++)
			for (size_t k = 0; k < o.given[i].n; k++)
				FUZZ_CHECK(o.given[i].at[k] != NULL);
		break;
	case VMC_ASKED_HELP:
	case VMC_ASKED_VERSION:
		break;
	}
	vmc_options_release(&o);
	free(why);
	free_arguments(argv);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };

	switch (fuzz_take_byte(&in)) {
	case 0:
		check_requests(&in);
		break;
	case 1:
		check_client(in.data, in.len);
		break;
	case 2:
		check_options(&in, "vmimagefs");
		break;
	case 3:
		check_options(&in, "mount.vmimagefs");
		break;
	case 5:
		check_note(&in);
		break;
	default:
		check_vmcatcher(&in);
		break;
	}
	return 0;
}
