/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net: the way from the guest to the switch. What the guest
 * wrote before its frame and the first bytes of the frame are copied once; everything is judged and
 * changed in that copy.
 */
#include <string.h>

#include "server/core/squeue.h"
#include "server/dev/net/net_priv.h"
#include "server/payload/payload.h"
#include "server/payload/snapshot.h"
#include "server/ring/ring.h"

/* Of a plain frame the server looks at the addresses, the type and a tag, no more. */
#define PLAIN_HEAD (VIO_ETH_LEN + VIO_TAG_LEN)

/* --------------------------------------------------------------------- from the guest ---- */

/* Bytes [off, off+len) of what iov lists; they are there. */
static void gather(const struct iovec *iov, uint32_t off, uint8_t *dst, uint32_t len)
{
	for (; len > 0; iov++) {
		uint32_t have = (uint32_t)iov->iov_len, part;

		if (off >= have) {
			off -= have;
			continue;
		}
		part = have - off < len ? have - off : len;
		vio_snapshot(dst, (const uint8_t *)iov->iov_base + off, part);
		dst += part;
		len -= part;
		off = 0;
	}
}

/* What follows the first `off` bytes becomes the body. */
static inline void set_body(struct vio_frame *f, struct vio_req *r, uint32_t off)
{
	unsigned i = 0;

	f->body_len = r->data_len - off;
	for (; i < r->n_iov && off >= r->iov[i].iov_len; i++)
		off -= (uint32_t)r->iov[i].iov_len;
	f->body = &r->iov[i];
	f->n_body = (uint16_t)(r->n_iov - i);
	if (off > 0) {
		f->body->iov_base = (uint8_t *)f->body->iov_base + off;
		f->body->iov_len -= off;
	}
}

/* Without snapshots: as the guest's header is by now. */
static void offload_again(const struct iovec *iov, struct vio_frame *f)
{
	gather(iov, 0, (uint8_t *)&f->wire, sizeof(f->wire));
	f->csum_start = vio_le16(f->wire.csum_start);
	f->csum_offset = vio_le16(f->wire.csum_offset);
	f->gso_size = vio_le16(f->wire.gso_size);
}

/*
 * A frame with something to finish: the head becomes as long as that needs, and what is claimed is
 * checked. Of the header's fields only those are looked at that the specification gives a meaning
 * in a frame that is sent: hdr_len is a hint, num_buffers is nothing.
 */
static bool take_offload(struct vio_net *n, const struct iovec *iov, uint32_t len,
			 struct vio_frame *f)
{
	uint32_t have = f->head_len, need = vio_offload_head(&f->wire);

	n->cut |= f->wire.gso_type != VIRTIO_NET_HDR_GSO_NONE;
	if (vio_unlikely(need > VIO_FRAME_HEAD)) {
		f->head = vio_switch_room(n->port.sw, (unsigned)(f - n->frame));
		memcpy(f->head, f->buf, have);
		need = need < VIO_HEAD_MAX ? need : VIO_HEAD_MAX;
	}
	need = len < need ? len : need;
	gather(iov, (uint32_t)VIO_NET_HDR + have, f->head + have, need - have);
	f->head_len = (uint16_t)need;
	if (len < VIO_ETH_LEN) /* the switch has a word for it */
		return true;
	if (vio_offload_check(f, &f->wire, vio_net_has(n, VIRTIO_NET_F_CSUM), n->sends)) {
		if (!VIO_SNAPSHOTS)
			offload_again(iov, f);
		return true;
	}
	vio_port_drop(&n->port, VIO_DROP_OFFLOAD, 1);
	return false;
}

/*
 * Header and head of the frame of `len` bytes (without header) in iov, once; then the checks of the
 * header. The body is not set. f is one of n->frame[].
 */
