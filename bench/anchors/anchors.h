/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What bench-anchors is made of: cases, the pattern that their data is checked against, one
 * function a kind of case. Nothing here is injected; every number is the kernel's or the machine's
 * own. No state outside the arguments.
 */
#ifndef VIO_BENCH_ANCHORS_H
#define VIO_BENCH_ANCHORS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/limits/limits_measure.h"

enum anchors_point {
	ANCHORS_MAP,         /* copy pages out of a sealed memfd; the process has no other thread */
	ANCHORS_MAP_THREADS, /* the same while another thread runs on the other core */
	ANCHORS_URING_BUFFERED, /* io_uring reads of a file in the page cache */
	ANCHORS_URING_DIRECT,   /* ... with O_DIRECT */
	ANCHORS_KICK,           /* request and answer between two cores */
	ANCHORS_KICK_WRITE,     /* write to an eventfd that nobody waits for */
	ANCHORS_RDMA_COPY,      /* copy out of another process */
	ANCHORS_N_POINTS,
};
/* Its name in options and results; p < ANCHORS_N_POINTS. */
const char *anchors_point_name(enum anchors_point p);
/*
 * A set of points as bits (1 << point) from a comma separated list. -EINVAL with the sentence,
 * which lists them.
 */
int anchors_parse_points(const char *list, unsigned *set, struct vio_err *err);

/* The two ways of a point, and the third where there is one. */
enum anchors_level {
	ANCHORS_STANDING,    /* map: through a mapping that stands */
	ANCHORS_PER_REQUEST, /* map: mmap, copy, munmap */
	ANCHORS_MAP_ONLY,    /* map: mmap with MAP_POPULATE and munmap, no copy */
	ANCHORS_REGISTERED,  /* uring: READ_FIXED */
	ANCHORS_PLAIN,       /* uring: READ */
	ANCHORS_POLL,        /* kick: both poll a cache line */
	ANCHORS_EVENTFD,     /* kick: both sleep in read() of an eventfd */
	ANCHORS_SPIN_SLEEP, /* kick: poll for ANCHORS_SPIN_NS, then sleep; the kicker looks whether to wake */
	ANCHORS_NOBODY, /* kick-write */
	ANCHORS_READV,  /* rdma-copy: process_vm_readv */
	ANCHORS_MEMCPY, /* rdma-copy: through memory that both map */
	ANCHORS_N_LEVELS,
};
const char *anchors_level_name(enum anchors_level l);

#define ANCHORS_SPIN_NS    20000u
#define ANCHORS_MAX_CASES  96u
#define ANCHORS_FILE_BYTES (16u << 20) /* of each of the two temporary files */
#define ANCHORS_WINDOW     (4u << 20)  /* bytes of the memfd that map walks through */

struct anchors_case {
	enum anchors_point point;
	enum anchors_level level;
	size_t size;    /* bytes of an operation; 0: moves one word */
	unsigned depth; /* operations in flight */
};

/* All cases of the points in `set`, in an order that `seed` decides. Returns how many. */
unsigned anchors_cases(unsigned set, uint64_t seed, struct anchors_case out[ANCHORS_MAX_CASES]);

/* What every case is given. */
struct anchors_env {
	struct bench_cores cores;
	bool two_cores;
	int buffered_fd, direct_fd; /* the two files, -1: none */
	char no_direct[160];        /* why direct_fd is -1 */
	unsigned samples;           /* batches a case */
	uint64_t case_ns;           /* time a case, about */
	/* Seeds of the pattern written and the pattern expected: equal, but in tests that want a mismatch. */
	uint64_t written, expected;
};

/* How a case ended; plain bytes, because it is handed from process to process. */
struct anchors_outcome {
	int rc;        /* 0; negative: failed, with `why` */
	bool measured; /* false with rc 0: this machine does not allow it, with `why` */
	bool huge;     /* the memory had pages of 2 MiB */
	uint64_t ops;  /* operations in the samples */
	struct bench_series ns;
	struct vio_err why;
};

/*
 * Two files of ANCHORS_FILE_BYTES with the pattern, in `dir`, already without a name: nothing is
 * left whatever ends the program. A file system without O_DIRECT leaves direct_fd -1 and says why.
 * -errno with the sentence.
 */
int anchors_files_open(struct anchors_env *env, const char *dir, struct vio_err *err);
void anchors_files_close(struct anchors_env *env);

/*
 * Run one case in a process of its own: the page-table state that one case's threads leave behind
 * (on which cores munmap must flush) is not met by the next one. The caller has one thread.
 */
void anchors_run(const struct anchors_env *env, const struct anchors_case *c,
		 struct anchors_outcome *out);

/*
 * One kind of case each, in the calling process. 0: measured; ANCHORS_FORBIDDEN: not allowed here,
 * `why` says what; -EBADMSG: wrong data was moved; other -errno: failed.
 */
#define ANCHORS_FORBIDDEN 1
int anchors_map(const struct anchors_env *env, const struct anchors_case *c,
		struct anchors_outcome *out);
int anchors_uring(const struct anchors_env *env, const struct anchors_case *c,
		  struct anchors_outcome *out);
int anchors_kick(const struct anchors_env *env, const struct anchors_case *c,
		 struct anchors_outcome *out);
int anchors_rdma(const struct anchors_env *env, const struct anchors_case *c,
		 struct anchors_outcome *out);

/* splitmix64 (Steele, Lea, Flood 2014): one step from any state. */
uint64_t anchors_mix(uint64_t x);
/*
 * Pattern: every 8 byte word depends on its place and on the seed, so that bytes from a wrong
 * place, an old batch or another file are seen. `first` is the place of the first byte; both are
 * multiples of 8.
 */
void anchors_fill(void *to, size_t bytes, uint64_t seed, uint64_t first);
bool anchors_matches(const void *at, size_t bytes, uint64_t seed, uint64_t first);
/* Destroy what an earlier batch left, so that a batch that moved nothing is seen. */
void anchors_poison(void *at, size_t bytes);
/* bench_sample_checked() with the case's share of time; the sentence goes to out->why. */
int anchors_sample(const struct anchors_env *env, bench_op op, bench_op check, void *ctx,
		   struct anchors_outcome *out);

struct anchors_result {
	struct anchors_env env;
	uint64_t seed;
	double budget_seconds, taken_seconds;
	uint64_t involuntary_switches;
	unsigned n;
	struct anchors_case c[ANCHORS_MAX_CASES];
	struct anchors_outcome o[ANCHORS_MAX_CASES];
};
extern const char anchors_json_keys[];
/* A new reference, NULL without memory. */
json_t *anchors_json(const struct anchors_result *r);

#endif
