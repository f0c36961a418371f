/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "guest/prog/net/net_options.h"

static json_t *card_json(struct vio_net *n, const struct vio_net_opts *o, uint64_t ready_ns)
{
	const struct vio_net_info *i = vio_net_get_info(n);
	char features[20], mac[20];

	snprintf(features, sizeof(features), "0x%" PRIx64, i->features);
	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", i->mac[0], i->mac[1], i->mac[2],
		 i->mac[3], i->mac[4], i->mac[5]);
	return json_pack(
		"{s:s, s:s, s:s, s:i, s:b, s:I, s:i, s:s, s:o, s:o, s:i, s:i, s:i, s:i, s:I, s:I, s:I}",
		"schema", "vio-net/1", "partition", o->c.partition, "mac", mac, "mtu", (int)i->mtu,
		"link_up", (int)i->link_up, "speed", ji(i->speed), "protocol", (int)i->version,
		"features", features, "arm_wanted", vio_arm_json(&o->c.transport.arm), "arm",
		vio_arm_json(&i->arm), "pairs", (int)i->pairs, "queue_size", (int)i->queue_size,
		"buffers", (int)i->buffers, "buf_len", (int)i->buf_len, "ready_ns", ji(ready_ns),
		"window_bytes", ji(i->window_bytes), "granted_bytes", ji(i->granted_bytes));
}

static json_t *load_json(const struct vio_net_opts *o)
{
	const struct vio_nl_cfg *l = &o->load;
	json_t *sizes = json_array();

	for (unsigned i = 0; i < l->n_sizes; i++)
		json_array_append_new(sizes, json_integer(l->size[i]));
	return json_pack("{s:s, s:o, s:s, s:i, s:f, s:i, s:i, s:I, s:i}", "forward",
			 vio_nl_mode_name(l->mode), "sizes", sizes, "touch",
			 l->frame.payload ? "all" : "headers", "burst", (int)l->burst, "rate",
			 l->rate, "vlan", (int)l->frame.vlan, "flows", (int)l->frame.flows, "seed",
			 ji(l->frame.seed), "core", o->c.core);
}

int vio_net_report_info(struct vio_net *n, const struct vio_net_opts *o, uint64_t ready_ns,
			struct vio_err *err)
{
	const struct vio_net_info *i = vio_net_get_info(n);
	json_t *root = card_json(n, o, ready_ns);
	int rc = o->c.json ? vio_json_write(root, o->c.json, err) : 0;

	if (!o->c.json || strcmp(o->c.json, "-"))
		printf("card %s: MTU %u, link %s, %u of %u pair(s) of queues of %u, protocol %u, arm %s (%s, %s, %s, %s, %s), ready after %.1f ms\n",
		       json_string_value(json_object_get(root, "mac")), i->mtu,
		       i->link_up ? "up" : "down", i->pairs, i->max_pairs, i->queue_size,
		       i->version, i->arm.name, vio_mapping_name(i->arm.mapping),
		       vio_payload_name(i->arm.payload), vio_ring_name(i->arm.ring),
		       vio_notify_name(i->arm.notify), vio_layout_name(i->arm.layout),
		       (double)ready_ns / 1e6);
	json_decref(root);
	return rc;
}

static json_t *run_json(const struct vio_nl_result *r)
{
#define R(f) #f, ji(r->f)
#define F(f) #f, ji(r->front.f)
	return json_pack(
		"{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}",
		R(elapsed_ns), R(tx_frames), R(tx_bytes), R(rx_frames), R(rx_bytes), R(tx_full),
		R(own), R(foreign), R(missing), R(disordered), R(bytes_verified), R(mismatches),
		R(publishes), R(late), F(rx_bufs), F(tx_bufs), F(rx_bad), F(tx_lost), F(tx_bad),
		F(refills), R(tx_before), "first_mismatch", r->first_mismatch);
#undef R
#undef F
}

static void print_result(const struct vio_net *n, const struct vio_net_opts *o,
			 const struct vio_nl_result *r, uint64_t hz)
{
	double s = (double)r->elapsed_ns / 1e9;

	printf("%s, %s: sent %" PRIu64 " frames, %.3f Mpps, %.3f Gb/s; received %" PRIu64
	       ", %.3f Mpps, %.3f Gb/s in %.3f s; %" PRIu64 " missing, %" PRIu64
	       " disordered, %" PRIu64 " wrong bytes; latency p50 %.2f us, p99 %.2f us\n",
	       vio_net_get_info(n)->arm.name, vio_nl_mode_name(o->load.mode), r->tx_frames,
	       (double)r->tx_frames / s / 1e6, (double)r->tx_bytes * 8 / s / 1e9, r->rx_frames,
	       (double)r->rx_frames / s / 1e6, (double)r->rx_bytes * 8 / s / 1e9, s, r->missing,
	       r->disordered, r->mismatches,
	       vio_ticks_to_ns(vio_hist_quantile(&r->latency, 0.5), hz) / 1e3,
	       vio_ticks_to_ns(vio_hist_quantile(&r->latency, 0.99), hz) / 1e3);
}

int vio_net_report_result(struct vio_net *n, const struct vio_net_opts *o, uint64_t ready_ns,
			  const struct vio_snapshot at[2], const struct vio_nl_result *res,
			  uint64_t tick_hz, struct vio_err *err)
{
	json_t *root = card_json(n, o, ready_ns), *run = run_json(res);
	int rc = 0;

	vio_add_process_json(run, &at[0], &at[1]);
	json_object_set_new(run, "latency_ns", vio_latency_json(&res->latency, tick_hz));
	json_object_set_new(root, "load", load_json(o));
	json_object_set_new(root, "run", run);
	json_object_set_new(root, "partitions", vio_partitions_json(&at[0], &at[1]));
	if (o->c.json)
		rc = vio_json_write(root, o->c.json, err);
	if (!o->c.json || strcmp(o->c.json, "-"))
		print_result(n, o, res, tick_hz);
	json_decref(root);
	return rc;
}
