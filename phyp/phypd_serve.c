/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * phypd's loop: one thread, epoll, asleep unless a partition comes, goes or asks. A partition's
 * death is the end of its connection, or of its process when a child that it forked keeps the
 * connection open.
 */
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "phyp/phypd.h"
#include "phyp/wire.h"
#include "vio/cycles.h"

#define MAX_CONNS 64
/* Connections that have not greeted yet: so many at most, and so long each. */
#define MAX_STRANGERS 8
#define GREETING_NS   5000000000ull
/* A queue that could not be closed, because a partner that is perhaps stopped holds a lock: try again after this. */
#define LATE_NS 10000000ull
/* The watchdog's naps of 1 s in which one and the same event may be worked on. */
#define WATCHDOG_NAPS 20
/* LoPAR: the platform waits at least this long between the transport event and the forced rescind. */
#define GRACE_NS 2000000000ull

struct conn {
	int fd; /* -1: free */
	int pidfd;
	pid_t pid;
	uint32_t part;     /* HV_NONE before the greeting */
	uint64_t greet_by; /* 0: has greeted */
};

/* A queue that is still to be closed for a partition that ended. */
struct late {
	bool due;
	uint8_t event;
	uint32_t gen;
};

/* The grants of a partition that is no more, taken back by force when its time comes. */
struct grace {
	uint64_t at; /* 0: free */
	uint32_t part, gen;
};

struct phypd {
	const struct phypd_cfg *cfg;
	struct phyp_machine *m;
	int ep, listen, timer, signal;
	bool bound;
	struct conn conn[MAX_CONNS];
	struct grace grace[MAX_CONNS];
	struct late late[PHYP_MAX_UNITS];
	uint32_t turn; /* the watchdog's: odd while an event is worked on */
	sem_t end;     /* ends the watchdog */
	pthread_t watchdog;
	bool watched;
};

static int watch(struct phypd *d, int fd, uint64_t tag)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = tag};

	return epoll_ctl(d->ep, EPOLL_CTL_ADD, fd, &e) ? -errno : 0;
}

/* Tags: connections are 2 * i (socket) and 2 * i + 1 (process). */
enum { TAG_LISTEN = 1000, TAG_TIMER, TAG_SIGNAL };

static void poke(struct phypd *d, uint32_t parts)
{
	const uint64_t one = 1;

	for (uint32_t p = 0; p < d->m->seg->n_parts; p++) {
		/* An eventfd that is full wakes as well. */
		if (parts & 1u << p && write(d->m->evfd[p][HV_AGENT], &one, sizeof(one)) < 0 &&
		    errno != EAGAIN)
			fprintf(stderr, "phypd: agent of partition %s: %s\n",
				d->m->seg->part[p].name, strerror(errno));
	}
}

/* -------------------------------------------------------------------------------- deaths ---- */

static void arm_timer(struct phypd *d)
{
	uint64_t first = UINT64_MAX, now = vio_now_ns(), left;
	struct itimerspec t = {0};

	for (unsigned i = 0; i < MAX_CONNS; i++) {
		if (d->grace[i].at && d->grace[i].at < first)
			first = d->grace[i].at;
		if (d->conn[i].fd >= 0 && d->conn[i].greet_by && d->conn[i].greet_by < first)
			first = d->conn[i].greet_by;
	}
	for (unsigned i = 0; i < PHYP_MAX_UNITS; i++) {
		if (d->late[i].due && now + LATE_NS < first)
			first = now + LATE_NS;
	}
	if (first != UINT64_MAX) {
		left = first > now ? first - now : 1;
		t.it_value = (struct timespec){(time_t)(left / 1000000000ull),
					       (long)(left % 1000000000ull)};
	}
	timerfd_settime(d->timer, 0, &t, NULL);
}

static void take_back(struct phypd *d, struct grace *g)
{
	uint32_t sharers = hv_grants_force(d->m->seg, g->part, g->gen);

	if (sharers && d->cfg->trace)
		fprintf(stderr, "phypd: grants of partition %s are taken back by force\n",
			d->m->seg->part[g->part].name);
	g->at = 0;
	poke(d, sharers);
}

/* Queues that could not be closed when their partition ended. */
static void close_late(struct phypd *d)
{
	for (uint32_t i = 0; i < PHYP_MAX_UNITS; i++) {
		struct late *l = &d->late[i];

		if (l->due && hv_machine_close(d->m, i, l->gen, l->event) == 0)
			l->due = false;
	}
}

