/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mapping lifetime cached: a mapping outlives its request and is found again by the next one that
 * uses the same memory.
 *
 * What is kept is a range: (first page, number of pages), so that a segment of several pages has
 * contiguous IOBAs and is one descriptor. Ranges that overlap are separate entries. A hash finds
 * the range; entries that no request uses are in a list in the order of their last use, and the
 * oldest go when the quota of mapped pages or the slice is used up. An entry in flight is in no
 * list, so nothing can evict it.
 *
 * Permissions: two segments that share a page (a header and a status) share the entry, and its TCE
 * is raised to the union of what they need; it stays so until the entry goes. A grant's permission
 * can't be raised, so with in-place payload the permission is part of the key and each entry has
 * exactly its own.
 */
#include <stdlib.h>

#include "guest/dma/mapper.h"

#define DEFAULT_QUOTA 4096u
#define NIL           UINT32_MAX

struct entry {
	uint64_t first;      /* guest-logical address of the first page */
	uint32_t n;          /* pages; 0: the entry is free */
	uint32_t refs;       /* segments in flight */
	uint32_t page;       /* of the slice */
	uint32_t hash_next;  /* or of the free list */
	uint32_t prev, next; /* by last use; only while refs is 0 */
	uint16_t window;
	uint8_t perm;
	bool exposed; /* `window` is registered */
	bool stale;   /* its window is void: not in the hash, goes with its last reference */
};

struct cached {
	struct vio_mapper m; /* first */
	struct entry *entry;
	uint32_t *bucket;
	uint32_t n_entries, free;
	uint32_t oldest, newest;
	uint32_t in_flight; /* entries with references */
	uint8_t hash_shift;
	uint64_t quota;
};

static struct cached *cached_of(struct vio_dma *d)
{
	return vio_container_of(d, struct cached, m.d);
}

static int tables(struct cached *c, struct vio_err *err)
{
	uint32_t buckets = 2;

	c->hash_shift = 63;
	while (buckets < c->n_entries) {
		buckets *= 2;
		c->hash_shift--;
	}
	c->entry = calloc(c->n_entries, sizeof(c->entry[0]));
	c->bucket = malloc(buckets * sizeof(c->bucket[0]));
	if (!c->entry || !c->bucket)
		return vio_err_set(err, -ENOMEM, "mapping cached: no memory for %u entries",
				   c->n_entries);
	for (uint32_t i = 0; i < buckets; i++)
		c->bucket[i] = NIL;
	for (uint32_t i = 0; i < c->n_entries; i++)
		c->entry[i].hash_next = i + 1 < c->n_entries ? i + 1 : NIL;
	c->free = 0;
	c->oldest = NIL;
	c->newest = NIL;
	return 0;
}

static unsigned quota_of(const struct vio_dma_cfg *cfg)
{
	return cfg->quota_pages ? cfg->quota_pages : DEFAULT_QUOTA;
}

static int cached_create(const struct vio_dma_cfg *cfg, struct vio_dma **out, struct vio_err *err)
{
	struct cached *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return vio_err_set(err, -ENOMEM, "mapping cached: no memory");
	rc = vio_mapper_init(&c->m, &vio_dma_cached, cfg, err);
	if (rc) {
		free(c);
		return rc;
	}
	c->quota = quota_of(cfg);
	/* Each entry maps at least one page of the slice. */
	c->n_entries = c->quota < c->m.iobas.n_pages ? (uint32_t)c->quota : c->m.iobas.n_pages;
	rc = tables(c, err);
	if (rc) {
		vio_mapper_fini(&c->m);
		free(c->entry);
		free(c->bucket);
		free(c);
		return rc;
	}
	*out = &c->m.d;
	return 0;
}

static inline uint32_t *bucket_of(const struct cached *c, uint64_t first, uint32_t n)
{
	const uint64_t key = (first >> c->m.d.cfg.page_shift) + ((uint64_t)n << 40);

	return &c->bucket[(key * 0x9e3779b97f4a7c15ull) >> c->hash_shift];
}

