/* SPDX-License-Identifier: BSD-3-Clause */
/* A dance that follows another one: who was told late, and what is left of the one before. One thread takes both sides. */
#include "tests/unit/duet/sheet.h"

/* Both sides were told that the first of two dances has ended, and look only when the second one is in the file. */
static void who_is_late_after_a_dance_takes_part_in_the_last_one(void **state)
{
	struct sheet s;
	struct vio_duet d, v;
	(void)state;

	sheet_make(&s);
	write_turns(&s, 1);
	s.head->n_slots = s.head->n_guests = 1;
	s.head->more = 1;
	sheet_open(&s, 0, &d, VIO_DUET_GUEST);
	sheet_open(&s, 0, &v, VIO_DUET_SERVER);
	vio_duet_ready(&d);
	assert_true(vio_duet_wait(&d, 0, &go_on));
	(void)vio_duet_serve(&v);
	vio_duet_pass(&d, 0);
	s.head->more = 0; /* the conductor writes, as soon as it knows that the dance is over */
	s.head->first += 1;
	assert_true(vio_duet_called(&v));
	(void)vio_duet_serve(&v);
	assert_false(vio_duet_over(&v));
	assert_false(vio_duet_wait(&d, 0, &go_on));
	assert_false(vio_duet_over(&d));
	vio_duet_ready(&d);
	assert_true(vio_duet_wait(&d, 0, &go_on));
	assert_true(vio_duet_called(&v));
	(void)vio_duet_serve(&v);
	vio_duet_pass(&d, 0);
	assert_false(vio_duet_wait(&d, 0, &go_on));
	assert_true(vio_duet_over(&d));
	assert_true(vio_duet_called(&v));
	(void)vio_duet_serve(&v);
	assert_true(vio_duet_over(&v));
	vio_duet_close(&d);
	vio_duet_close(&v);
	sheet_free(&s);
}

/* A server that was in turn 0 and is looked at again in the next dance's turn 0 begins that one, and leaves its record alone. */
static void the_next_dance_s_turns_are_not_taken_for_the_last_one_s(void **state)
{
	struct sheet s;
	struct vio_duet d, v;
	(void)state;

	sheet_make(&s);
	write_turns(&s, 1);
	s.head->n_slots = s.head->n_guests = 1;
	s.head->more = 1;
	sheet_open(&s, 0, &d, VIO_DUET_GUEST);
	sheet_open(&s, 0, &v, VIO_DUET_SERVER);
	vio_duet_ready(&d);
	assert_true(vio_duet_wait(&d, 0, &go_on));
	(void)vio_duet_serve(&v);
	vio_duet_pass(&d, 0);
	assert_false(vio_duet_wait(&d, 0, &go_on));
	s.head->first += 1;
	v.servers[0].done = 0;
	vio_duet_ready(&d); /* the server has seen nothing of all that */
	assert_true(vio_duet_wait(&d, 0, &go_on));
	assert_false(vio_duet_step(&d, d.woken + 1, 0, false)); /* not there yet */
	assert_int_equal(d.part, VIO_DUET_ARRIVING);
	assert_true(vio_duet_called(&v));
	(void)vio_duet_serve(&v);
	assert_int_equal(v.servers[0].done, 0);
	assert_false(vio_duet_step(&d, d.woken + 1, 0, false));
	assert_int_equal(d.part, VIO_DUET_WARM);
	vio_duet_close(&d);
	vio_duet_close(&v);
	sheet_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_is_late_after_a_dance_takes_part_in_the_last_one),
		cmocka_unit_test(the_next_dance_s_turns_are_not_taken_for_the_last_one_s),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
