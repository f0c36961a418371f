/* SPDX-License-Identifier: BSD-3-Clause */
/* VIRTIO 1.2, sections 2.7 and 5.2, where an implementation's limits are easily taken for a driver's faults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <linux/virtio_blk.h>

#include "tests/unit/server/core/world.h"
#include "tests/unit/server/spec_list.h"

#define HDR   (W_BUF + 0x0)
#define TABLE (W_BUF + 0x1000)
#define DATA  (W_BUF + 0x10000)
#define SIZE  256

static const struct {
	enum vio_ring_access ring;
	enum vio_payload payload;
} ways[] = {
	{VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT},
	{VIO_RING_COPY, VIO_PAYLOAD_RDMA},
	{VIO_RING_COPY_DELTA, VIO_PAYLOAD_RDMA},
};

static void fresh(struct world *w, unsigned way)
{
	struct w_cfg cfg = {
		.ring = ways[way].ring,
		.payload = ways[way].payload,
		.notify = VIO_NOTIFY_POLL,
		.size = SIZE,
		.event_idx = true,
		.indirect = true,
	};

	w_queue(w, &cfg);
	w->b.be.write_through = false;
	memset(&w->b.be.errors, 0, sizeof(w->b.be.errors));
}

/* Publish head 0, run; the status byte, and the used element's length. The device goes on. */
static uint8_t go(struct world *w, uint32_t *len)
{
	uint32_t id;

	w->gmem[HDR + 16] = 0xee;
	w_avail(w, 0);
	w_publish(w);
	w_run(w);
	if (w->q->fault != VIO_ST_OK)
		fail_msg("%s: the device was stopped, %u", w->q->ring->name, w->q->fault);
	assert_true(w_used(w, &id, len));
	assert_int_equal(id, 0);
	assert_int_equal(w->q->in_flight, 0);
	return w->gmem[HDR + 16];
}

static void header(struct world *w, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr h = {.type = vio_le32(type), .sector = vio_le64(sector)};

	memcpy(w->gmem + HDR, &h, sizeof(h));
}

static struct vring_desc desc(const struct world *w, uint64_t at, uint32_t len, unsigned flags,
			      unsigned next)
{
	return (struct vring_desc){vio_le64(w_at(w, at).v), vio_le32(len),
				   vio_le16((uint16_t)flags), vio_le16((uint16_t)next)};
}

/* A read with `n` data segments of 512 bytes, into t[0..n+1]; entries are `stride` apart. */
static void chain(const struct world *w, struct vring_desc *t, unsigned n, unsigned stride)
{
	t[0] = desc(w, HDR, 16, VRING_DESC_F_NEXT, stride);
	for (unsigned i = 1; i <= n; i++)
		t[i * stride] = desc(w, DATA + 512 * i, 512, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT,
				     (i + 1) * stride);
	t[(n + 1) * stride] = desc(w, HDR + 16, 1, VRING_DESC_F_WRITE, 0);
}

static struct vring_desc *table(struct world *w)
{
	return (void *)(w->gmem + TABLE);
}

static void a_table_with_more_entries_than_its_chain_is_served(void **state)
{
	static const struct {
		unsigned entries, data, stride;
	} t[] = {{49, 1, 1}, {49, 1, 23}, {200, 30, 6}, {300, 32, 9}, {34, 32, 1}};
	struct world *w = *state;

	for (unsigned way = 0; way < VIO_ARRAY_SIZE(ways); way++) {
		for (unsigned i = 0; i < VIO_ARRAY_SIZE(t); i++) {
			uint32_t len;

			fresh(w, way);
			header(w, VIRTIO_BLK_T_IN, 7);
			memset(table(w), 0xff, 16ull * t[i].entries);
			chain(w, table(w), t[i].data, t[i].stride);
			/* 2.7.5.3.2: the write flag of such a descriptor means nothing. */
			w_desc(w, 0, TABLE, 16 * t[i].entries,
			       VRING_DESC_F_INDIRECT | (i % 2 ? VRING_DESC_F_WRITE : 0), 0);
			memset(w->gmem + DATA + 512, 0, 512 * t[i].data);
			assert_int_equal(go(w, &len), VIRTIO_BLK_S_OK);
			assert_int_equal(len, 512 * t[i].data + 1);
			assert_memory_equal(w->gmem + DATA + 512, w->b.disk + 7 * 512,
					    512 * t[i].data);
		}
	}
}

