/* SPDX-License-Identifier: BSD-3-Clause */
/* VIRTIO_F_IN_ORDER, the device's side: both layouts at every level of ring access, over backends that finish in any order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>

#include "tests/unit/server/core/world.h"

#define SIZE 64u

static const enum vio_ring_access levels[] = {VIO_RING_COPY, VIO_RING_COPY_DELTA, VIO_RING_DIRECT};

static struct w_cfg cfg_of(enum vio_ring_access ring, bool packed)
{
	return (struct w_cfg){
		.ring = ring,
		.payload = ring == VIO_RING_DIRECT ? VIO_PAYLOAD_DIRECT : VIO_PAYLOAD_RDMA,
		.notify = VIO_NOTIFY_CRQ,
		.size = SIZE,
		.event_idx = true,
		.layout = 1ull << VIRTIO_F_IN_ORDER | (packed ? 1ull << VIRTIO_F_RING_PACKED : 0),
	};
}

/* The test, on each layout and access. */
static void each(void **state, void (*test)(struct world *w, const struct w_cfg *cfg))
{
	for (unsigned l = 0; l < VIO_ARRAY_SIZE(levels); l++)
		for (unsigned packed = 0; packed < 2; packed++) {
			struct w_cfg cfg = cfg_of(levels[l], packed);

			w_queue(*state, &cfg);
			w_notifications(*state);
			test(*state, &cfg);
			assert_int_equal(((struct world *)*state)->q->fault, VIO_ST_OK);
		}
}

/* A chain of `n` segments of 16 bytes, of which the device may write the last `w`. */
static void chain(struct world *w, uint16_t id, unsigned n, unsigned writable)
{
	struct mock_seg seg[8];

	for (unsigned i = 0; i < n; i++)
		seg[i] = (struct mock_seg){w_at(w, W_BUF + 64 * i).v, 16,
					   .dev_writes = i + writable >= n};
	mock_add(&w->ring, id, seg, n);
}

static unsigned rnd(unsigned *s, unsigned n)
{
	*s = *s * 1664525u + 1013904223u;
	return (*s >> 16) % n;
}

/* Used elements that the driver finds now, and the chains that they stand for. */
static unsigned elements(struct world *w, unsigned *chains)
{
	uint32_t id, len;
	unsigned n = 0, k;

	for (*chains = 0; (k = mock_used(&w->ring, &id, &len)) > 0; n++)
		*chains += k;
	return n;
}

static void done_early(struct world *w, const struct w_cfg *cfg)
{
	struct vio_req *r[VIO_BURST], *last;
	unsigned n;

	(void)cfg;
	for (unsigned i = 0; i < 10; i++)
		chain(w, (uint16_t)(3 * i), 3, 1);
	mock_publish(&w->ring);
	assert_int_equal(w->q->ring->pop(w->q, r, VIO_BURST), 10);
	for (unsigned i = 0; i < 10; i++)
		r[i]->used_len = 16;
	/* All but the first, backwards, one at a time: nothing may be seen. */
	for (unsigned i = 9; i > 0; i--) {
		const uint16_t used = w->q->used_idx;

		last = r[i];
		assert_false(w->q->ring->push(w->q, &last, 1));
		assert_int_equal(w->q->used_idx, used);
		assert_int_equal(elements(w, &n), 0);
	}
	w->q->ring->push(w->q, r, 1);
	assert_int_equal(elements(w, &n), 1); /* one element for ten chains */
	assert_int_equal(n, 10);
}

static void what_is_done_early_is_held_back_and_goes_with_one_element(void **state)
{
	each(state, done_early);
}

