/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bytes between an lcore and a thread that may sleep: a ring with one writer and one reader, and a bell that wakes
 * the thread. Devices whose other end is slow (a socket, the kernel's random numbers) have their system calls in that
 * thread; the lcore makes one only when it finds the thread asleep.
 */
#ifndef VIO_SERVER_DEV_BYTES_H
#define VIO_SERVER_DEV_BYTES_H

#include <stdbool.h>
#include <stdint.h>

#include "vio/atomics.h"
#include "vio/types.h"

struct vio_bytes {
	uint8_t *buf; /* `size` bytes, a power of two; the ring's */
	uint32_t size;
	uint32_t put __attribute__((aligned(VIO_APART))); /* free-running; the writer's */
	uint32_t got __attribute__((aligned(VIO_APART))); /* free-running; the reader's */
} __attribute__((aligned(VIO_APART)));

/* -ENOMEM. size: a power of two up to 1 GiB. */
int vio_bytes_open(struct vio_bytes *b, uint32_t size);
void vio_bytes_close(struct vio_bytes *b);

/* Reader: bytes that can be read. */
static inline uint32_t vio_bytes_ready(const struct vio_bytes *b)
{
	return vio_load_acquire(&b->put) - vio_load_relaxed(&b->got); /* pair H */
}

/* Writer: bytes that can be written. */
static inline uint32_t vio_bytes_room(const struct vio_bytes *b)
{
	return b->size - (vio_load_relaxed(&b->put) - vio_load_acquire(&b->got)); /* pair H */
}

/* Reader, writer: the next bytes that lie in one piece, *n of them. Then so many of them are done. */
uint8_t *vio_bytes_next(const struct vio_bytes *b, uint32_t *n);
uint8_t *vio_bytes_free(const struct vio_bytes *b, uint32_t *n);
static inline void vio_bytes_done_reading(struct vio_bytes *b, uint32_t n)
{
	vio_store_release(&b->got, b->got + n); /* pair H */
}
static inline void vio_bytes_done_writing(struct vio_bytes *b, uint32_t n)
{
	vio_store_release(&b->put, b->put + n); /* pair H */
}

/* Copy exactly n bytes: the caller knows that they are there, or that there is room. */
void vio_bytes_read(struct vio_bytes *b, void *to, uint32_t n);
void vio_bytes_write(struct vio_bytes *b, const void *from, uint32_t n);

struct vio_bell {
	int fd; /* an eventfd: readable when it was rung; for the sleeper's poll() */
	uint32_t asleep;
};

/* -errno */
int vio_bell_open(struct vio_bell *b);
void vio_bell_close(struct vio_bell *b);
/*
 * Sleeper: from now on it is rung. Then look once more whether there is something to do, and poll() the descriptor
 * only if not (pair M).
 */
static inline void vio_bell_listen(struct vio_bell *b)
{
	vio_store_relaxed(&b->asleep, 1);
	vio_fence_full(); /* pair M: our wish before the look at the rings */
}
/* Sleeper: awake again. */
void vio_bell_awake(struct vio_bell *b);
/* Any thread, after something was changed that the sleeper waits for. A system call only when it is asleep. */
void vio_bell_ring(struct vio_bell *b);

#endif
