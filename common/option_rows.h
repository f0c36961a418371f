/* SPDX-License-Identifier: BSD-3-Clause */
/* Options that several programs have: VIO_ROW_X(the program's struct, the field, ...) is a row of struct vio_option. */
#ifndef VIO_COMMON_OPTION_ROWS_H
#define VIO_COMMON_OPTION_ROWS_H

#include "common/options.h"

/* Every partition. */
#define VIO_ROW_PHYP(type, field)                                                                        \
	{                                                                                                \
		"phyp", "SOCKET",                                                                        \
			"phypd's control socket, or mailbox:SOCKET,MEMORY: vio-mailbox makes the calls", \
			VIO_TEXT(type, field), .def = "/tmp/vio-phyp.sock"                               \
	}
#define VIO_ROW_PARTITION(type, field, otherwise)                                                  \
	{                                                                                          \
		"partition", "NAME", "which partition to be", VIO_TEXT(type, field),               \
			.def = (otherwise)                                                         \
	}
#define VIO_ROW_UNIT(type, field, units)                                                           \
	{                                                                                          \
		"unit", "N", "which of its virtual adapters",                                      \
			VIO_NUMBER(type, field, 0, (units)-1), .def = "0"                          \
	}
#define VIO_ROW_PROTO(type, field, latest)                                                         \
	{                                                                                          \
		"proto", "N", "highest protocol version to speak",                                 \
			VIO_NUMBER(type, field, 1, latest), .def = "2"                             \
	}
#define VIO_ROW_SPIN(type, field)                                                                  \
	{                                                                                          \
		"spin-us", "N", "crq, suppress: spin this long before sleeping",                   \
			VIO_NUMBER(type, field, 0, 1000000), .unit = 1000, .def = "50"             \
	}
#define VIO_ROW_TRACE(type, field)                                                                 \
	{                                                                                          \
		"trace", NULL, "print each message and hypervisor call to standard error",         \
			VIO_FLAG(type, field)                                                      \
	}
#define VIO_ROW_FAULT(type, field)                                                                 \
	{                                                                                          \
		"fault", "SPEC", "inject faults into hypervisor calls: OP@N=RC[xCOUNT],...; OP may be ANY",       \
			VIO_TEXT(type, field)                                                      \
	}
#define VIO_ROW_DUET(type, field)                                                                                                            \
	{                                                                                                                                    \
		"duet", "FILE,slot=N",                                                                                                       \
			"measurements: take turns with other machines on one processor, as the score in FILE says, which also ends the run", \
			VIO_TEXT(type, field)                                                                                                \
	}
#define VIO_ROW_READY_FD(type, field, when)                                                        \
	{                                                                                          \
		"ready-fd", "N", "write to this descriptor when " when,                            \
			VIO_NUMBER(type, field, 0, 65535)                                          \
	}
#define VIO_ROW_INFO(type, field)                                                                  \
	{                                                                                          \
		"info", NULL, "print what the device is and stop", VIO_FLAG(type, field)           \
	}
#define VIO_ROW_CORE(type, field)                                                                  \
	{                                                                                          \
		"core", "N", "pin to this CPU", VIO_NUMBER(type, field, 0, 4095)                   \
	}
#define VIO_ROW_JSON(type, field, otherwise)                                                       \
	{                                                                                          \
		"json", "FILE", "write the result as JSON; -: standard output",                    \
			VIO_TEXT(type, field), .def = (otherwise)                                  \
	}
#define VIO_ROW_QUEUE_SIZE(type, field, least, most)                                               \
	{                                                                                          \
		"queue-size", "N", "entries of a queue", VIO_NUMBER(type, field, least, most),     \
			.power_of_two = true, .def = "256"                                         \
	}

/* Who puts a load on a disk or a network card. */
#define VIO_ROW_RW(type, field, list)                                                              \
	{                                                                                          \
		"rw", "MODE", "the load", VIO_WORD(type, field, list), .def = "randread"           \
	}
#define VIO_ROW_DEPTH(type, field, most)                                                                    \
	{                                                                                                   \
		"depth", "N",                                                                               \
			"requests in flight, per queue; what is more than a quarter of --queue-size waits", \
			VIO_NUMBER(type, field, 1, most), .def = "1"                                        \
	}
#define VIO_ROW_BUFFERS(type, field)                                                               \
	{                                                                                          \
		"buffers", "N", "buffers of each queue, used in turn (4 times the depth)",         \
			VIO_NUMBER(type, field, 1, 65536)                                          \
	}
#define VIO_ROW_BATCH(type, field, most)                                                           \
	{                                                                                          \
		"batch", "N",                                                                      \
			"requests made available per publish (depth 1: 1, else half the depth)",   \
			VIO_NUMBER(type, field, 1, most)                                           \
	}
#define VIO_ROW_SPAN(type, field)                                                                  \
	{                                                                                          \
		"span", "SIZE", "bytes of the disk to use (64M, or the whole disk if smaller)",    \
			VIO_NUMBER(type, field, 512, UINT64_MAX / 4)                               \
	}
#define VIO_ROW_COUNT(type, field)                                                                 \
	{                                                                                          \
		"count", "N", "measure so many requests or frames, or",                            \
			VIO_NUMBER(type, field, 1, UINT64_MAX / 2)                                 \
	}
#define VIO_ROW_SECONDS(type, field, otherwise)                                                    \
	{                                                                                          \
		"seconds", "S", "measure so long; without --count 1",                              \
			VIO_SECONDS(type, field, 0, 1e6), .def = (otherwise)                       \
	}
#define VIO_ROW_WARM_SECONDS(type, field)                                                          \
	{                                                                                          \
		"warm-seconds", "S", "so long before measuring", VIO_SECONDS(type, field, 0, 1e6), \
			.def = "0.1"                                                               \
	}
#define VIO_ROW_RATE(type, field)                                                                          \
	{                                                                                                  \
		"rate", "N",                                                                               \
			"open loop: start N requests or frames a second, latency from the intended start", \
			VIO_REAL(type, field, 0.001, 1e9)                                                  \
	}
#define VIO_ROW_TOUCH(type, field)                                                                                                          \
	{                                                                                                                                   \
		"touch", "WHAT",                                                                                                            \
			"bytes of each block that the program touches, none, the first 64 (headers), or all, patterns written and checked", \
			VIO_WORD(type, field, vio_touch_words), .def = "all"                                                                \
	}
#define VIO_ROW_CACHE(type, field)                                                                                              \
	{                                                                                                                       \
		"cache", "MODE",                                                                                                \
			"the disk's write cache: as the server has it (as-is), writeback, or writethrough, each write durable", \
			VIO_WORD(type, field, vio_cache_words), .def = "as-is"                                                  \
	}
#define VIO_ROW_SEED(type, field)                                                                  \
	{                                                                                          \
		"seed", "N", "of data and order", VIO_NUMBER(type, field, 0, UINT64_MAX / 4),      \
			.def = "1"                                                                 \
	}

/* none, headers, all. */
extern const char *const vio_touch_words[];
/* as-is, writeback, writethrough: enum vio_blk_cache. */
extern const char *const vio_cache_words[];

#endif
