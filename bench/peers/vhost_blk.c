/* SPDX-License-Identifier: BSD-3-Clause */
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <linux/virtio_config.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "bench/peers/load.h"
#include "guest/prog/measure.h"
#include "vio/cycles.h"
#include "vio/number.h"
#include "vio/types.h"

static const char usage[] =
	"vhost-blk: vio-blk's load on a vhost-user-blk server of another project, by a lean polling driver\n"
	"\n"
	"  --socket PATH        the server's UNIX socket (needed)\n"
	"  --layout NAME        split or packed ring (split)\n"
	"  --queue-size N       entries, power of two (256)\n"
	"  --kick auto|never    tell the server when it asks to be told, or never: it is known to poll (auto)\n"
	"  --rw MODE            read, write, randread, randwrite (randread)\n"
	"  --bs SIZE            block size, a multiple of 512 up to 1M (4k)\n"
	"  --depth N            requests in flight (1), at most a quarter of --queue-size\n"
	"  --batch N            requests made available per publish (depth 1: 1, else half the depth)\n"
	"  --buffers N          buffers, used in turn (4 times the depth)\n"
	"  --span SIZE          bytes of the disk to use (64M, or the whole disk if smaller)\n"
	"  --touch none|headers|all   bytes of each block that the program touches: none, the first 64 of them, or all: patterns are\n"
	"                       written, and checked after a read (all)\n"
	"  --seconds S, --warm-seconds S   measure so long (1), after so long (0.1)\n"
	"  --seed N             of patterns and order (1)\n"
	"  --core N             run on this CPU\n"
	"  --duet FILE,slot=N   take turns with others, as the score in FILE says; it ends the run\n"
	"  --json FILE          write the result as JSON (- = standard output); the keys are vio-blk's (docs/results.md)\n"
	"Exit code: 0 done and every byte right, 1 failed or wrong data, 2 wrong use.\n";

enum {
	O_SOCKET = 1,
	O_LAYOUT,
	O_QUEUE_SIZE,
	O_KICK,
	O_RW,
	O_BS,
	O_DEPTH,
	O_BATCH,
	O_BUFFERS,
	O_SPAN,
	O_TOUCH,
	O_SECONDS,
	O_WARM,
	O_SEED,
	O_CORE,
	O_DUET,
	O_JSON,
	O_HELP
};

static const struct option longs[] = {
	{"socket", 1, 0, O_SOCKET},
	{"layout", 1, 0, O_LAYOUT},
	{"queue-size", 1, 0, O_QUEUE_SIZE},
	{"kick", 1, 0, O_KICK},
	{"rw", 1, 0, O_RW},
	{"bs", 1, 0, O_BS},
	{"depth", 1, 0, O_DEPTH},
	{"batch", 1, 0, O_BATCH},
	{"buffers", 1, 0, O_BUFFERS},
	{"span", 1, 0, O_SPAN},
	{"touch", 1, 0, O_TOUCH},
	{"seconds", 1, 0, O_SECONDS},
	{"warm-seconds", 1, 0, O_WARM},
	{"seed", 1, 0, O_SEED},
	{"core", 1, 0, O_CORE},
	{"duet", 1, 0, O_DUET},
	{"json", 1, 0, O_JSON},
	{"help", 0, 0, O_HELP},
	{0, 0, 0, 0},
};

static const char *const touches[LOAD_N_TOUCH] = {"none", "headers", "all"};
static const char *const layouts[] = {"split", "packed"};
static const char *const kicks[] = {"never", "auto"};
static const char *const modes[] = {"read", "write", "randread", "randwrite"};
static const struct ring_ops *const rings[] = {&ring_split, &ring_packed};

struct opts {
	struct load_cfg load;
	const char *socket, *json, *duet;
	unsigned layout, mode, queue_size;
	uint64_t run_ns, warm_ns;
	int core;
	bool help;
};

static volatile int stop;

static void on_signal(int sig)
{
	(void)sig;
	stop = 1;
}

static int word(int opt, const char *arg, const char *const names[], unsigned n, unsigned *out,
		struct vio_err *err)
{
	char list[80] = "";

	for (unsigned i = 0; i < n; i++) {
		if (!strcmp(arg, names[i])) {
			*out = i;
			return 0;
		}
		snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s", i ? ", " : "",
			 names[i]);
	}
	return vio_err_set(err, -EINVAL, "--%s %s: one of %s", longs[opt - 1].name, arg, list);
}

