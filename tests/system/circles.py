#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Circles between files: a.c calls what b.c defines, and b.c, itself or by way of others, what a.c defines.

A file in a circle can't be read, tested or replaced without the rest of it. The files in circles may only become fewer;
docs/architecture.md argues for those that stay.
"""

import collections
import os
import re
import sys

from house import sources

PROSE = re.compile(r'/\*.*?\*/|"(?:[^"\\\n]|\\.)*"', re.S)
FUNCTION = re.compile(r"^(?!static|typedef|extern|enum|union|[#}])[a-zA-Z_][\w \*\n]*?\b\*?(\w+)\([^;{}]*?\)\s*\n?\{", re.M)
TABLE = re.compile(r"^(?!static|extern|typedef)(?:const )?[\w \*]+?\b(\w+)(?:\[\w*\])* =", re.M)
LOCAL = re.compile(r"^static [^=;(]*?\b(\w+)\(", re.M)
USED = re.compile(r"(?<![.>\w])(?<!struct )(?<!enum )\w+")

# The most files that may be in one.
CEILING = 2


def arrows(texts):
    """file -> {file: names}: what is used of it. texts: {file: text}, of .c files."""
    texts = {f: PROSE.sub(" ", t) for f, t in texts.items()}
    where = collections.defaultdict(set)
    for f, t in texts.items():
        for name in FUNCTION.findall(t) + TABLE.findall(t):
            where[name].add(f)
    at = {name: next(iter(files)) for name, files in where.items() if len(files) == 1 and name != "main"}
    out = {}
    for f, t in texts.items():
        out[f] = collections.defaultdict(set)
        for name in set(USED.findall(t)) - set(LOCAL.findall(t)):
            if at.get(name, f) != f:
                out[f][at[name]].add(name)
    return out


def circles(to):
    """Strongly connected files, sets of two and more (Tarjan 1972)."""
    index, low, stack, found = {}, {}, [], []

    def visit(v):
        index[v] = low[v] = len(index)
        stack.append(v)
        for w in to[v]:
            if w not in index:
                visit(w)
            if w in stack:
                low[v] = min(low[v], low[w])
        if low[v] == index[v]:
            k = stack.index(v)
            if len(stack) - k > 1:
                found.append(set(stack[k:]))
            del stack[k:]

    for v in to:
        if v not in index:
            visit(v)
    return found


def check_the_check():
    """A planted circle of three is found, and its names; two files of which one uses the other are none."""
    texts = {"a.c": "int a(void)\n{\n\tb();\n}\n", "b.c": "int b(void)\n{\n\treturn t.x;\n}\n", "c.c": "const struct s t = {\n\ta,\n};\n",
             "d.c": "int d(void)\n{\n\ta();\n}\nstatic int b(void)\n{\n}\n/* e() */\n", "e.c": "int e(void)\n{\n\td();\n\tx->a;\n}\n"}
    to = arrows(texts)
    assert circles(to) == [{"a.c", "b.c", "c.c"}], circles(to)
    assert to["d.c"] == {"a.c": {"a"}} and to["e.c"] == {"d.c": {"d"}}, to


def main():
    check_the_check()
    sys.setrecursionlimit(10000)
    to = arrows({rel: text for rel, text in sources(sys.argv[1]) if rel.endswith(".c")})
    found = sorted(circles(to), key=lambda c: (-len(c), sorted(c)))
    n = sum(len(c) for c in found)
    for c in found:
        print(f"{len(c):4} in a circle: {', '.join(sorted(c))}")
        if n > CEILING or "-v" in sys.argv:
            print("".join(f"       {os.path.basename(a)} -> {os.path.basename(b)}: {', '.join(sorted(to[a][b]))}\n"
                          for a in sorted(c) for b in sorted(c) if to[a][b]), end="")
    print(f"{n:4} of {len(to)} files (at most {CEILING}){': TOO MANY' if n > CEILING else ''}")
    print(f"{int(n <= CEILING)} passed, {int(n > CEILING)} failed")
    return 1 if n > CEILING else 0


if __name__ == "__main__":
    raise SystemExit(main())
