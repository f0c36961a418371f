/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * 	nbdkit client thread		  reactor thread (one a queue)		VIO server
 * 	copies data into a guest buffer -> submits, polls, sleeps	  <->	...
 * 	waits for its request	       <- marks it done
 *
 * A queue of the front end belongs to one thread, and nbdkit has many: each queue therefore has a
 * reactor that owns it. Requests go to it through a list under a mutex; none of this is the
 * measured data path (vio-blk is).
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "guest/nbdkit/disk.h"
#include "vio/cycles.h"

#define MAX_LEN VDISK_MAX_LEN
#define DEPTH   VDISK_DEPTH
#define IDLE_NS 200000ull /* level poll: spin this long after the last request, then sleep */
#define WAIT_NS 100000000ull
/* phypd learns of vdisk_check()'s end after the process does: so long may the partition look taken, ns. */
#define BUSY_NS 2000000000ull

/* One request on its way: on the client thread's stack. */
struct io {
	struct vio_blk_req req; /* first: what comes back from poll is the io */
	bool done;
	pthread_cond_t cond;
	struct io *next;
};

struct reactor {
	pthread_t thread;
	pthread_mutex_t lock; /* everything below */
	pthread_cond_t buffer_free;
	struct io *head, **tail; /* to be submitted */
	struct gla buffer[DEPTH];
	unsigned n_buffers;
	bool stop, dead;
	unsigned index;
	struct vdisk *d;
};

/* ------------------------------------------------------------------------ reactor ---- */

/* Take the list of new requests; sets *stop when asked to end and nothing is left. */
static struct io *take_list(struct reactor *r, bool *stop)
{
	struct io *list;

	pthread_mutex_lock(&r->lock);
	list = r->head;
	r->head = NULL;
	r->tail = &r->head;
	*stop = r->stop;
	pthread_mutex_unlock(&r->lock);
	return list;
}

static void complete(struct reactor *r, struct vio_blk_req *const done[], int n)
{
	pthread_mutex_lock(&r->lock);
	for (int i = 0; i < n; i++) {
		struct io *io = (struct io *)done[i];

		io->done = true;
		pthread_cond_signal(&io->cond);
	}
	pthread_mutex_unlock(&r->lock);
}

/* The machine is gone: nobody may wait for ever. */
static void fail_all(struct reactor *r, struct io *list)
{
	pthread_mutex_lock(&r->lock);
	r->dead = true;
	*r->tail = list;
	for (struct io *io = r->head, *next; io; io = next) {
		next = io->next;
		io->req.result = -EIO;
		io->done = true;
		pthread_cond_signal(&io->cond);
	}
	r->head = NULL;
	r->tail = &r->head;
	pthread_mutex_unlock(&r->lock);
}

static void *reactor_main(void *arg)
{
	struct reactor *r = arg;
	struct vio_blk *b = r->d->blk;
	struct io *list = NULL;
	bool stop = false;

	while (!stop || list || vio_blk_outstanding(b, r->index)) {
		struct vio_blk_req *done[DEPTH], *one;
		int n;

		if (!list)
			list = take_list(r, &stop);
		while (list && (one = &list->req, vio_blk_submit(b, r->index, &one, 1) == 1))
			list = list->next;
		n = vio_blk_poll(b, r->index, done, DEPTH);
		if (n > 0)
			complete(r, done, n);
		if (n < 0) {
			fail_all(r, list);
			list = NULL;
			if (stop)
				break;
		}
		if (n <= 0)
			vio_blk_idle(b, r->index, WAIT_NS);
	}
	return NULL;
}

/* ------------------------------------------------------------------- start and end ---- */

static void say(void *ctx, const char *line)
{
	(void)ctx;
	fprintf(stderr, "nbdkit-vio: %s\n", line);
}

static int start_reactor(struct vdisk *d, unsigned i, struct vio_err *err)
{
	struct reactor *r = &d->reactor[i];

	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->buffer_free, NULL);
	r->tail = &r->head;
	r->index = i;
	r->d = d;
	for (; r->n_buffers < DEPTH; r->n_buffers++) {
		int rc = vio_blk_alloc(d->blk, MAX_LEN, &r->buffer[r->n_buffers], err);

		if (rc)
			return rc;
	}
	if (pthread_create(&r->thread, NULL, reactor_main, r))
		return vio_err_set(err, -EAGAIN, "can't start a thread for queue %u", i);
	d->n_reactors++;
	return 0;
}

