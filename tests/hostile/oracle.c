/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What was judged, and what is used: seen where the server's parts meet. A chain is noted when the ring gives it, its header when the
 * payload has fetched it; what the store, the status byte, the used ring and the switch then get is worked out here a second time
 * from these notes and compared, and every address is looked for in the windows. A violation does no harm: what is wrong is not done.
 */
#include <stdio.h>
#include <string.h>

#include <linux/virtio_blk.h>

#include "tests/hostile/rig.h"

void oracle_violation(struct rig *g, const char *what, uint64_t a, uint64_t b)
{
	if (g->violations++ == 0)
		snprintf(g->first, sizeof(g->first), "%s: 0x%llx, 0x%llx", what,
			 (unsigned long long)a, (unsigned long long)b);
}

static struct rig *rig_of(struct vio_squeue *q)
{
	return vio_container_of(q, struct rig, q);
}

/* Is [at, +len) inside of windows that permit it? By RDMA from one into the next, too. */
static bool allowed(const struct rig *g, struct ioba at, uint64_t len, uint8_t perm)
{
	const struct rig_window *w = g->window;

	if (len == 0)
		return false;
	for (unsigned i = 0; i < RIG_WINDOWS && len > 0; i++, w++) {
		if (at.v < w->at || at.v - w->at >= w->len || (w->perm & perm) != perm)
			continue;
		if (len <= w->len - (at.v - w->at))
			return true;
		len -= w->len - (at.v - w->at);
		at.v = w->at + w->len;
	}
	return false;
}

static void must_be_allowed(struct rig *g, const char *what, struct ioba at, uint64_t len,
			    uint8_t perm)
{
	if (!allowed(g, at, len, perm))
		oracle_violation(g, what, at.v, len);
}

/* Where an address must lead to in place. */
static uint8_t *place(const struct rig *g, struct ioba at)
{
	for (unsigned i = 0; i < RIG_WINDOWS; i++) {
		const struct rig_window *w = &g->window[i];

		if (at.v >= w->at && at.v - w->at < w->len)
			return w->va + (at.v - w->at);
	}
	return NULL;
}

static bool in_local(const struct rig *g, const void *p, uint64_t len)
{
	const uint8_t *at = p, *mem = g->q.local_mem;

	return at >= mem && vio_range_ok((uint64_t)(at - mem), len, g->q.local_len);
}

/* ------------------------------------------------------------------------------- the ring ---- */

static struct rig_shadow *begin(struct rig *g, uint16_t head)
{
	if (head >= RIG_SIZE || g->shadow[head].in_flight) {
		oracle_violation(g, "a chain is taken twice, or has no such head", head, RIG_SIZE);
		return NULL;
	}
	g->shadow[head].in_flight = true;
	g->requests++;
	return &g->shadow[head];
}

static void note_chain(struct rig *g, const struct vio_req *r)
{
	const unsigned n = r->n_seg < VIO_MAX_SEGS ? r->n_seg : VIO_MAX_SEGS;
	struct rig_shadow *s;

	if (r != &g->q.req[r->head]) {
		oracle_violation(g, "a request that is not its head's", r->head, 0);
		return;
	}
	s = begin(g, r->head);
	if (!s)
		return;
	s->n_seg = r->n_seg;
	s->n_readable = r->n_readable;
	memcpy(s->seg, r->seg, n * sizeof(s->seg[0]));
	if (n == 0 || r->n_seg > VIO_SEGS_MORE)
		oracle_violation(g, "a chain without segments, or too many", r->n_seg, 0);
	for (unsigned i = 0; i < n; i++) {
		if (r->seg[i].len == 0)
			oracle_violation(g, "a segment without bytes", i, r->seg[i].at.v);
		if (r->n_seg <= VIO_MAX_SEGS && (i >= r->n_readable) != r->seg[i].dev_writes)
			oracle_violation(g, "a segment's direction", i, r->n_readable);
	}
}

static unsigned seen_pop(struct vio_squeue *q, struct vio_req *out[], unsigned max)
{
	struct rig *g = rig_of(q);
	const unsigned n = g->ring->pop(q, out, max);

	for (unsigned i = 0; i < n; i++)
		note_chain(g, out[i]);
	return n;
}

static void judge_plain(struct rig *g, const struct vio_plain *v)
{
	if (v->len < g->q.dev->plain_min || v->len > g->q.dev->plain_max)
		oracle_violation(g, "a plain chain's length", v->len, g->q.dev->plain_max);
}

