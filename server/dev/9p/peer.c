/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/dev/9p/peer.h"
#include "vio/thread.h"

/* ------------------------------------------------------------------------- the lcore ---- */

void vio_9p_peer_session(struct vio_9p_peer *p, bool connect)
{
	vio_store_release(&p->want, ((p->want >> 1) + 1) << 1 | connect); /* pair SE */
	vio_bell_ring(&p->bell);
}

enum vio_9p_session vio_9p_peer_look(struct vio_9p_peer *p)
{
	const uint32_t state = vio_load_acquire(&p->state); /* pair SE */

	if (state >> 1 != p->want >> 1)
		return VIO_9P_CHANGING;
	if (p->seen != state >> 1) {
		p->seen = state >> 1;
		vio_bytes_done_reading(&p->in, p->in_from - p->in.got);
	}
	return state & 1 ? VIO_9P_UP : VIO_9P_DOWN;
}

/* ------------------------------------------------------------------------ the thread ---- */

/* The guest may have chains for what has changed. */
static void peer_wake(struct vio_9p_peer *p)
{
	struct phyp_vcpu *v = vio_load_acquire(&p->vcpu); /* pair L */

	if (v)
		phyp_vcpu_prod(v);
}

static void peer_hang_up(struct vio_9p_peer *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
	p->deaf = false;
	vio_store_relaxed(&p->connected, false);
}

/* The server has gone, or can't be talked with. */
static void peer_lost(struct vio_9p_peer *p)
{
	peer_hang_up(p);
	vio_counter_add(&p->losses, 1);
	vio_store_release(&p->state, p->state & ~1u); /* pair SE: what it said, before its end */
	peer_wake(p);
}

/* A descriptor that never waits, or -1. */
static int peer_connect(const char *path)
{
	const struct timeval most = {.tv_sec = VIO_9P_CONNECT_MS / 1000,
				     .tv_usec = VIO_9P_CONNECT_MS % 1000 * 1000};
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	strcpy(to.sun_path, path);
	/* A UNIX socket's connect() waits while the other end's queue is full. */
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof(most)) == 0 &&
	    connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* As the lcore wants it. */
static void peer_change(struct vio_9p_peer *p, uint32_t want)
{
	peer_hang_up(p);
	vio_bytes_done_reading(&p->out, vio_bytes_ready(&p->out));
	p->in_from = p->in.put;
	if (want & 1) {
		p->fd = peer_connect(p->path);
		vio_counter_add(p->fd >= 0 ? &p->connections : &p->refused, 1);
		vio_store_relaxed(&p->connected, p->fd >= 0);
	}
	vio_store_release(&p->state, (want & ~1u) | (p->fd >= 0)); /* pair SE */
	peer_wake(p);
}

/* send() or recv() would have to wait. */
static bool peer_later(ssize_t n)
{
	return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

static void peer_in(struct vio_9p_peer *p)
{
	uint32_t room;
	uint8_t *to = vio_bytes_free(&p->in, &room);
	ssize_t n = recv(p->fd, to, room, MSG_DONTWAIT);

	if (n <= 0) {
		if (!peer_later(n))
			peer_lost(p);
		return;
	}
	vio_bytes_done_writing(&p->in, (uint32_t)n);
	vio_counter_add(&p->bytes_in, (uint64_t)n);
	peer_wake(p);
}

static void peer_out(struct vio_9p_peer *p)
{
	uint32_t there;
	const uint8_t *from = vio_bytes_next(&p->out, &there);
	ssize_t n = send(p->fd, from, there, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n <= 0) {
		p->deaf = !peer_later(n);
		return;
	}
	vio_bytes_done_reading(&p->out, (uint32_t)n);
	vio_counter_add(&p->bytes_out, (uint64_t)n);
	peer_wake(p);
}

static void peer_turn(struct vio_9p_peer *p)
{
	struct pollfd f[2] = {{.fd = p->bell.fd, .events = POLLIN}, {.fd = -1}};
	uint32_t want;
	int wait = -1;

	vio_bell_listen(&p->bell);
	want = vio_load_acquire(&p->want); /* pair SE */
	if (p->fd >= 0) {
		f[1].events = (short)((vio_bytes_room(&p->in) > 0 ? POLLIN : 0) |
				      (vio_bytes_ready(&p->out) > 0 && !p->deaf ? POLLOUT : 0));
		/* Nothing can be done with it now: its end, of which poll would tell again and again, can wait. */
		f[1].fd = f[1].events ? p->fd : -1;
	}
	if (vio_load_relaxed(&p->stop) || want >> 1 != p->state >> 1)
		wait = 0;
	poll(f, 2, wait);
	vio_bell_awake(&p->bell);
	if (want >> 1 != p->state >> 1) {
		peer_change(p, want);
		return;
	}
	if (f[1].revents & POLLOUT)
		peer_out(p);
	if (f[1].revents & (POLLIN | POLLHUP | POLLERR) && vio_bytes_room(&p->in) > 0)
		peer_in(p);
}

static void *peer_main(void *arg)
{
	struct vio_9p_peer *p = arg;

	while (!vio_load_relaxed(&p->stop))
		peer_turn(p);
	return NULL;
}

/* ------------------------------------------------------------------------------ life ---- */

int vio_9p_peer_open(struct vio_9p_peer *p, const char *path, struct vio_err *err)
{
	int rc;

	p->fd = p->bell.fd = -1;
	if (strlen(path) >= sizeof(p->path))
		return vio_err_set(err, -ENAMETOOLONG,
				   "%s: a socket's path has at most %zu characters", path,
				   sizeof(p->path) - 1);
	strcpy(p->path, path);
	if (vio_bytes_open(&p->in, VIO_9P_RING) || vio_bytes_open(&p->out, VIO_9P_RING) ||
	    vio_bell_open(&p->bell)) {
		vio_9p_peer_close(p);
		return vio_err_set(err, -ENOMEM, "no memory for messages");
	}
	rc = vio_thread_start(&p->thread, peer_main, p);
	p->running = rc == 0;
	if (rc) {
		vio_9p_peer_close(p);
		return vio_err_set(err, rc, "its thread can't be started: %s", strerror(-rc));
	}
	return 0;
}

void vio_9p_peer_close(struct vio_9p_peer *p)
{
	if (p->running) {
		vio_store_relaxed(&p->stop, true);
		vio_bell_ring(&p->bell);
		pthread_join(p->thread, NULL);
	}
	peer_hang_up(p);
	vio_bell_close(&p->bell);
	vio_bytes_close(&p->in);
	vio_bytes_close(&p->out);
}
