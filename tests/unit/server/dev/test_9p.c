/* SPDX-License-Identifier: BSD-3-Clause */
/* virtio-9p's queue: what is carried, and what neither a driver nor a 9P server should do. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/server/dev/nine.h"

static void answers_find_their_chains_in_any_order_and_arrive_whole(void **state)
{
	struct nine t;

	for (unsigned way = 0; way < NINE_WAYS; way++) {
		nine_up(&t, *state, way);
		nine_meet(&t, 0);
		for (unsigned i = 0; i < 8; i++)
			nine_ask(&t, 2 * i, NINE_T, (uint16_t)(100 + i), 11 + i);
		for (unsigned i = 0; i < 8; i++)
			nine_gets(&t, NINE_T, (uint16_t)(100 + i), 11 + i);
		/* Nothing of the guest's is in use, and nobody waits for the server. */
		vio_squeue_poll(t.w->q);
		assert_int_equal(t.w->q->in_flight, 8);
		assert_int_equal(t.w->q->parked, 8);
		assert_false(vio_squeue_arm(t.w->q));
		vio_squeue_park(t.w->q);
		for (unsigned i = 8; i-- > 0;)
			nine_says(&t, NINE_R, (uint16_t)(100 + i), 1000 + i, 1000 + i);
		for (unsigned i = 8; i-- > 0;) {
			const uint8_t *m = t.w->gmem + NINE_ROOM(2 * i);

			nine_back(&t, 2 * i, 1000 + i);
			assert_int_equal(m[4], NINE_R);
			for (unsigned k = VIO_9P_HDR; k < 1000 + i; k++)
				assert_int_equal(m[k], (uint8_t)(k + 100 + i));
		}
		assert_int_equal(t.w->q->in_flight, 0);
		nine_down(&t);
	}
}

static void what_is_no_message_stops_the_device(void **state)
{
	static const struct {
		uint32_t size, there, room;
		uint8_t why;
	} bad[] = {
		{11, 6, 100, VIO_ST_REQUEST},   /* shorter than a header */
		{12, 11, 100, VIO_ST_REQUEST},  /* claims more than there is */
		{6, 11, 100, VIO_ST_REQUEST},   /* claims less than a header */
		{0, 11, 100, VIO_ST_REQUEST},   /* claims nothing */
		{~0u, 11, 100, VIO_ST_REQUEST}, /* claims all */
		{11, 11, 6, VIO_ST_REQUEST},    /* no room for any answer */
		{11, 11, 0, VIO_ST_REQUEST},    /* nor any at all */
	};
	struct nine t;

	for (unsigned way = 0; way < NINE_WAYS; way++) {
		for (unsigned i = 0; i < VIO_ARRAY_SIZE(bad); i++) {
			nine_up(&t, *state, way);
			nine_meet(&t, 0);
			nine_chain(&t, 0, NINE_T, 1, bad[i].size, bad[i].there, bad[i].room);
			w_publish(t.w);
			w_run(t.w);
			assert_int_equal(t.w->q->fault, bad[i].why);
			assert_int_equal(t.w->q->in_flight, 0);
			nine_down(&t);
		}
		/* A tag that is in use; addresses that are not the guest's to give, for the message and for the answer. */
		nine_up(&t, *state, way);
		nine_meet(&t, 0);
		nine_ask(&t, 0, NINE_T, 7, 11);
		nine_ask(&t, 2, NINE_T, 7, 11);
		w_run(t.w);
		assert_int_equal(t.w->q->fault, VIO_ST_REQUEST);
		nine_down(&t);
		nine_up(&t, *state, way);
		nine_meet(&t, 0);
		nine_chain(&t, 0, NINE_T, 7, 4000, 4000, 0);
		w_desc(t.w, 0, NINE_AT(0), 7, VRING_DESC_F_NEXT, 2);
		w_desc(t.w, 2, W_HOLE, 4000, VRING_DESC_F_NEXT, 1);
		w_desc(t.w, 1, NINE_ROOM(0), 100, VRING_DESC_F_WRITE, 0);
		w_publish(t.w);
		w_run(t.w);
		assert_int_not_equal(t.w->q->fault, VIO_ST_OK);
		assert_true(recv(t.peer, &(char){0}, 1, MSG_DONTWAIT) <
			    0); /* nothing of it went out */
		nine_down(&t);
		nine_up(&t, *state, way);
		nine_meet(&t, 0);
		nine_chain(&t, 0, NINE_T, 7, 11, 11, 100);
		w_desc(t.w, 1, W_RO, 100, VRING_DESC_F_WRITE, 0);
		w_publish(t.w);
		w_run(t.w);
		nine_gets(&t, NINE_T, 7, 11);
		nine_says(&t, NINE_R, 7, 7, 7);
		while (t.w->q->fault == VIO_ST_OK) {
			vio_squeue_poll(t.w->q);
			nine_patient(&t, "the end of the queue");
		}
		assert_int_equal(t.w->q->fault, VIO_ST_DESC_PERM);
		nine_down(&t);
	}
}

