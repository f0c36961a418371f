/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From the switch into the buffers that a guest has posted: one copy, whatever the levels of the
 * two sides. Chains are taken from the ring when there are frames for them; a burst is reserved,
 * made addressable, filled and published as a whole.
 */
#include <string.h>

#include "server/core/squeue.h"
#include "server/dev/net/net_rx.h"
#include "server/payload/payload.h"
#include "server/ring/ring.h"

struct item {
	struct vio_frame *f;
	unsigned first, n; /* chains: of the burst */
	uint32_t len;      /* with header and tag */
	bool tagged;
	bool straight; /* lies in server memory in one piece: moved, not got */
};

/* A burst to one receive queue. Its chains are nq->held[held_at .. +n]. */
struct batch {
	struct vio_net *net;
	struct vio_squeue *q;
	struct vio_net_queue *nq;
	unsigned n, n_items;
	uint32_t bytes;
	unsigned left;                /* frames of the burst that are not added yet */
	const struct vio_squeue *dry; /* had no chain left in this burst: not asked again */
	struct item item[VIO_FRAME_BURST];
};

/* ------------------------------------------------------------------------------- chains ---- */

/*
 * Take more chains from the ring: no more than there are frames, so that nothing is held when the
 * burst ends and the next one may go the short way. False: there are none, or the guest did wrong.
 */
static bool refill(struct vio_squeue *q, struct vio_net_queue *nq, unsigned frames)
{
	unsigned room, n, want = frames < VIO_BURST ? frames : VIO_BURST;

	if (nq->held_at > 0 && nq->held_n + VIO_BURST > VIO_NET_HELD) {
		memmove(nq->held, nq->held + nq->held_at,
			(nq->held_n - nq->held_at) * sizeof(nq->held[0]));
		nq->held_n -= nq->held_at;
		nq->held_at = 0;
	}
	room = VIO_NET_HELD - nq->held_n;
	n = vio_squeue_take(q, nq->held + nq->held_n, room < want ? room : want);
	for (unsigned i = 0; i < n; i++) {
		struct vio_req *r = nq->held[nq->held_n + i];
		uint64_t sum = 0;

		/* Of a longer chain its first pieces are used. */
		for (unsigned s = 0; s < r->n_seg && s < VIO_MAX_SEGS - 1u; s++)
			sum += r->seg[s].len;
		if (r->n_seg == VIO_MAX_SEGS)
			sum += r->seg[VIO_MAX_SEGS - 1].len;
		if (vio_unlikely(r->n_readable > 0 || sum < VIO_NET_HDR)) {
			vio_sq_fault(q, VIO_ST_REQUEST, r->head);
			return false;
		}
		r->data = r->seg;
		r->bounce = NULL;
		r->to_guest = true;
		r->data_len = sum > VIO_MAX_DATA
				      ? VIO_MAX_DATA
				      : (uint32_t)sum; /* its capacity, until it is used */
	}
	nq->held_n += n;
	return n > 0 && q->fault == VIO_ST_OK;
}

/* Use `len` bytes of the chain. */
static inline void trim(struct vio_req *r, uint32_t len)
{
	uint8_t i = 0;

	r->data_len = r->used_len = len;
	while (r->seg[i].len < len)
		len -= r->seg[i++].len;
	r->seg[i].len = len;
	r->n_data = (uint8_t)(i + 1);
}

/* Chains for `len` bytes, behind those that the burst has. 0, or why not. */
static int reserve(struct batch *b, uint32_t len, unsigned *n)
{
	struct vio_net_queue *nq = b->nq;
	uint32_t have = 0;
	unsigned k = 0;

	while (have < len) {
		if (vio_unlikely(b->n + k == VIO_NET_BATCH || (k == 1 && !b->net->mrg)))
			return VIO_DROP_TOO_SMALL;
		if (nq->held_at + b->n + k == nq->held_n &&
		    vio_unlikely(b->dry == b->q || !refill(b->q, nq, b->left))) {
			b->dry = b->q;
			return VIO_DROP_NO_BUFFERS;
		}
		have += nq->held[nq->held_at + b->n + k++]->data_len;
	}
	*n = k;
	for (unsigned i = 0; i < k; i++) {
		struct vio_req *r = nq->held[nq->held_at + b->n + i];
		uint32_t part = r->data_len < len ? r->data_len : len;

		trim(r, part);
		len -= part;
	}
	return -1;
}

/* -------------------------------------------------------------------------------- filling ---- */

/* Any framing on both sides. */
static void scatter(struct vio_req *const r[], const struct iovec *src, unsigned n_src)
{
	unsigned chain = 0, seg = 0;
	size_t off = 0;

	for (unsigned s = 0; s < n_src; s++) {
		const uint8_t *from = src[s].iov_base;
		size_t left = src[s].iov_len;

		while (left > 0) {
			const struct iovec *to = &r[chain]->iov[seg];
			size_t part = to->iov_len - off < left ? to->iov_len - off : left;

			memmove((uint8_t *)to->iov_base + off, from, part);
			from += part;
			left -= part;
			off += part;
			if (off < to->iov_len)
				continue;
			off = 0;
			if (++seg == r[chain]->n_iov) {
				seg = 0;
				chain++;
			}
		}
	}
}

