/* SPDX-License-Identifier: BSD-3-Clause */
/* virtio-9p, guest, server and a 9P server of one file, in every arm. A real one: tests/system/test_devices.py. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "dev_world.h"
#include "guest/dev/9p/p9.h"

#define FILE_LEN 200001u
#define MESSAGE  65536u

enum { TVERSION = 100, TREAD = 116, TWRITE = 118, RLERROR = 7 };

/* The 9P server: one connection at a time, each message answered when it is there. */
struct folder {
	int listener;
	pthread_t thread;
	unsigned sessions; /* atomic */
	bool leave;        /* atomic: hang up at the next message */
	uint8_t file[FILE_LEN], msg[MESSAGE], out[MESSAGE];
};

static uint32_t num(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void set(uint8_t *p, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

/* The answer to f->msg into f->out: its bytes. */
static uint32_t folder_answer(struct folder *f)
{
	const uint8_t *m = f->msg;
	uint32_t at = num(m + 11), n = num(m + 19), len = 20; /* of a read and a write */

	memset(f->out, 0, 32);
	if (m[4] == TVERSION) {
		(void)vio_fetch_add(&f->sessions, 1);
		len = num(m);
		memcpy(f->out, m, len);
	} else if (m[4] == TREAD) {
		n = at >= FILE_LEN ? 0 : n < FILE_LEN - at ? n : FILE_LEN - at;
		n = n > 1000 ? n - n % 7 : n; /* fewer than asked for, now and then */
		memcpy(f->out + 11, f->file + at, n);
		set(f->out + 7, n);
		len = 11 + n;
	} else if (m[4] == TWRITE && at + n <= FILE_LEN) {
		memcpy(f->file + at, m + 23, n);
		set(f->out + 7, n);
		len = 11;
	} else if (m[4] == TWRITE) {
		set(f->out + 7, ENOSPC);
		len = 11;
	}
	set(f->out, len);
	f->out[4] = m[4] == TWRITE && at + n > FILE_LEN ? RLERROR : (uint8_t)(m[4] + 1);
	memcpy(f->out + 5, m + 5, 2);
	return len;
}

static bool folder_take(int fd, uint8_t *to, size_t len)
{
	return len == 0 || recv(fd, to, len, MSG_WAITALL) == (ssize_t)len;
}

static void *folder_main(void *arg)
{
	struct folder *f = arg;
	int fd;

	while ((fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		while (folder_take(fd, f->msg, 7) && !vio_load_relaxed(&f->leave) &&
		       folder_take(fd, f->msg + 7, num(f->msg) - 7)) {
			const uint32_t n = folder_answer(f);

			if (send(fd, f->out, n, MSG_NOSIGNAL) != (ssize_t)n)
				break;
		}
		vio_store_relaxed(&f->leave, false);
		close(fd);
	}
	return NULL;
}

struct nine {
	struct dev_world w;
	struct folder *f;
	struct vio_9p_fs *fs;
	char spec[160];
};

static void up(struct nine *t, const char *arm)
{
	const struct vio_buffered_cfg cfg = dw_cfg(arm);
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	struct vio_err err = {""};

	dw_start(&t->w, &vio_kind_9p, NULL);
	t->f = calloc(1, sizeof(*t->f));
	assert_non_null(t->f);
	strcpy(to.sun_path, t->w.path);
	t->f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(t->f->listener, (struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(listen(t->f->listener, 4), 0);
	assert_int_equal(pthread_create(&t->f->thread, NULL, folder_main, t->f), 0);
	snprintf(t->spec, sizeof(t->spec), "tag=share,socket=%s", t->w.path);
	dw_server_again(&t->w, t->spec);
	if (vio_9p_open(t->w.gp, &t->w.mem, &cfg, &t->fs, &err))
		fail_msg("%s: %s", arm, err.msg);
}

static void down(struct nine *t)
{
	vio_9p_close(t->fs);
	dw_server_again(&t->w, t->spec); /* so that nobody holds the connection */
	shutdown(t->f->listener, SHUT_RDWR);
	pthread_join(t->f->thread, NULL);
	close(t->f->listener);
	unlink(t->w.path);
	free(t->f);
	dw_stop(&t->w);
}

static uint8_t pattern(uint32_t at, uint32_t salt)
{
	return (uint8_t)(((at + salt) * 2654435761u) >> 16);
}

/* The file written and read whole, several messages out at once. */
static void carry(struct nine *t, uint32_t salt)
{
	uint8_t *b = malloc(FILE_LEN + 1);

	assert_non_null(b);
	for (uint32_t i = 0; i < FILE_LEN; i++)
		b[i] = pattern(i, salt);
	assert_int_equal(vio_9p_write(t->fs, 1, 0, b, FILE_LEN), FILE_LEN);
	memset(b, 0, FILE_LEN);
	/* Short answers end a read early, as the end of the file does. */
	for (uint32_t at = 0, n; at < FILE_LEN; at += n) {
		int64_t got = vio_9p_read(t->fs, 1, at, b, FILE_LEN + 1 - at);

		assert_true(got > 0);
		n = (uint32_t)got;
		for (uint32_t i = 0; i < n; i++)
			if (b[i] != pattern(at + i, salt))
				fail_msg("byte %u is wrong", at + i);
	}
	assert_int_equal(vio_9p_read(t->fs, 1, FILE_LEN, b, 100), 0);
	assert_int_equal(vio_9p_write(t->fs, 1, FILE_LEN - 10, b, 100), -ENOSPC);
	free(b);
}

static void files_are_written_and_read_whole_in_every_arm(void **state)
{
	struct nine t;

	(void)state;
	for (unsigned i = 0; i < dw_n_arms; i++) {
		up(&t, dw_arms[i]);
		assert_string_equal(t.fs->name, "share");
		assert_int_equal(vio_9p_mount(t.fs, "/srv"), 0);
		assert_int_equal(t.fs->msize, VIO_9P_MESSAGE);
		carry(&t, i);
		down(&t);
	}
}

static void after_the_death_of_either_server_calls_fail_until_it_is_mounted_again(void **state)
{
	static const char *const arms[] = {"copy", "zero-copy", "premapped"};
	struct nine t;

	(void)state;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(arms); i++) {
		up(&t, arms[i]);
		assert_int_equal(vio_9p_clunk(t.fs, 1), -EIO); /* nothing is mounted yet */
		assert_int_equal(vio_9p_mount(t.fs, "/srv"), 0);
		vio_store_relaxed(&t.f->leave, true);
		assert_int_equal(vio_9p_clunk(t.fs, 1), -EIO);
		assert_int_equal(vio_9p_clunk(t.fs, 1), -EIO);
		assert_int_equal(vio_9p_mount(t.fs, "/srv"), 0);
		carry(&t, 1);
		dw_server_again(&t.w, t.spec);
		assert_int_equal(vio_9p_clunk(t.fs, 1), -EIO);
		assert_int_equal(vio_9p_mount(t.fs, "/srv"), 0);
		carry(&t, 2);
		assert_int_equal(vio_load_relaxed(&t.f->sessions), 3);
		down(&t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_are_written_and_read_whole_in_every_arm),
		cmocka_unit_test(
			after_the_death_of_either_server_calls_fail_until_it_is_mounted_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
