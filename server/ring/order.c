/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/ring/order.h"

#include <stdlib.h>

static struct vio_order *order_new(uint16_t size)
{
	struct vio_order *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->mask = (uint16_t)(size - 1);
	o->head = calloc(size, sizeof(o->head[0]));
	o->chain = calloc(size, sizeof(o->chain[0]));
	return o;
}

int vio_heads_new(struct vio_squeue *q, struct vio_err *err)
{
	q->taken = calloc(q->size, sizeof(q->taken[0]));
	if (q->in_order)
		q->order = order_new(q->size);
	if (q->taken && (!q->in_order || (q->order && q->order->head && q->order->chain)))
		return 0;
	vio_heads_free(q);
	return vio_err_set(err, -ENOMEM, "queue %u: no memory for %u heads", q->index, q->size);
}

void vio_heads_free(struct vio_squeue *q)
{
	free(q->taken);
	q->taken = NULL;
	if (q->order) {
		free(q->order->head);
		free(q->order->chain);
	}
	free(q->order);
	q->order = NULL;
}
