/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest whose rings, windows and buffers are the fuzzer's bytes, against the whole data path:
 * pop, walk, fetch, parse, submit, give back, in any layout. In place, every window is an allocation of its own, so that an
 * access outside of one is the sanitizer's finding; the copying levels reach a guest's memory of an in-process machine. The rules that
 * a sanitizer does not know are checked here.
 */
#include <stdlib.h>
#include <string.h>
#include <linux/virtio_blk.h>

#include "server/head/adapter.h"
#include "server/dev/blk/blk.h"
#include "server/payload/payload.h"
#include "server/ring/ring.h"
#include "server/ring/order.h"
#include "vq/mock.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/machine.h"
#include "tests/fuzz/pull_dev.h"

#define BASE     (fuzz_machine()->guest_at.v + FUZZ_BUF) /* IOBA of the first window */
#define RINGS    (fuzz_machine()->guest_at.v + FUZZ_RINGS)
#define DISK_LEN 65536u
#define N_WIN    3

struct fuzz_disk {
	struct vio_backend be; /* first */
	const struct vio_wtable *windows;
	struct vio_io *held[256];
	unsigned n_held;
	bool async, rdma; /* rdma: segments are the server's own */
	uint8_t bytes[DISK_LEN];
};

/* What every backend may rely on. */
static void check_request(const struct fuzz_disk *d, const struct vio_io *r)
{
	const struct vio_req *req = vio_container_of(r, struct vio_req, io);
	uint64_t sum = 0;

	FUZZ_CHECK(req->fault == VIO_ST_OK);
	FUZZ_CHECK(vio_range_ok(r->offset, r->length, DISK_LEN));
	FUZZ_CHECK(r->offset % d->be.block_size == 0 && r->length % d->be.block_size == 0);
	for (unsigned i = 0; i < r->n_iov; i++) {
		const uint8_t *p = r->iov[i].iov_base;
		bool inside = false;

		for (unsigned k = 0; k < d->windows->n; k++) {
			const struct vio_window *w = &d->windows->w[k];
			uint8_t perm = r->op == VIO_IO_READ ? TCE_WRITE : TCE_READ;

			inside |= p >= w->va &&
				  (uint64_t)(p - w->va) + r->iov[i].iov_len <= w->len &&
				  (w->perm & perm);
		}
		FUZZ_CHECK(inside || d->rdma);
		sum += r->iov[i].iov_len;
	}
	if (r->op == VIO_IO_READ || r->op == VIO_IO_WRITE)
		FUZZ_CHECK(sum == r->length && sum == req->data_len);
}

static void do_io(struct fuzz_disk *d, struct vio_io *r)
{
	uint64_t off = r->offset;

	for (unsigned i = 0; i < r->n_iov; i++) {
		if (r->op == VIO_IO_READ)
			memcpy(r->iov[i].iov_base, d->bytes + off, r->iov[i].iov_len);
		else
			memcpy(d->bytes + off, r->iov[i].iov_base, r->iov[i].iov_len);
		off += r->iov[i].iov_len;
	}
	r->result = 0;
}

static unsigned disk_submit(struct vio_backend_queue *bq, struct vio_io *const r[], unsigned n,
			    struct vio_io *done[])
{
	struct fuzz_disk *d = (struct fuzz_disk *)bq->be;
	unsigned fin = 0;

	for (unsigned i = 0; i < n; i++) {
		check_request(d, r[i]);
		if (d->async && d->n_held < VIO_ARRAY_SIZE(d->held)) {
			d->held[d->n_held++] = r[i];
			continue;
		}
		do_io(d, r[i]);
		done[fin++] = r[i];
	}
	return fin;
}

static unsigned disk_poll(struct vio_backend_queue *bq, struct vio_io *done[], unsigned max)
{
	struct fuzz_disk *d = (struct fuzz_disk *)bq->be;
	unsigned n = 0;

	for (; n < max && d->n_held > 0; n++) {
		done[n] = d->held[--d->n_held];
		do_io(d, done[n]);
	}
	return n;
}

static const struct vio_backend_ops disk_ops = {
	.name = "fuzz", .submit = disk_submit, .poll = disk_poll};

