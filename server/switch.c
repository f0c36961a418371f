/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdlib.h>
#include <string.h>

#include "server/offload.h"
#include "server/switch.h"

#define NS_PER_S    1000000000ull
#define NS_PER_TICK 100000000ull
#define MAC_BITS    0xffffffffffffull /* of a key */

struct vio_switch {
	struct vio_fdb *fdb;
	unsigned n;
	uint32_t now; /* seconds, of the poll loop's clock */
	uint64_t ticked, turn;
	struct vio_port *port[VIO_SWITCH_PORTS];
	uint64_t polls; /* bit per port that wants to be polled */
	uint64_t learnt, refused, aged;
	/* One burst on its way out, by port. */
	const struct vio_port *from;
	uint64_t out_ports;
	unsigned out_n[VIO_SWITCH_PORTS];
	struct vio_frame *out[VIO_SWITCH_PORTS][VIO_FRAME_BURST];
};

const char *vio_drop_name(enum vio_drop why)
{
	static const char *const name[VIO_N_DROP] = {
		[VIO_DROP_RUNT] = "runt",
		[VIO_DROP_OVERSIZED] = "oversized",
		[VIO_DROP_MERGED] = "merged",
		[VIO_DROP_OFFLOAD] = "offload",
		[VIO_DROP_VLAN] = "vlan",
		[VIO_DROP_SOURCE] = "source",
		[VIO_DROP_NO_BUFFERS] = "no_buffers",
		[VIO_DROP_TOO_SMALL] = "too_small",
		[VIO_DROP_FILTERED] = "filtered",
		[VIO_DROP_LINK_DOWN] = "link_down",
		[VIO_DROP_STOPPED] = "stopped",
	};

	return (unsigned)why < VIO_N_DROP ? name[why] : "?";
}

/* ------------------------------------------------------------------------------- life ---- */

int vio_switch_create(struct vio_fdb *fdb, struct vio_switch **out, struct vio_err *err)
{
	struct vio_switch *sw = calloc(1, sizeof(*sw));

	if (!sw)
		return vio_err_set(err, -ENOMEM, "no memory for the switch");
	sw->fdb = fdb;
	*out = sw;
	return 0;
}

void vio_switch_destroy(struct vio_switch *sw)
{
	if (!sw)
		return;
	sw->fdb->ops->free(sw->fdb);
	free(sw);
}

/* Who may have how many addresses. */
static void divide_table(struct vio_switch *sw)
{
	unsigned named = 0, others = 0, size = sw->fdb->size;

	for (unsigned i = 0; i < sw->n; i++) {
		named += sw->port[i]->ops->addresses;
		others += sw->port[i]->ops->addresses == 0;
	}
	for (unsigned i = 0; i < sw->n; i++) {
		sw->port[i]->addresses = sw->port[i]->ops->addresses;
		if (sw->port[i]->addresses == 0 && size > named)
			sw->port[i]->addresses = (size - named) / others;
	}
}

int vio_switch_add(struct vio_switch *sw, struct vio_port *p, struct vio_err *err)
{
	if (sw->n == VIO_SWITCH_PORTS)
		return vio_err_set(err, -ENOSPC, "port %s: the switch has %u ports at most",
				   p->name, VIO_SWITCH_PORTS);
	p->sw = sw;
	p->index = sw->n;
	sw->port[sw->n] = p;
	if (p->ops->poll)
		sw->polls |= 1ull << sw->n;
	vio_store_release(&sw->n, sw->n + 1);
	divide_table(sw);
	return 0;
}

/* --------------------------------------------------------------------------- entrance ---- */

static inline uint64_t key_of(const uint8_t mac[6], uint16_t vid)
{
	uint32_t front;
	uint16_t back;

	/* In pieces that are parts of what was just stored: a load across two stores has to wait for both. */
	memcpy(&front, mac, 4);
	memcpy(&back, mac + 4, 2);
	return vio_le32(front) | (uint64_t)vio_le16(back) << 32 | (uint64_t)vid << 48;
}

