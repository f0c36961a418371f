/* SPDX-License-Identifier: BSD-3-Clause */
/* Levels, arms, and which combinations make sense. */
#include <string.h>

#include <linux/virtio_config.h>

#include "vio/arm.h"
#include "vio/types.h"

/* A level needs a trait that another factor's level must have, because of `why`. */
struct need {
	unsigned trait;
	const char *why;
};

/* One row for each level of any factor; the same order as the enums of vio/arm.h. */
struct row {
	const char *name;
	unsigned traits; /* enum vio_trait */
	struct need needs[2];
	uint64_t features; /* that driver and device must agree on */
};

static const struct row mappings[VIO_N_MAPPING] = {
	[VIO_MAP_SINGLE_USE] = {"single-use", 0, {{0}}},
	[VIO_MAP_DEFERRED] = {"deferred", 0, {{0}}},
	[VIO_MAP_CACHED] = {"cached", 0, {{0}}},
	[VIO_MAP_POOL] = {"pool", VIO_ARM_POOL, {{0}}},
};
static const struct row payloads[VIO_N_PAYLOAD] = {
	[VIO_PAYLOAD_RDMA] = {"rdma", 0, {{0}}},
	[VIO_PAYLOAD_BOUNCE] =
		{"bounce",
		 VIO_ARM_DATA_IN_PLACE | VIO_ARM_BOUNCES,
		 {{VIO_ARM_POOL,
		   "bouncing copies into the pre-registered pool, so nothing would be left to map; use mapping=pool"}}},
	[VIO_PAYLOAD_DIRECT] = {"direct", VIO_ARM_DATA_IN_PLACE, {{0}}},
	[VIO_PAYLOAD_COPYBREAK] = {"copybreak", VIO_ARM_DATA_IN_PLACE, {{0}}},
	[VIO_PAYLOAD_UNCHECKED] =
		{"unchecked",
		 VIO_ARM_DATA_IN_PLACE,
		 {{VIO_ARM_POOL,
		   "without a check there is no window that could come and go with a request; use mapping=pool"},
		  {VIO_ARM_RINGS_IN_PLACE,
		   "it is the upper bound of the design in place, and copying the ring checks every address; use ring=direct"}}},
};
static const struct row rings[VIO_N_RING] = {
	[VIO_RING_COPY] = {"copy", 0, {{0}}},
	[VIO_RING_COPY_DELTA] = {"copy-delta", 0, {{0}}},
	[VIO_RING_DIRECT] = {"direct", VIO_ARM_RINGS_IN_PLACE, {{0}}},
};
static const struct row notifies[VIO_N_NOTIFY] = {
	[VIO_NOTIFY_CRQ] = {"crq", 0, {{0}}},
	[VIO_NOTIFY_SUPPRESS] = {"suppress", 0, {{0}}},
	[VIO_NOTIFY_POLL] = {"poll", 0, {{0}}},
};

#define RING_PACKED (1ull << VIRTIO_F_RING_PACKED)
#define IN_ORDER    (1ull << VIRTIO_F_IN_ORDER)

static const struct row layouts[VIO_N_LAYOUT] = {
	[VIO_LAYOUT_SPLIT] = {"split", 0, {{0}}},
	[VIO_LAYOUT_PACKED] = {"packed", 0, {{0}}, RING_PACKED},
	[VIO_LAYOUT_SPLIT_IN_ORDER] = {"split-in-order", 0, {{0}}, IN_ORDER},
	[VIO_LAYOUT_PACKED_IN_ORDER] = {"packed-in-order", 0, {{0}}, RING_PACKED | IN_ORDER},
};

enum factor {
	F_MAPPING,
	F_PAYLOAD,
	F_RING,
	F_NOTIFY,
	N_FOUR, /* these need an arm's name or a word each; those that follow have a default, their first level */
	F_LAYOUT = N_FOUR,
	N_FACTORS,
};

static const struct {
	const char *name;
	const struct row *levels;
	unsigned n;
} factors[N_FACTORS] = {
	[F_MAPPING] = {"mapping", mappings, VIO_N_MAPPING},
	[F_PAYLOAD] = {"payload", payloads, VIO_N_PAYLOAD},
	[F_RING] = {"ring", rings, VIO_N_RING},
	[F_NOTIFY] = {"notify", notifies, VIO_N_NOTIFY},
	[F_LAYOUT] = {"layout", layouts, VIO_N_LAYOUT},
};

