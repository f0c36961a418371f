/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdlib.h>
#include <string.h>

#include "server/switch/port_set.h"

/* Longer than all keys with their longest values. */
#define MAX_PARAMS 512u

struct change {
	struct vio_port *p;
	struct vio_port_change to;
	struct vio_port
		as; /* the port as it would be; nobody but this command changes it, and it waits for its end */
	bool native;
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

/* One KEY=VALUE. */
static int port_word(void *ctx, char *text, struct vio_err *err)
{
	struct change *c = ctx;
	struct vio_port *w = &c->as;
	char *value = strchr(text, '=');
	int rc;

	if (!value)
		return vio_err_set(err, -EINVAL, "%s: wants KEY=VALUE", text);
	*value++ = '\0';
	if (!strcmp(text, "link"))
		return link_value(&c->to, value, err);
	if (!strcmp(text, "trunk")) {
		memset(w->vlan.member, 0, sizeof(w->vlan.member));
		if (!c->native)
			w->vlan.pvid = 0;
	}
	c->native |= !strcmp(text, "vlan");
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

static int port_words(struct change *c, const char *rest, struct vio_err *err)
{
	char text[MAX_PARAMS];
	int rc;

	c->as = (struct vio_port){.vlan = c->p->vlan, .mtu = c->p->mtu, .storm = c->p->storm};
	rc = vio_port_words(rest, text, sizeof(text), port_word, c, err);
	if (rc == 0 && !c->to.set_up && !c->to.set_vlan && !c->to.set_mtu && !c->to.set_storm)
		rc = vio_err_set(err, -EINVAL, "wants PORT,KEY=VALUE: nothing is to be changed");
	if (rc == 0)
		rc = vio_port_options_end(&c->as, true, err);
	c->to.vlan = c->as.vlan;
	c->to.mtu = c->as.mtu;
	c->to.storm = c->as.storm;
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

int vio_port_words(const char *rest, char *text, size_t room,
		   int (*word)(void *ctx, char *text, struct vio_err *err), void *ctx,
		   struct vio_err *err)
{
	char *save = NULL;
	int rc = 0;

	if (strlen(rest) >= room)
		return vio_err_set(err, -EINVAL, "more than %zu characters", room);
	strcpy(text, rest);
	for (char *t = strtok_r(text, ",", &save); rc == 0 && t; t = strtok_r(NULL, ",", &save))
		rc = word(ctx, t, err);
	return rc;
}

int vio_port_set(const struct vio_port_set *s, const char *params, struct vio_err *err)
{
	struct change c = {.p = NULL};
	const char *rest;
	int rc = vio_port_named(s, params, &c.p, &rest, err);

	if (rc == 0)
		rc = port_words(&c, rest, err);
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
