/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdlib.h>
#include <string.h>

#include "bench/limits/topology.h"

/* What the choice needs to know of one CPU. */
struct cpu {
	unsigned os_index;
	unsigned
		core; /* os_index of the first CPU of its physical core: an identity, not a CPU to run on */
	int node; /* -1: none */
	hwloc_obj_t pu, l3;
};

struct cpus {
	struct cpu *v;
	unsigned n;
};

int bench_topology_load(hwloc_topology_t *topo, hwloc_bitmap_t *allowed, struct vio_err *err)
{
	hwloc_topology_t t;
	hwloc_bitmap_t set;

	if (hwloc_topology_init(&t))
		return vio_err_set(err, -ENODEV, "hwloc can't start: %s", strerror(errno));
	if (hwloc_topology_load(t)) {
		int e = errno;

		hwloc_topology_destroy(t);
		return vio_err_set(err, -ENODEV, "hwloc can't read this machine's topology: %s",
				   strerror(e));
	}
	set = hwloc_bitmap_alloc();
	if (!set || hwloc_get_cpubind(t, set, HWLOC_CPUBIND_THREAD)) {
		int e = errno;

		hwloc_bitmap_free(set);
		hwloc_topology_destroy(t);
		return vio_err_set(err, -ENODEV,
				   "hwloc can't tell on which CPUs this process may run: %s",
				   strerror(e));
	}
	*topo = t;
	*allowed = set;
	return 0;
}

void bench_topology_free(hwloc_topology_t topo, hwloc_bitmap_t allowed)
{
	hwloc_bitmap_free(allowed);
	hwloc_topology_destroy(topo);
}

static void describe_cpu(hwloc_topology_t topo, hwloc_obj_t pu, struct cpu *c)
{
	hwloc_obj_t core = hwloc_get_ancestor_obj_by_type(topo, HWLOC_OBJ_CORE, pu);

	c->os_index = pu->os_index;
	/* Virtual machines may show CPUs without cores: then each is its own. */
	c->core = core ? (unsigned)hwloc_bitmap_first(core->cpuset) : pu->os_index;
	c->node = pu->nodeset ? hwloc_bitmap_first(pu->nodeset) : -1;
	c->pu = pu;
	c->l3 = hwloc_get_ancestor_obj_by_type(topo, HWLOC_OBJ_L3CACHE, pu);
}

/* All allowed CPUs, lowest number first. The caller frees list->v. */
static int list_cpus(hwloc_topology_t topo, hwloc_const_cpuset_t allowed, struct cpus *list,
		     struct vio_err *err)
{
	int n = hwloc_get_nbobjs_by_type(topo, HWLOC_OBJ_PU);
	hwloc_const_cpuset_t all = hwloc_topology_get_allowed_cpuset(topo);
	int i;

	list->n = 0;
	list->v = calloc(n > 0 ? (size_t)n : 1, sizeof(*list->v));
	if (!list->v)
		return vio_err_set(err, -ENOMEM, "no memory for %d CPUs", n);
	hwloc_bitmap_foreach_begin(i, all) hwloc_obj_t pu =
		hwloc_get_pu_obj_by_os_index(topo, (unsigned)i);

	if (pu && (!allowed || hwloc_bitmap_isset(allowed, (unsigned)i)))
		describe_cpu(topo, pu, &list->v[list->n++]);
	hwloc_bitmap_foreach_end();
	if (list->n == 0) {
		free(list->v);
		list->v = NULL;
		return vio_err_set(
			err, -ENODEV,
			"none of the CPUs on which this process may run is in the topology that hwloc shows; is HWLOC_XMLFILE or HWLOC_SYNTHETIC set?");
	}
	return 0;
}

/* Higher is better; each wish outweighs all that come after it. */
static unsigned score(const struct cpu *a, const struct cpu *b, unsigned cpu0_core)
{
	unsigned s = 0;

	s = 2 * s + (a->core != b->core);
	s = 2 * s + (a->node == b->node);
	s = 2 * s + (a->l3 && a->l3 == b->l3);
	s = 2 * s + (a->os_index != 0 && b->os_index != 0);
	s = 2 * s + (a->core != cpu0_core && b->core != cpu0_core);
	return s;
}

static uint64_t cache_bytes(hwloc_topology_t topo, hwloc_obj_type_t type, hwloc_obj_t pu)
{
	hwloc_obj_t o = hwloc_get_ancestor_obj_by_type(topo, type, pu);

	return o && o->attr ? o->attr->cache.size : 0;
}

