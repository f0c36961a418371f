/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What becomes of requests when the server goes, comes back, or stops the device: they stay in
 * their slots and are sent again in their order. Reads and writes may be done twice without harm,
 * and nobody was told yet that they are done.
 */
#include <inttypes.h>
#include <string.h>

#include "guest/dev/blk/blk_priv.h"

static unsigned blk_held(const struct vio_front *f)
{
	const struct vio_blk *b = vio_container_of(f, const struct vio_blk, f);
	unsigned n = 0;

	for (unsigned i = 0; i < b->info.num_queues; i++)
		n += b->info.depth - b->q[i].n_free;
	return n;
}

/* Do both say which disk they are? */
static bool known(const struct vio_blk *b, const struct vio_transport_info *now)
{
	static const uint8_t unknown[sizeof(b->identity)];

	return memcmp(b->identity, unknown, sizeof(unknown)) != 0 &&
	       memcmp(now->identity, unknown, sizeof(unknown)) != 0;
}

static bool another(const struct vio_blk *b, const struct vio_transport_info *now)
{
	return known(b, now) && memcmp(b->identity, now->identity, sizeof(b->identity)) != 0;
}

/* A disk that came back must be the one that went. */
static int same_disk(struct vio_front *f, struct vio_err *err)
{
	struct vio_blk *b = vio_container_of(f, struct vio_blk, f);
	const struct vio_transport_info *ti = vio_transport_get_info(b->f.t);
	const struct vio_blk_info *is = &b->info;
	struct vio_blk_info now = *is;
	uint32_t size_max;
	int rc;

	if (another(b, ti))
		return vio_err_set(
			err, -ESTALE,
			"the VIO server came back with another disk in this one's place");
	if (ti->version != is->version || ti->features != is->features ||
	    memcmp(&ti->arm, &is->arm, sizeof(ti->arm)) != 0 || ti->num_queues < is->num_queues ||
	    ti->queue_size != is->queue_size)
		return vio_err_set(
			err, -ENOTSUP,
			"the VIO server came back with other abilities (protocol %u, arm %s, features 0x%" PRIx64
			", %u queue(s) of %u); open the disk anew",
			ti->version, ti->arm.name, ti->features, ti->num_queues, ti->queue_size);
	rc = blk_read_config(b, &now, &size_max, err);
	if (rc)
		return rc;
	/* What has the name of the disk and another size may be another disk that was given its name. */
	if (known(b, ti) && ti->by_name && now.sectors != is->sectors)
		return vio_err_set(err, -ESTALE,
				   "the VIO server came back with %" PRIu64
				   " sectors under the name of a disk of %" PRIu64
				   ", which says not that it is the same (serial= would)",
				   now.sectors, is->sectors);
	/* The same one may have grown; of one that can't be told from others the size has to do. */
	if (now.sectors < is->sectors || (now.sectors > is->sectors && !known(b, ti)) ||
	    now.block_size != is->block_size || now.read_only != is->read_only ||
	    now.num_queues < is->num_queues || size_max < b->size_max)
		return vio_err_set(err, -ENOTSUP,
				   "the VIO server came back with another disk (%" PRIu64
				   " sectors, before %" PRIu64 "); open it anew",
				   now.sectors, is->sectors);
	blk_take_size(b);
	return blk_tell_cache(b, err);
}

const struct vio_front_ops blk_front_ops = {
	.device = "disk",
	.item = "request",
	.fate = "sent again",
	.held = blk_held,
	.same = same_disk,
};

/* ---------------------------------------------------------- by the owner of a queue ---- */

static void sort_by_seq(const struct blk_queue *q, uint16_t *index, unsigned n)
{
	for (unsigned i = 1; i < n; i++) {
		uint16_t x = index[i];
		unsigned j = i;

		/* Differences, so that a wrap of the counter keeps the order. */
		for (; j > 0 && (int32_t)(q->slot[index[j - 1]].seq - q->slot[x].seq) > 0; j--)
			index[j] = index[j - 1];
		index[j] = x;
	}
}

void blk_release(struct blk_queue *q, struct blk_slot *s, int result)
{
	struct vio_gbuf *buf = &s->buf;

	if (s->has_data) {
		buf->dev_writes = false; /* nothing to copy back */
		q->v.payload->ops->put(q->v.payload, &buf, 1);
	}
	blk_ret_push(q, s->req, result);
	blk_slot_free(q, s);
}

/*
 * The dead server's store may still execute what it had: a write sent again, or acknowledged later,
 * could be overtaken by its own old copy. Those in redo[0..n) end here; how many are left.
 */
static unsigned drop_writes(struct blk_queue *q, unsigned n)
{
	unsigned keep = 0;

	for (unsigned i = 0; i < n; i++) {
		struct blk_slot *s = &q->slot[q->redo[i]];
		uint32_t type = s->req->type;

		if (!s->sent || type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_FLUSH ||
		    type == VIRTIO_BLK_T_GET_ID)
			q->redo[keep++] = q->redo[i];
		else
			blk_release(q, s, -EIO);
	}
	if (keep < n)
		vio_front_say(
			&q->b->f,
			"queue %u: %u write(s) of before may still be executed, and end with an error: the server's disk can't be fenced",
			q->v.index, n - keep);
	return keep;
}

void blk_revive(struct blk_queue *q)
{
	struct vio_blk *b = q->b;
	struct vio_dma_map *m;
	unsigned n = 0;

	q->v.dma->ops->lost(q->v.dma);
	/* Those that an earlier restart had not sent yet are not mapped. */
	for (unsigned i = q->redo_next; i < q->n_redo; i++)
		q->slot[q->redo[i]].map.n_seg = 0;
	for (unsigned i = 0; i < b->info.depth; i++) {
		struct blk_slot *s = &q->slot[i];

		if (!s->req)
			continue;
		m = &s->map;
		/* Stuck: this is another try, and some are unmapped already. */
		s->sent = m->n_seg > 0 || q->v.stuck;
		if (m->n_seg > 0 && q->v.dma->ops->unmap(q->v.dma, &m, 1) == 0) {
			q->v.stuck = true; /* in the next session */
			return;
		}
		m->n_seg = 0;
		q->redo[n++] = (uint16_t)i;
	}
	q->v.stuck = false;
	sort_by_seq(q, q->redo, n);
	if (b->f.in_doubt == b->f.epoch)
		n = drop_writes(q, n);
	q->n_redo = n;
	q->redo_next = 0;
	q->v.epoch = b->f.epoch;
	q->v.idle_tick = 0;
	if (b->f.give_up != b->f.epoch)
		return;
	for (unsigned i = 0; i < n; i++)
		blk_release(q, &q->slot[q->redo[i]], -EIO);
	q->n_redo = 0;
}

void blk_give_up(struct blk_queue *q)
{
	for (unsigned i = 0; i < q->b->info.depth; i++) {
		struct blk_slot *s = &q->slot[i];

		/* Neither unmapped nor copied: the machine may be gone, and close unmaps what is left. */
		if (s->req) {
			blk_ret_push(q, s->req, -EIO);
			blk_slot_free(q, s);
		}
	}
	q->n_redo = q->redo_next = 0;
}
