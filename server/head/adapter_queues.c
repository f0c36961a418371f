/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Queues of an adapter: made at DRIVER_OK, controlled through `ctl`, freed when nobody polls them
 * any more.
 */
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "server/head/adapter_priv.h"
#include "server/payload/payload.h"
#include "server/ring/ring.h"

#define ALL_PARTS (1u << VIO_QUEUE_DESC | 1u << VIO_QUEUE_AVAIL | 1u << VIO_QUEUE_USED)

/* Inside the guest's DMA window? Whether it is mapped there shows when it is used. */
static bool in_window(const struct vio_adapter *a, struct ioba at, uint64_t len)
{
	const struct phyp_unit_info *u = a->u;

	return at.v >= u->remote_window.v &&
	       vio_range_ok(at.v - u->remote_window.v, len, u->remote_window_bytes);
}

/* Bit mask of the announced queues, 0 when one is incomplete or out of place. */
static uint64_t announced(struct vio_adapter *a)
{
	uint64_t mask = 0;

	for (unsigned i = 0; i < a->cfg.num_queues; i++) {
		struct vio_aplace *p = &a->place[i];
		uint64_t len[3];

		if (p->have == 0)
			continue;
		if (p->size == 0)
			p->size = a->cfg.queue_size;
		vio_ring_parts(a->features, p->size, len);
		if (p->have != ALL_PARTS || !in_window(a, p->part[VIO_QUEUE_DESC], len[0]) ||
		    !in_window(a, p->part[VIO_QUEUE_AVAIL], len[1]) ||
		    !in_window(a, p->part[VIO_QUEUE_USED], len[2])) {
			vio_asay(
				a,
				"%s queue %u: its rings are not all announced, or not inside its DMA window",
				a->u->partner, i);
			return 0;
		}
		mask |= 1ull << i;
	}
	if (!mask)
		vio_asay(a, "%s: DRIVER_OK without any queue", a->u->partner);
	return mask;
}

/*
 * Telemetry reads a queue from a thread of its own at any time, also while the queue is made anew;
 * what it reads then may be of either life, and never half a number. So a queue is cleared by whole
 * words, and what telemetry reads is set, with relaxed stores.
 */
static void clear(struct vio_squeue *q)
{
	typedef uint64_t __attribute__((may_alias)) word;
	word *w = (word *)q;

	static_assert(sizeof(*q) % sizeof(*w) == 0, "whole words");
	for (size_t i = 0; i < sizeof(*q) / sizeof(*w); i++)
		vio_store_relaxed(&w[i], 0);
}

/* Everything but the levels' own. `slot` of `n`: which piece of the adapter's memory. */
static void fill(struct vio_adapter *a, struct vio_squeue *q, uint16_t index, unsigned slot,
		 unsigned n)
{
	const struct vio_aplace *p = &a->place[index];
	uint64_t share =
		(a->cfg.mem_len - VIO_ADAPTER_CRQ_BYTES) / n / CRQ_PAGE_BYTES * CRQ_PAGE_BYTES;
	uint64_t off = VIO_ADAPTER_CRQ_BYTES + slot * share;

	clear(q);
	q->ring = vio_ring_level(a->ring, a->features);
	q->payload = vio_payload_level(a->payload);
	vio_store_relaxed(&q->size, p->size);
	q->last_avail = q->used_idx = p->base;
	q->event_idx = a->features >> VIRTIO_RING_F_EVENT_IDX & 1;
	vio_notify_init(&q->notify, vio_notify_level(a->notify), q->event_idx);
	q->indirect = a->features >> VIRTIO_RING_F_INDIRECT_DESC & 1;
	q->in_order = a->features >> VIRTIO_F_IN_ORDER & 1;
	q->vcpu = a->vcpu; /* until it is assigned */
	q->windows = a->windows;
	q->windows_src = &a->windows;
	q->attention = &a->attention;
	q->dev = a->cfg.dev->kind->queue;
	q->liobn = a->u->liobn;
	q->remote_liobn = a->u->remote_liobn;
	q->unit = a->u->unit;
	vio_store_relaxed(&q->index, index);
	q->version = a->fsm.version;
	q->adapter = a;
	q->place = (struct vio_sq_place){p->size, p->part[VIO_QUEUE_DESC], p->part[VIO_QUEUE_AVAIL],
					 p->part[VIO_QUEUE_USED]};
	q->local_mem = (uint8_t *)a->cfg.mem + off;
	q->local_at = ioba_add(a->u->window, a->cfg.mem_gla.v + off);
	q->local_len = share;
	q->local_base = a->u->window;
}

