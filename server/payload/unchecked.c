/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Payload in place without any check: an I/O bus address plus one constant is the pointer. What
 * checking costs is the difference to level direct. An upper bound for experiments: a guest can
 * make the server read, write or fault on any address, so a server offers this level only when it
 * is told to.
 */
#include "server/payload/in_place.h"
#include "server/core/windows.h"

/* The constant is kept where the queue keeps a pointer: the "address" of IOBA 0. */
static inline void *offset_ptr(struct vio_squeue *q, struct ioba at, uint64_t len, uint8_t perm,
			       uint8_t *why)
{
	(void)len, (void)perm, (void)why;
	return (void *)((uintptr_t)q->payload_priv + (uintptr_t)at.v);
}

static int unchecked_attach(struct vio_squeue *q, struct vio_err *err)
{
	const struct vio_wtable *t = vio_load_acquire(q->windows_src); /* pair R */
	bool found = false;

	for (unsigned i = 0; t && i < t->n; i++) {
		uintptr_t delta = (uintptr_t)t->w[i].va - (uintptr_t)t->w[i].at.v;

		if (t->w[i].role != VIO_WINDOW_BUFFERS)
			continue;
		if (found && delta != (uintptr_t)q->payload_priv)
			return vio_err_set(
				err, -ENOTSUP,
				"queue %u: payload unchecked needs all buffer windows at one distance from their addresses; register one window, or choose payload direct",
				q->index);
		q->payload_priv = (void *)delta;
		found = true;
	}
	q->prev_hdr = NULL;
	if (!found)
		return vio_err_set(
			err, -ENOTSUP,
			"queue %u: payload unchecked needs a buffer window before DRIVER_OK",
			q->index);
	return 0;
}

static void unchecked_detach(struct vio_squeue *q)
{
	q->payload_priv = NULL;
	q->prev_hdr = NULL;
}

VIO_IN_PLACE_OPS(unchecked, offset_ptr);

const struct vio_payload_ops vio_payload_unchecked = {
	.name = "unchecked",
	.attach = unchecked_attach,
	.detach = unchecked_detach,
	.fetch = unchecked_fetch,
	.read = unchecked_read_once,
	.get = unchecked_get,
	.plain = unchecked_plain,
	.put = unchecked_put,
	.move = unchecked_move,
	.status = unchecked_status,
};
