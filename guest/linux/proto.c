// SPDX-License-Identifier: GPL-2.0
/*
 * Messages and state machines of the protocol: the sources of the user-space guest and of the server,
 * BSD-3-Clause OR GPL-2.0. They do no I/O and touch no shared memory.
 */
#include <linux/kernel.h>

#include "proto/link.c"
#include "proto/msg.c"
#include "proto/gfsm.c"