static void tell_device(const struct vio_adapter *a, struct vio_squeue *q, bool there)
{
	for (unsigned i = 0; a->windows && i < a->windows->n; i++)
		vio_awindow_tell(a, q, &a->windows->w[i], there);
}

static void close_queue(struct vio_adapter *a, struct vio_squeue *q)
{
	if (q->payload)
		q->payload->detach(q);
	if (q->ring)
		q->ring->detach(q);
	if (q->dq) {
		tell_device(a, q, false);
		a->cfg.dev->kind->queue_close(q->dq);
	}
	free(q->req);
	q->dq = NULL;
	q->req = NULL;
}

static uint8_t open_queue(struct vio_adapter *a, struct vio_squeue *q)
{
	const struct vio_dev_kind *kind = a->cfg.dev->kind;
	size_t bytes = q->size * sizeof(q->req[0]);
	struct vio_err err = {""};
	bool no_store = false;
	int rc = -ENOMEM;

	vio_err_set(&err, rc, "queue %u: no memory for %u requests", q->index, q->size);
	q->req = aligned_alloc(VIO_CACHE_LINE, bytes);
	if (q->req) {
		memset(q->req, 0, bytes);
		rc = kind->queue_open(a->cfg.dev, q->size, &q->dq, &err);
	}
	if (rc == 0) {
		tell_device(a, q, true);
		rc = q->ring->attach(q, &err);
		if (rc == 0) {
			rc = q->payload->attach(q, &err);
			if (rc < 0)
				q->payload = NULL; /* nothing to detach */
		} else {
			q->ring = NULL;
			q->payload = NULL;
		}
	} else {
		no_store = true;
		q->ring = NULL;
		q->payload = NULL;
	}
	if (rc == 0) {
		if (kind->queue_ready)
			kind->queue_ready(q);
		return VIO_ST_OK;
	}
	vio_asay(a, "%s %s", a->u->partner, err.msg);
	if (no_store)
		a->op_errno = -rc;
	return q->fault != VIO_ST_OK ? q->fault : no_store ? VIO_ST_STORE : VIO_ST_QUEUE;
}

/* The alias that this choice of levels needs on its data path, and no more (docs/decisions/0002). */
static void set_alias(struct vio_adapter *a)
{
	enum phyp_alias kind = PHYP_ALIAS_TRANSIENT;
	struct vio_err err = {""};

	if (!vio_ring_in_place(a->ring) || !vio_payload_in_place(a->payload))
		kind = PHYP_ALIAS_RDMA;
	else if (!vio_notify_level(a->notify)->looks)
		kind = PHYP_ALIAS_CRQ;
	if (phyp_alias_set(a->part, a->u->unit, kind, &err) < 0)
		vio_asay(
			a,
			"%s: %s; each hypervisor call will map the guest's pages anew, which is slow",
			a->u->partner, err.msg);
}

static void announce(struct vio_adapter *a)
{
	uint64_t bytes = 0;
	unsigned n = a->windows ? a->windows->n : 0;

	for (unsigned i = 0; i < n; i++)
		bytes += a->windows->w[i].len;
	vio_asay(
		a,
		"%s: running: protocol %u, %u queue(s), ring %s, payload %s, notify %s, %u window(s) of %llu KiB in all",
		a->u->partner, a->fsm.version, (unsigned)__builtin_popcountll(a->active),
		vio_ring_level(a->ring, a->features)->name, vio_payload_name(a->payload),
		vio_notify_name(a->notify), n, (unsigned long long)bytes >> 10);
}

uint8_t vio_astart(struct vio_adapter *a)
{
	uint64_t want = announced(a);
	uint8_t why = want ? VIO_ST_OK : VIO_ST_QUEUE;

	if (why == VIO_ST_OK && a->cfg.dev->kind->start)
		why = a->cfg.dev->kind->start(a->cfg.dev, a->features, want);
	if (why != VIO_ST_OK)
		return why;
	set_alias(a);
	a->wanted = want;
	a->opening = 0;
	vio_store_relaxed(&a->rescinded,
			  false); /* what was taken back before is met when it is used */
	return VIO_ST_OK;
}

/* All queues are there. */
static void activate(struct vio_adapter *a)
{
	struct vio_squeue *q;

	a->halted = false;
	/* Pair T: the queues before the bits that show them. */
	vio_store_release(&a->active, a->opening);
	a->opening = 0;
	vio_aqueues(a, i, q) a->env.assign(a->env.ctx, q);
	vio_aqueues(a, i, q)
	{
		if (a->cfg.dev->kind->queue_on)
			a->cfg.dev->kind->queue_on(q);
	}
	announce(a);
}

