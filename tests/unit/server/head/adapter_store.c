/* SPDX-License-Identifier: BSD-3-Clause */
/* A store that the test holds, fails and looks into. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_blk.h>

#include "adapter_world.h"

static struct aw_backend *of(struct vio_backend *be)
{
	return vio_container_of(be, struct aw_backend, be);
}

static int b_queue_open(struct vio_backend *be, unsigned depth, struct vio_backend_queue **out,
			struct vio_err *err)
{
	(void)depth;
	if (of(be)->fail_open)
		return vio_err_set(err, -ENOMEM, "the disk opens no queue");
	*out = calloc(1, sizeof(**out));
	assert_non_null(*out);
	(*out)->be = be;
	of(be)->queues_open++;
	return 0;
}

static void b_queue_close(struct vio_backend_queue *bq)
{
	assert_int_equal(of(bq->be)->n_held, 0);
	of(bq->be)->queues_open--;
	free(bq);
}

static void b_window_add(struct vio_backend_queue *bq, void *va, uint64_t len, bool writable)
{
	struct aw_backend *b = of(bq->be);

	(void)va, (void)len, (void)writable;
	b->adds++;
	b->adds_in_flight += b->n_held > 0;
}

static void b_window_del(struct vio_backend_queue *bq, void *va, uint64_t len)
{
	struct aw_backend *b = of(bq->be);

	/* Still mapped: the backend may look at it until it has heard of its end. */
	if (!b->forced)
		assert_true(((volatile uint8_t *)va)[len - 1] + 1 > 0);
	b->dels++;
	b->adds_in_flight += b->n_held > 0;
}

static void do_io(struct aw_backend *b, struct vio_io *r)
{
	uint64_t off = r->offset;

	r->result = vio_load_relaxed(&b->fail);
	for (unsigned i = 0; r->result == 0 && i < r->n_iov; i++) {
		if (r->op == VIO_IO_READ)
			memcpy(r->iov[i].iov_base, b->disk + off, r->iov[i].iov_len);
		else if (r->op == VIO_IO_WRITE)
			memcpy(b->disk + off, r->iov[i].iov_base, r->iov[i].iov_len);
		off += r->iov[i].iov_len;
	}
}

static unsigned b_submit(struct vio_backend_queue *bq, struct vio_io *const r[], unsigned n,
			 struct vio_io *done[])
{
	struct aw_backend *b = of(bq->be);

	(void)done;
	for (unsigned i = 0; i < n; i++)
		b->held[b->n_held++] = r[i];
	return 0;
}

static const struct vio_backend_queue *queue_of(struct vio_io *io)
{
	const struct vio_req *r = vio_container_of(io, struct vio_req, io);

	return vio_container_of(r->q->dq, struct vio_disk_queue, dq)->bq;
}

static unsigned b_poll(struct vio_backend_queue *bq, struct vio_io *done[], unsigned max)
{
	struct aw_backend *b = of(bq->be);
	unsigned n = 0, kept = 0;

	for (unsigned i = 0; i < b->n_held; i++) {
		if (vio_load_relaxed(&b->slow) || queue_of(b->held[i]) != bq || n == max) {
			b->held[kept++] = b->held[i];
			continue;
		}
		do_io(b, b->held[i]);
		done[n++] = b->held[i];
	}
	b->n_held = kept;
	return n;
}

const struct vio_backend_ops aw_backend_ops = {
	.name = "test",
	.queue_open = b_queue_open,
	.queue_close = b_queue_close,
	.window_add = b_window_add,
	.window_del = b_window_del,
	.submit = b_submit,
	.poll = b_poll,
};