static inline bool take_head(struct vio_net *n, const struct iovec *iov, uint32_t len,
			     struct vio_frame *f)
{
	uint32_t head = len < PLAIN_HEAD ? len : PLAIN_HEAD;
	uint8_t *raw = (uint8_t *)&f->wire;

	if (vio_likely(iov[0].iov_len >= VIO_NET_HDR + PLAIN_HEAD)) {
		/* Of constant length: two loads and two stores. */
		memcpy(raw, iov[0].iov_base, VIO_NET_HDR + PLAIN_HEAD);
		__asm__ volatile("" : : "r"(raw) : "memory");
	} else {
		gather(iov, 0, raw, (uint32_t)VIO_NET_HDR + head);
	}
	f->len = len;
	f->head = f->buf;
	f->head_len = (uint16_t)head;
	f->flow = 0;
	f->flags = 0;
	f->gso_type = VIRTIO_NET_HDR_GSO_NONE;
	f->local = NULL;
	f->place = NULL;
	return vio_likely(!(f->wire.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) &&
			  f->wire.gso_type == VIRTIO_NET_HDR_GSO_NONE) ||
	       take_offload(n, iov, len, f);
}

/* The frame lies in server memory, from `va` on, with `before` bytes before its body. */
static inline void set_local(const struct vio_squeue *q, struct vio_frame *f, void *va,
			     uint32_t before)
{
	f->local_room = before;
	f->local = (uint8_t *)va + before;
	f->local_at.v = vio_sq_local(q, f->local).v - q->local_base.v;
}

static inline bool take_frame(const struct vio_squeue *q, struct vio_net *n, struct vio_req *r,
			      struct vio_frame *f)
{
	if (vio_unlikely(!take_head(n, r->iov, r->data_len - (uint32_t)VIO_NET_HDR, f)))
		return false;
	set_body(f, r, (uint32_t)VIO_NET_HDR + f->head_len);
	if (r->bounce)
		set_local(q, f, r->bounce, (uint32_t)VIO_NET_HDR + f->head_len);
	return true;
}

static inline void finish(struct vio_squeue *q, struct vio_req *r)
{
	r->state = VIO_REQ_DONE;
	r->used_len = 0;
	vio_counter_add(&q->stats.writes, 1);
	vio_counter_add(&q->stats.bytes_written, r->data_len);
}

/* Is the chain a frame at all? False: r is done, with a fault or dropped. */
static inline bool judge_chain(struct vio_squeue *q, struct vio_net *n, struct vio_req *r)
{
	uint64_t sum = 0;

	r->n_data = 0;
	r->data_len = 0;
	r->bounce = NULL;
	r->to_guest = false;
	if (vio_unlikely(r->fault != VIO_ST_OK))
		return false;
	if (vio_unlikely(r->n_seg > VIO_MAX_SEGS)) {
		vio_port_drop(&n->port, VIO_DROP_PIECES, 1);
		finish(q, r);
		return false;
	}
	for (unsigned i = 0; i < r->n_seg; i++)
		sum += r->seg[i].len;
	if (vio_unlikely(r->n_readable != r->n_seg || sum < VIO_NET_HDR)) {
		r->fault = VIO_ST_REQUEST;
		return false;
	}
	if (vio_unlikely(sum > VIO_NET_HDR + VIO_FRAME_MAX)) {
		vio_port_drop(&n->port, VIO_DROP_OVERSIZED, 1);
		finish(q, r);
		return false;
	}
	r->data = r->seg;
	r->n_data = r->n_seg;
	r->data_len = (uint32_t)sum;
	return true;
}

/* The last hold on a chain has gone. */
static void on_released(struct vio_hold *h)
{
	struct vio_net_hold *nh = vio_container_of(h, struct vio_net_hold, hold);

	nh->r->next = nh->nq->finished;
	nh->nq->finished = nh->r;
}

/*
 * Where the body lies, for window_busy(). The lcore ends its turn before that is asked, so the
 * order is free.
 */
