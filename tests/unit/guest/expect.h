/* SPDX-License-Identifier: BSD-3-Clause */
/* Calls that must succeed, messages that must say something, and a recorder of what a front end says. */
#ifndef VIO_TEST_GUEST_EXPECT_H
#define VIO_TEST_GUEST_EXPECT_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* call (0 or -errno, its sentence in (x)->err) must succeed. */
#define ok(x, call)                                                                                \
	do {                                                                                       \
		int rc_ = (call);                                                                  \
		if (rc_)                                                                           \
			fail_msg("%d: %s", rc_, (x)->err.msg);                                     \
	} while (0)
#define says(text, part)                                                                           \
	do {                                                                                       \
		if (!strstr((text), (part)))                                                       \
			fail_msg("\"%s\" does not say \"%s\"", (text), (part));                    \
	} while (0)

/* What has been said, a line each; several threads may say something. */
struct said {
	pthread_mutex_t lock;
	char text[8192];
};

static inline void said_init(struct said *s)
{
	pthread_mutex_init(&s->lock, NULL);
	s->text[0] = '\0';
}

static inline void said_destroy(struct said *s)
{
	pthread_mutex_destroy(&s->lock);
}

static inline void said_clear(struct said *s)
{
	pthread_mutex_lock(&s->lock);
	s->text[0] = '\0';
	pthread_mutex_unlock(&s->lock);
}

/* For struct vio_transport_cfg: .say, with .say_ctx the struct said. */
static inline void said_add(void *ctx, const char *line)
{
	struct said *s = ctx;
	size_t n;

	pthread_mutex_lock(&s->lock);
	n = strlen(s->text);
	snprintf(s->text + n, sizeof(s->text) - n, "%s\n", line);
	pthread_mutex_unlock(&s->lock);
}

#endif
