/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The table of backends, and what they share: their words on the command line and their one line on
 * stderr.
 */
#include <string.h>

#include "server/backends/priv.h"

static const struct vio_backend_ops *const table[] = {
	&vio_backend_null,
	&vio_backend_memory,
	&vio_backend_file,
	&vio_backend_nbd,
};

/* End of a field of a spec: a comma that is not doubled, or the end. */
static const char *field_end(const char *p)
{
	for (; *p; p++) {
		if (*p != ',')
			continue;
		if (p[1] != ',')
			break;
		p++;
	}
	return p;
}

/* The next field and the one after it; false at the end. */
static bool next_field(const char **p, const char **start, const char **end)
{
	if (!**p)
		return false;
	*start = *p;
	*end = field_end(*p);
	*p = **end ? *end + 1 : *end;
	return true;
}

/* Length of the key of a field, or of the field when it has no '='. */
static size_t key_len(const char *start, const char *end)
{
	const char *eq = memchr(start, '=', (size_t)(end - start));

	return (size_t)((eq ? eq : end) - start);
}

static bool key_is(const char *start, const char *end, const char *key)
{
	return key_len(start, end) == strlen(key) && memcmp(start, key, strlen(key)) == 0;
}

int vio_spec_get(const char *spec, const char *key, char *buf, size_t len)
{
	const char *start, *end;
	size_t n = 0;

	while (next_field(&spec, &start, &end)) {
		const char *v = start + strlen(key) + 1;

		if (!key_is(start, end, key) || v > end)
			continue;
		for (; v < end; v++) {
			if (n + 1 >= len)
				return -EINVAL;
			buf[n++] = *v;
			v += *v == ','; /* the second of two */
		}
		if (len == 0)
			return -EINVAL;
		buf[n] = '\0';
		return 1;
	}
	return 0;
}

static int bad_key(const char *backend, const char *start, const char *end,
		   const char *const keys[], const char *what, struct vio_err *err)
{
	char list[160] = "";
	size_t n = 0;

	for (unsigned i = 0; keys[i] && n < sizeof(list); i++)
		n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", i ? ", " : "", keys[i]);
	return vio_err_set(err, -EINVAL, "backend %s: '%.*s' %s; its keys are: %s", backend,
			   (int)(end - start > 60 ? 60 : end - start), start, what, list);
}

int vio_spec_check(const char *backend, const char *spec, const char *const keys[],
		   struct vio_err *err)
{
	const char *start, *end;
	unsigned seen = 0;

	while (next_field(&spec, &start, &end)) {
		const char *key = start, *stop = start + key_len(start, end);
		unsigned i = 0;

		while (keys[i] && !key_is(start, end, keys[i]))
			i++;
		if (!keys[i])
			return bad_key(backend, key, stop, keys, "is not one of its keys", err);
		if (stop == end)
			return bad_key(backend, key, stop, keys, "has no value (write key=value)",
				       err);
		if (seen & 1u << i)
			return bad_key(backend, key, stop, keys, "is given twice", err);
		seen |= 1u << i;
	}
	return 0;
}

int vio_spec_size(const char *backend, const char *spec, uint64_t otherwise, uint64_t *bytes,
		  struct vio_err *err)
{
	char text[32];
	int rc = vio_spec_get(spec, "size", text, sizeof(text));

	*bytes = otherwise;
	if (rc == 0 && otherwise != 0)
		return 0;
	if (rc == 0)
		return vio_err_set(err, -EINVAL,
				   "backend %s: how large? Say size=..., e.g. size=256M", backend);
	if (rc < 0 || vio_parse_size(text, bytes) || *bytes < VIO_DISK_UNIT ||
	    *bytes % VIO_DISK_UNIT || *bytes > INT64_MAX)
		return vio_err_set(
			err, -EINVAL,
			"backend %s: size=%s is not a disk size; it is a multiple of 512 bytes, with k, M, G or T after it if wanted",
			backend, rc < 0 ? "(too long)" : text);
	return 0;
}

int vio_spec_word(const char *backend, const char *spec, const char *key, const char *const words[],
		  unsigned otherwise, unsigned *index, struct vio_err *err)
{
	char text[32], list[80] = "";
	int rc = vio_spec_get(spec, key, text, sizeof(text));
	size_t n = 0;

	*index = otherwise;
	if (rc == 0)
		return 0;
	for (unsigned i = 0; words[i]; i++) {
		if (rc > 0 && strcmp(text, words[i]) == 0) {
			*index = i;
			return 0;
		}
		if (n < sizeof(list))
			n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", i ? ", " : "",
					      words[i]);
	}
	return vio_err_set(err, -EINVAL, "backend %s: %s=%s is not one of: %s", backend, key,
			   rc < 0 ? "(too long)" : text, list);
}

int vio_spec_short(const char *backend, const char *spec, uint32_t *block_size, struct vio_err *err)
{
	static const char *const words[] = {"off", "on", NULL};
	unsigned on;
	int rc = vio_spec_word(backend, spec, "short", words, 0, &on, err);

	*block_size = on ? VIO_SHORT_BLOCK : VIO_DISK_UNIT;
	return rc;
}

void vio_backend_set_id(struct vio_backend *be, const char *text)
{
	size_t n = strnlen(text, sizeof(be->id));

	memset(be->id, 0, sizeof(be->id));
	memcpy(be->id, text, n);
}

void vio_backend_say(const struct vio_backend *be, const char *fmt, ...)
{
	char line[320];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fprintf(stderr, "vios: %s: %s\n", be->what, line);
}

int vio_backend_open(const char *text, const struct vio_backend_env *env, struct vio_backend **out,
		     struct vio_err *err)
{
	size_t n = strcspn(text, ",");
	char names[80] = "";
	size_t used = 0;

	*out = NULL;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(table); i++) {
		const char *name = table[i]->name;

		if (strlen(name) == n && memcmp(text, name, n) == 0)
			return table[i]->open(text + n + (text[n] == ','), env, out, err);
		if (used < sizeof(names))
			used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s",
						 i ? ", " : "", name);
	}
	return vio_err_set(err, -EINVAL, "no backend is called '%.*s'; there are: %s",
			   (int)(n > 60 ? 60 : n), text, names);
}

void vio_backend_close(struct vio_backend *be)
{
	if (be)
		be->ops->close(be);
}

const char *vio_backend_usage(unsigned i)
{
	return i < VIO_ARRAY_SIZE(table) ? table[i]->usage : NULL;
}
