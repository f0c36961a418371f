/* SPDX-License-Identifier: BSD-3-Clause */
/* How this process reaches a partner's memory. Any thread of the partition, with no lock of a peer held. */
#ifndef PHYP_PEER_H
#define PHYP_PEER_H

#include "phyp/core/hv.h"

/*
 * Have the descriptors of the partner's generation gen, and the standing alias when wanted. 0 or
 * -errno. Asks the control plane when they are not there: no lock may be held.
 */
int hv_peer_ready(struct phyp_part *part, struct hv_peer *peer, uint32_t gen, bool alias);
/* hv_tmap_get() in the partner's memory of generation gen. */
uint8_t *hv_peer_map(struct phyp_part *part, struct hv_peer *peer, uint32_t gen,
		     struct hv_tmap *map, uint64_t gla, uint64_t *len);
/*
 * Forget descriptors (when of another generation than keep_gen) and alias. Waits for calls that use
 * the alias. The caller is not in one.
 */
void hv_peer_drop(struct phyp_part *part, struct hv_peer *peer, uint32_t keep_gen);
/* Forget the standing CRQ alias; the caller holds the partner's CRQ lock. */
void hv_crq_alias_drop(struct hv_crq_alias *a);

static inline void hv_busy_begin(struct phyp_vcpu *v)
{
	vio_store_relaxed(&v->busy, 1u);
	/*
	 * Pair P: mark busy before the alias is read. With membarrier() in hv_peer_drop() the
	 * compiler's order will do.
	 */
	if (vio_likely(v->part->asymmetric))
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
	else
		vio_fence_full();
}

static inline void hv_busy_end(struct phyp_vcpu *v)
{
	vio_store_release(&v->busy,
			  0u); /* pair P: the last use of the alias before it counts as unused */
}

#endif
