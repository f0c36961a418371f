/* SPDX-License-Identifier: BSD-3-Clause */
#include <ctype.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "proto/msg.h"
#include "server/backends/backend.h"
#include "server/options.h"
#include "vio/arm.h"
#include "vio/number.h"

#ifndef VIO_VERSION
#define VIO_VERSION "unknown"
#endif

static const char usage_head[] =
	"vios: the VIO server partition; serves virtual disks and Ethernet to guests\n"
	"\n"
	"machine\n"
	"  --phyp SOCKET        phypd's control socket (/tmp/vio-phyp.sock)\n"
	"  --partition NAME     which partition to be (vios)\n"
	"  --lcores LIST        processors to poll on, e.g. 1 or 1,3-5 (the last one that may be used)\n"
	"devices: one --disk or --net for each adapter, in order; when a --disk is the last one, it repeats\n"
	"  --disk BACKEND[,KEY=VALUE...]\n";
static const char usage_tail[] =
	"    short=on: requests down to 64 bytes, positions still sectors; outside VIRTIO, for measurements only\n"
	"  --net [MAC=AA:BB:CC:DD:EE:FF][,vlan=N][,trunk=LIST][,mtu=N][,queues=N][,storm=N|off]\n"
	"        [,link=up|down|uplink][,lock-mac=on|off]\n"
	"    a port of the switch. vlan: of untagged frames (1); trunk: VLANs with tags, e.g. 10+20-30 or all;\n"
	"    mtu: 68 to 9000 (1500); queues: receive and transmit pairs, 1 to 31 (1); lock-mac: drop what\n"
	"    comes from another address than MAC (off). --net= for all defaults\n"
	"  --uplink DEVARGS[,vlan=N][,trunk=LIST][,mtu=N][,storm=N|off]\n"
	"    a DPDK port of the switch, e.g. net_tap0,iface=vio0 or net_af_packet0,iface=eth1 or 0000:03:00.0, or\n"
	"    net_bonding0,mode=1,slave=net_tap0,slave=net_tap1 of devices made before with --vdev\n"
	"  --vdev DEVARGS       make a DPDK device that an uplink consists of\n"
	"design\n"
	"  --queues N           queues of each disk offered, 1 to 64 (4)\n"
	"  --queue-size N       largest queue, power of two from 2 to 32768 (256)\n"
	"  --allow LEVELS       levels offered, e.g. ring=copy+direct,payload=rdma (all but payload unchecked)\n"
	"  --unprotected        offer payload unchecked too: no address check, an upper bound, never a product\n"
	"  --proto 1|2          highest protocol version to speak (2)\n"
	"running\n"
	"  --spin-us N          crq, suppress: look this long before sleeping (50)\n"
	"  --idle-ms N|never    poll: sleep after this long without work (100)\n"
	"  --no-huge            DPDK without hugepages (default: when none are free)\n"
	"  --file-prefix NAME   of DPDK's runtime directory, for dpdk-telemetry.py -f NAME (vios)\n"
	"  --duet FILE,slot=N   take turns with other machines on one processor, as the score in FILE says (measurements)\n"
	"  --gap-look on|off    look for gaps by the tick counter in the polling loop (on)\n"
	"  --trace              print each message and hypervisor call to standard error\n"
	"  --fault SPEC         inject faults into hypervisor calls: OP@N=RC[xCOUNT],...\n"
	"  --ready-fd N         write a byte to this descriptor when guests can connect\n"
	"  --help, --version\n"
	"Exit code: 0 ended by a signal, 1 failed, 2 wrong use.\n";

enum {
	O_PHYP = 256,
	O_PARTITION,
	O_LCORES,
	O_DISK,
	O_NET,
	O_UPLINK,
	O_VDEV,
	O_QUEUES,
	O_QUEUE_SIZE,
	O_ALLOW,
	O_UNPROTECTED,
	O_PROTO,
	O_SPIN,
	O_IDLE,
	O_NO_HUGE,
	O_PREFIX,
	O_TRACE,
	O_FAULT,
	O_DUET,
	O_LOOK,
	O_READY,
	O_HELP,
	O_VERSION,
};

