# SPDX-License-Identifier: BSD-3-Clause
"""Published claims, tested here: a paper's samples are judged by thresholds committed beforehand. paper_run.py measures.

papers/NAME has CLAIM.md (for people), claim.toml (every threshold), experiment.toml and analyse.py. The rule of the verdict is
here and the same for all papers (docs/papers.md).
"""

import importlib.util
import json
import os
import shutil
import subprocess
import tomllib
from dataclasses import dataclass, field

import numpy as np

from ab import stats
from ab.instrument.model import AGAIN, Interval, Samples

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
FOLDER = os.path.join(ROOT, "papers")
FIXED = ("claim.toml", "experiment.toml", "analyse.py")  # what has to be committed before a run
SAME, CONTRADICTS, INCONCLUSIVE, NOT_HERE = "same shape", "contradicts", "inconclusive", "not testable here"
MIN_PAIRS = 6  # process starts below which nothing is decided
RULES = ("at_least", "at_most", "within")


class PaperError(Exception):
    """A paper's folder is wrong or missing; the text says what to do."""


@dataclass
class Test:
    """One threshold applied. measured None: could not be measured."""

    id: str
    claim: str
    measured: Interval | None
    threshold: str
    passed: bool | None  # None: the interval holds the threshold, or nothing was measured
    required: bool
    absolute: str = ""  # the absolute values next to a ratio, or why nothing was measured
    unit: str = ""
    injected: bool = False  # measured with costs that were chosen
    floor: float | None = None  # A/A noise that the answer took into account, |ln ratio|


@dataclass
class Result:
    """What an analysis hands back. svg is from plots.to_svg(); the verdict is the frame's affair."""

    tests: list
    paragraphs: list = field(default_factory=list)
    svg: str = ""
    caption: str = ""
    tables: list = field(default_factory=list)


# --- claims and thresholds ---------------------------------------------------------------------------------------------

def names(folder=FOLDER):
    return sorted(d for d in os.listdir(folder) if os.path.exists(os.path.join(folder, d, "claim.toml")))


def check_claim(claim, where):
    """PaperError unless every test has a sentence and exactly one threshold, and the source and its figures are named."""
    for key in ("title", "source", "url", "claim", "figures", "differs", "test"):
        if not claim.get(key):
            raise PaperError(f"{where}: {key} is missing")
    for f in claim["figures"]:
        if not {"figure", "tag", "url"} <= set(f):
            raise PaperError(f"{where}: each of figures has figure, tag and url; one has {', '.join(f)}")
    for name, t in claim["test"].items():
        rules = [r for r in RULES if r in t]
        if len(rules) != 1 or "claim" not in t or t.get("kind") not in ("ratio", "count", "value"):
            raise PaperError(f"{where}: test.{name} needs claim, kind (ratio, count or value) and exactly one of "
                             f"{', '.join(RULES)}")
        if "within" in t and not t["within"][0] < t["within"][1]:
            raise PaperError(f"{where}: test.{name} within = {t['within']} is no range")
    if not any(t.get("required", True) for t in claim["test"].values()):
        raise PaperError(f"{where}: no test is required, so that no verdict could be reached")
    return claim


def load_claim(name, folder=FOLDER):
    path = os.path.join(folder, name, "claim.toml")
    try:
        with open(path, "rb") as f:
            return check_claim(tomllib.load(f), os.path.relpath(path, ROOT))
    except tomllib.TOMLDecodeError as e:
        raise PaperError(f"{path}: not TOML: {e}") from None


