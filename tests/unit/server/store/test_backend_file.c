/* SPDX-License-Identifier: BSD-3-Clause */
/* The file backend against a real file system: data and fixed buffers. */
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

static void shadow(bool direct, bool fixed, const struct rig_mix *mix)
{
	struct rig g;
	char path[100];

	rig_start(&g);
	image(&g, path, sizeof(path), DISK);
	if (direct)
		open_direct(&g, path);
	else
		rig_open(&g, "file,path=%s,direct=off", path);
	assert_true(g.be->size == DISK);
	assert_true(g.be->can_flush && g.be->can_zero && g.be->touches_data);
	if (fixed)
		register_memory(&g);
	rig_shadow(&g, mix);
	if (fixed)
		assert_true(queue(&g)->n_fixed_io > 0);
	else
		assert_true(queue(&g)->n_fixed_io == 0);
	file_equals_disk(&g, path);
	if (fixed)
		g.be->ops->window_del(g.bq, g.mem, WINDOW);
	assert_int_equal(queue(&g)->n_fixed, 0);
	rig_shadow(&g, mix);
	assert_int_equal(queue(&g)->n_free, RIG_DEPTH);
	assert_int_equal(queue(&g)->buffers.n_free, VIO_BE_BUFFERS);
	unlink(path);
	rig_stop(&g);
}

static const struct rig_mix whole_blocks = {800, 8, 0, 4096, 131072, true};
static const struct rig_mix odd_memory = {600, 8, 1, 1, 131072, true};

static void page_cache_equals_a_shadow(void **state)
{
	(void)state;
	shadow(false, false, &whole_blocks);
	shadow(false, false, &odd_memory);
}

static void page_cache_with_fixed_buffers_equals_a_shadow(void **state)
{
	(void)state;
	shadow(false, true, &odd_memory);
}

static void direct_equals_a_shadow(void **state)
{
	(void)state;
	shadow(true, false, &whole_blocks);
}

static void direct_with_fixed_buffers_equals_a_shadow(void **state)
{
	(void)state;
	shadow(true, true, &whole_blocks);
}

static void direct_from_memory_that_lies_askew_equals_a_shadow(void **state)
{
	(void)state;
	shadow(true, true, &odd_memory);
}

static void more_askew_requests_than_aligned_buffers_all_come_back(void **state)
{
	struct rig g;
	struct vio_io *r[RIG_DEPTH];
	char path[100];

	(void)state;
	rig_start(&g);
	image(&g, path, sizeof(path), DISK);
	open_direct(&g, path);
	for (unsigned i = 0; i < RIG_DEPTH; i++) {
		r[i] = rig_req(&g, i, VIO_IO_WRITE, i * 8192, 8192, 1);
		memset(rig_piece(&g, i) + 1, (int)i + 1, 8192);
	}
	rig_run(&g, r, RIG_DEPTH);
	assert_true(queue(&g)->n_buffered == RIG_DEPTH);
	for (unsigned i = 0; i < RIG_DEPTH; i++) {
		assert_int_equal(r[i]->result, 0);
		r[i] = rig_req(&g, i, VIO_IO_READ, i * 8192, 8192, 3);
		memset(rig_piece(&g, i), 0, 8200);
	}
	rig_run(&g, r, RIG_DEPTH);
	for (unsigned i = 0; i < RIG_DEPTH; i++) {
		assert_int_equal(r[i]->result, 0);
		assert_int_equal(rig_piece(&g, i)[2], 0);
		assert_int_equal(rig_piece(&g, i)[3], i + 1);
		assert_int_equal(rig_piece(&g, i)[8194], i + 1);
		assert_int_equal(rig_piece(&g, i)[8195], 0);
	}
	unlink(path);
	rig_stop(&g);
}

