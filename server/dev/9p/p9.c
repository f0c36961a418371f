/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-9p: a chain is a 9P message and room for its answer (include/uapi/linux/virtio_9p.h; VIRTIO 1.2 has the
 * device's id and no more). Messages go to the 9P server as they are, but for the length that Tversion proposes;
 * answers find their chain by the message's tag.
 *
 * A Tversion begins a connection of its own, so that a guest that mounts again, or comes again after a reset, meets a
 * server that has forgotten what was open; all that was under way before is answered with an error, as 9P has it. So is all that
 * is under way when the server goes, and whatever comes until the next Tversion.
 *
 * Between two turns nothing of the guest is used for a message that is out: the whole of it has been copied, and its
 * answer's place is looked up when the answer is there. So those that are out are `parked`, and neither resets nor windows
 * wait for a server that takes its time.
 */
#include <errno.h>
#include <string.h>

#include "server/core/squeue.h"
#include "server/dev/9p/p9.h"
#include "server/payload/payload.h"

/* Bytes of answers in one turn: the other guests of the lcore wait meanwhile. One message may be as long. */
#define P9_TURN VIO_9P_MSIZE

static inline uint16_t le16_at(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t le32_at(const uint8_t *p)
{
	return (uint32_t)le16_at(p) | (uint32_t)le16_at(p + 2) << 16;
}

static inline void put_le32(uint8_t *p, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static inline struct vio_9p_peer *peer_of(const struct vio_squeue *q)
{
	return &vio_9p_of(q->dq->dev)->peer;
}

static inline struct vio_9p_slot *slot_of(const struct vio_req *r)
{
	return &vio_9p_queue_of(r->q)->slot[r->head];
}

/* ------------------------------------------------------------------- the guest's bytes ---- */

/* How far a copy to or from r->iov has come. */
struct p9_walk {
	const struct iovec *iov;
	size_t at;
};

/* The next bytes that lie in one piece, *n of them at most. */
static uint8_t *walk_next(struct p9_walk *w, uint32_t *n)
{
	uint8_t *p;

	while (w->at == w->iov->iov_len) {
		w->iov++;
		w->at = 0;
	}
	if (*n > w->iov->iov_len - w->at)
		*n = (uint32_t)(w->iov->iov_len - w->at);
	p = (uint8_t *)w->iov->iov_base + w->at;
	w->at += *n;
	return p;
}

static void walk_copy(struct p9_walk *w, uint8_t *own, uint32_t len, bool to_guest)
{
	while (len > 0) {
		uint32_t n = len;
		uint8_t *p = walk_next(w, &n);

		memcpy(to_guest ? p : own, to_guest ? own : p, n);
		own += n;
		len -= n;
	}
}

/* The first `len` bytes of the segments from `seg` on, which have as many, for this CPU. False: r->fault says why. */
static bool p9_map(struct vio_squeue *q, struct vio_req *r, struct vio_seg *seg, uint32_t len,
		   bool to_guest)
{
	r->data = seg;
	r->n_data = 0;
	for (uint32_t left = len; left > 0; left -= seg[r->n_data++].len)
		if (seg[r->n_data].len > left)
			seg[r->n_data].len = left;
	r->data_len = len;
	r->to_guest = to_guest;
	r->bounce = NULL;
	r->waits = false;
	q->payload->get(q, &r, 1);
	if (r->waits) /* can't be: nothing else of this queue has a place */
		r->fault = VIO_ST_NO_DMA;
	return r->fault == VIO_ST_OK;
}

static void p9_unmap(struct vio_squeue *q, struct vio_req *r)
{
	q->payload->put(q, &r, 1);
	vio_counter_add(&q->stats.cpu_bytes, r->data_len);
	r->n_data = 0;
	r->data_len = 0;
}

/* ------------------------------------------------------------------------- the answer ---- */

/* Header and the rest, which is in `from` or, where that is NULL, the next of the peer's ring. It fits. */
static void p9_answer(struct vio_squeue *q, struct vio_req *r, uint8_t hdr[VIO_9P_HDR],
		      uint8_t *from, uint32_t size)
{
	struct vio_bytes *in = &peer_of(q)->in;
	struct p9_walk w = {.iov = r->iov};
	uint32_t left = size - VIO_9P_HDR;

	if (!p9_map(q, r, &r->seg[r->n_readable], size, true)) {
		if (!from)
			vio_bytes_done_reading(in, left);
		return;
	}
	walk_copy(&w, hdr, VIO_9P_HDR, true);
	if (from)
		walk_copy(&w, from, left, true);
	while (!from && left > 0) {
		uint32_t n = left;
		uint8_t *to = walk_next(&w, &n);

		vio_bytes_read(in, to, n);
		left -= n;
	}
	p9_unmap(q, r);
	r->used_len = size;
	vio_counter_add(&q->stats.reads, 1);
	vio_counter_add(&q->stats.bytes_read, size);
}

/* Our own answer. A chain without room for it is given back without bytes. */
static void p9_fail(struct vio_squeue *q, struct vio_req *r, uint32_t why)
{
	struct vio_9p_slot *s = slot_of(r);
	uint8_t m[VIO_9P_ERROR] = {
		[4] = VIO_9P_RLERROR, [5] = (uint8_t)s->tag, [6] = (uint8_t)(s->tag >> 8)};
	struct vio_9p *d = vio_9p_of(q->dq->dev);

	put_le32(m, VIO_9P_ERROR);
	put_le32(m + VIO_9P_HDR, why);
	s->where = VIO_9P_FREE;
	r->used_len = 0;
	vio_counter_add(&d->failed, 1);
	vio_counter_add(&q->stats.errors, 1);
	if (s->room >= VIO_9P_ERROR)
		p9_answer(q, r, m, m + VIO_9P_HDR, VIO_9P_ERROR);
}

/* It is out no more. */
static void p9_back(struct vio_9p_queue *pq, struct vio_9p_slot *s)
{
	pq->head[s->tag] = 0;
	pq->n_sent--;
	s->where = VIO_9P_FREE;
}

/* The session is over: whatever is out, or waits to be sent, is to be answered with an error. */
static void p9_lose(struct vio_squeue *q)
{
	struct vio_9p_queue *pq = vio_9p_queue_of(q);

	for (unsigned h = 0; pq->n_sent > 0 && h < pq->depth; h++) {
		if (pq->slot[h].where != VIO_9P_SENT)
			continue;
		p9_back(pq, &pq->slot[h]);
		vio_sq_wait(q, (struct vio_req *[]){&q->req[h]}, 1, false);
	}
	while (q->wait_head) {
		struct vio_req *r = vio_sq_unwait(q);

		slot_of(r)->where = VIO_9P_LOST;
		r->next = pq->lost;
		pq->lost = r;
		pq->n_lost++;
	}
	pq->has_hdr = false;
}

/* What the server says makes no sense: it is not talked with any longer. */
static void p9_break(struct vio_squeue *q)
{
	vio_9p_peer_session(peer_of(q), false);
	p9_lose(q);
}

/* The header of the next answer, when all of that is there; 0: not yet, else its size. */
static uint32_t p9_next(struct vio_9p_queue *pq, struct vio_9p_peer *p)
{
	uint32_t size;

	if (!pq->has_hdr) {
		if (vio_bytes_ready(&p->in) < VIO_9P_HDR)
			return 0;
		vio_bytes_read(&p->in, pq->hdr, VIO_9P_HDR);
		pq->has_hdr = true;
	}
	size = le32_at(pq->hdr);
	if (size < VIO_9P_HDR || size > VIO_9P_MSIZE)
		return size ? size : 1;
	return vio_bytes_ready(&p->in) < size - VIO_9P_HDR ? 0 : size;
}

/* One answer to its chain. How many chains are done of it: after a flush the flushed one too, which gets none. */
static unsigned p9_deliver(struct vio_squeue *q, uint32_t size, struct vio_req *done[])
{
	struct vio_9p_queue *pq = vio_9p_queue_of(q);
	const uint16_t at = pq->head[le16_at(pq->hdr + 5)];
	struct vio_req *r = &q->req[at - 1];
	struct vio_9p_slot *s = slot_of(r);
	unsigned n = 0;

	p9_back(pq, s);
	if (s->type == VIO_9P_TFLUSH && pq->hdr[4] == VIO_9P_RFLUSH && pq->head[s->old_tag]) {
		struct vio_req *old = &q->req[pq->head[s->old_tag] - 1];

		p9_back(pq, slot_of(old));
		old->used_len = 0;
		vio_counter_add(&vio_9p_of(q->dq->dev)->flushed, 1);
		done[n++] = old;
	}
	if (size <= s->room) {
		p9_answer(q, r, pq->hdr, NULL, size);
	} else {
		vio_bytes_done_reading(&peer_of(q)->in, size - VIO_9P_HDR);
		p9_fail(q, r, EMSGSIZE);
	}
	done[n++] = r;
	pq->has_hdr = false;
	return n;
}

/* Answers that are there. pq->more: perhaps not all. */
static unsigned p9_answers(struct vio_squeue *q, struct vio_req *done[], unsigned max)
{
	struct vio_9p_queue *pq = vio_9p_queue_of(q);
	struct vio_9p_peer *p = peer_of(q);
	uint32_t size, moved = 0;
	unsigned n = 0;

	while ((size = p9_next(pq, p)) > 0) {
		if (size < VIO_9P_HDR || size > VIO_9P_MSIZE || !pq->head[le16_at(pq->hdr + 5)]) {
			p9_break(q);
			break;
		}
		pq->more = n + 2 > max || moved >= P9_TURN;
		if (pq->more)
			break;
		n += p9_deliver(q, size, done + n);
		moved += size;
	}
	if (moved > 0)
		vio_bell_ring(&p->bell);
	return n;
}

/* ------------------------------------------------------------------------ the message ---- */

/* A new message, as far as its header and its chain tell. False: r->fault says why it can't be one. */
static bool p9_judge(struct vio_req *r)
{
	/* Of a chain with more segments than there is room for, the first ones are all there. */
	const unsigned n = r->n_seg > VIO_MAX_SEGS ? VIO_MAX_SEGS - 1 : r->n_seg;
	struct vio_9p_slot *s = slot_of(r);
	uint64_t there = 0, room = 0;

	for (unsigned i = 0; i < n; i++)
		*(i < r->n_readable ? &there : &room) += r->seg[i].len;
	*s = (struct vio_9p_slot){.type = r->hdr[4],
				  .tag = le16_at(r->hdr + 5),
				  .size = le32_at(r->hdr),
				  .room = room < VIO_9P_MSIZE ? (uint32_t)room : VIO_9P_MSIZE};
	if (r->n_seg > VIO_MAX_SEGS && r->n_readable >= n)
		r->fault = VIO_ST_DESC_CHAIN;
	else if (s->size < VIO_9P_HDR || s->size > there || room < VIO_9P_HDR)
		r->fault = VIO_ST_REQUEST;
	return r->fault == VIO_ST_OK;
}

/* Into the peer's ring, which has room. The header is the one that was judged, whatever the guest has made of it. */
static void p9_copy(struct vio_squeue *q, struct vio_req *r)
{
	struct vio_bytes *out = &peer_of(q)->out;
	struct vio_9p_slot *s = slot_of(r);
	struct p9_walk w = {.iov = r->iov};
	uint32_t left = s->size - VIO_9P_HDR;
	uint8_t first[VIO_9P_HDR + 4], k = VIO_9P_HDR;

	walk_copy(&w, first, VIO_9P_HDR, false);
	memcpy(first, r->hdr, VIO_9P_HDR);
	if (s->type == VIO_9P_TVERSION && left >= 4) {
		walk_copy(&w, first + k, 4, false);
		if (le32_at(first + k) > VIO_9P_MSIZE)
			put_le32(first + k, VIO_9P_MSIZE);
		k += 4;
	} else if (s->type == VIO_9P_TFLUSH && left >= 2) {
		walk_copy(&w, first + k, 2, false);
		s->old_tag = le16_at(first + k);
		k += 2;
	}
	vio_bytes_write(out, first, k);
	for (left = s->size - k; left > 0;) {
		uint32_t n = left;
		const uint8_t *from = walk_next(&w, &n);

		vio_bytes_write(out, from, n);
		left -= n;
	}
}

enum p9_sent { P9_LATER, P9_SENT, P9_DONE };

static enum p9_sent p9_send(struct vio_squeue *q, struct vio_req *r, enum vio_9p_session is)
{
	struct vio_9p_queue *pq = vio_9p_queue_of(q);
	struct vio_9p_slot *s = slot_of(r);

	if (is == VIO_9P_DOWN) {
		p9_fail(q, r, EIO);
		return P9_DONE;
	}
	if (is == VIO_9P_CHANGING || vio_bytes_room(&peer_of(q)->out) < s->size)
		return P9_LATER;
	if (pq->head[s->tag]) {
		r->fault = VIO_ST_REQUEST; /* one answer could not be told from the other */
		return P9_DONE;
	}
	if (!p9_map(q, r, r->seg, s->size, false))
		return P9_DONE;
	p9_copy(q, r);
	p9_unmap(q, r);
	s->where = VIO_9P_SENT;
	pq->head[s->tag] = (uint16_t)(r->head + 1);
	pq->n_sent++;
	vio_counter_add(&vio_9p_of(q->dq->dev)->messages, 1);
	vio_counter_add(&q->stats.writes, 1);
	vio_counter_add(&q->stats.bytes_written, s->size);
	return P9_SENT;
}

/* ---------------------------------------------------------------------------- a turn ---- */

/*
 * Those that only the server or its thread can move on: neither the lcore nor the adapter need wait for them. One less
 * while something can be done without that.
 */
static void p9_park(struct vio_squeue *q)
{
	const struct vio_9p_queue *pq = vio_9p_queue_of(q);
	const unsigned n = q->n_wait + pq->n_sent;

	vio_store_release(&q->parked, (uint16_t)(n - (pq->more && n > 0))); /* pair Q */
}

static unsigned p9_submit(struct vio_squeue *q, struct vio_req *const r[], unsigned n,
			  struct vio_req *done[])
{
	struct vio_9p_peer *p = peer_of(q);
	unsigned n_done = 0, n_sent = 0;

	for (unsigned i = 0; i < n; i++) {
		enum p9_sent is = P9_LATER;

		if (r[i]->fault != VIO_ST_OK || !p9_judge(r[i])) {
			is = P9_DONE;
		} else if (slot_of(r[i])->size > VIO_9P_MSIZE) {
			p9_fail(q, r[i], EMSGSIZE);
			is = P9_DONE;
		} else if (slot_of(r[i])->type == VIO_9P_TVERSION) {
			p9_lose(q);
			vio_9p_peer_session(p, true);
		} else if (!q->wait_head) {
			is = p9_send(q, r[i], vio_9p_peer_look(p));
		}
		n_sent += is == P9_SENT;
		if (is == P9_DONE)
			done[n_done++] = r[i];
		else if (is == P9_LATER)
			vio_sq_wait(q, &r[i], 1, false);
	}
	if (n_sent > 0)
		vio_bell_ring(&p->bell);
	p9_park(q);
	return n_done;
}

/* Those that waited. */
static unsigned p9_resume(struct vio_squeue *q, struct vio_req *done[], unsigned max)
{
	struct vio_9p_peer *p = peer_of(q);
	const enum vio_9p_session session = vio_9p_peer_look(p);
	unsigned n = 0, n_sent = 0;

	while (q->wait_head && n < max) {
		enum p9_sent is = p9_send(q, q->wait_head, session);
		struct vio_req *r;

		if (is == P9_LATER)
			break;
		r = vio_sq_unwait(q);
		n_sent += is == P9_SENT;
		if (is == P9_DONE)
			done[n++] = r;
	}
	if (n_sent > 0)
		vio_bell_ring(&p->bell);
	return n;
}

/* Answered with an error. */
static unsigned p9_lost(struct vio_squeue *q, struct vio_req *done[], unsigned max)
{
	struct vio_9p_queue *pq = vio_9p_queue_of(q);
	unsigned n = 0;

	for (; pq->lost && n < max; pq->n_lost--) {
		struct vio_req *r = pq->lost;

		pq->lost = r->next;
		p9_fail(q, r, EIO);
		done[n++] = r;
	}
	return n;
}

/* The queue ends: nobody waits for answers, and nothing of the guest is touched. */
static unsigned p9_drop(struct vio_squeue *q, struct vio_req *done[], unsigned max)
{
	struct vio_9p_queue *pq = vio_9p_queue_of(q);
	unsigned n = 0;

	p9_lose(q);
	for (; pq->lost && n < max; pq->n_lost--) {
		done[n++] = pq->lost;
		pq->lost = pq->lost->next;
	}
	return n;
}

static unsigned p9_complete(struct vio_squeue *q, struct vio_req *done[], unsigned max)
{
	struct vio_9p_queue *pq = vio_9p_queue_of(q);
	enum vio_9p_session session;
	unsigned n = 0;

	if (q->fault != VIO_ST_OK || vio_load_relaxed(&q->ctl) == VIO_SQ_STOP)
		return p9_drop(q, done, max);
	if (vio_load_acquire(&q->ctl) != VIO_SQ_RUN) { /* pair K */
		/* Held, the adapter may be changing windows. */
		vio_store_release(&q->parked,
				  (uint16_t)(q->n_wait + pq->n_sent + pq->n_lost)); /* pair Q */
		return 0;
	}
	/* What is done in this turn is not parked from here on. */
	vio_store_release(&q->parked, 0); /* pair Q */
	pq->more = false;
	session = vio_9p_peer_look(peer_of(q)); /* before its last words */
	if (session != VIO_9P_CHANGING)
		n = p9_answers(q, done, max);
	if (session == VIO_9P_DOWN && !pq->more)
		p9_lose(q);
	n += p9_lost(q, done + n, max - n);
	n += p9_resume(q, done + n, max - n);
	p9_park(q);
	return n;
}

const struct vio_dev_ops vio_9p_queue_ops = {
	.name = "9p",
	.hdr_len = VIO_9P_HDR,
	.long_chains = true,
	.submit = p9_submit,
	.complete = p9_complete,
};
