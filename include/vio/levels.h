/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0 */
/* Levels of the factors, as numbers: names and meaning, no code. Those of ring, payload and notification are on the wire (docs/protocol.md, section 5). */
#ifndef VIO_LEVELS_H
#define VIO_LEVELS_H

/* First = the 2010 design. The names on the command line and in JSON are the lower-case words in the comments. */
enum vio_mapping {
	VIO_MAP_SINGLE_USE, /* single-use: map and unmap per request */
	VIO_MAP_DEFERRED,   /* deferred: unmaps in batches */
	VIO_MAP_CACHED,     /* cached: mappings kept and reused, LRU under a quota */
	VIO_MAP_POOL,       /* pool: one pre-registered window */
	VIO_N_MAPPING,
};
enum vio_payload {
	VIO_PAYLOAD_RDMA,      /* rdma: the server copies with H_COPY_RDMA */
	VIO_PAYLOAD_BOUNCE,    /* bounce: the guest copies into and out of the pool */
	VIO_PAYLOAD_DIRECT,    /* direct: in place */
	VIO_PAYLOAD_COPYBREAK, /* copybreak: bounce below a size, in place from it on */
	VIO_PAYLOAD_UNCHECKED, /* unchecked: direct without any check of addresses; upper bound only */
	VIO_N_PAYLOAD,
};
enum vio_ring_access {
	VIO_RING_COPY, /* copy: whole descriptor table and available ring per kick, whole used ring back */
	VIO_RING_COPY_DELTA, /* copy-delta: only what is new */
	VIO_RING_DIRECT,     /* direct: in place */
	VIO_N_RING,
};
enum vio_notification {
	VIO_NOTIFY_CRQ,      /* crq: hypercall and interrupt per kick */
	VIO_NOTIFY_SUPPRESS, /* suppress: event index and batching */
	VIO_NOTIFY_POLL,     /* poll: none while the peer polls */
	VIO_N_NOTIFY,
};

enum vio_layout {
	VIO_LAYOUT_SPLIT, /* split: descriptor table, available ring, used ring (VIRTIO 1.2, section 2.7) */
	VIO_LAYOUT_PACKED, /* packed: one ring that both sides write (section 2.8) */
	VIO_LAYOUT_SPLIT_IN_ORDER, /* split-in-order: chains come back as they went, a batch with one used element (2.7.9) */
	VIO_LAYOUT_PACKED_IN_ORDER, /* packed-in-order: the same (2.8.9) */
	VIO_N_LAYOUT,
};

#endif
