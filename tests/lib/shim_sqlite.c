/*
 * shim_sqlite.c - the file layer of SQLite (its VFS), failing as told.
 *
 * A program that has SQLite gets a default VFS that is ours: each function counts, perhaps fails
 * with the code of the setting, and otherwise asks the one that was the default.  A file of ours is
 * a pointer to our functions, and behind it the whole file of the other one.
 *
 * SQLITE_IOERR becomes the code that the real function would give: IOERR_READ, IOERR_FSYNC ...
 * Files are told apart by their paths, as everywhere: "catalogue.db-wal".
 */
#undef _FORTIFY_SOURCE
#include "config.h"
#include "shim.h"

#include <errno.h>
#include <sqlite3.h>
#include <string.h>

#pragma weak sqlite3_vfs_find
#pragma weak sqlite3_vfs_register

struct file {
	sqlite3_file base;
	const char *name;	/* SQLite's own; NULL for a temporary file */
	sqlite3_file *real;	/* just behind this */
};

static sqlite3_vfs *real_vfs, our_vfs;
static sqlite3_io_methods our_methods;

/* 0, or the code to fail with. */
static int
fault(enum shim_call call, const char *name, int ioerr)
{
	int saved = errno, rc = SQLITE_OK;

	if (shim_strikes(call, -1, name, NULL))
		rc = errno == SQLITE_IOERR ? ioerr : errno;
	errno = saved;
	return rc;
}

static struct file *
file_of(sqlite3_file *f)
{
	return (struct file *)f;
}

static int
our_close(sqlite3_file *f)
{
	sqlite3_file *real = file_of(f)->real;

	return real->pMethods->xClose(real);
}

static int
our_read(sqlite3_file *f, void *data, int len, sqlite3_int64 off)
{
	sqlite3_file *real = file_of(f)->real;
	int rc = fault(CALL_XREAD, file_of(f)->name, SQLITE_IOERR_READ);

	return rc != SQLITE_OK ? rc : real->pMethods->xRead(real, data, len, off);
}

static int
our_write(sqlite3_file *f, const void *data, int len, sqlite3_int64 off)
{
	sqlite3_file *real = file_of(f)->real;
	int rc = fault(CALL_XWRITE, file_of(f)->name, SQLITE_IOERR_WRITE);

	return rc != SQLITE_OK ? rc : real->pMethods->xWrite(real, data, len, off);
}

static int
our_truncate(sqlite3_file *f, sqlite3_int64 len)
{
	sqlite3_file *real = file_of(f)->real;
	int rc = fault(CALL_XTRUNCATE, file_of(f)->name, SQLITE_IOERR_TRUNCATE);

	return rc != SQLITE_OK ? rc : real->pMethods->xTruncate(real, len);
}

static int
our_sync(sqlite3_file *f, int flags)
{
	sqlite3_file *real = file_of(f)->real;
	int rc = fault(CALL_XSYNC, file_of(f)->name, SQLITE_IOERR_FSYNC);

	return rc != SQLITE_OK ? rc : real->pMethods->xSync(real, flags);
}

static int
our_size(sqlite3_file *f, sqlite3_int64 *len)
{
	sqlite3_file *real = file_of(f)->real;
	int rc = fault(CALL_XSIZE, file_of(f)->name, SQLITE_IOERR_FSTAT);

	return rc != SQLITE_OK ? rc : real->pMethods->xFileSize(real, len);
}

static int
our_lock(sqlite3_file *f, int level)
{
	sqlite3_file *real = file_of(f)->real;
	int rc = fault(CALL_XLOCK, file_of(f)->name, SQLITE_IOERR_LOCK);

	return rc != SQLITE_OK ? rc : real->pMethods->xLock(real, level);
}

static int
our_unlock(sqlite3_file *f, int level)
{
	sqlite3_file *real = file_of(f)->real;

	return real->pMethods->xUnlock(real, level);
}

static int
our_is_reserved(sqlite3_file *f, int *reserved)
{
	sqlite3_file *real = file_of(f)->real;

	return real->pMethods->xCheckReservedLock(real, reserved);
}

