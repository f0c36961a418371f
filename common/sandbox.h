/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Least privilege of a running program: it becomes another user, and the kernel refuses it every system call that it has no
 * need of once it has started. What that protects from, and what not: docs/threat-model.md.
 *
 * The list of calls is one for what all programs do (memory, threads, clocks, reading and writing what is open) and one for
 * each need that a program names. No program has the need to start another, to trace or signal one, to map code, to change
 * owners, modes or mounts: whoever takes a program over can't do that through it.
 */
#ifndef VIO_COMMON_SANDBOX_H
#define VIO_COMMON_SANDBOX_H

#include <stdbool.h>

#include "common/options.h"

enum {
	VIO_NEED_OPEN =
		1u
		<< 0, /* open, make and remove files, ask and change their sizes; stores, results, mirrors */
	VIO_NEED_STORE = 1u << 1, /* asynchronous I/O, flushes, locks and holes */
	VIO_NEED_CONNECT =
		1u << 2, /* new sockets of UNIX and IP: a store behind NBD, telemetry's clients */
	VIO_NEED_NET = 1u << 3,    /* taps and netlink: the kernel's interfaces */
	VIO_NEED_WATCH = 1u << 5,  /* notice the deaths of other processes */
	VIO_NEED_MEMORY = 1u << 4, /* make memory to share, place it on NUMA nodes */
};

struct vio_sandbox {
	bool on;          /* --sandbox */
	const char *user; /* --user; NULL: stays who it is */
};

/* Two rows of a program's table; `field` is its struct vio_sandbox. */
#define VIO_ROWS_SANDBOX(type, field)                                                                         \
	{"sandbox", "on|off", "refuse system calls that a running program has no need of",                    \
	 VIO_WORD(type, field.on, vio_off_on), .def = VIO_SANDBOX_DEFAULT},                                   \
	{                                                                                                     \
		"user", "NAME",                                                                               \
			"become this user, with its groups, when everything is open: for who starts as root", \
			VIO_TEXT(type, field.user)                                                            \
	}

/* Sanitizers' own threads and reports need calls that no list knows: off where they are built in. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define VIO_SANDBOX_DEFAULT "off"
#else
#define VIO_SANDBOX_DEFAULT "on"
#endif

/*
 * Once, when everything is open and before the first guest is served; all threads of the process, whenever they were started.
 * needs: VIO_NEED_*. A call that is refused later ends the program by SIGSYS, after a line on standard error that names it.
 *
 * 0; -ENOENT: no such user; -EPERM: only root may become another; other -errno of the kernel; all with a sentence. After an error
 * the program has to end: it may be half in.
 */
int vio_sandbox_enter(const struct vio_sandbox *s, unsigned needs, struct vio_err *err);

#endif
