/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vio-tap: a guest partition whose virtual network card is a Linux tap, so that ping, iperf3, ssh
 * and tcpdump run over it. A thread for each pair of queues.
 */
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/front/front.h"
#include "guest/prog/net/net_options.h"
#include "guest/prog/tap/tap.h"
#include "guest/prog/tap/tap_follow.h"
#include "guest/prog/tap/tap_pump.h"
#include "vio/cycles.h"

/* A sleeper looks at the stop flag and at the link so often. */
#define NAP_NS 250000000ull

struct opts {
	struct vio_net_opts
		n; /* of vio-net's, those that a card has: common, net, mac, promisc, ready_fd */
	const char *tap, *netns;
	unsigned mtu;
	bool down;
};

static int stop_now; /* set by the signal handler: the one mutable global, as main's */

static void tap_on_signal(int sig)
{
	(void)sig;
	vio_store_relaxed(&stop_now, 1);
}

/* ------------------------------------------------------------------------- options ---- */

#define O struct opts
static const struct vio_option rows[] = {
	VIO_ROWS(O, n.c, vio_rows_machine),
	VIO_ROWS(O, n.c, vio_rows_design),
	VIO_ROWS(O, n, vio_rows_card),
	{"no-offload", NULL, "no checksum and segmentation offload", VIO_CLEAR(O, n.net.offload)},
	VIO_ROWS(O, n.c, vio_rows_spin),
	/* Its neighbours need the core: what uses the tap runs on this machine too. */
	VIO_ROW_IDLE(O, n.c, "20"),
	VIO_LINES("tap\n"),
	{"tap", "NAME", "its name; %d in it becomes a number", VIO_TEXT(O, tap), .def = "vio%d"},
	{"netns", "NAME", "in this network namespace (the current one)", VIO_TEXT(O, netns)},
	{"mtu", "N", "at most the card's (the card's)", VIO_NUMBER(O, mtu, 68, 9000)},
	VIO_ROWS(O, n, vio_rows_address),
	{"down", NULL, "leave the tap down", VIO_FLAG(O, down)},
	VIO_ROWS(O, n.c, vio_rows_output),
	VIO_ROWS(O, n, vio_rows_ready),
	VIO_ROWS(O, n.c, vio_rows_end),
	{0},
};
#undef O

static const struct vio_program program = {
	.name = "vio-tap",
	.about = "vio-tap: a guest partition whose network card is a Linux tap\n\n",
	.tail = "Ends cleanly on SIGTERM and SIGINT. Exit code: 0 ended by a signal, 1 failed, 2 wrong use.\n",
	.version = VIO_VERSION,
	.rows = rows,
};

static int tap_parse(struct opts *o, int argc, char **argv, struct vio_err *err)
{
	int rc;

	memset(o, 0, sizeof(*o));
	vio_common_defaults(&o->n.c);
	o->n.ready_fd = -1;
	o->n.net.offload = true;
	o->n.net.announce = true;
	rc = vio_common_parse(&program, o, &o->n.c, argc, argv, err);
	if (rc)
		return rc;
	vio_net_cfg_from(&o->n.net, &o->n.c);
	/* A frame of 64 KiB must not take an eighth of the receive queue. */
	if (o->n.net.buf_len == 0 && o->n.net.offload)
		o->n.net.buf_len = 8192;
	return 0;
}

/* ---------------------------------------------------------------------------- pumps ---- */

struct bridge {
	struct vio_net *n;
	struct vio_tap tap;
	struct vio_pump *pump;
	pthread_t *thread;
	unsigned n_pumps, n_threads;
	int rc; /* of a thread that ended by itself; any of them may store it */
	struct vio_follow follow;
	uint64_t looked; /* ns: when somebody looked at the tap last */
	bool said_too_long;
};

struct worker {
	struct bridge *b;
	unsigned pair;
};

/* Pair 0, after each turn: is the card's link as it was? */
static int follow_card(struct bridge *b)
{
	int rc;

	if (vio_likely(!vio_net_look_at_config(b->n)))
		return 0;
	rc = vio_follow_card(&b->follow);
	if (rc == 0)
		return 0;
	b->pump[0].tap_errno = -rc;
	return -EPIPE;
}

/* Once. */
static void say_too_long(struct bridge *b)
{
	for (unsigned i = 0; i < b->n_pumps && !b->said_too_long; i++)
		b->said_too_long = vio_load_relaxed(&b->pump[i].s.too_long) > 0;
	if (b->said_too_long)
		fprintf(stderr,
			"vio-tap: %s: frames longer than the card takes are dropped; its MTU is %u, and the tap's should be no more\n",
			b->tap.name, vio_net_get_info(b->n)->mtu);
}

