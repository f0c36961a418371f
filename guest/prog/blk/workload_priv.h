/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of workload*.c: one thread's.
 *
 *   workload.c       requests, a queue's turn, phases
 *   workload_run.c   a run: buffers and tables, what is written before a measurement and read after it
 */
#ifndef VIO_GUEST_PROG_WORKLOAD_PRIV_H
#define VIO_GUEST_PROG_WORKLOAD_PRIV_H

#include "guest/prog/blk/workload.h"

#define VIO_WL_MAX_BURST 64

/* One request that can be in flight. */
struct wl_io {
	struct vio_blk_req req; /* first: a completed request is its io */
	uint64_t *va;
	uint64_t block;
	uint32_t generation;
	uint64_t start;   /* ticks: submit, or the intended start */
	uint64_t publish; /* ticks: given to the server */
};

struct wl_queue {
	struct wl_io *io;    /* `buffers` of them, a buffer each */
	struct wl_io **fifo; /* those not in flight, oldest first: see struct vio_wl_cfg, buffers */
	unsigned first, n_fifo;
	unsigned n_free;                             /* requests that may still be put in flight */
	struct vio_blk_req *ready[VIO_WL_MAX_BURST]; /* prepared, not yet taken by submit */
	unsigned n_ready;
	/* Arrived, and waiting for a buffer: when, in ticks (0: not stamped yet), oldest first. */
	uint64_t due[VIO_WL_MAX_BURST];
	unsigned n_due;
	unsigned writes_since_flush;
	uint64_t cursor; /* sequential: next block; queues take turns by stride */
};

struct vio_wl {
	struct vio_wl_cfg cfg;
	struct vio_blk *b;
	struct phyp_part *part;
	unsigned n_queues;
	uint64_t stride; /* bytes of the disk from a block to the next: cfg.bs, in whole sectors */
	uint64_t n_blocks;
	uint32_t *table; /* generation of each block, with BUSY */
	struct wl_queue *q;
	uint64_t rng;
	uint64_t tick_hz;
	struct vio_gaps gaps;      /* of an open loop */
	uint64_t gap_end;          /* tick at which the last one was seen; 0: none yet */
	uint64_t delay_turns;      /* of spin(), before each request */
	struct vio_wl_result *res; /* of the phase that runs */
	bool filled;               /* every block of the span was written */
	bool read_back;            /* only blocks with a known content */
	bool machine_gone;
	bool abandoned; /* ended with requests outstanding */
};

static inline uint64_t rng_next(struct vio_wl *w)
{
	/* xorshift64*: reproducible from the seed on every machine. */
	w->rng ^= w->rng >> 12;
	w->rng ^= w->rng << 25;
	w->rng ^= w->rng >> 27;
	return w->rng * 0x2545F4914F6CDD1Dull;
}

static inline struct wl_io *io_get(struct vio_wl *w, struct wl_queue *q)
{
	struct wl_io *io = q->fifo[q->first];

	q->first = q->first + 1 == w->cfg.buffers ? 0 : q->first + 1;
	q->n_fifo--;
	q->n_free--;
	return io;
}

static inline void io_put(struct vio_wl *w, struct wl_queue *q, struct wl_io *io)
{
	unsigned at = q->first + q->n_fifo;

	q->fifo[at >= w->cfg.buffers ? at - w->cfg.buffers : at] = io;
	q->n_fifo++;
	q->n_free++;
}

/* `count` requests, or if 0 for so long, and all that is outstanding; results into *w->res. *stop ends it early. */
void vio_wl_phase(struct vio_wl *w, uint64_t count, uint64_t ns, const volatile int *stop);
/* Turns of the loop that a planted delay spins, by the fastest of some tries. */
uint64_t vio_wl_delay_turns(uint64_t ns, uint64_t tick_hz);
/* One turn of the duet: until its window is over and nothing is outstanding. */
void vio_wl_play(struct vio_wl *w, struct vio_duet *d, const volatile int *stop);

#endif