static const struct vio_arm named[] = {
	{"copy", VIO_MAP_SINGLE_USE, VIO_PAYLOAD_RDMA, VIO_RING_COPY, VIO_NOTIFY_CRQ,
	 VIO_LAYOUT_SPLIT},
	{"copy-tuned", VIO_MAP_DEFERRED, VIO_PAYLOAD_RDMA, VIO_RING_COPY_DELTA, VIO_NOTIFY_SUPPRESS,
	 VIO_LAYOUT_SPLIT},
	{"premapped", VIO_MAP_POOL, VIO_PAYLOAD_BOUNCE, VIO_RING_DIRECT, VIO_NOTIFY_POLL,
	 VIO_LAYOUT_SPLIT},
	{"zero-copy", VIO_MAP_POOL, VIO_PAYLOAD_DIRECT, VIO_RING_DIRECT, VIO_NOTIFY_POLL,
	 VIO_LAYOUT_SPLIT},
	{"unprotected", VIO_MAP_POOL, VIO_PAYLOAD_UNCHECKED, VIO_RING_DIRECT, VIO_NOTIFY_POLL,
	 VIO_LAYOUT_SPLIT},
};

static const char *level_name(enum factor f, unsigned level)
{
	return level < factors[f].n ? factors[f].levels[level].name : "?";
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

const char *vio_layout_name(enum vio_layout l)
{
	return level_name(F_LAYOUT, l);
}

const struct vio_arm *vio_arm_named(unsigned i)
{
	return i < VIO_ARRAY_SIZE(named) ? &named[i] : NULL;
}

bool vio_payload_in_place(enum vio_payload p)
{
	return (unsigned)p < VIO_N_PAYLOAD && payloads[p].traits & VIO_ARM_DATA_IN_PLACE;
}

bool vio_ring_in_place(enum vio_ring_access r)
{
	return (unsigned)r < VIO_N_RING && rings[r].traits & VIO_ARM_RINGS_IN_PLACE;
}

static void get_levels(const struct vio_arm *a, unsigned level[N_FACTORS])
{
	level[F_MAPPING] = a->mapping;
	level[F_PAYLOAD] = a->payload;
	level[F_RING] = a->ring;
	level[F_NOTIFY] = a->notify;
	level[F_LAYOUT] = a->layout;
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
	case F_NOTIFY:
		a->notify = (enum vio_notification)level;
		break;
	default:
		a->layout = (enum vio_layout)level;
		break;
	}
}

unsigned vio_arm_traits(const struct vio_arm *arm)
{
	return mappings[arm->mapping].traits | payloads[arm->payload].traits |
	       rings[arm->ring].traits | notifies[arm->notify].traits | layouts[arm->layout].traits;
}

uint64_t vio_arm_features(const struct vio_arm *arm)
{
	return layouts[arm->layout].features;
}

uint64_t vio_layout_features(void)
{
	uint64_t all = 0;

	for (unsigned i = 0; i < VIO_N_LAYOUT; i++)
		all |= layouts[i].features;
	return all;
}

/* The factor whose levels can have a trait. */
static enum factor arm_owner(unsigned trait)
{
	for (unsigned f = 0; f < N_FACTORS; f++)
		for (unsigned i = 0; i < factors[f].n; i++)
			if (factors[f].levels[i].traits & trait)
				return (enum factor)f;
	return F_MAPPING;
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
	for (unsigned f = 0; f < N_FACTORS; f++)
		for (unsigned i = 0; i < VIO_ARRAY_SIZE(factors[f].levels->needs); i++) {
			const struct row *row = &factors[f].levels[level[f]];
			const struct need *need = &row->needs[i];
			enum factor other = arm_owner(need->trait);

			if (need->trait & ~vio_arm_traits(arm))
				return vio_err_set(err, -EINVAL,
						   "arm: %s=%s makes no sense with %s=%s: %s",
						   factors[f].name, row->name, factors[other].name,
						   level_name(other, level[other]), need->why);
		}
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
		list_add(&list, factors[f].levels[i].name, "");
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
			const char *name = factors[f].levels[i].name;

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
		    named[i].ring == arm->ring && named[i].notify == arm->notify &&
		    named[i].layout == arm->layout) {
			*arm = named[i];
			return;
		}
	}
	strcpy(arm->name, "custom");
}

static int missing(struct vio_err *err, unsigned seen)
{
	struct list list = {.used = 0};

	for (unsigned f = 0; f < N_FOUR; f++)
		if (!(seen & 1u << f))
			list_add(&list, factors[f].name, "");
	return vio_err_set(err, -EINVAL,
			   "arm: %s not given; begin with an arm's name or give all four factors",
			   list.text);
}

int vio_arm_parse(const char *text, struct vio_arm *arm, struct vio_err *err)
{
	const unsigned all = (1u << N_FOUR) - 1;
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
	if (!has_base && (seen & all) != all)
		return missing(err, seen);
	if (vio_arm_check(&a, err) < 0)
		return -EINVAL;
	set_name(&a);
	*arm = a;
	return 0;
}
