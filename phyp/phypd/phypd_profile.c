/* SPDX-License-Identifier: BSD-3-Clause */
/* Partition profiles in JSON. What is read is checked field by field; what is unknown is refused. */
#include <jansson.h>
#include <string.h>
#include <strings.h>

#include "phyp/phypd/phypd.h"

/* Where we are, for the sentence. */
struct place {
	const char *file;
	const char *list; /* "partitions", "adapters", NULL: the top */
	size_t index;
	struct vio_err *err;
};

static int complain(const struct place *at, const char *key, const char *why)
{
	if (!at->list)
		return vio_err_set(at->err, -EINVAL, "%s: %s: %s", at->file, key, why);
	return vio_err_set(at->err, -EINVAL, "%s: %s[%zu].%s: %s", at->file, at->list, at->index,
			   key, why);
}

static int known_keys(const struct place *at, json_t *o, const char *const keys[])
{
	const char *key;
	json_t *v;

	json_object_foreach(o, key, v)
	{
		unsigned i = 0;

		while (keys[i] && strcmp(keys[i], key))
			i++;
		if (!keys[i])
			return complain(at, key, "unknown key");
	}
	return 0;
}

/* An optional integer in [min, max]. */
static int get_int(const struct place *at, json_t *o, const char *key, json_int_t min,
		   json_int_t max, json_int_t *value)
{
	json_t *v = json_object_get(o, key);
	char why[96];

	if (!v)
		return 0;
	if (json_is_integer(v) && json_integer_value(v) >= min && json_integer_value(v) <= max) {
		*value = json_integer_value(v);
		return 0;
	}
	snprintf(why, sizeof(why), "must be an integer from %lld to %lld", (long long)min,
		 (long long)max);
	return complain(at, key, why);
}

static int get_name(const struct place *at, json_t *o, const char *key, char name[PHYP_NAME_LEN])
{
	const char *s = json_string_value(json_object_get(o, key));

	if (!s || s[0] == 0 || strlen(s) >= PHYP_NAME_LEN)
		return complain(at, key, "must be a string of 1 to 31 characters");
	memcpy(name, s, strlen(s) + 1);
	return 0;
}

