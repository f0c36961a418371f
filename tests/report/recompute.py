#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Recompute figures of a report from its samples.csv, with nothing of the instrument's own code.

usage: recompute.py REPORT_FOLDER

Reads samples.csv and results.json, computes the arms at a glance, the ladder, and time by size again with the standard library
only (another bootstrap, another seed), and says what does not agree. Estimates must be equal; an interval must not be narrower
than the samples allow; a verdict must be one that these numbers allow. Exit code 0: all agree; 1: something does not; 2: wrong use.
"""

import csv
import json
import math
import os
import random
import statistics
import sys

DRAWS = 600
EXACT = 1e-6  # relative: estimates are the same arithmetic on the same numbers
MAIN = {"rate": "0.0", "cost": "free", "cores": "split", "order": "rand", "batch": "0", "buffers": "0", "pool_kib": "0", "extra": "",
        "idle_ms": "", "queue_size": "256", "indirect": "False"}


def raw_values(folder):
    """{(experiment, block, slot): ns per request in order} of every sample in raw/, kept or not; {} without raw/."""
    out, where = {}, os.path.join(folder, "raw")
    for name in sorted(os.listdir(where)) if os.path.isdir(where) else []:
        if not name.endswith(".jsonl"):
            continue
        with open(os.path.join(where, name)) as f:
            for line in f:
                obj = json.loads(line)
                for t in [obj["trial"]] if "trial" in obj else obj.get("trials", []):
                    whole = t.get("danced") and ":" not in t["experiment"]  # of a danced start: its plateaus are in the windows
                    for s in t["samples"]:
                        key = (t["experiment"] + (":starts" if whole else ""), t["block"], s.get("slot", t["slot"]))
                        out.setdefault(key, []).append(s["values"]["ns_per_request"])
    return out


def same_as_raw(folder, check):
    """samples.csv holds exactly the values of raw/, for the experiments that it has."""
    raw, table = raw_values(folder), {}
    with open(os.path.join(folder, "samples.csv"), newline="") as f:
        for r in csv.DictReader(f):
            if r["plateau"] != "-1":
                continue
            table.setdefault((r["experiment"], int(r["block"]), r["slot"]), []).append(float(r["ns_per_request"]))
    have = {k[0] for k in table}
    for key in raw.keys() | table.keys() if raw else ():
        if key[0] in have:
            check.done += 1
            if sorted(raw.get(key, [])) != sorted(table.get(key, [])):
                check.wrong.append(f"samples.csv and raw/ differ in {key}")


def load(folder):
    with open(os.path.join(folder, "samples.csv"), newline="") as f:
        rows = [r for r in csv.DictReader(f) if r["kept"] == "1"]
    with open(os.path.join(folder, "results.json")) as f:
        results = json.load(f)
    return [r for r in rows if r["plateau"] in ("-1", str(results["main_plateau"]))], results


def by_block(rows, **want):
    """{block: ns per request} of the rows that have these texts; several in a block: their median."""
    out = {}
    for r in rows:
        if all(r[k] == v for k, v in want.items()):
            out.setdefault(int(r["block"]), []).append(float(r["ns_per_request"]))
    return {b: statistics.median(v) for b, v in out.items()}


def paired(a, b):
    both = sorted(set(a) & set(b))
    return [(a[k], b[k]) for k in both]


def ratio(pairs):
    """median over the pairs of second over first."""
    return math.exp(statistics.median(math.log(p[1] / p[0]) for p in pairs))


def bootstrap(units, statistic, level, seed=7):
    """Percentile interval."""
    rng, n = random.Random(seed), len(units)
    got = sorted(statistic(rng.choices(units, k=n)) for _ in range(DRAWS))
    return got[int((1 - level) / 2 * DRAWS)], got[int((1 + level) / 2 * DRAWS)]


class Check:
    def __init__(self):
        self.done, self.wrong = 0, []

    def equal(self, what, reported, mine):
        self.done += 1
        if reported is None or abs(reported - mine) > EXACT * max(abs(mine), 1e-12):
            self.wrong.append(f"{what}: the report says {reported}, the samples give {mine}")

    def like(self, what, reported, units, statistic):
        """The reported 99 % interval is not narrower than the samples allow: it meets the 90 % interval of another bootstrap, and is not
        a quarter of its width. A wider one is only careful (one disturbed start of twelve may stretch either)."""
        self.done += 1
        if reported.get("low") is None or reported["n"] < 8:
            return
        low, high = bootstrap(units, statistic, 0.90)
        if reported["low"] > high or reported["high"] < low or 4 * (reported["high"] - reported["low"]) < high - low:
            self.wrong.append(f"{what}: 99 % interval [{reported['low']:.4g}, {reported['high']:.4g}] in the report, "
                              f"90 % [{low:.4g}, {high:.4g}] from the samples")

    def verdict(self, what, answer, units):
        """faster and slower need the samples' own 90 % interval on that side of 1 (more is better); saying nothing is always allowed."""
        self.done += 1
        low, high = bootstrap(units, ratio, 0.90)
        if (answer == "faster" and low <= 1) or (answer == "slower" and high >= 1):
            self.wrong.append(f"{what}: verdict {answer}, the samples give {ratio(units):.3f} [{low:.3f}, {high:.3f}] at 90 %")

    def interval(self, what, reported, units, statistic):
        self.equal(what, reported["estimate"], statistic(units))
        self.like(what, reported, units, statistic)


