/* SPDX-License-Identifier: BSD-3-Clause */
/* phypd's front door: who may come in, when, and what is said of wrong use. */
#include "tests/unit/phyp/phypd_machine.h"

static void silent_connections_do_not_keep_a_partition_out(void **state)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct machine *m = *state;
	int s[80];

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", m->sock);
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(s); i++) {
		s[i] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(s[i], (struct sockaddr *)&sa, sizeof(sa)), 0);
	}
	assert_int_equal(child_ask(&m->guest, 'c'), H_SUCCESS);
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(s); i++)
		close(s[i]);
}

static void busy_and_unknown_partitions_are_refused_by_name(void **state)
{
	struct machine *m = *state;
	struct phyp_part *part;
	struct vio_err err = {{0}};

	assert_int_equal(phyp_connect(m->sock, "vios", &part, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "vios"));
	assert_non_null(strstr(err.msg, "pid"));
	assert_int_equal(phyp_connect(m->sock, "lpar99", &part, &err), -ESRCH);
	assert_non_null(strstr(err.msg, "lpar99"));
	assert_non_null(strstr(err.msg, "vios, guest0, guest1"));
	assert_int_equal(phyp_connect("/nonexistent/vio.sock", "vios", &part, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "/nonexistent/vio.sock"));
	assert_int_equal(phyp_connect("", "vios", &part, &err), -ENAMETOOLONG);
	assert_int_equal(child_ask(&m->guest, 'c'), H_SUCCESS);
}

struct early {
	pthread_t t;
	const char *sock;
	struct phyp_part *part;
	struct vio_err err;
	int rc;
};

static void *connect_early(void *arg)
{
	struct early *e = arg;

	e->rc = phyp_connect(e->sock, "guest1", &e->part, &e->err);
	return NULL;
}

static void a_partition_that_is_started_before_phypd_listens_waits_for_it(void **state)
{
	struct machine *m = *state;
	struct early e = {.sock = m->sock};

	child_kill(&m->phypd, SIGKILL);
	end_close(&m->s);
	assert_int_equal(pthread_create(&e.t, NULL, connect_early, &e), 0);
	usleep(100000);
	start_phypd(m);
	pthread_join(e.t, NULL);
	if (e.rc)
		fail_msg("%s", e.err.msg);
	phyp_close(e.part);
	open_server(m);
}

/* Run phypd with one wrong thing: exit code 2, and its words. */
static void refused(const char *log, const char *word, const char *a, const char *b, const char *c,
		    const char *d)
{
	char *argv[] = {(char *)(uintptr_t)phypd_path, (char *)(uintptr_t)a, (char *)(uintptr_t)b,
			(char *)(uintptr_t)c,          (char *)(uintptr_t)d, NULL};
	struct child p;

	unlink(log);
	p = child_start(argv, false, log);
	assert_int_equal(child_wait(&p), 2);
	if (!strstr(text_of(log), word))
		fail_msg("no '%s' in: %s", word, text_of(log));
	assert_non_null(strstr(text_of(log), "phypd: "));
}

static void wrong_use_of_phypd_is_refused_with_a_sentence_and_exit_code_2(void **state)
{
	struct machine *m = *state;
	char log[128], file[128];

	snprintf(log, sizeof(log), "%s/log2", m->dir);
	snprintf(file, sizeof(file), "%s/file", m->dir);
	refused(log, m->sock, "--socket", m->sock, NULL, NULL);
	refused(log, "--nonsense", "--nonsense", NULL, NULL, NULL);
	refused(log, "wants a value", "--socket", NULL, NULL, NULL);
	refused(log, "extra", "extra", NULL, NULL, NULL);
	refused(log, "1 to 15", "--guests", "16", NULL, NULL);
	refused(log, "multiple of 16", "--server-memory", "17", NULL, NULL);
	refused(log, "auto, 4k or 2m", "--pages", "1g", NULL, NULL);
	refused(log, "hcall=NS", "--cost", "cheap", NULL, NULL);
	refused(log, "/nonexistent/x", "--socket", "/nonexistent/x", NULL, NULL);
	refused(log, "/nonexistent.json", "--profile", "/nonexistent.json", NULL, NULL);
	refused(log, "already says", "--profile", "x", "--guests", "2");
	refused(log, "is not a socket", "--socket", log, NULL, NULL);
	assert_int_equal(access(file, F_OK), -1);
	unlink(log);
	unlink(file);
	assert_int_equal(child_ask(&m->guest, 'c'),
			 H_SUCCESS); /* the one that runs was not disturbed */
}