int phypd_pages_parse(const char *text, enum phyp_pages *pages)
{
	static const char *const names[] = {"auto", "4k", "2m"};

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(names); i++) {
		if (!strcasecmp(text, names[i])) {
			*pages = (enum phyp_pages)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int read_part(const struct place *at, json_t *o, struct phyp_part_profile *p)
{
	static const char *const keys[] = {"name",      "memory_mib", "lmb_mib", "pages",
					   "numa_node", "uid",        NULL};
	json_int_t memory = 0, lmb = 0, node = -1, uid = -1;
	json_t *pages = json_object_get(o, "pages");
	int rc = known_keys(at, o, keys);

	if (rc == 0)
		rc = get_name(at, o, "name", p->name);
	if (rc == 0 && !json_object_get(o, "memory_mib"))
		rc = complain(at, "memory_mib", "is missing");
	if (rc == 0)
		rc = get_int(at, o, "memory_mib", 1, 1 << 20, &memory);
	if (rc == 0)
		rc = get_int(at, o, "lmb_mib", 0, 1 << 20, &lmb);
	if (rc == 0)
		rc = get_int(at, o, "numa_node", -1, 1023, &node);
	if (rc == 0)
		rc = get_int(at, o, "uid", 0, UINT32_MAX - 1, &uid);
	if (rc == 0 && pages &&
	    (!json_is_string(pages) || phypd_pages_parse(json_string_value(pages), &p->pages)))
		rc = complain(at, "pages", "must be \"auto\", \"4k\" or \"2m\"");
	p->memory_mib = (uint32_t)memory;
	p->lmb_mib = (uint32_t)lmb;
	p->numa_node = (int)node;
	p->owned = uid >= 0;
	p->uid = p->owned ? (uint32_t)uid : 0;
	return rc;
}

static int read_adapter(const struct place *at, json_t *o, struct phyp_adapter_profile *a)
{
	static const char *const keys[] = {"server", "client", "window_mib", "page_shift", NULL};
	json_int_t window = 0, shift = 0;
	int rc = known_keys(at, o, keys);

	if (rc == 0)
		rc = get_name(at, o, "server", a->server);
	if (rc == 0)
		rc = get_name(at, o, "client", a->client);
	if (rc == 0)
		rc = get_int(at, o, "window_mib", 0, 1 << 16, &window);
	if (rc == 0)
		rc = get_int(at, o, "page_shift", 0, 21, &shift);
	a->window_mib = (uint32_t)window;
	a->page_shift = (uint8_t)shift;
	return rc;
}

static int read_root(struct place *at, json_t *root, struct phyp_profile *p)
{
	static const char *const keys[] = {"cost",       "exposure", "freeze",
					   "partitions", "adapters", NULL};
	json_t *cost = json_object_get(root, "cost"), *parts = json_object_get(root, "partitions");
	json_t *adapters = json_object_get(root, "adapters");
	json_t *exposure = json_object_get(root, "exposure");
	json_t *freeze = json_object_get(root, "freeze");
	int rc;

	if (!json_is_object(root))
		return vio_err_set(at->err, -EINVAL, "%s: must be a JSON object", at->file);
	rc = known_keys(at, root, keys);
	if (rc == 0 && cost) {
		struct vio_err e = {"must be a string"};

		if (!json_is_string(cost) || phyp_cost_parse(json_string_value(cost), &p->cost, &e))
			return complain(at, "cost", e.msg);
	}
	if (rc == 0 && exposure && !json_is_boolean(exposure))
		rc = complain(at, "exposure", "must be true or false");
	p->exposure = json_is_true(exposure);
	if (rc == 0 && freeze && !json_is_boolean(freeze))
		rc = complain(at, "freeze", "must be true or false");
	p->freeze = json_is_true(freeze);
	if (rc == 0 && (!json_is_array(parts) || json_array_size(parts) == 0 ||
			json_array_size(parts) > PHYP_MAX_PARTS))
		return complain(at, "partitions", "must be a list of 1 to 16 partitions");
	if (rc == 0 && adapters &&
	    (!json_is_array(adapters) || json_array_size(adapters) > PHYP_MAX_UNITS / 2))
		return complain(at, "adapters", "must be a list of at most 32 adapters");
	at->list = "partitions";
	for (; rc == 0 && p->n_parts < json_array_size(parts); p->n_parts++) {
		at->index = p->n_parts;
		rc = read_part(at, json_array_get(parts, p->n_parts), &p->part[p->n_parts]);
	}
	at->list = "adapters";
	for (; rc == 0 && p->n_adapters < json_array_size(adapters); p->n_adapters++) {
		at->index = p->n_adapters;
		rc = read_adapter(at, json_array_get(adapters, p->n_adapters),
				  &p->adapter[p->n_adapters]);
	}
	return rc;
}

int phypd_profile_read(const char *path, struct phyp_profile *p, struct vio_err *err)
{
	struct place at = {.file = path, .err = err};
	struct vio_err why;
	json_error_t e;
	json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &e);
	int rc;

	if (!root && e.line < 0)
		return vio_err_set(err, -ENOENT, "%s: %s", path, e.text);
	if (!root)
		return vio_err_set(err, -EINVAL, "%s: line %d, column %d: %s", path, e.line,
				   e.column, e.text);
	memset(p, 0, sizeof(*p));
	snprintf(p->cost.name, sizeof(p->cost.name), "free");
	rc = read_root(&at, root, p);
	json_decref(root);
	if (rc == 0) {
		rc = hv_profile_check(p, &why);
		if (rc)
			vio_err_set(err, rc, "%s: %.250s", path, why.msg);
	}
	return rc;
}
