/* SPDX-License-Identifier: BSD-3-Clause */
/* The block front end when the server goes, comes back, stops the device or lies. */
#include <sched.h>

#include "blk_recover_test.h"

/* Let the front end notice what happened, without waiting for a request. */
static void notice(struct bt *x, const char *what)
{
	uint64_t end = vio_now_ns() + 20000000000ull;

	while (!strstr(x->said.text, what)) {
		struct vio_blk_req *none;

		if (vio_now_ns() > end)
			fail_msg("\"%s\" is not said: %s", what, x->said.text);
		assert_int_equal(vio_blk_poll(x->b, 0, &none, 0), 0);
		vio_blk_idle(x->b, 0, 1000000);
	}
}

/* ------------------------------------------------------------------- the server goes ---- */

static void killed_with_requests_outstanding(void **state, const char *arm)
{
	struct bt *x = *state;
	struct vio_blk_req r[N];
	uint32_t before;

	bt_open(x, arm);
	fs_set(&x->w.s, hold, 1);
	put_out(x, r, 0, 1000);
	fs_kill(&x->w.s);
	notice(x, "has gone");
	says(x->said.text, "8 requests held");
	assert_int_equal(vio_blk_outstanding(x->b, 0), N);
	before = x->w.s.n_log;
	fs_set(&x->w.s, hold, 0);
	fs_start(&x->w.s);
	all_back(x, 0, 0);
	says(x->said.text, "is back; 8 request(s) sent again");
	check_disk(x, 0, 1000);
	fs_stand_still(&x->w.s);
	for (unsigned i = 0; i < N; i++) /* in the order of their submission */
		assert_int_equal(x->w.s.log[before + i].sector, 8 * i);
}

#define KILL(name, arm)                                                                            \
	static void killed_server_loses_no_request_in_arm_##name(void **state)                     \
	{                                                                                          \
		killed_with_requests_outstanding(state, arm);                                      \
	}
KILL(copy, "copy")
KILL(copy_tuned, "copy-tuned")
KILL(premapped, "premapped")
KILL(zero_copy, "zero-copy")
KILL(cached_direct, "zero-copy,mapping=cached")
KILL(single_use_direct, "zero-copy,mapping=single-use")

static void server_that_ends_well_is_waited_for_too(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r[N];

	bt_open(x, "zero-copy");
	for (unsigned round = 0; round < 3; round++) {
		fs_set(&x->w.s, hold, 1);
		put_out(x, r, 0, round * 100);
		fs_stop(&x->w.s);
		fs_set(&x->w.s, hold, 0);
		fs_start(&x->w.s);
		all_back(x, 0, 0);
		check_disk(x, 0, round * 100);
	}
}

static void while_the_server_is_away_a_queue_sleeps(void **state)
{
	struct bt *x = *state;
	uint64_t before;

	bt_open(x, "zero-copy");
	fs_kill(&x->w.s);
	notice(x, "has gone");
	before = vio_blk_counters(x->b, 0)->sleeps;
	for (unsigned i = 0; i < 10; i++) {
		struct vio_blk_req *none;

		assert_int_equal(vio_blk_poll(x->b, 0, &none, 0), 0);
		vio_blk_idle(x->b, 0, 1000000);
	}
	assert_true(vio_blk_counters(x->b, 0)->sleeps > before);
}

/* Each time that the guest has begun to configure it again. */
static void *die_again_and_again(void *arg)
{
	struct fake_server *s = arg;

	for (unsigned i = 0; i < 4; i++) {
		uint32_t from = s->n_ops;

		fs_start(s);
		while (fs_get(s, n_ops) < from + 1 + 2 * i)
			sched_yield();
		fs_kill(s);
	}
	fs_set(s, hold, 0);
	fs_start(s);
	return NULL;
}

static void server_that_dies_while_it_returns_is_waited_for_again(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r[N];
	pthread_t killer;

	x->cfg.transport.timeout_ms = 60000;
	bt_open(x, "zero-copy");
	fs_set(&x->w.s, hold, 1);
	put_out(x, r, 0, 50);
	fs_kill(&x->w.s);
	pthread_create(&killer, NULL, die_again_and_again, &x->w.s);
	all_back(x, 0, 0);
	pthread_join(killer, NULL);
	check_disk(x, 0, 50);
}

