/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One queue of the server, its guest's memory and its guest's ring, of any levels, over an in-process machine; and the oracle that
 * stands between the server's tables (ring, payload, store, port of the switch) and sees what was judged and what is used.
 *
 * Every request has a form of its own, by its slot, and lies where it lies for ever; who attacks changes words of it while the server
 * works. In place, each window is a mapping of its own with the permission that was granted and nothing around it: what leaves it
 * is a fault of the processor.
 */
#ifndef VIO_TESTS_HOSTILE_RIG_H
#define VIO_TESTS_HOSTILE_RIG_H

#include "server/core/squeue.h"
#include "server/core/windows.h"
#include "server/dev/blk/blk.h"
#include "server/dev/net/net_priv.h"
#include "server/payload/payload.h"
#include "server/payload/snapshot.h"
#include "server/ring/ring.h"
#include "tests/fuzz/machine.h"
#include "vq/packed.h"

#define RIG_SIZE   16u /* descriptors */
#define RIG_SLOTS  4u  /* requests at once; slot k has descriptors, or the id, 4k */
#define RIG_SLOT   0x1000ull
#define RIG_DISK   65536u
#define RIG_BUFLEN 0x10000ull /* of the window for buffers, and of the one that is read-only */

/* In a slot. */
#define RIG_HDR       0x000u /* of a disk's request */
#define RIG_STATUS    0x010u
#define RIG_RANGES    0x040u
#define RIG_TABLE     0x080u /* indirect */
#define RIG_DATA      0x200u
#define RIG_FRAME     0x800u /* header and frame, of RIG_FRAME_LEN bytes */
#define RIG_FRAME_LEN 300u

enum rig_dev {
	RIG_STORE,  /* a disk whose store gets iovs */
	RIG_MEMORY, /* a disk in server memory: payload->move */
	RIG_TX,     /* a network card's transmit queue */
	RIG_RX,     /* and its receive queue */
	RIG_DEVS,
};

struct rig_arm {
	enum vio_ring_access ring;
	enum vio_payload payload;
	uint64_t layout; /* features */
	enum rig_dev dev;
};

/* What the server may touch of the guest, by IOBA; va: in place. */
struct rig_window {
	uint64_t at, len;
	uint8_t *va;
	uint8_t perm;
};
#define RIG_WINDOWS 5

/* What was judged of a chain that is in flight, by its head. */
struct rig_shadow {
	bool in_flight;
	uint8_t n_seg, n_readable;
	struct vio_seg seg[VIO_MAX_SEGS];
	uint8_t hdr[VIO_REQ_HDR];
};

struct rig {
	struct vio_squeue q __attribute__((aligned(VIO_CACHE_LINE)));
	struct rig_arm arm;
	struct rig_window window[RIG_WINDOWS];
	struct vio_wtable *table;
	const struct vio_wtable *published;
	uint8_t *desc, *avail, *used, *buf; /* as the guest sees them */
	uint16_t next;                      /* free-running: the guest's */
	/* The real levels, and what stands before them. */
	const struct vio_ring_ops *ring;
	const struct vio_payload_ops *payload;
	struct vio_ring_ops ring_seen;
	struct vio_payload_ops payload_seen;
	struct rig_shadow shadow[RIG_SIZE];
	struct vio_req *req;
	/* Devices. */
	struct vio_backend be;
	struct vio_backend_ops be_ops;
	struct vio_backend_queue bq;
	struct vio_disk disk;
	struct vio_disk_queue dq;
	uint8_t *disk_mem;
	struct gla disk_at;
	struct vio_net *net;
	struct vio_dev_queue *net_dq;
	struct vio_switch *sw;
	struct vio_port port; /* where frames come out, and go in */
	struct vio_frame frame[RIG_SLOTS];
	struct iovec body[RIG_SLOTS];
	unsigned turns;
	bool quiet; /* the oracle itself touches nothing of the guest */
	/* Optional: called before and after a level reads a piece of guest memory. */
	void (*between)(void *ctx, bool before);
	void *between_ctx;
	/* What came of it. */
	uint64_t requests, refused, violations;
	char first[160];
};

/* An arm's name for people. */
void rig_name(const struct rig_arm *arm, char *text, size_t len);
/* i-th of all arms; false past the last. */
bool rig_arm_at(unsigned i, struct rig_arm *arm);
/* Made once for all arms of a process; `arm` can be changed by opening again. */
void rig_open(struct rig *g, const struct rig_arm *arm);
void rig_close(struct rig *g);
/* The queue has stopped, or its ring is not what the guest thinks: both begin anew. */
void rig_reset(struct rig *g);
/* Make all slots available that are not in flight. */
void rig_publish(struct rig *g);
/* A turn of the server's lcore; for a receive queue, frames that come for it. */
void rig_work(struct rig *g);
/* Have all that were published been taken? */
bool rig_taken(const struct rig *g);
/* Nothing outside of what is the server's to write was written. */
void rig_check_canaries(struct rig *g);

/* The oracle: tables that look, over g->ring and g->payload. */
void oracle_tables(struct rig *g);
void oracle_open(struct rig *g); /* store and port */
/* Something is used that was not judged so, or is not allowed. */
void oracle_violation(struct rig *g, const char *what, uint64_t a, uint64_t b);

#endif
