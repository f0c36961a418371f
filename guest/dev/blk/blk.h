/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-blk front end: a disk for programs in the guest partition. Requests are submitted and
 * completed in bursts, per queue; a queue is used by one thread at a time, each queue has its own
 * virtual processor.
 *
 * When the server goes away, requests wait; when it is back (or the device was reset) everything in
 * flight is sent again, so that a request given to submit always completes: with data, with an
 * error of the disk, or with -EIO when the machine is gone. A write is acknowledged only after the
 * server said so.
 */
#ifndef VIO_GUEST_BLK_H
#define VIO_GUEST_BLK_H

#include <linux/virtio_blk.h>

#include "guest/transport/transport.h"

#define VIO_SECTOR 512u
/*
 * Blocks of fewer bytes than a sector are outside VIRTIO: a disk of this project's server offers
 * them for measurements (short=on). A request then begins at a sector and may end inside of one.
 */
#define VIO_BLK_SHORTEST 64u

/* The disk's write cache: left as the server has it, or as the guest wants it, after each restart too. */
enum vio_blk_cache { VIO_BLK_CACHE_AS_IS, VIO_BLK_CACHE_WRITEBACK, VIO_BLK_CACHE_WRITETHROUGH };

struct vio_blk_cfg {
	struct vio_transport_cfg transport; /* num_queues, queue_size, arm ... */
	uint32_t max_len; /* largest data of one request, bytes, multiple of 512; 0 = 64 KiB */
	uint32_t depth;   /* requests in flight per queue; 0 = 32; bounded by queue_size / 4 */
	enum vio_blk_cache cache;
	uint64_t buffers_len; /* room for vio_blk_alloc(), bytes */
	/*
	 * Mapping pool: bytes of the pool's data buffers, shared out evenly among the queues; 0 =
	 * as many as depth and buffers_len need. Payload bounce has fewer bounce buffers than
	 * requests in flight then, and submit takes no more than fit; in place vio_blk_alloc() has
	 * only this much; copybreak: half for each. No effect with another mapping.
	 */
	uint64_t pool_len;
	uint32_t copybreak;
	unsigned defer_batch, quota_pages;
	/* Notification crq and suppress: spin this long before sleeping. poll: sleep after idle_ns (UINT64_MAX never). */
	uint64_t spin_ns;
	uint64_t idle_ns;
	/* Level poll: the server runs on this very core, so let it run when there is nothing to do (a system call). */
	bool give_way;
};

struct vio_blk_info {
	uint64_t sectors; /* of 512 bytes; grows with the disk: vio_blk_sectors() while it runs */
	uint32_t
		block_size; /* what a request's length is a multiple of; below 512: short requests */
	uint32_t max_len;
	uint16_t num_queues, queue_size;
	uint32_t depth;
	bool read_only, can_flush, can_discard, can_zero;
	uint32_t max_discard_sectors, max_zero_sectors;
	struct vio_arm arm; /* in force */
	uint8_t version;
	uint64_t features;
	/* Room that the arm took: bytes long-lived in windows; bytes granted to the server. */
	uint64_t window_bytes, granted_bytes;
	uint64_t
		ring_bytes; /* standing in the DMA window and not a buffer: rings, CRQ, config space */
	uint64_t pool_bytes; /* mapping pool: room for data buffers, all queues; 0 without a pool */
	uint64_t
		alloc_bytes; /* with pool_len: what vio_blk_alloc() can give of it; 0: buffers_len */
};

/* One request. Owned by the caller; untouched by it from submit until it comes back from poll. */
struct vio_blk_req {
	uint32_t type; /* VIRTIO_BLK_T_IN, _OUT, _FLUSH, _DISCARD, _WRITE_ZEROES, _GET_ID */
	uint64_t sector;
	uint32_t len;   /* data bytes (IN, OUT), or bytes to discard / zero */
	struct gla buf; /* IN, OUT, GET_ID (20 bytes): from vio_blk_alloc() */
	bool unmap;     /* WRITE_ZEROES: may deallocate */
	int result;     /* out: 0, -EIO, -ENOTSUP (VIRTIO_BLK_S_UNSUPP), -EINVAL (refused here) */
	void *user;
	uint32_t slot;             /* blk's own */
};

struct vio_blk;

/* May the calling thread run on one core only? Ask before pinning it: what give_way should be. */
bool vio_blk_one_core(void);

/* Opens the disk: transport, windows, queues, DRIVER_OK. Blocks. A sentence for each failure. */
int vio_blk_open(struct phyp_part *part, struct vio_mem *mem, const struct vio_blk_cfg *cfg,
		 struct vio_blk **out, struct vio_err *err);
void vio_blk_close(struct vio_blk *b);
const struct vio_blk_info *vio_blk_get_info(const struct vio_blk *b);
/*
 * A buffer that this arm can use for I/O (in the pool where payload is in place). Aligned to 64
 * bytes, to 512 from 512 bytes on, to 4 KiB from 4 KiB on.
 */
int vio_blk_alloc(struct vio_blk *b, uint32_t len, struct gla *at, struct vio_err *err);
/*
 * Change the write cache of a disk that runs: with WRITETHROUGH each write from now on is answered when
 * it would survive a loss of power (what was answered before needs a FLUSH). By queue 0's owner. -ENOTSUP:
 * the disk can't. Not AS_IS. Waits for the server's answer.
 */
int vio_blk_set_cache(struct vio_blk *b, enum vio_blk_cache cache, struct vio_err *err);
/* The disk's size now, in sectors: it may have grown since it was opened. One load; any thread. */
uint64_t vio_blk_sectors(const struct vio_blk *b);
/* Counters of queue q's virtual processor. */
struct phyp_counters *vio_blk_counters(struct vio_blk *b, unsigned q);

/*
 * Give up to n requests to queue q and publish them together (one publish: the batch). Returns how
 * many were taken, in order (fewer: depth, descriptors, mappings or bounce slots are used up: poll
 * first). A request refused outright (range, alignment, length, type) counts as taken and comes
 * back from poll with its result. Data path.
 */
unsigned vio_blk_submit(struct vio_blk *b, unsigned q, struct vio_blk_req *const r[], unsigned n);
/*
 * Finished requests of queue q, at most max; 0 when there are none. Also drives reconnection. -EIO:
 * the machine is gone; everything outstanding was returned with -EIO first. Data path while nothing
 * happens to the server.
 */
int vio_blk_poll(struct vio_blk *b, unsigned q, struct vio_blk_req *done[], unsigned max);
/*
 * Called when poll returned 0 and there is nothing to submit: spins or sleeps as the notification
 * level says, until something may have happened, at most timeout_ns. Level poll returns at once
 * until idle_ns have passed without work.
 */
void vio_blk_idle(struct vio_blk *b, unsigned q, uint64_t timeout_ns);
/* End vio_blk_idle() of queue q early, also one that has not begun. Any thread of the partition. */
void vio_blk_prod(struct vio_blk *b, unsigned q);
/* The server is away, or the device can't be used now: what is outstanding waits. Any thread. */
bool vio_blk_away(const struct vio_blk *b);
unsigned vio_blk_outstanding(const struct vio_blk *b, unsigned q);

#endif
