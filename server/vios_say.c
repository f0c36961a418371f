/* SPDX-License-Identifier: BSD-3-Clause */
/* What vios has to say. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "server/vios.h"

__attribute__((format(printf, 3, 0))) static void vsay(const struct vios *v, unsigned source,
						       const char *fmt, va_list ap)
{
	char line[VIO_LOG_LINE];
	int n = snprintf(line, sizeof(line), "vios: ");

	vsnprintf(line + n, sizeof(line) - (size_t)n, fmt, ap);
	vio_log_line(v->messages, source, line);
}

void vios_say(const struct vios *v, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsay(v, 0, fmt, ap);
	va_end(ap);
}

void vios_say_of_guest(void *ctx, const char *fmt, ...)
{
	const struct guest *g = ctx;
	va_list ap;

	va_start(ap, fmt);
	vsay(g->v, g->source, fmt, ap);
	va_end(ap);
}

void vios_say_of_switch(void *ctx, const char *fmt, ...)
{
	const struct vios *v = ctx;
	va_list ap;

	va_start(ap, fmt);
	vsay(v, 1 + v->n_adapters, fmt, ap);
	va_end(ap);
}

void vios_say_of_device(void *ctx, const char *line)
{
	vios_say_of_guest(ctx, "%s", line);
}

void vios_say_trace(void *ctx, const char *line)
{
	const struct guest *g = ctx;

	vio_log_line(g->v->messages, 0, line);
}