static void a_chain_longer_than_a_request_gets_an_error_and_the_device_goes_on(void **state)
{
	static const unsigned n[] = {33, 34, 48, 254};
	struct world *w = *state;

	for (unsigned way = 0; way < VIO_ARRAY_SIZE(ways); way++) {
		for (unsigned i = 0; i < 2 * VIO_ARRAY_SIZE(n); i++) {
			unsigned data = n[i / 2];
			uint32_t len;

			fresh(w, way);
			header(w, VIRTIO_BLK_T_IN, 7);
			if (i % 2) {
				chain(w, table(w), data, 1);
				w_desc(w, 0, TABLE, 16 * (data + 2), VRING_DESC_F_INDIRECT, 0);
			} else {
				chain(w, w->desc, data, 1);
			}
			memset(w->gmem + DATA, 0x77, 512 * 300);
			assert_int_equal(go(w, &len), VIRTIO_BLK_S_IOERR);
			assert_int_equal(len, 0);
			for (unsigned b = 0; b < 512 * 300; b++)
				assert_int_equal(w->gmem[DATA + b], 0x77);
			assert_int_equal(w->b.submits, 0);
			/* The next one is as good as ever. */
			chain(w, w->desc, 1, 1);
			assert_int_equal(go(w, &len), VIRTIO_BLK_S_OK);
		}
	}
}

static void a_write_longer_than_a_request_is_refused_too_and_one_without_status_stops(void **state)
{
	struct world *w = *state;

	for (unsigned way = 0; way < VIO_ARRAY_SIZE(ways); way++) {
		uint32_t len;

		fresh(w, way);
		header(w, VIRTIO_BLK_T_OUT, 7);
		chain(w, w->desc, 60, 1);
		for (unsigned i = 1; i <= 60; i++)
			w->desc[i].flags = vio_le16(VRING_DESC_F_NEXT);
		assert_int_equal(go(w, &len), VIRTIO_BLK_S_IOERR);
		assert_int_equal(w->b.submits, 0);
		w->desc[61].flags = 0; /* all of it is the device's to read: nowhere to answer */
		w_avail(w, 0);
		w_publish(w);
		w_run(w);
		assert_int_equal(w->q->fault, VIO_ST_REQUEST);
	}
}

static void descriptors_without_bytes_are_as_if_they_were_not_there(void **state)
{
	struct world *w = *state;

	for (unsigned way = 0; way < VIO_ARRAY_SIZE(ways); way++) {
		uint32_t len;

		fresh(w, way);
		header(w, VIRTIO_BLK_T_IN, 3);
		chain(w, w->desc, 4, 1);
		w->desc[2].len = w->desc[4].len = 0;
		assert_int_equal(go(w, &len), VIRTIO_BLK_S_OK);
		assert_int_equal(len, 1025);
		assert_memory_equal(w->gmem + DATA + 512, w->b.disk + 3 * 512, 512);
		assert_memory_equal(w->gmem + DATA + 512 * 3, w->b.disk + 4 * 512, 512);
	}
}

static void a_used_length_is_no_more_than_what_was_written_from_the_start(void **state)
{
	struct world *w = *state;
	uint32_t len;

	fresh(w, 0);
	header(w, VIRTIO_BLK_T_IN, 0);
	chain(w, w->desc, 1, 1);
	w->b.fail = -EIO;
	assert_int_equal(go(w, &len), VIRTIO_BLK_S_IOERR);
	assert_int_equal(len, 0);
	w->b.fail = 0;
	header(w, VIRTIO_BLK_T_GET_ID, 0);
	assert_int_equal(go(w, &len), VIRTIO_BLK_S_OK);
	assert_int_equal(len,
			 VIRTIO_BLK_ID_BYTES); /* 492 bytes before the status are as they were */
	w->desc[1].len = vio_le32(VIRTIO_BLK_ID_BYTES);
	assert_int_equal(go(w, &len), VIRTIO_BLK_S_OK);
	assert_int_equal(len, VIRTIO_BLK_ID_BYTES + 1);
}

static void without_mq_there_is_one_queue(void **state)
{
	struct world *w = *state;
	struct vio_backend *be = &w->b.be;
	const uint64_t mq = 1ull << VIRTIO_BLK_F_MQ;

	assert_int_equal(vio_kind_disk.start(w_disk(be), 0, 1), VIO_ST_OK);
	assert_int_equal(vio_kind_disk.start(w_disk(be), 0, 3), VIO_ST_QUEUE);
	assert_int_equal(vio_kind_disk.start(w_disk(be), 0, 2), VIO_ST_QUEUE);
	assert_int_equal(vio_kind_disk.start(w_disk(be), mq, 3), VIO_ST_OK);
}