def load_analysis(name, folder=FOLDER):
    spec = importlib.util.spec_from_file_location(f"papers_{name}", os.path.join(folder, name, "analyse.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def threshold_text(rule):
    unit = rule.get("unit", "")
    if "threshold" in rule:  # words for what the numbers say
        return rule["threshold"]
    if "within" in rule:
        low, high = rule["within"]
        return f"between {low:g} and {high:g}{unit}"
    key = "at_least" if "at_least" in rule else "at_most"
    return f"{key.replace('_', ' ')} {rule[key]:g}{unit}"


def bounds(rule):
    """(low, high) of the claimed side."""
    if "within" in rule:
        return tuple(rule["within"])
    return (rule["at_least"], np.inf) if "at_least" in rule else (-np.inf, rule["at_most"])


def near(value, bound, noise):
    return np.isfinite(bound) and value > 0 and bound > 0 and abs(np.log(value / bound)) <= noise


def judge(interval, rule, noise=0.0):
    """True: all of the interval is on the claimed side. False: all of it is on the other. None: neither.

    A ratio of times whose estimate is nearer to a threshold than the A/A noise (largest |ln ratio| of identical arms) is
    not decided. Counts are exact: their interval is smallest to largest, and one outside is one too many.
    """
    if interval is None or np.isnan([interval.low, interval.high]).any():
        return None
    low, high = bounds(rule)
    if rule["kind"] == "count":
        return interval.low >= low and interval.high <= high
    if rule["kind"] == "ratio" and any(near(interval.estimate, b, noise) for b in (low, high)):
        return None
    if interval.low >= low and interval.high <= high:
        return True
    return False if interval.high < low or interval.low > high else None


class Checker:
    """What an analysis asks its thresholds through: the only way from a measured interval to an answer."""

    def __init__(self, claim, extra):
        self.claim, self.floors, self.tests = claim, extra.get("floors", {}), []

    def floor(self, points):
        """A/A noise of a test: of the identical arms at the points that it compares; with none there, of all."""
        here = [self.floors[p] for p in points if p in self.floors]
        return max(here or self.floors.values(), default=0.0)

    def check(self, test, interval, absolute="", points=(), where=""):
        """Apply [test.TEST] of claim.toml; `where` names the point when one test is applied at several."""
        rule, floor = self.claim["test"][test], self.floor(points)
        self.tests.append(Test(test, rule["claim"] + (f" ({where})" if where else ""), interval, threshold_text(rule),
                               judge(interval, rule, floor), rule.get("required", True), absolute, rule.get("unit", ""),
                               rule.get("injected", False), floor if rule["kind"] == "ratio" and interval else None))

    def finish(self):
        """All tests; those of claim.toml that nothing was said about count as not measured."""
        done = {t.id for t in self.tests}
        for test in self.claim["test"]:
            if test not in done:
                self.check(test, None, "the samples that it needs are missing")
        return self.tests


def verdict(tests):
    """The rule, common to all papers."""
    required = [t for t in tests if t.required]
    if any(t.passed is False for t in required):
        return CONTRADICTS
    if required and all(t.passed for t in required):
        return SAME
    return NOT_HERE if all(t.measured is None for t in required) else INCONCLUSIVE


def conditions_text(tests):
    """What the verdict is without injected costs, and what those that were injected show; "" when there are none."""
    injected = [t for t in tests if t.injected]
    if not injected:
        return ""
    free = verdict([t for t in tests if not t.injected])
    good = sum(t.passed is True for t in injected)
    return (f"Of the tests with nothing injected alone: {free}. With injected costs: {good} of "
            f"{len(injected)} as claimed, {sum(t.passed is False for t in injected)} not; "
            f"{sum(t.required for t in injected)} of them may decide, because no chosen constant satisfies them by itself.")


# --- what analyses share -----------------------------------------------------------------------------------------------

def pick(samples, slot, **point):
    """Samples that count of one slot at one point or several."""
    return samples.kept().where(slot=slot, **point)


def ns(samples):
    """Median time of a request with its interval, ns; None with too few process starts."""
    x = np.array(list(samples.by_block("ns_per_request").values()))
    return stats.median(x) if len(x) >= MIN_PAIRS else None


def ratio_of(a, b):
    """Interval of median(b) / median(a) of paired arrays, or None with too few pairs."""
    return stats.ratio(a, b) if len(a) >= MIN_PAIRS else None


def median_of(x):
    return stats.median(np.asarray(x, dtype=float)) if len(x) >= MIN_PAIRS else None


def rate_ratio(of, to):
    """(Interval, absolute values, points): rate of `of` divided by the rate of `to`, paired by block. Above 1: `of` is faster."""
    mine, other = of.paired(to, "ns_per_request")
    points = sorted(set(of.points()) | set(to.points()))
    if len(mine) < MIN_PAIRS:
        return None, f"too few pairs of process starts: {len(mine)} of {MIN_PAIRS}", points
    return ratio_of(mine, other), f"{np.median(mine):,.0f} ns against {np.median(other):,.0f} ns a request", points


def memcpy_ns(limits, size):
    """Time that this machine's memcpy takes for so many bytes beyond its caches, ns: best median of the runs of bench-limits."""
    best = []
    for run in limits:
        rows = [r for r in run.get("memcpy") or [] if r["level"] in ("memory", "large")]
        rows = [r for r in rows if r["size_bytes"] <= size] or rows
        if rows:
            r = max(rows, key=lambda row: row["size_bytes"])
            best.append(r["median_ns"] * size / r["size_bytes"])
    return min(best) if best else None


def limits_line(limits):
    rates = [65536 / t for t in [memcpy_ns(limits, 65536)] if t]
    trips = [run["round_trip"]["median_ns"] for run in limits if run.get("round_trip")]
    return "This machine at best: " + ", ".join(
        [f"round trip of a line between the cores {min(trips):.0f} ns" for _ in trips[:1]] +
        [f"memcpy beyond the caches {r:.1f} GB/s" for r in rates]) + "."


def legend(ax, **kw):
    """Only where there is something to tell apart."""
    if ax.get_legend_handles_labels()[1]:
        ax.legend(**kw)


def noise_floors(samples):
    """{point: |ln ratio of medians| of identical arms there}: what this run makes out of no difference at all."""
    kept = samples.kept()
    twins = Samples(s for s in kept if s.slot.endswith(AGAIN))
    return {p: float(stats.noise_floor(Samples(s for s in kept if s.point == p))) for p in twins.points()}


# --- RESULT.md ---------------------------------------------------------------------------------------------------------

def markdown_table(head, rows):
    return ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)] + ["| " + " | ".join(r) + " |" for r in rows] + [""]


