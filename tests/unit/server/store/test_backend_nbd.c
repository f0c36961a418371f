/* SPDX-License-Identifier: BSD-3-Clause */
/* The nbd backend against real servers: nbdkit and qemu-nbd on a UNIX socket. */
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "be_rig.h"
#include "server/store/nbd.h"
#include "vio/cycles.h"

#define DISK (8u << 20)

struct server {
	char socket[100];
	pid_t pid; /* 0: none */
};

static void pause_ms(long ms)
{
	const struct timespec t = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&t, NULL);
}

static void stop(struct server *s)
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
static bool answers(const struct server *s)
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

static void spawn(struct server *s, char *const argv[])
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

/* Start `argv`, which listens on TCP port 10919. */
static void start_any(struct server *s, char *const argv[])
{
	const struct sockaddr_in at = {.sin_family = AF_INET,
				       .sin_port = htons(10919),
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
static void start(struct server *s, char *const argv[])
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
static void nbdkit(struct server *s, const char *args)
{
	char words[300], *argv[24] = {"nbdkit", "-f", "-U", s->socket}, *save;
	unsigned n = 4;

	snprintf(words, sizeof(words), "%s", args);
	for (char *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save))
		argv[n++] = w;
	argv[n] = NULL;
	start(s, argv);
}

static void setup(struct rig *g, struct server *s)
{
	rig_start(g);
	*s = (struct server){.pid = 0};
	snprintf(s->socket, sizeof(s->socket), "%s/nbd.sock", g->dir);
}

static void teardown(struct rig *g, struct server *s)
{
	rig_close(g);
	stop(s);
	rig_stop(g);
}

static void open_disk(struct rig *g, const struct server *s)
{
	rig_open(g, "nbd,uri=nbd+unix:///?socket=%s", s->socket);
}

static struct vio_nbd_queue *queue(struct rig *g)
{
	return vio_nbd_queue_of(g->bq);
}

/* Requests until one succeeds; a lost connection is tried again once a second. */
static int until_it_works(struct rig *g, enum vio_io_op io)
{
	uint64_t end = vio_now_ns() + 20 * 1000000000ull;
	int rc;

	while ((rc = rig_one(g, io, 0, io == VIO_IO_FLUSH ? 0 : 4096)) != 0 && vio_now_ns() < end)
		pause_ms(50);
	return rc;
}

static void make_image(const char *path)
{
	int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, DISK), 0);
	close(fd);
}

static void nbdkit_equals_a_shadow(void **state)
{
	const struct rig_mix mix = {1500, 8, 1, 1, 131072, true};
	struct rig g;
	struct server s;

	(void)state;
	setup(&g, &s);
	nbdkit(&s, "memory 8M");
	open_disk(&g, &s);
	assert_true(g.be->size == DISK);
	assert_int_equal(g.be->block_size, 512);
	assert_true(g.be->can_flush && g.be->can_discard && g.be->can_zero && g.be->touches_data);
	assert_false(g.be->read_only);
	rig_shadow(&g, &mix);
	assert_int_equal(queue(&g)->n_free, RIG_DEPTH);
	teardown(&g, &s);
}

/* Without the way of several replies a read, and with limits on block and payload: pieces and buffers. */
static void a_server_with_limits_equals_a_shadow(void **state)
{
	const struct rig_mix mix = {600, 8, 1, 1, 262144, true};
	struct rig g;
	struct server s;

	(void)state;
	setup(&g, &s);
	nbdkit(&s,
	       "--filter=blocksize-policy memory 8M blocksize-minimum=4096 blocksize-preferred=4096 blocksize-maximum=64K blocksize-error-policy=error");
	open_disk(&g, &s);
	assert_int_equal(g.be->block_size, 4096);
	assert_int_equal(queue(&g)->n->max_payload, 65536);
	rig_shadow(&g, &mix);
	assert_int_equal(queue(&g)->buffers.n_free, VIO_BE_BUFFERS);
	teardown(&g, &s);
}

