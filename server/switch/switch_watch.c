/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the switch does by the clock and not for a frame: ageing, links, who has gone, who is where
 * now, and what somebody should be told. RARP: RFC 903; that a host sends requests in the name of
 * its guests after they have moved is common practice (QEMU's announce-self, ESXi).
 */
#include "server/switch/mirror.h"
#include "server/switch/switch_priv.h"

#define SAY_EVERY_S 10u

#define RARP_TYPE 0x8035u
#define RARP_LEN  60u /* the shortest frame, without FCS */

/* ------------------------------------------------------------------------------ stations ---- */

static void forget(struct vio_port *p)
{
	p->sw->fdb->ops->forget(p->sw->fdb, p->index);
	p->src_key = 0;
	vio_switch_forget_lookups(p->sw);
}

void vio_switch_link(struct vio_port *p, bool up)
{
	if (p->up == up)
		return;
	vio_store_relaxed(&p->up, up);
	forget(p);
}

int vio_switch_change(struct vio_port *p, const struct vio_port_change *to, struct vio_err *err)
{
	int rc = p->ops->may_change ? p->ops->may_change(p, to, err) : 0;

	if (rc < 0)
		return rc;
	if (to->set_vlan) {
		vio_store_relaxed(&p->vlan.pvid, to->vlan.pvid);
		p->vlan.trunk = to->vlan.trunk;
		memcpy(p->vlan.member, to->vlan.member, sizeof(p->vlan.member));
		vio_switch_find_only(p->sw);
		forget(p);
	}
	if (to->set_mtu)
		vio_store_relaxed(&p->mtu, to->mtu);
	if (to->set_storm)
		p->storm = to->storm;
	if (to->set_up)
		vio_switch_link(p, to->up);
	if (p->ops->changed)
		p->ops->changed(p);
	return 0;
}

unsigned vio_switch_rows(struct vio_switch *sw, uint32_t *at, struct vio_fdb_row *row, unsigned max)
{
	unsigned n = 0;

	while (n < max) {
		if (!sw->fdb->ops->walk(sw->fdb, at, &row[n])) {
			*at = 0;
			break;
		}
		row[n].seen = sw->now - row[n].seen;
		n++;
	}
	return n;
}

void vio_switch_gone(struct vio_port *p)
{
	if (p->sw)
		(void)vio_fetch_or(&p->sw->gone, 1ull << p->index);
}

static void forget_gone(struct vio_switch *sw)
{
	for (uint64_t left = vio_xchg_acq_rel(&sw->gone, 0); left; left &= left - 1)
		forget(sw->port[__builtin_ctzll(left)]);
}

/* --------------------------------------------------------------------------- announcements ---- */

void vio_switch_announce(struct vio_port *p)
{
	struct vio_switch *sw = p->sw;

	sw->announce = p;
	sw->learnt_done = false;
	sw->walk = 0;
	sw->announcements++;
}

unsigned vio_switch_announcements(const struct vio_switch *sw)
{
	return sw->announcements;
}

/* A RARP request of the station for its own address, which every switch on the way learns from. */
static void put_rarp(struct vio_frame *f, uint64_t key)
{
	static const uint8_t fixed[] = {0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3};
	uint64_t mac = vio_le64(key & VIO_FDB_MAC);

	static_assert(RARP_TYPE == 0x8035u, "the first two bytes of fixed[]");
	memset(f, 0, sizeof(*f));
	memset(f->buf, 0xff, 6);
	memcpy(f->buf + 6, &mac, 6);
	memcpy(f->buf + 12, fixed, sizeof(fixed));
	memcpy(f->buf + 22, &mac, 6);
	memcpy(f->buf + 32, &mac, 6);
	f->head = f->buf;
	f->head_len = RARP_LEN;
	f->len = RARP_LEN;
	f->vid = (uint16_t)(key >> 48);
}

/* The next station that is not behind the port itself; false: there are no more. */
static bool next_station(struct vio_switch *sw, uint64_t *key)
{
	struct vio_fdb_row row;

	while (!sw->learnt_done) {
		sw->learnt_done = !sw->fdb->ops->walk(sw->fdb, &sw->walk, &row);
		if (sw->learnt_done) {
			sw->walk = 0;
		} else if (row.port != sw->announce->index) {
			*key = row.key;
			return true;
		}
	}
	while (sw->walk < sw->n) { /* those that have not said anything yet */
		const struct vio_port *p = sw->port[sw->walk++];

		*key = vio_load_relaxed(&p->own);
		if (*key != 0 && p->up && sw->fdb->ops->lookup(sw->fdb, *key) < 0)
			return true;
	}
	return false;
}

static unsigned announce_some(struct vio_switch *sw)
{
	struct vio_port *to = sw->announce;
	unsigned n = 0;
	uint64_t key;

	while (n < VIO_FRAME_BURST) {
		if (!next_station(sw, &key)) {
			sw->announce = NULL;
			break;
		}
		if (vio_port_in_vlan(to, (uint16_t)(key >> 48)))
			put_rarp(&sw->told[n++], key);
	}
	vio_switch_send(sw, to->index, sw->told, n);
	return n;
}

/* ---------------------------------------------------------------------------- what is said ---- */

void vio_switch_set_say(struct vio_switch *sw, void (*say)(void *ctx, const char *fmt, ...),
			void *ctx)
{
	sw->say = say;
	sw->say_ctx = ctx;
}

static void say_storms(struct vio_switch *sw)
{
	if (sw->storm_at != 0 && sw->now - sw->storm_at < SAY_EVERY_S)
		return;
	for (unsigned i = 0; i < sw->n; i++) {
		struct vio_port *p = sw->port[i];
		uint64_t n = p->stats.drop[VIO_DROP_STORM];

		if (n == p->storm_said)
			continue;
		sw->say(sw->say_ctx,
			"port %s: more than %u frames to everybody in a second; %llu were dropped. Is there a loop? Otherwise give it storm=N or storm=off",
			p->name, p->storm, (unsigned long long)(n - p->storm_said));
		p->storm_said = n;
		sw->storm_at = sw->now;
	}
}

/* Once for a port: what is to be done about it is done once. */
static void say_truncated(struct vio_switch *sw)
{
	for (unsigned i = 0; i < sw->n; i++) {
		struct vio_port *p = sw->port[i];

		if (p->stats.drop[VIO_DROP_TRUNCATED] == 0 || p->said_truncated)
			continue;
		sw->say(sw->say_ctx,
			"port %s: frames come in that its driver has cut off, and are dropped. Does its interface put segments or fragments together? Switch that off (ethtool -K IF tso off gso off gro off, also at the other end of a veth), or give the driver longer buffers",
			p->name);
		p->said_truncated = true;
	}
}

/* What the file has is whole. */
static void say_mirrors(struct vio_switch *sw)
{
	for (unsigned i = 0; i < sw->n; i++) {
		struct vio_port *p = sw->port[i];
		struct vio_mirror *m = p->mirror_in ? p->mirror_in : p->mirror_out;
		const int why = m ? vio_mirror_why(m) : 0;

		if (why)
			sw->say(sw->say_ctx,
				"port %s: its mirror has ended: the file can't be written any more (%s)",
				p->name, strerror(why));
	}
}

static void say_moves(struct vio_switch *sw)
{
	uint64_t n = sw->moved - sw->moved_said, k = sw->last_move.key;

	if (n == 0 || (sw->moved_at != 0 && sw->now - sw->moved_at < SAY_EVERY_S))
		return;
	sw->say(sw->say_ctx,
		"address %02x:%02x:%02x:%02x:%02x:%02x (VLAN %u) is at port %s now and was at %s%s; %llu move(s) since the last such line",
		(unsigned)(k & 0xff), (unsigned)(k >> 8 & 0xff), (unsigned)(k >> 16 & 0xff),
		(unsigned)(k >> 24 & 0xff), (unsigned)(k >> 32 & 0xff), (unsigned)(k >> 40 & 0xff),
		(unsigned)(k >> 48), sw->port[sw->last_move.to]->name,
		sw->port[sw->last_move.from]->name,
		n > SAY_EVERY_S ? ": two stations have it, or there is a loop" : "",
		(unsigned long long)n);
	sw->moved_said = sw->moved;
	sw->moved_at = sw->now;
}

/* ---------------------------------------------------------------------------------- clock ---- */

static void tick(struct vio_switch *sw, uint32_t now)
{
	unsigned n;

	for (unsigned i = 0; i < sw->n; i++) {
		sw->port[i]->storm_seen = 0;
		sw->port[i]->moves_seen = 0;
		if (sw->port[i]->ops->tick)
			sw->port[i]->ops->tick(sw->port[i]);
	}
	if (now == sw->now)
		return;
	sw->now = now;
	n = sw->fdb->ops->age(sw->fdb, sw->now, VIO_FDB_AGE_S);
	if (n > 0) {
		vio_counter_add(&sw->aged, n);
		vio_switch_forget_lookups(sw);
	}
	if (sw->say) {
		say_storms(sw);
		say_truncated(sw);
		say_mirrors(sw);
		say_moves(sw);
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
	if (vio_unlikely(vio_load_relaxed(&sw->gone)))
		forget_gone(sw);
	if (vio_unlikely(sw->announce != NULL))
		n += announce_some(sw);
	for (uint64_t left = sw->polls; left; left &= left - 1) {
		struct vio_port *p = sw->port[__builtin_ctzll(left)];

		n += p->ops->poll(p);
	}
	return n;
}
