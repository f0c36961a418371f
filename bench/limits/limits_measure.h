/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What bench-limits is made of: samples, memory, pinned pairs of threads, and one function a
 * measurement.
 *
 * A *sample* is the mean cost of one operation over one timed batch, in nanoseconds, kept raw so
 * that others can compute intervals. All functions return 0 or -errno with the sentence in `err`.
 * No state outside the arguments.
 */
#ifndef VIO_BENCH_LIMITS_MEASURE_H
#define VIO_BENCH_LIMITS_MEASURE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "bench/limits/topology.h"
#include "vio/err.h"

/*
 * Two cache lines that two cores write lie on separate blocks of this size: x86's adjacent-line
 * prefetcher pulls lines in pairs, and POWER's lines are 128 bytes.
 */
#define BENCH_BLOCK 128u

/* ------------------------------------------------------------- samples (limits_stats.c) ---- */

#define BENCH_MAX_SAMPLES 64
struct bench_series {
	double v[BENCH_MAX_SAMPLES];
	unsigned n;
};
struct bench_summary {
	double min, q1, median, q3, max;
};

/* Keep a sample. Past BENCH_MAX_SAMPLES it is dropped and false returned. */
bool bench_series_add(struct bench_series *s, double ns);
/* -ENODATA without samples. */
int bench_series_summary(const struct bench_series *s, struct bench_summary *out);
/*
 * The p-quantile (0..1) of `n` >= 1 ascending values, linear between neighbours (numpy's default,
 * R's type 7).
 */
double bench_quantile(const double *sorted, unsigned n, double p);

/* One operation, n times. 0 or -errno. */
typedef int (*bench_op)(void *ctx, uint64_t n);
/*
 * Find how many operations fill a batch, then take `samples` batches in about `budget_ns` in all.
 * Errors: what `op` returns.
 */
int bench_sample(bench_op op, void *ctx, uint64_t budget_ns, unsigned samples,
		 struct bench_series *out);
/*
 * The same, with check(ctx, n) after each batch of n, outside the timed part: it looks at what the
 * batch left behind. The batches that find n are not checked. *ops: operations in the samples.
 */
int bench_sample_checked(bench_op op, bench_op check, void *ctx, uint64_t budget_ns,
			 unsigned samples, struct bench_series *out, uint64_t *ops);

/* ----------------------------------------------------------------- memory (limits_mem.c) ---- */

enum bench_mem_kind {
	BENCH_MEM_PRIVATE, /* anonymous, this process's own */
	BENCH_MEM_SHARED, /* memfd mapped MAP_SHARED, as a partition's LMBs are: 2 MiB pages if free, else plain */
};
struct bench_mem {
	uint8_t *base; /* page aligned; every page is present and zero */
	size_t bytes;  /* as mapped: `bytes` asked for, rounded up to pages */
	int fd;        /* -1: private */
	bool huge;     /* pages of 2 MiB reserved for this (hugetlb) */
};
/* -ENOMEM: more than bench_mem_allowance(), or the kernel has no more. Nothing is left behind on an error. */
int bench_mem_get(enum bench_mem_kind kind, size_t bytes, struct bench_mem *m, struct vio_err *err);
void bench_mem_put(struct bench_mem *m);
/*
 * Bytes that one measurement may take without getting in others' way: a quarter of what the kernel
 * calls available (4 MiB when that can't be read). bench_mem_fits: the rule itself; available_bytes
 * 0 = can't be read.
 */
uint64_t bench_mem_allowance(void);
bool bench_mem_fits(size_t bytes, uint64_t available_bytes);

/* ---------------------------------------------------------------- threads (limits_pair.c) ---- */

/* Pin the calling thread. -EINVAL when this process may not run there. */
int bench_pin(unsigned cpu, struct vio_err *err);
/*
 * Run `server` on a new thread pinned to `server_cpu` and `guest` on the calling thread, both with
 * `ctx`; returns when both are done. `guest` must make `server` end. -EINVAL: can't be pinned,
 * nothing was run.
 */
int bench_pair_run(unsigned server_cpu, void (*guest)(void *ctx), void (*server)(void *ctx),
		   void *ctx, struct vio_err *err);

/* ------------------------------------------------------------------------ measurements ---- */

/*
 * limits_pair.c. The calling thread is the guest's end and must be pinned; server_cpu is another
 * core. `batches` batches of at most `rounds` round trips; each batch ends early when its share of
 * budget_ns is over.
 *
 * round_trip: the guest stores a counter to its line, the server answers on a second line. Private
 * and shared memory take turns batch by batch, so that a drift of the machine meets both.
 */
int limits_round_trip(unsigned server_cpu, uint64_t budget_ns, unsigned batches, uint64_t rounds,
		      struct bench_series *private_mem, struct bench_series *shared_mem,
		      bool *shared_huge, struct vio_err *err);
