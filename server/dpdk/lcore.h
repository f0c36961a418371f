/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The lcores: each polls its queues, handles its adapters' interrupts, and sleeps when there is
 * nothing to do.
 *
 * Threads: create, add_adapter, run and destroy from the main thread. assign, unassign, quiesce_*
 * from any lcore. stop is async-signal-safe. stats from any thread.
 */
#ifndef VIO_SERVER_LCORE_H
#define VIO_SERVER_LCORE_H

#include "server/head/adapter.h"
#include "server/core/control.h"

struct vio_lcores;
struct vio_duet;

/* A turn that took longer is a gap: something else had the processor. */
#define VIO_LCORE_GAP_NS 100000u

struct vio_lcores_cfg {
	unsigned n;                /* lcores that EAL runs: 0..n-1; 0 is the main thread */
	const unsigned *core;      /* their processors, for reports */
	struct phyp_vcpu **vcpu;   /* one each; the caller's to destroy afterwards */
	unsigned max_queues;       /* of all adapters together */
	uint64_t spin_ns, idle_ns; /* UINT64_MAX: never sleep while a queue is polled */
	struct vio_duet *duet;     /* lcore 0's turns; NULL: none. With it n is 1 */
	bool look;     /* for gaps, by the tick counter, each turn that worked and some others */
	bool give_way; /* the processor is shared with others: yield it when there is nothing to do */
};

/* One polling loop an lcore of the EAL, not running yet. -errno with a sentence; *out is the caller's, to destroy after they have stopped. */
int vio_lcores_create(const struct vio_lcores_cfg *cfg, struct vio_lcores **out,
		      struct vio_err *err);
void vio_lcores_destroy(struct vio_lcores *l);

/* Which lcore shall have the `i`-th adapter. */
unsigned vio_lcores_place(const struct vio_lcores *l, unsigned i);
/* `a` is serviced by `lcore`, whose vcpu it was made with; `unit` is its index of phyp_unit(). Before run. */
void vio_lcores_add_adapter(struct vio_lcores *l, unsigned lcore, unsigned unit,
			    struct vio_adapter *a);

/*
 * Lcore 0, which has the queues of devices of kind one_lcore, also calls `fn` in each turn: the
 * switch. It returns what it moved. awake: something is polled there that can't be waited for, so
 * this lcore never sleeps. Before run.
 */
void vio_lcores_set_switch(struct vio_lcores *l, unsigned (*fn)(void *ctx), void *ctx, bool awake);

/*
 * Have `fn` called by an lcore between two of its turns: see vio_control_ask(), whose result it is.
 * Lcore 0 has the switch and all network queues; vio_lcores_place(l, i) that of the i-th adapter's
 * control path and disk queues start from.
 */
int vio_lcores_call(struct vio_lcores *l, unsigned lcore, vio_control_fn *fn, void *ctx,
		    struct vio_err *err);

/* What an adapter's environment needs; see struct vio_env. */
void vio_lcores_assign(struct vio_lcores *l, struct vio_squeue *q);
void vio_lcores_unassign(struct vio_lcores *l, struct vio_squeue *q);
uint64_t vio_lcores_quiesce_start(struct vio_lcores *l);
bool vio_lcores_quiesce_done(struct vio_lcores *l, uint64_t token);

/*
 * Poll until vio_lcores_stop(), then stop the adapters. 0; -ETIMEDOUT: a backend did not finish
 * within `stop_ns`, the process should end; -EPIPE: the hypervisor is gone.
 */
int vio_lcores_run(struct vio_lcores *l, uint64_t stop_ns);
void vio_lcores_stop(struct vio_lcores *l);

struct vio_lcore_stats {
	unsigned core, queues, adapters;
	uint64_t turns_busy, turns_empty, sleeps;
	uint64_t longest_turn,
		gaps; /* ticks; turns above VIO_LCORE_GAP_NS. Without a duet: since the start */
};
/* False past the last lcore. */
bool vio_lcores_stats(const struct vio_lcores *l, unsigned i, struct vio_lcore_stats *out);

#endif
