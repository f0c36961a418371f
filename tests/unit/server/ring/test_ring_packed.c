/* SPDX-License-Identifier: BSD-3-Clause */
/* A packed ring's device side, at every level of ring access: chains across the wrap, lies, what a kick costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vq/packed.h"
#include "tests/unit/server/core/world.h"

static const enum vio_ring_access levels[] = {VIO_RING_COPY, VIO_RING_COPY_DELTA, VIO_RING_DIRECT};

static struct w_cfg cfg_of(enum vio_ring_access ring)
{
	return (struct w_cfg){
		.ring = ring,
		.payload = ring == VIO_RING_DIRECT ? VIO_PAYLOAD_DIRECT : VIO_PAYLOAD_RDMA,
		.notify = VIO_NOTIFY_CRQ,
		.size = 64,
		.event_idx = true,
		.indirect = true,
		.layout = 1ull << VIRTIO_F_RING_PACKED,
	};
}

/* A descriptor as it is, visible at once. */
static void put(struct world *w, uint64_t gla, uint32_t len, uint16_t id, unsigned flags)
{
	mock_packed_desc(&w->ring, w_at(w, gla).v, len, id, flags);
	mock_publish(&w->ring);
}

static void chain(struct world *w, uint16_t id, unsigned n)
{
	struct mock_seg seg[8];

	for (unsigned i = 0; i < n; i++)
		seg[i] = (struct mock_seg){w_at(w, W_BUF + 64 * i).v, 16, .dev_writes = false};
	mock_add(&w->ring, id, seg, n);
	mock_publish(&w->ring);
}

static unsigned rnd(unsigned *s, unsigned n)
{
	*s = *s * 1664525u + 1013904223u;
	return (*s >> 16) % n;
}

/* Chains of any length, given back in any order: 20,000 of them are some 900 times around the ring. */
static void chains_come_in_order_and_go_in_any_across_the_wrap(void **state)
{
	struct world *w = *state;

	for (unsigned l = 0; l < VIO_ARRAY_SIZE(levels); l++) {
		struct w_cfg cfg = cfg_of(levels[l]);
		struct vio_req *in[64], *out[VIO_BURST];
		unsigned n_in = 0, seed = 7, taken = 0, back = 0, made = 0;
		uint16_t fifo[64], f_head = 0, f_tail = 0;
		uint32_t id = 0;

		w_queue(w, &cfg);
		while (back < 20000) {
			unsigned n = 1 + rnd(&seed, 7), got;
			uint32_t len;

			while (made < 20000 && (uint16_t)(w->ring.next + n - w->ring.used) <= 64 &&
			       rnd(&seed, 4)) {
				for (id = rnd(&seed, 64); w->ring.held[id]; id = (id + 1) % 64)
					;
				chain(w, (uint16_t)id, n);
				fifo[f_head++ % 64] = (uint16_t)id;
				made++;
				n = 1 + rnd(&seed, 7);
			}
			got = w->q->ring->pop(w->q, out, 1 + rnd(&seed, VIO_BURST));
			assert_int_equal(w->q->fault, VIO_ST_OK);
			for (unsigned i = 0; i < got; i++) {
				assert_int_equal(out[i]->head, fifo[f_tail++ % 64]);
				assert_int_equal(out[i]->n_seg, w->ring.held[out[i]->head]);
				for (unsigned k = 0; k < out[i]->n_seg; k++)
					assert_int_equal(out[i]->seg[k].at.v,
							 w_at(w, W_BUF + 64 * k).v);
				in[n_in++] = out[i];
			}
			taken += got;
			n = n_in ? rnd(&seed, n_in < VIO_BURST ? n_in + 1 : VIO_BURST) : 0;
			for (unsigned i = 0; i < n; i++) { /* any of them, to the front */
				unsigned k = i + rnd(&seed, n_in - i);
				struct vio_req *r = in[k];

				in[k] = in[i];
				in[i] = r;
				r->used_len = r->head + 1000u;
			}
			if (n) {
				uint16_t want[VIO_BURST];

				for (unsigned i = 0; i < n; i++)
					want[i] = in[i]->head;
				w->q->ring->push(w->q, in, n);
				n_in -= n;
				memmove(in, in + n, n_in * sizeof(in[0]));
				for (unsigned i = 0; i < n; i++) {
					assert_true(w_used(w, &id, &len));
					assert_int_equal(id, want[i]);
					assert_int_equal(len, id + 1000u);
				}
				back += n;
			}
			assert_false(w_used(w, &id, &len));
		}
		assert_int_equal(taken, 20000);
	}
}

