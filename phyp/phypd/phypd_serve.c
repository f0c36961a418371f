/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * phypd's loop: one thread, epoll, asleep unless a partition comes, goes or asks. A partition's
 * death is the end of its connection, or of its process when a child that it forked keeps the
 * connection open.
 */
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

#include "phyp/core/machine.h"
#include "phyp/phypd/phypd_priv.h"
#include "phyp/carrier/wire.h"
#include "vio/cycles.h"

/* Connections that are no partition, not yet or no more: so many at most, and GREETING_NS each. */
#define MAX_STRANGERS 8
/* The watchdog's naps of 1 s in which one and the same event may be worked on. */
#define WATCHDOG_NAPS 20

static int watch(struct phypd *d, int fd, uint64_t tag)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = tag};

	return epoll_ctl(d->ep, EPOLL_CTL_ADD, fd, &e) ? -errno : 0;
}

/* Tags: connections are 2 * i (socket) and 2 * i + 1 (process). */
enum { TAG_LISTEN = 1000, TAG_TIMER, TAG_SIGNAL };

static void drop(struct phypd *d, struct conn *c)
{
	phypd_end_partition(d, c, false);
	close(c->fd);
	if (c->pidfd >= 0) {
		/* A partner may have it too, and then closing it does not end our watch. */
		epoll_ctl(d->ep, EPOLL_CTL_DEL, c->pidfd, NULL);
		close(c->pidfd);
	}
	c->fd = c->pidfd = -1;
}

static void on_timer(struct phypd *d)
{
	uint64_t n, now = vio_now_ns();

	if (read(d->timer, &n, sizeof(n)) < 0)
		return;
	phypd_deaths_due(d, now);
	for (unsigned i = 0; i < MAX_CONNS; i++) {
		if (d->conn[i].fd >= 0 && d->conn[i].greet_by && d->conn[i].greet_by <= now)
			drop(d, &d->conn[i]);
	}
	phypd_arm_timer(d);
}

/* ------------------------------------------------------------------------------- requests ---- */

static void on_conn(struct phypd *d, struct conn *c)
{
	struct wire_req req;
	ssize_t n = wire_recv(c->fd, &req, sizeof(req), NULL, NULL, MSG_DONTWAIT);

	if (n == -EAGAIN)
		return;
	if (n != (ssize_t)sizeof(req) || phypd_answer(d, c, &req))
		drop(d, c);
}

static void on_listen(struct phypd *d)
{
	int fd = accept4(d->listen, NULL, NULL, SOCK_CLOEXEC), rc;
	struct ucred cred = {.pid = -1, .uid = (uid_t)-1};
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
				   .uid = cred.uid,
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
	phypd_arm_timer(d);
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

/* For phypd's user only, unless the profile names others: these are told apart when they greet. */
static mode_t socket_mode(const struct phyp_profile *p)
{
	for (unsigned i = 0; i < p->n_parts; i++) {
		if (p->part[i].owned && p->part[i].uid != geteuid())
			return 0666;
	}
	return 0600;
}

static int open_socket(struct phypd *d, struct vio_err *err)
{
	const char *path = d->cfg->socket;
	struct sockaddr_un sa;
	struct stat st;
	mode_t old;
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
	/* No moment in which it is anybody else's: by the umask, not by a chmod() after. */
	old = umask(0777 & ~socket_mode(&d->cfg->profile));
	rc = d->listen < 0 || bind(d->listen, (const struct sockaddr *)&sa, sizeof(sa)) ? -errno
											: 0;
	umask(old);
	if (rc)
		return vio_err_set(err, rc, "%s: cannot make the control socket: %s", path,
				   strerror(-rc));
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
	if (rc == 0)
		rc = vio_sandbox_enter(&cfg->sandbox,
				       VIO_NEED_OPEN | VIO_NEED_MEMORY | VIO_NEED_WATCH, err);
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
