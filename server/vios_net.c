/* SPDX-License-Identifier: BSD-3-Clause */
/* The switch of vios and its uplinks: their start, what they follow, their end. */
#include <string.h>

#include "server/vios.h"
#include "vio/cycles.h"

/* Turns of the poll loop between two looks at the clock for the switch, which counts seconds. */
#define SWITCH_CLOCK 256u

int vios_mem_add(void *ctx, void *va, uint64_t len)
{
	struct vios *v = ctx;
	struct vio_err why = {""};
	int rc;

	if (v->o.n_uplinks == 0)
		return -ENODEV;
	rc = vio_uplink_mem_add(v->uplink, v->o.n_uplinks, va, len, &why);
	if (why.msg[0] && !vio_xchg_acq_rel(&v->said_memory, true))
		vios_say(v, "%s", why.msg);
	return rc;
}

void vios_mem_del(void *ctx, void *va, uint64_t len)
{
	struct vios *v = ctx;

	vio_uplink_mem_del(v->uplink, v->o.n_uplinks, va, len);
}

static struct vio_port *port_of(const struct vios *v, unsigned i)
{
	return v->dev[i]->kind->port ? v->dev[i]->kind->port(v->dev[i]) : NULL;
}

/* Ports with link=uplink: up while any uplink is. And who is to announce itself. */
static void follow_links(struct vios *v)
{
	struct vio_dev_uplinks is;
	bool announce;

	if (v->o.n_uplinks == 0)
		return;
	announce = vio_switch_announcements(v->sw) != v->announced;
	v->announced = vio_switch_announcements(v->sw);
	is = vio_uplinks_are(v->uplink, v->o.n_uplinks);
	for (unsigned i = 0; i < v->n_adapters; i++) {
		const struct vio_dev_kind *kind = v->dev[i]->kind;

		if (kind->follow && v->adapter[i] && kind->follow(v->dev[i], is, announce))
			vio_adapter_config_changed(v->adapter[i]);
	}
}

static unsigned switch_turn(void *ctx)
{
	struct vios *v = ctx;

	if (vio_unlikely(v->switch_turns++ % SWITCH_CLOCK == 0)) {
		v->switch_now = vio_now_ns();
		follow_links(v);
	}
	return vio_switch_poll(v->sw, v->switch_now);
}

int vios_start_switch(struct vios *v, struct vio_err *err)
{
	struct vio_fdb *fdb = NULL;
	int rc = vio_uplinks_differ(v->o.uplink, v->o.n_uplinks, v->o.vdev, v->o.n_vdevs, err);

	for (unsigned i = 0; rc == 0 && i < v->n_adapters; i++) {
		struct vio_port *port = port_of(v, i);

		if (!port)
			continue;
		if (!v->sw) {
			rc = vio_fdb_rte_create(&fdb, err);
			if (rc == 0)
				rc = vio_switch_create(fdb, &v->sw, err);
			if (rc == 0)
				vio_switch_set_say(v->sw, vios_say_of_switch, v);
		}
		if (rc == 0)
			rc = vio_switch_add(v->sw, port, err);
	}
	for (unsigned i = 0; rc == 0 && i < v->o.n_vdevs; i++)
		rc = vio_uplink_vdev(v->o.vdev[i], err);
	for (unsigned i = 0; rc == 0 && i < v->o.n_uplinks; i++) {
		struct vio_err why = {""};

		rc = vio_uplink_create(v->o.uplink[i], &v->uplink[i], &why);
		if (rc < 0)
			return vio_err_set(err, rc, "--uplink %s: %s", v->o.uplink[i], why.msg);
		vios_say(v, "uplink %s", vio_uplink_what(v->uplink[i]));
		rc = vio_switch_add(v->sw, vio_uplink_port(v->uplink[i]), err);
	}
	for (unsigned i = 0; rc == 0 && i < v->o.n_uplinks; i++) {
		if (vio_uplink_has_no_guest(v->uplink[i]))
			vios_say(
				v,
				"--uplink %s: frames are copied in: rx=in-place is for the uplink of one guest, and in its VLANs there is not just one",
				v->o.uplink[i]);
	}
	if (rc == 0 && v->sw)
		vio_lcores_set_switch(v->lcores, switch_turn, v, v->o.n_uplinks > 0);
	return rc;
}

/* Frames that they had in place. The lcores have ended. */
unsigned vios_stop_uplinks(struct vios *v)
{
	unsigned lent = 0;

	for (unsigned i = 0; i < v->o.n_uplinks; i++) {
		if (!v->uplink[i])
			continue;
		lent += vio_uplink_lent(v->uplink[i]);
		vio_uplink_stop(v->uplink[i]);
	}
	return lent;
}