static void qemu_nbd_equals_a_shadow(void **state)
{
	const struct rig_mix mix = {1000, 8, 1, 1, 131072, true};
	char path[100], *argv[] = {"qemu-nbd", "-t", "-f", "raw", "--discard=unmap", "-e", "4",
				   "-k",       NULL, path, NULL};
	struct rig g;
	struct server s;

	(void)state;
	setup(&g, &s);
	snprintf(path, sizeof(path), "%s/disk.img", g.dir);
	make_image(path);
	argv[8] = s.socket;
	start(&s, argv);
	open_disk(&g, &s);
	rig_shadow(&g, &mix);
	unlink(path);
	teardown(&g, &s);
}

static void a_range_longer_than_nbd_can_say_is_cut(void **state)
{
	struct rig g;
	struct server s;

	(void)state;
	setup(&g, &s);
	nbdkit(&s, "memory 6G");
	open_disk(&g, &s);
	memset(g.mem, 0x33, 8192);
	assert_int_equal(rig_one(&g, VIO_IO_WRITE, 0, 8192), 0);
	assert_int_equal(rig_one(&g, VIO_IO_WRITE, 5ull << 30, 8192), 0);
	assert_int_equal(rig_one(&g, VIO_IO_ZERO, 4096, 5ull << 30), 0);
	assert_int_equal(rig_one(&g, VIO_IO_READ, 0, 8192), 0);
	assert_true(g.mem[4095] == 0x33 && g.mem[4096] == 0);
	assert_int_equal(rig_one(&g, VIO_IO_READ, 5ull << 30, 8192), 0);
	assert_true(g.mem[4095] == 0 && g.mem[4096] == 0x33);
	assert_int_equal(rig_one(&g, VIO_IO_DISCARD, 0, 6ull << 30), 0);
	assert_int_equal(rig_one(&g, VIO_IO_READ, 5ull << 30, 8192), 0);
	assert_int_equal(g.mem[4096], 0);
	assert_int_equal(queue(&g)->n_free, RIG_DEPTH);
	assert_int_equal(queue(&g)->n_long, 0);
	teardown(&g, &s);
}

/* How many lines of the file have both. */
static unsigned lines_with(const char *path, const char *a, const char *b)
{
	FILE *f = fopen(path, "re");
	char line[512];
	unsigned n = 0;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, a) && strstr(line, b);
	fclose(f);
	return n;
}

static void a_zero_that_must_keep_its_space_says_so_to_the_server(void **state)
{
	struct rig g;
	struct server s;
	char args[200], path[100];

	(void)state;
	setup(&g, &s);
	snprintf(path, sizeof(path), "%s/log", g.dir);
	snprintf(args, sizeof(args), "--filter=log memory 1M logfile=%s", path);
	nbdkit(&s, args);
	open_disk(&g, &s);
	assert_true(g.be->can_unmap);
	for (unsigned i = 0; i < 3; i++) {
		struct vio_io *r = rig_req(&g, 0, VIO_IO_ZERO, 4096 * i, 4096, 0);

		r->unmap = i == 2;
		rig_run(&g, &r, 1);
		assert_int_equal(r->result, 0);
	}
	rig_close(&g);
	stop(&s);
	assert_int_equal(lines_with(path, " Zero ", "trim=0"), 2);
	assert_int_equal(lines_with(path, " Zero ", "trim=1"), 1);
	unlink(path);
	teardown(&g, &s);
}

