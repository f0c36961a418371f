# SPDX-License-Identifier: BSD-3-Clause
"""Experiments as files: bench/experiments/*.toml, checked before anything runs. The format: docs/method.md."""

import dataclasses
import hashlib
import itertools
import json
import os
import tomllib
from dataclasses import dataclass, field

from ab.instrument.model import AGAIN, Point

HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDER = os.path.join(HERE, "experiments")
BACKENDS = ("null", "memory", "file", "net", "anchor")
NET_OPS = ("tx", "rx", "both", "echo", "pair")
OPS = ("read", "write", "mixed", *NET_OPS)
TOUCH = ("", "none", "headers", "all")
CORES = ("split", "shared", "hog")
ORDERS = ("rand", "seq")


class ExperimentError(Exception):
    """The file is wrong; the text says where and what to do."""


@dataclass(frozen=True)
class Blocks:
    """How many blocks: `pilot` first, then as many as the pilot's spread asks for to reach `precision`."""

    pilot: int = 3
    min: int = 5
    max: int = 30
    precision: float = 0.03  # half width of the 99 % interval of a ratio to the first arm, relative
    budget_seconds: float = 0.0  # stop adding blocks when a run would take longer than this; 0: no limit


@dataclass(frozen=True)
class Measure:
    """Times of one sample, seconds."""

    seconds: float = 0.1
    warm_seconds: float = 0.03
    limits_seconds: float = 0.0  # bench-limits once in each block, at a random place; 0: before and after the run only
    cpu: bool = False  # take CPU time of both processes over the measurement (one wake of the runner at each end)


@dataclass(frozen=True)
class Duet:
    """Arms take turns on the two cores (docs/method.md, the duet): every point that can be danced is. seconds = 0: none is."""

    seconds: float = 0.0  # of a dance of one point, all slots together
    rounds: int = 2  # of a dance, at least, however long its windows are
    dances: int = 1  # of each point in a block
    window_us: float = 400.0  # the counted part of a window, at least
    warm_us: float = 100.0  # before it, at least
    pilot_rounds: int = 8  # of the pilot that fixes both, and the thresholds of gaps


@dataclass(frozen=True)
class MachineSize:
    server_memory: int = 192  # MiB
    guest_memory: int = 64
    pages: str = "auto"
    exposure: bool = False  # phypd --exposure: reach is counted, which costs a copy request about 30 ns


@dataclass
class Experiment:
    name: str
    title: str
    question: str = ""
    seed: int = 1
    analyses: list = field(default_factory=list)
    slots: dict = field(default_factory=dict)  # slot -> arm text
    points: dict = field(default_factory=dict)  # slot -> list of Point
    blocks: Blocks = Blocks()
    measure: Measure = Measure()
    machine: MachineSize = MachineSize()
    duet: Duet = Duet()
    path: str = ""
    builds: dict = field(default_factory=dict)  # slot -> build directory, of slots that are not of the run's own (builds.py)

    def digest(self):
        """Of what decides the samples: a resumed run continues only the same experiment."""
        what = [self.seed, self.slots, {s: [dataclasses.asdict(p) for p in ps] for s, ps in self.points.items()},
                dataclasses.asdict(self.measure), dataclasses.asdict(self.machine)]
        if self.duet.seconds:
            what.append(dataclasses.asdict(self.duet))
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]

    def samples_per_block(self):
        return sum(len(p) for p in self.points.values())


POINT_FIELDS = {f.name: f for f in dataclasses.fields(Point)}
TOP = {"title", "question", "seed", "analyses", "arms", "again", "blocks", "measure", "machine", "duet", "sweep"}
SIZES = {"k": 1 << 10, "m": 1 << 20}


