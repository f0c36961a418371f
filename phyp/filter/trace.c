/* SPDX-License-Identifier: BSD-3-Clause */
/* The trace filter: a line for each call, after it was made. */
#include <stdio.h>
#include <stdlib.h>

#include "phyp/core/hcall.h"
#include "phyp/core/hv.h"

struct trace {
	struct phyp_filter filter;
	FILE *stream;
	char who[PHYP_NAME_LEN];
};

static int64_t trace_hcall(struct phyp_filter *self, struct phyp_vcpu *v, uint64_t op,
			   const uint64_t args[PHYP_REGS], uint64_t ret[PHYP_REGS])
{
	struct trace *t = vio_container_of(self, struct trace, filter);
	uint64_t a[PHYP_REGS];
	char line[512];
	unsigned n = hv_op_args(op);
	int at;
	int64_t rc;

	/* The call may overwrite its arguments. */
	for (unsigned i = 0; i < n; i++)
		a[i] = args[i];
	rc = phyp_filter_next(self, v, op, args, ret);
	at = snprintf(line, sizeof(line), "%s: %s(", t->who, phyp_op_name(op));
	for (unsigned i = 0; i < n; i++)
		at += snprintf(line + at, sizeof(line) - (size_t)at, "%s0x%llx", i ? ", " : "",
			       (unsigned long long)a[i]);
	at += snprintf(line + at, sizeof(line) - (size_t)at, ") = %s", phyp_rc_name(rc));
	for (unsigned i = 0; rc == H_SUCCESS && i < hv_op_results(op, a); i++)
		at += snprintf(line + at, sizeof(line) - (size_t)at, " 0x%llx",
			       (unsigned long long)ret[i]);
	/* One write a line, so that lines of several threads don't mix. */
	fprintf(t->stream, "%s\n", line);
	fflush(t->stream);
	return rc;
}

struct phyp_filter *phyp_trace_create(void *stream, const char *who)
{
	struct trace *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->filter.hcall = trace_hcall;
	t->stream = stream;
	snprintf(t->who, sizeof(t->who), "%s", who);
	return &t->filter;
}

void phyp_trace_free(struct phyp_filter *f)
{
	if (f)
		free(vio_container_of(f, struct trace, filter));
}
