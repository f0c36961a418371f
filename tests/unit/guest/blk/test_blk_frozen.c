/* SPDX-License-Identifier: BSD-3-Clause */
/* A frozen adapter: the disk's driver resets and thaws it, and no request is lost or comes back too early. */
#include "blk_recover_test.h"

static void set_pe(struct phyp_part *part, enum pe_state state)
{
	struct phyp_vcpu *v;
	int64_t rc;

	assert_int_equal(phyp_vcpu_create(part, &v, NULL), 0);
	rc = h_set_pe_state(v, phyp_unit(part, 0)->unit, state);
	assert_true(rc == H_SUCCESS || rc == H_PARTIAL);
	phyp_vcpu_destroy(v);
}

static void frozen_with_requests_outstanding(void **state, const char *arm)
{
	struct bt *x = *state;
	struct vio_blk_req r[N];

	bt_open(x, arm);
	fs_set(&x->w.s, hold, 1);
	put_out(x, r, 0, 1000);
	set_pe(x->w.gp, PE_FROZEN);
	fs_set(&x->w.s, hold, 0);
	all_back(x, 0, 0);
	says(x->said.text, "was frozen on request");
	says(x->said.text, "8 request(s) held");
	says(x->said.text, "reset and thawed");
	says(x->said.text, "is back; 8 request(s) sent again");
	check_disk(x, 0, 1000);
}

static void a_frozen_copying_disks_requests_are_sent_again(void **state)
{
	frozen_with_requests_outstanding(state, "copy");
}

static void a_frozen_zero_copy_disks_requests_are_sent_again(void **state)
{
	frozen_with_requests_outstanding(state, "zero-copy");
}

static void a_disk_that_sleeps_notices_that_it_was_frozen(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r[N];

	x->cfg.idle_ns = 0;
	frozen_with_requests_outstanding(state, "zero-copy,notify=crq");
	/* And again, between requests. */
	set_pe(x->w.gp, PE_FROZEN);
	put_out(x, r, 0, 2000);
	all_back(x, 0, 0);
	check_disk(x, 0, 2000);
}

/* The kernel's part: pages taken back by force are in use until `quiet`. */
static uint64_t kernel_start(void *ctx)
{
	(void)ctx;
	return 1;
}

static bool kernel_done(void *ctx, uint64_t number)
{
	(void)number;
	return vio_load_acquire((uint32_t *)ctx);
}

static void a_frozen_disk_waits_for_what_the_servers_kernel_had_begun(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r[N], *d;
	uint32_t quiet = 0;
	const struct phyp_drain drain = {kernel_start, kernel_done, &quiet};

	fs_start(&x->w.s);
	phyp_on_rescind(x->w.s.part, x->w.s.u->unit, &drain);
	bt_open(x, "zero-copy");
	fs_set(&x->w.s, hold, 1);
	fs_set(&x->w.s, keep_grants, 1);
	put_out(x, r, 0, 1000);
	set_pe(x->w.gp, PE_FROZEN);
	fs_set(&x->w.s, hold, 0);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(vio_blk_poll(x->b, 0, &d, 1), 0);
		vio_blk_idle(x->b, 0, 1000000);
	}
	says(x->said.text, "was frozen on request");
	assert_null(strstr(x->said.text, "reset and thawed"));
	fs_set(&x->w.s, keep_grants, 0);
	vio_store_release(&quiet, 1);
	all_back(x, 0, 0);
	check_disk(x, 0, 1000);
}

static void a_disk_whose_servers_end_was_frozen_waits_for_its_return(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r[N];

	bt_open(x, "copy");
	fs_set(&x->w.s, hold, 1);
	put_out(x, r, 0, 1000);
	set_pe(x->w.s.part, PE_FROZEN);
	for (unsigned i = 0; i < 20; i++)
		vio_blk_idle(x->b, 0, 1000000);
	assert_int_equal(vio_blk_outstanding(x->b, 0), N);
	fs_kill(&x->w.s); /* this server knows no other way back */
	fs_set(&x->w.s, hold, 0);
	fs_start(&x->w.s);
	all_back(x, 0, 0);
	assert_null(strstr(x->said.text, "thawed"));
	check_disk(x, 0, 1000);
}

#define T(f) cmocka_unit_test_setup_teardown(f, bt_setup, bt_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_frozen_copying_disks_requests_are_sent_again),
		T(a_frozen_zero_copy_disks_requests_are_sent_again),
		T(a_disk_that_sleeps_notices_that_it_was_frozen),
		T(a_frozen_disk_waits_for_what_the_servers_kernel_had_begun),
		T(a_disk_whose_servers_end_was_frozen_waits_for_its_return),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
