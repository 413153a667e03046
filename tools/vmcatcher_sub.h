/*
 * vmcatcher_sub.h - what the files of vmcatcher_subscribe have in common.
 */
#ifndef VMI_VMCATCHER_SUB_H
#define VMI_VMCATCHER_SUB_H

#include "vmcatcher.h"

/*
 * The subscription that -u (its identifier) or -r (the URL that is polled, or hv:uri of its list)
 * means, word for word.  -ENOENT.  The caller subscription_row_release()s it in every case.
 */
int vmc_sub_find(struct vmc *v, const char *selector, struct subscription_row *out,
		 struct err *err);

/* What was given by -u and -r. */
struct vmc_values vmc_sub_selected(const struct vmc *v);

/* "['a', 'b']", as Python shows a list.  Caller frees. */
char *vmc_sub_shown(struct vmc_values values);

/* Applies what --uri-* and --imagelist-newimage-* say to a subscription. */
int vmc_sub_decorate(struct vmc *v, int64_t id, struct err *err);

/* Actions: each opens the catalogue, and returns the exit status. */
int vmc_sub_subscribe(struct vmc *v);	/* vmcatcher_update.c */
int vmc_sub_update(struct vmc *v);
int vmc_sub_info(struct vmc *v);	/* vmcatcher_subinfo.c */
int vmc_sub_image_list(struct vmc *v);
int vmc_sub_image_accept(struct vmc *v);	/* vmcatcher_policy.c */
int vmc_sub_image_refuse(struct vmc *v);

#endif
