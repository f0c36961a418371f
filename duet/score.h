/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The duet: several machines share two processors and take turns of about half a millisecond, so
 * that what disturbs one disturbs its neighbours in time alike. The *score* is a file that all of
 * them map. It holds the order of turns, written before the dance, a word for each side of each
 * slot that says what that side does now, and a record for each side of each turn.
 *
 * A slot has a guest's side and mostly a server's. The guest's side leads: it ends its window by
 * the tick counter, has nothing outstanding then, sends its server to sleep, writes its record, and
 * wakes both sides of the next slot. No other process takes part, and who has no turn sleeps in a
 * futex. Barriers: pair M of docs/memory-order.md.
 *
 * Python writes and reads the same file: bench/ab/instrument/score.py.
 */
#ifndef VIO_DUET_SCORE_H
#define VIO_DUET_SCORE_H

#include "vio/atomics.h"
#include "vio/err.h"
#include "vio/gaps.h"

#define VIO_DUET_MAGIC     0x5456554400323056ull
#define VIO_DUET_MAX_SLOTS 64u
#define VIO_DUET_APART     128u /* bytes between lines of different writers: as BENCH_BLOCK */

enum vio_duet_side { VIO_DUET_GUEST, VIO_DUET_SERVER };

/*
 * Values of a side's word. OVER: no dance follows; said in the word itself, because whoever is late finds
 * the next dance's score in the file. From the score's `first` on: a turn; no dance's are another's.
 */
enum { VIO_DUET_FREE, VIO_DUET_PARKED, VIO_DUET_OVER, VIO_DUET_FIRST = 16 };

/* ---- the file ---- */

struct vio_duet_head {
	uint64_t magic;
	uint64_t bytes; /* of the file */
	/* Offsets of arrays: sides [slot][side], turns, records of guests and of servers [turn]. */
	uint64_t sides_at, turns_at, guests_at, servers_at;
	uint32_t max_turns;
	uint32_t n_slots;
	uint32_t n_turns;
	uint32_t n_guests; /* that have to be ready before the first turn */
	uint32_t more;     /* 1: another dance follows this one; for who plays the last turn */
	uint32_t first;    /* the word of turn 0 of this dance, at least VIO_DUET_FIRST */
	/* Alone on its line: written by guests as they become ready. */
	uint32_t ready __attribute__((aligned(VIO_DUET_APART)));
} __attribute__((aligned(VIO_DUET_APART)));

struct vio_duet_line {
	/* Written at hand-overs, looked at by its side in each turn of the loop; a futex. */
	uint32_t word __attribute__((aligned(VIO_DUET_APART)));
	/* Written by its side: the word that it has seen and acts upon. */
	uint32_t seen __attribute__((aligned(VIO_DUET_APART)));
	uint32_t alone; /* of a guest's line: 1, the slot has no server's side that waits */
} __attribute__((aligned(VIO_DUET_APART)));

struct vio_duet_turn {
	uint32_t slot;
	uint32_t warm, ticks;  /* before the counted part; of it */
	uint32_t threshold[2]; /* ticks, by side: longer turns of the loop are gaps */
};

struct vio_duet_guest_record {
	uint64_t woken, begin, passed; /* ticks: on its core; both sides on theirs; handed over */
	uint32_t warm, ticks;      /* ticks from begin to the counted part; of the counted part */
	uint32_t requests, all;    /* completed in the counted part; in the whole turn */
	uint32_t longest, gaps;    /* of the counted part */
	uint32_t switches, cpu_ns; /* involuntary; CPU time of the thread in the turn */
	uint32_t done;             /* 1: the record is complete */
	uint32_t reserved;
};

struct vio_duet_server_record {
	uint64_t woken;
	uint32_t longest, gaps;
	uint32_t switches, cpu_ns;
	uint32_t done;
	uint32_t reserved;
};

/* ---- one side ---- */

enum vio_duet_part { VIO_DUET_ARRIVING, VIO_DUET_WARM, VIO_DUET_COUNTED };

struct vio_duet {
	/* Looked at in each turn of the loop. */
	const uint32_t *word; /* of this side; without a score a word that is always FREE */
	uint32_t playing;     /* as this side knows it */
	enum vio_duet_part part;
	uint64_t
		until; /* tick at which the part may end, of a server the warm-up; 0: look at each step */
	struct vio_gaps gaps;

