/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The in-place levels: the server's CPU and kernel work on the guest's pages. direct.c and
 * unchecked.c differ only in how an I/O bus address becomes a pointer, so the rest is written once,
 * over that function, and compiled into each of them. Private to server/payload/.
 */
#ifndef VIO_SERVER_PAYLOAD_IN_PLACE_H
#define VIO_SERVER_PAYLOAD_IN_PLACE_H

#include <string.h>

#include "server/payload/payload.h"
#include "server/payload/snapshot.h"

/* [at, at+len) with `perm`, or NULL and *why. */
typedef void *vio_in_place_ptr(struct vio_squeue *q, struct ioba at, uint64_t len, uint8_t perm,
			       uint8_t *why);

/* A header that is split over descriptors: rare, piece by piece. */
static inline uint8_t vio_in_place_gather(struct vio_squeue *q, struct vio_req *r, uint32_t len,
					  vio_in_place_ptr *ptr)
{
	uint8_t *dst = r->hdr, why = VIO_ST_OK;

	if (!VIO_SNAPSHOTS)
		r->hdr_at = r->hdr;
	for (unsigned i = 0; len > 0; i++) {
		uint32_t part;
		const void *p;

		if (i == r->n_readable)
			return VIO_ST_REQUEST;
		part = r->seg[i].len < len ? r->seg[i].len : len;
		p = ptr(q, r->seg[i].at, part, TCE_READ, &why);
		if (!p)
			return why;
		vio_snapshot(dst, p, part);
		dst += part;
		len -= part;
	}
	return VIO_ST_OK;
}

/*
 * Two passes: all headers' lines are on their way before the first is read. For writing, because
 * the status byte usually shares the header's line, and one transfer then serves both.
 */
static inline void vio_in_place_fetch(struct vio_squeue *q, struct vio_req *const r[], unsigned n,
				      uint32_t len, vio_in_place_ptr *ptr)
{
	const void *hdr[VIO_BURST] = {NULL};

	for (unsigned i = 0; i < n; i++) {
		if (vio_unlikely(r[i]->n_readable == 0 || r[i]->seg[0].len < len))
			continue;
		hdr[i] = ptr(q, r[i]->seg[0].at, len, TCE_READ, &r[i]->fault);
		__builtin_prefetch(hdr[i], 1);
	}
	for (unsigned i = 0; i < n; i++) {
		if (vio_likely(hdr[i] != NULL)) {
			if (VIO_SNAPSHOTS)
				vio_snapshot(r[i]->hdr, hdr[i], len);
			else
				r[i]->hdr_at = hdr[i];
			q->prev_hdr = hdr[i];
		} else if (r[i]->fault == VIO_ST_OK) {
			r[i]->fault = vio_in_place_gather(q, r[i], len, ptr);
		}
	}
}

static inline uint8_t vio_in_place_read(struct vio_squeue *q, struct ioba at, void *buf,
					uint32_t len, vio_in_place_ptr *ptr)
{
	uint8_t why = VIO_ST_OK;
	const void *p = ptr(q, at, len, TCE_READ, &why);

	if (!p)
		return why;
	vio_snapshot(buf, p, len);
	return VIO_ST_OK;
}

/* All of r->data[] into r->iov; false with r->fault set. */
static inline bool vio_in_place_map(struct vio_squeue *q, struct vio_req *r, vio_in_place_ptr *ptr)
{
	uint8_t perm = r->to_guest ? TCE_WRITE : TCE_READ;

	r->n_iov = 0;
	r->waits = false;
	for (unsigned i = 0; i < r->n_data; i++) {
		void *p = ptr(q, r->data[i].at, r->data[i].len, perm, &r->fault);

		if (vio_unlikely(!p))
			return false;
		r->iov[i] = (struct iovec){.iov_base = p, .iov_len = r->data[i].len};
	}
	r->n_iov = r->n_data;
	return true;
}

static inline void vio_in_place_get(struct vio_squeue *q, struct vio_req *const r[], unsigned n,
				    vio_in_place_ptr *ptr)
{
	for (unsigned i = 0; i < n; i++) {
		if (r[i]->fault == VIO_ST_OK)
			vio_in_place_map(q, r[i], ptr);
	}
}