static void any_order(struct world *w, const struct w_cfg *cfg)
{
	struct vio_req *in[SIZE], *out[VIO_BURST];
	uint32_t want[SIZE];
	bool given[SIZE] = {false};
	unsigned n_in = 0, seed = 5, back = 0, made = 0, saved = 0;
	uint16_t id = 0;

	(void)cfg;
	while (back < 20000) {
		unsigned n = 1 + rnd(&seed, 7), got;
		uint32_t used, len;

		/* In the order of the table; the mock has a name for each chain outstanding. */
		while (made < 20000 && w->ring.held[id] == 0 && rnd(&seed, 4) &&
		       (!w->ring.packed || (uint16_t)(w->ring.next + n - w->ring.used) <= SIZE)) {
			n = w->ring.packed ? n : 1;
			chain(w, id, n, rnd(&seed, n + 1));
			id = (uint16_t)((id + 1) % SIZE);
			made++;
			n = 1 + rnd(&seed, 7);
		}
		mock_publish(&w->ring);
		got = w->q->ring->pop(w->q, out, 1 + rnd(&seed, VIO_BURST));
		for (unsigned i = 0; i < got; i++) {
			struct vio_req *r = out[i];

			/* Mostly all that the device may write; else it must be told by an element. */
			r->used_len = 16u * (r->n_seg - r->n_readable);
			if (r->used_len > 0 && rnd(&seed, 4) == 0)
				r->used_len -= 1 + rnd(&seed, r->used_len);
			want[r->head] = r->used_len;
			given[r->head] = r->used_len == 16u * (r->n_seg - r->n_readable);
			in[n_in++] = r;
		}
		n = n_in ? rnd(&seed, n_in < VIO_BURST ? n_in + 1 : VIO_BURST) : 0;
		for (unsigned i = 0; i < n; i++) {
			unsigned k = i + rnd(&seed, n_in - i);
			struct vio_req *r = in[k];

			in[k] = in[i];
			in[i] = r;
		}
		if (n > 0)
			w->q->ring->push(w->q, in, n);
		n_in -= n;
		memmove(in, in + n, n_in * sizeof(in[0]));
		for (;;) {
			const uint16_t first = w->ring.out;
			unsigned k = mock_used(&w->ring, &used, &len);

			if (k == 0)
				break;
			assert_int_equal(len, want[used]);
			for (unsigned i = 0; i + 1 < k; i++)
				assert_true(given[w->ring.order[(uint16_t)(first + i) % MOCK_MAX]]);
			back += k;
			saved += k - 1;
		}
		assert_int_equal(w->q->fault, VIO_ST_OK);
	}
	assert_true(saved > 2000);
}

/* The mock ends the test if anything comes out of order. Some 300 to 900 times around. */
static void chains_done_in_any_order_go_in_the_order_in_which_they_came(void **state)
{
	each(state, any_order);
}

static void short_one(struct world *w, const struct w_cfg *cfg)
{
	struct vio_req *r[VIO_BURST];
	uint32_t id, len;

	(void)cfg;
	for (unsigned i = 0; i < 4; i++)
		chain(w, (uint16_t)(2 * i), 2, 1);
	mock_publish(&w->ring);
	assert_int_equal(w->q->ring->pop(w->q, r, VIO_BURST), 4);
	for (unsigned i = 0; i < 4; i++)
		r[i]->used_len = i == 1 ? 0 : 16;
	w->q->ring->push(w->q, r, 4);
	assert_int_equal(mock_used(&w->ring, &id, &len), 2);
	assert_int_equal(id, 2);
	assert_int_equal(len, 0);
	assert_int_equal(mock_used(&w->ring, &id, &len), 2);
	assert_int_equal(id, 6);
	assert_int_equal(len, 16);
}

/* VIRTIO 1.2, 2.7.9: a chain without an element is taken for used completely. */
static void a_chain_that_was_not_used_completely_has_an_element(void **state)
{
	each(state, short_one);
}

static const struct vio_dev_ops reads = {.plain_min = 8, .plain_max = 64};
static const struct vio_dev_ops writes = {
	.plain_min = 8, .plain_max = 64, .plain_flags = VRING_DESC_F_WRITE};

