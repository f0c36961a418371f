/* SPDX-License-Identifier: BSD-3-Clause */
/* Rings as no correct driver makes them, through every level of ring access. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/core/device.h"
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

/* Each makes descriptor 0 the head of something that is wrong. */
static void bad_index(struct world *w)
{
	w->ring.next = (uint16_t)(w->ring.next + w->cfg.size); /* and one more by the caller */
}
static void bad_head(struct world *w)
{
	w_avail(w, w->cfg.size);
}
static void bad_head_twice(struct world *w)
{
	w_desc(w, 0, W_BUF, 16, 0, 0);
	w_avail(w, 0);
}
static void bad_loop(struct world *w)
{
	w_desc(w, 0, W_BUF, 16, VRING_DESC_F_NEXT, 1);
	w_desc(w, 1, W_BUF, 16, VRING_DESC_F_NEXT, 0);
}
static void bad_self_loop(struct world *w)
{
	w_desc(w, 0, W_BUF, 16, VRING_DESC_F_NEXT, 0);
}
static void bad_next(struct world *w)
{
	w_desc(w, 0, W_BUF, 16, VRING_DESC_F_NEXT, w->cfg.size);
}
static void bad_long_loop(struct world *w)
{
	for (unsigned i = 0; i < VIO_MAX_SEGS + 8; i++)
		w_desc(w, i, W_BUF, 16, VRING_DESC_F_NEXT, i + 1);
	w_desc(w, VIO_MAX_SEGS + 8, W_BUF, 16, VRING_DESC_F_NEXT, VIO_MAX_SEGS);
}
static void bad_no_bytes(struct world *w)
{
	w_desc(w, 0, W_BUF, 0, 0, 0);
}
static void bad_order(struct world *w)
{
	w_desc(w, 0, W_BUF, 16, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 1);
	w_desc(w, 1, W_BUF, 16, 0, 0);
}
static void table_at(struct world *w, unsigned n, unsigned flags)
{
	struct vring_desc *t = (void *)(w->gmem + W_BUF);

	for (unsigned i = 0; i < n; i++)
		t[i] = (struct vring_desc){
			vio_le64(w_at(w, W_BUF + 0x1000).v), vio_le32(16),
			vio_le16((uint16_t)(i + 1 < n ? VRING_DESC_F_NEXT | flags : flags)),
			vio_le16((uint16_t)(i + 1))};
}
static void bad_indirect_with_next(struct world *w)
{
	table_at(w, 1, 0);
	w_desc(w, 0, W_BUF, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 1);
	w_desc(w, 1, W_BUF, 16, 0, 0);
}
static void bad_indirect_length(struct world *w)
{
	table_at(w, 2, 0);
	w_desc(w, 0, W_BUF, 24, VRING_DESC_F_INDIRECT, 0);
}
static void bad_indirect_empty(struct world *w)
{
	w_desc(w, 0, W_BUF, 0, VRING_DESC_F_INDIRECT, 0);
}
static void bad_indirect_long(struct world *w)
{
	unsigned n = w->cfg.size + 1u > VIO_MAX_SEGS ? w->cfg.size + 1u : VIO_MAX_SEGS + 1u;

	table_at(w, n, 0);
	w_desc(w, 0, W_BUF, n * 16, VRING_DESC_F_INDIRECT, 0);
}
static void bad_indirect_loop(struct world *w)
{
	table_at(w, 3, VRING_DESC_F_NEXT);
	w_desc(w, 0, W_BUF, 48, VRING_DESC_F_INDIRECT, 0);
	((struct vring_desc *)(void *)(w->gmem + W_BUF))[2].next = 0;
}
static void bad_indirect_wraps(struct world *w)
{
	w_desc(w, 0, W_BUF, 1u << 20, VRING_DESC_F_INDIRECT, 0);
	w->desc[0].addr = vio_le64(UINT64_MAX - 100);
}
static void bad_indirect_nested(struct world *w)
{
	table_at(w, 1, VRING_DESC_F_INDIRECT);
	w_desc(w, 0, W_BUF, 16, VRING_DESC_F_INDIRECT, 0);
}
static void bad_indirect_next(struct world *w)
{
	table_at(w, 1, VRING_DESC_F_NEXT);
	w_desc(w, 0, W_BUF, 16, VRING_DESC_F_INDIRECT, 0);
}
static void bad_indirect_place(struct world *w)
{
	w_desc(w, 0, W_HOLE, 16, VRING_DESC_F_INDIRECT, 0);
}

