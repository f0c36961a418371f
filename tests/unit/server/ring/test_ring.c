/* SPDX-License-Identifier: BSD-3-Clause */
/* Every level of ring access over the same hand-driven guest ring. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vio/notify.h"
#include "tests/unit/server/core/world.h"

static const enum vio_ring_access levels[] = {VIO_RING_COPY, VIO_RING_COPY_DELTA, VIO_RING_DIRECT};

static struct w_cfg cfg_of(enum vio_ring_access ring)
{
	return (struct w_cfg){
		.ring = ring,
		.payload = ring == VIO_RING_DIRECT ? VIO_PAYLOAD_DIRECT : VIO_PAYLOAD_RDMA,
		.notify = VIO_NOTIFY_POLL,
		.size = 64,
		.event_idx = true,
		.indirect = true,
	};
}

/* ------------------------------------------------------------------------- parity ---- */

/* What pop made of the guest's chains, and what push wrote: equal for all levels. */
struct record {
	uint8_t bytes[1 << 20];
	size_t n;
};

static void put(struct record *rec, const void *p, size_t n)
{
	assert_true(rec->n + n <= sizeof(rec->bytes));
	memcpy(rec->bytes + rec->n, p, n);
	rec->n += n;
}

static void put_req(struct record *rec, const struct world *w, const struct vio_req *r)
{
	uint16_t shape[3] = {r->head, r->n_seg, r->n_readable};

	assert_int_equal(r->state, VIO_REQ_POPPED);
	assert_ptr_equal(r, &w->q->req[r->head]);
	put(rec, shape, sizeof(shape));
	for (unsigned i = 0; i < r->n_seg; i++) {
		put(rec, &r->seg[i].at.v, 8);
		put(rec, &r->seg[i].len, 4);
		put(rec, &r->seg[i].dev_writes, 1);
	}
}

/* A random chain from the free descriptors; sometimes indirect. False when none are left. */
static bool random_chain(struct world *w, uint8_t *busy, unsigned *seed, uint16_t *head)
{
	uint16_t pick[VIO_MAX_SEGS];
	unsigned want = 1 + (unsigned)rand_r(seed) % (rand_r(seed) % 4 ? 3 : VIO_MAX_SEGS), got = 0,
		 readable;
	unsigned from = (unsigned)rand_r(seed) % w->cfg.size;
	bool indirect = rand_r(seed) % 4 == 0;

	for (unsigned i = 0; i < w->cfg.size && got < (indirect ? 1 : want); i++) {
		uint16_t d = (uint16_t)((from + i * (i % 3 ? 1 : 5)) % w->cfg.size);
		bool dup = busy[d];

		for (unsigned k = 0; k < got; k++)
			dup |= pick[k] == d;
		if (!dup)
			pick[got++] = d;
	}
	if (got == 0)
		return false;
	if (!indirect)
		want = got;
	readable = (unsigned)rand_r(seed) % (want + 1);
	for (unsigned i = 0; i < want; i++) {
		unsigned flags = (i < readable ? 0u : VRING_DESC_F_WRITE) |
				 (i + 1 < want ? VRING_DESC_F_NEXT : 0u);
		uint64_t at = W_BUF + 0x10000 + (unsigned)rand_r(seed) % 0x10000;
		uint32_t len = 1 + (uint32_t)rand_r(seed) % 5000;

		if (indirect) {
			struct vring_desc *t = (void *)(w->gmem + W_BUF + 0x400ull * pick[0]);

			t[i] = (struct vring_desc){vio_le64(w_at(w, at).v), vio_le32(len),
						   vio_le16((uint16_t)flags),
						   vio_le16((uint16_t)(i + 1))};
		} else {
			w_desc(w, pick[i], at, len, flags, i + 1 < want ? pick[i + 1] : 0xffff);
		}
	}
	if (indirect)
		w_desc(w, pick[0], W_BUF + 0x400ull * pick[0], want * 16, VRING_DESC_F_INDIRECT,
		       0xffff);
	for (unsigned i = 0; i < got; i++)
		busy[pick[i]] = (uint8_t)(1 + pick[0]); /* whose chain */
	*head = pick[0];
	return true;
}

