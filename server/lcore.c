/* SPDX-License-Identifier: BSD-3-Clause */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_rcu_qsbr.h>

#include "duet/score.h"
#include "server/lcore.h"
#include "vio/atomics.h"
#include "vio/cycles.h"

/* Empty turns between two looks at the clock. */
#define IDLE_LOOK 32
/* Empty turns between two looks for a gap; divides IDLE_LOOK. */
#define GAP_LOOK 8
/* Turns between two looks whether the hypervisor is still there. */
#define ALIVE_LOOK 4096

/*
 * One lcore. The first line is what each turn reads; the slots are changed on the control path by
 * adapters' lcores; then what only the owner writes.
 */
struct lcore {
	struct phyp_vcpu *vcpu;
	struct vio_lcores *set;
	struct rte_rcu_qsbr *qsv;
	unsigned index;
	unsigned n_slots; /* grows only; a slot below it may be empty */
	unsigned n_adapters;
	unsigned (*also)(void *ctx); /* lcore 0: the switch; else NULL */
	void *also_ctx;
	bool awake;                   /* `also` polls what can't be waited for */
	bool look;                    /* for gaps */
	struct vio_duet *duet;        /* whose turn it is, and the gaps */
	struct vio_adapter **adapter; /* own ones */
	struct vio_squeue **slot;     /* set->max_queues; pair L */

	/* Owner's. */
	uint64_t idle_since __attribute__((aligned(VIO_CACHE_LINE))); /* ticks; 0: has worked */
	unsigned empty;                                               /* turns since it worked */
	unsigned since_alive;                                         /* turns */
	bool stopping;
	unsigned stopped; /* own adapters that are */
	uint64_t turns_busy, turns_empty, sleeps;
	struct vio_duet no_duet;

	/* Queues given to it, for choosing; changed by adapters' lcores. */
	unsigned load __attribute__((aligned(VIO_CACHE_LINE)));
	unsigned core;
} __attribute__((aligned(VIO_CACHE_LINE)));

struct owner {
	struct vio_adapter *a;
	struct lcore *lc;
};

struct vio_lcores {
	/* Read in every turn, written once. */
	bool stop, gone;
	bool give_way;
	unsigned n, max_queues, n_owners;
	uint64_t spin_ticks, idle_ticks, stop_ns;
	struct phyp_part *part;
	struct rte_rcu_qsbr *qsv;
	struct owner *owner; /* all adapters */
	struct vio_adapter *by_unit[PHYP_MAX_UNITS];
	unsigned left __attribute__((aligned(VIO_CACHE_LINE))); /* adapters that have not stopped */
	struct lcore lc[];
};

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

