/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mapping lifetimes: how guest memory gets an IOBA for a request. One file a level: single_use.c,
 * deferred.c, cached.c, pool.c. A struct vio_dma belongs to one queue (its thread) and owns a slice
 * of the adapter's DMA window, so that queues share no lock.
 *
 * Direction of permission is the device's: a segment that the device writes gets TCE_WRITE, one
 * that it reads TCE_READ.
 */
#ifndef VIO_GUEST_DMA_H
#define VIO_GUEST_DMA_H

#include "vio/arm.h"
#include "vio/err.h"
#include "vio/phyp.h"

/* Header, data segments, status. */
#define VIO_DMA_MAX_SEG 34

struct vio_dma_seg {
	struct gla addr;
	uint32_t len;
	bool dev_writes;
	struct ioba at; /* out of map */
};

/*
 * One request's segments; lives in the request's slot. The caller sets n_seg and seg[].addr, len,
 * dev_writes.
 */
struct vio_dma_map {
	uint8_t n_seg;
	/* The level's own, between map and unmap. In front, so that a short request lies in two lines. */
	uint32_t n_pages;
	struct ioba base;
	uint32_t session;
	struct vio_dma_seg seg[VIO_DMA_MAX_SEG];
	union {
		uint16_t window_id
			[VIO_DMA_MAX_SEG]; /* single-use, deferred in place: a window for each segment */
		uint32_t entry[VIO_DMA_MAX_SEG]; /* cached */
	};
};

/*
 * In-place payload needs the pages granted, not only TCE-mapped: a level that maps TCEs on demand
 * then announces the range as a window when it maps, and withdraws it when it unmaps (both wait for
 * the server's answer). Given by the transport; NULL members when the payload is not in place.
 */
struct vio_dma_expose {
	/*
	 * [at, at+len) is TCE-mapped to [addr, addr+len) with perm, whole backing pages
	 * (phyp_backing_page()): grant and register it. 0; -ENOSPC, -EAGAIN, -EBUSY, -ENOMEM: not
	 * now; other negative errno: never.
	 */
	int (*add)(void *ctx, struct ioba at, struct gla addr, uint64_t len, uint8_t perm,
		   uint16_t *id);
	/* 0: out of the server's reach. -EBUSY: it may still use the pages; may be asked for again. */
	int (*del)(void *ctx, uint16_t id);
	void *ctx;
};

struct vio_dma_cfg {
	struct phyp_vcpu *vcpu;
	uint32_t liobn;
	uint8_t page_shift;
	struct ioba slice; /* this queue's part of the DMA window, page aligned */
	uint64_t slice_len;
	struct gla list; /* a 4 KiB page of guest memory for H_PUT_TCE_INDIRECT */
	struct vio_dma_expose expose;
	/*
	 * pool: the pre-registered range (TCE-mapped and, for in-place payload, already granted by
	 * the transport).
	 */
	struct gla pool_addr;
	uint64_t pool_len;
	struct ioba pool_at;
	unsigned defer_batch; /* deferred: unmaps collected before a flush; 0 = 64 */
	unsigned quota_pages; /* cached: mapped pages kept at most; 0 = 4096 */
};

struct vio_dma;

struct vio_dma_ops {
	const char *name;
	/*
	 * Everything is mapped for as long as the object lives: an address that map would take becomes an IOBA by
	 * vio_dma_fixed(), and neither map nor unmap need be called for it.
	 */
	bool fixed;
	/*
	 * What stays mapped beyond what is in flight, to size a slice by: requests that wait for
	 * their unmapping, and pages. NULL: nothing.
	 */
	void (*keeps)(const struct vio_dma_cfg *cfg, uint64_t *requests, uint64_t *pages);
	int (*create)(const struct vio_dma_cfg *cfg, struct vio_dma **out, struct vio_err *err);
	/* Unmaps everything that is still mapped. No request is in flight. */
	void (*destroy)(struct vio_dma *d);
	/*
	 * Give each segment of `n` requests its IOBA. Returns how many requests were mapped, in
	 * order; fewer than n means that the window slice (or cached: the quota) is full for now:
	 * retry after an unmap. A request that can never be mapped (a segment outside guest memory
	 * or the pool, larger than the slice) makes it return -EFAULT for the first such request
	 * when nothing was mapped before it.
	 */
	int (*map)(struct vio_dma *d, struct vio_dma_map *const m[], unsigned n);
	/*
	 * How many were unmapped, in order. Fewer than n: the device may still reach the next one's
	 * pages; it and those behind it are as before, their memory is not given back to anybody, and
	 * unmap may be called for them again.
	 */
	unsigned (*unmap)(struct vio_dma *d, struct vio_dma_map *const m[], unsigned n);
	/*
	 * The server (or its partner's windows) is gone: forget exposures without asking it; TCEs
	 * stay consistent. With in-place payload, what is in flight must be unmapped and mapped
	 * again before it is sent again.
	 */
	void (*lost)(struct vio_dma *d);
};

/* Common head of every level's state. */
struct vio_dma {
	const struct vio_dma_ops *ops;
	struct vio_dma_cfg cfg;
	uint64_t tce_live;     /* TCEs this object has mapped now, for leak checks */
	uint64_t hits, misses; /* cached */
};

/* Level with `fixed`: the IOBA of an address, which lies in the pool. */
static inline struct ioba vio_dma_fixed(const struct vio_dma *d, struct gla addr)
{
	return ioba_add(d->cfg.pool_at, addr.v - d->cfg.pool_addr.v);
}

extern const struct vio_dma_ops vio_dma_single_use, vio_dma_deferred, vio_dma_cached, vio_dma_pool;
/* NULL: out of range. */
const struct vio_dma_ops *vio_dma_level(enum vio_mapping level);

#endif
