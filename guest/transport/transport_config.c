/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The slides' device configuration sequence, guest side. Each step waits for its answer; what the
 * server wrote is read once into a private copy, then judged.
 */
#include <string.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>

#include "guest/transport/transport_priv.h"
#include "notify/notify.h"
#include "vio/cycles.h"

/* Without these a version 2 device would not be what it says: 1.x layout, addresses that are IOBAs. */
#define NEEDED (1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_F_ACCESS_PLATFORM)

/* What the server says it has, in either version. */
struct offer {
	uint64_t features;
	uint8_t ring, payload, notify; /* level masks */
};

/* ------------------------------------------------------------------------- header ---- */

/* Written for whoever looks at the header; the server never reads it. */
static void set_status(struct vio_transport *t, uint8_t bits)
{
	size_t off = t->info.version == VIO_PROTO_V1
			     ? offsetof(struct vio_dev_header_v1, device_status)
			     : offsetof(struct vio_dev_header_v2, device_status);
	uint8_t s;

	vio_t_get(&s, (uint8_t *)vio_t_page(t, VIO_T_HEADER) + off, 1);
	s |= bits;
	vio_t_put((uint8_t *)vio_t_page(t, VIO_T_HEADER) + off, &s, 1);
}

static void read_v1(struct vio_transport *t, struct offer *o)
{
	struct vio_transport_info *i = &t->info;
	struct vio_dev_header_v1 h;

	vio_t_get(&h, vio_t_page(t, VIO_T_HEADER), sizeof(h));
	i->type = h.type;
	i->num_queues = h.num_vqs;
	i->queue_size = 0;
	if (h.vqs_size < 16)
		i->queue_size = (uint16_t)(1u << h.vqs_size);
	i->config_len = h.config_len;
	*o = (struct offer){vio_from_be32(h.device_features), 1u << VIO_RING_COPY,
			    1u << VIO_PAYLOAD_RDMA, 1u << VIO_NOTIFY_CRQ};
}

static void read_v2(struct vio_transport *t, struct offer *o)
{
	struct vio_transport_info *i = &t->info;
	struct vio_dev_header_tail tail;
	struct vio_dev_header_v2 h;

	vio_t_get(&h, vio_t_page(t, VIO_T_HEADER), sizeof(h));
	i->type = h.type;
	i->num_queues = vio_from_be16(h.num_vqs);
	i->queue_size = vio_from_be16(h.vqs_size);
	i->config_len = vio_from_be16(h.config_len);
	vio_t_get(&tail, (uint8_t *)vio_t_page(t, VIO_T_HEADER) + sizeof(h), sizeof(tail));
	memcpy(i->identity, tail.identity, sizeof(i->identity));
	i->unfenced = tail.flags & VIO_HEADER_UNFENCED;
	i->by_name = tail.flags & VIO_HEADER_BY_NAME;
	*o = (struct offer){vio_from_be64(h.device_features), h.ring_levels, h.payload_levels,
			    h.notify_levels};
}

static int read_header(struct vio_transport *t, struct offer *o, struct vio_err *err)
{
	struct vio_transport_info *i = &t->info;
	uint16_t offered;

	if (i->version == VIO_PROTO_V1)
		read_v1(t, o);
	else
		read_v2(t, o);
	if (t->cfg.type && i->type != t->cfg.type)
		return vio_err_set(err, -ENODEV,
				   "unit %u is %s: virtio device type %u, expected %u", t->cfg.unit,
				   t->cfg.type == VIRTIO_ID_BLOCK ? "not a disk"
								  : "of another kind",
				   i->type, t->cfg.type);
	offered = i->queue_size;
	if (i->num_queues == 0 || i->num_queues > VIO_MAX_QUEUES || offered < 4 ||
	    offered > VIO_MAX_QUEUE_SIZE || (offered & (offered - 1)) ||
	    i->config_len > VIO_MAX_CONFIG)
		return vio_err_set(
			err, -EPROTO,
			"the VIO server's device header makes no sense: type %u, %u queues of %u, %u bytes of config space",
			i->type, i->num_queues, offered, i->config_len);
	if (t->cfg.num_queues && t->cfg.num_queues < i->num_queues)
		i->num_queues = t->cfg.num_queues;
	if (i->version == VIO_PROTO_V1 || t->cfg.queue_size == 0)
		return 0; /* version 1 can't say a size */
	if (t->cfg.queue_size < i->queue_size)
		i->queue_size = t->cfg.queue_size;
	return 0;
}

