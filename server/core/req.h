/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A request on its way through the server, and the queue that it came from.
 *
 * Life of a request (all on the lcore that owns the queue; never two threads):
 *   FREE --ring->pop--> POPPED --payload->fetch, dev->submit--> SUBMITTED --> DONE --ring->push-->
 * FREE Requests are preallocated, one per descriptor-table entry, and indexed by chain head: a head that is
 * in flight can't come in again (the guest would be lying), so the number in flight is bounded by the queue
 * size.
 *
 * Everything in a struct vio_req is private to the server: a snapshot of what the guest wrote,
 * taken once.
 */
#ifndef VIO_SERVER_REQ_H
#define VIO_SERVER_REQ_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include <linux/virtio_ring.h>

#include "notify/notify.h"
#include "proto/msg.h"
#include "server/store/io.h"
#include "vio/arm.h"
#include "vio/atomics.h"
#include "vio/phyp.h"
#include "vio/types.h"

struct vio_adapter;
struct vio_dev_ops;
struct vio_dev_queue;
struct vio_payload_ops;
struct vio_order;
struct vio_ring_ops;
struct vio_wtable;

/* Descriptors in one chain: VIRTIO_BLK_F_SEG_MAX (32) and the device's header and status. */
#define VIO_SEG_MAX  32
#define VIO_MAX_SEGS (VIO_SEG_MAX + 2)
/*
 * vio_req.n_seg of a chain with more: seg[VIO_MAX_SEGS - 1] is its last, before it are its first ones; all others are
 * in vio_squeue.tail, where the device has one. Only devices that say so get such (struct vio_dev_ops).
 */
#define VIO_SEGS_MORE (VIO_MAX_SEGS + 1)
/* Bytes of a device's request header that payload->fetch takes, at most. */
#define VIO_REQ_HDR 16u

struct vio_seg {
	struct ioba at;
	uint32_t len;
	bool dev_writes;
};

/* HELD: waits for a person, in the list of those that wait, and has no place in server memory. */
enum vio_req_state { VIO_REQ_FREE, VIO_REQ_POPPED, VIO_REQ_HELD, VIO_REQ_SUBMITTED, VIO_REQ_DONE };

/*
 * What every request of a burst needs lies in the first two lines (a chain of three included), then
 * the rare long chains, then what a store needs. The size is an odd number of lines: chain heads
 * are usually multiples of four, and an even stride would put the hot lines of all of them into few
 * sets of the cache.
 */
struct vio_req {
	/* Line 0. Set by ring->pop. */
	struct vio_squeue *q;
	uint16_t head;
	uint8_t n_seg;
	uint8_t n_readable; /* the first n_readable segments are device-readable */
	uint8_t state;      /* enum vio_req_state */
	uint8_t fault;      /* enum vio_status: not VIO_ST_OK stops the device (NEEDS_RESET) */
	/* Set by the device. */
	uint8_t dev_status; /* to be stored at status_at, where the device has one */
	uint8_t n_data;     /* segments in data[] */
	uint8_t n_iov;      /* set by payload->get */
	bool to_guest; /* data[] is for the guest; false at the end: nothing of it is worth copying */
	bool waits;    /* set by payload->get: no bounce room now, try again later */
	uint8_t kind; /* the device's own, as are these two */
	uint8_t range, n_ranges;
	uint32_t data_len; /* sum over data[] */
	uint32_t
		used_len; /* bytes written from the first device-writable one on, for the used element */
	struct ioba status_at; /* where the status byte goes */
	struct vio_seg *data;  /* inside seg[]: what is left of it without header and status */
	void *bounce;          /* payload rdma: server-side buffer, or NULL */
	struct vio_req *next;  /* the device's lists */

	/* Line 1. hdr: snapshot by payload->fetch, in the device's own format. */
	uint8_t hdr[VIO_REQ_HDR] __attribute__((aligned(8)));
	struct vio_seg seg[VIO_MAX_SEGS];