static unsigned seen_pop_plain(struct vio_squeue *q, struct vio_plain out[], unsigned max,
			       bool *rest)
{
	struct rig *g = rig_of(q);
	const unsigned n = g->ring->pop_plain(q, out, max, rest);

	for (unsigned i = 0; i < n; i++) {
		struct rig_shadow *s = begin(g, out[i].head);

		judge_plain(g, &out[i]);
		if (!s)
			continue;
		s->n_seg = s->n_readable = 1;
		s->seg[0] = (struct vio_seg){.at = out[i].at, .len = out[i].len};
		if (q->dev->plain_flags & VRING_DESC_F_WRITE)
			s->n_readable = 0;
	}
	return n;
}

static void end(struct rig *g, uint16_t head, uint32_t used)
{
	struct rig_shadow *s = &g->shadow[head % RIG_SIZE];
	uint64_t may = 0;

	if (head >= RIG_SIZE || !s->in_flight) {
		oracle_violation(g, "a chain is given back that is not there", head, used);
		return;
	}
	s->in_flight = false;
	for (unsigned i = s->n_readable; i < s->n_seg && i < VIO_MAX_SEGS; i++)
		may += s->seg[i].len;
	if (s->n_seg <= VIO_MAX_SEGS && used > may)
		oracle_violation(g, "more used than there was", used, may);
}

static bool seen_push(struct vio_squeue *q, struct vio_req *const r[], unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		end(rig_of(q), r[i]->head, r[i]->used_len);
	return rig_of(q)->ring->push(q, r, n);
}

static bool seen_push_plain(struct vio_squeue *q, const struct vio_plain v[],
			    const uint32_t used_len[], unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		end(rig_of(q), v[i].head, used_len ? used_len[i] : 0);
	return rig_of(q)->ring->push_plain(q, v, used_len, n);
}

/* ---------------------------------------------------------------------------- the payload ---- */

static void seen_fetch(struct vio_squeue *q, struct vio_req *const r[], unsigned n, uint32_t len)
{
	struct rig *g = rig_of(q);

	g->payload->fetch(q, r, n, len);
	for (unsigned i = 0; i < n; i++) {
		struct rig_shadow *s = &g->shadow[r[i]->head];
		uint32_t left = len;

		if (r[i]->fault != VIO_ST_OK)
			continue;
		memcpy(s->hdr, VIO_SNAPSHOTS ? r[i]->hdr : r[i]->hdr_at, sizeof(s->hdr));
		for (unsigned k = 0; k < s->n_readable && k < VIO_MAX_SEGS && left > 0; k++) {
			const uint32_t part = s->seg[k].len < left ? s->seg[k].len : left;

			must_be_allowed(g, "a header is read", s->seg[k].at, part, TCE_READ);
			left -= part;
		}
	}
}

static uint8_t seen_read(struct vio_squeue *q, struct ioba at, void *buf, uint32_t len)
{
	struct rig *g = rig_of(q);
	uint8_t why;

	/* Also with one processor for all: the guest's turn comes here. */
	if (g->between)
		g->between(g->between_ctx, true);
	why = g->payload->read(q, at, buf, len);
	if (g->between)
		g->between(g->between_ctx, false);
	if (why == VIO_ST_OK)
		must_be_allowed(g, "guest memory is read", at, len, TCE_READ);
	return why;
}

static void seen_get(struct vio_squeue *q, struct vio_req *const r[], unsigned n)
{
	struct rig *g = rig_of(q);

	g->payload->get(q, r, n);
	for (unsigned i = 0; i < n; i++) {
		const bool copied = r[i]->bounce != NULL;

		if (r[i]->fault != VIO_ST_OK || r[i]->waits)
			continue;
		if (copied && !in_local(g, r[i]->bounce, r[i]->data_len))
			oracle_violation(g, "a bounce buffer", (uintptr_t)r[i]->bounce,
					 r[i]->data_len);
		for (unsigned k = 0; k < r[i]->n_data; k++) {
			const struct vio_seg *d = &r[i]->data[k];

			if (!copied || !r[i]->to_guest)
				must_be_allowed(g, "data", d->at, d->len,
						r[i]->to_guest ? TCE_WRITE : TCE_READ);
			if (!copied && g->payload == &vio_payload_direct &&
			    (r[i]->iov[k].iov_base != place(g, d->at) ||
			     r[i]->iov[k].iov_len != d->len))
				oracle_violation(g, "data is elsewhere",
						 (uintptr_t)r[i]->iov[k].iov_base, d->at.v);
		}
	}
}

/* What goes to the guest by RDMA is judged when it goes. */
static void seen_put(struct vio_squeue *q, struct vio_req *const r[], unsigned n)
{
	struct rig *g = rig_of(q);

	g->payload->put(q, r, n);
	for (unsigned i = 0; i < n; i++) {
		for (unsigned k = 0; r[i]->fault == VIO_ST_OK && r[i]->to_guest && k < r[i]->n_data;
		     k++)
			must_be_allowed(g, "data is given", r[i]->data[k].at, r[i]->data[k].len,
					TCE_WRITE);
	}
}

