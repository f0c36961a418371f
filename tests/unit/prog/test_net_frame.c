/* SPDX-License-Identifier: BSD-3-Clause */
/* What vio-net's checker must find: a checker that finds nothing makes every experiment pass. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/prog/net/net_frame.h"
#include "guest/prog/pattern.h"

#define BUFS 8

static uint8_t memory[BUFS][2048];

/* A chain of buffers of at most `room` bytes, the later ones at an odd address. */
static struct vio_net_buf *chain(struct vio_net_buf b[BUFS], uint32_t len, uint32_t room)
{
	unsigned n = (len + room - 1) / room;

	assert_true(n <= BUFS);
	for (unsigned i = 0; i < n; i++)
		b[i] = (struct vio_net_buf){.next = i + 1 < n ? &b[i + 1] : NULL,
					    .data = memory[i] + (i ? 5 : 64),
					    .len = i + 1 < n ? room : len - i * room,
					    .total = len};
	return b;
}

static const struct vio_nf_cfg cfg = {.src = {2, 0, 0, 0, 0, 1},
				      .dst = {2, 0, 0, 0, 0, 2},
				      .flows = 1,
				      .seed = 9,
				      .payload = true};

static void a_frame_is_recognised_in_any_length_and_in_any_pieces(void **state)
{
	const uint32_t rooms[] = {1984, 1024, 1001, 333, 100};

	(void)state;
	for (unsigned vlan = 0; vlan < 2; vlan++)
		for (uint32_t len = VIO_NF_MIN; len <= 1518; len += 1 + len / 40)
			for (unsigned r = 0; r < 5; r++) {
				struct vio_net_buf b[BUFS];
				struct vio_nf_cfg c = cfg;
				struct vio_nf_seen s;
				struct vio_nf f;

				if ((len + rooms[r] - 1) / rooms[r] > BUFS)
					continue;
				memset(memory, 0xcc, sizeof(memory));
				c.vlan = vlan ? 100 : 0;
				vio_nf_init(&f, &c, 0x1234);
				f.seq = len * 7;
				vio_nf_build(&f, chain(b, len, rooms[r]), len, 0x1122334455667788);
				assert_true(vio_nf_look(b, 9, true, &s));
				assert_int_equal(s.stream, 0x1234);
				assert_int_equal(s.seq, len * 7);
				assert_int_equal(s.tick, 0x334455667788); /* 48 bits of it */
				assert_int_equal(s.wrong, 0);
				assert_true(vio_nf_look(b, 8, true, &s));
				assert_true(s.wrong > 0 || len < 70); /* another seed */
			}
}

static void every_wrong_byte_of_the_payload_is_found(void **state)
{
	struct vio_net_buf b[BUFS];
	struct vio_nf_seen s;
	struct vio_nf f;

	(void)state;
	vio_nf_init(&f, &cfg, 1);
	vio_nf_build(&f, chain(b, 700, 333), 700, 1);
	for (uint32_t at = 42 + 10; at < 700; at++) {
		uint8_t *p = b[at / 333].data + at % 333;

		*p ^= 0x10;
		assert_true(vio_nf_look(b, 9, true, &s));
		assert_int_equal(s.wrong, 1);
		assert_true(vio_nf_look(b, 9, false, &s));
		assert_int_equal(s.wrong, 0); /* headers only: not looked at */
		*p ^= 0x10;
	}
}