static void plain(struct world *w, const struct w_cfg *cfg)
{
	struct vio_plain v[VIO_BURST];
	unsigned n, first, second;
	uint16_t id = 0;
	bool rest;

	(void)cfg;
	for (unsigned round = 0; round < 50; round++) {
		uint32_t lens[8];

		w->q->dev = round % 2 ? &writes : &reads;
		for (unsigned i = 0; i < 8; i++) {
			chain(w, id, 1, round % 2);
			lens[i] = round % 2 ? 16 : 0;
			id = (uint16_t)((id + 1) % SIZE);
		}
		lens[2] = round % 2 ? 9 : 0;
		mock_publish(&w->ring);
		assert_int_equal(w->q->ring->pop_plain(w->q, v, VIO_BURST, &rest), 8);
		if (w->q->payload->plain_put && round % 2 == 0)
			w->q->payload->plain_put(w->q, v, 8);
		w->q->ring->push_plain(w->q, v + 4, lens + 4, 4);
		assert_int_equal(elements(w, &n), 0);
		w->q->ring->push_plain(w->q, v, round % 2 ? lens : NULL, 4);
		first = elements(w, &second);
		assert_int_equal(first, round % 2 ? 2 : 1);
		assert_int_equal(second, 8);
	}
}

static void chains_of_one_descriptor_are_held_back_too(void **state)
{
	each(state, plain);
}

/* ---- through a whole turn, with a disk that waits ---- */

static void request(struct world *w, uint16_t id, uint32_t type)
{
	const uint64_t hdr = W_BUF + 0x100ull * id;
	const struct virtio_blk_outhdr h = {.type = vio_le32(type)};
	const struct mock_seg seg[3] = {
		{w_at(w, hdr).v, sizeof(h), .dev_writes = false},
		{w_at(w, W_BUF + 0x10000).v, 512, .dev_writes = type == VIRTIO_BLK_T_IN},
		{w_at(w, hdr + sizeof(h)).v, 1, .dev_writes = true},
	};

	memcpy(w->gmem + hdr, &h, sizeof(h));
	w->gmem[hdr + sizeof(h)] = 0xee;
	mock_add(&w->ring, id, seg, 3);
	mock_publish(&w->ring);
	w_kick(w);
}

static uint8_t status_of(const struct world *w, uint16_t id)
{
	return w->gmem[W_BUF + 0x100ull * id + sizeof(struct virtio_blk_outhdr)];
}

/* The first one waits in the disk, the others are done. */
static void one_waits(struct world *w)
{
	w->b.async = true;
	request(w, 0, VIRTIO_BLK_T_OUT);
	w_run(w);
	w->b.n_held--; /* the disk keeps the first one to itself, and is quick with others */
	w->b.async = false;
	for (uint16_t i = 1; i < 5; i++)
		request(w, (uint16_t)(3 * i), VIRTIO_BLK_T_OUT);
	w_run(w);
}

static void held_back(struct world *w, const struct w_cfg *cfg)
{
	unsigned n;

	(void)cfg;
	one_waits(w);
	assert_int_equal(status_of(w, 12), VIRTIO_BLK_S_OK);
	assert_int_equal(w->q->in_flight, 1); /* what is held back is not in flight */
	assert_int_equal(elements(w, &n), 0);
	assert_int_equal(w_notifications(w), 0); /* there is nothing to be told */
	w->b.held[w->b.n_held++] = &w->q->req[0].io;
	w_run(w);
	assert_int_equal(w->q->in_flight, 0);
	assert_int_equal(elements(w, &n), 1);
	assert_int_equal(n, 5);
	assert_int_equal(w_notifications(w), 1);
	assert_int_equal(w->q->stats.requests, 5);
}

static void a_guest_is_not_told_of_what_is_held_back(void **state)
{
	each(state, held_back);
}

static void stopped(struct world *w, const struct w_cfg *cfg)
{
	const uint16_t used = w->q->used_idx;
	unsigned n;

	one_waits(w);
	vio_store_release(&w->q->ctl, VIO_SQ_STOP);
	w->b.held[w->b.n_held++] = &w->q->req[0].io;
	w_run(w);
	assert_int_equal(w->q->in_flight, 0);
	assert_int_equal(w->q->used_idx, used); /* a stopped queue touches nothing of the guest */
	assert_int_equal(elements(w, &n), 0);
	w_queue(w, cfg); /* and begins anew, with nothing of before */
	w_notifications(w);
	request(w, 0, VIRTIO_BLK_T_IN);
	w_run(w);
	assert_int_equal(elements(w, &n), 1);
	assert_int_equal(n, 1);
}

