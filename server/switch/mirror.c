/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <pcap/pcap.h>
#include <pthread.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "server/dev/bytes.h"
#include "server/switch/mirror.h"
#include "vio/cycles.h"
#include "vio/thread.h"

#define RING    (8u << 20)
#define SNAP    (VIO_FRAME_MAX + VIO_TAG_LEN)
#define NAP_NS  2000000
#define HEADER  24u /* of the file, of a record in it */
#define RECORD  16u
#define TUNE_NS 5000000u
#define FLUSH                                                                                      \
	65536u /* bytes of whole frames that may be lost when the file can't be written any more */

/* In front of a frame in the ring. */
struct mark {
	uint64_t ticks;
	uint32_t len, pad;
};

struct vio_mirror {
	struct vio_bytes ring;
	uint32_t
		full; /* the file is as long as it may be, or can't be written: frames are not copied any more */
	uint32_t ended; /* the thread is to write the rest and end */
	int error;      /* why it can't be written, errno; relaxed */
	bool said;      /* that; the switch's lcore's */
	uint64_t hz;    /* of vio_ticks() */
	uint64_t size, limit;
	uint64_t flushed; /* of size: what the file has, whole frames */
	pcap_t *pcap;
	pcap_dumper_t *file;
	pthread_t thread;
	uint8_t frame[SNAP];
};

/* ------------------------------------------------------------------------- the data path ---- */

/* The frame's bytes: `head` of them stand there, with or without a tag; then the body. */
static void copy_to_ring(struct vio_port *p, struct vio_mirror *m, const struct vio_frame *f,
			 const uint8_t *front, uint32_t n_front, uint32_t skip)
{
	const struct mark k = {vio_ticks(), f->len - skip + n_front, 0};

	if (vio_load_relaxed(&m->full))
		return;
	if (k.len > SNAP || vio_bytes_room(&m->ring) < sizeof(k) + k.len) {
		vio_counter_add(&p->stats.mirror_lost, 1);
		return;
	}
	vio_bytes_write(&m->ring, &k, sizeof(k));
	if (n_front > 0)
		vio_bytes_write(&m->ring, front, n_front);
	vio_bytes_write(&m->ring, vio_frame_head(f) + skip, f->head_len - skip);
	for (unsigned i = 0; i < f->n_body; i++)
		vio_bytes_write(&m->ring, f->body[i].iov_base, (uint32_t)f->body[i].iov_len);
	vio_counter_add(&p->stats.mirrored, 1);
}

void vio_mirror_in(struct vio_port *p, const struct vio_frame *f, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		copy_to_ring(p, p->mirror_in, &f[i], NULL, 0, 0);
}

void vio_mirror_out(struct vio_port *p, struct vio_frame *const f[], unsigned n)
{
	uint8_t front[VIO_FRAME_MACS + VIO_TAG_LEN];

	for (unsigned i = 0; i < n; i++)
		copy_to_ring(p, p->mirror_out, f[i], front,
			     vio_frame_put_front(f[i], vio_port_tags(p, f[i]->vid), front),
			     VIO_FRAME_MACS);
}

/* ---------------------------------------------------------------------------- the thread ---- */

