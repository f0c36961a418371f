/* SPDX-License-Identifier: BSD-3-Clause */
/* virtio-console, guest, server and the person's socket, in every arm. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "dev_world.h"
#include "guest/dev/console/console.h"
#include "vio/cycles.h"

#define PATIENCE_NS 30000000000ull
#define MANY        (300u << 10) /* more than all rings and buffers on the way hold */

struct console_world {
	struct dev_world w;
	struct vio_console *c;
	char spec[160];
	uint64_t end; /* of our patience, ns */
};

static void patient(struct console_world *k, const char *what)
{
	if (vio_now_ns() > k->end)
		fail_msg("waited in vain for %s", what);
}

static void up(struct console_world *k, const char *arm, const char *more)
{
	const struct vio_buffered_cfg cfg = dw_cfg(arm);
	struct vio_err err = {""};

	dw_start(&k->w, &vio_kind_console, NULL);
	snprintf(k->spec, sizeof(k->spec), "socket=%s%s", k->w.path, more);
	dw_server_again(&k->w, k->spec);
	k->end = vio_now_ns() + PATIENCE_NS;
	if (vio_console_open(k->w.gp, &k->w.mem, &cfg, &k->c, &err))
		fail_msg("%s: %s", arm, err.msg);
}

static void down(struct console_world *k)
{
	vio_console_close(k->c);
	dw_stop(&k->w);
}

static int person(const struct console_world *k)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	memcpy(to.sun_path, k->w.path, strlen(k->w.path));
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

/* And is let in: what the guest writes before is for nobody, and may be dropped. */
static int person_let_in(struct console_world *k)
{
	int fd = person(k);

	while (!dw_shown(&k->w, "connected"))
		patient(k, "being let in");
	return fd;
}

static uint8_t pattern(uint32_t at)
{
	return (uint8_t)((at * 2654435761u) >> 16);
}

/* Both directions at once, `out` bytes from the guest and `in` to it, each checked. */
static void carry(struct console_world *k, int fd, uint32_t out, uint32_t in)
{
	uint32_t written = 0, printed = 0, typed = 0, read_in = 0;
	uint8_t b[3000];
	int n;

	while (printed < out || read_in < in) {
		for (uint32_t i = 0; i < sizeof(b); i++)
			b[i] = pattern(written + i);
		n = vio_console_write(k->c, b,
				      out - written < sizeof(b) ? out - written : sizeof(b));
		assert_true(n >= 0);
		written += (uint32_t)n;
		n = (int)read(fd, b, sizeof(b));
		assert_true(n > 0 || errno == EAGAIN);
		for (int i = 0; i < n; i++)
			if (b[i] != pattern(printed + (uint32_t)i))
				fail_msg("byte %u of the guest's is wrong", printed + (uint32_t)i);
		printed += n > 0 ? (uint32_t)n : 0;
		for (uint32_t i = 0; i < sizeof(b); i++)
			b[i] = pattern(typed + i);
		n = in > typed ? (int)write(fd, b, in - typed < sizeof(b) ? in - typed : sizeof(b))
			       : 0;
		typed += n > 0 ? (uint32_t)n : 0;
		n = vio_console_read(k->c, b, sizeof(b));
		assert_true(n >= 0);
		for (int i = 0; i < n; i++)
			if (b[i] != pattern(read_in + (uint32_t)i))
				fail_msg("byte %u of the person's is wrong", read_in + (uint32_t)i);
		read_in += (uint32_t)n;
		if (n == 0)
			vio_console_idle(k->c, NULL, 0, 200000);
		patient(k, "bytes in both directions");
	}
}

static void bytes_go_both_ways_in_every_arm_and_none_is_lost(void **state)
{
	struct console_world k;
	int fd;

	(void)state;
	for (unsigned i = 0; i < dw_n_arms; i++) {
		up(&k, dw_arms[i], "");
		fd = person_let_in(&k);
		carry(&k, fd, MANY, MANY);
		assert_int_equal(dw_shown(&k.w, "bytes_lost"), 0);
		close(fd);
		down(&k);
	}
}

