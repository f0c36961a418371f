/* SPDX-License-Identifier: BSD-3-Clause */
/* What the kernel answers to the file store, or does not take: each request's own, and said. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "file_test.h"

static void a_file_cut_short_gives_an_error_not_old_bytes(void **state)
{
	struct rig g;
	char path[100];

	(void)state;
	rig_start(&g);
	image(&g, path, sizeof(path), DISK);
	rig_open(&g, "file,path=%s", path);
	assert_int_equal(truncate(path, DISK / 2 + 4096), 0);
	assert_int_equal(rig_one(&g, VIO_IO_READ, DISK / 2, 4096), 0);
	assert_int_equal(rig_one(&g, VIO_IO_READ, DISK / 2, 8192),
			 -EIO); /* a part of it is there */
	assert_int_equal(rig_one(&g, VIO_IO_READ, DISK - 4096, 4096), -EIO);
	assert_int_equal(queue(&g)->n_free, RIG_DEPTH);
	unlink(path);
	rig_stop(&g);
}

static void an_errno_of_the_kernel_reaches_the_request(void **state)
{
	struct rig g;
	char path[100];

	(void)state;
	rig_start(&g);
	image(&g, path, sizeof(path), DISK);
	rig_open(&g, "file,path=%s,ro=on", path);
	assert_true(g.be->read_only);
	assert_false(g.be->can_discard || g.be->can_zero);
	/* The device refuses these before; a descriptor without the right to write is the second wall. */
	assert_int_equal(rig_one(&g, VIO_IO_WRITE, 0, 4096), -EBADF);
	assert_int_equal(rig_one(&g, VIO_IO_ZERO, 0, 4096), -EBADF);
	assert_int_equal(rig_one(&g, VIO_IO_READ, 0, 4096), 0);
	assert_int_equal(rig_one(&g, VIO_IO_FLUSH, 0, 0), 0);
	assert_int_equal(rig_one(&g, VIO_IO_READ, 0, 0), 0);
	assert_int_equal(rig_one(&g, VIO_IO_READ, 0, VIO_MAX_DATA + 512), -EINVAL);
	unlink(path);
	rig_stop(&g);
}

struct heard {
	unsigned n;
	char last[300];
};

static void hear(void *ctx, const char *line)
{
	struct heard *h = ctx;

	h->n++;
	snprintf(h->last, sizeof(h->last), "%s", line);
}

/* io_uring_enter() fails from here on; the descriptor to give back. */
static int break_ring(struct rig *g)
{
	int fd = queue(g)->ring.enter_ring_fd;

	queue(g)->ring.enter_ring_fd = -1;
	return fd;
}

static void write_all(struct rig *g, int byte, unsigned askew, int result)
{
	struct vio_io *r[RIG_DEPTH];

	for (unsigned i = 0; i < RIG_DEPTH; i++) {
		r[i] = rig_req(g, i, VIO_IO_WRITE, i * 8192ull, 8192, askew);
		memset(rig_piece(g, i) + askew, byte, 8192);
	}
	rig_run(g, r, RIG_DEPTH);
	for (unsigned i = 0; i < RIG_DEPTH; i++)
		assert_int_equal(r[i]->result, result);
}

static void kernel_takes_nothing(bool direct)
{
	struct heard h = {0};
	struct rig g;
	char path[100];
	int fd;

	rig_start(&g);
	image(&g, path, sizeof(path), DISK);
	if (direct)
		open_direct(&g, path);
	else
		rig_open(&g, "file,path=%s,direct=off", path);
	g.be->say = hear;
	g.be->say_ctx = &h;
	write_all(&g, 1, 0, 0);
	fd = break_ring(&g);
	for (unsigned round = 0; round < 3; round++)
		write_all(&g, 2, direct ? 1 : 0, -EIO); /* more than there are aligned buffers */
	assert_int_equal(h.n, 1);
	assert_non_null(strstr(h.last, "the kernel takes no requests"));
	assert_int_equal(queue(&g)->n_free, RIG_DEPTH);
	assert_int_equal(queue(&g)->buffers.n_free, VIO_BE_BUFFERS);

	/* What was said to have failed is not executed later. */
	queue(&g)->ring.enter_ring_fd = fd;
	assert_int_equal(rig_one(&g, VIO_IO_FLUSH, 0, 0), 0);
	for (unsigned i = 0; i < RIG_DEPTH; i++) {
		assert_int_equal(rig_one(&g, VIO_IO_READ, i * 8192ull, 8192), 0);
		assert_true(g.mem[0] == 1 && g.mem[8191] == 1);
	}
	write_all(&g, 3, 0, 0);
	file_equals_disk(&g, path);
	unlink(path);
	rig_stop(&g);
}

static void requests_that_the_kernel_never_takes_fail_and_it_is_said_once(void **state)
{
	(void)state;
	kernel_takes_nothing(false);
	kernel_takes_nothing(true);
}

static void requests_that_the_kernel_takes_later_do_not_fail(void **state)
{
	struct heard h = {0};
	struct vio_io *r, *done[1];
	struct rig g;
	char path[100];
	int fd;

	(void)state;
	rig_start(&g);
	image(&g, path, sizeof(path), DISK);
	rig_open(&g, "file,path=%s,direct=off", path);
	g.be->say = hear;
	g.be->say_ctx = &h;
	fd = break_ring(&g);
	r = rig_req(&g, 0, VIO_IO_WRITE, 0, 4096, 0);
	memset(g.mem, 7, 4096);
	assert_int_equal(g.be->ops->submit(g.bq, &r, 1, done), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(g.be->ops->poll(g.bq, done, 1), 0);
	queue(&g)->ring.enter_ring_fd = fd;
	while (g.be->ops->poll(g.bq, done, 1) == 0)
		;
	assert_ptr_equal(done[0], r);
	assert_int_equal(r->result, 0);
	assert_int_equal(h.n, 0);
	file_equals_disk(&g, path);
	unlink(path);
	rig_stop(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_cut_short_gives_an_error_not_old_bytes),
		cmocka_unit_test(an_errno_of_the_kernel_reaches_the_request),
		cmocka_unit_test(requests_that_the_kernel_never_takes_fail_and_it_is_said_once),
		cmocka_unit_test(requests_that_the_kernel_takes_later_do_not_fail),
	};
	int rc;

	rc = cmocka_run_group_tests(tests, NULL, NULL);
	rig_sweep();
	return rc;
}
