/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-blk (VIRTIO 1.2, section 5.2). A request is header, data, status byte, in any framing
 * (2.7.4.1): the header may be split or share a descriptor with data, and so may the status byte.
 * Cutting both off the private segment list leaves the data in place.
 */
#include <endian.h>
#include <linux/virtio_ids.h>
#include <string.h>

#include "server/device.h"
#include "server/payload/payload.h"

#define SECTOR 512u

/* vio_req.kind */
enum { KIND_DISK, KIND_GET_ID };

static uint64_t features(const struct vio_backend *be)
{
	uint64_t f = 1ull << VIRTIO_BLK_F_SIZE_MAX | 1ull << VIRTIO_BLK_F_SEG_MAX |
		     1ull << VIRTIO_BLK_F_BLK_SIZE | 1ull << VIRTIO_BLK_F_MQ;

	if (be->read_only)
		f |= 1ull << VIRTIO_BLK_F_RO;
	if (be->can_flush)
		f |= 1ull << VIRTIO_BLK_F_FLUSH;
	if (be->can_discard && !be->read_only)
		f |= 1ull << VIRTIO_BLK_F_DISCARD;
	if (be->can_zero && !be->read_only)
		f |= 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
	return f;
}

/* Most sectors in one discard or write-zeroes range: what a 32-bit count of whole blocks holds. */
/*
 * Sectors in one DISCARD or WRITE_ZEROES: a backend may do it inline, and the other guests of the
 * lcore wait.
 */
#define MAX_RANGE_SECTORS ((4u << 20) / SECTOR)

/* Blocks below a sector (vio_spec_short()) change the length of reads and writes only. */
static uint32_t sectors_a_block(const struct vio_backend *be)
{
	return be->block_size > SECTOR ? be->block_size / SECTOR : 1;
}

static uint32_t max_range(const struct vio_backend *be)
{
	uint64_t sectors = be->size / SECTOR;
	uint32_t block = sectors_a_block(be);

	return sectors < MAX_RANGE_SECTORS ? (uint32_t)sectors : MAX_RANGE_SECTORS / block * block;
}

static uint16_t config(const struct vio_backend *be, uint16_t num_queues, uint8_t *out)
{
	struct virtio_blk_config c;
	const uint16_t len = offsetof(struct virtio_blk_config, max_secure_erase_sectors);

	memset(&c, 0, sizeof(c));
	c.capacity = vio_le64(be->size / SECTOR);
	/*
	 * Their product is what one request may carry, so that a driver that keeps to both never
	 * makes a larger one.
	 */
	c.size_max = vio_le32(VIO_MAX_DATA / VIO_SEG_MAX);
	c.seg_max = vio_le32(VIO_SEG_MAX);
	c.blk_size = vio_le32(be->block_size);
	c.min_io_size = vio_le16(1);
	c.num_queues = vio_le16(num_queues);
	if (be->can_discard && !be->read_only) {
		c.max_discard_sectors = vio_le32(max_range(be));
		c.max_discard_seg = vio_le32(1);
		c.discard_sector_alignment = vio_le32(sectors_a_block(be));
	}
	if (be->can_zero && !be->read_only) {
		c.max_write_zeroes_sectors = vio_le32(max_range(be));
		c.max_write_zeroes_seg = vio_le32(1);
		c.write_zeroes_may_unmap = be->can_discard;
	}
	static_assert(sizeof(c) <= VIO_MAX_CONFIG, "config space fits");
	memcpy(out, &c, len);
	return len;
}

/* The disk has answered: what the guest will see. */
static void finish(struct vio_squeue *q, struct vio_req *r)
{
	struct vio_sq_stats *s = &q->stats;

	r->state = VIO_REQ_DONE;
	r->used_len = 1;
	if (vio_unlikely(r->result != 0)) {
		r->dev_status = r->result == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
		vio_counter_add(&s->errors, 1);
		return;
	}
	r->dev_status = VIRTIO_BLK_S_OK;
	if (r->kind == KIND_GET_ID) {
		r->used_len += r->data_len;
		vio_counter_add(&s->others, 1);
	} else if (r->io == VIO_IO_READ) {
		r->used_len += r->data_len;
		vio_counter_add(&s->reads, 1);
		vio_counter_add(&s->bytes_read, r->data_len);
	} else if (r->io == VIO_IO_WRITE) {
		vio_counter_add(&s->writes, 1);
		vio_counter_add(&s->bytes_written, r->data_len);
	} else if (r->io == VIO_IO_FLUSH) {
		vio_counter_add(&s->flushes, 1);
	} else {
		vio_counter_add(&s->others, 1);
	}
}

/* Finished without the backend: false, so that callers can return it. */
static bool refuse(struct vio_squeue *q, struct vio_req *r, int result)
{
	r->n_data = 0;
	r->data_len = 0;
	r->result = result;
	finish(q, r);
	return false;
}

/* Bytes in data[]; more than fits 32 bits stays more than VIO_MAX_DATA. */
static uint64_t sum_data(const struct vio_req *r)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < r->n_data; i++)
		sum += r->data[i].len;
	return sum;
}

