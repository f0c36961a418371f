/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/option_rows.h"

#include <assert.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "vio/number.h"

const char *const vio_off_on[] = {"off", "on", NULL};
const char *const vio_touch_words[] = {"none", "headers", "all", NULL};
const char *const vio_cache_words[] = {"as-is", "writeback", "writethrough", NULL};

/* A row and the struct in which its place lies. */
struct entry {
	const struct vio_option *row;
	size_t base;
};

struct table {
	struct entry e[VIO_OPTIONS_MAX];
	unsigned n;
};

static bool is_option(const struct vio_option *r)
{
	return r->kind > VIO_OPTION_ROWS;
}

static bool is_end(const struct vio_option *r)
{
	return r->kind == VIO_OPTION_LINE && !r->help && !r->lines;
}

static uint64_t unit_of(const struct vio_option *r)
{
	return r->unit ? r->unit : 1;
}

/* Is the row written as its kind wants it? A mistake of the program's, not of who starts it. */
static void check_row(const struct table *t, const struct vio_option *r)
{
	const uint64_t most = r->size >= 8 ? UINT64_MAX : (1ull << 8 * r->size) - 1;

	if (!is_option(r))
		return;
	assert(r->name && r->help);
	assert((r->kind == VIO_OPTION_FLAG || r->kind == VIO_OPTION_CLEAR) ? !r->value
									   : r->value || r->set);
	assert(r->kind != VIO_OPTION_NUMBER || (r->lo <= r->hi && r->hi <= most / unit_of(r)));
	assert(!r->never || r->size == 8);
	assert((r->kind == VIO_OPTION_CALL) == !!r->set &&
	       (r->kind == VIO_OPTION_WORD) == !!r->words);
	for (unsigned i = 0; i < t->n; i++)
		assert(!is_option(t->e[i].row) || strcmp(t->e[i].row->name, r->name) != 0);
}

static void add_row(const struct vio_option *r, size_t base, struct table *t)
{
	assert(t->n < VIO_OPTIONS_MAX);
	check_row(t, r);
	t->e[t->n++] = (struct entry){r, base};
}

/* All rows one after the other, with the tables that they include in their places. */
static void flatten(const struct vio_option *rows, size_t base, struct table *t)
{
	const struct vio_option *one;

	for (const struct vio_option *r = rows; !is_end(r); r++) {
		if (r->kind != VIO_OPTION_ROWS)
			add_row(r, base, t);
		else if (r->rows)
			flatten(r->rows, base + r->at, t);
		for (unsigned i = 0; r->each && (one = r->each(i)); i++)
			add_row(one, base + r->at, t);
	}
}

/* --------------------------------------------------------------------------- values ---- */

static void store(void *to, size_t size, uint64_t v)
{
	const uint32_t v32 = (uint32_t)v;
	const uint16_t v16 = (uint16_t)v;
	const uint8_t v8 = (uint8_t)v;

	memcpy(to,
	       size == 8   ? (const void *)&v
	       : size == 4 ? &v32
	       : size == 2 ? &v16
			   : (const void *)&v8,
	       size);
}

/* "auto, 4k or 2m". */
static void list_words(const char *const words[], char *buf, size_t len)
{
	size_t n = 0;

	buf[0] = '\0';
	for (unsigned i = 0; words[i] && n < len; i++)
		n += (size_t)snprintf(buf + n, len - n, "%s%s",
				      i == 0         ? ""
				      : words[i + 1] ? ", "
						     : " or ",
				      words[i]);
}

/* `said`: the option and its value as the person wrote them. */
static int set_number(const struct vio_option *r, void *to, const char *said, const char *text,
		      struct vio_err *err)
{
	uint64_t v;

	if (r->never && !strcmp(text, "never")) {
		store(to, r->size, UINT64_MAX);
		return 0;
	}
	if (vio_parse_size(text, &v) || v < r->lo || v > r->hi)
		return vio_err_set(err, -EINVAL, "%s: must be a number from %llu to %llu%s", said,
				   (unsigned long long)r->lo, (unsigned long long)r->hi,
				   r->never ? ", or never" : "");
	if (r->power_of_two && (v & (v - 1)))
		return vio_err_set(err, -EINVAL, "%s: must be a power of two", said);
	if (r->multiple && v % r->multiple)
		return vio_err_set(err, -EINVAL, "%s: must be a multiple of %llu", said,
				   (unsigned long long)r->multiple);
	store(to, r->size, v * unit_of(r));
	return 0;
}

static int set_real(const struct vio_option *r, void *to, const char *said, const char *text,
		    struct vio_err *err)
{
	const bool seconds = r->kind == VIO_OPTION_SECONDS;
	char *end;
	double v = strtod(text, &end);
	uint64_t ns;

