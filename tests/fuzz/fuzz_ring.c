/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest whose rings, windows and buffers are the fuzzer's bytes, against the whole data path: pop, walk,
 * fetch, parse, submit, give back. Every window is an allocation of its own, so that an access outside of one
 * is the sanitizer's finding; the rules that a sanitizer does not know are checked here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/adapter.h"
#include "server/payload/payload.h"
#include "server/ring/ring.h"

#define BASE     0x100000ull /* IOBA of the first window */
#define DISK_LEN 65536u
#define N_WIN    3

#define must(x)                                                                                              \
	do {                                                                                                 \
		if (!(x)) {                                                                                  \
			fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #x);                      \
			abort();                                                                             \
		}                                                                                            \
	} while (0)

/* The fuzzer's bytes, consumed from the front; zeroes when they are used up. */
struct bytes {
	const uint8_t *p;
	size_t n;
};

static void take(struct bytes *b, void *dst, size_t n)
{
	size_t k = n < b->n ? n : b->n;

	memset(dst, 0, n);
	if (k)
		memcpy(dst, b->p, k);
	b->p += k;
	b->n -= k;
}

static uint8_t take8(struct bytes *b)
{
	uint8_t v;

	take(b, &v, 1);
	return v;
}

struct fuzz_disk {
	struct vio_backend be; /* first */
	const struct vio_wtable *windows;
	struct vio_req *held[256];
	unsigned n_held;
	bool async;
	uint8_t bytes[DISK_LEN];
};

/* What every backend may rely on. */
static void check_request(const struct fuzz_disk *d, const struct vio_req *r)
{
	uint64_t sum = 0;

	must(r->fault == VIO_ST_OK);
	must(vio_range_ok(r->offset, r->length, DISK_LEN));
	must(r->offset % d->be.block_size == 0 && r->length % d->be.block_size == 0);
	for (unsigned i = 0; i < r->n_iov; i++) {
		const uint8_t *p = r->iov[i].iov_base;
		bool inside = false;

		for (unsigned k = 0; k < d->windows->n; k++) {
			const struct vio_window *w = &d->windows->w[k];
			uint8_t perm = r->io == VIO_IO_READ ? TCE_WRITE : TCE_READ;

			inside |= p >= w->va && (uint64_t)(p - w->va) + r->iov[i].iov_len <= w->len &&
				  (w->perm & perm);
		}
		must(inside);
		sum += r->iov[i].iov_len;
	}
	if (r->io == VIO_IO_READ || r->io == VIO_IO_WRITE)
		must(sum == r->length && sum == r->data_len);
}

static void do_io(struct fuzz_disk *d, struct vio_req *r)
{
	uint64_t off = r->offset;

	for (unsigned i = 0; i < r->n_iov; i++) {
		if (r->io == VIO_IO_READ)
			memcpy(r->iov[i].iov_base, d->bytes + off, r->iov[i].iov_len);
		else
			memcpy(d->bytes + off, r->iov[i].iov_base, r->iov[i].iov_len);
		off += r->iov[i].iov_len;
	}
	r->result = 0;
}

static unsigned disk_submit(struct vio_backend_queue *bq, struct vio_req *const r[], unsigned n,
			    struct vio_req *done[])
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

static unsigned disk_poll(struct vio_backend_queue *bq, struct vio_req *done[], unsigned max)
{
	struct fuzz_disk *d = (struct fuzz_disk *)bq->be;
	unsigned n = 0;

	for (; n < max && d->n_held > 0; n++) {
		done[n] = d->held[--d->n_held];
		do_io(d, done[n]);
	}
	return n;
}

static const struct vio_backend_ops disk_ops = {.name = "fuzz", .submit = disk_submit, .poll = disk_poll};

/* One guest. */
struct guest {
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint8_t *win[N_WIN];
	struct vio_wtable *table;
	uint16_t size;
};

static void add_window(struct guest *g, uint64_t at, uint64_t len, void *va, uint8_t perm, uint16_t id)
{
	struct vio_window w = {
		.at = {at}, .len = len, .va = va, .perm = perm, .role = VIO_WINDOW_BUFFERS, .id = id};
	struct vio_wtable *t;

	must(vio_wtable_add(g->table, &w, &t) == 0);
	free(g->table);
	g->table = t;
}

/* Buffer windows of odd sizes next to each other, filled with input; then the rings, exactly as long as they
 * must be. */
