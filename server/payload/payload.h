/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Payload access: how the server reaches what the descriptors point to. One file a level: rdma.c
 * (the server's H_COPY_ RDMA, H_READ_RDMA, H_WRITE_RDMA), direct.c (windows), unchecked.c (upper
 * bound, never a product). The guest's levels bounce and copybreak are direct to the server.
 *
 * All take bursts, run on the owning lcore, and set r->fault (VIO_ST_DESC_RANGE, VIO_ST_DESC_PERM)
 * on a bad address, leaving the other requests of the burst alone. Requests with a fault already
 * set are skipped.
 */
#ifndef VIO_SERVER_PAYLOAD_H
#define VIO_SERVER_PAYLOAD_H

#include "server/core/req.h"
#include "vio/err.h"

/* Bytes for which a TCE_WRITE chain of `plain` has a place in server memory: the longest frame, in whole pages. */
#define VIO_PLAIN_OUT (17u * 4096u)

struct vio_payload_ops {
	const char *name;
	int (*attach)(struct vio_squeue *q,
		      struct vio_err *err); /* -ENOMEM, -ENOSPC (local memory) */
	void (*detach)(struct vio_squeue *q);
	/*
	 * Snapshot the first `len` (<= sizeof r->hdr) device-readable bytes of each chain into
	 * r->hdr. A chain with fewer gets r->fault VIO_ST_REQUEST.
	 */
	void (*fetch)(struct vio_squeue *q, struct vio_req *const r[], unsigned n, uint32_t len);
	/*
	 * Read `len` bytes at one guest address into `buf`, each byte once: for indirect tables and
	 * discard ranges. An enum vio_status.
	 */
	uint8_t (*read)(struct vio_squeue *q, struct ioba at, void *buf, uint32_t len);
	/*
	 * Make r->data[] addressable: fill r->iov. Level rdma also copies in what the guest wrote
	 * (not r->to_guest), and sets r->waits when it has no bounce room now: the caller tries again
	 * after a put (in order: one request of VIO_MAX_DATA always fits once nothing else is in
	 * flight).
	 */
	void (*get)(struct vio_squeue *q, struct vio_req *const r[], unsigned n);
	/*
	 * For chains of one descriptor, with `perm`: TCE_READ, as get for WRITE, all or nothing of each; TCE_WRITE, where a frame is
	 * to be written, which `plain_out` then takes to the guest (rdma: one place for all chains). Stops at the first whose address
	 * is not to be used so, or for which there is no room now; the number before it.
	 */
	unsigned (*plain)(struct vio_squeue *q, struct vio_plain v[], unsigned n, uint8_t perm);
	/*
	 * Levels that copy; NULL in place, where there is nothing to do. plain_put: the device is done with what plain gave for
	 * TCE_READ. plain_out: [from, +len) of server memory (an address in the server's window) to the chain, len <= v->len. An
	 * enum vio_status.
	 */
	void (*plain_put)(struct vio_squeue *q, const struct vio_plain v[], unsigned n);
	uint8_t (*plain_out)(struct vio_squeue *q, const struct vio_plain *v, struct ioba from,
			     uint32_t len);
	/* The device is done with r->iov. Level rdma copies out (r->to_guest). */
	void (*put)(struct vio_squeue *q, struct vio_req *const r[], unsigned n);
	/*
	 * Instead of get/put, for a backend whose disk is server memory: one copy between r->data[]
	 * and `local` (r->data_len bytes), as r->to_guest says. `local_at`:
	 * its IOBA in the server's window.
	 */
	void (*move)(struct vio_squeue *q, struct vio_req *r, void *local, struct ioba local_at);
	/* Store each r->dev_status at r->status_at. */
	void (*status)(struct vio_squeue *q, struct vio_req *const r[], unsigned n);
};

/*
 * Bytes of the queue's local memory that level rdma needs at least: a page for indirect tables, a place
 * for a frame, one request of the largest size. More lets more requests be in flight at once.
 */
#define VIO_RDMA_LOCAL_BYTES (VIO_MAX_DATA + 4096ull + VIO_PLAIN_OUT)

extern const struct vio_payload_ops vio_payload_rdma, vio_payload_direct, vio_payload_unchecked;
/* The server's implementation of a level of the arm; NULL out of range. */
const struct vio_payload_ops *vio_payload_level(enum vio_payload level);

#endif
