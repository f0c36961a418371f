/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The file backend before the first request: how it serves what, whom it keeps out, and what it
 * must refuse.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "file_test.h"

static void the_mode_fits_request_and_file_system(void **state)
{
	static const struct vio_file_dio none = {0, 0}, small = {512, 4}, large = {4096, 4096};
	static const struct {
		enum vio_file_direct want;
		uint32_t block;
		const struct vio_file_dio *dio;
		uint64_t size;
		int rc;
		bool direct;
		uint32_t block_size;
	} t[] = {
		{VIO_FILE_OFF, 0, &large, 1 << 20, 0, false, 512},
		{VIO_FILE_OFF, 4096, &small, 1 << 20, 0, false, 4096},
		{VIO_FILE_AUTO, 0, &none, 1 << 20, 0, false, 512},
		{VIO_FILE_ON, 0, &none, 1 << 20, -EINVAL, false, 0},
		{VIO_FILE_AUTO, 0, &small, 1 << 20, 0, true, 512},
		{VIO_FILE_ON, 4096, &small, 1 << 20, 0, true, 4096},
		/* Where a file lies does not change the guest's blocks. */
		{VIO_FILE_AUTO, 0, &large, 1 << 20, 0, false, 512},
		{VIO_FILE_AUTO, 4096, &large, 1 << 20, 0, true, 4096},
		{VIO_FILE_ON, 0, &large, 1 << 20, 0, true, 4096},
		/* Small requests were asked for, and O_DIRECT can't do them. */
		{VIO_FILE_AUTO, 512, &large, 1 << 20, 0, false, 512},
		{VIO_FILE_ON, 512, &large, 1 << 20, -EINVAL, false, 0},
		/* A whole file is worth more than O_DIRECT, unless that is what was asked for. */
		{VIO_FILE_AUTO, 4096, &large, (1 << 20) + 512, 0, false, 4096},
		{VIO_FILE_ON, 0, &large, (1 << 20) + 512, 0, true, 4096},
	};

	(void)state;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(t); i++) {
		struct vio_file_mode m;
		struct vio_err err = {""};

		assert_int_equal(
			vio_file_choose(t[i].want, t[i].block, *t[i].dio, t[i].size, &m, &err),
			t[i].rc);
		assert_int_equal(err.msg[0] != '\0', t[i].rc != 0);
		if (t[i].rc)
			continue;
		assert_int_equal(m.direct, t[i].direct);
		assert_int_equal(m.block_size, t[i].block_size);
		assert_int_equal(m.why[0] != '\0', t[i].want == VIO_FILE_AUTO && !t[i].direct);
	}
}

static void what_is_no_disk_is_refused_in_words(void **state)
{
	struct rig g;
	char path[100], fifo[100], spec[200];

	(void)state;
	rig_start(&g);
	snprintf(spec, sizeof(spec), "file,path=%s/nothing", g.dir);
	rig_refused(spec, -ENOENT, "there is no file");
	snprintf(spec, sizeof(spec), "file,path=%s", g.dir);
	rig_refused(spec, -EINVAL, "is a directory");
	snprintf(spec, sizeof(spec), "file,path=%s,ro=on", g.dir);
	rig_refused(spec, -EINVAL, "is a directory");
	rig_refused("file,path=/dev/null", -EINVAL, "neither a file nor a block device");
	snprintf(fifo, sizeof(fifo), "%s/fifo", g.dir);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	snprintf(spec, sizeof(spec), "file,path=%s,ro=on", fifo);
	rig_refused(spec, -EINVAL, "neither a file nor a block device");
	unlink(fifo);
	image(&g, path, sizeof(path), 511);
	snprintf(spec, sizeof(spec), "file,path=%s", path);
	rig_refused(spec, -EINVAL, "has 511 bytes, too small");
	image(&g, path, sizeof(path), 0);
	rig_refused(spec, -EINVAL, "has 0 bytes, too small");
	snprintf(spec, sizeof(spec), "file,path=%s/disk.img/x", g.dir);
	rig_refused(spec, -ENOTDIR, "Not a directory");
	image(&g, path, sizeof(path), 1024);
	snprintf(spec, sizeof(spec), "file,path=%s,block=4096", path);
	rig_refused(spec, -EINVAL, "too small for one block");
	unlink(path);
	rig_stop(&g);
}