/* One guest. */
struct guest {
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint8_t *win[N_WIN];
	struct vio_wtable *table;
	uint16_t size;
	bool packed, copied; /* copied: rings in the machine's memory */
	struct mock ring;    /* its driver */
};

static void add_window(struct guest *g, uint64_t at, uint64_t len, void *va, uint8_t perm,
		       uint16_t id)
{
	struct vio_window w = {.at = {at},
			       .len = len,
			       .va = va,
			       .perm = perm,
			       .role = VIO_WINDOW_BUFFERS,
			       .id = id};
	struct vio_wtable *t;

	FUZZ_CHECK(vio_wtable_add(g->table, &w, &t) == 0);
	free(g->table);
	g->table = t;
}

static void make_rings(struct guest *g)
{
	uint8_t *const at = fuzz_machine()->guest + FUZZ_RINGS;

	if (g->copied) {
		memset(at, 0, FUZZ_RINGS_LEN);
		g->desc = (void *)at;
		g->avail = (void *)(at + 0x10000);
		g->used = (void *)(at + 0x20000);
		return;
	}
	g->desc = calloc(g->size, 16);
	g->avail = calloc(1, 6 + 2ull * g->size);
	g->used = calloc(1, 6 + 8ull * g->size);
	FUZZ_CHECK(g->desc && g->avail && g->used);
}

/*
 * Buffer windows of odd sizes next to each other, filled with input; then the rings, exactly as
 * long as they must be.
 */
static void make_guest(struct guest *g, struct bytes *b)
{
	uint64_t at = BASE;

	g->size = (uint16_t)(4u << (take8(b) % 5));
	for (unsigned i = 0; i < N_WIN; i++) {
		uint64_t len = 512 + 8ull * take8(b);
		uint8_t how = take8(b);

		g->win[i] = malloc(len);
		FUZZ_CHECK(g->win[i]);
		take(b, g->win[i], len / 4);
		memset(g->win[i] + len / 4, 0, len - len / 4);
		memcpy(fuzz_machine()->guest + FUZZ_BUF + (at - BASE), g->win[i], len);
		add_window(g, at, len, g->win[i], how % 3 + 1, (uint16_t)i);
		at += len + (how & 0x80 ? 16 : 0);
	}
	make_rings(g);
	add_window(g, RINGS, 16ull * g->size, g->desc, g->packed ? TCE_READ | TCE_WRITE : TCE_READ,
		   10);
	add_window(g, RINGS + 0x10000, 6 + 2ull * g->size, g->avail, TCE_READ, 11);
	add_window(g, RINGS + 0x20000, 6 + 8ull * g->size, g->used, TCE_WRITE, 12);
	for (unsigned i = 0; i < g->size; i++) {
		struct vring_desc d;

		take(b, &d, sizeof(d));
		/* Mostly near the windows and the table, so that much of it is almost right. */
		if (!(d.flags & 0x100))
			d.addr = vio_le64(BASE + d.addr % 8192);
		if (!(d.flags & 0x200))
			d.len = vio_le32(d.len % 1100);
		if (!(d.flags & 0x400))
			d.next = vio_le16((uint16_t)(d.next % g->size));
		if (g->packed) /* buffer id before flags */
			d = (struct vring_desc){d.addr, d.len, d.next,
						d.flags & 0x7fff & ~VIO_PACKED_AVAIL};
		g->desc[i] = d;
	}
	for (unsigned i = 0; i <= g->size; i++) {
		uint8_t h = take8(b);

		g->avail->ring[i] =
			vio_le16((uint16_t)(h & 0x80 ? h * 257u : (unsigned)h % g->size));
	}
}

static void drop_guest(struct guest *g)
{
	for (unsigned i = 0; i < N_WIN; i++)
		free(g->win[i]);
	if (!g->copied) {
		free(g->desc);
		free(g->avail);
		free(g->used);
	}
	free(g->table);
}

