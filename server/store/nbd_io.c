/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Data path of the NBD backend. Completions come as callbacks out of libnbd, from vio_nbd_drive()
 * or a submission.
 */
#include "server/store/nbd.h"
#include "vio/atomics.h"
#include "vio/cycles.h"

static_assert(VIO_IO_READ < VIO_IO_FLUSH && VIO_IO_WRITE < VIO_IO_FLUSH &&
		      VIO_IO_FLUSH < VIO_IO_DISCARD && VIO_IO_FLUSH < VIO_IO_ZERO,
	      "those behind flush are ranges");

static inline bool moves_data(const struct vio_io *r)
{
	return r->op == VIO_IO_READ || r->op == VIO_IO_WRITE;
}

/* Did the connection end before the answer? */
static inline bool was_lost(int error)
{
	return error == ENOTCONN || error == ESHUTDOWN || error == EPIPE || error == ECONNRESET;
}

/* Give the slot back; its request waits for the next connection. A flush does not: it would cover less than it should. */
static void send_again(struct vio_nbd_slot *s)
{
	struct vio_nbd_queue *q = s->q;

	if (s->buffer)
		vio_be_buffer_put(&q->buffers, s->buffer);
	s->r->unsure = s->r->op != VIO_IO_READ; /* until it is sent, or for good */
	vio_be_list_add(&q->again, s->r);
	s->r = NULL;
	q->free[q->n_free++] = (uint16_t)(s - q->slot);
}

/* Give the slot back; r->result from its error. */
static void finish(struct vio_nbd_slot *s)
{
	struct vio_nbd_queue *q = s->q;
	struct vio_io *r = s->r;

	/* What the connection itself died of is an I/O error to the guest. */
	if (vio_unlikely(was_lost(s->error))) {
		s->error = EIO;
		r->unsure = q->n->be.unfenced && r->op != VIO_IO_READ && r->op != VIO_IO_FLUSH;
		if (q->n->delay && !r->unsure && r->op != VIO_IO_FLUSH) {
			send_again(s);
			return;
		}
	}
	r->result = -s->error;
	if (vio_unlikely(s->buffer != NULL)) {
		if (r->op == VIO_IO_READ && s->error == 0)
			vio_be_scatter(r, s->buffer);
		vio_be_buffer_put(&q->buffers, s->buffer);
	}
	if (r->op != VIO_IO_READ && r->op != VIO_IO_FLUSH && s->error == 0 &&
	    !vio_load_relaxed(&q->n->unflushed))
		vio_store_relaxed(&q->n->unflushed, 1);
	s->r = NULL;
	q->free[q->n_free++] = (uint16_t)(s - q->slot);
	vio_be_list_add(&q->ready, r);
}

/* libnbd calls it once a command, with its handle locked: no call into libnbd from here. */
static int completed(void *arg, int *error)
{
	struct vio_nbd_slot *s = arg;

	if (*error && !s->error)
		s->error = *error;
	if (--s->pending > 0)
		return 1; /* retire the command */
	/* Discard and zero may have more to ask for; that is done outside the callback. */
	if (s->r->op <= VIO_IO_FLUSH || s->next >= s->r->length || s->error)
		finish(s);
	else
		s->q->n_long++;
	return 1;
}

/* A command was given to libnbd, or not (rc < 0). */
static void issued(struct vio_nbd_slot *s, int64_t rc)
{
	if (vio_likely(rc >= 0))
		return;
	if (!s->error)
		s->error = nbd_aio_is_ready(s->q->h) > 0 || nbd_aio_is_processing(s->q->h) > 0
				   ? EIO
				   : ENOTCONN;
	s->q->suspect = true;
	s->pending--;
}

static void issue_piece(struct vio_nbd_slot *s, uint8_t *mem, uint64_t off, uint64_t len)
{
	nbd_completion_callback cb = {.callback = completed, .user_data = s};

	while (len > 0 && !s->error) {
		size_t n = len < s->q->n->max_payload ? len : s->q->n->max_payload;

		s->pending++;
		issued(s, s->r->op == VIO_IO_READ ? nbd_aio_pread(s->q->h, mem, n, off, cb, 0)
						  : nbd_aio_pwrite(s->q->h, mem, n, off, cb, 0));
		mem += n;
		off += n;
		len -= n;
	}
}

