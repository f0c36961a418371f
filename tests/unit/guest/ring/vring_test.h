/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of the driver's split ring share: rings over a device that is a model. After cmocka.h. */
#ifndef VIO_TEST_GUEST_VRING_TEST_H
#define VIO_TEST_GUEST_VRING_TEST_H

#include "model_device.h"

static struct vio_dma_seg segs[VIO_DMA_MAX_SEG];
static int tokens[32768];

static inline struct vio_vring *open_ring(struct model *m, uint16_t size, bool event_idx,
					  bool indirect)
{
	struct vio_vring *vr = NULL;
	struct vio_err err;

	model_init(m, size, event_idx, indirect);
	assert_int_equal(vio_vring_new(&m->cfg, &vr, &err), 0);
	return vr;
}

static inline void close_ring(struct model *m, struct vio_vring *vr)
{
	vio_vring_free(vr);
	model_fini(m);
}

/* n segments that tell where they belong; the last half is written by the device. */
static inline const struct vio_dma_seg *make(unsigned n, uint64_t salt)
{
	for (unsigned i = 0; i < n; i++) {
		segs[i] = (struct vio_dma_seg){.len = 100 + i, .dev_writes = i >= (n + 1) / 2};
		segs[i].at.v = (salt << 16) + i * 0x1000;
	}
	return segs;
}

static inline void expect_chain(const struct model *m, int head, unsigned n, uint64_t salt)
{
	struct mock_seg got[VIO_DMA_MAX_SEG];

	assert_int_equal(model_chain(m, head, got), n);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(got[i].at, (salt << 16) + i * 0x1000);
		assert_int_equal(got[i].len, 100 + i);
		assert_int_equal(got[i].dev_writes, i >= (n + 1) / 2);
	}
}

static inline void add(struct vio_vring *vr, unsigned n, uint64_t salt)
{
	assert_int_equal(vio_vring_add(vr, make(n, salt), n, &tokens[salt % 32768]), 0);
}

#endif