/* The one copy of a frame. */
static inline void fill(struct batch *b, const struct item *it, struct vio_req *const r[])
{
	struct vio_frame *f = it->f;
	uint32_t head = vio_frame_head_out(f, it->tagged);
	uint8_t *to = r[0]->iov[0].iov_base;
	struct virtio_net_hdr_v1 h;

	if (vio_likely(it->n == 1 && r[0]->n_iov == 1)) {
		if (vio_likely(f->flags == 0)) {
			vio_net_put_plain_header(to, 1);
		} else {
			h = vio_net_header(b->net, it->f, it->tagged, it->n);
			memcpy(to, &h, sizeof(h));
		}
		vio_frame_put_head(f, it->tagged, to + sizeof(h));
		to += sizeof(h) + head;
		for (unsigned i = 0; i < f->n_body; i++) {
			memmove(to, f->body[i].iov_base, f->body[i].iov_len);
			to += f->body[i].iov_len;
		}
	} else {
		/* The head in two pieces: what stands before a tag, and the rest with it. */
		uint8_t front[VIO_FRAME_MACS + VIO_TAG_LEN], *at = vio_frame_head(f);
		struct iovec src[3 + VIO_MAX_SEGS + 1];

		h = vio_net_header(b->net, it->f, it->tagged, it->n);
		src[0] = (struct iovec){&h, sizeof(h)};
		src[1] = (struct iovec){front, vio_frame_put_front(f, it->tagged, front)};
		src[2] = (struct iovec){at + VIO_FRAME_MACS, f->head_len - VIO_FRAME_MACS};
		memcpy(src + 3, f->body, f->n_body * sizeof(src[0]));
		scatter(r, src, 3u + f->n_body);
	}
	vio_counter_add(&b->q->stats.cpu_bytes, it->len - VIO_NET_HDR);
}

/* One move for each chain. */
static void move(struct batch *b, const struct item *it, struct vio_req *const r[])
{
	struct vio_frame *f = it->f;
	uint32_t before = vio_net_put_before(b->net, f, it->tagged, it->n), off = 0;
	uint8_t *from = f->local - before;
	struct ioba at = ioba_add(b->q->local_base, f->local_at.v - before);

	for (unsigned i = 0; i < it->n; i++) {
		b->q->payload->move(b->q, r[i], from + off, ioba_add(at, off));
		off += r[i]->data_len;
	}
}

static void count_out(struct batch *b, const struct item *it, struct vio_req *const r[])
{
	struct vio_port *p = &b->net->port;

	for (unsigned i = 0; i < it->n; i++) {
		if (vio_unlikely(r[i]->fault != VIO_ST_OK)) {
			vio_port_drop(p, VIO_DROP_STOPPED, 1);
			return;
		}
	}
	vio_counter_add(&p->stats.out_frames, 1);
	vio_counter_add(&p->stats.out_bytes, it->len - VIO_NET_HDR);
	vio_counter_add(&b->q->stats.reads, 1);
	vio_counter_add(&b->q->stats.bytes_read, it->len - VIO_NET_HDR);
}

/* Fill and publish what is reserved. */
static void flush(struct batch *b)
{
	struct vio_req **r = b->nq ? b->nq->held + b->nq->held_at : NULL;
	struct vio_req *get[VIO_NET_BATCH];
	unsigned n_get = 0;
	uint64_t copied;

	if (b->n == 0)
		return;
	copied = b->q->stats.cpu_bytes;
	for (unsigned i = 0; i < b->n_items; i++) {
		const struct item *it = &b->item[i];

		if (!it->straight) {
			memcpy(get + n_get, r + it->first, it->n * sizeof(get[0]));
			n_get += it->n;
		}
	}
	if (n_get > 0)
		b->q->payload->get(b->q, get, n_get);
	for (unsigned i = 0; i < n_get; i++) {
		if (vio_likely(get[i]->fault == VIO_ST_OK && !get[i]->waits))
			__builtin_prefetch(get[i]->iov[0].iov_base, 1);
		else if (get[i]->fault == VIO_ST_OK)
			get[i]->fault = VIO_ST_NO_DMA; /* can't be: there is room for a burst */
	}
	for (unsigned i = 0; i < b->n_items; i++) {
		const struct item *it = &b->item[i];
		bool ok = true;

		for (unsigned k = 0; k < it->n; k++)
			ok = ok && r[it->first + k]->fault == VIO_ST_OK;
		if (vio_likely(ok && !it->straight))
			fill(b, it, r + it->first);
		else if (ok)
			move(b, it, r + it->first);
		count_out(b, it, r + it->first);
	}
	b->nq->held_at += b->n;
	/* give() reorders the list that it gets, which is the past of held[]. */
	vio_squeue_give(b->q, r, b->n, b->q->stats.cpu_bytes - copied);
	b->n = b->n_items = 0;
	b->bytes = 0;
}

/* ------------------------------------------------------------------------------ choosing ---- */