/* ---- lies ---- */

static void lie_id(struct world *w)
{
	put(w, W_BUF, 16, 64, 0);
}
static void lie_id_in_flight(struct world *w)
{
	put(w, W_BUF, 16, 60, 0);
}
static void lie_half_a_chain(struct world *w)
{
	put(w, W_BUF, 16, 0, VRING_DESC_F_NEXT);
}
static void lie_endless(struct world *w)
{
	for (unsigned i = 0; i < 63; i++)
		put(w, W_BUF, 16, 0, VRING_DESC_F_NEXT);
}
static void lie_zero_length(struct world *w)
{
	put(w, W_BUF, 0, 0, 0);
}
static void lie_order(struct world *w)
{
	put(w, W_BUF, 16, 0, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE);
	put(w, W_BUF, 16, 0, 0);
}
static void lie_table_length(struct world *w)
{
	put(w, W_BUF, 24, 0, VRING_DESC_F_INDIRECT);
}
static void lie_table_and_next(struct world *w)
{
	put(w, W_BUF, 16, 0, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT);
	put(w, W_BUF, 16, 0, 0);
}
static void lie_table_in_a_table(struct world *w)
{
	((struct vring_packed_desc *)(void *)(w->gmem + W_BUF))->flags =
		vio_le16(VRING_DESC_F_INDIRECT);
	put(w, W_BUF, 16, 0, VRING_DESC_F_INDIRECT);
}
static void lie_table_of_nothing(struct world *w)
{
	memset(w->gmem + W_BUF, 0, 16 * (VIO_MAX_SEGS + 1));
	put(w, W_BUF, 16 * (VIO_MAX_SEGS + 1), 0, VRING_DESC_F_INDIRECT);
}
static void lie_table_place(struct world *w)
{
	put(w, W_HOLE, 16, 0, VRING_DESC_F_INDIRECT);
}

static void a_guest_that_lies_has_its_queue_stopped_and_the_chain_before_it_served(void **state)
{
	static const struct {
		const char *what;
		void (*make)(struct world *w);
		uint8_t want;
	} t[] = {
		{"id out of range", lie_id, VIO_ST_DESC_HEAD},
		{"id in flight", lie_id_in_flight, VIO_ST_DESC_HEAD},
		{"half a chain", lie_half_a_chain, VIO_ST_DESC_CHAIN},
		{"endless chain", lie_endless, VIO_ST_DESC_CHAIN},
		{"zero length", lie_zero_length, VIO_ST_DESC_CHAIN},
		{"order", lie_order, VIO_ST_DESC_ORDER},
		{"table length", lie_table_length, VIO_ST_DESC_INDIRECT},
		{"table and next", lie_table_and_next, VIO_ST_DESC_INDIRECT},
		{"table in a table", lie_table_in_a_table, VIO_ST_DESC_INDIRECT},
		{"table of nothing", lie_table_of_nothing, VIO_ST_DESC_CHAIN},
		{"table outside", lie_table_place, VIO_ST_DESC_RANGE},
	};
	struct world *w = *state;

	for (unsigned l = 0; l < VIO_ARRAY_SIZE(levels); l++) {
		for (unsigned i = 0; i < VIO_ARRAY_SIZE(t); i++) {
			struct w_cfg cfg = cfg_of(levels[l]);
			struct vio_req *out[VIO_BURST];
			uint8_t want = t[i].want;

			w_queue(w, &cfg);
			chain(w, 60, 1);
			t[i].make(w);
			assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), 1);
			assert_int_equal(out[0]->head, 60);
			/* In a copy, what is not whole may be on its way: the next look says. */
			if (w->q->fault == VIO_ST_OK)
				assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), 0);
			if (want == VIO_ST_DESC_RANGE && cfg.payload == VIO_PAYLOAD_RDMA)
				want = VIO_ST_DESC_PERM;
			if (w->q->fault != want)
				fail_msg("%s, %s: fault %u, not %u", w->q->ring->name, t[i].what,
					 w->q->fault, want);
		}
	}
}

