/* SPDX-License-Identifier: BSD-3-Clause */
/* Interrupts raised, sleepers woken. Any process of the machine, any thread. */
#ifndef PHYP_IRQ_H
#define PHYP_IRQ_H

#include "phyp/core/hv.h"

/*
 * Raise u's interrupt if it is enabled. evfd: its partition's. Bit 0 of the result: raised, bit 1:
 * woke a sleeper.
 */
unsigned hv_irq_raise(struct hv_seg *seg, struct hv_unit *u, const int *evfd);
/* The vcpu's line has something new: wake it if it sleeps. */
bool hv_line_wake(struct hv_line *line, int evfd);

#endif
