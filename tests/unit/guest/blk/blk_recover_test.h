/* SPDX-License-Identifier: BSD-3-Clause */
/* Writes that are out while something happens, and what must be on the disk afterwards. */
#ifndef VIO_TEST_GUEST_BLK_RECOVER_TEST_H
#define VIO_TEST_GUEST_BLK_RECOVER_TEST_H

#include "blk_test.h"

#define N BT_DEPTH

/* Writes of N blocks in one publish, each with its own key; reads check what is on the disk afterwards. */
static inline void put_out(struct bt *x, struct vio_blk_req r[N], unsigned q, uint32_t key)
{
	struct vio_blk_req *p[N];

	for (unsigned i = 0; i < N; i++) {
		r[i] = (struct vio_blk_req){.type = VIRTIO_BLK_T_OUT,
					    .sector = 8 * (N * q + i),
					    .len = BT_BS,
					    .buf = x->buf[N * q + i],
					    .result = 77};
		bt_fill(x->va[N * q + i], BT_BS, key + i);
		p[i] = &r[i];
	}
	assert_int_equal(vio_blk_submit(x->b, q, p, N), N);
}

static inline void all_back(struct bt *x, unsigned q, int result)
{
	for (unsigned i = 0; i < N; i++) {
		struct vio_blk_req *d = bt_next(x, q);

		if (!d)
			fail_msg("request %u does not come back; said: %s", i, x->said.text);
		if (d->result != result)
			fail_msg("result %d; said: %s", d->result, x->said.text);
	}
	assert_int_equal(vio_blk_outstanding(x->b, q), 0);
}

static inline void check_disk(struct bt *x, unsigned q, uint32_t key)
{
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(bt_do(x, VIRTIO_BLK_T_IN, 8 * (N * q + i), BT_BS, 30), 0);
		assert_true(bt_filled(x->va[30], BT_BS, key + i));
	}
}

#endif
