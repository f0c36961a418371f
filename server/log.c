/* SPDX-License-Identifier: BSD-3-Clause */
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "server/log.h"
#include "vio/thread.h"
#include "vio/types.h"
#include "vio/cycles.h"

struct line {
	uint8_t source;
	uint16_t len;
	char text[VIO_LOG_LINE + 1]; /* with its newline */
};

struct source {
	uint64_t second;  /* of the rate */
	unsigned n;       /* lines in it */
	unsigned waiting; /* in the queue */
	uint64_t left_out;
	uint64_t confessed; /* the second in which that was said last */
};

struct vio_log {
	int fd;
	pthread_t thread;
	/* Everything below. Held for a copy of a line, never while something is written. */
	pthread_mutex_t lock;
	pthread_cond_t more, idle, room;
	bool stop, writing;
	bool orphan;      /* the thread is the last that knows it */
	bool stuck;       /* the reader was waited for in vain; until it takes a line */
	unsigned head, n; /* of line[] */
	struct source source[VIO_LOG_SOURCES];
	FILE *stream;
	struct line *line; /* VIO_LOG_LINES */
};

/* Room for one more of this source? Under lock. */
static bool may(const struct vio_log *log, const struct source *s, unsigned source)
{
	if (log->n == VIO_LOG_LINES)
		return false;
	return source == 0 || (s->waiting < VIO_LOG_SHARE && s->n < VIO_LOG_RATE);
}

/* Under lock, with room. */
static void log_put(struct vio_log *log, unsigned source, const char *text, size_t len)
{
	struct line *l = &log->line[(log->head + log->n++) % VIO_LOG_LINES];

	if (len >= VIO_LOG_LINE)
		len = VIO_LOG_LINE - 1;
	memcpy(l->text, text, len);
	l->text[len++] = '\n';
	l->len = (uint16_t)len;
	l->source = (uint8_t)source;
	log->source[source].waiting++;
}

/* Say how many are missing, once there is room again. Under lock. */
static void confess(struct vio_log *log, unsigned source)
{
	struct source *s = &log->source[source];
	uint64_t second = vio_now_ns() / 1000000000u;
	char text[160];
	int n;

	if (s->left_out == 0 || log->n + 1 >= VIO_LOG_LINES ||
	    (s->confessed == second && !log->stop))
		return;
	s->confessed = second;
	n = snprintf(text, sizeof(text), "vios: %llu message(s) of %s were left out here",
		     (unsigned long long)s->left_out,
		     source == 0 ? "this program" : "one guest or disk");
	s->left_out = 0;
	log_put(log, source, text, (size_t)n);
}

static struct timespec after(uint64_t ns)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	ns += (uint64_t)t.tv_nsec;
	t.tv_sec += (time_t)(ns / 1000000000u);
	t.tv_nsec = (long)(ns % 1000000000u);
	return t;
}

/* The program's own lines wait for a reader who reads. Under lock. */
static void wait_for_room(struct vio_log *log)
{
	struct timespec end = after(VIO_LOG_PATIENCE_NS);

	while (log->n == VIO_LOG_LINES && !log->stuck)
		log->stuck = pthread_cond_timedwait(&log->room, &log->lock, &end) != 0;
}

void vio_log_line(struct vio_log *log, unsigned source, const char *line)
{
	uint64_t second = vio_now_ns() / 1000000000u;
	struct source *s;

	if (!log) {
		fprintf(stderr, "%s\n", line);
		return;
	}
	source = source < VIO_LOG_SOURCES ? source : VIO_LOG_SOURCES - 1;
	s = &log->source[source];
	pthread_mutex_lock(&log->lock);
	if (s->second != second) {
		s->second = second;
		s->n = 0;
	}
	if (source == 0)
		wait_for_room(log);
	if (may(log, s, source)) {
		confess(log, source);
		log_put(log, source, line, strlen(line));
		s->n++;
		pthread_cond_signal(&log->more);
	} else {
		s->left_out++;
	}
	pthread_mutex_unlock(&log->lock);
}

/* All of it, however long that takes. What can't be written at all (no space, no reader) is lost. */
static void write_out(int fd, const char *p, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n > 0) {
			p += n;
			len -= (size_t)n;
		} else if (n < 0 && errno == EAGAIN) {
			struct pollfd f = {.fd = fd, .events = POLLOUT};

			poll(&f, 1, -1); /* somebody made it non-blocking; it is not only ours */
		} else if (n == 0 || errno != EINTR) {
			return;
		}
	}
}

/* Nothing more may come of those who were too loud: say what was left out. Under lock. True: later. */
static bool confess_all(struct vio_log *log)
{
	bool later = false;

	for (unsigned i = 0; i < VIO_LOG_SOURCES; i++) {
		confess(log, i);
		later |= log->source[i].left_out > 0;
	}
	return later;
}

