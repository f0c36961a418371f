/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * CRQs: registration, sending, transport events, receiving. LoPAR, "Command/Response Queue"; where
 * it is silent, as QEMU's spapr_vio behaves.
 *
 * A send takes the receiving queue's lock only, and answers H_BUSY when another partition keeps it. Registering, freeing and enabling take both ends'
 * locks, because they decide whether the pair is connected.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "phyp/core/crq.h"
#include "phyp/core/hcall.h"
#include "phyp/core/hv.h"
#include "phyp/core/irq.h"
#include "phyp/core/over.h"
#include "phyp/core/pe.h"
#include "phyp/core/peer.h"

#define ENTRIES_A_PAGE (CRQ_PAGE_BYTES / CRQ_ENTRY_BYTES)

static struct hv_unit *partner_of(struct hv_seg *seg, const struct hv_unit *u)
{
	return u->partner == HV_NONE ? NULL : &seg->unit[u->partner];
}

bool hv_pair_lock(struct hv_seg *seg, struct hv_unit *u)
{
	struct hv_unit *far = partner_of(seg, u), *first = far && far < u ? far : u,
		       *second = first == u ? far : u;

	if (!hv_lock(&first->crq.lock, HV_LOOKS))
		return false;
	if (!second || hv_lock(&second->crq.lock, HV_LOOKS))
		return true;
	hv_unlock(&first->crq.lock);
	return false;
}

void hv_pair_unlock(struct hv_seg *seg, struct hv_unit *u)
{
	struct hv_unit *far = partner_of(seg, u);

	if (far)
		hv_unlock(&far->crq.lock);
	hv_unlock(&u->crq.lock);
}

/* By the process that is the partition now: a dead one's queue may not have been closed yet. */
static bool registered(const struct hv_seg *seg, const struct hv_unit *u)
{
	return u->crq.state == HV_CRQ_REGISTERED &&
	       u->crq.gen == vio_load_relaxed(&seg->part[u->part].active);
}

/* Both locks are held: connected when both ends are registered and neither is suspended. */
static void set_link(struct hv_seg *seg, struct hv_unit *u)
{
	struct hv_unit *far = partner_of(seg, u);
	bool on;

	if (!far)
		return;
	on = registered(seg, u) && registered(seg, far);
	vio_store_release(&u->link, on ? vio_load_relaxed(&seg->part[far->part].active) : 0u);
	vio_store_release(&far->link, on ? vio_load_relaxed(&seg->part[u->part].active) : 0u);
}

/* ---------------------------------------------------------------- where entries are written ---- */

/* Standing mappings of all pages of the partner's queue. Its lock is held. */
static int crq_alias_make(struct hv_slots *s, struct hv_seg *seg, struct hv_unit *dst)
{
	struct hv_crq_alias *a = &s->lu->crq;
	const uint64_t *gla = hv_crq_pages(seg, dst);
	unsigned n = dst->crq.n / ENTRIES_A_PAGE;

	hv_crq_alias_drop(a);
	a->page = calloc(n, sizeof(*a->page));
	a->map = calloc(n, sizeof(*a->map));
	if (!a->page || !a->map) {
		hv_crq_alias_drop(a);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < n; i++) {
		struct hv_tmap *m = a->n_maps ? &a->map[a->n_maps - 1] : NULL;
		uint64_t len = CRQ_PAGE_BYTES;

		/* Contiguous pages share a mapping, as far as their LMB goes. */
		if (!m || gla[i] - m->gla >= m->len) {
			m = &a->map[a->n_maps++];
			while (i + len / CRQ_PAGE_BYTES < n &&
			       gla[i + len / CRQ_PAGE_BYTES] == gla[i] + len)
				len += CRQ_PAGE_BYTES;
		}
		a->page[i] = hv_peer_map(s->part, s->lu->peer, s->gen, m, gla[i], &len);
		if (!a->page[i]) {
			hv_crq_alias_drop(a);
			return -ENOMEM;
		}
	}
	a->n_pages = n;
	a->gen = s->gen;
	a->seq = dst->crq.seq;
	return 0;
}

