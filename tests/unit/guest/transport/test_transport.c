/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest transport against a scripted server: configuration in both versions, refusals, timeouts, windows. */
#include "transport_test.h"

/* -------------------------------------------------------------------- configuration ---- */

static void v2_configuration_follows_the_slides_and_agrees_on_levels(void **state)
{
	static const uint8_t want[] = {VIO_OP_PROBE,       VIO_OP_ACKNOWLEDGE, VIO_OP_DRIVER,
				       VIO_OP_FEATURES_OK, VIO_OP_QUEUE,       VIO_OP_QUEUE,
				       VIO_OP_QUEUE,       VIO_OP_QUEUE,       VIO_OP_DRIVER_OK};
	struct tt *x = *state;
	const struct vio_transport_info *i;
	uint64_t used;

	tt_arm(x, "zero-copy");
	x->cfg.features = 1ull << VIRTIO_BLK_F_FLUSH;
	fs_start(&x->w.s);
	tt_open(x);
	ok(x, vio_transport_start(x->t, &x->err));
	ok(x, tt_go(x));
	i = vio_transport_get_info(x->t);
	assert_int_equal(i->version, 2);
	assert_int_equal(i->type, VIRTIO_ID_BLOCK);
	assert_string_equal(i->arm.name, "zero-copy");
	assert_int_equal(i->num_queues, 1);
	assert_int_equal(i->queue_size, 64);
	assert_true(i->features ==
		    (1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_F_VERSION_1 |
		     1ull << VIRTIO_F_ACCESS_PLATFORM | 1ull << VIRTIO_RING_F_EVENT_IDX));
	assert_int_equal(vio_transport_poll(x->t, x->v, &used), VIO_T_RUNNING);
	fs_stand_still(&x->w.s);
	assert_int_equal(x->w.s.n_ops, VIO_ARRAY_SIZE(want));
	assert_memory_equal(x->w.s.ops, want, sizeof(want));
	assert_int_equal(x->w.s.ring, VIO_RING_DIRECT);
	assert_int_equal(x->w.s.payload, VIO_PAYLOAD_DIRECT);
	assert_int_equal(x->w.s.notify, VIO_NOTIFY_POLL);
	assert_true(x->w.s.features == i->features);
	assert_string_equal(x->said.text, "");
}

static void v1_configuration_follows_the_slides(void **state)
{
	static const uint8_t want[] = {VIO_OP_PROBE,    VIO_OP_ACKNOWLEDGE, VIO_OP_DRIVER,
				       VIO_OP_QUEUE,    VIO_OP_QUEUE,       VIO_OP_QUEUE,
				       VIO_OP_DRIVER_OK};
	struct tt *x = *state;
	const struct vio_transport_info *i;

	x->cfg.proto = 1;
	x->cfg.queue_size = 16; /* version 1 can't say it: the server's size it is */
	x->cfg.features = 1ull << VIRTIO_BLK_F_FLUSH;
	fs_start(&x->w.s);
	tt_open(x);
	ok(x, vio_transport_start(x->t, &x->err));
	ok(x, tt_go(x));
	i = vio_transport_get_info(x->t);
	assert_int_equal(i->version, 1);
	assert_int_equal(i->queue_size, 64);
	assert_true(i->features == 1ull << VIRTIO_BLK_F_FLUSH);
	assert_string_equal(i->arm.name, "copy");
	fs_stand_still(&x->w.s);
	assert_int_equal(x->w.s.n_ops, VIO_ARRAY_SIZE(want));
	assert_memory_equal(x->w.s.ops, want, sizeof(want));
	assert_true(x->w.s.features == i->features);
}

static void config_space_arrives_whole(void **state)
{
	struct tt *x = *state;
	const struct vio_transport_info *i;
	struct virtio_blk_config c;

	tt_started(x, "copy");
	i = vio_transport_get_info(x->t);
	assert_int_equal(i->config_len, sizeof(c));
	memcpy(&c, i->config, sizeof(c));
	assert_true(vio_le64(c.capacity) == FS_SECTORS);
	assert_int_equal(vio_le16(c.num_queues), 4);
}

