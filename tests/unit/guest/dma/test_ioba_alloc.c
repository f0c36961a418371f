/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/dma/ioba_alloc.h"

static void ranges_are_neighbours_and_not_reused_at_once(void **state)
{
	struct vio_ioba_alloc a;

	(void)state;
	assert_int_equal(vio_ioba_init(&a, 10), 0);
	assert_int_equal(vio_ioba_get(&a, 3), 0);
	assert_int_equal(vio_ioba_get(&a, 3), 3);
	vio_ioba_put(&a, 0, 3);
	assert_int_equal(vio_ioba_get(&a, 3), 6);
	assert_int_equal(vio_ioba_get(&a, 3), 0); /* wrapped */
	assert_int_equal(vio_ioba_get(&a, 1), 9);
	assert_int_equal(vio_ioba_get(&a, 1), VIO_IOBA_NONE);
	assert_int_equal(a.n_free, 0);
	vio_ioba_fini(&a);
}

static void a_run_across_the_search_start_is_found(void **state)
{
	struct vio_ioba_alloc a;

	(void)state;
	assert_int_equal(vio_ioba_init(&a, 130), 0);
	assert_int_equal(vio_ioba_get(&a, 100), 0); /* the next search begins at 100 */
	vio_ioba_put(&a, 40, 60);
	assert_int_equal(vio_ioba_get(&a, 90), 40); /* [40, 130) contains it */
	assert_int_equal(vio_ioba_get(&a, 0), VIO_IOBA_NONE);
	assert_int_equal(vio_ioba_get(&a, 131), VIO_IOBA_NONE);
	vio_ioba_fini(&a);
}

static void no_page_is_given_twice_and_none_is_lost(void **state)
{
	const uint32_t sizes[] = {1, 2, 63, 64, 65, 128, 1000};

	(void)state;
	for (unsigned s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		const uint32_t total = sizes[s];
		struct vio_ioba_alloc a;
		bool taken[1000] = {false};
		uint32_t first[1000], len[1000], held = 0, n_free = total;
		unsigned seed = s;

		assert_int_equal(vio_ioba_init(&a, total), 0);
		for (unsigned round = 0; round < 4000; round++) {
			uint32_t n = 1 + (uint32_t)rand_r(&seed) % (total < 80 ? total : 80), page;

			if (held > 0 && rand_r(&seed) % 2) {
				uint32_t i = (uint32_t)rand_r(&seed) % held;

				vio_ioba_put(&a, first[i], len[i]);
				memset(&taken[first[i]], 0, len[i]);
				n_free += len[i];
				first[i] = first[--held];
				len[i] = len[held];
				continue;
			}
			page = vio_ioba_get(&a, n);
			if (page == VIO_IOBA_NONE) {
				/* True: there is no such run. */
				for (uint32_t i = 0, run = 0; i < total; i++) {
					run = taken[i] ? 0 : run + 1;
					assert_true(run < n);
				}
				continue;
			}
			assert_true(page + n <= total);
			for (uint32_t i = page; i < page + n; i++) {
				assert_false(taken[i]);
				taken[i] = true;
			}
			first[held] = page;
			len[held++] = n;
			n_free -= n;
			assert_int_equal(a.n_free, n_free);
		}
		/* The runs that are left are exactly those. */
		for (uint32_t page = 0, n; (page = vio_ioba_taken(&a, page, &n)) != VIO_IOBA_NONE;
		     page += n) {
			for (uint32_t i = page; i < page + n; i++) {
				assert_true(taken[i]);
				taken[i] = false;
			}
		}
		for (uint32_t i = 0; i < total; i++)
			assert_false(taken[i]);
		vio_ioba_fini(&a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges_are_neighbours_and_not_reused_at_once),
		cmocka_unit_test(a_run_across_the_search_start_is_found),
		cmocka_unit_test(no_page_is_given_twice_and_none_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
