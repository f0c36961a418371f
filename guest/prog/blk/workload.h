/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The load that an experiment puts on a disk, and what it saw. Knows the block front end only:
 * nothing here depends on the arm.
 */
#ifndef VIO_GUEST_WORKLOAD_H
#define VIO_GUEST_WORKLOAD_H

#include "duet/score.h"
#include "guest/dev/blk/blk.h"
#include "guest/prog/hist.h"

enum vio_wl_order { VIO_WL_SEQUENTIAL, VIO_WL_RANDOM };

/* Which bytes of its blocks the program itself touches. The names on the command line are in the comments. */
enum vio_wl_touch {
	VIO_WL_TOUCH_NONE,    /* none */
	VIO_WL_TOUCH_HEADERS, /* headers: the first 64, written before a write, read after a read */
	VIO_WL_TOUCH_ALL,     /* all: patterns written, every byte that is read checked */
	VIO_WL_N_TOUCH,
};
#define VIO_WL_HEADER 64u /* bytes that VIO_WL_TOUCH_HEADERS touches; no block is shorter */

struct vio_wl_cfg {
	enum vio_wl_order order;
	unsigned read_percent; /* 100 reads, 0 writes, between: mixed */
	uint32_t bs; /* block size, bytes; below 512 each block begins a sector of its own */
	uint32_t
		depth; /* in flight, per queue; those that the queue has no room for wait in order */
	/*
	 * Buffers of each queue, used in turn (>= depth). With as many as requests in flight each
	 * request would find its old buffer, and a driver that stores only what differs would leave
	 * a descriptor's line where it is.
	 */
	uint32_t buffers;
	uint32_t batch; /* requests made available per publish; <= depth */
	uint64_t
		span; /* bytes of the disk that are used, from 0; multiple of bs (of 512 when shorter) */
	uint64_t count;               /* stop after so many measured requests; 0 = by time */
	uint64_t run_ns;              /* ... or after so long */
	uint64_t warm_count, warm_ns; /* before measuring: whichever is given; both 0 = none */
	double rate;          /* open loop: requests per second, all queues; 0 = closed loop */
	unsigned flush_every; /* a FLUSH after so many writes; 0 = never */
	enum vio_wl_touch touch;
	uint64_t delay_ns; /* spun before each request: a planted slowdown */
	uint64_t seed;
	const volatile int
		*stop; /* set by a signal; NULL: none. Waits for an absent server end with it */
};

struct vio_wl_result {
	uint64_t elapsed_ns;
	uint64_t requests, reads, writes, flushes, errors;
	uint64_t bytes_read, bytes_written;
	uint64_t bytes_verified, mismatches; /* words that differ */
	char first_mismatch[160];
	/*
	 * From submit to completion (closed loop), or from the intended start (open loop: no
	 * coordinated omission).
	 */
	struct vio_hist latency;
	uint64_t
		publishes; /* submit calls that took something: requests / publishes is the real batch */
	/*
	 * Bytes that the server needs for a request (data, 16 of header, 1 of status) times the
	 * ticks from its publish to its completion; flushes have no data.
	 */
	unsigned __int128 need;
	uint64_t late; /* open loop: requests that could not start when they should have */
	/*
	 * Open loop: turns of this loop that took longer than VIO_WL_GAP_NS, sleep by choice left out;
	 * the longest, in ticks; and requests that were due or in flight in one. Nothing is left out of
	 * the latency for it.
	 */
	uint64_t gaps, longest_turn, in_gap;
	uint64_t unstarted; /* open loop: those that should have started and never did: overload */
};

#define VIO_WL_GAP_NS 10000u

struct vio_wl;

/*
 * Prepare: buffers, block table; with touch all and reads, writes the whole span once. -EINVAL with a
 * sentence when the configuration does not fit the disk; -EIO when the fill failed.
 */
int vio_wl_create(struct vio_blk *b, struct phyp_part *part, const struct vio_wl_cfg *cfg,
		  struct vio_wl **out, struct vio_err *err);
/*
 * Run once: warm up, drain, call mark(ctx, false), measure, drain, call mark(ctx, true). Nothing is
 * in flight during mark, so that counters read there are exact. *stop ends it early (a signal).
 * -EIO when the machine is gone; -EINTR when cfg.stop ended it with requests outstanding.
 */
int vio_wl_run(struct vio_wl *w, void (*mark)(void *ctx, bool end), void *ctx,
	       const volatile int *stop, struct vio_wl_result *res);
/*
 * The same in turns: `d` says when to load the disk and when to let others. The score has the times:
 * cfg's are not used, nor its rate. elapsed_ns: of all turns, the waits between them left out.
 */
int vio_wl_duet(struct vio_wl *w, struct vio_duet *d, void (*mark)(void *ctx, bool end), void *ctx,
		const volatile int *stop, struct vio_wl_result *res);
void vio_wl_free(struct vio_wl *w);

#endif
