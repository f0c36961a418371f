/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest partition's memory, carved once at start: a bump allocator over [0, phyp_mem_size()).
 * Nothing is given back but with the partition. Not the data path; one thread.
 */
#ifndef VIO_GUEST_MEM_H
#define VIO_GUEST_MEM_H

#include "vio/phyp.h"

struct vio_mem {
	struct phyp_part *part;
	uint64_t next; /* first free guest-logical address */
};

/* A piece: its guest-logical address and where this process sees it. */
struct vio_mem_piece {
	struct gla at;
	uint8_t *va;
	uint64_t len;
};

/* All of the partition's memory is free but what m has carved from it since. The partition outlives m. */
void vio_mem_init(struct vio_mem *m, struct phyp_part *part);
/*
 * Carve `len` bytes at `align` (power of two). within_lmb: must not cross an LMB border (what is
 * granted in one piece must not). Zeroed. -ENOMEM with a sentence that names what it is for and how
 * much there is.
 */
int vio_mem_carve(struct vio_mem *m, uint64_t len, uint64_t align, bool within_lmb,
		  const char *what, struct vio_mem_piece *out, struct vio_err *err);

#endif
