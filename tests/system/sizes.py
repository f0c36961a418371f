#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Lines of C (.c and .h) by part of the tree, at one commit or two: sizes.py [BEFORE [AFTER]].

Blank lines and comments count: they are read too. Beside two commits: which commits between them made the product larger or
smaller, and by how much, so that what is new can be told from what was said twice.
"""

import collections
import re
import subprocess
import sys

from house import PARTS

PRODUCT = PARTS + ("examples",)
LEAST = 100  # lines: smaller changes are one row


def git(*argv):
    return subprocess.run(("git", *argv), check=True, capture_output=True, text=True).stdout


def by_part(rev):
    n = collections.Counter()
    for line in git("grep", "-c", "", rev, "--", "*.c", "*.h").splitlines():
        path, lines = line.split(":", 1)[1].rsplit(":", 1)
        if path.split("/")[0] in PRODUCT + ("tests",):
            n[path.split("/")[0]] += int(lines)
    return n


def by_commit(before, after):
    """(title, lines more), the product only."""
    out = []
    for line in git("log", "--numstat", "-M", "--format=@%s", f"{before}..{after}", "--", *PRODUCT).splitlines():
        if line.startswith("@"):
            out.append([line[1:], 0])
        elif m := re.match(r"(\d+)\t(\d+)\t.*\.[ch]\}?$", line):
            out[-1][1] += int(m[1]) - int(m[2])
    return out


def table(title, heads, rows):
    print(f"| {title} |" + "".join(f" {h} |" for h in heads))
    print("| --- |" + " ---: |" * len(heads))
    for name, *values in rows:
        print(f"| {name} |" + "".join(f" {v:,} |" for v in values))
    print()


def main():
    revs = sys.argv[1:] or ["HEAD"]
    parts = [by_part(r) for r in revs]
    table("part", revs, [(p, *(n[p] for n in parts)) for p in sorted(set().union(*parts))] +
          [("**sum without tests**", *(sum(v for p, v in n.items() if p != "tests") for n in parts))])
    if len(revs) == 2:
        commits = by_commit(*revs)
        large = sorted((c for c in commits if abs(c[1]) >= LEAST), key=lambda c: -c[1])
        rest = [n for _, n in commits if abs(n) < LEAST]
        table("commit", ["lines more"], large + [(f"{len(rest)} others", sum(rest))])


if __name__ == "__main__":
    main()
