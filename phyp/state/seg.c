/* SPDX-License-Identifier: BSD-3-Clause */
/* The hypervisor segment: layout, creation, mapping, and the counters that are read across partitions. */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "phyp/state/seg.h"
#include "vio/cycles.h"
#include "vio/shared_mutex.h"

#define SEG_PAGE 4096ull

static uint64_t window_bytes(const struct phyp_profile *p, const struct phyp_adapter_profile *a,
			     uint32_t part)
{
	uint64_t mib = a->window_mib ? a->window_mib : 2ull * p->part[part].memory_mib;

	return mib << 20;
}

static uint32_t part_index(const struct phyp_profile *p, const char *name)
{
	for (uint32_t i = 0; i < p->n_parts; i++) {
		if (!strcmp(p->part[i].name, name))
			return i;
	}
	return HV_NONE;
}

/* Each unit's TCE table, then, behind `fixed`, its list of CRQ pages. Returns the segment's size. */
static uint64_t layout(const struct phyp_profile *p, struct hv_unit unit[PHYP_MAX_UNITS],
		       uint64_t *fixed)
{
	uint64_t at = VIO_ALIGN_UP(sizeof(struct hv_seg), SEG_PAGE);
	uint32_t count[PHYP_MAX_PARTS] = {0};

	for (uint32_t i = 0; i < 2 * p->n_adapters; i++) {
		const struct phyp_adapter_profile *a = &p->adapter[i / 2];
		struct hv_unit *u = &unit[i];
		bool server = i % 2 == 0;

		u->part = part_index(p, server ? a->server : a->client);
		u->local = count[u->part]++;
		u->partner = i ^ 1;
		u->is_server = server;
		u->page_shift = a->page_shift;
		u->base = server ? HV_WINDOW_SERVER : HV_WINDOW_CLIENT;
		u->bytes = window_bytes(p, a, u->part);
		u->tce_off = at;
		at = VIO_ALIGN_UP(at + (u->bytes >> u->page_shift) * sizeof(uint64_t), SEG_PAGE);
	}
	*fixed = at;
	for (uint32_t i = 0; i < 2 * p->n_adapters; i++) {
		unit[i].page_off = at;
		at += HV_CRQ_PAGES * sizeof(uint64_t);
	}
	return at;
}

static int fill(struct hv_seg *s, const struct phyp_profile *p)
{
	uint64_t fixed;
	int rc = 0;

	if (getrandom(s->cookie_key, sizeof(s->cookie_key), 0) != sizeof(s->cookie_key))
		return -errno;
	s->grants_each = PHYP_MAX_GRANTS / p->n_parts;
	s->magic = HV_MAGIC;
	s->version = HV_VERSION;
	s->n_parts = p->n_parts;
	s->n_units = 2 * p->n_adapters;
	s->cost = p->cost;
	s->freeze = p->freeze;
	s->exposure = p->exposure;
	s->tick_hz = vio_measure_tick_hz(20000000);
	for (uint32_t i = 0; i < p->n_parts; i++) {
		struct hv_part *x = &s->part[i];

		memcpy(x->name, p->part[i].name, sizeof(x->name));
		x->mem_bytes = (uint64_t)p->part[i].memory_mib << 20;
		x->lmb_shift = 20u + (uint32_t)__builtin_ctz(p->part[i].lmb_mib);
		x->n_lmbs = p->part[i].memory_mib / p->part[i].lmb_mib;
	}
	s->bytes = layout(p, s->unit, &fixed);
	for (uint32_t i = 0; i < s->n_units && rc == 0; i++)
		rc = vio_shared_mutex_init(&s->unit[i].crq.lock);
	return rc;
}

int hv_seg_create(const struct phyp_profile *p, struct hv_seg **seg, int *fd, struct vio_err *err)
{
	struct hv_unit unit[PHYP_MAX_UNITS];
	struct hv_seg *s;
	uint64_t fixed, bytes;
	int rc, f;

	memset(unit, 0, sizeof(unit));
	bytes = layout(p, unit, &fixed);
	f = memfd_create("vio-phyp", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (f < 0)
		return vio_err_set(err, -errno, "hypervisor segment: %s", strerror(errno));
	/*
	 * The lists of CRQ pages are left sparse: room for the largest queue, used by the first few
	 * entries.
	 */
	if (ftruncate(f, (off_t)bytes) || fallocate(f, 0, 0, (off_t)fixed) ||
	    fcntl(f, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		rc = vio_err_set(err, -errno, "hypervisor segment of %llu KiB: %s",
				 (unsigned long long)(fixed >> 10), strerror(errno));
		close(f);
		return rc;
	}
	s = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
	if (s == MAP_FAILED) {
		rc = vio_err_set(err, -errno, "hypervisor segment: %s", strerror(errno));
		close(f);
		return rc;
	}
	rc = fill(s, p);
	if (rc) {
		munmap(s, bytes);
		close(f);
		return vio_err_set(err, rc, "hypervisor segment: %s", strerror(-rc));
	}
	*seg = s;
	*fd = f;
	return 0;
}

int hv_seg_map(int fd, struct hv_seg **seg, struct vio_err *err)
{
	struct hv_seg *s = MAP_FAILED;
	struct stat st;

	if (fstat(fd, &st) == 0 && (uint64_t)st.st_size >= sizeof(*s))
		s = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (s == MAP_FAILED)
		return vio_err_set(err, -EPROTO, "hypervisor segment: cannot be mapped");
	if (s->magic != HV_MAGIC || s->version != HV_VERSION || s->bytes != (uint64_t)st.st_size) {
		munmap(s, (size_t)st.st_size);
		return vio_err_set(
			err, -EPROTO,
			"hypervisor segment: phypd is of another version than this program");
	}
	*seg = s;
	return 0;
}

void hv_seg_unmap(struct hv_seg *seg)
{
	munmap(seg, seg->bytes);
}

void hv_counters_sum(const struct hv_part *p, struct phyp_counters *sum)
{
	static_assert(sizeof(struct phyp_counters) % sizeof(uint64_t) == 0, "counters are words");
	uint64_t *to = (uint64_t *)(void *)sum;

	memset(sum, 0, sizeof(*sum));
	for (unsigned v = 0; v < PHYP_MAX_VCPUS; v++) {
		const uint64_t *from = (const uint64_t *)(const void *)&p->ctr[v].c;

		for (size_t i = 0; i < sizeof(*sum) / sizeof(uint64_t); i++)
			to[i] += vio_load_relaxed(&from[i]);
	}
}

void hv_exposure_reset(struct hv_part *p)
{
	for (unsigned v = 0; v < PHYP_MAX_VCPUS; v++) {
		struct phyp_counters *c = &p->ctr[v].c;

		vio_store_relaxed(&c->tce_pages, 0u);
		vio_store_relaxed(&c->tce_page_ticks, 0u);
		vio_store_relaxed(&c->tce_pages_write, 0u);
		vio_store_relaxed(&c->tce_page_ticks_write, 0u);
	}
}

void hv_stats(const struct hv_seg *s, struct phyp_part_stats *stats, unsigned *n)
{
	unsigned room = *n;

	for (*n = 0; *n < s->n_parts && *n < room; ++*n) {
		struct phyp_part_stats *x = &stats[*n];

		memset(x, 0, sizeof(*x));
		memcpy(x->name, s->part[*n].name, sizeof(x->name));
		x->active = vio_load_acquire(&s->part[*n].active) != 0;
		hv_counters_sum(&s->part[*n], &x->c);
	}
}
