/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What vio-blk prints: one JSON object (schema "vio-blk/1", keys in docs/results.md) and a few
 * lines for the person.
 */
#ifndef VIO_GUEST_REPORT_H
#define VIO_GUEST_REPORT_H

#include "guest/prog/measure.h"
#include "guest/prog/blk/options.h"

/*
 * id: the disk's GET_ID string. ready_ns: from process start to DRIVER_OK. -errno when o->json
 * can't be written.
 */
int vio_report_info(struct vio_blk *b, const struct vio_opts *o, const char *id, uint64_t ready_ns,
		    struct vio_err *err);
int vio_report_result(struct vio_blk *b, const struct vio_opts *o, const char *id,
		      uint64_t ready_ns, const struct vio_snapshot *from,
		      const struct vio_snapshot *to, const struct vio_wl_result *res,
		      struct phyp_part *part, struct vio_err *err);

#endif
