/* SPDX-License-Identifier: BSD-3-Clause */
/* bench-topology and bench-limits as a person or a script meets them: exit codes, messages, JSON. */
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#define ROOM 65536

/* What a program said, and how it ended. */
struct said {
	char out[ROOM], err[ROOM];
	int code;
};

static void slurp(int fd, char *buf)
{
	ssize_t n = pread(fd, buf, ROOM - 1, 0);

	assert_true(n >= 0 && n < ROOM - 1);
	buf[n] = '\0';
	close(fd);
}

static int scratch(void)
{
	FILE *f = tmpfile();
	int fd;

	assert_non_null(f);
	fd = dup(fileno(f));
	fclose(f);
	assert_true(fd >= 0);
	return fd;
}

/* cpu >= 0: the program may run there only. argv ends with NULL. */
static void run(const char *program, const char *const *argv, int cpu, struct said *s)
{
	int out = scratch(), err = scratch(), status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		if (cpu >= 0) {
			cpu_set_t set;

			CPU_ZERO(&set);
			CPU_SET((size_t)cpu, &set);
			if (sched_setaffinity(0, sizeof(set), &set))
				_exit(126);
		}
		dup2(out, 1);
		dup2(err, 2);
		execv(program, (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	s->code = WEXITSTATUS(status);
	slurp(out, s->out);
	slurp(err, s->err);
}

static const char *topology(void)
{
	const char *p = getenv("BENCH_TOPOLOGY");

	assert_non_null(p);
	return p;
}

static const char *limits(void)
{
	const char *p = getenv("BENCH_LIMITS");

	assert_non_null(p);
	return p;
}

/* A CPU on which this test may run. */
static int some_cpu(void)
{
	cpu_set_t set;

	assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET((size_t)i, &set))
			return i;
	return -1;
}

static void topology_with_one_cpu_exits_3_with_both_the_same(void **state)
{
	const char *argv[] = {"bench-topology", NULL};
	int cpu = some_cpu();
	struct said *s = *state;
	json_t *j;

	run(topology(), argv, cpu, s);
	assert_int_equal(s->code, 3);
	j = json_loads(s->out, 0, NULL);
	assert_non_null(j);
	assert_int_equal(json_integer_value(json_object_get(j, "guest_core")), cpu);
	assert_int_equal(json_integer_value(json_object_get(j, "server_core")), cpu);
	json_decref(j);
}

static void limits_with_one_cpu_exits_0_with_a_note_and_nulls(void **state)
{
	const char *argv[] = {"bench-limits", "--seconds", "0.2", NULL};
	struct said *s = *state;
	json_t *j;

	run(limits(), argv, some_cpu(), s);
	assert_int_equal(s->code, 0);
	assert_non_null(strstr(s->err, "only one"));
	j = json_loads(s->out, 0, NULL);
	assert_non_null(j);
	assert_true(json_is_false(json_object_get(j, "two_cores")));
	assert_true(json_is_null(json_object_get(j, "round_trip")));
	assert_true(json_is_object(json_object_get(j, "syscall")));
	assert_true(json_array_size(json_object_get(j, "memcpy")) > 0);
	json_decref(j);
}

static void limits_has_the_keys_that_the_report_reads(void **state)
{
	const char *argv[] = {"bench-limits", "--seconds", "0.2", "--table", NULL};
	struct said *s = *state;
	json_t *j, *two, *copy;

	run(limits(), argv, -1, s);
	assert_int_equal(s->code, 0);
	assert_non_null(strstr(s->err, "memcpy")); /* the table; standard output is JSON alone */
	j = json_loads(s->out, 0, NULL);
	assert_non_null(j);
	copy = json_array_get(json_object_get(j, "memcpy"), 0);
	assert_true(json_is_integer(json_object_get(copy, "size_bytes")));
	assert_true(json_is_integer(json_object_get(copy, "footprint_bytes")));
	assert_true(json_is_string(json_object_get(copy, "level")));
	assert_true(json_real_value(json_object_get(copy, "gb_per_s")) > 0);
	assert_true(json_is_real(json_object_get(json_object_get(j, "syscall"), "median_ns")));
	two = json_object_get(j, "two_cores");
	assert_true(json_is_boolean(two));
	if (json_is_true(two)) {
		json_t *rt = json_object_get(j, "round_trip");

		assert_int_equal(json_array_size(json_object_get(rt, "samples_ns")), 15);
		assert_true(json_is_real(
			json_object_get(json_object_get(j, "eventfd_wake"), "one_way_ns")));
		assert_int_equal(json_array_size(json_object_get(j, "memcpy_handover")), 8);
	}
	json_decref(j);
}

static void wrong_use_exits_2_and_names_the_option(void **state)
{
	static const char *const wrong[][2] = {
		{"--cores", "0"},      {"--cores", "0,"},
		{"--cores", "0,1x"},   {"--cores", ","},
		{"--cores", "-1,0"},   {"--cores", "0,1,2"},
		{"--cores", ""},       {"--cores", "0,99999999999999999999"},
		{"--seconds", "nan"},  {"--seconds", "0"},
		{"--seconds", "1e99"}, {"--seconds", "-5"},
		{"--seconds", "fast"}, {"--no-such-option", ""},
		{"--seconds", ""},
	};
	struct said *s = *state;

	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		const char *argv[] = {"bench-limits", wrong[i][0], wrong[i][1], NULL};

		run(limits(), argv, -1, s);
		assert_int_equal(s->code, 2);
		assert_non_null(strstr(s->err, wrong[i][0]));
		assert_string_equal(s->out, "");
	}
}

static void a_cpu_that_is_not_there_or_a_file_that_cannot_be_written_exits_1(void **state)
{
	char pair[32];
	const char *cpu[] = {"bench-limits", "--cores", pair, NULL};
	const char *file[] = {"bench-limits", "--json", "/nonexistent/limits.json", NULL};
	const char *full[] = {"bench-limits", "--seconds", "0.2", "--json", "/dev/full", NULL};
	struct said *s = *state;

	snprintf(pair, sizeof(pair), "%d,65535", some_cpu());
	run(limits(), cpu, -1, s);
	assert_int_equal(s->code, 1);
	assert_non_null(strstr(s->err, "CPU 65535"));
	run(limits(), file, -1, s);
	assert_int_equal(s->code, 1);
	assert_non_null(strstr(s->err, "/nonexistent/limits.json"));
	run(limits(), full, -1, s);
	assert_int_equal(s->code, 1);
	assert_non_null(strstr(s->err, "/dev/full"));
}

static void help_names_every_option_and_key(void **state)
{
	static const char *const words[] = {"--cores",         "--seconds",  "--quick",
					    "--json",          "--table",    "round_trip",
					    "memcpy_handover", "samples_ns", "gb_per_s"};
	const char *argv[] = {"bench-limits", "--help", NULL};
	struct said *s = *state;

	run(limits(), argv, -1, s);
	assert_int_equal(s->code, 0);
	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		assert_non_null(strstr(s->out, words[i]));
}

static int setup(void **state)
{
	*state = malloc(sizeof(struct said));
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(topology_with_one_cpu_exits_3_with_both_the_same),
		cmocka_unit_test(limits_with_one_cpu_exits_0_with_a_note_and_nulls),
		cmocka_unit_test(limits_has_the_keys_that_the_report_reads),
		cmocka_unit_test(wrong_use_exits_2_and_names_the_option),
		cmocka_unit_test(a_cpu_that_is_not_there_or_a_file_that_cannot_be_written_exits_1),
		cmocka_unit_test(help_names_every_option_and_key),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
