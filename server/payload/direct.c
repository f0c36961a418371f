/* SPDX-License-Identifier: BSD-3-Clause */
/* Payload in place, every address checked against the windows that the guest has registered. */
#include "server/payload/in_place.h"
#include "server/core/windows.h"

static inline void *window_ptr(struct vio_squeue *q, struct ioba at, uint64_t len, uint8_t perm,
			       uint8_t *why)
{
	return vio_window_ptr(q->windows, at, len, perm, &q->window_hint, why);
}

static int direct_attach(struct vio_squeue *q, struct vio_err *err)
{
	(void)err;
	q->window_hint = 0;
	q->prev_hdr = NULL;
	return 0;
}

static void direct_detach(struct vio_squeue *q)
{
	q->prev_hdr = NULL;
}

VIO_IN_PLACE_OPS(direct, window_ptr);

const struct vio_payload_ops vio_payload_direct = {
	.name = "direct",
	.attach = direct_attach,
	.detach = direct_detach,
	.fetch = direct_fetch,
	.read = direct_read_once,
	.get = direct_get,
	.plain = direct_plain,
	.put = direct_put,
	.move = direct_move,
	.status = direct_status,
};
