/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdlib.h>
#include <string.h>

#include "server/dev/net/offload.h"
#include "server/switch/mirror.h"
#include "server/switch/switch_priv.h"

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
		sw->port[i]->others = sw->n - 1;
		sw->port[i]->addresses = sw->port[i]->ops->addresses;
		if (sw->port[i]->addresses == 0 && size > named)
			sw->port[i]->addresses = (size - named) / others;
	}
}

/* Word w of the set of its VLANs. */
static uint64_t vlans(const struct vio_port *p, unsigned w)
{
	uint64_t native =
		p->vlan.pvid != 0 && p->vlan.pvid / 64u == w ? 1ull << p->vlan.pvid % 64 : 0;

	return native | (p->vlan.trunk ? p->vlan.member[w] : 0);
}

static bool share_vlan(const struct vio_port *a, const struct vio_port *b)
{
	uint64_t both = 0;

	for (unsigned w = 0; w < VIO_ARRAY_SIZE(a->vlan.member); w++)
		both |= vlans(a, w) & vlans(b, w);
	return both != 0;
}

void vio_switch_find_only(struct vio_switch *sw)
{
	for (unsigned i = 0; i < sw->n; i++) {
		struct vio_port *p = sw->port[i], *only = NULL;
		unsigned n = 0;

		for (unsigned k = 0; k < sw->n; k++) {
			if (k != i && share_vlan(p, sw->port[k])) {
				only = sw->port[k];
				n++;
			}
		}
		p->only = n == 1 ? only : NULL;
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
	vio_switch_find_only(sw);
	return 0;
}

/* --------------------------------------------------------------------------- entrance ---- */

/* Take the tag off: the addresses move over it, and every offset is 4 less. */
static void untag(struct vio_frame *f)
{
	uint8_t *head = vio_frame_head(f);

	memmove(head + VIO_TAG_LEN, head, 12);
	f->head += VIO_TAG_LEN;
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

void vio_switch_forget_lookups(struct vio_switch *sw)
{
	for (unsigned i = 0; i < sw->n; i++)
		sw->port[i]->dst_key = 0;
}

static void moved(struct vio_port *to, uint64_t key, unsigned from)
{
	struct vio_switch *sw = to->sw;

	to->moves_seen++;
	vio_counter_add(&to->stats.moved, 1);
	vio_counter_add(&sw->moved, 1);
	sw->last_move.key = key;
	sw->last_move.from = from;
	sw->last_move.to = to->index;
}

/*
 * Has the port had its addresses from others for now, and is this one at another? What a loop brings back has the sources of
 * all who said something to everybody: then each of them is where it spoke itself, most of the time.
 */
static bool must_stay(struct vio_port *p, uint64_t key)
{
	int at;

	if (vio_likely(p->moves_seen < VIO_SWITCH_MOVES))
		return false;
	at = p->sw->fdb->ops->lookup(p->sw->fdb, key);
	if (at < 0 || at == (int)p->index)
		return false;
	vio_counter_add(&p->stats.not_moved, 1);
	return true;
}

static void learn(struct vio_port *p, uint64_t key)
{
	struct vio_switch *sw = p->sw;
	int rc;

	if (vio_unlikely(must_stay(p, key)))
		return;
	rc = sw->fdb->ops->learn(sw->fdb, key, p->index, p->addresses, sw->now);
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
	if (rc >= VIO_FDB_MOVED)
		moved(p, key, (unsigned)(rc - VIO_FDB_MOVED));
	/* It may have been at another port: that one must learn it anew when it comes back. */
	for (unsigned i = 0; i < sw->n; i++) {
		if (sw->port[i] != p && sw->port[i]->src_key == key)
			sw->port[i]->src_key = 0;
	}
	vio_switch_forget_lookups(sw);
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

/* The other ports in the VLAN, a bit each. */
static inline uint64_t ways(const struct vio_port *from, uint16_t vid)
{
	const struct vio_switch *sw = from->sw;
	uint64_t to = 0;

	for (unsigned i = 0; i < sw->n; i++) {
		if (sw->port[i] != from && vio_port_in_vlan(sw->port[i], vid))
			to |= 1ull << i;
	}
	return to;
}

/*
 * False: the port has sent more than it may of what goes to everybody, dropped. A tenth of a second's
 * share is counted anew at each tick. What has one way only is not multiplied, and counts only as a
 * group's from outside, where a loop may be.
 */
static bool may_flood(struct vio_port *from, uint64_t to, bool group)
{
	if (!(to & (to - 1)) && !(group && from->ops->outside))
		return true;
	if (from->storm == 0 || ++from->storm_seen <= from->storm / VIO_SWITCH_TICKS)
		return true;
	vio_port_drop(from, VIO_DROP_STORM, 1);
	return false;
}

/* False: there is nowhere to go. */
static bool flood(struct vio_port *from, struct vio_frame *f, uint64_t to)
{
	if (vio_unlikely(to == 0)) {
		vio_port_drop(from, VIO_DROP_NO_PORT, 1);
		return false;
	}
	vio_counter_add(&from->stats.flooded, 1);
	from->spread += vio_frame_cost(f) * ((unsigned)__builtin_popcountll(to) - 1);
	for (; to; to &= to - 1)
		to_port(from->sw, (unsigned)__builtin_ctzll(to), f);
	return true;
}

static void flush(struct vio_switch *sw)
{
	for (uint64_t left = sw->out_ports; left; left &= left - 1) {
		unsigned i = (unsigned)__builtin_ctzll(left), n = sw->out_n[i];
		struct vio_port *p = sw->port[i];

		sw->out_n[i] = 0;
		if (vio_unlikely(p->mirror_out != NULL) && p->up)
			vio_mirror_out(p, sw->out[i], n);
		if (vio_likely(p->up))
			p->ops->deliver(p, sw->out[i], n);
		else
			vio_port_drop(p, VIO_DROP_LINK_DOWN, n);
	}
	sw->out_ports = 0;
}

void vio_switch_send(struct vio_switch *sw, unsigned i, struct vio_frame *f, unsigned n)
{
	for (unsigned k = 0; k < n; k++)
		to_port(sw, i, &f[k]);
	flush(sw);
}

uint64_t vio_frame_cost(const struct vio_frame *f)
{
	uint64_t segments = f->gso_type == VIRTIO_NET_HDR_GSO_NONE ? 0 : vio_offload_segments(f);

	return f->len + VIO_FRAME_COST + segments * VIO_SEGMENT_COST;
}

/* False: the port has asked for too much work in this turn already. */
static bool may_cut(struct vio_port *from, const struct vio_frame *f, const uint8_t *head)
{
	uint32_t n;

	if (vio_likely(f->gso_size >= VIO_SMALL_SEGMENT))
		return true;
	if (from->turn != from->sw->turn) {
		from->turn = from->sw->turn;
		from->small = 0;
	}
	n = vio_offload_segments(f);
	if (head[0] & 1 || lookup(from, vio_fdb_key(head, f->vid)) < 0)
		n *= (uint32_t)__builtin_popcountll(ways(from, f->vid));
	if (from->small + n > VIO_SMALL_SEGMENTS)
		return false;
	from->small += n;
	return true;
}

/*
 * 01:80:c2:00:00:01 to 0f: what stations say to the bridge next to them (pause, LACP, LLDP, 802.1X)
 * passes no bridge (802.1Q, 8.6.3). 00 is the spanning tree's; a bridge without one lets it through.
 */
static inline bool is_reserved(const uint8_t *dst)
{
	return dst[0] == 0x01 && dst[1] == 0x80 && dst[2] == 0xc2 && dst[3] == 0 && dst[4] == 0 &&
	       dst[5] >= 0x01 && dst[5] <= 0x0f;
}

/* To where its receiver is, or everywhere. False: to nowhere, and counted. */
static inline bool send_on(struct vio_port *from, struct vio_frame *f, const uint8_t *head)
{
	int to = head[0] & 1 ? -1 : lookup(from, vio_fdb_key(head, f->vid));

	if (vio_likely(to >= 0 && to != (int)from->index)) {
		to_port(from->sw, (unsigned)to, f);
		return true;
	}
	if (to >= 0) { /* it has been there already */
		vio_port_drop(from, VIO_DROP_OWN_SEGMENT, 1);
		return false;
	}
	if (!(head[0] & 1) && !may_flood(from, ways(from, f->vid), false))
		return false;
	return flood(from, f, ways(from, f->vid));
}

static inline void forward_one(struct vio_port *from, struct vio_frame *f)
{
	struct vio_switch *sw = from->sw;
	uint32_t len = f->len;
	const uint8_t *head;
	uint64_t src, mac;

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
	src = vio_fdb_key(head + 6, f->vid);
	mac = src & VIO_FDB_MAC;
	if (vio_unlikely((head[6] & 1) || mac == 0 || (from->lock != 0 && mac != from->lock))) {
		vio_port_drop(from, VIO_DROP_SOURCE, 1);
		return;
	}
	if (vio_unlikely(f->gso_type != VIRTIO_NET_HDR_GSO_NONE) && !may_cut(from, f, head)) {
		vio_port_drop(from, VIO_DROP_OFFLOAD, 1);
		return;
	}
	if (vio_unlikely(head[0] & 1)) {
		if (vio_unlikely(is_reserved(head))) {
			vio_port_drop(from, VIO_DROP_RESERVED, 1);
			return;
		}
		if (!may_flood(from, ways(from, f->vid), true))
			return; /* and nothing is learnt from it: in a loop it would be wrong */
	}
	if (vio_unlikely(src != from->src_key || from->src_at != sw->now))
		learn(from, src);
	if (!send_on(from, f, head))
		return;
	vio_counter_add(&from->stats.in_frames, 1);
	vio_counter_add(&from->stats.in_bytes, len);
}

void vio_switch_forward(struct vio_port *from, struct vio_frame *f, unsigned n)
{
	if (vio_unlikely(!from->up)) {
		vio_port_drop(from, VIO_DROP_LINK_DOWN, n);
		return;
	}
	from->sw->from = from;
	if (vio_unlikely(from->mirror_in != NULL))
		vio_mirror_in(from, f, n);
	for (unsigned i = 0; i < n; i++)
		forward_one(from, &f[i]);
	flush(from->sw);
}

const struct vio_port *vio_switch_from(const struct vio_switch *sw)
{
	return sw->from;
}

void vio_switch_reap(struct vio_switch *sw)
{
	for (unsigned i = 0; i < sw->n; i++) {
		if (sw->port[i]->ops->reap)
			sw->port[i]->ops->reap(sw->port[i]);
	}
}

uint8_t *vio_switch_room(struct vio_switch *sw, unsigned i)
{
	return sw->room[i];
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
		.moved = vio_load_relaxed(&sw->moved),
	};
}
