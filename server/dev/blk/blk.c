/* SPDX-License-Identifier: BSD-3-Clause */
/* virtio-blk (VIRTIO 1.2, section 5.2): what the device offers, and its requests on their way to the disk and back. */
#include <endian.h>
#include <string.h>

#include "server/dev/blk/blk_priv.h"
#include "server/payload/payload.h"

#define BLK_SIZE_MAX (64u << 10)
#define SECTOR       VIO_BLK_SECTOR

/* ------------------------------------------------------------------ what it offers ---- */

static struct vio_backend *store_of(const struct vio_device *dev)
{
	return vio_container_of(dev, struct vio_disk, dev)->be;
}

uint64_t vio_blk_features(const struct vio_device *dev)
{
	const struct vio_backend *be = store_of(dev);
	uint64_t f = 1ull << VIRTIO_BLK_F_SIZE_MAX | 1ull << VIRTIO_BLK_F_SEG_MAX |
		     1ull << VIRTIO_BLK_F_BLK_SIZE | 1ull << VIRTIO_BLK_F_TOPOLOGY |
		     1ull << VIRTIO_BLK_F_MQ;

	if (be->read_only)
		f |= 1ull << VIRTIO_BLK_F_RO;
	if (be->can_flush)
		f |= 1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_CONFIG_WCE;
	if (be->can_discard && !be->read_only)
		f |= 1ull << VIRTIO_BLK_F_DISCARD;
	if (be->can_zero && !be->read_only)
		f |= 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
	return f;
}

/* Bytes that the disk writes or forgets in one piece. Blocks below a sector (vio_spec_short()) have none. */
static uint32_t physical_block(const struct vio_backend *be)
{
	uint32_t least = be->block_size > SECTOR ? be->block_size : SECTOR;

	return be->physical > least ? be->physical : least;
}

uint16_t vio_blk_config(const struct vio_device *dev, uint16_t num_queues, uint8_t *out)
{
	const struct vio_backend *be = store_of(dev);
	struct virtio_blk_config c;
	const uint16_t len = offsetof(struct virtio_blk_config, max_secure_erase_sectors);
	const uint32_t blocks = physical_block(be) / be->block_size;

	memset(&c, 0, sizeof(c));
	c.capacity = vio_le64(vio_load_relaxed(&be->size) / SECTOR);
	/*
	 * Their product is what one request may carry, so that a driver that keeps to both never
	 * makes a larger one. Segments of 64 KiB, because a kernel with pages of that size makes none smaller,
	 * whatever size_max says.
	 */
	c.size_max = vio_le32(BLK_SIZE_MAX);
	c.seg_max = vio_le32(VIO_MAX_DATA / BLK_SIZE_MAX);
	c.blk_size = vio_le32(be->block_size);
	c.physical_block_exp = (uint8_t)(31 - __builtin_clz(blocks));
	c.min_io_size = vio_le16((uint16_t)blocks);
	c.wce = be->can_flush && !vio_load_relaxed(&be->write_through);
	c.num_queues = vio_le16(num_queues);
	if (be->can_discard && !be->read_only) {
		c.max_discard_sectors = vio_le32(vio_blk_max_range(be));
		c.max_discard_seg = vio_le32(vio_blk_max_ranges(be));
		c.discard_sector_alignment = vio_le32(physical_block(be) / SECTOR);
	}
	if (be->can_zero && !be->read_only) {
		c.max_write_zeroes_sectors = vio_le32(vio_blk_max_range(be));
		c.max_write_zeroes_seg = vio_le32(vio_blk_max_ranges(be));
		c.write_zeroes_may_unmap = be->can_unmap;
	}
	static_assert(sizeof(c) <= VIO_MAX_CONFIG, "config space fits");
	memcpy(out, &c, len);
	return len;
}

/* 5.2.6.2: who can't flush must find every write that was answered after a loss of power. */
void vio_blk_negotiated(struct vio_device *dev, uint64_t features)
{
	struct vio_backend *be = store_of(dev);

	vio_store_relaxed(&be->write_through,
			  be->can_flush &&
				  (be->cache_off || !(features & 1ull << VIRTIO_BLK_F_FLUSH)));
}