/* ------------------------------------------------------------------- arm and features ---- */

static const struct vio_arm *named(const char *name)
{
	const struct vio_arm *a;

	for (unsigned i = 0; (a = vio_arm_named(i)); i++)
		if (strcmp(a->name, name) == 0)
			return a;
	return NULL;
}

static bool offers(const struct offer *o, const struct vio_arm *a)
{
	return !(vio_arm_features(a) & ~o->features) && (o->ring >> a->ring & 1) &&
	       (o->payload >> a->payload & 1) && (o->notify >> a->notify & 1);
}

static int refuse_arm(const struct vio_transport *t, const struct offer *o, struct vio_err *err)
{
	const struct vio_arm *a = &t->cfg.arm;

	return vio_err_set(
		err, -ENOTSUP,
		"the VIO server does not offer arm %s (protocol %u:%s%s%s%s%s%s%s%s); choose another arm, let vios --allow it, or go on with copy (--fallback)",
		a->name, t->info.version, o->ring >> a->ring & 1 ? "" : " ring=",
		o->ring >> a->ring & 1 ? "" : vio_ring_name(a->ring),
		o->payload >> a->payload & 1 ? "" : " payload=",
		o->payload >> a->payload & 1 ? "" : vio_payload_name(a->payload),
		o->notify >> a->notify & 1 ? "" : " notify=",
		o->notify >> a->notify & 1 ? "" : vio_notify_name(a->notify),
		vio_arm_features(a) & ~o->features ? " layout=" : "",
		vio_arm_features(a) & ~o->features ? vio_layout_name(a->layout) : "");
}

/*
 * The arm in force: the wanted one, or copy. A version 1 server has the copy levels and no word for
 * others. The mapping lifetime is the guest's own affair, so an arm that wanted copies anyway keeps
 * it; of a zero-copy arm nothing is kept.
 */
static int choose_arm(struct vio_transport *t, const struct offer *o, struct vio_err *err)
{
	const struct vio_arm *want = &t->cfg.arm, *copy = named("copy");
	struct vio_arm *arm = &t->info.arm;

	*arm = *want;
	if (offers(o, want))
		return 0;
	if (t->cfg.strict_arm)
		return refuse_arm(t, o, err);
	*arm = *copy;
	if (t->info.version == VIO_PROTO_V1 && !vio_ring_in_place(want->ring) &&
	    !vio_payload_in_place(want->payload) && !vio_notify_level(want->notify)->looks &&
	    want->mapping != copy->mapping) {
		arm->mapping = want->mapping;
		snprintf(arm->name, sizeof(arm->name), "custom");
	}
	if (!offers(o, arm))
		return refuse_arm(t, o, err);
	vio_t_say(
		t,
		"the VIO server does not offer arm %s (protocol %u); falling back to %s: mapping=%s, payload=%s, ring=%s, notify=%s",
		want->name, t->info.version, arm->name, vio_mapping_name(arm->mapping),
		vio_payload_name(arm->payload), vio_ring_name(arm->ring),
		vio_notify_name(arm->notify));
	return 0;
}

static int choose_features(struct vio_transport *t, const struct offer *o, struct vio_err *err)
{
	uint64_t want = t->cfg.features & ~(1ull << VIRTIO_RING_F_EVENT_IDX | NEEDED);

	if (!vio_notify_level(t->info.arm.notify)->always)
		want |= 1ull << VIRTIO_RING_F_EVENT_IDX;
	want = (want & ~vio_layout_features()) | vio_arm_features(&t->info.arm);
	if (t->info.version == VIO_PROTO_V1) {
		t->info.features = want & o->features & UINT32_MAX;
		return 0;
	}
	if ((o->features & NEEDED) != NEEDED)
		return vio_err_set(
			err, -ENOTSUP,
			"the VIO server's device lacks VIRTIO_F_VERSION_1 or VIRTIO_F_ACCESS_PLATFORM (features 0x%llx); version 2 needs both",
			(unsigned long long)o->features);
	t->info.features = (want & o->features) | NEEDED;
	return 0;
}

