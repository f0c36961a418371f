/* SPDX-License-Identifier: GPL-2.0 */
/* What the shared headers (proto/, include/vio/) include by its name in user space: static_assert(). */
#include <linux/build_bug.h>
