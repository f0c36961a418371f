/* SPDX-License-Identifier: BSD-3-Clause */
#include "net_test.h"

static const uint32_t sizes[] = {1, 13, 14, 60, 64, 65, 500, 1514, 1518};

/* ------------------------------------------------------------------- frames and arms ---- */

static void frames_go_out_and_come_in_unchanged_in_every_arm_and_no_buffer_is_missing(void **state)
{
	struct nt *x = *state;

	for (unsigned a = 0; a < VIO_ARRAY_SIZE(nt_arms); a++) {
		nt_arm(x, a);
		for (unsigned k = 0; k < 300; k++)
			nt_echo(x, 0, sizes[k % VIO_ARRAY_SIZE(sizes)], a * 1000 + k);
		nt_all_back(x);
		assert_int_equal(nt_seen(x, frames), 300);
		assert_int_equal(x->said.text[0], 0);
	}
}

static void bursts_larger_than_the_ring_keep_their_order_in_every_arm(void **state)
{
	struct nt *x = *state;

	for (unsigned a = 0; a < VIO_ARRAY_SIZE(nt_arms); a++) {
		struct vio_net_buf *f[8];
		unsigned sent = 0, seen = 0;
		uint64_t end = vio_now_ns() + 60000000000ull;

		nt_arm(x, a);
		while (seen < 1000 && vio_now_ns() < end) {
			int n;

			/* No more on the way than the card can give back: it drops what finds no buffer. */
			for (unsigned i = 0; i < 8 && sent < 1000 && sent - seen < 32; i++) {
				f[0] = nt_make(x, 0, 60 + sent % 900, sent);
				if (!f[0])
					break;
				nt_send(x, 0, f[0]);
				sent++;
			}
			n = vio_net_rx_burst(x->n, 0, f, 8);
			assert_true(n >= 0);
			for (int i = 0; i < n; i++, seen++)
				nt_check(f[i], 60 + seen % 900, seen);
			vio_net_free(x->n, 0, f, (unsigned)n);
			vio_net_refill(x->n, 0);
			if (n == 0)
				vio_net_idle(x->n, 0, false, 10000000);
		}
		assert_int_equal(seen, 1000);
		nt_all_back(x);
	}
}

static void jumbo_frames_take_several_buffers_both_ways_in_every_arm(void **state)
{
	struct nt *x = *state;

	for (unsigned a = 0; a < VIO_ARRAY_SIZE(nt_arms); a++) {
		struct vio_net_stats s;

		if (a)
			nt_again(x);
		x->fn.mtu = 9000;
		nt_open(x, nt_arms[a]);
		assert_int_equal(vio_net_get_info(x->n)->mtu, 9000);
		for (unsigned k = 0; k < 40; k++)
			nt_echo(x, 0, k % 2 ? 9014 : 1985 + k * 37, k);
		nt_all_back(x);
		vio_net_get_stats(x->n, 0, &s);
		assert_int_equal(s.rx_frames, 40);
		assert_true(s.rx_bufs >= 100);
		assert_true(nt_seen(x, merged) > 30);
	}
}

static void headers_of_offloaded_frames_of_64_kib_pass_untouched(void **state)
{
	const char *const arms[] = {"copy", "premapped", "zero-copy"};
	struct nt *x = *state;

	for (unsigned a = 0; a < VIO_ARRAY_SIZE(arms); a++) {
		const struct virtio_net_hdr_v1 h = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
						    .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
						    .hdr_len = vio_le16(54),
						    .gso_size = vio_le16(1448),
						    .csum_start = vio_le16(34),
						    .csum_offset = vio_le16(16)};
		struct vio_net_buf *f;

		if (a)
			nt_again(x);
		x->cfg.offload = true;
		nt_open(x, arms[a]);
		assert_true(vio_net_get_info(x->n)->tso4 && vio_net_get_info(x->n)->guest_tso6);
		f = nt_make(x, 0, 65226, 5);
		memcpy(f->hdr, &h, sizeof(h));
		nt_send(x, 0, f);
		f = nt_next(x, 0);
		assert_non_null(f);
		nt_check(f, 65226, 5);
		f->hdr->num_buffers = 0;
		assert_memory_equal(f->hdr, &h, sizeof(h));
		vio_net_free(x->n, 0, &f, 1);
		vio_net_refill(x->n, 0);
		nt_all_back(x);
	}
}

static void one_large_buffer_takes_a_frame_where_buffers_are_not_merged(void **state)
{
	struct nt *x = *state;

	x->w.s.k.drop_features = 1ull << VIRTIO_NET_F_MRG_RXBUF;
	x->fn.mtu = 9000;
	assert_int_equal(vio_arm_parse("zero-copy", &x->cfg.transport.arm, &x->err), 0);
	fs_start(&x->w.s);
	assert_int_equal(vio_net_open(x->w.gp, &x->w.mem, &x->cfg, &x->n, &x->err), -EINVAL);
	says(x->err.msg, "larger");
	x->cfg.buf_len = 16384;
	nt_open(x, "zero-copy");
	for (unsigned k = 0; k < 20; k++)
		nt_echo(x, 0, 9014, k);
	nt_all_back(x);
}

