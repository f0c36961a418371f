/* SPDX-License-Identifier: BSD-3-Clause */
/* Data path of the file backend: requests to the ring, completions from it. One system call a burst. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/store/file.h"
#include "vio/atomics.h"
#include "vio/cycles.h"

/* EAGAIN is tried again this often; a kernel that has no memory for so long is an error. */
#define MAX_TRIES 10000u

static inline bool moves_data(const struct vio_io *r)
{
	return r->op == VIO_IO_READ || r->op == VIO_IO_WRITE;
}

/* With O_DIRECT: can the kernel use the memory as it lies? */
static inline bool aligned(const struct vio_file *f, const struct vio_io *r)
{
	uintptr_t mem = 0, len = 0;

	for (unsigned i = 0; i < r->n_iov; i++) {
		mem |= (uintptr_t)r->iov[i].iov_base;
		len |= r->iov[i].iov_len;
	}
	return ((mem & (f->mem_align - 1)) | (len & (f->be.block_size - 1))) == 0;
}

/* One piece of memory, from `done` on: through a fixed buffer when it lies in one. */
static void prep_flat(struct vio_file_queue *q, struct io_uring_sqe *sqe, int fd,
		      const struct vio_io *r, uint8_t *base, uint64_t done)
{
	unsigned len = (unsigned)(r->length - done);
	int index = vio_file_find_fixed(q, base + done, len);
	bool read = r->op == VIO_IO_READ;

	if (vio_likely(index >= 0)) {
		io_uring_prep_rw(read ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED, sqe, fd,
				 base + done, len, r->offset + done);
		sqe->buf_index = (uint16_t)index;
		q->n_fixed_io++;
	} else {
		io_uring_prep_rw(read ? IORING_OP_READ : IORING_OP_WRITE, sqe, fd, base + done, len,
				 r->offset + done);
		q->n_plain_io++;
	}
}

/* r->iov without its first `done` bytes. */
static unsigned iov_rest(const struct vio_io *r, uint64_t done, struct iovec *rest)
{
	unsigned n = 0;

	for (unsigned i = 0; i < r->n_iov; i++) {
		struct iovec v = r->iov[i];

		if (done >= v.iov_len) {
			done -= v.iov_len;
			continue;
		}
		rest[n++] = (struct iovec){(uint8_t *)v.iov_base + done, v.iov_len - done};
		done = 0;
	}
	return n;
}

static void prep_data(struct vio_file_queue *q, struct io_uring_sqe *sqe, int fd,
		      struct vio_file_slot *s)
{
	struct vio_io *r = s->r;
	const struct iovec *iov = r->iov;
	unsigned n = r->n_iov;

	if (s->buffer) {
		prep_flat(q, sqe, fd, r, s->buffer, s->done);
		return;
	}
	if (vio_likely(n == 1)) {
		prep_flat(q, sqe, fd, r, r->iov[0].iov_base, s->done);
		return;
	}
	if (vio_unlikely(s->done > 0)) {
		iov = q->rest[s - q->slot];
		n = iov_rest(r, s->done, q->rest[s - q->slot]);
	}
	io_uring_prep_rw(r->op == VIO_IO_READ ? IORING_OP_READV : IORING_OP_WRITEV, sqe, fd, iov, n,
			 r->offset + s->done);
	q->n_plain_io++;
}

static void prep_zero(struct vio_file_queue *q, struct io_uring_sqe *sqe, int fd,
		      const struct vio_file_slot *s)
{
	const struct vio_io *r = s->r;
	uint64_t left = r->length - s->done;
	int mode = FALLOC_FL_KEEP_SIZE |
		   (s->zero == VIO_FILE_ZERO_RANGE ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE);

	if (s->zero == VIO_FILE_WRITE_ZEROES)
		io_uring_prep_write(sqe, fd, q->f->zeroes,
				    (unsigned)(left < VIO_FILE_ZEROES ? left : VIO_FILE_ZEROES),
				    r->offset + s->done);
	else
		io_uring_prep_fallocate(sqe, fd, mode, (off_t)r->offset, (off_t)r->length);
}

/* Put what is left to do for the slot into the ring. The ring has room for every slot. */
static void prep(struct vio_file_queue *q, struct vio_file_slot *s)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);
	int fd = q->fixed_file ? 0 : q->f->fd;

	switch (s->r->op) {
	case VIO_IO_READ:
	case VIO_IO_WRITE:
		prep_data(q, sqe, fd, s);
		break;
	case VIO_IO_FLUSH:
		/* What a flush must cover is what has completed before it: no need to drain the ring. */
		io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
		break;
	case VIO_IO_DISCARD:
		io_uring_prep_fallocate(sqe, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					(off_t)s->r->offset, (off_t)s->r->length);
		break;
	default:
		prep_zero(q, sqe, fd, s);
		break;
	}
	if (q->fixed_file)
		sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, s);
}