static void what_does_not_fit_is_an_error_of_its_own_message_only(void **state)
{
	struct nine t;

	for (unsigned way = 0; way < NINE_WAYS; way++) {
		nine_up(&t, *state, way);
		nine_meet(&t, 0);
		/* An answer larger than its room. */
		nine_chain(&t, 0, NINE_T, 1, 11, 11, 100);
		nine_chain(&t, 2, NINE_T, 2, 11, 11, 100);
		w_publish(t.w);
		nine_gets(&t, NINE_T, 1, 11);
		nine_gets(&t, NINE_T, 2, 11);
		nine_says(&t, NINE_R, 1, 101, 101);
		nine_says(&t, NINE_R, 2, 100, 100);
		nine_back_with_error(&t, 0, 1, EMSGSIZE);
		nine_back(&t, 2, 100);
		/* There is not even room for the error. */
		nine_chain(&t, 0, NINE_T, 1, 11, 11, 10);
		w_publish(t.w);
		nine_gets(&t, NINE_T, 1, 11);
		nine_says(&t, NINE_R, 1, 101, 101);
		nine_back(&t, 0, 0);
		/* A message larger than any may be never reaches the server. */
		nine_chain(&t, 0, NINE_T, 3, VIO_9P_MSIZE + 1, VIO_9P_MSIZE + 1, 0);
		w_desc(t.w, 0, W_BUF, VIO_9P_MSIZE + 1, VRING_DESC_F_NEXT, 1);
		w_desc(t.w, 1, W_BUF + 0x80000, 100, VRING_DESC_F_WRITE, 0);
		w_publish(t.w);
		while (!w_used(t.w, &(uint32_t){0}, &(uint32_t){0})) {
			vio_squeue_poll(t.w->q);
			nine_patient(&t, "the refusal");
		}
		assert_int_equal(t.w->gmem[W_BUF + 0x80000 + 7], EMSGSIZE);
		nine_ask(&t, 4, NINE_T, 4, 12);
		nine_gets(&t, NINE_T, 4, 12);
		nine_says(&t, NINE_R, 4, 7, 7);
		nine_back(&t, 4, 7);
		nine_down(&t);
	}
}

