/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>

#include "fake_server_priv.h"

/* --------------------------------------------------------------------------- rings ---- */

static void ring_get(void *ctx, enum mock_part part, uint64_t off, void *to, unsigned len)
{
	struct fs_queue *q = ctx;

	if (!fs_rdma_read(q->s, ioba_add(q->part[part], off), to, len)) {
		q->gone = true;
		memset(to, 0, len);
	}
}

static void ring_put(void *ctx, enum mock_part part, uint64_t off, const void *from, unsigned len)
{
	struct fs_queue *q = ctx;

	must(fs_rdma_write(q->s, ioba_add(q->part[part], off), from, len));
}

void fs_ring_init(struct fake_server *s, struct fs_queue *q)
{
	static const struct mock_io io = {ring_get, ring_put};

	mock_init(&q->ring, q->size, s->features, NULL, NULL, NULL);
	q->ring.io = &io;
	q->ring.ctx = q;
	q->s = s;
	q->gone = false;
}

/* The whole chain; indirect tables followed. */
static unsigned chain(struct fake_server *s, struct fs_queue *q, uint16_t head,
		      struct vring_desc *d, unsigned max)
{
	struct ioba table = q->part[VIO_QUEUE_DESC];
	uint16_t i = head;
	unsigned n = 0;

	for (;;) {
		must(n < max);
		must(fs_rdma_read(s, ioba_add(table, 16ull * i), &d[n], sizeof(d[n])));
		if (vio_le16(d[n].flags) & VRING_DESC_F_INDIRECT) {
			must(s->features >> VIRTIO_RING_F_INDIRECT_DESC & 1);
			table = (struct ioba){vio_le64(d[n].addr)};
			i = 0;
			continue;
		}
		if (!(vio_le16(d[n].flags) & VRING_DESC_F_NEXT))
			return n + 1;
		i = vio_le16(d[n++].next);
	}
}

static bool take_one(uint32_t *knob)
{
	uint32_t n = vio_load_acquire(knob);

	if (n)
		vio_store_release(knob, n - 1);
	return n > 0;
}

static uint8_t range(struct fake_server *s, const struct vring_desc *d, bool zero)
{
	struct virtio_blk_discard_write_zeroes r;
	uint64_t sector;

	if (vio_le32(d->len) != sizeof(r) ||
	    !fs_rdma_read(s, (struct ioba){vio_le64(d->addr)}, &r, sizeof(r)))
		return VIRTIO_BLK_S_IOERR;
	sector = vio_le64(r.sector);
	if (!vio_range_ok(sector, vio_le32(r.num_sectors), FS_SECTORS))
		return VIRTIO_BLK_S_IOERR;
	if (zero)
		memset(s->disk + sector * 512, 0, vio_le32(r.num_sectors) * 512ull);
	return VIRTIO_BLK_S_OK;
}

static uint8_t data(struct fake_server *s, const struct vring_desc *d, unsigned n, uint32_t type,
		    uint64_t sector)
{
	static const char id[VIRTIO_BLK_ID_BYTES] = "fake-disk";
	uint64_t at = sector * 512;

	if (type == VIRTIO_BLK_T_GET_ID)
		return n == 1 && fs_rdma_write(s, (struct ioba){vio_le64(d->addr)}, id, sizeof(id))
			       ? VIRTIO_BLK_S_OK
			       : VIRTIO_BLK_S_IOERR;
	for (unsigned i = 0; i < n; i++) {
		uint32_t len = vio_le32(d[i].len);

		if (!vio_range_ok(at, len, FS_DISK_BYTES) ||
		    !fs_copy(s, (struct ioba){vio_le64(d[i].addr)}, M_DISK + at, len,
			     type == VIRTIO_BLK_T_IN))
			return VIRTIO_BLK_S_IOERR;
		at += len;
	}
	return VIRTIO_BLK_S_OK;
}

static uint8_t execute(struct fake_server *s, unsigned qi, const struct vring_desc *d, unsigned n)
{
	struct virtio_blk_outhdr h;
	struct fs_seen *seen = &s->log[s->n_log];

	must(n >= 2 && vio_le32(d[0].len) == sizeof(h) && vio_le32(d[n - 1].len) == 1);
	must(fs_rdma_read(s, (struct ioba){vio_le64(d[0].addr)}, &h, sizeof(h)));
	if (s->n_log < FS_MAX_LOG) {
		*seen = (struct fs_seen){.type = vio_le32(h.type),
					 .sector = vio_le64(h.sector),
					 .session = (uint32_t)s->sessions,
					 .queue = (uint8_t)qi,
					 .n_data = (uint8_t)(n - 2)};
		for (unsigned i = 1; i + 1 < n; i++)
			seen->len += vio_le32(d[i].len);
		vio_store_release(&s->n_log, s->n_log + 1);
	}
	if (take_one(&s->k.fail_io))
		return VIRTIO_BLK_S_IOERR;
	switch (vio_le32(h.type)) {
	case VIRTIO_BLK_T_FLUSH:
		return VIRTIO_BLK_S_OK;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return n == 3 ? range(s, d + 1, vio_le32(h.type) == VIRTIO_BLK_T_WRITE_ZEROES)
			      : VIRTIO_BLK_S_IOERR;
	default:
		return data(s, d + 1, n - 2, vio_le32(h.type), vio_le64(h.sector));
	}
}

