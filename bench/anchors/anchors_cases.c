/* SPDX-License-Identifier: BSD-3-Clause */
/* The list of cases, their order, and a process for each. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/anchors/anchors.h"

#define KIB 1024u
#define MIB (1024u * KIB)

typedef int (*case_fn)(const struct anchors_env *env, const struct anchors_case *c,
		       struct anchors_outcome *out);

/* Lists end with 0; a level list ends with ANCHORS_N_LEVELS. */
struct point {
	const char *name;
	case_fn run;
	bool two_cores;
	enum anchors_level level[4];
	size_t size[6];
	unsigned depth[3];
};

static const struct point points[ANCHORS_N_POINTS] = {
	[ANCHORS_MAP] = {"map",
			 anchors_map,
			 false,
			 {ANCHORS_STANDING, ANCHORS_PER_REQUEST, ANCHORS_MAP_ONLY,
			  ANCHORS_N_LEVELS},
			 {4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB},
			 {1}},
	[ANCHORS_MAP_THREADS] = {"map-threads",
				 anchors_map,
				 true,
				 {ANCHORS_STANDING, ANCHORS_PER_REQUEST, ANCHORS_MAP_ONLY,
				  ANCHORS_N_LEVELS},
				 {4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB},
				 {1}},
	[ANCHORS_URING_BUFFERED] = {"uring-buffered",
				    anchors_uring,
				    false,
				    {ANCHORS_REGISTERED, ANCHORS_PLAIN, ANCHORS_N_LEVELS},
				    {4 * KIB, 64 * KIB},
				    {1, 32}},
	[ANCHORS_URING_DIRECT] = {"uring-direct",
				  anchors_uring,
				  false,
				  {ANCHORS_REGISTERED, ANCHORS_PLAIN, ANCHORS_N_LEVELS},
				  {4 * KIB, 64 * KIB},
				  {1, 32}},
	[ANCHORS_KICK] = {"kick",
			  anchors_kick,
			  true,
			  {ANCHORS_POLL, ANCHORS_EVENTFD, ANCHORS_SPIN_SLEEP, ANCHORS_N_LEVELS},
			  {0},
			  {1}},
	[ANCHORS_KICK_WRITE] =
		{"kick-write", anchors_kick, false, {ANCHORS_NOBODY, ANCHORS_N_LEVELS}, {0}, {1}},
	[ANCHORS_RDMA_COPY] = {"rdma-copy",
			       anchors_rdma,
			       true,
			       {ANCHORS_MEMCPY, ANCHORS_READV, ANCHORS_N_LEVELS},
			       {64, 512, 4 * KIB, 64 * KIB, MIB},
			       {1}},
};

static const char *const level_names[ANCHORS_N_LEVELS] = {
	[ANCHORS_STANDING] = "standing-window",
	[ANCHORS_PER_REQUEST] = "mmap-per-request",
	[ANCHORS_MAP_ONLY] = "map-only",
	[ANCHORS_REGISTERED] = "registered",
	[ANCHORS_PLAIN] = "plain",
	[ANCHORS_POLL] = "poll",
	[ANCHORS_EVENTFD] = "eventfd",
	[ANCHORS_SPIN_SLEEP] = "spin-then-sleep",
	[ANCHORS_NOBODY] = "eventfd-nobody-asleep",
	[ANCHORS_READV] = "process_vm_readv",
	[ANCHORS_MEMCPY] = "memcpy",
};

const char *anchors_point_name(enum anchors_point p)
{
	return p < ANCHORS_N_POINTS ? points[p].name : "?";
}

const char *anchors_level_name(enum anchors_level l)
{
	return l < ANCHORS_N_LEVELS ? level_names[l] : "?";
}

