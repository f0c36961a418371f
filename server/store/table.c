/* SPDX-License-Identifier: BSD-3-Clause */
/* The backends: a new one is a file and a row here. */
#include <string.h>

#include "server/store/priv.h"

static const struct vio_backend_ops *const table[] = {
	&vio_backend_null,
	&vio_backend_memory,
	&vio_backend_file,
	&vio_backend_nbd,
};

static int open_one(const struct vio_backend_ops *ops, const char *spec,
		    const struct vio_backend_env *env, struct vio_backend **out,
		    struct vio_err *err)
{
	static const char *const caches[] = {"writeback", "writethrough", NULL};
	static const char *const acts[] = {"report", "stop", "enospc", NULL}; /* vio_on_error */
	unsigned cache, rerror, werror;
	int rc = vio_spec_word(ops->name, spec, "cache", caches, 0, &cache, err);

	if (rc == 0)
		rc = vio_spec_word(ops->name, spec, "rerror", acts, 0, &rerror, err);
	if (rc == 0)
		rc = vio_spec_word(ops->name, spec, "werror", acts, 0, &werror, err);
	if (rc)
		return rc;
	rc = ops->open(spec, env, out, err);
	if (rc)
		return rc;
	(*out)->rerror = (uint8_t)rerror;
	(*out)->werror = (uint8_t)werror;
	(*out)->cache_off = (*out)->write_through = cache == 1 && (*out)->can_flush;
	if (env) {
		(*out)->say = env->say;
		(*out)->say_ctx = env->say_ctx;
	}
	return rc;
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
			return open_one(table[i], text + n + (text[n] == ','), env, out, err);
		if (used < sizeof(names))
			used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s",
						 i ? ", " : "", name);
	}
	return vio_err_set(err, -EINVAL, "no backend is called '%.*s'; there are: %s",
			   (int)(n > 60 ? 60 : n), text, names);
}

const char *vio_backend_usage(unsigned i)
{
	return i < VIO_ARRAY_SIZE(table) ? table[i]->usage : NULL;
}