	if (end == text || *end || !(v >= r->least && v <= r->most))
		return vio_err_set(err, -EINVAL, "%s: must be a number %sfrom %.10g to %.10g", said,
				   seconds ? "of seconds " : "", r->least, r->most);
	ns = seconds ? (uint64_t)(v * 1e9) : 0;
	memcpy(to, seconds ? (const void *)&ns : &v, r->size);
	return 0;
}

static int set_word(const struct vio_option *r, void *to, const char *said, const char *text,
		    struct vio_err *err)
{
	char list[160];

	for (unsigned i = 0; r->words[i]; i++) {
		if (!strcmp(text, r->words[i])) {
			store(to, r->size, i);
			return 0;
		}
	}
	list_words(r->words, list, sizeof(list));
	return vio_err_set(err, -EINVAL, "%s: must be %s", said, list);
}

/* `form`: how an option and its value are written, for messages. */
static int set_one(const struct entry *e, void *base, const char *form, const char *text,
		   struct vio_err *err)
{
	const struct vio_option *r = e->row;
	uint8_t *in = (uint8_t *)base + e->base, *to = in + r->at;
	char said[160];

	if (r->given && form)
		*(bool *)(in + r->given - 1) = true;
	snprintf(said, sizeof(said), form && !strcmp(form, "=") ? "%s=%.100s" : "--%s %.100s",
		 r->name, text ? text : "");
	switch (r->kind) {
	case VIO_OPTION_FLAG:
	case VIO_OPTION_CLEAR:
		*(bool *)to = r->kind == VIO_OPTION_FLAG;
		return 0;
	case VIO_OPTION_TEXT:
		*(const char **)(void *)to = text;
		return 0;
	case VIO_OPTION_NUMBER:
		return set_number(r, to, said, text, err);
	case VIO_OPTION_SECONDS:
	case VIO_OPTION_REAL:
		return set_real(r, to, said, text, err);
	case VIO_OPTION_WORD:
		return set_word(r, to, said, text, err);
	default:
		return r->set(r, to, text, err);
	}
}

static void set_defaults(const struct table *t, void *to)
{
	for (unsigned i = 0; i < t->n; i++) {
		struct vio_err err = {""};

		if (!t->e[i].row->def)
			continue;
		if (set_one(&t->e[i], to, NULL, t->e[i].row->def, &err)) {
			fprintf(stderr, "default of an option: %s\n", err.msg);
			abort();
		}
	}
}

/* ----------------------------------------------------------------------------- help ---- */

#define HELP_COLUMN 23
#define HELP_WIDTH  100

/* `text` from the current column on, broken between words. */
static void print_wrapped(FILE *f, size_t column, const char *text)
{
	bool first = true;

	while (*text) {
		const size_t n = strcspn(text, " ");

		if (column + n + 1 > HELP_WIDTH && column > HELP_COLUMN) {
			column = (size_t)fprintf(f, "\n%*s", HELP_COLUMN, "") - 1;
			first = true;
		}
		column += (size_t)fprintf(f, "%s%.*s", first ? "" : " ", (int)n, text);
		first = false;
		text += n + (text[n] == ' ');
	}
	fputc('\n', f);
}

/* What the row says beyond its sentence: range, words, default. */
static void option_describe(const struct vio_option *r, char *buf, size_t len)
{
	/* A bound that is there for arithmetic only tells a person nothing. */
	const uint64_t no_bound = 1ull << 20;
	size_t n = (size_t)snprintf(buf, len, "%s", r->help);

	if (r->kind == VIO_OPTION_NUMBER && r->hi <= no_bound)
		n += (size_t)snprintf(buf + n, len - n, "; %llu to %llu", (unsigned long long)r->lo,
				      (unsigned long long)r->hi);
	if (r->power_of_two)
		n += (size_t)snprintf(buf + n, len - n, ", a power of two");
	if (r->multiple)
		n += (size_t)snprintf(buf + n, len - n, ", a multiple of %llu",
				      (unsigned long long)r->multiple);
	if (r->never)
		n += (size_t)snprintf(buf + n, len - n, ", or never");
	if (r->words && r->words != vio_off_on) {
		n += (size_t)snprintf(buf + n, len - n, ": ");
		list_words(r->words, buf + n, len - n);
		n += strlen(buf + n);
	}
	if (r->def)
		n += (size_t)snprintf(buf + n, len - n, " (%s)", r->def);
	if (r->required)
		snprintf(buf + n, len - n, " (required)");
}

static void help_option(FILE *f, const struct vio_option *r, const char *form)
{
	char text[1024];
	int n;

	n = *form == '=' ? fprintf(f, "%s=%s", r->name, r->value)
			 : fprintf(f, "  --%s%s%s", r->name, r->value ? " " : "",
				   r->value ? r->value : "");
	if (n > HELP_COLUMN - 2)
		n = fprintf(f, "\n") - 1;
	n += fprintf(f, "%*s", HELP_COLUMN - n, "");
	option_describe(r, text, sizeof(text));
	print_wrapped(f, (size_t)n, text);
}

