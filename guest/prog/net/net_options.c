/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdlib.h>
#include <string.h>

#include "guest/prog/net/net_options.h"
#include "vio/number.h"

static int set_mac(const struct vio_option *row, void *to, const char *text, struct vio_err *err)
{
	uint8_t *mac = to;
	const char *p = text;

	for (unsigned i = 0; i < 6; i++) {
		char *end;
		unsigned long v = strtoul(p, &end, 16);

		if (end == p || end > p + 2 || v > 255 || *end != (i < 5 ? ':' : 0))
			return vio_err_set(err, -EINVAL,
					   "--%s %s: must be an address like 02:00:00:00:00:01",
					   row->name, text);
		mac[i] = (uint8_t)v;
		p = end + 1;
	}
	return 0;
}

static int set_sizes(const struct vio_option *row, void *to, const char *text, struct vio_err *err)
{
	struct vio_nl_cfg *l = to;
	char copy[256], *rest, *word;

	if (strlen(text) >= sizeof(copy))
		return vio_err_set(err, -EINVAL, "--%s %s: too long", row->name, text);
	strcpy(copy, text);
	l->n_sizes = 0;
	for (word = strtok_r(copy, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
		uint64_t v = 0;
		int rc = vio_option_number(row->name, word, VIO_NF_MIN, VIO_NF_MAX, &v, err);

		if (rc)
			return rc;
		if (l->n_sizes == VIO_NL_MAX_SIZES)
			return vio_err_set(err, -EINVAL, "--%s %s: at most %u sizes", row->name,
					   text, VIO_NL_MAX_SIZES);
		l->size[l->n_sizes++] = (uint32_t)v;
	}
	return l->n_sizes ? 0 : vio_err_set(err, -EINVAL, "--%s: no size given", row->name);
}

static const char *const touches[] = {"headers", "all", NULL};

#define O struct vio_net_opts
const struct vio_option vio_rows_card[] = {
	{"buffers", "N", "buffers of each pair; 0: enough for both queues",
	 VIO_NUMBER(O, net.buffers, 0, 65536), .def = "0"},
	{"buf-len", "BYTES",
	 "of each buffer; a frame may take several (2k; vio-tap with offload: 8k)",
	 VIO_NUMBER(O, net.buf_len, 256, 131072), .power_of_two = true},
	{0},
};

const struct vio_option vio_rows_address[] = {
	{"mac", "MAC", "take this address (the card's)", VIO_CALL(O, mac, set_mac),
	 VIO_GIVEN(O, mac_given)},
	{"promisc", "on|off",
	 "tell the card; off: it passes its own address, broadcast and multicast only",
	 VIO_WORD(O, promisc, vio_off_on), VIO_GIVEN(O, promisc_given)},
	{0},
};

const struct vio_option vio_rows_ready[] = {
	VIO_ROW_READY_FD(O, ready_fd, "frames can pass"),
	{0},
};

static const struct vio_option rows[] = {
	VIO_ROWS(O, c, vio_rows_machine),
	VIO_ROWS(O, c, vio_rows_design),
	{.kind = VIO_OPTION_ROWS, .rows = vio_rows_card},
	{"no-merge", NULL, "do without mergeable receive buffers", VIO_FLAG(O, net.no_merge)},
	{"offload", NULL, "take checksum and segmentation offload when offered",
	 VIO_FLAG(O, net.offload)},
	VIO_ROWS(O, c, vio_rows_spin),
	VIO_ROW_IDLE(O, c, "never"),
	VIO_LINES("load\n"),
	{"forward", "MODE", "what to do with frames, as testpmd",
	 VIO_WORD(O, load.mode, vio_nl_modes), .def = "txonly"},
	{"size", "N[,N...]",
	 "bytes of frames without FCS, as testpmd counts them, in turn: 64 to 9018",
	 VIO_CALL(O, load, set_sizes), .def = "64"},
	{"touch", "WHAT",
	 "all: write a pattern and check every byte; headers: sender, number and length only; one of",
	 VIO_WORD(O, load.frame.payload, touches), .def = "headers"},
	{"burst", "N", "frames a publish", VIO_NUMBER(O, load.burst, 1, VIO_NL_MAX_BURST),
	 .def = "32"},
	VIO_ROW_COUNT(O, load.count),
	VIO_ROW_SECONDS(O, load.run_ns, NULL),
	VIO_ROW_WARM_SECONDS(O, load.warm_ns),
	{"drain-seconds", "S", "after measuring: until nothing has arrived for so long",
	 VIO_SECONDS(O, load.drain_ns, 0, 1e6), .def = "0.05"},
	VIO_ROW_RATE(O, load.rate),
	{"peer", "MAC", "send to this address (broadcast; mac mode: to where a frame came from)",
	 VIO_CALL(O, load.frame.dst, set_mac), VIO_GIVEN(O, load.peer_given)},
	{"vlan", "ID", "tag frames with this VLAN", VIO_NUMBER(O, load.frame.vlan, 1, 4094)},
	{"flows", "N", "flowgen: destination IP addresses in turn (1024)",
	 VIO_NUMBER(O, load.frame.flows, 1, 65000)},
	{.kind = VIO_OPTION_ROWS, .rows = vio_rows_address},
	VIO_ROW_SEED(O, load.frame.seed),
	VIO_ROWS(O, c, vio_rows_output),
	{.kind = VIO_OPTION_ROWS, .rows = vio_rows_ready},
	VIO_ROWS(O, c, vio_rows_stage),
	VIO_ROWS(O, c, vio_rows_end),
	{0},
};
#undef O

static const struct vio_program program = {
	.name = "vio-net",
	.about =
		"vio-net: a guest partition that sends, receives or forwards frames and checks them\n\n",
	.tail = "Exit code: 0 done and nothing wrong, 1 failed or wrong data, 2 wrong use. Lost frames are reported, not an error.\n",
	.version = VIO_VERSION,
	.rows = rows,
};

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

	memset(o, 0, sizeof(*o));
	vio_common_defaults(&o->c);
	o->ready_fd = -1;
	l->run_ns = UINT64_MAX; /* not given */
	memset(l->frame.dst, 0xff, 6);
	rc = vio_common_parse(&program, o, &o->c, argc, argv, err);
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
