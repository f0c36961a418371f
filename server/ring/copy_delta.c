/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ring access that copies only what is new, in as few calls as the registers allow: the strongest
 * fair copy design. The shadow has the guest's layout, so an index means the same in both; a
 * descriptor is fetched at most once for a burst (stamps), together with its neighbours, because
 * drivers put a chain into one line.
 */
#include "server/core/rdma.h"
#include "server/ring/shadow.h"
#include "server/ring/split.h"

/* `n` available entries from q->last_avail on; VIO_BURST of them fit one call, two at the wrap. */
static bool copy_delta_read_heads(struct vio_squeue *q, struct vio_shadow *s, unsigned n)
{
	uint64_t buf[PHYP_REGS];

	static_assert(VIO_BURST * sizeof(uint16_t) <= H_READ_RDMA_MAX,
		      "a burst of heads fits the registers");
	for (unsigned got = 0; got < n;) {
		uint16_t slot = split_slot(q, (uint16_t)(q->last_avail + got));
		unsigned left = (unsigned)(q->size - slot), part = n - got < left ? n - got : left;
		struct ioba at = vio_avail_entry_at(q, slot);
		uint8_t why = vio_rdma_read(q, at, part * (uint32_t)sizeof(uint16_t), buf);

		if (why != VIO_ST_OK) {
			vio_shadow_fault(q, why, at);
			return false;
		}
		memcpy(&s->avail->ring[slot], buf, part * sizeof(uint16_t));
		got += part;
	}
	return true;
}

/* Before descriptor i is looked at: fetch it and its neighbours, unless this burst already has it. */
static uint8_t copy_delta_need(struct vio_squeue *q, uint32_t i)
{
	struct vio_shadow *s = q->ring_priv;
	uint32_t n = q->size - i < VIO_DESC_PER_LINE ? q->size - i : (uint32_t)VIO_DESC_PER_LINE;
	uint64_t buf[PHYP_REGS];
	uint8_t why;

	if (s->stamp[i] == s->epoch)
		return VIO_ST_OK;
	why = vio_rdma_read(q, ioba_add(q->place.desc, 16ull * i), n * (uint32_t)sizeof(s->desc[0]),
			    buf);
	if (why != VIO_ST_OK)
		return why == VIO_ST_NO_DMA ? why : VIO_ST_QUEUE;
	for (uint32_t k = 0; k < n; k++) {
		if (s->stamp[i + k] == s->epoch)
			continue;
		memcpy(&s->desc[i + k], &buf[2 * k], sizeof(s->desc[0]));
		s->stamp[i + k] = s->epoch;
	}
	return VIO_ST_OK;
}

/* When the burst's heads lie close together, one copy of the span is cheaper than a call for each. */
static bool copy_delta_fetch_span(struct vio_squeue *q, struct vio_shadow *s, unsigned n)
{
	uint32_t lo = q->size, hi = 0, len;
	uint8_t why;

	for (unsigned i = 0; i < n; i++) {
		uint16_t head = split_head(q, i);

		if (head >= q->size)
			return true; /* the walk will say so */
		lo = head < lo ? head : lo;
		hi = head > hi ? head : hi;
	}
	hi = hi + VIO_DESC_PER_LINE < q->size ? hi + (uint32_t)VIO_DESC_PER_LINE : q->size;
	len = hi - lo;
	if (n < 2 || len > 2 * n * VIO_DESC_PER_LINE)
		return true;
	why = vio_rdma_copy(q, ioba_add(q->place.desc, 16ull * lo),
			    ioba_add(s->desc_at, 16ull * lo), 16ull * len, true);
	if (why != VIO_ST_OK) {
		vio_shadow_fault(q, why, q->place.desc);
		return false;
	}
	for (uint32_t i = lo; i < hi; i++)
		s->stamp[i] = s->epoch;
	return true;
}

static void copy_delta_new_epoch(struct vio_squeue *q, struct vio_shadow *s)
{
	if (++s->epoch != 0)
		return;
	memset(s->stamp, 0, q->size * sizeof(s->stamp[0]));
	s->epoch = 1;
}

