/* SPDX-License-Identifier: BSD-3-Clause */
/* virtio-rng front end (VIRTIO 1.2, section 5.4): random bytes of the VIO server's machine. One thread. */
#ifndef VIO_GUEST_DEV_RNG_H
#define VIO_GUEST_DEV_RNG_H

#include "guest/dev/buffered.h"

struct vio_rng;

/* As vio_buffered_open(). */
int vio_rng_open(struct phyp_part *part, struct vio_mem *mem, const struct vio_buffered_cfg *cfg,
		 struct vio_rng **out, struct vio_err *err);
void vio_rng_close(struct vio_rng *r);
const struct vio_transport_info *vio_rng_get_info(const struct vio_rng *r);
/*
 * Up to `len` random bytes that are there now: how many, 0: none yet (vio_rng_idle() waits for some). -EIO: the device
 * will not come back.
 */
int vio_rng_read(struct vio_rng *r, void *to, uint32_t len);
void vio_rng_idle(struct vio_rng *r, uint64_t timeout_ns);

#endif
