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

void vio_nbd_hang_up(struct nbd_handle *h)
{
	if (!h)
		return;
	nbd_aio_disconnect(h, 0); /* says goodbye if that needs no waiting */
	nbd_close(h);
}

struct nbd_handle *vio_nbd_begin(const char *uri)
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
	struct nbd_handle *h = vio_nbd_begin(uri);
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

void vio_nbd_owe_flush(struct vio_nbd *n)
{
	if (vio_xchg_acq_rel(&n->unflushed, 0))
		vio_store_relaxed(&n->flush_owed, 1);
}

/* The next request after a loss tries at once; after a try that failed there is a pause. */
static void down(struct vio_nbd_queue *q, uint64_t pause)
{
	q->renew = false; /* asked again if it is still needed */
	q->state = VIO_NBD_DOWN;
	q->deadline = vio_now_ns() + pause;
	vio_nbd_abandon(q);
}

static void lost(struct vio_nbd_queue *q, const char *why)
{
	vio_nbd_owe_flush(q->n);
	if (!q->said && q->n->delay)
		vio_backend_say(
			&q->n->be,
			"lost the connection (%s); its requests wait up to %llu s for another",
			why ? why : "closed by the server",
			(unsigned long long)(q->n->delay / 1000000000ull));
	else if (!q->said)
		vio_backend_say(&q->n->be,
				"lost the connection (%s); its requests fail until it is back",
				why ? why : "closed by the server");
	q->said = true;
	q->patience = q->n->delay ? vio_now_ns() + q->n->delay : 0;
	down(q, 0);
}

/* A try has come to nothing. */
static void failed(struct vio_nbd_queue *q)
{
	if (!q->old) {
		down(q, vio_nbd_patient(q) ? VIO_NBD_RETRY_NS : VIO_NBD_BACKOFF_NS);
		return;
	}
	/* The one before still stands; who wanted more of the disk does not get it. */
	nbd_close(q->h);
	q->h = q->old;
	q->old = NULL;
	q->state = VIO_NBD_UP;
	vio_nbd_give_up(q, VIO_NBD_LARGER);
}

/* They have waited for as long as was asked for. */
static void look_patience(struct vio_nbd_queue *q)
{
	/* A try that is under way is seen to its end. */
	if (!vio_nbd_patient(q) || q->state != VIO_NBD_DOWN || vio_now_ns() < q->patience)
		return;
	q->patience = 0;
	vio_backend_say(&q->n->be, "not back within %llu s; its requests fail until it is",
			(unsigned long long)(q->n->delay / 1000000000ull));
	vio_nbd_give_up(q, VIO_NBD_WAITING);
}

/* What the connection that is up now says of the size. It is the disk: vio_nbd_same_disk(). */
static void learn_size(struct vio_nbd_queue *q)
{
	struct vio_backend *be = &q->n->be;
	uint64_t was = vio_load_relaxed(&be->size);

	q->size = vio_nbd_size(q->n, q->h);
	/* Each queue may be the first to see it. */
	while (q->size > was && !vio_cas(&be->size, was, q->size))
		;
	if (q->size <= was)
		return;
	vio_backend_say(be, "has grown from %llu to %llu bytes", (unsigned long long)was,
			(unsigned long long)q->size);
	if (be->grown)
		be->grown(be->grown_ctx);
}

/* A connection that knows the disk's new size, beside the one that is: a server may end with its last client. */
static void renew(struct vio_nbd_queue *q)
{
	struct nbd_handle *h = vio_nbd_begin(q->n->uri);

	q->renew = false;
	if (!h) {
		vio_nbd_give_up(q, VIO_NBD_LARGER);
		return;
	}
	q->old = q->h;
	q->h = h;
	q->state = VIO_NBD_CONNECTING;
	q->deadline = vio_now_ns() + VIO_NBD_CONNECT_NS;
}

uint64_t vio_nbd_size(const struct vio_nbd *n, struct nbd_handle *h)
{
	int64_t size = nbd_get_size(h);

	return size < 0 ? 0 : (uint64_t)size - (uint64_t)size % n->be.block_size;
}

bool vio_nbd_same_disk(const struct vio_nbd *n, struct nbd_handle *h)
{
	const struct vio_backend *be = &n->be;
	int64_t min = nbd_get_block_size(h, LIBNBD_SIZE_MINIMUM),
		max = nbd_get_block_size(h, LIBNBD_SIZE_MAXIMUM);

	return vio_nbd_size(n, h) >= vio_load_relaxed(&be->size) &&
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
	enum vio_nbd_fence fence;

	if (rc < 0 || gone(q->h) || vio_now_ns() >= q->deadline) {
		failed(q);
		return;
	}
	if (nbd_aio_is_ready(q->h) <= 0)
		return;
	if (!vio_nbd_same_disk(q->n, q->h)) {
		if (!q->said_other)
			vio_backend_say(&q->n->be,
					"what answers now is another disk; not using it");
		q->said_other = true;
		failed(q);
		return;
	}
	if (q->fenced_out && vio_now_ns() < q->fence_at)
		return;
	fence = q->n->fence == VIO_NBD_RULE_OFF ? VIO_NBD_FENCE_CLEAR : vio_nbd_look_fence(q->h);
	if (fence == VIO_NBD_FENCE_HELD) {
		q->fence_at = vio_now_ns() + VIO_NBD_FENCE_NS;
		if (!q->fenced_out)
			vio_backend_say(
				&q->n->be,
				"the server still works on requests of the lost connection; waiting for their end");
		q->fenced_out = true;
		return;
	}
	watch_silence(q->h);
	/* That they are over can't be told here: then they are not asked for again. */
	if (fence == VIO_NBD_FENCE_UNKNOWN)
		vio_nbd_give_up(q, VIO_NBD_UNSURE);
	/* It ended while the new one was made: its server may have been another process. */
	if (q->old && (nbd_poll(q->old, 0) < 0 || gone(q->old)))
		vio_nbd_owe_flush(q->n);
	vio_nbd_hang_up(q->old);
	q->old = NULL;
	q->patience = 0;
	q->state = VIO_NBD_UP;
	learn_size(q);
	if (q->said)
		vio_backend_say(&q->n->be, "connected again");
	q->said = q->said_other = q->fenced_out = false;
}

void vio_nbd_drive(struct vio_nbd_queue *q)
{
	look_patience(q);
	if (vio_unlikely(q->renew && q->n_free == q->depth && q->state == VIO_NBD_UP))
		renew(q);
	/* Each turn is one system call when there is nothing; bounded, so that other queues get theirs. */
	for (unsigned i = 0; i < VIO_BURST && q->state != VIO_NBD_DOWN; i++) {
		int rc = gone(q->h) ? 0 : nbd_poll(q->h, 0);

		if (q->state == VIO_NBD_CONNECTING)
			look_connecting(q, rc);
		else if (rc < 0 || gone(q->h) || q->again.head) /* it said so itself: ESHUTDOWN */
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
	q->h = vio_nbd_begin(q->n->uri);
	q->state = q->h ? VIO_NBD_CONNECTING : VIO_NBD_DOWN;
	q->deadline = now + (q->h                 ? VIO_NBD_CONNECT_NS
			     : vio_nbd_patient(q) ? VIO_NBD_RETRY_NS
						  : VIO_NBD_BACKOFF_NS);
}
