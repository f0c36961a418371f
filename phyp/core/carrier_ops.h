/* SPDX-License-Identifier: BSD-3-Clause */
/* What the calls need of a carrier: a row of the table in phyp/carrier/, whose header says which there are. */
#ifndef PHYP_CORE_CARRIER_OPS_H
#define PHYP_CORE_CARRIER_OPS_H

#include "phyp/core/hcall.h"

/* Everything is called on any thread, with no lock held, unless said otherwise; 0 or -errno. */
struct hv_carrier {
	const char *name;
	/*
	 * Become `partition` of the machine at `place`, which ends with phyp_close(). A sentence in err. The codes are
	 * phyp_connect()'s. NULL: the machine is no text, see the row's own function.
	 */
	int (*open)(const char *place, const char *partition, struct phyp_part **out,
		    struct vio_err *err);
	/* The hypervisor is another process: it reaches memory itself, and `call` is how calls get there. */
	bool elsewhere;
	/* A call, behind all filters: hv_dispatch() unless elsewhere. Data path. */
	hv_entry *call;
	/*
	 * The memory of partition p: its generation and descriptors, which the caller then owns.
	 * -ESRCH: not active. -ENOTSUP: not for this end to see.
	 */
	int (*lmbs)(struct phyp_part *part, uint32_t p, uint32_t *gen, int fd[PHYP_MAX_LMBS],
		    unsigned *n);
	/* Have the sharer's agent sweep (hv_agent_sweep()). Used by hv_dispatch()'s calls only: else NULL. */
	void (*poke)(struct phyp_part *part, uint32_t sharer);
	/* As phyp_machine_stats(). */
	int (*stats)(struct phyp_part *part, struct phyp_part_stats *stats, unsigned *n,
		     struct vio_err *err);
	/* The machine has gone. Has the process that was partition p (HV_NONE: no partner is known) ended? NULL: there is none. */
	bool (*ended)(struct phyp_part *part, uint32_t p);
	/* The partition is no more: tell the machine, free everything. */
	void (*close)(struct phyp_part *part);
};

#endif
