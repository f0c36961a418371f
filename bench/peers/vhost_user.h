/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The front end's side of the vhost-user protocol, as much as one disk queue needs: features, one shared memory region, the
 * configuration, one ring. Source: the vhost-user protocol specification (QEMU docs/interop/vhost-user). One thread.
 */
#ifndef VIO_BENCH_PEERS_VHOST_USER_H
#define VIO_BENCH_PEERS_VHOST_USER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vio/err.h"

#define VU_TIMEOUT_SECONDS 5 /* of an answer, and of a request */

struct vu {
	int fd; /* -1: not connected */
	int kick, call, mem_fd;
	uint64_t features; /* in force */
	bool config;       /* the server answers GET_CONFIG */
	bool acks;         /* ... and acknowledges messages */
	uint8_t *
		mem; /* shared with the server at the same address on both sides of the protocol; ours until vu_close() */
	size_t mem_len;
	bool huge; /* ... in huge pages */
};

/* Connect. -errno with a sentence; vu_close() in either case. */
int vu_connect(struct vu *v, const char *path, struct vio_err *err);
/* Agree on `wanted` (virtio feature bits), all of which the server must offer. -ENOTSUP, -EPROTO, -ETIMEDOUT, -errno. */
int vu_negotiate(struct vu *v, uint64_t wanted, struct vio_err *err);
/* The first `len` bytes of the device's configuration. -ENOTSUP when the server has none to give. */
int vu_get_config(struct vu *v, void *to, uint32_t len, struct vio_err *err);
/* Make memory, zeroed and touched, and hand it to the server: `len` bytes, in huge pages where there are enough. */
int vu_share(struct vu *v, size_t len, struct vio_err *err);
/* Start queue 0: `size` entries, its three parts in v->mem. packed: the position words are those of a packed ring. */
int vu_start(struct vu *v, unsigned size, const void *desc, const void *driver, const void *device,
	     bool packed, struct vio_err *err);
/* Has the server closed the connection? A system call: not for each request. */
bool vu_gone(const struct vu *v);
void vu_close(struct vu *v);

#endif