static int seconds(int opt, const char *arg, uint64_t *ns, struct vio_err *err)
{
	char *end;
	double s = strtod(arg, &end);

	if (end == arg || *end || !(s >= 0) || s > 86400)
		return vio_err_set(err, -EINVAL, "--%s %s: seconds from 0 to 86400",
				   longs[opt - 1].name, arg);
	*ns = (uint64_t)(s * 1e9);
	return 0;
}

static int parse_word(struct opts *o, int c, struct vio_err *err)
{
	unsigned v = 0;
	int rc;

	switch (c) {
	case O_LAYOUT:
		return word(c, optarg, layouts, 2, &o->layout, err);
	case O_RW:
		return word(c, optarg, modes, 4, &o->mode, err);
	case O_KICK:
		rc = word(c, optarg, kicks, 2, &v, err);
		o->load.kick = v;
		return rc;
	case O_TOUCH:
		rc = word(c, optarg, touches, LOAD_N_TOUCH, &v, err);
		o->load.touch = (enum load_touch)v;
		return rc;
	case O_SECONDS:
		return seconds(c, optarg, &o->run_ns, err);
	case O_WARM:
		return seconds(c, optarg, &o->warm_ns, err);
	case O_SOCKET:
		o->socket = optarg;
		return 0;
	case O_DUET:
		o->duet = optarg;
		return 0;
	case O_JSON:
		o->json = optarg;
		return 0;
	case O_HELP:
		o->help = true;
		return 0;
	default:
		return vio_err_set(err, -EINVAL, "--help says what options there are");
	}
}

static int parse_one(struct opts *o, int c, struct vio_err *err)
{
	uint64_t v = 0, hi = 1u << 20, lo = 1;
	uint32_t *to = NULL;
	int rc;

	switch (c) {
	case O_QUEUE_SIZE:
		to = &o->queue_size;
		lo = 4;
		hi = 32768;
		break;
	case O_BS:
		to = &o->load.bs;
		lo = 512;
		break;
	case O_DEPTH:
		to = &o->load.depth;
		break;
	case O_BATCH:
		to = &o->load.batch;
		hi = LOAD_BURST;
		break;
	case O_BUFFERS:
		to = &o->load.buffers;
		hi = 65536;
		break;
	case O_SPAN:
	case O_SEED:
		return vio_option_number(longs[c - 1].name, optarg, c == O_SPAN ? 512 : 0,
					 UINT64_MAX / 4,
					 c == O_SPAN ? &o->load.span : &o->load.seed, err);
	case O_CORE:
		rc = vio_option_number("core", optarg, 0, CPU_SETSIZE - 1, &v, err);
		o->core = (int)v;
		return rc;
	default:
		return parse_word(o, c, err);
	}
	rc = vio_option_number(longs[c - 1].name, optarg, lo, hi, &v, err);
	*to = (uint32_t)v;
	return rc;
}

static int parse(struct opts *o, int argc, char **argv, struct vio_err *err)
{
	struct load_cfg *l = &o->load;
	int c, rc = 0;

	*o = (struct opts){
		.load = {.bs = 4096, .depth = 1, .seed = 1, .touch = LOAD_TOUCH_ALL, .kick = true},
		.mode = 2,
		.queue_size = 256,
		.run_ns = 1000000000,
		.warm_ns = 100000000,
		.core = -1};
	opterr = 0;
	while (rc == 0 && (c = getopt_long(argc, argv, "", longs, NULL)) != -1)
		rc = c == '?' ? vio_err_set(
					err, -EINVAL,
					"%s: no such option, or its value is missing; see --help",
					argv[optind - 1])
			      : parse_one(o, c, err);
	if (rc || o->help)
		return rc;
	l->random = o->mode >= 2;
	l->read = o->mode % 2 == 0;
	if (l->batch == 0)
		l->batch = l->depth == 1               ? 1
			   : l->depth / 2 > LOAD_BURST ? LOAD_BURST
						       : l->depth / 2;
	if (l->buffers == 0)
		l->buffers = 4 * l->depth;
	if (!o->socket)
		return vio_err_set(err, -EINVAL,
				   "--socket PATH is needed: where the vhost-user server listens");
	if (optind < argc)
		return vio_err_set(err, -EINVAL, "%s: options only; see --help", argv[optind]);
	if (l->bs % 512 || o->queue_size & (o->queue_size - 1))
		return vio_err_set(err, -EINVAL,
				   "--bs %u: a multiple of 512; --queue-size %u: a power of two",
				   l->bs, o->queue_size);
	if (l->batch > l->depth || l->buffers < l->depth || o->run_ns == 0)
		return vio_err_set(
			err, -EINVAL,
			"--batch %u at most and --buffers %u at least the --depth %u; --seconds above 0",
			l->batch, l->buffers, l->depth);
	return 0;
}

