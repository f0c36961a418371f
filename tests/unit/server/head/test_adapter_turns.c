/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What an adapter does in one turn of its lcore for a guest that is configured or reset: other guests' queues wait for the
 * end of the turn. Counted in bytes mapped or unmapped, queues and windows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>

#include "adapter_world.h"
#include "server/head/adapter_priv.h"

#define MANY 40u /* windows */
#define FEATURES                                                                                   \
	(1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_F_ACCESS_PLATFORM | 1ull << VIRTIO_BLK_F_MQ)

struct work {
	uint64_t mapped;
	unsigned queues;
	uint64_t returned;
};

/* Bytes of LMBs in this process that are neither partition's own place for them. */
static uint64_t foreign_bytes(const struct aw *w)
{
	FILE *f = fopen("/proc/self/maps", "r");
	const uintptr_t s = (uintptr_t)phyp_mem(w->sp, (struct gla){0}, 4096),
			g = (uintptr_t)w->gmem;
	char line[512];
	uint64_t bytes = 0;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long from, to;

		if (!strstr(line, "memfd:lmb-guest0") || sscanf(line, "%lx-%lx", &from, &to) != 2)
			continue;
		if (from - s >= phyp_mem_size(w->sp) && from - g >= phyp_mem_size(w->gp))
			bytes += to - from;
	}
	fclose(f);
	return bytes;
}

static uint64_t returns(const struct aw *w)
{
	return phyp_vcpu_counters(w->sv)->hcall[phyp_op_index(H_RETURN_LOGICAL)];
}

static struct work so_far(const struct aw *w)
{
	return (struct work){foreign_bytes(w), w->b.queues_open, returns(w)};
}

static uint64_t apart(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

/* Turns until it is answered: none does more than is allowed. */
static unsigned turns_of(struct aw *w, struct vio_msg m)
{
	const unsigned messages = w->messages;
	unsigned n = 0;

	vio_gfsm_tx(&w->fsm, &m);
	aw_send_raw(w, m);
	for (; w->messages == messages; n++) {
		struct work before = so_far(w), after;

		aw_turn(w);
		after = so_far(w);
		/* The mapping of an alias is one call, whose pages come later. */
		if (after.mapped + VIO_ADAPTER_MAP_BYTES + 4096 <
		    before.mapped) /* a queue's page */
			fail_msg("turn %u: %llu bytes mapped, then %llu", n,
				 (unsigned long long)before.mapped,
				 (unsigned long long)after.mapped);
		assert_true(apart(before.queues, after.queues) <= 1);
		assert_true(after.returned - before.returned <= VIO_ADAPTER_RETURNS);
		assert_true(n < 2000);
		while (aw_take(w))
			;
	}
	if (w->last.status != VIO_ST_OK)
		fail_msg("status %u: %s", w->last.status, w->said);
	return n;
}

static void configure(struct aw *w, enum vio_ring_access ring, enum vio_payload payload,
		      enum vio_notification notify)
{
	assert_int_equal(aw_probe(w), VIO_ST_OK);
	assert_int_equal(aw_features(w, FEATURES, ring, payload, notify), VIO_ST_OK);
	if (ring == VIO_RING_DIRECT || payload != VIO_PAYLOAD_RDMA)
		aw_windows(w);
	/* The windows are for the rings of the first. */
	for (uint16_t q = 0; q < (ring == VIO_RING_DIRECT ? 1u : AW_QUEUES); q++)
		aw_queue(w, q);
}

static void a_copying_arm_is_started_and_reset_a_piece_in_each_turn(void **state)
{
	struct aw *w = *state;
	const unsigned pieces = (unsigned)(phyp_mem_size(w->gp) / VIO_ADAPTER_MAP_BYTES);

	aw_guest(w, 2);
	for (unsigned i = 0; i < 2; i++) {
		configure(w, VIO_RING_COPY, VIO_PAYLOAD_RDMA, VIO_NOTIFY_POLL);
		assert_true(turns_of(w, (struct vio_msg){.op = VIO_OP_DRIVER_OK}) >= pieces);
		assert_int_equal(w->b.queues_open, AW_QUEUES);
		aw_request(w, 0);
		aw_run(w);
		assert_int_equal(aw_used(w, 0), 1);
		assert_true(turns_of(w, (struct vio_msg){.op = VIO_OP_RESET}) >= pieces);
		assert_int_equal(w->b.queues_open, 0);
		assert_true(foreign_bytes(w) == 0);
	}
}

static void windows_are_returned_some_in_each_turn(void **state)
{
	struct aw *w = *state;
	uint64_t cookie[MANY], before;

	aw_guest(w, 2);
	configure(w, VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, VIO_NOTIFY_POLL);
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(aw_window(w, AW_BUF + AW_BUFLEN + i * 4096ull, 4096, TCE_READ,
					   VIO_WINDOW_BUFFERS, &cookie[i]),
				 VIO_ST_OK);
	turns_of(w, (struct vio_msg){.op = VIO_OP_DRIVER_OK});
	before = returns(w);
	assert_true(turns_of(w, (struct vio_msg){.op = VIO_OP_RESET}) >=
		    MANY / VIO_ADAPTER_RETURNS);
	assert_true(returns(w) - before == MANY + 3);
	/* They are the guest's alone. */
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(h_rescind_logical(w->gv, RESCIND_NORMAL, cookie[i]), H_SUCCESS);
}

/* Taken back by force while the queues are being opened: a store may have pinned the pages already. */
static void pages_that_are_taken_back_while_the_device_starts_stop_the_start(void **state)
{
	struct aw *w = *state;
	struct vio_msg m = {.op = VIO_OP_DRIVER_OK};

	aw_guest(w, 2);
	configure(w, VIO_RING_COPY, VIO_PAYLOAD_DIRECT, VIO_NOTIFY_POLL);
	vio_gfsm_tx(&w->fsm, &m);
	aw_send_raw(w, m);
	while (w->b.queues_open == 0)
		aw_turn(w);
	assert_int_equal(w->b.queues_open, 1);
	w->b.forced = true;
	while (h_rescind_logical(w->gv, RESCIND_FORCED, w->cookie[2]) != H_SUCCESS)
		aw_turn(w);
	assert_int_equal(w->b.queues_open, 0);
	aw_run(w);
	assert_int_equal(w->last.status, VIO_ST_RESCINDED);
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
}

static void a_guest_that_dies_while_the_device_starts_leaves_nothing(void **state)
{
	struct aw *w = *state;
	struct vio_msg m = {.op = VIO_OP_DRIVER_OK};

	aw_guest(w, 2);
	configure(w, VIO_RING_COPY, VIO_PAYLOAD_RDMA, VIO_NOTIFY_POLL);
	vio_gfsm_tx(&w->fsm, &m);
	aw_send_raw(w, m);
	while (w->b.queues_open == 0)
		aw_turn(w);
	aw_guest_gone(w);
	aw_run(w);
	assert_int_equal(w->b.queues_open, 0);
	assert_true(foreign_bytes(w) == 0);
	aw_guest(w, 2);
	aw_bring_up(w, VIO_RING_COPY, VIO_PAYLOAD_RDMA, VIO_NOTIFY_POLL);
	aw_request(w, 0);
	aw_run(w);
	assert_int_equal(aw_used(w, 0), 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, aw_setup, aw_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_copying_arm_is_started_and_reset_a_piece_in_each_turn),
		T(windows_are_returned_some_in_each_turn),
		T(pages_that_are_taken_back_while_the_device_starts_stop_the_start),
		T(a_guest_that_dies_while_the_device_starts_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