static void only_what_lies_in_one_window_goes_through_a_fixed_buffer(void **state)
{
	struct rig g;
	struct vio_file_queue *q;
	char path[100];

	(void)state;
	rig_start(&g);
	image(&g, path, sizeof(path), DISK);
	rig_open(&g, "file,path=%s,direct=off", path);
	q = queue(&g);
	assert_int_equal(vio_file_find_fixed(q, g.mem, 1), -1);
	/* Three windows, out of order; a hole between the second and the third; one that is read-only. */
	g.be->ops->window_add(g.bq, g.mem + 0x10000, 0x10000, true);
	g.be->ops->window_add(g.bq, g.mem, 0x10000, true);
	g.be->ops->window_add(g.bq, g.mem + 0x30000, 0x10000, true);
	g.be->ops->window_add(g.bq, g.mem + 0x50000, 0x10000, false);
	assert_int_equal(q->n_fixed, 3);
	assert_true(vio_file_find_fixed(q, g.mem, 0x10000) >= 0);
	assert_true(vio_file_find_fixed(q, g.mem + 0xffff, 1) >= 0);
	assert_int_equal(vio_file_find_fixed(q, g.mem + 0xffff, 2), -1);
	assert_int_not_equal(vio_file_find_fixed(q, g.mem, 1),
			     vio_file_find_fixed(q, g.mem + 0x10000, 1));
	assert_int_equal(vio_file_find_fixed(q, g.mem + 0x2ffff, 1), -1);
	assert_true(vio_file_find_fixed(q, g.mem + 0x30000, 0x10000) >= 0);
	assert_int_equal(vio_file_find_fixed(q, g.mem + 0x40000, 1), -1);
	assert_int_equal(vio_file_find_fixed(q, g.mem + 0x50000, 1), -1);
	assert_int_equal(vio_file_find_fixed(q, g.mem - 1, 1), -1);
	assert_int_equal(rig_one(&g, VIO_IO_WRITE, 0, 0x10000), 0);
	assert_true(q->n_fixed_io == 1 && q->n_plain_io == 0);
	assert_int_equal(rig_one(&g, VIO_IO_WRITE, 0, 0x10200), 0);
	assert_true(q->n_fixed_io == 1 && q->n_plain_io == 1);
	/* Withdrawn ones are gone, the others stay, and room comes back. */
	g.be->ops->window_del(g.bq, g.mem + 0x10000, 0x10000);
	assert_int_equal(vio_file_find_fixed(q, g.mem + 0x10000, 1), -1);
	assert_true(vio_file_find_fixed(q, g.mem + 0x30000, 1) >= 0);
	g.be->ops->window_del(g.bq, g.mem + 0x50000, 0x10000);
	g.be->ops->window_del(g.bq, g.mem, 0x10000);
	g.be->ops->window_del(g.bq, g.mem + 0x30000, 0x10000);
	assert_true(q->n_fixed == 0 && q->n_fixed_free == VIO_FILE_FIXED);
	assert_int_equal(rig_one(&g, VIO_IO_WRITE, 0, 512), 0);
	assert_true(q->n_fixed_io == 1 && q->n_plain_io == 2);
	unlink(path);
	rig_stop(&g);
}

static void a_window_larger_than_a_fixed_buffer_is_cut(void **state)
{
	struct rig g;
	struct vio_file_queue *q;
	char path[100];

	(void)state;
	rig_start(&g);
	image(&g, path, sizeof(path), DISK);
	rig_open(&g, "file,path=%s,direct=off", path);
	q = queue(&g);
	q->fixed_max = 0x10000;
	g.be->ops->window_add(g.bq, g.mem, 0x28000, true);
	assert_int_equal(q->n_fixed, 3);
	assert_true(vio_file_find_fixed(q, g.mem + 0x27000, 0x1000) >= 0);
	assert_int_equal(vio_file_find_fixed(q, g.mem + 0x27000, 0x1001), -1);
	assert_int_equal(vio_file_find_fixed(q, g.mem + 0xf000, 0x2000), -1);
	memset(g.mem, 0x5a, 0x20000);
	assert_int_equal(rig_one(&g, VIO_IO_WRITE, 0, 0x20000), 0); /* across two: the slow way */
	memset(g.mem, 0, 0x20000);
	assert_int_equal(rig_one(&g, VIO_IO_READ, 0, 0x10000), 0);
	assert_true(q->n_plain_io == 1 && q->n_fixed_io == 1);
	assert_true(g.mem[0] == 0x5a && g.mem[0xffff] == 0x5a && g.mem[0x10000] == 0);
	g.be->ops->window_del(g.bq, g.mem, 0x28000);
	assert_true(q->n_fixed == 0 && q->n_fixed_free == VIO_FILE_FIXED);
	unlink(path);
	rig_stop(&g);
}

