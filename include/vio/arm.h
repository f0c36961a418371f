/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The factors and the named arms. An arm is a choice of one level for each factor; it is the
 * guest's choice, among the levels that the server offers (docs/protocol.md). Implemented in
 * proto/arm.c, no state.
 */
#ifndef VIO_ARM_H
#define VIO_ARM_H

#include <stdbool.h>
#include <stdint.h>

#include "vio/err.h"
#include "vio/levels.h"

struct vio_arm {
	char name[24]; /* a named arm's name, or "custom" */
	enum vio_mapping mapping;
	enum vio_payload payload;
	enum vio_ring_access ring;
	enum vio_notification notify;
	enum vio_layout layout; /* of the rings; all named arms have split ones */
};

/* What a level is to the rest of the code, so that nobody needs to compare levels. */
enum vio_trait {
	VIO_ARM_POOL = 1 << 0,           /* buffers lie in windows that were made beforehand */
	VIO_ARM_RINGS_IN_PLACE = 1 << 1, /* the server's CPU is on the guest's rings */
	VIO_ARM_DATA_IN_PLACE =
		1 << 2,           /* the server's CPU is on the guest's data, if only in the pool */
	VIO_ARM_BOUNCES = 1 << 3, /* the guest copies all data: its own buffers are its alone */
};
/* Those of all levels together; each is in range (vio_arm_check()). */
unsigned vio_arm_traits(const struct vio_arm *arm);
/*
 * Feature bits of virtio that choose the arm's layout: of those that layouts have at all (vio_layout_features()), a session has exactly
 * these. Each level is in range.
 */
uint64_t vio_arm_features(const struct vio_arm *arm);
uint64_t vio_layout_features(void);

/* Level names, "?" out of range. */
const char *vio_mapping_name(enum vio_mapping m);
const char *vio_payload_name(enum vio_payload p);
const char *vio_ring_name(enum vio_ring_access r);
const char *vio_notify_name(enum vio_notification n);
const char *vio_layout_name(enum vio_layout l);

/* The named arms: copy, copy-tuned, premapped, zero-copy, unprotected. NULL past the end. */
const struct vio_arm *vio_arm_named(unsigned i);

/*
 * Parse "copy" or "mapping=pool,payload=direct,ring=copy,notify=crq" (an arm's name may come first
 * and be changed: "copy,ring=direct"); layout need not be given (split). -EINVAL with a sentence naming the bad word and the valid
 * ones, or why the combination makes no sense (vio_arm_check()).
 */
int vio_arm_parse(const char *text, struct vio_arm *arm, struct vio_err *err);

/* Refuse combinations that make no sense: -EINVAL and the reason. */
int vio_arm_check(const struct vio_arm *arm, struct vio_err *err);

/* Does this payload level put the server's CPU on guest pages, so that they must be granted? */
bool vio_payload_in_place(enum vio_payload p);
/* The same for the rings. False out of range, both. */
bool vio_ring_in_place(enum vio_ring_access r);

#endif
