/* SPDX-License-Identifier: BSD-3-Clause */
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "guest/prog/options.h"
#include "vio/number.h"

#ifndef VIO_VERSION
#define VIO_VERSION "unknown"
#endif

static const char usage[] =
	"vio-blk: a guest partition that puts a load on its virtual disk and checks every byte\n"
	"\n"
	"machine\n"
	"  --phyp SOCKET        phypd's control socket (default /tmp/vio-phyp.sock)\n"
	"  --partition NAME     which partition to be (guest0)\n"
	"  --unit N             which of its virtual adapters (0)\n"
	"  --core N             pin to this core\n"
	"design\n"
	"  --arm ARM            copy, copy-tuned, premapped, zero-copy, unprotected, or factors:\n"
	"                       mapping=single-use|deferred|cached|pool "
	"payload=rdma|bounce|direct|copybreak|unchecked\n"
	"                       ring=copy|copy-delta|direct notify=crq|suppress|poll, comma separated "
	"(zero-copy)\n"
	"  --fallback           go on with the copy design when the server does not offer the arm (default: "
	"refuse)\n"
	"  --proto 1|2          highest protocol version to speak (2)\n"
	"  --queues N           queues wanted (1)        --queue-size N   entries, power of two (256)\n"
	"  --indirect           use indirect descriptors\n"
	"  --copybreak BYTES    payload=copybreak: bounce below this (4096)\n"
	"  --defer-batch N      mapping=deferred: unmaps a batch (64)\n"
	"  --quota-pages N      mapping=cached: pages kept mapped (4096)\n"
	"  --pool-kib N         mapping=pool: size of the data buffers' pool, all queues; requests wait for "
	"room "
	"(0: what the load needs)\n"
	"  --spin-us N          crq, suppress: spin this long before sleeping (50)\n"
	"  --idle-us N|never    poll: sleep after this long without work (never)\n"
	"load\n"
	"  --rw MODE            read, write, randread, randwrite, mixed, randmixed (randread)\n"
	"  --mix PERCENT        reads in mixed and randmixed (70)\n"
	"  --bs SIZE            block size: 512, 4k, 64k, ... (4k); 64 to 448 on a disk with short=on\n"
	"  --depth N            requests in flight, per queue (1); what is more than a quarter of "
	"--queue-size waits\n"
	"  --buffers N          buffers of each queue, used in turn (4 times the depth)\n"
	"  --batch N            requests made available per publish (depth 1: 1, else half the depth)\n"
	"  --span SIZE          bytes of the disk to use (64M, or the whole disk if smaller)\n"
	"  --count N            measure so many requests, or\n"
	"  --seconds S          measure so long (1)\n"
	"  --warm-count N, --warm-seconds S   before measuring (0.1 s)\n"
	"  --rate N             open loop: start N requests a second, latency from the intended start\n"
	"  --flush-every N      a FLUSH after N writes\n"
	"  --verify on|off      write patterns and check every byte read (on)\n"
	"  --seed N             of patterns and order (1)\n"
	"other\n"
	"  --info               print what the disk is and stop\n"
	"  --json FILE          write the result as JSON (- = standard output)\n"
	"  --trace              print each message and hypervisor call to standard error\n"
	"  --fault SPEC         inject faults into hypervisor calls: OP@N=RC[xCOUNT],...\n"
	"  --stage-fd N         write the byte M to this descriptor when the measurement begins, E when it "
	"ends\n"
	"  --timeout SECONDS    wait this long for the server at start (5)\n"
	"  --help, --version\n"
	"Exit code: 0 done and every byte right, 1 failed or wrong data, 2 wrong use.\n";

enum {
	O_PHYP = 256,
	O_PARTITION,
	O_UNIT,
	O_CORE,
	O_ARM,
	O_FALLBACK,
	O_PROTO,
	O_QUEUES,
	O_QUEUE_SIZE,
	O_INDIRECT,
	O_COPYBREAK,
	O_DEFER,
	O_QUOTA,
	O_POOL,
	O_SPIN,
	O_IDLE,
	O_RW,
	O_MIX,
	O_BS,
	O_DEPTH,
	O_BUFFERS,
	O_BATCH,
	O_SPAN,
	O_COUNT,
	O_SECONDS,
	O_WARM_COUNT,
	O_WARM_SECONDS,
	O_RATE,
	O_FLUSH,
	O_VERIFY,
	O_SEED,
	O_INFO,
	O_JSON,
	O_TRACE,
	O_FAULT,
	O_TIMEOUT,
	O_STAGE,
	O_HELP,
	O_VERSION,
};

