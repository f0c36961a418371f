/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "guest/dev/buffered.h"

#define PAGE 4096u

static struct vio_buffered *buffered_of(struct vio_front *f)
{
	return vio_container_of(f, struct vio_buffered, f);
}

/* -------------------------------------------------------------------------- restarts ---- */

static unsigned buffered_held(const struct vio_front *f)
{
	const struct vio_buffered *d = vio_container_of(f, const struct vio_buffered, f);
	unsigned n = 0;

	for (unsigned i = 0; i < d->kind->n_queues; i++)
		n += d->q[i].n_posted;
	return n;
}

static int buffered_same(struct vio_front *f, struct vio_err *err)
{
	const struct vio_transport_info *was = &buffered_of(f)->info,
					*is = vio_transport_get_info(f->t);

	if (is->version == was->version && is->features == was->features &&
	    is->queue_size == was->queue_size && memcmp(&is->arm, &was->arm, sizeof(is->arm)) == 0)
		return 0;
	return vio_err_set(
		err, -ENOTSUP,
		"the VIO server came back with other abilities (protocol %u, arm %s, features 0x%" PRIx64
		", queues of %u); open the device anew",
		is->version, is->arm.name, is->features, is->queue_size);
}

static const struct vio_front_ops buffered_ops = {
	.device = "device",
	.item = "buffer",
	.fate = "posted again",
	.held = buffered_held,
	.same = buffered_same,
};

static void buffered_unmap(struct vio_buffered_queue *q, struct vio_buf *b)
{
	struct vio_dma_map *m = &b->map;

	if (m->n_seg == 0)
		return;
	q->v.dma->ops->unmap(q->v.dma, &m, 1);
	m->n_seg = 0;
}

/* After a restart: what the device had is mapped no more, and to be posted again. */
static void buffered_revive(struct vio_buffered *d, struct vio_buffered_queue *q)
{
	q->v.dma->ops->lost(q->v.dma);
	for (unsigned i = 0; i < q->n; i++)
		buffered_unmap(q, &q->buf[i]);
	q->again = q->n_posted > 0;
	q->v.epoch = d->f.epoch;
	q->v.idle_tick = 0;
}

/* -------------------------------------------------------------------------- data path ---- */

/* Into the ring, not published. */
static int buffered_add(struct vio_buffered_queue *q, struct vio_buf *b)
{
	struct vio_dma_map *m = &b->map;
	int rc;

	for (m->n_seg = 0; m->n_seg < q->parts; m->n_seg++) {
		const struct vio_gbuf *g = &b->g[m->n_seg];

		m->seg[m->n_seg] = (struct vio_dma_seg){
			.addr = g->dev, .len = g->len, .dev_writes = g->dev_writes};
	}
	rc = q->v.dma->ops->map(q->v.dma, &m, 1);
	if (rc != 1) {
		m->n_seg = 0;
		return -EAGAIN;
	}
	if (vio_vring_add(q->v.vr, m->seg, q->parts, b) == 0)
		return 0;
	buffered_unmap(q, b);
	return -EAGAIN;
}

/* Those that a server took with it, in their order. */
static void post_again(struct vio_buffered_queue *q)
{
	bool any = false;

	for (;;) {
		struct vio_buf *next = NULL;

		for (unsigned i = 0; i < q->n; i++) {
			struct vio_buf *b = &q->buf[i];

			if (b->posted && b->map.n_seg == 0 &&
			    (!next || (int32_t)(b->seq - next->seq) < 0))
				next = b;
		}
		q->again = next != NULL;
		if (!next || buffered_add(q, next))
			break;
		any = true;
	}
	if (any)
		vio_fq_publish(&q->v);
}

struct vio_buf *vio_buffered_get(struct vio_buffered *d, unsigned qi)
{
	struct vio_buffered_queue *q = &d->q[qi];

	return q->n_free ? q->free[--q->n_free] : NULL;
}

void vio_buffered_put(struct vio_buffered *d, unsigned qi, struct vio_buf *b)
{
	struct vio_buffered_queue *q = &d->q[qi];

	q->free[q->n_free++] = b;
}