/* Ticks of a moment that has passed, as the time of day, from both now. */
static struct timespec when(const struct vio_mirror *m, uint64_t ticks)
{
	uint64_t now = vio_ticks(), ns;
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	ns = (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
	ns -= vio_muldiv(now - ticks, 1000000000ull, m->hz);
	return (struct timespec){(time_t)(ns / 1000000000ull), (long)(ns % 1000000000ull)};
}

/* The file system is full, or whatever it says: the file ends with the last frame of which it is known to have all. */
static void give_up(struct vio_mirror *m, int why)
{
	FILE *f = pcap_dump_file(m->file);

	__fpurge(f); /* else its end is written when it is closed */
	if (ftruncate(fileno(f), (off_t)m->flushed) < 0)
		why = why ? why : errno; /* it is as long as it is */
	vio_store_relaxed(&m->error, why ? why : EIO);
	vio_store_relaxed(&m->full, 1);
}

static void flush_file(struct vio_mirror *m)
{
	const int before = ferror(pcap_dump_file(m->file)) ? errno : 0;

	if (before || pcap_dump_flush(m->file) < 0)
		give_up(m, before ? before : errno);
	else
		m->flushed = m->size;
}

/* Into the file, or nowhere if it has become too long. */
static void write_one(struct vio_mirror *m, const struct mark *k)
{
	const struct timespec t = when(m, k->ticks);
	/* With the nanoseconds where the microseconds are: PCAP_TSTAMP_PRECISION_NANO. */
	const struct pcap_pkthdr h = {.ts = {t.tv_sec, t.tv_nsec}, .caplen = k->len, .len = k->len};

	vio_bytes_read(&m->ring, m->frame, k->len);
	if (m->full)
		return;
	if (m->limit && m->size + RECORD + k->len > m->limit) {
		flush_file(m); /* what is there is whole, also if nobody ever ends the mirror */
		vio_store_relaxed(&m->full, 1);
		return;
	}
	pcap_dump((uint8_t *)m->file, &h, m->frame);
	m->size += RECORD + k->len;
	if (ferror(pcap_dump_file(m->file)) || m->size - m->flushed >= FLUSH)
		flush_file(m);
}

static bool drain(struct vio_mirror *m)
{
	bool any = false;
	struct mark k;

	while (vio_bytes_ready(&m->ring) >= sizeof(k)) {
		vio_bytes_read(&m->ring, &k, sizeof(k));
		while (vio_bytes_ready(&m->ring) < k.len) /* it is being written */
			vio_cpu_relax();
		write_one(m, &k);
		any = true;
	}
	if (any && !m->full)
		flush_file(m);
	return any;
}

static void *mirror_thread(void *arg)
{
	const struct timespec nap = {0, NAP_NS};
	struct vio_mirror *m = arg;

	while (!vio_load_acquire(&m->ended)) {
		if (!drain(m))
			nanosleep(&nap, NULL);
	}
	drain(m);
	return NULL;
}

/* ---------------------------------------------------------------------------------- life ---- */

static int open_pcap(struct vio_mirror *m, const char *path, struct vio_err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600), rc;
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");

	if (!f) {
		rc = -errno;
		if (fd >= 0)
			close(fd);
		return vio_err_set(err, rc, "%s: %s%s", path, strerror(-rc),
				   rc == -EEXIST ? "; it is not written over: name another" : "");
	}
	m->file = pcap_dump_fopen(m->pcap, f);
	if (m->file && pcap_dump_flush(m->file) == 0)
		return 0;
	rc = vio_err_set(err, -EIO, "%s: %s", path, pcap_geterr(m->pcap));
	if (!m->file)
		fclose(f);
	return rc;
}

static void free_mirror(struct vio_mirror *m)
{
	if (m->file)
		pcap_dump_close(m->file);
	if (m->pcap)
		pcap_close(m->pcap);
	vio_bytes_close(&m->ring);
	free(m);
}

int vio_mirror_start(const struct vio_mirror_cfg *cfg, struct vio_mirror **out, struct vio_err *err)
{
	struct vio_mirror *m =
		aligned_alloc(VIO_CACHE_LINE, VIO_ALIGN_UP(sizeof(*m), (size_t)VIO_CACHE_LINE));
	int rc;

	if (!m)
		return vio_err_set(err, -ENOMEM, "no memory for a mirror");
	memset(m, 0, sizeof(*m));
	m->limit = cfg->limit;
	m->size = m->flushed = HEADER;
	m->hz = vio_measure_tick_hz(TUNE_NS);
	m->pcap =
		pcap_open_dead_with_tstamp_precision(DLT_EN10MB, SNAP, PCAP_TSTAMP_PRECISION_NANO);
	if (!m->pcap || vio_bytes_open(&m->ring, RING) < 0)
		rc = vio_err_set(err, -ENOMEM, "no memory for a mirror");
	else
		rc = open_pcap(m, cfg->path, err);
	if (rc == 0) {
		rc = vio_thread_start(&m->thread, mirror_thread, m);
		if (rc < 0)
			vio_err_set(err, rc, "a thread for the mirror: %s", strerror(-rc));
	}
	if (rc < 0)
		free_mirror(m);
	else
		*out = m;
	return rc;
}

int vio_mirror_why(struct vio_mirror *m)
{
	const int why = m->said ? 0 : vio_load_relaxed(&m->error);

	m->said |= why != 0;
	return why;
}

void vio_mirror_stop(struct vio_mirror *m)
{
	vio_store_release(&m->ended, 1);
	pthread_join(m->thread, NULL);
	free_mirror(m);
}
