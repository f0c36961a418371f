/* SPDX-License-Identifier: BSD-3-Clause */
/* virtio-blk over each payload level: requests, framings, refusals, bad addresses. */
#include "tests/unit/server/dev/blk_test.h"

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
	};

	return cmocka_run_group_tests_name("server/blk", tests, w_setup, w_teardown);
}
