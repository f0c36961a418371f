/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A partition whose calls another process makes: the caller's end of vio-mailbox (guest/carrier/), in user space. It maps
 * its own memory and the mailboxes and nothing of the hypervisor's, so that native code in it reaches no more than a
 * virtual machine's would. Client ends only: what is accepted would be mapped in the other process.
 *
 * What libphyp asks a segment for (units, counters, interrupt words) stands in one of this process's own.
 */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "phyp/carrier/carrier.h"
#include "phyp/carrier/wire.h"
#include "phyp/core/irq.h"
#include "proto/mailbox.h"
#include "vio/cycles.h"
#include "vio/thread.h"

/* As long as vio_hv.ko's: a hypervisor that does not answer a call so long is taken for dead. */
#define ANSWER_NS 5000000000ull
#define SPIN_LOOKS                                                                                 \
	2000 /* about 50 us; then the processor is given to whoever wants it between looks */
#define ANEW_NAPS   250 /* of 20 ms */
#define GREET_SEC   10
#define GREET_WORDS 5 /* version, own number, memory, the doorbell, the interrupt */

struct mailbox {
	struct hv_seg *seg; /* private */
	int sock, memory, bar, doorbell, interrupt, stop;
	struct vio_mb_head *head;
	struct vio_mailbox *box; /* one a vcpu, by slot */
	pthread_t agent;
	bool agent_runs;
};
static_assert(VIO_MB_BOXES + PHYP_MAX_VCPUS * sizeof(struct vio_mailbox) <= VIO_MB_BYTES,
	      "a mailbox a vcpu");

/* ------------------------------------------------------------------------------- calls ---- */

/* Leave a call and wait for its answer. False: there will be none. */
static bool mailbox_exchange(struct mailbox *m, struct vio_mailbox *b, uint64_t op,
			     const uint64_t *a)
{
	uint32_t request = le32toh(vio_load_relaxed(&b->request)) + 1;
	uint64_t end = 0;

	vio_store_relaxed(&b->op, htole64(op));
	for (unsigned i = 0; i < PHYP_REGS; i++)
		vio_store_relaxed(&b->args[i], htole64(a[i]));
	vio_store_release(&b->request, htole32(request)); /* pair MA: the call before its number */
	vio_fence_full(); /* pair MD: the number before the look whether to ring */
	if (vio_load_relaxed(&m->head->asleep))
		hv_ring(m->doorbell);
	/* Pair MA: the answer's number before the answer. */
	for (uint64_t looks = 1; le32toh(vio_load_acquire(&b->answer)) != request; looks++) {
		vio_cpu_relax();
		if (looks % 64)
			continue;
		if (!vio_load_relaxed(&m->head->up))
			return false;
		if (looks > SPIN_LOOKS)
			sched_yield();
		if (!end)
			end = vio_now_ns() + ANSWER_NS;
		if (vio_now_ns() > end)
			return false;
	}
	return true;
}

static int64_t mailbox_call(struct phyp_vcpu *v, uint64_t op, const uint64_t *a, uint64_t *ret)
{
	struct mailbox *m = v->part->at;
	struct vio_mailbox *b = &m->box[v->slot];

	if (!hv_alive(v->part))
		return H_HARDWARE;
	if (op == H_ACCEPT_LOGICAL || op == H_RETURN_LOGICAL)
		return H_FUNCTION;
	if (!mailbox_exchange(m, b, op, a)) {
		hv_part_lost(v->part);
		return H_HARDWARE;
	}
	for (unsigned i = 0; i < PHYP_REGS; i++)
		ret[i] = le64toh(vio_load_relaxed(&b->ret[i]));
	return (int64_t)le64toh((uint64_t)vio_load_relaxed(&b->rc));
}

/* The partition begins anew, as a kernel that boots has it: nothing is left of whoever was here before. */
static int mailbox_anew(struct mailbox *m, struct vio_err *err)
{
	const struct timespec nap = {.tv_nsec = 20 * 1000 * 1000};
	const uint64_t none[PHYP_REGS] = {0};

	for (unsigned i = 0; i < ANEW_NAPS; i++) {
		if (!mailbox_exchange(m, &m->box[0], VIO_MB_OP_ANEW, none))
			return vio_err_set(err, -ETIMEDOUT,
					   "vio-mailbox does not answer: is it stopped?");
		if (m->box[0].rc == H_SUCCESS)
			return 0;
		nanosleep(&nap, NULL);
	}
	return vio_err_set(
		err, -EBUSY,
		"a server still uses what this partition had granted before: start it again");
}

