/* SPDX-License-Identifier: BSD-3-Clause */
/* bench-anchors: every case run for a moment, with right data and with wrong data; never a time. */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "bench/anchors/anchors.h"

#define MOMENT 600000u /* ns */
#define ALL    ((1u << ANCHORS_N_POINTS) - 1)

/* The CPUs of this machine; and files in a folder of the test's own. */
struct fixture {
	struct anchors_env env;
	char dir[64];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	hwloc_topology_t t;
	hwloc_bitmap_t allowed;
	struct vio_err err = {""};
	int rc;

	assert_non_null(f);
	assert_int_equal(bench_topology_load(&t, &allowed, &err), 0);
	rc = bench_topology_choose(t, allowed, &f->env.cores, &err);
	bench_topology_free(t, allowed);
	assert_true(rc >= 0);
	f->env.two_cores = rc == 0;
	f->env.samples = 3;
	f->env.case_ns = MOMENT;
	f->env.written = f->env.expected = 42;
	strcpy(f->dir, "/tmp/test-anchors-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	assert_int_equal(anchors_files_open(&f->env, f->dir, &err), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	anchors_files_close(&f->env);
	rmdir(f->dir);
	free(f);
	return 0;
}

static unsigned entries(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static void the_pattern_tells_places_seeds_and_stale_bytes_apart(void **state)
{
	uint64_t a[64];

	(void)state;
	anchors_fill(a, sizeof(a), 5, 4096);
	assert_true(anchors_matches(a, sizeof(a), 5, 4096));
	assert_false(anchors_matches(a, sizeof(a), 5, 4104));
	assert_false(anchors_matches(a, sizeof(a), 6, 4096));
	a[63] ^= 1;
	assert_false(anchors_matches(a, sizeof(a), 5, 4096));
	anchors_fill(a, sizeof(a), 5, 4096);
	anchors_poison(a, sizeof(a));
	assert_false(anchors_matches(a, sizeof(a), 5, 4096));
}

static void every_case_moves_right_data_or_says_why_it_was_not_measured(void **state)
{
	const struct fixture *f = *state;
	struct anchors_case c[ANCHORS_MAX_CASES];
	unsigned n = anchors_cases(ALL, 1, c);

	assert_int_equal(n, 60);
	for (unsigned i = 0; i < n; i++) {
		struct anchors_outcome o = {0};

		anchors_run(&f->env, &c[i], &o);
		if (o.rc)
			fail_msg("%s %s %zu: %s", anchors_point_name(c[i].point),
				 anchors_level_name(c[i].level), c[i].size, o.why.msg);
		if (!o.measured) {
			assert_true(o.why.msg[0] != '\0');
			print_message("%s %s: %s\n", anchors_point_name(c[i].point),
				      anchors_level_name(c[i].level), o.why.msg);
			continue;
		}
		assert_int_equal(o.ns.n, 3);
		assert_true(o.ops >= 3);
		for (unsigned k = 0; k < o.ns.n; k++)
			assert_true(o.ns.v[k] > 0);
	}
}

static void no_case_accepts_wrong_data(void **state)
{
	struct anchors_env env = ((struct fixture *)*state)->env;
	struct anchors_case c[ANCHORS_MAX_CASES];
	unsigned n = anchors_cases(ALL, 1, c), found = 0;

	env.expected = env.written + 1;
	for (unsigned i = 0; i < n; i++) {
		struct anchors_outcome o = {0};

		anchors_run(&env, &c[i], &o);
		assert_false(o.measured);
		if (!o.rc)
			continue; /* not allowed here */
		assert_int_equal(o.rc, -EBADMSG);
		assert_non_null(strstr(o.why.msg, "differs"));
		found++;
	}
	/* map and kick-write need nothing but one core and a kernel. */
	assert_true(found >= 16);
}

/* Field by field: the structure has padding. */
static bool same_case(const struct anchors_case *a, const struct anchors_case *b)
{
	return a->point == b->point && a->level == b->level && a->size == b->size &&
	       a->depth == b->depth;
}

static void a_seed_decides_the_order_and_loses_no_case(void **state)
{
	struct anchors_case a[ANCHORS_MAX_CASES], b[ANCHORS_MAX_CASES], c[ANCHORS_MAX_CASES];
	unsigned n = anchors_cases(ALL, 1, a), moved = 0;

	(void)state;
	assert_int_equal(anchors_cases(ALL, 1, b), n);
	assert_int_equal(anchors_cases(ALL, 2, c), n);
	for (unsigned i = 0; i < n; i++) {
		unsigned found = 0;

		assert_true(same_case(&a[i], &b[i]));
		moved += !same_case(&a[i], &c[i]);
		for (unsigned k = 0; k < n; k++)
			found += same_case(&a[i], &c[k]);
		assert_int_equal(found, 1);
	}
	assert_true(moved > n / 2);
}

static void a_list_selects_points_and_an_unknown_one_is_refused_with_all_names(void **state)
{
	static const char *const wrong[] = {"",   "map,",          ",map",    "maps",
					    "ma", "kick,nonsense", "map kick"};
	struct vio_err err = {""};
	unsigned set;

	(void)state;
	assert_int_equal(anchors_parse_points("kick,map", &set, &err), 0);
	assert_int_equal(set, 1u << ANCHORS_KICK | 1u << ANCHORS_MAP);
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(anchors_parse_points(wrong[i], &set, &err), -EINVAL);
		for (unsigned p = 0; p < ANCHORS_N_POINTS; p++)
			assert_non_null(strstr(err.msg, anchors_point_name(p)));
	}
}

static void one_core_measures_what_needs_one_and_explains_the_rest(void **state)
{
	struct anchors_env env = ((struct fixture *)*state)->env;
	static const struct anchors_case needs_two[] = {
		{ANCHORS_MAP_THREADS, ANCHORS_PER_REQUEST, 4096, 1},
		{ANCHORS_KICK, ANCHORS_POLL, 0, 1},
		{ANCHORS_RDMA_COPY, ANCHORS_READV, 64, 1},
	};
	static const struct anchors_case needs_one = {ANCHORS_MAP, ANCHORS_PER_REQUEST, 4096, 1};
	struct anchors_outcome o = {0};

	env.two_cores = false;
	env.cores.server_core = env.cores.guest_core;
	strcpy(env.cores.reason, "because");
	for (unsigned i = 0; i < 3; i++) {
		anchors_run(&env, &needs_two[i], &o);
		assert_int_equal(o.rc, 0);
		assert_false(o.measured);
		assert_non_null(strstr(o.why.msg, "because"));
	}
	anchors_run(&env, &needs_one, &o);
	assert_int_equal(o.rc, 0);
	assert_true(o.measured);
}

static void the_temporary_files_have_no_name(void **state)
{
	const struct fixture *f = *state;

	assert_true(f->env.buffered_fd >= 0);
	assert_int_equal(entries(f->dir), 0);
}

static void a_folder_that_is_not_there_is_named(void **state)
{
	struct anchors_env env = {0};
	struct vio_err err = {""};

	(void)state;
	assert_int_equal(anchors_files_open(&env, "/nonexistent", &err), -ENOENT);
	assert_non_null(strstr(err.msg, "/nonexistent"));
	assert_int_equal(env.buffered_fd, -1);
	assert_int_equal(env.direct_fd, -1);
}

static void a_file_system_without_o_direct_is_a_reason_and_no_error(void **state)
{
	struct anchors_env env = ((struct fixture *)*state)->env;
	const struct anchors_case c = {ANCHORS_URING_DIRECT, ANCHORS_PLAIN, 4096, 1};
	struct anchors_outcome o = {0};

	env.direct_fd = -1;
	strcpy(env.no_direct, "no O_DIRECT here");
	anchors_run(&env, &c, &o);
	assert_int_equal(o.rc, 0);
	assert_false(o.measured);
	assert_string_equal(o.why.msg, "no O_DIRECT here");
}

static void an_interrupt_ends_the_program_and_leaves_nothing(void **state)
{
	const struct fixture *f = *state;
	const char *program = getenv("BENCH_ANCHORS");
	char json[96];
	int status;
	pid_t pid;

	assert_non_null(program);
	snprintf(json, sizeof(json), "%s/out.json", f->dir);
	pid = fork();
	if (pid == 0) {
		execl(program, program, "--dir", f->dir, "--json", json, "--seconds", "60",
		      (char *)NULL);
		_exit(127);
	}
	assert_true(pid > 0);
	usleep(400000); /* in the middle of its cases; earlier or later would be as right */
	kill(pid, SIGINT);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
	assert_int_equal(entries(f->dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_pattern_tells_places_seeds_and_stale_bytes_apart),
		cmocka_unit_test(every_case_moves_right_data_or_says_why_it_was_not_measured),
		cmocka_unit_test(no_case_accepts_wrong_data),
		cmocka_unit_test(a_seed_decides_the_order_and_loses_no_case),
		cmocka_unit_test(
			a_list_selects_points_and_an_unknown_one_is_refused_with_all_names),
		cmocka_unit_test(one_core_measures_what_needs_one_and_explains_the_rest),
		cmocka_unit_test(the_temporary_files_have_no_name),
		cmocka_unit_test(a_folder_that_is_not_there_is_named),
		cmocka_unit_test(a_file_system_without_o_direct_is_a_reason_and_no_error),
		cmocka_unit_test(an_interrupt_ends_the_program_and_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
