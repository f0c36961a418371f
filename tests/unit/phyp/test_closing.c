/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a closed connection still lets through: nothing. H_FREE_CRQ of a client's end is not done before the server's calls that
 * had begun are over, also when the server stands still in one.
 * Usage: test_phyp_closing PHYPD; executed again as "test_phyp_closing server SOCKET" for the server that copies without end.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "vio/cycles.h"
#include "world.h"

#define BUF         (4 * MIB) /* in both ends, mapped at that offset of their windows */
#define PATIENCE_NS 30000000000ull

static const char *phypd_path;

static int64_t to_guest(struct world *w, struct phyp_vcpu *v)
{
	return h_copy_rdma(v, PAGE, w->s.u->liobn, at(&w->s, BUF), w->s.u->remote_liobn,
			   ioba_add(w->s.u->remote_window, BUF));
}

static void up(struct world *w)
{
	connect_ends(w);
	map_tces(&w->s, BUF, BUF, PAGE, TCE_READ | TCE_WRITE);
	map_tces(&w->g, BUF, BUF, PAGE, TCE_READ | TCE_WRITE);
	memset(mem(&w->s, BUF), 's', PAGE);
	assert_int_equal(to_guest(w, w->s.v), H_SUCCESS);
}

static void
a_guests_queue_is_not_free_while_a_servers_copy_that_began_before_is_inside(void **state)
{
	struct world *w = *state;

	up(w);
	hv_dma_begin(w->s.v); /* as if the server's thread stood still in it */
	assert_int_equal(h_free_crq(w->g.v, w->g.u->unit), H_BUSY);
	assert_int_equal(h_free_crq(w->g.v, w->g.u->unit), H_BUSY);
	expect_event(&w->s, CRQ_XPORT_PARTNER_DEREGISTERED); /* it is told all the same, once */
	expect_empty(&w->s);
	hv_dma_end(w->s.v);
	assert_int_equal(h_free_crq(w->g.v, w->g.u->unit), H_SUCCESS);
}

static void a_copy_that_begins_after_the_queue_was_closed_keeps_it_from_nothing(void **state)
{
	struct world *w = *state;

	up(w);
	hv_dma_begin(w->s.v);
	assert_int_equal(h_free_crq(w->g.v, w->g.u->unit), H_BUSY);
	hv_dma_end(w->s.v);
	/* The next one finds it closed. */
	assert_int_equal(to_guest(w, w->s.v), H_DEST_PARM);
	assert_int_equal(h_free_crq(w->g.v, w->g.u->unit), H_SUCCESS);
}

static void a_servers_queue_is_free_at_once_because_its_guest_copies_nothing(void **state)
{
	struct world *w = *state;

	up(w);
	hv_dma_begin(w->g.v);
	assert_int_equal(h_free_crq(w->s.v, w->s.u->unit), H_SUCCESS);
	hv_dma_end(w->g.v);
}

static void a_dead_servers_copy_keeps_no_queue(void **state)
{
	struct world *w = *state;

	up(w);
	hv_dma_begin(w->s.v);
	phyp_local_kill(w->m, "vios");
	assert_int_equal(h_free_crq(w->g.v, w->g.u->unit), H_SUCCESS);
	hv_dma_end(w->s.v);
}

/* ------------------------------------------------------------------------------- under load ---- */

struct load {
	struct world *w;
	struct phyp_vcpu *v;
	uint32_t stop;
	uint64_t done, refused;
};

/* The server writes a page of the guest's as fast as it can. */
static void *write_on(void *arg)
{
	struct load *l = arg;

	while (!vio_load_relaxed(&l->stop)) {
		int64_t rc = to_guest(l->w, l->v);

		vio_counter_add(&l->done, rc == H_SUCCESS);
		vio_counter_add(&l->refused, rc != H_SUCCESS);
	}
	return NULL;
}

/* How the guest makes its memory its own again, and how it comes back. */
struct way {
	int64_t (*out)(struct world *w);
	int64_t (*back)(struct world *w);
};

static int64_t crq_again(struct world *w)
{
	return crq_up(&w->g, 1);
}

static int64_t free_it(struct world *w)
{
	return h_free_crq(w->g.v, w->g.u->unit);
}

static int64_t reset(struct world *w)
{
	return h_set_pe_state(w->g.v, w->g.u->unit, PE_RESET);
}

