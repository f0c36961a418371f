/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include <sys/resource.h>

#include "guest/prog/report.h"
#include "vio/cycles.h"

static int own(struct vio_snapshot *s, struct vio_err *err)
{
	struct timespec cpu;
	struct rusage ru;

	if (getrusage(RUSAGE_SELF, &ru))
		return vio_err_set(err, -errno, "getrusage: %s", strerror(errno));
	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu))
		return vio_err_set(err, -errno, "clock_gettime: %s", strerror(errno));
	s->minor_faults = (uint64_t)ru.ru_minflt;
	s->voluntary_switches = (uint64_t)ru.ru_nvcsw;
	s->involuntary_switches = (uint64_t)ru.ru_nivcsw;
	s->cpu_ns = (uint64_t)cpu.tv_sec * 1000000000ull + (uint64_t)cpu.tv_nsec;
	s->tick = vio_ticks();
	return 0;
}

int vio_snapshot_take(struct phyp_part *part, struct vio_snapshot *s, bool end, struct vio_err *err)
{
	int rc = end ? own(s, err) : 0;

	s->n = PHYP_MAX_PARTS;
	if (rc == 0)
		rc = phyp_machine_stats(part, s->part, &s->n, err);
	return rc || end ? rc : own(s, err);
}

static json_int_t ji(uint64_t v)
{
	return (json_int_t)v;
}

static double to_ns(uint64_t ticks, uint64_t hz)
{
	return (double)ticks * 1e9 / (double)hz;
}

static json_t *arm_json(const struct vio_arm *a)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", a->name, "mapping",
			 vio_mapping_name(a->mapping), "payload", vio_payload_name(a->payload), "ring",
			 vio_ring_name(a->ring), "notify", vio_notify_name(a->notify));
}

static json_t *disk_json(struct vio_blk *b, const struct vio_opts *o, const char *id, uint64_t ready_ns)
{
	const struct vio_blk_info *i = vio_blk_get_info(b);
	char features[20];

	snprintf(features, sizeof(features), "0x%" PRIx64, i->features);
	return json_pack(
		"{s:s, s:s, s:s, s:I, s:i, s:i, s:s, s:o, s:o, s:i, s:i, s:i, s:I, s:I, s:I, s:b, s:I, s:i}",
		"schema", "vio-blk/1", "partition", o->partition, "disk_id", id, "disk_bytes",
		ji(i->sectors * VIO_SECTOR), "block_size", (int)i->block_size, "protocol", (int)i->version,
		"features", features, "arm_wanted", arm_json(&o->blk.transport.arm), "arm", arm_json(&i->arm),
		"queues", (int)i->num_queues, "queue_size", (int)i->queue_size, "max_len", (int)i->max_len,
		"ready_ns", ji(ready_ns), "window_bytes", ji(i->window_bytes), "granted_bytes",
		ji(i->granted_bytes), "read_only", (int)i->read_only, "pool_bytes", ji(i->pool_bytes),
		"queue_room", (int)i->depth);
}

static json_t *counters_json(const struct phyp_counters *a, const struct phyp_counters *z)
{
	json_t *calls = json_object();

	for (unsigned i = 0; i < PHYP_N_OPS && phyp_op_at(i); i++)
		if (z->hcall[i] != a->hcall[i])
			json_object_set_new(calls, phyp_op_name(phyp_op_at(i)),
					    json_integer(ji(z->hcall[i] - a->hcall[i])));
#define D(f) #f, ji(z->f - a->f)
	return json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "hcalls",
			 calls, D(hcall_failed), D(tce_updates), D(rdma_bytes), D(irq_raised), D(irq_wakes),
			 D(irq_taken), D(sleeps), D(cpu_bytes), D(kicks), D(used_notifications), D(requests),
			 D(polls_empty), D(polls_busy));
#undef D
}

static const struct phyp_part_stats *find(const struct vio_snapshot *s, const char *name)
{
	for (unsigned i = 0; i < s->n; i++)
		if (!strcmp(s->part[i].name, name))
			return &s->part[i];
	return NULL;
}

