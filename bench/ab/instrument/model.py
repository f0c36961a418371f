# SPDX-License-Identifier: BSD-3-Clause
"""What the parts of the instrument hand to each other: points, samples, and the pieces of a report. No I/O here.

Words: an *arm* is a choice of levels. A *slot* is a place in a block: an arm, or its identical twin "copy (again)" for the
A/A control. A *point* is one setting of everything but the arm. A *block* runs every slot once, in random order. A
*trial* is one slot in one block: a machine started afresh. A *sample* is one point measured once in a trial.
"""

import dataclasses
import math
from dataclasses import dataclass, field

import numpy as np

AGAIN = " (again)"
STARTS_OF = ":starts"  # experiment "quick:starts" holds quick's starts as a whole: counters, and times of all plateaus mixed
LEVEL = 0.99  # of every interval of a report


@dataclass(frozen=True, order=True)
class Point:
    """Everything of a measurement but the arm. Sizes in bytes, times in seconds, rates in requests per second."""

    backend: str = "null"  # null, memory, file; net: frames to or from a port; "anchor" for bench-anchors
    op: str = "read"  # read, write, mixed; net: tx (guest to port), rx, both, echo (and back), pair (guest to guest)
    bs: int = 4096  # bytes of a request, or of a frame without FCS
    depth: int = 1
    batch: int = 0  # requests made available per publish; 0: 1 at depth 1, else half the depth
    rate: float = 0.0  # open loop, requests per second; 0: closed loop
    load: float = 0.0  # echo: open loop at this share of the highest rate of the closed loop in the same trial; 0: closed loop
    load_of: str = ""  # ... of this arm; "": of the arm itself
    cost: str = "free"  # injected costs, as phypd --cost
    queue_size: int = 256
    buffers: int = 0  # buffers of the queue; 0: four times the depth
    pool_kib: int = 0  # mapping=pool: KiB of the pool's buffers; 0: as much as the load needs
    cores: str = "split"  # split: one core each; shared: both programs on one; hog: split, and a busy process on the server's
    idle_ms: str = ""  # the server's --idle-ms; "": its default
    order: str = "rand"  # rand, seq: order of the requests on the disk
    indirect: bool = False
    touch: str = ""  # none, headers (the first line or so), all (every byte written and checked); "": net: headers, null: none, else all
    extra: str = ""  # further vio-blk or vio-net options, space separated

    def label(self):
        """Short text for axes and tables: only what is not a default."""
        net = self.backend == "net"
        parts = [f"{self.op} {self.bs} B"] if net else [f"{self.op} {size_name(self.bs)}", f"depth {self.depth}"]
        for f in dataclasses.fields(self):
            v = getattr(self, f.name)
            if f.name not in ("op", "bs", "depth", "backend") and v != f.default:
                parts.append(f"{f.name.replace('_', ' ')} {v}")
        return f"{self.backend}: " + ", ".join(parts)


@dataclass
class Sample:
    """One point, measured once in one trial."""

    experiment: str
    block: int
    phase: str  # pilot, main
    position: int  # of the trial in its block: 0 first
    slot: str
    arm: str
    point: Point
    values: dict  # metric -> number; METRICS lists them
    kept: bool = True
    why: str = ""  # of a sample that is not kept: the rule that discarded it
    machine: str = ""  # whose: set by ./run compare
    histogram: list = field(default_factory=list)  # [[bucket's upper end in ns, count], ...]
    plateau: int = -1  # of R, an index into Context.plateaus; -1: not of windows, so of whatever R was meanwhile


