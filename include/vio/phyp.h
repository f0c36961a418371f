/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libphyp: a partition's door to the hypervisor model.
 *
 * Concepts
 *  - A *machine* is one hypervisor: a shared segment of state (partitions, virtual adapters, TCE tables, CRQs, grants,
 *    counters) and the partitions' memory. It lives in phypd (other processes attach over a UNIX socket) or, for unit
 *    tests, inside one process.
 *  - A *partition* (struct phyp_part) owns LMBs, contiguous from guest-logical address 0. Each LMB is a sealed memfd.
 *  - A *virtual adapter* ("unit") belongs to a partition and is one end of a CRQ pair. It has a DMA window (liobn) of
 *    TCEs that translate its IOBAs to its partition's guest-logical pages. The server end can also name its partner's
 *    window (remote liobn) in the RDMA calls; the client end can't.
 *  - A *virtual processor* (struct phyp_vcpu) is one thread's handle: its counters, its interrupt line. Every hcall is
 *    made on one, runs in the calling thread on the calling core, and touches the shared segment, which no other code
 *    than libphyp touches.
 *
 * Threads: a phyp_vcpu belongs to one thread at a time. Everything else may be called from any
 * thread of the partition unless said otherwise. Calls marked "data path" allocate nothing, make no
 * system call (but for waking a sleeping partner and for a transient alias) and write no log.
 *
 * Source: LoPAR, Virtualized Input/Output; the calls are listed in vio/papr.h and
 * docs/architecture.md.
 */
#ifndef VIO_PHYP_H
#define VIO_PHYP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vio/atomics.h"
#include "vio/err.h"
#include "vio/hcalls.h"
#include "vio/papr.h"
#include "vio/types.h"

struct phyp_machine; /* an in-process machine */
struct phyp_part;    /* this process's view of one partition */
struct phyp_vcpu;    /* one thread of a partition */

/* Limits of one machine (the shared segment is sized for them). */
#define PHYP_MAX_PARTS  16
#define PHYP_MAX_UNITS  64
#define PHYP_MAX_VCPUS  16 /* per partition */
#define PHYP_MAX_GRANTS 4096
#define PHYP_MAX_LMBS   256 /* per partition */
#define PHYP_NAME_LEN   32

/* ------------------------------------------------------------------ cost model ---- */

/*
 * Injected costs, in nanoseconds, spun with the tick counter. All 0 ("free") injects nothing and is
 * the default. hcall_ns: each call's trap. tce_ns: each TCE written. rdma_ns: each RDMA call's
 * set-up.
 */
struct phyp_cost {
	char name[32];
	uint32_t hcall_ns;
	uint32_t tce_ns;
	uint32_t rdma_ns;
};

/*
 * Parse a preset's name or "hcall=NS,tce=NS,rdma=NS" (each optional, 0 to 1,000,000). 0, or -EINVAL
 * with a sentence. Presets carry their source in phyp/state/cost.c.
 */
int phyp_cost_parse(const char *text, struct phyp_cost *cost, struct vio_err *err);

/* --------------------------------------------------------------------- profile ---- */

enum phyp_pages {
	PHYP_PAGES_AUTO, /* 2 MiB pages where enough are free, plain pages otherwise */
	PHYP_PAGES_4K,
	PHYP_PAGES_2M,
};

/* One partition of a machine. */
struct phyp_part_profile {
	char name[PHYP_NAME_LEN];
	uint32_t memory_mib; /* multiple of lmb_mib */
	uint32_t lmb_mib;    /* power of two, >= 2; 0 = 16 */
	enum phyp_pages pages;
	int numa_node; /* -1: the node of the core that runs first */
	/* phypd: only a process of this user may be the partition. Not owned: phypd's user, and root. */
	bool owned;
	uint32_t uid;
};

/* One pair of virtual adapters. */
struct phyp_adapter_profile {
	char server[PHYP_NAME_LEN]; /* partition names; both must be in the profile */
	char client[PHYP_NAME_LEN];
	uint32_t window_mib; /* each end's DMA window; 0 = twice the end's partition's memory */
	uint8_t page_shift;  /* TCE page: 12, 16 or 21; 0 = 12 */
};

/* A whole machine; the caller's. Partitions and adapters are numbered in this order. */
struct phyp_profile {
	struct phyp_cost cost;
	bool freeze;   /* a DMA that a window refuses freezes the adapter (H_READ_PE_STATE) */
	bool exposure; /* keep the counters of exposure: costs tens of nanoseconds a TCE call */
	struct phyp_part_profile part[PHYP_MAX_PARTS];
	unsigned n_parts;
	struct phyp_adapter_profile adapter[PHYP_MAX_UNITS / 2];
	unsigned n_adapters;
};

