/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What vio-blk prints: one JSON object (schema "vio-blk/1", keys in docs/results.md) and a few lines for the
 * person.
 */
#ifndef VIO_GUEST_REPORT_H
#define VIO_GUEST_REPORT_H

#include "guest/prog/options.h"

/* Counters of every partition at one instant. */
struct vio_snapshot {
	struct phyp_part_stats part[PHYP_MAX_PARTS];
	unsigned n;
	/* Of this process: none should happen on a data path. */
	uint64_t minor_faults, voluntary_switches, involuntary_switches;
	uint64_t cpu_ns; /* user and system, all threads */
	uint64_t tick;   /* no TCE of this partition changed between it and the reading of its counters */
};

/* end: at the end of a measurement, else at its start. `tick` and what is this process's own are read on the
 * measurement's side of the round trip. */
int vio_snapshot_take(struct phyp_part *part, struct vio_snapshot *s, bool end, struct vio_err *err);
/* id: the disk's GET_ID string. ready_ns: from process start to DRIVER_OK. -errno when o->json can't be
 * written. */
int vio_report_info(struct vio_blk *b, const struct vio_opts *o, const char *id, uint64_t ready_ns,
		    struct vio_err *err);
int vio_report_result(struct vio_blk *b, const struct vio_opts *o, const char *id, uint64_t ready_ns,
		      const struct vio_snapshot *from, const struct vio_snapshot *to,
		      const struct vio_wl_result *res, struct phyp_part *part, struct vio_err *err);

#endif
