/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the front end of every virtio device has in common, whatever its requests are: virtqueues in
 * memory that the server may see, notification levels, sleeping, and what happens when the server
 * goes, comes back, or stops the device. Inside of guest/ only: blk*.c and net*.c embed a struct
 * vio_front and struct vio_fq's.
 *
 *   front_path.c      CRQ, kicks
 *   front_idle.c      spin or sleep
 *   front_recover.c   the server goes, comes back, stops the device
 *   front_mem.c       rings, windows, mapping levels
 *
 * Threads: a queue belongs to one thread at a time. When the device has to be configured anew,
 * whichever thread notices first closes the gate, waits until the other queues' threads are out of
 * the data path, does the work for all on its own virtual processor, and opens the gate. What needs
 * a queue's own virtual processor (unmapping, mapping, sending again) is left to the queue's owner,
 * who sees at its next poll that the device's `epoch` has moved.
 */
#ifndef VIO_GUEST_FRONT_H
#define VIO_GUEST_FRONT_H

#include "guest/front/gate.h"
#include "guest/payload/payload.h"
#include "guest/transport/transport.h"
#include "notify/notify.h"

/* Resets by the server without anything completed in between before what is outstanding is given up. */
#define VIO_FRONT_MAX_STRIKES 3
/* A sleep never lasts longer: a wake-up that went to another queue's virtual processor costs at most this. */
#define VIO_FRONT_NAP_NS 10000000ull

/* One virtqueue. */
struct vio_fq {
	/* Line 0: written by its owner on every call, and looked at by whoever closes the gate. */
	struct vio_pass pass;
	uint16_t index; /* of the device's virtqueues */
	bool kick_due;  /* the server's queue was full */
	bool stuck;     /* pages of completed items can't be taken back: the session has to end */
	struct vio_notify notify;
	struct vio_front *f;
	struct vio_vring *vr;
	struct vio_dma *dma;
	struct vio_gpayload *payload;

	/* Line 1: set by other threads. */
	uint32_t pending __attribute__((aligned(VIO_CACHE_LINE))); /* USED came */
	uint32_t prodded;

	struct phyp_vcpu *vcpu __attribute__((aligned(VIO_CACHE_LINE)));
	struct phyp_counters *cnt;
	uint32_t epoch;     /* of the device, as this queue knows it */
	uint64_t idle_tick; /* since when there was nothing, where the level looks; 0 = there was */
	uint64_t done;      /* chains that the device completed */
	uint64_t done_at_reset;
	/* Place of the rings. */
	struct vio_mem_piece desc, avail, used, tables;
	struct ioba desc_at, avail_at, used_at, tables_at;
	struct gla list; /* page for multi-TCE calls */
};

struct pollfd;

/* What recovery asks of the kind of device; called with every queue's owner outside the gate. */
struct vio_front_ops {
	const char *device; /* "disk": for messages */
	const char *item;   /* "request" */
	const char
		*fate; /* what becomes of items in flight when the server is back: "sent again" */
	/* Items that the device holds. */
	unsigned (*held)(const struct vio_front *f);
	/*
	 * After vio_transport_start(): is what came back what went? With a sentence: -ENOTSUP it can't
	 * be used any more; -ESTALE it is another one, and the right one may yet come back.
	 */
	int (*same)(struct vio_front *f, struct vio_err *err);
};

/* What a queue's owner found. */
enum vio_front_broken { VIO_FRONT_WHOLE, VIO_FRONT_NONSENSE, VIO_FRONT_STUCK };

struct vio_front {
	/* Read by every call, written when the device is configured. */
	struct vio_gate gate;
	uint32_t epoch;
	const struct vio_notify_level *notify;
	bool dead;
	bool give_way; /* level poll: the server runs on this very core */
	struct vio_transport *t;
	uint64_t mem_size;
	uint64_t lmb_size;
	uint64_t idle_ticks;
	uint64_t spin_ns, idle_ns;
	struct vio_fq *q[VIO_MAX_QUEUES]; /* by virtqueue index; NULL: not in use */
	uint16_t n_queues;                /* past the last one in use */

	/* The rest is for set-up and recovery. */
	uint32_t recovering __attribute__((aligned(VIO_CACHE_LINE))); /* try-lock of recovery */
	uint32_t broken;                                              /* enum vio_front_broken */
	bool waiting;   /* said that the server has gone; any thread may look, relaxed */
	bool frozen;    /* said that the adapter is frozen */
	bool drained;   /* by a reset that was answered: nothing of before is in the server */
	bool lingering; /* said that the machine has gone and the server has not */
	bool dying;     /* given up, for the reason in why; dead once nobody reaches the memory */
	bool kept; /* said that what is outstanding is kept until the server lets go of its pages */
	char why[320];
	unsigned strikes, timeouts;
	uint32_t
		give_up; /* the epoch in which what is outstanding is given up instead of sent again */
	uint32_t in_doubt; /* the epoch before which items in flight may still be executed */
	const struct vio_front_ops *ops;
	struct phyp_part *part;
	struct vio_mem *mem;
	unsigned unit;
	void (*say)(void *ctx, const char *line);
	void *say_ctx;
	uint16_t queue_size;
	struct vio_gwindow *win;
	unsigned n_win;
	struct vio_mem_piece rings, used; /* all queues' */
	/* Bytes long-lived in windows; bytes granted to the server. */
	uint64_t window_bytes, granted_bytes;
};