/* A profile of one server "vios" and `n_guests` guests "guest0"..., one adapter each. Sizes in MiB, multiples of 16. */
void phyp_profile_default(struct phyp_profile *p, unsigned n_guests, uint32_t server_mib,
			  uint32_t guest_mib);

/* ------------------------------------------------------- machines and partitions ---- */

/*
 * An in-process machine: no daemon, no other process, no root. Everything else in this header then
 * works the same, several partitions opened by one process. -ENOMEM, -EINVAL (profile) with a
 * sentence.
 */
int phyp_local_create(const struct phyp_profile *profile, struct phyp_machine **out,
		      struct vio_err *err);
/* Every partition must have been closed. */
void phyp_local_destroy(struct phyp_machine *m);
/* Activate a partition of it. -ENOENT no such partition, -EBUSY already active. */
int phyp_local_open(struct phyp_machine *m, const char *partition, struct phyp_part **out,
		    struct vio_err *err);
/*
 * What phypd does when a partition's process dies, for tests: CRQs freed, partners told (transport
 * event 0x01), grants taken back at once (without the 2 s grace). The handle must then still be
 * closed with phyp_close().
 */
void phyp_local_kill(struct phyp_machine *m, const char *partition);

/*
 * Make this process `partition` of the machine at `where`: phypd's socket, or CARRIER:PLACE for another way to a machine
 * (docs/architecture.md, section 1): "mailbox:SOCKET,MEMORY" has vio-mailbox make the calls, which sees a client's ends only, counts
 * calls but not what they do, and tells of no frozen adapter. -ENOENT/-ECONNREFUSED no phypd at that socket, nor
 * within two seconds (so that a script may start both at once), -ESRCH no such partition in its
 * profile, -EBUSY a live process has it, -EACCES it is another user's. A sentence in err for each. Starts one sleeping thread,
 * the hypervisor's agent in this process: it removes translations on a forced rescind and notices
 * phypd's death.
 */
int phyp_connect(const char *where, const char *partition, struct phyp_part **out,
		 struct vio_err *err);

/* Deactivate the partition: its CRQs are freed, its grants taken back, its memory unmapped. */
void phyp_close(struct phyp_part *part);

/* False once phypd (or the local machine) is gone; the partition can then only be closed. Data path. */
bool phyp_alive(const struct phyp_part *part);
/*
 * The machine is gone, the partner's process may not be: until it has ended, it and the kernel on its
 * behalf may touch what this partition let it see. Has the process that was last seen at the other
 * end of `unit` (address) ended? Any thread; a system call.
 */
bool phyp_partner_ended(struct phyp_part *part, uint32_t unit);

/* The partition's name in the profile; owned by part. */
const char *phyp_name(const struct phyp_part *part);
/* Bytes of the partition's own memory, from guest-logical 0. */
uint64_t phyp_mem_size(const struct phyp_part *part);
/* Bytes of one LMB; a grant must not cross one. */
uint64_t phyp_lmb_size(const struct phyp_part *part);
/*
 * Size of the pages that back the LMBs: 4096 or 2 MiB. Grants must be aligned to it (here the
 * host's MMU shows through; LoPAR's unit is 4 KiB).
 */
uint64_t phyp_backing_page(const struct phyp_part *part);
/* Ticks of vio_ticks() in a second, measured once per machine. */
uint64_t phyp_tick_hz(const struct phyp_part *part);
const struct phyp_cost *phyp_cost(const struct phyp_part *part);
/* Does the machine keep the counters of exposure? */
bool phyp_counts_exposure(const struct phyp_part *part);

/*
 * Pointer to [a, a+len) of the partition's logical address space: its own memory, or an accepted
 * grant. NULL when the range is not wholly one of these. Own memory is one contiguous mapping, so a
 * pointer may run over LMB borders; an accepted grant is contiguous in itself. Valid until the
 * close, or the return/forced rescind of the grant. Data path.
 */
void *phyp_mem(const struct phyp_part *part, struct gla a, uint64_t len);
/*
 * A new descriptor of LMB `i` of the partition's own memory, which the caller closes: for a program that
 * hands the memory on to another process of the same partition (a virtual machine). -ENOENT no such LMB;
 * else why phypd did not give it.
 */