bool vio_blk_config_set(struct vio_device *dev, uint64_t features, uint16_t off, uint8_t len,
			uint64_t value)
{
	struct vio_backend *be = store_of(dev);

	if (!(features & 1ull << VIRTIO_BLK_F_CONFIG_WCE) ||
	    off != offsetof(struct virtio_blk_config, wce) || len != 1 || value > 1)
		return false;
	if (value == 1 && !(features & 1ull << VIRTIO_BLK_F_FLUSH))
		return false; /* nothing that it wrote could ever be made durable */
	vio_store_relaxed(&be->write_through, value == 0);
	return true;
}

uint8_t vio_blk_start(struct vio_device *dev, uint64_t features, uint64_t queues)
{
	/* 5.2.2: without MQ there is one queue. */
	if (!(features & 1ull << VIRTIO_BLK_F_MQ) && queues != 1)
		return VIO_ST_QUEUE;
	/* With CONFIG_WCE the driver may have said more since FEATURES_OK. */
	if (!(features & 1ull << VIRTIO_BLK_F_CONFIG_WCE))
		vio_blk_negotiated(dev, features);
	return VIO_ST_OK;
}

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

/* The requests of from[] that are finished to done[], their number; the others to more[]. */
static inline unsigned sort_answers(struct vio_squeue *q, struct vio_io *const from[], unsigned n,
				    struct vio_req *done[], struct vio_io *more[], unsigned *n_more)
{
	struct vio_backend *be = vio_disk_queue_of(q)->be;
	unsigned n_done = 0;

	*n_more = 0;
	for (unsigned i = 0; i < n; i++) {
		struct vio_req *r = req_of(from[i]);

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

/* The disk is server memory: one copy between it and the guest, done at once. */
static void move(struct vio_squeue *q, struct vio_req *r, struct vio_backend *be)
{
	struct gla logical = {0};
	void *disk = be->ops->at(be, r->io.offset, r->io.length, &logical);

	if (vio_likely(disk != NULL))
		q->payload->move(q, r, disk, ioba_add(q->local_base, logical.v));
	else
		r->io.result = -EIO;
	finish(q, r);
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
	struct vio_req *go[VIO_BURST];
	unsigned n_go = 0, n_done = 0;

	for (unsigned i = 0; i < n; i++) {
		if (vio_unlikely(r[i]->fault != VIO_ST_OK)) {
			done[n_done++] = r[i];
		} else if (vio_unlikely(!vio_blk_parse(q, r[i], be))) {
			if (r[i]->fault == VIO_ST_OK)
				finish(q, r[i]);
			done[n_done++] = r[i];
		} else if (be->ops->at && r[i]->io.op <= VIO_IO_WRITE && r[i]->kind == VIO_BLK_RW) {
			move(q, r[i], be);
			done[n_done++] = r[i];
		} else {
			go[n_go++] = r[i];
		}
	}
	if (n_go == 0)
		return n_done;
	if (vio_unlikely(vio_blk_wait(q, go, n_go)))
		return n_done;
	return n_done + issue(q, go, n_go, done + n_done, false);
}

static unsigned complete(struct vio_squeue *q, struct vio_req *done[], unsigned max)
{
	const struct vio_backend_ops *ops = vio_disk_queue_of(q)->be->ops;
	struct vio_io *fin[VIO_BURST];
	struct vio_req *again[VIO_BURST];
	unsigned n = 0;
	unsigned k = 0;

	if (vio_unlikely(ops->give_up && ending(q)))
		ops->give_up(vio_disk_queue_of(q)->bq);
	/* With all of them parked the store has none, and the adapter may be telling it of windows. */
	if (ops->poll && vio_likely(q->in_flight != q->parked))
		n = ops->poll(vio_disk_queue_of(q)->bq, fin, max < VIO_BURST ? max : VIO_BURST);
	n = answered(q, fin, n, done);
	if (vio_likely(!q->wait_head) || !vio_blk_may_begin(q))
		return n;
	while (q->wait_head && k < VIO_BURST && n + k < max) {
		again[k] = vio_sq_unwait(q);
		/* Held without a stop: the next one that fails does not go behind it. */
		if (again[k] == vio_disk_queue_of(q)->last_held)
			vio_disk_queue_of(q)->last_held = NULL;
		k++;
	}
	return k ? n + issue(q, again, k, done + n, true) : n;
}

const struct vio_dev_ops vio_disk_queue_ops = {
	.name = "disk",
	.hdr_len = sizeof(struct virtio_blk_outhdr),
	.has_status = true,
	.submit = submit,
	.complete = complete,
};
