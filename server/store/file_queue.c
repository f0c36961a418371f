/* SPDX-License-Identifier: BSD-3-Clause */
/* Rings of the file backend, and the windows in them as fixed buffers. */
#include <stdlib.h>
#include <string.h>

#include "server/store/file.h"
#include "vio/atomics.h"

int vio_file_ring(unsigned entries, struct io_uring *ring)
{
	/*
	 * No interrupt for a completion: we look anyway, and TASKRUN_FLAG tells the look when the
	 * kernel wants to be called. Not SINGLE_ISSUER (nor what builds on it): the adapter's lcore
	 * opens the queue, another polls.
	 */
	static const unsigned wishes[] = {
		IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		0,
	};
	int rc = -EINVAL;

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(wishes) && rc == -EINVAL; i++) {
		struct io_uring_params p = {.flags = wishes[i]};

		rc = io_uring_queue_init_params(entries, ring, &p);
	}
	return rc;
}

static void *zalloc_lines(size_t n, size_t size)
{
	size_t bytes = VIO_ALIGN_UP(n * size, (size_t)VIO_CACHE_LINE);
	void *p = aligned_alloc(VIO_CACHE_LINE, bytes);

	if (p)
		memset(p, 0, bytes);
	return p;
}

static int allocate(struct vio_file_queue *q)
{
	q->slot = zalloc_lines(q->depth, sizeof(q->slot[0]));
	q->free = zalloc_lines(q->depth, sizeof(q->free[0]));
	q->rest = zalloc_lines(q->depth, sizeof(q->rest[0]));
	q->fixed = zalloc_lines(VIO_FILE_FIXED, sizeof(q->fixed[0]));
	q->fixed_free = zalloc_lines(VIO_FILE_FIXED, sizeof(q->fixed_free[0]));
	if (!q->slot || !q->free || !q->rest || !q->fixed || !q->fixed_free)
		return -ENOMEM;
	for (unsigned i = 0; i < q->depth; i++)
		q->free[q->n_free++] = (uint16_t)(q->depth - 1 - i);
	for (unsigned i = 0; i < VIO_FILE_FIXED; i++)
		q->fixed_free[q->n_fixed_free++] = (uint16_t)(VIO_FILE_FIXED - 1 - i);
	return vio_be_buffers_open(&q->buffers);
}

static void release(struct vio_file_queue *q)
{
	vio_be_buffers_close(&q->buffers);
	free(q->slot);
	free(q->free);
	free(q->rest);
	free(q->fixed);
	free(q->fixed_free);
	free(q);
}

int vio_file_queue_open(struct vio_backend *be, unsigned depth, struct vio_backend_queue **out,
			struct vio_err *err)
{
	struct vio_file_queue *q;
	int rc;

	if (depth == 0 || depth > 32768)
		return vio_err_set(err, -EINVAL, "backend file: a queue of %u requests", depth);
	q = zalloc_lines(1, sizeof(*q));
	if (!q)
		return vio_err_set(err, -ENOMEM, "backend file: no memory");
	q->bq.be = be;
	q->f = vio_container_of(be, struct vio_file, be);
	q->no_zero = q->f->no_zero;
	q->depth = depth;
	q->fixed_max = VIO_FILE_FIXED_MAX;
	rc = allocate(q);
	if (rc == 0)
		rc = vio_file_ring(depth < 8 ? 8 : depth, &q->ring);
	if (rc) {
		release(q);
		return vio_err_set(err, rc, "backend file: a ring for %u requests: %s%s", depth,
				   strerror(-rc), rc == -ENOMEM ? " (raise ulimit -l)" : "");
	}
	/* Both are gains only: without them requests go the slower way. */
	q->fixed_file = io_uring_register_files(&q->ring, &q->f->fd, 1) == 0;
	q->fixed_bufs = io_uring_register_buffers_sparse(&q->ring, VIO_FILE_FIXED) == 0;
	*out = &q->bq;
	return 0;
}

void vio_file_queue_close(struct vio_backend_queue *bq)
{
	struct vio_file_queue *q = vio_file_queue_of(bq);

	io_uring_queue_exit(&q->ring);
	release(q);
}