/*
 * Cut the header (its bytes were there: payload->fetch) off the front and the status byte off the
 * end of seg[]. *first: the first segment with data that the device reads.
 */
static bool cut_frame(struct vio_req *r, unsigned *first)
{
	uint32_t skip = sizeof(r->hdr);
	struct vio_seg *last;

	if (vio_unlikely(r->n_seg == r->n_readable)) {
		r->fault = VIO_ST_REQUEST; /* nowhere to put the status */
		return false;
	}
	*first = 0;
	while (*first < r->n_readable && r->seg[*first].len <= skip)
		skip -= r->seg[(*first)++].len;
	if (*first < r->n_readable && skip > 0) {
		r->seg[*first].at = ioba_add(r->seg[*first].at, skip);
		r->seg[*first].len -= skip;
	}
	last = &r->seg[r->n_seg - 1];
	last->len--;
	r->status_at = ioba_add(last->at, last->len);
	if (last->len == 0)
		r->n_seg--;
	return true;
}

/* Are [sector, +bytes) whole blocks of this disk? Nothing here can wrap. */
static bool bounds_ok(const struct vio_backend *be, uint64_t sector, uint64_t bytes)
{
	if (sector > be->size / SECTOR)
		return false;
	return vio_range_ok(sector * SECTOR, bytes, be->size) &&
	       sector * SECTOR % be->block_size == 0 && bytes % be->block_size == 0;
}

static bool parse_rw(struct vio_squeue *q, struct vio_req *r, const struct vio_backend *be,
		     bool write, unsigned first)
{
	uint64_t sector = vio_le64(r->hdr.sector), sum;

	r->io = write ? VIO_IO_WRITE : VIO_IO_READ;
	r->data = &r->seg[write ? first : r->n_readable];
	r->n_data = write ? (uint8_t)(r->n_readable - first) : (uint8_t)(r->n_seg - r->n_readable);
	sum = sum_data(r);
	if (vio_unlikely(sum > VIO_MAX_DATA || !bounds_ok(be, sector, sum) ||
			 (write && be->read_only)))
		return refuse(q, r, -EIO);
	r->data_len = (uint32_t)sum;
	r->offset = sector * SECTOR;
	r->length = sum;
	if (vio_unlikely(sum == 0))
		return refuse(q, r, 0); /* nothing asked, nothing done */
	return true;
}

/* One range (max_*_seg is 1), possibly split over descriptors, read once. */
static bool parse_range(struct vio_squeue *q, struct vio_req *r, const struct vio_backend *be,
			bool zero, unsigned first)
{
	struct virtio_blk_discard_write_zeroes range;
	uint8_t *dst = (uint8_t *)&range;
	uint32_t flags;
	uint64_t sector, bytes;

	if (be->read_only)
		return refuse(q, r, -EIO);
	if (!(zero ? be->can_zero : be->can_discard))
		return refuse(q, r, -EOPNOTSUPP);
	r->data = &r->seg[first];
	r->n_data = (uint8_t)(r->n_readable - first);
	if (sum_data(r) != sizeof(range))
		return refuse(q, r, -EIO);
	for (unsigned i = 0; i < r->n_data; i++) {
		r->fault = q->payload->read(q, r->data[i].at, dst, r->data[i].len);
		if (r->fault != VIO_ST_OK)
			return false;
		dst += r->data[i].len;
	}
	flags = vio_le32(range.flags);
	/* 5.2.6.2: reserved flags, and unmap in a discard, are not supported. */
	if (flags & (zero ? ~(uint32_t)VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : UINT32_MAX))
		return refuse(q, r, -EOPNOTSUPP);
	sector = vio_le64(range.sector);
	bytes = (uint64_t)vio_le32(range.num_sectors) * SECTOR;
	if (vio_le32(range.num_sectors) > max_range(be) || !bounds_ok(be, sector, bytes))
		return refuse(q, r, -EIO);
	r->io = zero ? VIO_IO_ZERO : VIO_IO_DISCARD;
	r->n_data = 0;
	r->data_len = 0;
	r->offset = sector * SECTOR;
	r->length = bytes;
	return bytes > 0 ? true : refuse(q, r, 0);
}

/*
 * The id goes into the first VIRTIO_BLK_ID_BYTES of the data; a longer buffer is cut, a shorter one
 * gets what fits.
 */
static bool parse_get_id(struct vio_squeue *q, struct vio_req *r)
{
	uint32_t left = VIRTIO_BLK_ID_BYTES;
	unsigned n = 0;

	r->kind = KIND_GET_ID;
	r->io = VIO_IO_READ;
	r->data = &r->seg[r->n_readable];
	for (; n < (unsigned)(r->n_seg - r->n_readable) && left > 0; n++) {
		if (r->data[n].len > left)
			r->data[n].len = left;
		left -= r->data[n].len;
	}
	r->n_data = (uint8_t)n;
	r->data_len = VIRTIO_BLK_ID_BYTES - left;
	return n > 0 ? true : refuse(q, r, -EIO);
}

