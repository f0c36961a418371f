/* SPDX-License-Identifier: BSD-3-Clause */
/* Levels, arms, and which combinations make sense. */
#include <string.h>

#include "vio/arm.h"
#include "vio/types.h"

static const char *const mapping_names[VIO_N_MAPPING] = {
	[VIO_MAP_SINGLE_USE] = "single-use",
	[VIO_MAP_DEFERRED] = "deferred",
	[VIO_MAP_CACHED] = "cached",
	[VIO_MAP_POOL] = "pool",
};
static const char *const payload_names[VIO_N_PAYLOAD] = {
	[VIO_PAYLOAD_RDMA] = "rdma",           [VIO_PAYLOAD_BOUNCE] = "bounce",
	[VIO_PAYLOAD_DIRECT] = "direct",       [VIO_PAYLOAD_COPYBREAK] = "copybreak",
	[VIO_PAYLOAD_UNCHECKED] = "unchecked",
};
static const char *const ring_names[VIO_N_RING] = {
	[VIO_RING_COPY] = "copy",
	[VIO_RING_COPY_DELTA] = "copy-delta",
	[VIO_RING_DIRECT] = "direct",
};
static const char *const notify_names[VIO_N_NOTIFY] = {
	[VIO_NOTIFY_CRQ] = "crq",
	[VIO_NOTIFY_SUPPRESS] = "suppress",
	[VIO_NOTIFY_POLL] = "poll",
};

enum factor {
	F_MAPPING,
	F_PAYLOAD,
	F_RING,
	F_NOTIFY,
	N_FACTORS,
};

static const struct {
	const char *name;
	const char *const *levels;
	unsigned n;
} factors[N_FACTORS] = {
	[F_MAPPING] = {"mapping", mapping_names, VIO_N_MAPPING},
	[F_PAYLOAD] = {"payload", payload_names, VIO_N_PAYLOAD},
	[F_RING] = {"ring", ring_names, VIO_N_RING},
	[F_NOTIFY] = {"notify", notify_names, VIO_N_NOTIFY},
};

static const struct vio_arm named[] = {
	{"copy", VIO_MAP_SINGLE_USE, VIO_PAYLOAD_RDMA, VIO_RING_COPY, VIO_NOTIFY_CRQ},
	{"copy-tuned", VIO_MAP_DEFERRED, VIO_PAYLOAD_RDMA, VIO_RING_COPY_DELTA,
	 VIO_NOTIFY_SUPPRESS},
	{"premapped", VIO_MAP_POOL, VIO_PAYLOAD_BOUNCE, VIO_RING_DIRECT, VIO_NOTIFY_POLL},
	{"zero-copy", VIO_MAP_POOL, VIO_PAYLOAD_DIRECT, VIO_RING_DIRECT, VIO_NOTIFY_POLL},
	{"unprotected", VIO_MAP_POOL, VIO_PAYLOAD_UNCHECKED, VIO_RING_DIRECT, VIO_NOTIFY_POLL},
};

static const char *level_name(enum factor f, unsigned level)
{
	return level < factors[f].n ? factors[f].levels[level] : "?";
}

const char *vio_mapping_name(enum vio_mapping m)
{
	return level_name(F_MAPPING, m);
}

const char *vio_payload_name(enum vio_payload p)
{
	return level_name(F_PAYLOAD, p);
}

const char *vio_ring_name(enum vio_ring_access r)
{
	return level_name(F_RING, r);
}

const char *vio_notify_name(enum vio_notification n)
{
	return level_name(F_NOTIFY, n);
}

const struct vio_arm *vio_arm_named(unsigned i)
{
	return i < VIO_ARRAY_SIZE(named) ? &named[i] : NULL;
}

bool vio_payload_in_place(enum vio_payload p)
{
	return p == VIO_PAYLOAD_BOUNCE || p == VIO_PAYLOAD_DIRECT || p == VIO_PAYLOAD_COPYBREAK ||
	       p == VIO_PAYLOAD_UNCHECKED;
}

static void get_levels(const struct vio_arm *a, unsigned level[N_FACTORS])
{
	level[F_MAPPING] = a->mapping;
	level[F_PAYLOAD] = a->payload;
	level[F_RING] = a->ring;
	level[F_NOTIFY] = a->notify;
}

static void set_level(struct vio_arm *a, enum factor f, unsigned level)
{
	switch (f) {
	case F_MAPPING:
		a->mapping = (enum vio_mapping)level;
		break;
	case F_PAYLOAD:
		a->payload = (enum vio_payload)level;
		break;
	case F_RING:
		a->ring = (enum vio_ring_access)level;
		break;
	default:
		a->notify = (enum vio_notification)level;
		break;
	}
}

/*
 * All else is allowed, because a factorial needs it: ring=copy with notify=poll (the server polls
 * the index by RDMA), payload=direct with every mapping (pages are granted per mapping),
 * payload=rdma from the pool.
 */
