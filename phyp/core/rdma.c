/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RDMA calls. Order of checks (LoPAR): length; liobn and range of source, then destination; TCE
 * access bits of source, then destination; then the copy. The translation is a snapshot: what a TCE
 * says after the check changes nothing.
 *
 * A remote window answers only while the pair is connected, and the connection carries the
 * partner's generation: memory that is reached is of that generation, and when the connection
 * changed during the copy, the call fails.
 */
#include <string.h>

#include "phyp/core/hcall.h"
#include "phyp/core/hv.h"
#include "phyp/core/over.h"
#include "phyp/core/pe.h"
#include "phyp/core/peer.h"

/* 128 KiB of 4 KiB pages, not aligned. */
#define MAX_RUNS (H_COPY_RDMA_MAX / 4096 + 1)

struct run {
	uint64_t gla, len; /* contiguous in the partition's logical memory */
};

struct side {
	const struct hv_win *w;
	uint64_t off; /* in the window */
	bool bad;     /* what it names is not in the window, or has no TCE for it: at `off` */
	uint32_t link;
	unsigned n;
	uint8_t *base; /* of logical address 0 here; NULL: reached page by page */
	struct hv_tmap map;
	struct run run[MAX_RUNS];
};

static bool remote(const struct side *s)
{
	return s->w->kind == HV_WIN_REMOTE;
}

/* The liobn and the range; a partner that is not connected answers like a bad one. */
static inline bool side_open(struct phyp_vcpu *v, struct side *s, uint64_t liobn, uint64_t ioba,
			     uint64_t len)
{
	s->w = hv_window(v->part, liobn);
	s->bad = false;
	s->map.va = NULL;
	if (vio_unlikely(!s->w))
		return false;
	s->off = ioba - s->w->base; /* below the window: wraps to more than any window has */
	if (vio_unlikely(!vio_range_ok(s->off, len, s->w->bytes))) {
		s->bad = true;
		return false;
	}
	if (remote(s)) {
		s->link = vio_load_acquire(&s->w->lu->u->link);
		return s->link != 0 && !vio_unlikely(hv_stopped(s->w->lu));
	}
	s->base = v->part->mem;
	return !vio_unlikely(hv_pe_stopped(s->w->lu->u));
}

/* Translate, check `need`, merge contiguous pages. */
static inline bool translate(struct side *s, uint64_t len, uint64_t need)
{
	const struct hv_win *w = s->w;
	const uint64_t page = 1ull << w->shift;
	uint64_t off = s->off;
	unsigned n = 0;

	do {
		uint64_t tce = vio_load_relaxed(&w->tce[off >> w->shift]), in = off & (page - 1);
		uint64_t part = page - in < len ? page - in : len, gla = (tce & TCE_PAGE_MASK) + in;

		if (vio_unlikely(!(tce & need))) {
			s->off = off;
			s->bad = true;
			return false;
		}
		if (n > 0 && s->run[n - 1].gla + s->run[n - 1].len == gla)
			s->run[n - 1].len += part;
		else
			s->run[n++] = (struct run){gla, part};
		off += part;
		len -= part;
	} while (len > 0);
	s->n = n;
	return true;
}

/* The code for a side that can't be used: `rc`, or that its endpoint is stopped. */
static int64_t refuse(const struct side *s, int64_t rc)
{
	if (!s->w || s->bad)
		return rc;
	return (remote(s) ? hv_stopped(s->w->lu) : hv_pe_stopped(s->w->lu->u)) ? H_R_STATE : rc;
}

/* The call is over: a window's refusal may stop its endpoint. */
static void side_error(struct phyp_vcpu *v, const struct side *s, enum pe_reason reason)
{
	if (vio_unlikely(s->w && s->bad))
		hv_pe_error(v, s->w, s->w->base + s->off, reason);
}

/* ------------------------------------------------------------------------- reaching memory ---- */

static bool standing(const struct side *s)
{
	return s->w->lu->kind == PHYP_ALIAS_RDMA;
}

/* The vcpu is marked busy: an alias that is loaded now stays until it is not. */
static bool load_alias(struct side *s)
{
	struct hv_alias *a = vio_load_acquire(&s->w->lu->peer->alias);

	if (vio_unlikely(!a || a->gen != s->link))
		return false;
	s->base = a->base;
	return true;
}

/*
 * Make both sides reachable; b may be NULL. Remote sides are used by standing alias when each of
 * them has one (the vcpu is busy then: it must not wait for a peer's lock), else page by page.
 * Returns the side that can't be reached, or NULL.
 */
static struct side *attach(struct phyp_vcpu *v, struct side *a, struct side *b)
{
	struct side *s[2];
	unsigned n = 0;
	bool all = true;

