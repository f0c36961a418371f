/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of lcore*.c.
 *
 *   lcore.c       an lcore's turns, its sleep and its end
 *   lcore_set.c   all lcores: made and ended, queues given to them and taken away
 */
#ifndef VIO_SERVER_LCORE_PRIV_H
#define VIO_SERVER_LCORE_PRIV_H

#include <rte_rcu_qsbr.h>

#include "duet/score.h"
#include "server/core/control.h"
#include "server/dpdk/lcore.h"

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
	uint64_t idle_since __attribute__((aligned(VIO_APART))); /* ticks; 0: has worked */
	unsigned empty;                                          /* turns since it worked */
	unsigned since_alive;                                    /* turns */
	bool stopping;
	unsigned stopped; /* own adapters that are */
	uint64_t turns_busy, turns_empty, sleeps;
	struct vio_duet no_duet;

	/* Queues given to it, for choosing; changed by adapters' lcores. */
	unsigned load __attribute__((aligned(VIO_APART)));
	unsigned core;
	struct vio_control_box box; /* what somebody wants it to change */
} __attribute__((aligned(VIO_APART)));

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
	unsigned left __attribute__((aligned(VIO_APART))); /* adapters that have not stopped */
	struct lcore lc[];
};

#endif
