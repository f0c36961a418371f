// SPDX-License-Identifier: GPL-2.0
/*
 * virtio_config_ops: the configuration sequence of the 2010 slides. What the driver core sets in the
 * device's status becomes a message:
 *
 *   before registration   PROBE          (virtio_vio_probe(): type, queues, features, sizes)
 *   ACKNOWLEDGE           ACKNOWLEDGE    (config space)
 *   DRIVER                DRIVER
 *   FEATURES_OK           FEATURES_OK    (choice of features and levels, in the header), windows
 *   DRIVER_OK             QUEUE..., DRIVER_OK
 *   0                     RESET
 */
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "virtio_vio.h"

#define VV_NEEDED (BIT_ULL(VIRTIO_F_VERSION_1) | BIT_ULL(VIRTIO_F_ACCESS_PLATFORM))

/* ------------------------------------------------------------------------- the header */

static int vv_read_header(struct vv *vv)
{
	struct vio_dev_header_v2 h;
	struct vio_dev_header_tail tail;
	const struct vv_arm *a = vv->arm;

	/* Once, into a copy: the server may write it again. */
	memcpy(&h, vv_page(vv, VV_HEADER), sizeof(h));
	memcpy(&tail, vv_page(vv, VV_HEADER) + sizeof(h), sizeof(tail));
	barrier();
	vv->type = h.type;
	vv->num_queues = vio_from_be16(h.num_vqs);
	vv->queue_size = vio_from_be16(h.vqs_size);
	vv->config_len = vio_from_be16(h.config_len);
	vv->features = vio_from_be64(h.device_features);
	memcpy(vv->identity, tail.identity, sizeof(vv->identity));
	vv->unfenced = tail.flags & VIO_HEADER_UNFENCED;
	if (!vv->num_queues || vv->num_queues > VIO_MAX_QUEUES || vv->queue_size < 4 ||
	    vv->queue_size > VIO_MAX_QUEUE_SIZE || !is_power_of_2(vv->queue_size) ||
	    vv->config_len > VIO_MAX_CONFIG) {
		dev_err(vv->dev, "the server's device header makes no sense\n");
		return -EPROTO;
	}
	if (!(h.ring_levels >> a->ring & 1) || !(h.payload_levels >> a->payload & 1) ||
	    !(h.notify_levels >> a->notify & 1)) {
		dev_err(vv->dev, "the server does not offer arm %s; load with another arm=\n",
			a->name);
		return -EOPNOTSUPP;
	}
	if ((vv->features & VV_NEEDED) != VV_NEEDED) {
		dev_err(vv->dev, "the device lacks VERSION_1 or ACCESS_PLATFORM (%#llx)\n",
			vv->features);
		return -EOPNOTSUPP;
	}
	return 0;
}

int vv_probe_device(struct vv *vv)
{
	struct vio_msg m = {
		.op = VIO_OP_PROBE,
		.arg16 = VIO_DEV_HEADER_BYTES,
		.arg = vv->page_at[VV_HEADER],
	};
	int rc;

	memset(vv_page(vv, VV_HEADER), 0, VIO_DEV_HEADER_BYTES);
	rc = vv_ask(vv, &m);
	if (rc)
		return rc;
	if (vv->fsm.version != VIO_PROTO_V2) {
		dev_err(vv->dev, "the server speaks version %u of the protocol only\n",
			vv->fsm.version);
		return -EOPNOTSUPP;
	}
	return vv_read_header(vv);
}

static void vv_write_choice(struct vv *vv)
{
	struct vio_dev_header_v2 *h = vv_page(vv, VV_HEADER);

	h->guest_features = vio_to_be64(vv->d->vdev.features);
	h->ring = vv->arm->ring;
	h->payload = vv->arm->payload;
	h->notify = vv->arm->notify;
}

/* ------------------------------------------------------------------------------ steps */

static int vv_step_acknowledge(struct vv *vv)
{
	struct vio_msg m = {
		.op = VIO_OP_ACKNOWLEDGE,
		.arg16 = vv->config_len,
		.arg = vv->page_at[VV_CONFIG],
	};
	int rc = 0;

	/* The first time PROBE came before, because the device's type was wanted. */
	if (vv_gstate(vv) == VIO_G_IDLE)
		rc = vv_probe_device(vv);
	return rc ?: vv_ask(vv, &m);
}

static int vv_step_driver(struct vv *vv)
{
	struct vio_msg m = { .op = VIO_OP_DRIVER };

	return vv_send(vv, &m);
}

static int vv_step_features_ok(struct vv *vv)
{
	struct vio_msg m = { .op = VIO_OP_FEATURES_OK };
	int rc;

	vv_write_choice(vv);
	rc = vv_ask(vv, &m);
	return rc ?: vv_windows_announce(vv);
}

