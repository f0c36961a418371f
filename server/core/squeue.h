/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A queue's turn, on the lcore that owns it: what the loop that drives it and its device call. The data path: no allocation, no lock,
 * no system call. struct vio_squeue is in server/core/req.h.
 */
#ifndef VIO_SERVER_SQUEUE_H
#define VIO_SERVER_SQUEUE_H

#include "server/core/req.h"

/*
 * One turn of one queue: collect what the backend finished, take new chains, start them, give back
 * what is done, notify. Owning lcore. Returns requests moved (0 = idle turn; a part of one counts as one, and so
 * does a turn that pays for what an earlier one has moved beyond the queue's share).
 */
unsigned vio_squeue_poll(struct vio_squeue *q);
/* Before sleeping: arm notifications; true = there is work after all (also when something is in flight). */
bool vio_squeue_arm(struct vio_squeue *q);
/* After waking. */
void vio_squeue_park(struct vio_squeue *q);

/*
 * For devices whose queue is marked `pull`. Take up to `max` (<= VIO_BURST) chains; give back `n`
 * that are done, published at once. They don't count as in flight: what was taken and is not given
 * in the same turn is only a note of what the guest said, and must be forgotten when the queue
 * stops. Owning lcore; only while q->ctl is VIO_SQ_RUN and q->fault VIO_ST_OK. copied: bytes that
 * the CPU copied for them.
 */
unsigned vio_squeue_take(struct vio_squeue *q, struct vio_req *out[], unsigned max);
/* The same for chains of one descriptor, where the levels have them (struct vio_dev_ops). */
unsigned vio_squeue_take_plain(struct vio_squeue *q, struct vio_plain out[], unsigned max);
void vio_squeue_give_plain(struct vio_squeue *q, const struct vio_plain v[],
			   const uint32_t used_len[], unsigned n, uint64_t copied);
void vio_squeue_give(struct vio_squeue *q, struct vio_req *done[], unsigned n, uint64_t copied);

#endif