static void make_guest(struct guest *g, struct bytes *b)
{
	uint64_t at = BASE;

	g->size = (uint16_t)(4u << (take8(b) % 5));
	for (unsigned i = 0; i < N_WIN; i++) {
		uint64_t len = 512 + 8ull * take8(b);
		uint8_t how = take8(b);

		g->win[i] = malloc(len);
		must(g->win[i]);
		take(b, g->win[i], len / 4);
		memset(g->win[i] + len / 4, 0, len - len / 4);
		add_window(g, at, len, g->win[i], how % 3 + 1, (uint16_t)i);
		at += len + (how & 0x80 ? 16 : 0);
	}
	g->desc = calloc(g->size, 16);
	g->avail = calloc(1, 6 + 2ull * g->size);
	g->used = calloc(1, 6 + 8ull * g->size);
	must(g->desc && g->avail && g->used);
	add_window(g, 0x200000, 16ull * g->size, g->desc, TCE_READ, 10);
	add_window(g, 0x210000, 6 + 2ull * g->size, g->avail, TCE_READ, 11);
	add_window(g, 0x220000, 6 + 8ull * g->size, g->used, TCE_WRITE, 12);
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
		g->desc[i] = d;
	}
	for (unsigned i = 0; i <= g->size; i++) {
		uint8_t h = take8(b);

		g->avail->ring[i] = vio_le16((uint16_t)(h & 0x80 ? h * 257u : h % g->size));
	}
}

static void drop_guest(struct guest *g)
{
	for (unsigned i = 0; i < N_WIN; i++)
		free(g->win[i]);
	free(g->desc);
	free(g->avail);
	free(g->used);
	free(g->table);
}

/* The one thing that needs a hypervisor: sending a notification. Made once, for all inputs. */
static struct phyp_vcpu *vcpu_of_machine(uint32_t *unit)
{
	static struct phyp_vcpu *vcpu;
	static uint32_t the_unit;
	struct phyp_profile p;
	struct phyp_machine *m;
	struct phyp_part *part;
	struct vio_err err;

	if (!vcpu) {
		phyp_profile_default(&p, 1, 16, 16);
		must(phyp_local_create(&p, &m, &err) == 0);
		must(phyp_local_open(m, "vios", &part, &err) == 0);
		must(phyp_vcpu_create(part, &vcpu, &err) == 0);
		the_unit = phyp_unit(part, 0)->unit;
	}
	*unit = the_unit;
	return vcpu;
}

static void turn(struct vio_squeue *q, struct guest *g, struct fuzz_disk *d, struct bytes *b)
{
	uint16_t used = q->used_idx;
	uint8_t step = take8(b), fault = q->fault;
	unsigned moved;

	g->avail->idx =
		vio_le16((uint16_t)(vio_le16(g->avail->idx) + (step & 0x80 ? step * 300u : step % 5)));
	d->async = step & 0x40;
	moved = vio_squeue_poll(q);
	must(q->in_flight <= q->size);
	must(moved <= 3 * VIO_BURST);
	/* The private index: a guest may have its own used ring overwritten by a disk read. */
	must((uint16_t)(q->used_idx - used) <= q->size);
	if (fault != VIO_ST_OK) {
		must(q->fault == fault);
		must(q->used_idx == used);
	}
	if (step & 0x20)
		vio_squeue_arm(q);
	else if (step & 0x10)
		vio_squeue_park(q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes b = {data, size};
	struct guest g = {0};
	struct fuzz_disk *d = calloc(1, sizeof(*d));
	struct vio_squeue *q = aligned_alloc(VIO_CACHE_LINE, VIO_ALIGN_UP(sizeof(*q), VIO_CACHE_LINE));
	const struct vio_wtable *table;
	struct vio_backend_queue bq = {.be = &d->be};
	uint8_t how = take8(&b);
	struct vio_err err;

	must(d && q);
	make_guest(&g, &b);
	table = d->windows = g.table;
	d->be = (struct vio_backend){.ops = &disk_ops,
				     .size = DISK_LEN,
				     .block_size = 512,
				     .can_discard = true,
				     .can_zero = true,
				     .can_flush = true};
	memset(q, 0, sizeof(*q));
	q->ring = &vio_ring_direct;
	q->payload = &vio_payload_direct;
	q->dev = &vio_dev_blk;
	q->backend = &bq;
	q->size = g.size;
	q->notify = how & 1 ? VIO_NOTIFY_POLL : VIO_NOTIFY_SUPPRESS;
	q->event_idx = how & 2;
	q->indirect = how & 4;
	q->vcpu = vcpu_of_machine(&q->unit);
	q->version = VIO_PROTO_V2;
	q->windows_src = &table;
	q->place = (struct vio_sq_place){g.size, {0x200000}, {0x210000}, {0x220000}};
	q->req = aligned_alloc(VIO_CACHE_LINE, g.size * sizeof(struct vio_req));
	must(q->req);
	memset(q->req, 0, g.size * sizeof(struct vio_req));
	must(q->ring->attach(q, &err) == 0 && q->payload->attach(q, &err) == 0);
	for (unsigned i = 0; i < 12; i++)
		turn(q, &g, d, &b);
	/* Whatever happened, the queue can be stopped. */
	vio_store_release(&q->ctl, VIO_SQ_STOP);
	for (unsigned i = 0; i < 12 && q->in_flight; i++)
		vio_squeue_poll(q);
	must(q->in_flight == 0);
	q->payload->detach(q);
	q->ring->detach(q);
	free(q->req);
	free(q);
	free(d);
	drop_guest(&g);
	return 0;
}
