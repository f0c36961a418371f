/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <linux/virtio_9p.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "guest/dev/9p/p9.h"
#include "vio/cycles.h"

enum {
	RLERROR = 7,
	TLOPEN = 12,
	TLCREATE = 14,
	TREADDIR = 40,
	TMKDIR = 72,
	TVERSION = 100,
	TATTACH = 104,
	TWALK = 110,
	TREAD = 116,
	TWRITE = 118,
	TCLUNK = 120
};

#define HDR      7u
#define NO_TAG   0xffffu
#define NO_FID   UINT32_MAX
#define MAX_WALK 16u
#define OUT      8u /* messages that are out at once */
#define NAP_NS   100000000ull
#define WITHIN   30000000000ull

enum { REQUESTQ };

static const struct vio_buffered_kind kind = {
	.device = "shared folder",
	.type = VIRTIO_ID_9P,
	.features = 1ull << VIRTIO_9P_MOUNT_TAG,
	.n_queues = 1,
	.queue = {[REQUESTQ] = {.buffers = OUT, .len = VIO_9P_MESSAGE, .answers = true}},
};

/* ------------------------------------------------------------------------------ life ---- */

int vio_9p_open(struct phyp_part *part, struct vio_mem *mem, const struct vio_buffered_cfg *cfg,
		struct vio_9p_fs **out, struct vio_err *err)
{
	struct vio_9p_fs *fs = calloc(1, sizeof(*fs));
	const struct vio_transport_info *i;
	uint16_t len = 0;
	int rc = fs ? vio_buffered_open(part, mem, &kind, cfg, &fs->d, err)
		    : vio_err_set(err, -ENOMEM, "no memory for the %s", kind.device);

	if (rc) {
		free(fs);
		return rc;
	}
	i = &fs->d->info;
	if (i->features >> VIRTIO_9P_MOUNT_TAG & 1 && i->config_len >= sizeof(len)) {
		memcpy(&len, i->config, sizeof(len));
		len = vio_le16(len);
		if (len < sizeof(fs->name) && sizeof(len) + len <= i->config_len)
			memcpy(fs->name, (const uint8_t *)i->config + sizeof(len), len);
	}
	fs->msize = VIO_9P_MESSAGE;
	fs->patience_ns = WITHIN;
	*out = fs;
	return 0;
}

void vio_9p_close(struct vio_9p_fs *fs)
{
	if (fs)
		vio_buffered_close(fs->d);
	free(fs);
}

/* -------------------------------------------------------------------------- messages ---- */

struct writer {
	struct vio_buf *b;
	uint32_t n;
	bool full;
};

static void msg_put(struct writer *w, const void *from, uint32_t len)
{
	w->full |= len > VIO_9P_MESSAGE - w->n;
	if (w->full)
		return;
	memcpy(w->b->va + w->n, from, len);
	w->n += len;
}

static void msg_num(struct writer *w, uint64_t v, unsigned bytes)
{
	const uint64_t le = vio_le64(v);

	msg_put(w, &le, bytes);
}

static void msg_text(struct writer *w, const char *text, size_t len)
{
	w->full |= len > UINT16_MAX;
	msg_num(w, len & UINT16_MAX, 2);
	msg_put(w, text, (uint32_t)(len & UINT16_MAX));
}

static uint64_t get_num(const uint8_t *p, unsigned bytes)
{
	uint64_t le = 0;

	memcpy(&le, p, bytes);
	return vio_le64(le);
}

static struct writer msg_begin(struct vio_9p_fs *fs, struct vio_buf *b, uint8_t type)
{
	struct writer w = {.b = b};

	fs->tag = (uint16_t)((fs->tag + 1) % NO_TAG);
	msg_num(&w, 0, 4); /* size: when it is known */
	msg_num(&w, type, 1);
	msg_num(&w, type == TVERSION ? NO_TAG : fs->tag, 2);
	return w;
}