static void a_window_that_cannot_be_registered_costs_speed_only(void **state)
{
	struct rig g;
	char path[100];

	(void)state;
	rig_start(&g);
	image(&g, path, sizeof(path), DISK);
	rig_open(&g, "file,path=%s,direct=off", path);
	memset(g.mem, 0x77, 4096);
	/* Claimed to be writable, and isn't: pinning it for writing fails. */
	assert_int_equal(mprotect(g.mem, 4096, PROT_READ), 0);
	g.be->ops->window_add(g.bq, g.mem, 4096, true);
	g.be->ops->window_add(g.bq, g.mem, 4096, true);
	assert_int_equal(queue(&g)->n_fixed, 0);
	assert_int_equal(queue(&g)->f->told, 1);
	assert_int_equal(rig_one(&g, VIO_IO_WRITE, 4096, 4096), 0);
	g.be->ops->window_del(g.bq, g.mem, 4096);
	assert_int_equal(mprotect(g.mem, 4096, PROT_READ | PROT_WRITE), 0);
	memset(g.mem, 0, 4096);
	assert_int_equal(rig_one(&g, VIO_IO_READ, 4096, 4096), 0);
	assert_int_equal(g.mem[4095], 0x77);
	unlink(path);
	rig_stop(&g);
}

static void a_limit_on_pinned_memory_costs_speed_only(void **state)
{
	struct rlimit old, low;
	struct rig g;
	char path[100];
	bool root = geteuid() == 0;

	(void)state;
	rig_start(&g);
	image(&g, path, sizeof(path), DISK);
	assert_int_equal(chmod(path, 0666), 0);
	assert_int_equal(chmod(g.dir, 0755), 0);
	assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &old), 0);
	low = (struct rlimit){65536, old.rlim_max};
	if (root) /* who may pin without limit */
		assert_int_equal(seteuid(65534), 0);
	rig_open(&g, "file,path=%s,direct=off", path);
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &low), 0);
	g.be->ops->window_add(g.bq, g.mem, 1 << 20, true);
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &old), 0);
	assert_int_equal(queue(&g)->n_fixed, 0);
	assert_int_equal(queue(&g)->f->told, 1);
	memset(g.mem, 0x3c, 4096);
	assert_int_equal(rig_one(&g, VIO_IO_WRITE, 4096, 4096), 0);
	memset(g.mem, 0, 4096);
	assert_int_equal(rig_one(&g, VIO_IO_READ, 4096, 4096), 0);
	assert_int_equal(g.mem[4095], 0x3c);
	rig_close(&g);
	if (root)
		assert_int_equal(seteuid(0), 0);
	unlink(path);
	rig_stop(&g);
}

static void zeroes_are_zeroes_in_each_way_to_make_them(void **state)
{
	struct rig g;
	char path[100];

	(void)state;
	rig_start(&g);
	image(&g, path, sizeof(path), DISK);
	for (unsigned way = VIO_FILE_PUNCH_HOLE; way <= VIO_FILE_WRITE_ZEROES; way++) {
		rig_open(&g, "file,path=%s", path);
		queue(&g)->no_zero = (uint8_t)((1u << way) - 1);
		for (uint64_t off = 0; off < DISK; off += VIO_MAX_DATA) {
			memset(g.mem, 0xee, VIO_MAX_DATA);
			assert_int_equal(rig_one(&g, VIO_IO_WRITE, off, VIO_MAX_DATA), 0);
		}
		/* More than one write's worth, and not a multiple of it. */
		assert_int_equal(rig_one(&g, VIO_IO_ZERO, 4096, DISK - 12288), 0);
		for (uint64_t off = 0; off < DISK; off += 4096) {
			int want = off == 0 || off >= DISK - 8192 ? 0xee : 0;

			assert_int_equal(rig_one(&g, VIO_IO_READ, off, 4096), 0);
			assert_int_equal(g.mem[0], want);
			assert_int_equal(g.mem[4095], want);
		}
		rig_close(&g);
	}
	unlink(path);
	rig_stop(&g);
}

