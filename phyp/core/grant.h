/* SPDX-License-Identifier: BSD-3-Clause */
/* What the owner's side of grants (grant.c) and the sharer's (accept.c) have in common: the word of a grant. */
#ifndef PHYP_GRANT_H
#define PHYP_GRANT_H

#include "phyp/core/hv.h"

static inline uint32_t hv_seq_of(uint64_t word)
{
	return (uint32_t)(word >> 8);
}

static inline enum hv_grant_state hv_state_of(uint64_t word)
{
	return (enum hv_grant_state)(word & 0xff);
}

static inline uint64_t hv_word_of(uint32_t seq, enum hv_grant_state state)
{
	return (uint64_t)seq << 8 | (uint64_t)state;
}

/* From `old`, which is what was looked at, to another state. false: it is not so any more. */
static inline bool hv_grant_move(struct hv_grant *g, uint64_t old, enum hv_grant_state state)
{
	return vio_cas(&g->word, old, hv_word_of(hv_seq_of(old), state)); /* pair F */
}

static inline uint32_t hv_owner_of(const struct hv_seg *seg, const struct hv_grant *g)
{
	return (uint32_t)(g - seg->grant) / seg->grants_each;
}

/*
 * The live grant of a cookie, as it is now in *copy. Else NULL and *rc: H_RESCINDED for one that
 * existed, H_PARAMETER.
 */
struct hv_grant *hv_grant_find(struct hv_seg *seg, uint64_t cookie, struct hv_grant *copy,
			       int64_t *rc);
/* The owner is of this generation and active: somebody will ask about the grant again. */
bool hv_grant_owner_lives(const struct hv_seg *seg, const struct hv_grant *g, uint32_t gen);
/* The sharer's translation of what `now` shows is gone, by return, forced rescind, or death. */
void hv_grant_gone(const struct hv_seg *seg, struct hv_grant *g, struct hv_grant now);

/*
 * A dead partition's side of all grants: what it accepted is returned, what it gave is under forced
 * rescind; bits of the sharers to poke.
 */
uint32_t hv_grants_orphan(struct hv_seg *seg, uint32_t part);
/* Grants of `owner` (of generation `gen`): force those that are accepted; bits of the sharers to poke. */
uint32_t hv_grants_force(struct hv_seg *seg, uint32_t owner, uint32_t gen);
/*
 * Take back by force what was accepted through u or its partner, either way. true: a sharer's translation, or what it drains,
 * is still there.
 */
bool hv_grants_stop(struct hv_seg *seg, const struct hv_unit *u);
/* The translations under forced rescind, in this process. A mask of enum hv_again. */
unsigned hv_grants_sweep(struct phyp_part *part);

#endif
