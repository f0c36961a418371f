/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * TCE calls. A TCE is one aligned 64-bit store; no lock. Checks and partial effects as QEMU's
 * spapr_iommu has them (papr-facts in LoPAR's terms: H_PARAMETER for an unknown liobn, an index out
 * of range, a page that the partition does not have).
 */
#include "phyp/core/hcall.h"
#include "phyp/core/hv.h"
#include "vio/cycles.h"

/* The caller's own window. The remote one of a server is for RDMA only: its TCEs are the client's. */
static const struct hv_win *own_window(const struct phyp_part *part, uint64_t liobn)
{
	const struct hv_win *w = hv_window(part, liobn);

	return w && w->kind == HV_WIN_LOCAL ? w : NULL;
}

/* Index of the page at ioba, UINT64_MAX when outside. */
static uint64_t tce_index(const struct hv_win *w, uint64_t ioba)
{
	uint64_t off = ioba - w->base;

	return ioba >= w->base && off < w->bytes ? off >> w->shift : UINT64_MAX;
}

/*
 * The entry may be set: no undefined bits, and the page is memory of the partition ("checked on
 * each put").
 */
static bool tce_ok(const struct phyp_part *part, const struct hv_win *w, uint64_t tce)
{
	uint64_t page = 1ull << w->shift, addr = tce & ~(page - 1);

	if (tce & (page - 1) & ~TCE_PERM)
		return false;
	return !(tce & TCE_PERM) || vio_range_ok(addr, page, part->mem_bytes);
}

/* What a call has changed in the number of valid entries, and of those that let the device write. */
struct change {
	uint64_t valid, write; /* modulo 2^64: may be negative */
};

/*
 * x NULL: exposure is not counted; callers say so with a constant, for a loop of its own. Two vcpus
 * that write the same entry at once are the guest's own race: what is counted then can be wrong by
 * that entry until the partition has gone. An exchange would close it, for its price on each entry
 * of each call.
 */
static inline __attribute__((always_inline)) void set(const struct hv_win *w, uint64_t i,
						      uint64_t tce, struct change *x)
{
	uint64_t old = x ? vio_load_relaxed(&w->tce[i]) : 0;

	vio_store_relaxed(&w->tce[i], tce);
	if (x) {
		x->valid += (uint64_t)((tce & TCE_PERM) != 0) - ((old & TCE_PERM) != 0);
		x->write += (uint64_t)((tce & TCE_WRITE) != 0) - ((old & TCE_WRITE) != 0);
	}
}

/* One look at the clock a call, and none when it left as much valid as it found. */
static void expose(struct phyp_counters *c, const struct hv_win *w, const struct change *x)
{
	uint64_t valid = x->valid << (w->shift - 12), write = x->write << (w->shift - 12), now;

	if (!(valid | write))
		return;
	now = vio_ticks();
	vio_counter_add(&c->tce_pages, valid);
	vio_counter_add(&c->tce_page_ticks, valid * now);
	vio_counter_add(&c->tce_pages_write, write);
	vio_counter_add(&c->tce_page_ticks_write, write * now);
}

/* Set up to n entries from i on, from the list, or all to `same` when list is NULL. How many were. */
static inline __attribute__((always_inline)) uint64_t fill(const struct phyp_part *part,
							   const struct hv_win *w, uint64_t i,
							   const struct be64 *list, uint64_t same,
							   uint64_t n, struct change *x)
{
	uint64_t room = (w->bytes >> w->shift) - i, done;

	for (done = 0; done < n && done < room; done++) {
		uint64_t tce = same;

		if (list) {
			tce = vio_from_be64((struct be64){vio_load_relaxed(&list[done].raw)});
			if (!tce_ok(part, w, tce))
				break; /* leaves the earlier entries set */
		}
		set(w, i + done, tce, x);
	}
	return done;
}

/* fill(), counted and paid for. */
static inline __attribute__((always_inline)) uint64_t write_tces(struct phyp_vcpu *v,
								 const struct hv_win *w, uint64_t i,
								 const struct be64 *list,
								 uint64_t same, uint64_t n)
{
	struct change x = {0, 0};
	uint64_t done;

	if (vio_unlikely(v->part->exposure)) {
		done = fill(v->part, w, i, list, same, n, &x);
		expose(v->c, w, &x);
	} else {
		done = fill(v->part, w, i, list, same, n, NULL);
	}
	vio_counter_add(&v->c->tce_updates, done);
	if (vio_unlikely(v->part->tce_ticks))
		hv_spin(done * v->part->tce_ticks);
	return done;
}

int64_t hv_get_tce(struct phyp_vcpu *v, const uint64_t *a, uint64_t *ret)
{
	const struct hv_win *w = own_window(v->part, a[0]);
	uint64_t i = w ? tce_index(w, a[1]) : UINT64_MAX;

	if (i == UINT64_MAX)
		return H_PARAMETER;
	ret[0] = vio_load_relaxed(&w->tce[i]);
	return H_SUCCESS;
}

int64_t hv_put_tce(struct phyp_vcpu *v, const uint64_t *a, uint64_t *ret)
{
	const struct hv_win *w = own_window(v->part, a[0]);
	uint64_t i = w ? tce_index(w, a[1]) : UINT64_MAX;

	(void)ret;
	if (i == UINT64_MAX || !tce_ok(v->part, w, a[2]))
		return H_PARAMETER;
	write_tces(v, w, i, NULL, a[2], 1);
	return H_SUCCESS;
}

int64_t hv_put_tce_indirect(struct phyp_vcpu *v, const uint64_t *a, uint64_t *ret)
{
	const struct hv_win *w = own_window(v->part, a[0]);
	uint64_t i = w ? tce_index(w, a[1]) : UINT64_MAX, n = a[3];
	const struct be64 *list;

	(void)ret;
	if (i == UINT64_MAX || n > TCE_MAX_MULTI || a[2] % 4096 ||
	    !vio_range_ok(a[2], 4096, v->part->mem_bytes))
		return H_PARAMETER;
	list = (const struct be64 *)(const void *)(v->part->mem + a[2]);
	return write_tces(v, w, i, list, 0, n) == n ? H_SUCCESS : H_PARAMETER;
}

int64_t hv_stuff_tce(struct phyp_vcpu *v, const uint64_t *a, uint64_t *ret)
{
	const struct hv_win *w = own_window(v->part, a[0]);
	uint64_t i = w ? tce_index(w, a[1]) : UINT64_MAX, n = a[3];

	(void)ret;
	if (i == UINT64_MAX || n > TCE_MAX_MULTI || !tce_ok(v->part, w, a[2]))
		return H_PARAMETER;
	return write_tces(v, w, i, NULL, a[2], n) == n ? H_SUCCESS : H_PARAMETER;
}