	if (remote(a))
		s[n++] = a;
	if (b && remote(b))
		s[n++] = b;
	if (n == 0)
		return NULL;
	for (unsigned i = 0; i < n; i++)
		all = all && standing(s[i]);
	for (unsigned tries = 0; all && tries < 3; tries++) {
		unsigned have = 0;

		hv_busy_begin(v);
		while (have < n && load_alias(s[have]))
			have++;
		if (vio_likely(have == n))
			return NULL;
		hv_busy_end(v);
		for (unsigned i = 0; i < n; i++) {
			if (hv_peer_ready(v->part, s[i]->w->lu->peer, s[i]->link, true))
				return s[i];
		}
	}
	for (unsigned i = 0; i < n; i++) {
		s[i]->base = NULL;
		if (hv_peer_ready(v->part, s[i]->w->lu->peer, s[i]->link, false))
			return s[i];
	}
	return NULL;
}

/* Is the memory that was used still the partner's? */
static bool detach(struct phyp_vcpu *v, struct side *s)
{
	bool same = true;

	if (remote(s)) {
		hv_busy_end(v);
		vio_fence_acquire(); /* pair J: the copy before the connection is looked at again */
		same = vio_load_acquire(&s->w->lu->u->link) == s->link && !hv_stopped(s->w->lu);
		hv_tmap_put(&s->map);
	}
	return same;
}

/* [run + done...) as a pointer; *len is cut at what is contiguous here. */
static inline uint8_t *reach(struct phyp_vcpu *v, struct side *s, unsigned i, uint64_t done,
			     uint64_t *len)
{
	const struct run *r = &s->run[i];

	if (*len > r->len - done)
		*len = r->len - done;
	if (vio_likely(s->base != NULL))
		return s->base + r->gla + done;
	return hv_peer_map(v->part, s->w->lu->peer, s->link, &s->map, r->gla + done, len);
}

/* ----------------------------------------------------------------------------------- moving ---- */

static void done_rdma(struct phyp_vcpu *v, uint64_t bytes)
{
	vio_counter_add(&v->c->rdma_bytes, bytes);
}

static void set_up_cost(const struct phyp_vcpu *v)
{
	if (vio_unlikely(v->part->rdma_ticks))
		hv_spin(v->part->rdma_ticks);
}

/* Copy all of src to dst; NULL, or the side that was lost on the way. */
static struct side *copy(struct phyp_vcpu *v, struct side *src, struct side *dst, uint64_t len)
{
	unsigned i = 0, j = 0;
	uint64_t in_i = 0, in_j = 0;

	while (len > 0) {
		uint64_t part = len;
		uint8_t *from = reach(v, src, i, in_i, &part), *to;

		if (vio_unlikely(!from))
			return src;
		to = reach(v, dst, j, in_j, &part);
		if (vio_unlikely(!to))
			return dst;
		memmove(to, from, part); /* both windows may be the caller's own and overlap */
		len -= part;
		in_i += part;
		in_j += part;
		if (in_i == src->run[i].len)
			i++, in_i = 0;
		if (in_j == dst->run[j].len)
			j++, in_j = 0;
	}
	return NULL;
}

static int64_t copy_rdma(struct phyp_vcpu *v, const uint64_t *a, struct side *src, struct side *dst)
{
	uint64_t len = a[0];
	bool src_ok, dst_ok;
	struct side *bad;

	if (!side_open(v, src, a[1], a[2], len))
		return refuse(src, H_SOURCE_PARM);
	if (!side_open(v, dst, a[3], a[4], len))
		return refuse(dst, H_DEST_PARM);
	if (!translate(src, len, TCE_READ) || !translate(dst, len, TCE_WRITE))
		return H_PERMISSION;
	set_up_cost(v);
	bad = attach(v, src, dst);
	if (!bad) {
		vio_fence_acquire(); /* pair D: what an earlier call read (an index) before what this one reads */
		bad = copy(v, src, dst, len);
		vio_fence_release(); /* pair D: what this call wrote before what a later one writes (an index) */
	}
	src_ok = detach(v, src);
	dst_ok = detach(v, dst);
	if (vio_unlikely(bad == src || !src_ok))
		return refuse(src, H_SOURCE_PARM);
	if (vio_unlikely(bad == dst || !dst_ok))
		return refuse(dst, H_DEST_PARM);
	done_rdma(v, len);
	return H_SUCCESS;
}

int64_t hv_copy_rdma(struct phyp_vcpu *v, const uint64_t *a, uint64_t *ret)
{
	struct side src, dst;
	int64_t rc;

	(void)ret;
	if (a[0] == 0 || a[0] > H_COPY_RDMA_MAX)
		return H_PARAMETER;
	src.w = dst.w = NULL;
	hv_dma_begin(v);
	rc = copy_rdma(v, a, &src, &dst);
	hv_dma_end(v);
	if (vio_unlikely(rc != H_SUCCESS)) {
		side_error(v, &src, PE_BAD_READ);
		side_error(v, &dst, PE_BAD_WRITE);
	}
	return rc;
}

/* A quantity of len bytes as a register that holds these bytes in memory order, the rest zero. */
static inline uint64_t as_register(uint64_t x, uint64_t len)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	return x << (64 - 8 * len);
#else
	(void)len;
	return x;
#endif
}

/*
 * Ring indices and flags go through the register calls: aligned quantities move in one access. They
 * also stay in a register: written to memory in parts and read back whole, they would wait for the
 * store buffer.
 */