static void help_row(FILE *f, const struct vio_option *r, const char *form)
{
	if (is_option(r))
		help_option(f, r, form);
	else if (r->help)
		fputs(r->help, f);
	for (unsigned i = 0; r->lines && r->lines(i); i++)
		fprintf(f, "    %s\n", r->lines(i));
}

void vio_options_help(const struct vio_program *p, FILE *f)
{
	struct table t = {.n = 0};

	flatten(p->rows, 0, &t);
	fputs(p->about, f);
	for (unsigned i = 0; i < t.n; i++)
		help_row(f, t.e[i].row, "--");
	fprintf(f, "  --help%s\n%s", p->version ? ", --version" : "", p->tail ? p->tail : "");
}

void vio_options_keys_help(const struct vio_option *rows, FILE *f)
{
	struct table t = {.n = 0};

	flatten(rows, 0, &t);
	for (unsigned i = 0; i < t.n; i++)
		help_row(f, t.e[i].row, "=");
}

/* --------------------------------------------------------------------- command line ---- */

void vio_options_defaults(const struct vio_option *rows, void *to)
{
	struct table t = {.n = 0};

	flatten(rows, 0, &t);
	set_defaults(&t, to);
}

int vio_options_key(const struct vio_option *rows, void *to, const char *key, const char *value,
		    struct vio_err *err)
{
	struct table t = {.n = 0};
	char list[200] = "";
	size_t n = 0;

	flatten(rows, 0, &t);
	for (unsigned i = 0; i < t.n; i++) {
		const struct vio_option *r = t.e[i].row;

		if (!is_option(r))
			continue;
		if (!strcmp(r->name, key))
			return set_one(&t.e[i], to, "=", value, err);
		if (n < sizeof(list))
			n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "",
					      r->name);
	}
	return vio_err_set(err, -EINVAL, "unknown parameter %.60s; known: %s", key, list);
}

/* What getopt_long() could not take: the word before optind. */
static int option_refuse(const struct vio_program *p, const struct table *t, int c,
			 const char *word, struct vio_err *err)
{
	const struct vio_option *r = NULL;

	if (!strncmp(word, "--", 2) && optopt > 0 && (unsigned)optopt <= t->n)
		r = t->e[optopt - 1].row;
	if (c == ':')
		return vio_err_set(err, -EINVAL, "%s: wants a value%s%s; see %s --help", word,
				   r ? ", " : "", r ? r->value : "", p->name);
	return vio_err_set(err, -EINVAL, "%s: %s; see %s --help", word,
			   r ? "takes no value" : "unknown option", p->name);
}

static int check_required(const struct vio_program *p, const struct table *t, const bool seen[],
			  struct vio_err *err)
{
	for (unsigned i = 0; i < t->n; i++) {
		const struct vio_option *r = t->e[i].row;

		if (r->required && !seen[i])
			return vio_err_set(err, -EINVAL, "--%s %s is missing: %s; see %s --help",
					   r->name, r->value, r->help, p->name);
	}
	return 0;
}

/* Rows as getopt_long() wants them: val is the row's number and one more. */
static void to_longs(const struct vio_program *p, const struct table *t, struct option longs[])
{
	unsigned n = 0;

	for (unsigned i = 0; i < t->n; i++) {
		const struct vio_option *r = t->e[i].row;

		if (is_option(r))
			longs[n++] = (struct option){r->name, r->value != NULL, NULL, (int)i + 1};
	}
	longs[n++] = (struct option){"help", 0, NULL, 'h' + 256};
	if (p->version)
		longs[n++] = (struct option){"version", 0, NULL, 'v' + 256};
	longs[n] = (struct option){NULL, 0, NULL, 0};
}

int vio_options_parse(const struct vio_program *p, void *to, int argc, char **argv,
		      struct vio_err *err)
{
	struct option longs[VIO_OPTIONS_MAX + 3];
	bool seen[VIO_OPTIONS_MAX] = {false};
	struct table t = {.n = 0};
	int c, rc = 0;

	flatten(p->rows, 0, &t);
	set_defaults(&t, to);
	to_longs(p, &t, longs);
	opterr = 0;
	while (rc == 0 && (c = getopt_long(argc, argv, ":h", longs, NULL)) != -1) {
		if (c == 'h' || c == 'h' + 256) {
			vio_options_help(p, stdout);
			return 1;
		}
		if (c == 'v' + 256) {
			printf("%s %s\n", p->name, p->version);
			return 1;
		}
		if (c == '?' || c == ':')
			return option_refuse(p, &t, c, argv[optind - 1], err);
		seen[c - 1] = true;
		rc = set_one(&t.e[c - 1], to, "--", optarg, err);
	}
	if (rc == 0 && optind < argc)
		return vio_err_set(err, -EINVAL, "%s: not an option; see %s --help", argv[optind],
				   p->name);
	return rc ? rc : check_required(p, &t, seen, err);
}
