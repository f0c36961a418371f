/* SPDX-License-Identifier: BSD-3-Clause */
/* A port's station is shown right whoever changes what it is made of, the guest's address and the port's VLAN, at once. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/dev/net/net_priv.h"

#define ROUNDS 50000u

struct both {
	struct vio_net n;
	struct vio_squeue *some;
	uint32_t round, ended; /* of the one that follows */
};

static void meet(const uint32_t *v, uint32_t want)
{
	for (unsigned n = 0; vio_load_acquire(v) != want; n++)
		if (n % 1024 == 1023)
			sched_yield(); /* both may be on one processor */
}

static void *other(void *ctx)
{
	struct both *b = ctx;

	for (uint32_t i = 1; i <= ROUNDS; i++) {
		meet(&b->round, i);
		vio_store_relaxed(&b->n.port.vlan.pvid, (uint16_t)(1 + i % 4000));
		vio_net_show_station(&b->n);
		vio_store_release(&b->ended, i);
	}
	return NULL;
}

static void two_that_change_a_port_at_once_show_what_both_have_changed(void **state)
{
	static struct both both;
	struct both *b = &both;
	uint8_t mac[6] = {2, 0, 0, 0, 0, 0};
	pthread_t thread;
	(void)state;

	b->n.rx[0] = (struct vio_squeue *)(void *)&b->some; /* there is a guest */
	assert_int_equal(pthread_create(&thread, NULL, other, b), 0);
	for (uint32_t i = 1; i <= ROUNDS; i++) {
		uint64_t want = 0;

		mac[4] = (uint8_t)(i >> 8);
		mac[5] = (uint8_t)i;
		vio_store_release(&b->round, i);
		vio_net_show_mac(&b->n, mac);
		meet(&b->ended, i);
		memcpy(&want, mac, sizeof(mac));
		want = vio_le64(want) | (uint64_t)(1 + i % 4000) << 48;
		if (vio_load_relaxed(&b->n.port.own) != want)
			fail_msg("round %u: 0x%llx is shown, 0x%llx is right", i,
				 (unsigned long long)b->n.port.own, (unsigned long long)want);
	}
	pthread_join(thread, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_that_change_a_port_at_once_show_what_both_have_changed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
