/* SPDX-License-Identifier: BSD-3-Clause */
/* A device whose queue is `pull` (random numbers, console): a ring of bytes and nothing else. */
#ifndef VIO_FUZZ_PULL_DEV_H
#define VIO_FUZZ_PULL_DEV_H

#include "server/dev/pull.h"

struct pull_dev {
	struct vio_pull_queue queue;
	struct vio_bytes bytes;
	struct vio_seg tail[600]; /* the queue's size, and some */
};

static unsigned pull_dev_turn(struct vio_squeue *q)
{
	return vio_pull_turn(q, vio_pull_of(q));
}

/* The queue becomes one of such a device. */
static inline void pull_dev_open(struct pull_dev *p, struct vio_squeue *q, bool to_guest)
{
	static const struct vio_dev_ops ops = {.name = "pull",
					       .long_chains = true,
					       .wants = vio_pull_queue_wants,
					       .turn = pull_dev_turn};

	memset(p, 0, sizeof(*p));
	p->queue.tail = p->tail;
	p->queue.room = VIO_ARRAY_SIZE(p->tail);
	FUZZ_CHECK(vio_bytes_open(&p->bytes, 16384) == 0);
	q->dev = &ops;
	q->dq = &p->queue.dq;
	vio_pull_queue_ready(q, (struct vio_pull){&p->bytes, to_guest, 4096, NULL, 0, 0});
}

/* Its other end, between turns: bytes for the guest come, those of the guest go. */
static inline void pull_dev_carry(struct pull_dev *p)
{
	uint32_t n =
		p->queue.pull.to_guest ? vio_bytes_room(&p->bytes) : vio_bytes_ready(&p->bytes);

	FUZZ_CHECK(n <= p->bytes.size);
	if (p->queue.pull.to_guest)
		vio_bytes_done_writing(&p->bytes, n / 2);
	else
		vio_bytes_done_reading(&p->bytes, n / 2);
}

#endif