static const struct {
	const char *what;
	void (*make)(struct world *w);
	uint8_t want;
} bad[] = {
	{"index", bad_index, VIO_ST_AVAIL_IDX},
	{"head out of range", bad_head, VIO_ST_DESC_HEAD},
	{"head in flight", bad_head_twice, VIO_ST_DESC_HEAD},
	{"loop", bad_loop, VIO_ST_DESC_CHAIN},
	{"self loop", bad_self_loop, VIO_ST_DESC_CHAIN},
	{"next out of range", bad_next, VIO_ST_DESC_CHAIN},
	{"loop behind what a request holds", bad_long_loop, VIO_ST_DESC_CHAIN},
	{"no bytes at all", bad_no_bytes, VIO_ST_DESC_CHAIN},
	{"order", bad_order, VIO_ST_DESC_ORDER},
	{"indirect with next", bad_indirect_with_next, VIO_ST_DESC_INDIRECT},
	{"indirect length", bad_indirect_length, VIO_ST_DESC_INDIRECT},
	{"indirect empty", bad_indirect_empty, VIO_ST_DESC_INDIRECT},
	{"indirect too long", bad_indirect_long, VIO_ST_DESC_CHAIN},
	{"indirect loop", bad_indirect_loop, VIO_ST_DESC_CHAIN},
	{"indirect address wraps", bad_indirect_wraps, VIO_ST_DESC_RANGE},
	{"indirect nested", bad_indirect_nested, VIO_ST_DESC_INDIRECT},
	{"indirect next out of range", bad_indirect_next, VIO_ST_DESC_CHAIN},
	{"indirect table outside", bad_indirect_place, VIO_ST_DESC_RANGE},
};

static void hostile_rings_fault_the_queue_and_name_why(void **state)
{
	struct world *w = *state;

	for (unsigned l = 0; l < VIO_ARRAY_SIZE(levels); l++) {
		for (unsigned i = 0; i < VIO_ARRAY_SIZE(bad); i++) {
			struct w_cfg cfg = cfg_of(levels[l]);
			struct vio_req *out[VIO_BURST];
			unsigned got;
			uint8_t want;

			w_queue(w, &cfg);
			/*
			 * A good one first: it must come through (but for the index, which makes
			 * all doubtful).
			 */
			w_desc(w, 60, W_BUF, 16, 0, 0);
			w_avail(w, 60);
			bad[i].make(w);
			w_avail(w, 0);
			w_publish(w);
			got = w->q->ring->pop(w->q, out, VIO_BURST);
			want = bad[i].want;
			/*
			 * An RDMA call can't tell a page without a TCE from one that does not
			 * permit the access.
			 */
			if (want == VIO_ST_DESC_RANGE && cfg.payload == VIO_PAYLOAD_RDMA &&
			    bad[i].make != bad_indirect_wraps)
				want = VIO_ST_DESC_PERM;
			if (w->q->fault != want)
				fail_msg("%s, %s: fault %u, not %u", w->q->ring->name, bad[i].what,
					 w->q->fault, want);
			assert_int_equal(got, bad[i].want == VIO_ST_AVAIL_IDX ? 0
					      : bad[i].make == bad_head_twice ? 2
									      : 1);
			if (got)
				assert_int_equal(out[0]->head, 60);
		}
	}
}

static void indirect_is_refused_when_not_negotiated(void **state)
{
	struct world *w = *state;

	for (unsigned l = 0; l < VIO_ARRAY_SIZE(levels); l++) {
		struct w_cfg cfg = cfg_of(levels[l]);
		struct vio_req *out[VIO_BURST];

		cfg.indirect = false;
		w_queue(w, &cfg);
		table_at(w, 2, 0);
		w_desc(w, 0, W_BUF, 32, VRING_DESC_F_INDIRECT, 0);
		w_avail(w, 0);
		w_publish(w);
		assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), 0);
		assert_int_equal(w->q->fault, VIO_ST_DESC_INDIRECT);
	}
}

