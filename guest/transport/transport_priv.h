/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of the guest's transport, shared by transport*.c and nobody else.
 *
 *   transport.c         CRQ, sending and waiting, kick and poll
 *   transport_life.c    open, reset, close
 *   transport_config.c  the slides' sequence
 *   transport_mem.c     the DMA window: control memory, TCEs, windows, slices
 *
 * The DMA window of the unit, from its first IOBA (which is never 0):
 *
 *   +0            control: device header | config space | window descriptor | CRQ   (4 KiB each)
 *   +control      long-lived windows, upwards, in the order in which they were asked for, without
 *                 holes: pieces that follow each other in memory and are asked for one after the
 *                 other have contiguous IOBAs
 *   ...           free
 *   end           slices of the queues' mapping levels, downwards
 *
 * With TCE pages of 4 KiB each control page has the permission that it needs; with larger ones they
 * share a page.
 */
#ifndef VIO_GUEST_TRANSPORT_PRIV_H
#define VIO_GUEST_TRANSPORT_PRIV_H

#include <pthread.h>

#include "guest/transport/transport.h"
#include "vio/atomics.h"

#define VIO_T_TIMEOUT_MS 5000u
/* Spin this long for an answer before sleeping: the server's lcore usually polls. */
#define VIO_T_SPIN_NS 20000ull
/* A sleep on the control path ends after this long even if a wake-up went to another vcpu. */
#define VIO_T_NAP_NS 5000000ull
/*
 * While the server is away: say INIT so often at first, then half as often each time, down to the second: an answer counts that
 * comes before the next INIT, and a server that takes longer than any fixed interval would never be heard.
 */
#define VIO_T_HELLO_NS      250000000ull
#define VIO_T_HELLO_MOST_NS 4000000000ull
/* A hypervisor call that is busy is asked again for at most this long. */
#define VIO_T_BUSY_NS 1000000000ull
/* Once the server has not given pages back within timeout_ms, each further piece is waited for so long. */
#define VIO_T_STUCK_NS 1000000ull
/* The reset of a frozen adapter is asked for so long at a time. */
#define VIO_T_THAW_NS 20000000ull
/* A kick waits so long for room in the server's queue before it is left to the next turn. */
#define VIO_T_KICK_NS 2000000ull

/* Control pages. */
enum { VIO_T_HEADER, VIO_T_CONFIG, VIO_T_WDESC, VIO_T_CRQ, VIO_T_LIST, VIO_T_PAGES };
#define VIO_T_PAGE 4096u

/* A registered window or exposure. */
struct vio_twin {
	bool used;
	uint16_t id;      /* the server's */
	uint32_t session; /* valid at the server in this session only */
	uint64_t cookie;
};

struct vio_texpose {
	struct vio_transport *t;
	struct phyp_vcpu *vcpu;
	uint32_t said; /* session in which a failure was said */
};

/* What an awaited answer was. */
enum { VIO_T_NO_ANSWER, VIO_T_OK, VIO_T_REFUSED };

struct vio_transport {
	/* What every poll reads; changes only when a message arrives. */
	const uint64_t *slot; /* first doubleword of the next CRQ entry */
	uint32_t state;       /* enum vio_transport_state */
	uint64_t used;        /* USED came for these queues */
	uint64_t kick_hi;     /* KICK's first doubleword, without the queue */

	/*
	 * Try-lock of the receiving side: crq, link, fsm. Whoever finds it taken leaves; the holder
	 * looks again after letting go (vio_t_drain()). On its own line: kicks of other threads
	 * read the line above.
	 */
	uint32_t lock __attribute__((aligned(VIO_CACHE_LINE)));
	struct phyp_crq crq;
	struct vio_link link;
	struct vio_gfsm fsm;
	uint32_t session; /* counts links and resets: what was agreed in an earlier one is void */
	/* The answer to what is awaited; `answer` is stored last (pair S). */
	uint32_t answer;
	uint16_t answer_id;
	uint8_t answer_why;
	uint64_t answer_arg;
	uint32_t config_changes; /* pair S: what the server wrote before it said so */
	char why[320];

