/* SPDX-License-Identifier: BSD-3-Clause */
/* The nbd store when a server dies, comes back, is another one, or never answers; names without an address. */
#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <sys/un.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "nbd_test.h"

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

/* What the store has said last. */
static char said[1024];

static void remember(void *ctx, const char *line)
{
	(void)ctx;
	snprintf(said, sizeof(said), "%s", line);
}

static void listen_to(struct rig *g)
{
	said[0] = '\0';
	g->be->say = remember;
}

/* Requests fail, with `why` said, however often it is tried. */
static void is_not_used(struct rig *g, const char *why)
{
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(rig_one(g, VIO_IO_READ, 0, 4096), -EIO);
		queue(g)->deadline = 0; /* the next one is due */
	}
	if (!strstr(said, why))
		fail_msg("'%s' doesn't say '%s'", said, why);
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
	listen_to(&g);
	assert_int_equal(rig_one(&g, VIO_IO_READ, 0, 4096), 0);
	stop(&s);
	nbdkit(&s, "memory 4M");
	is_not_used(&g, "another disk");
	/* Nor by a guest that comes later. */
	g.be->ops->queue_close(g.bq);
	assert_int_equal(g.be->ops->queue_open(g.be, RIG_DEPTH, &g.bq, &err), 0);
	is_not_used(&g, "another disk");
	stop(&s);
	nbdkit(&s, "memory 8M");
	assert_int_equal(until_it_works(&g, VIO_IO_READ), 0);
	teardown(&g, &s);
}

static void a_larger_disk_under_the_same_name_has_not_grown_before_it_is_said(void **state)
{
	struct rig g;
	struct server s;

	(void)state;
	setup(&g, &s);
	nbdkit(&s, "memory 8M");
	open_disk(&g, &s);
	assert_true(g.be->by_name);
	listen_to(&g);
	assert_int_equal(rig_one(&g, VIO_IO_READ, 0, 4096), 0);
	stop(&s);
	nbdkit(&s, "memory 16M");
	is_not_used(&g, "NBD does not tell");
	assert_true(g.be->size == DISK);
	assert_int_equal(vio_backend_resize(g.be), 1);
	assert_int_equal(until_it_works(&g, VIO_IO_READ), 0);
	assert_int_equal(rig_one(&g, VIO_IO_READ, 2 * DISK - 4096, 4096), 0);
	rig_close(&g);
	/* Who gives it a serial says that what answers there is it. */
	stop(&s);
	nbdkit(&s, "memory 8M");
	rig_open(&g, "nbd,uri=nbd+unix:///?socket=%s,serial=mine", s.socket);
	assert_false(g.be->by_name);
	listen_to(&g);
	stop(&s);
	nbdkit(&s, "memory 16M");
	assert_int_equal(until_it_works(&g, VIO_IO_READ), 0);
	assert_true(g.be->size == 2 * DISK);
	teardown(&g, &s);
}

static void a_disk_is_the_same_when_its_server_describes_it_so(void **state)
{
	static const char *const more = "--filter=exportname memory %s exportdesc=fixed:%s";
	char args[120];
	struct rig g;
	struct server s;

	(void)state;
	setup(&g, &s);
	snprintf(args, sizeof(args), more, "8M", "disk-7");
	nbdkit(&s, args);
	open_disk(&g, &s);
	assert_false(g.be->by_name);
	listen_to(&g);
	stop(&s);
	snprintf(args, sizeof(args), more, "8M", "disk-8"); /* as large, and another one */
	nbdkit(&s, args);
	is_not_used(&g, "another disk");
	assert_true(vio_backend_resize(g.be) < 0);
	stop(&s);
	snprintf(args, sizeof(args), more, "16M", "disk-7");
	nbdkit(&s, args);
	assert_int_equal(until_it_works(&g, VIO_IO_READ), 0);
	assert_true(g.be->size == 2 * DISK);
	teardown(&g, &s);
}

static void a_guest_that_comes_while_the_server_is_away_waits_as_well(void **state)
{
	struct vio_io *r, *done[RIG_DEPTH];
	struct vio_err err = {""};
	struct rig g;
	struct server s;

	(void)state;
	setup(&g, &s);
	nbdkit(&s, "memory 8M");
	rig_open(&g, "nbd,uri=nbd+unix:///?socket=%s,reconnect-delay=60", s.socket);
	listen_to(&g);
	g.be->ops->queue_close(g.bq);
	stop(&s);
	assert_int_equal(g.be->ops->queue_open(g.be, RIG_DEPTH, &g.bq, &err), 0);
	r = rig_req(&g, 0, VIO_IO_WRITE, 0, 4096, 0);
	assert_int_equal(g.be->ops->submit(g.bq, &r, 1, done), 0);
	while (!strstr(said, "wait up to 60 s")) /* a try that came to nothing */
		assert_int_equal(g.be->ops->poll(g.bq, done, RIG_DEPTH), 0);
	nbdkit(&s, "memory 8M");
	while (g.be->ops->poll(g.bq, done, RIG_DEPTH) == 0)
		pause_ms(1);
	assert_int_equal(r->result, 0);
	teardown(&g, &s);
}

/* ------------------------------------------------------------------------- names ---- */

/* A name whose address is not found before the test wants it: 20 s at most. */
static struct resolver {
	pthread_mutex_t lock;
	pthread_cond_t more;
	bool held;
	unsigned waiting, overslept;
} resolver = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};