static const struct option longs[] = {
	{"phyp", 1, 0, O_PHYP},
	{"partition", 1, 0, O_PARTITION},
	{"lcores", 1, 0, O_LCORES},
	{"disk", 1, 0, O_DISK},
	{"net", 1, 0, O_NET},
	{"uplink", 1, 0, O_UPLINK},
	{"vdev", 1, 0, O_VDEV},
	{"queues", 1, 0, O_QUEUES},
	{"queue-size", 1, 0, O_QUEUE_SIZE},
	{"allow", 1, 0, O_ALLOW},
	{"unprotected", 0, 0, O_UNPROTECTED},
	{"proto", 1, 0, O_PROTO},
	{"spin-us", 1, 0, O_SPIN},
	{"idle-ms", 1, 0, O_IDLE},
	{"no-huge", 0, 0, O_NO_HUGE},
	{"file-prefix", 1, 0, O_PREFIX},
	{"trace", 0, 0, O_TRACE},
	{"fault", 1, 0, O_FAULT},
	{"duet", 1, 0, O_DUET},
	{"gap-look", 1, 0, O_LOOK},
	{"ready-fd", 1, 0, O_READY},
	{"help", 0, 0, O_HELP},
	{"version", 0, 0, O_VERSION},
	{0, 0, 0, 0},
};

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

static void help(void)
{
	const char *line;

	fputs(usage_head, stdout);
	for (unsigned i = 0; (line = vio_backend_usage(i)) != NULL; i++)
		printf("    %s\n", line);
	fputs(usage_tail, stdout);
}

static void defaults(struct vio_server_opts *o)
{
	*o = (struct vio_server_opts){
		.socket = "/tmp/vio-phyp.sock",
		.partition = "vios",
		.queues = 4,
		.queue_size = 256,
		.ring_levels = (1u << VIO_N_RING) - 1,
		.payload_levels = ((1u << VIO_N_PAYLOAD) - 1) & ~(1u << VIO_PAYLOAD_UNCHECKED),
		.notify_levels = (1u << VIO_N_NOTIFY) - 1,
		.proto = VIO_PROTO_LATEST,
		.spin_ns = 50000,
		.idle_ns = 100000000,
		.prefix = "vios",
		.gap_look = true,
		.ready_fd = -1,
	};
}

static int parse_running(struct vio_server_opts *o, int c, const char *arg, struct vio_err *err)
{
	uint64_t v = 0;
	int rc;

	switch (c) {
	case O_SPIN:
		rc = vio_option_number("spin-us", arg, 0, 1000000, &v, err);
		o->spin_ns = v * 1000;
		return rc;
	case O_IDLE:
		if (!strcmp(arg, "never")) {
			o->idle_ns = UINT64_MAX;
			return 0;
		}
		rc = vio_option_number("idle-ms", arg, 0, 1000000, &v, err);
		o->idle_ns = v * 1000000;
		return rc;
	case O_NO_HUGE:
		o->no_huge = true;
		return 0;
	case O_PREFIX:
		if (!*arg || strchr(arg, '/') || arg[0] == '.' || strlen(arg) > 64)
			return vio_err_set(err, -EINVAL,
					   "--file-prefix %s: a file name of 1 to 64 characters",
					   arg);
		o->prefix = arg;
		return 0;
	case O_TRACE:
		o->trace = true;
		return 0;
	case O_FAULT:
		o->fault = arg;
		return 0;
	case O_DUET:
		o->duet = arg;
		return 0;
	case O_LOOK:
		if (strcmp(arg, "on") && strcmp(arg, "off"))
			return vio_err_set(err, -EINVAL, "--gap-look %s: on or off", arg);
		o->gap_look = !strcmp(arg, "on");
		return 0;
	default: /* O_READY */
		rc = vio_option_number("ready-fd", arg, 0, 65535, &v, err);
		if (rc == 0 && fcntl((int)v, F_GETFD) < 0)
			return vio_err_set(err, -EINVAL, "--ready-fd %s: is not open", arg);
		o->ready_fd = (int)v;
		return rc;
	}
}

