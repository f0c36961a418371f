/* SPDX-License-Identifier: BSD-3-Clause */
/* What the load generator measures and checks with: the histogram and the pattern. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "guest/prog/hist.h"
#include "guest/prog/pattern.h"

static void every_value_lies_in_its_bucket_and_no_bucket_is_wider_than_1_6_percent(void **state)
{
	uint64_t x = 1;

	(void)state;
	for (unsigned n = 0; n < 200000; n++) {
		uint64_t v = n < 4096 ? n : x >> (n % 60);
		unsigned i = vio_hist_index(v);

		assert_true(i < VIO_HIST_BUCKETS);
		assert_true(v <= vio_hist_upper(i));
		if (i) {
			uint64_t lower = vio_hist_upper(i - 1) + 1;

			assert_true(v >= lower);
			assert_true((double)(vio_hist_upper(i) - lower) <= (double)lower / 64 + 1);
		}
		x = x * 6364136223846793005ull + 1442695040888963407ull;
	}
	assert_int_equal(vio_hist_index(UINT64_MAX), VIO_HIST_BUCKETS - 1);
}

static void quantiles_are_those_of_a_sorted_list(void **state)
{
	struct vio_hist *h = calloc(1, sizeof(*h));

	(void)state;
	for (uint64_t v = 1; v <= 10000; v++)
		vio_hist_add(h, v);
	assert_int_equal(h->count, 10000);
	assert_int_equal(h->min, 1);
	assert_int_equal(vio_hist_quantile(h, 1.0), 10000);
	assert_true(vio_hist_quantile(h, 0.5) >= 5000 && vio_hist_quantile(h, 0.5) <= 5000 * 1.02);
	assert_true(vio_hist_quantile(h, 0.99) >= 9900 && vio_hist_quantile(h, 0.99) <= 10000);
	assert_int_equal(vio_hist_quantile(h, 0.00001), 1);
	free(h);
}

static void an_empty_histogram_has_no_quantile(void **state)
{
	struct vio_hist *h = calloc(1, sizeof(*h));

	(void)state;
	assert_int_equal(vio_hist_quantile(h, 0.5), 0);
	free(h);
}

static void a_single_flipped_bit_anywhere_is_found(void **state)
{
	_Alignas(64) uint8_t buf[4096];
	uint64_t key = vio_pattern_key(7, 123, 4);

	(void)state;
	vio_pattern_fill(buf, sizeof(buf), key);
	assert_int_equal(vio_pattern_check(buf, sizeof(buf), key), 0);
	assert_int_equal(vio_pattern_first_bad(buf, sizeof(buf), key), sizeof(buf));
	for (size_t at = 0; at < sizeof(buf); at++) {
		buf[at] ^= (uint8_t)(1u << (at % 8));
		assert_int_equal(vio_pattern_check(buf, sizeof(buf), key), 1);
		assert_int_equal(vio_pattern_first_bad(buf, sizeof(buf), key), at & ~7ull);
		buf[at] ^= (uint8_t)(1u << (at % 8));
	}
}

static void another_block_generation_or_seed_is_wrong_in_every_word(void **state)
{
	_Alignas(64) uint8_t buf[512];

	(void)state;
	vio_pattern_fill(buf, sizeof(buf), vio_pattern_key(1, 10, 3));
	assert_int_equal(vio_pattern_check(buf, sizeof(buf), vio_pattern_key(1, 11, 3)), 64);
	assert_int_equal(vio_pattern_check(buf, sizeof(buf), vio_pattern_key(1, 10, 2)), 64);
	assert_int_equal(vio_pattern_check(buf, sizeof(buf), vio_pattern_key(2, 10, 3)), 64);
	/* shifted by a word, as a torn or misplaced transfer would be */
	assert_int_equal(vio_pattern_check(buf + 8, sizeof(buf) - 8, vio_pattern_key(1, 10, 3)),
			 63);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			every_value_lies_in_its_bucket_and_no_bucket_is_wider_than_1_6_percent),
		cmocka_unit_test(quantiles_are_those_of_a_sorted_list),
		cmocka_unit_test(an_empty_histogram_has_no_quantile),
		cmocka_unit_test(a_single_flipped_bit_anywhere_is_found),
		cmocka_unit_test(another_block_generation_or_seed_is_wrong_in_every_word),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
