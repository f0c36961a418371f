/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shared logical resources: the calls by which a partition lets its partner CPU-map pages. LoPAR,
 * "Shared Logical Resources"; the numbers are rHype's.
 *
 * Permission on a CPU: a grant that inhibits writing is mapped read-only. One that inhibits reading
 * only is mapped read-write, because no MMU here maps a page writable and not readable; one that
 * inhibits both is refused.
 *
 * No lock is shared: a grant's state and sequence are one word that changes by compare-and-swap, so
 * that a partition stopped or killed in the middle of a call keeps nobody waiting. The sharer's
 * translation changes under its own process's acc_lock, taken first. So a forced rescind that finds
 * a grant accepted can rely on the agent, who takes acc_lock, to see the mapping complete.
 */
#include <string.h>
#include <sys/mman.h>

#include "phyp/hv.h"
#include "phyp/siphash.h"

#define COOKIE_INDEX_BITS 12
#define COOKIE_SEQ_BITS   20
static_assert(PHYP_MAX_GRANTS <= 1u << COOKIE_INDEX_BITS, "a cookie names any grant");

static uint32_t seq_of(uint64_t word)
{
	return (uint32_t)(word >> 8);
}

static enum hv_grant_state state_of(uint64_t word)
{
	return (enum hv_grant_state)(word & 0xff);
}

static uint64_t word_of(uint32_t seq, enum hv_grant_state state)
{
	return (uint64_t)seq << 8 | (uint64_t)state;
}

/* From `old`, which is what was looked at, to another state. false: it is not so any more. */
static bool move(struct hv_grant *g, uint64_t old, enum hv_grant_state state)
{
	return vio_cas(&g->word, old, word_of(seq_of(old), state)); /* pair F */
}

static uint32_t owner_of(const struct hv_seg *seg, const struct hv_grant *g)
{
	return (uint32_t)(g - seg->grant) / seg->grants_each;
}

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

/*
 * The live grant of a cookie, as it is now in *copy. Else NULL and *rc: H_RESCINDED for one that
 * existed, H_PARAMETER.
 */
