/* SPDX-License-Identifier: BSD-3-Clause */
#include "guest/front/front.h"
#include "vio/cycles.h"

void vio_front_init(struct vio_front *f, const struct vio_front_ops *ops, struct phyp_part *part,
		    struct vio_mem *mem, const struct vio_transport_cfg *cfg)
{
	f->ops = ops;
	f->part = part;
	f->mem = mem;
	f->unit = cfg->unit;
	f->say = cfg->say;
	f->say_ctx = cfg->say_ctx;
	f->give_up = f->in_doubt = UINT32_MAX;
	f->mem_size = phyp_mem_size(part);
	f->lmb_size = phyp_lmb_size(part);
	vio_gate_init(&f->gate);
}

void vio_front_tune(struct vio_front *f, const struct vio_arm *arm, uint16_t queue_size,
		    const struct vio_front_waits *w)
{
	f->notify = vio_notify_level(arm->notify);
	f->spin_ns = w->spin_ns;
	f->idle_ns = w->idle_ns;
	f->give_way = w->give_way;
	f->idle_ticks = vio_muldiv(w->idle_ns, phyp_tick_hz(f->part), 1000000000ull);
	f->queue_size = queue_size;
}

void vio_front_queue(struct vio_front *f, struct vio_fq *q, unsigned index, struct phyp_vcpu *vcpu)
{
	q->f = f;
	q->index = (uint16_t)index;
	q->vcpu = vcpu;
	q->cnt = phyp_vcpu_counters(vcpu);
	f->q[index] = q;
	if (f->n_queues <= index)
		f->n_queues = (uint16_t)(index + 1);
}

/* USED messages to the queues that they are for; their owners may be asleep. */
static void spread(struct vio_fq *q, uint64_t used)
{
	struct vio_front *f = q->f;

	while (used) {
		struct vio_fq *to = f->q[__builtin_ctzll(used)];

		used &= used - 1;
		if (!to)
			continue;
		vio_store_release(&to->pending, 1); /* pair U */
		if (to->vcpu != q->vcpu)
			phyp_vcpu_prod(to->vcpu);
	}
}

bool vio_fq_look_at_crq(struct vio_fq *q)
{
	uint64_t used;
	enum vio_transport_state s = vio_transport_poll(q->f->t, q->vcpu, &used);

	if (vio_unlikely(used != 0))
		spread(q, used);
	return vio_likely(s == VIO_T_RUNNING);
}

static bool fq_arm(void *p)
{
	struct vio_fq *q = p;

	return vio_vring_arm(q->vr);
}

static void fq_park(void *p)
{
	vio_fq_park(p);
}

const struct vio_notify_end vio_fq_end = {.arm = fq_arm, .park = fq_park};

void vio_fq_park(struct vio_fq *q)
{
	vio_vring_park(q->vr);
	q->notify.ask = VIO_ASK_PARKED;
}

void vio_fq_kick(struct vio_fq *q)
{
	int rc = vio_transport_kick(q->f->t, q->vcpu, q->index);

	q->kick_due = rc == -EAGAIN;
	if (vio_likely(rc == 0))
		vio_counter_add(&q->cnt->kicks, 1);
}

void vio_fq_publish(struct vio_fq *q)
{
	if (q->f->notify->always ? vio_vring_publish_always(q->vr) : vio_vring_publish(q->vr))
		vio_fq_kick(q);
}
