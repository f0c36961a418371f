/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "server/dev/bytes.h"

int vio_bytes_open(struct vio_bytes *b, uint32_t size)
{
	*b = (struct vio_bytes){.buf = calloc(1, size), .size = size};
	return b->buf ? 0 : -ENOMEM;
}

void vio_bytes_close(struct vio_bytes *b)
{
	free(b->buf);
	b->buf = NULL;
}

static uint8_t *piece(const struct vio_bytes *b, uint32_t at, uint32_t *n)
{
	const uint32_t off = at & (b->size - 1);

	if (*n > b->size - off)
		*n = b->size - off;
	return b->buf + off;
}

uint8_t *vio_bytes_next(const struct vio_bytes *b, uint32_t *n)
{
	*n = vio_bytes_ready(b);
	return piece(b, b->got, n);
}

uint8_t *vio_bytes_free(const struct vio_bytes *b, uint32_t *n)
{
	*n = vio_bytes_room(b);
	return piece(b, b->put, n);
}

void vio_bytes_read(struct vio_bytes *b, void *to, uint32_t n)
{
	uint32_t first = n;
	const uint8_t *p = piece(b, b->got, &first);

	memcpy(to, p, first);
	memcpy((uint8_t *)to + first, b->buf, n - first);
	vio_bytes_done_reading(b, n);
}

void vio_bytes_write(struct vio_bytes *b, const void *from, uint32_t n)
{
	uint32_t first = n;
	uint8_t *p = piece(b, b->put, &first);

	memcpy(p, from, first);
	memcpy(b->buf, (const uint8_t *)from + first, n - first);
	vio_bytes_done_writing(b, n);
}

int vio_bell_open(struct vio_bell *b)
{
	b->asleep = 0;
	b->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return b->fd < 0 ? -errno : 0;
}

void vio_bell_close(struct vio_bell *b)
{
	if (b->fd >= 0)
		close(b->fd);
	b->fd = -1;
}

void vio_bell_awake(struct vio_bell *b)
{
	uint64_t rung;

	vio_store_relaxed(&b->asleep, 0);
	while (read(b->fd, &rung, sizeof(rung)) < 0 && errno == EINTR)
		;
}

void vio_bell_ring(struct vio_bell *b)
{
	const uint64_t one = 1;

	vio_fence_full(); /* pair M: what was changed before the look whether somebody sleeps */
	if (!vio_load_relaxed(&b->asleep) || !vio_xchg_acq_rel(&b->asleep, 0))
		return;
	while (write(b->fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}
