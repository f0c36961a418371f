/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ring access: how the server reads the guest's descriptor table and available ring and writes its
 * used ring. One file a level: copy.c, copy_delta.c, direct.c. All functions: owning lcore only.
 */
#ifndef VIO_SERVER_RING_H
#define VIO_SERVER_RING_H

#include "server/core/req.h"
#include "vio/err.h"

struct vio_ring_ops {
	const char *name;
	bool free_look; /* a look at the available ring costs no hypervisor call */
	/*
	 * The queue's place, features and windows are set; prepare (look up rings in windows,
	 * allocate shadow tables). -EFAULT with a status in q->fault when a ring isn't where the
	 * guest says; -ENOMEM.
	 */
	int (*attach)(struct vio_squeue *q, struct vio_err *err);
	void (*detach)(struct vio_squeue *q);
	/*
	 * Take up to `max` (<= VIO_BURST) new chains: snapshot, validate (index distance, head
	 * range and not in flight, chain length, loops, readable before writable, indirect tables),
	 * fill q->req[head], state POPPED. Returns the number. A malformed ring sets q->fault and
	 * q->fault_detail and returns what came before it. Addresses are not judged here but where
	 * they are used.
	 */
	unsigned (*pop)(struct vio_squeue *q, struct vio_req *out[], unsigned max);
	/*
	 * Before pop, for queues whose device has `plain`. Takes up to
	 * `max` (<= VIO_BURST) new chains of one descriptor each with the flags and length that the
	 * device asks for, with their addresses found by payload->plain; stops before the first
	 * chain that is anything else or wrong. *rest: there is one, for pop to judge, which reads
	 * it anew. An index that moved too far sets q->fault, as in pop. Returns the number.
	 */
	unsigned (*pop_plain)(struct vio_squeue *q, struct vio_plain out[], unsigned max,
			      bool *rest);
	/* As push, for plain chains; used lengths are in `used_len`, or all 0 (NULL). */
	bool (*push_plain)(struct vio_squeue *q, const struct vio_plain v[],
			   const uint32_t used_len[], unsigned n);
	/*
	 * Give `n` requests back in this order (used elements with r->used_len), publish, free the
	 * requests. Returns whether the guest wants a used-buffer notification for it under event
	 * index/flags (callers under notify=crq ignore the answer and always notify).
	 */
	bool (*push)(struct vio_squeue *q, struct vio_req *const r[], unsigned n);
	/* Ask for available-buffer notifications, then look again: true = there is more, don't sleep. */
	bool (*arm)(struct vio_squeue *q);
	/* Stop asking, while polling. Also called now and then to keep a parked event index ahead. */
	void (*park)(struct vio_squeue *q);
};

extern const struct vio_ring_ops vio_ring_copy, vio_ring_copy_delta, vio_ring_direct;
extern const struct vio_ring_ops vio_ring_packed_copy, vio_ring_packed_copy_delta,
	vio_ring_packed_direct;
/* By level, for the layout that these features agree on (VIRTIO_F_RING_PACKED); NULL out of range. */
const struct vio_ring_ops *vio_ring_level(enum vio_ring_access level, uint64_t features);
/*
 * Bytes of the three parts of a ring of that layout: descriptor table or ring; available ring, or the driver's event suppression;
 * used ring, or the device's.
 */
void vio_ring_parts(uint64_t features, uint16_t size, uint64_t len[3]);
/* Can a queue of that layout be gone on with from an index (VIO_QUEUE_BASE) after its server has died? */
bool vio_ring_has_base(uint64_t features);

/*
 * Shared by the levels (server/ring/chain.c). A place to read descriptors from: the guest's table
 * in place, or a private copy; each descriptor is loaded once.
 */
struct vio_desc_src {
	const struct vring_desc *table;
	uint32_t n; /* entries */
	/*
	 * Called before table[i] is loaded, so that a level may fetch it only then; NULL: all of it
	 * is there. An enum vio_status.
	 */
	uint8_t (*need)(struct vio_squeue *q, uint32_t i);
};

/*
 * Walk the chain that starts at `head` into q->req[head] (its state must be FREE, else
 * VIO_ST_DESC_HEAD). 0 or an enum vio_status. Indirect tables are fetched through the payload level
 * (they are guest memory like any other).
 */
uint8_t vio_chain_walk(struct vio_squeue *q, const struct vio_desc_src *src, uint16_t head,
		       struct vio_req **out);
struct vio_desc;
/*
 * One descriptor of a packed ring's chain into the request: a segment, or the table that it points to. 0 or an enum vio_status.
 */
uint8_t vio_chain_add(struct vio_squeue *q, struct vio_req *r, const struct vio_desc *d);
/* Without snapshots: the segment that was added last, as `d` says now. */
void vio_chain_again(struct vio_req *r, const struct vio_desc *d);
/* The chain is complete: can a device do anything with it? 0 or an enum vio_status. */
uint8_t vio_chain_judge(const struct vio_squeue *q, const struct vio_req *r);

#endif
