/* SPDX-License-Identifier: BSD-3-Clause */
/* What of the data path needs a hypervisor: sending a notification, and RDMA between a server's memory and a guest's. */
#ifndef VIO_TESTS_FUZZ_MACHINE_H
#define VIO_TESTS_FUZZ_MACHINE_H

#include "tests/fuzz/fuzz.h"
#include "vio/phyp.h"

#define FUZZ_CRQ   0x1000ull   /* either side's */
#define FUZZ_LOCAL 0x400000ull /* server memory for a queue, FUZZ_LOCAL_LEN bytes */
#define FUZZ_BUF                                                                                   \
	0x100000ull /* guest memory that the server may read and write by RDMA, to FUZZ_RO */
#define FUZZ_RO    0x180000ull /* and only read, to FUZZ_END */
#define FUZZ_END   0x200000ull
#define FUZZ_RINGS 0x200000ull /* and again read and write, FUZZ_RINGS_LEN bytes */

#define FUZZ_LOCAL_LEN (4ull << 20)
#define FUZZ_RINGS_LEN 0x40000ull

struct fuzz_machine {
	struct phyp_vcpu *vcpu;          /* of a server partition */
	const struct phyp_unit_info *u;  /* its unit */
	uint8_t *server, *guest;         /* memory, by logical address */
	struct ioba server_at, guest_at; /* where logical address 0 is for RDMA */
};

static inline void fuzz_map(struct phyp_vcpu *v, const struct phyp_unit_info *u, uint64_t from,
			    uint64_t to, uint64_t perm)
{
	for (uint64_t a = from; a < to; a += 4096)
		FUZZ_CHECK(h_put_tce(v, u->liobn, ioba_add(u->window, a), a | perm) == H_SUCCESS);
}

static inline void fuzz_crq(struct phyp_vcpu *v, const struct phyp_unit_info *u)
{
	int64_t rc;

	fuzz_map(v, u, FUZZ_CRQ, FUZZ_CRQ + 4096, TCE_READ | TCE_WRITE);
	rc = h_reg_crq(v, u->unit, ioba_add(u->window, FUZZ_CRQ), 4096);
	FUZZ_CHECK(rc == H_SUCCESS || rc == H_CLOSED);
}

/* Made once, for all inputs; never destroyed. */
static inline const struct fuzz_machine *fuzz_machine(void)
{
	static struct fuzz_machine f;
	const uint64_t rw = TCE_READ | TCE_WRITE;
	const struct phyp_unit_info *gu;
	struct phyp_part *part, *guest;
	struct phyp_vcpu *gv;
	struct phyp_profile p;
	struct phyp_machine *m;
	struct vio_err err;

	if (f.vcpu)
		return &f;
	phyp_profile_default(&p, 1, 16, 16);
	for (unsigned i = 0; i < p.n_parts; i++) /* so that a part of it can be mapped once more */
		p.part[i].pages = PHYP_PAGES_4K;
	FUZZ_CHECK(phyp_local_create(&p, &m, &err) == 0);
	FUZZ_CHECK(phyp_local_open(m, "vios", &part, &err) == 0);
	FUZZ_CHECK(phyp_local_open(m, "guest0", &guest, &err) == 0);
	FUZZ_CHECK(phyp_vcpu_create(part, &f.vcpu, &err) == 0);
	FUZZ_CHECK(phyp_vcpu_create(guest, &gv, &err) == 0);
	f.u = phyp_unit(part, 0);
	gu = phyp_unit(guest, 0);
	fuzz_crq(f.vcpu, f.u);
	fuzz_crq(gv, gu);
	fuzz_map(f.vcpu, f.u, FUZZ_LOCAL, FUZZ_LOCAL + FUZZ_LOCAL_LEN, rw);
	fuzz_map(gv, gu, FUZZ_BUF, FUZZ_RO, rw);
	fuzz_map(gv, gu, FUZZ_RO, FUZZ_END, TCE_READ);
	fuzz_map(gv, gu, FUZZ_RINGS, FUZZ_RINGS + FUZZ_RINGS_LEN, rw);
	FUZZ_CHECK(phyp_alias_set(part, f.u->unit, PHYP_ALIAS_RDMA, &err) == 0);
	f.server = phyp_mem(part, (struct gla){0}, phyp_mem_size(part));
	f.guest = phyp_mem(guest, (struct gla){0}, phyp_mem_size(guest));
	f.server_at = f.u->window;
	f.guest_at = gu->window;
	return &f;
}

#endif
