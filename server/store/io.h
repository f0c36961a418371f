/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One piece of work for a store (backend.h): what to do with which bytes of it, and where the data is in this
 * process. It knows no queue and no guest, so that any head can use the stores: embed one in your request, and
 * find the request again with vio_container_of().
 */
#ifndef VIO_SERVER_BACKENDS_IO_H
#define VIO_SERVER_BACKENDS_IO_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

/* Data of one READ or WRITE at most, bytes; a head advertises it as its protocol can, and checks it. */
#define VIO_MAX_DATA (1u << 20)
/* Pieces of work in one call, at most. */
#define VIO_BURST 32
/* Pieces of iov at most. */
#define VIO_IO_MAX_IOV 34

enum vio_io_op { VIO_IO_READ, VIO_IO_WRITE, VIO_IO_FLUSH, VIO_IO_DISCARD, VIO_IO_ZERO };

/*
 * Owned by the caller; the store's from submit until it comes back, done. READ and WRITE: iov has `length` bytes in
 * all; the others have no iov, and FLUSH no range.
 */
struct vio_io {
	uint8_t op; /* enum vio_io_op */
	uint8_t n_iov;
	bool unmap; /* ZERO: the store may give the space back */
	bool unsure; /* set by the store with an error: it may still be executed, and must not be sent again */
	int32_t result; /* set by the store: 0 or -errno */
	uint64_t offset,
		length; /* bytes of the store, inside of it and whole blocks: checked by the caller */
	struct iovec *iov;   /* valid until it is done */
	struct vio_io *next; /* the store's lists */
};

#endif