static void msg_args(struct writer *w, const char *fmt, va_list ap)
{
	for (; *fmt; fmt++) {
		const char *text;

		switch (*fmt) {
		case 'b':
			msg_num(w, (unsigned)va_arg(ap, int), 1);
			break;
		case 'w':
			msg_num(w, (unsigned)va_arg(ap, int), 2);
			break;
		case 'd':
			msg_num(w, va_arg(ap, uint32_t), 4);
			break;
		case 'q':
			msg_num(w, va_arg(ap, uint64_t), 8);
			break;
		default:
			text = va_arg(ap, const char *);
			msg_text(w, text, strlen(text));
			break;
		}
	}
}

/* -EAGAIN: not now. -EMSGSIZE: it did not fit. */
static int send_now(struct vio_9p_fs *fs, struct writer *w)
{
	const uint32_t le = vio_le32(w->n);

	if (w->full || w->n > fs->msize)
		return -EMSGSIZE;
	memcpy(w->b->va, &le, sizeof(le));
	w->b->len = w->n;
	return vio_buffered_post(fs->d, REQUESTQ, w->b);
}

/* Of an answer to `type`: bytes behind the header, or -errno. */
static int judge_answer(const struct vio_buf *b, uint8_t type)
{
	const uint8_t *m = b->answer;

	if (b->answer_len < HDR || get_num(m, 4) != b->answer_len ||
	    get_num(m + 5, 2) != get_num(b->va + 5, 2))
		return -EPROTO;
	if (m[4] == RLERROR && b->answer_len >= HDR + 4)
		return -(int)(get_num(m + HDR, 4) & INT32_MAX);
	return m[4] == type + 1 ? (int)(b->answer_len - HDR) : -EPROTO;
}

/* One that is back, and *rc as judge_answer() has it; NULL: none came within our patience, and *rc why. */
static struct vio_buf *wait_any(struct vio_9p_fs *fs, uint8_t type, int *rc)
{
	const uint64_t since = vio_now_ns();
	struct vio_buf *b;

	while (!(b = vio_buffered_take(fs->d, REQUESTQ, rc))) {
		if (*rc)
			return NULL;
		if (vio_now_ns() - since > fs->patience_ns) {
			*rc = -ETIMEDOUT;
			return NULL;
		}
		vio_buffered_idle(fs->d, NULL, 0, NAP_NS);
	}
	*rc = judge_answer(b, type);
	return b;
}

/* Post it, however long that takes. */
static int send_soon(struct vio_9p_fs *fs, struct writer *w)
{
	const uint64_t since = vio_now_ns();
	int rc;

	while ((rc = send_now(fs, w)) == -EAGAIN && vio_now_ns() - since <= fs->patience_ns) {
		vio_buffered_idle(fs->d, NULL, 0, NAP_NS / 100);
		if (vio_load_acquire(&fs->d->f.dead))
			return -EIO;
	}
	return rc == -EAGAIN ? -ETIMEDOUT : rc;
}

static int finish_call(struct vio_9p_fs *fs, struct writer *w, const uint8_t **body)
{
	const uint8_t type = w->b->va[4];
	struct vio_buf *b;
	int rc = send_soon(fs, w);

	if (rc) {
		vio_buffered_put(fs->d, REQUESTQ, w->b);
		return rc;
	}
	/* One at a time: who gave up earlier may still get that answer. */
	do {
		b = wait_any(fs, type, &rc);
		if (!b)
			return rc;
		vio_buffered_put(fs->d, REQUESTQ, b); /* its bytes stay until it is used again */
	} while (b != w->b);
	if (body)
		*body = b->answer + HDR;
	return rc;
}

int vio_9p_call(struct vio_9p_fs *fs, const uint8_t **body, uint8_t type, const char *fmt, ...)
{
	struct vio_buf *b = vio_buffered_get(fs->d, REQUESTQ);
	struct writer w;
	va_list ap;

	if (!b)
		return -EAGAIN;
	w = msg_begin(fs, b, type);
	va_start(ap, fmt);
	msg_args(&w, fmt, ap);
	va_end(ap);
	return finish_call(fs, &w, body);
}