# Metric names are the columns of samples.csv; docs/results.md says what each is. Per request means: divided by requests.
METRICS = {
    "requests": "completed in the measurement",
    "elapsed_ns": "of the measurement",
    "ns_per_request": "elapsed_ns / requests",
    "bytes": "payload bytes moved",
    "p50_ns": "latency percentiles of this process start", "p90_ns": "", "p99_ns": "", "p999_ns": "", "max_ns": "",
    "mean_latency_ns": "mean latency",
    "hcalls": "hypercalls per request, both partitions", "hcalls_guest": "", "hcalls_server": "",
    "tce_updates": "TCEs written per request", "rdma_bytes": "bytes copied by RDMA per request",
    "rdma_calls": "H_COPY_RDMA + H_READ_RDMA + H_WRITE_RDMA per request",
    "guest_bytes": "payload bytes copied by the guest's CPU per request",
    "server_bytes": "payload bytes copied by the server's CPU per request",
    "kicks": "per request", "irqs": "interrupts raised per request", "wakes": "that found a sleeper, per request",
    "polls_empty": "polls of the server that found nothing, per request",
    "guest_cpu": "CPU seconds of the guest's process per second", "server_cpu": "of the server's",
    "reach_bytes": "time-averaged bytes of the guest's memory under a valid TCE (docs/method.md, exposure)",
    "reach_write_bytes": "... which the server may write",
    "need_bytes": "time-averaged bytes of requests in flight",
    "ring_bytes": "bytes of rings and configuration, reachable for the whole life of the device",
    "ready_ns": "from the start of the guest's process to DRIVER_OK",
    "start_seconds": "start of the three programs until then",
    "server_rss_bytes": "resident memory of the server, hugepages included",
    "steal_ticks": "clock ticks that the host took from the machine", "switches": "involuntary context switches of the guest",
    "gaps": "open loop: turns of the guest's loop above 10 us, when something else had its processor",
    "gap_share": "open loop: share of the requests that were due or in flight in one",
    "machine_p50_ns": "open loop: latency of a line's round trip alone, same cores, same rate, right after (bench-tail)",
    "machine_p90_ns": "", "machine_p99_ns": "", "machine_p999_ns": "", "machine_max_ns": "",
    "late": "open loop: requests that could not start when they should have",
    "unstarted": "open loop: requests that never started in twice the time: overload",
    "tx_ns": "net, both ways: elapsed_ns / frames from the guest", "rx_ns": "... / frames to the guest",
    "ns_experienced": "time of a request in all windows of the plateau, with those that comparisons set aside",
    "windows": "of the duet: all of the plateau", "undisturbed": "those that ns_per_request is made of",
    "r_ns": "R in the same rounds", "memcpy_ns": "copy of the point's block by one core in them",
    "handover_ns": "copy of the point's block out of the other core's cache in them",
    "offered": "net, echo: frames per second that were to be started", "lost": "share of the frames sent that did not arrive",
}


class Samples:
    """A list of samples with selection. Every selection keeps the order of measurement."""

    def __init__(self, items):
        self.items = list(items)
        self._at = None  # {point: its items}, once it was asked for

    def __len__(self):
        return len(self.items)

    def __iter__(self):
        return iter(self.items)

    def kept(self):
        return Samples(s for s in self.items if s.kept)

    def where(self, **want):
        """experiment, slot, arm, phase, block, machine, plateau, or any field of Point; a value, or a tuple, list or set of values."""
        tests = [(k, set(v) if isinstance(v, (tuple, list, set)) else {v}) for k, v in want.items()]

        def get(s, k):
            return getattr(s, k) if k in ("experiment", "slot", "arm", "phase", "block", "machine", "kept", "plateau") else \
                getattr(s.point, k)
        return Samples(s for s in self.items if all(get(s, k) in v for k, v in tests))

    def at(self, point, slot=None):
        """Those of one point, and of one slot when it is given."""
        if self._at is None:
            self._at = {}
            for s in self.items:
                self._at.setdefault(s.point, []).append(s)
        return Samples(s for s in self._at.get(point, ()) if slot is None or s.slot == slot)

    def points(self):
        return sorted({s.point for s in self.items})

    def slots(self):
        """In order of first appearance in the sorted list of names: stable whatever the random order was."""
        return sorted({s.slot for s in self.items})

    def values(self, metric):
        """Array of one metric in order of measurement; samples without it are left out."""
        return np.array([s.values[metric] for s in self.items if metric in s.values], dtype=float)

    def by_block(self, metric):
        """{(experiment, block, plateau): value}; with several samples a block, their median."""
        got = {}
        for s in self.items:
            if metric in s.values:
                got.setdefault((s.experiment, s.block, s.plateau), []).append(s.values[metric])
        return {k: float(np.median(v)) for k, v in got.items()}

    def paired(self, other, metric):
        """Two arrays: the metric here and in other, for the blocks that have both, in order of the blocks."""
        a, b = self.by_block(metric), other.by_block(metric)
        both = sorted(set(a) & set(b))
        return np.array([a[k] for k in both]), np.array([b[k] for k in both])


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval. n is the number of independent units (process starts, or pairs of them)."""

    estimate: float
    low: float
    high: float
    n: int
    level: float = LEVEL

    def excludes(self, value):
        return not math.isnan(self.low) and (self.low > value or self.high < value)

    def data(self):
        """As an object of results.json: estimate, low, high, n, level."""
        return dataclasses.asdict(self)

    def text(self, digits=3, unit=""):
        def t(v):
            return f"{v:.{digits}g}" if abs(v) < 1000 else f"{v:,.0f}"
        return f"{t(self.estimate)}{unit} [{t(self.low)}, {t(self.high)}]"


@dataclass
class Verdict:
    """One checked statement. answer: faster, slower, no difference shown; met, not met, undecided; or a paper's verdict."""

    claim: str  # in plain words, with what was compared
    answer: str
    interval: Interval | None = None
    absolute: str = ""  # the absolute values next to a ratio
    unit: str = "×"  # of the interval: × for a ratio, ns for a time, "" for a plain number, or another unit
    plateau: str = ""  # of R that it holds for: "R = 104 ns"; "": not of windows


