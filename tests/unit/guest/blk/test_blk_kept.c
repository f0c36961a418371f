/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A server that is given up while it, or the kernel on its behalf, may still use the buffers of what
 * is outstanding: the program gets none of them back before that has ended.
 */
#include "blk_test.h"

/* The kernel's part: pages taken back by force are in use until `quiet`. */
struct kernel {
	uint32_t quiet;
};

static uint64_t start(void *ctx)
{
	(void)ctx;
	return 1;
}

static bool done(void *ctx, uint64_t number)
{
	const struct kernel *k = ctx;

	(void)number;
	return vio_load_acquire(&k->quiet);
}

static void open_disk(struct bt *x, struct kernel *k, const char *arm)
{
	const struct phyp_drain d = {start, done, k};

	x->cfg.transport.timeout_ms = 250;
	fs_start(&x->w.s);
	phyp_on_rescind(x->w.s.part, x->w.s.u->unit, &d);
	bt_open(x, arm);
}

/* Until it has said so, and through some more tries: each is a wait of the transport's for an answer. */
static void nothing_comes_back(struct bt *x, const char *said)
{
	uint64_t end = vio_now_ns() + 20000000000ull;
	struct vio_blk_req *r;

	for (unsigned after = 0; after < 3;) {
		assert_int_equal(vio_blk_poll(x->b, 0, &r, 1), 0);
		vio_blk_idle(x->b, 0, 1000000);
		after += strstr(x->said.text, said) != NULL;
		if (vio_now_ns() > end)
			fail_msg("\"%s\" is not said: %s", said, x->said.text);
	}
}

static unsigned times(const char *text, const char *part)
{
	unsigned n = 0;

	for (; (text = strstr(text, part)) != NULL; text++)
		n++;
	return n;
}

static void requests_given_up_come_back_only_when_the_pages_have(void **state)
{
	struct kernel k = {0};
	struct bt *x = *state;
	struct vio_blk_req r = {.type = VIRTIO_BLK_T_OUT, .len = BT_BS, .result = 77}, *d;

	open_disk(x, &k, "zero-copy");
	r.buf = x->buf[0];
	fs_set(&x->w.s, keep_grants, 1);
	fs_set(&x->w.s, mute, VIO_OP_PROBE);
	fs_set(&x->w.s, stop_device, 1);
	bt_submit(x, 0, &r);
	nothing_comes_back(x, "are kept");
	assert_int_equal(r.result, 77);
	assert_int_equal(vio_blk_outstanding(x->b, 0), 1);
	vio_store_release(&k.quiet, 1);
	d = bt_next(x, 0);
	assert_ptr_equal(d, &r);
	assert_int_equal(r.result, -EIO);
	assert_int_equal(times(x->said.text, "are kept"), 1);
	fs_set(&x->w.s, mute, 0);
}

/* A store that hangs, and lets go in the end. */
static void requests_whose_pages_the_server_keeps_are_sent_again_when_it_lets_go(void **state)
{
	struct kernel k = {0};
	struct bt *x = *state;
	struct vio_blk_req r = {.type = VIRTIO_BLK_T_OUT, .len = BT_BS, .result = 77};

	open_disk(x, &k, "zero-copy");
	r.buf = x->buf[0];
	fs_set(&x->w.s, keep_grants, 1);
	fs_set(&x->w.s, stop_device, 1);
	bt_submit(x, 0, &r);
	nothing_comes_back(x, "are kept");
	vio_store_release(&k.quiet, 1);
	fs_set(&x->w.s, keep_grants, 0);
	assert_ptr_equal(bt_next(x, 0), &r);
	assert_int_equal(r.result, 0);
	assert_int_equal(times(x->said.text, "are kept"), 1);
}

static void
requests_are_sent_to_the_next_server_when_the_one_that_kept_their_pages_dies(void **state)
{
	struct kernel k = {0};
	struct bt *x = *state;
	struct vio_blk_req r = {.type = VIRTIO_BLK_T_OUT, .len = BT_BS, .result = 77};

	open_disk(x, &k, "zero-copy");
	r.buf = x->buf[0];
	fs_set(&x->w.s, keep_grants, 1);
	fs_set(&x->w.s, stop_device, 1);
	bt_submit(x, 0, &r);
	nothing_comes_back(x, "are kept");
	fs_kill(&x->w.s);
	fs_set(&x->w.s, keep_grants, 0);
	fs_start(&x->w.s);
	assert_ptr_equal(bt_next(x, 0), &r);
	assert_int_equal(r.result, 0);
}