/* --------------------------------------------------------------------------- interrupts ---- */

/* An interrupt says "look", no more: at each unit. */
static void mailbox_raise(struct phyp_part *part)
{
	struct hv_part *p = &part->seg->part[part->idx];

	for (unsigned i = 0; i < part->n_units; i++) {
		const struct hv_unit *u = part->unit[i].u;
		uint32_t slot = vio_load_relaxed(&u->crq.route);

		vio_fetch_or(&p->line[slot].pending, 1ull << u->local);
		hv_line_wake(&p->line[slot], part->evfd[slot]);
	}
}

static void *mailbox_agent(void *arg)
{
	struct phyp_part *part = arg;
	struct mailbox *m = part->at;
	struct pollfd p[] = {{.fd = m->interrupt, .events = POLLIN},
			     {.fd = m->sock, .events = POLLRDHUP},
			     {.fd = m->stop, .events = POLLIN}};
	uint64_t n;

	while (p[2].revents == 0) {
		if (poll(p, VIO_ARRAY_SIZE(p), -1) < 0)
			continue;
		if (p[0].revents && read(m->interrupt, &n, sizeof(n)) > 0)
			mailbox_raise(part);
		if (p[1].revents || !vio_load_relaxed(&m->head->up)) {
			hv_part_lost(part);
			p[1].fd = -1;
		}
	}
	return NULL;
}

/* ------------------------------------------------------------------------------- the row ---- */

static int mailbox_lmbs(struct phyp_part *part, uint32_t p, uint32_t *gen, int fd[PHYP_MAX_LMBS],
			unsigned *n)
{
	const struct mailbox *m = part->at;

	*n = 0;
	if (p != part->idx)
		return -ENOTSUP;
	fd[0] = fcntl(m->memory, F_DUPFD_CLOEXEC, 0);
	if (fd[0] < 0)
		return -errno;
	*gen = part->gen;
	*n = 1;
	return 0;
}

static int mailbox_stats(struct phyp_part *part, struct phyp_part_stats *stats, unsigned *n,
			 struct vio_err *err)
{
	(void)err;
	if (*n > 1)
		*n = 1;
	hv_stats(part->seg, stats, n);
	return 0;
}

/* The partner's process is not known here: once the hypervisor has gone, nothing is given back. */
static bool mailbox_ended(struct phyp_part *part, uint32_t p)
{
	(void)part;
	(void)p;
	return false;
}

static void mailbox_free(struct mailbox *m)
{
	const int fd[] = {m->sock, m->memory, m->bar, m->doorbell, m->interrupt, m->stop};

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(fd); i++) {
		if (fd[i] >= 0)
			close(fd[i]);
	}
	if (m->head)
		munmap(m->head, VIO_MB_BYTES);
	if (m->seg)
		munmap(m->seg, sizeof(*m->seg));
	free(m);
}

static void close_evfds(struct phyp_part *part)
{
	for (unsigned i = 0; i < HV_EVFDS; i++) {
		if (part->evfd[i] >= 0)
			close(part->evfd[i]);
	}
}

static void mailbox_close(struct phyp_part *part)
{
	struct mailbox *m = part->at;

	if (m->agent_runs) {
		hv_ring(m->stop);
		pthread_join(m->agent, NULL);
	}
	close_evfds(part);
	hv_part_free(part);
	mailbox_free(m);
}

/* --------------------------------------------------------------------------------- open ---- */

/* One word of QEMU's ivshmem protocol, which this speaks as a virtual machine. *fd: what came with it, or -1. */
static int mailbox_word(int sock, int64_t *word, int *fd)
{
	unsigned n = 1;
	uint64_t raw;
	ssize_t got = wire_recv(sock, &raw, sizeof(raw), fd, &n, 0);

	if (got == sizeof(raw)) {
		*word = (int64_t)le64toh(raw);
		if (n == 0)
			*fd = -1;
		return 0;
	}
	while (n > 0)
		close(fd[--n]);
	*fd = -1;
	return got < 0 ? (int)got : -ECONNREFUSED;
}

