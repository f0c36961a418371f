/* SPDX-License-Identifier: BSD-3-Clause */
/* virtio-blk over each payload level: requests, framings, refusals, bad addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <linux/virtio_blk.h>

#include "tests/unit/server/core/world.h"

#define HDR  (W_BUF + 0x0)
#define DATA (W_BUF + 0x10000)

/* The payload levels, and the two kinds of backend. */
static const struct {
	const char *name;
	enum vio_payload payload;
	bool at;
} ways[] = {
	{"direct", VIO_PAYLOAD_DIRECT, false},
	{"direct, disk in memory", VIO_PAYLOAD_DIRECT, true},
	{"rdma", VIO_PAYLOAD_RDMA, false},
	{"rdma, disk in memory", VIO_PAYLOAD_RDMA, true},
};

static void fresh(struct world *w, unsigned way)
{
	struct w_cfg cfg = {
		.ring = VIO_RING_DIRECT,
		.payload = ways[way].payload,
		.at = ways[way].at,
		.notify = VIO_NOTIFY_POLL,
		.size = 64,
		.event_idx = true,
		.indirect = true,
	};

	w_queue(w, &cfg);
}

/* Publish head 0, run, and return the status byte; the used element's length in *len. */
static uint8_t go(struct world *w, uint64_t status_at, uint32_t *len)
{
	uint32_t id;

	w_avail(w, 0);
	w_publish(w);
	w_run(w);
	assert_int_equal(w->q->fault, VIO_ST_OK);
	assert_true(w_used(w, &id, len));
	assert_int_equal(id, 0);
	assert_int_equal(w->q->in_flight, 0);
	return w->gmem[status_at];
}

static void pattern(uint8_t *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(i * 31 + seed);
}

static void reads_and_writes_move_the_right_bytes(void **state)
{
	struct world *w = *state;
	static const uint32_t lens[] = {512, 4096, 64 << 10, 1 << 20};

	for (unsigned way = 0; way < VIO_ARRAY_SIZE(ways); way++) {
		for (unsigned i = 0; i < VIO_ARRAY_SIZE(lens); i++) {
			uint32_t n = lens[i], len;
			uint64_t sector = 8 * i + 3;

			fresh(w, way);
			pattern(w->gmem + DATA, n, way * 7 + i);
			w_blk(w, 0, VIRTIO_BLK_T_OUT, sector, HDR, DATA, n);
			assert_int_equal(go(w, HDR + 16, &len), VIRTIO_BLK_S_OK);
			assert_int_equal(len, 1);
			assert_memory_equal(w->b.disk + sector * 512, w->gmem + DATA, n);

			w_blk(w, 0, VIRTIO_BLK_T_IN, sector, HDR, DATA + (2 << 20), n);
			memset(w->gmem + DATA + (2 << 20), 0, n + 1);
			assert_int_equal(go(w, HDR + 16, &len), VIRTIO_BLK_S_OK);
			assert_int_equal(len, n + 1);
			assert_memory_equal(w->gmem + DATA + (2 << 20), w->gmem + DATA, n);
			assert_int_equal(w->gmem[DATA + (2 << 20) + n], 0);
			assert_int_equal(w->q->stats.requests, 2);
			assert_int_equal(w->q->stats.bytes_read, n);
			assert_int_equal(w->q->stats.bytes_written, n);
		}
	}
}

/* One request's bytes laid out as [header][data][status] in pieces of the given lengths. */
static void framing(struct world *w, bool write, const uint32_t *readable, const uint32_t *writable,
		    uint64_t *status_at)
{
	struct virtio_blk_outhdr h = {.type = vio_le32(write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN),
				      .sector = vio_le64(2)};
	uint64_t at = DATA + 3; /* nothing is aligned */
	uint8_t image[16 + 2048];
	size_t off = 0;
	unsigned d = 0;

	memcpy(image, &h, 16);
	pattern(image + 16, 2048, 77);
	for (unsigned i = 0; readable[i]; i++, d++) {
		memcpy(w->gmem + at, image + off, readable[i]);
		w_desc(w, d, at, readable[i], VRING_DESC_F_NEXT, d + 1);
		off += readable[i];
		at += readable[i] + 4099;
	}
	for (unsigned i = 0; writable[i]; i++, d++) {
		memset(w->gmem + at, 0xee, writable[i]);
		w_desc(w, d, at, writable[i],
		       VRING_DESC_F_WRITE | (writable[i + 1] ? VRING_DESC_F_NEXT : 0u), d + 1);
		*status_at = at + writable[i] - 1;
		at += writable[i] + 4099;
	}
}