/* Buffers that were not given back are made available again, around the ring. */
static void more_than_the_ring_has_is_not_taken(void **state)
{
	struct world *w = *state;

	for (unsigned l = 0; l < VIO_ARRAY_SIZE(levels); l++) {
		struct w_cfg cfg = cfg_of(levels[l]);
		struct vio_req *out[VIO_BURST];

		w_queue(w, &cfg);
		for (unsigned i = 0; i < 10; i++)
			chain(w, (uint16_t)i, 6);
		assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), 10);
		chain(w, 20, 6);
		assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), 0);
		assert_int_equal(w->q->fault, VIO_ST_AVAIL_IDX);
	}
}

static void a_chain_rewritten_after_pop_has_no_effect(void **state)
{
	struct world *w = *state;

	for (unsigned l = 0; l < VIO_ARRAY_SIZE(levels); l++) {
		struct w_cfg cfg = cfg_of(levels[l]);
		struct vio_req *out[VIO_BURST];

		w_queue(w, &cfg);
		chain(w, 3, 2);
		assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), 1);
		memset(w->gmem + W_USED, 0xff, 64);
		assert_int_equal(out[0]->n_seg, 2);
		assert_int_equal(out[0]->seg[1].at.v, w_at(w, W_BUF + 64).v);
		assert_int_equal(out[0]->seg[1].len, 16);
	}
}

/* ---- chains of one descriptor ---- */

static const struct vio_dev_ops reads = {.plain_min = 8, .plain_max = 64};

static void plain_chains_are_taken_in_bursts_and_others_are_left_to_pop(void **state)
{
	struct world *w = *state;

	for (unsigned l = 0; l < VIO_ARRAY_SIZE(levels); l++) {
		struct w_cfg cfg = cfg_of(levels[l]);
		struct vio_plain v[VIO_BURST];
		struct vio_req *out[VIO_BURST];
		uint32_t lens[VIO_BURST], len, id;
		bool rest;

		w_queue(w, &cfg);
		w->q->dev = &reads;
		for (unsigned round = 0; round < 40; round++) {
			for (unsigned i = 0; i < 5; i++)
				chain(w, (uint16_t)(round + i), 1);
			if (round % 2)
				chain(w, (uint16_t)(round + 5), 3);
			assert_int_equal(w->q->ring->pop_plain(w->q, v, VIO_BURST, &rest), 5);
			assert_int_equal(rest, round % 2);
			for (unsigned i = 0; i < 5; i++) {
				assert_int_equal(v[i].head, round + i);
				assert_memory_equal(v[i].va, w->gmem + W_BUF, 16);
				lens[i] = i;
			}
			if (w->q->payload->plain_put)
				w->q->payload->plain_put(w->q, v, 5);
			w->q->ring->push_plain(w->q, v, lens, 5);
			for (unsigned i = 0; i < 5; i++) {
				assert_true(w_used(w, &id, &len));
				assert_int_equal(id, round + i);
				assert_int_equal(len, i);
			}
			if (round % 2) {
				assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), 1);
				assert_int_equal(out[0]->n_seg, 3);
				w->q->ring->push(w->q, out, 1);
				assert_true(w_used(w, &id, &len));
			}
			assert_int_equal(w->q->ring->pop_plain(w->q, v, VIO_BURST, &rest), 0);
			assert_int_equal(w->q->fault, VIO_ST_OK);
		}
	}
}

/* ---- what it costs ---- */

