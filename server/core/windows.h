/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Windows: ranges of one adapter's remote IOBA space whose pages the guest granted and the server
 * accepted, with the address at which the server's CPU sees them. The only way from an IOBA to a
 * pointer in the server.
 *
 * The table is immutable once published; adding or removing makes a new one, published with
 * release; queues load it with acquire at the start of each poll and use it until the poll ends
 * (pair R, docs/memory-order.md). A removed window's pages stay mapped until every queue's lcore
 * has passed a quiescent state.
 */
#ifndef VIO_SERVER_WINDOWS_H
#define VIO_SERVER_WINDOWS_H

#include "server/core/req.h"
#include "vio/err.h"

struct vio_window {
	struct ioba at;
	uint64_t len;
	uint8_t *va;
	uint8_t perm; /* TCE_READ | TCE_WRITE */
	uint8_t role; /* enum vio_window_role */
	uint16_t id;
	struct gla logical; /* from H_ACCEPT_LOGICAL */
	uint64_t cookie;
};

struct vio_wtable {
	unsigned n; /* sorted by IOBA, not overlapping */
	/*
	 * Replaced, and waiting to be freed (adapter_windows.c): here, so that it takes no memory
	 * to let go of one.
	 */
	struct vio_wtable *next_retired;
	uint64_t token;
	struct vio_window w[];
};

/*
 * New table = old (may be NULL) plus one. -EEXIST when it overlaps, -ENOSPC when full, -EINVAL when
 * empty or wrapping, -ENOMEM. Caller frees both with free().
 */
int vio_wtable_add(const struct vio_wtable *old, const struct vio_window *w,
		   struct vio_wtable **out);
/* NULL: there is none. `t` may be NULL. */
const struct vio_window *vio_wtable_by_id(const struct vio_wtable *t, uint16_t id);
/* New table without the window of this id; *removed filled. -ENOENT. */
int vio_wtable_del(const struct vio_wtable *old, uint16_t id, struct vio_wtable **out,
		   struct vio_window *removed);

/* New table with the window of this id closed: it is still there, and permits nothing. -ENOENT, -ENOMEM. */
int vio_wtable_close(const struct vio_wtable *old, uint16_t id, struct vio_wtable **out);

/* The search behind vio_window_ptr(), for when the hint does not hit. */
void *vio_window_find(const struct vio_wtable *t, struct ioba at, uint64_t len, uint8_t perm,
		      unsigned *hint, uint8_t *why);

/*
 * Pointer to [at, at+len) if one window contains all of it and permits `perm`, else NULL and *why
 * is VIO_ST_DESC_RANGE or VIO_ST_DESC_PERM. `hint`: position of the last hit, tried first; any
 * value is safe. len 0 is VIO_ST_DESC_RANGE. `t` may be NULL (no windows). Data path.
 */
static inline void *vio_window_ptr(const struct vio_wtable *t, struct ioba at, uint64_t len,
				   uint8_t perm, unsigned *hint, uint8_t *why)
{
	if (vio_likely(t && *hint < t->n)) {
		const struct vio_window *w = &t->w[*hint];
		uint64_t off = at.v - w->at.v; /* below the window: wraps to more than any length */

		if (vio_likely(len != 0 && vio_range_ok(off, len, w->len) &&
			       (w->perm & perm) == perm))
			return w->va + off;
	}
	return vio_window_find(t, at, len, perm, hint, why);
}

#endif