static void run_trace(struct world *w, const struct w_cfg *cfg, struct record *rec)
{
	uint8_t busy[64] = {0};
	struct vio_req *live[64];
	unsigned seed = 42, n_live = 0;

	w_queue(w, cfg);
	for (unsigned round = 0; round < 300; round++) {
		unsigned n = (unsigned)rand_r(&seed) % 24, back;
		struct vio_req *out[VIO_BURST];
		uint16_t head;

		for (unsigned i = 0; i < n && random_chain(w, busy, &seed, &head); i++)
			w_avail(w, head);
		w_publish(w);
		for (;;) {
			unsigned got = w->q->ring->pop(w->q, out, 1 + round % VIO_BURST);

			assert_int_equal(w->q->fault, VIO_ST_OK);
			if (got == 0)
				break;
			for (unsigned i = 0; i < got; i++) {
				put_req(rec, w, out[i]);
				live[n_live++] = out[i];
			}
		}
		back = n_live ? 1 + (unsigned)rand_r(&seed) % n_live : 0;
		for (unsigned i = 0; i < back; i++) {
			live[i]->used_len = live[i]->head * 3u + round;
			for (unsigned d = 0; d < 64; d++)
				busy[d] = busy[d] == live[i]->head + 1 ? 0 : busy[d];
		}
		if (back) {
			bool wanted = w->q->ring->push(w->q, live, back);

			put(rec, &wanted, sizeof(wanted));
		}
		memmove(live, live + back, (n_live - back) * sizeof(live[0]));
		n_live -= back;
		/* The guest asks to be told at some index, now and then. */
		if (round % 3 == 0)
			w->avail->ring[w->cfg.size] =
				vio_le16((uint16_t)(vio_le16(w->used->idx) + round % 5));
		put(rec, &w->used->idx, 2);
		put(rec, w->used->ring, 8 * 64);
	}
}

static void all_levels_pop_the_same_requests_and_write_the_same_used_ring(void **state)
{
	struct record *a = calloc(1, sizeof(*a)), *b = calloc(1, sizeof(*b));

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(levels); i++) {
		struct w_cfg cfg = cfg_of(levels[i]);
		struct record *rec = i ? b : a;

		cfg.start = 65500; /* the indices wrap during the run */
		rec->n = 0;
		run_trace(*state, &cfg, rec);
		if (i == 0)
			continue;
		assert_int_equal(a->n, b->n);
		assert_memory_equal(a->bytes, b->bytes, a->n);
	}
	assert_true(a->n > 100000);
	free(a);
	free(b);
}

/* ------------------------------------------------------------------------- counts ---- */

static void one_request(struct world *w, uint16_t head)
{
	struct vio_req *out[VIO_BURST];

	w_desc(w, head, W_BUF, 16, VRING_DESC_F_NEXT, head + 1u);
	w_desc(w, head + 1u, W_BUF + 16, 1, VRING_DESC_F_WRITE, 0);
	w_avail(w, head);
	w_publish(w);
	assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), 1);
	out[0]->used_len = 1;
	w->q->ring->push(w->q, out, 1);
}

static void level_copy_moves_26n_plus_12_bytes_in_5_calls_a_kick(void **state)
{
	struct world *w = *state;

	for (uint16_t size = 4; size <= 1024; size = (uint16_t)(size * 4)) {
		struct w_cfg cfg = cfg_of(VIO_RING_COPY);
		uint64_t bytes, copies, reads, writes;

		cfg.notify = VIO_NOTIFY_CRQ;
		cfg.size = size;
		w_queue(w, &cfg);
		for (unsigned i = 0; i < 5; i++) {
			bytes = w_rdma_bytes(w);
			copies = w_hcalls(w, H_COPY_RDMA);
			reads = w_hcalls(w, H_READ_RDMA);
			writes = w_hcalls(w, H_WRITE_RDMA);
			one_request(w, 0);
			assert_int_equal(w_rdma_bytes(w) - bytes, 26 * size + 12);
			assert_int_equal(w_hcalls(w, H_COPY_RDMA) - copies, 3);
			assert_int_equal(w_hcalls(w, H_READ_RDMA) - reads, 1);
			assert_int_equal(w_hcalls(w, H_WRITE_RDMA) - writes, 1);
		}
	}
}

static void level_copy_does_not_copy_when_the_index_has_not_moved(void **state)
{
	struct world *w = *state;
	struct w_cfg cfg = cfg_of(VIO_RING_COPY);
	struct vio_req *out[VIO_BURST];
	uint64_t bytes;

	w_queue(w, &cfg);
	bytes = w_rdma_bytes(w);
	assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), 0);
	assert_int_equal(w_rdma_bytes(w) - bytes, 4);
}

