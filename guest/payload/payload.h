/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest's half of the payload factor: does the device see the application's buffer, or a buffer
 * of the pool that the guest's CPU copies from and to? in_place.c (levels rdma, direct, unchecked:
 * the application's buffer itself), bounce.c, copybreak.c. One object a queue.
 */
#ifndef VIO_GUEST_PAYLOAD_H
#define VIO_GUEST_PAYLOAD_H

#include "vio/arm.h"
#include "vio/err.h"
#include "vio/phyp.h"

/* One request's data, as the application gave it and as the device sees it. */
struct vio_gbuf {
	struct gla app; /* the application's buffer */
	uint32_t len;
	bool dev_writes; /* the device writes it (a disk read) */
	struct gla dev;  /* out of get: what to map for the device */
	uint32_t slot;   /* the level's own */
};

struct vio_gpayload_cfg {
	struct phyp_part *part;
	struct phyp_counters *counters; /* cpu_bytes */
	struct gla bounce;              /* bounce buffers: n_slots of slot_len in the pool */
	uint32_t slot_len;
	uint32_t n_slots;
	uint32_t copybreak; /* bounce below this many bytes, in place from it on; 0 = 4096 */
};

struct vio_gpayload;

struct vio_gpayload_ops {
	const char *name;
	bool needs_bounce; /* cfg.bounce must be there */
	bool as_is; /* get answers dev = app, always, and put does nothing: neither need be called */
	int (*create)(const struct vio_gpayload_cfg *cfg, struct vio_gpayload **out,
		      struct vio_err *err);
	void (*destroy)(struct vio_gpayload *p);
	/*
	 * Before mapping: choose dev; bounce copies what the device will read. Returns how many of
	 * n, in order (no slot free: fewer; too large for a slot: -EMSGSIZE when it is the first).
	 */
	int (*get)(struct vio_gpayload *p, struct vio_gbuf *const b[], unsigned n);
	/* After completion: bounce copies what the device wrote; frees the slot. */
	void (*put)(struct vio_gpayload *p, struct vio_gbuf *const b[], unsigned n);
};
struct vio_gpayload {
	const struct vio_gpayload_ops *ops;
	struct vio_gpayload_cfg cfg;
};

extern const struct vio_gpayload_ops vio_gpayload_in_place, vio_gpayload_bounce,
	vio_gpayload_copybreak;
/* NULL: out of range. */
const struct vio_gpayload_ops *vio_gpayload_level(enum vio_payload level);

#endif
