/* SPDX-License-Identifier: BSD-3-Clause */
/* A partition in its own process: the connection to phypd, and the agent thread. */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <numa.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "phyp/carrier/carrier.h"
#include "phyp/carrier/wire.h"
#include "phyp/core/hcall.h"
#include "vio/thread.h"

/* Of 20 ms each. Counted, not timed: a program that stood still meanwhile has not waited. */
#define DIAL_NAPS 100
/* A sweep that a partner's lock stood in the way of is done again after this. */
#define AGAIN_MS 10

/* phypd answers at once or not at all. */
#define ANSWER_SECONDS 10

struct hv_client {
	int sock;
	pthread_mutex_t lock; /* one request at a time */
	uint32_t id;          /* of the last request */
	struct hv_seg *seg;
	int evfd[PHYP_MAX_PARTS][HV_EVFDS]; /* own and partners' */
	int pidfd[PHYP_MAX_PARTS];          /* partners', as last seen, or -1; under lock */
	uint32_t pid_gen[PHYP_MAX_PARTS];
	pthread_t agent;
	bool agent_runs;
	uint32_t stop;
};

/*
 * One request, one reply of at least a struct wire_rep. fd, n_fds: as wire_recv(). 0, what phypd
 * answered, -ETIMEDOUT (it stands still; it may do what it was asked for later), or -EPIPE.
 */
static int request(struct hv_client *c, struct wire_req *req, void *rep, size_t len, int *fd,
		   unsigned *n_fds)
{
	const struct wire_rep *r = rep;
	const unsigned room = n_fds ? *n_fds : 0;
	ssize_t n = -EPIPE;

	pthread_mutex_lock(&c->lock);
	req->id = ++c->id;
	if (wire_send(c->sock, req, sizeof(*req), NULL, 0, 0) == 0) {
		do { /* answers that came too late for an earlier request are passed over */
			for (unsigned i = 0; n > 0 && n_fds && i < *n_fds; i++)
				close(fd[i]);
			if (n_fds)
				*n_fds = room;
			n = wire_recv(c->sock, rep, len, fd, n_fds, 0);
		} while (n >= (ssize_t)sizeof(*r) && r->id != req->id);
	}
	pthread_mutex_unlock(&c->lock);
	if (n == -EAGAIN)
		return -ETIMEDOUT;
	if (n < (ssize_t)sizeof(*r))
		return -EPIPE;
	return r->rc;
}

static int get_lmbs(struct hv_client *c, uint32_t p, uint32_t *gen, int fd[PHYP_MAX_LMBS],
		    unsigned *n)
{
	struct wire_req req = {.version = WIRE_VERSION, .op = WIRE_LMBS, .part = p};
	int rc;

	*n = 0;
	do {
		struct wire_rep rep = {0};
		unsigned got = WIRE_FDS < PHYP_MAX_LMBS - *n ? WIRE_FDS : PHYP_MAX_LMBS - *n;

		req.first = *n;
		rc = request(c, &req, &rep, sizeof(rep), fd + *n, &got);
		if (rc == 0 && (got == 0 || (*n > 0 && rep.gen != *gen)))
			rc = -ESTALE; /* it died between two messages */
		*n += got;
		*gen = rep.gen;
		if (rc == 0 && *n == rep.total)
			return 0;
	} while (rc == 0 && *n < PHYP_MAX_LMBS);
	while (*n > 0)
		close(fd[--*n]);
	return rc ? rc : -EPROTO;
}

static int get_evfds(struct hv_client *c, uint32_t p)
{
	struct wire_req req = {.version = WIRE_VERSION, .op = WIRE_EVFDS, .part = p};
	struct wire_rep rep = {0};
	unsigned n = HV_EVFDS;
	int rc = request(c, &req, &rep, sizeof(rep), c->evfd[p], &n);

	return rc ? rc : n == HV_EVFDS ? 0 : -EPROTO;
}

/* ------------------------------------------------------------------------------- the agent ---- */

static void *agent(void *arg)
{
	struct phyp_part *part = arg;
	struct hv_client *c = part->at;
	/* The thread that makes requests reads the socket; here only its end matters. */
	struct pollfd p[2] = {{.fd = c->sock, .events = POLLRDHUP},
			      {.fd = part->evfd[HV_AGENT], .events = POLLIN}};

	bool again = false;

	while (!vio_load_acquire(&c->stop)) {
		uint64_t n;
		int got = poll(p, 2, again ? AGAIN_MS : -1);

		if (got < 0)
			continue;
		if (got == 0)
			again = hv_agent_sweep(part) != 0;
		if (p[0].revents) {
			hv_part_lost(part);
			p[0].fd = -1;
		}
		if (p[1].revents && read(p[1].fd, &n, sizeof(n)) > 0)
			again = hv_agent_sweep(part) != 0;
	}
	return NULL;
}

static int agent_start(struct phyp_part *part)
{
	struct hv_client *c = part->at;
	int rc = vio_thread_start(&c->agent, agent, part);

	c->agent_runs = rc == 0;
	return rc;
}