static void note_extent(const struct vio_frame *f)
{
	struct vio_net_hold *h = vio_container_of(f->hold, struct vio_net_hold, hold);
	uintptr_t from = UINTPTR_MAX, to = 0;

	for (unsigned i = 0; i < f->n_body; i++) {
		uintptr_t at = (uintptr_t)f->body[i].iov_base, end = at + f->body[i].iov_len;

		from = at < from ? at : from;
		to = end > to ? end : to;
	}
	vio_store_relaxed(&h->from, from);
	vio_store_relaxed(&h->to, to);
}

/* Give frames to the switch, *gone as far as the share goes; those that nobody holds are done. */
static unsigned forward(struct vio_squeue *q, struct vio_net *n, struct vio_req *const r[],
			unsigned *gone, uint64_t bytes, struct vio_req *done[])
{
	const unsigned k = *gone = vio_net_forward(q, n, *gone, bytes);
	unsigned n_done = 0;

	for (unsigned i = 0; i < k; i++) {
		struct vio_hold *h = n->frame[i].hold;

		finish(q, r[i]);
		if (vio_likely(h->refs == 1)) {
			h->refs = 0;
			done[n_done++] = r[i];
		} else {
			r[i]->state = VIO_REQ_SUBMITTED;
			note_extent(&n->frame[i]);
			vio_hold_put(h);
		}
	}
	return n_done;
}

/* Judged chains: make them addressable, forward them. n <= VIO_BURST. */
static unsigned issue(struct vio_squeue *q, struct vio_req *const r[], unsigned n,
		      struct vio_req *done[], bool again)
{
	struct vio_net *net = vio_net_of(q);
	struct vio_net_queue *nq = vio_nq_of(q);
	struct vio_req *go[VIO_BURST], *wait[VIO_BURST];
	unsigned n_go = 0, n_wait = 0, n_done = 0, gone;
	uint64_t bytes = 0;

	static_assert(VIO_BURST <= VIO_FRAME_BURST, "a burst of chains is a burst of frames");
	q->payload->get(q, r, n);
	for (unsigned i = 0; i < n; i++) {
		const uint8_t *at = r[i]->iov[0].iov_base;

		if (vio_unlikely(r[i]->fault != VIO_ST_OK || r[i]->waits))
			continue;
		/* A small frame usually ends in the next line. */
		__builtin_prefetch(at, 0);
		__builtin_prefetch(at + VIO_CACHE_LINE - 1, 0);
	}
	for (unsigned i = 0; i < n; i++) {
		struct vio_net_hold *h = &nq->hold[r[i]->head];

		if (vio_unlikely(r[i]->fault != VIO_ST_OK)) {
			done[n_done++] = r[i];
		} else if (vio_unlikely(r[i]->waits)) {
			wait[n_wait++] = r[i];
		} else if (vio_unlikely(!take_frame(q, net, r[i], &net->frame[n_go]))) {
			finish(q, r[i]);
			done[n_done++] = r[i];
		} else {
			h->hold.refs = 1; /* the rest is as it was set when the queue was opened */
			net->frame[n_go].hold = &h->hold;
			bytes += r[i]->data_len;
			go[n_go++] = r[i];
		}
	}
	gone = n_go;
	if (n_go > 0)
		n_done += forward(q, net, go, &gone, bytes, done + n_done);
	/* Those for which there is no room now are the last of all. */
	if (vio_unlikely(gone < n_go)) {
		q->payload->put(q, go + gone, n_go - gone);
		memmove(wait + (n_go - gone), wait, n_wait * sizeof(wait[0]));
		memcpy(wait, go + gone, (n_go - gone) * sizeof(wait[0]));
		n_wait += n_go - gone;
	}
	if (vio_unlikely(n_wait > 0))
		vio_sq_wait(q, wait, n_wait, again);
	return n_done;
}

/* ---- chains of one descriptor ---- */

