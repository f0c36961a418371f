/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of the nbdkit disk, shared by disk.c, reactor.c and request.c and nobody else.
 *
 * 	nbdkit client thread		  reactor thread (one a queue)		VIO server
 * 	copies data into a guest buffer -> submits, polls, sleeps	  <->	...
 * 	waits for its request	       <- marks it done
 *
 * A queue of the front end belongs to one thread, and nbdkit has many: each queue therefore has a
 * reactor that owns it. Requests go to it through a list under a mutex; none of this is the
 * measured data path (vio-blk is).
 *
 * A client thread waits as long as somebody wants the answer: until nbdkit ends or its client has
 * gone. A request that is given up then stays the reactor's, with its buffer, until it comes back.
 */
#ifndef VIO_GUEST_NBDKIT_REACTOR_H
#define VIO_GUEST_NBDKIT_REACTOR_H

#include "guest/nbdkit/disk.h"

/* A place for one request, with its buffer: the reactor's, a client thread's, or (given up) the device's. */
struct io {
	struct vio_blk_req req; /* first: what comes back from poll is the io */
	struct gla buf;         /* VDISK_MAX_LEN bytes */
	bool done;
	bool given_up; /* nobody waits: its end makes it free */
	pthread_cond_t cond;
	struct io *next; /* free, or to be submitted */
};

struct reactor {
	pthread_t thread;
	pthread_mutex_t lock; /* everything below */
	pthread_cond_t io_free;
	struct io *head, **tail; /* to be submitted */
	struct io io[VDISK_DEPTH], *free;
	bool stop, dead;
	unsigned unfinished; /* at the thread's end */
	unsigned index;
	struct vdisk *d;
};

/* Buffers and thread of queue r->index of r->d; `r` is zeroed otherwise. -errno with a sentence. */
int reactor_start(struct reactor *r, struct vio_err *err);
/*
 * Ends the thread; no client thread is in a call. Bounded: what was given up is left to the server
 * after 2 s, or at once when it is away. How many requests that is.
 */
unsigned reactor_stop(struct reactor *r);
/* The io may be taken again. With the lock. */
void reactor_free(struct reactor *r, struct io *io);
/*
 * Nobody waits for the io any more: it is free when it comes back, and until then, if it changes
 * the disk, r->d is unsettled. With the lock.
 */
void reactor_give_up(struct reactor *r, struct io *io);

#endif
