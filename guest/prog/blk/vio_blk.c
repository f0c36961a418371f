/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vio-blk: a guest partition that puts a load on its virtual disk, checks every byte, and reports.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "guest/prog/blk/options.h"
#include "guest/prog/blk/report.h"
#include "vio/cycles.h"

static volatile int stop_now; /* set by the signal handler: the one mutable global, as main's */

static void blk_on_signal(int sig)
{
	(void)sig;
	stop_now = 1;
}

/* The null backend keeps no data: say so instead of reporting mismatches. */
static int check_null(struct vio_blk *b, struct phyp_part *part, const struct vio_opts *o,
		      char id[21], struct vio_err *err)
{
	struct vio_blk_req r = {.type = VIRTIO_BLK_T_GET_ID, .len = 20}, *p = &r;
	int rc = vio_blk_alloc(b, 64, &r.buf, err);

	if (rc)
		return rc;
	while (vio_blk_submit(b, 0, &p, 1) == 0 && !stop_now)
		vio_blk_idle(b, 0, 1000000);
	while ((rc = vio_blk_poll(b, 0, &p, 1)) == 0 && !stop_now)
		vio_blk_idle(b, 0, 1000000);
	if (rc == 0)
		return vio_err_set(err, -EINTR, "ended before the disk had answered");
	if (rc < 0 || r.result)
		return vio_err_set(err, -EIO, "the disk does not answer GET_ID (%s)",
				   strerror(rc < 0 ? -rc : -r.result));
	memcpy(id, phyp_mem(part, r.buf, 20), 20);
	id[20] = 0;
	if (o->wl.touch == VIO_WL_TOUCH_ALL && !o->c.info_only && strcmp(id, "vio-null") == 0)
		return vio_err_set(
			err, -EINVAL,
			"this disk is a null backend, which keeps no data: say --touch none or headers");
	return 0;
}

static int blk_run(struct phyp_part *part, void *ctx, struct vio_err *err)
{
	struct vio_opts *o = ctx;
	struct vio_mem mem;
	struct vio_blk *b = NULL;
	struct vio_wl *wl = NULL;
	struct vio_marks m = {.part = part, .stage_fd = o->c.stage_fd};
	struct vio_duet duet;
	struct vio_wl_result *res = calloc(1, sizeof(*res));
	char id[21];
	uint64_t ready;
	int rc;

	if (!res)
		return vio_err_set(err, -ENOMEM, "no memory for the result");
	vio_mem_init(&mem, part);
	rc = vio_common_duet(&o->c, &duet, err);
	if (rc)
		goto out;
	rc = vio_blk_open(part, &mem, &o->blk, &b, err);
	if (rc)
		goto out;
	ready = vio_now_ns() - o->c.started_ns;
	rc = vio_opts_fit(o, vio_blk_get_info(b), err);
	if (rc == 0)
		rc = check_null(b, part, o, id, err);
	if (rc == 0 && o->c.info_only) {
		rc = vio_report_info(b, o, id, ready, err);
		goto out;
	}
	if (rc == 0)
		rc = vio_wl_create(b, part, &o->wl, &wl, err);
	if (rc)
		goto out;
	rc = o->c.duet ? vio_wl_duet(wl, &duet, vio_mark, &m, &stop_now, res)
		       : vio_wl_run(wl, vio_mark, &m, &stop_now, res);
	if (rc == -EINTR)
		vio_err_set(
			err, rc,
			"ended while the VIO server was away or did not answer, with requests outstanding: whether they were executed is not known");
	else if (rc)
		vio_err_set(err, rc, "the machine went away during the run (phypd has gone)");
	else if (m.rc)
		rc = vio_err_set(err, m.rc, "at the ends of the measurement: %s", m.err.msg);
	else
		rc = vio_report_result(b, o, id, ready, &m.at[0], &m.at[1], res, part, err);
	if (rc == 0 && (res->mismatches || res->errors))
		rc = vio_err_set(err, -EIO,
				 "%" PRIu64 " errors, %" PRIu64 " wrong words; first: %s",
				 res->errors, res->mismatches,
				 res->first_mismatch[0] ? res->first_mismatch : "-");
out:
	vio_wl_free(wl);
	vio_blk_close(b);
	vio_duet_close(&duet);
	free(res);
	return rc;
}

int main(int argc, char **argv)
{
	struct vio_err err = {{0}};
	struct vio_opts o;
	int rc = vio_opts_parse(&o, argc, argv, &err);

	o.wl.stop = &stop_now;
	o.blk.give_way = vio_blk_one_core(); /* before it is pinned */
	return vio_prog_main(&o.c, "vio-blk", rc, blk_on_signal, blk_run, &o, &err);
}
