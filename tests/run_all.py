#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""./run test: the tests in the ordinary build, then the same under the sanitizers; one closing line for all. quick: the ordinary
build alone, without the tests of the suite `long`."""

import json
import os
import subprocess
import sys
import time

# directory, what it is called, meson options, environment
BUILDS = [
    ("build", "ordinary build", [], {}),
    ("build-asan", "address and undefined behaviour sanitizers",
     ["-Dbuildtype=debugoptimized", "-Db_sanitize=address,undefined", "-Db_lundef=false"],
     {"ASAN_OPTIONS": "detect_leaks=1:abort_on_error=1:handle_segv=0", "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}),
    ("build-tsan", "thread sanitizer", ["-Dbuildtype=debugoptimized", "-Db_sanitize=thread", "-Db_lundef=false"],
     # DPDK is not instrumented: its spinlocks are unseen, and what it does between them looks like races of its own threads (the
     # telemetry thread's table of commands, the tap driver's netlink socket). Accesses that its code makes are left out; ours,
     # also in callbacks, are not.
     {"TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1:ignore_noninstrumented_modules=1"}),
]


def run(argv, env):
    return subprocess.run(argv, env={**os.environ, **env}, check=False).returncode


def results_of(build):
    """(passed, failed, skipped, names of failures) from meson's log of the last run."""
    counts, bad, skipped = {"ok": 0, "fail": 0, "skip": 0}, [], []
    path = os.path.join(build, "meson-logs", "testlog.json")
    if not os.path.exists(path):
        return 0, 1, 0, ["no test ran"], []
    with open(path) as f:
        for line in f:
            t = json.loads(line)
            kind = {"OK": "ok", "EXPECTEDFAIL": "ok", "SKIP": "skip"}.get(t["result"], "fail")
            counts[kind] += 1
            if kind == "fail":
                bad.append(f"{t['name']} ({t['result']})")
            if kind == "skip":
                skipped.append(t["name"])
    return counts["ok"], counts["fail"], counts["skip"], bad, skipped


def main():
    quick = "quick" in sys.argv[1:]
    unknown = [a for a in sys.argv[1:] if a != "quick"]
    if unknown:
        print(f"./run test {unknown[0]}: only `quick` is known", file=sys.stderr)
        return 2
    passed = failed = skipped = 0
    for directory, what, options, env in BUILDS[:1] if quick else BUILDS:
        t0 = time.monotonic()
        print(f"== {what} ({directory})", flush=True)
        if not os.path.exists(os.path.join(directory, "build.ninja")):
            log = subprocess.run(["meson", "setup", directory, *options], capture_output=True, text=True, check=False)
            if log.returncode:
                print(log.stdout[-3000:] + log.stderr[-3000:])
                return 1
        if subprocess.run(["ninja", "-C", directory, "--quiet"], check=False).returncode:
            return 1
        log = os.path.join(directory, "meson-logs", "testlog.json")
        if os.path.exists(log):
            os.unlink(log)
        run(["meson", "test", "-C", directory, "--no-rebuild", "--print-errorlogs", "--num-processes", "2",
             *(["--no-suite", "long"] if quick else [])], env)
        ok, bad, skip, names, skips = results_of(directory)
        passed, failed, skipped = passed + ok, failed + bad, skipped + skip
        print(f"== {what}: {ok} passed, {bad} failed, {skip} skipped in {time.monotonic() - t0:.0f} s")
        for n in names:
            print(f"   FAILED: {n}")
        for n in skips:
            print(f"   skipped: {n}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    raise SystemExit(main())
