/* SPDX-License-Identifier: BSD-3-Clause */
#include <ctype.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "common/option_rows.h"
#include "proto/msg.h"
#include "server/core/device.h"
#include "server/options.h"
#include "vio/arm.h"

#ifndef VIO_VERSION
#define VIO_VERSION "unknown"
#endif

static int add_core(unsigned c, unsigned core[], unsigned max, unsigned *n, const char *text,
		    struct vio_err *err)
{
	for (unsigned i = 0; i < *n; i++) {
		if (core[i] == c)
			return vio_err_set(err, -EINVAL, "--lcores %s: processor %u is named twice",
					   text, c);
	}
	if (*n == max)
		return vio_err_set(err, -EINVAL, "--lcores %s: at most %u are possible", text, max);
	core[(*n)++] = c;
	return 0;
}

int vio_parse_cores(const char *text, unsigned core[], unsigned max, unsigned *n,
		    struct vio_err *err)
{
	const char *p = text;

	*n = 0;
	do {
		unsigned long from, to;
		char *end;

		if (!isdigit((unsigned char)*p))
			break;
		from = to = strtoul(p, &end, 10);
		p = end;
		if (*p == '-' && isdigit((unsigned char)p[1])) {
			to = strtoul(p + 1, &end, 10);
			p = end;
		}
		if (to < from || to > 65535)
			break;
		for (unsigned long c = from; c <= to; c++) {
			if (add_core((unsigned)c, core, max, n, text, err) < 0)
				return -EINVAL;
		}
		if (!*p)
			return 0;
	} while (*p++ == ',');
	return vio_err_set(err, -EINVAL,
			   "--lcores %s: a list of processor numbers, e.g. 1 or 1,3-5", text);
}

static const char *ring_name(unsigned i)
{
	return vio_ring_name((enum vio_ring_access)i);
}
static const char *payload_name(unsigned i)
{
	return vio_payload_name((enum vio_payload)i);
}
static const char *notify_name(unsigned i)
{
	return vio_notify_name((enum vio_notification)i);
}

/* "copy+direct" to a mask. */
static int levels(const char *factor, char *text, const char *(*name)(unsigned), unsigned n,
		  uint8_t *mask, struct vio_err *err)
{
	char *save = NULL;
	uint8_t m = 0;

	for (char *w = strtok_r(text, "+", &save); w; w = strtok_r(NULL, "+", &save)) {
		unsigned i = 0;

		while (i < n && strcmp(w, name(i)))
			i++;
		if (i == n) {
			char all[128] = "";

			for (i = 0; i < n; i++) {
				strncat(all, i ? ", " : "", sizeof(all) - strlen(all) - 1);
				strncat(all, name(i), sizeof(all) - strlen(all) - 1);
			}
			return vio_err_set(err, -EINVAL,
					   "--allow %s=%s: no such level; there are %s", factor, w,
					   all);
		}
		m |= (uint8_t)(1u << i);
	}
	if (!m)
		return vio_err_set(err, -EINVAL, "--allow %s=: names no level", factor);
	*mask = m;
	return 0;
}

int vio_parse_allow(const char *text, struct vio_server_opts *o, struct vio_err *err)
{
	char *copy = strdup(text), *save = NULL;
	int rc = copy ? 0 : vio_err_set(err, -ENOMEM, "no memory");

	for (char *f = copy ? strtok_r(copy, ",", &save) : NULL; f && rc == 0;
	     f = strtok_r(NULL, ",", &save)) {
		char *value = strchr(f, '=');

		if (value)
			*value++ = '\0';
		if (value && !strcmp(f, "ring"))
			rc = levels(f, value, ring_name, VIO_N_RING, &o->ring_levels, err);
		else if (value && !strcmp(f, "payload"))
			rc = levels(f, value, payload_name, VIO_N_PAYLOAD, &o->payload_levels, err);
		else if (value && !strcmp(f, "notify"))
			rc = levels(f, value, notify_name, VIO_N_NOTIFY, &o->notify_levels, err);
		else
			rc = vio_err_set(
				err, -EINVAL,
				"--allow %s: wants ring=LEVEL+..., payload=LEVEL+..., notify=LEVEL+..., separated by commas",
				f);
	}
	free(copy);
	return rc;
}