static json_t *partitions_json(const struct vio_snapshot *from, const struct vio_snapshot *to)
{
	json_t *o = json_object();

	for (unsigned i = 0; i < to->n; i++) {
		const struct phyp_part_stats *a = find(from, to->part[i].name);

		if (a && to->part[i].active)
			json_object_set_new(o, to->part[i].name, counters_json(&a->c, &to->part[i].c));
	}
	return o;
}

static json_t *latency_json(const struct vio_hist *h, uint64_t hz)
{
	static const struct {
		const char *key;
		double q;
	} points[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}, {"p99.99", 0.9999}};
	json_t *o = json_object(), *buckets = json_array();

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(points); i++)
		json_object_set_new(o, points[i].key,
				    json_real(to_ns(vio_hist_quantile(h, points[i].q), hz)));
	json_object_set_new(o, "min", json_real(to_ns(h->min, hz)));
	json_object_set_new(o, "max", json_real(to_ns(h->max, hz)));
	json_object_set_new(o, "mean",
			    json_real(h->count ? h->sum / (double)h->count * 1e9 / (double)hz : 0));
	for (unsigned i = 0; i < VIO_HIST_BUCKETS; i++)
		if (h->bucket[i])
			json_array_append_new(
				buckets, json_pack("[f, I]", to_ns(vio_hist_upper(i), hz), ji(h->bucket[i])));
	json_object_set_new(o, "histogram", buckets);
	return o;
}

static json_t *load_json(const struct vio_opts *o)
{
	const struct vio_wl_cfg *w = &o->wl;

	return json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:I, s:b, s:I, s:f, s:i, s:i, s:I}", "rw",
			 o->rw_name, "read_percent", (int)w->read_percent, "bs", (int)w->bs, "depth",
			 (int)w->depth, "batch", (int)w->batch, "buffers", (int)w->buffers, "span",
			 ji(w->span), "verify", (int)w->verify, "seed", ji(w->seed), "rate", w->rate,
			 "flush_every", (int)w->flush_every, "core", o->core, "pool_kib",
			 ji(o->blk.pool_len >> 10));
}

static int write_json(json_t *root, const char *path, struct vio_err *err)
{
	FILE *f = !strcmp(path, "-") ? stdout : fopen(path, "w");
	int rc = 0;

	if (!f)
		return vio_err_set(err, -errno, "--json %s: %s", path, strerror(errno));
	if (json_dumpf(root, f, JSON_INDENT(1) | JSON_REAL_PRECISION(12)) || fputc('\n', f) == EOF)
		rc = vio_err_set(err, -EIO, "--json %s: writing failed", path);
	if (f != stdout && fclose(f))
		rc = vio_err_set(err, -EIO, "--json %s: writing failed", path);
	return rc;
}

int vio_report_info(struct vio_blk *b, const struct vio_opts *o, const char *id, uint64_t ready_ns,
		    struct vio_err *err)
{
	const struct vio_blk_info *i = vio_blk_get_info(b);
	json_t *root = disk_json(b, o, id, ready_ns);
	int rc = o->json ? write_json(root, o->json, err) : 0;

	if (!o->json || strcmp(o->json, "-"))
		printf("disk %s: %" PRIu64 " bytes, blocks of %u, %u queue(s) of %u, protocol %u, arm %s "
		       "(%s, %s, %s, %s), ready after %.1f ms\n",
		       id, i->sectors * VIO_SECTOR, i->block_size, i->num_queues, i->queue_size, i->version,
		       i->arm.name, vio_mapping_name(i->arm.mapping), vio_payload_name(i->arm.payload),
		       vio_ring_name(i->arm.ring), vio_notify_name(i->arm.notify), (double)ready_ns / 1e6);
	json_decref(root);
	return rc;
}

