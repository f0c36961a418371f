/* SPDX-License-Identifier: BSD-3-Clause */
/* Connections of the NBD backend: made, lost, made again. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "server/store/nbd.h"
#include "vio/atomics.h"
#include "vio/cycles.h"

/* A network that has gone silent ends a TCP connection after this long, ms. */
#define SILENCE_MS 30000

static bool gone(struct nbd_handle *h)
{
	return nbd_aio_is_dead(h) > 0 || nbd_aio_is_closed(h) > 0;
}

/* A handle that has begun to connect. NULL: libnbd's error is set. */
static struct nbd_handle *begin(const char *uri)
{
	struct nbd_handle *h = nbd_create();

	if (!h)
		return NULL;
	/* Reads go to the guest's memory; clearing it first would be a second pass over it. */
	if (nbd_set_pread_initialize(h, false) || nbd_set_uri_allow_local_file(h, true) ||
	    nbd_aio_connect_uri(h, uri)) {
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
	uint64_t end = vio_now_ns() + VIO_NBD_CONNECT_NS;
	struct nbd_handle *h = begin(uri);
	int rc;

	if (!h)
		return libnbd_failed(uri, err);
	while (nbd_aio_is_ready(h) <= 0) {
		uint64_t now = vio_now_ns();

		if (now >= end) {
			nbd_close(h);
			return connect_failed(uri, "no answer from the server", ETIMEDOUT, err);
		}
		if (nbd_poll(h, (int)((end - now) / 1000000 + 1)) < 0 || gone(h)) {
			rc = libnbd_failed(uri, err);
			nbd_close(h);
			return rc;
		}
	}
	watch_silence(h);
	*out = h;
	return 0;
}

/* The next request after a loss tries at once; after a try that failed there is a pause. */
static void down(struct vio_nbd_queue *q, uint64_t pause)
{
	q->state = VIO_NBD_DOWN;
	q->deadline = vio_now_ns() + pause;
	vio_nbd_abandon(q);
}

static void lost(struct vio_nbd_queue *q, const char *why)
{
	if (vio_xchg_acq_rel(&q->n->unflushed, 0))
		vio_store_relaxed(&q->n->flush_owed, 1);
	if (!q->said)
		vio_backend_say(&q->n->be,
				"lost the connection (%s); its requests fail until it is back",
				why ? why : "closed by the server");
	q->said = true;
	down(q, 0);
}

bool vio_nbd_same_disk(const struct vio_nbd *n, struct nbd_handle *h)
{
	const struct vio_backend *be = &n->be;
	int64_t size = nbd_get_size(h), min = nbd_get_block_size(h, LIBNBD_SIZE_MINIMUM),
		max = nbd_get_block_size(h, LIBNBD_SIZE_MAXIMUM);

	return size >= 0 && (uint64_t)size - (uint64_t)size % be->block_size == be->size &&
	       (be->read_only || nbd_is_read_only(h) == 0) &&
	       (!be->can_flush || nbd_can_flush(h) > 0) &&
	       (!be->can_discard || nbd_can_trim(h) > 0) &&
	       (!be->can_zero || nbd_can_zero(h) > 0) && min <= (int64_t)n->min_block &&
	       (max <= 0 || max >= (int64_t)n->max_payload) &&
	       (vio_load_relaxed(&n->n_queues) <= 1 || nbd_can_multi_conn(h) > 0);
}

/* While CONNECTING. `rc`: nbd_poll's answer. */
static void look_connecting(struct vio_nbd_queue *q, int rc)
{
	if (rc < 0 || gone(q->h) || vio_now_ns() >= q->deadline) {
		down(q, VIO_NBD_BACKOFF_NS);
		return;
	}
	if (nbd_aio_is_ready(q->h) <= 0)
		return;
	if (!vio_nbd_same_disk(q->n, q->h)) {
		if (!q->said_other)
			vio_backend_say(&q->n->be,
					"what answers now is another disk; not using it");
		q->said_other = true;
		down(q, VIO_NBD_BACKOFF_NS);
		return;
	}
	if (q->n->fence != VIO_NBD_RULE_OFF && vio_nbd_look_fence(q->h) == VIO_NBD_FENCE_HELD) {
		if (!q->fenced_out)
			vio_backend_say(
				&q->n->be,
				"the server still works on requests of the lost connection; waiting for their end");
		q->fenced_out = true;
		return;
	}
	watch_silence(q->h);
	q->state = VIO_NBD_UP;
	if (q->said)
		vio_backend_say(&q->n->be, "connected again");
	q->said = q->said_other = q->fenced_out = false;
}

void vio_nbd_drive(struct vio_nbd_queue *q)
{
	/* Each turn is one system call when there is nothing; bounded, so that other queues get theirs. */
	for (unsigned i = 0; i < VIO_BURST && q->state != VIO_NBD_DOWN; i++) {
		int rc = gone(q->h) ? 0 : nbd_poll(q->h, 0);

		if (q->state == VIO_NBD_CONNECTING)
			look_connecting(q, rc);
		else if (rc < 0 || gone(q->h))
			lost(q, rc < 0 ? nbd_get_error() : NULL);
		if (rc <= 0)
			return;
	}
}

void vio_nbd_revive(struct vio_nbd_queue *q)
{
	uint64_t now = vio_now_ns();

	if (now < q->deadline)
		return;
	q->h = begin(q->n->uri);
	q->state = q->h ? VIO_NBD_CONNECTING : VIO_NBD_DOWN;
	q->deadline = now + (q->h ? VIO_NBD_CONNECT_NS : VIO_NBD_BACKOFF_NS);
}
