/*
 * imageinfo.h - an image together with the state of its object: what a user calls its state.
 */
#ifndef VMI_IMAGEINFO_H
#define VMI_IMAGEINFO_H

#include "core/catalogue.h"
#include "core/digest.h"

struct imageinfo {
	/*
	 * available, selected, verified, degraded or failed, as far as rows can tell: whether a
	 * daemon fetches it at this moment, or is healing it, stands in the mount.
	 */
	const char *state;
	char *error;			/* as its file says, "" if none */
	char root[DIGEST_HEX + 1];	/* the fs-verity digest that is signed for it, "" if none */
	/* Seconds UTC of its last use, coarsely; 0: none is known. */
	int64_t used;
};

/* rooted: with root; otherwise it stays "", and a list of very many images is there sooner. */
int imageinfo_get(struct imageinfo *info, struct catalogue *c, const struct image_row *row,
		  bool rooted, struct err *err);
void imageinfo_release(struct imageinfo *info);

static inline void
cleanup_imageinfo_p(struct imageinfo *info)
{
	imageinfo_release(info);
}
#define CLEANUP_IMAGEINFO __attribute__((cleanup(cleanup_imageinfo_p)))

#endif
