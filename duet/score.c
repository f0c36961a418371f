/* SPDX-License-Identifier: BSD-3-Clause */
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "duet/score.h"
#include "vio/cycles.h"

/* Who sleeps looks up this often, in case its machine has gone or it was told to end. Turns come sooner. */
static const struct timespec look_up = {.tv_sec = 1};
/* A window in which nothing is completed ends after so many times its length. */
#define PATIENCE 2000u

static void futex_wait(const uint32_t *word, uint32_t value)
{
	syscall(SYS_futex, word, FUTEX_WAIT, value, &look_up, NULL, 0);
}

static void futex_wake(const uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* ---------------------------------------------------------------------------- file ---- */

static bool inside(const struct vio_duet_head *h, uint64_t at, uint64_t bytes)
{
	return at % VIO_DUET_APART == 0 && at >= sizeof(*h) && at <= h->bytes &&
	       bytes <= h->bytes - at;
}

static bool sound(const struct vio_duet_head *h, uint64_t bytes)
{
	return h->magic == VIO_DUET_MAGIC && h->bytes == bytes &&
	       inside(h, h->sides_at, VIO_DUET_MAX_SLOTS * 2 * sizeof(struct vio_duet_line)) &&
	       inside(h, h->turns_at, (uint64_t)h->max_turns * sizeof(struct vio_duet_turn)) &&
	       inside(h, h->guests_at,
		      (uint64_t)h->max_turns * sizeof(struct vio_duet_guest_record)) &&
	       inside(h, h->servers_at,
		      (uint64_t)h->max_turns * sizeof(struct vio_duet_server_record));
}

static int score_map(struct vio_duet *d, const char *path, struct vio_err *err)
{
	int fd = open(path, O_RDWR | O_CLOEXEC), rc = 0;
	struct stat st;
	uint8_t *base = MAP_FAILED;

	if (fd < 0 || fstat(fd, &st))
		rc = -errno;
	else if (st.st_size < (off_t)sizeof(struct vio_duet_head))
		rc = -EINVAL;
	else
		base = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_POPULATE, fd, 0);
	if (rc == 0 && base == MAP_FAILED)
		rc = -errno;
	if (fd >= 0)
		close(fd);
	if (rc)
		return vio_err_set(err, rc, "--duet %s: %s", path, strerror(-rc));
	d->head = (struct vio_duet_head *)(void *)base;
	d->bytes = (size_t)st.st_size;
	if (sound(d->head, d->bytes)) {
		d->line = (struct vio_duet_line *)(void *)(base + d->head->sides_at);
		d->turn = (const struct vio_duet_turn *)(void *)(base + d->head->turns_at);
		d->guests = (struct vio_duet_guest_record *)(void *)(base + d->head->guests_at);
		d->servers = (struct vio_duet_server_record *)(void *)(base + d->head->servers_at);
		return 0;
	}
	vio_duet_close(d);
	return vio_err_set(err, -EINVAL, "--duet %s: this is no score of this version", path);
}

void vio_duet_none(struct vio_duet *d, uint64_t threshold)
{
	memset(d, 0, sizeof(*d));
	d->word = &d->none;
	d->until = UINT64_MAX;
	vio_gaps_begin(&d->gaps, vio_ticks(), threshold);
}

int vio_duet_open(struct vio_duet *d, const char *text, enum vio_duet_side side,
		  struct vio_err *err)
{
	const char *comma = strrchr(text, ','), key[] = ",slot=";
	char path[PATH_MAX], *end = NULL;
	unsigned long slot = ULONG_MAX;
	int rc;

	vio_duet_none(d, UINT64_MAX);
	if (comma && !strncmp(comma, key, sizeof(key) - 1) && comma[sizeof(key) - 1])
		slot = strtoul(comma + sizeof(key) - 1, &end, 10);
	if (!end || *end || slot >= VIO_DUET_MAX_SLOTS || (size_t)(comma - text) >= sizeof(path))
		return vio_err_set(err, -EINVAL, "--duet %s: FILE,slot=N with N from 0 to %u", text,
				   VIO_DUET_MAX_SLOTS - 1);
	memcpy(path, text, (size_t)(comma - text));
	path[comma - text] = 0;
	rc = score_map(d, path, err);
	if (rc)
		return rc;
	d->slot = (unsigned)slot;
	d->side = side;
	d->word = &d->line[2 * d->slot + side].word;
	return 0;
}