static void a_server_that_cannot_zero_trim_or_write_is_not_asked_to(void **state)
{
	struct rig g;
	struct server s;
	char path[100], args[200];

	(void)state;
	setup(&g, &s);
	nbdkit(&s, "-r memory 1M");
	open_disk(&g, &s);
	assert_true(g.be->read_only);
	assert_false(g.be->can_discard || g.be->can_zero);
	assert_non_null(strstr(g.be->what, "read-only"));
	assert_int_equal(rig_one(&g, VIO_IO_READ, 0, 4096), 0);
	assert_int_equal(rig_one(&g, VIO_IO_WRITE, 0, 4096), -EIO);
	assert_int_equal(rig_one(&g, VIO_IO_READ, 4096, 4096),
			 0); /* a refused command is no lost connection */
	rig_close(&g);
	stop(&s);
	nbdkit(&s, "--filter=nozero memory 1M zeromode=none");
	open_disk(&g, &s);
	assert_true(g.be->can_discard && !g.be->can_zero);
	rig_close(&g);
	stop(&s);
	snprintf(path, sizeof(path), "%s/disk.img", g.dir);
	make_image(path);
	snprintf(args, sizeof(args), "split %s", path);
	nbdkit(&s, args);
	open_disk(&g, &s);
	assert_true(!g.be->can_discard && !g.be->read_only);
	assert_int_equal(rig_one(&g, VIO_IO_WRITE, 0, 4096), 0);
	unlink(path);
	teardown(&g, &s);
}

