/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The hypervisor segment: all state of one machine that is not partition memory. One sealed memfd,
 * mapped by phypd and by each partition's libphyp, at different addresses: it holds offsets and
 * indices, never pointers.
 *
 * Who writes what
 *  - configuration: the creator, before anybody else maps the segment;
 *  - TCEs: the owning partition's calls, single 64-bit stores, no lock;
 *  - a CRQ: whoever holds its lock; `link` of both ends: whoever holds both ends' locks (lower unit first);
 *  - an endpoint's state word: anybody, by compare-and-swap from normal; its partition from there on (pe.c);
 *  - what is over at an end (`pe_over`, `closed_over`): the process that it is about (over.c);
 *  - a grant: its state and sequence in one word, by compare-and-swap; the rest by the owner's calls while it is
 *    free (grant.c);
 *  - an interrupt line: anybody, atomically; counters: the one thread of their vcpu.
 * The locks are robust. What they guard is written in an order that leaves it usable after each single store,
 * so that a partition killed inside a call blocks nobody (see hv_crq_put()).
 *
 * A partition that is stopped inside a call (SIGSTOP, a debugger, a freezer) keeps a lock. So nobody waits for one
 * that another partition can hold: a call looks HV_LOOKS times and then answers H_BUSY, and phypd comes back later.
 * The only locks that partitions share are the CRQs'. The table of who can hold them and who is kept waiting is in
 * docs/memory-order.md.
 */
#ifndef PHYP_SEG_H
#define PHYP_SEG_H

#include <assert.h>
#include <pthread.h>
#include <stdalign.h>

#include "vio/atomics.h"
#include "vio/phyp.h"

#define HV_MAGIC   0x766961736567ull
#define HV_VERSION 4u

/*
 * Numbers that a partition sees; the difference to the base is the unit's index, so that finding a
 * window is one comparison and one array access.
 */
#define HV_LIOBN_BASE 0x10000000u
#define HV_UNIT_BASE  0x30000000u
/*
 * First IOBA of a window. Different at the two ends, so that an address used at the wrong end is
 * refused, and below 4 GiB, because version 1 of the device protocol carries 32-bit addresses.
 */
#define HV_WINDOW_CLIENT 0x10000000ull
#define HV_WINDOW_SERVER 0x20000000ull

#define HV_NONE UINT32_MAX
#define HV_EVFDS                                                                                   \
	(PHYP_MAX_VCPUS + 1) /* eventfds of a partition: one a vcpu, the last its agent's */
#define HV_AGENT     PHYP_MAX_VCPUS
#define HV_PROD      (1ull << 63) /* bit of `pending` that is not an interrupt: phyp_vcpu_prod() */
#define HV_CRQ_PAGES (CRQ_MAX_BYTES / CRQ_PAGE_BYTES)

/* The sender writes pending, the sleeper writes waiting and the sender reads it: a line each. */
struct hv_line {
	alignas(VIO_APART) uint64_t pending; /* bit i: unit i of the partition; HV_PROD */
	uint64_t events; /* bit i: unit i's endpoint, or its partner's, was stopped */
	alignas(VIO_APART) uint32_t waiting; /* the vcpu sleeps in its eventfd */
};

struct hv_counters {
	alignas(VIO_APART) struct phyp_counters c; /* a writer each: no line shared */
};

struct hv_part {
	char name[PHYP_NAME_LEN];
	uint64_t mem_bytes;
	uint32_t lmb_shift;
	uint32_t n_lmbs;
	uint64_t backing; /* of the present generation */
	uint32_t gen;     /* how often it was activated */
	uint32_t active;  /* gen while a process has it, else 0 */
	struct hv_line line[PHYP_MAX_VCPUS];
	struct hv_counters ctr[PHYP_MAX_VCPUS];
};

enum hv_crq_state {
	HV_CRQ_FREE,
	HV_CRQ_REGISTERED,
	HV_CRQ_SUSPENDED, /* by transport event 6, until H_ENABLE_CRQ */
};

struct hv_crq {
	pthread_mutex_t lock;
	uint32_t state;
	uint32_t gen; /* of the partition that registered it */
	uint32_t seq; /* registrations so far: tells a standing alias that the pages are others */
	uint32_t n;   /* entries */
	uint32_t tail;
	/*
	 * What a sender that died in the middle was doing: 1 + the entry's index, and what it had
	 * put there.
	 */
	uint32_t intent;
	uint32_t signal; /* H_VIO_SIGNAL */
	uint32_t route;  /* vcpu that takes the interrupt */
	uint64_t scrub;
};

