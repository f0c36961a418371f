/* SPDX-License-Identifier: BSD-3-Clause */
/* The server's Toeplitz hash gives what "Verifying the RSS hash calculation" (Microsoft) says it must. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "server/dpdk/thash.h"

static const uint8_t key[40] __attribute__((aligned(4))) = {
	0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
	0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
	0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};

static void the_published_hashes_come_out(void **state)
{
	/* 66.9.149.187:2794 to 161.142.100.80:1766; and the IPv6 example, 3ffe:2501:200:1fff::7 to 3ffe:2501:200:3::1. */
	static const uint32_t v4[3] = {0x420995bb, 0xa18e6450, 0x0aea06e6},
			      v6[9] = {0x3ffe2501, 0x02001fff, 0, 7,         0x3ffe2501,
				       0x02000003, 0,          1, 0x0aea06e6};

	(void)state;
	assert_int_equal(vio_toeplitz(v4, 2, (const uint32_t *)(const void *)key), 0x323e8fc2);
	assert_int_equal(vio_toeplitz(v4, 3, (const uint32_t *)(const void *)key), 0x51ccc178);
	assert_int_equal(vio_toeplitz(v6, 8, (const uint32_t *)(const void *)key), 0x2cc18cd5);
	assert_int_equal(vio_toeplitz(v6, 9, (const uint32_t *)(const void *)key), 0x40207d3d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(the_published_hashes_come_out)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
