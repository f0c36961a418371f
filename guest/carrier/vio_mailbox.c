/* SPDX-License-Identifier: BSD-3-Clause */
/* vio-mailbox: the partition that is a virtual machine: its memory, and the carrier of its hypervisor calls. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "common/option_rows.h"
#include "common/sandbox.h"
#include "guest/carrier/guardian.h"
#include "guest/carrier/ivshmem.h"
#include "guest/carrier/mailbox.h"
#include "vio/cycles.h"

/* Without a call for so long: sockets are looked at, though nothing sleeps. */
#define LOOK_NS 10000000ull
#define NAP_NS  1000000000ull

static volatile sig_atomic_t stop_now,
	stats_now; /* set by signal handlers: the only mutable globals, as main's */

static void mailbox_on_signal(int sig)
{
	if (sig == SIGUSR1)
		stats_now = 1;
	else
		stop_now = 1;
}

struct opts {
	const char *phypd, *partition, *socket, *ram_link, *stats;
	uint64_t spin_ns;
	bool trace;
	int ready_fd;
	struct vio_sandbox sandbox;
};

#define O struct opts
static const struct vio_option rows[] = {
	{"phypd", "SOCKET", "phypd's control socket", VIO_TEXT(O, phypd),
	 .def = "/tmp/vio-phyp.sock"},
	VIO_ROW_PARTITION(O, partition, "guest0"),
	{"socket", "PATH", "where QEMU's ivshmem-doorbell connects", VIO_TEXT(O, socket),
	 .def = "/tmp/vio-ivshmem.sock"},
	{"ram-link", "PATH",
	 "a symbolic link to the partition's memory, for QEMU's memory-backend-file",
	 VIO_TEXT(O, ram_link), .def = "/tmp/vio-ram"},
	{"spin-us", "N", "look for calls this long before sleeping",
	 VIO_NUMBER(O, spin_ns, 0, 1000000), .unit = 1000, .def = "50"},
	{"stats", "FILE", "write counters as JSON at the end, and on SIGUSR1", VIO_TEXT(O, stats)},
	VIO_ROW_TRACE(O, trace),
	VIO_ROW_READY_FD(O, ready_fd, "QEMU can connect"),
	VIO_ROWS_SANDBOX(O, sandbox),
	{0},
};
#undef O

static const struct vio_program program = {
	.name = "vio-mailbox",
	.about =
		"vio-mailbox: a partition whose processor is a virtual machine: carries its hypervisor calls. Ends on SIGTERM or SIGINT.\n\n",
	.tail = "\n"
		"The partition must have one LMB (lmb_mib = memory_mib in phypd's profile). QEMU is started with\n"
		"  -m MIB -object memory-backend-file,id=ram,size=MIBM,mem-path=LINK,share=on -machine TYPE,memory-backend=ram\n"
		"  -smp 1,maxcpus=2 -chardev socket,path=PATH,id=vio -device ivshmem-doorbell,vectors=1,chardev=vio\n"
		"(with one possible processor TCG leaves the guest's memory barriers out: never that).\n",
	.version = VIO_VERSION,
	.rows = rows,
};

struct carrier {
	const struct opts *o;
	struct phyp_part *part;
	struct phyp_vcpu *vcpu;
	struct vio_ivshmem iv;
	struct vio_mb_server mb;
	int ram;
	uint64_t doorbells, interrupts, machines;
};

/* ------------------------------------------------------------------------ counters ---- */