static void wanted_queues_and_size_are_limits(void **state)
{
	const struct ioba none = {0};
	struct tt *x = *state;

	x->cfg.num_queues = 9;
	x->cfg.queue_size = 16;
	tt_started(x, "copy");
	assert_int_equal(vio_transport_get_info(x->t)->num_queues, 4);
	assert_int_equal(vio_transport_get_info(x->t)->queue_size, 16);
	assert_int_equal(vio_transport_queue(x->t, 4, 16, none, none, none, &x->err), -EINVAL);
	assert_int_equal(vio_transport_queue(x->t, 0, 32, none, none, none, &x->err), -EINVAL);
}

static void old_server_makes_zero_copy_fall_back_to_copy_and_says_so(void **state)
{
	struct tt *x = *state;

	x->w.s.k.version = 1;
	tt_started(x, "zero-copy");
	ok(x, tt_go(x));
	assert_string_equal(vio_transport_get_info(x->t)->arm.name, "copy");
	assert_int_equal(vio_transport_get_info(x->t)->arm.mapping, VIO_MAP_SINGLE_USE);
	says(x->said.text, "zero-copy");
	says(x->said.text, "falling back to copy");
}

static void old_server_leaves_a_copying_arm_its_mapping(void **state)
{
	struct tt *x = *state;
	const struct vio_arm *a;

	x->w.s.k.version = 1;
	tt_started(x, "copy-tuned");
	a = &vio_transport_get_info(x->t)->arm;
	assert_string_equal(a->name, "custom");
	assert_int_equal(a->mapping, VIO_MAP_DEFERRED);
	assert_int_equal(a->ring, VIO_RING_COPY);
	assert_int_equal(a->notify, VIO_NOTIFY_CRQ);
}

static void strict_arm_is_refused_by_an_old_server_with_the_reason(void **state)
{
	struct tt *x = *state;

	x->cfg.strict_arm = true;
	x->w.s.k.version = 1;
	tt_arm(x, "zero-copy");
	fs_start(&x->w.s);
	tt_open(x);
	assert_int_equal(vio_transport_start(x->t, &x->err), -ENOTSUP);
	says(x->err.msg, "zero-copy");
	says(x->err.msg, "ring=direct");
	says(x->err.msg, "payload=direct");
	says(x->err.msg, "notify=poll");
}

static void strict_copy_is_content_with_an_old_server(void **state)
{
	struct tt *x = *state;

	x->cfg.strict_arm = true;
	x->w.s.k.version = 1;
	tt_started(x, "copy");
	ok(x, tt_go(x));
	assert_string_equal(x->said.text, "");
}

static void level_not_offered_falls_back_in_version_2_too(void **state)
{
	struct tt *x = *state;

	x->w.s.k.payload = 1 << VIO_PAYLOAD_RDMA;
	tt_started(x, "zero-copy");
	assert_string_equal(vio_transport_get_info(x->t)->arm.name, "copy");
	ok(x, tt_go(x));
}

static void server_without_even_copy_is_an_error(void **state)
{
	struct tt *x = *state;

	tt_arm(x, "zero-copy");
	x->w.s.k.payload = 1 << VIO_PAYLOAD_BOUNCE;
	fs_start(&x->w.s);
	tt_open(x);
	assert_int_equal(vio_transport_start(x->t, &x->err), -ENOTSUP);
}

static void device_without_access_platform_is_refused(void **state)
{
	struct tt *x = *state;

	x->w.s.k.drop_features = 1ull << VIRTIO_F_ACCESS_PLATFORM;
	fs_start(&x->w.s);
	tt_open(x);
	assert_int_equal(vio_transport_start(x->t, &x->err), -ENOTSUP);
	says(x->err.msg, "VIRTIO_F_ACCESS_PLATFORM");
}

static void header_that_makes_no_sense_is_refused(void **state)
{
	struct tt *x = *state;

	x->w.s.k.size = 2; /* no room for a chain of a header, data and a status */
	fs_start(&x->w.s);
	tt_open(x);
	assert_int_equal(vio_transport_start(x->t, &x->err), -EPROTO);
	says(x->err.msg, "header");
}

static void wrong_unit_is_named(void **state)
{
	struct tt *x = *state;

	x->cfg.unit = 3;
	assert_int_equal(vio_transport_open(x->v, &x->w.mem, &x->cfg, &x->t, &x->err), -ENODEV);
	says(x->err.msg, "unit 3");
}