static const struct option longs[] = {
	{"phyp", 1, 0, O_PHYP},
	{"partition", 1, 0, O_PARTITION},
	{"unit", 1, 0, O_UNIT},
	{"core", 1, 0, O_CORE},
	{"arm", 1, 0, O_ARM},
	{"fallback", 0, 0, O_FALLBACK},
	{"proto", 1, 0, O_PROTO},
	{"queues", 1, 0, O_QUEUES},
	{"queue-size", 1, 0, O_QUEUE_SIZE},
	{"indirect", 0, 0, O_INDIRECT},
	{"copybreak", 1, 0, O_COPYBREAK},
	{"defer-batch", 1, 0, O_DEFER},
	{"quota-pages", 1, 0, O_QUOTA},
	{"pool-kib", 1, 0, O_POOL},
	{"spin-us", 1, 0, O_SPIN},
	{"idle-us", 1, 0, O_IDLE},
	{"rw", 1, 0, O_RW},
	{"mix", 1, 0, O_MIX},
	{"bs", 1, 0, O_BS},
	{"depth", 1, 0, O_DEPTH},
	{"buffers", 1, 0, O_BUFFERS},
	{"batch", 1, 0, O_BATCH},
	{"span", 1, 0, O_SPAN},
	{"count", 1, 0, O_COUNT},
	{"seconds", 1, 0, O_SECONDS},
	{"warm-count", 1, 0, O_WARM_COUNT},
	{"warm-seconds", 1, 0, O_WARM_SECONDS},
	{"rate", 1, 0, O_RATE},
	{"flush-every", 1, 0, O_FLUSH},
	{"verify", 1, 0, O_VERIFY},
	{"seed", 1, 0, O_SEED},
	{"info", 0, 0, O_INFO},
	{"json", 1, 0, O_JSON},
	{"trace", 0, 0, O_TRACE},
	{"fault", 1, 0, O_FAULT},
	{"timeout", 1, 0, O_TIMEOUT},
	{"stage-fd", 1, 0, O_STAGE},
	{"help", 0, 0, O_HELP},
	{"version", 0, 0, O_VERSION},
	{0, 0, 0, 0},
};

static const char *opt_name(int opt)
{
	for (const struct option *l = longs; l->name; l++)
		if (l->val == opt)
			return l->name;
	return "?";
}

static int number(int opt, const char *text, uint64_t lo, uint64_t hi, uint64_t *out, struct vio_err *err)
{
	return vio_option_number(opt_name(opt), text, lo, hi, out, err);
}

static int seconds(int opt, const char *text, uint64_t *ns, struct vio_err *err)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end || !(v >= 0 && v <= 1e6))
		return vio_err_set(err, -EINVAL, "--%s %s: must be a number of seconds, 0 to 1000000",
				   opt_name(opt), text);
	*ns = (uint64_t)(v * 1e9);
	return 0;
}

static const struct {
	const char *name;
	enum vio_wl_order order;
	int read_percent; /* -1: --mix */
} modes[] = {
	{"read", VIO_WL_SEQUENTIAL, 100}, {"write", VIO_WL_SEQUENTIAL, 0},  {"randread", VIO_WL_RANDOM, 100},
	{"randwrite", VIO_WL_RANDOM, 0},  {"mixed", VIO_WL_SEQUENTIAL, -1}, {"randmixed", VIO_WL_RANDOM, -1},
};

static int parse_mode(struct vio_opts *o, unsigned mix, struct vio_err *err)
{
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(modes); i++)
		if (!strcmp(o->rw_name, modes[i].name)) {
			o->wl.order = modes[i].order;
			o->wl.read_percent =
				modes[i].read_percent < 0 ? mix : (unsigned)modes[i].read_percent;
			return 0;
		}
	return vio_err_set(err, -EINVAL, "--rw %s: one of read, write, randread, randwrite, mixed, randmixed",
			   o->rw_name);
}

