/* SPDX-License-Identifier: BSD-3-Clause */
#include <sched.h>

#include <rte_launch.h>
#include <rte_lcore.h>

#include "server/dpdk/lcore_priv.h"
#include "vio/atomics.h"
#include "vio/cycles.h"

/* Empty turns between two looks at the clock. */
#define IDLE_LOOK 32
/* Empty turns between two looks for a gap; divides IDLE_LOOK. */
#define GAP_LOOK 8
/* Turns between two looks whether the hypervisor is still there. */
#define ALIVE_LOOK 4096

/* ---------------------------------------------------------------------------- turns ---- */

/* The adapter of a queue that faulted may be on an lcore that sleeps. */
static void tell_owner(struct lcore *lc, struct vio_squeue *q)
{
	struct vio_lcores *l = lc->set;

	q->told = true;
	for (unsigned i = 0; i < l->n_owners; i++) {
		if (l->owner[i].a == q->adapter && l->owner[i].lc != lc)
			phyp_vcpu_prod(l->owner[i].lc->vcpu);
	}
}

static unsigned take_irqs(struct lcore *lc, uint64_t irq)
{
	unsigned work = 0;

	for (; irq; irq &= irq - 1) {
		struct vio_adapter *a = lc->set->by_unit[__builtin_ctzll(irq)];

		if (a)
			work += vio_adapter_crq(a);
	}
	return work;
}

/* Did queues of two units have work in this turn? */
static inline void watch_shares(struct lcore *lc, bool two)
{
	if (vio_unlikely(two)) {
		lc->calm = 0;
		vio_store_relaxed(&lc->quantum, VIO_QUANTUM_SHARED);
	} else if (vio_unlikely(lc->quantum != VIO_QUANTUM_ALONE) &&
		   ++lc->calm >= VIO_QUANTUM_CALM) {
		vio_store_relaxed(&lc->quantum, VIO_QUANTUM_ALONE);
	}
}

/* One turn: interrupts, queues, what the control path has to go on with. Requests and messages moved. */
static inline unsigned turn(struct lcore *lc)
{
	uint64_t irq = phyp_irq_take(lc->vcpu);
	unsigned work = 0, n = vio_load_acquire(&lc->n_slots), got;
	const struct vio_adapter *who = NULL;
	bool two = false;

	if (vio_unlikely(irq))
		work = take_irqs(lc, irq);
	for (unsigned i = 0; i < n; i++) {
		struct vio_squeue *q = vio_load_acquire(&lc->slot[i]); /* pair L */

		if (vio_unlikely(!q))
			continue;
		got = vio_squeue_poll(q);
		if (got > 0) {
			two |= who && who != q->adapter;
			who = q->adapter;
			work += got;
		}
		if (vio_unlikely(q->fault != VIO_ST_OK && !q->told))
			tell_owner(lc, q);
	}
	watch_shares(lc, two);
	for (unsigned i = 0; i < lc->n_adapters; i++) {
		if (vio_unlikely(vio_adapter_busy(lc->adapter[i]))) {
			vio_adapter_service(lc->adapter[i]);
			work++;
		}
	}
	if (lc->also)
		work += lc->also(lc->also_ctx);
	return work;
}

/* ---------------------------------------------------------------------------- sleep ---- */

/* How long this lcore keeps looking before it sleeps, in ticks. */
static uint64_t patience(const struct lcore *lc)
{
	for (unsigned i = 0, n = vio_load_acquire(&lc->n_slots); i < n; i++) {
		const struct vio_squeue *q = vio_load_acquire(&lc->slot[i]); /* pair L */

		if (q && q->notify.looks)
			return lc->set->idle_ticks;
	}
	return lc->set->spin_ticks;
}

/*
 * Requests are at a backend and nothing else is to be done: what they wait for may be a kernel
 * thread that wants this very processor (io_uring's workers, a file system's), and a poller that
 * never lets go would keep it waiting for a whole scheduler tick. Polling goes on; with nobody
 * waiting this costs one short system call in IDLE_LOOK empty turns.
 */
static bool waits_for_disk(const struct lcore *lc)
{
	for (unsigned i = 0, n = vio_load_acquire(&lc->n_slots); i < n; i++) {
		const struct vio_squeue *q = vio_load_acquire(&lc->slot[i]); /* pair L */

		if (q && vio_sq_busy(q))
			return true;
	}
	return false;
}

static void park_all(struct lcore *lc)
{
	for (unsigned i = 0, n = vio_load_acquire(&lc->n_slots); i < n; i++) {
		struct vio_squeue *q = vio_load_acquire(&lc->slot[i]); /* pair L */

		if (q)
			vio_squeue_park(q);
	}
}

/* Ask for notifications on every queue; true: there is work after all. */
static bool lcore_arm_all(struct lcore *lc)
{
	for (unsigned i = 0, n = vio_load_acquire(&lc->n_slots); i < n; i++) {
		struct vio_squeue *q = vio_load_acquire(&lc->slot[i]); /* pair L */

		if (q && vio_squeue_arm(q))
			return true;
	}
	for (unsigned i = 0; i < lc->n_adapters; i++) {
		if (vio_adapter_busy(lc->adapter[i]))
			return true;
	}
	return false;
}

