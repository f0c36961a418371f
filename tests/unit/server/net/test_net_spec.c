/* SPDX-License-Identifier: BSD-3-Clause */
/* VIRTIO 1.2, 5.1: what docs/virtio-conformance.md says of the network card's features. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "net_world.h"
#include "tests/unit/server/spec_list.h"

/* 5.1.3 of the specification, all of it. */
#define ALL_OF_5_1_3 ((0xffffefull) | (0xfull << 53) | (1ull << 57) | (0x1full << 59))

static void the_list_of_features_in_the_documentation_is_what_the_device_offers(void **state)
{
	static const char *const spec[NW_GUESTS] = {"queues=1", "queues=2",
						    "queues=1,link=down,lock-mac=on"};
	uint64_t always = UINT64_MAX, some = 0;
	struct nw *w;
	void *s;

	(void)state;
	nw_setup_with(&s, spec);
	w = s;
	for (unsigned i = 0; i < NW_GUESTS; i++) {
		uint64_t has = vio_kind_net.features(vio_net_device(w->g[i].net));

		always &= has;
		some |= has;
	}
	spec_list_is("VIRTIO_NET_F_", always, some, ALL_OF_5_1_3);
	nw_teardown(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			the_list_of_features_in_the_documentation_is_what_the_device_offers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
