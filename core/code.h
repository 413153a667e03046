/*
 * code.h - the refusal codes that users, scripts and logs see.
 *
 * 10-38 are vmcatcher's, 40-55 are ours.  The numbers never change their meaning.
 */
#ifndef VMI_CODE_H
#define VMI_CODE_H

enum code {
	CODE_NONE = 0,
	CODE_DOWNLOAD = 10,		/* the list could not be downloaded */
	CODE_SIGNATURE = 11,		/* signature or certificate refused */
	CODE_DN = 12,			/* hv:dn or hv:ca differ from the certificate */
	CODE_NOT_LINKED = 13,		/* endorser not registered or not linked */
	CODE_NO_ANCHORS = 14,		/* no trust anchors */
	CODE_DATABASE = 15,
	CODE_SAME_VERSION = 16,		/* same version, other bytes */
	CODE_LOWER_VERSION = 17,
	CODE_LIST_ID = 31,		/* list identifier differs */
	CODE_NEW_IMAGE = 32,		/* new image refused by policy */
	CODE_FUTURE = 33,		/* created in the future */
	CODE_EXPIRED = 34,		/* expired, or an image entry is malformed */
	CODE_JSON = 37,			/* not JSON */
	CODE_NOT_LIST = 38,		/* not an image list */
	CODE_BLOCK_DIGEST = 40,		/* block digest and SHA-512 disagree */
	CODE_SIZE = 41,
	CODE_DIGEST = 42,		/* image digest differs */
	CODE_TOO_MUCH = 43,		/* more data than signed */
	CODE_SLOW = 44,			/* unreachable, too slow or no answer */
	CODE_RANGE = 45,		/* range or validator inconsistent */
	CODE_LIMIT = 46,		/* a compiled-in or configured limit */
	CODE_JSON_STRICT = 47,		/* JSON, but not strict (duplicate key, bad UTF-8) */
	CODE_IDENTIFIER = 48,		/* unsafe or colliding identifier */
	CODE_WEAK = 49,			/* weak algorithm or key */
	CODE_CRL = 50,			/* CRL missing, expired or forged */
	CODE_NAMESPACE = 51,		/* subject outside the CA's namespace */
	CODE_FULL = 52,			/* cache full */
	CODE_CORRUPT = 53,		/* local corruption */
	CODE_CLOCK = 54,
	CODE_BUSY = 55,			/* busy or locked */
};

/* Exit statuses of vmimagectl. */
enum exit_status {
	EXIT_DONE = 0,
	EXIT_SOME_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_UNKNOWN = 3,
	EXIT_REFUSED = 4,
	EXIT_TEMPORARY = 5,
	EXIT_NO_DAEMON = 6,
	EXIT_PERMISSION = 7,
	EXIT_NO_SPACE = 8,
};

/* The errno value (positive) that stands for a refusal at the FUSE edge and inside core. */
int code_errno(enum code code);

/* The exit status for a refusal code: 10, 44, 54, 55 give 5; 15, 53 give 1; 52 gives 8; rest 4. */
int code_exit(enum code code);

#endif
