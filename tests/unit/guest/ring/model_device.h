/* SPDX-License-Identifier: BSD-3-Clause */
/* A split ring's memory, for a driver under test and the mock device at its other end; indirect tables are followed. */
#ifndef TEST_MODEL_DEVICE_H
#define TEST_MODEL_DEVICE_H

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "guest/ring/vring.h"
#include "vq/mock.h"

#define TABLES_AT 0x40000000ull

struct model {
	struct vio_vring_cfg cfg; /* the rings' memory */
	struct mock dev;
};

static inline void *model_alloc(size_t bytes)
{
	bytes = VIO_ALIGN_UP(bytes, (size_t)VIO_CACHE_LINE);
	void *p = aligned_alloc(VIO_CACHE_LINE, bytes);

	assert(p);
	memset(p, 0xa5, bytes); /* init must zero what it uses */
	return p;
}

static inline void model_init(struct model *m, uint16_t size, bool event_idx, bool indirect)
{
	memset(m, 0, sizeof(*m));
	m->cfg.size = size;
	m->cfg.event_idx = event_idx;
	m->cfg.indirect = indirect;
	m->cfg.desc = model_alloc(vio_vring_desc_bytes(size));
	m->cfg.avail = model_alloc(vio_vring_avail_bytes(size));
	m->cfg.used = model_alloc(vio_vring_used_bytes(size));
	if (indirect) {
		m->cfg.tables = model_alloc(size / 4 * VIO_DMA_MAX_SEG * sizeof(struct vring_desc));
		m->cfg.tables_at.v = TABLES_AT;
	}
	mock_init(&m->dev, size, event_idx ? 1ull << VIRTIO_RING_F_EVENT_IDX : 0, m->cfg.desc,
		  m->cfg.avail, m->cfg.used);
}

static inline void model_fini(struct model *m)
{
	free(m->cfg.desc);
	free(m->cfg.avail);
	free(m->cfg.used);
	free(m->cfg.tables);
}

/* Next available head, -1 when there is none. */
static inline int model_pop(struct model *m)
{
	return mock_has(&m->dev) ? mock_head(&m->dev) : -1;
}

/* The chain's segments; returns how many, or -1 when the chain breaks a rule. */
static inline int model_chain(const struct model *m, int head, struct mock_seg out[VIO_DMA_MAX_SEG])
{
	int n = mock_split_chain(&m->dev, (unsigned)head, out, VIO_DMA_MAX_SEG);
	struct mock t = {.size = (uint16_t)(out[0].len / 16)};

	for (int i = 0; i < n; i++)
		if (out[i].table && (n > 1 || !m->cfg.indirect || out[0].len % 16))
			return -1;
	if (n != 1 || !out[0].table)
		return n;
	t.part[MOCK_DESC] = (uint8_t *)m->cfg.tables + (out[0].at - TABLES_AT);
	n = mock_split_chain(&t, 0, out, VIO_DMA_MAX_SEG);
	for (int i = 0; i < n; i++)
		if (out[i].table)
			return -1;
	return n;
}

#endif