/* The frame's body is lent from now on; what comes back goes the long way. */
static void keep(struct vio_squeue *q, const struct vio_plain *v)
{
	struct vio_req *r = &q->req[v->head];

	r->q = q;
	r->head = v->head;
	r->fault = VIO_ST_OK;
	r->used_len = 0;
	r->data_len = v->len;
	r->to_guest = false;
	r->bounce = q->payload->plain_put ? v->va : NULL; /* put gives it back */
	r->state = VIO_REQ_SUBMITTED;
}

static inline bool take_plain(const struct vio_squeue *q, struct vio_net *n,
			      const struct vio_plain *v, struct iovec *body, struct vio_frame *f)
{
	const struct iovec all = {v->va, v->len};
	uint32_t before;

	if (vio_unlikely(!take_head(n, &all, v->len - (uint32_t)VIO_NET_HDR, f)))
		return false;
	before = (uint32_t)VIO_NET_HDR + f->head_len;
	*body = (struct iovec){v->va + before, v->len - before};
	f->body = body;
	f->body_len = v->len - before;
	f->n_body = f->body_len > 0;
	if (q->payload->plain_put)
		set_local(q, f, v->va, before);
	return true;
}

/*
 * Which of the frames that were forwarded are held? Their chains are kept, the others moved to the
 * front: their number. at[i]: the chain of frame i.
 */
static unsigned sort_out(struct vio_squeue *q, struct vio_plain v[], unsigned n, const uint8_t at[],
			 unsigned n_go)
{
	struct vio_net *net = vio_net_of(q);
	unsigned n_done = 0, k = 0;

	for (unsigned i = 0; i < n; i++) {
		const struct vio_frame *f = k < n_go && at[k] == i ? &net->frame[k++] : NULL;

		if (vio_unlikely(f && f->hold && f->hold->refs > 1)) {
			keep(q, &v[i]);
			note_extent(f);
			vio_hold_put(f->hold);
		} else {
			v[n_done++] = v[i];
		}
	}
	return n_done;
}

static unsigned tx_plain(struct vio_squeue *q, struct vio_plain v[], unsigned n)
{
	struct vio_net *net = vio_net_of(q);
	struct vio_net_queue *nq = vio_nq_of(q);
	unsigned n_go = 0, n_hold = 0, gone;
	uint8_t at[VIO_BURST];
	uint64_t bytes = 0;

	for (unsigned i = 0; i < n; i++) {
		struct vio_frame *f = &net->frame[n_go];

		bytes += v[i].len;
		if (vio_unlikely(!take_plain(q, net, &v[i], &net->body[n_go], f)))
			continue;
		f->hold = NULL;
		if (f->body_len >= VIO_HOLD_MIN) {
			struct vio_net_hold *h = &nq->hold[v[i].head];

			h->hold.refs = 1; /* the rest is as it was set when the queue was opened */
			f->hold = &h->hold;
			n_hold++;
		}
		at[n_go++] = (uint8_t)i;
	}
	gone = vio_net_forward(q, net, n_go, bytes);
	if (vio_unlikely(gone < n_go))
		n = vio_net_aside(q, v, n, at + gone, n_go - gone, &bytes);
	vio_counter_add(&q->stats.writes, n);
	vio_counter_add(&q->stats.bytes_written, bytes);
	return n_hold ? sort_out(q, v, n, at, gone) : n;
}

/* ---- all others ---- */

static unsigned tx_submit(struct vio_squeue *q, struct vio_req *const r[], unsigned n,
			  struct vio_req *done[])
{
	struct vio_net *net = vio_net_of(q);
	struct vio_req *go[VIO_BURST];
	unsigned n_go = 0, n_done = 0, k = 0;

