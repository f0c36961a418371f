/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From a chain to a request for the disk (VIRTIO 1.2, section 5.2.6). A request is header, data,
 * status byte, in any framing (2.7.4.1): the header may be split or share a descriptor with data,
 * and so may the status byte. Cutting both off the private segment list leaves the data in place.
 */
#include <endian.h>
#include <string.h>

#include "server/dev/blk/blk_priv.h"
#include "server/payload/snapshot.h"
#include "server/payload/payload.h"

#define SECTOR VIO_BLK_SECTOR
/* A disk in memory does a range inline, and the other guests of the lcore wait: bytes. */
#define INLINE_RANGE (4u << 20)
/* Others do it elsewhere, and a guest waits for one answer: bytes. */
#define LONGEST_RANGE (1u << 30)

typedef struct virtio_blk_discard_write_zeroes range_t;

uint32_t vio_blk_max_range(const struct vio_backend *be)
{
	uint64_t sectors = vio_load_relaxed(&be->size) / SECTOR;
	uint32_t most = (be->ops->at ? INLINE_RANGE : LONGEST_RANGE) / SECTOR;

	return sectors < most ? (uint32_t)sectors : most; /* both are whole blocks */
}

uint32_t vio_blk_max_ranges(const struct vio_backend *be)
{
	return be->ops->at ? 1 : VIO_BLK_MAX_RANGES;
}