static void write_stats(struct carrier *c)
{
	const struct phyp_counters n = *phyp_vcpu_counters(c->vcpu);
	FILE *f;

	if (!c->o->stats)
		return;
	f = fopen(c->o->stats, "we");
	if (!f) {
		fprintf(stderr, "vio-mailbox: --stats %s: %s\n", c->o->stats, strerror(errno));
		return;
	}
	fprintf(f, "{\"calls\": %" PRIu64 ", \"refused\": %" PRIu64 ", \"unknown\": %" PRIu64,
		c->mb.calls, c->mb.refused, c->mb.unknown);
	fprintf(f, ", \"anew\": %" PRIu64 ", \"machines\": %" PRIu64, c->mb.anew, c->machines);
	fprintf(f, ", \"doorbells\": %" PRIu64 ", \"interrupts\": %" PRIu64, c->doorbells,
		c->interrupts);
	fprintf(f, ", \"grants\": %u, \"tce_updates\": %" PRIu64, c->mb.n_cookies, n.tce_updates);
	for (unsigned i = 0; phyp_op_at(i); i++)
		fprintf(f, ", \"%s\": %" PRIu64, phyp_op_name(phyp_op_at(i)), n.hcall[i]);
	fprintf(f, ", \"tces\": %" PRIu64 "}\n", vio_mb_tces(&c->mb));
	if (fclose(f))
		fprintf(stderr, "vio-mailbox: --stats %s: %s\n", c->o->stats, strerror(errno));
}

/* ----------------------------------------------------------------------------- run ---- */

static void look_at_machine(struct carrier *c)
{
	switch (vio_ivshmem_look(&c->iv)) {
	case VIO_IVSHMEM_CAME:
		c->machines++;
		fprintf(stderr, "vio-mailbox: a virtual machine is partition %s\n",
			c->o->partition);
		break;
	case VIO_IVSHMEM_WENT:
		fprintf(stderr,
			"vio-mailbox: the virtual machine went away: partition %s begins anew\n",
			c->o->partition);
		c->mb.owed = true;
		break;
	case VIO_IVSHMEM_REFUSED:
		fprintf(stderr,
			"vio-mailbox: a second virtual machine for partition %s was turned away\n",
			c->o->partition);
		break;
	case VIO_IVSHMEM_NOTHING:
		break;
	}
	if (c->mb.owed)
		vio_mb_anew(&c->mb);
}

/* Until a call, an interrupt, a machine or a signal comes. -EPIPE: phypd has gone. */
static int sleep_now(struct carrier *c)
{
	struct pollfd fd[] = {{.fd = c->iv.doorbell, .events = POLLIN},
			      {.fd = c->iv.listener, .events = POLLIN},
			      {.fd = c->iv.client, .events = POLLIN}};
	int rc = 0;

	if (!vio_mb_sleep(&c->mb) && !stop_now && !stats_now)
		rc = phyp_vcpu_wait_fds(c->vcpu, 0, c->mb.owed ? LOOK_NS : NAP_NS, fd,
					c->iv.client < 0 ? 2 : 3);
	vio_mb_wake(&c->mb);
	if (fd[0].revents) {
		c->doorbells++;
		vio_ivshmem_answer_doorbell(&c->iv);
	}
	look_at_machine(c);
	return rc == -EPIPE ? rc : 0;
}

static int carry(struct carrier *c, struct vio_err *err)
{
	uint64_t busy_ns = vio_now_ns(), looked_ns = busy_ns;

	while (!stop_now) {
		unsigned n = vio_mb_serve(&c->mb);
		uint64_t now = vio_now_ns();

		if (phyp_irq_take(c->vcpu)) {
			c->interrupts++;
			vio_ivshmem_interrupt(&c->iv);
			n++;
		}
		if (n)
			busy_ns = now;
		if (stats_now) {
			stats_now = 0;
			write_stats(c);
		}
		if (now - busy_ns >= c->o->spin_ns) {
			if (sleep_now(c))
				return vio_err_set(err, -EPIPE, "the hypervisor (phypd) is gone");
			looked_ns = now;
			if (c->o->spin_ns)
				busy_ns = vio_now_ns();
		} else if (now - looked_ns >= LOOK_NS) {
			look_at_machine(c);
			looked_ns = now;
		} else if (n == 0) {
			vio_cpu_relax();
		}
	}
	return 0;
}

/* ----------------------------------------------------------------------- start, end ---- */

