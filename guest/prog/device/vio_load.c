/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vio-load: vio-blk's load, on a block device of the kernel that this runs on. In a Linux guest the same load so runs over any disk,
 * and what the host counts meanwhile can be compared.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/option_rows.h"
#include "guest/prog/device/aio_disk.h"
#include "guest/prog/blk/workload.h"

static const char *const modes[] = {"read", "write", "randread", "randwrite", NULL};

struct load_opts {
	const char *device;
	unsigned mode;
	bool ask;
	struct vio_wl_cfg wl;
};

#define O struct load_opts
static const struct vio_option rows[] = {
	{"device", "PATH",
	 "the block device or file; its content is lost unless only read with --touch none",
	 VIO_TEXT(O, device), .required = true},
	VIO_ROW_RW(O, mode, modes),
	{"bs", "SIZE", "block size, 512 to 1M", VIO_NUMBER(O, wl.bs, 512, 1u << 20), .def = "4k"},
	{"depth", "N", "requests in flight", VIO_NUMBER(O, wl.depth, 1, 1024), .def = "1"},
	VIO_ROW_SPAN(O, wl.span),
	VIO_ROW_COUNT(O, wl.count),
	{"flush-every", "N", "a flush after N writes; 0: never",
	 VIO_NUMBER(O, wl.flush_every, 0, 1u << 30), .def = "0"},
	VIO_ROW_TOUCH(O, wl.touch),
	VIO_ROW_SEED(O, wl.seed),
	{"ask", NULL,
	 "say @@ask mark begin and @@ask mark end at the ends of the measurement, and wait for a line after each",
	 VIO_FLAG(O, ask)},
	{0},
};
#undef O

static const struct vio_program program = {
	.name = "vio-load",
	.about = "vio-load: vio-blk's load on a block device of this kernel; checks every byte\n\n",
	.tail = "Exit code: 0 done and every byte right, 1 failed or wrong data, 2 wrong use.\n",
	.version = VIO_VERSION,
	.rows = rows,
};

static void load_mark(void *ctx, bool end)
{
	const struct load_opts *o = ctx;
	char answer[64];

	if (!o->ask)
		return;
	printf("@@ask mark %s\n", end ? "end" : "begin");
	fflush(stdout);
	if (!fgets(answer, sizeof(answer), stdin))
		fprintf(stderr, "vio-load: nobody answers\n");
}

static void load_derive(struct load_opts *o)
{
	struct vio_wl_cfg *w = &o->wl;

	w->order = o->mode < 2 ? VIO_WL_SEQUENTIAL : VIO_WL_RANDOM;
	w->read_percent = o->mode % 2 ? 0 : 100;
	if (w->count == 0)
		w->count = 1000;
	w->batch = w->depth < 2 ? 1 : w->depth / 2 > 64 ? 64 : w->depth / 2;
	w->buffers = w->depth;
}

static int load_run(struct load_opts *o, struct vio_wl_result *res, struct vio_err *err)
{
	const bool writes = o->wl.read_percent < 100 || o->wl.touch == VIO_WL_TOUCH_ALL;
	const volatile int never = 0;
	struct vio_blk *b = NULL;
	struct vio_wl *w = NULL;
	uint64_t disk;
	int rc = vio_aio_disk_open(o->device, o->wl.depth, writes, &b, err);

	if (rc)
		return rc;
	disk = vio_blk_get_info(b)->sectors * VIO_SECTOR;
	if (o->wl.span == 0)
		o->wl.span = (disk < (64u << 20) ? disk : 64u << 20) / o->wl.bs * o->wl.bs;
	rc = vio_wl_create(b, NULL, &o->wl, &w, err);
	if (rc == 0)
		rc = vio_wl_run(w, load_mark, o, &never, res);
	if (rc == 0 && (res->errors || res->mismatches))
		rc = vio_err_set(err, -EIO,
				 "%" PRIu64 " errors, %" PRIu64 " wrong words; first: %s",
				 res->errors, res->mismatches,
				 res->first_mismatch[0] ? res->first_mismatch : "-");
	vio_wl_free(w);
	vio_aio_disk_close(b);
	return rc;
}

int main(int argc, char **argv)
{
	struct load_opts o = {0};
	struct vio_err err = {{0}};
	struct vio_wl_result *res = calloc(1, sizeof(*res));
	int rc = res ? vio_options_parse(&program, &o, argc, argv, &err) : -ENOMEM;

	if (rc == 0) {
		load_derive(&o);
		rc = load_run(&o, res, &err);
		if (rc == 0)
			printf("vio-load: %" PRIu64 " requests, %" PRIu64 " bytes read, %" PRIu64
			       " written, %" PRIu64 " verified, 0 wrong\n",
			       res->requests, res->bytes_read, res->bytes_written,
			       res->bytes_verified);
		else
			fprintf(stderr, "vio-load: %s\n", err.msg);
		rc = rc ? 1 : 0;
	} else if (rc < 0) {
		fprintf(stderr, "vio-load: %s\n", err.msg);
		rc = 2;
	} else {
		rc = 0;
	}
	free(res);
	return rc;
}