/* ---------------------------------------------------------------------------- rows ---- */

static int set_cores(const struct vio_option *row, void *to, const char *text, struct vio_err *err)
{
	struct vio_server_opts *o = to;

	(void)row;
	return vio_parse_cores(text, o->core, VIO_SERVER_MAX_LCORES, &o->n_cores, err);
}

static int set_allow(const struct vio_option *row, void *to, const char *text, struct vio_err *err)
{
	(void)row;
	return vio_parse_allow(text, to, err);
}

/* A row for each kind of device. */
static const struct vio_option *kind_row(unsigned i)
{
	return vio_dev_kinds[i] ? &vio_dev_kinds[i]->row : NULL;
}

static int add_port(const struct vio_option *row, const char *list[], unsigned *n, const char *text,
		    struct vio_err *err)
{
	if (*n == VIO_SERVER_MAX_UPLINKS)
		return vio_err_set(err, -EINVAL, "--%s %s: at most %u", row->name, text,
				   VIO_SERVER_MAX_UPLINKS);
	list[(*n)++] = text;
	return 0;
}

static int add_uplink(const struct vio_option *row, void *to, const char *text, struct vio_err *err)
{
	struct vio_server_opts *o = to;

	return add_port(row, o->uplink, &o->n_uplinks, text, err);
}

static int add_vdev(const struct vio_option *row, void *to, const char *text, struct vio_err *err)
{
	struct vio_server_opts *o = to;

	return add_port(row, o->vdev, &o->n_vdevs, text, err);
}

static int set_prefix(const struct vio_option *row, void *to, const char *text, struct vio_err *err)
{
	if (!*text || strchr(text, '/') || text[0] == '.' || strlen(text) > 64)
		return vio_err_set(err, -EINVAL, "--%s %s: a file name of 1 to 64 characters",
				   row->name, text);
	*(const char **)to = text;
	return 0;
}

#define O struct vio_server_opts
static const struct vio_option rows[] = {
	VIO_LINES("machine\n"),
	VIO_ROW_PHYP(O, socket),
	VIO_ROW_PARTITION(O, partition, "vios"),
	{"lcores", "LIST", "processors to poll on, e.g. 1 or 1,3-5 (the last one that may be used)",
	 VIO_CALL_ALL(set_cores)},
	VIO_LINES(
		"devices: one for each adapter, in order; when a --disk is the last one, it repeats\n"),
	{.kind = VIO_OPTION_ROWS, VIO_AT(O, devices), .each = kind_row},
	{"uplink", "DEVARGS[,vlan=N][,trunk=LIST][,mtu=N][,storm=N|off][,rx=in-place]",
	 "a DPDK port of the switch (rx: into the buffers of the one guest that it belongs to), e.g. net_tap0,iface=vio0 or net_af_packet0,iface=eth1 or 0000:03:00.0, or net_bonding0,mode=1,slave=net_tap0,slave=net_tap1 of devices made before with --vdev",
	 VIO_CALL_ALL(add_uplink)},
	{"vdev", "DEVARGS", "make a DPDK device that an uplink consists of",
	 VIO_CALL_ALL(add_vdev)},
	VIO_LINES("design\n"),
	{"queues", "N", "queues of each disk offered", VIO_NUMBER(O, queues, 1, VIO_MAX_QUEUES),
	 .def = "4"},
	{"queue-size", "N", "largest queue", VIO_NUMBER(O, queue_size, 2, VIO_MAX_QUEUE_SIZE),
	 .power_of_two = true, .def = "256"},
	{"allow", "LEVELS",
	 "levels offered, e.g. ring=copy+direct,payload=rdma (all but payload unchecked)",
	 VIO_CALL_ALL(set_allow)},
	{"unprotected", NULL,
	 "offer payload unchecked too: no address check, an upper bound, never a product",
	 VIO_FLAG(O, unprotected)},
	VIO_ROW_PROTO(O, proto, VIO_PROTO_LATEST),
	VIO_LINES("running\n"),
	VIO_ROW_SPIN(O, spin_ns),
	{"idle-ms", "N", "poll: sleep after this long without work",
	 VIO_NUMBER(O, idle_ns, 0, 1000000), .unit = 1000000, .never = true, .def = "100"},
	{"no-huge", NULL, "DPDK without hugepages (default: when none are free)",
	 VIO_FLAG(O, no_huge)},
	{"file-prefix", "NAME", "of DPDK's runtime directory, for dpdk-telemetry.py -f NAME",
	 VIO_CALL(O, prefix, set_prefix), .def = "vios"},
	VIO_ROW_DUET(O, duet),
	{"gap-look", "on|off", "look for gaps by the tick counter in the polling loop",
	 VIO_WORD(O, gap_look, vio_off_on), .def = "on"},
	VIO_ROW_TRACE(O, trace),
	VIO_ROW_FAULT(O, fault),
	VIO_ROW_READY_FD(O, ready_fd, "guests can connect"),
	VIO_ROWS_SANDBOX(O, sandbox),
	{0},
};
#undef O