int vio_arm_check(const struct vio_arm *arm, struct vio_err *err)
{
	unsigned level[N_FACTORS];

	get_levels(arm, level);
	for (unsigned f = 0; f < N_FACTORS; f++)
		if (level[f] >= factors[f].n)
			return vio_err_set(err, -EINVAL, "arm: %s has no level number %u",
					   factors[f].name, level[f]);
	if (arm->payload == VIO_PAYLOAD_BOUNCE && arm->mapping != VIO_MAP_POOL)
		return vio_err_set(
			err, -EINVAL,
			"arm: payload=bounce makes no sense with mapping=%s: bouncing copies into the pre-registered pool, so nothing would be left to map; use mapping=pool",
			vio_mapping_name(arm->mapping));
	if (arm->payload == VIO_PAYLOAD_UNCHECKED && arm->mapping != VIO_MAP_POOL)
		return vio_err_set(
			err, -EINVAL,
			"arm: payload=unchecked makes no sense with mapping=%s: without a check there is no window that could come and go with a request; use mapping=pool",
			vio_mapping_name(arm->mapping));
	if (arm->payload == VIO_PAYLOAD_UNCHECKED && arm->ring != VIO_RING_DIRECT)
		return vio_err_set(
			err, -EINVAL,
			"arm: payload=unchecked makes no sense with ring=%s: it is the upper bound of the design in place, and copying the ring checks every address; use ring=direct",
			vio_ring_name(arm->ring));
	return 0;
}

/* A list of words for a person, "a, b, c"; a word that does not fit is left out. */
struct list {
	char text[160];
	size_t used;
};

static void list_add(struct list *l, const char *word, const char *suffix)
{
	size_t room = sizeof(l->text) - l->used;
	int n = snprintf(l->text + l->used, room, "%s%s%s", l->used > 0 ? ", " : "", word, suffix);

	if (n > 0 && (size_t)n < room)
		l->used += (size_t)n;
	else
		l->text[l->used] = '\0';
}

/* -ESRCH when no such arm. */
static int find_named(const char *word, size_t len)
{
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(named); i++)
		if (strlen(named[i].name) == len && memcmp(named[i].name, word, len) == 0)
			return (int)i;
	return -ESRCH;
}

static int bad_word(struct vio_err *err, const char *word, size_t len, bool first)
{
	struct list list = {.used = 0};
	int n = len > 40 ? 40 : (int)len;

	if (find_named(word, len) >= 0)
		return vio_err_set(err, -EINVAL,
				   "arm: \"%.*s\" is an arm's name and can only come first", n,
				   word);
	if (first)
		for (unsigned i = 0; i < VIO_ARRAY_SIZE(named); i++)
			list_add(&list, named[i].name, "");
	for (unsigned f = 0; f < N_FACTORS; f++)
		list_add(&list, factors[f].name, "=");
	return vio_err_set(err, -EINVAL, "arm: unknown word \"%.*s\"; valid are: %s", n, word,
			   list.text);
}

static int bad_level(struct vio_err *err, enum factor f, const char *value, size_t len)
{
	struct list list = {.used = 0};

	for (unsigned i = 0; i < factors[f].n; i++)
		list_add(&list, factors[f].levels[i], "");
	return vio_err_set(err, -EINVAL, "arm: %s has no level \"%.*s\"; valid are: %s",
			   factors[f].name, len > 40 ? 40 : (int)len, value, list.text);
}

/* One "factor=level". *seen: factors given so far. */
static int parse_factor(const char *word, size_t len, struct vio_arm *arm, unsigned *seen,
			bool first, struct vio_err *err)
{
	const char *eq = memchr(word, '=', len);
	size_t key_len = eq ? (size_t)(eq - word) : 0, val_len = eq ? len - key_len - 1 : 0;

	for (unsigned f = 0; eq && f < N_FACTORS; f++) {
		if (strlen(factors[f].name) != key_len ||
		    memcmp(factors[f].name, word, key_len) != 0)
			continue;
		if (*seen & 1u << f)
			return vio_err_set(err, -EINVAL, "arm: %s is given twice", factors[f].name);
		for (unsigned i = 0; i < factors[f].n; i++) {
			const char *name = factors[f].levels[i];

			if (strlen(name) == val_len && memcmp(name, eq + 1, val_len) == 0) {
				set_level(arm, (enum factor)f, i);
				*seen |= 1u << f;
				return 0;
			}
		}
		return bad_level(err, (enum factor)f, eq + 1, val_len);
	}
	return bad_word(err, word, len, first);
}

/* The same levels are the same arm, however they were spelled. */
static void set_name(struct vio_arm *arm)
{
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(named); i++) {
		if (named[i].mapping == arm->mapping && named[i].payload == arm->payload &&
		    named[i].ring == arm->ring && named[i].notify == arm->notify) {
			*arm = named[i];
			return;
		}
	}
	strcpy(arm->name, "custom");
}

static int missing(struct vio_err *err, unsigned seen)
{
	struct list list = {.used = 0};

	for (unsigned f = 0; f < N_FACTORS; f++)
		if (!(seen & 1u << f))
			list_add(&list, factors[f].name, "");
	return vio_err_set(err, -EINVAL,
			   "arm: %s not given; begin with an arm's name or give all four factors",
			   list.text);
}

int vio_arm_parse(const char *text, struct vio_arm *arm, struct vio_err *err)
{
	const unsigned all = (1u << N_FACTORS) - 1;
	struct vio_arm a = named[0];
	bool has_base = false;
	unsigned seen = 0;
	const char *word = text;

	for (;;) {
		size_t len = strcspn(word, ",");
		int base = word == text ? find_named(word, len) : -ESRCH;
		int rc = 0;

		if (base >= 0) {
			a = named[base];
			has_base = true;
		} else {
			rc = parse_factor(word, len, &a, &seen, word == text, err);
		}
		if (rc < 0)
			return rc;
		if (word[len] == '\0')
			break;
		word += len + 1;
	}
	if (!has_base && seen != all)
		return missing(err, seen);
	if (vio_arm_check(&a, err) < 0)
		return -EINVAL;
	set_name(&a);
	*arm = a;
	return 0;
}