static inline bool matches(const struct cached *c, const struct entry *e,
			   const struct vio_span *span)
{
	return e->first == span->first.v && e->n == span->n &&
	       (!c->m.in_place || e->perm == span->perm);
}

static uint32_t cached_find(const struct cached *c, const struct vio_span *span)
{
	uint32_t i = *bucket_of(c, span->first.v, span->n);

	while (i != NIL && !matches(c, &c->entry[i], span))
		i = c->entry[i].hash_next;
	return i;
}

static void hash_remove(struct cached *c, uint32_t i)
{
	uint32_t *link = bucket_of(c, c->entry[i].first, c->entry[i].n);

	while (*link != i)
		link = &c->entry[*link].hash_next;
	*link = c->entry[i].hash_next;
}

static inline void use_remove(struct cached *c, struct entry *e)
{
	*(e->prev == NIL ? &c->oldest : &c->entry[e->prev].next) = e->next;
	*(e->next == NIL ? &c->newest : &c->entry[e->next].prev) = e->prev;
}

static inline void use_append(struct cached *c, uint32_t i)
{
	struct entry *e = &c->entry[i];

	e->prev = c->newest;
	e->next = NIL;
	*(c->newest == NIL ? &c->oldest : &c->entry[c->newest].next) = i;
	c->newest = i;
}

/* Unmap an entry that is in neither hash nor list, and make it free. */
static void discard(struct cached *c, uint32_t i)
{
	struct entry *e = &c->entry[i];

	vio_mapper_withdraw(&c->m, &e->window, e->exposed, e->page, e->n);
	*e = (struct entry){.hash_next = c->free};
	c->free = i;
}

static bool evict_oldest(struct cached *c)
{
	const uint32_t i = c->oldest;

	if (i == NIL)
		return false;
	use_remove(c, &c->entry[i]);
	hash_remove(c, i);
	discard(c, i);
	return true;
}

/* Map and, in place, expose. */
static int install(struct cached *c, const struct vio_span *span, uint32_t *page, uint16_t *window)
{
	int rc = vio_mapper_map(&c->m, span, 1, page);

	if (rc == 0 && c->m.in_place) {
		rc = vio_mapper_expose(&c->m, *page, span, window);
		if (rc)
			vio_mapper_clear(&c->m, *page, span->n);
	}
	return rc;
}

static int insert(struct cached *c, const struct vio_span *span, uint32_t *out)
{
	struct entry *e;
	uint32_t page, i;
	uint16_t window = 0;
	int rc;

	if (span->n > c->quota)
		return -EFAULT;
	while (c->m.d.tce_live + span->n > c->quota || c->free == NIL) {
		if (!evict_oldest(c))
			return -EAGAIN;
	}
	/* The slice or the server's table of windows may be full too. */
	while ((rc = install(c, span, &page, &window)) == -EAGAIN) {
		if (!evict_oldest(c))
			return -EAGAIN;
	}
	if (rc)
		return rc;
	i = c->free;
	e = &c->entry[i];
	c->free = e->hash_next;
	e->first = span->first.v;
	e->n = span->n;
	e->perm = span->perm;
	e->page = page;
	e->window = window;
	e->refs = 0;
	e->exposed = c->m.in_place;
	e->stale = false;
	e->hash_next = *bucket_of(c, e->first, e->n);
	*bucket_of(c, e->first, e->n) = i;
	use_append(c, i);
	*out = i;
	return 0;
}

/* Raise an entry's permission to what the span needs as well; requests in flight on it lose nothing. */
static int upgrade(struct cached *c, struct entry *e, const struct vio_span *span)
{
	const struct vio_span both = {
		.first = span->first, .n = span->n, .perm = e->perm | span->perm};
	int rc = vio_mapper_put(&c->m, e->page, &both, 1);

	if (rc == 0)
		e->perm = both.perm;
	return rc;
}

