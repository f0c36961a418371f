/* SPDX-License-Identifier: GPL-2.0 */
/*
 * virtio over a CRQ (docs/protocol.md), inside: one struct vv for each virtual adapter.
 *
 *   main.c      the module, its drivers
 *   core.c      an adapter's life, arms, the worker that follows the server's coming and going
 *   pseries.c   POWER: adapters on the kernel's own vio bus
 *   crq.c       the CRQ: entries in and out, the connection, questions and answers
 *   config.c    virtio_config_ops: the configuration sequence of the 2010 slides
 *   queues.c    virtqueues
 *   track.c     what is in flight in them, for a server that comes back
 *   tce.c       the DMA window: addresses, TCEs
 *   window.c    stretches of it that stand, and are granted
 *   dma.c       dma_map_ops of mapping levels single-use, deferred and direct
 *   dma_pool.c  mapping level pool
 *   proto.c     messages and state machines, shared with user space
 *
 * Locks, outermost first: life and ask (which sleep), queues_lock, lock, track.lock, iommu.lock. The last four
 * are taken with interrupts off.
 */
#ifndef _VIRTIO_VIO_H
#define _VIRTIO_VIO_H

#include <linux/dma-map-ops.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "proto/fsm.h"
#include "vio_hv.h"

/* Of each step; a server that is restarted takes a moment longer than this to be a server again. */
#define VV_ANSWER_MS 5000
/* An interrupt that was lost costs this much. */
#define VV_LOOK_MS 50
/* A kick waits so long for room in the server's queue before it is left to the worker. */
#define VV_KICK_NS 2000000ull
/*
 * While the server is away: say INIT so often at first, then half as often each time, down to the second: an answer counts that comes
 * before the next INIT.
 */
#define VV_HELLO_MS 250
#define VV_HELLO_MOST_MS 4000u
/* What failed for a reason that may pass is tried again after so long. */
#define VV_AGAIN_S 5
/* Windows of one adapter: LMBs of the partition, or chunks of the pool. */
#define VV_MAX_WINDOWS 64
#define VV_TCE_PAGE 4096u

/* Control pages, 4 KiB each with the permission that it needs. */
enum vv_page { VV_HEADER, VV_CONFIG, VV_WDESC, VV_CRQ, VV_PAGES };

enum vv_state {
	VV_DOWN, /* no server */
	VV_UP, /* connected, not running */
	VV_RUNNING,
	VV_STOPPED, /* the server stopped the device, or what it said made no sense: reset it */
};

enum vv_answer { VV_NO_ANSWER, VV_YES, VV_NO };

struct vv;

/* A level of the factor mapping lifetime. */
struct vv_mapping {
	const char *name;
	const struct dma_map_ops *dma;
	int (*open)(struct vv *vv); /* what stands for as long as the adapter; may be NULL */
	void (*close)(struct vv *vv); /* nothing is left mapped; may be NULL */
};

/* A named arm: a level of each factor. Names are those of user space (vio/arm.h). */
struct vv_arm {
	const char *name;
	const struct vv_mapping *mapping;
	u8 ring, payload, notify; /* numbers on the wire */
	bool event_idx; /* somebody asks to be told, or not */
	bool grants; /* the server works in place: windows are granted to it */
};

/* The adapter's DMA window. */
struct vv_iommu {
	spinlock_t lock; /* map, next */
	unsigned long *map; /* of TCE pages in use */
	unsigned long n, next; /* pages; where the next search begins: addresses are used again late */
	u64 base;
	u32 liobn, shift;
};

/* A stretch of the DMA window that stands, and its grant. */
struct vv_window {
	u64 ioba, bytes;
	phys_addr_t phys;
	u64 cookie;
	bool granted;
};

/*
 * What is in flight in a queue with split rings, so that another server can go on with it: the drivers know
 * of no restart. Seen from outside: entries of the available ring that have no used element yet.
 */
