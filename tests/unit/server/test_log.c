/* SPDX-License-Identifier: BSD-3-Clause */
/* Messages of threads that must not wait, with readers who read, who don't, and who come back. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/log.h"

#define SECOND 1000000000ull

struct pipe {
	int r, w;
	struct vio_log *log;
	char *text; /* what has been read */
	size_t n;
};

static void open_log(struct pipe *p)
{
	struct vio_err err = {""};
	int fd[2];

	assert_int_equal(pipe(fd), 0);
	*p = (struct pipe){.r = fd[0], .w = fd[1]};
	p->text = calloc(1, 1 << 20);
	assert_non_null(p->text);
	assert_int_equal(vio_log_start(p->w, &p->log, &err), 0);
}

/* Until nobody can write any more. */
static void read_all(struct pipe *p)
{
	ssize_t n;

	close(p->w);
	while ((n = read(p->r, p->text + p->n, (1 << 20) - 1 - p->n)) > 0)
		p->n += (size_t)n;
	close(p->r);
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;

	for (const char *p = text; (p = strstr(p, what)) != NULL; p++)
		n++;
	return n;
}

static void lines_come_whole_and_in_order(void **state)
{
	struct pipe p;
	char want[4096] = "", line[64];
	FILE *f;

	(void)state;
	open_log(&p);
	for (unsigned i = 0; i < 100; i++) {
		snprintf(line, sizeof(line), "line %u", i);
		vio_log_line(p.log, 0, line);
		strcat(strcat(want, line), "\n");
	}
	f = vio_log_stream(p.log);
	assert_non_null(f);
	fprintf(f, "one\ntwo %d\n", 2);
	strcat(want, "one\ntwo 2\n");
	assert_true(vio_log_flush(p.log, 10 * SECOND));
	vio_log_stop(p.log, 10 * SECOND);
	read_all(&p);
	assert_string_equal(p.text, want);
	free(p.text);
}

static void a_line_too_long_is_cut_and_ends_all_the_same(void **state)
{
	struct pipe p;
	char line[2000];

	(void)state;
	open_log(&p);
	memset(line, 'x', sizeof(line) - 1);
	line[sizeof(line) - 1] = '\0';
	vio_log_line(p.log, 0, line);
	vio_log_line(p.log, 0, "next");
	vio_log_stop(p.log, 10 * SECOND);
	read_all(&p);
	assert_int_equal(p.n, VIO_LOG_LINE + strlen("next\n"));
	assert_non_null(strstr(p.text, "x\nnext\n"));
	free(p.text);
}

/* Fill the pipe so that whoever writes to it waits. */
static void block(struct pipe *p)
{
	char dots[4096];

	memset(dots, '.', sizeof(dots));
	assert_int_equal(fcntl(p->w, F_SETFL, O_NONBLOCK), 0);
	while (write(p->w, dots, sizeof(dots)) > 0)
		;
	while (write(p->w, dots, 1) > 0)
		;
	assert_int_equal(fcntl(p->w, F_SETFL, 0), 0);
}

static void nobody_waits_for_a_reader_who_does_not_read(void **state)
{
	struct pipe p;
	char line[64];

	(void)state;
	open_log(&p);
	block(&p);
	/* Were one of these to wait for the pipe, this would never end. */
	for (unsigned i = 0; i < 100000; i++) {
		snprintf(line, sizeof(line), "guest line %u", i);
		vio_log_line(p.log, 1 + i % 3, line);
		if (i % 1000 == 0)
			vio_log_line(p.log, 0, "the program's own");
	}
	assert_false(vio_log_flush(p.log, SECOND / 100));
	/* The reader is back: what had room comes, and how much had none. */
	while (p.n < 65536) {
		ssize_t n = read(p.r, p.text + p.n, 65536 - p.n);

		assert_true(n > 0);
		p.n += (size_t)n;
	}
	assert_true(vio_log_flush(p.log, 10 * SECOND));
	vio_log_stop(p.log, 10 * SECOND);
	read_all(&p);
	assert_non_null(strstr(p.text, "guest line 0\n"));
	assert_non_null(strstr(p.text, "message(s) of one guest or disk were left out"));
	assert_true(count(p.text, "guest line") <= 3 * VIO_LOG_SHARE + 3);
	assert_int_equal(count(p.text, "the program's own"), 100);
	free(p.text);
}

static void a_stop_with_a_blocked_reader_returns(void **state)
{
	struct pipe p;

	(void)state;
	open_log(&p);
	block(&p);
	vio_log_line(p.log, 0, "nobody reads this");
	vio_log_stop(p.log, SECOND / 100);
	/* Let the thread go, so that it is not a leak of this test's; the pipe is its own until then. */
	while (!strstr(p.text, "nobody reads this\n")) {
		ssize_t n = read(p.r, p.text + p.n, (1 << 20) - 1 - p.n);

		assert_true(n > 0);
		p.n += (size_t)n;
	}
	close(p.r);
	free(p.text);
}

static void one_that_is_loud_hides_nobody(void **state)
{
	struct pipe p;

	(void)state;
	open_log(&p);
	for (unsigned i = 0; i < 1000; i++)
		vio_log_line(p.log, 1, "loud");
	vio_log_line(p.log, 2, "quiet");
	vio_log_line(p.log, 3, "quiet too");
	vio_log_stop(p.log, 10 * SECOND);
	read_all(&p);
	assert_int_equal(count(p.text, "quiet"), 2);
	assert_true(count(p.text, "loud\n") <=
		    2 * VIO_LOG_RATE); /* a second may begin in between */
	assert_in_range(count(p.text, "left out"), 1, 2);
	free(p.text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_come_whole_and_in_order),
		cmocka_unit_test(a_line_too_long_is_cut_and_ends_all_the_same),
		cmocka_unit_test(nobody_waits_for_a_reader_who_does_not_read),
		cmocka_unit_test(one_that_is_loud_hides_nobody),
		cmocka_unit_test(a_stop_with_a_blocked_reader_returns),
	};

	return cmocka_run_group_tests_name("server/log", tests, NULL, NULL);
}
