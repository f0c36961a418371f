/* SPDX-License-Identifier: BSD-3-Clause */
/* Send: frames into the ring, and their buffers back. */
#include <string.h>

#include "guest/dev/net/net_priv.h"

/* Payload and buffers of frames that the device is done with, or that were not sent after all. */
static inline void release(struct net_pair *p, struct net_buf *head)
{
	struct vio_net_buf *b = &head->b;

	if (p->tx.payload->ops->as_is) {
		net_free_chain(p, b);
		return;
	}
	while (b) {
		struct net_buf *nb = net_buf_of(b);
		struct vio_gbuf *g = &nb->g;

		b = b->next;
		p->tx.payload->ops->put(p->tx.payload, &g, 1);
		net_buf_free(p, nb);
	}
}

static int take_tx(struct vio_fq *v, void *ctx, unsigned max)
{
	struct net_pair *p = vio_container_of(v, struct net_pair, tx);
	struct vio_dma_map *m[NET_BURST];
	struct vio_used u[NET_BURST];
	unsigned total = 0;
	int n;

	(void)ctx;
	while (!v->stuck && total < max && (n = vio_vring_take(v->vr, u, NET_BURST)) != 0) {
		if (vio_unlikely(n < 0))
			return total ? (int)total : n; /* it says so again next time */
		if (!v->dma->ops->fixed) {
			for (int i = 0; i < n; i++)
				m[i] = &((struct net_buf *)u[i].token)->map;
			n = (int)vio_fq_unmap(v, m, (unsigned)n);
		}
		for (int i = 0; i < n; i++)
			release(p, u[i].token);
		total += (unsigned)n;
	}
	p->n_sending -= total;
	if (total)
		vio_fq_worked(v, total);
	return (int)total;
}

/* Levels that ask do so for sent frames only when the program waits for them. */
int net_reclaim(struct net_pair *p)
{
	bool ok;
	int n;

	if (p->n_sending == 0)
		return 0;
	if (p->n->f.notify->always)
		n = vio_fq_poll_told(&p->tx, take_tx, NULL, UINT16_MAX, &ok);
	else
		n = take_tx(&p->tx, NULL, UINT16_MAX);
	if (vio_unlikely(n < 0 || p->tx.stuck))
		n = vio_fq_broken(&p->tx);
	return n;
}

void vio_net_tx_reclaim(struct vio_net *n, unsigned pair)
{
	struct net_pair *p = &n->p[pair];
	int rc = 0;

	if (vio_unlikely(!vio_gate_enter(&n->f.gate, &p->tx.pass)))
		return;
	if (vio_likely(p->tx.epoch == n->f.epoch))
		rc = net_reclaim(p);
	vio_gate_leave(&p->tx.pass);
	if (vio_unlikely(rc < 0))
		vio_front_recover(&n->f, &p->tx);
}

unsigned vio_net_tx_alloc(struct vio_net *n, unsigned pair, struct vio_net_buf *buf[],
			  unsigned count)
{
	struct net_pair *p = &n->p[pair];

	if (vio_unlikely(p->n_free < count)) {
		vio_net_tx_reclaim(n, pair);
		count = p->n_free < count ? p->n_free : count;
	}
	/*
	 * The lines are where the device read them: have them all on their way before the first is
	 * written.
	 */
	p->n_free -= count;
	for (unsigned i = 0; i < count; i++)
		__builtin_prefetch(p->free[p->n_free + i]->b.hdr, 1);
	for (unsigned i = 0; i < count; i++) {
		struct net_buf *b = p->free[p->n_free + i];

		b->state = NET_HELD;
		b->b.next = NULL;
		b->b.data = (uint8_t *)b->b.hdr + VIO_NET_HDR;
		b->b.len = 0;
		memset(b->b.hdr, 0, VIO_NET_HDR);
		buf[i] = &b->b;
	}
	return count;
}

void vio_net_free(struct vio_net *n, unsigned pair, struct vio_net_buf *const frame[],
		  unsigned count)
{
	struct net_pair *p = &n->p[pair];

	for (unsigned i = 0; i < count; i++)
		net_free_chain(p, frame[i]);
}

/*
 * What the payload level is to be asked for, for one frame. The number of buffers; 0: it can't be
 * sent at all.
 */
static unsigned describe(const struct vio_net *n, struct vio_net_buf *frame, struct vio_gbuf *g[])
{
	unsigned bufs = 0;
	uint32_t total = 0;

	for (struct vio_net_buf *b = frame; b; b = b->next) {
		struct net_buf *nb = net_buf_of(b);
		const uint32_t lead = b == frame ? VIO_NET_HDR : 0;
		const uint64_t off = (uint64_t)(b->data - (uint8_t *)b->hdr);

		if (bufs == VIO_NET_MAX_BUFS || b->len == 0 || off < lead || off > n->cap ||
		    b->len > n->cap - off)
			return 0;
		nb->g.app = gla_add(nb->at, off - lead);
		nb->g.len = b->len + lead;
		nb->g.dev_writes = false;
		nb->n = 0;
		g[bufs++] = &nb->g;
		total += b->len;
	}
	return total <= VIO_NET_MAX_FRAME ? bufs : 0;
}

/* One frame's mapping from its payload buffers. */
static void fill(struct net_buf *head, struct vio_gbuf *const g[], unsigned bufs)
{
	head->n = (uint8_t)bufs;
	head->map.n_seg = (uint8_t)bufs;
	for (unsigned i = 0; i < bufs; i++) {
		head->map.seg[i].addr = g[i]->dev;
		head->map.seg[i].len = g[i]->len;
		head->map.seg[i].dev_writes = false;
	}
}