static void requests_of_before_come_before_new_ones(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r[2], *p[2] = {&r[0], &r[1]};
	uint32_t from;

	bt_open(x, "zero-copy");
	fs_set(&x->w.s, hold, 1);
	for (unsigned i = 0; i < 2; i++)
		r[i] = (struct vio_blk_req){
			.type = VIRTIO_BLK_T_OUT, .sector = 7, .len = 512, .buf = x->buf[i]};
	bt_fill(x->va[0], 512, 1);
	bt_fill(x->va[1], 512, 2);
	assert_int_equal(vio_blk_submit(x->b, 0, p, 1), 1);
	fs_kill(&x->w.s);
	notice(x, "has gone");
	assert_int_equal(vio_blk_submit(x->b, 0, p + 1, 1), 0); /* not now */
	from = x->w.s.n_log;
	fs_set(&x->w.s, hold, 0);
	fs_start(&x->w.s);
	bt_submit(x, 0, &r[1]);
	assert_non_null(bt_next(x, 0));
	assert_non_null(bt_next(x, 0));
	assert_int_equal(bt_do(x, VIRTIO_BLK_T_IN, 7, 512, 3), 0);
	assert_true(bt_filled(x->va[3], 512, 2));
	fs_stand_still(&x->w.s);
	assert_int_equal(x->w.s.n_log - from, 3);
}

static void another_disk_in_its_place_is_refused(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r[N];

	bt_open(x, "zero-copy");
	fs_set(&x->w.s, hold, 1);
	put_out(x, r, 0, 1);
	fs_kill(&x->w.s);
	x->w.s.k.sectors = 100;
	fs_start(&x->w.s);
	all_back(x, 0, -EIO);
	says(x->said.text, "another disk");
	assert_int_equal(vio_blk_poll(x->b, 0, (struct vio_blk_req *[1]){NULL}, 1), -EIO);
}

static void another_disk_of_the_same_shape_gets_nothing_and_the_right_one_everything(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r[N];
	uint32_t before;

	x->w.s.k.identity = 1;
	bt_open(x, "zero-copy");
	fs_set(&x->w.s, hold, 1);
	put_out(x, r, 0, 300);
	fs_kill(&x->w.s);
	before = x->w.s.n_log;
	fs_set(&x->w.s, hold, 0);
	x->w.s.k.identity = 2;
	fs_start(&x->w.s);
	notice(x, "another disk in this one's place");
	says(x->said.text, "8 request(s) are kept");
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(vio_blk_poll(x->b, 0, (struct vio_blk_req *[1]){NULL}, 1), 0);
		vio_blk_idle(x->b, 0, 1000000);
	}
	fs_kill(&x->w.s);
	assert_int_equal(x->w.s.n_log, before);
	x->w.s.k.identity = 1;
	fs_start(&x->w.s);
	all_back(x, 0, 0);
	check_disk(x, 0, 300);
}

/* What answers to the disk's name may be another one that was given it: what was kept is not written to it. */
static void a_disk_of_the_same_name_and_another_size_gets_nothing(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r[N];
	uint32_t before;

	x->w.s.k.identity = 1;
	x->w.s.k.flags = VIO_HEADER_BY_NAME;
	bt_open(x, "zero-copy");
	fs_set(&x->w.s, hold, 1);
	put_out(x, r, 0, 700);
	for (unsigned i = 0; i < 2; i++) {
		fs_kill(&x->w.s);
		before = x->w.s.n_log;
		fs_set(&x->w.s, hold, 0);
		x->w.s.k.sectors = i ? FS_SECTORS - 8 : FS_SECTORS + 8;
		said_clear(&x->said);
		fs_start(&x->w.s);
		notice(x, "under the name of a disk of");
		says(x->said.text, "8 request(s) are kept");
		fs_stand_still(&x->w.s);
		assert_int_equal(x->w.s.n_log, before);
	}
	fs_kill(&x->w.s);
	x->w.s.k.sectors = 0;
	fs_start(&x->w.s);
	all_back(x, 0, 0);
	check_disk(x, 0, 700);
	/* With an identity of its own it is the same, and has grown. */
	fs_set(&x->w.s, hold, 1);
	put_out(x, r, 0, 800);
	fs_kill(&x->w.s);
	fs_set(&x->w.s, hold, 0);
	x->w.s.k.flags = 0;
	x->w.s.k.sectors = FS_SECTORS + 8;
	fs_start(&x->w.s);
	all_back(x, 0, 0);
	assert_int_equal(vio_blk_sectors(x->b), FS_SECTORS + 8);
}

