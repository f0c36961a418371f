/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtqueue that is driven by hand, from either side, of any layout: for tests, fuzzers and benchmarks of the other side. It takes
 * nothing from the product but vq/packed.h and keeps no state that the specification does not have, so that it can also do what a
 * correct peer never does: mock_load() and mock_store() reach every word. What it finds wrong of its peer ends the program. One thread.
 *
 * Its memory is `part[]`, or whatever `io` makes of it (a peer that reaches the ring by calls). Source: VIRTIO 1.2, 2.7 and 2.8.
 */
#ifndef VIO_VQ_MOCK_H
#define VIO_VQ_MOCK_H

#include <stdio.h>
#include <stdlib.h>

#include <linux/virtio_config.h>

#include "vq/packed.h"

#define MOCK_MAX                                                                                   \
	1024u /* the most entries of a packed or in-order queue; other queues may have any */

#define mock_must(cond)                                                                            \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: the other side of the ring did wrong: not %s\n",   \
				__FILE__, __LINE__, #cond);                                        \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* The packed ring, and the words of driver and device, take the same places. */
enum mock_part { MOCK_DESC, MOCK_AVAIL, MOCK_USED, MOCK_PARTS };

struct mock_io {
	void (*get)(void *ctx, enum mock_part part, uint64_t off, void *to, unsigned len);
	void (*put)(void *ctx, enum mock_part part, uint64_t off, const void *from, unsigned len);
};

struct mock {
	void *part[MOCK_PARTS];
	const struct mock_io *io; /* NULL: part[] is the memory */
	void *ctx;
	uint16_t size;
	bool packed, in_order, event_idx;
	/* Free-running. The driver's: next to make available, and to look at; the device's: next to take, and to fill. */
	uint16_t next, used;
	uint16_t
		published; /* driver: next as the device may see it; device: used as the driver may see it */
	uint64_t head_tail; /* packed, driver: what publish stores at `published` */
	/* By id, packed or in order: descriptors of the chain that is outstanding. In order: ids as they went. */
	uint16_t held[MOCK_MAX], order[MOCK_MAX], in, out;
};

struct mock_seg {
	uint64_t at;
	uint32_t len;
	bool dev_writes, table; /* table: it is a table of descriptors that is not followed */
};

/* features: of the layout, and VIRTIO_RING_F_EVENT_IDX. The memory is as it is. */
static inline void mock_init(struct mock *m, uint16_t size, uint64_t features, void *desc,
			     void *avail, void *used)
{
	*m = (struct mock){.part = {desc, avail, used},
			   .size = size,
			   .packed = features >> VIRTIO_F_RING_PACKED & 1,
			   .in_order = features >> VIRTIO_F_IN_ORDER & 1,
			   .event_idx = features >> VIRTIO_RING_F_EVENT_IDX & 1};
	mock_must(size <= MOCK_MAX || !(m->packed || m->in_order));
}

/* ---- words ---- */

/* 2, 4 or 8 bytes, in host order. */
static inline uint64_t mock_load(const struct mock *m, enum mock_part part, uint64_t off,
				 unsigned len)
{
	const void *p = (const uint8_t *)m->part[part] + (m->io ? 0 : off);
	uint64_t buf = 0;

	if (m->io)
		m->io->get(m->ctx, part, off, &buf, len);
	else if (len == 2)
		buf = vio_load_relaxed((const uint16_t *)p);
	else if (len == 4)
		buf = vio_load_relaxed((const uint32_t *)p);
	else
		buf = vio_load_relaxed((const uint64_t *)p);
	return len == 2   ? vio_le16((uint16_t)buf)
	       : len == 4 ? vio_le32((uint32_t)buf)
			  : vio_le64(buf);
}

static inline void mock_store(const struct mock *m, enum mock_part part, uint64_t off, unsigned len,
			      uint64_t v)
{
	void *p = (uint8_t *)m->part[part] + (m->io ? 0 : off);
	const uint64_t buf = len == 2   ? vio_le16((uint16_t)v)
			     : len == 4 ? vio_le32((uint32_t)v)
					: vio_le64(v);

	if (m->io)
		m->io->put(m->ctx, part, off, &buf, len);
	else if (len == 2)
		vio_store_relaxed((uint16_t *)p, (uint16_t)buf);
	else if (len == 4)
		vio_store_relaxed((uint32_t *)p, (uint32_t)buf);
	else
		vio_store_relaxed((uint64_t *)p, buf);
}