static void an_error_of_the_server_fails_that_request_only(void **state)
{
	struct rig g;
	struct server s;
	char args[200];

	(void)state;
	setup(&g, &s);
	snprintf(
		args, sizeof(args),
		"--filter=error memory 1M error-pread=EIO error-pread-rate=100%% error-pread-file=%s/fail",
		g.dir);
	nbdkit(&s, args);
	open_disk(&g, &s);
	assert_int_equal(rig_one(&g, VIO_IO_READ, 0, 4096), 0);
	snprintf(args, sizeof(args), "%s/fail", g.dir);
	close(open(args, O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
	assert_int_equal(rig_one(&g, VIO_IO_READ, 0, 4096), -EIO);
	assert_int_equal(rig_one(&g, VIO_IO_WRITE, 0, 4096), 0);
	unlink(args);
	assert_int_equal(rig_one(&g, VIO_IO_READ, 0, 4096), 0);
	assert_int_equal(rig_one(&g, VIO_IO_READ, 0, VIO_MAX_DATA + 512), -EIO);
	assert_int_equal(queue(&g)->state, VIO_NBD_UP);
	teardown(&g, &s);
}

static void no_server_is_said_in_words(void **state)
{
	struct rig g;
	struct server s;
	char spec[200];

	(void)state;
	setup(&g, &s);
	snprintf(spec, sizeof(spec), "nbd,uri=nbd+unix:///?socket=%s", s.socket);
	rig_refused(spec, 0, "cannot connect to nbd+unix://");
	rig_refused(spec, 0, "No such file");
	rig_refused("nbd,uri=hello", 0, "cannot connect to hello");
	rig_refused("nbd,uri=http://localhost/", 0, "cannot connect to http://");
	nbdkit(&s, "memory 100");
	rig_refused(spec, -EINVAL, "100 bytes, too small");
	teardown(&g, &s);
}

/* vios offers no more queues than this: an offer that DRIVER_OK would refuse is none. */
static void a_server_of_one_connection_is_a_disk_of_one_queue(void **state)
{
	char path[100], *argv[] = {"qemu-nbd", "-t", "-f", "raw", "-k", NULL, path, NULL};
	struct rig g;
	struct server s;

	(void)state;
	setup(&g, &s);
	snprintf(path, sizeof(path), "%s/disk.img", g.dir);
	make_image(path);
	argv[5] = s.socket;
	start(&s, argv);
	open_disk(&g, &s);
	assert_int_equal(g.be->max_queues, 1);
	rig_close(&g);
	stop(&s);
	nbdkit(&s, "memory 1M");
	open_disk(&g, &s);
	assert_int_equal(g.be->max_queues, 0);
	unlink(path);
	teardown(&g, &s);
}

static void several_queues_need_a_server_that_allows_it(void **state)
{
	char path[100], *argv[] = {"qemu-nbd", "-t", "-f", "raw", "-k", NULL, path, NULL};
	struct vio_backend_queue *first, *second = NULL;
	struct vio_err err = {""};
	struct rig g;
	struct server s;

	(void)state;
	setup(&g, &s);
	nbdkit(&s, "memory 1M");
	open_disk(&g, &s);
	first = g.bq;
	assert_int_equal(g.be->max_queues, 0);
	assert_int_equal(g.be->ops->queue_open(g.be, RIG_DEPTH, &second, &err), 0);
	memset(g.mem, 0x44, 4096);
	assert_int_equal(rig_one(&g, VIO_IO_WRITE, 0, 4096), 0);
	g.bq = second;
	memset(g.mem, 0, 4096);
	assert_int_equal(rig_one(&g, VIO_IO_READ, 0, 4096), 0);
	assert_int_equal(g.mem[4095], 0x44);
	g.be->ops->queue_close(second);
	g.bq = first;
	rig_close(&g);
	stop(&s);
	/* One client at a time: a second queue is refused, one queue after another is not. */
	snprintf(path, sizeof(path), "%s/disk.img", g.dir);
	make_image(path);
	argv[5] = s.socket;
	start(&s, argv);
	open_disk(&g, &s);
	assert_non_null(strstr(g.be->what, "one queue only"));
	assert_int_equal(g.be->max_queues, 1); /* what a guest is offered */
	assert_int_equal(g.be->ops->queue_open(g.be, RIG_DEPTH, &second, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.msg, "use one queue"));
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(rig_one(&g, VIO_IO_READ, 0, 4096), 0);
		g.be->ops->queue_close(g.bq);
		assert_int_equal(g.be->ops->queue_open(g.be, RIG_DEPTH, &g.bq, &err), 0);
	}
	unlink(path);
	teardown(&g, &s);
}

static void requests_of_a_server_that_dies_fail_and_do_not_hang(void **state)
{
	struct rig g;
	struct server s;
	struct vio_io *r[RIG_DEPTH], *done[RIG_DEPTH];
	unsigned got;

	(void)state;
	setup(&g, &s);
	nbdkit(&s, "--filter=delay memory 8M rdelay=30 wdelay=30 delay-trim=30 delay-zero=30");
	open_disk(&g, &s);
	for (unsigned i = 0; i < RIG_DEPTH; i++)
		r[i] = rig_req(&g, i,
			       i % 4 < 2    ? (enum vio_io_op)(i % 2)
			       : i % 4 == 2 ? VIO_IO_DISCARD
					    : VIO_IO_ZERO,
			       i * 65536, 65536, 0);
	got = g.be->ops->submit(g.bq, r, RIG_DEPTH, done);
	assert_int_equal(got, 0);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(g.be->ops->poll(g.bq, done, RIG_DEPTH), 0);
	stop(&s);
	while (got < RIG_DEPTH)
		got += g.be->ops->poll(g.bq, done, RIG_DEPTH - got);
	for (unsigned i = 0; i < RIG_DEPTH; i++)
		assert_int_equal(r[i]->result, -EIO);
	assert_int_equal(queue(&g)->state, VIO_NBD_DOWN);
	/* Nobody there: an answer at once, again and again. */
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(
			rig_one(&g, (enum vio_io_op)(i % 3), 0, i % 3 == VIO_IO_FLUSH ? 0 : 4096),
			-EIO);
	assert_int_equal(queue(&g)->n_free, RIG_DEPTH);
	teardown(&g, &s);
}

static void a_server_that_comes_back_is_used_again(void **state)
{
	struct rig g;
	struct server s;

	(void)state;
	setup(&g, &s);
	nbdkit(&s, "memory 8M");
	open_disk(&g, &s);
	assert_int_equal(rig_one(&g, VIO_IO_READ, 0, 4096), 0);
	stop(&s);
	assert_int_equal(rig_one(&g, VIO_IO_READ, 0, 4096), -EIO);
	nbdkit(&s, "memory 8M");
	assert_int_equal(until_it_works(&g, VIO_IO_READ), 0);
	assert_int_equal(queue(&g)->state, VIO_NBD_UP);
	teardown(&g, &s);
}

static void a_server_restarted_while_idle_fails_nothing(void **state)
{
	struct rig g;
	struct server s;

	(void)state;
	setup(&g, &s);
	nbdkit(&s, "memory 8M");
	open_disk(&g, &s);
	assert_int_equal(rig_one(&g, VIO_IO_READ, 0, 4096), 0);
	stop(&s);
	nbdkit(&s, "memory 8M");
	pause_ms(200); /* longer than what counts as idle */
	assert_int_equal(rig_one(&g, VIO_IO_READ, 0, 4096), 0);
	assert_int_equal(rig_one(&g, VIO_IO_FLUSH, 0, 0), 0);
	teardown(&g, &s);
}

static void a_flush_fails_once_when_acknowledged_writes_went_with_the_server(void **state)
{
	struct vio_err err = {""};
	struct rig g;
	struct server s;

	(void)state;
	setup(&g, &s);
	nbdkit(&s, "memory 8M");
	open_disk(&g, &s);
	assert_int_equal(rig_one(&g, VIO_IO_WRITE, 0, 4096), 0);
	stop(&s);
	nbdkit(&s, "memory 8M");
	assert_int_equal(until_it_works(&g, VIO_IO_READ), 0);
	assert_int_equal(rig_one(&g, VIO_IO_FLUSH, 0, 0), -EIO);
	assert_int_equal(rig_one(&g, VIO_IO_FLUSH, 0, 0), 0);
	/* What was flushed is the server's to keep. */
	assert_int_equal(rig_one(&g, VIO_IO_WRITE, 0, 4096), 0);
	assert_int_equal(rig_one(&g, VIO_IO_FLUSH, 0, 0), 0);
	stop(&s);
	nbdkit(&s, "memory 8M");
	assert_int_equal(until_it_works(&g, VIO_IO_READ), 0);
	assert_int_equal(rig_one(&g, VIO_IO_FLUSH, 0, 0), 0);
	/* And when the connection was no queue's: its guest was reset meanwhile. */
	assert_int_equal(rig_one(&g, VIO_IO_WRITE, 0, 4096), 0);
	g.be->ops->queue_close(g.bq);
	stop(&s);
	nbdkit(&s, "memory 8M");
	assert_int_equal(g.be->ops->queue_open(g.be, 64, &g.bq, &err), 0);
	assert_int_equal(rig_one(&g, VIO_IO_FLUSH, 0, 0), -EIO);
	assert_int_equal(rig_one(&g, VIO_IO_FLUSH, 0, 0), 0);
	teardown(&g, &s);
}

static void another_disk_behind_the_same_socket_is_not_used(void **state)
{
	struct vio_err err = {""};
	struct rig g;
	struct server s;

	(void)state;
	setup(&g, &s);
	nbdkit(&s, "memory 8M");
	open_disk(&g, &s);
	assert_int_equal(rig_one(&g, VIO_IO_READ, 0, 4096), 0);
	stop(&s);
	nbdkit(&s, "memory 4M");
	for (unsigned i = 0; i < 30; i++) { /* more than one try to connect */
		assert_int_equal(rig_one(&g, VIO_IO_READ, 0, 4096), -EIO);
		pause_ms(50);
	}
	g.be->ops->queue_close(g.bq);
	assert_int_equal(g.be->ops->queue_open(g.be, RIG_DEPTH, &g.bq, &err), -ENODEV);
	assert_non_null(strstr(err.msg, "another disk"));
	stop(&s);
	nbdkit(&s, "memory 8M");
	assert_int_equal(g.be->ops->queue_open(g.be, RIG_DEPTH, &g.bq, &err), 0);
	assert_int_equal(rig_one(&g, VIO_IO_READ, 0, 4096), 0);
	teardown(&g, &s);
}

static void a_server_that_never_answers_is_given_up(void **state)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct rig g;
	struct server s;
	char spec[200];
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	setup(&g, &s);
	memcpy(a.sun_path, s.socket, strlen(s.socket) + 1);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 5), 0);
	snprintf(spec, sizeof(spec), "nbd,uri=nbd+unix:///?socket=%s", s.socket);
	rig_refused(spec, -ETIMEDOUT, "no answer");
	close(fd);
	teardown(&g, &s);
}