struct vv_track {
	spinlock_t lock;
	u16 avail, used; /* seen so far */
	bool lost; /* more went by than the rings hold */
	u64 clock;
	u64 *stamp; /* by head: when it was made available; 0: not in flight */
};

struct vv_queue {
	struct virtqueue *vq; /* NULL: none */
	struct vv_track track;
	u64 desc, avail, used; /* IOBAs */
	u16 size;
	bool kick; /* a kick is owed */
};

struct vv_device {
	struct virtio_device vdev;
	struct vv *vv;
};

struct vv {
	struct device *dev; /* the adapter, parent of the virtio device */
	struct vio_hv_device *hdev;
	const struct vio_hv_unit *u;
	const struct vv_arm *arm;
	bool packed; /* rings may be */
	bool packed_agreed;
	u64 dma_mask;

	struct vv_iommu iommu;
	struct vv_window window[VV_MAX_WINDOWS];
	unsigned int n_windows;
	void *mapping_data; /* the mapping level's */

	void *control; /* VV_PAGES pages of 4 KiB */
	u64 page_at[VV_PAGES]; /* IOBAs */

	/* The receiving end of the CRQ, and what was agreed. */
	spinlock_t lock;
	__be64 *crq;
	unsigned int crq_next;
	bool registered, down_for_good;
	struct vio_link link;
	struct vio_gfsm fsm;
	enum vv_state state;
	u32 session; /* counts links and resets: what was agreed in an earlier one is void */
	/* The worker's: the session in which it asks for a server, when next (jiffies), and how long after the last time. */
	u32 hello_session;
	unsigned long hello_at;
	unsigned int hello_ms;
	u64 kick_hi;
	enum vv_answer answer;
	u16 answer_id;
	u8 answer_why;
	u8 why; /* of VV_STOPPED */
	u32 config_changes;
	bool config_told; /* ... and the driver is still to be told */
	wait_queue_head_t wait;
	struct mutex ask; /* one question at a time */
	struct mutex life; /* status and steps: the driver core, or the worker that resumes */

	/* What the server said at PROBE. */
	u64 features;
	u16 num_queues, queue_size, config_len;
	u8 type, identity[20];
	bool unfenced; /* what an earlier server had in flight may still be executed */

	struct delayed_work work; /* follows the server's coming and going; never waits for `reg` */
	struct work_struct reg; /* makes `d`; a driver's probe waits in it for requests, which may need `work` */
	bool closing; /* no device is made any more */
	bool lost; /* the session ended before a driver had started the device: its probe may have failed for that */
	struct vv_device *d; /* registered with virtio, or NULL */
	u8 status;

	/* USED came for these queues. Any context. */
	void (*used)(struct vv *vv, u64 queues);
	spinlock_t queues_lock; /* vq of queue[], callbacks */
	struct vv_queue queue[VIO_MAX_QUEUES];
};

#define to_vv(vdev_) (container_of(vdev_, struct vv_device, vdev)->vv)

static inline void *vv_page(const struct vv *vv, enum vv_page p)
{
	return vv->control + p * VV_TCE_PAGE;
}

/* ---- core.c */
/* -EINVAL, said: arm= names none. */
int vv_arm_check(void);
/* An adapter, as device `dev`, whose dma_map_ops and driver data become ours. */
int vv_open(struct device *dev, struct vio_hv_device *hdev);
void vv_close(struct vv *vv);

/* ---- pseries.c: the bus that the platform has for virtual adapters */
#ifdef CONFIG_IBMVIO
bool vv_platform_has(u32 unit);
int vv_platform_init(void);
void vv_platform_exit(void);
#else
static inline bool vv_platform_has(u32 unit)
{
	return false;
}

static inline int vv_platform_init(void)
{
	return 0;
}

static inline void vv_platform_exit(void)
{
}
#endif