/* Pair 0, a few times a second. */
static void look_at_tap(struct bridge *b)
{
	const uint64_t now = vio_now_ns();

	if (vio_likely(now - b->looked < NAP_NS))
		return;
	b->looked = now;
	vio_follow_tap(&b->follow);
	if (!b->said_too_long)
		say_too_long(b);
}

static int pump(struct bridge *b, unsigned pair)
{
	int rc = 0;

	while (!vio_load_relaxed(&stop_now) && (rc = vio_pump_turn(&b->pump[pair], NAP_NS)) == 0) {
		if (pair > 0)
			continue;
		rc = follow_card(b);
		if (rc)
			break;
		look_at_tap(b);
	}
	return rc;
}

/* Why a pump has ended by itself. */
static int say_why(const struct bridge *b, int rc, struct vio_err *err)
{
	int why = 0;

	for (unsigned i = 0; i < b->n_pumps && !why; i++)
		why = b->pump[i].tap_errno;
	if (rc == -EPIPE && why)
		return vio_err_set(
			err, rc,
			"tap %s: %s; was the interface deleted? start vio-tap again to have it back",
			b->tap.name, strerror(why));
	return vio_err_set(err, rc, "the machine went away (phypd has gone)");
}

static void *thread(void *arg)
{
	struct worker *w = arg;
	int rc = pump(w->b, w->pair);

	if (rc)
		vio_store_relaxed(&w->b->rc, rc);
	vio_store_relaxed(&stop_now, 1);
	free(w);
	return NULL;
}

static int start_threads(struct bridge *b, struct vio_err *err)
{
	for (unsigned i = 1; i < b->n_pumps; i++) {
		struct worker *w = malloc(sizeof(*w));
		int rc;

		if (!w)
			return vio_err_set(err, -ENOMEM, "no memory for a thread");
		*w = (struct worker){b, i};
		rc = pthread_create(&b->thread[i], NULL, thread, w);
		if (rc) {
			free(w);
			return vio_err_set(err, -rc, "pthread_create: %s", strerror(rc));
		}
		b->n_threads = i;
	}
	return 0;
}

static int make_pumps(struct bridge *b, struct vio_err *err)
{
	const unsigned n = vio_net_get_info(b->n)->pairs;
	int rc = 0;

	b->pump = calloc(n, sizeof(*b->pump));
	b->thread = calloc(n, sizeof(*b->thread));
	if (!b->pump || !b->thread)
		return vio_err_set(err, -ENOMEM, "no memory for %u queues", n);
	for (unsigned i = 0; rc == 0 && i < n; i++) {
		rc = vio_pump_init(&b->pump[i], b->n, i, b->tap.fd[i], err);
		vio_net_refill(b->n, i);
		b->n_pumps = i + 1;
	}
	return rc;
}

/* Threads end, buffers go back. */
static void tap_finish(struct bridge *b)
{
	vio_store_relaxed(&stop_now, 1);
	for (unsigned i = 1; i <= b->n_threads; i++) {
		vio_net_prod(b->n, i);
		pthread_join(b->thread[i], NULL);
	}
	for (unsigned i = 0; i < b->n_pumps; i++)
		vio_pump_fini(&b->pump[i]);
}

/* --------------------------------------------------------------------------- report ---- */

static int tap_report(const struct bridge *b, const struct opts *o, struct vio_err *err)
{
	struct vio_pump_stats s = {0};
	struct vio_net_stats n, all = {0};
	json_t *root;
	int rc = 0;

	for (unsigned i = 0; i < b->n_pumps; i++) {
		for (unsigned k = 0; k < sizeof(s) / sizeof(uint64_t); k++)
			((uint64_t *)&s)[k] += ((const uint64_t *)&b->pump[i].s)[k];
		vio_net_get_stats(b->n, i, &n);
		for (unsigned k = 0; k < sizeof(all) / sizeof(uint64_t); k++)
			((uint64_t *)&all)[k] += ((const uint64_t *)&n)[k];
	}
	fprintf(stderr,
		"vio-tap: %s: %" PRIu64 " frames in, %" PRIu64 " out; %" PRIu64
		" refused by the tap; %" PRIu64 " too long for the card\n",
		b->tap.name, s.to_tap, s.from_tap, s.refused, s.too_long);
	if (!o->n.c.json)
		return 0;
#define S(f) #f, (json_int_t)s.f
#define N(f) #f, (json_int_t)all.f
	root = json_pack("{s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
			 "schema", "vio-tap/1", "tap", b->tap.name, "arm",
			 vio_arm_json(&vio_net_get_info(b->n)->arm), S(to_tap), S(from_tap),
			 S(to_tap_bytes), S(from_tap_bytes), S(refused), S(too_long), S(tx_full),
			 S(sleeps), N(rx_bad), N(tx_bad), N(tx_lost));
#undef S
#undef N
	rc = vio_json_write(root, o->n.c.json, err);
	json_decref(root);
	return rc;
}

