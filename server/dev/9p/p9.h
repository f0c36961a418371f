/* SPDX-License-Identifier: BSD-3-Clause */
/* virtio-9p, inside: p9_kind.c has its life and what it offers, p9.c its queue, peer.h the 9P server. */
#ifndef VIO_SERVER_DEV_9P_H
#define VIO_SERVER_DEV_9P_H

#include "server/core/device.h"
#include "server/dev/9p/peer.h"

/* Of 9P2000.L: size[4] type[1] tag[2] and what follows, little-endian. */
#define VIO_9P_HDR     7u
#define VIO_9P_NO_TAG  0xffffu
#define VIO_9P_ERROR   11u /* bytes of an Rlerror */
#define VIO_9P_TAG_MAX 32u /* of the mount tag, bytes: as QEMU's */

enum vio_9p_type { VIO_9P_RLERROR = 7, VIO_9P_TVERSION = 100, VIO_9P_TFLUSH = 108, VIO_9P_RFLUSH };

struct vio_9p {
	struct vio_device dev;
	char tag[VIO_9P_TAG_MAX + 1]; /* mount tag */
	struct vio_9p_peer peer;
	/* Relaxed, written by the queue's lcore. */
	uint64_t messages, flushed, failed;
};

/* What is known of a request beside its struct vio_req, which lies behind the same head. */
enum vio_9p_where { VIO_9P_FREE, VIO_9P_WAITS, VIO_9P_SENT, VIO_9P_LOST };

struct vio_9p_slot {
	uint8_t where; /* enum vio_9p_where */
	uint8_t type;
	uint16_t tag, old_tag; /* old_tag: a Tflush's */
	uint32_t size;         /* of the message */
	uint32_t room;         /* for its answer */
};

struct vio_9p_queue {
	struct vio_dev_queue dq;
	unsigned n_sent;
	bool more;    /* something is left to be done without the server's help */
	bool has_hdr; /* of the next answer, in hdr */
	uint8_t hdr[VIO_9P_HDR];
	unsigned n_lost;      /* in the list */
	struct vio_req *lost; /* of a session that is over: to be answered with an error */
	unsigned depth;
	struct vio_9p_slot *slot; /* depth of them, by head */
	uint16_t head[65536];     /* by tag of a message that was sent: head + 1, 0: none */
};

static inline struct vio_9p *vio_9p_of(const struct vio_device *dev)
{
	return vio_container_of(dev, struct vio_9p, dev);
}

static inline struct vio_9p_queue *vio_9p_queue_of(const struct vio_squeue *q)
{
	return vio_container_of(q->dq, struct vio_9p_queue, dq);
}

/* p9.c */
extern const struct vio_dev_ops vio_9p_queue_ops;

#endif