/* From the partner's process. */
static uint64_t *slot_part(struct hv_slots *s, struct hv_seg *seg, struct hv_unit *dst, uint32_t i)
{
	uint64_t in = (i % ENTRIES_A_PAGE) * CRQ_ENTRY_BYTES, len = CRQ_ENTRY_BYTES;

	if (s->lu->kind != PHYP_ALIAS_TRANSIENT) {
		struct hv_crq_alias *a = &s->lu->crq;

		if (vio_likely(a->gen == s->gen && a->seq == dst->crq.seq && a->n_pages) ||
		    crq_alias_make(s, seg, dst) == 0)
			return (uint64_t *)(void *)(a->page[i / ENTRIES_A_PAGE] + in);
	}
	return (uint64_t *)(void *)hv_peer_map(s->part, s->lu->peer, s->gen, &s->map,
					       hv_crq_pages(seg, dst)[i / ENTRIES_A_PAGE] + in,
					       &len);
}

uint64_t *hv_slot_machine(struct hv_slots *s, struct hv_seg *seg, struct hv_unit *dst, uint32_t i)
{
	uint64_t len = CRQ_ENTRY_BYTES;

	return (uint64_t *)(void *)hv_tmap_get(&s->map, &seg->part[dst->part], s->fd,
					       hv_crq_pages(seg, dst)[i / ENTRIES_A_PAGE] +
						       (i % ENTRIES_A_PAGE) * CRQ_ENTRY_BYTES,
					       &len);
}

/* ------------------------------------------------------------------------------- entries ---- */

static bool slot_free(uint64_t raw_hi)
{
	return (vio_from_be64((struct be64){raw_hi}) >> 56) == CRQ_FREE;
}

/*
 * Did a sender that died here write its entry? It had put `scrub` into the free slot's first word,
 * a value with byte 0 free that neither an entry nor the receiver (who clears the whole word)
 * leaves there.
 */
static bool finish_intent(struct hv_crq *c, const uint64_t *slot)
{
	bool written = c->intent == c->tail + 1 && vio_load_acquire(&slot[0]) != c->scrub;

	if (written)
		c->tail = (c->tail + 1) % c->n;
	vio_store_relaxed(&c->intent, 0u);
	return written;
}

/*
 * Write an event over the last valid entry of a full queue. The receiver takes entries with a
 * compare-and-swap (phyp_crq_pop()), so either it took the old entry or it finds the event. false:
 * it took it, the queue has room now.
 */
static bool put_over_last(struct hv_seg *seg, struct hv_unit *dst, struct hv_slots *s,
			  uint64_t raw_hi)
{
	struct hv_crq *c = &dst->crq;
	uint64_t *last = s->slot(s, seg, dst, (c->tail + c->n - 1) % c->n);
	uint64_t old = last ? vio_load_acquire(&last[0]) : 0;

	return last && !slot_free(old) && vio_cas(&last[0], old, raw_hi);
}

int64_t hv_crq_put(struct hv_seg *seg, struct hv_unit *dst, struct hv_slots *s, uint64_t hi,
		   uint64_t lo, bool event)
{
	struct hv_crq *c = &dst->crq;
	uint64_t raw = vio_to_be64(hi).raw, *slot = s->slot(s, seg, dst, c->tail);

	if (slot && vio_unlikely(c->intent) && finish_intent(c, slot))
		slot = s->slot(s, seg, dst, c->tail);
	/*
	 * The queue is the receiver's memory: one that plays with its entries is looked at a few
	 * times, not for ever.
	 */
	for (unsigned tries = 0; slot && !slot_free(vio_load_acquire(&slot[0]));
	     tries++) { /* pair C: pop before reuse */
		if (!event || tries == 4)
			return H_DROPPED;
		if (put_over_last(seg, dst, s, raw))
			return H_SUCCESS;
		slot = s->slot(s, seg, dst, c->tail);
	}
	if (!slot)
		return H_HARDWARE;
	c->scrub = vio_to_be64((UINT64_MAX >> 8) ^ (hi & 1)).raw;
	vio_store_relaxed(&slot[0], c->scrub);
	vio_store_release(
		&c->intent,
		c->tail +
			1); /* pair E: scrub before intent, intent before entry (a death between) */
	vio_store_relaxed(&slot[1], vio_to_be64(lo).raw);
	vio_fence_release(); /* pair C: second doubleword before the first */
	vio_store_release(&slot[0], raw);
	c->tail = c->tail + 1 == c->n ? 0 : c->tail + 1;
	vio_store_release(&c->intent, 0u);
	return H_SUCCESS;
}

