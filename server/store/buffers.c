/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>
#include <sys/mman.h>

#include "server/store/priv.h"

int vio_be_buffers_open(struct vio_be_buffers *b)
{
	void *mem = mmap(NULL, (size_t)VIO_BE_BUFFERS * VIO_MAX_DATA, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	memset(b, 0, sizeof(*b));
	if (mem == MAP_FAILED)
		return -ENOMEM;
	b->mem = mem;
	for (unsigned i = 0; i < VIO_BE_BUFFERS; i++)
		vio_be_buffer_put(b, (uint8_t *)mem + (size_t)i * VIO_MAX_DATA);
	return 0;
}

void vio_be_buffers_close(struct vio_be_buffers *b)
{
	if (b->mem)
		munmap(b->mem, (size_t)VIO_BE_BUFFERS * VIO_MAX_DATA);
	memset(b, 0, sizeof(*b));
}

void vio_be_gather(const struct vio_io *r, void *buf)
{
	uint8_t *p = buf;

	for (unsigned i = 0; i < r->n_iov; i++) {
		memcpy(p, r->iov[i].iov_base, r->iov[i].iov_len);
		p += r->iov[i].iov_len;
	}
}

void vio_be_scatter(const struct vio_io *r, const void *buf)
{
	const uint8_t *p = buf;

	for (unsigned i = 0; i < r->n_iov; i++) {
		memcpy(r->iov[i].iov_base, p, r->iov[i].iov_len);
		p += r->iov[i].iov_len;
	}
}