/* `n` more descriptors, or entries, whatever they are. */
static void make_available(struct guest *g, unsigned n)
{
	struct mock *m = &g->ring;

	for (; g->packed && n > 0; n--, m->next++) {
		const uint64_t tail = mock_tail(m, m->next);
		const uint16_t flags =
			(uint16_t)(vio_packed_flags(tail) & ~(VIO_PACKED_AVAIL | VIO_PACKED_USED));

		mock_set_tail(m, m->next,
			      vio_packed_tail(
				      vio_packed_len(tail), vio_packed_id(tail),
				      (uint16_t)(flags | vio_packed_avail_bits(m->next, m->size))));
	}
	m->next = (uint16_t)(m->next + n);
	if (!g->packed)
		mock_store_release(m, MOCK_AVAIL, 2, 2, m->next);
}

/* What is held back is what was popped and has no used element yet, and the oldest of it is not done. */
static void check_order(const struct vio_squeue *q, bool packed)
{
	const struct vio_order *o = q->order;
	unsigned held = 0;

	if (!o)
		return;
	for (unsigned i = 0; i < q->size; i++)
		held += q->taken[i] != 0;
	FUZZ_CHECK((uint16_t)(o->in - o->out) == held && held <= q->size);
	FUZZ_CHECK(packed || (uint16_t)(q->last_avail - q->used_idx) == held);
	FUZZ_CHECK(held == 0 || !o->chain[o->head[o->out & o->mask]].done);
	FUZZ_CHECK(held >= q->in_flight);
}

static void turn(struct vio_squeue *q, struct guest *g, struct fuzz_disk *d, struct bytes *b)
{
	uint16_t used = q->used_idx;
	uint8_t step = take8(b), fault = q->fault;
	unsigned moved;

	if (g->packed)
		make_available(g, step & 0x80 ? step % 64u : step % 5u);
	else
		make_available(g, step & 0x80 ? step * 300u : step % 5u);
	d->async = step & 0x40;
	moved = vio_squeue_poll(q);
	FUZZ_CHECK(q->in_flight <= q->size);
	FUZZ_CHECK(moved <= (q->pull ? VIO_PULL_BYTES : 3 * VIO_BURST));
	/* The private index: a guest may have its own used ring overwritten by a disk read. */
	FUZZ_CHECK((uint16_t)(q->used_idx - used) <= q->size);
	if (fault != VIO_ST_OK) {
		FUZZ_CHECK(q->fault == fault);
		FUZZ_CHECK(q->used_idx == used);
	}
	check_order(q, g->packed);
	if (step & 0x20)
		vio_squeue_arm(q);
	else if (step & 0x10)
		vio_squeue_park(q);
}

/* Of a test input's first byte. */
enum how {
	HOW_POLL = 1,
	HOW_EVENT_IDX = 2,
	HOW_INDIRECT = 4,
	HOW_PACKED = 8,
	HOW_COPY = 0x10,  /* rings by RDMA, */
	HOW_DELTA = 0x20, /* only what is new of them, */
	HOW_RDMA = 0x40,  /* and data */
	HOW_IN_ORDER = 0x80,
};

static struct vio_squeue *make_queue(struct guest *g, uint8_t how)
{
	const struct fuzz_machine *m = fuzz_machine();
	const uint64_t layout = (how & HOW_PACKED ? 1ull << VIRTIO_F_RING_PACKED : 0) |
				(how & HOW_IN_ORDER ? 1ull << VIRTIO_F_IN_ORDER : 0);
	struct vio_squeue *q =
		aligned_alloc(VIO_CACHE_LINE, VIO_ALIGN_UP(sizeof(*q), VIO_CACHE_LINE));

