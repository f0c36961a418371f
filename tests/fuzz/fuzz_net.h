/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An input of fuzz_net: how the sender, the receiver and their VLANs are, a byte each; a byte for each buffer of the
 * receiver; for each frame what stands before it, its head's length and cuts, its length (16 bits) and the head.
 */
#ifndef VIO_TESTS_FUZZ_NET_H
#define VIO_TESTS_FUZZ_NET_H

#include "tests/fuzz/fuzz.h"

#define FUZZ_NET_BUFFERS 48u
#define FUZZ_NET_FRAMES  12u

#endif
