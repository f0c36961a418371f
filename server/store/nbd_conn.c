/* SPDX-License-Identifier: BSD-3-Clause */
/* Connections of the NBD backend: made, lost, made again. */
#include <stdlib.h>
#include <string.h>

#include "server/store/nbd.h"
#include "vio/atomics.h"
#include "vio/cycles.h"

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

/* Once, until it is back: what is wrong, and what becomes of requests. */
static void say_away(struct vio_nbd_queue *q, const char *what)
{
	if (q->said)
		return;
	q->said = true;
	if (q->n->delay)
		vio_backend_say(&q->n->be, "%s; its requests wait up to %llu s for another", what,
				(unsigned long long)(q->n->delay / 1000000000ull));
	else
		vio_backend_say(&q->n->be, "%s; its requests fail until it is back", what);
}

static void lost(struct vio_nbd_queue *q, const char *why)
{
	char what[200];

	vio_nbd_owe_flush(q->n);
	snprintf(what, sizeof(what), "lost the connection (%.150s)",
		 why ? why : "closed by the server");
	say_away(q, what);
	q->patience = q->n->delay ? vio_now_ns() + q->n->delay : 0;
	down(q, 0);
}

/* A try has come to nothing. `why`: a sentence, or NULL when it was said. */
static void failed(struct vio_nbd_queue *q, const char *why)
{
	if (!q->old) {
		if (why)
			say_away(q, why);
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

/* Have a connection made, unless one is being made already. */
static void have_dialed(struct vio_nbd_queue *q)
{
	if (!q->dialing)
		vio_nbd_dial(q->n->dialer, q->call);
	q->dialing = true;
	q->state = VIO_NBD_CONNECTING;
	q->deadline = vio_now_ns() + VIO_NBD_CONNECT_NS;
}

/* A connection that knows the disk's new size, beside the one that is: a server may end with its last client. */
static void renew(struct vio_nbd_queue *q)
{
	q->renew = false;
	q->old = q->h;
	q->h = NULL;
	have_dialed(q);
}

/* What was dialed while this queue had stopped to wait, and has a connection again. */
static void hang_up_late(struct vio_nbd_queue *q)
{
	if (!vio_load_acquire(&q->call->done)) /* pair ND */
		return;
	vio_nbd_hang_up(q->call->h);
	q->dialing = false;
}

uint64_t vio_nbd_size(const struct vio_nbd *n, struct nbd_handle *h)
{
	int64_t size = nbd_get_size(h);

	return size < 0 ? 0 : (uint64_t)size - (uint64_t)size % n->be.block_size;
}

uint64_t vio_nbd_told(struct nbd_handle *h, bool *described)
{
	/* NULL: an older server, which tells neither. */
	char *text[] = {nbd_get_canonical_export_name(h), nbd_get_export_description(h)};
	uint64_t hash = VIO_HASH_START;

	*described = text[1] && text[1][0];
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(text); i++) {
		hash = vio_hash(hash, text[i] ? text[i] : "", text[i] ? strlen(text[i]) + 1 : 1);
		free(text[i]);
	}
	return hash;
}

/* What the guest counts on, but for the size. */
static bool able(const struct vio_nbd *n, struct nbd_handle *h)
{
	const struct vio_backend *be = &n->be;
	int64_t min = nbd_get_block_size(h, LIBNBD_SIZE_MINIMUM),
		max = nbd_get_block_size(h, LIBNBD_SIZE_MAXIMUM);

	return (be->read_only || nbd_is_read_only(h) == 0) &&
	       (!be->can_flush || nbd_can_flush(h) > 0) &&
	       (!be->can_discard || nbd_can_trim(h) > 0) &&
	       (!be->can_zero || nbd_can_zero(h) > 0) && min <= (int64_t)n->min_block &&
	       (max <= 0 || max >= (int64_t)n->max_payload) &&
	       (vio_load_relaxed(&n->n_queues) <= 1 || nbd_can_multi_conn(h) > 0);
}

bool vio_nbd_same_disk(const struct vio_nbd *n, struct nbd_handle *h, bool vouched, bool *larger)
{
	const uint64_t size = vio_load_relaxed(&n->be.size), has = vio_nbd_size(n, h);
	bool described;

	*larger = false;
	if (vio_nbd_told(h, &described) != n->told || has < size || !able(n, h))
		return false;
	*larger = has > size && n->be.by_name && !vouched;
	return !*larger;
}

/* Connected to something else. */
static void not_it(struct vio_nbd_queue *q, bool larger)
{
	if (!q->said_other && larger)
		vio_backend_say(
			&q->n->be,
			"what answers now has %llu bytes, before %llu: whether that is this disk, grown, or another one NBD does not tell; not using it until it is said (/vio/blk/resize)",
			(unsigned long long)vio_nbd_size(q->n, q->h),
			(unsigned long long)vio_load_relaxed(&q->n->be.size));
	else if (!q->said_other)
		vio_backend_say(&q->n->be, "what answers now is another disk; not using it");
	q->said_other = true;
	failed(q, NULL);
}

/* While CONNECTING: has the dialer an answer? True: q->h is it. */
static bool answered_call(struct vio_nbd_queue *q)
{
	if (vio_load_acquire(&q->call->done)) { /* pair ND */
		q->dialing = false;
		q->h = q->call->h;
		if (q->call->rc) /* the line names the disk already */
			failed(q, q->call->err.msg + strcspn(q->call->err.msg, " ") +
					  strlen(" nbd: "));
		return q->call->rc == 0;
	}
	if (vio_now_ns() >= q->deadline)
		failed(q, "no answer from the server");
	return false;
}

/* The one that is replaced has ended meanwhile: its server may have been another process. */
static void look_old(struct vio_nbd_queue *q)
{
	if (!q->old || (nbd_poll(q->old, 0) >= 0 && !vio_nbd_gone(q->old)))
		return;
	vio_nbd_owe_flush(q->n);
	nbd_close(q->old);
	q->old = NULL;
	q->patience = q->n->delay ? vio_now_ns() + q->n->delay : 0; /* as lost() does */
}

/* While CONNECTING. `rc`: nbd_poll's answer. */
static void look_connecting(struct vio_nbd_queue *q, int rc)
{
	enum vio_nbd_fence fence;
	bool larger;

	if (q->dialing && !answered_call(q))
		return;
	if (rc < 0 || vio_nbd_gone(q->h) || vio_now_ns() >= q->deadline) {
		failed(q, "no connection to the server");
		return;
	}
	look_old(q);
	/* One that was looked at just now stands beside it: the server is the same. Another queue's may be dead, and nobody has noticed. */
	if (!vio_nbd_same_disk(q->n, q->h, q->old != NULL, &larger)) {
		not_it(q, larger);
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
	/* That they are over can't be told here: then they are not asked for again. */
	if (fence == VIO_NBD_FENCE_UNKNOWN)
		vio_nbd_give_up(q, VIO_NBD_UNSURE);
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
	if (vio_unlikely(q->dialing && q->state == VIO_NBD_UP))
		hang_up_late(q);
	if (vio_unlikely(q->renew && q->n_free == q->depth && q->state == VIO_NBD_UP))
		renew(q);
	/* Each turn is one system call when there is nothing; bounded, so that other queues get theirs. */
	for (unsigned i = 0; i < VIO_BURST && q->state != VIO_NBD_DOWN; i++) {
		int rc = !q->h || vio_nbd_gone(q->h) ? 0 : nbd_poll(q->h, 0);

		if (q->state == VIO_NBD_CONNECTING)
			look_connecting(q, rc);
		else if (rc < 0 || vio_nbd_gone(q->h) ||
			 q->again.head) /* it said so itself: ESHUTDOWN */
			lost(q, rc < 0 ? nbd_get_error() : NULL);
		if (rc <= 0)
			return;
	}
}

void vio_nbd_revive(struct vio_nbd_queue *q)
{
	if (vio_now_ns() < q->deadline)
		return;
	if (q->dialing)
		hang_up_late(q); /* of an earlier time: whatever it says is old */
	have_dialed(q);
}
