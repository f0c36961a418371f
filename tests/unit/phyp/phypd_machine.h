/* SPDX-License-Identifier: BSD-3-Clause */
/* A phypd of the test's own, the server's partition in this process, guests in children. */
#ifndef VIO_TESTS_PHYPD_MACHINE_H
#define VIO_TESTS_PHYPD_MACHINE_H

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "child.h"
#include "vio/cycles.h"
#include "world.h"

#define PATIENCE_NS 30000000000ull

struct machine {
	char dir[64], sock[96], log[96];
	struct child phypd, guest;
	struct end s;
};

static const char *phypd_path;

static inline char *text_of(const char *path)
{
	static char buf[16384];
	int fd = open(path, O_RDONLY);
	ssize_t n = fd >= 0 ? read(fd, buf, sizeof(buf) - 1) : 0;

	buf[n > 0 ? n : 0] = 0;
	if (fd >= 0)
		close(fd);
	return buf;
}

/* Poll until cond is true; the test fails when it never is. */
#define UNTIL(cond)                                                                                \
	do {                                                                                       \
		uint64_t end_ = vio_now_ns() + PATIENCE_NS;                                        \
		while (!(cond)) {                                                                  \
			assert_true(vio_now_ns() < end_);                                          \
			usleep(2000);                                                              \
		}                                                                                  \
	} while (0)

static inline bool answers(const char *sock)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	bool ok;

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", sock);
	ok = connect(s, (struct sockaddr *)&sa, sizeof(sa)) == 0;
	close(s);
	return ok;
}

static inline void start_phypd(struct machine *m)
{
	char *argv[] = {(char *)(uintptr_t)phypd_path,
			(char *)(uintptr_t) "--socket",
			m->sock,
			(char *)(uintptr_t) "--pages",
			(char *)(uintptr_t) "4k",
			(char *)(uintptr_t) "--server-memory",
			(char *)(uintptr_t) "32",
			(char *)(uintptr_t) "--guest-memory",
			(char *)(uintptr_t) "32",
			(char *)(uintptr_t) "--guests",
			(char *)(uintptr_t) "2",
			(char *)(uintptr_t) "--all-statistics",
			NULL};

	m->phypd = child_start(argv, false, m->log);
	UNTIL(answers(m->sock));
}

static inline struct child start_guest(struct machine *m, const char *partition)
{
	char *argv[] = {(char *)(uintptr_t) "/proc/self/exe", (char *)(uintptr_t) "guest", m->sock,
			(char *)(uintptr_t)partition, NULL};

	return child_start(argv, true, m->log);
}

static inline void open_server(struct machine *m)
{
	struct vio_err err = {{0}};

	if (phyp_connect(m->sock, "vios", &m->s.part, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(phyp_vcpu_create(m->s.part, &m->s.v, &err), 0);
	m->s.u = phyp_unit(m->s.part, 0);
	crq_up(&m->s, 1);
	map_tces(&m->s, 2 * MIB, 2 * MIB, 4 * MIB, TCE_READ | TCE_WRITE);
	assert_int_equal(h_vio_signal(m->s.v, m->s.u->unit, VIO_SIGNAL_ON), H_SUCCESS);
}

static inline int up(void **state)
{
	struct machine *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	strcpy(m->dir, "/tmp/vio-phypd-XXXXXX");
	assert_non_null(mkdtemp(m->dir));
	snprintf(m->sock, sizeof(m->sock), "%s/sock", m->dir);
	snprintf(m->log, sizeof(m->log), "%s/log", m->dir);
	start_phypd(m);
	open_server(m);
	m->guest = start_guest(m, "guest0");
	*state = m;
	return 0;
}

static inline int down(void **state)
{
	struct machine *m = *state;

	if (m->guest.pid)
		child_kill(&m->guest, SIGKILL);
	end_close(&m->s);
	if (m->phypd.pid)
		assert_int_equal(child_kill(&m->phypd, SIGTERM), 0);
	assert_int_equal(access(m->sock, F_OK), -1); /* nothing left behind */
	unlink(m->log);
	assert_int_equal(rmdir(m->dir), 0);
	free(m);
	return 0;
}

#endif