/* What comes between lcore_arm_all() and the wait is not lost: a kick's interrupt and a prod stay pending. */
static void try_sleep(struct lcore *lc)
{
	uint64_t now = vio_ticks(), limit = patience(lc);

	if (lc->idle_since == 0)
		lc->idle_since = now;
	if (limit == UINT64_MAX || lc->awake || now - lc->idle_since < limit)
		return;
	if (!lcore_arm_all(lc)) {
		vio_counter_add(&lc->sleeps, 1);
		/* Asleep it holds nothing: nobody needs to wait for its quiescent state. */
		vio_duet_note(lc->duet);
		rte_rcu_qsbr_thread_offline(lc->qsv, lc->index);
		phyp_vcpu_wait(lc->vcpu, 0, UINT64_MAX);
		rte_rcu_qsbr_thread_online(lc->qsv, lc->index);
		vio_gaps_skip(&lc->duet->gaps, vio_ticks());
	}
	park_all(lc);
	lc->idle_since = 0;
	lc->since_alive = ALIVE_LOOK; /* perhaps that is what woke it */
}

/* Another arm has this processor: asleep until it is this one's turn. Nothing is outstanding. */
static void take_turn(struct lcore *lc)
{
	rte_rcu_qsbr_thread_offline(lc->qsv, lc->index);
	if (vio_duet_serve(lc->duet)) {
		lc->idle_since = 0;
		lc->empty = 0;
	}
	rte_rcu_qsbr_thread_online(lc->qsv, lc->index);
}

/* ---------------------------------------------------------------------------- the end ---- */

static void begin_stop(struct lcore *lc)
{
	lc->stopping = true;
	for (unsigned i = 0; i < lc->n_adapters; i++)
		vio_adapter_stop(lc->adapter[i]);
}

/* True when all adapters of all lcores have stopped, or there is no more time. */
static bool stop_turn(struct lcore *lc, uint64_t deadline)
{
	unsigned done = 0;

	for (unsigned i = 0; i < lc->n_adapters; i++)
		done += !vio_adapter_busy(lc->adapter[i]);
	if (done > lc->stopped) {
		(void)vio_fetch_add(&lc->set->left, -(done - lc->stopped));
		lc->stopped = done;
	}
	return vio_load_acquire(&lc->set->left) == 0 || vio_now_ns() > deadline;
}

/* What is looked for now and then: changes that somebody wants, and whether the machine is there. */
static bool hypervisor_gone(struct lcore *lc)
{
	lc->since_alive = 0;
	vio_control_serve(&lc->box);
	if (phyp_alive(lc->set->part))
		return false;
	vio_store_release(&lc->set->gone, true);
	return true;
}

static int loop(void *arg)
{
	struct lcore *lc = arg;
	struct vio_lcores *l = lc->set;
	/* Run again after there was no time: what kept it may have been removed. */
	uint64_t deadline = lc->stopping ? vio_now_ns() + l->stop_ns : UINT64_MAX;

	rte_rcu_qsbr_thread_register(lc->qsv, lc->index);
	rte_rcu_qsbr_thread_online(lc->qsv, lc->index);
	for (unsigned i = 0; i < lc->n_adapters; i++)
		vio_adapter_crq(lc->adapter[i]); /* what came before the interrupts were on */
	for (;;) {
		unsigned work = turn(lc);

		rte_rcu_qsbr_quiescent(lc->qsv, lc->index);
		if (vio_unlikely(++lc->since_alive >= ALIVE_LOOK) && hypervisor_gone(lc))
			break;
		if (vio_unlikely(vio_duet_called(lc->duet)))
			take_turn(lc);
		if (vio_unlikely(vio_load_relaxed(&l->stop))) {
			if (!lc->stopping) {
				begin_stop(lc);
				deadline = vio_now_ns() + l->stop_ns;
			} else if (stop_turn(lc, deadline)) {
				break;
			}
			continue;
		}
		if (work) {
			if (vio_likely(lc->look))
				vio_duet_look(lc->duet, vio_ticks());
			vio_counter_add(&lc->turns_busy, 1);
			lc->idle_since = 0;
			lc->empty = 0;
			continue;
		}
		if (++lc->empty % GAP_LOOK)
			continue;
		if (vio_likely(lc->look))
			vio_duet_look(lc->duet, vio_ticks());
		if (lc->empty % IDLE_LOOK)
			continue;
		vio_counter_add(&lc->turns_empty, IDLE_LOOK);
		if (vio_unlikely(l->give_way || waits_for_disk(lc)))
			sched_yield();
		try_sleep(lc);
	}
	rte_rcu_qsbr_thread_offline(lc->qsv, lc->index);
	rte_rcu_qsbr_thread_unregister(lc->qsv, lc->index);
	return 0;
}

int vio_lcores_run(struct vio_lcores *l, uint64_t stop_ns)
{
	l->stop_ns = stop_ns;
	for (unsigned i = 1; i < l->n; i++)
		rte_eal_remote_launch(loop, &l->lc[i], i);
	loop(&l->lc[0]);
	for (unsigned i = 1; i < l->n; i++)
		phyp_vcpu_prod(l->lc[i].vcpu);
	rte_eal_mp_wait_lcore();
	if (vio_load_acquire(&l->gone))
		return -EPIPE;
	return vio_load_acquire(&l->left) ? -ETIMEDOUT : 0;
}

void vio_lcores_stop(struct vio_lcores *l)
{
	vio_store_release(&l->stop, true);
	for (unsigned i = 0; i < l->n; i++)
		phyp_vcpu_prod(l->lc[i].vcpu);
}
