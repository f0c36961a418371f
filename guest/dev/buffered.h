/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Front end of devices whose chains are one buffer each (random numbers, console), or a message and room for its answer
 * (9P): queues of fixed buffers over
 * struct vio_front, in every arm, through restarts of the server. A device is a row (struct vio_buffered_kind) and what
 * it does with the bytes.
 *
 * One thread, with the queues' one virtual processor. Nothing is allocated, locked or waited for in get, post and take.
 */
#ifndef VIO_GUEST_DEV_BUFFERED_H
#define VIO_GUEST_DEV_BUFFERED_H

#include "guest/front/front.h"

#define VIO_BUFFERED_QUEUES 2u

struct vio_buffered_kind {
	const char *device; /* for messages */
	uint8_t type;       /* virtio device id */
	uint64_t features;  /* wanted */
	unsigned n_queues;  /* VIO_BUFFERED_QUEUES at most */
	struct {
		bool to_guest;
		uint16_t buffers;
		uint32_t len; /* of each, bytes: a power of two, 64 to 4096 */
		bool answers; /* each is a message, with as many bytes for the device's answer; not to_guest, len 4096 */
	} queue[VIO_BUFFERED_QUEUES];
};

struct vio_buffered_cfg {
	struct vio_transport_cfg transport;
	struct vio_front_waits waits;
	uint32_t copybreak;
	unsigned defer_batch, quota_pages;
};

/* The device's between post and take, the caller's else. */
struct vio_buf {
	uint8_t *va;
	uint32_t len;    /* to post: what the device reads, or may write; of take: what it wrote */
	uint32_t at;     /* the caller's own: how far it has come */
	uint8_t *answer; /* NULL: the queue has none */
	uint32_t answer_len; /* of take: what the device wrote there */
	/* The front end's. */
	struct gla gla;
	struct vio_gbuf g[2]; /* the answer's is the second */
	struct vio_dma_map map;
	uint32_t seq;
	bool posted;
};

struct vio_buffered_queue {
	struct vio_fq v;
	struct vio_buf *buf;   /* n of them */
	struct vio_buf **free; /* stack */
	struct vio_buf **done; /* taken from the ring: ring of n */
	unsigned n, n_free, done_at, n_done, n_posted, n_mapped;
	uint32_t seq;
	unsigned parts;       /* of a chain */
	uint32_t len;         /* of each part */
	bool to_guest, again; /* again: posted ones wait to be sent after a restart */
};

struct vio_buffered {
	struct vio_front f;
	const struct vio_buffered_kind *kind;
	struct vio_buffered_cfg cfg;
	struct phyp_vcpu *vcpu;
	struct vio_transport_info info; /* as it was opened */
	struct vio_front_area mem;
	struct vio_buffered_queue q[VIO_BUFFERED_QUEUES];
};

/* Waits for the server as vio_transport_start() does. -errno with a sentence. */
int vio_buffered_open(struct phyp_part *part, struct vio_mem *mem,
		      const struct vio_buffered_kind *kind, const struct vio_buffered_cfg *cfg,
		      struct vio_buffered **out, struct vio_err *err);
void vio_buffered_close(struct vio_buffered *d);
/* A buffer that is free, or NULL. It is the caller's until it is posted or put back. */
struct vio_buf *vio_buffered_get(struct vio_buffered *d, unsigned q);
void vio_buffered_put(struct vio_buffered *d, unsigned q, struct vio_buf *b);
/*
 * Give b->len bytes of the buffer to the device. -EAGAIN: not now (no room, or the server is away): it stays the
 * caller's. What was posted when a server went is posted again to the next one.
 */
int vio_buffered_post(struct vio_buffered *d, unsigned q, struct vio_buf *b);
/* One that the device is done with, in its order, or NULL. -EIO in *rc: the device will not come back. */
struct vio_buf *vio_buffered_take(struct vio_buffered *d, unsigned q, int *rc);
/* Wait as the arm does until something may have happened, or one of fds is ready (they may be NULL, 0). */
void vio_buffered_idle(struct vio_buffered *d, struct pollfd *fds, unsigned n_fds,
		       uint64_t timeout_ns);
/* Buffers that the device has. */
unsigned vio_buffered_posted(const struct vio_buffered *d, unsigned q);

#endif