/* Until there is a line, or the end. Under lock. */
static void wait_for_lines(struct vio_log *log)
{
	while (log->n == 0) {
		bool later = confess_all(log);

		if (log->n > 0 || log->stop)
			return;
		pthread_cond_broadcast(&log->idle);
		if (later) {
			struct timespec end = after(1000000000u);

			pthread_cond_timedwait(&log->more, &log->lock, &end);
		} else {
			pthread_cond_wait(&log->more, &log->lock);
		}
	}
}

static void log_release(struct vio_log *log)
{
	pthread_cond_destroy(&log->more);
	pthread_cond_destroy(&log->idle);
	pthread_cond_destroy(&log->room);
	pthread_mutex_destroy(&log->lock);
	free(log->line);
	free(log);
}

static void *log_main(void *arg)
{
	struct vio_log *log = arg;
	struct line one;
	bool orphan;

	pthread_mutex_lock(&log->lock);
	for (;;) {
		wait_for_lines(log);
		if (log->n == 0)
			break;
		one = log->line[log->head];
		log->head = (log->head + 1) % VIO_LOG_LINES;
		log->n--;
		log->source[one.source].waiting--;
		log->writing = true;
		pthread_mutex_unlock(&log->lock);
		write_out(log->fd, one.text, one.len);
		pthread_mutex_lock(&log->lock);
		log->writing = log->stuck = false;
		pthread_cond_signal(&log->room);
	}
	pthread_cond_broadcast(&log->idle);
	orphan = log->orphan;
	pthread_mutex_unlock(&log->lock);
	if (orphan)
		log_release(log);
	return NULL;
}

int vio_log_start(int fd, struct vio_log **out, struct vio_err *err)
{
	struct vio_log *log = calloc(1, sizeof(*log));
	int rc = -ENOMEM;

	*out = NULL;
	if (log)
		log->line = calloc(VIO_LOG_LINES, sizeof(*log->line));
	if (log && log->line) {
		log->fd = fd;
		pthread_mutex_init(&log->lock, NULL);
		pthread_cond_init(&log->more, NULL);
		pthread_cond_init(&log->idle, NULL);
		pthread_cond_init(&log->room, NULL);
		rc = vio_thread_start(&log->thread, log_main, log);
	}
	if (rc == 0) {
		*out = log;
		return 0;
	}
	if (log)
		free(log->line);
	free(log);
	return vio_err_set(err, rc, "no thread or memory for messages: %s", strerror(-rc));
}

bool vio_log_flush(struct vio_log *log, uint64_t patience_ns)
{
	struct timespec end = after(patience_ns);
	bool empty;

	pthread_mutex_lock(&log->lock);
	while ((log->n > 0 || log->writing) &&
	       pthread_cond_timedwait(&log->idle, &log->lock, &end) == 0)
		;
	empty = log->n == 0 && !log->writing;
	pthread_mutex_unlock(&log->lock);
	return empty;
}

void vio_log_stop(struct vio_log *log, uint64_t patience_ns)
{
	bool empty;

	if (!log)
		return;
	if (log->stream)
		fclose(log->stream);
	empty = vio_log_flush(log, patience_ns);
	pthread_mutex_lock(&log->lock);
	log->stop = true;
	log->orphan = !empty; /* it waits in a write, and ends when that does or with the process */
	if (!empty)
		pthread_detach(log->thread);
	pthread_cond_signal(&log->more);
	pthread_mutex_unlock(&log->lock);
	if (!empty)
		return;
	pthread_join(log->thread, NULL);
	log_release(log);
}

/* ------------------------------------------------------------------------- a stream ---- */

/* The C library calls it with whole lines as the stream is line buffered, or with parts of long ones. */
static ssize_t stream_write(void *cookie, const char *buf, size_t len)
{
	const char *at = buf, *end = buf + len;
	char line[VIO_LOG_LINE];

	while (at < end) {
		const char *nl = memchr(at, '\n', (size_t)(end - at));
		size_t n = (size_t)((nl ? nl : end) - at);

		if (n >= sizeof(line))
			n = sizeof(line) - 1;
		memcpy(line, at, n);
		line[n] = '\0';
		vio_log_line(cookie, 0, line);
		at += n;
		if (at == nl)
			at++;
	}
	return (ssize_t)len;
}

FILE *vio_log_stream(struct vio_log *log)
{
	const cookie_io_functions_t io = {.write = stream_write};

	if (!log->stream) {
		log->stream = fopencookie(log, "w", io);
		if (log->stream)
			setvbuf(log->stream, NULL, _IOLBF, 4096);
	}
	return log->stream;
}