/* From `zero` on, the first way that is not known to be none. */
static uint8_t next_zero(const struct vio_file_queue *q, uint8_t zero)
{
	while (zero < VIO_FILE_WRITE_ZEROES && q->no_zero >> zero & 1)
		zero++;
	return zero;
}

/* True: it is in the ring, or waits for a buffer. False: finished with r->result. */
static bool start(struct vio_file_queue *q, struct vio_io *r)
{
	struct vio_file_slot *s;
	void *buffer = NULL;

	if (vio_unlikely((r->length == 0 && r->op != VIO_IO_FLUSH) ||
			 (moves_data(r) && r->length > VIO_MAX_DATA))) {
		r->result = r->length ? -EINVAL : 0;
		return false;
	}
	if (q->f->direct && moves_data(r) && vio_unlikely(!aligned(q->f, r))) {
		buffer = vio_be_buffer_get(&q->buffers);
		if (!buffer) {
			vio_be_list_add(&q->waiting, r);
			return true;
		}
		if (r->op == VIO_IO_WRITE)
			vio_be_gather(r, buffer);
		q->n_buffered++;
	}
	s = &q->slot[q->free[--q->n_free]]; /* the caller keeps to the depth */
	*s = (struct vio_file_slot){.r = r, .buffer = buffer};
	if (vio_unlikely(r->op == VIO_IO_FLUSH))
		s->flush_failed = vio_load_relaxed(&q->f->flush_failed);
	if (vio_unlikely(r->op == VIO_IO_ZERO))
		s->zero = next_zero(q, r->unmap ? VIO_FILE_PUNCH_HOLE : VIO_FILE_ZERO_RANGE);
	prep(q, s);
	return true;
}

static void finish(struct vio_file_queue *q, struct vio_file_slot *s)
{
	struct vio_io *r = s->r;

	if (vio_unlikely(s->buffer != NULL)) {
		if (r->op == VIO_IO_READ && r->result == 0)
			vio_be_scatter(r, s->buffer);
		vio_be_buffer_put(&q->buffers, s->buffer);
	}
	q->free[q->n_free++] = (uint16_t)(s - q->slot);
}

/*
 * The kernel looks at the submission queue in io_uring_enter() only, which no other thread calls: so
 * what it has not taken can be taken back, and is then never executed.
 */
static void take_back(struct vio_file_queue *q)
{
	struct io_uring_sq *sq = &q->ring.sq;
	unsigned head = vio_load_acquire(sq->khead);

	for (unsigned i = head; i != sq->sqe_tail; i++) {
		struct vio_file_slot *s =
			(struct vio_file_slot *)(uintptr_t)sq->sqes[i & sq->ring_mask].user_data;

		s->r->result = -EIO;
		vio_be_list_add(&q->failed, s->r);
		finish(q, s);
	}
	sq->sqe_head = sq->sqe_tail = head;
	vio_store_relaxed(sq->ktail, head);
}

/* Nothing was taken, for `rc`. Not for ever: a guest waits. */
static void not_taken(struct vio_file_queue *q, int rc)
{
	uint64_t now = vio_now_ns();

	if (q->refused_ns == 0)
		q->refused_ns = now;
	if (now - q->refused_ns < VIO_FILE_PATIENCE_NS)
		return;
	if (!q->said_refused)
		vio_backend_say(
			&q->f->be,
			"the kernel takes no requests (io_uring_enter: %s); they end with an I/O error until it does again",
			strerrordesc_np(-rc));
	q->said_refused = true;
	take_back(q);
}

/*
 * What can't be submitted now (no memory, a full completion queue) stays in the ring's submission
 * queue, and each poll tries again.
 */
static inline void flush_ring(struct vio_file_queue *q)
{
	int rc;

	if (io_uring_sq_ready(&q->ring) == 0)
		return;
	rc = io_uring_submit(&q->ring);
	if (vio_unlikely(rc <= 0)) {
		not_taken(q, rc);
	} else if (vio_unlikely(q->refused_ns != 0)) {
		q->refused_ns = 0;
		q->said_refused = false;
	}
}

unsigned vio_file_submit(struct vio_backend_queue *bq, struct vio_io *const r[], unsigned n,
			 struct vio_io *done[])
{
	struct vio_file_queue *q = vio_file_queue_of(bq);
	unsigned n_done = 0;

