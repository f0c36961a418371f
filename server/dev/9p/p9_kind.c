/* SPDX-License-Identifier: BSD-3-Clause */
/* virtio-9p as a kind of device: a shared folder, of a 9P server behind a UNIX socket. */
#include <linux/virtio_9p.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/dev/9p/p9.h"

static int p9_parse(const char *spec, char tag[VIO_9P_TAG_MAX + 1], char *path, size_t len,
		    struct vio_err *err)
{
	static const char *const keys[] = {"socket", "tag", NULL};
	int rc = vio_spec_check("9p", spec, keys, err);

	if (rc)
		return rc;
	if (vio_spec_get(spec, "tag", tag, VIO_9P_TAG_MAX + 1) <= 0 || !*tag)
		return vio_err_set(err, -EINVAL,
				   "say under which name the guest mounts it: tag=, 1 to %u bytes",
				   VIO_9P_TAG_MAX);
	rc = vio_spec_get(spec, "socket", path, len);
	if (rc < 0)
		return vio_err_set(err, -EINVAL, "its path is too long: at most 107 characters");
	if (rc == 0 || !*path)
		return vio_err_set(
			err, -EINVAL,
			"say where the 9P server is: socket=PATH (diod --listen PATH --export DIR serves one)");
	return 0;
}

static int p9_open(const char *spec, const struct vio_dev_env *env, struct vio_device **out,
		   struct vio_err *err)
{
	struct vio_9p *d = aligned_alloc(VIO_APART, VIO_ALIGN_UP(sizeof(*d), (size_t)VIO_APART));
	char path[128];
	int rc;

	(void)env;
	if (!d)
		return vio_err_set(err, -ENOMEM, "no memory");
	memset(d, 0, sizeof(*d));
	rc = p9_parse(spec, d->tag, path, sizeof(path), err);
	if (rc == 0)
		rc = vio_9p_peer_open(&d->peer, path, err);
	if (rc) {
		free(d);
		return rc;
	}
	d->dev.kind = &vio_kind_9p;
	snprintf(d->dev.what, sizeof(d->dev.what), "%.32s, of the 9P server at %.100s", d->tag,
		 path);
	*out = &d->dev;
	return 0;
}

static void p9_close(struct vio_device *dev)
{
	vio_9p_peer_close(&vio_9p_of(dev)->peer);
	free(vio_9p_of(dev));
}

static uint16_t p9_queues(const struct vio_device *dev, uint16_t most)
{
	(void)dev, (void)most;
	return 1;
}

static void p9_show(const struct vio_device *dev, struct vio_show *s)
{
	const struct vio_9p *d = vio_9p_of(dev);
	const struct vio_9p_peer *p = &d->peer;

	s->text(s, "kind", "9p");
	s->text(s, "what", dev->what);
	s->num(s, "connected", vio_load_relaxed(&p->connected));
	s->num(s, "connections", vio_load_relaxed(&p->connections));
	s->num(s, "refused", vio_load_relaxed(&p->refused));
	s->num(s, "losses", vio_load_relaxed(&p->losses));
	s->num(s, "messages", vio_load_relaxed(&d->messages));
	s->num(s, "flushed", vio_load_relaxed(&d->flushed));
	s->num(s, "failed", vio_load_relaxed(&d->failed));
	s->num(s, "bytes_to_server", vio_load_relaxed(&p->bytes_out));
	s->num(s, "bytes_from_server", vio_load_relaxed(&p->bytes_in));
}

static uint64_t p9_features(const struct vio_device *dev)
{
	(void)dev;
	return 1ull << VIRTIO_9P_MOUNT_TAG;
}

static uint16_t p9_config(const struct vio_device *dev, uint16_t num_queues, uint8_t *out)
{
	const struct vio_9p *d = vio_9p_of(dev);
	const uint16_t len = (uint16_t)strlen(d->tag), le = vio_le16(len);

	(void)num_queues;
	static_assert(sizeof(struct virtio_9p_config) + VIO_9P_TAG_MAX <= VIO_MAX_CONFIG,
		      "config space fits");
	memcpy(out, &le, sizeof(le));
	memcpy(out + offsetof(struct virtio_9p_config, tag), d->tag, len);
	return (uint16_t)(sizeof(struct virtio_9p_config) + len);
}

static int p9_queue_open(struct vio_device *dev, unsigned depth, struct vio_dev_queue **out,
			 struct vio_err *err)
{
	struct vio_9p_queue *pq = calloc(1, sizeof(*pq));

	if (pq)
		pq->slot = calloc(depth, sizeof(*pq->slot));
	if (!pq || !pq->slot) {
		free(pq);
		return vio_err_set(err, -ENOMEM, "no memory for its queue");
	}
	pq->dq.dev = dev;
	pq->depth = depth;
	*out = &pq->dq;
	return 0;
}

/* The server need not keep what the guest has open. */
static void p9_queue_close(struct vio_dev_queue *dq)
{
	struct vio_9p_queue *pq = vio_container_of(dq, struct vio_9p_queue, dq);

	vio_9p_peer_session(&vio_9p_of(dq->dev)->peer, false);
	free(pq->slot);
	free(pq);
}

static void p9_queue_on(struct vio_squeue *q)
{
	vio_store_release(&vio_9p_of(q->dq->dev)->peer.vcpu, q->vcpu); /* pair L */
}

static void p9_queue_off(struct vio_squeue *q)
{
	vio_store_release(&vio_9p_of(q->dq->dev)->peer.vcpu, NULL);
}

const struct vio_dev_kind vio_kind_9p = {
	.row = {"9p", "tag=NAME,socket=PATH",
		"a shared folder that the guest mounts as NAME: 9P messages, carried to a server (diod) at a UNIX socket",
		VIO_OPTION_CALL, .set = vio_dev_option},
	.noun = "shared folder",
	.type = VIRTIO_ID_9P,
	.min_proto = VIO_PROTO_V1,
	.queue = &vio_9p_queue_ops,
	.open = p9_open,
	.close = p9_close,
	.queues = p9_queues,
	.show = p9_show,
	.features = p9_features,
	.config = p9_config,
	.queue_open = p9_queue_open,
	.queue_close = p9_queue_close,
	.queue_on = p9_queue_on,
	.queue_off = p9_queue_off,
};