static void a_person_who_does_not_read_stops_the_guest_and_loses_nothing(void **state)
{
	struct console_world k;
	uint32_t written = 0, quiet = 0, printed = 0;
	uint8_t b[1000];
	int fd, n;

	(void)state;
	up(&k, "zero-copy", "");
	fd = person_let_in(&k);
	/* Until nothing goes any more; then all of it is read. */
	while (quiet < 200) {
		for (uint32_t i = 0; i < sizeof(b); i++)
			b[i] = pattern(written + i);
		n = vio_console_write(k.c, b, sizeof(b));
		assert_true(n >= 0);
		written += (uint32_t)n;
		quiet = n ? 0 : quiet + 1;
		if (n == 0)
			usleep(1000);
		assert_true(written < 16u << 20);
	}
	while (printed < written) {
		n = (int)read(fd, b, sizeof(b));
		assert_true(n > 0 || (n < 0 && errno == EAGAIN));
		for (int i = 0; i < n; i++)
			if (b[i] != pattern(printed + (uint32_t)i))
				fail_msg("byte %u of %u is wrong", printed + (uint32_t)i, written);
		printed += n > 0 ? (uint32_t)n : 0;
		(void)vio_console_unsent(k.c);
		patient(&k, "what the guest wrote");
	}
	assert_int_equal(dw_shown(&k.w, "bytes_lost"), 0);
	close(fd);
	down(&k);
}

static void without_a_person_the_guest_goes_on_and_the_newest_is_kept(void **state)
{
	struct console_world k;
	uint8_t b[4096];
	uint32_t written = 0, kept = 0, lost;
	int fd, n;

	(void)state;
	up(&k, "zero-copy", "");
	while (written < MANY) {
		for (uint32_t i = 0; i < sizeof(b); i++)
			b[i] = pattern(written + i);
		n = vio_console_write(k.c, b, sizeof(b));
		assert_true(n >= 0);
		written += (uint32_t)n;
		if (n == 0)
			vio_console_idle(k.c, NULL, 0, 1000000);
		patient(&k, "a guest that nobody looks at");
	}
	while (vio_console_unsent(k.c))
		patient(&k, "its last buffers");
	fd = person(&k);
	lost = (uint32_t)dw_shown(&k.w, "bytes_lost");
	assert_in_range(lost, MANY - 65536, MANY - 65536 / 2);
	while (lost + kept < written) {
		n = (int)read(fd, b, sizeof(b));
		assert_true(n > 0 || errno == EAGAIN);
		for (int i = 0; i < n; i++)
			assert_int_equal(b[i], pattern(lost + kept + (uint32_t)i));
		kept += n > 0 ? (uint32_t)n : 0;
		patient(&k, "what was kept");
	}
	close(fd);
	down(&k);
}

static void persons_come_and_go_one_at_a_time(void **state)
{
	struct console_world k;
	char b[100] = "";
	int fd, second, n;

	(void)state;
	up(&k, "copy", "");
	for (unsigned i = 0; i < 3; i++) {
		fd = person_let_in(&k);
		carry(&k, fd, 5000, 5000);
		second = person(&k);
		while ((n = (int)read(second, b, sizeof(b) - 1)) < 0)
			patient(&k, "the second to be refused");
		assert_non_null(strstr(b, "somebody is connected"));
		close(second);
		carry(&k, fd, 5000, 5000);
		close(fd);
		while (dw_shown(&k.w, "connected"))
			patient(&k, "its hanging up");
	}
	assert_int_equal(dw_shown(&k.w, "connections"), 3);
	assert_int_equal(dw_shown(&k.w, "refused"), 3);
	down(&k);
}

static void what_was_typed_before_hanging_up_still_arrives(void **state)
{
	struct console_world k;
	uint8_t b[4096];
	uint32_t typed = 0, got = 0;
	int fd, n;

	(void)state;
	up(&k, "zero-copy", "");
	fd = person(&k);
	/* More than the ring holds: some of it is still in the socket when it is closed. */
	for (unsigned quiet = 0; quiet < 50;) {
		for (uint32_t i = 0; i < sizeof(b); i++)
			b[i] = pattern(typed + i);
		n = (int)write(fd, b, sizeof(b));
		typed += n > 0 ? (uint32_t)n : 0;
		quiet = n > 0 ? 0 : quiet + 1;
		if (n < 0)
			usleep(1000);
	}
	close(fd);
	assert_true(typed > 65536);
	while (got < typed) {
		n = vio_console_read(k.c, b, sizeof(b));
		assert_true(n >= 0);
		for (int i = 0; i < n; i++)
			assert_int_equal(b[i], pattern(got + (uint32_t)i));
		got += (uint32_t)n;
		patient(&k, "what was typed");
	}
	down(&k);
}

