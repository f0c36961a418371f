/* SPDX-License-Identifier: BSD-3-Clause */
/* Partition profiles: the default one, and the check of any. */
#include <stdio.h>
#include <string.h>

#include "phyp/state/seg.h"

/* TCE tables are memory of the hypervisor: 64 GiB of 4 KiB pages are 128 MiB of them. */
#define MAX_WINDOW_MIB (64u << 10)
#define MAX_MEMORY_MIB (1u << 20)

void phyp_profile_default(struct phyp_profile *p, unsigned n_guests, uint32_t server_mib,
			  uint32_t guest_mib)
{
	memset(p, 0, sizeof(*p));
	snprintf(p->cost.name, sizeof(p->cost.name), "free");
	if (n_guests > PHYP_MAX_PARTS - 1)
		n_guests = PHYP_MAX_PARTS - 1;
	p->part[0] = (struct phyp_part_profile){
		.name = "vios", .memory_mib = server_mib, .numa_node = -1};
	for (unsigned i = 0; i < n_guests; i++) {
		struct phyp_part_profile *g = &p->part[i + 1];
		struct phyp_adapter_profile *a = &p->adapter[i];

		*g = (struct phyp_part_profile){.memory_mib = guest_mib, .numa_node = -1};
		snprintf(g->name, sizeof(g->name), "guest%u", i);
		memcpy(a->server, p->part[0].name, sizeof(a->server));
		memcpy(a->client, g->name, sizeof(a->client));
	}
	p->n_parts = n_guests + 1;
	p->n_adapters = n_guests;
}

static int check_part(struct phyp_part_profile *p, struct vio_err *err)
{
	uint32_t n;

	if (p->lmb_mib == 0)
		p->lmb_mib = 16;
	if (p->lmb_mib < 2 || (p->lmb_mib & (p->lmb_mib - 1)) || p->lmb_mib > MAX_MEMORY_MIB)
		return vio_err_set(err, -EINVAL,
				   "partition %s: lmb_mib %u: must be a power of two, 2 or more",
				   p->name, p->lmb_mib);
	if (p->memory_mib == 0 || p->memory_mib % p->lmb_mib || p->memory_mib > MAX_MEMORY_MIB)
		return vio_err_set(
			err, -EINVAL,
			"partition %s: memory_mib %u: must be a multiple of lmb_mib (%u), %u to %u",
			p->name, p->memory_mib, p->lmb_mib, p->lmb_mib, MAX_MEMORY_MIB);
	n = p->memory_mib / p->lmb_mib;
	if (n > PHYP_MAX_LMBS)
		return vio_err_set(
			err, -EINVAL,
			"partition %s: memory_mib %u is %u LMBs of %u MiB, at most %d fit: raise lmb_mib",
			p->name, p->memory_mib, n, p->lmb_mib, PHYP_MAX_LMBS);
	if (p->pages > PHYP_PAGES_2M)
		return vio_err_set(err, -EINVAL, "partition %s: pages: must be auto, 4k or 2m",
				   p->name);
	return 0;
}

static struct phyp_part_profile *find(struct phyp_profile *p, const char *name)
{
	for (unsigned i = 0; i < p->n_parts; i++) {
		if (!strncmp(p->part[i].name, name, PHYP_NAME_LEN))
			return &p->part[i];
	}
	return NULL;
}

static int check_adapter(struct phyp_profile *p, unsigned i, struct vio_err *err)
{
	struct phyp_adapter_profile *a = &p->adapter[i];

	if (!memchr(a->server, 0, PHYP_NAME_LEN) || !memchr(a->client, 0, PHYP_NAME_LEN))
		return vio_err_set(err, -EINVAL, "adapter %u: a partition's name is too long", i);
	if (!find(p, a->server) || !find(p, a->client))
		return vio_err_set(err, -EINVAL, "adapter %u: there is no partition %s", i,
				   find(p, a->server) ? a->client : a->server);
	if (!strcmp(a->server, a->client))
		return vio_err_set(err, -EINVAL,
				   "adapter %u: server and client are the same partition %s", i,
				   a->server);
	if (a->page_shift == 0)
		a->page_shift = 12;
	if (a->page_shift != 12 && a->page_shift != 16 && a->page_shift != 21)
		return vio_err_set(err, -EINVAL, "adapter %u: page_shift %u: must be 12, 16 or 21",
				   i, a->page_shift);
	if (a->window_mib > MAX_WINDOW_MIB || (a->page_shift == 21 && a->window_mib % 2))
		return vio_err_set(
			err, -EINVAL,
			"adapter %u: window_mib %u: must be at most %u, and even with TCE pages of 2 MiB",
			i, a->window_mib, MAX_WINDOW_MIB);
	return 0;
}

int hv_profile_check(struct phyp_profile *p, struct vio_err *err)
{
	if (p->n_parts == 0 || p->n_parts > PHYP_MAX_PARTS)
		return vio_err_set(err, -EINVAL, "profile: %u partitions, must be 1 to %d",
				   p->n_parts, PHYP_MAX_PARTS);
	if (p->n_adapters > PHYP_MAX_UNITS / 2)
		return vio_err_set(err, -EINVAL, "profile: %u adapters, must be at most %d",
				   p->n_adapters, PHYP_MAX_UNITS / 2);
	for (unsigned i = 0; i < p->n_parts; i++) {
		struct phyp_part_profile *x = &p->part[i];
		int rc;

		if (x->name[0] == 0 || !memchr(x->name, 0, PHYP_NAME_LEN))
			return vio_err_set(err, -EINVAL,
					   "partition %u: its name must have 1 to %d characters", i,
					   PHYP_NAME_LEN - 1);
		if (find(p, x->name) != x)
			return vio_err_set(err, -EINVAL, "profile: two partitions are named %s",
					   x->name);
		rc = check_part(x, err);
		if (rc)
			return rc;
	}
	for (unsigned i = 0; i < p->n_adapters; i++) {
		int rc = check_adapter(p, i, err);

		if (rc)
			return rc;
	}
	return 0;
}