static void agent_stop(struct phyp_part *part)
{
	struct hv_client *c = part->at;

	if (!c->agent_runs)
		return;
	vio_store_release(&c->stop, 1u);
	hv_ring(part->evfd[HV_AGENT]);
	pthread_join(c->agent, NULL);
}

/* --------------------------------------------------------------------------- control plane ---- */

/* Know the process of the partner, so that its end can be seen without phypd. */
static void learn_process(struct hv_client *c, uint32_t p, uint32_t gen)
{
	struct wire_req req = {.version = WIRE_VERSION, .op = WIRE_PIDFD, .part = p};
	struct wire_rep rep = {0};
	unsigned n = 1;
	int fd = -1;

	if (request(c, &req, &rep, sizeof(rep), &fd, &n) || n != 1)
		return;
	pthread_mutex_lock(&c->lock);
	if (c->pid_gen[p] < gen && rep.gen == gen) {
		if (c->pidfd[p] >= 0)
			close(c->pidfd[p]);
		c->pidfd[p] = fd;
		c->pid_gen[p] = gen;
		fd = -1;
	}
	pthread_mutex_unlock(&c->lock);
	if (fd >= 0)
		close(fd);
}

static int remote_lmbs(struct phyp_part *part, uint32_t p, uint32_t *gen, int fd[PHYP_MAX_LMBS],
		       unsigned *n)
{
	int rc = get_lmbs(part->at, p, gen, fd, n);

	if (rc == 0 && p != part->idx)
		learn_process(part->at, p, *gen);
	return rc;
}

/* A process's requests in the kernel are ended before its descriptors are closed and its end is told. */
static bool remote_ended(struct phyp_part *part, uint32_t p)
{
	struct hv_client *c = part->at;
	struct pollfd f;

	if (p == HV_NONE)
		return true;
	pthread_mutex_lock(&c->lock);
	f = (struct pollfd){.fd = c->pidfd[p], .events = POLLIN};
	pthread_mutex_unlock(&c->lock);
	return f.fd < 0 || poll(&f, 1, 0) > 0;
}

static void remote_poke(struct phyp_part *part, uint32_t sharer)
{
	hv_ring(sharer == part->idx ? part->evfd[HV_AGENT] : part->peer[sharer]->evfd[HV_AGENT]);
}

static int remote_stats(struct phyp_part *part, struct phyp_part_stats *stats, unsigned *n,
			struct vio_err *err)
{
	struct wire_req req = {.version = WIRE_VERSION, .op = WIRE_STATS};
	struct wire_stats rep;
	int rc = request(part->at, &req, &rep, sizeof(rep), NULL, NULL);

	if (rc)
		return vio_err_set(err, rc, "counters of the machine: phypd does not answer");
	if (*n > rep.n)
		*n = rep.n;
	memcpy(stats, rep.part, *n * sizeof(*stats));
	return 0;
}

