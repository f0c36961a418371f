/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The data path of the block front end. Everything goes in bursts through the arm's tables:
 * payload, mapping, ring; one publish and at most one kick a call. No allocation, no system call
 * (but a sleep), no lock.
 */
#include "guest/dev/blk/blk_priv.h"

/* -------------------------------------------------------------------- one request ---- */

static bool is_rw(uint32_t type)
{
	return type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_OUT;
}

static uint32_t data_len(const struct vio_blk_req *r)
{
	return is_rw(r->type) ? r->len : r->type == VIRTIO_BLK_T_GET_ID ? VIRTIO_BLK_ID_BYTES : 0;
}

/* Descriptors of a request. */
static unsigned blk_segs(const struct vio_blk *b, const struct vio_blk_req *r)
{
	uint32_t len = data_len(r);

	if (vio_likely(len <= b->size_max))
		return 3; /* FLUSH has only two; nothing is gained by knowing */
	return 2 + (len + b->size_max - 1) / b->size_max;
}

/* [sector, +len bytes) whole blocks of the disk? Nothing here can wrap. */
static bool range_ok(const struct vio_blk_info *i, uint64_t sector, uint64_t len)
{
	return !((sector * VIO_SECTOR | len) & (i->block_size - 1)) &&
	       vio_range_ok(sector, len / VIO_SECTOR + (len % VIO_SECTOR != 0),
			    vio_load_relaxed(&i->sectors));
}

/* 0, or why it is refused here. */
static int blk_check(const struct vio_blk *b, const struct vio_blk_req *r)
{
	const struct vio_blk_info *i = &b->info;

	switch (r->type) {
	case VIRTIO_BLK_T_OUT:
		if (vio_unlikely(i->read_only))
			return -EINVAL;
		/* fall through */
	case VIRTIO_BLK_T_IN:
		return r->len > 0 && r->len <= i->max_len && range_ok(i, r->sector, r->len) &&
				       vio_range_ok(r->buf.v, r->len, b->f.mem_size)
			       ? 0
			       : -EINVAL;
	case VIRTIO_BLK_T_FLUSH:
		return i->can_flush ? 0 : -ENOTSUP;
	case VIRTIO_BLK_T_DISCARD:
		if (!i->can_discard)
			return -ENOTSUP;
		return r->len > 0 && r->len % VIO_SECTOR == 0 &&
				       r->len / VIO_SECTOR <= i->max_discard_sectors &&
				       range_ok(i, r->sector, r->len)
			       ? 0
			       : -EINVAL;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		if (!i->can_zero)
			return -ENOTSUP;
		return r->len > 0 && r->len % VIO_SECTOR == 0 &&
				       r->len / VIO_SECTOR <= i->max_zero_sectors &&
				       range_ok(i, r->sector, r->len)
			       ? 0
			       : -EINVAL;
	case VIRTIO_BLK_T_GET_ID:
		return vio_range_ok(r->buf.v, VIRTIO_BLK_ID_BYTES, b->f.mem_size) ? 0 : -EINVAL;
	default:
		return -EINVAL;
	}
}

static struct vio_dma_seg *seg(struct vio_dma_map *m, struct gla at, uint32_t len, bool dev_writes)
{
	struct vio_dma_seg *s = &m->seg[m->n_seg++];

	s->addr = at;
	s->len = len;
	s->dev_writes = dev_writes;
	return s;
}

/* Fill header and status anew; the data's place for the device (buf.dev) is known. */
static void blk_fill(struct vio_blk *b, struct blk_slot *s)
{
	const struct vio_blk_req *r = s->req;
	struct blk_wire *w = s->wire;
	struct vio_dma_map *m = &s->map;

	w->hdr.type = vio_le32(r->type);
	w->hdr.ioprio = 0;
	w->hdr.sector = is_rw(r->type) ? vio_le64(r->sector) : 0;
	vio_store_relaxed(&w->status, BLK_NO_STATUS);
	m->n_seg = 0;
	seg(m, s->wire_at, sizeof(w->hdr), false);
	if (vio_likely(s->has_data)) {
		uint32_t left = s->buf.len;
		struct gla at = s->buf.dev;

		/* A window lies in one LMB, so a segment must too: two, where a buffer crosses the border. */
		for (;;) {
			uint64_t lmb = b->f.lmb_size - (at.v & (b->f.lmb_size - 1));
			uint32_t n = lmb < b->size_max ? (uint32_t)lmb : b->size_max;

			if (vio_likely(left <= n))
				break;
			seg(m, at, n, s->buf.dev_writes);
			at = gla_add(at, n);
			left -= n;
		}
		seg(m, at, left, s->buf.dev_writes);
	} else if (r->type == VIRTIO_BLK_T_DISCARD || r->type == VIRTIO_BLK_T_WRITE_ZEROES) {
		w->range.sector = vio_le64(r->sector);
		w->range.num_sectors = vio_le32(r->len / VIO_SECTOR);
		w->range.flags = vio_le32(r->type == VIRTIO_BLK_T_WRITE_ZEROES && r->unmap
						  ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP
						  : 0);
		seg(m, gla_add(s->wire_at, offsetof(struct blk_wire, range)), sizeof(w->range),
		    false);
	}
	seg(m, gla_add(s->wire_at, offsetof(struct blk_wire, status)), 1, true);
}

