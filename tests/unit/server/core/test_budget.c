/* SPDX-License-Identifier: BSD-3-Clause */
/* What a queue may do in one turn: counted in bytes and pieces, whatever the guest asks for at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <linux/virtio_blk.h>

#include "world.h"

#define HDR     (W_BUF + 0x0)
#define DATA    (W_BUF + 0x10000)
#define ONE     (1u << 20)
#define SHARE   (64u << 10)
#define AT_ONCE 3u /* requests at once */

static const uint32_t quantum = 4 * SHARE, beside = 4;

static void fresh(struct world *w, enum vio_payload payload, bool at)
{
	struct w_cfg cfg = {
		.ring = VIO_RING_DIRECT,
		.payload = payload,
		.at = at,
		.notify = VIO_NOTIFY_POLL,
		.size = 64,
		.event_idx = true,
	};

	w_queue(w, &cfg);
	w->q->quantum = &quantum;
	w->q->beside = &beside;
}

/* Bytes that the server has moved so far. */
static uint64_t moved(const struct world *w)
{
	return w->q->stats.cpu_bytes + w_rdma_bytes(w);
}

/* Turns until all are done; more than `most` bytes in one fail. How many turns. */
static unsigned turns(struct world *w, uint64_t most)
{
	unsigned n = 0;

	for (;; n++) {
		uint64_t before = moved(w);
		unsigned worked = vio_squeue_poll(w->q);

		assert_int_equal(w->q->fault, VIO_ST_OK);
		if (moved(w) - before > most)
			fail_msg("%llu bytes in one turn", (unsigned long long)(moved(w) - before));
		if (worked == 0)
			break;
	}
	assert_int_equal(w->q->in_flight, 0);
	return n;
}

static void large_requests_are_moved_a_share_at_a_time(void **state)
{
	struct world *w = *state;
	static const enum vio_payload payload[] = {VIO_PAYLOAD_DIRECT, VIO_PAYLOAD_RDMA};

	for (unsigned p = 0; p < VIO_ARRAY_SIZE(payload); p++) {
		fresh(w, payload[p], true);
		for (uint32_t i = 0; i < W_DISK_LEN; i++)
			w->b.disk[i] = (uint8_t)(i * 7 + (i >> 12) + p);
		for (uint16_t i = 0; i < AT_ONCE; i++) {
			w_blk(w, (uint16_t)(4 * i), VIRTIO_BLK_T_IN, 5u + 2048u * i,
			      HDR + 0x100u * i, DATA + i * (ONE + 4096), ONE);
			w_avail(w, (uint16_t)(4 * i));
		}
		w_publish(w);
		/* Headers and statuses beside the share. */
		assert_true(turns(w, SHARE + 64u * AT_ONCE) >= AT_ONCE * ONE / SHARE);
		for (unsigned i = 0; i < AT_ONCE; i++) {
			uint32_t id, len;

			assert_true(w_used(w, &id, &len));
			assert_int_equal(id, 4 * i);
			assert_int_equal(len, ONE + 1);
			assert_int_equal(w->gmem[HDR + 0x100 * i + 16], VIRTIO_BLK_S_OK);
			assert_memory_equal(w->gmem + DATA + i * (ONE + 4096),
					    w->b.disk + (5 + 2048 * i) * 512, ONE);
		}
		assert_int_equal(w->q->stats.bytes_read, AT_ONCE * ONE);
	}
}

/* Segments that a share ends within, and writes. */
static void a_share_that_ends_within_a_segment_loses_no_byte(void **state)
{
	struct world *w = *state;
	static const uint32_t seg[] = {1000, 100000, 24, SHARE, 512 * 100 - 24 - 1000 + 480};
	struct virtio_blk_outhdr h = {.type = vio_le32(VIRTIO_BLK_T_OUT), .sector = vio_le64(7)};
	uint64_t at = DATA + 1;
	uint32_t sum = 0, id, len;
	unsigned d = 1;

	fresh(w, VIO_PAYLOAD_DIRECT, true);
	memcpy(w->gmem + HDR, &h, sizeof(h));
	w_desc(w, 0, HDR, 16, VRING_DESC_F_NEXT, 1);
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(seg); i++, d++) {
		uint32_t n = seg[i];

		if (i + 1 == VIO_ARRAY_SIZE(seg))
			n += 512 - (sum + n) % 512; /* whole sectors */
		for (uint32_t k = 0; k < n; k++)
			w->gmem[at + k] = (uint8_t)((sum + k) * 13 + ((sum + k) >> 9));
		w_desc(w, d, at, n, VRING_DESC_F_NEXT, d + 1);
		sum += n;
		at += n + 777;
	}
	w_desc(w, d, HDR + 16, 1, VRING_DESC_F_WRITE, 0);
	w_avail(w, 0);
	w_publish(w);
	assert_true(turns(w, SHARE + 64) >= sum / SHARE);
	assert_true(w_used(w, &id, &len));
	assert_int_equal(len, 1);
	assert_int_equal(w->gmem[HDR + 16], VIRTIO_BLK_S_OK);
	for (uint32_t k = 0; k < sum; k++)
		if (w->b.disk[7 * 512 + k] != (uint8_t)(k * 13 + (k >> 9)))
			fail_msg("byte %u", k);
}