static uint64_t event_word(uint8_t event)
{
	return (uint64_t)CRQ_TRANSPORT << 56 | (uint64_t)event << 48;
}

/* Both locks are held. The partner when it was told. */
static struct hv_unit *close_locked(struct hv_seg *seg, struct hv_unit *u, uint8_t event,
				    struct hv_slots *s)
{
	struct hv_unit *far = partner_of(seg, u), *told = NULL;

	/*
	 * The event first: a caller that dies in here leaves the queue registered or the pair
	 * linked, and phypd does all of it once more (pair E). The partner may then find the event
	 * twice, never not at all.
	 */
	if (u->crq.state != HV_CRQ_FREE || u->link || (far && far->link)) {
		if (far && far->crq.state != HV_CRQ_FREE &&
		    hv_crq_put(seg, far, s, event_word(event), 0, true) == H_SUCCESS)
			told = far;
		u->crq.state = HV_CRQ_FREE;
		vio_store_relaxed(&u->crq.signal, 0u);
		set_link(seg, u);
		vio_fetch_add(&u->closings, 1); /* pair AA: after the links */
	}
	return told;
}

int hv_crq_close(struct hv_seg *seg, struct hv_unit *u, uint32_t gen, uint8_t event,
		 struct hv_slots *s, struct hv_unit **told)
{
	*told = NULL;
	if (!hv_pair_lock(seg, u))
		return -EBUSY;
	/* One that a later generation registered has been closed for the earlier ones (hv_reg_crq()). */
	if (u->crq.state == HV_CRQ_FREE || (int32_t)(gen - u->crq.gen) >= 0)
		*told = close_locked(seg, u, event, s);
	hv_pair_unlock(seg, u);
	return 0;
}

int hv_crq_event(struct hv_seg *seg, struct hv_unit *u, uint8_t event, struct hv_slots *s)
{
	bool there;

	if (!hv_pair_lock(seg, u))
		return -EBUSY;
	there = u->crq.state != HV_CRQ_FREE;
	if (there) {
		if (event == CRQ_XPORT_SUSPENDED)
			u->crq.state = HV_CRQ_SUSPENDED;
		set_link(seg, u);
		hv_crq_put(seg, u, s, event_word(event), 0, true);
	}
	hv_pair_unlock(seg, u);
	return there ? 0 : -ENOTCONN;
}

/* --------------------------------------------------------------------------------- calls ---- */

/* Guest-logical address of each 4 KiB page of [ioba, ioba+bytes); list may be NULL (check only). */
static bool resolve_pages(const struct hv_win *w, uint64_t ioba, uint64_t bytes, uint64_t *list)
{
	uint64_t off = ioba - w->base;

	if (ioba < w->base || !vio_range_ok(off, bytes, w->bytes))
		return false;
	for (uint64_t done = 0; done < bytes; done += CRQ_PAGE_BYTES) {
		uint64_t tce = vio_load_relaxed(&w->tce[(off + done) >> w->shift]);

		/* The hypervisor writes the entries: it is the device. */
		if (!(tce & TCE_WRITE))
			return false;
		if (list)
			list[done / CRQ_PAGE_BYTES] =
				(tce & TCE_PAGE_MASK) + ((off + done) & ((1ull << w->shift) - 1));
	}
	return true;
}

