/* SPDX-License-Identifier: GPL-2.0 */
/* What the shared headers (proto/, include/vio/) include by its name in user space. */
#include <linux/types.h>
#include <linux/stddef.h>
