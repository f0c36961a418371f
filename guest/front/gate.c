/* SPDX-License-Identifier: BSD-3-Clause */
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/front/gate.h"

static bool barrier(int command)
{
	return syscall(__NR_membarrier, command, 0, 0) == 0;
}

void vio_gate_init(struct vio_gate *g)
{
	g->fences = !barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
	vio_store_release(&g->closed, 0);
}

void vio_gate_close(struct vio_gate *g)
{
	vio_store_relaxed(&g->closed, 1);
	vio_fence_full(); /* pair G */
	if (!g->fences)
		barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
}