static void any_framing_of_header_data_and_status_works(void **state)
{
	struct world *w = *state;
	static const struct {
		bool write;
		uint32_t readable[20], writable[8];
	} f[] = {
		{false, {16}, {1024, 1}},
		{false, {16}, {1025}},           /* status shares the data's descriptor */
		{false, {1, 15}, {1000, 24, 1}}, /* header split */
		{false, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {1, 1022, 2}},
		{false, {16, 500}, {1024, 1}}, /* bytes after the header mean nothing to a read */
		{true, {16, 1024}, {1}},
		{true, {1040}, {1}}, /* header and data in one */
		{true, {7, 1033}, {1}},
		{true, {4, 4, 4, 4, 1000, 24}, {3}}, /* the status is the last byte */
		{true, {15, 2, 1023}, {5, 1}},
	};

	for (unsigned way = 0; way < VIO_ARRAY_SIZE(ways); way++) {
		for (unsigned i = 0; i < VIO_ARRAY_SIZE(f); i++) {
			uint8_t want[1024];
			uint64_t status_at = 0;
			uint32_t len;

			fresh(w, way);
			pattern(want, sizeof(want), 77);
			if (!f[i].write)
				memcpy(w->b.disk + 1024, want, sizeof(want));
			else
				memset(w->b.disk + 1024, 0, sizeof(want));
			framing(w, f[i].write, f[i].readable, f[i].writable, &status_at);
			if (go(w, status_at, &len) != VIRTIO_BLK_S_OK)
				fail_msg("%s, framing %u", ways[way].name, i);
			/* The status counts only with all that may be written before it. */
			assert_int_equal(len, !f[i].write ? 1025 : f[i].writable[0] == 1 ? 1 : 0);
			if (f[i].write) {
				assert_memory_equal(w->b.disk + 1024, want, sizeof(want));
				continue;
			}
			/* Gather what was read. */
			uint8_t got[1025];
			size_t off = 0;
			unsigned d = 0;

			while (f[i].readable[d])
				d++;
			for (unsigned k = 0; f[i].writable[k]; k++, d++) {
				memcpy(got + off,
				       w->gmem + vio_le64(w->desc[d].addr) - w_at(w, 0).v,
				       f[i].writable[k]);
				off += f[i].writable[k];
			}
			assert_memory_equal(got, want, sizeof(want));
		}
	}
}

static void what_a_disk_does_not_do_is_answered_not_done(void **state)
{
	struct world *w = *state;
	const uint64_t end = W_DISK_LEN / 512;
	static const uint32_t in = VIRTIO_BLK_T_IN, out = VIRTIO_BLK_T_OUT;
	const struct {
		uint32_t type;
		uint64_t sector;
		uint32_t len;
		uint8_t want;
	} c[] = {
		{in, end, 512, VIRTIO_BLK_S_IOERR},
		{out, end - 1, 1024, VIRTIO_BLK_S_IOERR},
		{in, UINT64_MAX, 512, VIRTIO_BLK_S_IOERR},
		{in, UINT64_MAX / 512 + 1, 512, VIRTIO_BLK_S_IOERR}, /* times 512 it wraps to 0 */
		{in, 1ull << 63, 512, VIRTIO_BLK_S_IOERR},
		{out, 0, 511, VIRTIO_BLK_S_IOERR},
		{in, 0, 513, VIRTIO_BLK_S_IOERR},
		{in, 0, VIO_MAX_DATA + 512, VIRTIO_BLK_S_IOERR},
		{in, end, 0, VIRTIO_BLK_S_OK},
		{77, 0, 512, VIRTIO_BLK_S_UNSUPP},
		{VIRTIO_BLK_T_SECURE_ERASE, 0, 16, VIRTIO_BLK_S_UNSUPP},
		{in, end - 1, 512, VIRTIO_BLK_S_OK},
	};

	for (unsigned way = 0; way < VIO_ARRAY_SIZE(ways); way++) {
		for (unsigned i = 0; i < VIO_ARRAY_SIZE(c); i++) {
			uint32_t len;

			fresh(w, way);
			w_blk(w, 0, c[i].type, c[i].sector, HDR, DATA, c[i].len);
			if (go(w, HDR + 16, &len) != c[i].want)
				fail_msg("%s, case %u: status %u", ways[way].name, i,
					 w->gmem[HDR + 16]);
			/* Data that a failed read has not written is not in the used length. */
			assert_int_equal(len, c[i].type != in ? 1 : !c[i].want ? c[i].len + 1 : 0);
			assert_int_equal(w->b.submits,
					 c[i].want || ways[way].at || !c[i].len ? 0 : 1);
		}
	}
}

