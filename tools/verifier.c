/*
 * vmimagefs-verifier - says of one signed message whether the trust directory vouches for it.
 *
 *	vmimagefs-verifier TRUSTDIR            message on descriptor 0, struct verdict_wire on 1
 *	vmimagefs-verifier --show TRUSTDIR     the same for people: `... --show DIR < list.smime`
 *
 * The order of the steps is what this program is for.  First everything that it will need is
 * read into memory: OpenSSL's algorithms and the trust directory, which belongs to the admin.
 * Then it gives up files, network, new processes and memory beyond its limit, for good.  Only
 * then it reads the first byte of the message, which anybody may have written.  It looks at one
 * message and ends.
 *
 * Exit status: 0 when a verdict was written (with --show: when the message was accepted), with
 * --show the status of vmimagectl for a refusal, 1 when no verdict could be written, 2 for usage.
 */
#include "config.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/digest.h"
#include "core/io.h"
#include "core/limits.h"
#include "core/process.h"
#include "core/sandbox.h"
#include "core/sandboxstate.h"
#include "core/smime.h"
#include "core/stamp.h"
#include "core/trustdir.h"
#include "core/verdict.h"

struct options {
	bool show;
	const char *trustdir;
};

#if defined(__SANITIZE_ADDRESS__)
/* LeakSanitizer looks at us from a process of its own at the end; the sandbox does not let it. */
const char *__asan_default_options(void);

const char *
__asan_default_options(void)
{
	return "detect_leaks=0";
}
#endif

static const char usage_text[] =
	"usage: vmimagefs-verifier [--show] TRUSTDIR < MESSAGE\n"
	"Verifies one S/MIME signed image list against the CAs, CRLs and policy files of"
	" TRUSTDIR.\n"
	"  --show     write the verdict and the signed text for people\n"
	"  --help     this text\n"
	"  --version  the version\n";

static void
say(int fd, const char *text)
{
	io_write_all(fd, text, strlen(text));
}

/* 0, or the exit status plus one. */
static int
parse_options(int argc, char **argv, struct options *o)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--show") == 0) {
			o->show = true;
		} else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			say(STDOUT_FILENO, usage_text);
			return EXIT_DONE + 1;
		} else if (strcmp(argv[i], "--version") == 0) {
			say(STDOUT_FILENO, "vmimagefs-verifier " PACKAGE_VERSION "\n");
			return EXIT_DONE + 1;
		} else if (argv[i][0] == '-' || o->trustdir != NULL) {
			say(STDERR_FILENO, usage_text);
			return EXIT_USAGE + 1;
		} else {
			o->trustdir = argv[i];
		}
	}
	if (o->trustdir == NULL) {
		say(STDERR_FILENO, usage_text);
		return EXIT_USAGE + 1;
	}
	return 0;
}

/* Before the trust directory is read: its size, too, is not ours to choose. */
static int
limit_resources(struct err *err)
{
	const struct rlimit cpu = { LIMIT_VERIFIER_CPU_SECONDS, LIMIT_VERIFIER_CPU_SECONDS };

	if (setrlimit(RLIMIT_CPU, &cpu) != 0)
		return err_refuse(err, CODE_LIMIT, "cannot limit the time of the verifier: %s",
				  strerrordesc_np(errno));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	/* Sanitizers reserve terabytes of addresses for their shadow. */
	const struct rlimit memory = { LIMIT_VERIFIER_MEMORY, LIMIT_VERIFIER_MEMORY };

	if (setrlimit(RLIMIT_AS, &memory) != 0)
		return err_refuse(err, CODE_LIMIT, "cannot limit the memory of the verifier: %s",
				  strerrordesc_np(errno));
#endif
	return 0;
}

/* After this nothing can be opened any more. */
static int
prepare(const struct options *o, struct trustdir **trust, struct err *err)
{
	unsigned missing = 0;
	int rc, entered;

	rc = limit_resources(err);
	if (rc == 0)
		rc = smime_init(err);
	if (rc == 0)
		rc = trustdir_load(o->trustdir, trust, err);
	/* Also when there is nothing to verify with: the message will be read. */
	entered = sandbox_enter(SANDBOX_VERIFIER, NULL, 0, &missing, rc == 0 ? err : NULL);
	return rc != 0 ? rc : entered;
}

static int
read_message(struct buf *message, struct err *err)
{
	int rc = io_read_to_end(STDIN_FILENO, LIMIT_MESSAGE_BYTES, message);

	if (rc == -EFBIG)
		return err_refuse(err, CODE_LIMIT, "the message is larger than %d bytes",
				  LIMIT_MESSAGE_BYTES);
	if (rc != 0)
		return err_set(err, -rc, "the message cannot be read: %s", strerrordesc_np(-rc));
	return 0;
}

/* The verdict when there was nothing to verify, or nothing to verify it with. */
static void
refuse(struct verdict *v, int rc, const struct err *err)
{
	v->rc = rc;
	v->code = err->code;
	snprintf(v->text, sizeof(v->text), "%s", err->text);
}

static void
describe(const struct verdict *v, struct buf *out)
{
	char stamp[STAMP_BYTES];

	if (v->rc == 0)
		buf_puts(out, "verdict: accepted\n");
	else if (v->code == CODE_NONE)
		buf_printf(out, "verdict: none\nreason: %s\n", v->text);
	else
		buf_printf(out, "verdict: refused\ncode: %d\nreason: %s\n", (int)v->code, v->text);
	if (v->subject != NULL) {
		stamp_format(v->not_after, stamp);
		buf_printf(out, "subject: %s\nissuer: %s\nserial: %s\nvalid until: %s\n",
			   v->subject, v->issuer != NULL ? v->issuer : "",
			   v->serial != NULL ? v->serial : "", stamp);
	}
	buf_printf(out, "revoked: %s\n", v->revoked ? "yes" : "no");
	buf_printf(out, "weak digest: %s\n",
		   v->weak_digest ? "yes (SHA-1; needs an endorser with --allow-sha1)" : "no");
	buf_printf(out, "other purpose: %s\n", v->other_purpose ?
		   "yes (no e-mail certificate; needs an endorser with --any-purpose)" : "no");
	buf_putc(out, '\n');
	buf_add(out, v->payload.data, v->payload.len);
}

int
main(int argc, char **argv)
{
	CLEANUP_BUF struct buf message = BUF_INIT, out = BUF_INIT;
	struct options options = { false, NULL };
	struct err err = { 0, CODE_NONE, "" }, unread = { 0, CODE_NONE, "" };
	struct trustdir *trust = NULL;
	struct verdict verdict;
	int rc, status;

	digest_setup();
	io_fill_std_fds();
	process_close_from(STDERR_FILENO + 1);
	sandbox_clean_environment(NULL);
	status = parse_options(argc, argv, &options);
	if (status != 0)
		return status - 1;

	verdict_init(&verdict);
	rc = prepare(&options, &trust, &err);
	if (read_message(&message, rc == 0 ? &err : &unread) != 0 && rc == 0)
		rc = err.rc;
	if (rc == 0)
		smime_verify(trust, message.data, message.len, &verdict);
	else
		refuse(&verdict, rc, &err);

	sandbox_board_get(SANDBOX_VERIFIER, &verdict.sandbox);
	if (options.show)
		describe(&verdict, &out);
	else
		verdict_encode(&verdict, &out);
	status = !options.show || verdict.rc == 0 ? EXIT_DONE : code_exit(verdict.code);
	if (io_write_all(STDOUT_FILENO, out.data, out.len) != 0)
		status = EXIT_TEMPORARY;
	verdict_release(&verdict);
	trustdir_free(trust);
	return status;
}