static struct hv_grant *find(struct hv_seg *seg, uint64_t cookie, struct hv_grant *copy,
			     int64_t *rc)
{
	const uint32_t wrap = 1u << COOKIE_SEQ_BITS;
	uint64_t i = cookie & ((1u << COOKIE_INDEX_BITS) - 1);
	uint32_t low = (uint32_t)(cookie >> COOKIE_INDEX_BITS) & (wrap - 1), now, seq;

	*rc = H_PARAMETER;
	if (i >= (uint64_t)seg->grants_each * seg->n_parts)
		return NULL;
	look_at(&seg->grant[i], copy);
	now = seq_of(copy->word);
	/* The youngest sequence so far that ends in these bits. */
	seq = now - ((now - low) & (wrap - 1));
	if (seq == 0 || seq > now || cookie_of(seg, i, seq) != cookie)
		return NULL;
	if (seq == now && state_of(copy->word) != HV_GRANT_FREE)
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

		if (state_of(vio_load_acquire(&g->word)) == HV_GRANT_FREE) { /* pair F */
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
	pthread_mutex_lock(&part->grant_lock);
	g = free_grant(part);
	rc = H_NO_MEM;
	if (g) {
		uint32_t seq = seq_of(g->word) + 1;

		seq += seq == 0;
		vio_fence_release(); /* pair F: found free before what follows is seen */
		vio_store_relaxed(&g->owner_gen, part->gen);
		vio_store_relaxed(&g->sharer, lu->far->part);
		vio_store_relaxed(&g->unit, lu->u->partner);
		vio_store_relaxed(&g->flags, (uint32_t)(a[0] & both));
		vio_store_relaxed(&g->gla, a[2]);
		vio_store_relaxed(&g->len, a[3]);
		/* Pair F: all of it before the word; a death before this leaves it free. */
		vio_store_release(&g->word, word_of(seq, HV_GRANT_GRANTED));
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

		g = find(part->seg, cookie, &now, &rc);
		if (!g)
			return rc;
		if (owner_of(part->seg, g) != part->idx)
			return H_PARAMETER;
		switch (state_of(now.word)) {
		case HV_GRANT_GRANTED:
		case HV_GRANT_GONE:
			if (move(g, now.word, HV_GRANT_FREE))
				return H_SUCCESS;
			continue;
		case HV_GRANT_ACCEPTED:
			if (!forced)
				return H_RESOURCE;
			if (!move(g, now.word, HV_GRANT_RESCINDING))
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
	part->plane->poke(part, poke);
	return rescind_step(part, a[1], true, &poke);
}

/* The grants of a partition that is no more, one: true when its sharer has to be poked. */
static bool force(struct hv_grant *g, uint32_t gen, uint32_t *sharer)
{
	struct hv_grant now;

	do {
		look_at(g, &now);
		*sharer = now.sharer;
		if (state_of(now.word) == HV_GRANT_FREE || now.owner_gen != gen)
			return false;
		if (state_of(now.word) == HV_GRANT_RESCINDING)
			return true;
		if (state_of(now.word) == HV_GRANT_ACCEPTED) {
			if (move(g, now.word, HV_GRANT_RESCINDING))
				return true;
			continue;
		}
	} while (!move(g, now.word, HV_GRANT_FREE));
	return false;
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

/* The owner is of this generation and active: somebody will ask about the grant again. */
static bool owner_lives(const struct hv_seg *seg, const struct hv_grant *g, uint32_t gen)
{
	return vio_load_acquire(&seg->part[owner_of(seg, g)].active) == gen;
}

/* The sharer's translation of what `now` shows is gone, by return, forced rescind, or death. */
static void translation_gone(const struct hv_seg *seg, struct hv_grant *g, struct hv_grant now)
{
	const uint32_t seq = seq_of(now.word);

	for (; seq_of(now.word) == seq; look_at(g, &now)) {
		enum hv_grant_state to = HV_GRANT_GRANTED;

		if (state_of(now.word) == HV_GRANT_RESCINDING)
			to = owner_lives(seg, g, now.owner_gen) ? HV_GRANT_GONE : HV_GRANT_FREE;
		else if (state_of(now.word) != HV_GRANT_ACCEPTED)
			return;
		if (move(g, now.word, to))
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
		if (state_of(now.word) == HV_GRANT_FREE)
			continue;
		if (now.sharer == part)
			translation_gone(seg, g, now); /* it went with the process */
		if (owner_of(seg, g) != part)
			continue;
		/* The owner is no more; only the sharer may still change it. */
		look_at(g, &now);
		if (state_of(now.word) == HV_GRANT_RESCINDING)
			poke |= 1u << now.sharer;
		else if (state_of(now.word) == HV_GRANT_GRANTED ||
			 state_of(now.word) == HV_GRANT_GONE)
			move(g, now.word, HV_GRANT_FREE); /* else accepted just now: forced later */
	}
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
	to->drain = from->drain;
	to->unit = from->unit;
	to->back = from->back;
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
static int64_t map(struct phyp_part *part, uint32_t from, const struct hv_grant *g, uint64_t cookie,
		   uint64_t *off)
{
	struct hv_peer *peer = part->peer[from];
	const struct hv_part *owner = &part->seg->part[from];
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
		acc_insert(part, (unsigned)at,
			   (struct hv_acc){.off = *off,
					   .len = g->len,
					   .room = g->len,
					   .cookie = cookie,
					   .unit = g->unit});
	return rc;
}

/*
 * The grant of a cookie for this partition, as it is now; taken when `take`. unit: the adapter that
 * it must have been made for, 0 for any: looked at first, so that the cookie of another adapter has
 * no effect. NULL and *rc.
 */
static struct hv_grant *look(struct phyp_part *part, uint64_t cookie, uint64_t unit,
			     struct hv_grant *now, bool take, int64_t *rc)
{
	for (;;) {
		struct hv_grant *g = find(part->seg, cookie, now, rc);

		if (!g)
			return NULL;
		*rc = H_PARAMETER; /* also when it is accepted already */
		if (now->sharer != part->idx || (unit && unit != HV_UNIT_BASE + now->unit))
			return NULL;
		if (state_of(now->word) == HV_GRANT_RESCINDING ||
		    state_of(now->word) == HV_GRANT_GONE ||
		    !owner_lives(part->seg, g, now->owner_gen))
			*rc = H_RESCINDED;
		else if (state_of(now->word) == HV_GRANT_GRANTED)
			*rc = H_SUCCESS;
		if (*rc != H_SUCCESS)
			return NULL;
		if (!take || move(g, now->word, HV_GRANT_ACCEPTED))
			return g;
	}
}

static void give_back(struct hv_seg *seg, uint64_t cookie)
{
	struct hv_grant now, *g;
	int64_t rc;

	g = find(seg, cookie, &now, &rc);
	if (g)
		translation_gone(seg, g, now);
}

int64_t hv_accept_logical(struct phyp_vcpu *v, const uint64_t *a, uint64_t *ret)
{
	struct phyp_part *part = v->part;
	uint64_t cookie = a[0], off = 0;
	struct hv_grant g, *live;
	uint32_t owner;
	int64_t rc;

	live = look(part, cookie, a[1], &g, false, &rc);
	if (!live)
		return rc;
	owner = owner_of(part->seg, live);
	/* Before any lock: may ask phypd. */
	if (hv_peer_ready(part, part->peer[owner], g.owner_gen, false))
		return H_RESCINDED;
	pthread_mutex_lock(&part->acc_lock);
	if (look(part, cookie, a[1], &g, true, &rc)) {
		rc = map(part, owner, &g, cookie, &off);
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
	struct hv_grant now;
	int64_t rc;
	unsigned i = 0;

	(void)ret;
	pthread_mutex_lock(&part->acc_lock);
	while (i < part->n_acc && part->acc[i].cookie != cookie)
		i++;
	if (i < part->n_acc) {
		bool forced = part->acc[i].len == 0;

		rc = H_BUSY;
		if (unmap(part, &part->acc[i])) {
			/* The sharer says that it uses it no more: so a drain has ended as well. */
			if (part->acc[i].back != HV_ACC_GONE)
				give_back(part->seg, cookie);
			acc_remove(part, i);
			rc = forced ? H_RESCINDED : H_SUCCESS;
		}
	} else if (find(part->seg, cookie, &now, &rc) && now.sharer == part->idx &&
		   state_of(now.word) == HV_GRANT_GONE) {
		rc = H_RESCINDED;
	}
	pthread_mutex_unlock(&part->acc_lock);
	return rc;
}

/* Is the grant that acc[i] was made from still to be used? */
static bool rescinded(struct hv_seg *seg, uint64_t cookie)
{
	struct hv_grant now;
	int64_t rc;

	return !find(seg, cookie, &now, &rc) || state_of(now.word) == HV_GRANT_RESCINDING;
}

/* Who has to say that acc[i] is used no more; .start NULL: nobody. acc_lock is held. */
static const struct phyp_drain *drain_of(struct phyp_part *part, const struct hv_acc *x)
{
	return &hv_own_unit(part, HV_UNIT_BASE + x->unit)->drain;
}

/* One step of taking acc[i] back by force. true: there is another. */
static bool take_back(struct phyp_part *part, unsigned i)
{
	struct hv_acc *x = &part->acc[i];
	const struct phyp_drain *d = drain_of(part, x);

	if (x->back == HV_ACC_LIVE) {
		if (!rescinded(part->seg, x->cookie))
			return false;
		/* First denied, then inaccessible: who meets the hole in between can tell why it is there. */
		acc_kill(part, i);
		if (!unmap(part, x))
			return true;
		/* Only now: whoever pins pages from here on finds none. */
		x->drain = d->start ? d->start(d->ctx) : 0;
		x->back = HV_ACC_DRAINING;
	}
	if (x->back == HV_ACC_DRAINING) {
		if (d->start && !d->done(d->ctx, x->drain))
			return true;
		x->back = HV_ACC_GONE;
		give_back(part->seg, x->cookie);
	}
	return false;
}

unsigned hv_grants_sweep(struct phyp_part *part)
{
	bool again = false;

	pthread_mutex_lock(&part->acc_lock);
	for (unsigned i = 0; i < part->n_acc; i++)
		again |= take_back(part, i);
	pthread_mutex_unlock(&part->acc_lock);
	return again ? HV_AGAIN_DRAINING : 0;
}

void phyp_on_rescind(struct phyp_part *part, uint32_t unit, const struct phyp_drain *drain)
{
	struct hv_lunit *lu = hv_own_unit(part, unit);

	pthread_mutex_lock(&part->acc_lock);
	if (lu)
		lu->drain = drain ? *drain : (struct phyp_drain){0};
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
