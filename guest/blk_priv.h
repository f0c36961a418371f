/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of the virtio-blk front end, shared by blk*.c and nobody else.
 *
 *   blk.c          open, close, information
 *   blk_setup.c    memory: rings, windows, pool; the queues' parts
 *   blk_path.c     submit, poll
 *   blk_idle.c     idle, prod
 *   blk_recover.c  the server goes, comes back, stops the device
 *
 * Threads: a queue belongs to one thread at a time. When the device has to be configured anew, whichever
 * thread notices first closes the gate, waits until the other queues' threads are out of the data path, does
 * the work for all on its own virtual processor, and opens the gate. What needs a queue's own virtual
 * processor (unmapping, mapping, sending again) is left to the queue's owner, who sees at its next poll that
 * the device's `epoch` has moved.
 */
#ifndef VIO_GUEST_BLK_PRIV_H
#define VIO_GUEST_BLK_PRIV_H

#include <assert.h>

#include "guest/blk.h"
#include "guest/gate.h"
#include "guest/payload/payload.h"

#define BLK_BURST         32
#define BLK_DEFAULT_DEPTH 32
#define BLK_DEFAULT_LEN   65536u
/* Resets by the server without one completion in between before what is outstanding is given up. */
#define BLK_MAX_STRIKES 3
/* A sleep never lasts longer: a wake-up that went to another queue's virtual processor costs at most this. */
#define BLK_NAP_NS 10000000ull
/* Status before the device has written one: no value of the specification. */
#define BLK_NO_STATUS 0xffu

/*
 * The part of a request that the device sees besides data. Header and status share one cache line on purpose:
 * the line goes to the server's core once, when it reads the header, is still there when it stores the
 * status, and comes back once, when the guest looks at the status. In lines of their own there would be a
 * transfer more each way. Two requests never share a line.
 */
struct blk_wire {
	struct virtio_blk_outhdr hdr;                 /* device reads */
	struct virtio_blk_discard_write_zeroes range; /* device reads; DISCARD and WRITE_ZEROES */
	uint8_t status;                               /* device writes */
	uint8_t pad[VIO_CACHE_LINE - 33];
};
static_assert(sizeof(struct blk_wire) == VIO_CACHE_LINE, "a line a request");
static_assert(sizeof(struct virtio_blk_outhdr) == 16, "VIRTIO 1.2 5.2.6");

/* A place for a request in flight; private memory. The first line is what a completion needs. */
struct blk_slot {
	struct vio_blk_req *req; /* NULL: free */
	struct blk_wire *wire;
	struct gla wire_at;
	uint32_t seq; /* order of submission, to send again in the same */
	bool has_data;
	struct vio_gbuf buf;
	struct vio_dma_map map;
} __attribute__((aligned(VIO_CACHE_LINE)));

struct blk_queue {
	/* Line 0: written by its owner on every call, and looked at by whoever closes the gate. */
	struct vio_pass pass;
	uint32_t seq;
	uint16_t index, n_free;
	bool armed;    /* suppress: asked for a notification */
	bool kick_due; /* the server's queue was full */
	struct vio_blk *b;
	struct vio_vring *vr;
	struct vio_dma *dma;
	struct vio_gpayload *payload;
	uint16_t *free; /* stack: the last freed slot is the warmest */
	struct blk_slot *slot;

	/* Line 1: set by other threads. */
	uint32_t pending __attribute__((aligned(VIO_CACHE_LINE))); /* USED came (crq) */
	uint32_t prodded;

	struct phyp_vcpu *vcpu __attribute__((aligned(VIO_CACHE_LINE)));
	struct phyp_counters *cnt;
	/* Finished without the device (refused, given up), not yet returned: a ring of 2 * depth. */
	struct vio_blk_req **ret;
	unsigned ret_head, n_ret;
	/* Outstanding when the device was reset, in order, to be sent again: redo[redo_next..n_redo). */
	uint16_t *redo;
	unsigned n_redo, redo_next;
	uint32_t epoch;     /* of the device, as this queue knows it */
	uint64_t idle_tick; /* poll: since when there was nothing; 0 = there was */
	uint64_t done;      /* requests that the device completed */
	uint64_t done_at_reset;
	/* Place of the rings. */
	struct vio_mem_piece desc, avail, used, tables;
	struct ioba desc_at, avail_at, used_at, tables_at;
	struct gla list; /* page for multi-TCE calls */
};