static inline unsigned vio_in_place_plain(struct vio_squeue *q, struct vio_plain v[], unsigned n,
					  uint8_t perm, vio_in_place_ptr *ptr)
{
	const int write = perm == TCE_WRITE;
	uint8_t why;

	for (unsigned i = 0; i < n; i++) {
		uint8_t *p = ptr(q, v[i].at, v[i].len, perm, &why);

		if (vio_unlikely(!p))
			return i;
		v[i].va = p;
		/* What the device looks at first. */
		if (write)
			__builtin_prefetch(p, 1);
		else
			__builtin_prefetch(p, 0);
		if (!write && v[i].len <= 2 * VIO_CACHE_LINE)
			__builtin_prefetch(p + v[i].len - 1, 0);
	}
	return n;
}

static inline void vio_in_place_move(struct vio_squeue *q, struct vio_req *r, void *local,
				     vio_in_place_ptr *ptr)
{
	uint8_t *at = local;

	if (r->fault != VIO_ST_OK || !vio_in_place_map(q, r, ptr))
		return;
	for (unsigned i = 0; i < r->n_iov; i++) {
		if (r->to_guest)
			memcpy(r->iov[i].iov_base, at, r->iov[i].iov_len);
		else
			memcpy(at, r->iov[i].iov_base, r->iov[i].iov_len);
		at += r->iov[i].iov_len;
	}
	vio_counter_add(&q->stats.cpu_bytes, r->data_len);
}

static inline void vio_in_place_status(struct vio_squeue *q, struct vio_req *const r[], unsigned n,
				       vio_in_place_ptr *ptr)
{
	for (unsigned i = 0; i < n; i++) {
		uint8_t *p;

		if (vio_unlikely(r[i]->fault != VIO_ST_OK))
			continue;
		p = ptr(q, r[i]->status_at, 1, TCE_WRITE, &r[i]->fault);
		if (vio_likely(p != NULL))
			vio_store_relaxed(p, r[i]->dev_status); /* before the used index: pair B */
	}
}

/* The functions that a level's table needs, level_fetch() and so on, over its `ptr`. */
#define VIO_IN_PLACE_OPS(level, ptr)                                                               \
	static void level##_fetch(struct vio_squeue *q, struct vio_req *const r[], unsigned n,     \
				  uint32_t len)                                                    \
	{                                                                                          \
		vio_in_place_fetch(q, r, n, len, ptr);                                             \
	}                                                                                          \
	static uint8_t level##_read_once(struct vio_squeue *q, struct ioba at, void *buf,          \
					 uint32_t len)                                             \
	{                                                                                          \
		return vio_in_place_read(q, at, buf, len, ptr);                                    \
	}                                                                                          \
	static void level##_get(struct vio_squeue *q, struct vio_req *const r[], unsigned n)       \
	{                                                                                          \
		vio_in_place_get(q, r, n, ptr);                                                    \
	}                                                                                          \
	static unsigned level##_plain(struct vio_squeue *q, struct vio_plain v[], unsigned n,      \
				      uint8_t perm)                                                \
	{                                                                                          \
		return vio_in_place_plain(q, v, n, perm, ptr);                                     \
	}                                                                                          \
	static void level##_put(struct vio_squeue *q, struct vio_req *const r[], unsigned n)       \
	{                                                                                          \
		(void)q, (void)r, (void)n; /* nothing was taken */                                 \
	}                                                                                          \
	static void level##_move(struct vio_squeue *q, struct vio_req *r, void *local,             \
				 struct ioba local_at)                                             \
	{                                                                                          \
		(void)local_at;                                                                    \
		vio_in_place_move(q, r, local, ptr);                                               \
	}                                                                                          \
	static void level##_status(struct vio_squeue *q, struct vio_req *const r[], unsigned n)    \
	{                                                                                          \
		vio_in_place_status(q, r, n, ptr);                                                 \
	}                                                                                          \
	struct vio_in_place_end /* so that the macro's use ends in a semicolon */

#endif