static void profile(const struct machine *m, const char *json, const char *word)
{
	char log[128], file[128], sock[128];
	FILE *f;

	snprintf(log, sizeof(log), "%s/log2", m->dir);
	snprintf(file, sizeof(file), "%s/file", m->dir);
	snprintf(sock, sizeof(sock), "%s/sock2", m->dir);
	f = fopen(file, "w");
	assert_non_null(f);
	fputs(json, f);
	fclose(f);
	refused(log, word, "--socket", sock, "--profile", file);
	assert_int_equal(access(sock, F_OK), -1);
	unlink(log);
	unlink(file);
}

static void a_bad_profile_is_refused_with_file_and_field(void **state)
{
	struct machine *m = *state;

	profile(m, "", "line 1");
	profile(m, "[]", "object");
	profile(m, "{}", "partitions");
	profile(m, "{\"partitions\": [], \"x\": 1}", "x: unknown key");
	profile(m, "{\"partitions\": []}", "partitions: must be");
	profile(m, "{\"partitions\": [{\"name\": \"a\"}]}", "partitions[0].memory_mib: is missing");
	profile(m, "{\"partitions\": [{\"name\": \"a\", \"memory_mib\": -1}]}",
		"partitions[0].memory_mib: must be");
	profile(m, "{\"partitions\": [{\"name\": \"a\", \"memory_mib\": 16, \"size\": 1}]}",
		"partitions[0].size: unknown");
	profile(m, "{\"partitions\": [{\"name\": \"a\", \"memory_mib\": 16, \"pages\": \"1g\"}]}",
		"partitions[0].pages");
	profile(m, "{\"partitions\": [{\"memory_mib\": 16}]}", "partitions[0].name");
	profile(m, "{\"partitions\": [{\"name\": \"a\", \"memory_mib\": 16, \"uid\": -1}]}",
		"partitions[0].uid");
	profile(m, "{\"partitions\": [3]}", "partitions[0]");
	profile(m,
		"{\"partitions\": [{\"name\": \"a\", \"memory_mib\": 16}], \"adapters\": [{\"server\": \"a\", \"client\": \"b\"}]}",
		"no partition b");
	profile(m, "{\"cost\": \"dear\", \"partitions\": [{\"name\": \"a\", \"memory_mib\": 16}]}",
		"cost");
	profile(m, "{\"exposure\": 1, \"partitions\": [{\"name\": \"a\", \"memory_mib\": 16}]}",
		"exposure");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(silent_connections_do_not_keep_a_partition_out, up,
						down),
		cmocka_unit_test_setup_teardown(busy_and_unknown_partitions_are_refused_by_name, up,
						down),
		cmocka_unit_test_setup_teardown(
			a_partition_that_is_started_before_phypd_listens_waits_for_it, up, down),
		cmocka_unit_test_setup_teardown(
			wrong_use_of_phypd_is_refused_with_a_sentence_and_exit_code_2, up, down),
		cmocka_unit_test_setup_teardown(a_bad_profile_is_refused_with_file_and_field, up,
						down),
	};
	int rc = child_begin(argc, argv, &phypd_path);

	return rc < 0 ? cmocka_run_group_tests(tests, NULL, NULL) : rc;
}
