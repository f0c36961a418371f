/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_blk.h>

#include "vio/atomics.h"
#include "world.h"

#define S_CRQ   0x1000ull
#define S_LOCAL 0x100000ull
#define S_DISK  0x800000ull
#define LOCAL   (4ull << 20)

/* ---------------------------------------------------------------------- a backend ---- */

static void do_io(struct w_backend *b, struct vio_io *r)
{
	uint64_t off = r->offset;

	r->result = r->op == VIO_IO_FLUSH && b->fail_flush ? b->fail_flush : b->fail;
	if (r->result)
		return;
	for (unsigned i = 0; i < r->n_iov; i++) {
		if (r->op == VIO_IO_READ)
			memcpy(r->iov[i].iov_base, b->disk + off, r->iov[i].iov_len);
		else if (r->op == VIO_IO_WRITE)
			memcpy(b->disk + off, r->iov[i].iov_base, r->iov[i].iov_len);
		off += r->iov[i].iov_len;
	}
	if (r->op == VIO_IO_ZERO)
		memset(b->disk + off, 0, r->length);
}

static unsigned b_submit(struct vio_backend_queue *bq, struct vio_io *const r[], unsigned n,
			 struct vio_io *done[])
{
	struct w_backend *b = vio_container_of(bq->be, struct w_backend, be);
	unsigned fin = 0;

	for (unsigned i = 0; i < n; i++) {
		if (b->submits < VIO_ARRAY_SIZE(b->seen))
			b->seen[b->submits] = r[i]->op;
		b->submits++;
		b->last_io = r[i]->op;
		b->last_off = r[i]->offset;
		b->last_len = r[i]->length;
		b->last_unmap = r[i]->unmap;
		if (b->async) {
			b->held[b->n_held++] = r[i];
			continue;
		}
		do_io(b, r[i]);
		done[fin++] = r[i];
	}
	return fin;
}

static unsigned b_poll(struct vio_backend_queue *bq, struct vio_io *done[], unsigned max)
{
	struct w_backend *b = vio_container_of(bq->be, struct w_backend, be);
	unsigned n = b->async ? 0 : b->n_held;

	/* async: a test lets them go by clearing the flag. */
	n = n < max ? n : max;
	for (unsigned i = 0; i < n; i++) {
		do_io(b, b->held[i]);
		if (b->fail_poll)
			b->held[i]->result = b->fail_poll;
		done[i] = b->held[i];
	}
	memmove(b->held, b->held + n, (b->n_held - n) * sizeof(b->held[0]));
	b->n_held -= n;
	return n;
}

static void *b_at(struct vio_backend *be, uint64_t off, uint64_t len, struct gla *logical)
{
	struct w_backend *b = vio_container_of(be, struct w_backend, be);

	(void)len;
	*logical = gla_add(b->disk_gla, off);
	return b->disk + off;
}

static const struct vio_backend_ops plain_ops = {
	.name = "test", .submit = b_submit, .poll = b_poll};
static const struct vio_backend_ops at_ops = {
	.name = "test-at", .submit = b_submit, .poll = b_poll, .at = b_at};

struct vio_device *w_disk(struct vio_backend *be)
{
	static struct vio_disk d;

	vio_disk_init(&d, be);
	return &d.dev;
}

/* ------------------------------------------------------------------------ machine ---- */

static void map(struct phyp_vcpu *v, const struct phyp_unit_info *u, uint64_t from, uint64_t to,
		uint64_t perm)
{
	for (uint64_t a = from; a < to; a += 4096)
		assert_int_equal(h_put_tce(v, u->liobn, ioba_add(u->window, a), a | perm),
				 H_SUCCESS);
}

static void add_window(struct world *w, uint64_t from, uint64_t to, uint8_t perm, uint8_t role,
		       uint16_t id)
{
	struct vio_window win = {
		.at = w_at(w, from),
		.len = to - from,
		.va = w->gmem + from,
		.perm = perm,
		.role = role,
		.id = id,
	};
	struct vio_wtable *t;

	assert_int_equal(vio_wtable_add(w->windows, &win, &t), 0);
	free((void *)(uintptr_t)w->windows);
	w->windows = t;
}