	for (unsigned i = 0; i < n; i++)
		if (vio_unlikely(!start(q, r[i])))
			done[n_done++] = r[i];
	flush_ring(q);
	return n_done;
}

/* EOPNOTSUPP: the next way to zero, also for those that come later. */
static bool zero_otherwise(struct vio_file_queue *q, struct vio_file_slot *s)
{
	if (s->zero == VIO_FILE_WRITE_ZEROES)
		return false;
	q->no_zero |= (uint8_t)(1u << s->zero);
	s->zero = next_zero(q, s->zero);
	return true;
}

/* The kernel has done it all: is it what the guest is told? */
static int judge(const struct vio_file_queue *q, const struct vio_file_slot *s)
{
	const struct vio_io *r = s->r;
	struct stat st;

	/* The kernel tells an open file's error once, and all queues have the same one. */
	if (vio_unlikely(r->op == VIO_IO_FLUSH))
		return vio_load_relaxed(&q->f->flush_failed) == s->flush_failed ? 0 : -EIO;
	/* Behind the end of a file that was cut short nothing was zeroed, and nothing can be read. */
	if (vio_unlikely(r->op == VIO_IO_ZERO && q->f->regular) &&
	    (fstat(q->f->fd, &st) || (uint64_t)st.st_size < r->offset + r->length))
		return -EIO;
	return 0;
}

/* The kernel's answer. True: r->result is set; false: there is more to do, and it is in the ring. */
static bool answer(struct vio_file_queue *q, struct vio_file_slot *s, int res)
{
	struct vio_io *r = s->r;
	bool transfer = moves_data(r) || (r->op == VIO_IO_ZERO && s->zero == VIO_FILE_WRITE_ZEROES);

	r->result = 0;
	if (vio_likely(transfer ? (res > 0 && (uint64_t)res == r->length - s->done) : res == 0))
		return r->result = judge(q, s), true;
	if (res == -EINTR || res == -EAGAIN) {
		r->result = -EIO;
		if (++s->tries > MAX_TRIES)
			return true;
	} else if (res == -EOPNOTSUPP && r->op == VIO_IO_ZERO && zero_otherwise(q, s)) {
		s->done = 0;
	} else if (res == -EOPNOTSUPP && r->op == VIO_IO_DISCARD) {
		return true; /* this place of the disk can't, and a discard is a hint */
	} else if (res <= 0 || !transfer) {
		/* 0 bytes: the file has been made shorter under us. */
		if (r->op == VIO_IO_FLUSH)
			(void)vio_fetch_add(&q->f->flush_failed, 1);
		r->result = res < 0 ? res : -EIO;
		return true;
	} else {
		uint64_t before = s->done;

		s->done += (unsigned)res;
		/* O_DIRECT goes on at a whole block; what is read or written twice is the same bytes. */
		if (q->f->direct)
			s->done -= s->done % q->f->be.block_size;
		r->result = -EIO;
		if (s->done == before && ++s->tries > MAX_TRIES)
			return true;
	}
	prep(q, s);
	return false;
}

/* Those that wait for an aligned buffer, as many as there are. */
static void start_waiting(struct vio_file_queue *q)
{
	while (q->waiting.head && q->buffers.n_free > 0)
		start(q, vio_be_list_take(&q->waiting));
}

static unsigned take_failed(struct vio_file_queue *q, struct vio_io *done[], unsigned max)
{
	unsigned n = 0;

	while (n < max && q->failed.head)
		done[n++] = vio_be_list_take(&q->failed);
	start_waiting(q);
	return n;
}

unsigned vio_file_poll(struct vio_backend_queue *bq, struct vio_io *done[], unsigned max)
{
	struct vio_file_queue *q = vio_file_queue_of(bq);
	struct io_uring_cqe *cqe[VIO_BURST];
	unsigned n, n_done = 0;

	flush_ring(q);
	if (vio_unlikely(q->failed.head != NULL))
		return take_failed(q, done, max);
	n = io_uring_peek_batch_cqe(&q->ring, cqe, max < VIO_BURST ? max : VIO_BURST);
	if (n == 0)
		return 0;
	for (unsigned i = 0; i < n; i++) {
		struct vio_file_slot *s = io_uring_cqe_get_data(cqe[i]);

		if (vio_unlikely(!answer(q, s, cqe[i]->res)))
			continue;
		done[n_done++] = s->r;
		finish(q, s);
	}
	io_uring_cq_advance(&q->ring, n);
	if (vio_unlikely(q->waiting.head != NULL))
		start_waiting(q);
	flush_ring(q);
	return n_done;
}
