/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A small device at the other end of a virtqueue: reads the rings as VIRTIO 1.2 section 2.7 says,
 * with nothing taken from the driver under test but the ring memory.
 */
#ifndef TEST_MODEL_DEVICE_H
#define TEST_MODEL_DEVICE_H

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "guest/vring.h"
#include "vio/notify.h"

#define TABLES_AT 0x40000000ull

struct model {
	struct vio_vring_cfg cfg; /* the rings' memory */
	uint16_t last_avail, used_idx, published;
};

struct model_seg {
	uint64_t at;
	uint32_t len;
	bool dev_writes;
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
}

static inline void model_fini(struct model *m)
{
	free(m->cfg.desc);
	free(m->cfg.avail);
	free(m->cfg.used);
	free(m->cfg.tables);
}

static inline bool model_has(const struct model *m)
{
	return vio_le16(vio_load_acquire(&m->cfg.avail->idx)) != m->last_avail;
}

/* Next available head, -1 when there is none. */
static inline int model_pop(struct model *m)
{
	if (!model_has(m))
		return -1;
	return vio_le16(vio_load_relaxed(&m->cfg.avail->ring[m->last_avail++ % m->cfg.size]));
}

static inline struct vring_desc model_desc(const struct vring_desc *d)
{
	return (struct vring_desc){
		.addr = vio_le64(vio_load_relaxed(&d->addr)),
		.len = vio_le32(vio_load_relaxed(&d->len)),
		.flags = vio_le16(vio_load_relaxed(&d->flags)),
		.next = vio_le16(vio_load_relaxed(&d->next)),
	};
}

/* The chain's segments; returns how many, or -1 when the chain breaks a rule. */
static inline int model_chain(const struct model *m, int head,
			      struct model_seg out[VIO_DMA_MAX_SEG])
{
	const struct vring_desc *table = m->cfg.desc;
	unsigned limit = m->cfg.size, i = (unsigned)head;

	for (int n = 0; n < VIO_DMA_MAX_SEG; n++) {
		if (i >= limit)
			return -1;
		struct vring_desc d = model_desc(&table[i]);

		if (d.flags & VRING_DESC_F_INDIRECT) {
			uint64_t off = d.addr - TABLES_AT;

			if (!m->cfg.indirect || n > 0 || (d.flags & VRING_DESC_F_NEXT) ||
			    d.len % 16)
				return -1;
			table = (const struct vring_desc *)(const void *)((const uint8_t *)
										  m->cfg.tables +
									  off);
			limit = d.len / 16;
			i = 0;
			n--;
			continue;
		}
		out[n] = (struct model_seg){d.addr, d.len, d.flags & VRING_DESC_F_WRITE};
		if (!(d.flags & VRING_DESC_F_NEXT))
			return n + 1;
		i = d.next;
	}
	return -1;
}

static inline void model_put(struct model *m, uint32_t id, uint32_t len)
{
	struct vring_used_elem *e = &m->cfg.used->ring[m->used_idx++ % m->cfg.size];

	vio_store_relaxed(&e->id, vio_le32(id));
	vio_store_relaxed(&e->len, vio_le32(len));
}

/* Whether the driver wants a notification. */
static inline bool model_publish(struct model *m)
{
	uint16_t old = m->published;

	m->published = m->used_idx;
	return vio_publish_and_check(&m->cfg.used->idx, m->used_idx, old,
				     &m->cfg.avail->ring[m->cfg.size], &m->cfg.avail->flags,
				     VRING_AVAIL_F_NO_INTERRUPT, m->cfg.event_idx);
}

static inline uint16_t *model_event(const struct model *m)
{
	return m->cfg.event_idx ? (uint16_t *)(void *)&m->cfg.used->ring[m->cfg.size] : NULL;
}

static inline void model_park(struct model *m)
{
	vio_park(model_event(m), &m->cfg.used->flags, VRING_USED_F_NO_NOTIFY, m->last_avail);
}

static inline bool model_arm(struct model *m)
{
	return vio_arm_and_recheck(model_event(m), &m->cfg.used->flags, VRING_USED_F_NO_NOTIFY,
				   &m->cfg.avail->idx, m->last_avail);
}

#endif