static void guest_up(struct world *w)
{
	const uint64_t rw = TCE_READ | TCE_WRITE;
	int64_t rc;

	w->gmem = phyp_mem(w->gp, (struct gla){0}, phyp_mem_size(w->gp));
	assert_non_null(w->gmem);
	map(w->gv, w->gu, W_CRQ, W_CRQ + 4096, rw);
	map(w->gv, w->gu, W_DESC, W_USED, TCE_READ);
	map(w->gv, w->gu, W_USED, W_USED + 0x10000, rw);
	map(w->gv, w->gu, W_BUF, W_RO, rw);
	map(w->gv, w->gu, W_RO, W_HOLE, TCE_READ);
	add_window(w, W_DESC, W_USED, TCE_READ, VIO_WINDOW_RINGS, 1);
	add_window(w, W_USED, W_USED + 0x10000, rw, VIO_WINDOW_RINGS, 2);
	add_window(w, W_BUF, W_RO, rw, VIO_WINDOW_BUFFERS, 3);
	add_window(w, W_RO, W_HOLE, TCE_READ, VIO_WINDOW_BUFFERS, 4);
	rc = h_reg_crq(w->gv, w->gu->unit, ioba_add(w->gu->window, W_CRQ), 4096);
	assert_true(rc == H_SUCCESS || rc == H_CLOSED);
	w->crq = (struct phyp_crq){.entry = (uint64_t *)(void *)(w->gmem + W_CRQ), .n = 4096 / 16};
}

int w_setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct phyp_profile p;
	struct vio_err err = {{0}};
	int64_t rc;

	phyp_profile_default(&p, 1, 16, 16);
	if (phyp_local_create(&p, &w->m, &err) || phyp_local_open(w->m, "vios", &w->sp, &err) ||
	    phyp_local_open(w->m, "guest0", &w->gp, &err) ||
	    phyp_vcpu_create(w->sp, &w->sv, &err) || phyp_vcpu_create(w->gp, &w->gv, &err)) {
		fprintf(stderr, "%s\n", err.msg);
		return -1;
	}
	w->su = phyp_unit(w->sp, 0);
	w->gu = phyp_unit(w->gp, 0);
	map(w->sv, w->su, 0, 16ull << 20, TCE_READ | TCE_WRITE);
	rc = h_reg_crq(w->sv, w->su->unit, ioba_add(w->su->window, S_CRQ), 4096);
	assert_true(rc == H_SUCCESS || rc == H_CLOSED);
	guest_up(w);
	assert_int_equal(phyp_alias_set(w->sp, w->su->unit, PHYP_ALIAS_RDMA, &err), 0);
	w->b.disk_gla = (struct gla){S_DISK};
	w->b.disk = phyp_mem(w->sp, w->b.disk_gla, W_DISK_LEN);
	w->b.be = (struct vio_backend){
		.ops = &plain_ops,
		.size = W_DISK_LEN,
		.block_size = 512,
		.can_discard = true,
		.can_zero = true,
		.can_flush = true,
		.id = "test-disk-0123456789",
	};
	for (uint64_t i = 0; i < W_DISK_LEN; i++)
		w->b.disk[i] = (uint8_t)(i * 2654435761u >> 13);
	*state = w;
	return 0;
}

int w_teardown(void **state)
{
	struct world *w = *state;

	w_drop(w);
	free((void *)(uintptr_t)w->windows);
	phyp_vcpu_destroy(w->gv);
	phyp_vcpu_destroy(w->sv);
	phyp_close(w->gp);
	phyp_close(w->sp);
	phyp_local_destroy(w->m);
	free(w);
	return 0;
}

/* -------------------------------------------------------------------------- queue ---- */

void w_drop(struct world *w)
{
	if (!w->q)
		return;
	w->q->payload->detach(w->q);
	w->q->ring->detach(w->q);
	free(w->q->req);
	free(w->q);
	w->q = NULL;
	w->b.n_held = 0;
}

static void set_start(struct world *w, uint16_t start)
{
	const struct w_cfg *c = &w->cfg;
	const bool packed = c->layout >> VIRTIO_F_RING_PACKED & 1;

	mock_init(&w->ring, c->size,
		  c->layout | (c->event_idx ? 1ull << VIRTIO_RING_F_EVENT_IDX : 0),
		  packed ? (void *)w->used : w->desc, w->avail,
		  packed ? (void *)(w->gmem + W_EVENT) : w->used);
	w->ring.next = w->ring.used = w->ring.published = start;
	if (packed)
		return;
	w->avail->idx = vio_le16(start);
	w->used->idx = vio_le16(start);
}