/*
 * Entries that are in the shadow and were not taken, at most `max`; when there are none, the next burst is copied in: heads, and
 * descriptors as far as they are known or cheap. Of a burst that is taken in parts nothing is fetched twice: its descriptors can't
 * change before they are given back.
 */
static unsigned copy_delta_pull(struct vio_squeue *q, unsigned max)
{
	struct vio_shadow *s = q->ring_priv;
	unsigned n = (uint16_t)(s->copied - q->last_avail);

	if (n == 0) {
		/* Entries that an earlier read of the index covered need no new one. */
		n = s->idx != q->last_avail && !s->idx_known ? (uint16_t)(s->idx - q->last_avail)
							     : vio_shadow_look(q);
		if (n > VIO_BURST)
			n = VIO_BURST;
		if (n == 0 || !copy_delta_read_heads(q, s, n))
			return 0;
		copy_delta_new_epoch(q, s);
		if (!copy_delta_fetch_span(q, s, n))
			return 0;
		s->copied = (uint16_t)(q->last_avail + n);
	}
	return n < max ? n : max;
}

/* After a pop. */
static void copy_delta_left(struct vio_squeue *q)
{
	const struct vio_shadow *s = q->ring_priv;

	q->more = s->idx != q->last_avail;
}

static unsigned copy_delta_pop_plain(struct vio_squeue *q, struct vio_plain out[], unsigned max,
				     bool *rest)
{
	unsigned n = copy_delta_pull(q, max);

	*rest = false;
	if (n > 0)
		n = split_pop_plain(q, out, n, rest, copy_delta_need);
	copy_delta_left(q);
	return n;
}

static unsigned copy_delta_pop(struct vio_squeue *q, struct vio_req *out[], unsigned max)
{
	unsigned n = copy_delta_pull(q, max);

	if (n > 0)
		n = split_pop(q, out, n, copy_delta_need);
	copy_delta_left(q);
	return n;
}

/* Used elements [slot, slot+n), not wrapping: through registers when that is one call, else copied. */
static uint8_t copy_delta_write_elems(struct vio_squeue *q, struct vio_shadow *s, uint16_t slot,
				      unsigned n)
{
	struct ioba at = vio_used_entry_at(q, slot);

	if (n * sizeof(s->used->ring[0]) <= H_WRITE_RDMA_MAX)
		return vio_rdma_write(q, at, n * (uint32_t)sizeof(s->used->ring[0]),
				      &s->used->ring[slot]);
	return vio_rdma_copy(q, at, ioba_add(s->used_at, 4 + 8ull * slot), 8ull * n, false);
}

/* The span's elements are in the shadow: they go back, then the index. */
static bool copy_delta_back(struct vio_squeue *q, struct split_span span)
{
	struct vio_shadow *s = q->ring_priv;
	uint16_t slot = split_slot(q, span.old);
	unsigned left = (unsigned)(q->size - slot), first = span.n < left ? span.n : left;
	uint8_t why;

	if (span.n == 0)
		return false;
	why = copy_delta_write_elems(q, s, slot, first);
	if (why == VIO_ST_OK && span.n > first)
		why = copy_delta_write_elems(q, s, 0, span.n - first);
	if (why != VIO_ST_OK) {
		vio_shadow_fault(q, why, q->place.used);
		return false;
	}
	return vio_shadow_publish(q, span.old);
}

static bool copy_delta_push(struct vio_squeue *q, struct vio_req *const r[], unsigned n)
{
	return copy_delta_back(q, split_push(q, r, n));
}

static bool copy_delta_push_plain(struct vio_squeue *q, const struct vio_plain v[],
				  const uint32_t used_len[], unsigned n)
{
	return copy_delta_back(q, split_push_plain(q, v, used_len, n));
}

const struct vio_ring_ops vio_ring_copy_delta = {
	.name = "copy-delta",
	.attach = vio_shadow_attach,
	.detach = vio_shadow_detach,
	.pop = copy_delta_pop,
	.pop_plain = copy_delta_pop_plain,
	.push_plain = copy_delta_push_plain,
	.push = copy_delta_push,
	.arm = vio_shadow_arm,
	.park = vio_shadow_park,
};
