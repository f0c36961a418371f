/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * When a thread's queues have nothing to do: spin or sleep as the notification level says, without
 * losing a wake-up.
 */
#include <poll.h>
#include <sched.h>

#include "guest/front/front.h"
#include "vio/cycles.h"

bool vio_front_one_core(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) == 1;
}

/* End of interrupt first, then everything that it could have been for. True: don't sleep. */
static bool something(struct vio_fq *const q[], unsigned n)
{
	bool any = false;

	phyp_irq_take(q[0]->vcpu);
	if (vio_xchg_acq_rel(&q[0]->prodded, 0)) /* pair U */
		return true;
	if (!vio_fq_look_at_crq(q[0]))
		return true;
	for (unsigned i = 0; i < n; i++)
		any |= q[0]->f->notify->always ? vio_load_acquire(&q[i]->pending) != 0 /* pair U */
					       : vio_vring_has_used(q[i]->vr);
	return any;
}

/* Where the level looks: true while it is too early to sleep. */
static bool keep_polling(struct vio_fq *q)
{
	struct vio_front *f = q->f;

	if (!f->notify->looks)
		return false;
	if (vio_unlikely(f->give_way))
		sched_yield();
	if (f->idle_ns == UINT64_MAX)
		return true;
	if (q->idle_tick == 0) {
		q->idle_tick = vio_ticks();
		return true;
	}
	return vio_ticks() - q->idle_tick < f->idle_ticks;
}

/* Asks for notifications; true: there is something already. Inside the gate. */
static bool arm(struct vio_fq *q)
{
	if (q->epoch != q->f->epoch || q->kick_due)
		return true;
	return q->f->notify->driver.sleep(&q->notify, &vio_fq_end, q);
}

static bool front_arm_all(struct vio_fq *const q[], unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (arm(q[i]))
			return true;
	return false;
}

void vio_fq_idle(struct vio_fq *const q[], unsigned n, bool more, uint64_t timeout_ns)
{
	vio_fq_idle_fds(q, n, more, NULL, 0, timeout_ns);
}

void vio_fq_idle_fds(struct vio_fq *const q[], unsigned n, bool more, struct pollfd *fds,
		     unsigned n_fds, uint64_t timeout_ns)
{
	struct vio_fq *me = q[0];
	struct vio_front *f = me->f;
	bool busy;

	for (unsigned i = 0; i < n_fds; i++)
		fds[i].revents = 0;
	if (!vio_gate_enter(&f->gate, &me->pass)) {
		/*
		 * Nothing to spin for: recovery is driven by polls, and looks at the CRQ itself. An
		 * interrupt that stayed would end every sleep at once. Without a machine no vcpu sleeps.
		 */
		phyp_irq_take(me->vcpu);
		if (!phyp_alive(f->part))
			poll(fds, n_fds, (int)(VIO_FRONT_NAP_NS / 1000000));
		else if (!vio_load_acquire(&f->dead) && !vio_xchg_acq_rel(&me->prodded, 0))
			phyp_vcpu_wait_fds(me->vcpu, 0,
					   timeout_ns < VIO_FRONT_NAP_NS ? timeout_ns
									 : VIO_FRONT_NAP_NS,
					   fds, n_fds);
		return;
	}
	busy = keep_polling(me) || more || front_arm_all(q, n) || something(q, n);
	vio_gate_leave(&me->pass);
	if (busy)
		return;
	/* The adapter's interrupt goes to queue 0; the others are prodded by whoever sees their message. */
	if (me->index != 0 && timeout_ns > VIO_FRONT_NAP_NS)
		timeout_ns = VIO_FRONT_NAP_NS;
	phyp_vcpu_wait_fds(me->vcpu, f->notify->looks ? 0 : f->spin_ns, timeout_ns, fds, n_fds);
	if (!f->notify->looks)
		return;
	me->idle_tick = 0;
	if (vio_gate_enter(&f->gate, &me->pass)) {
		for (unsigned i = 0; i < n; i++)
			vio_fq_park(q[i]);
		vio_gate_leave(&me->pass);
	}
}

void vio_fq_prod(struct vio_fq *q)
{
	vio_store_release(&q->prodded, 1); /* pair U */
	phyp_vcpu_prod(q->vcpu);
}