static void raise_far(struct phyp_vcpu *v, struct hv_lunit *lu)
{
	unsigned did = hv_irq_raise(v->part->seg, lu->far, lu->peer->evfd);

	if (did & 1)
		vio_counter_add(&v->c->irq_raised, 1u);
	if (did & 2)
		vio_counter_add(&v->c->irq_wakes, 1u);
}

/* How this process reaches the partner's queue. Before any lock is taken: it may ask phypd. */
static struct hv_slots slots_for(struct phyp_part *part, struct hv_lunit *lu)
{
	struct hv_slots s = {.slot = slot_part, .part = part, .lu = lu};

	s.gen = vio_load_acquire(&part->seg->part[lu->peer->part].active);
	if (vio_unlikely(vio_load_relaxed(&lu->peer->gen) != s.gen || s.gen == 0) &&
	    hv_peer_ready(part, lu->peer, s.gen, false))
		s.gen = 0; /* no memory is of generation 0: nothing can be mapped */
	return s;
}

int64_t hv_reg_crq(struct phyp_vcpu *v, const uint64_t *a, uint64_t *ret)
{
	struct hv_seg *seg = v->part->seg;
	struct hv_lunit *lu = hv_own_unit(v->part, a[0]);
	uint64_t ioba = a[1], bytes = a[2];
	struct hv_unit *told = NULL;
	struct hv_crq *c;
	struct hv_slots s;
	int64_t rc = H_RESOURCE;
	const struct hv_win *w;

	(void)ret;
	if (!lu)
		return H_PARAMETER;
	w = &v->part->win[lu->index];
	if (bytes == 0 || bytes % CRQ_PAGE_BYTES || bytes > CRQ_MAX_BYTES ||
	    ioba % CRQ_PAGE_BYTES || !resolve_pages(w, ioba, bytes, NULL))
		return H_PARAMETER;
	if (!lu->far)
		return H_NOT_FOUND;
	c = &lu->u->crq;
	s = slots_for(v->part, lu);
	if (!hv_pair_lock(seg, lu->u)) {
		hv_tmap_put(&s.map);
		return H_BUSY;
	}
	/* Of a process that was this partition before, and phypd could not close it yet. */
	if (c->state != HV_CRQ_FREE && c->gen != v->part->gen)
		told = close_locked(seg, lu->u, CRQ_XPORT_PARTNER_FAILED, &s);
	if (hv_pe_stopped(lu->u)) {
		rc = H_R_STATE;
	} else if (c->state == HV_CRQ_FREE) {
		rc = H_PARAMETER; /* somebody unmapped it since */
		if (resolve_pages(w, ioba, bytes, hv_crq_pages(seg, lu->u))) {
			c->n = (uint32_t)(bytes / CRQ_ENTRY_BYTES);
			c->tail = 0;
			c->intent = 0;
			c->gen = v->part->gen;
			c->seq++;
			vio_store_relaxed(&c->signal, 0u);
			c->state = HV_CRQ_REGISTERED;
			set_link(seg, lu->u);
			rc = registered(seg, lu->far) || lu->far->crq.state == HV_CRQ_SUSPENDED
				     ? H_SUCCESS
				     : H_CLOSED;
		}
	}
	hv_pair_unlock(seg, lu->u);
	hv_tmap_put(&s.map);
	if (told)
		raise_far(v, lu);
	return rc;
}

int64_t hv_free_crq(struct phyp_vcpu *v, const uint64_t *a, uint64_t *ret)
{
	struct hv_lunit *lu = hv_own_unit(v->part, a[0]);
	struct hv_unit *told;
	struct hv_slots s;
	int rc;

	(void)ret;
	if (!lu)
		return H_PARAMETER;
	if (!lu->far)
		return H_SUCCESS;
	s = slots_for(v->part, lu);
	rc = hv_crq_close(v->part->seg, lu->u, v->part->gen, CRQ_XPORT_PARTNER_DEREGISTERED, &s,
			  &told);
	if (told)
		raise_far(v, lu);
	hv_tmap_put(&s.map);
	/* The partner's RDMA calls that began before may still copy: a client's memory is its own only after them. */
	return rc == 0 && hv_closing_over(v, lu) ? H_SUCCESS : H_BUSY;
}