static void a_cut_or_padded_frame_and_another_frames_tail_are_found(void **state)
{
	struct vio_net_buf b[BUFS];
	struct vio_nf_seen s;
	struct vio_nf f;

	(void)state;
	vio_nf_init(&f, &cfg, 1);
	vio_nf_build(&f, chain(b, 600, 1984), 600, 1);
	b[0].len = b[0].total = 599;
	assert_true(vio_nf_look(b, 9, false, &s));
	assert_int_equal(s.wrong, 1);
	b[0].len = b[0].total = 601;
	assert_true(vio_nf_look(b, 9, false, &s));
	assert_int_equal(s.wrong, 1);
	/* The tail of the frame before: right length, wrong number. */
	vio_nf_build(&f, chain(b, 600, 300), 600, 1);
	memcpy(memory[BUFS - 1], b[1].data, 300);
	vio_nf_build(&f, chain(b, 600, 300), 600, 1);
	memcpy(b[1].data, memory[BUFS - 1], 300);
	assert_true(vio_nf_look(b, 9, true, &s));
	assert_true(s.wrong > 250);
}

static void frames_of_others_are_not_taken_for_own(void **state)
{
	struct vio_net_buf b[BUFS];
	struct vio_nf_seen s;
	struct vio_nf f;

	(void)state;
	for (unsigned at = 12; at < 60; at++) {
		vio_nf_init(&f, &cfg, 1);
		vio_nf_build(&f, chain(b, 64, 1984), 64, 1);
		if (at != 12 && at != 13 && at != 23 && at != 34 && at != 35)
			continue; /* EtherType, protocol, magic */
		b[0].data[at] ^= 1;
		assert_false(vio_nf_look(b, 9, true, &s));
	}
	memset(memory, 0, sizeof(memory));
	assert_false(vio_nf_look(chain(b, 64, 1984), 9, true, &s));
	assert_false(vio_nf_look(chain(b, 20, 1984), 9, true, &s));
}

static uint16_t sum(const uint8_t *p, unsigned n)
{
	uint32_t s = 0;

	for (unsigned i = 0; i < n; i += 2)
		s += (uint32_t)p[i] << 8 | p[i + 1];
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)s;
}

static void every_flow_has_its_address_and_a_right_ip_checksum(void **state)
{
	struct vio_nf_cfg c = cfg;
	struct vio_net_buf b[BUFS];
	struct vio_nf f;
	uint8_t first[4], last[4];

	(void)state;
	c.flows = 1024;
	vio_nf_init(&f, &c, 1);
	for (unsigned i = 0; i < 2048; i++) {
		vio_nf_build(&f, chain(b, 64 + i % 1400, 1984), 64 + i % 1400, 1);
		assert_int_equal(sum(b[0].data + 14, 20), 0xffff);
		memcpy(last, b[0].data + 30, 4);
		if (i == 0)
			memcpy(first, last, 4);
		else
			assert_true((memcmp(first, last, 4) == 0) == (i == 1024));
	}
}

static void a_pattern_in_pieces_is_the_pattern(void **state)
{
	uint8_t whole[512], pieces[512];
	uint64_t key = vio_pattern_key(3, 4, 5);

	(void)state;
	vio_pattern_fill_at(whole, sizeof(whole), key, 0);
	for (unsigned turn = 0; turn < 200; turn++) {
		size_t at = 0;

		srand(turn);
		memset(pieces, 0, sizeof(pieces));
		while (at < sizeof(pieces)) {
			size_t n = (size_t)rand() % 40;

			n = n < sizeof(pieces) - at ? n : sizeof(pieces) - at;
			vio_pattern_fill_at(pieces + at, n, key, at);
			assert_int_equal(vio_pattern_check_at(pieces + at, n, key, at), 0);
			if (n > 0)
				assert_true(vio_pattern_check_at(pieces + at, n, key, at + 1) > 0);
			at += n;
		}
		assert_memory_equal(whole, pieces, sizeof(whole));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_frame_is_recognised_in_any_length_and_in_any_pieces),
		cmocka_unit_test(every_wrong_byte_of_the_payload_is_found),
		cmocka_unit_test(a_cut_or_padded_frame_and_another_frames_tail_are_found),
		cmocka_unit_test(frames_of_others_are_not_taken_for_own),
		cmocka_unit_test(every_flow_has_its_address_and_a_right_ip_checksum),
		cmocka_unit_test(a_pattern_in_pieces_is_the_pattern),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
