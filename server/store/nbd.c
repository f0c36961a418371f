/* SPDX-License-Identifier: BSD-3-Clause */
/* A disk behind an NBD server: what it is and what the server can. */
#include <stdlib.h>
#include <string.h>

#include "server/store/nbd.h"
#include "vio/atomics.h"
#include "vio/cycles.h"

/* Larger blocks than this are no disk's. */
#define MAX_BLOCK 65536

static struct vio_nbd *of(struct vio_backend *be)
{
	return vio_container_of(be, struct vio_nbd, be);
}

static bool yes(int answer)
{
	return answer > 0; /* -1: the server didn't say */
}

/* Block sizes of the server's making: powers of two, or absent. */
static int limits(struct vio_nbd *n, struct nbd_handle *h, struct vio_err *err)
{
	int64_t min = nbd_get_block_size(h, LIBNBD_SIZE_MINIMUM),
		max = nbd_get_block_size(h, LIBNBD_SIZE_MAXIMUM),
		preferred = nbd_get_block_size(h, LIBNBD_SIZE_PREFERRED);

	if (min <= 0)
		min = 1;
	if (min > MAX_BLOCK || (min & (min - 1)))
		return vio_err_set(
			err, -EINVAL,
			"backend nbd: %.120s wants blocks of %lld bytes; a disk has blocks of 512 to 65536 bytes, powers of two",
			n->uri, (long long)min);
	if (max <= 0 || max > VIO_MAX_DATA)
		max = VIO_MAX_DATA;
	if (max < min)
		max = min;
	n->min_block = (uint32_t)min;
	n->preferred = preferred <= 0 || preferred > MAX_BLOCK || (preferred & (preferred - 1))
			       ? 0
			       : (uint32_t)preferred;
	n->max_payload = (uint32_t)(max - max % min);
	return 0;
}

static int learn(struct vio_nbd *n, struct nbd_handle *h, struct vio_err *err)
{
	int64_t size = nbd_get_size(h);
	uint32_t block;
	uint64_t cut;
	size_t len = strlen(n->uri);
	bool described;
	int rc = limits(n, h, err);

	if (rc)
		return rc;
	block = n->min_block > VIO_DISK_UNIT ? n->min_block : VIO_DISK_UNIT;
	if (size < (int64_t)block)
		return vio_err_set(
			err, -EINVAL,
			"backend nbd: %.120s has %lld bytes, too small for a disk: it needs %u or more",
			n->uri, (long long)size, block);
	cut = (uint64_t)size % block;
	n->multi_conn = yes(nbd_can_multi_conn(h));
	n->be = (struct vio_backend){
		.ops = &vio_backend_nbd,
		.size = (uint64_t)size - cut,
		.block_size = block,
		.max_queues = n->multi_conn ? 0 : 1,
		.read_only = nbd_is_read_only(h) != 0,
		.touches_data = true,
		.can_discard = yes(nbd_can_trim(h)),
		.can_zero = yes(nbd_can_zero(h)),
		.can_flush = yes(nbd_can_flush(h)),
	};
	/* What NBD calls NO_HOLE is our answer to a guest that does not want it. */
	n->be.can_unmap = n->be.can_zero && n->be.can_discard;
	n->be.max_queues = n->multi_conn ? 0 : 1;
	n->be.physical = n->preferred;
	if (n->be.read_only)
		n->be.can_unmap = n->be.can_discard = n->be.can_zero = false;
	n->told = vio_nbd_told(h, &described);
	n->be.by_name = !described && !n->id[0];
	vio_backend_make_id(&n->be, n->id, vio_hash(n->told, n->uri, len));
	vio_backend_identify(&n->be, n->be.id, sizeof(n->be.id));
	snprintf(n->be.what, sizeof(n->be.what), "nbd %s%s%s%s%s", len > 80 ? "..." : "",
		 n->uri + (len > 80 ? len - 77 : 0), n->be.read_only ? ", read-only" : "",
		 n->multi_conn ? "" : ", one queue only",
		 cut ? ", last incomplete block left out" : "");
	return 0;
}