static void a_server_that_goes_or_talks_nonsense_is_an_error_until_the_next_session(void **state)
{
	static const struct {
		uint16_t tag;
		uint32_t size, there;
		bool leaves;
	} ends[] = {
		{0, 0, 0, true},                 /* goes */
		{1, 50, 20, true},               /* in the middle of an answer */
		{9, 7, 7, false},                /* a tag that nobody has */
		{1, 3, 7, false},                /* less than a header */
		{1, VIO_9P_MSIZE + 1, 7, false}, /* more than any message */
		{1, 0, 7, false},
	};
	struct nine t;

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(ends); i++) {
		const unsigned way = i % NINE_WAYS;
		bool seen[5] = {false};

		nine_up(&t, *state, way);
		nine_meet(&t, 0);
		nine_ask(&t, 0, NINE_T, 1, 11);
		nine_ask(&t, 4, NINE_T, 2, 11);
		nine_gets(&t, NINE_T, 1, 11);
		if (ends[i].there)
			nine_says(&t, NINE_R, ends[i].tag, ends[i].size, ends[i].there);
		if (ends[i].leaves) {
			close(t.peer);
			t.peer = -1;
		}
		for (unsigned n = 0; n < 2;) {
			uint32_t id, len;

			vio_squeue_poll(t.w->q);
			nine_patient(&t, "both to fail");
			if (!w_used(t.w, &id, &len))
				continue;
			assert_int_equal(len, VIO_9P_ERROR);
			assert_int_equal(t.w->gmem[NINE_ROOM(id) + 7], EIO);
			seen[id] = true;
			n++;
		}
		assert_true(seen[0] && seen[4]);
		nine_ask(&t, 0, NINE_T, 3, 11);
		nine_back_with_error(&t, 0, 3, EIO);
		nine_meet(&t, 0);
		nine_ask(&t, 0, NINE_T, 1, 11);
		nine_gets(&t, NINE_T, 1, 11);
		nine_says(&t, NINE_R, 1, 7, 7);
		nine_back(&t, 0, 7);
		nine_down(&t);
	}
}

static void without_a_server_every_message_is_an_error_at_once(void **state)
{
	struct nine t;

	nine_up(&t, *state, 0);
	nine_ask(&t, 0, NINE_T, 1, 11);
	nine_back_with_error(&t, 0, 1, EIO);
	nine_ask(&t, 0, VIO_9P_TVERSION, VIO_9P_NO_TAG, 21);
	nine_back_with_error(&t, 0, VIO_9P_NO_TAG, EIO);
	nine_meet(&t, 0); /* now there is one */
	nine_down(&t);
}

static void
a_session_begins_with_a_connection_of_its_own_and_a_length_that_we_can_carry(void **state)
{
	struct nine t;
	uint32_t msize = 1u << 20;
	uint8_t m[21];
	int first;

	nine_up(&t, *state, 1);
	nine_meet(&t, 0);
	first = t.peer;
	t.peer = -1;
	nine_ask(&t, 0, NINE_T, 1, 11);
	nine_ask(&t, 4, NINE_T, 2, 11);
	nine_chain(&t, 2, VIO_9P_TVERSION, VIO_9P_NO_TAG, 21, 21, 100);
	memcpy(t.w->gmem + NINE_AT(2) + 7, &msize, 4);
	w_publish(t.w);
	for (unsigned n = 0; n < 2;) {
		uint32_t id, len;

		vio_squeue_poll(t.w->q);
		nine_patient(&t, "the end of what was under way");
		if (!w_used(t.w, &id, &len))
			continue;
		assert_true(id != 2);
		assert_int_equal(t.w->gmem[NINE_ROOM(id) + 7], EIO);
		n++;
	}
	while ((t.peer = accept4(t.listener, NULL, NULL, SOCK_CLOEXEC)) < 0) {
		vio_squeue_poll(t.w->q);
		nine_patient(&t, "another connection");
	}
	nine_read(&t, m, sizeof(m));
	memcpy(&msize, m + 7, 4);
	assert_int_equal(msize, VIO_9P_MSIZE);
	/* What the server of the session before still says is for nobody. */
	(void)!send(first, m, sizeof(m), MSG_NOSIGNAL);
	close(first);
	nine_says(&t, VIO_9P_TVERSION + 1, VIO_9P_NO_TAG, 19, 19);
	nine_back(&t, 2, 19);
	nine_down(&t);
}

