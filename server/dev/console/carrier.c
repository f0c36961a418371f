/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/dev/console/carrier.h"
#include "vio/thread.h"

/* With nobody connected, so much is dropped at once, bytes. */
#define DROP (VIO_CONSOLE_RING / 8)
/* A terminal that nobody has open can't be waited for: it is looked at this often, ms. */
#define PTY_LOOK_MS 100

/* The guest may have chains for what has changed. */
static void wake_lcore(struct vio_carrier *c)
{
	struct phyp_vcpu *v = vio_load_acquire(&c->vcpu); /* pair L */

	if (v)
		phyp_vcpu_prod(v);
}

static void set_connected(struct vio_carrier *c, bool on)
{
	if (on && !c->connected)
		vio_counter_add(&c->connections, 1);
	vio_store_relaxed(&c->connected, on);
}

static void carrier_hang_up(struct vio_carrier *c)
{
	set_connected(c, false);
	c->deaf = false;
	if (c->pty)
		return; /* it stays, for the next one */
	close(c->client);
	c->client = -1;
}

/* read() or write() would have to wait: 0; the other end is gone: -1. */
static int soft_error(ssize_t n)
{
	return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) ? 0 : -1;
}

/* From the person to the guest. */
static void carry_in(struct vio_carrier *c)
{
	uint32_t room;
	uint8_t *to = vio_bytes_free(&c->in, &room);
	ssize_t n;

	if (room == 0)
		return;
	n = read(c->client, to, room);
	if (n <= 0) {
		if (soft_error(n) < 0)
			carrier_hang_up(c);
		return;
	}
	vio_bytes_done_writing(&c->in, (uint32_t)n);
	vio_counter_add(&c->bytes_in, (uint64_t)n);
	wake_lcore(c);
}

/* From the guest to the person. */
static void carry_out(struct vio_carrier *c)
{
	uint32_t there;
	const uint8_t *from = vio_bytes_next(&c->out, &there);
	ssize_t n;

	if (there == 0)
		return;
	n = c->pty ? write(c->client, from, there) : send(c->client, from, there, MSG_NOSIGNAL);
	if (n <= 0) {
		c->deaf = soft_error(n) < 0; /* what it has written before is still to be read */
		return;
	}
	vio_bytes_done_reading(&c->out, (uint32_t)n);
	vio_counter_add(&c->bytes_out, (uint64_t)n);
	wake_lcore(c);
}

/* Nobody looks: make room for what is newer. */
static void drop_oldest(struct vio_carrier *c)
{
	if (vio_bytes_room(&c->out) >= DROP)
		return;
	vio_bytes_done_reading(&c->out, DROP);
	vio_counter_add(&c->bytes_lost, DROP);
	wake_lcore(c);
}

static void carrier_meet(struct vio_carrier *c)
{
	static const char busy[] = "vios: somebody is connected to this console already\r\n";
	int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	if (c->client < 0) {
		c->client = fd;
		set_connected(c, true);
		return;
	}
	vio_counter_add(&c->refused, 1);
	(void)!send(fd, busy, sizeof(busy) - 1, MSG_NOSIGNAL);
	close(fd);
}

/* What the person's end may do now. */
static short client_events(const struct vio_carrier *c)
{
	return (short)((vio_bytes_room(&c->in) > 0 ? POLLIN : 0) |
		       (vio_bytes_ready(&c->out) > 0 && !c->deaf ? POLLOUT : 0));
}

/*
 * Has the one who is connected hung up, and only what he wrote before is still to be read? Then the next one is
 * not second.
 */
static bool is_leaving(const struct vio_carrier *c)
{
	struct pollfd p = {.fd = c->client, .events = POLLRDHUP};

	return c->connected && !c->pty && poll(&p, 1, 0) > 0 &&
	       p.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

/* A terminal without anybody is always ready, and says that it is hung up. */
static bool pty_is_open(const struct vio_carrier *c)
{
	struct pollfd p = {.fd = c->client, .events = POLLIN};

	return poll(&p, 1, 0) >= 0 && !(p.revents & POLLHUP);
}

static void carrier_turn(struct vio_carrier *c)
{
	struct pollfd p[3] = {{.fd = c->bell.fd, .events = POLLIN},
			      {.fd = c->listener, .events = POLLIN},
			      {.fd = -1}};
	int wait = -1;

	if (c->pty)
		set_connected(c, pty_is_open(c));
	if (is_leaving(c))
		p[1].fd = -1; /* he waits a little */
	vio_bell_listen(&c->bell);
	if (c->connected) {
		p[2].events = client_events(c);
		/* Nothing can be done for it now: its end, which poll would tell of again and again, can wait. */
		p[2].fd = p[2].events ? c->client : -1;
	} else {
		drop_oldest(c);
	}
	if (c->pty && !(p[2].events & POLLIN))
		wait = PTY_LOOK_MS;
	if (vio_load_relaxed(&c->stop))
		wait = 0;
	poll(p, 3, wait);
	vio_bell_awake(&c->bell);
	if (p[1].revents && !is_leaving(c))
		carrier_meet(c);
	if (p[2].revents & POLLOUT)
		carry_out(c);
	if (c->connected && p[2].revents & (POLLIN | POLLHUP | POLLERR))
		carry_in(c);
}

static void *carrier_main(void *arg)
{
	struct vio_carrier *c = arg;

	while (!vio_load_relaxed(&c->stop))
		carrier_turn(c);
	if (c->connected)
		carry_out(c); /* the last words, as far as they go */
	return NULL;
}

static int carrier_start(struct vio_carrier *c)
{
	int rc = vio_thread_start(&c->thread, carrier_main, c);

	c->running = rc == 0;
	return rc;
}

int vio_carrier_open(struct vio_carrier *c, const struct vio_carrier_cfg *cfg, struct vio_err *err)
{
	int rc = 0;

	c->pty = cfg->pty;
	c->listener = c->client = c->bell.fd = -1;
	if (vio_bytes_open(&c->in, VIO_CONSOLE_RING) || vio_bytes_open(&c->out, VIO_CONSOLE_RING) ||
	    vio_bell_open(&c->bell))
		rc = vio_err_set(err, -ENOMEM, "no memory for a console");
	if (rc == 0)
		rc = vio_carrier_endpoint(c, cfg->path, err);
	if (rc == 0) {
		rc = carrier_start(c);
		if (rc)
			vio_err_set(err, rc, "its thread can't be started: %s", strerror(-rc));
	}
	if (rc)
		vio_carrier_close(c);
	return rc;
}

void vio_carrier_close(struct vio_carrier *c)
{
	if (c->running) {
		vio_store_relaxed(&c->stop, true);
		vio_bell_ring(&c->bell);
		pthread_join(c->thread, NULL);
	}
	vio_carrier_endpoint_close(c);
	vio_bell_close(&c->bell);
	vio_bytes_close(&c->in);
	vio_bytes_close(&c->out);
}
