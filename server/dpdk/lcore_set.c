/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdlib.h>
#include <string.h>

#include "server/dpdk/lcore_priv.h"
#include "vio/atomics.h"
#include "vio/cycles.h"

/* ---------------------------------------------------------------- what adapters need ---- */

static struct lcore *lcore_owner_of(struct vio_lcores *l, const struct vio_adapter *a)
{
	for (unsigned i = 0; i < l->n_owners; i++) {
		if (l->owner[i].a == a)
			return l->owner[i].lc;
	}
	return &l->lc[0];
}

/* Where the lcore counts the adapter's queues; those whose device takes (`pull`) spend nothing of a turn. */
static uint32_t *count_of(struct vio_lcores *l, struct lcore *lc, const struct vio_squeue *q)
{
	for (unsigned i = 0; i < l->n_owners; i++) {
		if (l->owner[i].a == q->adapter)
			return &lc->of_unit[i];
	}
	return &lc->of_unit[0];
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
	struct lcore *own = lcore_owner_of(l, q->adapter);
	struct lcore *lc = q->dev->one_lcore ? &l->lc[0] : least_loaded(l, own);
	unsigned i = 0, n;

	q->vcpu = lc->vcpu;
	q->quantum = &lc->quantum;
	q->beside = count_of(l, lc, q);
	if (!q->pull)
		(void)vio_fetch_add(count_of(l, lc, q), 1u);
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
			if (!q->pull)
				(void)vio_fetch_add(count_of(l, &l->lc[k], q), -1u);
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
	struct vio_lcores *l = aligned_alloc(VIO_APART, VIO_ALIGN_UP(bytes, (size_t)VIO_APART));
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
		lc->quantum = VIO_QUANTUM_ALONE;
		vio_duet_none(&lc->no_duet, to_ticks(l->part, VIO_LCORE_GAP_NS));
		lc->duet = i == 0 && cfg->duet ? cfg->duet : &lc->no_duet;
		lc->adapter = calloc(PHYP_MAX_UNITS, sizeof(struct vio_adapter *));
		/* Whole lines, so that no allocator's neighbour shares one with what each turn reads. */
		lc->slot = aligned_alloc(VIO_APART,
					 VIO_ALIGN_UP(cfg->max_queues * sizeof(struct vio_squeue *),
						      (size_t)VIO_APART));
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

static void wake(void *ctx)
{
	phyp_vcpu_prod(((struct lcore *)ctx)->vcpu);
}

int vio_lcores_call(struct vio_lcores *l, unsigned lcore, vio_control_fn *fn, void *ctx,
		    struct vio_err *err)
{
	return vio_control_ask(&l->lc[lcore].box, fn, ctx, wake, &l->lc[lcore], err);
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
