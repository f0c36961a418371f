/* SPDX-License-Identifier: BSD-3-Clause */
/* Offload headers as frames carry them: lies are found, and sums are those of the bytes however they are cut. */
#include "tests/unit/server/net/switch_bench.h"

#define TSO                                                                                        \
	(uint8_t)(VIO_GSO_BIT(VIRTIO_NET_HDR_GSO_NONE) | VIO_GSO_BIT(VIRTIO_NET_HDR_GSO_TCPV4) |   \
		  VIO_GSO_BIT(VIRTIO_NET_HDR_GSO_TCPV6))

/* ---------------------------------------------------------------------------- offload ---- */

static void lies_about_offload_are_found(void **state)
{
	const struct virtio_net_hdr_v1 good = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					       .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
					       .gso_size = 1000,
					       .csum_start = 34,
					       .csum_offset = 16};
	/* Each changes one thing: a byte of the headers, or a field. */
	static const struct {
		uint8_t at, value;
	} head[] = {{12, 0x86}, {13, 1}, {14, 0x55}, {14, 0x44}, {14, 0x4f}, {17, 0},
		    {20, 0x20}, {21, 1}, {23, 17},   {46, 0x40}, {12, 0x81}};
	struct virtio_net_hdr_v1 h;
	struct vio_frame f;

	(void)state;
	tcp_head(&f);
	assert_true(vio_offload_check(&f, &good, true, TSO));
	assert_int_equal(f.head_len, 54);
	assert_int_equal(vio_offload_segments(&f), 3);
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(head); i++) {
		tcp_head(&f);
		f.buf[head[i].at] = head[i].value;
		assert_false(vio_offload_check(&f, &good, true, TSO));
	}
#define LIE(field, v)                                                                              \
	do {                                                                                       \
		h = good;                                                                          \
		h.field = (v);                                                                     \
		tcp_head(&f);                                                                      \
		assert_false(vio_offload_check(&f, &h, true, TSO));                                \
	} while (0)
	LIE(flags, 0);
	LIE(gso_type, VIRTIO_NET_HDR_GSO_TCPV6);
	LIE(gso_type, VIRTIO_NET_HDR_GSO_UDP);
	LIE(gso_type, VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN);
	LIE(gso_type, 77);
	LIE(gso_size, 0);
	LIE(gso_size, 1);
	LIE(gso_size, VIO_GSO_MIN - 1);
	LIE(csum_start, 33);
	LIE(csum_start, 13);
	LIE(csum_start, 0xffff);
	LIE(csum_offset, 6);
	LIE(csum_offset, 0xffff);
	h = good;
	h.gso_size = VIO_GSO_MIN;
	tcp_head(&f);
	assert_true(vio_offload_check(&f, &h, true, TSO));
	tcp_head(&f);
	assert_false(vio_offload_check(&f, &good, true,
				       (uint8_t)(TSO & ~VIO_GSO_BIT(VIRTIO_NET_HDR_GSO_TCPV4))));
	assert_false(vio_offload_check(&f, &good, false, TSO));
	/* Headers that end beyond the frame. */
	tcp_head(&f);
	f.len = f.head_len = 53;
	vio_put_be16(f.buf + 16, 39);
	assert_false(vio_offload_check(&f, &good, true, TSO));
	f.len = f.head_len = 54; /* no data: nothing to cut */
	vio_put_be16(f.buf + 16, 40);
	assert_false(vio_offload_check(&f, &good, true, TSO));
}

static void sums_are_the_same_however_the_bytes_are_cut(void **state)
{
	uint8_t bytes[101];
	uint16_t whole;

	(void)state;
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 37 + 200);
	whole = vio_csum_fold(vio_csum_add(0, bytes, sizeof(bytes), false));
	for (uint32_t cut = 0; cut <= sizeof(bytes); cut++) {
		uint64_t sum = vio_csum_add(0, bytes, cut, false);

		sum = vio_csum_add(sum, bytes + cut, (uint32_t)sizeof(bytes) - cut, cut & 1);
		assert_int_equal(vio_csum_fold(sum), whole);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lies_about_offload_are_found),
		cmocka_unit_test(sums_are_the_same_however_the_bytes_are_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