/* The payload level gives the first `n` parts back; what: as the device left them, or never seen by it. */
static void buffered_put(struct vio_buffered_queue *q, struct vio_buf *b, unsigned n, bool seen)
{
	for (unsigned i = 0; i < n; i++) {
		struct vio_gbuf *g = &b->g[i];

		g->dev_writes = g->dev_writes && seen; /* else nothing to copy back */
		q->v.payload->ops->put(q->v.payload, &g, 1);
	}
}

static int buffered_post(struct vio_buffered_queue *q, struct vio_buf *b)
{
	struct vio_gbuf *const g[] = {&b->g[0], &b->g[1]};
	int rc;

	b->g[0] = (struct vio_gbuf){.app = b->gla, .len = b->len, .dev_writes = q->to_guest};
	b->g[1] = (struct vio_gbuf){
		.app = gla_add(b->gla, q->len), .len = q->len, .dev_writes = true};
	rc = q->v.payload->ops->get(q->v.payload, g, q->parts);
	if (rc != (int)q->parts) {
		buffered_put(q, b, rc > 0 ? (unsigned)rc : 0, false);
		return -EAGAIN;
	}
	rc = buffered_add(q, b);
	if (rc) {
		buffered_put(q, b, q->parts, false);
		return rc;
	}
	b->posted = true;
	b->seq = q->seq++;
	q->n_posted++;
	q->v.idle_tick = 0;
	vio_fq_publish(&q->v);
	return 0;
}

int vio_buffered_post(struct vio_buffered *d, unsigned qi, struct vio_buf *b)
{
	struct vio_buffered_queue *q = &d->q[qi];
	int rc = -EAGAIN;

	if (!vio_gate_enter(&d->f.gate, &q->v.pass))
		return rc;
	if (q->v.epoch == d->f.epoch && !q->again)
		rc = buffered_post(q, b);
	vio_gate_leave(&q->v.pass);
	return rc;
}

/* At most max used elements to done[]. -EPROTO: nonsense. */
static int buffered_take(struct vio_fq *v, void *ctx, unsigned max)
{
	struct vio_buffered_queue *q = vio_container_of(v, struct vio_buffered_queue, v);
	struct vio_used u;
	unsigned n = 0;

	(void)ctx;
	for (; n < max; n++) {
		int rc = vio_vring_take(q->v.vr, &u, 1);
		uint32_t wrote;
		struct vio_buf *b;

		if (rc < 0)
			return n ? (int)n : rc;
		if (rc == 0)
			break;
		b = u.token;
		buffered_unmap(q, b);
		/* A server that claims more wrote no more. */
		wrote = b->g[q->parts - 1].len;
		wrote = u.len < wrote ? u.len : wrote;
		*(q->parts > 1 ? &b->answer_len : &b->len) = wrote;
		buffered_put(q, b, q->parts, true);
		b->posted = false;
		q->n_posted--;
		q->done[(q->done_at + q->n_done++) % q->n] = b;
	}
	if (n > 0)
		vio_fq_worked(&q->v, n);
	return (int)n;
}

static void buffered_collect(struct vio_buffered *d, struct vio_buffered_queue *q, int *why)
{
	bool ok = true;
	int n;

	if (!vio_gate_enter(&d->f.gate, &q->v.pass)) {
		vio_front_recover(&d->f, &q->v);
		*why = vio_load_acquire(&d->f.dead) ? -EIO : 0;
		return;
	}
	if (q->v.epoch != d->f.epoch)
		buffered_revive(d, q);
	if (q->again)
		post_again(q);
	if (q->v.kick_due)
		vio_fq_kick(&q->v);
	n = vio_fq_poll(&q->v, buffered_take, NULL, q->n, &ok);
	vio_gate_leave(&q->v.pass);
	if (n < 0) {
		vio_store_release(&d->f.broken, 1);
		ok = false;
	}
	if (!ok)
		vio_front_recover(&d->f, &q->v);
	*why = vio_load_acquire(&d->f.dead) ? -EIO : 0;
}

struct vio_buf *vio_buffered_take(struct vio_buffered *d, unsigned qi, int *rc)
{
	struct vio_buffered_queue *q = &d->q[qi];
	struct vio_buf *b;