static int parse_one(struct vio_server_opts *o, int c, const char *arg, struct vio_err *err)
{
	uint64_t v = 0;
	int rc;

	switch (c) {
	case O_PHYP:
		o->socket = arg;
		return 0;
	case O_PARTITION:
		o->partition = arg;
		return 0;
	case O_LCORES:
		return vio_parse_cores(arg, o->core, VIO_SERVER_MAX_LCORES, &o->n_cores, err);
	case O_DISK:
	case O_NET:
		if (o->n_devices == VIO_SERVER_MAX_DEVICES)
			return vio_err_set(err, -EINVAL, "--%s %s: at most %u devices",
					   c == O_NET ? "net" : "disk", arg,
					   VIO_SERVER_MAX_DEVICES);
		o->is_net[o->n_devices] = c == O_NET;
		o->device[o->n_devices++] = arg;
		return 0;
	case O_UPLINK:
		if (o->n_uplinks == VIO_SERVER_MAX_UPLINKS)
			return vio_err_set(err, -EINVAL, "--uplink %s: at most %u uplinks", arg,
					   VIO_SERVER_MAX_UPLINKS);
		o->uplink[o->n_uplinks++] = arg;
		return 0;
	case O_VDEV:
		if (o->n_vdevs == VIO_SERVER_MAX_UPLINKS)
			return vio_err_set(err, -EINVAL, "--vdev %s: at most %u devices", arg,
					   VIO_SERVER_MAX_UPLINKS);
		o->vdev[o->n_vdevs++] = arg;
		return 0;
	case O_QUEUES:
		rc = vio_option_number("queues", arg, 1, VIO_MAX_QUEUES, &v, err);
		o->queues = (uint16_t)v;
		return rc;
	case O_QUEUE_SIZE:
		rc = vio_option_number("queue-size", arg, 2, VIO_MAX_QUEUE_SIZE, &v, err);
		if (rc == 0 && (v & (v - 1)))
			return vio_err_set(err, -EINVAL, "--queue-size %s: must be a power of two",
					   arg);
		o->queue_size = (uint16_t)v;
		return rc;
	case O_ALLOW:
		return vio_parse_allow(arg, o, err);
	case O_UNPROTECTED:
		o->unprotected = true;
		return 0;
	case O_PROTO:
		rc = vio_option_number("proto", arg, VIO_PROTO_V1, VIO_PROTO_LATEST, &v, err);
		o->proto = (uint8_t)v;
		return rc;
	default:
		return parse_running(o, c, arg, err);
	}
}

static int check(struct vio_server_opts *o, struct vio_err *err)
{
	bool net = false;

	if (o->n_devices == 0)
		return vio_err_set(
			err, -EINVAL,
			"--disk is missing, or --net: what shall be served? e.g. --disk memory,size=256M, or --net vlan=1");
	for (unsigned i = 0; i < o->n_devices; i++)
		net |= o->is_net[i];
	if (net && o->proto < VIO_PROTO_V2)
		return vio_err_set(err, -EINVAL, "--proto %u: --net needs version %u", o->proto,
				   VIO_PROTO_V2);
	if (o->n_uplinks > 0 && !net)
		return vio_err_set(err, -EINVAL,
				   "--uplink %s: needs a --net, or nobody is there to use it",
				   o->uplink[0]);
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
	int c, rc;

	defaults(o);
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (c == O_HELP) {
			help();
			return 1;
		}
		if (c == O_VERSION) {
			puts("vios " VIO_VERSION);
			return 1;
		}
		if (c == '?' || c == ':')
			return vio_err_set(err, -EINVAL, "%s: %s; see vios --help",
					   argv[optind - 1],
					   c == ':' ? "wants a value" : "unknown option");
		rc = parse_one(o, c, optarg, err);
		if (rc < 0)
			return rc;
	}
	if (optind < argc)
		return vio_err_set(err, -EINVAL, "%s: not an option; see vios --help",
				   argv[optind]);
	return check(o, err);
}
