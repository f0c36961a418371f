/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/payload/arena.h"
#include "server/core/windows.h"

static uint8_t backing[1 << 16];

static struct vio_wtable *add(struct vio_wtable *t, uint64_t at, uint64_t len, uint8_t perm,
			      uint16_t id, int want)
{
	struct vio_window w = {
		.at = {at}, .len = len, .va = backing + at % 4096, .perm = perm, .id = id};
	struct vio_wtable *out = NULL;

	assert_int_equal(vio_wtable_add(t, &w, &out), want);
	if (want)
		return t;
	free(t);
	return out;
}

static void overlapping_windows_are_refused(void **state)
{
	struct vio_wtable *t = add(NULL, 0x2000, 0x1000, TCE_READ, 1, 0);

	(void)state;
	t = add(t, 0x2000, 0x1000, TCE_READ, 2, -EEXIST);
	t = add(t, 0x1000, 0x1001, TCE_READ, 2, -EEXIST);
	t = add(t, 0x2fff, 1, TCE_READ, 2, -EEXIST);
	t = add(t, 0, UINT64_MAX, TCE_READ, 2, -EEXIST);
	t = add(t, 0x5000, 0, TCE_READ, 2, -EINVAL);
	t = add(t, UINT64_MAX - 10, 12, TCE_READ, 2, -EINVAL);
	t = add(t, 0x1000, 0x1000, TCE_READ, 2, 0);
	t = add(t, 0x3000, 0x1000, TCE_READ, 3, 0);
	t = add(t, UINT64_MAX - 10, 11, TCE_READ, 4, 0);
	assert_int_equal(t->n, 4);
	free(t);
}

static void a_full_table_answers_enospc(void **state)
{
	struct vio_wtable *t = NULL;

	(void)state;
	for (unsigned i = 0; i < VIO_MAX_WINDOWS; i++)
		t = add(t, 0x1000ull * ((i * 7) % VIO_MAX_WINDOWS), 0x1000, TCE_READ, (uint16_t)i,
			0);
	for (unsigned i = 1; i < t->n; i++)
		assert_true(t->w[i - 1].at.v < t->w[i].at.v);
	t = add(t, 0x1000ull * VIO_MAX_WINDOWS, 1, TCE_READ, 0, -ENOSPC);
	free(t);
}

static void only_ranges_inside_one_window_get_a_pointer(void **state)
{
	struct vio_wtable *t = add(NULL, 0x1000, 0x1000, TCE_READ, 1, 0);
	const uint8_t all = TCE_READ | TCE_WRITE;

	(void)state;
	t = add(t, 0x2000, 0x1000, all, 2, 0);
	/* Any hint gives the same answer. */
	for (unsigned h = 0; h < 4; h++) {
		unsigned hint;
		uint8_t why;

#define PTR(at, len, perm)                                                                         \
	(hint = h, why = VIO_ST_OK, vio_window_ptr(t, (struct ioba){at}, len, perm, &hint, &why))
		assert_ptr_equal(PTR(0x1000, 1, TCE_READ), t->w[0].va);
		assert_ptr_equal(PTR(0x1fff, 1, TCE_READ), t->w[0].va + 0xfff);
		assert_ptr_equal(PTR(0x2000, 0x1000, all), t->w[1].va);
		assert_null(PTR(0x1000, 1, TCE_WRITE));
		assert_int_equal(why, VIO_ST_DESC_PERM);
		assert_null(PTR(0x0fff, 2, TCE_READ));
		assert_int_equal(why, VIO_ST_DESC_RANGE);
		assert_null(PTR(0x1fff, 2, TCE_READ));
		assert_int_equal(why, VIO_ST_DESC_RANGE);
		assert_null(PTR(0x3000, 1, TCE_READ));
		assert_null(PTR(0x1000, 0, TCE_READ));
		assert_int_equal(why, VIO_ST_DESC_RANGE);
		assert_null(PTR(0x1008, UINT64_MAX, TCE_READ));
		assert_int_equal(why, VIO_ST_DESC_RANGE);
		assert_null(PTR(UINT64_MAX, 2, TCE_READ));
		assert_null(PTR(0, UINT64_MAX, TCE_READ));
	}
	unsigned hint = 0;
	uint8_t why = VIO_ST_OK;

	assert_null(vio_window_ptr(NULL, (struct ioba){0x1000}, 1, TCE_READ, &hint, &why));
	assert_int_equal(why, VIO_ST_DESC_RANGE);
	free(t);
}