/* A descriptor that changes after pop changes nothing: it was taken once. */
static void a_chain_rewritten_after_pop_has_no_effect(void **state)
{
	struct world *w = *state;

	for (unsigned l = 0; l < VIO_ARRAY_SIZE(levels); l++) {
		struct w_cfg cfg = cfg_of(levels[l]);
		struct vio_req *out[VIO_BURST];

		w_queue(w, &cfg);
		w_desc(w, 4, W_BUF, 16, VRING_DESC_F_NEXT, 5);
		w_desc(w, 5, W_BUF + 512, 512, VRING_DESC_F_WRITE, 0);
		w_avail(w, 4);
		w_publish(w);
		assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), 1);
		w_desc(w, 5, W_HOLE, 1u << 31, 0, 0);
		assert_int_equal(out[0]->n_seg, 2);
		assert_int_equal(out[0]->seg[1].at.v, w_at(w, W_BUF + 512).v);
		assert_int_equal(out[0]->seg[1].len, 512);
	}
}

/* ---- chains of one descriptor ---- */

static const struct vio_dev_ops reads = {.plain_min = 8, .plain_max = 64};
static const struct vio_dev_ops writes = {
	.plain_flags = VRING_DESC_F_WRITE, .plain_min = 8, .plain_max = 64};

static void plain_queue(struct world *w, const struct vio_dev_ops *dev, enum vio_ring_access level)
{
	struct w_cfg cfg = cfg_of(level);

	w_queue(w, &cfg);
	w->q->dev = dev;
	w_desc(w, 60, W_BUF, 16, dev->plain_flags, 0);
	w_avail(w, 60);
}

static void
what_is_wrong_with_a_plain_ring_is_left_to_pop_which_says_the_same_at(struct world *w,
								      enum vio_ring_access level)
{
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(bad); i++) {
		unsigned good = bad[i].want == VIO_ST_AVAIL_IDX ? 0
				: bad[i].make == bad_head_twice ? 2
								: 1;
		struct vio_plain v[VIO_BURST];
		struct vio_req *out[VIO_BURST];
		uint8_t want = bad[i].want;
		bool rest;

		plain_queue(w, &reads, level);
		bad[i].make(w);
		w_avail(w, 0);
		w_publish(w);
		assert_int_equal(w->q->ring->pop_plain(w->q, v, VIO_BURST, &rest), good);
		/* An index that makes all doubtful leaves nothing for pop to judge. */
		assert_int_equal(rest, good > 0);
		assert_int_equal(w->q->fault, good ? VIO_ST_OK : bad[i].want);
		if (good) {
			assert_int_equal(v[0].head, 60);
			assert_memory_equal(v[0].va, w->gmem + W_BUF, 16);
		}
		assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), 0);
		if (want == VIO_ST_DESC_RANGE && w->cfg.payload == VIO_PAYLOAD_RDMA &&
		    bad[i].make != bad_indirect_wraps)
			want = VIO_ST_DESC_PERM; /* as above */
		if (w->q->fault != want)
			fail_msg("%s, %s: fault %u, not %u", w->q->ring->name, bad[i].what,
				 w->q->fault, want);
	}
}

static void what_is_wrong_with_a_plain_ring_is_left_to_pop_which_says_the_same(void **state)
{
	for (unsigned l = 0; l < VIO_ARRAY_SIZE(levels); l++)
		what_is_wrong_with_a_plain_ring_is_left_to_pop_which_says_the_same_at(*state,
										      levels[l]);
}

/* What get says of an address: an RDMA call can't tell a page without a TCE, and a read is not copied before put. */
static uint8_t fault_of(const struct world *w, bool to_guest, uint8_t want)
{
	if (w->cfg.payload != VIO_PAYLOAD_RDMA || want == VIO_ST_OK)
		return want;
	return to_guest ? VIO_ST_OK : VIO_ST_DESC_PERM;
}

