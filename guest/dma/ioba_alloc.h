/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pages of a slice of a DMA window: a bitmap, next fit. Next fit, because ranges handed out one
 * after the other are then neighbours, and neighbours are unmapped in one call; and because an IOBA
 * that was just unmapped is not the next one to be used, so that a late access of the device meets
 * no TCE and not somebody else's page.
 *
 * Unit: TCE pages, counted from the slice's begin. One thread.
 */
#ifndef VIO_GUEST_IOBA_ALLOC_H
#define VIO_GUEST_IOBA_ALLOC_H

#include <stdint.h>

#define VIO_IOBA_NONE UINT32_MAX

struct vio_ioba_alloc {
	uint64_t *used; /* bit set: taken */
	uint32_t n_pages;
	uint32_t n_free;
	uint32_t next; /* where the search begins */
};

/* 0, -ENOMEM. n_pages: 1 to 2^31. */
int vio_ioba_init(struct vio_ioba_alloc *a, uint32_t n_pages);
void vio_ioba_fini(struct vio_ioba_alloc *a);
/* `n` (at least 1) free pages in a row: the first, or VIO_IOBA_NONE. Data path. */
uint32_t vio_ioba_get(struct vio_ioba_alloc *a, uint32_t n);
/* Give back [page, page + n), all taken. Data path. */
void vio_ioba_put(struct vio_ioba_alloc *a, uint32_t page, uint32_t n);
/*
 * The first run of taken pages at or after `from`: its begin and in *n its length; VIO_IOBA_NONE
 * when there is none.
 */
uint32_t vio_ioba_taken(const struct vio_ioba_alloc *a, uint32_t from, uint32_t *n);

#endif
