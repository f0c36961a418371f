/* SPDX-License-Identifier: BSD-3-Clause */
#include "guest/dma/mem.h"

#include <string.h>

void vio_mem_init(struct vio_mem *m, struct phyp_part *part)
{
	m->part = part;
	m->next = 0;
}

static int no_room(const struct vio_mem *m, uint64_t len, const char *what, struct vio_err *err)
{
	const uint64_t size = phyp_mem_size(m->part);

	return vio_err_set(
		err, -ENOMEM,
		"partition %s: no room for %s: %llu KiB wanted, %llu KiB of %llu MiB are left; give the partition more memory or ask for less",
		phyp_name(m->part), what, (unsigned long long)((len + 1023) >> 10),
		(unsigned long long)((size - m->next) >> 10), (unsigned long long)(size >> 20));
}

int vio_mem_carve(struct vio_mem *m, uint64_t len, uint64_t align, bool within_lmb,
		  const char *what, struct vio_mem_piece *out, struct vio_err *err)
{
	const uint64_t size = phyp_mem_size(m->part), lmb = phyp_lmb_size(m->part);
	uint64_t at;
	void *va;

	if (len == 0 || align == 0 || (align & (align - 1)) != 0)
		return vio_err_set(err, -EINVAL, "%s: %llu bytes aligned to %llu can't be carved",
				   what, (unsigned long long)len, (unsigned long long)align);
	if (within_lmb && len > lmb)
		return vio_err_set(
			err, -ENOMEM,
			"partition %s: %s must lie in one logical memory block; it takes %llu KiB and a block has %llu KiB",
			phyp_name(m->part), what, (unsigned long long)((len + 1023) >> 10),
			(unsigned long long)(lmb >> 10));
	/* Also what keeps the roundings below from wrapping: memory ends far below 2^63. */
	if (align > size || len > size)
		return no_room(m, len, what, err);
	at = VIO_ALIGN_UP(m->next, align);
	if (within_lmb && at / lmb != (at + len - 1) / lmb)
		at = VIO_ALIGN_UP(VIO_ALIGN_UP(at, lmb), align);
	if (!vio_range_ok(at, len, size))
		return no_room(m, len, what, err);
	va = phyp_mem(m->part, (struct gla){at}, len);
	if (!va)
		return no_room(m, len, what, err);
	memset(va, 0, len); /* a partition that starts again finds what its predecessor left */
	m->next = at + len;
	*out = (struct vio_mem_piece){.at = {at}, .va = va, .len = len};
	return 0;
}