/* The memory's only LMB, as a file that QEMU can open. */
static int link_memory(struct carrier *c, struct vio_err *err)
{
	char target[64];

	if (phyp_mem_size(c->part) != phyp_lmb_size(c->part))
		return vio_err_set(
			err, -EINVAL,
			"partition %s has %" PRIu64
			" LMBs, a virtual machine's memory is one: set its lmb_mib to %" PRIu64
			" in phypd's profile",
			c->o->partition, phyp_mem_size(c->part) / phyp_lmb_size(c->part),
			phyp_mem_size(c->part) >> 20);
	c->ram = phyp_lmb_fd(c->part, 0);
	if (c->ram < 0)
		return vio_err_set(err, c->ram, "partition %s: its memory is not given out: %s",
				   c->o->partition, strerror(-c->ram));
	snprintf(target, sizeof(target), "/proc/%ld/fd/%d", (long)getpid(), c->ram);
	if (unlink(c->o->ram_link) && errno != ENOENT)
		return vio_err_set(err, -errno, "--ram-link %s: %s", c->o->ram_link,
				   strerror(errno));
	if (symlink(target, c->o->ram_link))
		return vio_err_set(err, -errno, "--ram-link %s: %s", c->o->ram_link,
				   strerror(errno));
	return 0;
}

static int mailbox_open_all(struct carrier *c, struct vio_err *err)
{
	int rc = vio_ivshmem_open(&c->iv, c->o->socket, VIO_MB_BYTES, err);

	/* Before there is a connection that it would hold, too. */
	if (rc == 0)
		rc = vio_guardian_start(&c->iv, c->o->phypd, c->o->partition, err);
	if (rc == 0)
		rc = phyp_connect(c->o->phypd, c->o->partition, &c->part, err);
	if (rc == 0)
		rc = phyp_vcpu_create(c->part, &c->vcpu, err);
	/* A kick then costs no system calls in the hypervisor. */
	for (unsigned i = 0; rc == 0 && i < phyp_n_units(c->part); i++) {
		phyp_irq_route(c->vcpu, phyp_unit(c->part, i)->unit);
		rc = phyp_alias_set(c->part, phyp_unit(c->part, i)->unit, PHYP_ALIAS_CRQ, err);
	}
	if (rc == 0)
		rc = vio_mb_open(&c->mb, c->vcpu, c->iv.va, err);
	c->mb.trace = c->o->trace ? stderr : NULL;
	return rc == 0 ? link_memory(c, err) : rc;
}

static void mailbox_close_all(struct carrier *c)
{
	if (c->mb.head) {
		write_stats(c);
		vio_mb_close(&c->mb);
		vio_ivshmem_interrupt(&c->iv);
	}
	if (c->ram >= 0) {
		unlink(c->o->ram_link);
		close(c->ram);
	}
	if (c->iv.path)
		vio_ivshmem_close(&c->iv);
	if (c->vcpu)
		phyp_vcpu_destroy(c->vcpu);
	if (c->part)
		phyp_close(c->part);
}

int main(int argc, char **argv)
{
	const struct sigaction sa = {.sa_handler = mailbox_on_signal};
	struct opts o = {.ready_fd = -1};
	struct carrier c = {.o = &o, .ram = -1};
	struct vio_err err = {{0}};
	int parsed = vio_options_parse(&program, &o, argc, argv, &err), rc = parsed;

	if (parsed > 0)
		return 0; /* --help, --version */
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	if (rc == 0)
		rc = mailbox_open_all(&c, &err);
	/* Files: the counters', and the link and the socket that it removes at its end. QEMU comes in by accept(). */
	if (rc == 0)
		rc = vio_sandbox_enter(&o.sandbox, VIO_NEED_OPEN, &err);
	if (rc == 0 && o.ready_fd >= 0 && write(o.ready_fd, "R", 1) < 0)
		rc = vio_err_set(&err, -errno, "--ready-fd %d: %s", o.ready_fd, strerror(errno));
	if (rc == 0)
		rc = carry(&c, &err);
	if (rc)
		fprintf(stderr, "vio-mailbox: %s\n", err.msg);
	mailbox_close_all(&c);
	return parsed ? 2 : rc ? 1 : 0;
}