static void issue_data(struct vio_nbd_slot *s)
{
	struct vio_io *r = s->r;
	uint64_t off = r->offset;

	if (s->buffer) {
		issue_piece(s, s->buffer, off, r->length);
		return;
	}
	for (unsigned i = 0; i < r->n_iov; i++) {
		issue_piece(s, r->iov[i].iov_base, off, r->iov[i].iov_len);
		off += r->iov[i].iov_len;
	}
}

/* One piece of a discard or zero. Its own `pending`: no other is out. */
static void issue_range(struct vio_nbd_slot *s)
{
	nbd_completion_callback cb = {.callback = completed, .user_data = s};
	struct vio_io *r = s->r;
	uint64_t len = r->length - s->next, off = r->offset + s->next;

	if (len > VIO_NBD_RANGE_MAX)
		len = VIO_NBD_RANGE_MAX;
	s->next += len;
	s->pending++;
	issued(s, r->op == VIO_IO_ZERO ? nbd_aio_zero(s->q->h, len, off, cb,
						      r->unmap ? 0 : LIBNBD_CMD_FLAG_NO_HOLE)
				       : nbd_aio_trim(s->q->h, len, off, cb, 0));
}

static void issue(struct vio_nbd_slot *s)
{
	nbd_completion_callback cb = {.callback = completed, .user_data = s};

	s->pending++; /* ours: completions during the calls don't finish it */
	switch (s->r->op) {
	case VIO_IO_READ:
	case VIO_IO_WRITE:
		issue_data(s);
		break;
	case VIO_IO_FLUSH:
		s->pending++;
		/* Before it goes out: what is acknowledged from here on is not covered by it. */
		vio_store_relaxed(&s->q->n->unflushed, 0);
		issued(s, nbd_aio_flush(s->q->h, cb, 0));
		break;
	default:
		while (s->pending == 1 && s->next < s->r->length && !s->error)
			issue_range(s);
		break;
	}
	if (--s->pending == 0)
		finish(s);
}

/* The server takes multiples of min_block only: does every part of the data keep to that? */
static bool needs_buffer(const struct vio_nbd *n, const struct vio_io *r)
{
	size_t len = 0;

	if (!moves_data(r) || r->n_iov <= 1)
		return false;
	for (unsigned i = 0; i < r->n_iov; i++)
		len |= r->iov[i].iov_len;
	return len & (n->min_block - 1);
}

/* False: no buffer now. UP, or (to be told so at once) DOWN. */
static bool start(struct vio_nbd_queue *q, struct vio_io *r)
{
	struct vio_nbd_slot *s;
	void *buffer = NULL;

	r->result = 0;
	if (q->state == VIO_NBD_DOWN || (moves_data(r) && r->length > VIO_MAX_DATA))
		r->result = -EIO;
	else if (r->op == VIO_IO_FLUSH && vio_load_relaxed(&q->n->flush_owed) &&
		 vio_xchg_acq_rel(&q->n->flush_owed, 0))
		r->result = -EIO;
	if (vio_unlikely(r->result || (r->length == 0 && r->op != VIO_IO_FLUSH))) {
		vio_be_list_add(&q->ready, r);
		return true;
	}
	if (vio_unlikely(needs_buffer(q->n, r))) {
		buffer = vio_be_buffer_get(&q->buffers);
		if (!buffer)
			return false;
		if (r->op == VIO_IO_WRITE)
			vio_be_gather(r, buffer);
	}
	r->unsure = false;
	s = &q->slot[q->free[--q->n_free]]; /* the caller keeps to the depth */
	*s = (struct vio_nbd_slot){.q = q, .r = r, .buffer = buffer};
	issue(s);
	return true;
}

void vio_nbd_abandon(struct vio_nbd_queue *q)
{
	/* Closing it ends every use of the requests' memory; some commands it completes, with an error. */
	nbd_close(q->h);
	q->h = NULL;
	q->n_long = 0;
	for (unsigned i = 0; i < q->depth; i++) {
		struct vio_nbd_slot *s = &q->slot[i];

		if (!s->r)
			continue;
		s->error = ENOTCONN;
		finish(s);
	}
	/* Those that were sent before those that were not. */
	if (q->again.head) {
		q->again.tail->next = q->waiting.head;
		if (!q->waiting.head)
			q->waiting.tail = q->again.tail;
		q->waiting.head = q->again.head;
		q->again = (struct vio_be_list){0};
	}
}