static void crq_in_use_is_busy(void **state)
{
	struct tt *x = *state;
	struct phyp_filter *f;

	ok(x, phyp_fault_create("H_REG_CRQ@1=H_RESOURCE", &f, &x->err));
	phyp_filter_push(x->w.gp, f);
	assert_int_equal(vio_transport_open(x->v, &x->w.mem, &x->cfg, &x->t, &x->err), -EBUSY);
	phyp_filter_pop(x->w.gp);
	phyp_fault_free(f);
	says(x->err.msg, "in use");
}

/* -------------------------------------------------------------------------- timeouts ---- */

static void no_server_is_said_after_the_timeout(void **state)
{
	struct tt *x = *state;

	x->cfg.timeout_ms = 30;
	tt_open(x);
	assert_int_equal(vio_transport_start(x->t, &x->err), -ETIMEDOUT);
	says(x->err.msg, "no VIO server");
	says(x->err.msg, "vios");
}

static void server_that_comes_later_is_waited_for(void **state)
{
	struct tt *x = *state;
	uint64_t used;

	tt_open(x);
	assert_int_equal(vio_transport_poll(x->t, x->v, &used), VIO_T_DOWN);
	fs_start(&x->w.s);
	ok(x, vio_transport_start(x->t, &x->err));
	ok(x, tt_go(x));
}

static void silent_step(void **state, uint8_t op, const char *name)
{
	struct tt *x = *state;
	int rc;

	x->cfg.timeout_ms = 300;
	x->w.s.k.mute = op;
	fs_start(&x->w.s);
	tt_open(x);
	rc = vio_transport_start(x->t, &x->err);
	if (rc == 0)
		rc = tt_go(x);
	assert_int_equal(rc, -ETIMEDOUT);
	says(x->err.msg, name);
	says(x->err.msg, "300 ms");
}

static void server_silent_at_probe_is_named(void **state)
{
	silent_step(state, VIO_OP_PROBE, "PROBE");
}

static void server_silent_at_acknowledge_is_named(void **state)
{
	silent_step(state, VIO_OP_ACKNOWLEDGE, "ACKNOWLEDGE");
}

static void server_silent_at_features_ok_is_named(void **state)
{
	silent_step(state, VIO_OP_FEATURES_OK, "FEATURES_OK");
}

static void server_silent_at_driver_ok_is_named(void **state)
{
	silent_step(state, VIO_OP_DRIVER_OK, "DRIVER_OK");
}

static void unanswered_init_is_said_again(void **state)
{
	struct tt *x = *state;
	uint64_t used;

	x->w.s.k.mute_init = 1; /* INIT arrives, INIT COMPLETE does not */
	fs_start(&x->w.s);
	tt_open(x);
	while (fs_get(&x->w.s, inits) == 0)
		assert_int_equal(vio_transport_poll(x->t, x->v, &used), VIO_T_DOWN);
	fs_set(&x->w.s, mute_init, 0);
	ok(x, vio_transport_start(x->t, &x->err));
	ok(x, tt_go(x));
}

/* --------------------------------------------------------------------------- windows ---- */

static uint64_t tce(struct tt *x, struct ioba at)
{
	uint64_t v = ~0ull;

	assert_int_equal(h_get_tce(x->v, phyp_unit(x->w.gp, 0)->liobn, at, &v), H_SUCCESS);
	return v;
}

static void window_is_mapped_granted_and_taken_back(void **state)
{
	struct tt *x = *state;
	struct vio_mem_piece p;
	struct vio_gwindow w;

	tt_started(x, "zero-copy");
	p = tt_piece(x, 700 * 4096); /* more than one multi-TCE call */
	ok(x, vio_transport_window(x->t, &p, TCE_READ, VIO_WINDOW_RINGS, true, &w, &x->err));
	assert_true(tce(x, w.at) == (p.at.v | TCE_READ));
	assert_true(tce(x, ioba_add(w.at, 699 * 4096)) == ((p.at.v + 699 * 4096) | TCE_READ));
	ok(x, tt_go(x));
	ok(x, vio_transport_window_del(x->t, &w, &x->err));
	assert_true(tce(x, w.at) == 0);
	assert_int_equal(h_rescind_logical(x->v, RESCIND_NORMAL, w.cookie), H_RESCINDED);
}

