#include "config.h"
#include "code.h"

#include <errno.h>

int
code_errno(enum code code)
{
	switch (code) {
	case CODE_NONE:
		return EIO;
	case CODE_DOWNLOAD:
		return EHOSTUNREACH;
	case CODE_SIGNATURE:
	case CODE_DN:
	case CODE_NOT_LINKED:
	case CODE_NO_ANCHORS:
	case CODE_WEAK:
	case CODE_CRL:
	case CODE_NAMESPACE:
		return EKEYREJECTED;
	case CODE_DATABASE:
	case CODE_CORRUPT:
		return EIO;
	case CODE_SAME_VERSION:
	case CODE_LOWER_VERSION:
		return ESTALE;
	case CODE_LIST_ID:
	case CODE_NEW_IMAGE:
	case CODE_JSON:
	case CODE_NOT_LIST:
	case CODE_JSON_STRICT:
	case CODE_IDENTIFIER:
		return EPROTO;
	case CODE_FUTURE:
	case CODE_EXPIRED:
		return EKEYEXPIRED;
	case CODE_BLOCK_DIGEST:
	case CODE_SIZE:
	case CODE_DIGEST:
	case CODE_TOO_MUCH:
	case CODE_RANGE:
		return EBADMSG;
	case CODE_SLOW:
		return ETIMEDOUT;
	case CODE_LIMIT:
		return EOVERFLOW;
	case CODE_FULL:
		return ENOSPC;
	case CODE_CLOCK:
	case CODE_BUSY:
		return EBUSY;
	}
	return EIO;
}

int
code_exit(enum code code)
{
	switch (code) {
	case CODE_NONE:
	case CODE_DATABASE:
	case CODE_CORRUPT:
		return EXIT_SOME_FAILED;
	case CODE_DOWNLOAD:
	case CODE_SLOW:
	case CODE_CLOCK:
	case CODE_BUSY:
		return EXIT_TEMPORARY;
	case CODE_FULL:
		return EXIT_NO_SPACE;
	case CODE_SIGNATURE:
	case CODE_DN:
	case CODE_NOT_LINKED:
	case CODE_NO_ANCHORS:
	case CODE_SAME_VERSION:
	case CODE_LOWER_VERSION:
	case CODE_LIST_ID:
	case CODE_NEW_IMAGE:
	case CODE_FUTURE:
	case CODE_EXPIRED:
	case CODE_JSON:
	case CODE_NOT_LIST:
	case CODE_BLOCK_DIGEST:
	case CODE_SIZE:
	case CODE_DIGEST:
	case CODE_TOO_MUCH:
	case CODE_RANGE:
	case CODE_LIMIT:
	case CODE_JSON_STRICT:
	case CODE_IDENTIFIER:
	case CODE_WEAK:
	case CODE_CRL:
	case CODE_NAMESPACE:
		return EXIT_REFUSED;
	}
	return EXIT_REFUSED;
}
