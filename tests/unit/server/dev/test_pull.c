/* SPDX-License-Identifier: BSD-3-Clause */
/* Queues from which the device takes (random numbers, console), against a driver that does what none should. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_config.h>

#include "server/core/device.h"
#include "server/dev/pull.h"
#include "tests/unit/server/core/world.h"
#include "tests/unit/server/spec_list.h"

#define DATA  (W_BUF + 0x10000)
#define SIZE  64u
#define RING  16384u
#define TABLE (W_BUF + 0x1000)

static const struct {
	enum vio_ring_access ring;
	enum vio_payload payload;
	uint64_t layout;
} ways[] = {
	{VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, 0},
	{VIO_RING_COPY, VIO_PAYLOAD_RDMA, 0},
	{VIO_RING_COPY_DELTA, VIO_PAYLOAD_RDMA, 0},
	{VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, 1ull << VIRTIO_F_RING_PACKED},
	{VIO_RING_COPY, VIO_PAYLOAD_RDMA, 1ull << VIRTIO_F_RING_PACKED},
};
#define SPLIT 3u /* of them */

/* A device of nothing but a ring of bytes. */
struct dev {
	struct vio_dev_queue *dq;
	struct vio_bytes bytes;
};

static unsigned turn(struct vio_squeue *q)
{
	return vio_pull_turn(q, vio_pull_of(q));
}

static const struct vio_dev_ops ops = {
	.name = "test", .long_chains = true, .wants = vio_pull_queue_wants, .turn = turn};

static uint8_t pattern(uint32_t at)
{
	return (uint8_t)((at * 2654435761u) >> 16);
}

static void fresh(struct world *w, struct dev *d, unsigned way, bool to_guest)
{
	struct w_cfg cfg = {.ring = ways[way].ring,
			    .payload = ways[way].payload,
			    .notify = VIO_NOTIFY_POLL,
			    .size = SIZE,
			    .event_idx = true,
			    .indirect = true,
			    .layout = ways[way].layout};

	w_queue(w, &cfg);
	memset(d, 0, sizeof(*d));
	assert_int_equal(vio_bytes_open(&d->bytes, RING), 0);
	assert_int_equal(vio_pull_queue_open(NULL, SIZE, &d->dq, NULL), 0);
	w->q->dev = &ops;
	w->q->dq = d->dq;
	vio_pull_queue_ready(
		w->q,
		(struct vio_pull){.bytes = &d->bytes, .to_guest = to_guest, .per_chain = 4096});
}

static void done(struct dev *d)
{
	vio_pull_queue_close(d->dq);
	vio_bytes_close(&d->bytes);
}

static void fill(struct dev *d, uint32_t from, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const uint8_t b = pattern(from + i);

		vio_bytes_write(&d->bytes, &b, 1);
	}
}

static void give(struct world *w, unsigned head)
{
	w_avail(w, (uint16_t)head);
	w_publish(w);
}

static void a_buffer_of_the_wrong_direction_stops_the_device(void **state)
{
	struct world *w = *state;
	struct dev d;

	for (unsigned way = 0; way < SPLIT; way++) {
		for (unsigned to_guest = 0; to_guest < 2; to_guest++) {
			fresh(w, &d, way, to_guest);
			fill(&d, 0, 1000);
			w_desc(w, 0, DATA, 64, to_guest ? 0 : VRING_DESC_F_WRITE, 0);
			give(w, 0);
			w_run(w);
			assert_int_equal(w->q->fault, VIO_ST_REQUEST);
			assert_int_equal(vio_bytes_ready(&d.bytes), 1000); /* nothing was moved */
			done(&d);
			/* One of each, in the order that is allowed. */
			fresh(w, &d, way, to_guest);
			fill(&d, 0, 1000);
			w_desc(w, 0, DATA, 64, VRING_DESC_F_NEXT, 1);
			w_desc(w, 1, DATA + 64, 64, VRING_DESC_F_WRITE, 0);
			give(w, 0);
			w_run(w);
			assert_int_equal(w->q->fault, VIO_ST_REQUEST);
			done(&d);
		}
	}
}

