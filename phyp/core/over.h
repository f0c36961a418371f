/* SPDX-License-Identifier: BSD-3-Clause */
/* What is over: calls that reached a partner's memory, and who says that they have ended. */
#ifndef PHYP_OVER_H
#define PHYP_OVER_H

#include "phyp/core/hv.h"

/*
 * The agent's part: say of endpoints that were stopped, and of connections that were closed, that no call of this process is
 * under way that began before. false: one is, sweep again.
 */
bool hv_over_sweep(struct phyp_part *part);
/* Has the partner's process said that of this end's last closing? It is asked. Always, at a server's end: see h_free_crq(). */
bool hv_closing_over(struct phyp_vcpu *v, const struct hv_lunit *lu);

/* Around each access to a partner's memory: first the mark, then the look whether it is connected and not stopped. */
static inline void hv_dma_begin(struct phyp_vcpu *v)
{
	vio_store_relaxed(&v->dma, v->dma + 1);
	/* Pair AA: inside before the link and the state words are looked at; with membarrier() in over.c the compiler's order will do. */
	if (vio_likely(v->part->asymmetric))
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
	else
		vio_fence_full();
}

static inline void hv_dma_end(struct phyp_vcpu *v)
{
	vio_store_release(&v->dma,
			  v->dma + 1); /* pair AA: the last access before it counts as over */
}

#endif
