/* SPDX-License-Identifier: BSD-3-Clause */
/* What backends share among themselves; nobody else includes it. */
#ifndef VIO_SERVER_BACKENDS_PRIV_H
#define VIO_SERVER_BACKENDS_PRIV_H

#include "server/store/backend.h"

/* The smallest block of a virtio disk, and the unit of its size (VIRTIO 1.2, section 5.2.4), bytes. */
#define VIO_DISK_UNIT 512u
/* Of a disk with short=on: a block, and so the shortest request, bytes. */
#define VIO_SHORT_BLOCK 64u

/*
 * size=... of a spec into *bytes, a multiple of VIO_DISK_UNIT. `otherwise`: when it is not there;
 * 0: it must be.
 */
int vio_spec_size(const char *backend, const char *spec, uint64_t otherwise, uint64_t *bytes,
		  struct vio_err *err);
/* key=WORD with WORD one of the NULL-terminated list: its index into *index. -EINVAL with a sentence. */
int vio_spec_word(const char *backend, const char *spec, const char *key, const char *const words[],
		  unsigned otherwise, unsigned *index, struct vio_err *err);
/*
 * short=off|on: what be->block_size becomes. On, requests may be shorter than a sector, and end inside of
 * one: a request of 64 bytes at a sector moves the first 64 bytes of it. Outside VIRTIO, for measurements
 * only. The guest learns it from blk_size in config space, which no other disk has below 512.
 */
int vio_spec_short(const char *backend, const char *spec, uint32_t *block_size,
		   struct vio_err *err);
/* serial=...: up to VIO_ID_LEN printable characters into id[]; all 0 when it is not there. */
#define VIO_ID_LEN 20
int vio_spec_serial(const char *backend, const char *spec, char id[VIO_ID_LEN],
		    struct vio_err *err);
/* be->id: the serial, or when there is none something made of the store's `hash`. */
void vio_backend_make_id(struct vio_backend *be, const char serial[VIO_ID_LEN], uint64_t hash);
/* FNV-1a, 64 bits: of one thing after another. */
#define VIO_HASH_START 0xcbf29ce484222325ull
uint64_t vio_hash(uint64_t h, const void *p, size_t n);
/* be->identity: the kind's name, and what tells one of its disks from another. */
void vio_backend_identify(struct vio_backend *be, const void *what, size_t len);
/*
 * Aligned buffers of VIO_MAX_DATA bytes for requests that can't go where their data is. One lcore.
 * The pages come with their first use: a queue that never needs them costs address space only.
 */
#define VIO_BE_BUFFERS 4
struct vio_be_buffers {
	void *mem; /* VIO_BE_BUFFERS * VIO_MAX_DATA, page aligned */
	void *free[VIO_BE_BUFFERS];
	unsigned n_free;
};

/* VIO_BE_BUFFERS of them, all free. -ENOMEM. */
int vio_be_buffers_open(struct vio_be_buffers *b);
void vio_be_buffers_close(struct vio_be_buffers *b);
/* One of them, the caller's until it puts it back; NULL: none is free. Data path, the queue's thread. */
static inline void *vio_be_buffer_get(struct vio_be_buffers *b)
{
	return b->n_free ? b->free[--b->n_free] : NULL;
}
static inline void vio_be_buffer_put(struct vio_be_buffers *b, void *buf)
{
	b->free[b->n_free++] = buf;
}
/* The bytes of r->iov, into and out of one buffer of r->length bytes. */
void vio_be_gather(const struct vio_io *r, void *buf);
void vio_be_scatter(const struct vio_io *r, const void *buf);

/* A list of requests in order, through r->next. */
struct vio_be_list {
	struct vio_io *head, *tail;
};

static inline void vio_be_list_add(struct vio_be_list *l, struct vio_io *r)
{
	r->next = NULL;
	if (l->head)
		l->tail->next = r;
	else
		l->head = r;
	l->tail = r;
}

static inline struct vio_io *vio_be_list_take(struct vio_be_list *l)
{
	struct vio_io *r = l->head;

	if (r)
		l->head = r->next;
	return r;
}

#endif
