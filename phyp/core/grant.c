/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shared logical resources, the owner's side: the calls by which a partition lets its partner CPU-map pages. LoPAR,
 * "Shared Logical Resources"; the numbers are rHype's.
 *
 * No lock is shared: a grant's state and sequence are one word that changes by compare-and-swap, so
 * that a partition stopped or killed in the middle of a call keeps nobody waiting. The sharer's
 * translation changes under its own process's acc_lock, taken first. So a forced rescind that finds
 * a grant accepted can rely on the agent, who takes acc_lock, to see the mapping complete.
 */
#include "phyp/core/carrier_ops.h"
#include "phyp/core/grant.h"
#include "phyp/core/hcall.h"
#include "phyp/core/pe.h"
#include "phyp/state/siphash.h"

#define COOKIE_INDEX_BITS 12
#define COOKIE_SEQ_BITS   20
static_assert(PHYP_MAX_GRANTS <= 1u << COOKIE_INDEX_BITS, "a cookie names any grant");

/*
 * 12 bits of place, 20 of the sequence, 32 that only who has the key can make: a cookie that was
 * not handed over can't be guessed.
 */
static uint64_t cookie_of(const struct hv_seg *seg, uint64_t index, uint32_t seq)
{
	uint64_t low = index | (uint64_t)(seq & ((1u << COOKIE_SEQ_BITS) - 1)) << COOKIE_INDEX_BITS;

	return low | hv_siphash(seg->cookie_key, index, seq) << 32;
}

/* One look at a grant: *copy is what it was while its word was copy->word. */
static void look_at(const struct hv_grant *g, struct hv_grant *copy)
{
	do {
		copy->word = vio_load_acquire(&g->word); /* pair F */
		copy->owner_gen = vio_load_relaxed(&g->owner_gen);
		copy->sharer = vio_load_relaxed(&g->sharer);
		copy->unit = vio_load_relaxed(&g->unit);
		copy->flags = vio_load_relaxed(&g->flags);
		copy->gla = vio_load_relaxed(&g->gla);
		copy->len = vio_load_relaxed(&g->len);
		vio_fence_acquire(); /* pair F: all of it before the word again */
	} while (vio_load_relaxed(&g->word) != copy->word);
}

struct hv_grant *hv_grant_find(struct hv_seg *seg, uint64_t cookie, struct hv_grant *copy,
			       int64_t *rc)
{
	const uint32_t wrap = 1u << COOKIE_SEQ_BITS;
	uint64_t i = cookie & ((1u << COOKIE_INDEX_BITS) - 1);
	uint32_t low = (uint32_t)(cookie >> COOKIE_INDEX_BITS) & (wrap - 1), now, seq;

	*rc = H_PARAMETER;
	if (i >= (uint64_t)seg->grants_each * seg->n_parts)
		return NULL;
	look_at(&seg->grant[i], copy);
	now = hv_seq_of(copy->word);
	/* The youngest sequence so far that ends in these bits. */
	seq = now - ((now - low) & (wrap - 1));
	if (seq == 0 || seq > now || cookie_of(seg, i, seq) != cookie)
		return NULL;
	if (seq == now && hv_state_of(copy->word) != HV_GRANT_FREE)
		return &seg->grant[i];
	*rc = H_RESCINDED;
	return NULL;
}

/* ------------------------------------------------------------------------------- the owner ---- */

/* What may be granted: whole backing pages of one LMB of the caller's own memory. */
static int64_t check_range(const struct phyp_part *part, uint64_t gla, uint64_t len)
{
	uint64_t lmb = part->lmb_bytes;

	if (gla >= HV_LOGICAL_BASE)
		return H_PERMISSION; /* a re-grant of accepted pages: this model does not offer it */
	if (len == 0 || (gla | len) & (part->backing - 1) ||
	    !vio_range_ok(gla, len, part->mem_bytes) || !vio_range_ok(gla & (lmb - 1), len, lmb))
		return H_PARAMETER;
	return H_SUCCESS;
}

/* A free grant of the partition's own, from where the last one was found on. grant_lock is held. */
static struct hv_grant *free_grant(struct phyp_part *part)
{
	struct hv_seg *seg = part->seg;
	const uint32_t n = seg->grants_each;