/* Find or make the entry of a segment and take a reference. */
static int acquire(struct cached *c, struct vio_dma_seg *seg, uint32_t *out)
{
	struct vio_span span;
	struct entry *e;
	uint32_t i;
	int rc = vio_mapper_span(&c->m, seg, &span);

	if (vio_unlikely(rc))
		return rc;
	i = cached_find(c, &span);
	if (vio_unlikely(i == NIL)) {
		c->m.d.misses++;
		rc = insert(c, &span, &i);
	} else if (vio_unlikely(span.perm & ~c->entry[i].perm)) {
		c->m.d.misses++;
		rc = upgrade(c, &c->entry[i], &span);
	} else {
		c->m.d.hits++;
	}
	if (vio_unlikely(rc))
		return rc;
	e = &c->entry[i];
	if (e->refs++ == 0) {
		use_remove(c, e);
		c->in_flight++;
	}
	seg->at = ioba_add(vio_mapper_at(&c->m, e->page), seg->addr.v - e->first);
	*out = i;
	return 0;
}

static void cached_release(struct cached *c, uint32_t i)
{
	struct entry *e = &c->entry[i];

	if (--e->refs > 0)
		return;
	c->in_flight--;
	if (vio_unlikely(e->stale))
		discard(c, i);
	else
		use_append(c, i);
}

static int map_one(struct cached *c, struct vio_dma_map *m)
{
	int rc = 0;

	if (vio_unlikely(m->n_seg == 0 || m->n_seg > VIO_DMA_MAX_SEG))
		return -EFAULT;
	for (unsigned s = 0; s < m->n_seg; s++) {
		rc = acquire(c, &m->seg[s], &m->entry[s]);
		if (vio_unlikely(rc)) {
			while (s-- > 0)
				cached_release(c, m->entry[s]);
			break;
		}
	}
	/* Nothing in flight whose end could make room: this request never fits. */
	return rc == -EAGAIN && c->in_flight == 0 ? -EFAULT : rc;
}

static int cached_map(struct vio_dma *d, struct vio_dma_map *const r[], unsigned n)
{
	struct cached *c = cached_of(d);

	for (unsigned i = 0; i < n; i++) {
		int rc = map_one(c, r[i]);

		if (vio_unlikely(rc))
			return vio_mapper_answer(&c->m, i, rc);
	}
	return (int)n;
}

/* What a request used stays mapped anyway. */
static unsigned cached_unmap(struct vio_dma *d, struct vio_dma_map *const r[], unsigned n)
{
	struct cached *c = cached_of(d);

	for (unsigned i = 0; i < n; i++) {
		for (unsigned s = 0; s < r[i]->n_seg; s++)
			cached_release(c, r[i]->entry[s]);
	}
	return n;
}

static void cached_lost(struct vio_dma *d)
{
	struct cached *c = cached_of(d);

	vio_mapper_lost(&c->m);
	if (!c->m.in_place)
		return; /* the TCEs are as good as before */
	for (uint32_t i = 0; i < c->n_entries; i++) {
		struct entry *e = &c->entry[i];

		if (e->n == 0 || e->stale)
			continue;
		e->exposed = false;
		e->stale = true;
		hash_remove(c, i);
		if (e->refs == 0) {
			use_remove(c, e);
			discard(c, i);
		}
	}
}

static void cached_destroy(struct vio_dma *d)
{
	struct cached *c = cached_of(d);

	while (evict_oldest(c))
		;
	vio_mapper_fini(&c->m);
	free(c->entry);
	free(c->bucket);
	free(c);
}

static void cached_keeps(const struct vio_dma_cfg *cfg, uint64_t *requests, uint64_t *pages)
{
	(void)requests;
	*pages = quota_of(cfg);
}

const struct vio_dma_ops vio_dma_cached = {
	.name = "cached",
	.keeps = cached_keeps,
	.create = cached_create,
	.destroy = cached_destroy,
	.map = cached_map,
	.unmap = cached_unmap,
	.lost = cached_lost,
};