static void a_kick_of_a_copied_packed_ring_moves_16n_16e_16d_bytes(void **state)
{
	struct world *w = *state;
	struct w_cfg cfg = cfg_of(VIO_RING_COPY);
	struct vio_req *out[VIO_BURST];
	uint64_t before;

	for (unsigned n = 1; n <= 4; n += 3) {
		w_queue(w, &cfg);
		before = w_rdma_bytes(w);
		for (unsigned i = 0; i < n; i++)
			chain(w, (uint16_t)i, 3);
		assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), n);
		w->q->ring->push(w->q, out, n);
		/* E: found; D: from the first used descriptor to the last. One chain is not copied again. */
		assert_int_equal(w_rdma_bytes(w) - before,
				 16 * 64 + (n > 1 ? 16 * 3 * n : 0) + 16 * (3 * (n - 1) + 1));
	}
}

/* ---- notification ---- */

static void wishes_are_met_as_by_counting(void **state)
{
	(void)state;
	for (unsigned size = 4; size <= 32768; size *= 8) {
		for (unsigned k = 0; k < 20000; k++) {
			unsigned seed = k * 2654435761u, n = 1 + rnd(&seed, size);
			const uint16_t old = (uint16_t)(rnd(&seed, 32768) * 2 + rnd(&seed, 2)),
				       now = (uint16_t)(old + n);
			const uint16_t event = (uint16_t)(old + rnd(&seed, 2 * size));
			bool crossed = false;

			for (unsigned i = 0; i < n && !crossed; i++)
				crossed = (((unsigned)old + i - event) & (2 * size - 1)) == 0;
			assert_int_equal(vio_packed_wants(vio_packed_ask_at(event, (uint16_t)size),
							  now, old, (uint16_t)size, true),
					 crossed);
			assert_true(
				vio_packed_wants(vio_packed_ask(), now, old, (uint16_t)size, true));
			assert_false(vio_packed_wants(vio_packed_silence(), now, old,
						      (uint16_t)size, true));
		}
	}
}

static void arming_looks_again_and_parking_asks_for_silence(void **state)
{
	struct world *w = *state;

	for (unsigned l = 0; l < VIO_ARRAY_SIZE(levels); l++) {
		for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
			struct w_cfg cfg = cfg_of(levels[l]);
			uint32_t *ours = (void *)(w->gmem + W_EVENT);
			struct vio_req *out[VIO_BURST];

			cfg.event_idx = event_idx;
			w_queue(w, &cfg);
			w->q->ring->park(w->q);
			assert_int_equal(*ours, vio_packed_silence());
			assert_false(w->q->ring->arm(w->q));
			assert_true(vio_packed_wants(*ours, 1, 0, 64, event_idx));
			chain(w, 1, 1);
			assert_true(w->q->ring->arm(w->q));
			assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), 1);
			assert_false(w->q->ring->arm(w->q));
			if (event_idx)
				assert_false(vio_packed_wants(*ours, 1, 0, 64,
							      true)); /* it has passed */
		}
	}
}

static void a_ring_that_may_not_be_written_is_refused_at_attach(void **state)
{
	struct world *w = *state;
	struct w_cfg cfg = cfg_of(VIO_RING_DIRECT);
	struct vio_err err = {{0}};

	w_queue(w, &cfg);
	w->q->ring->detach(w->q);
	w->q->place.desc = w_at(w, W_DESC); /* read-only */
	assert_int_equal(w->q->ring->attach(w->q, &err), -EFAULT);
	assert_int_equal(w->q->fault, VIO_ST_QUEUE);
	w->q->fault = VIO_ST_OK;
	w->q->place.desc = w_at(w, W_USED);
	assert_int_equal(w->q->ring->attach(w->q, &err), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, w_setup, w_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(chains_come_in_order_and_go_in_any_across_the_wrap),
		T(a_guest_that_lies_has_its_queue_stopped_and_the_chain_before_it_served),
		T(more_than_the_ring_has_is_not_taken),
		T(a_chain_rewritten_after_pop_has_no_effect),
		T(plain_chains_are_taken_in_bursts_and_others_are_left_to_pop),
		T(a_kick_of_a_copied_packed_ring_moves_16n_16e_16d_bytes),
		cmocka_unit_test(wishes_are_met_as_by_counting),
		T(arming_looks_again_and_parking_asks_for_silence),
		T(a_ring_that_may_not_be_written_is_refused_at_attach),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