static unsigned seen_plain(struct vio_squeue *q, struct vio_plain v[], unsigned n, uint8_t perm)
{
	struct rig *g = rig_of(q);
	const unsigned done = g->payload->plain(q, v, n, perm);

	for (unsigned i = 0; i < done; i++) {
		judge_plain(g, &v[i]);
		/* By RDMA a frame for the guest is judged when it goes. */
		if (!g->payload->plain_out || perm == TCE_READ)
			must_be_allowed(g, "a frame", v[i].at, v[i].len, perm);
		if (g->payload == &vio_payload_direct
			    ? v[i].va != place(g, v[i].at)
			    : !in_local(g, v[i].va, perm == TCE_READ ? v[i].len : 1))
			oracle_violation(g, "a frame is elsewhere", (uintptr_t)v[i].va, v[i].at.v);
	}
	return done;
}

/* The disk's part that a request is about: as the store, or the server's memory, would be used. */
static bool part_ok(struct rig *g, const struct vio_req *r)
{
	const struct rig_shadow *s = &g->shadow[r->head];
	const uint32_t type = vio_le32(*(const uint32_t *)(const void *)s->hdr);
	const uint64_t sector = vio_le64(*(const uint64_t *)(const void *)(s->hdr + 8));
	const uint64_t before = g->violations;
	uint64_t in = 0, out = 0;

	for (unsigned i = 0; i < s->n_seg && i < VIO_MAX_SEGS; i++) {
		if (i < s->n_readable)
			in += s->seg[i].len;
		else
			out += s->seg[i].len;
	}
	if (r->io.op != VIO_IO_FLUSH && !vio_range_ok(r->io.offset, r->io.length, RIG_DISK))
		oracle_violation(g, "outside of the disk", r->io.offset, r->io.length);
	if (r->io.op == VIO_IO_READ &&
	    (type != VIRTIO_BLK_T_IN || r->io.offset != sector * 512 || r->io.length != out - 1))
		oracle_violation(g, "a read that was not judged so", r->io.offset, sector);
	if (r->io.op == VIO_IO_WRITE && (type != VIRTIO_BLK_T_OUT || r->io.offset != sector * 512 ||
					 r->io.length != in - sizeof(struct virtio_blk_outhdr)))
		oracle_violation(g, "a write that was not judged so", r->io.offset, sector);
	if (r->io.op == VIO_IO_DISCARD && type != VIRTIO_BLK_T_DISCARD)
		oracle_violation(g, "a discard that was not judged so", type, r->io.op);
	if (r->io.op == VIO_IO_ZERO && type != VIRTIO_BLK_T_WRITE_ZEROES)
		oracle_violation(g, "zeroes that were not judged so", type, r->io.op);
	return g->violations == before;
}

static void seen_move(struct vio_squeue *q, struct vio_req *r, void *local, struct ioba local_at)
{
	struct rig *g = rig_of(q);
	const uint64_t off = (uint64_t)((uint8_t *)local - g->disk_mem);

	if (r->fault == VIO_ST_OK && !vio_range_ok(off, r->data_len, RIG_DISK))
		oracle_violation(g, "server memory that is no disk", off, r->data_len);
	if (r->fault == VIO_ST_OK && (!part_ok(g, r) || !vio_range_ok(off, r->data_len, RIG_DISK)))
		r->fault = VIO_ST_REQUEST;
	g->payload->move(q, r, local, local_at);
	for (unsigned k = 0; r->fault == VIO_ST_OK && k < r->n_data; k++)
		must_be_allowed(g, "data is moved", r->data[k].at, r->data[k].len,
				r->to_guest ? TCE_WRITE : TCE_READ);
}

static uint8_t seen_plain_out(struct vio_squeue *q, const struct vio_plain *v, struct ioba from,
			      uint32_t len)
{
	struct rig *g = rig_of(q);
	const uint8_t why = g->payload->plain_out(q, v, from, len);

	if (why == VIO_ST_OK)
		must_be_allowed(g, "a frame is given", v->at, len, TCE_WRITE);
	if (why == VIO_ST_OK && len > v->len)
		oracle_violation(g, "more given than there was room", len, v->len);
	return why;
}

static void seen_status(struct vio_squeue *q, struct vio_req *const r[], unsigned n)
{
	struct rig *g = rig_of(q);

	g->payload->status(q, r, n);
	for (unsigned i = 0; i < n; i++) {
		const struct rig_shadow *s = &g->shadow[r[i]->head];
		const struct vio_seg *last =
			&s->seg[(s->n_seg < VIO_MAX_SEGS ? s->n_seg : VIO_MAX_SEGS) - 1];

		if (r[i]->fault != VIO_ST_OK)
			continue;
		must_be_allowed(g, "a status is written", r[i]->status_at, 1, TCE_WRITE);
		if (r[i]->status_at.v != last->at.v + last->len - 1)
			oracle_violation(g, "a status is elsewhere", r[i]->status_at.v, last->at.v);
	}
}

