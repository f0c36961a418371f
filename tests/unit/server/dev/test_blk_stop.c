/* SPDX-License-Identifier: BSD-3-Clause */
/* Disks that stop at an error: what waits, what is told, and that nothing is lost, done twice or touched late. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <linux/virtio_blk.h>

#include "server/dev/blk/blk_priv.h"
#include "tests/unit/server/core/world.h"

#define HDR  (W_BUF + 0x0)
#define DATA (W_BUF + 0x10000)
#define SIZE 256

static const struct {
	enum vio_ring_access ring;
	enum vio_payload payload;
} ways[] = {
	{VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT},
	{VIO_RING_COPY, VIO_PAYLOAD_RDMA},
	{VIO_RING_COPY_DELTA, VIO_PAYLOAD_RDMA},
};

static char said[4096];

static void say(void *ctx, const char *line)
{
	(void)ctx;
	strncat(said, line, sizeof(said) - strlen(said) - 2);
	strcat(said, "\n");
}

static struct vio_disk *disk(struct world *w)
{
	return vio_container_of(w->dq.dq.dev, struct vio_disk, dev);
}

static void fresh(struct world *w, unsigned way, enum vio_on_error werror, enum vio_on_error rerror)
{
	struct w_cfg cfg = {
		.ring = ways[way].ring,
		.payload = ways[way].payload,
		.notify = VIO_NOTIFY_POLL,
		.size = SIZE,
		.event_idx = true,
		.local =
			VIO_RDMA_LOCAL_BYTES +
			(128 << 10), /* one request of the largest size, and a shadow of the ring */
	};

	w_queue(w, &cfg);
	w->b.be.write_through = false;
	w->b.be.werror = (uint8_t)werror;
	w->b.be.rerror = (uint8_t)rerror;
	w->b.be.say = say;
	memset(&w->b.be.errors, 0, sizeof(w->b.be.errors));
	memset(w->b.disk, 0, W_DISK_LEN);
	said[0] = '\0';
}

/* Request k of 4 KiB at block k; its data is k + 1. */
static void put(struct world *w, unsigned k, uint32_t type)
{
	w->gmem[HDR + 0x40 * k + 16] = 0xee;
	memset(w->gmem + DATA + 4096 * k, (int)k + 1, 4096);
	w_blk(w, (uint16_t)(4 * k), type, 8 * k, HDR + 0x40 * k, DATA + 4096 * k, 4096);
	w_avail(w, (uint16_t)(4 * k));
	w_publish(w);
}

static unsigned answers(struct world *w, unsigned order[])
{
	uint32_t id, len;
	unsigned n = 0;

	while (w_used(w, &id, &len))
		order[n++] = id / 4;
	return n;
}

static uint8_t status(const struct world *w, unsigned k)
{
	return w->gmem[HDR + 0x40 * k + 16];
}

static void all_wait(struct world *w, unsigned n)
{
	unsigned order[SIZE];

	w_run(w);
	assert_int_equal(answers(w, order), 0);
	assert_int_equal(w->q->fault, VIO_ST_OK);
	assert_int_equal(w->q->in_flight, n);
	assert_int_equal(w->q->parked, n);
	assert_false(vio_squeue_arm(w->q)); /* its lcore may sleep */
}

