/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "guest/prog/blk/report.h"
#include "vio/cycles.h"

static json_t *disk_json(struct vio_blk *b, const struct vio_opts *o, const char *id,
			 uint64_t ready_ns)
{
	const struct vio_blk_info *i = vio_blk_get_info(b);
	char features[20];

	snprintf(features, sizeof(features), "0x%" PRIx64, i->features);
	return json_pack(
		"{s:s, s:s, s:s, s:I, s:i, s:i, s:s, s:o, s:o, s:i, s:i, s:i, s:I, s:I, s:I, s:b, s:I, s:i}",
		"schema", "vio-blk/1", "partition", o->c.partition, "disk_id", id, "disk_bytes",
		ji(vio_load_relaxed(&i->sectors) * VIO_SECTOR), "block_size", (int)i->block_size,
		"protocol", (int)i->version, "features", features, "arm_wanted",
		vio_arm_json(&o->c.transport.arm), "arm", vio_arm_json(&i->arm), "queues",
		(int)i->num_queues, "queue_size", (int)i->queue_size, "max_len", (int)i->max_len,
		"ready_ns", ji(ready_ns), "window_bytes", ji(i->window_bytes), "granted_bytes",
		ji(i->granted_bytes), "read_only", (int)i->read_only, "pool_bytes",
		ji(i->pool_bytes), "queue_room", (int)i->depth);
}

static json_t *blk_load_json(const struct vio_opts *o)
{
	const struct vio_wl_cfg *w = &o->wl;

	return json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:I, s:s, s:I, s:f, s:i, s:i, s:I}", "rw",
			 o->rw_name, "read_percent", (int)w->read_percent, "bs", (int)w->bs,
			 "depth", (int)w->depth, "batch", (int)w->batch, "buffers", (int)w->buffers,
			 "span", ji(w->span), "touch", vio_opts_touch_name(w->touch), "seed",
			 ji(w->seed), "rate", w->rate, "flush_every", (int)w->flush_every, "core",
			 o->c.core, "pool_kib", ji(o->blk.pool_len >> 10));
}

int vio_report_info(struct vio_blk *b, const struct vio_opts *o, const char *id, uint64_t ready_ns,
		    struct vio_err *err)
{
	const struct vio_blk_info *i = vio_blk_get_info(b);
	json_t *root = disk_json(b, o, id, ready_ns);
	int rc = o->c.json ? vio_json_write(root, o->c.json, err) : 0;

	if (!o->c.json || strcmp(o->c.json, "-"))
		printf("disk %s: %" PRIu64
		       " bytes, blocks of %u, %u queue(s) of %u, protocol %u, arm %s (%s, %s, %s, %s, %s), ready after %.1f ms\n",
		       id, vio_load_relaxed(&i->sectors) * VIO_SECTOR, i->block_size, i->num_queues,
		       i->queue_size, i->version, i->arm.name, vio_mapping_name(i->arm.mapping),
		       vio_payload_name(i->arm.payload), vio_ring_name(i->arm.ring),
		       vio_notify_name(i->arm.notify), vio_layout_name(i->arm.layout),
		       (double)ready_ns / 1e6);
	json_decref(root);
	return rc;
}

static void blk_print_result(const struct vio_blk *b, const struct vio_wl_result *r, uint64_t hz)
{
	double s = (double)r->elapsed_ns / 1e9;

	printf("%s: %" PRIu64
	       " requests in %.3f s: %.0f requests/s, %.3f GB/s; latency p50 %.2f us, p99 %.2f us, max %.1f us; %" PRIu64
	       " bytes verified, %" PRIu64 " wrong words, %" PRIu64 " errors\n",
	       vio_blk_get_info(b)->arm.name, r->requests, s, (double)r->requests / s,
	       (double)(r->bytes_read + r->bytes_written) / s / 1e9,
	       vio_ticks_to_ns(vio_hist_quantile(&r->latency, 0.5), hz) / 1e3,
	       vio_ticks_to_ns(vio_hist_quantile(&r->latency, 0.99), hz) / 1e3,
	       vio_ticks_to_ns(r->latency.max, hz) / 1e3, r->bytes_verified, r->mismatches,
	       r->errors);
}

