/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdlib.h>

#include "server/payload/arena.h"

struct vio_arena *vio_arena_new(uint32_t n_pages)
{
	uint32_t words = (n_pages + 63) / 64;
	struct vio_arena *a = calloc(1, sizeof(*a) + words * sizeof(a->map[0]));

	if (!a)
		return NULL;
	a->n_pages = n_pages;
	a->words = words;
	vio_arena_give(a, 0, n_pages);
	return a;
}

/* Flip the bits of [page, page+pages). */
static void flip(struct vio_arena *a, uint32_t page, uint32_t pages)
{
	while (pages > 0) {
		uint32_t bit = page % 64, run = 64 - bit < pages ? 64 - bit : pages;
		uint64_t mask = (run == 64 ? ~0ull : (1ull << run) - 1) << bit;

		a->map[page / 64] ^= mask;
		page += run;
		pages -= run;
	}
}

/* Length of the free run that starts at `page`, at most `want`. */
static uint32_t run_at(const struct vio_arena *a, uint32_t page, uint32_t want)
{
	uint32_t run = 0;

	while (run < want && page + run < a->n_pages) {
		uint32_t bit = (page + run) % 64, room = 64 - bit;
		uint64_t taken = ~(a->map[(page + run) / 64] >>
				   bit); /* 1s shifted in read as taken only past the room */
		uint32_t part = taken ? (uint32_t)__builtin_ctzll(taken) : 64;

		part = part < room ? part : room;
		run += part;
		if (part < room)
			break;
	}
	return run < want ? run : want;
}

int64_t vio_arena_take(struct vio_arena *a, uint32_t pages)
{
	if (pages > a->n_free)
		return -1;
	while (a->first < a->words && a->map[a->first] == 0)
		a->first++;
	for (uint32_t w = a->first; w < a->words; w++) {
		uint64_t left = a->map[w];

		while (left) {
			uint32_t bit = (uint32_t)__builtin_ctzll(left), page = w * 64 + bit;
			uint32_t run = run_at(a, page, pages);

			if (run == pages) {
				flip(a, page, pages);
				a->n_free -= pages;
				return page;
			}
			if (bit + run >= 64)
				break; /* a longer run of this word does not exist */
			left &= ~0ull << (bit + run);
		}
	}
	return -1;
}

void vio_arena_give(struct vio_arena *a, uint32_t page, uint32_t pages)
{
	flip(a, page, pages);
	a->n_free += pages;
	if (page / 64 < a->first)
		a->first = page / 64;
}