def size_text(n):
    if n >= 1 << 20 and n % (1 << 20) == 0:
        return f"{n >> 20} MiB"
    return f"{n >> 10} KiB" if n >= 1024 and n % 1024 == 0 else f"{n} B"


def label(r):
    return f"{r['backend']}: {r['op']} {size_text(int(r['bs']))}, depth {r['depth']}"


def section(results, name):
    return next((s for s in results["sections"] if s["id"] == name), None)


def labels(rows, experiment):
    """{label: {column: text}} of an experiment's points that differ from each other only in what the label says."""
    return {label(r): {k: r[k] for k in ("backend", "op", "bs", "depth")} for r in rows
            if r["experiment"] == experiment and all(r[k] == v for k, v in MAIN.items())}


def arms_at_a_glance(rows, results, check):
    """Ratio of requests per second to copy, of every arm at every point of quick."""
    s = section(results, "overview")
    known = labels(rows, "quick")
    for row in s["data"].get("quick", []) if s else []:
        point = known.get(row["point"])
        if point is None or row["ratio"] is None:
            continue
        pick = {"experiment": "quick", **point}
        pairs = paired(by_block(rows, slot=row["arm"], **pick), by_block(rows, slot="copy", **pick))
        what = f"overview, {row['point']}, {row['arm']}"
        check.interval(what, row["ratio"], pairs, ratio)
        check.verdict(what, row["answer"], pairs)


def ladder(rows, results, check):
    """Each rung's time, and each factor's worth: ns without it over ns with it."""
    s = section(results, "ladder")
    known = labels(rows, "ladder")
    for one in s["data"]["points"] if s else []:
        point = {"experiment": "ladder", **known[one["point"]]}
        for way in ("forward", "reverse"):
            rungs = one[way]
            for i, rung in enumerate(rungs):
                mine = by_block(rows, slot=rung["arm"], **point)
                what = f"ladder, {one['point']}, {way}, {rung['arm']}"
                if rung["ns"]:
                    check.interval(what, rung["ns"], list(mine.values()), statistics.median)
                if i and rung["worth"]:
                    before = by_block(rows, slot=rungs[i - 1]["arm"], **point)
                    pairs = paired(mine, before) if way == "forward" else paired(before, mine)
                    check.interval(what + ", worth", rung["worth"], pairs, ratio)


def sizes(rows, results, check):
    """Time by size of every arm, and between which two sizes the better of two arms changes."""
    main = [f"R = {p['r_ns']:.0f} ns" for p in results["plateaus"][results["main_plateau"]:][:1] if p["r_ns"]]
    for p in results["points"]:
        if p["plateau"] not in ["", *main] or p["experiment"] != "sizes" or "ns_per_request" not in p["metrics"]:
            continue
        pick = {k: str(p["point"][k]) for k in ("backend", "op", "bs", "depth")}
        mine = by_block(rows, experiment="sizes", slot=p["slot"], **pick)
        what = f"sizes, {p['slot']}, {size_text(p['point']['bs'])}, {pick['backend']}, depth {pick['depth']}"
        check.interval(what, p["metrics"]["ns_per_request"], list(mine.values()), statistics.median)
    s = section(results, "sizes")
    for c in s["data"]["crossovers"] if s else []:
        if c["size"] is None:
            continue
        at = {"experiment": "sizes", "backend": c["backend"], "op": "read", "depth": str(c["depth"])}
        have = sorted({int(r["bs"]) for r in rows if all(r[k] == v for k, v in at.items())})
        better = {}
        for bs in have:
            pairs = paired(by_block(rows, slot=c["first"], bs=str(bs), **at), by_block(rows, slot=c["second"], bs=str(bs), **at))
            better[bs] = math.log(ratio(pairs)) if pairs else 0.0  # above 0: the first is faster
        check.done += 1
        below = [v for bs, v in better.items() if bs <= c["size"]]
        above = [v for bs, v in better.items() if bs >= c["size"]]
        sign = 1 if c["smaller"] == c["first"] else -1
        if not (any(sign * v > 0 for v in below) and any(sign * v < 0 for v in above)):
            check.wrong.append(f"sizes: {c['first']} and {c['second']} are said to cross at {c['size']:.0f} bytes; the samples do not")


def recompute(folder):
    rows, results = load(folder)
    check, parts = Check(), {}
    same_as_raw(folder, check)
    parts["raw samples"] = check.done
    for name, figure in (("arms at a glance", arms_at_a_glance), ("ladder", ladder), ("time by size", sizes)):
        before = check.done
        figure(rows, results, check)
        parts[name] = check.done - before
    return check, parts


def main(argv):
    if len(argv) != 1 or not os.path.isdir(argv[0]):
        print(__doc__, file=sys.stderr)
        return 2
    check, parts = recompute(argv[0])
    print("; ".join(f"{k}: {v} comparisons" for k, v in parts.items()))
    for w in check.wrong:
        print("DISAGREES", w)
    print(f"{check.done - len(check.wrong)} agree, {len(check.wrong)} disagree")
    return 1 if check.wrong or not sum(v for k, v in parts.items() if k != "raw samples") else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