/* Average over the measurement of the bytes under valid TCEs of the guest's partition. */
static double blk_reach(const struct vio_snapshot *from, const struct vio_snapshot *to,
			const struct phyp_part_stats *a, const struct phyp_part_stats *z,
			bool write)
{
	uint64_t area =
		write ? phyp_exposure(a->c.tce_pages_write, a->c.tce_page_ticks_write, from->tick,
				      z->c.tce_pages_write, z->c.tce_page_ticks_write, to->tick)
		      : phyp_exposure(a->c.tce_pages, a->c.tce_page_ticks, from->tick,
				      z->c.tce_pages, z->c.tce_page_ticks, to->tick);

	return (double)area / (double)(to->tick - from->tick) * 4096;
}

/* What the server could reach, and what it had to. */
static void add_exposure(json_t *run, struct vio_blk *b, const struct vio_opts *o,
			 const struct vio_snapshot *from, const struct vio_snapshot *to,
			 const struct vio_wl_result *res, bool counted)
{
	const struct phyp_part_stats *a = vio_snapshot_find(from, o->c.partition),
				     *z = vio_snapshot_find(to, o->c.partition);

	if (counted && a && z && to->tick > from->tick) {
		json_object_set_new(run, "reach_bytes",
				    json_real(blk_reach(from, to, a, z, false)));
		json_object_set_new(run, "reach_write_bytes",
				    json_real(blk_reach(from, to, a, z, true)));
	}
	json_object_set_new(run, "ring_bytes", json_integer(ji(vio_blk_get_info(b)->ring_bytes)));
	json_object_set_new(run, "need_bytes",
			    json_real((double)res->need / (double)(to->tick - from->tick)));
}

int vio_report_result(struct vio_blk *b, const struct vio_opts *o, const char *id,
		      uint64_t ready_ns, const struct vio_snapshot *from,
		      const struct vio_snapshot *to, const struct vio_wl_result *res,
		      struct phyp_part *part, struct vio_err *err)
{
	const uint64_t tick_hz = phyp_tick_hz(part);
	json_t *root = disk_json(b, o, id, ready_ns);
	json_t *run = json_pack(
		"{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:I, s:I, s:I}",
		"elapsed_ns", ji(res->elapsed_ns), "requests", ji(res->requests), "reads",
		ji(res->reads), "writes", ji(res->writes), "flushes", ji(res->flushes), "errors",
		ji(res->errors), "bytes_read", ji(res->bytes_read), "bytes_written",
		ji(res->bytes_written), "bytes_verified", ji(res->bytes_verified), "mismatches",
		ji(res->mismatches), "first_mismatch", res->first_mismatch, "publishes",
		ji(res->publishes), "late", ji(res->late), "unstarted", ji(res->unstarted));
	int rc = 0;

	vio_add_process_json(run, from, to);
	add_exposure(run, b, o, from, to, res, phyp_counts_exposure(part));
	json_object_set_new(root, "load", blk_load_json(o));
	if (o->wl.rate > 0)
		json_object_set_new(
			run, "gaps",
			json_pack("{s:I, s:f, s:I, s:I}", "count", ji(res->gaps), "longest_ns",
				  vio_ticks_to_ns(res->longest_turn, tick_hz), "requests",
				  ji(res->in_gap), "threshold_ns", (json_int_t)VIO_WL_GAP_NS));
	json_object_set_new(run, "latency_ns", vio_latency_json(&res->latency, tick_hz));
	json_object_set_new(root, "run", run);
	json_object_set_new(root, "partitions", vio_partitions_json(from, to));
	if (o->c.json)
		rc = vio_json_write(root, o->c.json, err);
	if (!o->c.json || strcmp(o->c.json, "-"))
		blk_print_result(b, res, tick_hz);
	json_decref(root);
	return rc;
}