static void
writes_in_flight_fail_when_the_store_cannot_be_fenced_and_reads_are_sent_again(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r[N], in = {.type = VIRTIO_BLK_T_IN, .len = BT_BS, .result = 77}, *d;
	unsigned failed = 0;

	bt_open(x, "zero-copy");
	put_out(x, r, 0, 400);
	all_back(x, 0, 0);
	fs_set(&x->w.s, hold, 1);
	in.buf = x->buf[20];
	bt_submit(x, 0, &in);
	for (unsigned i = 0; i < N - 1; i++) {
		r[i] = (struct vio_blk_req){
			.type = VIRTIO_BLK_T_OUT, .sector = 8 * i, .len = BT_BS, .buf = x->buf[i]};
		bt_submit(x, 0, &r[i]);
	}
	fs_kill(&x->w.s);
	fs_set(&x->w.s, hold, 0);
	x->w.s.k.flags = VIO_HEADER_UNFENCED;
	fs_start(&x->w.s);
	for (unsigned i = 0; i < N; i++) {
		d = bt_next(x, 0);
		assert_non_null(d);
		assert_int_equal(d->result, d == &in ? 0 : -EIO);
		failed += d != &in;
	}
	assert_int_equal(failed, N - 1);
	says(x->said.text, "7 write(s) of before may still be executed");
	assert_true(bt_filled(x->va[20], BT_BS, 400));
	/* A reset that is answered leaves nothing in doubt. */
	fs_set(&x->w.s, stop_device, 1);
	put_out(x, r, 0, 600);
	all_back(x, 0, 0);
}

static void server_that_returns_without_the_arm_is_refused(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r[N];

	bt_open(x, "zero-copy");
	fs_set(&x->w.s, hold, 1);
	put_out(x, r, 0, 1);
	fs_kill(&x->w.s);
	x->w.s.k.version = 1;
	fs_start(&x->w.s);
	all_back(x, 0, -EIO);
	says(x->said.text, "other abilities");
}

static void machine_that_goes_ends_everything_with_eio(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r[N];

	bt_open(x, "zero-copy");
	fs_set(&x->w.s, hold, 1);
	put_out(x, r, 0, 1);
	phyp_local_kill(x->w.m, "guest0");
	all_back(x, 0, -EIO);
	assert_int_equal(vio_blk_poll(x->b, 0, (struct vio_blk_req *[1]){NULL}, 1), -EIO);
	vio_blk_idle(x->b, 0, 1000000);
	assert_int_equal(vio_blk_submit(x->b, 0, (struct vio_blk_req *[1]){&r[0]}, 1), 0);
}

/* ------------------------------------------------------------------ the device stops ---- */

static void stopped_device_is_reset_and_requests_sent_again(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r[N];

	bt_open(x, "zero-copy");
	put_out(x, r, 0, 3);
	all_back(x, 0, 0);
	fs_set(&x->w.s, stop_device, 1);
	put_out(x, r, 0, 4);
	all_back(x, 0, 0);
	says(x->said.text, vio_status_text(VIO_ST_DESC_CHAIN));
	check_disk(x, 0, 4);
}

static void device_that_stops_again_and_again_gives_the_requests_up(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r[N];

	bt_open(x, "copy-tuned");
	fs_set(&x->w.s, stop_device, 4); /* the first time and three more */
	put_out(x, r, 0, 5);
	all_back(x, 0, -EIO);
	says(x->said.text, "given up");
	/* And the device is usable. */
	put_out(x, r, 0, 6);
	all_back(x, 0, 0);
	check_disk(x, 0, 6);
}

static void device_that_works_between_its_stops_is_not_given_up(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r[N];

	bt_open(x, "premapped");
	for (unsigned i = 0; i < 8; i++) {
		fs_set(&x->w.s, stop_device, 2);
		put_out(x, r, 0, 10 * i);
		all_back(x, 0, 0);
	}
	assert_null(strstr(x->said.text, "given up"));
}

static void used_element_that_names_no_request_resets_the_device(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r[N];

	bt_open(x, "zero-copy");
	fs_set(&x->w.s, bad_used, 1);
	put_out(x, r, 0, 7);
	all_back(x, 0, 0);
	says(x->said.text, "not outstanding");
	check_disk(x, 0, 7);
}

static void withdrawn_window_resets_the_device(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r[N];

	bt_open(x, "zero-copy");
	fs_set(&x->w.s, hold, 1);
	put_out(x, r, 0, 8);
	fs_say(&x->w.s, VIO_OP_WINDOW_LOST, 2, VIO_ST_RESCINDED);
	notice(x, "withdrawn");
	fs_set(&x->w.s, hold, 0);
	all_back(x, 0, 0);
	check_disk(x, 0, 8);
}