static void a_read_only_disk_refuses_everything_that_writes(void **state)
{
	struct world *w = *state;
	static const uint32_t types[] = {VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_DISCARD,
					 VIRTIO_BLK_T_WRITE_ZEROES};
	uint32_t len;

	w->b.be.read_only = true;
	assert_true(vio_kind_disk.features(w_disk(&w->b.be)) & 1ull << VIRTIO_BLK_F_RO);
	assert_false(vio_kind_disk.features(w_disk(&w->b.be)) & 1ull << VIRTIO_BLK_F_DISCARD);
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(types); i++) {
		fresh(w, 0);
		w_blk(w, 0, types[i], 0, HDR, DATA, types[i] == VIRTIO_BLK_T_OUT ? 512 : 16);
		assert_int_equal(go(w, HDR + 16, &len), VIRTIO_BLK_S_IOERR);
		assert_int_equal(w->b.submits, 0);
	}
	w->b.be.read_only = false;
}

static void flush_and_get_id_and_an_error_of_the_disk(void **state)
{
	struct world *w = *state;

	for (unsigned way = 0; way < VIO_ARRAY_SIZE(ways); way++) {
		uint32_t len;

		fresh(w, way);
		w_blk(w, 0, VIRTIO_BLK_T_FLUSH, 0, HDR, DATA, 0);
		assert_int_equal(go(w, HDR + 16, &len), VIRTIO_BLK_S_OK);
		assert_int_equal(w->b.last_io, VIO_IO_FLUSH);
		w_blk(w, 0, VIRTIO_BLK_T_GET_ID, 0, HDR, DATA, VIRTIO_BLK_ID_BYTES);
		assert_int_equal(go(w, HDR + 16, &len), VIRTIO_BLK_S_OK);
		assert_int_equal(len, VIRTIO_BLK_ID_BYTES + 1);
		assert_memory_equal(w->gmem + DATA, w->b.be.id, VIRTIO_BLK_ID_BYTES);
		/* A longer buffer is not written beyond the id, a shorter one not beyond its end. */
		memset(w->gmem + DATA, 0x55, 64);
		w_blk(w, 0, VIRTIO_BLK_T_GET_ID, 0, HDR, DATA, 64);
		assert_int_equal(go(w, HDR + 16, &len), VIRTIO_BLK_S_OK);
		assert_int_equal(w->gmem[DATA + VIRTIO_BLK_ID_BYTES], 0x55);
		memset(w->gmem + DATA, 0x55, 64);
		w_blk(w, 0, VIRTIO_BLK_T_GET_ID, 0, HDR, DATA, 5);
		assert_int_equal(go(w, HDR + 16, &len), VIRTIO_BLK_S_OK);
		assert_int_equal(len, 6);
		assert_int_equal(w->gmem[DATA + 5], 0x55);
		w->b.fail = -EIO;
		w_blk(w, 0, VIRTIO_BLK_T_FLUSH, 0, HDR, DATA, 0);
		assert_int_equal(go(w, HDR + 16, &len), VIRTIO_BLK_S_IOERR);
		w->b.fail = -EOPNOTSUPP;
		w_blk(w, 0, VIRTIO_BLK_T_FLUSH, 0, HDR, DATA, 0);
		assert_int_equal(go(w, HDR + 16, &len), VIRTIO_BLK_S_UNSUPP);
		w->b.fail = 0;
	}
}