static void a_file_without_permission_is_refused_in_words(void **state)
{
	struct rig g;
	char path[100], spec[200];
	bool root = geteuid() == 0;

	(void)state;
	rig_start(&g);
	image(&g, path, sizeof(path), DISK);
	snprintf(spec, sizeof(spec), "file,path=%s", path);
	assert_int_equal(chmod(path, 0444), 0);
	assert_int_equal(chmod(g.dir, 0755), 0);
	if (root) /* to whom everything is permitted */
		assert_int_equal(seteuid(65534), 0);
	rig_refused(spec, -EACCES, "no permission to write");
	rig_refused(spec, -EACCES, "ro=on");
	rig_open(&g, "%s,ro=on", spec);
	rig_close(&g);
	if (root)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(chmod(path, 0), 0);
	if (root)
		assert_int_equal(seteuid(65534), 0);
	snprintf(spec, sizeof(spec), "file,path=%s,ro=on", path);
	rig_refused(spec, -EACCES, "no permission to read");
	if (root)
		assert_int_equal(seteuid(0), 0);
	unlink(path);
	rig_stop(&g);
}

static void a_file_has_one_writer_or_many_readers(void **state)
{
	struct rig g, h;
	char path[100], rw[200], ro[200];

	(void)state;
	rig_start(&g);
	rig_start(&h);
	image(&g, path, sizeof(path), DISK);
	snprintf(rw, sizeof(rw), "file,path=%s", path);
	snprintf(ro, sizeof(ro), "file,path=%s,ro=on", path);
	rig_open(&g, "%s", rw);
	rig_refused(rw, -EBUSY, "is locked");
	rig_refused(ro, -EBUSY, "for writing");
	rig_close(&g);
	rig_open(&g, "%s", ro);
	rig_open(&h, "%s", ro);
	rig_refused(rw, -EBUSY, "ro=on");
	rig_close(&g);
	rig_close(&h);
	rig_open(&g, "%s", rw);
	unlink(path);
	rig_stop(&g);
	rig_stop(&h);
}

/* As rig_open, without failing the test. */
static int serve(struct rig *g, const char *path)
{
	char spec[200];

	snprintf(spec, sizeof(spec), "file,path=%s", path);
	return vio_backend_open(spec, NULL, &g->be, NULL) ||
	       g->be->ops->queue_open(g->be, RIG_DEPTH, &g->bq, NULL);
}

static void the_file_of_a_killed_server_can_be_served_again_at_once(void **state)
{
	struct rig g;
	char path[100];
	int status;
	pid_t pid;

	(void)state;
	rig_start(&g);
	image(&g, path, sizeof(path), DISK);
	for (unsigned i = 0; i < 5; i++) {
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			struct vio_io *r[RIG_DEPTH], *done[RIG_DEPTH];

			if (serve(&g, path))
				_exit(1); /* not into the other tests */
			for (unsigned k = 0; k < RIG_DEPTH; k++)
				r[k] = rig_req(&g, k, VIO_IO_WRITE, k * 65536, 65536, 0);
			g.be->ops->submit(g.bq, r, RIG_DEPTH, done);
			kill(getpid(), SIGKILL); /* in the middle of it */
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		rig_open(&g, "file,path=%s", path);
		rig_close(&g);
	}
	unlink(path);
	rig_stop(&g);
}

