/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-blk front end against a scripted server: every request in every arm, refusals,
 * notification, several queues.
 */
#include "blk_test.h"

#define must(x, call)                                                                              \
	do {                                                                                       \
		int rc_ = (call);                                                                  \
		if (rc_)                                                                           \
			fail_msg("%d; said: %s", rc_, (x)->said.text);                             \
	} while (0)

/* ------------------------------------------------------------------------ every arm ---- */

static void round_trips(struct bt *x)
{
	static const uint32_t len[] = {512, 1024, 4096, 12288, 65536};

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(len); i++) {
		bt_fill(x->va[0], len[i], i + 1);
		must(x, bt_do(x, VIRTIO_BLK_T_OUT, 8 * i, len[i], 0));
		memset(x->va[1], 0xEE, 65536);
		must(x, bt_do(x, VIRTIO_BLK_T_IN, 8 * i, len[i], 1));
		assert_true(bt_filled(x->va[1], len[i], i + 1));
		if (len[i] < 65536)
			assert_int_equal(x->va[1][len[i]], 0xEE); /* not a byte more */
	}
}

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

/* A full depth in one publish, several times over, all outstanding at once. */
static void bursts(struct bt *x)
{
	struct vio_blk_req r[BT_DEPTH], *p[BT_DEPTH];

	for (unsigned round = 0; round < 40; round++) {
		bool read = round % 2;

		for (unsigned i = 0; i < BT_DEPTH; i++) {
			r[i] = (struct vio_blk_req){.type = read ? VIRTIO_BLK_T_IN
								 : VIRTIO_BLK_T_OUT,
						    .sector = 128 + 8 * i,
						    .len = BT_BS,
						    .buf = x->buf[i],
						    .result = 77};
			p[i] = &r[i];
			if (!read)
				bt_fill(x->va[i], BT_BS, round * 100 + i);
			else
				memset(x->va[i], 0, BT_BS);
		}
		assert_int_equal(vio_blk_submit(x->b, 0, p, BT_DEPTH), BT_DEPTH);
		assert_int_equal(vio_blk_outstanding(x->b, 0), BT_DEPTH);
		for (unsigned i = 0; i < BT_DEPTH; i++) {
			struct vio_blk_req *d = bt_next(x, 0);

			assert_non_null(d);
			assert_int_equal(d->result, 0);
		}
		for (unsigned i = 0; read && i < BT_DEPTH; i++)
			assert_true(bt_filled(x->va[i], BT_BS, (round - 1) * 100 + i));
		assert_int_equal(vio_blk_outstanding(x->b, 0), 0);
	}
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

/* ---------------------------------------------------------------------- notification ---- */

static uint64_t hcalls(struct bt *x, uint64_t op)
{
	return vio_blk_counters(x->b, 0)->hcall[phyp_op_index(op)];
}

static void zero_copy_makes_no_call_while_both_poll(void **state)
{
	struct bt *x = *state;
	struct phyp_counters *c;
	uint64_t before = 0;

	bt_open(x, "zero-copy");
	round_trips(x);
	c = vio_blk_counters(x->b, 0);
	for (unsigned i = 0; i < PHYP_N_OPS; i++)
		before += c->hcall[i];
	round_trips(x);
	bursts(x);
	for (unsigned i = 0; i < PHYP_N_OPS; i++)
		before -= c->hcall[i];
	assert_true(before == 0);
}

static void crq_kicks_once_for_each_publish(void **state)
{
	struct bt *x = *state;
	uint64_t before;

	bt_open(x, "copy");
	before = hcalls(x, H_SEND_CRQ);
	bursts(x);
	assert_true(hcalls(x, H_SEND_CRQ) - before == 40);
	assert_true(vio_blk_counters(x->b, 0)->kicks == 40);
}

static void copy_arm_maps_and_unmaps_with_one_call_each(void **state)
{
	struct bt *x = *state;
	uint64_t put, stuff;

	bt_open(x, "copy");
	put = hcalls(x, H_PUT_TCE_INDIRECT);
	stuff = hcalls(x, H_STUFF_TCE);
	for (unsigned i = 0; i < 10; i++)
		must(x, bt_do(x, VIRTIO_BLK_T_IN, 0, 4096, 0));
	assert_true(hcalls(x, H_PUT_TCE_INDIRECT) - put == 10);
	assert_true(hcalls(x, H_STUFF_TCE) - stuff == 10);
}

static void sleeping_server_is_kicked_awake_by_a_polling_guest(void **state)
{
	struct bt *x = *state;

	fs_set(&x->w.s, sleepy, 1);
	bt_open(x, "zero-copy");
	round_trips(x);
	bursts(x);
	assert_true(fs_get(&x->w.s, kicks) > 0);
}

static void guest_that_went_to_sleep_is_woken(void **state)
{
	struct bt *x = *state;
	uint64_t sleeps;

	x->cfg.idle_ns = 0; /* level poll: sleep at once */
	bt_open(x, "zero-copy");
	sleeps = vio_blk_counters(x->b, 0)->sleeps;
	for (unsigned i = 0; i < 20; i++) {
		struct vio_blk_req r = {.type = VIRTIO_BLK_T_IN,
					.sector = i,
					.len = 512,
					.buf = x->buf[0]},
				   *d;
		uint64_t end = vio_now_ns() + 20000000000ull;

		fs_set(&x->w.s, hold, 1);
		bt_submit(x, 0, &r);
		vio_blk_idle(x->b, 0, 1000000); /* nothing comes: sleeps out its time */
		fs_set(&x->w.s, hold, 0);
		while (vio_blk_poll(x->b, 0, &d, 1) == 0) {
			assert_true(vio_now_ns() < end);
			vio_blk_idle(x->b, 0, 30000000000ull); /* no time-out to hide behind */
		}
		assert_true(vio_now_ns() < end);
	}
	assert_true(vio_blk_counters(x->b, 0)->sleeps > sleeps);
	assert_true(fs_get(&x->w.s, used_sent) > 0);
}

static void *prod_later(void *arg)
{
	struct bt *x = arg;

	vio_blk_prod(x->b, 0);
	return NULL;
}

static void prod_ends_an_idle_that_has_begun_or_not(void **state)
{
	static const char *const arms[] = {"copy", "copy-tuned"};
	struct bt *x = *state;

	for (unsigned a = 0; a < 2; a++) {
		struct vio_blk_req *none;
		pthread_t t;

		bt_open(x, arms[a]);
		assert_int_equal(vio_blk_poll(x->b, 0, &none, 1), 0);
		vio_blk_prod(x->b, 0);
		vio_blk_idle(x->b, 0, UINT64_MAX); /* for ever, should the prod be lost */
		pthread_create(&t, NULL, prod_later, x);
		vio_blk_idle(x->b, 0, UINT64_MAX);
		pthread_join(t, NULL);
		vio_blk_close(x->b);
		x->b = NULL;
		vio_mem_init(&x->w.mem, x->w.gp);
	}
}

/* ------------------------------------------------------------------------- two queues ---- */

struct worker {
	struct bt *x;
	unsigned q, rounds;
	bool failed;
	pthread_t t;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct bt *x = w->x;
	unsigned buf = w->q * 8;

	for (unsigned i = 0; i < w->rounds && !w->failed; i++) {
		struct vio_blk_req r = {.type = VIRTIO_BLK_T_OUT,
					.sector = w->q * 1024 + i % 64 * 8,
					.len = BT_BS,
					.buf = x->buf[buf]};
		struct vio_blk_req *p = &r;

		bt_fill(x->va[buf], BT_BS, w->q * 1000 + i);
		while (vio_blk_submit(x->b, w->q, &p, 1) == 0)
			vio_blk_idle(x->b, w->q, 1000000);
		w->failed |= bt_next(x, w->q) != &r || r.result;
		r = (struct vio_blk_req){.type = VIRTIO_BLK_T_IN,
					 .sector = r.sector,
					 .len = BT_BS,
					 .buf = x->buf[buf + 1]};
		while (!w->failed && vio_blk_submit(x->b, w->q, &p, 1) == 0)
			vio_blk_idle(x->b, w->q, 1000000);
		w->failed |= bt_next(x, w->q) != &r || r.result ||
			     !bt_filled(x->va[buf + 1], BT_BS, w->q * 1000 + i);
	}
	return NULL;
}

static void threads(struct bt *x, const char *arm, unsigned rounds)
{
	struct worker w[3];

	x->cfg.transport.num_queues = 3;
	bt_open(x, arm);
	assert_int_equal(vio_blk_get_info(x->b)->num_queues, 3);
	for (unsigned i = 0; i < 3; i++) {
		w[i] = (struct worker){.x = x, .q = i, .rounds = rounds};
		pthread_create(&w[i].t, NULL, work, &w[i]);
	}
	for (unsigned i = 0; i < 3; i++)
		pthread_join(w[i].t, NULL);
	for (unsigned i = 0; i < 3; i++)
		assert_false(w[i].failed);
}

static void queues_with_threads_of_their_own_share_the_crq(void **state)
{
	threads(*state, "copy", 100);
}

static void queues_with_threads_of_their_own_suppress(void **state)
{
	threads(*state, "copy-tuned", 100);
}

static void queues_with_threads_of_their_own_expose_windows(void **state)
{
	threads(*state, "zero-copy,mapping=single-use,notify=suppress", 20);
}

static void one_thread_drives_all_queues(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r[4], *p;
	unsigned back = 0;

	x->cfg.transport.num_queues = 9; /* the server has 4 */
	bt_open(x, "copy-tuned");
	assert_int_equal(vio_blk_get_info(x->b)->num_queues, 4);
	for (unsigned i = 0; i < 4; i++) {
		r[i] = (struct vio_blk_req){.type = VIRTIO_BLK_T_IN,
					    .sector = i,
					    .len = 512,
					    .buf = x->buf[i],
					    .result = 1};
		p = &r[i];
		assert_int_equal(vio_blk_submit(x->b, i, &p, 1), 1);
	}
	while (back < 4) {
		for (unsigned i = 0; i < 4; i++)
			back += (unsigned)vio_blk_poll(x->b, i, &p, 1);
		if (back < 4)
			vio_blk_idle(x->b, 0, 1000000);
	}
	fs_stand_still(&x->w.s);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(r[i].result, 0);
		assert_int_equal(x->w.s.q[i].used_idx, 1);
	}
}

static void single_queue_device_without_mq_gives_one(void **state)
{
	struct bt *x = *state;

	x->w.s.k.drop_features = 1ull << VIRTIO_BLK_F_MQ;
	x->cfg.transport.num_queues = 4;
	bt_open(x, "copy");
	assert_int_equal(vio_blk_get_info(x->b)->num_queues, 1);
	round_trips(x);
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
		T(zero_copy_makes_no_call_while_both_poll),
		T(crq_kicks_once_for_each_publish),
		T(copy_arm_maps_and_unmaps_with_one_call_each),
		T(sleeping_server_is_kicked_awake_by_a_polling_guest),
		T(guest_that_went_to_sleep_is_woken),
		T(prod_ends_an_idle_that_has_begun_or_not),
		T(queues_with_threads_of_their_own_share_the_crq),
		T(queues_with_threads_of_their_own_suppress),
		T(queues_with_threads_of_their_own_expose_windows),
		T(one_thread_drives_all_queues),
		T(single_queue_device_without_mq_gives_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