void oracle_tables(struct rig *g)
{
	g->ring_seen = *g->ring;
	g->ring_seen.pop = seen_pop;
	g->ring_seen.pop_plain = seen_pop_plain;
	g->ring_seen.push = seen_push;
	g->ring_seen.push_plain = seen_push_plain;
	g->payload_seen = *g->payload;
	g->payload_seen.fetch = seen_fetch;
	g->payload_seen.read = seen_read;
	g->payload_seen.get = seen_get;
	g->payload_seen.put = seen_put;
	g->payload_seen.plain = seen_plain;
	if (g->payload->plain_out)
		g->payload_seen.plain_out = seen_plain_out;
	g->payload_seen.move = seen_move;
	g->payload_seen.status = seen_status;
	g->q.ring = &g->ring_seen;
	g->q.payload = &g->payload_seen;
}

/* ------------------------------------------------------------------------ store and switch ---- */

/* First and last byte of each piece, as a store would touch them: the processor's word on its window. */
static void touch(const struct rig *g, const struct iovec *iov, unsigned n, bool write)
{
	for (unsigned i = 0; !g->quiet && i < n; i++) {
		uint8_t *p = iov[i].iov_base, *last = p + iov[i].iov_len - 1;

		if (write) {
			vio_store_relaxed(p, 0x11);
			vio_store_relaxed(last, 0x22);
		} else {
			(void)vio_load_relaxed(p);
			(void)vio_load_relaxed(last);
		}
	}
}

static unsigned store_submit(struct vio_backend_queue *bq, struct vio_io *const io[], unsigned n,
			     struct vio_io *done[])
{
	struct rig *g = vio_container_of(bq, struct rig, bq);

	for (unsigned i = 0; i < n; i++) {
		const struct vio_req *r = vio_container_of(io[i], struct vio_req, io);
		uint64_t sum = 0;

		for (unsigned k = 0; k < io[i]->n_iov; k++)
			sum += io[i]->iov[k].iov_len;
		if (io[i]->op <= VIO_IO_WRITE && sum != io[i]->length)
			oracle_violation(g, "data and length", sum, io[i]->length);
		io[i]->result = 0;
		if (part_ok(g, r) && io[i]->op <= VIO_IO_WRITE)
			touch(g, io[i]->iov, io[i]->n_iov, io[i]->op == VIO_IO_READ);
		done[i] = io[i];
	}
	return n;
}

static void *store_at(struct vio_backend *be, uint64_t off, uint64_t len, struct gla *logical)
{
	struct rig *g = vio_container_of(be, struct rig, be);

	(void)len;
	logical->v = g->disk_at.v + off;
	return g->disk_mem + off;
}

static void port_deliver(struct vio_port *p, struct vio_frame *const f[], unsigned n)
{
	struct rig *g = vio_container_of(p, struct rig, port);

	for (unsigned i = 0; i < n; i++) {
		uint64_t body = 0;

		for (unsigned k = 0; k < f[i]->n_body; k++)
			body += f[i]->body[k].iov_len;
		if (body != f[i]->body_len || f[i]->head_len + body != f[i]->len ||
		    f[i]->len > VIO_FRAME_MAX)
			oracle_violation(g, "a frame's length", f[i]->len, body);
		else
			touch(g, f[i]->body, f[i]->n_body, false);
		if ((f[i]->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) &&
		    f[i]->csum_start + f[i]->csum_offset + 2u > f[i]->head_len)
			oracle_violation(g, "a checksum's place", f[i]->csum_start, f[i]->head_len);
		if (f[i]->gso_type != VIRTIO_NET_HDR_GSO_NONE &&
		    (f[i]->gso_size < (f[i]->gso_type >= VIO_GSO_UDP4 ? 1u : VIO_GSO_MIN) ||
		     f[i]->l4_end > f[i]->len))
			oracle_violation(g, "a segment's size", f[i]->gso_size, f[i]->l4_end);
	}
}

void oracle_open(struct rig *g)
{
	static const struct vio_port_ops ops = {.kind = "oracle", .deliver = port_deliver};

	g->be_ops = (struct vio_backend_ops){.name = "oracle",
					     .submit = store_submit,
					     .at = g->arm.dev == RIG_MEMORY ? store_at : NULL};
	g->port = (struct vio_port){.ops = &ops, .name = "oracle"};
	vio_port_defaults(&g->port);
	g->port.up = true;
}
