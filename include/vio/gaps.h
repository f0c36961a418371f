/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Gaps: how long a polling loop's turns take, by a look at the tick counter each turn. A processor
 * that was taken away (by another task, an interrupt, a hypervisor) shows as a turn that is longer
 * than any that the loop makes itself; steal time does not show one of less than 10 ms.
 *
 * The look belongs where the loop can't be kept waiting by another processor: a loop that waits
 * looks in each turn of the wait. Time asleep by choice is left out. One thread; any may read
 * `longest` and `gaps`.
 */
#ifndef VIO_GAPS_H
#define VIO_GAPS_H

#include "vio/atomics.h"
#include "vio/types.h"

/* Of one thread's loop; all times in ticks. */
struct vio_gaps {
	uint64_t last;      /* tick of the last look */
	uint64_t watch;     /* a turn longer than this is news: the smaller one of the next two */
	uint64_t longest;   /* ticks */
	uint64_t threshold; /* ticks; a longer turn counts as a gap */
	uint64_t gaps;
};

/* From `now` on. */
static inline void vio_gaps_begin(struct vio_gaps *g, uint64_t now, uint64_t threshold)
{
	g->last = now;
	g->watch = 0;
	g->threshold = threshold;
	vio_store_relaxed(&g->longest, 0);
	vio_store_relaxed(&g->gaps, 0);
}

/* A turn that may be the longest, or a gap. vio_gaps_look() calls it. */
static inline void vio_gaps_note(struct vio_gaps *g, uint64_t turn)
{
	if (turn > g->longest)
		vio_store_relaxed(&g->longest, turn);
	if (turn > g->threshold)
		vio_counter_add(&g->gaps, 1);
	g->watch = g->longest < g->threshold ? g->longest : g->threshold;
}

/* A turn ends at `now`. Data path: a subtraction and a comparison. */
static inline void vio_gaps_look(struct vio_gaps *g, uint64_t now)
{
	const uint64_t turn = now - g->last;

	g->last = now;
	if (vio_unlikely(turn > g->watch))
		vio_gaps_note(g, turn);
}

/* What passed since the last look was no turn: the thread slept because it chose to. */
static inline void vio_gaps_skip(struct vio_gaps *g, uint64_t now)
{
	g->last = now;
}

#endif