	FUZZ_CHECK(q);
	memset(q, 0, sizeof(*q));
	q->ring = vio_ring_level(!(how & HOW_COPY) ? VIO_RING_DIRECT
				 : how & HOW_DELTA ? VIO_RING_COPY_DELTA
						   : VIO_RING_COPY,
				 layout);
	q->payload = how & HOW_RDMA ? &vio_payload_rdma : &vio_payload_direct;
	q->dev = &vio_disk_queue_ops;
	q->size = g->size;
	q->event_idx = how & HOW_EVENT_IDX;
	vio_notify_init(&q->notify, how & HOW_POLL ? &vio_notify_poll : &vio_notify_suppress,
			q->event_idx);
	q->indirect = how & HOW_INDIRECT;
	q->in_order = how & HOW_IN_ORDER;
	q->vcpu = m->vcpu;
	q->unit = m->u->unit;
	q->liobn = m->u->liobn;
	q->remote_liobn = m->u->remote_liobn;
	q->local_mem = m->server + FUZZ_LOCAL;
	q->local_at = ioba_add(m->server_at, FUZZ_LOCAL);
	q->local_len = FUZZ_LOCAL_LEN;
	q->version = VIO_PROTO_V2;
	q->place = (struct vio_sq_place){g->size, {RINGS}, {RINGS + 0x10000}, {RINGS + 0x20000}};
	q->req = aligned_alloc(VIO_CACHE_LINE, g->size * sizeof(struct vio_req));
	FUZZ_CHECK(q->req);
	memset(q->req, 0, g->size * sizeof(struct vio_req));
	mock_init(&g->ring, g->size, layout, g->desc, g->avail, g->used);
	return q;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes b = {data, size};
	struct guest g = {0};
	struct fuzz_disk *d = calloc(1, sizeof(*d));
	const struct vio_wtable *table;
	struct vio_backend_queue bq = {.be = &d->be};
	struct vio_disk disk;
	struct vio_disk_queue dq = {.dq = {&disk.dev}, .be = &d->be, .bq = &bq};
	uint8_t how = take8(&b);
	const bool pull = size > 0 && data[size - 1] & 1; /* the device; else a disk */
	struct pull_dev p;
	struct vio_squeue *q;
	struct vio_err err;

	FUZZ_CHECK(d);
	memset(fuzz_machine()->guest + FUZZ_CRQ, 0, 4096); /* notifications of earlier inputs */
	g.packed = how & HOW_PACKED;
	g.copied = how & HOW_COPY;
	make_guest(&g, &b);
	table = d->windows = g.table;
	d->rdma = how & HOW_RDMA;
	d->be = (struct vio_backend){.ops = &disk_ops,
				     .size = DISK_LEN,
				     .block_size = 512,
				     .can_discard = true,
				     .can_zero = true,
				     .can_flush = true};
	vio_disk_init(&disk, &d->be);
	q = make_queue(&g, how);
	q->dq = &dq.dq;
	if (pull)
		pull_dev_open(&p, q, data[size - 1] & 2);
	q->windows_src = &table;
	FUZZ_CHECK(q->ring->attach(q, &err) == 0 && q->payload->attach(q, &err) == 0);
	for (unsigned i = 0; i < 12; i++) {
		if (pull)
			pull_dev_carry(&p);
		turn(q, &g, d, &b);
	}
	/* Whatever happened, the queue can be stopped. */
	vio_store_release(&q->ctl, VIO_SQ_STOP);
	for (unsigned i = 0; i < 12 && q->in_flight; i++)
		vio_squeue_poll(q);
	FUZZ_CHECK(q->in_flight == 0);
	q->payload->detach(q);
	q->ring->detach(q);
	if (pull)
		vio_bytes_close(&p.bytes);
	free(q->req);
	free(q);
	free(d);
	drop_guest(&g);
	return 0;
}

/* ---------------------------------------------------------------------------------- seeds ---- */

struct out {
	uint8_t *p;
	size_t n, max;
};

static void emit(struct out *o, const void *bytes, size_t n)
{
	FUZZ_CHECK(o->n + n <= o->max);
	memcpy(o->p + o->n, bytes, n);
	o->n += n;
}

static void emit8(struct out *o, unsigned v)
{
	const uint8_t byte = (uint8_t)v;

	emit(o, &byte, 1);
}

#define SEED_SIZE  16u
#define SEED_WIN   (512 + 8 * 255u) /* bytes of a window; a quarter of it is input */
#define SEED_DATA  SEED_WIN         /* the second window */
#define SEED_TABLE 320u             /* indirect tables, in the first window */

static struct vring_desc desc_of(uint64_t addr, unsigned len, unsigned flags, unsigned next)
{
	return (struct vring_desc){vio_le64(addr), vio_le32(len), vio_le16((uint16_t)flags),
				   vio_le16((uint16_t)next)};
}