@dataclass
class Figure:
    id: str  # unique in the report, also its anchor: "ladder-forward"
    title: str
    svg: str  # from plots.to_svg(): no fixed colours of text or background
    caption: str
    limits: str  # the limits line: what bounds these numbers on this machine
    command: str  # how to repeat it: one command


@dataclass
class Table:
    title: str
    head: list
    rows: list  # of lists of str
    note: str = ""
    id: str = ""


@dataclass
class Section:
    id: str
    title: str
    lead: str  # the finding in plain words, one or two sentences
    figures: list = field(default_factory=list)
    tables: list = field(default_factory=list)
    verdicts: list = field(default_factory=list)
    text: list = field(default_factory=list)  # further paragraphs: definitions, limits
    data: dict = field(default_factory=dict)  # JSON-able: goes to results.json as it is
    plateau: str = ""  # of R that all of it holds for; "": not of windows
    others: list = field(default_factory=list)  # of Section: the same on other plateaus, without figures


@dataclass
class Context:
    """What an analysis may look at."""

    samples: Samples  # kept and discarded, pilot and main, of all experiments
    limits: list  # of bench-limits results (dicts), one or more
    environment: dict
    experiments: dict  # name -> experiment.Experiment as run
    r_ns: float  # R: median core-to-core round trip of this run
    noise: float = 0.0  # A/A floor: largest |ln ratio| between identical twins in what this analysis reads (0: no twins)
    floors: dict = field(default_factory=dict)  # the same for each experiment that has twins
    plateaus: list = field(default_factory=list)  # of stats.plateaus.Plateau: of R, ascending; []: no windows
    plateau: int = 0  # the one that of() selects
    windows: dict = field(default_factory=dict)  # name -> stats.duet.Measured of the experiments that were danced
    read: set = field(default_factory=set)  # names that of() was asked for

    def noise_in(self, name):
        """A/A floor of one experiment; the analysis's own where it has no twins."""
        return self.floors.get(name, self.noise)

    def of(self, name, **want):
        """Samples that count of one experiment: kept, of either phase; of the plateau in question where they are of windows."""
        self.read.update([name] if isinstance(name, str) else name)
        return self.samples.kept().where(**({"experiment": name, "plateau": (-1, self.plateau)} | want))

    def whole(self, name, **want):
        """Samples that count of whole starts: of danced experiments with all plateaus and gaps, for latencies as experienced."""
        starts = self.samples.kept().where(experiment=name + STARTS_OF, **want)
        return starts if len(starts) else self.of(name, **want)

    def plateau_name(self, plateau=None):
        """"R = 104 ns" of a plateau, or of the one in question; "" where no window told R."""
        at = self.plateau if plateau is None else plateau
        return self.plateaus[at].name() if 0 <= at < len(self.plateaus) and math.isfinite(self.plateaus[at].r_ns) else ""

    def command(self, name):
        return f"./run ab {name}"


def size_name(n):
    if n >= 1 << 20 and n % (1 << 20) == 0:
        return f"{n >> 20} MiB"
    return f"{n >> 10} KiB" if n >= 1024 and n % 1024 == 0 else f"{n} B"