void w_queue(struct world *w, const struct w_cfg *cfg)
{
	struct vio_squeue *q;
	struct vio_err err = {{0}};
	size_t bytes = cfg->size * sizeof(struct vio_req);

	w_drop(w);
	w->cfg = *cfg;
	memset(w->gmem + W_DESC, 0, W_USED + 0x10000 - W_DESC);
	w->desc = (void *)(w->gmem + W_DESC);
	w->avail = (void *)(w->gmem + W_AVAIL);
	w->used = (void *)(w->gmem + W_USED);
	set_start(w, cfg->start);
	w->b.be.ops = cfg->at ? &at_ops : &plain_ops;
	w->b.async = false;
	w->b.fail = w->b.fail_flush = w->b.fail_poll = 0;
	w->b.submits = 0;
	w->bq.be = &w->b.be;
	q = w->q = aligned_alloc(VIO_CACHE_LINE, VIO_ALIGN_UP(sizeof(*q), VIO_CACHE_LINE));
	memset(q, 0, sizeof(*q));
	q->req = aligned_alloc(VIO_CACHE_LINE, bytes);
	memset(q->req, 0, bytes);
	q->ring = vio_ring_level(cfg->ring, cfg->layout);
	q->payload = vio_payload_level(cfg->payload);
	w->dq = (struct vio_disk_queue){.dq = {w_disk(&w->b.be)}, .be = &w->b.be, .bq = &w->bq};
	q->dev = &vio_disk_queue_ops;
	q->dq = &w->dq.dq;
	q->size = cfg->size;
	q->event_idx = cfg->event_idx;
	vio_notify_init(&q->notify, vio_notify_level(cfg->notify), cfg->event_idx);
	q->indirect = cfg->indirect;
	q->in_order = w->ring.in_order;
	q->vcpu = w->sv;
	q->windows_src = &w->windows;
	q->liobn = w->su->liobn;
	q->remote_liobn = w->su->remote_liobn;
	q->unit = w->su->unit;
	q->version = VIO_PROTO_V2;
	q->place = (struct vio_sq_place){cfg->size, w_at(w, W_DESC), w_at(w, W_AVAIL),
					 w_at(w, W_USED)};
	if (w->ring.packed)
		q->place = (struct vio_sq_place){cfg->size, w_at(w, W_USED), w_at(w, W_AVAIL),
						 w_at(w, W_EVENT)};
	q->local_mem = phyp_mem(w->sp, (struct gla){S_LOCAL}, LOCAL);
	q->local_at = ioba_add(w->su->window, S_LOCAL);
	q->local_len = cfg->local ? cfg->local : LOCAL;
	q->last_avail = q->used_idx = cfg->start;
	if (q->ring->attach(q, &err) || q->payload->attach(q, &err))
		fail_msg("%s", err.msg);
}

struct ioba w_at(const struct world *w, uint64_t gla)
{
	return ioba_add(w->gu->window, gla);
}

/* ---------------------------------------------------------------- the guest's ring ---- */

void w_desc(struct world *w, unsigned i, uint64_t gla, uint32_t len, unsigned flags, unsigned next)
{
	mock_desc(&w->ring, i, w_at(w, gla).v, len, flags, next);
}

void w_avail(struct world *w, uint16_t head)
{
	mock_entry(&w->ring, head);
}

void w_publish(struct world *w)
{
	mock_publish(&w->ring);
}

void w_kick(struct world *w)
{
	vio_store_release(&w->q->kicked, true);
}

bool w_used(struct world *w, uint32_t *id, uint32_t *len)
{
	return mock_used(&w->ring, id, len) > 0;
}

unsigned w_notifications(struct world *w)
{
	uint64_t hi, lo;
	unsigned n = 0;

	while (phyp_crq_pop(&w->crq, &hi, &lo)) {
		struct vio_msg m;

		assert_int_equal(vio_msg_decode(hi, lo, &m), 0);
		assert_int_equal(m.op, VIO_OP_USED);
		assert_int_equal(m.arg16, w->q->index);
		n++;
	}
	return n;
}

unsigned w_run(struct world *w)
{
	unsigned sum = 0, n;

	for (unsigned turn = 0; turn < 1000; turn++) {
		n = vio_squeue_poll(w->q);
		if (n == 0)
			return sum;
		sum += n;
	}
	fail_msg("the queue is never idle");
	return sum;
}

void w_blk(struct world *w, uint16_t head, uint32_t type, uint64_t sector, uint64_t hdr,
	   uint64_t data, uint32_t len)
{
	struct virtio_blk_outhdr h = {.type = vio_le32(type), .sector = vio_le64(sector)};
	unsigned data_flags =
		type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID ? VRING_DESC_F_WRITE : 0;

	memcpy(w->gmem + hdr, &h, sizeof(h));
	w->gmem[hdr + sizeof(h)] = 0xee;
	w_desc(w, head, hdr, sizeof(h), VRING_DESC_F_NEXT, len ? head + 1u : head + 2u);
	w_desc(w, head + 1u, data, len, VRING_DESC_F_NEXT | data_flags, head + 2u);
	w_desc(w, head + 2u, hdr + sizeof(h), 1, VRING_DESC_F_WRITE, 0);
}

uint64_t w_hcalls(const struct world *w, uint64_t op)
{
	return phyp_vcpu_counters(w->sv)->hcall[phyp_op_index(op)];
}

uint64_t w_rdma_bytes(const struct world *w)
{
	return phyp_vcpu_counters(w->sv)->rdma_bytes;
}
