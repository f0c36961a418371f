/* SPDX-License-Identifier: BSD-3-Clause */
#include "bench/anchors/anchors.h"

/* clang-format off */
const char anchors_json_keys[] =
	"JSON keys (schema \"virtio-vio-anchors/1\")\n"
	"  points                list in the order measured, each in a process of its own:\n"
	"    point, level        see below; size_bytes of an operation (0: one word), depth (operations in flight)\n"
	"    ns_per_op           median of samples_ns; min_ns, q1_ns, median_ns, q3_ns, max_ns of them too\n"
	"    samples_ns          raw, one number a batch: the batch's mean\n"
	"    ops                 operations in the samples; pages: \"2m\" or \"4k\", of the memory shared by both ends\n"
	"  not_measured          list of point, level, size_bytes, depth, reason: what this machine does not allow\n"
	"  cores, two_cores      as bench-limits; the server's core measures, but for kick and kick-write\n"
	"  seed, budget_seconds, taken_seconds, involuntary_switches (preemptions: 0 on a quiet machine)\n"
	"\n"
	"Points and their levels:\n"
	"  map             copy [size] out of a sealed memfd, walking through 4 MiB: standing-window, mmap-per-request\n"
	"                  (mmap, copy, munmap), map-only (mmap with MAP_POPULATE, munmap); no other thread\n"
	"  map-threads     the same while a thread of the process runs on the other core: munmap must interrupt it\n"
	"  uring-buffered  reads at random places of a 16 MiB file in the page cache: registered (READ_FIXED), plain (READ)\n"
	"  uring-direct    the same with O_DIRECT\n"
	"  kick            request and answer between two cores, a round trip: poll, eventfd (both sleep), spin-then-sleep\n"
	"                  (sleeps after 20 us without news; here the answer comes earlier)\n"
	"  kick-write      a write to an eventfd that nobody waits for: eventfd-nobody-asleep\n"
	"  rdma-copy       copy out of a process on the other core: process_vm_readv, memcpy (memory that both map)\n";
/* clang-format on */

static int anchors_describe(json_t *o, const struct anchors_case *c)
{
	int rc = json_object_set_new(o, "point", json_string(anchors_point_name(c->point)));

	rc |= json_object_set_new(o, "level", json_string(anchors_level_name(c->level)));
	rc |= json_object_set_new(o, "size_bytes", json_integer((json_int_t)c->size));
	return rc | json_object_set_new(o, "depth", json_integer(c->depth));
}

static int add_case(json_t *points, json_t *missing, const struct anchors_case *c,
		    const struct anchors_outcome *o)
{
	json_t *j = o->measured ? bench_series_json(&o->ns) : json_object();
	struct bench_summary q;
	int rc = anchors_describe(j, c);

	if (!o->measured) {
		rc |= json_object_set_new(j, "reason", json_string(o->why.msg));
		return rc | json_array_append_new(missing, j);
	}
	if (bench_series_summary(&o->ns, &q) == 0)
		rc |= json_object_set_new(j, "ns_per_op", json_real(q.median));
	rc |= json_object_set_new(j, "ops", json_integer((json_int_t)o->ops));
	rc |= json_object_set_new(j, "pages", json_string(o->huge ? "2m" : "4k"));
	return rc | json_array_append_new(points, j);
}

json_t *anchors_json(const struct anchors_result *r)
{
	json_t *j = json_object(), *points = json_array(), *missing = json_array();
	int rc = 0;

	for (unsigned i = 0; i < r->n; i++)
		rc |= add_case(points, missing, &r->c[i], &r->o[i]);
	rc |= json_object_set_new(j, "schema", json_string("virtio-vio-anchors/1"));
	rc |= json_object_set_new(j, "cores", bench_cores_json(&r->env.cores));
	rc |= json_object_set_new(j, "two_cores", json_boolean(r->env.two_cores));
	rc |= json_object_set_new(j, "seed", json_integer((json_int_t)r->seed));
	rc |= json_object_set_new(j, "budget_seconds", json_real(r->budget_seconds));
	rc |= json_object_set_new(j, "taken_seconds", json_real(r->taken_seconds));
	rc |= json_object_set_new(j, "involuntary_switches",
				  json_integer((json_int_t)r->involuntary_switches));
	rc |= json_object_set_new(j, "points", points);
	rc |= json_object_set_new(j, "not_measured", missing);
	if (rc) {
		json_decref(j);
		return NULL;
	}
	return j;
}
