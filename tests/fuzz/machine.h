/* SPDX-License-Identifier: BSD-3-Clause */
/* The one thing of the data path that needs a hypervisor: sending a notification. */
#ifndef VIO_TESTS_FUZZ_MACHINE_H
#define VIO_TESTS_FUZZ_MACHINE_H

#include "tests/fuzz/fuzz.h"
#include "vio/phyp.h"

/* A vcpu of a server partition, and its unit. Made once, for all inputs; never destroyed. */
static inline struct phyp_vcpu *vcpu_of_machine(uint32_t *unit)
{
	static struct phyp_vcpu *vcpu;
	static uint32_t the_unit;
	struct phyp_profile p;
	struct phyp_machine *m;
	struct phyp_part *part;
	struct vio_err err;

	if (!vcpu) {
		phyp_profile_default(&p, 1, 16, 16);
		FUZZ_CHECK(phyp_local_create(&p, &m, &err) == 0);
		FUZZ_CHECK(phyp_local_open(m, "vios", &part, &err) == 0);
		FUZZ_CHECK(phyp_vcpu_create(part, &vcpu, &err) == 0);
		the_unit = phyp_unit(part, 0)->unit;
	}
	*unit = the_unit;
	return vcpu;
}

#endif