static int parse_delay(const char *spec, struct vio_nbd *n, struct vio_err *err)
{
	char text[32] = "0";
	uint64_t s = 0;
	int rc = vio_spec_get(spec, "reconnect-delay", text, sizeof(text));

	for (const char *p = text; *p && rc >= 0; p++) {
		s = s * 10 + (uint64_t)(*p - '0');
		if (*p < '0' || *p > '9' || s > VIO_NBD_DELAY_MAX)
			rc = -EINVAL;
	}
	if (rc < 0 || !text[0])
		return vio_err_set(err, -EINVAL,
				   "backend nbd: reconnect-delay=%s: whole seconds, 0 to %u", text,
				   VIO_NBD_DELAY_MAX);
	n->delay = s * 1000000000ull;
	return 0;
}

static int parse(const char *spec, struct vio_nbd *n, struct vio_err *err)
{
	static const char *const keys[] = {"uri", "serial", "fence", "reconnect-delay", NULL};
	static const char *const fences[] = {"auto", "wait", "refuse", "off", NULL};
	int rc = vio_spec_check("nbd", spec, keys, err);

	if (rc == 0)
		rc = vio_spec_word("nbd", spec, "fence", fences, VIO_NBD_RULE_AUTO, &n->fence, err);
	if (rc == 0)
		rc = parse_delay(spec, n, err);
	if (rc)
		return rc;
	rc = vio_spec_get(spec, "uri", n->uri, sizeof(n->uri));
	if (rc < 0)
		return vio_err_set(err, -ENAMETOOLONG, "backend nbd: uri is longer than %zu bytes",
				   sizeof(n->uri) - 1);
	if (rc == 0 || !n->uri[0])
		return vio_err_set(
			err, -EINVAL,
			"backend nbd: which server? Say uri=..., e.g. uri=nbd+unix:///?socket=/run/disk.sock");
	return vio_spec_serial("nbd", spec, n->id, err);
}

static void nbd_backend_close(struct vio_backend *be)
{
	struct vio_nbd *n = of(be);

	vio_nbd_dialer_stop(n->dialer);
	vio_nbd_hang_up(n->spare);
	pthread_mutex_destroy(&n->lock);
	free(n);
}

static int nbd_backend_open(const char *spec, const struct vio_backend_env *env,
			    struct vio_backend **out, struct vio_err *err)
{
	struct vio_nbd *n = calloc(1, sizeof(*n));
	int rc;

	(void)env;
	if (!n)
		return vio_err_set(err, -ENOMEM, "backend nbd: no memory");
	pthread_mutex_init(&n->lock, NULL);
	rc = parse(spec, n, err);
	if (rc == 0)
		rc = vio_nbd_connect(n->uri, &n->spare, err);
	if (rc == 0)
		rc = learn(n, n->spare, err);
	if (rc == 0)
		rc = vio_nbd_fence_start(n, n->spare, err);
	if (rc == 0)
		rc = vio_nbd_dialer_start(n->uri, &n->dialer, err);
	if (rc)
		nbd_backend_close(&n->be);
	else
		*out = &n->be;
	return rc;
}

/* A connection for a queue: the spare one when it still stands. NULL: one has to be made. Under lock. */
static struct nbd_handle *take_spare(struct vio_nbd *n)
{
	struct nbd_handle *h = n->spare;
	bool larger;

	n->spare = NULL;
	if (!h || (nbd_poll(h, 0) >= 0 && nbd_aio_is_ready(h) > 0 &&
		   vio_nbd_same_disk(n, h, false, &larger)))
		return h;
	vio_nbd_owe_flush(n);
	nbd_close(h);
	return NULL;
}

static int count_in(struct vio_nbd *n, struct nbd_handle **h, struct vio_err *err)
{
	int rc = 0;

	pthread_mutex_lock(&n->lock);
	if (n->n_queues > 0 && !n->multi_conn)
		rc = vio_err_set(
			err, -EOPNOTSUPP,
			"backend nbd: %.120s does not allow several connections to one disk (multi-conn); use one queue",
			n->uri);
	else
		*h = take_spare(n);
	if (rc == 0)
		vio_store_relaxed(&n->n_queues, n->n_queues + 1);
	pthread_mutex_unlock(&n->lock);
	return rc;
}