/* libnbd's calls come here. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
		struct addrinfo **res)
{
	int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
	struct timespec end;

	*(void **)&next = dlsym(RTLD_NEXT, "getaddrinfo");
	if (!node || strcmp(node, "slow.invalid") != 0)
		return next(node, service, hints, res);
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 20;
	pthread_mutex_lock(&resolver.lock);
	resolver.waiting++;
	while (resolver.held && pthread_cond_timedwait(&resolver.more, &resolver.lock, &end) == 0)
		;
	resolver.overslept += resolver.held;
	resolver.waiting--;
	pthread_mutex_unlock(&resolver.lock);
	return next("127.0.0.1", service, hints, res);
}

static void hold_names(bool held)
{
	pthread_mutex_lock(&resolver.lock);
	resolver.held = held;
	pthread_cond_broadcast(&resolver.more);
	pthread_mutex_unlock(&resolver.lock);
}

static unsigned names_waiting(void)
{
	unsigned n;

	pthread_mutex_lock(&resolver.lock);
	n = resolver.waiting;
	pthread_mutex_unlock(&resolver.lock);
	return n;
}

static void start_tcp(struct server *s)
{
	char *argv[] = {"nbdkit", "-f", "-i", "127.0.0.1", "-p", "10929", "memory", "8M", NULL};

	start_any(s, argv, 10929);
}

static void no_queue_waits_for_the_address_of_a_name(void **state)
{
	struct vio_io *r, *done[RIG_DEPTH];
	struct vio_err err = {""};
	struct rig g;
	struct server s;

	(void)state;
	setup(&g, &s);
	start_tcp(&s);
	rig_open(&g, "nbd,uri=nbd://slow.invalid:10929/,reconnect-delay=60");
	assert_int_equal(rig_one(&g, VIO_IO_READ, 0, 4096), 0);
	hold_names(true);
	stop(&s);
	start_tcp(&s);
	r = rig_req(&g, 0, VIO_IO_READ, 0, 4096, 0);
	assert_int_equal(g.be->ops->submit(g.bq, &r, 1, done), 0);
	while (names_waiting() == 0) /* who asks goes on */
		assert_int_equal(g.be->ops->poll(g.bq, done, RIG_DEPTH), 0);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(g.be->ops->poll(g.bq, done, RIG_DEPTH), 0);
	assert_int_equal(names_waiting(), 1);
	hold_names(false);
	while (g.be->ops->poll(g.bq, done, RIG_DEPTH) == 0)
		pause_ms(1);
	assert_int_equal(r->result, 0);
	/* Nor does one that opens, one that closes, or the disk's end. */
	hold_names(true);
	g.be->ops->queue_close(g.bq);
	stop(&s);
	assert_int_equal(g.be->ops->queue_open(g.be, RIG_DEPTH, &g.bq, &err), 0);
	while (names_waiting() == 0)
		g.be->ops->poll(g.bq, done, RIG_DEPTH);
	rig_close(&g);
	assert_int_equal(names_waiting(), 1);
	hold_names(false);
	while (names_waiting() > 0)
		pause_ms(1);
	pthread_mutex_lock(&resolver.lock);
	assert_int_equal(resolver.overslept, 0);
	pthread_mutex_unlock(&resolver.lock);
	teardown(&g, &s);
}

/* To give it up takes seconds: it is waited for while the other tests run. */
struct silence {
	pthread_t thread;
	char dir[64], socket[100];
	int fd, rc;
	struct vio_err err;
	struct vio_backend *be;
};

static void *ask_in_vain(void *arg)
{
	struct silence *x = arg;
	char spec[200];

	snprintf(spec, sizeof(spec), "nbd,uri=nbd+unix:///?socket=%s", x->socket);
	x->rc = vio_backend_open(spec, NULL, &x->be, &x->err);
	return NULL;
}

static int begin_silence(void **state)
{
	static struct silence x;
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(x.dir, sizeof(x.dir), "/var/tmp/vio-backend-%d-XXXXXX", (int)getpid());
	assert_non_null(mkdtemp(x.dir));
	snprintf(x.socket, sizeof(x.socket), "%s/nbd.sock", x.dir);
	memcpy(a.sun_path, x.socket, strlen(x.socket) + 1);
	x.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(x.fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(x.fd, 5), 0);
	*state = &x;
	return pthread_create(&x.thread, NULL, ask_in_vain, &x);
}

static void a_server_that_never_answers_is_given_up(void **state)
{
	struct silence *x = *state;

	assert_int_equal(pthread_join(x->thread, NULL), 0);
	assert_int_equal(x->rc, -ETIMEDOUT);
	assert_non_null(strstr(x->err.msg, "no answer"));
	assert_null(x->be);
	close(x->fd); /* rig_sweep() removes its folder */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_of_a_server_that_dies_fail_and_do_not_hang),
		cmocka_unit_test(a_server_that_comes_back_is_used_again),
		cmocka_unit_test(a_server_restarted_while_idle_fails_nothing),
		cmocka_unit_test(a_flush_fails_once_when_acknowledged_writes_went_with_the_server),
		cmocka_unit_test(another_disk_behind_the_same_socket_is_not_used),
		cmocka_unit_test(a_larger_disk_under_the_same_name_has_not_grown_before_it_is_said),
		cmocka_unit_test(a_disk_is_the_same_when_its_server_describes_it_so),
		cmocka_unit_test(a_guest_that_comes_while_the_server_is_away_waits_as_well),
		cmocka_unit_test(no_queue_waits_for_the_address_of_a_name),
		cmocka_unit_test(
			a_server_that_never_answers_is_given_up), /* last: it began first */
	};
	int rc;

	signal(SIGPIPE, SIG_DFL); /* the backend must not need it ignored */
	rc = cmocka_run_group_tests(tests, begin_silence, NULL);
	rig_sweep();
	return rc;
}
