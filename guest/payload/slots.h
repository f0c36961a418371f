/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bounce slots: what the levels bounce and copybreak share. Inside of guest/payload/ only. One
 * thread.
 */
#ifndef VIO_GUEST_PAYLOAD_SLOTS_H
#define VIO_GUEST_PAYLOAD_SLOTS_H

#include "guest/payload/payload.h"

#define VIO_SLOT_NONE UINT32_MAX /* in struct vio_gbuf: in place */

struct vio_slots {
	struct vio_gpayload p; /* first: the level's public head */
	uint8_t *base;         /* of slot 0, as this process sees it */
	uint32_t *free;        /* a stack: the slot freed last is still in this core's cache */
	uint32_t n_free;
};

static inline struct vio_slots *vio_slots_of(struct vio_gpayload *p)
{
	return vio_container_of(p, struct vio_slots, p);
}

/* vio_gpayload_ops.create and .destroy of both levels but for ops. -EINVAL, -ENOMEM, with a sentence. */
int vio_slots_create(const struct vio_gpayload_ops *ops, const struct vio_gpayload_cfg *cfg,
		     struct vio_gpayload **out, struct vio_err *err);
void vio_slots_destroy(struct vio_gpayload *p);

/*
 * Give `b` a slot and copy in what the device reads. 0; -EAGAIN no slot free; -EMSGSIZE; -EFAULT
 * not guest memory. Data path.
 */
int vio_slots_get(struct vio_slots *s, struct vio_gbuf *b);
/* Copy out what the device wrote, free the slot. Data path. */
void vio_slots_put(struct vio_slots *s, struct vio_gbuf *b);

/* What get() answers after `done` buffers when the next one failed with rc. */
static inline int vio_slots_answer(unsigned done, int rc)
{
	return done > 0 ? (int)done : rc == -EAGAIN ? 0 : rc;
}

#endif
