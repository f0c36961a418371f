/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdlib.h>
#include <string.h>

#include "guest/prog/net_options.h"
#include "vio/number.h"

static const char usage[] =
	"vio-net: a guest partition that sends, receives or forwards frames and checks them\n"
	"\n" VIO_USAGE_MACHINE "design\n" VIO_USAGE_ARM
	"  --queues N           pairs of queues wanted (1)        --queue-size N   entries, power of two (256)\n" VIO_USAGE_MAPPING
	"  --copybreak BYTES    payload=copybreak: bounce below this (256)\n"
	"  --buffers N          buffers of each pair (0: enough for both queues)\n"
	"  --buf-len BYTES      of each buffer, power of two (2k; a frame may take several)\n"
	"  --no-merge           do without mergeable receive buffers\n"
	"  --offload            take checksum and segmentation offload when offered\n" VIO_USAGE_NOTIFY
	"load\n"
	"  --forward MODE       txonly, rxonly, io, mac, flowgen, as testpmd's (txonly)\n"
	"  --size N[,N...]      bytes of frames without FCS, as testpmd counts them, in turn: 64 to 9018 (64)\n"
	"  --touch headers|all  all: write a pattern and check every byte; headers: sender, number and length only (headers)\n"
	"  --burst N            frames a publish (32)\n"
	"  --count N            measure so many frames, or\n"
	"  --seconds S          measure so long (1)\n"
	"  --warm-seconds S     before measuring (0.1)\n"
	"  --drain-seconds S    after measuring: until nothing has arrived for so long (0.05)\n"
	"  --rate N             open loop: start N frames a second, latency from the intended start\n"
	"  --peer MAC           send to this address (broadcast; mac mode: to where a frame came from)\n"
	"  --mac MAC            take this address (the card's)\n"
	"  --vlan ID            tag frames with this VLAN, 1 to 4094\n"
	"  --flows N            flowgen: destination IP addresses in turn (1024)\n"
	"  --promisc on|off     tell the card\n"
	"  --seed N             of patterns (1)\n"
	"other\n"
	"  --info               print what the card is and stop\n"
	"  --json FILE          write the result as JSON (- = standard output)\n"
	"  --ready-fd N         write a byte to this descriptor when frames can be received\n" VIO_USAGE_TRACE
		VIO_USAGE_STAGE VIO_USAGE_END
	"Exit code: 0 done and nothing wrong, 1 failed or wrong data, 2 wrong use. Lost frames are reported, not an error.\n";

enum {
	O_BUFFERS = VIO_O_OWN,
	O_BUF_LEN,
	O_NO_MERGE,
	O_OFFLOAD,
	O_FORWARD,
	O_SIZE,
	O_TOUCH,
	O_BURST,
	O_COUNT,
	O_SECONDS,
	O_WARM,
	O_DRAIN,
	O_RATE,
	O_PEER,
	O_MAC,
	O_VLAN,
	O_FLOWS,
	O_PROMISC,
	O_SEED,
	O_READY,
};

static const struct option longs[] = {
	VIO_COMMON_OPTIONS,
	{"buffers", 1, 0, O_BUFFERS},
	{"buf-len", 1, 0, O_BUF_LEN},
	{"no-merge", 0, 0, O_NO_MERGE},
	{"offload", 0, 0, O_OFFLOAD},
	{"forward", 1, 0, O_FORWARD},
	{"size", 1, 0, O_SIZE},
	{"touch", 1, 0, O_TOUCH},
	{"burst", 1, 0, O_BURST},
	{"count", 1, 0, O_COUNT},
	{"seconds", 1, 0, O_SECONDS},
	{"warm-seconds", 1, 0, O_WARM},
	{"drain-seconds", 1, 0, O_DRAIN},
	{"rate", 1, 0, O_RATE},
	{"peer", 1, 0, O_PEER},
	{"mac", 1, 0, O_MAC},
	{"vlan", 1, 0, O_VLAN},
	{"flows", 1, 0, O_FLOWS},
	{"promisc", 1, 0, O_PROMISC},
	{"seed", 1, 0, O_SEED},
	{"ready-fd", 1, 0, O_READY},
	{0, 0, 0, 0},
};

int vio_option_mac(const char *name, const char *text, uint8_t mac[6], struct vio_err *err)
{
	const char *p = text;

	for (unsigned i = 0; i < 6; i++) {
		char *end;
		unsigned long v = strtoul(p, &end, 16);

		if (end == p || end > p + 2 || v > 255 || *end != (i < 5 ? ':' : 0))
			return vio_err_set(err, -EINVAL,
					   "--%s %s: must be an address like 02:00:00:00:00:01",
					   name, text);
		mac[i] = (uint8_t)v;
		p = end + 1;
	}
	return 0;
}

static int parse_mode(struct vio_nl_cfg *l, const char *text, struct vio_err *err)
{
	for (unsigned i = VIO_NL_TXONLY; i <= VIO_NL_FLOWGEN; i++)
		if (!strcmp(text, vio_nl_mode_name((enum vio_nl_mode)i))) {
			l->mode = (enum vio_nl_mode)i;
			return 0;
		}
	return vio_err_set(err, -EINVAL, "--forward %s: one of txonly, rxonly, io, mac, flowgen",
			   text);
}

