/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shared logical resources: the calls by which a partition lets its partner CPU-map pages. LoPAR,
 * "Shared Logical Resources"; the numbers are rHype's.
 *
 * Permission on a CPU: a grant that inhibits writing is mapped read-only. One that inhibits reading
 * only is mapped read-write, because no MMU here maps a page writable and not readable; one that
 * inhibits both is refused.
 *
 * A grant's state changes under grant_lock; the sharer's translation changes under its process's
 * acc_lock, taken first. So a forced rescind that finds a grant accepted can rely on the agent, who
 * takes acc_lock, to see the mapping complete.
 */
#include <string.h>
#include <sys/mman.h>

#include "phyp/hv.h"

#define COOKIE_INDEX_BITS 16

static uint64_t cookie_of(const struct hv_seg *seg, const struct hv_grant *g)
{
	return (uint64_t)g->seq << COOKIE_INDEX_BITS | (uint64_t)(g - seg->grant);
}

/*
 * The live grant of a cookie. Else NULL and *rc: H_RESCINDED for one that existed, H_PARAMETER.
 * grant_lock is held.
 */
static struct hv_grant *find(struct hv_seg *seg, uint64_t cookie, int64_t *rc)
{
	uint64_t i = cookie & ((1u << COOKIE_INDEX_BITS) - 1), seq = cookie >> COOKIE_INDEX_BITS;
	struct hv_grant *g = &seg->grant[i < PHYP_MAX_GRANTS ? i : 0];

