/* SPDX-License-Identifier: BSD-3-Clause */
/* virtio-blk (VIRTIO 1.2, section 5.2): requests on their way to the disk and back. */
#include <endian.h>
#include <string.h>

#include "server/dev/blk/blk_priv.h"
#include "server/payload/payload.h"

/* ----------------------------------------------------------------------- the answer ---- */

static void count(struct vio_squeue *q, const struct vio_req *r)
{
	struct vio_sq_stats *s = &q->stats;

	if (r->kind == VIO_BLK_FLUSH) {
		vio_counter_add(&s->flushes, 1);
	} else if (r->kind != VIO_BLK_RW) {
		vio_counter_add(&s->others, 1);
	} else if (r->io.op == VIO_IO_READ) {
		vio_counter_add(&s->reads, 1);
		vio_counter_add(&s->bytes_read, r->data_len);
	} else {
		vio_counter_add(&s->writes, 1);
		vio_counter_add(&s->bytes_written, r->data_len);
	}
}

/*
 * The used length counts from the first byte that the device may write, without a gap (2.7.8.2): the
 * status is in it only when everything before it has been written.
 */
static uint32_t used_len(const struct vio_req *r)
{
	const bool more = r->n_seg != r->n_readable; /* than the status, which was cut off */

	if (vio_unlikely(r->io.result != 0 || r->n_seg > VIO_MAX_SEGS))
		return !more;
	if (vio_unlikely(r->kind == VIO_BLK_GET_ID))
		return r->data_len + (r->io.length == r->data_len);
	return r->io.op == VIO_IO_READ ? r->data_len + 1 : !more;
}

/* What the guest will see. */
static void finish(struct vio_squeue *q, struct vio_req *r)
{
	r->state = VIO_REQ_DONE;
	r->used_len = used_len(r);
	if (vio_unlikely(r->io.result != 0)) {
		r->dev_status =
			r->io.result == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
		r->to_guest = false;
		vio_counter_add(&q->stats.errors, 1);
		return;
	}
	r->dev_status = VIRTIO_BLK_S_OK;
	count(q, r);
}

/* Is the queue ending? Then nobody waits for the answer, and what is not yet begun is left. */
static inline bool ending(const struct vio_squeue *q)
{
	return q->fault != VIO_ST_OK || vio_load_relaxed(&q->ctl) == VIO_SQ_STOP;
}

/* The disk has answered. True: the request has another part to do, and r says which. */
static inline bool more_to_do(const struct vio_squeue *q, const struct vio_backend *be,
			      struct vio_req *r)
{
	/* Once for the request's answer: a driver may write the field meanwhile. */
	const bool through = vio_load_relaxed(&be->write_through);

	if (vio_likely(r->kind != VIO_BLK_RANGES && !through))
		return false;
	if (r->io.result != 0 || ending(q))
		return false;
	if (r->kind == VIO_BLK_RANGES && r->io.op != VIO_IO_FLUSH) {
		while (++r->range < r->n_ranges) {
			vio_blk_load_range(r);
			if (r->io.length > 0)
				return true;
		}
	}
	/* Also after a range: what was zeroed must be zeroes after a loss of power. */
	if (!through || r->io.op == VIO_IO_READ || r->io.op == VIO_IO_FLUSH)
		return false;
	r->io.op = VIO_IO_FLUSH;
	return true;
}

static inline struct vio_req *req_of(struct vio_io *io)
{
	return vio_container_of(io, struct vio_req, io);
}

/* Will its bytes be copied to the guest at its end? They count then; others' count when they begin. */
static inline bool copied_out(const struct vio_req *r)
{
	return r->bounce && r->to_guest;
}

/* The requests of from[] that are finished to done[], their number; the others to more[]. */
static inline unsigned sort_answers(struct vio_squeue *q, struct vio_io *const from[], unsigned n,
				    struct vio_req *done[], struct vio_io *more[], unsigned *n_more)
{
	struct vio_backend *be = vio_disk_queue_of(q)->be;
	unsigned n_done = 0;

