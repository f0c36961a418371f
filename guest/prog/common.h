/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the guest programs have in common: the options that say which partition to be and in what
 * design, and the start and end of a partition.
 */
#ifndef VIO_GUEST_PROG_COMMON_H
#define VIO_GUEST_PROG_COMMON_H

#include "common/option_rows.h"
#include "common/sandbox.h"
#include "duet/score.h"
#include "guest/transport/transport.h"

#ifndef VIO_VERSION
#define VIO_VERSION "unknown"
#endif

struct vio_common {
	const char *socket, *partition;
	const char *json; /* file, "-" = standard output, NULL = table only */
	const char *fault;
	int core;         /* -1: not pinned */
	int stage_fd;     /* -1: none */
	const char *duet; /* FILE,slot=N of a score, or NULL */
	bool trace, info_only;
	struct vio_sandbox sandbox;
	unsigned needs;     /* VIO_NEED_* while it runs */
	bool sandbox_later; /* run() enters the sandbox itself, when it has opened what needs rights */
	uint64_t started_ns; /* vio_now_ns() of the program's start */
	/* Of the front end, as struct vio_blk_cfg and struct vio_net_cfg have them. */
	struct vio_transport_cfg transport;
	uint32_t copybreak;
	unsigned defer_batch, quota_pages;
	uint64_t spin_ns, idle_ns;
};

/*
 * Rows of struct vio_common, for a program's table by VIO_ROWS(its struct, its vio_common, rows): which partition to be; the
 * design; what is spun and waited for; the rest. VIO_ROW_IDLE and the heads of groups are the program's.
 */
extern const struct vio_option vio_rows_machine[], vio_rows_design[], vio_rows_spin[],
	vio_rows_output[], vio_rows_stage[], vio_rows_end[];
/* When a polling guest sleeps: each program has a default of its own. */
#define VIO_ROW_IDLE(type, field, otherwise)                                                       \
	{                                                                                          \
		"idle-us", "N", "poll: sleep after this long without work",                        \
			VIO_NUMBER(type, field.idle_ns, 0, 1000000000),                            \
			.unit = 1000, .never = true, .def = (otherwise)                            \
	}

/* What the rows have no default for. */
void vio_common_defaults(struct vio_common *c);
/*
 * The whole command line into *to, of which c is a part: vio_options_parse(). What the transport has to say goes to standard
 * error, after the program's name.
 */
int vio_common_parse(const struct vio_program *p, void *to, struct vio_common *c, int argc,
		     char **argv, struct vio_err *err);

/*
 * --duet, as early as possible: the server sleeps until its guest begins. Without the option a side that has no turns.
 * -errno with a sentence. The caller closes it in any case.
 */
int vio_common_duet(const struct vio_common *c, struct vio_duet *d, struct vio_err *err);

/*
 * main() after its command line was parsed (parsed: what vio_common_parse() said): pinned, connected, with
 * its filters, run(). The exit code: 0, 1 failed, 2 wrong use; what went wrong is on standard error. SIGINT
 * and SIGTERM go to `handler`.
 */
int vio_prog_main(const struct vio_common *c, const char *program, int parsed,
		  void (*handler)(int sig),
		  int (*run)(struct phyp_part *part, void *ctx, struct vio_err *err), void *ctx,
		  struct vio_err *err);

#endif