static struct blk_slot *slot_take(struct blk_queue *q, struct vio_blk_req *r)
{
	struct blk_slot *s = &q->slot[q->free[--q->n_free]];

	s->req = r;
	r->slot = (uint32_t)(s - q->slot);
	s->has_data = is_rw(r->type) || r->type == VIRTIO_BLK_T_GET_ID;
	s->buf.app = r->buf;
	s->buf.len = data_len(r);
	s->buf.dev_writes = r->type != VIRTIO_BLK_T_OUT;
	return s;
}

/* ------------------------------------------------------------------------- submit ---- */

/* Slots that did not make it into the ring. Nothing is copied: the device has written nothing. */
static void undo(struct blk_queue *q, struct blk_slot *const s[], unsigned n)
{
	for (unsigned i = n; i-- > 0;) {
		struct vio_gbuf *buf = &s[i]->buf;

		if (s[i]->has_data) {
			buf->dev_writes = false;
			q->v.payload->ops->put(q->v.payload, &buf, 1);
		}
		blk_slot_free(q, s[i]);
	}
}

/* Payload buffers for n slots. How many of them may go on; -errno: the first never can. */
static int get_payload(struct blk_queue *q, struct blk_slot *const s[], unsigned n)
{
	struct vio_gbuf *buf[BLK_BURST];
	unsigned owner[BLK_BURST], k = 0;
	int got;

	for (unsigned i = 0; i < n; i++)
		if (s[i]->has_data) {
			owner[k] = i;
			buf[k++] = &s[i]->buf;
		}
	if (k == 0)
		return (int)n;
	got = q->v.payload->ops->get(q->v.payload, buf, k);
	if (vio_likely(got == (int)k))
		return (int)n;
	if (got < 0 && owner[0] > 0)
		return (int)owner[0]; /* those before it have no data */
	return got < 0 ? got : (int)owner[got];
}

/* Not one slot more than the ring has room for. */
static unsigned room_for(struct blk_queue *q, struct vio_blk_req *const r[], unsigned n)
{
	unsigned segs = 3, room;

	if (n > q->n_free)
		n = q->n_free;
	if (vio_unlikely(q->b->info.max_len > q->b->size_max))
		for (unsigned i = 0; i < n; i++) {
			unsigned k = blk_segs(q->b, r[i]);

			segs = k > segs ? k : segs;
		}
	room = vio_vring_room(q->v.vr, segs);
	return n < room ? n : room;
}

/*
 * Slots whose payload is there: map, add. How many are in the ring; -errno: the first can't be
 * mapped, ever.
 */
static int map_and_add(struct blk_queue *q, struct blk_slot *const s[], unsigned n)
{
	struct vio_dma_map *m[BLK_BURST];
	int mapped;

	for (unsigned i = 0; i < n; i++) {
		blk_fill(q->b, s[i]);
		m[i] = &s[i]->map;
	}
	mapped = q->v.dma->ops->map(q->v.dma, m, n);
	for (int i = 0; i < mapped; i++) {
		if (vio_unlikely(vio_vring_add(q->v.vr, s[i]->map.seg, s[i]->map.n_seg, s[i]) !=
				 0)) {
			q->v.dma->ops->unmap(q->v.dma, m + i, (unsigned)(mapped - i));
			return i;
		}
		s[i]->seq = q->seq++;
	}
	return mapped;
}

/*
 * A run of at most BLK_BURST good requests. How many were taken; *why: 0, or why the one after them
 * is refused.
 */
static unsigned give(struct blk_queue *q, struct vio_blk_req *const r[], unsigned n, int *why)
{
	struct blk_slot *s[BLK_BURST];
	int got, in = 0;

	*why = 0;
	n = room_for(q, r, n);
	if (n == 0)
		return 0;
	for (unsigned i = 0; i < n; i++)
		s[i] = slot_take(q, r[i]);
	got = get_payload(q, s, n);
	if (vio_unlikely(got < (int)n)) {
		unsigned keep = got > 0 ? (unsigned)got : 0;

		/* Those behind have no payload buffer: give back the slots only. */
		for (unsigned i = n; i-- > keep;)
			blk_slot_free(q, s[i]);
		n = keep;
	}
	if (got > 0)
		in = map_and_add(q, s, n);
	if (vio_unlikely(in < (int)n))
		undo(q, s + (in > 0 ? in : 0), n - (unsigned)(in > 0 ? in : 0));
	/* A buffer that this arm can't use; or the server went away while it was asked to take a window. */
	if (vio_unlikely(got < 0 || in < 0) && vio_fq_look_at_crq(&q->v))
		*why = -EINVAL;
	return in > 0 ? (unsigned)in : 0;
}

