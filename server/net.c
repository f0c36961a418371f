/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net: what it offers, its life, and the way from the guest to the switch. What the guest
 * wrote before its frame and the first bytes of the frame are copied once; everything is judged and
 * changed in that copy.
 */
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>

#include "server/adapter.h"
#include "server/net_priv.h"
#include "server/payload/payload.h"
#include "server/payload/snapshot.h"
#include "server/ring/ring.h"

#define F(name) (1ull << VIRTIO_NET_F_##name)
/* Of a plain frame the server looks at the addresses, the type and a tag, no more. */
#define PLAIN_HEAD (VIO_ETH_LEN + VIO_TAG_LEN)

/* ---------------------------------------------------------------- features and config ---- */

static uint64_t features(const struct vio_device *dev)
{
	const struct vio_net *n = vio_container_of(dev, struct vio_net, dev);

	return F(MAC) | F(STATUS) | F(MTU) | F(MRG_RXBUF) | F(CSUM) | F(GUEST_CSUM) | F(HOST_TSO4) |
	       F(HOST_TSO6) | F(GUEST_TSO4) | F(GUEST_TSO6) | F(CTRL_VQ) | F(CTRL_RX) |
	       F(CTRL_MAC_ADDR) | F(GUEST_ANNOUNCE) | (n->max_pairs > 1 ? F(MQ) : 0);
}

/* VIRTIO 1.2, 5.1.3.1. */
static bool features_ok(const struct vio_device *dev, uint64_t f)
{
	(void)dev;
	if ((f & (F(HOST_TSO4) | F(HOST_TSO6))) && !(f & F(CSUM)))
		return false;
	if ((f & (F(GUEST_TSO4) | F(GUEST_TSO6))) && !(f & F(GUEST_CSUM)))
		return false;
	return !(f & (F(CTRL_RX) | F(CTRL_MAC_ADDR) | F(GUEST_ANNOUNCE) | F(MQ))) ||
	       (f & F(CTRL_VQ));
}

static uint16_t config(const struct vio_device *dev, uint16_t num_queues, uint8_t *out)
{
	const struct vio_net *n = vio_container_of(dev, struct vio_net, dev);
	const uint16_t len = offsetof(struct virtio_net_config, speed);
	const uint64_t mac = vio_load_relaxed(&n->shown_mac);
	struct virtio_net_config c;

	(void)num_queues;
	memset(&c, 0, sizeof(c));
	memcpy(c.mac, &mac, sizeof(c.mac));
	c.status = vio_le16((vio_load_relaxed(&n->port.up) ? VIRTIO_NET_S_LINK_UP : 0) |
			    (vio_load_relaxed(&n->announce) ? VIRTIO_NET_S_ANNOUNCE : 0));
	c.max_virtqueue_pairs = vio_le16(n->max_pairs);
	c.mtu = vio_le16(vio_load_relaxed(&n->shown_mtu));
	static_assert(offsetof(struct virtio_net_config, speed) == 12, "mac, status, pairs, mtu");
	memcpy(out, &c, len);
	return len;
}

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

/*
 * A frame with something to finish: the head becomes as long as that needs, and what is claimed is
 * checked. Of the header's fields only those are looked at that the specification gives a meaning
 * in a frame that is sent: hdr_len is a hint, num_buffers is nothing.
 */