static int
our_control(sqlite3_file *f, int op, void *arg)
{
	sqlite3_file *real = file_of(f)->real;

	return real->pMethods->xFileControl(real, op, arg);
}

static int
our_sector_size(sqlite3_file *f)
{
	sqlite3_file *real = file_of(f)->real;

	return real->pMethods->xSectorSize(real);
}

static int
our_characteristics(sqlite3_file *f)
{
	sqlite3_file *real = file_of(f)->real;

	return real->pMethods->xDeviceCharacteristics(real);
}

static int
our_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out)
{
	sqlite3_file *real = file_of(f)->real;
	int rc = fault(CALL_XSHMMAP, file_of(f)->name, SQLITE_IOERR_SHMMAP);

	return rc != SQLITE_OK ? rc : real->pMethods->xShmMap(real, page, size, extend, out);
}

/* What is given back is always taken. */
static int
our_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
	sqlite3_file *real = file_of(f)->real;
	int rc = SQLITE_OK;

	if ((flags & SQLITE_SHM_LOCK) != 0)
		rc = fault(CALL_XSHMLOCK, file_of(f)->name, SQLITE_IOERR_SHMLOCK);
	return rc != SQLITE_OK ? rc : real->pMethods->xShmLock(real, offset, n, flags);
}

static void
our_shm_barrier(sqlite3_file *f)
{
	sqlite3_file *real = file_of(f)->real;

	real->pMethods->xShmBarrier(real);
}

static int
our_shm_unmap(sqlite3_file *f, int remove)
{
	sqlite3_file *real = file_of(f)->real;

	return real->pMethods->xShmUnmap(real, remove);
}

static sqlite3_io_methods our_methods = {
	.iVersion = 2, .xClose = our_close, .xRead = our_read, .xWrite = our_write,
	.xTruncate = our_truncate, .xSync = our_sync, .xFileSize = our_size, .xLock = our_lock,
	.xUnlock = our_unlock, .xCheckReservedLock = our_is_reserved,
	.xFileControl = our_control, .xSectorSize = our_sector_size,
	.xDeviceCharacteristics = our_characteristics, .xShmMap = our_shm_map,
	.xShmLock = our_shm_lock, .xShmBarrier = our_shm_barrier, .xShmUnmap = our_shm_unmap,
};

static int
our_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *out_flags)
{
	struct file *ours = file_of(f);
	int rc = fault(CALL_XOPEN, name, SQLITE_CANTOPEN);

	(void)vfs;
	ours->base.pMethods = NULL;
	ours->name = name;
	ours->real = (sqlite3_file *)(ours + 1);
	ours->real->pMethods = NULL;
	if (rc == SQLITE_OK)
		rc = real_vfs->xOpen(real_vfs, name, ours->real, flags, out_flags);
	/* One that was opened half has to be closed, too. */
	if (rc == SQLITE_OK || ours->real->pMethods != NULL)
		ours->base.pMethods = &our_methods;
	return rc;
}

static int
our_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
	int rc = fault(CALL_XDELETE, name, SQLITE_IOERR_DELETE);

	(void)vfs;
	return rc != SQLITE_OK ? rc : real_vfs->xDelete(real_vfs, name, sync_dir);
}

static int
our_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
	int rc = fault(CALL_XACCESS, name, SQLITE_IOERR_ACCESS);

	(void)vfs;
	return rc != SQLITE_OK ? rc : real_vfs->xAccess(real_vfs, name, flags, out);
}

void
shim_wrap_sqlite(void)
{
	if (sqlite3_vfs_find == NULL || sqlite3_vfs_register == NULL)
		return;
	real_vfs = sqlite3_vfs_find(NULL);
	if (real_vfs == NULL)
		return;
	our_vfs = *real_vfs;
	our_vfs.zName = "shim";
	our_vfs.pNext = NULL;
	our_vfs.szOsFile = (int)sizeof(struct file) + real_vfs->szOsFile;
	our_vfs.xOpen = our_open;
	our_vfs.xDelete = our_delete;
	our_vfs.xAccess = our_access;
	sqlite3_vfs_register(&our_vfs, 1);
}