static void a_restarted_server_gets_what_was_not_taken(void **state)
{
	struct console_world k;
	int fd;

	(void)state;
	for (unsigned i = 0; i < dw_n_arms; i++) {
		up(&k, dw_arms[i], "");
		fd = person_let_in(&k);
		carry(&k, fd, 3000, 3000);
		/* What was taken, and is not known to be, is sent again: the person would see it twice. */
		while (vio_console_unsent(k.c) > 0)
			patient(&k, "that all is known to be taken");
		close(fd);
		dw_server_again(&k.w, k.spec);
		while (!vio_console_room(k.c))
			patient(&k, "room");
		fd = person_let_in(&k);
		carry(&k, fd, MANY, MANY);
		close(fd);
		down(&k);
	}
}

static void size_is_offered_when_it_is_given(void **state)
{
	struct console_world k;
	uint16_t cols = 0, rows = 0;

	(void)state;
	up(&k, "zero-copy", "");
	assert_false(vio_console_size(k.c, &cols, &rows));
	down(&k);
	up(&k, "copy", ",size=132x43");
	assert_true(vio_console_size(k.c, &cols, &rows));
	assert_int_equal(cols, 132);
	assert_int_equal(rows, 43);
	down(&k);
}

static void a_terminal_carries_it_too(void **state)
{
	struct console_world k;
	const struct vio_buffered_cfg cfg = dw_cfg("zero-copy");
	struct vio_err err = {""};
	int fd;

	(void)state;
	dw_start(&k.w, &vio_kind_console, NULL);
	snprintf(k.spec, sizeof(k.spec), "pty=%s", k.w.path);
	dw_server_again(&k.w, k.spec);
	k.end = vio_now_ns() + PATIENCE_NS;
	assert_int_equal(vio_console_open(k.w.gp, &k.w.mem, &cfg, &k.c, &err), 0);
	for (unsigned i = 0; i < 2; i++) {
		fd = open(k.w.path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
		assert_true(fd >= 0);
		carry(&k, fd, 50000, 50000);
		close(fd);
		while (dw_shown(&k.w, "connected"))
			patient(&k, "its hanging up");
	}
	down(&k);
	assert_int_equal(access(k.w.path, F_OK), -1);
}

static void a_socket_is_its_owners_and_nobody_elses_is_taken(void **state)
{
	static const char *const bad[] = {"",
					  "size=80x24",
					  "socket=/x,pty=/y",
					  "socket=",
					  "socket=/tmp/x,size=80",
					  "socket=/tmp/x,size=0x24",
					  "socket=/tmp/x,colour=red"};
	const struct vio_dev_env env = {0};
	struct console_world k;
	struct vio_device *dev = NULL;
	struct vio_err err = {""};
	struct stat st;
	char spec[160];
	int fd;

	(void)state;
	up(&k, "zero-copy", "");
	assert_int_equal(stat(k.w.path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(vio_kind_console.open(k.spec, &env, &dev, &err), -EADDRINUSE);
	snprintf(spec, sizeof(spec), "socket=%s/file", k.w.dir);
	fd = open(spec + strlen("socket="), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(vio_kind_console.open(spec, &env, &dev, &err), -EADDRINUSE);
	assert_int_equal(access(spec + strlen("socket="), F_OK), 0); /* and it is still there */
	unlink(spec + strlen("socket="));
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(bad); i++)
		assert_int_equal(vio_kind_console.open(bad[i], &env, &dev, &err), -EINVAL);
	down(&k);
	assert_int_equal(access(k.w.path, F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_go_both_ways_in_every_arm_and_none_is_lost),
		cmocka_unit_test(a_person_who_does_not_read_stops_the_guest_and_loses_nothing),
		cmocka_unit_test(without_a_person_the_guest_goes_on_and_the_newest_is_kept),
		cmocka_unit_test(persons_come_and_go_one_at_a_time),
		cmocka_unit_test(what_was_typed_before_hanging_up_still_arrives),
		cmocka_unit_test(a_restarted_server_gets_what_was_not_taken),
		cmocka_unit_test(size_is_offered_when_it_is_given),
		cmocka_unit_test(a_terminal_carries_it_too),
		cmocka_unit_test(a_socket_is_its_owners_and_nobody_elses_is_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
