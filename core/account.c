#include "config.h"
#include "account.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "buf.h"
#include "log.h"

enum { ROOM_MAX = 1 << 20 };	/* a user of a directory service may have long lines */

int
account_find(const char *name, struct account *out, struct err *err)
{
	struct passwd pw, *found = NULL;
	struct buf room = BUF_INIT;
	int rc;

	memset(out, 0, sizeof(*out));
	buf_reserve(&room, 4096);
	while ((rc = getpwnam_r(name, &pw, room.data, room.cap, &found)) == ERANGE &&
	       room.cap < ROOM_MAX)
		buf_reserve(&room, room.cap * 2);
	if (found != NULL) {
		out->name = xstrdup(pw.pw_name);
		out->home = xstrdup(pw.pw_dir);
		out->uid = pw.pw_uid;
		out->gid = pw.pw_gid;
		rc = 0;
	} else if (rc != 0) {
		rc = err_set(err, rc, "user '%s' cannot be looked up: %s", name,
			     strerrordesc_np(rc));
	} else {
		rc = err_set(err, ENOENT, "user '%s' does not exist", name);
	}
	buf_release(&room);
	return rc;
}

void
account_release(struct account *a)
{
	free(a->name);
	free(a->home);
	memset(a, 0, sizeof(*a));
}

static void __attribute__((noreturn))
die_half_done(const char *what)
{
	log_error("%s: %s: privileges are only partly dropped, giving up", what,
		  strerrordesc_np(errno));
	abort();
}

int
account_become(const struct account *a, struct err *err)
{
	uid_t real, effective, saved;

	if (geteuid() == a->uid && getuid() == a->uid)
		return 0;
	if (geteuid() != 0)
		return err_set(err, EPERM, "cannot become '%s': only root can", a->name);
	if (initgroups(a->name, a->gid) != 0)
		return err_set(err, errno, "the groups of '%s' cannot be had: %s", a->name,
			       strerrordesc_np(errno));
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (setresgid(a->gid, a->gid, a->gid) != 0)
		die_half_done("setresgid");
	if (setresuid(a->uid, a->uid, a->uid) != 0)
		die_half_done("setresuid");
	if (getresuid(&real, &effective, &saved) != 0 || real != a->uid ||
	    effective != a->uid || saved != a->uid)
		die_half_done("getresuid");
	return 0;
}
