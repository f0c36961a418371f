/* SPDX-License-Identifier: BSD-3-Clause */
/* The nbd store when a server still works for a connection of before. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "nbd_test.h"

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

		start_any(s, argv, 10919);
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
	queue(g)->deadline = 0; /* the next try is due */
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
