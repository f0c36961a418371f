/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The state word of a partitionable endpoint (struct hv_unit's `pe`): bits 0-3 enum pe_state, 4-7 enum pe_reason, 8-11 how
 * often it was frozen (modulo 16), 12-63 the page of the IOBA that froze it. One word, so that whoever reads it has all of it.
 */
#ifndef PHYP_PE_H
#define PHYP_PE_H

#include "phyp/core/hv.h"

static inline enum pe_state hv_pe_state(uint64_t word)
{
	return (enum pe_state)(word & 0xf);
}

static inline enum pe_reason hv_pe_reason(uint64_t word)
{
	return (enum pe_reason)(word >> 4 & 0xf);
}

static inline uint32_t hv_pe_times(uint64_t word)
{
	return (uint32_t)(word >> 8 & 0xf);
}

static inline uint64_t hv_pe_ioba(uint64_t word)
{
	return word >> 12 << 12;
}

static inline uint64_t hv_pe_word(enum pe_state state, enum pe_reason reason, uint32_t times,
				  uint64_t ioba)
{
	return (uint64_t)state | (uint64_t)reason << 4 | (uint64_t)(times & 0xf) << 8 |
	       ioba >> 12 << 12;
}

static inline bool hv_pe_stopped(const struct hv_unit *u)
{
	return hv_pe_state(vio_load_acquire(&u->pe)) != PE_NORMAL;
}

/* Nothing may pass between u and its partner: one of them is stopped. */
static inline bool hv_pair_stopped(const struct hv_seg *seg, const struct hv_unit *u)
{
	return hv_pe_stopped(u) || (u->partner != HV_NONE && hv_pe_stopped(&seg->unit[u->partner]));
}

/* A partition comes or has gone: its endpoints are as new. */
static inline void hv_pe_clear(struct hv_unit *u)
{
	vio_store_release(&u->pe, hv_pe_word(PE_NORMAL, PE_NO_REASON,
					     hv_pe_times(vio_load_relaxed(&u->pe)), 0));
}

/* And its process is another one, which has said nothing yet. */
static inline void hv_pe_new(struct hv_seg *seg, struct hv_unit *u)
{
	hv_pe_clear(u);
	vio_store_relaxed(&u->pe_over[0], 0);
	if (u->partner != HV_NONE)
		vio_store_relaxed(&seg->unit[u->partner].pe_over[1], 0);
}

/* A connected window refused a DMA at `ioba`: freezes the endpoint when the machine does that. In a call, no lock held. */
void hv_pe_error(struct phyp_vcpu *v, const struct hv_win *w, uint64_t ioba, enum pe_reason reason);
/* This end or its partner's is stopped. */
static inline bool hv_stopped(const struct hv_lunit *lu)
{
	return hv_pe_stopped(lu->u) || (lu->far && hv_pe_stopped(lu->far));
}

#endif