/* Used elements, then one index for all. */
static void push_all(struct fake_server *s, unsigned qi, const uint16_t *head, const uint32_t *len,
		     unsigned n)
{
	struct fs_queue *q = &s->q[qi];
	bool wanted;

	for (unsigned i = 0; i < n; i++)
		mock_put(&q->ring, take_one(&s->k.bad_used) ? head[i] + 1u : head[i], len[i], 1);
	wanted = mock_publish_used(&q->ring);
	must(!q->gone);
	vio_counter_add(&s->done, n);
	if (wanted || s->notify == VIO_NOTIFY_CRQ) {
		struct vio_msg m = {
			.version = s->fsm.version, .op = VIO_OP_USED, .arg16 = (uint16_t)qi};

		vio_counter_add(&s->used_sent, 1);
		fs_send(s, &m);
	}
}

static void push(struct fake_server *s, unsigned qi, uint16_t head, uint32_t len)
{
	push_all(s, qi, &head, &len, 1);
}

/* The head in available entry `idx`, which is there. */
static uint16_t head_at(struct fs_queue *q, uint16_t idx)
{
	const uint16_t head =
		(uint16_t)mock_load(&q->ring, MOCK_AVAIL, 4 + 2ull * mock_slot(&q->ring, idx), 2);

	must(!q->gone && head < q->size);
	return head;
}

/* One chain. False: the device was stopped. */
static bool one(struct fake_server *s, unsigned qi)
{
	struct fs_queue *q = &s->q[qi];
	struct vring_desc d[64];
	uint16_t head;
	uint8_t status;
	unsigned n;

	if (take_one(&s->k.stop_device)) {
		struct vio_msg m;

		vio_sfsm_needs_reset(&s->fsm, VIO_ST_DESC_CHAIN, (uint16_t)qi, 0x77, &m);
		fs_send(s, &m);
		return false;
	}
	head = head_at(q, q->ring.next);
	n = chain(s, q, head, d, VIO_ARRAY_SIZE(d));
	if (s->k.dev) {
		uint32_t len = s->k.dev->chain(s, qi, d, n);

		q->ring.next++;
		push(s, qi, head, len);
		return true;
	}
	status = execute(s, qi, d, n);
	q->ring.next++;
	if (!take_one(&s->k.no_status))
		must(fs_rdma_write(s, (struct ioba){vio_le64(d[n - 1].addr)}, &status, 1));
	push(s, qi, head, 1);
	return true;
}

/* What the driver is told about kicks: after every look, at exactly where we are; parked while polling. */
static void set_avail_event(struct fake_server *s, struct fs_queue *q)
{
	bool polls = s->notify == VIO_NOTIFY_POLL && !vio_load_acquire(&s->k.sleepy);

	if (s->notify != VIO_NOTIFY_CRQ && q->ring.event_idx)
		mock_store(&q->ring, MOCK_USED, mock_wish_at(&q->ring, MOCK_USED), 2,
			   (uint16_t)(q->ring.next + (polls ? 0x8000 : 0)));
	vio_fence_full();
}

unsigned fs_serve(struct fake_server *s, unsigned qi)
{
	struct fs_queue *q = &s->q[qi];
	bool polls = s->notify == VIO_NOTIFY_POLL && !vio_load_acquire(&s->k.sleepy);
	unsigned n = 0;

	/* Not without a kick: one that gets lost must show. */
	if (!q->ready || s->fsm.state != VIO_S_RUNNING || vio_load_acquire(&s->k.hold) ||
	    (s->k.dev && !s->k.dev->serves(s, qi)) || (!polls && !q->kicked))
		return 0;
	q->kicked = false;
	q->gone = false;
	for (;;) {
		const bool there = mock_has(&q->ring);

		if (q->gone)
			return n;
		if (!there) {
			set_avail_event(s, q);
			if (!mock_has(&q->ring) || q->gone)
				return n;
		}
		must((uint16_t)(mock_load(&q->ring, MOCK_AVAIL, 2, 2) - q->ring.next) <= q->size);
		if (!one(s, qi))
			return n;
		n++;
		/* The rest when the hold ends; or in the next turn, so that a guest that is faster does not keep us here for ever. */
		if (vio_load_acquire(&s->k.hold) || n == 64) {
			q->kicked = true;
			return n;
		}
	}
}

/* ------------------------------------------------------------------------- devices ---- */

struct ioba fs_addr(const struct vring_desc *d)
{
	return (struct ioba){vio_le64(d->addr)};
}

unsigned fs_peek(struct fake_server *s, unsigned qi, unsigned ahead, struct vring_desc *d,
		 unsigned max, uint16_t *head)
{
	struct fs_queue *q = &s->q[qi];
	uint16_t idx;

	if (!q->ready)
		return 0;
	q->gone = false;
	idx = (uint16_t)mock_load_acquire(&q->ring, MOCK_AVAIL, 2, 2);
	if (q->gone || (uint16_t)(idx - q->ring.next) <= ahead)
		return 0;
	*head = head_at(q, (uint16_t)(q->ring.next + ahead));
	return chain(s, q, *head, d, max);
}

void fs_complete(struct fake_server *s, unsigned qi, const uint16_t *head, const uint32_t *len,
		 unsigned n)
{
	s->q[qi].ring.next = (uint16_t)(s->q[qi].ring.next + n);
	push_all(s, qi, head, len, n);
}
