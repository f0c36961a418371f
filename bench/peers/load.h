/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The load of vhost-blk: the closed loop of guest/prog/blk/workload.c over a vhost-user ring, so that both do the same for a request
 * but what the interface makes different. One thread, never asleep: load_turn() returns whenever nothing is left to do at once,
 * so that whoever steers the processor by windows can be asked between turns.
 */
#ifndef VIO_BENCH_PEERS_LOAD_H
#define VIO_BENCH_PEERS_LOAD_H

#include "bench/peers/ring.h"
#include "bench/peers/vhost_user.h"
#include "duet/score.h"
#include "guest/prog/hist.h"

#define LOAD_BURST 64u

/* Which bytes of its blocks the program itself touches. */
enum load_touch {
	LOAD_TOUCH_NONE,    /* none */
	LOAD_TOUCH_HEADERS, /* the first 64 of each block: written before a write, read after a read */
	LOAD_TOUCH_ALL,     /* every byte: a pattern written, and checked after a read */
	LOAD_N_TOUCH,
};

struct load_cfg {
	bool random, read; /* order; reads or writes */
	uint32_t bs, depth, batch, buffers;
	uint64_t span, seed;
	enum load_touch touch;
	bool kick; /* look after each publish whether the server wants a kick; false: it is known to poll */
};

struct load_result {
	uint64_t elapsed_ns, requests, reads, writes, errors, bytes_read, bytes_written,
		bytes_verified, mismatches, publishes, kicks;
	char first_mismatch[160];
	struct vio_hist latency; /* ticks, from publish to completion */
};

struct load_io;

struct load {
	struct load_cfg cfg;
	struct vu *v;
	struct ring *r;
	struct load_io *io, **fifo; /* buffers in turn, oldest first */
	unsigned first, n_fifo, in_flight;
	uint32_t *table; /* generation of each block, with a bit for in flight */
	uint64_t n_blocks, cursor, rng, quiet_since;
	uint64_t started, count; /* requests of this phase; count: to start at most */
	unsigned looks;
	bool read, random, filled;
	struct load_result *res;
	struct vio_err *err;
	int rc; /* not 0: the server is gone, silent or wrong, and *err says how */
};

/* data: cfg->buffers blocks, page aligned, shared with the server, the caller's. -ENOMEM, -EINVAL with a sentence. */
int load_create(struct load *l, const struct load_cfg *cfg, struct vu *v, struct ring *r,
		uint8_t *data, struct vio_err *err);
void load_free(struct load *l);
/* Every block once, so that reads have something to be checked against. 0 or l->rc. */
int load_fill(struct load *l);
/* Start what may start, take what is complete. Requests completed; 0 also after an error (l->rc). */
unsigned load_turn(struct load *l);
/* Turns for `ns` or until *stop, then until nothing is in flight; results into *res, which is zeroed. 0 or l->rc. */
int load_run(struct load *l, uint64_t ns, const volatile int *stop, struct load_result *res);
/*
 * The same in turns of a duet: `d` says when. elapsed_ns: of all turns, the waits between them left out; tick_hz: the rate of
 * vio_ticks(). *res is zeroed. 0 or l->rc.
 */
int load_duet(struct load *l, struct vio_duet *d, uint64_t tick_hz, const volatile int *stop,
	      struct load_result *res);
/* Read and check every block whose content is known: for writes with LOAD_TOUCH_ALL. Adds to *res. */
int load_read_back(struct load *l, struct load_result *res);

#endif
