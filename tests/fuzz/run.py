#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""./run fuzz [MINUTES] [NAME...]: libFuzzer on every fuzzer, with sanitizers and coverage.

Each fuzzer begins with its own seeds (vio_fuzz_seed() in its source) and what was kept in tests/fuzz/corpus/NAME, and goes on
with what earlier runs found (build-fuzz/corpus/NAME). A finding is kept in build-fuzz/findings and printed with the
command that runs it again. The corpora of tests/fuzz/corpus are minimised ones (-merge=1), and ./run test runs them as well.

AFL++ takes the same targets (Debian's package afl++, whose driver stands in for libFuzzer's):

  CC=afl-clang-fast meson setup build-afl -Dfuzz_engine=true -Db_lundef=false && ninja -C build-afl tests/fuzz/fuzz_ring
  afl-fuzz -i tests/fuzz/corpus/fuzz_ring -o build-afl/found -- build-afl/tests/fuzz/fuzz_ring

Exit code: 0 nothing was found, 1 something was, 2 wrong use.
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build-fuzz"
NAMES = sorted(p.stem for p in (ROOT / "tests/fuzz").glob("fuzz_*.c"))
CLANG_ARGS = "-fsanitize=fuzzer-no-link -fprofile-instr-generate -fcoverage-mapping"
# What a guest can reach of the product: the parts whose coverage is printed, by folder.
PARTS = ("server", "phyp", "proto", "vq", "notify")


def say(text):
    print(text, flush=True)


def tool(name):
    """A tool of the compiler's, by its name or with the version of Debian's package."""
    for t in (name, *(f"{name}-{v}" for v in range(21, 13, -1))):
        if shutil.which(t):
            return t
    raise SystemExit(f"./run fuzz: {name} is not installed: apt-get install clang llvm")


def build(names):
    if not (BUILD / "build.ninja").exists():
        env = dict(os.environ, CC=tool("clang"))
        subprocess.run(["meson", "setup", str(BUILD), "-Dbuildtype=debugoptimized", "-Dfuzz_engine=true", "-Db_lundef=false",
                        "-Db_sanitize=address,undefined", f"-Dc_args={CLANG_ARGS}", "-Dc_link_args=-fprofile-instr-generate"],
                       cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", str(BUILD), "--quiet", *(f"tests/fuzz/{n}" for n in names)], check=True)


def seeds(name, into):
    """The fuzzer's own seeds and what is kept of earlier runs, as files."""
    into.mkdir(parents=True, exist_ok=True)
    subprocess.run([str(BUILD / f"tests/fuzz/{name}"), "-runs=0"], env=dict(os.environ, VIO_FUZZ_SEEDS=str(into)),
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    kept = ROOT / "tests/fuzz/corpus" / name
    return [str(kept)] if kept.is_dir() else []


def fuzz(name, seconds):
    """(executions, inputs kept, what the engine said when it ended with a finding)."""
    corpus, found = BUILD / "corpus" / name, BUILD / "findings"
    found.mkdir(parents=True, exist_ok=True)
    more = seeds(name, corpus)
    env = dict(os.environ, LLVM_PROFILE_FILE=str(BUILD / f"{name}.profraw"),
               ASAN_OPTIONS="detect_leaks=1:handle_segv=0:handle_sigbus=0", UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1")
    r = subprocess.run([str(BUILD / f"tests/fuzz/{name}"), str(corpus), *more, f"-max_total_time={seconds}", "-timeout=25",
                        "-max_len=4096", "-print_final_stats=1", f"-artifact_prefix={found}/{name}-"],
                       env=env, capture_output=True, text=True, errors="replace")
    n = re.search(r"stat::number_of_executed_units:\s*(\d+)", r.stderr)
    return int(n.group(1)) if n else 0, len(list(corpus.iterdir())), r.stderr if r.returncode else ""


def coverage(names):
    """Lines of product sources that were run, by folder: {folder: (covered, lines)}, and of each file."""
    raw = [str(BUILD / f"{n}.profraw") for n in names if (BUILD / f"{n}.profraw").exists()]
    if not raw:
        return {}, {}
    data = BUILD / "fuzz.profdata"
    subprocess.run([tool("llvm-profdata"), "merge", "-sparse", "-o", str(data), *raw], check=True)
    objects = [str(BUILD / f"tests/fuzz/{n}") for n in names]
    text = subprocess.run([tool("llvm-cov"), "report", objects[0], *sum((["-object", o] for o in objects[1:]), []),
                           f"-instr-profile={data}"], capture_output=True, text=True, check=True).stdout
    folders, files = {}, {}
    for line in text.splitlines():
        f = line.split()
        # File, regions 3, functions 3, lines 3 (count, missed, %), branches
        if len(f) < 10 or not f[0].endswith((".c", ".h")) or not f[7].isdigit():
            continue
        path = f[0].replace("../", "")
        if not path.startswith(PARTS):
            continue
        lines, missed = int(f[7]), int(f[8])
        files[path] = (lines - missed, lines)
        have = folders.get(os.path.dirname(path), (0, 0))
        folders[os.path.dirname(path)] = (have[0] + lines - missed, have[1] + lines)
    return folders, files


def main():
    p = argparse.ArgumentParser(prog="./run fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("minutes", nargs="?", type=float, default=4, help="for all together (%(default)s)")
    p.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all of them if none")
    p.add_argument("--files", action="store_true", help="coverage of each file, not of folders")
    a = p.parse_args()
    names = a.names or NAMES
    wrong = [n for n in names if n not in NAMES]
    if wrong or a.minutes <= 0:
        p.error(f"{wrong[0]}: no such fuzzer; there are {', '.join(NAMES)}" if wrong else "minutes: more than 0")
    say(f"building with {tool('clang')}, address and undefined sanitizers, coverage")
    build(names)
    seconds, bad = max(1, round(60 * a.minutes / len(names))), 0
    say(f"{'fuzzer':<12} {'executions':>11} {'a second':>9} {'inputs kept':>12}  result")
    for n in names:
        runs, kept, text = fuzz(n, seconds)
        say(f"{n:<12} {runs:>11,} {runs // seconds:>9,} {kept:>12,}  {'FOUND SOMETHING' if text else 'nothing found'}")
        if text:
            bad += 1
            say(text[-4000:])
            m = re.search(r"Test unit written to (\S+)", text)
            say(f"again: build-fuzz/tests/fuzz/{n} {m.group(1) if m else 'INPUT'}")
    folders, files = coverage(names)
    say("\nlines of the product that the fuzzers ran")
    for path, (have, of) in sorted((files if a.files else folders).items()):
        say(f"  {path:<40} {have:>6} of {of:>6}  {100 * have / of if of else 0:5.1f} %")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
