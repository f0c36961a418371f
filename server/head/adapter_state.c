/* SPDX-License-Identifier: BSD-3-Clause */
/* What every other part of an adapter tells the rest: attention, what queues are to do, what telemetry may see. */
#include "server/head/adapter_priv.h"

void vio_aattend(struct vio_adapter *a)
{
	vio_store_release(&a->attention, true);
}

void vio_awake(struct vio_adapter *a, struct vio_squeue *q)
{
	if (q->vcpu != a->vcpu)
		phyp_vcpu_prod(q->vcpu);
}

void vio_actl(struct vio_adapter *a, enum vio_sq_ctl ctl)
{
	struct vio_squeue *q;

	vio_aqueues(a, i, q)
	{
		vio_store_release(&q->ctl, (uint8_t)ctl); /* pair K */
		vio_awake(a, q);
	}
}

void vio_aseen_update(struct vio_adapter *a)
{
	struct vio_aseen *s = &a->seen;
	uint64_t bytes = 0;

	for (unsigned i = 0; a->windows && i < a->windows->n; i++)
		bytes += a->windows->w[i].len;
	vio_store_relaxed(&s->state, (uint8_t)a->fsm.state);
	vio_store_relaxed(&s->version, a->fsm.version);
	vio_store_relaxed(&s->ring, a->ring);
	vio_store_relaxed(&s->payload, a->payload);
	vio_store_relaxed(&s->notify, a->notify);
	vio_store_relaxed(&s->queues, (uint16_t)__builtin_popcountll(a->active));
	vio_store_relaxed(&s->features, a->features);
	vio_store_relaxed(&s->windows, a->windows ? a->windows->n : 0);
	vio_store_relaxed(&s->window_bytes, bytes);
}