/* A server whose first write to offset 0 waits for the file DIR/go, and then makes DIR/landed. */
static void slow_server(struct rig *g, struct server *s, bool tcp)
{
	char path[100], args[200];
	FILE *fp;

	snprintf(path, sizeof(path), "%s/disk.img", g->dir);
	make_image(path);
	snprintf(path, sizeof(path), "%s/slow.sh", g->dir);
	fp = fopen(path, "we");
	assert_non_null(fp);
	fprintf(fp,
		"#!/bin/sh\nd=%s\ncase $1 in\n"
		"get_size) echo %u ;; can_write|can_flush|can_multi_conn|flush) ;;\n"
		"thread_model) echo parallel ;;\n"
		"pread) dd if=$d/disk.img iflag=skip_bytes,count_bytes skip=$4 count=$3 2>/dev/null ;;\n"
		"pwrite) slow=; if [ $4 = 0 ] && mkdir $d/first 2>/dev/null; then slow=1;\n"
		"  while [ ! -e $d/go ] && [ -d $d ]; do sleep 0.02; done; fi\n"
		"  dd of=$d/disk.img oflag=seek_bytes conv=notrunc seek=$4 2>/dev/null\n"
		"  if [ $slow ]; then : > $d/landed; fi ;;\n"
		"*) exit 2 ;; esac\n",
		g->dir, DISK);
	fclose(fp);
	assert_int_equal(chmod(path, 0755), 0);
	snprintf(args, sizeof(args), "sh %s", path);
	if (tcp) {
		char *argv[] = {"nbdkit", "-f", "-i", "127.0.0.1", "-p", "10919", "sh", path, NULL};

		start_any(s, argv);
	} else {
		nbdkit(s, args);
	}
}