static void what_failed_waits_and_is_done_again_in_order_when_room_was_made(void **state)
{
	struct world *w = *state;
	unsigned order[SIZE];
	char text[80];

	for (unsigned way = 0; way < VIO_ARRAY_SIZE(ways); way++) {
		unsigned before;

		fresh(w, way, VIO_ON_ERROR_ENOSPC, VIO_ON_ERROR_REPORT);
		assert_false(vio_blk_stopped(disk(w), text, sizeof(text)));
		w->b.fail = -ENOSPC;
		w->b.async = true;
		for (unsigned k = 0; k < 3; k++)
			put(w, k, VIRTIO_BLK_T_OUT);
		w_run(w);
		assert_int_equal(w->b.n_held, 3);
		w->b.async = false;
		w_run(w);
		all_wait(w, 3);
		assert_true(vio_blk_stopped(disk(w), text, sizeof(text)));
		assert_string_equal(text, "stopped: ENOSPC write 0");
		/* Said once, counted each time. */
		assert_ptr_equal(strstr(said, "stopped: write of 4096 bytes at sector 0: No space"),
				 strstr(said, "stopped"));
		assert_null(strstr(strstr(said, "stopped") + 1, "stopped"));
		assert_non_null(strstr(said, "/vio/blk/resume,0"));
		assert_int_equal(w->b.be.errors.of[ENOSPC].n, 3);
		/* Still no room: it stops again. */
		assert_true(vio_blk_resume(disk(w)));
		w_run(w);
		all_wait(w, 3);
		/* What comes now waits too, whatever it is, and the store sees none of it. */
		before = w->b.submits;
		put(w, 3, VIRTIO_BLK_T_IN);
		put(w, 4, VIRTIO_BLK_T_OUT);
		put(w, 5, VIRTIO_BLK_T_FLUSH);
		w_run(w);
		all_wait(w, 6);
		assert_int_equal(w->b.submits, before);
		assert_int_equal(status(w, 0), 0xee);
		w->b.fail = 0;
		assert_true(vio_blk_resume(disk(w)));
		assert_false(vio_blk_resume(disk(w)));
		w_run(w);
		assert_int_equal(answers(w, order), 6);
		for (unsigned k = 0; k < 6; k++) {
			assert_int_equal(order[k], k);
			assert_int_equal(status(w, k), VIRTIO_BLK_S_OK);
		}
		for (unsigned k = 0; k < 5; k++)
			assert_int_equal(w->b.disk[4096 * k + 77], k == 3 ? 0 : k + 1);
		assert_int_equal(w->gmem[DATA + 4096 * 3 + 5], 0); /* the read's */
		assert_int_equal(w->q->in_flight, 0);
		assert_int_equal(w->q->stats.errors, 0);
		assert_int_equal(w->q->n_wait, 0);
	}
}

static void each_policy_stops_at_what_it_says_and_reports_the_rest(void **state)
{
	static const struct {
		enum vio_on_error werror, rerror;
		uint32_t type;
		int fail;
		bool stops;
	} c[] = {
		{VIO_ON_ERROR_REPORT, VIO_ON_ERROR_REPORT, VIRTIO_BLK_T_OUT, -ENOSPC, false},
		{VIO_ON_ERROR_ENOSPC, VIO_ON_ERROR_REPORT, VIRTIO_BLK_T_OUT, -EIO, false},
		{VIO_ON_ERROR_ENOSPC, VIO_ON_ERROR_REPORT, VIRTIO_BLK_T_OUT, -EDQUOT, false},
		{VIO_ON_ERROR_STOP, VIO_ON_ERROR_REPORT, VIRTIO_BLK_T_OUT, -EIO, true},
		{VIO_ON_ERROR_STOP, VIO_ON_ERROR_REPORT, VIRTIO_BLK_T_IN, -EIO, false},
		{VIO_ON_ERROR_REPORT, VIO_ON_ERROR_STOP, VIRTIO_BLK_T_IN, -EIO, true},
		{VIO_ON_ERROR_REPORT, VIO_ON_ERROR_STOP, VIRTIO_BLK_T_OUT, -EIO, false},
		{VIO_ON_ERROR_REPORT, VIO_ON_ERROR_ENOSPC, VIRTIO_BLK_T_IN, -EIO, false},
		/* A second flush would succeed without what the first has lost. */
		{VIO_ON_ERROR_STOP, VIO_ON_ERROR_STOP, VIRTIO_BLK_T_FLUSH, -ENOSPC, false},
		{VIO_ON_ERROR_STOP, VIO_ON_ERROR_STOP, VIRTIO_BLK_T_OUT, -EOPNOTSUPP, false},
	};
	struct world *w = *state;
	unsigned order[SIZE];

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(c); i++) {
		fresh(w, i % VIO_ARRAY_SIZE(ways), c[i].werror, c[i].rerror);
		w->b.fail = c[i].fail;
		put(w, 0, c[i].type);
		w_run(w);
		if (c[i].stops) {
			all_wait(w, 1);
			w->b.fail = 0;
			vio_blk_resume(disk(w));
			w_run(w);
		}
		if (answers(w, order) != 1)
			fail_msg("case %u was not answered", i);
		assert_int_equal(status(w, 0), c[i].stops                 ? VIRTIO_BLK_S_OK
					       : c[i].fail == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP
									  : VIRTIO_BLK_S_IOERR);
	}
}

