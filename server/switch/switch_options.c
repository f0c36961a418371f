/* SPDX-License-Identifier: BSD-3-Clause */
/* A port's options and names, for people: nothing here is for a frame. */
#include <stdlib.h>
#include <string.h>

#include "server/switch/switch_priv.h"

const char *vio_drop_name(enum vio_drop why)
{
	static const char *const name[VIO_N_DROP] = {
		[VIO_DROP_RUNT] = "runt",
		[VIO_DROP_OVERSIZED] = "oversized",
		[VIO_DROP_OFFLOAD] = "offload",
		[VIO_DROP_VLAN] = "vlan",
		[VIO_DROP_SOURCE] = "source",
		[VIO_DROP_TRUNCATED] = "truncated",
		[VIO_DROP_RESERVED] = "reserved",
		[VIO_DROP_STORM] = "storm",
		[VIO_DROP_PIECES] = "pieces",
		[VIO_DROP_OWN_SEGMENT] = "own_segment",
		[VIO_DROP_NO_PORT] = "no_port",
		[VIO_DROP_NO_BUFFERS] = "no_buffers",
		[VIO_DROP_TOO_SMALL] = "too_small",
		[VIO_DROP_FILTERED] = "filtered",
		[VIO_DROP_LINK_DOWN] = "link_down",
		[VIO_DROP_STOPPED] = "stopped",
	};

	return (unsigned)why < VIO_N_DROP ? name[why] : "?";
}

void vio_port_defaults(struct vio_port *p)
{
	p->vlan.pvid = 1;
	p->mtu = 1500;
	p->up = true;
	p->storm = VIO_STORM_DEFAULT;
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

static int storm_option(struct vio_port *p, const char *value, struct vio_err *err)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (!strcmp(value, "off")) {
		p->storm = 0;
		return 1;
	}
	if (*value < '0' || *value > '9' || *end || n < VIO_SWITCH_TICKS || n > VIO_STORM_MAX)
		return vio_err_set(err, -EINVAL, "storm=%s: wants %u to %u frames a second, or off",
				   value, VIO_SWITCH_TICKS, VIO_STORM_MAX);
	p->storm = (uint32_t)n;
	return 1;
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
	if (!strcmp(key, "storm"))
		return storm_option(p, value, err);
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
	p->lock = vio_fdb_key(mac, 0);
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
