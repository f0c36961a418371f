#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What the fuzzers are made of is accepted by clang, with its warnings: `./run fuzz` builds with it, and the tests' builds do not.

clang.py BUILD: looks through the build's compile_commands.json; nothing is built.
"""
import concurrent.futures
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

PARTS = re.compile(r"^(proto/libvio_proto|notify/|phyp/libphyp|server/libserver_core|tests/fuzz/)")
DROP = re.compile(r"^(-o|-MF|-MQ|-MD|-c)$")


def command(clang, entry):
    """The compiler's arguments, for clang, looking only."""
    argv, skip = [clang, "-fsyntax-only"], False
    for word in shlex.split(entry["command"])[1:]:
        if skip or DROP.match(word):
            skip = word in ("-o", "-MF", "-MQ") and not skip
            continue
        if word not in ("cc", "gcc"):
            argv.append(word)
    return [*argv, "-Wno-missing-field-initializers"]


def main():
    clang = shutil.which("clang")
    if not clang:
        print("no clang: skipped")
        return 77
    build = sys.argv[1]
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as f:
        entries = [e for e in json.load(f) if PARTS.match(e["output"])]
    assert any("server_core" in e["output"] for e in entries) and any("tests/fuzz" in e["output"] for e in entries)

    def look(entry):
        r = subprocess.run(command(clang, entry), cwd=entry["directory"], capture_output=True, text=True, check=False)
        return entry["file"], r.returncode, r.stderr

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        bad = [(name, text) for name, rc, text in pool.map(look, entries) if rc]
    for name, text in bad:
        print(f"{name}\n{text[:1500]}")
    print(f"{len(entries) - len(bad)} passed, {len(bad)} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
