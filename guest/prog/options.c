/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <string.h>

#include "guest/prog/options.h"
#include "vio/number.h"

static const char usage[] =
	"vio-blk: a guest partition that puts a load on its virtual disk and checks every byte\n"
	"\n" VIO_USAGE_MACHINE "design\n" VIO_USAGE_ARM
	"  --queues N           queues wanted (1)        --queue-size N   entries, power of two (256)\n" VIO_USAGE_MAPPING
	"  --copybreak BYTES    payload=copybreak: bounce below this (4096)\n"
	"  --pool-kib N         mapping=pool: size of the data buffers' pool, all queues; requests wait for room (0: what the load needs)\n" VIO_USAGE_NOTIFY
	"load\n"
	"  --rw MODE            read, write, randread, randwrite, mixed, randmixed (randread)\n"
	"  --mix PERCENT        reads in mixed and randmixed (70)\n"
	"  --bs SIZE            block size: 512, 4k, 64k, ... (4k); 64 to 448 on a disk with short=on\n"
	"  --depth N            requests in flight, per queue (1); what is more than a quarter of --queue-size waits\n"
	"  --buffers N          buffers of each queue, used in turn (4 times the depth)\n"
	"  --batch N            requests made available per publish (depth 1: 1, else half the depth)\n"
	"  --span SIZE          bytes of the disk to use (64M, or the whole disk if smaller)\n"
	"  --count N            measure so many requests, or\n"
	"  --seconds S          measure so long (1)\n"
	"  --warm-count N, --warm-seconds S   before measuring (0.1 s)\n"
	"  --rate N             open loop: start N requests a second, latency from the intended start\n"
	"  --flush-every N      a FLUSH after N writes\n"
	"  --delay-ns N         spin so long before each request: a planted slowdown, to test what measures (0)\n"
	"  --touch none|headers|all   bytes of each block that the program touches: none, the first 64, or all: patterns written and checked (all)\n"
	"  --verify on|off      the same as --touch all|none\n"
	"  --seed N             of patterns and order (1)\n"
	"other\n"
	"  --info               print what the disk is and stop\n"
	"  --json FILE          write the result as JSON (- = standard output)\n" VIO_USAGE_TRACE
		VIO_USAGE_STAGE VIO_USAGE_END
	"Exit code: 0 done and every byte right, 1 failed or wrong data, 2 wrong use.\n";

enum {
	O_POOL = VIO_O_OWN,
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
	O_TOUCH,
	O_DELAY,
	O_VERIFY,
	O_SEED,
};

static const struct option longs[] = {
	VIO_COMMON_OPTIONS,
	{"pool-kib", 1, 0, O_POOL},
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
	{"touch", 1, 0, O_TOUCH},
	{"delay-ns", 1, 0, O_DELAY},
	{"verify", 1, 0, O_VERIFY},
	{"seed", 1, 0, O_SEED},
	{0, 0, 0, 0},
};

static int number(int opt, const char *text, uint64_t lo, uint64_t hi, uint64_t *out,
		  struct vio_err *err)
{
	return vio_option_number(vio_option_name(longs, opt), text, lo, hi, out, err);
}

static const struct {
	const char *name;
	enum vio_wl_order order;
	int read_percent; /* -1: --mix */
} modes[] = {
	{"read", VIO_WL_SEQUENTIAL, 100}, {"write", VIO_WL_SEQUENTIAL, 0},
	{"randread", VIO_WL_RANDOM, 100}, {"randwrite", VIO_WL_RANDOM, 0},
	{"mixed", VIO_WL_SEQUENTIAL, -1}, {"randmixed", VIO_WL_RANDOM, -1},
};

static const char *const touches[VIO_WL_N_TOUCH] = {"none", "headers", "all"};

const char *vio_opts_touch_name(enum vio_wl_touch touch)
{
	return touches[touch];
}

static int parse_touch(const char *text, enum vio_wl_touch *touch, struct vio_err *err)
{
	for (unsigned i = 0; i < VIO_WL_N_TOUCH; i++)
		if (!strcmp(text, touches[i])) {
			*touch = (enum vio_wl_touch)i;
			return 0;
		}
	return vio_err_set(err, -EINVAL, "--touch %s: one of none, headers, all", text);
}

static int parse_mode(struct vio_opts *o, struct vio_err *err)
{
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(modes); i++)
		if (!strcmp(o->rw_name, modes[i].name)) {
			o->wl.order = modes[i].order;
			o->wl.read_percent = modes[i].read_percent < 0
						     ? o->mix
						     : (unsigned)modes[i].read_percent;
			return 0;
		}
	return vio_err_set(err, -EINVAL,
			   "--rw %s: one of read, write, randread, randwrite, mixed, randmixed",
			   o->rw_name);
}

