/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The data path of the network front end. Everything goes in bursts through the arm's tables:
 * payload, mapping, ring; one publish and at most one kick a call. No allocation, no system call
 * (but a sleep), no lock.
 */
#include <string.h>

#include "guest/dev/net/net_priv.h"

static struct net_pair *pair_of_rx(struct vio_fq *v)
{
	return vio_container_of(v, struct net_pair, rx);
}

/* ------------------------------------------------------------------------- refill ---- */

/*
 * Where buffers of one chain each are for the device: through payload and mapping, as far as these levels have anything to do.
 * one[i]: length and token (a struct net_buf) are set, app[i] is its address; out: its IOBA. How many, in order.
 */
static unsigned ready(struct vio_fq *q, struct vio_vring_one one[], struct gla app[], unsigned n,
		      bool dev_writes)
{
	struct vio_gbuf *g[NET_BURST];
	struct vio_dma_map *m[NET_BURST];
	int got;

	if (!q->payload->ops->as_is) {
		for (unsigned i = 0; i < n; i++) {
			g[i] = &((struct net_buf *)one[i].token)->g;
			g[i]->app = app[i];
			g[i]->len = one[i].len;
			g[i]->dev_writes = dev_writes;
		}
		got = q->payload->ops->get(q->payload, g, n);
		n = got > 0 ? (unsigned)got : 0;
		for (unsigned i = 0; i < n; i++)
			app[i] = g[i]->dev;
	}
	if (q->dma->ops->fixed) {
		for (unsigned i = 0; i < n; i++)
			one[i].at = vio_dma_fixed(q->dma, app[i]);
		return n;
	}
	if (n == 0)
		return 0;
	for (unsigned i = 0; i < n; i++) {
		m[i] = &((struct net_buf *)one[i].token)->map;
		m[i]->n_seg = 1;
		m[i]->seg[0].addr = app[i];
		m[i]->seg[0].len = one[i].len;
		m[i]->seg[0].dev_writes = dev_writes;
	}
	got = q->dma->ops->map(q->dma, m, n);
	got = got > 0 ? got : 0;
	for (unsigned i = 0; i < (unsigned)got; i++)
		one[i].at = m[i]->seg[0].at;
	if ((unsigned)got < n && !q->payload->ops->as_is) {
		for (unsigned i = (unsigned)got; i < n; i++)
			g[i]->dev_writes = false; /* nothing to copy back */
		q->payload->ops->put(q->payload, g + got, n - (unsigned)got);
	}
	return (unsigned)got;
}

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
	n = ready(&p->rx, one, app, want, true);
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

static inline void free_chain(struct net_pair *p, struct vio_net_buf *b)
{
	while (b) {
		struct vio_net_buf *next = b->next;

		net_buf_free(p, net_buf_of(b));
		b = next;
	}
}

static void drop_part(struct net_pair *p)
{
	free_chain(p, &p->part->b);
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

/* ---------------------------------------------------------------------------- send ---- */

/* Payload and buffers of frames that the device is done with, or that were not sent after all. */
static inline void release(struct net_pair *p, struct net_buf *head)
{
	struct vio_net_buf *b = &head->b;

	if (p->tx.payload->ops->as_is) {
		free_chain(p, b);
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
		free_chain(p, frame[i]);
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
	n = ready(&p->tx, one, app, n, false);
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
