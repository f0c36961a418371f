/* SPDX-License-Identifier: BSD-3-Clause */
/* virtio-blk front end against a scripted server: every request in every arm, and refusals. */
#include "blk_trips.h"

/* ------------------------------------------------------------------------ every arm ---- */

static void others(struct bt *x)
{
	must(x, bt_do(x, VIRTIO_BLK_T_FLUSH, 0, 0, 0));
	bt_fill(x->va[0], 8192, 9);
	must(x, bt_do(x, VIRTIO_BLK_T_OUT, 64, 8192, 0));
	must(x, bt_do(x, VIRTIO_BLK_T_WRITE_ZEROES, 64, 4096, 0));
	must(x, bt_do(x, VIRTIO_BLK_T_IN, 64, 8192, 1));
	for (unsigned i = 0; i < 4096; i++)
		assert_int_equal(x->va[1][i], 0);
	assert_memory_equal(x->va[1] + 4096, x->va[0] + 4096, 4096);
	must(x, bt_do(x, VIRTIO_BLK_T_DISCARD, 64, 4096, 0));
	must(x, bt_do(x, VIRTIO_BLK_T_GET_ID, 0, 20, 2));
	assert_string_equal((char *)x->va[2], "fake-disk");
}

static void whole(void **state, const char *arm)
{
	struct bt *x = *state;

	bt_open(x, arm);
	round_trips(x);
	others(x);
	bursts(x);
	assert_string_equal(x->said.text, "");
}

#define ARM(name, arm)                                                                             \
	static void requests_work_in_arm_##name(void **state)                                      \
	{                                                                                          \
		whole(state, arm);                                                                 \
	}
ARM(copy, "copy")
ARM(copy_tuned, "copy-tuned")
ARM(premapped, "premapped")
ARM(zero_copy, "zero-copy")
ARM(unprotected, "unprotected")
ARM(cached_direct, "zero-copy,mapping=cached")
ARM(single_use_direct, "zero-copy,mapping=single-use")
ARM(deferred_direct_suppress, "zero-copy,mapping=deferred,notify=suppress")
ARM(copybreak, "zero-copy,payload=copybreak")
ARM(pool_rdma, "copy,mapping=pool")
ARM(crq_in_place, "zero-copy,notify=crq")
ARM(suppress_in_place, "zero-copy,notify=suppress")
ARM(poll_with_copied_ring, "copy,notify=poll")

static void requests_work_with_protocol_1(void **state)
{
	struct bt *x = *state;

	x->w.s.k.version = 1;
	x->cfg.transport.arm = *vio_arm_named(0);
	bt_open(x, "copy-tuned");
	assert_int_equal(vio_blk_get_info(x->b)->version, 1);
	assert_int_equal(vio_blk_get_info(x->b)->arm.mapping, VIO_MAP_DEFERRED);
	round_trips(x);
	others(x);
	bursts(x);
}

static void with_tce_pages(void **state, uint8_t shift)
{
	static const char *const arms[] = {"copy", "copy-tuned", "premapped", "zero-copy",
					   "zero-copy,mapping=cached"};
	struct bt *x = *state;

	fw_teardown(&x->w);
	fw_setup_tce(&x->w, 64, shift);
	for (unsigned a = 0; a < VIO_ARRAY_SIZE(arms); a++) {
		bt_open(x, arms[a]);
		round_trips(x);
		others(x);
		bursts(x);
		vio_blk_close(x->b);
		x->b = NULL;
		vio_mem_init(&x->w.mem, x->w.gp);
	}
}

static void requests_work_with_tce_pages_of_64_kib(void **state)
{
	with_tce_pages(state, 16);
}

static void requests_work_with_tce_pages_of_2_mib(void **state)
{
	with_tce_pages(state, 21);
}

static void requests_work_without_event_index(void **state)
{
	struct bt *x = *state;

	x->w.s.k.drop_features = 1ull << VIRTIO_RING_F_EVENT_IDX;
	bt_open(x, "zero-copy,notify=suppress");
	round_trips(x);
}