	for (unsigned i = 0; i < n; i++) {
		if (vio_likely(judge_chain(q, net, r[i])))
			go[n_go++] = r[i];
		else
			done[n_done++] = r[i];
	}
	if (vio_likely(n_go > 0 && q->wait_head == NULL)) {
		k = vio_net_begin(q, go, n_go);
		n_done += issue(q, go, k, done + n_done, false);
	}
	if (vio_unlikely(k < n_go))
		vio_sq_wait(q, go + k, n_go - k, false);
	return n_done;
}

static unsigned tx_complete(struct vio_squeue *q, struct vio_req *done[], unsigned max)
{
	struct vio_net_queue *nq = vio_nq_of(q);
	struct vio_req *again[VIO_BURST];
	unsigned n = 0, k = 0;
	uint64_t sum = 0;

	if (!nq->finished)
		vio_switch_reap(vio_net_of(q)->port.sw);
	for (; nq->finished && n < max; nq->finished = nq->finished->next) {
		nq->finished->state = VIO_REQ_DONE;
		vio_store_release(&nq->hold[nq->finished->head].to, 0); /* pair Y */
		done[n++] = nq->finished;
	}
	while (q->wait_head && k < VIO_BURST && n + k < max && q->budget > 0 &&
	       sum < VIO_NET_PIECE) {
		again[k] = vio_sq_unwait(q);
		sum += again[k++]->data_len;
	}
	return k ? n + issue(q, again, k, done + n, true) : n;
}

/* ------------------------------------------------------------------------ kinds of queue ---- */

const struct vio_dev_ops vio_net_tx_ops = {.name = "net transmit",
					   .one_lcore = true,
					   .long_chains = true,
					   .submit = tx_submit,
					   .plain = tx_plain,
					   .plain_flags = 0,
					   .plain_min = VIO_NET_HDR + PLAIN_HEAD,
					   .plain_max = VIO_NET_HDR + VIO_FRAME_MAX,
					   .complete = tx_complete};
static const struct vio_dev_ops ctrl_ops = {.name = "net control",
					    .one_lcore = true,
					    .has_status = true,
					    .submit = vio_net_ctrl_submit,
					    .complete = vio_net_no_complete};

static void hold_init(struct vio_squeue *q)
{
	struct vio_net_queue *nq = vio_nq_of(q);

	for (unsigned i = 0; i < nq->depth && i < q->size; i++) {
		struct vio_net_hold *h = &nq->hold[i];

		h->hold = (struct vio_hold){.done = on_released};
		h->nq = nq;
		h->r = &q->req[i];
	}
}

void vio_net_queue_ready(struct vio_squeue *q)
{
	struct vio_net *n = vio_net_of(q);

	vio_nq_of(q)->q = q;
	if (q->index == n->ctrl) {
		q->dev = &ctrl_ops;
	} else if (q->index % 2) {
		q->dev = &vio_net_tx_ops;
		hold_init(q);
	} else {
		q->dev = &vio_net_rx_ops;
		q->pull = true;
		/* New buffers are looked for when there is a frame: nobody needs to tell of them. */
		if (q->notify.ask != VIO_ASK_PARKED && !vio_notify_row(&q->notify)->always)
			q->ring->park(q);
	}
}

void vio_net_queue_on(struct vio_squeue *q)
{
	struct vio_net *n = vio_net_of(q);

	if (q->pull)
		vio_store_release(&n->rx[q->index / 2], q); /* pair L */
	if (q->index == 0)
		vio_net_show_station(n);
}

void vio_net_queue_off(struct vio_squeue *q)
{
	struct vio_net *n = vio_net_of(q);

	if (q->pull)
		vio_store_release(&n->rx[q->index / 2], NULL);
	if (q->index == 0) { /* and with it the guest, as far as the network knows */
		vio_store_relaxed(&n->announce, false);
		vio_net_show_station(n);
		vio_switch_gone(&n->port);
		vio_store_relaxed(&n->shown_mtu, vio_load_relaxed(&n->port.mtu));
	}
	if (q->index == n->ctrl)
		vio_net_show_mac(n, n->mac); /* a reset takes ADDR_SET back */
}
