/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdlib.h>
#include <string.h>

#include "server/switch/port_set.h"

/* Longer than all keys with their longest values. */
#define MAX_PARAMS 512u

struct change {
	struct vio_port *p;
	struct vio_port_change to;
};

static int make(void *ctx, struct vio_err *err)
{
	struct change *c = ctx;

	return vio_switch_change(c->p, &c->to, err);
}

static int link_value(struct vio_port_change *to, const char *value, struct vio_err *err)
{
	to->set_up = true;
	to->up = !strcmp(value, "up");
	return to->up || !strcmp(value, "down")
		       ? 0
		       : vio_err_set(err, -EINVAL, "link=%s: wants up or down", value);
}

/* One KEY=VALUE; `w` is the port as it would be. */
static int word(struct change *c, struct vio_port *w, char *text, bool *native, struct vio_err *err)
{
	char *value = strchr(text, '=');
	int rc;

	if (!value)
		return vio_err_set(err, -EINVAL, "%s: wants KEY=VALUE", text);
	*value++ = '\0';
	if (!strcmp(text, "link"))
		return link_value(&c->to, value, err);
	if (!strcmp(text, "trunk")) {
		memset(w->vlan.member, 0, sizeof(w->vlan.member));
		if (!*native)
			w->vlan.pvid = 0;
	}
	*native |= !strcmp(text, "vlan");
	c->to.set_vlan |= !strcmp(text, "vlan") || !strcmp(text, "trunk");
	c->to.set_mtu |= !strcmp(text, "mtu");
	c->to.set_storm |= !strcmp(text, "storm");
	rc = vio_port_option(w, text, value, err);
	if (rc == 0)
		return vio_err_set(err, -EINVAL,
				   "%s: no such key; there are link, vlan, trunk, mtu, storm",
				   text);
	return rc < 0 ? rc : 0;
}

static int words(struct change *c, char *text, struct vio_err *err)
{
	/* Nobody but this command changes these, and it waits for its end. */
	struct vio_port w = {.vlan = c->p->vlan, .mtu = c->p->mtu, .storm = c->p->storm};
	char *save = NULL;
	bool native = false;
	int rc = 0;

	for (char *t = strtok_r(text, ",", &save); rc == 0 && t; t = strtok_r(NULL, ",", &save))
		rc = word(c, &w, t, &native, err);
	if (rc == 0 && !c->to.set_up && !c->to.set_vlan && !c->to.set_mtu && !c->to.set_storm)
		rc = vio_err_set(err, -EINVAL, "wants PORT,KEY=VALUE: nothing is to be changed");
	if (rc == 0)
		rc = vio_port_options_end(&w, true, err);
	c->to.vlan = w.vlan;
	c->to.mtu = w.mtu;
	c->to.storm = w.storm;
	return rc;
}

int vio_port_named(const struct vio_port_set *s, const char *params, struct vio_port **p,
		   const char **rest, struct vio_err *err)
{
	char *end;
	unsigned long port = strtoul(params, &end, 10);

	if (!s->sw)
		return vio_err_set(err, -ENODEV, "there is no switch: no --net");
	if (*params < '0' || *params > '9' || (*end && *end != ','))
		return vio_err_set(err, -EINVAL, "%.40s: wants PORT,KEY=VALUE,...", params);
	*p = port < VIO_SWITCH_PORTS ? (struct vio_port *)vio_switch_port(s->sw, (unsigned)port)
				     : NULL;
	*rest = end;
	return *p ? 0 : vio_err_set(err, -ENOENT, "there is no port %lu", port);
}

int vio_port_set(const struct vio_port_set *s, const char *params, struct vio_err *err)
{
	struct change c = {.p = NULL};
	char text[MAX_PARAMS];
	const char *rest;
	int rc = vio_port_named(s, params, &c.p, &rest, err);

	if (rc < 0)
		return rc;
	if (strlen(rest) >= sizeof(text))
		return vio_err_set(err, -EINVAL, "more than %u characters", MAX_PARAMS);
	strcpy(text, rest);
	rc = words(&c, text, err);
	return rc < 0 ? rc : s->call(s->ctx, make, &c, err);
}

struct rows {
	struct vio_switch *sw;
	uint32_t *at;
	struct vio_fdb_row *row;
	unsigned max;
};

static int take_rows(void *ctx, struct vio_err *err)
{
	struct rows *r = ctx;

	(void)err;
	return (int)vio_switch_rows(r->sw, r->at, r->row, r->max);
}

int vio_port_rows(const struct vio_port_set *s, uint32_t *at, struct vio_fdb_row *row, unsigned max,
		  struct vio_err *err)
{
	struct rows r = {s->sw, at, row, max};

	return s->sw ? s->call(s->ctx, take_rows, &r, err)
		     : vio_err_set(err, -ENODEV, "there is no switch: no --net");
}