/* All buffers are the card's again; said when one is not. */
static int tap_check_buffers(const struct bridge *b, struct vio_err *err)
{
	for (unsigned i = 0; i < b->n_pumps; i++) {
		struct vio_net_count c;

		vio_net_get_count(b->n, i, &c);
		if (c.held)
			return vio_err_set(err, -EIO, "pair %u: %u of %u buffers are missing", i,
					   c.held, vio_net_get_info(b->n)->buffers);
	}
	return 0;
}

/* ----------------------------------------------------------------------------- main ---- */

static int tap_set_up(struct bridge *b, struct opts *o, struct vio_err *err)
{
	const struct vio_net_info *i = vio_net_get_info(b->n);
	unsigned mtu = o->mtu ? o->mtu : i->mtu;
	int rc = 0;

	if (mtu > i->mtu)
		return vio_err_set(err, -EINVAL, "--mtu %u: the card's is %u", mtu, i->mtu);
	if (o->n.mac_given)
		rc = vio_net_set_mac(b->n, o->n.mac, err);
	if (rc == 0 && o->n.promisc_given)
		rc = vio_net_promisc(b->n, o->n.promisc, err);
	vio_follow_init(&b->follow, b->n, &b->tap, o->n.promisc_given && !o->n.promisc);
	/*
	 * Which groups the kernel listens to changes with every socket, and IPv6 has some before
	 * there is an address: the kernel sorts them out.
	 */
	if (rc == 0 && b->follow.filtered)
		rc = vio_net_allmulti(b->n, true, err);
	if (rc == 0 && o->netns)
		rc = vio_netns_enter(o->netns, err);
	if (rc == 0)
		rc = vio_tap_open(&b->tap, o->tap, i, mtu, err);
	if (rc == 0) {
		(void)vio_tap_limits(&b->tap, i->mtu);
		rc = vio_tap_carrier(&b->tap, i->link_up, err);
	}
	if (rc == 0)
		rc = make_pumps(b, err);
	if (rc == 0) {
		vio_follow_tap(&b->follow); /* what it can't take */
		(void)vio_follow_card(&b->follow);
	}
	return rc || o->down ? rc : vio_tap_up(&b->tap, true, err);
}

static int tap_run(struct phyp_part *part, void *ctx, struct vio_err *err)
{
	struct opts *o = ctx;
	struct bridge b = {.tap.control = -1};
	struct vio_mem mem;
	int rc;

	vio_mem_init(&mem, part);
	rc = vio_net_open(part, &mem, &o->n.net, &b.n, err);
	if (rc)
		return rc;
	if (o->n.c.info_only) {
		rc = vio_net_report_info(b.n, &o->n, vio_now_ns() - o->n.c.started_ns, err);
		vio_net_close(b.n);
		return rc;
	}
	rc = tap_set_up(&b, o, err);
	if (rc == 0)
		rc = vio_sandbox_enter(&o->n.c.sandbox, VIO_NEED_OPEN | VIO_NEED_NET, err);
	if (rc == 0)
		rc = start_threads(&b, err);
	if (rc == 0 && o->n.ready_fd >= 0 &&
	    write(o->n.ready_fd, b.tap.name, strlen(b.tap.name)) < 0)
		rc = vio_err_set(err, -errno, "--ready-fd %d: %s", o->n.ready_fd, strerror(errno));
	if (rc == 0) {
		rc = pump(&b, 0);
		tap_finish(&b); /* the threads have ended: what they found can be read */
		if (rc == 0)
			rc = vio_load_relaxed(&b.rc);
		if (rc)
			say_why(&b, rc, err);
		if (rc == 0)
			rc = tap_check_buffers(&b, err);
		if (rc == 0)
			rc = tap_report(&b, o, err);
	} else {
		tap_finish(&b);
	}
	vio_net_close(b.n);
	vio_tap_close(&b.tap);
	free(b.pump);
	free(b.thread);
	return rc;
}

int main(int argc, char **argv)
{
	struct vio_err err = {{0}};
	struct opts o;
	int rc = tap_parse(&o, argc, argv, &err);

	o.n.c.sandbox_later = true;              /* a tap, and the namespace that it is in */
	o.n.net.give_way = vio_front_one_core(); /* before it is pinned */
	return vio_prog_main(&o.n.c, "vio-tap", rc, tap_on_signal, tap_run, &o, &err);
}
