/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Payload by RDMA: the server copies every byte, through registers when it is small. Data lies in
 * bounce pages of the server's own memory while the backend works on it, or, when the backend's
 * disk is server memory, is copied straight between it and the guest.
 */
#include <stdlib.h>

#include "server/payload/arena.h"
#include "server/payload/payload.h"
#include "server/payload/snapshot.h"
#include "server/core/rdma.h"

struct rdma {
	struct vio_arena *arena;
	uint8_t *mem;   /* its pages */
	struct ioba at; /* their place in the local window */
	void *scratch;  /* one page for tables that don't fit the registers */
	struct ioba scratch_at;
	uint8_t *out; /* VIO_PLAIN_OUT bytes, in which a frame is put together */
};

static void rdma_detach(struct vio_squeue *q)
{
	struct rdma *p = q->payload_priv;

	if (p)
		free(p->arena);
	free(p);
	q->payload_priv = NULL;
}

/* IOBA of the server partition's logical address 0: the adapter maps its local window 1:1. */
static struct ioba local_base(const struct vio_squeue *q)
{
	const struct phyp_part *part = phyp_vcpu_part(q->vcpu);

	for (unsigned i = 0; i < phyp_n_units(part); i++) {
		if (phyp_unit(part, i)->liobn == q->liobn)
			return phyp_unit(part, i)->window;
	}
	return (struct ioba){0};
}

static int rdma_attach(struct vio_squeue *q, struct vio_err *err)
{
	struct rdma *p = calloc(1, sizeof(*p));
	uint64_t rest;

	q->payload_priv = p;
	if (!p)
		return vio_err_set(err, -ENOMEM, "queue %u: no memory for its bounce buffers",
				   q->index);
	p->scratch = vio_sq_carve(q, VIO_ARENA_PAGE, VIO_ARENA_PAGE, &p->scratch_at);
	p->out = vio_sq_carve(q, VIO_PLAIN_OUT, VIO_ARENA_PAGE, &(struct ioba){0});
	rest = p->out ? (q->local_len - q->local_used) / VIO_ARENA_PAGE * VIO_ARENA_PAGE : 0;
	if (rest < VIO_MAX_DATA) {
		rdma_detach(q);
		return vio_err_set(
			err, -ENOSPC,
			"queue %u: payload rdma needs %llu bytes of server memory for bounce buffers, %llu are left; give the server partition more memory",
			q->index, VIO_RDMA_LOCAL_BYTES,
			(unsigned long long)(q->local_len - q->local_used));
	}
	p->mem = vio_sq_carve(q, rest, VIO_ARENA_PAGE, &p->at);
	p->arena = vio_arena_new((uint32_t)(rest / VIO_ARENA_PAGE));
	if (!p->arena) {
		rdma_detach(q);
		return vio_err_set(err, -ENOMEM, "queue %u: no memory for its bounce buffers",
				   q->index);
	}
	q->local_base = local_base(q);
	return 0;
}

static uint8_t fetch_one(struct vio_squeue *q, struct vio_req *r, uint32_t len)
{
	uint64_t buf[PHYP_REGS];
	uint8_t *dst = r->hdr, why;

	if (!VIO_SNAPSHOTS)
		r->hdr_at = r->hdr;
	for (unsigned i = 0; len > 0; i++) {
		uint32_t part;

		if (i == r->n_readable)
			return VIO_ST_REQUEST;
		part = r->seg[i].len < len ? r->seg[i].len : len;
		why = vio_rdma_read(q, r->seg[i].at, part, buf);
		if (why != VIO_ST_OK)
			return why;
		memcpy(dst, buf, part);
		dst += part;
		len -= part;
	}
	return VIO_ST_OK;
}

static void rdma_fetch(struct vio_squeue *q, struct vio_req *const r[], unsigned n, uint32_t len)
{
	static_assert(sizeof(r[0]->hdr) <= H_READ_RDMA_MAX, "a header fits the registers");
	for (unsigned i = 0; i < n; i++) {
		if (r[i]->fault == VIO_ST_OK)
			r[i]->fault = fetch_one(q, r[i], len);
	}
}

static uint8_t rdma_read_once(struct vio_squeue *q, struct ioba at, void *buf, uint32_t len)
{
	struct rdma *p = q->payload_priv;
	uint64_t regs[PHYP_REGS];
	uint8_t why;

	if (len > VIO_ARENA_PAGE)
		return VIO_ST_DESC_RANGE;
	if (len > H_READ_RDMA_MAX) {
		why = vio_rdma_copy(q, at, p->scratch_at, len, true);
		if (why == VIO_ST_OK)
			memcpy(buf, p->scratch, len);
		return why;
	}
	why = vio_rdma_read(q, at, len, regs);
	if (why == VIO_ST_OK)
		memcpy(buf, regs, len);
	return why;
}

/* Copy between r->data[] and [local, local + r->data_len), as r->to_guest says. */
static uint8_t copy_data(struct vio_squeue *q, const struct vio_req *r, struct ioba local)
{
	for (unsigned i = 0; i < r->n_data; i++) {
		uint8_t why = vio_rdma_copy(q, r->data[i].at, local, r->data[i].len, !r->to_guest);

		if (why != VIO_ST_OK)
			return why;
		local = ioba_add(local, r->data[i].len);
	}
	return VIO_ST_OK;
}