def answer(t):
    if t.measured is None:
        return "not measured"
    return {True: "as claimed", False: "not as claimed", None: "undecided"}[t.passed]


def interval_text(iv, unit=""):
    return f"{iv.text(unit=unit)}, n = {iv.n}" if iv is not None else "-"


def tests_table(tests):
    rows = [[t.claim + (" *(injected costs)*" if t.injected else ""), "decides" if t.required else "reported", t.threshold,
             interval_text(t.measured, t.unit), t.absolute or "-", "-" if t.floor is None else f"{np.expm1(t.floor):.1%}",
             answer(t)] for t in tests]
    return markdown_table(["test", "role", "threshold, fixed before", "measured", "absolute values", "A/A floor", "answer"], rows)


def absolute_rows(samples):
    """Every slot at every point: the median time of a request, the rate, process starts."""
    rows = []
    kept = samples.kept()
    for point in kept.points():
        here = kept.at(point)
        for slot in here.slots():
            mine = here.where(slot=slot)
            x = mine.values("ns_per_request")
            iv = ns(mine)
            rows.append([point.label(), slot, iv.text(digits=4) if iv else f"{np.median(x):,.0f}",
                         f"{1e9 / np.median(x):,.0f}", str(len(mine.by_block("ns_per_request")))])
    return rows


def control_rows(samples):
    """Identical arms against each other: [point, slot, ratio with its interval]."""
    rows = []
    kept = samples.kept()
    for slot in [s for s in kept.slots() if s.endswith(AGAIN)]:
        for point in kept.where(slot=slot).points():
            here = kept.at(point)
            iv = ratio_of(*here.where(slot=slot[:-len(AGAIN)]).paired(here.where(slot=slot), "ns_per_request"))
            if iv:
                rows.append([point.label(), slot, interval_text(iv), "yes" if iv.excludes(1) else "no"])
    return rows


def discarded_line(samples):
    lost = [s for s in samples if not s.kept]
    why = sorted({s.why.split(":")[0] for s in lost})
    return f"{len(samples)} samples, {len(lost)} of them discarded" + (f" ({', '.join(why)})." if lost else ".")


def provenance(name, folder=FOLDER):
    """{"commit", "date", "dirty": [files], "known"}: the commit that last changed what is fixed before a run."""
    where = os.path.join(folder, name)

    def git(*argv):
        r = subprocess.run(["git", "-C", where, *argv], capture_output=True, text=True, check=False)
        return r.stdout.strip() if r.returncode == 0 else None
    if shutil.which("git") is None or git("rev-parse", "--git-dir") is None:
        return {"known": False, "dirty": [], "commit": "", "date": ""}
    dirty = [f for f in FIXED if git("status", "--porcelain", "--", f) or not git("log", "-1", "--format=%h", "--", f)]
    commit, _, date = (git("log", "-1", "--format=%h %cI", "--", "claim.toml") or "").partition(" ")
    return {"known": True, "dirty": dirty, "commit": commit, "date": date}


