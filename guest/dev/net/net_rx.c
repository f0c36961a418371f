/* SPDX-License-Identifier: BSD-3-Clause */
/* Receive: buffers posted, and made frames when they come back. */
#include <string.h>

#include "guest/dev/net/net_priv.h"

static struct net_pair *pair_of_rx(struct vio_fq *v)
{
	return vio_container_of(v, struct net_pair, rx);
}

/* ------------------------------------------------------------------------- refill ---- */

/*
 * At most NET_BURST buffers into the ring, not yet published. How many. In the order in which they
 * were freed: a buffer then mostly comes to the descriptor that it had, which need not be written
 * again.
 */
static unsigned post_some(struct net_pair *p, unsigned want)
{
	struct vio_vring_one one[NET_BURST];
	struct gla app[NET_BURST];
	struct net_buf **b = &p->free[p->n_free - want];
	unsigned n;

	for (unsigned i = 0; i < want; i++) {
		one[i] = (struct vio_vring_one){.len = p->n->cap, .token = b[i]};
		app[i] = b[i]->at;
	}
	n = net_ready(&p->rx, one, app, want, true);
	for (unsigned i = 0; i < n; i++)
		b[i]->state = NET_POSTED;
	vio_vring_add_ones(p->rx.vr, one, n, true); /* there is room: it was counted */
	/* Those that were not posted move down over those that were. */
	if (vio_unlikely(n < want))
		memmove(b, b + n, (want - n) * sizeof(b[0]));
	p->n_free -= n;
	p->n_posted += n;
	return n;
}

static unsigned refill(struct net_pair *p)
{
	unsigned room = vio_vring_room(p->rx.vr, 1), total = 0, want = p->posted_max - p->n_posted;

	if (want > room)
		want = room;
	if (want < p->n->refill_min)
		return 0;
	if (p->n_free < want)
		net_reclaim(p);
	if (want > p->n_free)
		want = p->n_free;
	while (total < want) {
		unsigned some = want - total < NET_BURST ? want - total : NET_BURST;
		unsigned n = post_some(p, some);

		total += n;
		if (n < some)
			break;
	}
	if (total) {
		p->s.refills++;
		vio_fq_publish(&p->rx);
	}
	return total;
}

unsigned vio_net_refill(struct vio_net *n, unsigned pair)
{
	struct net_pair *p = &n->p[pair];
	unsigned done = 0;

	if (p->n_posted == p->posted_max || vio_unlikely(!vio_gate_enter(&n->f.gate, &p->rx.pass)))
		return 0;
	if (vio_likely(p->rx.epoch == n->f.epoch))
		done = refill(p);
	vio_gate_leave(&p->rx.pass);
	return done;
}

/* ------------------------------------------------------------------------- receive ---- */

static void drop_part(struct net_pair *p)
{
	net_free_chain(p, &p->part->b);
	p->part = NULL;
	p->s.rx_bad++;
}

/* The first buffer of a frame. */
static void begin(struct net_pair *p, struct net_buf *b, uint32_t len)
{
	unsigned bufs = 1;

	p->part_bad = len < VIO_NET_HDR;
	if (p->n->info.merge && vio_likely(!p->part_bad)) {
		bufs = vio_le16(vio_load_relaxed(&b->b.hdr->num_buffers));
		if (vio_unlikely(bufs == 0 || bufs > p->n->max_merge)) {
			/* Nobody knows where this frame ends. */
			p->part_bad = true;
			bufs = 1;
		}
	}
	b->b.data = (uint8_t *)b->b.hdr + VIO_NET_HDR;
	b->b.len = b->b.total = p->part_bad ? 0 : len - VIO_NET_HDR;
	p->part = p->part_tail = b;
	p->part_left = bufs;
}

static void append(struct net_pair *p, struct net_buf *b, uint32_t len)
{
	b->b.data = (uint8_t *)b->b.hdr;
	b->b.len = len;
	p->part->b.total += len;
	p->part_tail->b.next = &b->b;
	p->part_tail = b;
}

/* Buffers that the device returned, mapped no more and copied out, into whole frames. How many. */
static unsigned assemble(struct net_pair *p, const struct vio_used *u, unsigned n,
			 struct vio_net_buf *frame[])
{
	unsigned frames = 0;