static int vv_start_queues(struct vv *vv, bool resume)
{
	struct vio_msg m = { .op = VIO_OP_DRIVER_OK };
	struct vio_msg kick = { .version = VIO_PROTO_V2, .op = VIO_OP_KICK };
	unsigned long flags;
	u32 session = READ_ONCE(vv->session);
	u64 hi, lo;
	int rc = vv_announce_queues(vv, resume);

	vio_msg_encode(&kick, &hi, &lo);
	WRITE_ONCE(vv->kick_hi, hi);
	if (!rc)
		rc = vv_ask(vv, &m);
	if (rc)
		return rc;
	spin_lock_irqsave(&vv->lock, flags);
	if (vv->session == session && vv->state == VV_UP)
		WRITE_ONCE(vv->state, VV_RUNNING);
	spin_unlock_irqrestore(&vv->lock, flags);
	return 0;
}

static int vv_step_driver_ok(struct vv *vv)
{
	return vv_start_queues(vv, false);
}

/* In the order of the sequence. */
static const struct vv_step {
	u8 bit;
	int (*run)(struct vv *vv);
} vv_steps[] = {
	{ VIRTIO_CONFIG_S_ACKNOWLEDGE, vv_step_acknowledge },
	{ VIRTIO_CONFIG_S_DRIVER, vv_step_driver },
	{ VIRTIO_CONFIG_S_FEATURES_OK, vv_step_features_ok },
	{ VIRTIO_CONFIG_S_DRIVER_OK, vv_step_driver_ok },
};

/* --------------------------------------------------------------------- config_ops */

static u8 vv_get_status(struct virtio_device *vdev)
{
	struct vv *vv = to_vv(vdev);

	return vv->status | (READ_ONCE(vv->state) == VV_STOPPED ? VIRTIO_CONFIG_S_NEEDS_RESET : 0);
}

/* A driver does not look whether DRIVER_OK went well. */
static void vv_not_started(struct vv *vv, int rc)
{
	if (rc == -ENOTCONN) { /* the next server starts it, as one that was running */
		vv->status |= VIRTIO_CONFIG_S_DRIVER_OK;
		mod_delayed_work(system_long_wq, &vv->work, 0);
		return;
	}
	dev_err(vv->dev, "the device does not start (%d)\n", rc);
	virtio_break_device(&vv->d->vdev);
}

static void vv_set_status_locked(struct vv *vv, u8 status)
{
	struct vio_dev_header_v2 *h = vv_page(vv, VV_HEADER);
	u8 new = status & ~vv->status;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(vv_steps); i++) {
		const struct vv_step *s = &vv_steps[i];
		int rc;

		if (!(new & s->bit))
			continue;
		rc = s->run(vv);
		if (rc) {
			/* FEATURES_OK stays clear, which is how a driver learns of it. */
			if (s->bit == VIRTIO_CONFIG_S_DRIVER_OK)
				vv_not_started(vv, rc);
			return;
		}
		vv->status |= s->bit;
	}
	vv->status |= status;
	h->device_status = vv->status;
}

static void vv_set_status(struct virtio_device *vdev, u8 status)
{
	struct vv *vv = to_vv(vdev);

	mutex_lock(&vv->life);
	vv_set_status_locked(vv, status);
	mutex_unlock(&vv->life);
}

/* Nothing has been agreed that a driver could find there. */
static bool vv_fresh(struct vv *vv)
{
	enum vio_gstate s = vv_gstate(vv);

	return s == VIO_G_IDLE || s == VIO_G_PROBED;
}

static void vv_reset(struct virtio_device *vdev)
{
	struct vio_msg m = { .op = VIO_OP_RESET };
	struct vv *vv = to_vv(vdev);
	unsigned long flags;
	int rc = 0;

	mutex_lock(&vv->life);
	vv->status = 0;
	spin_lock_irqsave(&vv->lock, flags);
	if (vv->state == VV_RUNNING)
		WRITE_ONCE(vv->state, VV_UP); /* no more kicks */
	spin_unlock_irqrestore(&vv->lock, flags);
	if (!vv_fresh(vv)) {
		rc = vv_ask(vv, &m);
		if (rc && rc != -ENOTCONN) {
			/* No answer: PAPR's own reset. The server gets the transport event. */
			dev_warn(vv->dev, "no answer to RESET: the CRQ is registered anew\n");
			vv_crq_close(vv);
			vv_crq_open(vv);
		} else if (!rc) {
			spin_lock_irqsave(&vv->lock, flags);
			vio_gfsm_init(&vv->fsm, VIO_PROTO_LATEST);
			vv->session++;
			WRITE_ONCE(vv->state, VV_UP);
			spin_unlock_irqrestore(&vv->lock, flags);
		}
	}
	vv_windows_void_all(vv);
	vio_hv_synchronize();
	mutex_unlock(&vv->life);
}

/* ------------------------------------------------------------------- a server is back */

/* What answers is what was there before, as far as it can tell. */
static bool vv_same_device(struct vv *vv, u8 type, const u8 *identity, u16 num_queues)
{
	if (vv->type == type && !memcmp(vv->identity, identity, sizeof(vv->identity)) &&
	    vv->num_queues >= num_queues && !(vv->d->vdev.features & ~vv->features))
		return true;
	dev_err(vv->dev, "the server is back with another device; requests wait for the right one\n");
	return false;
}

