/* SPDX-License-Identifier: GPL-2.0 */
/* What the shared sources (proto/) include by its name in user space. */
#include <linux/errno.h>