static void a_flushed_message_gives_its_chain_back_before_the_flush_does(void **state)
{
	struct nine t;
	const uint16_t old = 5;

	for (unsigned way = 0; way < NINE_WAYS; way++) {
		nine_up(&t, *state, way);
		nine_meet(&t, 0);
		nine_ask(&t, 0, NINE_T, old, 11);
		nine_chain(&t, 2, VIO_9P_TFLUSH, 6, 9, 9, 100);
		memcpy(t.w->gmem + NINE_AT(2) + 7, &old, 2);
		w_publish(t.w);
		nine_gets(&t, NINE_T, old, 11);
		nine_gets(&t, VIO_9P_TFLUSH, 6, 9);
		nine_says(&t, VIO_9P_RFLUSH, 6, 7, 7);
		nine_back(&t, 0, 0);
		nine_back(&t, 2, 7);
		/* One that was answered first, as 9P allows. */
		nine_ask(&t, 0, NINE_T, old, 11);
		nine_chain(&t, 2, VIO_9P_TFLUSH, 6, 9, 9, 100);
		memcpy(t.w->gmem + NINE_AT(2) + 7, &old, 2);
		w_publish(t.w);
		nine_gets(&t, NINE_T, old, 11);
		nine_gets(&t, VIO_9P_TFLUSH, 6, 9);
		nine_says(&t, NINE_R, old, 7, 7);
		nine_says(&t, VIO_9P_RFLUSH, 6, 7, 7);
		nine_back(&t, 0, 7);
		nine_back(&t, 2, 7);
		nine_down(&t);
	}
}

static void a_chain_of_more_pieces_than_requests_hold_is_carried_as_far_as_they_do(void **state)
{
	struct nine t;
	const unsigned n = 2 * VIO_MAX_SEGS;

	for (unsigned way = 0; way < NINE_WAYS; way++) {
		nine_up(&t, *state, way);
		nine_meet(&t, 0);
		/* A message in one piece, and many for its answer. */
		nine_chain(&t, 0, NINE_T, 1, 11, 11, 100);
		for (unsigned i = 1; i < n; i++)
			w_desc(t.w, i, NINE_ROOM(0) + (i - 1) * 32, 32,
			       VRING_DESC_F_WRITE | (i + 1 < n ? VRING_DESC_F_NEXT : 0), i + 1);
		w_publish(t.w);
		nine_gets(&t, NINE_T, 1, 11);
		nine_says(&t, NINE_R, 1, 32 * 32, 32 * 32);
		nine_back(&t, 0, 32 * 32);
		for (unsigned k = VIO_9P_HDR; k < 32 * 32; k++)
			assert_int_equal(t.w->gmem[NINE_ROOM(0) + k], (uint8_t)(k + 1));
		/* The message itself in too many. */
		nine_chain(&t, 0, NINE_T, 1, n, n, 0);
		for (unsigned i = 0; i < n; i++)
			w_desc(t.w, i, NINE_AT(0) + i, 1, VRING_DESC_F_NEXT, i + 1);
		w_desc(t.w, n, NINE_ROOM(0), 100, VRING_DESC_F_WRITE, 0);
		w_publish(t.w);
		w_run(t.w);
		assert_int_equal(t.w->q->fault, VIO_ST_DESC_CHAIN);
		nine_down(&t);
	}
}

static void a_queue_that_ends_leaves_what_is_out_and_writes_nothing(void **state)
{
	struct nine t;

	for (unsigned way = 0; way < NINE_WAYS; way++) {
		nine_up(&t, *state, way);
		nine_meet(&t, 0);
		for (unsigned i = 0; i < 40; i++)
			nine_ask(&t, 2 * i, NINE_T, (uint16_t)i, 11);
		nine_gets(&t, NINE_T, 0, 11);
		nine_says(&t, NINE_R, 0, 7, 7);
		/* Held: nothing is touched, and the adapter need not wait. */
		vio_store_release(&t.w->q->ctl, VIO_SQ_HOLD);
		for (unsigned i = 0; i < 20; i++) {
			vio_squeue_poll(t.w->q);
			usleep(1000);
		}
		assert_int_equal(t.w->q->in_flight, t.w->q->parked);
		vio_store_release(&t.w->q->ctl, VIO_SQ_STOP);
		while (t.w->q->in_flight > 0) {
			vio_squeue_poll(t.w->q);
			nine_patient(&t, "the queue's end");
		}
		for (unsigned i = 0; i < 40; i++)
			assert_int_equal(t.w->gmem[NINE_ROOM(2 * i)], 0xaa);
		/* The next life of the queue. */
		vio_kind_9p.queue_off(t.w->q);
		vio_kind_9p.queue_close(t.w->q->dq);
		nine_queue(&t, way);
		nine_ask(&t, 0, NINE_T, 1, 11);
		nine_back_with_error(&t, 0, 1, EIO);
		nine_meet(&t, 0);
		nine_down(&t);
	}
}