/* ------------------------------------------------------------------ write-through ---- */

static void a_guest_that_cannot_flush_is_answered_when_its_write_is_durable(void **state)
{
	struct world *w = *state;
	struct vio_backend *be = &w->b.be;
	uint32_t id, len;

	for (unsigned way = 0; way < VIO_ARRAY_SIZE(ways); way++) {
		fresh(w, way);
		assert_int_equal(vio_kind_disk.start(w_disk(be), 1ull << VIRTIO_BLK_F_FLUSH, 1),
				 VIO_ST_OK);
		w_blk(w, 0, VIRTIO_BLK_T_OUT, 1, HDR, DATA, 512);
		assert_int_equal(go(w, &len), VIRTIO_BLK_S_OK);
		assert_int_equal(w->b.submits, 1);

		fresh(w, way);
		assert_int_equal(vio_kind_disk.start(w_disk(be), 0, 1), VIO_ST_OK);
		w_blk(w, 0, VIRTIO_BLK_T_OUT, 1, HDR, DATA, 512);
		assert_int_equal(go(w, &len), VIRTIO_BLK_S_OK);
		assert_int_equal(w->b.submits, 2);
		assert_int_equal(w->b.seen[0], VIO_IO_WRITE);
		assert_int_equal(w->b.seen[1], VIO_IO_FLUSH);
		assert_int_equal(w->q->stats.writes, 1);
		assert_int_equal(w->q->stats.flushes, 0);
		w_blk(w, 0, VIRTIO_BLK_T_IN, 1, HDR, DATA, 512);
		assert_int_equal(go(w, &len), VIRTIO_BLK_S_OK);
		assert_int_equal(w->b.submits, 3); /* a read has nothing to wait for */

		/* Not before: a disk that takes its time. */
		w->b.async = true;
		w_blk(w, 0, VIRTIO_BLK_T_OUT, 1, HDR, DATA, 512);
		w_avail(w, 0);
		w_publish(w);
		vio_squeue_poll(w->q);
		w->b.async = false;
		w->b.fail = 0;
		assert_int_equal(w->b.n_held, 1);
		assert_false(w_used(w, &id, &len));
		w_run(w);
		assert_true(w_used(w, &id, &len));
		assert_int_equal(w->b.last_io, VIO_IO_FLUSH);
		assert_int_equal(w->q->in_flight, 0);
		vio_kind_disk.start(w_disk(be), 1ull << VIRTIO_BLK_F_FLUSH, 1);
	}
}

static void what_the_driver_writes_to_writeback_is_how_its_writes_are_answered(void **state)
{
	const uint64_t f = 1ull << VIRTIO_BLK_F_FLUSH, w_ce = 1ull << VIRTIO_BLK_F_CONFIG_WCE;
	const uint16_t at = offsetof(struct virtio_blk_config, wce);
	struct world *w = *state;
	struct vio_backend *be = &w->b.be;
	struct virtio_blk_config c;
	uint8_t raw[VIO_MAX_CONFIG];
	uint32_t len;

	fresh(w, 0);
	for (unsigned back = 2; back-- > 0;) {
		unsigned before = w->b.submits;

		vio_kind_disk.negotiated(w_disk(be), f | w_ce);
		assert_true(vio_kind_disk.config_set(w_disk(be), f | w_ce, at, 1, back));
		assert_int_equal(vio_kind_disk.start(w_disk(be), f | w_ce, 1), VIO_ST_OK);
		vio_kind_disk.config(w_disk(be), 1, raw);
		memcpy(&c, raw, offsetof(struct virtio_blk_config, max_secure_erase_sectors));
		assert_int_equal(c.wce, back);
		w_blk(w, 0, VIRTIO_BLK_T_OUT, 1, HDR, DATA, 512);
		assert_int_equal(go(w, &len), VIRTIO_BLK_S_OK);
		assert_int_equal(w->b.submits - before, back ? 1 : 2);
		assert_int_equal(w->b.last_io, back ? VIO_IO_WRITE : VIO_IO_FLUSH);
	}
	/* Nothing else of config space, no other value, not without the feature, no cache without FLUSH. */
	assert_false(vio_kind_disk.config_set(w_disk(be), f | w_ce, at, 1, 77));
	assert_false(vio_kind_disk.config_set(w_disk(be), f | w_ce, at, 2, 1));
	assert_false(vio_kind_disk.config_set(w_disk(be), f | w_ce, 0, 8, 1));
	assert_false(vio_kind_disk.config_set(w_disk(be), f, at, 1, 1));
	assert_false(vio_kind_disk.config_set(w_disk(be), w_ce, at, 1, 1));
	assert_true(be->write_through); /* as the last good one said */
	/* Another session begins as the server has it; 5.2.5.2: without FLUSH with 0. */
	vio_kind_disk.negotiated(w_disk(be), w_ce);
	assert_true(be->write_through);
	be->cache_off = true;
	vio_kind_disk.negotiated(w_disk(be), f | w_ce);
	assert_true(be->write_through);
	be->cache_off = false;
	vio_kind_disk.negotiated(w_disk(be), f | w_ce);
	assert_false(be->write_through);
}