def provenance_lines(prov, began):
    if not prov["known"]:
        return ["**Warning:** this is not a git checkout, so nothing shows that the thresholds were fixed before the run.", ""]
    if prov["dirty"]:
        return [f"**Warning: {', '.join(prov['dirty'])} {'has' if len(prov['dirty']) == 1 else 'have'} uncommitted changes. "
                "Thresholds that are not committed before the run give no verdict.**", ""]
    return [f"Thresholds: claim.toml as of commit {prov['commit']} ({prov['date']}); this run began {began}.", ""]


NO_VERDICT = "none (thresholds not committed before the run)"
SKETCH = "none (a sketch: one tiny block, to see that everything runs)"


def final_verdict(tests, prov, sketch=False):
    return SKETCH if sketch else NO_VERDICT if prov["dirty"] else verdict(tests)


def result_markdown(name, claim, result, samples, meta):
    """RESULT.md. meta: provenance, began, environment, cores, seed, events, limits, command, raw, sketch."""
    prov, env = meta["provenance"], meta["environment"]
    out = [f"# {claim['title']}", "", "*Generated by the command below; not edited.*", "",
           f"Source: {claim['source']} {claim['url']}", "", f"Claim: {claim['claim']}", "",
           f"## Verdict: {final_verdict(result.tests, prov, meta['sketch'])}", ""]
    if not (prov["dirty"] or meta["sketch"]) and conditions_text(result.tests):
        out += [conditions_text(result.tests), ""]
    out += provenance_lines(prov, meta["began"])
    out += ["Rule: *same shape* when the interval of every deciding test is wholly on the claimed side; *contradicts* when one "
            f"is wholly on the other; else *inconclusive*. Intervals are {stats.LEVEL:.0%}, by bootstrap over process starts (n), "
            "paired by block; of exact counts, smallest to largest. A ratio of times that is nearer to its threshold than "
            "identical arms were to each other at the same points (A/A floor) is undecided.", ""]
    if meta.get("plateau"):
        out += [f"The arms took turns of about half a millisecond (docs/method.md); everything here holds while {meta['plateau']}, "
                "the plateau of most samples" + (", except the last table of tests." if meta["others"] else "."), ""]
    out += tests_table(result.tests)
    for p in result.paragraphs:
        out += [p, ""]
    if result.svg:
        out += ["![figure](figure.svg)", "", result.caption, "", limits_line(meta["limits"]), ""]
    for plateau, tests in meta.get("others", {}).items():
        out += [f"## The same tests while {plateau}", "", "Reported, without a part in the verdict.", ""] + tests_table(tests)
    out += ["## Published figures", ""] + markdown_table(
        ["figure", "tag", "where"], [[f["figure"], f["tag"], f["url"]] for f in claim["figures"]])
    out += ["Tags: [P] seen in the primary source, [2nd] in a summary of it, [D] derived here by arithmetic.", ""]
    out += ["## What differs from the source", ""] + [f"- {d}" for d in claim["differs"]] + [""]
    for t in result.tables:
        out += [f"## {t.title}", ""] + markdown_table(t.head, t.rows) + ([t.note, ""] if t.note else [])
    out += ["## Identical arms against each other (A/A control)", ""]
    out += markdown_table(["point", "slot", "ratio of times to its twin", "interval excludes 1"], control_rows(samples))
    out += ["## Absolute values", ""] + markdown_table(["point", "slot", "ns a request (median)", "requests/s", "process starts"],
                                                       absolute_rows(samples))
    return "\n".join(out + environment_lines(samples, env, meta) + [f"Repeat with `{meta['command']}`."]) + "\n"


def environment_lines(samples, env, meta):
    cores = meta.get("cores", {})
    blocks = next((e for e in meta["events"] if e.get("kind") == "blocks"), {})
    lines = ["## Environment", "", discarded_line(samples) + f" Raw: {meta['raw']} (not in the repository)."]
    if blocks:
        ran = next((e["blocks"] for e in meta["events"] if e.get("kind") == "out_of_time"), blocks["blocks"])
        lines += [f"{ran} blocks (the pilot asked for {blocks['wanted']} to reach {blocks['precision']:.0%}, the "
                  f"budget allowed {blocks['affordable']}); seed {meta['seed']}."]
    lines += [f"Guest on core {cores.get('guest_core', '?')}, server on core {cores.get('server_core', '?')}: "
              f"{cores.get('reason', '')}", ""]
    rows = [[k, json.dumps(v) if isinstance(v, (dict, list)) else str(v)] for k, v in sorted(env.items())]
    return lines + markdown_table(["what", "value"], rows)