static void level_copy_serves_more_than_a_burst_from_one_copy(void **state)
{
	struct world *w = *state;
	struct w_cfg cfg = cfg_of(VIO_RING_COPY);
	struct vio_req *out[VIO_BURST];
	uint64_t bytes;

	w_queue(w, &cfg);
	for (uint16_t i = 0; i < 64; i++) {
		w_desc(w, i, W_BUF, 16, 0, 0);
		w_avail(w, i);
	}
	w_publish(w);
	bytes = w_rdma_bytes(w);
	assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), VIO_BURST);
	assert_true(w->q->more);
	assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), VIO_BURST);
	assert_false(w->q->more);
	assert_int_equal(w_rdma_bytes(w) - bytes, 4 + 2 * 64 + 2 + 16 * 64);
}

static void level_copy_delta_moves_only_what_is_new(void **state)
{
	struct world *w = *state;
	struct w_cfg cfg = cfg_of(VIO_RING_COPY_DELTA);
	uint64_t bytes, copies;

	cfg.notify = VIO_NOTIFY_CRQ;
	cfg.size = 256;
	w_queue(w, &cfg);
	bytes = w_rdma_bytes(w);
	copies = w_hcalls(w, H_COPY_RDMA);
	one_request(w, 8);
	/*
	 * index, one entry, one line of descriptors, one used element, flags and index; all through
	 * registers
	 */
	assert_int_equal(w_rdma_bytes(w) - bytes, 4 + 2 + 64 + 8 + 4);
	assert_int_equal(w_hcalls(w, H_COPY_RDMA), copies);
}

static void level_copy_delta_copies_a_dense_span_in_one_call(void **state)
{
	struct world *w = *state;
	struct w_cfg cfg = cfg_of(VIO_RING_COPY_DELTA);
	struct vio_req *out[VIO_BURST];
	uint64_t bytes, calls;

	w_queue(w, &cfg);
	for (uint16_t i = 0; i < 32; i = (uint16_t)(i + 4)) {
		w_desc(w, i, W_BUF, 16, VRING_DESC_F_NEXT, i + 1u);
		w_desc(w, i + 1u, W_BUF, 16, 0, 0);
		w_avail(w, i);
	}
	w_publish(w);
	bytes = w_rdma_bytes(w);
	calls = w_hcalls(w, H_COPY_RDMA) + w_hcalls(w, H_READ_RDMA);
	assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), 8);
	assert_int_equal(w_rdma_bytes(w) - bytes, 4 + 2 * 8 + 16 * 32);
	assert_int_equal(w_hcalls(w, H_COPY_RDMA) + w_hcalls(w, H_READ_RDMA) - calls, 3);
}

static void level_copy_delta_does_not_copy_what_lies_between_distant_heads(void **state)
{
	struct world *w = *state;
	struct w_cfg cfg = cfg_of(VIO_RING_COPY_DELTA);
	struct vio_req *out[VIO_BURST];
	uint64_t bytes, copies;

	cfg.size = 256;
	w_queue(w, &cfg);
	for (uint16_t i = 0; i < 256; i = (uint16_t)(i + 128)) {
		w_desc(w, i, W_BUF, 16, 0, 0);
		w_avail(w, i);
	}
	w_publish(w);
	bytes = w_rdma_bytes(w);
	copies = w_hcalls(w, H_COPY_RDMA);
	assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), 2);
	assert_int_equal(w_rdma_bytes(w) - bytes, 4 + 2 * 2 + 2 * 64);
	assert_int_equal(w_hcalls(w, H_COPY_RDMA), copies);
}

static void level_direct_makes_no_call(void **state)
{
	struct world *w = *state;
	struct w_cfg cfg = cfg_of(VIO_RING_DIRECT);
	uint64_t before = 0, after = 0;

	w_queue(w, &cfg);
	for (unsigned i = 0; i < PHYP_N_OPS; i++)
		before += phyp_vcpu_counters(w->sv)->hcall[i];
	for (unsigned i = 0; i < 100; i++)
		one_request(w, (uint16_t)(i % 32));
	w->q->ring->arm(w->q);
	w->q->ring->park(w->q);
	for (unsigned i = 0; i < PHYP_N_OPS; i++)
		after += phyp_vcpu_counters(w->sv)->hcall[i];
	assert_int_equal(before, after);
}