static void write_choice(struct vio_transport *t)
{
	uint8_t *h = vio_t_page(t, VIO_T_HEADER);
	const struct vio_arm *a = &t->info.arm;

	if (t->info.version == VIO_PROTO_V1) {
		struct be32 f = vio_to_be32((uint32_t)t->info.features);

		vio_t_put(h + offsetof(struct vio_dev_header_v1, guest_features), &f, sizeof(f));
	} else {
		struct be64 f = vio_to_be64(t->info.features);
		const uint8_t levels[3] = {(uint8_t)a->ring, (uint8_t)a->payload,
					   (uint8_t)a->notify};

		static_assert(offsetof(struct vio_dev_header_v2, notify) ==
				      offsetof(struct vio_dev_header_v2, ring) + 2,
			      "ring, payload, notify");
		vio_t_put(h + offsetof(struct vio_dev_header_v2, guest_features), &f, sizeof(f));
		vio_t_put(h + offsetof(struct vio_dev_header_v2, ring), levels, sizeof(levels));
	}
}

/* -------------------------------------------------------------------------- steps ---- */

static int wait_for_server(struct vio_transport *t, struct vio_err *err)
{
	uint64_t since = vio_now_ns(), used;
	enum vio_transport_state s;

	while ((s = vio_transport_poll(t, t->vcpu, &used)) != VIO_T_RESTARTED) {
		if (s == VIO_T_DEAD)
			return vio_err_set(err, -EPIPE, "the hypervisor (phypd) is gone");
		if (s == VIO_T_RUNNING || s == VIO_T_NEEDS_RESET)
			return vio_err_set(err, -EPROTO,
					   "the device is configured already; reset it first");
		if (vio_now_ns() - since > t->cfg.timeout_ms * 1000000ull)
			return vio_err_set(
				err, -ETIMEDOUT,
				"no VIO server on unit %u (0x%x) within %u ms: partition %s has not initialised its CRQ; is vios running?",
				t->cfg.unit, t->u->unit, t->cfg.timeout_ms, t->u->partner);
		vio_transport_wait(t, VIO_T_SPIN_NS, VIO_T_NAP_NS);
	}
	return 0;
}

static int probe(struct vio_transport *t, struct offer *o, struct vio_err *err)
{
	struct vio_msg m = {.op = VIO_OP_PROBE,
			    .arg16 = VIO_DEV_HEADER_BYTES,
			    .arg = vio_t_page_at(t, VIO_T_HEADER).v};
	static const uint8_t zero[VIO_DEV_HEADER_BYTES];
	int rc;

	vio_t_put(vio_t_page(t, VIO_T_HEADER), zero, sizeof(zero));
	memset(&t->info, 0, sizeof(t->info));
	rc = vio_t_ask(t, t->vcpu, &m, err);
	if (rc)
		return rc;
	t->info.version = t->fsm.version;
	return read_header(t, o, err);
}

