/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is over: each process's agent waits for its own calls that had begun before an endpoint was stopped (pe.c) or a
 * connection closed (H_FREE_CRQ), and says so in the segment: only then is the memory its owner's again. A partition that is
 * stopped inside a call says nothing.
 */
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "phyp/core/carrier_ops.h"
#include "phyp/core/over.h"
#include "phyp/core/pe.h"

/* No call is under way that began before what the caller has seen, and reaches a partner's memory. */
static bool calls_over(struct phyp_part *part)
{
	bool over = true;

	/* Pair AA: whoever is not seen inside after this sees what was stopped or closed before. */
	if (part->asymmetric)
		syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
	else
		vio_fence_full();
	pthread_mutex_lock(&part->vcpu_lock); /* no vcpu is freed under our eyes */
	for (unsigned i = 0; i < PHYP_MAX_VCPUS && over; i++) {
		struct phyp_vcpu *v = part->vcpu[i];
		uint32_t seen = v ? vio_load_acquire(&v->dma) : 0; /* pair AA */

		for (unsigned n = 0; (seen & 1) && vio_load_acquire(&v->dma) == seen; n++) {
			if (n == HV_LOOKS) {
				over = false;
				break;
			}
			sched_yield();
		}
	}
	pthread_mutex_unlock(&part->vcpu_lock);
	return over;
}

static bool say_over(struct phyp_part *part, struct hv_unit *u, bool far)
{
	uint64_t word = vio_load_acquire(&u->pe); /* pair AA */
	bool stop = hv_pe_state(word) == PE_FROZEN && vio_load_relaxed(&u->pe_over[far]) != word;
	uint32_t closings = vio_load_acquire(&u->closings);
	bool closed = far && vio_load_relaxed(&u->closed_over) != closings;

	if (!stop && !closed)
		return true;
	/* An accept that looked before the freeze is over; the next one looks after it. */
	pthread_mutex_lock(&part->acc_lock);
	pthread_mutex_unlock(&part->acc_lock);
	if (!calls_over(part))
		return false;
	if (stop)
		vio_store_release(&u->pe_over[far], word); /* pair AA */
	if (closed)
		vio_store_release(&u->closed_over, closings); /* pair AA */
	return true;
}

bool hv_over_sweep(struct phyp_part *part)
{
	bool all = true;

	for (unsigned i = 0; i < part->n_units; i++) {
		struct hv_lunit *lu = &part->unit[i];

		all &= say_over(part, lu->u, false);
		if (lu->far)
			all &= say_over(part, lu->far, true);
	}
	return all;
}

static bool closing_said(const struct hv_seg *seg, const struct hv_lunit *lu)
{
	return vio_load_acquire(&seg->part[lu->far->part].active) == 0 ||
	       vio_load_acquire(&lu->u->closed_over) ==
		       vio_load_acquire(&lu->u->closings); /* pair AA */
}

bool hv_closing_over(struct phyp_vcpu *v, const struct hv_lunit *lu)
{
	const struct hv_seg *seg = v->part->seg;

	/* A client makes no RDMA calls into its server's memory, and a send holds the queue's lock. */
	if (lu->u->is_server || closing_said(seg, lu))
		return true;
	v->part->carrier->poke(v->part, lu->far->part);
	return closing_said(seg, lu); /* in process it has been said when this returns */
}
