/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The configuration steps of the slides, server side. What the guest wrote is read once, by RDMA,
 * into a private copy.
 */
#include <string.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "server/head/adapter_priv.h"
#include "server/payload/snapshot.h"
#include "server/ring/ring.h"

/* Without these a version 2 device would not be what it says: 1.x layout, addresses that are IOBAs. */
#define NEEDED (1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_F_ACCESS_PLATFORM)
#define RING   (1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VIRTIO_RING_F_EVENT_IDX)

uint64_t vio_aoffer(const struct vio_adapter *a)
{
	return a->cfg.dev->kind->features(a->cfg.dev) | NEEDED | RING | vio_layout_features();
}

/* Version 1 has 32 bits of them, and no message by which a driver could write config space. */
static uint64_t offered(const struct vio_adapter *a)
{
	if (a->fsm.version == VIO_PROTO_V1)
		return a->offered & UINT32_MAX & ~a->cfg.dev->kind->config_set_features;
	return a->offered;
}

static void negotiated(const struct vio_adapter *a, uint64_t features)
{
	if (a->cfg.dev->kind->negotiated)
		a->cfg.dev->kind->negotiated(a->cfg.dev, features);
}

/* Config space as it is now, to where the guest wants it. */
static uint8_t write_config(struct vio_adapter *a)
{
	uint8_t config[VIO_MAX_CONFIG] = {0};
	uint16_t len = a->cfg.dev->kind->config(a->cfg.dev, a->cfg.num_queues, config);

	return len ? vio_awrite(a, a->config, config, len) : VIO_ST_OK; /* an rng has none */
}

static uint8_t write_v1(struct vio_adapter *a, uint16_t config_len)
{
	const struct vio_dev_header_v1 h = {
		.type = a->cfg.dev->kind->type,
		.num_vqs = (uint8_t)a->cfg.num_queues,
		.vqs_size = (uint8_t)__builtin_ctz(a->cfg.queue_size),
		.device_features = vio_to_be32((uint32_t)offered(a)),
		.config_len = (uint8_t)config_len,
	};
	uint8_t why =
		vio_awrite(a, a->header, &h, offsetof(struct vio_dev_header_v1, guest_features));

	if (why != VIO_ST_OK)
		return why;
	return vio_awrite(a, ioba_add(a->header, offsetof(struct vio_dev_header_v1, config_len)),
			  &h.config_len, 1);
}

/* Only the server's fields, so that nothing of the guest's is overwritten. */
static uint8_t write_v2(struct vio_adapter *a, uint16_t config_len)
{
	const struct vio_dev_header_v2 h = {
		.type = a->cfg.dev->kind->type,
		.num_vqs = vio_to_be16(a->cfg.num_queues),
		.vqs_size = vio_to_be16(a->cfg.queue_size),
		.config_len = vio_to_be16(config_len),
		.device_features = vio_to_be64(offered(a)),
		.ring_levels = a->cfg.ring_levels,
		.payload_levels = a->cfg.payload_levels,
		.notify_levels = a->cfg.notify_levels,
	};
	const size_t num = offsetof(struct vio_dev_header_v2, num_vqs);
	const size_t guest = offsetof(struct vio_dev_header_v2, guest_features);
	const size_t levels = offsetof(struct vio_dev_header_v2, ring_levels);
	uint8_t why = vio_awrite(a, a->header, &h, 1);

	if (why == VIO_ST_OK)
		why = vio_awrite(a, ioba_add(a->header, num), (const uint8_t *)&h + num,
				 (uint32_t)(guest - num));
	if (why == VIO_ST_OK)
		why = vio_awrite(a, ioba_add(a->header, levels), (const uint8_t *)&h + levels, 3);
	return why;
}

static uint32_t header_bytes(const struct vio_adapter *a)
{
	return a->fsm.version == VIO_PROTO_V1 ? sizeof(struct vio_dev_header_v1)
					      : sizeof(struct vio_dev_header_v2);
}

