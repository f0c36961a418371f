/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What bench-duet plays: pairs of pinned threads that take part in a duet as an arm's guest and
 * server do. No state outside the arguments.
 */
#ifndef VIO_BENCH_DUET_PLAY_H
#define VIO_BENCH_DUET_PLAY_H

#include "bench/limits/limits_measure.h"
#include "duet/score.h"

#define BENCH_PLAY_MAX_DEPTH 1024u

enum bench_play_kind {
	BENCH_PLAY_ROUND_TRIP, /* a request: a line to the other core, and another one back */
	BENCH_PLAY_MEMCPY,     /* a block copied by the guest's core; no server */
	BENCH_PLAY_HANDOVER, /* a block copied by the server's core into a ring, read by the guest's */
	BENCH_N_PLAYS,
};

struct bench_play_cfg {
	uint64_t size;  /* bytes of a block, a multiple of 8 */
	unsigned depth; /* blocks asked for ahead; blocks of the ring */
	uint64_t span;  /* bytes of memory that blocks are copied from, in random order; >= size */
	/*
	 * The guest's side reads a byte from standard input before it is ready for a dance, which so
	 * begins when somebody wants it to, and writes an E to standard output after it.
	 */
	bool leads;
};

struct bench_play;

/*
 * Start the threads of one slot (`at`: FILE,slot=N), pinned to core[0] (guest) and core[1]
 * (server). They end with the score, or soon after *stop. -EINVAL, -ENOMEM with a sentence.
 */
int bench_play_start(enum bench_play_kind kind, const char *at, const struct bench_play_cfg *cfg,
		     const unsigned core[2], const volatile int *stop, struct bench_play **out,
		     struct vio_err *err);
/* Wait for them, and free. -EIO with a sentence: what was read is not what was copied. */
int bench_play_end(struct bench_play *p, struct vio_err *err);

#endif