static void sent(struct net_pair *p, struct net_buf *head)
{
	for (struct vio_net_buf *b = &head->b; b; b = b->next) {
		net_buf_of(b)->state = NET_SENDING;
		p->s.tx_bytes += b->len;
	}
	p->s.tx_bufs += head->n;
	p->s.tx_frames++;
	p->n_sending++;
}

enum { SEND_OK, SEND_LATER, SEND_NEVER };

/* A frame of several buffers, by itself. */
static int send_long(struct net_pair *p, struct vio_net_buf *frame)
{
	struct vio_gbuf *g[VIO_NET_MAX_BUFS];
	struct net_buf *head = net_buf_of(frame);
	struct vio_dma_map *m = &head->map;
	unsigned bufs = describe(p->n, frame, g);
	int got, rc;

	if (bufs == 0)
		return SEND_NEVER;
	if (vio_vring_room(p->tx.vr, bufs) == 0)
		return p->n_sending ? SEND_LATER : SEND_NEVER;
	frame->hdr->num_buffers = 0;
	got = p->tx.payload->ops->get(p->tx.payload, g, bufs);
	if (got < (int)bufs) {
		if (got > 0)
			p->tx.payload->ops->put(p->tx.payload, g, (unsigned)got);
		return got < 0 ? SEND_NEVER : SEND_LATER;
	}
	fill(head, g, bufs);
	rc = p->tx.dma->ops->map(p->tx.dma, &m, 1);
	if (rc == 1 && vio_vring_add(p->tx.vr, m->seg, bufs, head) == 0) {
		sent(p, head);
		return SEND_OK;
	}
	if (rc == 1)
		p->tx.dma->ops->unmap(p->tx.dma, &m, 1);
	p->tx.payload->ops->put(p->tx.payload, g, bufs);
	/* -EFAULT also while the server, asked to take a window, goes away. */
	return rc < 0 && vio_fq_look_at_crq(&p->tx) ? SEND_NEVER : SEND_LATER;
}

/*
 * Frames of one buffer, together: at most NET_BURST. How many are in the ring; fewer: send_long()
 * says why.
 */
static unsigned send_short(struct net_pair *p, struct vio_net_buf *const frame[], unsigned count)
{
	struct vio_vring_one one[NET_BURST];
	struct gla app[NET_BURST];
	const uint32_t cap = p->n->cap;
	unsigned room = vio_vring_room(p->tx.vr, 1), n = 0;
	uint64_t bytes = 0;

	if (count > room)
		count = room;
	for (; n < count && !frame[n]->next; n++) {
		struct net_buf *b = net_buf_of(frame[n]);
		const uint64_t off = (uint64_t)(b->b.data - (uint8_t *)b->b.hdr);

		if (vio_unlikely(b->b.len == 0 || off < VIO_NET_HDR || off > cap ||
				 b->b.len > cap - off || b->b.len > VIO_NET_MAX_FRAME))
			break;
		b->b.hdr->num_buffers = 0;
		app[n] = gla_add(b->at, off - VIO_NET_HDR);
		one[n] = (struct vio_vring_one){.len = b->b.len + VIO_NET_HDR, .token = b};
	}
	n = net_ready(&p->tx, one, app, n, false);
	for (unsigned i = 0; i < n; i++) {
		struct net_buf *b = one[i].token;

		b->state = NET_SENDING;
		b->n = 1;
		bytes += b->b.len;
	}
	vio_vring_add_ones(p->tx.vr, one, n, false); /* there is room: it was counted */
	p->s.tx_bytes += bytes;
	p->s.tx_bufs += n;
	p->s.tx_frames += n;
	p->n_sending += n;
	return n;
}

static unsigned send_all(struct net_pair *p, struct vio_net_buf *const frame[], unsigned count)
{
	unsigned done = 0, added = 0;

	while (done < count) {
		unsigned some = count - done < NET_BURST ? count - done : NET_BURST,
			 n = send_short(p, frame + done, some);

		done += n;
		added += n;
		if (vio_likely(n == some))
			continue;
		/* The next one has several buffers, or no room, or can't be sent. */
		switch (send_long(p, frame[done])) {
		case SEND_OK:
			added++;
			done++;
			continue;
		case SEND_NEVER:
			p->s.tx_bad++;
			vio_net_free(p->n, (unsigned)(p - p->n->p), &frame[done], 1);
			done++;
			continue;
		default:
			break;
		}
		break;
	}
	if (added) {
		p->rx.idle_tick = 0;
		p->s.tx_publishes++;
		vio_fq_publish(&p->tx);
		if (!p->n->f.notify->always && p->tx.notify.ask != VIO_ASK_ARMED)
			vio_fq_park(&p->tx);
	}
	return done;
}

unsigned vio_net_tx_burst(struct vio_net *n, unsigned pair, struct vio_net_buf *const frame[],
			  unsigned count)
{
	struct net_pair *p = &n->p[pair];
	unsigned done = 0;
	int rc = 0;

	if (vio_unlikely(!vio_gate_enter(&n->f.gate, &p->tx.pass)))
		return 0;
	if (vio_likely(p->tx.epoch == n->f.epoch)) {
		const unsigned room = vio_vring_room(p->tx.vr, 1);

		/* Late, so that a burst's lines come over together; but before the ring is full. */
		if (room < n->info.queue_size / 2u || room < count)
			rc = net_reclaim(p);
		if (vio_likely(rc >= 0))
			done = send_all(p, frame, count);
		/* Short of mappings, not of descriptors: frames that the device is done with hold them. */
		if (vio_unlikely(rc >= 0 && done < count)) {
			rc = net_reclaim(p);
			if (rc > 0)
				done += send_all(p, frame + done, count - done);
		}
	}
	vio_gate_leave(&p->tx.pass);
	if (vio_unlikely(rc < 0))
		vio_front_recover(&n->f, &p->tx);
	return done;
}