static const struct vio_program program = {
	.name = "vios",
	.about = "vios: the VIO server partition; serves virtual disks and Ethernet to guests\n\n",
	.tail = "Exit code: 0 ended by a signal, 1 failed, 2 wrong use.\n",
	.version = VIO_VERSION,
	.rows = rows,
};

static int opts_check(struct vio_server_opts *o, struct vio_err *err)
{
	bool port = false;

	if (o->devices.n == 0)
		return vio_err_set(
			err, -EINVAL,
			"--disk is missing, or --net: what shall be served? e.g. --disk memory,size=256M, or --net vlan=1");
	for (unsigned i = 0; i < o->devices.n; i++) {
		const struct vio_dev_kind *kind = o->devices.d[i].kind;

		port |= kind->port != NULL;
		if (kind->min_proto > o->proto)
			return vio_err_set(err, -EINVAL, "--proto %u: --%s needs version %u",
					   o->proto, kind->row.name, kind->min_proto);
	}
	if (o->n_uplinks > 0 && !port)
		return vio_err_set(err, -EINVAL,
				   "--uplink %s: needs a --net, or nobody is there to use it",
				   o->uplink[0]);
	if (o->ready_fd >= 0 && fcntl(o->ready_fd, F_GETFD) < 0)
		return vio_err_set(err, -EINVAL, "--ready-fd %d: is not open", o->ready_fd);
	if (o->unprotected)
		o->payload_levels |= 1u << VIO_PAYLOAD_UNCHECKED;
	else if (o->payload_levels >> VIO_PAYLOAD_UNCHECKED & 1)
		return vio_err_set(
			err, -EINVAL,
			"--allow payload=unchecked: needs --unprotected, which says what it gives up");
	return 0;
}

int vio_server_opts_parse(struct vio_server_opts *o, int argc, char **argv, struct vio_err *err)
{
	int rc;

	*o = (struct vio_server_opts){
		.ring_levels = (1u << VIO_N_RING) - 1,
		.payload_levels = ((1u << VIO_N_PAYLOAD) - 1) & ~(1u << VIO_PAYLOAD_UNCHECKED),
		.notify_levels = (1u << VIO_N_NOTIFY) - 1,
		.ready_fd = -1,
	};
	rc = vio_options_parse(&program, o, argc, argv, err);
	return rc ? rc : opts_check(o, err);
}