/* Options of the load. 1: not one of them. */
static int parse_load(struct vio_opts *o, int c, const char *arg, unsigned *mix, struct vio_err *err)
{
	uint64_t v = 0;
	char *end;
	int rc = 0;

	switch (c) {
	case O_RW:
		o->rw_name = arg;
		return 0;
	case O_MIX:
		rc = number(c, arg, 0, 100, &v, err);
		*mix = (unsigned)v;
		return rc;
	case O_BS:
		rc = number(c, arg, VIO_BLK_SHORTEST, 1u << 20, &v, err);
		o->wl.bs = (uint32_t)v;
		return rc;
	case O_DEPTH:
		rc = number(c, arg, 1, 8192, &v, err);
		o->wl.depth = (uint32_t)v;
		return rc;
	case O_BUFFERS:
		rc = number(c, arg, 1, 65536, &v, err);
		o->wl.buffers = (uint32_t)v;
		return rc;
	case O_BATCH:
		rc = number(c, arg, 1, 64, &v, err);
		o->wl.batch = (uint32_t)v;
		return rc;
	case O_SPAN:
		return number(c, arg, 512, UINT64_MAX / 2, &o->wl.span, err);
	case O_COUNT:
		return number(c, arg, 1, UINT64_MAX / 2, &o->wl.count, err);
	case O_SECONDS:
		return seconds(c, arg, &o->wl.run_ns, err);
	case O_WARM_COUNT:
		return number(c, arg, 0, UINT64_MAX / 2, &o->wl.warm_count, err);
	case O_WARM_SECONDS:
		return seconds(c, arg, &o->wl.warm_ns, err);
	case O_RATE:
		o->wl.rate = strtod(arg, &end);
		if (end == arg || *end || !(o->wl.rate > 0 && o->wl.rate < 1e9))
			return vio_err_set(err, -EINVAL, "--rate %s: must be requests per second, above 0",
					   arg);
		return 0;
	case O_FLUSH:
		rc = number(c, arg, 0, 1u << 30, &v, err);
		o->wl.flush_every = (unsigned)v;
		return rc;
	case O_VERIFY:
		if (strcmp(arg, "on") && strcmp(arg, "off"))
			return vio_err_set(err, -EINVAL, "--verify %s: on or off", arg);
		o->wl.verify = !strcmp(arg, "on");
		return 0;
	case O_SEED:
		return number(c, arg, 0, UINT64_MAX / 4, &o->wl.seed, err);
	default:
		return 1;
	}
}

/* Options of the design. 1: not one of them. */
static int parse_design(struct vio_opts *o, int c, const char *arg, struct vio_err *err)
{
	uint64_t v = 0;
	int rc;

	switch (c) {
	case O_ARM:
		return vio_arm_parse(arg, &o->blk.transport.arm, err);
	case O_FALLBACK:
		o->blk.transport.strict_arm = false;
		return 0;
	case O_PROTO:
		rc = number(c, arg, 1, 2, &v, err);
		o->blk.transport.proto = (uint8_t)v;
		return rc;
	case O_QUEUES:
		rc = number(c, arg, 1, VIO_MAX_QUEUES, &v, err);
		o->blk.transport.num_queues = (uint16_t)v;
		return rc;
	case O_QUEUE_SIZE:
		rc = number(c, arg, 4, VIO_MAX_QUEUE_SIZE, &v, err);
		if (rc == 0 && (v & (v - 1)))
			return vio_err_set(err, -EINVAL, "--queue-size %s: must be a power of two", arg);
		o->blk.transport.queue_size = (uint16_t)v;
		return rc;
	case O_INDIRECT:
		o->blk.transport.features |= 1ull << VIRTIO_RING_F_INDIRECT_DESC;
		return 0;
	case O_COPYBREAK:
		rc = number(c, arg, 0, 1u << 30, &v, err);
		o->blk.copybreak = (uint32_t)v;
		return rc;
	case O_DEFER:
		rc = number(c, arg, 1, 4096, &v, err);
		o->blk.defer_batch = (unsigned)v;
		return rc;
	case O_QUOTA:
		rc = number(c, arg, 1, 1u << 24, &v, err);
		o->blk.quota_pages = (unsigned)v;
		return rc;
	case O_POOL:
		rc = number(c, arg, 0, 1u << 22, &v, err);
		o->blk.pool_len = v << 10;
		return rc;
	case O_SPIN:
		rc = number(c, arg, 0, 1000000000, &v, err);
		o->blk.spin_ns = v * 1000;
		return rc;
	case O_IDLE:
		if (!strcmp(arg, "never")) {
			o->blk.idle_ns = UINT64_MAX;
			return 0;
		}
		rc = number(c, arg, 0, 1000000000, &v, err);
		o->blk.idle_ns = v * 1000;
		return rc;
	default:
		return 1;
	}
}

