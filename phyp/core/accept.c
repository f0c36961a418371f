/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shared logical resources, the sharer's side: accepting a partner's grant, returning it, and what takes it back by force.
 *
 * Permission on a CPU: a grant that inhibits writing is mapped read-only. One that inhibits reading
 * only is mapped read-write, because no MMU here maps a page writable and not readable; one that
 * inhibits both is refused.
 */
#include <sys/mman.h>

#include "phyp/core/grant.h"
#include "phyp/core/hcall.h"
#include "phyp/core/pe.h"
#include "phyp/core/peer.h"

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
		struct hv_grant *g = hv_grant_find(part->seg, cookie, now, rc);

		if (!g)
			return NULL;
		*rc = H_PARAMETER; /* also when it is accepted already */
		if (now->sharer != part->idx || (unit && unit != HV_UNIT_BASE + now->unit))
			return NULL;
		if (hv_pair_stopped(part->seg, &part->seg->unit[now->unit])) {
			*rc = H_R_STATE;
			return NULL;
		}
		if (hv_state_of(now->word) == HV_GRANT_RESCINDING ||
		    hv_state_of(now->word) == HV_GRANT_GONE ||
		    !hv_grant_owner_lives(part->seg, g, now->owner_gen))
			*rc = H_RESCINDED;
		else if (hv_state_of(now->word) == HV_GRANT_GRANTED)
			*rc = H_SUCCESS;
		if (*rc != H_SUCCESS)
			return NULL;
		if (!take || hv_grant_move(g, now->word, HV_GRANT_ACCEPTED))
			return g;
	}
}

static void give_back(struct hv_seg *seg, uint64_t cookie)
{
	struct hv_grant now, *g;
	int64_t rc;

	g = hv_grant_find(seg, cookie, &now, &rc);
	if (g)
		hv_grant_gone(seg, g, now);
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
	owner = hv_owner_of(part->seg, live);
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
	} else if (hv_grant_find(part->seg, cookie, &now, &rc) && now.sharer == part->idx &&
		   hv_state_of(now.word) == HV_GRANT_GONE) {
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

	return !hv_grant_find(seg, cookie, &now, &rc) ||
	       hv_state_of(now.word) == HV_GRANT_RESCINDING;
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
