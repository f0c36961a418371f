/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>

#include "bench/limits/limits_measure.h"

/* clang-format off */
const char limits_json_keys[] =
	"JSON keys (schema \"virtio-vio-limits/1\"). A *series* is an object with min_ns, q1_ns, median_ns, q3_ns, max_ns and\n"
	"samples_ns: raw, in the order taken, one number a batch, each the batch's mean cost of one operation.\n"
	"  cores                 guest_core, server_core and what bench-topology prints of them\n"
	"  two_cores             false: round_trip, round_trip_shared, eventfd_wake and memcpy_handover are null\n"
	"  not_measured          {key or memcpy level: why} for what is null or left out\n"
	"  round_trip            series: R. A store to a line, the other core's answer on a second line; private memory\n"
	"  round_trip_shared     series: the same in memfd memory mapped shared; pages: \"2m\" or \"4k\"\n"
	"  memcpy                list of series, ns a block, with\n"
	"    size_bytes          of a block: 64, 512, 4096, 65536, 1048576 where it fits twice into the footprint\n"
	"    level               \"L1\", \"L2\", \"L3\", \"memory\" (beyond the last cache), \"large\" (capped before that)\n"
	"    footprint_bytes     source and destination together; footprint_rule: how it was found\n"
	"    gb_per_s            size_bytes / median_ns: 10^9 bytes copied a second (each is read once and written once)\n"
	"    pages               \"2m\" or \"4k\"\n"
	"  memcpy_handover       list of series, ns a block at the producer, which copies into a ring of slots that the\n"
	"                        other core gives back; size_bytes, depth (slots), consumer_reads (every word, summed and\n"
	"                        checked) or not, gb_per_s, pages\n"
	"  syscall               series: getppid through syscall()\n"
	"  eventfd_write_read    series: one write and one read by the same thread\n"
	"  eventfd_wake          series: round trip of two threads that both sleep in read(); one_way_ns: half the median\n"
	"  clock_gettime, tick_read   series: the two clocks\n"
	"  map_touch_unmap       series: mmap + one store + munmap of a present 4 KiB page of a memfd, shared\n"
	"  robust_mutex          series: lock + unlock, process-shared and robust, uncontended\n"
	"  budget_seconds, taken_seconds, involuntary_switches (preemptions of this program: 0 on a quiet machine)\n";
/* clang-format on */

static const char *pages(bool huge)
{
	return huge ? "2m" : "4k";
}

json_t *bench_series_json(const struct bench_series *s)
{
	struct bench_summary q;
	json_t *list;

	if (bench_series_summary(s, &q))
		return json_null();
	list = json_array();
	for (unsigned i = 0; i < s->n; i++)
		json_array_append_new(list, json_real(s->v[i]));
	return json_pack("{s:f, s:f, s:f, s:f, s:f, s:o}", "min_ns", q.min, "q1_ns", q.q1,
			 "median_ns", q.median, "q3_ns", q.q3, "max_ns", q.max, "samples_ns", list);
}

/* Bytes a nanosecond are 10^9 bytes a second. 0 without samples. */
static double gb_per_s(size_t size, const struct bench_series *ns)
{
	struct bench_summary q;

	return bench_series_summary(ns, &q) || q.median <= 0 ? 0 : (double)size / q.median;
}

static json_t *copies_json(const struct limits_result *r)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < r->n_copies; i++) {
		const struct limits_memcpy *p = &r->copies[i];
		json_t *o = bench_series_json(&p->ns);

		json_object_set_new(o, "size_bytes", json_integer((json_int_t)p->size));
		json_object_set_new(o, "level", json_string(p->level.name));
		json_object_set_new(o, "footprint_bytes",
				    json_integer((json_int_t)p->level.footprint));
		json_object_set_new(o, "footprint_rule", json_string(p->level.rule));
		json_object_set_new(o, "gb_per_s", json_real(gb_per_s(p->size, &p->ns)));
		json_object_set_new(o, "pages", json_string(pages(p->huge)));
		json_array_append_new(list, o);
	}
	return list;
}

static json_t *handover_json(const struct limits_result *r)
{
	json_t *list;

	if (!r->two_cores)
		return json_null();
	list = json_array();
	for (unsigned i = 0; i < r->n_handover; i++) {
		const struct limits_handover *p = &r->handover[i];
		json_t *o = bench_series_json(&p->ns);

		json_object_set_new(o, "size_bytes", json_integer((json_int_t)p->size));
		json_object_set_new(o, "depth", json_integer(p->depth));
		json_object_set_new(o, "consumer_reads", json_boolean(p->reading));
		json_object_set_new(o, "gb_per_s", json_real(gb_per_s(p->size, &p->ns)));
		json_object_set_new(o, "pages", json_string(pages(p->huge)));
		json_array_append_new(list, o);
	}
	return list;
}

static json_t *not_measured(const struct limits_result *r)
{
	static const char *const two_core_keys[] = {"round_trip", "round_trip_shared",
						    "eventfd_wake", "memcpy_handover"};
	json_t *o = json_object();

	for (unsigned i = 0; !r->two_cores && i < sizeof(two_core_keys) / sizeof(two_core_keys[0]);
	     i++)
		json_object_set_new(o, two_core_keys[i], json_string(r->cores.reason));
	for (unsigned i = 0; i < r->n_levels; i++)
		if (r->levels[i].skipped[0])
			json_object_set_new(o, r->levels[i].name,
					    json_string(r->levels[i].skipped));
	return o;
}