/* The word that publishes: the loads after it, or the stores before it, stay there. */
static inline uint64_t mock_load_acquire(const struct mock *m, enum mock_part part, uint64_t off,
					 unsigned len)
{
	const void *p = (const uint8_t *)m->part[part] + (m->io ? 0 : off);
	uint64_t v;

	if (!m->io && len == 2)
		return vio_le16(vio_load_acquire((const uint16_t *)p)); /* pairs A, B */
	if (!m->io && len == 8)
		return vio_le64(vio_load_acquire((const uint64_t *)p)); /* pairs A, B */
	v = mock_load(m, part, off, len);
	vio_fence_acquire(); /* pair D */
	return v;
}

static inline void mock_store_release(const struct mock *m, enum mock_part part, uint64_t off,
				      unsigned len, uint64_t v)
{
	void *p = (uint8_t *)m->part[part] + (m->io ? 0 : off);

	if (!m->io && len == 2) {
		vio_store_release((uint16_t *)p, vio_le16((uint16_t)v)); /* pairs A, B */
	} else if (!m->io && len == 8) {
		vio_store_release((uint64_t *)p, vio_le64(v)); /* pairs A, B */
	} else {
		vio_fence_release(); /* pair D */
		mock_store(m, part, off, len, v);
	}
}

static inline uint16_t mock_slot(const struct mock *m, uint16_t idx)
{
	return (uint16_t)(idx & (m->size - 1));
}
/* Length, id and flags of the packed descriptor at `idx`, as a little-endian word (vq/packed.h). */
static inline uint64_t mock_tail(const struct mock *m, uint16_t idx)
{
	return vio_le64(mock_load_acquire(m, MOCK_DESC, 16ull * mock_slot(m, idx) + 8, 8));
}
static inline void mock_set_tail(const struct mock *m, uint16_t idx, uint64_t tail)
{
	mock_store_release(m, MOCK_DESC, 16ull * mock_slot(m, idx) + 8, 8, vio_le64(tail));
}
/* Where what a side wants to be told of is: event index behind its ring, or flags; or its word. */
static inline uint64_t mock_wish_at(const struct mock *m, enum mock_part part)
{
	return m->packed || !m->event_idx ? 0 : 4 + (part == MOCK_AVAIL ? 2ull : 8ull) * m->size;
}

/* Is a side that owns `part` to be told of what was published from `old` to `now`? */
static inline bool mock_wants(const struct mock *m, enum mock_part part, uint16_t now, uint16_t old)
{
	const uint64_t at = mock_wish_at(m, part);

	vio_fence_full(); /* pair N */
	if (m->packed)
		return vio_packed_wants(vio_le32((uint32_t)mock_load(m, part, 0, 4)), now, old,
					m->size, m->event_idx);
	return m->event_idx ? vring_need_event((uint16_t)mock_load(m, part, at, 2), now, old)
			    : !(mock_load(m, part, at, 2) & VRING_AVAIL_F_NO_INTERRUPT);
}

/* Ask, in `part`, to be told from `idx` on; or not at all. */
static inline void mock_ask(const struct mock *m, enum mock_part part, uint16_t idx)
{
	if (m->packed)
		mock_store(m, part, 0, 4,
			   vio_le32(m->event_idx ? vio_packed_ask_at(idx, m->size)
						 : vio_packed_ask()));
	else
		mock_store(m, part, mock_wish_at(m, part), 2, m->event_idx ? idx : 0);
	vio_fence_full(); /* pair N */
}
static inline void mock_silence(const struct mock *m, enum mock_part part, uint16_t idx)
{
	if (m->packed) {
		mock_store(m, part, 0, 4, vio_le32(vio_packed_silence()));
		return;
	}
	mock_store(m, part, 0, 2, VRING_AVAIL_F_NO_INTERRUPT);
	if (m->event_idx)
		mock_store(m, part, mock_wish_at(m, part), 2, (uint16_t)(idx + 0x8000));
}

