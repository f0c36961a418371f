/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <jansson.h>
#include <linux/virtio_config.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "bench/peers/load.h"
#include "common/option_rows.h"
#include "guest/prog/measure.h"
#include "vio/cycles.h"
#include "vio/types.h"

static const char *const layouts[] = {"split", "packed", NULL};
static const char *const kicks[] = {"never", "auto", NULL};
static const char *const modes[] = {"read", "write", "randread", "randwrite", NULL};
static const struct ring_ops *const rings[] = {&ring_split, &ring_packed};

struct opts {
	struct load_cfg load;
	const char *socket, *json, *duet;
	unsigned layout, mode, queue_size;
	uint64_t run_ns, warm_ns;
	int core;
};

static volatile int stop;

static void vhost_on_signal(int sig)
{
	(void)sig;
	stop = 1;
}

#define O struct opts
static const struct vio_option rows[] = {
	{"socket", "PATH", "the server's UNIX socket", VIO_TEXT(O, socket), .required = true},
	{"layout", "NAME", "of the ring", VIO_WORD(O, layout, layouts), .def = "split"},
	VIO_ROW_QUEUE_SIZE(O, queue_size, 4, 32768),
	{"kick", "WHEN",
	 "tell the server when it asks to be told (auto), or never, as it is known to poll",
	 VIO_WORD(O, load.kick, kicks), .def = "auto"},
	VIO_ROW_RW(O, mode, modes),
	{"bs", "SIZE", "block size", VIO_NUMBER(O, load.bs, 512, 1u << 20), .multiple = 512,
	 .def = "4k"},
	VIO_ROW_DEPTH(O, load.depth, 1u << 20),
	VIO_ROW_BATCH(O, load.batch, LOAD_BURST),
	VIO_ROW_BUFFERS(O, load.buffers),
	VIO_ROW_SPAN(O, load.span),
	VIO_ROW_TOUCH(O, load.touch),
	VIO_ROW_SECONDS(O, run_ns, "1"),
	VIO_ROW_WARM_SECONDS(O, warm_ns),
	VIO_ROW_SEED(O, load.seed),
	VIO_ROW_CORE(O, core),
	VIO_ROW_DUET(O, duet),
	VIO_ROW_JSON(O, json, NULL),
	{0},
};
#undef O

static const struct vio_program program = {
	.name = "vhost-blk",
	.about =
		"vhost-blk: vio-blk's load on a vhost-user-blk server of another project, by a lean polling driver\n\n",
	.tail = "Exit code: 0 done and every byte right, 1 failed or wrong data, 2 wrong use.\n",
	.rows = rows,
};

static int vhost_parse(struct opts *o, int argc, char **argv, struct vio_err *err)
{
	struct load_cfg *l = &o->load;
	int rc;

	*o = (struct opts){.core = -1};
	rc = vio_options_parse(&program, o, argc, argv, err);
	if (rc)
		return rc;
	l->random = o->mode >= 2;
	l->read = o->mode % 2 == 0;
	if (l->batch == 0)
		l->batch = l->depth == 1               ? 1
			   : l->depth / 2 > LOAD_BURST ? LOAD_BURST
						       : l->depth / 2;
	if (l->buffers == 0)
		l->buffers = 4 * l->depth;
	if (l->batch > l->depth || l->buffers < l->depth || o->run_ns == 0)
		return vio_err_set(
			err, -EINVAL,
			"--batch %u at most and --buffers %u at least the --depth %u; --seconds above 0",
			l->batch, l->buffers, l->depth);
	return 0;
}

static int vhost_report(const struct opts *o, const struct vu *v, uint64_t capacity,
			uint64_t ready_ns, const struct load_result *r, struct vio_err *err)
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
		ji(l->span), "touch", vio_touch_words[l->touch], "seed", ji(l->seed), "kick",
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
static int vhost_measure(const struct opts *o, struct load *l, struct vio_duet *d,
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

static int vhost_run(struct opts *o, struct vu *v, struct ring *r, struct load *l,
		     struct vio_duet *d, struct vio_err *err)
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
		rc = vhost_measure(o, l, o->duet ? d : NULL, res);
	if (rc == 0)
		rc = vhost_report(o, v, capacity, ready, res, err);
	if (rc == 0 && (res->errors || res->mismatches))
		rc = vio_err_set(err, -EIO, "%" PRIu64 " errors, %" PRIu64 " wrong words: %s",
				 res->errors, res->mismatches, res->first_mismatch);
	free(res);
	return rc;
}

static int vhost_pin(int core, struct vio_err *err)
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
	int rc = vhost_parse(&o, argc, argv, &err);

	if (rc > 0)
		return 0;
	if (rc) {
		fprintf(stderr, "vhost-blk: %s\n", err.msg);
		return 2;
	}
	signal(SIGINT, vhost_on_signal);
	signal(SIGTERM, vhost_on_signal);
	rc = o.core >= 0 ? vhost_pin(o.core, &err) : 0;
	vio_duet_none(&d, UINT64_MAX);
	if (rc == 0 && o.duet)
		rc = vio_duet_open(&d, o.duet, VIO_DUET_GUEST, &err);
	if (rc == 0 && o.duet)
		vio_duet_begin(&d);
	if (rc == 0)
		rc = vhost_run(&o, &v, &r, &l, &d, &err);
	vu_close(&v);
	ring_free(&r);
	load_free(&l);
	vio_duet_close(&d);
	if (rc)
		fprintf(stderr, "vhost-blk: %s\n", err.msg);
	return rc ? 1 : 0;
}
