/* SPDX-License-Identifier: BSD-3-Clause */
/* What the guest's unit tests share: an in-process machine with one guest partition open. */
#ifndef TEST_PARTITION_H
#define TEST_PARTITION_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vio/atomics.h"
#include "vio/phyp.h"

#define PAGE 4096ull
#define MIB  (1ull << 20)

struct partition {
	struct phyp_machine *m;
	struct phyp_part *part;
	struct phyp_vcpu *v;
	struct phyp_counters *c;
	const struct phyp_unit_info *u;
};

static inline void partition_open_pages(struct partition *p, uint8_t page_shift,
					enum phyp_pages pages)
{
	struct phyp_profile profile;
	struct vio_err err = {{0}};

	phyp_profile_default(&profile, 1, 32, 32);
	profile.part[0].pages = PHYP_PAGES_4K;
	profile.part[1].pages = pages;
	profile.adapter[0].page_shift = page_shift;
	if (phyp_local_create(&profile, &p->m, &err) ||
	    phyp_local_open(p->m, "guest0", &p->part, &err) ||
	    phyp_vcpu_create(p->part, &p->v, &err))
		fail_msg("%s", err.msg);
	p->c = phyp_vcpu_counters(p->v);
	p->u = phyp_unit(p->part, 0);
}

/* Plain pages. */
static inline void partition_open(struct partition *p, uint8_t page_shift)
{
	partition_open_pages(p, page_shift, PHYP_PAGES_4K);
}

static inline void partition_close(struct partition *p)
{
	phyp_vcpu_destroy(p->v);
	phyp_close(p->part);
	phyp_local_destroy(p->m);
}

static inline uint64_t calls(const struct partition *p, uint64_t op)
{
	return p->c->hcall[phyp_op_index(op)];
}

#endif
