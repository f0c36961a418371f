/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the levels that map TCEs on demand have in common: a slice of the DMA window, putting and
 * clearing its TCEs with as few calls as PAPR allows, and the exposure of what was mapped. Inside
 * of guest/dma/ only. One thread.
 */
#ifndef VIO_GUEST_DMA_MAPPER_H
#define VIO_GUEST_DMA_MAPPER_H

#include "guest/dma/dma.h"
#include "guest/dma/ioba_alloc.h"

/* A call that answers "not now" is repeated for this long at most. */
#define VIO_MAPPER_BUSY_NS 10000000ull

struct vio_mapper_run {
	uint32_t page, n;
};

struct vio_mapper {
	struct vio_dma d; /* first: the level's public head */
	struct vio_ioba_alloc iobas;
	struct be64 *list; /* cfg.list as this process sees it */
	uint64_t mem_bytes;
	uint32_t session; /* counts `lost`: windows of an earlier one are void */
	/* Pages of windows that stayed: cleared when the session has ended, and those that have no place here by fini. */
	struct vio_mapper_run kept[16];
	unsigned n_kept;
	/* log2 of what a segment is rounded to: the TCE page, or the backing page when it will be granted. */
	uint8_t round_shift;
	bool in_place;
};

/* Pages of guest memory in a row with one permission. */
struct vio_span {
	struct gla first; /* of the first page */
	uint32_t n;       /* TCE pages */
	uint8_t perm;     /* TCE_READ | TCE_WRITE */
};

static inline struct vio_mapper *vio_mapper_of(struct vio_dma *d)
{
	return vio_container_of(d, struct vio_mapper, d);
}

/* IOBA of a page of the slice. */
static inline struct ioba vio_mapper_at(const struct vio_mapper *m, uint32_t page)
{
	return ioba_add(m->d.cfg.slice, (uint64_t)page << m->d.cfg.page_shift);
}

/* -EINVAL (slice, list), -ENOMEM, with a sentence. */
int vio_mapper_init(struct vio_mapper *m, const struct vio_dma_ops *ops,
		    const struct vio_dma_cfg *cfg, struct vio_err *err);
/* Clears every TCE that is still there, then frees. */
void vio_mapper_fini(struct vio_mapper *m);

/* The pages of a segment. -EFAULT: it is empty or not in this partition's memory. Data path. */
int vio_mapper_span(const struct vio_mapper *m, const struct vio_dma_seg *seg,
		    struct vio_span *out);

/*
 * Set the TCEs of `spans`, one behind the other from `page` on: one H_PUT_TCE for one page, else
 * one H_PUT_TCE_INDIRECT for each 512. 0; -EAGAIN: not now; -EFAULT: never. After an error some may
 * be set. Does not count tce_live. Data path.
 */
int vio_mapper_put(struct vio_mapper *m, uint32_t page, const struct vio_span *spans,
		   unsigned n_spans);
/*
 * Take pages for `spans`, put them. *page: the first. As vio_mapper_put(), but all or nothing;
 * counts tce_live.
 */
int vio_mapper_map(struct vio_mapper *m, const struct vio_span *spans, unsigned n_spans,
		   uint32_t *page);
/*
 * Clear [page, page + n): one H_PUT_TCE for one page, else one H_STUFF_TCE for each 512; give the
 * IOBAs back. False: some can't be cleared; all stay taken, to be cleared again (by fini at the
 * latest): an IOBA with an old TCE is never handed out.
 */
bool vio_mapper_clear(struct vio_mapper *m, uint32_t page, uint32_t n);

/* Expose one mapped span. 0, -EAGAIN, -EFAULT. Only with in_place. */
int vio_mapper_expose(struct vio_mapper *m, uint32_t page, const struct vio_span *span,
		      uint16_t *id);
/* False: the server may still use its pages. */
bool vio_mapper_unexpose(struct vio_mapper *m, uint16_t id);
/*
 * Of what no request needs any more: unexpose n windows, then clear [page, page + n_pages). Where a window stays, so do all of
 * these IOBAs, until the session has ended: under one that is handed out again the server would find the pages of before.
 */
void vio_mapper_withdraw(struct vio_mapper *m, const uint16_t *window, unsigned n, uint32_t page,
			 uint32_t n_pages);
/* The session has ended, and all windows with it (struct vio_dma_ops, lost). */
void vio_mapper_lost(struct vio_mapper *m);

/*
 * A whole request into one run of IOBAs, each segment with entries of its own: each page then has
 * exactly the permission of its segment, also when two segments share a page of memory. Exposed
 * when in place. 0, -EAGAIN, -EFAULT; all or nothing.
 */
int vio_mapper_request(struct vio_mapper *m, struct vio_dma_map *map);
/* What map() answers after `done` requests when the next one failed with rc. */
static inline int vio_mapper_answer(const struct vio_mapper *m, unsigned done, int rc)
{
	if (done > 0)
		return (int)done;
	/* "Later" makes sense only when there is something whose unmap could help. */
	return rc == -EAGAIN && m->d.tce_live > 0 ? 0 : -EFAULT;
}

#endif
