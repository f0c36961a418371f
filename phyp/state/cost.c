/* SPDX-License-Identifier: BSD-3-Clause */
/* The cost model: what a call costs more on the real machine, injected on request. */
#include <stdlib.h>
#include <string.h>

#include "vio/phyp.h"

#define MAX_NS 1000000u

static const struct phyp_cost presets[] = {
	/* Nothing injected; favours designs that make many calls. */
	{.name = "free"},
	/*
	 * A direct VM exit: about 2,000 cycles of a 2.93 GHz Xeon X5570, without the indirect
	 * costs. A. Landau, M. Ben-Yehuda, A. Gordon, "SplitX: Split Guest/Hypervisor Execution on
	 * Multi-Core", WIOV 2011.
	 */
	{.name = "vmexit", .hcall_ns = 700},
	/*
	 * A CRQ-class call on PowerVM: ibmvnic's direct sub-CRQ flush, mean of a function trace,
	 * 2.54 us: an upper bound, with the tracer's and the driver's own time. Linux commit
	 * 74839f7a8268 ("ibmvnic: Introduce send sub-crq direct").
	 */
	{.name = "ibmvnic", .hcall_ns = 2500},
	/*
	 * The same source's indirect (batched) flush, mean 3.35 us: the most that is published for
	 * one call.
	 */
	{.name = "ibmvnic-indirect", .hcall_ns = 3350},
};

static int bad(struct vio_err *err, const char *text, const char *why)
{
	return vio_err_set(
		err, -EINVAL,
		"cost '%s': %s; give free, vmexit, ibmvnic, ibmvnic-indirect or hcall=NS,tce=NS,rdma=NS (each 0 to %u)",
		text, why, MAX_NS);
}

int phyp_cost_parse(const char *text, struct phyp_cost *cost, struct vio_err *err)
{
	struct phyp_cost c = {.name = "custom"};
	struct {
		const char *key;
		uint32_t *ns;
		bool seen;
	} item[] = {{"hcall=", &c.hcall_ns, false},
		    {"tce=", &c.tce_ns, false},
		    {"rdma=", &c.rdma_ns, false}};
	const char *p = text;

	for (unsigned i = 0; i < sizeof(presets) / sizeof(presets[0]); i++) {
		if (!strcmp(text, presets[i].name)) {
			*cost = presets[i];
			return 0;
		}
	}
	for (;;) {
		unsigned i = 0;
		unsigned long ns;
		char *end;

		while (i < 3 && strncmp(p, item[i].key, strlen(item[i].key)))
			i++;
		if (i == 3)
			return bad(err, text, "neither a preset nor a list of costs");
		if (item[i].seen)
			return bad(err, text, "a cost is given twice");
		item[i].seen = true;
		p += strlen(item[i].key);
		if (*p < '0' || *p > '9')
			return bad(err, text, "a number of nanoseconds is missing");
		ns = strtoul(p, &end, 10);
		if (ns > MAX_NS)
			return bad(err, text, "a cost is out of range");
		*item[i].ns = (uint32_t)ns;
		if (*end == 0)
			break;
		if (*end != ',')
			return bad(err, text, "something follows a number");
		p = end + 1;
	}
	*cost = c;
	return 0;
}
