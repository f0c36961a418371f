/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * race: a guest that changes every word it can reach while the server's lcore works on its requests, in every level of ring access
 * and payload, every layout, for disk and network. Says how many requests were raced and how many violations the oracle saw.
 *
 * --expect violations is for a server that was built without snapshots (VIO_SNAPSHOTS=0): there each arm must be broken, and an arm
 * that is not within the time fails the run.
 */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/hostile/attack.h"
#include "vio/cycles.h"

struct options {
	uint64_t requests, ns; /* of each arm, at most */
	bool expect;           /* violations */
	bool list;             /* a line for each arm */
	uint64_t seed;
};

struct sum {
	unsigned arms, broken;
	uint64_t requests, refused, violations, flips;
};

static const char *now = "set-up"; /* for a crash: an arm's name */

/* A fault of the processor: the server left a window. That is a violation too, and the last one. */
static void on_crash(int sig)
{
	static const char text[] = "\nviolation: a signal ended the server in arm: ";

	(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	(void)!write(STDERR_FILENO, now, strlen(now));
	(void)!write(STDERR_FILENO, "\n", 1);
	signal(sig, SIG_DFL);
	raise(sig);
}

/* The thread's attack once more, by the server's own thread, at one read in eight. */
static void between(void *ctx, bool before)
{
	struct attack *a = ctx;

	if (!before)
		attack_back(a);
	else if (attack_below(a, 8) == 0)
		attack_put(a);
}

/* Requests until they were enough, or the time is over, or (expect) the server is broken. */
static void race_arm(struct rig *g, const struct options *o)
{
	const uint64_t end = vio_now_ns() + o->ns;

	for (unsigned i = 0; g->requests + g->refused < o->requests; i++) {
		rig_publish(g);
		for (unsigned k = 0; k < 3 && !rig_taken(g) && g->q.fault == VIO_ST_OK; k++)
			rig_work(g);
		if (g->q.fault != VIO_ST_OK || !rig_taken(g)) {
			g->refused++;
			rig_reset(g);
		} else if (i % 1024 == 0) {
			rig_reset(g); /* two attackers may leave a wrong value behind */
		}
		if ((o->expect && g->violations) || (i % 256 == 0 && vio_now_ns() > end))
			return;
	}
}

static void one_arm(const struct rig_arm *arm, const struct options *o, struct sum *sum)
{
	static struct rig g;
	static struct attack a, inside;
	char name[120];

	rig_name(arm, name, sizeof(name));
	now = name;
	rig_open(&g, arm);
	attack_fields(&a, &g);
	inside = a;
	inside.rng = ~o->seed - sum->arms;
	g.between = between;
	g.between_ctx = &inside;
	attack_begin(&a, o->seed + sum->arms);
	race_arm(&g, o);
	attack_end(&a);
	rig_check_canaries(&g);
	sum->arms++;
	sum->broken += g.violations > 0;
	sum->requests += g.requests + g.refused;
	sum->refused += g.refused;
	sum->violations += g.violations;
	sum->flips += a.flips + inside.flips;
	if (o->list || (g.violations > 0) != o->expect)
		printf("%-60s %10llu requests, %9llu refused, %6llu violations %s\n", name,
		       (unsigned long long)(g.requests + g.refused), (unsigned long long)g.refused,
		       (unsigned long long)g.violations, g.first);
	rig_close(&g);
	now = "none";
}

static int parse(int argc, char **argv, struct options *o)
{
	int opt;

	while ((opt = getopt(argc, argv, "r:t:s:lx")) != -1) {
		switch (opt) {
		case 'r':
			o->requests = strtoull(optarg, NULL, 10);
			break;
		case 't':
			o->ns = (uint64_t)(strtod(optarg, NULL) * 1e9);
			break;
		case 's':
			o->seed = strtoull(optarg, NULL, 10);
			break;
		case 'l':
			o->list = true;
			break;
		case 'x':
			o->expect = true;
			break;
		default:
			fprintf(stderr,
				"usage: %s [-r REQUESTS of each arm] [-t SECONDS of each, at most] [-s SEED] [-l (a line for each)] [-x (violations are expected, of each)]\n",
				argv[0]);
			return -1;
		}
	}
	return optind == argc ? 0 : -1;
}

int main(int argc, char **argv)
{
	static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
	struct options o = {.requests = UINT64_MAX, .ns = UINT64_MAX / 2, .seed = 1};
	struct sum sum = {0};
	struct rig_arm arm;
	bool ok;

	if (parse(argc, argv, &o) < 0)
		return 2;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(crashes); i++)
		signal(crashes[i], on_crash);
	for (unsigned i = 0; rig_arm_at(i, &arm); i++)
		one_arm(&arm, &o, &sum);
	printf("%u arms, %u broken, %llu raced requests, %llu of them refused, %llu words changed, %llu violations\n",
	       sum.arms, sum.broken, (unsigned long long)sum.requests,
	       (unsigned long long)sum.refused, (unsigned long long)sum.flips,
	       (unsigned long long)sum.violations);
	ok = o.expect ? sum.broken == sum.arms : sum.violations == 0;
	if (!ok)
		printf(o.expect ? "FAILED: an attack that must succeed without snapshots did not\n"
				: "FAILED: something was used that was not judged so\n");
	return ok ? 0 : 1;
}
