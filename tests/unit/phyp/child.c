/* SPDX-License-Identifier: BSD-3-Clause */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "world.h"

struct child child_start(char *const argv[], bool pipes, const char *log)
{
	struct child c = {.to = -1, .from = -1};
	int in[2] = {-1, -1}, out[2] = {-1, -1};

	if (pipes) {
		assert_int_equal(pipe2(in, O_CLOEXEC), 0);
		assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	}
	c.pid = fork();
	assert_true(c.pid >= 0);
	if (c.pid == 0) {
		int fd = log ? open(log, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;

		prctl(PR_SET_PDEATHSIG, SIGKILL); /* nothing survives a failing test */
		if (pipes) {
			dup2(in[0], 0);
			dup2(out[1], 1);
		}
		if (fd >= 0) {
			dup2(fd, 2);
			if (!pipes)
				dup2(fd, 1);
		}
		execv(argv[0], argv);
		_exit(127);
	}
	if (pipes) {
		close(in[0]);
		close(out[1]);
		c.to = in[1];
		c.from = out[0];
	}
	return c;
}

int child_wait(struct child *c)
{
	int status;

	if (c->to >= 0)
		close(c->to);
	assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
	if (c->from >= 0)
		close(c->from);
	c->to = c->from = -1;
	c->pid = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int child_kill(struct child *c, int sig)
{
	kill(c->pid, sig);
	return child_wait(c);
}

long long child_ask(struct child *c, char command)
{
	char line[64];
	size_t n = 0;

	assert_int_equal(write(c->to, &command, 1), 1);
	while (n < sizeof(line) - 1) {
		assert_int_equal(read(c->from, line + n, 1), 1);
		if (line[n++] == '\n')
			break;
	}
	line[n] = 0;
	return strtoll(line, NULL, 10);
}

/* --------------------------------------------------------------------------- the guest's side ---- */

struct guest {
	struct end e;
	uint64_t cookie;
};

static long long guest_connect(struct guest *g, const char *socket, const char *partition)
{
	struct vio_err err = {{0}};
	int64_t rc = phyp_connect(socket, partition, &g->e.part, &err);

	if (rc) {
		fprintf(stderr, "guest: %s\n", err.msg);
		return rc;
	}
	rc = phyp_vcpu_create(g->e.part, &g->e.v, &err);
	if (rc)
		return rc;
	g->e.u = phyp_unit(g->e.part, 0);
	for (uint64_t i = 2 * MIB; i < 6 * MIB; i += PAGE) {
		if (h_put_tce(g->e.v, g->e.u->liobn, at(&g->e, i), i | TCE_READ | TCE_WRITE))
			return -1000;
	}
	if (h_put_tce(g->e.v, g->e.u->liobn, at(&g->e, CRQ_AT), CRQ_AT | TCE_READ | TCE_WRITE))
		return -1001;
	rc = h_reg_crq(g->e.v, g->e.u->unit, at(&g->e, CRQ_AT), PAGE);
	g->e.crq = (struct phyp_crq){.entry = phyp_mem(g->e.part, (struct gla){CRQ_AT}, PAGE),
				     .n = 256};
	if (h_vio_signal(g->e.v, g->e.u->unit, VIO_SIGNAL_ON))
		return -1002;
	return rc;
}

static long long guest_rescind(struct guest *g)
{
	long long partial = 0;
	int64_t rc;

	while ((rc = h_rescind_logical(g->e.v, RESCIND_FORCED, g->cookie)) == H_PARTIAL) {
		partial++;
		sched_yield();
	}
	return rc == H_SUCCESS ? partial : -1;
}

static long long guest_do(struct guest *g, char command, const char *socket, const char *partition)
{
	uint8_t *byte = g->e.part ? phyp_mem(g->e.part, (struct gla){2 * MIB}, 1) : NULL;
	uint64_t hi, lo;
	int rc;

	switch (command) {
	case 'c':
		return guest_connect(g, socket, partition);
	case 'm':
		return vio_load_acquire(byte);
	case 'M':
		vio_store_release(byte, (uint8_t)0x5a);
		return 0;
	case 'g':
		if (h_grant_logical(g->e.v, GRANT_SYSTEM_MEMORY, (struct gla){3 * MIB}, PAGE,
				    g->e.u->unit, &g->cookie))
			return -1;
		return (long long)g->cookie;
	case 'r':
		return guest_rescind(g);
	case 's':
		return h_send_crq(g->e.v, g->e.u->unit, CMD(1), 0);
	case 'w':
		rc = phyp_vcpu_wait(g->e.v, 0, UINT64_MAX);
		phyp_irq_take(g->e.v);
		return rc;
	case 'e':
		return phyp_crq_pop(&g->e.crq, &hi, &lo) ? (long long)(hi >> 48) : 0;
	case 'h': /* as in the middle of a call: with the locks of both queues */
		return hv_pair_lock(g->e.part->seg, hv_own_unit(g->e.part, g->e.u->unit)->u) ? 0
											     : -1;
	case 'a':
		return phyp_alive(g->e.part);
	case 'x':
		end_close(&g->e);
		return 0;
	default:
		return -1;
	}
}

int guest_main(const char *socket, const char *partition)
{
	struct guest g = {.cookie = 0};
	char command;

	while (read(0, &command, 1) == 1 && command != 'q') {
		printf("%lld\n", guest_do(&g, command, socket, partition));
		fflush(stdout);
	}
	end_close(&g.e);
	return 0;
}

int child_begin(int argc, char **argv, const char **phypd)
{
	if (argc == 4 && !strcmp(argv[1], "guest"))
		return guest_main(argv[2], argv[3]);
	if (argc != 2) {
		fprintf(stderr, "usage: %s PHYPD\n", argv[0]);
		return 2;
	}
	*phypd = argv[1];
	signal(SIGPIPE, SIG_IGN);
	return -1;
}