static void topology_fill(hwloc_topology_t topo, const struct cpus *list, const struct cpu *g,
			  const struct cpu *s, struct bench_cores *out)
{
	memset(out, 0, sizeof(*out));
	out->guest_core = g->os_index;
	out->server_core = s->os_index;
	out->n_cpus = list->n;
	for (unsigned i = 0; i < list->n; i++) {
		bool seen = false;

		for (unsigned j = 0; j < i && !seen; j++)
			seen = list->v[j].core == list->v[i].core;
		out->n_cores += !seen;
		out->smt |= seen;
	}
	out->smt_siblings = g != s && g->core == s->core;
	out->l3_visible = g->l3 != NULL;
	out->l3_shared = g->l3 && g->l3 == s->l3;
	out->numa_shared = g->node == s->node;
	out->numa_node = g->node;
	out->l1_bytes = cache_bytes(topo, HWLOC_OBJ_L1CACHE, g->pu);
	out->l2_bytes = cache_bytes(topo, HWLOC_OBJ_L2CACHE, g->pu);
	out->l3_bytes = cache_bytes(topo, HWLOC_OBJ_L3CACHE, g->pu);
}

static void explain(struct bench_cores *c)
{
	const char *l3 = !c->l3_visible ? "no L3 visible"
			 : c->l3_shared ? "one L3"
					: "different L3s";
	const char *numa = c->numa_node < 0 ? "no NUMA node visible"
			   : c->numa_shared ? "one NUMA node"
					    : "different NUMA nodes";

	if (c->guest_core == c->server_core && c->n_cpus == 1)
		snprintf(
			c->reason, sizeof(c->reason),
			"CPU %u is the only one on which this process may run: guest and server take turns on it, and two-core numbers can't be measured",
			c->guest_core);
	else if (c->guest_core == c->server_core)
		snprintf(
			c->reason, sizeof(c->reason),
			"guest and server are both CPU %u: they take turns on it, and two-core numbers can't be measured",
			c->guest_core);
	else if (c->smt_siblings)
		snprintf(
			c->reason, sizeof(c->reason),
			"CPUs %u and %u are hardware threads of one physical core and slow each other down%s",
			c->guest_core, c->server_core,
			c->n_cores == 1 ? "; this process may use no other core" : "");
	else
		snprintf(c->reason, sizeof(c->reason), "different physical cores, %s, %s%s", numa,
			 l3,
			 c->guest_core && c->server_core ? "; CPU 0 is left to the system" : "");
}

int bench_topology_choose(hwloc_topology_t topo, hwloc_const_cpuset_t allowed,
			  struct bench_cores *out, struct vio_err *err)
{
	struct cpus list;
	const struct cpu *g, *s;
	unsigned best = 0, cpu0_core;
	hwloc_obj_t cpu0 = hwloc_get_pu_obj_by_os_index(topo, 0);
	struct cpu zero = {.core = UINT32_MAX};
	int rc = list_cpus(topo, allowed, &list, err);

	if (rc)
		return rc;
	if (cpu0)
		describe_cpu(topo, cpu0, &zero);
	cpu0_core = zero.core;
	g = s = &list.v[0];
	for (unsigned i = 0; i < list.n; i++)
		for (unsigned j = i + 1; j < list.n; j++) {
			unsigned v = score(&list.v[i], &list.v[j], cpu0_core);

			if (g != s && v <= best)
				continue;
			best = v;
			g = &list.v[i];
			s = &list.v[j];
		}
	topology_fill(topo, &list, g, s, out);
	explain(out);
	free(list.v);
	return g == s;
}

static const struct cpu *find(const struct cpus *list, unsigned os_index)
{
	for (unsigned i = 0; i < list->n; i++)
		if (list->v[i].os_index == os_index)
			return &list->v[i];
	return NULL;
}

int bench_topology_describe(hwloc_topology_t topo, hwloc_const_cpuset_t allowed, unsigned guest_cpu,
			    unsigned server_cpu, struct bench_cores *out, struct vio_err *err)
{
	struct cpus list;
	const struct cpu *g, *s;
	int rc = list_cpus(topo, allowed, &list, err);

	if (rc)
		return rc;
	g = find(&list, guest_cpu);
	s = find(&list, server_cpu);
	if (g && s) {
		topology_fill(topo, &list, g, s, out);
		explain(out);
		rc = g == s;
	} else {
		rc = vio_err_set(
			err, -EINVAL,
			"CPU %u: this process may not run there, or the machine has no such CPU; see the list with `taskset -cp $$`",
			g ? server_cpu : guest_cpu);
	}
	free(list.v);
	return rc;
}

json_t *bench_cores_json(const struct bench_cores *c)
{
	json_t *l3 = c->l3_visible ? json_boolean(c->l3_shared) : json_null();

	return json_pack("{s:i, s:i, s:s, s:i, s:i, s:b, s:b, s:o, s:b, s:i, s:I, s:I, s:I}",
			 "guest_core", (int)c->guest_core, "server_core", (int)c->server_core,
			 "reason", c->reason, "n_cpus", (int)c->n_cpus, "n_cores", (int)c->n_cores,
			 "smt", (int)c->smt, "smt_siblings", (int)c->smt_siblings, "l3_shared", l3,
			 "numa_shared", (int)c->numa_shared, "numa_node", c->numa_node, "l1_bytes",
			 (json_int_t)c->l1_bytes, "l2_bytes", (json_int_t)c->l2_bytes, "l3_bytes",
			 (json_int_t)c->l3_bytes);
}