void vio_duet_close(struct vio_duet *d)
{
	if (d->head)
		munmap(d->head, d->bytes);
	vio_duet_none(d, UINT64_MAX);
}

static struct vio_duet_line *line(const struct vio_duet *d, unsigned slot, enum vio_duet_side side)
{
	return &d->line[2 * slot + side];
}

/* -------------------------------------------------------------------------- a turn ---- */

static uint64_t switches(void)
{
	struct rusage ru;

	return getrusage(RUSAGE_THREAD, &ru) ? 0 : (uint64_t)ru.ru_nivcsw;
}

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static uint32_t least32(uint64_t v)
{
	return v < UINT32_MAX ? (uint32_t)v : UINT32_MAX;
}

/* The turn of a word; NULL: it is none, or one of a dance before this one. */
static const struct vio_duet_turn *turn_of(const struct vio_duet *d, uint32_t word)
{
	uint32_t t;

	if (word < VIO_DUET_FIRST)
		return NULL;
	t = word - vio_load_relaxed(&d->head->first);
	return t < d->head->max_turns ? &d->turn[t] : NULL;
}

/* This side has a turn from now on. */
static void score_begin(struct vio_duet *d, const struct vio_duet_turn *t)
{
	d->switches_at = switches();
	d->cpu_at = cpu_ns();
	d->woken = vio_ticks();
	vio_gaps_begin(&d->gaps, d->woken, t->threshold[d->side]);
}

/* -------------------------------------------------------------------- server's side ---- */

void vio_duet_note(struct vio_duet *d)
{
	const struct vio_duet_turn *t = turn_of(d, d->playing);
	struct vio_duet_server_record *r;

	if (!t)
		return;
	r = &d->servers[t - d->turn];
	r->woken = d->woken;
	r->longest = least32(d->gaps.longest);
	r->gaps = least32(d->gaps.gaps);
	r->switches = least32(switches() - d->switches_at);
	r->cpu_ns = least32(cpu_ns() - d->cpu_at);
	vio_store_release(&r->done, 1u); /* pair M */
}

bool vio_duet_serve(struct vio_duet *d)
{
	const struct vio_duet_turn *t;
	uint32_t word = vio_load_acquire(d->word); /* pair M */
	bool slept = word == VIO_DUET_PARKED;

	vio_duet_note(d);
	/* PARKED is not remembered: it is to be called again. */
	d->playing = VIO_DUET_FREE;
	if (slept) {
		futex_wait(d->word, VIO_DUET_PARKED);
		word = vio_load_acquire(d->word); /* pair M */
		if (word == VIO_DUET_PARKED)
			return true;
	}
	d->playing = word;
	t = turn_of(d, word);
	d->until = UINT64_MAX;
	if (t) {
		score_begin(d, t);
		d->until = d->woken + t->warm;
	}
	vio_store_release(&line(d, d->slot, VIO_DUET_SERVER)->seen, word); /* pair M */
	return slept;
}

/* --------------------------------------------------------------------- guest's side ---- */

/* Tell both sides of a slot. The server first: it wakes on another processor meanwhile. */
static void tell(const struct vio_duet *d, unsigned slot, uint32_t word)
{
	for (int side = VIO_DUET_SERVER; side >= VIO_DUET_GUEST; side--) {
		struct vio_duet_line *l = line(d, slot, (enum vio_duet_side)side);

		vio_store_release(&l->word, word); /* pair M */
		futex_wake(&l->word);
	}
}

/* Turn number t, or the end. */
static void score_play(const struct vio_duet *d, uint32_t t)
{
	const uint32_t end = d->head->more ? VIO_DUET_FREE : VIO_DUET_OVER;

	if (t < d->head->n_turns) {
		tell(d, d->turn[t].slot, t + d->head->first);
		return;
	}
	vio_store_relaxed(&d->head->ready, 0u);
	for (unsigned s = 0; s < d->head->n_slots; s++)
		tell(d, s, end);
}

