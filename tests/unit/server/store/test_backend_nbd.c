/* SPDX-License-Identifier: BSD-3-Clause */
/* The nbd store against real servers, nbdkit and qemu-nbd on a UNIX socket: data, limits, abilities, queues. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "nbd_test.h"

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
	};
	int rc;

	signal(SIGPIPE, SIG_DFL); /* the backend must not need it ignored */
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	rig_sweep();
	return rc;
}
