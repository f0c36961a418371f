/* SPDX-License-Identifier: BSD-3-Clause */
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/prog/common.h"
#include "vio/cycles.h"
#include "vio/number.h"
#include "vio/output.h"

/* ------------------------------------------------------------------------- options ---- */

const char *vio_option_name(const struct option *longs, int opt)
{
	for (const struct option *l = longs; l->name; l++)
		if (l->val == opt)
			return l->name;
	return "?";
}

int vio_option_seconds(const char *name, const char *text, uint64_t *ns, struct vio_err *err)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end || !(v >= 0 && v <= 1e6))
		return vio_err_set(err, -EINVAL,
				   "--%s %s: must be a number of seconds, 0 to 1000000", name,
				   text);
	*ns = (uint64_t)(v * 1e9);
	return 0;
}

int vio_option_on_off(const char *name, const char *text, bool *on, struct vio_err *err)
{
	if (strcmp(text, "on") && strcmp(text, "off"))
		return vio_err_set(err, -EINVAL, "--%s %s: on or off", name, text);
	*on = !strcmp(text, "on");
	return 0;
}

int vio_option_rate(const char *name, const char *text, double *per_second, struct vio_err *err)
{
	char *end;

	*per_second = strtod(text, &end);
	if (end == text || *end || !(*per_second > 0 && *per_second < 1e9))
		return vio_err_set(err, -EINVAL, "--%s %s: must be requests per second, above 0",
				   name, text);
	return 0;
}

/* Options of the design. 1: not one of them. */
static int parse_design(struct vio_common *c, int opt, const char *name, const char *arg,
			struct vio_err *err)
{
	uint64_t v = 0;
	int rc;

	switch (opt) {
	case VIO_O_ARM:
		return vio_arm_parse(arg, &c->transport.arm, err);
	case VIO_O_FALLBACK:
		c->transport.strict_arm = false;
		return 0;
	case VIO_O_PROTO:
		rc = vio_option_number(name, arg, 1, 2, &v, err);
		c->transport.proto = (uint8_t)v;
		return rc;
	case VIO_O_QUEUES:
		rc = vio_option_number(name, arg, 1, VIO_MAX_QUEUES, &v, err);
		c->transport.num_queues = (uint16_t)v;
		return rc;
	case VIO_O_QUEUE_SIZE:
		rc = vio_option_number(name, arg, 4, VIO_MAX_QUEUE_SIZE, &v, err);
		if (rc == 0 && (v & (v - 1)))
			return vio_err_set(err, -EINVAL, "--%s %s: must be a power of two", name,
					   arg);
		c->transport.queue_size = (uint16_t)v;
		return rc;
	case VIO_O_INDIRECT:
		c->transport.features |= 1ull << VIRTIO_RING_F_INDIRECT_DESC;
		return 0;
	case VIO_O_COPYBREAK:
		rc = vio_option_number(name, arg, 0, 1u << 30, &v, err);
		c->copybreak = (uint32_t)v;
		return rc;
	case VIO_O_DEFER:
		rc = vio_option_number(name, arg, 1, 4096, &v, err);
		c->defer_batch = (unsigned)v;
		return rc;
	case VIO_O_QUOTA:
		rc = vio_option_number(name, arg, 1, 1u << 24, &v, err);
		c->quota_pages = (unsigned)v;
		return rc;
	case VIO_O_SPIN:
		rc = vio_option_number(name, arg, 0, 1000000000, &v, err);
		c->spin_ns = v * 1000;
		return rc;
	case VIO_O_IDLE:
		if (!strcmp(arg, "never")) {
			c->idle_ns = UINT64_MAX;
			return 0;
		}
		rc = vio_option_number(name, arg, 0, 1000000000, &v, err);
		c->idle_ns = v * 1000;
		return rc;
	default:
		return 1;
	}
}