static int64_t thaw(struct world *w)
{
	assert_int_equal(h_set_pe_state(w->g.v, w->g.u->unit, PE_NORMAL), H_SUCCESS);
	return crq_again(w);
}

static const struct way by_free = {free_it, crq_again}, by_reset = {reset, thaw};

static void until_success(struct world *w, int64_t (*call)(struct world *w))
{
	int64_t rc;

	while ((rc = call(w)) != H_SUCCESS) {
		assert_true(rc == H_PARTIAL || phyp_rc_busy(rc));
		sched_yield();
	}
}

static void nothing_of_before_is_written(void **state, const struct way *way, enum phyp_alias kind)
{
	struct world *w = *state;
	struct load l = {.w = w};
	pthread_t t;

	up(w);
	if (kind != PHYP_ALIAS_TRANSIENT)
		assert_int_equal(phyp_alias_set(w->s.part, w->s.u->unit, kind, NULL), 0);
	assert_int_equal(phyp_vcpu_create(w->s.part, &l.v, NULL), 0);
	assert_int_equal(pthread_create(&t, NULL, write_on, &l), 0);
	for (unsigned round = 0; round < 100; round++) {
		uint64_t done = vio_load_relaxed(&l.done), refused;

		while (vio_load_relaxed(&l.done) == done)
			sched_yield();
		until_success(w, way->out);
		memset(mem(&w->g, BUF), 'g', PAGE);
		refused = vio_load_relaxed(&l.refused);
		while (vio_load_relaxed(&l.refused) < refused + 3)
			sched_yield();
		for (unsigned i = 0; i < PAGE; i++)
			assert_int_equal(mem(&w->g, BUF)[i], 'g');
		until_success(w, way->back);
	}
	vio_store_relaxed(&l.stop, 1u);
	pthread_join(t, NULL);
	phyp_vcpu_destroy(l.v);
}

static void after_a_reset_nothing_of_before_is_written_by_standing_alias(void **state)
{
	nothing_of_before_is_written(state, &by_reset, PHYP_ALIAS_RDMA);
}

static void after_a_reset_nothing_of_before_is_written_page_by_page(void **state)
{
	nothing_of_before_is_written(state, &by_reset, PHYP_ALIAS_TRANSIENT);
}

static void after_a_free_nothing_of_before_is_written_by_standing_alias(void **state)
{
	nothing_of_before_is_written(state, &by_free, PHYP_ALIAS_RDMA);
}

static void after_a_free_nothing_of_before_is_written_page_by_page(void **state)
{
	nothing_of_before_is_written(state, &by_free, PHYP_ALIAS_TRANSIENT);
}

/* --------------------------------------------------------------------------- real processes ---- */

/* The server: copies its memory over the guest's whenever it may, until it is killed. */
static int server_main(const char *socket)
{
	struct end e = {0};
	struct vio_err err = {{0}};

	if (phyp_connect(socket, "vios", &e.part, &err) || phyp_vcpu_create(e.part, &e.v, &err)) {
		fprintf(stderr, "server: %s\n", err.msg);
		return 1;
	}
	e.u = phyp_unit(e.part, 0);
	map_tces(&e, BUF, BUF, H_COPY_RDMA_MAX, TCE_READ | TCE_WRITE);
	if (crq_up(&e, 1) != H_CLOSED || phyp_alias_set(e.part, e.u->unit, PHYP_ALIAS_RDMA, &err))
		return 1;
	printf("0\n");
	fflush(stdout);
	for (uint8_t round = 0;; round++) {
		memset(mem(&e, BUF), round, H_COPY_RDMA_MAX);
		for (unsigned i = 0; i < 64; i++)
			h_copy_rdma(e.v, H_COPY_RDMA_MAX, e.u->liobn, at(&e, BUF),
				    e.u->remote_liobn, ioba_add(e.u->remote_window, BUF));
	}
}

static void await(volatile uint8_t *byte, uint8_t other_than)
{
	uint64_t end = vio_now_ns() + PATIENCE_NS;

	while (vio_load_relaxed(byte) == other_than) {
		assert_true(vio_now_ns() < end);
		sched_yield();
	}
}

/* Registered anew, and the server has found it. */
static void connect_guest(struct end *g, uint8_t *byte)
{
	uint8_t before = vio_load_relaxed(byte);
	int64_t rc;

	while (phyp_rc_busy(rc = crq_up(g, 1)))
		sched_yield();
	assert_int_equal(rc, H_SUCCESS);
	await(byte, before);
}

