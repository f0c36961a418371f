/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "guest/prog/measure.h"
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

/* Tell who started us that the measurement begins or ends. */
static void stage(struct vio_marks *m, char letter)
{
	if (m->stage_fd >= 0 && m->rc == 0 && write(m->stage_fd, &letter, 1) != 1)
		m->rc = vio_err_set(&m->err, -errno, "--stage-fd %d: %s", m->stage_fd,
				    strerror(errno));
}

void vio_mark(void *ctx, bool end)
{
	struct vio_marks *m = ctx;

	if (end)
		stage(m, 'E');
	if (m->rc == 0)
		m->rc = vio_snapshot_take(m->part, &m->at[end], end, &m->err);
	if (!end)
		stage(m, 'M');
}

/* ---------------------------------------------------------------------------- JSON ---- */

double vio_ticks_to_ns(uint64_t ticks, uint64_t hz)
{
	return (double)ticks * 1e9 / (double)hz;
}

json_t *vio_arm_json(const struct vio_arm *a)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "name", a->name, "mapping",
			 vio_mapping_name(a->mapping), "payload", vio_payload_name(a->payload),
			 "ring", vio_ring_name(a->ring), "notify", vio_notify_name(a->notify),
			 "layout", vio_layout_name(a->layout));
}

static json_t *counters_json(const struct phyp_counters *a, const struct phyp_counters *z)
{
	json_t *calls = json_object();

	for (unsigned i = 0; i < PHYP_N_OPS && phyp_op_at(i); i++)
		if (z->hcall[i] != a->hcall[i])
			json_object_set_new(calls, phyp_op_name(phyp_op_at(i)),
					    json_integer(ji(z->hcall[i] - a->hcall[i])));
#define D(f) #f, ji(z->f - a->f)
	return json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
			 "hcalls", calls, D(hcall_failed), D(tce_updates), D(rdma_bytes),
			 D(irq_raised), D(irq_wakes), D(irq_taken), D(sleeps), D(cpu_bytes),
			 D(kicks), D(used_notifications), D(requests), D(polls_empty),
			 D(polls_busy));
#undef D
}

const struct phyp_part_stats *vio_snapshot_find(const struct vio_snapshot *s, const char *name)
{
	for (unsigned i = 0; i < s->n; i++)
		if (!strcmp(s->part[i].name, name))
			return &s->part[i];
	return NULL;
}

json_t *vio_partitions_json(const struct vio_snapshot *from, const struct vio_snapshot *to)
{
	json_t *o = json_object();

	for (unsigned i = 0; i < to->n; i++) {
		const struct phyp_part_stats *a = vio_snapshot_find(from, to->part[i].name);

		if (a && to->part[i].active)
			json_object_set_new(o, to->part[i].name,
					    counters_json(&a->c, &to->part[i].c));
	}
	return o;
}

json_t *vio_latency_json(const struct vio_hist *h, uint64_t hz)
{
	static const struct {
		const char *key;
		double q;
	} points[] = {
		{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}, {"p99.99", 0.9999}};
	json_t *o = json_object(), *buckets = json_array();

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(points); i++)
		json_object_set_new(
			o, points[i].key,
			json_real(vio_ticks_to_ns(vio_hist_quantile(h, points[i].q), hz)));
	json_object_set_new(o, "min", json_real(vio_ticks_to_ns(h->min, hz)));
	json_object_set_new(o, "max", json_real(vio_ticks_to_ns(h->max, hz)));
	json_object_set_new(o, "mean",
			    json_real(h->count ? h->sum / (double)h->count * 1e9 / (double)hz : 0));
	for (unsigned i = 0; i < VIO_HIST_BUCKETS; i++)
		if (h->bucket[i])
			json_array_append_new(
				buckets, json_pack("[f, I]", vio_ticks_to_ns(vio_hist_upper(i), hz),
						   ji(h->bucket[i])));
	json_object_set_new(o, "histogram", buckets);
	return o;
}

void vio_add_process_json(json_t *run, const struct vio_snapshot *from,
			  const struct vio_snapshot *to)
{
	json_object_set_new(run, "minor_faults",
			    json_integer(ji(to->minor_faults - from->minor_faults)));
	json_object_set_new(run, "voluntary_switches",
			    json_integer(ji(to->voluntary_switches - from->voluntary_switches)));
	json_object_set_new(
		run, "involuntary_switches",
		json_integer(ji(to->involuntary_switches - from->involuntary_switches)));
	json_object_set_new(run, "cpu_ns", json_integer(ji(to->cpu_ns - from->cpu_ns)));
}

int vio_json_write(json_t *root, const char *path, struct vio_err *err)
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
