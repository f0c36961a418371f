/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Payload copybreak: a copy of a small buffer costs less than its mapping, so what is shorter than
 * cfg.copybreak bounces and the rest is used in place.
 */
#include "guest/payload/slots.h"

#define DEFAULT_COPYBREAK 4096u

static int copybreak_create(const struct vio_gpayload_cfg *cfg, struct vio_gpayload **out,
			    struct vio_err *err)
{
	struct vio_gpayload_cfg c = *cfg;

	if (c.copybreak == 0)
		c.copybreak = DEFAULT_COPYBREAK;
	if (c.slot_len < c.copybreak - 1)
		return vio_err_set(
			err, -EINVAL,
			"payload copybreak: buffers shorter than %u bytes bounce, but a bounce buffer has only %u",
			c.copybreak, c.slot_len);
	return vio_slots_create(&vio_gpayload_copybreak, &c, out, err);
}

static int copybreak_get(struct vio_gpayload *p, struct vio_gbuf *const b[], unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		int rc = 0;

		if (b[i]->len < p->cfg.copybreak) {
			rc = vio_slots_get(vio_slots_of(p), b[i]);
		} else {
			b[i]->dev = b[i]->app;
			b[i]->slot = VIO_SLOT_NONE;
		}
		if (vio_unlikely(rc))
			return vio_slots_answer(i, rc);
	}
	return (int)n;
}

static void copybreak_put(struct vio_gpayload *p, struct vio_gbuf *const b[], unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (b[i]->slot != VIO_SLOT_NONE)
			vio_slots_put(vio_slots_of(p), b[i]);
	}
}

const struct vio_gpayload_ops vio_gpayload_copybreak = {
	.name = "copybreak",
	.needs_bounce = true,
	.create = copybreak_create,
	.destroy = vio_slots_destroy,
	.get = copybreak_get,
	.put = copybreak_put,
};