static void a_chain_without_bytes_stops_it_and_so_does_one_that_goes_round(void **state)
{
	struct world *w = *state;
	struct dev d;

	for (unsigned way = 0; way < SPLIT; way++) {
		fresh(w, &d, way, true);
		fill(&d, 0, 10);
		w_desc(w, 0, DATA, 0, VRING_DESC_F_WRITE, 0);
		give(w, 0);
		w_run(w);
		assert_int_equal(w->q->fault, VIO_ST_DESC_CHAIN);
		done(&d);
		fresh(w, &d, way, true);
		fill(&d, 0, 10);
		for (unsigned i = 0; i < SIZE; i++)
			w_desc(w, i, DATA + i * 64, 64, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT,
			       (i + 1) % SIZE);
		give(w, 0);
		w_run(w);
		assert_int_equal(w->q->fault, VIO_ST_DESC_CHAIN);
		done(&d);
	}
}

/* As many descriptors as the queue has, of 3 bytes each, or all of them in one table. */
static void give_long(struct world *w, bool table, bool to_guest)
{
	struct vring_desc *e = (void *)(w->gmem + TABLE);
	const unsigned flags = to_guest ? VRING_DESC_F_WRITE : 0;
	struct mock_seg seg[SIZE];

	for (unsigned i = 0; i < SIZE; i++) {
		const unsigned more = i + 1 < SIZE ? VRING_DESC_F_NEXT : 0;

		seg[i] = (struct mock_seg){w_at(w, DATA + 5 * i).v, 3, .dev_writes = to_guest};
		e[i] = (struct vring_desc){vio_le64(seg[i].at), vio_le32(3),
					   vio_le16((uint16_t)(flags | more)),
					   vio_le16((uint16_t)(i + 1))};
		if (w->ring.packed) { /* an id, and the flags */
			e[i].flags = 0;
			e[i].next = vio_le16((uint16_t)flags);
		}
	}
	if (!table) {
		mock_add(&w->ring, 0, seg, SIZE);
	} else if (w->ring.packed) {
		mock_packed_desc(&w->ring, w_at(w, TABLE).v, SIZE * 16, 0, VRING_DESC_F_INDIRECT);
		mock_remember(&w->ring, 0, 1);
	} else {
		w_desc(w, 0, TABLE, SIZE * 16, VRING_DESC_F_INDIRECT, 0);
		w_avail(w, 0);
	}
	mock_publish(&w->ring);
}

static void chains_longer_than_requests_hold_are_served_to_their_last_byte(void **state)
{
	struct world *w = *state;
	struct dev d;
	uint32_t id, len;
	uint8_t b;

	for (unsigned k = 0; k < 4 * VIO_ARRAY_SIZE(ways); k++) {
		const bool to_guest = k & 1, table = k & 2;

		fresh(w, &d, k / 4, to_guest);
		memset(w->gmem + DATA, 0xee, 5 * SIZE);
		for (uint32_t i = 0; !to_guest && i < 3 * SIZE; i++)
			w->gmem[DATA + i / 3 * 5 + i % 3] = pattern(i);
		if (to_guest)
			fill(&d, 0, 4 * SIZE);
		give_long(w, table, to_guest);
		w_run(w);
		assert_int_equal(w->q->fault, VIO_ST_OK);
		assert_true(w_used(w, &id, &len));
		assert_int_equal(len, to_guest ? 3 * SIZE : 0);
		assert_int_equal(vio_bytes_ready(&d.bytes), to_guest ? SIZE : 3 * SIZE);
		for (uint32_t i = 0; i < 3 * SIZE; i++) {
			if (to_guest) {
				b = w->gmem[DATA + i / 3 * 5 + i % 3];
				assert_int_equal(w->gmem[DATA + i / 3 * 5 + 3 + i % 2], 0xee);
			} else {
				vio_bytes_read(&d.bytes, &b, 1);
			}
			assert_int_equal(b, pattern(i));
		}
		done(&d);
	}
}

