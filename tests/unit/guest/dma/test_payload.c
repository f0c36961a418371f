/* SPDX-License-Identifier: BSD-3-Clause */
#include "partition.h"

#include "guest/payload/payload.h"

#define APP      (1 * MIB)
#define BOUNCE   (2 * MIB)
#define SLOT_LEN 8192u
#define N_SLOTS  4u

static struct partition p;

static int up(void **state)
{
	(void)state;
	partition_open(&p, 0);
	return 0;
}

static int down(void **state)
{
	(void)state;
	partition_close(&p);
	return 0;
}

static struct vio_gpayload *open_level(enum vio_payload level, uint32_t copybreak)
{
	const struct vio_gpayload_cfg cfg = {
		.part = p.part,
		.counters = p.c,
		.bounce = {BOUNCE},
		.slot_len = SLOT_LEN,
		.n_slots = N_SLOTS,
		.copybreak = copybreak,
	};
	struct vio_gpayload *out = NULL;
	struct vio_err err = {{0}};

	if (vio_gpayload_level(level)->create(&cfg, &out, &err))
		fail_msg("%s", err.msg);
	assert_ptr_equal(out->ops, vio_gpayload_level(level));
	return out;
}

static uint8_t *at(struct gla a, uint64_t len)
{
	return phyp_mem(p.part, a, len);
}

static struct vio_gbuf buffer(uint64_t app, uint32_t len, bool dev_writes)
{
	return (struct vio_gbuf){.app = {app}, .len = len, .dev_writes = dev_writes};
}

static void the_levels_are_those_of_the_arms(void **state)
{
	(void)state;
	assert_ptr_equal(vio_gpayload_level(VIO_PAYLOAD_RDMA), &vio_gpayload_in_place);
	assert_ptr_equal(vio_gpayload_level(VIO_PAYLOAD_DIRECT), &vio_gpayload_in_place);
	assert_ptr_equal(vio_gpayload_level(VIO_PAYLOAD_UNCHECKED), &vio_gpayload_in_place);
	assert_ptr_equal(vio_gpayload_level(VIO_PAYLOAD_BOUNCE), &vio_gpayload_bounce);
	assert_ptr_equal(vio_gpayload_level(VIO_PAYLOAD_COPYBREAK), &vio_gpayload_copybreak);
	assert_null(vio_gpayload_level(VIO_N_PAYLOAD));
	assert_false(vio_gpayload_in_place.needs_bounce);
	assert_true(vio_gpayload_bounce.needs_bounce && vio_gpayload_copybreak.needs_bounce);
}

static void in_place_copies_nothing(void **state)
{
	struct vio_gpayload *g = open_level(VIO_PAYLOAD_DIRECT, 0);
	struct vio_gbuf b[2] = {buffer(APP, 4096, false), buffer(APP + 64, 20, true)},
			*list[] = {&b[0], &b[1]};

	(void)state;
	assert_int_equal(g->ops->get(g, list, 2), 2);
	assert_int_equal(b[0].dev.v, APP);
	assert_int_equal(b[1].dev.v, APP + 64);
	g->ops->put(g, list, 2);
	assert_int_equal(p.c->cpu_bytes, 0);
	g->ops->destroy(g);
}

static void bounce_copies_each_direction_once_and_counts_it(void **state)
{
	struct vio_gpayload *g = open_level(VIO_PAYLOAD_BOUNCE, 0);
	struct vio_gbuf b[2] = {buffer(APP + 3, 5000, false), buffer(APP + 100000, 777, true)};
	struct vio_gbuf *list[] = {&b[0], &b[1]};

	(void)state;
	memset(at(b[0].app, 5000), 0x11, 5000);
	memset(at(b[1].app, 777), 0x22, 777);
	memset(at((struct gla){BOUNCE}, SLOT_LEN * N_SLOTS), 0x33, SLOT_LEN * N_SLOTS);
	assert_int_equal(g->ops->get(g, list, 2), 2);
	for (unsigned i = 0; i < 2; i++) {
		assert_in_range(b[i].dev.v, BOUNCE, BOUNCE + SLOT_LEN * N_SLOTS - 1);
		assert_int_equal((b[i].dev.v - BOUNCE) % SLOT_LEN, 0);
	}
	assert_int_not_equal(b[0].dev.v, b[1].dev.v);
	assert_int_equal(p.c->cpu_bytes, 5000); /* in: only what the device reads */
	for (unsigned i = 0; i < 5000; i++)
		assert_int_equal(at(b[0].dev, SLOT_LEN)[i], 0x11);
	assert_int_equal(at(b[0].dev, SLOT_LEN)[5000], 0x33);
	assert_int_equal(at(b[1].dev, 1)[0], 0x33);
	memset(at(b[0].dev, 5000), 0x44,
	       5000); /* a device may not, but the write's source must not change */
	memset(at(b[1].dev, SLOT_LEN), 0x55, SLOT_LEN);
	g->ops->put(g, list, 2);
	assert_int_equal(p.c->cpu_bytes, 5777);
	assert_int_equal(at(b[0].app, 1)[0], 0x11);
	for (unsigned i = 0; i < 777; i++)
		assert_int_equal(at(b[1].app, 777)[i], 0x55);
	assert_int_equal(at(b[1].app, 778)[777], 0); /* not a byte more */
	g->ops->destroy(g);
}

