/* SPDX-License-Identifier: BSD-3-Clause */
/* Announcements are what RFC 5227 and RFC 4861 say, byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "guest/prog/tap/tap_announce.h"

static const uint8_t mac[6] = {2, 0, 0, 0, 0, 7};

static void an_arp_asks_for_its_own_address_in_everybodys_hearing(void **state)
{
	static const uint8_t want[] = {255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0,  7, 8, 6,
				       0,   1,   8,   0,   6,   4,   0, 1, 2, 0, 0,  0, 0, 7,
				       10,  9,   0,   1,   0,   0,   0, 0, 0, 0, 10, 9, 0, 1};
	const uint8_t ip[4] = {10, 9, 0, 1}, tag[4] = {0x81, 0, 0x0f, 0xfe};
	uint8_t f[VIO_ANNOUNCE_MAX];

	(void)state;
	assert_int_equal(vio_announce_arp(f, mac, 0, ip), sizeof(want));
	assert_memory_equal(f, want, sizeof(want));
	assert_int_equal(vio_announce_arp(f, mac, 4094, ip), sizeof(want) + 4);
	assert_memory_equal(f + 12, tag, 4);
	assert_memory_equal(f + 16, want + 12, sizeof(want) - 12);
}

static void an_advertisement_is_unsolicited_overrides_and_has_a_right_sum(void **state)
{
	const uint8_t ip[16] = {0xfd, 9, [15] = 1}, all[6] = {0x33, 0x33, 0, 0, 0, 1};
	uint8_t f[VIO_ANNOUNCE_MAX];
	uint32_t sum = 58 + 32;

	(void)state;
	for (uint16_t vid = 0; vid < 20; vid = (uint16_t)(vid + 10)) {
		const uint8_t *l3 = f + 14 + (vid ? 4 : 0);

		assert_int_equal(vio_announce_na(f, mac, vid, ip), 86 + (vid ? 4 : 0));
		assert_memory_equal(f, all, 6);
		assert_int_equal(l3[-2] << 8 | l3[-1], 0x86dd);
		assert_int_equal(l3[7], 255); /* or it is not believed */
		assert_memory_equal(l3 + 8, ip, 16);
		assert_int_equal(l3[24] << 8 | l3[39], 0xff01);
		assert_int_equal(l3[40], 136);
		assert_int_equal(l3[44], 0x20);
		assert_memory_equal(l3 + 48, ip, 16);
		assert_memory_equal(l3 + 66, mac, 6);
		sum = 58 + 32;
		for (unsigned i = 8; i < 72; i += 2)
			sum += (uint32_t)l3[i] << 8 | l3[i + 1];
		while (sum >> 16)
			sum = (sum & 0xffff) + (sum >> 16);
		assert_int_equal(sum, 0xffff);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_arp_asks_for_its_own_address_in_everybodys_hearing),
		cmocka_unit_test(an_advertisement_is_unsolicited_overrides_and_has_a_right_sum),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