json_t *limits_json(const struct limits_result *r)
{
	json_t *j = json_object(), *shared = bench_series_json(&r->round_trip_shared),
	       *wake = bench_series_json(&r->eventfd_wake);
	struct bench_summary q;
	int rc = 0;

	if (json_is_object(shared))
		rc |= json_object_set_new(shared, "pages", json_string(pages(r->shared_huge)));
	if (bench_series_summary(&r->eventfd_wake, &q) == 0)
		rc |= json_object_set_new(wake, "one_way_ns", json_real(q.median / 2));
	rc |= json_object_set_new(j, "schema", json_string("virtio-vio-limits/1"));
	rc |= json_object_set_new(j, "cores", bench_cores_json(&r->cores));
	rc |= json_object_set_new(j, "two_cores", json_boolean(r->two_cores));
	rc |= json_object_set_new(j, "not_measured", not_measured(r));
	rc |= json_object_set_new(j, "budget_seconds", json_real(r->budget_seconds));
	rc |= json_object_set_new(j, "taken_seconds", json_real(r->taken_seconds));
	rc |= json_object_set_new(j, "involuntary_switches",
				  json_integer((json_int_t)r->involuntary_switches));
	rc |= json_object_set_new(j, "round_trip", bench_series_json(&r->round_trip));
	rc |= json_object_set_new(j, "round_trip_shared", shared);
	rc |= json_object_set_new(j, "memcpy", copies_json(r));
	rc |= json_object_set_new(j, "memcpy_handover", handover_json(r));
	rc |= json_object_set_new(j, "eventfd_wake", wake);
	for (unsigned i = 0; i < LIMITS_N_OPS; i++)
		rc |= json_object_set_new(j, limits_op_name(i), bench_series_json(&r->op[i]));
	if (rc) {
		json_decref(j);
		return NULL;
	}
	return j;
}

static void row(FILE *f, const char *name, const struct bench_series *s)
{
	struct bench_summary q;

	if (bench_series_summary(s, &q))
		fprintf(f, "%-42s %10s\n", name, "not measured");
	else
		fprintf(f, "%-42s %10.1f %10.1f %10.1f %10.1f\n", name, q.median, q.q1, q.q3,
			q.min);
}

static const char *size_text(size_t n, char out[32])
{
	if (n >= 1u << 20 && n % (1u << 20) == 0)
		snprintf(out, 32, "%zu MiB", n >> 20);
	else if (n >= 1024 && n % 1024 == 0)
		snprintf(out, 32, "%zu KiB", n >> 10);
	else
		snprintf(out, 32, "%zu B", n);
	return out;
}

void limits_table(const struct limits_result *r, FILE *f)
{
	char a[32], b[32], name[128];

	fprintf(f, "guest on CPU %u, server on CPU %u: %s\n", r->cores.guest_core,
		r->cores.server_core, r->cores.reason);
	fprintf(f, "%.1f s, preempted %llu times\n\n", r->taken_seconds,
		(unsigned long long)r->involuntary_switches);
	fprintf(f, "%-42s %10s %10s %10s %10s\n", "nanoseconds", "median", "quartile 1",
		"quartile 3", "least");
	row(f, "R: core-to-core round trip", &r->round_trip);
	snprintf(name, sizeof(name), "R in shared memory, %s pages", pages(r->shared_huge));
	row(f, name, &r->round_trip_shared);
	row(f, "eventfd wake, there and back", &r->eventfd_wake);
	for (unsigned i = 0; i < LIMITS_N_OPS; i++)
		row(f, limits_op_text(i), &r->op[i]);
	fprintf(f, "\n%-42s %10s %10s %10s\n", "memcpy, one core", "GB/s", "ns a block", "pages");
	for (unsigned i = 0; i < r->n_copies; i++) {
		const struct limits_memcpy *p = &r->copies[i];
		double g = gb_per_s(p->size, &p->ns);

		snprintf(name, sizeof(name), "%s in %s (footprint %s)", size_text(p->size, a),
			 p->level.name, size_text(p->level.footprint, b));
		fprintf(f, "%-42s %10.2f %10.1f %10s\n", name, g, g > 0 ? (double)p->size / g : 0,
			pages(p->huge));
	}
	for (unsigned i = 0; i < r->n_levels; i++)
		fprintf(f, "  %s: %s%s%s\n", r->levels[i].name, r->levels[i].rule,
			r->levels[i].skipped[0] ? "; not measured: " : "", r->levels[i].skipped);
	fprintf(f, "\n%-42s %10s %10s %10s\n", "memcpy handed over to the other core", "GB/s",
		"ns a block", "pages");
	for (unsigned i = 0; i < r->n_handover; i++) {
		const struct limits_handover *p = &r->handover[i];
		double g = gb_per_s(p->size, &p->ns);

		snprintf(name, sizeof(name), "%s, ring of %u, %s", size_text(p->size, a), p->depth,
			 p->reading ? "every word read" : "not read");
		fprintf(f, "%-42s %10.2f %10.1f %10s\n", name, g, g > 0 ? (double)p->size / g : 0,
			pages(p->huge));
	}
	if (r->n_handover == 0)
		fprintf(f, "%-42s\n", "not measured: needs two cores");
}
