/* SPDX-License-Identifier: BSD-3-Clause */
#include "guest/dma/ioba_alloc.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#define WORD 64u

int vio_ioba_init(struct vio_ioba_alloc *a, uint32_t n_pages)
{
	a->used = calloc(((size_t)n_pages + WORD - 1) / WORD, sizeof(a->used[0]));
	if (!a->used)
		return -ENOMEM;
	a->n_pages = n_pages;
	a->n_free = n_pages;
	a->next = 0;
	return 0;
}

void vio_ioba_fini(struct vio_ioba_alloc *a)
{
	free(a->used);
	a->used = NULL;
}

/* First bit of [from, end) that is taken (or free); `end` when there is none. */
static uint32_t ioba_find(const struct vio_ioba_alloc *a, uint32_t from, uint32_t end, bool taken)
{
	const uint64_t flip = taken ? 0 : UINT64_MAX;

	while (from < end) {
		uint64_t w = (a->used[from / WORD] ^ flip) >> (from % WORD);

		if (w) {
			from += (uint32_t)__builtin_ctzll(w);
			return from < end ? from : end;
		}
		from += WORD - from % WORD;
	}
	return end;
}

/* The bits [page, page + n) of their words, one word a turn. */
static void mark(struct vio_ioba_alloc *a, uint32_t page, uint32_t n, bool taken)
{
	while (n > 0) {
		const uint32_t off = page % WORD, some = n < WORD - off ? n : WORD - off;
		const uint64_t bits = (some == WORD ? UINT64_MAX : (1ull << some) - 1) << off;

		if (taken)
			a->used[page / WORD] |= bits;
		else
			a->used[page / WORD] &= ~bits;
		page += some;
		n -= some;
	}
}

static uint32_t search(const struct vio_ioba_alloc *a, uint32_t from, uint32_t end, uint32_t n)
{
	while (from < end) {
		uint32_t stop;

		from = ioba_find(a, from, end, false);
		if (end - from < n)
			break;
		stop = ioba_find(a, from, from + n, true);
		if (stop == from + n)
			return from;
		from = stop;
	}
	return VIO_IOBA_NONE;
}

uint32_t vio_ioba_get(struct vio_ioba_alloc *a, uint32_t n)
{
	uint32_t page, end;

	if (n == 0 || n > a->n_free)
		return VIO_IOBA_NONE;
	page = search(a, a->next, a->n_pages, n);
	if (page == VIO_IOBA_NONE) {
		/* From the begin, up to a run that ends just after where the first search began. */
		end = n - 1 < a->n_pages - a->next ? a->next + n - 1 : a->n_pages;
		page = search(a, 0, end, n);
		if (page == VIO_IOBA_NONE)
			return VIO_IOBA_NONE;
	}
	mark(a, page, n, true);
	a->n_free -= n;
	a->next = page + n == a->n_pages ? 0 : page + n;
	return page;
}

void vio_ioba_put(struct vio_ioba_alloc *a, uint32_t page, uint32_t n)
{
	mark(a, page, n, false);
	a->n_free += n;
}

uint32_t vio_ioba_taken(const struct vio_ioba_alloc *a, uint32_t from, uint32_t *n)
{
	uint32_t page = from < a->n_pages ? ioba_find(a, from, a->n_pages, true) : a->n_pages;

	if (page == a->n_pages)
		return VIO_IOBA_NONE;
	*n = ioba_find(a, page, a->n_pages, false) - page;
	return page;
}
