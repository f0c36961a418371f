/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bounce space of one queue: whole pages of the server partition's memory, first fit over a bitmap.
 * No allocation but at creation; one thread. A set bit is a free page.
 */
#ifndef VIO_SERVER_PAYLOAD_ARENA_H
#define VIO_SERVER_PAYLOAD_ARENA_H

#include <stdbool.h>
#include <stdint.h>

#define VIO_ARENA_PAGE 4096u

struct vio_arena {
	uint32_t n_pages, n_free;
	uint32_t words; /* of map[] */
	uint32_t first; /* no word before this has a free page */
	uint64_t map[];
};

/* NULL: out of memory. All pages are free. Freed with free(). */
struct vio_arena *vio_arena_new(uint32_t n_pages);
/* First page of `pages` (>= 1) contiguous free ones, now taken; -1: none. */
int64_t vio_arena_take(struct vio_arena *a, uint32_t pages);
/* Give back what take gave. */
void vio_arena_give(struct vio_arena *a, uint32_t page, uint32_t pages);

#endif