static void unlink_in(const struct rig *g, const char *name)
{
	char path[120];

	snprintf(path, sizeof(path), "%s/%s", g->dir, name);
	if (unlink(path))
		rmdir(path);
}

static void slow_server_gone(struct rig *g, struct server *s)
{
	static const char *const names[] = {"disk.img", "slow.sh", "go", "first", "landed"};

	rig_close(g);
	stop(s);
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(names); i++)
		unlink_in(g, names[i]);
	rig_stop(g);
}

static bool exists(const struct rig *g, const char *name)
{
	char path[120];

	snprintf(path, sizeof(path), "%s/%s", g->dir, name);
	return access(path, F_OK) == 0;
}

static void wait_for(const struct rig *g, const char *name)
{
	for (unsigned i = 0; i < 2000 && !exists(g, name); i++)
		pause_ms(10);
	assert_true(exists(g, name));
}

static void *let_it_go(void *arg)
{
	const struct rig *g = arg;
	char path[120];

	pause_ms(500);
	snprintf(path, sizeof(path), "%s/go", g->dir);
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
	return NULL;
}

/* The write of a server (of ours) that is no more; its connection has ended, the request has not. */
static void leave_a_write_behind(struct rig *g)
{
	struct vio_io *r = rig_req(g, 0, VIO_IO_WRITE, 0, 4096, 0), *done[RIG_DEPTH];

	memset(rig_piece(g, 0), 'o', 4096);
	assert_int_equal(g->be->ops->submit(g->bq, &r, 1, done), 0);
	while (!exists(g, "first"))
		g->be->ops->poll(g->bq, done, RIG_DEPTH);
	vio_nbd_abandon(queue(g));
	queue(g)->state = VIO_NBD_DOWN;
	assert_int_equal(g->be->ops->poll(g->bq, done, RIG_DEPTH), 1);
	assert_int_equal(r->result, -EIO);
}