static void client_free(struct hv_client *c)
{
	for (unsigned p = 0; p < PHYP_MAX_PARTS; p++) {
		for (unsigned i = 0; i < HV_EVFDS; i++) {
			if (c->evfd[p][i] >= 0)
				close(c->evfd[p][i]);
		}
	}
	for (unsigned p = 0; p < PHYP_MAX_PARTS; p++) {
		if (c->pidfd[p] >= 0)
			close(c->pidfd[p]);
	}
	if (c->sock >= 0)
		close(c->sock);
	if (c->seg)
		hv_seg_unmap(c->seg);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static void remote_close(struct phyp_part *part)
{
	struct wire_req bye = {.version = WIRE_VERSION, .op = WIRE_BYE};
	struct hv_client *c = part->at;
	struct wire_rep rep = {0};

	agent_stop(part);
	/*
	 * phypd closes the CRQs, tells the partners, takes the grants back; the answer says that
	 * this is done.
	 */
	if (phyp_alive(part))
		request(c, &bye, &rep, sizeof(rep), NULL, NULL);
	hv_part_free(part);
	client_free(c);
}

/* ---------------------------------------------------------------------------------- connect ---- */

/* 0, or -errno of the last attempt: a phypd that was started a moment ago may not listen yet. */
static int dial_patiently(int sock, const struct sockaddr_un *sa)
{
	const struct timespec nap = {.tv_nsec = 20 * 1000 * 1000};

	for (unsigned i = 0; connect(sock, (const struct sockaddr *)sa, sizeof(*sa)); i++) {
		if (i == DIAL_NAPS || (errno != ENOENT && errno != ECONNREFUSED))
			return -errno;
		nanosleep(&nap, NULL);
	}
	return 0;
}

static int dial(const char *path, int *sock, struct vio_err *err)
{
	const struct timeval patience = {.tv_sec = ANSWER_SECONDS};
	struct sockaddr_un sa;
	int rc = wire_address(path, &sa, err), s;

	if (rc)
		return rc;
	s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (s < 0)
		return vio_err_set(err, -errno, "%s: %s", path, strerror(errno));
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	rc = dial_patiently(s, &sa);
	if (rc == -EACCES) {
		close(s);
		return vio_err_set(
			err, rc,
			"%s: no permission to write to phypd's socket: be the user who started phypd",
			path);
	}
	if (rc) {
		close(s);
		/* Not a socket at all: nobody listens there either. */
		return vio_err_set(err, rc, "no phypd at %s (%s): start one with phypd --socket %s",
				   path, strerror(-rc), path);
	}
	*sock = s;
	return 0;
}

static int hello(struct hv_client *c, const char *partition, uint32_t *part, struct vio_err *err)
{
	struct wire_req req = {.version = WIRE_VERSION, .op = WIRE_HELLO, .node = -1};
	struct wire_rep rep = {0};
	int fd = -1, rc, cpu = sched_getcpu();
	unsigned n = 1;

	if (strlen(partition) >= sizeof(req.name))
		return vio_err_set(err, -ESRCH,
				   "partition '%s': the name is longer than %zu characters",
				   partition, sizeof(req.name) - 1);
	memcpy(req.name, partition, strlen(partition) + 1);
	if (cpu >= 0 && numa_available() >= 0)
		req.node = numa_node_of_cpu(cpu);
	rc = request(c, &req, &rep, sizeof(rep), &fd, &n);
	if (rc == -ETIMEDOUT)
		return vio_err_set(
			err, rc,
			"phypd has not answered for %u s: is it stopped, or under a debugger?",
			ANSWER_SECONDS);
	if (rc == -EPIPE)
		return vio_err_set(
			err, -ECONNREFUSED,
			"phypd closed the connection at once: it is ending, or of another kind");
	if (rc == 0 && n != 1)
		rc = vio_err_set(err, -EPROTO, "phypd sent no hypervisor segment");
	else if (rc)
		vio_err_set(err, rc, "%s", rep.msg);
	if (rc == 0)
		rc = hv_seg_map(fd, &c->seg, err);
	if (fd >= 0)
		close(fd);
	*part = rep.part;
	return rc;
}

static bool is_partner(const struct hv_seg *seg, uint32_t a, uint32_t b)
{
	for (uint32_t i = 0; i < seg->n_units; i++) {
		const struct hv_unit *u = &seg->unit[i];

		if (u->part == a && u->partner != HV_NONE && seg->unit[u->partner].part == b)
			return true;
	}
	return false;
}

/* Memory and eventfds, then the view. */
static int attach(struct hv_client *c, uint32_t idx, struct phyp_part **out, struct vio_err *err)
{
	int fd[PHYP_MAX_LMBS], rc;
	unsigned n;
	uint32_t gen;

	rc = get_lmbs(c, idx, &gen, fd, &n);
	if (rc)
		return vio_err_set(err, rc, "partition %s: phypd did not hand out its memory (%s)",
				   c->seg->part[idx].name, strerror(-rc));
	for (uint32_t p = 0; p < c->seg->n_parts && rc == 0; p++) {
		if (p == idx || is_partner(c->seg, idx, p))
			rc = get_evfds(c, p);
	}
	if (rc)
		vio_err_set(err, rc, "partition %s: phypd did not hand out its interrupts",
			    c->seg->part[idx].name);
	else
		rc = hv_part_new(c->seg, idx, fd, &hv_carrier_phypd, out, err);
	while (n > 0)
		close(fd[--n]);
	if (rc)
		return rc;
	(*out)->at = c;
	for (uint32_t p = 0; p < c->seg->n_parts; p++)
		hv_part_set_evfds(*out, p, c->evfd[p]);
	rc = agent_start(*out);
	if (rc) {
		hv_part_free(*out);
		return vio_err_set(err, rc, "partition %s: no thread for the hypervisor's agent",
				   c->seg->part[idx].name);
	}
	return 0;
}

static int remote_open(const char *socket_path, const char *partition, struct phyp_part **out,
		       struct vio_err *err)
{
	struct hv_client *c = calloc(1, sizeof(*c));
	uint32_t idx;
	int rc;

	if (!c)
		return vio_err_set(err, -ENOMEM, "no memory for a connection to phypd");
	c->sock = -1;
	memset(c->evfd, -1, sizeof(c->evfd));
	memset(c->pidfd, -1, sizeof(c->pidfd));
	pthread_mutex_init(&c->lock, NULL);
	rc = dial(socket_path, &c->sock, err);
	if (rc == 0)
		rc = hello(c, partition, &idx, err);
	if (rc == 0)
		rc = attach(c, idx, out, err);
	if (rc)
		client_free(c); /* phypd sees the connection's end and takes the partition back */
	return rc;
}

const struct hv_carrier hv_carrier_phypd = {
	.name = "phypd",
	.open = remote_open,
	.call = hv_dispatch,
	.lmbs = remote_lmbs,
	.poke = remote_poke,
	.stats = remote_stats,
	.ended = remote_ended,
	.close = remote_close,
};
