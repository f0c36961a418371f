/* SPDX-License-Identifier: BSD-3-Clause */
/* A command line made of rows: values reach their places, mistakes are named, help says all that a row says. */
#include <getopt.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/options.h"

struct inner {
	uint16_t small;
	const char *text;
};

struct place {
	uint64_t before, wide, after;
	uint8_t b0, byte, b1;
	uint64_t ns, seconds;
	double real;
	unsigned word;
	bool flag, cleared, on, given;
	struct inner in;
	unsigned calls, third;
	bool fourth;
	const char *needed;
};

static const char *const words[] = {"red", "green", "blue", NULL};

static int count(const struct vio_option *row, void *to, const char *text, struct vio_err *err)
{
	if (!strcmp(text, "bad"))
		return vio_err_set(err, -EINVAL, "--%s %s: is bad", row->name, text);
	++*(unsigned *)to;
	return 0;
}

static const struct vio_option inner_rows[] = {
	VIO_LINES("inner\n"),
	{"small", "N", "sixteen bits", VIO_NUMBER(struct inner, small, 2, 1024),
	 .power_of_two = true, .def = "8"},
	{"text", "TEXT", "as it is", VIO_TEXT(struct inner, text)},
	{0},
};

static const char *more(unsigned i)
{
	static const char *const line[] = {"first line", "second line"};

	return i < 2 ? line[i] : NULL;
}

static const struct vio_option elsewhere[] = {
	{"third", "N", "from a table elsewhere", VIO_NUMBER(struct place, third, 0, 9),
	 .lines = more},
	{"fourth", NULL, "another", VIO_FLAG(struct place, fourth)},
};

static const struct vio_option *each(unsigned i)
{
	return i < 2 ? &elsewhere[i] : NULL;
}

static const struct vio_option rows[] = {
	{"wide", "SIZE", "64 bits", VIO_NUMBER(struct place, wide, 1, UINT64_MAX), .def = "64k"},
	{"byte", "N", "eight bits", VIO_NUMBER(struct place, byte, 0, 255), .multiple = 5},
	{"ns", "N", "in microseconds", VIO_NUMBER(struct place, ns, 0, 1000), .unit = 1000,
	 .never = true, .def = "7"},
	{"seconds", "S", "so long", VIO_SECONDS(struct place, seconds, 0.5, 60), .def = "1.5"},
	{"real", "X", "a number", VIO_REAL(struct place, real, 0, 1)},
	{"word", "COLOUR", "which", VIO_WORD(struct place, word, words), .def = "green"},
	{"flag", NULL, "becomes true", VIO_FLAG(struct place, flag)},
	{"no-flag", NULL, "becomes false", VIO_CLEAR(struct place, cleared)},
	{"on", "on|off", "either", VIO_WORD(struct place, on, vio_off_on),
	 VIO_GIVEN(struct place, given), .def = "on"},
	{.kind = VIO_OPTION_LINE, .lines = more},
	VIO_ROWS(struct place, in, inner_rows),
	{.kind = VIO_OPTION_ROWS, .each = each},
	{"call", "WHAT", "counted", VIO_CALL(struct place, calls, count)},
	{"needed", "THING", "the thing", VIO_TEXT(struct place, needed), .required = true},
	{0},
};

static const struct vio_program program = {
	.name = "prog", .about = "about it\n", .tail = "the end\n", .version = "1.2", .rows = rows};

static int parse(struct place *p, struct vio_err *err, const char *const args[])
{
	char *argv[24] = {(char *)(uintptr_t) "prog"};
	int argc = 1;

	for (; args[argc - 1]; argc++)
		argv[argc] = (char *)(uintptr_t)args[argc - 1];
	memset(p, 0xa5, sizeof(*p)); /* what no row is about must stay */
	p->calls = 0;
	p->fourth = false;
	p->flag = p->given = false;
	p->cleared = true;
	err->msg[0] = '\0';
	optind = 0; /* glibc: begin anew */
	return vio_options_parse(&program, p, argc, argv, err);
}
#define PARSE(p, err, ...) parse(p, err, (const char *const[]){__VA_ARGS__, NULL})

static void refused(const char *const args[], const char *sentence)
{
	struct place p;
	struct vio_err err;

	assert_int_equal(parse(&p, &err, args), -EINVAL);
	assert_string_equal(err.msg, sentence);
}
#define REFUSED(sentence, ...) refused((const char *const[]){__VA_ARGS__, NULL}, sentence)

static void defaults_reach_their_places_and_nothing_beside_them(void **state)
{
	struct place p;
	struct vio_err err;

	(void)state;
	assert_int_equal(PARSE(&p, &err, "--needed", "x"), 0);
	assert_int_equal(p.wide, 65536);
	assert_int_equal(p.ns, 7000);
	assert_int_equal(p.seconds, 1500000000);
	assert_int_equal(p.word, 1);
	assert_int_equal(p.in.small, 8);
	assert_true(p.on && p.cleared && !p.flag);
	assert_false(p.given); /* a default is not given */
	assert_int_equal(p.byte, 0xa5);
	assert_int_equal(p.before, 0xa5a5a5a5a5a5a5a5);
	assert_int_equal(p.after, 0xa5a5a5a5a5a5a5a5);
}