static void free_queue(struct end *g)
{
	uint64_t end = vio_now_ns() + PATIENCE_NS;

	while (phyp_rc_busy(h_free_crq(g->v, g->u->unit))) {
		assert_true(vio_now_ns() < end);
		sched_yield();
	}
}

static void stop_child(struct child *c)
{
	int status;

	kill(c->pid, SIGSTOP);
	assert_int_equal(waitpid(c->pid, &status, WUNTRACED), c->pid);
	assert_true(WIFSTOPPED(status));
}

static void stop_in_copies(struct child *server, struct end *g)
{
	uint8_t *buf = mem(g, BUF);

	for (unsigned round = 0; round < 20; round++) {
		connect_guest(g, buf);
		stop_child(server);
		/* Whether it stands inside a copy can't be known: not free until it says so. */
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(h_free_crq(g->v, g->u->unit), H_BUSY);
		kill(server->pid, SIGCONT);
		free_queue(g);
		memset(buf, 'g', H_COPY_RDMA_MAX);
		usleep(2000);
		for (unsigned i = 0; i < H_COPY_RDMA_MAX; i++)
			assert_int_equal(buf[i], 'g');
	}
	/* Nor for ever: a server that has ended is inside nothing. */
	connect_guest(g, buf);
	stop_child(server);
	assert_int_equal(h_free_crq(g->v, g->u->unit), H_BUSY);
	child_kill(server, SIGKILL);
	free_queue(g);
}

static void
a_server_that_was_stopped_in_a_copy_does_not_end_it_in_memory_that_was_taken_back(void **state)
{
	char dir[] = "/tmp/vio-closing-XXXXXX", sock[64], log[64], line;
	char *phypd_argv[] = {(char *)(uintptr_t)phypd_path,
			      (char *)(uintptr_t) "--socket",
			      sock,
			      (char *)(uintptr_t) "--pages",
			      (char *)(uintptr_t) "4k",
			      (char *)(uintptr_t) "--server-memory",
			      (char *)(uintptr_t) "32",
			      (char *)(uintptr_t) "--guest-memory",
			      (char *)(uintptr_t) "32",
			      NULL};
	char *server_argv[] = {(char *)(uintptr_t) "/proc/self/exe", (char *)(uintptr_t) "server",
			       sock, NULL};
	struct child phypd, server;
	struct vio_err err = {{0}};
	struct end g = {0};

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(sock, sizeof(sock), "%s/s", dir);
	snprintf(log, sizeof(log), "%s/log", dir);
	phypd = child_start(phypd_argv, false, log);
	server = child_start(server_argv, true, log);
	assert_int_equal(read(server.from, &line, 1), 1); /* it is connected: so phypd listens */
	if (phyp_connect(sock, "guest0", &g.part, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(phyp_vcpu_create(g.part, &g.v, &err), 0);
	g.u = phyp_unit(g.part, 0);
	map_tces(&g, BUF, BUF, H_COPY_RDMA_MAX, TCE_READ | TCE_WRITE);
	stop_in_copies(&server, &g);
	end_close(&g);
	child_kill(&phypd, SIGTERM);
	unlink(log);
	rmdir(dir);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(
			a_guests_queue_is_not_free_while_a_servers_copy_that_began_before_is_inside),
		WORLD_TEST(a_copy_that_begins_after_the_queue_was_closed_keeps_it_from_nothing),
		WORLD_TEST(a_servers_queue_is_free_at_once_because_its_guest_copies_nothing),
		WORLD_TEST(a_dead_servers_copy_keeps_no_queue),
		WORLD_TEST(after_a_free_nothing_of_before_is_written_by_standing_alias),
		WORLD_TEST(after_a_free_nothing_of_before_is_written_page_by_page),
		WORLD_TEST(after_a_reset_nothing_of_before_is_written_by_standing_alias),
		WORLD_TEST(after_a_reset_nothing_of_before_is_written_page_by_page),
		cmocka_unit_test(
			a_server_that_was_stopped_in_a_copy_does_not_end_it_in_memory_that_was_taken_back),
	};
	int rc;

	if (argc == 3 && !strcmp(argv[1], "server"))
		return server_main(argv[2]);
	rc = child_begin(argc, argv, &phypd_path);
	return rc < 0 ? cmocka_run_group_tests(tests, NULL, NULL) : rc;
}