static int vv_resume_steps(struct vv *vv)
{
	u8 type = vv->type, identity[sizeof(vv->identity)];
	u16 num_queues = vv->num_queues;
	int rc;

	memcpy(identity, vv->identity, sizeof(identity));
	rc = vv_probe_device(vv);
	if (!rc && !vv_same_device(vv, type, identity, num_queues))
		rc = -ENODEV;
	if (!rc && vv->unfenced)
		rc = -EBUSY;
	if (rc) {
		vv->type = type;
		vv->num_queues = num_queues;
		memcpy(vv->identity, identity, sizeof(identity));
		return rc;
	}
	rc = vv_step_acknowledge(vv);
	rc = rc ?: vv_step_driver(vv);
	rc = rc ?: vv_step_features_ok(vv);
	return rc ?: vv_start_queues(vv, true);
}

void vv_resume(struct vv *vv)
{
	struct vio_msg m = { .op = VIO_OP_RESET };
	int rc;

	mutex_lock(&vv->life);
	if (!(vv->status & VIRTIO_CONFIG_S_DRIVER_OK) || vv_gstate(vv) != VIO_G_IDLE ||
	    READ_ONCE(vv->state) != VV_UP) {
		mutex_unlock(&vv->life);
		return;
	}
	rc = vv_resume_steps(vv);
	if (rc == -EIO)
		virtio_break_device(&vv->d->vdev);
	if (rc && rc != -ENOTCONN) {
		dev_err(vv->dev, "the device can't go on with this server (%d)\n", rc);
		vv_ask(vv, &m); /* and wait until it goes, and another one comes */
		if (rc == -EBUSY || rc == -ENOMEM)
			queue_delayed_work(system_long_wq, &vv->work, VV_AGAIN_S * HZ);
	}
	mutex_unlock(&vv->life);
	if (rc)
		return;
	dev_info(vv->dev, "the server is back: the device goes on\n");
	vv_stir_queues(vv);
}

static u64 vv_get_features(struct virtio_device *vdev)
{
	struct vv *vv = to_vv(vdev);
	u64 f = vv->features & ~BIT_ULL(VIRTIO_F_IN_ORDER);

	if (!vv->arm->event_idx)
		f &= ~BIT_ULL(VIRTIO_RING_F_EVENT_IDX);
	if (!vv->packed)
		f &= ~BIT_ULL(VIRTIO_F_RING_PACKED);
	return f;
}

static int vv_finalize_features(struct virtio_device *vdev)
{
	struct vv *vv = to_vv(vdev);

	vring_transport_features(vdev);
	vv->packed_agreed = virtio_has_feature(vdev, VIRTIO_F_RING_PACKED);
	if ((vdev->features & VV_NEEDED) == VV_NEEDED)
		return 0;
	dev_err(vv->dev, "the driver does not take VERSION_1 and ACCESS_PLATFORM\n");
	return -EINVAL;
}

static void vv_get(struct virtio_device *vdev, unsigned int offset, void *buf, unsigned int len)
{
	struct vv *vv = to_vv(vdev);

	memset(buf, 0, len);
	if (offset > vv->config_len)
		return;
	memcpy(buf, vv_page(vv, VV_CONFIG) + offset, min(len, vv->config_len - offset));
}

static void vv_set(struct virtio_device *vdev, unsigned int offset, const void *buf,
		   unsigned int len)
{
	struct vio_msg m = { .op = VIO_OP_CONFIG_SET, .arg8 = len, .arg16 = offset };
	__le64 value = 0;

	if (!len || len > sizeof(value))
		return;
	memcpy(&value, buf, len);
	m.arg = le64_to_cpu(value);
	vv_ask(to_vv(vdev), &m);
}

static u32 vv_generation(struct virtio_device *vdev)
{
	return READ_ONCE(to_vv(vdev)->config_changes);
}

static const char *vv_bus_name(struct virtio_device *vdev)
{
	return dev_name(to_vv(vdev)->dev);
}

static void vv_synchronize_cbs(struct virtio_device *vdev)
{
	struct vv *vv = to_vv(vdev);

	vio_hv_synchronize();
	/* The worker drains too. */
	spin_lock_irq(&vv->queues_lock);
	spin_unlock_irq(&vv->queues_lock);
}

const struct virtio_config_ops vv_config_ops = {
	.get = vv_get,
	.set = vv_set,
	.generation = vv_generation,
	.get_status = vv_get_status,
	.set_status = vv_set_status,
	.reset = vv_reset,
	.find_vqs = vv_find_vqs,
	.del_vqs = vv_del_vqs,
	.synchronize_cbs = vv_synchronize_cbs,
	.get_features = vv_get_features,
	.finalize_features = vv_finalize_features,
	.bus_name = vv_bus_name,
};