int64_t hv_enable_crq(struct phyp_vcpu *v, const uint64_t *a, uint64_t *ret)
{
	struct hv_seg *seg = v->part->seg;
	struct hv_lunit *lu = hv_own_unit(v->part, a[0]);
	int64_t rc = H_SUCCESS;

	(void)ret;
	if (!lu)
		return H_PARAMETER;
	if (!hv_pair_lock(seg, lu->u))
		return H_BUSY;
	if (lu->u->crq.state == HV_CRQ_FREE)
		rc = H_NOT_FOUND; /* assumption: the specification does not say */
	else
		lu->u->crq.state = HV_CRQ_REGISTERED;
	set_link(seg, lu->u);
	hv_pair_unlock(seg, lu->u);
	return rc;
}

int64_t hv_vio_signal(struct phyp_vcpu *v, const uint64_t *a, uint64_t *ret)
{
	struct hv_lunit *lu = hv_own_unit(v->part, a[0]);

	(void)ret;
	if (!lu || a[1] & ~VIO_SIGNAL_ON)
		return H_PARAMETER;
	vio_store_release(&lu->u->crq.signal, (uint32_t)a[1]);
	vio_fence_full(); /* pair I: the caller looks at its queue once more after this */
	return H_SUCCESS;
}

/* A pair that is not connected. */
static int64_t why_closed(const struct hv_lunit *lu)
{
	return hv_stopped(lu) ? H_R_STATE : H_CLOSED;
}

/* In hv_dma_begin(). */
static int64_t crq_send(struct phyp_vcpu *v, struct hv_lunit *lu, uint64_t hi, uint64_t lo)
{
	struct hv_slots s;
	int64_t rc = H_CLOSED;

	/* Not registered or not connected here: answered without touching the partner's line. */
	if (!lu->far || vio_load_acquire(&lu->u->link) == 0 || hv_stopped(lu))
		return rc;
	s = slots_for(v->part, lu);
	if (!hv_lock(&lu->far->crq.lock, HV_LOOKS)) {
		hv_tmap_put(&s.map);
		return H_BUSY;
	}
	/*
	 * Again under the lock that a free or death has to take; and the memory is the connected
	 * generation's.
	 */
	if (vio_load_relaxed(&lu->u->link) == s.gen && s.gen != 0)
		rc = hv_crq_put(v->part->seg, lu->far, &s, hi, lo, false);
	hv_unlock(&lu->far->crq.lock);
	hv_tmap_put(&s.map);
	return rc;
}

int64_t hv_send_crq(struct phyp_vcpu *v, const uint64_t *a, uint64_t *ret)
{
	struct hv_lunit *lu = hv_own_unit(v->part, a[0]);
	uint64_t valid = a[1] >> 56;
	int64_t rc;

	(void)ret;
	if (!lu || !(valid & 0x80) || valid == CRQ_TRANSPORT)
		return H_PARAMETER;
	hv_dma_begin(v);
	rc = crq_send(v, lu, a[1], a[2]);
	hv_dma_end(v);
	if (rc == H_SUCCESS)
		raise_far(v, lu);
	return vio_unlikely(rc == H_CLOSED) ? why_closed(lu) : rc;
}

bool phyp_crq_pop(struct phyp_crq *q, uint64_t *hi, uint64_t *lo)
{
	uint64_t *e = q->entry + 2ull * q->next;
	uint64_t first = vio_load_acquire(&e[0]), second; /* pair C */

	if (slot_free(first))
		return false;
	do
		second = vio_load_relaxed(&e[1]);
	/*
	 * Not a plain store: the hypervisor may be writing a transport event over the last entry of
	 * a full queue. Pair C: the second word is read before the slot is free again.
	 */
	while (!vio_cas(&e[0], first, 0ull));
	q->next = q->next + 1 == q->n ? 0 : q->next + 1;
	*hi = vio_from_be64((struct be64){first});
	*lo = vio_from_be64((struct be64){second});
	return true;
}