	for (uint32_t k = 0; k < n; k++) {
		struct hv_grant *g = &seg->grant[part->idx * n + (part->next_grant + k) % n];

		if (hv_state_of(vio_load_acquire(&g->word)) == HV_GRANT_FREE) { /* pair F */
			part->next_grant = (part->next_grant + k + 1) % n;
			return g;
		}
	}
	return NULL;
}

int64_t hv_grant_logical(struct phyp_vcpu *v, const uint64_t *a, uint64_t *ret)
{
	const uint64_t both = GRANT_NO_READ | GRANT_NO_WRITE;
	struct phyp_part *part = v->part;
	struct hv_lunit *lu = hv_own_unit(part, a[4]);
	int64_t rc = check_range(part, a[2], a[3]);
	struct hv_grant *g;

	if (a[0] & ~(GRANT_SYSTEM_MEMORY | both) || !(a[0] & GRANT_SYSTEM_MEMORY) ||
	    (a[0] & both) == both || a[1] != 0 || !lu || !lu->far)
		return H_PARAMETER;
	if (rc != H_SUCCESS)
		return rc;
	if (hv_pair_stopped(part->seg, lu->u))
		return H_R_STATE;
	pthread_mutex_lock(&part->grant_lock);
	g = free_grant(part);
	rc = H_NO_MEM;
	if (g) {
		uint32_t seq = hv_seq_of(g->word) + 1;

		seq += seq == 0;
		vio_fence_release(); /* pair F: found free before what follows is seen */
		vio_store_relaxed(&g->owner_gen, part->gen);
		vio_store_relaxed(&g->sharer, lu->far->part);
		vio_store_relaxed(&g->unit, lu->u->partner);
		vio_store_relaxed(&g->flags, (uint32_t)(a[0] & both));
		vio_store_relaxed(&g->gla, a[2]);
		vio_store_relaxed(&g->len, a[3]);
		/* Pair F: all of it before the word; a death before this leaves it free. */
		vio_store_release(&g->word, hv_word_of(seq, HV_GRANT_GRANTED));
		ret[0] = cookie_of(part->seg, (uint64_t)(g - part->seg->grant), seq);
		rc = H_SUCCESS;
	}
	pthread_mutex_unlock(&part->grant_lock);
	return rc;
}

/* One step of a rescind. *poke: the sharer whose agent has to remove its translation. */
static int64_t rescind_step(struct phyp_part *part, uint64_t cookie, bool forced, uint32_t *poke)
{
	for (;;) {
		struct hv_grant now, *g;
		int64_t rc;

		g = hv_grant_find(part->seg, cookie, &now, &rc);
		if (!g)
			return rc;
		if (hv_owner_of(part->seg, g) != part->idx)
			return H_PARAMETER;
		switch (hv_state_of(now.word)) {
		case HV_GRANT_GRANTED:
		case HV_GRANT_GONE:
			if (hv_grant_move(g, now.word, HV_GRANT_FREE))
				return H_SUCCESS;
			continue;
		case HV_GRANT_ACCEPTED:
			if (!forced)
				return H_RESOURCE;
			if (!hv_grant_move(g, now.word, HV_GRANT_RESCINDING))
				continue;
			*poke = now.sharer;
			return H_PARTIAL;
		default:
			if (!forced)
				return H_RESOURCE;
			*poke = now.sharer; /* it may have drained by now */
			return H_PARTIAL;
		}
	}
}

int64_t hv_rescind_logical(struct phyp_vcpu *v, const uint64_t *a, uint64_t *ret)
{
	struct phyp_part *part = v->part;
	uint32_t poke = HV_NONE;
	int64_t rc;

	(void)ret;
	if (a[0] & ~RESCIND_FORCED)
		return H_PARAMETER;
	rc = rescind_step(part, a[1], a[0] == RESCIND_FORCED, &poke);
	if (rc != H_PARTIAL || poke == HV_NONE)
		return rc;
	/* In process the agent has swept when this returns: with nothing to drain the grant is gone. */
	part->carrier->poke(part, poke);
	return rescind_step(part, a[1], true, &poke);
}