static void say_slow(struct vio_file_queue *q, int rc)
{
	const char *hint = rc == -ENOMEM ? " (raise ulimit -l, or run with CAP_IPC_LOCK)" : "";

	if (__atomic_exchange_n(&q->f->told, 1, __ATOMIC_RELAXED))
		return;
	vio_backend_say(
		&q->f->be,
		"guest memory can't be registered as fixed buffers: %s%s; each request will pin its pages",
		strerror(-rc), hint);
}

static int update(struct vio_file_queue *q, unsigned index, void *va, uint64_t len)
{
	struct iovec iov = {va, len};
	uint64_t tag = 0;
	int rc =
		io_uring_register_buffers_update_tag(&q->ring, index, &iov, (const __u64 *)&tag, 1);

	return rc < 0 ? rc : rc == 1 ? 0 : -EIO;
}

/* First entry that ends behind p: the one that p is in, if any. */
static unsigned lower_bound(const struct vio_file_queue *q, const uint8_t *p)
{
	unsigned lo = 0, hi = q->n_fixed;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (q->fixed[mid].va + q->fixed[mid].len <= p)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int add_piece(struct vio_file_queue *q, uint8_t *va, uint64_t len)
{
	unsigned at = lower_bound(q, va);
	uint16_t index;
	int rc;

	if (q->n_fixed_free == 0)
		return -ENOSPC;
	index = q->fixed_free[q->n_fixed_free - 1];
	rc = update(q, index, va, len);
	if (rc)
		return rc;
	memmove(q->fixed + at + 1, q->fixed + at, (q->n_fixed - at) * sizeof(q->fixed[0]));
	q->fixed[at] = (struct vio_file_fixed){va, len, index};
	q->n_fixed++;
	q->n_fixed_free--;
	q->hint = 0;
	return 0;
}

void vio_file_window_add(struct vio_backend_queue *bq, void *va, uint64_t len, bool writable)
{
	struct vio_file_queue *q = vio_file_queue_of(bq);
	uint8_t *p = va;

	/*
	 * The kernel pins for writing; a read-only pane has nothing to pin. It goes the other way,
	 * silently.
	 */
	if (!writable)
		return;
	if (!q->fixed_bufs) {
		say_slow(q, -EOPNOTSUPP);
		return;
	}
	while (len > 0) {
		uint64_t piece = len < q->fixed_max ? len : q->fixed_max;
		int rc = add_piece(q, p, piece);

		if (rc)
			say_slow(q, rc);
		p += piece;
		len -= piece;
	}
}

void vio_file_window_del(struct vio_backend_queue *bq, void *va, uint64_t len)
{
	struct vio_file_queue *q = vio_file_queue_of(bq);
	uint8_t *p = va;
	unsigned at = lower_bound(q, p);

	/* Those pieces of it that were taken. */
	while (at < q->n_fixed && q->fixed[at].va >= p && q->fixed[at].va < p + len) {
		uint16_t index = q->fixed[at].index;

		q->n_fixed--;
		memmove(q->fixed + at, q->fixed + at + 1, (q->n_fixed - at) * sizeof(q->fixed[0]));
		/* A slot that can't be emptied holds the pages until the ring goes; it is not used again. */
		if (update(q, index, NULL, 0) == 0)
			q->fixed_free[q->n_fixed_free++] = index;
	}
	q->hint = 0;
}

int vio_file_find_fixed(struct vio_file_queue *q, const void *ptr, uint64_t len)
{
	const uint8_t *p = ptr;
	const struct vio_file_fixed *b;

	if (q->n_fixed == 0)
		return -1;
	b = &q->fixed[q->hint];
	if (vio_unlikely(p < b->va || p >= b->va + b->len)) {
		unsigned at = lower_bound(q, p);

		if (at == q->n_fixed || p < q->fixed[at].va)
			return -1;
		q->hint = at;
		b = &q->fixed[at];
	}
	return len <= (uint64_t)(b->va + b->len - p) ? b->index : -1;
}
