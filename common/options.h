/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Command lines as tables: an option is a row, written once. The row says the option's name, what it is for, the kind of its
 * value with range and unit, its default and the place that it goes to; help, checks and messages are made of it.
 * docs/decisions/0013-options-are-rows.md says why no library does this.
 *
 * No state; any thread, but vio_options_parse() uses getopt_long() and is called once, before threads exist.
 */
#ifndef VIO_COMMON_OPTIONS_H
#define VIO_COMMON_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vio/err.h"

/* Rows that a program may have, those of included tables counted. */
#define VIO_OPTIONS_MAX 96u

enum vio_option_kind {
	VIO_OPTION_LINE, /* no option: text of --help */
	VIO_OPTION_ROWS, /* no option: another table, whose places lie in a struct at this row's place */
	VIO_OPTION_FLAG,  /* bool that becomes true; no value */
	VIO_OPTION_CLEAR, /* bool that becomes false; no value */
	VIO_OPTION_TEXT,  /* const char *, not copied */
	VIO_OPTION_NUMBER, /* unsigned integer of any size, or a signed one whose range is not negative */
	VIO_OPTION_SECONDS, /* uint64_t, ns */
	VIO_OPTION_REAL,    /* double */
	VIO_OPTION_WORD,    /* unsigned integer of any size or bool: the word's index */
	VIO_OPTION_CALL,    /* set() knows what to do; no value where the row names none */
};

struct vio_option {
	const char *name;  /* without the dashes */
	const char *value; /* what --help calls its value; NULL: it takes none */
	const char *help;  /* one sentence without range, words and default, which --help adds */
	enum vio_option_kind kind;
	uint16_t at, size; /* place in the program's struct, bytes */
	uint16_t given; /* VIO_GIVEN(): a bool that becomes true when the option is used; 0: none */
	bool required;
	const char *def;          /* as a person would write it; NULL: the place stays as it was */
	uint64_t lo, hi;          /* NUMBER: the range, both included, as it is written */
	uint64_t unit;            /* NUMBER: what one is in the place; 0 is 1 */
	uint64_t multiple;        /* NUMBER: of this, as it is written; 0: any */
	bool power_of_two;        /* NUMBER */
	bool never;               /* NUMBER: the word never too, which is UINT64_MAX */
	double least, most;       /* SECONDS, REAL: the range, both included */
	const char *const *words; /* WORD: ends with NULL */
	const struct vio_option *rows; /* ROWS: ends with a row of zeroes; or */
	const struct vio_option *(*each)(
		unsigned i);              /* row i of a table elsewhere, NULL past the end */
	const char *(*lines)(unsigned i); /* more of --help below it: line i, NULL past the end */
	/* CALL: `to` is the row's place. 0, or -EINVAL with a sentence that names the option. */
	int (*set)(const struct vio_option *row, void *to, const char *text, struct vio_err *err);
};

/* A row's place and kind. */
#define VIO_AT(type, field)    .at = offsetof(type, field), .size = sizeof(((type *)NULL)->field)
#define VIO_GIVEN(type, field) .given = offsetof(type, field) + 1
#define VIO_LINES(text)                                                                            \
	{                                                                                          \
		.kind = VIO_OPTION_LINE, .help = (text)                                            \
	}
#define VIO_ROWS(type, field, table)                                                               \
	{                                                                                          \
		.kind = VIO_OPTION_ROWS, .at = offsetof(type, field), .rows = (table)              \
	}
#define VIO_FLAG(type, field)  .kind = VIO_OPTION_FLAG, VIO_AT(type, field)
#define VIO_CLEAR(type, field) .kind = VIO_OPTION_CLEAR, VIO_AT(type, field)
#define VIO_TEXT(type, field)  .kind = VIO_OPTION_TEXT, VIO_AT(type, field)
#define VIO_NUMBER(type, field, from, to)                                                          \
	.kind = VIO_OPTION_NUMBER, VIO_AT(type, field), .lo = (from), .hi = (to)
#define VIO_SECONDS(type, field, from, to)                                                         \
	.kind = VIO_OPTION_SECONDS, VIO_AT(type, field), .least = (from), .most = (to)
#define VIO_REAL(type, field, from, to)                                                            \
	.kind = VIO_OPTION_REAL, VIO_AT(type, field), .least = (from), .most = (to)
#define VIO_WORD(type, field, list) .kind = VIO_OPTION_WORD, VIO_AT(type, field), .words = (list)
#define VIO_CALL(type, field, fn)   .kind = VIO_OPTION_CALL, VIO_AT(type, field), .set = (fn)
/* The whole struct is the place. */
#define VIO_CALL_ALL(fn) .kind = VIO_OPTION_CALL, .set = (fn)

/* For VIO_WORD of a bool. */
extern const char *const vio_off_on[];

struct vio_program {
	const char *name;
	const char *about;             /* what it is, before the options */
	const char *tail;              /* after the options: exit codes and more */
	const char *version;           /* NULL: no --version */
	const struct vio_option *rows; /* ends with a row of zeroes */
};

/*
 * Defaults, then the command line, into *to. --help (-h) and --version are every program's. 0; 1: one of these was answered on
 * standard output; -EINVAL with a sentence: what was wrong, where, what to do. Texts point into argv.
 */
int vio_options_parse(const struct vio_program *p, void *to, int argc, char **argv,
		      struct vio_err *err);
/* The same rows as keys of another program's command line, key=value. Defaults only. */
void vio_options_defaults(const struct vio_option *rows, void *to);
/* One key. 0; -EINVAL with a sentence, which lists the keys if it is none of them. */
int vio_options_key(const struct vio_option *rows, void *to, const char *key, const char *value,
		    struct vio_err *err);
void vio_options_help(const struct vio_program *p, FILE *f);
/* Help of keys: key=VALUE and what it is, no newline at the end. */
void vio_options_keys_help(const struct vio_option *rows, FILE *f);

#endif
