/* SPDX-License-Identifier: BSD-3-Clause */
/* vio-console: a guest partition whose console is this program's standard input and output. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "guest/dev/console/console.h"
#include "common/option_rows.h"
#include "guest/prog/common.h"
#include "vio/cycles.h"

#define PIECE  4096u
#define NAP_NS 100000000ull

static volatile sig_atomic_t
	stop_now; /* set by the signal handler: the one mutable global, as main's */

static void console_signal(int sig)
{
	(void)sig;
	stop_now = 1;
}

struct opts {
	struct vio_common c;
	bool stay;
};

/* One direction's bytes that have not gone on. */
struct held {
	uint8_t b[PIECE];
	uint32_t at, n;
};

struct ends {
	struct vio_console *c;
	struct held to_guest, from_guest; /* what this program prints, what it reads */
	bool eof;                         /* standard input has ended */
};

#define O struct opts
static const struct vio_option rows[] = {
	VIO_ROWS(O, c, vio_rows_machine),
	VIO_ROWS(O, c, vio_rows_design),
	VIO_ROWS(O, c, vio_rows_spin),
	VIO_ROW_IDLE(O, c, "never"),
	VIO_LINES("work\n"),
	{"stay", NULL, "go on printing what arrives when standard input has ended, until a signal",
	 VIO_FLAG(O, stay)},
	VIO_ROW_INFO(O, c.info_only),
	VIO_ROW_TRACE(O, c.trace),
	VIO_ROW_FAULT(O, c.fault),
	VIO_ROWS(O, c, vio_rows_end),
	{0},
};
#undef O

static const struct vio_program program = {
	.name = "vio-console",
	.about =
		"vio-console: a guest partition whose console is this program's standard input and output\n\n",
	.tail = "Exit code: 0 standard input ended and the server has it all, or a signal; 1 failed, 2 wrong use.\n",
	.version = VIO_VERSION,
	.rows = rows,
};

static bool console_again(ssize_t n)
{
	return n < 0 && (errno == EAGAIN || errno == EINTR);
}

/* Standard input, when poll() has said that there is something. */
static int read_input(struct ends *e, struct vio_err *err)
{
	ssize_t n = read(STDIN_FILENO, e->from_guest.b, PIECE);

	if (n < 0 && !console_again(n))
		return vio_err_set(err, -errno, "standard input: %s", strerror(errno));
	e->eof = n == 0;
	e->from_guest.at = 0;
	e->from_guest.n = n > 0 ? (uint32_t)n : 0;
	return 0;
}

static int console_print(struct held *h, struct vio_err *err)
{
	while (h->at < h->n) {
		ssize_t n = write(STDOUT_FILENO, h->b + h->at, h->n - h->at);

		if (n < 0 && console_again(n))
			return 0;
		if (n < 0)
			return vio_err_set(err, -errno, "standard output: %s", strerror(errno));
		h->at += (uint32_t)n;
	}
	return 0;
}

/* Whatever can go on now, in both directions. */
static int console_carry(struct ends *e, struct vio_err *err)
{
	struct held *in = &e->to_guest, *out = &e->from_guest;
	int n, rc;

	if (in->at == in->n) {
		n = vio_console_read(e->c, in->b, PIECE);
		if (n < 0)
			return vio_err_set(err, n, "the console will not come back");
		in->at = 0;
		in->n = (uint32_t)n;
	}
	rc = console_print(in, err);
	if (rc || out->at == out->n)
		return rc;
	n = vio_console_write(e->c, out->b + out->at, out->n - out->at);
	if (n < 0)
		return vio_err_set(err, n, "the console will not come back");
	out->at += (uint32_t)n;
	return 0;
}

static int console_pump(struct ends *e, bool stay, struct vio_err *err)
{
	for (;;) {
		struct pollfd fds[2] = {{.fd = -1, .events = POLLIN},
					{.fd = -1, .events = POLLOUT}};
		int rc = console_carry(e, err);

		if (rc || stop_now)
			return rc;
		if (e->eof && !stay && e->from_guest.at == e->from_guest.n &&
		    vio_console_unsent(e->c) == 0)
			return 0;
		if (!e->eof && e->from_guest.at == e->from_guest.n)
			fds[0].fd = STDIN_FILENO;
		if (e->to_guest.at < e->to_guest.n)
			fds[1].fd = STDOUT_FILENO;
		vio_console_idle(e->c, fds, 2, NAP_NS);
		/* In levels that look for themselves nobody has asked. */
		if (fds[0].fd >= 0 && poll(fds, 1, 0) > 0)
			rc = read_input(e, err);
		if (rc)
			return rc;
	}
}

static void say_info(const struct vio_console *c)
{
	const struct vio_transport_info *i = vio_console_get_info(c);
	uint16_t wide, high;

	fprintf(stderr, "vio-console: protocol %u, arm %s, queues of %u", i->version, i->arm.name,
		i->queue_size);
	if (vio_console_size(c, &wide, &high))
		fprintf(stderr, ", %u columns, %u rows", wide, high);
	fputc('\n', stderr);
}

static int console_run(struct phyp_part *part, void *ctx, struct vio_err *err)
{
	struct opts *o = ctx;
	const struct vio_buffered_cfg cfg = {
		.transport = o->c.transport,
		.waits = {o->c.spin_ns, o->c.idle_ns, vio_front_one_core()},
		.copybreak = o->c.copybreak,
		.defer_batch = o->c.defer_batch,
		.quota_pages = o->c.quota_pages};
	struct ends e = {.eof = false};
	struct vio_mem mem;
	int rc;

	vio_mem_init(&mem, part);
	rc = vio_console_open(part, &mem, &cfg, &e.c, err);
	if (rc)
		return rc;
	if (o->c.info_only)
		say_info(e.c);
	else
		rc = console_pump(&e, o->stay, err);
	vio_console_close(e.c);
	return rc;
}

int main(int argc, char **argv)
{
	struct vio_err err = {{0}};
	struct opts o = {.stay = false};
	int rc;

	vio_common_defaults(&o.c);
	rc = vio_common_parse(&program, &o, &o.c, argc, argv, &err);
	return vio_prog_main(&o.c, "vio-console", rc, console_signal, console_run, &o, &err);
}