static void an_address_that_is_not_the_guests_to_give_stops_it(void **state)
{
	struct world *w = *state;
	struct dev d;

	for (unsigned way = 0; way < SPLIT; way++) {
		fresh(w, &d, way, true);
		fill(&d, 0, 100);
		w_desc(w, 0, W_RO, 64, VRING_DESC_F_WRITE, 0);
		give(w, 0);
		w_run(w);
		assert_int_equal(w->q->fault, VIO_ST_DESC_PERM);
		done(&d);
		fresh(w, &d, way, false);
		w_desc(w, 0, W_HOLE, 64, 0, 0);
		give(w, 0);
		w_run(w);
		assert_int_not_equal(w->q->fault, VIO_ST_OK);
		assert_int_equal(vio_bytes_ready(&d.bytes), 0);
		done(&d);
	}
}

static void a_chain_gets_what_is_there_and_not_a_byte_more(void **state)
{
	struct world *w = *state;
	struct dev d;
	uint32_t id, len;

	for (unsigned way = 0; way < SPLIT; way++) {
		fresh(w, &d, way, true);
		memset(w->gmem + DATA, 0xee, 0x40000);
		fill(&d, 0, 100);
		w_desc(w, 0, DATA, 64, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1);
		w_desc(w, 1, DATA + 4096, 0x20000, VRING_DESC_F_WRITE, 0);
		give(w, 0);
		w_run(w);
		assert_true(w_used(w, &id, &len));
		assert_int_equal(len, 100);
		for (uint32_t i = 0; i < 100; i++)
			assert_int_equal(w->gmem[i < 64 ? DATA + i : DATA + 4096 + i - 64],
					 pattern(i));
		assert_int_equal(w->gmem[DATA + 64], 0xee);
		assert_int_equal(w->gmem[DATA + 4096 + 36], 0xee);
		/* A huge one gets its share. */
		fill(&d, 100, 10000);
		w_desc(w, 2, DATA, 0x100000, VRING_DESC_F_WRITE, 0);
		give(w, 2);
		w_run(w);
		assert_true(w_used(w, &id, &len));
		assert_int_equal(id, 2);
		assert_int_equal(len, 4096);
		assert_int_equal(vio_bytes_ready(&d.bytes), 10000 - 4096);
		assert_int_equal(w->q->in_flight, 0);
		done(&d);
	}
}

static void a_turn_is_bounded_whatever_the_guest_asks_for(void **state)
{
	struct world *w = *state;
	struct dev d;

	for (unsigned way = 0; way < SPLIT; way++) {
		fresh(w, &d, way, false);
		for (unsigned i = 0; i < SIZE; i++) {
			w_desc(w, i, DATA, 0x100000, 0, 0);
			w_avail(w, (uint16_t)i);
		}
		w_publish(w);
		assert_int_equal(vio_squeue_poll(w->q), VIO_PULL_BYTES);
		assert_int_equal(vio_bytes_ready(&d.bytes), VIO_PULL_BYTES);
		done(&d);
		fresh(w, &d, way, true);
		fill(&d, 0, RING);
		for (unsigned i = 0; i < SIZE; i++) {
			w_desc(w, i, DATA + i, 1, VRING_DESC_F_WRITE, 0);
			w_avail(w, (uint16_t)i);
		}
		w_publish(w);
		assert_int_equal(vio_squeue_poll(w->q), VIO_PULL_CHAINS);
		done(&d);
	}
}