static void indirect_tables_are_used_when_asked_for(void **state)
{
	struct bt *x = *state;

	x->cfg.transport.features =
		1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VIRTIO_BLK_F_SIZE_MAX;
	x->w.s.k.size_max = 4096;
	bt_open(x, "zero-copy");
	round_trips(x);
	bursts(x);
	fs_stand_still(&x->w.s);
	assert_int_equal(x->w.s.log[8].n_data,
			 16); /* the 64 KiB write, in pieces of 4 KiB: more than a group of four */
}

static void segments_keep_to_size_max(void **state)
{
	struct bt *x = *state;

	x->cfg.transport.features = 1ull << VIRTIO_BLK_F_SIZE_MAX;
	x->w.s.k.size_max = 5000;
	bt_open(x, "copy");
	round_trips(x);
	others(x);
	fs_stand_still(&x->w.s);
	assert_int_equal(x->w.s.log[0].n_data, 1);
	assert_int_equal(x->w.s.log[8].n_data, 14);
	assert_int_equal(x->w.s.log[8].len, 65536);
}

static void largest_request_follows_what_the_device_takes(void **state)
{
	struct bt *x = *state;

	x->cfg.transport.features = 1ull << VIRTIO_BLK_F_SIZE_MAX;
	x->w.s.k.size_max = 4096;
	x->w.s.k.seg_max = 3;
	x->w.s.k.block_size = 4096;
	bt_open(x, "copy");
	assert_int_equal(vio_blk_get_info(x->b)->max_len, 12288);
	assert_int_equal(vio_blk_get_info(x->b)->block_size, 4096);
	must(x, bt_do(x, VIRTIO_BLK_T_OUT, 0, 12288, 0));
	assert_int_equal(bt_do(x, VIRTIO_BLK_T_OUT, 0, 16384, 0), -EINVAL);
	assert_int_equal(bt_do(x, VIRTIO_BLK_T_OUT, 1, 4096, 0), -EINVAL);
	assert_int_equal(bt_do(x, VIRTIO_BLK_T_OUT, 0, 512, 0), -EINVAL);
}

/* ------------------------------------------------------------------ errors and limits ---- */

static void refused_requests_come_back_and_never_reach_the_server(void **state)
{
	struct bt *x = *state;
	uint32_t before;

	x->w.s.k.drop_features = 1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_DISCARD |
				 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
	bt_open(x, "zero-copy");
	before = fs_get(&x->w.s, n_log);
	assert_int_equal(bt_do(x, VIRTIO_BLK_T_IN, 0, 0, 0), -EINVAL);
	assert_int_equal(bt_do(x, VIRTIO_BLK_T_IN, 0, 100, 0), -EINVAL);
	assert_int_equal(bt_do(x, VIRTIO_BLK_T_IN, FS_SECTORS, 512, 0), -EINVAL);
	assert_int_equal(bt_do(x, VIRTIO_BLK_T_IN, UINT64_MAX, 512, 0), -EINVAL);
	assert_int_equal(bt_do(x, VIRTIO_BLK_T_IN, FS_SECTORS - 1, 1024, 0), -EINVAL);
	assert_int_equal(bt_do(x, VIRTIO_BLK_T_IN, 0, 131072, 0), -EINVAL);
	assert_int_equal(bt_do(x, VIRTIO_BLK_T_FLUSH, 0, 0, 0), -ENOTSUP);
	assert_int_equal(bt_do(x, VIRTIO_BLK_T_DISCARD, 0, 512, 0), -ENOTSUP);
	assert_int_equal(bt_do(x, VIRTIO_BLK_T_WRITE_ZEROES, 0, 512, 0), -ENOTSUP);
	assert_int_equal(bt_do(x, 0x1234, 0, 512, 0), -EINVAL);
	x->buf[31] = (struct gla){phyp_mem_size(x->w.gp) - 256};
	assert_int_equal(bt_do(x, VIRTIO_BLK_T_IN, 0, 512, 31), -EINVAL);
	x->buf[31] = (struct gla){0}; /* guest memory, but not the pool */
	assert_int_equal(bt_do(x, VIRTIO_BLK_T_IN, 0, 512, 31), -EINVAL);
	assert_int_equal(fs_get(&x->w.s, n_log), before);
	round_trips(x);
}