static void drop(struct phypd *d, struct conn *c);

static void on_timer(struct phypd *d)
{
	uint64_t n, now = vio_now_ns();

	if (read(d->timer, &n, sizeof(n)) < 0)
		return;
	for (unsigned i = 0; i < MAX_CONNS; i++) {
		if (d->grace[i].at && d->grace[i].at <= now)
			take_back(d, &d->grace[i]);
		if (d->conn[i].fd >= 0 && d->conn[i].greet_by && d->conn[i].greet_by <= now)
			drop(d, &d->conn[i]);
	}
	close_late(d);
	arm_timer(d);
}

static void start_grace(struct phypd *d, uint32_t part, uint32_t gen)
{
	struct grace *g = &d->grace[0];

	for (unsigned i = 0; i < MAX_CONNS && g->at; i++) {
		/* All taken (a partition that dies 64 times in two seconds): the oldest makes room. */
		if (!d->grace[i].at || d->grace[i].at < g->at)
			g = &d->grace[i];
	}
	if (g->at)
		take_back(d, g);
	*g = (struct grace){vio_now_ns() + GRACE_NS, part, gen};
	arm_timer(d);
}

/* The partition behind a connection is no more; the connection stays. */
static void end_partition(struct phypd *d, struct conn *c, bool orderly)
{
	const uint8_t event = orderly ? CRQ_XPORT_PARTNER_DEREGISTERED : CRQ_XPORT_PARTNER_FAILED;
	uint32_t p = c->part, gen;
	uint64_t late;

	if (p == HV_NONE)
		return;
	c->part = HV_NONE;
	gen = d->m->seg->part[p].active;
	poke(d, hv_machine_deactivate(d->m, p, event, &late));
	for (; late; late &= late - 1)
		d->late[__builtin_ctzll(late)] = (struct late){true, event, gen};
	start_grace(d, p, gen);
	if (!orderly)
		fprintf(stderr,
			"phypd: partition %s (pid %d) has gone; its queues are closed, its partners told, its grants are taken back in 2 s\n",
			d->m->seg->part[p].name, (int)c->pid);
	else if (d->cfg->trace)
		fprintf(stderr, "phypd: partition %s (pid %d) closed\n", d->m->seg->part[p].name,
			(int)c->pid);
}

static void drop(struct phypd *d, struct conn *c)
{
	end_partition(d, c, false);
	close(c->fd);
	if (c->pidfd >= 0) {
		/* A partner may have it too, and then closing it does not end our watch. */
		epoll_ctl(d->ep, EPOLL_CTL_DEL, c->pidfd, NULL);
		close(c->pidfd);
	}
	c->fd = c->pidfd = -1;
}

/* ------------------------------------------------------------------------------- requests ---- */

static int no_such(const struct hv_seg *s, const char *name, struct vio_err *err)
{
	char names[160] = "";
	size_t n = 0;

	for (uint32_t p = 0; p < s->n_parts && n < sizeof(names); p++)
		n += (size_t)snprintf(names + n, sizeof(names) - n, "%s%s", p ? ", " : "",
				      s->part[p].name);
	return vio_err_set(err, -ESRCH,
			   "there is no partition %s in phypd's profile; there are %s%s", name,
			   names, n < sizeof(names) ? "" : " ...");
}

/* The process that is partition p; 0 for none. */
static int owner(const struct phypd *d, uint32_t p)
{
	for (unsigned i = 0; i < MAX_CONNS; i++) {
		if (d->conn[i].fd >= 0 && d->conn[i].part == p)
			return (int)d->conn[i].pid;
	}
	return 0;
}