static void a_chain_larger_than_the_ring_is_carried_in_pieces_and_given_back_once(void **state)
{
	struct world *w = *state;
	struct dev d;
	uint32_t got = 0, id, len, all = 30 * 5000;
	uint8_t b[700];

	for (unsigned way = 0; way < SPLIT; way++) {
		fresh(w, &d, way, false);
		for (uint32_t i = 0; i < all; i++)
			w->gmem[DATA + i] = pattern(i);
		for (unsigned i = 0; i < 30; i++)
			w_desc(w, i, DATA + i * 5000, 5000, i < 29 ? VRING_DESC_F_NEXT : 0, i + 1);
		give(w, 0);
		for (got = 0; got < all;) {
			uint32_t n;

			w_run(w);
			assert_false(vio_bytes_ready(&d.bytes) == 0);
			n = vio_bytes_ready(&d.bytes);
			n = n < sizeof(b) ? n : (uint32_t)sizeof(b);
			vio_bytes_read(&d.bytes, b, n);
			for (uint32_t i = 0; i < n; i++)
				assert_int_equal(b[i], pattern(got + i));
			got += n;
			/* What was read from the guest is not read again. */
			memset(w->gmem + DATA, 0, got);
		}
		w_run(w);
		assert_true(w_used(w, &id, &len));
		assert_int_equal(id, 0);
		assert_int_equal(len, 0);
		assert_false(w_used(w, &id, &len));
		assert_int_equal(w->q->stats.requests, 1);
		done(&d);
	}
}

static void a_sleeping_lcore_is_told_only_of_what_it_has_use_for(void **state)
{
	struct world *w = *state;
	struct dev d;

	fresh(w, &d, 0, true);
	assert_false(
		vio_squeue_arm(w->q)); /* nothing for the guest: whoever has something wakes it */
	fill(&d, 0, 10);
	assert_false(vio_squeue_arm(w->q)); /* now buffers are waited for */
	w_desc(w, 0, DATA, 64, VRING_DESC_F_WRITE, 0);
	give(w, 0);
	assert_true(w_run(w) > 0);
	assert_int_equal(vio_bytes_ready(&d.bytes), 0);
	done(&d);
}

/* ------------------------------------------------------- what the documentation says ---- */

static uint64_t features_of(const struct vio_dev_kind *kind, const char *spec)
{
	const struct vio_dev_env env = {0};
	struct vio_err err = {""};
	struct vio_device *dev;
	uint64_t features;

	if (kind->open(spec, &env, &dev, &err))
		fail_msg("--%s %s: %s", kind->row.name, spec, err.msg);
	features = kind->features(dev);
	kind->close(dev);
	return features;
}

static void the_lists_of_features_in_the_documentation_are_what_the_devices_offer(void **state)
{
	uint64_t plain = features_of(&vio_kind_console, "pty="),
		 sized = features_of(&vio_kind_console, "pty=,size=80x25");
	(void)state;

	/* 5.3.3 of the specification, all of it. */
	spec_list_is("VIRTIO_CONSOLE_F_", plain & sized, plain | sized, 7);
	/* 5.4.3 defines none: there is no row, and nothing to offer. */
	spec_list_is("VIRTIO_RNG_F_", 0, features_of(&vio_kind_rng, ""), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, w_setup, w_teardown)
	const struct CMUnitTest tests[] = {
		T(a_buffer_of_the_wrong_direction_stops_the_device),
		T(a_chain_without_bytes_stops_it_and_so_does_one_that_goes_round),
		T(chains_longer_than_requests_hold_are_served_to_their_last_byte),
		T(an_address_that_is_not_the_guests_to_give_stops_it),
		T(a_chain_gets_what_is_there_and_not_a_byte_more),
		T(a_turn_is_bounded_whatever_the_guest_asks_for),
		T(a_chain_larger_than_the_ring_is_carried_in_pieces_and_given_back_once),
		T(a_sleeping_lcore_is_told_only_of_what_it_has_use_for),
		T(the_lists_of_features_in_the_documentation_are_what_the_devices_offer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
