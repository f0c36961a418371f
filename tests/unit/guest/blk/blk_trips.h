/* SPDX-License-Identifier: BSD-3-Clause */
/* Traffic that tests of the block front end make in passing: every byte is checked. */
#ifndef VIO_TEST_GUEST_BLK_TRIPS_H
#define VIO_TEST_GUEST_BLK_TRIPS_H

#include "blk_test.h"

#define must(x, call)                                                                              \
	do {                                                                                       \
		int rc_ = (call);                                                                  \
		if (rc_)                                                                           \
			fail_msg("%d; said: %s", rc_, (x)->said.text);                             \
	} while (0)

static inline void round_trips(struct bt *x)
{
	static const uint32_t len[] = {512, 1024, 4096, 12288, 65536};

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(len); i++) {
		bt_fill(x->va[0], len[i], i + 1);
		must(x, bt_do(x, VIRTIO_BLK_T_OUT, 8 * i, len[i], 0));
		memset(x->va[1], 0xEE, 65536);
		must(x, bt_do(x, VIRTIO_BLK_T_IN, 8 * i, len[i], 1));
		assert_true(bt_filled(x->va[1], len[i], i + 1));
		if (len[i] < 65536)
			assert_int_equal(x->va[1][len[i]], 0xEE); /* not a byte more */
	}
}

/* A full depth in one publish, several times over, all outstanding at once. */
static inline void bursts(struct bt *x)
{
	struct vio_blk_req r[BT_DEPTH], *p[BT_DEPTH];

	for (unsigned round = 0; round < 40; round++) {
		bool read = round % 2;

		for (unsigned i = 0; i < BT_DEPTH; i++) {
			r[i] = (struct vio_blk_req){.type = read ? VIRTIO_BLK_T_IN
								 : VIRTIO_BLK_T_OUT,
						    .sector = 128 + 8 * i,
						    .len = BT_BS,
						    .buf = x->buf[i],
						    .result = 77};
			p[i] = &r[i];
			if (!read)
				bt_fill(x->va[i], BT_BS, round * 100 + i);
			else
				memset(x->va[i], 0, BT_BS);
		}
		assert_int_equal(vio_blk_submit(x->b, 0, p, BT_DEPTH), BT_DEPTH);
		assert_int_equal(vio_blk_outstanding(x->b, 0), BT_DEPTH);
		for (unsigned i = 0; i < BT_DEPTH; i++) {
			struct vio_blk_req *d = bt_next(x, 0);

			assert_non_null(d);
			assert_int_equal(d->result, 0);
		}
		for (unsigned i = 0; read && i < BT_DEPTH; i++)
			assert_true(bt_filled(x->va[i], BT_BS, (round - 1) * 100 + i));
		assert_int_equal(vio_blk_outstanding(x->b, 0), 0);
	}
}

#endif