/* Right as chains, and not what the device asks for or may have: they come as requests, judged as ever. */
static void descriptors_that_are_not_plain_come_as_requests_at(struct world *w,
							       enum vio_ring_access level)
{
	static const struct {
		uint64_t at;
		uint32_t len;
		unsigned flags;
		const struct vio_dev_ops *dev;
		uint8_t want; /* of payload->get */
	} t[] = {
		{W_BUF, 16, VRING_DESC_F_WRITE, &reads, VIO_ST_OK},
		{W_BUF, 16, 0, &writes, VIO_ST_OK},
		{W_BUF, 16, 0x100, &reads, VIO_ST_OK}, /* a flag that does not exist */
		{W_BUF, 7, 0, &reads, VIO_ST_OK},
		{W_BUF, 65, 0, &reads, VIO_ST_OK},
		{W_HOLE, 16, 0, &reads, VIO_ST_DESC_RANGE},
		{W_RO + (1u << 20) - 8, 16, 0, &reads,
		 VIO_ST_DESC_RANGE}, /* over its window's end */
		{W_RO, 16, VRING_DESC_F_WRITE, &writes, VIO_ST_DESC_PERM},
	};
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(t); i++) {
		struct vio_plain v[VIO_BURST];
		struct vio_req *out[VIO_BURST];
		bool rest;

		plain_queue(w, t[i].dev, level);
		w_desc(w, 3, t[i].at, t[i].len, t[i].flags, 0);
		w_avail(w, 3);
		w_desc(w, 5, W_BUF, 16, t[i].dev->plain_flags, 0);
		w_avail(w, 5); /* behind it: not before it */
		w_publish(w);
		if (w->q->payload->plain_out && t[i].dev == &writes &&
		    t[i].want == VIO_ST_DESC_PERM) {
			/* Where frames are copied out, an address is judged then. */
			assert_int_equal(w->q->ring->pop_plain(w->q, v, VIO_BURST, &rest), 3);
			assert_int_equal(w->q->payload->plain_out(w->q, &v[1],
								  vio_sq_local(w->q, v[1].va), 16),
					 t[i].want);
			continue;
		}
		assert_int_equal(w->q->ring->pop_plain(w->q, v, VIO_BURST, &rest), 1);
		assert_true(rest);
		assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), 2);
		assert_int_equal(w->q->fault, VIO_ST_OK);
		assert_int_equal(out[0]->head, 3);
		assert_int_equal(out[0]->n_readable, t[i].flags & VRING_DESC_F_WRITE ? 0 : 1);
		out[0]->data = out[0]->seg;
		out[0]->n_data = out[0]->n_seg;
		out[0]->data_len = out[0]->seg[0].len;
		out[0]->to_guest = t[i].flags & VRING_DESC_F_WRITE;
		w->q->payload->get(w->q, out, 1);
		assert_int_equal(out[0]->fault, fault_of(w, out[0]->to_guest, t[i].want));
	}
}

static void descriptors_that_are_not_plain_come_as_requests(void **state)
{
	for (unsigned l = 0; l < VIO_ARRAY_SIZE(levels); l++)
		descriptors_that_are_not_plain_come_as_requests_at(*state, levels[l]);
}

static void
a_plain_chain_is_taken_once_and_its_head_until_it_is_given_back_at(struct world *w,
								   enum vio_ring_access level)
{
	const uint32_t used = 11;
	struct vio_plain v[VIO_BURST];
	struct vio_req *out[VIO_BURST];
	uint32_t id, len;
	bool rest;

	plain_queue(w, &reads, level);
	w_publish(w);
	assert_int_equal(w->q->ring->pop_plain(w->q, v, VIO_BURST, &rest), 1);
	assert_false(rest);
	/* Rewritten: no effect. */
	w_desc(w, 60, W_HOLE, 1u << 31, VRING_DESC_F_INDIRECT, 0);
	assert_int_equal(v[0].len, 16);
	assert_memory_equal(v[0].va, w->gmem + W_BUF, 16);
	w->q->ring->push_plain(w->q, v, &used, 1);
	assert_true(w_used(w, &id, &len));
	assert_int_equal(id, 60);
	assert_int_equal(len, 11);
	/* Free again, for plain chains and for others; then in flight for both. */
	w_desc(w, 60, W_BUF, 16, 0, 0);
	for (unsigned i = 0; i < 2; i++) {
		w_avail(w, 60);
		w_publish(w);
		if (i == 0) {
			assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), 1);
			w->q->ring->push(w->q, out, 1);
		} else {
			assert_int_equal(w->q->ring->pop_plain(w->q, v, VIO_BURST, &rest), 1);
		}
	}
	w_avail(w, 60);
	w_publish(w);
	assert_int_equal(w->q->ring->pop_plain(w->q, v, VIO_BURST, &rest), 0);
	assert_true(rest);
	assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), 0);
	assert_int_equal(w->q->fault, VIO_ST_DESC_HEAD);
}