int phyp_lmb_fd(struct phyp_part *part, unsigned i);

/*
 * What a program that hands accepted pages to a device (the kernel's O_DIRECT, a NIC) owes to a forced
 * rescind: the CPU's translation goes at once, but H_RESCIND_LOGICAL answers H_PARTIAL until `done`.
 * Both are called by the hypervisor's agent, on any thread, with a lock held: they must not block
 * and make no call. start: the pages can't be reached any more, see that what has begun ends; its
 * answer is handed to done, which says whether that has ended. A return of the grant ends it too.
 */
struct phyp_drain {
	uint64_t (*start)(void *ctx);
	bool (*done)(void *ctx, uint64_t number);
	void *ctx;
};
/*
 * Ask this for the grants that were made for `unit` (address; copied) from now on; NULL: nobody, and
 * their pages count as unused. When this returns nothing runs in an earlier one any more. Any thread.
 */
void phyp_on_rescind(struct phyp_part *part, uint32_t unit, const struct phyp_drain *drain);

/* ----------------------------------------------------------------------- adapters ---- */

/* What a partition knows of one of its virtual adapters; fixed while it is open. Addresses and lengths in bytes. */
struct phyp_unit_info {
	uint32_t unit; /* unit address */
	bool is_server;
	uint8_t page_shift; /* of the local window's TCEs */
	uint32_t liobn;     /* local window */
	struct ioba window; /* its first IOBA, never 0 */
	uint64_t window_bytes;
	uint32_t remote_liobn; /* server end: the partner's window; 0 at the client end */
	struct ioba remote_window;
	uint64_t remote_window_bytes;
	uint8_t remote_page_shift;
	char partner[PHYP_NAME_LEN]; /* the partner partition's name */
};

/* Virtual adapters of the partition, up to PHYP_MAX_UNITS. */
unsigned phyp_n_units(const struct phyp_part *part);
/* i < phyp_n_units(); owned by part. */
const struct phyp_unit_info *phyp_unit(const struct phyp_part *part, unsigned i);

/*
 * How the hypervisor reaches the partner's memory from this process when it executes H_SEND_CRQ or
 * an RDMA call here. On the real machine the hypervisor sees all memory; here it can only through
 * this process's page tables. TRANSIENT (default): mapped for the length of one call and unmapped
 * before it returns, so that the address space of this process never contains a partner's page that
 * was not granted, at microseconds a call. STANDING: mapped once; calls then cost what they do on
 * the CPU. Chosen for what an arm uses on its data path.
 */
enum phyp_alias {
	PHYP_ALIAS_TRANSIENT = 0,
	PHYP_ALIAS_CRQ = 1,  /* the pages of the partner's CRQ stand */
	PHYP_ALIAS_RDMA = 2, /* all of the partner's memory stands (includes its CRQ) */
};
/* Not while another thread makes calls on this unit. -ENOENT no such unit. Dropped by itself when the partner dies. */
int phyp_alias_set(struct phyp_part *part, uint32_t unit, enum phyp_alias kind,
		   struct vio_err *err);
/*
 * Go on with what phyp_alias_set() has begun: the pages that stand are brought into this process's page tables, and those
 * that stood are unmapped, about `bytes` of them (a page of the partner's memory at least). Bytes that are left; 0: done. What is
 * left costs the calls that meet it first a page fault, and nothing else. Thread as phyp_alias_set().
 */
uint64_t phyp_alias_step(struct phyp_part *part, uint32_t unit, uint64_t bytes);

/* --------------------------------------------------------------- virtual processors ---- */

/*
 * This process met a page of a partner's memory that is not there (SIGBUS), because its owner punched
 * a hole into it and the machine has no page of its size left. True when `addr` is in a standing
 * alias (phyp_alias_set()): a private page of nothing is in its place now and the call goes on; the
 * owner loses what it has thrown away itself. False: not there. Async-signal-safe, in a call.
 */
bool phyp_hole(struct phyp_part *part, void *addr);

/*
 * Counters of one vcpu: written by its thread only, read by anybody; kept in the shared segment, so
 * that phypd can report all partitions at once. All are totals since the partition was opened.
 */