static void the_id_is_the_files_own_or_the_serial(void **state)
{
	struct rig g;
	char path[100], other[120], first[20];

	(void)state;
	rig_start(&g);
	image(&g, path, sizeof(path), DISK);
	rig_open(&g, "file,path=%s", path);
	memcpy(first, g.be->id, 20);
	rig_close(&g);
	/* Again, and read-only, and by another name: the same. */
	snprintf(other, sizeof(other), "%s/other.img", g.dir);
	assert_int_equal(link(path, other), 0);
	rig_open(&g, "file,path=%s,ro=on", other);
	assert_memory_equal(first, g.be->id, 20);
	rig_close(&g);
	/* Another file of the same name and size. */
	unlink(path);
	image(&g, path, sizeof(path), DISK);
	rig_open(&g, "file,path=%s", path);
	assert_memory_not_equal(first, g.be->id, 20);
	rig_close(&g);
	rig_open(&g, "file,path=%s,serial=ABC-12", path);
	assert_memory_equal(g.be->id, "ABC-12\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
	rig_close(&g);
	rig_open(&g, "file,path=%s,serial=12345678901234567890", path);
	assert_memory_equal(g.be->id, "12345678901234567890", 20);
	rig_close(&g);
	rig_refused("null,serial=123456789012345678901", -EINVAL, "too long");
	rig_refused("null,serial=a b", -EINVAL, "printable");
	rig_refused("null,serial=", -EINVAL, "1 to 20");
	unlink(path);
	unlink(other);
	rig_stop(&g);
}

static void one_file_for_two_guests_is_refused_by_its_name(void **state)
{
	struct rig g;
	char path[100], spec[200];
	struct vio_backend *two[2] = {NULL, NULL};
	struct vio_backend_env env = {.others = two, .n_others = 2};
	struct vio_err err = {""};

	(void)state;
	rig_start(&g);
	image(&g, path, sizeof(path), DISK);
	snprintf(spec, sizeof(spec), "file,path=%s", path);
	assert_int_equal(vio_backend_open(spec, &env, &two[0], &err), 0);
	assert_int_equal(vio_backend_open(spec, &env, &two[1], &err), -EADDRINUSE);
	assert_non_null(strstr(err.msg, "this server has"));
	assert_null(strstr(err.msg, "another program"));
	snprintf(spec, sizeof(spec), "file,path=%s,lock=off", path);
	assert_int_equal(vio_backend_open(spec, &env, &two[1], &err), 0);
	vio_backend_close(two[0]);
	vio_backend_close(two[1]);
	unlink(path);
	rig_stop(&g);
}

static void a_comma_in_a_path_is_written_twice(void **state)
{
	struct rig g;
	char path[100], other[120];

	(void)state;
	rig_start(&g);
	image(&g, path, sizeof(path), DISK);
	snprintf(other, sizeof(other), "%s/a,b=c.img", g.dir);
	assert_int_equal(rename(path, other), 0);
	rig_open(&g, "file,path=%s/a,,b=c.img,ro=on", g.dir);
	assert_non_null(strstr(g.be->what, "/a,b=c.img,"));
	unlink(other);
	rig_stop(&g);
}

static void a_file_that_grows_is_a_larger_disk_when_looked_at_and_never_a_smaller_one(void **state)
{
	struct rig g;
	char path[100];

	(void)state;
	rig_start(&g);
	image(&g, path, sizeof(path), DISK);
	rig_open(&g, "file,path=%s", path);
	assert_int_equal(vio_backend_resize(g.be), 0);
	assert_int_equal(truncate(path, 2 * DISK + 100), 0);
	assert_int_equal(g.be->size, DISK); /* not before it is asked for */
	assert_int_equal(vio_backend_resize(g.be), 1);
	assert_int_equal(g.be->size, 2 * DISK); /* whole blocks */
	assert_int_equal(rig_one(&g, VIO_IO_WRITE, 2 * DISK - 4096, 4096), 0);
	assert_int_equal(truncate(path, DISK), 0);
	assert_int_equal(vio_backend_resize(g.be), -ENOSPC);
	assert_int_equal(g.be->size, 2 * DISK);
	assert_true(rig_one(&g, VIO_IO_READ, 2 * DISK - 4096, 4096) < 0);
	assert_int_equal(rig_one(&g, VIO_IO_READ, DISK - 4096, 4096), 0);
	rig_close(&g);
	rig_open(&g, "null,size=1M");
	assert_int_equal(vio_backend_resize(g.be), -EOPNOTSUPP);
	unlink(path);
	rig_stop(&g);
}

static void a_flush_that_is_under_way_while_another_fails_fails_too(void **state)
{
	struct rig g;
	char path[100];
	struct vio_io *r, *done[1];
	unsigned n;

	(void)state;
	rig_start(&g);
	image(&g, path, sizeof(path), DISK);
	rig_open(&g, "file,path=%s", path);
	r = rig_req(&g, 0, VIO_IO_FLUSH, 0, 0, 0);
	n = g.be->ops->submit(g.bq, &r, 1, done);
	assert_int_equal(n, 0);
	vio_file_queue_of(g.bq)
		->f->flush_failed++; /* another queue's, and the kernel has told it */
	while (n == 0)
		n = g.be->ops->poll(g.bq, done, 1);
	assert_int_equal(r->result, -EIO);
	assert_int_equal(rig_one(&g, VIO_IO_FLUSH, 0, 0), 0); /* a later one is not */
	unlink(path);
	rig_stop(&g);
}

static void what_a_disk_does_at_errors_is_as_its_spec_says(void **state)
{
	struct rig g;

	(void)state;
	rig_start(&g);
	rig_open(&g, "null,size=1M");
	assert_int_equal(g.be->werror, VIO_ON_ERROR_REPORT);
	assert_int_equal(g.be->rerror, VIO_ON_ERROR_REPORT);
	rig_close(&g);
	rig_open(&g, "null,size=1M,werror=enospc,rerror=stop");
	assert_int_equal(g.be->werror, VIO_ON_ERROR_ENOSPC);
	assert_int_equal(g.be->rerror, VIO_ON_ERROR_STOP);
	rig_close(&g);
	rig_refused("null,size=1M,werror=ignore", -EINVAL, "report, stop, enospc");
	rig_refused("null,size=1M,rerror=", -EINVAL, "report, stop, enospc");
	rig_stop(&g);
}

static void the_cache_of_a_disk_is_as_its_spec_says(void **state)
{
	struct rig g;

	(void)state;
	rig_start(&g);
	rig_open(&g, "null,size=1M,cache=writethrough");
	assert_int_equal(g.be->cache_off, g.be->can_flush);
	rig_close(&g);
	rig_open(&g, "null,size=1M,cache=writeback");
	assert_false(g.be->cache_off);
	rig_refused("null,size=1M,cache=none", -EINVAL, "writeback, writethrough");
	rig_refused("null,size=1M,cache=writeback,cache=writeback", -EINVAL, "twice");
	rig_stop(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_mode_fits_request_and_file_system),
		cmocka_unit_test(what_is_no_disk_is_refused_in_words),
		cmocka_unit_test(a_file_without_permission_is_refused_in_words),
		cmocka_unit_test(a_file_has_one_writer_or_many_readers),
		cmocka_unit_test(the_file_of_a_killed_server_can_be_served_again_at_once),
		cmocka_unit_test(a_flush_that_is_under_way_while_another_fails_fails_too),
		cmocka_unit_test(what_a_disk_does_at_errors_is_as_its_spec_says),
		cmocka_unit_test(the_id_is_the_files_own_or_the_serial),
		cmocka_unit_test(one_file_for_two_guests_is_refused_by_its_name),
		cmocka_unit_test(a_comma_in_a_path_is_written_twice),
		cmocka_unit_test(
			a_file_that_grows_is_a_larger_disk_when_looked_at_and_never_a_smaller_one),
		cmocka_unit_test(the_cache_of_a_disk_is_as_its_spec_says),
	};
	int rc;

	rc = cmocka_run_group_tests(tests, NULL, NULL);
	rig_sweep();
	return rc;
}
