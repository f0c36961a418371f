#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The structure's debts, counted. Each may only fall: a ceiling here is lowered with the change that pays it off.

A level of a factor is compared in its table only, so that a new level is one file and one row; a folder and a file fit into
one sitting; a hypercall that answers busy is repeated by one helper; the hypercalls are listed once; a name in a profile says which file it is from; an
option of a program is one row.
"""

import collections
import os
import re
import sys

PARTS = ("include", "common", "duet", "proto", "notify", "vq", "phyp", "guest", "server", "bench")
LEVEL = r"VIO_(?:MAP|NOTIFY|RING|PAYLOAD)_(?!V\d)[A-Z_]+"
# Where a factor's levels are told apart: its table and its rows.
TABLES = re.compile(r"^(proto/arm\.c|notify/|guest/dma/dma\.c|(guest|server)/payload/payload\.c|server/ring/ring\.c)")
LEVEL_TEST = re.compile(rf"(?:==|!=)\s*{LEVEL}\b|\b{LEVEL}\s*(?:==|!=)|\bcase\s+{LEVEL}\b")
RETRY = re.compile(r"while \((?=[^;{]*H_BUSY)(?=[^;{]*\+\+)")
STATIC = re.compile(r"^static (?!const|_Noreturn struct)[^=;(]*?\b(\w+)\(", re.M)
# An option: a row of struct vio_option, or whatever says its name besides.
ROW = re.compile(r'\{\s*"([a-z][a-z0-9-]*)",\s*(?:"[^"]*"|NULL),\s*((?:"(?:[^"\\]|\\.)*"\s*)+),\s*(?:VIO_|\.)')
BESIDE_ROWS = re.compile(r'\bgetopt|"\s*--[a-z][a-z0-9-]* +[^%"]* {2,}')
OPTION_TABLE = "common/options."
# The hypercalls: their list, and their numbers. Whoever names so many one below the other has made a second list.
CALLS, NUMBERS, IN_A_LIST = "phyp/core/hcall.h", "include/vio/papr.h", 6
ATTRIBUTE = re.compile(r"__attribute__\(\(.*?\)\) ?")
MAX_LINES, MAX_FILES = 500, 15

# what: the most that there may be.
CEILING = {
    "tests of a level outside of its table": 0,
    "files above 500 lines": 0,
    "test files above 500 lines": 0,
    "folders above 15 source files": 0,
    "loops that retry a busy hypercall": 0,
    "lists of hypercalls besides the one": 0,
    "names of static functions in more than one file": 44,
    "options written more than once": 0,
}


def sources(root, parts=PARTS):
    for part in parts:
        for folder, _, files in os.walk(os.path.join(root, part)):
            for name in sorted(f for f in files if f.endswith((".c", ".h"))):
                path = os.path.join(folder, name)
                with open(path, encoding="utf-8") as f:
                    yield os.path.relpath(path, root), f.read()


def lists_of(calls, lines):
    """Numbers of the lines at which IN_A_LIST lines or more begin that each name a call."""
    names, run = re.compile(r"\b(?:" + "|".join(sorted(calls) or ["(?!)"]) + r")\b"), 0
    for n, line in enumerate(lines + [""], 1):
        if names.search(line):
            run += 1
            continue
        if run >= IN_A_LIST:
            yield n - run
        run = 0


def count(files):
    """what -> list of places."""
    files = list(files)
    calls = {name for rel, text in files if rel == CALLS for name in re.findall(r"X\((H_\w+),", text)}
    found = {what: [] for what in CEILING}
    folders, statics, rows = collections.Counter(), collections.defaultdict(set), collections.defaultdict(list)
    for rel, text in files:
        lines = text.split("\n")
        if rel.startswith("tests/"):
            if len(lines) - 1 > MAX_LINES:
                found["test files above 500 lines"].append(f"{rel} ({len(lines) - 1})")
            continue
        if rel.endswith(".c"):
            folders[os.path.dirname(rel)] += 1
        if len(lines) - 1 > MAX_LINES:
            found["files above 500 lines"].append(f"{rel} ({len(lines) - 1})")
        for n, line in enumerate(lines, 1):
            if not TABLES.match(rel) and LEVEL_TEST.search(line):
                found["tests of a level outside of its table"].append(f"{rel}:{n}")
        found["loops that retry a busy hypercall"] += [f"{rel}:{1 + text.count(chr(10), 0, m.start())}" for m in RETRY.finditer(text)]
        if rel not in (CALLS, NUMBERS):
            found["lists of hypercalls besides the one"] += [f"{rel}:{n}" for n in lists_of(calls, lines)]
        for m in ROW.finditer(text):
            rows[m.groups()].append(f"{rel}:{1 + text.count(chr(10), 0, m.start())}: --{m.group(1)}")
        if not rel.startswith(OPTION_TABLE):
            found["options written more than once"] += [f"{rel}:{n}" for n, line in enumerate(lines, 1) if BESIDE_ROWS.search(line)]
        if not rel.endswith(".h"):
            for name in STATIC.findall(ATTRIBUTE.sub("", text)):
                statics[name].add(rel)
    found["folders above 15 source files"] = [f"{d} ({n})" for d, n in folders.items() if n > MAX_FILES]
    found["options written more than once"] += [place for places in rows.values() for place in places[1:]]
    found["names of static functions in more than one file"] = sorted(
        f"{name} ({len(where)})" for name, where in statics.items() if len(where) > 1)
    return found


def check_the_check():
    """Planted debts are found, and a table's own are not counted."""
    planted = [("server/x.c", "if (a->notify == VIO_NOTIFY_POLL)\nswitch\ncase VIO_MAP_POOL:\n"
                "while (rc == H_BUSY && ++tries < 9)\n" + "static void pop(void)\n" + "\n" * 500),
               ("server/y.c", "static int pop(struct a *b)\n"), ("notify/poll.c", "a == VIO_NOTIFY_POLL\n"), ("tests/t.c", "static int pop(void)\n" + "\n" * 500)]
    planted += [("bench/z.c", '{"seed", "N", "of data", VIO_X}, {"seed", "N", "of data", .kind}, {"seed", "N", "of order", VIO_X}, {"seed", "N", "of data"}\n"  --seed N   of data\\n"\n#include <getopt.h>\n'),
                ("common/options.c", "#include <getopt.h>\n")]
    planted += [(f"many/{i}.c", "") for i in range(16)]
    planted += [(CALLS, "X(H_A, 1, 0, a)\nX(H_B, 1, 0, b)\n" * 3), ("bench/calls.c", "\tH_A,\n\tH_B,\n" * 3 + "\nH_A, H_B, H_A, H_B, H_A, H_B\n")]
    got = {what: len(places) for what, places in count(planted).items()}
    assert list(got.values()) == [2, 1, 1, 1, 1, 1, 1, 3], got


def main():
    check_the_check()
    bad = 0
    for what, places in count(sources(sys.argv[1], PARTS + ("tests",))).items():
        over = len(places) > CEILING[what]
        bad += over
        print(f"{len(places):4} {what} (at most {CEILING[what]}){': TOO MANY' if over else ''}")
        if over or "-v" in sys.argv:
            print("".join(f"       {p}\n" for p in places), end="")
    print(f"{len(CEILING) - bad} passed, {bad} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