/* Does the request end behind what this connection knows of the disk? */
static bool is_behind(const struct vio_nbd_queue *q, const struct vio_io *r)
{
	return r->op != VIO_IO_FLUSH && r->offset + r->length > q->size;
}

void vio_nbd_give_up(struct vio_nbd_queue *q, enum vio_nbd_which which)
{
	struct vio_be_list all = q->waiting;
	struct vio_io *r;

	q->waiting = (struct vio_be_list){0};
	while ((r = vio_be_list_take(&all))) {
		const bool ends = which == VIO_NBD_WAITING ||
				  (which == VIO_NBD_UNSURE && r->unsure) ||
				  (which == VIO_NBD_LARGER && is_behind(q, r));

		r->result = ends ? -EIO : 0;
		vio_be_list_add(ends ? &q->ready : &q->waiting, r);
	}
}

void vio_nbd_stop(struct vio_backend_queue *bq)
{
	vio_nbd_give_up(vio_nbd_queue_of(bq), VIO_NBD_WAITING);
}

/*
 * Does the request end behind what this connection knows, and within the disk? Then it needs another, when the server has done what it
 * has. Behind the disk's end no connection helps: it fails.
 */
static bool needs_larger(struct vio_nbd_queue *q, const struct vio_io *r)
{
	if (vio_likely(q->state != VIO_NBD_UP || !is_behind(q, r)) ||
	    r->offset + r->length > vio_load_relaxed(&q->n->be.size))
		return false;
	q->renew = true;
	return true;
}

/* Those that wait, in order, until one has to wait on. */
static void start_waiting(struct vio_nbd_queue *q)
{
	while (q->waiting.head && q->state != VIO_NBD_CONNECTING && !q->renew) {
		struct vio_io *r = q->waiting.head, *next = r->next;

		if ((q->state == VIO_NBD_DOWN && vio_nbd_patient(q)) || needs_larger(q, r) ||
		    !start(q, r))
			return;
		q->waiting.head = next;
	}
}

/* Discards and zeroes of which a piece is done and another is to come. */
static void go_on(struct vio_nbd_queue *q)
{
	for (unsigned i = 0; i < q->depth && q->state == VIO_NBD_UP; i++) {
		struct vio_nbd_slot *s = &q->slot[i];

		if (s->r && s->pending == 0) {
			q->n_long--;
			issue(s);
		}
	}
}

static unsigned take_ready(struct vio_nbd_queue *q, struct vio_io *done[], unsigned max)
{
	unsigned n = 0;

	while (n < max && q->ready.head)
		done[n++] = vio_be_list_take(&q->ready);
	return n;
}

unsigned vio_nbd_submit(struct vio_backend_queue *bq, struct vio_io *const r[], unsigned n,
			struct vio_io *done[])
{
	struct vio_nbd_queue *q = vio_nbd_queue_of(bq);

	/* Idle for a while: was the server restarted? Then connect again, and fail nothing. */
	if (q->n_free == q->depth) {
		uint64_t now = vio_now_ns();

		if (now - q->busy > VIO_NBD_IDLE_NS)
			vio_nbd_drive(q);
		q->busy = now;
	}
	if (vio_unlikely(q->state == VIO_NBD_DOWN))
		vio_nbd_revive(q);
	for (unsigned i = 0; i < n; i++)
		vio_be_list_add(&q->waiting, r[i]);
	start_waiting(q);
	if (vio_unlikely(q->suspect)) {
		q->suspect = false;
		vio_nbd_drive(q);
	}
	/* At most n: done[] has no room for more, and poll takes the rest. */
	return take_ready(q, done, n);
}

unsigned vio_nbd_poll(struct vio_backend_queue *bq, struct vio_io *done[], unsigned max)
{
	struct vio_nbd_queue *q = vio_nbd_queue_of(bq);

	vio_nbd_drive(q);
	if (vio_unlikely(q->state == VIO_NBD_DOWN && q->waiting.head))
		vio_nbd_revive(q);
	if (vio_unlikely(q->n_long > 0))
		go_on(q);
	if (vio_unlikely(q->waiting.head != NULL))
		start_waiting(q);
	return take_ready(q, done, max);
}