/* Take the tag off: the addresses move over it, and every offset is 4 less. */
static void untag(struct vio_frame *f)
{
	uint8_t *head = vio_frame_head(f);

	memmove(head + VIO_TAG_LEN, head, 12);
	f->head_at = (uint16_t)(f->head_at + VIO_TAG_LEN);
	f->head_len = (uint16_t)(f->head_len - VIO_TAG_LEN);
	f->len -= VIO_TAG_LEN;
	if (f->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
		f->csum_start = (uint16_t)(f->csum_start - VIO_TAG_LEN);
	if (f->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
		f->l3_at = (uint16_t)(f->l3_at - VIO_TAG_LEN);
		f->l4_at = (uint16_t)(f->l4_at - VIO_TAG_LEN);
		f->l4_end = (uint16_t)(f->l4_end - VIO_TAG_LEN);
	}
}

static inline bool is_tag(uint16_t type)
{
	return type == VIO_ETHERTYPE_VLAN || type == VIO_ETHERTYPE_QINQ;
}

/* Does a tag stand where the type is? After the entrance: a second one. */
static inline bool has_tag(struct vio_frame *f)
{
	return is_tag(vio_get_be16(vio_frame_head(f) + 12));
}

/*
 * Which VLAN the frame is in; false: in none that the port may send to. One tag is taken off. What
 * is left begins with a tag only if the one before named a VLAN: else the tag that the sender chose
 * would be the first one wherever the frame leaves untagged, and so reach a VLAN that the sender is
 * not in.
 */
static inline bool classify(const struct vio_port *p, struct vio_frame *f)
{
	const uint8_t *head = vio_frame_head(f);
	uint16_t tci, vid;

	f->pcp = 0;
	f->vid = p->vlan.pvid;
	if (vio_likely(!has_tag(f)))
		return f->vid != 0;
	if (vio_get_be16(head + 12) != VIO_ETHERTYPE_VLAN ||
	    f->head_len < VIO_ETH_LEN + VIO_TAG_LEN)
		return false;
	tci = vio_get_be16(head + 14);
	vid = tci & 0xfff;
	if (vid > VIO_VLAN_MAX || (vid != 0 && !p->vlan.trunk))
		return false;
	f->pcp = tci >> 12;
	untag(f);
	if (vid == 0)
		return f->vid != 0 && !has_tag(f);
	f->vid = vid;
	return vio_port_in_vlan(p, vid);
}

static void forget_lookups(struct vio_switch *sw)
{
	for (unsigned i = 0; i < sw->n; i++)
		sw->port[i]->dst_key = 0;
}

static void learn(struct vio_port *p, uint64_t key)
{
	struct vio_switch *sw = p->sw;
	int rc = sw->fdb->ops->learn(sw->fdb, key, p->index, p->addresses, sw->now);

	p->src_key = key; /* one that was refused is tried again a second later */
	p->src_at = sw->now;
	if (rc == 0)
		return;
	if (rc < 0) { /* the table is as it was, and so is what was looked up in it */
		vio_counter_add(&sw->refused, 1);
		vio_counter_add(&p->stats.refused, 1);
		return;
	}
	vio_counter_add(&sw->learnt, 1);
	/* It may have been at another port: that one must learn it anew when it comes back. */
	for (unsigned i = 0; i < sw->n; i++) {
		if (sw->port[i] != p && sw->port[i]->src_key == key)
			sw->port[i]->src_key = 0;
	}
	forget_lookups(sw);
}

static inline int lookup(struct vio_port *p, uint64_t key)
{
	if (vio_likely(key == p->dst_key))
		return p->dst_port;
	p->dst_port = p->sw->fdb->ops->lookup(p->sw->fdb, key);
	p->dst_key = key;
	return p->dst_port;
}

/* ------------------------------------------------------------------------------- exit ---- */

/* Longest frame on the wire that will come of it, untagged. */
static inline uint32_t wire_len(const struct vio_frame *f)
{
	uint32_t segment;

	if (vio_likely(f->gso_type == VIRTIO_NET_HDR_GSO_NONE))
		return f->len;
	segment = (uint32_t)f->l4_end + f->gso_size;
	return segment < f->len ? segment : f->len;
}

static inline void to_port(struct vio_switch *sw, unsigned i, struct vio_frame *f)
{
	if (vio_unlikely(wire_len(f) > sw->port[i]->mtu + VIO_ETH_LEN)) {
		vio_port_drop(sw->port[i], VIO_DROP_OVERSIZED, 1);
		return;
	}
	if (vio_unlikely(has_tag(f)) && !vio_port_tags(sw->port[i], f->vid)) {
		vio_port_drop(sw->port[i], VIO_DROP_VLAN, 1);
		return;
	}
	sw->out_ports |= 1ull << i;
	sw->out[i][sw->out_n[i]++] = f;
}

static void flood(struct vio_port *from, struct vio_frame *f)
{
	struct vio_switch *sw = from->sw;

	vio_counter_add(&from->stats.flooded, 1);
	for (unsigned i = 0; i < sw->n; i++) {
		if (sw->port[i] != from && vio_port_in_vlan(sw->port[i], f->vid))
			to_port(sw, i, f);
	}
}

static void flush(struct vio_switch *sw)
{
	for (uint64_t left = sw->out_ports; left; left &= left - 1) {
		unsigned i = (unsigned)__builtin_ctzll(left), n = sw->out_n[i];
		struct vio_port *p = sw->port[i];

		sw->out_n[i] = 0;
		if (vio_likely(p->up))
			p->ops->deliver(p, sw->out[i], n);
		else
			vio_port_drop(p, VIO_DROP_LINK_DOWN, n);
	}
	sw->out_ports = 0;
}

/* False: the port has asked for too much work in this turn already. */
static bool may_cut(struct vio_port *from, const struct vio_frame *f)
{
	uint32_t n;

	if (vio_likely(f->gso_size >= VIO_SMALL_SEGMENT))
		return true;
	if (from->turn != from->sw->turn) {
		from->turn = from->sw->turn;
		from->small = 0;
	}
	n = vio_offload_segments(f);
	if (from->small + n > VIO_SMALL_SEGMENTS)
		return false;
	from->small += n;
	return true;
}

static inline void forward_one(struct vio_port *from, struct vio_frame *f)
{
	struct vio_switch *sw = from->sw;
	uint32_t len = f->len;
	const uint8_t *head;
	uint64_t src, mac;
	int to;

	if (vio_unlikely(len < VIO_ETH_LEN)) {
		vio_port_drop(from, VIO_DROP_RUNT, 1);
		return;
	}
	if (vio_unlikely(!classify(from, f))) {
		vio_port_drop(from, VIO_DROP_VLAN, 1);
		return;
	}
	if (vio_unlikely(wire_len(f) > from->mtu + VIO_ETH_LEN)) {
		vio_port_drop(from, VIO_DROP_OVERSIZED, 1);
		return;
	}
	head = vio_frame_head(f);
	src = key_of(head + 6, f->vid);
	mac = src & MAC_BITS;
	if (vio_unlikely((head[6] & 1) || mac == 0 || (from->lock != 0 && mac != from->lock))) {
		vio_port_drop(from, VIO_DROP_SOURCE, 1);
		return;
	}
	if (vio_unlikely(f->gso_type != VIRTIO_NET_HDR_GSO_NONE) && !may_cut(from, f)) {
		vio_port_drop(from, VIO_DROP_OFFLOAD, 1);
		return;
	}
	vio_counter_add(&from->stats.in_frames, 1);
	vio_counter_add(&from->stats.in_bytes, len);
	if (vio_unlikely(src != from->src_key || from->src_at != sw->now))
		learn(from, src);
	to = head[0] & 1 ? -1 : lookup(from, key_of(head, f->vid));
	if (to < 0)
		flood(from, f);
	else if (vio_likely(to !=
			    (int)from->index)) /* else it has been on its own segment already */
		to_port(sw, (unsigned)to, f);
}

void vio_switch_forward(struct vio_port *from, struct vio_frame *f, unsigned n)
{
	if (vio_unlikely(!from->up)) {
		vio_port_drop(from, VIO_DROP_LINK_DOWN, n);
		return;
	}
	from->sw->from = from;
	for (unsigned i = 0; i < n; i++)
		forward_one(from, &f[i]);
	flush(from->sw);
}

const struct vio_port *vio_switch_from(const struct vio_switch *sw)
{
	return sw->from;
}

/* ------------------------------------------------------------------------------- time ---- */

static void tick(struct vio_switch *sw, uint32_t now)
{
	unsigned n;

	for (unsigned i = 0; i < sw->n; i++) {
		if (sw->port[i]->ops->tick)
			sw->port[i]->ops->tick(sw->port[i]);
	}
	if (now == sw->now)
		return;
	sw->now = now;
	n = sw->fdb->ops->age(sw->fdb, sw->now, VIO_FDB_AGE_S);
	if (n > 0) {
		vio_counter_add(&sw->aged, n);
		forget_lookups(sw);
	}
}

unsigned vio_switch_poll(struct vio_switch *sw, uint64_t now_ns)
{
	unsigned n = 0;

	sw->turn++;
	if (vio_unlikely(now_ns - sw->ticked >= NS_PER_TICK)) {
		sw->ticked = now_ns;
		tick(sw, (uint32_t)(now_ns / NS_PER_S));
	}
	for (uint64_t left = sw->polls; left; left &= left - 1) {
		struct vio_port *p = sw->port[__builtin_ctzll(left)];

		n += p->ops->poll(p);
	}
	return n;
}

void vio_switch_reap(struct vio_switch *sw)
{
	for (unsigned i = 0; i < sw->n; i++) {
		if (sw->port[i]->ops->reap)
			sw->port[i]->ops->reap(sw->port[i]);
	}
}

void vio_switch_link(struct vio_port *p, bool up)
{
	struct vio_switch *sw = p->sw;

	if (p->up == up)
		return;
	vio_store_relaxed(&p->up, up);
	sw->fdb->ops->forget(sw->fdb, p->index);
	p->src_key = 0;
	forget_lookups(sw);
}

/* -------------------------------------------------------------------------- telemetry ---- */

const struct vio_port *vio_switch_port(const struct vio_switch *sw, unsigned i)
{
	return i < vio_load_acquire(&sw->n) ? sw->port[i] : NULL;
}

void vio_switch_get_info(const struct vio_switch *sw, struct vio_switch_info *info)
{
	*info = (struct vio_switch_info){
		.ports = vio_load_acquire(&sw->n),
		.addresses = sw->fdb->ops->count(sw->fdb),
		.learnt = vio_load_relaxed(&sw->learnt),
		.refused = vio_load_relaxed(&sw->refused),
		.aged = vio_load_relaxed(&sw->aged),
	};
}

/* ---------------------------------------------------------------------------- options ---- */

void vio_port_defaults(struct vio_port *p)
{
	p->vlan.pvid = 1;
	p->mtu = 1500;
	p->up = true;
}

static int vlan_number(const char **at, unsigned *v)
{
	char *end;
	unsigned long n;

	if (**at < '0' || **at > '9')
		return -EINVAL;
	n = strtoul(*at, &end, 10);
	if (n < 1 || n > VIO_VLAN_MAX)
		return -EINVAL;
	*v = (unsigned)n;
	*at = end;
	return 0;
}

static int trunk_list(struct vio_port *p, const char *text, struct vio_err *err)
{
	const char *at = text;

	p->vlan.trunk = true;
	if (!strcmp(text, "all")) {
		memset(p->vlan.member, 0xff, sizeof(p->vlan.member));
		return 1;
	}
	do {
		unsigned from, to;

		if (vlan_number(&at, &from) < 0)
			break;
		to = from;
		if (*at == '-') {
			at++;
			if (vlan_number(&at, &to) < 0 || to < from)
				break;
		}
		for (unsigned v = from; v <= to; v++)
			p->vlan.member[v / 64] |= 1ull << v % 64;
		if (!*at)
			return 1;
	} while (*at++ == '+');
	return vio_err_set(err, -EINVAL,
			   "trunk=%s: wants VLANs from 1 to %u, e.g. 10+20-30, or all", text,
			   VIO_VLAN_MAX);
}

int vio_port_option(struct vio_port *p, const char *key, const char *value, struct vio_err *err)
{
	const char *at = value;
	unsigned v;

	if (!strcmp(key, "vlan")) {
		if (vlan_number(&at, &v) < 0 || *at)
			return vio_err_set(err, -EINVAL, "vlan=%s: wants a VLAN from 1 to %u",
					   value, VIO_VLAN_MAX);
		p->vlan.pvid = (uint16_t)v;
		return 1;
	}
	if (!strcmp(key, "trunk"))
		return trunk_list(p, value, err);
	if (!strcmp(key, "mtu")) {
		char *end;
		unsigned long n = strtoul(value, &end, 10);

		if (!*value || *end || n < VIO_MTU_MIN || n > VIO_MTU_MAX)
			return vio_err_set(err, -EINVAL, "mtu=%s: wants %u to %u bytes", value,
					   VIO_MTU_MIN, VIO_MTU_MAX);
		p->mtu = (uint16_t)n;
		return 1;
	}
	return 0;
}

void vio_port_lock(struct vio_port *p, const uint8_t mac[6])
{
	p->lock = key_of(mac, 0);
}

int vio_port_options_end(struct vio_port *p, bool vlan_given, struct vio_err *err)
{
	bool any = false;

	if (p->vlan.trunk && !vlan_given)
		p->vlan.pvid = 0; /* no native VLAN unless it is named */
	for (unsigned i = 0; i < 64; i++)
		any |= p->vlan.member[i] != 0;
	if (!any && p->vlan.pvid == 0)
		return vio_err_set(err, -EINVAL, "the port is in no VLAN");
	return 0;
}