static void refused_request_inside_a_batch_takes_its_turn(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r[5], *p[5];
	unsigned bad = 0, good = 0;

	bt_open(x, "zero-copy");
	for (unsigned i = 0; i < 5; i++) {
		r[i] = (struct vio_blk_req){.type = VIRTIO_BLK_T_IN,
					    .sector = i,
					    .len = i % 2 ? 0 : 512,
					    .buf = x->buf[i]};
		p[i] = &r[i];
	}
	r[2].buf = (struct gla){0}; /* found out by the mapping only */
	assert_int_equal(vio_blk_submit(x->b, 0, p, 5), 5);
	for (unsigned i = 0; i < 5; i++) {
		struct vio_blk_req *d = bt_next(x, 0);

		assert_non_null(d);
		good += d->result == 0;
		bad += d->result == -EINVAL;
	}
	assert_int_equal(good, 2);
	assert_int_equal(bad, 3);
	assert_int_equal(vio_blk_outstanding(x->b, 0), 0);
}

static void write_to_a_read_only_disk_is_refused(void **state)
{
	struct bt *x = *state;

	x->w.s.k.read_only = true;
	bt_open(x, "copy");
	assert_true(vio_blk_get_info(x->b)->read_only);
	assert_int_equal(bt_do(x, VIRTIO_BLK_T_OUT, 0, 512, 0), -EINVAL);
	must(x, bt_do(x, VIRTIO_BLK_T_IN, 0, 512, 0));
}

static void error_of_the_disk_comes_back_and_the_buffer_is_untouched(void **state)
{
	struct bt *x = *state;

	bt_open(x, "premapped");
	bt_fill(x->va[0], 4096, 5);
	fs_set(&x->w.s, fail_io, 1);
	assert_int_equal(bt_do(x, VIRTIO_BLK_T_IN, 0, 4096, 0), -EIO);
	assert_true(bt_filled(x->va[0], 4096, 5));
	must(x, bt_do(x, VIRTIO_BLK_T_IN, 0, 4096, 0));
}

static void completion_without_a_status_byte_is_an_error(void **state)
{
	struct bt *x = *state;

	bt_open(x, "zero-copy");
	must(x, bt_do(x, VIRTIO_BLK_T_IN, 0, 4096, 0)); /* leaves a good status in the line */
	fs_set(&x->w.s, no_status, 1);
	assert_int_equal(bt_do(x, VIRTIO_BLK_T_IN, 0, 4096, 0), -EIO);
	must(x, bt_do(x, VIRTIO_BLK_T_IN, 0, 4096, 0));
}

static void no_more_than_the_depth_is_taken(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r[2 * BT_DEPTH], *p[2 * BT_DEPTH];
	unsigned back = 0;

	fs_set(&x->w.s, hold, 1);
	bt_open(x, "zero-copy");
	for (unsigned i = 0; i < 2 * BT_DEPTH; i++) {
		r[i] = (struct vio_blk_req){
			.type = VIRTIO_BLK_T_IN, .sector = i, .len = 512, .buf = x->buf[i]};
		p[i] = &r[i];
	}
	assert_int_equal(vio_blk_submit(x->b, 0, p, 2 * BT_DEPTH), BT_DEPTH);
	assert_int_equal(vio_blk_submit(x->b, 0, p + BT_DEPTH, BT_DEPTH), 0);
	fs_set(&x->w.s, hold, 0);
	while (back < BT_DEPTH) {
		assert_non_null(bt_next(x, 0));
		back++;
	}
	assert_int_equal(vio_blk_submit(x->b, 0, p + BT_DEPTH, BT_DEPTH), BT_DEPTH);
	while (back < 2 * BT_DEPTH) {
		assert_non_null(bt_next(x, 0));
		back++;
	}
}