/* In order: how many chains end with `id`; it is one of those outstanding. */
static inline unsigned mock_batch(const struct mock *m, uint16_t id)
{
	unsigned n = 1;

	if (!m->in_order)
		return 1;
	for (; m->order[(uint16_t)(m->out + n - 1) % MOCK_MAX] != id; n++)
		mock_must((uint16_t)(m->out + n) != m->in);
	return n;
}
/* `n` chains that end with `id` are not outstanding any more; descriptors, or entries of the split ring, that they took. */
static inline unsigned mock_forget(struct mock *m, uint16_t id, unsigned n)
{
	unsigned sum = 0;

	for (unsigned i = 0; i < n; i++) {
		const uint16_t k = m->in_order ? m->order[m->out++ % MOCK_MAX] : id;

		sum += m->packed ? m->held[k] : 1;
		if (m->packed || m->in_order) {
			mock_must(k < MOCK_MAX && m->held[k] > 0);
			m->held[k] = 0;
		}
	}
	return sum;
}
static inline void mock_remember(struct mock *m, uint16_t id, unsigned descs)
{
	if (m->packed || m->in_order) {
		mock_must(id < MOCK_MAX && m->held[id] == 0);
		m->held[id] = (uint16_t)descs;
	}
	if (m->in_order)
		m->order[m->in++ % MOCK_MAX] = id;
}

/* ---- the driver's side ---- */

/* Split: entry i of the table, whatever is put there. Addresses are I/O bus addresses. */
static inline void mock_desc(const struct mock *m, unsigned i, uint64_t at, uint32_t len,
			     unsigned flags, unsigned next)
{
	mock_store(m, MOCK_DESC, 16ull * i, 8, at);
	mock_store(m, MOCK_DESC, 16ull * i + 8, 8,
		   (uint64_t)len | (uint64_t)flags << 32 | (uint64_t)next << 48);
}
/* Split: the next available entry; visible after mock_publish(). */
static inline void mock_entry(struct mock *m, uint16_t head)
{
	mock_store(m, MOCK_AVAIL, 4 + 2ull * mock_slot(m, m->next++), 2, head);
}
/* Packed: the next descriptor; visible at once, unless it is the first since the last publish. */
static inline void mock_packed_desc(struct mock *m, uint64_t at, uint32_t len, uint16_t id,
				    unsigned flags)
{
	const uint16_t idx = m->next++;
	const uint64_t tail =
		vio_packed_tail(len, id, (uint16_t)(flags | vio_packed_avail_bits(idx, m->size)));

	mock_store(m, MOCK_DESC, 16ull * mock_slot(m, idx), 8, at);
	if (idx == m->published)
		m->head_tail = tail;
	else
		mock_set_tail(m, idx, tail);
}

/* A chain in any layout; split: in the table's entries from `id` on, around its end. */
static inline void mock_add(struct mock *m, uint16_t id, const struct mock_seg *seg, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const unsigned flags = (seg[i].dev_writes ? VRING_DESC_F_WRITE : 0u) |
				       (i + 1 < n ? VRING_DESC_F_NEXT : 0u);

		if (m->packed)
			mock_packed_desc(m, seg[i].at, seg[i].len, id, flags);
		else
			mock_desc(m, mock_slot(m, (uint16_t)(id + i)), seg[i].at, seg[i].len, flags,
				  mock_slot(m, (uint16_t)(id + i + 1)));
	}
	if (!m->packed)
		mock_entry(m, id);
	mock_remember(m, id, n);
}

/* What was added is visible. Does the device want a kick? */
static inline bool mock_publish(struct mock *m)
{
	const uint16_t old = m->published;

	if (m->packed && m->next != old)
		mock_set_tail(m, old, m->head_tail);
	else if (!m->packed)
		mock_store_release(m, MOCK_AVAIL, 2, 2, m->next);
	m->published = m->next;
	return m->next != old && mock_wants(m, MOCK_USED, m->next, old);
}

/* The next used element, and how many chains it stands for: one, or in order up to this one. 0: there is none. */
static inline unsigned mock_used(struct mock *m, uint32_t *id, uint32_t *len)
{
	unsigned n;

	if (m->packed) {
		const uint64_t tail = mock_tail(m, m->used);

		if (!vio_packed_is_used(tail, m->used, m->size))
			return 0;
		*id = vio_packed_id(tail);
		*len = vio_packed_len(tail);
	} else {
		const uint64_t at = 4 + 8ull * mock_slot(m, m->used);

		if (mock_load_acquire(m, MOCK_USED, 2, 2) == m->used)
			return 0;
		*id = (uint32_t)mock_load(m, MOCK_USED, at, 4);
		*len = (uint32_t)mock_load(m, MOCK_USED, at + 4, 4);
	}
	n = mock_batch(m, (uint16_t)*id);
	m->used = (uint16_t)(m->used + mock_forget(m, (uint16_t)*id, n));
	return n;
}

/* ---- the device's side ---- */

static inline bool mock_has(const struct mock *m)
{
	return m->packed ? vio_packed_is_avail(mock_tail(m, m->next), m->next, m->size)
			 : mock_load_acquire(m, MOCK_AVAIL, 2, 2) != m->next;
}