	*rc = 0;
	if (q->n_done == 0)
		buffered_collect(d, q, rc);
	if (q->n_done == 0)
		return NULL;
	b = q->done[q->done_at];
	q->done_at = (q->done_at + 1) % q->n;
	q->n_done--;
	return b;
}

void vio_buffered_idle(struct vio_buffered *d, struct pollfd *fds, unsigned n_fds,
		       uint64_t timeout_ns)
{
	struct vio_fq *q[VIO_BUFFERED_QUEUES];
	bool more = false;

	for (unsigned i = 0; i < d->kind->n_queues; i++) {
		q[i] = &d->q[i].v;
		more |= d->q[i].n_done > 0 || d->q[i].again;
	}
	vio_fq_idle_fds(q, d->kind->n_queues, more, fds, n_fds, timeout_ns);
}

unsigned vio_buffered_posted(const struct vio_buffered *d, unsigned qi)
{
	return d->q[qi].n_posted;
}

/* ------------------------------------------------------------------------------- life ---- */

static int buffered_payload(struct vio_buffered *d, unsigned i, uint64_t bounce_off,
			    struct vio_err *err)
{
	const struct vio_gpayload_ops *ops = vio_gpayload_level(d->info.arm.payload);
	struct vio_buffered_queue *q = &d->q[i];
	const struct vio_gpayload_cfg c = {
		.part = d->f.part,
		.counters = q->v.cnt,
		.bounce = gla_add(d->mem.area.at, bounce_off),
		.slot_len = q->len,
		.n_slots = ops->needs_bounce ? q->n * q->parts : 0,
		.copybreak =
			d->cfg.copybreak && d->cfg.copybreak < q->len ? d->cfg.copybreak : q->len,
	};

	return ops->create(&c, &q->v.payload, err);
}

static int buffered_queue(struct vio_buffered *d, unsigned i, uint64_t off, uint64_t slice,
			  struct vio_err *err)
{
	struct vio_buffered_queue *q = &d->q[i];
	const uint32_t each = q->len * q->parts;
	struct vio_dma_cfg c = {.slice_len = slice,
				.defer_batch = d->cfg.defer_batch,
				.quota_pages = d->cfg.quota_pages};
	int rc;

	q->to_guest = d->kind->queue[i].to_guest;
	q->buf = calloc(q->n, sizeof(*q->buf));
	q->free = calloc(q->n, sizeof(struct vio_buf *));
	q->done = calloc(q->n, sizeof(struct vio_buf *));
	if (!q->buf || !q->free || !q->done)
		return vio_err_set(err, -ENOMEM, "queue %u: no memory for %u buffers", i, q->n);
	for (unsigned k = q->n; k-- > 0;) {
		struct vio_buf *b = &q->buf[k];

		b->gla = gla_add(d->mem.buffers.at, off + (uint64_t)k * each);
		b->va = d->mem.buffers.va + off + (uint64_t)k * each;
		b->len = q->len;
		b->answer = q->parts > 1 ? b->va + q->len : NULL;
		q->free[q->n_free++] = b;
	}
	rc = buffered_payload(d, i, off, err);
	return rc ? rc
		  : vio_front_dma(&d->f, &q->v, &d->info.arm, &d->mem.area, d->mem.at, &c, err);
}

