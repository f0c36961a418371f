/* SPDX-License-Identifier: BSD-3-Clause */
/* The sandbox: what it refuses, what it leaves, and who one is afterwards. Each case is a process of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/sandbox.h"

enum { PASSED = 42, NOT_REFUSED = 43, NOT_IN = 44, WRONG = 45 };

struct trial {
	const char *name;
	unsigned needs;
	int (*go)(void); /* PASSED, WRONG */
};

/* How a process that enters with `needs` and then does go() ends; its first line on standard error. */
static int run(unsigned needs, const char *user, int (*go)(void), char *line, size_t len)
{
	int p[2], status;
	pid_t pid;
	ssize_t n;

	assert_int_equal(pipe(p), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		const struct vio_sandbox s = {.on = true, .user = user};
		const struct rlimit none = {0, 0};
		struct vio_err err = {""};

		setrlimit(RLIMIT_CORE, &none);
		dup2(p[1], STDERR_FILENO);
		if (vio_sandbox_enter(&s, needs, &err)) {
			fprintf(stderr, "%s\n", err.msg);
			_exit(NOT_IN);
		}
		_exit(go());
	}
	close(p[1]);
	n = read(p[0], line, len - 1);
	line[n > 0 ? n : 0] = '\0';
	close(p[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int start_a_program(void)
{
	execl("/bin/true", "true", (char *)NULL);
	return NOT_REFUSED;
}

static int start_a_process(void)
{
	/* As a raw call: glibc would ask clone3() first, which is not there in here. */
	long pid = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

	if (pid == 0)
		_exit(0);
	return NOT_REFUSED;
}

static int trace_its_parent(void)
{
	ptrace(PTRACE_ATTACH, getppid(), NULL, NULL);
	return NOT_REFUSED;
}

static int read_its_parents_memory(void)
{
	char c;
	struct iovec to = {&c, 1}, from = {&c, 1};

	process_vm_readv(getpid(), &to, 1, &from, 1, 0);
	return NOT_REFUSED;
}

static int signal_its_parent(void)
{
	kill(getpid() + 1, 0);
	return NOT_REFUSED;
}

static int map_code(void)
{
	void *m = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return m == MAP_FAILED && errno == EACCES ? PASSED : NOT_REFUSED;
}

static int make_data_code(void)
{
	void *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mprotect(m, 4096, PROT_READ | PROT_EXEC) && errno == EACCES ? PASSED : NOT_REFUSED;
}

static int open_a_file(void)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0 ? NOT_REFUSED : WRONG;
}

static int make_a_socket(void)
{
	return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0 ? NOT_REFUSED : WRONG;
}

static int make_a_raw_socket(void)
{
	socket(AF_PACKET, SOCK_RAW, 0);
	return NOT_REFUSED;
}

static int talk_to_netlink(void)
{
	return socket(AF_NETLINK, SOCK_RAW, 0) >= 0 ? NOT_REFUSED : WRONG;
}

static int change_an_owner(void)
{
	return chown("/nowhere", 0, 0) ? NOT_REFUSED : WRONG;
}

static int change_a_mode(void)
{
	return chmod("/nowhere", 0) ? NOT_REFUSED : WRONG;
}

static int raise_a_limit(void)
{
	const struct rlimit r = {1, 1};

	setrlimit(RLIMIT_NOFILE, &r);
	return NOT_REFUSED;
}

static int become_root(void)
{
	return setuid(0) ? WRONG : NOT_REFUSED;
}

/* Every program's, whatever its needs: if one of these were let through, a program that is taken over could use it. */
static const struct trial never[] = {
	{"start a program", ~0u, start_a_program},
	{"start a process", ~0u, start_a_process},
	{"trace another", ~0u, trace_its_parent},
	{"read another's memory", ~0u, read_its_parents_memory},
	{"signal another", ~0u, signal_its_parent},
	{"make a raw socket", ~0u, make_a_raw_socket},
	{"change an owner", ~0u, change_an_owner},
	{"change a mode", ~0u, change_a_mode},
	{"raise a limit", ~0u, raise_a_limit},
	{"change who it is", ~0u, become_root},
};

static const struct trial by_need[] = {
	{"open a file", VIO_NEED_OPEN, open_a_file},
	{"make a socket", VIO_NEED_CONNECT, make_a_socket},
	{"talk to netlink", VIO_NEED_CONNECT, talk_to_netlink},
	{"talk to netlink", VIO_NEED_NET, talk_to_netlink},
};

static void what_no_program_needs_ends_it_and_says_which_call(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
		char line[400];
		int rc = run(never[i].needs, NULL, never[i].go, line, sizeof(line));

		if (rc != -SIGSYS || !strstr(line, ": system call ") ||
		    !strstr(line, "--sandbox off"))
			fail_msg("%s: ended with %d and said \"%s\"", never[i].name, rc, line);
	}
}

static void a_need_is_allowed_to_who_named_it_and_to_nobody_else(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(by_need) / sizeof(by_need[0]); i++) {
		char line[400];

		assert_int_equal(run(by_need[i].needs, NULL, by_need[i].go, line, sizeof(line)),
				 NOT_REFUSED);
		assert_int_equal(run(0, NULL, by_need[i].go, line, sizeof(line)), -SIGSYS);
	}
}

