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

#include "phyp/core/pe.h"
#include "phyp/state/lmb.h"
#include "phyp/state/seg.h"

#define HV_LOGICAL_BASE (1ull << 40) /* accepted grants, in the sharer's logical space */

/* All of a partner's memory, contiguous, from its logical address 0. */
struct hv_alias {
	uint8_t *base;
	uint64_t len;
	uint32_t gen;
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

/* ------------------------------------------------------------------- partners' memory (peer.c) ---- */

/*
 * Have the descriptors of the partner's generation gen, and the standing alias when wanted. 0 or
 * -errno. Asks the control plane when they are not there: no lock may be held.
 */
int hv_peer_ready(struct phyp_part *part, struct hv_peer *peer, uint32_t gen, bool alias);
/* hv_tmap_get() in the partner's memory of generation gen. */
uint8_t *hv_peer_map(struct phyp_part *part, struct hv_peer *peer, uint32_t gen,
		     struct hv_tmap *map, uint64_t gla, uint64_t *len);
/*
 * Forget descriptors (when of another generation than keep_gen) and alias. Waits for calls that use
 * the alias. The caller is not in one.
 */
void hv_peer_drop(struct phyp_part *part, struct hv_peer *peer, uint32_t keep_gen);
/* Forget the standing CRQ alias; the caller holds the partner's CRQ lock. */
void hv_crq_alias_drop(struct hv_crq_alias *a);

static inline void hv_busy_begin(struct phyp_vcpu *v)
{
	vio_store_relaxed(&v->busy, 1u);
	/*
	 * Pair P: mark busy before the alias is read. With membarrier() in hv_peer_drop() the
	 * compiler's order will do.
	 */
	if (vio_likely(v->part->asymmetric))
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
	else
		vio_fence_full();
}

static inline void hv_busy_end(struct phyp_vcpu *v)
{
	vio_store_release(&v->busy,
			  0u); /* pair P: the last use of the alias before it counts as unused */
}

/* ------------------------------------------------------------------------ CRQ (crq.c) ---- */

/* Where an entry of a receiver's queue can be written from here. */
struct hv_slots {
	uint64_t *(*slot)(struct hv_slots *s, struct hv_seg *seg, struct hv_unit *dst, uint32_t i);
	struct hv_tmap map; /* released by hv_slots_done() */
	/* slot = hv_slot_part */
	struct phyp_part *part;
	struct hv_lunit *lu;
	uint32_t gen;
	/* slot = hv_slot_machine */
	const int *fd;
};
uint64_t *hv_slot_machine(struct hv_slots *s, struct hv_seg *seg, struct hv_unit *dst, uint32_t i);

/*
 * Append an entry to dst's queue, whose lock is held. event: never dropped, written over the last
 * valid entry when the queue is full. H_SUCCESS, H_DROPPED, H_HARDWARE (the memory can't be
 * reached).
 */
int64_t hv_crq_put(struct hv_seg *seg, struct hv_unit *dst, struct hv_slots *s, uint64_t hi,
		   uint64_t lo, bool event);
/* Lock u and its partner, in order. false: neither, somebody holds one of them (hv_lock()). */
bool hv_pair_lock(struct hv_seg *seg, struct hv_unit *u);
void hv_pair_unlock(struct hv_seg *seg, struct hv_unit *u);
/*
 * Close u's queue if a generation up to `gen` of its partition registered it, and tell the partner
 * by transport event `event`. *told: the partner when it was (its interrupt is then to be raised),
 * else NULL. -EBUSY: nothing was done, somebody holds a lock; try again later.
 */
int hv_crq_close(struct hv_seg *seg, struct hv_unit *u, uint32_t gen, uint8_t event,
		 struct hv_slots *s, struct hv_unit **told);
/* Put a transport event into u's own queue; event 6 suspends it. -ENOTCONN: not registered; -EBUSY. */
int hv_crq_event(struct hv_seg *seg, struct hv_unit *u, uint8_t event, struct hv_slots *s);

/*
 * Raise u's interrupt if it is enabled. evfd: its partition's. Bit 0 of the result: raised, bit 1:
 * woke a sleeper.
 */
unsigned hv_irq_raise(struct hv_seg *seg, struct hv_unit *u, const int *evfd);
/* The vcpu's line has something new: wake it if it sleeps. */
bool hv_line_wake(struct hv_line *line, int evfd);

/* --------------------------------------------------------------------- grants (grant.c) ---- */

/*
 * A dead partition's side of all grants: what it accepted is returned, what it gave is under forced
 * rescind; bits of the sharers to poke.
 */
uint32_t hv_grants_orphan(struct hv_seg *seg, uint32_t part);
/* Grants of `owner` (of generation `gen`): force those that are accepted; bits of the sharers to poke. */
uint32_t hv_grants_force(struct hv_seg *seg, uint32_t owner, uint32_t gen);
/*
 * Take back by force what was accepted through u or its partner, either way. true: a sharer's translation, or what it drains,
 * is still there.
 */
bool hv_grants_stop(struct hv_seg *seg, const struct hv_unit *u);
/* The translations under forced rescind, in this process. A mask of enum hv_again. */
unsigned hv_grants_sweep(struct phyp_part *part);

/* ------------------------------------------------------- partitionable endpoints (pe.c) ---- */

/* A connected window refused a DMA at `ioba`: freezes the endpoint when the machine does that. In a call, no lock held. */
void hv_pe_error(struct phyp_vcpu *v, const struct hv_win *w, uint64_t ioba, enum pe_reason reason);
/* This end or its partner's is stopped. */
static inline bool hv_stopped(const struct hv_lunit *lu)
{
	return hv_pe_stopped(lu->u) || (lu->far && hv_pe_stopped(lu->far));
}

/* ------------------------------------------------------------------ what is over (over.c) ---- */

/*
 * The agent's part: say of endpoints that were stopped, and of connections that were closed, that no call of this process is
 * under way that began before. false: one is, sweep again.
 */
bool hv_over_sweep(struct phyp_part *part);
/* Has the partner's process said that of this end's last closing? It is asked. Always, at a server's end: see h_free_crq(). */
bool hv_closing_over(struct phyp_vcpu *v, const struct hv_lunit *lu);

/* Around each access to a partner's memory: first the mark, then the look whether it is connected and not stopped. */
static inline void hv_dma_begin(struct phyp_vcpu *v)
{
	vio_store_relaxed(&v->dma, v->dma + 1);
	/* Pair AA: inside before the link and the state words are looked at; with membarrier() in over.c the compiler's order will do. */
	if (vio_likely(v->part->asymmetric))
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
	else
		vio_fence_full();
}

static inline void hv_dma_end(struct phyp_vcpu *v)
{
	vio_store_release(&v->dma,
			  v->dma + 1); /* pair AA: the last access before it counts as over */
}

/* ------------------------------------------------------------------- the calls (hcall.c) ---- */

typedef int64_t hv_call(struct phyp_vcpu *v, const uint64_t *a, uint64_t *ret);
typedef int64_t hv_entry(struct phyp_vcpu *v, uint64_t op, const uint64_t *a, uint64_t *ret);

/*
 * The calls, once: opcode (its number is in vio/papr.h), how many registers it takes, how many it
 * returns when it succeeds (HV_RET_DATA: as many as its first argument, in bytes, fills), what makes it.
 * The order is that of the counters (phyp_op_index()): new ones at the end.
 */
#define HV_RET_DATA 255
/* clang-format off */
#define HV_CALLS(X)                                              \
	X(H_GET_TCE, 2, 1, hv_get_tce)                           \
	X(H_PUT_TCE, 3, 0, hv_put_tce)                           \
	X(H_REG_CRQ, 3, 0, hv_reg_crq)                           \
	X(H_FREE_CRQ, 1, 0, hv_free_crq)                         \
	X(H_VIO_SIGNAL, 2, 0, hv_vio_signal)                     \
	X(H_SEND_CRQ, 3, 0, hv_send_crq)                         \
	X(H_COPY_RDMA, 5, 0, hv_copy_rdma)                       \
	X(H_WRITE_RDMA, 9, 0, hv_write_rdma)                     \
	X(H_READ_RDMA, 3, HV_RET_DATA, hv_read_rdma)             \
	X(H_STUFF_TCE, 4, 0, hv_stuff_tce)                       \
	X(H_PUT_TCE_INDIRECT, 4, 0, hv_put_tce_indirect)         \
	X(H_GRANT_LOGICAL, 5, 1, hv_grant_logical)               \
	X(H_RESCIND_LOGICAL, 2, 0, hv_rescind_logical)           \
	X(H_ACCEPT_LOGICAL, 2, 4, hv_accept_logical)             \
	X(H_RETURN_LOGICAL, 1, 0, hv_return_logical)             \
	X(H_ENABLE_CRQ, 1, 0, hv_enable_crq)                     \
	X(H_READ_PE_STATE, 1, 5, hv_read_pe_state)               \
	X(H_SET_PE_STATE, 2, 0, hv_set_pe_state)
/* clang-format on */

/* Each is made by the vcpu's thread; a: its registers, checked by nobody before; ret: those that it defines, on success. */
#define HV_CALL_DECLARE(op, n_args, n_ret, call) hv_call call;
HV_CALLS(HV_CALL_DECLARE)
#undef HV_CALL_DECLARE

/* The hypervisor itself, behind all filters. */
hv_entry hv_dispatch;
/* How many registers the call takes. */
unsigned hv_op_args(uint64_t op);
/* How many registers a successful call with these arguments returns. */
unsigned hv_op_results(uint64_t op, const uint64_t *args);
/* Burn `ticks`. */
void hv_spin(uint64_t ticks);

/* The window behind a liobn, NULL when this partition may not name it. */
static inline const struct hv_win *hv_window(const struct phyp_part *part, uint64_t liobn)
{
	uint64_t i = liobn - HV_LIOBN_BASE;

	return vio_likely(i < PHYP_MAX_UNITS && part->win[i].kind != HV_WIN_NONE) ? &part->win[i]
										  : NULL;
}

/* --------------------------------------------------------------- the machine (machine.c) ---- */

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