/* ---- crq.c: 0 or -errno; may sleep unless said otherwise */
int vv_crq_open(struct vv *vv);
void vv_crq_close(struct vv *vv);
/* Say INIT, should the server have missed that we are here. */
void vv_hello(struct vv *vv);
/* Take what has arrived. Any context. */
void vv_drain(struct vv *vv);
int vv_send(struct vv *vv, struct vio_msg *m);
/* vv_send(), and wait for the answer. -EPERM: refused, see answer_why. */
int vv_ask(struct vv *vv, struct vio_msg *m);
/* One KICK. Any context. false: no room in the server's queue now. */
bool vv_kick(struct vv *vv, u16 queue);
enum vio_gstate vv_gstate(struct vv *vv);

/* ---- config.c */
extern const struct virtio_config_ops vv_config_ops;
/* The server is back: the device goes on where it was. */
void vv_resume(struct vv *vv);
/* PROBE: the server says what the device is. */
int vv_probe_device(struct vv *vv);

/* ---- queues.c */
int vv_find_vqs(struct virtio_device *vdev, unsigned int nvqs, struct virtqueue *vqs[],
		vq_callback_t *callbacks[], const char *const names[], const bool *ctx,
		struct irq_affinity *desc);
void vv_del_vqs(struct virtio_device *vdev);
/* Tell the server where the queues are (QUEUE), and where it goes on when an earlier one left off. */
int vv_announce_queues(struct vv *vv, bool resume);
/* Kick, and look, at all queues. */
void vv_stir_queues(struct vv *vv);
/* USED came for these queues. Any context. */
void vv_used(struct vv *vv, u64 queues);
/* Kicks that found no room. */
void vv_kick_again(struct vv *vv);

/* ---- track.c */
int vv_track_start(struct vv_queue *q, u16 size);
void vv_track_stop(struct vv_queue *q);
/* Look at what has become available and used. Any context; seldom enough loses track. */
void vv_track_look(struct vv *vv);
/*
 * With no server: the chains in flight are put at the end of the available ring, oldest first; *base: where
 * they begin. -EIO: track was lost.
 */
int vv_track_rebase(struct vv_queue *q, u16 *base);

/* ---- tce.c */
#define VV_NO_SPACE (~0ul)
int vv_lists_alloc(void);
void vv_lists_free(void);
int vv_iommu_open(struct vv *vv);
void vv_iommu_close(struct vv *vv);
/* n TCE pages from the window, or VV_NO_SPACE. Any context. */
unsigned long vv_iommu_get(struct vv_iommu *m, unsigned long n);
void vv_iommu_put(struct vv_iommu *m, unsigned long at, unsigned long n);
/* Set or clear TCEs. Any context. */
int vv_tce_map(struct vv_iommu *m, unsigned long at, phys_addr_t phys, unsigned long n, u64 perm);
void vv_tce_unmap(struct vv_iommu *m, unsigned long at, unsigned long n);

/* ---- window.c */
/* Map [phys, phys + bytes) for as long as the adapter is open; to be granted where the arm grants. */
int vv_window_add(struct vv *vv, unsigned long at, phys_addr_t phys, u64 bytes);
/* Grant and announce all windows in this session (after FEATURES_OK). */
int vv_windows_announce(struct vv *vv);
/* Take all grants back. -EBUSY: the server, or the kernel on its behalf, still uses some. */
int vv_windows_void(struct vv *vv);
/* ... and wait until that has been done: what comes next gives the pages to others. Only a dead hypervisor leaves grants. */
void vv_windows_void_all(struct vv *vv);

/* ---- dma.c, dma_pool.c */
int vv_map_sg(struct device *dev, struct scatterlist *sgl, int n, enum dma_data_direction dir,
	      unsigned long attrs);
void vv_unmap_sg(struct device *dev, struct scatterlist *sgl, int n, enum dma_data_direction dir,
		 unsigned long attrs);
extern const struct vv_mapping vv_map_single_use, vv_map_deferred, vv_map_direct;
extern const struct vv_mapping vv_map_pool;

#endif
