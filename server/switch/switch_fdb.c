/* SPDX-License-Identifier: BSD-3-Clause */
/* The switch's addresses in DPDK's rte_hash: a key is one word, its position indexes what is known of it. */
#include <stdlib.h>
#include <string.h>

#include <rte_errno.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>

#include "server/switch/switch.h"

/*
 * Addresses looked at in one call of age(), once a second: the poll loop must not stand still for
 * all of them, and a walk over a full table ends in 16 seconds.
 */
#define AGE_STEP 1024

struct entry {
	uint32_t seen; /* seconds */
	uint16_t port;
};

struct fdb {
	struct vio_fdb fdb;
	struct rte_hash *h;
	uint32_t walk; /* where age() goes on */
	unsigned n[VIO_SWITCH_PORTS];
	struct entry entry[VIO_FDB_SIZE];
};

static struct fdb *of(struct vio_fdb *t)
{
	return vio_container_of(t, struct fdb, fdb);
}

static int fdb_learn(struct vio_fdb *t, uint64_t key, unsigned port, unsigned limit, uint32_t now)
{
	struct fdb *f = of(t);
	int at = rte_hash_lookup(f->h, &key), rc = 1;

	if (vio_likely(at >= 0 && f->entry[at].port == port)) {
		f->entry[at].seen = now;
		return 0;
	}
	if (f->n[port] >= limit)
		return -ENOSPC;
	if (at >= 0) {
		rc = VIO_FDB_MOVED + f->entry[at].port;
		f->n[f->entry[at].port]--;
	} else {
		at = rte_hash_add_key(f->h, &key);
		if (at < 0)
			return -ENOSPC;
	}
	f->entry[at] = (struct entry){.seen = now, .port = (uint16_t)port};
	f->n[port]++;
	return rc;
}

static int fdb_lookup(struct vio_fdb *t, uint64_t key)
{
	struct fdb *f = of(t);
	int at = rte_hash_lookup(f->h, &key);

	return at < 0 ? -1 : f->entry[at].port;
}

static unsigned fdb_age(struct vio_fdb *t, uint32_t now, uint32_t age)
{
	struct fdb *f = of(t);
	unsigned gone = 0;
	const void *key;
	void *data;

	for (unsigned i = 0; i < AGE_STEP; i++) {
		int at = rte_hash_iterate(f->h, &key, &data, &f->walk);

		if (at < 0) {
			f->walk = 0;
			break;
		}
		if (now - f->entry[at].seen >= age && rte_hash_del_key(f->h, key) >= 0) {
			f->n[f->entry[at].port]--;
			gone++;
		}
	}
	return gone;
}

static void fdb_forget(struct vio_fdb *t, unsigned port)
{
	struct fdb *f = of(t);
	const void *key;
	void *data;

	/*
	 * More than one walk if need be: what is deleted may be replaced by one from behind, which
	 * this walk then has not seen.
	 */
	while (f->n[port] > 0) {
		uint32_t walk = 0;
		int at;

		while ((at = rte_hash_iterate(f->h, &key, &data, &walk)) >= 0) {
			if (f->entry[at].port == port && rte_hash_del_key(f->h, key) >= 0)
				f->n[port]--;
		}
	}
}

static bool fdb_walk(struct vio_fdb *t, uint32_t *walk, struct vio_fdb_row *row)
{
	struct fdb *f = of(t);
	const void *k;
	void *data;
	int at = rte_hash_iterate(f->h, &k, &data, walk);

	if (at < 0)
		return false;
	memcpy(&row->key, k, sizeof(row->key));
	row->port = f->entry[at].port;
	row->seen = f->entry[at].seen;
	return true;
}

static unsigned fdb_count(const struct vio_fdb *t)
{
	int32_t n = rte_hash_count(vio_container_of(t, const struct fdb, fdb)->h);

	return n < 0 ? 0 : (unsigned)n;
}

static void fdb_free(struct vio_fdb *t)
{
	rte_hash_free(of(t)->h);
	free(of(t));
}

static const struct vio_fdb_ops ops = {
	.learn = fdb_learn,
	.lookup = fdb_lookup,
	.age = fdb_age,
	.forget = fdb_forget,
	.walk = fdb_walk,
	.count = fdb_count,
	.free = fdb_free,
};

int vio_fdb_rte_create(struct vio_fdb **out, struct vio_err *err)
{
	const struct rte_hash_parameters p = {
		.name = "vio_fdb",
		.entries = VIO_FDB_SIZE,
		.key_len = sizeof(uint64_t),
		.hash_func = rte_hash_crc,
		.socket_id = SOCKET_ID_ANY,
		/* All keys have room, also those that somebody chose to fall on one place. */
		.extra_flag = RTE_HASH_EXTRA_FLAGS_EXT_TABLE,
	};
	struct fdb *f = calloc(1, sizeof(*f));

	if (!f)
		return vio_err_set(err, -ENOMEM, "no memory for %u addresses", VIO_FDB_SIZE);
	f->h = rte_hash_create(&p);
	if (!f->h) {
		free(f);
		return vio_err_set(err, -rte_errno, "the switch's table of addresses: %s",
				   rte_strerror(rte_errno));
	}
	f->fdb = (struct vio_fdb){.ops = &ops, .size = VIO_FDB_SIZE};
	*out = &f->fdb;
	return 0;
}
