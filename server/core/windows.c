/* SPDX-License-Identifier: BSD-3-Clause */
/* Window tables: immutable, sorted, searched. */
#include <stdlib.h>
#include <string.h>

#include "server/core/windows.h"

/* First position whose window begins above `at`. */
static unsigned above(const struct vio_wtable *t, struct ioba at)
{
	unsigned lo = 0, hi = t ? t->n : 0;

	while (lo < hi) {
		unsigned mid = lo + (hi - lo) / 2;

		if (t->w[mid].at.v <= at.v)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct vio_wtable *table_new(unsigned n)
{
	struct vio_wtable *t = calloc(1, sizeof(*t) + n * sizeof(t->w[0]));

	if (t)
		t->n = n;
	return t;
}

int vio_wtable_add(const struct vio_wtable *old, const struct vio_window *w,
		   struct vio_wtable **out)
{
	unsigned n = old ? old->n : 0, pos = above(old, w->at);
	struct vio_wtable *t;

	if (w->len == 0 || w->at.v + (w->len - 1) < w->at.v)
		return -EINVAL;
	if (n >= VIO_MAX_WINDOWS)
		return -ENOSPC;
	/* Only the neighbours can overlap: differences, so that nothing wraps. */
	if (pos > 0 && w->at.v - old->w[pos - 1].at.v < old->w[pos - 1].len)
		return -EEXIST;
	if (pos < n && old->w[pos].at.v - w->at.v < w->len)
		return -EEXIST;
	t = table_new(n + 1);
	if (!t)
		return -ENOMEM;
	if (pos > 0)
		memcpy(t->w, old->w, pos * sizeof(t->w[0]));
	t->w[pos] = *w;
	if (pos < n)
		memcpy(t->w + pos + 1, old->w + pos, (n - pos) * sizeof(t->w[0]));
	*out = t;
	return 0;
}

const struct vio_window *vio_wtable_by_id(const struct vio_wtable *t, uint16_t id)
{
	for (unsigned i = 0; t && i < t->n; i++) {
		if (t->w[i].id == id)
			return &t->w[i];
	}
	return NULL;
}

int vio_wtable_del(const struct vio_wtable *old, uint16_t id, struct vio_wtable **out,
		   struct vio_window *removed)
{
	const struct vio_window *w = vio_wtable_by_id(old, id);
	struct vio_wtable *t;
	size_t pos;

	if (!w)
		return -ENOENT;
	pos = (size_t)(w - old->w);
	t = table_new(old->n - 1);
	if (!t)
		return -ENOMEM;
	memcpy(t->w, old->w, pos * sizeof(t->w[0]));
	memcpy(t->w + pos, w + 1, (t->n - pos) * sizeof(t->w[0]));
	*removed = *w;
	*out = t;
	return 0;
}

int vio_wtable_close(const struct vio_wtable *old, uint16_t id, struct vio_wtable **out)
{
	const struct vio_window *w = vio_wtable_by_id(old, id);
	struct vio_wtable *t;

	if (!w)
		return -ENOENT;
	t = table_new(old->n);
	if (!t)
		return -ENOMEM;
	memcpy(t->w, old->w, t->n * sizeof(t->w[0]));
	t->w[w - old->w].perm = 0;
	*out = t;
	return 0;
}

void *vio_window_find(const struct vio_wtable *t, struct ioba at, uint64_t len, uint8_t perm,
		      unsigned *hint, uint8_t *why)
{
	unsigned pos = above(t, at);
	const struct vio_window *w;
	uint64_t off;

	*why = VIO_ST_DESC_RANGE;
	if (pos == 0 || len == 0)
		return NULL;
	w = &t->w[pos - 1];
	off = at.v - w->at.v;
	if (!vio_range_ok(off, len, w->len))
		return NULL;
	if ((w->perm & perm) != perm) {
		*why = w->perm ? VIO_ST_DESC_PERM : VIO_ST_DESC_RANGE; /* closed */
		return NULL;
	}
	*hint = pos - 1;
	*why = VIO_ST_OK;
	return w->va + off;
}