	for (unsigned i = 0; i < n; i++) {
		struct net_buf *b = u[i].token;

		b->state = NET_HELD;
		b->b.next = NULL;
		if (vio_likely(!p->part))
			begin(p, b, u[i].len);
		else
			append(p, b, u[i].len);
		if (vio_unlikely(u[i].len > p->n->cap))
			p->part_bad = true; /* more than it was given room for */
		if (--p->part_left > 0)
			continue;
		if (vio_unlikely(p->part_bad)) {
			drop_part(p);
			continue;
		}
		p->s.rx_frames++;
		p->s.rx_bytes += p->part->b.total;
		frame[frames++] = &p->part->b;
		p->part = NULL;
	}
	p->s.rx_bufs += n;
	p->n_posted -= n;
	return frames;
}

/* A burst of used elements, at most NET_BURST. Frames; *taken: elements. */
static int receive(struct net_pair *p, struct vio_net_buf *frame[], unsigned want, unsigned *taken)
{
	struct vio_used u[NET_BURST];
	int n = vio_vring_take(p->rx.vr, u, want);

	*taken = n > 0 ? (unsigned)n : 0;
	if (n <= 0)
		return n;
	for (int i = 0; i < n; i++)
		__builtin_prefetch(((struct net_buf *)u[i].token)->b.hdr);
	/* Unmapped before it is looked at: what the device can still reach is not settled. */
	if (!p->rx.dma->ops->fixed) {
		struct vio_dma_map *m[NET_BURST];

		for (int i = 0; i < n; i++)
			m[i] = &((struct net_buf *)u[i].token)->map;
		*taken = vio_fq_unmap(&p->rx, m, (unsigned)n);
		n = (int)*taken;
	}
	if (!p->rx.payload->ops->as_is) {
		struct vio_gbuf *g[NET_BURST];

		for (int i = 0; i < n; i++) {
			g[i] = &((struct net_buf *)u[i].token)->g;
			/* What is copied out of a bounce buffer: no more than was posted. */
			g[i]->len = u[i].len < p->n->cap ? u[i].len : p->n->cap;
			g[i]->dev_writes = g[i]->len > 0;
		}
		p->rx.payload->ops->put(p->rx.payload, g, (unsigned)n);
	}
	return (int)assemble(p, u, (unsigned)n, frame);
}

static int take_rx(struct vio_fq *v, void *out, unsigned max)
{
	struct net_pair *p = pair_of_rx(v);
	struct vio_net_buf **frame = out;
	unsigned frames = 0, bufs = 0, taken, want;
	int n = 0;

	/* An element is a frame or a part of one: never more frames than elements. */
	do {
		want = max - frames < NET_BURST ? max - frames : NET_BURST;
		n = receive(p, frame + frames, want, &taken);
		if (vio_unlikely(n < 0))
			break;
		frames += (unsigned)n;
		bufs += taken;
	} while (taken == want && frames < max);
	if (bufs) {
		vio_fq_worked(v, bufs);
		return (int)frames;
	}
	return n;
}

/* The device is gone for good. The gate stays closed, so nobody else touches the pair. */
static int dead(struct net_pair *p)
{
	net_give_up(p);
	return -EIO;
}

int vio_net_rx_burst(struct vio_net *n, unsigned pair, struct vio_net_buf *frame[], unsigned max)
{
	struct net_pair *p = &n->p[pair];
	bool ok = true;
	int got;

	if (vio_unlikely(!vio_gate_enter(&n->f.gate, &p->rx.pass))) {
		vio_front_recover(&n->f, &p->rx);
		return vio_load_acquire(&n->f.dead) ? dead(p) : 0;
	}
	if (vio_unlikely(p->rx.epoch != n->f.epoch))
		net_revive(p);
	if (vio_unlikely(p->rx.kick_due))
		vio_fq_kick(&p->rx);
	if (vio_unlikely(p->tx.kick_due))
		vio_fq_kick(&p->tx);
	got = vio_fq_poll(&p->rx, take_rx, frame, max, &ok);
	vio_counter_add(got > 0 ? &p->rx.cnt->polls_busy : &p->rx.cnt->polls_empty, 1);
	vio_gate_leave(&p->rx.pass);
	if (vio_unlikely(got < 0 || p->rx.stuck)) {
		vio_fq_broken(&p->rx);
		ok = false;
		got = got < 0 ? 0 : got;
	}
	if (vio_unlikely(!ok)) {
		vio_front_recover(&n->f, &p->rx);
		if (got == 0 && vio_load_acquire(&n->f.dead))
			return dead(p);
	}
	return got;
}