def size(value, where):
    """4096, "4k" or "1m" in bytes."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = str(value).lower()
    digits, unit = (text[:-1], SIZES[text[-1]]) if text and text[-1] in SIZES else (text, 1)
    if not digits.isdigit():
        raise ExperimentError(f"{where}: {value!r} is not a size; write 4096, \"4k\" or \"1m\"")
    return int(digits) * unit


def table(doc, key, cls, where):
    """A TOML table as one of the dataclasses above; unknown keys and wrong types are refused by name."""
    got = doc.get(key, {})
    known = {f.name: f for f in dataclasses.fields(cls)}
    for k, v in got.items():
        if k not in known:
            raise ExperimentError(f"{where}: [{key}] has no key {k!r}; it has {', '.join(known)}")
        want = known[k].type
        if (isinstance(v, bool) and want is not bool) or not isinstance(v, (int, float) if want is float else want):
            raise ExperimentError(f"{where}: [{key}] {k} = {v!r} should be a {want.__name__}")
        if want in (int, float) and v < 0:
            raise ExperimentError(f"{where}: [{key}] {k} = {v} is negative")
    return cls(**got)


CHOICES = {"backend": BACKENDS, "op": OPS, "cores": CORES, "order": ORDERS, "touch": TOUCH}


def check_value(key, v, where):
    if key in ("bs",):
        v = size(v, where)
    want = type(POINT_FIELDS[key].default)
    if want is float and isinstance(v, int) and not isinstance(v, bool):
        v = float(v)
    if not isinstance(v, want) or (isinstance(v, bool) and want is not bool):
        raise ExperimentError(f"{where}: {key} = {v!r} should be a {want.__name__}")
    if key in CHOICES and v not in CHOICES[key]:
        raise ExperimentError(f"{where}: {key} = {v!r} is not one of {', '.join(CHOICES[key])}")
    if want in (int, float) and (v < 0 or (key in ("bs", "depth", "queue_size") and v < 1)):
        raise ExperimentError(f"{where}: {key} = {v} is too small")
    return v


def sweep_points(sweep, where):
    keys, lists = [], []
    for k, v in sweep.items():
        if k == "arms":
            continue
        if k not in POINT_FIELDS:
            raise ExperimentError(f"{where}: no such key {k!r}; a sweep has arms, {', '.join(POINT_FIELDS)}")
        values = v if isinstance(v, list) else [v]
        if not values:
            raise ExperimentError(f"{where}: {k} is empty; the sweep would have no point")
        keys.append(k)
        lists.append([check_value(k, x, where) for x in values])
    points = [Point(**dict(zip(keys, combination))) for combination in itertools.product(*lists)]
    for p in points:
        if (p.backend == "net") != (p.op in NET_OPS):
            raise ExperimentError(f"{where}: op = {p.op} does not go with backend = {p.backend}; net has {', '.join(NET_OPS)}")
        if (p.load or p.load_of) and p.op != "echo":
            raise ExperimentError(f"{where}: load is a share of the highest rate there and back: it goes with op = echo only")
        if p.load and p.rate or p.load_of and not p.load:
            raise ExperimentError(f"{where}: write rate, or load (with load_of or without it)")
    return points


def strings(doc, key, where):
    got = doc.get(key, [])
    if not isinstance(got, list) or not all(isinstance(a, str) and a for a in got):
        raise ExperimentError(f"{where}: {key} should be a list of strings")
    return got


def parse(doc, name, where):
    """A parsed TOML document as an Experiment. ExperimentError when anything in it is unknown, missing or doubtful."""
    for k in doc:
        if k not in TOP:
            raise ExperimentError(f"{where}: no such key {k!r}; it has {', '.join(sorted(TOP))}")
    arms, again = strings(doc, "arms", where), strings(doc, "again", where)
    if not arms:
        raise ExperimentError(f"{where}: arms is missing or empty")
    for kind, values in (("arms", arms), ("again", again)):
        twice = {a for a in values if values.count(a) > 1}
        if twice:
            raise ExperimentError(f"{where}: {kind} names {', '.join(sorted(twice))} twice")
    for a in again:
        if a not in arms:
            raise ExperimentError(f"{where}: again names {a!r}, which is not in arms")
    if not doc.get("sweep"):
        raise ExperimentError(f"{where}: no [[sweep]]; nothing would be measured")
    points = {a: [] for a in arms}
    for n, sweep in enumerate(doc["sweep"], 1):
        here = f"{where}: sweep {n}"
        only = strings(sweep, "arms", here) or arms
        for a in only:
            if a not in points:
                raise ExperimentError(f"{here}: arm {a!r} is not in the experiment's arms")
            points[a] += [p for p in sweep_points(sweep, here) if p not in points[a]]
    empty = [a for a in arms if not points[a]]
    if empty:
        raise ExperimentError(f"{where}: no sweep measures {', '.join(empty)}")
    blocks = table(doc, "blocks", Blocks, where)
    if not 1 <= blocks.pilot <= blocks.max or blocks.min > blocks.max or blocks.precision <= 0:
        raise ExperimentError(f"{where}: [blocks] needs 1 <= pilot <= max, min <= max, precision > 0")
    slots = {a: a for a in arms}
    for a in again:
        slots[a + AGAIN] = a
        points[a + AGAIN] = list(points[a])
    seed = doc.get("seed", 1)
    if not isinstance(seed, int):
        raise ExperimentError(f"{where}: seed = {seed!r} should be a whole number")
    return Experiment(name=name, title=doc.get("title", name), question=doc.get("question", ""), seed=seed,
                      analyses=strings(doc, "analyses", where), slots=slots, points=points, blocks=blocks,
                      measure=table(doc, "measure", Measure, where), machine=table(doc, "machine", MachineSize, where), duet=table(doc, "duet", Duet, where),
                      path=where)


def load(path):
    name = os.path.basename(os.path.dirname(path)) if os.path.basename(path) == "experiment.toml" else \
        os.path.splitext(os.path.basename(path))[0]
    try:
        with open(path, "rb") as f:
            doc = tomllib.load(f)
    except OSError as e:
        raise ExperimentError(f"{path}: {e.strerror}") from None
    except tomllib.TOMLDecodeError as e:
        raise ExperimentError(f"{path}: not TOML: {e}") from None
    return parse(doc, name, os.path.relpath(path))


def files(folder=FOLDER):
    """{name: path} of the experiments in a folder and in those below it."""
    return {os.path.splitext(f)[0]: os.path.join(where, f) for where, _, some in os.walk(folder) for f in some if f.endswith(".toml")}


def names(folder=FOLDER):
    return sorted(files(folder))


def find(name, folder=FOLDER):
    """By name of a file in bench/experiments, or by path."""
    if name.endswith(".toml"):
        return load(name)
    if name not in names(folder):
        raise ExperimentError(f"no experiment {name!r}; there are {', '.join(names(folder))}, full (all of them), or a .toml "
                              "file")
    return load(files(folder)[name])