static void what_an_earlier_connection_may_still_execute_is_never_sent_again(void **state)
{
	struct world *w = *state;
	unsigned order[SIZE];

	fresh(w, 0, VIO_ON_ERROR_STOP, VIO_ON_ERROR_STOP);
	w->b.fail = -EIO;
	w->b.async = true;
	put(w, 0, VIRTIO_BLK_T_OUT);
	w_run(w);
	w->b.held[0]->unsure = true;
	w->b.async = false;
	w_run(w);
	assert_int_equal(answers(w, order), 1);
	assert_int_equal(status(w, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(w->b.submits, 1);
}

static void a_write_through_whose_flush_failed_is_written_anew_before_it_is_flushed(void **state)
{
	static const enum vio_io_op want[] = {VIO_IO_WRITE, VIO_IO_FLUSH, VIO_IO_WRITE,
					      VIO_IO_FLUSH};
	struct world *w = *state;
	unsigned order[SIZE];

	for (unsigned way = 0; way < VIO_ARRAY_SIZE(ways); way++) {
		fresh(w, way, VIO_ON_ERROR_STOP, VIO_ON_ERROR_REPORT);
		w->b.be.write_through = true;
		w->b.fail_flush = -EIO;
		put(w, 0, VIRTIO_BLK_T_OUT);
		w_run(w);
		all_wait(w, 1);
		memset(w->b.disk, 0, 4096); /* the host has dropped its dirty pages */
		w->b.fail_flush = 0;
		vio_blk_resume(disk(w));
		w_run(w);
		assert_int_equal(answers(w, order), 1);
		assert_int_equal(status(w, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(w->b.disk[100], 1);
		assert_int_equal(w->b.submits, VIO_ARRAY_SIZE(want));
		assert_memory_equal(w->b.seen, want, sizeof(want));
	}
}

/* Write-zeroes of three ranges, the first empty, at block 2 and 4. */
static void put_ranges(struct world *w)
{
	struct virtio_blk_discard_write_zeroes z[3] = {
		{vio_le64(0), 0, 0},
		{vio_le64(16), vio_le32(8), 0},
		{vio_le64(32), vio_le32(8), 0},
	};

	w_blk(w, 0, VIRTIO_BLK_T_WRITE_ZEROES, 0, HDR, DATA, sizeof(z));
	w->desc[1].flags = vio_le16(VRING_DESC_F_NEXT);
	memcpy(w->gmem + DATA, z, sizeof(z));
	w->gmem[HDR + 16] = 0xee;
	w_avail(w, 0);
	w_publish(w);
}

static void ranges_go_on_where_they_stopped_and_from_the_start_after_a_failed_flush(void **state)
{
	static const enum vio_io_op want[] = {VIO_IO_ZERO, VIO_IO_ZERO, VIO_IO_FLUSH,
					      VIO_IO_ZERO, VIO_IO_ZERO, VIO_IO_FLUSH};
	struct world *w = *state;
	unsigned order[SIZE];

	for (unsigned way = 0; way < VIO_ARRAY_SIZE(ways); way++) {
		fresh(w, way, VIO_ON_ERROR_STOP, VIO_ON_ERROR_REPORT);
		memset(w->b.disk, 0x55, W_DISK_LEN);
		w->b.fail = -ENOSPC;
		put_ranges(w);
		w_run(w);
		all_wait(w, 1);
		w->b.fail = 0;
		vio_blk_resume(disk(w));
		w_run(w);
		assert_int_equal(answers(w, order), 1);
		assert_int_equal(w->b.submits, 3); /* one failed */
		for (unsigned at = 0; at < 6 * 4096; at += 4096)
			assert_int_equal(w->b.disk[at],
					 at / 4096 == 2 || at / 4096 == 4 ? 0 : 0x55);
		fresh(w, way, VIO_ON_ERROR_STOP, VIO_ON_ERROR_REPORT);
		w->b.be.write_through = true;
		w->b.fail_flush = -EIO;
		put_ranges(w);
		w_run(w);
		all_wait(w, 1);
		w->b.fail_flush = 0;
		vio_blk_resume(disk(w));
		w_run(w);
		assert_int_equal(answers(w, order), 1);
		assert_int_equal(status(w, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(w->b.submits, VIO_ARRAY_SIZE(want));
		assert_memory_equal(w->b.seen, want, sizeof(want));
	}
}

static void requests_that_wait_hold_no_bounce_room_and_come_back_whole(void **state)
{
	struct world *w = *state;
	unsigned order[SIZE];

	/* Each needs all the room there is; a request that keeps its room would stop all behind it for ever. */
	fresh(w, 1, VIO_ON_ERROR_STOP, VIO_ON_ERROR_STOP);
	w->b.fail = -EIO;
	for (unsigned k = 0; k < 8; k++) {
		w_blk(w, (uint16_t)(4 * k), k % 2 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT, 8 * k,
		      HDR + 0x40 * k, DATA + k * VIO_MAX_DATA / 2, VIO_MAX_DATA / 2);
		w_avail(w, (uint16_t)(4 * k));
	}
	w_publish(w);
	w_run(w);
	all_wait(w, 8);
	for (unsigned i = 0; i < 3; i++) {
		vio_blk_resume(disk(w));
		w_run(w);
		all_wait(w, 8);
	}
	w->b.fail = 0;
	vio_blk_resume(disk(w));
	w_run(w);
	assert_int_equal(answers(w, order), 8);
	for (unsigned k = 0; k < 8; k++)
		assert_int_equal(status(w, k), VIRTIO_BLK_S_OK);
}

static void a_queue_that_ends_leaves_what_waits_and_touches_nothing(void **state)
{
	struct world *w = *state;
	static uint8_t before[W_RO];

	for (unsigned way = 0; way < VIO_ARRAY_SIZE(ways); way++) {
		fresh(w, way, VIO_ON_ERROR_STOP, VIO_ON_ERROR_STOP);
		w->b.fail = -EIO;
		for (unsigned k = 0; k < 5; k++)
			put(w, k, k % 2 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT);
		w_run(w);
		all_wait(w, 5);
		w->b.fail = 0;
		vio_store_release(&w->q->ctl, VIO_SQ_STOP);
		vio_blk_resume(disk(w)); /* at the worst of times */
		memcpy(before, w->gmem, sizeof(before));
		w->b.submits = 0;
		for (unsigned turn = 0; turn < 10; turn++)
			vio_squeue_poll(w->q);
		assert_int_equal(w->q->in_flight, 0);
		assert_int_equal(w->q->parked, 0);
		assert_int_equal(w->b.submits, 0);
		assert_memory_equal(before, w->gmem, sizeof(before));
		assert_false(vio_squeue_arm(w->q));
	}
}

static void what_was_begun_before_a_resumption_stops_the_disk_no_more(void **state)
{
	struct world *w = *state;
	unsigned order[SIZE];

	fresh(w, 0, VIO_ON_ERROR_STOP, VIO_ON_ERROR_STOP);
	w->b.async = true;
	put(w, 0, VIRTIO_BLK_T_OUT);
	put(w, 1, VIRTIO_BLK_T_OUT);
	w_run(w);
	vio_store_relaxed(&disk(w)->stopped, 5); /* as if another queue had */
	vio_blk_resume(disk(w));
	w->b.async = false;
	w->b.fail_poll = -EIO;
	w_run(w);
	assert_int_equal(answers(w, order), 2);
	assert_int_equal(status(w, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(status(w, 1), VIRTIO_BLK_S_OK);
	assert_int_equal(w->q->parked, 0);
}

static void what_fails_again_after_a_resumption_is_kept_and_done_once_more(void **state)
{
	struct world *w = *state;
	unsigned order[SIZE];

	fresh(w, 0, VIO_ON_ERROR_STOP, VIO_ON_ERROR_STOP);
	w->b.async = true;
	put(w, 0, VIRTIO_BLK_T_OUT);
	put(w, 1, VIRTIO_BLK_T_OUT);
	w_run(w);
	vio_store_relaxed(&disk(w)->stopped, 5); /* as if another queue had */
	vio_blk_resume(disk(w));
	w->b.async = false;
	w->b.fail = w->b.fail_poll = -EIO;
	w_run(w); /* the first try's failure, and the second's */
	all_wait(w, 2);
	w->b.fail = w->b.fail_poll = 0;
	vio_blk_resume(disk(w));
	w_run(w);
	assert_int_equal(answers(w, order), 2);
	assert_int_equal(w->q->in_flight, 0);
	assert_int_equal(w->q->parked, 0);
}

static void what_fails_while_windows_change_after_a_resumption_keeps_nobody_waiting(void **state)
{
	struct world *w = *state;
	unsigned order[SIZE];

	fresh(w, 0, VIO_ON_ERROR_STOP, VIO_ON_ERROR_STOP);
	w->b.async = true;
	put(w, 1, VIRTIO_BLK_T_OUT); /* at the store when the disk stops */
	w_run(w);
	vio_store_relaxed(&disk(w)->stopped, 5); /* as if another queue had */
	put(w, 0, VIRTIO_BLK_T_OUT);
	w_run(w);
	assert_int_equal(w->q->parked, 1);
	vio_store_release(&w->q->ctl, VIO_SQ_HOLD);
	vio_blk_resume(disk(w));
	w->b.async = false;
	w->b.fail_poll = -EIO;
	w_run(w);
	assert_int_equal(w->q->in_flight, w->q->parked); /* what the adapter waits for */
	w->b.fail_poll = 0;
	vio_store_release(&w->q->ctl, VIO_SQ_RUN);
	w_run(w);
	assert_int_equal(answers(w, order), 2);
}

static void a_held_queue_begins_nothing_again_until_it_runs(void **state)
{
	struct world *w = *state;
	unsigned order[SIZE];

	fresh(w, 0, VIO_ON_ERROR_STOP, VIO_ON_ERROR_STOP);
	w->b.fail = -EIO;
	put(w, 0, VIRTIO_BLK_T_OUT);
	w_run(w);
	w->b.fail = 0;
	vio_store_release(&w->q->ctl, VIO_SQ_HOLD);
	vio_blk_resume(disk(w));
	w_run(w);
	assert_int_equal(w->q->parked, 1); /* the adapter may be changing windows */
	assert_false(vio_squeue_arm(w->q));
	vio_store_release(&w->q->ctl, VIO_SQ_RUN);
	w_run(w);
	assert_int_equal(answers(w, order), 1);
	assert_int_equal(status(w, 0), VIRTIO_BLK_S_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_failed_waits_and_is_done_again_in_order_when_room_was_made),
		cmocka_unit_test(each_policy_stops_at_what_it_says_and_reports_the_rest),
		cmocka_unit_test(what_an_earlier_connection_may_still_execute_is_never_sent_again),
		cmocka_unit_test(
			a_write_through_whose_flush_failed_is_written_anew_before_it_is_flushed),
		cmocka_unit_test(
			ranges_go_on_where_they_stopped_and_from_the_start_after_a_failed_flush),
		cmocka_unit_test(requests_that_wait_hold_no_bounce_room_and_come_back_whole),
		cmocka_unit_test(a_queue_that_ends_leaves_what_waits_and_touches_nothing),
		cmocka_unit_test(what_was_begun_before_a_resumption_stops_the_disk_no_more),
		cmocka_unit_test(what_fails_again_after_a_resumption_is_kept_and_done_once_more),
		cmocka_unit_test(
			what_fails_while_windows_change_after_a_resumption_keeps_nobody_waiting),
		cmocka_unit_test(a_held_queue_begins_nothing_again_until_it_runs),
	};

	return cmocka_run_group_tests_name("server/blk_stop", tests, w_setup, w_teardown);
}