#define PHYP_N_OPS 20
struct phyp_counters {
	uint64_t hcall[PHYP_N_OPS]; /* indexed by phyp_op_index() */
	uint64_t hcall_failed;      /* calls that did not answer H_SUCCESS */
	uint64_t tce_updates;       /* TCEs written by H_PUT_TCE, _INDIRECT, H_STUFF_TCE */
	uint64_t rdma_bytes;        /* moved by H_COPY_RDMA, H_READ_RDMA, H_WRITE_RDMA */
	uint64_t irq_raised;        /* virtual interrupts this vcpu's calls raised in a partner */
	uint64_t irq_wakes;         /* ... of which found the partner asleep: a system call */
	uint64_t irq_taken;         /* interrupts this vcpu took */
	uint64_t sleeps;            /* times this vcpu blocked */
	/*
	 * Exposure: what the partition's TCEs let its partners reach, over all its windows.
	 * tce_pages: valid TCEs now, in units of 4 KiB whatever their size; tce_page_ticks: the sum
	 * of each change of it times the tick at which it happened; _write: the same of those with
	 * TCE_WRITE. One vcpu maps what another unmaps, so only the sum over the partition's vcpus,
	 * modulo 2^64, means something: see phyp_exposure(). All four are 0 when the partition has
	 * gone, and always on a machine that does not keep them.
	 */
	uint64_t tce_pages, tce_page_ticks;
	uint64_t tce_pages_write, tce_page_ticks_write;
	/* Kept by the partition's own code, here so that they are read at the same instant. */
	uint64_t cpu_bytes;          /* payload bytes this partition's own CPU copied */
	uint64_t kicks;              /* available-buffer notifications sent (guest) */
	uint64_t used_notifications; /* used-buffer notifications sent (server) */
	uint64_t requests;           /* requests completed */
	uint64_t polls_empty, polls_busy;
};

/* -ENOSPC when the partition has PHYP_MAX_VCPUS. */
int phyp_vcpu_create(struct phyp_part *part, struct phyp_vcpu **out, struct vio_err *err);
void phyp_vcpu_destroy(struct phyp_vcpu *vcpu);
struct phyp_part *phyp_vcpu_part(const struct phyp_vcpu *vcpu);
struct phyp_counters *phyp_vcpu_counters(struct phyp_vcpu *vcpu);
/* Sum over the partition's vcpus, past ones included. */
void phyp_part_counters(const struct phyp_part *part, struct phyp_counters *sum);

/*
 * Time integral of `pages` from tick t0 to t1, in pages of 4 KiB times ticks, exact: (p0, a0) and
 * (p1, a1) are tce_pages and tce_page_ticks (or both _write), read when no TCE changed between the
 * reading and t0 or t1. The result must be below 2^64: 4 GiB all the while for an hour and a half
 * at 3 GHz.
 */
static inline uint64_t phyp_exposure(uint64_t p0, uint64_t a0, uint64_t t0, uint64_t p1,
				     uint64_t a1, uint64_t t1)
{
	return p1 * t1 - p0 * t0 - (a1 - a0);
}

/*
 * Counters of every partition of the machine, by name: for a measurement that must read both ends
 * at one instant. Asks phypd (a round trip on the control socket); call it with no request in
 * flight. `n` in: room; out: filled. A phypd without --all-statistics tells a partition its own only;
 * the in-process machine all.
 */
struct phyp_part_stats {
	char name[PHYP_NAME_LEN];
	bool active;
	struct phyp_counters c;
};
int phyp_machine_stats(struct phyp_part *part, struct phyp_part_stats *stats, unsigned *n,
		       struct vio_err *err);

/* --------------------------------------------------------- in front of the calls ---- */

/*
 * A filter in front of the calls, with the calls' own interface: fault injection and tracing.
 * `next` continues. Install while no other thread makes calls. Filters stack, the last installed is
 * asked first. Owned by the caller.
 */
struct phyp_filter {
	int64_t (*hcall)(struct phyp_filter *self, struct phyp_vcpu *vcpu, uint64_t op,
			 const uint64_t args[PHYP_REGS], uint64_t ret[PHYP_REGS]);
	struct phyp_filter *next; /* set by the installation; NULL = the hypervisor itself */
};
void phyp_filter_push(struct phyp_part *part, struct phyp_filter *f);
void phyp_filter_pop(struct phyp_part *part);
/* What a filter calls to go on. */
int64_t phyp_filter_next(struct phyp_filter *self, struct phyp_vcpu *vcpu, uint64_t op,
			 const uint64_t args[PHYP_REGS], uint64_t ret[PHYP_REGS]);

