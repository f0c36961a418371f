/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The application's buffer itself is what the device sees: the guest's half of the levels rdma,
 * direct and unchecked, which differ in what the server does.
 */
#include <stdlib.h>

#include "guest/payload/slots.h"

static int in_place_create(const struct vio_gpayload_cfg *cfg, struct vio_gpayload **out,
			   struct vio_err *err)
{
	struct vio_gpayload *p = calloc(1, sizeof(*p));

	if (!p)
		return vio_err_set(err, -ENOMEM, "payload in place: no memory");
	p->ops = &vio_gpayload_in_place;
	p->cfg = *cfg;
	*out = p;
	return 0;
}

static void in_place_destroy(struct vio_gpayload *p)
{
	free(p);
}

static int in_place_get(struct vio_gpayload *p, struct vio_gbuf *const b[], unsigned n)
{
	(void)p;
	for (unsigned i = 0; i < n; i++) {
		b[i]->dev = b[i]->app;
		b[i]->slot = VIO_SLOT_NONE;
	}
	return (int)n;
}

static void in_place_put(struct vio_gpayload *p, struct vio_gbuf *const b[], unsigned n)
{
	(void)p;
	(void)b;
	(void)n;
}

const struct vio_gpayload_ops vio_gpayload_in_place = {
	.name = "in place",
	.needs_bounce = false,
	.as_is = true,
	.create = in_place_create,
	.destroy = in_place_destroy,
	.get = in_place_get,
	.put = in_place_put,
};