static int acknowledge(struct vio_transport *t, struct vio_err *err)
{
	struct vio_msg m = {.op = VIO_OP_ACKNOWLEDGE,
			    .arg16 = t->info.config_len,
			    .arg = vio_t_page_at(t, VIO_T_CONFIG).v};
	static const uint8_t zero[VIO_MAX_CONFIG];
	int rc;

	vio_t_put(vio_t_page(t, VIO_T_CONFIG), zero, sizeof(zero));
	set_status(t, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	rc = vio_t_ask(t, t->vcpu, &m, err);
	if (rc == 0)
		vio_t_get(t->info.config, vio_t_page(t, VIO_T_CONFIG), t->info.config_len);
	return rc;
}

int vio_transport_start(struct vio_transport *t, struct vio_err *err)
{
	struct vio_msg driver = {.op = VIO_OP_DRIVER}, features = {.op = VIO_OP_FEATURES_OK};
	struct offer o;
	int rc = wait_for_server(t, err);

	if (rc == 0) {
		/* The server has confirmed that it touches nothing of before; what is left is tried again. */
		if (!vio_t_void_windows(t, false))
			rc = vio_err_set(
				err, -EBUSY,
				"the VIO server still has pages of the last session, which can't be used again yet");
	}
	if (rc == 0)
		rc = probe(t, &o, err);
	if (rc == 0)
		rc = choose_arm(t, &o, err);
	if (rc == 0)
		rc = choose_features(t, &o, err);
	if (rc == 0)
		rc = acknowledge(t, err);
	if (rc == 0)
		rc = vio_t_send(t, t->vcpu, &driver, err);
	if (rc)
		return rc;
	set_status(t, VIRTIO_CONFIG_S_DRIVER);
	write_choice(t); /* read by the server at FEATURES_OK (version 2) and at DRIVER_OK */
	if (t->info.version == VIO_PROTO_V1)
		return 0;
	rc = vio_t_ask(t, t->vcpu, &features, err);
	if (rc == -EPERM)
		rc = -ENOTSUP; /* the sentence says which: features or levels */
	if (rc == 0)
		set_status(t, VIRTIO_CONFIG_S_FEATURES_OK);
	return rc;
}

int vio_transport_queue(struct vio_transport *t, uint16_t index, uint16_t size, struct ioba desc,
			struct ioba avail, struct ioba used, struct vio_err *err)
{
	const uint64_t arg[] = {[VIO_QUEUE_DESC] = desc.v,
				[VIO_QUEUE_AVAIL] = avail.v,
				[VIO_QUEUE_USED] = used.v,
				[VIO_QUEUE_SIZE] = size};
	unsigned parts = t->info.version == VIO_PROTO_V1 ? 3 : 4;
	int rc = 0;

	if (index >= t->info.num_queues || size > t->info.queue_size ||
	    (parts == 3 && size != t->info.queue_size))
		return vio_err_set(err, -EINVAL,
				   "queue %u of %u entries: the device has %u queues of %u", index,
				   size, t->info.num_queues, t->info.queue_size);
	for (unsigned i = 0; rc == 0 && i < parts; i++) {
		struct vio_msg m = {
			.op = VIO_OP_QUEUE, .arg8 = (uint8_t)i, .arg16 = index, .arg = arg[i]};

		rc = vio_t_send(t, t->vcpu, &m, err);
	}
	return rc;
}

int vio_transport_driver_ok(struct vio_transport *t, struct vio_err *err)
{
	struct vio_msg m = {.op = VIO_OP_DRIVER_OK},
		       kick = {.version = t->info.version, .op = VIO_OP_KICK};
	uint32_t session = vio_load_relaxed(&t->session);
	uint64_t lo;
	int rc;

	vio_msg_encode(&kick, &t->kick_hi, &lo);
	set_status(t, VIRTIO_CONFIG_S_DRIVER_OK);
	rc = vio_t_ask(t, t->vcpu, &m, err);
	if (rc)
		return rc;
	vio_t_lock(t);
	if (t->session == session && t->state != VIO_T_NEEDS_RESET)
		vio_t_set_state(t, VIO_T_RUNNING);
	vio_t_unlock(t);
	return 0;
}

int vio_transport_config_set(struct vio_transport *t, struct phyp_vcpu *vcpu, uint16_t off,
			     uint8_t len, uint64_t value, struct vio_err *err)
{
	struct vio_msg m = {.op = VIO_OP_CONFIG_SET, .arg8 = len, .arg16 = off, .arg = value};
	int rc;

	if (t->info.version == VIO_PROTO_V1)
		return vio_err_set(err, -ENOTSUP,
				   "protocol 1 has no message that writes config space");
	pthread_mutex_lock(&t->txn);
	rc = vio_t_ask(t, vcpu, &m, err);
	pthread_mutex_unlock(&t->txn);
	return rc;
}

uint32_t vio_transport_config_changes(const struct vio_transport *t)
{
	return vio_load_relaxed(&t->config_changes);
}

uint32_t vio_transport_config(const struct vio_transport *t, void *config, uint16_t len)
{
	uint32_t n;

	if (len > t->info.config_len)
		len = t->info.config_len;
	/* A change under way is announced later, and read again then. */
	n = vio_load_acquire(&t->config_changes); /* pair S */
	vio_t_get(config, vio_t_page(t, VIO_T_CONFIG), len);
	return n;
}