/* A module of glibc's for names, say: the look-up goes on without it. */
static void memory_that_can_be_run_is_refused_and_does_not_end_the_program(void **state)
{
	char line[400];

	(void)state;
	assert_int_equal(run(~0u, NULL, map_code, line, sizeof(line)), PASSED);
	assert_int_equal(run(~0u, NULL, make_data_code, line, sizeof(line)), PASSED);
}

static void *a_thread(void *arg)
{
	return arg;
}

static int works_on(void)
{
	pthread_t t;
	void *m = malloc(16 << 20), *ret = NULL;
	char buf[64];

	if (!m || pthread_create(&t, NULL, a_thread, m) || pthread_join(t, &ret) || ret != m)
		return WRONG;
	memset(m, 1, 16 << 20);
	free(m);
	prctl(PR_SET_NAME, "inside");
	snprintf(buf, sizeof(buf), "%d\n", getpid());
	return write(STDERR_FILENO, buf, strlen(buf)) > 0 ? PASSED : WRONG;
}

static void a_program_without_needs_still_has_memory_threads_and_what_is_open(void **state)
{
	char line[400];

	(void)state;
	assert_int_equal(run(0, NULL, works_on, line, sizeof(line)), PASSED);
}

/* As DPDK's thread of interrupts does, by the older call, whenever a port comes. */
static int makes_an_epoll_anew(void)
{
	return epoll_create(1) >= 0 ? PASSED : WRONG;
}

static void a_library_that_makes_its_epoll_anew_by_the_older_call_is_not_ended(void **state)
{
	char line[400];

	(void)state;
	assert_int_equal(run(0, NULL, makes_an_epoll_anew, line, sizeof(line)), PASSED);
}

static int ends_by_abort(void)
{
	abort();
}

static void an_abort_is_still_an_abort(void **state)
{
	char line[400];

	(void)state;
	assert_int_equal(run(0, NULL, ends_by_abort, line, sizeof(line)), -SIGABRT);
}

static int go_fd[2];

static void *opens_when_told(void *arg)
{
	char c;

	(void)arg;
	if (read(go_fd[0], &c, 1) == 1 && open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0)
		_exit(NOT_REFUSED);
	return NULL;
}

static void a_thread_that_was_there_before_is_in_it_too(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		const struct vio_sandbox s = {.on = true};
		const struct rlimit none = {0, 0};
		pthread_t t;

		setrlimit(RLIMIT_CORE, &none);
		if (pipe(go_fd) || pthread_create(&t, NULL, opens_when_told, NULL) ||
		    vio_sandbox_enter(&s, 0, NULL) || write(go_fd[1], "g", 1) != 1)
			_exit(WRONG);
		pthread_join(t, NULL);
		_exit(WRONG);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
}

static int is_nobody(void)
{
	const struct passwd *p = getpwnam("nobody");

	return p && getuid() == p->pw_uid && geteuid() == p->pw_uid && getgid() == p->pw_gid &&
			       open("/etc/shadow", O_RDONLY | O_CLOEXEC) < 0
		       ? PASSED
		       : WRONG;
}

static void root_becomes_the_user_that_was_named(void **state)
{
	char line[400];

	(void)state;
	if (geteuid() != 0)
		skip(); /* only root can */
	assert_int_equal(
		run(VIO_NEED_OPEN | VIO_NEED_CONNECT, "nobody", is_nobody, line, sizeof(line)),
		PASSED);
}

static void a_user_that_is_not_there_is_an_error_with_its_name(void **state)
{
	char line[400];

	(void)state;
	assert_int_equal(run(0, "no-such-user", works_on, line, sizeof(line)), NOT_IN);
	assert_non_null(strstr(line, "--user no-such-user: there is no such user"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_no_program_needs_ends_it_and_says_which_call),
		cmocka_unit_test(a_need_is_allowed_to_who_named_it_and_to_nobody_else),
		cmocka_unit_test(memory_that_can_be_run_is_refused_and_does_not_end_the_program),
		cmocka_unit_test(a_program_without_needs_still_has_memory_threads_and_what_is_open),
		cmocka_unit_test(
			a_library_that_makes_its_epoll_anew_by_the_older_call_is_not_ended),
		cmocka_unit_test(an_abort_is_still_an_abort),
		cmocka_unit_test(a_thread_that_was_there_before_is_in_it_too),
		cmocka_unit_test(root_becomes_the_user_that_was_named),
		cmocka_unit_test(a_user_that_is_not_there_is_an_error_with_its_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