	struct phyp_vcpu *vcpu;
	struct phyp_part *part;
	const struct phyp_unit_info *u;
	struct vio_transport_cfg cfg;
	struct vio_transport_info info;
	uint64_t hello_ns;   /* when INIT was last sent */
	uint64_t hello_wait; /* and how long until the next one; 0: VIO_T_HELLO_NS */
	bool registered;

	struct vio_mem_piece control;
	uint64_t control_len; /* in the DMA window */
	bool mapped;
	struct ioba low, high; /* free: [low, high) */

	/*
	 * One window message at a time, whichever queue's thread it comes from. Not the data path:
	 * it waits for the server.
	 */
	pthread_mutex_t txn;
	bool stuck; /* pages taken back by force did not come in time, and none has since */
	struct vio_twin win[VIO_MAX_WINDOWS];
	struct vio_texpose expose[VIO_MAX_QUEUES];
	unsigned n_expose;
};

/*
 * The valid byte alone says whether an entry is there: the sender prepares the rest of the
 * doubleword before.
 */
static inline bool vio_t_waiting(const struct vio_transport *t)
{
	return (be64toh(vio_load_relaxed(vio_load_relaxed(&t->slot))) >> 56) != CRQ_FREE;
}

static inline void *vio_t_page(const struct vio_transport *t, unsigned page)
{
	return t->control.va + (size_t)page * VIO_T_PAGE;
}

static inline struct ioba vio_t_page_at(const struct vio_transport *t, unsigned page)
{
	return ioba_add(t->u->window, (uint64_t)page * VIO_T_PAGE);
}

static inline enum vio_transport_state vio_t_state(const struct vio_transport *t)
{
	return (enum vio_transport_state)vio_load_acquire(&t->state); /* pair S */
}

/* Bytes that the server reads or writes by RDMA: one untorn access each, so that nothing is read twice. */
void vio_t_get(void *dst, const void *shared, size_t len);
void vio_t_put(void *shared, const void *src, size_t len);

/* ---- transport.c ---- */
/*
 * Wait a moment before a busy call is made again; false when `since` (vio_now_ns()) is longer ago
 * than `limit_ns`.
 */
bool vio_t_again(struct phyp_vcpu *vcpu, uint64_t since, uint64_t limit_ns);
/* Handle what arrived, unless another thread is at it. */
void vio_t_drain(struct vio_transport *t, struct phyp_vcpu *vcpu);
/* With the lock: what was agreed is void. */
void vio_t_new_session(struct vio_transport *t, enum vio_transport_state s);
/* With the lock: say INIT. */
void vio_t_hello(struct vio_transport *t, struct phyp_vcpu *vcpu);
/*
 * Check with the state machine, trace, send; a full queue is waited for. -EPROTO, -ENOTCONN,
 * -ETIMEDOUT, -EIO.
 */
int vio_t_send(struct vio_transport *t, struct phyp_vcpu *vcpu, struct vio_msg *m,
	       struct vio_err *err);
/*
 * vio_t_send(), then wait for the answer: 0; -EPERM refused (t->answer_why); and vio_t_send()'s.
 * Messages that have an answer only, one at a time.
 */
int vio_t_ask(struct vio_transport *t, struct phyp_vcpu *vcpu, struct vio_msg *m,
	      struct vio_err *err);
void vio_t_set_state(struct vio_transport *t, enum vio_transport_state s);
void vio_t_lock(struct vio_transport *t);
void vio_t_unlock(struct vio_transport *t);
enum vio_gstate vio_t_gstate(struct vio_transport *t);
__attribute__((format(printf, 2, 3))) void vio_t_say(const struct vio_transport *t, const char *fmt,
						     ...);

/* ---- transport_mem.c ---- */
int vio_t_control_map(struct vio_transport *t, struct vio_mem *mem, struct vio_err *err);
/* Unmap control memory and everything long-lived. */
void vio_t_unmap_all(struct vio_transport *t);
/*
 * Take back the grants of windows of earlier sessions (all: of this one too). False: some could not
 * be, and are tried again by the next call.
 */
bool vio_t_void_windows(struct vio_transport *t, bool all);

#endif