struct hv_unit {
	uint32_t part;
	uint32_t local;   /* index in the partition: phyp_unit(part, local), bit of `pending` */
	uint32_t partner; /* unit index, HV_NONE: no authorised partner */
	uint32_t is_server;
	uint32_t page_shift;
	uint64_t base; /* first IOBA */
	uint64_t bytes;
	uint64_t tce_off;  /* in the segment */
	uint64_t page_off; /* guest-logical addresses of the CRQ's pages, in the segment */
	/*
	 * Connected: the partner's generation, else 0. Each RDMA call reads it; on its own line
	 * because the CRQ's is written with each message.
	 */
	alignas(VIO_APART) uint32_t link;
	uint32_t closings; /* of the connection, by this end */
	uint32_t
		closed_over; /* up to which the partner's process says that no call of before is inside */
	uint64_t pe;         /* the partitionable endpoint's state word: phyp/core/pe.h */
	/* For which word this end's process, the partner's, say the same. */
	uint64_t pe_over[2];
	alignas(VIO_APART) struct hv_crq crq;
};

enum hv_grant_state {
	HV_GRANT_FREE,
	HV_GRANT_GRANTED,
	HV_GRANT_ACCEPTED,
	HV_GRANT_RESCINDING, /* forced; the sharer's translation is still there */
	HV_GRANT_GONE, /* forced; the translation is gone, the owner has not asked again yet */
};

/*
 * A partition has seg->grants_each of them, in a row: nobody else can use them up. Everything but
 * `word` is written by the owner's calls while the state is FREE, and read between two looks at
 * `word` (pair F).
 */
struct hv_grant {
	uint64_t word;      /* sequence << 8 | state; a cookie of an older sequence is rescinded */
	uint32_t owner_gen; /* the owner is known by the place */
	uint32_t sharer;
	uint32_t unit; /* index: the sharer's end of the adapter that it was granted through */
	uint32_t flags;
	uint64_t gla, len;
};

struct hv_seg {
	uint64_t magic;
	uint32_t version;
	uint32_t n_parts, n_units;
	uint64_t bytes;
	uint64_t tick_hz;
	struct phyp_cost cost;
	uint32_t freeze;   /* a bad DMA freezes the endpoint */
	uint32_t exposure; /* TCE calls keep the counters of exposure */
	struct hv_part part[PHYP_MAX_PARTS];
	struct hv_unit unit[PHYP_MAX_UNITS];
	uint64_t cookie_key[2]; /* random: what cookies are made with */
	uint32_t grants_each;   /* grants of one partition */
	struct hv_grant grant[PHYP_MAX_GRANTS];
};

static inline uint64_t *hv_tces(struct hv_seg *s, const struct hv_unit *u)
{
	return (uint64_t *)(void *)((uint8_t *)s + u->tce_off);
}

static inline uint64_t *hv_crq_pages(struct hv_seg *s, const struct hv_unit *u)
{
	return (uint64_t *)(void *)((uint8_t *)s + u->page_off);
}

/* How often a call looks for a lock that another partition holds: about a microsecond, some sends. */
#define HV_LOOKS 64

/*
 * Take a robust lock, looking at most `looks` times (1 at least); the state of an owner that died is
 * left to what the lock guards. false: somebody has it, perhaps a partition that is stopped.
 */
static inline bool hv_lock(pthread_mutex_t *m, unsigned looks)
{
	int rc;

	while ((rc = pthread_mutex_trylock(m)) == EBUSY && --looks > 0)
		vio_cpu_relax();
	if (rc == EOWNERDEAD)
		rc = pthread_mutex_consistent(m);
	return rc == 0;
}

static inline void hv_unlock(pthread_mutex_t *m)
{
	pthread_mutex_unlock(m);
}

/*
 * Make a machine's segment from a checked profile. *fd: the memfd, sealed. -ENOMEM with a sentence.
 */
int hv_seg_create(const struct phyp_profile *p, struct hv_seg **seg, int *fd, struct vio_err *err);
/* Map the segment of `fd`. -EPROTO when it is not one of this version. */
int hv_seg_map(int fd, struct hv_seg **seg, struct vio_err *err);
void hv_seg_unmap(struct hv_seg *seg);

/* Fill in defaults (lmb_mib, window_mib, page_shift) and check. -EINVAL with a sentence naming the field. */
int hv_profile_check(struct phyp_profile *p, struct vio_err *err);

/* Sum of a partition's counters. */
void hv_counters_sum(const struct hv_part *p, struct phyp_counters *sum);
/* A partition's windows were emptied, and nobody makes calls: nothing of it is exposed. */
void hv_exposure_reset(struct hv_part *p);
/* All partitions. n in: room, out: filled. */
void hv_stats(const struct hv_seg *s, struct phyp_part_stats *stats, unsigned *n);

#endif
