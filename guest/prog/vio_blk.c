/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vio-blk: a guest partition that puts a load on its virtual disk, checks every byte, and reports.
 */
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/prog/options.h"
#include "guest/prog/report.h"
#include "vio/cycles.h"

static volatile int stop_now; /* set by the signal handler: the one mutable global, as main's */

static void on_signal(int sig)
{
	(void)sig;
	stop_now = 1;
}

static void say(void *ctx, const char *line)
{
	(void)ctx;
	fprintf(stderr, "vio-blk: %s\n", line);
}

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
			"--core %d: this process may not run there; see the list with `taskset -p %d`", core,
			(int)getpid());
	return 0;
}

/* Counters of the whole machine at the two ends of the measurement. */
struct marks {
	struct phyp_part *part;
	int stage_fd;
	struct vio_snapshot at[2];
	int rc;
	struct vio_err err;
};

/* Tell who started us that the measurement begins or ends. */
static void stage(struct marks *m, char letter)
{
	if (m->stage_fd >= 0 && m->rc == 0 && write(m->stage_fd, &letter, 1) != 1)
		m->rc = vio_err_set(&m->err, -errno, "--stage-fd %d: %s", m->stage_fd, strerror(errno));
}

static void mark(void *ctx, bool end)
{
	struct marks *m = ctx;

	if (end)
		stage(m, 'E');
	if (m->rc == 0)
		m->rc = vio_snapshot_take(m->part, &m->at[end], end, &m->err);
	if (!end)
		stage(m, 'M');
}

/* The null backend keeps no data: say so instead of reporting mismatches. */
static int check_null(struct vio_blk *b, struct phyp_part *part, const struct vio_opts *o, char id[21],
		      struct vio_err *err)
{
	struct vio_blk_req r = {.type = VIRTIO_BLK_T_GET_ID, .len = 20}, *p = &r;
	int rc = vio_blk_alloc(b, 64, &r.buf, err);

	if (rc)
		return rc;
	while (vio_blk_submit(b, 0, &p, 1) == 0)
		vio_blk_idle(b, 0, 1000000);
	while ((rc = vio_blk_poll(b, 0, &p, 1)) == 0)
		vio_blk_idle(b, 0, 1000000);
	if (rc < 0 || r.result)
		return vio_err_set(err, -EIO, "the disk does not answer GET_ID (%s)",
				   strerror(rc < 0 ? -rc : -r.result));
	memcpy(id, phyp_mem(part, r.buf, 20), 20);
	id[20] = 0;
	if (o->wl.verify && !o->info_only && strcmp(id, "vio-null") == 0)
		return vio_err_set(err, -EINVAL,
				   "this disk is a null backend, which keeps no data: say --verify off");
	return 0;
}

static int run(struct phyp_part *part, struct vio_opts *o, uint64_t t0, struct vio_err *err)
{
	struct vio_mem mem;
	struct vio_blk *b = NULL;
	struct vio_wl *wl = NULL;
	struct marks m = {.part = part, .stage_fd = o->stage_fd};
	struct vio_wl_result *res = calloc(1, sizeof(*res));
	char id[21];
	uint64_t ready;
	int rc;

	if (!res)
		return vio_err_set(err, -ENOMEM, "no memory for the result");
	vio_mem_init(&mem, part);
	rc = vio_blk_open(part, &mem, &o->blk, &b, err);
	if (rc)
		goto out;
	ready = vio_now_ns() - t0;
	rc = vio_opts_fit(o, vio_blk_get_info(b), err);
	if (rc == 0)
		rc = check_null(b, part, o, id, err);
	if (rc == 0 && o->info_only) {
		rc = vio_report_info(b, o, id, ready, err);
		goto out;
	}
	if (rc == 0)
		rc = vio_wl_create(b, part, &o->wl, &wl, err);
	if (rc)
		goto out;
	rc = vio_wl_run(wl, mark, &m, &stop_now, res);
	if (rc)
		vio_err_set(err, rc, "the machine went away during the run (phypd has gone)");
	else if (m.rc)
		rc = vio_err_set(err, m.rc, "at the ends of the measurement: %s", m.err.msg);
	else
		rc = vio_report_result(b, o, id, ready, &m.at[0], &m.at[1], res, part, err);
	if (rc == 0 && (res->mismatches || res->errors))
		rc = vio_err_set(err, -EIO, "%" PRIu64 " errors, %" PRIu64 " wrong words; first: %s",
				 res->errors, res->mismatches,
				 res->first_mismatch[0] ? res->first_mismatch : "-");
out:
	vio_wl_free(wl);
	vio_blk_close(b);
	free(res);
	return rc;
}

int main(int argc, char **argv)
{
	uint64_t t0 = vio_now_ns();
	struct sigaction sa = {.sa_handler = on_signal};
	struct phyp_filter *trace = NULL, *fault = NULL;
	struct phyp_part *part = NULL;
	struct vio_opts o;
	struct vio_err err = {{0}};
	int rc = vio_opts_parse(&o, argc, argv, &err);

	if (rc > 0)
		return 0; /* --help, --version */
	if (rc) {
		fprintf(stderr, "vio-blk: %s\n", err.msg);
		return 2;
	}
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	o.blk.transport.say = say;
	o.blk.transport.trace = o.trace ? stderr : NULL;
	o.blk.give_way = vio_blk_one_core();
	rc = pin(o.core, &err);
	if (rc == 0)
		rc = phyp_connect(o.socket, o.partition, &part, &err);
	if (rc == 0 && o.fault)
		rc = phyp_fault_create(o.fault, &fault, &err);
	if (fault)
		phyp_filter_push(part, fault);
	if (rc == 0 && o.trace && (trace = phyp_trace_create(stderr, o.partition)))
		phyp_filter_push(part, trace);
	if (rc == 0)
		rc = run(part, &o, t0, &err);
	if (rc)
		fprintf(stderr, "vio-blk: %s\n", err.msg);
	if (part)
		phyp_close(part);
	phyp_trace_free(trace);
	phyp_fault_free(fault);
	return rc ? 1 : 0;
}
