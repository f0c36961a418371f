/* SPDX-License-Identifier: BSD-3-Clause */
/* Logical memory blocks: what a partition's memory is made of, and mappings of it. Any thread; no state of their own. */
#ifndef PHYP_LMB_H
#define PHYP_LMB_H

#include "phyp/state/seg.h"

/* A mapping of a stretch of another partition's memory for the length of one call. */
struct hv_tmap {
	uint8_t *va; /* NULL: none */
	uint64_t len;
	uint64_t gla; /* of va */
};

/*
 * A partition's LMBs: zeroed, preallocated, sealed. node: -1 or a NUMA node. *backing: their page
 * size. -ENOMEM with a sentence.
 */
int hv_lmbs_create(const struct phyp_part_profile *p, int node, int fd[PHYP_MAX_LMBS],
		   uint64_t *backing, struct vio_err *err);
/* All LMBs, contiguous, at va (reserved by the caller). flags: further mmap flags. 0 or -errno. */
int hv_lmbs_map(uint8_t *va, const int *fd, unsigned n, uint64_t lmb_bytes, int prot, int flags);
/* Address space, inaccessible, aligned to 2 MiB. NULL: none. */
uint8_t *hv_reserve(uint64_t bytes);

/*
 * Pointer to [gla, gla+len) in the LMBs fd[]: *map is used when it covers the start, else replaced.
 * *len is cut at the end of what could be mapped (an LMB's end). NULL: cannot.
 */
uint8_t *hv_tmap_get(struct hv_tmap *map, const struct hv_part *p, const int *fd, uint64_t gla,
		     uint64_t *len);
void hv_tmap_put(struct hv_tmap *map);

#endif