/* The next queue that is wanted. */
static uint8_t open_next(struct vio_adapter *a)
{
	const uint16_t i = (uint16_t)__builtin_ctzll(a->wanted & ~a->opening);
	const unsigned slot = (unsigned)__builtin_popcountll(a->opening);

	fill(a, a->q[i], i, slot, (unsigned)__builtin_popcountll(a->wanted));
	a->opening |= 1ull << i;
	return open_queue(a, a->q[i]);
}

uint8_t vio_astart_step(struct vio_adapter *a, bool *done)
{
	uint8_t why = VIO_ST_OK;

	if (a->step == VIO_ASTEP_REACH) {
		if (phyp_alias_step(a->part, a->u->unit, VIO_ADAPTER_MAP_BYTES) > 0)
			return VIO_ST_OK;
		a->step = VIO_ASTEP_OPEN;
	}
	/* A store may have been told of the pages already, and pinned them. */
	if (vio_xchg_acq_rel(&a->rescinded, false)) /* pair Q */
		why = VIO_ST_RESCINDED;
	if (why == VIO_ST_OK && a->opening != a->wanted)
		why = open_next(a);
	if (why != VIO_ST_OK) {
		vio_afree_queues(a);
		phyp_alias_set(a->part, a->u->unit, PHYP_ALIAS_TRANSIENT, NULL);
		return why;
	}
	*done = a->opening == a->wanted;
	if (*done)
		activate(a);
	return VIO_ST_OK;
}

bool vio_adrained(const struct vio_adapter *a)
{
	struct vio_squeue *q;

	vio_aqueues(a, i, q)
	{
		/* In this order: under a hold the one only falls, to the other, which only rises. */
		uint16_t in_flight = vio_load_acquire(&q->in_flight); /* pair Q */

		if (in_flight != vio_load_acquire(&q->parked)) /* pair Q */
			return false;
	}
	return true;
}

void vio_aunassign(struct vio_adapter *a)
{
	struct vio_squeue *q;

	vio_aqueues(a, i, q)
	{
		if (a->cfg.dev->kind->queue_off)
			a->cfg.dev->kind->queue_off(q);
		a->env.unassign(a->env.ctx, q);
	}
}

bool vio_afree_queue(struct vio_adapter *a)
{
	a->closing |= a->active | a->opening;
	a->opening = 0;
	vio_store_relaxed(&a->active, 0);
	a->halted = false;
	if (a->closing) {
		close_queue(a, a->q[__builtin_ctzll(a->closing)]);
		a->closing &= a->closing - 1;
	}
	return a->closing == 0;
}

void vio_afree_queues(struct vio_adapter *a)
{
	while (!vio_afree_queue(a))
		;
}

static void needs_reset(struct vio_adapter *a, uint8_t why, uint16_t queue, uint64_t detail)
{
	struct vio_msg m;

	vio_actl(a, VIO_SQ_STOP);
	a->halted = true;
	vio_store_relaxed(&a->seen.last_fault, why);
	vio_counter_add(&a->seen.needs_resets, 1);
	vio_sfsm_needs_reset(&a->fsm, why, queue, detail, &m);
	vio_asend_msg(a, &m);
	vio_aseen_update(a);
}

void vio_afaults(struct vio_adapter *a)
{
	bool rescinded;
	struct vio_squeue *q;

	if (a->op == VIO_AOP_START) /* which looks itself */
		return;
	rescinded = vio_xchg_acq_rel(&a->rescinded, false); /* pair Q */
	if (a->fsm.state != VIO_S_RUNNING)
		return;
	if (rescinded) {
		needs_reset(a, VIO_ST_RESCINDED, 0xffff, 0);
		vio_asay(a, "%s: %s, a window in use; device stopped until the guest resets it",
			 a->u->partner, vio_status_text(VIO_ST_RESCINDED));
		return;
	}
	vio_aqueues(a, i, q)
	{
		uint8_t why = vio_load_acquire(&q->fault); /* pair Q */

		if (why == VIO_ST_OK)
			continue;
		needs_reset(a, why, q->index, q->fault_detail);
		vio_asay(a, "%s queue %u: %s (0x%llx); device stopped until the guest resets it",
			 a->u->partner, q->index, vio_status_text(why),
			 (unsigned long long)q->fault_detail);
		return;
	}
}

void vio_akick(struct vio_adapter *a, const struct vio_msg *m)
{
	struct vio_squeue *q;

	if (m->arg16 >= a->cfg.num_queues || !(a->active >> m->arg16 & 1)) {
		vio_adone(a, m, VIO_ST_QUEUE);
		return;
	}
	q = a->q[m->arg16];
	vio_store_release(&q->kicked, true); /* pair K */
	vio_awake(a, q);
}