int vdisk_check(const struct vdisk_cfg *cfg, struct vio_err *err)
{
	struct phyp_part *part;
	int rc = phyp_connect(cfg->socket, cfg->partition, &part, err);

	if (rc == 0)
		phyp_close(part);
	return rc;
}

static int connect_again(struct vdisk *d, const struct vdisk_cfg *cfg, struct vio_err *err)
{
	const struct timespec pause = {.tv_nsec = 10 * 1000000};
	uint64_t end = vio_now_ns() + BUSY_NS;
	int rc;

	while ((rc = phyp_connect(cfg->socket, cfg->partition, &d->part, err)) == -EBUSY &&
	       vio_now_ns() < end)
		nanosleep(&pause, NULL);
	return rc;
}

static int make_lock(struct vdisk *d)
{
	pthread_rwlockattr_t a;
	int rc = pthread_rwlockattr_init(&a);

	if (rc)
		return -rc;
	/* Else a stream of whole blocks would keep a part of one waiting for ever. */
	pthread_rwlockattr_setkind_np(&a, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	rc = pthread_rwlock_init(&d->whole, &a);
	pthread_rwlockattr_destroy(&a);
	d->has_lock = rc == 0;
	return -rc;
}

static int start_disk(struct vdisk *d, const struct vdisk_cfg *cfg, struct vio_err *err)
{
	struct vio_blk_cfg b = {
		.transport = {.unit = cfg->unit,
			      .arm = cfg->arm,
			      .strict_arm = cfg->proto != VIO_PROTO_V1,
			      .proto = cfg->proto,
			      .num_queues = (uint16_t)cfg->queues,
			      .queue_size = 256,
			      .timeout_ms = 5000,
			      .say = say,
			      .trace = cfg->trace ? stderr : NULL},
		.max_len = MAX_LEN,
		.depth = DEPTH,
		.buffers_len = (uint64_t)MAX_LEN * DEPTH * cfg->queues,
		.spin_ns = 50000,
		.idle_ns = IDLE_NS,
		.give_way = vio_blk_one_core(),
	};
	unsigned n;
	int rc = connect_again(d, cfg, err);

	if (rc)
		return rc;
	if (cfg->trace && (d->trace = phyp_trace_create(stderr, cfg->partition)))
		phyp_filter_push(d->part, d->trace);
	vio_mem_init(&d->mem, d->part);
	rc = vio_blk_open(d->part, &d->mem, &b, &d->blk, err);
	if (rc)
		return rc;
	n = vio_blk_get_info(d->blk)->num_queues;
	d->reactor = calloc(n, sizeof(*d->reactor));
	if (!d->reactor)
		return vio_err_set(err, -ENOMEM, "no memory for %u queues", n);
	for (unsigned i = 0; rc == 0 && i < n; i++)
		rc = start_reactor(d, i, err);
	return rc;
}

int vdisk_start(struct vdisk *d, const struct vdisk_cfg *cfg, struct vio_err *err)
{
	int rc = make_lock(d);

	return rc ? vio_err_set(err, rc, "no lock for the disk") : start_disk(d, cfg, err);
}

void vdisk_stop(struct vdisk *d)
{
	for (unsigned i = 0; i < d->n_reactors; i++) {
		struct reactor *r = &d->reactor[i];

		pthread_mutex_lock(&r->lock);
		r->stop = true;
		pthread_mutex_unlock(&r->lock);
		vio_blk_prod(d->blk, i);
		pthread_join(r->thread, NULL);
	}
	if (d->blk)
		vio_blk_close(d->blk);
	if (d->part)
		phyp_close(d->part);
	phyp_trace_free(d->trace);
	free(d->reactor);
	if (d->has_lock)
		pthread_rwlock_destroy(&d->whole);
	memset(d, 0, sizeof(*d));
}

/* ------------------------------------------------------------------------ requests ---- */

static struct reactor *pick_reactor(struct vdisk *d)
{
	return &d->reactor[__atomic_fetch_add(&d->next, 1, __ATOMIC_RELAXED) % d->n_reactors];
}

/* A guest buffer; waits until one is free. */
static struct gla get_buffer(struct reactor *r)
{
	struct gla b;

	pthread_mutex_lock(&r->lock);
	while (r->n_buffers == 0)
		pthread_cond_wait(&r->buffer_free, &r->lock);
	b = r->buffer[--r->n_buffers];
	pthread_mutex_unlock(&r->lock);
	return b;
}

static void put_buffer(struct reactor *r, struct gla b)
{
	pthread_mutex_lock(&r->lock);
	r->buffer[r->n_buffers++] = b;
	pthread_cond_signal(&r->buffer_free);
	pthread_mutex_unlock(&r->lock);
}

/* Hand the request to the queue's reactor and wait. The result as nbdkit wants it: 0, or -1 and errno. */
static int submit_and_wait(struct reactor *r, struct io *io)
{
	pthread_cond_init(&io->cond, NULL);
	pthread_mutex_lock(&r->lock);
	if (r->dead) {
		io->req.result = -EIO;
	} else {
		io->done = false;
		io->next = NULL;
		*r->tail = io;
		r->tail = &io->next;
		pthread_mutex_unlock(&r->lock);
		vio_blk_prod(r->d->blk, r->index);
		pthread_mutex_lock(&r->lock);
		while (!io->done)
			pthread_cond_wait(&io->cond, &r->lock);
	}
	pthread_mutex_unlock(&r->lock);
	pthread_cond_destroy(&io->cond);
	if (io->req.result == 0)
		return 0;
	nbdkit_set_error(-io->req.result);
	nbdkit_error("virtual disk: request type %u at sector %llu failed: %s", io->req.type,
		     (unsigned long long)io->req.sector, strerror(-io->req.result));
	return -1;
}

int vdisk_transfer(struct vdisk *d, uint32_t type, void *in, const void *out, uint32_t count,
		   uint64_t offset)
{
	struct reactor *r = pick_reactor(d);
	struct gla buf = get_buffer(r);
	void *va = phyp_mem(d->part, buf, MAX_LEN);
	uint32_t most = vio_blk_get_info(d->blk)->max_len;
	int rc = 0;

	for (uint32_t pos = 0, n; rc == 0 && pos < count; pos += n) {
		struct io io = {
			.req = {.type = type, .sector = (offset + pos) / VIO_SECTOR, .buf = buf}};

		n = count - pos < most ? count - pos : most;
		io.req.len = n;
		if (out)
			memcpy(va, (const char *)out + pos, n);
		rc = submit_and_wait(r, &io);
		if (rc == 0 && in)
			memcpy((char *)in + pos, va, n);
	}
	put_buffer(r, buf);
	return rc;
}

int vdisk_range(struct vdisk *d, uint32_t type, bool unmap, uint32_t count, uint64_t offset)
{
	const struct vio_blk_info *info = vio_blk_get_info(d->blk);
	uint64_t max = (uint64_t)(type == VIRTIO_BLK_T_DISCARD ? info->max_discard_sectors
							       : info->max_zero_sectors) *
		       VIO_SECTOR;
	int rc = 0;

	if (max > UINT32_MAX / VIO_SECTOR * VIO_SECTOR)
		max = UINT32_MAX / VIO_SECTOR * VIO_SECTOR;
	for (uint64_t pos = 0, n; rc == 0 && pos < count; pos += n) {
		struct io io = {.req = {.type = type,
					.sector = (offset + pos) / VIO_SECTOR,
					.unmap = unmap}};

		n = count - pos < max ? count - pos : max;
		io.req.len = (uint32_t)n;
		rc = submit_and_wait(pick_reactor(d), &io);
	}
	return rc;
}

int vdisk_flush(struct vdisk *d)
{
	struct io io = {.req = {.type = VIRTIO_BLK_T_FLUSH}};

	return submit_and_wait(pick_reactor(d), &io);
}
