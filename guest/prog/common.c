/* SPDX-License-Identifier: BSD-3-Clause */
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/prog/common.h"
#include "vio/cycles.h"
#include "vio/output.h"

/* ------------------------------------------------------------------------- options ---- */

static int common_set_arm(const struct vio_option *row, void *to, const char *text,
			  struct vio_err *err)
{
	(void)row;
	return vio_arm_parse(text, to, err);
}

static int set_indirect(const struct vio_option *row, void *to, const char *text,
			struct vio_err *err)
{
	(void)row, (void)text, (void)err;
	*(uint64_t *)to |= 1ull << VIRTIO_RING_F_INDIRECT_DESC;
	return 0;
}

#define C struct vio_common
const struct vio_option vio_rows_machine[] = {
	VIO_LINES("machine\n"),
	VIO_ROW_PHYP(C, socket),
	VIO_ROW_PARTITION(C, partition, "guest0"),
	VIO_ROW_UNIT(C, transport.unit, PHYP_MAX_UNITS),
	VIO_ROW_CORE(C, core),
	{0},
};

const struct vio_option vio_rows_design[] = {
	VIO_LINES("design\n"),
	{"arm", "ARM",
	 "copy, copy-tuned, premapped, zero-copy, unprotected, or factors, separated by commas: mapping=single-use|deferred|cached|pool payload=rdma|bounce|direct|copybreak|unchecked ring=copy|copy-delta|direct notify=crq|suppress|poll layout=split|packed|split-in-order|packed-in-order",
	 VIO_CALL(C, transport.arm, common_set_arm), .def = "zero-copy"},
	{"fallback", NULL,
	 "go on with the copy design when the server does not offer the arm (default: refuse)",
	 VIO_CLEAR(C, transport.strict_arm)},
	VIO_ROW_PROTO(C, transport.proto, VIO_PROTO_LATEST),
	{"queues", "N",
	 "queues wanted; of a network card, pairs, and in vio-tap each is one queue of the tap and a thread",
	 VIO_NUMBER(C, transport.num_queues, 1, VIO_MAX_QUEUES), .def = "1"},
	VIO_ROW_QUEUE_SIZE(C, transport.queue_size, 4, VIO_MAX_QUEUE_SIZE),
	{"indirect", NULL, "use indirect descriptors",
	 VIO_CALL(C, transport.features, set_indirect)},
	{"defer-batch", "N", "mapping=deferred: unmaps a batch (64)",
	 VIO_NUMBER(C, defer_batch, 1, 4096)},
	{"quota-pages", "N", "mapping=cached: pages kept mapped (4096)",
	 VIO_NUMBER(C, quota_pages, 1, 1u << 24)},
	{"copybreak", "BYTES",
	 "payload=copybreak: bounce below this; 0: a disk's 4096, a network card's 256",
	 VIO_NUMBER(C, copybreak, 0, 1u << 30), .def = "0"},
	{0},
};

const struct vio_option vio_rows_spin[] = {
	VIO_ROW_SPIN(C, spin_ns),
	{0},
};

const struct vio_option vio_rows_output[] = {
	VIO_LINES("other\n"),    VIO_ROW_INFO(C, info_only), VIO_ROW_JSON(C, json, NULL),
	VIO_ROW_TRACE(C, trace), VIO_ROW_FAULT(C, fault),    {0},
};

const struct vio_option vio_rows_stage[] = {
	{"stage-fd", "N",
	 "write the byte M to this descriptor when the measurement begins, E when it ends",
	 VIO_NUMBER(C, stage_fd, 0, 1u << 20)},
	VIO_ROW_DUET(C, duet),
	{0},
};

const struct vio_option vio_rows_end[] = {
	{"timeout", "SECONDS", "wait this long for the server at start",
	 VIO_NUMBER(C, transport.timeout_ms, 1, 3600), .unit = 1000, .def = "5"},
	VIO_ROWS_SANDBOX(C, sandbox),
	{0},
};
#undef C

void vio_common_defaults(struct vio_common *c)
{
	memset(c, 0, sizeof(*c));
	c->core = -1;
	c->stage_fd = -1;
	c->transport.strict_arm = true;
	c->needs = VIO_NEED_OPEN;
	c->started_ns = vio_now_ns();
}

static void common_say(void *program, const char *line)
{
	fprintf(stderr, "%s: %s\n", (const char *)program, line);
}

int vio_common_parse(const struct vio_program *p, void *to, struct vio_common *c, int argc,
		     char **argv, struct vio_err *err)
{
	int rc = vio_options_parse(p, to, argc, argv, err);

	c->transport.trace = c->trace ? stderr : NULL;
	c->transport.say = common_say;
	c->transport.say_ctx = (void *)(uintptr_t)p->name;
	return rc;
}

int vio_common_duet(const struct vio_common *c, struct vio_duet *d, struct vio_err *err)
{
	int rc = 0;

	vio_duet_none(d, UINT64_MAX);
	if (c->duet)
		rc = vio_duet_open(d, c->duet, VIO_DUET_GUEST, err);
	if (c->duet && rc == 0)
		vio_duet_begin(d);
	return rc;
}

/* ----------------------------------------------------------------------- partition ---- */

static int common_pin(int core, struct vio_err *err)
{
	cpu_set_t set;

	if (core < 0)
		return 0;
	CPU_ZERO(&set); /* a core past CPU_SETSIZE sets nothing, and is refused as an empty set */
	CPU_SET((size_t)core, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		return vio_err_set(
			err, -EINVAL,
			"--core %d: this process may not run there; see the list with `taskset -cp $$`",
			core);
	return 0;
}

int vio_prog_main(const struct vio_common *c, const char *program, int parsed,
		  void (*handler)(int sig),
		  int (*run)(struct phyp_part *part, void *ctx, struct vio_err *err), void *ctx,
		  struct vio_err *err)
{
	struct sigaction sa = {.sa_handler = handler};
	struct phyp_filter *trace = NULL, *fault = NULL;
	struct phyp_part *part = NULL;
	int rc = parsed;

	if (parsed > 0)
		return 0; /* --help, --version */
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	/* Where its messages go may end or be full: no end of the guest, which others depend on. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	if (rc == 0)
		rc = common_pin(c->core, err);
	if (rc == 0 && c->json)
		rc = vio_output_check("json", c->json, err);
	if (rc == 0)
		rc = phyp_connect(c->socket, c->partition, &part, err);
	if (rc == 0 && c->fault)
		rc = phyp_fault_create(c->fault, &fault, err);
	if (fault)
		phyp_filter_push(part, fault);
	if (rc == 0 && c->trace && (trace = phyp_trace_create(stderr, c->partition)))
		phyp_filter_push(part, trace);
	if (rc == 0 && !c->sandbox_later)
		rc = vio_sandbox_enter(&c->sandbox, c->needs, err);
	if (rc == 0)
		rc = run(part, ctx, err);
	if (rc)
		fprintf(stderr, "%s: %s\n", program, err->msg);
	if (part)
		phyp_close(part);
	phyp_trace_free(trace);
	phyp_fault_free(fault);
	return parsed ? 2 : rc ? 1 : 0;
}