/* ---- front_path.c ---- */

/* The parts that don't depend on the server. cfg is the transport's; part, mem: the partition's. */
void vio_front_init(struct vio_front *f, const struct vio_front_ops *ops, struct phyp_part *part,
		    struct vio_mem *mem, const struct vio_transport_cfg *cfg);
/* How queues of this arm wait: as struct vio_blk_cfg has them. Before vio_front_rings(). */
struct vio_front_waits {
	uint64_t spin_ns, idle_ns;
	bool give_way;
};
void vio_front_tune(struct vio_front *f, const struct vio_arm *arm, uint16_t queue_size,
		    const struct vio_front_waits *w);
/* Queue `index` is q, and works on this virtual processor. */
void vio_front_queue(struct vio_front *f, struct vio_fq *q, unsigned index, struct phyp_vcpu *vcpu);
/* Handle what arrived in the CRQ, for all queues. False: the device does not run. */
bool vio_fq_look_at_crq(struct vio_fq *q);
void vio_fq_kick(struct vio_fq *q);
/* Publish what was added, kick when wanted. */
void vio_fq_publish(struct vio_fq *q);
/* The used ring is nonsense, or pages can't be taken back: for vio_front_recover(), which is next. */
static inline int vio_fq_broken(struct vio_fq *q)
{
	vio_store_release(&q->f->broken, q->stuck ? VIO_FRONT_STUCK : VIO_FRONT_NONSENSE);
	return -EPROTO;
}
/* Completed items are the device's no more. How many: the rest stay it, and the queue is stuck. */
static inline unsigned vio_fq_unmap(struct vio_fq *q, struct vio_dma_map *const m[], unsigned n)
{
	unsigned ours = q->dma->ops->unmap(q->dma, m, n);

	if (vio_unlikely(ours < n))
		q->stuck = true;
	return ours;
}
/* Ask for silence on this queue. */
void vio_fq_park(struct vio_fq *q);
/* How a vring asks (struct vio_notify_end); q: a struct vio_fq. */
extern const struct vio_notify_end vio_fq_end;

/*
 * The next look at a used ring, as the notification level says: `take` collects at most max from
 * the ring and returns how many, or a negative errno when the ring is nonsense. *ok: the device
 * runs. Data path; inline, so that `take` is a direct call.
 */
typedef int vio_fq_take_fn(struct vio_fq *q, void *ctx, unsigned max);

/* Levels that always tell: the used ring is looked at when a message says so, and then to its end. */
static inline int vio_fq_poll_told(struct vio_fq *q, vio_fq_take_fn *take, void *ctx, unsigned max,
				   bool *ok)
{
	int n;

	*ok = vio_fq_look_at_crq(q);
	if (!vio_load_relaxed(&q->pending))
		return 0;
	vio_xchg_acq_rel(&q->pending,
			 0); /* pair U; a USED that comes from here on is for another look */
	n = take(q, ctx, max);
	if (n == (int)max || vio_vring_has_used(q->vr))
		vio_store_relaxed(&q->pending,
				  1); /* there may be more, or a lie that the next look reports */
	return n;
}

/* The others: the ring itself. When it is empty: is the server still there, and what to ask of it? */
static inline int vio_fq_poll_ring(struct vio_fq *q, vio_fq_take_fn *take, void *ctx, unsigned max,
				   bool *ok)
{
	int n = take(q, ctx, max);

	*ok = true;
	if (n != 0) {
		q->f->notify->driver.found(&q->notify, &vio_fq_end, q);
		return n;
	}
	*ok = vio_fq_look_at_crq(q);
	if (!q->f->notify->driver.dry(&q->notify, &vio_fq_end, q))
		return 0;
	return take(q, ctx, max);
}

static inline int vio_fq_poll(struct vio_fq *q, vio_fq_take_fn *take, void *ctx, unsigned max,
			      bool *ok)
{
	return q->f->notify->always ? vio_fq_poll_told(q, take, ctx, max, ok)
				    : vio_fq_poll_ring(q, take, ctx, max, ok);
}

