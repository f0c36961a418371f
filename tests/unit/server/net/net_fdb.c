/* SPDX-License-Identifier: BSD-3-Clause */
/* A table of addresses for the switch, without DPDK. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net_world.h"

struct fdb {
	struct vio_fdb fdb;
	unsigned n;
	struct {
		uint64_t key;
		unsigned port;
		uint32_t seen;
	} e[NW_FDB_ROOM];
};

static int find(struct fdb *f, uint64_t key)
{
	for (unsigned i = 0; i < f->n; i++) {
		if (f->e[i].key == key)
			return (int)i;
	}
	return -1;
}

static int f_learn(struct vio_fdb *t, uint64_t key, unsigned port, unsigned limit, uint32_t now)
{
	struct fdb *f = vio_container_of(t, struct fdb, fdb);
	int at = find(f, key), rc = at < 0                  ? 1
				    : f->e[at].port != port ? VIO_FDB_MOVED + (int)f->e[at].port
							    : 0;
	unsigned here = 0;

	for (unsigned i = 0; i < f->n; i++)
		here += f->e[i].port == port;
	if ((at < 0 && f->n == NW_FDB_ROOM) || (rc > 0 && here >= limit))
		return -ENOSPC;
	if (at < 0)
		at = (int)f->n++;
	f->e[at].key = key;
	f->e[at].port = port;
	f->e[at].seen = now;
	return rc;
}

static int f_lookup(struct vio_fdb *t, uint64_t key)
{
	struct fdb *f = vio_container_of(t, struct fdb, fdb);
	int at = find(f, key);

	return at < 0 ? -1 : (int)f->e[at].port;
}

static unsigned f_age(struct vio_fdb *t, uint32_t now, uint32_t age)
{
	struct fdb *f = vio_container_of(t, struct fdb, fdb);
	unsigned n = f->n;

	for (unsigned i = 0; i < f->n;) {
		if (now - f->e[i].seen >= age)
			f->e[i] = f->e[--f->n];
		else
			i++;
	}
	return n - f->n;
}

static void f_forget(struct vio_fdb *t, unsigned port)
{
	struct fdb *f = vio_container_of(t, struct fdb, fdb);

	for (unsigned i = 0; i < f->n;) {
		if (f->e[i].port == port)
			f->e[i] = f->e[--f->n];
		else
			i++;
	}
}

static bool f_walk(struct vio_fdb *t, uint32_t *at, struct vio_fdb_row *row)
{
	struct fdb *f = vio_container_of(t, struct fdb, fdb);

	if (*at >= f->n)
		return false;
	*row = (struct vio_fdb_row){f->e[*at].key, f->e[*at].port, f->e[*at].seen};
	++*at;
	return true;
}

static unsigned f_count(const struct vio_fdb *t)
{
	return vio_container_of(t, const struct fdb, fdb)->n;
}

static void f_free(struct vio_fdb *t)
{
	free(vio_container_of(t, struct fdb, fdb));
}

struct vio_fdb *nw_fdb(void)
{
	static const struct vio_fdb_ops ops = {f_learn, f_lookup, f_age, f_forget,
					       f_walk,  f_count,  f_free};
	struct fdb *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->fdb = (struct vio_fdb){.ops = &ops, .size = NW_FDB_ROOM};
	return &f->fdb;
}
