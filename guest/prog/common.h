/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the guest programs have in common: the options that say which partition to be and in what
 * design, and the start and end of a partition.
 */
#ifndef VIO_GUEST_PROG_COMMON_H
#define VIO_GUEST_PROG_COMMON_H

#include <getopt.h>

#include "duet/score.h"
#include "guest/transport.h"

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
	uint64_t started_ns; /* vio_now_ns() of the program's start */
	/* Of the front end, as struct vio_blk_cfg and struct vio_net_cfg have them. */
	struct vio_transport_cfg transport;
	uint32_t copybreak;
	unsigned defer_batch, quota_pages;
	uint64_t spin_ns, idle_ns;
};

/* The options' numbers; a program's own begin at VIO_O_OWN. */
enum {
	VIO_O_PHYP = 256,
	VIO_O_PARTITION,
	VIO_O_UNIT,
	VIO_O_CORE,
	VIO_O_ARM,
	VIO_O_FALLBACK,
	VIO_O_PROTO,
	VIO_O_QUEUES,
	VIO_O_QUEUE_SIZE,
	VIO_O_INDIRECT,
	VIO_O_COPYBREAK,
	VIO_O_DEFER,
	VIO_O_QUOTA,
	VIO_O_SPIN,
	VIO_O_IDLE,
	VIO_O_INFO,
	VIO_O_JSON,
	VIO_O_TRACE,
	VIO_O_FAULT,
	VIO_O_TIMEOUT,
	VIO_O_STAGE,
	VIO_O_DUET,
	VIO_O_HELP,
	VIO_O_VERSION,
	VIO_O_OWN,
};

/* The front of a program's struct option[]; its own and the end follow. */
#define VIO_COMMON_OPTIONS                                                                         \
	{"phyp", 1, 0, VIO_O_PHYP}, {"partition", 1, 0, VIO_O_PARTITION},                          \
		{"unit", 1, 0, VIO_O_UNIT}, {"core", 1, 0, VIO_O_CORE}, {"arm", 1, 0, VIO_O_ARM},  \
		{"fallback", 0, 0, VIO_O_FALLBACK}, {"proto", 1, 0, VIO_O_PROTO},                  \
		{"queues", 1, 0, VIO_O_QUEUES}, {"queue-size", 1, 0, VIO_O_QUEUE_SIZE},            \
		{"indirect", 0, 0, VIO_O_INDIRECT}, {"copybreak", 1, 0, VIO_O_COPYBREAK},          \
		{"defer-batch", 1, 0, VIO_O_DEFER}, {"quota-pages", 1, 0, VIO_O_QUOTA},            \
		{"spin-us", 1, 0, VIO_O_SPIN}, {"idle-us", 1, 0, VIO_O_IDLE},                      \
		{"info", 0, 0, VIO_O_INFO}, {"json", 1, 0, VIO_O_JSON},                            \
		{"trace", 0, 0, VIO_O_TRACE}, {"fault", 1, 0, VIO_O_FAULT},                        \
		{"timeout", 1, 0, VIO_O_TIMEOUT}, {"stage-fd", 1, 0, VIO_O_STAGE},                 \
		{"duet", 1, 0, VIO_O_DUET}, {"help", 0, 0, VIO_O_HELP},                            \
	{                                                                                          \
		"version", 0, 0, VIO_O_VERSION                                                     \
	}

/* Pieces of a program's --help. */
#define VIO_USAGE_MACHINE                                                                          \
	"machine\n"                                                                                \
	"  --phyp SOCKET        phypd's control socket (default /tmp/vio-phyp.sock)\n"             \
	"  --partition NAME     which partition to be (guest0)\n"                                  \
	"  --unit N             which of its virtual adapters (0)\n"                               \
	"  --core N             pin to this core\n"
#define VIO_USAGE_ARM                                                                                       \
	"  --arm ARM            copy, copy-tuned, premapped, zero-copy, unprotected, or factors:\n"         \
	"                       mapping=single-use|deferred|cached|pool "                                   \
	"payload=rdma|bounce|direct|copybreak|unchecked\n"                                                  \
	"                       ring=copy|copy-delta|direct notify=crq|suppress|poll layout=split|packed, " \
	"comma separated (zero-copy)\n"                                                                     \
	"  --fallback           go on with the copy design when the server does not offer the arm "         \
	"(default: "                                                                                        \
	"refuse)\n"                                                                                         \
	"  --proto 1|2          highest protocol version to speak (2)\n"
#define VIO_USAGE_MAPPING                                                                          \
	"  --indirect           use indirect descriptors\n"                                        \
	"  --defer-batch N      mapping=deferred: unmaps a batch (64)\n"                           \
	"  --quota-pages N      mapping=cached: pages kept mapped (4096)\n"
#define VIO_USAGE_NOTIFY                                                                           \
	"  --spin-us N          crq, suppress: spin this long before sleeping (50)\n"              \
	"  --idle-us N|never    poll: sleep after this long without work (never)\n"
#define VIO_USAGE_TRACE                                                                            \
	"  --trace              print each message and hypervisor call to standard error\n"        \
	"  --fault SPEC         inject faults into hypervisor calls: OP@N=RC[xCOUNT],...\n"
#define VIO_USAGE_STAGE                                                                                        \
	"  --stage-fd N         write the byte M to this descriptor when the measurement begins, E when it "   \
	"ends\n"                                                                                               \
	"  --duet FILE,slot=N   take turns with other machines on one processor, as the score in FILE says;\n" \
	"                       the score ends the run\n"
#define VIO_USAGE_END                                                                              \
	"  --timeout SECONDS    wait this long for the server at start (5)\n"                      \
	"  --help, --version\n"

void vio_common_defaults(struct vio_common *c);
/*
 * One option as getopt_long() returned it. 0; 1: not one of these; 2: --help or --version has been
 * answered (usage was printed); -EINVAL with a sentence.
 */
int vio_common_option(struct vio_common *c, int opt, const char *arg, const char *program,
		      const char *usage, const struct option *longs, struct vio_err *err);
/*
 * The whole command line: own() is asked for what is not common; as vio_common_option(), 1 is "none
 * of mine". 0; 1 after --help or --version; -EINVAL with a sentence. Strings point into argv. What
 * the transport has to say goes to standard error, after the program's name.
 */
int vio_common_parse(struct vio_common *c, int argc, char **argv, const char *program,
		     const char *usage, const struct option *longs,
		     int (*own)(void *ctx, int opt, const char *arg, struct vio_err *err),
		     void *ctx, struct vio_err *err);
/* Values, naming the option: -EINVAL with a sentence. */
const char *vio_option_name(const struct option *longs, int opt);
int vio_option_seconds(const char *name, const char *text, uint64_t *ns, struct vio_err *err);
int vio_option_on_off(const char *name, const char *text, bool *on, struct vio_err *err);
int vio_option_rate(const char *name, const char *text, double *per_second, struct vio_err *err);

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
