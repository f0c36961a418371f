/* SPDX-License-Identifier: BSD-3-Clause */
#include "guest/dma/dma.h"

const struct vio_dma_ops *vio_dma_level(enum vio_mapping level)
{
	static const struct vio_dma_ops *const levels[VIO_N_MAPPING] = {
		[VIO_MAP_SINGLE_USE] = &vio_dma_single_use,
		[VIO_MAP_DEFERRED] = &vio_dma_deferred,
		[VIO_MAP_CACHED] = &vio_dma_cached,
		[VIO_MAP_POOL] = &vio_dma_pool,
	};

	return (unsigned)level < VIO_N_MAPPING ? levels[level] : NULL;
}