static void ranges_of_a_disk_in_memory_are_done_in_pieces(void **state)
{
	struct world *w = *state;
	struct virtio_blk_outhdr h = {.type = vio_le32(VIRTIO_BLK_T_WRITE_ZEROES)};
	struct virtio_blk_discard_write_zeroes range = {.sector = vio_le64(8),
							.num_sectors = vio_le32(4096)};
	unsigned before;
	uint32_t id, len;

	fresh(w, VIO_PAYLOAD_DIRECT, true);
	memcpy(w->gmem + HDR, &h, sizeof(h));
	memcpy(w->gmem + DATA, &range, sizeof(range));
	w_desc(w, 0, HDR, 16, VRING_DESC_F_NEXT, 1);
	w_desc(w, 1, DATA, sizeof(range), VRING_DESC_F_NEXT, 2);
	w_desc(w, 2, HDR + 16, 1, VRING_DESC_F_WRITE, 0);
	w_avail(w, 0);
	w_publish(w);
	for (unsigned n = 0; n < 4096 * 512 / SHARE; n++) {
		before = w->b.submits;
		assert_true(vio_squeue_poll(w->q) > 0);
		assert_int_equal(w->b.submits, before + 1);
		assert_true(w->b.last_len == SHARE);
		assert_true(w->b.last_off == 8 * 512 + (uint64_t)n * SHARE);
	}
	assert_true(w_used(w, &id, &len));
	assert_int_equal(w->gmem[HDR + 16], VIRTIO_BLK_S_OK);
	assert_int_equal(vio_squeue_poll(w->q), 0);
}

/* As many as fit the table: three large reads, then small ones. */
static void large_and_small(struct world *w, unsigned small)
{
	for (uint16_t i = 0; i < AT_ONCE + small; i++) {
		w_blk(w, (uint16_t)(3 * i), VIRTIO_BLK_T_IN, 0, HDR + 0x100u * i,
		      DATA + (i < AT_ONCE ? i : AT_ONCE) * (ONE + 4096), i < AT_ONCE ? ONE : 16384);
		w_avail(w, (uint16_t)(3 * i));
	}
	w_publish(w);
}

/* A store that does them elsewhere gets whole ones, and what they are too large is paid in later turns. */
static void what_a_request_takes_beyond_the_share_is_paid_in_later_turns(void **state)
{
	struct world *w = *state;
	const unsigned small = 8;
	unsigned turn = 0, was = 0;
	uint64_t begun = 0;

	fresh(w, VIO_PAYLOAD_DIRECT, false);
	large_and_small(w, small);
	while (w->b.submits < AT_ONCE + small) {
		assert_true(vio_squeue_poll(w->q) > 0); /* a turn that pays is no idle one */
		turn++;
		for (; was < w->b.submits; was++)
			begun += was < AT_ONCE ? ONE : 16384;
		/* What is more than the shares so far is one request at most. */
		if (begun > (uint64_t)turn * SHARE + ONE)
			fail_msg("%llu bytes in %u turns", (unsigned long long)begun, turn);
		assert_int_equal(w->q->parked, 0);
		assert_true(turn < 1000);
	}
	assert_true(turn >= AT_ONCE * ONE / SHARE);
	w_run(w);
	assert_int_equal(w->q->in_flight, 0);
}

/* Reads by RDMA are copied to the guest when they end: the store may end them all at once. */
static void reads_that_end_at_once_are_copied_out_a_share_at_a_time(void **state)
{
	struct world *w = *state;
	uint32_t id, len, n = 0;
	uint64_t all;

	fresh(w, VIO_PAYLOAD_RDMA, false);
	w->b.async = true;
	large_and_small(w, 4);
	for (unsigned i = 0; i < 100 && w->b.n_held < AT_ONCE + 4; i++)
		vio_squeue_poll(w->q);
	assert_int_equal(w->b.n_held, AT_ONCE + 4);
	w->b.async = false;
	all = moved(w);
	/* One that is larger than the share comes whole, and its debt before the next. */
	for (unsigned turn = 0; w->q->in_flight > 0; turn++) {
		uint64_t before = moved(w);

		vio_squeue_poll(w->q);
		assert_true(moved(w) - before <= ONE + 64u);
		assert_true(moved(w) - all <= (turn + 1ull) * SHARE + ONE + 64u);
		assert_true(turn < 1000);
	}
	while (w_used(w, &id, &len))
		n++;
	assert_int_equal(n, AT_ONCE + 4);
	assert_int_equal(w->dq.out, 0);
}

