/* SPDX-License-Identifier: BSD-3-Clause */
/* The two ends of a measurement, and what every guest program's JSON has in common (docs/results.md). */
#ifndef VIO_GUEST_PROG_MEASURE_H
#define VIO_GUEST_PROG_MEASURE_H

#include <jansson.h>

#include "guest/prog/hist.h"
#include "vio/arm.h"
#include "vio/err.h"
#include "vio/phyp.h"

/* Counters of every partition at one instant. */
struct vio_snapshot {
	struct phyp_part_stats part[PHYP_MAX_PARTS];
	unsigned n;
	/* Of this process: none should happen on a data path. */
	uint64_t minor_faults, voluntary_switches, involuntary_switches;
	uint64_t cpu_ns; /* user and system, all threads */
	uint64_t
		tick; /* no TCE of this partition changed between it and the reading of its counters */
};

/*
 * end: at the end of a measurement, else at its start. `tick` and what is this process's own are
 * read on the measurement's side of the round trip.
 */
int vio_snapshot_take(struct phyp_part *part, struct vio_snapshot *s, bool end,
		      struct vio_err *err);
/* One partition of a snapshot; NULL when it is not there. */
const struct phyp_part_stats *vio_snapshot_find(const struct vio_snapshot *s, const char *name);

/* Counters of the whole machine at the two ends of the measurement. */
struct vio_marks {
	struct phyp_part *part;
	int stage_fd; /* --stage-fd, or -1 */
	struct vio_snapshot at[2];
	int rc;
	struct vio_err err;
};
/*
 * At the end (end) or the beginning of a measurement; ctx: a struct vio_marks. What goes wrong is
 * kept in it.
 */
void vio_mark(void *ctx, bool end);

/* JSON: the names of an arm's levels; each partition's counters between two snapshots; a histogram. */
json_t *vio_arm_json(const struct vio_arm *a);
json_t *vio_partitions_json(const struct vio_snapshot *from, const struct vio_snapshot *to);
json_t *vio_latency_json(const struct vio_hist *h, uint64_t tick_hz);
/* Faults, switches and CPU time of this process, into *run. */
void vio_add_process_json(json_t *run, const struct vio_snapshot *from,
			  const struct vio_snapshot *to);
double vio_ticks_to_ns(uint64_t ticks, uint64_t hz);
/* For json_pack(), which takes what its format says. */
static inline json_int_t ji(uint64_t v)
{
	return (json_int_t)v;
}
/* To a file, "-" is standard output. -errno with a sentence. */
int vio_json_write(json_t *root, const char *path, struct vio_err *err);

#endif
