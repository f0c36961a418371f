/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the two copying levels of ring access share: private copies of the three parts in the server
 * partition's memory, and the RDMA counterparts of vio/notify.h. Private to server/ring/.
 */
#ifndef VIO_SERVER_RING_SHADOW_H
#define VIO_SERVER_RING_SHADOW_H

#include "server/ring/ring.h"

struct vio_shadow {
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used; /* what was or will be written to the guest; the server's own */
	struct ioba desc_at, avail_at, used_at;
	uint16_t idx;    /* the guest's available index as last read */
	uint16_t copied; /* entries before this index are in the shadow */
	bool idx_known;  /* arm has just read idx: the next look need not */
	uint16_t used_flags;
	/* copy-delta: stamp[i] == epoch when descriptor i was fetched for the present burst. */
	uint32_t epoch;
	uint32_t *stamp;
};

/* Bytes of local memory for a queue of `size`. */
uint64_t vio_shadow_bytes(uint16_t size);

/* vio_ring_ops for both levels. */
int vio_shadow_attach(struct vio_squeue *q, struct vio_err *err);
void vio_shadow_detach(struct vio_squeue *q);
bool vio_shadow_arm(struct vio_squeue *q);
void vio_shadow_park(struct vio_squeue *q);

/*
 * How many available entries are new (after q->last_avail), by reading flags and index with one
 * 4-byte access. 0 also when the queue's fault was set (index moved too far, or the call failed).
 */
uint16_t vio_shadow_look(struct vio_squeue *q);
/* A ring's RDMA call answered `why`: stop the queue. */
void vio_shadow_fault(struct vio_squeue *q, uint8_t why, struct ioba at);
/*
 * The elements are in the guest's ring: write flags and index, then say whether the guest wants to
 * be told (pair N).
 */
bool vio_shadow_publish(struct vio_squeue *q, uint16_t old);

static inline struct ioba vio_avail_entry_at(const struct vio_squeue *q, uint16_t slot)
{
	return ioba_add(q->place.avail, 4 + 2ull * slot);
}
static inline struct ioba vio_used_entry_at(const struct vio_squeue *q, uint16_t slot)
{
	return ioba_add(q->place.used, 4 + 8ull * slot);
}

#endif