/* Header, data, status of request k, with addresses relative to `base`. */
static void chain_of(struct vring_desc d[3], unsigned k, uint32_t type, uint64_t base,
		     unsigned first)
{
	bool reads = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	bool ranges = type == VIRTIO_BLK_T_DISCARD || type == VIRTIO_BLK_T_WRITE_ZEROES;
	uint64_t data = ranges ? 64 * k + 32 : SEED_DATA + 512 * k;

	d[0] = desc_of(base + 64 * k, 16, VRING_DESC_F_NEXT, first + 1);
	d[1] = desc_of(base + data, ranges ? 16 : 512,
		       VRING_DESC_F_NEXT | (reads ? VRING_DESC_F_WRITE : 0u), first + 2);
	d[2] = desc_of(base + 64 * k + 16, 1, VRING_DESC_F_WRITE, 0);
}

/* What a correct driver does with four requests; the first two types differ from seed to seed, and where its rings and data are. */
size_t vio_fuzz_seed(unsigned seed, uint8_t *buf, size_t max)
{
	static const uint8_t levels[] = {0,
					 HOW_IN_ORDER,
					 HOW_COPY | HOW_RDMA,
					 HOW_COPY | HOW_RDMA | HOW_IN_ORDER,
					 HOW_COPY | HOW_DELTA | HOW_RDMA,
					 HOW_COPY | HOW_DELTA | HOW_RDMA | HOW_IN_ORDER,
					 HOW_COPY,
					 HOW_COPY | HOW_DELTA | HOW_IN_ORDER};
	static const uint32_t types[] = {VIRTIO_BLK_T_IN,      VIRTIO_BLK_T_OUT,
					 VIRTIO_BLK_T_FLUSH,   VIRTIO_BLK_T_GET_ID,
					 VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES};
	static const uint8_t turns[] = {1, 2, 0x41, 0x42, 1, 0x24, 0x10, 4, 0x44, 0x20, 3, 1};
	const unsigned round = 3 * VIO_ARRAY_SIZE(types), level = (seed + seed / round) % 8;
	unsigned i = seed % round;
	const bool packed = i >= 2 * VIO_ARRAY_SIZE(types), indirect = !packed && i % 2;
	uint8_t win[SEED_WIN / 4] __attribute__((aligned(16))) = {0};
	struct vring_desc d[SEED_SIZE] = {{0}};
	struct out o = {buf, 0, max};

	if (seed >= 3 * round)
		return 0;
	if (packed)
		i = 2 * (i - 2 * (unsigned)VIO_ARRAY_SIZE(types));
	for (unsigned k = 0; k < 4; k++) {
		uint32_t type = types[(i / 2 + k / 2) % VIO_ARRAY_SIZE(types)];
		const struct virtio_blk_outhdr h = {.type = vio_le32(type), .sector = vio_le64(k)};
		const struct virtio_blk_discard_write_zeroes range = {.sector = vio_le64(k),
								      .num_sectors = vio_le32(2)};

		memcpy(win + 64 * k, &h, sizeof(h));
		memcpy(win + 64 * k + 32, &range, sizeof(range));
		if (indirect) {
			chain_of((struct vring_desc *)(void *)(win + SEED_TABLE + 48 * k), k, type,
				 BASE, 0);
			d[4 * k] = desc_of(SEED_TABLE + 48 * k, 48, VRING_DESC_F_INDIRECT, 0);
		} else {
			chain_of(&d[(packed ? 3 : 4) * k], k, type, 0, 4 * k);
		}
	}
	for (unsigned k = 0; packed && k < 3 * 4; k++)
		d[k].next = vio_le16((uint16_t)(k / 3)); /* the buffer's id */
	emit8(&o, i % 8 | HOW_EVENT_IDX | HOW_INDIRECT | (packed ? HOW_PACKED : 0) | levels[level]);
	emit8(&o, 2); /* 16 entries */
	for (unsigned k = 0; k < N_WIN; k++) {
		emit8(&o, 255);
		emit8(&o, 2); /* readable and writable, the next one follows at once */
		emit(&o, win, sizeof(win));
	}
	emit(&o, d, sizeof(d));
	for (unsigned k = 0; k <= SEED_SIZE; k++)
		emit8(&o, k % 4 * 4);
	emit(&o, turns, sizeof(turns));
	return o.n;
}