static void write_anew_and_look(struct rig *g)
{
	memset(g->mem, 'n', 4096);
	assert_int_equal(until_it_works(g, VIO_IO_WRITE), 0);
	until_it_works(g, VIO_IO_FLUSH);
	wait_for(g, "landed");
	memset(g->mem, 0, 4096);
	assert_int_equal(rig_one(g, VIO_IO_READ, 0, 4096), 0);
	assert_int_equal(g->mem[0], 'n');
	assert_int_equal(g->mem[4095], 'n');
}

static void a_write_of_a_dead_server_does_not_land_over_a_later_one(void **state)
{
	struct rig g, old;
	struct server s;
	pthread_t t;

	(void)state;
	setup(&g, &s);
	slow_server(&g, &s, false);
	open_disk(&g, &s);
	leave_a_write_behind(&g);
	old = g;
	assert_int_equal(pthread_create(&t, NULL, let_it_go, &g), 0);
	open_disk(&g, &s); /* as vios that is started again */
	assert_false(g.be->unfenced);
	write_anew_and_look(&g);
	pthread_join(t, NULL);
	old.mem = NULL;
	old.be->ops->queue_close(old.bq);
	vio_backend_close(old.be);
	slow_server_gone(&g, &s);
}

static void a_write_of_a_lost_connection_does_not_land_over_a_later_one(void **state)
{
	struct rig g;
	struct server s;
	pthread_t t;

	(void)state;
	setup(&g, &s);
	slow_server(&g, &s, false);
	open_disk(&g, &s);
	leave_a_write_behind(&g);
	assert_int_equal(pthread_create(&t, NULL, let_it_go, &g), 0);
	write_anew_and_look(&g);
	pthread_join(t, NULL);
	slow_server_gone(&g, &s);
}

static void a_server_that_cannot_be_fenced_is_said_to_be_so(void **state)
{
	struct rig g;
	struct server s;

	(void)state;
	setup(&g, &s);
	slow_server(&g, &s, true);
	rig_open(&g, "nbd,uri=nbd://127.0.0.1:10919/");
	assert_true(g.be->unfenced);
	rig_close(&g);
	rig_open(&g, "nbd,uri=nbd://127.0.0.1:10919/,fence=off");
	assert_false(g.be->unfenced);
	rig_refused("nbd,uri=nbd://127.0.0.1:10919/,fence=wait", -EOPNOTSUPP, "UNIX socket");
	slow_server_gone(&g, &s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nbdkit_equals_a_shadow),
		cmocka_unit_test(a_server_with_limits_equals_a_shadow),
		cmocka_unit_test(qemu_nbd_equals_a_shadow),
		cmocka_unit_test(a_range_longer_than_nbd_can_say_is_cut),
		cmocka_unit_test(a_zero_that_must_keep_its_space_says_so_to_the_server),
		cmocka_unit_test(a_server_that_cannot_zero_trim_or_write_is_not_asked_to),
		cmocka_unit_test(an_error_of_the_server_fails_that_request_only),
		cmocka_unit_test(no_server_is_said_in_words),
		cmocka_unit_test(a_server_of_one_connection_is_a_disk_of_one_queue),
		cmocka_unit_test(several_queues_need_a_server_that_allows_it),
		cmocka_unit_test(requests_of_a_server_that_dies_fail_and_do_not_hang),
		cmocka_unit_test(a_server_that_comes_back_is_used_again),
		cmocka_unit_test(a_server_restarted_while_idle_fails_nothing),
		cmocka_unit_test(a_flush_fails_once_when_acknowledged_writes_went_with_the_server),
		cmocka_unit_test(another_disk_behind_the_same_socket_is_not_used),
		cmocka_unit_test(a_server_that_never_answers_is_given_up),
		cmocka_unit_test(a_write_of_a_dead_server_does_not_land_over_a_later_one),
		cmocka_unit_test(a_write_of_a_lost_connection_does_not_land_over_a_later_one),
		cmocka_unit_test(a_server_that_cannot_be_fenced_is_said_to_be_so),
	};
	int rc;

	signal(SIGPIPE, SIG_DFL); /* the backend must not need it ignored */
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	rig_sweep();
	return rc;
}
