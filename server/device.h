/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A kind of virtio device, behind one table: what it advertises, and what it does with chains.
 * blk.c, net.c.
 *
 * The backend is what is behind the device: a disk, or a port of the switch.
 */
#ifndef VIO_SERVER_DEVICE_H
#define VIO_SERVER_DEVICE_H

#include "server/backends/backend.h"
#include "server/req.h"

struct vio_dev_ops {
	const char *name;
	uint8_t type;      /* virtio device id (linux/virtio_ids.h) */
	uint8_t min_proto; /* oldest protocol version that can carry it */
	/* Its queues touch each other, across adapters too: one lcore has all queues of such devices. */
	bool one_lcore;
	/*
	 * What follows is about one queue. A device with several kinds of queue has a table for
	 * each and puts it into q->dev when the queue is opened.
	 */
	uint32_t
		hdr_len; /* bytes of the request header for payload->fetch; 0: the device reads it itself */
	bool has_status; /* requests end in a status byte (r->status_at) */
	/* Device feature bits for this backend (transport bits are the adapter's). */
	uint64_t (*features)(const struct vio_backend *be);
	/* Fill config space (size VIO_MAX_CONFIG), little-endian; returns its bytes. */
	uint16_t (*config)(const struct vio_backend *be, uint16_t num_queues, uint8_t *config);
	/* The rest, but for submit and complete, is optional. Can these features be had together? */
	bool (*features_ok)(const struct vio_backend *be, uint64_t features);
	/*
	 * Optional. PROBE (all that is offered) and FEATURES_OK (what was agreed): config space is to be what
	 * these features make of it (5.2.5.2). Adapter's lcore; no queue is polled.
	 */
	void (*negotiated)(struct vio_backend *be, uint64_t features);
	/*
	 * Optional. The driver writes `len` (1 to 8) bytes at `off` of config space. False: that is no field
	 * it may write with these features, or no value of it. Adapter's lcore; queues may be polled.
	 */
	bool (*config_set)(struct vio_backend *be, uint64_t features, uint16_t off, uint8_t len,
			   uint64_t value);
	uint64_t config_set_features; /* those that mean nothing where a driver can't write */
	/*
	 * DRIVER_OK: the device begins anew with these features and this mask of queues. An enum
	 * vio_status. Adapter's lcore; no queue is polled.
	 */
	uint8_t (*start)(struct vio_backend *be, uint64_t features, uint64_t queues);
	/* The queue's levels are attached; it is not polled yet. */
	void (*queue_open)(struct vio_squeue *q);
	/*
	 * It has been given to its lcore; it is being taken away, and its lcore may work on it
	 * until its next quiescent state. Adapter's lcore: what others look at is changed with one
	 * atomic store.
	 */
	void (*queue_on)(struct vio_squeue *q);
	void (*queue_off)(struct vio_squeue *q);
	/*
	 * Parse and check the headers of `n` fetched requests and give them to the backend. Those
	 * finished at once are put into done[] (room for n), in any order; returns their number.
	 * The rest come from complete().
	 */
	unsigned (*submit)(struct vio_squeue *q, struct vio_req *const r[], unsigned n,
			   struct vio_req *done[]);
	/*
	 * Optional: chains of one descriptor with exactly these flags, of plain_min to plain_max
	 * bytes, come as struct vio_plain, before those of the same turn that come to submit, unless
	 * requests wait for bounce room. Those finished at once are moved to the front of v[]
	 * (used length 0); their number. The others come from complete(), as q->req[head].
	 */
	unsigned (*plain)(struct vio_squeue *q, struct vio_plain v[], unsigned n);
	uint16_t plain_flags;
	uint32_t plain_min, plain_max;
	/* Collect finished requests from the backend: at most `max` into done[]. */
	unsigned (*complete)(struct vio_squeue *q, struct vio_req *done[], unsigned max);
};

extern const struct vio_dev_ops vio_dev_blk, vio_dev_net;

#endif
