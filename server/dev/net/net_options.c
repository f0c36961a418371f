/* SPDX-License-Identifier: BSD-3-Clause */
/* The words of --net. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/dev/net/net_priv.h"

static int parse_mac(const char *text, uint8_t mac[6])
{
	unsigned v[6];
	int end = 0;

	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5],
		   &end) != 6 ||
	    text[end])
		return -EINVAL;
	for (unsigned i = 0; i < 6; i++)
		mac[i] = (uint8_t)v[i];
	return (mac[0] & 1) || !(mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]) ? -EINVAL : 0;
}

static int option(struct vio_net *n, const char *key, const char *value, struct vio_err *err)
{
	char *end;
	unsigned long v;

	if (!strcasecmp(key, "mac")) {
		if (parse_mac(value, n->mac) < 0)
			return vio_err_set(
				err, -EINVAL,
				"%s=%s: wants one station's address, e.g. 02:00:00:00:00:01", key,
				value);
		return 1;
	}
	if (!strcmp(key, "queues")) {
		v = strtoul(value, &end, 10);
		if (!*value || *end || v < 1 || v > VIO_NET_MAX_PAIRS)
			return vio_err_set(err, -EINVAL, "queues=%s: wants 1 to %u pairs", value,
					   VIO_NET_MAX_PAIRS);
		n->max_pairs = (uint16_t)v;
		return 1;
	}
	if (!strcmp(key, "link")) {
		n->follows = !strcmp(value, "uplink");
		if (strcmp(value, "up") && strcmp(value, "down") && !n->follows)
			return vio_err_set(err, -EINVAL, "link=%s: wants up, down or uplink",
					   value);
		n->port.up = strcmp(value, "down");
		return 1;
	}
	if (!strcmp(key, "speed")) {
		v = strtoul(value, &end, 10);
		if (*value < '0' || *value > '9' || *end || v < 1 || v > INT32_MAX)
			return vio_err_set(err, -EINVAL, "speed=%s: wants Mb/s, 1 to %d", value,
					   INT32_MAX);
		n->shown_speed = (uint32_t)v;
		n->fixed_speed = true;
		return 1;
	}
	if (!strcmp(key, "lock-mac")) {
		n->locked = !strcmp(value, "on");
		if (!n->locked && strcmp(value, "off"))
			return vio_err_set(err, -EINVAL, "lock-mac=%s: wants on or off", value);
		return 1;
	}
	return vio_port_option(&n->port, key, value, err);
}

int vio_net_parse(struct vio_net *n, char *text, struct vio_err *err)
{
	bool vlan = false;
	char *save = NULL;

	for (char *w = strtok_r(text, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
		char *value = strchr(w, '=');
		int rc;

		if (!value)
			return vio_err_set(err, -EINVAL, "%s: wants KEY=VALUE", w);
		*value++ = '\0';
		vlan |= !strcmp(w, "vlan");
		rc = option(n, w, value, err);
		if (rc < 0)
			return rc;
		if (rc == 0)
			return vio_err_set(
				err, -EINVAL,
				"%s: no such key; there are MAC, vlan, trunk, mtu, storm, queues, link, speed, lock-mac",
				w);
	}
	return vio_port_options_end(&n->port, vlan, err);
}
