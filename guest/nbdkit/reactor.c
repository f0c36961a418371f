/* SPDX-License-Identifier: BSD-3-Clause */
/* The thread that owns a queue of the disk. */
#include "guest/nbdkit/reactor.h"
#include "vio/cycles.h"

#define WAIT_NS 100000000ull /* the longest sleep of an idle reactor, ns */
/* At the end: so long for what was given up, while the server is there, ns. */
#define STOP_NS 2000000000ull

static bool changes(const struct vio_blk_req *r)
{
	return r->type != VIRTIO_BLK_T_IN && r->type != VIRTIO_BLK_T_FLUSH;
}

static void unsettle(struct vdisk *d, int by)
{
	pthread_mutex_lock(&d->lock);
	d->unsettled += by;
	if (d->unsettled == 0)
		pthread_cond_broadcast(&d->settled);
	pthread_mutex_unlock(&d->lock);
}

void reactor_free(struct reactor *r, struct io *io)
{
	io->next = r->free;
	r->free = io;
	pthread_cond_signal(&r->io_free);
}

void reactor_give_up(struct reactor *r, struct io *io)
{
	io->given_up = true;
	if (changes(&io->req))
		unsettle(r->d, 1);
}

/* New requests, when those of before are with the device. True: asked to end. */
static bool take_new(struct reactor *r, struct io **list)
{
	bool stop;

	pthread_mutex_lock(&r->lock);
	if (!*list) {
		*list = r->head;
		r->head = NULL;
		r->tail = &r->head;
	}
	stop = r->stop;
	pthread_mutex_unlock(&r->lock);
	return stop;
}

/* With the lock. */
static void end_io(struct reactor *r, struct io *io)
{
	io->done = true;
	if (!io->given_up) {
		pthread_cond_signal(&io->cond);
		return;
	}
	if (changes(&io->req))
		unsettle(r->d, -1);
	reactor_free(r, io);
}

static void reactor_complete(struct reactor *r, struct vio_blk_req *const done[], int n)
{
	pthread_mutex_lock(&r->lock);
	for (int i = 0; i < n; i++)
		end_io(r, (struct io *)done[i]);
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
		end_io(r, io);
	}
	r->head = NULL;
	r->tail = &r->head;
	pthread_mutex_unlock(&r->lock);
}

/* Once no client thread adds to them. */
static unsigned unfinished(const struct reactor *r, const struct io *list)
{
	unsigned n = vio_blk_outstanding(r->d->blk, r->index);

	for (; list; list = list->next)
		n++;
	for (list = r->head; list; list = list->next)
		n++;
	return n;
}

/* After the order to stop; what is unfinished was given up. *end 0: the first look. */
static bool time_is_up(const struct reactor *r, uint64_t *end)
{
	uint64_t now = vio_now_ns();

	if (*end == 0)
		*end = now + STOP_NS;
	return now >= *end || vio_blk_away(r->d->blk);
}

static void *reactor_main(void *arg)
{
	struct reactor *r = arg;
	struct vio_blk *b = r->d->blk;
	struct io *list = NULL;
	uint64_t end = 0;
	bool stop = false;

	while (!stop || (unfinished(r, list) && !time_is_up(r, &end))) {
		struct vio_blk_req *done[VDISK_DEPTH], *one;
		int n;

		stop = take_new(r, &list);
		while (list && (one = &list->req, vio_blk_submit(b, r->index, &one, 1) == 1))
			list = list->next;
		n = vio_blk_poll(b, r->index, done, VDISK_DEPTH);
		if (n > 0)
			reactor_complete(r, done, n);
		if (n < 0) {
			fail_all(r, list);
			list = NULL;
			if (stop)
				break;
		}
		if (n <= 0)
			vio_blk_idle(b, r->index, WAIT_NS);
	}
	r->unfinished = unfinished(r, list);
	return NULL;
}

int reactor_start(struct reactor *r, struct vio_err *err)
{
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->io_free, NULL);
	r->tail = &r->head;
	for (unsigned k = 0; k < VDISK_DEPTH; k++) {
		int rc = vio_blk_alloc(r->d->blk, VDISK_MAX_LEN, &r->io[k].buf, err);

		if (rc)
			return rc;
		pthread_cond_init(&r->io[k].cond, NULL);
		reactor_free(r, &r->io[k]);
	}
	if (pthread_create(&r->thread, NULL, reactor_main, r))
		return vio_err_set(err, -EAGAIN, "can't start a thread for queue %u", r->index);
	return 0;
}

unsigned reactor_stop(struct reactor *r)
{
	pthread_mutex_lock(&r->lock);
	r->stop = true;
	pthread_mutex_unlock(&r->lock);
	vio_blk_prod(r->d->blk, r->index);
	pthread_join(r->thread, NULL);
	return r->unfinished;
}