static uint8_t range(struct world *w, bool zero, uint64_t sector, uint32_t num, uint32_t flags,
		     uint32_t bytes)
{
	struct virtio_blk_discard_write_zeroes r = {vio_le64(sector), vio_le32(num),
						    vio_le32(flags)};
	uint32_t len;

	memcpy(w->gmem + DATA, &r, sizeof(r));
	w_blk(w, 0, zero ? VIRTIO_BLK_T_WRITE_ZEROES : VIRTIO_BLK_T_DISCARD, 0, HDR, DATA, bytes);
	return go(w, HDR + 16, &len);
}

static void discard_and_write_zeroes_check_their_range(void **state)
{
	struct world *w = *state;
	const uint32_t end = W_DISK_LEN / 512;

	for (unsigned way = 0; way < VIO_ARRAY_SIZE(ways); way++) {
		fresh(w, way);
		for (unsigned zero = 0; zero < 2; zero++) {
			unsigned before = w->b.submits;

			assert_int_equal(range(w, zero, 8, 16, 0, 16), VIRTIO_BLK_S_OK);
			assert_int_equal(w->b.last_io, zero ? VIO_IO_ZERO : VIO_IO_DISCARD);
			assert_int_equal(w->b.last_off, 8 * 512);
			assert_int_equal(w->b.last_len, 16 * 512);
			assert_int_equal(w->b.submits, before + 1);
			assert_int_equal(range(w, zero, end, 1, 0, 16), VIRTIO_BLK_S_IOERR);
			assert_int_equal(range(w, zero, UINT64_MAX, 2, 0, 16), VIRTIO_BLK_S_IOERR);
			assert_int_equal(range(w, zero, 0, end + 1, 0, 16), VIRTIO_BLK_S_IOERR);
			assert_int_equal(range(w, zero, 0, UINT32_MAX, 0, 16), VIRTIO_BLK_S_IOERR);
			assert_int_equal(range(w, zero, 0, 1, 0, 33 * 16), VIRTIO_BLK_S_IOERR);
			assert_int_equal(range(w, zero, 0, 1, 0, 17), VIRTIO_BLK_S_IOERR);
			assert_int_equal(range(w, zero, 0, 1, 0, 15), VIRTIO_BLK_S_IOERR);
			assert_int_equal(range(w, zero, 0, 1, 2, 16), VIRTIO_BLK_S_UNSUPP);
			assert_int_equal(range(w, zero, 0, 0, 0, 16), VIRTIO_BLK_S_OK);
			assert_int_equal(w->b.submits, before + 1);
			assert_int_equal(
				range(w, zero, 0, 1, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP, 16),
				zero ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_UNSUPP);
		}
	}
}

static void config_space_is_little_endian_and_says_the_limits(void **state)
{
	struct world *w = *state;
	uint8_t raw[VIO_MAX_CONFIG];
	struct virtio_blk_config c = {0};
	uint16_t n;

	fresh(w, 0);
	n = vio_kind_disk.config(w_disk(&w->b.be), 4, raw);
	assert_true(n <= 255); /* version 1 of the device header has 8 bits for it */
	memcpy(&c, raw, n);
	assert_int_equal(raw[0] | raw[1] << 8 | raw[2] << 16, W_DISK_LEN / 512);
	assert_int_equal(vio_le32(c.size_max) * vio_le32(c.seg_max), VIO_MAX_DATA);
	assert_int_equal(vio_le16(c.num_queues), 4);
	assert_int_equal(vio_le32(c.max_discard_seg), 32);
	assert_int_equal(vio_le32(c.max_write_zeroes_sectors), W_DISK_LEN / 512);
}

/* -------------------------------------------------------------------------- faults ---- */

