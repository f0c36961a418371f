/* SPDX-License-Identifier: BSD-3-Clause */
/* Discards and write-zeroes of very much: as few requests as the config space lets a driver make. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <linux/virtio_blk.h>

#include "tests/unit/server/core/world.h"

#define HDR     (W_BUF + 0x0)
#define DATA    (W_BUF + 0x10000)
#define DISK    (1ull << 40)
#define SECTORS (DISK / 512)

static const struct {
	enum vio_ring_access ring;
	enum vio_payload payload;
} ways[] = {
	{VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT},
	{VIO_RING_COPY, VIO_PAYLOAD_RDMA},
	{VIO_RING_COPY_DELTA, VIO_PAYLOAD_RDMA},
};

/* A store that only looks where it would zero or forget: one piece behind the other. */
static struct {
	enum vio_io_op op;
	uint64_t next;
	unsigned pieces;
} seen;

static unsigned look(struct vio_backend_queue *bq, struct vio_io *const r[], unsigned n,
		     struct vio_io *done[])
{
	(void)bq;
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(r[i]->op, seen.op);
		assert_int_equal(r[i]->offset, seen.next);
		seen.next += r[i]->length;
		seen.pieces++;
		r[i]->result = 0;
		done[i] = r[i];
	}
	return n;
}

static const struct vio_backend_ops large_ops = {.name = "large", .submit = look};

static void fresh(struct world *w, unsigned way)
{
	struct w_cfg cfg = {
		.ring = ways[way].ring,
		.payload = ways[way].payload,
		.notify = VIO_NOTIFY_POLL,
		.size = 64,
		.event_idx = true,
		.indirect = true,
	};

	w_queue(w, &cfg);
	w->b.be.ops = &large_ops;
	w->b.be.size = DISK;
	w->b.be.can_discard = w->b.be.can_zero = true;
	w->b.be.write_through = false;
}

/* As many ranges as the device takes, as long as it takes them, from *at on. */
static void request(struct world *w, uint32_t type, uint32_t segs, uint32_t longest, uint64_t *at)
{
	struct virtio_blk_discard_write_zeroes r;
	uint32_t n = 0, id, len;

	for (; n < segs && *at < SECTORS; n++) {
		uint32_t count = SECTORS - *at < longest ? (uint32_t)(SECTORS - *at) : longest;

		r = (struct virtio_blk_discard_write_zeroes){vio_le64(*at), vio_le32(count), 0};
		memcpy(w->gmem + DATA + n * sizeof(r), &r, sizeof(r));
		*at += count;
	}
	w->gmem[HDR + 16] = 0xee;
	w_blk(w, 0, type, 0, HDR, DATA, n * (uint32_t)sizeof(r));
	w_avail(w, 0);
	w_publish(w);
	w_run(w);
	assert_int_equal(w->q->fault, VIO_ST_OK);
	assert_true(w_used(w, &id, &len));
	assert_int_equal(w->gmem[HDR + 16], VIRTIO_BLK_S_OK);
}

static void one_tebibyte_is_trimmed_and_zeroed_in_a_few_requests(void **state)
{
	struct world *w = *state;

	for (unsigned way = 0; way < VIO_ARRAY_SIZE(ways); way++) {
		for (unsigned zero = 0; zero < 2; zero++) {
			struct virtio_blk_config c = {0};
			uint8_t raw[VIO_MAX_CONFIG];
			unsigned requests = 0;
			uint64_t at = 0;

			fresh(w, way);
			memcpy(&c, raw, vio_kind_disk.config(w_disk(&w->b.be), 1, raw));
			memset(&seen, 0, sizeof(seen));
			seen.op = zero ? VIO_IO_ZERO : VIO_IO_DISCARD;
			for (; at < SECTORS; requests++)
				request(w, zero ? VIRTIO_BLK_T_WRITE_ZEROES : VIRTIO_BLK_T_DISCARD,
					vio_le32(zero ? c.max_write_zeroes_seg : c.max_discard_seg),
					vio_le32(zero ? c.max_write_zeroes_sectors
						      : c.max_discard_sectors),
					&at);
			assert_int_equal(seen.next, DISK);
			assert_in_range(requests, 1, 32);
			assert_in_range(seen.pieces, 1, 1024);
			assert_int_equal(w->q->stats.requests, requests);
		}
	}
	w_drop(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			one_tebibyte_is_trimmed_and_zeroed_in_a_few_requests, w_setup, w_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
