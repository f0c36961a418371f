/* SPDX-License-Identifier: BSD-3-Clause */
/* A table of addresses for a switch that knows none: every frame is flooded. */
#ifndef VIO_TESTS_FUZZ_NO_FDB_H
#define VIO_TESTS_FUZZ_NO_FDB_H

#include <errno.h>

#include "server/switch/switch.h"

static inline int no_learn(struct vio_fdb *t, uint64_t key, unsigned port, unsigned limit,
			   uint32_t now)
{
	(void)t, (void)key, (void)port, (void)limit, (void)now;
	return -ENOSPC;
}
static inline int no_lookup(struct vio_fdb *t, uint64_t key)
{
	(void)t, (void)key;
	return -1; /* all is flooded: every frame that is let in reaches the other guest */
}
static inline unsigned no_age(struct vio_fdb *t, uint32_t now, uint32_t age)
{
	(void)t, (void)now, (void)age;
	return 0;
}
static inline void no_forget(struct vio_fdb *t, unsigned port)
{
	(void)t, (void)port;
}
static inline bool no_walk(struct vio_fdb *t, uint32_t *at, struct vio_fdb_row *row)
{
	(void)t, (void)at, (void)row;
	return false;
}
static inline unsigned no_count(const struct vio_fdb *t)
{
	(void)t;
	return 0;
}
static inline void no_free(struct vio_fdb *t)
{
	(void)t;
}

static const struct vio_fdb_ops no_fdb_ops = {no_learn, no_lookup, no_age, no_forget,
					      no_walk,  no_count,  no_free};

#endif