	*rc = H_PARAMETER;
	if (i >= PHYP_MAX_GRANTS || seq == 0 || seq > g->seq)
		return NULL;
	if (seq == g->seq && g->state != HV_GRANT_FREE)
		return g;
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

int64_t hv_grant_logical(struct phyp_vcpu *v, const uint64_t *a, uint64_t *ret)
{
	const uint64_t both = GRANT_NO_READ | GRANT_NO_WRITE;
	struct hv_seg *seg = v->part->seg;
	struct hv_lunit *lu = hv_own_unit(v->part, a[4]);
	struct hv_grant *g = seg->grant, *end = seg->grant + PHYP_MAX_GRANTS;
	int64_t rc = check_range(v->part, a[2], a[3]);

	if (a[0] & ~(GRANT_SYSTEM_MEMORY | both) || !(a[0] & GRANT_SYSTEM_MEMORY) ||
	    (a[0] & both) == both || a[1] != 0 || !lu || !lu->far)
		return H_PARAMETER;
	if (rc != H_SUCCESS)
		return rc;
	hv_lock(&seg->grant_lock);
	while (g < end && g->state != HV_GRANT_FREE)
		g++;
	rc = H_NO_MEM;
	if (g < end) {
		g->seq++;
		g->owner = v->part->idx;
		g->owner_gen = v->part->gen;
		g->sharer = lu->far->part;
		g->unit = lu->u->partner;
		g->flags = (uint32_t)(a[0] & both);
		g->gla = a[2];
		g->len = a[3];
		vio_store_release(
			&g->state,
			HV_GRANT_GRANTED); /* pair E: a death before this leaves it free */
		ret[0] = cookie_of(seg, g);
		rc = H_SUCCESS;
	}
	hv_unlock(&seg->grant_lock);
	return rc;
}

int64_t hv_rescind_logical(struct phyp_vcpu *v, const uint64_t *a, uint64_t *ret)
{
	struct phyp_part *part = v->part;
	struct hv_seg *seg = part->seg;
	uint32_t poke = HV_NONE;
	struct hv_grant *g;
	int64_t rc;

	(void)ret;
	if (a[0] & ~RESCIND_FORCED)
		return H_PARAMETER;
	for (unsigned turn = 0; turn < 2; turn++) {
		hv_lock(&seg->grant_lock);
		g = find(seg, a[1], &rc);
		if (g && g->owner != part->idx) {
			g = NULL;
			rc = H_PARAMETER;
		}
		if (g && (g->state == HV_GRANT_GRANTED || g->state == HV_GRANT_GONE)) {
			g->state = HV_GRANT_FREE;
			rc = H_SUCCESS;
		} else if (g && a[0] != RESCIND_FORCED) {
			rc = H_RESOURCE;
		} else if (g) {
			if (g->state == HV_GRANT_ACCEPTED)
				poke = g->sharer;
			g->state = HV_GRANT_RESCINDING;
			rc = H_PARTIAL;
		}
		hv_unlock(&seg->grant_lock);
		if (rc != H_PARTIAL || poke == HV_NONE || turn == 1)
			break;
		/* In process the agent has swept when this returns: the second turn finds the grant gone. */
		part->plane->poke(part, poke);
	}
	return rc;
}

uint32_t hv_grants_force(struct hv_seg *seg, uint32_t owner, uint32_t gen)
{
	uint32_t poke = 0;

	hv_lock(&seg->grant_lock);
	for (struct hv_grant *g = seg->grant; g < seg->grant + PHYP_MAX_GRANTS; g++) {
		if (g->state == HV_GRANT_FREE || g->owner != owner || g->owner_gen != gen)
			continue;
		if (g->state == HV_GRANT_ACCEPTED || g->state == HV_GRANT_RESCINDING) {
			g->state = HV_GRANT_RESCINDING;
			poke |= 1u << g->sharer;
		} else {
			g->state = HV_GRANT_FREE;
		}
	}
	hv_unlock(&seg->grant_lock);
	return poke;
}

/* The owner is of this generation and active: somebody will ask about the grant again. */
static bool owner_lives(const struct hv_seg *seg, const struct hv_grant *g)
{
	return vio_load_acquire(&seg->part[g->owner].active) == g->owner_gen;
}

/* The sharer's translation is gone, by return, forced rescind, or death. grant_lock is held. */
static void translation_gone(const struct hv_seg *seg, struct hv_grant *g)
{
	if (g->state == HV_GRANT_ACCEPTED)
		g->state = HV_GRANT_GRANTED;
	else if (g->state == HV_GRANT_RESCINDING)
		g->state = owner_lives(seg, g) ? HV_GRANT_GONE : HV_GRANT_FREE;
}

uint32_t hv_grants_orphan(struct hv_seg *seg, uint32_t part)
{
	uint32_t poke = 0;

	hv_lock(&seg->grant_lock);
	for (struct hv_grant *g = seg->grant; g < seg->grant + PHYP_MAX_GRANTS; g++) {
		if (g->state == HV_GRANT_FREE)
			continue;
		if (g->sharer == part)
			translation_gone(seg, g); /* it went with the process */
		if (g->owner == part && (g->state == HV_GRANT_GRANTED || g->state == HV_GRANT_GONE))
			g->state = HV_GRANT_FREE;
		else if (g->owner == part && g->state == HV_GRANT_RESCINDING)
			poke |= 1u << g->sharer;
	}
	hv_unlock(&seg->grant_lock);
	return poke;
}

/* ------------------------------------------------------------------------------ the sharer ---- */

/*
 * acc[] is read by phyp_mem() without the lock: its words are stored one by one, between odd and
 * even acc_seq.
 */
static void acc_store(struct hv_acc *to, const struct hv_acc *from)
{
	vio_store_relaxed(&to->off, from->off);
	vio_store_relaxed(&to->len, from->len);
	to->room = from->room;
	to->cookie = from->cookie;
}

static void acc_begin(struct phyp_part *part)
{
	vio_store_relaxed(&part->acc_seq, part->acc_seq + 1);
	vio_fence_release(); /* pair V: odd before the words */
}

static void acc_end(struct phyp_part *part)
{
	vio_store_release(&part->acc_seq, part->acc_seq + 1); /* pair V: the words before even */
}

/* The lowest gap of len bytes: its position in acc[], its offset in *off; -1: none. */
static int acc_gap(const struct phyp_part *part, uint64_t len, uint64_t align, uint64_t *off)
{
	uint64_t at = 0;
	unsigned i = 0;

	if (part->n_acc == PHYP_MAX_GRANTS)
		return -1;
	for (; i < part->n_acc; i++) {
		if (part->acc[i].off >= at && part->acc[i].off - at >= len)
			break;
		at = VIO_ALIGN_UP(part->acc[i].off + part->acc[i].room, align);
	}
	*off = at;
	return vio_range_ok(at, len, part->acc_bytes) ? (int)i : -1;
}

static void acc_insert(struct phyp_part *part, unsigned at, struct hv_acc new)
{
	acc_begin(part);
	for (unsigned i = part->n_acc; i > at; i--)
		acc_store(&part->acc[i], &part->acc[i - 1]);
	acc_store(&part->acc[at], &new);
	vio_store_relaxed(&part->n_acc, part->n_acc + 1);
	acc_end(part);
}

static void acc_remove(struct phyp_part *part, unsigned at)
{
	acc_begin(part);
	for (unsigned i = at; i + 1 < part->n_acc; i++)
		acc_store(&part->acc[i], &part->acc[i + 1]);
	vio_store_relaxed(&part->n_acc, part->n_acc - 1);
	acc_end(part);
}

/* Taken back by force: phyp_mem() denies it from here on, its place stays taken. */
static void acc_kill(struct phyp_part *part, unsigned at)
{
	acc_begin(part);
	vio_store_relaxed(&part->acc[at].len, 0ull);
	acc_end(part);
}

/* Make an accepted range inaccessible again. */
static bool unmap(struct phyp_part *part, const struct hv_acc *x)
{
	return mmap(part->acc_va + x->off, x->room, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED;
}

/* Map the grant's pages with its permission. acc_lock is held. */
static int64_t map(struct phyp_part *part, const struct hv_grant *g, uint64_t cookie, uint64_t *off)
{
	struct hv_peer *peer = part->peer[g->owner];
	const struct hv_part *owner = &part->seg->part[g->owner];
	int prot = g->flags & GRANT_NO_WRITE ? PROT_READ : PROT_READ | PROT_WRITE;
	/*
	 * Large pages need their alignment, and large ranges profit; single pages would only waste
	 * room by it.
	 */
	int at = acc_gap(part, g->len, g->len >= 2ull << 20 ? 2ull << 20 : owner->backing, off);
	uint64_t in = g->gla & ((1ull << owner->lmb_shift) - 1);
	int64_t rc = H_RESCINDED;

	if (at < 0)
		return H_NOT_ENOUGH_RESOURCES;
	pthread_mutex_lock(&peer->lock);
	if (peer->gen == g->owner_gen) {
		void *va = mmap(part->acc_va + *off, g->len, prot,
				MAP_SHARED | MAP_FIXED | MAP_POPULATE,
				peer->fd[g->gla >> owner->lmb_shift], (off_t)in);

		rc = va == MAP_FAILED ? H_NOT_ENOUGH_RESOURCES : H_SUCCESS;
	}
	pthread_mutex_unlock(&peer->lock);
	if (rc == H_SUCCESS)
		acc_insert(part, (unsigned)at, (struct hv_acc){*off, g->len, g->len, cookie});
	return rc;
}

/* Take the grant of a cookie for this partition, as it is now. */
static int64_t look(struct phyp_part *part, uint64_t cookie, struct hv_grant *copy, bool take)
{
	struct hv_seg *seg = part->seg;
	struct hv_grant *g;
	int64_t rc;

	hv_lock(&seg->grant_lock);
	g = find(seg, cookie, &rc);
	if (g && g->sharer != part->idx)
		rc = H_PARAMETER;
	else if (g && (g->state == HV_GRANT_RESCINDING || g->state == HV_GRANT_GONE ||
		       !owner_lives(seg, g)))
		rc = H_RESCINDED;
	else if (g && g->state == HV_GRANT_GRANTED) {
		*copy = *g;
		if (take)
			g->state = HV_GRANT_ACCEPTED;
		rc = H_SUCCESS;
	}
	hv_unlock(&seg->grant_lock);
	return rc; /* accepted already: find()'s H_PARAMETER */
}

static void give_back(struct hv_seg *seg, uint64_t cookie)
{
	struct hv_grant *g;
	int64_t rc;

	hv_lock(&seg->grant_lock);
	g = find(seg, cookie, &rc);
	if (g)
		translation_gone(seg, g);
	hv_unlock(&seg->grant_lock);
}

int64_t hv_accept_logical(struct phyp_vcpu *v, const uint64_t *a, uint64_t *ret)
{
	struct phyp_part *part = v->part;
	uint64_t cookie = a[0], off = 0;
	struct hv_grant g;
	int64_t rc = look(part, cookie, &g, false);

	if (rc != H_SUCCESS)
		return rc;
	/* Before any lock: may ask phypd. */
	if (hv_peer_ready(part, part->peer[g.owner], g.owner_gen, false))
		return H_RESCINDED;
	pthread_mutex_lock(&part->acc_lock);
	rc = look(part, cookie, &g, true);
	if (rc == H_SUCCESS) {
		rc = map(part, &g, cookie, &off);
		if (rc != H_SUCCESS)
			give_back(part->seg, cookie);
	}
	pthread_mutex_unlock(&part->acc_lock);
	if (rc == H_SUCCESS) {
		ret[0] = HV_LOGICAL_BASE + off;
		ret[1] = g.len;
		ret[2] = GRANT_SYSTEM_MEMORY | g.flags;
		ret[3] = HV_UNIT_BASE + g.unit;
	}
	return rc;
}

int64_t hv_return_logical(struct phyp_vcpu *v, const uint64_t *a, uint64_t *ret)
{
	struct phyp_part *part = v->part;
	uint64_t cookie = a[0];
	struct hv_grant *g;
	int64_t rc;
	unsigned i = 0;

	(void)ret;
	pthread_mutex_lock(&part->acc_lock);
	while (i < part->n_acc && part->acc[i].cookie != cookie)
		i++;
	if (i < part->n_acc) {
		bool forced = part->acc[i].len == 0; /* the grant knows already */

		rc = H_BUSY;
		if (unmap(part, &part->acc[i])) {
			acc_remove(part, i);
			if (!forced)
				give_back(part->seg, cookie);
			rc = forced ? H_RESCINDED : H_SUCCESS;
		}
	} else {
		hv_lock(&part->seg->grant_lock);
		g = find(part->seg, cookie, &rc);
		if (g && g->sharer == part->idx && g->state == HV_GRANT_GONE)
			rc = H_RESCINDED;
		hv_unlock(&part->seg->grant_lock);
	}
	pthread_mutex_unlock(&part->acc_lock);
	return rc;
}

/* Is the grant that acc[i] was made from still to be used? */
static bool rescinded(struct hv_seg *seg, uint64_t cookie)
{
	const struct hv_grant *g;
	int64_t rc;
	bool gone;

	hv_lock(&seg->grant_lock);
	g = find(seg, cookie, &rc);
	gone = !g || g->state == HV_GRANT_RESCINDING;
	hv_unlock(&seg->grant_lock);
	return gone;
}

void hv_grants_sweep(struct phyp_part *part)
{
	unsigned i = 0;

	pthread_mutex_lock(&part->acc_lock);
	for (; i < part->n_acc; i++) {
		uint64_t cookie = part->acc[i].cookie;

		if (!rescinded(part->seg, cookie))
			continue;
		/* First denied, then inaccessible: who meets the hole in between can tell why it is there. */
		acc_kill(part, i);
		if (unmap(part, &part->acc[i]))
			give_back(part->seg, cookie);
	}
	pthread_mutex_unlock(&part->acc_lock);
}

/* ---------------------------------------------------------------------------- phyp_mem() ---- */

static bool acc_covers(const struct phyp_part *part, uint64_t off, uint64_t len)
{
	unsigned lo = 0, hi = vio_load_relaxed(&part->n_acc);

	/* The last grant that starts at or below off. */
	while (lo < hi) {
		unsigned mid = lo + (hi - lo) / 2;

		if (vio_load_relaxed(&part->acc[mid].off) <= off)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == 0)
		return false;
	return vio_range_ok(off - vio_load_relaxed(&part->acc[lo - 1].off), len,
			    vio_load_relaxed(&part->acc[lo - 1].len));
}

static void *accepted(const struct phyp_part *part, uint64_t off, uint64_t len)
{
	uint32_t seq;
	bool ok;

	do {
		while ((seq = vio_load_acquire(&part->acc_seq)) & 1) /* pair V */
			vio_cpu_relax();
		ok = off < part->acc_bytes && acc_covers(part, off, len);
		vio_fence_acquire(); /* pair V: the words before the sequence is looked at again */
	} while (vio_load_relaxed(&part->acc_seq) != seq);
	return ok ? part->acc_va + off : NULL;
}

void *phyp_mem(const struct phyp_part *part, struct gla a, uint64_t len)
{
	if (vio_likely(vio_range_ok(a.v, len, part->mem_bytes)))
		return part->mem + a.v;
	return a.v >= HV_LOGICAL_BASE ? accepted(part, a.v - HV_LOGICAL_BASE, len) : NULL;
}