static void a_reset_forgets_what_is_held_back(void **state)
{
	each(state, stopped);
}

static void a_head_that_is_held_back_can_t_come_again(void **state)
{
	struct world *w = *state;

	for (unsigned l = 0; l < VIO_ARRAY_SIZE(levels); l++)
		for (unsigned packed = 0; packed < 2; packed++) {
			struct w_cfg cfg = cfg_of(levels[l], packed);

			w_queue(w, &cfg);
			one_waits(w);
			w->ring.held[3] = 0; /* the driver lies */
			request(w, 3, VIRTIO_BLK_T_OUT);
			w_run(w);
			assert_int_equal(w->q->fault, VIO_ST_DESC_HEAD);
		}
}

/* ---- what a kick costs ---- */

/*
 * Bytes by the table of docs/architecture.md, section 4: `k` requests of three descriptors on one kick, of which each is used completely.
 * Counted is what pop and push of a ring move; there is no payload in it.
 */
static uint64_t table(enum vio_ring_access ring, uint64_t layout, uint64_t n, uint64_t k)
{
	const bool packed = layout >> VIRTIO_F_RING_PACKED & 1,
		   in_order = layout >> VIRTIO_F_IN_ORDER & 1;
	const uint64_t e = 3 * k, d = in_order ? 1 : 3 * (k - 1) + 1, u = in_order ? 1 : k;

	if (ring == VIO_RING_DIRECT)
		return 0;
	if (ring == VIO_RING_COPY)
		return packed ? 16 * n + (k > 1 ? 16 * e : 0) + 16 * d : 26 * n + 12;
	if (packed) /* 8 to look; 4 descriptors; with more than one chain 64, and again what was found; 8 + 16(D - 1) back */
		return 8 + 64 + (k > 1 ? 16 * 64 + 16 * e : 0) + 16 * (d - 1) + 8;
	/* index, heads, descriptors (four a head, or the span); elements, index */
	return 4 + 2 * k + (k > 1 ? 16 * (3 * (k - 1) + 4) : 64) + 8 * u + 4;
}

static void a_kick_moves_the_bytes_that_the_documents_say(void **state)
{
	struct world *w = *state;

	for (unsigned l = 0; l < VIO_ARRAY_SIZE(levels); l++)
		for (unsigned layout = 0; layout < 4; layout++)
			for (unsigned k = 1; k <= 9; k += 4) {
				struct w_cfg cfg = cfg_of(levels[l], layout & 1);
				struct vio_req *r[VIO_BURST];
				uint64_t before;

				if (!(layout & 2))
					cfg.layout &= ~(1ull << VIRTIO_F_IN_ORDER);
				w_queue(w, &cfg);
				for (unsigned i = 0; i < k; i++)
					chain(w, (uint16_t)(3 * i), 3, 1);
				mock_publish(&w->ring);
				before = w_rdma_bytes(w);
				assert_int_equal(w->q->ring->pop(w->q, r, VIO_BURST), k);
				for (unsigned i = 0; i < k; i++)
					r[i]->used_len = 16;
				w->q->ring->push(w->q, r, k);
				if (w_rdma_bytes(w) - before !=
				    table(cfg.ring, cfg.layout, SIZE, k))
					fail_msg(
						"%s, layout 0x%llx, %u chains: %llu bytes, not %llu",
						w->q->ring->name, (unsigned long long)cfg.layout, k,
						(unsigned long long)(w_rdma_bytes(w) - before),
						(unsigned long long)table(cfg.ring, cfg.layout,
									  SIZE, k));
			}
}

#define T(f) cmocka_unit_test_setup_teardown(f, w_setup, w_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_is_done_early_is_held_back_and_goes_with_one_element),
		T(chains_done_in_any_order_go_in_the_order_in_which_they_came),
		T(a_chain_that_was_not_used_completely_has_an_element),
		T(chains_of_one_descriptor_are_held_back_too),
		T(a_guest_is_not_told_of_what_is_held_back),
		T(a_reset_forgets_what_is_held_back),
		T(a_head_that_is_held_back_can_t_come_again),
		T(a_kick_moves_the_bytes_that_the_documents_say),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