static bool take_offload(struct vio_net *n, const struct iovec *iov, uint32_t len,
			 struct vio_frame *f)
{
	uint32_t have = f->head_len, need = vio_offload_head(&f->wire);

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
	if (vio_offload_check(f, &f->wire, vio_net_has(n, VIRTIO_NET_F_CSUM),
			      vio_net_has(n, VIRTIO_NET_F_HOST_TSO4),
			      vio_net_has(n, VIRTIO_NET_F_HOST_TSO6)))
		return true;
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

/* The last hold on a chain has gone; on whatever thread. */
static void on_released(struct vio_hold *h)
{
	struct vio_net_hold *nh = vio_container_of(h, struct vio_net_hold, hold);
	struct vio_req *old = vio_load_relaxed(&nh->nq->finished);

	do {
		nh->r->next = old;
	} while (!vio_cas(&nh->nq->finished, old,
			  nh->r)); /* pair X: the body is not touched any more */
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

/* Give frames to the switch; those that nobody holds are done. */
static unsigned forward(struct vio_squeue *q, struct vio_net *n, struct vio_req *const r[],
			unsigned k, struct vio_req *done[])
{
	unsigned n_done = 0;

	vio_net_note_flows(q, n, k);
	vio_switch_forward(&n->port, n->frame, k);
	for (unsigned i = 0; i < k; i++) {
		struct vio_hold *h = n->frame[i].hold;

		finish(q, r[i]);
		if (vio_likely(vio_load_acquire(&h->refs) == 1)) {
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
	unsigned n_go = 0, n_wait = 0, n_done = 0;

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
			go[n_go++] = r[i];
		}
	}
	if (vio_unlikely(n_wait > 0))
		vio_sq_wait(q, wait, n_wait, again);
	return n_go ? n_done + forward(q, net, go, n_go, done + n_done) : n_done;
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

		if (vio_unlikely(f && f->hold && vio_load_acquire(&f->hold->refs) > 1)) {
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
	unsigned n_go = 0, n_hold = 0;
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
	vio_net_note_flows(q, net, n_go);
	vio_switch_forward(&net->port, net->frame, n_go);
	vio_counter_add(&q->stats.writes, n);
	vio_counter_add(&q->stats.bytes_written, bytes);
	return n_hold ? sort_out(q, v, n, at, n_go) : n;
}

/* ---- all others ---- */

static unsigned tx_submit(struct vio_squeue *q, struct vio_req *const r[], unsigned n,
			  struct vio_req *done[])
{
	struct vio_net *net = vio_net_of(q);
	struct vio_req *go[VIO_BURST];
	unsigned n_go = 0, n_done = 0;

	for (unsigned i = 0; i < n; i++) {
		if (vio_likely(judge_chain(q, net, r[i])))
			go[n_go++] = r[i];
		else
			done[n_done++] = r[i];
	}
	if (n_go == 0)
		return n_done;
	if (vio_unlikely(q->wait_head != NULL)) {
		vio_sq_wait(q, go, n_go, false);
		return n_done;
	}
	return n_done + issue(q, go, n_go, done + n_done, false);
}

static unsigned tx_complete(struct vio_squeue *q, struct vio_req *done[], unsigned max)
{
	struct vio_net_queue *nq = vio_nq_of(q);
	struct vio_req *again[VIO_BURST];
	unsigned n = 0, k = 0;

	if (!nq->ready && !vio_load_relaxed(&nq->finished))
		vio_switch_reap(vio_net_of(q)->port.sw);
	if (!nq->ready)
		nq->ready = vio_xchg_acq_rel(&nq->finished, NULL); /* pair X */
	for (; nq->ready && n < max; nq->ready = nq->ready->next) {
		nq->ready->state = VIO_REQ_DONE;
		vio_store_release(&nq->hold[nq->ready->head].to, 0); /* pair Y */
		done[n++] = nq->ready;
	}
	while (q->wait_head && k < VIO_BURST && n + k < max) {
		again[k++] = q->wait_head;
		q->wait_head = q->wait_head->next;
	}
	return k ? n + issue(q, again, k, done + n, true) : n;
}

/* ------------------------------------------------------------------------ kinds of queue ---- */

unsigned vio_net_no_complete(struct vio_squeue *q, struct vio_req *done[], unsigned max)
{
	(void)q, (void)done, (void)max;
	return 0;
}

static const struct vio_dev_ops tx_ops = {.name = "net transmit",
					  .one_lcore = true,
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

/* The control queue comes after as many pairs as were agreed on (5.1.2). */
static uint8_t start(struct vio_device *dev, uint64_t f, uint64_t queues)
{
	struct vio_net *n = vio_container_of(dev, struct vio_net, dev);
	unsigned pairs = f & F(MQ) ? n->max_pairs : 1;
	uint64_t allowed = (1ull << 2 * pairs) - 1;

	n->ctrl = UINT16_MAX;
	if (f & F(CTRL_VQ)) {
		n->ctrl = (uint16_t)(2 * pairs);
		allowed |= 1ull << n->ctrl;
	}
	if ((queues & 3) != 3 || (queues & ~allowed))
		return VIO_ST_QUEUE;
	n->features = f;
	n->queues = queues;
	n->pairs = 1;
	memset(n->steer, 0, sizeof(n->steer));
	n->mrg = vio_net_has(n, VIRTIO_NET_F_MRG_RXBUF);
	n->guest_csum = vio_net_has(n, VIRTIO_NET_F_GUEST_CSUM);
	n->guest_tso4 = vio_net_has(n, VIRTIO_NET_F_GUEST_TSO4);
	n->guest_tso6 = vio_net_has(n, VIRTIO_NET_F_GUEST_TSO6);
	vio_net_filter_reset(n);
	return VIO_ST_OK;
}

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

static void queue_ready(struct vio_squeue *q)
{
	struct vio_net *n = vio_net_of(q);

	vio_nq_of(q)->q = q;
	if (q->index == n->ctrl) {
		q->dev = &ctrl_ops;
	} else if (q->index % 2) {
		q->dev = &tx_ops;
		hold_init(q);
	} else {
		q->dev = &vio_net_rx_ops;
		q->pull = true;
		/* New buffers are looked for when there is a frame: nobody needs to tell of them. */
		if (q->notify.ask != VIO_ASK_PARKED && !vio_notify_row(&q->notify)->always)
			q->ring->park(q);
	}
}

static void queue_on(struct vio_squeue *q)
{
	struct vio_net *n = vio_net_of(q);

	if (q->pull)
		vio_store_release(&n->rx[q->index / 2], q); /* pair L */
	if (q->index == 0)
		vio_net_show_station(n);
}

static void queue_off(struct vio_squeue *q)
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

/* ------------------------------------------------------------------------ queues, windows ---- */

static int net_queue_open(struct vio_device *dev, unsigned depth, struct vio_dev_queue **out,
			  struct vio_err *err)
{
	struct vio_net_queue *nq = calloc(1, sizeof(*nq));

	if (nq)
		nq->hold = calloc(depth, sizeof(nq->hold[0]));
	if (!nq || !nq->hold) {
		free(nq);
		return vio_err_set(err, -ENOMEM, "no memory for a queue of %u frames", depth);
	}
	nq->dq.dev = dev;
	nq->depth = depth;
	*out = &nq->dq;
	return 0;
}

static void net_queue_close(struct vio_dev_queue *dq)
{
	struct vio_net_queue *nq = vio_container_of(dq, struct vio_net_queue, dq);
	struct vio_net *n = vio_container_of(dq->dev, struct vio_net, dev);

	for (unsigned i = 0; i < VIO_NET_MAX_PAIRS; i++) {
		if (nq->q && n->rx[i] == nq->q)
			vio_store_release(&n->rx[i],
					  NULL); /* the program is ending: nobody turned it off */
	}
	free(nq->hold);
	free(nq);
}

/* Told once for each queue; the uplinks hear of it once. */
static void window_add(struct vio_dev_queue *dq, void *va, uint64_t len, bool writable)
{
	struct vio_net *n = vio_container_of(dq->dev, struct vio_net, dev);
	struct vio_net_region *r = n->region;

	(void)writable;
	while (r < n->region + n->n_regions && r->va != va)
		r++;
	if (r == n->region + n->n_regions) {
		if (n->n_regions == VIO_NET_REGIONS)
			return;
		*r = (struct vio_net_region){.va = va, .len = len};
		n->n_regions++;
		r->known = n->env.mem_add && n->env.mem_add(n->env.ctx, va, len) == 0;
	}
	r->users++;
}

static void window_del(struct vio_dev_queue *dq, void *va, uint64_t len)
{
	struct vio_net *n = vio_container_of(dq->dev, struct vio_net, dev);

	for (unsigned i = 0; i < n->n_regions; i++) {
		struct vio_net_region *r = &n->region[i];

		if (r->va != va || --r->users > 0)
			continue;
		if (r->known)
			n->env.mem_del(n->env.ctx, va, len);
		*r = n->region[--n->n_regions];
		return;
	}
}

static bool window_busy(struct vio_dev_queue *dq, const void *va, uint64_t len)
{
	const struct vio_net_queue *nq = vio_container_of(dq, struct vio_net_queue, dq);
	uintptr_t at = (uintptr_t)va;

	for (unsigned i = 0; i < nq->depth; i++) {
		uintptr_t to = vio_load_acquire(&nq->hold[i].to); /* pair Y */

		if (vio_unlikely(to > at && vio_load_relaxed(&nq->hold[i].from) < at + len))
			return true;
	}
	return false;
}

static const struct vio_port_ops port_ops = {.kind = "guest",
					     .addresses = VIO_FDB_GUEST,
					     .deliver = vio_net_deliver,
					     .may_change = vio_net_may_change,
					     .changed = vio_net_changed};

/* --------------------------------------------------------------------------------- life ---- */

int vio_net_create(const char *spec, unsigned number, const struct vio_dev_env *env,
		   struct vio_net **out, struct vio_err *err)
{
	const uint8_t mac[6] = {0x02, 'V', 'I', 'O', (uint8_t)(number >> 8), (uint8_t)number};
	struct vio_net *n =
		aligned_alloc(VIO_CACHE_LINE, VIO_ALIGN_UP(sizeof(*n), (size_t)VIO_CACHE_LINE));
	char *copy = strdup(spec);
	int rc;

	if (!n || !copy) {
		free(n);
		free(copy);
		return vio_err_set(err, -ENOMEM, "no memory for a network port");
	}
	memset(n, 0, sizeof(*n));
	memcpy(n->mac, mac, sizeof(mac));
	if (env)
		n->env = *env;
	n->max_pairs = n->pairs = 1;
	n->port.ops = &port_ops;
	vio_port_defaults(&n->port);
	snprintf(n->port.name, sizeof(n->port.name), "net%u", number);
	rc = vio_net_parse(n, copy, err);
	free(copy);
	if (rc < 0) {
		free(n);
		return rc;
	}
	if (n->locked)
		vio_port_lock(&n->port, n->mac);
	n->dev = (struct vio_device){
		.kind = &vio_kind_net, .told_windows = true, .live_windows = true};
	snprintf(n->dev.what, sizeof(n->dev.what),
		 "%02x:%02x:%02x:%02x:%02x:%02x, %s VLAN %u, MTU %u, %u queue pair(s)", n->mac[0],
		 n->mac[1], n->mac[2], n->mac[3], n->mac[4], n->mac[5],
		 n->port.vlan.trunk ? "trunk, native" : "access,", n->port.vlan.pvid, n->port.mtu,
		 n->max_pairs);
	n->number = number;
	n->shown_mtu = n->port.mtu;
	vio_net_show_mac(n, n->mac);
	vio_net_filter_reset(n);
	*out = n;
	return 0;
}

void vio_net_destroy(struct vio_net *n)
{
	free(n);
}

struct vio_device *vio_net_device(struct vio_net *n)
{
	return &n->dev;
}

struct vio_port *vio_net_port(struct vio_net *n)
{
	return &n->port;
}

/* ---------------------------------------------------------------------------- as a kind ---- */

static struct vio_net *net_of(struct vio_device *dev)
{
	return vio_container_of(dev, struct vio_net, dev);
}

static int net_open(const char *spec, const struct vio_dev_env *env, struct vio_device **out,
		    struct vio_err *err)
{
	struct vio_net *n;
	int rc = vio_net_create(spec, env->number, env, &n, err);

	if (rc < 0)
		return rc;
	if (n->follows && env->n_uplinks == 0) {
		vio_net_destroy(n);
		return vio_err_set(err, -EINVAL,
				   "link=uplink: there is no --uplink whose link it could follow");
	}
	*out = &n->dev;
	return 0;
}

static void net_close(struct vio_device *dev)
{
	vio_net_destroy(net_of(dev));
}

static struct vio_port *net_port(struct vio_device *dev)
{
	return &net_of(dev)->port;
}

static uint16_t net_queues(const struct vio_device *dev, uint16_t most)
{
	(void)most;
	return (uint16_t)(2 * vio_container_of(dev, struct vio_net, dev)->max_pairs + 1);
}

/* Until the first queue runs, nothing else of the session is there to be looked at (pair L). */
static bool announces(const struct vio_net *n)
{
	return vio_load_acquire(&n->rx[0]) && vio_net_has(n, VIRTIO_NET_F_GUEST_ANNOUNCE);
}

static bool net_follow(struct vio_device *dev, bool up, bool announce)
{
	struct vio_net *n = net_of(dev);
	bool changed = n->follows && n->port.up != up;

	if (changed)
		vio_switch_link(&n->port, up);
	if (!announce || !announces(n))
		return changed;
	vio_store_relaxed(&n->announce, true);
	return true;
}

static void net_show(const struct vio_device *dev, struct vio_show *s)
{
	const struct vio_net *n = vio_container_of(dev, struct vio_net, dev);

	s->text(s, "kind", "net");
	s->text(s, "what", dev->what);
	s->text(s, "port", n->port.name);
}

static const char *net_usage(unsigned line)
{
	static const char *const lines[] = {
		"[MAC=AA:BB:CC:DD:EE:FF][,vlan=N][,trunk=LIST][,mtu=N][,queues=N][,storm=N|off]",
		"[,link=up|down|uplink][,lock-mac=on|off]",
		"vlan: of untagged frames (1); trunk: VLANs with tags, e.g. 10+20-30 or all; mtu: 68 to 9000 (1500);",
		"queues: receive and transmit pairs, 1 to 31 (1); lock-mac: drop what comes from another address than MAC (off)",
	};

	return line < VIO_ARRAY_SIZE(lines) ? lines[line] : NULL;
}

const struct vio_dev_kind vio_kind_net = {
	.row = {"net", "[KEY=VALUE,...]", "a port of the switch; --net= for all defaults",
		VIO_OPTION_CALL, .set = vio_dev_option, .lines = net_usage},
	.noun = "network",
	.type = VIRTIO_ID_NET,
	.min_proto = VIO_PROTO_V2,
	.queue = &tx_ops, /* queue_ready knows better */
	.open = net_open,
	.close = net_close,
	.queues = net_queues,
	.port = net_port,
	.follow = net_follow,
	.show = net_show,
	.features = features,
	.config = config,
	.features_ok = features_ok,
	.start = start,
	.queue_open = net_queue_open,
	.queue_close = net_queue_close,
	.queue_ready = queue_ready,
	.queue_on = queue_on,
	.queue_off = queue_off,
	.window_add = window_add,
	.window_del = window_del,
	.window_busy = window_busy,
};