/* Blocks of 512 bytes that the file has, after a write-zeroes over all of `written`. */
static long blocks_after_zero(bool written, bool unmap)
{
	struct rig g;
	struct vio_io *r;
	struct stat st;
	char path[100];

	rig_start(&g);
	image(&g, path, sizeof(path), DISK);
	rig_open(&g, "file,path=%s", path);
	memset(g.mem, 1, VIO_MAX_DATA);
	for (uint64_t off = 0; written && off < DISK; off += VIO_MAX_DATA)
		assert_int_equal(rig_one(&g, VIO_IO_WRITE, off, VIO_MAX_DATA), 0);
	r = rig_req(&g, 0, VIO_IO_ZERO, 0, DISK, 0);
	r->unmap = unmap;
	rig_run(&g, &r, 1);
	assert_int_equal(r->result, 0);
	assert_int_equal(rig_one(&g, VIO_IO_READ, DISK - 4096, 4096), 0);
	assert_true(g.mem[0] == 0 && g.mem[4095] == 0);
	rig_close(&g);
	assert_int_equal(stat(path, &st), 0);
	unlink(path);
	rig_stop(&g);
	return st.st_blocks;
}

static void zeroes_keep_their_space_or_give_it_back_as_the_guest_said(void **state)
{
	(void)state;
	for (unsigned written = 0; written < 2; written++) {
		assert_true(blocks_after_zero(written, false) >= (long)(DISK / 512));
		assert_true(blocks_after_zero(written, true) <
			    64); /* at most what describes the file */
	}
}

static void zeroes_behind_the_end_of_a_file_cut_short_are_no_success(void **state)
{
	struct rig g;
	struct vio_io *r;
	char path[100];

	(void)state;
	rig_start(&g);
	image(&g, path, sizeof(path), DISK);
	rig_open(&g, "file,path=%s", path);
	assert_int_equal(truncate(path, DISK / 2), 0);
	for (unsigned unmap = 0; unmap < 2; unmap++) {
		r = rig_req(&g, 0, VIO_IO_ZERO, DISK / 2 - 4096, 8192, 0);
		r->unmap = unmap;
		rig_run(&g, &r, 1);
		assert_int_equal(r->result, -EIO);
		assert_int_equal(rig_one(&g, VIO_IO_READ, DISK / 2, 4096), -EIO);
		r = rig_req(&g, 0, VIO_IO_ZERO, 0, 8192, 0);
		r->unmap = unmap;
		rig_run(&g, &r, 1);
		assert_int_equal(r->result, 0);
	}
	unlink(path);
	rig_stop(&g);
}

static void a_discarded_range_gives_its_space_back(void **state)
{
	struct rig g;
	struct stat before, after;
	char path[100];

	(void)state;
	rig_start(&g);
	image(&g, path, sizeof(path), DISK);
	rig_open(&g, "file,path=%s", path);
	assert_true(g.be->can_discard);
	memset(g.mem, 1, VIO_MAX_DATA);
	for (uint64_t off = 0; off < DISK; off += VIO_MAX_DATA)
		assert_int_equal(rig_one(&g, VIO_IO_WRITE, off, VIO_MAX_DATA), 0);
	assert_int_equal(rig_one(&g, VIO_IO_FLUSH, 0, 0), 0);
	assert_int_equal(stat(path, &before), 0);
	assert_int_equal(rig_one(&g, VIO_IO_DISCARD, 0, DISK / 2), 0);
	assert_int_equal(rig_one(&g, VIO_IO_FLUSH, 0, 0), 0);
	assert_int_equal(stat(path, &after), 0);
	assert_true(after.st_blocks < before.st_blocks);
	assert_true(after.st_size == DISK);
	assert_int_equal(rig_one(&g, VIO_IO_READ, DISK / 2, 512), 0);
	assert_int_equal(g.mem[0], 1);
	unlink(path);
	rig_stop(&g);
}