static void windows_asked_for_in_turn_are_contiguous(void **state)
{
	struct tt *x = *state;
	struct vio_gwindow a, b;
	struct vio_mem_piece p, q;

	tt_started(x, "copy");
	p = tt_piece(x, 8192);
	q = tt_piece(x, 4096);
	ok(x, vio_transport_window(x->t, &p, TCE_READ, VIO_WINDOW_BUFFERS, false, &a, &x->err));
	ok(x, vio_transport_window(x->t, &q, TCE_READ, VIO_WINDOW_BUFFERS, false, &b, &x->err));
	assert_true(b.at.v == a.at.v + 8192);
	/* Freed from the end, the addresses are used again. */
	ok(x, vio_transport_window_del(x->t, &b, &x->err));
	ok(x, vio_transport_window(x->t, &q, TCE_READ, VIO_WINDOW_BUFFERS, false, &b, &x->err));
	assert_true(b.at.v == a.at.v + 8192);
}

static void addresses_that_stay_mapped_are_not_used_again(void **state)
{
	struct tt *x = *state;
	struct vio_gwindow a, b;
	struct vio_mem_piece p;
	struct phyp_filter *f;

	tt_started(x, "copy");
	p = tt_piece(x, 8192);
	ok(x, vio_transport_window(x->t, &p, TCE_READ, VIO_WINDOW_BUFFERS, false, &a, &x->err));
	ok(x, phyp_fault_create("H_STUFF_TCE@1=H_HARDWARE", &f, &x->err));
	phyp_filter_push(x->w.gp, f);
	assert_int_equal(vio_transport_window_del(x->t, &a, &x->err), -EIO);
	phyp_filter_pop(x->w.gp);
	ok(x, vio_transport_window(x->t, &p, TCE_READ, VIO_WINDOW_BUFFERS, false, &b, &x->err));
	phyp_fault_free(f);
	assert_true(b.at.v == a.at.v + 8192 && tce(x, a.at) != 0); /* cleared at close */
}

static void refused_window_gives_the_servers_reason_and_leaves_nothing(void **state)
{
	struct tt *x = *state;
	struct vio_mem_piece p;
	struct vio_gwindow w;
	uint64_t room;

	x->w.s.k.refuse_windows = VIO_ST_WINDOW_FULL;
	tt_started(x, "zero-copy");
	p = tt_piece(x, 4096);
	room = vio_transport_room(x->t);
	assert_int_equal(vio_transport_window(x->t, &p, TCE_READ | TCE_WRITE, VIO_WINDOW_BUFFERS,
					      true, &w, &x->err),
			 -EPERM);
	says(x->err.msg, vio_status_text(VIO_ST_WINDOW_FULL));
	assert_true(tce(x, w.at) == 0);
	assert_true(vio_transport_room(x->t) == room);
	/* The device is as before: the next one may pass. */
	fs_set(&x->w.s, refuse_windows, VIO_ST_OK);
	ok(x, vio_transport_window(x->t, &p, TCE_READ | TCE_WRITE, VIO_WINDOW_BUFFERS, true, &w,
				   &x->err));
	ok(x, tt_go(x));
}

static void window_that_does_not_fit_is_refused_here(void **state)
{
	struct tt *x = *state;
	uint64_t room, lmb = phyp_lmb_size(x->w.gp);
	struct vio_mem_piece p = {.at = {0}, .len = 100}, big = {.at = {0}, .len = 1ull << 40};
	struct vio_gwindow w;
	struct ioba at;

	tt_started(x, "zero-copy");
	room = vio_transport_room(x->t);
	assert_int_equal(
		vio_transport_window(x->t, &p, TCE_READ, VIO_WINDOW_RINGS, true, &w, &x->err),
		-EINVAL);
	assert_int_equal(
		vio_transport_window(x->t, &big, TCE_READ, VIO_WINDOW_RINGS, false, &w, &x->err),
		-ENOSPC);
	p = (struct vio_mem_piece){.at = {lmb - 4096}, .len = 8192};
	assert_int_equal(
		vio_transport_window(x->t, &p, TCE_READ, VIO_WINDOW_RINGS, true, &w, &x->err),
		-EINVAL);
	says(x->err.msg, "logical memory block");
	assert_int_equal(vio_transport_slice(x->t, room + 1, &at, &x->err), -ENOSPC);
	ok(x, vio_transport_slice(x->t, room, &at, &x->err));
	assert_true(vio_transport_room(x->t) == 0);
}