static void on_hello(struct phypd *d, struct conn *c, struct wire_req *req, struct wire_rep *rep)
{
	struct vio_err err = {{0}};
	int p;

	req->name[PHYP_NAME_LEN - 1] = 0;
	p = hv_machine_find(d->m, req->name);
	if (req->version != WIRE_VERSION)
		rep->rc = vio_err_set(&err, -EPROTO,
				      "phypd speaks version %u of its protocol, the program %u",
				      WIRE_VERSION, req->version);
	else if (c->part != HV_NONE)
		rep->rc = vio_err_set(&err, -EINVAL, "the connection has a partition already");
	else if (p < 0)
		rep->rc = no_such(d->m->seg, req->name, &err);
	else if (d->m->seg->part[p].active)
		rep->rc = vio_err_set(
			&err, -EBUSY,
			"partition %s is in use by a live process (pid %d): end it, or be another partition",
			req->name, owner(d, (uint32_t)p));
	else
		rep->rc = hv_machine_activate(d->m, (uint32_t)p, req->node, &err);
	memcpy(rep->msg, err.msg, sizeof(rep->msg));
	if (rep->rc)
		return;
	c->greet_by = 0;
	c->part = rep->part = (uint32_t)p;
	rep->gen = d->m->seg->part[p].active;
	if (d->cfg->trace)
		fprintf(stderr, "phypd: partition %s is active in pid %d, pages of %llu KiB\n",
			req->name, (int)c->pid,
			(unsigned long long)(d->m->seg->part[p].backing >> 10));
}

/* May the connection's partition have descriptors of p? Its own and its partners'. */
static bool may_see(const struct phypd *d, const struct conn *c, uint32_t p)
{
	const struct hv_seg *s = d->m->seg;

	if (c->part == HV_NONE || p >= s->n_parts)
		return false;
	if (p == c->part)
		return true;
	for (uint32_t i = 0; i < s->n_units; i++) {
		if (s->unit[i].part == c->part && s->unit[i].partner != HV_NONE &&
		    s->unit[s->unit[i].partner].part == p)
			return true;
	}
	return false;
}

static unsigned on_lmbs(struct phypd *d, const struct conn *c, const struct wire_req *req,
			struct wire_rep *rep, int *fd)
{
	const struct hv_part *p = &d->m->seg->part[req->part < PHYP_MAX_PARTS ? req->part : 0];
	unsigned n = 0;

	rep->rc = !may_see(d, c, req->part) ? -EPERM
		  : p->active == 0          ? -ESRCH
		  : req->first >= p->n_lmbs ? -EINVAL
					    : 0;
	if (rep->rc)
		return 0;
	rep->gen = p->active;
	rep->total = p->n_lmbs;
	for (uint32_t i = req->first; i < p->n_lmbs && n < WIRE_FDS; i++)
		fd[n++] = d->m->lmb[req->part][i];
	return n;
}

static unsigned on_pidfd(struct phypd *d, const struct conn *c, const struct wire_req *req,
			 struct wire_rep *rep, int *fd)
{
	rep->rc = may_see(d, c, req->part) ? -ESRCH : -EPERM;
	for (unsigned i = 0; i < MAX_CONNS && rep->rc == -ESRCH; i++) {
		if (d->conn[i].fd < 0 || d->conn[i].part != req->part || d->conn[i].pidfd < 0)
			continue;
		rep->rc = 0;
		rep->gen = d->m->seg->part[req->part].active;
		*fd = d->conn[i].pidfd;
	}
	return rep->rc == 0;
}

static int reply_stats(struct phypd *d, const struct conn *c, uint32_t id)
{
	struct wire_stats s = {.rep = {.id = id}, .n = PHYP_MAX_PARTS};

	hv_stats(d->m->seg, s.part, &s.n);
	return wire_send(c->fd, &s, sizeof(s), NULL, 0, MSG_DONTWAIT);
}

/* 0, or the connection is to be dropped. */
static int answer(struct phypd *d, struct conn *c, struct wire_req *req)
{
	struct wire_rep rep = {.id = req->id};
	int fd[WIRE_FDS];
	unsigned n = 0;

	switch (req->op) {
	case WIRE_HELLO:
		on_hello(d, c, req, &rep);
		fd[0] = d->m->seg_fd;
		n = rep.rc == 0;
		break;
	case WIRE_LMBS:
		n = on_lmbs(d, c, req, &rep, fd);
		break;
	case WIRE_EVFDS:
		rep.rc = may_see(d, c, req->part) ? 0 : -EPERM;
		if (rep.rc == 0)
			memcpy(fd, d->m->evfd[req->part], sizeof(d->m->evfd[0]));
		n = rep.rc == 0 ? HV_EVFDS : 0;
		break;
	case WIRE_STATS:
		return c->part == HV_NONE ? -EPERM : reply_stats(d, c, req->id);
	case WIRE_PIDFD:
		n = on_pidfd(d, c, req, &rep, fd);
		break;
	case WIRE_BYE:
		end_partition(d, c, true);
		break;
	default:
		return -EINVAL;
	}
	/* A partition that does not read its replies is not waited for. */
	return wire_send(c->fd, &rep, sizeof(rep), fd, n, MSG_DONTWAIT);
}