static void a_received_frame_can_be_sent_as_it_is(void **state)
{
	struct nt *x = *state;

	for (unsigned a = 0; a < VIO_ARRAY_SIZE(nt_arms); a++) {
		struct vio_net_buf *f;

		if (a)
			nt_again(x);
		x->fn.mtu = 9000;
		nt_open(x, nt_arms[a]);
		nt_send(x, 0, nt_make(x, 0, 5000, 3));
		for (unsigned k = 0; k < 50; k++) {
			f = nt_next(x, 0);
			assert_non_null(f);
			nt_check(f, 5000, 3);
			nt_send(x, 0, f);
			vio_net_refill(x->n, 0);
		}
		f = nt_next(x, 0);
		vio_net_free(x->n, 0, &f, 1);
		nt_all_back(x);
	}
}

static void zero_copy_makes_no_call_and_copies_nothing_in_steady_state(void **state)
{
	struct nt *x = *state;
	struct phyp_counters a, z;

	nt_open(x, "zero-copy");
	for (unsigned k = 0; k < 100; k++)
		nt_echo(x, 0, 1514, k);
	a = *vio_net_counters(x->n, 0);
	for (unsigned k = 0; k < 500; k++)
		nt_echo(x, 0, 1514, k);
	z = *vio_net_counters(x->n, 0);
	assert_memory_equal(a.hcall, z.hcall, sizeof(a.hcall));
	assert_int_equal(a.tce_updates, z.tce_updates);
	assert_int_equal(a.cpu_bytes, z.cpu_bytes);
	assert_int_equal(a.kicks, z.kicks);
	assert_int_equal(a.sleeps, z.sleeps);
	nt_all_back(x);
}

/* -------------------------------------------------------------------- full and empty ---- */

static void a_full_ring_takes_no_more_and_goes_on_when_the_device_does(void **state)
{
	struct nt *x = *state;

	for (unsigned a = 0; a < VIO_ARRAY_SIZE(nt_arms); a++) {
		struct vio_net_buf *f;
		unsigned n = 0;

		if (a)
			nt_again(x);
		x->fn.swallow = 1;
		nt_open(x, nt_arms[a]);
		fs_set(&x->w.s, hold, 1);
		while ((f = nt_make(x, 0, 100, n)) && vio_net_tx_burst(x->n, 0, &f, 1) == 1)
			n++;
		/* Either the ring or what maps it was full; with a pool it is the ring. */
		assert_true(n > 0 && n <= 64);
		if (x->cfg.transport.arm.mapping == VIO_MAP_POOL)
			assert_int_equal(n, 64);
		fs_set(&x->w.s, hold, 0);
		if (f)
			nt_send(x, 0, f);
		nt_all_back(x);
		assert_int_equal(nt_seen(x, frames), n + (f != NULL));
	}
}

static void a_guest_that_stops_refilling_loses_frames_but_neither_hangs_nor_leaks(void **state)
{
	struct nt *x = *state;

	for (unsigned a = 0; a < VIO_ARRAY_SIZE(nt_arms); a++) {
		struct vio_net_buf *f[64];
		unsigned posted, got = 0;
		struct vio_net_count c;

		nt_arm(x, a);
		vio_net_get_count(x->n, 0, &c);
		posted = c.posted;
		for (unsigned k = 0; k < posted + 20; k++)
			nt_send(x, 0, nt_make(x, 0, 200, k));
		nt_all_back(x);
		assert_int_equal(nt_seen(x, no_buffers), 20);
		while (got < posted) {
			int n = vio_net_rx_burst(x->n, 0, f + got, posted - got);

			assert_true(n >= 0);
			got += (unsigned)n;
		}
		assert_int_equal(vio_net_rx_burst(x->n, 0, f, 0), 0);
		vio_net_free(x->n, 0, f, got);
		vio_net_refill(x->n, 0);
		nt_echo(x, 0, 300, 9);
		nt_all_back(x);
	}
}