/*
 * The fault filter: "OP@N=RC[xCOUNT]" items, comma separated, e.g.
 * "H_SEND_CRQ@3=H_BUSYx2,H_PUT_TCE@10=H_RESOURCE": from the N-th call of that opcode (1 = first)
 * on, COUNT calls (default 1) answer RC instead of being made; OP may be ANY: the N-th call, whatever it is. RC may be DIE: the process ends with
 * SIGKILL at that call (partner death at a chosen call), STOP: the process stops by SIGSTOP inside
 * that call, with the locks of both queues if it is a CRQ's, and makes it when it is continued, FREEZE: the partition's adapters are
 * frozen as if it had asked, then the call is made, STRAY: what an RDMA call names of the partner's window lies behind its end,
 * or LATE: the call is made but its effect on a TCE is delayed until the next call of the same opcode (late unmap; H_PUT_TCE and H_STUFF_TCE
 * only). -EINVAL with a sentence. Freed by phyp_fault_free() after the pop.
 */
int phyp_fault_create(const char *spec, struct phyp_filter **out, struct vio_err *err);
void phyp_fault_free(struct phyp_filter *f);
/* A filter that prints each call, one line, to `stream` (for --trace). Freed by phyp_trace_free(). */
struct phyp_filter *phyp_trace_create(void *stream, const char *who);
void phyp_trace_free(struct phyp_filter *f);

/* ----------------------------------------------------------------------- interrupts ---- */

/*
 * A unit's virtual interrupt goes to one vcpu of its partition (default: the first created). The
 * hypervisor raises it when an entry arrives in an empty CRQ and signalling is on (H_VIO_SIGNAL).
 * Presentation is a bit in the vcpu's pending word; the vcpu's eventfd is written only when the
 * vcpu said that it sleeps, so a waker pays a system call only for a sleeper.
 */
int phyp_irq_route(struct phyp_vcpu *vcpu, uint32_t unit);

/* Bits of pending units (bit i = phyp_unit(part, i)), taken: cleared by this call (EOI). 0 when none. Data path. */
uint64_t phyp_irq_take(struct phyp_vcpu *vcpu);
/*
 * True, once for each time that it happened: the endpoint of this unit, or its partner's, was stopped: H_READ_PE_STATE says which.
 * Told to the vcpu that the unit's interrupt is routed to, beside an interrupt. One load when nothing was. Data path.
 */
bool phyp_event_take(struct phyp_vcpu *vcpu, uint32_t unit);

/*
 * Wait until an interrupt is pending on this vcpu or somebody prods it: spins `spin_ns`, then
 * blocks, at most `timeout_ns` in all (UINT64_MAX: no limit). 0, -ETIMEDOUT, -EINTR (a signal),
 * -EPIPE (the machine is gone). Does not take the interrupt. Returns at once when one is already
 * pending.
 */
int phyp_vcpu_wait(struct phyp_vcpu *vcpu, uint64_t spin_ns, uint64_t timeout_ns);
/*
 * The same for a program that waits for file descriptors too (n <= PHYP_WAIT_FDS): it also ends,
 * with 0, when one of them is ready; their revents are filled in as poll(2) does, 0 when it did not
 * come to blocking. They are not looked at while spinning.
 */
#define PHYP_WAIT_FDS 7
struct pollfd;
int phyp_vcpu_wait_fds(struct phyp_vcpu *vcpu, uint64_t spin_ns, uint64_t timeout_ns,
		       struct pollfd *fds, unsigned n);
/*
 * From now on the spinning of phyp_vcpu_wait() looks for gaps in each of its turns; what it sleeps is
 * left out. For a partition of one thread: `gaps` is that thread's, and stays until NULL is given.
 */
struct vio_gaps;
void phyp_watch_gaps(struct phyp_part *part, struct vio_gaps *gaps);
/* Wake `vcpu` from phyp_vcpu_wait(). Any thread of the partition. Async-signal-safe. */
void phyp_vcpu_prod(struct phyp_vcpu *vcpu);

/* ------------------------------------------------------------------------ CRQ receive ---- */

/*
 * The receiving end of a CRQ, shared by guest and server: the ring cursor over the receiver's own
 * queue pages. Fill with the queue's memory after H_REG_CRQ (which wants it zeroed).
 */
struct phyp_crq {
	uint64_t *entry; /* 2 words an entry */
	uint32_t n, next;
};

/* Take one entry as numbers (like h_send_crq). False when the queue is empty. Data path, one thread at a time. */
bool phyp_crq_pop(struct phyp_crq *q, uint64_t *hi, uint64_t *lo);

#endif