static void the_first_and_last_blocks_are_reached(void **state)
{
	struct rig g;
	char path[100];

	(void)state;
	rig_start(&g);
	image(&g, path, sizeof(path), DISK + 512 * 3 + 100);
	rig_open(&g, "file,path=%s,direct=off", path);
	assert_true(g.be->size == DISK + 512 * 3);
	assert_non_null(strstr(g.be->what, "last 100 bytes left out"));
	memset(g.mem, 0xab, 512);
	assert_int_equal(rig_one(&g, VIO_IO_WRITE, 0, 512), 0);
	assert_int_equal(rig_one(&g, VIO_IO_WRITE, g.be->size - 512, 512), 0);
	memset(g.mem, 0, 1024);
	assert_int_equal(rig_one(&g, VIO_IO_READ, g.be->size - 1024, 1024), 0);
	assert_true(g.mem[511] == 0 && g.mem[512] == 0xab && g.mem[1023] == 0xab);
	assert_int_equal(rig_one(&g, VIO_IO_DISCARD, g.be->size - 512, 512), 0);
	assert_int_equal(rig_one(&g, VIO_IO_READ, g.be->size - 512, 512), 0);
	assert_int_equal(g.mem[0], 0);
	unlink(path);
	rig_stop(&g);
}

static void two_queues_share_one_file(void **state)
{
	struct rig g;
	struct vio_backend_queue *first, *second;
	struct vio_err err;
	char path[100];

	(void)state;
	rig_start(&g);
	image(&g, path, sizeof(path), DISK);
	rig_open(&g, "file,path=%s", path);
	first = g.bq;
	assert_int_equal(g.be->ops->queue_open(g.be, 1, &second, &err), 0);
	for (unsigned i = 0; i < 16; i++) {
		memset(g.mem, (int)i + 1, 4096);
		g.bq = first;
		assert_int_equal(rig_one(&g, VIO_IO_WRITE, i * 4096, 4096), 0);
		memset(g.mem, 0, 4096);
		g.bq = second;
		assert_int_equal(rig_one(&g, VIO_IO_READ, i * 4096, 4096), 0);
		assert_true(g.mem[0] == i + 1 && g.mem[4095] == i + 1);
	}
	g.be->ops->queue_close(second);
	g.bq = first;
	assert_int_equal(g.be->ops->queue_open(g.be, 0, &second, &err), -EINVAL);
	unlink(path);
	rig_stop(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(page_cache_equals_a_shadow),
		cmocka_unit_test(page_cache_with_fixed_buffers_equals_a_shadow),
		cmocka_unit_test(direct_equals_a_shadow),
		cmocka_unit_test(direct_with_fixed_buffers_equals_a_shadow),
		cmocka_unit_test(direct_from_memory_that_lies_askew_equals_a_shadow),
		cmocka_unit_test(more_askew_requests_than_aligned_buffers_all_come_back),
		cmocka_unit_test(only_what_lies_in_one_window_goes_through_a_fixed_buffer),
		cmocka_unit_test(a_window_larger_than_a_fixed_buffer_is_cut),
		cmocka_unit_test(a_window_that_cannot_be_registered_costs_speed_only),
		cmocka_unit_test(a_limit_on_pinned_memory_costs_speed_only),
		cmocka_unit_test(zeroes_are_zeroes_in_each_way_to_make_them),
		cmocka_unit_test(zeroes_keep_their_space_or_give_it_back_as_the_guest_said),
		cmocka_unit_test(zeroes_behind_the_end_of_a_file_cut_short_are_no_success),
		cmocka_unit_test(a_discarded_range_gives_its_space_back),
		cmocka_unit_test(the_first_and_last_blocks_are_reached),
		cmocka_unit_test(two_queues_share_one_file),
	};
	int rc;

	rc = cmocka_run_group_tests(tests, NULL, NULL);
	rig_sweep();
	return rc;
}
