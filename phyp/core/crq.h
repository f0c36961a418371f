/* SPDX-License-Identifier: BSD-3-Clause */
/* CRQs: entries put into a receiver's queue, queues closed. Any process of the machine. */
#ifndef PHYP_CRQ_H
#define PHYP_CRQ_H

#include "phyp/core/hv.h"

/* Where an entry of a receiver's queue can be written from here. */
struct hv_slots {
	uint64_t *(*slot)(struct hv_slots *s, struct hv_seg *seg, struct hv_unit *dst, uint32_t i);
	struct hv_tmap map; /* released by hv_slots_done() */
	/* slot = hv_slot_part */
	struct phyp_part *part;
	struct hv_lunit *lu;
	uint32_t gen;
	/* slot = hv_slot_machine */
	const int *fd;
};
uint64_t *hv_slot_machine(struct hv_slots *s, struct hv_seg *seg, struct hv_unit *dst, uint32_t i);

/*
 * Append an entry to dst's queue, whose lock is held. event: never dropped, written over the last
 * valid entry when the queue is full. H_SUCCESS, H_DROPPED, H_HARDWARE (the memory can't be
 * reached).
 */
int64_t hv_crq_put(struct hv_seg *seg, struct hv_unit *dst, struct hv_slots *s, uint64_t hi,
		   uint64_t lo, bool event);
/* Lock u and its partner, in order. false: neither, somebody holds one of them (hv_lock()). */
bool hv_pair_lock(struct hv_seg *seg, struct hv_unit *u);
void hv_pair_unlock(struct hv_seg *seg, struct hv_unit *u);
/*
 * Close u's queue if a generation up to `gen` of its partition registered it, and tell the partner
 * by transport event `event`. *told: the partner when it was (its interrupt is then to be raised),
 * else NULL. -EBUSY: nothing was done, somebody holds a lock; try again later.
 */
int hv_crq_close(struct hv_seg *seg, struct hv_unit *u, uint32_t gen, uint8_t event,
		 struct hv_slots *s, struct hv_unit **told);
/* Put a transport event into u's own queue; event 6 suspends it. -ENOTCONN: not registered; -EBUSY. */
int hv_crq_event(struct hv_seg *seg, struct hv_unit *u, uint8_t event, struct hv_slots *s);

#endif