static int no_body(int rc)
{
	return rc < 0 ? rc : 0;
}

/* ----------------------------------------------------------------------------- calls ---- */

int vio_9p_mount(struct vio_9p_fs *fs, const char *aname)
{
	const uint8_t *body;
	int rc;

	fs->msize = VIO_9P_MESSAGE;
	rc = vio_9p_call(fs, &body, TVERSION, "ds", VIO_9P_MESSAGE, "9P2000.L");
	if (rc < 0)
		return rc;
	if (rc < 6 + 8 || memcmp(body + 6, "9P2000.L", 8) != 0)
		return -EPROTO;
	fs->msize = (uint32_t)get_num(body, 4);
	if (fs->msize < 512 || fs->msize > VIO_9P_MESSAGE)
		return -EPROTO;
	return no_body(vio_9p_call(fs, NULL, TATTACH, "ddssd", VIO_9P_ROOT, NO_FID, "", aname, 0u));
}

int vio_9p_walk(struct vio_9p_fs *fs, uint32_t from, uint32_t to, const char *path)
{
	struct vio_buf *b = vio_buffered_get(fs->d, REQUESTQ);
	const uint8_t *body = NULL;
	unsigned n = 0;
	struct writer w;
	uint32_t at;
	int rc;

	if (!b)
		return -EAGAIN;
	w = msg_begin(fs, b, TWALK);
	msg_num(&w, from, 4);
	msg_num(&w, to, 4);
	at = w.n;
	msg_num(&w, 0, 2);
	while (*path && n <= MAX_WALK) {
		size_t len = strcspn(path, "/");

		if (len > 0) {
			msg_text(&w, path, len);
			n++;
		}
		path += len + (path[len] == '/');
	}
	w.full |= n > MAX_WALK;
	b->va[at] = (uint8_t)n;
	rc = finish_call(fs, &w, &body);
	if (rc < 0)
		return rc == -EMSGSIZE ? -ENAMETOOLONG : rc;
	if (rc < 2)
		return -EPROTO;
	return get_num(body, 2) == n ? 0 : -ENOENT; /* only its first names are there */
}

int vio_9p_lopen(struct vio_9p_fs *fs, uint32_t fid, uint32_t flags)
{
	return no_body(vio_9p_call(fs, NULL, TLOPEN, "dd", fid, flags));
}

int vio_9p_create(struct vio_9p_fs *fs, uint32_t fid, const char *name, uint32_t flags,
		  uint32_t mode)
{
	return no_body(vio_9p_call(fs, NULL, TLCREATE, "dsddd", fid, name, flags, mode, 0u));
}

int vio_9p_mkdir(struct vio_9p_fs *fs, uint32_t fid, const char *name, uint32_t mode)
{
	return no_body(vio_9p_call(fs, NULL, TMKDIR, "dsdd", fid, name, mode, 0u));
}

int vio_9p_clunk(struct vio_9p_fs *fs, uint32_t fid)
{
	return no_body(vio_9p_call(fs, NULL, TCLUNK, "d", fid));
}

/* A file's bytes, moved by several messages at once. */
struct stream {
	struct vio_9p_fs *fs;
	uint8_t *to;         /* TREAD */
	const uint8_t *from; /* TWRITE */
	uint32_t fid, len, next, out;
	uint64_t at;
	uint32_t end; /* of what there is: short answers make it less */
	int rc;       /* the first error */
};

static uint32_t stream_piece(const struct stream *s, uint32_t at)
{
	const uint32_t most = s->fs->msize - 24; /* a Twrite's header is 23, an Rread's 11 */

	return s->len - at < most ? s->len - at : most;
}