static uint8_t write_tail(struct vio_adapter *a)
{
	const struct vio_device *dev = a->cfg.dev;
	struct vio_dev_header_tail t = {
		.flags = (uint8_t)((dev->unfenced ? VIO_HEADER_UNFENCED : 0) |
				   (dev->by_name ? VIO_HEADER_BY_NAME : 0))};

	memcpy(t.identity, dev->identity, sizeof(t.identity));
	return vio_awrite(a, ioba_add(a->header, sizeof(struct vio_dev_header_v2)), &t, sizeof(t));
}

uint8_t vio_aprobe(struct vio_adapter *a, const struct vio_msg *m)
{
	uint8_t config[VIO_MAX_CONFIG], why;

	if (m->arg16 < header_bytes(a))
		return VIO_ST_BAD_MESSAGE;
	if (a->fsm.version < a->cfg.dev->kind->min_proto) {
		vio_asay(a, "%s: speaks protocol version %u, but device %s needs version %u",
			 a->u->partner, a->fsm.version, a->cfg.dev->kind->noun,
			 a->cfg.dev->kind->min_proto);
		return VIO_ST_BAD_VERSION;
	}
	a->header = (struct ioba){m->arg};
	negotiated(a, offered(a));
	a->config_len = a->cfg.dev->kind->config(a->cfg.dev, a->cfg.num_queues, config);
	if (a->fsm.version == VIO_PROTO_V1)
		return write_v1(a, a->config_len);
	why = write_v2(a, a->config_len);
	return why == VIO_ST_OK && m->arg16 >= VIO_DEV_HEADER_BYTES ? write_tail(a) : why;
}

uint8_t vio_aconfig(struct vio_adapter *a, const struct vio_msg *m)
{
	if (m->arg16 < a->config_len)
		return VIO_ST_BAD_MESSAGE;
	a->config = (struct ioba){m->arg};
	return write_config(a);
}

uint8_t vio_aconfig_set(struct vio_adapter *a, const struct vio_msg *m)
{
	const struct vio_dev_kind *kind = a->cfg.dev->kind;

	if (!kind->config_set ||
	    !kind->config_set(a->cfg.dev, a->features, m->arg16, m->arg8, m->arg))
		return VIO_ST_BAD_MESSAGE;
	return write_config(a); /* the driver reads what it wrote */
}

void vio_aconfig_again(struct vio_adapter *a)
{
	const struct vio_msg m = {.version = a->fsm.version, .op = VIO_OP_CONFIG};

	if (a->config.v == 0 || a->fsm.state < VIO_S_ACKED || a->fsm.state > VIO_S_RUNNING)
		return; /* it reads the new one when it comes to it */
	if (write_config(a) == VIO_ST_OK)
		vio_asend_msg(a, &m);
}

struct choice {
	uint64_t features;
	uint8_t ring, payload, notify;
};

static uint8_t read_choice(struct vio_adapter *a, struct choice *c)
{
	uint64_t buf[PHYP_REGS];
	struct vio_dev_header_v1 v1;
	struct vio_dev_header_v2 v2;
	uint8_t why = vio_aread(a, a->header, header_bytes(a), buf);

	static_assert(sizeof(v2) <= H_READ_RDMA_MAX, "the header fits the registers");
	if (why != VIO_ST_OK)
		return why;
	if (a->fsm.version == VIO_PROTO_V1) {
		memcpy(&v1, buf, sizeof(v1));
		*c = (struct choice){vio_from_be32(v1.guest_features), VIO_RING_COPY,
				     VIO_PAYLOAD_RDMA, VIO_NOTIFY_CRQ};
	} else {
		memcpy(&v2, buf, sizeof(v2));
		*c = (struct choice){vio_from_be64(v2.guest_features), v2.ring, v2.payload,
				     v2.notify};
	}
	return VIO_ST_OK;
}