/* A driver that asks only for what moves no byte has no more of the lcore than others. */
static void requests_without_a_byte_cost_too(void **state)
{
	struct world *w = *state;
	static const uint32_t little = 4 * 2048; /* shared by four: four requests' worth a turn */
	const unsigned n = 16;

	fresh(w, VIO_PAYLOAD_DIRECT, true);
	w->q->quantum = &little;
	for (uint16_t i = 0; i < n; i++) {
		w_blk(w, (uint16_t)(3 * i), VIRTIO_BLK_T_FLUSH, 0, HDR + 0x100u * i, DATA, 512);
		w_avail(w, (uint16_t)(3 * i));
	}
	w_publish(w);
	for (unsigned turn = 0; w->b.submits < n; turn++) {
		unsigned before = w->b.submits;

		assert_true(vio_squeue_poll(w->q) > 0);
		assert_true(w->b.submits - before <= n / 2);
		assert_true(w->b.submits <= (turn + 2) * n / 2);
	}
}

/* The adapter waits for a window's requests: those that wait for their share come to an end under a hold. */
static void a_hold_ends_what_waits_for_its_share(void **state)
{
	struct world *w = *state;

	fresh(w, VIO_PAYLOAD_DIRECT, true);
	large_and_small(w, 2);
	assert_true(vio_squeue_poll(w->q) > 0);
	assert_int_equal(w->q->in_flight, AT_ONCE + 2);
	assert_int_equal(w->q->n_wait, AT_ONCE + 2);
	assert_int_equal(w->q->parked, 0);
	vio_store_release(&w->q->ctl, (uint8_t)VIO_SQ_HOLD);
	turns(w, SHARE + 64u * (AT_ONCE + 2));
}

/* While some wait for their share the next ones stay in the ring: a queue costs no more for being full. */
static void what_waits_for_its_share_keeps_the_next_ones_in_the_ring(void **state)
{
	struct world *w = *state;
	static const uint32_t little = 4 * 512;

	fresh(w, VIO_PAYLOAD_DIRECT, false);
	w->q->quantum = &little;
	large_and_small(w, 0);
	for (unsigned i = 0; i < 3; i++)
		assert_true(vio_squeue_poll(w->q) > 0);
	assert_int_equal(w->b.submits, 1);
	for (uint16_t i = 12; i < 18; i++) {
		w_blk(w, (uint16_t)(3 * i), VIRTIO_BLK_T_IN, 0, HDR + 0x100u * i, DATA, 512);
		w_avail(w, (uint16_t)(3 * i));
	}
	w_publish(w);
	for (unsigned i = 0; i < 3; i++)
		assert_true(vio_squeue_poll(w->q) > 0);
	assert_int_equal(w->q->in_flight, AT_ONCE - 1);
	assert_true(vio_squeue_arm(w->q)); /* and nobody sleeps on them */
}

static void a_queue_that_is_stopped_within_a_request_drops_the_rest(void **state)
{
	struct world *w = *state;

	fresh(w, VIO_PAYLOAD_DIRECT, true);
	w_blk(w, 0, VIRTIO_BLK_T_IN, 0, HDR, DATA, ONE);
	w_avail(w, 0);
	w_publish(w);
	assert_true(vio_squeue_poll(w->q) > 0);
	assert_int_equal(w->q->in_flight, 1);
	vio_store_release(&w->q->ctl, (uint8_t)VIO_SQ_STOP);
	w_run(w);
	assert_int_equal(w->q->in_flight, 0);
	assert_int_equal(w->q->stats.cpu_bytes, SHARE);
}

#define T(f) cmocka_unit_test_setup_teardown(f, w_setup, w_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(large_requests_are_moved_a_share_at_a_time),
		T(a_share_that_ends_within_a_segment_loses_no_byte),
		T(ranges_of_a_disk_in_memory_are_done_in_pieces),
		T(what_a_request_takes_beyond_the_share_is_paid_in_later_turns),
		T(reads_that_end_at_once_are_copied_out_a_share_at_a_time),
		T(requests_without_a_byte_cost_too),
		T(a_hold_ends_what_waits_for_its_share),
		T(what_waits_for_its_share_keeps_the_next_ones_in_the_ring),
		T(a_queue_that_is_stopped_within_a_request_drops_the_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