static void a_plain_chain_is_taken_once_and_its_head_until_it_is_given_back(void **state)
{
	for (unsigned l = 0; l < VIO_ARRAY_SIZE(levels); l++)
		a_plain_chain_is_taken_once_and_its_head_until_it_is_given_back_at(*state,
										   levels[l]);
}

/* Taken by pop, a head is not plain either. */
static void a_head_that_a_request_has_is_not_taken_as_plain_at(struct world *w,
							       enum vio_ring_access level)
{
	struct vio_plain v[VIO_BURST];
	struct vio_req *out[VIO_BURST];
	bool rest;

	plain_queue(w, &reads, level);
	w_publish(w);
	assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), 1);
	w_avail(w, 60);
	w_publish(w);
	assert_int_equal(w->q->ring->pop_plain(w->q, v, VIO_BURST, &rest), 0);
	assert_true(rest);
}

static void a_head_that_a_request_has_is_not_taken_as_plain(void **state)
{
	for (unsigned l = 0; l < VIO_ARRAY_SIZE(levels); l++)
		a_head_that_a_request_has_is_not_taken_as_plain_at(*state, levels[l]);
}

static void a_ring_outside_its_window_is_refused_at_attach(void **state)
{
	struct world *w = *state;
	struct w_cfg cfg = cfg_of(VIO_RING_DIRECT);
	struct vio_err err = {{0}};
	const struct ioba good = w_at(w, W_USED);

	w_queue(w, &cfg);
	w->q->ring->detach(w->q);
	w->q->place.used = w_at(w, W_AVAIL); /* read-only */
	assert_int_equal(w->q->ring->attach(w->q, &err), -EFAULT);
	assert_int_equal(w->q->fault, VIO_ST_QUEUE);
	assert_non_null(strstr(err.msg, "used ring"));
	w->q->fault = VIO_ST_OK;
	w->q->place.used = ioba_add(good, 2); /* misaligned */
	assert_int_equal(w->q->ring->attach(w->q, &err), -EFAULT);
	w->q->fault = VIO_ST_OK;
	w->q->place.used = w_at(w, W_USED + 0x10000 - 64); /* over the end */
	assert_int_equal(w->q->ring->attach(w->q, &err), -EFAULT);
	w->q->fault = VIO_ST_OK;
	w->q->place.used = good;
	assert_int_equal(w->q->ring->attach(w->q, &err), 0);
}

static void a_partner_that_is_gone_stops_a_copied_queue_quietly(void **state)
{
	struct world *w = *state;
	struct w_cfg cfg = cfg_of(VIO_RING_COPY);
	struct vio_req *out[VIO_BURST];

	w_queue(w, &cfg);
	w_desc(w, 0, W_BUF, 16, 0, 0);
	w_avail(w, 0);
	w_publish(w);
	phyp_local_kill(w->m, "guest0");
	assert_int_equal(w->q->ring->pop(w->q, out, VIO_BURST), 0);
	assert_int_not_equal(w->q->fault, VIO_ST_OK);
	assert_int_equal(vio_squeue_poll(w->q), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hostile_rings_fault_the_queue_and_name_why),
		cmocka_unit_test(indirect_is_refused_when_not_negotiated),
		cmocka_unit_test(a_chain_rewritten_after_pop_has_no_effect),
		cmocka_unit_test(
			what_is_wrong_with_a_plain_ring_is_left_to_pop_which_says_the_same),
		cmocka_unit_test(descriptors_that_are_not_plain_come_as_requests),
		cmocka_unit_test(a_plain_chain_is_taken_once_and_its_head_until_it_is_given_back),
		cmocka_unit_test(a_head_that_a_request_has_is_not_taken_as_plain),
		cmocka_unit_test(a_ring_outside_its_window_is_refused_at_attach),
		/* Last: the guest is dead. */
		cmocka_unit_test(a_partner_that_is_gone_stops_a_copied_queue_quietly),
	};

	return cmocka_run_group_tests_name("server/ring_hostile", tests, w_setup, w_teardown);
}
