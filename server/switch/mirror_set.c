/* SPDX-License-Identifier: BSD-3-Clause */
/* Mirrors by command. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/switch/mirror.h"

#define MAX_PARAMS 4200u /* a path and the rest */

struct wish {
	struct vio_port *p;
	struct vio_mirror_cfg cfg;
	bool off, in, out;
	/* What the port is to have; then what it had. */
	struct vio_mirror *m;
};

/* The port's mirror for another. The switch's lcore. */
static int exchange(void *ctx, struct vio_err *err)
{
	struct wish *w = ctx;
	struct vio_mirror *had = w->p->mirror_in ? w->p->mirror_in : w->p->mirror_out;

	if (w->m && had)
		return vio_err_set(err, -EBUSY,
				   "the port is mirrored already; end that one by PORT,off");
	w->p->mirror_in = w->in ? w->m : NULL;
	w->p->mirror_out = w->out ? w->m : NULL;
	w->m = had;
	return 0;
}

static int mirror_word(void *ctx, char *text, struct vio_err *err)
{
	struct wish *w = ctx;
	char *value = strchr(text, '='), *end;

	if (!strcmp(text, "off")) {
		w->off = true;
		return 0;
	}
	if (!value)
		return vio_err_set(err, -EINVAL, "%.100s: wants KEY=VALUE, or off", text);
	*value++ = '\0';
	if (!strcmp(text, "file") && *value) {
		w->cfg.path = value;
		return 0;
	}
	if (!strcmp(text, "direction")) {
		w->in = strcmp(value, "out");
		w->out = strcmp(value, "in");
		return strcmp(value, "both") && w->in && w->out
			       ? vio_err_set(err, -EINVAL, "direction=%.20s: wants in, out or both",
					     value)
			       : 0;
	}
	if (!strcmp(text, "limit")) {
		w->cfg.limit = strtoull(value, &end, 10);
		return *value < '0' || *value > '9' || *end || w->cfg.limit < VIO_MIRROR_MIN
			       ? vio_err_set(err, -EINVAL, "limit=%.20s: wants bytes, %u at least",
					     value, VIO_MIRROR_MIN)
			       : 0;
	}
	return vio_err_set(err, -EINVAL, "%.100s: no such key; there are file, direction, limit",
			   text);
}

int vio_mirror_set(const struct vio_port_set *s, const char *params, struct vio_err *err)
{
	struct wish w = {.in = true, .out = true};
	struct vio_mirror *mine = NULL;
	char text[MAX_PARAMS];
	const char *rest;
	int rc = vio_port_named(s, params, &w.p, &rest, err);

	if (rc < 0)
		return rc;
	rc = vio_port_words(rest, text, sizeof(text), mirror_word, &w, err);
	if (rc == 0 && w.off == (w.cfg.path != NULL))
		rc = vio_err_set(err, -EINVAL, "wants PORT,file=PATH or PORT,off");
	if (rc == 0 && !w.off)
		rc = vio_mirror_start(&w.cfg, &mine, err);
	if (rc < 0)
		return rc;
	w.m = mine;
	rc = s->call(s->ctx, exchange, &w, err);
	if (rc < 0 && mine) {
		vio_mirror_stop(mine);
		unlink(w.cfg.path); /* made a moment ago, by us */
	} else if (rc == 0 && w.m) {
		vio_mirror_stop(w.m);
	} else if (rc == 0 && w.off) {
		rc = vio_err_set(err, -ENOENT, "the port is not mirrored");
	}
	return rc;
}

void vio_mirror_stop_all(struct vio_switch *sw)
{
	struct vio_port *p;

	for (unsigned i = 0; sw && (p = (struct vio_port *)vio_switch_port(sw, i)) != NULL; i++) {
		struct vio_mirror *m = p->mirror_in ? p->mirror_in : p->mirror_out;

		p->mirror_in = p->mirror_out = NULL;
		if (m)
			vio_mirror_stop(m);
	}
}
