/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <string.h>

#include "guest/prog/blk/options.h"

static const char *const modes[] = {"read",  "write",     "randread", "randwrite",
				    "mixed", "randmixed", NULL};

/* The same in figures. */
static const struct {
	enum vio_wl_order order;
	int read_percent; /* -1: --mix */
} mode_of[] = {
	{VIO_WL_SEQUENTIAL, 100}, {VIO_WL_SEQUENTIAL, 0},  {VIO_WL_RANDOM, 100},
	{VIO_WL_RANDOM, 0},       {VIO_WL_SEQUENTIAL, -1}, {VIO_WL_RANDOM, -1},
};

const char *vio_opts_touch_name(enum vio_wl_touch touch)
{
	return vio_touch_words[touch];
}

static int set_verify(const struct vio_option *row, void *to, const char *text, struct vio_err *err)
{
	const bool on = !strcmp(text, "on");

	if (!on && strcmp(text, "off"))
		return vio_err_set(err, -EINVAL, "--%s %s: must be on or off", row->name, text);
	*(enum vio_wl_touch *)to = on ? VIO_WL_TOUCH_ALL : VIO_WL_TOUCH_NONE;
	return 0;
}

#define O struct vio_opts
static const struct vio_option rows[] = {
	VIO_ROWS(O, c, vio_rows_machine),
	VIO_ROWS(O, c, vio_rows_design),
	{"pool-kib", "N",
	 "mapping=pool: size of the data buffers' pool, all queues; requests wait for room; 0: what the load needs",
	 VIO_NUMBER(O, blk.pool_len, 0, 1u << 22), .unit = 1024, .def = "0"},
	VIO_ROW_CACHE(O, blk.cache),
	VIO_ROWS(O, c, vio_rows_spin),
	VIO_ROW_IDLE(O, c, "never"),
	VIO_LINES("load\n"),
	VIO_ROW_RW(O, mode, modes),
	{"mix", "PERCENT", "reads in mixed and randmixed", VIO_NUMBER(O, mix, 0, 100), .def = "70"},
	{"bs", "SIZE", "block size: 512, 4k, 64k, ..., 64 to 448 on a disk with short=on",
	 VIO_NUMBER(O, wl.bs, VIO_BLK_SHORTEST, 1u << 20), .def = "4k"},
	VIO_ROW_DEPTH(O, wl.depth, 8192),
	VIO_ROW_BUFFERS(O, wl.buffers),
	VIO_ROW_BATCH(O, wl.batch, 64),
	VIO_ROW_SPAN(O, wl.span),
	VIO_ROW_COUNT(O, wl.count),
	VIO_ROW_SECONDS(O, wl.run_ns, "1"),
	{"warm-count", "N", "requests before measuring",
	 VIO_NUMBER(O, wl.warm_count, 0, UINT64_MAX / 2), .def = "0"},
	VIO_ROW_WARM_SECONDS(O, wl.warm_ns),
	VIO_ROW_RATE(O, wl.rate),
	{"flush-every", "N", "a FLUSH after N writes; 0: never",
	 VIO_NUMBER(O, wl.flush_every, 0, 1u << 30), .def = "0"},
	{"delay-ns", "N",
	 "spin so long before each request: a planted slowdown, to test what measures",
	 VIO_NUMBER(O, wl.delay_ns, 0, 1000000), .def = "0"},
	VIO_ROW_TOUCH(O, wl.touch),
	{"verify", "on|off", "the same as --touch all or none", VIO_CALL(O, wl.touch, set_verify)},
	VIO_ROW_SEED(O, wl.seed),
	VIO_ROWS(O, c, vio_rows_output),
	VIO_ROWS(O, c, vio_rows_stage),
	VIO_ROWS(O, c, vio_rows_end),
	{0},
};
#undef O

static const struct vio_program program = {
	.name = "vio-blk",
	.about =
		"vio-blk: a guest partition that puts a load on its virtual disk and checks every byte\n\n",
	.tail = "Exit code: 0 done and every byte right, 1 failed or wrong data, 2 wrong use.\n",
	.version = VIO_VERSION,
	.rows = rows,
};

/* What the front end has to be sized for. */
static int derive(struct vio_opts *o, struct vio_err *err)
{
	struct vio_wl_cfg *w = &o->wl;
	const int reads = mode_of[o->mode].read_percent;

	o->rw_name = modes[o->mode];
	w->order = mode_of[o->mode].order;
	w->read_percent = reads < 0 ? o->mix : (unsigned)reads;
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

	memset(o, 0, sizeof(*o));
	vio_common_defaults(&o->c);
	rc = vio_common_parse(&program, o, &o->c, argc, argv, err);
	return rc ? rc : derive(o, err);
}

int vio_opts_fit(struct vio_opts *o, const struct vio_blk_info *info, struct vio_err *err)
{
	uint64_t disk = vio_load_relaxed(&info->sectors) * VIO_SECTOR;

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