struct vio_blk {
	/* Read by every call, written when the device is configured. */
	struct vio_gate gate;
	uint32_t epoch;
	enum vio_notification notify;
	bool dead;
	struct vio_transport *t;
	struct blk_queue *q;
	struct vio_blk_info info;
	uint32_t size_max; /* largest segment; UINT32_MAX without SIZE_MAX */
	uint64_t mem_size;
	uint64_t lmb_size;
	uint64_t idle_ticks;

	/* The rest is for set-up and recovery. */
	uint32_t recovering __attribute__((aligned(VIO_CACHE_LINE))); /* try-lock of recovery */
	uint32_t broken; /* a queue's owner found the used ring to be nonsense */
	bool waiting;    /* said that the server has gone */
	unsigned strikes, timeouts;
	uint32_t give_up; /* the epoch in which what is outstanding is given up instead of sent again */
	struct phyp_part *part;
	struct vio_mem *mem;
	struct vio_blk_cfg cfg;
	uint16_t n_vcpus;
	struct vio_gwindow *win;
	unsigned n_win;
	struct vio_mem_piece rings, used; /* all queues' */
	struct vio_mem_piece area; /* wire parts, bounce buffers, and buffers when the device sees them */
	struct ioba area_at;
	struct vio_mem_piece buffers; /* for vio_blk_alloc() */
	uint64_t bounce_off, bounce_slot_len, buffers_next;
	uint32_t copybreak;
};

static inline void blk_ret_push(struct blk_queue *q, struct vio_blk_req *r, int result)
{
	r->result = result;
	q->ret[(q->ret_head + q->n_ret++) % (2 * q->b->info.depth)] = r;
}

static inline void blk_slot_free(struct blk_queue *q, struct blk_slot *s)
{
	s->req = NULL;
	q->free[q->n_free++] = (uint16_t)(s - q->slot);
}

/* ---- blk_setup.c ---- */
/* Geometry and limits from config space; -EPROTO when they make no sense. */
int blk_read_config(struct vio_blk *b, struct vio_blk_info *info, uint32_t *size_max, struct vio_err *err);
/* Carve and map everything, once. After vio_transport_start(). */
int blk_setup(struct vio_blk *b, struct vio_err *err);
void blk_teardown(struct vio_blk *b);
/* QUEUE messages for all, and DRIVER_OK. */
int blk_go(struct vio_blk *b, struct vio_err *err);

/* ---- blk_path.c ---- */
/* Descriptors of a request. */
unsigned blk_segs(const struct vio_blk *b, const struct vio_blk_req *r);
/* Fill header and status anew; the data's place for the device (buf.dev) is known. */
void blk_fill(struct vio_blk *b, struct blk_slot *s);
/* Handle what arrived in the CRQ, for all queues. False: the device does not run. */
bool blk_look_at_crq(struct blk_queue *q);
/* Publish what was added, kick when wanted. */
void blk_publish(struct blk_queue *q);

/* ---- blk_recover.c ---- */
/* Something happened to the server: do what can be done now. The caller is not inside the gate. */
void blk_recover(struct vio_blk *b, struct blk_queue *q);
/* The queue's own part of it: inside the gate, when q->epoch is not b->epoch. */
void blk_revive(struct blk_queue *q);
/* Send again as many as fit. */
void blk_redo(struct blk_queue *q);
/* The device will not come back: everything outstanding ends with -EIO. By the queue's owner. */
void blk_give_up(struct blk_queue *q);
__attribute__((format(printf, 2, 3))) void blk_say(const struct vio_blk *b, const char *fmt, ...);

#endif