static void a_server_that_does_not_read_makes_messages_wait_in_order(void **state)
{
	struct nine t;
	const unsigned n = 60;
	const uint32_t size = NINE_PLACE / 2 - 1;

	for (unsigned way = 0; way < NINE_WAYS; way++) {
		const int little = 1;

		nine_up(&t, *state, way);
		nine_meet(&t, 0);
		setsockopt(t.peer, SOL_SOCKET, SO_RCVBUF, &little, sizeof(little));
		for (unsigned i = 0; i < n; i++)
			nine_ask(&t, 2 * i, NINE_T, (uint16_t)i, size);
		for (unsigned i = 0; i < 20; i++) {
			vio_squeue_poll(t.w->q);
			usleep(500);
		}
		assert_true(t.w->q->n_wait > 0);
		assert_int_equal(t.w->q->in_flight, n);
		assert_int_equal(t.w->q->parked, n);
		for (unsigned i = 0; i < n; i++)
			nine_gets(&t, NINE_T, (uint16_t)i, size);
		for (unsigned i = 0; i < n; i++) {
			nine_says(&t, NINE_R, (uint16_t)i, 7, 7);
			nine_back(&t, 2 * i, 7);
		}
		nine_down(&t);
	}
}

static void what_the_option_says_is_judged(void **state)
{
	static const char *const bad[] = {"",
					  "tag=x",
					  "socket=/tmp/x",
					  "tag=,socket=/tmp/x",
					  "tag=x,socket=",
					  "tag=x,socket=/tmp/x,colour=red",
					  "tag=123456789012345678901234567890123,socket=/tmp/x"};
	const struct vio_dev_env env = {0};
	uint8_t config[VIO_MAX_CONFIG];
	struct vio_device *dev = NULL;
	struct vio_err err = {""};

	(void)state;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(bad); i++)
		assert_int_equal(vio_kind_9p.open(bad[i], &env, &dev, &err), -EINVAL);
	assert_int_equal(vio_kind_9p.open("tag=12345678901234567890123456789012,socket=/tmp/x",
					  &env, &dev, &err),
			 0);
	assert_int_equal(vio_kind_9p.features(dev), 1);
	assert_int_equal(vio_kind_9p.config(dev, 1, config), 34);
	assert_memory_equal(config,
			    "\x20\0"
			    "12345678901234567890123456789012",
			    34);
	vio_kind_9p.close(dev);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, w_setup, w_teardown)
	const struct CMUnitTest tests[] = {
		T(answers_find_their_chains_in_any_order_and_arrive_whole),
		T(what_is_no_message_stops_the_device),
		T(what_does_not_fit_is_an_error_of_its_own_message_only),
		T(a_server_that_goes_or_talks_nonsense_is_an_error_until_the_next_session),
		T(without_a_server_every_message_is_an_error_at_once),
		T(a_session_begins_with_a_connection_of_its_own_and_a_length_that_we_can_carry),
		T(a_flushed_message_gives_its_chain_back_before_the_flush_does),
		T(a_chain_of_more_pieces_than_requests_hold_is_carried_as_far_as_they_do),
		T(a_queue_that_ends_leaves_what_is_out_and_writes_nothing),
		T(a_server_that_does_not_read_makes_messages_wait_in_order),
		T(what_the_option_says_is_judged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