static void expect_fault(struct world *w, unsigned way, uint8_t want, const char *what)
{
	uint32_t id, len;

	/* A good request published before it is still answered. */
	w_blk(w, 8, VIRTIO_BLK_T_IN, 0, HDR + 0x100, DATA, 512);
	w_avail(w, 8);
	w_avail(w, 0);
	w_publish(w);
	w_run(w);
	if (w->q->fault != want)
		fail_msg("%s, %s: fault %u, not %u", ways[way].name, what, w->q->fault, want);
	assert_int_equal(w->q->fault_detail, 0);
	assert_true(w_used(w, &id, &len));
	assert_int_equal(id, 8);
	assert_false(w_used(w, &id, &len));
	/* Stopped means stopped. */
	w_blk(w, 16, VIRTIO_BLK_T_IN, 0, HDR + 0x200, DATA, 512);
	w_avail(w, 16);
	w_publish(w);
	w_run(w);
	assert_false(w_used(w, &id, &len));
	assert_int_equal(w->gmem[HDR + 0x210], 0xee);
	assert_int_equal(w->q->in_flight, 0);
}

static void bad_addresses_stop_the_queue_and_say_which_rule(void **state)
{
	struct world *w = *state;
	const uint32_t in = VIRTIO_BLK_T_IN, out = VIRTIO_BLK_T_OUT;

	for (unsigned way = 0; way < VIO_ARRAY_SIZE(ways); way++) {
		fresh(w, way);
		w_blk(w, 0, in, 0, HDR, W_HOLE, 512);
		expect_fault(w, way, way >= 2 ? VIO_ST_DESC_PERM : VIO_ST_DESC_RANGE,
			     "data nowhere"); /* no TCE: no access */
		fresh(w, way);
		w_blk(w, 0, in, 0, HDR, W_RO, 512);
		expect_fault(w, way, VIO_ST_DESC_PERM, "read into a read-only pane");
		fresh(w, way);
		w_blk(w, 0, in, 0, HDR, W_RO - 512, 1024);
		assert_true(w->q->fault == VIO_ST_OK);
		expect_fault(w, way, way >= 2 ? VIO_ST_DESC_PERM : VIO_ST_DESC_RANGE,
			     "over a window's end");
		fresh(w, way);
		w_blk(w, 0, out, 0, HDR, W_HOLE - 512, 1024);
		expect_fault(w, way, way >= 2 ? VIO_ST_DESC_PERM : VIO_ST_DESC_RANGE,
			     "over the mapped end");
		fresh(w, way);
		w_blk(w, 0, in, 0, HDR, DATA, 512);
		w->desc[1].addr = vio_le64(UINT64_MAX - 100);
		expect_fault(w, way, VIO_ST_DESC_RANGE, "an address that wraps");
		fresh(w, way);
		w_blk(w, 0, in, 0, HDR, DATA, 512);
		w->desc[1].addr = vio_le64(8); /* below the DMA window */
		expect_fault(w, way, VIO_ST_DESC_RANGE, "outside the DMA window");
		fresh(w, way);
		w_blk(w, 0, in, 0, HDR, DATA, 512);
		w->desc[0].addr = vio_le64(w_at(w, W_HOLE).v);
		expect_fault(w, way, way >= 2 ? VIO_ST_DESC_PERM : VIO_ST_DESC_RANGE,
			     "header nowhere");
		fresh(w, way);
		w_blk(w, 0, in, 0, HDR, DATA, 512);
		w->desc[2].addr = vio_le64(w_at(w, W_RO).v);
		expect_fault(w, way, VIO_ST_DESC_PERM, "status into a read-only pane");
	}
}

static void a_request_without_header_or_status_needs_a_reset(void **state)
{
	struct world *w = *state;

	for (unsigned way = 0; way < VIO_ARRAY_SIZE(ways); way++) {
		fresh(w, way);
		w_blk(w, 0, VIRTIO_BLK_T_IN, 0, HDR, DATA, 512);
		w->desc[0].len = vio_le32(15);
		expect_fault(w, way, VIO_ST_REQUEST, "15 bytes of header");
		fresh(w, way);
		w_desc(w, 0, DATA, 512, VRING_DESC_F_WRITE, 0);
		expect_fault(w, way, VIO_ST_REQUEST, "no readable part");
		fresh(w, way);
		w_blk(w, 0, VIRTIO_BLK_T_OUT, 0, HDR, DATA, 512);
		w->desc[1].flags = 0; /* the chain ends before the status */
		expect_fault(w, way, VIO_ST_REQUEST, "no status byte");
	}
}

