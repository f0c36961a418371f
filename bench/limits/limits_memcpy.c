/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <string.h>

#include "bench/limits/limits_measure.h"
#include "vio/cycles.h"

#define MIB            (1024u * 1024u)
#define FOOTPRINT_UNIT 8192u /* two plain pages: one read, one written */
#define LARGE_CAP      (256ull * MIB)
/* A batch grows by this many bytes between looks at the clock, so that the look costs little. */
#define BYTES_PER_LOOK (1u * MIB)

static void add_level(struct bench_level *out, unsigned *n, const char *name, uint64_t bytes,
		      const char *rule)
{
	bytes -= bytes % FOOTPRINT_UNIT;
	if (bytes < FOOTPRINT_UNIT || (*n && bytes <= out[*n - 1].footprint))
		return;
	memset(&out[*n], 0, sizeof(out[*n]));
	snprintf(out[*n].name, sizeof(out[*n].name), "%s", name);
	snprintf(out[*n].rule, sizeof(out[*n].rule), "%s", rule);
	out[*n].footprint = (size_t)bytes;
	(*n)++;
}

unsigned bench_levels(const struct bench_cores *cores, uint64_t max_bytes,
		      struct bench_level out[BENCH_MAX_LEVELS])
{
	uint64_t l1 = cores->l1_bytes, l2 = cores->l2_bytes, l3 = cores->l3_bytes, last, large;
	bool assumed = !l1 && !l2 && !l3;
	const char *rule = "twice the last cache";
	unsigned n = 0;

	if (assumed) {
		l1 = 32 * 1024;
		l2 = MIB;
		rule = "twice an assumed last cache of 1 MiB";
	}
	last = l3 ? l3 : l2 ? l2 : l1;
	add_level(out, &n, "L1", l1 / 2,
		  assumed ? "half of 32 KiB, assumed: no cache is visible" : "half of L1");
	add_level(out, &n, "L2", l2 / 2,
		  assumed ? "half of 1 MiB, assumed: no cache is visible" : "half of L2");
	/* Well inside: an L3 is shared with other cores, and in a virtual machine with other machines. */
	if (l3 && l2 && 8 * l2 < l3 / 2)
		add_level(out, &n, "L3", 8 * l2, "8 times L2, less than half of L3");
	else
		add_level(out, &n, "L3", l3 / 2, "half of L3");
	large = 2 * last;
	if (large > LARGE_CAP) {
		large = LARGE_CAP;
		rule = "256 MiB cap, less than twice the last cache";
	}
	if (large > max_bytes) {
		large = max_bytes;
		rule = "a quarter of the available memory, less than twice the last cache";
	}
	add_level(out, &n, large > last ? "memory" : "large", large, rule);
	return n;
}

/*
 * A walk through one level with one block size. Goes on where it stopped, so that batches cover the
 * footprint.
 */
struct walk {
	uint8_t *dst;
	const uint8_t *src;
	size_t size, blocks, at;
};

static void copy_blocks(struct walk *w, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		size_t off = w->at * w->size;

		memcpy(w->dst + off, w->src + off, w->size);
		__asm__ volatile("" ::"r"(w->dst + off) : "memory"); /* the bytes count as used */
		if (++w->at == w->blocks)
			w->at = 0;
	}
}

static double copy_for(struct walk *w, uint64_t ns)
{
	uint64_t look = w->size < BYTES_PER_LOOK ? BYTES_PER_LOOK / w->size : 1;
	uint64_t n = 0, t0 = vio_now_ns(), now;

	do {
		copy_blocks(w, look);
		n += look;
		now = vio_now_ns();
	} while (now - t0 < ns);
	return (double)(now - t0) / (double)n;
}

static int one_point(const struct bench_mem *m, uint64_t budget_ns, unsigned samples,
		     struct limits_memcpy *p, struct vio_err *err)
{
	size_t half = p->level.footprint / 2;
	struct walk w = {
		.src = m->base, .dst = m->base + half, .size = p->size, .blocks = half / p->size};

	memset(w.dst, 0, p->size);
	copy_for(&w, budget_ns / (samples + 1));
	for (unsigned i = 0; i < samples; i++)
		bench_series_add(&p->ns, copy_for(&w, budget_ns / (samples + 1)));
	if (memcmp(w.dst, w.src, p->size))
		return vio_err_set(err, -EIO,
				   "memcpy of %zu bytes: the copy differs from its source",
				   p->size);
	return 0;
}

int limits_memcpy_all(struct bench_level *levels, unsigned n_levels, uint64_t budget_ns,
		      unsigned samples, struct limits_memcpy *out, unsigned *n_out,
		      struct vio_err *err)
{
	static const size_t sizes[] = {64, 512, 4096, 65536, MIB};
	const unsigned n_sizes = sizeof(sizes) / sizeof(sizes[0]);
	unsigned points = 0;
	int rc = 0;

	for (unsigned l = 0; l < n_levels; l++)
		for (unsigned s = 0; s < n_sizes; s++)
			points += 2 * sizes[s] <= levels[l].footprint;
	*n_out = 0;
	for (unsigned l = 0; l < n_levels && !rc; l++) {
		struct vio_err why = {""};
		struct bench_mem m;

		if (bench_mem_get(BENCH_MEM_SHARED, levels[l].footprint, &m, &why)) {
			snprintf(levels[l].skipped, sizeof(levels[l].skipped), "%.127s", why.msg);
			continue;
		}
		for (size_t i = 0; i < levels[l].footprint / 2; i++)
			m.base[i] = (uint8_t)(i % 251 + 1);
		for (unsigned s = 0; s < n_sizes && !rc; s++) {
			struct limits_memcpy *p = &out[*n_out];

			if (2 * sizes[s] > levels[l].footprint || *n_out == LIMITS_MAX_MEMCPY)
				continue;
			*p = (struct limits_memcpy){
				.level = levels[l], .size = sizes[s], .huge = m.huge};
			rc = one_point(&m, budget_ns / points, samples, p, err);
			(*n_out)++;
		}
		bench_mem_put(&m);
	}
	return rc;
}
