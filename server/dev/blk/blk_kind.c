/* SPDX-License-Identifier: BSD-3-Clause */
/* The disk as a kind of device: over the table of stores. */
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "server/dev/blk/blk_priv.h"
#include "vio/atomics.h"

static struct vio_disk *disk_of(struct vio_device *dev)
{
	return vio_container_of(dev, struct vio_disk, dev);
}

static const struct vio_backend *disk_store(const struct vio_device *dev)
{
	return vio_container_of(dev, struct vio_disk, dev)->be;
}

void vio_disk_init(struct vio_disk *d, struct vio_backend *be)
{
	*d = (struct vio_disk){.dev = {.kind = &vio_kind_disk,
				       .unfenced = be->unfenced,
				       .by_name = be->by_name,
				       .told_windows = be->ops->window_add != NULL,
				       .live_windows = be->ops->window_busy != NULL},
			       .be = be};
	static_assert(sizeof(d->dev.identity) == sizeof(be->identity), "one is the other's");
	memcpy(d->dev.identity, be->identity, sizeof(be->identity));
	snprintf(d->dev.what, sizeof(d->dev.what), "%s", be->what);
}

/* The stores of those that are open: a file is not opened twice. */
static unsigned disk_stores(const struct vio_dev_env *env, struct vio_backend *store[])
{
	unsigned n = 0;

	for (unsigned i = 0; i < env->n_others; i++) {
		if (env->others[i] && env->others[i]->kind == &vio_kind_disk)
			store[n++] = disk_of(env->others[i])->be;
	}
	return n;
}

static void disk_grown(void *ctx)
{
	const struct vio_disk *d = ctx;

	if (d->env.config_changed)
		d->env.config_changed(d->env.ctx, d->number);
}

static int disk_open(const char *spec, const struct vio_dev_env *env, struct vio_device **out,
		     struct vio_err *err)
{
	struct vio_backend **others = calloc(env->n_others + 1, sizeof(struct vio_backend *));
	struct vio_disk *d = calloc(1, sizeof(*d));
	struct vio_backend_env store = {.server_memory = env->server_memory,
					.ctx = env->ctx,
					.say = env->say,
					.say_ctx = env->say_ctx,
					.others = others};
	struct vio_backend *be;
	int rc = -ENOMEM;

	if (d && others) {
		store.n_others = disk_stores(env, others);
		rc = vio_backend_open(spec, &store, &be, err);
	} else {
		vio_err_set(err, rc, "no memory for a disk");
	}
	free(others);
	if (rc < 0) {
		free(d);
		return rc;
	}
	vio_disk_init(d, be);
	d->number = env->number;
	d->env = *env;
	be->grown = disk_grown;
	be->grown_ctx = d;
	*out = &d->dev;
	return 0;
}

static void disk_close(struct vio_device *dev)
{
	vio_backend_close(disk_of(dev)->be);
	free(disk_of(dev));
}

/* A guest is not offered what its disk would refuse. */
static uint16_t disk_queues(const struct vio_device *dev, uint16_t most)
{
	uint16_t can = disk_store(dev)->max_queues;

	return can && can < most ? can : most;
}

static bool disk_resize(struct vio_device *dev, const char **said)
{
	int rc = vio_backend_resize(disk_of(dev)->be);

	*said = rc == 1             ? "grown, the guest is told"
		: rc == 0           ? "as it was"
		: rc == -ENOSPC     ? "refused: it has become smaller"
		: rc == -EOPNOTSUPP ? "refused: this kind of disk has a fixed size"
				    : strerrordesc_np(-rc);
	return rc == 1;
}

static bool disk_resume(struct vio_device *dev, const char **said)
{
	bool stopped = vio_blk_resume(disk_of(dev));

	*said = stopped ? "it goes on" : "it had not stopped";
	return stopped;
}

