/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The thread that makes an NBD disk's connections. To find the address that belongs to a name, and to agree with a server on
 * TLS and options, may take seconds or for ever: no lcore has those. Queues ask, look from time to time
 * whether there is an answer, and may cease to care: then what comes of it is hung up.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "server/store/nbd.h"
#include "vio/atomics.h"
#include "vio/cycles.h"
#include "vio/thread.h"

/* A network that has gone silent ends a TCP connection after this long, ms. */
#define SILENCE_MS 30000

void vio_nbd_hang_up(struct nbd_handle *h)
{
	if (!h)
		return;
	nbd_aio_disconnect(h, 0); /* says goodbye if that needs no waiting */
	nbd_close(h);
}

/* A handle that has begun to connect. NULL: libnbd's error is set. Waits for the address of a name. */
static struct nbd_handle *begin_handle(const char *uri)
{
	struct nbd_handle *h = nbd_create();

	if (!h)
		return NULL;
	/* Reads go to the guest's memory; clearing it first would be a second pass over it. */
	if (nbd_set_pread_initialize(h, false) || nbd_set_uri_allow_local_file(h, true) ||
	    nbd_set_full_info(h, true) || nbd_aio_connect_uri(h, uri)) {
		nbd_close(h);
		return NULL;
	}
	return h;
}

static void watch_silence(struct nbd_handle *h)
{
	int fd = nbd_aio_get_fd(h), on = 1, ms = SILENCE_MS;

	/* Both fail on a UNIX socket, which has no silence. */
	if (fd >= 0 && setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms)) == 0)
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

static int connect_failed(const char *uri, const char *why, int rc, struct vio_err *err)
{
	return vio_err_set(err, rc ? -rc : -EIO, "backend nbd: cannot connect to %.120s: %.150s",
			   uri, why);
}

/* libnbd's last sentence and number, for this thread. */
static int libnbd_failed(const char *uri, struct vio_err *err)
{
	const char *why = nbd_get_error();

	return connect_failed(uri, why ? why : "unknown error", nbd_get_errno(), err);
}

int vio_nbd_connect(const char *uri, struct nbd_handle **out, struct vio_err *err)
{
	struct nbd_handle *h = begin_handle(uri);
	uint64_t end = vio_now_ns() + VIO_NBD_CONNECT_NS; /* when the name is resolved */
	int rc;

	*out = NULL;
	if (!h)
		return libnbd_failed(uri, err);
	while (nbd_aio_is_ready(h) <= 0) {
		uint64_t now = vio_now_ns();

		if (now >= end) {
			nbd_close(h);
			return connect_failed(uri, "no answer from the server", ETIMEDOUT, err);
		}
		if (nbd_poll(h, (int)((end - now) / 1000000 + 1)) < 0 || vio_nbd_gone(h)) {
			rc = libnbd_failed(uri, err);
			nbd_close(h);
			return rc;
		}
	}
	watch_silence(h);
	*out = h;
	return 0;
}

struct vio_nbd_dialer {
	pthread_t thread;
	pthread_mutex_t lock; /* held for moments only */
	pthread_cond_t more;
	struct vio_nbd_call *head, *tail; /* asked, not begun */
	struct vio_nbd_call *now;         /* under way, and somebody waits for it */
	bool busy;                        /* something is under way */
	bool ends;
	bool orphan; /* the thread is the last that knows it */
	char uri[VIO_NBD_URI];
};

static void dialer_free(struct vio_nbd_dialer *d)
{
	pthread_cond_destroy(&d->more);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

static void call_free(struct vio_nbd_call *c)
{
	vio_nbd_hang_up(c->h);
	free(c);
}

/* The next one, or NULL at the end. Locked. */
static struct vio_nbd_call *next_call(struct vio_nbd_dialer *d)
{
	struct vio_nbd_call *c;

	d->busy = false;
	while (!d->ends && !d->head)
		pthread_cond_wait(&d->more, &d->lock);
	if (d->ends)
		return NULL;
	c = d->head;
	d->head = c->next;
	d->now = c;
	d->busy = true;
	return c;
}

static void *dial_thread(void *arg)
{
	struct vio_nbd_dialer *d = arg;
	struct vio_nbd_call *c;
	bool orphan;

	pthread_mutex_lock(&d->lock);
	while ((c = next_call(d))) {
		bool wanted;

		pthread_mutex_unlock(&d->lock);
		c->rc = vio_nbd_connect(d->uri, &c->h, &c->err);
		pthread_mutex_lock(&d->lock);
		wanted = d->now != NULL;
		d->now = NULL;
		if (wanted)
			vio_store_release(&c->done, true); /* pair ND: it is the asker's again */
		else
			call_free(c);
	}
	orphan = d->orphan;
	pthread_mutex_unlock(&d->lock);
	if (orphan)
		dialer_free(d);
	return NULL;
}

int vio_nbd_dialer_start(const char *uri, struct vio_nbd_dialer **out, struct vio_err *err)
{
	struct vio_nbd_dialer *d = calloc(1, sizeof(*d));
	int rc;

	if (!d)
		return vio_err_set(err, -ENOMEM, "backend nbd: no memory");
	snprintf(d->uri, sizeof(d->uri), "%s", uri);
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->more, NULL);
	rc = vio_thread_start(&d->thread, dial_thread, d);
	if (rc) {
		dialer_free(d);
		return vio_err_set(err, rc, "backend nbd: a thread for its connections: %s",
				   strerror(-rc));
	}
	*out = d;
	return 0;
}

void vio_nbd_dialer_stop(struct vio_nbd_dialer *d)
{
	pthread_t thread;
	bool busy;

	if (!d)
		return;
	thread = d->thread;
	pthread_mutex_lock(&d->lock);
	busy = d->busy;
	d->orphan = busy;
	d->ends = true;
	pthread_cond_signal(&d->more);
	pthread_mutex_unlock(&d->lock);
	/* One that is busy may be so for long, and frees all of it itself. */
	if (busy) {
		pthread_detach(thread);
		return;
	}
	pthread_join(thread, NULL);
	dialer_free(d);
}

void vio_nbd_dial(struct vio_nbd_dialer *d, struct vio_nbd_call *c)
{
	*c = (struct vio_nbd_call){.rc = -EINPROGRESS};
	pthread_mutex_lock(&d->lock);
	if (d->head)
		d->tail->next = c;
	else
		d->head = c;
	d->tail = c;
	pthread_cond_signal(&d->more);
	pthread_mutex_unlock(&d->lock);
}

/* Not begun: taken out of the list. Locked. */
static void unlist(struct vio_nbd_dialer *d, const struct vio_nbd_call *c)
{
	struct vio_nbd_call **at = &d->head, *before = NULL;

	while (*at && *at != c) {
		before = *at;
		at = &before->next;
	}
	if (!*at)
		return; /* it is done */
	*at = c->next;
	if (d->tail == c)
		d->tail = before;
}

void vio_nbd_drop_call(struct vio_nbd_dialer *d, struct vio_nbd_call *c)
{
	bool ours;

	pthread_mutex_lock(&d->lock);
	ours = c != d->now;
	if (ours)
		unlist(d, c);
	else
		d->now = NULL; /* its thread frees it */
	pthread_mutex_unlock(&d->lock);
	if (ours)
		call_free(c);
}