static int parse_other(struct vio_common *c, int opt, const char *name, const char *arg,
		       struct vio_err *err)
{
	uint64_t v = 0;
	int rc = 0;

	switch (opt) {
	case VIO_O_PHYP:
		c->socket = arg;
		return 0;
	case VIO_O_PARTITION:
		c->partition = arg;
		return 0;
	case VIO_O_UNIT:
		rc = vio_option_number(name, arg, 0, PHYP_MAX_UNITS - 1, &v, err);
		c->transport.unit = (unsigned)v;
		return rc;
	case VIO_O_CORE:
		rc = vio_option_number(name, arg, 0, 4095, &v, err);
		c->core = (int)v;
		return rc;
	case VIO_O_INFO:
		c->info_only = true;
		return 0;
	case VIO_O_JSON:
		c->json = arg;
		return 0;
	case VIO_O_TRACE:
		c->trace = true;
		return 0;
	case VIO_O_FAULT:
		c->fault = arg;
		return 0;
	case VIO_O_DUET:
		c->duet = arg;
		return 0;
	case VIO_O_STAGE:
		rc = vio_option_number(name, arg, 0, 1u << 20, &v, err);
		c->stage_fd = (int)v;
		return rc;
	case VIO_O_TIMEOUT:
		rc = vio_option_number(name, arg, 1, 3600, &v, err);
		c->transport.timeout_ms = (unsigned)v * 1000;
		return rc;
	default:
		return 1;
	}
}

void vio_common_defaults(struct vio_common *c)
{
	memset(c, 0, sizeof(*c));
	c->socket = "/tmp/vio-phyp.sock";
	c->partition = "guest0";
	c->core = -1;
	c->stage_fd = -1;
	vio_arm_parse("zero-copy", &c->transport.arm, NULL);
	c->transport.strict_arm = true;
	c->transport.proto = VIO_PROTO_LATEST;
	c->transport.num_queues = 1;
	c->transport.queue_size = 256;
	c->transport.timeout_ms = 5000;
	c->spin_ns = 50000;
	c->idle_ns = UINT64_MAX;
	c->started_ns = vio_now_ns();
}

int vio_common_option(struct vio_common *c, int opt, const char *arg, const char *program,
		      const char *usage, const struct option *longs, struct vio_err *err)
{
	const char *name = vio_option_name(longs, opt);
	int rc;

	if (opt == VIO_O_HELP) {
		fputs(usage, stdout);
		return 2;
	}
	if (opt == VIO_O_VERSION) {
		printf("%s " VIO_VERSION "\n", program);
		return 2;
	}
	rc = parse_design(c, opt, name, arg, err);
	return rc > 0 ? parse_other(c, opt, name, arg, err) : rc;
}

static void say(void *program, const char *line)
{
	fprintf(stderr, "%s: %s\n", (const char *)program, line);
}

int vio_common_parse(struct vio_common *c, int argc, char **argv, const char *program,
		     const char *usage, const struct option *longs,
		     int (*own)(void *ctx, int opt, const char *arg, struct vio_err *err),
		     void *ctx, struct vio_err *err)
{
	int opt, rc;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (opt == '?' || opt == ':')
			return vio_err_set(err, -EINVAL, "%s: %s; see %s --help", argv[optind - 1],
					   opt == '?' ? "unknown option" : "needs a value",
					   program);
		rc = own(ctx, opt, optarg, err);
		if (rc > 0)
			rc = vio_common_option(c, opt, optarg, program, usage, longs, err);
		if (rc)
			return rc > 0 ? 1 : rc;
	}
	if (optind < argc)
		return vio_err_set(err, -EINVAL, "%s: not an option; see %s --help", argv[optind],
				   program);
	c->transport.trace = c->trace ? stderr : NULL;
	c->transport.say = say;
	c->transport.say_ctx = (void *)(uintptr_t)program;
	return 0;
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

static int pin(int core, struct vio_err *err)
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
		rc = pin(c->core, err);
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
