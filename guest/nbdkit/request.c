/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests of whole blocks, as a client thread sees them, and every wait that it may be in. */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <string.h>
#include <time.h>

#include "guest/nbdkit/reactor.h"

/* How often a wait asks whether anybody still wants its end, ns. */
#define TICK_NS 100000000ull

/* ---------------------------------------------------------------------------- waits ---- */

static struct timespec from_now(uint64_t ns)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	ns += (uint64_t)t.tv_nsec;
	t.tv_sec += (time_t)(ns / 1000000000);
	t.tv_nsec = (long)(ns % 1000000000);
	return t;
}

/* Does anybody still want what this thread does? False: nbdkit ends or the client has gone; nbdkit's error is set. */
static bool still_wanted(void)
{
	if (nbdkit_nanosleep(0, 1) == 0)
		return true;
	nbdkit_set_error(ESHUTDOWN);
	return false;
}

/* One step of a wait for what `cond` tells, with `lock` held. False: nobody wants its end; look once more all the same. */
static bool wait_on(pthread_cond_t *cond, pthread_mutex_t *lock)
{
	const struct timespec tick = from_now(TICK_NS);
	bool go_on;

	if (pthread_cond_clockwait(cond, lock, CLOCK_MONOTONIC, &tick) != ETIMEDOUT)
		return true;
	pthread_mutex_unlock(lock);
	go_on = still_wanted();
	pthread_mutex_lock(lock);
	return go_on;
}

int vdisk_lock(struct vdisk *d, bool alone)
{
	for (;;) {
		const struct timespec tick = from_now(TICK_NS);
		int rc = alone ? pthread_rwlock_clockwrlock(&d->whole, CLOCK_MONOTONIC, &tick)
			       : pthread_rwlock_clockrdlock(&d->whole, CLOCK_MONOTONIC, &tick);

		if (rc == 0)
			return 0;
		if (rc == ETIMEDOUT && still_wanted())
			continue;
		if (rc != ETIMEDOUT)
			nbdkit_set_error(rc);
		nbdkit_error("virtual disk: a request waited for another one in vain");
		return -1;
	}
}

void vdisk_unlock(struct vdisk *d)
{
	pthread_rwlock_unlock(&d->whole);
}

/*
 * What was given up may still change the disk. Nothing new is begun before it has ended: else it
 * could overtake what a later client was told is done.
 */
static int wait_settled(struct vdisk *d)
{
	bool go_on = true;

	pthread_mutex_lock(&d->lock);
	while (d->unsettled > 0 && go_on)
		go_on = wait_on(&d->settled, &d->lock);
	go_on = d->unsettled == 0;
	pthread_mutex_unlock(&d->lock);
	return go_on ? 0 : -1;
}

/* ------------------------------------------------------------------------ requests ---- */

static struct reactor *pick_reactor(struct vdisk *d)
{
	return &d->reactor[__atomic_fetch_add(&d->next, 1, __ATOMIC_RELAXED) % d->n_reactors];
}

/* A place and its buffer; waits until one is free. NULL: nobody wants it any more, nbdkit's error is set. */
static struct io *get_io(struct reactor *r)
{
	bool go_on = true;
	struct io *io;

	pthread_mutex_lock(&r->lock);
	while (!r->free && go_on)
		go_on = wait_on(&r->io_free, &r->lock);
	io = r->free;
	if (io) {
		r->free = io->next;
		io->given_up = false;
	}
	pthread_mutex_unlock(&r->lock);
	return io;
}

/* NULL: it was given up. */
static void put_io(struct reactor *r, struct io *io)
{
	if (!io)
		return;
	pthread_mutex_lock(&r->lock);
	reactor_free(r, io);
	pthread_mutex_unlock(&r->lock);
}

/* With the lock. The result, or -ESHUTDOWN when nobody wants it: the io is then no more the caller's. */
static int await(struct reactor *r, struct io *io)
{
	bool go_on = true;

	while (!io->done && go_on)
		go_on = wait_on(&io->cond, &r->lock);
	if (io->done)
		return io->req.result;
	reactor_give_up(r, io);
	return -ESHUTDOWN;
}

static int hand_over(struct reactor *r, struct io *io)
{
	int rc = -EIO;

	pthread_mutex_lock(&r->lock);
	if (!r->dead) {
		io->done = false;
		io->next = NULL;
		*r->tail = io;
		r->tail = &io->next;
		pthread_mutex_unlock(&r->lock);
		vio_blk_prod(r->d->blk, r->index);
		pthread_mutex_lock(&r->lock);
		rc = await(r, io);
	}
	pthread_mutex_unlock(&r->lock);
	return rc;
}

/*
 * Hand the request to the queue's reactor and wait. The result as nbdkit wants it: 0, or -1 and
 * errno; *io NULL: it was given up.
 */
static int submit_and_wait(struct reactor *r, struct io **io, const struct vio_blk_req *req)
{
	int rc;

	if (wait_settled(r->d)) {
		nbdkit_error(
			"virtual disk: not begun, for a request that was given up before has not ended");
		return -1;
	}
	(*io)->req = *req;
	rc = hand_over(r, *io);
	if (rc == 0)
		return 0;
	nbdkit_set_error(-rc);
	if (rc == -ESHUTDOWN) {
		*io = NULL;
		nbdkit_error(
			"virtual disk: request type %u at sector %llu was given up, and may still be done%s",
			req->type, (unsigned long long)req->sector,
			vio_blk_away(r->d->blk) ? ": the VIO server is away" : "");
	} else {
		nbdkit_error("virtual disk: request type %u at sector %llu failed: %s", req->type,
			     (unsigned long long)req->sector, strerror(-rc));
	}
	return -1;
}

/* One request without data. */
static int run_one(struct reactor *r, const struct vio_blk_req *req)
{
	struct io *io = get_io(r);
	int rc = io ? submit_and_wait(r, &io, req) : -1;

	put_io(r, io);
	return rc;
}

int vdisk_transfer(struct vdisk *d, uint32_t type, void *in, const void *out, uint32_t count,
		   uint64_t offset)
{
	struct reactor *r = pick_reactor(d);
	struct io *io = get_io(r);
	uint32_t most = vio_blk_get_info(d->blk)->max_len;
	void *va = io ? phyp_mem(d->part, io->buf, VDISK_MAX_LEN) : NULL;
	int rc = io ? 0 : -1;

	for (uint32_t pos = 0, n; rc == 0 && pos < count; pos += n) {
		struct vio_blk_req req = {
			.type = type, .sector = (offset + pos) / VIO_SECTOR, .buf = io->buf};

		n = count - pos < most ? count - pos : most;
		req.len = n;
		if (out)
			memcpy(va, (const char *)out + pos, n);
		rc = submit_and_wait(r, &io, &req);
		if (rc == 0 && in)
			memcpy((char *)in + pos, va, n);
	}
	put_io(r, io);
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
		struct vio_blk_req req = {
			.type = type, .sector = (offset + pos) / VIO_SECTOR, .unmap = unmap};

		n = count - pos < max ? count - pos : max;
		req.len = (uint32_t)n;
		rc = run_one(pick_reactor(d), &req);
	}
	return rc;
}

int vdisk_flush(struct vdisk *d)
{
	const struct vio_blk_req req = {.type = VIRTIO_BLK_T_FLUSH};

	return run_one(pick_reactor(d), &req);
}
