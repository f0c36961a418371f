/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Queues that take chains when the device has use for them, and move bytes between them and a struct vio_bytes: the
 * turn of such a queue (struct vio_dev_ops), written once. The queue's owning lcore; data path.
 */
#ifndef VIO_SERVER_DEV_PULL_H
#define VIO_SERVER_DEV_PULL_H

#include "server/dev/bytes.h"
#include "server/core/device.h"

/* Bytes, and chains, that one queue moves in one turn: the other guests of the lcore wait meanwhile. */
#define VIO_PULL_BYTES  8192u
#define VIO_PULL_CHAINS 8u

struct vio_pull {
	struct vio_bytes *bytes;
	bool to_guest;
	uint32_t per_chain; /* to_guest: no chain gets more, bytes */
	/* The chain that is not finished: taken from the guest, and its place; NULL: none. Forgotten with the queue. */
	struct vio_req *r;
	unsigned seg;
	uint32_t off;
};

/* A queue of a device that has nothing else of its queues. A kind says what `pull` is when the queue is ready. */
struct vio_pull_queue {
	struct vio_dev_queue dq;
	struct vio_pull pull;
	struct vio_seg
		*tail; /* room for the rest of a long chain, of which there is never a second */
	unsigned room;
};

static inline struct vio_pull *vio_pull_of(const struct vio_squeue *q)
{
	return &vio_container_of(q->dq, struct vio_pull_queue, dq)->pull;
}

/* Is there something to move? Not whether there are chains. */
static inline bool vio_pull_wants(const struct vio_pull *p)
{
	return (p->to_guest ? vio_bytes_ready(p->bytes) : vio_bytes_room(p->bytes)) > 0;
}

/*
 * Of struct vio_dev_ops and struct vio_dev_kind, for such queues: wants; queue_open (-ENOMEM), queue_close; of
 * queue_ready what is alike in all: the queue is as `p` says, and gets its chains whole however long they are.
 */
bool vio_pull_queue_wants(const struct vio_squeue *q);
int vio_pull_queue_open(struct vio_device *dev, unsigned depth, struct vio_dev_queue **out,
			struct vio_err *err);
void vio_pull_queue_close(struct vio_dev_queue *dq);
void vio_pull_queue_ready(struct vio_squeue *q, struct vio_pull p);

/*
 * A turn: chains are taken while there are bytes, or room for them. A chain for the guest's reading is given back with
 * what there is, one that the guest wrote when all of it has been moved. One that is not for this direction stops the
 * queue (VIO_ST_REQUEST). Returns bytes moved.
 */
uint32_t vio_pull_turn(struct vio_squeue *q, struct vio_pull *p);

#endif