static json_int_t ji(uint64_t v)
{
	return (json_int_t)v;
}

static int report(const struct opts *o, const struct vu *v, uint64_t capacity, uint64_t ready_ns,
		  const struct load_result *r, struct vio_err *err)
{
	const struct load_cfg *l = &o->load;
	char features[20];
	json_t *run, *root;
	int rc;

	snprintf(features, sizeof(features), "0x%" PRIx64, v->features);
	run = json_pack("{s:I, s:I, s:I, s:I, s:i, s:I, s:I, s:I, s:I, s:I, s:s, s:I, s:I, s:o}",
			"elapsed_ns", ji(r->elapsed_ns), "requests", ji(r->requests), "reads",
			ji(r->reads), "writes", ji(r->writes), "flushes", 0, "errors",
			ji(r->errors), "bytes_read", ji(r->bytes_read), "bytes_written",
			ji(r->bytes_written), "bytes_verified", ji(r->bytes_verified), "mismatches",
			ji(r->mismatches), "first_mismatch", r->first_mismatch, "publishes",
			ji(r->publishes), "kicks", ji(r->kicks), "latency_ns",
			vio_latency_json(&r->latency, vio_measure_tick_hz(20000000)));
	root = json_pack(
		"{s:s, s:I, s:s, s:s, s:i, s:b, s:I, s:{s:s, s:i, s:i, s:i, s:i, s:I, s:s, s:I, s:s, s:i}, s:o}",
		"schema", "vhost-blk/1", "disk_bytes", ji(capacity), "features", features, "layout",
		layouts[o->layout], "queue_size", (int)o->queue_size, "huge_pages", (int)v->huge,
		"ready_ns", ji(ready_ns), "load", "rw", modes[o->mode], "bs", (int)l->bs, "depth",
		(int)l->depth, "batch", (int)l->batch, "buffers", (int)l->buffers, "span",
		ji(l->span), "touch", touches[l->touch], "seed", ji(l->seed), "kick",
		kicks[l->kick], "core", o->core, "run", run);
	rc = o->json ? vio_json_write(root, o->json, err) : 0;
	if (!o->json || strcmp(o->json, "-"))
		printf("%s: %" PRIu64 " requests in %.3f s: %.1f ns a request; %" PRIu64
		       " bytes verified, %" PRIu64 " wrong words, %" PRIu64 " errors\n",
		       layouts[o->layout], r->requests, (double)r->elapsed_ns / 1e9,
		       (double)r->elapsed_ns / (double)(r->requests ? r->requests : 1),
		       r->bytes_verified, r->mismatches, r->errors);
	json_decref(root);
	return rc;
}

static int fit(struct opts *o, uint64_t capacity, struct vio_err *err)
{
	struct load_cfg *l = &o->load;

	if (l->span == 0) {
		l->span = capacity < 64u << 20 ? capacity : 64u << 20;
		l->span -= l->span % l->bs;
	}
	if (l->span > capacity || l->span % l->bs)
		return vio_err_set(err, -EINVAL,
				   "--span %" PRIu64
				   ": a multiple of --bs, at most the disk's %" PRIu64 " bytes",
				   l->span, capacity);
	return 0;
}

/* Warm up, measure, read back; or all of a duet's turns. d: NULL without one. */
static int measure(const struct opts *o, struct load *l, struct vio_duet *d,
		   struct load_result *res)
{
	int rc = o->load.touch == LOAD_TOUCH_ALL ? load_fill(l) : 0;