	/* The rest at hand-overs. */
	uint64_t give_up; /* tick at which a window ends although nothing is completed */
	uint64_t counted_from, done_at, all_from;
	uint64_t woken, switches_at, cpu_at;
	struct vio_duet_guest_record rec; /* of the window that runs */
	unsigned slot;
	enum vio_duet_side side;
	struct vio_duet_head *head;
	struct vio_duet_line *line; /* of all slots and sides */
	const struct vio_duet_turn *turn;
	struct vio_duet_guest_record *guests;
	struct vio_duet_server_record *servers;
	size_t bytes;
	uint32_t none; /* what `word` points to without a score */
};

/*
 * "FILE,slot=N" as an option's value: a side of slot N of the score in FILE. -EINVAL, or what open
 * and mmap say, with a sentence. `d` stays where it is until it is closed.
 */
int vio_duet_open(struct vio_duet *d, const char *text, enum vio_duet_side side,
		  struct vio_err *err);
/* A side that never has to do anything: vio_duet_called() is false for ever. threshold: of its gaps, ticks. */
void vio_duet_none(struct vio_duet *d, uint64_t threshold);
void vio_duet_close(struct vio_duet *d);

/* Something to do for vio_duet_serve()? Data path: one load of a line that changes at hand-overs only. */
static inline bool vio_duet_called(const struct vio_duet *d)
{
	return vio_load_acquire(d->word) != d->playing; /* pair M */
}

/* The last dance has ended, as this side was told when it was called last: nobody is called any more. */
static inline bool vio_duet_over(const struct vio_duet *d)
{
	return d->playing == VIO_DUET_OVER;
}

/*
 * The server's side, when it was called: writes the record of the turn that has ended, and sleeps
 * while it has none, at most for some seconds or until a signal. Afterwards vio_duet_called() says
 * whether it must come here again before it does anything else. True: it slept.
 */
bool vio_duet_serve(struct vio_duet *d);
/* The server's side has made a turn of its loop: looks for a gap, once the warm-up is over. Data path. */
static inline void vio_duet_look(struct vio_duet *d, uint64_t now)
{
	vio_gaps_look(&d->gaps, now);
	if (vio_likely(now < d->until))
		return;
	d->until = UINT64_MAX;
	vio_gaps_begin(&d->gaps, now, d->gaps.threshold);
}
/* The server's loop is about to sleep for its own reasons: what is known of its turn is written. */
void vio_duet_note(struct vio_duet *d);

/*
 * The guest's side is about to be set up, for which it needs its server: that is free to do anything
 * from now on. Until then it sleeps, so that those that wait for their guests take nothing away from
 * the one that is set up.
 */
void vio_duet_begin(struct vio_duet *d);
/*
 * The guest's side is set up and has nothing outstanding: its server may sleep. The dance begins
 * with the last one.
 */
void vio_duet_ready(struct vio_duet *d);
/*
 * Sleep until it is this slot's turn. `done`: requests completed so far. False: the dance is over and
 * vio_duet_over() says whether another one follows, for which to be ready again; or *stop.
 */
bool vio_duet_wait(struct vio_duet *d, uint64_t done, const volatile int *stop);
/* The slow half of vio_duet_step(). */
bool vio_duet_step_on(struct vio_duet *d, uint64_t now, uint64_t done, bool progress);
/*
 * The guest's side has made a turn of its loop: at `now`, `done` requests are completed; progress:
 * one of them in this turn. Looks for a gap. True: the window is over; submit nothing more, wait
 * for what is outstanding, then vio_duet_pass(). Data path.
 */
static inline bool vio_duet_step(struct vio_duet *d, uint64_t now, uint64_t done, bool progress)
{
	vio_gaps_look(&d->gaps, now);
	if (vio_likely(now < d->until))
		return false;
	return vio_duet_step_on(d, now, done, progress);
}
/* The window has ended and nothing is outstanding; `done`: all requests so far. The next slot's turn. */
void vio_duet_pass(struct vio_duet *d, uint64_t done);

#endif