	*n_more = 0;
	for (unsigned i = 0; i < n; i++) {
		struct vio_req *r = req_of(from[i]);

		if (copied_out(r)) {
			vio_disk_queue_of(q)->out -= r->data_len;
			q->budget -= r->data_len;
		}
		if (vio_unlikely(more_to_do(q, be, r))) {
			more[(*n_more)++] = &r->io;
			continue;
		}
		if (vio_unlikely(r->io.result != 0)) {
			if (!ending(q) && vio_blk_hold(q, r))
				continue;
			vio_backend_failed(be, &r->io);
		}
		finish(q, r);
		done[n_done++] = r;
	}
	return n_done;
}

/*
 * What the disk has answered: the requests that are finished to done[], their number; the others go
 * to the disk again. n <= VIO_BURST.
 */
static inline unsigned answered(struct vio_squeue *q, struct vio_io *const io[], unsigned n,
				struct vio_req *done[])
{
	struct vio_backend *be = vio_disk_queue_of(q)->be;
	struct vio_io *more[VIO_BURST], *back[VIO_BURST];
	unsigned n_more, n_done = sort_answers(q, io, n, done, more, &n_more);

	/* Bounded: each turn does a range or a flush of each. */
	while (vio_unlikely(n_more > 0)) {
		n = be->ops->submit(vio_disk_queue_of(q)->bq, more, n_more, back);
		n_done += sort_answers(q, back, n, done + n_done, more, &n_more);
	}
	return n_done;
}

/* --------------------------------------------------------------------- the way there ---- */

/* A disk in server memory: its bytes are moved or zeroed here, as far as the queue's share of a turn goes. */
static inline bool by_hand(const struct vio_backend *be, const struct vio_req *r)
{
	return be->ops->at &&
	       ((r->kind == VIO_BLK_RW && r->io.op <= VIO_IO_WRITE) || r->kind == VIO_BLK_RANGES);
}

/* One copy between the disk and the guest of all of r->data[]. */
static inline void move(struct vio_squeue *q, struct vio_req *r, struct vio_backend *be)
{
	struct gla logical = {0};
	void *disk = be->ops->at(be, r->io.offset, r->data_len, &logical);

	if (vio_likely(disk != NULL))
		q->payload->move(q, r, disk, ioba_add(q->local_base, logical.v));
	else
		r->io.result = -EIO;
}

/* The first `some` bytes of what is left of it. */
static void move_some(struct vio_squeue *q, struct vio_req *r, struct vio_backend *be,
		      uint32_t some)
{
	const uint32_t whole = r->data_len;
	const uint8_t segs = r->n_data;
	uint32_t cut = some, rest = 0;
	uint8_t n = 0;

	while (n < segs && r->data[n].len <= cut)
		cut -= r->data[n++].len;
	if (cut > 0) {
		rest = r->data[n].len - cut;
		r->data[n].len = cut;
	}
	r->n_data = (uint8_t)(n + (cut > 0));
	r->data_len = some;
	move(q, r, be);
	r->data_len = whole;
	r->data += n;
	r->n_data = (uint8_t)(segs - n);
	if (cut > 0) {
		r->data->at = ioba_add(r->data->at, cut);
		r->data->len = rest;
	}
}

static void zero_some(struct vio_squeue *q, struct vio_req *r, struct vio_backend *be,
		      uint64_t some)
{
	const uint64_t left = r->io.length;
	struct vio_io *io = &r->io, *back[1];

	io->length = some;
	be->ops->submit(vio_disk_queue_of(q)->bq, &io, 1, back);
	if (vio_unlikely(io->result != 0))
		vio_backend_failed(be, io);
	io->length = left;
}