/* The grants of a partition that is no more, one: true when its sharer has to be poked. */
static bool force(struct hv_grant *g, uint32_t gen, uint32_t *sharer)
{
	struct hv_grant now;

	do {
		look_at(g, &now);
		*sharer = now.sharer;
		if (hv_state_of(now.word) == HV_GRANT_FREE || now.owner_gen != gen)
			return false;
		if (hv_state_of(now.word) == HV_GRANT_RESCINDING)
			return true;
		if (hv_state_of(now.word) == HV_GRANT_ACCEPTED) {
			if (hv_grant_move(g, now.word, HV_GRANT_RESCINDING))
				return true;
			continue;
		}
	} while (!hv_grant_move(g, now.word, HV_GRANT_FREE));
	return false;
}

/* Of the owner's grants for the unit `to`: true when one is still accepted or under forced rescind. */
static bool stop_through(struct hv_seg *seg, uint32_t owner, uint32_t to)
{
	const uint32_t gen = vio_load_acquire(&seg->part[owner].active);
	struct hv_grant *first = &seg->grant[owner * seg->grants_each];
	bool still = false;

	for (struct hv_grant *g = first; g < first + seg->grants_each; g++) {
		struct hv_grant now;

		do {
			look_at(g, &now);
			if (now.unit != to || now.owner_gen != gen)
				break;
			still |= hv_state_of(now.word) == HV_GRANT_ACCEPTED ||
				 hv_state_of(now.word) == HV_GRANT_RESCINDING;
		} while (hv_state_of(now.word) == HV_GRANT_ACCEPTED &&
			 !hv_grant_move(g, now.word, HV_GRANT_RESCINDING));
	}
	return still;
}

bool hv_grants_stop(struct hv_seg *seg, const struct hv_unit *u)
{
	const struct hv_unit *far;
	bool given, taken;

	if (u->partner == HV_NONE)
		return false;
	far = &seg->unit[u->partner];
	given = stop_through(seg, u->part, u->partner);
	taken = stop_through(seg, far->part, (uint32_t)(u - seg->unit));
	return given || taken;
}

uint32_t hv_grants_force(struct hv_seg *seg, uint32_t owner, uint32_t gen)
{
	struct hv_grant *first = &seg->grant[owner * seg->grants_each];
	uint32_t poke = 0, sharer;

	for (struct hv_grant *g = first; g < first + seg->grants_each; g++)
		if (force(g, gen, &sharer))
			poke |= 1u << sharer;
	return poke;
}

bool hv_grant_owner_lives(const struct hv_seg *seg, const struct hv_grant *g, uint32_t gen)
{
	return vio_load_acquire(&seg->part[hv_owner_of(seg, g)].active) == gen;
}

void hv_grant_gone(const struct hv_seg *seg, struct hv_grant *g, struct hv_grant now)
{
	const uint32_t seq = hv_seq_of(now.word);

	for (; hv_seq_of(now.word) == seq; look_at(g, &now)) {
		enum hv_grant_state to = HV_GRANT_GRANTED;

		if (hv_state_of(now.word) == HV_GRANT_RESCINDING)
			to = hv_grant_owner_lives(seg, g, now.owner_gen) ? HV_GRANT_GONE
									 : HV_GRANT_FREE;
		else if (hv_state_of(now.word) != HV_GRANT_ACCEPTED)
			return;
		if (hv_grant_move(g, now.word, to))
			return;
	}
}

uint32_t hv_grants_orphan(struct hv_seg *seg, uint32_t part)
{
	struct hv_grant *end = &seg->grant[seg->grants_each * seg->n_parts];
	uint32_t poke = 0;

	for (struct hv_grant *g = seg->grant; g < end; g++) {
		struct hv_grant now;

		look_at(g, &now);
		if (hv_state_of(now.word) == HV_GRANT_FREE)
			continue;
		if (now.sharer == part)
			hv_grant_gone(seg, g, now); /* it went with the process */
		if (hv_owner_of(seg, g) != part)
			continue;
		/* The owner is no more; only the sharer may still change it. */
		look_at(g, &now);
		if (hv_state_of(now.word) == HV_GRANT_RESCINDING)
			poke |= 1u << now.sharer;
		else if (hv_state_of(now.word) == HV_GRANT_GRANTED ||
			 hv_state_of(now.word) == HV_GRANT_GONE)
			hv_grant_move(g, now.word,
				      HV_GRANT_FREE); /* else accepted just now: forced later */
	}
	return poke;
}