static void on_conn(struct phypd *d, struct conn *c)
{
	struct wire_req req;
	ssize_t n = wire_recv(c->fd, &req, sizeof(req), NULL, NULL, MSG_DONTWAIT);

	if (n == -EAGAIN)
		return;
	if (n != (ssize_t)sizeof(req) || answer(d, c, &req))
		drop(d, c);
}

static void on_listen(struct phypd *d)
{
	int fd = accept4(d->listen, NULL, NULL, SOCK_CLOEXEC), rc;
	struct ucred cred = {.pid = -1};
	socklen_t len = sizeof(cred);
	unsigned i = 0, strangers = 0, oldest = 0;

	if (fd < 0)
		return;
	for (unsigned k = 0; k < MAX_CONNS; k++) {
		const struct conn *c = &d->conn[k];

		if (c->fd < 0 || !c->greet_by)
			continue;
		if (strangers++ == 0 || c->greet_by < d->conn[oldest].greet_by)
			oldest = k;
	}
	/* Who says nothing makes room for who may say something. */
	if (strangers >= MAX_STRANGERS)
		drop(d, &d->conn[oldest]);
	while (i < MAX_CONNS && d->conn[i].fd >= 0)
		i++;
	if (i == MAX_CONNS) {
		fprintf(stderr, "phypd: a connection was refused: there are %d already\n",
			MAX_CONNS);
		close(fd);
		return;
	}
	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	d->conn[i] = (struct conn){.fd = fd,
				   .pid = cred.pid,
				   .part = HV_NONE,
				   .pidfd = -1,
				   .greet_by = vio_now_ns() + GREETING_NS};
	if (cred.pid > 0)
		d->conn[i].pidfd = (int)syscall(SYS_pidfd_open, cred.pid, 0);
	rc = watch(d, fd, 2ull * i);
	if (rc == 0 && d->conn[i].pidfd >= 0)
		rc = watch(d, d->conn[i].pidfd, 2ull * i + 1);
	if (rc)
		drop(d, &d->conn[i]);
	arm_timer(d);
}

/* ------------------------------------------------------------------------------- watchdog ---- */

/*
 * Nothing that phypd does may wait for a partition. Should it happen all the same, an end that every
 * program notices is better than a machine without a control plane. Naps are counted, not time: a
 * phypd that is stopped is not hung.
 */
static void *watchdog(void *arg)
{
	struct phypd *d = arg;
	struct timespec nap;
	uint32_t seen = 0;
	unsigned naps = 0;

	do {
		uint32_t turn = vio_load_relaxed(&d->turn);

		naps = turn == seen && turn % 2 ? naps + 1 : 0;
		seen = turn;
		if (naps == WATCHDOG_NAPS) {
			fprintf(stderr,
				"phypd: one event has taken %u s, which none may; the machine ends here\n",
				WATCHDOG_NAPS);
			_exit(EXIT_FAILURE);
		}
		clock_gettime(CLOCK_MONOTONIC, &nap);
		nap.tv_sec++;
	} while (sem_clockwait(&d->end, CLOCK_MONOTONIC, &nap));
	return NULL;
}

/* --------------------------------------------------------------------------- start and end ---- */

/* Somebody answers at the address: a live phypd. */
static bool somebody_listens(const struct sockaddr_un *sa)
{
	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	bool yes = s >= 0 && connect(s, (const struct sockaddr *)sa, sizeof(*sa)) == 0;

	if (s >= 0)
		close(s);
	return yes;
}

