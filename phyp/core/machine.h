/* SPDX-License-Identifier: BSD-3-Clause */
/* A machine, as phypd and the in-process machine have it: partitions coming and going. One thread, unless said otherwise. */
#ifndef PHYP_MACHINE_H
#define PHYP_MACHINE_H

#include "phyp/core/hv.h"

/* What phypd and the in-process machine have in common. */
struct phyp_machine {
	struct hv_seg *seg;
	int seg_fd;
	struct phyp_profile profile;
	pthread_mutex_t lock;                   /* in-process: lmb[], open[] */
	int lmb[PHYP_MAX_PARTS][PHYP_MAX_LMBS]; /* of active partitions */
	int evfd[PHYP_MAX_PARTS][HV_EVFDS];
	struct phyp_part *open[PHYP_MAX_PARTS]; /* in-process */
};

/* From a profile that is not checked yet. -EINVAL, -ENOMEM with a sentence. *out is the caller's. */
int hv_machine_create(const struct phyp_profile *profile, struct phyp_machine **out,
		      struct vio_err *err);
/* No partition is active. */
void hv_machine_destroy(struct phyp_machine *m);
/* Index by name, or -1. */
int hv_machine_find(const struct phyp_machine *m, const char *name);
/* Fresh memory, a new generation. near: NUMA node for a profile that says -1, or -1. */
int hv_machine_activate(struct phyp_machine *m, uint32_t p, int near, struct vio_err *err);
/*
 * The partition's process is no more: close its CRQs with `event` to the partners, clear its TCEs,
 * return what it accepted, forget its memory. Bits of the partitions whose agents have to sweep.
 * Grants that it gave stay until hv_grants_force(). *late: bits of the units whose queue could not
 * be closed, because a partner that is perhaps stopped holds a lock: hv_machine_close() later.
 */
uint32_t hv_machine_deactivate(struct phyp_machine *m, uint32_t p, uint8_t event, uint64_t *late);
/* Close the queue of unit i for a partition that ended in generation gen. -EBUSY: later. */
int hv_machine_close(struct phyp_machine *m, uint32_t i, uint32_t gen, uint8_t event);
/*
 * Transport event into a unit's queue (6 suspends it until H_ENABLE_CRQ). -ENOENT no such unit,
 * -ENOTCONN no queue, -EBUSY later.
 */
int hv_machine_event(struct phyp_machine *m, uint32_t unit, uint8_t event);

#endif