static bool blk_refuse(struct blk_queue *q, struct vio_blk_req *r, int why)
{
	if (q->n_ret >= q->b->info.depth)
		return false;
	blk_ret_push(q, r, why);
	return true;
}

static unsigned blk_submit(struct blk_queue *q, struct vio_blk_req *const r[], unsigned n)
{
	struct vio_blk *b = q->b;
	unsigned done = 0, added = 0;

	while (done < n) {
		unsigned run = 0, took = 0;
		int why = 0;

		while (run < BLK_BURST && done + run < n &&
		       vio_likely((why = blk_check(b, r[done + run])) == 0))
			run++;
		if (vio_likely(run > 0)) {
			took = give(q, r + done, run, &why);
			done += took;
			added += took;
			if (vio_likely(why == 0 && took == run))
				continue;
			if (why == 0)
				break; /* full */
		}
		if (!blk_refuse(q, r[done], why))
			break;
		done++;
	}
	if (added) {
		q->v.idle_tick = 0;
		vio_fq_publish(&q->v);
	}
	return done;
}

unsigned vio_blk_submit(struct vio_blk *b, unsigned qi, struct vio_blk_req *const r[], unsigned n)
{
	struct blk_queue *q = &b->q[qi];
	unsigned done = 0;

	if (vio_unlikely(!vio_gate_enter(&b->f.gate, &q->v.pass)))
		return 0;
	/* After a restart what was outstanding goes first: poll sends it. */
	if (vio_likely(q->v.epoch == b->f.epoch && q->redo_next == q->n_redo))
		done = blk_submit(q, r, n);
	vio_gate_leave(&q->v.pass);
	return done;
}

/* --------------------------------------------------------------------------- poll ---- */

static int result_of(uint8_t status)
{
	if (vio_likely(status == VIRTIO_BLK_S_OK))
		return 0;
	return status == VIRTIO_BLK_S_UNSUPP ? -ENOTSUP
					     : -EIO; /* BLK_NO_STATUS too: the device wrote none */
}

/*
 * Completed slots: unmap, copy back, free. n <= BLK_BURST. How many: what can't be unmapped stays
 * outstanding, and is sent again in another session.
 */
static unsigned blk_finish(struct blk_queue *q, const struct vio_used *used, unsigned n,
			   struct vio_blk_req *done[])
{
	struct vio_dma_map *m[BLK_BURST];
	struct vio_gbuf *buf[BLK_BURST];
	unsigned k = 0;

	/* The status lines are in the server's cache: fetch them all before waiting for the first. */
	for (unsigned i = 0; i < n; i++)
		__builtin_prefetch(((struct blk_slot *)used[i].token)->wire);
	/* Unmapped before it is looked at: what the device can still reach is not settled. */
	for (unsigned i = 0; i < n; i++)
		m[i] = &((struct blk_slot *)used[i].token)->map;
	n = vio_fq_unmap(&q->v, m, n);
	for (unsigned i = 0; i < n; i++) {
		struct blk_slot *s = used[i].token;

		s->req->result = result_of(vio_load_relaxed(&s->wire->status));
		done[i] = s->req;
		if (vio_likely(s->has_data)) {
			if (vio_unlikely(s->req->result != 0))
				s->buf.dev_writes = false; /* nothing that is worth copying */
			buf[k++] = &s->buf;
		}
	}
	if (k)
		q->v.payload->ops->put(q->v.payload, buf, k);
	for (unsigned i = 0; i < n; i++)
		blk_slot_free(q, used[i].token);
	return n;
}