static void count_out(struct vio_nbd *n, struct nbd_handle *h)
{
	pthread_mutex_lock(&n->lock);
	/* A server that takes one client only must not be left: the next queue could come too early. */
	if (h && !n->spare) {
		n->spare = h;
		h = NULL;
	}
	vio_store_relaxed(&n->n_queues, n->n_queues - 1);
	pthread_mutex_unlock(&n->lock);
	vio_nbd_hang_up(h);
}

static void release(struct vio_nbd_queue *q)
{
	vio_be_buffers_close(&q->buffers);
	free(q->call);
	free(q->slot);
	free(q->free);
	free(q);
}

static int nbd_queue_open(struct vio_backend *be, unsigned depth, struct vio_backend_queue **out,
			  struct vio_err *err)
{
	struct vio_nbd_queue *q;
	int rc;

	if (depth == 0 || depth > 32768)
		return vio_err_set(err, -EINVAL, "backend nbd: a queue of %u requests", depth);
	q = calloc(1, sizeof(*q));
	if (!q)
		return vio_err_set(err, -ENOMEM, "backend nbd: no memory");
	q->slot = calloc(depth, sizeof(q->slot[0]));
	q->free = calloc(depth, sizeof(q->free[0]));
	q->call = calloc(1, sizeof(*q->call));
	rc = q->slot && q->free && q->call ? vio_be_buffers_open(&q->buffers) : -ENOMEM;
	if (rc) {
		release(q);
		return vio_err_set(err, rc, "backend nbd: no memory");
	}
	q->bq.be = be;
	q->n = of(be);
	q->depth = depth;
	for (unsigned i = 0; i < depth; i++)
		q->free[q->n_free++] = (uint16_t)(depth - 1 - i);
	rc = count_in(q->n, &q->h, err);
	if (rc) {
		release(q);
		return rc;
	}
	/* A connection of before may not have ended: then this one is used when it has. */
	q->state = q->h ? VIO_NBD_CONNECTING : VIO_NBD_DOWN;
	q->deadline = q->h ? vio_now_ns() + VIO_NBD_CONNECT_NS : 0;
	q->patience = q->n->delay ? vio_now_ns() + q->n->delay : 0;
	if (!q->h)
		vio_nbd_revive(q);
	vio_nbd_drive(q);
	*out = &q->bq;
	return 0;
}

static void nbd_queue_close(struct vio_backend_queue *bq)
{
	struct vio_nbd_queue *q = vio_nbd_queue_of(bq);

	if (q->dialing) {
		vio_nbd_drop_call(q->n->dialer, q->call);
		q->call = NULL;
	}
	vio_nbd_hang_up(q->old);
	if (q->state != VIO_NBD_UP) {
		nbd_close(q->h);
		q->h = NULL;
	}
	count_out(q->n, q->h);
	release(q);
}

/* A server tells a connection the size that the export had when it began. */
static int nbd_look_size(struct vio_backend *be, uint64_t *size)
{
	struct vio_nbd *n = of(be);
	struct vio_err err;
	struct nbd_handle *h;
	int rc = vio_nbd_connect(n->uri, &h, &err);

	bool described;

	if (rc)
		return rc;
	if (vio_nbd_told(h, &described) == n->told)
		*size = vio_nbd_size(n, h);
	else
		rc = -EXDEV;
	vio_nbd_hang_up(h);
	if (rc)
		vio_backend_say(
			be, "what answers now is another disk: its name or description is another");
	return rc;
}

const struct vio_backend_ops vio_backend_nbd = {
	.name = "nbd",
	.usage =
		"nbd,uri=URI[,serial=ID][,fence=auto|wait|refuse|off][,reconnect-delay=SECONDS]    any NBD server (qemu-nbd, nbdkit), e.g. uri=nbd+unix:///?socket=/run/disk.sock",
	.open = nbd_backend_open,
	.close = nbd_backend_close,
	.queue_open = nbd_queue_open,
	.look_size = nbd_look_size,
	.give_up = vio_nbd_stop,
	.queue_close = nbd_queue_close,
	.submit = vio_nbd_submit,
	.poll = vio_nbd_poll,
};