/* The next piece goes out, if there is a buffer and one is left. */
static bool stream_send(struct stream *s)
{
	const uint32_t n = stream_piece(s, s->next);
	struct vio_buf *b;
	struct writer w;

	if (s->rc || s->next >= s->end || !(b = vio_buffered_get(s->fs->d, REQUESTQ)))
		return false;
	w = msg_begin(s->fs, b, s->to ? TREAD : TWRITE);
	msg_num(&w, s->fid, 4);
	msg_num(&w, s->at + s->next, 8);
	msg_num(&w, n, 4);
	if (!s->to)
		msg_put(&w, s->from + s->next, n);
	b->at = s->next;
	s->rc = send_soon(s->fs, &w);
	if (s->rc) {
		vio_buffered_put(s->fs->d, REQUESTQ, b);
		return false;
	}
	s->next += n;
	s->out++;
	return true;
}

static void stream_take(struct stream *s)
{
	int rc;
	struct vio_buf *b = wait_any(s->fs, s->to ? TREAD : TWRITE, &rc);
	uint32_t n;

	if (!b) {
		s->rc = rc;
		s->out = 0; /* they are lost to us */
		return;
	}
	s->out--;
	n = rc >= 4 ? (uint32_t)get_num(b->answer + HDR, 4) : 0;
	if (rc >= 0 && (rc < 4 || n > stream_piece(s, b->at) || (s->to && n > (uint32_t)rc - 4)))
		rc = -EPROTO;
	if (rc < 0)
		s->rc = s->rc ? s->rc : rc;
	else if (s->to)
		memcpy(s->to + b->at, b->answer + HDR + 4, n);
	if (rc >= 0 && n < stream_piece(s, b->at) && b->at + n < s->end)
		s->end = b->at + n;
	vio_buffered_put(s->fs->d, REQUESTQ, b);
}

static int64_t stream_run(struct stream *s)
{
	s->end = s->len;
	/* What somebody gave up waiting for would be taken for ours. */
	while (vio_buffered_posted(s->fs->d, REQUESTQ) > 0) {
		int rc;
		struct vio_buf *b = wait_any(s->fs, 0, &rc);

		if (!b)
			return rc;
		vio_buffered_put(s->fs->d, REQUESTQ, b);
	}
	do {
		while (stream_send(s))
			;
		if (s->out > 0)
			stream_take(s);
	} while (s->out > 0 || (!s->rc && s->next < s->end));
	return s->rc ? (int64_t)s->rc : (int64_t)s->end;
}

int64_t vio_9p_read(struct vio_9p_fs *fs, uint32_t fid, uint64_t at, void *to, uint32_t len)
{
	struct stream s = {.fs = fs, .to = to, .fid = fid, .at = at, .len = len};

	return stream_run(&s);
}

int64_t vio_9p_write(struct vio_9p_fs *fs, uint32_t fid, uint64_t at, const void *from,
		     uint32_t len)
{
	struct stream s = {.fs = fs, .from = from, .fid = fid, .at = at, .len = len};
	int64_t n = stream_run(&s);

	return n >= 0 && n < len ? -ENOSPC : n;
}

int vio_9p_readdir(struct vio_9p_fs *fs, uint32_t fid, uint64_t at, struct vio_9p_entry *to,
		   unsigned max)
{
	const uint8_t *p, *end;
	unsigned n = 0;
	int rc = vio_9p_call(fs, &p, TREADDIR, "dqd", fid, at, fs->msize - 24);

	if (rc < 0)
		return rc;
	if (rc < 4 || get_num(p, 4) != (uint32_t)rc - 4)
		return -EPROTO;
	/* Of each: qid[13] offset[8] type[1] name[s]. */
	for (end = p + rc, p += 4; p < end && n < max; n++) {
		size_t len;

		if (end - p < 24)
			return -EPROTO;
		len = (size_t)get_num(p + 22, 2);
		if (len >= VIO_9P_NAME || (size_t)(end - p) < 24 + len)
			return -EPROTO;
		to[n] = (struct vio_9p_entry){.next = get_num(p + 13, 8), .type = p[21]};
		memcpy(to[n].name, p + 24, len);
		p += 24 + len;
	}
	return (int)n;
}
