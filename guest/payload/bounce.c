/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Payload bounce: the device sees a buffer of the pool; the guest's CPU copies into it before and
 * out of it after.
 */
#include "guest/payload/slots.h"

static int bounce_create(const struct vio_gpayload_cfg *cfg, struct vio_gpayload **out,
			 struct vio_err *err)
{
	return vio_slots_create(&vio_gpayload_bounce, cfg, out, err);
}

static int bounce_get(struct vio_gpayload *p, struct vio_gbuf *const b[], unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		int rc = vio_slots_get(vio_slots_of(p), b[i]);

		if (vio_unlikely(rc))
			return vio_slots_answer(i, rc);
	}
	return (int)n;
}

static void bounce_put(struct vio_gpayload *p, struct vio_gbuf *const b[], unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		vio_slots_put(vio_slots_of(p), b[i]);
}

const struct vio_gpayload_ops vio_gpayload_bounce = {
	.name = "bounce",
	.needs_bounce = true,
	.create = bounce_create,
	.destroy = vio_slots_destroy,
	.get = bounce_get,
	.put = bounce_put,
};