static void print_result(const struct vio_blk *b, const struct vio_wl_result *r, uint64_t hz)
{
	double s = (double)r->elapsed_ns / 1e9;

	printf("%s: %" PRIu64
	       " requests in %.3f s: %.0f requests/s, %.3f GB/s; latency p50 %.2f us, p99 %.2f us, "
	       "max %.1f us; %" PRIu64 " bytes verified, %" PRIu64 " wrong words, %" PRIu64 " errors\n",
	       vio_blk_get_info(b)->arm.name, r->requests, s, (double)r->requests / s,
	       (double)(r->bytes_read + r->bytes_written) / s / 1e9,
	       to_ns(vio_hist_quantile(&r->latency, 0.5), hz) / 1e3,
	       to_ns(vio_hist_quantile(&r->latency, 0.99), hz) / 1e3, to_ns(r->latency.max, hz) / 1e3,
	       r->bytes_verified, r->mismatches, r->errors);
}

/* Average over the measurement of the bytes under valid TCEs of the guest's partition. */
static double reach(const struct vio_snapshot *from, const struct vio_snapshot *to,
		    const struct phyp_part_stats *a, const struct phyp_part_stats *z, bool write)
{
	uint64_t area = write ? phyp_exposure(a->c.tce_pages_write, a->c.tce_page_ticks_write, from->tick,
					      z->c.tce_pages_write, z->c.tce_page_ticks_write, to->tick)
			      : phyp_exposure(a->c.tce_pages, a->c.tce_page_ticks, from->tick, z->c.tce_pages,
					      z->c.tce_page_ticks, to->tick);

	return (double)area / (double)(to->tick - from->tick) * 4096;
}

/* What the server could reach, and what it had to. */
static void add_exposure(json_t *run, struct vio_blk *b, const struct vio_opts *o,
			 const struct vio_snapshot *from, const struct vio_snapshot *to,
			 const struct vio_wl_result *res, bool counted)
{
	const struct phyp_part_stats *a = find(from, o->partition), *z = find(to, o->partition);

	if (counted && a && z && to->tick > from->tick) {
		json_object_set_new(run, "reach_bytes", json_real(reach(from, to, a, z, false)));
		json_object_set_new(run, "reach_write_bytes", json_real(reach(from, to, a, z, true)));
	}
	json_object_set_new(run, "ring_bytes", json_integer(ji(vio_blk_get_info(b)->ring_bytes)));
	json_object_set_new(run, "need_bytes",
			    json_real((double)res->need / (double)(to->tick - from->tick)));
}

int vio_report_result(struct vio_blk *b, const struct vio_opts *o, const char *id, uint64_t ready_ns,
		      const struct vio_snapshot *from, const struct vio_snapshot *to,
		      const struct vio_wl_result *res, struct phyp_part *part, struct vio_err *err)
{
	const uint64_t tick_hz = phyp_tick_hz(part);
	json_t *root = disk_json(b, o, id, ready_ns);
	json_t *run = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:I, s:I}",
				"elapsed_ns", ji(res->elapsed_ns), "requests", ji(res->requests), "reads",
				ji(res->reads), "writes", ji(res->writes), "flushes", ji(res->flushes),
				"errors", ji(res->errors), "bytes_read", ji(res->bytes_read), "bytes_written",
				ji(res->bytes_written), "bytes_verified", ji(res->bytes_verified),
				"mismatches", ji(res->mismatches), "first_mismatch", res->first_mismatch,
				"publishes", ji(res->publishes), "late", ji(res->late));
	int rc = 0;

	json_object_set_new(run, "minor_faults", json_integer(ji(to->minor_faults - from->minor_faults)));
	json_object_set_new(run, "voluntary_switches",
			    json_integer(ji(to->voluntary_switches - from->voluntary_switches)));
	json_object_set_new(run, "involuntary_switches",
			    json_integer(ji(to->involuntary_switches - from->involuntary_switches)));
	json_object_set_new(run, "cpu_ns", json_integer(ji(to->cpu_ns - from->cpu_ns)));
	add_exposure(run, b, o, from, to, res, phyp_counts_exposure(part));
	json_object_set_new(root, "load", load_json(o));
	json_object_set_new(run, "latency_ns", latency_json(&res->latency, tick_hz));
	json_object_set_new(root, "run", run);
	json_object_set_new(root, "partitions", partitions_json(from, to));
	if (o->json)
		rc = write_json(root, o->json, err);
	if (!o->json || strcmp(o->json, "-"))
		print_result(b, res, tick_hz);
	json_decref(root);
	return rc;
}