static void frames_that_cannot_be_sent_are_counted_and_freed(void **state)
{
	struct nt *x = *state;
	struct vio_net_buf *f[36];
	struct vio_net_stats s;

	nt_open(x, "zero-copy");
	assert_int_equal(vio_net_tx_alloc(x->n, 0, f, 1), 1); /* empty */
	assert_int_equal(vio_net_tx_burst(x->n, 0, f, 1), 1);
	assert_int_equal(vio_net_tx_alloc(x->n, 0, f, 1), 1);
	f[0]->len = vio_net_get_info(x->n)->room + 1; /* past its buffer */
	assert_int_equal(vio_net_tx_burst(x->n, 0, f, 1), 1);
	assert_int_equal(vio_net_tx_alloc(x->n, 0, f, 35), 35); /* too many buffers */
	for (unsigned i = 0; i < 35; i++) {
		f[i]->len = 10;
		f[i]->next = i < 34 ? f[i + 1] : NULL;
	}
	assert_int_equal(vio_net_tx_burst(x->n, 0, f, 1), 1);
	assert_int_equal(vio_net_tx_alloc(x->n, 0, f, 34), 34); /* too long */
	for (unsigned i = 0; i < 34; i++) {
		f[i]->len = vio_net_get_info(x->n)->room;
		f[i]->next = i < 33 ? f[i + 1] : NULL;
	}
	assert_int_equal(vio_net_tx_burst(x->n, 0, f, 1), 1);
	vio_net_get_stats(x->n, 0, &s);
	assert_int_equal(s.tx_bad, 4);
	assert_int_equal(s.tx_frames, 0);
	/* Good ones around a bad one are sent. */
	for (unsigned i = 0; i < 3; i++)
		f[i] = nt_make(x, 0, 100, i);
	f[1]->len = 0;
	assert_int_equal(vio_net_tx_burst(x->n, 0, f, 3), 3);
	f[0] = nt_next(x, 0);
	nt_check(f[0], 100, 0);
	f[1] = nt_next(x, 0);
	nt_check(f[1], 100, 2);
	vio_net_free(x->n, 0, f, 2);
	nt_all_back(x);
}

/* --------------------------------------------------------------------------- lies ---- */

static void a_device_that_lies_about_received_frames_costs_those_frames_only(void **state)
{
	struct nt *x = *state;

	for (unsigned a = 0; a < VIO_ARRAY_SIZE(nt_arms); a++) {
		struct vio_net_stats s;

		nt_arm(x, a);
		for (unsigned k = 0; k < 4; k++) {
			fs_set(&x->w.s, stop_device, 0);
			vio_store_release(k == 0   ? &x->fn.short_used
					  : k == 1 ? &x->fn.long_used
					  : k == 2 ? &x->fn.wrong_count
						   : &x->fn.huge_count,
					  1u);
			nt_send(x, 0, nt_make(x, 0, 400, k));
			nt_echo(x, 0, 401, 50 + k); /* the next one that arrives is this one */
			vio_net_get_stats(x->n, 0, &s);
			assert_int_equal(s.rx_bad, k + 1);
		}
		nt_all_back(x);
	}
}

static void
a_used_element_that_is_not_outstanding_gets_the_device_reset_and_no_buffer_is_lost(void **state)
{
	struct nt *x = *state;

	for (unsigned a = 0; a < VIO_ARRAY_SIZE(nt_arms); a++) {
		nt_arm(x, a);
		nt_echo(x, 0, 100, 1);
		/*
		 * The device answers that frame's sending after the guest has the frame: a lie told
		 * before that would be about the next frame, which the device still has to read. And
		 * only a sent frame's element: of the received ones its neighbour is outstanding too.
		 */
		nt_all_back(x);
		vio_store_release(&x->fn.swallow, 1u);
		fs_set(&x->w.s, bad_used, 1);
		nt_send(x, 0, nt_make(x, 0, 100, 2));
		nt_until(x, true, "is back");
		says(x->said.text, "not outstanding");
		vio_store_release(&x->fn.swallow, 0u);
		{
			struct vio_net_buf *none;

			assert_int_equal(vio_net_rx_burst(x->n, 0, &none, 0), 0);
		}
		assert_true(vio_net_refill(x->n, 0) > 0);
		nt_echo(x, 0, 100, 3);
		nt_all_back(x);
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, nt_setup, nt_teardown)
	const struct CMUnitTest tests[] = {
		T(frames_go_out_and_come_in_unchanged_in_every_arm_and_no_buffer_is_missing),
		T(bursts_larger_than_the_ring_keep_their_order_in_every_arm),
		T(jumbo_frames_take_several_buffers_both_ways_in_every_arm),
		T(headers_of_offloaded_frames_of_64_kib_pass_untouched),
		T(one_large_buffer_takes_a_frame_where_buffers_are_not_merged),
		T(a_received_frame_can_be_sent_as_it_is),
		T(zero_copy_makes_no_call_and_copies_nothing_in_steady_state),
		T(a_full_ring_takes_no_more_and_goes_on_when_the_device_does),
		T(a_guest_that_stops_refilling_loses_frames_but_neither_hangs_nor_leaks),
		T(frames_that_cannot_be_sent_are_counted_and_freed),
		T(a_device_that_lies_about_received_frames_costs_those_frames_only),
		T(a_used_element_that_is_not_outstanding_gets_the_device_reset_and_no_buffer_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