/* Ranges, and requests of more than is left of the share. There is some. True: it is finished. */
static bool do_some(struct vio_squeue *q, struct vio_req *r, struct vio_backend *be)
{
	const uint64_t some =
		r->io.length < (uint64_t)q->budget ? r->io.length : (uint64_t)q->budget;

	q->budget -= (int64_t)some;
	if (r->kind == VIO_BLK_RANGES)
		zero_some(q, r, be, some);
	else
		move_some(q, r, be, (uint32_t)some);
	r->io.offset += some;
	r->io.length -= some;
	if (r->io.length > 0 && r->io.result == 0 && r->fault == VIO_ST_OK)
		return false;
	q->budget -= VIO_SQ_REQUEST;
	finish(q, r);
	return true;
}

/* As much of it as the share has room for. True: it is finished. */
static inline bool do_by_hand(struct vio_squeue *q, struct vio_req *r, struct vio_backend *be)
{
	if (vio_unlikely((int64_t)r->io.length > q->budget || r->kind != VIO_BLK_RW ||
			 r->io.length != r->data_len))
		return do_some(q, r, be);
	vio_sq_spend(q, r->data_len);
	move(q, r, be);
	finish(q, r);
	return true;
}

static void fill_id(struct vio_req *r, const struct vio_backend *be)
{
	uint32_t off = 0;

	static_assert(sizeof(be->id) == VIRTIO_BLK_ID_BYTES, "the id is the wire's");
	for (unsigned i = 0; i < r->n_iov; i++) {
		memcpy(r->iov[i].iov_base, be->id + off, r->iov[i].iov_len);
		off += (uint32_t)r->iov[i].iov_len;
	}
}

/* While the disk was stopped the guest took a window back that the request needs: that is no fault of its driver. */
static void lost_window(struct vio_squeue *q, struct vio_req *r)
{
	r->fault = VIO_ST_OK;
	r->io.result = -EIO;
	finish(q, r);
}

/* Parsed requests: make their data addressable, give them to the backend. n <= VIO_BURST. */
static unsigned issue(struct vio_squeue *q, struct vio_req *const r[], unsigned n,
		      struct vio_req *done[], bool again)
{
	struct vio_backend *be = vio_disk_queue_of(q)->be;
	struct vio_io *go[VIO_BURST], *fin[VIO_BURST];
	struct vio_req *wait[VIO_BURST];
	unsigned n_go = 0, n_wait = 0, n_done = 0;
	const uint8_t epoch = vio_blk_epoch(q);

	q->payload->get(q, r, n);
	for (unsigned i = 0; i < n; i++) {
		if (vio_unlikely(r[i]->fault != VIO_ST_OK)) {
			if (r[i]->state == VIO_REQ_HELD)
				lost_window(q, r[i]);
			done[n_done++] = r[i];
		} else if (vio_unlikely(r[i]->waits)) {
			wait[n_wait++] = r[i];
		} else if (vio_unlikely(r[i]->kind == VIO_BLK_GET_ID)) {
			fill_id(r[i], be);
			finish(q, r[i]);
			done[n_done++] = r[i];
		} else {
			r[i]->state = VIO_REQ_SUBMITTED;
			r[i]->epoch = epoch;
			r[i]->io.iov = r[i]->iov;
			r[i]->io.n_iov = r[i]->n_iov;
			if (copied_out(r[i]))
				vio_disk_queue_of(q)->out += r[i]->data_len;
			vio_sq_spend(q, copied_out(r[i]) ? 0 : r[i]->data_len);
			go[n_go++] = &r[i]->io;
		}
	}
	if (vio_unlikely(n_wait > 0))
		vio_sq_wait(q, wait, n_wait, again);
	if (n_go == 0)
		return n_done;
	n = be->ops->submit(vio_disk_queue_of(q)->bq, go, n_go, fin);
	return n_done + answered(q, fin, n, done + n_done);
}

static unsigned submit(struct vio_squeue *q, struct vio_req *const r[], unsigned n,
		       struct vio_req *done[])
{
	struct vio_backend *be = vio_disk_queue_of(q)->be;
	struct vio_req *go[VIO_BURST], *late[VIO_BURST];
	bool wait = q->wait_head != NULL; /* nothing passes those that wait */
	unsigned n_go = 0, n_late = 0, n_done = 0;
	int64_t ahead = 0; /* of the share: for go[] */

