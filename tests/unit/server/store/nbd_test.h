/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of the nbd store share: servers that are started, killed and started again. After cmocka.h. */
#ifndef VIO_TEST_SERVER_NBD_TEST_H
#define VIO_TEST_SERVER_NBD_TEST_H

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "be_rig.h"
#include "server/store/nbd.h"
#include "vio/cycles.h"

#define DISK (8u << 20)

struct server {
	char socket[100];
	pid_t pid; /* 0: none */
};

static inline void pause_ms(long ms)
{
	const struct timespec t = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&t, NULL);
}

static inline void stop(struct server *s)
{
	if (s->pid > 0) {
		kill(s->pid, SIGKILL);
		assert_int_equal(waitpid(s->pid, NULL, 0), s->pid);
	}
	s->pid = 0;
	unlink(s->socket);
}

/*
 * Does somebody listen there? Asked of the kernel: a connection would be a client too many to some
 * servers.
 */
static inline bool answers(const struct server *s)
{
	FILE *fp = fopen("/proc/net/unix", "re");
	char line[300], path[200];
	unsigned flags;
	bool yes = false;

	assert_non_null(fp);
	while (!yes && fgets(line, sizeof(line), fp))
		yes = sscanf(line, "%*s %*s %*s %x %*s %*s %*s %199s", &flags, path) == 2 &&
		      flags & 0x10000 && strcmp(path, s->socket) == 0; /* __SO_ACCEPTCON */
	fclose(fp);
	return yes;
}

static inline void spawn(struct server *s, char *const argv[])
{
	pid_t parent = getpid();

	s->pid = fork();
	assert_true(s->pid >= 0);
	if (s->pid > 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	execvp(argv[0], argv);
	fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

/* Start `argv`, which listens on a TCP port of the loopback. */
static inline void start_any(struct server *s, char *const argv[], uint16_t port)
{
	const struct sockaddr_in at = {.sin_family = AF_INET,
				       .sin_port = htons(port),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int up = -1;

	spawn(s, argv);
	for (unsigned i = 0; i < 1000 && up; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		up = connect(fd, (const struct sockaddr *)&at, sizeof(at));
		close(fd);
		if (up)
			pause_ms(10);
	}
	assert_int_equal(up, 0);
}

/* Start `argv`, which listens on s->socket; the test fails when it is not installed or doesn't come up. */
static inline void start(struct server *s, char *const argv[])
{
	int status;

	unlink(s->socket);
	spawn(s, argv);
	for (unsigned i = 0; i < 3000 && !answers(s); i++) {
		if (waitpid(s->pid, &status, WNOHANG) == s->pid) {
			s->pid = 0;
			fail_msg("%s ended with %x (is it installed?)", argv[0], (unsigned)status);
		}
		pause_ms(10);
	}
	assert_true(answers(s));
}

/* nbdkit with `args`, words with one space between. */
static inline void nbdkit(struct server *s, const char *args)
{
	char words[300], *argv[24] = {"nbdkit", "-f", "-U", s->socket}, *save;
	unsigned n = 4;

	snprintf(words, sizeof(words), "%s", args);
	for (char *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save))
		argv[n++] = w;
	argv[n] = NULL;
	start(s, argv);
}

static inline void setup(struct rig *g, struct server *s)
{
	rig_start(g);
	*s = (struct server){.pid = 0};
	snprintf(s->socket, sizeof(s->socket), "%s/nbd.sock", g->dir);
}

static inline void teardown(struct rig *g, struct server *s)
{
	rig_close(g);
	stop(s);
	rig_stop(g);
}

static inline void open_disk(struct rig *g, const struct server *s)
{
	rig_open(g, "nbd,uri=nbd+unix:///?socket=%s", s->socket);
}

static inline struct vio_nbd_queue *queue(struct rig *g)
{
	return vio_nbd_queue_of(g->bq);
}

/* Requests until one succeeds; a lost connection is tried again once a second. */
static inline int until_it_works(struct rig *g, enum vio_io_op io)
{
	uint64_t end = vio_now_ns() + 20 * 1000000000ull;
	int rc;

	while ((rc = rig_one(g, io, 0, io == VIO_IO_FLUSH ? 0 : 4096)) != 0 && vio_now_ns() < end)
		pause_ms(50);
	return rc;
}

static inline void make_image(const char *path)
{
	int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, DISK), 0);
	close(fd);
}

#endif