/* Options of the load, and the pool. 1: not one of them. */
static int parse_own(void *ctx, int c, const char *arg, struct vio_err *err)
{
	struct vio_opts *o = ctx;
	const char *name = vio_option_name(longs, c);
	uint64_t v = 0;
	bool on = false;
	int rc = 0;

	switch (c) {
	case O_RW:
		o->rw_name = arg;
		return 0;
	case O_MIX:
		rc = number(c, arg, 0, 100, &v, err);
		o->mix = (unsigned)v;
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
		return vio_option_seconds(name, arg, &o->wl.run_ns, err);
	case O_WARM_COUNT:
		return number(c, arg, 0, UINT64_MAX / 2, &o->wl.warm_count, err);
	case O_WARM_SECONDS:
		return vio_option_seconds(name, arg, &o->wl.warm_ns, err);
	case O_RATE:
		return vio_option_rate(name, arg, &o->wl.rate, err);
	case O_FLUSH:
		rc = number(c, arg, 0, 1u << 30, &v, err);
		o->wl.flush_every = (unsigned)v;
		return rc;
	case O_TOUCH:
		return parse_touch(arg, &o->wl.touch, err);
	case O_DELAY:
		return number(c, arg, 0, 1000000, &o->wl.delay_ns, err);
	case O_VERIFY:
		rc = vio_option_on_off(name, arg, &on, err);
		o->wl.touch = on ? VIO_WL_TOUCH_ALL : VIO_WL_TOUCH_NONE;
		return rc;
	case O_SEED:
		return number(c, arg, 0, UINT64_MAX / 4, &o->wl.seed, err);
	case O_POOL:
		rc = number(c, arg, 0, 1u << 22, &v, err);
		o->blk.pool_len = v << 10;
		return rc;
	default:
		return 1;
	}
}

static void defaults(struct vio_opts *o)
{
	memset(o, 0, sizeof(*o));
	vio_common_defaults(&o->c);
	o->rw_name = "randread";
	o->mix = 70;
	o->wl.bs = 4096;
	o->wl.depth = 1;
	o->wl.run_ns = 1000000000;
	o->wl.warm_ns = 100000000;
	o->wl.touch = VIO_WL_TOUCH_ALL;
	o->wl.seed = 1;
}

/* What the front end has to be sized for. */
static int derive(struct vio_opts *o, struct vio_err *err)
{
	struct vio_wl_cfg *w = &o->wl;

	if (w->run_ns == 0 && w->count == 0)
		return vio_err_set(err, -EINVAL,
				   "--seconds 0: would measure nothing; give more, or --count N");
	if (o->c.duet && w->rate > 0)
		return vio_err_set(
			err, -EINVAL,
			"--duet: turns are too short for an open loop; leave --rate out");
	if (w->batch == 0)
		w->batch = w->depth == 1 ? 1 : w->depth / 2 > 64 ? 64 : w->depth / 2;
	if (w->buffers == 0)
		w->buffers = 4 * w->depth;
	if (w->buffers < w->depth)
		return vio_err_set(err, -EINVAL, "--buffers %u: at least the depth (%u)",
				   w->buffers, w->depth);
	o->blk.transport = o->c.transport;
	o->blk.copybreak = o->c.copybreak;
	o->blk.defer_batch = o->c.defer_batch;
	o->blk.quota_pages = o->c.quota_pages;
	o->blk.spin_ns = o->c.spin_ns;
	o->blk.idle_ns = o->c.idle_ns;
	o->blk.depth = w->depth; /* the queue may hold fewer: the rest waits */
	o->blk.max_len = w->bs < 4096 ? 4096 : (uint32_t)VIO_ALIGN_UP(w->bs, VIO_SECTOR);
	o->blk.buffers_len =
		(uint64_t)o->blk.max_len * w->buffers * o->blk.transport.num_queues + (1u << 16);
	return 0;
}

int vio_opts_parse(struct vio_opts *o, int argc, char **argv, struct vio_err *err)
{
	int rc;

	defaults(o);
	rc = vio_common_parse(&o->c, argc, argv, "vio-blk", usage, longs, parse_own, o, err);
	if (rc == 0)
		rc = parse_mode(o, err);
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
		return vio_err_set(err, -EINVAL,
				   "--span %" PRIu64 ": the disk has only %" PRIu64 " bytes",
				   o->wl.span, disk);
	return 0;
}
