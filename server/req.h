/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A request on its way through the server, and the queue that it came from.
 *
 * Life of a request (all on the lcore that owns the queue; never two threads):
 *   FREE --ring->pop--> POPPED --payload->fetch, dev->submit--> SUBMITTED --backend--> DONE --ring->push--> FREE
 * Requests are preallocated, one per descriptor-table entry, and indexed by chain head: a head that is in flight can't
 * come in again (the guest would be lying), so the number in flight is bounded by the queue size.
 *
 * Everything in a struct vio_req is private to the server: a snapshot of what the guest wrote, taken once.
 */
#ifndef VIO_SERVER_REQ_H
#define VIO_SERVER_REQ_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>

#include "proto/msg.h"
#include "vio/arm.h"
#include "vio/phyp.h"
#include "vio/types.h"

struct vio_adapter;
struct vio_backend_queue;
struct vio_dev_ops;
struct vio_payload_ops;
struct vio_ring_ops;
struct vio_wtable;

/* Descriptors in one chain: VIRTIO_BLK_F_SEG_MAX (32) and the device's header and status. */
#define VIO_SEG_MAX  32
#define VIO_MAX_SEGS (VIO_SEG_MAX + 2)
/* Requests handled in one burst. */
#define VIO_BURST 32
/* Largest data of one request, bytes; advertised through SIZE_MAX * SEG_MAX and checked. */
#define VIO_MAX_DATA (1u << 20)

struct vio_seg {
	struct ioba at;
	uint32_t len;
	bool dev_writes;
};

enum vio_req_state { VIO_REQ_FREE, VIO_REQ_POPPED, VIO_REQ_SUBMITTED, VIO_REQ_DONE };

enum vio_io { VIO_IO_READ, VIO_IO_WRITE, VIO_IO_FLUSH, VIO_IO_DISCARD, VIO_IO_ZERO };

struct vio_req {
	/* Set by ring->pop. */
	struct vio_squeue *q;
	uint16_t head;
	uint8_t n_seg;
	uint8_t n_readable;	  /* the first n_readable segments are device-readable */
	uint8_t state;		  /* enum vio_req_state */
	uint8_t fault;		  /* enum vio_status: not VIO_ST_OK stops the device (NEEDS_RESET) */
	/* Set by the device. */
	uint8_t io;		  /* enum vio_io, for the backend */
	uint8_t dev_status;	  /* VIRTIO_BLK_S_* to be stored */
	uint8_t n_data;		  /* segments in data[] */
	uint8_t n_iov;
	uint32_t data_len;	  /* sum over data[] */
	uint64_t offset;	  /* byte offset on the disk; bounds already checked */
	uint64_t length;	  /* bytes; == data_len for read and write */
	struct ioba status_at;	  /* where the status byte goes */
	uint32_t used_len;	  /* bytes written into device-writable segments, for the used element */
	int32_t result;		  /* set by the backend: 0 or -errno */
	struct virtio_blk_outhdr hdr; /* snapshot by payload->fetch */
	void *bounce;		  /* payload rdma: server-side buffer of VIO_MAX_DATA, or NULL */
	struct ioba bounce_at;	  /* its IOBA in the server's own window */
	uint32_t be_index;	  /* backend: e.g. fixed-buffer index */
	struct vio_req *be_next;  /* backend: intrusive list */

	struct vio_seg seg[VIO_MAX_SEGS];
	struct vio_seg data[VIO_MAX_SEGS];
	struct iovec iov[VIO_MAX_SEGS]; /* payload->get: where the data is for the server's CPU or kernel */
};

/* Per-queue counters: written by the owning lcore, read by telemetry. */
struct vio_sq_stats {
	uint64_t requests, reads, writes, flushes, others, errors;
	uint64_t bytes_read, bytes_written; /* payload, as the guest counts */
	uint64_t cpu_bytes;		    /* payload bytes the server's CPU copied */
	uint64_t kicks_seen, notifications, notifications_suppressed;
	uint64_t polls_empty, polls_busy;
	uint64_t batch[6]; /* pops of 1, 2-3, 4-7, 8-15, 16-31, 32 requests */
};

/* Private place of a queue, as configured. Sizes are powers of two. */
struct vio_sq_place {
	uint16_t size;
	struct ioba desc, avail, used;
};

/*
 * The server's end of one virtqueue. Hot fields first: one line is all that an empty poll of a direct ring touches
 * besides the guest's available index.
 */
struct vio_squeue {
	const struct vio_ring_ops *ring;
	const struct vio_payload_ops *payload;
	uint16_t size;
	uint16_t last_avail; /* next available entry to take; the server's own, never read back */
	uint16_t used_idx;   /* next used entry to fill; the server's own */
	uint16_t signalled;  /* used index at the last push */
	bool event_idx;
	bool indirect;
	bool kicked;	     /* notify crq: a KICK arrived since the last pop (set by the CRQ's lcore: vio_store) */
	bool armed;	     /* notifications are on (before sleeping) */
	uint8_t notify;	     /* enum vio_notification */
	uint8_t fault;	     /* not VIO_ST_OK: stopped; the adapter sends NEEDS_RESET */
	uint16_t in_flight;  /* popped and not yet pushed */
	/* ring direct: the guest's rings, CPU-mapped. desc and avail are read-only panes. */
	const struct vring_desc *desc;
	const struct vring_avail *avail;
	struct vring_used *used;

	struct phyp_vcpu *vcpu; /* of the owning lcore */
	struct vio_adapter *adapter;
	/*
	 * The window table in use until the end of this poll, and where the adapter publishes it. ring->pop loads it with
	 * acquire *after* it has seen a new available index: a guest that registers a window, then publishes a chain in
	 * it, must not meet the older table.
	 */
	const struct vio_wtable *windows;
	const struct vio_wtable *const *windows_src;
	unsigned window_hint;
	uint32_t liobn, remote_liobn;
	const struct vio_dev_ops *dev;
	struct vio_backend_queue *backend;
	uint16_t index; /* of the adapter's queues */
	uint16_t prev_head; /* ring direct: predicts the next chain's line */
	uint64_t fault_detail;
	struct vio_sq_place place;
	struct vio_req *req; /* size elements, indexed by head */
	void *ring_priv;     /* ring copy levels: shadow tables */
	void *payload_priv;
	/* Server partition memory for this queue's RDMA (TCE-mapped in the local window), from the adapter. */
	void *local_mem;
	struct ioba local_at;
	uint64_t local_len;
	struct vio_sq_stats stats;
};

#endif