static int parse_other(struct vio_opts *o, int c, const char *arg, struct vio_err *err)
{
	uint64_t v = 0;
	int rc = 0;

	switch (c) {
	case O_PHYP:
		o->socket = arg;
		return 0;
	case O_PARTITION:
		o->partition = arg;
		return 0;
	case O_UNIT:
		rc = number(c, arg, 0, PHYP_MAX_UNITS - 1, &v, err);
		o->blk.transport.unit = (unsigned)v;
		return rc;
	case O_CORE:
		rc = number(c, arg, 0, 4095, &v, err);
		o->core = (int)v;
		return rc;
	case O_INFO:
		o->info_only = true;
		return 0;
	case O_JSON:
		o->json = arg;
		return 0;
	case O_TRACE:
		o->trace = true;
		return 0;
	case O_FAULT:
		o->fault = arg;
		return 0;
	case O_STAGE:
		rc = number(c, arg, 0, 1u << 20, &v, err);
		o->stage_fd = (int)v;
		return rc;
	case O_TIMEOUT:
		rc = number(c, arg, 1, 3600, &v, err);
		o->blk.transport.timeout_ms = (unsigned)v * 1000;
		return rc;
	default:
		return 1;
	}
}

static void defaults(struct vio_opts *o)
{
	memset(o, 0, sizeof(*o));
	o->socket = "/tmp/vio-phyp.sock";
	o->partition = "guest0";
	o->core = -1;
	o->stage_fd = -1;
	o->rw_name = "randread";
	vio_arm_parse("zero-copy", &o->blk.transport.arm, NULL);
	o->blk.transport.strict_arm = true;
	o->blk.transport.proto = VIO_PROTO_LATEST;
	o->blk.transport.num_queues = 1;
	o->blk.transport.queue_size = 256;
	o->blk.transport.timeout_ms = 5000;
	o->blk.spin_ns = 50000;
	o->blk.idle_ns = UINT64_MAX;
	o->wl.bs = 4096;
	o->wl.depth = 1;
	o->wl.run_ns = 1000000000;
	o->wl.warm_ns = 100000000;
	o->wl.verify = true;
	o->wl.seed = 1;
}

/* What the front end has to be sized for. */
static int derive(struct vio_opts *o, struct vio_err *err)
{
	struct vio_wl_cfg *w = &o->wl;

	if (w->batch == 0)
		w->batch = w->depth == 1 ? 1 : w->depth / 2 > 64 ? 64 : w->depth / 2;
	if (w->buffers == 0)
		w->buffers = 4 * w->depth;
	if (w->buffers < w->depth)
		return vio_err_set(err, -EINVAL, "--buffers %u: at least the depth (%u)", w->buffers,
				   w->depth);
	o->blk.depth = w->depth; /* the queue may hold fewer: the rest waits */
	o->blk.max_len = w->bs < 4096 ? 4096 : (uint32_t)VIO_ALIGN_UP(w->bs, VIO_SECTOR);
	o->blk.buffers_len = (uint64_t)o->blk.max_len * w->buffers * o->blk.transport.num_queues + (1u << 16);
	return 0;
}

int vio_opts_parse(struct vio_opts *o, int argc, char **argv, struct vio_err *err)
{
	unsigned mix = 70;
	int c, rc;

	defaults(o);
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (c == O_HELP) {
			fputs(usage, stdout);
			return 1;
		}
		if (c == O_VERSION) {
			puts("vio-blk " VIO_VERSION);
			return 1;
		}
		if (c == '?' || c == ':')
			return vio_err_set(err, -EINVAL, "%s: %s; see vio-blk --help", argv[optind - 1],
					   c == '?' ? "unknown option" : "needs a value");
		rc = parse_load(o, c, optarg, &mix, err);
		if (rc > 0)
			rc = parse_design(o, c, optarg, err);
		if (rc > 0)
			rc = parse_other(o, c, optarg, err);
		if (rc)
			return rc;
	}
	if (optind < argc)
		return vio_err_set(err, -EINVAL, "%s: not an option; see vio-blk --help", argv[optind]);
	rc = parse_mode(o, mix, err);
	return rc ? rc : derive(o, err);
}

int vio_opts_fit(struct vio_opts *o, const struct vio_blk_info *info, struct vio_err *err)
{
	uint64_t disk = info->sectors * VIO_SECTOR;

	if (o->wl.span == 0) {
		o->wl.span = disk < (64u << 20) ? disk : 64u << 20;
		o->wl.span -= o->wl.span % VIO_ALIGN_UP(o->wl.bs, VIO_SECTOR);
	}
	if (o->wl.span > disk)
		return vio_err_set(err, -EINVAL, "--span %" PRIu64 ": the disk has only %" PRIu64 " bytes",
				   o->wl.span, disk);
	return 0;
}