	/* A line of the payload level and the store. */
	struct vio_io io __attribute__((aligned(VIO_CACHE_LINE)));
	uint8_t epoch; /* the disk's, when the store was given it (server/dev/blk/blk_stop.c) */
	/* payload->get: where the data is for the server's CPU or kernel. */
	struct iovec iov[VIO_MAX_SEGS];
	union {
		uint8_t odd[VIO_CACHE_LINE]; /* see above */
		const void *hdr_at;          /* without snapshots: where the guest has it */
	};
};
static_assert(offsetof(struct vio_req, hdr) == VIO_CACHE_LINE, "line 0 is full");
static_assert(offsetof(struct vio_req, seg) + 3 * sizeof(struct vio_seg) == 2 * VIO_CACHE_LINE,
	      "a chain of 3 in line 1");
static_assert(offsetof(struct vio_req, iov) + sizeof(struct iovec) <=
		      offsetof(struct vio_req, io) + VIO_CACHE_LINE,
	      "a store's work and its first piece in one line");
static_assert((sizeof(struct vio_req) / VIO_CACHE_LINE) % 2 == 1, "odd stride");
static_assert(VIO_MAX_SEGS == VIO_IO_MAX_IOV, "a chain's data is one piece of work");

/*
 * A chain that is one descriptor, of a queue whose device asks for such (struct vio_dev_ops): a
 * private copy of all that matters, without a struct vio_req; at every level of ring access and
 * payload. Everything else goes the long way, also whatever is wrong.
 */
struct vio_plain {
	uint8_t *va; /* set by payload->plain */
	struct ioba at;
	uint32_t len;
	uint16_t head;
};

/* Per-queue counters: written by the owning lcore, read by telemetry. */
struct vio_sq_stats {
	uint64_t requests, reads, writes, flushes, others, errors;
	uint64_t bytes_read, bytes_written; /* payload, as the guest counts */
	uint64_t cpu_bytes;                 /* payload bytes the server's CPU copied */
	uint64_t kicks_seen, notifications, notifications_suppressed;
	uint64_t polls_empty, polls_busy;
	uint64_t batch[6]; /* pops of 1, 2-3, 4-7, 8-15, 16-31, 32 requests */
};

/* Private place of a queue, as configured. Sizes are powers of two. */
struct vio_sq_place {
	uint16_t size;
	struct ioba desc, avail, used;
};

/* What the adapter's lcore asks of the lcore that owns a queue. */
enum vio_sq_ctl {
	VIO_SQ_RUN,
	VIO_SQ_HOLD, /* take no new chains, finish and give back those in flight */
	VIO_SQ_STOP, /* touch no guest memory: let the backend finish and drop what it returns */
};

/*
 * The server's end of one virtqueue. The first line is all that an empty poll of a direct ring
 * touches besides the guest's available index. Owned by one lcore, except `kicked` and `ctl`, which
 * the adapter's lcore sets (vio_store_release, so that what came before the KICK or the request is
 * seen: pair K), and `fault` and `in_flight`, which it may read (vio_load_acquire: pair Q). A queue
 * that has faulted or is held or stopped goes on being polled until in_flight is 0; once that is
 * seen and the owner has then passed a quiescent state, it does not touch guest memory any more.
 *
 * The adapter zeroes the struct, fills in what is not marked as the levels' own, sets windows_src
 * (never NULL; the table that it points to may be), then calls ring->attach and payload->attach in
 * this order. req[] is zeroed and aligned to VIO_CACHE_LINE; it is the adapter's to free.
 */