	for (unsigned i = 0; i < n; i++) {
		if (vio_unlikely(r[i]->fault != VIO_ST_OK)) {
			done[n_done++] = r[i];
			continue;
		}
		if (vio_unlikely(!vio_blk_parse(q, r[i], be))) {
			vio_sq_spend(q, 0);
			if (r[i]->fault == VIO_ST_OK)
				finish(q, r[i]);
			done[n_done++] = r[i];
			continue;
		}
		wait |= q->budget <= ahead;
		if (vio_unlikely(wait)) {
			late[n_late++] = r[i];
		} else if (!by_hand(be, r[i])) {
			ahead += r[i]->data_len + VIO_SQ_REQUEST;
			go[n_go++] = r[i];
		} else if (vio_likely(do_by_hand(q, r[i], be))) {
			done[n_done++] = r[i];
		} else {
			late[n_late++] = r[i];
			wait = true;
		}
	}
	if (n_go > 0 && vio_likely(!vio_blk_wait(q, go, n_go)))
		n_done += issue(q, go, n_go, done + n_done, false);
	if (vio_unlikely(n_late > 0) && !vio_blk_wait(q, late, n_late))
		vio_sq_wait(q, late, n_late, false);
	return n_done;
}

/* Those that waited and may be begun, as far as the share and done[0..room) go. */
static unsigned begin_waiting(struct vio_squeue *q, struct vio_req *done[], unsigned room)
{
	struct vio_disk_queue *dq = vio_disk_queue_of(q);
	struct vio_req *again[VIO_BURST];
	unsigned k = 0, n = 0;
	int64_t ahead = 0;

	while (q->wait_head && n + k < room && k < VIO_BURST && q->budget > ahead) {
		struct vio_req *r = q->wait_head;
		const bool here = by_hand(dq->be, r);

		if (here && !do_by_hand(q, r, dq->be))
			break;
		vio_sq_unwait(q);
		/* Held without a stop: the next one that fails does not go behind it. */
		if (r == dq->last_held)
			dq->last_held = NULL;
		if (here) {
			done[n++] = r;
			continue;
		}
		ahead += r->data_len + VIO_SQ_REQUEST;
		again[k++] = r;
	}
	return k ? n + issue(q, again, k, done + n, true) : n;
}

/* What the store has finished: one by one where all that it has would be more than the share. */
static unsigned take_done(struct vio_squeue *q, struct vio_req *done[], unsigned max)
{
	struct vio_disk_queue *dq = vio_disk_queue_of(q);
	struct vio_io *fin[VIO_BURST];
	unsigned n = 0, got = 1;

	if (vio_likely((int64_t)dq->out <= q->budget || dq->out == 0 || ending(q)))
		return answered(q, fin, dq->be->ops->poll(dq->bq, fin, max), done);
	while (got > 0 && n < max && q->budget > 0) {
		got = dq->be->ops->poll(dq->bq, fin, 1);
		n += answered(q, fin, got, done + n);
	}
	return n;
}

static unsigned complete(struct vio_squeue *q, struct vio_req *done[], unsigned max)
{
	const struct vio_backend_ops *ops = vio_disk_queue_of(q)->be->ops;
	unsigned n = 0;

	if (vio_unlikely(ops->give_up && ending(q)))
		ops->give_up(vio_disk_queue_of(q)->bq);
	/* With all of them parked the store has none, and the adapter may be telling it of windows. */
	if (ops->poll && vio_likely(q->in_flight != q->parked))
		n = take_done(q, done, max < VIO_BURST ? max : VIO_BURST);
	if (vio_likely(!q->wait_head) || !vio_blk_may_begin(q))
		return n;
	return n + begin_waiting(q, done + n, max - n);
}

const struct vio_dev_ops vio_disk_queue_ops = {
	.name = "disk",
	.hdr_len = sizeof(struct virtio_blk_outhdr),
	.has_status = true,
	.submit = submit,
	.complete = complete,
};