static void long_chains_take_turns_when_the_ring_is_small(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r[BT_DEPTH], *p[BT_DEPTH];
	unsigned taken = 0, back = 0;

	x->cfg.transport.features = 1ull << VIRTIO_BLK_F_SIZE_MAX;
	x->cfg.transport.queue_size = 32; /* 8 groups; 64 KiB in pieces of 4 KiB takes 5 */
	x->w.s.k.size_max = 4096;
	bt_open(x, "copy-tuned");
	for (unsigned i = 0; i < BT_DEPTH; i++) {
		r[i] = (struct vio_blk_req){.type = VIRTIO_BLK_T_OUT,
					    .sector = 128 * i,
					    .len = 65536,
					    .buf = x->buf[i]};
		p[i] = &r[i];
		bt_fill(x->va[i], 65536, i);
	}
	while (back < BT_DEPTH) {
		taken += vio_blk_submit(x->b, 0, p + taken, BT_DEPTH - taken);
		assert_non_null(bt_next(x, 0));
		back++;
	}
	for (unsigned i = 0; i < BT_DEPTH; i++) {
		assert_int_equal(r[i].result, 0);
		must(x, bt_do(x, VIRTIO_BLK_T_IN, 128 * i, 65536, 20));
		assert_true(bt_filled(x->va[20], 65536, i));
	}
}

static void allocation_past_the_end_is_said(void **state)
{
	struct bt *x = *state;
	struct gla at;

	bt_open(x, "zero-copy");
	assert_int_equal(vio_blk_alloc(x->b, 1u << 30, &at, &x->err), -ENOMEM);
	says(x->err.msg, "buffers_len");
	assert_int_equal(vio_blk_alloc(x->b, 0, &at, &x->err), -ENOMEM);
}

static void too_little_guest_memory_is_said_and_nothing_stays(void **state)
{
	struct bt *x = *state;

	x->cfg.buffers_len = 1ull << 30;
	vio_arm_parse("zero-copy", &x->cfg.transport.arm, NULL);
	fs_start(&x->w.s);
	assert_int_equal(vio_blk_open(x->w.gp, &x->w.mem, &x->cfg, &x->b, &x->err), -ENOMEM);
	says(x->err.msg, "no room");
	x->b = NULL;
}

static void refused_window_fails_the_open_with_the_reason(void **state)
{
	struct bt *x = *state;

	x->w.s.k.refuse_windows = VIO_ST_WINDOW_PERM;
	vio_arm_parse("zero-copy", &x->cfg.transport.arm, NULL);
	fs_start(&x->w.s);
	assert_int_equal(vio_blk_open(x->w.gp, &x->w.mem, &x->cfg, &x->b, &x->err), -EPERM);
	says(x->err.msg, vio_status_text(VIO_ST_WINDOW_PERM));
	x->b = NULL;
}

#define T(f) cmocka_unit_test_setup_teardown(f, bt_setup, bt_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(requests_work_in_arm_copy),
		T(requests_work_in_arm_copy_tuned),
		T(requests_work_in_arm_premapped),
		T(requests_work_in_arm_zero_copy),
		T(requests_work_in_arm_unprotected),
		T(requests_work_in_arm_cached_direct),
		T(requests_work_in_arm_single_use_direct),
		T(requests_work_in_arm_deferred_direct_suppress),
		T(requests_work_in_arm_copybreak),
		T(requests_work_in_arm_pool_rdma),
		T(requests_work_in_arm_crq_in_place),
		T(requests_work_in_arm_suppress_in_place),
		T(requests_work_in_arm_poll_with_copied_ring),
		T(requests_work_with_protocol_1),
		T(requests_work_with_tce_pages_of_64_kib),
		T(requests_work_with_tce_pages_of_2_mib),
		T(requests_work_without_event_index),
		T(indirect_tables_are_used_when_asked_for),
		T(segments_keep_to_size_max),
		T(largest_request_follows_what_the_device_takes),
		T(refused_requests_come_back_and_never_reach_the_server),
		T(refused_request_inside_a_batch_takes_its_turn),
		T(write_to_a_read_only_disk_is_refused),
		T(error_of_the_disk_comes_back_and_the_buffer_is_untouched),
		T(completion_without_a_status_byte_is_an_error),
		T(no_more_than_the_depth_is_taken),
		T(long_chains_take_turns_when_the_ring_is_small),
		T(allocation_past_the_end_is_said),
		T(too_little_guest_memory_is_said_and_nothing_stays),
		T(refused_window_fails_the_open_with_the_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