/* ------------------------------------------------------------------- bounce space ---- */

static void requests_wait_for_bounce_room_and_none_is_lost(void **state)
{
	struct world *w = *state;
	struct w_cfg cfg = {
		.ring = VIO_RING_DIRECT,
		.payload = VIO_PAYLOAD_RDMA,
		.notify = VIO_NOTIFY_POLL,
		.size = 256,
		.event_idx = true,
	};
	uint8_t seen[256] = {0};
	unsigned n = 0;
	uint32_t id, len;

	cfg.local = VIO_RDMA_LOCAL_BYTES; /* room for one request of the largest size */
	w_queue(w, &cfg);
	w->b.async = true;
	for (uint16_t h = 0; h < 60; h++) {
		uint32_t bytes = h % 7 == 3 ? VIO_MAX_DATA : h % 5 == 0 ? 256u << 10 : 4096;

		w_blk(w, (uint16_t)(4 * h), h % 2 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT, 0,
		      HDR + 0x40ull * h, DATA, bytes);
		w_avail(w, (uint16_t)(4 * h));
	}
	w_publish(w);
	for (unsigned turn = 0; turn < 1000 && n < 60; turn++) {
		w->b.async = turn % 2 == 0; /* odd turns: the disk finishes what it has */
		vio_squeue_poll(w->q);
		for (; w_used(w, &id, &len); n++) {
			assert_int_equal(seen[id]++, 0);
			assert_int_equal(
				id,
				4 * n); /* this disk keeps the order, so waiting must have kept it */
			assert_int_equal(w->gmem[HDR + 0x40ull * (id / 4) + 16], VIRTIO_BLK_S_OK);
		}
		assert_true(w->b.n_held <= VIO_MAX_DATA / 4096);
	}
	assert_int_equal(n, 60);
	assert_int_equal(w->q->in_flight, 0);
}

static void a_stopped_queue_drains_without_touching_the_guest(void **state)
{
	struct world *w = *state;

	for (unsigned way = 0; way < VIO_ARRAY_SIZE(ways); way += 2) {
		static uint8_t before[W_RO];
		struct vio_squeue *q;

		fresh(w, way);
		q = w->q;
		w->b.async = true;
		for (uint16_t h = 0; h < 8; h++) {
			w_blk(w, (uint16_t)(4 * h), VIRTIO_BLK_T_IN, 0, HDR + 0x40ull * h, DATA,
			      VIO_MAX_DATA);
			w_avail(w, (uint16_t)(4 * h));
		}
		w_publish(w);
		vio_squeue_poll(q);
		assert_int_equal(q->in_flight, 8);
		assert_true(vio_squeue_arm(q)); /* in flight: no sleep */
		w->b.async = false;
		vio_store_release(&q->ctl, VIO_SQ_STOP);
		w->b.fail = -EIO; /* (the test's disk copies in place else) */
		memcpy(before, w->gmem, sizeof(before));
		for (unsigned turn = 0; turn < 10; turn++)
			vio_squeue_poll(q);
		assert_int_equal(vio_load_acquire(&q->in_flight), 0);
		assert_memory_equal(before, w->gmem, sizeof(before));
		assert_false(vio_squeue_arm(q));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_and_writes_move_the_right_bytes),
		cmocka_unit_test(any_framing_of_header_data_and_status_works),
		cmocka_unit_test(what_a_disk_does_not_do_is_answered_not_done),
		cmocka_unit_test(a_read_only_disk_refuses_everything_that_writes),
		cmocka_unit_test(flush_and_get_id_and_an_error_of_the_disk),
		cmocka_unit_test(discard_and_write_zeroes_check_their_range),
		cmocka_unit_test(config_space_is_little_endian_and_says_the_limits),
		cmocka_unit_test(bad_addresses_stop_the_queue_and_say_which_rule),
		cmocka_unit_test(a_request_without_header_or_status_needs_a_reset),
		cmocka_unit_test(requests_wait_for_bounce_room_and_none_is_lost),
		cmocka_unit_test(a_stopped_queue_drains_without_touching_the_guest),
	};

	return cmocka_run_group_tests_name("server/blk", tests, w_setup, w_teardown);
}