static inline bool load_quantity(uint64_t *reg, const uint8_t *p, uint64_t len)
{
	uint64_t align = (uintptr_t)p | len;

	if (len == 4 && align % 4 == 0)
		*reg = as_register(vio_load_acquire((const uint32_t *)(const void *)p),
				   4); /* pair D */
	else if (len == 2 && align % 2 == 0)
		*reg = as_register(vio_load_acquire((const uint16_t *)(const void *)p),
				   2); /* pair D */
	else if (len == 8 && align % 8 == 0)
		*reg = vio_load_acquire((const uint64_t *)(const void *)p); /* pair D */
	else
		return false;
	return true;
}

static void store_bytes(uint8_t *p, const void *from, uint64_t len)
{
	uint64_t align = (uintptr_t)p | len;

	if (len == 8 && align % 8 == 0) {
		uint64_t x;

		memcpy(&x, from, sizeof(x));
		vio_store_release((uint64_t *)(void *)p, x); /* pair D */
	} else if (len == 4 && align % 4 == 0) {
		uint32_t x;

		memcpy(&x, from, sizeof(x));
		vio_store_release((uint32_t *)(void *)p, x);
	} else if (len == 2 && align % 2 == 0) {
		uint16_t x;

		memcpy(&x, from, sizeof(x));
		vio_store_release((uint16_t *)(void *)p, x);
	} else {
		vio_fence_release();
		memcpy(p, from, len);
		vio_fence_release();
	}
}

/* From one side into registers. */
static bool read_side(struct phyp_vcpu *v, struct side *s, uint64_t *regs, uint64_t len)
{
	uint8_t *to = (uint8_t *)regs;

	regs[(len - 1) / 8] = 0; /* the tail of the last register */
	for (unsigned i = 0; i < s->n; i++) {
		uint64_t part, in = 0;

		for (; in < s->run[i].len; in += part) {
			const uint8_t *p;

			part = len;
			p = reach(v, s, i, in, &part);
			if (vio_unlikely(!p))
				return false;
			if (part == len && load_quantity(regs, p, len))
				return true;
			vio_fence_acquire(); /* pair D */
			memcpy(to, p, part);
			vio_fence_acquire(); /* pair D */
			to += part;
		}
	}
	return true;
}

static bool write_side(struct phyp_vcpu *v, struct side *s, const uint64_t *regs, uint64_t len)
{
	const uint8_t *from = (const uint8_t *)regs;

	for (unsigned i = 0; i < s->n; i++) {
		uint64_t part, in = 0;

		for (; in < s->run[i].len; in += part) {
			uint8_t *p;

			part = len;
			p = reach(v, s, i, in, &part);
			if (vio_unlikely(!p))
				return false;
			store_bytes(p, from, part);
			from += part;
		}
	}
	return true;
}

/* Between registers and the window that is named: `need` says which way. */
static inline __attribute__((always_inline)) int64_t registers_rdma(struct phyp_vcpu *v,
								    struct side *s,
								    const uint64_t *a,
								    uint64_t *regs, uint64_t need)
{
	const int64_t parm = need == TCE_READ ? H_SOURCE_PARM : H_DEST_PARM;
	uint64_t len = a[0];
	bool ok;

	if (!side_open(v, s, a[1], a[2], len))
		return refuse(s, parm);
	if (!translate(s, len, need))
		return H_PERMISSION;
	set_up_cost(v);
	ok = attach(v, s, NULL) == NULL &&
	     (need == TCE_READ ? read_side(v, s, regs, len) : write_side(v, s, regs, len));
	ok = detach(v, s) && ok;
	return vio_unlikely(!ok) ? refuse(s, parm) : H_SUCCESS;
}

int64_t hv_read_rdma(struct phyp_vcpu *v, const uint64_t *a, uint64_t *ret)
{
	uint64_t regs[PHYP_REGS], len = a[0];
	struct side s;
	int64_t rc;

	if (len == 0 || len > H_READ_RDMA_MAX)
		return H_PARAMETER;
	hv_dma_begin(v);
	rc = registers_rdma(v, &s, a, regs, TCE_READ);
	hv_dma_end(v);
	if (vio_unlikely(rc != H_SUCCESS)) {
		side_error(v, &s, PE_BAD_READ);
		return rc;
	}
	if (len <= 8)
		ret[0] = regs[0];
	else
		memcpy(ret, regs, (len + 7) / 8 * 8);
	done_rdma(v, len);
	return H_SUCCESS;
}

int64_t hv_write_rdma(struct phyp_vcpu *v, const uint64_t *a, uint64_t *ret)
{
	uint64_t regs[H_WRITE_RDMA_MAX / 8], len = a[0];
	struct side s;
	int64_t rc;

	(void)ret;
	if (len == 0 || len > H_WRITE_RDMA_MAX)
		return H_PARAMETER;
	memcpy(regs, a + 3, sizeof(regs));
	hv_dma_begin(v);
	rc = registers_rdma(v, &s, a, regs, TCE_WRITE);
	hv_dma_end(v);
	if (vio_unlikely(rc != H_SUCCESS)) {
		side_error(v, &s, PE_BAD_WRITE);
		return rc;
	}
	done_rdma(v, len);
	return H_SUCCESS;
}
