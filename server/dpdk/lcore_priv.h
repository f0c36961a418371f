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

/* A turn's bytes for each unit: a burst of the usual block sizes where nobody else has work, and where somebody has. */
#define VIO_QUANTUM_ALONE  (256u << 10)
#define VIO_QUANTUM_SHARED (32u << 10)
/* Turns with one unit at work, or none, until that is taken for alone. */
#define VIO_QUANTUM_CALM 4096u

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
	bool awake; /* `also` polls what can't be waited for */
	bool look;  /* for gaps */
	/*
	 * Bytes that a unit may move in a turn, and turns since two units last had work in the same
	 * one: then what each gets is short, so that none waits long for the other.
	 */
	uint32_t quantum;
	unsigned calm;
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
	struct vio_control_box box;       /* what somebody wants it to change */
	uint32_t of_unit[PHYP_MAX_UNITS]; /* its queues that spend, by owner; relaxed */
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