/* ------------------------------------------------------------------- notification ---- */

static void arming_sees_what_was_published_and_asks_for_the_next(void **state)
{
	struct world *w = *state;

	for (unsigned i = 0; i < 2 * VIO_ARRAY_SIZE(levels); i++) {
		struct w_cfg cfg = cfg_of(levels[i / 2]);
		const uint16_t *event;
		struct vio_req *out[VIO_BURST];

		cfg.event_idx = i % 2;
		cfg.start = 65533;
		w_queue(w, &cfg);
		event = (const uint16_t *)(const void *)&w->used->ring[cfg.size];
		w->q->ring->park(w->q);
		/* While parked, a publish needs no kick. */
		if (cfg.event_idx)
			assert_false(vring_need_event(vio_le16(*event), (uint16_t)(cfg.start + 1),
						      cfg.start));
		else
			assert_int_equal(vio_le16(w->used->flags), VRING_USED_F_NO_NOTIFY);
		assert_false(w->q->ring->arm(w->q));
		if (cfg.event_idx)
			assert_true(vring_need_event(vio_le16(*event), (uint16_t)(cfg.start + 1),
						     cfg.start));
		else
			assert_int_equal(vio_le16(w->used->flags), 0);
		for (uint16_t k = 0; k < 5; k++) { /* over the wrap */
			w_desc(w, k, W_BUF, 16, 0, 0);
			w_avail(w, k);
			w_publish(w);
			assert_true(w->q->ring->arm(w->q));
			assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), 1);
			w->q->ring->push(w->q, out, 1);
			assert_false(w->q->ring->arm(w->q));
		}
	}
}

static void push_says_whether_the_guest_wants_to_be_told(void **state)
{
	struct world *w = *state;

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(levels); i++) {
		struct w_cfg cfg = cfg_of(levels[i]);
		struct vio_req *out[VIO_BURST];
		static const struct {
			uint16_t event; /* relative to the used index before */
			bool want;
		} cases[] = {{0, true},  {1, true},       {2, true},
			     {3, false}, {0x8000, false}, {0xffff, false}};

		for (unsigned k = 0; k < VIO_ARRAY_SIZE(cases); k++) {
			cfg.event_idx = true;
			cfg.start = 65534;
			w_queue(w, &cfg);
			w->avail->ring[cfg.size] = vio_le16((uint16_t)(cfg.start + cases[k].event));
			for (uint16_t d = 0; d < 3; d++) {
				w_desc(w, d, W_BUF, 16, 0, 0);
				w_avail(w, d);
			}
			w_publish(w);
			assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), 3);
			assert_int_equal(w->q->ring->push(w->q, out, 3), cases[k].want);
		}
		for (unsigned flag = 0; flag < 2; flag++) {
			cfg.event_idx = false;
			w_queue(w, &cfg);
			w->avail->flags = vio_le16(flag ? VRING_AVAIL_F_NO_INTERRUPT : 0);
			w_desc(w, 0, W_BUF, 16, 0, 0);
			w_avail(w, 0);
			w_publish(w);
			assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), 1);
			assert_int_equal(w->q->ring->push(w->q, out, 1), !flag);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_levels_pop_the_same_requests_and_write_the_same_used_ring),
		cmocka_unit_test(level_copy_moves_26n_plus_12_bytes_in_5_calls_a_kick),
		cmocka_unit_test(level_copy_does_not_copy_when_the_index_has_not_moved),
		cmocka_unit_test(level_copy_serves_more_than_a_burst_from_one_copy),
		cmocka_unit_test(level_copy_delta_moves_only_what_is_new),
		cmocka_unit_test(level_copy_delta_copies_a_dense_span_in_one_call),
		cmocka_unit_test(level_copy_delta_does_not_copy_what_lies_between_distant_heads),
		cmocka_unit_test(level_direct_makes_no_call),
		cmocka_unit_test(arming_sees_what_was_published_and_asks_for_the_next),
		cmocka_unit_test(push_says_whether_the_guest_wants_to_be_told),
	};

	return cmocka_run_group_tests_name("server/ring", tests, w_setup, w_teardown);
}