/* ------------------------------------------------------------------------- ranges ---- */

static void ranges(struct world *w, uint32_t type, const struct virtio_blk_discard_write_zeroes *r,
		   unsigned n)
{
	memcpy(w->gmem + DATA, r, n * sizeof(*r));
	w_blk(w, 0, type, 0, HDR, DATA, n * (uint32_t)sizeof(*r));
}

static void every_range_of_a_request_is_done_and_none_when_one_is_bad(void **state)
{
	struct world *w = *state;
	const uint32_t unmap = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	struct virtio_blk_discard_write_zeroes r[32];
	uint32_t len;

	for (unsigned way = 0; way < VIO_ARRAY_SIZE(ways); way++) {
		for (unsigned i = 0; i < 32; i++)
			r[i] = (struct virtio_blk_discard_write_zeroes){
				vio_le64(i * 16ull), vio_le32(i % 5 ? 8 : 0),
				vio_le32(i % 2 ? unmap : 0)};
		fresh(w, way);
		memset(w->b.disk, 0xcc, 32 * 16 * 512);
		ranges(w, VIRTIO_BLK_T_WRITE_ZEROES, r, 32);
		assert_int_equal(go(w, &len), VIRTIO_BLK_S_OK);
		assert_int_equal(w->b.submits, 25); /* those of no sectors are nothing */
		for (unsigned i = 0; i < 32; i++) {
			uint8_t *at = w->b.disk + i * 16 * 512;

			assert_int_equal(at[0], i % 5 ? 0 : 0xcc);
			assert_int_equal(at[8 * 512 - 1], i % 5 ? 0 : 0xcc);
			assert_int_equal(at[8 * 512], 0xcc);
		}
		assert_int_equal(w->q->stats.others, 1);
		fresh(w, way);
		r[31].sector = vio_le64(W_DISK_LEN / 512 - 7);
		r[31].num_sectors = vio_le32(8);
		ranges(w, VIRTIO_BLK_T_WRITE_ZEROES, r, 32);
		assert_int_equal(go(w, &len), VIRTIO_BLK_S_IOERR);
		assert_int_equal(w->b.submits, 0);
	}
}

static void the_unmap_flag_of_each_range_reaches_the_disk(void **state)
{
	struct world *w = *state;
	struct virtio_blk_discard_write_zeroes r = {0, vio_le32(8), 0};
	uint8_t raw[VIO_MAX_CONFIG];
	struct virtio_blk_config c = {0};
	uint32_t len;

	for (unsigned unmap = 0; unmap < 2; unmap++) {
		fresh(w, 0);
		r.flags = vio_le32(unmap);
		ranges(w, VIRTIO_BLK_T_WRITE_ZEROES, &r, 1);
		assert_int_equal(go(w, &len), VIRTIO_BLK_S_OK);
		assert_int_equal(w->b.last_unmap, unmap);
	}
	/* ... and what it can do is what the guest is told. */
	for (unsigned can = 0; can < 2; can++) {
		w->b.be.can_unmap = can;
		memcpy(&c, raw, vio_kind_disk.config(w_disk(&w->b.be), 1, raw));
		assert_int_equal(c.write_zeroes_may_unmap, can);
	}
	w->b.be.can_unmap = false;
}