struct vio_squeue {
	const struct vio_ring_ops *ring;
	const struct vio_payload_ops *payload;
	/*
	 * Set by ring->attach: the guest's rings, CPU-mapped (desc and avail in read-only panes), or
	 * a copying level's shadow of them.
	 */
	const struct vring_avail *avail;
	const struct vring_desc *desc;
	struct vring_used *used;
	uint16_t size;
	uint16_t last_avail; /* next available entry to take; the server's own, never read back */
	uint16_t used_idx;   /* next used entry to fill; the server's own */
	uint16_t in_flight;  /* popped and not yet pushed or dropped */
	struct vio_notify notify;
	uint8_t fault; /* enum vio_status: not VIO_ST_OK: stopped; the adapter sends NEEDS_RESET */
	bool event_idx;
	bool pull; /* the device takes chains when it has use for them (vio_squeue_take()): a turn takes none */
	bool more;     /* the last pop left entries behind: look again without a kick */
	bool renotify; /* a used-buffer notification found the guest's CRQ full: try again */
	bool told;     /* the poll loop's: it has woken the adapter's lcore for the fault */
	/*
	 * Not among the owner's own flags above: compilers load neighbours together, and these two
	 * change under it.
	 */
	bool kicked;   /* a KICK arrived since the last look */
	uint8_t ctl;   /* enum vio_sq_ctl */
	uint32_t idle; /* empty turns not yet added to stats.polls_empty */

	struct phyp_vcpu *vcpu; /* of the owning lcore */
	/*
	 * The window table in use until the end of this poll, and where the adapter publishes it.
	 * ring->pop loads it with acquire *after* it has seen a new available index: a guest that
	 * registers a window, then publishes a chain in it, must not meet the older table.
	 */
	const struct vio_wtable *windows;
	const struct vio_wtable *const *windows_src;
	const struct vio_dev_ops *dev;
	struct vio_dev_queue *dq;
	struct vio_req *req; /* size elements, indexed by head */
	bool indirect;       /* negotiated */
	bool in_order;       /* negotiated */
	unsigned window_hint;
	uint16_t prev_head;   /* ring direct: predicts the next chain's line */
	uint16_t parked_at;   /* last_avail when notifications were parked */
	const void *prev_hdr; /* payload direct: predicts the next header's line */

	uint32_t liobn, remote_liobn;
	uint32_t unit;               /* for H_SEND_CRQ */
	uint16_t index;              /* of the adapter's queues */
	uint8_t version;             /* negotiated, for USED */
	struct vio_adapter *adapter; /* NULL: a queue without one, in a test */
	bool *attention; /* the adapter's: set after `fault`, so that it looks; may be NULL */
	uint64_t fault_detail;
	struct vio_sq_place place;
	/*
	 * Server partition memory for this queue's RDMA (TCE-mapped in the local window), from the
	 * adapter; page aligned. The levels take pieces in attach (vio_sq_carve()); how much they
	 * need: what the ring says and, for payload rdma, VIO_RDMA_LOCAL_BYTES.
	 */
	void *local_mem;
	struct ioba local_at;
	uint64_t local_len;
	/* The levels' own. */
	uint64_t local_used;
	struct ioba
		local_base; /* payload rdma: IOBA of the server partition's logical address 0 in its window */
	void *ring_priv; /* ring copy levels: the shadow */
	uint16_t *
		taken; /* for each head, by the ring level: not 0 while it is in flight; packed: its descriptors */
	struct vio_order *order; /* by the ring level; NULL: chains go back as they are done */
	void *payload_priv;
	struct vio_req *wait_head,
		*wait_tail; /* device: popped, not with the store yet; in order */
	uint16_t n_wait;    /* of them */
	/*
	 * What the queue may move in the turns to come, bytes; below 1 it waits, and pays with its share of
	 * each turn what a request has taken more. quantum: a unit's share of a turn of this lcore, which `beside` queues
	 * of the unit divide; NULL: there is no bound.
	 */
	int64_t budget;
	const uint32_t *quantum, *beside;
	/*
	 * Of a queue marked `pull`: where the ring level keeps all segments from VIO_MAX_SEGS - 1 on of a chain of
	 * VIO_SEGS_MORE, n_tail of them, until the next is taken; tail_room is what there is room for, and a longer chain
	 * stops the queue. The device's; NULL: nowhere.
	 */
	struct vio_seg *tail;
	unsigned n_tail, tail_room;
	/*
	 * Of in_flight: wait until somebody changes something, and nothing of the guest is used for them;
	 * the adapter need not wait for their end. Begun again under VIO_SQ_RUN only (pair Q).
	 */
	uint16_t parked;
	struct vio_sq_stats stats;
};
static_assert(offsetof(struct vio_squeue, vcpu) == VIO_CACHE_LINE, "the hot line is full");