static void disk_show(const struct vio_device *dev, struct vio_show *s)
{
	const struct vio_backend *be = disk_store(dev);
	char state[80];

	vio_blk_stopped(vio_container_of(dev, const struct vio_disk, dev), state, sizeof(state));
	s->text(s, "state", state);
	s->text(s, "kind", be->ops->name);
	s->text(s, "what", be->what);
	s->num(s, "size", vio_load_relaxed(&be->size));
	s->num(s, "block_size", be->block_size);
	s->num(s, "physical_block", be->physical);
	s->num(s, "read_only", be->read_only);
	s->num(s, "touches_data", be->touches_data);
	s->num(s, "flush", be->can_flush);
	s->num(s, "discard", be->can_discard);
	s->num(s, "write_zeroes", be->can_zero);
	s->num(s, "unmap", be->can_unmap);
	s->num(s, "write_through", vio_load_relaxed(&be->write_through));
	for (unsigned e = 1; e < VIO_BACKEND_ERRNOS; e++) {
		uint64_t count = vio_load_relaxed(&be->errors.of[e].n);
		char name[32];

		if (count == 0)
			continue;
		snprintf(name, sizeof(name), "error_%s", strerrorname_np((int)e));
		s->num(s, name, count);
	}
}

static const char *disk_usage(unsigned line)
{
	static const char *const more[] = {
		"short=on: requests down to 64 bytes, positions still sectors; outside VIRTIO, for measurements only",
	};
	unsigned stores = 0;

	while (vio_backend_usage(stores))
		stores++;
	if (line < stores)
		return vio_backend_usage(line);
	return line - stores < VIO_ARRAY_SIZE(more) ? more[line - stores] : NULL;
}

static int disk_queue_open(struct vio_device *dev, unsigned depth, struct vio_dev_queue **out,
			   struct vio_err *err)
{
	struct vio_backend *be = disk_of(dev)->be;
	struct vio_disk_queue *dq = aligned_alloc(VIO_CACHE_LINE, VIO_CACHE_LINE);
	int rc;

	static_assert(sizeof(*dq) <= VIO_CACHE_LINE, "the data path reads one line of it");
	if (!dq)
		return vio_err_set(err, -ENOMEM, "no memory for a disk's queue");
	*dq = (struct vio_disk_queue){.dq = {dev}, .be = be};
	rc = be->ops->queue_open(be, depth, &dq->bq, err);
	if (rc < 0) {
		free(dq);
		return rc;
	}
	*out = &dq->dq;
	return 0;
}

static struct vio_disk_queue *queue_of(struct vio_dev_queue *dq)
{
	return vio_container_of(dq, struct vio_disk_queue, dq);
}

static void disk_queue_close(struct vio_dev_queue *dq)
{
	struct vio_disk_queue *q = queue_of(dq);

	/* What waited is gone with it: who comes next finds a disk that runs. */
	vio_blk_resume(disk_of(dq->dev));
	q->be->ops->queue_close(q->bq);
	free(q);
}

static void disk_window_add(struct vio_dev_queue *dq, void *va, uint64_t len, bool writable)
{
	queue_of(dq)->be->ops->window_add(queue_of(dq)->bq, va, len, writable);
}

static void disk_window_del(struct vio_dev_queue *dq, void *va, uint64_t len)
{
	queue_of(dq)->be->ops->window_del(queue_of(dq)->bq, va, len);
}

static bool disk_window_busy(struct vio_dev_queue *dq, const void *va, uint64_t len)
{
	return queue_of(dq)->be->ops->window_busy(queue_of(dq)->bq, va, len);
}

const struct vio_dev_kind vio_kind_disk = {
	.row = {"disk", "BACKEND[,KEY=VALUE...]", "a disk on one of these:", VIO_OPTION_CALL,
		.set = vio_dev_option, .lines = disk_usage},
	.noun = "disk",
	.repeats = true,
	.type = VIRTIO_ID_BLOCK,
	.min_proto = VIO_PROTO_V1,
	.queue = &vio_disk_queue_ops,
	.open = disk_open,
	.close = disk_close,
	.queues = disk_queues,
	.show = disk_show,
	.features = vio_blk_features,
	.config = vio_blk_config,
	.negotiated = vio_blk_negotiated,
	.config_set = vio_blk_config_set,
	.config_set_features = 1ull << VIRTIO_BLK_F_CONFIG_WCE,
	.start = vio_blk_start,
	.resize = disk_resize,
	.resume = disk_resume,
	.queue_open = disk_queue_open,
	.queue_close = disk_queue_close,
	.window_add = disk_window_add,
	.window_del = disk_window_del,
	.window_busy = disk_window_busy,
};
