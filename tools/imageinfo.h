/*
 * imageinfo.h - an image together with the state of its object: what a user calls its state.
 */
#ifndef VMI_IMAGEINFO_H
#define VMI_IMAGEINFO_H

#include "core/catalogue.h"
#include "core/err.h"

/*
 * available, selected, verified or failed, as far as rows can tell: whether a daemon fetches it at
 * this moment, or is healing it, stands in the mount.  error gets the last failure ("" if none);
 * caller frees.
 */
const char *imageinfo_state(struct catalogue *c, const struct image_row *row, char **error);

#endif
