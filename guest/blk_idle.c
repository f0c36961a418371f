/* SPDX-License-Identifier: BSD-3-Clause */
/* When a queue has nothing to do: spin or sleep as the notification level says, without losing a wake-up. */
#include <sched.h>

#include "guest/blk_priv.h"
#include "vio/cycles.h"

bool vio_blk_one_core(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) == 1;
}

/* End of interrupt first, then everything that it could have been for. True: don't sleep. */
static bool something(struct blk_queue *q)
{
	phyp_irq_take(q->vcpu);
	if (vio_xchg_acq_rel(&q->prodded, 0)) /* pair U */
		return true;
	if (!blk_look_at_crq(q))
		return true;
	if (q->b->notify == VIO_NOTIFY_CRQ)
		return vio_load_acquire(&q->pending); /* pair U */
	return vio_vring_has_used(q->vr);
}

/* Level poll: true while it is too early to sleep. */
static bool keep_polling(struct blk_queue *q)
{
	struct vio_blk *b = q->b;

	if (b->notify != VIO_NOTIFY_POLL)
		return false;
	if (vio_unlikely(b->cfg.give_way))
		sched_yield();
	if (b->cfg.idle_ns == UINT64_MAX)
		return true;
	if (q->idle_tick == 0) {
		q->idle_tick = vio_ticks();
		return true;
	}
	return vio_ticks() - q->idle_tick < b->idle_ticks;
}

/* Asks for notifications; true: there is something already. Inside the gate. */
static bool arm(struct blk_queue *q)
{
	if (q->epoch != q->b->epoch || q->n_ret > 0 || q->kick_due || q->redo_next < q->n_redo)
		return true;
	if (q->b->notify == VIO_NOTIFY_CRQ)
		return false;
	if (q->b->notify == VIO_NOTIFY_POLL || !q->armed) {
		q->armed = true;
		return vio_vring_arm(q->vr);
	}
	return false;
}

void vio_blk_idle(struct vio_blk *b, unsigned qi, uint64_t timeout_ns)
{
	struct blk_queue *q = &b->q[qi];
	bool busy, spin = b->notify != VIO_NOTIFY_POLL;

	if (!vio_gate_enter(&b->gate, &q->pass)) {
		/* Nothing to spin for: recovery is driven by polls. */
		if (!vio_load_acquire(&b->dead) && !vio_xchg_acq_rel(&q->prodded, 0))
			phyp_vcpu_wait(q->vcpu, 0, timeout_ns < BLK_NAP_NS ? timeout_ns : BLK_NAP_NS);
		return;
	}
	busy = keep_polling(q) || arm(q) || something(q);
	vio_gate_leave(&q->pass);
	if (busy)
		return;
	/* The adapter's interrupt goes to queue 0; the others are prodded by whoever sees their message. */
	if (qi != 0 && timeout_ns > BLK_NAP_NS)
		timeout_ns = BLK_NAP_NS;
	phyp_vcpu_wait(q->vcpu, spin ? b->cfg.spin_ns : 0, timeout_ns);
	if (b->notify != VIO_NOTIFY_POLL)
		return;
	q->idle_tick = 0;
	if (vio_gate_enter(&b->gate, &q->pass)) {
		vio_vring_park(q->vr);
		vio_gate_leave(&q->pass);
	}
}

void vio_blk_prod(struct vio_blk *b, unsigned qi)
{
	vio_store_release(&b->q[qi].prodded, 1); /* pair U */
	phyp_vcpu_prod(b->q[qi].vcpu);
}

unsigned vio_blk_outstanding(const struct vio_blk *b, unsigned qi)
{
	return b->info.depth - b->q[qi].n_free + b->q[qi].n_ret;
}
