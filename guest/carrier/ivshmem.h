/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server end of QEMU's ivshmem-doorbell: one client, the virtual machine, which gets shared memory
 * (its BAR 2), an eventfd that it rings, and one that interrupts it.
 *
 * Source: QEMU, docs/specs/ivshmem-spec: messages are 8 bytes, little-endian, some with a descriptor: the
 * protocol's version, the client's number, -1 with the memory, then each peer's number with an eventfd for
 * each of its vectors.
 *
 * Thread: one. Functions answer 0 or -errno.
 */
#ifndef VIO_GUEST_CARRIER_IVSHMEM_H
#define VIO_GUEST_CARRIER_IVSHMEM_H

#include <stdbool.h>
#include <stddef.h>

#include "vio/err.h"

struct vio_ivshmem {
	int memory, doorbell,
		interrupt;    /* memfd; eventfds: the guest's to ring, and to interrupt it */
	int listener, client; /* client -1: no virtual machine */
	void *va;             /* of the memory */
	size_t bytes;
	const char *path;
};

/* Memory, eventfds, a socket at `path` (only its user's; one that nobody listens at is replaced). A sentence in err. */
int vio_ivshmem_open(struct vio_ivshmem *s, const char *path, size_t bytes, struct vio_err *err);
void vio_ivshmem_close(struct vio_ivshmem *s);

enum vio_ivshmem_event {
	VIO_IVSHMEM_NOTHING,
	VIO_IVSHMEM_CAME,
	VIO_IVSHMEM_WENT,
	VIO_IVSHMEM_REFUSED, /* another one, while one is there */
};
/* Look at both sockets, without blocking. */
enum vio_ivshmem_event vio_ivshmem_look(struct vio_ivshmem *s);
/* Interrupt the virtual machine, vector 0. */
void vio_ivshmem_interrupt(struct vio_ivshmem *s);
/* Forget how often the doorbell rang. */
void vio_ivshmem_answer_doorbell(struct vio_ivshmem *s);

#endif