static void a_deleted_window_is_gone_and_the_others_stay(void **state)
{
	struct vio_wtable *t = NULL, *out;
	struct vio_window gone;

	(void)state;
	for (uint16_t i = 0; i < 5; i++)
		t = add(t, 0x1000ull * i, 0x1000, TCE_READ, i, 0);
	assert_int_equal(vio_wtable_del(t, 9, &out, &gone), -ENOENT);
	assert_int_equal(vio_wtable_del(NULL, 0, &out, &gone), -ENOENT);
	assert_int_equal(vio_wtable_del(t, 2, &out, &gone), 0);
	assert_int_equal(gone.id, 2);
	assert_int_equal(out->n, 4);
	for (unsigned i = 0; i < 5; i++) {
		unsigned hint = i;
		uint8_t why;

		assert_int_equal(!vio_window_ptr(out, (struct ioba){0x1000ull * i}, 8, TCE_READ,
						 &hint, &why),
				 i == 2);
	}
	free(t);
	free(out);
}

/* Random tables and questions, against a search that can't be wrong. */
static void lookup_agrees_with_a_linear_search(void **state)
{
	unsigned seed = 1, hint = 0;
	struct vio_wtable *t = NULL;

	(void)state;
	for (unsigned i = 0; i < 60; i++)
		t = add(t, 0x1000ull * (i * 3 + 1), 0x800ull + (uint64_t)rand_r(&seed) % 0x1000,
			(uint8_t)(1 + rand_r(&seed) % 3), (uint16_t)i, 0);
	for (unsigned i = 0; i < 200000; i++) {
		uint64_t at = (uint64_t)rand_r(&seed) % (0x1000 * 190),
			 len = (uint64_t)rand_r(&seed) % 0x900;
		uint8_t perm = (uint8_t)(1 + rand_r(&seed) % 3), why = VIO_ST_OK,
			want_why = VIO_ST_DESC_RANGE;
		uint8_t *want = NULL;

		for (unsigned k = 0; k < t->n && len; k++) {
			if (at < t->w[k].at.v || at + len > t->w[k].at.v + t->w[k].len)
				continue;
			want_why = VIO_ST_DESC_PERM;
			if ((t->w[k].perm & perm) == perm)
				want = t->w[k].va + (at - t->w[k].at.v);
		}
		assert_ptr_equal(vio_window_ptr(t, (struct ioba){at}, len, perm, &hint, &why),
				 want);
		if (!want)
			assert_int_equal(why, want_why);
	}
	free(t);
}

/* Bounce pages: never given twice, all given back, and the largest request fits when nothing is taken. */
static void arena_never_gives_a_page_twice(void **state)
{
	enum { PAGES = 300, LIVE = 64 };
	struct vio_arena *a = vio_arena_new(PAGES);
	uint8_t owner[PAGES] = {0};
	struct {
		int64_t page;
		uint32_t n;
	} live[LIVE] = {{0, 0}};
	unsigned seed = 7;

	(void)state;
	for (unsigned i = 0; i < 200000; i++) {
		unsigned k = (unsigned)rand_r(&seed) % LIVE;

		if (live[k].n) {
			for (uint32_t p = 0; p < live[k].n; p++)
				owner[live[k].page + p] = 0;
			vio_arena_give(a, (uint32_t)live[k].page, live[k].n);
			live[k].n = 0;
			continue;
		}
		uint32_t want = 1 + (uint32_t)rand_r(&seed) % (i % 16 ? 4 : 200);
		int64_t page = vio_arena_take(a, want);

		if (page < 0)
			continue;
		assert_true(page + want <= PAGES);
		for (uint32_t p = 0; p < want; p++) {
			assert_int_equal(owner[page + p], 0);
			owner[page + p] = 1;
		}
		live[k].page = page;
		live[k].n = want;
	}
	for (unsigned k = 0; k < LIVE; k++) {
		if (live[k].n)
			vio_arena_give(a, (uint32_t)live[k].page, live[k].n);
	}
	assert_int_equal(a->n_free, PAGES);
	assert_int_equal(vio_arena_take(a, PAGES), 0);
	assert_int_equal(vio_arena_take(a, 1), -1);
	free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(overlapping_windows_are_refused),
		cmocka_unit_test(a_full_table_answers_enospc),
		cmocka_unit_test(only_ranges_inside_one_window_get_a_pointer),
		cmocka_unit_test(a_deleted_window_is_gone_and_the_others_stay),
		cmocka_unit_test(lookup_agrees_with_a_linear_search),
		cmocka_unit_test(arena_never_gives_a_page_twice),
	};

	return cmocka_run_group_tests_name("server/windows", tests, NULL, NULL);
}