static int parse_sizes(struct vio_nl_cfg *l, const char *text, struct vio_err *err)
{
	char copy[256], *rest, *word;

	if (strlen(text) >= sizeof(copy))
		return vio_err_set(err, -EINVAL, "--size %s: too long", text);
	strcpy(copy, text);
	l->n_sizes = 0;
	for (word = strtok_r(copy, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
		uint64_t v = 0;
		int rc = vio_option_number("size", word, VIO_NF_MIN, VIO_NF_MAX, &v, err);

		if (rc)
			return rc;
		if (l->n_sizes == VIO_NL_MAX_SIZES)
			return vio_err_set(err, -EINVAL, "--size %s: at most %u sizes", text,
					   VIO_NL_MAX_SIZES);
		l->size[l->n_sizes++] = (uint32_t)v;
	}
	return l->n_sizes ? 0 : vio_err_set(err, -EINVAL, "--size: no size given");
}

/* Options of the buffers. 1: not one of them. */
static int parse_card(struct vio_net_opts *o, int c, const char *name, const char *arg,
		      struct vio_err *err)
{
	uint64_t v = 0;
	int rc;

	switch (c) {
	case O_BUFFERS:
		rc = vio_option_number(name, arg, 0, 65536, &v, err);
		o->net.buffers = (uint32_t)v;
		return rc;
	case O_BUF_LEN:
		rc = vio_option_number(name, arg, 256, 131072, &v, err);
		o->net.buf_len = (uint32_t)v;
		return rc;
	case O_NO_MERGE:
		o->net.no_merge = true;
		return 0;
	case O_OFFLOAD:
		o->net.offload = true;
		return 0;
	case O_MAC:
		o->mac_given = true;
		return vio_option_mac(name, arg, o->mac, err);
	case O_PROMISC:
		o->promisc_given = true;
		return vio_option_on_off(name, arg, &o->promisc, err);
	case O_READY:
		rc = vio_option_number(name, arg, 0, 1u << 20, &v, err);
		o->ready_fd = (int)v;
		return rc;
	default:
		return 1;
	}
}

static int parse_load(struct vio_nl_cfg *l, int c, const char *name, const char *arg,
		      struct vio_err *err)
{
	uint64_t v = 0;
	int rc;

	switch (c) {
	case O_FORWARD:
		return parse_mode(l, arg, err);
	case O_SIZE:
		return parse_sizes(l, arg, err);
	case O_TOUCH:
		if (strcmp(arg, "headers") && strcmp(arg, "all"))
			return vio_err_set(err, -EINVAL, "--touch %s: headers or all", arg);
		l->frame.payload = !strcmp(arg, "all");
		return 0;
	case O_BURST:
		rc = vio_option_number(name, arg, 1, VIO_NL_MAX_BURST, &v, err);
		l->burst = (unsigned)v;
		return rc;
	case O_COUNT:
		return vio_option_number(name, arg, 1, UINT64_MAX / 2, &l->count, err);
	case O_SECONDS:
		return vio_option_seconds(name, arg, &l->run_ns, err);
	case O_WARM:
		return vio_option_seconds(name, arg, &l->warm_ns, err);
	case O_DRAIN:
		return vio_option_seconds(name, arg, &l->drain_ns, err);
	case O_RATE:
		return vio_option_rate(name, arg, &l->rate, err);
	case O_PEER:
		l->peer_given = true;
		return vio_option_mac(name, arg, l->frame.dst, err);
	case O_VLAN:
		rc = vio_option_number(name, arg, 1, 4094, &v, err);
		l->frame.vlan = (uint16_t)v;
		return rc;
	case O_FLOWS:
		rc = vio_option_number(name, arg, 1, 65000, &v, err);
		l->frame.flows = (uint16_t)v;
		return rc;
	case O_SEED:
		return vio_option_number(name, arg, 0, UINT64_MAX / 4, &l->frame.seed, err);
	default:
		return 1;
	}
}

static int parse_own(void *ctx, int c, const char *arg, struct vio_err *err)
{
	struct vio_net_opts *o = ctx;
	const char *name = vio_option_name(longs, c);
	int rc = parse_card(o, c, name, arg, err);

	return rc > 0 ? parse_load(&o->load, c, name, arg, err) : rc;
}

static void defaults(struct vio_net_opts *o)
{
	memset(o, 0, sizeof(*o));
	vio_common_defaults(&o->c);
	o->ready_fd = -1;
	o->load.size[0] = VIO_NF_MIN;
	o->load.n_sizes = 1;
	o->load.burst = 32;
	o->load.run_ns = UINT64_MAX; /* not given */
	o->load.warm_ns = 100000000;
	o->load.drain_ns = 50000000;
	o->load.frame.flows = 0; /* not given */
	o->load.frame.seed = 1;
	memset(o->load.frame.dst, 0xff, 6);
}

void vio_net_cfg_from(struct vio_net_cfg *n, const struct vio_common *c)
{
	n->transport = c->transport;
	n->pairs = c->transport.num_queues;
	n->copybreak = c->copybreak;
	n->defer_batch = c->defer_batch;
	n->quota_pages = c->quota_pages;
	n->spin_ns = c->spin_ns;
	n->idle_ns = c->idle_ns;
}

int vio_net_opts_parse(struct vio_net_opts *o, int argc, char **argv, struct vio_err *err)
{
	struct vio_nl_cfg *l = &o->load;
	int rc;

	defaults(o);
	rc = vio_common_parse(&o->c, argc, argv, "vio-net", usage, longs, parse_own, o, err);
	if (rc)
		return rc;
	vio_net_cfg_from(&o->net, &o->c);
	if (l->run_ns == UINT64_MAX)
		l->run_ns = l->count ? 0 : 1000000000;
	if (l->frame.flows == 0)
		l->frame.flows = l->mode == VIO_NL_FLOWGEN ? 1024 : 1;
	if (l->frame.flows > 1 && l->mode != VIO_NL_FLOWGEN)
		return vio_err_set(err, -EINVAL, "--flows goes with --forward flowgen");
	return 0;
}