static void values_of_each_kind_reach_their_places_and_nothing_beside_them(void **state)
{
	struct place p;
	struct vio_err err;

	(void)state;
	assert_int_equal(PARSE(&p, &err, "--wide", "18446744073709551615", "--byte=255", "--ns",
			       "never", "--seconds", "0.5", "--real", "0.25", "--word", "blue",
			       "--flag", "--no-flag", "--on", "off", "--small", "1k", "--text",
			       "abc", "--call", "a", "--call", "b"),
			 -EINVAL); /* --needed is missing */
	assert_int_equal(PARSE(&p, &err, "--wide", "18446744073709551615", "--byte=255", "--ns",
			       "never", "--seconds", "0.5", "--real", "0.25", "--word", "blue",
			       "--no-flag", "--on", "off", "--third=3", "--fourth", "--small=1k",
			       "--text=abc", "--call=a", "--call=b", "--needed=y"),
			 0);
	assert_true(p.wide == UINT64_MAX && p.ns == UINT64_MAX);
	assert_int_equal(p.byte, 255);
	assert_int_equal(p.b0, 0xa5);
	assert_int_equal(p.b1, 0xa5);
	assert_int_equal(p.seconds, 500000000);
	assert_true(p.real > 0.24 && p.real < 0.26);
	assert_int_equal(p.word, 2);
	assert_true(!p.cleared && !p.on && p.given);
	assert_int_equal(p.in.small, 1024);
	assert_string_equal(p.in.text, "abc");
	assert_int_equal(p.calls, 2);
	assert_int_equal(p.third, 3);
	assert_true(p.fourth);
	assert_string_equal(p.needed, "y");
	assert_int_equal(p.after, 0xa5a5a5a5a5a5a5a5);
}

static void each_mistake_is_named_with_what_to_write_instead(void **state)
{
	(void)state;
	REFUSED("--byte 256: must be a number from 0 to 255", "--byte", "256");
	REFUSED("--byte 12: must be a multiple of 5", "--byte", "12");
	REFUSED("--byte -1: must be a number from 0 to 255", "--byte", "-1");
	REFUSED("--ns soon: must be a number from 0 to 1000, or never", "--ns", "soon");
	REFUSED("--small 12: must be a power of two", "--small", "12");
	REFUSED("--small 2k: must be a number from 2 to 1024", "--small", "2k");
	REFUSED("--seconds 0.4: must be a number of seconds from 0.5 to 60", "--seconds", "0.4");
	REFUSED("--real nan: must be a number from 0 to 1", "--real", "nan");
	REFUSED("--real 1x: must be a number from 0 to 1", "--real", "1x");
	REFUSED("--word pink: must be red, green or blue", "--word", "pink");
	REFUSED("--on yes: must be off or on", "--on", "yes");
	REFUSED("--call bad: is bad", "--call", "bad");
	REFUSED("--needed: wants a value, THING; see prog --help", "--needed");
	REFUSED("--flag=1: takes no value; see prog --help", "--flag=1");
	REFUSED("--nonsense: unknown option; see prog --help", "--nonsense");
	REFUSED("-B: unknown option; see prog --help", "-B");
	REFUSED("left: not an option; see prog --help", "--needed", "x", "left");
	REFUSED("--needed THING is missing: the thing; see prog --help", "--flag");
}

static void keys_are_the_same_rows(void **state)
{
	struct place p = {.wide = 0};
	struct vio_err err = {""};

	(void)state;
	vio_options_defaults(rows, &p);
	assert_int_equal(p.in.small, 8);
	assert_int_equal(vio_options_key(rows, &p, "small", "16", &err), 0);
	assert_int_equal(p.in.small, 16);
	assert_int_equal(vio_options_key(rows, &p, "small", "17", &err), -EINVAL);
	assert_string_equal(err.msg, "small=17: must be a power of two");
	assert_int_equal(vio_options_key(rows, &p, "tiny", "17", &err), -EINVAL);
	assert_non_null(strstr(err.msg, "unknown parameter tiny; known: wide, byte, ns"));
}

static void help_says_all_that_the_rows_say(void **state)
{
	static const char *const said[] = {
		"about it\n  --wide SIZE          64 bits (64k)\n",
		"  --byte N             eight bits; 0 to 255, a multiple of 5\n",
		"  --ns N               in microseconds; 0 to 1000, or never (7)\n",
		"  --word COLOUR        which: red, green or blue (green)\n",
		"  --flag               becomes true\n",
		"  --on on|off          either (on)\n    first line\n    second line\ninner\n",
		"  --small N            sixteen bits; 2 to 1024, a power of two (8)\n",
		"  --third N            from a table elsewhere; 0 to 9\n    first line\n    second line\n",
		"  --needed THING       the thing (required)\n  --help, --version\nthe end\n",
	};
	char text[4096] = "";
	FILE *f = fmemopen(text, sizeof(text), "w");

	(void)state;
	assert_non_null(f);
	vio_options_help(&program, f);
	fclose(f);
	for (unsigned i = 0; i < sizeof(said) / sizeof(said[0]); i++)
		if (!strstr(text, said[i]))
			fail_msg("'%s' is not in:\n%s", said[i], text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_reach_their_places_and_nothing_beside_them),
		cmocka_unit_test(values_of_each_kind_reach_their_places_and_nothing_beside_them),
		cmocka_unit_test(each_mistake_is_named_with_what_to_write_instead),
		cmocka_unit_test(keys_are_the_same_rows),
		cmocka_unit_test(help_says_all_that_the_rows_say),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
