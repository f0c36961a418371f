/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Carriers: how a program becomes a partition, how its calls come to the hypervisor from then on, and interrupts from
 * there. A new one is a file beside this and a row of hv_carriers[] (carrier.c).
 * docs/architecture.md, section 1, has them side by side.
 *
 * The kernel of a virtual machine (guest/linux/vio_hv.c) is another implementation of the mailbox: what it writes into the
 * shared memory is the same (proto/mailbox.h).
 */
#ifndef PHYP_CARRIER_H
#define PHYP_CARRIER_H

#include <unistd.h>

#include "phyp/core/carrier_ops.h"

/*
 * A new one: `open` makes the view by hv_part_new() from a segment and the descriptors of the partition's own memory, puts
 * what the carrier needs into part->at, gives the view its eventfds (hv_part_set_evfds()), and sees to it that hv_part_lost() is
 * called when the machine goes. Where the segment is the machine's, `call` is hv_dispatch(), somebody calls hv_agent_sweep() when
 * poked, and local.c and daemon.c are the examples. Where it is not, `call` carries, interrupts are raised in the view's own
 * segment, phyp_alias_set() has nothing to do, and mailbox.c is the example.
 */
extern const struct hv_carrier hv_carrier_local, hv_carrier_phypd, hv_carrier_mailbox;

/* Write an eventfd. */
static inline void hv_ring(int evfd)
{
	const uint64_t one = 1;

	while (write(evfd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

#endif