static uint8_t judge(const struct vio_adapter *a, const struct choice *c)
{
	if (c->features & ~offered(a))
		return VIO_ST_FEATURES;
	if (a->fsm.version != VIO_PROTO_V1 && (c->features & NEEDED) != NEEDED)
		return VIO_ST_FEATURES;
	if (a->cfg.dev->kind->features_ok &&
	    !a->cfg.dev->kind->features_ok(a->cfg.dev, c->features))
		return VIO_ST_FEATURES;
	if (c->ring >= VIO_N_RING || c->payload >= VIO_N_PAYLOAD || c->notify >= VIO_N_NOTIFY)
		return VIO_ST_LEVELS;
	if (!(a->cfg.ring_levels >> c->ring & 1) || !(a->cfg.payload_levels >> c->payload & 1) ||
	    !(a->cfg.notify_levels >> c->notify & 1))
		return VIO_ST_LEVELS;
	return VIO_ST_OK;
}

static void accept_choice(struct vio_adapter *a, const struct choice *c)
{
	a->features = c->features;
	a->ring = c->ring;
	a->payload = c->payload;
	a->notify = c->notify;
}

uint8_t vio_achoice(struct vio_adapter *a)
{
	struct choice c;
	uint8_t why = read_choice(a, &c);

	if (why == VIO_ST_OK)
		why = judge(a, &c);
	if (why != VIO_ST_OK)
		return why;
	if (!VIO_SNAPSHOTS && read_choice(a, &c) != VIO_ST_OK)
		return VIO_ST_NO_DMA;
	accept_choice(a, &c);
	if (!a->cfg.dev->kind->negotiated)
		return VIO_ST_OK;
	negotiated(a, a->features);
	return write_config(a);
}

uint8_t vio_achoice_again(struct vio_adapter *a)
{
	struct choice c;
	uint8_t why = read_choice(a, &c);

	if (why != VIO_ST_OK)
		return why;
	if (a->fsm.version == VIO_PROTO_V1) {
		why = judge(a, &c);
		if (why == VIO_ST_OK)
			accept_choice(a, &c);
		return why;
	}
	if (c.features != a->features)
		return VIO_ST_FEATURES;
	if (c.ring != a->ring || c.payload != a->payload || c.notify != a->notify)
		return VIO_ST_LEVELS;
	return VIO_ST_OK;
}

uint8_t vio_aqueue_part(struct vio_adapter *a, const struct vio_msg *m)
{
	static const uint64_t align[] = {
		[VIO_QUEUE_DESC] = VRING_DESC_ALIGN_SIZE,
		[VIO_QUEUE_AVAIL] = VRING_AVAIL_ALIGN_SIZE,
		[VIO_QUEUE_USED] = VRING_USED_ALIGN_SIZE,
	};
	struct vio_aplace *p;

	if (m->arg16 >= a->cfg.num_queues || m->arg8 > VIO_QUEUE_BASE)
		return VIO_ST_QUEUE;
	p = &a->place[m->arg16];
	if (m->arg8 == VIO_QUEUE_BASE) {
		if (m->arg > UINT16_MAX || !vio_ring_has_base(a->features))
			return VIO_ST_QUEUE;
		p->base = (uint16_t)m->arg;
		return VIO_ST_OK;
	}
	if (m->arg8 == VIO_QUEUE_SIZE) {
		if (a->fsm.version == VIO_PROTO_V1)
			return VIO_ST_BAD_MESSAGE;
		if (m->arg < 2 || m->arg > a->cfg.queue_size || (m->arg & (m->arg - 1)))
			return VIO_ST_QUEUE;
		p->size = (uint16_t)m->arg;
		return VIO_ST_OK;
	}
	if (m->arg % align[m->arg8])
		return VIO_ST_QUEUE;
	p->part[m->arg8] = (struct ioba){m->arg};
	p->have |= (uint8_t)(1u << m->arg8);
	return VIO_ST_OK;
}

void vio_aforget(struct vio_adapter *a)
{
	a->features = 0;
	a->header = a->config = (struct ioba){0};
	a->config_len = 0;
	a->ring = a->payload = a->notify = 0;
	memset(a->place, 0, a->cfg.num_queues * sizeof(a->place[0]));
}