static int unknown_point(const char *name, size_t len, struct vio_err *err)
{
	char all[160] = "";

	for (unsigned p = 0; p < ANCHORS_N_POINTS; p++) {
		strcat(all, p ? ", " : "");
		strcat(all, points[p].name);
	}
	return vio_err_set(err, -EINVAL, "--points: no point \"%.*s\"; there are %s",
			   (int)(len < 40 ? len : 40), name, all);
}

int anchors_parse_points(const char *list, unsigned *set, struct vio_err *err)
{
	*set = 0;
	for (const char *at = list;; at++) {
		size_t len = strcspn(at, ",");
		unsigned p = 0;

		while (p < ANCHORS_N_POINTS &&
		       (strlen(points[p].name) != len || strncmp(points[p].name, at, len)))
			p++;
		if (p == ANCHORS_N_POINTS)
			return unknown_point(at, len, err);
		*set |= 1u << p;
		at += len;
		if (!*at)
			return 0;
	}
}

static unsigned add_point(enum anchors_point id, struct anchors_case *out)
{
	const struct point *p = &points[id];
	unsigned n = 0;

	for (unsigned l = 0; p->level[l] != ANCHORS_N_LEVELS; l++)
		for (unsigned s = 0; s == 0 || p->size[s]; s++)
			for (unsigned d = 0; p->depth[d]; d++)
				out[n++] = (struct anchors_case){id, p->level[l], p->size[s],
								 p->depth[d]};
	return n;
}

unsigned anchors_cases(unsigned set, uint64_t seed, struct anchors_case out[ANCHORS_MAX_CASES])
{
	unsigned n = 0;

	for (unsigned p = 0; p < ANCHORS_N_POINTS; p++)
		if (set & (1u << p))
			n += add_point(p, &out[n]);
	for (unsigned i = n; i > 1; i--) {
		unsigned k = (unsigned)(anchors_mix(seed + i) % i);
		struct anchors_case c = out[i - 1];

		out[i - 1] = out[k];
		out[k] = c;
	}
	return n;
}

/* ----------------------------------------------------------------- processes ---- */

static void run_here(const struct anchors_env *env, const struct anchors_case *c,
		     struct anchors_outcome *out)
{
	const struct point *p = &points[c->point];
	int rc;

	if (p->two_cores && !env->two_cores) {
		vio_err_set(&out->why, 0, "needs two cores: %.280s", env->cores.reason);
		return;
	}
	rc = p->run(env, c, out);
	out->measured = rc == 0;
	out->rc = rc < 0 ? rc : 0;
}

/* The child's end of the pipe: one write, less than PIPE_BUF, so all of it or nothing. */
static _Noreturn void child(pid_t parent, int to, const struct anchors_env *env,
			    const struct anchors_case *c)
{
	struct anchors_outcome out = {0};

	_Static_assert(sizeof(out) <= 4096, "an outcome is written to a pipe at once");
	/* Nobody reads the answer of a child whose parent is gone. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
		_exit(1);
	run_here(env, c, &out);
	_exit(write(to, &out, sizeof(out)) == sizeof(out) ? 0 : 1);
}

static void broken(struct anchors_outcome *out, int rc, const char *what)
{
	*out = (struct anchors_outcome){.rc = rc};
	vio_err_set(&out->why, rc, "%s: %s", what, strerror(-rc));
}

void anchors_run(const struct anchors_env *env, const struct anchors_case *c,
		 struct anchors_outcome *out)
{
	pid_t self = getpid(), pid;
	int fd[2], status = 0;
	ssize_t n;

	if (pipe(fd)) {
		broken(out, -errno, "no pipe");
		return;
	}
	pid = fork();
	if (pid == 0)
		child(self, fd[1], env, c);
	close(fd[1]);
	if (pid < 0) {
		broken(out, -errno, "no process");
	} else {
		do
			n = read(fd[0], out, sizeof(*out));
		while (n < 0 && errno == EINTR);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		if (n != sizeof(*out))
			broken(out, -ECHILD, "the process of this case ended early");
	}
	close(fd[0]);
}