/*
 * Take `len` bytes of the queue's local memory, aligned to `align` (a power of two <= 4096). NULL:
 * no room.
 */
static inline void *vio_sq_carve(struct vio_squeue *q, uint64_t len, uint64_t align,
				 struct ioba *at)
{
	uint64_t off = VIO_ALIGN_UP(q->local_used, align);

	if (!q->local_mem || !vio_range_ok(off, len, q->local_len))
		return NULL;
	q->local_used = off + len;
	*at = ioba_add(q->local_at, off);
	return (uint8_t *)q->local_mem + off;
}

/* Where bytes of the queue's local memory are in the server's window. */
static inline struct ioba vio_sq_local(const struct vio_squeue *q, const void *va)
{
	return ioba_add(q->local_at,
			(uint64_t)((const uint8_t *)va - (const uint8_t *)q->local_mem));
}

/* What a request costs besides its bytes, as bytes: those without any take time too. */
#define VIO_SQ_REQUEST 512

/* The queue's share of a turn, bytes. */
static inline int64_t vio_sq_share(const struct vio_squeue *q)
{
	int64_t share;
	uint32_t n;

	if (vio_unlikely(q->quantum == NULL))
		return INT64_MAX / 2;
	n = vio_load_relaxed(q->beside);
	share = vio_load_relaxed(q->quantum);
	return n > 1 ? share / n : share;
}

/* A turn with work begins, or one that pays. A debt is carried over, what was not used is not. */
static inline void vio_sq_refill(struct vio_squeue *q)
{
	int64_t share = vio_sq_share(q);

	q->budget = q->budget < 0 ? q->budget + share : share;
}

/* Are there requests that wait for the share of a later turn, or a debt that this one's does not pay? */
static inline bool vio_sq_owes(const struct vio_squeue *q)
{
	return vio_unlikely(q->budget <= 0) &&
	       (q->wait_head != NULL || q->budget + vio_sq_share(q) <= 0);
}

/* A request of so many bytes is begun; it may be more than there is. */
static inline void vio_sq_spend(struct vio_squeue *q, uint64_t bytes)
{
	q->budget -= (int64_t)bytes + VIO_SQ_REQUEST;
}

/*
 * Requests that can't be started yet (popped, no bounce room or budget), in order: behind the others, or
 * (again) before them.
 */
static inline void vio_sq_wait(struct vio_squeue *q, struct vio_req *const r[], unsigned n,
			       bool front)
{
	struct vio_req *head = NULL, *tail = NULL;

	q->n_wait = (uint16_t)(q->n_wait + n);
	for (unsigned i = 0; i < n; i++) {
		r[i]->next = NULL;
		if (tail)
			tail->next = r[i];
		else
			head = r[i];
		tail = r[i];
	}
	if (!head)
		return;
	if (!q->wait_head) {
		q->wait_head = head;
		q->wait_tail = tail;
	} else if (front) {
		tail->next = q->wait_head;
		q->wait_head = head;
	} else {
		q->wait_tail->next = head;
		q->wait_tail = tail;
	}
}

/* The first of those that wait. There is one. */
static inline struct vio_req *vio_sq_unwait(struct vio_squeue *q)
{
	struct vio_req *r = q->wait_head;

	q->wait_head = r->next;
	q->n_wait--;
	return r;
}

/* Has somebody else (a store, a port) requests of it? Owning lcore. */
static inline bool vio_sq_busy(const struct vio_squeue *q)
{
	return q->in_flight > q->parked;
}

/* Stop the queue because its driver did wrong; the first reason stays. Owning lcore. */
static inline void vio_sq_fault(struct vio_squeue *q, uint8_t why, uint64_t detail)
{
	if (q->fault != VIO_ST_OK)
		return;
	q->fault_detail = detail;
	vio_store_release(&q->fault, why); /* pair Q: the detail before the fault */
	if (q->attention)
		vio_store_release(q->attention,
				  true); /* pair Q: the fault before the call for attention */
}

#endif
