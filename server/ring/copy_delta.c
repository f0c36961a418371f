/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ring access that copies only what is new, in as few calls as the registers allow: the strongest
 * fair copy design. The shadow has the guest's layout, so an index means the same in both; a
 * descriptor is fetched at most once for a burst (stamps), together with its neighbours, because
 * drivers put a chain into one line.
 */
#include "server/rdma.h"
#include "server/ring/desc.h"
#include "server/ring/shadow.h"

/*
 * `n` available entries from q->last_avail on, each into head[]; VIO_BURST of them fit one call,
 * two at the wrap.
 */
static bool read_heads(struct vio_squeue *q, uint16_t head[], unsigned n)
{
	uint64_t buf[PHYP_REGS];

	static_assert(VIO_BURST * sizeof(uint16_t) <= H_READ_RDMA_MAX,
		      "a burst of heads fits the registers");
	for (unsigned got = 0; got < n;) {
		uint16_t slot = (uint16_t)((q->last_avail + got) & (q->size - 1));
		unsigned part =
			n - got < (unsigned)(q->size - slot) ? n - got : (unsigned)(q->size - slot);
		struct ioba at = vio_avail_entry_at(q, slot);
		uint8_t why = vio_rdma_read(q, at, part * (uint32_t)sizeof(uint16_t), buf);

		if (why != VIO_ST_OK) {
			vio_shadow_fault(q, why, at);
			return false;
		}
		memcpy(&head[got], buf, part * sizeof(uint16_t));
		got += part;
	}
	for (unsigned i = 0; i < n; i++)
		head[i] = vio_le16(head[i]);
	return true;
}

/* Before descriptor i is looked at: fetch it and its neighbours, unless this burst already has it. */
static uint8_t need(struct vio_squeue *q, uint32_t i)
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
static bool fetch_span(struct vio_squeue *q, struct vio_shadow *s, const uint16_t head[],
		       unsigned n)
{
	uint32_t lo = q->size, hi = 0, len;
	uint8_t why;

	for (unsigned i = 0; i < n; i++) {
		if (head[i] >= q->size)
			return true; /* the walk will say so */
		lo = head[i] < lo ? head[i] : lo;
		hi = head[i] > hi ? head[i] : hi;
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

static void new_epoch(struct vio_squeue *q, struct vio_shadow *s)
{
	if (++s->epoch != 0)
		return;
	memset(s->stamp, 0, q->size * sizeof(s->stamp[0]));
	s->epoch = 1;
}

static unsigned pop(struct vio_squeue *q, struct vio_req *out[], unsigned max)
{
	struct vio_shadow *s = q->ring_priv;
	const struct vio_desc_src src = {.table = s->desc, .n = q->size, .need = need};
	uint16_t head[VIO_BURST];
	unsigned fresh, n, done;

	/* Entries that an earlier read of the index covered need no new one. */
	fresh = q->more ? (uint16_t)(s->idx - q->last_avail) : vio_shadow_look(q);
	if (vio_unlikely(fresh > q->size)) { /* the index that arming found was not judged yet */
		vio_sq_fault(q, VIO_ST_AVAIL_IDX, s->idx);
		return 0;
	}
	n = fresh < max ? fresh : max;
	if (n == 0 || !read_heads(q, head, n))
		return 0;
	q->windows = vio_load_acquire(q->windows_src); /* pair R; after the index */
	new_epoch(q, s);
	if (!fetch_span(q, s, head, n))
		return 0;
	for (done = 0; done < n; done++) {
		uint8_t why = vio_chain_walk(q, &src, head[done], &out[done]);

		if (vio_unlikely(why != VIO_ST_OK)) {
			vio_sq_fault(q, why, head[done]);
			break;
		}
	}
	q->last_avail = (uint16_t)(q->last_avail + done);
	q->more = s->idx != q->last_avail;
	return done;
}

/* Used elements [slot, slot+n), not wrapping: through registers when that is one call, else copied. */
static uint8_t write_elems(struct vio_squeue *q, struct vio_shadow *s, uint16_t slot, unsigned n)
{
	struct ioba at = vio_used_entry_at(q, slot);

	if (n * sizeof(s->used->ring[0]) <= H_WRITE_RDMA_MAX)
		return vio_rdma_write(q, at, n * (uint32_t)sizeof(s->used->ring[0]),
				      &s->used->ring[slot]);
	return vio_rdma_copy(q, at, ioba_add(s->used_at, 4 + 8ull * slot), 8ull * n, false);
}

static bool push(struct vio_squeue *q, struct vio_req *const r[], unsigned n)
{
	struct vio_shadow *s = q->ring_priv;
	uint16_t old = vio_shadow_fill_used(q, r, n), slot = (uint16_t)(old & (q->size - 1));
	unsigned first = n < (unsigned)(q->size - slot) ? n : (unsigned)(q->size - slot);
	uint8_t why = write_elems(q, s, slot, first);

	if (why == VIO_ST_OK && n > first)
		why = write_elems(q, s, 0, n - first);
	if (why != VIO_ST_OK) {
		vio_shadow_fault(q, why, q->place.used);
		return false;
	}
	return vio_shadow_publish(q, old);
}

const struct vio_ring_ops vio_ring_copy_delta = {
	.name = "copy-delta",
	.attach = vio_shadow_attach,
	.detach = vio_shadow_detach,
	.pop = pop,
	.push = push,
	.arm = vio_shadow_arm,
	.park = vio_shadow_park,
};
