/* SPDX-License-Identifier: BSD-3-Clause */
/* The duet's score: who plays when, who sleeps, and what the records say. Threads of this process take the sides. */
#include <pthread.h>
#include <sched.h>

#include "tests/unit/duet/sheet.h"
#include "vio/cycles.h"

/* -------------------------------------------------------------------------- players ---- */

struct player {
	struct sheet *s;
	unsigned slot, dances;
	pthread_t guest, server;
	uint64_t ping __attribute__((aligned(64)));
	uint64_t pong __attribute__((aligned(64)));
	uint64_t done;          /* guest's: requests */
	uint64_t played[TURNS]; /* turn numbers, in the order that this slot had them */
	unsigned n_played;
	uint64_t cpu
		[2]; /* of the guest's thread: when it became ready, at the end of the first dance */
};

static uint64_t thread_cpu(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static void *guest(void *ctx)
{
	struct player *p = ctx;
	struct vio_duet d;

	sheet_open(p->s, p->slot, &d, VIO_DUET_GUEST);
	for (unsigned k = 0; !vio_duet_over(&d); k++) {
		p->cpu[0] = k ? p->cpu[0] : thread_cpu();
		vio_duet_ready(&d);
		while (vio_duet_wait(&d, p->done, &go_on)) {
			if (p->n_played < TURNS)
				p->played[p->n_played++] = d.playing - d.head->first;
			do {
				vio_store_release(&p->ping, ++p->done);
				while (vio_load_acquire(&p->pong) != p->done)
					sched_yield(); /* both sides may be on one processor */
			} while (!vio_duet_step(&d, vio_ticks(), p->done, true));
			vio_duet_pass(&d, p->done);
		}
		p->cpu[1] = k ? p->cpu[1] : thread_cpu();
		p->dances++;
	}
	vio_duet_close(&d);
	return NULL;
}

static void *server(void *ctx)
{
	struct player *p = ctx;
	struct vio_duet d;
	uint64_t seen = 0;

	sheet_open(p->s, p->slot, &d, VIO_DUET_SERVER);
	for (;;) {
		uint64_t v = vio_load_acquire(&p->ping);

		if (v != seen) {
			seen = v;
			vio_store_release(&p->pong, v);
		}
		vio_duet_look(&d, vio_ticks());
		if (!vio_duet_called(&d)) {
			sched_yield();
			continue;
		}
		(void)vio_duet_serve(&d);
		if (vio_duet_over(&d))
			break;
	}
	vio_duet_close(&d);
	return NULL;
}

static void begin(struct sheet *s, struct player p[SLOTS])
{
	memset(p, 0, SLOTS * sizeof(*p));
	for (unsigned i = 0; i < SLOTS; i++) {
		p[i].s = s;
		p[i].slot = i;
		assert_int_equal(pthread_create(&p[i].server, NULL, server, &p[i]), 0);
		assert_int_equal(pthread_create(&p[i].guest, NULL, guest, &p[i]), 0);
	}
}

static void end(struct player p[SLOTS])
{
	for (unsigned i = 0; i < SLOTS; i++) {
		pthread_join(p[i].guest, NULL);
		pthread_join(p[i].server, NULL);
	}
}

/* ---------------------------------------------------------------------------- tests ---- */

static void every_turn_is_played_by_its_slot_in_order(void **state)
{
	struct sheet s;
	struct player p[SLOTS];
	const struct vio_duet_guest_record *g;
	unsigned next[SLOTS] = {0};
	(void)state;

	sheet_make(&s);
	write_turns(&s, TURNS);
	begin(&s, p);
	end(p);
	assert_int_equal(side(&s, 0, VIO_DUET_SERVER)->word, VIO_DUET_OVER);
	g = (const struct vio_duet_guest_record *)(void *)(s.base + s.head->guests_at);
	for (unsigned t = 0; t < TURNS; t++) {
		const unsigned slot = turns(&s)[t].slot;

		assert_int_equal(p[slot].played[next[slot]++], t);
		assert_int_equal(g[t].done, 1);
		/* One after the other: nobody begins before the one before has passed. */
		assert_true(g[t].woken <= g[t].begin && g[t].begin < g[t].passed);
		assert_true(t == 0 || g[t - 1].passed <= g[t].begin);
		assert_true(g[t].warm >= WARM && g[t].ticks >= TICKS);
	}
	for (unsigned i = 0; i < SLOTS; i++)
		assert_int_equal(p[i].n_played, next[i]);
	sheet_free(&s);
}

static void records_agree_with_what_each_side_did(void **state)
{
	struct sheet s;
	struct player p[SLOTS];
	const struct vio_duet_guest_record *g;
	const struct vio_duet_server_record *v;
	uint64_t all[SLOTS] = {0};
	(void)state;

	sheet_make(&s);
	write_turns(&s, TURNS);
	begin(&s, p);
	end(p);
	g = (const struct vio_duet_guest_record *)(void *)(s.base + s.head->guests_at);
	v = (const struct vio_duet_server_record *)(void *)(s.base + s.head->servers_at);
	for (unsigned t = 0; t < TURNS; t++) {
		all[turns(&s)[t].slot] += g[t].all;
		assert_true(g[t].requests > 0 && g[t].requests < g[t].all);
		assert_true(g[t].longest > 0 && g[t].longest <= g[t].ticks);
		assert_int_equal(g[t].gaps, 0);
		assert_int_equal(v[t].done, 1);
		assert_int_equal(v[t].gaps, 0);
	}
	for (unsigned i = 0; i < SLOTS; i++)
		assert_int_equal(all[i], p[i].done);
	sheet_free(&s);
}

static void who_has_no_turn_takes_no_processor_time(void **state)
{
	struct sheet s;
	struct player p[SLOTS];
	uint64_t least = UINT64_MAX;
	(void)state;

	sheet_make(&s);
	write_turns(&s, TURNS);
	begin(&s, p);
	end(p);
	for (unsigned i = 0; i + 1 < SLOTS; i++) {
		uint64_t used = p[i].cpu[1] - p[i].cpu[0];

		least = used < least ? used : least;
	}
	/* Both counters are the kernel's. Eight turns of the others, all of whose looping is in them, against one sleep. */
	assert_int_equal(p[SLOTS - 1].n_played, 0);
	assert_true(p[SLOTS - 1].cpu[1] - p[SLOTS - 1].cpu[0] < least / 2);
	sheet_free(&s);
}

static void a_second_dance_follows_when_the_score_says_so(void **state)
{
	struct sheet s;
	struct player p[SLOTS];
	(void)state;

	sheet_make(&s);
	write_turns(&s, TURNS);
	s.head->more = 1;
	s.head->n_guests = SLOTS + 1; /* this thread is the last to be ready */
	begin(&s, p);
	for (unsigned k = 0; k < 2; k++) {
		while (vio_load_acquire(&s.head->ready) != SLOTS)
			usleep(1000);
		write_turns(&s, 6);
		s.head->n_guests = SLOTS + 1;
		s.head->first += 2 * TURNS;
		s.head->more = k == 0;
		/* As vio_duet_ready() of the last guest would: any slot's own can stand in for it. */
		{
			struct vio_duet d;

			sheet_open(&s, SLOTS, &d, VIO_DUET_GUEST);
			vio_duet_ready(&d);
			vio_duet_close(&d);
		}
	}
	end(p);
	for (unsigned i = 0; i < SLOTS; i++)
		assert_int_equal(p[i].dances, 2);
	sheet_free(&s);
}

static void a_window_in_which_nothing_is_completed_ends_and_counts_nothing(void **state)
{
	struct sheet s;
	struct vio_duet d;
	uint64_t now;
	(void)state;

	sheet_make(&s);
	write_turns(&s, 1);
	s.head->n_slots = s.head->n_guests = 1;
	side(&s, 0, VIO_DUET_GUEST)->alone = 1;
	sheet_open(&s, 0, &d, VIO_DUET_GUEST);
	vio_duet_ready(&d);
	assert_true(vio_duet_wait(&d, 0, &go_on));
	now = d.rec.woken;
	assert_false(vio_duet_step(&d, now + 1, 0, false));
	assert_false(vio_duet_step(&d, now + 10 * WARM, 0, false));
	assert_true(vio_duet_step(&d, now + 100000ull * (WARM + TICKS), 0, false));
	vio_duet_pass(&d, 0);
	assert_int_equal(d.guests[0].requests, 0);
	assert_int_equal(d.guests[0].ticks, 0);
	assert_int_equal(d.guests[0].done, 1);
	assert_false(vio_duet_wait(&d, 0, &go_on));
	vio_duet_close(&d);
	sheet_free(&s);
}

static void counting_goes_from_a_completion_to_a_completion(void **state)
{
	struct sheet s;
	struct vio_duet d;
	uint64_t t;
	(void)state;

	sheet_make(&s);
	write_turns(&s, 1);
	turns(&s)[0].threshold[VIO_DUET_GUEST] = 3000;
	s.head->n_slots = s.head->n_guests = 1;
	side(&s, 0, VIO_DUET_GUEST)->alone = 1;
	sheet_open(&s, 0, &d, VIO_DUET_GUEST);
	vio_duet_ready(&d);
	assert_true(vio_duet_wait(&d, 100, &go_on));
	t = d.rec.woken + 50;
	assert_false(vio_duet_step(&d, t, 101, true)); /* both are there: the warm-up begins */
	assert_false(vio_duet_step(&d, t + WARM - 1, 105, true)); /* not warm yet */
	assert_false(
		vio_duet_step(&d, t + WARM + 10, 105, false));     /* warm, and nothing completed */
	assert_false(vio_duet_step(&d, t + WARM + 20, 110, true)); /* counting from here */
	assert_false(vio_duet_step(&d, t + WARM + 1020, 120, true));
	assert_false(vio_duet_step(&d, t + WARM + 5020, 130, true)); /* a gap of 4000 */
	t += WARM + 20;
	for (uint64_t k = 6000; k < TICKS; k += 1000)
		assert_false(vio_duet_step(&d, t + k, 140, true));
	assert_false(
		vio_duet_step(&d, t + TICKS + 500, 140, false)); /* over, and nothing completed */
	assert_true(vio_duet_step(&d, t + TICKS + 700, 150, true));
	vio_duet_pass(&d, 155);
	assert_int_equal(d.guests[0].warm, WARM + 20);
	assert_int_equal(d.guests[0].ticks, TICKS + 700);
	assert_int_equal(d.guests[0].requests, 40);
	assert_int_equal(d.guests[0].all, 55);
	assert_int_equal(d.guests[0].longest, 4000);
	assert_int_equal(d.guests[0].gaps, 1);
	vio_duet_close(&d);
	sheet_free(&s);
}

static void gaps_are_counted_above_the_threshold_and_sleep_is_none(void **state)
{
	struct vio_gaps g;
	(void)state;

	vio_gaps_begin(&g, 1000, 50);
	vio_gaps_look(&g, 1010);
	vio_gaps_look(&g, 1060); /* 50: not above */
	assert_int_equal(g.longest, 50);
	assert_int_equal(g.gaps, 0);
	vio_gaps_look(&g, 1111);
	vio_gaps_look(&g, 1121);
	vio_gaps_look(&g, 1321);
	vio_gaps_look(&g, 1381); /* shorter than the longest, and still above */
	assert_int_equal(g.longest, 200);
	assert_int_equal(g.gaps, 3);
	vio_gaps_skip(&g, 9000);
	vio_gaps_look(&g, 9010);
	assert_int_equal(g.longest, 200);
	assert_int_equal(g.gaps, 3);
	vio_gaps_begin(&g, 9010, 5);
	assert_int_equal(g.longest + g.gaps, 0);
	vio_gaps_look(&g, 9016);
	assert_int_equal(g.gaps, 1);
}

static void without_a_score_nobody_is_ever_called(void **state)
{
	struct vio_duet d;
	(void)state;

	vio_duet_none(&d, 1000);
	for (unsigned i = 0; i < 1000; i++) {
		vio_duet_look(&d, vio_ticks());
		assert_false(vio_duet_called(&d));
	}
	vio_duet_note(&d);
	vio_duet_close(&d);
}

static void a_file_that_is_no_score_is_refused(void **state)
{
	static const char *const wrong[] = {
		"", ",slot=0", "x", "x,slot=", "x,slot=a", "x,slot=64", "x,slot=-1", "x,slot=0x"};
	struct vio_err err;
	struct vio_duet d;
	struct sheet s;
	char text[128];
	(void)state;

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(wrong); i++) {
		assert_true(vio_duet_open(&d, wrong[i], VIO_DUET_SERVER, &err) < 0);
		assert_non_null(strstr(err.msg, "--duet"));
		assert_false(vio_duet_called(&d));
	}
	sheet_make(&s);
	snprintf(text, sizeof(text), "%s,slot=0", s.path);
	assert_int_equal(vio_duet_open(&d, text, VIO_DUET_SERVER, &err), 0);
	vio_duet_close(&d);
	for (unsigned i = 0; i < 6; i++) {
		const struct vio_duet_head good = *s.head;
		uint64_t *const field[] = {&s.head->magic,     &s.head->bytes,
					   &s.head->sides_at,  &s.head->turns_at,
					   &s.head->guests_at, &s.head->servers_at};

		*field[i] = i < 2 ? *field[i] + 1 : s.head->bytes - 8;
		assert_int_equal(vio_duet_open(&d, text, VIO_DUET_SERVER, &err), -EINVAL);
		*s.head = good;
	}
	s.head->max_turns = UINT32_MAX;
	assert_int_equal(vio_duet_open(&d, text, VIO_DUET_SERVER, &err), -EINVAL);
	assert_int_equal(truncate(s.path, 100), 0);
	assert_int_equal(vio_duet_open(&d, text, VIO_DUET_SERVER, &err), -EINVAL);
	unlink(s.path);
	assert_int_equal(vio_duet_open(&d, text, VIO_DUET_SERVER, &err), -ENOENT);
}

int main(void)
{
	/* bench/ab/instrument/score.py has the same numbers. */
	_Static_assert(sizeof(struct vio_duet_head) == 256 && sizeof(struct vio_duet_line) == 256 &&
			       sizeof(struct vio_duet_turn) == 20 &&
			       sizeof(struct vio_duet_guest_record) == 64 &&
			       sizeof(struct vio_duet_server_record) == 32,
		       "bench/ab/instrument/score.py has these sizes");
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_turn_is_played_by_its_slot_in_order),
		cmocka_unit_test(records_agree_with_what_each_side_did),
		cmocka_unit_test(who_has_no_turn_takes_no_processor_time),
		cmocka_unit_test(a_second_dance_follows_when_the_score_says_so),
		cmocka_unit_test(a_window_in_which_nothing_is_completed_ends_and_counts_nothing),
		cmocka_unit_test(counting_goes_from_a_completion_to_a_completion),
		cmocka_unit_test(gaps_are_counted_above_the_threshold_and_sleep_is_none),
		cmocka_unit_test(without_a_score_nobody_is_ever_called),
		cmocka_unit_test(a_file_that_is_no_score_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