/* Buffers and, where the arm has them, as many bounce buffers. */
static int buffered_queues(struct vio_buffered *d, struct vio_err *err)
{
	const struct vio_arm *arm = &d->info.arm;
	const bool bounces = vio_gpayload_level(arm->payload)->needs_bounce;
	const struct vio_dma_cfg c = {.defer_batch = d->cfg.defer_batch,
				      .quota_pages = d->cfg.quota_pages};
	const uint64_t grain = vio_front_grain(&d->f, vio_front_grants(arm));
	uint64_t bytes = 0, off = 0, most = 0, slice;
	unsigned parts = 1;
	int rc;

	for (unsigned i = 0; i < d->kind->n_queues; i++) {
		struct vio_buffered_queue *q = &d->q[i];
		unsigned room = d->info.queue_size / 4u; /* chains that a ring takes at least */

		q->n = d->kind->queue[i].buffers < room ? d->kind->queue[i].buffers : room;
		q->len = d->kind->queue[i].len;
		q->parts = d->kind->queue[i].answers ? 2 : 1;
		bytes += VIO_ALIGN_UP((uint64_t)q->n * q->len * q->parts, PAGE);
		parts = q->parts > parts ? q->parts : parts;
		most = q->n > most ? q->n : most;
	}
	rc = vio_front_carve(&d->f, arm, bounces ? bytes : 0, bytes, grain, PAGE, "buffers",
			     &d->mem, err);
	if (rc == 0)
		rc = vio_front_lists(&d->f, err);
	slice = vio_front_slice(&d->f, arm, &c, most, 2 * parts, d->kind->n_queues);
	for (unsigned i = 0; rc == 0 && i < d->kind->n_queues; i++) {
		rc = buffered_queue(d, i, off, slice, err);
		off += VIO_ALIGN_UP((uint64_t)d->q[i].n * d->q[i].len * d->q[i].parts, PAGE);
	}
	return rc;
}

static int buffered_start(struct vio_buffered *d, struct vio_err *err)
{
	int rc = phyp_vcpu_create(d->f.part, &d->vcpu, err);

	d->cfg.transport.type = d->kind->type;
	d->cfg.transport.features |= d->kind->features;
	d->cfg.transport.num_queues = (uint16_t)d->kind->n_queues;
	if (rc == 0)
		rc = vio_transport_open(d->vcpu, d->f.mem, &d->cfg.transport, &d->f.t, err);
	if (rc == 0)
		rc = vio_transport_start(d->f.t, err);
	if (rc)
		return rc;
	d->info = *vio_transport_get_info(d->f.t);
	if (d->info.num_queues < d->kind->n_queues)
		return vio_err_set(err, -EPROTO, "the %s has %u queue(s) in place of %u",
				   d->kind->device, d->info.num_queues, d->kind->n_queues);
	vio_front_tune(&d->f, &d->info.arm, d->info.queue_size, &d->cfg.waits);
	for (unsigned i = 0; i < d->kind->n_queues; i++)
		vio_front_queue(&d->f, &d->q[i].v, i, d->vcpu);
	rc = vio_front_rings(&d->f, d->info.features, vio_ring_in_place(d->info.arm.ring), 4, err);
	if (rc == 0)
		rc = buffered_queues(d, err);
	return rc ? rc : vio_front_go(&d->f, err);
}

int vio_buffered_open(struct phyp_part *part, struct vio_mem *mem,
		      const struct vio_buffered_kind *kind, const struct vio_buffered_cfg *cfg,
		      struct vio_buffered **out, struct vio_err *err)
{
	struct vio_buffered *d =
		aligned_alloc(VIO_CACHE_LINE, VIO_ALIGN_UP(sizeof(*d), VIO_CACHE_LINE));
	int rc;

	if (!d)
		return vio_err_set(err, -ENOMEM, "no memory for the %s", kind->device);
	memset(d, 0, sizeof(*d));
	d->kind = kind;
	d->cfg = *cfg;
	vio_front_init(&d->f, &buffered_ops, part, mem, &cfg->transport);
	rc = buffered_start(d, err);
	if (rc) {
		vio_buffered_close(d);
		return rc;
	}
	*out = d;
	return 0;
}

void vio_buffered_close(struct vio_buffered *d)
{
	if (!d)
		return;
	/* First of all the server must not touch what is about to be unmapped. */
	if (d->f.t && phyp_alive(d->f.part))
		vio_transport_quiesce(d->f.t);
	for (unsigned i = 0; i < VIO_BUFFERED_QUEUES; i++) {
		vio_fq_fini(&d->q[i].v);
		free(d->q[i].buf);
		free(d->q[i].free);
		free(d->q[i].done);
	}
	vio_front_fini(&d->f);
	vio_transport_close(d->f.t);
	if (d->vcpu)
		phyp_vcpu_destroy(d->vcpu);
	free(d);
}