	if (rc == 0 && d)
		return load_duet(l, d, vio_measure_tick_hz(20000000), &stop, res);
	if (rc == 0 && o->warm_ns)
		rc = load_run(l, o->warm_ns, &stop, res);
	if (rc == 0 && (res->errors || res->mismatches))
		return vio_err_set(l->err, -EIO,
				   "while warming up: %" PRIu64 " errors, %" PRIu64
				   " wrong words, %s",
				   res->errors, res->mismatches, res->first_mismatch);
	if (rc == 0)
		rc = load_run(l, o->run_ns, &stop, res);
	if (rc == 0 && !o->load.read && o->load.touch == LOAD_TOUCH_ALL)
		rc = load_read_back(l, res);
	return rc;
}

static int connect_disk(struct opts *o, struct vu *v, uint64_t *capacity, struct vio_err *err)
{
	const uint64_t wanted = 1ull << VIRTIO_F_VERSION_1 |
				(rings[o->layout]->packed ? 1ull << VIRTIO_F_RING_PACKED : 0);
	uint64_t sectors = 0;
	int rc = vu_connect(v, o->socket, err);

	if (rc == 0)
		rc = vu_negotiate(v, wanted, err);
	if (rc == 0)
		rc = vu_get_config(v, &sectors, sizeof(sectors), err);
	*capacity = sectors * 512;
	return rc ? rc : fit(o, *capacity, err);
}

static int run(struct opts *o, struct vu *v, struct ring *r, struct load *l, struct vio_duet *d,
	       struct vio_err *err)
{
	const struct ring_ops *ops = rings[o->layout];
	const size_t ring_len = ring_bytes(ops, o->queue_size),
		     data = (size_t)o->load.buffers * o->load.bs;
	const uint64_t t0 = vio_now_ns();
	struct load_result *res = calloc(1, sizeof(*res));
	uint64_t capacity = 0, ready;
	int rc = res ? connect_disk(o, v, &capacity, err)
		     : vio_err_set(err, -ENOMEM, "no memory for the result");

	if (rc == 0)
		rc = vu_share(v, ring_len + data, err);
	if (rc == 0 && ring_init(r, ops, o->queue_size, v->mem))
		rc = vio_err_set(err, -ENOMEM, "no memory for a ring of %u", o->queue_size);
	if (rc == 0)
		rc = load_create(l, &o->load, v, r, v->mem + ring_len, err);
	if (rc == 0)
		rc = vu_start(v, o->queue_size, r->desc, r->driver, r->device, ops->packed, err);
	ready = vio_now_ns() - t0;
	if (rc == 0)
		rc = measure(o, l, o->duet ? d : NULL, res);
	if (rc == 0)
		rc = report(o, v, capacity, ready, res, err);
	if (rc == 0 && (res->errors || res->mismatches))
		rc = vio_err_set(err, -EIO, "%" PRIu64 " errors, %" PRIu64 " wrong words: %s",
				 res->errors, res->mismatches, res->first_mismatch);
	free(res);
	return rc;
}

static int pin(int core, struct vio_err *err)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)core, &set);
	return sched_setaffinity(0, sizeof(set), &set)
		       ? vio_err_set(err, -errno, "--core %d: %s", core, strerror(errno))
		       : 0;
}

int main(int argc, char **argv)
{
	struct vio_err err = {""};
	struct opts o;
	struct vu v = {.fd = -1, .kick = -1, .call = -1, .mem_fd = -1};
	struct ring r = {0};
	struct load l = {0};
	struct vio_duet d;
	int rc = parse(&o, argc, argv, &err);

	if (rc) {
		fprintf(stderr, "vhost-blk: %s\n", err.msg);
		return 2;
	}
	if (o.help) {
		fputs(usage, stdout);
		return 0;
	}
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	rc = o.core >= 0 ? pin(o.core, &err) : 0;
	vio_duet_none(&d, UINT64_MAX);
	if (rc == 0 && o.duet)
		rc = vio_duet_open(&d, o.duet, VIO_DUET_GUEST, &err);
	if (rc == 0 && o.duet)
		vio_duet_begin(&d);
	if (rc == 0)
		rc = run(&o, &v, &r, &l, &d, &err);
	vu_close(&v);
	ring_free(&r);
	load_free(&l);
	vio_duet_close(&d);
	if (rc)
		fprintf(stderr, "vhost-blk: %s\n", err.msg);
	return rc ? 1 : 0;
}