/* One turn: interrupts, queues, what the control path has to go on with. Requests and messages moved. */
static inline unsigned turn(struct lcore *lc)
{
	uint64_t irq = phyp_irq_take(lc->vcpu);
	unsigned work = 0, n = vio_load_acquire(&lc->n_slots);

	if (vio_unlikely(irq))
		work = take_irqs(lc, irq);
	for (unsigned i = 0; i < n; i++) {
		struct vio_squeue *q = vio_load_acquire(&lc->slot[i]); /* pair L */

		if (vio_unlikely(!q))
			continue;
		work += vio_squeue_poll(q);
		if (vio_unlikely(q->fault != VIO_ST_OK && !q->told))
			tell_owner(lc, q);
	}
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

		if (q && q->in_flight > 0)
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
static bool arm_all(struct lcore *lc)
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

/* What comes between arm_all() and the wait is not lost: a kick's interrupt and a prod stay pending. */
static void try_sleep(struct lcore *lc)
{
	uint64_t now = vio_ticks(), limit = patience(lc);

	if (lc->idle_since == 0)
		lc->idle_since = now;
	if (limit == UINT64_MAX || lc->awake || now - lc->idle_since < limit)
		return;
	if (!arm_all(lc)) {
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

static bool hypervisor_gone(struct lcore *lc)
{
	lc->since_alive = 0;
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

/* ---------------------------------------------------------------- what adapters need ---- */

static struct lcore *owner_of(struct vio_lcores *l, const struct vio_adapter *a)
{
	for (unsigned i = 0; i < l->n_owners; i++) {
		if (l->owner[i].a == a)
			return l->owner[i].lc;
	}
	return &l->lc[0];
}

/* The lcore with the fewest queues; the adapter's own when it is one of them. */
static struct lcore *least_loaded(struct vio_lcores *l, struct lcore *own)
{
	struct lcore *best = own;

	for (unsigned i = 0; i < l->n; i++) {
		if (vio_load_relaxed(&l->lc[i].load) < vio_load_relaxed(&best->load))
			best = &l->lc[i];
	}
	return best;
}

void vio_lcores_assign(struct vio_lcores *l, struct vio_squeue *q)
{
	struct lcore *own = owner_of(l, q->adapter);
	struct lcore *lc = q->dev->one_lcore ? &l->lc[0] : least_loaded(l, own);
	unsigned i = 0, n;

	q->vcpu = lc->vcpu;
	(void)vio_fetch_add(&lc->load, 1);
	/* There are as many slots as queues, so one is free. Pair L: the queue before its pointer. */
	for (struct vio_squeue *none = NULL; !vio_cas(&lc->slot[i], none, q); none = NULL)
		i++;
	n = vio_load_relaxed(&lc->n_slots);
	while (n < i + 1 && !vio_cas(&lc->n_slots, n, i + 1))
		;
	if (lc != own)
		phyp_vcpu_prod(lc->vcpu);
}

void vio_lcores_unassign(struct vio_lcores *l, struct vio_squeue *q)
{
	for (unsigned k = 0; k < l->n; k++) {
		for (unsigned i = 0; i < l->max_queues; i++) {
			if (vio_load_relaxed(&l->lc[k].slot[i]) != q)
				continue;
			vio_store_release(&l->lc[k].slot[i], NULL);
			(void)vio_fetch_add(&l->lc[k].load, -1u);
		}
	}
}

uint64_t vio_lcores_quiesce_start(struct vio_lcores *l)
{
	return rte_rcu_qsbr_start(l->qsv);
}

bool vio_lcores_quiesce_done(struct vio_lcores *l, uint64_t token)
{
	return rte_rcu_qsbr_check(l->qsv, token, false) == 1;
}

/* ----------------------------------------------------------------------------- life ---- */

static uint64_t to_ticks(const struct phyp_part *part, uint64_t ns)
{
	return ns == UINT64_MAX ? UINT64_MAX : vio_muldiv(ns, phyp_tick_hz(part), 1000000000);
}

static struct rte_rcu_qsbr *new_qsbr(unsigned n)
{
	size_t bytes = VIO_ALIGN_UP(rte_rcu_qsbr_get_memsize(n), (size_t)RTE_CACHE_LINE_SIZE);
	struct rte_rcu_qsbr *v = aligned_alloc(RTE_CACHE_LINE_SIZE, bytes);

	if (v && rte_rcu_qsbr_init(v, n)) {
		free(v);
		v = NULL;
	}
	return v;
}

int vio_lcores_create(const struct vio_lcores_cfg *cfg, struct vio_lcores **out,
		      struct vio_err *err)
{
	size_t bytes = sizeof(struct vio_lcores) + cfg->n * sizeof(struct lcore);
	struct vio_lcores *l =
		aligned_alloc(VIO_CACHE_LINE, VIO_ALIGN_UP(bytes, (size_t)VIO_CACHE_LINE));
	bool ok;

	if (!l)
		return vio_err_set(err, -ENOMEM, "no memory for %u lcores", cfg->n);
	memset(l, 0, bytes);
	l->part = phyp_vcpu_part(cfg->vcpu[0]);
	l->n = cfg->n;
	l->max_queues = cfg->max_queues;
	l->give_way = cfg->give_way;
	l->spin_ticks = to_ticks(l->part, cfg->spin_ns);
	l->idle_ticks = to_ticks(l->part, cfg->idle_ns);
	l->qsv = new_qsbr(cfg->n);
	l->owner = calloc(PHYP_MAX_UNITS, sizeof(l->owner[0]));
	ok = l->qsv && l->owner;
	for (unsigned i = 0; i < cfg->n; i++) {
		struct lcore *lc = &l->lc[i];

		lc->vcpu = cfg->vcpu[i];
		lc->set = l;
		lc->qsv = l->qsv;
		lc->index = i;
		lc->core = cfg->core[i];
		lc->look = cfg->look;
		vio_duet_none(&lc->no_duet, to_ticks(l->part, VIO_LCORE_GAP_NS));
		lc->duet = i == 0 && cfg->duet ? cfg->duet : &lc->no_duet;
		lc->adapter = calloc(PHYP_MAX_UNITS, sizeof(struct vio_adapter *));
		/* Whole lines, so that no allocator's neighbour shares one with what each turn reads. */
		lc->slot = aligned_alloc(VIO_CACHE_LINE,
					 VIO_ALIGN_UP(cfg->max_queues * sizeof(struct vio_squeue *),
						      (size_t)VIO_CACHE_LINE));
		if (lc->slot)
			memset(lc->slot, 0, cfg->max_queues * sizeof(struct vio_squeue *));
		ok = ok && lc->adapter && lc->slot;
	}
	if (!ok) {
		vio_lcores_destroy(l);
		return vio_err_set(err, -ENOMEM, "no memory for %u lcores", cfg->n);
	}
	*out = l;
	return 0;
}

void vio_lcores_destroy(struct vio_lcores *l)
{
	if (!l)
		return;
	for (unsigned i = 0; i < l->n; i++) {
		free(l->lc[i].adapter);
		free(l->lc[i].slot);
	}
	free(l->owner);
	free(l->qsv);
	free(l);
}

unsigned vio_lcores_place(const struct vio_lcores *l, unsigned i)
{
	return i % l->n;
}

void vio_lcores_add_adapter(struct vio_lcores *l, unsigned lcore, unsigned unit,
			    struct vio_adapter *a)
{
	struct lcore *lc = &l->lc[lcore];

	lc->adapter[lc->n_adapters++] = a;
	l->owner[l->n_owners++] = (struct owner){a, lc};
	l->by_unit[unit] = a;
	l->left++;
}

void vio_lcores_set_switch(struct vio_lcores *l, unsigned (*fn)(void *ctx), void *ctx, bool awake)
{
	l->lc[0].also = fn;
	l->lc[0].also_ctx = ctx;
	l->lc[0].awake = awake;
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

bool vio_lcores_stats(const struct vio_lcores *l, unsigned i, struct vio_lcore_stats *out)
{
	const struct lcore *lc = &l->lc[i];

	if (i >= l->n)
		return false;
	*out = (struct vio_lcore_stats){
		.core = lc->core,
		.queues = vio_load_relaxed(&lc->load),
		.adapters = lc->n_adapters,
		.turns_busy = vio_load_relaxed(&lc->turns_busy),
		.turns_empty = vio_load_relaxed(&lc->turns_empty),
		.sleeps = vio_load_relaxed(&lc->sleeps),
		.longest_turn = vio_load_relaxed(&lc->duet->gaps.longest),
		.gaps = vio_load_relaxed(&lc->duet->gaps.gaps),
	};
	return true;
}