/* Both threads block in read() on an eventfd and wake each other by turns. */
int limits_eventfd_wake(unsigned server_cpu, uint64_t budget_ns, unsigned batches, uint64_t rounds,
			struct bench_series *out, struct vio_err *err);

/* A memcpy's footprint, source and destination together, by the cache level that it fits. */
struct bench_level {
	char name
		[16]; /* "L1", "L2", "L3"; "memory": beyond the last cache; "large": as much as allowed, not
			  beyond */
	size_t footprint;  /* bytes, a multiple of 8 KiB; one half is read, the other written */
	char rule[80];     /* how the footprint was found */
	char skipped[128]; /* why it was not measured (no memory); empty: it was */
};
#define BENCH_MAX_LEVELS 4
/*
 * Levels for these caches, smallest first; returns how many. max_bytes: the most that the last
 * level may take. A cache that is not visible has no level; when none is, sizes are assumed and the
 * rule says so.
 */
unsigned bench_levels(const struct bench_cores *cores, uint64_t max_bytes,
		      struct bench_level out[BENCH_MAX_LEVELS]);

struct limits_memcpy {
	struct bench_level level;
	size_t size; /* bytes of a block */
	bool huge;
	struct bench_series ns; /* per block */
};
#define LIMITS_MAX_MEMCPY 20
/*
 * limits_memcpy.c: libc's memcpy of blocks in ascending order through a level's footprint, all on
 * this core. Sizes that do not fit twice into a level are left out; a level for which there is no
 * memory is skipped and says so. Fills at most LIMITS_MAX_MEMCPY of out[].
 */
int limits_memcpy_all(struct bench_level *levels, unsigned n_levels, uint64_t budget_ns,
		      unsigned samples, struct limits_memcpy *out, unsigned *n_out,
		      struct vio_err *err);

struct limits_handover {
	size_t size;
	unsigned
		depth; /* blocks in the ring: destination and source footprint are size * depth each */
	bool reading; /* the consumer reads every word of each block, or only gives it back */
	bool huge;
	struct bench_series ns; /* per block, at the producer */
};
/*
 * limits_handover.c: this core copies a block into a ring slot and hands the slot over by a flag;
 * the other core reads it (or not) and gives it back. h->size (multiple of 8), depth and reading
 * are given, the rest is filled in. With `reading` the words' sum is compared with what was sent:
 * -EIO when it differs.
 */
int limits_handover_run(unsigned server_cpu, uint64_t budget_ns, unsigned samples,
			struct limits_handover *h, struct vio_err *err);

/* limits_ops.c: what one thread does alone. */
enum limits_op {
	LIMITS_SYSCALL,            /* getppid through syscall() */
	LIMITS_EVENTFD_WRITE_READ, /* write, then read, same thread: nobody sleeps */
	LIMITS_CLOCK_GETTIME,      /* CLOCK_MONOTONIC */
	LIMITS_TICK_READ,          /* vio_ticks() */
	LIMITS_MAP_PAGE,     /* mmap, touch, munmap of one present 4 KiB page of a memfd, shared */
	LIMITS_ROBUST_MUTEX, /* lock, unlock, process-shared and robust, nobody else wants it */
	LIMITS_N_OPS,
};
const char *limits_op_name(enum limits_op op); /* the JSON key */
const char *limits_op_text(enum limits_op op); /* for a person */
int limits_op_run(enum limits_op op, uint64_t budget_ns, unsigned samples, struct bench_series *out,
		  struct vio_err *err);

/* ------------------------------------------------------------------- result (limits_json.c) ---- */

#define LIMITS_N_HANDOVER 8
struct limits_result {
	struct bench_cores cores;
	bool two_cores; /* false: round trips, wake and handover are empty, and cores.reason says why */
	double budget_seconds, taken_seconds;
	uint64_t
		involuntary_switches; /* times that a thread of this program was preempted: 0 on a quiet machine */
	struct bench_series round_trip, round_trip_shared, eventfd_wake;
	bool shared_huge;
	struct bench_level levels[BENCH_MAX_LEVELS];
	unsigned n_levels;
	struct limits_memcpy copies[LIMITS_MAX_MEMCPY];
	unsigned n_copies;
	struct limits_handover handover[LIMITS_N_HANDOVER];
	unsigned n_handover;
	struct bench_series op[LIMITS_N_OPS];
};

/* What the JSON's keys mean; printed by --help and kept beside the code that writes them. */
extern const char limits_json_keys[];
/* min_ns ... max_ns and samples_ns; null without samples. A new reference. */
json_t *bench_series_json(const struct bench_series *s);
/* A new reference, NULL without memory. */
json_t *limits_json(const struct limits_result *r);
void limits_table(const struct limits_result *r, FILE *f);

#endif