/* From the used ring, at most max; -EPROTO: the server returned nonsense. */
static int blk_take(struct vio_fq *v, void *out, unsigned max)
{
	struct blk_queue *q = vio_container_of(v, struct blk_queue, v);
	struct vio_blk_req **done = out;
	struct vio_used used[BLK_BURST];
	unsigned total = 0;

	/*
	 * One request at a time: which slot it is is known before the used element has said so (the
	 * one that was taken last), and its status line comes over together with the element's
	 * instead of after it. Only a guess.
	 */
	if (q->n_free + 1u == q->b->info.depth && vio_vring_has_used(q->v.vr))
		__builtin_prefetch(q->slot[q->free[q->n_free]].wire);
	while (total < max) {
		unsigned want = max - total < BLK_BURST ? max - total : BLK_BURST;
		int n = vio_vring_take(q->v.vr, used, want);

		if (vio_unlikely(n < 0))
			return total ? (int)total : n; /* it says so again next time */
		if (n == 0)
			break;
		n = (int)blk_finish(q, used, (unsigned)n, done + total);
		total += (unsigned)n;
		if ((unsigned)n < want)
			break;
	}
	if (total)
		vio_fq_worked(&q->v, total);
	return (int)total;
}

/* Send again as many as fit of what was outstanding when the device was reset. */
static void blk_redo(struct blk_queue *q)
{
	unsigned sent = 0;

	while (q->redo_next < q->n_redo) {
		struct blk_slot *s = &q->slot[q->redo[q->redo_next]];
		struct vio_dma_map *m = &s->map;
		int rc;

		if (vio_vring_room(q->v.vr, blk_segs(q->b, s->req)) == 0)
			break;
		blk_fill(q->b, s);
		rc = q->v.dma->ops->map(q->v.dma, &m, 1);
		if (rc == 1 && vio_vring_add(q->v.vr, m->seg, m->n_seg, s) == 0) {
			sent++; /* its seq stays: should the server go again, the order is still the first one */
		} else {
			if (rc == 1)
				q->v.dma->ops->unmap(q->v.dma, &m, 1);
			m->n_seg = 0;
			if (rc >= 0 || !vio_fq_look_at_crq(&q->v))
				break; /* no room now, or no server: at a later poll */
			blk_release(q, s, -EIO);
		}
		q->redo_next++;
	}
	if (sent)
		vio_fq_publish(&q->v);
}

static unsigned returned(struct blk_queue *q, struct vio_blk_req *done[], unsigned max)
{
	unsigned n = 0;

	while (n < max && q->n_ret > 0) {
		done[n++] = q->ret[q->ret_head];
		q->ret_head = (q->ret_head + 1) % (2 * q->b->info.depth);
		q->n_ret--;
	}
	return n;
}

/* The device is gone for good. The gate stays closed, so nobody else touches the queue. */
static int poll_dead(struct blk_queue *q, struct vio_blk_req *done[], unsigned max)
{
	unsigned n;

	blk_give_up(q);
	n = returned(q, done, max);
	return n ? (int)n : -EIO;
}

int vio_blk_poll(struct vio_blk *b, unsigned qi, struct vio_blk_req *done[], unsigned max)
{
	struct blk_queue *q = &b->q[qi];
	bool ok = true;
	int n = 0;

	if (vio_unlikely(!vio_gate_enter(&b->f.gate, &q->v.pass))) {
		vio_front_recover(&b->f, &q->v);
		return vio_load_acquire(&b->f.dead) ? poll_dead(q, done, max) : 0;
	}
	if (vio_unlikely(q->v.epoch != b->f.epoch))
		blk_revive(q);
	if (vio_unlikely(q->redo_next < q->n_redo))
		blk_redo(q);
	if (vio_unlikely(q->v.kick_due))
		vio_fq_kick(&q->v);
	if (vio_unlikely(q->n_ret > 0))
		n = (int)returned(q, done, max);
	else
		n = vio_fq_poll(&q->v, blk_take, done, max, &ok);
	vio_counter_add(n > 0 ? &q->v.cnt->polls_busy : &q->v.cnt->polls_empty, 1);
	vio_gate_leave(&q->v.pass);
	if (vio_unlikely(n < 0 || q->v.stuck)) {
		vio_fq_broken(&q->v);
		ok = false;
		n = n < 0 ? 0 : n;
	}
	if (vio_unlikely(!ok)) {
		vio_front_recover(&b->f, &q->v);
		if (n == 0 && vio_load_acquire(&b->f.dead))
			return poll_dead(q, done, max);
	}
	return n;
}

void vio_blk_idle(struct vio_blk *b, unsigned qi, uint64_t timeout_ns)
{
	struct blk_queue *q = &b->q[qi];
	struct vio_fq *const v = &q->v;

	vio_fq_idle(&v, 1, q->n_ret > 0 || q->redo_next < q->n_redo, timeout_ns);
}

void vio_blk_prod(struct vio_blk *b, unsigned qi)
{
	vio_fq_prod(&b->q[qi].v);
}

bool vio_blk_away(const struct vio_blk *b)
{
	return vio_load_relaxed(&b->f.gate.closed);
}

unsigned vio_blk_outstanding(const struct vio_blk *b, unsigned qi)
{
	return b->info.depth - b->q[qi].n_free + b->q[qi].n_ret;
}