static void reset_that_is_not_answered_takes_the_crq_away(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r[N];

	x->cfg.transport.timeout_ms = 1000;
	bt_open(x, "zero-copy");
	fs_set(&x->w.s, mute, VIO_OP_RESET);
	fs_set(&x->w.s, stop_device, 1);
	put_out(x, r, 0, 9);
	all_back(x, 0, 0);
	says(x->said.text, "registered anew");
	check_disk(x, 0, 9);
	fs_set(&x->w.s, mute, 0);
}

static void server_that_never_configures_again_is_given_up(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r[N];

	x->cfg.transport.timeout_ms = 200;
	bt_open(x, "zero-copy");
	fs_set(&x->w.s, mute, VIO_OP_PROBE);
	fs_set(&x->w.s, stop_device, 1);
	put_out(x, r, 0, 9);
	all_back(x, 0, -EIO);
	says(x->said.text, "can't be configured again");
	says(x->said.text, "PROBE");
	fs_set(&x->w.s, mute, 0);
}

/* The server stood still while a window was announced, or withdrawn: neither side knows what the other has. */
static void message_without_an_answer_resets_the_session_and_it_is_right_again(void **state)
{
	static const uint8_t op[] = {VIO_OP_WINDOW_ADD, VIO_OP_WINDOW_DEL};
	struct bt *x = *state;

	x->cfg.transport.timeout_ms = 300;
	bt_open(x, "zero-copy,mapping=single-use");
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(op); i++) {
		struct vio_blk_req r = {.type = VIRTIO_BLK_T_OUT, .len = BT_BS, .buf = x->buf[0]};
		struct vio_blk_req *p = &r, *d = NULL;
		bool taken;

		fs_set(&x->w.s, mute, op[i]);
		bt_fill(x->va[0], BT_BS, i);
		taken = vio_blk_submit(x->b, 0, &p, 1) == 1;
		while (taken && !d && !strstr(x->said.text, vio_status_text(VIO_ST_NO_ANSWER)))
			vio_blk_poll(x->b, 0, &d, 1);
		fs_set(&x->w.s, mute, 0);
		notice(x, "is back");
		says(x->said.text, vio_status_text(VIO_ST_NO_ANSWER));
		if (!taken)
			bt_submit(x, 0, &r);
		if (!d)
			d = bt_next(x, 0);
		assert_ptr_equal(d, &r);
		assert_int_equal(r.result, 0);
		for (unsigned k = 0; k < 8; k++)
			assert_int_equal(bt_do(x, VIRTIO_BLK_T_IN, 0, BT_BS, 1), 0);
		assert_true(bt_filled(x->va[1], BT_BS, i));
		said_clear(&x->said);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, bt_setup, bt_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(killed_server_loses_no_request_in_arm_copy),
		T(killed_server_loses_no_request_in_arm_copy_tuned),
		T(killed_server_loses_no_request_in_arm_premapped),
		T(killed_server_loses_no_request_in_arm_zero_copy),
		T(killed_server_loses_no_request_in_arm_cached_direct),
		T(killed_server_loses_no_request_in_arm_single_use_direct),
		T(server_that_ends_well_is_waited_for_too),
		T(while_the_server_is_away_a_queue_sleeps),
		T(server_that_dies_while_it_returns_is_waited_for_again),
		T(requests_of_before_come_before_new_ones),
		T(another_disk_in_its_place_is_refused),
		T(another_disk_of_the_same_shape_gets_nothing_and_the_right_one_everything),
		T(a_disk_of_the_same_name_and_another_size_gets_nothing),
		T(writes_in_flight_fail_when_the_store_cannot_be_fenced_and_reads_are_sent_again),
		T(server_that_returns_without_the_arm_is_refused),
		T(machine_that_goes_ends_everything_with_eio),
		T(stopped_device_is_reset_and_requests_sent_again),
		T(device_that_stops_again_and_again_gives_the_requests_up),
		T(device_that_works_between_its_stops_is_not_given_up),
		T(used_element_that_names_no_request_resets_the_device),
		T(withdrawn_window_resets_the_device),
		T(reset_that_is_not_answered_takes_the_crq_away),
		T(message_without_an_answer_resets_the_session_and_it_is_right_again),
		T(server_that_never_configures_again_is_given_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