/* True: for the backend (or GET_ID: for data to be mapped). False: finished, or r->fault is set. */
static bool parse(struct vio_squeue *q, struct vio_req *r, const struct vio_backend *be)
{
	unsigned first;

	r->kind = KIND_DISK;
	r->n_data = r->n_iov = 0;
	r->data_len = 0;
	r->result = 0;
	if (vio_unlikely(!cut_frame(r, &first)))
		return false;
	switch (vio_le32(r->hdr.type)) {
	case VIRTIO_BLK_T_IN:
		return parse_rw(q, r, be, false, first);
	case VIRTIO_BLK_T_OUT:
		return parse_rw(q, r, be, true, first);
	case VIRTIO_BLK_T_FLUSH:
		r->io = VIO_IO_FLUSH;
		r->offset = r->length = 0;
		return be->can_flush ? true : refuse(q, r, -EOPNOTSUPP);
	case VIRTIO_BLK_T_GET_ID:
		return parse_get_id(q, r);
	case VIRTIO_BLK_T_DISCARD:
		return parse_range(q, r, be, false, first);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return parse_range(q, r, be, true, first);
	default:
		return refuse(q, r, -EOPNOTSUPP);
	}
}

/* The disk is server memory: one copy between it and the guest, done at once. */
static void move(struct vio_squeue *q, struct vio_req *r, struct vio_backend *be)
{
	struct gla logical = {0};
	void *disk = be->ops->at(be, r->offset, r->length, &logical);

	if (vio_likely(disk != NULL))
		q->payload->move(q, r, disk, ioba_add(q->local_base, logical.v));
	else
		r->result = -EIO;
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

/* Parsed requests: make their data addressable, give them to the backend. n <= VIO_BURST. */
static unsigned issue(struct vio_squeue *q, struct vio_req *const r[], unsigned n,
		      struct vio_req *done[], bool again)
{
	struct vio_backend *be = q->backend->be;
	struct vio_req *go[VIO_BURST], *wait[VIO_BURST];
	unsigned n_go = 0, n_wait = 0, n_done = 0, fin;

	q->payload->get(q, r, n);
	for (unsigned i = 0; i < n; i++) {
		if (vio_unlikely(r[i]->fault != VIO_ST_OK)) {
			done[n_done++] = r[i];
		} else if (vio_unlikely(r[i]->waits)) {
			wait[n_wait++] = r[i];
		} else if (vio_unlikely(r[i]->kind == KIND_GET_ID)) {
			fill_id(r[i], be);
			finish(q, r[i]);
			done[n_done++] = r[i];
		} else {
			r[i]->state = VIO_REQ_SUBMITTED;
			go[n_go++] = r[i];
		}
	}
	if (vio_unlikely(n_wait > 0))
		vio_sq_wait(q, wait, n_wait, again);
	if (n_go == 0)
		return n_done;
	fin = be->ops->submit(q->backend, go, n_go, done + n_done);
	for (unsigned i = 0; i < fin; i++)
		finish(q, done[n_done + i]);
	return n_done + fin;
}

static unsigned submit(struct vio_squeue *q, struct vio_req *const r[], unsigned n,
		       struct vio_req *done[])
{
	struct vio_backend *be = q->backend->be;
	struct vio_req *go[VIO_BURST];
	unsigned n_go = 0, n_done = 0;

	for (unsigned i = 0; i < n; i++) {
		if (vio_unlikely(r[i]->fault != VIO_ST_OK || !parse(q, r[i], be))) {
			done[n_done++] = r[i];
		} else if (be->ops->at && r[i]->io <= VIO_IO_WRITE && r[i]->kind == KIND_DISK) {
			move(q, r[i], be);
			done[n_done++] = r[i];
		} else {
			go[n_go++] = r[i];
		}
	}
	if (n_go == 0)
		return n_done;
	if (vio_unlikely(q->wait_head != NULL)) {
		vio_sq_wait(q, go, n_go, false);
		return n_done;
	}
	return n_done + issue(q, go, n_go, done + n_done, false);
}

static unsigned complete(struct vio_squeue *q, struct vio_req *done[], unsigned max)
{
	const struct vio_backend_ops *ops = q->backend->be->ops;
	unsigned n = ops->poll ? ops->poll(q->backend, done, max) : 0, k = 0;
	struct vio_req *again[VIO_BURST];

	for (unsigned i = 0; i < n; i++)
		finish(q, done[i]);
	if (vio_likely(!q->wait_head))
		return n;
	while (q->wait_head && k < VIO_BURST && n + k < max) {
		again[k++] = q->wait_head;
		q->wait_head = q->wait_head->be_next;
	}
	return k ? n + issue(q, again, k, done + n, true) : n;
}

const struct vio_dev_ops vio_dev_blk = {
	.name = "blk",
	.type = VIRTIO_ID_BLOCK,
	.min_proto = VIO_PROTO_V1,
	.hdr_len = sizeof(struct virtio_blk_outhdr),
	.has_status = true,
	.features = features,
	.config = config,
	.submit = submit,
	.complete = complete,
};