static bool use_queue(struct batch *b, struct vio_squeue *q)
{
	if (q == b->q)
		return q && q->fault == VIO_ST_OK;
	flush(b);
	b->q = NULL;
	b->nq = NULL;
	if (!q || q->fault != VIO_ST_OK || vio_load_acquire(&q->ctl) != VIO_SQ_RUN) /* pair K */
		return false;
	q->windows = vio_load_acquire(q->windows_src); /* pair R */
	b->q = q;
	b->nq = vio_nq_of(q);
	return true;
}

static void add(struct batch *b, struct vio_frame *f)
{
	struct vio_net *net = b->net;
	struct vio_squeue *q = vio_load_acquire(&net->rx[vio_net_pair(net, f)]); /* pair L */
	bool tagged = vio_port_tags(&net->port, f->vid);
	struct item *it;
	uint32_t len;
	int why;

	if (vio_unlikely(!use_queue(b, q))) {
		vio_port_drop(&net->port, VIO_DROP_STOPPED, 1);
		return;
	}
	if (vio_unlikely((f->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) && !net->guest_csum)) {
		vio_offload_csum(f);
		vio_counter_add(&net->port.stats.checksummed, 1);
	}
	len = (uint32_t)VIO_NET_HDR + f->len + (tagged ? VIO_TAG_LEN : 0u);
	if (b->n_items == VIO_FRAME_BURST || b->bytes + len > VIO_NET_BATCH_BYTES)
		flush(b);
	it = &b->item[b->n_items];
	why = reserve(b, len, &it->n);
	if (why == VIO_DROP_TOO_SMALL && b->n > 0) { /* perhaps the burst is full */
		flush(b);
		it = &b->item[0];
		why = reserve(b, len, &it->n);
	}
	if (vio_unlikely(why >= 0)) {
		vio_port_drop(&net->port, (enum vio_drop)why, 1);
		return;
	}
	it->f = f;
	it->first = b->n;
	it->len = len;
	it->tagged = tagged;
	it->straight = vio_net_in_one_piece(f, tagged);
	b->n_items++;
	b->n += it->n;
	b->bytes += len;
}

/* For a guest that did not agree to get it in one piece. */
static void add_segments(struct batch *b, const struct vio_frame *f)
{
	struct vio_net *net = b->net;
	uint32_t n = vio_offload_segments(f), left = b->left;

	vio_counter_add(&net->port.stats.segmented, 1);
	for (uint32_t i = 0; i < n; i++) {
		struct vio_segment *s = &net->segment[i % VIO_NET_SEGMENTS];

		if (i % VIO_NET_SEGMENTS == 0)
			flush(b);
		vio_offload_segment(f, i, s);
		b->left = left + (n - 1 - i);
		add(b, &s->f);
	}
	flush(b);
}

static unsigned no_submit(struct vio_squeue *q, struct vio_req *const r[], unsigned n,
			  struct vio_req *done[])
{
	(void)q, (void)r, (void)n, (void)done;
	return 0;
}

unsigned vio_net_no_complete(struct vio_squeue *q, struct vio_req *done[], unsigned max)
{
	(void)q, (void)done, (void)max;
	return 0;
}

const struct vio_dev_ops vio_net_rx_ops = {.name = "net receive",
					   .one_lcore = true,
					   .long_chains = true,
					   .submit = no_submit,
					   .plain_flags = VRING_DESC_F_WRITE,
					   .plain_min = VIO_NET_HDR,
					   .plain_max = VIO_MAX_DATA,
					   .complete = vio_net_no_complete};

/* ------------------------------------------------------------------------------------ all ---- */

/* Frames that are somewhere else still. */
static void deliver_copied(struct vio_net *net, struct vio_frame *const f[], unsigned n)
{
	struct batch b;

	b.net = net;
	b.q = NULL;
	b.nq = NULL;
	b.n = b.n_items = 0;
	b.bytes = 0;
	b.dry = NULL;
	for (unsigned i = vio_net_deliver_plain(net, f, n); i < n; i++) {
		b.left = n - i;
		if (vio_unlikely(!net->filter.promisc && !vio_net_wanted(net, f[i])))
			vio_port_drop(&net->port, VIO_DROP_FILTERED, 1);
		else if (vio_unlikely(!vio_gso_in(f[i], net->takes)))
			add_segments(&b, f[i]);
		else
			add(&b, f[i]);
	}
	flush(&b);
}

void vio_net_deliver(struct vio_port *p, struct vio_frame *const f[], unsigned n)
{
	struct vio_net *net = vio_container_of(p, struct vio_net, port);

	/* Until the first queue runs, nothing else of the session is there to be looked at (pair L). */
	if (vio_unlikely(!vio_load_acquire(&net->rx[0]))) {
		vio_port_drop(p, VIO_DROP_STOPPED, n);
		return;
	}
	for (unsigned i = 0, k; i < n; i += k) {
		k = f[i]->place ? vio_net_deliver_placed(net, f + i, n - i) : 0;
		if (k > 0)
			continue;
		for (k = 1; i + k < n && !f[i + k]->place; k++)
			;
		deliver_copied(net, f + i, k);
	}
}
