/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The hand-over of a duet (duet/score.c): two slots with a guest's and a server's side each, the conductor (Python) that writes
 * one dance after the other into the same file, DANCES of TURNS turns. A sleep in a futex has no time-out here, so that a
 * wake-up that is lost is an end that Spin calls invalid. Loads and stores are in order: what weaker memory could do is pair M's
 * matter.
 *
 * BREAK_*: one rule left out each, for which an error must be found (tests/system/test_model.py).
 *   BREAK_WORD     the end of the last dance is read from the file instead of from the word, as it was once
 *   BREAK_COMPARE  a futex sleeps without looking at its word again
 *   BREAK_UNIQUE   a dance's turns have the numbers of the dance before
 */
#ifndef DANCES
#define DANCES 3
#endif
#ifndef TURNS
#define TURNS 4
#endif
#define FREE   0
#define PARKED 1
#define OVER   2
#define FIRST  3

#ifdef BREAK_UNIQUE
#define STEP 0
#else
#define STEP TURNS
#endif

/* A side: 2 * slot for the guest's, and one more for the server's. */
byte word[4], seen[2], ready, first = FIRST;
bool more, asleep[4];
bool go, ended; /* the pipes to and from who leads: slot 0's guest */
byte played; /* turns of all dances */

/* 0, 1, 1, 0: one follows itself. */
#define SLOT_OF(t) (((t) + 1) / 2 % 2)

inline wake(side) { asleep[side] = false }

/* futex_wait() */
inline rest(side)
{
#ifdef BREAK_COMPARE
	asleep[side] = true;
#else
	atomic { asleep[side] = (word[side] == PARKED) }
#endif
	!asleep[side]
}

/* tell(): the server's side first. */
inline tell_both(slot, what)
{
	word[2 * slot + 1] = what;
	wake(2 * slot + 1);
	word[2 * slot] = what;
	wake(2 * slot)
}

/* score_play() */
inline play(t)
{
	if
	:: (t) < TURNS -> tell_both(SLOT_OF(t), first + (t))
	:: else ->
#ifdef BREAK_WORD
		end = FREE;
#else
		end = (more -> FREE : OVER);
#endif
		ready = 0;
		tell_both(0, end);
		tell_both(1, end)
	fi
}

proctype guest(byte slot)
{
	byte playing, t, end;
	bool last;

again:
	if
	:: slot == 0 -> go; go = false
	:: else
	fi;
	/* vio_duet_ready() */
	word[2 * slot] = PARKED;
	word[2 * slot + 1] = PARKED;
	atomic { ready++; last = (ready == 2) }
	if
	:: last -> play(0)
	:: else
	fi;
	/* vio_duet_wait() */
	do
	:: if
	   :: word[2 * slot] == PARKED -> rest(2 * slot)
	   :: else ->
		playing = word[2 * slot];
		if
		:: playing < FIRST -> break
		:: else
		fi;
		/* The turn: both sides are there, and nobody else has one. */
		seen[slot] == playing;
		t = playing - first;
		assert(t < TURNS && SLOT_OF(t) == slot && word[2 * slot + 1] == playing);
		assert(word[2 * (1 - slot)] == PARKED);
		played++;
		/* vio_duet_pass() */
		if
		:: t + 1 < TURNS && SLOT_OF(t + 1) == slot
		:: else -> word[2 * slot + 1] = PARKED
		fi;
		word[2 * slot] = PARKED;
		play(t + 1)
	   fi
	od;
	if
	:: slot == 0 -> ended = true
	:: else
	fi;
#ifdef BREAK_WORD
	if
	:: more -> goto again
	:: else
	fi
#else
	if
	:: playing != OVER -> goto again
	:: else
	fi
#endif
}

/* A loop that looks at its word, as bench-duet's and a server's: vio_duet_called(), vio_duet_serve(). */
proctype server(byte slot)
{
	byte playing = FREE, w;

	do
	:: word[2 * slot + 1] != playing ->
		w = word[2 * slot + 1];
		playing = FREE;
		if
		:: w == PARKED ->
			rest(2 * slot + 1);
			w = word[2 * slot + 1]
		:: else
		fi;
		if
		:: w != PARKED ->
			playing = w;
			seen[slot] = w
		:: else
		fi;
#ifdef BREAK_WORD
		if
		:: playing == FREE && w == FREE && !more -> break
		:: else
		fi
#else
		if
		:: playing == OVER -> break
		:: else
		fi
#endif
	od
}

/* What runs and dance do in bench/ab/instrument/duet.py */
proctype conductor()
{
	byte k;

	for (k : 0 .. DANCES - 1) {
		ready == 1;
		first = (k == 0 -> FIRST : first + STEP);
		/* What is in the file of the dance before is none any more: nobody is where this dance will be. */
		assert(seen[0] < first && seen[1] < first);
		more = (k + 1 < DANCES);
		go = true;
		ended;
		ended = false
	}
	played == DANCES * TURNS
}

init
{
	atomic {
		word[0] = PARKED;
		word[1] = PARKED;
		word[2] = PARKED;
		word[3] = PARKED;
		run guest(0);
		run guest(1);
		run server(0);
		run server(1);
		run conductor()
	}
}