static void the_disks_own_pieces_are_in_its_topology(void **state)
{
	static const struct {
		uint32_t block, physical, exp, min, discard;
	} t[] = {{512, 0, 0, 1, 1},     {512, 512, 0, 1, 1},  {512, 4096, 3, 8, 8},
		 {4096, 4096, 0, 1, 8}, {4096, 512, 0, 1, 8}, {512, 65536, 7, 128, 128}};
	struct world *w = *state;
	struct vio_backend be = w->b.be;

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(t); i++) {
		uint8_t raw[VIO_MAX_CONFIG];
		struct virtio_blk_config c = {0};

		be.block_size = t[i].block;
		be.physical = t[i].physical;
		memcpy(&c, raw, vio_kind_disk.config(w_disk(&be), 1, raw));
		assert_int_equal(c.physical_block_exp, t[i].exp);
		assert_int_equal(vio_le16(c.min_io_size), t[i].min);
		assert_int_equal(vio_le32(c.discard_sector_alignment), t[i].discard);
		assert_int_equal(vio_le32(c.blk_size), t[i].block);
	}
}

/* ------------------------------------------------------- what the documentation says ---- */

static void the_list_of_features_in_the_documentation_is_what_the_device_offers(void **state)
{
	struct world *w = *state;
	struct vio_backend all = w->b.be, bare = w->b.be, ro = w->b.be;
	uint64_t always, some;

	bare.can_flush = bare.can_discard = bare.can_zero = false;
	ro.read_only = true;
	always = vio_kind_disk.features(w_disk(&all)) & vio_kind_disk.features(w_disk(&bare)) &
		 vio_kind_disk.features(w_disk(&ro));
	some = vio_kind_disk.features(w_disk(&all)) | vio_kind_disk.features(w_disk(&ro));
	/* 5.2.3 of the specification, all of it: 0 to 16 without 3 and 8. */
	spec_list_is("VIRTIO_BLK_F_", always, some, 0x1fff7 & ~(1ull << 8));
}

/* ------------------------------------------------------------------------- errors ---- */

static void hear(void *ctx, const char *line)
{
	char *all = ctx;

	strcat(all, line);
	strcat(all, "\n");
}

static void what_a_disk_fails_of_is_counted_and_said_once_an_errno(void **state)
{
	struct world *w = *state;
	struct vio_backend *be = &w->b.be;
	char said[2048] = "";
	uint32_t len;

	fresh(w, 0);
	snprintf(be->what, sizeof(be->what), "test disk");
	be->say = hear;
	be->say_ctx = said;
	w->b.fail = -ENOSPC;
	for (unsigned i = 0; i < 20; i++) {
		w_blk(w, 0, VIRTIO_BLK_T_OUT, 64 + i, HDR, DATA, 4096);
		assert_int_equal(go(w, &len), VIRTIO_BLK_S_IOERR);
	}
	w->b.fail = -EIO;
	w_blk(w, 0, VIRTIO_BLK_T_IN, 9, HDR, DATA, 512);
	assert_int_equal(go(w, &len), VIRTIO_BLK_S_IOERR);
	/* The guest's own mistakes are none of the disk's. */
	w_blk(w, 0, VIRTIO_BLK_T_IN, W_DISK_LEN / 512, HDR, DATA, 512);
	assert_int_equal(go(w, &len), VIRTIO_BLK_S_IOERR);
	assert_string_equal(
		said,
		"test disk: write of 4096 bytes at sector 64 failed: No space left on device\n"
		"test disk: read of 512 bytes at sector 9 failed: Input/output error\n");
	assert_int_equal(be->errors.of[ENOSPC].n, 20);
	assert_int_equal(be->errors.of[EIO].n, 1);
	be->say = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_table_with_more_entries_than_its_chain_is_served),
		cmocka_unit_test(
			a_chain_longer_than_a_request_gets_an_error_and_the_device_goes_on),
		cmocka_unit_test(
			a_write_longer_than_a_request_is_refused_too_and_one_without_status_stops),
		cmocka_unit_test(descriptors_without_bytes_are_as_if_they_were_not_there),
		cmocka_unit_test(a_used_length_is_no_more_than_what_was_written_from_the_start),
		cmocka_unit_test(without_mq_there_is_one_queue),
		cmocka_unit_test(a_guest_that_cannot_flush_is_answered_when_its_write_is_durable),
		cmocka_unit_test(
			what_the_driver_writes_to_writeback_is_how_its_writes_are_answered),
		cmocka_unit_test(every_range_of_a_request_is_done_and_none_when_one_is_bad),
		cmocka_unit_test(the_unmap_flag_of_each_range_reaches_the_disk),
		cmocka_unit_test(the_disks_own_pieces_are_in_its_topology),
		cmocka_unit_test(
			the_list_of_features_in_the_documentation_is_what_the_device_offers),
		cmocka_unit_test(what_a_disk_fails_of_is_counted_and_said_once_an_errno),
	};

	return cmocka_run_group_tests_name("server/blk_spec", tests, w_setup, w_teardown);
}