static void slots_run_out_and_the_last_freed_comes_first(void **state)
{
	struct vio_gpayload *g = open_level(VIO_PAYLOAD_BOUNCE, 0);
	struct vio_gbuf b[N_SLOTS + 1], *list[N_SLOTS + 1];
	struct gla freed;

	(void)state;
	for (unsigned i = 0; i <= N_SLOTS; i++) {
		b[i] = buffer(APP + i * SLOT_LEN, SLOT_LEN, true);
		list[i] = &b[i];
	}
	assert_int_equal(g->ops->get(g, list, N_SLOTS + 1), N_SLOTS);
	for (unsigned i = 0; i < N_SLOTS; i++)
		for (unsigned j = 0; j < i; j++)
			assert_int_not_equal(b[i].dev.v, b[j].dev.v);
	assert_int_equal(g->ops->get(g, &list[N_SLOTS], 1), 0);
	freed = b[2].dev;
	g->ops->put(g, &list[2], 1);
	assert_int_equal(g->ops->get(g, &list[N_SLOTS], 1), 1);
	assert_int_equal(b[N_SLOTS].dev.v, freed.v);
	g->ops->destroy(g);
}

static void a_buffer_that_never_fits_is_refused_when_it_is_the_first(void **state)
{
	struct vio_gpayload *g = open_level(VIO_PAYLOAD_BOUNCE, 0);
	struct vio_gbuf ok = buffer(APP, SLOT_LEN, false), big = buffer(APP, SLOT_LEN + 1, false);
	struct vio_gbuf outside = buffer(phyp_mem_size(p.part) - 1, 2, true);
	struct vio_gbuf *list[] = {&ok, &big}, *bad[] = {&outside};

	(void)state;
	assert_int_equal(g->ops->get(g, list, 2), 1);
	assert_int_equal(g->ops->get(g, &list[1], 1), -EMSGSIZE);
	assert_int_equal(g->ops->get(g, bad, 1), -EFAULT);
	g->ops->put(g, list, 1);
	g->ops->destroy(g);
}

static void copybreak_bounces_below_the_limit_and_only_there(void **state)
{
	struct vio_gpayload *g = open_level(VIO_PAYLOAD_COPYBREAK, 2048);
	struct vio_gbuf b[3] = {buffer(APP, 2047, true), buffer(APP + 8192, 2048, true),
				buffer(APP + 16384, 65536, false)};
	struct vio_gbuf *list[] = {&b[0], &b[1], &b[2]};

	(void)state;
	assert_int_equal(g->ops->get(g, list, 3), 3);
	assert_in_range(b[0].dev.v, BOUNCE, BOUNCE + SLOT_LEN * N_SLOTS - 1);
	assert_int_equal(b[1].dev.v, b[1].app.v);
	assert_int_equal(b[2].dev.v, b[2].app.v);
	at(b[0].dev, 1)[0] = 0x77;
	g->ops->put(g, list, 3);
	assert_int_equal(p.c->cpu_bytes, 2047);
	assert_int_equal(at(b[0].app, 1)[0], 0x77);
	/* All slots are free again: in-place buffers gave none back. */
	for (unsigned i = 0; i < N_SLOTS; i++)
		assert_int_equal(g->ops->get(g, list, 1), 1);
	assert_int_equal(g->ops->get(g, list, 1), 0);
	g->ops->destroy(g);
}

static void copybreak_is_4096_when_nothing_is_said(void **state)
{
	struct vio_gpayload *g = open_level(VIO_PAYLOAD_COPYBREAK, 0);
	struct vio_gbuf b[2] = {buffer(APP, 4095, false), buffer(APP, 4096, false)},
			*list[] = {&b[0], &b[1]};

	(void)state;
	assert_int_equal(g->ops->get(g, list, 2), 2);
	assert_int_not_equal(b[0].dev.v, APP);
	assert_int_equal(b[1].dev.v, APP);
	g->ops->destroy(g);
}

static void slots_that_are_not_there_or_too_small_are_refused(void **state)
{
	struct vio_gpayload_cfg cfg = {
		.part = p.part, .counters = p.c, .bounce = {phyp_mem_size(p.part) - 100}};
	struct vio_gpayload *g;
	struct vio_err err;

	(void)state;
	assert_int_equal(vio_gpayload_bounce.create(&cfg, &g, &err), -EINVAL);
	cfg.slot_len = 51;
	cfg.n_slots = 2;
	assert_int_equal(vio_gpayload_bounce.create(&cfg, &g, &err), -EINVAL);
	cfg.slot_len = UINT32_MAX;
	cfg.n_slots = UINT32_MAX;
	assert_int_equal(vio_gpayload_bounce.create(&cfg, &g, &err), -EINVAL);
	cfg.bounce.v = BOUNCE;
	cfg.slot_len = 4094;
	cfg.n_slots = 2;
	assert_int_equal(vio_gpayload_copybreak.create(&cfg, &g, &err), -EINVAL);
	cfg.slot_len = 4095;
	assert_int_equal(vio_gpayload_copybreak.create(&cfg, &g, &err), 0);
	g->ops->destroy(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_levels_are_those_of_the_arms),
		cmocka_unit_test_setup_teardown(in_place_copies_nothing, up, down),
		cmocka_unit_test_setup_teardown(bounce_copies_each_direction_once_and_counts_it, up,
						down),
		cmocka_unit_test_setup_teardown(slots_run_out_and_the_last_freed_comes_first, up,
						down),
		cmocka_unit_test_setup_teardown(
			a_buffer_that_never_fits_is_refused_when_it_is_the_first, up, down),
		cmocka_unit_test_setup_teardown(copybreak_bounces_below_the_limit_and_only_there,
						up, down),
		cmocka_unit_test_setup_teardown(copybreak_is_4096_when_nothing_is_said, up, down),
		cmocka_unit_test_setup_teardown(slots_that_are_not_there_or_too_small_are_refused,
						up, down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