void vio_duet_begin(struct vio_duet *d)
{
	struct vio_duet_line *l = line(d, d->slot, VIO_DUET_SERVER);

	vio_store_release(&l->word, VIO_DUET_FREE); /* pair M */
	futex_wake(&l->word);
}

void vio_duet_ready(struct vio_duet *d)
{
	d->playing = VIO_DUET_PARKED;
	vio_store_relaxed(&line(d, d->slot, VIO_DUET_GUEST)->word, VIO_DUET_PARKED);
	vio_store_release(&line(d, d->slot, VIO_DUET_SERVER)->word, VIO_DUET_PARKED); /* pair M */
	if (vio_fetch_add(&d->head->ready, 1u) + 1 == d->head->n_guests)
		score_play(d, 0);
}

bool vio_duet_wait(struct vio_duet *d, uint64_t done, const volatile int *stop)
{
	const struct vio_duet_turn *t;

	while (vio_load_acquire(d->word) == VIO_DUET_PARKED && !*stop) /* pair M */
		futex_wait(d->word, VIO_DUET_PARKED);
	d->playing = vio_load_relaxed(d->word);
	t = turn_of(d, d->playing);
	if (!t || *stop)
		return false;
	score_begin(d, t);
	d->part = VIO_DUET_ARRIVING;
	d->until = 0;
	d->all_from = done;
	d->rec = (struct vio_duet_guest_record){.woken = d->woken, .begin = d->woken};
	d->give_up = d->woken + (uint64_t)PATIENCE * (t->warm + t->ticks);
	return true;
}

static bool arrived(const struct vio_duet *d)
{
	return line(d, d->slot, VIO_DUET_GUEST)->alone ||
	       vio_load_acquire(&line(d, d->slot, VIO_DUET_SERVER)->seen) ==
		       d->playing; /* pair M */
}

static void begin_counting(struct vio_duet *d, uint64_t now, uint64_t done)
{
	const struct vio_duet_turn *t = turn_of(d, d->playing);

	d->part = VIO_DUET_COUNTED;
	d->rec.warm = least32(now - d->rec.begin);
	d->counted_from = now;
	d->done_at = done;
	d->until = now + t->ticks;
	vio_gaps_begin(&d->gaps, now, t->threshold[VIO_DUET_GUEST]);
}

static void end_counting(struct vio_duet *d, uint64_t now, uint64_t done)
{
	d->rec.ticks = least32(now - d->counted_from);
	d->rec.requests = least32(done - d->done_at);
	d->rec.longest = least32(d->gaps.longest);
	d->rec.gaps = least32(d->gaps.gaps);
}

bool vio_duet_step_on(struct vio_duet *d, uint64_t now, uint64_t done, bool progress)
{
	if (d->part == VIO_DUET_ARRIVING && arrived(d)) {
		d->part = VIO_DUET_WARM;
		d->rec.begin = now;
		d->until = now + turn_of(d, d->playing)->warm;
	} else if (d->part == VIO_DUET_WARM && progress) {
		begin_counting(d, now, done);
	} else if (d->part == VIO_DUET_COUNTED && progress) {
		end_counting(d, now, done);
		return true;
	}
	return now > d->give_up;
}

void vio_duet_pass(struct vio_duet *d, uint64_t done)
{
	const uint32_t t = d->playing - d->head->first;
	const bool again = t + 1 < d->head->n_turns && d->turn[t + 1].slot == d->slot;

	/* Its server may leave its processor while this side writes. */
	if (!again)
		vio_store_release(&line(d, d->slot, VIO_DUET_SERVER)->word,
				  VIO_DUET_PARKED);                                  /* pair M */
	vio_store_release(&line(d, d->slot, VIO_DUET_GUEST)->word, VIO_DUET_PARKED); /* pair M */
	d->rec.all = least32(done - d->all_from);
	d->rec.switches = least32(switches() - d->switches_at);
	d->rec.cpu_ns = least32(cpu_ns() - d->cpu_at);
	d->rec.passed = vio_ticks();
	d->rec.done = 1;
	d->guests[t] = d->rec;
	score_play(d, t + 1);
}