/* Finished without the backend: false, so that callers can return it. */
static bool refuse(struct vio_req *r, int result)
{
	r->n_data = 0;
	r->data_len = 0;
	r->io.result = result;
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
	uint32_t skip = sizeof(struct virtio_blk_outhdr);
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

/*
 * More segments than a request has room for, and more than SEG_MAX allows: refused, which needs
 * its last byte only.
 */
static bool refuse_long(struct vio_req *r)
{
	struct vio_seg *last = &r->seg[VIO_MAX_SEGS - 1];

	if (r->n_readable == r->n_seg) {
		r->fault = VIO_ST_REQUEST;
		return false;
	}
	r->status_at = ioba_add(last->at, last->len - 1);
	return refuse(r, -EIO);
}

/* Are [sector, +bytes) whole blocks of this disk? Nothing here can wrap. */
static bool bounds_ok(const struct vio_backend *be, uint64_t sector, uint64_t bytes)
{
	const uint64_t size = vio_load_relaxed(&be->size); /* once: it may grow */

	if (sector > size / SECTOR)
		return false;
	return vio_range_ok(sector * SECTOR, bytes, size) &&
	       sector * SECTOR % be->block_size == 0 && bytes % be->block_size == 0;
}

/* Without snapshots: as it is by now. */
static uint64_t sector_again(const struct vio_req *r)
{
	const struct virtio_blk_outhdr *h = r->hdr_at;

	return vio_le64(vio_load_relaxed(&h->sector));
}

static bool parse_rw(struct vio_req *r, const struct vio_backend *be, bool write, uint64_t sector,
		     unsigned first)
{
	uint64_t sum;

	r->io.op = write ? VIO_IO_WRITE : VIO_IO_READ;
	r->to_guest = !write;
	r->data = &r->seg[write ? first : r->n_readable];
	r->n_data = write ? (uint8_t)(r->n_readable - first) : (uint8_t)(r->n_seg - r->n_readable);
	sum = sum_data(r);
	if (vio_unlikely(sum > VIO_MAX_DATA || !bounds_ok(be, sector, sum) ||
			 (write && be->read_only)))
		return refuse(r, -EIO);
	r->data_len = (uint32_t)sum;
	r->io.offset = (VIO_SNAPSHOTS ? sector : sector_again(r)) * SECTOR;
	r->io.length = sum;
	if (vio_unlikely(sum == 0))
		return refuse(r, 0); /* nothing asked, nothing done */
	return true;
}

void vio_blk_load_range(struct vio_req *r)
{
	range_t range;

	memcpy(&range, (const uint8_t *)r->iov + r->range * sizeof(range), sizeof(range));
	r->io.offset = vio_le64(range.sector) * SECTOR;
	r->io.length = (uint64_t)vio_le32(range.num_sectors) * SECTOR;
	r->io.unmap = r->io.op == VIO_IO_ZERO &&
		      (vio_le32(range.flags) & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
}

/* What the guest wrote, read once, into r->iov. */
static bool fetch_ranges(struct vio_squeue *q, struct vio_req *r, uint64_t sum)
{
	uint8_t *dst = (uint8_t *)r->iov;

	for (unsigned i = 0; i < r->n_data; i++) {
		r->fault = q->payload->read(q, r->data[i].at, dst, r->data[i].len);
		if (r->fault != VIO_ST_OK)
			return false;
		dst += r->data[i].len;
	}
	r->n_ranges = (uint8_t)(sum / sizeof(range_t));
	return true;
}

/* Without snapshots: as they are by now. */
static bool ranges_again(struct vio_squeue *q, struct vio_req *r, unsigned first)
{
	bool ok;

	r->n_data = (uint8_t)(r->n_readable - first);
	ok = fetch_ranges(q, r, sum_data(r));
	r->n_data = 0;
	return ok;
}

/* All of them, before the first is done: 0, or how the request is refused. */
static int judge_ranges(const struct vio_req *r, const struct vio_backend *be, bool zero)
{
	/* 5.2.6.2: reserved flags, and unmap in a discard, are not supported. */
	const uint32_t bad = zero ? ~(uint32_t)VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : UINT32_MAX;

	for (unsigned i = 0; i < r->n_ranges; i++) {
		range_t range;
		uint32_t n;

		memcpy(&range, (const uint8_t *)r->iov + i * sizeof(range), sizeof(range));
		n = vio_le32(range.num_sectors);
		if (vio_le32(range.flags) & bad)
			return -EOPNOTSUPP;
		if (n > vio_blk_max_range(be) ||
		    !bounds_ok(be, vio_le64(range.sector), (uint64_t)n * SECTOR))
			return -EIO;
	}
	return 0;
}

static bool parse_ranges(struct vio_squeue *q, struct vio_req *r, const struct vio_backend *be,
			 bool zero, unsigned first)
{
	uint64_t sum;
	int rc;

	if (be->read_only)
		return refuse(r, -EIO);
	if (!(zero ? be->can_zero : be->can_discard))
		return refuse(r, -EOPNOTSUPP);
	r->data = &r->seg[first];
	r->n_data = (uint8_t)(r->n_readable - first);
	sum = sum_data(r);
	if (sum == 0 || sum % sizeof(range_t) || sum / sizeof(range_t) > vio_blk_max_ranges(be))
		return refuse(r, -EIO);
	if (!fetch_ranges(q, r, sum))
		return false;
	r->n_data = 0;
	r->kind = VIO_BLK_RANGES;
	r->io.op = zero ? VIO_IO_ZERO : VIO_IO_DISCARD;
	rc = judge_ranges(r, be, zero);
	if (rc)
		return refuse(r, rc);
	if (!VIO_SNAPSHOTS && !ranges_again(q, r, first))
		return false;
	for (r->range = 0; r->range < r->n_ranges; r->range++) {
		vio_blk_load_range(r);
		if (r->io.length > 0)
			return true;
	}
	return refuse(r, 0);
}

/*
 * The id goes into the first VIRTIO_BLK_ID_BYTES of the data; a longer buffer is cut, a shorter one
 * gets what fits. r->io.length: what the buffer had.
 */
static bool parse_get_id(struct vio_req *r)
{
	uint32_t left = VIRTIO_BLK_ID_BYTES;
	unsigned n = 0;

	r->kind = VIO_BLK_GET_ID;
	r->io.op = VIO_IO_READ;
	r->to_guest = true;
	r->data = &r->seg[r->n_readable];
	r->n_data = (uint8_t)(r->n_seg - r->n_readable);
	r->io.length = sum_data(r);
	for (; n < r->n_data && left > 0; n++) {
		if (r->data[n].len > left)
			r->data[n].len = left;
		left -= r->data[n].len;
	}
	r->n_data = (uint8_t)n;
	r->data_len = VIRTIO_BLK_ID_BYTES - left;
	return n > 0 ? true : refuse(r, -EIO);
}

bool vio_blk_parse(struct vio_squeue *q, struct vio_req *r, const struct vio_backend *be)
{
	struct virtio_blk_outhdr hdr;
	unsigned first;

	memcpy(&hdr, VIO_SNAPSHOTS ? r->hdr : r->hdr_at, sizeof(hdr));
	r->kind = VIO_BLK_RW;
	r->n_data = r->n_iov = 0;
	r->to_guest = false;
	r->data_len = 0;
	r->io.result = 0;
	r->io.unsure = false;
	if (vio_unlikely(r->n_seg > VIO_MAX_SEGS))
		return refuse_long(r);
	if (vio_unlikely(!cut_frame(r, &first)))
		return false;
	switch (vio_le32(hdr.type)) {
	case VIRTIO_BLK_T_IN:
		return parse_rw(r, be, false, vio_le64(hdr.sector), first);
	case VIRTIO_BLK_T_OUT:
		return parse_rw(r, be, true, vio_le64(hdr.sector), first);
	case VIRTIO_BLK_T_FLUSH:
		r->kind = VIO_BLK_FLUSH;
		r->io.op = VIO_IO_FLUSH;
		r->io.offset = r->io.length = 0;
		return be->can_flush ? true : refuse(r, -EOPNOTSUPP);
	case VIRTIO_BLK_T_GET_ID:
		return parse_get_id(r);
	case VIRTIO_BLK_T_DISCARD:
		return parse_ranges(q, r, be, false, first);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return parse_ranges(q, r, be, true, first);
	default:
		return refuse(r, -EOPNOTSUPP);
	}
}