static void window_in_version_1_is_refused_here(void **state)
{
	struct tt *x = *state;
	struct vio_mem_piece p;
	struct vio_gwindow w;

	x->w.s.k.version = 1;
	tt_started(x, "copy");
	p = tt_piece(x, 4096);
	assert_int_equal(
		vio_transport_window(x->t, &p, TCE_READ, VIO_WINDOW_RINGS, true, &w, &x->err),
		-ENOTSUP);
	assert_true(tce(x, w.at) == 0);
}

static void withdrawal_without_an_answer_is_forced(void **state)
{
	struct tt *x = *state;
	struct vio_mem_piece p;
	struct vio_gwindow w;

	x->cfg.timeout_ms = 300;
	tt_started(x, "zero-copy");
	p = tt_piece(x, 4096);
	ok(x, vio_transport_window(x->t, &p, TCE_READ, VIO_WINDOW_RINGS, true, &w, &x->err));
	ok(x, tt_go(x));
	fs_set(&x->w.s, keep_grants, 1);
	fs_set(&x->w.s, mute, VIO_OP_WINDOW_DEL);
	assert_int_equal(vio_transport_window_del(x->t, &w, &x->err), -ETIMEDOUT);
	says(x->err.msg, "WINDOW_DEL");
	assert_true(tce(x, w.at) == 0);
	assert_int_equal(h_rescind_logical(x->v, RESCIND_NORMAL, w.cookie), H_RESCINDED);
}

static void exposure_comes_and_goes(void **state)
{
	struct tt *x = *state;
	const struct phyp_unit_info *u = phyp_unit(x->w.gp, 0);
	struct vio_dma_expose e;
	struct vio_mem_piece p;
	struct ioba at;
	uint16_t id;

	tt_started(x, "zero-copy,mapping=single-use");
	ok(x, tt_go(x));
	p = tt_piece(x, 4096);
	ok(x, vio_transport_slice(x->t, 4096, &at, &x->err));
	assert_int_equal(h_put_tce(x->v, u->liobn, at, p.at.v | TCE_WRITE | TCE_READ), H_SUCCESS);
	assert_int_equal(vio_transport_expose(x->t, x->v, &e), 0);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(e.add(e.ctx, at, p.at, 4096, TCE_READ | TCE_WRITE, &id), 0);
		assert_int_equal(e.del(e.ctx, id), 0);
	}
	assert_int_equal(e.add(e.ctx, at, gla_add(p.at, 64), 4096, TCE_READ, &id), -EINVAL);
	assert_int_equal(h_put_tce(x->v, u->liobn, at, 0), H_SUCCESS);
}

#define T(f) cmocka_unit_test_setup_teardown(f, tt_setup, tt_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(v2_configuration_follows_the_slides_and_agrees_on_levels),
		T(v1_configuration_follows_the_slides),
		T(config_space_arrives_whole),
		T(wanted_queues_and_size_are_limits),
		T(old_server_makes_zero_copy_fall_back_to_copy_and_says_so),
		T(old_server_leaves_a_copying_arm_its_mapping),
		T(strict_arm_is_refused_by_an_old_server_with_the_reason),
		T(strict_copy_is_content_with_an_old_server),
		T(level_not_offered_falls_back_in_version_2_too),
		T(server_without_even_copy_is_an_error),
		T(device_without_access_platform_is_refused),
		T(header_that_makes_no_sense_is_refused),
		T(wrong_unit_is_named),
		T(crq_in_use_is_busy),
		T(no_server_is_said_after_the_timeout),
		T(server_that_comes_later_is_waited_for),
		T(server_silent_at_probe_is_named),
		T(server_silent_at_acknowledge_is_named),
		T(server_silent_at_features_ok_is_named),
		T(server_silent_at_driver_ok_is_named),
		T(unanswered_init_is_said_again),
		T(window_is_mapped_granted_and_taken_back),
		T(windows_asked_for_in_turn_are_contiguous),
		T(addresses_that_stay_mapped_are_not_used_again),
		T(refused_window_gives_the_servers_reason_and_leaves_nothing),
		T(window_that_does_not_fit_is_refused_here),
		T(window_in_version_1_is_refused_here),
		T(withdrawal_without_an_answer_is_forced),
		T(exposure_comes_and_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
