/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vio-net: a guest partition that generates, sinks or forwards frames on its virtual network card,
 * checks them, and reports.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/front/front.h"
#include "guest/prog/net/net_options.h"
#include "vio/cycles.h"

static volatile int stop_now; /* set by the signal handler: the one mutable global, as main's */

static void net_on_signal(int sig)
{
	(void)sig;
	stop_now = 1;
}

/* Address and filter, as the command line has them. */
static int adjust(struct vio_net *n, struct vio_net_opts *o, struct vio_err *err)
{
	int rc = o->mac_given ? vio_net_set_mac(n, o->mac, err) : 0;

	if (rc == 0 && o->promisc_given)
		rc = vio_net_promisc(n, o->promisc, err);
	memcpy(o->load.frame.src, vio_net_get_info(n)->mac, 6);
	return rc;
}

/* Buffers are posted before anybody is told that we are ready. */
static int net_ready(struct vio_net *n, const struct vio_net_opts *o, struct vio_err *err)
{
	for (unsigned i = 0; i < vio_net_get_info(n)->pairs; i++)
		vio_net_refill(n, i);
	if (o->ready_fd >= 0 && write(o->ready_fd, "R", 1) != 1)
		return vio_err_set(err, -errno, "--ready-fd %d: %s", o->ready_fd, strerror(errno));
	return 0;
}

/* Every buffer is free or posted at the end, whatever happened. */
static int net_check_buffers(const struct vio_net *n, struct vio_err *err)
{
	for (unsigned i = 0; i < vio_net_get_info(n)->pairs; i++) {
		struct vio_net_count c;

		vio_net_get_count(n, i, &c);
		if (c.held)
			return vio_err_set(err, -EIO, "pair %u: %u of %u buffers are missing", i,
					   c.held, vio_net_get_info(n)->buffers);
	}
	return 0;
}

static int net_measure(struct vio_net *n, struct phyp_part *part, struct vio_net_opts *o,
		       struct vio_duet *duet, uint64_t ready_ns, struct vio_nl_result *res,
		       struct vio_err *err)
{
	struct vio_marks m = {.part = part, .stage_fd = o->c.stage_fd};
	struct vio_nl *l = NULL;
	int rc = vio_nl_create(n, part, &o->load, &l, err);

	if (rc == 0)
		rc = net_ready(n, o, err);
	if (rc)
		goto out;
	rc = o->c.duet ? vio_nl_duet(l, duet, vio_mark, &m, &stop_now, res)
		       : vio_nl_run(l, vio_mark, &m, &stop_now, res);
	if (rc)
		vio_err_set(err, rc, "the machine went away during the run (phypd has gone)");
	else if (m.rc)
		rc = vio_err_set(err, m.rc, "at the ends of the measurement: %s", m.err.msg);
	else
		rc = vio_net_report_result(n, o, ready_ns, m.at, res, phyp_tick_hz(part), err);
	if (rc == 0 && res->mismatches)
		rc = vio_err_set(err, -EIO, "%" PRIu64 " wrong bytes; first: %s", res->mismatches,
				 res->first_mismatch);
	if (rc == 0)
		rc = net_check_buffers(n, err);
out:
	vio_nl_free(l);
	return rc;
}

static int net_run(struct phyp_part *part, void *ctx, struct vio_err *err)
{
	struct vio_net_opts *o = ctx;
	struct vio_mem mem;
	struct vio_net *n = NULL;
	struct vio_nl_result *res = calloc(1, sizeof(*res));
	struct vio_duet duet;
	uint64_t ready_ns;
	int rc;

	if (!res)
		return vio_err_set(err, -ENOMEM, "no memory for the result");
	vio_mem_init(&mem, part);
	rc = vio_common_duet(&o->c, &duet, err);
	if (rc == 0)
		rc = vio_net_open(part, &mem, &o->net, &n, err);
	ready_ns = vio_now_ns() - o->c.started_ns;
	if (rc == 0)
		rc = adjust(n, o, err);
	if (rc == 0)
		rc = o->c.info_only ? vio_net_report_info(n, o, ready_ns, err)
				    : net_measure(n, part, o, &duet, ready_ns, res, err);
	vio_net_close(n);
	vio_duet_close(&duet);
	free(res);
	return rc;
}

int main(int argc, char **argv)
{
	struct vio_err err = {{0}};
	struct vio_net_opts o;
	int rc = vio_net_opts_parse(&o, argc, argv, &err);

	o.net.give_way = vio_front_one_core(); /* before it is pinned */
	return vio_prog_main(&o.c, "vio-net", rc, net_on_signal, net_run, &o, &err);
}