static int mailbox_greet(struct mailbox *m, const char *path, struct vio_err *err)
{
	const int64_t expected[GREET_WORDS] = {0, VIO_MB_GUEST, -1, VIO_MB_PEER, VIO_MB_GUEST};
	const bool brings[GREET_WORDS] = {false, false, true, true, true};
	int *const to[GREET_WORDS] = {NULL, NULL, &m->bar, &m->doorbell, &m->interrupt};
	const struct timeval patience = {.tv_sec = GREET_SEC};
	struct sockaddr_un sa;
	int rc = wire_address(path, &sa, err);

	if (rc)
		return rc;
	m->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (m->sock < 0 || connect(m->sock, (const struct sockaddr *)&sa, sizeof(sa)))
		return vio_err_set(err, -errno, "no vio-mailbox at %s: %s", path, strerror(errno));
	setsockopt(m->sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	for (unsigned i = 0; i < GREET_WORDS; i++) {
		int64_t word = 0;
		int fd = -1;

		rc = mailbox_word(m->sock, &word, &fd);
		if (fd >= 0 && (rc || !to[i]))
			close(fd);
		else if (to[i])
			*to[i] = fd;
		if (rc == -ECONNREFUSED)
			return vio_err_set(
				err, -EBUSY,
				"vio-mailbox at %s turned this program away: its partition has a machine already",
				path);
		if (rc || word != expected[i] || brings[i] != (fd >= 0))
			return vio_err_set(err, rc ? rc : -EPROTO, "%s is no vio-mailbox's socket",
					   path);
	}
	return 0;
}

/* The mailboxes: of the size that they must have, and of our version. */
static int mailbox_map(struct mailbox *m, struct vio_err *err)
{
	struct stat st;
	uint8_t *va = MAP_FAILED;

	if (fstat(m->bar, &st) == 0 && st.st_size == VIO_MB_BYTES)
		va = mmap(NULL, VIO_MB_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, m->bar, 0);
	if (va == MAP_FAILED)
		return vio_err_set(err, -EPROTO, "vio-mailbox shares no mailboxes");
	m->head = (void *)va;
	m->box = (void *)(va + VIO_MB_BOXES);
	/* Pair MB: the magic before the head. */
	if (le64toh(vio_load_acquire(&m->head->magic)) != VIO_MB_MAGIC ||
	    le32toh(m->head->version) != VIO_MB_VERSION ||
	    le32toh(m->head->n_boxes) < PHYP_MAX_VCPUS ||
	    le32toh(m->head->n_units) > PHYP_MAX_UNITS)
		return vio_err_set(err, -EPROTO, "vio-mailbox is of another version");
	return 0;
}

static const struct vio_mb_unit *mailbox_unit(const struct mailbox *m, unsigned i)
{
	return (const struct vio_mb_unit *)(const void *)((uint8_t *)m->head + VIO_MB_UNITS) + i;
}

/* A segment that has what this partition may know: itself and its units, at the places that their numbers say. */
static int mailbox_seg(struct mailbox *m, const char *partition, struct vio_err *err)
{
	uint64_t mem = le64toh(m->head->mem_bytes), page = le64toh(m->head->page_bytes);
	struct hv_seg *s =
		mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct hv_part *p;

	if (s == MAP_FAILED)
		return vio_err_set(err, -ENOMEM, "no memory for a partition's view");
	m->seg = s;
	if (mem == 0 || mem & (mem - 1) || mem > 1ull << 40 || page == 0 || page & (page - 1))
		return vio_err_set(
			err, -EINVAL,
			"the partition's memory is one LMB of %llu bytes: it must be a power of two here",
			(unsigned long long)mem);
	s->n_parts = 1;
	s->tick_hz = vio_measure_tick_hz(20000000);
	p = &s->part[0];
	snprintf(p->name, sizeof(p->name), "%s", partition);
	p->mem_bytes = mem;
	p->lmb_shift = (uint32_t)__builtin_ctzll(mem);
	p->n_lmbs = 1;
	p->backing = page;
	p->gen = p->active = 1;
	for (unsigned i = 0; i < PHYP_MAX_UNITS; i++)
		s->unit[i].part = HV_NONE;
	for (unsigned i = 0; i < le32toh(m->head->n_units); i++) {
		const struct vio_mb_unit *from = mailbox_unit(m, i);
		uint32_t at = le32toh(from->unit) - HV_UNIT_BASE;

		if (at >= PHYP_MAX_UNITS || !le32toh(from->client) ||
		    le32toh(from->liobn) != HV_LIOBN_BASE + at)
			return vio_err_set(
				err, -ENOTSUP,
				"unit 0x%x is a server's end: a server needs phypd's carrier",
				le32toh(from->unit));
		s->unit[at].part = 0;
		s->unit[at].local = i;
		s->unit[at].partner = HV_NONE;
		s->unit[at].page_shift = le32toh(from->page_shift);
		s->unit[at].base = le64toh(from->window);
		s->unit[at].bytes = le64toh(from->window_bytes);
		if (s->n_units <= at)
			s->n_units = at + 1;
	}
	return 0;
}

static int mailbox_view(struct mailbox *m, struct phyp_part **out, struct vio_err *err)
{
	struct phyp_part *part;
	int rc = hv_part_new(m->seg, 0, &m->memory, &hv_carrier_mailbox, &part, err);

	if (rc)
		return rc;
	part->at = m;
	for (unsigned i = 0; i < part->n_units; i++)
		snprintf(part->unit[i].info.partner, sizeof(part->unit[i].info.partner), "%.31s",
			 mailbox_unit(m, i)->partner);
	for (unsigned i = 0; i < HV_EVFDS && rc == 0; i++) {
		part->evfd[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		rc = part->evfd[i] < 0 ? -errno : 0;
	}
	if (rc == 0)
		rc = vio_thread_start(&m->agent, mailbox_agent, part);
	m->agent_runs = rc == 0;
	if (rc) {
		close_evfds(part);
		hv_part_free(part);
		return vio_err_set(err, rc, "no interrupts for the partition: %s", strerror(-rc));
	}
	*out = part;
	return 0;
}

/* place: vio-mailbox's socket and its link to the partition's memory, with a comma between. */
static int mailbox_open(const char *place, const char *partition, struct phyp_part **out,
			struct vio_err *err)
{
	const char *comma = strchr(place, ',');
	char path[PATH_MAX];
	struct mailbox *m;
	int rc = 0;

	if (!comma || comma - place >= PATH_MAX)
		return vio_err_set(
			err, -EINVAL,
			"mailbox:%s: must be mailbox:SOCKET,MEMORY, vio-mailbox's --socket and --ram-link",
			place);
	snprintf(path, sizeof(path), "%.*s", (int)(comma - place), place);
	m = calloc(1, sizeof(*m));
	if (!m)
		return vio_err_set(err, -ENOMEM, "no memory for a carrier");
	m->sock = m->bar = m->doorbell = m->interrupt = -1;
	m->stop = eventfd(0, EFD_CLOEXEC);
	m->memory = open(comma + 1, O_RDWR | O_CLOEXEC);
	if (m->stop < 0 || m->memory < 0)
		rc = vio_err_set(err, -errno, "the partition's memory, %s: %s", comma + 1,
				 strerror(errno));
	if (rc == 0)
		rc = mailbox_greet(m, path, err);
	if (rc == 0)
		rc = mailbox_map(m, err);
	if (rc == 0)
		rc = mailbox_seg(m, partition, err);
	if (rc == 0)
		rc = mailbox_anew(m, err);
	if (rc == 0)
		rc = mailbox_view(m, out, err);
	if (rc)
		mailbox_free(m);
	return rc;
}

const struct hv_carrier hv_carrier_mailbox = {
	.name = "mailbox",
	.open = mailbox_open,
	.elsewhere = true,
	.call = mailbox_call,
	.lmbs = mailbox_lmbs,
	.stats = mailbox_stats,
	.ended = mailbox_ended,
	.close = mailbox_close,
};