/* Split: the next available head, whatever its chain is. There is one (mock_has()). */
static inline uint16_t mock_head(struct mock *m)
{
	return (uint16_t)mock_load(m, MOCK_AVAIL, 4 + 2ull * mock_slot(m, m->next++), 2);
}

/* A chain's descriptors, split, from `head` on. -1: it breaks a rule. */
static inline int mock_split_chain(const struct mock *m, unsigned head, struct mock_seg seg[],
				   int max)
{
	for (int n = 0; n < max; n++) {
		uint64_t w;

		if (head >= m->size)
			return -1;
		w = mock_load(m, MOCK_DESC, 16ull * head + 8, 8);
		seg[n] = (struct mock_seg){mock_load(m, MOCK_DESC, 16ull * head, 8), (uint32_t)w,
					   w >> 32 & VRING_DESC_F_WRITE,
					   w >> 32 & VRING_DESC_F_INDIRECT};
		if (!(w >> 32 & VRING_DESC_F_NEXT))
			return n + 1;
		head = (unsigned)(w >> 48);
	}
	return -1;
}

/* The chain of a packed ring that begins at `next`: it is whole, as its head is visible. */
static inline int mock_packed_chain(const struct mock *m, struct mock_seg seg[], int max,
				    uint16_t *id)
{
	for (int n = 0; n < max; n++) {
		const uint16_t idx = (uint16_t)(m->next + n);
		const uint64_t tail = mock_tail(m, idx);

		if (!vio_packed_is_avail(tail, idx, m->size))
			return -1;
		*id = vio_packed_id(tail);
		seg[n] = (struct mock_seg){mock_load(m, MOCK_DESC, 16ull * mock_slot(m, idx), 8),
					   vio_packed_len(tail),
					   vio_packed_flags(tail) & VRING_DESC_F_WRITE,
					   vio_packed_flags(tail) & VRING_DESC_F_INDIRECT};
		if (!(vio_packed_flags(tail) & VRING_DESC_F_NEXT))
			return n + 1;
	}
	return -1;
}

/* Take the next chain: its segments' number, 0 when there is none, -1 when it breaks a rule (it is not taken then). */
static inline int mock_pop(struct mock *m, struct mock_seg seg[], int max, uint16_t *id)
{
	int n;

	if (!mock_has(m))
		return 0;
	if (m->packed) {
		n = mock_packed_chain(m, seg, max, id);
	} else {
		*id = (uint16_t)mock_load(m, MOCK_AVAIL, 4 + 2ull * mock_slot(m, m->next), 2);
		n = mock_split_chain(m, *id, seg, max);
	}
	if (n > 0) {
		mock_remember(m, *id, (unsigned)n);
		m->next = (uint16_t)(m->next + (m->packed ? n : 1));
	}
	return n;
}

/* A used element at the place that is next, whatever is put there; `skip` descriptors or entries further is the next one. */
static inline void mock_put(struct mock *m, uint32_t id, uint32_t len, unsigned skip)
{
	if (m->packed) {
		mock_set_tail(
			m, m->used,
			vio_packed_tail(len, (uint16_t)id, vio_packed_used_bits(m->used, m->size)));
	} else {
		const uint64_t at = 4 + 8ull * mock_slot(m, m->used);

		mock_store(m, MOCK_USED, at, 4, id);
		mock_store(m, MOCK_USED, at + 4, 4, len);
	}
	m->used = (uint16_t)(m->used + skip);
}

/* Give the chain back; in order: and all before it, with its element. */
static inline void mock_give(struct mock *m, uint16_t id, uint32_t len)
{
	mock_put(m, id, len, mock_forget(m, id, mock_batch(m, id)));
}

/* What was given is visible (packed: it was). Does the driver want to be told? */
static inline bool mock_publish_used(struct mock *m)
{
	const uint16_t old = m->published;

	if (!m->packed)
		mock_store_release(m, MOCK_USED, 2, 2, m->used);
	m->published = m->used;
	return m->used != old && mock_wants(m, MOCK_AVAIL, m->used, old);
}

/* Ask to be told of what comes, look once more: there is something. Or ask not to be told. */
static inline bool mock_arm(const struct mock *m)
{
	if (!m->packed && m->event_idx)
		mock_store(m, MOCK_USED, 0, 2, 0);
	mock_ask(m, MOCK_USED, m->next);
	return mock_has(m);
}
static inline void mock_park(const struct mock *m)
{
	mock_silence(m, MOCK_USED, m->next);
}

#endif