static int open_socket(struct phypd *d, struct vio_err *err)
{
	const char *path = d->cfg->socket;
	struct sockaddr_un sa;
	struct stat st;
	int rc = wire_address(path, &sa, err);

	if (rc)
		return rc;
	if (lstat(path, &st) == 0) {
		if (!S_ISSOCK(st.st_mode))
			return vio_err_set(err, -EEXIST,
					   "%s exists and is not a socket; choose another --socket",
					   path);
		if (somebody_listens(&sa))
			return vio_err_set(
				err, -EADDRINUSE,
				"%s: another phypd serves this socket; choose another --socket",
				path);
		unlink(path); /* of a phypd that died */
	}
	d->listen = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (d->listen < 0 || bind(d->listen, (const struct sockaddr *)&sa, sizeof(sa)))
		return vio_err_set(err, -errno, "%s: cannot make the control socket: %s", path,
				   strerror(errno));
	d->bound = true;
	if (listen(d->listen, 16))
		return vio_err_set(err, -errno, "%s: %s", path, strerror(errno));
	return 0;
}

static int open_all(struct phypd *d, struct vio_err *err)
{
	struct rlimit files;
	sigset_t set;
	int rc;

	/* An LMB, an eventfd is a descriptor each. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	/* Before the socket appears: from then on nothing may leave it behind. */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	rc = hv_machine_create(&d->cfg->profile, &d->m, err);
	if (rc)
		return rc;
	d->signal = signalfd(-1, &set, SFD_CLOEXEC);
	d->ep = epoll_create1(EPOLL_CLOEXEC);
	d->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (d->signal < 0 || d->ep < 0 || d->timer < 0)
		return vio_err_set(err, -errno, "descriptors of the control loop: %s",
				   strerror(errno));
	rc = open_socket(d, err);
	if (rc)
		return rc;
	if (watch(d, d->listen, TAG_LISTEN) || watch(d, d->timer, TAG_TIMER) ||
	    watch(d, d->signal, TAG_SIGNAL))
		return vio_err_set(err, -errno, "control loop: %s", strerror(errno));
	sem_init(&d->end, 0, 0);
	d->watched = pthread_create(&d->watchdog, NULL, watchdog, d) == 0;
	return 0;
}

static void close_all(struct phypd *d)
{
	const int fd[] = {d->listen, d->timer, d->signal, d->ep};

	if (d->watched) {
		sem_post(&d->end);
		pthread_join(d->watchdog, NULL);
		sem_destroy(&d->end);
	}
	if (d->bound)
		unlink(d->cfg->socket);
	for (unsigned i = 0; i < MAX_CONNS; i++) {
		if (d->conn[i].fd >= 0)
			close(d->conn[i].fd);
		if (d->conn[i].pidfd >= 0)
			close(d->conn[i].pidfd);
	}
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(fd); i++) {
		if (fd[i] >= 0)
			close(fd[i]);
	}
	if (d->m)
		hv_machine_destroy(d->m);
}

/* false: end. */
static bool on_event(struct phypd *d, uint64_t tag)
{
	struct conn *c;

	switch (tag) {
	case TAG_LISTEN:
		on_listen(d);
		return true;
	case TAG_TIMER:
		on_timer(d);
		return true;
	case TAG_SIGNAL:
		return false;
	default:
		c = &d->conn[tag / 2];
		/* Dropped by an earlier event of the same turn. */
		if (c->fd < 0)
			return true;
		if (tag % 2)
			drop(d, c);
		else
			on_conn(d, c);
		return true;
	}
}

int phypd_run(const struct phypd_cfg *cfg, struct vio_err *err)
{
	struct phypd *d = calloc(1, sizeof(*d));
	bool go = true;
	int rc;

	if (!d)
		return vio_err_set(err, -ENOMEM, "no memory");
	d->cfg = cfg;
	d->ep = d->listen = d->timer = d->signal = -1;
	for (unsigned i = 0; i < MAX_CONNS; i++)
		d->conn[i].fd = d->conn[i].pidfd = -1;
	rc = open_all(d, err);
	if (rc == 0 && cfg->ready_fd >= 0 && write(cfg->ready_fd, "\n", 1) != 1)
		rc = vio_err_set(err, -EINVAL, "--ready-fd %d: cannot be written", cfg->ready_fd);
	while (rc == 0 && go) {
		/* One event a turn: what one does can end what the next is about. */
		struct epoll_event e;

		if (epoll_wait(d->ep, &e, 1, -1) == 1) {
			vio_store_relaxed(&d->turn, d->turn + 1);
			go = on_event(d, e.data.u64);
			vio_store_relaxed(&d->turn, d->turn + 1);
		}
	}
	close_all(d);
	free(d);
	return rc;
}
