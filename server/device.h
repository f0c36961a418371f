/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A kind of virtio device, behind one table: what it advertises, and what it does with chains. blk.c is the
 * first.
 */
#ifndef VIO_SERVER_DEVICE_H
#define VIO_SERVER_DEVICE_H

#include "server/backends/backend.h"
#include "server/req.h"

struct vio_dev_ops {
	const char *name;
	uint8_t type;     /* virtio device id (linux/virtio_ids.h) */
	uint32_t hdr_len; /* bytes of the request header for payload->fetch */
	/* Device feature bits for this backend (transport bits are the adapter's). */
	uint64_t (*features)(const struct vio_backend *be);
	/* Fill config space (size VIO_MAX_CONFIG), little-endian; returns its bytes. */
	uint16_t (*config)(const struct vio_backend *be, uint16_t num_queues, uint8_t *config);
	/*
	 * Parse and check the headers of `n` fetched requests and give them to the backend. Those finished at
	 * once are put into done[] (room for n), in any order; returns their number. The rest come from
	 * complete().
	 */
	unsigned (*submit)(struct vio_squeue *q, struct vio_req *const r[], unsigned n,
			   struct vio_req *done[]);
	/* Collect finished requests from the backend: at most `max` into done[]. */
	unsigned (*complete)(struct vio_squeue *q, struct vio_req *done[], unsigned max);
};

extern const struct vio_dev_ops vio_dev_blk;

#endif
