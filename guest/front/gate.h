/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A gate that many threads pass on their data path and that one thread closes now and then: to take
 * the queues away from their owners while the device is configured anew.
 *
 * Passing costs a store and a load without any fence or locked instruction. What orders that store
 * before that load is done by the closer for everybody: membarrier(2) makes every thread of the
 * process execute a full fence. Where the kernel has no membarrier, passing has a fence of its own.
 * Pair G of docs/memory-order.md:
 *
 *   passer:	store inside = 1	(fence, by the closer's membarrier)	load closed
 *   closer:	store closed = 1	membarrier				load inside, until 0
 *
 * At least one of the two sees the other's store. The release store of `inside` = 0 meets the
 * closer's acquire load, and the release store of `closed` = 0 the passer's acquire load, so what
 * one did is seen by the other.
 */
#ifndef VIO_GUEST_GATE_H
#define VIO_GUEST_GATE_H

#include "vio/atomics.h"

#include <stdbool.h>

struct vio_gate {
	uint32_t closed;
	bool fences; /* no membarrier: passers fence for themselves */
};

/* One per passing thread, in a line that no other thread writes. */
struct vio_pass {
	uint32_t inside;
};

/* Opens the gate. Any number of gates; registers the process for membarrier. */
void vio_gate_init(struct vio_gate *g);
/*
 * Close it; vio_gate_left() then says of each pass whether its owner is out. System call. One
 * closer at a time.
 */
void vio_gate_close(struct vio_gate *g);
static inline bool vio_gate_left(const struct vio_pass *p)
{
	return vio_load_acquire(&p->inside) == 0;
}
static inline void vio_gate_open(struct vio_gate *g)
{
	vio_store_release(&g->closed, 0);
}

static inline void vio_gate_leave(struct vio_pass *p)
{
	vio_store_release(&p->inside, 0);
}

/* False: closed; the caller is not inside. Data path. */
static inline bool vio_gate_enter(const struct vio_gate *g, struct vio_pass *p)
{
	vio_store_relaxed(&p->inside, 1);
	if (__builtin_expect(g->fences, 0))
		vio_fence_full(); /* pair G */
	else
		__asm__ volatile(
			"" ::
				: "memory"); /* the compiler keeps the order; the closer's membarrier
							 does the rest */
	if (__builtin_expect(vio_load_acquire(&g->closed) == 0, 1))
		return true;
	vio_gate_leave(p);
	return false;
}

#endif
