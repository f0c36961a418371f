/* SPDX-License-Identifier: BSD-3-Clause */
/* The switch's table of addresses on rte_hash. */
#include "tests/unit/server/net/uplink_wire.h"

/* ---------------------------------------------------------------------------- rte_hash ---- */

static void addresses_are_learnt_moved_aged_and_forgotten(void **state)
{
	struct vio_err err = {""};
	struct vio_fdb *t;
	unsigned n = 0, seen = 0;
	uint32_t at = 0;
	struct vio_fdb_row row;

	(void)state;
	assert_int_equal(vio_fdb_rte_create(&t, &err), 0);
	assert_int_equal(t->ops->lookup(t, 5), -1);
	assert_int_equal(t->ops->learn(t, 5, 1, 9, 100), 1);
	assert_int_equal(t->ops->learn(t, 5, 1, 9, 100), 0);
	assert_int_equal(t->ops->lookup(t, 5), 1);
	assert_int_equal(t->ops->learn(t, 5, 2, 9, 150), VIO_FDB_MOVED + 1);
	assert_int_equal(t->ops->lookup(t, 5), 2);
	assert_int_equal(t->ops->learn(t, 6, 3, 9, 100), 1);
	while (t->ops->walk(t, &at, &row))
		seen += (unsigned)row.key * row.port + row.seen;
	assert_int_equal(seen, 5 * 2 + 150 + 6 * 3 + 100);
	for (unsigned i = 0; i < 4; i++)
		n += t->ops->age(t, 200, 100);
	assert_int_equal(n, 1);
	assert_int_equal(t->ops->lookup(t, 6), -1);
	assert_int_equal(t->ops->lookup(t, 5), 2);
	t->ops->forget(t, 2);
	assert_int_equal(t->ops->count(t), 0);
	t->ops->free(t);
}

static void every_port_of_a_full_table_has_its_share(void **state)
{
	struct vio_err err = {""};
	struct vio_fdb *t;

	(void)state;
	assert_int_equal(vio_fdb_rte_create(&t, &err), 0);
	assert_int_equal(t->size, VIO_FDB_SIZE);
	/* The limit, and a station that moves to a port that has reached it: nothing changes. */
	assert_int_equal(t->ops->learn(t, 1, 0, 2, 0), 1);
	assert_int_equal(t->ops->learn(t, 2, 0, 2, 0), 1);
	assert_int_equal(t->ops->learn(t, 3, 0, 2, 0), -ENOSPC);
	assert_int_equal(t->ops->learn(t, 3, 1, 2, 0), 1);
	assert_int_equal(t->ops->learn(t, 3, 0, 2, 0), -ENOSPC);
	assert_int_equal(t->ops->lookup(t, 3), 1);
	assert_int_equal(t->ops->learn(t, 2, 0, 2, 0), 0); /* a known one is no new one */
	/* One that moves away leaves its place behind. */
	assert_int_equal(t->ops->learn(t, 2, 1, 2, 0), VIO_FDB_MOVED);
	assert_int_equal(t->ops->learn(t, 4, 0, 2, 0), 1);
	t->ops->forget(t, 0);
	t->ops->forget(t, 1);
	assert_int_equal(t->ops->count(t), 0);
	/* All ports to their limits: none is refused before, whatever the keys are. */
	for (unsigned p = 0; p < VIO_SWITCH_PORTS; p++) {
		for (uint64_t k = 0; k < VIO_FDB_GUEST; k++)
			assert_int_equal(t->ops->learn(t, 1 + k * 4096 + p, p, VIO_FDB_GUEST, 0),
					 1);
		assert_int_equal(t->ops->learn(t, 99, p, VIO_FDB_GUEST, 0), -ENOSPC);
	}
	assert_int_equal(t->ops->count(t), VIO_FDB_SIZE);
	t->ops->forget(t, 7);
	assert_int_equal(t->ops->count(t), VIO_FDB_SIZE - VIO_FDB_GUEST);
	for (uint64_t k = 0; k < VIO_FDB_GUEST; k++) /* and its room is free again */
		assert_int_equal(t->ops->learn(t, 1 + k * 4096 + 7, 7, VIO_FDB_GUEST, 0), 1);
	for (unsigned n = 0; n < 64 && t->ops->count(t) > 0; n++)
		t->ops->age(t, 1000, 300);
	assert_int_equal(t->ops->count(t), 0);
	for (unsigned p = 0; p < VIO_SWITCH_PORTS; p++)
		assert_int_equal(t->ops->learn(t, 1000 + p, p, 1, 0),
				 1); /* ageing has given it back */
	t->ops->free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_learnt_moved_aged_and_forgotten),
		cmocka_unit_test(every_port_of_a_full_table_has_its_share),
	};

	if (!eal_begin())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
