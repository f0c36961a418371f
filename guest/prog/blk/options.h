/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line of vio-blk. */
#ifndef VIO_GUEST_OPTIONS_H
#define VIO_GUEST_OPTIONS_H

#include "guest/prog/common.h"
#include "guest/prog/blk/workload.h"

struct vio_opts {
	struct vio_common c;
	struct vio_blk_cfg blk;
	struct vio_wl_cfg wl;
	unsigned mode; /* --rw */
	const char *rw_name;
	unsigned mix; /* per cent of reads in mixed loads */
};

/* 0; 1 after --help or --version; -EINVAL with a sentence. Strings point into argv. */
int vio_opts_parse(struct vio_opts *o, int argc, char **argv, struct vio_err *err);
/* What depends on the disk: the span. -EINVAL with a sentence. */
int vio_opts_fit(struct vio_opts *o, const struct vio_blk_info *info, struct vio_err *err);

/* As it is written after --touch. */
const char *vio_opts_touch_name(enum vio_wl_touch touch);

#endif
