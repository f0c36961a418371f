/* SPDX-License-Identifier: BSD-3-Clause */
#include "partition.h"

#include "guest/dma/mem.h"

static struct partition p;
static struct vio_mem mem;

static int up(void **state)
{
	(void)state;
	partition_open(&p, 0);
	vio_mem_init(&mem, p.part);
	return 0;
}

static int down(void **state)
{
	(void)state;
	partition_close(&p);
	return 0;
}

static void pieces_are_aligned_apart_and_zeroed(void **state)
{
	struct vio_mem_piece a, b, c;
	struct vio_err err;

	(void)state;
	/* What a predecessor left. */
	memset(phyp_mem(p.part, (struct gla){0}, MIB), 0x5a, MIB);
	assert_int_equal(vio_mem_carve(&mem, 100, 1, false, "a", &a, &err), 0);
	assert_int_equal(vio_mem_carve(&mem, 5000, 4096, false, "b", &b, &err), 0);
	assert_int_equal(vio_mem_carve(&mem, 64, 64, true, "c", &c, &err), 0);
	assert_int_equal(a.at.v, 0);
	assert_int_equal(b.at.v, 4096);
	assert_int_equal(c.at.v, VIO_ALIGN_UP(4096 + 5000, 64));
	assert_ptr_equal(b.va, phyp_mem(p.part, b.at, b.len));
	assert_int_equal(b.len, 5000);
	for (unsigned i = 0; i < 5000; i++)
		assert_int_equal(b.va[i], 0);
	assert_int_equal(a.va[99], 0);
	assert_int_equal(c.va[63], 0);
	assert_int_equal(c.va[64], 0x5a); /* no more than was asked for */
}

static void a_piece_within_a_block_never_crosses_its_border(void **state)
{
	const uint64_t lmb = phyp_lmb_size(p.part);
	struct vio_mem_piece a, b, c;
	struct vio_err err;

	(void)state;
	assert_int_equal(vio_mem_carve(&mem, lmb - 4096, 4096, true, "a", &a, &err), 0);
	assert_int_equal(vio_mem_carve(&mem, 4096, 64, true, "fits exactly", &b, &err), 0);
	assert_int_equal(b.at.v, lmb - 4096);
	vio_mem_init(&mem, p.part);
	assert_int_equal(vio_mem_carve(&mem, lmb - 4096, 4096, true, "a", &a, &err), 0);
	assert_int_equal(vio_mem_carve(&mem, 4097, 64, true, "b", &b, &err), 0);
	assert_int_equal(b.at.v, lmb);
	vio_mem_init(&mem, p.part);
	assert_int_equal(vio_mem_carve(&mem, lmb - 4096, 4096, true, "a", &a, &err), 0);
	assert_int_equal(vio_mem_carve(&mem, 4097, 64, false, "c may cross", &c, &err), 0);
	assert_int_equal(c.at.v, lmb - 4096);
}

static void too_much_is_refused_with_its_name_and_takes_nothing(void **state)
{
	const uint64_t size = phyp_mem_size(p.part);
	struct vio_mem_piece a;
	struct vio_err err;

	(void)state;
	assert_int_equal(vio_mem_carve(&mem, size + 1, 1, false, "the elephant", &a, &err),
			 -ENOMEM);
	assert_non_null(strstr(err.msg, "the elephant"));
	assert_non_null(strstr(err.msg, "guest0"));
	assert_int_equal(vio_mem_carve(&mem, UINT64_MAX, 1, false, "x", &a, &err), -ENOMEM);
	assert_int_equal(vio_mem_carve(&mem, UINT64_MAX, 1, true, "x", &a, &err), -ENOMEM);
	assert_int_equal(vio_mem_carve(&mem, 1, 1ull << 63, false, "x", &a, &err), -ENOMEM);
	assert_int_equal(vio_mem_carve(&mem, phyp_lmb_size(p.part) + 1, 1, true, "x", &a, &err),
			 -ENOMEM);
	assert_int_equal(vio_mem_carve(&mem, 0, 1, false, "x", &a, &err), -EINVAL);
	assert_int_equal(vio_mem_carve(&mem, 1, 3, false, "x", &a, &err), -EINVAL);
	assert_int_equal(vio_mem_carve(&mem, 1, 0, false, "x", &a, &err), -EINVAL);
	assert_int_equal(mem.next, 0);
	assert_int_equal(vio_mem_carve(&mem, size, 1, false, "all", &a, &err), 0);
	assert_int_equal(vio_mem_carve(&mem, 1, 1, false, "one more", &a, &err), -ENOMEM);
	assert_int_equal(vio_mem_carve(&mem, 1, 1, true, "one more", &a, &err), -ENOMEM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(pieces_are_aligned_apart_and_zeroed, up, down),
		cmocka_unit_test_setup_teardown(a_piece_within_a_block_never_crosses_its_border, up,
						down),
		cmocka_unit_test_setup_teardown(too_much_is_refused_with_its_name_and_takes_nothing,
						up, down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
