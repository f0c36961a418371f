/* SPDX-License-Identifier: BSD-3-Clause */
/* virtio-blk (VIRTIO 1.2, section 5.2) over any store. blk.c is its data path, blk_kind.c its life. */
#ifndef VIO_SERVER_BLK_H
#define VIO_SERVER_BLK_H

#include "server/core/device.h"

struct vio_disk {
	struct vio_device dev;
	struct vio_backend *be;
	struct vio_dev_env env;
	unsigned number;  /* of the device in this server */
	uint64_t stopped; /* what of (blk_stop.c); 0: it runs. Relaxed */
	uint8_t epoch;    /* counts resumptions. Relaxed */
};

/* The first line is what the data path reads. */
struct vio_disk_queue {
	struct vio_dev_queue dq;
	struct vio_backend *be;
	struct vio_backend_queue *bq; /* the store's */
	struct vio_req *last_held; /* the last of those that wait that has failed; NULL: none has */
	uint64_t out; /* bytes of reads at the store that are copied to the guest when they end */
};

/* A disk in the caller's memory, over a store that is open and stays the caller's. */
void vio_disk_init(struct vio_disk *d, struct vio_backend *be);

extern const struct vio_dev_ops vio_disk_queue_ops;

#endif
