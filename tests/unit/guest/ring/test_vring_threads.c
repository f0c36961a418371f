/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Driver and device on two threads, each sleeping whenever it finds nothing and woken only by the
 * other's notification. A lost one leaves both asleep; the sleeper then gives up and the test
 * fails.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "model_device.h"

#define REQUESTS   70000u /* the indices wrap */
#define GIVE_UP_MS 20000

struct pair {
	struct model m;
	struct vio_vring *vr;
	int to_device, to_driver; /* eventfds: the notifications */
	bool shuffle;
	uint64_t notified[2], slept[2];
	bool stuck, wrong; /* written by one thread each, read after the join */
};

static void notify(int fd)
{
	uint64_t one = 1;

	assert(write(fd, &one, sizeof(one)) == sizeof(one));
}

static bool wait_for(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint64_t n;

	if (poll(&p, 1, GIVE_UP_MS) != 1)
		return false;
	return read(fd, &n, sizeof(n)) == sizeof(n);
}

static void *device(void *arg)
{
	struct pair *p = arg;
	unsigned seed = 5, done = 0;

	while (done < REQUESTS) {
		int head[16];
		unsigned n = 0, limit = 1 + (unsigned)rand_r(&seed) % 16;

		while (n < limit && (head[n] = model_pop(&p->m)) >= 0) {
			struct mock_seg seg[VIO_DMA_MAX_SEG];
			int k = model_chain(&p->m, head[n], seg);

			/* The driver put the count into the first segment's length. */
			if (k < 1 || seg[0].len != (unsigned)k)
				p->wrong = true;
			n++;
		}
		if (n == 0) {
			if (mock_arm(&p->m.dev))
				continue;
			p->slept[0]++;
			if (!wait_for(p->to_device)) {
				p->stuck = true;
				break;
			}
			mock_park(&p->m.dev);
			continue;
		}
		for (unsigned i = 0; i < n; i++) {
			unsigned j = p->shuffle ? i + (unsigned)rand_r(&seed) % (n - i) : i;
			int h = head[j];

			head[j] = head[i];
			mock_put(&p->m.dev, (uint32_t)h, 0, 1);
		}
		done += n;
		if (done % 64 < n)
			mock_park(&p->m.dev);
		if (mock_publish_used(&p->m.dev)) {
			p->notified[1]++;
			notify(p->to_driver);
		}
	}
	return NULL;
}

static void run(bool event_idx, bool indirect, bool shuffle)
{
	struct pair p = {.shuffle = shuffle};
	struct vio_dma_seg seg[VIO_DMA_MAX_SEG];
	static uint32_t token[REQUESTS];
	static uint8_t back[REQUESTS];
	uint32_t sent = 0, done = 0;
	unsigned seed = 11;
	pthread_t t;
	struct vio_err err;

	memset(seg, 0, sizeof(seg));
	memset(back, 0, sizeof(back));
	model_init(&p.m, 64, event_idx, indirect);
	assert_int_equal(vio_vring_new(&p.m.cfg, &p.vr, &err), 0);
	p.to_device = eventfd(0, 0);
	p.to_driver = eventfd(0, 0);
	vio_vring_park(p.vr);
	assert_int_equal(pthread_create(&t, NULL, device, &p), 0);
	while (done < REQUESTS) {
		struct vio_used u[16];
		unsigned limit = (unsigned)rand_r(&seed) % 9;
		int n;

		for (unsigned i = 0; i < limit && sent < REQUESTS; i++) {
			unsigned k = 1 + (unsigned)rand_r(&seed) % 9;

			if (vio_vring_room(p.vr, k) == 0)
				break;
			seg[0].len = k;
			assert_int_equal(vio_vring_add(p.vr, seg, k, &token[sent]), 0);
			sent++;
		}
		if (vio_vring_publish(p.vr)) {
			p.notified[0]++;
			notify(p.to_device);
		}
		n = vio_vring_take(p.vr, u, 1 + (unsigned)rand_r(&seed) % 16);
		if (n < 0)
			break;
		for (int i = 0; i < n; i++) {
			size_t which = (size_t)((uint32_t *)u[i].token - token);

			assert_true(which < sent);
			assert_int_equal(back[which]++, 0);
			if (!shuffle)
				assert_int_equal(which, done + (unsigned)i);
		}
		done += (unsigned)n;
		vio_vring_park(p.vr);
		if (n == 0 && vio_vring_outstanding(p.vr) > 0) {
			if (vio_vring_arm(p.vr))
				continue;
			p.slept[1]++;
			if (!wait_for(p.to_driver))
				break;
			vio_vring_park(p.vr);
		}
	}
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_false(p.stuck);
	assert_false(p.wrong);
	assert_int_equal(done, REQUESTS);
	/* The point of it all: both did sleep, and were told less often than once a request. */
	assert_true(p.slept[0] > 0 && p.slept[1] > 0);
	assert_true(p.notified[0] < REQUESTS && p.notified[1] < REQUESTS);
	close(p.to_device);
	close(p.to_driver);
	vio_vring_free(p.vr);
	model_fini(&p.m);
}

static void no_notification_is_lost_with_event_index_and_order_is_kept(void **state)
{
	(void)state;
	run(true, false, false);
}

static void no_notification_is_lost_with_flags_and_shuffled_completions(void **state)
{
	(void)state;
	run(false, false, true);
}

static void no_notification_is_lost_with_indirect_descriptors(void **state)
{
	(void)state;
	run(true, true, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_notification_is_lost_with_event_index_and_order_is_kept),
		cmocka_unit_test(no_notification_is_lost_with_flags_and_shuffled_completions),
		cmocka_unit_test(no_notification_is_lost_with_indirect_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
