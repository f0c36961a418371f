/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libphyp inside: one process's view of the machine. Nothing outside phyp/ and its tests includes
 * this.
 *
 * Lock order, outermost first: acc_lock, CRQ locks (lower unit first), a peer's lock. Only the CRQ
 * locks are shared with other processes, and nobody waits for one (seg.h). A request to the control
 * plane (phypd) is made with none of them held: phypd itself takes CRQ locks.
 */
#ifndef PHYP_HV_H
#define PHYP_HV_H

#include "phyp/state/lmb.h"
#include "phyp/state/seg.h"

#define HV_LOGICAL_BASE (1ull << 40) /* accepted grants, in the sharer's logical space */

/* All of a partner's memory, contiguous, from its logical address 0. */
struct hv_alias {
	uint8_t *base;
	uint64_t len;
	uint64_t ready; /* bytes from the beginning on whose pages are in this process's tables */
	uint32_t gen;
	struct hv_alias *next; /* of those that are gone */
};

/* A partner partition: descriptors of its memory (of one generation) and of its vcpus. */
struct hv_peer {
	uint32_t part;
	pthread_mutex_t lock; /* gen, fd */
	uint32_t gen;         /* of fd[]; 0: none; also read without the lock */
	unsigned n_fds;
	int fd[PHYP_MAX_LMBS];
	struct hv_alias *
		alias; /* read without the lock by calls that are marked busy; see hv_peer_drop() */
	struct hv_alias *
		gone; /* nobody uses them any more: to be unmapped, by phyp_alias_step(); under lock */
	int evfd[HV_EVFDS];
};

/* The pages of a partner's CRQ, standing. Guarded by that CRQ's lock. */
struct hv_crq_alias {
	uint32_t gen, seq;
	unsigned n_pages, n_maps;
	uint8_t **page;
	struct hv_tmap *map;
};

/* One of the partition's own units. */
struct hv_lunit {
	uint32_t index; /* in the segment */
	struct hv_unit *u;
	struct hv_unit *far; /* NULL: no partner */
	struct hv_peer *peer;
	enum phyp_alias kind;
	struct hv_crq_alias crq;
	struct phyp_unit_info info;
	struct phyp_drain drain; /* .start NULL: none. Guarded by acc_lock */
};

enum hv_win_kind {
	HV_WIN_NONE,
	HV_WIN_LOCAL,
	HV_WIN_REMOTE, /* the partner's, at a server end */
};

/* A DMA window that this partition may name in a call; fixed while it is open. */
struct hv_win {
	uint64_t *tce;
	uint64_t base, bytes;
	uint8_t shift;
	uint8_t kind;
	struct hv_lunit *lu; /* the own unit through which it is reached */
};

/*
 * An accepted grant: [off, off+len) of the range for accepted grants. len 0: taken back by force.
 * Its place, `room` bytes, stays empty until the sharer returns it: the sharer may not know yet,
 * and must not meet another grant's pages there.
 */
struct hv_acc {
	uint64_t off, len, room, cookie;
	uint64_t drain; /* the number that drain_start() answered */
	uint32_t unit;  /* the sharer's, in the segment */
	uint32_t back;  /* enum hv_acc_back */
};

/* How far a forced rescind has come with an accepted grant. */
enum hv_acc_back {
	HV_ACC_LIVE,
	HV_ACC_DRAINING, /* no translation any more; devices of the sharer may still use the pages */
	HV_ACC_GONE,     /* and the owner may be told so */
};

struct hv_carrier; /* phyp/core/carrier_ops.h */

struct phyp_vcpu {
	struct phyp_part *part;
	struct phyp_counters *c;
	struct hv_line *line;
	unsigned slot;
	int evfd;
	alignas(VIO_APART) uint32_t busy; /* in a call that uses a standing alias */
	uint32_t dma;                     /* odd: in a call that reaches a partner's memory */
};

struct phyp_part {
	/* Read by each call. */
	struct hv_seg *seg;
	uint8_t *mem;
	uint64_t mem_bytes;
	uint32_t
		detour; /* not 0: filters, costs, a killed partition or another process stand in a call's way */
	uint32_t n_units;
	bool exposure;                     /* a TCE call keeps its counters */
	struct vio_gaps *gaps;             /* phyp_watch_gaps(), or NULL */
	struct hv_win win[PHYP_MAX_UNITS]; /* by liobn - HV_LIOBN_BASE */

	uint32_t idx, gen;
	uint32_t alive;
	uint32_t killed;
	bool asymmetric; /* membarrier() works: calls mark themselves busy without a fence */
	uint64_t lmb_bytes, backing;
	uint64_t hcall_ticks, tce_ticks, rdma_ticks;
	struct phyp_filter *filters;

	struct hv_lunit unit[PHYP_MAX_UNITS];
	struct hv_peer *peer[PHYP_MAX_PARTS]; /* partners only */

	pthread_mutex_t vcpu_lock; /* vcpu[] */
	struct phyp_vcpu *vcpu[PHYP_MAX_VCPUS];
	int evfd[HV_EVFDS];

	pthread_mutex_t grant_lock; /* this process's making of grants */
	uint32_t next_grant;        /* where a free one is looked for */

	pthread_mutex_t acc_lock; /* acc[]; held while a grant's translation changes */
	uint8_t *acc_va;
	uint64_t acc_bytes;
	uint32_t acc_seq; /* odd while acc[] changes: phyp_mem() reads without the lock */
	uint32_t n_acc;
	struct hv_acc acc[PHYP_MAX_GRANTS]; /* sorted */

	const struct hv_carrier *carrier;
	void *at; /* the carrier's own: the machine, the connection */
};

/* ---------------------------------------------------------------- partition view (part.c) ---- */

/* Build the view of partition idx, which is active and whose LMBs are fd[] (not kept). */
int hv_part_new(struct hv_seg *seg, uint32_t idx, const int *fd, const struct hv_carrier *carrier,
		struct phyp_part **out, struct vio_err *err);
/* Give the view the eventfds of partition p, its own or a partner's. */
void hv_part_set_evfds(struct phyp_part *part, uint32_t p, const int evfd[HV_EVFDS]);
void hv_part_free(struct phyp_part *part);
/* Set detour from filters, costs, killed and the carrier. */
void hv_part_set_detour(struct phyp_part *part);
/* An own unit by unit address, NULL: none. */
static inline struct hv_lunit *hv_own_unit(struct phyp_part *part, uint64_t unit)
{
	uint64_t i = unit - HV_UNIT_BASE;

	return i < PHYP_MAX_UNITS && part->win[i].kind == HV_WIN_LOCAL ? part->win[i].lu : NULL;
}
/* The machine is there, and the partition was not killed. */
static inline bool hv_alive(const struct phyp_part *part)
{
	return vio_load_acquire(&part->alive) != 0;
}
/* The machine has gone, or the partition was killed: wake everybody up. */
void hv_part_lost(struct phyp_part *part);
enum hv_again {
	HV_AGAIN_LOCKED = 1,   /* a partner holds a lock */
	HV_AGAIN_DRAINING = 2, /* a unit's program still uses pages that are under forced rescind */
};
/*
 * The hypervisor's agent in a partition's process: removes the translations of grants under forced
 * rescind, and forgets the memory of partners that are no more. Any thread, with no lock held. Not 0:
 * not all could be done, for the reasons in the mask of enum hv_again; sweep again later.
 */
unsigned hv_agent_sweep(struct phyp_part *part);

#endif