static uint32_t pages_of(const struct vio_req *r)
{
	return (r->data_len + VIO_ARENA_PAGE - 1) / VIO_ARENA_PAGE;
}

/* Where the bounce buffer is in the server's window. */
static struct ioba bounce_at(const struct rdma *p, const struct vio_req *r)
{
	return ioba_add(p->at, (uint64_t)((const uint8_t *)r->bounce - p->mem));
}

static void give_bounce(struct rdma *p, struct vio_req *r)
{
	if (!r->bounce)
		return;
	vio_arena_give(p->arena,
		       (uint32_t)((uint64_t)((uint8_t *)r->bounce - p->mem) / VIO_ARENA_PAGE),
		       pages_of(r));
	r->bounce = NULL;
	r->n_iov = 0;
}

static void rdma_get(struct vio_squeue *q, struct vio_req *const r[], unsigned n)
{
	struct rdma *p = q->payload_priv;
	bool full = false;

	for (unsigned i = 0; i < n; i++) {
		int64_t page = -1;

		r[i]->n_iov = 0;
		r[i]->waits = false;
		r[i]->bounce = NULL;
		if (r[i]->fault != VIO_ST_OK || r[i]->data_len == 0)
			continue;
		/* In order: a small request must not pass a large one for ever. */
		if (!full)
			page = vio_arena_take(p->arena, pages_of(r[i]));
		if (page < 0) {
			r[i]->waits = full = true;
			continue;
		}
		r[i]->bounce = p->mem + (uint64_t)page * VIO_ARENA_PAGE;
		if (!r[i]->to_guest)
			r[i]->fault = copy_data(q, r[i], bounce_at(p, r[i]));
		if (r[i]->fault != VIO_ST_OK) {
			give_bounce(p, r[i]);
			continue;
		}
		r[i]->iov[0] = (struct iovec){.iov_base = r[i]->bounce, .iov_len = r[i]->data_len};
		r[i]->n_iov = 1;
	}
}

static void rdma_put(struct vio_squeue *q, struct vio_req *const r[], unsigned n)
{
	struct rdma *p = q->payload_priv;

	for (unsigned i = 0; i < n; i++) {
		if (!r[i]->bounce)
			continue;
		if (r[i]->to_guest && r[i]->fault == VIO_ST_OK)
			r[i]->fault = copy_data(q, r[i], bounce_at(p, r[i]));
		give_bounce(p, r[i]);
	}
}

static void rdma_plain_give(struct rdma *p, const struct vio_plain *v)
{
	vio_arena_give(p->arena, (uint32_t)((uint64_t)(v->va - p->mem) / VIO_ARENA_PAGE),
		       (v->len + VIO_ARENA_PAGE - 1) / VIO_ARENA_PAGE);
}

static unsigned rdma_plain(struct vio_squeue *q, struct vio_plain v[], unsigned n, uint8_t perm)
{
	struct rdma *p = q->payload_priv;
	unsigned i;

	for (i = 0; i < n; i++) {
		int64_t page;

		v[i].va = p->out;
		if (perm == TCE_WRITE)
			continue;
		page = vio_arena_take(p->arena, (v[i].len + VIO_ARENA_PAGE - 1) / VIO_ARENA_PAGE);
		if (page < 0)
			break;
		v[i].va = p->mem + (uint64_t)page * VIO_ARENA_PAGE;
		if (vio_rdma_copy(q, v[i].at, ioba_add(p->at, (uint64_t)page * VIO_ARENA_PAGE),
				  v[i].len, true) != VIO_ST_OK) {
			rdma_plain_give(p, &v[i]); /* pop's request will say why */
			break;
		}
	}
	return i;
}

static void rdma_plain_put(struct vio_squeue *q, const struct vio_plain v[], unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		rdma_plain_give(q->payload_priv, &v[i]);
}

static uint8_t rdma_plain_out(struct vio_squeue *q, const struct vio_plain *v, struct ioba from,
			      uint32_t len)
{
	return vio_rdma_copy(q, v->at, from, len, false);
}

static void rdma_move(struct vio_squeue *q, struct vio_req *r, void *local, struct ioba local_at)
{
	(void)local;
	r->bounce = NULL;
	r->n_iov = 0;
	if (r->fault == VIO_ST_OK)
		r->fault = copy_data(q, r, local_at);
}

static void rdma_status(struct vio_squeue *q, struct vio_req *const r[], unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (r[i]->fault == VIO_ST_OK)
			r[i]->fault = vio_rdma_write(q, r[i]->status_at, 1, &r[i]->dev_status);
	}
}

const struct vio_payload_ops vio_payload_rdma = {
	.name = "rdma",
	.attach = rdma_attach,
	.detach = rdma_detach,
	.fetch = rdma_fetch,
	.read = rdma_read_once,
	.get = rdma_get,
	.plain = rdma_plain,
	.plain_put = rdma_plain_put,
	.plain_out = rdma_plain_out,
	.put = rdma_put,
	.move = rdma_move,
	.status = rdma_status,
};