/* After something was completed. */
static inline void vio_fq_worked(struct vio_fq *q, unsigned n)
{
	q->done += n;
	q->idle_tick = 0;
	q->notify.ask = VIO_ASK_NOTHING; /* what was asked has been answered */
	vio_counter_add(&q->cnt->requests, n);
}

/* ---- front_idle.c ---- */

/* May the calling thread run on one core only? */
bool vio_front_one_core(void);
/*
 * The queues of one thread (q[0] is where it sleeps and is prodded) have nothing to do: spin or
 * sleep as the notification level says, until something may have happened, at most timeout_ns.
 * more: there is something after all, which the rings don't show.
 */
void vio_fq_idle(struct vio_fq *const q[], unsigned n, bool more, uint64_t timeout_ns);
/* The same, also ending when one of the file descriptors is ready: revents is then as poll(2) leaves it. */
void vio_fq_idle_fds(struct vio_fq *const q[], unsigned n, bool more, struct pollfd *fds,
		     unsigned n_fds, uint64_t timeout_ns);
/* End vio_fq_idle() early, also one that has not begun. Any thread of the partition. */
void vio_fq_prod(struct vio_fq *q);

/* ---- front_recover.c ---- */

/* Something happened to the server: do what can be done now. The caller is not inside the gate. */
void vio_front_recover(struct vio_front *f, struct vio_fq *q);
__attribute__((format(printf, 2, 3))) void vio_front_say(const struct vio_front *f, const char *fmt,
							 ...);

/* ---- front_mem.c ---- */

/* What a piece is aligned to and made of: TCE pages, and backing pages when it will be granted. */
uint64_t vio_front_grain(const struct vio_front *f, bool granted);
uint64_t vio_front_tce_page(const struct vio_front *f);
/* A long-lived window; withdrawn by vio_front_fini(). */
int vio_front_window(struct vio_front *f, const struct vio_mem_piece *mem, uint64_t perm,
		     uint8_t role, bool grant, struct ioba *at, struct vio_err *err);
/* The same for buffers that may cross LMBs: one window for each, at contiguous IOBAs, the first at *at. */
int vio_front_area(struct vio_front *f, const struct vio_mem_piece *area, bool grant,
		   struct ioba *at, struct vio_err *err);
/*
 * Memory for buffers: `shared` bytes that the device sees in every arm (bounce buffers among them), and `buffers`
 * bytes behind them; with payload bounce these are the guest's alone, elsewhere. In arms with the pool what the device
 * sees is a window. grain: of the whole (vio_front_grain() or more); align: of the buffers, `shared` is a multiple of it.
 */
struct vio_front_area {
	struct vio_mem_piece area, buffers;
	struct ioba at; /* of area, with the pool */
};
int vio_front_carve(struct vio_front *f, const struct vio_arm *arm, uint64_t shared,
		    uint64_t buffers, uint64_t grain, uint64_t align, const char *what,
		    struct vio_front_area *out, struct vio_err *err);
/* Is data granted to the server in this arm, once for all? */
bool vio_front_grants(const struct vio_arm *arm);
/*
 * Memory and vrings of all queues of q[]; f->queue_size entries each. direct: the server accesses
 * them in place. group: descriptors a group (struct vio_vring_cfg).
 */
int vio_front_rings(struct vio_front *f, uint64_t features, bool direct, uint8_t group,
		    struct vio_err *err);
/* Pages for multi-TCE calls, one a queue. */
int vio_front_lists(struct vio_front *f, struct vio_err *err);
/*
 * DMA window for one of `queues` queues' mapping levels: for `requests` in flight, what the level
 * keeps, and as much again against holes. units: the most pieces that one request takes, of the
 * size that vio_front_unit() says. 0 with the pool. c: defer_batch and quota_pages.
 */
uint64_t vio_front_slice(const struct vio_front *f, const struct vio_arm *arm,
			 const struct vio_dma_cfg *c, uint64_t requests, uint64_t units,
			 uint64_t queues);
/* Bytes of the window that a mapping takes at least: with exposures, a whole backing page. */
uint64_t vio_front_unit(const struct vio_front *f, const struct vio_arm *arm);
/*
 * One queue's mapping level. area: where its buffers lie, at area_at in arms with the pool. c:
 * slice_len, defer_batch and quota_pages; the rest is filled in here.
 */
int vio_front_dma(struct vio_front *f, struct vio_fq *q, const struct vio_arm *arm,
		  const struct vio_mem_piece *area, struct ioba area_at, struct vio_dma_cfg *c,
		  struct vio_err *err);
/* QUEUE messages for all, and DRIVER_OK. */
int vio_front_go(struct vio_front *f, struct vio_err *err);
/* What this file and its helpers made for a queue; then the windows. */
void vio_fq_fini(struct vio_fq *q);
void vio_front_fini(struct vio_front *f);

#endif
