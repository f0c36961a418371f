/* SPDX-License-Identifier: BSD-3-Clause */
/* A block device or file of the kernel as a disk of guest/dev/blk/blk.h's calls. Linked instead of guest/dev/blk/blk.c, never with it. */
#ifndef VIO_GUEST_PROG_AIO_DISK_H
#define VIO_GUEST_PROG_AIO_DISK_H

#include "guest/dev/blk/blk.h"

/* 0, or -errno with a sentence. At most `depth` requests in flight, 1 to 1024. The caller closes *out. */
int vio_aio_disk_open(const char *path, uint32_t depth, bool write, struct vio_blk **out,
		      struct vio_err *err);
void vio_aio_disk_close(struct vio_blk *b);

#endif