/* Completed, but the withdrawal of the window is not answered and force does not help yet. */
static void a_completed_request_whose_window_stays_is_not_given_back(void **state)
{
	static const char *const arms[] = {"zero-copy,mapping=single-use"};
	struct kernel k = {0};
	struct bt *x = *state;
	struct vio_blk_req r = {.type = VIRTIO_BLK_T_OUT, .len = BT_BS, .result = 77};

	open_disk(x, &k, arms[0]);
	r.buf = x->buf[0];
	bt_fill(x->va[0], BT_BS, 5);
	fs_set(&x->w.s, keep_grants, 1);
	bt_submit(x, 0, &r);
	nothing_comes_back(x, "can't be taken back");
	assert_int_equal(r.result, 77);
	vio_store_release(&k.quiet, 1);
	fs_set(&x->w.s, keep_grants, 0);
	assert_ptr_equal(bt_next(x, 0), &r);
}

/*
 * A server that was stopped in the middle of a copy answers no RESET, and its agent can't say that the copy is over, so the CRQ
 * is busy: the device waits for it, and goes on when the server does.
 */
static void a_server_that_stands_still_while_the_crq_is_to_be_freed_costs_no_request(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r = {.type = VIRTIO_BLK_T_OUT, .len = BT_BS, .result = 77}, *d;
	struct phyp_filter *f;

	x->cfg.transport.timeout_ms = 100;
	bt_open(x, "zero-copy");
	r.buf = x->buf[0];
	ok(x, phyp_fault_create("H_FREE_CRQ@1=H_BUSYx1000000", &f, &x->err));
	phyp_filter_push(x->w.gp, f);
	fs_set(&x->w.s, mute, VIO_OP_RESET);
	fs_set(&x->w.s, stop_device, 1);
	bt_submit(x, 0, &r);
	while (!strstr(x->said.text, "can't be freed yet")) {
		assert_int_equal(vio_blk_poll(x->b, 0, &d, 1), 0);
		vio_blk_idle(x->b, 0, 1000000);
	}
	vio_blk_idle(x->b, 0, 1000000); /* tried again, and said once */
	assert_int_equal(r.result, 77);
	assert_int_equal(vio_blk_outstanding(x->b, 0), 1);
	phyp_filter_pop(x->w.gp);
	phyp_fault_free(f);
	fs_set(&x->w.s, mute, 0);
	assert_ptr_equal(bt_next(x, 0), &r);
	assert_int_equal(r.result, 0);
	assert_int_equal(times(x->said.text, "stopped the device"), 1);
	assert_int_equal(times(x->said.text, "can't be freed yet"), 1);
	says(x->said.text, "has not answered RESET");
	assert_int_equal(times(x->said.text, "can't be sent"), 0);
}

/* The hypervisor does not clear a TCE: what it maps is not the program's yet. */
static void a_completed_request_whose_tce_stays_is_not_given_back_before_it_is_cleared(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r = {.type = VIRTIO_BLK_T_OUT, .len = BT_BS, .result = 77};
	struct phyp_filter *f;

	bt_open(x, "copy");
	r.buf = x->buf[0];
	/* One request's worth, once: the page of its data, or those of all of it. */
	ok(x, phyp_fault_create("H_STUFF_TCE@1=H_PARAMETER", &f, &x->err));
	phyp_filter_push(x->w.gp, f);
	bt_submit(x, 0, &r);
	assert_ptr_equal(bt_next(x, 0), &r);
	says(x->said.text, "can't be taken back");
	says(x->said.text, "is back");
	assert_int_equal(r.result, 0);
	phyp_filter_pop(x->w.gp);
	phyp_fault_free(f);
}

#define T(f) cmocka_unit_test_setup_teardown(f, bt_setup, bt_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(requests_given_up_come_back_only_when_the_pages_have),
		T(requests_whose_pages_the_server_keeps_are_sent_again_when_it_lets_go),
		T(requests_are_sent_to_the_next_server_when_the_one_that_kept_their_pages_dies),
		T(a_completed_request_whose_window_stays_is_not_given_back),
		T(a_server_that_stands_still_while_the_crq_is_to_be_freed_costs_no_request),
		T(a_completed_request_whose_tce_stays_is_not_given_back_before_it_is_cleared),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
