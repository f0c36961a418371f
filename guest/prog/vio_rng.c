/* SPDX-License-Identifier: BSD-3-Clause */
/* vio-rng: a guest partition that writes random bytes of the VIO server to standard output. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "guest/dev/rng/rng.h"
#include "common/option_rows.h"
#include "guest/prog/common.h"
#include "vio/cycles.h"
#include "vio/number.h"

#define NAP_NS 10000000ull

static volatile sig_atomic_t
	stop_now; /* set by the signal handler: the one mutable global, as main's */

static void rng_signal(int sig)
{
	(void)sig;
	stop_now = 1;
}

struct opts {
	struct vio_common c;
	uint64_t bytes;
};

static int set_bytes(const struct vio_option *row, void *to, const char *text, struct vio_err *err)
{
	uint64_t *bytes = to;

	if (vio_parse_size(text, bytes) || *bytes == 0)
		return vio_err_set(err, -EINVAL, "--%s %s: a number of bytes, e.g. 32 or 1M",
				   row->name, text);
	return 0;
}

#define O struct opts
static const struct vio_option rows[] = {
	VIO_ROWS(O, c, vio_rows_machine),
	VIO_ROWS(O, c, vio_rows_design),
	VIO_ROWS(O, c, vio_rows_spin),
	VIO_ROW_IDLE(O, c, "never"),
	VIO_LINES("work\n"),
	{"bytes", "N", "how many, with k, M or G after it if wanted", VIO_CALL(O, bytes, set_bytes),
	 .def = "32"},
	VIO_ROW_INFO(O, c.info_only),
	VIO_ROW_TRACE(O, c.trace),
	VIO_ROW_FAULT(O, c.fault),
	VIO_ROWS(O, c, vio_rows_end),
	{0},
};
#undef O

static const struct vio_program program = {
	.name = "vio-rng",
	.about =
		"vio-rng: a guest partition that writes random bytes of the VIO server to standard output\n\n",
	.tail = "Exit code: 0 all were written, 1 failed, 2 wrong use.\n",
	.version = VIO_VERSION,
	.rows = rows,
};

static int rng_write(const uint8_t *p, size_t n, struct vio_err *err)
{
	while (n > 0) {
		ssize_t w = write(STDOUT_FILENO, p, n);

		if (w < 0 && errno == EINTR && !stop_now)
			continue;
		if (w < 0)
			return vio_err_set(err, -errno, "standard output: %s", strerror(errno));
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

static int rng_copy(struct vio_rng *r, uint64_t left, struct vio_err *err)
{
	while (left > 0 && !stop_now) {
		uint8_t bytes[4096];
		int n = vio_rng_read(r, bytes,
				     left < sizeof(bytes) ? (uint32_t)left : sizeof(bytes)),
		    rc;

		if (n < 0)
			return vio_err_set(err, n,
					   "the random number generator will not come back");
		if (n == 0) {
			vio_rng_idle(r, NAP_NS);
			continue;
		}
		rc = rng_write(bytes, (size_t)n, err);
		if (rc)
			return rc;
		left -= (uint64_t)n;
	}
	return left ? vio_err_set(err, -EINTR, "ended by a signal, %" PRIu64 " bytes early", left)
		    : 0;
}

static int rng_run(struct phyp_part *part, void *ctx, struct vio_err *err)
{
	struct opts *o = ctx;
	const struct vio_buffered_cfg cfg = {
		.transport = o->c.transport,
		.waits = {o->c.spin_ns, o->c.idle_ns, vio_front_one_core()},
		.copybreak = o->c.copybreak,
		.defer_batch = o->c.defer_batch,
		.quota_pages = o->c.quota_pages};
	struct vio_rng *r;
	struct vio_mem mem;
	int rc;

	vio_mem_init(&mem, part);
	rc = vio_rng_open(part, &mem, &cfg, &r, err);
	if (rc)
		return rc;
	if (o->c.info_only)
		fprintf(stderr, "vio-rng: protocol %u, arm %s, queue of %u\n",
			vio_rng_get_info(r)->version, vio_rng_get_info(r)->arm.name,
			vio_rng_get_info(r)->queue_size);
	else
		rc = rng_copy(r, o->bytes, err);
	vio_rng_close(r);
	return rc;
}

int main(int argc, char **argv)
{
	struct vio_err err = {{0}};
	struct opts o;
	int rc;

	vio_common_defaults(&o.c);
	rc = vio_common_parse(&program, &o, &o.c, argc, argv, &err);
	return vio_prog_main(&o.c, "vio-rng", rc, rng_signal, rng_run, &o, &err);
}
