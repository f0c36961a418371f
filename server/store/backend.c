/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What backends share: their words on the command line and their one line on standard error or
 * wherever the program wants it.
 */
#include <limits.h>
#include <string.h>

#include "server/store/priv.h"
#include "vio/atomics.h"
#include "vio/cycles.h"

/* Between two lines about one errno of one disk. */
#define ERROR_PAUSE_NS 10000000000ull

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

/* Keys that every disk has. */
static const char *const common[] = {"cache", "werror", "rerror", NULL};

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
	for (unsigned i = 0; common[i] && n < sizeof(list); i++)
		n += (size_t)snprintf(list + n, sizeof(list) - n, ", %s", common[i]);
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
		if (!keys[i]) {
			unsigned k = 0;

			while (common[k] && !key_is(start, end, common[k]))
				k++;
			i = common[k] ? i + k : UINT_MAX;
		}
		if (i == UINT_MAX)
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

void vio_backend_identify(struct vio_backend *be, const void *what, size_t len)
{
	const uint64_t h = vio_hash(VIO_HASH_START, what, len);

	memset(be->identity, 0, sizeof(be->identity));
	memcpy(be->identity, &h, sizeof(h));
	memcpy(be->identity + sizeof(h), be->ops->name,
	       strnlen(be->ops->name, sizeof(be->identity) - sizeof(h)));
}

int vio_spec_serial(const char *backend, const char *spec, char id[VIO_ID_LEN], struct vio_err *err)
{
	char text[VIO_ID_LEN + 1] = "";
	int rc = vio_spec_get(spec, "serial", text, sizeof(text));
	bool good = rc >= 0;

	memset(id, 0, VIO_ID_LEN);
	for (const char *p = text; *p; p++)
		good &= *p > ' ' && *p < 0x7f;
	if (!good || (rc > 0 && !*text))
		return vio_err_set(
			err, -EINVAL,
			"backend %s: serial=%s: 1 to %d printable characters without spaces",
			backend, rc < 0 ? "(too long)" : text, VIO_ID_LEN);
	memcpy(id, text, strlen(text));
	return 0;
}

uint64_t vio_hash(uint64_t h, const void *p, size_t n)
{
	for (const uint8_t *b = p; n > 0; n--)
		h = (h ^ *b++) * 0x100000001b3ull;
	return h;
}

void vio_backend_make_id(struct vio_backend *be, const char serial[VIO_ID_LEN], uint64_t hash)
{
	char made[VIO_ID_LEN + 1];

	snprintf(made, sizeof(made), "vio-%016llx", (unsigned long long)hash);
	memcpy(be->id, serial[0] ? serial : made, VIO_ID_LEN);
}

void vio_backend_say(const struct vio_backend *be, const char *fmt, ...)
{
	char line[480];
	int n = snprintf(line, sizeof(line), "%s: ", be->what);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line + n, sizeof(line) - (size_t)n, fmt, ap);
	va_end(ap);
	if (be->say)
		be->say(be->say_ctx, line);
	else
		fprintf(stderr, "vios: %s\n", line);
}

const char *vio_io_op_name(uint8_t op)
{
	static const char *const name[] = {"read", "write", "flush", "discard", "write zeroes"};

	return op < VIO_ARRAY_SIZE(name) ? name[op] : "unknown";
}

static unsigned errno_of(int result)
{
	return result < 0 && result > -VIO_BACKEND_ERRNOS ? (unsigned)-result : EIO;
}

uint64_t vio_backend_count(struct vio_backend *be, int result)
{
	return vio_fetch_add(&be->errors.of[errno_of(result)].n, 1) + 1;
}

void vio_backend_failed(struct vio_backend *be, const struct vio_io *r)
{
	unsigned e = errno_of(r->result);
	struct vio_backend_error *x = &be->errors.of[e];
	uint64_t now = vio_now_ns(), next = vio_load_relaxed(&x->next),
		 n = vio_backend_count(be, r->result), others;
	char more[64] = "";

	/* One of those that come at the same time says it. */
	if (now < next || !__atomic_compare_exchange_n(&x->next, &next, now + ERROR_PAUSE_NS, false,
						       __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return;
	others = n - 1 - vio_load_relaxed(&x->said);
	vio_store_relaxed(&x->said, n);
	if (others > 0)
		snprintf(more, sizeof(more), " (and %llu more like it since the last line)",
			 (unsigned long long)others);
	vio_backend_say(be, "%s of %llu bytes at sector %llu failed: %s%s", vio_io_op_name(r->op),
			(unsigned long long)r->length,
			(unsigned long long)(r->offset / VIO_DISK_UNIT), strerrordesc_np((int)e),
			more);
}

void vio_backend_close(struct vio_backend *be)
{
	if (be)
		be->ops->close(be);
}

int vio_backend_resize(struct vio_backend *be)
{
	const uint64_t before = vio_load_relaxed(&be->size);
	uint64_t now = before, was = before;
	int rc = be->ops->look_size ? be->ops->look_size(be, &now) : -EOPNOTSUPP;

	if (rc < 0 || now == before)
		return rc;
	/* A queue may have seen it meanwhile, or more: the size does not go back. */
	while (now > was && !vio_cas(&be->size, was, now))
		;
	if (now > before && now <= was)
		return 0;
	vio_backend_say(
		be,
		now > before
			? "has grown from %llu to %llu bytes"
			: "had %llu bytes and has %llu now: its guest still has the former size, and requests behind the end fail",
		(unsigned long long)before, (unsigned long long)now);
	return now > before ? 1 : -ENOSPC;
}
